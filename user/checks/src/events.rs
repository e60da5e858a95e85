//! Timers, signals and processes as descriptors: timerfd, signalfd, pidfd.

use crate::{Check, Outcome, ensure, equal};
use alloc::ffi::CString;
use alloc::format;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, fs, process, signal, syscall, time};

pub const CHECKS: &[Check] = &[
    ("timerfd_counts", timerfd_counts),
    ("timerfd_waits", timerfd_waits),
    ("timerfd_absolute", timerfd_absolute),
    ("timerfd_flood", timerfd_flood),
    ("timerfd_errors", timerfd_errors),
    ("signalfd_reads", signalfd_reads),
    ("signalfd_waits", signalfd_waits),
    ("signalfd_child", signalfd_child),
    ("signalfd_errors", signalfd_errors),
    ("pidfd_exit", pidfd_exit),
    ("pidfd_signal", pidfd_signal),
    ("pidfd_directory", pidfd_directory),
    ("pidfd_clone", pidfd_clone),
    ("pidfd_getfd", pidfd_getfd),
    ("pidfd_errors", pidfd_errors),
];

const IN: u32 = 1;
const MS: u64 = 1_000_000;

fn readable(fd: Fd) -> Result<bool> {
    Ok(io::poll(&mut [io::poll_fd(fd, IN)], Some(0), None)? == 1)
}

fn wait_readable(fd: Fd) -> Result<()> {
    io::poll(&mut [io::poll_fd(fd, IN)], None, None).map(drop)
}

// ---- timerfd ----

fn timerfd(clock: u32, flags: u32) -> Result<Fd> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_timerfd_create, clock, flags) }.map(|fd| fd as Fd)
}

fn spec(interval_ns: u64, value_ns: u64) -> [__kernel_timespec; 2] {
    [time::timespec(interval_ns), time::timespec(value_ns)]
}

fn set(fd: Fd, flags: u32, new: &[__kernel_timespec; 2]) -> Result<()> {
    // SAFETY: 1. the kernel reads one itimerspec.
    unsafe { syscall!(__NR_timerfd_settime, fd, flags, new.as_ptr(), 0) }.map(drop)
}

fn ns(spec: __kernel_timespec) -> u64 {
    spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64
}

/// Interval and time left.
fn get(fd: Fd) -> Result<(u64, u64)> {
    let mut now = spec(0, 0);
    // SAFETY: 1. the kernel writes one itimerspec.
    unsafe { syscall!(__NR_timerfd_gettime, fd, now.as_mut_ptr()) }?;
    Ok((ns(now[0]), ns(now[1])))
}

