//! Path names as bytes: splitting, hashing, and names that need no allocation.
//!
//! **Problem.** Every system call that takes a path splits it and looks up each component. That loop is
//! hot, so it looks at each byte once and allocates nothing.
//!
//! **Interface.** [`Cursor`] yields one component after another, through symbolic links that are pushed
//! in front of what is left. [`Name`] owns a component: up to 22 bytes inline, longer ones shared.
//!
//! **Idea.** Finding the next `/` and hashing the component is one loop ([`component`]), over words of eight
//! bytes: byte by byte it was a tenth of a stat(2).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod cursor;
mod name;
#[cfg(test)]
mod tests;

pub use cursor::{Component, Cursor};
pub use name::Name;

/// The multiplier of the hash: 2^64 / golden ratio, odd.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

const WORD: usize = 8;
const ONES: u64 = u64::from_ne_bytes([1; WORD]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; WORD]);

/// The lowest byte of `word` that is zero, as the lowest bit set of the result, which is that byte's highest;
/// no bit when none is (Mycroft's test: bits above the lowest may be wrong).
#[inline]
fn zero_byte(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// How many bytes lie below the lowest bit of a result of [`zero_byte`]. By multiplication: RISC-V without Zbb
/// has no instruction that counts zeroes.
#[inline]
fn bytes_below(zero: u64) -> usize {
    let below = zero & zero.wrapping_neg();
    (((below >> 7).wrapping_sub(1) & ONES).wrapping_mul(ONES) >> 56) as usize
}

#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    // A product spreads upwards only: without this the last bytes of the words would reach few bits.
    hash ^ hash >> 29
}

/// Length and hash of the component at the start of `bytes`, which ends at a `/` or at the end.
#[inline]
pub fn component(seed: u64, bytes: &[u8]) -> (usize, u64) {
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; WORD]);
    let mut hash = seed;
    let mut len = 0;
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<WORD>() {
        let word = u64::from_le_bytes(*word);
        let slash = zero_byte(word ^ SLASHES);
        if slash != 0 {
            let part = word & ((slash & slash.wrapping_neg()) >> 7).wrapping_sub(1);
            let hash = if part == 0 { hash } else { mix(hash, part) };
            return (len + bytes_below(slash), hash);
        }
        hash = mix(hash, word);
        len += WORD;
        rest = after;
    }
    // Fewer than eight bytes are left.
    let (mut part, mut shift) = (0, 0);
    for &byte in rest.iter().take_while(|byte| **byte != b'/') {
        part |= u64::from(byte) << shift;
        shift += 8;
    }
    let hash = if part == 0 { hash } else { mix(hash, part) };
    (len + shift / 8, hash)
}

/// Where the first zero byte of words in memory is, if one is.
#[inline]
pub fn find_nul(words: &[u64]) -> Option<usize> {
    let at = words.iter().position(|word| zero_byte(u64::from_le(*word)) != 0)?;
    Some(at * WORD + bytes_below(zero_byte(u64::from_le(words[at]))))
}

/// The hash of a whole name (which contains no `/`): what [`component`] gives for it.
#[inline]
pub fn hash(seed: u64, name: &[u8]) -> u64 {
    component(seed, name).1
}

/// Whether the name is `.` or `..`.
pub fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
