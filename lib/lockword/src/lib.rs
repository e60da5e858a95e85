//! The words of locks: what a lock does to one atomic integer, and how a task goes to sleep without missing the wake-up.
//!
//! **Problem.** Whether a lock excludes and a sleeper wakes depends on a few atomic instructions and their orderings, and
//! no test of a running kernel tries all their interleavings. A model checker does, if the code can run under it.
//!
//! **Interface.** [`SpinWord`], [`RwWord`], [`SeqWord`], [`OnceWord`], [`MutexWord`] and [`SemWord`] are the states of the
//! kernel's locks, without data and without guards (`machine/sync`, `machine/task` add those). [`SleepWord`] and [`sleep()`] are
//! the sleeping protocol.
//!
//! **Idea.** Generic over the atomic integer: [`Word`] is implemented by the processor's, and in the tests by loom's,
//! which explores every interleaving that the memory model allows. What to do while spinning is a parameter.

#![no_std]
#![forbid(unsafe_code)]

mod mutex;
mod once;
mod rw;
mod sem;
mod seq;
mod sleep;
mod spin;

pub use mutex::MutexWord;
pub use once::OnceWord;
pub use rw::RwWord;
pub use sem::SemWord;
pub use seq::SeqWord;
pub use sleep::{RUNNING, SleepEnd, SleepWord, Sleeper, Slept, sleep};
pub use spin::SpinWord;

use core::sync::atomic::{AtomicU32, Ordering};

/// A 32-bit atomic integer.
pub trait Word {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
    fn swap(&self, value: u32, order: Ordering) -> u32;
    /// May fail without a reason.
    fn try_change(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32>;
    /// Fails only when the value is another one.
    fn change(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32>;
    fn fetch_add(&self, value: u32, order: Ordering) -> u32;
    fn fetch_sub(&self, value: u32, order: Ordering) -> u32;
    fn fetch_or(&self, value: u32, order: Ordering) -> u32;
    fn fetch_and(&self, value: u32, order: Ordering) -> u32;
    fn fence(order: Ordering);
}

impl Word for AtomicU32 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u32 {
        AtomicU32::load(self, order)
    }
    #[inline(always)]
    fn store(&self, value: u32, order: Ordering) {
        AtomicU32::store(self, value, order);
    }
    #[inline(always)]
    fn swap(&self, value: u32, order: Ordering) -> u32 {
        AtomicU32::swap(self, value, order)
    }
    #[inline(always)]
    fn try_change(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
        self.compare_exchange_weak(from, to, success, Ordering::Relaxed)
    }
    #[inline(always)]
    fn change(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
        self.compare_exchange(from, to, success, Ordering::Relaxed)
    }
    #[inline(always)]
    fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
        AtomicU32::fetch_add(self, value, order)
    }
    #[inline(always)]
    fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
        AtomicU32::fetch_sub(self, value, order)
    }
    #[inline(always)]
    fn fetch_or(&self, value: u32, order: Ordering) -> u32 {
        AtomicU32::fetch_or(self, value, order)
    }
    #[inline(always)]
    fn fetch_and(&self, value: u32, order: Ordering) -> u32 {
        AtomicU32::fetch_and(self, value, order)
    }
    #[inline(always)]
    fn fence(order: Ordering) {
        core::sync::atomic::fence(order);
    }
}
