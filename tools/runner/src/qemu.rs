//! QEMU: its command line, and the life of its process.
//!
//! Idea: the process is a child of a thread that waits for it. It starts by way of this program's own hidden
//! command, which asks the kernel to kill it when we die however that happens, and then becomes QEMU.

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::arch::Arch;
use crate::machine::{Accel, Board, Drive, Machine};
use crate::{cleanup, places, shell};

/// The oldest version that will do: (major, minor).
pub const OLDEST: (u32, u32) = (7, 2);

/// The hidden command that becomes QEMU: see [`become_child`].
pub const SPAWN: &str = "__spawn";

/// The version, as QEMU says it.
pub fn version(arch: Arch) -> Result<String> {
    let text = shell::output(Command::new(arch.qemu()).arg("--version"))?;
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(version.with_context(|| format!("{} does not say its version", arch.qemu()))?.to_owned())
}

/// Whether the machine's firmware is where QEMU finds it: a machine that starts and ends at once tells.
pub fn has_firmware(arch: Arch) -> bool {
    trial(arch, &["-machine", if arch == Arch::Riscv64 { "virt" } else { "q35" }])
}

/// Whether QEMU starts with these arguments. It is stopped at the first instruction and told to quit.
fn trial(arch: Arch, arguments: &[&str]) -> bool {
    let mut command = Command::new(arch.qemu());
    command
        .args(["-S", "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "stdio"])
        .args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut monitor) = child.stdin.take() {
        let _ = std::io::Write::write_all(&mut monitor, b"quit\n"); // it may have ended already
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Whether KVM is to be used.
fn use_kvm(machine: &Machine) -> Result<bool> {
    let works = || {
        machine.arch.is_host()
            && Path::new("/dev/kvm").exists()
            && trial(machine.arch, &["-machine", "none,accel=kvm", "-cpu", "host"])
    };
    match machine.accel {
        Accel::Tcg => Ok(false),
        Accel::Auto => Ok(works()),
        Accel::Kvm if works() => Ok(true),
        Accel::Kvm => bail!("KVM does not work here for {}; try --accel tcg", machine.arch),
    }
}

/// The arguments that make the machine; the caller adds the console.
pub fn arguments(machine: &Machine, kernel: &Path, initramfs: &Path) -> Result<Vec<OsString>> {
    let kvm = use_kvm(machine)?;
    let (board, cpu) = match (machine.arch, machine.board) {
        (Arch::Riscv64, _) => ("virt", "rv64,svnapot=true,svinval=true,svpbmt=true"),
        // The emulator runs `rep movsb` byte by byte, so programs must not be led to it.
        (Arch::X86_64, Board::Q35) => ("q35", "max,la57=off,erms=off,fsrm=off"),
        (Arch::X86_64, Board::Microvm) => ("microvm,rtc=on", "max,la57=off,erms=off,fsrm=off"),
    };
    let accel = if kvm { "kvm" } else { "tcg" };
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    add(&["-machine", board, "-accel", accel, "-cpu", if kvm { "host" } else { cpu }]);
    add(&["-smp", &machine.smp.to_string(), "-m", &machine.mem]);
    add(&["-append", &machine.command_line()]);
    let bus = match (machine.arch, machine.board) {
        (Arch::Riscv64, _) | (Arch::X86_64, Board::Microvm) => "device",
        (Arch::X86_64, Board::Q35) => "pci",
    };
    for (number, drive) in machine.drive.iter().enumerate() {
        let drive = Drive { snapshot: drive.snapshot || machine.snapshot, ..drive.clone() };
        add(&drive.arguments(number, &format!("virtio-blk-{bus}")).each_ref().map(String::as_str));
    }
    for (number, share) in machine.share.iter().enumerate() {
        add(&share.arguments(number, bus).each_ref().map(String::as_str));
    }
    if !machine.drive.is_empty() || !machine.share.is_empty() {
        add(&["-global", "virtio-mmio.force-legacy=false"]);
    }
    if machine.gdb {
        add(&["-S", "-gdb", &format!("tcp:127.0.0.1:{}", gdb_port())]);
    }
    if let Some(more) = &machine.qemu {
        more.split_whitespace().for_each(|word| add(&[word]));
    }
    arguments.extend(["-kernel".into(), kernel.into(), "-initrd".into(), initramfs.into()]);
    Ok(arguments)
}

/// The port where this run's QEMU waits for gdb: the usual one, or another when somebody has that.
pub fn gdb_port() -> u16 {
    const USUAL: u16 = 1234;
    static PORT: OnceLock<u16> = OnceLock::new();
    let free = |port| Some(TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()?.port());
    *PORT.get_or_init(|| free(USUAL).or_else(|| free(0)).unwrap_or(USUAL))
}

/// The arguments for another line into the guest, a virtio console behind a socket at `path`; none where the path is
/// too long for a socket.
pub fn control_line(machine: &Machine, path: &Path) -> Vec<OsString> {
    const LONGEST: usize = 107; // sockaddr_un
    if path.as_os_str().len() > LONGEST {
        return Vec::new();
    }
    let bus = match (machine.arch, machine.board) {
        (Arch::Riscv64, _) | (Arch::X86_64, Board::Microvm) => "virtio-serial-device,max_ports=1",
        (Arch::X86_64, Board::Q35) => "virtio-serial-pci,max_ports=1",
    };
    let path = path.display().to_string().replace(',', ",,");
    let socket = format!("socket,id=control,path={path},server=on,wait=off");
    ["-device", bus, "-chardev", &socket, "-device", "virtconsole,chardev=control"]
        .map(OsString::from)
        .to_vec()
}

/// A running QEMU. Dropping it kills the process and waits for its end.
pub struct Qemu {
    pid: Pid,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    ended: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ExitStatus>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the process unless it has been waited for, after which its id may be another's.
    fn kill(&self, pid: Pid) {
        let ended = self.lock();
        if ended.is_none() {
            let _ = rustix::process::kill_process(pid, Signal::KILL); // it may be ending by itself
        }
    }
}

/// The console's two ends, when they are pipes, and what QEMU itself says.
#[derive(Debug, Default)]
pub struct Pipes {
    /// To the guest's serial port.
    pub stdin: Option<std::process::ChildStdin>,
    /// From it.
    pub stdout: Option<std::process::ChildStdout>,
    /// QEMU's own messages.
    pub stderr: Option<std::process::ChildStderr>,
}

impl Qemu {
    /// Starts QEMU. With `piped`, its standard descriptors are pipes and it is out of reach of the terminal's signals;
    /// otherwise it has the terminal.
    pub fn start(arch: Arch, arguments: Vec<OsString>, piped: bool) -> Result<(Self, Pipes)> {
        let mut command = Command::new(places::runner()?);
        command.arg(SPAWN).arg(std::process::id().to_string()).arg(arch.qemu()).args(arguments);
        if piped {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        }
        let (sender, receiver) = mpsc::channel();
        let state = Arc::new(State::default());
        let theirs = state.clone();
        // The parent-death signal comes when the *thread* that started the child ends: so it stays until the child does.
        std::thread::spawn(move || start_and_wait(command, &sender, &theirs));
        let (pid, pipes) = receiver.recv().context("the thread that starts QEMU ended")??;
        let (doomed, doomed_pid) = (state.clone(), pid);
        cleanup::at_exit(move || doomed.kill(doomed_pid));
        Ok((Self { pid, state }, pipes))
    }

    /// Kills it.
    pub fn kill(&self) {
        self.state.kill(self.pid);
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let ended = self.state.lock();
        let result = self.state.changed.wait_timeout_while(ended, limit, |ended| ended.is_none());
        *result.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
        self.wait(Duration::from_secs(5));
    }
}

fn start_and_wait(mut command: Command, sender: &mpsc::Sender<Result<(Pid, Pipes)>>, state: &State) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return drop(sender.send(Err(e).context("cannot start QEMU"))),
    };
    let pipes = Pipes { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
    let sent = sender.send(Ok((Pid::from_child(&child), pipes)));
    if sent.is_err() {
        let _ = child.kill(); // nobody wants it any more
    }
    wait_without_reaping(&child);
    let mut ended = state.lock();
    *ended = Some(child.wait().unwrap_or_default());
    state.changed.notify_all();
}

/// Waits until the child has ended but leaves it a zombie, so that its id stays its own until the lock is held.
fn wait_without_reaping(child: &Child) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(Pid::from_child(child)), options) {}
}

/// The hidden command `__spawn PARENT PROGRAM ARGUMENT...`: dies with its parent, and becomes the program.
pub fn become_child(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible> {
    let parent = arguments.next().context("no parent")?;
    let program = arguments.next().context("no program")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref() != parent.to_str() {
        bail!("the parent has ended"); // before the kernel knew that we care
    }
    let error = Command::new(&program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.to_string_lossy()))
}
