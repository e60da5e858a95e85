//! The device as lib/fat sees it: bytes, by way of buffers in the device's page cache.
//!
//! What is changed is pinned, so that the device's flusher leaves it alone: the flusher writes pages, and in the page of a
//! directory there may lie clusters of files, whose bytes do not pass the device's cache and are older there. The
//! buffers are written one by one ([`KernelDisk::write_out`]), and those of clusters that were freed are not.

use abi::{Errno, errno::Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use block::{BioFlags, BlockDevice, Buffer, bread, buffer};
use fat_core::Disk;

pub(crate) struct KernelDisk {
    pub device: Arc<BlockDevice>,
    /// Bytes of a buffer.
    unit: u64,
    /// What differs from the medium, by number.
    dirty: BTreeMap<u64, Buffer>,
}

impl KernelDisk {
    pub fn new(device: Arc<BlockDevice>) -> KernelDisk {
        let unit = device.logical_block().into();
        KernelDisk { device, unit, dirty: BTreeMap::new() }
    }

    /// Buffers that differ from the medium.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// The buffer with byte `at`; where in it that is, and how many of `len` bytes it has.
    fn part(&self, at: u64, len: usize) -> Result<(u64, Buffer, usize, usize)> {
        let (number, inside) = (at / self.unit, (at % self.unit) as usize);
        let buffer = match self.dirty.get(&number) {
            Some(buffer) => buffer.clone(),
            None => bread(&self.device, number, self.unit as u32)?,
        };
        Ok((number, buffer, inside, len.min(self.unit as usize - inside)))
    }

    /// Writes what was changed to the device and waits. After an error it is as if it had been written.
    pub fn write_out(&mut self) -> Result<()> {
        let written = buffer::write_all(self.dirty.values(), BioFlags::META);
        self.let_go();
        written
    }

    fn let_go(&mut self) {
        for buffer in core::mem::take(&mut self.dirty).into_values() {
            buffer.forget();
            buffer.unpin();
        }
    }
}

impl Drop for KernelDisk {
    /// Of a mount that failed: pins outlive their buffers.
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Disk for KernelDisk {
    fn read(&mut self, mut at: u64, out: &mut [u8]) -> Result<()> {
        let mut rest = out;
        while !rest.is_empty() {
            let (_, buffer, inside, len) = self.part(at, rest.len())?;
            let (now, later) = core::mem::take(&mut rest).split_at_mut(len);
            buffer.read(inside, now);
            (rest, at) = (later, at.checked_add(len as u64).ok_or(Errno::EIO)?);
        }
        Ok(())
    }

    fn write(&mut self, mut at: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (number, buffer, inside, len) = self.part(at, bytes.len())?;
            let (now, later) = bytes.split_at(len);
            if let alloc::collections::btree_map::Entry::Vacant(place) = self.dirty.entry(number) {
                buffer.pin();
                place.insert(buffer.clone());
            }
            buffer.write(inside, now);
            buffer.mark_dirty();
            (bytes, at) = (later, at.checked_add(len as u64).ok_or(Errno::EIO)?);
        }
        Ok(())
    }

    fn forget(&mut self, at: u64, len: u64) {
        let (first, end) = (at.div_ceil(self.unit), at.saturating_add(len) / self.unit);
        while let Some((number, _)) = self.dirty.range(first..end.max(first)).next() {
            let number = *number;
            if let Some(buffer) = self.dirty.remove(&number) {
                buffer.forget();
                buffer.unpin();
            }
        }
    }
}
