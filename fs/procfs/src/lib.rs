//! procfs: processes and the system as files (proc(5)).
//!
//! ```text
//!   /proc  what every layer registered in kernfs::PROC ........ system, sysctl, here; others elsewhere
//!          self, thread-self .................................. links
//!          PID/  a table of entries ........................... entries
//!                fd/ fdinfo/ ................................... fds
//!                task/TID/  the same table, of a thread ........ entries
//! ```
//!
//! The texts themselves are made by the layer that owns what they tell about (`kcore::show`, `sched::show`,
//! `vm`, `vfs`); here is which file has which text, and who may read it. Nothing here keeps a process: a
//! directory knows its number and start, and looks it up each time.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod entries;
mod fds;
mod kmsg;
mod links;
mod memory;
mod mounting;
mod namespaces;
mod root;
mod sysctl;
mod system;
mod texts;

use abi::errno::Result;

/// Makes procfs mountable and registers the system's files. At boot; `command_line` is the kernel's.
pub fn init(command_line: &'static str) -> Result<()> {
    system::register(command_line);
    sysctl::register();
    vfs::register_filesystem(&mounting::PROCFS)
}
