//! The folios of one mapping by page number.

use alloc::collections::BTreeMap;
use core::ops::Range;
use mem::{Folio, OutOfMemory};

/// An ordered map of page number to folio, and the numbers that somebody is reading in right now.
///
/// Only filled folios are in the map, so whoever finds one may use it without waiting; a reader that
/// fills one announces the number in `filling`, where others see it and wait. Linux keeps a locked,
/// not yet filled folio in the tree instead, and every lookup has to ask.
#[derive(Default)]
pub(crate) struct Pages {
    folios: BTreeMap<u64, Folio>,
    filling: alloc::vec::Vec<u64>,
}

impl Pages {
    pub const fn new() -> Pages {
        Pages { folios: BTreeMap::new(), filling: alloc::vec::Vec::new() }
    }

    #[inline]
    pub fn get(&self, index: u64) -> Option<&Folio> {
        self.folios.get(&index)
    }

    pub fn len(&self) -> usize {
        self.folios.len()
    }

    /// Adds a folio; gives it back when the place is taken.
    pub fn insert(&mut self, index: u64, folio: Folio) -> Result<(), Folio> {
        match self.folios.entry(index) {
            alloc::collections::btree_map::Entry::Vacant(place) => {
                place.insert(folio);
                Ok(())
            }
            alloc::collections::btree_map::Entry::Occupied(_) => Err(folio),
        }
    }

    /// The folios of a range, in order.
    pub fn range(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Folio)> {
        let range = range.start..range.end.max(range.start);
        self.folios.range(range).map(|(index, folio)| (*index, folio))
    }

    /// Takes the first folio of a range out.
    pub fn take_first(&mut self, range: Range<u64>) -> Option<(u64, Folio)> {
        let index = self.range(range).next()?.0;
        self.folios.remove(&index).map(|folio| (index, folio))
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
