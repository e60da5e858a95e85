//! Descriptors: read(2), write(2), dup(2), fcntl(2), and what else takes an open file.

use crate::{Ctx, Errno, Result, attributes, path};
use abi::fcntl::*;
use abi::fs::IOV_MAX;
use abi::inotify::IN_MODIFY;
use abi::poll::{EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE};
use abi::resource::{RLIMIT_FSIZE, RLIMIT_NOFILE};
use abi::signal::{SIGPIPE, SIGXFSZ, SigInfo};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kcore::{signal, usermem};
use mem::user;
use vfs::dnotify;
use vfs::leases;
use vfs::locks::{self, LockOwner};
use vfs::notify;
use vfs::nsfs::{self, NS_GET_PARENT, NS_GET_USERNS};
use vfs::{
    Attr, Caller, DirSink, File, FileMode, FileTraits, FileType, IoBuf, Owner, Path, Segment, attr, eventfd,
    pipe, splice as splicing,
};

/// Who asks, for the file system.
#[inline]
pub(crate) fn caller<'a>(ctx: &'a Ctx) -> Caller<'a> {
    Caller::thread(ctx.cred(), ctx.fs(), ctx.thread.tid())
}

/// The soft RLIMIT_NOFILE.
pub(crate) fn descriptor_limit(ctx: &Ctx) -> u64 {
    ctx.limit(RLIMIT_NOFILE)
}

/// EFAULT for memory that no program can have, whatever would be copied.
#[inline]
pub(crate) fn check_user_range(addr: usize, len: usize) -> Result<()> {
    let top = arch::mmu::user_top();
    if len > top || addr > top - len { Err(Errno::EFAULT) } else { Ok(()) }
}

/// The signals that go with an error of writing: SIGPIPE with EPIPE, SIGXFSZ at RLIMIT_FSIZE.
#[cold]
pub(crate) fn write_error(ctx: &Ctx, error: Errno, limit: u64) -> Errno {
    let signal = match error {
        Errno::EPIPE => SIGPIPE,
        Errno::EFBIG if limit != u64::MAX => SIGXFSZ,
        _ => return error,
    };
    // A signal that cannot be queued is pending already.
    let _ = signal::send_thread(ctx.thread, SigInfo::kernel(signal));
    error
}

// ---- reading and writing ----

/// read(2).
pub fn read(ctx: &mut Ctx, fd: i32, buf: usize, len: usize) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    if !file.mode().contains(FileMode::READ) {
        return Err(Errno::EBADF);
    }
    check_user_range(buf, len)?;
    let result = file.read(&mut IoBuf::user(buf, len));
    ctx.thread.count_read(&result);
    result
}

/// write(2).
pub fn write(ctx: &mut Ctx, fd: i32, buf: usize, len: usize) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    if !file.mode().contains(FileMode::WRITE) {
        return Err(Errno::EBADF);
    }
    check_user_range(buf, len)?;
    write_from(ctx, &file, IoBuf::user(buf, len), None)
}

/// Writes at `position`, or at the file's own.
fn write_from(ctx: &Ctx, file: &File, mut buf: IoBuf, position: Option<u64>) -> Result<usize> {
    let limit = ctx.limit(RLIMIT_FSIZE);
    buf.size_limit = limit;
    let result = match position {
        None => file.write(&mut buf),
        Some(position) => file.write_at(position, &mut buf),
    };
    ctx.thread.count_write(&result);
    result.map_err(|error| write_error(ctx, error, limit))
}

fn position(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// pread(2).
pub fn pread64(ctx: &mut Ctx, fd: i32, buf: usize, len: usize, offset: i64) -> Result<usize> {
    let position = position(offset)?;
    let file = ctx.files().get(fd)?;
    check_user_range(buf, len)?;
    let result = file.read_at(position, &mut IoBuf::user(buf, len));
    ctx.thread.count_read(&result);
    result
}

/// pwrite(2).
pub fn pwrite64(ctx: &mut Ctx, fd: i32, buf: usize, len: usize, offset: i64) -> Result<usize> {
    let position = position(offset)?;
    let file = ctx.files().get(fd)?;
    check_user_range(buf, len)?;
    write_from(ctx, &file, IoBuf::user(buf, len), Some(position))
}

/// Reads an array of `struct iovec`. EINVAL for too many or negative lengths, EFAULT for wild memory.
pub(crate) fn read_segments(vec: usize, count: usize) -> Result<Vec<Segment>> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let raw: Vec<[usize; 2]> = user::read_array(vec, count)?;
    let mut segments = Vec::new();
    segments.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for [addr, len] in raw {
        if isize::try_from(len).is_err() {
            return Err(Errno::EINVAL);
        }
        check_user_range(addr, len)?;
        segments.push(Segment { addr, len });
    }
    Ok(segments)
}

