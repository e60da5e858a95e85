//! Clocks and timers.

use crate::{Check, Outcome, ensure, equal, skip};
use core::sync::atomic::{AtomicU32, Ordering};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, Result, process, syscall, time};

pub const CHECKS: &[Check] = &[
    ("clocks_go_forward", clocks_go_forward),
    ("sleep_is_long_enough", sleep_is_long_enough),
    ("absolute_sleep", absolute_sleep),
    ("bad_times", bad_times),
    ("interval_timer", interval_timer),
    ("posix_timer", posix_timer),
    ("cpu_clock", cpu_clock),
    ("clock_is_told", clock_is_told),
    ("clock_needs_a_right", clock_needs_a_right),
    ("clock_obeys", clock_obeys),
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
    // Does not end if computing costs nothing.
    while time::clock_ns(2)? - start < 30_000_000 {}
    let (start, begun_ns) = (time::clock_ns(3)?, time::now_ns());
    time::sleep_ns(300_000_000);
    let (used, passed) = (time::clock_ns(3)? - start, time::now_ns() - begun_ns);
    ensure!(used < passed - 50_000_000, "a sleep of {passed} ns cost {used} ns of CPU time");
    Ok(())
}

/// `struct timex` as words: modes, offset, freq, maxerror, esterror, status, constant, precision, tolerance, time (2),
/// tick, then what a pulse tells, and tai.
type Timex = [i64; 26];

fn adjust(clock: i32, timex: &mut Timex) -> Result<usize> {
    // SAFETY: 1. the kernel reads and writes one timex.
    unsafe { syscall!(__NR_clock_adjtime, clock, timex.as_mut_ptr()) }
}

/// A wish with these modes.
fn wish(modes: i64) -> Timex {
    let mut timex = [0; 26];
    timex[0] = modes;
    timex
}

const ADJ_FREQUENCY: i64 = 2;
const ADJ_STATUS: i64 = 0x10;
const ADJ_NANO: i64 = 0x2000;
const ADJ_TICK: i64 = 0x4000;
const STA_UNSYNC: i64 = 0x40;

fn clock_is_told() -> Outcome {
    let (direct, asked) = (vdso_clock_ns(0), time::clock_ns(0)?);
    ensure!(direct.is_none_or(|ns| ns.abs_diff(asked) < 60_000_000_000), "{direct:?} and {asked}");
    let mut told = wish(0);
    // SAFETY: 1. the kernel reads and writes one timex.
    let state = unsafe { syscall!(__NR_adjtimex, told.as_mut_ptr()) }?;
    ensure!(state <= 5, "state {state}");
    equal!(state == 5, told[5] & 0x1040 != 0);
    ensure!((9000..=11000).contains(&told[11]), "a tick of {} us", told[11]);
    equal!((told[7], told[8]), (1, 32_768_000));
    let now = time::clock_ns(0)? / 1_000_000_000;
    ensure!(told[9] as u64 <= now && told[9] as u64 + 60 > now, "it is {} and {now}", told[9]);
    equal!(adjust(1, &mut wish(0)), Err(Errno::EOPNOTSUPP));
    equal!(adjust(99, &mut wish(0)), Err(Errno::EINVAL));
    // SAFETY: 1. nothing is mapped there.
    equal!(unsafe { syscall!(__NR_adjtimex, 8) }, Err(Errno::EFAULT));
    // adjtime(3) without its own bit.
    equal!(adjust(0, &mut wish(0x8000)), Err(Errno::EINVAL));
    adjust(0, &mut wish(0xa001))?;
    Ok(())
}

fn clock_needs_a_right() -> Outcome {
    let child = process::fork()?;
    if child.is_none() {
        // SAFETY: 1. setresuid takes numbers.
        let left = unsafe { syscall!(__NR_setresuid, 1000, 1000, 1000) };
        let refused = [ADJ_TICK, ADJ_STATUS, ADJ_FREQUENCY, 0x8001, 0x100, 1]
            .iter()
            .all(|modes| adjust(0, &mut wish(*modes)) == Err(Errno::EPERM));
        let told = adjust(0, &mut wish(0)).is_ok() && adjust(0, &mut wish(0xa001)).is_ok();
        process::exit(i32::from(!(refused && told && left.is_ok())));
    }
    equal!(process::wait_exit(child.unwrap_or(0))?.exit_code(), Some(0));
    Ok(())
}

