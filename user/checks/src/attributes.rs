//! Flags of chattr(1), access control lists, and where a file's data is.
//!
//! Everything is in /tmp, so what is checked is the file system that is mounted there; run as root.

use crate::caching;
use crate::names::scratch;
use crate::{Check, Failure, Outcome, ensure, equal, skip};
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, fs, process, syscall};

pub const CHECKS: &[Check] = &[
    ("flags_are_kept", flags_are_kept),
    ("immutable_file", immutable_file),
    ("immutable_directory", immutable_directory),
    ("append_only_file", append_only_file),
    ("append_only_directory", append_only_directory),
    ("no_access_times", no_access_times),
    ("synchronous_file", synchronous_file),
    ("flags_of_others", flags_of_others),
    ("extended_flags", extended_flags),
    ("extents", extents),
    ("list_gives_and_takes", list_gives_and_takes),
    ("list_and_mode", list_and_mode),
    ("list_of_a_directory", list_of_a_directory),
    ("default_list", default_list),
    ("bad_lists", bad_lists),
];

const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const GETVERSION: u32 = 0x8008_7601;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;
const FIEMAP: u32 = 0xc020_660b;
const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;
const NODUMP: u32 = 0x40;
const NOATIME: u32 = 0x80;
const SYNC: u32 = 0x8;
const KNOWN: u32 = IMMUTABLE | APPEND | NODUMP | NOATIME;

/// Any call. Each use passes addresses of its own live memory with their true lengths, or none.
fn call(number: u32, args: [usize; 5]) -> Result<usize> {
    // SAFETY: 1. by the sentence above.
    unsafe { syscall!(number, args[0], args[1], args[2], args[3], args[4]) }
}

fn ioctl<T>(fd: Fd, command: u32, value: &mut T) -> Result<()> {
    call(__NR_ioctl, [fd as usize, command as usize, core::ptr::from_mut(value) as usize, 0, 0]).map(drop)
}

fn flags(fd: Fd) -> Result<u32> {
    let mut flags = 0u64;
    ioctl(fd, GETFLAGS, &mut flags)?;
    Ok(flags as u32)
}

/// Changes the flags of [`KNOWN`] and keeps the others, as chattr does.
fn set_flags(fd: Fd, new: u32) -> Result<()> {
    let mut value = u64::from(flags(fd)? & !KNOWN | new);
    ioctl(fd, SETFLAGS, &mut value)
}

/// A file whose flags can be changed; skips where the file system has none. The flags are taken off when it drops, or
/// nothing could remove the file.
struct Flagged(Fd);

