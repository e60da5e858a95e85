//! Page tables, translation caches, and flushing them on other CPUs.

use super::percpu::{self, PerCpu};
use super::{apic, cpuid, irq, reg, smp, traps};
use crate::paging::PteFlags;
use crate::{CpuMask, MAX_CPUS, PAGE_SIZE, PhysAddr, VirtAddr};
use core::arch::asm;
use core::sync::atomic::Ordering;

/// The end of user space, exclusive. The last page below the non-canonical hole stays unmapped, because
/// `sysret` to the address after a `syscall` at its end would fault in the kernel.
pub const USER_TOP: usize = (1 << 47) - PAGE_SIZE;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const NO_CACHE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const SOFT: u64 = 1 << 9;
const NO_EXEC: u64 = 1 << 63;
const ADDR: u64 = 0x000f_ffff_ffff_f000;

/// Without PRESENT: a page that nobody may access (PROT_NONE), with address and all other bits.
const NO_ACCESS: u64 = 1 << 8;
/// Without PRESENT: the software's entry, value in the bits above.
const SOFTWARE: u64 = 1 << 1;
const SOFTWARE_SHIFT: u32 = 2;
const SOFTWARE_MASK: u64 = (1 << 58) - 1;

/// A page-table entry; see [`crate::paging`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    pub const EMPTY: Pte = Pte(0);

    pub fn leaf(phys: PhysAddr, flags: PteFlags, level: usize) -> Pte {
        let large = if level > 0 { LARGE } else { 0 };
        Pte(phys.0 & ADDR | large | encode(flags))
    }

    pub const fn table(phys: PhysAddr) -> Pte {
        Pte(phys.0 & ADDR | PRESENT | WRITE | USER | ACCESSED)
    }

    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0 || self.0 & (SOFTWARE | NO_ACCESS) == NO_ACCESS
    }

    #[inline]
    pub const fn is_leaf(self, level: usize) -> bool {
        self.is_present() && (level == 0 || self.0 & LARGE != 0)
    }

    #[inline]
    pub const fn addr(self) -> PhysAddr {
        PhysAddr(self.0 & ADDR)
    }

    pub fn flags(self) -> PteFlags {
        let mut flags = PteFlags::empty();
        let bits = [
            (USER, PteFlags::USER),
            (ACCESSED, PteFlags::ACCESSED),
            (DIRTY, PteFlags::DIRTY),
            (NO_CACHE, PteFlags::DEVICE),
            (SOFT, PteFlags::SOFT),
        ];
        for (bit, flag) in bits {
            flags.set(flag, self.0 & bit != 0);
        }
        if self.0 & PRESENT != 0 {
            flags |= PteFlags::READ;
            flags.set(PteFlags::WRITE, self.0 & WRITE != 0);
            flags.set(PteFlags::EXEC, self.0 & NO_EXEC == 0);
            flags.set(PteFlags::GLOBAL, self.0 & GLOBAL != 0);
        }
        flags
    }

    pub fn with_flags(self, flags: PteFlags, level: usize) -> Pte {
        Pte::leaf(self.addr(), flags, level)
    }

    /// The same entry for another address.
    #[inline]
    pub const fn with_addr(self, phys: PhysAddr) -> Pte {
        Pte(self.0 & !ADDR | phys.0 & ADDR)
    }

    /// `flags()` has ACCESSED.
    #[inline]
    pub const fn is_accessed(self) -> bool {
        self.0 & ACCESSED != 0
    }

    /// A non-present entry that carries the low 58 bits of `value`.
    pub const fn software(value: u64) -> Pte {
        Pte((value & SOFTWARE_MASK) << SOFTWARE_SHIFT | SOFTWARE)
    }

    pub const fn as_software(self) -> Option<u64> {
        if self.0 & (PRESENT | SOFTWARE) == SOFTWARE {
            Some(self.0 >> SOFTWARE_SHIFT & SOFTWARE_MASK)
        } else {
            None
        }
    }
}

