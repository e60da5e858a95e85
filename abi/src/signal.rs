//! Signals: signal(7), sigaction(2), sigaltstack(2), siginfo_t.

use crate::process::Pid;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The highest signal number (`_NSIG`).
pub const SIGNAL_MAX: u32 = 64;
/// The first real-time signal as the kernel counts.
pub const SIGRTMIN: u32 = 32;

macro_rules! signals {
    ($($name:ident $number:literal;)*) => {
        $(pub const $name: u32 = $number;)*

        /// The name as signal(7) writes it; "SIGRT" for real-time signals.
        pub const fn signal_name(signal: u32) -> &'static str {
            match signal { $($number => stringify!($name),)* 32..=64 => "SIGRT", _ => "SIG?" }
        }
    };
}

signals! {
    SIGHUP 1; SIGINT 2; SIGQUIT 3; SIGILL 4; SIGTRAP 5; SIGABRT 6; SIGBUS 7; SIGFPE 8; SIGKILL 9;
    SIGUSR1 10; SIGSEGV 11; SIGUSR2 12; SIGPIPE 13; SIGALRM 14; SIGTERM 15; SIGSTKFLT 16; SIGCHLD 17;
    SIGCONT 18; SIGSTOP 19; SIGTSTP 20; SIGTTIN 21; SIGTTOU 22; SIGURG 23; SIGXCPU 24; SIGXFSZ 25;
    SIGVTALRM 26; SIGPROF 27; SIGWINCH 28; SIGIO 29; SIGPWR 30; SIGSYS 31;
}

/// `sa_handler` values that are not addresses.
pub const SIG_DFL: usize = 0;
pub const SIG_IGN: usize = 1;

pub const SA_NOCLDSTOP: u32 = 0x0000_0001;
pub const SA_NOCLDWAIT: u32 = 0x0000_0002;
pub const SA_SIGINFO: u32 = 0x0000_0004;
pub const SA_UNSUPPORTED: u32 = 0x0000_0400;
pub const SA_EXPOSE_TAGBITS: u32 = 0x0000_0800;
pub const SA_RESTORER: u32 = 0x0400_0000;
pub const SA_ONSTACK: u32 = 0x0800_0000;
pub const SA_RESTART: u32 = 0x1000_0000;
pub const SA_NODEFER: u32 = 0x4000_0000;
pub const SA_RESETHAND: u32 = 0x8000_0000;

/// How sigprocmask(2) combines.
pub const SIG_BLOCK: i32 = 0;
pub const SIG_UNBLOCK: i32 = 1;
pub const SIG_SETMASK: i32 = 2;

/// sigaltstack(2).
pub const SS_ONSTACK: u32 = 1;
pub const SS_DISABLE: u32 = 2;
pub const SS_AUTODISARM: u32 = 1 << 31;
pub const MINSIGSTKSZ: usize = 2048;

/// `si_code`: who sent it. Positive codes come from the kernel and depend on the signal.
pub const SI_USER: i32 = 0;
pub const SI_KERNEL: i32 = 0x80;
pub const SI_QUEUE: i32 = -1;
/// The first `si_code` of SIGPOLL.
pub const POLL_IN: i32 = 1;
pub const POLL_MSG: i32 = 3;
pub const SI_TIMER: i32 = -2;
pub const SI_MESGQ: i32 = -3;
pub const SI_ASYNCIO: i32 = -4;
pub const SI_SIGIO: i32 = -5;
pub const SI_TKILL: i32 = -6;

pub const ILL_ILLOPC: i32 = 1;
pub const FPE_INTDIV: i32 = 1;
pub const FPE_INTOVF: i32 = 2;
pub const FPE_FLTINV: i32 = 7;
pub const SEGV_MAPERR: i32 = 1;
pub const SEGV_ACCERR: i32 = 2;
pub const BUS_ADRALN: i32 = 1;
pub const BUS_ADRERR: i32 = 2;
pub const TRAP_BRKPT: i32 = 1;
pub const TRAP_TRACE: i32 = 2;
pub const CLD_EXITED: i32 = 1;
pub const CLD_KILLED: i32 = 2;
pub const CLD_DUMPED: i32 = 3;
pub const CLD_TRAPPED: i32 = 4;
pub const CLD_STOPPED: i32 = 5;
pub const CLD_CONTINUED: i32 = 6;

/// The kernel's `struct sigaction` for rt_sigaction(2); RISC-V has no restorer.
#[cfg(target_arch = "riscv64")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KernelSigaction {
    pub handler: u64,
    pub flags: u64,
    pub mask: u64,
}

/// The kernel's `struct sigaction` for rt_sigaction(2).
#[cfg(not(target_arch = "riscv64"))]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KernelSigaction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

