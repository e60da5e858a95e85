//! POSIX message queues: mq_overview(7).
//!
//! **Problem.** Queues of messages with priorities that have names like files, are waited for like pipes, and tell one
//! process by a signal when a message comes into an empty queue.
//!
//! **Interface.** [`open`] and [`unlink`] go by name in the one instance of the file system `mqueue`, which anybody may
//! mount; [`of_file`] gives the [`Queue`] behind a descriptor, on which messages are sent and received.
//!
//! **Idea.** A queue is an inode, and a descriptor of it an ordinary open file: names, rights, poll and sharing over fork
//! are the file layer's. What a new queue is to hold comes by [`open`] alone, while making a file has no argument for it:
//! it is left for the file system under the thread's number.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod fs;
mod limits;
mod queue;

pub use fs::{init, open, unlink};
pub use queue::{Message, Queue, Wanted, of_file};

/// What a queue holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub messages: u64,
    /// Of one message.
    pub bytes: u64,
}
