//! Pages of regular files, and how long they are believed.
//!
//! What is cached is the server's file of one moment, named by version, time and length. When the server tells of
//! another one (at open and stat) and nothing of ours is on its way there, the pages go. Our own writes change the
//! server's file, too: they are counted, and an answer that may be older than one of them decides nothing.

use crate::client::Stat;
use crate::inode::Node;
use crate::io::OpenFid;
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use net9p::Piece;
use sync::levels::P9;
use sync::{Once, SpinLock};
use task::WaitMode;
use vfs::{Inode, InodeRef};
use vm::{BackingDevice, CacheKind, FolioWrite, Mapping, MappingOps, ReadRun, WriteRun, WriteWhy};

const PAGE_SHIFT: u32 = arch::PAGE_SHIFT as u32;

/// A moment of the server's file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    version: u32,
    mtime: i64,
    size: u64,
}

impl Version {
    fn of(stat: &Stat) -> Version {
        Version { version: stat.qid.version, mtime: stat.mtime, size: stat.size }
    }
}

/// Open files of the server's for the pages.
#[derive(Default)]
struct Open {
    files: u32,
    read: Option<Arc<OpenFid>>,
    write: Option<Arc<OpenFid>>,
}

/// The contents of a regular file.
pub(crate) struct FileData {
    mapping: Once<Arc<Mapping>>,
    open: SpinLock<Open, P9>,
    cached: SpinLock<Version, P9>,
    /// Raised before and after each write to the server.
    writes: AtomicU64,
}

impl FileData {
    pub fn new(stat: &Stat) -> FileData {
        FileData {
            mapping: Once::new(),
            open: SpinLock::new(Open::default()),
            cached: SpinLock::new(Version::of(stat)),
            writes: AtomicU64::new(0),
        }
    }

    pub fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.get()
    }

    pub fn mapping_or_make(&self, size: u64, ops: impl FnOnce() -> Data) -> Arc<Mapping> {
        if self.mapping.get().is_none() {
            // Two may both make one; the first that is set stays.
            let _ = self.mapping.set(Mapping::new(CacheKind::Backed, size, Arc::new(ops())));
        }
        self.mapping.get_expect().clone()
    }

    /// To be read before the server is asked, for [`FileData::follow`].
    pub fn writes(&self) -> u64 {
        self.writes.load(SeqCst)
    }

    pub fn count_write(&self) {
        self.writes.fetch_add(1, SeqCst);
    }

    /// The server's file is at `stat`: pages of another moment go, unless ours are newer. May sleep.
    pub fn follow(&self, inode: &InodeRef, stat: &Stat, written: u64) {
        let Some(mapping) = self.mapping() else { return };
        let new = Version::of(stat);
        if *self.cached.lock() == new && mapping.size() == stat.size {
            return;
        }
        let _contents = inode.contents.write_nested();
        if mapping.is_dirty() || self.writes() != written {
            return;
        }
        // A page that cannot go is in use at this moment; the next to ask finds it.
        if mapping.invalidate_range(0, u64::MAX).is_err() || mapping.is_dirty() || self.writes() != written {
            return;
        }
        mapping.truncate(stat.size);
        inode.set_size(stat.size);
        *self.cached.lock() = new;
    }

    /// After our own writes: the cache is what the server has.
    pub fn settle(&self, stat: &Stat, written: u64) {
        if self.writes() == written && self.mapping().is_some_and(|mapping| !mapping.is_dirty()) {
            *self.cached.lock() = Version::of(stat);
        }
    }

    /// A file was opened; pages may come and go by way of it.
    pub fn opened(&self, file: &Arc<OpenFid>, reads: bool, writes: bool) {
        let mut open = self.open.lock();
        open.files += 1;
        if reads {
            open.read.get_or_insert_with(|| file.clone());
        }
        if writes {
            open.write.get_or_insert_with(|| file.clone());
        }
    }

    /// It was closed. With the last one the server's files are closed, too.
    pub fn closed(&self) {
        let mut open = self.open.lock();
        open.files -= 1;
        let last = if open.files == 0 { core::mem::take(&mut *open) } else { Open::default() };
        drop(open);
        drop(last);
    }

    fn reader(&self) -> Result<Arc<OpenFid>> {
        self.open.lock().read.clone().ok_or(Errno::EBADF)
    }

    fn writer(&self) -> Result<Arc<OpenFid>> {
        self.open.lock().write.clone().ok_or(Errno::EBADF)
    }

    /// Whether pages can be read and written back.
    pub fn can_write(&self) -> bool {
        let open = self.open.lock();
        open.read.is_some() && open.write.is_some()
    }
}

/// The page cache's way to the server.
pub(crate) struct Data(pub Weak<Inode<Node>>);

impl Data {
    fn inode(&self) -> Result<Arc<Inode<Node>>> {
        self.0.upgrade().ok_or(Errno::EIO)
    }

    fn read_pages(&self, run: &ReadRun) -> Result<()> {
        let file = self.inode()?.ops.data.reader()?;
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(run.len()).map_err(|_| Errno::ENOMEM)?;
        let whole = |folio: &mem::Folio| Piece { folio: folio.clone(), offset: 0, len: arch::PAGE_SIZE };
        pieces.extend(run.folios().iter().map(|page| whole(page.folio())));
        let got = file.read(run.index() << PAGE_SHIFT, &pieces, WaitMode::Killable)?;
        for (number, page) in run.folios().iter().enumerate() {
            let here = got.saturating_sub(number << PAGE_SHIFT).min(arch::PAGE_SIZE);
            page.folio().fill(here, arch::PAGE_SIZE - here, 0);
        }
        Ok(())
    }

    fn write_pages(&self, pages: &[FolioWrite]) -> Result<()> {
        let inode = self.inode()?;
        let file = inode.ops.data.writer()?;
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(pages.len()).map_err(|_| Errno::ENOMEM)?;
        let mut total = 0;
        for page in pages {
            let len = page.valid_len();
            if len == 0 {
                break;
            }
            pieces.push(Piece { folio: page.folio().clone(), offset: 0, len });
            total += len;
        }
        if pieces.is_empty() {
            return Ok(());
        }
        inode.ops.data.count_write();
        // Nobody's signal may cost another's data.
        let written = file.write(pages[0].index() << PAGE_SHIFT, &pieces, WaitMode::Uninterruptible);
        inode.ops.data.count_write();
        match written {
            Ok(written) if written == total => Ok(()),
            Ok(_) => Err(Errno::EIO),
            Err(error) => Err(error),
        }
    }
}

impl MappingOps for Data {
    fn read_run(&self, run: ReadRun) {
        let result = self.read_pages(&run);
        run.finish(result);
    }

    fn prepare_write(&self, _pages: Range<u64>, _why: WriteWhy) -> Result<()> {
        let can_write = self.inode()?.ops.data.can_write();
        if can_write { Ok(()) } else { Err(Errno::EBADF) }
    }

    fn write_run(&self, run: WriteRun) {
        let pages: Vec<FolioWrite> = run.into_iter().collect();
        let result = self.write_pages(&pages);
        pages.into_iter().for_each(|page| page.finish(result));
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        Some(self.0.upgrade()?.ops.instance.flusher.clone())
    }

    fn pin(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let inode: Arc<Inode<Node>> = self.0.upgrade()?;
        Some(inode)
    }

    fn written_by_mapping(&self) {
        if let Some(inode) = self.0.upgrade() {
            inode.touch_modified();
        }
    }
}
