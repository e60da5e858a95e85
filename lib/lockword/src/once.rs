//! Set once, then read for ever.

use crate::Word;
use core::sync::atomic::{AtomicU32, Ordering};

const EMPTY: u32 = 0;
const BUSY: u32 = 1;
const READY: u32 = 2;

/// Nobody has set the value, somebody is about to, or it is there.
#[derive(Debug)]
pub struct OnceWord<W = AtomicU32>(W);

impl OnceWord {
    pub const fn new() -> OnceWord {
        OnceWord(AtomicU32::new(EMPTY))
    }
}

impl Default for OnceWord {
    fn default() -> Self {
        OnceWord::new()
    }
}

impl<W: Word> OnceWord<W> {
    /// From a word that is 0.
    pub const fn from_word(word: W) -> OnceWord<W> {
        OnceWord(word)
    }

    /// True for the one who is to set the value and [`publish`](Self::publish) it. For others the value is there when
    /// this returns: they call `relax` while it is being set.
    #[inline]
    pub fn claim(&self, mut relax: impl FnMut()) -> bool {
        if self.0.change(EMPTY, BUSY, Ordering::Acquire).is_ok() {
            return true;
        }
        while !self.is_ready() {
            relax();
        }
        false
    }

    /// The value is written.
    #[inline]
    pub fn publish(&self) {
        self.0.store(READY, Ordering::Release);
    }

    /// Whether the value may be read.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == READY
    }
}
