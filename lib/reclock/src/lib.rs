//! Advisory locks on byte ranges, without files: fcntl(2) record locks.
//!
//! **Problem.** A lock request overwrites what its owner holds in the range, splits and joins the
//! neighbours, and conflicts with what others hold.
//!
//! **Interface.** [`Ranges<O>`]: [`Ranges::conflict`] finds who is in the way, [`Ranges::set`] sets a range
//! to a kind or to nothing. Owners are values that compare. [`WaitGraph`] finds deadlocks.
//!
//! **Idea.** One vector ordered by start. Ranges are inclusive (`start..=end`), because locks reach to the
//! last byte a file can have. The tree that Linux does not have either would pay off only with
//! thousands of locks on one file.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod graph;
#[cfg(test)]
mod tests;

pub use graph::WaitGraph;

use alloc::vec::Vec;

/// Shared or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

/// A locked range, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock<O> {
    pub start: u64,
    pub end: u64,
    pub kind: Kind,
    pub owner: O,
}

/// There was no memory for another range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// All locks of one file, ordered by start.
#[derive(Debug)]
pub struct Ranges<O> {
    locks: Vec<Lock<O>>,
}

impl<O> Default for Ranges<O> {
    fn default() -> Self {
        Ranges { locks: Vec::new() }
    }
}

impl<O: Copy + PartialEq> Ranges<O> {
    pub const fn new() -> Ranges<O> {
        Ranges { locks: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// All locks, by start.
    /// The lock with a number, in the order of [`Ranges::iter`].
    pub fn get(&self, index: usize) -> Option<&Lock<O>> {
        self.locks.get(index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lock<O>> {
        self.locks.iter()
    }

    /// The first lock of another owner that keeps `wanted` from being set.
    pub fn conflict(&self, wanted: &Lock<O>) -> Option<&Lock<O>> {
        self.locks.iter().find(|held| {
            held.owner != wanted.owner
                && held.start <= wanted.end
                && wanted.start <= held.end
                && (held.kind == Kind::Write || wanted.kind == Kind::Write)
        })
    }

    /// Sets the owner's range to `kind`, or unlocks it with `None`. The caller checked for conflicts.
    /// Fails, without having changed anything, when memory is short.
    pub fn set(&mut self, owner: O, start: u64, end: u64, kind: Option<Kind>) -> Result<(), OutOfMemory> {
        // At most one lock is split in two, and one is added.
        self.locks.try_reserve(2).map_err(|_| OutOfMemory)?;
        self.cut(owner, start, end);
        if let Some(kind) = kind {
            self.join(Lock { start, end, kind, owner });
        }
        Ok(())
    }

    /// Drops all locks of an owner; says whether there were any.
    pub fn remove_owner(&mut self, owner: O) -> bool {
        let before = self.locks.len();
        self.locks.retain(|lock| lock.owner != owner);
        self.locks.len() != before
    }

    fn insert(&mut self, lock: Lock<O>) {
        let at = self.locks.partition_point(|other| other.start <= lock.start);
        self.locks.insert(at, lock);
    }

    /// Takes `start..=end` out of the owner's locks.
    fn cut(&mut self, owner: O, start: u64, end: u64) {
        let mut upper = None;
        self.locks.retain_mut(|lock| {
            if lock.owner != owner || lock.start > end || lock.end < start {
                return true;
            }
            if lock.end > end {
                upper = Some(Lock { start: end + 1, ..*lock });
            }
            if lock.start < start {
                lock.end = start - 1;
                return true;
            }
            false
        });
        if let Some(rest) = upper {
            self.insert(rest);
        }
    }

    /// Adds a lock to a gap, together with the owner's neighbours of the same kind.
    fn join(&mut self, mut new: Lock<O>) {
        self.locks.retain(|lock| {
            let touches =
                lock.end.checked_add(1) == Some(new.start) || new.end.checked_add(1) == Some(lock.start);
            if lock.owner != new.owner || lock.kind != new.kind || !touches {
                return true;
            }
            new.start = new.start.min(lock.start);
            new.end = new.end.max(lock.end);
            false
        });
        self.insert(new);
    }
}
