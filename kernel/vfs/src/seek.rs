//! lseek(2).

use crate::file::File;
use abi::fcntl::{SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET};
use abi::{Errno, errno::Result};

/// Seeks over the inode's size. A file without a page cache has data from start to end and a hole there.
pub fn generic_seek(file: &File, pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
    let size = file.inode().size();
    let mapping = file.ops().mapping(file);
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => *pos,
        SEEK_END => size,
        SEEK_DATA | SEEK_HOLE => {
            let from = u64::try_from(offset).ok().filter(|at| *at < size).ok_or(Errno::ENXIO)?;
            let found = match mapping.filter(|mapping| mapping.is_memory()) {
                Some(mapping) => mapping.seek(from, whence == SEEK_DATA).ok_or(Errno::ENXIO)?,
                None => {
                    if whence == SEEK_DATA {
                        from
                    } else {
                        size
                    }
                }
            };
            *pos = found;
            return Ok(found);
        }
        _ => return Err(Errno::EINVAL),
    };
    let target =
        base.checked_add_signed(offset).ok_or(if offset < 0 { Errno::EINVAL } else { Errno::EOVERFLOW })?;
    if target > file.inode().sb.max_bytes {
        return Err(Errno::EINVAL);
    }
    *pos = target;
    Ok(target)
}
