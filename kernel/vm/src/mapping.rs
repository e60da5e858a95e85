//! The page cache: the pages of one file, block device or memory object.
//!
//! **Problem.** read, write and mmap of a file must see one copy of its bytes; pages come when they are asked
//! for or shortly before, go back to the device some time after they were written, and leave when the file
//! shrinks or memory is short, while other programs have them mapped.
//!
//! **Interface, for those who use a file.** [`Mapping::read`] and [`Mapping::write`] walk folios and leave the
//! copying to the caller's closure. [`Mapping::truncate`] and [`Mapping::punch_hole`] also unmap.
//! [`Mapping::write_back`], [`Mapping::wait_written`] and [`Mapping::sync`] bring dirty pages to the device;
//! [`Mapping::errors`] says what went wrong, once to each opener. [`Mapping::flush_range`] and
//! [`Mapping::invalidate_range`] are for direct I/O.
//!
//! **Interface, for a file system or block device** ([`MappingOps`], [`CacheKind::Backed`]). What each call
//! is given, may do and must do:
//!
//! ```text
//!   reading     page absent          folios are allocated, *locked* and put into the tree;
//!                                    ops.read_run(ReadRun)           submit I/O and return, or do it at once
//!   completion  any context          FolioRead::finish(Ok | Err)     up to date, unlocked, waiters woken
//!               bytes beyond the end of the file are zeroed by the cache; all others are the reader's duty:
//!               a hole is `FolioRead::fill_zero`. A dropped FolioRead finishes with EIO.
//!
//!   dirtying    write(2), a store    ops.prepare_write(pages, why)    may sleep: reserve or allocate blocks,
//!               through a mapping    ENOSPC, EDQUOT, EROFS            start a transaction; then the folio is
//!                                                                     dirty, the mapping on its device's list
//!   write-back  flusher, fsync, ...  ops.write_pass(WritePass)        loop: pass.next_run() -> WriteRun of
//!                                                                     consecutive folios, clean now, marked
//!                                                                     as under write-back, write-protected
//!                                    ops.write_run(WriteRun)          submit I/O and return, or do it at once
//!   completion  any context          FolioWrite::finish(Ok | Err)     write-back over; an error goes to the
//!                                                                     mapping's ErrSeq. Dropped: EIO.
//!               process context      FolioWrite::redirty()            not now (no journal space ...): dirty
//! ```
//!
//! A file system without asynchronous I/O implements [`MappingOps::read_folio`] and
//! [`MappingOps::write_folio`] instead of the two runs. One that gathers or allocates (delayed allocation,
//! ordered journalling) overrides [`MappingOps::write_pass`] and pulls runs as it likes.
//!
//! A handle owns a reference of its folio, so a page that is truncated under I/O stays memory until the
//! I/O is over; truncation waits for write-back (its blocks may be given to another file afterwards), and
//! lets reads run into folios that nobody finds any more.
//!
//! **Who excludes whom.** Calls that change the size, and writes, are serialised by the caller (the inode's
//! lock); reads, faults and write-back need no lock but the tree's, which is a spin lock that no completion takes:
//! completions change the folio's flags only. Where the blocks of a file can go or move ([`MappingOps::moves_blocks`]),
//! reads-in and first stores share [`Mapping::invalidate_lock`], which keeps a page from coming in from a place that is
//! no longer the file's. Dirty is tagged in the tree after the
//! folio's flag is set and untagged before it is cleared, so a tag is never missing for long; what is
//! written while it is on its way to the device is dirty again. Faults race with truncation and win or lose
//! cleanly, see the generation in the crate's description.
//!
//! A memory object ([`CacheKind::Memory`]: tmpfs, shared anonymous memory, memfd) has nothing behind its
//! folios but swap (module `swapping`): a hole reads as the zero page and takes no memory.

mod dirty;
mod handles;
mod mappers;
mod read;
mod swapping;
mod truncate;
mod write;
mod writeback;

pub use handles::{FolioRead, FolioWrite, ReadRun, WriteRun};
pub use writeback::{SyncMode, WritePass};

