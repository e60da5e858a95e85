//! Pages of regular files: from the page cache to blocks and back.
//!
//! A page is one block or several (of 1 or 2 KiB). Reading maps each stretch of blocks once and submits one bio for what
//! is consecutive on the device; holes and unwritten blocks are zeroes. Where blocks have a place, writing submits and
//! goes on. For others it lets lib/ext4 choose places first and waits for the device under its handle: the transaction that
//! makes the data part of the file cannot commit before it is there.

use crate::inode::ExtNode;
use crate::instance::{ExtInode, Instance, NodeRef};
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{Batch, Bio, BioFlags, Op, Piece as Stretch, Plug, SECTOR_SHIFT};
use core::any::Any;
use core::ops::Range;
use ext4_core::{Piece, Place};
use vfs::Inode;
use vm::{BackingDevice, FolioWrite, MappingOps, ReadRun, WritePass, WriteRun, WriteWhy};

pub(crate) const PAGE: u64 = arch::PAGE_SIZE as u64;
const PAGE_SHIFT: u32 = arch::PAGE_SHIFT as u32;
/// Pages that are given a place and written at once.
const WRITE_PAGES: usize = 1024;

/// A regular file's way to the device.
pub(crate) struct DataOps {
    instance: Arc<Instance>,
    node: NodeRef,
    inode: Weak<Inode<ExtNode>>,
}

impl DataOps {
    pub fn new(instance: &Arc<Instance>, node: &NodeRef, inode: &vfs::InodeRef) -> DataOps {
        let _ = inode;
        DataOps { instance: instance.clone(), node: node.clone(), inode: instance.weak(node.ino) }
    }

    fn block_bits(&self) -> u32 {
        self.instance.fs.geo.block_bits
    }

    /// Blocks of a range of pages; `None` beyond what a file can have.
    fn blocks(&self, pages: &Range<u64>) -> Option<(u32, u32)> {
        let shift = PAGE_SHIFT - self.block_bits();
        let first = u32::try_from(pages.start << shift).ok()?;
        let end = u32::try_from(pages.end << shift).ok()?;
        Some((first, end - first))
    }

    fn sector(&self, block: u64) -> u64 {
        block << (self.block_bits() - SECTOR_SHIFT)
    }

    /// Where a stretch of the file is that begins and ends with blocks.
    fn piece(&self, at: u64, len: u64) -> Result<Stretch> {
        let bits = self.block_bits();
        // Nothing lies beyond what a file can have.
        let Ok(first) = u32::try_from(at >> bits) else { return Ok(Stretch { place: None, len }) };
        let count = u32::try_from(len >> bits).unwrap_or(u32::MAX).min(u32::MAX - first);
        let found = self.instance.fs.map(&self.node, first, count)?;
        let block = match found.place {
            Place::At(block) => Some(block),
            Place::Hole | Place::Unwritten(_) => None,
        };
        Ok(self.stretch(block, found.len.max(1)))
    }

    /// So many blocks from one of the device's on, or nowhere.
    fn stretch(&self, block: Option<u64>, count: u32) -> Stretch {
        let bits = self.block_bits();
        Stretch { place: block.map(|block| block << bits), len: u64::from(count) << bits }
    }

    /// Writes a run of dirty pages. Those that have a place are on their way when this returns, or in the plug; for others
    /// it waits. The pages are finished whatever happens.
    fn write_pages(&self, run: WriteRun, plug: &mut Plug) {
        let bits = self.block_bits();
        let end = run.valid_end(1 << bits);
        let (Ok(first), Ok(last)) =
            (u32::try_from(run.index() << (PAGE_SHIFT - bits)), u32::try_from(end >> bits))
        else {
            return run.finish(Err(Errno::EFBIG));
        };
        if let Ok(Some(pieces)) = self.instance.fs.places(&self.node, first, last - first, self.size()) {
            let mut left = pieces.iter();
            return block::write_pages(plug, self.instance.device(), run, end, &mut |_, _| {
                let piece = left.next().ok_or(Errno::EIO)?;
                Ok(self.stretch(Some(piece.pblk), piece.len))
            });
        }
        // Nobody waits for what the plug holds back while this waits.
        plug.finish();
        let pages: Vec<FolioWrite> = run.into_iter().collect();
        let written = self.write_blocks(&pages, first, last - first);
        pages.into_iter().for_each(|page| page.finish(written));
    }

    /// Lets the blocks of consecutive pages have a place, writes them there, and waits.
    fn write_blocks(&self, pages: &[FolioWrite], first: u32, count: u32) -> Result<()> {
        self.instance.fs.write_back(&self.node, first, count, &|| self.size(), &mut |pieces| {
            self.write_pieces(pages, first, pieces)
        })
    }

    /// The file's length now; 0 when it is gone.
    fn size(&self) -> u64 {
        let inode = self.inode.upgrade();
        inode.and_then(|inode| inode.ops.mapping_if_used().map(|mapping| mapping.size())).unwrap_or(0)
    }

    /// Writes data to its places and waits.
    fn write_pieces(&self, pages: &[FolioWrite], first: u32, pieces: &[Piece]) -> Result<()> {
        let (bits, per_page) = (self.block_bits(), 1u32 << (PAGE_SHIFT - self.block_bits()));
        let batch = Batch::new();
        let mut plug = Plug::new();
        let mut submit = |piece: &Piece| -> Result<()> {
            let mut bio = Bio::new(Op::Write, self.sector(piece.pblk))?;
            bio.flags |= BioFlags::SYNC;
            let (mut at, end) = (piece.lblk - first, piece.lblk - first + piece.len);
            while at < end {
                let page = &pages[(at / per_page) as usize];
                let here = (end - at).min(per_page - at % per_page);
                bio.push(page.folio(), ((at % per_page) as usize) << bits, (here as usize) << bits)?;
                at += here;
            }
            batch.submit(&mut plug, self.instance.device(), bio);
            Ok(())
        };
        let submitted = pieces.iter().try_for_each(&mut submit);
        drop(plug);
        batch.wait().and(submitted)
    }
}

impl MappingOps for DataOps {
    fn read_run(&self, run: ReadRun) {
        block::read_pages(self.instance.device(), run, &mut |at, len| self.piece(at, len));
    }

    fn prepare_write(&self, pages: Range<u64>, _why: WriteWhy) -> Result<()> {
        if self.instance.fs.is_read_only() {
            return Err(Errno::EROFS);
        }
        let Some((first, count)) = self.blocks(&pages) else { return Err(Errno::EFBIG) };
        match self.instance.fs.reserve(&self.node, first, count, false) {
            Err(Errno::ENOSPC) => {
                // What deleted files still hold counts.
                self.instance.settle_all();
                self.instance.fs.reserve(&self.node, first, count, false)
            }
            result => result,
        }
    }

    fn write_run(&self, run: WriteRun) {
        self.write_pages(run, &mut Plug::new());
    }

    fn write_pass(&self, pass: &mut WritePass<'_>) -> Result<()> {
        let mut plug = Plug::new();
        while let Some(run) = pass.next_run(WRITE_PAGES) {
            self.write_pages(run, &mut plug);
        }
        Ok(())
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        self.instance.device().backing()
    }

    fn moves_blocks(&self) -> bool {
        true
    }

    fn read_ahead_pages(&self) -> u32 {
        self.instance.device().disk().read_ahead_pages()
    }

    fn pin(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let inode: ExtInode = self.inode.upgrade()?;
        Some(inode)
    }

    fn written_by_mapping(&self) {
        if let Some(inode) = self.inode.upgrade() {
            inode.touch_modified();
        }
    }
}
