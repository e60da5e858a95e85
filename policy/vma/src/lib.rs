//! The virtual memory areas of an address space: which addresses are mapped, and as what.
//!
//! The problem: ordered, non-overlapping ranges `[start, end)`, each with a payload (permissions,
//! backing file ...), under `mmap`, `munmap`, `mprotect`, `mremap` that cut them anywhere and merge
//! what fits together again; a lookup on every page fault; and the search for a free gap on every
//! `mmap`, which must stay fast with tens of thousands of areas (`vm.max_map_count` is 65,530).
//!
//! The interface: [`VmaSet`] over a payload that implements [`VmaData`]. Every method that may need
//! memory says so by returning [`OutOfMemory`] and then has changed nothing that can be observed.
//!
//! The idea: a two-level B+ tree made of plain sorted vectors, at most [`CHUNK`] areas each. A
//! process with few areas has one vector and a lookup is one binary search over adjacent memory. Each
//! chunk carries an *upper bound* of the largest gap in it, so that the gap search passes over full
//! chunks; removing raises the bound, inserting leaves it, and a search that finds nothing lowers it
//! to the truth. A `BTreeMap` lost because it cannot carry the bound, aborts when memory ends, and
//! walks the tree twice for "the area at or after"; Linux's maple tree is the same idea with RCU.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod gaps;
mod store;

use core::ops::Range;
pub use gaps::{Direction, FreeSpace};
pub use store::CHUNK;
use store::{Pos, Store};

/// There was no memory for the bookkeeping; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Why an area could not be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertError {
    /// Some address of the range is mapped already, or the range is empty or outside of the set's bounds.
    Occupied,
    /// No memory for the bookkeeping.
    OutOfMemory,
}

impl From<OutOfMemory> for InsertError {
    fn from(_: OutOfMemory) -> InsertError {
        InsertError::OutOfMemory
    }
}

/// What an area is, beyond its range.
pub trait VmaData: Sized {
    /// Cuts the area `offset` bytes after its start: `self` becomes the lower part, the upper part is returned.
    ///
    /// A file mapping's upper part starts `offset` later in the file. References are cloned here.
    fn split(&mut self, offset: u64) -> Self;

    /// Whether an area with `self`, `len` bytes long, and one with `next` right after it can be one area.
    fn can_merge(&self, len: u64, next: &Self) -> bool;

    /// Bytes that the gap search leaves free below the area: the guard gap of a stack that grows down.
    fn guard_gap(&self) -> u64 {
        0
    }
}

/// One area: the addresses `start..end` and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vma<V> {
    pub start: u64,
    pub end: u64,
    pub data: V,
}

impl<V> Vma<V> {
    /// Length in bytes, never zero.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether `addr` is one of the area's addresses.
    pub fn contains(&self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// The addresses.
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// The areas of one address space.
#[derive(Debug, Clone)]
pub struct VmaSet<V> {
    store: Store<V>,
    bounds: Range<u64>,
    mapped: u64,
}

impl<V: VmaData> VmaSet<V> {
    /// An empty set for areas within `bounds`.
    pub const fn new(bounds: Range<u64>) -> VmaSet<V> {
        VmaSet { store: Store::new(), bounds, mapped: 0 }
    }

    /// Number of areas.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.store.len() == 0
    }

    /// Sum of the areas' lengths in bytes (VmSize).
    pub fn mapped_bytes(&self) -> u64 {
        self.mapped
    }

    /// The addresses that areas may have.
    pub fn bounds(&self) -> Range<u64> {
        self.bounds.clone()
    }

    /// The area that contains `addr`.
    #[inline]
    pub fn find(&self, addr: u64) -> Option<&Vma<V>> {
        self.find_from(addr).filter(|vma| vma.start <= addr)
    }

    /// The area that contains `addr` or else the first one above it: Linux's `find_vma`.
    #[inline]
    pub fn find_from(&self, addr: u64) -> Option<&Vma<V>> {
        self.store.get(self.store.locate(addr))
    }

    /// The area that contains `addr`, its payload writable. What `can_merge` compares must stay as it is
    /// (use [`VmaSet::update`] for that).
    pub fn find_mut(&mut self, addr: u64) -> Option<&mut V> {
        let pos = self.store.locate(addr);
        self.store.get_mut(pos).filter(|vma| vma.start <= addr).map(|vma| &mut vma.data)
    }

    /// The last area that ends at or before `addr`.
    pub fn find_before(&self, addr: u64) -> Option<&Vma<V>> {
        // The first area with end > addr is the successor of the last one with end <= addr.
        let pos = self.store.locate(addr);
        self.store.prev(pos).and_then(|pos| self.store.get(pos))
    }

    /// All areas from low to high.
    pub fn iter(&self) -> impl Iterator<Item = &Vma<V>> {
        self.store.iter_from(Pos::FIRST)
    }

    /// The areas that share an address with `range`, from low to high.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Vma<V>> {
        let mut pos = self.store.locate(range.start);
        core::iter::from_fn(move || {
            let vma = self.store.get(pos).filter(|vma| vma.start < range.end)?;
            pos = self.store.next(pos);
            Some(vma)
        })
    }