impl Flagged {
    fn open(path: &CStr, open_flags: u32) -> core::result::Result<Flagged, Failure> {
        let fd = fs::open(path, open_flags, 0o644)?;
        match set_flags(fd, NODUMP) {
            Ok(()) => Ok(Flagged(fd)),
            Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Err(skip("no such flags on /tmp")),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        let _ = set_flags(self.0, 0);
    }
}

fn flags_are_kept() -> Outcome {
    scratch()?;
    let file = Flagged::open(c"f", O_CREAT | O_RDWR)?;
    equal!(flags(file.0)? & KNOWN, NODUMP);
    set_flags(file.0, NOATIME | NODUMP)?;
    equal!(flags(fs::open(c"f", O_RDONLY, 0)?)? & KNOWN, NOATIME | NODUMP);
    let mut unknown = 1u64 << 31;
    equal!(ioctl(file.0, SETFLAGS, &mut unknown), Err(Errno::EOPNOTSUPP));
    let mut version = 0u64;
    let told = ioctl(file.0, GETVERSION, &mut version);
    ensure!(matches!(told, Ok(()) | Err(Errno::ENOTTY)), "{told:?}");
    let (read, _) = io::pipe(0)?;
    equal!(flags(read), Err(Errno::ENOTTY));
    Ok(())
}

fn immutable_file() -> Outcome {
    scratch()?;
    let file = Flagged::open(c"f", O_CREAT | O_RDWR)?;
    io::write_all(file.0, b"text")?;
    set_flags(file.0, IMMUTABLE)?;
    let eperm = |result: Result<()>| result == Err(Errno::EPERM);
    ensure!(eperm(fs::open(c"f", O_WRONLY, 0).map(drop)), "opened for writing");
    ensure!(eperm(fs::unlink(c"f")), "removed");
    ensure!(eperm(fs::rename(c"f", c"g", 0)), "renamed");
    ensure!(eperm(fs::link(c"f", c"g")), "linked");
    ensure!(eperm(fs::chmod(c"f", 0o600)), "chmod");
    ensure!(eperm(truncate(c"f")), "truncated");
    ensure!(eperm(set_attribute(c"f", b"user.a\0", b"b")), "attribute");
    let cwd = AT_FDCWD as isize as usize;
    equal!(call(__NR_utimensat, [cwd, c"f".as_ptr() as usize, 0, 0, 0]), Err(Errno::EPERM));
    io::close(fs::open(c"f", O_RDONLY, 0)?)?;
    let mut told = [0u32; 64];
    call(__NR_statx, [cwd, c"f".as_ptr() as usize, 0, 0x7ff, told.as_mut_ptr() as usize])?;
    equal!(told[2] & (IMMUTABLE | APPEND), IMMUTABLE);
    set_flags(file.0, 0)?;
    fs::unlink(c"f")?;
    Ok(())
}

fn truncate(path: &CStr) -> Result<()> {
    call(__NR_truncate, [path.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
}

fn set_attribute(path: &CStr, name: &[u8], value: &[u8]) -> Result<()> {
    let (path, name) = (path.as_ptr() as usize, name.as_ptr() as usize);
    call(__NR_setxattr, [path, name, value.as_ptr() as usize, value.len(), 0]).map(drop)
}

fn touch(path: &CStr) -> Result<()> {
    io::close(fs::open(path, O_CREAT | O_WRONLY, 0o666)?)
}

fn immutable_directory() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o755)?;
    let dir = Flagged::open(c"d", O_RDONLY | O_DIRECTORY)?;
    touch(c"d/f")?;
    set_flags(dir.0, IMMUTABLE)?;
    equal!(touch(c"d/g"), Err(Errno::EPERM));
    equal!(fs::unlink(c"d/f"), Err(Errno::EPERM));
    equal!(fs::mkdir(c"d/e", 0o755), Err(Errno::EPERM));
    // Its files are another matter.
    fs::chmod(c"d/f", 0o600)?;
    Ok(())
}

fn append_only_file() -> Outcome {
    scratch()?;
    let file = Flagged::open(c"f", O_CREAT | O_RDWR)?;
    io::write_all(file.0, b"text")?;
    set_flags(file.0, APPEND)?;
    equal!(fs::open(c"f", O_WRONLY, 0).map(drop), Err(Errno::EPERM));
    equal!(fs::open(c"f", O_WRONLY | O_APPEND | O_TRUNC, 0).map(drop), Err(Errno::EPERM));
    equal!(truncate(c"f"), Err(Errno::EPERM));
    equal!(fs::ftruncate(file.0, 0), Err(Errno::EPERM));
    equal!(fs::unlink(c"f"), Err(Errno::EPERM));
    equal!(fs::chmod(c"f", 0o600), Err(Errno::EPERM));
    let log = fs::open(c"f", O_WRONLY | O_APPEND, 0)?;
    io::write_all(log, b" more")?;
    equal!(io::fcntl(log, F_SETFL, 0), Err(Errno::EPERM));
    equal!(fs::read_file(c"f")?, b"text more");
    // It may be touched, but not made to look older.
    let cwd = AT_FDCWD as isize as usize;
    call(__NR_utimensat, [cwd, c"f".as_ptr() as usize, 0, 0, 0])?;
    let old = [1i64, 0, 1, 0];
    let set = call(__NR_utimensat, [cwd, c"f".as_ptr() as usize, old.as_ptr() as usize, 0, 0]);
    equal!(set, Err(Errno::EPERM));
    Ok(())
}

fn append_only_directory() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o755)?;
    let dir = Flagged::open(c"d", O_RDONLY | O_DIRECTORY)?;
    touch(c"d/f")?;
    set_flags(dir.0, APPEND)?;
    touch(c"d/g")?;
    equal!(fs::unlink(c"d/f"), Err(Errno::EPERM));
    equal!(fs::rename(c"d/f", c"d/h", 0), Err(Errno::EPERM));
    set_flags(dir.0, 0)?;
    fs::unlink(c"d/f")?;
    Ok(())
}

fn no_access_times() -> Outcome {
    scratch()?;
    let file = Flagged::open(c"f", O_CREAT | O_RDWR)?;
    io::write_all(file.0, b"text")?;
    set_flags(file.0, NOATIME)?;
    let cwd = AT_FDCWD as isize as usize;
    let old = [1i64, 0, 1, 0];
    call(__NR_utimensat, [cwd, c"f".as_ptr() as usize, old.as_ptr() as usize, 0, 0])?;
    io::pread(file.0, &mut [0; 4], 0)?;
    equal!(fs::stat(c"f")?.st_atime as i64, 1);
    set_flags(file.0, 0)?;
    io::pread(file.0, &mut [0; 4], 0)?;
    ensure!(fs::stat(c"f")?.st_atime as i64 > 1, "the access time stays");
    Ok(())
}

