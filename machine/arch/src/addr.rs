//! Physical and virtual addresses as types that cannot be mixed up.

use crate::layout;
use core::fmt;

pub const PAGE_SHIFT: usize = 12;
/// Bytes in a hardware page, the granule of the Linux ABI on both architectures.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// A virtual address, of kernel or user space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
#[repr(transparent)]
pub struct VirtAddr(pub usize);

impl PhysAddr {
    /// The frame number.
    pub const fn pfn(self) -> usize {
        (self.0 >> PAGE_SHIFT) as usize
    }

    pub const fn from_pfn(pfn: usize) -> PhysAddr {
        PhysAddr((pfn as u64) << PAGE_SHIFT)
    }

    /// Where the direct map shows this address. Only RAM (and what boot mapped there) is mapped.
    pub const fn to_virt(self) -> VirtAddr {
        VirtAddr(layout::DIRECT_MAP_BASE + self.0 as usize)
    }

    pub const fn add(self, bytes: u64) -> PhysAddr {
        PhysAddr(self.0 + bytes)
    }
}

impl VirtAddr {
    pub const fn page_down(self) -> VirtAddr {
        VirtAddr(self.0 & !(PAGE_SIZE - 1))
    }

    pub const fn as_ptr<T>(self) -> *mut T {
        self.0 as *mut T
    }

    pub const fn add(self, bytes: usize) -> VirtAddr {
        VirtAddr(self.0 + bytes)
    }

    /// The physical address of a direct-map or kernel-image address.
    pub fn to_phys(self) -> PhysAddr {
        if self.0 >= layout::KERNEL_BASE {
            PhysAddr((self.0 - layout::KERNEL_BASE) as u64 + layout::kernel_phys_base())
        } else {
            debug_assert!(self.0 >= layout::DIRECT_MAP_BASE);
            PhysAddr((self.0 - layout::DIRECT_MAP_BASE) as u64)
        }
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "p:{:#x}", self.0)
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "v:{:#x}", self.0)
    }
}
