//! The debug-build check of the lock order.
//!
//! Each CPU keeps the ranks of the spin locks it holds; spin locks are released on the CPU that took
//! them, so a per-CPU stack is exact. Sleeping locks are recorded by the `task` crate per task and
//! checked against the spin locks here: none may be held.

use crate::Level;

#[cfg(debug_assertions)]
mod imp {
    use arch::MAX_CPUS;
    use core::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};

    const DEPTH: usize = 24;

    pub(super) struct Held {
        count: AtomicUsize,
        ranks: [AtomicU16; DEPTH],
    }

    pub(super) static HELD: [Held; MAX_CPUS] =
        [const { Held { count: AtomicUsize::new(0), ranks: [const { AtomicU16::new(0) }; DEPTH] } };
            MAX_CPUS];

    impl Held {
        pub fn highest(&self) -> u16 {
            let count = self.count.load(Relaxed).min(DEPTH);
            self.ranks[..count].iter().map(|r| r.load(Relaxed)).max().unwrap_or(0)
        }

        pub fn push(&self, rank: u16) {
            let count = self.count.load(Relaxed);
            if count < DEPTH {
                self.ranks[count].store(rank, Relaxed);
            }
            self.count.store(count + 1, Relaxed);
        }

        /// Guards may drop in any order: removes the newest entry of this rank.
        pub fn pop(&self, rank: u16) {
            let count = self.count.load(Relaxed);
            let known = count.min(DEPTH);
            if let Some(at) = (0..known).rev().find(|&i| self.ranks[i].load(Relaxed) == rank) {
                for i in at..known - 1 {
                    self.ranks[i].store(self.ranks[i + 1].load(Relaxed), Relaxed);
                }
            }
            self.count.store(count.saturating_sub(1), Relaxed);
        }

        pub fn count(&self) -> usize {
            self.count.load(Relaxed)
        }
    }
}

/// Records and checks an acquisition; called with preemption (or interrupts) already off.
#[inline]
pub(crate) fn acquired<L: Level>(nested: bool) {
    #[cfg(debug_assertions)]
    {
        // An interrupt between the two halves of `push` would leave its own rank in our place.
        let _off = crate::irq_off();
        let held = &imp::HELD[arch::cpu::id()];
        let top = held.highest();
        if L::RANK < top || (L::RANK == top && !nested) {
            inversion(L::NAME, L::RANK, top);
        }
        held.push(L::RANK);
    }
    let _ = nested;
}

#[inline]
pub(crate) fn released<L: Level>() {
    #[cfg(debug_assertions)]
    {
        let _off = crate::irq_off();
        imp::HELD[arch::cpu::id()].pop(L::RANK);
    }
}

#[cfg(debug_assertions)]
#[cold]
fn inversion(name: &str, rank: u16, held: u16) -> ! {
    let holder = crate::levels::ALL.iter().find(|l| l.1 == held).map_or("?", |l| l.0);
    panic!("lock order: taking {name} ({rank}) while holding {holder} ({held})")
}

/// How many spin locks this CPU holds (0 in release builds).
pub fn held_count() -> usize {
    #[cfg(debug_assertions)]
    return imp::HELD[arch::cpu::id()].count();
    #[cfg(not(debug_assertions))]
    0
}

/// Panics in debug builds when the caller must not sleep: the head of every sleeper calls it.
#[inline]
#[track_caller]
pub fn assert_may_sleep() {
    debug_assert!(
        !crate::preempt::in_atomic(),
        "sleeping function called from atomic context (preempt_count {:#x}, interrupts {})",
        arch::cpu::preempt_count(),
        if arch::irq::is_enabled() { "on" } else { "off" },
    );
}
