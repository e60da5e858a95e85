//! Descriptors: reading, writing, pipes, polling; and `print!`.

use core::fmt::{self, Write};

use crate::nr::*;
use crate::{Errno, Result, syscall};

/// A file descriptor. Plain, not owned: tests close, duplicate and misuse them on purpose.
pub type Fd = i32;

pub use crate::nr::pollfd as PollFd;

/// `read(2)`.
pub fn read(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: 1. the kernel writes only within `buf`.
    unsafe { syscall!(__NR_read, fd, buf.as_mut_ptr(), buf.len()) }
}

/// `write(2)`.
pub fn write(fd: Fd, buf: &[u8]) -> Result<usize> {
    // SAFETY: 1. the kernel only reads `buf`.
    unsafe { syscall!(__NR_write, fd, buf.as_ptr(), buf.len()) }
}

/// Writes all of `buf`, going on after partial writes and signals.
pub fn write_all(fd: Fd, mut buf: &[u8]) -> Result<()> {
    while !buf.is_empty() {
        match write(fd, buf) {
            Ok(n) => buf = &buf[n..],
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the end of the file; answers the bytes read.
pub fn read_full(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match read(fd, &mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// `pread64(2)`.
pub fn pread(fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: 1. the kernel writes only within `buf`.
    unsafe { syscall!(__NR_pread64, fd, buf.as_mut_ptr(), buf.len(), offset) }
}

/// `pwrite64(2)`.
pub fn pwrite(fd: Fd, buf: &[u8], offset: u64) -> Result<usize> {
    // SAFETY: 1. the kernel only reads `buf`.
    unsafe { syscall!(__NR_pwrite64, fd, buf.as_ptr(), buf.len(), offset) }
}

/// `lseek(2)`; `whence` is `SEEK_*`.
pub fn seek(fd: Fd, offset: i64, whence: u32) -> Result<u64> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_lseek, fd, offset, whence) }.map(|at| at as u64)
}

/// `close(2)`.
pub fn close(fd: Fd) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_close, fd) }.map(drop)
}

/// `pipe2(2)`: (read end, write end).
pub fn pipe(flags: u32) -> Result<(Fd, Fd)> {
    let mut fds = [0i32; 2];
    // SAFETY: 1. the kernel writes two ints.
    unsafe { syscall!(__NR_pipe2, fds.as_mut_ptr(), flags) }?;
    Ok((fds[0], fds[1]))
}

/// `dup3(2)`.
pub fn dup3(from: Fd, to: Fd, flags: u32) -> Result<Fd> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_dup3, from, to, flags) }.map(|fd| fd as Fd)
}

/// `dup2(2)`: like `dup3` without flags, but `from == to` is no error.
pub fn dup2(from: Fd, to: Fd) -> Result<Fd> {
    if from == to { fcntl(from, F_GETFD, 0).map(|_| to) } else { dup3(from, to, 0) }
}

/// `fcntl(2)`, the commands that take an integer or nothing; `EINVAL` for others.
pub fn fcntl(fd: Fd, command: u32, arg: usize) -> Result<usize> {
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL | F_SETFL | F_GETPIPE_SZ | F_SETPIPE_SZ => {
            // SAFETY: 1. these commands name no memory.
            unsafe { syscall!(__NR_fcntl, fd, command, arg) }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Sets or clears `O_NONBLOCK`.
pub fn set_nonblocking(fd: Fd, on: bool) -> Result<()> {
    let flags = fcntl(fd, F_GETFL, 0)?;
    let bit = O_NONBLOCK as usize;
    fcntl(fd, F_SETFL, if on { flags | bit } else { flags & !bit }).map(drop)
}

/// An entry for [`poll`].
pub fn poll_fd(fd: Fd, events: u32) -> PollFd {
    PollFd { fd, events: events as i16, revents: 0 }
}

/// `ppoll(2)`: waits for events, at most `timeout_ns` (`None`: without limit), with `mask` as the
/// blocked signals meanwhile (`None`: unchanged). Answers how many entries have events.
pub fn poll(fds: &mut [PollFd], timeout_ns: Option<u64>, mask: Option<u64>) -> Result<usize> {
    let limit = timeout_ns.map(crate::time::timespec);
    let limit_at = limit.as_ref().map_or(0, |t| &raw const *t as usize);
    let mask_at = mask.as_ref().map_or(0, |m| &raw const *m as usize);
    // SAFETY: 1. the kernel writes `revents` within `fds` (and the remaining time nowhere: raw ppoll writes it to
    // `limit`, which is ours); 2. the mask is 8 bytes.
    unsafe { syscall!(__NR_ppoll, fds.as_mut_ptr(), fds.len(), limit_at, mask_at, 8) }
}

/// Writes formatted text to a descriptor through a small buffer: one `write` a line in practice.
struct Writer {
    fd: Fd,
    used: usize,
    buf: [u8; 512],
}

impl Writer {
    fn flush(&mut self) -> fmt::Result {
        let used = core::mem::take(&mut self.used);
        write_all(self.fd, &self.buf[..used]).map_err(|_| fmt::Error)
    }
}

impl Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.buf.len() - self.used {
            self.flush()?;
        }
        if text.len() > self.buf.len() {
            return write_all(self.fd, text.as_bytes()).map_err(|_| fmt::Error);
        }
        self.buf[self.used..][..text.len()].copy_from_slice(text.as_bytes());
        self.used += text.len();
        Ok(())
    }
}

/// Formats to descriptor `fd`. An error is dropped, as C programs do with `printf`'s.
pub fn print_to(fd: Fd, args: fmt::Arguments<'_>) {
    let mut writer = Writer { fd, used: 0, buf: [0; 512] };
    let _ = writer.write_fmt(args).and_then(|()| writer.flush());
}

/// Formats a line to descriptor `fd`.
pub fn print_line_to(fd: Fd, args: fmt::Arguments<'_>) {
    let mut writer = Writer { fd, used: 0, buf: [0; 512] };
    let _ = writer.write_fmt(args).and_then(|()| writer.write_str("\n")).and_then(|()| writer.flush());
}

/// Formats to standard output.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::io::print_to(1, format_args!($($arg)*)) };
}

/// Formats a line to standard output.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::io::print_line_to(1, format_args!($($arg)*)) };
}

/// Formats a line to standard error.
#[macro_export]
macro_rules! eprintln {
    ($($arg:tt)*) => { $crate::io::print_line_to(2, format_args!($($arg)*)) };
}