/// readv(2).
pub fn readv(ctx: &mut Ctx, fd: i32, vec: usize, count: usize) -> Result<usize> {
    read_vector(ctx, fd, vec, count, None, 0)
}

/// writev(2).
pub fn writev(ctx: &mut Ctx, fd: i32, vec: usize, count: usize) -> Result<usize> {
    write_vector(ctx, fd, vec, count, None, 0)
}

/// preadv(2). The offset is in `pos_low`: a register holds it all.
pub fn preadv(
    ctx: &mut Ctx,
    fd: i32,
    vec: usize,
    count: usize,
    pos_low: i64,
    _pos_high: usize,
) -> Result<usize> {
    read_vector(ctx, fd, vec, count, Some(position(pos_low)?), 0)
}

/// pwritev(2).
pub fn pwritev(
    ctx: &mut Ctx,
    fd: i32,
    vec: usize,
    count: usize,
    pos_low: i64,
    _pos_high: usize,
) -> Result<usize> {
    write_vector(ctx, fd, vec, count, Some(position(pos_low)?), 0)
}

/// preadv2(2): offset -1 is the file's position.
pub fn preadv2(
    ctx: &mut Ctx,
    fd: i32,
    vec: usize,
    count: usize,
    pos_low: i64,
    _pos_high: usize,
    flags: u32,
) -> Result<usize> {
    let position = if pos_low == -1 { None } else { Some(position(pos_low)?) };
    read_vector(ctx, fd, vec, count, position, flags)
}

/// pwritev2(2).
pub fn pwritev2(
    ctx: &mut Ctx,
    fd: i32,
    vec: usize,
    count: usize,
    pos_low: i64,
    _pos_high: usize,
    flags: u32,
) -> Result<usize> {
    let position = if pos_low == -1 { None } else { Some(position(pos_low)?) };
    write_vector(ctx, fd, vec, count, position, flags)
}

const RWF_KNOWN: u32 = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND;

