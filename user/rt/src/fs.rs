//! Names: opening, making, removing, mounting.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use alloc::vec::Vec;

use crate::io::{self, Fd};
use crate::nr::*;
use crate::{Result, syscall};

pub use crate::nr::stat as Stat;

const CWD: i32 = AT_FDCWD;

/// `open(2)`; `flags` are `O_*`.
pub fn open(path: &CStr, flags: u32, mode: u32) -> Result<Fd> {
    open_at(CWD, path, flags, mode)
}

/// `openat(2)`.
pub fn open_at(dir: Fd, path: &CStr, flags: u32, mode: u32) -> Result<Fd> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_openat, dir, path.as_ptr(), flags, mode) }.map(|fd| fd as Fd)
}

/// The whole content of a file.
pub fn read_file(path: &CStr) -> Result<Vec<u8>> {
    let fd = open(path, O_RDONLY | O_CLOEXEC, 0)?;
    let mut content = Vec::new();
    let mut buf = [0; 4096];
    let result = loop {
        match io::read_full(fd, &mut buf) {
            Ok(0) => break Ok(content),
            Ok(n) => content.extend_from_slice(&buf[..n]),
            Err(e) => break Err(e),
        }
    };
    io::close(fd)?;
    result
}

/// Makes or truncates a file (mode 0644) and writes `content` to it.
pub fn write_file(path: &CStr, content: &[u8]) -> Result<()> {
    let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)?;
    let result = io::write_all(fd, content);
    io::close(fd)?;
    result
}

/// `mkdir(2)`.
pub fn mkdir(path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_mkdirat, CWD, path.as_ptr(), mode) }.map(drop)
}

/// `unlink(2)`.
pub fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_unlinkat, CWD, path.as_ptr(), 0) }.map(drop)
}

/// `rmdir(2)`.
pub fn rmdir(path: &CStr) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_unlinkat, CWD, path.as_ptr(), AT_REMOVEDIR) }.map(drop)
}

/// `symlink(2)`: makes `path` name `target`.
pub fn symlink(target: &CStr, path: &CStr) -> Result<()> {
    // SAFETY: 1. both strings are NUL-terminated and only read.
    unsafe { syscall!(__NR_symlinkat, target.as_ptr(), CWD, path.as_ptr()) }.map(drop)
}

/// `link(2)`.
pub fn link(from: &CStr, to: &CStr) -> Result<()> {
    // SAFETY: 1. both strings are NUL-terminated and only read.
    unsafe { syscall!(__NR_linkat, CWD, from.as_ptr(), CWD, to.as_ptr(), 0) }.map(drop)
}

/// `renameat2(2)`; `flags` are `RENAME_*`.
pub fn rename(from: &CStr, to: &CStr, flags: u32) -> Result<()> {
    // SAFETY: 1. both strings are NUL-terminated and only read.
    unsafe { syscall!(__NR_renameat2, CWD, from.as_ptr(), CWD, to.as_ptr(), flags) }.map(drop)
}

/// `mknod(2)`; `mode` carries the type bits, `dev` the device number.
pub fn mknod(path: &CStr, mode: u32, dev: u32) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_mknodat, CWD, path.as_ptr(), mode, dev) }.map(drop)
}

/// `newfstatat(2)`; `flags` are `AT_*`.
pub fn stat_at(dir: Fd, path: &CStr, flags: u32) -> Result<Stat> {
    let mut stat = MaybeUninit::<Stat>::zeroed();
    // SAFETY: 1. `path` is NUL-terminated and only read; 2. the kernel writes one `stat`.
    unsafe { syscall!(__NR_newfstatat, dir, path.as_ptr(), stat.as_mut_ptr(), flags) }?;
    // SAFETY: 1. all its fields are integers, zeroed and then written.
    Ok(unsafe { stat.assume_init() })
}

/// `stat(2)`.
pub fn stat(path: &CStr) -> Result<Stat> {
    stat_at(CWD, path, 0)
}

