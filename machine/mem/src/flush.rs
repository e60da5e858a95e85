//! What a change of a user page table leaves to do: TLB entries to flush, frames to give back after that.

use crate::folio::{Folio, is_zero_pfn};
use crate::frame::Pfn;
use crate::pages::Chain;
use crate::table::UserTable;
use crate::walk::Table;
use alloc::vec::Vec;
use arch::PAGE_SIZE;
use core::mem::MaybeUninit;

const INLINE: usize = 16;

/// Something that page-table entries pointed to.
#[derive(Clone, Copy)]
enum Item {
    Page(Pfn),
    Table(Table),
}

/// Collected while the table's lock is held, carried out when it is released.
///
/// The uninitialised array comes last in memory, here and in the guard: between two fields that start as
/// zero the compiler clears it along with them.
#[repr(C)]
pub(crate) struct Batch {
    /// Addresses whose translations may be cached; empty when start > end.
    start: usize,
    end: usize,
    count: usize,
    more: Vec<Item>,
    /// The first `count` of these are initialised. Not an array of options: filling it with `None` for every
    /// page fault costs more than the fault's own work here.
    first: [MaybeUninit<Item>; INLINE],
}

/// Most items before the batch is carried out in between: bounds how long freed memory is held back.
const FULL: usize = 4096;

impl Batch {
    #[inline]
    pub(crate) const fn new() -> Batch {
        Batch {
            start: usize::MAX,
            end: 0,
            first: [MaybeUninit::uninit(); INLINE],
            count: 0,
            more: Vec::new(),
        }
    }

    /// Notes that the translation of a page was taken away or restricted.
    #[inline]
    pub(crate) fn flush_page(&mut self, va: usize) {
        self.start = self.start.min(va);
        self.end = self.end.max(va + PAGE_SIZE);
    }

    /// Notes that everything may be cached wrongly.
    pub(crate) fn flush_all(&mut self) {
        self.start = 0;
        self.end = usize::MAX;
    }

    /// Takes over the reference of a removed entry.
    #[inline]
    pub(crate) fn release_page(&mut self, table: &UserTable, pfn: Pfn) {
        if !is_zero_pfn(pfn) {
            self.release(table, Item::Page(pfn));
        }
    }

    /// Takes over an empty page table.
    pub(crate) fn release_table(&mut self, user: &UserTable, table: Table) {
        // A page-walk cache may hold the pointer to it for any address below it.
        self.flush_all();
        self.release(user, Item::Table(table));
    }

    fn release(&mut self, table: &UserTable, item: Item) {
        if self.count < INLINE {
            self.first[self.count] = MaybeUninit::new(item);
            self.count += 1;
            return;
        }
        if self.more.len() >= FULL || self.more.try_reserve(1).is_err() {
            self.finish(table);
            self.first[0] = MaybeUninit::new(item);
            self.count = 1;
            return;
        }
        self.more.push(item);
    }

    /// Flushes, on every CPU that may have cached something, and gives back what was collected.
    #[inline]
    pub(crate) fn finish(&mut self, table: &UserTable) {
        // Most faults leave nothing to do. `more` is filled after `first` only.
        if self.start < self.end || self.count > 0 {
            self.carry_out(table);
        }
    }

    #[inline(never)]
    fn carry_out(&mut self, table: &UserTable) {
        if self.start < self.end {
            table.flush(self.start, self.end);
            (self.start, self.end) = (usize::MAX, 0);
        }
        let first = core::mem::replace(&mut self.count, 0);
        let mut freed = Chain::new();
        for item in &self.first[..first] {
            // SAFETY: 1. the first `count` items were written; 2. they are `Copy`, and each is used once.
            unsafe { item.assume_init() }.give_back(&mut freed);
        }
        self.more.drain(..).for_each(|item| item.give_back(&mut freed));
    }
}

impl Item {
    #[inline]
    fn give_back(self, freed: &mut Chain) {
        match self {
            Item::Page(pfn) => Folio::end_entry(pfn, freed),
            Item::Table(table) => table.free(),
        }
    }
}
