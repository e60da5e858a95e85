//! Open files and directories.

use crate::client::io_unit;
use crate::inode::{Node, node};
use crate::io::{OpenFid, bounce, piece};
use crate::options::Cache;
use abi::fcntl::{O_ACCMODE, O_DIRECT, O_DSYNC, O_LARGEFILE, O_RDONLY, O_SYNC};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use p9wire::Entries;
use task::WaitMode;
use vfs::locks::{Kind, Lock, LockOwner};
use vfs::{DirSink, File, FileMode, FileOps, FileTraits, InodeRef, IoBuf, cached};
use vm::{MapSource, Mapping};

const SEEK_END: u32 = 2;

/// Of the flags of open(2), what the server is told. Creating, truncating and appending are done by other means.
pub(crate) fn server_flags(flags: u32) -> u32 {
    flags & (O_ACCMODE | O_DSYNC | O_SYNC) | O_LARGEFILE
}

/// O_DIRECT: past the cache. Neither the protocol nor a copy wants anything aligned.
fn is_direct(file: &File) -> bool {
    file.flags() & O_DIRECT != 0
}

/// A regular file, opened.
pub(crate) struct P9File {
    open: Arc<OpenFid>,
    /// Writes go to the server at once.
    writes_through: bool,
    /// Reads do not stay.
    reads_through: bool,
    shares_stores: bool,
}

impl P9File {
    /// `open` can be read if `reads` says so, whatever the program asked for in `flags`.
    pub fn new(node: &Node, open: OpenFid, reads: bool, flags: u32) -> P9File {
        let (cache, open) = (node.instance.cache(), Arc::new(open));
        node.data.opened(&open, reads, flags & O_ACCMODE != O_RDONLY);
        let writes_back = cache >= Cache::Mmap && node.data.can_write();
        P9File {
            open,
            writes_through: !writes_back,
            reads_through: cache == Cache::None,
            // A mapping of one that is open for reading only has no stores.
            shares_stores: cache >= Cache::Mmap,
        }
    }

    /// Reads without the cache.
    fn read_through(&self, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let mut done = 0;
        while buf.remaining() > 0 {
            let folio = bounce(buf.remaining().min(self.open.unit))?;
            let part = piece(&folio, buf.remaining().min(self.open.unit));
            let got = match self.open.read(*pos, core::slice::from_ref(&part), WaitMode::Killable) {
                Err(_) if done > 0 => break,
                result => result?,
            };
            if got == 0 {
                break;
            }
            let put = match buf.put_folio(&folio, 0, got) {
                Err(_) if done > 0 => break,
                result => result?,
            };
            (*pos, done) = (*pos + put as u64, done + put);
            if put < got || got < part.len {
                break;
            }
        }
        Ok(done)
    }

    /// Writes without the cache. The contents lock is held.
    fn write_through(&self, node: &Node, inode: &InodeRef, start: u64, buf: &mut IoBuf) -> Result<usize> {
        let mut done = 0;
        while buf.remaining() > 0 {
            let wanted = buf.remaining().min(self.open.unit);
            let folio = bounce(wanted)?;
            let taken = match buf.take_folio(&folio, 0, wanted.min(folio.len())) {
                Err(_) if done > 0 => break,
                result => result?,
            };
            let at = start + done as u64;
            node.data.count_write();
            let written = self.open.write(at, &[piece(&folio, taken)], WaitMode::Killable);
            node.data.count_write();
            let written = match written {
                Err(_) if done > 0 => break,
                result => result?,
            };
            self.written(node, inode, at, at + written as u64);
            done += written;
            if written < taken {
                break;
            }
        }
        Ok(done)
    }

    /// Bytes went past the cache.
    fn written(&self, node: &Node, inode: &InodeRef, start: u64, end: u64) {
        if let Some(mapping) = node.data.mapping() {
            // A page that is in use is one that somebody reads as it was.
            let _ = mapping.invalidate_range(start, end);
            if end > mapping.size() {
                mapping.truncate(end);
            }
        }
        if end > inode.size() {
            inode.set_size(end);
        }
        inode.touch_modified();
    }

    fn write_directly(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let inode = file.inode();
        let node = node(inode)?;
        if buf.append && node.instance.cache() < Cache::Loose && node.has_name(inode) {
            node.update(inode)?;
        }
        let _contents = inode.contents.write();
        let start = if buf.append { inode.size() } else { *pos };
        let limit = inode.sb.max_bytes.min(buf.size_limit);
        if buf.remaining() > 0 && start >= limit {
            return Err(Errno::EFBIG);
        }
        buf.truncate(usize::try_from(limit - start.min(limit)).unwrap_or(usize::MAX));
        vfs::attr::drop_privileges(inode, None)?;
        if let Some(mapping) = node.data.mapping() {
            // What is dirty there is older than what comes now.
            mapping.flush_range(start, start.saturating_add(buf.remaining() as u64))?;
        }
        let done = self.write_through(node, inode, start, buf)?;
        *pos = start + done as u64;
        Ok(done)
    }

