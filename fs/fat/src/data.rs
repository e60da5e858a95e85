//! Pages of regular files: between the page cache and the clusters' places.

use crate::inode::FatNode;
use crate::instance::{FatInode, Instance};
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use block::Piece;
use core::any::Any;
use core::ops::Range;
use vfs::Inode;
use vm::{BackingDevice, MappingOps, ReadRun, WritePass, WriteRun, WriteWhy};

/// Pages that are written at once.
const WRITE_PAGES: usize = 256;

/// A regular file's way to the device.
pub(crate) struct DataOps {
    pub instance: Arc<Instance>,
    pub ino: u64,
    pub inode: Weak<Inode<FatNode>>,
}

impl DataOps {
    /// Where a stretch of the file is.
    fn piece(&self, at: u64, len: u64) -> Result<Piece> {
        let bits = self.instance.cluster_bits;
        let inside = at & ((1 << bits) - 1);
        let want = u32::try_from((inside + len).div_ceil(1 << bits)).unwrap_or(u32::MAX);
        // Nothing lies beyond what a file can have.
        let Ok(number) = u32::try_from(at >> bits) else { return Ok(Piece { place: None, len }) };
        let found = self.instance.with(|fs| fs.map(self.ino, number, want))?;
        Ok(match found {
            Some((place, count)) => {
                Piece { place: Some(place + inside), len: (u64::from(count) << bits) - inside }
            }
            None => Piece { place: None, len },
        })
    }
}

impl MappingOps for DataOps {
    fn read_run(&self, run: ReadRun) {
        block::read_pages(&self.instance.device, run, &mut |at, len| self.piece(at, len));
    }

    fn prepare_write(&self, _pages: Range<u64>, _why: WriteWhy) -> Result<()> {
        // The clusters are there: a file has no holes, and one that grows gets them first.
        let sb = self.inode.upgrade().map(|inode| inode.sb.clone());
        if sb.is_none_or(|sb| sb.is_read_only()) { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn write_run(&self, run: WriteRun) {
        let (plug, device) = (&mut block::Plug::new(), &self.instance.device);
        let end = run.valid_end(block::SECTOR);
        block::write_pages(plug, device, run, end, &mut |at, len| self.piece(at, len));
    }

    fn write_pass(&self, pass: &mut WritePass<'_>) -> Result<()> {
        while let Some(run) = pass.next_run(WRITE_PAGES) {
            self.write_run(run);
        }
        // What a store through a mapping changed: the flusher comes after it.
        match self.inode.upgrade() {
            Some(inode) => inode.ops.write_times(&inode),
            None => Ok(()),
        }
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        self.instance.device.backing()
    }

    fn read_ahead_pages(&self) -> u32 {
        self.instance.device.disk().read_ahead_pages()
    }

    fn pin(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let inode: FatInode = self.inode.upgrade()?;
        Some(inode)
    }

    fn written_by_mapping(&self) {
        if let Some(inode) = self.inode.upgrade() {
            inode.touch_modified();
        }
    }
}
