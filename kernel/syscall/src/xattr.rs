//! Extended attributes (xattr(7)).

use crate::fs::caller;
use crate::{Ctx, Errno, Result};
use abi::cap::CAP_SYS_ADMIN;
use abi::fs::*;
use abi::inotify::IN_ATTRIB;
use abi::stat::{R_OK, W_OK};
use alloc::vec::Vec;
use kcore::usermem;
use vfs::{FileType, Look, Path, acl, notify, permission, resolve};

fn place(ctx: &Ctx, path: usize, look: Look) -> Result<Path> {
    let path = usermem::read_cstr(path, PATH_MAX)?;
    resolve(&caller(ctx), vfs::Start::Cwd, &path, look)
}

fn descriptor(ctx: &Ctx, fd: i32) -> Result<Path> {
    Ok(ctx.files().get(fd)?.path().clone())
}

fn read_name(addr: usize) -> Result<Vec<u8>> {
    let name = usermem::read_cstr(addr, XATTR_NAME_MAX + 1).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        other => other,
    })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// The rules of the name spaces: who may read or change what (xattr(7)).
fn check(ctx: &Ctx, place: &Path, name: &[u8], writes: bool) -> Result<()> {
    if writes {
        place.mount.check_writable()?;
    }
    let mask = if writes { W_OK } else { R_OK };
    if name.starts_with(b"trusted.") {
        let refused = if writes { Errno::EPERM } else { Errno::ENODATA };
        return if ctx.capable(CAP_SYS_ADMIN) { Ok(()) } else { Err(refused) };
    }
    if name.starts_with(b"security.") {
        return if !writes || ctx.capable(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) };
    }
    if acl::is_name(name) {
        // Who may read a file's attributes may read its lists.
        return Ok(());
    }
    if writes {
        permission::check_changeable(place.inode())?;
    }
    if !name.starts_with(b"user.") {
        return Err(Errno::EOPNOTSUPP);
    }
    match place.inode().file_type() {
        FileType::Regular | FileType::Directory => permission::check_inode(place.inode(), mask, &caller(ctx)),
        _ if writes => Err(Errno::EPERM),
        _ => Err(Errno::ENODATA),
    }
}

fn get(ctx: &Ctx, place: &Path, name: usize, value: usize, size: usize) -> Result<usize> {
    let name = read_name(name)?;
    check(ctx, place, &name, false)?;
    let inode = place.inode();
    give(&inode.ops.get_xattr(inode, &name)?, value, size)
}

/// Copies out; with size 0 only tells how long it is.
fn give(bytes: &[u8], addr: usize, size: usize) -> Result<usize> {
    if size == 0 {
        return Ok(bytes.len());
    }
    if bytes.len() > size {
        return Err(Errno::ERANGE);
    }
    usermem::write_bytes(addr, bytes)?;
    Ok(bytes.len())
}

fn set(ctx: &Ctx, place: &Path, name: usize, value: usize, size: usize, flags: u32) -> Result<usize> {
    if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(name)?;
    if size > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let bytes: Vec<u8> = mem::user::read_array(value, size)?;
    check(ctx, place, &name, true)?;
    change(ctx, place, &name, Some(&bytes), flags)
}

fn change(ctx: &Ctx, place: &Path, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<usize> {
    let inode = place.inode();
    let is_list = acl::is_name(name);
    if is_list {
        acl::check_change(&caller(ctx), place, name, value.is_some())?;
    }
    {
        let _contents = inode.contents.write();
        inode.ops.set_xattr(inode, name, value, flags)?;
        if is_list && value.is_some() {
            acl::changed(&caller(ctx), inode)?;
        }
        if inode.is_synchronous() {
            inode.ops.sync_metadata(inode)?;
        }
    }
    notify::dentry(&place.dentry, IN_ATTRIB);
    Ok(0)
}

fn list(ctx: &Ctx, place: &Path, buf: usize, size: usize) -> Result<usize> {
    let inode = place.inode();
    let mut names = Vec::new();
    inode.ops.list_xattr(inode, &mut names)?;
    if !ctx.capable(CAP_SYS_ADMIN) {
        names = names
            .split_inclusive(|b| *b == 0)
            .filter(|name| !name.starts_with(b"trusted."))
            .flatten()
            .copied()
            .collect();
    }
    if names.len() > XATTR_LIST_MAX {
        return Err(Errno::E2BIG);
    }
    give(&names, buf, size)
}

fn remove(ctx: &Ctx, place: &Path, name: usize) -> Result<usize> {
    let name = read_name(name)?;
    check(ctx, place, &name, true)?;
    change(ctx, place, &name, None, 0)
}

/// setxattr(2).
pub fn setxattr(
    ctx: &mut Ctx,
    path: usize,
    name: usize,
    value: usize,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(ctx, &place(ctx, path, Look::FOLLOW)?, name, value, size, flags)
}

/// lsetxattr(2).
pub fn lsetxattr(
    ctx: &mut Ctx,
    path: usize,
    name: usize,
    value: usize,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(ctx, &place(ctx, path, Look::empty())?, name, value, size, flags)
}

/// fsetxattr(2).
pub fn fsetxattr(
    ctx: &mut Ctx,
    fd: i32,
    name: usize,
    value: usize,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(ctx, &descriptor(ctx, fd)?, name, value, size, flags)
}

/// getxattr(2).
pub fn getxattr(ctx: &mut Ctx, path: usize, name: usize, value: usize, size: usize) -> Result<usize> {
    get(ctx, &place(ctx, path, Look::FOLLOW)?, name, value, size)
}

/// lgetxattr(2).
pub fn lgetxattr(ctx: &mut Ctx, path: usize, name: usize, value: usize, size: usize) -> Result<usize> {
    get(ctx, &place(ctx, path, Look::empty())?, name, value, size)
}

/// fgetxattr(2).
pub fn fgetxattr(ctx: &mut Ctx, fd: i32, name: usize, value: usize, size: usize) -> Result<usize> {
    get(ctx, &descriptor(ctx, fd)?, name, value, size)
}

/// listxattr(2).
pub fn listxattr(ctx: &mut Ctx, path: usize, buf: usize, size: usize) -> Result<usize> {
    list(ctx, &place(ctx, path, Look::FOLLOW)?, buf, size)
}

/// llistxattr(2).
pub fn llistxattr(ctx: &mut Ctx, path: usize, buf: usize, size: usize) -> Result<usize> {
    list(ctx, &place(ctx, path, Look::empty())?, buf, size)
}

/// flistxattr(2).
pub fn flistxattr(ctx: &mut Ctx, fd: i32, buf: usize, size: usize) -> Result<usize> {
    list(ctx, &descriptor(ctx, fd)?, buf, size)
}

/// removexattr(2).
pub fn removexattr(ctx: &mut Ctx, path: usize, name: usize) -> Result<usize> {
    remove(ctx, &place(ctx, path, Look::FOLLOW)?, name)
}

/// lremovexattr(2).
pub fn lremovexattr(ctx: &mut Ctx, path: usize, name: usize) -> Result<usize> {
    remove(ctx, &place(ctx, path, Look::empty())?, name)
}

/// fremovexattr(2).
pub fn fremovexattr(ctx: &mut Ctx, fd: i32, name: usize) -> Result<usize> {
    remove(ctx, &descriptor(ctx, fd)?, name)
}
