//! Open files and directories.

use crate::inode::{FatNode, fat};
use abi::fcntl::FALLOC_FL_KEEP_SIZE;
use abi::stat::{S_IFDIR, S_IFREG};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::any::Any;
use vfs::{DirSink, Extent, File, FileOps, FileTraits, IoBuf, cached, emit_dots};
use vm::{ErrSeen, MapSource, Mapping};

/// A regular file, opened: which write errors it knows of.
pub(crate) struct RegularFile {
    mapping: Arc<Mapping>,
    seen: ErrSeen,
}

impl RegularFile {
    pub fn new(mapping: &Arc<Mapping>) -> RegularFile {
        RegularFile { mapping: mapping.clone(), seen: mapping.errors().sample() }
    }

    /// Writes where there are clusters: as much as there is room for. The contents lock is held.
    fn write_locked(&self, file: &File, node: &FatNode, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let inode = file.inode();
        let start = if buf.append { inode.size() } else { *pos };
        let len = cached::bounded(inode, start, buf)?;
        if len == 0 {
            return Ok(0);
        }
        node.grow(inode, start)?;
        let room = node.reserve(start + len as u64)?.saturating_sub(start);
        if room == 0 {
            return Err(Errno::ENOSPC);
        }
        buf.truncate(len.min(usize::try_from(room).unwrap_or(usize::MAX)));
        let written = cached::write_locked(file, &self.mapping, pos, buf);
        // Also when nothing was written: the clusters go back.
        node.settle(inode)?;
        written
    }
}

impl FileOps for RegularFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::REGULAR
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        cached::read(file, &self.mapping, pos, buf)
    }

    fn write(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let node = fat(file.inode())?;
        let _contents = file.inode().contents.write();
        self.write_locked(file, node, pos, buf)
    }

    fn map_source(&self, _file: &File) -> Result<MapSource> {
        Ok(MapSource::Cache(self.mapping.clone()))
    }

    fn mapping(&self, _file: &File) -> Option<Arc<Mapping>> {
        Some(self.mapping.clone())
    }

    fn fsync(&self, file: &File, start: u64, end: u64, _data_only: bool) -> Result<()> {
        let node = fat(file.inode())?;
        let written = self.mapping.sync(start, end.saturating_add(1));
        let known = self.mapping.errors().check(&self.seen);
        written.and(known)?;
        node.write_times(&**file.inode())?;
        node.instance.sync_metadata()
    }

    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        let inode = file.inode();
        let node = fat(inode)?;
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let _contents = inode.contents.write();
        match mode {
            0 => node.grow(inode, end),
            // Clusters beyond the end would be found by fsck.
            FALLOC_FL_KEEP_SIZE if end <= inode.size() => Ok(()),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn extent(&self, file: &File, at: u64, len: u64) -> Result<Extent> {
        let node = fat(file.inode())?;
        let bits = node.instance.cluster_bits;
        let number = u32::try_from(at >> bits).map_err(|_| Errno::EFBIG)?;
        let want = u32::try_from(len.div_ceil(1 << bits)).unwrap_or(u32::MAX);
        let found = node.instance.with(|fs| fs.map(node.ino, number, want))?;
        Ok(match found {
            Some((place, count)) => Extent { len: (u64::from(count) << bits).min(len), place: Some(place) },
            None => Extent { len, place: None },
        })
    }
}

/// All directories. A position is 2 and the byte of the directory where the next entry is.
pub(crate) struct DirFile;

impl FileOps for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        let node = fat(file.inode())?;
        if !emit_dots(file, pos, sink) {
            return Ok(());
        }
        let Ok(from) = u32::try_from(*pos - 2) else { return Ok(()) };
        let stopped = node.instance.with(|fs| {
            fs.read_dir(node.ino, from, &mut |entry| {
                let mode = if entry.is_dir { S_IFDIR } else { S_IFREG };
                sink.add(entry.name, entry.ino, mode, u64::from(entry.next) + 2)
            })
        })?;
        *pos = u64::from(stopped) + 2;
        Ok(())
    }

    fn fsync(&self, file: &File, _start: u64, _end: u64, _data_only: bool) -> Result<()> {
        fat(file.inode())?.instance.sync_metadata()
    }
}
