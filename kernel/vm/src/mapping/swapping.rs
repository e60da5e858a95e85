//! Pages of memory objects that go to swap and come back.
//!
//! A page on its way out stays in the tree, so that nobody waits for it:
//!
//! ```text
//!   unmapped everywhere
//!   tree's lock:  nobody refers to it? then clean, and marked as under write-back
//!   no lock:      the page is written to its slot
//!   tree's lock:  still clean and nobody refers to it? then the slot takes the folio's place
//! ```
//!
//! Whoever writes to the page meanwhile, or maps it so that stores are not noticed, makes it dirty while holding a
//! reference; then the slot is given back. Memory objects' folios are dirty at all other times.

use super::{Mapping, queue_of};
use crate::PAGE;
use crate::area::VmFlags;
use crate::pages::Pages;
use crate::stats::{self, Event};
use crate::swap::{self, BATCH, Leaving, SwapEntry};
use abi::Errno;
use abi::errno::Result;
use core::sync::atomic::Ordering::Relaxed;
use mem::{AllocFlags, Folio};

/// Gives the slots of an object back that goes away; says how many.
pub(super) fn release_all(pages: &mut Pages) -> usize {
    let mut count = 0;
    while let Some((index, slot)) = pages.first_swapped(0..u64::MAX) {
        pages.forget_swapped(index);
        swap::release(slot);
        count += 1;
    }
    count
}

impl Mapping {
    /// Pages that the object holds, in memory or in swap.
    pub fn held_pages(&self) -> u64 {
        let pages = self.pages.lock();
        (pages.len() + pages.swapped_len()) as u64
    }

    /// Whether this is a memory object without page `index`.
    pub(super) fn is_hole(&self, index: u64) -> bool {
        self.is_memory() && self.pages.lock().first_held(index..index.saturating_add(1)).is_none()
    }

    /// The folio of a page that exists: cached, or brought back from swap. What cannot be had is passed over.
    pub(super) fn find_held(&self, index: u64) -> Option<Folio> {
        let pages = self.pages.lock();
        if pages.swapped(index).is_none() {
            return pages.get(index).cloned();
        }
        drop(pages);
        self.fill(index).ok().map(|(folio, _)| folio)
    }

    // ---- in ----

    /// Brings a page back. `None`: look again.
    #[cold]
    pub(super) fn fill_swapped(
        &self,
        index: u64,
        slot: SwapEntry,
        wanted: &impl Fn() -> bool,
    ) -> Result<Option<Folio>> {
        let folio = Folio::alloc(0, AllocFlags::USER)?;
        let read = swap::read_in(slot, &folio);
        folio.set_dirty();
        folio.set_uptodate();
        let mut pages = self.pages.lock();
        if pages.swapped(index) != Some(slot) || !wanted() {
            // Somebody was faster; then the slot may have been another's, or gone, when it was read.
            return Ok(None);
        }
        read?;
        pages.move_in(index, folio.clone())?;
        drop(pages);
        swap::release(slot);
        stats::count(Event::SwapIn, 1);
        self.came(index, &folio, false);
        Ok(Some(folio))
    }

    /// Brings every page of one swap area back: swapoff. ENOMEM, EIO.
    pub(crate) fn unuse(&self, area: usize) -> Result<()> {
        let mut at = 0;
        loop {
            let pages = self.pages.lock();
            let Some((index, slot)) = pages.first_swapped(at..u64::MAX) else { return Ok(()) };
            drop(pages);
            if slot.area() == area {
                // Whether it came or went: it is looked at again.
                self.fill_swapped(index, slot, &|| true)?;
                if task::current().fatal_pending() {
                    return Err(Errno::EINTR);
                }
                at = index;
            } else {
                at = index + 1;
            }
        }
    }

    // ---- out ----

    /// Moves up to `wanted` pages to swap, at most `budget` looked at; says how many. kswapd only: waits for the
    /// device, and holds nothing while it does.
    pub(crate) fn swap_out(&self, wanted: usize, budget: &mut usize) -> usize {
        swap::run_out(
            wanted,
            budget,
            |leaving, wanted, budget| Some(self.gather_leaving(leaving, wanted, budget)),
            |leaving| self.finish_leaving(leaving),
        )
    }

    /// Finds pages that were not used since the hand passed last. True: the hand came to the end of the object.
    fn gather_leaving(
        &self,
        leaving: &mut [Option<Leaving>; BATCH],
        wanted: usize,
        budget: &mut usize,
    ) -> bool {
        let mut count = 0;
        while count < wanted.min(BATCH) && *budget > 0 {
            let hand = self.swap_hand.load(Relaxed);
            let next = self.pages.lock().first(hand..u64::MAX).map(|(index, folio)| (index, folio.clone()));
            let Some((index, folio)) = next else {
                self.swap_hand.store(0, Relaxed);
                return true;
            };
            self.swap_hand.store(index + 1, Relaxed);
            *budget -= 1;
            if !self.take_from_programs(index, &folio) {
                continue;
            }
            let Some(entry) = swap::reserve() else {
                *budget = 0;
                return false;
            };
            if self.begin_leaving(index, &folio) {
                leaving[count] = Some(Leaving { at: index, folio, entry, written: false });
                count += 1;
            } else {
                swap::release(entry);
            }
        }
        false
    }

    /// Unmaps a page unless it is in use.
    fn take_from_programs(&self, index: u64, folio: &Folio) -> bool {
        if !folio.uptodate() || folio.writeback() || folio.clear_referenced() {
            return false;
        }
        if folio.map_count() > 0 {
            if self.is_locked(index) || self.take_accessed(index, folio) {
                return false;
            }
            self.unmap_folio(index, folio);
        }
        // The tree's reference and ours.
        folio.refs() == 2
    }

    /// Whether a program has locked the page into memory; also where that cannot be found out now.
    fn is_locked(&self, index: u64) -> bool {
        let mut locked = false;
        self.for_each_mapper(|space, origin| {
            let va = origin.wrapping_add(index.wrapping_mul(PAGE));
            let Some(areas) = space.areas.try_read() else {
                locked = true;
                return;
            };
            locked |= areas.set.find(va).is_some_and(|vma| vma.data.flags.contains(VmFlags::LOCKED));
        });
        locked
    }

    /// From here on a change is noticed; false when somebody refers to the page.
    fn begin_leaving(&self, index: u64, folio: &Folio) -> bool {
        let pages = self.pages.lock();
        if !pages.get(index).is_some_and(|here| here.ptr_eq(folio)) || folio.refs() != 2 {
            return false;
        }
        folio.clear_dirty();
        !folio.begin_writeback()
    }

    /// Puts the slot into the written page's place; false, and the slot is free again, if it was used meanwhile.
    fn finish_leaving(&self, leaving: Leaving) -> bool {
        let Leaving { at, folio, entry, written } = leaving;
        let mut pages = self.pages.lock();
        let same = pages.get(at).is_some_and(|here| here.ptr_eq(&folio));
        let moved = written && same && folio.refs() == 2 && !folio.dirty();
        let gone = if moved { pages.move_out(at, entry).ok().flatten() } else { None };
        if gone.is_none() {
            folio.set_dirty();
        }
        drop(pages);
        if folio.end_writeback() {
            queue_of(&folio).wake_all();
        }
        if gone.is_none() {
            swap::release(entry);
            return false;
        }
        stats::add_cached(true, -1);
        stats::count(Event::SwapOut, 1);
        true
    }
}
