//! Clocks and timers.

use crate::{Check, Outcome, ensure, equal};
use core::sync::atomic::{AtomicU32, Ordering};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, syscall, time};

pub const CHECKS: &[Check] = &[
    ("clocks_go_forward", clocks_go_forward),
    ("sleep_is_long_enough", sleep_is_long_enough),
    ("absolute_sleep", absolute_sleep),
    ("bad_times", bad_times),
    ("interval_timer", interval_timer),
    ("posix_timer", posix_timer),
    ("cpu_clock", cpu_clock),
];

fn clocks_go_forward() -> Outcome {
    for clock in [0, 1, 4, 5, 6, 7] {
        let first = time::clock_ns(clock)?;
        let mut last = first;
        for _ in 0..1000 {
            let now = time::clock_ns(clock)?;
            ensure!(now >= last, "clock {clock} went back from {last} to {now}");
            last = now;
        }
    }
    // Between 2020 and 2100.
    let seconds = time::clock_ns(0)? / 1_000_000_000;
    ensure!((1_577_836_800..4_102_444_800).contains(&seconds), "it is {seconds}");
    Ok(())
}

fn sleep_is_long_enough() -> Outcome {
    for ns in [1, 1000, 1_000_000, 30_000_000] {
        let start = time::now_ns();
        time::sleep_once_ns(ns)?;
        ensure!(time::now_ns() - start >= ns, "a sleep of {ns} ns was shorter");
    }
    Ok(())
}

fn absolute_sleep() -> Outcome {
    let until = time::now_ns() + 20_000_000;
    let at = time::timespec(until);
    // SAFETY: 1. the kernel reads one timespec.
    let call =
        |clock: u32, at: *const __kernel_timespec| unsafe { syscall!(__NR_clock_nanosleep, clock, 1, at, 0) };
    call(1, &at)?;
    ensure!(time::now_ns() >= until, "woke early");
    call(1, &at)?;
    let at = time::timespec(time::clock_ns(0)? + 20_000_000);
    call(0, &at)?;
    Ok(())
}

fn bad_times() -> Outcome {
    // SAFETY: 1. the kernel reads one timespec.
    let call = |spec: [i64; 2]| unsafe { syscall!(__NR_clock_nanosleep, 1, 0, spec.as_ptr(), 0) };
    equal!(call([0, -1]), Err(Errno::EINVAL));
    equal!(call([0, 1_000_000_000]), Err(Errno::EINVAL));
    equal!(call([-1, 0]), Err(Errno::EINVAL));
    Ok(())
}

static TICKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn tick(_: i32) {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

fn wait_for_ticks(wanted: u32) {
    while TICKS.load(Ordering::Relaxed) < wanted {
        let _ = time::sleep_once_ns(1_000_000_000);
    }
}

fn interval_timer() -> Outcome {
    signal::set_action(SIGALRM, Action::Handle(tick), 0, 0)?;
    let (mut old, interval) = ([0u64; 4], [0u64, 10_000, 0, 10_000]);
    // SAFETY: 1. the kernel reads and writes itimervals.
    unsafe {
        syscall!(__NR_setitimer, 0, interval.as_ptr(), 0)?;
        wait_for_ticks(3);
        syscall!(__NR_setitimer, 0, [0u64; 4].as_ptr(), old.as_mut_ptr())?;
        equal!(old[1], 10_000);
        syscall!(__NR_getitimer, 0, old.as_mut_ptr())?;
    }
    equal!(old, [0; 4]);
    Ok(())
}

fn posix_timer() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(tick), 0, 0)?;
    let mut event = [0u32; 16];
    event[2] = SIGUSR1;
    let mut id = 0u32;
    let value = [0u64, 5_000_000, 0, 10_000_000];
    // SAFETY: 1. the kernel reads a sigevent and itimerspecs and writes an id.
    unsafe {
        syscall!(__NR_timer_create, 1, event.as_ptr(), &raw mut id)?;
        syscall!(__NR_timer_settime, id, 0, value.as_ptr(), 0)?;
        wait_for_ticks(3);
        syscall!(__NR_timer_delete, id)?;
        equal!(syscall!(__NR_timer_delete, id), Err(Errno::EINVAL));
    }
    Ok(())
}

fn cpu_clock() -> Outcome {
    let start = time::clock_ns(2)?;
    let end = time::now_ns() + 30_000_000;
    while time::now_ns() < end {}
    let used = time::clock_ns(2)? - start;
    ensure!(used > 1_000_000, "30 ms of computing cost {used} ns of CPU time");
    let start = time::clock_ns(3)?;
    time::sleep_ns(50_000_000);
    let used = time::clock_ns(3)? - start;
    ensure!(used < 45_000_000, "a sleep of 50 ms cost {used} ns of CPU time");
    Ok(())
}
