//! Dirty pages of one mapping on their way to the device.

use super::{FolioWrite, Mapping, WriteRun, pages_of, wait_written};
use crate::pages::Tag;
use crate::{PAGE_SHIFT, stats};
use abi::errno::Result;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use mem::Folio;

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Memory, age: pages that are on their way already are passed over.
    None,
    /// fsync: every page that is dirty now is submitted; one that is on its way and dirty again is waited
    /// for first. What becomes dirty meanwhile is not looked at, so the pass ends.
    All,
}

/// One walk over the dirty pages of a range, given out in runs.
pub struct WritePass<'a> {
    mapping: &'a Mapping,
    /// What is left of the range, in pages.
    range: Range<u64>,
    mode: SyncMode,
    tag: Tag,
    /// Pages that may still be given out.
    budget: u64,
    given: u64,
}

/// What the walk found at a page.
enum Found {
    Run,
    /// A page that has to arrive first.
    Busy(Folio),
    Nothing,
}

impl WritePass<'_> {
    pub fn mapping(&self) -> &Mapping {
        self.mapping
    }

    /// Somebody waits for the pass (fsync).
    pub fn is_sync(&self) -> bool {
        self.mode == SyncMode::All
    }

    /// Pages that this pass may still write.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// The next consecutive dirty pages, at most `max`; `None` at the end. May sleep.
    pub fn next_run(&mut self, max: usize) -> Option<WriteRun> {
        let max = usize::try_from(self.budget).unwrap_or(usize::MAX).min(max);
        if max == 0 {
            return None;
        }
        let mut folios = Vec::new();
        // Without memory for the run, one page at a time.
        let max = if folios.try_reserve_exact(max).is_ok() {
            max
        } else {
            usize::from(folios.try_reserve(1).is_ok())
        };
        if max == 0 {
            return None;
        }
        loop {
            match self.collect(&mut folios, max) {
                Found::Run => break,
                Found::Busy(folio) => wait_written(&folio),
                Found::Nothing => return None,
            }
        }
        // From here on a store through a mapping is noticed again; see the module `mappers`.
        let mapping = self.mapping;
        mapping.write_protect(folios.iter().map(|one| (one.index(), one.folio())));
        self.budget -= folios.len() as u64;
        self.given += folios.len() as u64;
        Some(WriteRun::new(folios, self.is_sync()))
    }

    /// Gathers a run under the tree's lock: dirty becomes under write-back.
    fn collect(&mut self, folios: &mut Vec<FolioWrite>, max: usize) -> Found {
        let mut pages = self.mapping.pages.lock();
        while folios.len() < max {
            let Some((index, folio)) = pages.first_tagged(self.range.clone(), self.tag) else { break };
            if !folios.is_empty() && index != self.range.start {
                break;
            }
            let folio = folio.clone();
            if folio.begin_writeback() {
                if !folios.is_empty() {
                    break;
                }
                if self.is_sync() {
                    return Found::Busy(folio);
                }
                self.range.start = index + 1;
                continue;
            }
            self.range.start = index + 1;
            let dirty = pages.has_tag(index, Tag::Dirty);
            pages.set_tag(index, Tag::ToWrite, false);
            if !dirty {
                // Written by another pass between the tagging and now.
                if folio.end_writeback() {
                    super::queue_of(&folio).wake_all();
                }
                continue;
            }
            pages.set_tag(index, Tag::Dirty, false);
            pages.set_tag(index, Tag::Writeback, true);
            self.mapping.shared.in_flight.fetch_add(1, Ordering::AcqRel);
            stats::begin_writeback();
            // After the tag: who writes the page now and finds the flag set has its bytes written by this run.
            folio.clear_dirty();
            folios.push(FolioWrite::new(folio, index, &self.mapping.shared));
        }
        if folios.is_empty() { Found::Nothing } else { Found::Run }
    }
}

impl Mapping {
    /// Submits the dirty pages of the bytes `start..end`, at most `budget` pages; says how many. Errors of
    /// single pages come through [`Mapping::errors`]. May sleep; the caller holds nothing that a completion
    /// or [`super::MappingOps::write_pass`] needs.
    pub fn write_back(&self, start: u64, end: u64, mode: SyncMode, budget: u64) -> Result<u64> {
        if self.is_memory() {
            return Ok(0);
        }
        let range = start >> PAGE_SHIFT..pages_of(end);
        let tag = match mode {
            SyncMode::None => Tag::Dirty,
            SyncMode::All => {
                self.tag_for_write(range.clone());
                Tag::ToWrite
            }
        };
        let mut pass = WritePass { mapping: self, range, mode, tag, budget, given: 0 };
        if self.pages.lock().any_tagged(tag) {
            self.ops.write_pass(&mut pass)?;
        }
        Ok(pass.given)
    }

    /// What is dirty now is what a sync has to write.
    fn tag_for_write(&self, range: Range<u64>) {
        const STEP: usize = 512;
        let mut at = range.start;
        loop {
            let mut pages = self.pages.lock();
            for _ in 0..STEP {
                let Some((index, _)) = pages.first_tagged(at..range.end, Tag::Dirty) else { return };
                pages.set_tag(index, Tag::ToWrite, true);
                at = index + 1;
            }
        }
    }

    /// Waits until the pages of `start..end` that are on their way have arrived. May sleep.
    pub fn wait_written(&self, start: u64, end: u64) {
        let range = start >> PAGE_SHIFT..pages_of(end);
        let mut at = range.start;
        while let Some((index, folio)) = self.first_writeback(at..range.end) {
            wait_written(&folio);
            at = index + 1;
        }
    }

    /// The first folio of a range that is still on its way; tags that have become stale are cleared.
    fn first_writeback(&self, range: Range<u64>) -> Option<(u64, Folio)> {
        let mut pages = self.pages.lock();
        loop {
            let (index, folio) = pages.first_tagged(range.clone(), Tag::Writeback)?;
            if folio.writeback() {
                return Some((index, folio.clone()));
            }
            pages.set_tag(index, Tag::Writeback, false);
        }
    }

    /// Writes what is dirty in `start..end` and waits until it has arrived: the data part of fsync(2).
    /// Whether all went well, [`Mapping::errors`] says to each opener.
    pub fn sync(&self, start: u64, end: u64) -> Result<()> {
        let submitted = self.write_back(start, end, SyncMode::All, u64::MAX);
        self.wait_written(start, end);
        submitted.map(drop)
    }
}
