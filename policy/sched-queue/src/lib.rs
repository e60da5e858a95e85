//! One CPU's run queue: the classes in their order, and a check of everything a policy answers.
//!
//! **Problem.** Between the policies, which may be wrong, and the switching of tasks, which may not,
//! something must know which tasks are in the queue, whatever a policy thinks. That something is worth
//! testing on the host and using in the simulator, so it knows no kernel type either.
//!
//! **Interface.** [`CpuQueue<T>`], where `T` is how the owner names a task (`Arc<Task>` in the kernel, a
//! number in the simulator). Tasks are [`add`](CpuQueue::add)ed and [`remove`](CpuQueue::remove)d,
//! [`pick`](CpuQueue::pick) says who runs, [`tick`](CpuQueue::tick) and
//! [`next_event`](CpuQueue::next_event) drive preemption. All calls carry the time; the owner serialises
//! them (run-queue lock).
//!
//! **Idea.** A table of slots is the truth: every task in the queue has one, with its class and state. A
//! policy only ever names a slot, and the slot must say that the task waits in that policy's class:
//!
//! ```text
//!   pick:   stop? -> rt? (unless the fair server says it is the fair class's turn) -> fair? -> idle
//!                                                   |
//!                            policy says slot 7     v
//!                   slots: [ .. | 7: task, Fair, Waiting | .. ]   ok: run it
//!                               | 7: empty / asleep / other class  -> Fault
//! ```
//!
//! After a fault the fair policy is not asked again. The queue itself serves its fair tasks in turn,
//! slowly but surely, until the owner installs another policy ([`CpuQueue::swap_fair`]).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod queue;
mod slots;
#[cfg(test)]
mod tests;
mod watchdog;

pub use queue::{Added, CpuQueue, Removed};
pub use slots::State;
pub use watchdog::Fault;
