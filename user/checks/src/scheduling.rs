//! Priorities, classes, affinity.

use crate::{Check, Outcome, ensure, equal};
use rt::nr::*;
use rt::{Errno, Result, process, syscall};

pub const CHECKS: &[Check] = &[
    ("nice", nice),
    ("policies", policies),
    ("attributes", attributes),
    ("affinity", affinity),
    ("round_robin_interval", round_robin_interval),
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
