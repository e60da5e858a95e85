//! Many readers or one writer, sleeping (Linux's rw_semaphore).
//!
//! ```text
//!   31      30 ........... 20  19 ..... 0
//!   writer  waiting writers    readers
//! ```
//!
//! A waiting writer keeps new readers out, so that page faults of many threads cannot starve an mmap.

use crate::Word;
use core::sync::atomic::{AtomicU32, Ordering};

const WRITER: u32 = 1 << 31;
const WAITING_WRITER: u32 = 1 << 20;
const WAITING_WRITERS: u32 = WRITER - WAITING_WRITER;
const READERS: u32 = WAITING_WRITER - 1;

/// See the module's head.
#[derive(Debug)]
pub struct SemWord<W = AtomicU32>(W);

impl SemWord {
    pub const fn new() -> SemWord {
        SemWord(AtomicU32::new(0))
    }
}

impl Default for SemWord {
    fn default() -> Self {
        SemWord::new()
    }
}

impl<W: Word> SemWord<W> {
    /// From a word that is 0.
    pub const fn from_word(word: W) -> SemWord<W> {
        SemWord(word)
    }

    /// Becomes a reader unless a writer is inside or waits.
    #[inline]
    pub fn try_read(&self) -> bool {
        let mut state = self.0.load(Ordering::Relaxed);
        while state & (WRITER | WAITING_WRITERS) == 0 {
            match self.0.try_change(state, state + 1, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// A reader leaves. True: everybody who waits is to be woken.
    #[inline]
    #[must_use]
    pub fn unread(&self) -> bool {
        let before = self.0.fetch_sub(1, Ordering::SeqCst);
        before & READERS == 1 && before & WAITING_WRITERS != 0
    }

    /// Becomes the writer if nobody is inside or waits.
    #[inline]
    pub fn try_write(&self) -> bool {
        self.0.change(0, WRITER, Ordering::Acquire).is_ok()
    }

    /// A writer that found the lock taken is counted until [`SemWord::try_write_waiting`] succeeds.
    #[inline]
    pub fn begin_waiting(&self) {
        self.0.fetch_add(WAITING_WRITER, Ordering::Relaxed);
    }

    /// One try of a writer that is counted as waiting; success takes it out of the count.
    #[inline]
    pub fn try_write_waiting(&self) -> bool {
        let mut state = self.0.load(Ordering::Relaxed);
        while state & (WRITER | READERS) == 0 {
            let new = (state - WAITING_WRITER) | WRITER;
            match self.0.try_change(state, new, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// The writer leaves. Whoever waits is to be woken.
    #[inline]
    pub fn unwrite(&self) {
        self.0.fetch_and(!WRITER, Ordering::SeqCst);
    }
}
