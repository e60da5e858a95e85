//! Memory that a device reads and writes by itself, and its registers.
//!
//! Rings and request headers live in [`DmaMemory`]: contiguous, zeroed, never moved. The device may change
//! any byte at any time, so nobody gets a reference into it; values are copied, and the two-byte indices that
//! order everything else are atomic. Data of I/O go straight from and to folios.

use crate::user::Pod;
use crate::{AllocFlags, Folio, OutOfMemory, boot, ioremap};
use arch::io::IoRegion;
use arch::{PAGE_SIZE, PhysAddr};
use core::sync::atomic::{AtomicU16, Ordering};

/// Contiguous memory shared with a device.
#[derive(Debug)]
pub struct DmaMemory {
    folio: Folio,
}

impl DmaMemory {
    /// At least `bytes` zeroed bytes, aligned to a page. `atomic`: never sleeps.
    pub fn alloc(bytes: usize, atomic: bool) -> Result<DmaMemory, OutOfMemory> {
        let pages = bytes.max(1).div_ceil(PAGE_SIZE).checked_next_power_of_two().ok_or(OutOfMemory)?;
        let flags = if atomic { AllocFlags::ATOMIC } else { AllocFlags::KERNEL };
        let order = u8::try_from(pages.trailing_zeros()).map_err(|_| OutOfMemory)?;
        Ok(DmaMemory { folio: Folio::alloc(order, flags | AllocFlags::ZERO)? })
    }

    /// Physical address of the first byte.
    pub fn phys(&self) -> u64 {
        self.folio.phys().0
    }

    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.folio.len()
    }

    /// Copies a value out. Panics beyond the end.
    #[inline]
    pub fn read_val<T: Pod>(&self, offset: usize) -> T {
        self.folio.read_val(offset)
    }

    /// Copies a value in. Panics beyond the end.
    #[inline]
    pub fn write_val<T: Pod>(&self, offset: usize, value: &T) {
        self.folio.write_val(offset, value);
    }

    /// Copies bytes out. Panics beyond the end.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        self.folio.read(offset, to);
    }

    /// Copies bytes in. Panics beyond the end.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.folio.write(offset, from);
    }

    /// The two bytes at an even offset, as one access. Panics beyond the end.
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU16 {
        assert!(offset.is_multiple_of(2) && offset < self.len());
        let at = self.phys() as usize + offset;
        // SAFETY: 1. inside of the folio, which `self` keeps and the direct map shows; 2. aligned; 3. everybody,
        // the device too, accesses the word as a whole.
        unsafe { &*PhysAddr(at as u64).to_virt().as_ptr::<AtomicU16>() }
    }

    /// Reads an index: what was written before it is seen afterwards.
    #[inline]
    pub fn load_u16(&self, offset: usize) -> u16 {
        u16::from_le(self.word(offset).load(Ordering::Acquire))
    }

    /// Writes an index: what was written before it is seen by whoever reads it.
    #[inline]
    pub fn store_u16(&self, offset: usize, value: u16) {
        self.word(offset).store(value.to_le(), Ordering::Release);
    }
}

/// The registers at a physical address that a bus or firmware named. `None` when it is RAM, empty, or there
/// is no room to map them. Mapped for good. Process context.
pub fn device_registers(phys: PhysAddr, len: usize) -> Option<IoRegion> {
    let end = phys.0.checked_add(len as u64)?;
    if len == 0 || boot::is_ram(phys.0, end) {
        return None;
    }
    let base = ioremap(phys, len)?;
    // SAFETY: 1. mapped as device memory just now, for ever; 2. no RAM: what a device does to memory is what its
    // driver tells it, by addresses of `DmaMemory` and folios that the driver keeps.
    Some(unsafe { IoRegion::mmio(base, len) })
}
