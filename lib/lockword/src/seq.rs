//! A sequence number around data that readers copy without a lock: odd while a writer is inside.
//!
//! Writers exclude each other by other means.

use crate::Word;
use core::sync::atomic::{AtomicU32, Ordering};

/// See the module's head.
#[derive(Debug)]
pub struct SeqWord<W = AtomicU32>(W);

impl SeqWord {
    pub const fn new() -> SeqWord {
        SeqWord(AtomicU32::new(0))
    }
}

impl Default for SeqWord {
    fn default() -> Self {
        SeqWord::new()
    }
}

impl<W: Word> SeqWord<W> {
    /// From a word that is 0.
    pub const fn from_word(word: W) -> SeqWord<W> {
        SeqWord(word)
    }

    /// Before the copy: a ticket, unless a writer is inside.
    #[inline]
    pub fn begin_read(&self) -> Option<u32> {
        let sequence = self.0.load(Ordering::Acquire);
        (sequence & 1 == 0).then_some(sequence)
    }

    /// After the copy: whether no writer was inside since the ticket.
    #[inline]
    pub fn end_read(&self, ticket: u32) -> bool {
        W::fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == ticket
    }

    /// Before the first change.
    #[inline]
    pub fn begin_write(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        W::fence(Ordering::Release);
    }

    /// After the last change.
    #[inline]
    pub fn end_write(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}
