//! The kernel's half of every page table, made at boot, and mappings in the vmalloc range.
//!
//! All user roots share the tables below the kernel root's upper entries; those entries never change
//! after boot, so that a mapping made in one table is seen through all.

use crate::frame::{Pfn, pfn_of, phys_of};
use crate::walk::{ENTRIES, Table, index, root_level, span};
use crate::{AllocFlags, OutOfMemory};
use arch::layout::{DIRECT_MAP_BASE, KERNEL_BASE, VMALLOC_BASE, VMALLOC_SIZE};
use arch::mmu::{self, Pte};
use arch::paging::PteFlags;
use arch::{BootInfo, PAGE_SIZE, PhysAddr, VirtAddr};
use buddy::Ranges;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicUsize, Ordering};
use sync::{SpinLock, levels};

/// Frames of the kernel's own tables.
static TABLES: AtomicUsize = AtomicUsize::new(0);

static ROOT: AtomicU32 = AtomicU32::new(0);

/// Guards the tables of the vmalloc range.
static LOCK: SpinLock<(), levels::Vmalloc> = SpinLock::new(());

/// Below this physical address everything is mapped in the direct map: RAM as memory, the rest as device
/// registers.
const LOW_DEVICES: u64 = 4 << 30;

/// For the tables made at boot: low memory, which the boot table maps.
const BOOT: AllocFlags = AllocFlags::DRAIN.union(AllocFlags::DMA32);

pub(crate) fn root() -> Table {
    Table(ROOT.load(Ordering::Relaxed))
}

/// Physical address of the root for [`mmu::activate`].
pub(crate) fn root_phys() -> PhysAddr {
    phys_of(root().0)
}

fn kernel_flags() -> PteFlags {
    PteFlags::READ | PteFlags::WRITE | PteFlags::GLOBAL | PteFlags::ACCESSED | PteFlags::DIRTY
}

fn read_only() -> PteFlags {
    kernel_flags() - PteFlags::WRITE
}

/// Whether the direct map shows these addresses.
pub(crate) fn in_direct_map(phys: PhysAddr, len: usize) -> bool {
    phys.0.checked_add(len as u64).is_some_and(|end| end <= LOW_DEVICES)
}

/// Builds the table and activates it on this CPU. `ram` lists all RAM, rounded out to pages.
pub(crate) fn init<const N: usize>(info: &BootInfo, ram: &Ranges<N>) -> Result<(), OutOfMemory> {
    let boot_root = Table(pfn_of(mmu::active_root()));
    let root = Table::alloc(BOOT)?;
    let mut at = 0;
    for (start, end) in ram.iter() {
        map_devices(root, at, start)?;
        map_ram(root, info, start, end)?;
        at = end;
    }
    map_devices(root, at, LOW_DEVICES)?;
    map_image(root, info)?;
    copy_boot_extras(root, boot_root)?;
    // One table per entry of the root for the vmalloc range, so that later mappings never change the root.
    for va in (VMALLOC_BASE..VMALLOC_BASE + VMALLOC_SIZE).step_by(span(root_level())) {
        root.descend_making(va, root_level(), root_level() - 1, BOOT, &TABLES)?;
    }
    note_shared(root);
    ROOT.store(root.0, Ordering::Release);
    activate();
    Ok(())
}

/// Makes the kernel-only table the active one of this CPU.
pub(crate) fn activate() {
    // SAFETY: 1. the table maps the kernel's image, the direct map and, by `copy_boot_extras` and the
    // vmalloc range, everything the kernel uses; 2. it is never freed.
    unsafe { mmu::activate(root_phys(), 0) };
    mmu::flush_all();
}

fn map_devices(root: Table, start: u64, end: u64) -> Result<(), OutOfMemory> {
    let end = end.min(LOW_DEVICES);
    if start >= end {
        return Ok(());
    }
    map_direct(root, start, end, kernel_flags() | PteFlags::DEVICE)
}

/// Maps RAM writable, except for the image's text and constants, which nobody writes through here either.
fn map_ram(root: Table, info: &BootInfo, start: u64, end: u64) -> Result<(), OutOfMemory> {
    let (text, rodata) = (info.sections.text, info.sections.rodata);
    let phys = |va: usize| VirtAddr(va).to_phys().0;
    let fixed_start = phys(text.0.min(rodata.0)).clamp(start, end);
    let fixed_end = phys(text.1.max(rodata.1)).clamp(start, end);
    map_direct(root, start, fixed_start, kernel_flags())?;
    map_direct(root, fixed_start, fixed_end, read_only())?;
    map_direct(root, fixed_end, end, kernel_flags())
}

fn map_direct(root: Table, start: u64, end: u64, flags: PteFlags) -> Result<(), OutOfMemory> {
    map(root, DIRECT_MAP_BASE + start as usize, PhysAddr(start), (end - start) as usize, flags)
}

fn map_image(root: Table, info: &BootInfo) -> Result<(), OutOfMemory> {
    let sections = info.sections;
    let parts = [
        (sections.text, read_only() | PteFlags::EXEC),
        (sections.rodata, read_only()),
        (sections.data, kernel_flags()),
    ];
    for ((start, end), flags) in parts {
        map(root, start, VirtAddr(start).to_phys(), end - start, flags)?;
    }
    Ok(())
}

