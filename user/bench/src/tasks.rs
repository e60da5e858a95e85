//! Processes, threads, and switching between them.

use crate::{CHILD, timed};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};
use rt::io::{self, Fd};
use rt::process::{self, Strings};
use rt::thread::{self, futex_wait, futex_wake};
use rt::{Result, env};

/// One byte to another process and one back.
pub fn pipe(n: u64) -> Result<u64> {
    let (to_read, to_write) = io::pipe(0)?;
    let (back_read, back_write) = io::pipe(0)?;
    let child = process::fork()?;
    let Some(pid) = child else {
        let mut byte = [0];
        let _ = io::close(to_write);
        while io::read(to_read, &mut byte) == Ok(1) && io::write(back_write, &byte).is_ok() {}
        process::exit(0)
    };
    let mut byte = [0];
    let result = timed(n, || {
        io::write(to_write, &[1])?;
        io::read(back_read, &mut byte).map(drop)
    });
    for fd in [to_read, to_write, back_read, back_write] {
        io::close(fd)?;
    }
    process::wait_exit(pid)?;
    result
}

/// 64 KiB at a time to a reader; per KiB.
pub fn pipe_bandwidth(n: u64) -> Result<u64> {
    let (read, write) = io::pipe(0)?;
    let mut buffer = alloc::vec![0; 1 << 16];
    let Some(pid) = process::fork()? else {
        let _ = io::close(write);
        while matches!(io::read(read, &mut buffer), Ok(1..)) {}
        process::exit(0)
    };
    io::close(read)?;
    let total_ns = timed(n.div_ceil(64), || io::write_all(write, &buffer))?;
    io::close(write)?;
    process::wait_exit(pid)?;
    Ok(total_ns * n / (n.div_ceil(64) * 64))
}

/// Two threads that wake each other by turns; per round trip.
pub fn futex_ping_pong(n: u64) -> Result<u64> {
    let turn = Arc::new(AtomicU32::new(0));
    let wait_for = |turn: &AtomicU32, wanted: u32| {
        while turn.load(Ordering::Acquire) != wanted {
            let _ = futex_wait(turn, 1 - wanted, None);
        }
    };
    let hand_over = |turn: &AtomicU32, to: u32| {
        turn.store(to, Ordering::Release);
        futex_wake(turn, 1).map(drop)
    };
    let other = turn.clone();
    let thread = thread::spawn(move || {
        for _ in 0..n {
            wait_for(&other, 1);
            let _ = hand_over(&other, 0);
        }
    })?;
    let result = timed(n, || {
        hand_over(&turn, 1)?;
        wait_for(&turn, 0);
        Ok(())
    });
    thread.join();
    result
}

/// A token round a ring of `count` processes on one CPU, through pipes; per switch.
fn ring(n: u64, count: usize) -> Result<u64> {
    let pipes = (0..count).map(|_| io::pipe(0)).collect::<Result<Vec<(Fd, Fd)>>>()?;
    process::set_affinity(0, 1)?;
    let mut children = Vec::new();
    for member in 1..count {
        match process::fork()? {
            Some(pid) => children.push(pid),
            None => pass_on(&pipes, member),
        }
    }
    let rounds = n.div_ceil(count as u64);
    let mut byte = [0];
    let total_ns = timed(rounds, || {
        io::write(pipes[0].1, &[1])?;
        io::read(pipes[count - 1].0, &mut byte).map(drop)
    });
    for (read, write) in pipes {
        io::close(read)?;
        io::close(write)?;
    }
    for pid in children {
        process::wait_exit(pid)?;
    }
    process::set_affinity(0, u64::MAX)?;
    Ok(total_ns? * n / (rounds * count as u64))
}

/// A member of the ring: from its predecessor's pipe into its own, until the ring is closed.
fn pass_on(pipes: &[(Fd, Fd)], member: usize) -> ! {
    let (from, to) = (pipes[member - 1].0, pipes[member].1);
    for &(read, write) in pipes {
        for fd in [read, write] {
            if fd != from && fd != to {
                let _ = io::close(fd);
            }
        }
    }
    let mut byte = [0];
    while io::read(from, &mut byte) == Ok(1) && io::write(to, &byte).is_ok() {}
    process::exit(0)
}

pub fn switch_2(n: u64) -> Result<u64> {
    ring(n, 2)
}

pub fn switch_16(n: u64) -> Result<u64> {
    ring(n, 16)
}

pub fn thread(n: u64) -> Result<u64> {
    timed(n, || {
        thread::spawn(|| {})?.join();
        Ok(())
    })
}

pub fn fork_exit(n: u64) -> Result<u64> {
    timed(n, || process::in_child(|| 0).map(drop))
}

/// fork(2) and execve(2) of this program, which ends at once.
pub fn fork_exec(n: u64) -> Result<u64> {
    run(n, c"/proc/self/exe", &[c"bench", c"--exit"])
}

/// `sh -c true`, with a shell that is built in nowhere.
pub fn shell(n: u64) -> Result<u64> {
    run(n, c"/bin/sh", &[c"sh", c"-c", c"true"])
}

/// Fails unless the program ran each time: a failed execve(2) would look fast.
fn run(n: u64, path: &CStr, args: &[&CStr]) -> Result<u64> {
    debug_assert!(CHILD == "--exit");
    let argv = Strings::new(args.iter().copied());
    let envp = Strings::new(env::vars());
    timed(n, || {
        let status = process::in_child(|| {
            process::execve(path, &argv, &envp);
            127
        })?;
        if status.exit_code() == Some(0) { Ok(()) } else { Err(rt::Errno::ENOEXEC) }
    })
}
