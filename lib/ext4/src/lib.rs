//! ext4: formats and algorithms, over any environment.
//!
//! **Problem.** A file system must keep its promises when power fails between any two writes, must not trust what the
//! medium says, and must let operations on different files run at once. None of that can be tested well inside a
//! kernel.
//!
//! **Interface.** [`Fs::mount`] over an [`Env`], which gives blocks, locks and a clock. Then, by topic:
//!
//! | topic | where |
//! |---|---|
//! | names | [`dir`]: lookup, reading; [`namei`]: create, link, unlink, rename |
//! | data | [`map`]: places of blocks, write-back; [`truncate`]: length, holes, deletion; [`shift`]: ranges zeroed, taken out, put in |
//! | attributes | [`inode`], [`xattr`] |
//! | durability | [`journal`]: handles, commit, replay; [`orphan`] |
//! | room | [`balloc`], [`ialloc`], [`group`]; [`trim`]: discard |
//! | formats | [`layout`], [`extent`], [`indirect`], [`dir::block`], [`dir::index`] |
//!
//! **Idea.** The code runs in the kernel and on the host, the same lines: host tests mount what mke2fs made, do
//! thousands of operations, cut the power between writes, and let e2fsck judge. Blocks are changed only under a
//! journal handle, and an operation asks for what may fail before it changes anything.
//!
//! **Who excludes whom.** The caller: changes of one directory against everything else in it, and truncation of a file
//! against its writers. Inside: a lock per inode, a lock per block group, short locks in cache and journal. The order
//! is in [`env`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

pub mod balloc;
mod bits;
mod cache;
mod crc;
mod delayed;
pub mod dir;
pub mod env;
pub mod extent;
pub mod fs;
mod group;
mod ialloc;
mod indirect;
pub mod inode;
pub mod journal;
pub mod layout;
pub mod map;
pub mod namei;
pub mod orphan;
pub mod shift;
pub mod trim;
pub mod truncate;
pub mod xattr;

use abi::Errno;

pub use cache::Cache;
pub use env::{Bytes, Env, Event, Lock, Write};
pub use fs::{Fs, Geometry, Options, Usage};
pub use inode::{Change, Node, Stat, Times};
pub use map::{Piece, Place, Run};

/// What Linux returns for a wrong structure and for a wrong checksum.
pub(crate) const DAMAGED: Errno = Errno::EUCLEAN;
pub(crate) const BAD_CSUM: Errno = Errno::EBADMSG;