/// `lstat(2)`.
pub fn lstat(path: &CStr) -> Result<Stat> {
    stat_at(CWD, path, AT_SYMLINK_NOFOLLOW)
}

/// `fstat(2)`.
pub fn fstat(fd: Fd) -> Result<Stat> {
    stat_at(fd, c"", AT_EMPTY_PATH)
}

/// `faccessat(2)` with the real ids; `mode` is `R_OK` 4, `W_OK` 2, `X_OK` 1, or 0 for existence.
pub fn access(path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_faccessat, CWD, path.as_ptr(), mode) }.map(drop)
}

/// `chmod(2)`.
pub fn chmod(path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_fchmodat, CWD, path.as_ptr(), mode) }.map(drop)
}

/// `truncate(2)` of an open file.
pub fn ftruncate(fd: Fd, len: u64) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_ftruncate, fd, len) }.map(drop)
}

/// `readlink(2)` into `buf`; answers the part that was filled.
pub fn readlink<'a>(path: &CStr, buf: &'a mut [u8]) -> Result<&'a [u8]> {
    // SAFETY: 1. `path` is NUL-terminated and only read; 2. the kernel writes only within `buf`.
    let n = unsafe { syscall!(__NR_readlinkat, CWD, path.as_ptr(), buf.as_mut_ptr(), buf.len()) }?;
    Ok(&buf[..n])
}

/// `getdents64(2)`: raw records, see the man page. Answers the bytes filled.
pub fn getdents(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: 1. the kernel writes only within `buf`.
    unsafe { syscall!(__NR_getdents64, fd, buf.as_mut_ptr(), buf.len()) }
}

/// The names in an open directory, `.` and `..` included, in the order that the file system gives.
pub fn list(fd: Fd) -> Result<Vec<Vec<u8>>> {
    const NAME: usize = 19; // offset of d_name in linux_dirent64
    let mut names = Vec::new();
    let mut buf = [0; 2048];
    loop {
        let filled = getdents(fd, &mut buf)?;
        if filled == 0 {
            return Ok(names);
        }
        let mut rest = &buf[..filled];
        while rest.len() > NAME {
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]])).clamp(NAME, rest.len());
            names.push(rest[NAME..len].split(|&b| b == 0).next().unwrap_or_default().to_vec());
            rest = &rest[len..];
        }
    }
}

/// `chdir(2)`.
pub fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_chdir, path.as_ptr()) }.map(drop)
}

/// `chroot(2)`.
pub fn chroot(path: &CStr) -> Result<()> {
    // SAFETY: 1. `path` is NUL-terminated and only read.
    unsafe { syscall!(__NR_chroot, path.as_ptr()) }.map(drop)
}

/// `finit_module(2)` with the kernel module in a file, without parameters.
pub fn load_module(path: &CStr) -> Result<()> {
    let fd = open(path, O_RDONLY | O_CLOEXEC, 0)?;
    // SAFETY: 1. the string is NUL-terminated and only read.
    let result = unsafe { syscall!(__NR_finit_module, fd, c"".as_ptr(), 0) };
    io::close(fd)?;
    result.map(drop)
}

/// `mount(2)`; `flags` are `MS_*`.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u32, data: &CStr) -> Result<()> {
    // SAFETY: 1. all strings are NUL-terminated and only read.
    unsafe { syscall!(__NR_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr()) }
        .map(drop)
}

/// `umount2(2)`.
pub fn umount(target: &CStr, flags: u32) -> Result<()> {
    // SAFETY: 1. the string is NUL-terminated and only read.
    unsafe { syscall!(__NR_umount2, target.as_ptr(), flags) }.map(drop)
}

/// `sync(2)`.
pub fn sync() {
    // SAFETY: 1. no memory is named. It has no error to report.
    let _ = unsafe { syscall!(__NR_sync) };
}
