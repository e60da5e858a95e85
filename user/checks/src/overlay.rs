//! overlayfs: layers seen as one, copies, whiteouts, opaque directories; and what they look like from below.

use crate::names::scratch;
use crate::{Check, Failure, Outcome, ensure, equal, skip};
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::nr::*;
use rt::{Errno, Result, fs, io, syscall};

pub const CHECKS: &[Check] = &[
    ("merged", || mounted(merged)),
    ("hidden_below", || mounted(hidden_below)),
    ("copied_up", || mounted(copied_up)),
    ("attributes", || mounted(attributes)),
    ("removed", || mounted(removed)),
    ("removed_directory", || mounted(removed_directory)),
    ("renamed", || mounted(renamed)),
    ("exchanged", || mounted(exchanged)),
    ("unnamed", || mounted(unnamed)),
    ("access_lists", || mounted(access_lists)),
    ("default_lists", || mounted(default_lists)),
    ("linked", || mounted(linked)),
    ("made", || mounted(made)),
    ("read_only", read_only),
    ("options", options),
    ("stacked", stacked),
];

const DATA: &CStr = c"lowerdir=top:bottom,upperdir=upper,workdir=work";

fn mount(data: &CStr) -> Result<()> {
    fs::mount(c"overlay", c"m", c"overlay", 0, data)
}

/// Makes the layers in a fresh directory.
fn layers() -> Result<()> {
    scratch()?;
    for dir in
        [c"top", c"bottom", c"upper", c"work", c"m", c"top/dir", c"bottom/dir", c"top/hides", c"bottom/hides"]
    {
        fs::mkdir(dir, 0o755)?;
    }
    fs::write_file(c"bottom/file", b"bottom")?;
    fs::write_file(c"top/file", b"top")?;
    fs::write_file(c"bottom/other", b"other")?;
    fs::write_file(c"bottom/gone", b"gone")?;
    fs::write_file(c"bottom/dir/a", b"a")?;
    fs::write_file(c"bottom/dir/b", b"b")?;
    fs::write_file(c"top/dir/b", b"b of the top")?;
    fs::write_file(c"top/dir/c", b"c")?;
    fs::write_file(c"bottom/hides/below", b"below")?;
    fs::mknod(c"top/gone", S_IFCHR, 0)?;
    set_attribute(c"top/hides", c"trusted.overlay.opaque", b"y")
}

/// Where overlays cannot be made, or not from what is there, the check says nothing.
fn unless_impossible(result: Result<()>) -> Outcome {
    match result {
        Err(Errno::EPERM | Errno::ENODEV | Errno::EOPNOTSUPP) => Err(skip("no overlay can be mounted here")),
        result => Ok(result?),
    }
}

/// Runs a check in the directory that has the layers and, at `m`, the overlay.
fn mounted(check: fn() -> Outcome) -> Outcome {
    unless_impossible(layers())?;
    unless_impossible(mount(DATA))?;
    let outcome = check();
    fs::umount(c"m", MNT_DETACH)?;
    outcome
}

/// An overlay of an overlay is the deepest that may be.
fn stacked() -> Outcome {
    unless_impossible(layers())?;
    for dir in [c"m1", c"m2", c"m3"] {
        fs::mkdir(dir, 0o755)?;
    }
    let make = |at, data| fs::mount(c"overlay", at, c"overlay", 0, data);
    unless_impossible(make(c"m1", c"lowerdir=top:bottom"))?;
    let second = make(c"m2", c"lowerdir=m1:bottom");
    let read = second.and_then(|()| fs::read_file(c"m2/dir/a"));
    let third = make(c"m3", c"lowerdir=m2:bottom");
    if third.is_ok() {
        fs::umount(c"m3", MNT_DETACH)?;
    }
    let _ = fs::umount(c"m2", MNT_DETACH); // when it was mounted
    fs::umount(c"m1", MNT_DETACH)?;
    equal!(read, Ok(b"a".to_vec()));
    equal!(third, Err(Errno::EINVAL));
    Ok(())
}

fn set_attribute(path: &CStr, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: 1. the strings and the value live for the call, which is told the value's length.
    unsafe { syscall!(__NR_setxattr, path.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), 0) }.map(drop)
}

