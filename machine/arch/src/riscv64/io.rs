//! Device registers.

use crate::VirtAddr;

/// A mapped range of device registers. Accesses are volatile and ordered with those of the same device.
#[derive(Clone, Copy, Debug)]
pub struct IoRegion {
    base: usize,
    len: usize,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads a register. An offset beyond the region panics: a driver's bug.
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            assert!(offset + size_of::<$type>() <= self.len, "register offset {offset:#x}");
            // SAFETY: 1. the offset is inside the region, 2. which `mmio` was promised to be registers.
            let value = unsafe { ((self.base + offset) as *const $type).read_volatile() };
            // SAFETY: 1. a fence: later memory accesses come after the device's answer.
            unsafe { core::arch::asm!("fence i, r", options(nostack, preserves_flags)) };
            value
        }

        /// Writes a register, after all earlier writes to memory.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            assert!(offset + size_of::<$type>() <= self.len, "register offset {offset:#x}");
            // SAFETY: 1. a fence: the device sees what was written to memory before; 2. the offset is inside
            // the region, which `mmio` was promised to be registers.
            unsafe {
                core::arch::asm!("fence w, o", options(nostack, preserves_flags));
                ((self.base + offset) as *mut $type).write_volatile(value);
            }
        }
    };
}

impl IoRegion {
    /// # Safety
    /// 1. `base` maps `len` bytes of device registers for as long as the region is used;
    /// 2. no access to them changes memory that Rust code has references to, other than what drivers
    ///    hand to the device.
    pub const unsafe fn mmio(base: VirtAddr, len: usize) -> IoRegion {
        IoRegion { base: base.0, len }
    }

    pub(super) fn address(&self) -> usize {
        self.base
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of the region; `None` when it is not inside.
    pub const fn window(&self, offset: usize, len: usize) -> Option<IoRegion> {
        if offset > self.len || len > self.len - offset {
            return None;
        }
        Some(IoRegion { base: self.base + offset, len })
    }

    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
    access!(read64, write64, u64);
}
