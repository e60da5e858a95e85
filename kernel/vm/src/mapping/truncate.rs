//! Pages that go: truncation, holes, and making room for direct I/O.

use super::{Mapping, SyncMode, WriteWhy, clear_part, pages_of, wait_unlocked, wait_written};
use crate::pages::Tag;
use crate::{PAGE, PAGE_SHIFT, reclaim, stats, swap};
use abi::Errno;
use abi::errno::Result;
use core::ops::Range;
use core::sync::atomic::Ordering;
use mem::Folio;

/// Folios taken out under one hold of the tree's lock.
const BATCH: usize = 32;

impl Mapping {
    /// Sets the size; when it shrinks, the pages beyond go, from the cache and from every address space.
    /// Waits for those that are being written. The caller holds the inode's lock. May sleep.
    ///
    /// The page that the new end cuts becomes dirty when it is cached, for which the file system is asked
    /// to prepare it: no transaction that such a call would wait for may be open.
    pub fn truncate(&self, size: u64) {
        self.clear_tail(size);
        let old = self.shared.size.swap(size, Ordering::AcqRel);
        if size >= old {
            return;
        }
        self.drop_pages(pages_of(size)..u64::MAX, true);
        if !size.is_multiple_of(PAGE) {
            self.clear_within(size >> PAGE_SHIFT, size % PAGE..PAGE);
        }
    }

    /// Makes `start..end` a hole. Pages that lie in it wholly go, parts are zeroed; the size stays. The
    /// caller holds the inode's lock. May sleep.
    pub fn punch_hole(&self, start: u64, end: u64) {
        let first = pages_of(start);
        let last = end >> PAGE_SHIFT;
        if start >> PAGE_SHIFT == end >> PAGE_SHIFT {
            return self.clear_within(start >> PAGE_SHIFT, start % PAGE..end % PAGE);
        }
        if !start.is_multiple_of(PAGE) {
            self.clear_within(start >> PAGE_SHIFT, start % PAGE..PAGE);
        }
        if !end.is_multiple_of(PAGE) {
            self.clear_within(last, 0..end % PAGE);
        }
        if first < last {
            self.drop_pages(first..last, false);
        }
    }

    /// Zeroes a part of a page that is cached. The rest of one that is not is the file system's business.
    fn clear_within(&self, index: u64, bytes: Range<u64>) {
        let Some(folio) = self.find_held(index) else { return };
        wait_unlocked(&folio);
        if folio.uptodate() {
            clear_part(&folio, bytes.start as usize..bytes.end as usize);
            // Where the file system has no room, the device keeps bytes that lie behind the end or in a hole:
            // they read as zero all the same.
            if self.is_memory() || self.prepare(index..index + 1, WriteWhy::Write).is_ok() {
                self.mark_dirty(index, &folio);
            }
        }
    }

    /// fallocate: gives a memory object pages for `start..end`. ENOSPC, ENOMEM; what was taken stays.
    pub fn allocate(&self, start: u64, end: u64) -> Result<()> {
        for index in start >> PAGE_SHIFT..pages_of(end) {
            self.fill(index)?;
            if task::current().fatal_pending() {
                return Err(Errno::EINTR);
            }
        }
        Ok(())
    }

    /// Takes folios out of the tree and out of the page tables, and slots back from swap; private copies too with
    /// `copies_too`.
    fn drop_pages(&self, range: Range<u64>, copies_too: bool) {
        let (mut removed, mut cleaned, mut at) = (0usize, 0, range.start);
        loop {
            let mut batch: [Option<Folio>; BATCH] = [const { None }; BATCH];
            let mut pages = self.pages.lock();
            let mut count = 0;
            while count < BATCH
                && let Some(index) = pages.first_held(at..range.end)
            {
                if let Some(slot) = pages.forget_swapped(index) {
                    swap::release(slot);
                }
                cleaned += i64::from(pages.has_tag(index, Tag::Dirty));
                batch[count] = pages.remove(index);
                count += 1;
                at = index + 1;
            }
            drop(pages);
            removed += count;
            for folio in batch.iter().flatten() {
                folio.clear_dirty();
                // What is on its way in comes from blocks that may be another file's soon.
                if self.moves_blocks && folio.locked() {
                    wait_unlocked(folio);
                }
                wait_written(folio);
            }
            self.went(&batch);
            // The folios are freed here, without the lock, or by the unmapping below.
            drop(batch);
            if count < BATCH {
                break;
            }
        }
        self.ops.uncharge(if self.is_memory() { removed as u64 } else { 0 });
        stats::add_dirty(-cleaned);
        self.unmap(range, copies_too);
    }

