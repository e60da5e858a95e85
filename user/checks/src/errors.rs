//! Bad arguments get the errno that Linux gives, and nothing else happens.

use crate::{Check, Outcome, ensure, equal};
use rt::io;
use rt::nr::*;
use rt::{Errno, Result, fs, syscall};

pub const CHECKS: &[Check] = &[
    ("bad_descriptor", bad_descriptor),
    ("bad_pointer", bad_pointer),
    ("kernel_pointer", kernel_pointer),
    ("bad_flags", bad_flags),
    ("no_such_call", no_such_call),
    ("bad_signal", bad_signal),
    ("huge_lengths", huge_lengths),
];

/// A system call with arguments that name no memory of this process.
fn call(number: u32, args: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: 1. every address in these checks is one that the kernel must refuse.
    unsafe { syscall!(number, a, b, c, d, e, f) }
}

fn bad_descriptor() -> Outcome {
    let mut byte = [0];
    for fd in [-1, 999, i32::MAX, i32::MIN] {
        equal!(io::read(fd, &mut byte), Err(Errno::EBADF));
        equal!(io::write(fd, &byte), Err(Errno::EBADF));
        equal!(io::close(fd), Err(Errno::EBADF));
        equal!(fs::fstat(fd).err(), Some(Errno::EBADF));
        equal!(io::fcntl(fd, F_GETFD, 0), Err(Errno::EBADF));
        equal!(call(__NR_ioctl, [fd as usize, 0x5401, 0, 0, 0, 0]), Err(Errno::EBADF));
    }
    let fd = fs::open(c"/dev/null", O_RDONLY, 0)?;
    equal!(io::write(fd, b"x"), Err(Errno::EBADF));
    let fd = fs::open(c"/dev/null", O_WRONLY, 0)?;
    equal!(io::read(fd, &mut byte), Err(Errno::EBADF));
    Ok(())
}

fn bad_pointer() -> Outcome {
    let fd = fs::open(c"/dev/zero", O_RDWR, 0)?;
    for at in [1usize, 8, 4095] {
        equal!(call(__NR_read, [fd as usize, at, 16, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_openat, [-100isize as usize, at, 0, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_clock_gettime, [1, at, 0, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_rt_sigprocmask, [0, at, 0, 8, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_pipe2, [at, 0, 0, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_uname, [at, 0, 0, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_execve, [at, 0, 0, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_getcwd, [at, 100, 0, 0, 0, 0]), Err(Errno::EFAULT));
    }
    // A write of bad memory to a pipe writes nothing.
    let (read, write) = io::pipe(O_NONBLOCK)?;
    equal!(call(__NR_write, [write as usize, 1, 16, 0, 0, 0]), Err(Errno::EFAULT));
    equal!(io::read(read, &mut [0]), Err(Errno::EAGAIN));
    Ok(())
}

fn kernel_pointer() -> Outcome {
    let fd = fs::open(c"/dev/zero", O_RDWR, 0)?;
    for at in [
        1usize << 63,
        usize::MAX - 4096,
        usize::MAX - 7,
        0xffff_ffc0_0000_0000,
        0xffff_ffff_8000_0000,
        1 << 62,
    ] {
        equal!(call(__NR_read, [fd as usize, at, 16, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_openat, [-100isize as usize, at, 0, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_uname, [at, 0, 0, 0, 0, 0]), Err(Errno::EFAULT));
        equal!(call(__NR_futex, [at & !3, 0, 0, 0, 0, 0]), Err(Errno::EFAULT));
    }
    Ok(())
}

fn bad_flags() -> Outcome {
    let bad = usize::MAX;
    equal!(call(__NR_pipe2, [0, bad, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_eventfd2, [0, bad, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_epoll_create1, [bad, 0, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_mmap, [0, 0, 3, 0x22, bad, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_mmap, [0, 4096, 3, 0, bad, 0]), Err(Errno::EBADF));
    equal!(call(__NR_munmap, [1, 4096, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_clock_gettime, [12345, 0, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_unlinkat, [0, 0, 0xdead, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_dup3, [0, 0, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_wait4, [0, 0, 0x1000_0000, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_lseek, [io::pipe(0)?.0 as usize, 0, 0, 0, 0, 0]), Err(Errno::ESPIPE));
    Ok(())
}

fn no_such_call() -> Outcome {
    for number in [1_000_000u32, 100_000, 999] {
        equal!(call(number, [0; 6]), Err(Errno::ENOSYS));
    }
    Ok(())
}

fn bad_signal() -> Outcome {
    let pid = rt::process::getpid() as usize;
    equal!(call(__NR_kill, [pid, 65, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_kill, [pid, usize::MAX, 0, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_kill, [i32::MAX as usize, 0, 0, 0, 0, 0]), Err(Errno::ESRCH));
    equal!(call(__NR_rt_sigaction, [SIGKILL as usize, 8, 0, 8, 0, 0]), Err(Errno::EFAULT));
    equal!(call(__NR_rt_sigaction, [0, 0, 0, 8, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_rt_sigaction, [SIGUSR1 as usize, 0, 0, 4, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_tgkill, [pid, 0, 1, 0, 0, 0]), Err(Errno::EINVAL));
    Ok(())
}

fn huge_lengths() -> Outcome {
    let fd = fs::open(c"/dev/zero", O_RDWR, 0)? as usize;
    let here = &raw const fd as usize;
    equal!(call(__NR_read, [fd, here, usize::MAX, 0, 0, 0]), Err(Errno::EFAULT));
    equal!(call(__NR_readv, [fd, here, 1025, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_mmap, [0, usize::MAX - 4095, 3, 0x22, usize::MAX, 0]), Err(Errno::ENOMEM));
    equal!(call(__NR_munmap, [4096, usize::MAX - 8191, 0, 0, 0, 0]), Err(Errno::EINVAL));
    ensure!(call(__NR_getrandom, [here, 8, 0x100, 0, 0, 0]) == Err(Errno::EINVAL), "getrandom flags");
    equal!(call(__NR_poll_or_ppoll(), [0, usize::MAX >> 1, 0, 0, 0, 0]), Err(Errno::EINVAL));
    Ok(())
}

#[allow(non_snake_case)]
const fn __NR_poll_or_ppoll() -> u32 {
    __NR_ppoll
}
