//! The table behind file descriptors, without files: numbers to values.
//!
//! **Problem.** POSIX wants the lowest free number at every open; every read and write looks a number
//! up; fork copies the table; a program may have a million descriptors or three.
//!
//! **Interface.** [`FdMap<T>`]: `reserve` a number and `fill` it (open does the slow work in between), or
//! `insert` both at once; `get`, `remove`, `replace` (dup2), close-on-exec bits, copying.
//!
//! **Idea.** A vector of slots and a bitmap of numbers in use, with a hint below which no number is free.
//! Tables stay short in practice, so one level of bitmap is enough: 64 numbers per look.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

const WORD: usize = 64;

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All numbers below the limit are in use.
    Limit,
    /// The table could not grow.
    Memory,
}

/// Numbers to values, lowest number first.
#[derive(Debug)]
pub struct FdMap<T> {
    slots: Vec<Option<T>>,
    used: Vec<u64>,
    close_on_exec: Vec<u64>,
    /// No number below is free.
    hint: usize,
}

impl<T> Default for FdMap<T> {
    fn default() -> Self {
        FdMap::new()
    }
}

fn split(fd: usize) -> (usize, u64) {
    (fd / WORD, 1 << (fd % WORD))
}

impl<T> FdMap<T> {
    /// An empty table; allocates nothing.
    pub const fn new() -> FdMap<T> {
        FdMap { slots: Vec::new(), used: Vec::new(), close_on_exec: Vec::new(), hint: 0 }
    }

    /// The value of a number.
    #[inline]
    pub fn get(&self, fd: usize) -> Option<&T> {
        self.slots.get(fd)?.as_ref()
    }

    /// Takes the lowest free number in `from..limit`, without a value yet.
    pub fn reserve(&mut self, from: usize, limit: usize, close_on_exec: bool) -> Result<usize, Full> {
        let start = from.max(self.hint);
        let fd = self.lowest_free(start);
        if fd >= limit {
            return Err(Full::Limit);
        }
        self.grow(fd)?;
        self.mark(fd, close_on_exec);
        if from <= self.hint {
            self.hint = fd + 1;
        }
        Ok(fd)
    }

    /// Gives a reserved number its value.
    pub fn fill(&mut self, fd: usize, value: T) {
        if let Some(slot) = self.slots.get_mut(fd) {
            *slot = Some(value);
        }
    }

    /// [`FdMap::reserve`] and [`FdMap::fill`]; gives the value back with the reason when it is full.
    pub fn insert(
        &mut self,
        from: usize,
        limit: usize,
        close_on_exec: bool,
        value: T,
    ) -> Result<usize, (Full, T)> {
        match self.reserve(from, limit, close_on_exec) {
            Ok(fd) => {
                self.fill(fd, value);
                Ok(fd)
            }
            Err(full) => Err((full, value)),
        }
    }

    /// Puts a value under a given number; the old value, if there was one, is returned. A number that
    /// is only reserved is [`Replaced::Busy`], as dup2 on Linux.
    pub fn replace(&mut self, fd: usize, close_on_exec: bool, value: T) -> Result<Replaced<T>, (Full, T)> {
        let busy = self.is_used(fd) && self.get(fd).is_none();
        if busy {
            return Ok(Replaced::Busy(value));
        }
        if let Err(full) = self.grow(fd) {
            return Err((full, value));
        }
        self.mark(fd, close_on_exec);
        Ok(Replaced::Done(self.slots[fd].replace(value)))
    }

    /// Frees a number; the value it had, if any.
    pub fn remove(&mut self, fd: usize) -> Option<T> {
        let (word, bit) = split(fd);
        let used = self.used.get_mut(word)?;
        *used &= !bit;
        self.hint = self.hint.min(fd);
        self.slots.get_mut(fd)?.take()
    }

    /// Whether the number closes on exec; `None` when it has no value.
    pub fn close_on_exec(&self, fd: usize) -> Option<bool> {
        self.get(fd)?;
        let (word, bit) = split(fd);
        Some(self.close_on_exec[word] & bit != 0)
    }

