//! Why a thread left user mode: the value that `user::UserContext::run` returns.

use crate::Access;

/// The architecture has done what only it can do (acknowledged and handled the interrupt, loaded the FPU);
/// what the kernel must decide is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// A system call; number and arguments are in the context, the program counter is past the
    /// instruction.
    Syscall,
    /// The user address could not be accessed: not mapped, not permitted, or (Svade) not yet marked
    /// accessed or dirty.
    PageFault { addr: usize, access: Access },
    /// Device, timer or inter-processor interrupt, already handled. Look at `need_resched` and signals.
    Interrupt,
    /// The program did something that becomes a signal.
    Exception(Exception),
}

/// The signal that a fault of the processor becomes, in Linux's numbers (the same on both architectures).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// `si_signo`: SIGILL, SIGTRAP, SIGBUS, SIGFPE or SIGSEGV.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: usize,
}
