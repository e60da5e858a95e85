//! Inodes: names and attributes.

use crate::client::{Client, Fid, Stat};
use crate::data::{Data, FileData};
use crate::file::{DirFile, P9File};
use crate::instance::{Instance, P9Inode};
use crate::io::{OpenFid, bounce, piece};
use crate::options::{Access, Cache};
use abi::fcntl::{
    AT_REMOVEDIR, O_ACCMODE, O_CREAT, O_DIRECTORY, O_EXCL, O_LARGEFILE, O_RDONLY, O_RDWR, O_WRONLY,
};
use abi::fs::{XATTR_LIST_MAX, XATTR_SIZE_MAX};
use abi::stat::{DevId, S_IFMT};
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use p9wire::{Message, set};
use sync::levels::P9;
use sync::{Once, SpinLock};
use task::WaitMode;
use vfs::attr::split_time;
use vfs::{
    Attr, Caller, Cred, FileType, Inode, InodeFlags, InodeOps, InodeRef, LastState, Link, NewInode, OpsRef,
    Rename, SetAttr, SuperBlock,
};

/// 9P's part of an inode.
pub(crate) struct Node {
    /// The file by the name that was walked last, not open. Some servers know a file by name only: when one of several
    /// is removed, what was reached by it is gone for them.
    fid: SpinLock<Arc<Fid>, P9>,
    /// A name was removed since the last walk.
    lost: AtomicBool,
    path: u64,
    generation: u64,
    /// The open file that came with the creation: the next to open the inode gets it, whatever its mode allows.
    fresh: SpinLock<Option<OpenFid>, P9>,
    pub data: FileData,
    /// The text of a symbolic link, where names are believed.
    text: Once<Arc<[u8]>>,
    this: Once<Weak<Inode<Node>>>,
    pub instance: Arc<Instance>,
}

/// The inode's part, if it is of this file system.
pub(crate) fn node(inode: &InodeRef) -> Result<&Node> {
    inode.ops_as::<Node>().ok_or(Errno::EXDEV)
}

impl Node {
    pub fn build(instance: &Arc<Instance>, sb: &Arc<SuperBlock>, fid: Fid, stat: &Stat) -> P9Inode {
        let mut flags = InodeFlags::NO_ATIME | InodeFlags::REVALIDATE;
        if instance.cache() != Cache::Loose {
            flags |= InodeFlags::GETATTR | InodeFlags::NO_NEGATIVE;
        }
        let new = NewInode {
            // As Linux makes it.
            ino: stat.qid.path.wrapping_add(2),
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink.max(1),
            rdev: DevId::decode(stat.rdev),
            size: stat.size,
            flags,
        };
        let node = Node {
            fid: SpinLock::new(Arc::new(fid)),
            lost: AtomicBool::new(false),
            path: stat.qid.path,
            generation: stat.generation,
            fresh: SpinLock::new(None),
            data: FileData::new(stat),
            text: Once::new(),
            this: Once::new(),
            instance: instance.clone(),
        };
        let inode = new.build(sb, node);
        let _ = inode.ops.this.set(Arc::downgrade(&inode));
        inode.set_blocks(stat.blocks);
        set_times(&inode, stat);
        inode
    }

    pub fn fid(&self) -> Arc<Fid> {
        self.fid.lock().clone()
    }

    /// A walk has come to the file, and says what it is.
    pub fn reached<T: InodeOps + ?Sized>(&self, inode: &Inode<T>, fid: Fid, stat: &Stat) {
        let old = core::mem::replace(&mut *self.fid.lock(), Arc::new(fid));
        drop(old);
        self.lost.store(false, Relaxed);
        self.refresh(inode, stat);
    }

    pub fn client(&self) -> &Arc<Client> {
        &self.instance.client
    }

    /// Whether attributes are this file's, not those of one that has its identity by now.
    pub fn is_file_of<T: InodeOps + ?Sized>(&self, inode: &Inode<T>, stat: &Stat) -> bool {
        stat.qid.path == self.path
            && stat.generation == self.generation
            && (stat.mode ^ inode.mode()) & S_IFMT == 0
    }

    /// Takes over what the server says. A regular file's length is that of its cached contents, if there are any.
    pub fn refresh<T: InodeOps + ?Sized>(&self, inode: &Inode<T>, stat: &Stat) {
        inode.set_mode(stat.mode);
        inode.set_owner(stat.uid, stat.gid);
        inode.set_nlink(stat.nlink.max(1));
        inode.set_blocks(stat.blocks);
        set_times(inode, stat);
        if self.data.mapping().is_none() {
            inode.set_size(stat.size);
        }
    }