fn attribute(path: &CStr, name: &CStr) -> Result<Vec<u8>> {
    let mut value = [0u8; 64];
    // SAFETY: 1. the strings live for the call; 2. the buffer is as long as it is told.
    let len =
        unsafe { syscall!(__NR_getxattr, path.as_ptr(), name.as_ptr(), value.as_mut_ptr(), value.len()) }?;
    Ok(value[..len].to_vec())
}

fn names(path: &CStr) -> Result<Vec<Vec<u8>>> {
    let fd = fs::open(path, O_RDONLY | O_DIRECTORY, 0)?;
    let mut names = fs::list(fd)?;
    io::close(fd)?;
    names.retain(|name| name != b"." && name != b"..");
    names.sort();
    Ok(names)
}

fn is_whiteout(path: &CStr) -> Result<bool> {
    let stat = fs::lstat(path)?;
    Ok(stat.st_mode & S_IFMT == S_IFCHR && stat.st_rdev == 0)
}

fn append(path: &CStr, text: &[u8]) -> Result<()> {
    let fd = fs::open(path, O_WRONLY | O_APPEND, 0)?;
    io::write_all(fd, text)?;
    io::close(fd)
}

fn merged() -> Outcome {
    equal!(fs::read_file(c"m/file")?, b"top");
    equal!(fs::read_file(c"m/other")?, b"other");
    equal!(fs::read_file(c"m/dir/b")?, b"b of the top");
    equal!(names(c"m/dir")?, [b"a", b"b", b"c"]);
    equal!(names(c"m")?, [&b"dir"[..], b"file", b"hides", b"other"]);
    equal!(fs::stat(c"m/file")?.st_dev, fs::stat(c"m/dir")?.st_dev);
    // Reading changes nothing above.
    equal!(names(c"upper")?.len(), 0);
    // Positions of a directory that was read can be gone back to.
    let fd = fs::open(c"m/dir", O_RDONLY | O_DIRECTORY, 0)?;
    let first = fs::list(fd)?.len();
    io::seek(fd, 0, SEEK_SET)?;
    equal!(fs::list(fd)?.len(), first);
    Ok(())
}

fn hidden_below() -> Outcome {
    equal!(fs::stat(c"m/gone").err(), Some(Errno::ENOENT));
    equal!(names(c"m/hides")?.len(), 0);
    equal!(fs::stat(c"m/hides/below").err(), Some(Errno::ENOENT));
    // What was hidden may be made anew.
    fs::write_file(c"m/gone", b"again")?;
    equal!(fs::read_file(c"upper/gone")?, b"again");
    equal!(fs::read_file(c"bottom/gone")?, b"gone");
    Ok(())
}

fn copied_up() -> Outcome {
    let reader = fs::open(c"m/other", O_RDONLY, 0)?;
    append(c"m/other", b" and more")?;
    equal!(fs::read_file(c"m/other")?, b"other and more");
    equal!(fs::read_file(c"upper/other")?, b"other and more");
    equal!(fs::read_file(c"bottom/other")?, b"other");
    let mut buffer = [0; 64];
    let len = io::read_full(reader, &mut buffer)?;
    equal!(&buffer[..len], b"other and more");
    // With the directories on the way.
    append(c"m/dir/a", b"!")?;
    equal!(names(c"upper/dir")?, [b"a"]);
    equal!(names(c"m/dir")?, [b"a", b"b", b"c"]);
    equal!(fs::read_file(c"m/dir/a")?, b"a!");
    // Opening to cut it off keeps the name and nothing else.
    io::close(fs::open(c"m/file", O_WRONLY | O_TRUNC, 0)?)?;
    equal!(fs::stat(c"m/file")?.st_size, 0);
    equal!(fs::read_file(c"top/file")?, b"top");
    Ok(())
}

