//! devtmpfs: /dev, filled by the kernel; and the memory devices null, zero, full, random, urandom, kmsg.
//!
//! One instance for the whole machine: every mount shows the same nodes. Drivers announce theirs with
//! [`vfs::device::add_node`]; programs may add and remove names as in any tmpfs.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod kmsg;
mod memory;

use abi::stat::TMPFS_MAGIC;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use shmem::{Options, Shmem};
use sync::Once;
use vfs::device::{self, Node};
use vfs::namei::{self, New};
use vfs::{Caller, Cred, Dentry, FsContext, FsType, Path, Start, register_filesystem};

struct Devtmpfs;

static ROOT: Once<Path> = Once::new();

impl FsType for Devtmpfs {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }

    fn mount(&self, _source: &[u8], _flags: u64, _data: &[u8], _caller: &Caller) -> Result<Arc<Dentry>> {
        ROOT.get().map(|root| root.dentry.clone()).ok_or(Errno::ENODEV)
    }
}

/// Makes the instance, the memory devices and the nodes announced so far. At boot.
pub fn init() -> Result<()> {
    memory::init()?;
    let options = Options { max_pages: 0, max_inodes: 0, mode: 0o755, uid: 0, gid: 0 };
    let keep = |_: &[u8]| Ok((None, None));
    let root = Shmem::new_root("devtmpfs", TMPFS_MAGIC, b"devtmpfs", false, options, (0, 0), keep)?;
    let path = Path::new(vfs::mount::kernel_mount(root.clone()), root);
    ROOT.set(path).map_err(|_| Errno::EBUSY)?;
    for node in device::listen(changed) {
        changed(&node, true);
    }
    register_filesystem(&Devtmpfs)
}

/// A driver announced a node or took it back. What a program put in its place stays.
fn changed(node: &Node, added: bool) {
    let Some(root) = ROOT.get() else { return };
    let cred = Cred::root();
    let fs = FsContext::new(root.clone());
    fs.set_umask(0);
    let caller = Caller::new(&cred, &fs);
    let name = node.name.as_bytes();
    let result = if added {
        make_parents(&caller, name);
        let mode = node.kind.mode_bits() | node.mode;
        namei::make(&caller, Start::Cwd, name, New::Node { mode, dev: node.dev })
    } else {
        namei::unlink(&caller, Start::Cwd, name)
    };
    // EEXIST and ENOENT: a program was there first.
    let _ = result;
}

fn make_parents(caller: &Caller, name: &[u8]) {
    for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let _ = namei::make(caller, Start::Cwd, &name[..at], New::Directory { mode: 0o755 });
    }
}