    /// Asks the server for the attributes and takes them over. ESTALE: the name is another file's.
    pub fn update(&self, inode: &InodeRef) -> Result<Stat> {
        let written = self.data.writes();
        let stat = self.client().stat(&self.fid())?;
        if !self.is_file_of(inode, &stat) {
            return Err(Errno::ESTALE);
        }
        self.refresh(inode, &stat);
        self.data.follow(inode, &stat, written);
        Ok(stat)
    }

    /// Whether the server can be asked for it by its name.
    pub fn has_name(&self, inode: &InodeRef) -> bool {
        inode.nlink() > 0 && !self.lost.load(Relaxed)
    }

    /// As [`Node::update`] after a change, where the answer has no other use: a file without a name has no attributes
    /// on some servers.
    fn update_after(&self, inode: &InodeRef) {
        if self.has_name(inode) {
            let _ = self.update(inode);
        }
    }

    /// Dirty pages go to the server.
    pub fn write_out(&self) -> Result<()> {
        self.data.mapping().map_or(Ok(()), |mapping| mapping.sync(0, u64::MAX))
    }

    fn find(&self, name: &[u8]) -> Result<(Fid, Stat)> {
        let (fid, _) = self.client().walk(&self.fid(), &[name])?;
        let stat = self.client().stat(&fid)?;
        Ok((fid, stat))
    }

    /// A file that was just made: its inode, its owner set to whom the server could not know.
    fn made(&self, dir: &InodeRef, name: &[u8], cred: &Cred) -> Result<InodeRef> {
        let (fid, mut stat) = self.find(name)?;
        if self.instance.options.access == Access::Client
            && cred.fsuid != self.instance.uid
            && stat.uid != cred.fsuid
        {
            // A server that cannot, or will not, makes the file its own.
            if set_owner(self.client(), &fid, cred.fsuid).is_ok() {
                stat = self.client().stat(&fid)?;
            }
        }
        let inode = self.instance.enter(fid, &stat)?;
        self.update_after(dir);
        Ok(inode)
    }

    /// The group of a new file in `dir`, and its mode.
    fn owned(dir: &InodeRef, mode: u32, cred: &Cred) -> (u32, u32) {
        let new = NewInode::new(0, mode).owned_in(dir, cred);
        (new.gid, new.mode)
    }

    /// The length of the cached file. The contents lock is held.
    fn set_size(&self, inode: &InodeRef, size: u64) {
        if let Some(mapping) = self.data.mapping() {
            mapping.truncate(size);
        }
        inode.set_size(size);
    }

    fn set_attributes(&self, set: &SetAttr) -> Result<()> {
        let mut valid = 0;
        let mut wants = |given: bool, bits: u32| valid |= if given { bits } else { 0 };
        wants(set.mode.is_some(), set::MODE);
        wants(set.uid.is_some(), set::UID);
        wants(set.gid.is_some(), set::GID);
        wants(set.size.is_some(), set::SIZE);
        wants(set.atime.is_some(), set::ATIME | set::ATIME_SET);
        wants(set.mtime.is_some(), set::MTIME | set::MTIME_SET);
        wants(set.ctime.is_some(), set::CTIME);
        let time = |at: Option<i64>| split_time(at.unwrap_or(0));
        let (atime, mtime) = (time(set.atime), time(set.mtime));
        let message = Message::Tsetattr {
            fid: self.fid().number(),
            valid,
            mode: set.mode.unwrap_or(0),
            uid: set.uid.unwrap_or(0),
            gid: set.gid.unwrap_or(0),
            size: set.size.unwrap_or(0),
            atime_s: atime.0 as u64,
            atime_ns: atime.1.into(),
            mtime_s: mtime.0 as u64,
            mtime_ns: mtime.1.into(),
        };
        self.client().ask(&message, Message::Rsetattr {})
    }

    /// `inode` has lost a name.
    fn lost_name(&self, inode: &InodeRef) {
        if inode.is_dir() {
            inode.set_nlink(0);
        } else {
            inode.drop_nlink();
        }
        inode.touch_changed();
        self.lost.store(true, Relaxed);
        if inode.nlink() == 0 {
            self.instance.forget(self.path, inode);
        }
    }