fn check_rwf(file: &File, flags: u32) -> Result<()> {
    let nowait_possible = file.traits().intersects(FileTraits::POLLABLE | FileTraits::REGULAR);
    if flags & !RWF_KNOWN != 0 || flags & RWF_NOWAIT != 0 && !nowait_possible {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 && flags & RWF_NOAPPEND != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

fn read_vector(ctx: &Ctx, fd: i32, vec: usize, count: usize, at: Option<u64>, flags: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    check_rwf(&file, flags)?;
    if !file.mode().contains(FileMode::READ) {
        return Err(Errno::EBADF);
    }
    let segments = read_segments(vec, count)?;
    let mut buf = IoBuf::segments(&segments)?;
    buf.nowait = flags & RWF_NOWAIT != 0;
    let result = match at {
        None => file.read(&mut buf),
        Some(position) => file.read_at(position, &mut buf),
    };
    ctx.thread.count_read(&result);
    result
}

fn write_vector(ctx: &Ctx, fd: i32, vec: usize, count: usize, at: Option<u64>, flags: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    check_rwf(&file, flags)?;
    if !file.mode().contains(FileMode::WRITE) {
        return Err(Errno::EBADF);
    }
    let segments = read_segments(vec, count)?;
    let mut buf = IoBuf::segments(&segments)?;
    buf.nowait = flags & RWF_NOWAIT != 0;
    buf.append = flags & RWF_APPEND != 0;
    buf.no_append = flags & RWF_NOAPPEND != 0;
    buf.sync = match flags & (RWF_SYNC | RWF_DSYNC) {
        0 => 0,
        RWF_DSYNC => O_DSYNC,
        _ => O_SYNC,
    };
    write_from(ctx, &file, buf, at)
}

/// lseek(2).
pub fn lseek(ctx: &mut Ctx, fd: i32, offset: i64, whence: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    if whence > SEEK_HOLE {
        return Err(Errno::EINVAL);
    }
    file.seek(offset, whence).map(|position| position as usize)
}

// ---- descriptors ----

/// close(2).
pub fn close(ctx: &mut Ctx, fd: i32) -> Result<usize> {
    ctx.files().close(fd).map(|()| 0)
}

/// close_range(2).
pub fn close_range(ctx: &mut Ctx, first: u32, last: u32, flags: u32) -> Result<usize> {
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 && Arc::strong_count(ctx.files_arc()) > 1 {
        let own = ctx.files().duplicate()?;
        ctx.set_files(own);
    }
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        ctx.files().close_range_on_exec(first, last);
    } else {
        ctx.files().close_range(first, last);
    }
    Ok(0)
}

/// dup(2).
pub fn dup(ctx: &mut Ctx, fd: i32) -> Result<usize> {
    let file = ctx.files().get_any(fd)?;
    ctx.files().insert(file, false, descriptor_limit(ctx)).map(|fd| fd as usize)
}

/// dup2(2).
pub fn dup2(ctx: &mut Ctx, old: i32, new: i32) -> Result<usize> {
    let file = ctx.files().get_any(old)?;
    if old == new {
        return Ok(new as usize);
    }
    ctx.files().replace(new, file, false, descriptor_limit(ctx)).map(|fd| fd as usize)
}

/// dup3(2).
pub fn dup3(ctx: &mut Ctx, old: i32, new: i32, flags: u32) -> Result<usize> {
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let file = ctx.files().get_any(old)?;
    let close_on_exec = flags & O_CLOEXEC != 0;
    ctx.files().replace(new, file, close_on_exec, descriptor_limit(ctx)).map(|fd| fd as usize)
}

/// fcntl(2).
pub fn fcntl(ctx: &mut Ctx, fd: i32, cmd: u32, arg: usize) -> Result<usize> {
    let file = ctx.files().get_any(fd)?;
    match cmd {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let limit = descriptor_limit(ctx);
            let from =
                u32::try_from(arg).ok().filter(|from| u64::from(*from) < limit).ok_or(Errno::EINVAL)?;
            let fd = ctx.files().insert_from(from, file, cmd == F_DUPFD_CLOEXEC, limit)?;
            Ok(fd as usize)
        }
        F_GETFD => Ok(if ctx.files().is_close_on_exec(fd)? { FD_CLOEXEC as usize } else { 0 }),
        F_SETFD => ctx.files().set_close_on_exec(fd, arg as u32 & FD_CLOEXEC != 0).map(|()| 0),
        F_GETFL => Ok(file.flags() as usize),
        F_DUPFD_QUERY => {
            let other = ctx.files().get_any(arg as i32)?;
            Ok(usize::from(Arc::ptr_eq(&file, &other)))
        }
        _ if file.is_path_only() => Err(Errno::EBADF),
        F_SETFL => set_status_flags(ctx, &file, arg as u32),
        F_GETLK | F_OFD_GETLK => get_lock(ctx, &file, arg, cmd == F_OFD_GETLK),
        F_SETLK | F_SETLKW => set_lock(ctx, &file, arg, false, cmd == F_SETLKW),
        F_OFD_SETLK | F_OFD_SETLKW => set_lock(ctx, &file, arg, true, cmd == F_OFD_SETLKW),
        F_GETPIPE_SZ => pipe::of_file(&file).map(|pipe| pipe.capacity()).ok_or(Errno::EBADF),
        F_SETPIPE_SZ => {
            let pipe = pipe::of_file(&file).ok_or(Errno::EBADF)?;
            pipe.set_capacity(arg as u32 as usize, ctx.capable(abi::cap::CAP_SYS_RESOURCE))
        }
        F_GET_SEALS => shmem::seals(&file).map(|seals| seals as usize),
        F_ADD_SEALS => shmem::add_seals(&file, arg as u32).map(|()| 0),
        F_SETLEASE => set_lease(ctx, &file, fd, arg),
        F_GETLEASE => Ok(lock_type(leases::get(&file)) as usize),
        F_NOTIFY => {
            let (table, pid) = (ctx.files().owner_id(), ctx.process.pid() as i32);
            dnotify::set(&file, fd, table, pid, ctx.cred(), arg as u32).map(|()| 0)
        }
        F_GETOWN | F_SETOWN | F_GETOWN_EX | F_SETOWN_EX | F_GETSIG | F_SETSIG => owner(ctx, &file, cmd, arg),
        _ => Err(Errno::EINVAL),
    }
}

/// O_NOATIME needs the owner; append-only files do not exist here.
fn set_status_flags(ctx: &Ctx, file: &File, flags: u32) -> Result<usize> {
    let adds_noatime = flags & O_NOATIME != 0 && file.flags() & O_NOATIME == 0;
    if adds_noatime && !vfs::permission::is_owner(file.inode(), ctx.cred()) {
        return Err(Errno::EPERM);
    }
    file.set_flags(flags).map(|()| 0)
}