/// Takes over what the boot table maps above `KERNEL_BASE` for the architecture's own use: device registers,
/// the page its traps need. What it maps there as the image, or rounded up beyond it, is left out.
fn copy_boot_extras(root: Table, boot: Table) -> Result<(), OutOfMemory> {
    let mut result = Ok(());
    leaves(boot, root_level(), KERNEL_BASE, &mut |va, level, pte: Pte| {
        if VirtAddr(va).to_phys() != pte.addr() {
            result = result.and_then(|()| map(root, va, pte.addr(), span(level), pte.flags()));
        }
    });
    result
}

/// Calls `each` for every leaf at or above `from` in the upper half.
fn leaves(table: Table, level: usize, from: usize, each: &mut impl FnMut(usize, usize, Pte)) {
    for i in index(from, level)..ENTRIES {
        let pte = table.get(i);
        let upper_bits = usize::MAX << (span(level).ilog2() + 9);
        let va = (from & upper_bits) | i << span(level).ilog2();
        let first = i == index(from, level);
        if !pte.is_present() {
            continue;
        }
        match pte.is_leaf(level) {
            true => each(va, level, pte),
            false => leaves(Table::of(pte), level - 1, if first { from } else { va }, each),
        }
    }
}

/// Maps `len` bytes with the largest pages that fit, up to 2 MiB (gigabyte pages are optional on x86-64).
fn map(root: Table, va: usize, phys: PhysAddr, len: usize, flags: PteFlags) -> Result<(), OutOfMemory> {
    let end = len.next_multiple_of(PAGE_SIZE);
    let mut done = 0;
    while done < end {
        let (va, phys) = (va + done, phys.add(done as u64));
        let large = (va | phys.0 as usize).is_multiple_of(span(1)) && end - done >= span(1);
        let level = usize::from(large);
        let table = root.descend_making(va, root_level(), level, BOOT, &TABLES)?;
        if !table.get(index(va, level)).is_present() {
            table.fill(index(va, level), Pte::leaf(phys, flags, level));
        }
        done += span(level);
    }
    Ok(())
}

/// The entries of the root that are in use, by index: few, so that a new root need not copy all 256.
static SHARED: [AtomicU16; ENTRIES / 2] = [const { AtomicU16::new(0) }; ENTRIES / 2];
static SHARED_COUNT: AtomicUsize = AtomicUsize::new(0);

fn note_shared(root: Table) {
    let used = (ENTRIES / 2..ENTRIES).filter(|&i| root.get(i).is_present());
    for (slot, i) in SHARED.iter().zip(used) {
        slot.store(i as u16, Ordering::Relaxed);
        SHARED_COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Copies the kernel's half into a new user root.
pub(crate) fn share_with(user_root: Table) {
    for i in &SHARED[..SHARED_COUNT.load(Ordering::Relaxed)] {
        let i = usize::from(i.load(Ordering::Relaxed));
        user_root.put(i, root().get(i));
    }
}

/// Takes the kernel's half out of a user root that is being freed.
pub(crate) fn unshare(user_root: Table) {
    for i in &SHARED[..SHARED_COUNT.load(Ordering::Relaxed)] {
        user_root.put(i.load(Ordering::Relaxed).into(), Pte::EMPTY);
    }
}

/// Maps one page in the vmalloc range.
pub(crate) fn map_page(va: usize, pfn: Pfn, flags: PteFlags) -> Result<(), OutOfMemory> {
    map_phys(va, phys_of(pfn), flags)
}

/// As [`map_page`], for any physical page.
pub(crate) fn map_phys(va: usize, phys: PhysAddr, flags: PteFlags) -> Result<(), OutOfMemory> {
    let flags = flags | PteFlags::GLOBAL | PteFlags::ACCESSED | PteFlags::DIRTY;
    let no_sleep = AllocFlags::KERNEL | AllocFlags::ATOMIC;
    let _lock = LOCK.lock();
    let table = root().descend_making(va, root_level(), 0, no_sleep, &TABLES)?;
    debug_assert!(!table.get(index(va, 0)).is_present());
    table.fill(index(va, 0), Pte::leaf(phys, flags, 0));
    Ok(())
}

/// Unmaps the pages of a range, handing each frame that was mapped to `each`. The caller flushes before it
/// gives a frame back. The tables stay.
pub(crate) fn unmap_pages(start: usize, len: usize, mut each: impl FnMut(Pfn)) {
    let _lock = LOCK.lock();
    for va in (start..start + len).step_by(PAGE_SIZE) {
        let Some(table) = root().descend(va, root_level(), 0) else { continue };
        if table.get(index(va, 0)).is_present() {
            each(pfn_of(table.take(index(va, 0)).addr()));
        }
    }
}

/// Changes the permissions of the pages of a range in the vmalloc range. The caller flushes.
pub(crate) fn protect_pages(start: usize, len: usize, flags: PteFlags) {
    let _lock = LOCK.lock();
    let flags = flags | PteFlags::GLOBAL | PteFlags::ACCESSED | PteFlags::DIRTY;
    for va in (start..start + len).step_by(PAGE_SIZE) {
        let Some(table) = root().descend(va, root_level(), 0) else { continue };
        let pte = table.get(index(va, 0));
        if pte.is_present() {
            table.put(index(va, 0), pte.with_flags(flags, 0));
        }
    }
}
