//! Page tables as trees of 512 entries, whatever the architecture's encoding and number of levels.
//!
//! Level 0 maps 4 KiB pages, level `n` entries cover 2^(12 + 9n) bytes. A table's frame record counts the
//! entries in use, so that a table that becomes empty is found without looking through it.

use crate::frame::{Kind, Pfn, frame, pfn_of, phys_of, virt_of};
use crate::{AllocFlags, OutOfMemory, pages};
use arch::PAGE_SHIFT;
use arch::mmu::Pte;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) const ENTRIES: usize = 512;
const INDEX_BITS: usize = 9;

/// Frames used for page tables, user and kernel.
pub(crate) static TABLE_FRAMES: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn bits(pte: Pte) -> u64 {
    // SAFETY: 1. `Pte` is a transparent u64 (the contract in `arch::paging`).
    unsafe { core::mem::transmute(pte) }
}

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

/// A table by its frame. Copying the handle does not copy the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table(pub Pfn);

impl Table {
    /// A new, empty table.
    pub(crate) fn alloc(flags: AllocFlags) -> Result<Table, OutOfMemory> {
        let pfn = pages::alloc(0, flags | AllocFlags::ZERO)?;
        frame(pfn).set_kind(Kind::Table, 0);
        frame(pfn).maps.store(0, Ordering::Relaxed);
        TABLE_FRAMES.fetch_add(1, Ordering::Relaxed);
        Ok(Table(pfn))
    }

    /// Gives an unused table back.
    pub(crate) fn free(self) {
        TABLE_FRAMES.fetch_sub(1, Ordering::Relaxed);
        pages::free(self.0, 0);
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

    /// Writes an entry that was empty, or changes one that stays in use.
    #[inline]
    pub(crate) fn put(self, index: usize, pte: Pte) {
        self.entry(index).store(bits(pte), Ordering::Release);
    }

    /// Writes an empty entry and counts it.
    #[inline]
    pub(crate) fn fill(self, index: usize, pte: Pte) {
        self.put(index, pte);
        let used = &frame(self.0).maps;
        used.store(used.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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