use crate::errseq::ErrSeq;
use crate::pages::{Filled, Pages, Tag};
use crate::writeback::BackingDevice;
use crate::{PAGE, PAGE_SHIFT, reclaim, stats};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
pub(crate) use mappers::Mapper;
use mappers::Mappers;
use mem::Folio;
use sync::SpinLock;
use sync::levels::{Invalidate, Leaf, PageCache};
use task::{RwSemaphore, SemReadGuard, SemWriteGuard, WaitQueue};

/// What stands behind the folios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// A device or server: absent folios are read from it, dirty ones written back.
    Backed,
    /// Nothing: the folios are the content.
    Memory,
}

/// Why pages are about to become dirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteWhy {
    /// write(2) and its kin. The inode's lock is held for writing.
    Write,
    /// A store through a shared mapping (Linux's page_mkwrite). The areas' lock of the space is held.
    Mapped,
}

/// The file system's side of a mapping. All calls are made in process context without spin locks and may
/// sleep, unless said otherwise. Calls from [`MappingOps::read_folio`] to [`MappingOps::pin`] are made for
/// [`CacheKind::Backed`] only.
pub trait MappingOps: Send + Sync {
    /// Fills one zeroed folio with page `index`, at once. The plain alternative to
    /// [`MappingOps::read_run`].
    fn read_folio(&self, _index: u64, _folio: &Folio) -> Result<()> {
        Err(Errno::EIO)
    }

    /// Starts to fill a run of consecutive folios, whose contents are undefined, and finishes each when its
    /// bytes are there. `mapping.size()` may have changed since; a page beyond the end may be asked for.
    fn read_run(&self, run: ReadRun) {
        for one in run {
            one.folio().zero();
            let result = self.read_folio(one.index(), one.folio());
            one.finish(result);
        }
    }

    /// Before `pages` become dirty: reserves or allocates room. An error refuses the write. Pages that are
    /// dirty already may be named again, and pages may be named that are then not written.
    fn prepare_write(&self, _pages: Range<u64>, _why: WriteWhy) -> Result<()> {
        Ok(())
    }

    /// Writes `len` bytes of one folio, at once: the plain alternative to [`MappingOps::write_run`].
    /// `len` is less than a page only at the end of the file.
    fn write_folio(&self, _index: u64, _folio: &Folio, _len: usize) -> Result<()> {
        Err(Errno::EROFS)
    }

    /// Starts to write a run of consecutive folios and finishes each when its bytes have arrived. Never
    /// waits for the completion of what it submits. Pages that lie beyond the end of the file by now are
    /// finished with `Ok` and not written.
    fn write_run(&self, run: WriteRun) {
        for one in run {
            let result = match one.valid_len() {
                0 => Ok(()),
                len => self.write_folio(one.index(), one.folio(), len),
            };
            one.finish(result);
        }
    }

    /// Writes the dirty pages that the pass gives out. The default hands each run of up to 256 pages to
    /// [`MappingOps::write_run`]. An error ends the pass; it is for failures without a page, those of pages
    /// go to their handles.
    fn write_pass(&self, pass: &mut WritePass<'_>) -> Result<()> {
        while let Some(run) = pass.next_run(256) {
            self.write_run(run);
        }
        Ok(())
    }

    /// The device whose flusher writes this mapping; `None`: one that all mappings without have in common.
    /// Asked once, before the first page becomes dirty.
    fn device(&self) -> Option<Arc<BackingDevice>> {
        None
    }

    /// What must live while pages are dirty: usually the inode, so that it is not evicted before its data
    /// is written. Called when the mapping goes onto its device's list; dropped when it leaves.
    fn pin(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// A page that is being written must not change until it has arrived (checksums): stores through
    /// mappings and writes wait for it.
    fn needs_stable_pages(&self) -> bool {
        false
    }

    /// Blocks of the file are taken away or change their place in it, while programs have it mapped: the file system
    /// then holds [`Mapping::invalidate_lock`].
    fn moves_blocks(&self) -> bool {
        false
    }

    /// Pages that reads of it read ahead at most, as the device's settings say now; 0: none.
    fn read_ahead_pages(&self) -> u32 {
        readahead::DEFAULT_MAX_PAGES
    }

    /// Before a memory object takes `pages` more pages: ENOSPC at the file system's limit. Spin locks only.
    fn charge(&self, _pages: u64) -> Result<()> {
        Ok(())
    }

    /// `pages` pages were given back. Spin locks only.
    fn uncharge(&self, _pages: u64) {}

    /// A program wrote through a shared mapping (first write since the page was clean): the inode's
    /// times. Spin locks only.
    fn written_by_mapping(&self) {}
}

/// A memory object without a limit: shared anonymous memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryOps;

impl MappingOps for MemoryOps {}

/// Whether who brings pages in may wait for blocks that move. A fault may not: it holds its areas' lock, which whoever
/// moves them takes to unmap pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    Try,
}

