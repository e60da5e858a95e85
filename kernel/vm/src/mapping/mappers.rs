//! Who maps a file: finding the page-table entries of its pages.
//!
//! A mapper is one mmap call: an address space and the address that page 0 of the file has, or would have,
//! in it. That is all that finding an entry takes: an entry at the computed address is the page's if it
//! points to the page's frame. So no lock of the areas is needed and write-back, which a fault may wait
//! for, never waits for a fault. Linux keeps an interval tree of areas (i_mmap) for the same purpose.

use super::Mapping;
use crate::account::PageCounts;
use crate::{AddressSpace, PAGE_SHIFT, graveyard};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::paging::PteFlags;
use core::ops::Range;
use core::sync::atomic::Ordering;
use mem::{Entry, Folio, OutOfMemory};

/// One mmap call.
#[derive(Clone)]
pub(crate) struct Mapper {
    pub space: Weak<AddressSpace>,
    /// The address of page 0 of the file, wrapping.
    pub origin: u64,
}

/// The mappers by slot, and the free slots.
#[derive(Default)]
pub(crate) struct Mappers {
    slots: Vec<Option<Mapper>>,
    free: Vec<usize>,
}

/// The address that a page has from a mapper's view; `None` where no user page can be.
fn address_of(origin: u64, index: u64) -> Option<usize> {
    let va = origin.wrapping_add(index << PAGE_SHIFT);
    (va < arch::mmu::user_top() as u64).then_some(va as usize)
}

impl Mapping {
    pub(crate) fn register(&self, mapper: Mapper) -> core::result::Result<usize, OutOfMemory> {
        let mut mappers = self.mappers.lock();
        if let Some(slot) = mappers.free.pop() {
            mappers.slots[slot] = Some(mapper);
            return Ok(slot);
        }
        let slot = mappers.slots.len();
        mappers.slots.try_reserve(1).map_err(|_| OutOfMemory)?;
        // Room for giving every slot back, so that unregistering cannot fail.
        let room = slot + 1 - mappers.free.len();
        mappers.free.try_reserve(room).map_err(|_| OutOfMemory)?;
        mappers.slots.push(Some(mapper));
        Ok(slot)
    }

    pub(crate) fn unregister(&self, slot: usize) {
        let mut mappers = self.mappers.lock();
        let gone = mappers.slots.get_mut(slot).and_then(Option::take);
        mappers.free.push(slot);
        drop(mappers);
        drop(gone);
    }

    /// Whether any address space maps it.
    pub fn is_mapped(&self) -> bool {
        let mappers = self.mappers.lock();
        mappers.slots.len() > mappers.free.len()
    }

    /// The first mapper at or after a slot, and the slot to go on with.
    fn next_mapper(&self, slot: usize) -> Option<(usize, u64, Arc<AddressSpace>)> {
        let mappers = self.mappers.lock();
        let found = mappers.slots.iter().enumerate().skip(slot);
        found
            .filter_map(|(i, entry)| {
                let entry = entry.as_ref()?;
                entry.space.upgrade().map(|space| (i + 1, entry.origin, space))
            })
            .next()
    }

    /// Calls `each` with every space that maps the file, and its origin. May sleep.
    pub(super) fn for_each_mapper(&self, mut each: impl FnMut(&AddressSpace, u64)) {
        if !self.is_mapped() {
            return;
        }
        let mut slot = 0;
        while let Some((next, origin, space)) = self.next_mapper(slot) {
            each(&space, origin);
            graveyard::release(space);
            slot = next;
        }
    }

