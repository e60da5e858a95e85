//! poll, select, epoll.

use crate::{Check, Outcome, equal};
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, process, syscall, time};

pub const CHECKS: &[Check] = &[
    ("poll_states", poll_states),
    ("poll_waits", poll_waits),
    ("poll_times_out", poll_times_out),
    ("select", select),
    ("epoll_level", epoll_level),
    ("epoll_edge", epoll_edge),
    ("epoll_oneshot", epoll_oneshot),
    ("epoll_errors", epoll_errors),
    ("epoll_nested", epoll_nested),
];

const IN: u32 = 1;
const OUT: u32 = 4;
const HUP: i16 = 16;
const ERR: i16 = 8;
const NVAL: i16 = 32;
const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;

fn poll_states() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let mut fds = [io::poll_fd(read, IN), io::poll_fd(write, OUT), io::poll_fd(999, IN), io::poll_fd(-1, IN)];
    equal!(io::poll(&mut fds, Some(0), None)?, 2);
    equal!(fds.map(|f| f.revents), [0, OUT as i16, NVAL, 0]);
    io::write(write, b"x")?;
    equal!(io::poll(&mut fds[..1], Some(0), None)?, 1);
    equal!(fds[0].revents, IN as i16);
    io::close(write)?;
    io::poll(&mut fds[..1], Some(0), None)?;
    equal!(fds[0].revents, IN as i16 | HUP);
    let (read, write) = io::pipe(0)?;
    io::close(read)?;
    let mut fds = [io::poll_fd(write, OUT)];
    io::poll(&mut fds, Some(0), None)?;
    equal!(fds[0].revents, OUT as i16 | ERR);
    Ok(())
}

fn write_later(fd: Fd) -> Result<()> {
    if process::fork()?.is_none() {
        time::sleep_ns(30_000_000);
        let _ = io::write(fd, b"x");
        time::sleep_ns(30_000_000);
        process::exit(0);
    }
    Ok(())
}

fn poll_waits() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let (quiet, _keep) = io::pipe(0)?;
    write_later(write)?;
    let mut fds = [io::poll_fd(quiet, IN), io::poll_fd(read, IN)];
    equal!(io::poll(&mut fds, None, None)?, 1);
    equal!(fds.map(|f| f.revents), [0, 1]);
    Ok(())
}

fn poll_times_out() -> Outcome {
    let (read, _write) = io::pipe(0)?;
    let start = time::now_ns();
    equal!(io::poll(&mut [io::poll_fd(read, IN)], Some(20_000_000), None)?, 0);
    crate::ensure!(time::now_ns() - start >= 20_000_000, "returned early");
    Ok(())
}

fn select() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let limit = time::timespec(0);
    let call = |reads: &mut [u64; 16], writes: &mut [u64; 16], n: Fd| {
        // SAFETY: 1. the sets have 1024 bits each; 2. the limit is a timespec.
        unsafe { syscall!(__NR_pselect6, n, reads.as_mut_ptr(), writes.as_mut_ptr(), 0, &raw const limit, 0) }
    };
    let (mut reads, mut writes) = ([0; 16], [0; 16]);
    reads[0] = 1 << read;
    writes[0] = 1 << write;
    equal!(call(&mut reads, &mut writes, write + 1)?, 1);
    equal!((reads[0], writes[0]), (0, 1 << write));
    io::write(write, b"x")?;
    reads[0] = 1 << read;
    equal!(call(&mut reads, &mut writes, write + 1)?, 2);
    io::close(read)?;
    reads[0] = 1 << read;
    equal!(call(&mut reads, &mut writes, write + 1), Err(Errno::EBADF));
    equal!(call(&mut reads, &mut writes, -1), Err(Errno::EINVAL));
    Ok(())
}

#[derive(Clone, Copy, Default, PartialEq, Debug)]
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
struct Event {
    events: u32,
    data: u64,
}

fn epoll() -> Result<Fd> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_epoll_create1, O_CLOEXEC) }.map(|fd| fd as Fd)
}

