//! Page tables: entries, the active root, and the TLB.
//!
//! Sources: RISC-V privileged specification, chapters "Sv39" to "Sv57", Svpbmt, Svade, Svadu.

use super::cpu::{load, store};
use super::{csr, platform, sbi};
use crate::paging::PteFlags;
use crate::{CpuMask, PAGE_SIZE, PhysAddr, VirtAddr};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const V: u64 = 1 << 0;
const R: u64 = 1 << 1;
const W: u64 = 1 << 2;
const X: u64 = 1 << 3;
const U: u64 = 1 << 4;
const G: u64 = 1 << 5;
const A: u64 = 1 << 6;
const D: u64 = 1 << 7;
/// The two bits that hardware leaves to software.
const SOFT: u64 = 1 << 8;
const DEVICE: u64 = 1 << 9;
/// Svpbmt: non-cacheable, strongly ordered.
const PBMT_IO: u64 = 2 << 61;
const PPN: u64 = ((1 << 44) - 1) << 10;
/// Without V: marks an entry that carries a software's value.
const SOFTWARE: u64 = 1 << 1;
/// Without V: a page that nobody may access (PROT_NONE), with address and all other bits. To make it
/// readable by the kernel alone lost: system calls would read it where they owe EFAULT.
const NO_ACCESS: u64 = 1 << 5;

/// One entry of a page table; see [`crate::paging`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    pub const EMPTY: Pte = Pte(0);

    /// Maps `PAGE_SIZE << (9 * level)` bytes. Kernel entries are made accessed and dirty at once: nobody
    /// would handle the fault that asks for it.
    pub fn leaf(phys: PhysAddr, flags: PteFlags, _level: usize) -> Pte {
        Pte((phys.0 >> 12) << 10 | encode(flags))
    }

    /// Points to the next lower table.
    pub fn table(phys: PhysAddr) -> Pte {
        Pte((phys.0 >> 12) << 10 | V)
    }

    #[inline]
    pub fn is_present(self) -> bool {
        self.0 & V != 0 || self.0 & (SOFTWARE | NO_ACCESS) == NO_ACCESS
    }

    #[inline]
    pub fn is_leaf(self, _level: usize) -> bool {
        self.is_present() && self.0 & (R | W | X | V) != V
    }

    #[inline]
    pub fn addr(self) -> PhysAddr {
        PhysAddr((self.0 & PPN) << 2)
    }

    pub fn flags(self) -> PteFlags {
        let bit = |bit, flag| if self.0 & bit != 0 { flag } else { PteFlags::empty() };
        bit(R, PteFlags::READ)
            | bit(W, PteFlags::WRITE)
            | bit(X, PteFlags::EXEC)
            | bit(U, PteFlags::USER)
            | if self.0 & (V | G) == V | G { PteFlags::GLOBAL } else { PteFlags::empty() }
            | bit(A, PteFlags::ACCESSED)
            | bit(D, PteFlags::DIRTY)
            | bit(SOFT, PteFlags::SOFT)
            | bit(DEVICE, PteFlags::DEVICE)
    }

    pub fn with_flags(self, flags: PteFlags, _level: usize) -> Pte {
        Pte(self.0 & PPN | encode(flags))
    }

    /// The same entry for another address.
    #[inline]
    pub fn with_addr(self, phys: PhysAddr) -> Pte {
        Pte(self.0 & !PPN | (phys.0 >> 12) << 10)
    }

    /// `flags()` has ACCESSED.
    #[inline]
    pub fn is_accessed(self) -> bool {
        self.0 & A != 0
    }

    /// A non-present entry that carries 58 bits.
    pub fn software(value: u64) -> Pte {
        Pte(value << 6 | SOFTWARE)
    }

    pub fn as_software(self) -> Option<u64> {
        (self.0 & V == 0 && self.0 & SOFTWARE != 0).then_some(self.0 >> 6)
    }
}

/// The bits of a leaf below and above its address. One without a permission would be a pointer to a table, so
/// it is not valid for the hardware.
fn encode(flags: PteFlags) -> u64 {
    let bit = |flag, bit| if flags.contains(flag) { bit } else { 0 };
    let mut bits = bit(PteFlags::READ, R)
        | bit(PteFlags::WRITE, R | W)
        | bit(PteFlags::EXEC, X)
        | bit(PteFlags::USER, U)
        | bit(PteFlags::GLOBAL, G)
        | bit(PteFlags::ACCESSED, A)
        | bit(PteFlags::DIRTY, D)
        | bit(PteFlags::SOFT, SOFT)
        | bit(PteFlags::DEVICE, DEVICE);
    if bits & (R | X) == 0 {
        return bits & !G | NO_ACCESS;
    }
    bits |= V;
    if bits & U == 0 {
        bits |= A | D;
    }
    if bits & DEVICE != 0 && platform::has_svpbmt() {
        bits |= PBMT_IO;
    }
    bits
}

static LEVELS: AtomicUsize = AtomicUsize::new(3);
static ASID_BITS: AtomicU32 = AtomicU32::new(0);

/// Levels of a page table: 3 (Sv39), 4 (Sv48) or 5 (Sv57).
#[inline]
pub fn levels() -> usize {
    LEVELS.load(Ordering::Relaxed)
}

/// The end of user space in every mode; what Sv39 has.
pub const USER_TOP: usize = 1 << 38;

/// The end of user space in the mode chosen at boot (exclusive).
#[inline]
pub fn user_top() -> usize {
    match levels() {
        3 => 1 << 38,
        4 => 1 << 47,
        _ => 1 << 56,
    }
}

/// For /proc/cpuinfo.
pub(super) fn mode_name() -> &'static str {
    match levels() {
        3 => "sv39",
        4 => "sv48",
        _ => "sv57",
    }
}

