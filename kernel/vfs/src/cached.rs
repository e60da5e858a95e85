//! Reading and writing regular files through the page cache: what file systems with a [`vm::Mapping`] use
//! in their [`crate::FileOps`].

use crate::attr::drop_privileges;
use crate::file::File;
use crate::inode::InodeRef;
use crate::iobuf::IoBuf;
use abi::fcntl::*;
use abi::{Errno, errno::Result};
use vm::{Mapping, SyncMode};

/// Reads at `*pos` and moves it. Takes no lock: like Linux's buffered reads, it may see part of a
/// concurrent write.
#[inline]
pub fn read(file: &File, mapping: &Mapping, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let len = if buf.nowait { at_hand(mapping, *pos, buf.remaining())? } else { buf.remaining() };
    let done = mapping
        .read_file(file.readahead(), *pos, len, |folio, offset, len| buf.put_folio(folio, offset, len))?;
    *pos += done as u64;
    file.inode().accessed(file);
    Ok(done)
}

/// RWF_NOWAIT: how much of a range is there without waiting. EAGAIN when nothing is.
#[cold]
fn at_hand(mapping: &Mapping, pos: u64, len: usize) -> Result<usize> {
    const PAGE: u64 = arch::PAGE_SIZE as u64;
    let end = pos.saturating_add(len as u64).min(mapping.size());
    let mut at = pos;
    while at < end && mapping.is_cached(at / PAGE) {
        at = (at / PAGE + 1) * PAGE;
    }
    let len = at.min(end).saturating_sub(pos) as usize;
    if len == 0 && pos < end { Err(Errno::EAGAIN) } else { Ok(len) }
}

/// Writes at `*pos` (or at the end, for appending) and moves it, growing the file. EFBIG beyond the
/// caller's limit or the file system's; ETXTBSY for a swap file. Takes the inode's lock.
pub fn write(file: &File, mapping: &Mapping, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let _contents = file.inode().contents.write();
    write_locked(file, mapping, pos, buf)
}

/// As [`write`], with the inode's lock held.
pub fn write_locked(file: &File, mapping: &Mapping, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let inode = file.inode();
    if inode.attributes() & FS_IMMUTABLE_FL != 0 {
        return Err(Errno::EPERM);
    }
    let start = if buf.append { inode.size() } else { *pos };
    let len = bounded(inode, start, buf)?;
    if len == 0 {
        return Ok(0);
    }
    drop_privileges(inode, None)?;
    let done = mapping.write(start, len, |folio, offset, len| buf.take_folio(folio, offset, len))?;
    inode.touch_modified();
    let end = start + done as u64;
    if end > inode.size() {
        inode.set_size(end);
    }
    *pos = end;
    Ok(done)
}

/// Writes the dirty pages of `start..=end` and waits until they have arrived: what comes before the metadata
/// in a file system's fsync. Errors of single pages are told by [`File::fsync_range`].
pub fn write_out(mapping: &Mapping, start: u64, end: u64) -> Result<()> {
    mapping.sync(start, end.saturating_add(1))
}

/// sync_file_range(2): the steps that `flags` name, on the page cache alone.
pub fn sync_range(file: &File, mapping: &Mapping, start: u64, end: u64, flags: u32) -> Result<()> {
    let after = end.saturating_add(1);
    if flags & SYNC_FILE_RANGE_WAIT_BEFORE != 0 {
        mapping.wait_written(start, after);
        file.check_write_errors()?;
    }
    if flags & SYNC_FILE_RANGE_WRITE != 0 {
        let waits = flags & SYNC_FILE_RANGE_WAIT_BEFORE != 0 && flags & SYNC_FILE_RANGE_WAIT_AFTER != 0;
        let mode = if waits { SyncMode::All } else { SyncMode::None };
        mapping.write_back(start, after, mode, u64::MAX)?;
    }
    if flags & SYNC_FILE_RANGE_WAIT_AFTER != 0 {
        mapping.wait_written(start, after);
        file.check_write_errors()?;
    }
    Ok(())
}

/// posix_fadvise(2), the advice being a valid one. `len` 0 is to the end.
pub fn advise(file: &File, mapping: &Mapping, start: u64, len: u64, advice: i32) {
    let end = if len == 0 { u64::MAX } else { start.saturating_add(len) };
    match advice {
        POSIX_FADV_NORMAL => file.readahead().set_normal(),
        POSIX_FADV_RANDOM => file.readahead().set_random(),
        POSIX_FADV_SEQUENTIAL => file.readahead().set_sequential(),
        POSIX_FADV_WILLNEED => mapping.read_ahead(start, end - start),
        POSIX_FADV_DONTNEED => {
            // Pages that the range covers in part stay, as in Linux.
            let whole = start.checked_next_multiple_of(arch::PAGE_SIZE as u64).unwrap_or(u64::MAX);
            let end = if end == u64::MAX { end } else { end & !(arch::PAGE_SIZE as u64 - 1) };
            let _ = mapping.write_back(start, end, SyncMode::None, u64::MAX);
            mapping.drop_clean(whole, end.max(whole));
        }
        _ => {}
    }
}

/// How much may be written at `start`. EFBIG; ETXTBSY for a swap file.
pub fn bounded(inode: &InodeRef, start: u64, buf: &IoBuf) -> Result<usize> {
    if inode.is_swap_file() {
        return Err(Errno::ETXTBSY);
    }
    if buf.remaining() == 0 {
        return Ok(0);
    }
    let limit = inode.sb.max_bytes.min(buf.size_limit);
    match limit.checked_sub(start) {
        None | Some(0) => Err(Errno::EFBIG),
        Some(room) => Ok(buf.remaining().min(usize::try_from(room).unwrap_or(usize::MAX))),
    }
}