/// Runs in a child that is nobody special: user 1000, these groups.
fn as_user(user: usize, groups: &[u32], f: impl FnOnce() -> bool) -> core::result::Result<bool, Failure> {
    let status = process::in_child(|| {
        let dropped = call(__NR_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0])
            .and_then(|_| call(__NR_setresgid, [user, user, user, 0, 0]))
            .and_then(|_| call(__NR_setresuid, [user, user, user, 0, 0]));
        if dropped.is_err() { 9 } else { i32::from(!f()) }
    })?;
    match status.exit_code() {
        Some(code @ (0 | 1)) => Ok(code == 0),
        _ => Err(skip("cannot become another user")),
    }
}

/// Pages that are not on the disk; `None` where nothing tells.
fn unwritten(fd: Fd) -> Result<Option<u64>> {
    match caching::stat_of(fd, [0, 0], 0) {
        Ok([_, dirty, writeback, ..]) => Ok(Some(dirty + writeback)),
        Err(Errno::ENOSYS) => Ok(None),
        Err(error) => Err(error),
    }
}

/// chattr's `S`: what is written is on the disk when the call returns, and so with files that are made in such a
/// directory.
fn synchronous_file() -> Outcome {
    scratch()?;
    let file = Flagged::open(c"f", O_CREAT | O_RDWR)?;
    let mut value = u64::from(flags(file.0)? | SYNC);
    match ioctl(file.0, SETFLAGS, &mut value) {
        Err(Errno::EOPNOTSUPP) => return Err(skip("no such flag on /tmp")),
        set => set?,
    }
    io::write_all(file.0, &[7; 8192])?;
    let Some(left) = unwritten(file.0)? else { return Err(skip("no cachestat")) };
    equal!(left, 0);
    equal!(io::pwrite(file.0, &[8; 10], 9000)?, 10);
    equal!(unwritten(file.0)?, Some(0));
    fs::mkdir(c"d", 0o755)?;
    let dir = fs::open(c"d", O_RDONLY, 0)?;
    let mut value = u64::from(flags(dir)? | SYNC);
    ioctl(dir, SETFLAGS, &mut value)?;
    let heir = fs::open(c"d/f", O_CREAT | O_RDWR, 0o644)?;
    equal!(flags(heir)? & SYNC, SYNC);
    io::write_all(heir, b"text")?;
    equal!(unwritten(heir)?, Some(0));
    fs::rename(c"d/f", c"d/g", 0)?;
    Ok(fs::unlink(c"d/g")?)
}

fn flags_of_others() -> Outcome {
    scratch()?;
    drop(Flagged::open(c"f", O_CREAT | O_RDWR)?);
    let path = c"f".as_ptr() as usize;
    ensure!(
        as_user(1000, &[], || {
            let set = |new| fs::open(c"f", O_RDONLY, 0).and_then(|fd| set_flags(fd, new));
            set(NODUMP) == Err(Errno::EPERM)
        })?,
        "somebody else's file"
    );
    call(__NR_fchownat, [AT_FDCWD as isize as usize, path, 1000, 1000, 0])?;
    ensure!(
        as_user(1000, &[], || {
            let set = |new| fs::open(c"f", O_RDONLY, 0).and_then(|fd| set_flags(fd, new));
            set(NODUMP) == Ok(()) && set(IMMUTABLE) == Err(Errno::EPERM) && set(APPEND) == Err(Errno::EPERM)
        })?,
        "one's own file"
    );
    Ok(())
}

fn extended_flags() -> Outcome {
    scratch()?;
    let file = Flagged::open(c"f", O_CREAT | O_RDWR)?;
    let mut attributes = [0u32; 7];
    ioctl(file.0, FSGETXATTR, &mut attributes)?;
    equal!(attributes[0] & 0xf8, 0x80);
    attributes[0] = 0x40;
    ioctl(file.0, FSSETXATTR, &mut attributes)?;
    equal!(flags(file.0)? & KNOWN, NOATIME);
    attributes[0] = 1 << 30;
    equal!(ioctl(file.0, FSSETXATTR, &mut attributes), Err(Errno::EOPNOTSUPP));
    Ok(())
}

/// `struct fiemap` with room for extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    /// logical, physical, length, 2 reserved, flags, 3 reserved.
    extents: [[u64; 7]; 8],
}

