//! The kernel's ranges, moved to where a host process can have them.

use std::sync::atomic::{AtomicU64, Ordering};

pub const DIRECT_MAP_BASE: usize = 0x1000_0000_0000;
pub const DIRECT_MAP_SIZE: usize = 128 << 30;
pub const VMALLOC_BASE: usize = 0x2000_0000_0000;
pub const VMALLOC_SIZE: usize = 8 << 30;
pub const KERNEL_BASE: usize = 0x3000_0000_0000;

static KERNEL_PHYS_BASE: AtomicU64 = AtomicU64::new(0);

pub fn kernel_phys_base() -> u64 {
    KERNEL_PHYS_BASE.load(Ordering::Relaxed)
}

pub fn set_kernel_phys_base(phys: u64) {
    KERNEL_PHYS_BASE.store(phys, Ordering::Relaxed);
}

/// Makes `ram` bytes of physical addresses, and the vmalloc range, memory of this process.
pub fn map_memory(ram: usize) {
    for (base, len) in [(DIRECT_MAP_BASE, ram), (VMALLOC_BASE, VMALLOC_SIZE)] {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: 1. NOREPLACE: nothing that the process has mapped is touched.
        let got = unsafe { libc::mmap(base as *mut libc::c_void, len, rights, flags, -1, 0) };
        assert_eq!(got as usize, base, "the address is taken");
    }
}
