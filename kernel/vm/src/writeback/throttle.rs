//! How much may be dirty, and how long a writer pauses.

use super::{BackingDevice, knobs};
use crate::mapping::Mapping;
use crate::{PAGE, stats};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use task::{WaitMode, wait_alone};

const MS: u64 = 1_000_000;
/// The longest pause at a time (Linux's MAX_PAUSE), so that a changed speed is noticed.
const MAX_PAUSE_NS: u64 = 200 * MS;
/// How often the speed of a device is estimated anew (Linux's BANDWIDTH_INTERVAL).
const SPEED_INTERVAL_NS: u64 = 200 * MS;
/// Pages a second of a device that nothing is known about: 100 MB/s, as Linux assumes.
const FIRST_SPEED: u64 = 100 * 1024 * 1024 / PAGE;

/// The state of dirty memory, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Dirty and under write-back.
    pub dirty: u64,
    /// Waiting for write-back.
    pub waiting: u64,
    pub background: u64,
    pub limit: u64,
}

impl Limits {
    pub fn over_background(&self) -> bool {
        self.waiting > self.background
    }

    /// Below this writers are not slowed down.
    pub fn freerun(&self) -> u64 {
        self.background.midpoint(self.limit)
    }
}

/// Where things stand. Dirtyable is what is free or cached from files, less what must stay free.
pub fn limits() -> Limits {
    let free = mem::free_pages() as u64;
    let dirtyable = free.saturating_sub(stats::reserved_pages()) + stats::file_pages();
    let pages = |bytes: &AtomicU64, ratio: u32| match bytes.load(Relaxed) {
        0 => dirtyable * u64::from(ratio) / 100,
        bytes => bytes.div_ceil(PAGE),
    };
    let limit = pages(&knobs::BYTES, knobs::RATIO.load(Relaxed));
    let background = pages(&knobs::BACKGROUND_BYTES, knobs::BACKGROUND_RATIO.load(Relaxed));
    let background = if background >= limit { limit / 2 } else { background };
    let (waiting, writing) = (stats::dirty_pages(), stats::writeback_pages());
    Limits { dirty: waiting + writing, waiting, background, limit }
}

/// An estimate of the pages a second that a device takes.
pub(crate) struct Speed {
    pages_per_s: AtomicU64,
    last_ns: AtomicU64,
    last_pages: AtomicU64,
}

impl Speed {
    pub const fn new() -> Speed {
        Speed {
            pages_per_s: AtomicU64::new(FIRST_SPEED),
            last_ns: AtomicU64::new(0),
            last_pages: AtomicU64::new(0),
        }
    }

    /// `pages` were written since the device exists. Called by its flusher alone.
    pub fn update(&self, pages: u64) {
        let now = arch::timer::now_ns();
        let elapsed = now.saturating_sub(self.last_ns.load(Relaxed));
        if elapsed < SPEED_INTERVAL_NS {
            return;
        }
        let written = pages.saturating_sub(self.last_pages.load(Relaxed));
        self.last_ns.store(now, Relaxed);
        self.last_pages.store(pages, Relaxed);
        if elapsed < 16 * SPEED_INTERVAL_NS {
            // A quarter of the new value: one slow second does not stop everybody.
            let new = written.saturating_mul(1_000_000_000) / elapsed;
            let old = self.pages_per_s.load(Relaxed);
            self.pages_per_s.store((old * 3 + new).div_ceil(4).max(1), Relaxed);
        }
    }
}

/// A writer has made `pages` pages dirty: sees to it that they are written, and sleeps if too many are.
/// Ends early for a fatal signal. The caller may hold sleeping locks that no write-back needs.
pub fn balance_dirty_pages(mapping: &Mapping, pages: u64) {
    let Some(device) = mapping.device() else { return };
    let mut owed = pages;
    loop {
        let state = limits();
        if state.over_background() {
            device.wake();
        }
        if state.dirty <= state.freerun() || task::current().fatal_pending() {
            return;
        }
        let pause = pause_ns(&state, device, owed);
        if pause < MS {
            return;
        }
        let deadline = arch::timer::now_ns().saturating_add(pause);
        let _ = wait_alone(&"balance_dirty_pages", WaitMode::Killable, Some(deadline), || None::<()>);
        owed = 0;
        if state.dirty < state.limit {
            return;
        }
    }
}

/// What the device needs for the pages: at its speed in the middle between freerun and limit, slower
/// towards the limit, down to waiting.
fn pause_ns(state: &Limits, device: &BackingDevice, pages: u64) -> u64 {
    if state.dirty >= state.limit {
        return MAX_PAUSE_NS / 4;
    }
    let span = (state.limit - state.freerun()).max(1);
    let left = state.limit - state.dirty;
    let speed = device.speed.pages_per_s.load(Relaxed);
    // Twice the speed at freerun, half of it where a quarter is left.
    let allowed = (speed.saturating_mul(2).saturating_mul(left) / span).max(1);
    (pages.saturating_mul(1_000_000_000) / allowed).min(MAX_PAUSE_NS)
}

/// The flusher submitted enough for now: waits while the devices have much on their way already, so that
/// the dirty pages stay where they can be merged and the queue stays short for readers.
pub(super) fn wait_for_room() {
    let state = limits();
    let writing = state.dirty - state.waiting;
    if writing > (state.limit / 2).max(2048) {
        let deadline = arch::timer::now_ns().saturating_add(10 * MS);
        let _ = wait_alone(&"wb_writeback", WaitMode::Idle, Some(deadline), || None::<()>);
    }
}
