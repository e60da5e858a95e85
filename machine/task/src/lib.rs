//! Tasks: kernel stacks, the switch between them, sleeping and waking.
//!
//! **Problem.** A thread of execution must be able to stop anywhere in the kernel and go on later, on
//! another CPU, without any code above this crate being `unsafe`.
//!
//! **Interface.** [`Task`] is what is scheduled; [`current`] is the one that runs here. [`WaitQueue`] is
//! how a task waits for a condition, [`Mutex`] and [`RwSemaphore`] are the locks that sleep. Which task
//! runs next is not decided here: the scheduler ([`Scheduler`], installed once) decides and calls
//! [`switch_to`].
//!
//! **Idea.** Sleeping is a protocol over one atomic word, [`State`]: the sleeper announces the state,
//! looks at its condition once more, and calls [`schedule`]; the waker makes the condition true and then
//! turns the state back ([`Task::wake`]). Whichever order the two meet in, one of them sees the other.
//! The rule for the scheduler that makes this safe on several CPUs is written at [`Scheduler`].

#![no_std]

extern crate alloc;

mod inspect;
pub mod kthreads;
mod mutex;
mod rescue;
mod rwsem;
mod scheduler;
mod slot;
mod task;
mod wait;

pub use inspect::{UserPlace, with_user};
pub use mutex::{Mutex, MutexGuard, Stacked, assert_nothing_held, stacked};
pub use rescue::{abandon, can_be_abandoned, with_rescue};
pub use rwsem::{RwSemaphore, SemReadGuard, SemWriteGuard};
pub use scheduler::{
    Scheduler, TimeoutHandle, TimeoutSource, install_scheduler, install_timeouts, might_sleep, schedule,
    scheduler, sleep_for_ns, sleep_until, yield_now,
};
pub use slot::SchedSlot;
pub use task::{
    Current, NewTask, State, Task, TaskId, adopt_boot_context, current, exit, finish_switch, switch_to,
};
pub use wait::{Subscription, WaitEnd, WaitMode, WaitQueue, WakeCallback, wait_alone, wait_any};
