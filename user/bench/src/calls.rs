//! Small system calls that do not switch tasks.

use crate::timed;
use alloc::vec::Vec;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Result, fs, process, syscall, time};

const POLLIN: u32 = 1;

/// getppid(2), which does next to nothing.
pub fn null(n: u64) -> Result<u64> {
    timed(n, || {
        process::getppid();
        Ok(())
    })
}

pub fn read_1(n: u64) -> Result<u64> {
    let fd = fs::open(c"/dev/zero", O_RDONLY, 0)?;
    let mut byte = [0];
    let result = timed(n, || io::read(fd, &mut byte).map(drop));
    io::close(fd)?;
    result
}

pub fn write_1(n: u64) -> Result<u64> {
    let fd = fs::open(c"/dev/null", O_WRONLY, 0)?;
    let result = timed(n, || io::write(fd, &[0]).map(drop));
    io::close(fd)?;
    result
}

/// `count` read ends of pipes, none of them ready, and their write ends.
fn quiet_pipes(count: usize) -> Result<(Vec<Fd>, Vec<Fd>)> {
    let mut ends = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (read, write) = io::pipe(0)?;
        ends.0.push(read);
        ends.1.push(write);
    }
    Ok(ends)
}

fn close_all(fds: &[Fd]) {
    for &fd in fds {
        let _ = io::close(fd);
    }
}

pub fn poll_100(n: u64) -> Result<u64> {
    let (reads, writes) = quiet_pipes(100)?;
    let mut fds: Vec<_> = reads.iter().map(|&fd| io::poll_fd(fd, POLLIN)).collect();
    let result = timed(n, || io::poll(&mut fds, Some(0), None).map(drop));
    close_all(&reads);
    close_all(&writes);
    result
}

pub fn select_100(n: u64) -> Result<u64> {
    let (reads, writes) = quiet_pipes(100)?;
    let top = reads.iter().copied().max().unwrap_or(0) as usize + 1;
    let limit = time::timespec(0);
    let result = timed(n, || {
        let mut set = [0u64; 16];
        for &fd in &reads {
            set[fd as usize / 64] |= 1 << (fd % 64);
        }
        // SAFETY: 1. the set has 1024 bits and `top` is below that; 2. the limit is a timespec.
        unsafe { syscall!(__NR_pselect6, top, set.as_mut_ptr(), 0, 0, &raw const limit, 0) }.map(drop)
    });
    close_all(&reads);
    close_all(&writes);
    result
}

extern "C" fn nothing(_: i32) {}

pub fn signal_install(n: u64) -> Result<u64> {
    timed(n, || signal::set_action(SIGUSR1, Action::Handle(nothing), 0, 0))
}

/// kill(2) to oneself, the handler, and its return.
pub fn signal_catch(n: u64) -> Result<u64> {
    signal::set_action(SIGUSR1, Action::Handle(nothing), 0, 0)?;
    let pid = process::getpid();
    let result = timed(n, || process::kill(pid, SIGUSR1));
    signal::set_action(SIGUSR1, Action::Default, 0, 0)?;
    result
}

/// One write and one read of an eventfd.
pub fn eventfd(n: u64) -> Result<u64> {
    // SAFETY: 1. no memory is named.
    let fd = unsafe { syscall!(__NR_eventfd2, 0, 0) }? as Fd;
    let mut value = [0; 8];
    let result = timed(n, || {
        io::write(fd, &1u64.to_le_bytes())?;
        io::read(fd, &mut value).map(drop)
    });
    io::close(fd)?;
    result
}

/// How much later than asked a sleep of 100 microseconds returns.
pub fn sleep_overshoot(n: u64) -> Result<u64> {
    const SLEEP_NS: u64 = 100_000;
    let total_ns = timed(n, || time::sleep_once_ns(SLEEP_NS))?;
    Ok(total_ns.saturating_sub(n * SLEEP_NS))
}
