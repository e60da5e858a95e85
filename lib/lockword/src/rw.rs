//! Many readers or one writer, spinning.
//!
//! ```text
//!   31      30       29 ........ 0
//!   writer  waiting  readers
//! ```
//!
//! A waiting writer stops new readers, so that a stream of readers cannot starve it.

use crate::Word;
use core::sync::atomic::{AtomicU32, Ordering};

const WRITER: u32 = 1 << 31;
const WAITING: u32 = 1 << 30;
const READERS: u32 = WAITING - 1;

/// See the module's head.
#[derive(Debug)]
pub struct RwWord<W = AtomicU32>(W);

impl RwWord {
    pub const fn new() -> RwWord {
        RwWord(AtomicU32::new(0))
    }
}

impl Default for RwWord {
    fn default() -> Self {
        RwWord::new()
    }
}

impl<W: Word> RwWord<W> {
    /// From a word that is 0.
    pub const fn from_word(word: W) -> RwWord<W> {
        RwWord(word)
    }

    /// Becomes a reader, calling `relax` between tries.
    #[inline]
    pub fn read(&self, mut relax: impl FnMut()) {
        loop {
            let state = self.0.load(Ordering::Relaxed);
            let free = state & (WRITER | WAITING) == 0;
            if free && self.0.try_change(state, state + 1, Ordering::Acquire).is_ok() {
                return;
            }
            relax();
        }
    }

    /// A reader leaves.
    #[inline]
    pub fn unread(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Becomes the writer, calling `relax` between tries.
    pub fn write(&self, mut relax: impl FnMut()) {
        loop {
            let state = self.0.load(Ordering::Relaxed);
            if state & (WRITER | READERS) == 0 {
                // Claims the lock and clears WAITING; another waiting writer sets it again.
                if self.0.try_change(state, WRITER, Ordering::Acquire).is_ok() {
                    return;
                }
            } else if state & WAITING == 0 {
                self.0.fetch_or(WAITING, Ordering::Relaxed);
            }
            relax();
        }
    }

    /// The writer leaves.
    #[inline]
    pub fn unwrite(&self) {
        self.0.fetch_and(!WRITER, Ordering::Release);
    }
}
