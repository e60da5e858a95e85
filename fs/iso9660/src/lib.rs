//! ISO 9660 in the kernel, read only: lib/iso9660 between the file layer, the page cache and the block layer.
//!
//! **Interface.** The file system type `iso9660`. Mount options: norock, nojoliet, uid, gid, mode, dmode (the last two
//! where there is no Rock Ridge), and those that change nothing here (see [`instance`]).
//!
//! **Idea.** Nothing ever changes, so that an inode is what one record said, and nothing is locked but the table of
//! inodes in use. That table also knows each directory's parent: a directory that is below itself is ELOOP.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod file;
mod inode;
mod instance;

use abi::errno::Result;
use abi::{Errno, fs::MS_RDONLY};
use alloc::sync::Arc;
use vfs::{Caller, Dentry, FsType, register_filesystem};

struct Iso;

impl FsType for Iso {
    fn name(&self) -> &'static str {
        "iso9660"
    }

    fn needs_device(&self) -> bool {
        true
    }

    fn mount(&self, source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
        let options = instance::parse(data)?;
        // As Linux: mount(8) then tries again with "ro".
        if flags & MS_RDONLY == 0 && !options.read_only {
            return Err(Errno::EACCES);
        }
        instance::mount(source, block::at_path(caller, source)?, options)
    }
}

/// Makes it mountable. At boot.
pub fn init() -> Result<()> {
    register_filesystem(&Iso)
}