/// Width of the address-space number in satp; 0: there is none.
pub fn asid_bits() -> u32 {
    ASID_BITS.load(Ordering::Relaxed)
}

const ASID_SHIFT: u32 = 44;
const SATP_PPN: usize = (1 << 44) - 1;

pub(super) fn satp_value(levels: usize, root: PhysAddr) -> usize {
    (levels + 5) << 60 | root.pfn()
}

/// Goes to another number of levels if the hart can, and finds out the width of ASIDs. At boot, on CPU 0.
///
/// # Safety
/// 1. `root` maps the kernel as the active table does, with `levels` levels.
pub(super) unsafe fn choose_mode(levels: usize, root: PhysAddr) {
    let wanted = satp_value(levels, root);
    // SAFETY: 1. the caller's obligation; an unsupported mode leaves satp as it was.
    unsafe { write_satp(wanted) };
    flush_all();
    if csr::read!("satp") >> 60 == levels + 5 {
        LEVELS.store(levels, Ordering::Relaxed);
    }
    let satp = csr::read!("satp");
    let all_ones = 0xffff << ASID_SHIFT;
    // SAFETY: 1. only the number of the address space changes, and no entry is cached under it.
    unsafe { write_satp(satp | all_ones) };
    let bits = (csr::read!("satp") & all_ones).count_ones();
    // SAFETY: 1. back to what was active.
    unsafe { write_satp(satp) };
    flush_all();
    ASID_BITS.store(bits, Ordering::Relaxed);
}

unsafe fn write_satp(value: usize) {
    // SAFETY: 1. the caller gives a table that maps the kernel.
    unsafe { csr::write!("satp", value) };
    store!("sd", satp, value);
}

/// Makes `root` the page table of this CPU. Interrupts are off. Flushes only when the hart has no ASIDs.
///
/// # Safety
/// 1. `root` is a page table of [`levels`] levels that maps the kernel as all others do, and stays valid
///    while active; 2. no stale entry is cached under `asid`.
pub unsafe fn activate(root: PhysAddr, asid: u16) {
    let value = satp_value(levels(), root) | usize::from(asid) << ASID_SHIFT;
    if load!("ld", satp, usize) == value {
        return;
    }
    // SAFETY: 1. the caller's obligation.
    unsafe { write_satp(value) };
    if asid_bits() == 0 {
        flush_all();
    }
}

/// The root of this CPU's page table.
pub fn active_root() -> PhysAddr {
    PhysAddr::from_pfn(csr::read!("satp") & SATP_PPN)
}

/// Forgets one page of an address space; with `asid` 0 of all, global entries too. This CPU.
#[inline]
pub fn flush_page(va: VirtAddr, asid: u16) {
    // SAFETY: 1. forgetting translations is always allowed.
    unsafe {
        if asid == 0 {
            asm!("sfence.vma {}, x0", in(reg) va.0, options(nostack));
        } else {
            asm!("sfence.vma {}, {}", in(reg) va.0, in(reg) usize::from(asid), options(nostack));
        }
    }
}

/// Above this many pages one flush of the address space is better than one a page: under QEMU each
/// SFENCE.VMA, whatever its operands, empties the whole TLB and the cache of translated blocks.
pub const FLUSH_PAGES_MAX: usize = 1;

/// Forgets an address space; with `asid` 0 everything. This CPU.
#[inline]
pub fn flush_asid(asid: u16) {
    if asid == 0 {
        return flush_all();
    }
    // SAFETY: 1. forgetting translations is always allowed.
    unsafe { asm!("sfence.vma x0, {}", in(reg) usize::from(asid), options(nostack)) };
}

/// Forgets everything, global entries too. This CPU.
#[inline]
pub fn flush_all() {
    // SAFETY: 1. forgetting translations is always allowed.
    unsafe { asm!("sfence.vma", options(nostack)) };
}

/// Forgets a range of kernel addresses on all CPUs that run.
pub fn flush_kernel_range_all_cpus(start: VirtAddr, len: usize) {
    if len > FLUSH_PAGES_MAX * PAGE_SIZE {
        flush_all();
    } else {
        (0..len).step_by(PAGE_SIZE).for_each(|at| flush_page(start.add(at), 0));
    }
    let others = super::smp::online().without(super::cpu::id());
    shootdown(others, 0, start, len);
}

/// Makes other CPUs forget a range of an address space; with `asid` 0 of all, global entries too. Done when
/// it returns. The firmware interrupts them in machine mode: they may have interrupts off.
pub fn shootdown(cpus: CpuMask, asid: u16, start: VirtAddr, len: usize) {
    let asid = (asid != 0).then_some(asid);
    super::smp::for_hart_masks(cpus, |mask, base| sbi::remote_sfence(mask, base, asid, start.0, len));
}

/// Makes every CPU see instructions that were written before the call (riscv_flush_icache(2)).
pub fn sync_instructions() {
    // SAFETY: 1. FENCE.I only orders this hart's fetches after its stores.
    unsafe { core::arch::asm!("fence.i", options(nostack)) };
    let others = CpuMask::first(super::cpu::count()).without(super::cpu::id());
    super::smp::for_hart_masks(others, sbi::remote_fence_i);
}

/// The kernel's root for a starting CPU: the one active here, without its ASID.
pub(super) fn satp_for_start() -> usize {
    satp_value(levels(), active_root())
}

/// The levels that `satp=sv39|sv48|sv57` asks for; Sv39 has the cheapest walks.
pub(super) fn wanted_levels(cmdline: &str) -> usize {
    let word = cmdline.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("satp="));
    match word {
        Some("sv48") => 4,
        Some("sv57") => 5,
        _ => 3,
    }
}
