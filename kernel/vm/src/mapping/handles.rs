//! Folios on their way from and to the backing store: who holds a handle owes its completion.
//!
//! Everything here may be called in any context, interrupt handlers included, but for
//! [`FolioWrite::redirty`]: only atomics change and queues are woken.

use super::{Mapping, Shared, clear_part, queue_of};
use crate::{PAGE, PAGE_SHIFT, stats};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use mem::Folio;

/// How many bytes of page `index` lie within the file.
fn valid_len(shared: &Shared, index: u64) -> usize {
    let size = shared.size.load(Ordering::Acquire);
    size.saturating_sub(index << PAGE_SHIFT).min(PAGE) as usize
}

/// One folio that is being filled.
pub struct FolioRead {
    folio: Folio,
    index: u64,
    shared: Arc<Shared>,
    done: bool,
}

impl FolioRead {
    /// Of a folio that the caller has locked.
    pub(super) fn new(folio: Folio, index: u64, shared: &Arc<Shared>) -> FolioRead {
        FolioRead { folio, index, shared: shared.clone(), done: false }
    }

    /// The page number in the file.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Where the bytes go.
    pub fn folio(&self) -> &Folio {
        &self.folio
    }

    /// The page is a hole.
    pub fn fill_zero(self) {
        self.folio.zero();
        self.finish(Ok(()));
    }

    /// The bytes are there, or will not come. Bytes beyond the end of the file become zero.
    pub fn finish(mut self, result: Result<()>) {
        self.complete(result);
    }

    /// Nothing was read: the folio is up to date already.
    pub(super) fn abandon(mut self) -> Result<()> {
        self.done = true;
        if self.folio.unlock() {
            queue_of(&self.folio).wake_all();
        }
        Ok(())
    }

    fn complete(&mut self, result: Result<()>) {
        self.done = true;
        match result {
            Ok(()) => {
                clear_part(&self.folio, valid_len(&self.shared, self.index)..PAGE as usize);
                self.folio.set_uptodate();
                stats::count_read(1);
            }
            Err(_) => stats::count_read_error(),
        }
        if self.folio.unlock() {
            queue_of(&self.folio).wake_all();
        }
    }
}

impl Drop for FolioRead {
    fn drop(&mut self) {
        if !self.done {
            self.complete(Err(Errno::EIO));
        }
    }
}

/// Consecutive folios to fill.
pub struct ReadRun {
    folios: Vec<FolioRead>,
}

impl ReadRun {
    /// Of folios with consecutive numbers, at least one.
    pub(super) fn new(folios: Vec<FolioRead>) -> ReadRun {
        ReadRun { folios }
    }

    /// The first page number.
    pub fn index(&self) -> u64 {
        self.folios.first().map_or(0, FolioRead::index)
    }

    /// Number of pages.
    pub fn len(&self) -> usize {
        self.folios.len()
    }

    pub fn is_empty(&self) -> bool {
        self.folios.is_empty()
    }

    /// The folios in order.
    pub fn folios(&self) -> &[FolioRead] {
        &self.folios
    }

    /// Cuts the first `count` pages off, for an extent of its own. ENOMEM: nothing changed.
    pub fn take(&mut self, count: usize) -> Result<ReadRun> {
        take_front(&mut self.folios, count).map(ReadRun::new)
    }

    /// Finishes all of them.
    pub fn finish(self, result: Result<()>) {
        self.into_iter().for_each(|one| one.finish(result));
    }
}

impl IntoIterator for ReadRun {
    type Item = FolioRead;
    type IntoIter = alloc::vec::IntoIter<FolioRead>;
    fn into_iter(self) -> Self::IntoIter {
        self.folios.into_iter()
    }
}

/// One folio that is being written.
pub struct FolioWrite {
    folio: Folio,
    index: u64,
    shared: Arc<Shared>,
    done: bool,
}

impl FolioWrite {
    /// Of a folio whose write-back flag the caller has set, and counted.
    pub(super) fn new(folio: Folio, index: u64, shared: &Arc<Shared>) -> FolioWrite {
        FolioWrite { folio, index, shared: shared.clone(), done: false }
    }

    /// The page number in the file.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Where the bytes are.
    pub fn folio(&self) -> &Folio {
        &self.folio
    }

    /// How many of its bytes lie within the file; 0: truncated meanwhile, there is nothing to write.
    pub fn valid_len(&self) -> usize {
        valid_len(&self.shared, self.index)
    }

    /// The bytes have arrived, or will not. An error is reported to every opener of the file.
    pub fn finish(mut self, result: Result<()>) {
        self.complete(result);
    }

    /// Cannot be written now: it is dirty again. Process context.
    pub fn redirty(mut self, mapping: &Mapping) {
        mapping.mark_dirty(self.index, &self.folio);
        self.complete(Ok(()));
    }

    fn complete(&mut self, result: Result<()>) {
        self.done = true;
        if let Err(error) = result {
            stats::count_write_error();
            self.shared.errors.set(error);
        }
        if self.folio.end_writeback() {
            queue_of(&self.folio).wake_all();
        }
        stats::end_writeback();
        if self.shared.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.arrived.wake_all();
        }
    }
}

impl Drop for FolioWrite {
    fn drop(&mut self) {
        if !self.done {
            self.complete(Err(Errno::EIO));
        }
    }
}

/// Consecutive folios to write.
pub struct WriteRun {
    folios: Vec<FolioWrite>,
    sync: bool,
}

impl WriteRun {
    pub(super) fn new(folios: Vec<FolioWrite>, sync: bool) -> WriteRun {
        WriteRun { folios, sync }
    }

    /// The first page number.
    pub fn index(&self) -> u64 {
        self.folios.first().map_or(0, FolioWrite::index)
    }

    /// Number of pages.
    pub fn len(&self) -> usize {
        self.folios.len()
    }

    pub fn is_empty(&self) -> bool {
        self.folios.is_empty()
    }

    /// Somebody waits for this (REQ_SYNC).
    pub fn is_sync(&self) -> bool {
        self.sync
    }

    /// The folios in order.
    pub fn folios(&self) -> &[FolioWrite] {
        &self.folios
    }

    /// Where in the file the bytes end that lie within it, rounded up to a multiple of `unit`; the run's start when none
    /// does. The file may become longer or shorter meanwhile: to be asked once.
    pub fn valid_end(&self, unit: u64) -> u64 {
        let valid = self.folios.iter().take_while(|page| page.valid_len() > 0);
        let end = valid.last().map(|last| (last.index() << PAGE_SHIFT) + last.valid_len() as u64);
        end.map_or(self.index() << PAGE_SHIFT, |end| end.next_multiple_of(unit))
    }

    /// Cuts the first `count` pages off, for an extent of its own. ENOMEM: nothing changed.
    pub fn take(&mut self, count: usize) -> Result<WriteRun> {
        take_front(&mut self.folios, count).map(|folios| WriteRun { folios, sync: self.sync })
    }

    /// Finishes all of them.
    pub fn finish(self, result: Result<()>) {
        self.into_iter().for_each(|one| one.finish(result));
    }
}

impl IntoIterator for WriteRun {
    type Item = FolioWrite;
    type IntoIter = alloc::vec::IntoIter<FolioWrite>;
    fn into_iter(self) -> Self::IntoIter {
        self.folios.into_iter()
    }
}

fn take_front<T>(from: &mut Vec<T>, count: usize) -> Result<Vec<T>> {
    let count = count.min(from.len());
    let mut front = Vec::new();
    front.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    front.extend(from.drain(..count));
    Ok(front)
}
