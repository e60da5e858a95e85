//! System-wide counters and the overcommit policy.
//!
//! One atomic word each: they change when a page enters or leaves the page cache or when an area comes
//! or goes, not on an anonymous fault, whose pages the frame allocator counts per CPU.

use crate::PAGE;
use abi::{Errno, errno::Result};
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Pages in the caches of files on devices.
static FILE_PAGES: AtomicI64 = AtomicI64::new(0);
/// Pages of memory objects: tmpfs, shared anonymous memory.
static SHMEM_PAGES: AtomicI64 = AtomicI64::new(0);
/// Pages that programs were promised (Committed_AS).
static COMMITTED: AtomicI64 = AtomicI64::new(0);
/// Pages of backed files that differ from their device, not counting those on their way to it.
static DIRTY_PAGES: AtomicI64 = AtomicI64::new(0);
/// Pages on their way to a device.
static WRITEBACK_PAGES: AtomicI64 = AtomicI64::new(0);
/// Pages in memory that have a slot in swap, too: those on their way out.
static SWAP_CACHED: AtomicI64 = AtomicI64::new(0);
/// Pages that zram holds.
static ZSPAGES: AtomicI64 = AtomicI64::new(0);
static OVERCOMMIT: AtomicU32 = AtomicU32::new(0);
static OVERCOMMIT_RATIO: AtomicU32 = AtomicU32::new(50);
static FAULTS_MINOR: AtomicU64 = AtomicU64::new(0);
static FAULTS_MAJOR: AtomicU64 = AtomicU64::new(0);

/// Pages by use, for /proc/meminfo.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheStats {
    /// Cached files and memory objects together, as "Cached" counts.
    pub cached: u64,
    /// Memory objects alone, as "Shmem" counts.
    pub shmem: u64,
    /// Committed_AS.
    pub committed: u64,
    /// CommitLimit.
    pub commit_limit: u64,
}

fn positive(value: &AtomicI64) -> u64 {
    u64::try_from(value.load(Relaxed)).unwrap_or(0)
}

/// A snapshot of the counters, in pages.
pub fn snapshot() -> CacheStats {
    let shmem = positive(&SHMEM_PAGES);
    CacheStats {
        cached: positive(&FILE_PAGES) + shmem,
        shmem,
        committed: positive(&COMMITTED),
        commit_limit: commit_limit(),
    }
}

/// Faults since boot that needed no device, and that did (`pgfault - pgmajfault`, `pgmajfault`).
pub fn faults() -> (u64, u64) {
    (FAULTS_MINOR.load(Relaxed), FAULTS_MAJOR.load(Relaxed))
}

pub(crate) fn count_major() {
    FAULTS_MAJOR.fetch_add(1, Relaxed);
}

/// Adds the minor faults of a process that ends, or of a tick: callers batch them.
pub fn add_minor_faults(count: u64) {
    FAULTS_MINOR.fetch_add(count, Relaxed);
}

/// Events since boot, for /proc/vmstat. Each changes once a page moved, which costs far more.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {
        /// The events by their name in /proc/vmstat.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $name,)* }
        static EVENTS: [AtomicU64; [$($text),*].len()] = [const { AtomicU64::new(0) }; [$($text),*].len()];
        const EVENT_NAMES: &[&str] = &[$($text),*];
    };
}

events! {
    /// Pages that became dirty.
    Dirtied "nr_dirtied";
    /// Pages whose write-back ended.
    Written "nr_written";
    /// Pages read in, counted in KiB where it is shown.
    PageIn "pgpgin";
    PageOut "pgpgout";
    /// File pages that reclaim looked at, and those that it freed.
    PageScan "pgscan_file";
    PageSteal "pgsteal_file";
    /// Pages swapped in and out.
    SwapIn "pswpin";
    SwapOut "pswpout";
    ReadError "ochre_read_error";
    WriteError "ochre_write_error";
}

/// Counts an event.
#[inline]
pub fn count(event: Event, times: u64) {
    EVENTS[event as usize].fetch_add(times, Relaxed);
}

/// How often an event happened.
pub fn total(event: Event) -> u64 {
    EVENTS[event as usize].load(Relaxed)
}