fn ticks(fd: Fd) -> Result<u64> {
    let mut bytes = [0; 8];
    io::read(fd, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn timerfd_counts() -> Outcome {
    let fd = timerfd(CLOCK_MONOTONIC, TFD_NONBLOCK)?;
    equal!(ticks(fd), Err(Errno::EAGAIN));
    equal!(get(fd)?, (0, 0));
    set(fd, 0, &spec(10 * MS, 10 * MS))?;
    time::sleep_ns(55 * MS);
    ensure!(readable(fd)?, "not readable after five periods");
    let first = ticks(fd)?;
    ensure!(first >= 5, "{first} ticks in 55 ms");
    let (interval, left) = get(fd)?;
    ensure!(interval == 10 * MS && left <= 10 * MS && left > 0, "{interval} {left}");
    set(fd, 0, &spec(0, 0))?;
    equal!(ticks(fd), Err(Errno::EAGAIN));
    equal!(readable(fd)?, false);
    Ok(())
}

fn timerfd_waits() -> Outcome {
    let fd = timerfd(CLOCK_MONOTONIC, 0)?;
    let start = time::now_ns();
    set(fd, 0, &spec(0, 30 * MS))?;
    equal!(readable(fd)?, false);
    wait_readable(fd)?;
    equal!(ticks(fd)?, 1);
    ensure!(time::now_ns() - start >= 30 * MS, "early");
    // A read that has to wait.
    set(fd, 0, &spec(0, 30 * MS))?;
    equal!(ticks(fd)?, 1);
    equal!(get(fd)?, (0, 0));
    Ok(())
}

fn timerfd_absolute() -> Outcome {
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME] {
        let fd = timerfd(clock, 0)?;
        let until = time::clock_ns(clock)? + 20 * MS;
        set(fd, TFD_TIMER_ABSTIME, &spec(0, until))?;
        equal!(ticks(fd)?, 1);
        ensure!(time::clock_ns(clock)? >= until, "early on clock {clock}");
        // What has passed is due at once, and a period counts from there.
        set(fd, TFD_TIMER_ABSTIME, &spec(MS, until - 10 * MS))?;
        let count = ticks(fd)?;
        ensure!(count >= 10, "{count} ticks");
    }
    Ok(())
}

fn timerfd_flood() -> Outcome {
    let fd = timerfd(CLOCK_MONOTONIC, 0)?;
    set(fd, 0, &spec(1, 1))?;
    time::sleep_ns(5 * MS);
    let first = ticks(fd)?;
    ensure!(first >= 5 * MS, "{first} ticks of a nanosecond in 5 ms");
    Ok(())
}

fn timerfd_errors() -> Outcome {
    equal!(timerfd(CLOCK_PROCESS_CPUTIME_ID, 0), Err(Errno::EINVAL));
    equal!(timerfd(99, 0), Err(Errno::EINVAL));
    equal!(timerfd(CLOCK_MONOTONIC, 1), Err(Errno::EINVAL));
    let fd = timerfd(CLOCK_MONOTONIC, TFD_NONBLOCK)?;
    let mut bad = spec(0, 0);
    bad[1].tv_nsec = 1_000_000_000;
    equal!(set(fd, 0, &bad), Err(Errno::EINVAL));
    equal!(set(fd, 64, &spec(0, 1)), Err(Errno::EINVAL));
    equal!(io::read(fd, &mut [0; 7]), Err(Errno::EINVAL));
    equal!(io::write(fd, &[0; 8]), Err(Errno::EINVAL));
    let (pipe, _keep) = io::pipe(0)?;
    equal!(set(pipe, 0, &spec(0, 1)), Err(Errno::EINVAL));
    equal!(set(999, 0, &spec(0, 1)), Err(Errno::EBADF));
    // SAFETY: 1. the kernel refuses the address.
    equal!(unsafe { syscall!(__NR_timerfd_settime, fd, 0, 0, 0) }, Err(Errno::EFAULT));
    Ok(())
}

// ---- signalfd ----

fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

fn signalfd(fd: Fd, mask: u64, flags: u32) -> Result<Fd> {
    // SAFETY: 1. the kernel reads one set of 8 bytes.
    unsafe { syscall!(__NR_signalfd4, fd, &raw const mask, 8, flags) }.map(|fd| fd as Fd)
}

/// The first words of a record: signal, errno, code, pid, uid.
fn record(fd: Fd) -> Result<[u32; 32]> {
    let mut bytes = [0u8; 128];
    io::read(fd, &mut bytes)?;
    let mut words = [0; 32];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(4)) {
        *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    Ok(words)
}

fn signalfd_reads() -> Outcome {
    let set = bit(SIGUSR1) | bit(SIGUSR2);
    signal::mask(SIG_BLOCK, set)?;
    let fd = signalfd(-1, set, EFD_NONBLOCK)?;
    equal!(record(fd), Err(Errno::EAGAIN));
    equal!(readable(fd)?, false);
    let own = process::getpid();
    process::kill(own, SIGUSR2)?;
    process::kill(own, SIGUSR1)?;
    equal!(readable(fd)?, true);
    // Both in one read, the lower number first; code SI_USER.
    let mut both = [0u8; 300];
    equal!(io::read(fd, &mut both)?, 256);
    equal!((both[0], both[128]), (SIGUSR1 as u8, SIGUSR2 as u8));
    equal!(u32::from_ne_bytes([both[12], both[13], both[14], both[15]]), own as u32);
    equal!(signal::pending()?, 0);
    equal!(record(fd), Err(Errno::EAGAIN));
    // Another set for the same descriptor.
    equal!(signalfd(fd, bit(SIGUSR2), 0)?, fd);
    process::kill(own, SIGUSR1)?;
    equal!(readable(fd)?, false);
    Ok(())
}

fn signalfd_waits() -> Outcome {
    signal::mask(SIG_BLOCK, bit(SIGUSR1))?;
    let fd = signalfd(-1, bit(SIGUSR1), 0)?;
    let own = process::getpid();
    for wait in [wait_readable as fn(Fd) -> Result<()>, |_| Ok(())] {
        if process::fork()?.is_none() {
            time::sleep_ns(30 * MS);
            let _ = process::kill(own, SIGUSR1);
            process::exit(0);
        }
        wait(fd)?;
        equal!(record(fd)?[0], SIGUSR1);
    }
    Ok(())
}

fn signalfd_child() -> Outcome {
    signal::mask(SIG_BLOCK, bit(SIGCHLD))?;
    let fd = signalfd(-1, bit(SIGCHLD), 0)?;
    let Some(child) = process::fork()? else { process::exit(7) };
    let words = record(fd)?;
    // Code CLD_EXITED, pid, status at byte 40.
    equal!((words[0], words[2], words[3], words[10]), (SIGCHLD, 1, child as u32, 7));
    Ok(())
}

fn signalfd_errors() -> Outcome {
    let (pipe, _keep) = io::pipe(0)?;
    equal!(signalfd(pipe, 0, 0), Err(Errno::EINVAL));
    equal!(signalfd(999, 0, 0), Err(Errno::EBADF));
    equal!(signalfd(-1, 0, 1), Err(Errno::EINVAL));
    let set = 0u64;
    // SAFETY: 1. the kernel refuses the size.
    equal!(unsafe { syscall!(__NR_signalfd4, usize::MAX, &raw const set, 4, 0) }, Err(Errno::EINVAL));
    // SIGKILL is not refused, only never seen.
    let fd = signalfd(-1, bit(SIGKILL), EFD_NONBLOCK)?;
    equal!(io::read(fd, &mut [0; 127]), Err(Errno::EINVAL));
    Ok(())
}

// ---- pidfd ----

fn pidfd_open(pid: i32, flags: u32) -> Result<Fd> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_pidfd_open, pid, flags) }.map(|fd| fd as Fd)
}

