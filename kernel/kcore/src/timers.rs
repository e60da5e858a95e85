//! Timers of a process: setitimer(2), timer_create(2), RLIMIT_CPU.
//!
//! Clock timers are `time::Timer`s, which call back in a thread. Timers of CPU time are looked at by the
//! running thread itself after a tick (work bit `CPU_TIMER`), for which [`ProcessTimers::watches_cpu`]
//! tells the tick whether there is anything to look at.

use crate::process::Process;
use crate::signal::{self, SigInfo};
use crate::thread::Thread;
use crate::{Result, pid, rlimit, usage};
use abi::Errno;
use abi::resource::{RLIMIT_CPU, RLIMIT_SIGPENDING};
use abi::signal::{SIGALRM, SIGEV_NONE, SIGEV_THREAD_ID, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU, SigEvent};
use abi::time::{CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_REALTIME_ALARM, CLOCK_TAI, NSEC_PER_SEC};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;
use sync::levels::Leaf;
use sync::{Once, SpinLock};
use time::{Expire, Timer};

/// Interval and time left, in ns; 0 is none, as in setitimer(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    pub interval_ns: u64,
    pub left_ns: u64,
}

/// A timer's next expiry on its clock; 0: disarmed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Schedule {
    pub deadline_ns: u64,
    pub interval_ns: u64,
}

impl Schedule {
    pub fn start(setting: Setting, now_ns: u64) -> Schedule {
        let deadline_ns = if setting.left_ns == 0 { 0 } else { now_ns.saturating_add(setting.left_ns) };
        Schedule { deadline_ns, interval_ns: setting.interval_ns }
    }

    pub fn setting(&self, now_ns: u64) -> Setting {
        // A timer that is due but has not fired yet is not disarmed: it has a moment left.
        let left_ns = if self.deadline_ns == 0 { 0 } else { self.deadline_ns.saturating_sub(now_ns).max(1) };
        Setting { interval_ns: self.interval_ns, left_ns }
    }

    /// Moves past `now_ns`; how many expiries that were.
    pub fn advance(&mut self, now_ns: u64) -> u64 {
        if self.deadline_ns == 0 || now_ns < self.deadline_ns {
            return 0;
        }
        if self.interval_ns == 0 {
            self.deadline_ns = 0;
            return 1;
        }
        let times = (now_ns - self.deadline_ns) / self.interval_ns + 1;
        self.deadline_ns = self.deadline_ns.saturating_add(times.saturating_mul(self.interval_ns));
        times
    }
}

/// All timers of one process.
pub(crate) struct ProcessTimers {
    process: Weak<Process>,
    /// ITIMER_REAL; made when first used, so that fork does not pay for it.
    real: Once<Arc<RealTimer>>,
    cpu: SpinLock<CpuTimers, Leaf>,
    posix: SpinLock<Posix, Leaf>,
    watches_cpu: AtomicBool,
}

#[derive(Default)]
struct CpuTimers {
    /// ITIMER_VIRTUAL, on user time.
    virt: Schedule,
    /// ITIMER_PROF, on user and system time.
    prof: Schedule,
    /// When RLIMIT_CPU is looked at next, in seconds of CPU time.
    limit_warned_s: u64,
}

#[derive(Default)]
struct Posix {
    timers: BTreeMap<i32, Arc<PosixTimer>>,
    next_id: i32,
}

impl ProcessTimers {
    pub fn new(process: Weak<Process>) -> ProcessTimers {
        ProcessTimers {
            process,
            real: Once::new(),
            cpu: SpinLock::new(CpuTimers::default()),
            posix: SpinLock::new(Posix { timers: BTreeMap::new(), next_id: 0 }),
            watches_cpu: AtomicBool::new(false),
        }
    }

    /// Whether a tick must make the thread look at its timers.
    #[inline]
    pub fn watches_cpu(&self) -> bool {
        self.watches_cpu.load(Relaxed)
    }