fn owner(ctx: &Ctx, file: &File, cmd: u32, arg: usize) -> Result<usize> {
    let mut owner = file.owner();
    let cred = ctx.cred();
    match cmd {
        F_GETOWN if owner.kind == F_OWNER_PGRP => return Ok((-owner.pid) as isize as usize),
        F_GETOWN => return Ok(owner.pid as usize),
        F_GETOWN_EX => {
            let out = FOwnerEx { kind: owner.kind, pid: owner.pid };
            usermem::write_bytes(arg, &out.to_bytes())?;
            return Ok(0);
        }
        F_GETSIG => return Ok(owner.signal as usize),
        F_SETSIG => {
            owner.signal =
                i32::try_from(arg).ok().filter(|signal| (0..=64).contains(signal)).ok_or(Errno::EINVAL)?;
        }
        F_SETOWN => {
            let pid = arg as i32;
            let kind = if pid < 0 { F_OWNER_PGRP } else { F_OWNER_PID };
            let pid = pid.checked_abs().ok_or(Errno::EINVAL)?;
            owner = Owner { kind, pid, uid: cred.uid, euid: cred.euid, signal: owner.signal };
        }
        _ => {
            let mut bytes = [0; FOwnerEx::SIZE];
            usermem::read_bytes(arg, &mut bytes)?;
            let new = FOwnerEx::from_bytes(&bytes);
            if !(F_OWNER_TID..=F_OWNER_PGRP).contains(&new.kind) {
                return Err(Errno::EINVAL);
            }
            owner =
                Owner { kind: new.kind, pid: new.pid, uid: cred.uid, euid: cred.euid, signal: owner.signal };
        }
    }
    file.set_owner(owner);
    Ok(0)
}

// ---- locks ----

fn lock_owner(ctx: &Ctx, file: &File, open_file: bool) -> LockOwner {
    if open_file {
        LockOwner::open_file(file)
    } else {
        LockOwner::process(ctx.files().owner_id(), ctx.process.pid() as i32)
    }
}

/// First and last byte of a `struct flock`. EINVAL, EOVERFLOW.
fn lock_range(file: &File, lock: &Flock) -> Result<(u64, u64)> {
    let base = match lock.l_whence as u32 {
        SEEK_SET => 0,
        SEEK_CUR => file.position() as i64,
        SEEK_END => file.inode().size() as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.l_start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match lock.l_len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start.wrapping_sub(1)),
    };
    Ok((position(start)?, position(end)?))
}

fn read_lock(addr: usize) -> Result<Flock> {
    let mut bytes = [0; Flock::SIZE];
    usermem::read_bytes(addr, &mut bytes)?;
    Ok(Flock::from_bytes(&bytes))
}

