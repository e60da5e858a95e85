//! Loop devices: files as disks, loop(4).
//!
//! **Problem.** A file that holds a file system is to be mounted, or partitioned, like a disk.
//!
//! **Interface.** `/dev/loop-control` finds a free device and makes it ([`control`]); the ioctls of `/dev/loopN`
//! bind a file to it.
//!
//! **Idea.** Each device has a thread that does with the file what a request says, through the file's page
//! cache. Requests are handed over under a spin lock, as [`block::Driver::queue_rq`] may not sleep. A flush
//! is an fsync of the file, a discard a hole in it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bind;
mod control;
mod worker;

pub use control::init;