fn encode(flags: PteFlags) -> u64 {
    let bits = [
        (PteFlags::USER, USER),
        (PteFlags::ACCESSED, ACCESSED),
        (PteFlags::DIRTY, DIRTY),
        (PteFlags::DEVICE, NO_CACHE | WRITE_THROUGH),
        (PteFlags::SOFT, SOFT),
    ];
    let common = bits.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |sum, (_, bit)| sum | bit);
    if !flags.intersects(PteFlags::READ | PteFlags::WRITE | PteFlags::EXEC) {
        return common | NO_ACCESS;
    }
    let write = if flags.contains(PteFlags::WRITE) { WRITE } else { 0 };
    let global = if flags.contains(PteFlags::GLOBAL) { GLOBAL } else { 0 };
    let no_exec = if flags.contains(PteFlags::EXEC) || !cpuid::has(cpuid::NX) { 0 } else { NO_EXEC };
    common | PRESENT | write | global | no_exec
}

/// Levels of the page table; the root is at level `levels() - 1`.
pub const fn levels() -> usize {
    4
}

pub const fn user_top() -> usize {
    USER_TOP
}

/// How many bits of an address-space number mean something: 12 with PCID, else 0.
pub fn asid_bits() -> u32 {
    if cpuid::has(cpuid::PCID) { 12 } else { 0 }
}

/// Makes `root` this CPU's page table. With PCID, what is cached for `asid` stays valid: the caller
/// flushes an `asid` before it is given to another table.
///
/// # Safety
/// 1. `root` maps the kernel as every table does; 2. it lives while it is active; 3. interrupts are off.
#[inline]
pub unsafe fn activate(root: PhysAddr, asid: u16) {
    const KEEP: u64 = 1 << 63;
    let pcid = cpuid::has(cpuid::PCID);
    let cr3 = root.0 | if pcid { u64::from(asid) } else { 0 };
    // SAFETY: 1. 2. the caller's obligations; 3. this CPU's own area.
    unsafe {
        let cpu = percpu::this();
        if (*cpu).cr3 != cr3 {
            (*cpu).cr3 = cr3;
            reg::write_cr3(cr3 | if pcid { KEEP } else { 0 });
        }
    }
}

/// The root of the table that this CPU uses.
pub fn active_root() -> PhysAddr {
    PhysAddr(reg::read_cr3() & ADDR)
}

#[inline]
fn active_asid() -> u16 {
    (reg::read_cr3() & 0xfff) as u16
}

/// INVPCID: 0 one address of one context, 1 one context, 2 everything.
fn invpcid(kind: u64, asid: u16, va: usize) {
    let descriptor = [u64::from(asid), va as u64];
    // SAFETY: 1. flushing what is cached never makes a translation wrong; 2. only called with PCID, which
    // `cpuid` grants only together with this instruction.
    unsafe {
        asm!("invpcid {}, [{}]", in(reg) kind, in(reg) &raw const descriptor, options(nostack, preserves_flags));
    }
}

/// Forgets one page of one address space on this CPU.
#[inline]
pub fn flush_page(va: VirtAddr, asid: u16) {
    if !cpuid::has(cpuid::PCID) || asid == active_asid() {
        flush_active_page(va.0);
    } else {
        invpcid(0, asid, va.0);
    }
}

/// Forgets one page of the active table, global entries included.
#[inline]
fn flush_active_page(va: usize) {
    // SAFETY: 1. flushing what is cached never makes a translation wrong.
    unsafe { asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags)) };
}

/// Forgets an address space on this CPU.
pub fn flush_asid(asid: u16) {
    if cpuid::has(cpuid::PCID) {
        invpcid(1, asid, 0);
    } else {
        // SAFETY: 1. the register is loaded with what it holds.
        unsafe { reg::write_cr3(reg::read_cr3()) };
    }
}

