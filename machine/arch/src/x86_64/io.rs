//! Device registers, in memory or behind I/O ports.

use super::reg;
use crate::VirtAddr;

/// A range of device registers.
#[derive(Clone, Copy, Debug)]
pub struct IoRegion {
    base: Base,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
enum Base {
    Memory(usize),
    Port(u16),
}

macro_rules! accessors {
    ($read:ident, $write:ident, $type:ty, $in:ident, $out:ident) => {
        /// Reads the register at `offset` bytes; all ones outside the region.
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            if !self.contains(offset, size_of::<$type>()) {
                return <$type>::MAX;
            }
            // SAFETY: 1. inside the region, which the maker of it vouched for.
            unsafe {
                match self.base {
                    Base::Memory(base) => ((base + offset) as *const $type).read_volatile(),
                    Base::Port(port) => reg::$in(port + offset as u16),
                }
            }
        }

        /// Writes the register at `offset` bytes; nothing outside the region.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            if !self.contains(offset, size_of::<$type>()) {
                return;
            }
            // SAFETY: 1. inside the region, which the maker of it vouched for.
            unsafe {
                match self.base {
                    Base::Memory(base) => ((base + offset) as *mut $type).write_volatile(value),
                    Base::Port(port) => reg::$out(port + offset as u16, value),
                }
            }
        }
    };
}

impl IoRegion {
    /// Registers in memory.
    ///
    /// # Safety
    /// 1. `base` is mapped as device memory for `len` bytes, for ever; 2. the registers there cannot make
    ///    the device write to memory that Rust code uses, except as their driver intends.
    pub const unsafe fn mmio(base: VirtAddr, len: usize) -> IoRegion {
        IoRegion { base: Base::Memory(base.0), len }
    }

    /// Registers behind I/O ports.
    ///
    /// # Safety
    /// 1. As 2. of [`IoRegion::mmio`].
    pub const unsafe fn ports(base: u16, len: usize) -> IoRegion {
        IoRegion { base: Base::Port(base), len }
    }

    /// Bytes in the region.
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of the region; `None` when it is not inside.
    pub const fn window(&self, offset: usize, len: usize) -> Option<IoRegion> {
        if offset > self.len || len > self.len - offset {
            return None;
        }
        let base = match self.base {
            Base::Memory(base) => Base::Memory(base + offset),
            Base::Port(port) => Base::Port(port + offset as u16),
        };
        Some(IoRegion { base, len })
    }

    #[inline]
    fn contains(&self, offset: usize, bytes: usize) -> bool {
        offset <= self.len && bytes <= self.len - offset
    }

    accessors!(read8, write8, u8, inb, outb);
    accessors!(read16, write16, u16, inw, outw);
    accessors!(read32, write32, u32, inl, outl);
}
