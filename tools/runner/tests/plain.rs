//! The kernel's image with plain QEMU and somebody else's initramfs: no runner, no agent, Linux's argument names.

mod support;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use runner::arch::Arch;
use runner::tree::Tree;
use runner::{busybox, cargo, cpio, initramfs, places, progress, qemu, setup, shell};
use support::{Console, RUNNER};

/// The machines: architecture, QEMU's arguments. No name is QEMU's default CPU.
const VIRT: (Arch, &[&str]) = (Arch::Riscv64, &["-M", "virt"]);
const Q35: (Arch, &[&str]) = (Arch::X86_64, &["-M", "q35"]);
const MICROVM: (Arch, &[&str]) = (Arch::X86_64, &["-M", "microvm"]);
const PC: (Arch, &[&str]) = (Arch::X86_64, &["-M", "pc"]);

/// A first process as many people write it.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /tmp
/bin/busybox mount -t proc proc /proc
echo "arguments: $*"
echo "foo: $foo"
echo "processors: $(/bin/busybox nproc)"
echo "memory: $(/bin/busybox awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
echo "line: $(/bin/busybox cat /proc/cmdline)"
echo ready
while read command; do
    /bin/busybox sh -c "$command"
done
"#;

/// Files for QEMU, in a directory of this process.
fn dir() -> PathBuf {
    static DIR: Mutex<Option<PathBuf>> = Mutex::new(None);
    places::set_runner(RUNNER);
    progress::set_quiet(true);
    let mut dir = DIR.lock().expect("no panic inside");
    dir.get_or_insert_with(|| places::run_dir().expect("a directory")).clone()
}

fn kernel(arch: Arch) -> PathBuf {
    setup::emulator(arch).expect("an emulator");
    let toolchain = setup::toolchain(arch).expect("a toolchain");
    cargo::kernel(arch, toolchain, false).expect("a kernel")
}

/// BusyBox and [`INIT`], packed by the host's cpio where there is one; no device files, which only root could make.
fn foreign_initramfs(arch: Arch) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = dir();
    let file = dir.join(format!("foreign-{arch}.cpio"));
    if file.exists() {
        return file; // another test made it
    }
    let mut tree = Tree::default();
    let binary = busybox::find(arch, None).expect("BusyBox");
    tree.file("bin/busybox", 0o755, fs::read(binary).expect("it can be read"));
    tree.symlink("bin/sh", "busybox");
    tree.file("init", 0o755, INIT);
    if shell::exists("cpio") {
        let root = dir.join(format!("foreign-{arch}"));
        fs::create_dir_all(&root).expect("a directory");
        tree.write_to(&root).expect("it can be written");
        let pack = format!("find . | cpio -o -H newc --quiet > {}", file.display());
        shell::output(Command::new("sh").args(["-c", &pack]).current_dir(&root)).expect("cpio works");
    } else {
        fs::write(&file, cpio::archive(&tree)).expect("it can be written");
    }
    file
}

/// A running QEMU, killed when the test ends first.
struct Plain {
    console: Console,
    child: Child,
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

impl Plain {
    /// As a person would type it, with `-nographic`.
    fn start((arch, machine): (Arch, &[&str]), more: &[&str], initrd: Option<&Path>, append: &str) -> Self {
        let mut arguments: Vec<OsString> = Vec::new();
        // Through the runner's hidden command, so that QEMU does not outlive a test that is killed.
        arguments.extend([qemu::SPAWN.into(), std::process::id().to_string().into(), arch.qemu().into()]);
        arguments.extend(machine.iter().chain(more).map(Into::into));
        if !more.contains(&"-m") {
            arguments.extend(["-m".into(), "256M".into()]);
        }
        arguments.extend(["-nographic", "-no-reboot", "-append", append].map(Into::into));
        arguments.extend(["-kernel".into(), kernel(arch).into()]);
        arguments.extend(initrd.into_iter().flat_map(|file| ["-initrd".into(), file.into()]));
        let mut command = Command::new(RUNNER);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("QEMU starts");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { console: Console::new(stdin, stdout), child }
    }

    /// Waits for QEMU's end and answers the console's whole text.
    fn end(&mut self) -> String {
        let text = self.console.drain().to_owned();
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success(), "{status}: {text}");
        text
    }
}

#[test]
fn a_foreign_initramfs_boots_everywhere() {
    for machine in [VIRT, Q35, MICROVM, PC] {
        let archive = foreign_initramfs(machine.0);
        let append = "console=ttyS0 panic=-1 foo=bar word -- more words";
        let mut plain = Plain::start(machine, &["-smp", "4"], Some(&archive), append);
        let console = &mut plain.console;
        console.expect("arguments: word more words\n");
        console.expect("foo: bar\n");
        console.expect("processors: 4\n");
        console.expect(&format!("line: {append}"));
        console.expect("ready\n");
        // The console takes input, echoes it, and Ctrl-D ends it.
        console.send("echo he\"\"llo\n");
        console.expect("hello\n");
        console.send("/bin/busybox poweroff -f\n");
        assert!(plain.end().contains("Power down"), "{machine:?}");
    }
}

#[test]
fn arguments_have_linuxs_names_and_effects() {
    for machine in [VIRT, Q35] {
        let archive = foreign_initramfs(machine.0);
        let append = "console=ttyS0 quiet maxcpus=2 mem=64M nokaslr rdinit=/missing init=/init ro panic=-1";
        let mut plain = Plain::start(machine, &["-smp", "4"], Some(&archive), append);
        let console = &mut plain.console;
        let before = console.expect("arguments: \n");
        // quiet: errors are shown, news are not.
        assert!(before.contains("check access for rdinit=/missing failed: -2, ignoring"), "{before}");
        assert!(!before.contains("Command line:"), "{before}");
        console.expect("processors: 2\n");
        console.expect("memory: ");
        let memory: u32 = console.expect("\n").parse().expect("a number");
        assert!((32..64).contains(&memory), "{machine:?}: {memory} MiB");
        console.expect("ready\n");
        console.send("/bin/busybox reboot -f\n");
        plain.end();
    }
}

