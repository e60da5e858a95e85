//! Swap: private pages on a device while their memory is somebody else's.
//!
//! **Problem.** Pages that belong to no file have nowhere to go when memory is short, however long they were not used.
//!
//! **Interface.** [`swap_on`] and [`swap_off`] are the system calls' cores; a [`SwapDevice`] reads and writes
//! pages. [`swap_out`] and [`swap_out_objects`] are kswapd's: they take pages from the address spaces it is shown, and
//! from memory objects. What a page-table entry
//! holds instead of a page is a [`SwapEntry`] in a software entry.
//!
//! **Idea.** The walk over page tables is the clock: an entry that was accessed loses its mark, one that was
//! not loses its page (Linux did so until 2.4). No list of anonymous pages has to be kept, so a fault pays
//! nothing for swap, and without a swap area nothing here is ever looked at. A page goes in three steps:
//!
//! ```text
//!   table's lock:  entry read-only and clean, a reference taken      stores fault and copy from now on
//!   no lock:       the page is written to its slot
//!   table's lock:  entry still the same and nobody else refers to the page? then the slot's number
//! ```
//!
//! A fault in between finds the page where it was; a store replaces it and the slot is given back. So there is
//! no swap cache and nobody waits for a page that is on its way out. A slot counts the entries that name it:
//! fork adds one, each of them reads its own copy back. Private pages that several processes share and locked areas
//! stay in memory.
//!
//! Memory objects (tmpfs, shared anonymous memory) have a hand each over their own pages, in the same three steps
//! around the tree's lock, and keep the slots in the tree ([`crate::Mapping`], module `swapping`).

mod area;
mod map;
pub(crate) mod objects;

pub use area::{AreaId, AreaInfo, NewArea, SwapDevice, areas, has_room, is_on, swap_off, swap_on, totals};
pub use map::SwapMap;
pub use objects::swap_out_objects;

use crate::area::{Area, Backing, VmFlags};
use crate::space::AddressSpace;
use crate::stats::{self, Event};
use crate::{PAGE, table};
use arch::paging::PteFlags;
use area::write_out;
pub(crate) use area::{read_in, release, reserve, uses};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use mem::{Entry, Folio, TableGuard, UserTable};
use vma::Vma;

/// Pages that are on their way out at once.
pub(crate) const BATCH: usize = 32;

/// Where a page is: the word of a software entry. Besides area and slot it has a number that differs from one
/// use of the slot to the next, so that a reader that was slow does not take a later page for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwapEntry(u64);

impl SwapEntry {
    const AREA_BITS: u32 = 5;
    const USE_SHIFT: u32 = SwapEntry::AREA_BITS + 32;
    /// What is left of the 58 bits of a software entry.
    const USE_BITS: u32 = 58 - SwapEntry::USE_SHIFT;

    pub(crate) fn new(area: usize, slot: u32, number: u64) -> SwapEntry {
        let number = number & ((1 << SwapEntry::USE_BITS) - 1);
        SwapEntry(number << SwapEntry::USE_SHIFT | u64::from(slot) << SwapEntry::AREA_BITS | area as u64)
    }