    pub fn watch_cpu(&self) {
        self.watches_cpu.store(true, Relaxed);
    }

    fn real(&self) -> &Arc<RealTimer> {
        if self.real.get().is_none() {
            let _ = self.real.set(RealTimer::new(self.process.clone()));
        }
        self.real.get_expect()
    }

    /// exec deletes POSIX timers and keeps the others.
    pub fn exec(&self) {
        let old = core::mem::take(&mut self.posix.lock().timers);
        drop(old);
    }

    /// The process ends: nothing fires any more.
    pub fn end(&self) {
        self.exec();
        if let Some(real) = self.real.get() {
            real.timer().cancel();
        }
        self.watches_cpu.store(false, Relaxed);
    }
}

// ---- ITIMER_REAL and alarm(2) ----

struct RealTimer {
    process: Weak<Process>,
    schedule: SpinLock<Schedule, Leaf>,
    timer: Once<Timer>,
}

impl RealTimer {
    fn new(process: Weak<Process>) -> Arc<RealTimer> {
        let real =
            Arc::new(RealTimer { process, schedule: SpinLock::new(Schedule::default()), timer: Once::new() });
        let target: Weak<RealTimer> = Arc::downgrade(&real);
        let _ = real.timer.set(Timer::new("it_real_fn", target));
        real
    }

    fn timer(&self) -> &Timer {
        self.timer.get_expect()
    }
}

impl Expire for RealTimer {
    fn expired(&self, now_ns: u64) {
        let Some(process) = self.process.upgrade() else { return };
        let (times, next_ns) = {
            let mut schedule = self.schedule.lock();
            (schedule.advance(now_ns), schedule.deadline_ns)
        };
        if next_ns != 0 {
            let _ = self.timer().arm(next_ns);
        }
        if times > 0 {
            let _ = signal::send_process(&process, SigInfo::kernel(SIGALRM));
        }
    }
}

/// setitimer(ITIMER_REAL) and alarm(2): the old setting.
pub fn set_real(process: &Arc<Process>, new: Setting) -> Result<Setting> {
    let real = process.timers.real();
    let now_ns = time::monotonic_ns();
    let schedule = Schedule::start(new, now_ns);
    let old = core::mem::replace(&mut *real.schedule.lock(), schedule);
    if schedule.deadline_ns == 0 {
        real.timer().cancel();
    } else {
        real.timer().arm(schedule.deadline_ns)?;
    }
    Ok(old.setting(now_ns))
}

pub fn get_real(process: &Process) -> Setting {
    let Some(real) = process.timers.real.get() else { return Setting::default() };
    real.schedule.lock().setting(time::monotonic_ns())
}

// ---- CPU time: ITIMER_VIRTUAL, ITIMER_PROF, RLIMIT_CPU ----

/// setitimer(ITIMER_VIRTUAL), or ITIMER_PROF when `prof`: the old setting.
pub fn set_cpu(process: &Process, prof: bool, new: Setting) -> Setting {
    let now_ns = cpu_ns(process, prof);
    let mut cpu = process.timers.cpu.lock();
    let slot = if prof { &mut cpu.prof } else { &mut cpu.virt };
    let old = core::mem::replace(slot, Schedule::start(new, now_ns));
    drop(cpu);
    process.timers.watch_cpu();
    old.setting(now_ns)
}

pub fn get_cpu(process: &Process, prof: bool) -> Setting {
    let now_ns = cpu_ns(process, prof);
    let cpu = process.timers.cpu.lock();
    if prof { cpu.prof.setting(now_ns) } else { cpu.virt.setting(now_ns) }
}

fn cpu_ns(process: &Process, prof: bool) -> u64 {
    let usage = usage::of_process(process);
    if prof { usage.run_ns() } else { usage.user_ns }
}

