//! Paths: open(2), stat(2), mkdir(2), rename(2), mount(2), and what else names a file.

use crate::fs::{caller, descriptor_limit, id, write_stat};
use crate::{Ctx, Errno, Result};
use abi::cap::CAP_DAC_READ_SEARCH;
use abi::fcntl::*;
use abi::fs::{MS_SYNCHRONOUS, PATH_MAX, ST_SYNCHRONOUS, UMOUNT_NOFOLLOW};
use abi::resource::RLIMIT_FSIZE;
use abi::signal::{SIGXFSZ, SigInfo};
use abi::stat::*;
use abi::time::{Timespec, Timeval};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use kcore::usermem;
use mem::user;
use vfs::attr::{self, NewTime, join_time};
use vfs::namei::{self, New};
use vfs::{Caller, Cred, File, Look, OpenHow, Path, Start, open as opening, resolve};
use zerocopy::IntoBytes;

// ---- finding ----

const SHORT_BYTES: usize = 64;

/// A path from user memory; a short one, as nearly all are, lies here and not in an allocation of its own.
/// That saves 200 instructions of the 2,300 that stat(2) took.
struct UserPath {
    short: [u64; SHORT_BYTES / 8],
    len: usize,
    /// Empty for a short one.
    long: Vec<u8>,
}

impl Deref for UserPath {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if self.long.is_empty() { &self.short.as_bytes()[..self.len] } else { &self.long }
    }
}

/// A path from user memory. EFAULT, ENAMETOOLONG, ENOMEM.
#[inline]
fn read_path(addr: usize) -> Result<UserPath> {
    let mut path = UserPath { short: [0; SHORT_BYTES / 8], len: 0, long: Vec::new() };
    // Not across the end of a page: the next one may not be there, and the path end before it.
    let room = SHORT_BYTES.min(arch::PAGE_SIZE - addr % arch::PAGE_SIZE);
    if user::read_partial(addr, &mut path.short.as_mut_bytes()[..room]) == room
        && let Some(len) = pathname::find_nul(&path.short)
        && len < room
    {
        path.len = len;
        return Ok(path);
    }
    path.long = usermem::read_cstr(addr, PATH_MAX)?;
    Ok(path)
}

/// The directory that `dirfd` stands for, unless it is not needed.
fn base(ctx: &Ctx, dirfd: i32, path: &[u8]) -> Result<Option<Path>> {
    if dirfd == AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    Ok(Some(ctx.files().get_any(dirfd)?.path().clone()))
}

fn start(base: &Option<Path>) -> Start<'_> {
    base.as_ref().map_or(Start::Cwd, Start::At)
}

/// The place a (dirfd, path) pair names.
pub(crate) fn find(ctx: &Ctx, dirfd: i32, path: &[u8], look: Look) -> Result<Path> {
    let base = base(ctx, dirfd, path)?;
    resolve(&caller(ctx), start(&base), path, look)
}

/// What the path at a user address names, seen from the working directory.
pub(crate) fn find_at(ctx: &Ctx, path: usize, look: Look) -> Result<Path> {
    find(ctx, AT_FDCWD, &read_path(path)?, look)
}

/// As [`find`], for calls with AT_EMPTY_PATH: an empty (or absent) path names `dirfd` itself.
pub(crate) fn find_or_self(ctx: &Ctx, dirfd: i32, path: usize, flags: u32) -> Result<Path> {
    let follow = if flags & AT_SYMLINK_NOFOLLOW == 0 { Look::FOLLOW } else { Look::empty() };
    if flags & AT_EMPTY_PATH == 0 {
        return find(ctx, dirfd, &read_path(path)?, follow);
    }
    if path != 0 {
        let path = read_path(path)?;
        if !path.is_empty() {
            return find(ctx, dirfd, &path, follow);
        }
    }
    if dirfd == AT_FDCWD { Ok(ctx.fs().cwd()) } else { Ok(ctx.files().get_any(dirfd)?.path().clone()) }
}

/// Whether the call names an open file by AT_EMPTY_PATH: then no path is read at all.
fn names_descriptor(dirfd: i32, path: usize, flags: u32) -> bool {
    flags & AT_EMPTY_PATH != 0 && dirfd >= 0 && (path == 0 || user::read_val::<u8>(path) == Ok(0))
}

fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

// ---- opening ----

/// open(2).
pub fn open(ctx: &mut Ctx, path: usize, flags: u32, mode: u32) -> Result<usize> {
    openat(ctx, AT_FDCWD, path, flags, mode)
}

/// openat(2).
pub fn openat(ctx: &mut Ctx, dirfd: i32, path: usize, flags: u32, mode: u32) -> Result<usize> {
    let how = OpenHow::lenient(flags | O_LARGEFILE, mode)?;
    open_how(ctx, dirfd, path, how)
}

/// openat2(2).
pub fn openat2(ctx: &mut Ctx, dirfd: i32, path: usize, how: usize, size: usize) -> Result<usize> {
    if size < abi::fcntl::OpenHow::SIZE {
        return Err(Errno::EINVAL);
    }
    if size > arch::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let bytes: [u8; abi::fcntl::OpenHow::SIZE] = usermem::read_extensible(how, size)?;
    let mut how = OpenHow::strict(&abi::fcntl::OpenHow::from_bytes(&bytes))?;
    if how.flags & O_PATH == 0 {
        how.flags |= O_LARGEFILE;
    }
    open_how(ctx, dirfd, path, how)
}

fn open_how(ctx: &Ctx, dirfd: i32, path: usize, how: OpenHow) -> Result<usize> {
    let path = read_path(path)?;
    let files = ctx.files();
    let fd = files.reserve(how.flags & O_CLOEXEC != 0, descriptor_limit(ctx))?;
    let scoped = how.look.intersects(Look::BENEATH | Look::IN_ROOT);
    let base = if scoped && dirfd != AT_FDCWD {
        Some(files.get_any(dirfd)?.path().clone())
    } else {
        base(ctx, dirfd, &path)?
    };
    let file: Arc<File> = opening::open(&caller(ctx), start(&base), &path, how)?;
    Ok(fd.fill(file) as usize)
}

/// creat(2).
pub fn creat(ctx: &mut Ctx, path: usize, mode: u32) -> Result<usize> {
    open(ctx, path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}

// ---- attributes ----

/// stat(2).
pub fn stat(ctx: &mut Ctx, path: usize, stat: usize) -> Result<usize> {
    let place = find(ctx, AT_FDCWD, &read_path(path)?, Look::FOLLOW)?;
    write_stat(stat, &attr::getattr(place.inode())?)
}

/// lstat(2).
pub fn lstat(ctx: &mut Ctx, path: usize, stat: usize) -> Result<usize> {
    let place = find(ctx, AT_FDCWD, &read_path(path)?, Look::empty())?;
    write_stat(stat, &attr::getattr(place.inode())?)
}

/// fstatat(2).
pub fn newfstatat(ctx: &mut Ctx, dirfd: i32, path: usize, stat: usize, flags: u32) -> Result<usize> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)?;
    if names_descriptor(dirfd, path, flags) {
        return crate::fs::fstat(ctx, dirfd, stat);
    }
    let place = find_or_self(ctx, dirfd, path, flags)?;
    write_stat(stat, &attr::getattr(place.inode())?)
}

/// statx(2).
pub fn statx(ctx: &mut Ctx, dirfd: i32, path: usize, flags: u32, mask: u32, stat: usize) -> Result<usize> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)?;
    if mask & STATX_RESERVED != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let place = find_or_self(ctx, dirfd, path, flags)?;
    let mut out = attr::getattr(place.inode())?.to_statx(&place);
    // Told only when asked for, and of files that have data.
    if mask & STATX_DIOALIGN == 0 || !place.inode().is_regular() {
        out.mask &= !STATX_DIOALIGN;
        (out.dio_mem_align, out.dio_offset_align) = (0, 0);
    }
    if mask & STATX_MNT_ID_UNIQUE != 0 {
        out.mnt_id = vfs::mount_stat::unique_id(&place.mount);
        out.mask = out.mask & !STATX_MNT_ID | STATX_MNT_ID_UNIQUE;
    }
    usermem::write_bytes(stat, &out.to_bytes())?;
    Ok(0)
}

/// access(2).
pub fn access(ctx: &mut Ctx, path: usize, mode: u32) -> Result<usize> {
    faccessat2(ctx, AT_FDCWD, path, mode, 0)
}

