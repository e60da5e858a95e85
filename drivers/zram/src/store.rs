//! Where each page of a device is, and how much memory that takes.

use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use mem::{AllocFlags, Folio};
use zsmalloc::{Handle, Pool};

pub(crate) const PAGE: usize = arch::PAGE_SIZE;
/// Pages that compress to more than this are kept as they are: an object of that size would take a page anyway.
const HUGE: usize = PAGE * 3 / 4;
/// Slots are kept in chunks: a large table need not be one piece of memory.
const CHUNK: usize = 256;

/// A page of the pool.
pub(crate) struct PoolPage(Folio);

impl zsmalloc::Page for PoolPage {
    fn read(&self, offset: usize, to: &mut [u8]) {
        self.0.read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.write(offset, from);
    }
}

/// Where a page is.
#[derive(Clone, Copy)]
enum Slot {
    /// Never written, or forgotten: zeroes.
    Empty,
    /// This word, over and over.
    Same(u64),
    /// So many bytes of an object; a whole page of them is not compressed.
    Stored(Handle, u16),
}

/// The content of a page, made without a lock.
pub(crate) enum Content<'a> {
    Same(u64),
    Compressed(&'a [u8]),
    Plain(&'a [u8]),
}

/// What a page's bytes have to be made of.
pub(crate) enum Found {
    Same(u64),
    /// The first so many bytes of the buffer are the page, compressed.
    Compressed(usize),
    /// The buffer is the page.
    Plain,
}

/// The numbers of mm_stat and io_stat.
#[derive(Clone, Copy, Default)]
pub(crate) struct Numbers {
    /// Pages stored, same ones among them.
    pub pages: u64,
    /// Bytes of what is stored in the pool.
    pub compressed: u64,
    pub same: u64,
    /// Pages that did not compress, now and ever.
    pub huge: u64,
    pub huge_ever: u64,
    /// The most pages that the pool had.
    pub used_max: usize,
    pub failed_reads: u64,
    pub failed_writes: u64,
    pub notify_free: u64,
}

/// A device's table, pool and numbers; under one spin lock.
pub(crate) struct Store {
    table: Vec<Vec<Slot>>,
    pages: u64,
    pool: Pool<PoolPage>,
    /// Pages that the pool may have; 0: any number.
    limit: usize,
    numbers: Numbers,
}

impl Store {
    pub const fn new() -> Store {
        let numbers = Numbers {
            pages: 0,
            compressed: 0,
            same: 0,
            huge: 0,
            huge_ever: 0,
            used_max: 0,
            failed_reads: 0,
            failed_writes: 0,
            notify_free: 0,
        };
        Store { table: Vec::new(), pages: 0, pool: Pool::new(), limit: 0, numbers }
    }

    /// A store for so many pages. ENOMEM, at once for a table that takes most of what is free: each of its pieces is
    /// small enough to be waited for, until programs are killed for it.
    pub fn with_pages(pages: u64) -> Result<Store> {
        let chunks = usize::try_from(pages.div_ceil(CHUNK as u64)).map_err(|_| Errno::ENOMEM)?;
        let bytes = chunks.checked_mul(CHUNK * size_of::<Slot>()).ok_or(Errno::ENOMEM)?;
        if bytes / PAGE > mem::free_pages() / 2 {
            return Err(Errno::ENOMEM);
        }
        let mut table = Vec::new();
        table.try_reserve_exact(chunks).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..chunks {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK).map_err(|_| Errno::ENOMEM)?;
            chunk.resize(CHUNK, Slot::Empty);
            table.push(chunk);
        }
        Ok(Store { table, pages, ..Store::new() })
    }

    /// Pages of the device; 0: not set up.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    pub fn count_failure(&mut self, write: bool) {
        let count = if write { &mut self.numbers.failed_writes } else { &mut self.numbers.failed_reads };
        *count += 1;
    }

    /// Pages that the pool has, and may have.
    pub fn memory(&self) -> (usize, usize) {
        (self.pool.pages(), self.limit)
    }

    pub fn set_limit(&mut self, pages: usize) {
        self.limit = pages;
    }

    /// mem_used_max begins anew.
    pub fn reset_used_max(&mut self) {
        self.numbers.used_max = self.pool.pages();
    }

    fn slot(&mut self, index: u64) -> Option<&mut Slot> {
        let index = usize::try_from(index).ok()?;
        self.table.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// What page `index` is; its bytes come into `buffer`, of [`PAGE`] bytes.
    pub fn load(&mut self, index: u64, buffer: &mut [u8]) -> Found {
        match self.slot(index).copied() {
            None | Some(Slot::Empty) => Found::Same(0),
            Some(Slot::Same(word)) => Found::Same(word),
            Some(Slot::Stored(handle, len)) => {
                let len = usize::from(len);
                self.pool.load(handle, &mut buffer[..len]);
                if len == PAGE { Found::Plain } else { Found::Compressed(len) }
            }
        }
    }

    /// Replaces page `index`. EIO beyond the end; ENOMEM, at the limit, too: it is as it was.
    pub fn store(&mut self, index: u64, content: &Content<'_>) -> Result<()> {
        if index >= self.pages {
            return Err(Errno::EIO);
        }
        let slot = match content {
            Content::Same(word) => Slot::Same(*word),
            Content::Compressed(bytes) | Content::Plain(bytes) => {
                let limit = self.limit;
                let mut taken = self.pool.pages();
                // Nobody may be waited for here, and what swap needs comes from the reserve.
                let page = || {
                    if limit != 0 && taken >= limit {
                        return None;
                    }
                    taken += 1;
                    Folio::alloc(0, AllocFlags::ATOMIC).ok().map(PoolPage)
                };
                let handle = self.pool.store(bytes, page).map_err(|_| Errno::ENOMEM)?;
                Slot::Stored(handle, bytes.len() as u16)
            }
        };
        self.forget(index);
        self.numbers.pages += 1;
        match slot {
            Slot::Empty => {}
            Slot::Same(_) => self.numbers.same += 1,
            Slot::Stored(_, len) => {
                self.numbers.compressed += u64::from(len);
                self.numbers.huge += u64::from(usize::from(len) == PAGE);
                self.numbers.huge_ever += u64::from(usize::from(len) == PAGE);
            }
        }
        if let Some(place) = self.slot(index) {
            *place = slot;
        }
        self.numbers.used_max = self.numbers.used_max.max(self.pool.pages());
        Ok(())
    }

    /// Page `index` becomes zeroes, and takes no memory.
    pub fn forget(&mut self, index: u64) {
        let Some(place) = self.slot(index) else { return };
        match core::mem::replace(place, Slot::Empty) {
            Slot::Empty => return,
            Slot::Same(_) => self.numbers.same -= 1,
            Slot::Stored(handle, len) => {
                self.pool.free(handle);
                self.numbers.compressed -= u64::from(len);
                self.numbers.huge -= u64::from(usize::from(len) == PAGE);
            }
        }
        self.numbers.pages -= 1;
    }

    /// Swap does not need page `index` any more.
    pub fn slot_free(&mut self, index: u64) {
        self.forget(index);
        self.numbers.notify_free += 1;
    }
}

/// The word that fills a page, if one does.
pub(crate) fn same_word(page: &[u8]) -> Option<u64> {
    let first = page.first_chunk::<8>()?;
    // The last word first: most pages that begin with equal words do not end with them.
    let all = page.ends_with(first) && page.chunks_exact(8).all(|word| word == first);
    all.then(|| u64::from_ne_bytes(*first))
}

/// How a page that compressed to `len` bytes is kept.
pub(crate) fn is_huge(len: usize) -> bool {
    len > HUGE
}
