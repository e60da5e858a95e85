//! Inodes of kernel objects that are in no tree: pipes, eventfd, epoll (Linux's pipefs and anon_inodefs).

use crate::dentry::Dentry;
use crate::file::{File, OpsRef};
use crate::inode::{InodeFlags, InodeOps, InodeRef, NewInode};
use crate::mount::{Mount, kernel_mount};
use crate::open::pseudo_file;
use crate::superblock::{NewSuper, PlainSuper, SuperBlock};
use abi::stat::{ANON_INODE_FS_MAGIC, PIPEFS_MAGIC, S_IFDIR};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use sync::Once;

struct Anon {
    mount: Arc<Mount>,
    pipes: Arc<SuperBlock>,
    /// All objects without an inode of their own share this one, as on Linux.
    shared: InodeRef,
}

static ANON: Once<Anon> = Once::new();

/// An inode that does nothing but exist.
pub struct AnonInode;

impl InodeOps for AnonInode {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn superblock(name: &'static str, magic: u32) -> Arc<SuperBlock> {
    NewSuper { fs_name: name, source: String::new(), magic, read_only: false, ops: Box::new(PlainSuper) }
        .build()
}

/// Once, at boot.
pub(crate) fn init() {
    let anon = superblock("anon_inodefs", ANON_INODE_FS_MAGIC);
    let root = NewInode::new(anon.next_ino(), S_IFDIR | 0o500).build(&anon, AnonInode);
    let mut shared = NewInode::new(anon.next_ino(), 0o600);
    shared.flags = InodeFlags::PSEUDO | InodeFlags::NO_ATIME;
    let shared: InodeRef = shared.build(&anon, AnonInode);
    let mount = kernel_mount(Dentry::root(b"/", root));
    let _ = ANON.set(Anon { mount, pipes: superblock("pipefs", PIPEFS_MAGIC), shared });
}

/// The mount that paths of kernel objects go through.
pub fn mount() -> &'static Arc<Mount> {
    &ANON.get_expect().mount
}

pub(crate) fn pipe_sb() -> &'static Arc<SuperBlock> {
    &ANON.get_expect().pipes
}

/// A file for an object, shown as `anon_inode:NAME` in /proc/PID/fd; `name` is "\[eventfd\]" and the like.
pub fn file(name: &str, ops: OpsRef, flags: u32) -> Arc<File> {
    let full = alloc::format!("anon_inode:{name}");
    pseudo_file(full.as_bytes(), ANON.get_expect().shared.clone(), ops, flags)
}
