//! Attributes: stat(2), chmod(2), chown(2), utimensat(2), truncate(2).

use crate::cred::Cred;
use crate::file::{File, FileMode};
use crate::fs_context::Caller;
use crate::inode::{FileType, InodeFlags, InodeRef, TimeNs, now_ns};
use crate::leases;
use crate::notify;
use crate::path::Path;
use crate::permission;
use abi::cap::{CAP_CHOWN, CAP_FSETID};
use abi::fcntl::{FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NODUMP_FL, O_WRONLY};
use abi::inotify::{IN_ACCESS, IN_ATTRIB, IN_MODIFY};
use abi::stat::*;
use abi::{Errno, errno::Result};

/// What stat(2) and statx(2) tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attr {
    pub dev: DevId,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: DevId,
    pub size: u64,
    pub blksize: u32,
    /// 512-byte units.
    pub blocks: u64,
    pub atime: TimeNs,
    pub mtime: TimeNs,
    pub ctime: TimeNs,
    pub btime: TimeNs,
    /// What address, offset and length of direct I/O must be multiples of; 0: there is none.
    pub direct_align: u32,
    /// `STATX_ATTR_*` of those that are known of the inode.
    pub attributes: u64,
}

/// A change of attributes; what is `None` stays. Times are absolute.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeNs>,
    pub mtime: Option<TimeNs>,
    /// By default now.
    pub ctime: Option<TimeNs>,
}

/// The attributes of an inode.
pub fn getattr(inode: &InodeRef) -> Result<Attr> {
    let mut attr = Attr {
        dev: inode.sb.dev,
        ino: inode.ino,
        mode: inode.mode(),
        nlink: inode.nlink(),
        uid: inode.uid(),
        gid: inode.gid(),
        rdev: inode.rdev,
        size: inode.size(),
        blksize: inode.sb.block_size,
        blocks: inode.blocks(),
        atime: inode.atime(),
        mtime: inode.mtime(),
        ctime: inode.ctime(),
        btime: inode.btime(),
        direct_align: 0,
        attributes: statx_attributes(inode.attributes()),
    };
    if inode.flags.contains(InodeFlags::GETATTR) {
        inode.ops.getattr(inode, &mut attr)?;
    }
    Ok(attr)
}

fn statx_attributes(flags: u32) -> u64 {
    let pairs = [
        (FS_IMMUTABLE_FL, STATX_ATTR_IMMUTABLE),
        (FS_APPEND_FL, STATX_ATTR_APPEND),
        (FS_NODUMP_FL, STATX_ATTR_NODUMP),
    ];
    pairs.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, attribute)| all | attribute)
}

/// Seconds and nanoseconds of a time, the latter never negative.
#[inline]
pub fn split_time(at: TimeNs) -> (i64, u32) {
    if at >= 0 {
        let at = at as u64;
        return ((at / 1_000_000_000) as i64, (at % 1_000_000_000) as u32);
    }
    (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000) as u32)
}

