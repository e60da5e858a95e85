//! Priorities, classes, affinity, shares.

use crate::hogs::{self, Hog};
use crate::{Check, Outcome, ensure, equal};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use rt::nr::*;
use rt::{Errno, Result, mm, process, syscall, time};

pub const CHECKS: &[Check] = &[
    ("nice", nice),
    ("policies", policies),
    ("attributes", attributes),
    ("affinity", affinity),
    ("round_robin_interval", round_robin_interval),
    ("bad_arguments", bad_arguments),
    ("reset_on_fork", reset_on_fork),
    ("unprivileged", unprivileged),
    ("slices", slices),
    ("shares_of_nice", shares_of_nice),
    ("shares_of_idle", shares_of_idle),
    ("affinity_moves", affinity_moves),
    ("all_run_on_one_cpu", all_run_on_one_cpu),
];

/// A system call on this process that names only memory of the sizes its man page gives.
fn call(number: u32, a: usize, b: usize, c: usize) -> Result<usize> {
    // SAFETY: 1. by the sentence above, which every caller keeps.
    unsafe { syscall!(number, a, b, c, 0) }
}

fn nice() -> Outcome {
    equal!(call(__NR_getpriority, 0, 0, 0)?, 20);
    call(__NR_setpriority, 0, 0, 5)?;
    equal!(call(__NR_getpriority, 0, 0, 0)?, 15);
    call(__NR_setpriority, 0, 0, 100)?;
    equal!(call(__NR_getpriority, 0, 0, 0)?, 1);
    equal!(call(__NR_setpriority, 9, 0, 0), Err(Errno::EINVAL));
    equal!(call(__NR_setpriority, 0, i32::MAX as usize, 0), Err(Errno::ESRCH));
    Ok(())
}

fn policies() -> Outcome {
    equal!(call(__NR_sched_getscheduler, 0, 0, 0)?, 0);
    let priority = [10u32];
    let at = priority.as_ptr() as usize;
    for policy in [1, 2] {
        call(__NR_sched_setscheduler, 0, policy, at)?;
        equal!(call(__NR_sched_getscheduler, 0, 0, 0)?, policy);
        let mut got = [0u32];
        call(__NR_sched_getparam, 0, got.as_mut_ptr() as usize, 0)?;
        equal!(got, [10]);
    }
    equal!(call(__NR_sched_setscheduler, 0, 0, at), Err(Errno::EINVAL));
    let zero = [0u32];
    for policy in [3, 5, 0] {
        call(__NR_sched_setscheduler, 0, policy, zero.as_ptr() as usize)?;
        equal!(call(__NR_sched_getscheduler, 0, 0, 0)?, policy);
    }
    equal!(call(__NR_sched_setscheduler, 0, 1, zero.as_ptr() as usize), Err(Errno::EINVAL));
    equal!(call(__NR_sched_setscheduler, 0, 77, at), Err(Errno::EINVAL));
    equal!(
        (call(__NR_sched_get_priority_max, 1, 0, 0)?, call(__NR_sched_get_priority_min, 1, 0, 0)?),
        (99, 1)
    );
    Ok(())
}

fn attributes() -> Outcome {
    let mut attr = [0u32; 14];
    // SAFETY: 1. the kernel writes at most the given size.
    unsafe { syscall!(__NR_sched_getattr, 0, attr.as_mut_ptr(), 56, 0) }?;
    ensure!(attr[0] >= 48 && attr[1] == 0, "sched_getattr {attr:?}");
    attr[0] = 48;
    attr[4] = 7;
    // SAFETY: 1. the kernel reads 48 bytes.
    unsafe { syscall!(__NR_sched_setattr, 0, attr.as_ptr(), 0) }?;
    equal!(call(__NR_getpriority, 0, 0, 0)?, 13);
    Ok(())
}

fn affinity() -> Outcome {
    let mut mask = [0u64; 16];
    let at = mask.as_mut_ptr() as usize;
    let bytes = call(__NR_sched_getaffinity, 0, 128, at)?;
    ensure!(bytes >= 8 && mask[0] & 1 != 0, "affinity {mask:?}, {bytes} bytes");
    process::set_affinity(0, 1)?;
    let mut cpu = [9u32; 2];
    call(__NR_getcpu, cpu.as_mut_ptr() as usize, 0, 0)?;
    equal!(cpu[0], 0);
    equal!(process::set_affinity(0, 0), Err(Errno::EINVAL));
    equal!(call(__NR_sched_getaffinity, 0, 3, at), Err(Errno::EINVAL));
    process::set_affinity(0, u64::MAX)?;
    Ok(())
}