    /// Before a direct read or write of `start..end`: dirty pages are written, and their errors returned.
    pub fn flush_range(&self, start: u64, end: u64) -> Result<()> {
        if self.cached_pages() == 0 {
            return Ok(());
        }
        self.write_back(start, end, SyncMode::All, u64::MAX)?;
        self.wait_written(start, end);
        Ok(())
    }

    /// After a direct write of `start..end`, and before one: no stale page stays cached. Pages become
    /// unmapped; dirty ones are written first. EBUSY when one cannot go: it is in use, and stays.
    pub fn invalidate_range(&self, start: u64, end: u64) -> Result<()> {
        let range = start >> PAGE_SHIFT..pages_of(end);
        let (mut at, mut result) = (range.start, Ok(()));
        while let Some((index, folio)) = self.first_from(at..range.end) {
            at = index + 1;
            wait_unlocked(&folio);
            if folio.dirty() {
                self.flush_range(index << PAGE_SHIFT, (index + 1) << PAGE_SHIFT)?;
            }
            wait_written(&folio);
            if folio.map_count() > 0 {
                self.unmap_folio(index, &folio);
            }
            if !self.evict(index, folio) && !self.evict_settled(index) {
                result = Err(Errno::EBUSY);
            }
        }
        result
    }

    /// Drops clean pages that nobody uses or maps from `start..end`; says how many. drop_caches and
    /// POSIX_FADV_DONTNEED. Does not wait.
    pub fn drop_clean(&self, start: u64, end: u64) -> u64 {
        let range = start >> PAGE_SHIFT..pages_of(end);
        let (mut at, mut dropped) = (range.start, 0);
        reclaim::settle_batches();
        while let Some((index, folio)) = self.first_from(at..range.end) {
            at = index + 1;
            dropped += u64::from(folio.map_count() == 0 && self.evict(index, folio));
        }
        dropped
    }

    /// As [`Mapping::evict`], after the CPUs have told the policy of the pages that came: until then they hold a
    /// reference of each.
    fn evict_settled(&self, index: u64) -> bool {
        reclaim::settle_batches();
        self.find_any(index).is_none_or(|folio| self.evict(index, folio))
    }

    fn first_from(&self, range: Range<u64>) -> Option<(u64, Folio)> {
        self.pages.lock().first(range).map(|(index, folio)| (index, folio.clone()))
    }

    /// Takes a clean folio that nobody else refers to out of the tree; false, and it stays, otherwise.
    /// `folio` is the caller's only reference.
    fn evict(&self, index: u64, folio: Folio) -> bool {
        let evicted = self.evict_victim(index, &folio) == Some(true);
        if evicted {
            reclaim::went(&[Some(folio)]);
        }
        evicted
    }

    /// As [`Mapping::evict`], leaving the policy to the caller; `None`: it is not this mapping's any more.
    pub(crate) fn evict_victim(&self, index: u64, folio: &Folio) -> Option<bool> {
        if self.is_memory() {
            return Some(false);
        }
        let mut pages = self.pages.lock();
        if !pages.get(index).is_some_and(|here| here.ptr_eq(folio)) {
            return None;
        }
        // Whoever takes a reference through the tree does so under this lock, and an entry counts as one:
        // the tree's, the policy's and the caller's are all there may be.
        let own = 2 + u32::from(folio.place() != 0);
        if folio.dirty() || folio.writeback() || folio.locked() || folio.refs() != own {
            return Some(false);
        }
        let gone = pages.remove(index);
        drop(pages);
        drop(gone);
        stats::add_cached(false, -1);
        Some(true)
    }
}
