//! Small integers to name things: the lowest free one, or the next one in turn.
//!
//! The problem: a file descriptor must be the lowest free number (POSIX, `open(2)`), a process id the
//! next one after the last, wrapping around; with tens of thousands in use neither may search linearly.
//!
//! The interface: [`IdAllocator`], which grows as needed up to a limit the caller names per call
//! (`RLIMIT_NOFILE`, `pid_max`).
//!
//! The idea: a bitmap of ids in use under bitmaps of *full words*, each level 64 times shorter. The lowest
//! free id at or above a number is found with one trailing-zeros count a level, as in Linux's `fd` tables
//! (two levels there).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// Why there is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocError {
    /// All ids of the allowed range are in use.
    Exhausted,
    /// The bitmap could not grow.
    OutOfMemory,
}

const WORD: usize = 64;
/// 64^5 is more than all `u32`s.
const LEVELS: usize = 5;

/// A set of ids in use.
#[derive(Debug, Default)]
pub struct IdAllocator {
    /// `levels[0]` has a bit for each id in use; bit `w` of `levels[n + 1]` says that word `w` of
    /// `levels[n]` is full. Missing words are empty ones.
    levels: [Vec<u64>; LEVELS],
    used: usize,
    /// Where the next allocation in turn begins.
    cursor: u32,
}

impl IdAllocator {
    /// No id in use. Allocates nothing.
    pub const fn new() -> IdAllocator {
        IdAllocator { levels: [const { Vec::new() }; LEVELS], used: 0, cursor: 0 }
    }

    /// Number of ids in use.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether no id is in use.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether `id` is in use.
    pub fn contains(&self, id: u32) -> bool {
        self.bit(0, id as usize)
    }

    /// Takes the lowest free id in `from..limit`.
    pub fn alloc_from(&mut self, from: u32, limit: u32) -> Result<u32, AllocError> {
        let id = self.lowest_free(from as usize);
        if id >= limit as usize {
            return Err(AllocError::Exhausted);
        }
        self.set(id)?;
        Ok(id as u32)
    }

    /// Takes the next free id in turn in `first..limit`: from the one after the last that this call
    /// returned, then again from `first`.
    pub fn alloc_cyclic(&mut self, first: u32, limit: u32) -> Result<u32, AllocError> {
        let start = if self.cursor < limit { self.cursor.max(first) } else { first };
        let id = match self.alloc_from(start, limit) {
            Err(AllocError::Exhausted) => self.alloc_from(first, start)?,
            other => other?,
        };
        self.cursor = id + 1;
        Ok(id)
    }

    /// Takes a particular id; false if it is in use.
    pub fn take(&mut self, id: u32) -> Result<bool, AllocError> {
        if self.contains(id) {
            return Ok(false);
        }
        self.set(id as usize)?;
        Ok(true)
    }

