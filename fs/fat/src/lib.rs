//! FAT with long names (vfat) in the kernel: lib/fat between the file layer, the page cache and the block layer.
//!
//! **Interface.** The file system type `vfat`, for FAT12, FAT16 and FAT32. Mount options in [`options`].
//!
//! | part | gives |
//! |---|---|
//! | [`disk`] | bytes of the device to lib/fat; what it changed, until that is written |
//! | [`instance`] | one mounted file system: its lock, its inodes in use |
//! | [`inode`], [`file`] | names, attributes, open files to the file layer |
//! | [`data`] | pages to the page cache |
//! | [`worker`] | the thread that writes metadata some seconds after it changed |
//!
//! **Idea.** One lock for all metadata of a mount (`FatVolume`), below the file layer's and above the page cache's.
//! Contents never pass it: they go between the page cache and the clusters' places. A file's clusters are chosen when
//! it is written, before the page cache is filled; there are no holes, so that a file which grows past its end is
//! filled with zeroes.
//!
//! FAT has no owners, few permissions, and times in steps of two seconds: what it cannot keep is refused or ignored as on
//! Linux. Reading does not change access times.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod data;
mod disk;
mod file;
mod inode;
mod instance;
mod options;
mod worker;

use abi::errno::Result;
use alloc::sync::Arc;
use vfs::{Caller, Dentry, FsType, register_filesystem};

struct Vfat;

impl FsType for Vfat {
    fn name(&self) -> &'static str {
        "vfat"
    }

    fn needs_device(&self) -> bool {
        true
    }

    fn mount(&self, source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
        let options = options::parse(flags, data, caller)?;
        instance::mount(source, block::at_path(caller, source)?, options)
    }
}

/// Makes it mountable. At boot.
pub fn init() -> Result<()> {
    register_filesystem(&Vfat)
}
