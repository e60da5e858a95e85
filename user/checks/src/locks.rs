//! flock(2), record locks, leases.

use crate::names::scratch;
use crate::{Check, Outcome, ensure, equal, skip};
use alloc::format;
use core::ffi::CStr;
use rt::nr::*;
use rt::{Errno, Result, fs, io, process, signal, syscall};

pub const CHECKS: &[Check] = &[
    ("flock", flock_excludes),
    ("records", records),
    ("records_go_with_close", records_go),
    ("leases", leases),
    ("lease_breaks", lease_breaks),
    ("lease_times_out", lease_times_out),
];

fn flock(fd: io::Fd, operation: u32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_flock, fd, operation) }.map(drop)
}

fn flock_excludes() -> Outcome {
    scratch()?;
    let one = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let two = fs::open(c"f", O_RDWR, 0)?;
    flock(one, 1)?;
    flock(two, 1 | 4)?;
    equal!(flock(one, 2 | 4), Err(Errno::EAGAIN));
    flock(two, 8)?;
    flock(one, 2 | 4)?;
    equal!(flock(two, 1 | 4), Err(Errno::EAGAIN));
    io::close(one)?;
    flock(two, 2 | 4)?;
    Ok(())
}

/// fcntl(2) with a `struct flock` of `kind` over [start, start + len).
fn record(fd: io::Fd, command: u32, kind: u16, start: u64, len: u64) -> Result<[u64; 4]> {
    let mut lock = [u64::from(kind), start, len, 0];
    // SAFETY: 1. the kernel reads and writes one flock, 32 bytes.
    unsafe { syscall!(__NR_fcntl, fd, command, lock.as_mut_ptr()) }?;
    Ok(lock)
}

fn records() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    record(fd, F_SETLK, 1, 0, 100)?;
    record(fd, F_SETLK, 2, 40, 20)?;
    let owner = process::getpid() as u64;
    let status = process::in_child(|| {
        let seen = || -> Outcome {
            equal!(record(fd, F_SETLK, 1, 0, 10), Err(Errno::EAGAIN));
            equal!(record(fd, F_SETLK, 0, 60, 1), Err(Errno::EAGAIN));
            record(fd, F_SETLK, 1, 45, 10)?;
            let lock = record(fd, F_GETLK, 1, 70, 5)?;
            equal!((lock[1], lock[2], lock[3] & 0xffff_ffff), (60, 40, owner));
            equal!(record(fd, F_GETLK, 1, 200, 5)?[0] & 0xffff, 2);
            Ok(())
        };
        match seen() {
            Ok(()) => 0,
            Err(failure) => {
                rt::eprintln!("{}", failure.0);
                1
            }
        }
    })?;
    equal!(status.exit_code(), Some(0));
    record(fd, F_SETLK, 1, 45, 10)?;
    Ok(())
}

/// Closing any descriptor of the file drops all of the process's records.
fn records_go() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    record(fd, F_SETLK, 1, 0, 0)?;
    io::close(fs::open(c"f", O_RDONLY, 0)?)?;
    let status = process::in_child(|| i32::from(record(fd, F_SETLK, 1, 0, 0).is_err()))?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

/// fcntl(2) with a number.
fn control(fd: io::Fd, command: u32, arg: usize) -> Result<usize> {
    // SAFETY: 1. the commands used here name no memory.
    unsafe { syscall!(__NR_fcntl, fd, command, arg) }
}

const READ: usize = F_RDLCK as usize;
const WRITE: usize = F_WRLCK as usize;
const NONE: usize = F_UNLCK as usize;
const WAIT_NS: u64 = 20_000_000_000;

/// Waits for a signal of `set`: its number, code, band and descriptor.
fn signal_about(set: u64) -> Result<(u32, i32, u64, i32)> {
    let mut info = [0u64; 16];
    let limit = rt::time::timespec(WAIT_NS);
    // SAFETY: 1. the kernel reads a set and a time, and writes one siginfo of 128 bytes.
    let signal =
        unsafe { syscall!(__NR_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), &raw const limit, 8) }?;
    Ok((signal as u32, info[1] as i32, info[2], info[3] as i32))
}

