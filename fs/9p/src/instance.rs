//! One mount: its session, its options, its inodes in use.

use crate::client::{Client, Fid, Stat};
use crate::inode::Node;
use crate::options::{self, Access, Cache, Options};
use abi::fs::MS_RDONLY;
use abi::stat::{S_IFDIR, S_IFMT, Statfs, V9FS_MAGIC};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use p9wire::Message;
use sync::SpinLock;
use sync::levels::P9;
use vfs::{Caller, Dentry, Inode, InodeRef, NewSuper, SuperBlock, SuperOps};
use vm::BackingDevice;

pub(crate) type P9Inode = Arc<Inode<Node>>;

pub(crate) struct Instance {
    root: Fid,
    pub client: Arc<Client>,
    pub options: Options,
    /// Whom the server takes us for.
    pub uid: u32,
    /// Inodes in use, by the path of their qid.
    inodes: SpinLock<BTreeMap<u64, Weak<Inode<Node>>>, P9>,
    sb: sync::Once<Weak<SuperBlock>>,
    /// Writes dirty pages back.
    pub flusher: Arc<BackingDevice>,
}

/// Mounts the channel of a name. ENOENT: there is none; EBUSY: it is mounted; those of the session and the attach.
pub(crate) fn mount(source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
    let options = options::parse(data)?;
    let client = Client::start(net9p::claim(source)?, options.msize)?;
    let uid = match options.access {
        Access::Only(uid) => uid,
        Access::Client | Access::Any => caller.cred.fsuid,
    };
    let root = client.attach(uid, &options.uname, &options.aname)?;
    let stat = client.stat(&root)?;
    if stat.mode & S_IFMT != S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    let (own, _) = client.walk(&root, &[])?;
    let inodes = SpinLock::new(BTreeMap::new());
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let flusher = BackingDevice::new(&format!("9p-{}", NEXT.fetch_add(1, Relaxed)))?;
    let sb = sync::Once::new();
    let instance = Arc::new(Instance { root: own, client, options, uid, inodes, sb, flusher });
    let new = NewSuper {
        fs_name: "9p",
        source: String::from_utf8_lossy(source).into_owned(),
        magic: V9FS_MAGIC,
        read_only: flags & MS_RDONLY != 0,
        ops: Box::new(Super(instance.clone())),
    };
    let sb = new.build();
    let _ = instance.sb.set(Arc::downgrade(&sb));
    let root = instance.enter(root, &stat)?;
    Ok(Dentry::root(b"/", root))
}

impl Instance {
    pub fn cache(&self) -> Cache {
        self.options.cache
    }

    /// The inode of a file that was just found: the one in use, told what is new, or a new one.
    pub fn enter(self: &Arc<Self>, fid: Fid, stat: &Stat) -> Result<InodeRef> {
        let sb = self.sb.get().and_then(Weak::upgrade).ok_or(Errno::EIO)?;
        if let Some(known) = self.in_use(stat) {
            known.ops.reached(&known, fid, stat);
            return Ok(known);
        }
        let new = Node::build(self, &sb, fid, stat);
        let mut inodes = self.inodes.lock();
        let other = inodes.get(&stat.qid.path).and_then(Weak::upgrade);
        if other.as_ref().is_none_or(|other| !other.ops.is_file_of(other, stat)) {
            // Another file that had this identity is gone on the server, and keeps its inode while it is in use.
            inodes.insert(stat.qid.path, Arc::downgrade(&new));
            drop(inodes);
            drop(other);
            return Ok(new);
        }
        // Somebody was faster.
        drop(inodes);
        other.map_or(Err(Errno::EIO), |other| Ok(other as InodeRef))
    }

    /// The inode in use of a file.
    fn in_use(&self, stat: &Stat) -> Option<P9Inode> {
        let known = self.inodes.lock().get(&stat.qid.path).and_then(Weak::upgrade)?;
        known.ops.is_file_of(&known, stat).then_some(known)
    }

    /// An inode goes out of use. No sleep.
    pub fn leave(&self, path: u64) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&path).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&path);
        }
    }

    /// The file has no name any more: the server may give its identity to another.
    pub fn forget(&self, path: u64, inode: &InodeRef) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&path).is_some_and(|known| core::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(inode))) {
            inodes.remove(&path);
        }
    }

    fn all_in_use(&self) -> Vec<P9Inode> {
        self.inodes.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Dirty pages go to the server.
    fn sync(&self) -> Result<()> {
        // By way of the flusher's list, so that it lets go of inodes that are clean afterwards: an unmount waits for that.
        self.flusher.sync(true);
        self.all_in_use().iter().try_for_each(|inode| inode.ops.write_out())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.flusher.stop();
    }
}

/// The file layer's view of it.
struct Super(Arc<Instance>);

impl SuperOps for Super {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn statfs(&self, _sb: &SuperBlock, out: &mut Statfs) -> Result<()> {
        let ask = Message::Tstatfs { fid: self.0.root.number() };
        self.0.client.rpc(&ask, |answer| match *answer {
            Message::Rstatfs { kind, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen } => {
                out.f_type = kind.into();
                (out.f_bsize, out.f_frsize) = (bsize.into(), bsize.into());
                (out.f_blocks, out.f_bfree, out.f_bavail) = (blocks, bfree, bavail);
                (out.f_files, out.f_ffree) = (files, ffree);
                out.f_fsid = [fsid as i32, (fsid >> 32) as i32];
                out.f_namelen = namelen.into();
                Some(())
            }
            _ => None,
        })
    }

    fn show_options(&self, _sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        self.0.options.show(self.0.client.msize(), out)
    }

    fn sync(&self, _sb: &SuperBlock, _wait: bool) -> Result<()> {
        self.0.sync()
    }
}