fn send(pidfd: Fd, signal: u32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_pidfd_send_signal, pidfd, signal, 0, 0) }.map(drop)
}

fn sleeper() -> Result<i32> {
    match process::fork()? {
        Some(child) => Ok(child as i32),
        None => loop {
            time::sleep_ns(1000 * MS);
        },
    }
}

fn pidfd_exit() -> Outcome {
    let child = sleeper()?;
    let fd = pidfd_open(child, 0)?;
    equal!(readable(fd)?, false);
    process::kill(child as _, SIGKILL)?;
    wait_readable(fd)?;
    let mut info = [0u32; 32];
    // SAFETY: 1. the kernel writes one siginfo of 128 bytes.
    unsafe { syscall!(__NR_waitid, 3, fd, info.as_mut_ptr(), WEXITED, 0) }?;
    equal!((info[0], info[4], info[6]), (SIGCHLD, child as u32, SIGKILL));
    equal!(send(fd, SIGKILL), Err(Errno::ESRCH));
    equal!(readable(fd)?, true);
    Ok(())
}

fn pidfd_signal() -> Outcome {
    let child = sleeper()?;
    let fd = pidfd_open(child, 0)?;
    send(fd, 0)?;
    equal!(send(fd, 65), Err(Errno::EINVAL));
    send(fd, SIGTERM)?;
    equal!(process::wait_exit(child as _)?.signal(), Some(SIGTERM as i32));
    Ok(())
}

/// A directory of /proc stands for its process; one of a thread, or another, does not.
fn pidfd_directory() -> Outcome {
    let child = sleeper()?;
    let open = |path: alloc::string::String| {
        let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
        fs::open(&path, O_RDONLY | O_DIRECTORY, 0)
    };
    let (own, thread) = (open(format!("/proc/{child}"))?, open(format!("/proc/{child}/task/{child}"))?);
    send(own, 0)?;
    equal!(send(thread, 0), Err(Errno::EBADF));
    equal!(send(open("/proc".into())?, 0), Err(Errno::EBADF));
    send(own, SIGTERM)?;
    equal!(process::wait_exit(child as _)?.signal(), Some(SIGTERM as i32));
    equal!(send(own, SIGTERM), Err(Errno::ESRCH));
    Ok(())
}

fn pidfd_clone() -> Outcome {
    let mut fd: Fd = -1;
    // SAFETY: 1. a child with a copy of all memory, as fork makes it; 2. the kernel writes one int.
    let child = unsafe { syscall!(__NR_clone, CLONE_PIDFD | SIGCHLD, 0, &raw mut fd, 0, 0) }?;
    if child == 0 {
        process::exit(3);
    }
    ensure!(fd >= 0, "no descriptor");
    equal!(io::fcntl(fd, F_GETFD, 0)?, 1);
    wait_readable(fd)?;
    equal!(process::wait_exit(child as _)?.exit_code(), Some(3));
    Ok(())
}

fn pidfd_getfd() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let child = sleeper()?;
    io::close(read)?;
    let fd = pidfd_open(child, 0)?;
    // SAFETY: 1. no memory is named.
    let taken = unsafe { syscall!(__NR_pidfd_getfd, fd, read, 0) }? as Fd;
    io::write(write, b"x")?;
    let mut byte = [0];
    equal!(io::read(taken, &mut byte)?, 1);
    // SAFETY: 1. no memory is named.
    equal!(unsafe { syscall!(__NR_pidfd_getfd, fd, 999, 0) }, Err(Errno::EBADF));
    process::kill(child as _, SIGKILL)?;
    process::wait_exit(child as _)?;
    // SAFETY: 1. no memory is named.
    equal!(unsafe { syscall!(__NR_pidfd_getfd, fd, write, 0) }, Err(Errno::ESRCH));
    Ok(())
}

fn pidfd_errors() -> Outcome {
    equal!(pidfd_open(0, 0), Err(Errno::EINVAL));
    equal!(pidfd_open(-1, 0), Err(Errno::EINVAL));
    equal!(pidfd_open(0x3fff_ffff, 0), Err(Errno::ESRCH));
    equal!(pidfd_open(process::getpid() as i32, 1), Err(Errno::EINVAL));
    let (pipe, _keep) = io::pipe(0)?;
    equal!(send(pipe, 0), Err(Errno::EBADF));
    let fd = pidfd_open(process::getpid() as i32, 0)?;
    equal!(io::read(fd, &mut [0]), Err(Errno::EINVAL));
    Ok(())
}