fn round_robin_interval() -> Outcome {
    let priority = [1u32];
    call(__NR_sched_setscheduler, 0, 2, priority.as_ptr() as usize)?;
    let mut slice = [0i64; 2];
    call(__NR_sched_rr_get_interval, 0, slice.as_mut_ptr() as usize, 0)?;
    ensure!(slice[0] == 0 && slice[1] > 0, "{slice:?}");
    Ok(())
}

fn bad_arguments() -> Outcome {
    let priority = [10u32];
    let at = priority.as_ptr() as usize;
    let negative = -1i32 as usize;
    let nobody = i32::MAX as usize;
    equal!(call(__NR_sched_setscheduler, 0, 1, 0), Err(Errno::EINVAL));
    equal!(call(__NR_sched_setscheduler, 0, 1, 8), Err(Errno::EFAULT));
    equal!(call(__NR_sched_setscheduler, negative, 1, at), Err(Errno::EINVAL));
    equal!(call(__NR_sched_setscheduler, nobody, 1, at), Err(Errno::ESRCH));
    equal!(call(__NR_sched_setscheduler, 0, negative, at), Err(Errno::EINVAL));
    equal!(call(__NR_sched_setscheduler, nobody, negative, at), Err(Errno::EINVAL));
    equal!(call(__NR_sched_getscheduler, negative, 0, 0), Err(Errno::EINVAL));
    equal!(call(__NR_sched_getparam, 0, 0, 0), Err(Errno::EINVAL));
    equal!(call(__NR_sched_setaffinity, negative, 8, at), Err(Errno::ESRCH));
    equal!(call(__NR_sched_setaffinity, nobody, 8, 8), Err(Errno::EFAULT));
    equal!(call(__NR_sched_get_priority_max, 77, 0, 0), Err(Errno::EINVAL));
    let mut attr = [0u32; 16];
    attr[0] = 47;
    equal!(call(__NR_sched_setattr, 0, attr.as_ptr() as usize, 0), Err(Errno::E2BIG));
    ensure!(attr[0] >= 56, "the size written back is {}", attr[0]);
    attr[0] = 48;
    equal!(call(__NR_sched_setattr, 0, attr.as_ptr() as usize, 1), Err(Errno::EINVAL));
    attr[2] = 1 << 12;
    equal!(call(__NR_sched_setattr, 0, attr.as_ptr() as usize, 0), Err(Errno::EINVAL));
    equal!(call(__NR_sched_getattr, 0, attr.as_mut_ptr() as usize, 47), Err(Errno::EINVAL));
    Ok(())
}

