//! Buffers: single blocks of a device, for the metadata of file systems.
//!
//! **Problem.** A file system reads and changes blocks by number, keeps some of them back until a journal
//! has them, and must see the same bytes as a program that reads `/dev/vda`.
//!
//! **Interface.**
//!
//! | call | does |
//! |---|---|
//! | [`bread`] | the block, read in if it is not cached |
//! | [`getblk`] | the block without reading it: zeroes if it is not cached; for new blocks |
//! | [`read_ahead`] | begins to bring blocks in |
//! | [`Buffer::read`], [`Buffer::write`], ... | bytes of it; the file system's own locks say who may when |
//! | [`Buffer::mark_dirty`] | it is written some time, by the flusher of the device, at the latest by [`sync_buffers`]; a pinned one after it is unpinned |
//! | [`Buffer::pin`], [`Buffer::unpin`] | while pinned (counted) nobody writes it to its place: the journal's hold |
//! | [`Buffer::write_sync`], [`write_all`] | writes it to its place now, also when it is pinned |
//! | [`Buffer::forget`] | the block was freed: what is dirty in it need not be written |
//! | [`sync_buffers`] | writes all dirty blocks that are not pinned and waits |
//!
//! **Idea.** A buffer is a counted handle on some sectors of a folio in the device's page cache
//! ([`BlockDevice::mapping`]); there is no second copy. What a folio does not know of its parts (pinned,
//! dirty, failed) is kept a sector in a small record, which lives while somebody has a handle or a part is
//! dirty or pinned. So blocks of 512 to 4096 bytes all work, also two sizes at once. A handle counts as a reference of the
//! folio, which keeps it in the cache.
//!
//! Calls that read or write the device sleep. No lock of this module is held then.

use crate::bio::{Batch, Bio, BioFlags, Op, SECTOR_SHIFT};
use crate::device::BlockDevice;
use crate::plug::Plug;
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use mem::{Folio, Pod};
use sync::SpinLock;
use sync::levels::Leaf;
use xarray::{InsertError, XArray};

const PAGE: u64 = arch::PAGE_SIZE as u64;
/// Sectors in a page, one bit each.
const SECTORS: usize = 8;
pub(crate) const ALL_SECTORS: u8 = 0xff;

const _: () = assert!(arch::PAGE_SIZE == SECTORS << SECTOR_SHIFT);

/// What is known of the parts of one page.
struct Parts {
    index: u64,
    folio: Folio,
    dirty: AtomicU8,
    /// The last write of it failed.
    failed: AtomicU8,
    /// How often each sector is pinned.
    pins: [AtomicU16; SECTORS],
}

impl Parts {
    fn pinned(&self) -> u8 {
        let bits = self.pins.iter().enumerate();
        bits.fold(0, |mask, (at, pins)| mask | u8::from(pins.load(Ordering::Acquire) != 0) << at)
    }

    fn is_idle(&self) -> bool {
        self.dirty.load(Ordering::Acquire) == 0 && self.pinned() == 0
    }
}

/// The records of a device by page number.
pub(crate) struct Buffers {
    pages: SpinLock<XArray<Arc<Parts>>, Leaf>,
    /// Pages that need not be read when they are brought in: [`getblk`] is about to overwrite them.
    fresh: SpinLock<Vec<u64>, Leaf>,
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers { pages: SpinLock::new(XArray::new()), fresh: SpinLock::new(Vec::new()) }
    }

    /// Whether a page that is brought in is wanted as zeroes; said once.
    pub(crate) fn take_fresh(&self, index: u64) -> bool {
        let mut fresh = self.fresh.lock();
        let found = fresh.iter().position(|other| *other == index);
        found.map(|at| fresh.swap_remove(at)).is_some()
    }

    /// The record of a page, made if there is none. A page that has left the cache while nobody had a buffer
    /// of it has a new folio.
    fn parts(&self, index: u64, folio: &Folio) -> Result<Arc<Parts>> {
        let mut pages = self.pages.lock();
        if let Some(parts) = pages.get(index).filter(|parts| parts.folio.ptr_eq(folio)) {
            return Ok(parts.clone());
        }
        let parts = Arc::new(Parts {
            index,
            folio: folio.clone(),
            dirty: AtomicU8::new(0),
            failed: AtomicU8::new(0),
            pins: Default::default(),
        });
        match pages.replace(index, parts.clone()) {
            Ok(old) => {
                drop(pages);
                drop(old);
                Ok(parts)
            }
            Err(InsertError::Occupied(_) | InsertError::OutOfMemory(_)) => Err(Errno::ENOMEM),
        }
    }

    /// A page is about to be written: which sectors must not be. The others are clean from now on.
    pub(crate) fn begin_write(&self, index: u64) -> u8 {
        let parts = self.pages.lock().get(index).cloned();
        let Some(parts) = parts else { return 0 };
        let pinned = parts.pinned();
        parts.dirty.fetch_and(pinned, Ordering::AcqRel);
        self.drop_idle(parts);
        pinned
    }

    /// Lets a reference go, and the record with the last one when it says nothing.
    fn drop_idle(&self, parts: Arc<Parts>) {
        let mut pages = self.pages.lock();
        // Two: the table's and this one. References are only made under the lock or from others.
        let unused = Arc::strong_count(&parts) == 2
            && parts.is_idle()
            && pages.get(parts.index).is_some_and(|other| Arc::ptr_eq(other, &parts));
        let removed = if unused { pages.remove(parts.index) } else { None };
        drop(pages);
        drop((removed, parts));
    }
}

