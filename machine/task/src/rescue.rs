//! Giving up a task in the middle of kernel code, after an oops.
//!
//! **Problem.** A bug that hits one system call should cost the program that made it, not the machine. There is no
//! unwinding: what the broken code holds stays held.
//!
//! **Interface.** [`with_rescue`] runs the body of a task with a function that knows how to end it properly;
//! [`abandon`] calls that function, deeper on the same stack, and ends the task.
//!
//! **Idea.** The abandoned frames never run again, but they stay: other CPUs may hold pointers into them (the node
//! of a wait queue). So the stack of an abandoned task is never freed. Jumping back to the task's first frame instead
//! would run the end on top of those nodes.

use crate::scheduler::might_sleep;
use crate::task::{Rescue, current, exit};

/// Runs `body` on `state`. If the task is abandoned meanwhile, `rescue` gets the state instead, once.
pub fn with_rescue<S, R>(state: &mut S, body: impl FnOnce(&mut S) -> R, rescue: fn(&mut S)) -> R {
    struct Call<S> {
        state: *mut S,
        rescue: fn(&mut S),
    }
    unsafe fn run<S>(call: *mut ()) {
        // SAFETY: 1. `call` is the `Call<S>` below, in a frame that is abandoned but stays; 2. the body, which has
        // the state borrowed, never runs again.
        unsafe {
            let call = &*call.cast::<Call<S>>();
            (call.rescue)(&mut *call.state);
        }
    }
    let mut call = Call { state, rescue };
    let task = current();
    task.set_rescue(Some(Rescue { call: (&raw mut call).cast(), run: run::<S> }));
    // SAFETY: 1. `state` is this function's borrow, which only the body uses.
    let value = body(unsafe { &mut *call.state });
    task.set_rescue(None);
    value
}

/// Whether the running task can be given up here: process context with nothing spinning on it, on its own stack, and
/// somebody who knows how to end it. `sp` is an address on the stack in use.
pub fn can_be_abandoned(sp: usize) -> bool {
    let task = current();
    arch::cpu::preempt_count() == 0 && task.stack_contains(sp) && task.has_rescue()
}

/// Ends the running task from the middle of whatever it does. Returns how many sleeping locks stay locked for ever
/// through `note` (debug builds know; 0 in release builds). The caller has asked [`can_be_abandoned`].
pub fn abandon(note: impl FnOnce(usize)) -> ! {
    let task = current();
    let rescue = task.take_rescue();
    task.set_abandoned();
    task.set_running();
    note(task.forget_held_locks());
    arch::irq::enable();
    might_sleep();
    if let Some(Rescue { call, run }) = rescue {
        // SAFETY: 1. `run` was made for this `call` by `with_rescue`; 2. taken out, it runs once.
        unsafe { run(call) };
    }
    exit()
}
