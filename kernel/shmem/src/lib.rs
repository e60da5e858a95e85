//! Files in memory: what tmpfs, devtmpfs, the root file system and memfd_create(2) are made of.
//!
//! **Problem.** Several file systems keep everything in memory, within a limit, and differ only in how
//! they are mounted and who makes their files. (Linux's mm/shmem.c.)
//!
//! **Interface.** [`Shmem::new_root`] makes an instance. [`memfd`] makes a file without a name, [`seals`]
//! and [`add_seals`] are fcntl(2)'s.
//!
//! **Idea.** A regular file is its page-cache mapping and nothing else: pages are taken when they are
//! written and charged to the instance's [`Space`]; a hole costs nothing. A directory keeps its entries
//! twice, by name and by position, so that reading goes on where it stopped whatever came and went.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod dir;
mod file;
mod node;
mod space;

pub use file::{add_seals, memfd, seals};
pub use node::{Options, Shmem};
pub use space::Space;
