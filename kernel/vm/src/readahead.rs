//! The read-ahead state of an open file: the window of `policy/readahead` and what the file was advised.

use crate::mapping::Mapping;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use readahead::{Plan, Window};
use sync::SpinLock;
use sync::levels::Leaf;

/// With so many misses more than pages found, a mapped file counts as read here and there: no windows (Linux's
/// MMAP_LOTSAMISS).
const MISSES_MANY: u32 = 100;
/// The most that are counted, so that a file which is read otherwise one day is found out.
const MISSES_MAX: u32 = 10 * MISSES_MANY;
/// No page was used yet.
const NONE: u64 = u64::MAX;

/// One for each open file. A hit writes one word of it, and only when the page is another one.
pub struct Readahead {
    window: SpinLock<Window, Leaf>,
    previous: AtomicU64,
    /// How many times the device's read-ahead may be read ahead: 0 none (POSIX_FADV_RANDOM), 2 for files that are read
    /// in order.
    factor: AtomicU32,
    /// Faults that missed without a pattern, less the pages that faults found.
    mapped_misses: AtomicU32,
}

impl Default for Readahead {
    fn default() -> Readahead {
        Readahead::new()
    }
}

impl Readahead {
    pub const fn new() -> Readahead {
        Readahead {
            window: SpinLock::new(Window::DEFAULT),
            previous: AtomicU64::new(NONE),
            factor: AtomicU32::new(1),
            mapped_misses: AtomicU32::new(0),
        }
    }

    /// The file is read in order: twice the window.
    pub fn set_sequential(&self) {
        self.factor.store(2, Relaxed);
    }

    /// The file is read here and there: no window.
    pub fn set_random(&self) {
        self.factor.store(0, Relaxed);
    }

    /// Nothing is known about how the file is read.
    pub fn set_normal(&self) {
        self.factor.store(1, Relaxed);
    }

    /// Pages read ahead at most.
    fn max(&self, mapping: &Mapping) -> u32 {
        self.factor.load(Relaxed).saturating_mul(mapping.read_ahead_pages())
    }

    #[inline]
    pub(crate) fn used(&self, index: u64) {
        if self.previous.load(Relaxed) != index {
            self.previous.store(index, Relaxed);
        }
    }

    pub(crate) fn plan_miss(&self, mapping: &Mapping, index: u64, wanted: u64) -> Plan {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let previous = Some(self.previous.load(Relaxed)).filter(|last| *last != NONE);
        let max = self.max(mapping);
        // The cache is asked without the window's lock, which is the innermost.
        let mut window = *self.window.lock();
        let plan = window.on_miss(index, wanted, max, previous, |limit| mapping.cached_before(index, limit));
        *self.window.lock() = window;
        plan
    }

    pub(crate) fn plan_mark(&self, mapping: &Mapping, index: u64, wanted: u64) -> Option<Plan> {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let max = self.max(mapping);
        let mut window = *self.window.lock();
        let plan = window.on_mark(index, wanted, max, |limit| mapping.absent_after(index, limit));
        *self.window.lock() = window;
        plan
    }

    /// A fault missed page `index`: what to read, if anything more than the page.
    pub(crate) fn plan_fault(&self, mapping: &Mapping, index: u64, sequential: bool) -> Option<Plan> {
        if sequential || self.previous.load(Relaxed).wrapping_add(1) == index {
            return Some(self.plan_miss(mapping, index, 1));
        }
        let max = self.max(mapping);
        if max == 0 {
            return None;
        }
        // Racing faults may lose a count; it is a guess anyway.
        let misses = self.mapped_misses.load(Relaxed).saturating_add(1).min(MISSES_MAX);
        self.mapped_misses.store(misses, Relaxed);
        (misses <= MISSES_MANY).then(|| self.window.lock().around(index, max))
    }

    /// Faults on a mapping found so many pages in memory: the windows were worth reading.
    #[inline]
    pub(crate) fn found_mapped(&self, pages: usize) {
        let misses = self.mapped_misses.load(Relaxed);
        if misses > 0 && pages > 0 {
            let pages = u32::try_from(pages).unwrap_or(u32::MAX);
            self.mapped_misses.store(misses.saturating_sub(pages), Relaxed);
        }
    }
}