    pub(crate) fn from_word(word: u64) -> SwapEntry {
        SwapEntry(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// As /proc/PID/pagemap shows it.
    pub(crate) fn shown(self) -> u64 {
        self.area() as u64 | u64::from(self.slot()) << SwapEntry::AREA_BITS
    }

    pub(crate) fn area(self) -> usize {
        (self.0 & ((1 << SwapEntry::AREA_BITS) - 1)) as usize
    }

    pub(crate) fn slot(self) -> u32 {
        // The use's number above is cut off.
        (self.0 >> SwapEntry::AREA_BITS) as u32
    }
}

/// The entries of a range go: so do their slots. Under the table's lock, before the entries are removed.
pub(crate) fn forget_range(table: &TableGuard<'_>, range: &Range<u64>) -> usize {
    if !area::any_used() {
        return 0;
    }
    let mut count = 0;
    table.for_each(table::native(range), |_, entry| {
        if let Entry::Soft(word) = entry {
            release(SwapEntry::from_word(word));
            count += 1;
        }
    });
    count
}

/// A child's table has copies of entries: one more each. The child is not known to anybody yet.
pub(crate) fn adopt_range(table: &UserTable, range: &Range<u64>) -> usize {
    if !area::any_used() {
        return 0;
    }
    let mut count = 0;
    table.lock().for_each(table::native(range), |_, entry| {
        if let Entry::Soft(word) = entry {
            area::share(SwapEntry::from_word(word));
            count += 1;
        }
    });
    count
}

// ---- out ----

/// A page on its way out.
pub(crate) struct Leaving {
    /// Its address in the space, or its number in the memory object.
    pub at: u64,
    pub folio: Folio,
    pub entry: SwapEntry,
    /// Whether it arrived: it stays otherwise.
    pub written: bool,
}

/// Takes up to `wanted` pages out of one space, at most `budget` entries looked at; says how many went.
/// kswapd only: waits for the device, and holds nothing while it does. A space whose areas are being
/// changed is passed over.
pub fn swap_out(space: &AddressSpace, wanted: usize, budget: &mut usize) -> usize {
    run_out(
        wanted,
        budget,
        |leaving, wanted, budget| gather(space, leaving, wanted, budget),
        |leaving| finish(space, leaving),
    )
}

/// Batch after batch: `gather` finds pages (see [`gather`]), they are written, `finish` says whether a page went.
pub(crate) fn run_out(
    wanted: usize,
    budget: &mut usize,
    mut gather: impl FnMut(&mut [Option<Leaving>; BATCH], usize, &mut usize) -> Option<bool>,
    mut finish: impl FnMut(Leaving) -> bool,
) -> usize {
    let mut gone = 0;
    // Twice round: the first may only forget accesses.
    let mut rounds = 2;
    while gone < wanted && *budget > 0 && rounds > 0 {
        let mut leaving: [Option<Leaving>; BATCH] = [const { None }; BATCH];
        let Some(wrapped) = gather(&mut leaving, wanted - gone, budget) else { return gone };
        rounds -= usize::from(wrapped);
        let count = leaving.iter().flatten().count() as i64;
        stats::add_swap_cached(count);
        let written = write_batch(&leaving);
        for mut leaving in leaving.into_iter().flatten() {
            leaving.written = written.is_ok();
            gone += usize::from(finish(leaving));
        }
        stats::add_swap_cached(-count);
        if written.is_err() {
            return gone;
        }
    }
    gone
}

/// Finds pages that were not accessed since the hand passed last, and makes their entries read-only. `Some(true)`:
/// the hand came to the end of the space. `None`: the areas are not to be had.
fn gather(
    space: &AddressSpace,
    leaving: &mut [Option<Leaving>; BATCH],
    wanted: usize,
    budget: &mut usize,
) -> Option<bool> {
    let areas = space.areas.try_read()?;
    let start = space.swap_hand.load(Relaxed);
    let mut count = 0;
    for vma in areas.set.iter().filter(|vma| vma.end > start && may_swap(&vma.data)) {
        let mut at = vma.start.max(start);
        while at < vma.end {
            let step = at..(at & !(table::STEP - 1)).saturating_add(table::STEP).min(vma.end);
            let end = gather_step(space, &step, leaving, &mut count, wanted.min(BATCH), budget);
            space.swap_hand.store(end, Relaxed);
            if count >= wanted.min(BATCH) || *budget == 0 {
                return Some(false);
            }
            at = step.end;
        }
    }
    space.swap_hand.store(0, Relaxed);
    Some(true)
}

fn may_swap(area: &Area) -> bool {
    area.has_private()
        && !area.flags.contains(VmFlags::LOCKED)
        && !matches!(area.backing, Backing::Special(_))
}

/// One step under the table's lock; returns where to go on.
fn gather_step(
    space: &AddressSpace,
    step: &Range<u64>,
    leaving: &mut [Option<Leaving>; BATCH],
    count: &mut usize,
    wanted: usize,
    budget: &mut usize,
) -> u64 {
    let mut guard = space.table.lock();
    let mut at = step.start;
    while at < step.end && *count < wanted && *budget > 0 {
        let va = at as usize;
        at += PAGE;
        let Entry::Page(page) = guard.get(va) else { continue };
        if !page.flags.contains(PteFlags::SOFT) {
            continue;
        }
        *budget -= 1;
        if page.flags.contains(PteFlags::ACCESSED) {
            guard.set_flags(va, page.flags.difference(PteFlags::ACCESSED));
            continue;
        }
        // Our reference and the entry's: nobody else uses the page.
        let Some(folio) = guard.folio(va).filter(|folio| folio.refs() == 2) else { continue };
        let Some(entry) = reserve() else {
            *budget = 0;
            return at;
        };
        guard.set_flags(va, page.flags.difference(PteFlags::WRITE | PteFlags::DIRTY));
        leaving[*count] = Some(Leaving { at: va as u64, folio, entry, written: false });
        *count += 1;
    }
    at
}

/// Writes the pages to their slots, all of an area at once, and waits. An error leaves all of them where they are.
fn write_batch(leaving: &[Option<Leaving>; BATCH]) -> abi::errno::Result<()> {
    let mut pages: [Option<(SwapEntry, &Folio)>; BATCH] = [None; BATCH];
    let mut count = 0;
    for leaving in leaving.iter().flatten() {
        pages[count] = Some((leaving.entry, &leaving.folio));
        count += 1;
    }
    pages[..count].chunk_by(|a, b| a.map(|a| a.0.area()) == b.map(|b| b.0.area())).try_for_each(write_out)
}

/// Puts the slot into the written page's place; false, and the slot is free again, if the page was used meanwhile.
fn finish(space: &AddressSpace, leaving: Leaving) -> bool {
    let Leaving { at: va, folio, entry, written } = leaving;
    let mut guard = space.table.lock();
    let same = matches!(guard.get(va as usize), Entry::Page(page)
        if page.phys == folio.phys() && !page.flags.intersects(PteFlags::WRITE | PteFlags::ACCESSED));
    if !written || !same || folio.refs() != 2 {
        drop(guard);
        release(entry);
        return false;
    }
    space.rss.note_peak();
    let done = guard.replace_soft(va as usize, entry.word());
    drop(guard);
    if !done {
        release(entry);
        return false;
    }
    space.rss.swapped(1);
    stats::count(Event::SwapOut, 1);
    true
}

// ---- in ----

impl AddressSpace {
    /// A fault met a swapped page. The areas' lock is held.
    pub(crate) fn swap_in(&self, vma: &Vma<Area>, va: u64, word: u64, write: bool) -> Result<(), SwapFault> {
        let entry = SwapEntry::from_word(word);
        let folio = Folio::alloc(0, mem::AllocFlags::USER).map_err(|_| SwapFault::Oom)?;
        let read = read_in(entry, &folio);
        // The copy is this space's alone: it may be written at once.
        let mut flags = vma.data.pte | PteFlags::ACCESSED | PteFlags::SOFT;
        flags.set(PteFlags::DIRTY, write || flags.contains(PteFlags::WRITE));
        let mut guard = self.table.lock();
        if guard.get(va as usize) != Entry::Soft(word) {
            // Another thread was faster; the slot may have been another's, or gone, when it was read.
            return Ok(());
        }
        read.map_err(|_| SwapFault::Io)?;
        let done = guard.replace_owned(va as usize, folio, 0, flags);
        drop(guard);
        if done {
            release(entry);
            self.rss.swapped(-1);
            stats::count(Event::SwapIn, 1);
        }
        Ok(())
    }

    /// Brings every page of one swap area back: swapoff. ENOMEM, EIO.
    fn unuse(&self, area: usize) -> abi::errno::Result<()> {
        let areas = self.areas.read();
        for vma in areas.set.iter().filter(|vma| vma.data.has_private()) {
            let mut at = vma.start;
            while at < vma.end {
                let end = (at & !(table::STEP - 1)).saturating_add(table::STEP).min(vma.end);
                while let Some((va, word)) = self.first_of_area(at..end, area) {
                    self.swap_in(vma, va, word, false).map_err(|fault| match fault {
                        SwapFault::Oom => abi::Errno::ENOMEM,
                        SwapFault::Io => abi::Errno::EIO,
                    })?;
                    at = va;
                }
                at = end;
            }
        }
        Ok(())
    }

    fn first_of_area(&self, range: Range<u64>, area: usize) -> Option<(u64, u64)> {
        let mut found = None;
        self.table.lock().for_each(table::native(&range), |va, entry| {
            if let Entry::Soft(word) = entry
                && found.is_none()
                && SwapEntry::from_word(word).area() == area
            {
                found = Some((va as u64, word));
            }
        });
        found
    }
}

/// Why a swapped page could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SwapFault {
    Oom,
    Io,
}
