//! The flags of chattr(1) and where a file's data is: ioctl_iflags(2), FS_IOC_FSGETXATTR, FS_IOC_FIEMAP.

use crate::{Ctx, Errno, Result};
use abi::cap::{CAP_LINUX_IMMUTABLE, CAP_SYS_ADMIN};
use abi::fcntl::*;
use kcore::usermem;
use vfs::{File, FileExtent, TrimRange, permission};

/// The flags that both ways of saying them know.
const BOTH: [(u32, u32); 5] = [
    (FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE),
    (FS_APPEND_FL, FS_XFLAG_APPEND),
    (FS_SYNC_FL, FS_XFLAG_SYNC),
    (FS_NOATIME_FL, FS_XFLAG_NOATIME),
    (FS_NODUMP_FL, FS_XFLAG_NODUMP),
];

/// Says flags in other words.
fn translate(flags: u32, pairs: impl Iterator<Item = (u32, u32)>) -> u32 {
    pairs.filter(|(from, _)| flags & from != 0).fold(0, |all, (_, to)| all | to)
}

/// The commands of regular files and directories.
pub(crate) fn ioctl(ctx: &Ctx, file: &File, command: u32, argument: usize) -> Result<usize> {
    let inode = file.inode();
    match command {
        FS_IOC_GETFLAGS => usermem::write(argument, &inode.ops.file_flags(inode)?)?,
        FS_IOC_SETFLAGS => set_flags(ctx, file, usermem::read(argument)?)?,
        FS_IOC_GETVERSION => usermem::write(argument, &inode.ops.generation(inode)?)?,
        FS_IOC_FSGETXATTR => {
            let xflags = translate(inode.ops.file_flags(inode)?, BOTH.into_iter());
            usermem::write(argument, &FsXattr { xflags, ..FsXattr::default() })?;
        }
        FS_IOC_FSSETXATTR => set_xflags(ctx, file, &usermem::read(argument)?)?,
        FITRIM => trim(ctx, file, argument)?,
        _ => fiemap(file, argument)?,
    }
    Ok(0)
}

/// EPERM for others than the owner, and for who may not make a file immutable or append only.
fn set_flags(ctx: &Ctx, file: &File, flags: u32) -> Result<()> {
    file.path().mount.check_writable()?;
    let inode = file.inode();
    let old = inode.ops.file_flags(inode)?;
    if !permission::is_owner(inode, ctx.cred()) {
        return Err(Errno::EPERM);
    }
    if (old ^ flags) & (FS_IMMUTABLE_FL | FS_APPEND_FL) != 0 && !ctx.capable(CAP_LINUX_IMMUTABLE) {
        return Err(Errno::EPERM);
    }
    let _contents = inode.contents.write();
    let was_synchronous = inode.is_synchronous();
    inode.ops.set_file_flags(inode, flags)?;
    if was_synchronous { inode.ops.sync_metadata(inode) } else { Ok(()) }
}

/// EOPNOTSUPP for flags without another name; EINVAL for quotas of projects and hints about extents.
fn set_xflags(ctx: &Ctx, file: &File, wanted: &FsXattr) -> Result<()> {
    let names = || BOTH.into_iter().map(|(flag, xflag)| (xflag, flag));
    let known = names().fold(0, |all, (xflag, _)| all | xflag);
    if wanted.xflags & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if wanted.extent_size != 0 || wanted.cow_extent_size != 0 || wanted.project != 0 {
        return Err(Errno::EINVAL);
    }
    let inode = file.inode();
    let others = inode.ops.file_flags(inode)? & !names().fold(0, |all, (_, flag)| all | flag);
    set_flags(ctx, file, others | translate(wanted.xflags, names()))
}

/// FITRIM: the range's length becomes the number of bytes discarded.
fn trim(ctx: &Ctx, file: &File, argument: usize) -> Result<()> {
    let [start, len, min_len]: [u64; 3] = usermem::read(argument)?;
    let sb = &file.inode().sb;
    let trimmed = sb.ops.trim(sb, TrimRange { start, len, min_len }, ctx.capable(CAP_SYS_ADMIN))?;
    usermem::write(argument, &[start, trimmed, min_len])
}

/// FS_IOC_FIEMAP. EBADR for flags that are not known, EINVAL for an empty range, EFBIG for one beyond what a file can
/// have.
fn fiemap(file: &File, argument: usize) -> Result<()> {
    let mut request: Fiemap = usermem::read(argument)?;
    let inode = file.inode();
    if request.flags & !(FIEMAP_FLAG_SYNC | FIEMAP_FLAG_CACHE) != 0 {
        request.flags &= !(FIEMAP_FLAG_SYNC | FIEMAP_FLAG_CACHE);
        usermem::write(argument, &request)?;
        return Err(Errno::EBADR);
    }
    if request.length == 0 || request.extent_count > u32::MAX / size_of::<FiemapExtent>() as u32 {
        return Err(Errno::EINVAL);
    }
    if request.start > inode.sb.max_bytes {
        return Err(Errno::EFBIG);
    }
    if request.flags & FIEMAP_FLAG_SYNC != 0
        && let Some(mapping) = file.ops().mapping(file)
    {
        mapping.flush_range(0, u64::MAX)?;
    }
    let end = request.start.saturating_add(request.length);
    let first = argument + size_of::<Fiemap>();
    // One behind: the last extent is marked, and only the end says which it is.
    let (mut before, mut count, mut written) = (None::<FileExtent>, 0u32, Ok(()));
    let full = |count| request.extent_count != 0 && count == request.extent_count;
    inode.ops.extents(inode, request.start, end, &mut |extent| {
        if let Some(extent) = before.take() {
            written = put(first, &request, count, &extent, 0);
            count += 1;
        }
        if full(count) || written.is_err() {
            return false;
        }
        before = Some(*extent);
        true
    })?;
    if let Some(extent) = before {
        written = written.and_then(|()| put(first, &request, count, &extent, FIEMAP_EXTENT_LAST));
        count += 1;
    }
    written?;
    request.mapped_extents = count;
    usermem::write(argument, &request)
}

fn put(first: usize, request: &Fiemap, count: u32, extent: &FileExtent, more: u32) -> Result<()> {
    if request.extent_count == 0 {
        return Ok(());
    }
    let out = FiemapExtent {
        logical: extent.logical,
        physical: extent.physical,
        length: extent.len,
        flags: extent.flags | more,
        ..FiemapExtent::default()
    };
    usermem::write(first + count as usize * size_of::<FiemapExtent>(), &out)
}
