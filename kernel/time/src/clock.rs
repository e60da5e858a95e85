//! The clocks: monotonic is the counter; real time is monotonic plus an offset that may drift.
//!
//! Adjtimex(2) disciplines real time alone: here CLOCK_MONOTONIC goes as CLOCK_MONOTONIC_RAW, so that the deadlines of
//! timers, which are monotonic, stay what the counter counts. (Linux lets both clocks drift.) The seconds of the
//! discipline ([`ntp`]) are counted by a timer only while they differ: otherwise they are caught up with when somebody
//! asks.

use crate::{Expire, Timer};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use mem::OutOfMemory;
use ntp::{Ntp, Wish};
use sync::levels::{TimeDiscipline, TimeKeeper};
use sync::{Once, SeqLock, SpinLock};
use task::WaitQueue;

const NS_PER_S: u64 = 1_000_000_000;
/// Real time ends 30 years before a signed 64-bit number of ns does, as on Linux.
const MAX_REALTIME_NS: u64 = i64::MAX as u64 - 30 * 365 * 86_400 * NS_PER_S;

/// How real time follows from monotonic time: `mono + offset + (mono - since) * rate / 2^48`.
#[derive(Clone, Copy, Debug)]
pub struct RealTime {
    pub since_ns: u64,
    pub offset_ns: i64,
    pub rate: i64,
}

impl RealTime {
    fn at(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.offset_at(monotonic_ns))
    }

    fn offset_at(&self, monotonic_ns: u64) -> i64 {
        let passed_ns = monotonic_ns.wrapping_sub(self.since_ns) as i64;
        self.offset_ns + (i128::from(passed_ns) * i128::from(self.rate) >> 48) as i64
    }
}

/// The discipline and the last second that it knows of.
struct Discipline {
    ntp: Ntp,
    second_s: i64,
}

static REAL: SeqLock<RealTime> = SeqLock::new(RealTime { since_ns: 0, offset_ns: 0, rate: 0 });
static DISCIPLINE: SpinLock<Discipline, TimeDiscipline> =
    SpinLock::new(Discipline { ntp: Ntp::new(), second_s: 0 });
static SECONDS: Once<(Arc<Seconds>, Timer)> = Once::new();
/// Counts the steps of the real-time clock, so that absolute sleepers notice.
static CHANGES: AtomicU64 = AtomicU64::new(0);
static CHANGED: WaitQueue = WaitQueue::new(&"clock_was_set");
/// Timers on the real-time clock: a step moves their deadlines.
static WATCHERS: SpinLock<Vec<Weak<dyn Expire>>, TimeKeeper> = SpinLock::new(Vec::new());

/// CLOCK_MONOTONIC (and CLOCK_BOOTTIME: the machine never suspends), ns since boot. Any context.
#[inline]
pub fn monotonic_ns() -> u64 {
    arch::timer::now_ns()
}

/// CLOCK_REALTIME, ns since the Epoch. Any context.
pub fn realtime_ns() -> u64 {
    REAL.read().at(monotonic_ns())
}

/// CLOCK_TAI, ns. Process context.
pub fn tai_ns() -> u64 {
    let tai_s = DISCIPLINE.lock().ntp.tai();
    realtime_ns().saturating_add_signed(tai_s * NS_PER_S as i64)
}

/// How real time follows from monotonic time now, for who computes it without the kernel.
pub fn realtime() -> RealTime {
    REAL.read()
}

/// A time was asked for that the clock cannot show: EINVAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// Steps the real-time clock and calls those that watch it; nobody vouches for the time then. Process context.
pub fn set_realtime_ns(now_ns: u64) -> Result<(), OutOfRange> {
    {
        let mut discipline = DISCIPLINE.lock();
        step_to(&mut discipline, i128::from(now_ns))?;
    }
    CHANGES.fetch_add(1, Ordering::SeqCst);
    tell();
    Ok(())
}

/// The step itself. Real time never shows less than the time since boot.
fn step_to(discipline: &mut Discipline, now_ns: i128) -> Result<(), OutOfRange> {
    let monotonic_ns = monotonic_ns();
    let now_ns = u64::try_from(now_ns).map_err(|_| OutOfRange)?;
    if !(monotonic_ns..MAX_REALTIME_NS).contains(&now_ns) {
        return Err(OutOfRange);
    }
    discipline.ntp.clear();
    discipline.second_s = (now_ns / NS_PER_S) as i64;
    let rate = rate_of(&discipline.ntp);
    let offset_ns = (now_ns - monotonic_ns) as i64;
    REAL.update(|real| *real = RealTime { since_ns: monotonic_ns, offset_ns, rate });
    Ok(())
}

/// What the discipline says, in 2^-48 ns a ns.
fn rate_of(ntp: &Ntp) -> i64 {
    // |rate| is below 2^60 for the longest tick; the product is not.
    ((i128::from(ntp.rate()) << 16) / i128::from(NS_PER_S)) as i64
}

