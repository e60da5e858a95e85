//! Mounting by steps: fsopen(2), fsmount(2), move_mount(2) and their kin.

use crate::fs::{caller, install};
use crate::path::find_or_self;
use crate::{Ctx, Errno, Result};
use abi::cap::CAP_SYS_ADMIN;
use abi::fcntl::{AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, O_CLOEXEC};
use abi::fs::*;
use kcore::usermem;
use vfs::{MountFlags, Path, mount_steps as steps};
use zerocopy::IntoBytes;

/// Names of options, with their end; and the values of strings.
const KEY_MAX: usize = 256;

fn check_right(ctx: &Ctx) -> Result<()> {
    if ctx.capable(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// EINVAL for flags that are not known.
fn known(flags: u32, all: u32) -> Result<()> {
    if flags & !all == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// fsopen(2).
pub fn fsopen(ctx: &mut Ctx, name: usize, flags: u32) -> Result<usize> {
    check_right(ctx)?;
    known(flags, FSOPEN_CLOEXEC)?;
    let name = usermem::read_cstr(name, arch::PAGE_SIZE)?;
    let file = steps::open(&caller(ctx), &name)?;
    install(ctx, file, flags & FSOPEN_CLOEXEC != 0)
}

/// fsconfig(2). Values are strings and flags: no file system here takes others.
pub fn fsconfig(ctx: &mut Ctx, fd: i32, command: u32, key: usize, value: usize, aux: i32) -> Result<usize> {
    let (has_key, has_value) = (key != 0, value != 0);
    let fits = fd >= 0
        && match command {
            FSCONFIG_SET_FLAG => has_key && !has_value && aux == 0,
            FSCONFIG_SET_STRING => has_key && has_value && aux == 0,
            FSCONFIG_SET_BINARY => has_key && has_value && (1..=1024 * 1024).contains(&aux),
            FSCONFIG_SET_PATH | FSCONFIG_SET_PATH_EMPTY => {
                has_key && has_value && (aux == AT_FDCWD || aux >= 0)
            }
            FSCONFIG_SET_FD => has_key && !has_value && aux >= 0,
            FSCONFIG_CMD_CREATE | FSCONFIG_CMD_RECONFIGURE | FSCONFIG_CMD_CREATE_EXCL => {
                !has_key && !has_value && aux == 0
            }
            _ => return Err(Errno::EOPNOTSUPP),
        };
    if !fits {
        return Err(Errno::EINVAL);
    }
    let file = ctx.files().get(fd)?;
    let context = steps::context_of(&file)?;
    match command {
        FSCONFIG_SET_FLAG => context.set(&usermem::read_cstr(key, KEY_MAX)?, None)?,
        FSCONFIG_SET_STRING => {
            let (key, value) = (usermem::read_cstr(key, KEY_MAX)?, usermem::read_cstr(value, KEY_MAX)?);
            context.set(&key, Some(&value))?;
        }
        FSCONFIG_CMD_CREATE => context.create(&caller(ctx))?,
        FSCONFIG_CMD_RECONFIGURE => context.reconfigure(&caller(ctx))?,
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(0)
}

/// `MOUNT_ATTR_*` but for access times.
const PLAIN: [(u64, MountFlags); 6] = [
    (MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
    (MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
    (MOUNT_ATTR_NODEV, MountFlags::NODEV),
    (MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    (MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
    (MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
];

/// The flags of a mount that attributes stand for. EINVAL for what is not known.
fn mount_flags(attributes: u64) -> Result<MountFlags> {
    let all = PLAIN.iter().fold(MOUNT_ATTR__ATIME, |all, (bit, _)| all | bit);
    if attributes & !all != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = match attributes & MOUNT_ATTR__ATIME {
        0 => MountFlags::empty(),
        MOUNT_ATTR_NOATIME => MountFlags::NOATIME,
        MOUNT_ATTR_STRICTATIME => MountFlags::STRICTATIME,
        _ => return Err(Errno::EINVAL),
    };
    for (bit, flag) in PLAIN {
        flags.set(flag, attributes & bit != 0);
    }
    Ok(flags)
}

/// fsmount(2).
pub fn fsmount(ctx: &mut Ctx, fd: i32, flags: u32, attributes: u32) -> Result<usize> {
    check_right(ctx)?;
    known(flags, FSMOUNT_CLOEXEC)?;
    let mount_flags = mount_flags(u64::from(attributes))?;
    let file = ctx.files().get(fd)?;
    let mount = steps::context_of(&file)?.mount(&caller(ctx), mount_flags)?;
    install(ctx, mount, flags & FSMOUNT_CLOEXEC != 0)
}

/// fspick(2).
pub fn fspick(ctx: &mut Ctx, dirfd: i32, path: usize, flags: u32) -> Result<usize> {
    check_right(ctx)?;
    known(flags, FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH)?;
    let place =
        place(ctx, dirfd, path, flags & FSPICK_SYMLINK_NOFOLLOW == 0, flags & FSPICK_EMPTY_PATH != 0)?;
    let file = steps::pick(&caller(ctx), &place)?;
    install(ctx, file, flags & FSPICK_CLOEXEC != 0)
}

/// What a descriptor and a path name.
fn place(ctx: &Ctx, dirfd: i32, path: usize, follow: bool, empty: bool) -> Result<Path> {
    let mut flags = if follow { 0 } else { AT_SYMLINK_NOFOLLOW };
    flags |= if empty { AT_EMPTY_PATH } else { 0 };
    find_or_self(ctx, dirfd, path, flags)
}

/// open_tree(2).
pub fn open_tree(ctx: &mut Ctx, dirfd: i32, path: usize, flags: u32) -> Result<usize> {
    const AT: u32 = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW;
    known(flags, AT | OPEN_TREE_CLONE | O_CLOEXEC)?;
    let clones = flags & OPEN_TREE_CLONE != 0;
    if flags & AT_RECURSIVE != 0 && !clones {
        return Err(Errno::EINVAL);
    }
    if clones {
        check_right(ctx)?;
    }
    let place = find_or_self(ctx, dirfd, path, flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))?;
    let file = match clones {
        true => steps::clone_tree(&caller(ctx), &place, flags & AT_RECURSIVE != 0)?,
        false => steps::open_tree(place),
    };
    install(ctx, file, flags & O_CLOEXEC != 0)
}

/// move_mount(2).
pub fn move_mount(
    ctx: &mut Ctx,
    from_dirfd: i32,
    from: usize,
    to_dirfd: i32,
    to: usize,
    flags: u32,
) -> Result<usize> {
    check_right(ctx)?;
    const FROM: u32 = MOVE_MOUNT_F_SYMLINKS | MOVE_MOUNT_F_AUTOMOUNTS | MOVE_MOUNT_F_EMPTY_PATH;
    const TO: u32 = MOVE_MOUNT_T_SYMLINKS | MOVE_MOUNT_T_AUTOMOUNTS | MOVE_MOUNT_T_EMPTY_PATH;
    // Putting it beneath another mount, or into a group that propagates, is not there.
    known(flags, FROM | TO)?;
    let has = |bit| flags & bit != 0;
    let from = place(ctx, from_dirfd, from, has(MOVE_MOUNT_F_SYMLINKS), has(MOVE_MOUNT_F_EMPTY_PATH))?;
    let to = place(ctx, to_dirfd, to, has(MOVE_MOUNT_T_SYMLINKS), has(MOVE_MOUNT_T_EMPTY_PATH))?;
    steps::move_to(&caller(ctx), &from, &to).map(|()| 0)
}

/// mount_setattr(2). Mounts are private: to say so changes nothing, and to share one is EINVAL.
pub fn mount_setattr(
    ctx: &mut Ctx,
    dirfd: i32,
    path: usize,
    flags: u32,
    attributes: usize,
    size: usize,
) -> Result<usize> {
    known(flags, AT_EMPTY_PATH | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)?;
    if size > arch::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < size_of::<MountAttr>() {
        return Err(Errno::EINVAL);
    }
    check_right(ctx)?;
    let asked: MountAttr = usermem::read_extensible(attributes, size)?;
    if asked.set == 0 && asked.clear == 0 && asked.propagation == 0 {
        return Ok(0);
    }
    let unbindable = match asked.propagation {
        0 => None,
        MS_PRIVATE | MS_SLAVE => Some(false),
        MS_UNBINDABLE => Some(true),
        _ => return Err(Errno::EINVAL),
    };
    // Access times are one property of three values: to set it, all of its bits are cleared.
    let clears_atime = match asked.clear & MOUNT_ATTR__ATIME {
        0 if asked.set & MOUNT_ATTR__ATIME != 0 => return Err(Errno::EINVAL),
        0 => false,
        MOUNT_ATTR__ATIME => true,
        _ => return Err(Errno::EINVAL),
    };
    let set = mount_flags(asked.set)?;
    let mut clear = mount_flags(asked.clear & !MOUNT_ATTR__ATIME)?;
    if clears_atime {
        clear |= MountFlags::NOATIME | MountFlags::STRICTATIME;
    }
    let place = find_or_self(ctx, dirfd, path, flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))?;
    let recursive = flags & AT_RECURSIVE != 0;
    steps::set_attributes(&caller(ctx), &place, recursive, (set, clear), unbindable).map(|()| 0)
}

/// What statmount(2) and listmount(2) are asked.
fn read_request(address: usize, flags: u32) -> Result<MntIdReq> {
    known(flags, 0)?;
    let size: u32 = usermem::read(address)?;
    if size as usize > arch::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if (size as usize) < size_of::<MntIdReq>() {
        return Err(Errno::EINVAL);
    }
    let request: MntIdReq = usermem::read_extensible(address, size as usize)?;
    if request.spare != 0 || request.mnt_id <= MNT_UNIQUE_ID_OFFSET {
        return Err(Errno::EINVAL);
    }
    Ok(request)
}

/// statmount(2). EOVERFLOW when the buffer does not take the strings that are asked for.
pub fn statmount(ctx: &mut Ctx, request: usize, buffer: usize, size: usize, flags: u32) -> Result<usize> {
    let request = read_request(request, flags)?;
    let (stat, strings) = vfs::mount_stat::stat(&caller(ctx), request.mnt_id, request.param)?;
    let fixed = size_of::<StatMount>();
    if !strings.is_empty() && size < fixed + strings.len() {
        return Err(Errno::EOVERFLOW);
    }
    usermem::write_bytes(buffer, &stat.as_bytes()[..size.min(fixed)])?;
    if !strings.is_empty() {
        usermem::write_bytes(buffer.checked_add(fixed).ok_or(Errno::EFAULT)?, &strings)?;
    }
    Ok(0)
}

/// listmount(2): how many numbers were written.
pub fn listmount(ctx: &mut Ctx, request: usize, ids: usize, count: usize, flags: u32) -> Result<usize> {
    const MOST: usize = 1_000_000;
    known(flags, 0)?;
    if count > MOST {
        return Err(Errno::EOVERFLOW);
    }
    crate::fs::check_user_range(ids, count * size_of::<u64>())?;
    let request = read_request(request, flags)?;
    let mut done = 0;
    for id in vfs::mount_stat::list(&caller(ctx), request.mnt_id, request.param)?.take(count) {
        usermem::write(ids + done * size_of::<u64>(), &id)?;
        done += 1;
    }
    Ok(done)
}
