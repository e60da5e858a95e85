//! The Linux application binary interface: what a program compiled for Linux takes for granted.
//!
//! Numbers, flags and structure layouts by subject, one file per family of man pages. Layouts are
//! asserted at compile time. Sources: the uapi headers of Linux 6.12 and the man pages named in each
//! file. Nothing here knows how the kernel works.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod block;
pub mod cap;
pub mod errno;
pub mod fcntl;
pub mod fs;
pub mod futex;
pub mod inotify;
pub mod ipc;
pub mod layout;
pub mod mm;
pub mod poll;
pub mod process;
pub mod ptrace;
pub mod resource;
pub mod rseq;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod stat;
pub mod time;
pub mod tty;

pub use errno::Errno;
pub mod vdso;
