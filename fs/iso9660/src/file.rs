//! Open files and directories, and pages from where they are.

use crate::inode::iso;
use crate::instance::{Instance, KernelDisk};
use abi::stat::{S_IFDIR, S_IFREG};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use block::Piece;
use core::any::Any;
use core::ops::Range;
use iso9660_core::{Entry, Reader};
use vfs::{DirSink, File, FileOps, FileTraits, IoBuf, cached, emit_dots};
use vm::{MapSource, Mapping, MappingOps, ReadRun, WriteWhy};

/// A regular file's way to the device.
pub(crate) struct DataOps {
    pub instance: Arc<Instance>,
    pub entry: Arc<Entry>,
}

impl DataOps {
    fn piece(&self, at: u64, len: u64) -> Piece {
        match self.entry.place(at) {
            // The last block is the file's as a whole.
            Some((place, there)) => Piece { place: Some(place), len: there.next_multiple_of(512).min(len) },
            None => Piece { place: None, len },
        }
    }
}

impl MappingOps for DataOps {
    fn read_run(&self, run: ReadRun) {
        block::read_pages(&self.instance.device, run, &mut |at, len| Ok(self.piece(at, len)));
    }

    fn prepare_write(&self, _pages: Range<u64>, _why: WriteWhy) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn read_ahead_pages(&self) -> u32 {
        self.instance.device.disk().read_ahead_pages()
    }
}

/// A regular file, opened.
pub(crate) struct RegularFile(pub Arc<Mapping>);

impl FileOps for RegularFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::REGULAR
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        cached::read(file, &self.0, pos, buf)
    }

    fn map_source(&self, _file: &File) -> Result<MapSource> {
        Ok(MapSource::Cache(self.0.clone()))
    }

    fn mapping(&self, _file: &File) -> Option<Arc<Mapping>> {
        Some(self.0.clone())
    }

    fn fsync(&self, _file: &File, _start: u64, _end: u64, _data_only: bool) -> Result<()> {
        Ok(())
    }
}

/// All directories. A position is 2 and the byte of the directory where the next record is.
pub(crate) struct DirFile;

impl FileOps for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        let node = iso(file.inode())?;
        if !emit_dots(file, pos, sink) {
            return Ok(());
        }
        let mut disk = KernelDisk(&node.instance.device);
        let mut reader = Reader::new(&node.entry, *pos - 2);
        while let Some(entry) = reader.next(&node.instance.volume, &mut disk)? {
            let plain = if entry.is_dir { S_IFDIR } else { S_IFREG };
            let mode = entry.posix.map_or(plain, |posix| posix.mode);
            let next = reader.offset + 2;
            if !sink.add(&entry.name, entry.ino, mode, next) {
                return Ok(());
            }
            *pos = next;
        }
        *pos = reader.offset + 2;
        Ok(())
    }

    fn fsync(&self, _file: &File, _start: u64, _end: u64, _data_only: bool) -> Result<()> {
        Ok(())
    }
}
