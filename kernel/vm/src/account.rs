//! Who counts what in an address space: sizes by kind, resident pages by kind, promises.

use crate::area::VmFlags;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Sizes of the areas in pages; guarded by the areas' lock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    pub total: u64,
    pub data: u64,
    pub stack: u64,
    pub exec: u64,
    pub locked: u64,
    /// Pages charged against the commit limit by this space.
    pub committed: u64,
}

impl Sizes {
    /// An area of `pages` came.
    pub fn add(&mut self, flags: VmFlags, pages: u64) {
        self.total += pages;
        if let Some(part) = self.part(flags) {
            *part += pages;
        }
        if flags.contains(VmFlags::LOCKED) {
            self.locked += pages;
        }
    }

    /// An area of `pages` went.
    pub fn remove(&mut self, flags: VmFlags, pages: u64) {
        self.total = self.total.saturating_sub(pages);
        if let Some(part) = self.part(flags) {
            *part = part.saturating_sub(pages);
        }
        if flags.contains(VmFlags::LOCKED) {
            self.locked = self.locked.saturating_sub(pages);
        }
    }

    /// Which of the kinds the flags make an area; Linux's vm_stat_account.
    fn part(&mut self, flags: VmFlags) -> Option<&mut u64> {
        if flags.is_exec() {
            Some(&mut self.exec)
        } else if flags.contains(VmFlags::GROWSDOWN) {
            Some(&mut self.stack)
        } else if flags.is_data() {
            Some(&mut self.data)
        } else {
            None
        }
    }
}

/// Pages of one removal or copy, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PageCounts {
    /// Private pages.
    pub private: usize,
    /// Pages of the mapped file.
    pub file: usize,
    /// Private pages that were in swap.
    pub swapped: usize,
}

/// What kind of resident page an area's file pages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resident {
    File,
    Shmem,
    /// Kernel-provided pages are not counted.
    None,
}

/// Resident pages by kind. Changed by faults of many threads under the areas' read lock.
#[derive(Debug, Default)]
pub(crate) struct Rss {
    anon: AtomicI64,
    file: AtomicI64,
    shmem: AtomicI64,
    /// Private pages that are in swap (VmSwap).
    swap: AtomicI64,
    /// Highest sum seen before pages were removed (VmHWM).
    peak: AtomicU64,
}

impl Rss {
    #[inline]
    pub fn add_anon(&self, pages: i64) {
        self.anon.fetch_add(pages, Relaxed);
    }

    pub fn add(&self, kind: Resident, pages: i64) {
        match kind {
            Resident::File => self.file.fetch_add(pages, Relaxed),
            Resident::Shmem => self.shmem.fetch_add(pages, Relaxed),
            Resident::None => 0,
        };
    }

    /// Before pages go: remembers the peak. Growth alone needs no look, so faults are spared of it.
    pub fn note_peak(&self) {
        let now = self.total();
        if now > self.peak.load(Relaxed) {
            self.peak.fetch_max(now, Relaxed);
        }
    }

    pub fn removed(&self, kind: Resident, counts: PageCounts) {
        self.add_anon(-(counts.private as i64));
        self.add(kind, -(counts.file as i64));
        if counts.swapped > 0 {
            self.forgot_swapped(counts.swapped as i64);
        }
    }

    pub fn copied(&self, kind: Resident, counts: PageCounts) {
        self.add_anon(counts.private as i64);
        self.add(kind, counts.file as i64);
        if counts.swapped > 0 {
            self.forgot_swapped(-(counts.swapped as i64));
        }
    }

    /// `pages` private pages went to swap (negative: came back).
    pub fn swapped(&self, pages: i64) {
        self.swap.fetch_add(pages, Relaxed);
        self.anon.fetch_sub(pages, Relaxed);
    }

    /// `pages` swapped pages are no longer this space's, or (negative) are its from fork on.
    pub fn forgot_swapped(&self, pages: i64) {
        self.swap.fetch_sub(pages, Relaxed);
    }

    pub fn swap(&self) -> u64 {
        u64::try_from(self.swap.load(Relaxed)).unwrap_or(0)
    }

    pub fn anon(&self) -> u64 {
        u64::try_from(self.anon.load(Relaxed)).unwrap_or(0)
    }

    pub fn file(&self) -> u64 {
        u64::try_from(self.file.load(Relaxed)).unwrap_or(0)
    }

    pub fn shmem(&self) -> u64 {
        u64::try_from(self.shmem.load(Relaxed)).unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.anon() + self.file() + self.shmem()
    }

    pub fn peak(&self) -> u64 {
        self.peak.load(Relaxed).max(self.total())
    }
}
