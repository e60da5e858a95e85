//! The layers, and the file layer's calls on them in the name of whoever mounted.

use crate::node::Node;
use abi::fcntl::RENAME_EXCHANGE;
use abi::stat::{DevId, S_IFCHR};
use abi::{Errno, errno::Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use sync::SpinLock;
use sync::levels::{self, OverlayCopy};
use task::Mutex;
use vfs::namei::{self, New};
use vfs::walk::find_child;
use vfs::{
    Caller, Cred, Dentry, FileType, FsContext, Inode, InodeRef, Mount, Path, Start, SuperBlock, dcache,
};

/// One layer.
pub(crate) struct Layer {
    /// A mount of our own: that of the tree may go.
    pub mount: Arc<Mount>,
    pub root: Arc<Dentry>,
    /// Numbers the file systems among the layers: what keeps inode numbers apart.
    pub fs: u64,
}

/// A name in a layer.
#[derive(Clone)]
pub(crate) struct Real {
    pub layer: usize,
    pub dentry: Arc<Dentry>,
}

impl Real {
    pub fn inode(&self) -> &InodeRef {
        self.dentry.inode()
    }
}

/// A mounted overlay.
pub(crate) struct Overlay {
    /// The upper layer is number 0, if there is one; lower ones follow, the topmost first.
    pub layers: Vec<Layer>,
    pub upper: bool,
    /// Where new things are prepared, in the upper layer's file system.
    pub work: Option<Path>,
    pub opaque: &'static [u8],
    pub private_prefix: &'static [u8],
    pub volatile: bool,
    pub shown: String,
    cred: Arc<Cred>,
    fs: Arc<FsContext>,
    /// Held while something is copied up.
    pub copying: Mutex<(), OverlayCopy>,
    /// Inodes in use, by the addresses of their real ones.
    inodes: SpinLock<BTreeMap<usize, Weak<Inode<Node>>>, levels::Inode>,
    pub sb: sync::Once<Weak<SuperBlock>>,
    next_name: AtomicU64,
}

/// What [`Overlay`] is made of.
pub(crate) struct Parts {
    pub layers: Vec<Layer>,
    pub work: Option<Path>,
    pub user_xattr: bool,
    pub volatile: bool,
    pub shown: String,
}

/// The address by which an inode in use is found.
pub(crate) fn key(inode: &InodeRef) -> usize {
    Arc::as_ptr(inode).cast::<()>() as usize
}

impl Overlay {
    pub fn new(parts: Parts, caller: &Caller) -> Overlay {
        let fs = FsContext::new(caller.fs.root());
        fs.set_umask(0);
        let (opaque, private_prefix): (&[u8], &[u8]) = match parts.user_xattr {
            true => (b"user.overlay.opaque", b"user.overlay."),
            false => (b"trusted.overlay.opaque", b"trusted.overlay."),
        };
        Overlay {
            layers: parts.layers,
            upper: parts.work.is_some(),
            work: parts.work,
            opaque,
            private_prefix,
            volatile: parts.volatile,
            shown: parts.shown,
            cred: caller.cred.clone(),
            fs,
            copying: Mutex::new(()),
            inodes: SpinLock::new(BTreeMap::new()),
            sb: sync::Once::new(),
            next_name: AtomicU64::new(0),
        }
    }

    /// Runs `action` as whoever mounted.
    pub fn as_mounter<R>(&self, action: impl FnOnce(&Caller) -> R) -> R {
        action(&Caller::new(&self.cred, &self.fs))
    }

    /// The mounter's rights, with the user and group that new files belong to.
    fn as_owner<R>(&self, owner: &Cred, action: impl FnOnce(&Caller) -> R) -> R {
        let mut cred = Cred::clone(&self.cred);
        (cred.fsuid, cred.fsgid) = (owner.fsuid, owner.fsgid);
        action(&Caller::new(&Arc::new(cred), &self.fs))
    }

    pub fn path(&self, real: &Real) -> Path {
        Path::new(self.layers[real.layer].mount.clone(), real.dentry.clone())
    }

    pub fn upper_path(&self, dentry: &Arc<Dentry>) -> Path {
        Path::new(self.layers[0].mount.clone(), dentry.clone())
    }

    /// The number of a real inode, apart from those of other file systems' layers.
    pub fn number(&self, layer: usize, ino: u64) -> u64 {
        ino | self.layers[layer].fs << 56
    }

    // ---- what is in the layers ----

    /// The name in a directory of a layer.
    pub fn child(&self, dir: &Real, name: &[u8]) -> Result<Option<Real>> {
        let found = find_child(&dir.dentry, name, pathname::hash(dcache::seed(), name))?;
        Ok(found.map(|dentry| Real { layer: dir.layer, dentry }))
    }

    /// Whether a directory hides those of its name below.
    pub fn is_opaque(&self, dir: &Real) -> bool {
        dir.inode().ops.get_xattr(dir.inode(), self.opaque).is_ok_and(|value| value == b"y")
    }

    pub fn set_opaque(&self, inode: &InodeRef) -> Result<()> {
        self.set_xattr(inode, self.opaque, Some(b"y"), 0)
    }

    // ---- changes of the upper layer ----

    /// Sets or removes an attribute of a real inode.
    pub fn set_xattr(&self, real: &InodeRef, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        let _contents = real.contents.write();
        real.ops.set_xattr(real, name, value, flags)?;
        if vfs::acl::is_name(name) {
            real.set_may_have_acl();
        }
        Ok(())
    }

    pub fn work(&self) -> Result<&Path> {
        self.work.as_ref().ok_or(Errno::EROFS)
    }

    /// A name that nothing in the work directory has.
    pub fn fresh_name(&self) -> Vec<u8> {
        format!("#{:x}", self.next_name.fetch_add(1, Relaxed)).into_bytes()
    }

    /// Makes something at a place of the upper file system.
    pub fn make(&self, dir: &Path, name: &[u8], new: New, owner: Option<&Cred>) -> Result<Path> {
        let make = |caller: &Caller| namei::make_path(caller, Start::At(dir), name, new);
        match owner {
            Some(owner) => self.as_owner(owner, make),
            None => self.as_mounter(make),
        }
    }

    /// Makes a file without a name in a directory of the upper layer.
    pub fn make_unnamed(&self, dir: &Path, mode: u32, owner: &Cred) -> Result<Arc<Dentry>> {
        let made = self.as_owner(owner, |caller| vfs::open::make_unnamed(caller, dir, mode))?;
        Ok(made.dentry)
    }

    /// Makes a whiteout in the work directory; its name.
    pub fn make_whiteout(&self) -> Result<Vec<u8>> {
        let name = self.fresh_name();
        let new = New::Node { mode: S_IFCHR, dev: DevId::default() };
        self.make(self.work()?, &name, new, None)?;
        Ok(name)
    }

    pub fn rename(&self, old: (&Path, &[u8]), new: (&Path, &[u8]), exchange: bool) -> Result<()> {
        self.rename_with(old, new, if exchange { RENAME_EXCHANGE } else { 0 })
    }

    /// As renameat2(2), between places of the upper file system.
    pub fn rename_with(&self, old: (&Path, &[u8]), new: (&Path, &[u8]), flags: u32) -> Result<()> {
        let (from, to) = ((Start::At(old.0), old.1), (Start::At(new.0), new.1));
        self.as_mounter(|caller| namei::rename(caller, from, to, flags))
    }

    pub fn unlink(&self, dir: &Path, name: &[u8]) -> Result<()> {
        self.as_mounter(|caller| namei::unlink(caller, Start::At(dir), name))
    }

    pub fn rmdir(&self, dir: &Path, name: &[u8]) -> Result<()> {
        self.as_mounter(|caller| namei::rmdir(caller, Start::At(dir), name))
    }

    /// Removes something from the work directory that nobody needs, directories with the whiteouts in them.
    pub fn discard(&self, name: &[u8]) {
        let discard = || -> Result<()> {
            let work = self.work()?;
            let Some(real) = self.child(&Real { layer: 0, dentry: work.dentry.clone() }, name)? else {
                return Ok(());
            };
            if !real.inode().is_dir() {
                return self.unlink(work, name);
            }
            self.clear_whiteouts(&real)?;
            self.rmdir(work, name)
        };
        // What stays is in nobody's way, and goes with the next mount.
        if let Err(error) = discard() {
            klog::pr_warn!(
                "overlayfs: {} stays in the work directory: {error}",
                String::from_utf8_lossy(name)
            );
        }
    }

    /// Removes the whiteouts in a directory of the upper layer that shows as empty.
    pub fn clear_whiteouts(&self, dir: &Real) -> Result<()> {
        let path = self.upper_path(&dir.dentry);
        for entry in crate::listing::read(self, dir)? {
            if let Some(real) = self.child(dir, &entry.name)?
                && is_whiteout(real.inode())
            {
                self.unlink(&path, &entry.name)?;
            }
        }
        Ok(())
    }

    // ---- inodes in use ----

    pub fn in_use(&self, key: usize) -> Option<Arc<Inode<Node>>> {
        self.inodes.lock().get(&key).and_then(Weak::upgrade)
    }

    /// Enters a new inode under a key; the one that somebody entered meanwhile goes first.
    pub fn enter(&self, key: usize, new: Arc<Inode<Node>>) -> Arc<Inode<Node>> {
        let mut inodes = self.inodes.lock();
        let known = inodes.get(&key).and_then(Weak::upgrade);
        if known.is_none() {
            inodes.insert(key, Arc::downgrade(&new));
        }
        drop(inodes);
        known.unwrap_or(new)
    }

    /// An inode goes out of use. No sleep.
    pub fn leave(&self, key: usize) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&key).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&key);
        }
    }
}

/// A name that was removed.
pub(crate) fn is_whiteout(inode: &InodeRef) -> bool {
    inode.file_type() == FileType::CharDevice && inode.rdev == DevId::default()
}