/// As root of the machine: a clock that runs a tenth faster gains on the counter; what was set is told.
fn clock_obeys() -> Outcome {
    let mut before = wish(0);
    adjust(0, &mut before)?;
    let mut fast = wish(ADJ_TICK | ADJ_FREQUENCY);
    (fast[11], fast[2]) = (11_000, 100 << 16);
    match adjust(0, &mut fast) {
        Err(Errno::EPERM) => return Err(skip("the clock is the host's")),
        result => result.map(drop)?,
    }
    let drift = || -> Result<i64> { Ok(time::clock_ns(0)? as i64 - time::clock_ns(4)? as i64) };
    let first = drift()?;
    let start = time::clock_ns(4)?;
    time::sleep_ns(50_000_000);
    let (gained, passed) = (drift()? - first, time::clock_ns(4)? - start);
    let mut told = wish(0);
    adjust(0, &mut told)?;
    equal!((told[11], told[2]), (11_000, 100 << 16));
    let mut bad = wish(ADJ_TICK);
    bad[11] = 11_001;
    equal!(adjust(0, &mut bad), Err(Errno::EINVAL));
    let mut step = wish(0x100);
    step[10] = 1_000_000;
    equal!(adjust(0, &mut step), Err(Errno::EINVAL));
    step[10] = 0;
    step[9] = 1000;
    let apart = drift()?;
    adjust(0, &mut step)?;
    let stepped = drift()? - apart;
    // The kernel's code in the program tells the same time.
    let vdso = vdso_clock_ns(0).map(|ns| ns.abs_diff(time::clock_ns(0).unwrap_or(0)));
    step[0] |= ADJ_NANO;
    step[9] = -1000;
    adjust(0, &mut step)?;
    let mut back = wish(ADJ_TICK | ADJ_FREQUENCY | ADJ_STATUS | 0x1000);
    (back[11], back[2], back[5]) = (before[11], before[2], before[5] | STA_UNSYNC);
    equal!(adjust(0, &mut back)?, 5);
    // A tenth and 100 ppm, of what passed at least, and the readings are not at one time.
    ensure!(gained * 11 > passed as i64, "gained {gained} ns in {passed}");
    ensure!(vdso.is_none_or(|apart| apart < 100_000_000_000), "the vDSO is {vdso:?} ns off");
    ensure!((999_000_000_000..1_100_000_000_000).contains(&stepped), "a step of {stepped} ns");
    Ok(())
}

/// A clock as the vDSO tells it; `None` without one.
fn vdso_clock_ns(clock: i32) -> Option<u64> {
    const SYSINFO_EHDR: u32 = 33;
    let base = rt::env::auxval(SYSINFO_EHDR).filter(|base| *base != 0)?;
    // SAFETY: 1. the vDSO is mapped whole and readable, and is an ELF image with a dynamic section; 2. its symbol table
    // ends where its strings begin; 3. the function is clock_gettime(2) with the C calling convention.
    unsafe {
        let word = |at: usize| (at as *const u64).read_unaligned() as usize;
        let half = |at: usize| usize::from((at as *const u16).read_unaligned());
        let (headers, count) = (base + word(base + 32), half(base + 56));
        let mut dynamic = None;
        let mut shift = None;
        for header in (0..count).map(|number| headers + number * 56) {
            match (header as *const u32).read_unaligned() {
                1 if shift.is_none() => shift = Some(base + word(header + 8) - word(header + 16)),
                2 => dynamic = Some(word(header + 16)),
                _ => {}
            }
        }
        let shift = shift?;
        let (mut strings, mut symbols) = (0, 0);
        let mut at = shift + dynamic?;
        while word(at) != 0 {
            match word(at) {
                5 => strings = shift + word(at + 8),
                6 => symbols = shift + word(at + 8),
                _ => {}
            }
            at += 16;
        }
        for symbol in (symbols..strings).step_by(24) {
            let name = strings + (symbol as *const u32).read_unaligned() as usize;
            if core::ffi::CStr::from_ptr(name as *const _) == c"__vdso_clock_gettime" {
                let function: extern "C" fn(i32, *mut [i64; 2]) -> i32 =
                    core::mem::transmute(shift + word(symbol + 8));
                let mut now = [0i64; 2];
                return (function(clock, &mut now) == 0)
                    .then_some(now[0] as u64 * 1_000_000_000 + now[1] as u64);
            }
        }
    }
    None
}
