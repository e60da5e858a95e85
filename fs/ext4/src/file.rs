//! Open files and directories.

use crate::data::PAGE;
use crate::inode::{ExtNode, ext};
use abi::fcntl::{
    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE, O_DIRECT,
};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::any::Any;
use ext4_core::dir::block::mode_of_kind;
use ext4_core::{Place, dir};
use mem::Folio;
use vfs::{DirSink, Extent, File, FileOps, FileTraits, InodeRef, IoBuf, cached, emit_dots};
use vm::{ErrSeen, MapSource, Mapping};

const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// A regular file, opened: which write errors it knows of.
pub(crate) struct RegularFile {
    pub(crate) mapping: Arc<Mapping>,
    seen: ErrSeen,
}

impl RegularFile {
    pub fn new(mapping: &Arc<Mapping>) -> RegularFile {
        RegularFile { mapping: mapping.clone(), seen: mapping.errors().sample() }
    }

    /// The next byte at or after `pos` that is (not) in a hole.
    fn seek_extent(&self, node: &ExtNode, pos: u64, data: bool) -> Result<u64> {
        let size = self.mapping.size();
        if pos >= size {
            return Err(Errno::ENXIO);
        }
        let bits = node.instance.fs.geo.block_bits;
        let end = u32::try_from(size.div_ceil(1 << bits)).unwrap_or(u32::MAX);
        let mut at = (pos >> bits) as u32;
        while at < end {
            let (run, waiting) = node.instance.fs.map_delayed(&node.node, at, end - at)?;
            let is_data = waiting || matches!(run.place, Place::At(_));
            if is_data == data {
                return Ok(pos.max(u64::from(at) << bits).min(size));
            }
            at += run.len;
        }
        if data { Err(Errno::ENXIO) } else { Ok(size) }
    }
}

impl FileOps for RegularFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::REGULAR | FileTraits::DIRECT
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if file.flags() & O_DIRECT != 0 {
            return self.read_direct(file, pos, buf);
        }
        cached::read(file, &self.mapping, pos, buf)
    }

    fn write(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if file.flags() & O_DIRECT != 0 {
            return self.write_direct(file, pos, buf);
        }
        cached::write(file, &self.mapping, pos, buf)
    }

    fn seek(&self, file: &File, pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
        if whence != SEEK_DATA && whence != SEEK_HOLE {
            return vfs::generic_seek(file, pos, offset, whence);
        }
        let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let found = self.seek_extent(ext(file.inode())?, from, whence == SEEK_DATA)?;
        *pos = found;
        Ok(found)
    }

    fn map_source(&self, _file: &File) -> Result<MapSource> {
        Ok(MapSource::Cache(self.mapping.clone()))
    }

    fn mapping(&self, _file: &File) -> Option<Arc<Mapping>> {
        Some(self.mapping.clone())
    }

    fn fsync(&self, file: &File, start: u64, end: u64, data_only: bool) -> Result<()> {
        let node = ext(file.inode())?;
        let (written, size) = (self.mapping.sync(start, end.saturating_add(1)), self.mapping.size());
        let known = self.mapping.errors().check(&self.seen);
        written.and(known)?;
        if !data_only {
            node.write_inode(&**file.inode())?;
        } else {
            node.instance.fs.cover_size(&node.node, size)?;
        }
        let fs = &node.instance.fs;
        let tid = node.node.tid();
        match fs.is_committed(tid) {
            true => node.instance.device().flush(),
            false => fs.commit(tid),
        }
    }

    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        let inode = file.inode();
        let node = ext(inode)?;
        let fs = &node.instance.fs;
        let end =
            offset.checked_add(len).filter(|end| *end <= fs.max_bytes(&node.node)).ok_or(Errno::EFBIG)?;
        let grow = mode & FALLOC_FL_KEEP_SIZE == 0;
        let _contents = inode.contents.write();
        node.node.set_size(self.mapping.size());
        match mode & !FALLOC_FL_KEEP_SIZE {
            0 => {
                fs.allocate(&node.node, offset, end, grow, false)?;
                self.grow(inode, if grow { end } else { 0 });
            }
            FALLOC_FL_PUNCH_HOLE if !grow => self.punch(node, offset, end)?,
            FALLOC_FL_ZERO_RANGE => self.zero(inode, node, (offset, end), grow)?,
            FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE if grow => {
                self.shift(inode, node, (offset, end), mode)?;
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        inode.touch_modified();
        Ok(())
    }

    fn extent(&self, file: &File, at: u64, len: u64) -> Result<Extent> {
        let node = ext(file.inode())?;
        let bits = node.instance.fs.geo.block_bits;
        let first = u32::try_from(at >> bits).map_err(|_| Errno::EFBIG)?;
        let count = u32::try_from(len.div_ceil(1 << bits)).unwrap_or(u32::MAX);
        let run = node.instance.fs.map(&node.node, first, count)?;
        let place = match run.place {
            Place::At(block) | Place::Unwritten(block) => Some(block << bits),
            Place::Hole => None,
        };
        Ok(Extent { len: (u64::from(run.len) << bits).min(len), place })
    }
}

