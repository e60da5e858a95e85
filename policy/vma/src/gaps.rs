//! The search for unmapped addresses.

use crate::store::{Pos, Store};
use crate::{Vma, VmaData};
use core::ops::Range;

/// From which end the search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The highest gap that fits, its highest end: Linux's layout for mmap.
    TopDown,
    /// The lowest gap that fits, its lowest end: the legacy layout, and kernel ranges.
    BottomUp,
}

/// What a caller of [`crate::VmaSet::find_free`] wants.
#[derive(Debug, Clone)]
pub struct FreeSpace {
    /// Bytes, not zero.
    pub len: u64,
    /// Alignment of the start, a power of two.
    pub align: u64,
    /// The addresses to search in; cut to the bounds of the set.
    pub within: Range<u64>,
    /// Which of several gaps.
    pub direction: Direction,
    /// Bytes to leave free below, for an area that will have a guard gap itself.
    pub guard: u64,
}

impl FreeSpace {
    /// `len` bytes anywhere in `within`, page aligned, from the top.
    pub fn top_down(len: u64, within: Range<u64>) -> FreeSpace {
        FreeSpace { len, align: 4096, within, direction: Direction::TopDown, guard: 0 }
    }

    /// `len` bytes anywhere in `within`, page aligned, from the bottom.
    pub fn bottom_up(len: u64, within: Range<u64>) -> FreeSpace {
        FreeSpace { direction: Direction::BottomUp, ..FreeSpace::top_down(len, within) }
    }

    /// Where in the gap `low..high` the bytes go.
    fn place(&self, low: u64, high: u64) -> Option<u64> {
        let low = low.max(self.within.start).checked_add(self.guard)?;
        let high = high.min(self.within.end);
        let start = match self.direction {
            Direction::TopDown => high.checked_sub(self.len)? & !(self.align - 1),
            Direction::BottomUp => low.checked_add(self.align - 1)? & !(self.align - 1),
        };
        let fits = start >= low && start.checked_add(self.len)? <= high;
        fits.then_some(start)
    }
}

pub(crate) fn find<V: VmaData>(store: &mut Store<V>, bounds: &Range<u64>, want: &FreeSpace) -> Option<u64> {
    let within = want.within.start.max(bounds.start)..want.within.end.min(bounds.end);
    if want.len == 0 || want.len > within.end.checked_sub(within.start)? {
        return None;
    }
    let want = FreeSpace { within, ..want.clone() };
    match want.direction {
        Direction::TopDown => above_all(store, &want).or_else(|| top_down(store, &want)),
        Direction::BottomUp => bottom_up(store, &want).or_else(|| above_all(store, &want)),
    }
}

/// The gap above the last area, which belongs to no chunk.
fn above_all<V: VmaData>(store: &Store<V>, want: &FreeSpace) -> Option<u64> {
    let low = store.end_before(Pos { chunk: store.chunks.len(), index: 0 });
    want.place(low, want.within.end)
}

fn top_down<V: VmaData>(store: &mut Store<V>, want: &FreeSpace) -> Option<u64> {
    // Gaps below the first area at or above the limit; higher ones cannot help.
    let top = (store.locate(want.within.end).chunk + 1).min(store.chunks.len());
    for chunk in (0..top).rev() {
        if store.chunks[chunk].max_gap >= want.len
            && let Some(start) = search_chunk(store, chunk, want)
        {
            return Some(start);
        }
        if store.chunks[chunk].areas[0].start <= want.within.start {
            return None;
        }
    }
    None
}

fn bottom_up<V: VmaData>(store: &mut Store<V>, want: &FreeSpace) -> Option<u64> {
    for chunk in store.locate(want.within.start).chunk..store.chunks.len() {
        if store.chunks[chunk].max_gap >= want.len
            && let Some(start) = search_chunk(store, chunk, want)
        {
            return Some(start);
        }
        if store.chunks[chunk].areas[0].start >= want.within.end {
            return None;
        }
    }
    None
}

/// Looks at every gap of a chunk, and corrects the chunk's bound when none fits.
fn search_chunk<V: VmaData>(store: &mut Store<V>, chunk: usize, want: &FreeSpace) -> Option<u64> {
    let below = store.end_before(Pos { chunk, index: 0 });
    let areas = &store.chunks[chunk].areas;
    let gap = |i: usize| gap_below(if i == 0 { below } else { areas[i - 1].end }, &areas[i]);
    let place = |i: usize| want.place(gap(i).start, gap(i).end);
    let found = match want.direction {
        Direction::TopDown => (0..areas.len()).rev().find_map(place),
        Direction::BottomUp => (0..areas.len()).find_map(place),
    };
    if found.is_none() {
        // Guard gaps count as free here, so that the bound does not depend on the payloads.
        let raw = |i: usize| areas[i].start - gap(i).start;
        let exact = (0..areas.len()).map(raw).max();
        store.chunks[chunk].max_gap = exact.unwrap_or(0);
    }
    found
}

/// The free addresses between `below` and `vma`, its guard gap left out.
fn gap_below<V: VmaData>(below: u64, vma: &Vma<V>) -> Range<u64> {
    below..vma.start.saturating_sub(vma.data.guard_gap()).max(below)
}
