//! A device's own page cache: what programs see that open `/dev/vda`, and where [`crate::buffer`] finds its
//! blocks.
//!
//! The folios are a [`vm::Mapping`]'s. Which of them are dirty is kept here, by page number; what a journal
//! holds back ([`crate::Buffer::pin`]) is left out when they are written, and they stay dirty.

use crate::bio::{Batch, Bio, BioFlags, Op, SECTOR_SHIFT};
use crate::buffer::ALL_SECTORS;
use crate::device::BlockDevice;
use crate::plug::Plug;
use abi::Errno;
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use mem::Folio;
use sync::SpinLock;
use sync::levels::Leaf;
use vm::{CacheKind, Mapping, MappingOps};
use xarray::XArray;

const PAGE: u64 = arch::PAGE_SIZE as u64;
const PAGE_SHIFT: u32 = arch::PAGE_SHIFT as u32;
/// Folios that are written before their end is waited for.
const WRITE_AT_ONCE: usize = 1024;

/// What is dirty in a device's cache.
pub(crate) struct Dirty {
    pages: SpinLock<XArray<Folio>, Leaf>,
    /// A program wrote through a shared mapping: which page, nobody said.
    mapped: AtomicBool,
    /// The error of a write that nobody has been told of; 0: none.
    error: AtomicI32,
}

impl Dirty {
    pub(crate) fn new() -> Dirty {
        Dirty {
            pages: SpinLock::new(XArray::new()),
            mapped: AtomicBool::new(false),
            error: AtomicI32::new(0),
        }
    }

    /// A page was changed. Without memory to note it, all pages are looked at.
    pub(crate) fn note(&self, index: u64, folio: &Folio) {
        if !folio.set_dirty() && self.pages.lock().replace(index, folio.clone()).is_err() {
            self.mapped.store(true, Ordering::Release);
        }
    }

    fn take_first(&self, range: &Range<u64>) -> Option<(u64, Folio)> {
        let mut pages = self.pages.lock();
        let index = pages.next(range.start)?.0;
        if index >= range.end {
            return None;
        }
        pages.remove(index).map(|folio| (index, folio))
    }

    /// The error that nobody has been told of.
    pub(crate) fn take_error(&self) -> Result<()> {
        Errno::from_number(self.error.swap(0, Ordering::Relaxed)).map_or(Ok(()), Err)
    }

    pub(crate) fn set_error(&self, error: Errno) {
        self.error.store(error.number(), Ordering::Relaxed);
    }
}

/// The mapping's way to the device.
struct DeviceOps {
    device: Weak<BlockDevice>,
}

impl MappingOps for DeviceOps {
    fn read_folio(&self, index: u64, folio: &Folio) -> Result<()> {
        let device = self.device.upgrade().ok_or(Errno::EIO)?;
        let start = index.checked_mul(PAGE).ok_or(Errno::EIO)?;
        let len = device.bytes().saturating_sub(start).min(PAGE);
        if len == 0 {
            return Ok(());
        }
        device.read_sync(start >> SECTOR_SHIFT, folio, 0, len as usize)
    }

    fn written_by_mapping(&self) {
        if let Some(device) = self.device.upgrade() {
            device.dirty.mapped.store(true, Ordering::Release);
        }
    }
}

/// An empty cache.
pub(crate) fn new_mapping(device: &Arc<BlockDevice>) -> Arc<Mapping> {
    let ops = Arc::new(DeviceOps { device: Arc::downgrade(device) });
    Mapping::new(CacheKind::Backed, device.bytes(), ops)
}

