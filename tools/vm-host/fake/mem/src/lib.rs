//! Folios in the host's heap and a page table that is an ordered map.
//!
//! Stricter than the real thing where that finds mistakes: an entry needs its table page prepared, each
//! table page stands for 2 MiB, and memory ends when a test says so.
#![forbid(unsafe_code)]

use abi::Errno;
use arch::paging::PteFlags;
use arch::{PAGE_SIZE, PhysAddr};
use bitflags::bitflags;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use sync::levels::PageTable;
use sync::{SpinGuard, SpinLock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for Errno {
    fn from(_: OutOfMemory) -> Errno {
        Errno::ENOMEM
    }
}

thread_local! {
    static BUDGET: Cell<i64> = const { Cell::new(i64::MAX) };
}
static LIVE: AtomicI64 = AtomicI64::new(0);

/// Lets this thread allocate `pages` more pages (folios and tables).
pub fn set_budget(pages: i64) {
    BUDGET.set(pages);
}

/// Folios that exist, of all threads.
pub fn live_folios() -> i64 {
    LIVE.load(SeqCst)
}

fn spend() -> Result<(), OutOfMemory> {
    BUDGET.with(|budget| {
        let left = budget.get();
        if left <= 0 {
            return Err(OutOfMemory);
        }
        budget.set(left - 1);
        Ok(())
    })
}

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AllocFlags: u32 {
        const ZERO = 1;
        const ATOMIC = 2;
        const KERNEL = 4;
        const USER = 8;
        const HIGH = 16;
        const DMA32 = 32;
    }
}

struct Inner {
    phys: u64,
    bytes: Mutex<Vec<u8>>,
    maps: AtomicU32,
    dirty: AtomicBool,
    uptodate: AtomicBool,
    referenced: AtomicBool,
    locked: AtomicBool,
    writeback: AtomicBool,
    readahead: AtomicBool,
    place: AtomicU32,
}

impl Drop for Inner {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, SeqCst);
    }
}

#[derive(Clone)]
pub struct Folio(Arc<Inner>);

static NEXT_PHYS: AtomicU64 = AtomicU64::new(0x8000_0000);

impl Folio {
    pub fn alloc(order: u8, flags: AllocFlags) -> Result<Folio, OutOfMemory> {
        spend()?;
        let fill = if flags.contains(AllocFlags::ZERO) { 0 } else { 0xaa };
        let bytes = PAGE_SIZE << order;
        LIVE.fetch_add(1, SeqCst);
        Ok(Folio(Arc::new(Inner {
            phys: NEXT_PHYS.fetch_add(bytes as u64, SeqCst),
            bytes: Mutex::new(vec![fill; bytes]),
            maps: AtomicU32::new(0),
            dirty: AtomicBool::new(false),
            uptodate: AtomicBool::new(false),
            referenced: AtomicBool::new(false),
            locked: AtomicBool::new(false),
            writeback: AtomicBool::new(false),
            readahead: AtomicBool::new(false),
            place: AtomicU32::new(0),
        })))
    }

    pub fn phys(&self) -> PhysAddr {
        PhysAddr(self.0.phys)
    }

    pub fn refs(&self) -> u32 {
        Arc::strong_count(&self.0) as u32
    }

    pub fn map_count(&self) -> u32 {
        self.0.maps.load(SeqCst)
    }

    pub fn copy_from(&self, other: &Folio) {
        let bytes = other.0.bytes.lock().expect("bytes").clone();
        *self.0.bytes.lock().expect("bytes") = bytes;
    }

    pub fn copy_pages_from(&self, page: usize, from: &Folio, from_page: usize, count: usize) {
        assert_eq!((page, from_page, count), (0, 0, 1));
        self.copy_from(from);
    }

