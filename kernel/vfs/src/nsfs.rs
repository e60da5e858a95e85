//! Namespaces as files: what the links in /proc/PID/ns lead to (namespaces(7)).
//!
//! There is one namespace of each kind. Each has an inode, with the number that Linux gives the first one, so that
//! programs which compare them (lsns, nsenter, container managers) see that all processes share them.

use crate::anon;
use crate::dentry::Dentry;
use crate::file::{File, FileOps, OpsRef};
use crate::fs_context::Caller;
use crate::inode::{InodeFlags, InodeOps, InodeRef, NewInode};
use crate::path::Path;
use crate::superblock::{NewSuper, PlainSuper, SuperBlock};
use abi::process::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER,
    CLONE_NEWUTS,
};
use abi::stat::S_IFREG;
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use sync::Once;

const NSFS_MAGIC: u32 = 0x6e73_6673;
/// ioctl_ns(2): a descriptor of the user namespace that owns this one.
pub const NS_GET_USERNS: u32 = 0xb701;
/// A descriptor of the namespace above.
pub const NS_GET_PARENT: u32 = 0xb702;
/// Which CLONE_NEW* flag makes such a namespace.
const NS_GET_NSTYPE: u32 = 0xb703;
/// The user who made a user namespace.
const NS_GET_OWNER_UID: u32 = 0xb704;

/// A kind of namespace.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// Inode number of the one there is.
    pub number: u64,
    /// The `CLONE_NEW*` that makes one.
    pub flag: u64,
}

const fn kind(name: &'static str, number: u64, flag: u64) -> Kind {
    Kind { name, number, flag }
}

/// All kinds; numbers are Linux's (include/linux/proc_ns.h; mnt and net are the first two that it gives out).
pub static KINDS: [Kind; 8] = [
    kind("cgroup", 0xefff_fffb, CLONE_NEWCGROUP),
    kind("ipc", 0xefff_ffff, CLONE_NEWIPC),
    kind("mnt", 0xf000_0001, CLONE_NEWNS),
    kind("net", 0xf000_0000, CLONE_NEWNET),
    kind("pid", 0xefff_fffc, CLONE_NEWPID),
    kind("time", 0xefff_fffa, CLONE_NEWTIME),
    kind("user", 0xefff_fffd, CLONE_NEWUSER),
    kind("uts", 0xefff_fffe, CLONE_NEWUTS),
];

struct Namespace(&'static Kind);

impl InodeOps for Namespace {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn open(&self, _inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        Ok(OpsRef::shared(OpenNamespace(self.0)))
    }
}

struct OpenNamespace(&'static Kind);

impl FileOps for OpenNamespace {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        const ROOT: u32 = 0;
        match command {
            NS_GET_NSTYPE => Ok(self.0.flag as usize),
            NS_GET_OWNER_UID if self.0.flag != CLONE_NEWUSER => Err(Errno::EINVAL),
            NS_GET_OWNER_UID => {
                mem::user::write(argument, &ROOT.to_ne_bytes()).map(|()| 0).map_err(|_| Errno::EFAULT)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}

/// What NS_GET_USERNS and NS_GET_PARENT open: the user namespace that owns one of `kind`, or the one above. EPERM where
/// there is none, since there is one of each kind; EINVAL above kinds that are not nested.
pub fn related(kind: &Kind, command: u32) -> Result<&'static Kind> {
    let user = KINDS.iter().find(|kind| kind.flag == CLONE_NEWUSER);
    match (command, kind.flag) {
        (NS_GET_USERNS, CLONE_NEWUSER) | (NS_GET_PARENT, CLONE_NEWUSER | CLONE_NEWPID) => Err(Errno::EPERM),
        (NS_GET_USERNS, _) => user.ok_or(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// The kind of namespace that a file stands for; `None` for any other file.
pub fn kind_of(file: &File) -> Option<&'static Kind> {
    file.ops_as::<OpenNamespace>().map(|open| open.0)
}

fn superblock() -> &'static Arc<SuperBlock> {
    static SUPER: Once<Arc<SuperBlock>> = Once::new();
    if SUPER.get().is_none() {
        let ops = Box::new(PlainSuper);
        let new =
            NewSuper { fs_name: "nsfs", source: String::new(), magic: NSFS_MAGIC, read_only: false, ops };
        // Two may both make it; the first stays.
        let _ = SUPER.set(new.build());
    }
    SUPER.get_expect()
}

/// The file of the namespace of a kind.
pub fn path(kind: &'static Kind) -> Path {
    let mut new = NewInode::new(kind.number, S_IFREG | 0o444);
    new.flags = InodeFlags::PSEUDO | InodeFlags::NO_ATIME;
    let name = format!("{}:[{}]", kind.name, kind.number);
    let inode: InodeRef = new.build(superblock(), Namespace(kind));
    Path::new(anon::mount().clone(), Dentry::root(name.as_bytes(), inode))
}