    /// Sets or clears close-on-exec; false when the number has no value.
    pub fn set_close_on_exec(&mut self, fd: usize, on: bool) -> bool {
        if self.get(fd).is_none() {
            return false;
        }
        let (word, bit) = split(fd);
        self.close_on_exec[word] = self.close_on_exec[word] & !bit | if on { bit } else { 0 };
        true
    }

    /// The first number at or above `from` that has a value.
    pub fn next(&self, from: usize) -> Option<usize> {
        let slots = self.slots.get(from..)?;
        slots.iter().position(Option::is_some).map(|i| from + i)
    }

    /// The first number at or above `from` that has a value and closes on exec.
    pub fn next_close_on_exec(&self, from: usize) -> Option<usize> {
        let mut at = from / WORD;
        let mut mask = u64::MAX << (from % WORD);
        while at < self.used.len() {
            let mut bits = self.used[at] & self.close_on_exec[at] & mask;
            while bits != 0 {
                let fd = at * WORD + bits.trailing_zeros() as usize;
                if self.get(fd).is_some() {
                    return Some(fd);
                }
                bits &= bits - 1;
            }
            mask = u64::MAX;
            at += 1;
        }
        None
    }

    /// Numbers with their values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(fd, slot)| Some((fd, slot.as_ref()?)))
    }

    /// Numbers that can be used without growing (`FDSize` of /proc/PID/status).
    pub fn capacity(&self) -> usize {
        self.used.len() * WORD
    }

    /// Makes sure that a following [`FdMap::copy_from`] of a table as large as this one succeeds.
    pub fn with_capacity(slots: usize) -> Result<FdMap<T>, Full> {
        let mut map = FdMap::new();
        if slots > 0 {
            map.grow(slots - 1)?;
        }
        Ok(map)
    }

    /// How many slots a copy of the table needs.
    pub fn slots_needed(&self) -> usize {
        self.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1)
    }

    fn is_used(&self, fd: usize) -> bool {
        let (word, bit) = split(fd);
        self.used.get(word).is_some_and(|used| used & bit != 0)
    }

    fn mark(&mut self, fd: usize, close_on_exec: bool) {
        let (word, bit) = split(fd);
        self.used[word] |= bit;
        let flags = &mut self.close_on_exec[word];
        *flags = *flags & !bit | if close_on_exec { bit } else { 0 };
    }

    fn lowest_free(&self, from: usize) -> usize {
        let mut at = from / WORD;
        let mut mask = u64::MAX << (from % WORD);
        while let Some(&used) = self.used.get(at) {
            let free = !used & mask;
            if free != 0 {
                return at * WORD + free.trailing_zeros() as usize;
            }
            mask = u64::MAX;
            at += 1;
        }
        (at * WORD).max(from)
    }

    fn grow(&mut self, fd: usize) -> Result<(), Full> {
        if fd >= self.slots.len() {
            let words = fd / WORD + 1;
            // Small tables grow by doubling from 16 slots, as the vector does by itself.
            let target = (fd + 1).max(16);
            self.slots.try_reserve(target - self.slots.len()).map_err(|_| Full::Memory)?;
            if words > self.used.len() {
                let more = words - self.used.len();
                self.used.try_reserve(more).map_err(|_| Full::Memory)?;
                self.close_on_exec.try_reserve(more).map_err(|_| Full::Memory)?;
                self.used.resize(words, 0);
                self.close_on_exec.resize(words, 0);
            }
            self.slots.resize_with(fd + 1, || None);
        }
        Ok(())
    }
}

/// What [`FdMap::replace`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Replaced<T> {
    /// The value is in; the number had this value before.
    Done(Option<T>),
    /// The number is reserved by an open in progress.
    Busy(T),
}

