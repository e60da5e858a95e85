//! An invented page-table format, and counters in place of TLBs.
//!
//! ```text
//!   page or table: bit 0 set, bit 1 leaf, bits 2..10 and 56 the flags, bits 12..56 the address
//!   software:      bit 63 set, bits 0..58 the value
//! ```

use crate::paging::PteFlags;
use crate::{CpuMask, PhysAddr, VirtAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

pub static LEVELS: AtomicUsize = AtomicUsize::new(4);
pub static ASID_BITS: AtomicU32 = AtomicU32::new(16);
pub static ROOT: AtomicU64 = AtomicU64::new(0);
pub static SHOOTDOWNS: AtomicUsize = AtomicUsize::new(0);
pub static LOCAL_FLUSHES: AtomicUsize = AtomicUsize::new(0);

const LEAF: u64 = 3;
const SOFTWARE: u64 = 1 << 63;
const VALUE: u64 = (1 << 58) - 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    pub const EMPTY: Pte = Pte(0);

    pub fn leaf(phys: PhysAddr, flags: PteFlags, level: usize) -> Pte {
        assert!(phys.0.is_multiple_of(4096 << (9 * level)));
        let flags = u64::from(flags.bits());
        Pte(phys.0 | LEAF | (flags & 0xff) << 2 | (flags >> 8) << 56)
    }
    pub fn table(phys: PhysAddr) -> Pte {
        Pte(phys.0 | 1)
    }
    pub fn is_present(self) -> bool {
        self.0 & SOFTWARE == 0 && self.0 & 1 != 0
    }
    pub fn is_leaf(self, _level: usize) -> bool {
        self.is_present() && self.0 & 2 != 0
    }
    pub fn addr(self) -> PhysAddr {
        PhysAddr(self.0 & 0x00ff_ffff_ffff_f000)
    }
    pub fn flags(self) -> PteFlags {
        PteFlags::from_bits_truncate((self.0 >> 2 & 0xff | (self.0 >> 56 & 1) << 8) as u32)
    }
    pub fn with_flags(self, flags: PteFlags, level: usize) -> Pte {
        Pte::leaf(self.addr(), flags, level)
    }
    pub fn with_addr(self, phys: PhysAddr) -> Pte {
        Pte(self.0 & !0x00ff_ffff_ffff_f000 | phys.0)
    }
    pub fn is_accessed(self) -> bool {
        self.flags().contains(PteFlags::ACCESSED)
    }
    pub fn software(value: u64) -> Pte {
        Pte(SOFTWARE | value & VALUE)
    }
    pub fn as_software(self) -> Option<u64> {
        (self.0 & SOFTWARE != 0).then_some(self.0 & VALUE)
    }
}

pub fn levels() -> usize {
    LEVELS.load(Relaxed)
}
pub fn asid_bits() -> u32 {
    ASID_BITS.load(Relaxed)
}
/// # Safety
/// 1. None here: nobody walks the table.
pub unsafe fn activate(root: PhysAddr, _asid: u16) {
    ROOT.store(root.0, Relaxed);
}
pub fn active_root() -> PhysAddr {
    PhysAddr(ROOT.load(Relaxed))
}
pub const FLUSH_PAGES_MAX: usize = 8;

pub fn flush_page(_va: VirtAddr, _asid: u16) {
    LOCAL_FLUSHES.fetch_add(1, Relaxed);
}
pub fn flush_asid(_asid: u16) {
    LOCAL_FLUSHES.fetch_add(1, Relaxed);
}
pub fn flush_all() {}
pub fn flush_kernel_range_all_cpus(_start: VirtAddr, _len: usize) {}
pub fn shootdown(_cpus: CpuMask, _asid: u16, _start: VirtAddr, _len: usize) {
    SHOOTDOWNS.fetch_add(1, Relaxed);
}
