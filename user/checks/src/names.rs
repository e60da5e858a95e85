//! Paths: walking, making, renaming and removing names.

use crate::{Check, Outcome, ensure, equal, skip};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::nr::*;
use rt::{Errno, env, fs, io, process, syscall};

pub const CHECKS: &[Check] = &[
    ("make_and_remove", make_and_remove),
    ("links", links),
    ("symlink_loops", symlink_loops),
    ("rename", rename),
    ("exchange", exchange),
    ("whiteout", whiteout),
    ("dots", dots),
    ("too_long", too_long),
    ("trailing_slashes", trailing_slashes),
    ("working_directory", working_directory),
    ("listing", listing),
    ("removed_directory", removed_directory),
    ("many_names", many_names),
    ("permissions", permissions),
    ("sticky", sticky),
    ("negative_then_created", negative_then_created),
];

/// A path that nothing has yet, below `CHECKS_TMP` or else `/tmp`. It has the time in it: files of earlier runs stay,
/// and process numbers come again.
pub fn fresh(tag: &str) -> String {
    let top = env::var("CHECKS_TMP").unwrap_or("/tmp");
    format!("{top}/{tag}-{}-{}", process::getpid(), rt::time::now_ns())
}

/// A fresh directory that is also the working directory.
pub fn scratch() -> Result<CString, Errno> {
    let path = CString::new(fresh("checks")).map_err(|_| Errno::EINVAL)?;
    fs::mkdir(&path, 0o777)?;
    fs::chdir(&path)?;
    Ok(path)
}

fn touch(path: &CStr) -> Result<(), Errno> {
    io::close(fs::open(path, O_CREAT | O_WRONLY | O_EXCL, 0o644)?)
}

fn make_and_remove() -> Outcome {
    scratch()?;
    equal!(fs::unlink(c"f"), Err(Errno::ENOENT));
    touch(c"f")?;
    equal!(touch(c"f"), Err(Errno::EEXIST));
    equal!(fs::rmdir(c"f"), Err(Errno::ENOTDIR));
    equal!(fs::mkdir(c"f", 0o700), Err(Errno::EEXIST));
    equal!(fs::open(c"f/x", O_RDONLY, 0), Err(Errno::ENOTDIR));
    fs::unlink(c"f")?;
    fs::mkdir(c"d", 0o700)?;
    equal!(fs::unlink(c"d"), Err(Errno::EISDIR));
    equal!(fs::open(c"d", O_WRONLY, 0), Err(Errno::EISDIR));
    touch(c"d/x")?;
    equal!(fs::rmdir(c"d"), Err(Errno::ENOTEMPTY));
    fs::unlink(c"d/x")?;
    fs::rmdir(c"d")?;
    equal!(fs::mkdir(c"no/such", 0o700), Err(Errno::ENOENT));
    equal!(fs::mkdir(c"/", 0o700), Err(Errno::EEXIST));
    equal!(fs::open(c"", O_RDONLY, 0), Err(Errno::ENOENT));
    Ok(())
}

fn links() -> Outcome {
    scratch()?;
    touch(c"a")?;
    fs::link(c"a", c"b")?;
    equal!(fs::stat(c"b")?.st_nlink as u64, 2);
    equal!(fs::stat(c"a")?.st_ino, fs::stat(c"b")?.st_ino);
    equal!(fs::link(c"a", c"b"), Err(Errno::EEXIST));
    equal!(fs::link(c".", c"c"), Err(Errno::EPERM));
    fs::unlink(c"a")?;
    equal!(fs::stat(c"b")?.st_nlink as u64, 1);
    fs::symlink(c"b", c"s")?;
    equal!(fs::stat(c"s")?.st_ino, fs::stat(c"b")?.st_ino);
    equal!(fs::lstat(c"s")?.st_mode & S_IFMT, S_IFLNK);
    equal!(fs::lstat(c"s")?.st_size as u64, 1);
    let mut target = [0; 8];
    equal!(fs::readlink(c"s", &mut target)?, b"b");
    equal!(fs::readlink(c"b", &mut target), Err(Errno::EINVAL));
    equal!(fs::open(c"s", O_RDONLY | O_NOFOLLOW, 0), Err(Errno::ELOOP));
    fs::symlink(c"nowhere", c"dangling")?;
    equal!(fs::stat(c"dangling").err(), Some(Errno::ENOENT));
    equal!(fs::open(c"dangling", O_CREAT | O_EXCL | O_WRONLY, 0o600), Err(Errno::EEXIST));
    io::close(fs::open(c"dangling", O_CREAT | O_WRONLY, 0o600)?)?;
    fs::stat(c"nowhere")?;
    Ok(())
}