/// faccessat(2) without flags.
pub fn faccessat(ctx: &mut Ctx, dirfd: i32, path: usize, mode: u32) -> Result<usize> {
    faccessat2(ctx, dirfd, path, mode, 0)
}

/// faccessat(2).
pub fn faccessat2(ctx: &mut Ctx, dirfd: i32, path: usize, mode: u32, flags: u32) -> Result<usize> {
    check_flags(mode, R_OK | W_OK | X_OK)?;
    check_flags(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let own = ctx.cred();
    if flags & AT_EACCESS != 0 || (own.uid == own.fsuid && own.gid == own.fsgid && own.uid != 0) {
        let place = find_or_self(ctx, dirfd, path, flags)?;
        return attr::access(&caller(ctx), &place, mode).map(|()| 0);
    }
    // The path is walked with the real ids too.
    let real = Arc::new(own.for_access());
    let place = find_as(ctx, &real, dirfd, path, flags)?;
    attr::access(&Caller::thread(&real, ctx.fs(), ctx.thread.tid()), &place, mode).map(|()| 0)
}

fn find_as(ctx: &Ctx, cred: &Arc<Cred>, dirfd: i32, path: usize, flags: u32) -> Result<Path> {
    if names_descriptor(dirfd, path, flags) {
        return Ok(ctx.files().get_any(dirfd)?.path().clone());
    }
    let path = read_path(path)?;
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        return Ok(ctx.fs().cwd());
    }
    let look = if flags & AT_SYMLINK_NOFOLLOW == 0 { Look::FOLLOW } else { Look::empty() };
    let base = base(ctx, dirfd, &path)?;
    resolve(&Caller::thread(cred, ctx.fs(), ctx.thread.tid()), start(&base), &path, look)
}

/// chmod(2).
pub fn chmod(ctx: &mut Ctx, path: usize, mode: u32) -> Result<usize> {
    fchmodat2(ctx, AT_FDCWD, path, mode, 0)
}

/// fchmodat(2) without flags.
pub fn fchmodat(ctx: &mut Ctx, dirfd: i32, path: usize, mode: u32) -> Result<usize> {
    fchmodat2(ctx, dirfd, path, mode, 0)
}

/// fchmodat(2).
pub fn fchmodat2(ctx: &mut Ctx, dirfd: i32, path: usize, mode: u32, flags: u32) -> Result<usize> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let place = find_or_self(ctx, dirfd, path, flags)?;
    attr::chmod(&caller(ctx), &place, mode).map(|()| 0)
}

/// chown(2).
pub fn chown(ctx: &mut Ctx, path: usize, uid: u32, gid: u32) -> Result<usize> {
    fchownat(ctx, AT_FDCWD, path, uid, gid, 0)
}

/// lchown(2).
pub fn lchown(ctx: &mut Ctx, path: usize, uid: u32, gid: u32) -> Result<usize> {
    fchownat(ctx, AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW)
}

/// fchownat(2).
pub fn fchownat(ctx: &mut Ctx, dirfd: i32, path: usize, uid: u32, gid: u32, flags: u32) -> Result<usize> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let place = find_or_self(ctx, dirfd, path, flags)?;
    attr::chown(&caller(ctx), &place, id(uid), id(gid)).map(|()| 0)
}

/// truncate(2).
pub fn truncate(ctx: &mut Ctx, path: usize, len: i64) -> Result<usize> {
    let size = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    let place = find(ctx, AT_FDCWD, &read_path(path)?, Look::FOLLOW)?;
    let limit = ctx.limit(RLIMIT_FSIZE);
    let result = attr::truncate(&caller(ctx), &place, size, limit);
    if result == Err(Errno::EFBIG) && limit != u64::MAX {
        // A signal that cannot be queued is pending already.
        let _ = kcore::signal::send_thread(ctx.thread, SigInfo::kernel(SIGXFSZ));
    }
    result.map(|()| 0)
}

// ---- times ----

fn new_time(at: Timespec) -> Result<NewTime> {
    match at.nsec {
        UTIME_NOW => Ok(NewTime::Now),
        UTIME_OMIT => Ok(NewTime::Omit),
        nsec if (0..1_000_000_000).contains(&nsec) => Ok(NewTime::At(join_time(at.sec, nsec))),
        _ => Err(Errno::EINVAL),
    }
}

