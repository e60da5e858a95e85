//! O_DIRECT: between a program's memory and the blocks of a file, without the page cache.
//!
//! Offset, length and the program's addresses are whole logical blocks of the disk (EINVAL, as on Linux). What the cache
//! has of the same place is written before, and is dropped around a write: whoever reads through the cache
//! afterwards sees what the disk has. A write that covers blocks of the file system only in part goes through the cache
//! and is written out at once.
//!
//! The data pass through pages of the kernel's own ([`block::bounce`]): a page of a program may be copied by fork or
//! unmapped while the device works on it, and nothing here could hold it still.

use crate::file::RegularFile;
use crate::inode::{ExtNode, ext};
use abi::fcntl::FS_IMMUTABLE_FL;
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use block::{Batch, Bio, BioFlags, Op, Plug, SECTOR_SHIFT, bounce};
use ext4_core::{Piece, Place};
use mem::Folio;
use vfs::{File, IoBuf, attr, cached};

/// Bytes that are under way at once.
const WINDOW: usize = 1 << 20;

/// Pages that data passes through: each with the bytes of it that are used.
type Pages = Vec<(Folio, usize)>;

fn check(node: &ExtNode, pos: u64, buf: &IoBuf) -> Result<()> {
    let block = node.instance.device().logical_block() as usize;
    let aligned = pos.is_multiple_of(block as u64) && buf.is_aligned(block);
    if aligned { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Adds `len` bytes from byte `from` of the pages on to a bio.
fn push(bio: &mut Bio, pages: &Pages, from: usize, len: usize) -> Result<()> {
    let (mut start, end) = (0, from + len);
    for (folio, used) in pages {
        let (first, last) = (from.max(start), end.min(start + used));
        if first < last {
            bio.push(folio, first - start, last - first)?;
        }
        start += used;
    }
    Ok(())
}

/// Zeroes `len` bytes from byte `from` of the pages on.
fn clear(pages: &Pages, from: usize, len: usize) {
    let (mut start, end) = (0, from + len);
    for (folio, used) in pages {
        let (first, last) = (from.max(start), end.min(start + used));
        if first < last {
            folio.fill(first - start, last - first, 0);
        }
        start += used;
    }
}

impl RegularFile {
    /// Reads at `*pos` and moves it.
    pub(crate) fn read_direct(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let node = ext(file.inode())?;
        check(node, *pos, buf)?;
        let _contents = file.inode().contents.read();
        let mut done = 0;
        while buf.remaining() > 0 {
            let left = usize::try_from(self.mapping.size().saturating_sub(*pos)).unwrap_or(usize::MAX);
            let len = buf.remaining().min(WINDOW).min(left);
            if len == 0 {
                break;
            }
            match self.read_window(node, *pos, len, buf) {
                Ok(moved) => {
                    *pos += moved as u64;
                    done += moved;
                    if moved < len {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        file.inode().accessed(file);
        Ok(done)
    }

    fn read_window(&self, node: &ExtNode, pos: u64, len: usize, buf: &mut IoBuf) -> Result<usize> {
        self.mapping.flush_range(pos, pos + len as u64)?;
        // The file's last bytes come with the rest of their sector.
        let whole = len.next_multiple_of(node.instance.device().logical_block() as usize);
        let pages = bounce(whole)?;
        let batch = Batch::new();
        let mut plug = Plug::new();
        let made = read_bios(node, pos, whole, &pages);
        for bio in made? {
            batch.submit(&mut plug, node.instance.device(), bio);
        }
        drop(plug);
        batch.wait()?;
        let mut moved = 0;
        for (folio, used) in &pages {
            let part = (*used).min(len - moved);
            let taken = match buf.put_folio(folio, 0, part) {
                Ok(taken) => taken,
                Err(_) if moved > 0 => break,
                Err(error) => return Err(error),
            };
            moved += taken;
            if taken < part {
                break;
            }
        }
        Ok(moved)
    }

    /// Writes at `*pos`, or at the end for appending, and moves it.
    pub(crate) fn write_direct(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let inode = file.inode();
        let node = ext(inode)?;
        let _contents = inode.contents.write();
        let start = if buf.append { inode.size() } else { *pos };
        check(node, start, buf)?;
        let len = cached::bounded(inode, start, buf)?;
        if len == 0 {
            return Ok(0);
        }
        if inode.attributes() & FS_IMMUTABLE_FL != 0 {
            return Err(Errno::EPERM);
        }
        attr::drop_privileges(inode, None)?;
        let block = 1 << node.instance.fs.geo.block_bits;
        let mut at = start;
        if !start.is_multiple_of(block as u64) || !len.is_multiple_of(block) {
            buf.truncate(len);
            cached::write_locked(file, &self.mapping, &mut at, buf)?;
            self.mapping.flush_range(start, at)?;
            // A page that is mapped and in use stays, and is what the disk has.
            let _ = self.mapping.invalidate_range(start, at);
        } else {
            self.write_blocks(node, &mut at, len, buf)?;
            if at > self.mapping.size() {
                self.mapping.truncate(at);
                inode.set_size(at);
            }
        }
        inode.touch_modified();
        *pos = at;
        Ok((at - start) as usize)
    }

    /// Writes whole blocks at `*at` and moves it; an error after a part was written is forgotten.
    fn write_blocks(&self, node: &ExtNode, at: &mut u64, len: usize, buf: &mut IoBuf) -> Result<()> {
        let end = *at + len as u64;
        while *at < end {
            let part = usize::try_from(end - *at).unwrap_or(WINDOW).min(WINDOW);
            let start = end - len as u64;
            match self.write_window(node, *at, part, buf) {
                Ok(moved) => {
                    *at += moved as u64;
                    if moved < part {
                        break;
                    }
                }
                Err(_) if *at > start => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_window(&self, node: &ExtNode, pos: u64, len: usize, buf: &mut IoBuf) -> Result<usize> {
        let bits = node.instance.fs.geo.block_bits;
        let pages = bounce(len)?;
        let mut moved = 0;
        for (folio, used) in &pages {
            let taken = buf.take_folio(folio, 0, *used).unwrap_or(0);
            moved += taken;
            if taken < *used {
                break;
            }
        }
        // A fault in the middle: whole blocks before it are written.
        moved = moved >> bits << bits;
        if moved == 0 {
            return Err(Errno::EFAULT);
        }
        let end = pos + moved as u64;
        self.mapping.flush_range(pos, end)?;
        let _ = self.mapping.invalidate_range(pos, end);
        let first = u32::try_from(pos >> bits).map_err(|_| Errno::EFBIG)?;
        let count = (moved >> bits) as u32;
        let size = || self.mapping.size().max(end);
        let write = || {
            node.instance.fs.write_back(&node.node, first, count, &size, &mut |pieces| {
                write_pieces(node, first, pieces, &pages)
            })
        };
        match write() {
            Err(Errno::ENOSPC) => {
                // What deleted files still hold counts.
                node.instance.settle_all();
                write()?;
            }
            result => result?,
        }
        // What was read into the cache meanwhile is old.
        let _ = self.mapping.invalidate_range(pos, end);
        Ok(moved)
    }
}

/// Bios for what of the range is on the device; the rest becomes zero here.
fn read_bios(node: &ExtNode, pos: u64, len: usize, pages: &Pages) -> Result<Vec<Box<Bio>>> {
    let bits = node.instance.fs.geo.block_bits;
    let (mut at, end) = (pos, pos + len as u64);
    let last = u32::try_from(end.div_ceil(1 << bits)).map_err(|_| Errno::EFBIG)?;
    let mut bios = Vec::new();
    while at < end {
        let block = (at >> bits) as u32;
        let run = node.instance.fs.map(&node.node, block, last - block)?;
        let next = (u64::from(block + run.len.max(1)) << bits).min(end);
        let (from, bytes) = ((at - pos) as usize, (next - at) as usize);
        match run.place {
            Place::At(place) => {
                let inside = at & ((1 << bits) - 1);
                let sector = (place << bits | inside) >> SECTOR_SHIFT;
                let mut bio = Bio::new(Op::Read, sector)?;
                push(&mut bio, pages, from, bytes)?;
                bios.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                bios.push(bio);
            }
            Place::Hole | Place::Unwritten(_) => clear(pages, from, bytes),
        }
        at = next;
    }
    Ok(bios)
}

/// Writes data to its places and waits.
fn write_pieces(node: &ExtNode, first: u32, pieces: &[Piece], pages: &Pages) -> Result<()> {
    let bits = node.instance.fs.geo.block_bits;
    let batch = Batch::new();
    let mut plug = Plug::new();
    let submitted = pieces.iter().try_for_each(|piece| {
        let mut bio = Bio::new(Op::Write, piece.pblk << bits >> SECTOR_SHIFT)?;
        bio.flags |= BioFlags::SYNC;
        push(&mut bio, pages, ((piece.lblk - first) as usize) << bits, (piece.len as usize) << bits)?;
        batch.submit(&mut plug, node.instance.device(), bio);
        Ok(())
    });
    drop(plug);
    batch.wait().and(submitted)
}
