//! Clocks, sleeping, timers.

use crate::{Ctx, Errno, Result};
use abi::cap::{CAP_SYS_TIME, CAP_WAKE_ALARM};
use abi::poll::{TFD_CLOEXEC, TFD_NONBLOCK, TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET};
use abi::signal::{SIGALRM, SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD_ID, SIGNAL_MAX, SigEvent};
use abi::time::*;
use kcore::timerfd::{self, SetHow};
use kcore::timers::{self, Setting, TimerClock};
use kcore::{Process, Thread, pid, usage, usermem};
use ntp::{Wish, mode};
use task::{WaitEnd, WaitMode, wait_any};

/// What a clock shows now. EINVAL for a clock that does not exist.
fn read_clock(ctx: &Ctx, clock: i32) -> Result<u64> {
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_REALTIME_ALARM => Ok(time::realtime_ns()),
        CLOCK_TAI => Ok(time::tai_ns()),
        CLOCK_MONOTONIC
        | CLOCK_MONOTONIC_RAW
        | CLOCK_MONOTONIC_COARSE
        | CLOCK_BOOTTIME
        | CLOCK_BOOTTIME_ALARM => Ok(time::monotonic_ns()),
        CLOCK_PROCESS_CPUTIME_ID => Ok(usage::of_process(ctx.process).run_ns()),
        CLOCK_THREAD_CPUTIME_ID => Ok(usage::of_thread(ctx.thread).run_ns()),
        0.. => Err(Errno::EINVAL),
        _ => read_cpu_clock(ctx, clock),
    }
}

/// The clocks of clock_getcpuclockid(3): the complement of the number, and three bits of kind.
fn read_cpu_clock(ctx: &Ctx, clock: i32) -> Result<u64> {
    let (number, kind) = (!(clock >> 3), clock & 7);
    let thread = match number {
        0 => Some(ctx.thread.clone()),
        _ => pid::find_thread(number as u32),
    };
    let thread = thread.ok_or(Errno::EINVAL)?;
    let of = |process: &Process, thread: &Thread| match kind & 4 {
        0 => usage::of_process(process),
        _ => usage::of_thread(thread),
    };
    let used = of(thread.process(), &thread);
    match kind & 3 {
        0 | 2 => Ok(used.run_ns()),
        1 => Ok(used.user_ns),
        _ => Err(Errno::EINVAL),
    }
}

pub fn clock_gettime(ctx: &mut Ctx, clock: i32, tp: usize) -> Result<usize> {
    let now = read_clock(ctx, clock)?;
    usermem::write(tp, &Timespec::from_ns(now)).map(|()| 0)
}

pub fn clock_getres(ctx: &mut Ctx, clock: i32, res: usize) -> Result<usize> {
    read_clock(ctx, clock)?;
    usermem::write_opt(res, &Timespec::from_ns(1)).map(|()| 0)
}

pub fn clock_settime(ctx: &mut Ctx, clock: i32, tp: usize) -> Result<usize> {
    if clock != CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    let at: Timespec = usermem::read(tp)?;
    set_clock(ctx, at.to_ns().ok_or(Errno::EINVAL)?)
}

fn set_clock(ctx: &Ctx, now_ns: u64) -> Result<usize> {
    if !ctx.capable(CAP_SYS_TIME) {
        return Err(Errno::EPERM);
    }
    time::set_realtime_ns(now_ns).map_err(|_| Errno::EINVAL)?;
    Ok(0)
}

/// adjtimex(2).
pub fn adjtimex(ctx: &mut Ctx, timex: usize) -> Result<usize> {
    clock_adjtime(ctx, CLOCK_REALTIME, timex)
}

/// clock_adjtime(2). EINVAL for a clock that does not exist, EOPNOTSUPP for one that cannot be adjusted.
pub fn clock_adjtime(ctx: &mut Ctx, clock: i32, timex: usize) -> Result<usize> {
    let mut asked: Timex = usermem::read(timex)?;
    if clock != CLOCK_REALTIME {
        read_clock(ctx, clock)?;
        return Err(Errno::EOPNOTSUPP);
    }
    check_timex(ctx, &asked)?;
    let step_ns = match asked.modes & (mode::SETOFFSET | mode::ADJTIME) {
        mode::SETOFFSET => Some(step_of(&asked)?),
        _ => None,
    };
    let mut wish = Wish {
        modes: asked.modes,
        offset: asked.offset,
        freq: asked.freq,
        maxerror: asked.maxerror,
        esterror: asked.esterror,
        status: asked.status,
        constant: asked.constant,
        tick: asked.tick,
        ..Wish::default()
    };
    let adjusted = time::adjust(&mut wish, step_ns).map_err(|_| Errno::EINVAL)?;
    let part_ns = adjusted.now_ns % NSEC_PER_SEC;
    asked = Timex {
        modes: asked.modes,
        offset: wish.offset,
        freq: wish.freq,
        maxerror: wish.maxerror,
        esterror: wish.esterror,
        status: wish.status,
        constant: wish.constant,
        precision: 1,
        tolerance: wish.tolerance,
        time: Timeval {
            sec: (adjusted.now_ns / NSEC_PER_SEC) as i64,
            usec: (if adjusted.nano { part_ns } else { part_ns / 1000 }) as i64,
        },
        tick: wish.tick,
        tai: wish.tai as i32,
        ..Timex::default()
    };
    usermem::write(timex, &asked)?;
    Ok(adjusted.state as usize)
}

