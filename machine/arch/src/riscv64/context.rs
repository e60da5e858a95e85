//! Switching kernel stacks, and what of a task lives in processor registers besides.

use super::cpu::{load, store};
use super::{entry, fpu, irq, trap};
use crate::VirtAddr;

/// What a function may not change: saved by the switch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    ra: usize,
    sp: usize,
    s: [usize; 12],
}

/// Kernel registers, floating-point and vector state of a task that is not running. (The user's thread
/// pointer is a general register here.)
#[repr(C)]
#[derive(Debug)]
pub struct TaskState {
    regs: Registers,
    /// The task runs user code.
    user: bool,
    pub(super) fpu: fpu::State,
}

impl TaskState {
    /// A task that starts at `entry(arg)` on the stack that ends at `stack_top`, interrupts off.
    pub fn new(stack_top: VirtAddr, entry: extern "C" fn(usize) -> !, arg: usize) -> TaskState {
        let mut s = [0; 12];
        s[1] = entry as usize;
        s[2] = arg;
        let regs = Registers { ra: entry::task_start as *const () as usize, sp: stack_top.0 & !15, s };
        TaskState { regs, user: false, fpu: fpu::State::new() }
    }

    /// Copies the current task's floating-point and vector state into this new task's (fork). When there
    /// is no memory for the vector registers, the child starts with none: a new thread may not rely on
    /// them anyway, they do not survive the system call.
    pub fn fork_user(&mut self) {
        self.user = true;
        fpu::copy_current(&mut self.fpu);
    }

    /// Frame pointer and return address of a task that is switched out, for its backtrace.
    pub fn saved_frame(&self) -> (usize, usize) {
        (self.regs.s[0], self.regs.ra)
    }
}

/// The current task starts a new program: its floating-point and vector registers are forgotten.
pub fn reset_user() {
    if let Some(state) = trap::task_state() {
        state.user = true;
    }
    fpu::reset_current();
}

/// Leaves `prev` and goes on where `next` was left.
///
/// # Safety
/// 1. Both are valid, `prev` is the running task's; 2. `next` was made by [`TaskState::new`] or left by
///    this function, its stack is alive and it runs nowhere else; 3. interrupts are off.
#[inline]
pub unsafe fn switch(prev: *mut TaskState, next: *mut TaskState) {
    if load!("lbu", fpu_on, u8) != 0 {
        // SAFETY: 1. 3. the caller's obligations: what is in the registers is `prev`'s.
        fpu::leave(unsafe { &mut (*prev).fpu });
    }
    store!("sd", task_state, next);
    // SAFETY: 1. to 3. the caller's obligations.
    unsafe {
        fpu::arrive(&mut (*next).fpu);
        if !(*next).user {
            // A kernel thread may not come to user mode for long.
            irq::end_laziness();
        }
        entry::switch_stacks(&raw mut (*prev).regs, &raw const (*next).regs);
    }
}