/// After a tick: what of the process's CPU time is due. Called by the running thread.
pub(crate) fn check_cpu(thread: &Arc<Thread>) {
    let process = thread.process();
    let usage = usage::of_process(process);
    let (virt, prof) = {
        let mut cpu = process.timers.cpu.lock();
        (cpu.virt.advance(usage.user_ns), cpu.prof.advance(usage.run_ns()))
    };
    if virt > 0 {
        let _ = signal::send_process(process, SigInfo::kernel(SIGVTALRM));
    }
    if prof > 0 {
        let _ = signal::send_process(process, SigInfo::kernel(SIGPROF));
    }
    check_limit(process, usage.run_ns() / NSEC_PER_SEC);
    let due: alloc::vec::Vec<_> = {
        let posix = process.timers.posix.lock();
        posix.timers.values().filter(|t| t.clock.is_cpu()).cloned().collect()
    };
    for timer in due {
        timer.expired(0);
    }
}

/// RLIMIT_CPU: SIGXCPU each second beyond the soft limit, SIGKILL at the hard one.
fn check_limit(process: &Arc<Process>, used_s: u64) {
    let Ok(limit) = rlimit::get(process, RLIMIT_CPU) else { return };
    if used_s >= limit.max {
        let _ = signal::send_process(process, SigInfo::kernel(SIGKILL));
    } else if used_s >= limit.current {
        let mut cpu = process.timers.cpu.lock();
        let first = cpu.limit_warned_s < used_s;
        cpu.limit_warned_s = used_s;
        drop(cpu);
        if first {
            let _ = signal::send_process(process, SigInfo::kernel(SIGXCPU));
        }
    }
}

// ---- timer_create(2) ----

/// What a POSIX timer counts.
#[derive(Clone, Debug)]
pub enum TimerClock {
    Monotonic,
    Realtime,
    /// CPU time of the process, or of one of its threads.
    ProcessCpu,
    ThreadCpu(crate::Pid),
}