fn reset_on_fork() -> Outcome {
    const RESET: usize = 0x4000_0000;
    let priority = [10u32];
    call(__NR_sched_setscheduler, 0, 1 | RESET, priority.as_ptr() as usize)?;
    equal!(call(__NR_sched_getscheduler, 0, 0, 0)?, 1 | RESET);
    let status =
        process::in_child(|| call(__NR_sched_getscheduler, 0, 0, 0).map_or(99, |policy| policy as i32))?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

/// What a user without privileges may not do to itself and to others.
fn unprivileged() -> Outcome {
    let parent = process::getpid() as usize;
    let inner = || -> Outcome {
        call(__NR_setpriority, 0, 0, 5)?;
        call(__NR_setresuid, 12345, 12345, 12345)?;
        let (zero, ten) = ([0u32], [10u32]);
        let (zero, ten) = (zero.as_ptr() as usize, ten.as_ptr() as usize);
        equal!(call(__NR_setpriority, 0, 0, 4), Err(Errno::EACCES));
        equal!(call(__NR_setpriority, 0, parent, 6), Err(Errno::EPERM));
        equal!(call(__NR_sched_setscheduler, 0, 1, ten), Err(Errno::EPERM));
        equal!(call(__NR_sched_setscheduler, parent, 3, zero), Err(Errno::EPERM));
        let mask = [1u64];
        equal!(call(__NR_sched_setaffinity, parent, 8, mask.as_ptr() as usize), Err(Errno::EPERM));
        // Down to SCHED_IDLE is free; back is a rise.
        call(__NR_sched_setscheduler, 0, 5, zero)?;
        equal!(call(__NR_sched_setscheduler, 0, 0, zero), Err(Errno::EPERM));
        const RESET: usize = 0x4000_0000;
        call(__NR_sched_setscheduler, 0, 5 | RESET, zero)?;
        equal!(call(__NR_sched_setscheduler, 0, 5, zero), Err(Errno::EPERM));
        Ok(())
    };
    in_child(inner)
}

/// Runs a part of a check in a child; what it failed with.
fn in_child(part: impl FnOnce() -> Outcome) -> Outcome {
    let (read, write) = rt::io::pipe(O_CLOEXEC)?;
    let status = process::in_child(|| match part() {
        Ok(()) => 0,
        Err(failure) => {
            let _ = rt::io::write_all(write, failure.0.as_bytes());
            1
        }
    })?;
    rt::io::close(write)?;
    let mut text = [0; 200];
    let len = rt::io::read_full(read, &mut text)?;
    ensure!(status.exit_code() == Some(0), "{}", alloc::string::String::from_utf8_lossy(&text[..len]));
    Ok(())
}

/// sched_attr.sched_runtime is a fair task's slice since Linux 6.12.
fn slices() -> Outcome {
    let mut attr = [0u32; 14];
    let at = attr.as_mut_ptr() as usize;
    // SAFETY: 1. the kernel writes at most the given size.
    let get = || unsafe { syscall!(__NR_sched_getattr, 0, at, 56, 0) };
    get()?;
    if attr[6] == 0 {
        return Ok(()); // an older Linux, or a policy without slices
    }
    for (asked, given) in [(3_000_000, 3_000_000), (1, 100_000), (2_000_000_000, 100_000_000)] {
        attr[0] = 48;
        attr[6] = asked;
        call(__NR_sched_setattr, 0, at, 0)?;
        get()?;
        equal!(attr[6], given);
    }
    Ok(())
}

/// 1024 against 335: 75.3 %.
fn shares_of_nice() -> Outcome {
    let cpu = hogs::first_cpu()?;
    let plain = Hog::start(cpu, || Ok(()))?;
    let nice = Hog::start(cpu, || call(__NR_setpriority, 0, 0, 5).map(drop))?;
    hogs::expect_share(&plain, &nice, 3_000_000_000, 700..800)
}

/// 1024 against 3.
fn shares_of_idle() -> Outcome {
    let cpu = hogs::first_cpu()?;
    let plain = Hog::start(cpu, || Ok(()))?;
    let idle = Hog::start(cpu, || {
        let priority = [0u32];
        call(__NR_sched_setscheduler, 0, 5, priority.as_ptr() as usize).map(drop)
    })?;
    hogs::expect_share(&plain, &idle, 2_000_000_000, 910..1001)
}

/// A running task is on an allowed CPU when sched_setaffinity(2) returns.
fn affinity_moves() -> Outcome {
    let all = hogs::cpus()?;
    // SAFETY: 1. a fresh shared mapping.
    let at = unsafe { mm::map(0, mm::PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) }?;
    // SAFETY: 1. zeroed, aligned, and mapped to the program's end.
    let word = unsafe { &*(at as *const AtomicU32) };
    let mover = Hog::start(all, || {
        loop {
            let mut cpu = [0u32; 2];
            call(__NR_getcpu, cpu.as_mut_ptr() as usize, 0, 0)?;
            word.store(cpu[0] + 1, Ordering::SeqCst);
        }
    })?;
    for round in 0..40 {
        let cpu = (0..64).filter(|cpu| all >> cpu & 1 == 1).cycle().nth(round).unwrap_or(0);
        process::set_affinity(mover.0, 1 << cpu)?;
        let next = || {
            word.store(0, Ordering::SeqCst);
            loop {
                match word.load(Ordering::SeqCst) {
                    0 => time::sleep_ns(100_000),
                    stored => break stored - 1,
                }
            }
        };
        // What it stores first may be from before the move. A hang here is a task that does not move.
        while next() != cpu as u32 {}
        for _ in 0..3 {
            equal!(next(), cpu as u32);
        }
    }
    Ok(())
}

/// Twenty tasks on one CPU all get something, within what is fair.
fn all_run_on_one_cpu() -> Outcome {
    let cpu = hogs::first_cpu()?;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(Hog::start(cpu, || Ok(()))?);
    }
    let used = |since: &[u64]| -> Result<Vec<u64>> {
        crowd.iter().zip(since).map(|(hog, since)| Ok(hog.cpu_ns()? - since)).collect()
    };
    // The first ones had the CPU to themselves while the others were made.
    let mut start = used(&[0; 20])?;
    while start.contains(&0) {
        time::sleep_ns(10_000_000);
        start = used(&[0; 20])?;
    }
    // What one got too much, when the host stretched its slice, the others get later.
    let (mut least, mut most) = (None, None);
    for window in 1..=6 {
        let mut since = used(&start)?;
        while since.iter().sum::<u64>() < window * 4_000_000_000 {
            time::sleep_ns(100_000_000);
            since = used(&start)?;
        }
        (least, most) = (since.iter().min().copied(), since.iter().max().copied());
        if most < least.map(|ns| 2 * ns) {
            return Ok(());
        }
    }
    ensure!(false, "least {least:?}, most {most:?}");
    Ok(())
}
