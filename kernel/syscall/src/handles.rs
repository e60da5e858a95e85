//! File handles: name_to_handle_at(2), open_by_handle_at(2).

use crate::fs::{caller, install};
use crate::path::find_or_self;
use crate::{Ctx, Errno, Result};
use abi::cap::CAP_DAC_READ_SEARCH;
use abi::fcntl::{
    AT_EMPTY_PATH, AT_FDCWD, AT_HANDLE_FID, AT_HANDLE_MNT_ID_UNIQUE, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW,
    MAX_HANDLE_SZ, O_CLOEXEC, O_CREAT,
};
use alloc::vec::Vec;
use kcore::usermem;
use vfs::handle::Handle;
use vfs::open::open_at_place;

/// `struct file_handle` without the handle: how many bytes that has, and its type.
type Head = [u32; 2];
const HEAD: usize = size_of::<Head>();

/// name_to_handle_at(2). EOVERFLOW, with the length that is needed, when there is no room for the handle.
pub fn name_to_handle_at(
    ctx: &mut Ctx,
    dirfd: i32,
    path: usize,
    handle: usize,
    mount_id: usize,
    flags: u32,
) -> Result<usize> {
    const KNOWN: u32 = AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | AT_HANDLE_FID | AT_HANDLE_MNT_ID_UNIQUE;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & AT_SYMLINK_FOLLOW == 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let place = find_or_self(ctx, dirfd, path, flags & AT_EMPTY_PATH | follow)?;
    let found = Handle::of(place.inode(), flags & AT_HANDLE_FID != 0)?;
    let [room, _]: Head = usermem::read(handle)?;
    if room as usize > MAX_HANDLE_SZ {
        return Err(Errno::EINVAL);
    }
    if flags & AT_HANDLE_MNT_ID_UNIQUE != 0 {
        usermem::write(mount_id, &vfs::mount_stat::unique_id(&place.mount))?;
    } else {
        usermem::write(mount_id, &(place.mount.id as u32))?;
    }
    let bytes = found.to_bytes();
    usermem::write(handle, &[bytes.len() as u32, found.kind as u32])?;
    if bytes.len() > room as usize {
        return Err(Errno::EOVERFLOW);
    }
    usermem::write_bytes(handle + HEAD, &bytes)?;
    Ok(0)
}

/// open_by_handle_at(2).
pub fn open_by_handle_at(ctx: &mut Ctx, mount: i32, handle: usize, flags: u32) -> Result<usize> {
    if !ctx.capable(CAP_DAC_READ_SEARCH) {
        return Err(Errno::EPERM);
    }
    let [len, kind]: Head = usermem::read(handle)?;
    if len == 0 || len as usize > MAX_HANDLE_SZ || (kind as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len as usize).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len as usize, 0);
    usermem::read_bytes(handle + HEAD, &mut bytes)?;
    let mount = if mount == AT_FDCWD { ctx.fs().cwd() } else { ctx.files().get(mount)?.path().clone() };
    let caller = caller(ctx);
    let place = Handle::from_bytes(kind as i32, &bytes)?.find(&caller, &mount)?;
    let file = open_at_place(&caller, place, flags & !(O_CREAT | O_CLOEXEC))?;
    install(ctx, file, flags & O_CLOEXEC != 0)
}