fn fiemap(fd: Fd, start: u64, length: u64, count: u32) -> Result<Fiemap> {
    let mut map = Fiemap { start, length, flags: 1, mapped: 77, count, reserved: 0, extents: [[0; 7]; 8] };
    ioctl(fd, FIEMAP, &mut map)?;
    Ok(map)
}

fn extents() -> Outcome {
    scratch()?;
    const MB: u64 = 1 << 20;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    match fiemap(fd, 0, u64::MAX, 8) {
        Ok(map) => equal!(map.mapped, 0),
        Err(Errno::EOPNOTSUPP) => return Err(skip("the file system does not tell")),
        Err(error) => return Err(error.into()),
    }
    io::pwrite(fd, &[1; 4096], 0)?;
    io::pwrite(fd, &[1; 4096], MB)?;
    let map = fiemap(fd, 0, u64::MAX, 8)?;
    let logical = |at: usize| (map.extents[at][0], map.extents[at][2]);
    equal!((map.mapped, logical(0), logical(1)), (2, (0, 4096), (MB, 4096)));
    ensure!(map.extents[0][1] != 0 && map.extents[0][1] != map.extents[1][1], "places on the disk");
    equal!((map.extents[0][5] as u32 & 1, map.extents[1][5] as u32 & 1), (0, 1));
    equal!(fiemap(fd, 0, u64::MAX, 0)?.mapped, 2);
    let part = fiemap(fd, 4096, MB, 8)?;
    equal!((part.mapped, part.extents[0][0]), (1, MB));
    let one = fiemap(fd, 0, u64::MAX, 1)?;
    equal!((one.mapped, one.extents[0][5] as u32 & 1), (1, 0));
    equal!(fiemap(fd, 0, 0, 8).map(drop), Err(Errno::EINVAL));
    let mut bad = Fiemap {
        start: 0,
        length: 9,
        flags: 1 << 20,
        mapped: 0,
        count: 0,
        reserved: 0,
        extents: [[0; 7]; 8],
    };
    equal!(ioctl(fd, FIEMAP, &mut bad), Err(Errno::EBADR));
    Ok(())
}

// ---- access control lists ----

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const ACCESS: &[u8] = b"system.posix_acl_access\0";
const DEFAULT: &[u8] = b"system.posix_acl_default\0";

fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::from(2u32.to_le_bytes());
    for (tag, rights, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&rights.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

const NONE: u32 = u32::MAX;

fn set_list(path: &CStr, name: &[u8], entries: &[(u16, u16, u32)]) -> Outcome {
    match set_attribute(path, name, &list(entries)) {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP) => Err(skip("no access control lists on /tmp")),
        Err(error) => Err(error.into()),
    }
}

fn get_list(path: &CStr, name: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = [0u8; 256];
    let (path, name) = (path.as_ptr() as usize, name.as_ptr() as usize);
    let len = call(__NR_getxattr, [path, name, bytes.as_mut_ptr() as usize, bytes.len(), 0])?;
    Ok(bytes[..len].into())
}

/// A directory that everybody reaches, and a file of root's in it.
fn open_place() -> Outcome {
    scratch()?;
    call(__NR_umask, [0; 5])?;
    fs::chmod(c".", 0o777)?;
    touch(c"f")?;
    fs::chmod(c"f", 0o600)?;
    Ok(())
}

/// Whether the rights of a user of these groups to `path` are exactly `rights`.
fn rights(
    path: &'static CStr,
    user: usize,
    groups: &[u32],
    rights: u32,
) -> core::result::Result<bool, Failure> {
    as_user(user, groups, move || {
        [4, 2, 1].into_iter().all(|right| fs::access(path, right).is_ok() == (rights & right != 0))
    })
}

const LIST: &[(u16, u16, u32)] = &[
    (USER_OBJ, 6, NONE),
    (USER, 6, 1000),
    (USER, 0, 1001),
    (GROUP_OBJ, 0, NONE),
    (GROUP, 7, 2000),
    (MASK, 6, NONE),
    (OTHER, 4, NONE),
];

fn list_gives_and_takes() -> Outcome {
    open_place()?;
    ensure!(rights(c"f", 1000, &[], 0)?, "without a list");
    set_list(c"f", ACCESS, LIST)?;
    ensure!(rights(c"f", 1000, &[], 6)?, "a named user");
    ensure!(rights(c"f", 1001, &[2000], 0)?, "a user that is named to have nothing");
    ensure!(rights(c"f", 1002, &[2000], 6)?, "a named group, as far as the mask goes");
    ensure!(rights(c"f", 1002, &[0], 0)?, "the file's group");
    ensure!(rights(c"f", 1002, &[0, 2000], 6)?, "the better of two groups");
    ensure!(rights(c"f", 1003, &[], 4)?, "others");
    call(__NR_removexattr, [c"f".as_ptr() as usize, ACCESS.as_ptr() as usize, 0, 0, 0])?;
    ensure!(rights(c"f", 1000, &[], 4)?, "the list is gone");
    Ok(())
}

