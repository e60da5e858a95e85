//! Making, ending and waiting for processes; who belongs to whom.

use crate::hogs::Hog;
use crate::{Check, Outcome, ensure, equal};
use alloc::ffi::CString;
use alloc::format;
use rt::nr::*;
use rt::signal::Action;
use rt::{Errno, Result, io, process, signal, syscall, thread, time};

pub const CHECKS: &[Check] = &[
    ("exit_status", exit_status),
    ("no_children", no_children),
    ("nohang", nohang),
    ("orphans", orphans),
    ("subreaper", subreaper),
    ("groups", groups),
    ("sessions", sessions),
    ("waitid", waitid),
    ("stop_and_continue", stop_and_continue),
    ("threads", threads),
    ("parents_death", parents_death),
    ("thread_exit_group", thread_exit_group),
    ("many_children", many_children),
    ("fork_under_signals", fork_under_signals),
    ("group_dies_whole", group_dies_whole),
    ("vfork", vfork),
    ("credentials", credentials),
    ("limits", limits),
    ("process_limit", process_limit),
    ("process_limit_at_exec", process_limit_at_exec),
    ("names", names),
    ("rusage", rusage),
    ("set_tid", set_tid),
];

fn exit_status() -> Outcome {
    for code in [0, 1, 42, 255] {
        equal!(process::in_child(|| code)?.exit_code(), Some(code));
    }
    let status = process::in_child(|| {
        let _ = process::kill(process::getpid(), SIGKILL);
        0
    })?;
    equal!(status.signal(), Some(9));
    Ok(())
}

fn no_children() -> Outcome {
    equal!(process::wait(-1 as _, 0).err(), Some(Errno::ECHILD));
    let pid = process::fork()?;
    if pid.is_none() {
        process::exit(0);
    }
    equal!(process::wait(1, 0).err(), Some(Errno::ECHILD));
    process::wait_exit(pid.unwrap_or(0))?;
    equal!(process::wait(pid.unwrap_or(0), 0).err(), Some(Errno::ECHILD));
    Ok(())
}

fn nohang() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let Some(pid) = process::fork()? else {
        let _ = io::close(write);
        let _ = io::read(read, &mut [0]);
        process::exit(3)
    };
    equal!(process::wait(pid, 1)?, None);
    io::close(write)?;
    let (who, status) = process::wait(-1 as _, 0)?.ok_or(Errno::ECHILD)?;
    equal!((who, status.exit_code()), (pid, Some(3)));
    Ok(())
}

/// Makes a grandchild whose parent ends at once; answers whose child it then is.
fn grandchild_parent() -> Result<i32> {
    let (read, write) = io::pipe(0)?;
    process::in_child(|| {
        let parent = process::getpid();
        if process::fork() == Ok(None) {
            while process::getppid() == parent {
                process::yield_now();
            }
            let _ = io::write(write, &(process::getppid() as i32).to_ne_bytes());
            process::exit(0);
        }
        0
    })?;
    let mut answer = [0; 4];
    io::read(read, &mut answer)?;
    Ok(i32::from_ne_bytes(answer))
}

fn orphans() -> Outcome {
    ensure!(grandchild_parent()? != process::getpid() as i32, "an orphan goes to init");
    Ok(())
}

fn subreaper() -> Outcome {
    prctl(PR_SET_CHILD_SUBREAPER, 1)?;
    equal!(grandchild_parent()?, process::getpid() as i32);
    process::wait(-1 as _, 0)?;
    Ok(())
}

fn groups() -> Outcome {
    let me = process::getpid();
    equal!(process::getpgid(0)?, me);
    let (read, write) = io::pipe(0)?;
    let Some(child) = process::fork()? else {
        let _ = io::close(write);
        let _ = io::read(read, &mut [0]);
        process::exit(0)
    };
    equal!(process::getpgid(child)?, me);
    process::setpgid(child, child)?;
    equal!(process::getpgid(child)?, child);
    process::setpgid(child, me)?;
    equal!(process::setpgid(child, 1), Err(Errno::EPERM));
    equal!(process::setpgid(1, 1).err(), Some(Errno::ESRCH));
    equal!(process::getpgid(i32::MAX as _), Err(Errno::ESRCH));
    equal!(process::setsid(), Err(Errno::EPERM));
    io::close(write)?;
    process::wait_exit(child)?;
    Ok(())
}