impl BlockDevice {
    /// Writes what is dirty in the bytes `start..end` of its page cache and waits for it; the first error of this
    /// or an earlier write that nobody was told of. What a journal holds back stays.
    pub fn write_back(self: &Arc<Self>, start: u64, end: u64) -> Result<()> {
        let range = start >> PAGE_SHIFT..end.div_ceil(PAGE).max(start >> PAGE_SHIFT);
        self.find_mapped_dirty();
        let mut from = range.start;
        loop {
            let batch = Batch::new();
            let mut plug = Plug::new();
            let mut count = 0;
            while count < WRITE_AT_ONCE
                && let Some((index, folio)) = self.dirty.take_first(&(from..range.end))
            {
                from = index + 1;
                self.write_folio(index, &folio, &batch, &mut plug);
                count += 1;
            }
            drop(plug);
            if let Err(error) = batch.wait() {
                self.dirty.set_error(error);
            }
            if count < WRITE_AT_ONCE {
                return self.dirty.take_error();
            }
        }
    }

    /// Submits the parts of a dirty folio that may be written.
    fn write_folio(self: &Arc<Self>, index: u64, folio: &Folio, batch: &Arc<Batch>, plug: &mut Plug) {
        folio.clear_dirty();
        let pinned = self.buffers.begin_write(index);
        if pinned != 0 {
            self.dirty.note(index, folio);
        }
        let on_device = self.sectors().saturating_sub(index << (PAGE_SHIFT - SECTOR_SHIFT)).min(8);
        let wanted = !pinned & ALL_SECTORS.checked_shr(8 - on_device as u32).unwrap_or(0);
        for run in runs(wanted) {
            let sector = (index << (PAGE_SHIFT - SECTOR_SHIFT)) + run.start as u64;
            match Bio::with(Op::Write, sector, folio, run.start << SECTOR_SHIFT, run.len() << SECTOR_SHIFT) {
                Ok(mut bio) => {
                    bio.flags |= BioFlags::SYNC;
                    batch.submit(plug, self, bio);
                }
                Err(error) => {
                    self.dirty.note(index, folio);
                    self.dirty.set_error(error);
                }
            }
        }
    }

    /// Notes the pages that programs have changed through mappings.
    fn find_mapped_dirty(&self) {
        if !self.dirty.mapped.swap(false, Ordering::AcqRel) {
            return;
        }
        let Some(mapping) = self.mapping_if_used() else { return };
        for index in 0..self.bytes().div_ceil(PAGE) {
            if let Some(folio) = mapping.find(index)
                && folio.clear_dirty()
            {
                self.dirty.note(index, &folio);
            }
        }
    }

    /// fsync(2) of the device: what is dirty in its cache, then the device's own cache.
    pub fn sync(self: &Arc<Self>) -> Result<()> {
        let written = self.write_back(0, u64::MAX);
        written.and(self.flush())
    }
}

/// The runs of ones in a byte.
fn runs(mut mask: u8) -> impl Iterator<Item = Range<usize>> {
    core::iter::from_fn(move || {
        let start = (mask != 0).then(|| mask.trailing_zeros())?;
        let len = (mask >> start).trailing_ones();
        mask &= !(((1u32 << len) - 1) << start) as u8;
        Some(start as usize..(start + len) as usize)
    })
}

/// Writes up to `len` bytes at `pos`, all within the device, to its page cache. As [`Mapping::write`].
pub(crate) fn write(
    device: &Arc<BlockDevice>,
    pos: u64,
    len: usize,
    source: impl FnMut(&Folio, usize, usize) -> Result<usize>,
) -> Result<usize> {
    let mapping = device.mapping();
    let done = mapping.write(pos, len, source)?;
    let end = pos + done as u64;
    for index in pos >> PAGE_SHIFT..end.div_ceil(PAGE) {
        // `write` has set the folio's own flag; here it is noted where the folio is.
        if let Some(folio) = mapping.find(index) {
            folio.clear_dirty();
            device.dirty.note(index, &folio);
        }
    }
    Ok(done)
}

impl BlockDevice {
    /// Takes the bytes `start..end` out of the page cache after writing what is dirty around them: their contents
    /// are about to change below it. Pages that lie in the range only in part are kept and zeroed there, which is
    /// what they become.
    pub(crate) fn drop_cached(self: &Arc<Self>, start: u64, end: u64) -> Result<()> {
        let Some(mapping) = self.mapping_if_used() else { return Ok(()) };
        self.write_back(start, end)?;
        mapping.punch_hole(start, end);
        Ok(())
    }
}
