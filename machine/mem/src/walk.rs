//! Page tables as trees of 512 entries, whatever the architecture's encoding and number of levels.
//!
//! Level 0 maps 4 KiB pages, level `n` entries cover 2^(12 + 9n) bytes. A table's frame record counts the
//! entries in use, so that a table that becomes empty is found without looking through it.

use crate::frame::{Kind, Pfn, frame, pfn_of, phys_of, virt_of};
use crate::local::{CpuLocal, Init};
use crate::{AllocFlags, OutOfMemory, pages};
use arch::PAGE_SHIFT;
use arch::mmu::Pte;
use buddy::NONE;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) const ENTRIES: usize = 512;
const INDEX_BITS: usize = 9;

/// Frames used for page tables, user and kernel, spare ones included.
pub(crate) static TABLE_FRAMES: AtomicUsize = AtomicUsize::new(0);

pub(crate) const fn bits(pte: Pte) -> u64 {
    // SAFETY: 1. `Pte` is a transparent u64 (the contract in `arch::paging`).
    unsafe { core::mem::transmute(pte) }
}

const _: () = assert!(size_of::<Pte>() == 8);

pub(crate) fn from_bits(bits: u64) -> Pte {
    // SAFETY: as for `bits`.
    unsafe { core::mem::transmute(bits) }
}

/// Bytes that one entry of `level` covers.
pub(crate) fn span(level: usize) -> usize {
    1 << (PAGE_SHIFT + INDEX_BITS * level)
}

pub(crate) fn index(va: usize, level: usize) -> usize {
    va >> (PAGE_SHIFT + INDEX_BITS * level) & (ENTRIES - 1)
}

/// Empty tables of this CPU, linked through `next`. A table is given back empty, all zeroes: handing it
/// out again spares clearing a page, which is most of what making one costs.
struct Spares {
    head: Pfn,
    count: u32,
}

/// Most spares of a CPU: what a small process takes.
const SPARES: u32 = 16;

impl Init for Spares {
    const INIT: Spares = Spares { head: NONE, count: 0 };
}

static SPARE: CpuLocal<Spares> = CpuLocal::new();

impl Spares {
    fn pop(&mut self) -> Option<Pfn> {
        let pfn = self.head;
        if pfn == NONE {
            return None;
        }
        self.head = frame(pfn).next.load(Ordering::Relaxed);
        self.count -= 1;
        Some(pfn)
    }

    fn push(&mut self, pfn: Pfn) -> bool {
        if self.count >= SPARES {
            return false;
        }
        frame(pfn).next.store(self.head, Ordering::Relaxed);
        self.head = pfn;
        self.count += 1;
        true
    }
}

/// Gives this CPU's spare tables back.
pub(crate) fn trim() {
    while let Some(pfn) = SPARE.with(Spares::pop).flatten() {
        give_back(pfn);
    }
}

fn give_back(pfn: Pfn) {
    TABLE_FRAMES.fetch_sub(1, Ordering::Relaxed);
    pages::free(pfn, 0);
}

/// A table by its frame. Copying the handle does not copy the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table(pub Pfn);

impl Table {
    /// A new, empty table.
    pub(crate) fn alloc(flags: AllocFlags) -> Result<Table, OutOfMemory> {
        if !flags.contains(AllocFlags::DMA32)
            && let Some(pfn) = SPARE.with(Spares::pop).flatten()
        {
            return Ok(Table(pfn));
        }
        let pfn = pages::alloc(0, flags | AllocFlags::ZERO)?;
        TABLE_FRAMES.fetch_add(1, Ordering::Relaxed);
        frame(pfn).set_kind(Kind::Table, 0);
        frame(pfn).maps.store(0, Ordering::Relaxed);
        Ok(Table(pfn))
    }

    /// Gives a table back whose entries are all empty.
    pub(crate) fn free(self) {
        debug_assert!(self.used() == 0);
        if SPARE.with(|spares| spares.push(self.0)) != Some(true) {
            give_back(self.0);
        }
    }

    /// The table that an entry points to.
    pub(crate) fn of(pte: Pte) -> Table {
        Table(pfn_of(pte.addr()))
    }

    pub(crate) fn pte(self) -> Pte {
        Pte::table(phys_of(self.0))
    }

