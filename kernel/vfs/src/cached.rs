//! Reading and writing regular files through the page cache: what file systems with a [`vm::Mapping`] use
//! in their [`crate::FileOps`].

use crate::attr::drop_privileges;
use crate::file::File;
use crate::inode::InodeRef;
use crate::iobuf::IoBuf;
use abi::{Errno, errno::Result};
use vm::Mapping;

/// Reads at `*pos` and moves it. Takes no lock: like Linux's buffered reads, it may see part of a
/// concurrent write.
#[inline]
pub fn read(file: &File, mapping: &Mapping, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let len = buf.remaining();
    let done = mapping.read(*pos, len, |folio, offset, len| buf.put_folio(folio, offset, len))?;
    *pos += done as u64;
    file.inode().accessed(file);
    Ok(done)
}

/// Writes at `*pos` (or at the end, for appending) and moves it, growing the file. EFBIG beyond the
/// caller's limit or the file system's. Takes the inode's lock.
pub fn write(file: &File, mapping: &Mapping, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let inode = file.inode();
    let _contents = inode.contents.write();
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

/// How much may be written at `start`.
fn bounded(inode: &InodeRef, start: u64, buf: &IoBuf) -> Result<usize> {
    if buf.remaining() == 0 {
        return Ok(0);
    }
    let limit = inode.sb.max_bytes.min(buf.size_limit);
    match limit.checked_sub(start) {
        None | Some(0) => Err(Errno::EFBIG),
        Some(room) => Ok(buf.remaining().min(usize::try_from(room).unwrap_or(usize::MAX))),
    }
}
