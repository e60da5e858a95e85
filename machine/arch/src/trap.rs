//! Why user code stopped: what `user::UserContext::run` returns.

use crate::Access;

/// One stop of a user thread. Fits two registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// A system call; number and arguments are in the context.
    Syscall,
    /// An interrupt was handled, or the work word was not zero (then user mode was not entered at all):
    /// look at `need_resched`, pending signals and the like.
    Interrupt,
    /// A page fault. A fault on a present entry with enough permission asks for its accessed or dirty
    /// bit (see [`crate::paging`]), or is spurious: flush the page and go on.
    PageFault { addr: usize, access: Access },
    /// Any other exception: the signal to send with its `si_code` and `si_addr`.
    Exception { addr: usize, signal: u8, code: i16 },
}

/// Signal numbers (the same on every architecture) and `si_code`s that exceptions turn into.
/// Source: signal(7), sigaction(2), linux/include/uapi/asm-generic/siginfo.h.
pub mod signal_codes {
    pub const SIGILL: u8 = 4;
    pub const SIGTRAP: u8 = 5;
    pub const SIGBUS: u8 = 7;
    pub const SIGFPE: u8 = 8;
    pub const SIGSEGV: u8 = 11;

    pub const SI_KERNEL: i16 = 0x80;
    pub const ILL_ILLOPC: i16 = 1;
    pub const ILL_ILLOPN: i16 = 2;
    pub const FPE_INTDIV: i16 = 1;
    pub const FPE_INTOVF: i16 = 2;
    pub const FPE_FLTDIV: i16 = 3;
    pub const FPE_FLTOVF: i16 = 4;
    pub const FPE_FLTUND: i16 = 5;
    pub const FPE_FLTRES: i16 = 6;
    pub const FPE_FLTINV: i16 = 7;
    pub const SEGV_MAPERR: i16 = 1;
    pub const SEGV_ACCERR: i16 = 2;
    pub const BUS_ADRALN: i16 = 1;
    pub const BUS_ADRERR: i16 = 2;
    pub const TRAP_BRKPT: i16 = 1;
    pub const TRAP_TRACE: i16 = 2;
}