fn symlink_loops() -> Outcome {
    scratch()?;
    fs::symlink(c"y", c"x")?;
    fs::symlink(c"x", c"y")?;
    equal!(fs::stat(c"x").err(), Some(Errno::ELOOP));
    // A chain of 40 is followed, one of 41 is not.
    touch(c"l0")?;
    for n in 1..=41 {
        let name = |n| CString::new(format!("l{n}")).map_err(|_| Errno::EINVAL);
        fs::symlink(&name(n - 1)?, &name(n)?)?;
    }
    fs::stat(c"l40")?;
    equal!(fs::stat(c"l41").err(), Some(Errno::ELOOP));
    Ok(())
}

fn rename() -> Outcome {
    scratch()?;
    touch(c"a")?;
    touch(c"b")?;
    let ino = fs::stat(c"a")?.st_ino;
    fs::rename(c"a", c"b", 0)?;
    equal!(fs::stat(c"b")?.st_ino, ino);
    equal!(fs::stat(c"a").err(), Some(Errno::ENOENT));
    touch(c"a")?;
    equal!(fs::rename(c"a", c"b", RENAME_NOREPLACE), Err(Errno::EEXIST));
    fs::mkdir(c"d", 0o700)?;
    fs::mkdir(c"d/e", 0o700)?;
    equal!(fs::rename(c"a", c"d", 0), Err(Errno::EISDIR));
    equal!(fs::rename(c"d", c"a", 0), Err(Errno::ENOTDIR));
    equal!(fs::rename(c"d", c"d/e/f", 0), Err(Errno::EINVAL));
    equal!(fs::rename(c"d/e", c"d", 0), Err(Errno::ENOTEMPTY));
    fs::mkdir(c"g", 0o700)?;
    fs::rename(c"d/e", c"g", 0)?;
    equal!(fs::stat(c"d")?.st_nlink as u64, 2);
    fs::link(c"b", c"b2")?;
    fs::rename(c"b", c"b2", 0)?;
    fs::stat(c"b")?;
    equal!(fs::rename(c"no", c"b", 0), Err(Errno::ENOENT));
    equal!(fs::rename(c".", c"z", 0), Err(Errno::EBUSY));
    Ok(())
}

fn exchange() -> Outcome {
    scratch()?;
    touch(c"f")?;
    fs::mkdir(c"d", 0o700)?;
    let (file, dir) = (fs::stat(c"f")?.st_ino, fs::stat(c"d")?.st_ino);
    fs::rename(c"f", c"d", RENAME_EXCHANGE)?;
    equal!((fs::stat(c"d")?.st_ino, fs::stat(c"f")?.st_ino), (file, dir));
    equal!(fs::rename(c"f", c"no", RENAME_EXCHANGE), Err(Errno::ENOENT));
    equal!(fs::rename(c"f", c"d", RENAME_EXCHANGE | RENAME_NOREPLACE), Err(Errno::EINVAL));
    Ok(())
}

/// The type of the file system that the working directory is on.
fn file_system() -> Result<u64, Errno> {
    let mut statfs = [0u64; 15];
    // SAFETY: 1. the path ends with a zero; 2. the kernel writes one struct statfs, 120 bytes.
    unsafe { syscall!(__NR_statfs, c".".as_ptr(), statfs.as_mut_ptr()) }?;
    Ok(statfs[0])
}

