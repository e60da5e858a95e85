//! Pages of regular files: from the page cache to blocks and back.
//!
//! A page is one block or several (of 1 or 2 KiB). Reading maps each stretch of blocks once and submits one bio for what
//! is consecutive on the device; holes and unwritten blocks are zeroes. Writing lets lib/ext4 choose places first
//! and waits for the device under its handle: the transaction that makes the data part of the file cannot commit
//! before it is there.

use crate::inode::ExtNode;
use crate::instance::{ExtInode, Instance, NodeRef};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{Batch, Bio, BioFlags, EndBio, Op, Plug, SECTOR_SHIFT};
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use ext4_core::{Piece, Place};
use sync::SpinLock;
use sync::levels::BlockPool;
use vfs::Inode;
use vm::{BackingDevice, FolioRead, FolioWrite, MappingOps, ReadRun, WritePass, WriteRun, WriteWhy};

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

/// Reads that several bios bring in: the last one finishes the pages.
struct Reading {
    pages: SpinLock<Vec<FolioRead>, BlockPool>,
    left: AtomicU32,
    failed: AtomicU32,
}

impl Reading {
    /// One part is done.
    fn part_done(&self, result: Result<()>) {
        if let Err(error) = result {
            self.failed.store(error.number() as u32, Ordering::Relaxed);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let pages = core::mem::take(&mut *self.pages.lock());
            let failed = Errno::from_number(self.failed.load(Ordering::Relaxed) as i32);
            pages.into_iter().for_each(|page| page.finish(failed.map_or(Ok(()), Err)));
        }
    }
}

impl EndBio for Reading {
    fn ended(&self, bio: Box<Bio>) {
        let result = bio.result();
        drop(bio);
        self.part_done(result);
    }
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

    /// Bios for the blocks of a run that are on the device; the rest becomes zero here.
    fn read_parts(&self, run: &ReadRun, plug: &mut Vec<Box<Bio>>) -> Result<()> {
        let (bits, per_page) = (self.block_bits(), 1u32 << (PAGE_SHIFT - self.block_bits()));
        let pages = run.index()..run.index() + run.len() as u64;
        let Some((first, count)) = self.blocks(&pages) else {
            run.folios().iter().for_each(|page| page.folio().zero());
            return Ok(());
        };
        let mut at = 0;
        while at < count {
            let found = self.instance.fs.map(&self.node, first + at, count - at)?;
            let mut bio = match found.place {
                Place::At(block) => Some(Bio::new(Op::Read, self.sector(block))?),
                Place::Hole | Place::Unwritten(_) => None,
            };
            let end = at + found.len.clamp(1, count - at);
            while at < end {
                let page = &run.folios()[(at / per_page) as usize];
                let here = (end - at).min(per_page - at % per_page);
                let (offset, len) = (((at % per_page) as usize) << bits, (here as usize) << bits);
                match &mut bio {
                    Some(bio) => bio.push(page.folio(), offset, len)?,
                    None => page.folio().fill(offset, len, 0),
                }
                at += here;
            }
            if let Some(bio) = bio {
                plug.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                plug.push(bio);
            }
        }
        Ok(())
    }

    /// Gives a run of dirty pages a place and writes it; the pages are finished whatever happens.
    fn write_pages(&self, run: WriteRun) {
        let pages: Vec<FolioWrite> = run.into_iter().collect();
        let valid = pages.iter().take_while(|page| page.valid_len() > 0).count();
        let written = if valid == 0 { Ok(()) } else { self.write_blocks(&pages[..valid]) };
        pages.into_iter().for_each(|page| page.finish(written));
    }

    fn write_blocks(&self, pages: &[FolioWrite]) -> Result<()> {
        let (first_page, last) = (pages[0].index(), &pages[pages.len() - 1]);
        let bits = self.block_bits();
        let bytes = (last.index() << PAGE_SHIFT) + last.valid_len() as u64;
        let first = u32::try_from(first_page << (PAGE_SHIFT - bits)).map_err(|_| Errno::EFBIG)?;
        let end = u32::try_from(bytes.div_ceil(1 << bits)).map_err(|_| Errno::EFBIG)?;
        if end <= first {
            return Ok(());
        }
        let size = || self.inode.upgrade().and_then(|inode| inode.ops.mapping_if_used().map(|m| m.size()));
        let size = || size().unwrap_or(0);
        self.instance.fs.write_back(&self.node, first, end - first, &size, &mut |pieces| {
            self.write_pieces(pages, first, pieces)
        })
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
        let mut bios = Vec::new();
        if let Err(error) = self.read_parts(&run, &mut bios) {
            return run.finish(Err(error));
        }
        let reading = Arc::new(Reading {
            pages: SpinLock::new(run.into_iter().collect()),
            left: AtomicU32::new(bios.len() as u32 + 1),
            failed: AtomicU32::new(0),
        });
        let mut plug = Plug::new();
        for mut bio in bios {
            bio.set_end(reading.clone());
            plug.submit(self.instance.device(), bio);
        }
        drop(plug);
        reading.part_done(Ok(()));
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
        self.write_pages(run);
    }

    fn write_pass(&self, pass: &mut WritePass<'_>) -> Result<()> {
        while let Some(run) = pass.next_run(WRITE_PAGES) {
            self.write_pages(run);
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
