//! The thread that compresses and expands.

use crate::device::{Job, Zram};
use crate::store::{Content, Found, PAGE, is_huge, same_word};
use abi::{Errno, errno::Result};
use alloc::sync::Weak;
use alloc::vec::Vec;
use block::{Op, Segment};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use task::WaitMode;

/// What the thread works with, all made at the start.
pub(crate) struct Buffers {
    page: Vec<u8>,
    packed: Vec<u8>,
    table: CompressTable,
}

impl Buffers {
    pub fn new() -> Result<Buffers> {
        let buffer = |len: usize| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
            bytes.resize(len, 0);
            Ok(bytes)
        };
        let (page, packed) = (buffer(PAGE)?, buffer(get_maximum_output_size(PAGE))?);
        Ok(Buffers { page, packed, table: CompressTable::small() })
    }
}

/// Runs as long as the device is there.
pub(crate) fn run(device: &Weak<Zram>, mut buffers: Buffers) {
    // The thread's own list of pieces, which changes places with a job's.
    let mut segments = Vec::new();
    while let Some(device) = device.upgrade() {
        let next = || take(&device, &mut segments);
        let (tag, op, first, count) = match device.work.wait_until(WaitMode::Idle, None, next) {
            Ok(Some(next)) => next,
            Ok(None) => return,
            Err(_) => continue,
        };
        let mut cursor = Cursor { segments: &segments, segment: 0, offset: 0 };
        let result = serve(&device, op, first..first + count, &mut cursor, &mut buffers);
        if result.is_err() {
            device.store.lock().count_failure(op != Op::Read);
        }
        // The folios go before somebody is told.
        segments.clear();
        if let Some(disk) = device.disk() {
            disk.complete(0, tag, result);
        }
    }
}

/// The next request; its pieces change places with the empty list. `Some(None)`: there will be none.
fn take(device: &Zram, segments: &mut Vec<Segment>) -> Option<Option<(u16, Op, u64, u64)>> {
    let mut jobs = device.jobs.lock();
    let Some(tag) = jobs.waiting.pop_front() else { return device.is_gone().then_some(None) };
    let Job { op, first, count, segments: of } = jobs.by_tag.get_mut(usize::from(tag))?;
    if segments.capacity() < of.capacity() {
        // The first time: the thread has no list yet. Later ones are as large as the jobs'.
        segments.reserve_exact(of.capacity());
    }
    core::mem::swap(segments, of);
    Some(Some((tag, *op, *first, *count)))
}

/// Goes through the memory of a request in order.
struct Cursor<'a> {
    segments: &'a [Segment],
    segment: usize,
    offset: usize,
}

impl Cursor<'_> {
    /// Calls `each(piece of memory, its offset, where in the page, len)` for the next page's bytes.
    fn page(&mut self, mut each: impl FnMut(&Segment, usize, usize, usize)) {
        let mut done = 0;
        while done < PAGE
            && let Some(segment) = self.segments.get(self.segment)
        {
            let part = (segment.len as usize - self.offset).min(PAGE - done);
            each(segment, segment.offset as usize + self.offset, done, part);
            done += part;
            self.offset += part;
            if self.offset == segment.len as usize {
                (self.segment, self.offset) = (self.segment + 1, 0);
            }
        }
    }
}

fn serve(
    device: &Zram,
    op: Op,
    pages: core::ops::Range<u64>,
    memory: &mut Cursor<'_>,
    buffers: &mut Buffers,
) -> Result<()> {
    match op {
        Op::Read => {
            for index in pages {
                read_page(device, index, buffers)?;
                let page = &buffers.page;
                memory.page(|segment, offset, at, len| segment.folio.write(offset, &page[at..at + len]));
            }
            Ok(())
        }
        Op::Write => {
            for index in pages {
                let page = &mut buffers.page;
                memory.page(|segment, offset, at, len| segment.folio.read(offset, &mut page[at..at + len]));
                write_page(device, index, buffers)?;
            }
            Ok(())
        }
        Op::Discard | Op::WriteZeroes => {
            pages.for_each(|index| with_store(device, |store| store.forget(index)));
            Ok(())
        }
        // What is written is there.
        Op::Flush => Ok(()),
    }
}

/// Runs an action under the lock and counts the pages that the pool took or gave.
fn with_store<R>(device: &Zram, action: impl FnOnce(&mut crate::store::Store) -> R) -> R {
    let mut store = device.store.lock();
    let before = store.memory().0;
    let result = action(&mut store);
    vm::stats::add_zspages(store.memory().0 as i64 - before as i64);
    result
}

fn read_page(device: &Zram, index: u64, buffers: &mut Buffers) -> Result<()> {
    let Buffers { page, packed, .. } = buffers;
    let found = device.store.lock().load(index, &mut packed[..PAGE]);
    match found {
        Found::Same(word) => page.chunks_exact_mut(8).for_each(|to| to.copy_from_slice(&word.to_ne_bytes())),
        Found::Plain => page.copy_from_slice(&packed[..PAGE]),
        Found::Compressed(len) => {
            let expanded = decompress_into(&packed[..len], page).map_err(|_| Errno::EIO)?;
            if expanded != PAGE {
                return Err(Errno::EIO);
            }
        }
    }
    Ok(())
}

fn write_page(device: &Zram, index: u64, buffers: &mut Buffers) -> Result<()> {
    let Buffers { page, packed, table } = buffers;
    let content = match same_word(page) {
        Some(word) => Content::Same(word),
        None => {
            let len = compress_into_with_table(page, packed, table).map_err(|_| Errno::EIO)?;
            if is_huge(len) { Content::Plain(page) } else { Content::Compressed(&packed[..len]) }
        }
    };
    with_store(device, |store| store.store(index, &content))
}
