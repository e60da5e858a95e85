//! The lock that sleeps: 0 free, 1 locked, 2 locked and perhaps waited for (Drepper, "Futexes Are Tricky", mutex 2).
//!
//! The word says whether anybody waits, so that an unlock without waiters wakes nobody.

use crate::Word;
use core::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const LOCKED: u32 = 1;
const CONTENDED: u32 = 2;

/// See the module's head.
#[derive(Debug)]
pub struct MutexWord<W = AtomicU32>(W);

impl MutexWord {
    pub const fn new() -> MutexWord {
        MutexWord(AtomicU32::new(FREE))
    }
}

impl Default for MutexWord {
    fn default() -> Self {
        MutexWord::new()
    }
}

impl<W: Word> MutexWord<W> {
    /// From a word that is 0.
    pub const fn from_word(word: W) -> MutexWord<W> {
        MutexWord(word)
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.0.change(FREE, LOCKED, Ordering::Acquire).is_ok()
    }

    /// One try of a waiter: marks the word, so that the holder's unlock wakes one of those who wait.
    #[inline]
    pub fn try_lock_waiting(&self) -> bool {
        self.0.swap(CONTENDED, Ordering::Acquire) == FREE
    }

    /// The holder gives the lock back. True: one waiter is to be woken.
    #[inline]
    #[must_use]
    pub fn unlock(&self) -> bool {
        self.0.swap(FREE, Ordering::Release) == CONTENDED
    }
}