    pub fn read(&self, offset: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.0.bytes.lock().expect("bytes")[offset..offset + out.len()]);
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.0.bytes.lock().expect("bytes")[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub fn dirty(&self) -> bool {
        self.0.dirty.load(SeqCst)
    }

    pub fn set_dirty(&self) -> bool {
        self.0.dirty.swap(true, SeqCst)
    }

    pub fn referenced(&self) -> bool {
        self.0.referenced.load(SeqCst)
    }

    pub fn set_referenced(&self) -> bool {
        self.0.referenced.swap(true, SeqCst)
    }

    pub fn clear_referenced(&self) -> bool {
        self.0.referenced.swap(false, SeqCst)
    }

    pub fn clear_dirty(&self) -> bool {
        self.0.dirty.swap(false, SeqCst)
    }

    pub fn uptodate(&self) -> bool {
        self.0.uptodate.load(SeqCst)
    }

    pub fn locked(&self) -> bool {
        self.0.locked.load(SeqCst)
    }

    pub fn try_lock(&self) -> bool {
        !self.0.locked.swap(true, SeqCst)
    }

    pub fn unlock(&self) -> bool {
        assert!(self.0.locked.swap(false, SeqCst), "unlocked twice");
        true
    }

    pub fn writeback(&self) -> bool {
        self.0.writeback.load(SeqCst)
    }

    pub fn begin_writeback(&self) -> bool {
        self.0.writeback.swap(true, SeqCst)
    }

    pub fn end_writeback(&self) -> bool {
        assert!(self.0.writeback.swap(false, SeqCst), "written twice");
        true
    }

    pub fn announce_waiter(&self) {}

    pub fn wait_key(&self) -> usize {
        (self.0.phys / PAGE_SIZE as u64) as usize
    }

    pub fn set_readahead(&self) {
        self.0.readahead.store(true, SeqCst);
    }

    pub fn readahead(&self) -> bool {
        self.0.readahead.load(SeqCst)
    }

    pub fn take_readahead(&self) -> bool {
        self.0.readahead.swap(false, SeqCst)
    }

    pub fn place(&self) -> u32 {
        self.0.place.load(SeqCst)
    }

    pub fn set_place(&self, place: u32) {
        self.0.place.store(place, SeqCst);
    }

    pub fn set_uptodate(&self) {
        self.0.uptodate.store(true, SeqCst);
    }

    pub fn zero(&self) {
        self.0.bytes.lock().expect("bytes").fill(0);
    }

    pub fn ptr_eq(&self, other: &Folio) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The shared zero page.
pub fn zero_folio() -> &'static Folio {
    static ZERO: OnceLock<Folio> = OnceLock::new();
    ZERO.get_or_init(|| {
        let bytes = Mutex::new(vec![0; PAGE_SIZE]);
        Folio(Arc::new(Inner {
            phys: 0x1000,
            bytes,
            maps: AtomicU32::new(0),
            dirty: AtomicBool::new(false),
            uptodate: AtomicBool::new(true),
            referenced: AtomicBool::new(false),
            locked: AtomicBool::new(false),
            writeback: AtomicBool::new(false),
            readahead: AtomicBool::new(false),
            place: AtomicU32::new(0),
        }))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageEntry {
    pub phys: PhysAddr,
    pub flags: PteFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    None,
    Page(PageEntry),
    Soft(u64),
}

enum Slot {
    /// `None`: the zero page.
    Page(Option<Folio>, PteFlags),
    Soft(u64),
}

#[derive(Default)]
struct Tables {
    entries: BTreeMap<usize, Slot>,
    tables: BTreeSet<usize>,
}

impl Tables {
    fn need_table(&self, va: usize) -> Result<(), OutOfMemory> {
        if self.tables.contains(&(va >> 21)) { Ok(()) } else { Err(OutOfMemory) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Slot::Page(Some(folio), _) = self {
            folio.0.maps.fetch_sub(1, SeqCst);
        }
    }
}

pub struct UserTable {
    tables: SpinLock<Tables, PageTable>,
}

#[derive(Default)]
pub struct Copied {
    pub soft: usize,
    pub plain: usize,
    pub zero: usize,
}

pub struct ForkCopier<'a> {
    parent: &'a UserTable,
    child: &'a UserTable,
}

impl ForkCopier<'_> {
    pub fn copy(&mut self, range: Range<usize>, share: bool) -> Result<Copied, OutOfMemory> {
        let mut copied = Copied::default();
        let mut from = self.parent.tables.lock();
        let mut to = self.child.tables.lock_nested();
        for (&va, slot) in from.entries.range_mut(range) {
            if to.need_table(va).is_err() {
                spend()?;
                to.tables.insert(va >> 21);
            }
            let copy = match slot {
                Slot::Soft(value) => Slot::Soft(*value),
                Slot::Page(folio, flags) => {
                    if !share {
                        flags.remove(PteFlags::WRITE);
                    }
                    match folio {
                        Some(folio) => {
                            folio.0.maps.fetch_add(1, SeqCst);
                            let soft = flags.contains(PteFlags::SOFT);
                            *(if soft { &mut copied.soft } else { &mut copied.plain }) += 1;
                        }
                        None => copied.zero += 1,
                    }
                    Slot::Page(folio.clone(), *flags)
                }
            };
            to.entries.insert(va, copy);
        }
        Ok(copied)
    }
}

pub struct TableGuard<'a> {
    tables: SpinGuard<'a, Tables, PageTable>,
}

impl UserTable {
    pub fn new() -> Result<Arc<UserTable>, OutOfMemory> {
        spend()?;
        Ok(Arc::new(UserTable { tables: SpinLock::new(Tables::default()) }))
    }

    pub fn lock(&self) -> TableGuard<'_> {
        TableGuard { tables: self.tables.lock() }
    }

    pub fn prepare(&self, va: usize) -> Result<(), OutOfMemory> {
        sync::assert_may_sleep();
        let mut tables = self.tables.lock();
        if tables.need_table(va).is_err() {
            spend()?;
            tables.tables.insert(va >> 21);
        }
        Ok(())
    }

    pub fn is_zero_page(phys: PhysAddr) -> bool {
        phys.0 == 0x1000
    }

    pub fn table_bytes(&self) -> usize {
        self.tables.lock().tables.len() * PAGE_SIZE
    }

    pub fn copier<'a>(&'a self, child: &'a UserTable) -> ForkCopier<'a> {
        ForkCopier { parent: self, child }
    }
}

fn check(va: usize) {
    assert!(va.is_multiple_of(PAGE_SIZE) && va < arch::mmu::user_top(), "bad address {va:#x}");
}

impl TableGuard<'_> {
    pub fn get(&self, va: usize) -> Entry {
        check(va);
        match self.tables.entries.get(&va) {
            None => Entry::None,
            Some(Slot::Soft(value)) => Entry::Soft(*value),
            Some(Slot::Page(folio, flags)) => {
                let phys = folio.as_ref().map_or(PhysAddr(0x1000), Folio::phys);
                Entry::Page(PageEntry { phys, flags: *flags })
            }
        }
    }