/// Rights and ranges, in Linux's order (timekeeping_validate_timex).
fn check_timex(ctx: &Ctx, asked: &Timex) -> Result<()> {
    let may_set = ctx.capable(CAP_SYS_TIME);
    let asks = |bit| asked.modes & bit != 0;
    if asks(mode::ADJTIME) {
        if !asks(mode::OFFSET) {
            return Err(Errno::EINVAL);
        }
        if !asks(mode::READONLY) && !may_set {
            return Err(Errno::EPERM);
        }
    } else {
        if asked.modes != 0 && !may_set {
            return Err(Errno::EPERM);
        }
        const TICK_US: core::ops::RangeInclusive<i64> = 900_000 / USER_HZ as i64..=1_100_000 / USER_HZ as i64;
        if asks(mode::TICK) && !TICK_US.contains(&asked.tick) {
            return Err(Errno::EINVAL);
        }
    }
    if asks(mode::SETOFFSET) {
        if !may_set {
            return Err(Errno::EPERM);
        }
        step_of(asked)?;
    }
    // Where the product with Linux's PPM_SCALE would not fit.
    const MAX_FREQUENCY: i64 = i64::MAX / (1000 << 16);
    if asks(mode::FREQUENCY) && !(-MAX_FREQUENCY..=MAX_FREQUENCY).contains(&asked.freq) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// ADJ_SETOFFSET's step in ns. EINVAL.
fn step_of(asked: &Timex) -> Result<i64> {
    let nano = asked.modes & mode::NANO != 0;
    let (parts, ns) = if nano { (NSEC_PER_SEC as i64, 1) } else { (1_000_000, 1000) };
    if !(0..parts).contains(&asked.time.usec) {
        return Err(Errno::EINVAL);
    }
    let seconds_ns = asked.time.sec.checked_mul(NSEC_PER_SEC as i64).ok_or(Errno::EINVAL)?;
    seconds_ns.checked_add(asked.time.usec * ns).ok_or(Errno::EINVAL)
}

pub fn gettimeofday(_ctx: &mut Ctx, tv: usize, tz: usize) -> Result<usize> {
    usermem::write_opt(tv, &Timeval::from_ns(time::realtime_ns()))?;
    usermem::write_opt(tz, &Timezone::default()).map(|()| 0)
}

pub fn settimeofday(ctx: &mut Ctx, tv: usize, tz: usize) -> Result<usize> {
    if tz != 0 {
        let _: Timezone = usermem::read(tz)?;
    }
    if tv == 0 {
        return Ok(0);
    }
    let at: Timeval = usermem::read(tv)?;
    set_clock(ctx, at.to_ns().ok_or(Errno::EINVAL)?)
}

pub fn time(_ctx: &mut Ctx, tloc: usize) -> Result<usize> {
    let seconds = time::realtime_ns() / NSEC_PER_SEC;
    usermem::write_opt(tloc, &(seconds as i64))?;
    Ok(seconds as usize)
}

pub fn times(ctx: &mut Ctx, buffer: usize) -> Result<usize> {
    let ticks = |ns: u64| (ns / (NSEC_PER_SEC / USER_HZ)) as i64;
    let (own, children) = (usage::of_process(ctx.process), usage::of_children(ctx.process));
    let tms = Tms {
        utime: ticks(own.user_ns),
        stime: ticks(own.system_ns),
        cutime: ticks(children.user_ns),
        cstime: ticks(children.system_ns),
    };
    usermem::write_opt(buffer, &tms)?;
    Ok(ticks(time::monotonic_ns()) as usize)
}

/// Sleeps until `deadline_ns` of the monotonic clock. A signal: writes what is left to `remain` and
/// arranges for restart_syscall(2).
fn sleep_until(ctx: &mut Ctx, deadline_ns: u64, remain: usize) -> Result<usize> {
    let never = || None::<()>;
    match wait_any(&[], WaitMode::Interruptible, Some(deadline_ns), never) {
        Ok(()) | Err(WaitEnd::Timeout) => Ok(0),
        Err(WaitEnd::Signal) => {
            let left_ns = deadline_ns.saturating_sub(time::monotonic_ns());
            if left_ns == 0 {
                return Ok(0);
            }
            usermem::write_opt(remain, &Timespec::from_ns(left_ns))?;
            Err(ctx.restart_with(move |ctx| sleep_until(ctx, deadline_ns, remain)))
        }
    }
}

fn read_timespec(at: usize) -> Result<u64> {
    let spec: Timespec = usermem::read(at)?;
    spec.to_ns().ok_or(Errno::EINVAL)
}

pub fn nanosleep(ctx: &mut Ctx, request: usize, remain: usize) -> Result<usize> {
    let deadline_ns = time::monotonic_ns().saturating_add(read_timespec(request)?);
    sleep_until(ctx, deadline_ns, remain)
}

pub fn clock_nanosleep(
    ctx: &mut Ctx,
    clock: i32,
    flags: i32,
    request: usize,
    remain: usize,
) -> Result<usize> {
    let ns = read_timespec(request)?;
    match (clock, flags & TIMER_ABSTIME != 0) {
        (CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_TAI, false) => {
            sleep_until(ctx, time::monotonic_ns().saturating_add(ns), remain)
        }
        (CLOCK_MONOTONIC | CLOCK_BOOTTIME, true) => sleep_absolute(Some(ns), ns),
        (CLOCK_REALTIME | CLOCK_TAI, true) => sleep_absolute(None, ns),
        (CLOCK_PROCESS_CPUTIME_ID, _) => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

/// Sleeps until a point of the monotonic clock, or of the real-time clock, which may be stepped meanwhile.
fn sleep_absolute(monotonic_ns: Option<u64>, at_ns: u64) -> Result<usize> {
    loop {
        let steps = time::realtime_changed();
        let to_monotonic = || time::monotonic_ns().saturating_add(at_ns.saturating_sub(time::realtime_ns()));
        let deadline_ns = monotonic_ns.unwrap_or_else(to_monotonic);
        let stepped = || (monotonic_ns.is_none() && time::realtime_changed() != steps).then_some(());
        let queue = time::wait_realtime_change();
        match queue.wait_until(WaitMode::Interruptible, Some(deadline_ns), stepped) {
            Ok(()) => {}
            // A clock that was slowed down meanwhile is not there yet.
            Err(WaitEnd::Timeout) if monotonic_ns.is_none() && time::realtime_ns() < at_ns => {}
            Err(WaitEnd::Timeout) => return Ok(0),
            Err(WaitEnd::Signal) => return Err(Errno::ERESTARTNOHAND),
        }
    }
}

fn setting_of(value: &Itimerval) -> Result<Setting> {
    let ns = |tv: Timeval| tv.to_ns().ok_or(Errno::EINVAL);
    Ok(Setting { interval_ns: ns(value.interval)?, left_ns: ns(value.value)? })
}

fn itimerval_of(setting: Setting) -> Itimerval {
    // A timer with less than a microsecond left is not off.
    let left_ns = if setting.left_ns == 0 { 0 } else { setting.left_ns.max(1000) };
    Itimerval { interval: Timeval::from_ns(setting.interval_ns), value: Timeval::from_ns(left_ns) }
}

pub fn getitimer(ctx: &mut Ctx, which: i32, value: usize) -> Result<usize> {
    let setting = match which {
        ITIMER_REAL => timers::get_real(ctx.process),
        ITIMER_VIRTUAL | ITIMER_PROF => timers::get_cpu(ctx.process, which == ITIMER_PROF),
        _ => return Err(Errno::EINVAL),
    };
    usermem::write(value, &itimerval_of(setting)).map(|()| 0)
}

pub fn setitimer(ctx: &mut Ctx, which: i32, value: usize, old: usize) -> Result<usize> {
    let new = if value == 0 { Setting::default() } else { setting_of(&usermem::read(value)?)? };
    let before = match which {
        ITIMER_REAL => timers::set_real(ctx.process, new)?,
        ITIMER_VIRTUAL | ITIMER_PROF => timers::set_cpu(ctx.process, which == ITIMER_PROF, new),
        _ => return Err(Errno::EINVAL),
    };
    usermem::write_opt(old, &itimerval_of(before)).map(|()| 0)
}

pub fn alarm(ctx: &mut Ctx, seconds: u32) -> Result<usize> {
    timers::alarm(ctx.process, seconds).map(|left| left as usize)
}

pub fn timer_create(ctx: &mut Ctx, clock: i32, event: usize, id: usize) -> Result<usize> {
    let clock = TimerClock::from_id(clock, ctx.thread)?;
    let event = match event {
        0 => None,
        at => Some(usermem::read::<SigEvent>(at)?),
    };
    if let Some(event) = &event {
        let named = event.notify == SIGEV_SIGNAL || event.notify == SIGEV_SIGNAL | SIGEV_THREAD_ID;
        let valid = u32::try_from(event.signo).is_ok_and(|signo| (1..=SIGNAL_MAX).contains(&signo));
        let thread = event.notify & SIGEV_THREAD_ID == 0
            || pid::find_thread(event.tid as u32)
                .is_some_and(|t| alloc::sync::Arc::ptr_eq(t.process(), ctx.process));
        if !(named && valid && thread || event.notify == SIGEV_NONE) {
            return Err(Errno::EINVAL);
        }
    }
    let default = SigEvent { value: 0, signo: SIGALRM as i32, notify: SIGEV_SIGNAL, tid: 0, pad: [0; 11] };
    let number = timers::create(ctx.process, clock, event.unwrap_or(default))?;
    if let Err(errno) = usermem::write(id, &number) {
        // Nobody would ever know the number.
        let _ = timers::delete(ctx.process, number);
        return Err(errno);
    }
    Ok(0)
}

fn itimerspec_of(setting: Setting) -> Itimerspec {
    Itimerspec { interval: Timespec::from_ns(setting.interval_ns), value: Timespec::from_ns(setting.left_ns) }
}

pub fn timer_settime(ctx: &mut Ctx, id: i32, flags: i32, value: usize, old: usize) -> Result<usize> {
    let new: Itimerspec = usermem::read(value)?;
    let ns = |spec: Timespec| spec.to_ns().ok_or(Errno::EINVAL);
    let setting = Setting { interval_ns: ns(new.interval)?, left_ns: ns(new.value)? };
    let before = timers::set(ctx.process, id, flags & TIMER_ABSTIME != 0, setting)?;
    usermem::write_opt(old, &itimerspec_of(before)).map(|()| 0)
}

pub fn timer_gettime(ctx: &mut Ctx, id: i32, value: usize) -> Result<usize> {
    let setting = timers::get(ctx.process, id)?;
    usermem::write(value, &itimerspec_of(setting)).map(|()| 0)
}

pub fn timer_getoverrun(ctx: &mut Ctx, id: i32) -> Result<usize> {
    timers::overrun(ctx.process, id).map(|count| count as usize)
}

pub fn timer_delete(ctx: &mut Ctx, id: i32) -> Result<usize> {
    timers::delete(ctx.process, id).map(|()| 0)
}

/// timerfd_create(2).
pub fn timerfd_create(ctx: &mut Ctx, clock: i32, flags: u32) -> Result<usize> {
    let realtime = match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_ALARM => true,
        CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => false,
        _ => return Err(Errno::EINVAL),
    };
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if matches!(clock, CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM) && !ctx.capable(CAP_WAKE_ALARM) {
        return Err(Errno::EPERM);
    }
    let file = timerfd::create(clock, realtime, flags & TFD_NONBLOCK != 0)?;
    crate::fs::install(ctx, file, flags & TFD_CLOEXEC != 0)
}

/// timerfd_settime(2).
pub fn timerfd_settime(ctx: &mut Ctx, fd: i32, flags: u32, value: usize, old: usize) -> Result<usize> {
    let new: Itimerspec = usermem::read(value)?;
    let ns = |spec: Timespec| spec.to_ns().ok_or(Errno::EINVAL);
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let setting = Setting { interval_ns: ns(new.interval)?, left_ns: ns(new.value)? };
    let how = SetHow {
        absolute: flags & TFD_TIMER_ABSTIME != 0,
        cancel_on_set: flags & TFD_TIMER_CANCEL_ON_SET != 0,
    };
    let file = ctx.files().get(fd)?;
    let before = timerfd::of_file(&file)?.set(setting, how)?;
    usermem::write_opt(old, &itimerspec_of(before)).map(|()| 0)
}

/// timerfd_gettime(2).
pub fn timerfd_gettime(ctx: &mut Ctx, fd: i32, value: usize) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    let setting = timerfd::of_file(&file)?.get();
    usermem::write(value, &itimerspec_of(setting)).map(|()| 0)
}
