//! Inodes of an overlay: what they are made of, and their attributes.

use crate::file::OverlayFile;
use crate::layers::{Overlay, Real, is_whiteout, key};
use crate::listing::DirFile;
use abi::fcntl::{O_ACCMODE, O_RDONLY, O_TRUNC};
use abi::stat::DevId;
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use pathname::Name;
use sync::{Once, SpinLock, levels};
use vfs::{
    Attr, Caller, Cred, Dentry, FileType, Inode, InodeFlags, InodeOps, InodeRef, LastState, Link, NewInode,
    OpsRef, Rename, SetAttr,
};

pub(crate) type OverInode = Arc<Inode<Node>>;

/// Where a file that is in lower layers only is to be copied to: directory and name.
pub(crate) type Place = (OverInode, Name);

/// The overlay's part of an inode.
pub(crate) struct Node {
    pub fs: Arc<Overlay>,
    upper: Once<Arc<Dentry>>,
    /// The topmost first; of a file that is no directory, one at most.
    pub lowers: Vec<Real>,
    place: SpinLock<Option<Place>, levels::Inode>,
    this: Once<Weak<Inode<Node>>>,
}

/// What a lookup found in the layers.
#[derive(Default)]
pub(crate) struct Found {
    pub upper: Option<Arc<Dentry>>,
    pub lowers: Vec<Real>,
}

/// The inode's part, if it is of an overlay.
pub(crate) fn node(inode: &InodeRef) -> Result<&Node> {
    inode.ops_as::<Node>().ok_or(Errno::EXDEV)
}

impl Node {
    /// The inode of what was found: the one in use, or a new one.
    pub fn inode(fs: &Arc<Overlay>, found: Found, place: Option<Place>) -> Result<InodeRef> {
        let top = match (&found.upper, found.lowers.first()) {
            (Some(upper), _) => Real { layer: 0, dentry: upper.clone() },
            (None, Some(lower)) => lower.clone(),
            (None, None) => return Err(Errno::ENOENT),
        };
        let real = top.inode();
        // One of several names of a lower file: each becomes a file of its own when it is copied up.
        let own_name = found.upper.is_none() && !real.is_dir() && real.nlink() > 1;
        if !own_name && let Some(known) = fs.in_use(key(real)) {
            return Ok(known);
        }
        let sb = fs.sb.get().and_then(Weak::upgrade).ok_or(Errno::EIO)?;
        let new = NewInode {
            ino: fs.number(top.layer, real.ino),
            mode: real.mode(),
            uid: real.uid(),
            gid: real.gid(),
            nlink: real.nlink(),
            rdev: real.rdev,
            size: real.size(),
            flags: InodeFlags::GETATTR | InodeFlags::NO_ATIME,
        };
        let upper = Once::new();
        if let Some(dentry) = found.upper {
            let _ = upper.set(dentry);
        }
        let place = SpinLock::new(if upper.get().is_none() { place } else { None });
        let inode =
            new.build(&sb, Node { fs: fs.clone(), upper, lowers: found.lowers, place, this: Once::new() });
        let _ = inode.ops.this.set(Arc::downgrade(&inode));
        if real.may_have_acl() {
            inode.set_may_have_acl();
        }
        inode.ops.mirror(&inode);
        Ok(if own_name { inode } else { fs.enter(key(real), inode) })
    }

    pub fn this(&self) -> Result<OverInode> {
        self.this.get().and_then(Weak::upgrade).ok_or(Errno::EIO)
    }

    pub fn upper(&self) -> Option<&Arc<Dentry>> {
        self.upper.get()
    }

    /// As a place in the upper layer.
    pub fn upper_real(&self) -> Option<Real> {
        self.upper().map(|dentry| Real { layer: 0, dentry: dentry.clone() })
    }

    /// It was copied up.
    pub fn set_upper(&self, this: &OverInode, dentry: Arc<Dentry>) {
        let real = key(dentry.inode());
        let _ = self.upper.set(dentry);
        self.fs.enter(real, this.clone());
        let place = self.place.lock().take();
        drop(place);
    }