/// utimensat(2). Without a path: the times of the open file.
pub fn utimensat(ctx: &mut Ctx, dirfd: i32, path: usize, times: usize, flags: u32) -> Result<usize> {
    let (mut atime, mut mtime) = (NewTime::Now, NewTime::Now);
    if times != 0 {
        atime = new_time(usermem::read(times)?)?;
        mtime = new_time(usermem::read(times.checked_add(16).ok_or(Errno::EFAULT)?)?)?;
        if (atime, mtime) == (NewTime::Omit, NewTime::Omit) {
            return Ok(0);
        }
    }
    if path == 0 && dirfd != AT_FDCWD {
        check_flags(flags, 0)?;
        let file = ctx.files().get(dirfd)?;
        return attr::set_times(&caller(ctx), file.path(), atime, mtime).map(|()| 0);
    }
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let place = if path == 0 { return Err(Errno::EFAULT) } else { find_or_self(ctx, dirfd, path, flags)? };
    attr::set_times(&caller(ctx), &place, atime, mtime).map(|()| 0)
}

fn from_timeval(at: Timeval) -> Result<NewTime> {
    if !(0..1_000_000).contains(&at.usec) {
        return Err(Errno::EINVAL);
    }
    Ok(NewTime::At(join_time(at.sec, at.usec * 1000)))
}

/// futimesat(2).
pub fn futimesat(ctx: &mut Ctx, dirfd: i32, path: usize, times: usize) -> Result<usize> {
    let (mut atime, mut mtime) = (NewTime::Now, NewTime::Now);
    if times != 0 {
        atime = from_timeval(usermem::read(times)?)?;
        mtime = from_timeval(usermem::read(times.checked_add(16).ok_or(Errno::EFAULT)?)?)?;
    }
    let place = find(ctx, dirfd, &read_path(path)?, Look::FOLLOW)?;
    attr::set_times(&caller(ctx), &place, atime, mtime).map(|()| 0)
}

/// utimes(2).
pub fn utimes(ctx: &mut Ctx, path: usize, times: usize) -> Result<usize> {
    futimesat(ctx, AT_FDCWD, path, times)
}

/// utime(2): whole seconds.
pub fn utime(ctx: &mut Ctx, path: usize, times: usize) -> Result<usize> {
    let (mut atime, mut mtime) = (NewTime::Now, NewTime::Now);
    if times != 0 {
        let [a, m]: [i64; 2] = usermem::read(times)?;
        (atime, mtime) = (NewTime::At(join_time(a, 0)), NewTime::At(join_time(m, 0)));
    }
    let place = find(ctx, AT_FDCWD, &read_path(path)?, Look::FOLLOW)?;
    attr::set_times(&caller(ctx), &place, atime, mtime).map(|()| 0)
}

// ---- names ----

/// mkdir(2).
pub fn mkdir(ctx: &mut Ctx, path: usize, mode: u32) -> Result<usize> {
    mkdirat(ctx, AT_FDCWD, path, mode)
}

/// mkdirat(2).
pub fn mkdirat(ctx: &mut Ctx, dirfd: i32, path: usize, mode: u32) -> Result<usize> {
    make(ctx, dirfd, path, New::Directory { mode })
}

/// mknod(2).
pub fn mknod(ctx: &mut Ctx, path: usize, mode: u32, dev: u32) -> Result<usize> {
    mknodat(ctx, AT_FDCWD, path, mode, dev)
}

/// mknodat(2). Without type bits it makes a regular file.
pub fn mknodat(ctx: &mut Ctx, dirfd: i32, path: usize, mode: u32, dev: u32) -> Result<usize> {
    let mode = if mode & S_IFMT == 0 { mode | S_IFREG } else { mode };
    make(ctx, dirfd, path, New::Node { mode, dev: DevId::decode(u64::from(dev)) })
}

fn make(ctx: &Ctx, dirfd: i32, path: usize, new: New) -> Result<usize> {
    let path = read_path(path)?;
    let base = base(ctx, dirfd, &path)?;
    namei::make(&caller(ctx), start(&base), &path, new).map(|()| 0)
}

