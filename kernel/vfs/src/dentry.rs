//! Dentries: names in directories, and where they lead.
//!
//! A [`Dentry`] always has an inode: names known *not* to exist are entries of the cache alone
//! (see [`crate::dcache`]). The inode never changes, so following a dentry takes no lock; only parent
//! and name change, at rename, under the dentry's lock.

use crate::inode::InodeRef;
use crate::notify::{self, DirWatched};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use pathname::Name;
use sync::SpinLock;
use sync::levels;

/// A name that exists. Holds its parent, so a path leads to the root as long as anybody holds its end.
pub struct Dentry {
    inode: InodeRef,
    place: SpinLock<Place, levels::Dentry>,
    /// Mounts on top of it, over all mounts of its file system.
    mounts: AtomicU32,
    /// `UNLINKED`.
    flags: AtomicU32,
    pub(crate) dir_watched: DirWatched,
    /// Entries of the cache whose parent it is.
    pub(crate) cached_children: AtomicU32,
}

struct Place {
    parent: Option<Arc<Dentry>>,
    name: Name,
}

/// The name was removed; whoever has it open shows " (deleted)".
const UNLINKED: u32 = 1;

impl Dentry {
    /// The root of a file system, or of a kernel object, whose name shows in /proc/PID/fd.
    pub fn root(name: &[u8], inode: InodeRef) -> Arc<Dentry> {
        Dentry::make(None, name, inode)
    }

    pub(crate) fn child(parent: &Arc<Dentry>, name: &[u8], inode: InodeRef) -> Arc<Dentry> {
        Dentry::make(Some(parent.clone()), name, inode)
    }

    fn make(parent: Option<Arc<Dentry>>, name: &[u8], inode: InodeRef) -> Arc<Dentry> {
        Arc::new(Dentry {
            inode,
            place: SpinLock::new(Place { parent, name: Name::new(name) }),
            mounts: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            dir_watched: DirWatched::new(),
            cached_children: AtomicU32::new(0),
        })
    }

    #[inline]
    pub fn inode(&self) -> &InodeRef {
        &self.inode
    }

    /// The directory it is in; `None` for the root of a file system.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    pub fn name(&self) -> Name {
        self.place.lock().name.clone()
    }

    /// Parent and name, of one moment.
    pub fn parent_and_name(&self) -> (Option<Arc<Dentry>>, Name) {
        let place = self.place.lock();
        (place.parent.clone(), place.name.clone())
    }

    pub(crate) fn move_to(&self, parent: &Arc<Dentry>, name: &[u8]) {
        let mut fresh = Place { parent: Some(parent.clone()), name: Name::new(name) };
        core::mem::swap(&mut *self.place.lock(), &mut fresh);
        self.dir_watched.moved();
        // The old parent drops here, outside the lock: it may be the last reference.
    }

    /// Whether the name was removed from its directory.
    pub fn is_unlinked(&self) -> bool {
        self.flags.load(Relaxed) & UNLINKED != 0
    }

    pub(crate) fn set_unlinked(&self) {
        self.flags.fetch_or(UNLINKED, Relaxed);
    }

    #[inline]
    pub(crate) fn is_mountpoint(&self) -> bool {
        self.mounts.load(Relaxed) != 0
    }

    pub(crate) fn add_mount(&self) {
        self.mounts.fetch_add(1, Relaxed);
    }

    pub(crate) fn remove_mount(&self) {
        self.mounts.fetch_sub(1, Relaxed);
    }

    /// Whether `self` is `other` or lies below it, in one file system.
    pub fn is_within(self: &Arc<Dentry>, other: &Arc<Dentry>) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at, other) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }
}

/// Dropping the last name of a deep tree drops its parents one after another: a loop, because each
/// would otherwise be one more frame on the kernel stack.
impl Drop for Dentry {
    fn drop(&mut self) {
        notify::dentry_dropped(&self.inode);
        let mut next = self.place.get_mut().parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut dentry| dentry.place.get_mut().parent.take());
        }
    }
}
