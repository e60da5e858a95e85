//! Nodes as inodes.

use crate::open::{OpenRecords, OpenText};
use crate::{Asker, Dir, Kind, Meta, Node};
use abi::Errno;
use abi::errno::Result;
use abi::fcntl::{O_ACCMODE, O_RDONLY};
use abi::stat::{S_IFDIR, S_IFLNK, S_IFREG};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use vfs::{
    Attr, Caller, Dentry, DirSink, File, FileOps, FsType, InodeFlags, InodeOps, InodeRef, Link, NewInode,
    NewSuper, OpsRef, PlainSuper, SuperBlock, SuperOps, emit_dots,
};

/// The inode number of a root directory.
const ROOT_INO: u64 = 1;

/// A file system type that shows one directory. Every mount shows the same.
pub struct KernFs {
    pub name: &'static str,
    /// `f_type` of statfs(2).
    pub magic: u32,
    pub root: fn() -> Arc<dyn Dir>,
}

impl FsType for KernFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn mount(&self, source: &[u8], _flags: u64, _data: &[u8], _caller: &Caller) -> Result<Arc<Dentry>> {
        let ops = alloc::boxed::Box::new(PlainSuper);
        Ok(new_root(self.name, self.magic, source, ops, (self.root)()))
    }
}

/// A new instance of a file system that shows `root`: what [`FsType::mount`] returns.
pub fn new_root(
    fs_name: &'static str,
    magic: u32,
    source: &[u8],
    ops: alloc::boxed::Box<dyn SuperOps>,
    root: Arc<dyn Dir>,
) -> Arc<Dentry> {
    let source = String::from_utf8_lossy(source).into_owned();
    let sb = NewSuper { fs_name, source, magic, read_only: false, ops }.build();
    Dentry::root(b"/", make_inode(&sb, ROOT_INO, Node::Dir(root)))
}

/// The inode number of a name: always the same one, though the inode is made anew when it is looked up
/// again, since programs that walk trees compare it. 48 bits of a mixed hash of parent and name.
fn child_ino(parent: u64, name: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = parent.wrapping_mul(PRIME) ^ name.len() as u64;
    for byte in name {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    (hash.wrapping_mul(PRIME) >> 16).max(ROOT_INO + 1)
}

fn make_inode(sb: &Arc<SuperBlock>, ino: u64, node: Node) -> InodeRef {
    let (kind, mut flags) = match &node {
        Node::Dir(_) => (S_IFDIR, InodeFlags::NO_NEGATIVE | InodeFlags::GETATTR),
        Node::Text(_) | Node::Records(_) | Node::File(_) => (S_IFREG, InodeFlags::empty()),
        Node::Link(link) if link.is_magic() => (S_IFLNK, InodeFlags::MAGIC_LINK),
        Node::Link(_) => (S_IFLNK, InodeFlags::empty()),
    };
    flags |= InodeFlags::NO_ATIME | InodeFlags::REVALIDATE;
    let meta = node.meta();
    let owner = meta.owner();
    if owner.is_some() {
        flags |= InodeFlags::GETATTR;
    }
    let (uid, gid) = owner.unwrap_or_default();
    let new = NewInode { flags, uid, gid, ..NewInode::new(ino, kind | meta.mode()) };
    new.build(sb, NodeOps { node })
}

impl Node {
    pub(crate) fn meta(&self) -> &dyn Meta {
        match self {
            Node::Dir(dir) => &**dir,
            Node::Text(text) => &**text,
            Node::Records(records) => &**records,
            Node::Link(link) => &**link,
            Node::File(file) => &**file,
        }
    }
}

struct NodeOps {
    node: Node,
}

/// The object whose directory an inode is, if it is one of a `T`.
pub fn object_of<T: 'static>(inode: &InodeRef) -> Option<&T> {
    match &inode.ops_as::<NodeOps>()?.node {
        Node::Dir(dir) => dir.object()?.downcast_ref(),
        _ => None,
    }
}

impl InodeOps for NodeOps {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn lookup(&self, dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        let Node::Dir(own) = &self.node else { return Err(Errno::ENOTDIR) };
        Ok(own.lookup(name)?.map(|node| make_inode(&dir.sb, child_ino(dir.ino, name), node)))
    }

