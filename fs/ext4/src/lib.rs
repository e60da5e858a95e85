//! ext4 (and ext2, ext3) in the kernel: lib/ext4 between the file layer, the page cache and the block layer.
//!
//! **Problem.** lib/ext4 knows how the medium works and what must happen in which order; it knows no page, no inode of
//! the file layer and no device.
//!
//! **Interface.** The file system types `ext4`, `ext3` and `ext2`. Mount options: ro, rw, noload (norecovery),
//! errors=continue|remount-ro|panic, discard, data=ordered, barrier, and those that change nothing here (see [`options`]).
//!
//! **Idea.** Four small parts:
//!
//! | part | gives |
//! |---|---|
//! | [`env`] | blocks, locks and events to lib/ext4 |
//! | [`instance`] | one mounted file system: its inodes in use, the thread that commits and deletes |
//! | [`inode`], [`file`] | names, attributes, open files to the file layer |
//! | [`data`] | pages to the page cache: delayed allocation, write-back under a journal handle |
//!
//! **Locks.** The file layer's contents lock of an inode, then lib/ext4's handles and locks, then the page cache's.
//! A handle is open while data is on its way to the device; nobody who holds one waits for a page.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod data;
mod direct;
mod env;
mod file;
mod inode;
mod instance;
mod options;
mod worker;

use abi::errno::Result;
use alloc::sync::Arc;
use vfs::{Caller, Dentry, FsType, register_filesystem};

/// One of the names under which it is mounted.
struct Ext(&'static str);

impl FsType for Ext {
    fn name(&self) -> &'static str {
        self.0
    }

    fn needs_device(&self) -> bool {
        true
    }

    fn mount(&self, source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
        instance::mount(self.0, source, block::at_path(caller, source)?, flags, data)
    }
}

static TYPES: [Ext; 3] = [Ext("ext3"), Ext("ext2"), Ext("ext4")];

/// Makes them mountable. At boot.
pub fn init() -> Result<()> {
    TYPES.iter().try_for_each(|fs| register_filesystem(fs))
}

/// The root of the file system on a device: `root=` without an initramfs. `flags` and `data` as of mount(2).
pub fn mount_root(device: Arc<block::BlockDevice>, flags: u64, data: &[u8]) -> Result<Arc<Dentry>> {
    instance::mount("ext4", b"/dev/root", device, flags, data)
}