/// symlink(2).
pub fn symlink(ctx: &mut Ctx, target: usize, link: usize) -> Result<usize> {
    symlinkat(ctx, target, AT_FDCWD, link)
}

/// symlinkat(2).
pub fn symlinkat(ctx: &mut Ctx, target: usize, dirfd: i32, link: usize) -> Result<usize> {
    let target = read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    make(ctx, dirfd, link, New::Symlink { target: &target })
}

/// link(2).
pub fn link(ctx: &mut Ctx, old: usize, new: usize) -> Result<usize> {
    linkat(ctx, AT_FDCWD, old, AT_FDCWD, new, 0)
}

/// linkat(2).
pub fn linkat(
    ctx: &mut Ctx,
    old_dirfd: i32,
    old: usize,
    new_dirfd: i32,
    new: usize,
    flags: u32,
) -> Result<usize> {
    check_flags(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)?;
    if flags & AT_EMPTY_PATH != 0 && !ctx.capable(CAP_DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    // Here following is what is asked for, elsewhere not following.
    let nofollow = if flags & AT_SYMLINK_FOLLOW == 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let old = find_or_self(ctx, old_dirfd, old, flags & AT_EMPTY_PATH | nofollow)?;
    let path = read_path(new)?;
    let base = base(ctx, new_dirfd, &path)?;
    namei::link(&caller(ctx), &old, start(&base), &path).map(|()| 0)
}

/// unlink(2).
pub fn unlink(ctx: &mut Ctx, path: usize) -> Result<usize> {
    unlinkat(ctx, AT_FDCWD, path, 0)
}

/// rmdir(2).
pub fn rmdir(ctx: &mut Ctx, path: usize) -> Result<usize> {
    unlinkat(ctx, AT_FDCWD, path, AT_REMOVEDIR)
}

/// unlinkat(2).
pub fn unlinkat(ctx: &mut Ctx, dirfd: i32, path: usize, flags: u32) -> Result<usize> {
    check_flags(flags, AT_REMOVEDIR)?;
    let path = read_path(path)?;
    let base = base(ctx, dirfd, &path)?;
    let remove = if flags & AT_REMOVEDIR != 0 { namei::rmdir } else { namei::unlink };
    remove(&caller(ctx), start(&base), &path).map(|()| 0)
}

/// rename(2).
pub fn rename(ctx: &mut Ctx, old: usize, new: usize) -> Result<usize> {
    renameat2(ctx, AT_FDCWD, old, AT_FDCWD, new, 0)
}

/// renameat(2).
pub fn renameat(ctx: &mut Ctx, old_dirfd: i32, old: usize, new_dirfd: i32, new: usize) -> Result<usize> {
    renameat2(ctx, old_dirfd, old, new_dirfd, new, 0)
}

/// renameat2(2).
pub fn renameat2(
    ctx: &mut Ctx,
    old_dirfd: i32,
    old: usize,
    new_dirfd: i32,
    new: usize,
    flags: u32,
) -> Result<usize> {
    let (old, new) = (read_path(old)?, read_path(new)?);
    let (old_base, new_base) = (base(ctx, old_dirfd, &old)?, base(ctx, new_dirfd, &new)?);
    namei::rename(&caller(ctx), (start(&old_base), &old), (start(&new_base), &new), flags).map(|()| 0)
}

/// readlink(2).
pub fn readlink(ctx: &mut Ctx, path: usize, buf: usize, size: i32) -> Result<usize> {
    readlinkat(ctx, AT_FDCWD, path, buf, size)
}

/// readlinkat(2). An empty path names an O_PATH descriptor of a link.
pub fn readlinkat(ctx: &mut Ctx, dirfd: i32, path: usize, buf: usize, size: i32) -> Result<usize> {
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Errno::EINVAL)?;
    let path = read_path(path)?;
    let place = if path.is_empty() && dirfd != AT_FDCWD {
        ctx.files().get_any(dirfd)?.path().clone()
    } else {
        find(ctx, dirfd, &path, Look::empty())?
    };
    let text = namei::readlink(&caller(ctx), &place).map_err(|error| match error {
        Errno::EINVAL if path.is_empty() => Errno::ENOENT,
        other => other,
    })?;
    let len = text.len().min(size);
    usermem::write_bytes(buf, &text[..len])?;
    Ok(len)
}