/// A time from seconds and nanoseconds, clamped to what an inode keeps.
pub fn join_time(seconds: i64, nanoseconds: i64) -> TimeNs {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

impl Attr {
    /// `struct stat` of this architecture.
    #[inline]
    pub fn to_stat(&self) -> Stat {
        let ((atime, atime_ns), (mtime, mtime_ns), (ctime, ctime_ns)) =
            (split_time(self.atime), split_time(self.mtime), split_time(self.ctime));
        Stat {
            st_dev: self.dev.encode(),
            st_ino: self.ino,
            st_nlink: self.nlink as StatNlink,
            st_mode: self.mode,
            st_uid: self.uid,
            st_gid: self.gid,
            st_rdev: self.rdev.encode(),
            st_size: self.size as i64,
            st_blksize: self.blksize as StatBlksize,
            st_blocks: self.blocks as i64,
            st_atime: atime,
            st_atime_nsec: u64::from(atime_ns),
            st_mtime: mtime,
            st_mtime_nsec: u64::from(mtime_ns),
            st_ctime: ctime,
            st_ctime_nsec: u64::from(ctime_ns),
            ..Stat::default()
        }
    }

    /// `struct statx`; `place` gives mount id and whether it is a mount's root.
    pub fn to_statx(&self, place: &Path) -> Statx {
        let root = if place.is_mount_root() { STATX_ATTR_MOUNT_ROOT } else { 0 };
        let times = [self.atime, self.btime, self.ctime, self.mtime].map(split_time);
        Statx {
            mask: STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID | STATX_DIOALIGN,
            dio_mem_align: self.direct_align,
            dio_offset_align: self.direct_align,
            blksize: self.blksize,
            attributes: self.attributes | root,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            mode: self.mode as u16,
            ino: self.ino,
            size: self.size,
            blocks: self.blocks,
            attributes_mask: STATX_ATTR_MOUNT_ROOT
                | STATX_ATTR_IMMUTABLE
                | STATX_ATTR_APPEND
                | STATX_ATTR_NODUMP,
            atime_s: times[0].0,
            atime_ns: times[0].1,
            btime_s: times[1].0,
            btime_ns: times[1].1,
            ctime_s: times[2].0,
            ctime_ns: times[2].1,
            mtime_s: times[3].0,
            mtime_ns: times[3].1,
            rdev_major: self.rdev.major,
            rdev_minor: self.rdev.minor,
            dev_major: self.dev.major,
            dev_minor: self.dev.minor,
            mnt_id: place.mount.id,
            ..Statx::default()
        }
    }
}

/// Applies a checked change under the inode's lock; `event` is what it is to those who watch.
fn set_locked(path: &Path, set: &SetAttr, event: u32) -> Result<()> {
    let inode = path.inode();
    {
        let _contents = inode.contents.write();
        inode.ops.setattr(inode, set)?;
    }
    notify::dentry(&path.dentry, event);
    Ok(())
}

/// chmod(2).
pub fn chmod(caller: &Caller, path: &Path, mode: u32) -> Result<()> {
    path.mount.check_writable()?;
    let inode = path.inode();
    if inode.is_symlink() {
        return Err(Errno::EOPNOTSUPP);
    }
    let cred = caller.cred;
    if !permission::is_owner(inode, cred) {
        return Err(Errno::EPERM);
    }
    permission::check_changeable(inode)?;
    let mut mode = mode & S_IALLUGO;
    if !cred.in_group(inode.gid()) && !cred.capable(CAP_FSETID) {
        mode &= !S_ISGID;
    }
    set_locked(path, &SetAttr { mode: Some(mode), ..SetAttr::default() }, IN_ATTRIB)
}

/// chown(2); `None` keeps an id.
pub fn chown(caller: &Caller, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    path.mount.check_writable()?;
    let inode = path.inode();
    let cred = caller.cred;
    let owns = cred.fsuid == inode.uid();
    let uid_allowed = uid.is_none_or(|uid| owns && uid == inode.uid());
    let gid_allowed = gid.is_none_or(|gid| owns && (gid == inode.gid() || cred.in_group(gid)));
    if !(uid_allowed && gid_allowed) && !cred.capable(CAP_CHOWN) {
        return Err(Errno::EPERM);
    }
    permission::check_changeable(inode)?;
    let mut set = SetAttr { uid, gid, ..SetAttr::default() };
    // Even a change of nothing takes the privileges away, as on Linux.
    if !inode.is_dir() {
        set.mode = without_privileges(inode);
    }
    set_locked(path, &set, IN_ATTRIB)
}

/// The mode with set-user-id and set-group-id off, if they are on: S_ISGID without group execution means
/// something else and stays.
fn without_privileges(inode: &InodeRef) -> Option<u32> {
    let mode = inode.mode();
    let mut new = mode & !S_ISUID;
    if mode & S_IXGRP != 0 {
        new &= !S_ISGID;
    }
    (new != mode).then_some(new & S_IALLUGO)
}

/// After a write by somebody without CAP_FSETID: the file stops being set-id. Contents lock held.
#[inline]
pub fn drop_privileges(inode: &InodeRef, cred: Option<&Cred>) -> Result<()> {
    if inode.mode() & (S_ISUID | S_ISGID) == 0 || cred.is_some_and(|cred| cred.capable(CAP_FSETID)) {
        return Ok(());
    }
    match without_privileges(inode) {
        Some(mode) => inode.ops.setattr(inode, &SetAttr { mode: Some(mode), ..SetAttr::default() }),
        None => Ok(()),
    }
}

/// One time of utimensat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    Now,
    Omit,
    At(TimeNs),
}

