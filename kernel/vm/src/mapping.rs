//! The page cache: the pages of one file or memory object.
//!
//! **Problem.** read, write and mmap of a file must see one copy of its bytes; pages come when they
//! are asked for and go when the file shrinks, while other programs have them mapped.
//!
//! **Interface.** [`Mapping::read`] and [`Mapping::write`] walk folios and leave the copying to the
//! caller's closure, which copies between folio and user memory directly. [`Mapping::truncate`] and
//! [`Mapping::punch_hole`] also unmap. A memory object ([`CacheKind::Memory`]: tmpfs, shared anonymous
//! memory, memfd) has nothing behind its folios: a hole reads as the zero page and takes no memory.
//!
//! **Who excludes whom.** Calls that change the size are serialised by the caller (the inode's lock);
//! reads, faults and hole filling need no lock but the tree's. Faults race with truncation and win or
//! lose cleanly, see the generation in the crate's description.

use crate::account::PageCounts;
use crate::fault::FaultError;
use crate::pages::Pages;
use crate::{AddressSpace, PAGE, PAGE_SHIFT, graveyard, stats};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use mem::{AllocFlags, Folio, OutOfMemory};
use sync::SpinLock;
use sync::levels::{Leaf, PageCache};
use task::WaitQueue;

/// What stands behind the folios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// A device or server: absent folios are read from it, dirty ones written back.
    Backed,
    /// Nothing: the folios are the content.
    Memory,
}

/// The file system's side of a mapping.
pub trait MappingOps: Send + Sync {
    /// Fills a zeroed folio with page `index` from the backing store; EIO when that fails. May sleep.
    /// Never called for [`CacheKind::Memory`].
    fn read_folio(&self, _index: u64, _folio: &Folio) -> Result<()> {
        Err(Errno::EIO)
    }

    /// Before a memory object takes `pages` more pages: ENOSPC at the file system's limit. Spin locks only.
    fn charge(&self, _pages: u64) -> Result<()> {
        Ok(())
    }

    /// `pages` pages were given back. Spin locks only.
    fn uncharge(&self, _pages: u64) {}

    /// A program wrote through a shared mapping (first write since the page was clean): the inode's
    /// times and dirty state. Spin locks only.
    fn written_by_mapping(&self) {}
}

/// A memory object without a limit: shared anonymous memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryOps;

impl MappingOps for MemoryOps {}

/// The cached pages of one file or memory object (Linux's `address_space`).
pub struct Mapping {
    pages: SpinLock<Pages, PageCache>,
    size: AtomicU64,
    /// Raised after folios were taken out of the tree, before they are unmapped.
    generation: AtomicU64,
    kind: CacheKind,
    ops: Arc<dyn MappingOps>,
    mappers: SpinLock<Mappers, Leaf>,
    /// Shared writable mappings; negative: that many reasons against new ones.
    writable: AtomicI64,
    filled: WaitQueue,
}

/// Address spaces that map the file, one entry a mmap call.
#[derive(Default)]
struct Mappers {
    slots: Vec<Option<Weak<AddressSpace>>>,
    free: Vec<usize>,
}

/// The page number after the last byte of `size`.
fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE)
}

static ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];

/// Sets the bytes `range` of a one-page folio to zero.
fn clear_part(folio: &Folio, range: Range<usize>) {
    if range.start < range.end {
        folio.write(range.start, &ZEROES[range]);
    }
}

impl Mapping {
    /// An empty mapping of `size` bytes.
    pub fn new(kind: CacheKind, size: u64, ops: Arc<dyn MappingOps>) -> Arc<Mapping> {
        Arc::new(Mapping {
            pages: SpinLock::new(Pages::new()),
            size: AtomicU64::new(size),
            generation: AtomicU64::new(0),
            kind,
            ops,
            mappers: SpinLock::new(Mappers::default()),
            writable: AtomicI64::new(0),
            filled: WaitQueue::new(&"folio_wait_bit"),
        })
    }

    /// Whether this is a memory object.
    pub fn is_memory(&self) -> bool {
        self.kind == CacheKind::Memory
    }

