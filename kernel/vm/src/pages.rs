//! The folios of one mapping by page number.

use crate::swap::SwapEntry;
use core::ops::Range;
use mem::{Folio, OutOfMemory};
use xarray::{InsertError, Mark, XArray};

/// What is marked in the tree. A folio's own flags change without the tree's lock; the marks find them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Differs from the backing store; counted as dirty exactly while it is marked.
    Dirty,
    /// Was on its way to the backing store when it was marked; may have arrived since.
    Writeback,
    /// Was dirty when a sync began: what comes later is not its business.
    ToWrite,
}

impl Tag {
    fn mark(self) -> Mark {
        match self {
            Tag::Dirty => Mark::Zero,
            Tag::Writeback => Mark::One,
            Tag::ToWrite => Mark::Two,
        }
    }
}

/// The tree of folios. Those of backed mappings may still be locked and not up to date: a read is on its
/// way, and whoever needs the bytes waits for it.
///
/// A page of a memory object may be in swap instead: then its slot is known here, and it is in the tree of folios
/// only after that is gone. Both change under one lock, so a page is never in neither.
pub(crate) struct Pages {
    folios: XArray<Folio>,
    swapped: XArray<SwapEntry>,
}

/// See [`Pages::filled`].
pub(crate) struct Filled<'a>(xarray::Range<'a, Folio>);

impl<'a> Iterator for Filled<'a> {
    type Item = (u64, &'a Folio);

    #[inline]
    fn next(&mut self) -> Option<(u64, &'a Folio)> {
        self.0.find(|(_, folio)| folio.uptodate() && !folio.readahead())
    }
}

impl Pages {
    pub const fn new() -> Pages {
        Pages { folios: XArray::new(), swapped: XArray::new() }
    }

    #[inline]
    pub fn get(&self, index: u64) -> Option<&Folio> {
        self.folios.get(index)
    }

    pub fn len(&self) -> usize {
        self.folios.len()
    }

    /// Adds a folio; false when the place is taken, be it by a page in swap.
    pub fn insert(&mut self, index: u64, folio: Folio) -> Result<bool, OutOfMemory> {
        if self.swapped.get(index).is_some() {
            return Ok(false);
        }
        match self.folios.insert(index, folio) {
            Ok(()) => Ok(true),
            Err(InsertError::Occupied(_)) => Ok(false),
            Err(InsertError::OutOfMemory(_)) => Err(OutOfMemory),
        }
    }

    /// The folios of a range, in order.
    pub fn range(&self, range: Range<u64>) -> xarray::Range<'_, Folio> {
        match range.end.checked_sub(1) {
            Some(last) if last >= range.start => self.folios.range(range.start, last),
            _ => self.folios.range(u64::MAX, 0),
        }
    }

    /// The folios of a range that are up to date, in order.
    pub fn filled(&self, range: Range<u64>) -> Filled<'_> {
        Filled(self.range(range))
    }

    /// The first folio of a range.
    pub fn first(&self, range: Range<u64>) -> Option<(u64, &Folio)> {
        self.folios.next(range.start).filter(|(index, _)| *index < range.end)
    }

    /// Where a page is that is in swap.
    #[inline]
    pub fn swapped(&self, index: u64) -> Option<SwapEntry> {
        self.swapped.get(index).copied()
    }

    /// How many pages are in swap.
    pub fn swapped_len(&self) -> usize {
        self.swapped.len()
    }

    /// The first page of a range that is in swap.
    pub fn first_swapped(&self, range: Range<u64>) -> Option<(u64, SwapEntry)> {
        self.swapped
            .next(range.start)
            .filter(|(index, _)| *index < range.end)
            .map(|(index, slot)| (index, *slot))
    }

    /// How many of the first pages of a range are in swap, and where to go on counting: a limited number, as the tree is
    /// locked.
    pub fn count_swapped(&self, range: Range<u64>) -> (u64, u64) {
        const PIECE: u64 = 512;
        let (mut seen, mut at) = (0, range.start);
        while seen < PIECE {
            let Some((index, _)) = self.first_swapped(at..range.end) else { return (seen, range.end) };
            (seen, at) = (seen + 1, index + 1);
        }
        (seen, at)
    }

    /// The first page of a range that is anywhere.
    pub fn first_held(&self, range: Range<u64>) -> Option<u64> {
        let here = self.first(range.clone()).map(|(index, _)| index);
        let there = self.first_swapped(range).map(|(index, _)| index);
        here.into_iter().chain(there).min()
    }

    /// Puts a slot into the place of the page's folio, which is given back.
    pub fn move_out(&mut self, index: u64, slot: SwapEntry) -> Result<Option<Folio>, OutOfMemory> {
        match self.swapped.insert(index, slot) {
            Ok(()) => Ok(self.folios.remove(index)),
            Err(_) => Err(OutOfMemory),
        }
    }

    /// Puts a folio into the place of the page's slot.
    pub fn move_in(&mut self, index: u64, folio: Folio) -> Result<(), OutOfMemory> {
        self.folios.insert(index, folio).map_err(|_| OutOfMemory)?;
        self.swapped.remove(index);
        Ok(())
    }

    /// Forgets that a page is in swap; its slot is the caller's to release.
    pub fn forget_swapped(&mut self, index: u64) -> Option<SwapEntry> {
        self.swapped.remove(index)
    }

    pub fn remove(&mut self, index: u64) -> Option<Folio> {
        self.folios.remove(index)
    }

    /// The first folio of a range with the tag.
    pub fn first_tagged(&self, range: Range<u64>, tag: Tag) -> Option<(u64, &Folio)> {
        self.folios.next_marked(range.start, tag.mark()).filter(|(index, _)| *index < range.end)
    }

    pub fn any_tagged(&self, tag: Tag) -> bool {
        self.folios.any_marked(tag.mark())
    }

    pub fn has_tag(&self, index: u64, tag: Tag) -> bool {
        self.any_tagged(tag) && self.folios.has_mark(index, tag.mark())
    }

    pub fn set_tag(&mut self, index: u64, tag: Tag, on: bool) {
        self.folios.set_mark(index, tag.mark(), on);
    }
}
