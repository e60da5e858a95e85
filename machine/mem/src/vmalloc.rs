//! Memory that is contiguous in virtual addresses only, and device registers beyond the direct map.
//!
//! For what the buddy cannot give in one block: large tables, module images. Each area is followed by an
//! unmapped page. Areas are made in task context; they may be dropped anywhere, then the unmapping waits
//! on a list (kept in the memory itself) for the next caller who may wait for other CPUs' TLBs.

use crate::frame::{Kind, frame};
use crate::{AllocFlags, OutOfMemory, kernel_table, pages, stack};
use arch::layout::{VMALLOC_BASE, VMALLOC_SIZE};
use arch::paging::PteFlags;
use arch::{PAGE_SIZE, PhysAddr, VirtAddr};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use sync::{SpinLock, levels};
use vma::{FreeSpace, VmaData, VmaSet};

const BASE: usize = VMALLOC_BASE + stack::REGION;
const END: usize = VMALLOC_BASE + VMALLOC_SIZE;

/// An area is whole or gone: it is never cut or merged.
#[derive(Clone, Copy)]
struct Area;

impl VmaData for Area {
    fn split(&mut self, _offset: u64) -> Area {
        Area
    }
    fn can_merge(&self, _len: u64, _next: &Area) -> bool {
        false
    }
}

static AREAS: SpinLock<VmaSet<Area>, levels::Leaf> = SpinLock::new(VmaSet::new(BASE as u64..END as u64));

/// First of the areas that wait for being unmapped, 0 for none; each has the next in its first word.
static DEFERRED: AtomicUsize = AtomicUsize::new(0);

static USED_PAGES: AtomicUsize = AtomicUsize::new(0);

/// Bytes mapped here, device registers not counted.
pub(crate) fn used_bytes() -> usize {
    USED_PAGES.load(Ordering::Relaxed) * PAGE_SIZE
}

/// Whether the address belongs to an area here (rather than a stack or the direct map).
pub(crate) fn contains(addr: VirtAddr) -> bool {
    (BASE..END).contains(&addr.0)
}

/// Reserves addresses for `pages` pages and the unmapped one behind them.
fn reserve(pages: usize) -> Result<usize, OutOfMemory> {
    let len = (pages as u64 + 1) * PAGE_SIZE as u64;
    let mut areas = AREAS.lock();
    let start = areas.find_free(&FreeSpace::bottom_up(len, BASE as u64..END as u64)).ok_or(OutOfMemory)?;
    areas.insert(start..start + len, Area).map_err(|_| OutOfMemory)?;
    Ok(start as usize)
}

/// Takes the addresses of an area out of use; returns how many bytes it maps.
fn unreserve(start: usize) -> usize {
    let mut areas = AREAS.lock();
    let Some(range) = areas.find(start as u64).map(|area| area.range()) else { return 0 };
    let len = (range.end - range.start) as usize - PAGE_SIZE;
    // Removing a whole area cuts nothing and so needs no memory.
    let _ = areas.carve(range, |_| ());
    len
}

/// Maps `pages` new, uninitialised pages; `None` in atomic context and without memory.
pub(crate) fn alloc_raw(pages: usize) -> Option<NonNull<u8>> {
    if sync::preempt::in_atomic() || pages > (END - BASE) / PAGE_SIZE {
        return None;
    }
    free_deferred();
    let start = reserve(pages).ok()?;
    for page in 0..pages {
        if map_new(start + page * PAGE_SIZE).is_err() {
            free_now(start);
            return None;
        }
    }
    arch::mmu::flush_kernel_range_all_cpus(VirtAddr(start), pages * PAGE_SIZE);
    NonNull::new(start as *mut u8)
}

fn map_new(va: usize) -> Result<(), OutOfMemory> {
    let pfn = pages::alloc(0, AllocFlags::KERNEL)?;
    frame(pfn).set_kind(Kind::Kernel, 0);
    let mapped = kernel_table::map_page(va, pfn, PteFlags::READ | PteFlags::WRITE);
    match mapped {
        Ok(()) => drop(USED_PAGES.fetch_add(1, Ordering::Relaxed)),
        Err(OutOfMemory) => pages::free(pfn, 0),
    }
    mapped
}

