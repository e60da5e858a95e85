//! From page index to value, for sparse and for dense indices alike: what a page cache needs.
//!
//! The problem: a file has millions of possible page indices and a few pages in memory; one looks up an
//! index, walks a range in order, finds all entries with a *mark* (dirty, under write-back) without
//! visiting the others, and an entry may stand for a power-of-two run of indices (a large folio).
//!
//! The interface: [`XArray`], named after Linux's (`Documentation/core-api/xarray.rst`). Everything
//! that may need memory can say so; nothing panics on any index.
//!
//! The idea: a radix tree of 64-way nodes, as deep as the largest index needs. A lone entry at index 0,
//! the page cache of most files, needs no node at all. Each node keeps three bitmaps beside its slots:
//! which slots are taken, which of them continue the entry of the slot before, and per mark which lead
//! to a marked entry; walking is counting trailing zeros.
//!
//! ```text
//!   height 2      Inner [ . # . . ]            indices 64..127 below slot 1
//!                           |
//!   height 1      Leaf  [ a . b = = = . ]      64 -> a; 66..69 -> b, an entry of order 2
//! ```
//!
//! Readers take the lock of whoever owns the tree. Lock-free readers would need RCU and with it unsafe
//! code; the lookup is short enough that the lock around it is the same either way.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod node;
mod walk;

use alloc::boxed::Box;
use alloc::vec::Vec;
use node::{Child, Node, SLOT_BITS};

/// Number of marks an entry can carry.
pub const MARKS: usize = 3;

/// One of an entry's marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// By Linux's convention: dirty.
    Zero,
    /// By Linux's convention: under write-back.
    One,
    /// By Linux's convention: to be written in this pass.
    Two,
}

impl Mark {
    pub(crate) fn index(self) -> usize {
        self as usize
    }
    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// There was no memory for a node; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Why an entry could not be stored. The value comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertError<T> {
    /// One of the indices has an entry, or the index is not a multiple of the run's length, or the run is too long.
    Occupied(T),
    /// No memory for a node.
    OutOfMemory(T),
}

impl<T> InsertError<T> {
    /// The value that was not stored.
    pub fn into_value(self) -> T {
        match self {
            InsertError::Occupied(value) | InsertError::OutOfMemory(value) => value,
        }
    }
}

/// The largest order of an entry: 2^18 indices.
pub const MAX_ORDER: u8 = 18;

/// A map from `u64` indices to values.
#[derive(Debug)]
pub struct XArray<T> {
    root: Child<T>,
    /// Levels of nodes; `root` covers the indices below 64^height.
    height: u32,
    /// Which marks occur anywhere.
    marks: u8,
    len: usize,
}

impl<T> Default for XArray<T> {
    fn default() -> XArray<T> {
        XArray::new()
    }
}

/// The first index that `height` levels do not cover; `None` when they cover all.
fn limit(height: u32) -> Option<u64> {
    1u64.checked_shl(height * SLOT_BITS).filter(|_| height * SLOT_BITS < u64::BITS)
}

impl<T> XArray<T> {
    /// An empty array. Allocates nothing.
    pub const fn new() -> XArray<T> {
        XArray { root: Child::Empty, height: 0, marks: 0, len: 0 }
    }