/// A block of a device.
pub struct Buffer {
    device: Arc<BlockDevice>,
    parts: Option<Arc<Parts>>,
    folio: Folio,
    offset: u16,
    len: u16,
}

/// Where a block is: page, and offset in it. EINVAL for a size that is none, EIO beyond the device.
fn place(device: &BlockDevice, block: u64, size: u32) -> Result<(u64, u16)> {
    if !size.is_power_of_two() || !(device.logical_block()..=PAGE as u32).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let start = block.checked_mul(size.into()).ok_or(Errno::EIO)?;
    let end = start.checked_add(size.into()).ok_or(Errno::EIO)?;
    if end > device.bytes() {
        return Err(Errno::EIO);
    }
    Ok((start / PAGE, (start % PAGE) as u16))
}

fn buffer(device: &Arc<BlockDevice>, index: u64, folio: Folio, offset: u16, size: u32) -> Result<Buffer> {
    device.mapping().ready_for_dirty()?;
    let parts = device.buffers.parts(index, &folio)?;
    Ok(Buffer { device: device.clone(), parts: Some(parts), folio, offset, len: size as u16 })
}

/// Block number `block` of `size` bytes (a power of two from the device's logical block to 4096), read in if
/// it is not cached. EIO, ENOMEM, EINVAL for the size. Sleeps.
pub fn bread(device: &Arc<BlockDevice>, block: u64, size: u32) -> Result<Buffer> {
    let (index, offset) = place(device, block, size)?;
    let (folio, _) = device.mapping().fill(index)?;
    buffer(device, index, folio, offset, size)
}

/// As [`bread`] for a block that will be overwritten as a whole: it is not read; what was not cached is
/// zeroes.
pub fn getblk(device: &Arc<BlockDevice>, block: u64, size: u32) -> Result<Buffer> {
    let (index, offset) = place(device, block, size)?;
    let mapping = device.mapping();
    let fresh = u64::from(size) == PAGE && mapping.find(index).is_none();
    if fresh {
        let mut list = device.buffers.fresh.lock();
        list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        list.push(index);
    }
    let filled = mapping.fill(index);
    if fresh {
        // It may have been there after all.
        device.buffers.take_fresh(index);
    }
    buffer(device, index, filled?.0, offset, size)
}

/// Begins to bring `count` blocks in; errors are left to who needs them.
pub fn read_ahead(device: &Arc<BlockDevice>, block: u64, count: u64, size: u32) {
    if place(device, block, size).is_ok() {
        device.mapping().read_ahead(block * u64::from(size), count.saturating_mul(size.into()));
    }
}

/// Writes all dirty blocks that are not pinned and waits for them; an error of this or an earlier write of the
/// device's cache, told once. Flushes no device cache.
pub fn sync_buffers(device: &Arc<BlockDevice>) -> Result<()> {
    device.write_back(0, u64::MAX)
}

