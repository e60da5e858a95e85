//! The virtual file system: names, files, descriptors, and what waits on them.
//!
//! **Problem.** Programs see one tree of files, whatever is behind each: memory, a device, a pipe, a text
//! made up at the moment of reading. They share open files, wait for many at once, and must not reach what
//! they may not.
//!
//! **Interface.** Three layers, each of which can be read alone:
//!
//! | layer | items |
//! |---|---|
//! | who asks | [`Cred`] (ids, capabilities), [`FsContext`] (root, cwd, umask), both together: [`Caller`] |
//! | names | [`Dentry`], [`Mount`], [`Path`] = a dentry seen through a mount; [`walk`] resolves paths, [`namei`] makes, removes and renames names, [`mount`](mod@mount) changes the tree, [`attr`] reads and changes attributes, [`open`] opens |
//! | open files | [`File`] and [`FileTable`]; [`IoBuf`] is the program's memory in a read or write; [`poll`], [`epoll`], [`pipe`], [`eventfd`], [`locks`], [`leases`], [`splice`] |
//! | who watches | [`notify`] tells of what happens to files, [`dnotify`] by signals |
//!
//! A file system implements [`FsType`], [`SuperOps`], [`InodeOps`] and [`FileOps`]; a driver registers
//! an opener with [`device`] and implements [`FileOps`].
//!
//! **Idea.** What is looked at often does not change: an inode behind a dentry never does, attributes are
//! atomics. So a path walk takes one short lock a component and stat takes none at all. Objects only ever
//! *try*; one function ([`File::wait_ready`]) sleeps for all of them. Who asks is an argument: nothing here
//! knows a current process.
//!
//! Lock order: mount tree, rename, position, contents of an inode (parent before child), pipe buffers,
//! then the spin locks: descriptor table, dentry, cache bucket.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acl;
pub mod anon;
pub mod attr;
pub mod cached;
mod cred;
pub mod dcache;
mod dentry;
pub mod device;
mod dir;
pub mod dnotify;
pub mod epoll;
pub mod eventfd;
mod fdtable;
mod file;
mod fs_context;
pub mod handle;
pub mod initramfs;
mod inode;
mod iobuf;
pub mod leases;
pub mod locks;
pub mod mount;
pub mod mount_stat;
pub mod mount_steps;
pub mod namei;
pub mod notify;
pub mod nsfs;
pub mod open;
mod path;
pub mod permission;
pub mod pipe;
pub mod poll;
pub mod random;
mod seek;
pub mod sigio;
pub mod splice;
mod superblock;
pub mod text;
pub mod walk;

pub use attr::{Attr, NewTime, SetAttr};
pub use cred::{CapSet, Cred};
pub use dentry::Dentry;
pub use dir::{DirSink, emit_dots};
pub use fdtable::{FileTable, Lookup, MAX_FDS, Reserved};
pub use file::{Extent, File, FileMode, FileOps, FileTraits, OpsRef, Owner, open_files};
pub use fs_context::{Caller, FsContext};
pub use inode::{
    FileExtent, FileType, Inode, InodeFlags, InodeOps, InodeRef, LastState, Link, NewInode, Rename, TimeNs,
    inode_total, now_ns,
};
pub use iobuf::{IoBuf, Segment};
pub use mount::{Mount, MountFlags};
pub use open::OpenHow;
pub use path::Path;
pub use poll::PollTable;
pub use seek::generic_seek;
pub use superblock::{
    FsType, NewSuper, PlainSuper, SuperBlock, SuperOps, TrimRange, find_filesystem, mount_options,
    register_filesystem, show_filesystems,
};
pub use walk::{Look, Start, resolve};

/// Makes the caches. Once, at boot, before the first file system is mounted; `memory_bytes` sizes them,
/// `entropy` seeds the random numbers (and the keys of hash tables).
pub fn init(memory_bytes: u64, entropy: &[u8]) {
    random::seed(entropy);
    dcache::init(memory_bytes, random::next_u64());
    anon::init();
    file::init();
}

/// Gives cached memory back under pressure: up to `pages` pages' worth of names. Returns an estimate of the
/// pages freed.
pub fn shrink(pages: usize) -> usize {
    // A name with its inode is some 600 bytes.
    const PER_PAGE: usize = arch::PAGE_SIZE / 600;
    dcache::shrink(pages.saturating_mul(PER_PAGE)).div_ceil(PER_PAGE)
}
