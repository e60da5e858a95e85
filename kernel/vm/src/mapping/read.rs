//! Buffered reads, read-ahead, and bringing pages in.

use super::{FolioRead, Mapping, Patience, ReadRun, pages_of, wait_unlocked};
use crate::fault::FaultError;
use crate::readahead::Readahead;
use crate::{PAGE, PAGE_SHIFT};
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use core::ops::Range;
use mem::{AllocFlags, Folio};

/// Pages of one request to the file system at most.
const RUN: usize = 256;
/// Inside this file: the blocks move, and the caller does not wait for that.
const MOVING: Errno = Errno::EDEADLK;

impl Mapping {
    /// Reads up to `len` bytes at `pos`, as far as the file goes. `sink(folio, offset, len)` is given each
    /// part and returns how many bytes it took; taking fewer ends the read. Returns the sum.
    ///
    /// No lock is held while the sink runs: it may fault on user memory.
    pub fn read(
        &self,
        pos: u64,
        len: usize,
        sink: impl FnMut(&Folio, usize, usize) -> Result<usize>,
    ) -> Result<usize> {
        self.read_with(None, pos, len, sink)
    }

    /// As [`Mapping::read`], for an open file with its read-ahead state.
    pub fn read_file(
        &self,
        ahead: &Readahead,
        pos: u64,
        len: usize,
        sink: impl FnMut(&Folio, usize, usize) -> Result<usize>,
    ) -> Result<usize> {
        self.read_with(Some(ahead), pos, len, sink)
    }