fn lock_kind(kind: i16) -> Result<Option<reclock::Kind>> {
    match kind {
        F_RDLCK => Ok(Some(reclock::Kind::Read)),
        F_WRLCK => Ok(Some(reclock::Kind::Write)),
        F_UNLCK => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

fn lock_type(kind: Option<reclock::Kind>) -> i16 {
    match kind {
        Some(reclock::Kind::Read) => F_RDLCK,
        Some(reclock::Kind::Write) => F_WRLCK,
        None => F_UNLCK,
    }
}

fn set_lease(ctx: &Ctx, file: &Arc<File>, fd: i32, arg: usize) -> Result<usize> {
    let kind = i16::try_from(arg as i32).map_err(|_| Errno::EINVAL).and_then(lock_kind)?;
    leases::set(file, fd, ctx.process.pid() as i32, ctx.cred(), kind).map(|()| 0)
}

fn get_lock(ctx: &Ctx, file: &File, arg: usize, open_file: bool) -> Result<usize> {
    let mut lock = read_lock(arg)?;
    if open_file && lock.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = lock_kind(lock.l_type)?.ok_or(Errno::EINVAL)?;
    let (start, end) = lock_range(file, &lock)?;
    match locks::test(file, lock_owner(ctx, file, open_file), start, end, kind)? {
        None => lock.l_type = F_UNLCK,
        Some(held) => {
            lock.l_type = lock_type(Some(held.kind));
            lock.l_whence = SEEK_SET as i16;
            lock.l_start = held.start as i64;
            lock.l_len = if held.end >= i64::MAX as u64 { 0 } else { (held.end - held.start + 1) as i64 };
            lock.l_pid = held.owner.pid;
        }
    }
    usermem::write_bytes(arg, &lock.to_bytes())?;
    Ok(0)
}

fn set_lock(ctx: &Ctx, file: &File, arg: usize, open_file: bool, wait: bool) -> Result<usize> {
    let lock = read_lock(arg)?;
    if open_file && lock.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = lock_kind(lock.l_type)?;
    let (start, end) = lock_range(file, &lock)?;
    let needed = match kind {
        Some(reclock::Kind::Read) => FileMode::READ,
        Some(reclock::Kind::Write) => FileMode::WRITE,
        None => FileMode::empty(),
    };
    if !file.mode().contains(needed) {
        return Err(Errno::EBADF);
    }
    locks::set(file, lock_owner(ctx, file, open_file), start, end, kind, wait).map(|()| 0)
}

/// flock(2).
pub fn flock(ctx: &mut Ctx, fd: i32, operation: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    let kind = match operation & !LOCK_NB {
        LOCK_SH => Some(reclock::Kind::Read),
        LOCK_EX => Some(reclock::Kind::Write),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    locks::flock(&file, ctx.process.pid() as i32, kind, operation & LOCK_NB == 0).map(|()| 0)
}

// ---- control ----

/// ioctl(2): the commands that all files know, then the file's own.
pub fn ioctl(ctx: &mut Ctx, fd: i32, cmd: u32, arg: usize) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    match cmd {
        FIOCLEX => ctx.files().set_close_on_exec(fd, true).map(|()| 0),
        FIONCLEX => ctx.files().set_close_on_exec(fd, false).map(|()| 0),
        FIONBIO => toggle_flag(&file, O_NONBLOCK, arg),
        FIOASYNC => toggle_flag(&file, FASYNC, arg),
        FIOQSIZE => match file.inode().file_type() {
            FileType::Regular | FileType::Directory | FileType::Symlink => {
                usermem::write_bytes(arg, &file.inode().size().to_ne_bytes())?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        },
        FIONREAD if file.inode().is_regular() => {
            let left = file.inode().size().saturating_sub(file.position());
            usermem::write_bytes(arg, &(left as i32).to_ne_bytes())?;
            Ok(0)
        }
        FIGETBSZ if file.inode().is_regular() || file.inode().is_dir() => {
            usermem::write_bytes(arg, &(file.inode().sb.block_size as i32).to_ne_bytes())?;
            Ok(0)
        }
        FS_IOC_GETFLAGS | FS_IOC_SETFLAGS | FS_IOC_GETVERSION | FS_IOC_FSGETXATTR | FS_IOC_FSSETXATTR
        | FS_IOC_FIEMAP | FITRIM
            if file.inode().is_regular() || file.inode().is_dir() =>
        {
            attributes::ioctl(ctx, &file, cmd, arg)
        }
        NS_GET_USERNS | NS_GET_PARENT if let Some(kind) = nsfs::kind_of(&file) => {
            let place = nsfs::path(nsfs::related(kind, cmd)?);
            install(ctx, vfs::open::open_at_place(&caller(ctx), place, O_RDONLY)?, true)
        }
        _ => file.ops().ioctl(&file, cmd, arg),
    }
}

fn toggle_flag(file: &File, flag: u32, arg: usize) -> Result<usize> {
    let mut on = [0; 4];
    usermem::read_bytes(arg, &mut on)?;
    let flags = if i32::from_ne_bytes(on) != 0 { file.flags() | flag } else { file.flags() & !flag };
    file.set_flags(flags).map(|()| 0)
}

/// fsync(2).
pub fn fsync(ctx: &mut Ctx, fd: i32) -> Result<usize> {
    ctx.files().get(fd)?.fsync(false).map(|()| 0)
}

/// fdatasync(2).
pub fn fdatasync(ctx: &mut Ctx, fd: i32) -> Result<usize> {
    ctx.files().get(fd)?.fsync(true).map(|()| 0)
}

/// sync(2).
pub fn sync(_ctx: &mut Ctx) -> Result<usize> {
    vfs::mount::sync_all();
    Ok(0)
}

/// syncfs(2).
pub fn syncfs(ctx: &mut Ctx, fd: i32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    let sb = &file.inode().sb;
    sb.ops.sync(sb, true).map(|()| 0)
}

/// sync_file_range(2).
pub fn sync_file_range(ctx: &mut Ctx, fd: i32, offset: i64, len: i64, flags: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    if flags & !SYNC_FILE_RANGE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let start = position(offset)?;
    let end = start.checked_add(position(len)?).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
    match file.inode().file_type() {
        FileType::Regular | FileType::BlockDevice | FileType::Directory | FileType::Symlink => {}
        _ => return Err(Errno::ESPIPE),
    }
    let last = if len == 0 { u64::MAX } else { end - 1 };
    match file.ops().mapping(&file) {
        Some(mapping) => vfs::cached::sync_range(&file, &mapping, start, last, flags).map(|()| 0),
        None => Ok(0),
    }
}

/// ftruncate(2).
pub fn ftruncate(ctx: &mut Ctx, fd: i32, len: i64) -> Result<usize> {
    let size = position(len)?;
    let file = ctx.files().get(fd)?;
    let limit = ctx.limit(RLIMIT_FSIZE);
    let result = attr::ftruncate(&caller(ctx), &file, size, limit);
    result.map(|()| 0).map_err(|error| write_error(ctx, error, limit))
}

/// fallocate(2).
pub fn fallocate(ctx: &mut Ctx, fd: i32, mode: u32, offset: i64, len: i64) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    check_fallocate(mode)?;
    if !file.mode().contains(FileMode::WRITE) {
        return Err(Errno::EBADF);
    }
    match file.inode().file_type() {
        FileType::Fifo => return Err(Errno::ESPIPE),
        FileType::Directory => return Err(Errno::EISDIR),
        FileType::Regular | FileType::BlockDevice => {}
        _ => return Err(Errno::ENODEV),
    }
    let attributes = file.inode().attributes();
    let append_only = attributes & FS_APPEND_FL != 0 && mode & !FALLOC_FL_KEEP_SIZE != 0;
    if attributes & FS_IMMUTABLE_FL != 0 || append_only {
        return Err(Errno::EPERM);
    }
    let (offset, len) = (offset as u64, len as u64);
    let end = offset.checked_add(len).filter(|end| *end <= file.inode().sb.max_bytes).ok_or(Errno::EFBIG)?;
    let limit = ctx.limit(RLIMIT_FSIZE);
    if mode & FALLOC_FL_KEEP_SIZE == 0 && end > limit && end > file.inode().size() {
        return Err(write_error(ctx, Errno::EFBIG, limit));
    }
    if file.inode().is_swap_file() {
        return Err(Errno::ETXTBSY);
    }
    file.ops().fallocate(&file, mode, offset, len)?;
    notify::file(&file, IN_MODIFY);
    Ok(0)
}

/// Whether there is such a mode of fallocate(2). EOPNOTSUPP.
fn check_fallocate(mode: u32) -> Result<()> {
    let keep_size = mode & FALLOC_FL_KEEP_SIZE != 0;
    let known = match mode & !FALLOC_FL_KEEP_SIZE {
        0 | FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_ZERO_RANGE => true,
        FALLOC_FL_PUNCH_HOLE => keep_size,
        FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE => !keep_size,
        _ => false,
    };
    if known { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// posix_fadvise(2).
pub fn fadvise64(ctx: &mut Ctx, fd: i32, offset: i64, len: i64, advice: i32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    if file.inode().file_type() == FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || !(0..=POSIX_FADV_MAX).contains(&advice) {
        return Err(Errno::EINVAL);
    }
    // A negative offset is a large one, as on Linux.
    if let Some(mapping) = file.ops().mapping(&file).filter(|mapping| !mapping.is_memory()) {
        vfs::cached::advise(&file, &mapping, offset as u64, len as u64, advice);
    }
    Ok(0)
}

/// readahead(2).
pub fn readahead(ctx: &mut Ctx, fd: i32, offset: i64, count: usize) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    if !file.mode().contains(FileMode::READ) {
        return Err(Errno::EBADF);
    }
    if !matches!(file.inode().file_type(), FileType::Regular | FileType::BlockDevice) {
        return Err(Errno::EINVAL);
    }
    if let Some(mapping) = file.ops().mapping(&file) {
        mapping.read_ahead(offset as u64, count as u64);
    }
    Ok(0)
}

// ---- moving data ----

/// The offset behind a pointer, if there is one.
fn read_offset(addr: usize) -> Result<Option<u64>> {
    if addr == 0 {
        return Ok(None);
    }
    let mut bytes = [0; 8];
    usermem::read_bytes(addr, &mut bytes)?;
    position(i64::from_ne_bytes(bytes)).map(Some)
}

fn write_offset(addr: usize, offset: Option<u64>) -> Result<()> {
    match offset {
        Some(offset) => usermem::write_bytes(addr, &offset.to_ne_bytes()),
        None => Ok(()),
    }
}

/// sendfile(2).
pub fn sendfile(ctx: &mut Ctx, out: i32, input: i32, offset: usize, count: usize) -> Result<usize> {
    let mut at = read_offset(offset)?;
    let (from, to) = (ctx.files().get(input)?, ctx.files().get(out)?);
    let limit = ctx.limit(RLIMIT_FSIZE);
    let result = splicing::sendfile(&to, &from, &mut at, count, limit);
    ctx.thread.count_read(&result);
    ctx.thread.count_write(&result);
    write_offset(offset, at)?;
    result.map_err(|error| write_error(ctx, error, limit))
}

/// copy_file_range(2).
pub fn copy_file_range(
    ctx: &mut Ctx,
    input: i32,
    input_offset: usize,
    out: i32,
    out_offset: usize,
    len: usize,
    flags: u32,
) -> Result<usize> {
    let (from, to) = (ctx.files().get(input)?, ctx.files().get(out)?);
    let (mut from_at, mut to_at) = (read_offset(input_offset)?, read_offset(out_offset)?);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let limit = ctx.limit(RLIMIT_FSIZE);
    let result = splicing::copy_file_range(&from, &mut from_at, &to, &mut to_at, len, limit);
    write_offset(input_offset, from_at)?;
    write_offset(out_offset, to_at)?;
    result.map_err(|error| write_error(ctx, error, limit))
}

const SPLICE_FLAGS: u32 = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

/// splice(2).
pub fn splice(
    ctx: &mut Ctx,
    input: i32,
    input_offset: usize,
    out: i32,
    out_offset: usize,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (ctx.files().get(input)?, ctx.files().get(out)?);
    let (mut from_at, mut to_at) = (read_offset(input_offset)?, read_offset(out_offset)?);
    let result = splicing::splice(&from, &mut from_at, &to, &mut to_at, len, flags);
    write_offset(input_offset, from_at)?;
    write_offset(out_offset, to_at)?;
    result.map_err(|error| write_error(ctx, error, u64::MAX))
}

/// tee(2).
pub fn tee(ctx: &mut Ctx, input: i32, out: i32, len: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (ctx.files().get(input)?, ctx.files().get(out)?);
    if len == 0 {
        return Ok(0);
    }
    splicing::tee(&from, &to, len, flags).map_err(|error| write_error(ctx, error, u64::MAX))
}

/// vmsplice(2). Pages are copied, never lent: what the program does to its memory afterwards stays its own.
pub fn vmsplice(ctx: &mut Ctx, fd: i32, vec: usize, count: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = ctx.files().get(fd)?;
    let segments = read_segments(vec, count)?;
    let mut buf = IoBuf::segments(&segments)?;
    splicing::vmsplice(&file, &mut buf, flags).map_err(|error| write_error(ctx, error, u64::MAX))
}

/// cachestat(2). Evicted are the pages of a memory object that are in swap. What a file's pages leave behind when they
/// go is known to the replacement policy alone, if to anybody: none of them counts, nor is any known as recent.
pub fn cachestat(ctx: &mut Ctx, fd: u32, range: usize, stat: usize, flags: u32) -> Result<usize> {
    let file = ctx.files().get(i32::try_from(fd).map_err(|_| Errno::EBADF)?)?;
    let [offset, len]: [u64; 2] = usermem::read(range)?;
    if !vfs::permission::may_see_residency(&file, &caller(ctx)) {
        return Err(Errno::EPERM);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let page = arch::PAGE_SIZE as u64;
    let end = if len == 0 { u64::MAX } else { offset.saturating_add(len) };
    let found =
        file.ops().mapping(&file).map(|mapping| mapping.cache_stat(offset / page..end.div_ceil(page)));
    let vm::CacheStat { cached, dirty, writeback, evicted } = found.unwrap_or_default();
    usermem::write(stat, &[cached, dirty, writeback, evicted, 0])?;
    Ok(0)
}

// ---- new objects ----

/// Puts a new file under a descriptor.
pub(crate) fn install(ctx: &Ctx, file: Arc<File>, close_on_exec: bool) -> Result<usize> {
    ctx.files().insert(file, close_on_exec, descriptor_limit(ctx)).map(|fd| fd as usize)
}

/// pipe(2).
pub fn pipe(ctx: &mut Ctx, fds: usize) -> Result<usize> {
    pipe2(ctx, fds, 0)
}

/// pipe2(2).
pub fn pipe2(ctx: &mut Ctx, fds: usize, flags: u32) -> Result<usize> {
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let (close_on_exec, limit) = (flags & O_CLOEXEC != 0, descriptor_limit(ctx));
    let files = ctx.files();
    let reader = files.reserve(close_on_exec, limit)?;
    let writer = files.reserve(close_on_exec, limit)?;
    let numbers = [reader.number(), writer.number()];
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&numbers[0].to_ne_bytes());
    bytes[4..].copy_from_slice(&numbers[1].to_ne_bytes());
    usermem::write_bytes(fds, &bytes)?;
    let (read_end, write_end) = pipe::pipe(flags, ctx.cred())?;
    reader.fill(read_end);
    writer.fill(write_end);
    Ok(0)
}

/// eventfd(2) without flags.
pub fn eventfd(ctx: &mut Ctx, initial: u32) -> Result<usize> {
    eventfd2(ctx, initial, 0)
}

/// eventfd(2).
pub fn eventfd2(ctx: &mut Ctx, initial: u32, flags: u32) -> Result<usize> {
    if flags & !(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    install(ctx, eventfd::eventfd(initial, flags), flags & EFD_CLOEXEC != 0)
}

/// memfd_create(2).
pub fn memfd_create(ctx: &mut Ctx, name: usize, flags: u32) -> Result<usize> {
    const NAME_MAX: usize = 249;
    let exclusive = flags & (MFD_EXEC | MFD_NOEXEC_SEAL) == MFD_EXEC | MFD_NOEXEC_SEAL;
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC) != 0 || exclusive {
        return Err(Errno::EINVAL);
    }
    let name = usermem::read_cstr(name, NAME_MAX + 1).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let file = shmem::memfd(&name, flags, ctx.cred())?;
    install(ctx, file, flags & MFD_CLOEXEC != 0)
}

// ---- directories ----

/// The most bytes of records collected at a time.
const DIR_BATCH: usize = 8192;

fn directory_batch(ctx: &Ctx, fd: i32, buf: usize, count: u32, rework: fn(&mut [u8])) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    let limit = (count as usize).min(DIR_BATCH);
    let mut sink = DirSink::new(limit)?;
    let before = file.position();
    file.iterate(&mut sink)?;
    if sink.bytes().is_empty() {
        return if sink.is_full() { Err(Errno::EINVAL) } else { Ok(0) };
    }
    let mut bytes = sink.into_bytes();
    rework(&mut bytes);
    if usermem::write_bytes(buf, &bytes).is_err() {
        file.with_position(|position| *position = before);
        return Err(Errno::EFAULT);
    }
    Ok(bytes.len())
}

/// getdents64(2).
pub fn getdents64(ctx: &mut Ctx, fd: i32, buf: usize, count: u32) -> Result<usize> {
    directory_batch(ctx, fd, buf, count, |_| {})
}

/// The old getdents(2): records of the same length, with the type in the last byte.
pub fn getdents(ctx: &mut Ctx, fd: i32, buf: usize, count: u32) -> Result<usize> {
    directory_batch(ctx, fd, buf, count, |mut rest| {
        while rest.len() >= 19 {
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]])).clamp(20, rest.len());
            let (record, after) = rest.split_at_mut(len);
            let kind = record[18];
            record.copy_within(19.., 18);
            record[len - 1] = kind;
            rest = after;
        }
    })
}