    /// Number of entries; one of any order counts once.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn covers(&self, index: u64) -> bool {
        limit(self.height).is_none_or(|limit| index < limit)
    }

    /// The entry at or over `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&T> {
        if !self.covers(index) {
            return None;
        }
        walk::get(&self.root, self.height, index)
    }

    /// The entry at or over `index`, writable.
    pub fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        if !self.covers(index) {
            return None;
        }
        walk::get_mut(&mut self.root, self.height, index)
    }

    /// Stores an entry at `index`, which must be free.
    pub fn insert(&mut self, index: u64, value: T) -> Result<(), InsertError<T>> {
        self.insert_order(index, 0, value)
    }

    /// Stores an entry for the 2^`order` indices from `index` on, a multiple of that.
    pub fn insert_order(&mut self, index: u64, order: u8, value: T) -> Result<(), InsertError<T>> {
        if order > MAX_ORDER || index & ((1 << order) - 1) != 0 {
            return Err(InsertError::Occupied(value));
        }
        let last = index + ((1 << order) - 1);
        if self.grow(last, u32::from(order) / SLOT_BITS + u32::from(order > 0)).is_err() {
            return Err(InsertError::OutOfMemory(value));
        }
        let done = walk::insert(&mut self.root, self.height, index, order, value);
        if done.is_ok() {
            self.len += 1;
        }
        done
    }

    /// Stores `value` at `index`, in place of the entry there, which is returned and whose run and marks
    /// the new one takes over.
    pub fn replace(&mut self, index: u64, value: T) -> Result<Option<T>, InsertError<T>> {
        match self.get_mut(index) {
            Some(slot) => Ok(Some(core::mem::replace(slot, value))),
            None => self.insert(index, value).map(|()| None),
        }
    }

    /// Removes and returns the entry at or over `index`, with all of its run.
    pub fn remove(&mut self, index: u64) -> Option<T> {
        if !self.covers(index) {
            return None;
        }
        let (value, marks) = walk::remove(&mut self.root, self.height, index)?;
        self.marks = marks;
        self.len -= 1;
        if self.len == 0 {
            self.height = 0;
        }
        Some(value)
    }

    /// Sets or clears a mark of the entry at or over `index`; false if there is none.
    pub fn set_mark(&mut self, index: u64, mark: Mark, on: bool) -> bool {
        if !self.covers(index) {
            return false;
        }
        let Some(any) = walk::mark(&mut self.root, self.height, index, mark, on) else { return false };
        self.marks = if any { self.marks | mark.bit() } else { self.marks & !mark.bit() };
        true
    }

    /// Whether the entry at or over `index` has the mark.
    pub fn has_mark(&self, index: u64, mark: Mark) -> bool {
        self.any_marked(mark) && self.covers(index) && walk::has_mark(&self.root, self.height, index, mark)
    }

    /// Whether any entry has the mark. Constant time.
    pub fn any_marked(&self, mark: Mark) -> bool {
        self.marks & mark.bit() != 0
    }

    /// The entry over `index` or else the first one after it, with the first index of its run.
    pub fn next(&self, index: u64) -> Option<(u64, &T)> {
        self.covers(index).then(|| walk::next(&self.root, self.height, 0, index, None)).flatten()
    }

    /// As [`XArray::next`], among the entries with the mark.
    pub fn next_marked(&self, index: u64, mark: Mark) -> Option<(u64, &T)> {
        if !self.any_marked(mark) || !self.covers(index) {
            return None;
        }
        walk::next(&self.root, self.height, 0, index, Some(mark))
    }

    /// The entries that touch the indices `first..=last`, in order.
    pub fn range(&self, first: u64, last: u64) -> Range<'_, T> {
        Range::new(self, first, last, None)
    }

    /// The entries with the mark that touch the indices `first..=last`, in order.
    pub fn range_marked(&self, first: u64, last: u64, mark: Mark) -> Range<'_, T> {
        Range::new(self, first, last, Some(mark))
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.range(0, u64::MAX)
    }

    /// Removes the entries that touch `first..=last`, handing each to `removed`.
    pub fn remove_range(&mut self, first: u64, last: u64, mut removed: impl FnMut(u64, T)) {
        while let Some(start) = self.next(first).map(|(start, _)| start).filter(|&start| start <= last) {
            let Some(value) = self.remove(start) else { return };
            removed(start, value);
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = XArray::new();
    }

    /// Makes the tree cover `last` with at least `height` levels.
    fn grow(&mut self, last: u64, height: u32) -> Result<(), OutOfMemory> {
        while !self.covers(last) || self.height < height {
            if !matches!(self.root, Child::Empty) {
                self.root.wrap(self.height, self.marks)?;
            }
            self.height += 1;
        }
        Ok(())
    }
}

/// The entries of a range, see [`XArray::range`].
///
/// Inside a leaf it goes from bit to bit of the bitmap; down the tree it walks once a leaf. Walking for each
/// entry was a third of mapping the pages around a fault.
#[derive(Debug)]
pub struct Range<'a, T> {
    array: &'a XArray<T>,
    first: u64,
    last: u64,
    mark: Option<Mark>,
    /// Where the next walk begins; `None` at the end.
    at: Option<u64>,
    /// The leaf walked to last, the index of its slot 0, and its entries that are still to come.
    leaf: Option<&'a Leaf<T>>,
    base: u64,
    left: u64,
}

impl<'a, T> Range<'a, T> {
    fn new(array: &'a XArray<T>, first: u64, last: u64, mark: Option<Mark>) -> Range<'a, T> {
        Range { array, first, last, mark, at: Some(first), leaf: None, base: 0, left: 0 }
    }

    /// Walks down to the first entry at or after `at`.
    fn walk(&mut self) -> Option<(u64, &'a T)> {
        let (array, at) = (self.array, self.at?);
        let found = match self.mark {
            Some(mark) => array.next_marked(at, mark),
            None => array.next(at),
        };
        let (start, value) = found.filter(|&(start, _)| start <= self.last)?;
        self.at = match walk::leaf(&array.root, array.height, start) {
            Some(leaf) => {
                self.leaf = Some(leaf);
                self.base = start & !(node::SLOTS as u64 - 1);
                let bits = self.mark.map_or(leaf.present, |mark| leaf.marks[mark.index()]);
                self.left = bits & (u64::MAX << (start - self.base)) & !(1 << (start - self.base));
                self.base.checked_add(node::SLOTS as u64)
            }
            None => start.max(self.first).checked_add(walk::run_length(&array.root, array.height, start)),
        };
        Some((start, value))
    }
}

impl<'a, T> Iterator for Range<'a, T> {
    type Item = (u64, &'a T);

    #[inline]
    fn next(&mut self) -> Option<(u64, &'a T)> {
        if self.left != 0
            && let Some(leaf) = self.leaf
        {
            let slot = self.left.trailing_zeros();
            self.left &= self.left - 1;
            let start = self.base + u64::from(slot);
            if start <= self.last {
                return Some((start, leaf.slots[slot as usize].as_ref()?));
            }
            (self.left, self.at) = (0, None);
        }
        self.walk()
    }
}

/// A box that is made without the abort on failure that `Box::new` has; `Box::try_new` is not stable.
pub(crate) type TryBox<T> = Box<[T; 1]>;

pub(crate) fn try_box<T>(value: T) -> Result<TryBox<T>, OutOfMemory> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).map_err(|_| OutOfMemory)?;
    one.push(value);
    one.into_boxed_slice().try_into().map_err(|_| OutOfMemory)
}

pub(crate) type Leaf<T> = Node<Option<T>>;
pub(crate) type Inner<T> = Node<Child<T>>;

#[cfg(test)]
mod tests;
