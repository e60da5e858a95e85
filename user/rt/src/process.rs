//! Processes: birth, program, death, and what belongs to them.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;

use alloc::vec::Vec;

use crate::nr::*;
use crate::{Errno, Result, arch, decode, syscall};

/// A process or thread id.
pub type Pid = i32;

pub use crate::nr::rusage as Rusage;

/// Ends the process with `status` (`exit_group(2)`).
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: 1. it does not return.
        let _ = unsafe { syscall!(__NR_exit_group, status) };
    }
}

/// Ends only the calling thread (`_exit(2)`, raw).
pub fn exit_thread() -> ! {
    loop {
        // SAFETY: 1. it does not return.
        let _ = unsafe { syscall!(__NR_exit, 0) };
    }
}

/// `fork(2)`: `None` in the child, the child's id in the parent. Only the calling thread lives on in the
/// child; locks that others held stay locked there.
pub fn fork() -> Result<Option<Pid>> {
    // SAFETY: 1. without CLONE_VM the child has its own copy of all memory, this stack included.
    let pid = unsafe { syscall!(__NR_clone, SIGCHLD, 0, 0, 0, 0) }?;
    Ok((pid != 0).then_some(pid as Pid))
}

/// An argument or environment vector for [`execve`]: strings with their NUL, and the pointers to them.
#[derive(Default)]
pub struct Strings<'a> {
    pointers: Vec<*const u8>,
    _strings: core::marker::PhantomData<&'a CStr>,
}

impl<'a> Strings<'a> {
    /// From strings that outlive the result.
    pub fn new(strings: impl IntoIterator<Item = &'a CStr>) -> Self {
        let mut pointers: Vec<_> = strings.into_iter().map(|s| s.as_ptr().cast::<u8>()).collect();
        pointers.push(ptr::null());
        Self { pointers, _strings: core::marker::PhantomData }
    }

    /// As `execve` takes it: pointers, and a NULL.
    pub fn as_ptr(&self) -> *const *const u8 {
        self.pointers.as_ptr()
    }
}

/// `execve(2)`. Returns only with an error.
pub fn execve(path: &CStr, argv: &Strings<'_>, envp: &Strings<'_>) -> Errno {
    // SAFETY: 1. all strings are NUL-terminated, the vectors NULL-terminated, and only read.
    match unsafe { syscall!(__NR_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) } {
        Ok(_) => Errno::EINVAL, // a kernel that returns success from execve is broken
        Err(e) => e,
    }
}

/// `vfork(2)` and `execve(2)` in the child, which ends with 127 if that fails; answers the child's id.
pub fn vfork_exec(path: &CStr, argv: &Strings<'_>, envp: &Strings<'_>) -> Result<Pid> {
    // SAFETY: 1. as for `execve`.
    decode(unsafe { arch::vfork_exec(path.as_ptr().cast(), argv.as_ptr(), envp.as_ptr()) })
        .map(|pid| pid as Pid)
}

/// What `wait4(2)` says about a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub i32);

impl Status {
    /// The exit status, if the child ended by itself.
    pub fn exit_code(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some(self.0 >> 8 & 0xff)
    }

    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<i32> {
        let signal = self.0 & 0x7f;
        (signal != 0 && signal != 0x7f).then_some(signal)
    }

    /// The signal that stopped it, if it is stopped.
    pub fn stop_signal(self) -> Option<i32> {
        (self.0 & 0xff == 0x7f).then_some(self.0 >> 8 & 0xff)
    }

    /// As a shell's `$?`: the exit status, or 128 and the signal.
    pub fn shell_code(self) -> i32 {
        self.exit_code().or(self.signal().map(|s| 128 + s)).unwrap_or(255)
    }
}

/// `wait4(2)`: `None` when `WNOHANG` was given and no child has changed.
pub fn wait(pid: Pid, options: u32) -> Result<Option<(Pid, Status)>> {
    let mut status = 0i32;
    // SAFETY: 1. the kernel writes one int.
    let pid = unsafe { syscall!(__NR_wait4, pid, &raw mut status, options, 0) }?;
    Ok((pid != 0).then_some((pid as Pid, Status(status))))
}