fn attributes() -> Outcome {
    let before = fs::stat(c"bottom/dir/a")?;
    fs::chmod(c"m/dir/a", 0o640)?;
    equal!(fs::stat(c"m/dir/a")?.st_mode & 0o7777, 0o640);
    equal!(fs::stat(c"upper/dir/a")?.st_mode & 0o7777, 0o640);
    equal!(fs::stat(c"upper/dir/a")?.st_mtime, before.st_mtime);
    equal!(fs::stat(c"bottom/dir/a")?.st_mode & 0o7777, before.st_mode & 0o7777);
    equal!(fs::read_file(c"m/dir/a")?, b"a");
    set_attribute(c"m/other", c"trusted.own", b"value")?;
    equal!(attribute(c"m/other", c"trusted.own")?, b"value");
    equal!(attribute(c"upper/other", c"trusted.own")?, b"value");
    equal!(attribute(c"bottom/other", c"trusted.own"), Err(Errno::ENODATA));
    // The overlay's own are not shown.
    ensure!(attribute(c"m/hides", c"trusted.overlay.opaque").is_err(), "its own attribute shows");
    Ok(())
}

fn removed() -> Outcome {
    fs::unlink(c"m/other")?;
    equal!(fs::stat(c"m/other").err(), Some(Errno::ENOENT));
    ensure!(is_whiteout(c"upper/other")?, "no whiteout");
    equal!(names(c"m")?, [&b"dir"[..], b"file", b"hides"]);
    equal!(fs::unlink(c"m/other"), Err(Errno::ENOENT));
    fs::write_file(c"m/other", b"new")?;
    equal!(fs::read_file(c"upper/other")?, b"new");
    // One that both have.
    append(c"m/file", b"!")?;
    fs::unlink(c"m/file")?;
    ensure!(is_whiteout(c"upper/file")?, "no whiteout");
    // One that only the upper layer has leaves nothing.
    fs::write_file(c"m/mine", b"")?;
    fs::unlink(c"m/mine")?;
    equal!(fs::lstat(c"upper/mine").err(), Some(Errno::ENOENT));
    // An open file goes on without its name.
    let fd = fs::open(c"m/dir/c", O_RDONLY, 0)?;
    fs::unlink(c"m/dir/c")?;
    equal!(io::read(fd, &mut [0; 4])?, 1);
    equal!(fs::read_file(c"bottom/other")?, b"other");
    Ok(())
}

fn removed_directory() -> Outcome {
    equal!(fs::rmdir(c"m/dir"), Err(Errno::ENOTEMPTY));
    for file in [c"m/dir/a", c"m/dir/b", c"m/dir/c"] {
        fs::unlink(file)?;
    }
    equal!(names(c"m/dir")?.len(), 0);
    fs::rmdir(c"m/dir")?;
    ensure!(is_whiteout(c"upper/dir")?, "no whiteout");
    fs::mkdir(c"m/dir", 0o750)?;
    equal!(names(c"m/dir")?.len(), 0);
    equal!(attribute(c"upper/dir", c"trusted.overlay.opaque")?, b"y");
    equal!(fs::stat(c"m/dir")?.st_mode & 0o7777, 0o750);
    fs::write_file(c"m/dir/new", b"new")?;
    equal!(names(c"m/dir")?, [b"new"]);
    // What is removed and made again in memory looks the same when it is looked up anew.
    fs::umount(c"m", MNT_DETACH)?;
    mount(DATA)?;
    equal!(names(c"m/dir")?, [b"new"]);
    Ok(())
}

fn renamed() -> Outcome {
    fs::rename(c"m/file", c"m/moved", 0)?;
    equal!(fs::read_file(c"m/moved")?, b"top");
    equal!(fs::stat(c"m/file").err(), Some(Errno::ENOENT));
    ensure!(is_whiteout(c"upper/file")?, "no whiteout");
    fs::rename(c"m/moved", c"m/other", 0)?;
    equal!(fs::read_file(c"m/other")?, b"top");
    equal!(fs::lstat(c"upper/moved").err(), Some(Errno::ENOENT));
    // Over a whiteout, and back.
    fs::rename(c"m/other", c"m/file", 0)?;
    equal!(fs::read_file(c"m/file")?, b"top");
    ensure!(is_whiteout(c"upper/other")?, "no whiteout");
    // A directory with parts below stays; one of the upper layer's own moves.
    equal!(fs::rename(c"m/dir", c"m/elsewhere", 0), Err(Errno::EXDEV));
    fs::mkdir(c"m/new", 0o755)?;
    fs::write_file(c"m/new/inside", b"inside")?;
    fs::rename(c"m/new", c"m/newer", 0)?;
    equal!(fs::read_file(c"m/newer/inside")?, b"inside");
    // To where something is hidden below: that does not come back inside of it.
    fs::unlink(c"m/dir/a")?;
    fs::unlink(c"m/dir/b")?;
    fs::unlink(c"m/dir/c")?;
    fs::rename(c"m/newer", c"m/dir", 0)?;
    equal!(names(c"m/dir")?, [b"inside"]);
    fs::rename(c"m/dir", c"m/last", 0)?;
    equal!(names(c"m/last")?, [b"inside"]);
    equal!(fs::stat(c"m/dir").err(), Some(Errno::ENOENT));
    Ok(())
}