/// Holds the blocks of a file where they are.
pub(crate) struct Stay<'a>(
    #[expect(dead_code, reason = "held, not looked at")] Option<SemReadGuard<'a, (), Invalidate>>,
);

/// What completions need of a mapping; they may come when the mapping itself is gone.
pub(crate) struct Shared {
    /// The file's size in bytes.
    pub size: AtomicU64,
    pub errors: ErrSeq,
    /// Folios under write-back.
    pub in_flight: AtomicU64,
    /// Woken when there are none any more.
    pub arrived: WaitQueue,
}

/// What a mapping has on its way to the device, known also when the mapping is gone.
pub struct InFlight(Arc<Shared>);

impl InFlight {
    /// Sleeps until nothing is. The caller sees to it that no new write-back begins.
    pub fn wait(&self) {
        let none = || (self.0.in_flight.load(Ordering::Acquire) == 0).then_some(());
        if none().is_none() {
            self.0.arrived.wait(none);
        }
    }
}

/// The cached pages of one file or memory object (Linux's `address_space`).
pub struct Mapping {
    pages: SpinLock<Pages, PageCache>,
    shared: Arc<Shared>,
    /// Raised after folios were taken out of the tree, before they are unmapped.
    generation: AtomicU64,
    kind: CacheKind,
    stable: bool,
    moves_blocks: bool,
    invalidate: RwSemaphore<(), Invalidate>,
    ops: Arc<dyn MappingOps>,
    mappers: SpinLock<Mappers, Leaf>,
    /// Shared writable mappings; negative: that many reasons against new ones.
    writable: AtomicI64,
    /// On its device's list of dirty mappings.
    pub(crate) listed: AtomicBool,
    /// A memory object's place in the list of those that swap looks at, plus one; and how far it has looked.
    pub(crate) swap_place: AtomicU32,
    swap_hand: AtomicU64,
    /// Its pages stay in memory: shmctl(SHM_LOCK).
    pinned: AtomicBool,
    /// The device, and this mapping's slot in its list.
    device: sync::Once<(Arc<BackingDevice>, u32)>,
    this: Weak<Mapping>,
}

/// Pages of a range of a file, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStat {
    pub cached: u64,
    pub dirty: u64,
    pub writeback: u64,
    /// In swap.
    pub evicted: u64,
}

/// The page number after the last byte of `size`.
pub(crate) fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE)
}

static ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];

/// Sets the bytes `range` of a one-page folio to zero.
pub(crate) fn clear_part(folio: &Folio, range: Range<usize>) {
    if range.start < range.end {
        folio.write(range.start, &ZEROES[range]);
    }
}

/// Queues for what a folio's flags say; a folio has one by its number. Waking looks at one bit of the folio first.
static FOLIO_QUEUES: [WaitQueue; 64] = [const { WaitQueue::new(&"folio_wait_bit") }; 64];

fn queue_of(folio: &Folio) -> &'static WaitQueue {
    &FOLIO_QUEUES[folio.wait_key() % FOLIO_QUEUES.len()]
}

/// Sleeps until nobody fills the folio.
pub(crate) fn wait_unlocked(folio: &Folio) {
    queue_of(folio).wait(|| {
        folio.announce_waiter();
        (!folio.locked()).then_some(())
    });
}

/// Sleeps until the folio is not on its way to the backing store.
pub(crate) fn wait_written(folio: &Folio) {
    if !folio.writeback() {
        return;
    }
    queue_of(folio).wait(|| {
        folio.announce_waiter();
        (!folio.writeback()).then_some(())
    });
}

