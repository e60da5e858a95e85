//! What an architecture needs to build and take down a signal frame.
//!
//! `signal::setup_frame(&mut UserContext, &FrameRequest, write) -> Result<(), Fault>` pushes Linux's
//! `rt_sigframe` (siginfo, ucontext with the interrupted registers, FPU state) on the user stack and
//! points the context at the handler. `signal::restore_frame(&mut UserContext, read) -> Result<Restored, Fault>`
//! undoes it for rt_sigreturn, sanitising every privileged bit. FPU state is the current task's.
//! Sources: linux/arch/*/include/uapi/asm/{sigcontext,ucontext}.h, sigaction(2).

use crate::Fault;

/// Writes bytes to a user address of the current address space.
pub type WriteUser<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<(), Fault>;
/// Reads bytes from a user address of the current address space.
pub type ReadUser<'a> = &'a mut dyn FnMut(usize, &mut [u8]) -> Result<(), Fault>;

/// The `stack_t` of sigaltstack(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AltStack {
    pub sp: usize,
    pub flags: u32,
    pub size: usize,
}

/// One signal delivery.
#[derive(Debug)]
pub struct FrameRequest<'a> {
    pub signal: u32,
    /// `siginfo_t`, 128 bytes in Linux's layout.
    pub info: &'a [u8; 128],
    pub handler: usize,
    /// `sa_restorer` (x86-64), or the address of the vDSO trampoline where the ABI has none (riscv64).
    pub restorer: usize,
    /// The mask to restore on return (`uc_sigmask`).
    pub blocked: u64,
    /// The thread's alternate stack as recorded in `uc_stack`.
    pub alt_stack: AltStack,
    /// The stack to push on: the top of the alternate stack, or `None` for the interrupted stack pointer
    /// (less the red zone where the ABI has one).
    pub stack_top: Option<usize>,
}

/// What rt_sigreturn brought back besides the registers.
#[derive(Debug)]
pub struct Restored {
    pub blocked: u64,
    pub alt_stack: AltStack,
}