impl TimerClock {
    /// EINVAL for clocks that have no timers.
    pub fn from_id(clock: i32, thread: &Thread) -> Result<TimerClock> {
        match clock {
            CLOCK_REALTIME | CLOCK_REALTIME_ALARM | CLOCK_TAI => Ok(TimerClock::Realtime),
            abi::time::CLOCK_MONOTONIC | abi::time::CLOCK_BOOTTIME | abi::time::CLOCK_BOOTTIME_ALARM => {
                Ok(TimerClock::Monotonic)
            }
            CLOCK_PROCESS_CPUTIME_ID => Ok(TimerClock::ProcessCpu),
            abi::time::CLOCK_THREAD_CPUTIME_ID => Ok(TimerClock::ThreadCpu(thread.tid())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn is_cpu(&self) -> bool {
        matches!(self, TimerClock::ProcessCpu | TimerClock::ThreadCpu(_))
    }
}

struct PosixTimer {
    id: i32,
    clock: TimerClock,
    event: SigEvent,
    process: Weak<Process>,
    state: SpinLock<PosixState, Leaf>,
    timer: Once<Timer>,
}

#[derive(Default)]
struct PosixState {
    schedule: Schedule,
    /// A signal is queued and was not taken yet: the timer waits for that before it goes on.
    queued: bool,
    overrun: i32,
}

impl PosixTimer {
    /// Now on the timer's clock.
    fn now_ns(&self) -> u64 {
        match self.clock {
            TimerClock::Monotonic => time::monotonic_ns(),
            TimerClock::Realtime => time::realtime_ns(),
            TimerClock::ProcessCpu => self.process.upgrade().map_or(0, |p| cpu_ns(&p, true)),
            TimerClock::ThreadCpu(tid) => pid::find_thread(tid).map_or(0, |t| t.run_ns()),
        }
    }

    fn arm(&self, deadline_ns: u64) {
        if deadline_ns == 0 {
            if let Some(timer) = self.timer.get() {
                timer.cancel();
            }
        } else if self.clock.is_cpu() {
            if let Some(process) = self.process.upgrade() {
                process.timers.watch_cpu();
            }
        } else if let Some(timer) = self.timer.get() {
            let left_ns = deadline_ns.saturating_sub(self.now_ns());
            let _ = timer.arm(time::monotonic_ns().saturating_add(left_ns));
        }
    }

    fn info(&self, overrun: i32) -> SigInfo {
        // `pad` marks what the kernel queued itself, against programs that queue SI_TIMER by hand.
        SigInfo { pad: 1, ..SigInfo::timer(self.event.signo as u32, self.id, overrun, self.event.value) }
    }

    fn notify(&self, process: &Arc<Process>) {
        let info = self.info(0);
        let _ = match self.event.notify {
            SIGEV_THREAD_ID => match pid::find_thread(self.event.tid as u32) {
                Some(thread) => signal::send_thread(&thread, info),
                None => Ok(()),
            },
            _ => signal::send_process(process, info),
        };
    }
}

impl Expire for PosixTimer {
    fn expired(&self, _now_ns: u64) {
        let Some(process) = self.process.upgrade() else { return };
        let now_ns = self.now_ns();
        let wants_signal = self.event.notify != SIGEV_NONE;
        // A signal that is thrown away is never taken: such a timer goes on by itself. Asked before the timer's
        // own lock is taken, which comes after the process's.
        let dropped = wants_signal && is_dropped(&process, self.event.signo as u32);
        let mut state = self.state.lock();
        if state.schedule.deadline_ns == 0 || state.queued {
            return;
        }
        if now_ns < state.schedule.deadline_ns {
            // The clock was set back, or CPU time has not come that far.
            let deadline_ns = state.schedule.deadline_ns;
            drop(state);
            return self.arm(deadline_ns);
        }
        if !wants_signal || dropped {
            state.schedule.advance(now_ns);
            let next_ns = state.schedule.deadline_ns;
            drop(state);
            return self.arm(next_ns);
        }
        state.queued = true;
        drop(state);
        self.notify(&process);
    }
}

fn is_dropped(process: &Process, signal: u32) -> bool {
    let ignored = process.signals.lock().handlers.ignored().contains(signal);
    ignored && process.main_thread().is_none_or(|t| !t.blocked().contains(signal))
}

/// A timer's signal is being taken: counts the expiries it stands for and starts the next period. `None`
/// when the timer was deleted.
pub(crate) fn signal_taken(process: &Arc<Process>, info: SigInfo) -> Option<SigInfo> {
    if info.pad == 0 {
        return Some(info);
    }
    let timer = process.timers.posix.lock().timers.get(&(info.si_pid() as i32)).cloned()?;
    let now_ns = timer.now_ns();
    let mut state = timer.state.lock();
    state.queued = false;
    let times = state.schedule.advance(now_ns);
    state.overrun = i32::try_from(times.saturating_sub(1)).unwrap_or(i32::MAX);
    let (overrun, next_ns) = (state.overrun, state.schedule.deadline_ns);
    drop(state);
    timer.arm(next_ns);
    Some(SigInfo { pad: 0, ..timer.info(overrun) })
}

/// /proc/PID/timers: four lines for each POSIX timer.
pub fn show(process: &Process, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    let mut next = i32::MIN;
    loop {
        let found = process.timers.posix.lock().timers.range(next..).next().map(|(id, t)| (*id, t.clone()));
        let Some((id, timer)) = found else { return Ok(()) };
        let event = &timer.event;
        let (how, whom, number) = match event.notify {
            SIGEV_THREAD_ID => ("signal", "tid", event.tid),
            SIGEV_NONE => ("none", "pid", process.pid() as i32),
            _ => ("signal", "pid", process.pid() as i32),
        };
        let clock = match timer.clock {
            TimerClock::Realtime => CLOCK_REALTIME,
            TimerClock::Monotonic => abi::time::CLOCK_MONOTONIC,
            TimerClock::ProcessCpu => CLOCK_PROCESS_CPUTIME_ID,
            TimerClock::ThreadCpu(_) => abi::time::CLOCK_THREAD_CPUTIME_ID,
        };
        writeln!(out, "ID: {id}\nsignal: {}/{:016x}", event.signo, event.value)?;
        writeln!(out, "notify: {how}/{whom}.{number}\nClockID: {clock}")?;
        let Some(after) = id.checked_add(1) else { return Ok(()) };
        next = after;
    }
}

/// timer_create(2): the new timer's id. EAGAIN when there is no memory.
pub fn create(process: &Arc<Process>, clock: TimerClock, event: SigEvent) -> Result<i32> {
    let limit = rlimit::soft(process, RLIMIT_SIGPENDING);
    let mut posix = process.timers.posix.lock();
    // Each timer may have a signal queued.
    if posix.timers.len() as u64 >= limit {
        return Err(Errno::EAGAIN);
    }
    let id = posix.next_id;
    let timer = Arc::new(PosixTimer {
        id,
        clock,
        event,
        process: Arc::downgrade(process),
        state: SpinLock::new(PosixState::default()),
        timer: Once::new(),
    });
    let target: Weak<PosixTimer> = Arc::downgrade(&timer);
    if matches!(timer.clock, TimerClock::Realtime) {
        time::watch_realtime(target.clone()).map_err(|_| Errno::EAGAIN)?;
    }
    let _ = timer.timer.set(Timer::new("posix_timer_fn", target));
    posix.timers.insert(id, timer);
    posix.next_id = id.checked_add(1).ok_or(Errno::EAGAIN)?;
    Ok(id)
}

fn find(process: &Process, id: i32) -> Result<Arc<PosixTimer>> {
    process.timers.posix.lock().timers.get(&id).cloned().ok_or(Errno::EINVAL)
}

/// timer_settime(2): the old setting.
pub fn set(process: &Process, id: i32, absolute: bool, new: Setting) -> Result<Setting> {
    let timer = find(process, id)?;
    let now_ns = timer.now_ns();
    let mut schedule = Schedule::start(new, if absolute { 0 } else { now_ns });
    if absolute && new.left_ns != 0 {
        schedule.deadline_ns = new.left_ns;
    }
    let mut state = timer.state.lock();
    let old = state.schedule.setting(now_ns);
    *state = PosixState { schedule, ..PosixState::default() };
    drop(state);
    timer.arm(schedule.deadline_ns);
    Ok(old)
}

/// timer_gettime(2).
pub fn get(process: &Process, id: i32) -> Result<Setting> {
    let timer = find(process, id)?;
    let now_ns = timer.now_ns();
    let mut state = timer.state.lock();
    if state.queued || timer.event.notify == SIGEV_NONE {
        let mut ahead = state.schedule;
        ahead.advance(now_ns);
        if timer.event.notify == SIGEV_NONE {
            state.schedule = ahead;
        }
        return Ok(ahead.setting(now_ns));
    }
    Ok(state.schedule.setting(now_ns))
}

/// timer_getoverrun(2).
pub fn overrun(process: &Process, id: i32) -> Result<i32> {
    let timer = find(process, id)?;
    let overrun = timer.state.lock().overrun;
    Ok(overrun)
}

/// timer_delete(2).
pub fn delete(process: &Process, id: i32) -> Result<()> {
    let timer = process.timers.posix.lock().timers.remove(&id).ok_or(Errno::EINVAL)?;
    drop(timer);
    Ok(())
}

/// The kernel's own timer of a program's thread of `process` (a plain alarm), used by alarm(2).
pub fn alarm(process: &Arc<Process>, seconds: u32) -> Result<u32> {
    let new = Setting { interval_ns: 0, left_ns: u64::from(seconds) * NSEC_PER_SEC };
    let old = set_real(process, new)?;
    // Rounded, but never to "no alarm" while one was set.
    let left = (old.left_ns + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
    let left = if left == 0 && old.left_ns != 0 { 1 } else { left };
    Ok(u32::try_from(left).unwrap_or(u32::MAX))
}