/// RENAME_WHITEOUT leaves a character device 0:0, which needs no privilege.
fn whiteout() -> Outcome {
    const HAVE_IT: [u64; 2] = [0xef53, 0x0102_1994];
    scratch()?;
    touch(c"a")?;
    if !HAVE_IT.contains(&file_system()?) {
        return Err(skip("neither ext4 nor tmpfs"));
    }
    let left = |path: &CStr| -> Outcome {
        let stat = fs::lstat(path)?;
        equal!((stat.st_mode, stat.st_rdev as u64, stat.st_nlink as u64), (S_IFCHR, 0, 1));
        // EACCES where no devices are (MS_NODEV).
        let opened = fs::open(path, O_RDONLY, 0).err();
        ensure!(matches!(opened, Some(Errno::ENXIO | Errno::EACCES)), "opened: {opened:?}");
        Ok(())
    };
    let ino = fs::stat(c"a")?.st_ino;
    fs::rename(c"a", c"b", RENAME_WHITEOUT)?;
    left(c"a")?;
    equal!(fs::stat(c"b")?.st_ino, ino);
    // Over a whiteout; over something; with a name that must be free.
    fs::rename(c"b", c"a", RENAME_WHITEOUT)?;
    left(c"b")?;
    equal!(fs::rename(c"a", c"b", RENAME_WHITEOUT | RENAME_NOREPLACE), Err(Errno::EEXIST));
    fs::unlink(c"b")?;
    fs::rename(c"a", c"b", RENAME_WHITEOUT | RENAME_NOREPLACE)?;
    left(c"a")?;
    equal!(fs::rename(c"b", c"a", RENAME_WHITEOUT | RENAME_EXCHANGE), Err(Errno::EINVAL));
    // Directories leave one too, and count as gone.
    fs::mkdir(c"from", 0o700)?;
    fs::mkdir(c"to", 0o700)?;
    fs::mkdir(c"from/d", 0o700)?;
    fs::mkdir(c"to/d", 0o700)?;
    fs::rename(c"from/d", c"to/d", RENAME_WHITEOUT)?;
    left(c"from/d")?;
    equal!((fs::stat(c"from")?.st_nlink as u64, fs::stat(c"to")?.st_nlink as u64), (2, 3));
    equal!(fs::rmdir(c"from"), Err(Errno::ENOTEMPTY));
    // Into a directory whose new entry makes it grow, from the same one.
    for number in 0..60 {
        let name = |tag| CString::new(format!("to/{tag:x<200}{number}")).map_err(|_| Errno::EINVAL);
        let (old, new) = (name("o")?, name("n")?);
        touch(&old)?;
        fs::rename(&old, &new, RENAME_WHITEOUT)?;
        left(&old)?;
        fs::stat(&new)?;
    }
    fs::chmod(c".", 0o777)?;
    as_user(|| {
        touch(c"mine")?;
        fs::rename(c"mine", c"moved", RENAME_WHITEOUT)?;
        equal!(fs::lstat(c"mine")?.st_uid, 1000);
        fs::mknod(c"made", S_IFCHR | 0o600, 0)?;
        equal!(fs::mknod(c"device", S_IFCHR | 0o600, 0x103), Err(Errno::EPERM));
        Ok(())
    })
}

fn dots() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o700)?;
    equal!(fs::stat(c"d/..")?.st_ino, fs::stat(c".")?.st_ino);
    equal!(fs::stat(c"/..")?.st_ino, fs::stat(c"/")?.st_ino);
    equal!(fs::stat(c"./d/./../d//")?.st_ino, fs::stat(c"d")?.st_ino);
    equal!(fs::rmdir(c"d/."), Err(Errno::EINVAL));
    equal!(fs::rmdir(c"d/.."), Err(Errno::ENOTEMPTY));
    equal!(fs::mkdir(c"d/.", 0o700), Err(Errno::EEXIST));
    Ok(())
}