    fn remove(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef, flags: u32) -> Result<()> {
        let victim = node(inode)?;
        let unlink = Message::Tunlinkat { dfid: self.fid().number(), name, flags };
        match self.client().ask(&unlink, Message::Runlinkat {}) {
            // A server without it removes a file by its identity, which is gone then whatever the answer.
            Err(Errno::EOPNOTSUPP) => {
                let (mut fid, _) = self.client().walk(&self.fid(), &[name])?;
                let remove = Message::Tremove { fid: fid.number() };
                let removed = self.client().ask(&remove, Message::Rremove {});
                fid.set_gone();
                removed?;
            }
            result => result?,
        }
        victim.lost_name(inode);
        self.update_after(dir);
        Ok(())
    }

    /// Reads a value or a list of names of at most `limit` bytes; E2BIG when it is longer.
    fn read_xattr(&self, name: &[u8], limit: usize) -> Result<Vec<u8>> {
        let client = self.client();
        let mut fid = client.new_fid()?;
        let walk = Message::Txattrwalk { fid: self.fid().number(), newfid: fid.number(), name };
        let size = client.making(&mut fid, &walk, |answer| match answer {
            Message::Rxattrwalk { size } => Some(*size),
            _ => None,
        })?;
        let size = usize::try_from(size).ok().filter(|size| *size <= limit).ok_or(Errno::E2BIG)?;
        let mut value = Vec::new();
        value.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        value.resize(size, 0);
        let (open, folio) = (OpenFid::new(fid, 0), bounce(size)?);
        let mut at = 0;
        while at < size {
            let part = piece(&folio, size - at);
            let got = open.read(at as u64, core::slice::from_ref(&part), WaitMode::Killable)?;
            if got == 0 {
                return Err(Errno::EIO);
            }
            folio.read(0, &mut value[at..at + got]);
            at += got;
        }
        Ok(value)
    }

