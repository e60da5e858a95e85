//! System calls: one line each in [`table`], one file per family of man pages.
//!
//! **Problem.** A number and six words from a program become a call of the kernel, and one word goes back.
//!
//! **Interface.** [`install`] hands the table to the user loop. A handler is
//! `pub fn read(ctx: &mut Ctx, fd: i32, buf: usize, len: usize) -> Result<usize>`: it fetches the object,
//! wraps the user memory, calls, and returns one errno. Arguments are converted by [`arg::Arg`] as the C
//! types of Linux's prototypes would be (an `i32` takes the low half of the register).
//!
//! **Idea.** The table is a dense array of function pointers made at compile time from the lines in
//! [`table`], with the numbers of both architectures side by side. Tracing costs nothing when it is off:
//! a traced thread uses a second table whose every entry is [`trace::traced`]. The lab's calls have numbers
//! that Linux will not reach, far behind the array, and are found where numbers beyond it end up.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod arg;
mod attributes;
mod creds;
pub mod enosys;
mod fs;
mod futex;
mod handles;
mod ipc;
mod lab;
mod mm;
mod mounts;
mod mqueue;
mod notify;
mod path;
mod poll;
mod process;
mod ptrace;
mod sched;
mod signal;
mod socket;
mod swap;
mod sys;
pub mod table;
mod time;
pub mod trace;
mod xattr;

pub use arg::Arg;
pub use table::{arguments, name, number};

pub(crate) use abi::Errno;
pub(crate) use kcore::{Ctx, Result};

/// Gives the system calls to the user loop. Once, at boot.
pub fn install() {
    ::socket::set_caller(socket::with_current_party);
    kcore::user::install_calls(kcore::user::Calls {
        plain: &table::CALLS,
        traced: &table::TRACED_CALLS,
        beyond: table::beyond,
    });
}