fn too_long() -> Outcome {
    scratch()?;
    let name = |len: usize| CString::new(alloc::vec![b'n'; len]).map_err(|_| Errno::EINVAL);
    touch(&name(255)?)?;
    equal!(touch(&name(256)?), Err(Errno::ENAMETOOLONG));
    let path = CString::new(b"./".repeat(2100)).map_err(|_| Errno::EINVAL)?;
    equal!(fs::stat(&path).err(), Some(Errno::ENAMETOOLONG));
    let path = CString::new(b"./".repeat(2047)).map_err(|_| Errno::EINVAL)?;
    fs::stat(&path)?;
    Ok(())
}

fn trailing_slashes() -> Outcome {
    scratch()?;
    touch(c"f")?;
    fs::mkdir(c"d/", 0o700)?;
    fs::stat(c"d///")?;
    equal!(fs::stat(c"f/").err(), Some(Errno::ENOTDIR));
    equal!(fs::open(c"new/", O_CREAT | O_WRONLY, 0o600), Err(Errno::EISDIR));
    equal!(fs::unlink(c"f/"), Err(Errno::ENOTDIR));
    fs::symlink(c"d", c"s")?;
    equal!(fs::lstat(c"s/")?.st_mode & S_IFMT, S_IFDIR);
    equal!(fs::rmdir(c"s/"), Err(Errno::ENOTDIR));
    Ok(())
}

/// getcwd(2), without the final zero.
fn cwd() -> Result<Vec<u8>, Errno> {
    let mut path = alloc::vec![0; 4096];
    // SAFETY: 1. the kernel writes within the buffer.
    let len = unsafe { syscall!(__NR_getcwd, path.as_mut_ptr(), path.len()) }?;
    path.truncate(len - 1);
    Ok(path)
}

fn working_directory() -> Outcome {
    let base = scratch()?;
    equal!(cwd()?, base.as_bytes());
    fs::mkdir(c"d", 0o700)?;
    fs::chdir(c"d")?;
    ensure!(cwd()?.ends_with(b"/d"), "getcwd after chdir");
    fs::rename(c"../d", c"../e", 0)?;
    ensure!(cwd()?.ends_with(b"/e"), "getcwd after the directory moved");
    let mut small = [0u8; 4];
    // SAFETY: 1. the kernel writes within the buffer, which is too small.
    let result = unsafe { syscall!(__NR_getcwd, small.as_mut_ptr(), small.len()) };
    equal!(result, Err(Errno::ERANGE));
    fs::chdir(c"/")?;
    equal!(cwd()?, b"/");
    Ok(())
}

fn listing() -> Outcome {
    scratch()?;
    for n in 0..200 {
        touch(&CString::new(format!("file-{n}")).map_err(|_| Errno::EINVAL)?)?;
    }
    let fd = fs::open(c".", O_RDONLY | O_DIRECTORY, 0)?;
    let mut names = fs::list(fd)?;
    equal!(names.len(), 202);
    names.sort();
    names.dedup();
    equal!(names.len(), 202);
    ensure!(names.iter().any(|n| n == b".") && names.iter().any(|n| n == b".."), "dots are listed");
    io::seek(fd, 0, 0)?;
    equal!(fs::list(fd)?.len(), 202);
    equal!(fs::getdents(fd, &mut [0; 8192])?, 0);
    io::seek(fd, 0, 0)?;
    equal!(fs::getdents(fd, &mut [0; 4]), Err(Errno::EINVAL));
    // Removing what was listed, while listing, loses and repeats nothing.
    let mut removed = 0;
    let mut buffer = [0; 512];
    io::seek(fd, 0, 0)?;
    loop {
        let filled = fs::getdents(fd, &mut buffer)?;
        if filled == 0 {
            break;
        }
        let mut rest = &buffer[..filled];
        while !rest.is_empty() {
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = rest[19..len].split(|&b| b == 0).next().unwrap_or_default();
            if name.starts_with(b"file-") {
                fs::unlink(&CString::new(name).map_err(|_| Errno::EINVAL)?)?;
                removed += 1;
            }
            rest = &rest[len..];
        }
    }
    equal!(removed, 200);
    Ok(())
}

