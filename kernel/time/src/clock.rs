//! The clocks: monotonic is the counter, real time is monotonic plus an offset.

use crate::Expire;
use alloc::sync::Weak;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use mem::OutOfMemory;
use sync::levels::TimeKeeper;
use sync::{SeqLock, SpinLock};
use task::WaitQueue;

/// Real time minus monotonic time, in ns.
static OFFSET_NS: SeqLock<i128> = SeqLock::new(0);
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
    u64::try_from(i128::from(monotonic_ns()) + OFFSET_NS.read()).unwrap_or(0)
}

/// What to add to monotonic time to get real time.
pub fn realtime_offset_ns() -> i128 {
    OFFSET_NS.read()
}

/// Steps the real-time clock and calls those that watch it. Process context.
pub fn set_realtime_ns(now_ns: u64) {
    let monotonic = i128::from(monotonic_ns());
    OFFSET_NS.update(|offset| *offset = i128::from(now_ns) - monotonic);
    CHANGES.fetch_add(1, Ordering::SeqCst);
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

/// Calls `target` (as if it had expired) whenever the real-time clock is stepped, for as long as it lives.
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

/// The queue that is woken when the real-time clock is stepped.
pub fn wait_realtime_change() -> &'static WaitQueue {
    &CHANGED
}