fn control(epoll: Fd, operation: u32, fd: Fd, events: u32) -> Result<()> {
    let event = Event { events, data: fd as u64 };
    // SAFETY: 1. the kernel reads one event.
    unsafe { syscall!(__NR_epoll_ctl, epoll, operation, fd, &raw const event) }.map(drop)
}

/// The data of the events that are ready, after at most `ms` milliseconds.
fn ready(epoll: Fd, ms: i32) -> Result<alloc::vec::Vec<(u64, u32)>> {
    let mut events = [Event::default(); 8];
    // SAFETY: 1. the kernel writes at most 8 events.
    let count = unsafe { syscall!(__NR_epoll_pwait, epoll, events.as_mut_ptr(), 8, ms, 0, 8) }?;
    Ok(events[..count].iter().map(|e| (e.data, e.events)).collect())
}

fn epoll_level() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let ep = epoll()?;
    control(ep, EPOLL_CTL_ADD, read, IN)?;
    equal!(ready(ep, 0)?, []);
    io::write(write, b"x")?;
    for _ in 0..2 {
        equal!(ready(ep, 0)?, [(read as u64, IN)]);
    }
    io::read(read, &mut [0])?;
    equal!(ready(ep, 0)?, []);
    write_later(write)?;
    equal!(ready(ep, -1)?, [(read as u64, IN)]);
    control(ep, EPOLL_CTL_DEL, read, 0)?;
    equal!(ready(ep, 0)?, []);
    Ok(())
}

fn epoll_edge() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let ep = epoll()?;
    control(ep, EPOLL_CTL_ADD, read, IN | EDGE)?;
    io::write(write, b"x")?;
    equal!(ready(ep, 0)?, [(read as u64, IN)]);
    equal!(ready(ep, 0)?, []);
    io::write(write, b"y")?;
    equal!(ready(ep, 0)?, [(read as u64, IN)]);
    Ok(())
}

fn epoll_oneshot() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let ep = epoll()?;
    control(ep, EPOLL_CTL_ADD, read, IN | ONESHOT)?;
    io::write(write, b"x")?;
    equal!(ready(ep, 0)?, [(read as u64, IN)]);
    io::write(write, b"y")?;
    equal!(ready(ep, 0)?, []);
    control(ep, EPOLL_CTL_MOD, read, IN | ONESHOT)?;
    equal!(ready(ep, 0)?, [(read as u64, IN)]);
    Ok(())
}

fn epoll_errors() -> Outcome {
    let (read, _write) = io::pipe(0)?;
    let ep = epoll()?;
    control(ep, EPOLL_CTL_ADD, read, IN)?;
    equal!(control(ep, EPOLL_CTL_ADD, read, IN), Err(Errno::EEXIST));
    equal!(control(ep, EPOLL_CTL_ADD, 999, IN), Err(Errno::EBADF));
    equal!(control(ep, EPOLL_CTL_ADD, ep, IN), Err(Errno::EINVAL));
    let other = rt::fs::open(c"/tmp", O_RDONLY, 0)?;
    equal!(control(ep, EPOLL_CTL_ADD, other, IN), Err(Errno::EPERM));
    let (stranger, _keep) = io::pipe(0)?;
    equal!(control(ep, EPOLL_CTL_MOD, stranger, IN), Err(Errno::ENOENT));
    equal!(control(ep, EPOLL_CTL_DEL, stranger, IN), Err(Errno::ENOENT));
    // A closed file leaves by itself.
    io::close(read)?;
    equal!(ready(ep, 0)?, []);
    Ok(())
}

fn epoll_nested() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let (inner, outer) = (epoll()?, epoll()?);
    control(inner, EPOLL_CTL_ADD, read, IN)?;
    control(outer, EPOLL_CTL_ADD, inner, IN)?;
    equal!(control(inner, EPOLL_CTL_ADD, outer, IN), Err(Errno::ELOOP));
    write_later(write)?;
    equal!(ready(outer, -1)?, [(inner as u64, IN)]);
    Ok(())
}
