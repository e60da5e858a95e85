//! The clocks: monotonic is the counter, real time is monotonic plus an offset.

use core::sync::atomic::{AtomicU64, Ordering};
use sync::SeqLock;
use task::WaitQueue;

/// Real time minus monotonic time, in ns.
static OFFSET_NS: SeqLock<i128> = SeqLock::new(0);
/// Counts the steps of the real-time clock, so that absolute sleepers notice.
static CHANGES: AtomicU64 = AtomicU64::new(0);
static CHANGED: WaitQueue = WaitQueue::new(&"clock_was_set");

/// CLOCK_MONOTONIC (and CLOCK_BOOTTIME: the machine never suspends), ns since boot. Any context.
#[inline]
pub fn monotonic_ns() -> u64 {
    arch::timer::now_ns()
}

/// CLOCK_REALTIME, ns since the Epoch. Any context.
pub fn realtime_ns() -> u64 {
    u64::try_from(i128::from(monotonic_ns()) + OFFSET_NS.read()).unwrap_or(0)
}

/// What to add to monotonic time to get real time.
pub fn realtime_offset_ns() -> i128 {
    OFFSET_NS.read()
}

/// Steps the real-time clock.
pub fn set_realtime_ns(now_ns: u64) {
    let monotonic = i128::from(monotonic_ns());
    OFFSET_NS.update(|offset| *offset = i128::from(now_ns) - monotonic);
    CHANGES.fetch_add(1, Ordering::SeqCst);
    CHANGED.wake_all();
}

/// How often the real-time clock was stepped.
pub fn realtime_changed() -> u64 {
    CHANGES.load(Ordering::SeqCst)
}

/// The queue that is woken when the real-time clock is stepped.
pub fn wait_realtime_change() -> &'static WaitQueue {
    &CHANGED
}
