//! Sets of small integers that grow: what a fixed-width mask cannot hold.
//!
//! CPU masks of the machine layer are one word. This is for sets that a user program sizes: affinity
//! arguments of any length, `select`'s descriptor sets, the close-on-exec flags of a descriptor table.
//! The first 64 members need no allocation.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// There was no memory to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

const WORD: usize = 64;

/// A set of `usize`s.
#[derive(Debug, Default, Clone)]
pub struct BitSet {
    first: u64,
    /// Words from the second on.
    rest: Vec<u64>,
}

impl BitSet {
    /// The empty set.
    pub const fn new() -> BitSet {
        BitSet { first: 0, rest: Vec::new() }
    }

    fn word(&self, index: usize) -> u64 {
        match index {
            0 => self.first,
            _ => self.rest.get(index - 1).copied().unwrap_or(0),
        }
    }

    /// Number of words with possible members.
    fn words(&self) -> usize {
        1 + self.rest.len()
    }

    /// Whether `bit` is a member.
    #[inline]
    pub fn contains(&self, bit: usize) -> bool {
        self.word(bit / WORD) >> (bit % WORD) & 1 != 0
    }

    /// Makes `bit` a member; says whether it was not one.
    pub fn insert(&mut self, bit: usize) -> Result<bool, OutOfMemory> {
        let (index, mask) = (bit / WORD, 1 << (bit % WORD));
        if index > self.rest.len() {
            self.rest.try_reserve(index - self.rest.len()).map_err(|_| OutOfMemory)?;
            self.rest.resize(index, 0);
        }
        let word = if index == 0 { &mut self.first } else { &mut self.rest[index - 1] };
        let new = *word & mask == 0;
        *word |= mask;
        Ok(new)
    }

    /// Makes `bit` not a member; says whether it was one.
    pub fn remove(&mut self, bit: usize) -> bool {
        let (index, mask) = (bit / WORD, 1u64 << (bit % WORD));
        let word = if index == 0 { Some(&mut self.first) } else { self.rest.get_mut(index - 1) };
        let Some(word) = word else { return false };
        let was = *word & mask != 0;
        *word &= !mask;
        was
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        (0..self.words()).map(|i| self.word(i).count_ones() as usize).sum()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        (0..self.words()).all(|i| self.word(i) == 0)
    }

    /// The smallest member at or above `from`.
    pub fn next(&self, from: usize) -> Option<usize> {
        let mut index = from / WORD;
        let mut bits = self.word(index) & (u64::MAX << (from % WORD));
        while bits == 0 {
            index += 1;
            if index >= self.words() {
                return None;
            }
            bits = self.word(index);
        }
        Some(index * WORD + bits.trailing_zeros() as usize)
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let mut from = Some(0);
        core::iter::from_fn(move || {
            let bit = self.next(from?)?;
            from = bit.checked_add(1);
            Some(bit)
        })
    }

    /// Removes all members; keeps the memory.
    pub fn clear(&mut self) {
        self.first = 0;
        self.rest.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((any::<bool>(), prop_oneof![0usize..64, 0usize..1000]), 0..300)) {
            let (mut set, mut model) = (BitSet::new(), BTreeSet::new());
            for (insert, bit) in ops {
                if insert {
                    prop_assert_eq!(set.insert(bit), Ok(model.insert(bit)));
                } else {
                    prop_assert_eq!(set.remove(bit), model.remove(&bit));
                }
                prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            for probe in 0..1100 {
                prop_assert_eq!(set.contains(probe), model.contains(&probe));
            }
            set.clear();
            prop_assert!(set.is_empty());
        }
    }
}