impl Mapping {
    /// An empty mapping of `size` bytes.
    pub fn new(kind: CacheKind, size: u64, ops: Arc<dyn MappingOps>) -> Arc<Mapping> {
        let shared = Shared {
            size: AtomicU64::new(size),
            errors: ErrSeq::new(),
            in_flight: AtomicU64::new(0),
            arrived: WaitQueue::new(&"folio_wait_writeback"),
        };
        Arc::new_cyclic(|this| Mapping {
            pages: SpinLock::new(Pages::new()),
            shared: Arc::new(shared),
            generation: AtomicU64::new(0),
            kind,
            stable: kind == CacheKind::Backed && ops.needs_stable_pages(),
            moves_blocks: kind == CacheKind::Backed && ops.moves_blocks(),
            invalidate: RwSemaphore::new(()),
            ops,
            mappers: SpinLock::new(Mappers::default()),
            writable: AtomicI64::new(0),
            listed: AtomicBool::new(false),
            swap_place: AtomicU32::new(0),
            swap_hand: AtomicU64::new(0),
            pinned: AtomicBool::new(false),
            device: sync::Once::new(),
            this: this.clone(),
        })
    }

    /// Whether this is a memory object.
    #[inline]
    pub fn is_memory(&self) -> bool {
        self.kind == CacheKind::Memory
    }

    /// The size in bytes (Linux's i_size): the file's truth, which the inode shows.
    #[inline]
    pub fn size(&self) -> u64 {
        self.shared.size.load(Ordering::Acquire)
    }

    /// Whether swap leaves the object's pages where they are.
    pub fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Keeps a memory object's pages from swap, or no longer.
    pub fn set_pinned(&self, on: bool) {
        self.pinned.store(on, Ordering::Relaxed);
    }

