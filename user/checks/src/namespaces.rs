//! Calls about other processes and CPUs: setns(2), membarrier(2), process_madvise(2).

use crate::{Check, Outcome, ensure, equal, skip};
use rt::nr::*;
use rt::{Errno, Result, fs, io, process, syscall};

pub const CHECKS: &[Check] = &[
    ("joined", joined),
    ("joining_needs_a_right", joining_needs_a_right),
    ("related", related),
    ("barriers", barriers),
    ("advice_for_others", advice_for_others),
];

const NEWNS: usize = 0x2_0000;
const NEWUTS: usize = 0x400_0000;

fn setns(fd: i32, flags: usize) -> Result<usize> {
    // SAFETY: 1. setns takes numbers.
    unsafe { syscall!(__NR_setns, fd, flags) }
}

fn joined() -> Outcome {
    let uts = fs::open(c"/proc/self/ns/uts", O_RDONLY, 0)?;
    equal!(setns(uts, NEWNS), Err(Errno::EINVAL));
    let null = fs::open(c"/dev/null", O_RDONLY, 0)?;
    equal!(setns(null, 0), Err(Errno::EINVAL));
    equal!(setns(999, 0), Err(Errno::EBADF));
    let user = fs::open(c"/proc/self/ns/user", O_RDONLY, 0)?;
    equal!(setns(user, 0), Err(Errno::EINVAL));
    // SAFETY: 1. pidfd_open takes numbers.
    let own = unsafe { syscall!(__NR_pidfd_open, process::getpid(), 0) }? as i32;
    equal!(setns(own, 0), Err(Errno::EINVAL));
    equal!(setns(own, 1), Err(Errno::EINVAL));
    match setns(uts, 0) {
        Err(Errno::EPERM) => return Err(skip("no right to join")),
        result => equal!(result, Ok(0)),
    }
    equal!(setns(uts, NEWUTS), Ok(0));
    equal!(setns(own, NEWUTS), Ok(0));
    io::close(uts)?;
    Ok(())
}

fn joining_needs_a_right() -> Outcome {
    let uts = fs::open(c"/proc/self/ns/uts", O_RDONLY, 0)?;
    let child = process::fork()?;
    if child.is_none() {
        // SAFETY: 1. setresuid takes numbers.
        let _ = unsafe { syscall!(__NR_setresuid, 1000, 1000, 1000) };
        process::exit(i32::from(setns(uts, 0) != Err(Errno::EPERM)));
    }
    equal!(process::wait_exit(child.unwrap_or(0))?.exit_code(), Some(0));
    Ok(())
}

/// ioctl_ns(2): who owns a namespace, and what is above it.
fn related() -> Outcome {
    const NS_GET_USERNS: usize = 0xb701;
    const NS_GET_PARENT: usize = 0xb702;
    const NS_GET_NSTYPE: usize = 0xb703;
    const NS_GET_OWNER_UID: usize = 0xb704;
    let mut owner = u32::MAX;
    // SAFETY: 1. the commands take no argument, or write one number there.
    let mut ask = |fd: i32, command: usize| unsafe { syscall!(__NR_ioctl, fd, command, &raw mut owner) };
    let uts = fs::open(c"/proc/self/ns/uts", O_RDONLY, 0)?;
    let user = ask(uts, NS_GET_USERNS)? as i32;
    equal!(ask(user, NS_GET_NSTYPE), Ok(0x1000_0000));
    equal!(io::fcntl(user, F_GETFD, 0)?, FD_CLOEXEC as usize);
    equal!(fs::fstat(user)?.st_ino, fs::stat(c"/proc/self/ns/user")?.st_ino);
    equal!(ask(user, NS_GET_USERNS), Err(Errno::EPERM));
    equal!(ask(user, NS_GET_PARENT), Err(Errno::EPERM));
    equal!(ask(fs::open(c"/proc/self/ns/pid", O_RDONLY, 0)?, NS_GET_PARENT), Err(Errno::EPERM));
    equal!(ask(uts, NS_GET_PARENT), Err(Errno::EINVAL));
    equal!(ask(uts, NS_GET_OWNER_UID), Err(Errno::EINVAL));
    equal!(ask(user, NS_GET_OWNER_UID), Ok(0));
    ensure!(owner != u32::MAX, "no owner was written");
    Ok(())
}

fn barrier(command: u32, flags: u32) -> Result<usize> {
    // SAFETY: 1. membarrier takes numbers.
    unsafe { syscall!(__NR_membarrier, command, flags, 0) }
}

fn barriers() -> Outcome {
    let known = barrier(0, 0)?;
    ensure!(known & 0x1b == 0x1b, "it knows {known:#x}");
    equal!(barrier(0, 1), Err(Errno::EINVAL));
    equal!(barrier(1 << 20, 0), Err(Errno::EINVAL));
    equal!(barrier(8, 0), Err(Errno::EPERM));
    equal!(barrier(16, 0)?, 0);
    equal!(barrier(8, 0)?, 0);
    equal!(barrier(4, 0)?, 0);
    equal!(barrier(2, 0)?, 0);
    equal!(barrier(1, 0)?, 0);
    if known & 512 != 0 {
        equal!(barrier(512, 0)?, 16 | 4);
    }
    // Those that also synchronise instructions, or leave restartable sequences; the latter also of one CPU.
    for command in [32, 128].into_iter().filter(|command| known & *command as usize != 0) {
        equal!(barrier(command, 0), Err(Errno::EPERM));
        equal!(barrier(command << 1, 0)?, 0);
        equal!(barrier(command, 0)?, 0);
        equal!(barrier(command, 1), if command == 128 { Ok(0) } else { Err(Errno::EINVAL) });
        equal!(barrier(command, 2), Err(Errno::EINVAL));
    }
    // What was registered holds for a child.
    let child = process::fork()?;
    if child.is_none() {
        process::exit(i32::from(barrier(8, 0) != Ok(0)));
    }
    equal!(process::wait_exit(child.unwrap_or(0))?.exit_code(), Some(0));
    Ok(())
}

fn advice_for_others() -> Outcome {
    const COLD: i32 = 20;
    let memory = rt::mm::map_anonymous(3 * 4096)?;
    let segments = [[memory as usize, 4096], [memory as usize + 8192, 4096]];
    // SAFETY: 1. pidfd_open takes numbers; 2. the kernel reads two segments.
    let own = unsafe { syscall!(__NR_pidfd_open, process::getpid(), 0) }?;
    let advise = |fd: usize, advice: i32, flags: usize| unsafe {
        syscall!(__NR_process_madvise, fd, segments.as_ptr(), 2, advice, flags)
    };
    equal!(advise(own, COLD, 1), Err(Errno::EINVAL));
    equal!(advise(999, COLD, 0), Err(Errno::EBADF));
    let (read, _write) = io::pipe(0)?;
    equal!(advise(read as usize, COLD, 0), Err(Errno::EBADF));
    match advise(own, COLD, 0) {
        Err(Errno::EPERM) => return Err(skip("no right to advise")),
        result => equal!(result, Ok(8192)),
    }
    Ok(())
}
