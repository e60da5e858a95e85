//! A device's own page cache: what programs see that open `/dev/vda`, and where [`crate::buffer`] finds its
//! blocks.
//!
//! The folios are a [`vm::Mapping`]'s, which decides when they are read and written; here runs of them become
//! bios, one for each run that is consecutive. What a journal holds back ([`crate::Buffer::pin`]) is left
//! out when its page is written; its buffer makes the page dirty again when it is let go.

use crate::bio::{Bio, BioFlags, Op, SECTOR_SHIFT};
use crate::buffer::ALL_SECTORS;
use crate::device::BlockDevice;
use crate::pages::Pages;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use vm::{
    BackingDevice, CacheKind, FolioRead, FolioWrite, Mapping, MappingOps, ReadRun, WritePass, WriteRun,
};

const PAGE: u64 = arch::PAGE_SIZE as u64;
const PAGE_SECTORS: u64 = PAGE >> SECTOR_SHIFT;

/// The mapping's way to the device.
struct DeviceOps {
    device: Weak<BlockDevice>,
}

/// An empty cache.
pub(crate) fn new_mapping(device: &Arc<BlockDevice>) -> Arc<Mapping> {
    let ops = Arc::new(DeviceOps { device: Arc::downgrade(device) });
    Mapping::new(CacheKind::Backed, device.bytes(), ops)
}

impl MappingOps for DeviceOps {
    fn read_run(&self, run: ReadRun) {
        let Some(device) = self.device.upgrade() else { return run.finish(Err(Errno::EIO)) };
        let mut folios = Vec::new();
        if folios.try_reserve_exact(run.len()).is_err() {
            return run.finish(Err(Errno::ENOMEM));
        }
        for one in run {
            let on_device = device.sectors().saturating_sub(one.index() * PAGE_SECTORS);
            if on_device == 0 || device.buffers.take_fresh(one.index()) {
                read_pages(&device, core::mem::take(&mut folios));
                one.fill_zero();
                continue;
            }
            if on_device < PAGE_SECTORS {
                one.folio().zero();
            }
            folios.push(one);
        }
        read_pages(&device, folios);
    }

    fn read_ahead_pages(&self) -> u32 {
        self.device.upgrade().map_or(0, |device| device.disk().read_ahead_pages())
    }

    fn write_pass(&self, pass: &mut WritePass<'_>) -> Result<()> {
        while let Some(run) = pass.next_run(256) {
            self.write_run(run);
        }
        Ok(())
    }

    fn write_run(&self, run: WriteRun) {
        let Some(device) = self.device.upgrade() else { return run.finish(Err(Errno::EIO)) };
        let flags = if run.is_sync() { BioFlags::SYNC } else { BioFlags::empty() };
        let mut whole = Vec::new();
        let room = whole.try_reserve_exact(run.len());
        if room.is_err() {
            return run.into_iter().for_each(|one| write_part(&device, one, ALL_SECTORS, flags));
        }
        for one in run {
            let pinned = device.buffers.begin_write(one.index());
            if pinned == 0 && one.valid_len() as u64 == PAGE {
                whole.push(one);
                continue;
            }
            write_pages(&device, core::mem::take(&mut whole), flags);
            write_part(&device, one, !pinned, flags);
        }
        write_pages(&device, whole, flags);
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        self.device.upgrade()?.backing()
    }
}

/// Reads consecutive pages that lie on the device.
fn read_pages(device: &Arc<BlockDevice>, folios: Vec<FolioRead>) {
    let Some(first) = folios.first().map(FolioRead::index) else { return };
    let bio = page_bio(device, Op::Read, first, folios.iter().map(FolioRead::folio));
    match bio {
        Ok(mut bio) => {
            bio.end = Some(Pages::new(folios));
            device.submit(bio);
        }
        Err(error) => folios.into_iter().for_each(|one| one.finish(Err(error))),
    }
}

/// A bio for whole pages from `first` on, but for what lies behind the end of the device.
fn page_bio<'a>(
    device: &BlockDevice,
    op: Op,
    first: u64,
    folios: impl ExactSizeIterator<Item = &'a mem::Folio>,
) -> Result<Box<Bio>> {
    let mut bio = Bio::new(op, first * PAGE_SECTORS)?;
    bio.reserve(folios.len())?;
    for (index, folio) in (first..).zip(folios) {
        let sectors = device.sectors().saturating_sub(index * PAGE_SECTORS).min(PAGE_SECTORS);
        bio.push(folio, 0, (sectors << SECTOR_SHIFT) as usize)?;
    }
    Ok(bio)
}

/// Writes consecutive whole pages.
fn write_pages(device: &Arc<BlockDevice>, folios: Vec<FolioWrite>, flags: BioFlags) {
    let Some(first) = folios.first().map(FolioWrite::index) else { return };
    match page_bio(device, Op::Write, first, folios.iter().map(FolioWrite::folio)) {
        Ok(mut bio) => {
            bio.flags |= flags;
            bio.end = Some(Pages::new(folios));
            device.submit(bio);
        }
        Err(error) => folios.into_iter().for_each(|one| one.finish(Err(error))),
    }
}

/// Writes the sectors `wanted` of one page, as far as they lie on the device.
fn write_part(device: &Arc<BlockDevice>, one: FolioWrite, wanted: u8, flags: BioFlags) {
    let on_device = (one.valid_len() >> SECTOR_SHIFT) as u32;
    let wanted = wanted & ALL_SECTORS.checked_shr(8 - on_device).unwrap_or(0);
    let (index, folio) = (one.index(), one.folio().clone());
    let mut folios = Vec::new();
    if folios.try_reserve_exact(1).is_err() {
        return one.finish(Err(Errno::ENOMEM));
    }
    folios.push(one);
    let all = Pages::new(folios);
    for run in runs(wanted) {
        let sector = index * PAGE_SECTORS + run.start as u64;
        all.add_part();
        match Bio::with(Op::Write, sector, &folio, run.start << SECTOR_SHIFT, run.len() << SECTOR_SHIFT) {
            Ok(mut bio) => {
                bio.flags |= flags;
                bio.end = Some(all.clone());
                device.submit(bio);
            }
            Err(error) => all.part_done(Err(error)),
        }
    }
    all.part_done(Ok(()));
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

impl BlockDevice {
    /// Writes what is dirty in the bytes `start..end` of its page cache and waits for it; an error of this or an
    /// earlier write that no kernel user was told of. What a journal holds back stays.
    pub fn write_back(self: &Arc<Self>, start: u64, end: u64) -> Result<()> {
        let Some(mapping) = self.mapping_if_used() else { return Ok(()) };
        mapping.sync(start, end)?;
        mapping.errors().check(&self.errors_seen)
    }

    /// fsync(2) of the device: what is dirty in its cache, then the device's own cache.
    pub fn sync(self: &Arc<Self>) -> Result<()> {
        let written = self.write_back(0, u64::MAX);
        written.and(self.flush())
    }

    /// The flusher of dirty pages that go to this disk: for [`MappingOps::device`] of file systems on it.
    pub fn backing(&self) -> Option<Arc<BackingDevice>> {
        self.disk().backing()
    }

    /// Takes the bytes `start..end` out of the page cache: their contents are about to change below it. Pages that
    /// lie in the range only in part are written, kept, and zeroed there, which is what they become.
    pub fn drop_cached(self: &Arc<Self>, start: u64, end: u64) -> Result<()> {
        let Some(mapping) = self.mapping_if_used() else { return Ok(()) };
        mapping.flush_range(start, end)?;
        mapping.punch_hole(start, end);
        mapping.flush_range(start, end)
    }
}