    /// While it is held nothing is read into the cache, and no program's first store to a page of a shared mapping is
    /// let through: dropping pages and changing where the file's blocks are is one step for whoever has the file
    /// mapped. The caller holds the inode's lock, and does not [`Mapping::fill`] meanwhile. Sleeps.
    pub fn invalidate_lock(&self) -> SemWriteGuard<'_, (), Invalidate> {
        self.invalidate.write()
    }

    /// The blocks of the file stay where they are until this goes. `None`: they are about to move, and the caller may
    /// not wait for that. Where they never move, nothing is held.
    pub(crate) fn blocks_stay(&self, patience: Patience) -> Option<Stay<'_>> {
        Some(Stay(match (self.moves_blocks, patience) {
            (false, _) => None,
            (true, Patience::Wait) => Some(self.invalidate.read()),
            (true, Patience::Try) => Some(self.invalidate.try_read()?),
        }))
    }

    /// Waits until the blocks are where they will stay for a while.
    pub(crate) fn wait_for_blocks(&self) {
        drop(self.blocks_stay(Patience::Wait));
    }

    /// Folios in the cache, in pages. What a memory object holds beyond that is in swap: [`Mapping::held_pages`].
    pub fn cached_pages(&self) -> u64 {
        self.pages.lock().len() as u64
    }

    /// See [`MappingOps::read_ahead_pages`].
    pub(crate) fn read_ahead_pages(&self) -> u32 {
        self.ops.read_ahead_pages()
    }

    /// Write errors, to be looked at by fsync.
    pub fn errors(&self) -> &ErrSeq {
        &self.shared.errors
    }

    /// See [`InFlight`].
    pub fn in_flight(&self) -> InFlight {
        InFlight(self.shared.clone())
    }

    /// Whether there is anything to write.
    pub fn is_dirty(&self) -> bool {
        self.pages.lock().any_tagged(Tag::Dirty)
    }

    /// Dirty, or on its way to the device.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.in_flight.load(Ordering::Acquire) > 0 || self.is_dirty()
    }

    /// The device that writes it, once a page was made ready to become dirty.
    pub(crate) fn device(&self) -> Option<&Arc<BackingDevice>> {
        self.device.get().map(|(device, _)| device)
    }

    pub(crate) fn this(&self) -> Weak<Mapping> {
        self.this.clone()
    }

    /// A folio came into the tree; `ahead` of anybody's asking for it.
    fn came(&self, index: u64, folio: &Folio, ahead: bool) {
        stats::add_cached(self.is_memory(), 1);
        if self.is_memory() {
            crate::swap::objects::came(self);
        } else {
            reclaim::came(&self.this, index, folio, ahead);
        }
    }

    /// Folios were taken out of the tree.
    fn went(&self, folios: &[Option<Folio>]) {
        stats::add_cached(self.is_memory(), -(folios.iter().flatten().count() as i64));
        if !self.is_memory() {
            reclaim::went(folios);
        }
    }

    /// A folio is used.
    #[inline]
    fn touch(&self, folio: &Folio) {
        if !folio.set_referenced() {
            reclaim::used(folio);
        }
    }

    /// The cached folio of a page, if its bytes are there.
    #[inline]
    pub fn find(&self, index: u64) -> Option<Folio> {
        self.find_any(index).filter(Folio::uptodate)
    }

    /// The cached folio of a page, be it filled or not.
    #[inline]
    pub(crate) fn find_any(&self, index: u64) -> Option<Folio> {
        self.pages.lock().get(index).cloned()
    }

    /// Whether a page is cached: mincore(2).
    pub fn is_cached(&self, index: u64) -> bool {
        self.pages.lock().get(index).is_some_and(Folio::uptodate)
    }

    /// What cachestat(2) tells of the pages of a range.
    pub fn cache_stat(&self, range: Range<u64>) -> CacheStat {
        let mut stat = CacheStat::default();
        let mut at = range.start;
        // In pieces, so that the lock is held shortly however large the file is.
        while at < range.end {
            const PIECE: usize = 512;
            let pages = self.pages.lock();
            let mut seen = 0;
            for (index, folio) in pages.range(at..range.end).take(PIECE) {
                seen += 1;
                at = index + 1;
                stat.cached += 1;
                // A memory object's pages count as dirty for swap alone.
                stat.dirty += u64::from(folio.dirty() && !self.is_memory());
                stat.writeback += u64::from(folio.writeback());
            }
            if seen < PIECE {
                break;
            }
        }
        let mut at = range.start;
        while at < range.end {
            let (seen, next) = self.pages.lock().count_swapped(at..range.end);
            stat.evicted += seen;
            at = next;
        }
        stat
    }

    /// Runs `action` on the filled folios of a range within the file, under the tree's lock. Those whose use starts the
    /// next read-ahead are passed over: the fault that they get then is how their use is noticed.
    pub(crate) fn with_cached(&self, range: Range<u64>, action: impl FnOnce(Filled<'_>)) {
        let end = range.end.min(pages_of(self.size()));
        action(self.pages.lock().filled(range.start..end));
    }

    /// The first byte at or after `pos` that is (not) in a hole, for a memory object: SEEK_DATA, SEEK_HOLE.
    /// `None` past the end.
    pub fn seek(&self, pos: u64, data: bool) -> Option<u64> {
        let size = self.size();
        if pos >= size {
            return None;
        }
        let pages = self.pages.lock();
        let (first, end) = (pos >> PAGE_SHIFT, pages_of(size));
        if data {
            return pages.first_held(first..end).map(|index| pos.max(index << PAGE_SHIFT));
        }
        let mut hole = first;
        while pages.first_held(hole..end) == Some(hole) {
            hole += 1;
        }
        Some(pos.max(hole << PAGE_SHIFT).min(size))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let memory = self.is_memory();
        let pages = self.pages.get_mut();
        let count = pages.len();
        let dirty = dirty::count_dirty(pages);
        if memory {
            let swapped = swapping::release_all(pages);
            self.ops.uncharge((count + swapped) as u64);
            crate::swap::objects::went(self);
        } else {
            stats::add_dirty(-(dirty as i64));
            if let Some((device, slot)) = self.device.get() {
                device.detach(*slot);
            }
        }
        stats::add_cached(self.is_memory(), -(count as i64));
        if !self.is_memory() {
            // The policy's references go with the tree's.
            let pages = self.pages.get_mut();
            let mut at = 0;
            loop {
                let mut batch: [Option<Folio>; 32] = [const { None }; 32];
                for (place, (index, folio)) in batch.iter_mut().zip(pages.range(at..u64::MAX)) {
                    *place = Some(folio.clone());
                    at = index + 1;
                }
                if batch[0].is_none() {
                    break;
                }
                reclaim::went(&batch);
            }
        }
    }
}
