//! flock(2) and record locks.

use crate::names::scratch;
use crate::{Check, Outcome, equal};
use rt::nr::*;
use rt::{Errno, Result, fs, io, process, syscall};

pub const CHECKS: &[Check] =
    &[("flock", flock_excludes), ("records", records), ("records_go_with_close", records_go)];

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
