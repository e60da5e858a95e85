//! What a policy remembers of pages that have gone: their keys, in `N` lists, found by key.
//!
//! A hash table with open addressing over nodes that are linked like pages. The room is fixed between
//! two calls of [`Ghosts::reserve`]; a list that is full gives up its oldest key.

use crate::{Key, Lists, OutOfMemory, Page};
use alloc::vec::Vec;

const EMPTY: u32 = u32::MAX;

/// Keys in `N` lists, each with a number that the policy chose (a time, a tier).
#[derive(Debug, Default)]
pub struct Ghosts<const N: usize> {
    lists: Lists<N>,
    stamps: Vec<u64>,
    /// Node numbers; a power of two of places, at least twice as many as nodes.
    table: Vec<u32>,
    free: Vec<u32>,
}

impl<const N: usize> Ghosts<N> {
    pub const fn new() -> Ghosts<N> {
        Ghosts { lists: Lists::new(), stamps: Vec::new(), table: Vec::new(), free: Vec::new() }
    }

    /// Makes room for `keys` keys; never gives room back.
    pub fn reserve(&mut self, keys: usize) -> Result<(), OutOfMemory> {
        let old = self.lists.room();
        if keys <= old {
            return Ok(());
        }
        let places = keys.checked_mul(2).and_then(usize::checked_next_power_of_two).ok_or(OutOfMemory)?;
        let mut table = Vec::new();
        if places > self.table.len() {
            table.try_reserve_exact(places).map_err(|_| OutOfMemory)?;
        }
        self.stamps.try_reserve_exact(keys - old).map_err(|_| OutOfMemory)?;
        self.free.try_reserve_exact(keys - self.free.len()).map_err(|_| OutOfMemory)?;
        self.lists.reserve(keys)?;
        self.stamps.resize(keys, 0);
        self.free.extend((old..keys).rev().map(|node| node as u32));
        if places > self.table.len() {
            table.resize(places, EMPTY);
            self.table = table;
            self.rehash(old);
        }
        Ok(())
    }

    fn rehash(&mut self, nodes: usize) {
        for node in 0..nodes as u32 {
            if self.lists.list_of(Page(node)).is_some() {
                let place = self.vacant(self.lists.key(Page(node)));
                self.table[place] = node;
            }
        }
    }

    /// Keys that there is room for.
    pub fn room(&self) -> usize {
        self.lists.room()
    }

    pub fn len(&self, list: usize) -> usize {
        self.lists.len(list)
    }

    /// Keys in all lists.
    pub fn total(&self) -> usize {
        self.lists.total()
    }

    /// The list that a key is in, and its number.
    #[inline]
    pub fn find(&self, key: Key) -> Option<(usize, u64)> {
        let node = self.table[self.place_of(key)?];
        Some((self.lists.list_of(Page(node))?, self.stamps[node as usize]))
    }

    /// Remembers a key as the newest of a list. Where no room is left, the oldest of that list goes, or of
    /// another.
    pub fn push(&mut self, list: usize, key: Key, stamp: u64) {
        self.remove(key);
        if self.free.is_empty() && self.pop_oldest(list).is_none() {
            let other = (0..N).find(|other| self.lists.len(*other) > 0);
            other.and_then(|other| self.pop_oldest(other));
        }
        let Some(node) = self.free.pop() else { return };
        let place = self.vacant(key);
        self.table[place] = node;
        self.stamps[node as usize] = stamp;
        self.lists.insert_front(list, Page(node), key);
    }

    /// Forgets a key; the list that it was in.
    pub fn remove(&mut self, key: Key) -> Option<usize> {
        let place = self.place_of(key)?;
        let node = self.table[place];
        self.close_gap(place);
        self.free.push(node);
        self.lists.remove(Page(node))
    }

    /// Forgets the oldest key of a list.
    pub fn pop_oldest(&mut self, list: usize) -> Option<Key> {
        let key = self.lists.key(self.lists.back(list)?);
        self.remove(key);
        Some(key)
    }

    fn home(&self, key: Key) -> usize {
        // Fibonacci hashing: the high bits of the product are well mixed.
        let bits = self.table.len().trailing_zeros();
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as usize
    }

    fn place_of(&self, key: Key) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let mut place = self.home(key);
        loop {
            match self.table[place] {
                EMPTY => return None,
                node if self.lists.key(Page(node)) == key => return Some(place),
                _ => place = (place + 1) & (self.table.len() - 1),
            }
        }
    }

    fn vacant(&self, key: Key) -> usize {
        let mut place = self.home(key);
        while self.table[place] != EMPTY {
            place = (place + 1) & (self.table.len() - 1);
        }
        place
    }

    /// Empties a place and moves what was pushed past it back, so that searches need no tombstones.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.table.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let node = self.table[at];
            if node == EMPTY {
                break;
            }
            let home = self.home(self.lists.key(Page(node)));
            // It may move if its home does not lie between the gap and its place.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.table[gap] = node;
                gap = at;
            }
        }
        self.table[gap] = EMPTY;
    }
}
