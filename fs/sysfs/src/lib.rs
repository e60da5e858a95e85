//! sysfs and debugfs: the kernel's objects and settings as files.
//!
//! Both show a tree that every layer registers its files in ([`kernfs::SYS`], [`kernfs::DEBUG`]); here are only
//! the mountable types and the directories that exist for others to mount on. Source: sysfs(5).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::errno::Result;
use alloc::sync::Arc;
use kernfs::{DEBUG, KernFs, Node, SYS, SubTree, Tree, roots};
use vfs::register_filesystem;

const SYSFS_MAGIC: u32 = 0x6265_6572;
const DEBUGFS_MAGIC: u32 = 0x6462_6720;

static SYSFS: KernFs = KernFs { name: "sysfs", magic: SYSFS_MAGIC, root: || roots::root(&SYS) };
static DEBUGFS: KernFs = KernFs { name: "debugfs", magic: DEBUGFS_MAGIC, root: || roots::root(&DEBUG) };

/// Makes both mountable. At boot.
pub fn init() -> Result<()> {
    SYS.add("kernel/debug", Node::Dir(Arc::new(SubTree(Tree::new()))));
    register_filesystem(&SYSFS)?;
    register_filesystem(&DEBUGFS)
}
