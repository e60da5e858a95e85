//! Path names as bytes: splitting, hashing, and names that need no allocation.
//!
//! **Problem.** Every system call that takes a path splits it and looks up each component. That loop is
//! hot, so it looks at each byte once and allocates nothing.
//!
//! **Interface.** [`Cursor`] yields one component after another, through symbolic links that are pushed
//! in front of what is left. [`Name`] owns a component: up to 22 bytes inline, longer ones shared.
//!
//! **Idea.** Finding the next `/` and hashing the component is one loop ([`component`]).

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

/// Length and hash of the component at the start of `bytes`, which ends at a `/` or at the end.
#[inline]
pub fn component(seed: u64, bytes: &[u8]) -> (usize, u64) {
    let mut hash = seed;
    let mut len = 0;
    for &byte in bytes {
        if byte == b'/' {
            break;
        }
        hash = (hash ^ u64::from(byte)).wrapping_mul(MULTIPLIER);
        len += 1;
    }
    (len, hash)
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
