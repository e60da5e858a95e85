//! The texts of /proc/meminfo and /proc/vmstat.
//!
//! What is counted nowhere by itself is what is left: anonymous pages are all pages in use that are no
//! cache, slab, page table or stack. The alternative, a counter that every fault changes, costs each fault
//! more than it tells.

use crate::stats::{self, CacheStats, snapshot};
use core::fmt::{self, Write};
use mem::MemStats;

/// Pages by use, of one moment as far as that goes.
struct Pages {
    mem: MemStats,
    cache: CacheStats,
    anonymous: u64,
}

impl Pages {
    fn now() -> Pages {
        let (mem, cache) = (mem::stats(), snapshot());
        let page = arch::PAGE_SIZE;
        let vmalloc_pages = mem.vmalloc_bytes / page;
        let zspages = stats::zspages() as usize;
        let kernel = mem.slab_pages + mem.table_pages + vmalloc_pages + mem.large_pages + zspages;
        let used = mem.total_pages.saturating_sub(mem.free_pages + kernel) as u64;
        Pages { mem, cache, anonymous: used.saturating_sub(cache.cached) }
    }

    fn file(&self) -> u64 {
        self.cache.cached.saturating_sub(self.cache.shmem)
    }

    /// What programs could get without swapping: free memory above the reserve, and most of the cache.
    fn available(&self) -> u64 {
        let low = self.mem.low_pages as u64;
        let free = (self.mem.free_pages as u64).saturating_sub(low);
        free + self.file().saturating_sub((self.file() / 2).min(low))
    }
}

/// /proc/meminfo.
pub fn write_meminfo(out: &mut dyn Write) -> fmt::Result {
    let pages = Pages::now();
    let kib = |pages: u64| pages * (arch::PAGE_SIZE as u64 / 1024);
    let (mem, cache) = (&pages.mem, &pages.cache);
    let (anonymous, file, slab) = (pages.anonymous, pages.file(), mem.slab_pages as u64);
    let (active, _) = crate::reclaim::active_and_all();
    let active = active.min(file);
    let swap = crate::swap::totals();
    let lines = [
        ("MemTotal:", kib(mem.total_pages as u64)),
        ("MemFree:", kib(mem.free_pages as u64)),
        ("MemAvailable:", kib(pages.available())),
        ("Buffers:", 0),
        ("Cached:", kib(cache.cached)),
        ("SwapCached:", kib(stats::swap_cached_pages())),
        ("Active:", kib(anonymous + active)),
        ("Inactive:", kib(cache.cached - active)),
        ("Active(anon):", kib(anonymous)),
        ("Inactive(anon):", kib(cache.shmem)),
        ("Active(file):", kib(active)),
        ("Inactive(file):", kib(file - active)),
        ("Unevictable:", 0),
        ("Mlocked:", 0),
        ("SwapTotal:", kib(swap.0)),
        ("SwapFree:", kib(swap.0 - swap.1)),
        ("Dirty:", kib(stats::dirty_pages())),
        ("Writeback:", kib(stats::writeback_pages())),
        ("AnonPages:", kib(anonymous)),
        ("Shmem:", kib(cache.shmem)),
        ("KReclaimable:", 0),
        ("Slab:", kib(slab)),
        ("SReclaimable:", 0),
        ("SUnreclaim:", kib(slab)),
        ("KernelStack:", mem.stack_bytes as u64 >> 10),
        ("PageTables:", kib(mem.table_pages as u64)),
        ("CommitLimit:", kib(cache.commit_limit)),
        ("Committed_AS:", kib(cache.committed)),
        ("VmallocUsed:", mem.vmalloc_bytes as u64 >> 10),
    ];
    lines.iter().try_for_each(|(name, kib)| writeln!(out, "{name:<16}{kib:>8} kB"))
}

/// The part of /proc/vmstat that memory knows of; `faults` are those since boot, major ones among them.
pub fn write_vmstat(out: &mut dyn Write, faults: u64, major: u64) -> fmt::Result {
    let pages = Pages::now();
    let (mem, cache) = (&pages.mem, &pages.cache);
    let (active, _) = crate::reclaim::active_and_all();
    let active = active.min(pages.file());
    let lines = [
        ("nr_free_pages", mem.free_pages as u64),
        ("nr_inactive_anon", cache.shmem),
        ("nr_active_anon", pages.anonymous),
        ("nr_inactive_file", pages.file() - active),
        ("nr_active_file", active),
        ("nr_slab_reclaimable", 0),
        ("nr_slab_unreclaimable", mem.slab_pages as u64),
        ("nr_anon_pages", pages.anonymous),
        ("nr_file_pages", cache.cached),
        ("nr_shmem", cache.shmem),
        ("nr_swapcached", stats::swap_cached_pages()),
        ("nr_zspages", stats::zspages()),
        ("nr_dirty", stats::dirty_pages()),
        ("nr_writeback", stats::writeback_pages()),
        ("nr_kernel_stack", mem.stack_bytes as u64 >> 10),
        ("nr_page_table_pages", mem.table_pages as u64),
        ("pgfault", faults),
        ("pgmajfault", major),
    ];
    lines.iter().try_for_each(|(name, value)| writeln!(out, "{name} {value}"))?;
    let mut result = Ok(());
    stats::events(|name, value| {
        result = result.and_then(|()| writeln!(out, "{name} {value}"));
    });
    result
}