    pub fn folio(&self, va: usize) -> Option<Folio> {
        check(va);
        match self.tables.entries.get(&va) {
            Some(Slot::Page(folio, _)) => folio.clone(),
            _ => None,
        }
    }

    fn put(&mut self, va: usize, slot: Slot) -> Result<Option<()>, OutOfMemory> {
        check(va);
        if self.tables.entries.contains_key(&va) {
            return Ok(None);
        }
        self.tables.need_table(va)?;
        self.tables.entries.insert(va, slot);
        Ok(Some(()))
    }

    pub fn map(
        &mut self,
        va: usize,
        folio: &Folio,
        page: usize,
        flags: PteFlags,
    ) -> Result<Option<()>, OutOfMemory> {
        assert_eq!(page, 0);
        folio.0.maps.fetch_add(1, SeqCst);
        self.put(va, Slot::Page(Some(folio.clone()), flags))
    }

    pub fn map_each<'f>(
        &mut self,
        pages: impl Iterator<Item = (usize, &'f Folio)>,
        flags: PteFlags,
    ) -> Result<usize, OutOfMemory> {
        let mut mapped = 0;
        for (va, folio) in pages {
            mapped += usize::from(self.map(va, folio, 0, flags)?.is_some());
        }
        Ok(mapped)
    }