    /// Unmaps the pages from every address space that has them.
    pub(super) fn unmap(&self, range: Range<u64>, copies_too: bool) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.for_each_mapper(|space, _| space.unmap_mapping(self, range.clone(), copies_too));
    }

    /// Makes every entry of these pages read-only and clean, so that the next store is noticed.
    pub(super) fn write_protect<'a>(&self, folios: impl Iterator<Item = (u64, &'a Folio)> + Clone) {
        self.for_each_mapper(|space, origin| {
            let mut table = space.table.lock();
            for (index, folio) in folios.clone().filter(|(_, folio)| folio.map_count() > 0) {
                let Some(va) = address_of(origin, index) else { continue };
                if let Entry::Page(page) = table.get(va)
                    && page.phys == folio.phys()
                    && page.flags.intersects(PteFlags::WRITE | PteFlags::DIRTY)
                {
                    table.set_flags(va, page.flags.difference(PteFlags::WRITE | PteFlags::DIRTY));
                }
            }
        });
    }

    /// Whether any entry of the page was used since the last look; forgets it.
    pub(crate) fn take_accessed(&self, index: u64, folio: &Folio) -> bool {
        let mut used = false;
        self.for_each_mapper(|space, origin| {
            let Some(va) = address_of(origin, index) else { return };
            let mut table = space.table.lock();
            if let Entry::Page(page) = table.get(va)
                && page.phys == folio.phys()
                && page.flags.contains(PteFlags::ACCESSED)
            {
                used = true;
                table.set_flags(va, page.flags.difference(PteFlags::ACCESSED));
            }
        });
        used
    }

    /// Takes the page out of every page table, for reclaim. Faults may bring it back at once: whoever
    /// wants it gone looks at its counts under the tree's lock.
    pub(crate) fn unmap_folio(&self, index: u64, folio: &Folio) {
        let kind =
            if self.is_memory() { crate::account::Resident::Shmem } else { crate::account::Resident::File };
        self.for_each_mapper(|space, origin| {
            let Some(va) = address_of(origin, index) else { return };
            let mut table = space.table.lock();
            if let Entry::Page(page) = table.get(va)
                && page.phys == folio.phys()
            {
                space.rss.note_peak();
                table.unmap(va..va + crate::PAGE as usize);
                drop(table);
                space.rss.removed(kind, PageCounts { file: 1, ..PageCounts::default() });
            }
        });
    }

    pub(crate) fn begin_writable(&self) -> Result<()> {
        let change = |count: i64| (count >= 0).then_some(count + 1);
        match self.writable.fetch_update(Ordering::AcqRel, Ordering::Acquire, change) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::EPERM),
        }
    }

    pub(crate) fn end_writable(&self) {
        self.writable.fetch_sub(1, Ordering::AcqRel);
    }

    /// Refuses shared writable mappings from now on (F_SEAL_WRITE); EBUSY while there is one.
    pub fn deny_writable(&self) -> Result<()> {
        let change = |count: i64| (count <= 0).then_some(count - 1);
        match self.writable.fetch_update(Ordering::AcqRel, Ordering::Acquire, change) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::EBUSY),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

impl AddressSpace {
    /// Takes the pages `range` of a mapping out of this space's page table.
    pub(crate) fn unmap_mapping(&self, mapping: &Mapping, range: Range<u64>, copies_too: bool) {
        let areas = self.areas.read();
        for vma in areas.set.iter() {
            let Some(file) = vma.data.file_backing() else { continue };
            if !core::ptr::eq(&*file.mapping, mapping) {
                continue;
            }
            let first = vma.data.page_offset;
            let last = first + (vma.len() >> PAGE_SHIFT);
            let (from, to) = (range.start.max(first), range.end.min(last));
            if from >= to {
                continue;
            }
            let start = vma.start + ((from - first) << PAGE_SHIFT);
            let end = vma.start + ((to - first) << PAGE_SHIFT);
            if copies_too {
                self.zap(&vma.data, start..end);
            } else {
                let file = crate::table::remove_file_pages(&self.table, start..end).file;
                let counts = PageCounts { file, ..PageCounts::default() };
                self.rss.removed(AddressSpace::resident_kind(&vma.data), counts);
            }
        }
    }
}
