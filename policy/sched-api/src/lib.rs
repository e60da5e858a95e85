//! The contract between the scheduling mechanism and a scheduling policy.
//!
//! **Problem.** Which task runs next is an algorithm one wants to read in one sitting, test on the
//! host, run under a virtual clock and replace while the machine runs. How a CPU is switched from one
//! task to another is not. So the two meet at one trait.
//!
//! **Interface.** A policy is a value that implements [`SchedPolicy`]. There is one instance per CPU
//! (per run queue) and class; it is called under that run queue's lock, with interrupts off, and knows
//! nothing of other CPUs. It speaks of tasks as [`Slot`]s, of wishes as [`Params`], of time as
//! nanoseconds that the caller passes in. What a task must not forget while it is in no queue (asleep,
//! or on its way to another CPU) travels as a [`Carry`], which every policy of a class understands, so
//! that a policy can be swapped for another with all tasks queued.
//!
//! **Idea.** The policy proposes, the mechanism (`sched-queue`) checks. A policy can be unfair, slow or
//! wrong; it cannot make a task run that is not runnable, run one twice or lose one, because the
//! mechanism keeps its own table of what is in the queue and asks the policy only for a number into it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod params;
mod policy;
mod tunable;
pub mod weight;

pub use params::{Carry, Class, MAX_RT_PRIO, Params, QueueId, SLICE_MAX_NS, SLICE_MIN_NS, SchedKind};
pub use policy::{Dequeue, Dequeued, Enqueue, NoMemory, Pick, SchedPolicy, Slot, Stat};
pub use tunable::{PolicyInfo, QueueConfig, TunableError, cpu_factor};
