//! The kernel's address space, the same on every architecture and paging mode.
//!
//! ```text
//! ffff_ffc0_0000_0000  direct map of physical memory          128 GiB
//! ffff_ffe0_0000_0000  vmalloc: kernel stacks, modules, I/O     8 GiB
//! ffff_ffff_8000_0000  kernel image                             2 GiB
//! ```
//!
//! Everything lies in the highest 256 GiB, the kernel half of Sv39; wider modes leave the rest of their
//! half unused. So an address is a constant in the code instead of a variable that every conversion
//! loads. The alternative, Linux's base per paging mode, buys room for terabytes that no guest here has.

use core::sync::atomic::{AtomicU64, Ordering};

pub const DIRECT_MAP_BASE: usize = 0xffff_ffc0_0000_0000;
pub const DIRECT_MAP_SIZE: usize = 128 << 30;
pub const VMALLOC_BASE: usize = 0xffff_ffe0_0000_0000;
pub const VMALLOC_SIZE: usize = 8 << 30;
pub const KERNEL_BASE: usize = 0xffff_ffff_8000_0000;

static KERNEL_PHYS_BASE: AtomicU64 = AtomicU64::new(0);

/// The physical address that [`KERNEL_BASE`] maps.
pub fn kernel_phys_base() -> u64 {
    KERNEL_PHYS_BASE.load(Ordering::Relaxed)
}

/// Set once by the architecture's boot code.
pub fn set_kernel_phys_base(phys: u64) {
    KERNEL_PHYS_BASE.store(phys, Ordering::Relaxed);
}