    pub fn map_zero(&mut self, va: usize, flags: PteFlags) -> Result<Option<()>, OutOfMemory> {
        assert!(!flags.contains(PteFlags::WRITE));
        self.put(va, Slot::Page(None, flags))
    }

    pub fn map_soft(&mut self, va: usize, value: u64) -> Result<Option<()>, OutOfMemory> {
        self.put(va, Slot::Soft(value))
    }

    pub fn map_owned(
        &mut self,
        va: usize,
        folio: Folio,
        page: usize,
        flags: PteFlags,
    ) -> Result<Option<()>, OutOfMemory> {
        self.map(va, &folio, page, flags)
    }

    pub fn replace_owned(&mut self, va: usize, folio: Folio, _page: usize, flags: PteFlags) -> bool {
        check(va);
        if !self.tables.entries.contains_key(&va) {
            return false;
        }
        folio.0.maps.fetch_add(1, SeqCst);
        self.tables.entries.insert(va, Slot::Page(Some(folio), flags));
        true
    }

    pub fn replace_soft(&mut self, va: usize, word: u64) -> bool {
        check(va);
        if !matches!(self.tables.entries.get(&va), Some(Slot::Page(..))) {
            return false;
        }
        self.tables.entries.insert(va, Slot::Soft(word));
        true
    }

    pub fn set_flags(&mut self, va: usize, new: PteFlags) {
        check(va);
        if let Some(Slot::Page(_, flags)) = self.tables.entries.get_mut(&va) {
            *flags = new;
        }
    }

    pub fn protect(&mut self, range: Range<usize>, mut change: impl FnMut(PteFlags) -> PteFlags) {
        for (_, slot) in self.tables.entries.range_mut(range) {
            if let Slot::Page(_, flags) = slot {
                *flags = change(*flags);
            }
        }
    }

    pub fn unmap(&mut self, range: Range<usize>) -> usize {
        let mut count = 0;
        self.unmap_with(range, |_, _| count += 1);
        count
    }

    pub fn unmap_with(&mut self, range: Range<usize>, mut removed: impl FnMut(usize, PageEntry)) {
        let found: Vec<usize> = self.tables.entries.range(range).map(|(&va, _)| va).collect();
        for va in found {
            if let Entry::Page(page) = self.get(va) {
                removed(va, page);
            }
            self.tables.entries.remove(&va);
        }
    }

    pub fn move_range(&mut self, from: usize, to: usize, len: usize) -> Result<usize, OutOfMemory> {
        let found: Vec<usize> = self.tables.entries.range(from..from + len).map(|(&va, _)| va).collect();
        for va in &found {
            self.tables.need_table(to + (va - from))?;
            if let Some(slot) = self.tables.entries.remove(va) {
                assert!(self.tables.entries.insert(to + (va - from), slot).is_none());
            }
        }
        Ok(found.len())
    }

    pub fn for_each(&self, range: Range<usize>, mut visit: impl FnMut(usize, Entry)) {
        let found: Vec<usize> = self.tables.entries.range(range).map(|(&va, _)| va).collect();
        for va in found {
            visit(va, self.get(va));
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct MemStats {
    pub total_pages: usize,
    pub free_pages: usize,
    pub low_pages: usize,
    pub slab_pages: usize,
    pub table_pages: usize,
    pub stack_bytes: usize,
    pub vmalloc_bytes: usize,
    pub large_pages: usize,
}

/// A machine of 1 GiB.
pub fn stats() -> MemStats {
    MemStats { total_pages: 1 << 18, free_pages: free_pages(), low_pages: 1 << 8, ..MemStats::default() }
}

pub fn free_pages() -> usize {
    (1 << 18) - usize::try_from(live_folios()).unwrap_or(0)
}