/// Calls `each` with the name and count of every event.
pub fn events(mut each: impl FnMut(&'static str, u64)) {
    for (name, count) in EVENT_NAMES.iter().zip(&EVENTS) {
        let count = count.load(Relaxed);
        each(name, if name.starts_with("pgpg") { count * (PAGE / 1024) } else { count });
    }
}

pub(crate) fn add_dirty(pages: i64) {
    DIRTY_PAGES.fetch_add(pages, Relaxed);
    if pages > 0 {
        count(Event::Dirtied, pages as u64);
    }
}

/// A dirty page is on its way now.
pub(crate) fn begin_writeback() {
    DIRTY_PAGES.fetch_sub(1, Relaxed);
    WRITEBACK_PAGES.fetch_add(1, Relaxed);
}

/// It arrived, or not. Any context.
pub(crate) fn end_writeback() {
    count(Event::Written, 1);
    count(Event::PageOut, 1);
    WRITEBACK_PAGES.fetch_sub(1, Relaxed);
}

pub(crate) fn count_read(pages: u64) {
    count(Event::PageIn, pages);
}

pub(crate) fn count_read_error() {
    count(Event::ReadError, 1);
}

pub(crate) fn count_write_error() {
    count(Event::WriteError, 1);
}

/// Whether any write-back has failed since boot.
pub fn any_write_error() -> bool {
    EVENTS[Event::WriteError as usize].load(Relaxed) != 0
}

/// Dirty, in pages, as /proc/meminfo shows it.
pub fn dirty_pages() -> u64 {
    positive(&DIRTY_PAGES)
}

/// Writeback, in pages.
pub fn writeback_pages() -> u64 {
    positive(&WRITEBACK_PAGES)
}

/// Pages with compressed pages in them (nr_zspages): `pages` came, or went.
pub fn add_zspages(pages: i64) {
    ZSPAGES.fetch_add(pages, Relaxed);
}

pub(crate) fn zspages() -> u64 {
    positive(&ZSPAGES)
}

pub(crate) fn add_swap_cached(pages: i64) {
    SWAP_CACHED.fetch_add(pages, Relaxed);
}

/// SwapCached, in pages: those on their way out.
pub fn swap_cached_pages() -> u64 {
    positive(&SWAP_CACHED)
}

/// Pages in the caches of files on devices.
pub(crate) fn file_pages() -> u64 {
    positive(&FILE_PAGES)
}

/// Pages that stay free whatever programs want.
pub(crate) fn reserved_pages() -> u64 {
    static LOW: AtomicU64 = AtomicU64::new(u64::MAX);
    match LOW.load(Relaxed) {
        u64::MAX => {
            let low = mem::stats().low_pages as u64;
            LOW.store(low, Relaxed);
            low
        }
        low => low,
    }
}

pub(crate) fn add_cached(shmem: bool, pages: i64) {
    let counter = if shmem { &SHMEM_PAGES } else { &FILE_PAGES };
    counter.fetch_add(pages, Relaxed);
}

/// vm.overcommit_memory: 0 refuse only the absurd, 1 refuse nothing, 2 never promise more than exists.
pub fn overcommit_mode() -> u32 {
    OVERCOMMIT.load(Relaxed)
}

/// Sets vm.overcommit_memory; EINVAL above 2.
pub fn set_overcommit_mode(mode: u32) -> Result<()> {
    if mode > 2 {
        return Err(Errno::EINVAL);
    }
    OVERCOMMIT.store(mode, Relaxed);
    Ok(())
}

/// vm.overcommit_ratio, percent of RAM that mode 2 promises.
pub fn overcommit_ratio() -> u32 {
    OVERCOMMIT_RATIO.load(Relaxed)
}

pub fn set_overcommit_ratio(percent: u32) {
    OVERCOMMIT_RATIO.store(percent, Relaxed);
}

/// MemTotal in pages. Counting it walks the zones, so it is done once; what boot gives back later is
/// little.
fn total_pages() -> u64 {
    static TOTAL: AtomicU64 = AtomicU64::new(0);
    match TOTAL.load(Relaxed) {
        0 => {
            let pages = mem::stats().total_pages as u64;
            TOTAL.store(pages, Relaxed);
            pages
        }
        pages => pages,
    }
}

fn commit_limit() -> u64 {
    total_pages() / 100 * u64::from(overcommit_ratio()) + crate::swap::totals().0
}

/// Promises `pages`; ENOMEM when the policy says no.
pub fn commit(pages: u64) -> Result<()> {
    if pages == 0 {
        return Ok(());
    }
    let wanted = i64::try_from(pages).map_err(|_| Errno::ENOMEM)?;
    let now = COMMITTED.fetch_add(wanted, Relaxed).saturating_add(wanted);
    let allowed = match overcommit_mode() {
        // Most promises fit into memory: swap, under a lock, is asked for the others.
        0 => pages <= total_pages() || pages <= total_pages() + crate::swap::totals().0,
        1 => true,
        _ => u64::try_from(now).is_ok_and(|now| now <= commit_limit()),
    };
    if allowed {
        return Ok(());
    }
    COMMITTED.fetch_sub(wanted, Relaxed);
    Err(Errno::ENOMEM)
}

/// Takes a promise back.
pub fn uncommit(pages: u64) {
    if pages == 0 {
        return;
    }
    COMMITTED.fetch_sub(i64::try_from(pages).unwrap_or(0), Relaxed);
}
