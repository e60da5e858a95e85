//! Terminals.
//!
//! **Problem.** A serial line and the two ends of a pseudo-terminal must look the same to a program:
//! lines to edit, keys that send signals, one foreground group, a window size, a hang-up.
//!
//! **Interface.** [`Tty`] is a terminal; what is below it implements [`Hardware`] (a UART's driver, or
//! the master end in [`pty`]). Input comes in by [`Tty::input`], in process context. [`TtyFile`] is an
//! open terminal, [`pty::MasterFile`] an open master. [`register`] puts a terminal where /dev finds it.
//!
//! **Idea.** The line discipline is the pure machine of `lib/ldisc`; here it gets a lock, wait queues,
//! and job control. Echo and output go through one spin lock, so that they never mix within a chunk.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod control;
pub mod devices;
mod file;
mod ioctl;
pub mod pty;
mod serial;
mod tty;

pub use file::TtyFile;
pub use serial::SerialInput;
pub use tty::{Hardware, Tty, by_device, console, register, set_console};