impl KernelSigaction {
    pub fn new(handler: u64, flags: u64, restorer: u64, mask: u64) -> KernelSigaction {
        #[cfg(target_arch = "riscv64")]
        {
            let _ = restorer;
            KernelSigaction { handler, flags, mask }
        }
        #[cfg(not(target_arch = "riscv64"))]
        KernelSigaction { handler, flags, restorer, mask }
    }

    /// `sa_restorer`, 0 where the ABI has none.
    pub fn restorer(&self) -> u64 {
        #[cfg(target_arch = "riscv64")]
        return 0;
        #[cfg(not(target_arch = "riscv64"))]
        return self.restorer;
    }
}

/// `stack_t`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackT {
    pub sp: u64,
    pub flags: u32,
    pub pad: u32,
    pub size: u64,
}

/// The part of `siginfo_t` that the kernel keeps (Linux's `kernel_siginfo`): the header and the union,
/// whose layout depends on the signal and the code. In user memory it is 128 bytes, the rest zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pub pad: u32,
    pub fields: [u64; 4],
}

/// Bytes of `siginfo_t` in user memory.
pub const SIGINFO_BYTES: usize = 128;

const _: () = assert!(size_of::<SigInfo>() == 48);
const _: () = assert!(size_of::<StackT>() == 24);
const _: () = assert!(size_of::<SigEvent>() == 64);
const _: () = assert!(size_of::<SignalfdSiginfo>() == 128);

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl SigInfo {
    /// A signal the kernel raises without more to say.
    pub fn kernel(signo: u32) -> SigInfo {
        SigInfo { signo: signo as i32, code: SI_KERNEL, ..SigInfo::default() }
    }

    /// kill(2) (SI_USER) and tkill(2) (SI_TKILL): who sent it.
    pub fn user(signo: u32, code: i32, pid: Pid, uid: u32) -> SigInfo {
        SigInfo { signo: signo as i32, code, fields: [pair(pid, uid), 0, 0, 0], ..SigInfo::default() }
    }

    /// A fault at `addr`.
    pub fn fault(signo: u32, code: i32, addr: u64) -> SigInfo {
        SigInfo { signo: signo as i32, code, fields: [addr, 0, 0, 0], ..SigInfo::default() }
    }

    /// SIGCHLD: times in clock ticks.
    pub fn child(signo: u32, code: i32, pid: Pid, uid: u32, status: i32, utime: u64, stime: u64) -> SigInfo {
        let fields = [pair(pid, uid), u64::from(status as u32), utime, stime];
        SigInfo { signo: signo as i32, code, fields, ..SigInfo::default() }
    }

    /// A POSIX timer's expiration.
    pub fn timer(signo: u32, id: i32, overrun: i32, value: u64) -> SigInfo {
        let fields = [pair(id as u32, overrun as u32), value, 0, 0];
        SigInfo { signo: signo as i32, code: SI_TIMER, fields, ..SigInfo::default() }
    }

    pub fn si_pid(&self) -> Pid {
        self.fields[0] as u32
    }

    pub fn si_uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }

    pub fn si_status(&self) -> i32 {
        self.fields[1] as i32
    }

    pub fn si_addr(&self) -> u64 {
        self.fields[0]
    }

    /// `siginfo_t` as it is copied to user memory.
    pub fn to_user(&self) -> [u8; SIGINFO_BYTES] {
        let mut bytes = [0; SIGINFO_BYTES];
        bytes[..48].copy_from_slice(self.as_bytes());
        bytes
    }
}

/// `struct sigevent` of timer_create(2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigEvent {
    pub value: u64,
    pub signo: i32,
    pub notify: i32,
    /// `sigev_notify_thread_id`.
    pub tid: i32,
    pub pad: [u32; 11],
}

pub const SIGEV_SIGNAL: i32 = 0;
pub const SIGEV_NONE: i32 = 1;
pub const SIGEV_THREAD: i32 = 2;
pub const SIGEV_THREAD_ID: i32 = 4;

/// What a read of a signalfd(2) returns per signal.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalfdSiginfo {
    pub signo: u32,
    pub errno: i32,
    pub code: i32,
    pub pid: u32,
    pub uid: u32,
    pub fd: i32,
    pub tid: u32,
    pub band: u32,
    pub overrun: u32,
    pub trapno: u32,
    pub status: i32,
    pub int: i32,
    pub ptr: u64,
    pub utime: u64,
    pub stime: u64,
    pub addr: u64,
    pub addr_lsb: u16,
    pub pad2: u16,
    pub syscall: i32,
    pub call_addr: u64,
    pub arch: u32,
    pub pad: [u8; 28],
}