    /// Gives an id back; false if it was not in use.
    pub fn free(&mut self, id: u32) -> bool {
        if !self.contains(id) {
            return false;
        }
        let mut at = id as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / WORD) else { break };
            *word &= !(1 << (at % WORD));
            at /= WORD;
        }
        self.used -= 1;
        true
    }

    /// The first id in use at or above `from`.
    pub fn next_used(&self, from: u32) -> Option<u32> {
        let words = &self.levels[0];
        let mut at = from as usize / WORD;
        let mut bits = words.get(at)? & (u64::MAX << (from as usize % WORD));
        while bits == 0 {
            at += 1;
            bits = *words.get(at)?;
        }
        Some((at * WORD) as u32 + bits.trailing_zeros())
    }

    /// The ids in use, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = Some(0);
        core::iter::from_fn(move || {
            let id = self.next_used(from?)?;
            from = id.checked_add(1);
            Some(id)
        })
    }

    /// A copy (fork copies a descriptor table).
    pub fn try_clone(&self) -> Result<IdAllocator, AllocError> {
        let mut copy = IdAllocator { used: self.used, cursor: self.cursor, ..IdAllocator::new() };
        for (to, from) in copy.levels.iter_mut().zip(&self.levels) {
            to.try_reserve_exact(from.len()).map_err(|_| AllocError::OutOfMemory)?;
            to.extend_from_slice(from);
        }
        Ok(copy)
    }

    /// Makes room for the ids below `limit`, so that taking one of them allocates nothing.
    pub fn try_reserve(&mut self, limit: u32) -> Result<(), AllocError> {
        let mut words = (limit as usize).div_ceil(WORD);
        for level in &mut self.levels {
            level.try_reserve(words.saturating_sub(level.len())).map_err(|_| AllocError::OutOfMemory)?;
            level.resize(words.max(level.len()), 0);
            words = words.div_ceil(WORD);
        }
        Ok(())
    }

    fn bit(&self, level: usize, at: usize) -> bool {
        self.levels[level].get(at / WORD).is_some_and(|word| word >> (at % WORD) & 1 != 0)
    }

    /// The first clear bit of level 0 at or above `from`: up while words are full, then down again.
    fn lowest_free(&self, from: usize) -> usize {
        let mut at = from;
        let mut level = 0;
        while level < LEVELS {
            let Some(&word) = self.levels[level].get(at / WORD) else { break };
            let clear = !word & (u64::MAX << (at % WORD));
            if clear != 0 {
                at = at / WORD * WORD + clear.trailing_zeros() as usize;
                break;
            }
            at = at / WORD + 1;
            level += 1;
        }
        // `at` names a word, with a free bit, of the level below; all of its bits count.
        while level > 0 {
            level -= 1;
            let word = self.levels[level].get(at).copied().unwrap_or(0);
            at = at * WORD + (!word).trailing_zeros() as usize;
        }
        at
    }

    fn set(&mut self, id: usize) -> Result<(), AllocError> {
        let mut at = id;
        for level in &mut self.levels {
            let words = at / WORD + 1;
            if level.len() < words {
                level.try_reserve(words - level.len()).map_err(|_| AllocError::OutOfMemory)?;
                level.resize(words, 0);
            }
            at /= WORD;
        }
        self.used += 1;
        let mut at = id;
        for level in &mut self.levels {
            let word = &mut level[at / WORD];
            *word |= 1 << (at % WORD);
            if *word != u64::MAX {
                break;
            }
            at /= WORD;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_lowest_free_id_across_levels() {
        let mut ids = IdAllocator::new();
        for expected in 0..70_000 {
            assert_eq!(ids.alloc_from(0, u32::MAX), Ok(expected));
        }
        assert_eq!(ids.alloc_from(0, 70_000), Err(AllocError::Exhausted));
        for id in [69_999, 4_096, 63, 4_095] {
            assert!(ids.free(id) && !ids.free(id));
        }
        assert_eq!(ids.alloc_from(64, u32::MAX), Ok(4_095));
        assert_eq!(ids.alloc_from(0, u32::MAX), Ok(63));
        assert_eq!(ids.alloc_from(0, u32::MAX), Ok(4_096));
    }

    #[test]
    fn in_turn_ids_are_not_used_again_at_once() {
        let mut pids = IdAllocator::new();
        assert_eq!(pids.alloc_cyclic(1, 4), Ok(1));
        assert!(pids.free(1));
        assert_eq!(pids.alloc_cyclic(1, 4), Ok(2));
        assert_eq!(pids.alloc_cyclic(1, 4), Ok(3));
        assert_eq!(pids.alloc_cyclic(1, 4), Ok(1));
        assert_eq!(pids.alloc_cyclic(1, 4), Err(AllocError::Exhausted));
    }

    #[test]
    fn the_largest_ids_work() {
        let mut ids = IdAllocator::new();
        assert_eq!(ids.take(u32::MAX / 1000), Ok(true));
        assert_eq!(ids.alloc_from(u32::MAX / 1000, u32::MAX), Ok(u32::MAX / 1000 + 1));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((0u8..5, prop_oneof![0u32..130, 0u32..9000]), 0..400)) {
            let (mut ids, mut model) = (IdAllocator::new(), BTreeSet::new());
            for (op, id) in ops {
                match op {
                    0 | 1 => {
                        let expected = (id..).find(|id| !model.contains(id)).unwrap();
                        prop_assert_eq!(ids.alloc_from(id, u32::MAX), Ok(expected));
                        model.insert(expected);
                    }
                    2 => prop_assert_eq!(ids.take(id), Ok(model.insert(id))),
                    _ => prop_assert_eq!(ids.free(id), model.remove(&id)),
                }
                prop_assert_eq!(ids.len(), model.len());
            }
            prop_assert!(ids.iter().eq(model.iter().copied()));
            prop_assert!(ids.try_clone().unwrap().iter().eq(model.iter().copied()));
        }
    }
}
