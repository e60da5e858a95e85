//! Nodes as inodes and open files.

use crate::{Asker, Dir, Kind, Meta, Node, Text};
use abi::Errno;
use abi::errno::Result;
use abi::fcntl::{O_ACCMODE, O_RDONLY};
use abi::stat::{S_IFDIR, S_IFLNK, S_IFREG};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use sync::levels::Driver;
use task::Mutex;
use vfs::{
    Caller, DirSink, File, FileOps, FileTraits, FsType, InodeFlags, InodeOps, InodeRef, IoBuf, Link,
    NewInode, NewSuper, OpsRef, PlainSuper, SuperBlock, emit_dots,
};

/// The longest text that one write(2) may bring.
pub const MAX_WRITE: usize = 65_536;

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

    fn mount(&self, source: &[u8], _flags: u64, _data: &[u8], _caller: &Caller) -> Result<Arc<vfs::Dentry>> {
        let source = String::from_utf8_lossy(source).into_owned();
        let sb = NewSuper {
            fs_name: self.name,
            source,
            magic: self.magic,
            read_only: false,
            ops: alloc::boxed::Box::new(PlainSuper),
        };
        let sb = sb.build();
        let root = make_inode(&sb, Node::Dir((self.root)()));
        Ok(vfs::Dentry::root(b"/", root))
    }
}

/// The inode of a node. Each look-up of an entry that comes and goes makes a new one.
fn make_inode(sb: &Arc<SuperBlock>, node: Node) -> InodeRef {
    let (kind, mut flags) = match &node {
        Node::Dir(_) => (S_IFDIR, InodeFlags::REVALIDATE | InodeFlags::NO_NEGATIVE),
        Node::Text(_) | Node::File(_) => (S_IFREG, InodeFlags::REVALIDATE),
        Node::Link(link) if link.is_magic() => (S_IFLNK, InodeFlags::MAGIC_LINK | InodeFlags::REVALIDATE),
        Node::Link(_) => (S_IFLNK, InodeFlags::REVALIDATE),
    };
    flags |= InodeFlags::NO_ATIME;
    let meta = node.meta();
    let (uid, gid) = meta.owner();
    let new = NewInode { flags, uid, gid, ..NewInode::new(sb.next_ino(), kind | meta.mode()) };
    new.build(sb, NodeOps { node })
}

impl Node {
    fn meta(&self) -> &dyn Meta {
        match self {
            Node::Dir(dir) => &**dir,
            Node::Text(text) => &**text,
            Node::Link(link) => &**link,
            Node::File(file) => &**file,
        }
    }
}

struct NodeOps {
    node: Node,
}

impl InodeOps for NodeOps {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn lookup(&self, dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        let Node::Dir(own) = &self.node else { return Err(Errno::ENOTDIR) };
        Ok(own.lookup(name)?.map(|node| make_inode(&dir.sb, node)))
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

    fn setattr(&self, inode: &InodeRef, set: &vfs::SetAttr) -> Result<()> {
        // Opening with O_TRUNC, as shells do for `>`, truncates nothing here.
        if set.size.is_none() {
            inode.apply(set);
        }
        Ok(())
    }

    fn open(&self, inode: &InodeRef, flags: u32, caller: &Caller) -> Result<OpsRef> {
        match &self.node {
            Node::Dir(dir) => Ok(OpsRef::shared(OpenDir { dir: dir.clone() })),
            Node::File(file) => file.open(flags, caller),
            Node::Link(_) => Err(Errno::ELOOP),
            Node::Text(text) => {
                if flags & O_ACCMODE != O_RDONLY && inode.mode() & 0o222 == 0 {
                    return Err(Errno::EACCES);
                }
                let asker = Asker { cred: caller.cred.clone(), root: caller.fs.root() };
                Ok(OpsRef::shared(OpenText { text: text.clone(), asker, made: Mutex::new(None) }))
            }
        }
    }

    fn revalidate(&self, _inode: &InodeRef) -> bool {
        self.node.meta().is_alive()
    }
}

struct OpenDir {
    dir: Arc<dyn Dir>,
}

impl FileOps for OpenDir {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        if !emit_dots(file, pos, sink) {
            return Ok(());
        }
        self.dir.list(*pos - 2, &mut |number, name, kind| {
            let mode = match kind {
                Kind::Dir => S_IFDIR,
                Kind::File => S_IFREG,
                Kind::Link => S_IFLNK,
            };
            // The number of a listed entry need only be unlike 0.
            let fits = sink.add(name, number + 1, mode, number + 3);
            if fits {
                *pos = number + 3;
            }
            fits
        })
    }
}

struct OpenText {
    text: Arc<dyn Text>,
    asker: Asker,
    made: Mutex<Option<Vec<u8>>, Driver>,
}

impl FileOps for OpenText {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::empty()
    }

    fn read(&self, _file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let mut made = self.made.lock();
        if *pos == 0 || made.is_none() {
            let mut bytes = Vec::new();
            self.text.show_bytes(&mut bytes, &self.asker)?;
            *made = Some(bytes);
        }
        buf.put_at(made.as_deref().unwrap_or_default(), pos)
    }

    fn write(&self, _file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let len = buf.remaining();
        if len > MAX_WRITE {
            return Err(Errno::EINVAL);
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(len, 0);
        let len = buf.take(&mut bytes)?;
        self.text.store(&bytes[..len], &self.asker)?;
        *self.made.lock() = None;
        *pos += len as u64;
        Ok(len)
    }
}