    pub fn place(&self) -> Option<Place> {
        self.place.lock().clone()
    }

    /// What its contents and attributes are.
    pub fn real(&self) -> Result<Real> {
        self.upper_real().or_else(|| self.lowers.first().cloned()).ok_or(Errno::EIO)
    }

    /// Whether a directory has parts in lower layers.
    pub fn is_merged(&self) -> bool {
        !self.lowers.is_empty()
    }

    /// Takes over what the real inode says.
    pub fn mirror<T: InodeOps + ?Sized>(&self, inode: &Inode<T>) {
        let Ok(top) = self.real() else { return };
        let real = top.inode();
        inode.set_mode(real.mode());
        inode.set_owner(real.uid(), real.gid());
        if inode.nlink() > 0 {
            inode.set_nlink(real.nlink());
        }
        inode.set_size(real.size());
        inode.set_blocks(real.blocks());
        inode.set_atime(real.atime());
        inode.set_mtime(real.mtime());
        inode.set_ctime(real.ctime());
        inode.set_btime(real.btime());
    }

    /// Asks the layers for a name, from the top.
    pub fn find(&self, name: &[u8]) -> Result<Found> {
        let mut found = Found::default();
        if let Some(upper) = self.upper_real()
            && let Some(real) = self.fs.child(&upper, name)?
        {
            if is_whiteout(real.inode()) {
                return Ok(found);
            }
            let merges = real.inode().is_dir() && !self.fs.is_opaque(&real);
            found.upper = Some(real.dentry);
            if !merges {
                return Ok(found);
            }
        }
        found.lowers = self.find_lower(name, found.upper.is_some())?;
        Ok(found)
    }

    /// What lower layers have of a name; with `directories` only those, as parts of one.
    pub fn find_lower(&self, name: &[u8], directories: bool) -> Result<Vec<Real>> {
        let mut lowers = Vec::new();
        for dir in &self.lowers {
            let Some(real) = self.fs.child(dir, name)? else { continue };
            if is_whiteout(real.inode()) {
                break;
            }
            if !real.inode().is_dir() {
                if lowers.is_empty() && !directories {
                    lowers.push(real);
                }
                break;
            }
            let last = self.fs.is_opaque(&real);
            lowers.push(real);
            if last {
                break;
            }
        }
        Ok(lowers)
    }

    fn set_real(&self, set: &SetAttr) -> Result<()> {
        let top = self.real()?;
        let real = top.inode();
        let _contents = real.contents.write();
        real.ops.setattr(real, set)
    }

    fn is_private(&self, name: &[u8]) -> bool {
        name.starts_with(self.fs.private_prefix)
    }
}

impl Drop for Node {
    /// A chain of directories that only this one kept: a loop, because each would be one more frame on the stack.
    fn drop(&mut self) {
        let mut next = self.place.get_mut().take();
        while let Some((dir, _)) = next {
            next = Arc::into_inner(dir).and_then(|mut inode| inode.ops.place.get_mut().take());
        }
    }
}

impl InodeOps for Node {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn sync_metadata(&self, _inode: &InodeRef) -> Result<()> {
        let _layers = task::stacked();
        let Some(upper) = self.upper().filter(|_| !self.fs.volatile) else { return Ok(()) };
        upper.inode().ops.sync_metadata(upper.inode())
    }

    fn released(&self, _last: &LastState) {
        if let Some(upper) = self.upper() {
            self.fs.leave(key(upper.inode()));
        }
        if let Some(lower) = self.lowers.first() {
            self.fs.leave(key(lower.inode()));
        }
    }

    fn lookup(&self, _dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        let _layers = task::stacked();
        let found = self.find(name)?;
        if found.upper.is_none() && found.lowers.is_empty() {
            return Ok(None);
        }
        Node::inode(&self.fs, found, Some((self.this()?, Name::new(name)))).map(Some)
    }

    fn create(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        self.mknod(dir, name, mode, DevId::default(), cred)
    }

    fn mkdir(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        let _layers = task::stacked();
        self.make(dir, name, vfs::namei::New::Directory { mode }, cred)
    }