    fn create(&self, _: &InodeRef, _: &[u8], _: u32, _: &vfs::Cred) -> Result<InodeRef> {
        Err(Errno::ENOENT)
    }

    fn mkdir(&self, _: &InodeRef, _: &[u8], _: u32, _: &vfs::Cred) -> Result<InodeRef> {
        Err(Errno::ENOENT)
    }

    fn follow(&self, _inode: &InodeRef, caller: &Caller) -> Result<Link> {
        match &self.node {
            Node::Link(link) => link.follow(caller),
            _ => Err(Errno::EINVAL),
        }
    }

    fn readlink(&self, inode: &InodeRef, caller: &Caller) -> Result<Vec<u8>> {
        if let Node::Link(link) = &self.node
            && let Some(text) = link.text(caller)?
        {
            return Ok(text);
        }
        match self.follow(inode, caller)? {
            Link::Text(text) => Ok(text.to_vec()),
            Link::Jump(path) => Ok(path.to_bytes(&caller.fs.root())),
        }
    }

    fn getattr(&self, _inode: &InodeRef, attr: &mut Attr) -> Result<()> {
        let meta = self.node.meta();
        if let Some((uid, gid)) = meta.owner() {
            (attr.uid, attr.gid) = (uid, gid);
        }
        if let Node::Dir(dir) = &self.node {
            attr.nlink = 2 + dir.directories();
        }
        Ok(())
    }

    fn setattr(&self, inode: &InodeRef, set: &vfs::SetAttr) -> Result<()> {
        // What belongs to a process has the rights that the process makes.
        if self.node.meta().owner().is_some()
            && (set.mode.is_some() || set.uid.is_some() || set.gid.is_some())
        {
            return Err(Errno::EPERM);
        }
        // Opening with O_TRUNC, as shells do for `>`, truncates nothing here.
        if set.size.is_none() {
            inode.apply(set);
        }
        Ok(())
    }

    fn permission(&self, _inode: &InodeRef, mask: u32, caller: &Caller) -> Option<Result<()>> {
        self.node.meta().permission(mask, caller)
    }

    fn open(&self, inode: &InodeRef, flags: u32, caller: &Caller) -> Result<OpsRef> {
        let writes = flags & O_ACCMODE != O_RDONLY;
        match &self.node {
            Node::Dir(dir) => Ok(OpsRef::shared(OpenDir { dir: dir.clone(), asker: asker_of(caller) })),
            Node::File(file) => file.open(flags, caller),
            Node::Link(_) => Err(Errno::ELOOP),
            Node::Text(_) | Node::Records(_) if writes && inode.mode() & 0o222 == 0 => Err(Errno::EACCES),
            Node::Records(records) => Ok(OpsRef::shared(OpenRecords::new(records.open(caller)?))),
            Node::Text(text) => {
                let asker = asker_of(caller);
                text.open(&asker)?;
                Ok(OpsRef::shared(OpenText::new(text.clone(), asker)))
            }
        }
    }

    fn revalidate(&self, inode: &InodeRef, _dir: &InodeRef, _name: &[u8]) -> bool {
        let meta = self.node.meta();
        if let Some((uid, gid)) = meta.owner() {
            inode.set_owner(uid, gid);
        }
        meta.is_alive()
    }
}

fn asker_of(caller: &Caller) -> Asker {
    Asker { cred: caller.cred.clone(), root: caller.fs.root(), tid: caller.tid }
}

struct OpenDir {
    dir: Arc<dyn Dir>,
    asker: Asker,
}

impl FileOps for OpenDir {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        if !self.dir.is_alive() {
            return Err(Errno::ENOENT);
        }
        if !emit_dots(file, pos, sink) {
            return Ok(());
        }
        let own = file.inode().ino;
        self.dir.list(*pos - 2, &self.asker, &mut |number, name, kind| {
            let mode = match kind {
                Kind::Dir => S_IFDIR,
                Kind::File => S_IFREG,
                Kind::Link => S_IFLNK,
            };
            let fits = sink.add(name, child_ino(own, name), mode, number + 3);
            if fits {
                *pos = number + 3;
            }
            fits
        })
    }
}