impl<T: Clone> FdMap<T> {
    /// Copies what fits: fork. `self` is empty and was made by [`FdMap::with_capacity`]; numbers at or
    /// above the capacity are left out (the caller sized it under the same lock).
    pub fn copy_from(&mut self, other: &FdMap<T>) {
        let room = self.slots.len();
        for (fd, value) in other.iter().take_while(|(fd, _)| *fd < room) {
            self.slots[fd] = Some(value.clone());
            let (word, bit) = split(fd);
            self.used[word] |= bit;
            self.close_on_exec[word] |= other.close_on_exec[word] & bit;
        }
        self.hint = self.lowest_free(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    enum Op {
        Insert { from: usize, cloexec: bool },
        Replace { fd: usize },
        Remove { fd: usize },
        SetCloexec { fd: usize, on: bool },
        Reserve,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0usize..5, any::<bool>()).prop_map(|(from, cloexec)| Op::Insert { from: from * 33, cloexec }),
            1 => (0usize..300).prop_map(|fd| Op::Replace { fd }),
            3 => (0usize..100).prop_map(|fd| Op::Remove { fd }),
            1 => (0usize..100, any::<bool>()).prop_map(|(fd, on)| Op::SetCloexec { fd, on }),
            1 => Just(Op::Reserve),
        ]
    }

    fn apply(map: &mut FdMap<u32>, model: &mut BTreeMap<usize, (Option<u32>, bool)>, op: Op, value: u32) {
        const LIMIT: usize = 256;
        let lowest =
            |model: &BTreeMap<_, _>, from: usize| (from..).find(|fd| !model.contains_key(fd)).unwrap();
        match op {
            Op::Insert { from, cloexec } => match map.insert(from, LIMIT, cloexec, value) {
                Ok(fd) => {
                    assert_eq!(fd, lowest(model, from));
                    model.insert(fd, (Some(value), cloexec));
                }
                Err((full, _)) => {
                    assert_eq!(full, Full::Limit);
                    assert!(lowest(model, from) >= LIMIT);
                }
            },
            Op::Reserve => {
                if let Ok(fd) = map.reserve(0, LIMIT, false) {
                    assert_eq!(fd, lowest(model, 0));
                    model.insert(fd, (None, false));
                }
            }
            Op::Replace { fd } => match map.replace(fd, false, value).unwrap() {
                Replaced::Done(old) => {
                    assert_eq!(old, model.insert(fd, (Some(value), false)).and_then(|v| v.0))
                }
                Replaced::Busy(_) => assert_eq!(model[&fd].0, None),
            },
            Op::Remove { fd } => assert_eq!(map.remove(fd), model.remove(&fd).and_then(|v| v.0)),
            Op::SetCloexec { fd, on } => {
                let there = model.get_mut(&fd).filter(|v| v.0.is_some());
                assert_eq!(map.set_close_on_exec(fd, on), there.is_some());
                if let Some(entry) = there {
                    entry.1 = on;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec(op(), 0..400)) {
            let (mut map, mut model) = (FdMap::new(), BTreeMap::new());
            for (value, op) in ops.into_iter().enumerate() {
                apply(&mut map, &mut model, op, value as u32);
            }
            let mut copy = FdMap::with_capacity(map.slots_needed()).unwrap();
            copy.copy_from(&map);
            for fd in 0..320 {
                let there = model.get(&fd).and_then(|v| Some((v.0?, v.1)));
                prop_assert_eq!(map.get(fd).copied(), there.map(|v| v.0));
                prop_assert_eq!(map.close_on_exec(fd), there.map(|v| v.1));
                prop_assert_eq!(copy.get(fd), map.get(fd));
                prop_assert_eq!(copy.close_on_exec(fd), map.close_on_exec(fd));
                let next = model.range(fd..).find(|(_, v)| v.0.is_some()).map(|(fd, _)| *fd);
                prop_assert_eq!(map.next(fd), next);
                let next = model.range(fd..).find(|(_, v)| v.0.is_some() && v.1).map(|(fd, _)| *fd);
                prop_assert_eq!(map.next_close_on_exec(fd), next);
            }
            let free = (0..).find(|fd| copy.get(*fd).is_none()).unwrap();
            prop_assert_eq!(copy.reserve(0, 1000, false), Ok(free));
        }
    }
}