    fn mknod(&self, dir: &InodeRef, name: &[u8], mode: u32, dev: DevId, cred: &Cred) -> Result<InodeRef> {
        if FileType::of_mode(mode) == FileType::CharDevice && dev == DevId::default() {
            // It would pass for a removed name.
            return Err(Errno::EPERM);
        }
        let _layers = task::stacked();
        self.make(dir, name, vfs::namei::New::Node { mode, dev }, cred)
    }

    fn symlink(&self, dir: &InodeRef, name: &[u8], target: &[u8], cred: &Cred) -> Result<InodeRef> {
        let _layers = task::stacked();
        self.make(dir, name, vfs::namei::New::Symlink { target }, cred)
    }

    fn tmpfile(&self, _dir: &InodeRef, mode: u32, cred: &Cred) -> Result<InodeRef> {
        let _layers = task::stacked();
        self.make_unnamed(mode, cred)
    }

    fn link(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let _layers = task::stacked();
        self.link_upper(dir, name, inode)
    }

    fn unlink(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let _layers = task::stacked();
        self.remove(dir, name, inode)
    }

    fn rmdir(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let _layers = task::stacked();
        self.remove(dir, name, inode)
    }

    fn rename(&self, request: &Rename) -> Result<()> {
        let _layers = task::stacked();
        self.rename_upper(request)
    }

    fn follow(&self, _inode: &InodeRef, caller: &Caller) -> Result<Link> {
        let _layers = task::stacked();
        let top = self.real()?;
        top.inode().ops.follow(top.inode(), caller)
    }

    fn getattr(&self, inode: &InodeRef, attr: &mut Attr) -> Result<()> {
        let _layers = task::stacked();
        let top = self.real()?;
        let real = vfs::attr::getattr(top.inode())?;
        *attr = Attr { dev: attr.dev, ino: attr.ino, ..real };
        if inode.nlink() == 0 {
            attr.nlink = 0;
        } else if inode.is_dir() && self.is_merged() {
            // Nobody counts the directories of all parts.
            attr.nlink = 1;
        }
        Ok(())
    }

    fn setattr(&self, inode: &InodeRef, set: &SetAttr) -> Result<()> {
        let _layers = task::stacked();
        self.fs.copy_up(&self.this()?, set.size.is_none_or(|size| size > 0))?;
        self.set_real(set)?;
        self.mirror(inode);
        Ok(())
    }

    fn open(&self, inode: &InodeRef, flags: u32, _caller: &Caller) -> Result<OpsRef> {
        let _layers = task::stacked();
        match inode.file_type() {
            FileType::Directory => Ok(OpsRef::shared(DirFile::default())),
            FileType::Regular => {
                if flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0 {
                    self.fs.copy_up(&self.this()?, flags & O_TRUNC == 0)?;
                    self.mirror(inode);
                }
                Ok(OpsRef::shared(OverlayFile::open(self, flags)?))
            }
            _ => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, _inode: &InodeRef, name: &[u8]) -> Result<Vec<u8>> {
        if self.is_private(name) {
            return Err(Errno::EOPNOTSUPP);
        }
        let _layers = task::stacked();
        let top = self.real()?;
        top.inode().ops.get_xattr(top.inode(), name)
    }

    fn set_xattr(&self, inode: &InodeRef, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        if self.is_private(name) {
            return Err(Errno::EOPNOTSUPP);
        }
        let _layers = task::stacked();
        self.fs.copy_up(&self.this()?, true)?;
        let top = self.real()?;
        self.fs.set_xattr(top.inode(), name, value, flags)?;
        self.mirror(inode);
        Ok(())
    }

    fn list_xattr(&self, _inode: &InodeRef, out: &mut Vec<u8>) -> Result<()> {
        let _layers = task::stacked();
        let (top, mut names) = (self.real()?, Vec::new());
        top.inode().ops.list_xattr(top.inode(), &mut names)?;
        let shown = names.split_inclusive(|byte| *byte == 0).filter(|name| !self.is_private(name));
        shown.for_each(|name| out.extend_from_slice(name));
        Ok(())
    }
}
