//! timerfd_create(2): a timer that is read like a file.
//!
//! **Idea.** An expired timer is not armed again until somebody reads or asks: a period of a nanosecond costs one
//! interrupt, not a flood. How many periods have passed is computed at that moment, as Linux does.

use crate::Result;
use crate::timers::{Schedule, Setting};
use abi::Errno;
use abi::fcntl::{O_NONBLOCK, O_RDWR};
use abi::poll::PollEvents;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt;
use sync::levels::Leaf;
use sync::{Once, SpinLock};
use task::WaitQueue;
use time::{Expire, Timer};
use vfs::{File, FileOps, FileTraits, IoBuf, OpsRef, PollTable, anon};

/// How timerfd_settime(2) reads the new setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetHow {
    /// The first expiry is a point of the clock, not a distance.
    pub absolute: bool,
    /// A read fails with ECANCELED after the real-time clock was set.
    pub cancel_on_set: bool,
}

struct State {
    schedule: Schedule,
    /// Expiries that nobody has read, but for those since the timer stopped at `expired`.
    ticks: u64,
    /// The clock reached the deadline and the timer waits to be read.
    expired: bool,
    how: SetHow,
    /// [`time::realtime_changed`] when the timer was set.
    steps: u64,
}

/// The object behind the descriptor.
pub struct TimerFd {
    clock_id: i32,
    realtime: bool,
    state: SpinLock<State, Leaf>,
    timer: Once<Timer>,
    queue: Arc<WaitQueue>,
}

/// timerfd_create(2) with a clock and flags that the caller has checked; `realtime` says whether the clock can be set.
/// ENOMEM.
pub fn create(clock_id: i32, realtime: bool, nonblocking: bool) -> Result<Arc<File>> {
    let fd = Arc::new(TimerFd {
        clock_id,
        realtime,
        state: SpinLock::new(State {
            schedule: Schedule::default(),
            ticks: 0,
            expired: false,
            how: SetHow::default(),
            steps: 0,
        }),
        timer: Once::new(),
        queue: Arc::new(WaitQueue::new(&"timerfd_read")),
    });
    let target: Weak<dyn Expire> = Arc::downgrade(&(fd.clone() as Arc<dyn Expire>));
    if realtime {
        time::watch_realtime(target.clone())?;
    }
    let _ = fd.timer.set(Timer::new("timerfd_tmrproc", target));
    let status = if nonblocking { O_NONBLOCK } else { 0 };
    Ok(anon::file("[timerfd]", OpsRef::Shared(fd), O_RDWR | status))
}

/// The timer of a descriptor; EINVAL for another kind of file.
pub fn of_file(file: &File) -> Result<&TimerFd> {
    file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)
}

impl TimerFd {
    fn now_ns(&self) -> u64 {
        if self.realtime { time::realtime_ns() } else { time::monotonic_ns() }
    }

    /// timerfd_settime(2): the old setting. ENOMEM when the timer cannot be armed.
    pub fn set(&self, new: Setting, how: SetHow) -> Result<Setting> {
        let now_ns = self.now_ns();
        let mut schedule = Schedule::start(new, if how.absolute { 0 } else { now_ns });
        if how.absolute && new.left_ns != 0 {
            schedule.deadline_ns = new.left_ns;
        }
        let mut state = self.state.lock();
        self.catch_up(&mut state, now_ns);
        let old = state.schedule.setting(now_ns);
        *state = State { schedule, ticks: 0, expired: false, how, steps: time::realtime_changed() };
        drop(state);
        self.arm(schedule.deadline_ns)?;
        Ok(old)
    }

    /// timerfd_gettime(2).
    pub fn get(&self) -> Setting {
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        let rearm = self.catch_up(&mut state, now_ns);
        let setting = state.schedule.setting(now_ns);
        drop(state);
        if let Some(deadline_ns) = rearm {
            let _ = self.arm(deadline_ns); // without memory it stays late until it is read again
        }
        setting
    }

    /// Counts what has expired. A deadline to arm, if the timer had stopped and goes on.
    fn catch_up(&self, state: &mut State, now_ns: u64) -> Option<u64> {
        if !state.expired {
            return None;
        }
        state.expired = false;
        state.ticks = state.ticks.saturating_add(state.schedule.advance(now_ns));
        (state.schedule.deadline_ns != 0).then_some(state.schedule.deadline_ns)
    }

    fn arm(&self, deadline_ns: u64) -> Result<()> {
        let timer = self.timer.get_expect();
        if deadline_ns == 0 {
            timer.cancel();
            return Ok(());
        }
        let left_ns = deadline_ns.saturating_sub(self.now_ns());
        Ok(timer.arm(time::monotonic_ns().saturating_add(left_ns))?)
    }

    fn is_cancelled(&self, state: &State) -> bool {
        self.realtime
            && state.how.cancel_on_set
            && state.how.absolute
            && state.steps != time::realtime_changed()
    }
}

impl Expire for TimerFd {
    fn expired(&self, _now_ns: u64) {
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        let cancelled = self.is_cancelled(&state);
        let deadline_ns = state.schedule.deadline_ns;
        let due = deadline_ns != 0 && now_ns >= deadline_ns;
        let stopped = state.expired;
        state.expired |= due;
        drop(state);
        if deadline_ns != 0 && !due && !stopped {
            // The clock was set: the distance is another now.
            let _ = self.arm(deadline_ns);
        }
        if due || cancelled {
            self.queue.wake(usize::MAX, PollEvents::READABLE.bits());
        }
    }
}

impl FileOps for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if buf.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        if self.is_cancelled(&state) {
            state.steps = time::realtime_changed();
            state.ticks = 0;
            return Err(Errno::ECANCELED);
        }
        let rearm = self.catch_up(&mut state, now_ns);
        let ticks = core::mem::take(&mut state.ticks);
        drop(state);
        if let Some(deadline_ns) = rearm {
            self.arm(deadline_ns)?;
        }
        if ticks == 0 { Err(Errno::EAGAIN) } else { buf.put(&ticks.to_ne_bytes()) }
    }

    fn wait_queue(&self, _file: &File, _events: PollEvents) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(&self.queue);
        }
        let state = self.state.lock();
        let ready = state.expired || state.ticks > 0 || self.is_cancelled(&state);
        if ready { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let setting = self.get();
        let (ticks, how) = {
            let state = self.state.lock();
            (state.ticks, state.how)
        };
        let pair = |ns: u64| (ns / 1_000_000_000, ns % 1_000_000_000);
        let (left, interval) = (pair(setting.left_ns), pair(setting.interval_ns));
        writeln!(out, "clockid: {}", self.clock_id)?;
        writeln!(out, "ticks: {ticks}")?;
        writeln!(out, "settime flags: 0{:o}", u32::from(how.absolute) | u32::from(how.cancel_on_set) << 1)?;
        writeln!(out, "it_value: ({}, {})", left.0, left.1)?;
        writeln!(out, "it_interval: ({}, {})", interval.0, interval.1)
    }
}