    #[inline]
    pub(crate) fn entry(self, index: usize) -> &'static AtomicU64 {
        debug_assert!(index < ENTRIES);
        // SAFETY: 1. the frame is a page table, mapped in the direct map; 2. it lives as long as its tree,
        // whose owner makes the calls; 3. the index is below 512 (masked by `index`); 4. hardware changes
        // entries too, hence atomics.
        unsafe { &*virt_of(self.0).cast::<AtomicU64>().add(index) }
    }

    #[inline]
    pub(crate) fn get(self, index: usize) -> Pte {
        from_bits(self.entry(index).load(Ordering::Relaxed))
    }

    /// The first of the entries `from..end` that is not empty, or `end`.
    ///
    /// Four at a time, since most are: a megabyte that was never touched, beside memory that was, took 2,500
    /// instructions to unmap one by one.
    #[inline]
    pub(crate) fn next_filled(self, from: usize, end: usize) -> usize {
        const { assert!(bits(Pte::EMPTY) == 0) };
        let word = |i| self.entry(i).load(Ordering::Relaxed);
        let mut i = from;
        while i + 4 <= end && word(i) | word(i + 1) | word(i + 2) | word(i + 3) == 0 {
            i += 4;
        }
        while i < end && word(i) == 0 {
            i += 1;
        }
        i
    }

    /// Writes an entry that was empty, or changes one that stays in use.
    #[inline]
    pub(crate) fn put(self, index: usize, pte: Pte) {
        self.entry(index).store(bits(pte), Ordering::Release);
    }

    /// Writes an empty entry and counts it.
    #[inline]
    pub(crate) fn fill(self, index: usize, pte: Pte) {
        self.put(index, pte);
        self.count_filled(1);
    }

    /// Counts empty entries that were written with `put`.
    #[inline]
    pub(crate) fn count_filled(self, entries: u32) {
        let used = &frame(self.0).maps;
        used.store(used.load(Ordering::Relaxed) + entries, Ordering::Relaxed);
    }

    /// Empties an entry of a tree that no CPU runs any more; returns what it held.
    #[inline]
    pub(crate) fn take_dead(self, index: usize) -> Pte {
        let old = self.get(index);
        self.entry(index).store(bits(Pte::EMPTY), Ordering::Relaxed);
        old
    }

    /// Says that all entries have been taken with `take_dead`.
    pub(crate) fn set_unused(self) {
        frame(self.0).maps.store(0, Ordering::Relaxed);
    }

    /// Empties an entry in use; returns what it held last, hardware's accessed and dirty bits included.
    #[inline]
    pub(crate) fn take(self, index: usize) -> Pte {
        let used = &frame(self.0).maps;
        used.store(used.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        from_bits(self.entry(index).swap(bits(Pte::EMPTY), Ordering::AcqRel))
    }

    /// Entries in use; meaningless for the kernel's tables.
    pub(crate) fn used(self) -> u32 {
        frame(self.0).maps.load(Ordering::Relaxed)
    }

    /// The table of `level` for `va` below this one of `from` level; `None` where it ends earlier.
    #[inline]
    pub(crate) fn descend(self, va: usize, from: usize, level: usize) -> Option<Table> {
        let mut table = self;
        for at in (level + 1..=from).rev() {
            let pte = table.get(index(va, at));
            if !pte.is_present() || pte.is_leaf(at) {
                return None;
            }
            table = Table::of(pte);
        }
        Some(table)
    }

    /// As [`Table::descend`], making tables that are missing and counting them in `made`. Fails also where a
    /// large page is in the way.
    pub(crate) fn descend_making(
        self,
        va: usize,
        from: usize,
        level: usize,
        flags: AllocFlags,
        made: &AtomicUsize,
    ) -> Result<Table, OutOfMemory> {
        let mut table = self;
        for at in (level + 1..=from).rev() {
            let pte = table.get(index(va, at));
            if pte.is_present() {
                if pte.is_leaf(at) {
                    return Err(OutOfMemory);
                }
                table = Table::of(pte);
                continue;
            }
            let new = Table::alloc(flags)?;
            table.fill(index(va, at), new.pte());
            made.fetch_add(1, Ordering::Relaxed);
            table = new;
        }
        Ok(table)
    }
}

/// The level of root tables.
#[inline]
pub(crate) fn root_level() -> usize {
    arch::mmu::levels() - 1
}