/// Who may have which lease on what.
fn leases() -> Outcome {
    scratch()?;
    let writer = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let reader = fs::open(c"f", O_RDONLY, 0)?;
    equal!(control(reader, F_GETLEASE, 0)?, NONE);
    equal!(control(reader, F_SETLEASE, 7), Err(Errno::EINVAL));
    equal!(control(reader, F_SETLEASE, NONE), Err(Errno::EAGAIN));
    // Open for writing: no read lease. Open twice: no write lease.
    equal!(control(reader, F_SETLEASE, READ), Err(Errno::EAGAIN));
    equal!(control(writer, F_SETLEASE, WRITE), Err(Errno::EAGAIN));
    io::close(reader)?;
    control(writer, F_SETLEASE, WRITE)?;
    equal!(control(writer, F_GETLEASE, 0)?, WRITE);
    equal!(control(writer, F_SETLEASE, READ), Err(Errno::EAGAIN));
    io::close(writer)?;
    let one = fs::open(c"f", O_RDONLY, 0)?;
    let two = fs::open(c"f", O_RDONLY, 0)?;
    control(one, F_SETLEASE, READ)?;
    control(two, F_SETLEASE, READ)?;
    equal!(control(one, F_SETLEASE, WRITE), Err(Errno::EAGAIN));
    // Readers do not conflict with readers.
    io::close(fs::open(c"f", O_RDONLY | O_NONBLOCK, 0)?)?;
    control(one, F_SETLEASE, NONE)?;
    equal!((control(one, F_GETLEASE, 0)?, control(two, F_GETLEASE, 0)?), (NONE, READ));
    io::close(two)?;
    control(one, F_SETLEASE, WRITE)?;
    // A file that is only named does not count; nor does what is no regular file have leases.
    io::close(fs::open(c"f", O_PATH, 0)?)?;
    equal!(control(fs::open(c".", O_RDONLY, 0)?, F_SETLEASE, WRITE), Err(Errno::EINVAL));
    equal!(control(io::pipe(0)?.0, F_SETLEASE, READ), Err(Errno::EINVAL));
    let shown = alloc::string::String::from_utf8_lossy(&fs::read_file(c"/proc/locks")?).into_owned();
    let ino = format!(":{} 0 EOF", fs::fstat(one)?.st_ino);
    let line = shown.lines().find(|line| line.contains("LEASE") && line.ends_with(&ino));
    let start = format!("LEASE  ACTIVE    WRITE {} ", process::getpid());
    ensure!(line.is_some_and(|line| line.contains(&start)), "not in /proc/locks: {line:?}");
    Ok(())
}