// ---- attributes of open files ----

/// Writes a `struct stat`.
pub(crate) fn write_stat(addr: usize, attr: &Attr) -> Result<usize> {
    usermem::write_bytes(addr, &attr.to_stat().to_bytes())?;
    Ok(0)
}

/// fstat(2).
pub fn fstat(ctx: &mut Ctx, fd: i32, stat: usize) -> Result<usize> {
    let file = ctx.files().get_any(fd)?;
    write_stat(stat, &attr::getattr(file.inode())?)
}

/// fchmod(2).
pub fn fchmod(ctx: &mut Ctx, fd: i32, mode: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    attr::chmod(&caller(ctx), file.path(), mode).map(|()| 0)
}

/// An id of chown(2): -1 keeps the old one.
pub(crate) fn id(value: u32) -> Option<u32> {
    (value != u32::MAX).then_some(value)
}

/// fchown(2).
pub fn fchown(ctx: &mut Ctx, fd: i32, uid: u32, gid: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    attr::chown(&caller(ctx), file.path(), id(uid), id(gid)).map(|()| 0)
}

/// fstatfs(2).
pub fn fstatfs(ctx: &mut Ctx, fd: i32, buf: usize) -> Result<usize> {
    let file = ctx.files().get_any(fd)?;
    path::write_statfs(file.path(), buf)
}

/// fchdir(2).
pub fn fchdir(ctx: &mut Ctx, fd: i32) -> Result<usize> {
    let place: Path = ctx.files().get_any(fd)?.path().clone();
    vfs::namei::change_dir(&caller(ctx), place).map(|()| 0)
}

/// umask(2).
pub fn umask(ctx: &mut Ctx, mask: u32) -> Result<usize> {
    Ok(ctx.fs().set_umask(mask) as usize)
}