fn list_and_mode() -> Outcome {
    open_place()?;
    set_list(c"f", ACCESS, LIST)?;
    equal!(fs::stat(c"f")?.st_mode & 0o777, 0o664);
    equal!(get_list(c"f", ACCESS)?, list(LIST));
    // The group's bits are the mask.
    fs::chmod(c"f", 0o640)?;
    ensure!(rights(c"f", 1000, &[], 4)?, "a named user under another mask");
    ensure!(rights(c"f", 1003, &[], 0)?, "others");
    let mut changed = LIST.to_vec();
    (changed[5].1, changed[6].1) = (4, 0);
    equal!(get_list(c"f", ACCESS)?, list(&changed));
    fs::chmod(c"f", 0o600)?;
    ensure!(rights(c"f", 1000, &[], 0)?, "an empty mask");
    // A list that says no more than a mode is one.
    set_list(c"f", ACCESS, &[(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 1, NONE)])?;
    equal!(fs::stat(c"f")?.st_mode & 0o777, 0o751);
    equal!(get_list(c"f", ACCESS), Err(Errno::ENODATA));
    Ok(())
}

fn list_of_a_directory() -> Outcome {
    open_place()?;
    fs::mkdir(c"d", 0o755)?;
    touch(c"d/f")?;
    // The mode lets everybody search; the list does not.
    let entries =
        [(USER_OBJ, 7, NONE), (USER, 0, 1000), (GROUP_OBJ, 5, NONE), (MASK, 5, NONE), (OTHER, 5, NONE)];
    set_list(c"d", ACCESS, &entries)?;
    equal!(fs::stat(c"d")?.st_mode & 0o777, 0o755);
    ensure!(rights(c"d/f", 1000, &[], 0)?, "who may not search");
    ensure!(rights(c"d/f", 1001, &[], 6)?, "who may");
    Ok(())
}

fn default_list() -> Outcome {
    open_place()?;
    fs::mkdir(c"d", 0o777)?;
    set_list(c"d", DEFAULT, LIST)?;
    equal!(fs::stat(c"d")?.st_mode & 0o777, 0o777);
    call(__NR_umask, [0o77, 0, 0, 0, 0])?;
    // The umask does not count, the list does.
    touch(c"d/f")?;
    equal!(fs::stat(c"d/f")?.st_mode & 0o777, 0o664);
    equal!(get_list(c"d/f", ACCESS)?, list(LIST));
    ensure!(rights(c"d/f", 1000, &[], 6)?, "a user of the default list");
    fs::mkdir(c"d/e", 0o700)?;
    equal!(get_list(c"d/e", DEFAULT)?, list(LIST));
    equal!(fs::stat(c"d/e")?.st_mode & 0o777, 0o600);
    fs::symlink(c"f", c"d/l")?;
    touch(c"f2")?;
    equal!(fs::stat(c"f2")?.st_mode & 0o777, 0o600);
    equal!(set_attribute(c"f2", DEFAULT, &list(LIST)), Err(Errno::EACCES));
    Ok(())
}

fn bad_lists() -> Outcome {
    open_place()?;
    set_list(c"f", ACCESS, LIST)?;
    let refused = [
        // No entry for others; a named user without a mask; the wrong order; a right that there is not.
        &[(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE)][..],
        &[(USER_OBJ, 7, NONE), (USER, 5, 7), (GROUP_OBJ, 5, NONE), (OTHER, 1, NONE)],
        &[(GROUP_OBJ, 5, NONE), (USER_OBJ, 7, NONE), (OTHER, 1, NONE)],
        &[(USER_OBJ, 15, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 1, NONE)],
    ];
    for entries in refused {
        equal!(set_attribute(c"f", ACCESS, &list(entries)), Err(Errno::EINVAL));
    }
    equal!(get_list(c"f", ACCESS)?, list(LIST));
    fs::symlink(c"f", c"l")?;
    let (link, name, value) = (c"l".as_ptr() as usize, ACCESS.as_ptr() as usize, list(LIST));
    let set = call(__NR_lsetxattr, [link, name, value.as_ptr() as usize, value.len(), 0]);
    equal!(set, Err(Errno::EOPNOTSUPP));
    ensure!(
        as_user(1000, &[], || set_attribute(c"f", ACCESS, &list(LIST)) == Err(Errno::EPERM))?,
        "a list set by another user"
    );
    Ok(())
}