// ---- where one stands ----

/// getcwd(2): the length with the zero.
pub fn getcwd(ctx: &mut Ctx, buf: usize, size: usize) -> Result<usize> {
    let cwd = ctx.fs().cwd();
    if cwd.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    let (text, reached) = cwd.text(Some(&ctx.fs().root()));
    let mut out = if reached { Vec::new() } else { b"(unreachable)".to_vec() };
    out.extend_from_slice(&text);
    out.push(0);
    if out.len() > PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if out.len() > size {
        return Err(Errno::ERANGE);
    }
    usermem::write_bytes(buf, &out)?;
    Ok(out.len())
}

/// chdir(2).
pub fn chdir(ctx: &mut Ctx, path: usize) -> Result<usize> {
    let place = find(ctx, AT_FDCWD, &read_path(path)?, Look::FOLLOW | Look::DIRECTORY)?;
    namei::change_dir(&caller(ctx), place).map(|()| 0)
}

/// chroot(2).
pub fn chroot(ctx: &mut Ctx, path: usize) -> Result<usize> {
    let place = find(ctx, AT_FDCWD, &read_path(path)?, Look::FOLLOW | Look::DIRECTORY)?;
    namei::change_root(&caller(ctx), place).map(|()| 0)
}

// ---- file systems ----

/// Writes a `struct statfs` of the file system at a place.
pub(crate) fn write_statfs(place: &Path, buf: usize) -> Result<usize> {
    let mut out = place.inode().sb.statfs()?;
    let mut flags = place.mount.flags();
    flags.set(vfs::MountFlags::RDONLY, place.mount.is_read_only());
    let synchronous = place.mount.sb().synchronous() & MS_SYNCHRONOUS != 0;
    out.f_flags = flags.to_statfs() | if synchronous { ST_SYNCHRONOUS } else { 0 };
    usermem::write_bytes(buf, &out.to_bytes())?;
    Ok(0)
}

/// statfs(2).
pub fn statfs(ctx: &mut Ctx, path: usize, buf: usize) -> Result<usize> {
    let place = find(ctx, AT_FDCWD, &read_path(path)?, Look::FOLLOW)?;
    write_statfs(&place, buf)
}

/// A string argument of mount(2) that may be absent.
fn optional(addr: usize) -> Result<Vec<u8>> {
    if addr == 0 { Ok(Vec::new()) } else { usermem::read_cstr(addr, PATH_MAX) }
}

/// mount(2).
pub fn mount(
    ctx: &mut Ctx,
    source: usize,
    target: usize,
    fstype: usize,
    flags: u64,
    data: usize,
) -> Result<usize> {
    let (fs_name, source, data) = (optional(fstype)?, optional(source)?, optional(data)?);
    let target = find(ctx, AT_FDCWD, &read_path(target)?, Look::FOLLOW)?;
    vfs::mount::mount(&caller(ctx), &source, target, &fs_name, flags, &data).map(|()| 0)
}

/// umount2(2).
pub fn umount2(ctx: &mut Ctx, target: usize, flags: u32) -> Result<usize> {
    let look = if flags & UMOUNT_NOFOLLOW == 0 { Look::FOLLOW } else { Look::empty() };
    let place = find(ctx, AT_FDCWD, &read_path(target)?, look)?;
    vfs::mount::unmount(&caller(ctx), place, flags).map(|()| 0)
}

/// pivot_root(2). Every process that stands at the old root moves to the new one.
pub fn pivot_root(ctx: &mut Ctx, new_root: usize, put_old: usize) -> Result<usize> {
    let look = Look::FOLLOW | Look::DIRECTORY;
    let new_root = find(ctx, AT_FDCWD, &read_path(new_root)?, look)?;
    let put_old = find(ctx, AT_FDCWD, &read_path(put_old)?, look)?;
    let (old, new) = vfs::mount::pivot_root(&caller(ctx), new_root, put_old)?;
    let mut from = 1;
    while let Some(process) = kcore::pid::next_process(from) {
        for fs in process.threads().iter().filter_map(|thread| thread.fs()) {
            fs.replace_places(&old, &new);
        }
        from = process.pid() + 1;
    }
    Ok(0)
}