/// Unmaps an area made by `alloc_raw`; later when the context is atomic.
pub(crate) fn free_raw(start: VirtAddr) {
    if !sync::preempt::in_atomic() {
        free_deferred();
        return free_now(start.0);
    }
    let mut next = DEFERRED.load(Ordering::Relaxed);
    loop {
        // SAFETY: 1. the area is still mapped, and its owner has given it up.
        unsafe { start.as_ptr::<usize>().write(next) };
        match DEFERRED.compare_exchange_weak(next, start.0, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => next = now,
        }
    }
}

fn free_deferred() {
    let mut start = DEFERRED.swap(0, Ordering::Acquire);
    while start != 0 {
        // SAFETY: 1. `free_raw` wrote the link, and the area is still mapped.
        let next = unsafe { VirtAddr(start).as_ptr::<usize>().read() };
        free_now(start);
        start = next;
    }
}

/// Unmaps and frees in pieces, so that no list of frames is needed; the addresses are given up last.
fn free_now(start: usize) {
    const PIECE: usize = 64;
    let len = {
        let areas = AREAS.lock();
        areas.find(start as u64).map_or(0, |area| area.len() as usize - PAGE_SIZE)
    };
    for at in (start..start + len).step_by(PIECE * PAGE_SIZE) {
        let piece = (start + len - at).min(PIECE * PAGE_SIZE);
        let mut frames = [0; PIECE];
        let mut count = 0;
        kernel_table::unmap_pages(at, piece, |pfn| {
            frames[count] = pfn;
            count += 1;
        });
        arch::mmu::flush_kernel_range_all_cpus(VirtAddr(at), piece);
        frames[..count].iter().for_each(|&pfn| pages::free(pfn, 0));
        USED_PAGES.fetch_sub(count, Ordering::Relaxed);
    }
    unreserve(start);
}

/// Zeroed memory in the vmalloc range, freed when dropped.
#[derive(Debug)]
pub struct VmallocRegion {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: 1. the region owns its memory.
unsafe impl Send for VmallocRegion {}
// SAFETY: 1. shared access only reads.
unsafe impl Sync for VmallocRegion {}

/// Maps at least `bytes` zeroed bytes. Task context; may sleep.
pub fn vmalloc(bytes: usize) -> Result<VmallocRegion, OutOfMemory> {
    let len = bytes.max(1).checked_next_multiple_of(PAGE_SIZE).ok_or(OutOfMemory)?;
    let start = alloc_raw(len / PAGE_SIZE).ok_or(OutOfMemory)?;
    // SAFETY: 1. the pages were just mapped for this region.
    unsafe { crate::bytes::zero_pages(start.as_ptr(), len / PAGE_SIZE) };
    Ok(VmallocRegion { start, len })
}

impl VmallocRegion {
    /// Bytes, a multiple of the page size, never zero.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address of the first byte.
    pub fn addr(&self) -> VirtAddr {
        VirtAddr(self.start.as_ptr() as usize)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: 1. the region owns `len` mapped and initialised bytes.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, writable (unless `protect` took that away: then writing is a kernel fault).
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: 1. as for `bytes`; 2. `&mut self` is the only access.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Changes the permissions of whole pages, on every CPU (W^X for module text). Panics beyond the end.
    pub fn protect(&mut self, offset: usize, len: usize, flags: PteFlags) {
        assert!(offset.is_multiple_of(PAGE_SIZE) && offset <= self.len && len <= self.len - offset);
        let start = self.addr().0 + offset;
        kernel_table::protect_pages(start, len, flags);
        arch::mmu::flush_kernel_range_all_cpus(VirtAddr(start), len);
    }
}

impl Drop for VmallocRegion {
    fn drop(&mut self) {
        free_raw(self.addr());
    }
}

/// Where the kernel sees the device registers at `phys`; mapped for good. `None` without memory or addresses.
pub fn ioremap(phys: PhysAddr, len: usize) -> Option<VirtAddr> {
    if kernel_table::in_direct_map(phys, len) {
        return Some(phys.to_virt());
    }
    let offset = phys.0 as usize % PAGE_SIZE;
    let pages = (offset + len).div_ceil(PAGE_SIZE);
    let start = reserve(pages).ok()?;
    let flags = PteFlags::READ | PteFlags::WRITE | PteFlags::DEVICE;
    for page in 0..pages {
        let at = PhysAddr(phys.0 - offset as u64 + (page * PAGE_SIZE) as u64);
        let va = start + page * PAGE_SIZE;
        kernel_table::map_phys(va, at, flags).ok()?;
    }
    arch::mmu::flush_kernel_range_all_cpus(VirtAddr(start), pages * PAGE_SIZE);
    Some(VirtAddr(start + offset))
}
