//! Looking at a task that sleeps: where in the kernel, and with which user registers.
//!
//! Nobody stops a task for this: it may wake up meanwhile. So whoever looks, looks again whether it slept all the
//! time, and forgets what it saw otherwise.

use crate::task::{Task, current};
use arch::user::UserContext;
use core::sync::atomic::Ordering;

/// Where a task is in user mode, and the arguments of the system call it makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserPlace {
    pub pc: usize,
    pub sp: usize,
    pub args: [usize; 6],
}

impl Task {
    /// How often it got a CPU and left one: unchanged as long as it sleeps.
    fn turns(&self) -> (u64, u64, bool) {
        let load = |counter: &core::sync::atomic::AtomicU64| counter.load(Ordering::Acquire);
        (load(&self.sched.timeslices), load(&self.sched.switches_voluntary), self.on_cpu())
    }

    /// The return addresses on its kernel stack, innermost first, into `out`; how many. 0 when it runs.
    pub fn stack_trace(&self, out: &mut [usize]) -> usize {
        let before = self.turns();
        let Some((fp, pc)) = self.saved_frame() else { return 0 };
        let mut count = 0;
        arch::backtrace::walk(fp, pc, &mut |pc| {
            if let Some(slot) = out.get_mut(count) {
                *slot = pc;
                count += 1;
            }
            count < out.len()
        });
        if self.turns() == before { count } else { 0 }
    }

    /// Its user registers as it left user mode; `None` when it runs (and is not the one who asks), or has no user
    /// mode.
    pub fn user_place(&self) -> Option<UserPlace> {
        let before = self.turns();
        let context = self.user.load(Ordering::Acquire);
        if (before.2 && !self.is_current()) || context.is_null() {
            return None;
        }
        // SAFETY: 1. the pointer is to the stack of this task, which is mapped as long as the task exists, and
        // `self` keeps it; `with_user` takes the pointer away before the frame that it is in ends; 2. the task may
        // wake up and write there meanwhile: the read is volatile, every bit pattern is a valid context (it is
        // numbers), and what was read is used only if the task slept all the time.
        let copy = unsafe { core::ptr::read_volatile(context) };
        (self.turns() == before).then(|| UserPlace {
            pc: copy.pc(),
            sp: copy.sp(),
            args: copy.syscall_args(),
        })
    }
}

/// Runs `body`, the life of a user thread, with its registers shown to those who look at the current task.
pub fn with_user<R>(context: &mut UserContext, body: impl FnOnce(&mut UserContext) -> R) -> R {
    let task = current();
    task.user.store(context, Ordering::Release);
    let result = body(context);
    task.user.store(core::ptr::null_mut(), Ordering::Release);
    result
}
