//! FAT12, FAT16 and FAT32 with long names (VFAT), over any disk.
//!
//! **Problem.** Every memory card and firmware partition has it. A file is found by the place of its 32 bytes in a
//! directory, and has no inode: what is open must survive that its name moves or goes. Nothing on the medium can be
//! believed: chains may run in circles, two files may claim a cluster, directories may contain themselves.
//!
//! **Interface.** [`Fs::mount`] over a [`Disk`]; then files by number: [`Fs::lookup`], [`Fs::read_dir`],
//! [`Fs::create`], [`Fs::unlink`], [`Fs::rename`], and for contents [`Fs::map`], [`Fs::reserve`], [`Fs::resize`]. The
//! caller moves the contents themselves.
//!
//! | part | knows |
//! |---|---|
//! | [`boot`] | the first sector: where what is |
//! | [`table`] | the allocation table: links between clusters, free ones |
//! | [`chain`] | which cluster is the n-th of a file, without walking there each time |
//! | [`slot`], [`name`], [`time`] | the 32 bytes of an entry; names; dates |
//! | [`dir`] | entries of a directory: finding, room for new ones |
//! | [`fs`] | files in use, and what is done with them |
//!
//! **Idea.** A file in use is a [`Node`] in a table by number. Its number is made from the place of its entry when it is
//! first seen, and stays when the entry moves; a removed file keeps its clusters until [`Fs::forget`]. All calls take
//! `&mut`: one lock for a mounted file system, since they all meet in one table anyway.
//!
//! Crates that exist keep an open file as a borrow of its file system, free the clusters of a removed file at once,
//! and write its entry back to where it was, so that they cannot stand behind inodes; so this is no such crate.
//!
//! Source: Microsoft, "FAT: General Overview of On-Disk Format", 1.03; what Linux does where that is silent.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

pub mod boot;
pub mod chain;
pub mod dir;
pub mod fs;
pub mod name;
pub mod slot;
pub mod table;
pub mod time;

use abi::errno::Result;

pub use boot::{Geometry, Kind};
pub use fs::{Fs, ROOT, Stat, Usage};
pub use fs::{Node, Rename};
pub use slot::Times;

/// The bytes of a medium. What was written is there for the next read; when it is durable is the implementor's business.
pub trait Disk {
    /// Fills `out` from byte `at` on. EIO beyond the end.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()>;

    /// Writes at byte `at`.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;

    /// What was written to these `len` bytes need not get to the medium: they are nobody's any more.
    fn forget(&mut self, _at: u64, _len: u64) {}
}
