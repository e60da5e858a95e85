//! Clocks and sleeping. Times are nanoseconds in `u64`.

use core::mem::MaybeUninit;

use crate::nr::*;
use crate::{Errno, Result, syscall};

const SECOND_NS: u64 = 1_000_000_000;

/// The kernel's form of a duration.
pub fn timespec(ns: u64) -> __kernel_timespec {
    __kernel_timespec { tv_sec: (ns / SECOND_NS) as i64, tv_nsec: (ns % SECOND_NS) as i64 }
}

/// `clock_gettime(2)` by system call; `clock` is `CLOCK_*`.
pub fn clock_ns(clock: u32) -> Result<u64> {
    let mut now = MaybeUninit::<__kernel_timespec>::zeroed();
    // SAFETY: 1. the kernel writes one timespec.
    unsafe { syscall!(__NR_clock_gettime, clock, now.as_mut_ptr()) }?;
    // SAFETY: 1. two integers, zeroed and then written.
    let now = unsafe { now.assume_init() };
    Ok(now.tv_sec as u64 * SECOND_NS + now.tv_nsec as u64)
}

/// The monotonic clock; 0 where the kernel has none.
pub fn now_ns() -> u64 {
    clock_ns(CLOCK_MONOTONIC).unwrap_or(0)
}

/// `clock_nanosleep(2)` on the monotonic clock; a signal ends it with `EINTR`.
pub fn sleep_once_ns(ns: u64) -> Result<()> {
    let time = timespec(ns);
    // SAFETY: 1. the kernel reads one timespec.
    unsafe { syscall!(__NR_clock_nanosleep, CLOCK_MONOTONIC, 0, &raw const time, 0) }.map(drop)
}

/// Sleeps for `ns`, going on after signals.
pub fn sleep_ns(ns: u64) {
    let end = now_ns() + ns;
    let mut left = ns;
    while left > 0 && sleep_once_ns(left) == Err(Errno::EINTR) {
        left = end.saturating_sub(now_ns());
    }
}