/// utimensat(2).
pub fn set_times(caller: &Caller, path: &Path, atime: NewTime, mtime: NewTime) -> Result<()> {
    if (atime, mtime) == (NewTime::Omit, NewTime::Omit) {
        return Ok(());
    }
    path.mount.check_writable()?;
    let inode = path.inode();
    let both_now = (atime, mtime) == (NewTime::Now, NewTime::Now);
    // What is append only may be touched.
    if !both_now || inode.attributes() & FS_IMMUTABLE_FL != 0 {
        permission::check_changeable(inode)?;
    }
    if !permission::is_owner(inode, caller.cred) {
        if !both_now {
            return Err(Errno::EPERM);
        }
        permission::check_inode(inode, W_OK, caller)?;
    }
    let now = now_ns();
    let value = |time| match time {
        NewTime::Now => Some(now),
        NewTime::Omit => None,
        NewTime::At(at) => Some(at),
    };
    let event = match (value(atime), value(mtime)) {
        (Some(_), None) => IN_ACCESS,
        (None, Some(_)) => IN_MODIFY,
        _ => IN_ATTRIB,
    };
    let set = SetAttr { atime: value(atime), mtime: value(mtime), ctime: Some(now), ..SetAttr::default() };
    set_locked(path, &set, event)
}

/// truncate(2). `size_limit`: RLIMIT_FSIZE; EFBIG above it (the caller raises SIGXFSZ).
pub fn truncate(caller: &Caller, path: &Path, size: u64, size_limit: u64) -> Result<()> {
    let inode = path.inode();
    match inode.file_type() {
        FileType::Directory => return Err(Errno::EISDIR),
        FileType::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    path.mount.check_writable()?;
    permission::check_inode(inode, W_OK, caller)?;
    permission::check_not_append_only(inode)?;
    inode.begin_write()?;
    let result = leases::break_lease(inode, O_WRONLY)
        .and_then(|()| resize(inode, size, size_limit, Some(caller.cred)));
    inode.end_write();
    result?;
    notify::dentry(&path.dentry, IN_MODIFY);
    Ok(())
}

/// ftruncate(2).
pub fn ftruncate(caller: &Caller, file: &File, size: u64, size_limit: u64) -> Result<()> {
    if !file.mode().contains(FileMode::WRITE) || !file.inode().is_regular() {
        return Err(Errno::EINVAL);
    }
    permission::check_not_append_only(file.inode())?;
    resize(file.inode(), size, size_limit, Some(caller.cred))?;
    notify::dentry(&file.path().dentry, IN_MODIFY);
    Ok(())
}

/// Sets the size of a regular file, rights checked.
pub(crate) fn resize(inode: &InodeRef, size: u64, size_limit: u64, cred: Option<&Cred>) -> Result<()> {
    if size > inode.sb.max_bytes || (size > inode.size() && size > size_limit) {
        return Err(Errno::EFBIG);
    }
    let _contents = inode.contents.write();
    if inode.is_swap_file() {
        return Err(Errno::ETXTBSY);
    }
    drop_privileges(inode, cred)?;
    let now = now_ns();
    inode.ops.setattr(
        inode,
        &SetAttr { size: Some(size), mtime: Some(now), ctime: Some(now), ..SetAttr::default() },
    )?;
    if inode.is_synchronous() { inode.ops.sync_metadata(inode) } else { Ok(()) }
}

/// access(2): the caller's credentials are those of [`Cred::for_access`] or, with AT_EACCESS, its own.
pub fn access(caller: &Caller, path: &Path, mask: u32) -> Result<()> {
    if mask & X_OK != 0
        && path.inode().is_regular()
        && path.mount.flags().contains(crate::mount::MountFlags::NOEXEC)
    {
        return Err(Errno::EACCES);
    }
    permission::check_path(path, mask, caller)
}