/// Waits for child `pid` to end, going on after signals.
pub fn wait_exit(pid: Pid) -> Result<Status> {
    loop {
        match wait(pid, 0) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Runs `f` in a forked child, which exits with its value; answers how it ended.
pub fn in_child(f: impl FnOnce() -> i32) -> Result<Status> {
    match fork()? {
        None => exit(f()),
        Some(pid) => wait_exit(pid),
    }
}

/// `getpid(2)`.
pub fn getpid() -> Pid {
    // SAFETY: 1. no memory is named. It cannot fail.
    unsafe { arch::syscall6(__NR_getpid as usize, [0; 6]) as Pid }
}

/// `getppid(2)`.
pub fn getppid() -> Pid {
    // SAFETY: 1. no memory is named. It cannot fail.
    unsafe { arch::syscall6(__NR_getppid as usize, [0; 6]) as Pid }
}

/// `gettid(2)`.
pub fn gettid() -> Pid {
    // SAFETY: 1. no memory is named. It cannot fail.
    unsafe { arch::syscall6(__NR_gettid as usize, [0; 6]) as Pid }
}

/// `setsid(2)`.
pub fn setsid() -> Result<Pid> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_setsid) }.map(|pid| pid as Pid)
}

/// `setpgid(2)`.
pub fn setpgid(pid: Pid, group: Pid) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_setpgid, pid, group) }.map(drop)
}

/// `getpgid(2)`.
pub fn getpgid(pid: Pid) -> Result<Pid> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_getpgid, pid) }.map(|pid| pid as Pid)
}

/// `kill(2)`.
pub fn kill(pid: Pid, signal: u32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_kill, pid, signal) }.map(drop)
}

/// `tgkill(2)`.
pub fn tgkill(group: Pid, thread: Pid, signal: u32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_tgkill, group, thread, signal) }.map(drop)
}

/// `sched_yield(2)`.
pub fn yield_now() {
    // SAFETY: 1. no memory is named. It cannot fail.
    let _ = unsafe { syscall!(__NR_sched_yield) };
}

/// `sched_setaffinity(2)` with a mask of the first 64 CPUs; `pid` 0 is the caller.
pub fn set_affinity(pid: Pid, mask: u64) -> Result<()> {
    // SAFETY: 1. the kernel reads 8 bytes.
    unsafe { syscall!(__NR_sched_setaffinity, pid, 8, &raw const mask) }.map(drop)
}

/// `getrusage(2)`; `who` is `RUSAGE_SELF` ...
pub fn rusage(who: i32) -> Result<Rusage> {
    let mut usage = MaybeUninit::<Rusage>::zeroed();
    // SAFETY: 1. the kernel writes one `rusage`.
    unsafe { syscall!(__NR_getrusage, who, usage.as_mut_ptr()) }?;
    // SAFETY: 1. all its fields are integers, zeroed and then written.
    Ok(unsafe { usage.assume_init() })
}

/// `sethostname(2)`.
pub fn sethostname(name: &[u8]) -> Result<()> {
    // SAFETY: 1. the kernel only reads `name`.
    unsafe { syscall!(__NR_sethostname, name.as_ptr(), name.len()) }.map(drop)
}

/// What [`reboot`] does.
#[derive(Clone, Copy, Debug)]
pub enum Reboot {
    /// Switch the machine off.
    PowerOff,
    /// Start it again.
    Restart,
    /// Stop it, without switching off.
    Halt,
}

/// `reboot(2)`. Returns only with an error.
pub fn reboot(how: Reboot) -> Errno {
    let command = match how {
        Reboot::PowerOff => LINUX_REBOOT_CMD_POWER_OFF,
        Reboot::Restart => LINUX_REBOOT_CMD_RESTART,
        Reboot::Halt => LINUX_REBOOT_CMD_HALT,
    };
    // SAFETY: 1. no memory is named.
    match unsafe { syscall!(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, 0) } {
        Ok(_) => Errno::EINVAL,
        Err(e) => e,
    }
}

/// `syslog(2)`, action `SYSLOG_ACTION_CONSOLE_LEVEL`: messages below `level` in number reach the console.
pub fn set_console_level(level: u32) -> Result<()> {
    const SYSLOG_ACTION_CONSOLE_LEVEL: u32 = 8;
    // SAFETY: 1. the action takes no buffer.
    unsafe { syscall!(__NR_syslog, SYSLOG_ACTION_CONSOLE_LEVEL, 0, level) }.map(drop)
}
