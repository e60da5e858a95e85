//! The folios of one mapping by page number.

use alloc::vec::Vec;
use core::ops::Range;
use mem::{Folio, OutOfMemory};
use xarray::{InsertError, XArray};

/// The tree of folios, and the numbers of the pages that somebody is reading in right now.
///
/// Only filled folios are in the tree, so whoever finds one may use it without waiting; a reader that
/// fills one announces the number in `filling`, where others see it and wait. Linux keeps a locked,
/// not yet filled folio in the tree instead, and every lookup has to ask.
pub(crate) struct Pages {
    folios: XArray<Folio>,
    filling: Vec<u64>,
}

impl Pages {
    pub const fn new() -> Pages {
        Pages { folios: XArray::new(), filling: Vec::new() }
    }

    #[inline]
    pub fn get(&self, index: u64) -> Option<&Folio> {
        self.folios.get(index)
    }

    pub fn len(&self) -> usize {
        self.folios.len()
    }

    /// Adds a folio; false when the place is taken.
    pub fn insert(&mut self, index: u64, folio: Folio) -> Result<bool, OutOfMemory> {
        match self.folios.insert(index, folio) {
            Ok(()) => Ok(true),
            Err(InsertError::Occupied(_)) => Ok(false),
            Err(InsertError::OutOfMemory(_)) => Err(OutOfMemory),
        }
    }

    /// The folios of a range, in order.
    pub fn range(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Folio)> {
        let last = range.end.checked_sub(1).filter(|last| *last >= range.start);
        last.into_iter().flat_map(move |last| self.folios.range(range.start, last))
    }

    /// Takes the first folio of a range out.
    pub fn take_first(&mut self, range: Range<u64>) -> Option<(u64, Folio)> {
        let index = self.folios.next(range.start)?.0;
        if index >= range.end {
            return None;
        }
        self.folios.remove(index).map(|folio| (index, folio))
    }

    pub fn is_filling(&self, index: u64) -> bool {
        self.filling.contains(&index)
    }

    pub fn begin_filling(&mut self, index: u64) -> Result<(), OutOfMemory> {
        self.filling.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.filling.push(index);
        Ok(())
    }

    pub fn end_filling(&mut self, index: u64) {
        self.filling.retain(|&other| other != index);
    }
}