/// Writes these blocks (of one device) to their places now, pinned or not, and waits for all; the first error. `flags`
/// may ask for `FUA`, `META`, `PREFLUSH`.
pub fn write_all<'a>(buffers: impl IntoIterator<Item = &'a Buffer>, flags: BioFlags) -> Result<()> {
    let batch = Batch::new();
    let mut plug = Plug::new();
    let mut outcome = Ok(());
    for buffer in buffers {
        match buffer.begin_write(flags) {
            Ok(bio) => batch.submit(&mut plug, &buffer.device, bio),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    drop(plug);
    batch.wait().and(outcome)
}

impl Buffer {
    fn parts(&self) -> &Parts {
        // Taken by `drop` alone.
        match &self.parts {
            Some(parts) => parts,
            None => unreachable!("a buffer in use"),
        }
    }

    /// The bits of its sectors.
    fn mask(&self) -> u8 {
        let count = self.len >> SECTOR_SHIFT;
        (((1u32 << count) - 1) << (self.offset >> SECTOR_SHIFT)) as u8
    }

    pub fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }

    /// Its number in blocks of its size.
    pub fn block(&self) -> u64 {
        (self.parts().index * PAGE + u64::from(self.offset)) / u64::from(self.len)
    }

    /// Its size in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len.into()
    }

    /// The first sector on the device.
    pub fn sector(&self) -> u64 {
        (self.parts().index * PAGE + u64::from(self.offset)) >> SECTOR_SHIFT
    }

    /// The folio and the offset where its bytes are: for a bio that writes them elsewhere (a journal).
    pub fn memory(&self) -> (&Folio, usize) {
        (&self.folio, self.offset.into())
    }

    fn at(&self, offset: usize, len: usize) -> usize {
        assert!(offset <= self.len() && len <= self.len() - offset, "outside of the block");
        usize::from(self.offset) + offset
    }

    /// Copies bytes out. Panics beyond the end of the block.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        self.folio.read(self.at(offset, to.len()), to);
    }

    /// Copies bytes in. Panics beyond the end. [`Buffer::mark_dirty`] comes next.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.folio.write(self.at(offset, from.len()), from);
    }

    /// Fills bytes. Panics beyond the end.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        self.folio.fill(self.at(offset, len), len, byte);
    }

    /// Reads a value. Panics beyond the end.
    pub fn read_val<T: Pod>(&self, offset: usize) -> T {
        self.folio.read_val(self.at(offset, size_of::<T>()))
    }

    /// Writes a value. Panics beyond the end.
    pub fn write_val<T: Pod>(&self, offset: usize, value: &T) {
        self.folio.write_val(self.at(offset, size_of::<T>()), value);
    }

    /// It differs from the device. Does not sleep.
    pub fn mark_dirty(&self) {
        self.parts().dirty.fetch_or(self.mask(), Ordering::AcqRel);
        // While it is pinned the page would only be looked at in vain.
        if !self.is_pinned() {
            self.set_folio_dirty();
        }
    }

    fn set_folio_dirty(&self) {
        self.device.mapping().set_folio_dirty(self.parts().index, &self.folio);
    }

    pub fn is_dirty(&self) -> bool {
        self.parts().dirty.load(Ordering::Acquire) & self.mask() != 0
    }

    /// Keeps it from being written to its place until as many [`Buffer::unpin`]. The pin outlives this
    /// handle.
    pub fn pin(&self) {
        self.each_pin(|pins| pins.saturating_add(1));
    }

    /// Takes one pin back. Spin locks only.
    pub fn unpin(&self) {
        self.each_pin(|pins| pins.saturating_sub(1));
        if !self.is_pinned() && self.is_dirty() {
            self.set_folio_dirty();
        }
    }

    fn each_pin(&self, change: impl Fn(u16) -> u16) {
        let first = usize::from(self.offset >> SECTOR_SHIFT);
        for pins in &self.parts().pins[first..first + usize::from(self.len >> SECTOR_SHIFT)] {
            let _ = pins.fetch_update(Ordering::AcqRel, Ordering::Acquire, |pins| Some(change(pins)));
        }
    }

    pub fn is_pinned(&self) -> bool {
        self.parts().pinned() & self.mask() != 0
    }

    /// Whether the last time that it was written by itself failed; asking forgets it.
    pub fn take_write_error(&self) -> bool {
        self.parts().failed.fetch_and(!self.mask(), Ordering::AcqRel) & self.mask() != 0
    }

    /// The block was freed: it need not be written any more.
    pub fn forget(&self) {
        self.parts().dirty.fetch_and(!self.mask(), Ordering::AcqRel);
    }

    fn begin_write(&self, flags: BioFlags) -> Result<alloc::boxed::Box<Bio>> {
        let mut bio = Bio::with(Op::Write, self.sector(), &self.folio, self.offset.into(), self.len())?;
        bio.flags |= flags | BioFlags::SYNC;
        // Before it is written: what changes meanwhile is dirty again.
        self.parts().dirty.fetch_and(!self.mask(), Ordering::AcqRel);
        Ok(bio)
    }

    /// Writes it to its place now, pinned or not, and waits.
    pub fn write_sync(&self, flags: BioFlags) -> Result<()> {
        let written = self.begin_write(flags).and_then(|bio| self.device.submit_wait(bio));
        if written.is_err() {
            self.parts().failed.fetch_or(self.mask(), Ordering::AcqRel);
        }
        written
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer {
            device: self.device.clone(),
            parts: self.parts.clone(),
            folio: self.folio.clone(),
            offset: self.offset,
            len: self.len,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            self.device.buffers.drop_idle(parts);
        }
    }
}