    /// Pages that were written go to the server, and its version of the file is ours.
    fn write_out(&self, file: &File) -> Result<()> {
        let node = node(file.inode())?;
        node.write_out()?;
        if node.data.mapping().is_some()
            && node.has_name(file.inode())
            && node.instance.cache() < Cache::Loose
        {
            let written = node.data.writes();
            let stat = node.client().stat(&node.fid())?;
            node.data.settle(&stat, written);
        }
        Ok(())
    }

    fn writes_back(&self, file: &File) -> bool {
        !self.writes_through && file.mode().contains(FileMode::WRITE)
    }
}

impl FileOps for P9File {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::REGULAR | FileTraits::DIRECT
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if self.reads_through || is_direct(file) {
            if let Some(mapping) = node(file.inode())?.data.mapping() {
                mapping.flush_range(*pos, pos.saturating_add(buf.remaining() as u64))?;
            }
            return self.read_through(pos, buf);
        }
        cached::read(file, &node(file.inode())?.mapping(file.inode()), pos, buf)
    }

    fn write(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if self.writes_through || is_direct(file) {
            return self.write_directly(file, pos, buf);
        }
        cached::write(file, &node(file.inode())?.mapping(file.inode()), pos, buf)
    }

    fn seek(&self, file: &File, pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
        let inode = file.inode();
        let node = node(inode)?;
        if whence == SEEK_END && node.instance.cache() < Cache::Loose && node.has_name(inode) {
            node.update(inode)?;
        }
        vfs::generic_seek(file, pos, offset, whence)
    }

    fn map_source(&self, file: &File) -> Result<MapSource> {
        let inode = file.inode();
        let node = node(inode)?;
        let mapping = node.mapping(inode);
        if node.instance.cache() < Cache::Loose && node.has_name(inode) {
            node.update(inode)?;
        }
        Ok(MapSource::Cache(mapping))
    }

    fn shares_stores(&self) -> bool {
        self.shares_stores
    }

    fn mapping(&self, file: &File) -> Option<Arc<Mapping>> {
        let node = node(file.inode()).ok()?;
        if self.reads_through { None } else { Some(node.mapping(file.inode())) }
    }

    fn fsync(&self, file: &File, start: u64, end: u64, data_only: bool) -> Result<()> {
        if let Some(mapping) = node(file.inode())?.data.mapping() {
            mapping.sync(start, end.saturating_add(1))?;
        }
        self.open.fsync(data_only)
    }

    fn lock(&self, _file: &File, pid: i32, range: (u64, u64), kind: Option<Kind>, wait: bool) -> Result<()> {
        self.open.lock(pid, range, kind, wait)
    }

    fn get_lock(&self, _file: &File, wanted: &Lock<LockOwner>) -> Result<Option<Lock<LockOwner>>> {
        self.open.get_lock(wanted)
    }

    fn fallocate(&self, _file: &File, _mode: u32, _offset: u64, _len: u64) -> Result<()> {
        // The protocol has no such request.
        Err(Errno::EOPNOTSUPP)
    }

    fn flush(&self, file: &File) -> Result<()> {
        if !self.writes_back(file) {
            return Ok(());
        }
        self.write_out(file)?;
        file.check_write_errors()
    }

    fn release(&self, file: &File) {
        let Ok(node) = node(file.inode()) else { return };
        if self.writes_back(file) {
            // Stores of mappings that outlived the descriptor. Errors stay with the mapping.
            let _ = self.write_out(file);
        }
        node.data.closed();
    }
}

/// A directory, opened.
pub(crate) struct DirFile(pub OpenFid);

impl FileOps for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, _file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        /// Entries of one answer at least and at most, in bytes: one of the longest name always fits.
        const LEAST: usize = 512;
        const MOST: usize = 32 << 10;
        let msize = self.0.fid.client().msize();
        let len = sink.room().clamp(LEAST, MOST).min(io_unit(msize, 0));
        let folio = bounce(len)?;
        let part = piece(&folio, len);
        let count = self.0.read_dir(*pos, part)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(count.min(folio.len()), 0);
        folio.read(0, &mut bytes);
        for entry in Entries::new(&bytes) {
            let entry = entry.map_err(|_| Errno::EIO)?;
            // The type, where a mode has it.
            let mode = u32::from(entry.kind & 0xf) << 12;
            if !sink.add(entry.name, entry.qid.path.wrapping_add(2), mode, entry.next) {
                break;
            }
            *pos = entry.next;
        }
        Ok(())
    }

    fn fsync(&self, _file: &File, _start: u64, _end: u64, data_only: bool) -> Result<()> {
        self.0.fsync(data_only)
    }
}