/// Who opens or truncates waits until the holder gives way.
fn lease_breaks() -> Outcome {
    scratch()?;
    let sigio = signal::bit(SIGIO);
    signal::mask(SIG_BLOCK, sigio | signal::bit(SIGUSR1))?;
    io::close(fs::open(c"f", O_CREAT | O_RDWR, 0o600)?)?;
    let fd = fs::open(c"f", O_RDONLY, 0)?;
    control(fd, F_SETLEASE, READ)?;
    equal!(fs::open(c"f", O_WRONLY | O_NONBLOCK, 0), Err(Errno::EAGAIN));
    equal!(signal_about(sigio)?.0, SIGIO);
    equal!(control(fd, F_GETLEASE, 0)?, NONE);
    // It was told already; a second attempt tells nobody.
    equal!(fs::open(c"f", O_RDWR | O_NONBLOCK, 0), Err(Errno::EAGAIN));
    equal!(signal::pending()? & sigio, 0);
    control(fd, F_SETLEASE, NONE)?;
    io::close(fs::open(c"f", O_WRONLY | O_NONBLOCK, 0)?)?;
    // A write lease becomes one for reading when another reads. The signal may be another, and then says more.
    control(fd, F_SETSIG, SIGUSR1 as usize)?;
    control(fd, F_SETLEASE, WRITE)?;
    let (read, write) = io::pipe(0)?;
    let opener = |flags: u32| -> Result<process::Pid> {
        let child = process::fork()?;
        if child.is_none() {
            let _ = io::close(fd);
            let opened = fs::open(c"f", flags, 0);
            let _ = io::write(write, &[u8::from(opened.is_ok())]);
            process::exit(0);
        }
        Ok(child.unwrap_or(0))
    };
    let child = opener(O_RDONLY)?;
    let (number, code, band, about) = signal_about(signal::bit(SIGUSR1))?;
    equal!((number, code, band, about), (SIGUSR1, 3, 0x441, fd));
    equal!(control(fd, F_GETLEASE, 0)?, READ);
    let mut byte = [0];
    io::set_nonblocking(read, true)?;
    equal!(io::read(read, &mut byte), Err(Errno::EAGAIN));
    io::set_nonblocking(read, false)?;
    control(fd, F_SETLEASE, READ)?;
    io::read(read, &mut byte)?;
    equal!((byte, control(fd, F_GETLEASE, 0)?), ([1], READ));
    process::wait_exit(child)?;
    // The end of the holder's file is as good.
    let child = opener(O_RDWR | O_TRUNC)?;
    equal!(signal_about(signal::bit(SIGUSR1))?.0, SIGUSR1);
    io::close(fd)?;
    io::read(read, &mut byte)?;
    equal!(byte, [1]);
    process::wait_exit(child)?;
    Ok(())
}

/// A holder that does nothing loses its lease after a while; truncate(2) breaks leases, too. Signals end the wait.
fn lease_times_out() -> Outcome {
    const SECONDS: &CStr = c"/proc/sys/fs/lease-break-time";
    scratch()?;
    signal::mask(SIG_BLOCK, signal::bit(SIGIO))?;
    let before = fs::read_file(SECONDS)?;
    io::close(fs::open(c"f", O_CREAT | O_RDWR, 0o600)?)?;
    let fd = fs::open(c"f", O_RDONLY, 0)?;
    control(fd, F_SETLEASE, READ)?;
    // One that waits is interrupted.
    extern "C" fn nothing(_: i32) {}
    let child = process::fork()?;
    if child.is_none() {
        let _ = signal::set_action(SIGUSR1, signal::Action::Handle(nothing), 0, 0);
        process::exit(i32::from(fs::open(c"f", O_WRONLY, 0) != Err(Errno::EINTR)));
    }
    equal!(signal_about(signal::bit(SIGIO))?.0, SIGIO);
    // It may not sleep yet when the signal comes: then it comes again.
    let child = child.unwrap_or(0);
    let status = loop {
        process::kill(child, SIGUSR1)?;
        match process::wait(child, WNOHANG)? {
            Some((_, status)) => break status,
            None => rt::time::sleep_ns(10_000_000),
        }
    };
    equal!(status.exit_code(), Some(0));
    // It is still being broken, with the time that there was at first.
    equal!(control(fd, F_GETLEASE, 0)?, NONE);
    control(fd, F_SETLEASE, NONE)?;
    if fs::write_file(SECONDS, b"1").is_err() {
        return Err(skip("may not change lease-break-time"));
    }
    control(fd, F_SETLEASE, READ)?;
    // SAFETY: 1. the path ends with a zero.
    let truncated = unsafe { syscall!(__NR_truncate, c"f".as_ptr(), 0) };
    let left = control(fd, F_GETLEASE, 0);
    fs::write_file(SECONDS, &before)?;
    truncated?;
    equal!((left, control(fd, F_SETLEASE, NONE)), (Ok(NONE), Err(Errno::EAGAIN)));
    Ok(())
}