    fn check_xattrs(&self) -> Result<()> {
        if self.instance.options.xattrs { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    /// Opens a regular file on the server; whether it can be read. Where pages are written back, a file for writing is
    /// opened for reading as well, for the rest of pages that are written in part, unless the server refuses that.
    fn open_regular(&self, inode: &InodeRef, flags: u32) -> Result<(OpenFid, bool)> {
        let fresh = self.fresh.lock().take();
        if let Some(fresh) = fresh {
            return Ok((fresh, true));
        }
        if self.instance.cache() < Cache::Loose && self.has_name(inode) {
            self.write_out()?;
            self.update(inode)?;
        }
        let flags = crate::file::server_flags(flags);
        let write_only = flags & O_ACCMODE == O_WRONLY;
        if self.instance.cache() >= Cache::Mmap && write_only {
            match OpenFid::open(self.client(), &self.fid(), flags & !O_ACCMODE | O_RDWR) {
                Err(Errno::EACCES | Errno::EPERM) => {}
                result => return Ok((result?, true)),
            }
        }
        Ok((OpenFid::open(self.client(), &self.fid(), flags)?, !write_only))
    }
}

fn set_owner(client: &Client, fid: &Fid, uid: u32) -> Result<()> {
    let message = Message::Tsetattr {
        fid: fid.number(),
        valid: set::UID,
        mode: 0,
        uid,
        gid: 0,
        size: 0,
        atime_s: 0,
        atime_ns: 0,
        mtime_s: 0,
        mtime_ns: 0,
    };
    client.ask(&message, Message::Rsetattr {})
}

fn set_times<T: InodeOps + ?Sized>(inode: &Inode<T>, stat: &Stat) {
    inode.set_atime(stat.atime);
    inode.set_mtime(stat.mtime);
    inode.set_ctime(stat.ctime);
}

impl InodeOps for Node {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn released(&self, _last: &LastState) {
        self.instance.leave(self.path);
    }

    fn lookup(&self, _dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        match self.find(name) {
            Ok((fid, stat)) => self.instance.enter(fid, &stat).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn revalidate(&self, inode: &InodeRef, dir: &InodeRef, name: &[u8]) -> bool {
        let Ok(parent) = node(dir) else { return false };
        if self.instance.cache() == Cache::Loose && !self.lost.load(Relaxed) {
            return true;
        }
        match parent.find(name) {
            Ok((fid, stat)) if self.is_file_of(inode, &stat) => {
                self.reached(inode, fid, &stat);
                true
            }
            _ => false,
        }
    }

    fn permission(&self, _inode: &InodeRef, _mask: u32, caller: &Caller) -> Option<Result<()>> {
        match self.instance.options.access {
            Access::Only(uid) if caller.cred.fsuid != uid => Some(Err(Errno::EPERM)),
            _ => None,
        }
    }

    fn create(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        let (gid, mode) = Node::owned(dir, mode, cred);
        let (fid, _) = self.client().walk(&self.fid(), &[])?;
        let flags = O_RDWR | O_CREAT | O_EXCL | O_LARGEFILE;
        let create = Message::Tlcreate { fid: fid.number(), name, flags, mode, gid };
        let iounit = self.client().rpc(&create, |answer| match answer {
            Message::Rlcreate { iounit, .. } => Some(*iounit),
            _ => None,
        })?;
        let inode = self.made(dir, name, cred)?;
        *node(&inode)?.fresh.lock() = Some(OpenFid::new(fid, iounit));
        Ok(inode)
    }

    fn mkdir(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        let (gid, mode) = Node::owned(dir, mode, cred);
        let mkdir = Message::Tmkdir { dfid: self.fid().number(), name, mode, gid };
        self.client().rpc(&mkdir, |answer| matches!(answer, Message::Rmkdir { .. }).then_some(()))?;
        self.made(dir, name, cred)
    }

    fn mknod(&self, dir: &InodeRef, name: &[u8], mode: u32, dev: DevId, cred: &Cred) -> Result<InodeRef> {
        let (gid, mode) = Node::owned(dir, mode, cred);
        let (major, minor) = (dev.major, dev.minor);
        let mknod = Message::Tmknod { dfid: self.fid().number(), name, mode, major, minor, gid };
        self.client().rpc(&mknod, |answer| matches!(answer, Message::Rmknod { .. }).then_some(()))?;
        self.made(dir, name, cred)
    }

    fn symlink(&self, dir: &InodeRef, name: &[u8], target: &[u8], cred: &Cred) -> Result<InodeRef> {
        let (gid, _) = Node::owned(dir, 0, cred);
        let symlink = Message::Tsymlink { dfid: self.fid().number(), name, target, gid };
        self.client().rpc(&symlink, |answer| matches!(answer, Message::Rsymlink { .. }).then_some(()))?;
        self.made(dir, name, cred)
    }

    fn link(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let target = node(inode)?;
        let link = Message::Tlink { dfid: self.fid().number(), fid: target.fid().number(), name };
        self.client().ask(&link, Message::Rlink {})?;
        inode.raise_nlink();
        target.update_after(inode);
        self.update_after(dir);
        Ok(())
    }

    fn unlink(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        self.remove(dir, name, inode, 0)
    }

    fn rmdir(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        self.remove(dir, name, inode, AT_REMOVEDIR)
    }

    fn rename(&self, request: &Rename) -> Result<()> {
        if request.flags != 0 {
            // The protocol has none.
            return Err(Errno::EINVAL);
        }
        let (moved, new_dir) = (node(request.inode)?, node(request.new_dir)?);
        let (old_dfid, new_dfid) = (self.fid().number(), new_dir.fid().number());
        let (old_name, new_name) = (request.old_name, request.new_name);
        let rename = Message::Trenameat { old_dfid, old_name, new_dfid, new_name };
        match self.client().ask(&rename, Message::Rrenameat {}) {
            Err(Errno::EOPNOTSUPP) => {
                let rename = Message::Trename { fid: moved.fid().number(), dfid: new_dfid, name: new_name };
                self.client().ask(&rename, Message::Rrename {})?;
            }
            result => result?,
        }
        if let Some(target) = request.target {
            node(target)?.lost_name(target);
        }
        moved.update_after(request.inode);
        self.update_after(request.old_dir);
        new_dir.update_after(request.new_dir);
        Ok(())
    }

    fn follow(&self, inode: &InodeRef, _caller: &Caller) -> Result<Link> {
        if !inode.is_symlink() {
            return Err(Errno::EINVAL);
        }
        if let Some(text) = self.text.get() {
            return Ok(Link::Text(text.clone()));
        }
        let read = Message::Treadlink { fid: self.fid().number() };
        let text: Arc<[u8]> = self.client().rpc(&read, |answer| match answer {
            Message::Rreadlink { target } => Some(Arc::from(*target)),
            _ => None,
        })?;
        if text.len() >= abi::fs::PATH_MAX || text.contains(&0) {
            return Err(Errno::EIO);
        }
        if self.instance.cache() == Cache::Loose {
            let _ = self.text.set(text.clone());
        }
        Ok(Link::Text(text))
    }

    fn getattr(&self, inode: &InodeRef, attr: &mut Attr) -> Result<()> {
        // Times and length are the server's, so it has to know what was written.
        self.write_out()?;
        match self.update(inode) {
            Ok(stat) => {
                attr.nlink = stat.nlink;
                attr.blksize = stat.blksize.max(512);
            }
            // Without that name the file has no attributes on servers that go by names.
            Err(Errno::ENOENT | Errno::ESTALE) if self.lost.load(Relaxed) => {}
            Err(error) => return Err(error),
        }
        (attr.mode, attr.uid, attr.gid) = (inode.mode(), inode.uid(), inode.gid());
        (attr.size, attr.blocks) = (inode.size(), inode.blocks());
        (attr.atime, attr.mtime, attr.ctime) = (inode.atime(), inode.mtime(), inode.ctime());
        Ok(())
    }

    fn setattr(&self, inode: &InodeRef, set: &SetAttr) -> Result<()> {
        // Writing what is dirty later would change the times that are set now.
        self.write_out()?;
        let old = inode.size();
        if let Some(size) = set.size {
            // The cache first: what it writes back by itself from here on is no longer than that.
            self.set_size(inode, size);
        }
        if let Err(error) = self.set_attributes(set) {
            self.set_size(inode, old);
            return Err(error);
        }
        inode.apply(set);
        Ok(())
    }

    fn open(&self, inode: &InodeRef, flags: u32, _caller: &Caller) -> Result<OpsRef> {
        match inode.file_type() {
            FileType::Directory => {
                let flags = O_RDONLY | O_DIRECTORY | O_LARGEFILE;
                Ok(OpsRef::shared(DirFile(OpenFid::open(self.client(), &self.fid(), flags)?)))
            }
            FileType::Regular => {
                let (open, reads) = self.open_regular(inode, flags)?;
                Ok(OpsRef::shared(P9File::new(self, open, reads, flags)))
            }
            _ => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, _inode: &InodeRef, name: &[u8]) -> Result<Vec<u8>> {
        self.check_xattrs()?;
        self.read_xattr(name, XATTR_SIZE_MAX)
    }

    fn set_xattr(&self, inode: &InodeRef, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        self.check_xattrs()?;
        // The protocol's way to remove one is to give it no bytes.
        let value = value.unwrap_or(b"");
        let client = self.client();
        let (mut fid, _) = client.walk(&self.fid(), &[])?;
        let number = fid.number();
        let create = Message::Txattrcreate { fid: number, name, size: value.len() as u64, flags };
        client.ask(&create, Message::Rxattrcreate {})?;
        let mut at = 0;
        if !value.is_empty() {
            let (open, folio) = (OpenFid::new(fid, 0), bounce(value.len())?);
            while at < value.len() {
                let part = piece(&folio, value.len() - at);
                folio.write(0, &value[at..at + part.len]);
                at += open.write(at as u64, core::slice::from_ref(&part), WaitMode::Killable)?;
            }
            fid = open.fid;
        }
        // The attribute is set, and refused, at the end.
        let done = client.ask(&Message::Tclunk { fid: number }, Message::Rclunk {});
        if !matches!(done, Err(Errno::EINTR | Errno::EIO)) {
            fid.set_gone();
        }
        self.update_after(inode);
        done
    }

    fn list_xattr(&self, _inode: &InodeRef, out: &mut Vec<u8>) -> Result<()> {
        if !self.instance.options.xattrs {
            return Ok(());
        }
        let mut names = self.read_xattr(b"", XATTR_LIST_MAX)?;
        if names.last().is_some_and(|last| *last != 0) {
            names.push(0);
        }
        out.append(&mut names);
        Ok(())
    }
}

impl Node {
    /// The mapping of a regular file; made when it is first asked for.
    pub fn mapping(&self, inode: &InodeRef) -> Arc<vm::Mapping> {
        self.data.mapping_or_make(inode.size(), || Data(self.this.get().cloned().unwrap_or_default()))
    }
}
