//! Timers: the wheel for timeouts, the ordered queue for precise ones.
//!
//! The problem is of two kinds. *Timeouts* (a network retransmission, a poll limit) are many, mostly
//! cancelled before they expire, and may be late: [`TimerWheel`] adds and cancels in constant time and
//! pays with precision that falls with distance. *Precise timers* (nanosleep, the scheduler's slice
//! end) mostly do expire: [`TimerQueue`] keeps them ordered, logarithmic in their number.
//!
//! Both hand out [`TimerId`]s that go stale by themselves: cancelling a timer that has expired is
//! `None`, also when its storage is used again. Time is a parameter, in whatever unit the caller counts.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod queue;
mod wheel;

pub use queue::TimerQueue;
pub use wheel::{LEVELS, TimerWheel, granularity_at};

/// There was no memory for one more timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Names one armed timer of one wheel or queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId {
    slot: u32,
    generation: u32,
}

impl TimerId {
    /// As one word, to be kept where this type is not known.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// Back from [`TimerId::to_bits`].
    pub const fn from_bits(bits: u64) -> TimerId {
        TimerId { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests;
