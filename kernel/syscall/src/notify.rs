//! inotify(7).

use crate::fs::{caller, install};
use crate::{Ctx, Errno, Result};
use abi::fs::PATH_MAX;
use abi::inotify::*;
use abi::stat::R_OK;
use kcore::{inotify, usermem};
use vfs::{Look, Start, permission, resolve};

pub fn inotify_init(ctx: &mut Ctx) -> Result<usize> {
    inotify_init1(ctx, 0)
}

pub fn inotify_init1(ctx: &mut Ctx, flags: u32) -> Result<usize> {
    if flags & !(IN_CLOEXEC | IN_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = inotify::create(ctx, flags & IN_NONBLOCK != 0)?;
    install(ctx, file, flags & IN_CLOEXEC != 0)
}

pub fn inotify_add_watch(ctx: &mut Ctx, fd: i32, path: usize, mask: u32) -> Result<usize> {
    if mask & ALL_INOTIFY_BITS == 0 {
        return Err(Errno::EINVAL);
    }
    let file = ctx.files().get(fd)?;
    if mask & IN_MASK_ADD != 0 && mask & IN_MASK_CREATE != 0 {
        return Err(Errno::EINVAL);
    }
    let instance = inotify::of_file(&file)?;
    let mut look = Look::empty();
    look.set(Look::FOLLOW, mask & IN_DONT_FOLLOW == 0);
    look.set(Look::DIRECTORY, mask & IN_ONLYDIR != 0);
    let path = usermem::read_cstr(path, PATH_MAX)?;
    let place = resolve(&caller(ctx), Start::Cwd, &path, look)?;
    permission::check_path(&place, R_OK, &caller(ctx))?;
    instance.add(&place, mask).map(|wd| wd as usize)
}

pub fn inotify_rm_watch(ctx: &mut Ctx, fd: i32, wd: i32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    inotify::of_file(&file)?.remove(wd).map(|()| 0)
}
