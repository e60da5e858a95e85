//! How much an instance may hold and holds, and which of its inodes file handles were made of.

use abi::{Errno, errno::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use sync::SpinLock;
use sync::levels::Leaf;
use vfs::{Inode, InodeRef};
use vm::MappingOps;

/// Inodes by number; those that have gone are forgotten when there are about as many of them as of others.
#[derive(Default)]
struct Remembered {
    inodes: BTreeMap<u64, Weak<Inode>>,
    look_through_at: usize,
}

/// Pages and inodes of one instance; shared by all its files. 0 is no limit.
pub struct Space {
    max_pages: AtomicU64,
    pages: AtomicU64,
    max_inodes: AtomicU64,
    inodes: AtomicU64,
    remembered: SpinLock<Remembered, Leaf>,
}

/// Adds to a counter unless it would pass the limit.
fn take(counter: &AtomicU64, limit: &AtomicU64, amount: u64) -> Result<()> {
    let before = counter.fetch_add(amount, Relaxed);
    let limit = limit.load(Relaxed);
    if limit != 0 && before + amount > limit {
        counter.fetch_sub(amount, Relaxed);
        return Err(Errno::ENOSPC);
    }
    Ok(())
}

impl Space {
    pub fn new(max_pages: u64, max_inodes: u64) -> Space {
        Space {
            max_pages: AtomicU64::new(max_pages),
            pages: AtomicU64::new(0),
            max_inodes: AtomicU64::new(max_inodes),
            inodes: AtomicU64::new(0),
            remembered: SpinLock::new(Remembered::default()),
        }
    }

    /// An inode is to be found by its number from now on.
    pub(crate) fn remember(&self, inode: &InodeRef) {
        const AT_LEAST: usize = 64;
        let mut remembered = self.remembered.lock();
        if remembered.inodes.len() >= remembered.look_through_at {
            remembered.inodes.retain(|_, inode| inode.strong_count() > 0);
            remembered.look_through_at = (remembered.inodes.len() * 2).max(AT_LEAST);
        }
        remembered.inodes.insert(inode.ino, Arc::downgrade(inode));
    }

    /// The inode of a number, if it was remembered and lives.
    pub(crate) fn remembered(&self, number: u64) -> Option<InodeRef> {
        self.remembered.lock().inodes.get(&number).and_then(Weak::upgrade)
    }

    pub(crate) fn take_inode(&self) -> Result<()> {
        take(&self.inodes, &self.max_inodes, 1)
    }

    pub(crate) fn give_inode(&self) {
        self.inodes.fetch_sub(1, Relaxed);
    }

    /// Pages allowed and used.
    pub fn pages(&self) -> (u64, u64) {
        (self.max_pages.load(Relaxed), self.pages.load(Relaxed))
    }

    /// Inodes allowed and used.
    pub fn inodes(&self) -> (u64, u64) {
        (self.max_inodes.load(Relaxed), self.inodes.load(Relaxed))
    }

    /// New limits; EINVAL when more is in use already, or when a limit appears where there was none.
    pub fn set_limits(&self, max_pages: Option<u64>, max_inodes: Option<u64>) -> Result<()> {
        let fits = |new: Option<u64>, (old, used): (u64, u64)| match new {
            None => true,
            Some(0) => old == 0,
            Some(new) => old != 0 && new >= used,
        };
        if !fits(max_pages, self.pages()) || !fits(max_inodes, self.inodes()) {
            return Err(Errno::EINVAL);
        }
        if let Some(max) = max_pages {
            self.max_pages.store(max, Relaxed);
        }
        if let Some(max) = max_inodes {
            self.max_inodes.store(max, Relaxed);
        }
        Ok(())
    }
}

impl MappingOps for Space {
    fn charge(&self, pages: u64) -> Result<()> {
        take(&self.pages, &self.max_pages, pages)
    }

    fn uncharge(&self, pages: u64) {
        self.pages.fetch_sub(pages, Relaxed);
    }
}
