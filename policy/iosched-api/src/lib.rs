//! The contract between the block layer and an I/O scheduler.
//!
//! **Problem.** Which of the waiting requests a disk serves next is an algorithm one wants to read in one
//! sitting, test on the host, run against a modelled disk and replace while the machine runs. How a request
//! gets to the device is not. So the two meet at one trait.
//!
//! **Interface.** A scheduler is a value that implements [`Scheduler`], made by a [`SchedulerInfo`]. It is
//! called under the queue's lock, possibly in an interrupt handler, and allocates nothing after it was made
//! for a number of [`Id`]s. It knows a request by what [`Request`] says and time as nanoseconds that the
//! caller passes in.
//!
//! **Idea.** The policy proposes, the mechanism (`iosched-queue`) checks: a scheduler can be unfair or
//! wrong, it cannot start a request twice or lose one, because the mechanism keeps its own table. Flushes
//! and what must not be reordered around them never reach a scheduler.
//!
//! [`Sorted`] is what most of them are made of: requests of one kind by sector and in order of arrival.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod owners;
mod request;
mod scheduler;
mod sorted;

pub use owners::{Owner, Owners};
pub use request::{Dir, Id, IoClass, IoPrio, Request, Side};
pub use scheduler::{Next, NoMemory, Scheduler, SchedulerInfo, Tunable, TunableError};
pub use sorted::{List, Node, Nodes, Sorted};

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