    /// Whether no address of `range` is mapped.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.find_from(range.start).is_none_or(|vma| vma.start >= range.end)
    }

    /// Whether every address of `range` is mapped.
    pub fn is_covered(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        for vma in self.overlapping(range.clone()) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= range.end
    }

    /// Adds an area, as one with its neighbours where they can merge.
    pub fn insert(&mut self, range: Range<u64>, data: V) -> Result<(), InsertError> {
        let inside = range.start >= self.bounds.start && range.end <= self.bounds.end;
        let pos = self.store.locate(range.start);
        let free = self.store.get(pos).is_none_or(|vma| vma.start >= range.end);
        if !inside || range.start >= range.end || !free {
            return Err(InsertError::Occupied);
        }
        self.mapped += range.end - range.start;
        let mut vma = Vma { start: range.start, end: range.end, data };
        // Merging with a neighbour needs no memory and no move of the vector: try that first.
        if let Some(prev) = self.store.prev(pos).and_then(|p| self.store.get_mut(p))
            && prev.end == vma.start
            && prev.data.can_merge(prev.len(), &vma.data)
        {
            prev.end = vma.end;
            self.merge_at(pos);
            return Ok(());
        }
        if let Some(next) = self.store.get_mut(pos)
            && next.start == vma.end
            && vma.data.can_merge(vma.len(), &next.data)
        {
            // The lower part's payload knows where the area starts.
            core::mem::swap(&mut next.data, &mut vma.data);
            next.start = vma.start;
            return Ok(());
        }
        let mapped = self.mapped - vma.len();
        self.store.insert(pos, vma).inspect_err(|_| self.mapped = mapped)?;
        Ok(())
    }

    /// Unmaps `range`: hands every area in it, cut at the ends, to `removed`, from low to high.
    pub fn carve(&mut self, range: Range<u64>, mut removed: impl FnMut(Vma<V>)) -> Result<(), OutOfMemory> {
        let pos = self.store.locate(range.start);
        let Some(first) = self.store.get(pos).filter(|vma| vma.start < range.end) else { return Ok(()) };
        // Most programs unmap what they have mapped: one area, exactly.
        if first.range() == range {
            self.mapped -= range.end - range.start;
            removed(self.store.remove(pos));
            return Ok(());
        }
        self.split_ends(&range)?;
        let mapped = &mut self.mapped;
        self.store.remove_range(range, |vma| {
            *mapped -= vma.len();
            removed(vma);
        });
        Ok(())
    }

    /// Changes the payload of all that is mapped in `range`, cutting areas at its ends before and
    /// merging what has become alike afterwards (mprotect, madvise, mlock).
    ///
    /// `change` sees the areas from low to high, with their ranges; its first error stops the walk, and
    /// what was changed before stays changed, as in Linux.
    pub fn update<E: From<OutOfMemory>>(
        &mut self,
        range: Range<u64>,
        mut change: impl FnMut(Range<u64>, &mut V) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pos = self.store.locate(range.start);
        let Some(first) = self.store.get_mut(pos).filter(|vma| vma.start < range.end) else { return Ok(()) };
        // One area exactly: nothing to cut, two borders to look at (200 instructions fewer).
        if first.range() == range {
            let result = change(range, &mut first.data);
            self.merge_at(self.store.next(pos));
            self.merge_at(pos);
            return result;
        }
        self.split_ends(&range)?;
        let mut result = Ok(());
        pos = self.store.locate(range.start);
        while let Some(vma) = self.store.get_mut(pos).filter(|vma| vma.start < range.end) {
            result = change(vma.range(), &mut vma.data);
            if result.is_err() {
                break;
            }
            pos = self.store.next(pos);
        }
        self.merge_range(range);
        result
    }

    /// Moves the end of the area that contains `addr` to `new_end`: brk, mremap in place.
    ///
    /// Growing fails when the addresses are taken or out of bounds, or when no area is there; shrinking
    /// hands the payload of the cut part to nobody: use [`VmaSet::carve`] for that.
    pub fn grow_up(&mut self, addr: u64, new_end: u64) -> Result<(), InsertError> {
        let vma = self.find(addr).ok_or(InsertError::Occupied)?;
        let old_end = vma.end;
        if new_end <= old_end || new_end > self.bounds.end || !self.is_free(old_end..new_end) {
            return Err(InsertError::Occupied);
        }
        self.mapped += new_end - old_end;
        let pos = self.store.locate(addr);
        if let Some(vma) = self.store.get_mut(pos) {
            vma.end = new_end;
        }
        let next = self.store.next(pos);
        self.merge_at(next);
        Ok(())
    }

    /// Moves the start of the area that contains `addr` down to `new_start`: stack growth.
    ///
    /// `extended` is given the payload and the number of bytes added in front (a file mapping that grows
    /// down starts earlier in its file; for anonymous memory there is nothing to do).
    pub fn grow_down(
        &mut self,
        addr: u64,
        new_start: u64,
        extended: impl FnOnce(&mut V, u64),
    ) -> Result<(), InsertError> {
        let vma = self.find(addr).ok_or(InsertError::Occupied)?;
        let old_start = vma.start;
        if new_start >= old_start || new_start < self.bounds.start || !self.is_free(new_start..old_start) {
            return Err(InsertError::Occupied);
        }
        self.mapped += old_start - new_start;
        let pos = self.store.locate(addr);
        if let Some(vma) = self.store.get_mut(pos) {
            vma.start = new_start;
            extended(&mut vma.data, old_start - new_start);
        }
        Ok(())
    }

    /// Removes everything, handing each area to `removed`.
    pub fn clear(&mut self, removed: impl FnMut(Vma<V>)) {
        self.mapped = 0;
        self.store.remove_range(0..u64::MAX, removed);
    }

    /// The start of `want.len` free bytes, as `want` describes them; `None` when there is no such gap.
    pub fn find_free(&mut self, want: &FreeSpace) -> Option<u64> {
        gaps::find(&mut self.store, &self.bounds, want)
    }

    /// A copy whose payloads `copy` makes, for fork; an area for which it returns `None` is left out.
    pub fn try_clone_with<E: From<OutOfMemory>>(
        &self,
        mut copy: impl FnMut(&Vma<V>) -> Result<Option<V>, E>,
    ) -> Result<VmaSet<V>, E> {
        let mut new = VmaSet::new(self.bounds.clone());
        for vma in self.iter() {
            if let Some(data) = copy(vma)? {
                new.mapped += vma.len();
                new.store.push(Vma { start: vma.start, end: vma.end, data })?;
            }
        }
        Ok(new)
    }

    fn split_ends(&mut self, range: &Range<u64>) -> Result<(), OutOfMemory> {
        self.split_at(range.start)?;
        self.split_at(range.end).inspect_err(|_| {
            let pos = self.store.locate(range.start);
            self.merge_at(pos);
        })
    }

    /// Makes `addr` a border between areas if it lies inside of one.
    fn split_at(&mut self, addr: u64) -> Result<(), OutOfMemory> {
        let pos = self.store.locate(addr);
        let Some(vma) = self.store.get(pos).filter(|vma| vma.start < addr) else { return Ok(()) };
        let (start, end) = (vma.start, vma.end);
        let pos = self.store.reserve(pos)?;
        if let Some(vma) = self.store.get_mut(pos) {
            let upper = vma.data.split(addr - start);
            vma.end = addr;
            self.store.insert_reserved(pos.after(), Vma { start: addr, end, data: upper });
        }
        Ok(())
    }

    /// Merges the area at `pos` into the one before it, if they touch and are alike.
    fn merge_at(&mut self, pos: Pos) -> bool {
        let Some(before) = self.store.prev(pos) else { return false };
        let (Some(low), Some(high)) = (self.store.get(before), self.store.get(pos)) else { return false };
        if low.end != high.start || !low.data.can_merge(low.len(), &high.data) {
            return false;
        }
        let end = high.end;
        if let Some(low) = self.store.get_mut(before) {
            low.end = end;
        }
        self.store.remove(pos);
        true
    }

    /// Merges across every border in `range`, its ends included.
    fn merge_range(&mut self, range: Range<u64>) {
        let mut at = range.start;
        loop {
            let pos = self.store.locate(at);
            let Some(vma) = self.store.get(pos).filter(|vma| vma.start <= range.end) else { return };
            at = vma.end;
            self.merge_at(pos);
        }
    }
}

#[cfg(test)]
mod tests;