impl RegularFile {
    /// Makes a range a hole. The contents lock is held.
    fn punch(&self, node: &ExtNode, start: u64, end: u64) -> Result<()> {
        let end = end.min(self.mapping.size().next_multiple_of(PAGE));
        if start >= end {
            return Ok(());
        }
        let _edges = self.edges(start, end)?;
        let _still = self.mapping.invalidate_lock();
        self.mapping.punch_hole(start, end);
        // Whole pages only: parts of a page are zeroes in the cache, and go to their blocks from there.
        let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        if first < last { node.instance.fs.punch_hole(&node.node, first, last) } else { Ok(()) }
    }

    /// The pages that a range begins or ends in: to have their parts zeroed they must be there, and stay until that
    /// is done. Before the mapping's invalidate lock is taken.
    fn edges(&self, start: u64, end: u64) -> Result<[Option<Folio>; 2]> {
        let edge = |at: u64| {
            let cut = !at.is_multiple_of(PAGE) && at < self.mapping.size();
            cut.then(|| self.mapping.fill(at / PAGE).map(|(folio, _)| folio)).transpose()
        };
        Ok([edge(start)?, edge(end)?])
    }

    /// Lets a range read as zeroes and gives all of it blocks. The contents lock is held.
    fn zero(&self, inode: &InodeRef, node: &ExtNode, (start, end): (u64, u64), grow: bool) -> Result<()> {
        let fs = &node.instance.fs;
        if !fs.has_extents(&node.node) {
            return Err(Errno::EOPNOTSUPP);
        }
        let _edges = self.edges(start, end)?;
        let _still = self.mapping.invalidate_lock();
        self.mapping.punch_hole(start, end);
        let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        if first < last {
            fs.zero_range(&node.node, (first, last), false, false)?;
        }
        // The parts at both ends get their blocks here.
        fs.allocate(&node.node, start, end, grow, false)?;
        self.grow(inode, if grow { end } else { 0 });
        Ok(())
    }

    /// The file is at least so long now.
    fn grow(&self, inode: &InodeRef, size: u64) {
        if size > self.mapping.size() {
            self.mapping.truncate(size);
            inode.set_size(size);
        }
    }

    /// Takes a range out of the file or puts a hole into it. The contents lock is held.
    ///
    /// What the cache has from there on goes to its blocks first, and leaves the cache, since its place in the file
    /// changes. Who reads or stores through a mapping meanwhile waits.
    fn shift(&self, inode: &InodeRef, node: &ExtNode, range: (u64, u64), mode: u32) -> Result<()> {
        let (fs, (start, end)) = (&node.instance.fs, range);
        let inserts = mode == FALLOC_FL_INSERT_RANGE;
        let size = self.mapping.size();
        if !fs.has_extents(&node.node) {
            return Err(Errno::EOPNOTSUPP);
        }
        let block = 1 << fs.geo.block_bits;
        let within = if inserts { start < size } else { end < size };
        if !start.is_multiple_of(block) || !end.is_multiple_of(block) || !within {
            return Err(Errno::EINVAL);
        }
        let first = start / PAGE * PAGE;
        let before = self.mapping.errors().sample();
        // Most of it before anybody has to wait; then what was stored since.
        self.mapping.flush_range(first, u64::MAX)?;
        let _still = self.mapping.invalidate_lock();
        self.mapping.flush_range(first, u64::MAX)?;
        self.mapping.errors().peek(&before)?;
        self.mapping.punch_hole(first, u64::MAX & !(PAGE - 1));
        let shifted = match inserts {
            true => fs.insert_range(&node.node, start, end),
            false => fs.collapse_range(&node.node, start, end),
        };
        let size = node.node.size();
        self.mapping.truncate(size);
        inode.set_size(size);
        shifted
    }
}

/// All directories.
pub(crate) struct DirFile;

impl FileOps for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        let node = ext(file.inode())?;
        if !emit_dots(file, pos, sink) || *pos >= dir::END {
            return Ok(());
        }
        let stopped = node.instance.fs.read_dir(&node.node, *pos, &mut |entry| {
            sink.add(entry.name, u64::from(entry.ino), mode_of_kind(entry.kind), entry.next)
        })?;
        *pos = stopped;
        Ok(())
    }

    fn fsync(&self, file: &File, _start: u64, _end: u64, _data_only: bool) -> Result<()> {
        // What a directory holds goes by way of transactions, each of which ends with a flush: what is committed is
        // on the medium, and there are no data of its own that could still be in the device's cache.
        let node = ext(file.inode())?;
        node.instance.fs.commit(node.node.tid())
    }
}
