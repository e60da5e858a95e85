//! Numbers for `/proc/meminfo`, `/proc/buddyinfo`, `/proc/zoneinfo` and `/proc/vmstat`.

use crate::{cache, heap, pages, stack, vmalloc, walk};
use arch::PAGE_SIZE;
use buddy::{ORDERS, Watermarks};
use core::sync::atomic::Ordering;
use sync::SpinLock;

/// Memory by use. What user memory and page cache amount to is known above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemStats {
    /// MemTotal: what the page allocator manages.
    pub total_pages: usize,
    /// MemFree, per-CPU lists included.
    pub free_pages: usize,
    /// Pages below which user allocations fail, over all zones.
    pub low_pages: usize,
    /// Slab, in pages.
    pub slab_pages: usize,
    /// PageTables, in pages, the kernel's included.
    pub table_pages: usize,
    /// KernelStack, in bytes.
    pub stack_bytes: usize,
    /// VmallocUsed, in bytes, kernel stacks included.
    pub vmalloc_bytes: usize,
    /// Pages of kernel allocations too large for a slab.
    pub large_pages: usize,
}

/// One zone, for `/proc/buddyinfo` and `/proc/zoneinfo`.
#[derive(Debug, Clone, Copy)]
pub struct ZoneInfo {
    /// "DMA32" or "Normal".
    pub name: &'static str,
    /// First frame number.
    pub start_pfn: usize,
    /// Frames from the first to the last, holes included.
    pub spanned: usize,
    /// Frames the zone was given.
    pub managed: usize,
    pub free: usize,
    /// Free blocks of each order.
    pub blocks: [u32; ORDERS],
    pub watermarks: Watermarks,
}

/// Calls `each` for every zone that has memory, from low to high addresses.
pub fn zones(mut each: impl FnMut(&ZoneInfo)) {
    for zone in &pages::ZONES {
        let info = {
            let zone = zone.lock();
            let (buddy, range) = (zone.buddy(), zone.buddy().range());
            ZoneInfo {
                name: zone.kind().name(),
                start_pfn: range.start as usize,
                spanned: range.len(),
                managed: zone.managed() as usize,
                free: buddy.free_frames() as usize,
                blocks: *buddy.blocks(),
                watermarks: zone.watermarks(),
            }
        };
        if info.managed > 0 {
            each(&info);
        }
    }
}

/// The numbers as they are now. Each is exact; together they are not of one instant.
pub fn stats() -> MemStats {
    let mut stats = MemStats { free_pages: pages::free_frames(), ..MemStats::default() };
    zones(|zone| {
        stats.total_pages += zone.managed;
        stats.low_pages += zone.watermarks.low as usize;
    });
    cache::slabs(|slab| stats.slab_pages += slab.slabs * slab.pages_per_slab);
    stats.table_pages = walk::TABLE_FRAMES.load(Ordering::Relaxed);
    stats.stack_bytes = stack::stack_bytes();
    stats.vmalloc_bytes = vmalloc::used_bytes() + stats.stack_bytes;
    stats.large_pages = heap::large_pages();
    stats
}

/// Free pages, cheaply: for deciding whether to reclaim.
pub fn free_pages() -> usize {
    pages::free_frames()
}

/// MemTotal in bytes.
pub fn total_bytes() -> usize {
    stats().total_pages * PAGE_SIZE
}

/// How many pages must be freed until every zone is above its high mark.
pub fn short_pages() -> usize {
    let short = |zone: &SpinLock<buddy::Zone, sync::levels::Zone>| {
        let zone = zone.lock();
        zone.watermarks().high.saturating_sub(zone.buddy().free_frames()) as usize
    };
    pages::ZONES.iter().map(short).sum()
}

/// vm.min_free_kbytes: what all zones keep for the kernel.
pub fn min_free_kib() -> usize {
    let min: usize = pages::ZONES.iter().map(|zone| zone.lock().watermarks().min as usize).sum();
    min * (PAGE_SIZE / 1024)
}

/// Sets vm.min_free_kbytes; an eighth of memory at most.
pub fn set_min_free_kib(kib: usize) {
    let total: u32 = pages::ZONES.iter().map(|zone| zone.lock().managed()).sum();
    let frames = u32::try_from(kib / (PAGE_SIZE / 1024)).unwrap_or(u32::MAX);
    for zone in &pages::ZONES {
        let mut zone = zone.lock();
        let marks = Watermarks::with_min(zone.managed(), total, frames);
        zone.set_watermarks(marks);
    }
}
