//! Buffered writes.

use super::{Mapping, WriteWhy, clear_part, pages_of, wait_unlocked, wait_written};
use crate::pages::Tag;
use crate::{PAGE, PAGE_SHIFT, stats, writeback};
use abi::Errno;
use abi::errno::Result;
use core::ops::Range;
use core::sync::atomic::Ordering;
use mem::{AllocFlags, Folio};

/// Pages that the file system is asked to prepare at once.
const PREPARE: u64 = 64;
/// A writer looks this often, in pages, whether too much is dirty (Linux's ratelimit_pages).
const BALANCE: u64 = 32;

impl Mapping {
    /// Writes up to `len` bytes at `pos`, growing the file. `source(folio, offset, len)` fills each part
    /// and returns how many bytes it gave; giving fewer ends the write. Returns the sum; an error only when
    /// nothing was written. The caller holds the inode's lock; no lock of this crate is held in `source`.
    /// Sleeps while too much memory is dirty.
    pub fn write(
        &self,
        pos: u64,
        len: usize,
        mut source: impl FnMut(&Folio, usize, usize) -> Result<usize>,
    ) -> Result<usize> {
        self.clear_tail(pos);
        let last = pos.saturating_add(len as u64).div_ceil(PAGE);
        let (mut done, mut prepared, mut unbalanced) = (0, 0..0, 0);
        while done < len {
            let Some(at) = pos.checked_add(done as u64) else { break };
            let (index, offset) = (at >> PAGE_SHIFT, (at % PAGE) as usize);
            let part = (PAGE as usize - offset).min(len - done);
            let given = self
                .prepare_from(index, last, &mut prepared)
                .and_then(|()| self.write_part(index, offset, part, |folio| source(folio, offset, part)));
            match given {
                Ok(given) => {
                    done += given.min(part);
                    if given < part {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            unbalanced += 1;
            if unbalanced >= BALANCE {
                self.balance(&mut unbalanced);
            }
        }
        self.balance(&mut unbalanced);
        Ok(done)
    }

    fn balance(&self, pages: &mut u64) {
        if *pages > 0 && !self.is_memory() {
            writeback::balance_dirty_pages(self, *pages);
        }
        *pages = 0;
    }

    /// Has the file system prepare a chunk that begins at `index`, if that is not prepared. When there is
    /// no room for all of it, the first page alone is asked for.
    fn prepare_from(&self, index: u64, last: u64, prepared: &mut Range<u64>) -> Result<()> {
        if self.is_memory() || prepared.contains(&index) {
            return Ok(());
        }
        let chunk = index..last.min(index + PREPARE).max(index + 1);
        if self.prepare(chunk.clone(), WriteWhy::Write).is_err() {
            self.prepare(index..index + 1, WriteWhy::Write)?;
            *prepared = index..index + 1;
            return Ok(());
        }
        *prepared = chunk;
        Ok(())
    }

    /// Makes the file at least `end` bytes long. Before the page is dirty: write-back takes a page beyond
    /// the end for a truncated one.
    fn grow(&self, end: u64) {
        self.shared.size.fetch_max(end, Ordering::AcqRel);
    }

    /// Before the file grows to `start` or beyond: what a program stored behind the end through a mapping
    /// is no part of the file.
    pub(super) fn clear_tail(&self, start: u64) {
        let size = self.size();
        if start <= size || size.is_multiple_of(PAGE) {
            return;
        }
        if let Some(folio) = self.find_held(size >> PAGE_SHIFT) {
            wait_unlocked(&folio);
            clear_part(&folio, (size % PAGE) as usize..PAGE as usize);
            if self.is_memory() {
                folio.set_dirty();
            }
        }
    }

    fn write_part(
        &self,
        index: u64,
        offset: usize,
        len: usize,
        source: impl FnOnce(&Folio) -> Result<usize>,
    ) -> Result<usize> {
        let folio = match self.find_any(index) {
            Some(folio) if folio.uptodate() => folio,
            None if self.needs_no_read(index, len) => return self.write_new(index, offset, len, source),
            _ => self.fill(index)?.0,
        };
        if self.stable {
            wait_written(&folio);
        }
        let given = source(&folio)?.min(len);
        self.touch(&folio);
        if given > 0 {
            self.grow((index << PAGE_SHIFT) + (offset + given) as u64);
            self.mark_dirty(index, &folio);
        }
        Ok(given)
    }

    /// Whether the old bytes of an absent page are known: zero, or overwritten all.
    fn needs_no_read(&self, index: u64, len: usize) -> bool {
        if self.is_memory() {
            return self.is_hole(index);
        }
        len == PAGE as usize || index >= pages_of(self.size())
    }

    /// Writes a page that is not cached: the folio is filled first and put into the tree then, so that
    /// nobody sees it half done and a whole page need not be zeroed before it is overwritten.
    fn write_new(
        &self,
        index: u64,
        offset: usize,
        len: usize,
        source: impl FnOnce(&Folio) -> Result<usize>,
    ) -> Result<usize> {
        let whole = len == PAGE as usize;
        self.ops.charge(1)?;
        let zero = if whole { AllocFlags::empty() } else { AllocFlags::ZERO };
        let folio = Folio::alloc(0, AllocFlags::USER | zero).inspect_err(|_| self.ops.uncharge(1))?;
        let given = source(&folio).map(|given| given.min(len)).inspect_err(|_| self.ops.uncharge(1))?;
        if whole {
            clear_part(&folio, offset + given..PAGE as usize);
        }
        if given == 0 || (whole && given < len && !self.is_memory() && index < pages_of(self.size())) {
            // The rest of a backed page is not known to be zero: nothing was written.
            self.ops.uncharge(1);
            return if given == 0 { Ok(0) } else { Err(Errno::EFAULT) };
        }
        self.insert_written(index, folio, offset..offset + given).map(|()| given)
    }

    /// Puts a written folio into the tree, dirty; when another is there meanwhile, its bytes go there.
    fn insert_written(&self, index: u64, folio: Folio, bytes: Range<usize>) -> Result<()> {
        let end = (index << PAGE_SHIFT) + bytes.end as u64;
        folio.set_dirty();
        folio.set_uptodate();
        let mut pages = self.pages.lock();
        let inserted = pages.insert(index, folio.clone());
        if inserted == Ok(true) {
            self.grow(end);
            if !self.is_memory() {
                pages.set_tag(index, Tag::Dirty, true);
            }
        }
        drop(pages);
        if inserted == Ok(true) {
            self.came(index, &folio, false);
            if !self.is_memory() {
                stats::add_dirty(1);
                self.enlist();
            }
            return Ok(());
        }
        self.ops.uncharge(1);
        inserted?;
        let other = self.fill(index)?.0;
        copy_part(&folio, &other, bytes);
        self.grow(end);
        self.mark_dirty(index, &other);
        Ok(())
    }

    /// Writes from a kernel buffer, as [`Mapping::write`] does.
    pub fn write_bytes(&self, pos: u64, bytes: &[u8]) -> Result<usize> {
        let mut done = 0;
        self.write(pos, bytes.len(), |folio, offset, len| {
            folio.write(offset, &bytes[done..done + len]);
            done += len;
            Ok(len)
        })
    }
}

fn copy_part(from: &Folio, to: &Folio, bytes: Range<usize>) {
    let mut buffer = [0; 256];
    let mut at = bytes.start;
    while at < bytes.end {
        let part = (bytes.end - at).min(buffer.len());
        from.read(at, &mut buffer[..part]);
        to.write(at, &buffer[..part]);
        at += part;
    }
}