impl Discipline {
    /// Tells the discipline of the seconds that have passed, and lets the clock run as it says. Whether anything is
    /// different now.
    fn catch_up(&mut self) -> bool {
        let now_s = (realtime_ns() / NS_PER_S) as i64;
        let passed = now_s - self.second_s;
        if passed <= 0 {
            return false;
        }
        self.second_s = now_s;
        if self.ntp.is_steady() {
            self.ntp.skip(passed);
            return false;
        }
        self.ntp.skip(passed - 1);
        let leap_s = self.ntp.second(now_s);
        self.second_s += leap_s;
        self.apply(leap_s);
        true
    }

    fn apply(&self, leap_s: i64) {
        let (now_ns, rate) = (monotonic_ns(), rate_of(&self.ntp));
        REAL.update(|real| {
            let offset_ns = real.offset_at(now_ns) + leap_s * NS_PER_S as i64;
            *real = RealTime { since_ns: now_ns, offset_ns, rate };
        });
    }
}

/// The timer that counts seconds while they differ.
struct Seconds;

impl Expire for Seconds {
    fn expired(&self, _now_ns: u64) {
        let changed = DISCIPLINE.lock().catch_up();
        count_seconds();
        if changed {
            tell();
        }
    }
}

/// Sets the timer to the next second, if that will differ from this one.
fn count_seconds() {
    let Some((_, timer)) = SECONDS.get() else { return };
    if DISCIPLINE.lock().ntp.is_steady() {
        return;
    }
    let left_ns = NS_PER_S - realtime_ns() % NS_PER_S;
    // Without memory, the seconds are counted when somebody asks.
    let _ = timer.arm(monotonic_ns() + left_ns);
}

/// Makes the timer of the seconds. Boot, after the heap.
pub(crate) fn init() {
    let seconds = Arc::new(Seconds);
    let target: Weak<Seconds> = Arc::downgrade(&seconds);
    let _ = SECONDS.set((seconds, Timer::new("sync_timer_callback", target)));
}

/// What [`adjust`] answers besides the wish.
#[derive(Clone, Copy, Debug)]
pub struct Adjusted {
    /// adjtimex(2)'s result.
    pub state: i32,
    pub now_ns: u64,
    /// Times are told in ns, not us.
    pub nano: bool,
}

/// adjtimex(2), once arguments and rights are checked. `step_ns` is added to the clock first. Process context.
pub fn adjust(wish: &mut Wish, step_ns: Option<i64>) -> Result<Adjusted, OutOfRange> {
    let mut discipline = DISCIPLINE.lock();
    let mut changed = discipline.catch_up();
    if let Some(step_ns) = step_ns {
        step_to(&mut discipline, i128::from(realtime_ns()) + i128::from(step_ns))?;
        CHANGES.fetch_add(1, Ordering::SeqCst);
        changed = true;
    }
    let now_s = discipline.second_s;
    let state = discipline.ntp.adjust(wish, now_s);
    if rate_of(&discipline.ntp) != REAL.read().rate {
        discipline.apply(0);
        changed = true;
    }
    let nano = discipline.ntp.is_nano();
    drop(discipline);
    count_seconds();
    if changed {
        tell();
    }
    Ok(Adjusted { state, now_ns: realtime_ns(), nano })
}

/// The clock goes otherwise: who sleeps until a time of it looks again.
fn tell() {
    CHANGED.wake_all();
    let now_ns = monotonic_ns();
    // From the end, one at a time: no copy of a list that programs make long, and who moves down meanwhile, because
    // the dead are swept out, is still met.
    let mut at = WATCHERS.lock().len();
    while at > 0 {
        at -= 1;
        let watcher = WATCHERS.lock().get(at).and_then(Weak::upgrade);
        if let Some(watcher) = watcher {
            watcher.expired(now_ns);
        }
    }
}

/// Calls `target` (as if it had expired) whenever the real-time clock is stepped or its rate changes, for as long as it
/// lives.
pub fn watch_realtime(target: Weak<dyn Expire>) -> Result<(), OutOfMemory> {
    let mut watchers = WATCHERS.lock();
    // The dead are swept out when the list would grow, so a program that makes and drops timers fills nothing.
    if watchers.len() == watchers.capacity() {
        watchers.retain(|watcher| watcher.strong_count() > 0);
    }
    watchers.try_reserve(1).map_err(|_| OutOfMemory)?;
    watchers.push(target);
    Ok(())
}

/// How often the real-time clock was stepped.
pub fn realtime_changed() -> u64 {
    CHANGES.load(Ordering::SeqCst)
}

/// The queue that is woken when the real-time clock is stepped or its rate changes.
pub fn wait_realtime_change() -> &'static WaitQueue {
    &CHANGED
}
