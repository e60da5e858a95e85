//! Write errors that each opener learns once (Linux's errseq_t).
//!
//! **Problem.** Write-back fails long after write(2) returned. Each open file that could have written the
//! data must hear of it from its next fsync(2), exactly once, and a new opener must hear of an error that
//! nobody has heard of yet.
//!
//! **Idea.** One word: the last errno, a mark "somebody has seen it", and a counter that grows when an
//! error is recorded after the last one was seen. A file keeps the word of the time when it looked last;
//! a different word now is news.
//!
//! ```text
//!   bit 31 ... 13   12    11 ... 0
//!   counter         seen  errno
//! ```

use abi::Errno;
use abi::errno::Result;
use core::sync::atomic::{AtomicU32, Ordering};

const ERRNO: u32 = 0xfff;
const SEEN: u32 = 1 << 12;
const STEP: u32 = 1 << 13;

/// Where errors are recorded: one for each mapping, one for each file system instance.
#[derive(Debug, Default)]
pub struct ErrSeq(AtomicU32);

/// What a file has seen so far.
#[derive(Debug, Default)]
pub struct ErrSeen(AtomicU32);

impl ErrSeen {
    pub const fn new() -> ErrSeen {
        ErrSeen(AtomicU32::new(0))
    }
}

impl ErrSeq {
    pub const fn new() -> ErrSeq {
        ErrSeq(AtomicU32::new(0))
    }

    /// Records an error. Any context.
    pub fn set(&self, error: Errno) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
            let counter = old & !(SEEN | ERRNO);
            let counter = if old & SEEN != 0 { counter.wrapping_add(STEP) } else { counter };
            Some(counter | (error.number() as u32 & ERRNO))
        });
    }

    /// What a new opener begins with: an error that nobody has seen yet is still news to it.
    pub fn sample(&self) -> ErrSeen {
        let seen = ErrSeen::new();
        self.sample_into(&seen);
        seen
    }

    /// As [`ErrSeq::sample`], into a place that exists.
    pub fn sample_into(&self, seen: &ErrSeen) {
        let now = self.0.load(Ordering::Acquire);
        seen.0.store(if now & SEEN != 0 { now } else { 0 }, Ordering::Release);
    }

    /// Whether an error was recorded since `seen`, without taking note of it.
    pub fn peek(&self, seen: &ErrSeen) -> Result<()> {
        let now = self.0.load(Ordering::Acquire);
        if now == seen.0.load(Ordering::Acquire) { Ok(()) } else { outcome(now) }
    }

    /// The error recorded since `seen`, which is brought up to date: the next call says `Ok`.
    pub fn check(&self, seen: &ErrSeen) -> Result<()> {
        let mut now = self.0.load(Ordering::Acquire);
        if now == seen.0.load(Ordering::Acquire) {
            return Ok(());
        }
        if now & ERRNO != 0 && now & SEEN == 0 {
            // Losing this race means that another error came or another opener has seen this one.
            let marked = self.0.compare_exchange(now, now | SEEN, Ordering::AcqRel, Ordering::Acquire);
            now = marked.map_or_else(|other| other | SEEN, |_| now | SEEN);
        }
        let old = seen.0.swap(now, Ordering::AcqRel);
        if old == now { Ok(()) } else { outcome(now) }
    }
}

fn outcome(word: u32) -> Result<()> {
    match word & ERRNO {
        0 => Ok(()),
        code => Err(Errno::from_number(code as i32).unwrap_or(Errno::EIO)),
    }
}
