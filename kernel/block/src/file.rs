//! Block special files: `/dev/vda` as programs open it.
//!
//! Without O_DIRECT reads and writes go through the device's page cache, and what is written gets to the
//! device with fsync, BLKFLSBUF, or the last close. Writing beyond the end is ENOSPC, as on Linux.

use crate::device::{self, BlockDevice, Claim};
use crate::{SECTOR_SHIFT, direct, ioctl};
use abi::fcntl::{
    FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, O_ACCMODE, O_DIRECT, O_EXCL, O_RDONLY,
    SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET,
};
use abi::stat::DevId;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;
use vfs::{Caller, Cred, File, FileOps, FileTraits, IoBuf, OpsRef};
use vm::{MapSource, Mapping, Readahead};

/// An open block device.
pub(crate) struct BlockFile {
    device: Arc<BlockDevice>,
    /// The opener's rights: ioctls that change the device ask for them.
    cred: Arc<Cred>,
    writes: bool,
    ahead: Readahead,
    /// With O_EXCL the device is the opener's alone.
    _claim: Option<Claim>,
}

/// What `vfs::device` calls for block devices of all majors.
pub(crate) fn open(dev: DevId, flags: u32, caller: &Caller) -> Result<OpsRef> {
    let device = device::by_dev(dev).ok_or(Errno::ENXIO)?;
    let claim = if flags & O_EXCL != 0 { Some(device.claim("O_EXCL")?) } else { None };
    device.openers.fetch_add(1, Ordering::AcqRel);
    let writes = flags & O_ACCMODE != O_RDONLY;
    let cred = caller.cred.clone();
    let ahead = Readahead::new();
    Ok(OpsRef::shared(BlockFile { device, cred, writes, ahead, _claim: claim }))
}

/// The device behind an open file, if it is a block device's.
pub fn of_file(file: &File) -> Option<Arc<BlockDevice>> {
    file.ops_as::<BlockFile>().map(|block| block.device.clone())
}

/// The block device that a path names, for mount(2). ENOTBLK, ENXIO; EACCES on a mount without devices.
pub fn at_path(caller: &Caller, path: &[u8]) -> Result<Arc<BlockDevice>> {
    let path = vfs::resolve(caller, vfs::Start::Cwd, path, vfs::Look::FOLLOW)?;
    let inode = path.inode();
    if inode.file_type() != vfs::FileType::BlockDevice {
        return Err(Errno::ENOTBLK);
    }
    if path.mount.flags().contains(vfs::MountFlags::NODEV) {
        return Err(Errno::EACCES);
    }
    device::by_dev(inode.rdev).ok_or(Errno::ENXIO)
}

impl BlockFile {
    pub(crate) fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }

    pub(crate) fn cred(&self) -> &Cred {
        &self.cred
    }

    /// Writes `start..end` and has the device write its cache. Errors of single pages are told by
    /// [`File::check_write_errors`].
    fn sync_range(&self, start: u64, end: u64) -> Result<()> {
        let mapping = self.device.mapping();
        let written = mapping.sync(start, end);
        let flushed = self.device.flush();
        written.and(flushed)
    }

    pub(crate) fn writes(&self) -> bool {
        self.writes
    }
}

impl FileOps for BlockFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::REGULAR | FileTraits::DIRECT
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if file.flags() & O_DIRECT != 0 {
            return direct::read(&self.device, pos, buf);
        }
        let len = buf.remaining();
        let mapping = self.device.mapping();
        let sink = |folio: &mem::Folio, offset, len| buf.put_folio(folio, offset, len);
        let done = mapping.read_file(&self.ahead, *pos, len, sink)?;
        *pos += done as u64;
        file.inode().accessed(file);
        Ok(done)
    }

    fn write(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let device = &self.device;
        if device.is_read_only() {
            return Err(Errno::EPERM);
        }
        if buf.append {
            *pos = device.bytes();
        }
        let room = device.bytes().saturating_sub(*pos);
        if buf.remaining() == 0 {
            return Ok(0);
        }
        if room == 0 {
            return Err(Errno::ENOSPC);
        }
        let len = buf.remaining().min(usize::try_from(room).unwrap_or(usize::MAX));
        let start = *pos;
        let done = if file.flags() & O_DIRECT != 0 {
            direct::write(device, pos, buf, len)?
        } else {
            let done = device
                .mapping()
                .write(start, len, |folio, offset, len| buf.take_folio(folio, offset, len))?;
            *pos += done as u64;
            done
        };
        file.inode().touch_modified();
        Ok(done)
    }

    fn seek(&self, _file: &File, pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
        let size = self.device.bytes();
        let base = match whence {
            SEEK_SET => 0,
            SEEK_CUR => *pos,
            SEEK_END => size,
            SEEK_DATA | SEEK_HOLE => {
                let from = u64::try_from(offset).ok().filter(|at| *at < size).ok_or(Errno::ENXIO)?;
                *pos = if whence == SEEK_DATA { from } else { size };
                return Ok(*pos);
            }
            _ => return Err(Errno::EINVAL),
        };
        // A device has no place beyond its end.
        let target = base.checked_add_signed(offset).filter(|at| *at <= size).ok_or(Errno::EINVAL)?;
        *pos = target;
        Ok(target)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        ioctl::ioctl(self, command, argument)
    }

    fn map_source(&self, _file: &File) -> Result<MapSource> {
        Ok(MapSource::Cache(self.device.mapping().clone()))
    }

    fn mapping(&self, _file: &File) -> Option<Arc<Mapping>> {
        Some(self.device.mapping().clone())
    }

    /// Zeroes a range (FALLOC_FL_ZERO_RANGE) or lets the device drop it (FALLOC_FL_PUNCH_HOLE); it reads as zeroes then.
    fn fallocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        let device = &self.device;
        let keep_size = mode & FALLOC_FL_KEEP_SIZE != 0;
        let punches = match mode & !FALLOC_FL_KEEP_SIZE {
            FALLOC_FL_ZERO_RANGE => false,
            FALLOC_FL_PUNCH_HOLE if keep_size => true,
            _ => return Err(Errno::EOPNOTSUPP),
        };
        let (size, block) = (device.bytes(), u64::from(device.logical_block()));
        let mut end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if keep_size {
            end = end.min(size);
        }
        if offset >= size || end > size || !offset.is_multiple_of(block) || !end.is_multiple_of(block) {
            return Err(Errno::EINVAL);
        }
        device.drop_cached(offset, end)?;
        let (sector, sectors) = (offset >> SECTOR_SHIFT, (end - offset) >> SECTOR_SHIFT);
        match punches {
            true => device.write_zeroes(sector, sectors),
            false => crate::zero::zero_out(device, sector, sectors),
        }
    }

    fn fsync(&self, _file: &File, start: u64, end: u64, _data_only: bool) -> Result<()> {
        self.sync_range(start, end.saturating_add(1))
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        if self.device.openers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.device.let_go();
        }
    }
}