fn exchanged() -> Outcome {
    fs::rename(c"m/file", c"m/other", RENAME_EXCHANGE)?;
    equal!((fs::read_file(c"m/file")?, fs::read_file(c"m/other")?), (b"other".to_vec(), b"top".to_vec()));
    equal!(fs::read_file(c"upper/file")?, b"other");
    equal!(fs::read_file(c"bottom/other")?, b"other");
    // A file and a directory, whose new name has something below: that must not show.
    fs::mkdir(c"m/new", 0o755)?;
    fs::write_file(c"m/new/inside", b"inside")?;
    fs::unlink(c"m/dir/a")?;
    fs::unlink(c"m/dir/b")?;
    fs::unlink(c"m/dir/c")?;
    fs::rmdir(c"m/dir")?;
    fs::write_file(c"m/dir", b"file")?;
    fs::rename(c"m/dir", c"m/new", RENAME_EXCHANGE)?;
    for _ in 0..2 {
        equal!(names(c"m/dir")?, [b"inside"]);
        equal!(fs::read_file(c"m/new")?, b"file");
        fs::umount(c"m", MNT_DETACH)?;
        mount(DATA)?;
    }
    // A directory with parts below stays; there must be two names.
    equal!(fs::rename(c"m/hides", c"m/file", RENAME_EXCHANGE), Err(Errno::EXDEV));
    equal!(fs::rename(c"m/file", c"m/hides", RENAME_EXCHANGE), Err(Errno::EXDEV));
    equal!(fs::rename(c"m/file", c"m/nothing", RENAME_EXCHANGE), Err(Errno::ENOENT));
    // A name that is free, be it by a whiteout.
    equal!(fs::rename(c"m/file", c"m/other", RENAME_NOREPLACE), Err(Errno::EEXIST));
    fs::rename(c"m/file", c"m/gone", RENAME_NOREPLACE)?;
    equal!(fs::read_file(c"m/gone")?, b"other");
    equal!(fs::rename(c"m/gone", c"m/file", RENAME_WHITEOUT), Err(Errno::EINVAL));
    Ok(())
}

fn unnamed() -> Outcome {
    let fd = match fs::open(c"m/dir", O_TMPFILE | O_RDWR, 0o640) {
        Err(Errno::EOPNOTSUPP) => return Err(skip("no files without a name on this overlay")),
        fd => fd?,
    };
    io::write_all(fd, b"contents")?;
    let stat = fs::fstat(fd)?;
    equal!((stat.st_nlink as u64, stat.st_size, stat.st_mode & 0o7777), (0, 8, 0o640));
    equal!(names(c"m/dir")?, [b"a", b"b", b"c"]);
    // SAFETY: 1. the strings live for the call.
    unsafe { syscall!(__NR_linkat, fd, c"".as_ptr(), AT_FDCWD, c"m/dir/named".as_ptr(), AT_EMPTY_PATH) }?;
    equal!(fs::fstat(fd)?.st_nlink as u64, 1);
    equal!(fs::read_file(c"m/dir/named")?, b"contents");
    equal!(fs::read_file(c"upper/dir/named")?, b"contents");
    append(c"m/dir/named", b"!")?;
    let mut back = [0; 16];
    equal!(io::pread(fd, &mut back, 0)?, 9);
    // In the place of a whiteout.
    let fd = fs::open(c"m/dir", O_TMPFILE | O_RDWR, 0o600)?;
    fs::unlink(c"m/dir/a")?;
    // SAFETY: 1. the strings live for the call.
    unsafe { syscall!(__NR_linkat, fd, c"".as_ptr(), AT_FDCWD, c"m/dir/a".as_ptr(), AT_EMPTY_PATH) }?;
    equal!(fs::stat(c"m/dir/a")?.st_size, 0);
    Ok(())
}