fn sessions() -> Outcome {
    let status = process::in_child(|| {
        let me = process::getpid();
        // SAFETY: 1. no memory is named.
        let sid = || unsafe { syscall!(__NR_getsid, 0) };
        let ok = process::setsid() == Ok(me) && sid() == Ok(me as usize) && process::getpgid(0) == Ok(me);
        i32::from(!(ok && process::setpgid(0, 0) == Err(Errno::EPERM)))
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn waitid() -> Outcome {
    let Some(pid) = process::fork()? else { process::exit(7) };
    // The kernel clears it when it fails.
    let call = |options: u32| {
        let mut info = [0i32; 32];
        // SAFETY: 1. the kernel writes one siginfo, 128 bytes.
        let result = unsafe { syscall!(__NR_waitid, 1, pid, info.as_mut_ptr(), options, 0) };
        result.map(|_| (info[0], info[2], info[4], info[6]))
    };
    let wanted = (SIGCHLD as i32, 1, pid as i32, 7);
    equal!(call(4 | 0x0100_0000)?, wanted);
    equal!(call(4)?, wanted);
    equal!(call(4), Err(Errno::ECHILD));
    equal!(call(0), Err(Errno::EINVAL));
    Ok(())
}

fn stop_and_continue() -> Outcome {
    let Some(pid) = process::fork()? else {
        loop {
            time::sleep_ns(1_000_000_000);
        }
    };
    process::kill(pid, SIGSTOP)?;
    let (_, status) = process::wait(pid, 2)?.ok_or(Errno::ECHILD)?;
    equal!(status.stop_signal(), Some(SIGSTOP as i32));
    equal!(process::wait(pid, 1 | 2)?, None);
    process::kill(pid, SIGCONT)?;
    let (_, status) = process::wait(pid, 8)?.ok_or(Errno::ECHILD)?;
    equal!(status.0, 0xffff);
    process::kill(pid, SIGSTOP)?;
    process::wait(pid, 2)?;
    process::kill(pid, SIGKILL)?;
    equal!(process::wait_exit(pid)?.signal(), Some(9));
    Ok(())
}

fn threads() -> Outcome {
    use core::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let me = process::getpid();
    let mut handles = alloc::vec::Vec::new();
    for _ in 0..8 {
        handles.push(thread::spawn(move || {
            for _ in 0..1000 {
                COUNT.fetch_add(1, Ordering::Relaxed);
            }
            assert!(process::getpid() == me && process::gettid() != me);
        })?);
    }
    handles.into_iter().for_each(thread::Thread::join);
    equal!(COUNT.load(Ordering::Relaxed), 8000);
    Ok(())
}

const PR_SET_PDEATHSIG: u32 = 1;
const PR_GET_PDEATHSIG: u32 = 2;
const PR_SET_CHILD_SUBREAPER: u32 = 36;

/// prctl(2) with an address or a number.
fn prctl(option: u32, arg: usize) -> rt::Result<usize> {
    // SAFETY: 1. callers name memory of their own, or none.
    unsafe { syscall!(__NR_prctl, option, arg, 0, 0, 0) }
}

fn death_signal() -> rt::Result<u32> {
    let mut signal = 0u32;
    prctl(PR_GET_PDEATHSIG, &raw mut signal as usize)?;
    Ok(signal)
}

/// A child of a thread, not of the process, as far as PR_SET_PDEATHSIG goes.
fn parents_death() -> Outcome {
    const WAIT_NS: u64 = 20_000_000_000;
    let wanted = signal::bit(SIGUSR1) | signal::bit(SIGUSR2);
    signal::mask(SIG_BLOCK, wanted)?;
    equal!(prctl(PR_SET_PDEATHSIG, 65), Err(Errno::EINVAL));
    let (ready, ready_end) = io::pipe(0)?;
    let (done, done_end) = io::pipe(0)?;
    let body = move || {
        if process::fork() == Ok(None) {
            let asked = prctl(PR_SET_PDEATHSIG, SIGUSR1 as usize).is_ok() && death_signal() == Ok(SIGUSR1);
            let _ = io::write(ready_end, b"r");
            // Told at the end of the thread; the process is still the parent. Told again when that ends, too.
            for _ in 0..2 {
                let told = signal::wait(wanted, Some(WAIT_NS)) == Ok(SIGUSR1);
                let _ = io::write(done_end, &[u8::from(asked && told)]);
            }
            process::exit(0);
        }
        let _ = io::read(ready, &mut [0]);
    };
    let parent = process::in_child(|| {
        let mut byte = [0];
        match thread::spawn(body) {
            Ok(thread) => thread.join(),
            Err(_) => return 2,
        }
        let _ = io::read(done, &mut byte);
        i32::from(byte != [1])
    })?;
    equal!(parent.exit_code(), Some(0));
    let mut byte = [0];
    io::read(done, &mut byte)?;
    equal!(byte, [1]);
    // The same of a process; what asks may be a second thread; a child of the child does not inherit it.
    let middle = process::in_child(|| {
        let forked = process::fork();
        if forked == Ok(None) {
            let asked = thread::spawn(move || {
                let _ = prctl(PR_SET_PDEATHSIG, SIGUSR2 as usize);
                let inherits = process::in_child(|| i32::from(death_signal() != Ok(0)));
                let ok = inherits.is_ok_and(|status| status.exit_code() == Some(0));
                let _ = io::write(ready_end, &[u8::from(ok)]);
                let told = signal::wait(wanted, Some(WAIT_NS)) == Ok(SIGUSR2);
                let _ = io::write(done_end, &[u8::from(told)]);
            });
            process::exit(asked.map(thread::Thread::join).map_or(1, |()| 0));
        }
        let mut byte = [0];
        let _ = io::read(ready, &mut byte);
        i32::from(byte != [1])
    })?;
    equal!(middle.exit_code(), Some(0));
    io::read(done, &mut byte)?;
    equal!(byte, [1]);
    death_signal_is_cleared()
}

/// By a change of ids or capabilities of the thread, not by exec of an ordinary program.
fn death_signal_is_cleared() -> Outcome {
    prctl(PR_SET_PDEATHSIG, SIGUSR1 as usize)?;
    let status = process::in_child(|| {
        let _ = prctl(PR_SET_PDEATHSIG, SIGUSR1 as usize);
        // SAFETY: 1. no memory is named.
        if unsafe { syscall!(__NR_setresuid, 47_110, 47_110, 47_110) }.is_err() {
            return 0;
        }
        i32::from(death_signal() != Ok(0))
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn thread_exit_group() -> Outcome {
    let status = process::in_child(|| {
        let handle = thread::spawn(|| process::exit(5));
        time::sleep_ns(20_000_000_000);
        drop(handle);
        1
    })?;
    equal!(status.exit_code(), Some(5));
    Ok(())
}

fn many_children() -> Outcome {
    for round in 0..5 {
        let mut pids = alloc::vec::Vec::new();
        for n in 0..40 {
            match process::fork()? {
                Some(pid) => pids.push((pid, n)),
                None => process::exit(n),
            }
        }
        for (pid, n) in pids {
            equal!((round, process::wait_exit(pid)?.exit_code()), (round, Some(n)));
        }
    }
    Ok(())
}

extern "C" fn nothing(_: i32) {}

/// A fork that a signal meets is given up on the way and made again: nothing of the first attempt stays.
fn fork_under_signals() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(nothing), 0, 0)?;
    let parent = process::getpid();
    let Some(sender) = process::fork()? else {
        while process::kill(parent, SIGUSR1).is_ok() {
            time::sleep_ns(700_000);
        }
        process::exit(0)
    };
    let sender = Hog(sender);
    let (read, write) = io::pipe(0)?;
    for _ in 0..100 {
        equal!(process::in_child(|| 7)?.exit_code(), Some(7));
    }
    drop(sender);
    // Nobody has the other end any more.
    io::close(write)?;
    equal!(io::read(read, &mut [0])?, 0);
    equal!(process::wait(-1, WNOHANG), Err(Errno::ECHILD));
    Ok(())
}

/// A signal to a group reaches a child that is being made, by itself or by way of its parent, who then makes none.
fn group_dies_whole() -> Outcome {
    prctl(PR_SET_CHILD_SUBREAPER, 1)?;
    // SIGTERM is blocked during fork, as in the C library's. What comes after that and before the call is the parent's
    // alone, on Linux, too: a few children may live.
    let mut missed = 0;
    for round in 0..80 {
        let signal = if round % 2 == 0 { SIGKILL } else { SIGTERM };
        let fork = || {
            signal::mask(SIG_BLOCK, signal::bit(SIGTERM))?;
            let forked = process::fork();
            signal::mask(SIG_UNBLOCK, signal::bit(SIGTERM))?;
            forked
        };
        let (ready, ready_end) = io::pipe(0)?;
        let Some(leader) = process::fork()? else {
            let _ = process::setpgid(0, 0).and_then(|()| io::write(ready_end, b"r"));
            for _ in 0..40 {
                if fork() == Ok(None) {
                    time::sleep_ns(2_000_000_000);
                    process::exit(3);
                }
            }
            time::sleep_ns(20_000_000_000);
            process::exit(3)
        };
        io::read(ready, &mut [0])?;
        time::sleep_ns(round * 40_000);
        process::kill(-leader, signal)?;
        equal!(process::wait_exit(leader)?.signal(), Some(signal as i32));
        while let Ok(ended) = process::wait(-1, 0) {
            missed += u32::from(ended.and_then(|(_, status)| status.signal()) != Some(signal as i32));
        }
        ensure!(missed <= 10, "signals of {round} rounds missed {missed} children");
        io::close(ready)?;
        io::close(ready_end)?;
    }
    Ok(())
}

fn vfork() -> Outcome {
    let argv = process::Strings::new([c"sh", c"-c", c"exit 9"]);
    let envp = process::Strings::new([]);
    let pid = process::vfork_exec(c"/bin/sh", &argv, &envp)?;
    equal!(process::wait_exit(pid)?.exit_code(), Some(9));
    let pid = process::vfork_exec(c"/no/such/program", &argv, &envp)?;
    equal!(process::wait_exit(pid)?.exit_code(), Some(127));
    Ok(())
}

fn credentials() -> Outcome {
    // SAFETY: 1. calls that name no memory, or arrays of the sizes their man pages give.
    unsafe {
        if syscall!(__NR_geteuid)? != 0 {
            return Ok(());
        }
        syscall!(__NR_setgroups, 2, [10u32, 20].as_ptr())?;
        let mut groups = [0u32; 4];
        equal!(syscall!(__NR_getgroups, 4, groups.as_mut_ptr())?, 2);
        equal!(&groups[..2], &[10, 20]);
        equal!(syscall!(__NR_getgroups, 1, groups.as_mut_ptr()), Err(Errno::EINVAL));
        syscall!(__NR_setresuid, 1000, 1001, 1002)?;
        let mut ids = [0u32; 3];
        syscall!(__NR_getresuid, &raw mut ids[0], &raw mut ids[1], &raw mut ids[2])?;
        equal!(ids, [1000, 1001, 1002]);
        syscall!(__NR_setresuid, u32::MAX, 1002, u32::MAX)?;
        equal!(syscall!(__NR_geteuid)?, 1002);
        equal!(syscall!(__NR_setresuid, u32::MAX, 0, u32::MAX), Err(Errno::EPERM));
        equal!(syscall!(__NR_setgroups, 0, 0), Err(Errno::EPERM));
        equal!(syscall!(__NR_kill, 1, 0), Err(Errno::EPERM));
        equal!(syscall!(__NR_sethostname, c"x".as_ptr(), 1), Err(Errno::EPERM));
    }
    Ok(())
}

fn limits() -> Outcome {
    let mut limit = [0u64; 2];
    // SAFETY: 1. the kernel reads and writes one rlimit64.
    unsafe {
        syscall!(__NR_prlimit64, 0, 7, 0, limit.as_mut_ptr())?;
        ensure!(limit[0] >= 256 && limit[1] >= limit[0], "RLIMIT_NOFILE {limit:?}");
        let lower = [100u64, 200];
        syscall!(__NR_prlimit64, 0, 7, lower.as_ptr(), 0)?;
        syscall!(__NR_prlimit64, 0, 7, 0, limit.as_mut_ptr())?;
        equal!(limit, lower);
        equal!(syscall!(__NR_prlimit64, 0, 7, [300u64, 200].as_ptr(), 0), Err(Errno::EINVAL));
        equal!(syscall!(__NR_prlimit64, 0, 99, 0, limit.as_mut_ptr()), Err(Errno::EINVAL));
    }
    Ok(())
}

/// RLIMIT_NPROC counts a zombie until it is waited for, and a process whose thread ran exec once.
fn process_limit() -> Outcome {
    const RLIMIT_NPROC: usize = 6;
    let fork = || match process::fork() {
        Ok(None) => process::exit(0),
        Ok(Some(pid)) => Ok(pid),
        Err(errno) => Err(errno),
    };
    // SAFETY: 1. no memory is named.
    if unsafe { syscall!(__NR_setresuid, 47_110, 47_110, 47_110) }.is_err() {
        return Err(crate::skip("not root"));
    }
    for _ in 0..4 {
        let Some(child) = process::fork()? else { exec_from_a_thread() };
        equal!(process::wait_exit(child)?.exit_code(), Some(0));
    }
    // SAFETY: 1. the kernel reads one rlimit64.
    unsafe { syscall!(__NR_prlimit64, 0, RLIMIT_NPROC, [2u64, 2].as_ptr(), 0) }?;
    for _ in 0..4 {
        let child = fork()?;
        equal!(fork().err(), Some(Errno::EAGAIN));
        // It ends, and stays a zombie.
        // SAFETY: 1. the kernel writes one siginfo, 128 bytes.
        unsafe { syscall!(__NR_waitid, 1, child, [0u64; 16].as_mut_ptr(), 0x0100_0004, 0) }?;
        equal!(fork().err(), Some(Errno::EAGAIN));
        process::wait_exit(child)?;
    }
    Ok(())
}

/// Becoming a user who has too many processes is no error; running a program then is, until there are fewer.
fn process_limit_at_exec() -> Outcome {
    const RLIMIT_NPROC: usize = 6;
    const USER: u32 = 47_111;
    // SAFETY: 1. no memory is named.
    let become_user = || unsafe { syscall!(__NR_setresuid, USER, USER, USER) };
    let start_other = || -> core::result::Result<process::Pid, crate::Failure> {
        let Some(other) = process::fork()? else {
            if become_user().is_err() {
                process::exit(1);
            }
            time::sleep_ns(60_000_000_000);
            process::exit(0)
        };
        let path = CString::new(format!("/proc/{other}")).unwrap_or_default();
        while rt::fs::stat(&path)?.st_uid != USER {
            if process::wait(other, WNOHANG)?.is_some() {
                return Err(crate::skip("not root"));
            }
            time::sleep_ns(1_000_000);
        }
        Ok(other)
    };
    let others = [start_other()?, start_other()?];
    // SAFETY: 1. the kernel reads one rlimit64.
    unsafe { syscall!(__NR_prlimit64, 0, RLIMIT_NPROC, [1u64, 1].as_ptr(), 0) }?;
    become_user()?;
    // The limit is looked at first.
    let none = process::Strings::new([]);
    let run = || process::execve(c"/no such program", &none, &none);
    for other in others {
        equal!(run(), Errno::EAGAIN);
        process::kill(other, SIGKILL)?;
        process::wait_exit(other)?;
    }
    equal!(run(), Errno::ENOENT);
    Ok(())
}

/// Runs this program anew from a thread that does not lead the process.
fn exec_from_a_thread() -> ! {
    let _thread = thread::spawn(|| {
        let argv = process::Strings::new([c"checks", c"--list"]);
        if let Ok(null) = rt::fs::open(c"/dev/null", O_WRONLY, 0) {
            let _ = io::dup2(null, 1);
        }
        process::execve(c"/proc/self/exe", &argv, &process::Strings::new([]));
        process::exit(1)
    });
    loop {
        time::sleep_ns(1_000_000_000);
    }
}

fn names() -> Outcome {
    let mut name = [0u8; 16];
    // SAFETY: 1. the kernel reads a string and writes 16 bytes.
    unsafe {
        syscall!(__NR_prctl, 15, c"a-rather-long-name".as_ptr(), 0, 0, 0)?;
        syscall!(__NR_prctl, 16, name.as_mut_ptr(), 0, 0, 0)?;
    }
    equal!(&name, b"a-rather-long-n\0");
    equal!(rt::fs::read_file(c"/proc/self/comm")?, b"a-rather-long-n\n");
    Ok(())
}

fn rusage() -> Outcome {
    process::in_child(|| {
        while time::clock_ns(2).is_ok_and(|used_ns| used_ns < 60_000_000) {}
        0
    })?;
    let usage = process::rusage(-1)?;
    let us = |t: &__kernel_old_timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    let total = us(&usage.ru_utime) + us(&usage.ru_stime);
    ensure!(total >= 59_000, "a child that ran 60 ms is charged {total} us");
    Ok(())
}

fn set_tid() -> Outcome {
    let word = 0u32;
    // SAFETY: 1. the word outlives the call; it is cleared only at the thread's end.
    equal!(unsafe { syscall!(__NR_set_tid_address, &raw const word) }?, process::gettid() as usize);
    Ok(())
}