    #[inline]
    fn read_with(
        &self,
        ahead: Option<&Readahead>,
        pos: u64,
        len: usize,
        mut sink: impl FnMut(&Folio, usize, usize) -> Result<usize>,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let at = pos.saturating_add(done as u64);
            // Looked at for each page: the file may shrink meanwhile.
            let left = self.size().saturating_sub(at);
            let (index, offset) = (at >> PAGE_SHIFT, (at % PAGE) as usize);
            let part =
                (PAGE as usize - offset).min(len - done).min(usize::try_from(left).unwrap_or(usize::MAX));
            if part == 0 {
                break;
            }
            let wanted = ((offset + len - done) as u64).div_ceil(PAGE);
            match self.read_part(ahead, index, wanted, |folio| sink(folio, offset, part)) {
                Ok(taken) => {
                    done += taken.min(part);
                    if taken < part {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    #[inline]
    fn read_part(
        &self,
        ahead: Option<&Readahead>,
        index: u64,
        wanted: u64,
        sink: impl FnOnce(&Folio) -> Result<usize>,
    ) -> Result<usize> {
        match self.find_any(index) {
            Some(folio) if folio.uptodate() => {
                self.touch(&folio);
                if let Some(ahead) = ahead {
                    if folio.take_readahead() {
                        self.run_ahead(ahead, index, wanted, Patience::Wait);
                    }
                    ahead.used(index);
                }
                sink(&folio)
            }
            None if self.is_hole(index) => sink(mem::zero_folio()),
            found => sink(&self.bring_in(ahead, index, wanted, found.is_none())?),
        }
    }

    /// The page is absent or not filled yet.
    #[cold]
    fn bring_in(&self, ahead: Option<&Readahead>, index: u64, wanted: u64, absent: bool) -> Result<Folio> {
        if self.is_memory() {
            // Back from swap; truncated meanwhile, it is a hole, which takes no memory.
            let found = self.fill_if(index, || index < pages_of(self.size()), Patience::Wait)?;
            return Ok(found.map_or_else(|| mem::zero_folio().clone(), |(folio, _)| folio));
        }
        if let Some(ahead) = ahead {
            if absent {
                let plan = ahead.plan_miss(self, index, wanted);
                self.start_reads(plan.start..plan.end(), plan.mark, Patience::Wait);
            }
            ahead.used(index);
        }
        self.fill(index).map(|(folio, _)| folio)
    }

    /// The marked page is used: the next window is read while this one still lasts.
    #[cold]
    pub(crate) fn run_ahead(&self, ahead: &Readahead, index: u64, wanted: u64, patience: Patience) {
        if let Some(plan) = ahead.plan_mark(self, index, wanted) {
            self.start_reads(plan.start..plan.end(), plan.mark, patience);
        }
    }

    /// Reads into a kernel buffer; fewer bytes at the end of the file.
    pub fn read_bytes(&self, pos: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        self.read(pos, buffer.len(), |folio, offset, len| {
            folio.read(offset, &mut buffer[done..done + len]);
            done += len;
            Ok(len)
        })
    }

    // ---- finding and filling ----

    /// The folio of a page, brought in when it is absent; the flag says that a device was waited for. The page
    /// may lie beyond the end of the file.
    pub fn fill(&self, index: u64) -> Result<(Folio, bool)> {
        self.fill_if(index, || true, Patience::Wait)?.ok_or(Errno::EIO)
    }

    /// As [`Mapping::fill`], only within the file, and without waiting for blocks that move: faults.
    pub(crate) fn folio_for_fault(&self, index: u64) -> core::result::Result<(Folio, bool), FaultError> {
        let found = self.fill_if(index, || index < pages_of(self.size()), Patience::Try);
        match found {
            Ok(Some(found)) => Ok(found),
            Err(MOVING) => Err(FaultError::Moving),
            Err(Errno::ENOMEM) => Err(FaultError::Oom),
            Ok(None) | Err(_) => Err(FaultError::BusErr),
        }
    }

    /// `wanted` is asked under the tree's lock, which truncation takes after it has set the size. [`MOVING`].
    fn fill_if(
        &self,
        index: u64,
        wanted: impl Fn() -> bool,
        patience: Patience,
    ) -> Result<Option<(Folio, bool)>> {
        let mut waited = false;
        loop {
            let pages = self.pages.lock();
            if !wanted() {
                return Ok(None);
            }
            if let Some(folio) = pages.get(index).cloned() {
                drop(pages);
                if folio.uptodate() {
                    self.touch(&folio);
                    return Ok(Some((folio, waited)));
                }
                waited = true;
                self.fill_found(index, &folio, patience)?;
                continue;
            }
            let swapped = pages.swapped(index);
            drop(pages);
            let made = if let Some(entry) = swapped {
                waited = true;
                self.fill_swapped(index, entry, &wanted)?
            } else if self.is_memory() {
                self.fill_memory(index, &wanted)?
            } else {
                waited = true;
                self.fill_backed(index, &wanted, patience)?
            };
            if let Some(folio) = made {
                return Ok(Some((folio, waited)));
            }
        }
    }

    /// A hole of a memory object becomes a zeroed folio. `None`: look again.
    fn fill_memory(&self, index: u64, wanted: &impl Fn() -> bool) -> Result<Option<Folio>> {
        self.ops.charge(1)?;
        let folio =
            Folio::alloc(0, AllocFlags::USER | AllocFlags::ZERO).inspect_err(|_| self.ops.uncharge(1))?;
        folio.set_dirty();
        folio.set_uptodate();
        let mut pages = self.pages.lock();
        let inserted = if wanted() { pages.insert(index, folio.clone()) } else { Ok(false) };
        drop(pages);
        if inserted != Ok(true) {
            self.ops.uncharge(1);
            inserted?;
            return Ok(None);
        }
        self.came(index, &folio, false);
        Ok(Some(folio))
    }

    /// A folio in the tree that is not up to date: waits for whoever fills it, or fills it when the last
    /// attempt failed. `Ok`: look again.
    fn fill_found(&self, index: u64, folio: &Folio, patience: Patience) -> Result<()> {
        let stay = self.blocks_stay(patience).ok_or(MOVING)?;
        if folio.locked() || !folio.try_lock() {
            drop(stay);
            wait_unlocked(folio);
            return Ok(());
        }
        let one = FolioRead::new(folio.clone(), index, &self.shared);
        if folio.uptodate() {
            // Somebody was faster; its bytes may have been written since, so they are not touched.
            return one.abandon();
        }
        self.submit_one(one, folio)
    }

    /// Reads an absent page in. `None`: look again.
    fn fill_backed(
        &self,
        index: u64,
        wanted: &impl Fn() -> bool,
        patience: Patience,
    ) -> Result<Option<Folio>> {
        let folio = Folio::alloc(0, AllocFlags::USER)?;
        let _stay = self.blocks_stay(patience).ok_or(MOVING)?;
        folio.try_lock();
        let mut pages = self.pages.lock();
        let inserted = if wanted() { pages.insert(index, folio.clone()) } else { Ok(false) };
        drop(pages);
        if !inserted? {
            return Ok(None);
        }
        self.came(index, &folio, false);
        self.submit_one(FolioRead::new(folio.clone(), index, &self.shared), &folio)?;
        Ok(Some(folio))
    }

    fn submit_one(&self, one: FolioRead, folio: &Folio) -> Result<()> {
        let mut run = Vec::new();
        run.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        run.push(one);
        self.ops.read_run(ReadRun::new(run));
        wait_unlocked(folio);
        if folio.uptodate() { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Submits reads of the absent pages of a range within the file and waits for none. Page `mark` is
    /// marked if it is among them. Stops early when memory is short, or blocks move and nobody waits for that.
    pub(crate) fn start_reads(&self, range: Range<u64>, mark: Option<u64>, patience: Patience) {
        let Some(_stay) = self.blocks_stay(patience) else { return };
        let end = range.end.min(pages_of(self.size()));
        let mut index = range.start;
        while index < end {
            let Some(run) = self.gather_run(&mut index, end, mark) else { return };
            if !run.is_empty() {
                self.ops.read_run(run);
            }
        }
    }

    /// Locked folios for the next absent pages, in the tree already. Moves `index` past them and past what
    /// is cached. `None`: no memory.
    fn gather_run(&self, index: &mut u64, end: u64, mark: Option<u64>) -> Option<ReadRun> {
        let mut run: Vec<FolioRead> = Vec::new();
        let room = usize::try_from(end - *index).unwrap_or(RUN).min(RUN);
        run.try_reserve_exact(room).ok()?;
        while *index < end && run.len() < room {
            // One look without memory in the hand, because most of a window is often there.
            if self.find_any(*index).is_some() {
                *index += 1;
                if run.is_empty() {
                    continue;
                }
                break;
            }
            // Reading ahead is no reason to reclaim.
            let Ok(folio) = Folio::alloc(0, AllocFlags::USER | AllocFlags::ATOMIC) else {
                *index = end;
                break;
            };
            folio.try_lock();
            if mark == Some(*index) {
                folio.set_readahead();
            }
            let mut pages = self.pages.lock();
            let wanted = *index < pages_of(self.size());
            let inserted = wanted && pages.insert(*index, folio.clone()) == Ok(true);
            drop(pages);
            *index += 1;
            if !inserted {
                break;
            }
            self.came(*index - 1, &folio, true);
            run.push(FolioRead::new(folio, *index - 1, &self.shared));
        }
        Some(ReadRun::new(run))
    }

    /// Starts to bring `bytes` bytes of a backed file in, as readahead(2) and MADV_WILLNEED ask; errors
    /// are left to whoever needs the pages.
    pub fn read_ahead(&self, start: u64, bytes: u64) {
        if !self.is_memory() {
            self.start_reads(
                start >> PAGE_SHIFT..pages_of(start.saturating_add(bytes)),
                None,
                Patience::Wait,
            );
        }
    }

    /// How many of the pages right before `index` are cached, `limit` at most.
    pub(crate) fn cached_before(&self, index: u64, limit: u32) -> u32 {
        let pages = self.pages.lock();
        (1..=u64::from(limit)).take_while(|back| index >= *back && pages.get(index - back).is_some()).count()
            as u32
    }

    /// The first of the `limit` pages after `index` that is not cached.
    pub(crate) fn absent_after(&self, index: u64, limit: u32) -> Option<u64> {
        let pages = self.pages.lock();
        (1..=u64::from(limit)).filter_map(|step| index.checked_add(step)).find(|at| pages.get(*at).is_none())
    }
}