#[test]
fn wrong_arguments_do_no_harm() {
    for machine in [VIRT, MICROVM] {
        let archive = foreign_initramfs(machine.0);
        let append = "console=nowhere console=ttyS0 panic=-1 loglevel=banana maxcpus=-3 mem=frog satp=sv99 sched=none \
            panic= = =x root=/dev/nope rootfstype=ufs init.odd=1 slab_debug=? \"open quote";
        let mut plain = Plain::start(machine, &[], Some(&archive), append);
        let before = plain.console.expect("ready\n");
        assert!(before.contains("sched=none: no such policy"), "{before}");
        plain.console.send("/bin/busybox poweroff -f\n");
        plain.end();
    }
}

#[test]
fn archives_may_be_compressed_and_may_be_damaged() {
    for machine in [VIRT, Q35] {
        let archive = foreign_initramfs(machine.0);
        let good = fs::read(&archive).expect("it can be read");
        let file = |name: &str, content: &[u8]| {
            let path = dir().join(format!("{name}-{}", machine.0));
            fs::write(&path, content).expect("it can be written");
            path
        };
        let gzip = archive.with_extension("cpio.gz");
        let pack = format!("gzip -1 -c {} > {}", archive.display(), gzip.display());
        shell::output(Command::new("sh").args(["-c", &pack])).expect("gzip works");
        let packed = fs::read(&gzip).expect("it can be read");
        // An archive behind an archive is one file system, as with Linux.
        let mut extra = Tree::default();
        extra.file("init", 0o755, "#!/bin/sh\necho second\n/bin/busybox poweroff -f\n");
        let both = [packed.clone(), cpio::archive(&extra)].concat();
        let mut plain = Plain::start(machine, &[], Some(&file("both", &both)), "console=ttyS0 panic=-1");
        plain.console.expect("second\n");
        plain.end();

        let mut flipped = packed.clone();
        flipped[packed.len() / 2] ^= 0x40;
        for (name, content, message) in [
            ("noise", &b"this is no archive"[..], "initramfs: damaged"),
            ("short", &good[..good.len() / 2], "initramfs: damaged"),
            ("short.gz", &packed[..packed.len() / 2], "initramfs: damaged"),
            ("flipped.gz", &flipped, "initramfs: damaged"),
        ] {
            let mut plain = Plain::start(machine, &[], Some(&file(name, content)), "console=ttyS0 panic=-1");
            let text = plain.end();
            assert!(text.contains(message), "{name}: {text}");
            assert!(text.contains("Kernel panic - not syncing: No working init found."), "{name}: {text}");
        }
    }
}

#[test]
fn without_an_initramfs_there_is_no_init() {
    for machine in [VIRT, MICROVM] {
        let mut plain = Plain::start(machine, &[], None, "console=ttyS0 panic=1");
        let text = plain.end();
        assert!(text.contains("Kernel panic - not syncing: No working init found."), "{text}");
    }
}

/// Boots a machine to our own shell and back.
fn boots(machine: (Arch, &[&str]), more: &[&str], append: &str, expected: &str) {
    let archive = foreign_initramfs(machine.0);
    let mut plain = Plain::start(machine, more, Some(&archive), &format!("console=ttyS0 panic=-1 {append}"));
    plain.console.expect(expected);
    plain.console.expect("ready\n");
    plain.console.send("/bin/busybox poweroff -f\n");
    plain.end();
}

/// A part of the matrix of machines: sizes, CPUs with less and with more than QEMU's default. All of it works with
/// the oldest QEMU.
#[test]
fn other_machines_boot() {
    boots(VIRT, &["-m", "32M", "-smp", "1"], "", "processors: 1\n");
    boots(VIRT, &["-m", "1G", "-smp", "8"], "satp=sv39", "processors: 8\n");
    boots(VIRT, &["-smp", "2"], "satp=sv48", "processors: 2\n");
    boots(VIRT, &["-cpu", "sifive-u54", "-smp", "2"], "", "processors: 2\n"); // Sv39, no Sstc
    boots(Q35, &["-m", "32M", "-smp", "1"], "", "processors: 1\n");
    boots(Q35, &["-cpu", "qemu64", "-smp", "2"], "", "processors: 2\n");
    boots(Q35, &["-cpu", "max", "-smp", "8", "-m", "8G"], "", "processors: 8\n");
    boots(MICROVM, &["-smp", "8", "-m", "64M"], "", "processors: 8\n");
}

#[test]
fn the_runners_own_archive_boots_by_hand() {
    let machine = VIRT;
    let toolchain = setup::toolchain(machine.0).expect("a toolchain");
    let programs = cargo::programs(machine.0, toolchain).expect("programs");
    let tree = initramfs::tree(machine.0, None, &programs).expect("a tree");
    let archive = initramfs::write(dir().join("own.cpio"), &[&tree]).expect("it can be written");
    let mut plain = Plain::start(machine, &[], Some(&archive), "console=ttyS0 panic=-1");
    plain.console.expect(support::PROMPT);
    assert_eq!(plain.console.ask("pwd"), "/root");
    plain.console.send("exit\n");
    plain.end();
}
