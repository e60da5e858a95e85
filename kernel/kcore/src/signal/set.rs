//! A set of signals: `sigset_t` of the kernel, one word.

use core::ops::{BitAnd, BitOr, Not};

/// Bit `n - 1` is signal `n`, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SigSet(u64);

impl SigSet {
    pub const EMPTY: SigSet = SigSet(0);
    pub const ALL: SigSet = SigSet(u64::MAX);

    pub const fn from_bits(bits: u64) -> SigSet {
        SigSet(bits)
    }

    pub const fn bits(self) -> u64 {
        self.0
    }

    const fn bit(signal: u32) -> u64 {
        1 << ((signal - 1) & 63)
    }

    pub const fn one(signal: u32) -> SigSet {
        SigSet(SigSet::bit(signal))
    }

    pub const fn of(signals: &[u32]) -> SigSet {
        let mut bits = 0;
        let mut i = 0;
        while i < signals.len() {
            bits |= SigSet::bit(signals[i]);
            i += 1;
        }
        SigSet(bits)
    }

    pub const fn contains(self, signal: u32) -> bool {
        self.0 & SigSet::bit(signal) != 0
    }

    #[must_use]
    pub const fn with(self, signal: u32) -> SigSet {
        SigSet(self.0 | SigSet::bit(signal))
    }

    #[must_use]
    pub const fn without(self, signal: u32) -> SigSet {
        SigSet(self.0 & !SigSet::bit(signal))
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest signal of the set.
    pub const fn first(self) -> Option<u32> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() + 1) }
    }
}

impl BitAnd for SigSet {
    type Output = SigSet;
    fn bitand(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }
}

impl BitOr for SigSet {
    type Output = SigSet;
    fn bitor(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }
}

impl Not for SigSet {
    type Output = SigSet;
    fn not(self) -> SigSet {
        SigSet(!self.0)
    }
}