/// Forgets everything on this CPU, global entries included.
pub fn flush_all() {
    if cpuid::has(cpuid::PCID) {
        return invpcid(2, 0, 0);
    }
    // SAFETY: 1. global pages go and come back; nothing else depends on the bit.
    unsafe {
        let cr4 = reg::read_cr4();
        reg::write_cr4(cr4 & !reg::CR4_PGE);
        reg::write_cr4(cr4);
    }
}

/// Above this many pages one flush of everything is cheaper than one per page (Linux's number).
pub const FLUSH_PAGES_MAX: usize = 33;
/// In a request: kernel addresses, of all contexts.
const KERNEL: u64 = 1 << 16;

fn flush_range(asid: u64, start: usize, len: usize) {
    let pages = len.div_ceil(PAGE_SIZE);
    match (asid == KERNEL, pages > FLUSH_PAGES_MAX) {
        (true, true) => flush_all(),
        (false, true) => flush_asid(asid as u16),
        (true, false) => (0..pages).for_each(|i| flush_active_page(start + i * PAGE_SIZE)),
        (false, false) => (0..pages).for_each(|i| flush_page(VirtAddr(start + i * PAGE_SIZE), asid as u16)),
    }
}

/// Forgets kernel addresses on all CPUs, this one included; returns when it is done.
pub fn flush_kernel_range_all_cpus(start: VirtAddr, len: usize) {
    flush_range(KERNEL, start.0, len);
    request(smp::online(), KERNEL, start.0, len);
}

/// Makes other CPUs forget `len` bytes from `start` of an address space; returns when they have.
pub fn shootdown(cpus: CpuMask, asid: u16, start: VirtAddr, len: usize) {
    request(CpuMask(cpus.0 & smp::online().0), asid.into(), start.0, len);
}

/// **Protocol.** The asking CPU writes its request into its own area, puts its bit into the inbox of each
/// target and interrupts it; each target flushes and takes its bit out of `flush_pending`. While it waits
/// the asking CPU answers its own inbox, so that two CPUs that ask each other with interrupts off both get
/// on.
fn request(cpus: CpuMask, asid: u64, start: usize, len: usize) {
    let flags = irq::disable();
    // SAFETY: 1. interrupts are off, so this stays the CPU; the fields used are atomics.
    let me: &PerCpu = unsafe { &*percpu::this() };
    let targets = cpus.without(me.cpu as usize);
    if !targets.is_empty() {
        for (slot, value) in me.flush.iter().zip([asid, start as u64, len as u64]) {
            slot.store(value, Ordering::Relaxed);
        }
        me.flush_pending.store(targets.0, Ordering::Release);
        let present = targets.iter().filter_map(percpu::of);
        for target in present {
            target.flush_inbox.fetch_or(1 << me.cpu, Ordering::AcqRel);
            apic::send_ipi(target.apic_id, traps::FLUSH);
        }
        while me.flush_pending.load(Ordering::Acquire) & smp::online().0 != 0 {
            answer_shootdowns();
            super::cpu::relax();
        }
    }
    irq::restore(flags);
}

/// Does what other CPUs asked for; interrupts off.
pub fn answer_shootdowns() {
    // SAFETY: 1. interrupts are off, so this stays the CPU; the fields used are atomics.
    let me: &PerCpu = unsafe { &*percpu::this() };
    if me.flush_inbox.load(Ordering::Relaxed) == 0 {
        return;
    }
    let askers = CpuMask(me.flush_inbox.swap(0, Ordering::AcqRel));
    for asker in askers.iter().take(MAX_CPUS).filter_map(percpu::of) {
        let [asid, start, len] = [0, 1, 2].map(|i: usize| asker.flush[i].load(Ordering::Relaxed));
        flush_range(asid, start as usize, len as usize);
        asker.flush_pending.fetch_and(!(1 << me.cpu), Ordering::Release);
    }
}

/// Makes every CPU see instructions that were written before the call. The hardware does, but for what a CPU has fetched
/// already: this one forgets that here, others whenever they return from an interrupt.
pub fn sync_instructions() {
    // Any instruction that serialises; this one needs no privilege.
    let _ = core::arch::x86_64::__cpuid(0);
}