fn removed_directory() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o700)?;
    fs::chdir(c"d")?;
    fs::rmdir(c"../d")?;
    equal!(touch(c"x"), Err(Errno::ENOENT));
    equal!(cwd().err(), Some(Errno::ENOENT));
    let fd = fs::open(c".", O_RDONLY, 0)?;
    equal!(fs::getdents(fd, &mut [0; 512]).unwrap_or(0), 0);
    Ok(())
}

fn many_names() -> Outcome {
    scratch()?;
    let name = |n: u32| CString::new(format!("n{n}")).map_err(|_| Errno::EINVAL);
    for n in 0..3000 {
        touch(&name(n)?)?;
    }
    for n in (0..3000).step_by(2) {
        fs::unlink(&name(n)?)?;
    }
    for n in 0..3000 {
        equal!(fs::stat(&name(n)?).is_ok(), n % 2 == 1);
    }
    Ok(())
}

/// Runs `check` in a child that is user 1000.
fn as_user(check: fn() -> Outcome) -> Outcome {
    if process::getpid() == 0 {
        return Ok(());
    }
    let status = process::in_child(|| {
        // SAFETY: 1. no memory is named.
        let dropped = unsafe {
            syscall!(__NR_setgroups, 0, 0).is_ok()
                && syscall!(__NR_setresgid, 1000, 1000, 1000).is_ok()
                && syscall!(__NR_setresuid, 1000, 1000, 1000).is_ok()
        };
        match check() {
            Ok(()) if dropped => 0,
            Ok(()) => 2,
            Err(failure) => {
                rt::eprintln!("as user: {}", failure.0);
                1
            }
        }
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn permissions() -> Outcome {
    scratch()?;
    touch(c"secret")?;
    fs::chmod(c"secret", 0o600)?;
    fs::mkdir(c"closed", 0o700)?;
    touch(c"closed/x")?;
    fs::mkdir(c"readable", 0o744)?;
    fs::chmod(c".", 0o755)?;
    as_user(|| {
        equal!(fs::open(c"secret", O_RDONLY, 0), Err(Errno::EACCES));
        equal!(fs::stat(c"closed/x").err(), Some(Errno::EACCES));
        equal!(touch(c"new"), Err(Errno::EACCES));
        equal!(fs::chmod(c"secret", 0o777), Err(Errno::EPERM));
        equal!(fs::access(c"secret", 4), Err(Errno::EACCES));
        fs::open(c"readable", O_RDONLY | O_DIRECTORY, 0)?;
        equal!(fs::stat(c"readable/x").err(), Some(Errno::EACCES));
        equal!(fs::unlink(c"secret"), Err(Errno::EACCES));
        Ok(())
    })
}

fn sticky() -> Outcome {
    scratch()?;
    fs::mkdir(c"t", 0o777)?;
    fs::chmod(c"t", 0o1777)?;
    touch(c"t/roots")?;
    as_user(|| {
        equal!(fs::unlink(c"t/roots"), Err(Errno::EPERM));
        touch(c"t/mine")?;
        fs::unlink(c"t/mine")?;
        Ok(())
    })
}

fn negative_then_created() -> Outcome {
    scratch()?;
    for _ in 0..3 {
        equal!(fs::stat(c"later").err(), Some(Errno::ENOENT));
    }
    touch(c"later")?;
    fs::stat(c"later")?;
    fs::unlink(c"later")?;
    equal!(fs::stat(c"later").err(), Some(Errno::ENOENT));
    Ok(())
}