const ACCESS: &CStr = c"system.posix_acl_access";
const DEFAULT: &CStr = c"system.posix_acl_default";
const NOBODY: u32 = u32::MAX;

/// A list that gives user 1000 what the mask leaves of `rights`, and others nothing.
fn list(rights: u16, mask: u16) -> Vec<u8> {
    let entries =
        [(1u16, 7u16, NOBODY), (2, rights, 1000), (4, 0, NOBODY), (0x10, mask, NOBODY), (0x20, 0, NOBODY)];
    let mut bytes = Vec::from(2u32.to_le_bytes());
    for (tag, rights, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&rights.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Whether user 1000 may read a file.
fn may_read(path: &'static CStr) -> Result<bool> {
    let status = rt::process::in_child(|| {
        let ids = [1000usize; 3];
        // SAFETY: 1. no memory is named.
        let gids = unsafe { syscall!(__NR_setresgid, ids[0], ids[1], ids[2]) };
        // SAFETY: 1. no memory is named.
        let uids = unsafe { syscall!(__NR_setresuid, ids[0], ids[1], ids[2]) };
        if gids.is_err() || uids.is_err() {
            return 2;
        }
        i32::from(fs::open(path, O_RDONLY, 0).is_err())
    })?;
    match status.exit_code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(Errno::EPERM),
    }
}

fn set_list(path: &CStr, name: &CStr, value: &[u8]) -> Outcome {
    match set_attribute(path, name, value) {
        Err(Errno::EOPNOTSUPP) => Err(skip("no access control lists here")),
        result => Ok(result?),
    }
}

fn access_lists() -> Outcome {
    fs::chmod(c".", 0o755)?;
    fs::chmod(c"m/other", 0o600)?;
    ensure!(!may_read(c"m/other")?, "without a list");
    let listed = list(6, 6);
    set_list(c"m/other", ACCESS, &listed)?;
    ensure!(may_read(c"m/other")?, "with one");
    equal!((attribute(c"m/other", ACCESS)?, attribute(c"upper/other", ACCESS)?), (listed.clone(), listed));
    equal!(attribute(c"bottom/other", ACCESS), Err(Errno::ENODATA));
    equal!(fs::stat(c"m/other")?.st_mode & 0o777, 0o760);
    fs::chmod(c"m/other", 0o700)?;
    ensure!(!may_read(c"m/other")?, "an empty mask");
    equal!(attribute(c"m/other", ACCESS)?, list(6, 0));
    // A list of a lower file counts, and goes with its copy.
    fs::umount(c"m", MNT_DETACH)?;
    set_list(c"bottom/dir/a", ACCESS, &list(4, 4))?;
    mount(DATA)?;
    ensure!(may_read(c"m/dir/a")?, "of a lower file");
    append(c"m/dir/a", b"!")?;
    equal!((attribute(c"m/dir/a", ACCESS)?, attribute(c"upper/dir/a", ACCESS)?), (list(4, 4), list(4, 4)));
    ensure!(may_read(c"m/dir/a")?, "of its copy");
    // It is known again when all was forgotten.
    fs::umount(c"m", MNT_DETACH)?;
    mount(DATA)?;
    ensure!(may_read(c"m/dir/a")? && !may_read(c"m/other")?, "after another mount");
    Ok(())
}

fn default_lists() -> Outcome {
    fs::unlink(c"m/dir/a")?;
    set_list(c"m/dir", DEFAULT, &list(6, 6))?;
    equal!(attribute(c"upper/dir", DEFAULT)?, list(6, 6));
    // Under a name that was free, and in the place of a whiteout.
    for (file, below) in [(c"m/dir/new", c"upper/dir/new"), (c"m/dir/a", c"upper/dir/a")] {
        io::close(fs::open(file, O_CREAT | O_EXCL | O_WRONLY, 0o640)?)?;
        let (mode, mask) = (fs::stat(file)?.st_mode & 0o777, 4);
        let mut expected = list(6, mask);
        // The owner's entry: what was asked for.
        expected[6] = 6;
        equal!((mode, attribute(file, ACCESS)?), (0o640, expected.clone()));
        equal!(attribute(below, ACCESS)?, expected);
    }
    fs::unlink(c"m/dir/b")?;
    for dir in [c"m/dir/d", c"m/dir/b"] {
        fs::mkdir(dir, 0o770)?;
        equal!((attribute(dir, DEFAULT)?, attribute(dir, ACCESS)?), (list(6, 6), list(6, 6)));
    }
    // Where things are prepared nothing is inherited.
    append(c"m/other", b"!")?;
    equal!(attribute(c"upper/other", ACCESS), Err(Errno::ENODATA));
    Ok(())
}

fn linked() -> Outcome {
    fs::link(c"m/other", c"m/second")?;
    equal!(fs::stat(c"m/second")?.st_nlink as u64, 2);
    equal!(fs::stat(c"m/second")?.st_ino, fs::stat(c"m/other")?.st_ino);
    append(c"m/second", b"!")?;
    equal!(fs::read_file(c"m/other")?, b"other!");
    fs::unlink(c"m/other")?;
    equal!(fs::stat(c"m/second")?.st_nlink as u64, 1);
    fs::link(c"m/second", c"m/other")?;
    equal!(fs::read_file(c"upper/other")?, b"other!");
    equal!(fs::read_file(c"bottom/other")?, b"other");
    Ok(())
}

fn made() -> Outcome {
    fs::mkdir(c"m/dir/new", 0o700)?;
    fs::symlink(c"../dir/a", c"m/dir/link")?;
    equal!(fs::read_file(c"m/dir/link")?, b"a");
    fs::mknod(c"m/fifo", S_IFIFO | 0o600, 0)?;
    equal!(fs::lstat(c"upper/fifo")?.st_mode & S_IFMT, S_IFIFO);
    equal!(fs::mknod(c"m/whiteout", S_IFCHR | 0o600, 0), Err(Errno::EPERM));
    equal!(fs::mkdir(c"m/dir", 0o700), Err(Errno::EEXIST));
    equal!(names(c"m/dir")?, [&b"a"[..], b"b", b"c", b"link", b"new"]);
    equal!(names(c"upper/dir")?, [&b"link"[..], b"new"]);
    // Nothing is left where things are prepared.
    equal!(names(c"work/work")?.len(), 0);
    Ok(())
}

fn read_only() -> Outcome {
    unless_impossible(layers())?;
    unless_impossible(mount(c"lowerdir=top:bottom"))?;
    let checked = || -> Outcome {
        equal!(names(c"m/dir")?, [b"a", b"b", b"c"]);
        equal!(fs::open(c"m/file", O_WRONLY, 0), Err(Errno::EROFS));
        equal!(fs::unlink(c"m/file"), Err(Errno::EROFS));
        equal!(fs::mkdir(c"m/new", 0o755), Err(Errno::EROFS));
        equal!(fs::chmod(c"m/file", 0o600), Err(Errno::EROFS));
        Ok(())
    };
    let outcome = checked();
    fs::umount(c"m", MNT_DETACH)?;
    outcome
}

fn options() -> Outcome {
    unless_impossible(layers())?;
    unless_impossible(mount(DATA))?;
    fs::umount(c"m", MNT_DETACH)?;
    let refused = |data: &CStr, error: Errno| -> core::result::Result<(), Failure> {
        let result = mount(data);
        if result.is_ok() {
            fs::umount(c"m", MNT_DETACH)?;
        }
        equal!(result, Err(error));
        Ok(())
    };
    refused(c"upperdir=upper,workdir=work", Errno::EINVAL)?;
    refused(c"lowerdir=top,upperdir=upper", Errno::EINVAL)?;
    refused(c"lowerdir=nowhere", Errno::ENOENT)?;
    refused(c"lowerdir=top,upperdir=upper,workdir=upper", Errno::EINVAL)?;
    refused(c"lowerdir=top,nonsense=1", Errno::EINVAL)?;
    Ok(())
}
