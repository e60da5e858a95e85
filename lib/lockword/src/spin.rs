//! Test-and-test-and-set.
//!
//! Rather than tickets or MCS: under emulation (and in any guest) a virtual CPU may be descheduled while it waits, and
//! a fair queue then stalls everybody behind it.

use crate::Word;
use core::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const LOCKED: u32 = 1;

/// Held by one or by nobody.
#[derive(Debug)]
pub struct SpinWord<W = AtomicU32>(W);

impl SpinWord {
    pub const fn new() -> SpinWord {
        SpinWord(AtomicU32::new(FREE))
    }
}

impl Default for SpinWord {
    fn default() -> Self {
        SpinWord::new()
    }
}

impl<W: Word> SpinWord<W> {
    /// From a word that is 0.
    pub const fn from_word(word: W) -> SpinWord<W> {
        SpinWord(word)
    }

    /// Takes the lock, calling `relax` while another holds it.
    #[inline]
    pub fn lock(&self, mut relax: impl FnMut()) {
        while self.0.try_change(FREE, LOCKED, Ordering::Acquire).is_err() {
            while self.is_locked() {
                relax();
            }
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.0.change(FREE, LOCKED, Ordering::Acquire).is_ok()
    }

    /// The holder gives the lock back.
    #[inline]
    pub fn unlock(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    #[inline]
    pub fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != FREE
    }
}