    /// The size in bytes (Linux's i_size): the file's truth, which the inode shows.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Folios in the cache, in pages.
    pub fn cached_pages(&self) -> u64 {
        self.pages.lock().len() as u64
    }

    // ---- reading and writing ----

    /// Reads up to `len` bytes at `pos`, as far as the file goes. `sink(folio, offset, len)` is given each
    /// part and returns how many bytes it took; taking fewer ends the read. Returns the sum.
    ///
    /// No lock is held while the sink runs: it may fault on user memory.
    pub fn read(
        &self,
        pos: u64,
        len: usize,
        mut sink: impl FnMut(&Folio, usize, usize) -> Result<usize>,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let at = pos.saturating_add(done as u64);
            // Looked at for each page: the file may shrink meanwhile.
            let left = self.size().saturating_sub(at);
            let (index, offset) = (at >> PAGE_SHIFT, (at % PAGE) as usize);
            let part =
                (PAGE as usize - offset).min(len - done).min(usize::try_from(left).unwrap_or(usize::MAX));
            if part == 0 {
                break;
            }
            let taken = self.read_part(index, |folio| sink(folio, offset, part));
            match taken {
                Ok(taken) => {
                    done += taken.min(part);
                    if taken < part {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_part(&self, index: u64, sink: impl FnOnce(&Folio) -> Result<usize>) -> Result<usize> {
        match self.find(index) {
            Some(folio) => {
                folio.set_referenced();
                sink(&folio)
            }
            None if self.is_memory() => sink(mem::zero_folio()),
            None => sink(&self.fill(index)?.0),
        }
    }

    /// Writes up to `len` bytes at `pos`, growing the file. `source(folio, offset, len)` fills each part
    /// and returns how many bytes it gave; giving fewer ends the write. Returns the sum; an error only when
    /// nothing was written. The caller holds the inode's lock; no lock of this crate is held in `source`.
    pub fn write(
        &self,
        pos: u64,
        len: usize,
        mut source: impl FnMut(&Folio, usize, usize) -> Result<usize>,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some(at) = pos.checked_add(done as u64) else { break };
            let (index, offset) = (at >> PAGE_SHIFT, (at % PAGE) as usize);
            let part = (PAGE as usize - offset).min(len - done);
            match self.write_part(index, offset, part, |folio| source(folio, offset, part)) {
                Ok(given) => {
                    let given = given.min(part);
                    done += given;
                    if given > 0 {
                        self.size.fetch_max(at + given as u64, Ordering::AcqRel);
                    }
                    if given < part {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_part(
        &self,
        index: u64,
        offset: usize,
        len: usize,
        source: impl FnOnce(&Folio) -> Result<usize>,
    ) -> Result<usize> {
        let whole = len == PAGE as usize;
        let folio = match self.find(index) {
            Some(folio) => folio,
            None if whole || self.is_memory() => return self.write_new(index, offset, len, source),
            None => self.fill(index)?.0,
        };
        let given = source(&folio)?;
        folio.set_referenced();
        folio.set_dirty();
        Ok(given)
    }

    /// Writes a page that is not cached: the folio is filled first and put into the tree then, so that
    /// nobody sees it half done and a whole page need not be zeroed before it is overwritten.
    fn write_new(
        &self,
        index: u64,
        offset: usize,
        len: usize,
        source: impl FnOnce(&Folio) -> Result<usize>,
    ) -> Result<usize> {
        let whole = len == PAGE as usize;
        self.ops.charge(1)?;
        let zero = if whole { AllocFlags::empty() } else { AllocFlags::ZERO };
        let folio = Folio::alloc(0, AllocFlags::USER | zero).inspect_err(|_| self.ops.uncharge(1))?;
        let given = source(&folio).map(|given| given.min(len)).inspect_err(|_| self.ops.uncharge(1))?;
        if whole {
            clear_part(&folio, offset + given..PAGE as usize);
        }
        if given == 0 || (given < len && !self.is_memory()) {
            // The rest of a backed page is not known to be zero: nothing was written.
            self.ops.uncharge(1);
            return if given == 0 { Ok(0) } else { Err(Errno::EFAULT) };
        }
        folio.set_dirty();
        self.insert_written(index, folio, offset..offset + given).map(|()| given)
    }

    /// Puts a written folio into the tree; when a fault has put another there meanwhile, its bytes go there.
    fn insert_written(&self, index: u64, folio: Folio, bytes: Range<usize>) -> Result<()> {
        let mut pages = self.pages.lock();
        let other = pages.get(index).cloned();
        let inserted = if other.is_none() { pages.insert(index, folio.clone()) } else { Ok(false) };
        drop(pages);
        match inserted {
            Ok(true) => stats::add_cached(self.is_memory(), 1),
            Ok(false) | Err(_) => self.ops.uncharge(1),
        }
        inserted?;
        let Some(other) = other else { return Ok(()) };
        let mut buffer = [0; 256];
        let mut at = bytes.start;
        while at < bytes.end {
            let part = (bytes.end - at).min(buffer.len());
            folio.read(at, &mut buffer[..part]);
            other.write(at, &buffer[..part]);
            at += part;
        }
        other.set_dirty();
        Ok(())
    }

    /// Reads into a kernel buffer; fewer bytes at the end of the file.
    pub fn read_bytes(&self, pos: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        self.read(pos, buffer.len(), |folio, offset, len| {
            folio.read(offset, &mut buffer[done..done + len]);
            done += len;
            Ok(len)
        })
    }

    /// Writes from a kernel buffer, as [`Mapping::write`] does.
    pub fn write_bytes(&self, pos: u64, bytes: &[u8]) -> Result<usize> {
        let mut done = 0;
        self.write(pos, bytes.len(), |folio, offset, len| {
            folio.write(offset, &bytes[done..done + len]);
            done += len;
            Ok(len)
        })
    }

    // ---- finding and filling ----

    /// The cached folio of a page.
    #[inline]
    pub fn find(&self, index: u64) -> Option<Folio> {
        self.pages.lock().get(index).cloned()
    }

    /// Whether a page is cached: mincore(2).
    pub fn is_cached(&self, index: u64) -> bool {
        self.pages.lock().get(index).is_some()
    }

    /// The folio of a page, brought in when it is absent; the flag says that a device was read. The page
    /// may lie beyond the end of the file.
    pub fn fill(&self, index: u64) -> Result<(Folio, bool)> {
        self.fill_if(index, || true)?.ok_or(Errno::EIO)
    }

    /// As [`Mapping::fill`], only within the file: faults.
    pub(crate) fn folio_for_fault(&self, index: u64) -> core::result::Result<(Folio, bool), FaultError> {
        let found = self.fill_if(index, || index < pages_of(self.size()));
        match found {
            Ok(Some(found)) => Ok(found),
            Err(Errno::ENOMEM) => Err(FaultError::Oom),
            Ok(None) | Err(_) => Err(FaultError::BusErr),
        }
    }

    /// `wanted` is asked under the tree's lock, which truncation takes after it has set the size.
    fn fill_if(&self, index: u64, wanted: impl Fn() -> bool) -> Result<Option<(Folio, bool)>> {
        loop {
            let pages = self.pages.lock();
            if !wanted() {
                return Ok(None);
            }
            if let Some(folio) = pages.get(index) {
                folio.set_referenced();
                return Ok(Some((folio.clone(), false)));
            }
            if self.is_memory() {
                drop(pages);
                if let Some(folio) = self.fill_memory(index, &wanted)? {
                    return Ok(Some((folio, false)));
                }
            } else if let Some(folio) = self.fill_backed(index, pages, &wanted)? {
                return Ok(Some((folio, true)));
            }
        }
    }

    /// A hole of a memory object becomes a zeroed folio. `None`: look again.
    fn fill_memory(&self, index: u64, wanted: &impl Fn() -> bool) -> Result<Option<Folio>> {
        self.ops.charge(1)?;
        let folio =
            Folio::alloc(0, AllocFlags::USER | AllocFlags::ZERO).inspect_err(|_| self.ops.uncharge(1))?;
        let mut pages = self.pages.lock();
        let inserted = if wanted() { pages.insert(index, folio.clone()) } else { Ok(false) };
        drop(pages);
        if inserted != Ok(true) {
            self.ops.uncharge(1);
            inserted?;
            return Ok(None);
        }
        folio.set_dirty();
        stats::add_cached(true, 1);
        Ok(Some(folio))
    }

    /// Reads a folio in, or waits for whoever does. `None`: look again.
    fn fill_backed(
        &self,
        index: u64,
        mut pages: sync::SpinGuard<'_, Pages, PageCache>,
        wanted: &impl Fn() -> bool,
    ) -> Result<Option<Folio>> {
        if pages.is_filling(index) {
            drop(pages);
            self.filled.wait(|| (!self.pages.lock().is_filling(index)).then_some(()));
            return Ok(None);
        }
        pages.begin_filling(index)?;
        drop(pages);
        let read = self.read_new(index);
        let mut pages = self.pages.lock();
        pages.end_filling(index);
        let inserted = match &read {
            Ok(folio) if wanted() => pages.insert(index, folio.clone()),
            _ => Ok(false),
        };
        drop(pages);
        self.filled.wake_all();
        let inserted = inserted?;
        if inserted {
            stats::add_cached(false, 1);
        }
        read.map(|folio| inserted.then_some(folio))
    }

    /// Brings pages of a backed file in; errors are left to whoever needs the page.
    pub fn read_ahead(&self, start: u64, bytes: u64) {
        let end = pages_of(start.saturating_add(bytes)).min(pages_of(self.size()));
        for index in start >> PAGE_SHIFT..end {
            if self.fill(index).is_err() || task::current().fatal_pending() {
                return;
            }
        }
    }

    fn read_new(&self, index: u64) -> Result<Folio> {
        let folio = Folio::alloc(0, AllocFlags::USER | AllocFlags::ZERO)?;
        self.ops.read_folio(index, &folio)?;
        folio.set_uptodate();
        Ok(folio)
    }

    /// Runs `action` on the cached folios of a range within the file, under the tree's lock; not at all
    /// when there is none.
    pub(crate) fn with_cached(
        &self,
        range: Range<u64>,
        action: impl FnOnce(&mut dyn Iterator<Item = (u64, &Folio)>),
    ) {
        let end = range.end.min(pages_of(self.size()));
        let pages = self.pages.lock();
        let mut found = pages.range(range.start..end).peekable();
        if found.peek().is_some() {
            action(&mut found);
        }
    }

    /// A folio was written through a shared mapping.
    pub(crate) fn note_dirty(&self, folio: &Folio) {
        if !folio.set_dirty() {
            self.ops.written_by_mapping();
        }
    }

    // ---- size ----

    /// Sets the size; when it shrinks, the pages beyond go, from the cache and from every address space.
    /// The caller holds the inode's lock. May sleep.
    pub fn truncate(&self, size: u64) {
        let old = self.size.swap(size, Ordering::AcqRel);
        if size >= old {
            return;
        }
        self.drop_pages(pages_of(size)..u64::MAX, true);
        if !size.is_multiple_of(PAGE)
            && let Some(folio) = self.find(size >> PAGE_SHIFT)
        {
            clear_part(&folio, (size % PAGE) as usize..PAGE as usize);
            folio.set_dirty();
        }
    }

    /// Makes `start..end` a hole. Pages that lie in it wholly go, parts are zeroed; the size stays. The
    /// caller holds the inode's lock. May sleep.
    pub fn punch_hole(&self, start: u64, end: u64) {
        let first = pages_of(start);
        let last = end >> PAGE_SHIFT;
        if start >> PAGE_SHIFT == end >> PAGE_SHIFT {
            return self.clear_within(start >> PAGE_SHIFT, start % PAGE..end % PAGE);
        }
        if !start.is_multiple_of(PAGE) {
            self.clear_within(start >> PAGE_SHIFT, start % PAGE..PAGE);
        }
        if !end.is_multiple_of(PAGE) {
            self.clear_within(last, 0..end % PAGE);
        }
        if first < last {
            self.drop_pages(first..last, false);
        }
    }

    fn clear_within(&self, index: u64, bytes: Range<u64>) {
        if let Some(folio) = self.find(index) {
            clear_part(&folio, bytes.start as usize..bytes.end as usize);
            folio.set_dirty();
        }
    }

    /// fallocate: gives a memory object pages for `start..end`. ENOSPC, ENOMEM; what was taken stays.
    pub fn allocate(&self, start: u64, end: u64) -> Result<()> {
        for index in start >> PAGE_SHIFT..pages_of(end) {
            self.fill(index)?;
            if task::current().fatal_pending() {
                return Err(Errno::EINTR);
            }
        }
        Ok(())
    }

    /// Takes folios out of the tree and out of the page tables; private copies too with `copies_too`.
    fn drop_pages(&self, range: Range<u64>, copies_too: bool) {
        const BATCH: usize = 32;
        let mut removed = 0;
        loop {
            let mut batch: [Option<Folio>; BATCH] = [const { None }; BATCH];
            let mut pages = self.pages.lock();
            let mut count = 0;
            while count < BATCH
                && let Some((_, folio)) = pages.take_first(range.clone())
            {
                batch[count] = Some(folio);
                count += 1;
            }
            drop(pages);
            removed += count;
            // The folios are freed here, without the lock, or by the unmapping below.
            drop(batch);
            if count < BATCH {
                break;
            }
        }
        self.ops.uncharge(if self.is_memory() { removed as u64 } else { 0 });
        stats::add_cached(self.is_memory(), -(removed as i64));
        self.unmap(range, copies_too);
    }

    // ---- who maps it ----

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Unmaps the pages from every address space that has them.
    fn unmap(&self, range: Range<u64>, copies_too: bool) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let mut slot = 0;
        while let Some((next, space)) = self.next_mapper(slot) {
            space.unmap_mapping(self, range.clone(), copies_too);
            graveyard::release(space);
            slot = next;
        }
    }

    /// The first mapper at or after a slot, and the slot to go on with.
    fn next_mapper(&self, slot: usize) -> Option<(usize, Arc<AddressSpace>)> {
        let mappers = self.mappers.lock();
        let found = mappers.slots.iter().enumerate().skip(slot);
        found.filter_map(|(i, entry)| entry.as_ref()?.upgrade().map(|space| (i + 1, space))).next()
    }

    pub(crate) fn register(&self, space: Weak<AddressSpace>) -> core::result::Result<usize, OutOfMemory> {
        let mut mappers = self.mappers.lock();
        if let Some(slot) = mappers.free.pop() {
            mappers.slots[slot] = Some(space);
            return Ok(slot);
        }
        let slot = mappers.slots.len();
        mappers.slots.try_reserve(1).map_err(|_| OutOfMemory)?;
        // Room for giving every slot back, so that unregistering cannot fail.
        let room = slot + 1 - mappers.free.len();
        mappers.free.try_reserve(room).map_err(|_| OutOfMemory)?;
        mappers.slots.push(Some(space));
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

    // ---- seeking ----

    /// The first byte at or after `pos` that is (not) in a hole, for a memory object: SEEK_DATA, SEEK_HOLE.
    /// `None` past the end.
    pub fn seek(&self, pos: u64, data: bool) -> Option<u64> {
        let size = self.size();
        if pos >= size {
            return None;
        }
        let pages = self.pages.lock();
        let first = pos >> PAGE_SHIFT;
        let mut present = pages.range(first..pages_of(size)).map(|(index, _)| index);
        if data {
            return present.next().map(|index| pos.max(index << PAGE_SHIFT));
        }
        let mut hole = first;
        while present.next() == Some(hole) {
            hole += 1;
        }
        Some(pos.max(hole << PAGE_SHIFT).min(size))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let count = self.pages.get_mut().len();
        if self.is_memory() {
            self.ops.uncharge(count as u64);
        }
        stats::add_cached(self.is_memory(), -(count as i64));
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
                let counts = PageCounts { private: 0, file };
                self.rss.removed(AddressSpace::resident_kind(&vma.data), counts);
            }
        }
    }
}
