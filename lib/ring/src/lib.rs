//! A bounded first-in, first-out buffer: terminal input, pipes, log records (Linux's `kfifo`).
//!
//! The problem is moving slices in and out of a circular array without a copy too many and without
//! losing one place to tell full from empty. The idea is two counters that only grow; their difference
//! is the length, their remainder by the power-of-two capacity the position.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// There was no memory for the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// A ring of at most `capacity` items.
#[derive(Debug)]
pub struct Ring<T> {
    /// As long as the capacity, a power of two.
    items: Vec<T>,
    read: usize,
    written: usize,
}

impl<T: Copy + Default> Ring<T> {
    /// A ring with room for `capacity` items, rounded up to a power of two.
    pub fn try_with_capacity(capacity: usize) -> Result<Ring<T>, OutOfMemory> {
        let capacity = capacity.checked_next_power_of_two().ok_or(OutOfMemory)?;
        let mut items = Vec::new();
        items.try_reserve_exact(capacity).map_err(|_| OutOfMemory)?;
        items.resize(capacity, T::default());
        Ok(Ring { items, read: 0, written: 0 })
    }

    /// Most items it can hold.
    pub fn capacity(&self) -> usize {
        self.items.len()
    }

    /// Items in it.
    pub fn len(&self) -> usize {
        self.written.wrapping_sub(self.read)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.read == self.written
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// How many more items fit.
    pub fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Appends an item; gives it back when the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.is_full() {
            return Err(item);
        }
        let at = self.position(self.written);
        self.items[at] = item;
        self.written = self.written.wrapping_add(1);
        Ok(())
    }

    /// Appends an item, dropping the oldest one when the ring is full; returns what was dropped.
    pub fn push_over(&mut self, item: T) -> Option<T> {
        let dropped = if self.is_full() { self.pop() } else { None };
        let _ = self.push(item);
        dropped
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.peek(0)?;
        self.read = self.read.wrapping_add(1);
        Some(item)
    }

    /// Takes the newest item back: a terminal's erase character.
    pub fn unpush(&mut self) -> Option<T> {
        let last = self.peek(self.len().checked_sub(1)?)?;
        self.written = self.written.wrapping_sub(1);
        Some(last)
    }

    /// The item `offset` behind the oldest, without taking it.
    pub fn peek(&self, offset: usize) -> Option<T> {
        (offset < self.len()).then(|| self.items[self.position(self.read.wrapping_add(offset))])
    }

    /// Appends as many items of `from` as fit; returns how many.
    pub fn push_slice(&mut self, from: &[T]) -> usize {
        let count = from.len().min(self.room());
        let (head, tail) = from[..count].split_at(count.min(self.capacity() - self.position(self.written)));
        let at = self.position(self.written);
        self.items[at..at + head.len()].copy_from_slice(head);
        self.items[..tail.len()].copy_from_slice(tail);
        self.written = self.written.wrapping_add(count);
        count
    }

    /// Takes items until `to` is full or the ring empty; returns how many.
    pub fn pop_slice(&mut self, to: &mut [T]) -> usize {
        let count = self.peek_slice(to);
        self.skip(count);
        count
    }

    /// Copies the oldest items to `to` without taking them; returns how many.
    pub fn peek_slice(&self, to: &mut [T]) -> usize {
        let (first, second) = self.as_slices();
        let head = first.len().min(to.len());
        to[..head].copy_from_slice(&first[..head]);
        let tail = second.len().min(to.len() - head);
        to[head..head + tail].copy_from_slice(&second[..tail]);
        head + tail
    }

    /// Drops the `count` oldest items, or all if there are fewer.
    pub fn skip(&mut self, count: usize) {
        self.read = self.read.wrapping_add(count.min(self.len()));
    }

    /// What is in it, oldest first, in two pieces of which the second may be empty: for copying to user
    /// memory without a buffer between.
    pub fn as_slices(&self) -> (&[T], &[T]) {
        let start = self.position(self.read);
        let first = self.len().min(self.capacity() - start);
        (&self.items[start..start + first], &self.items[..self.len() - first])
    }

    /// The free room behind the newest item, as one slice that may be shorter than `room`: to be filled
    /// and then [`Ring::commit`]ted.
    pub fn free_slice(&mut self) -> &mut [T] {
        let start = self.position(self.written);
        let count = self.room().min(self.capacity() - start);
        &mut self.items[start..start + count]
    }

    /// Appends the first `count` items of [`Ring::free_slice`].
    pub fn commit(&mut self, count: usize) {
        let start = self.position(self.written);
        let most = self.room().min(self.capacity() - start);
        self.written = self.written.wrapping_add(count.min(most));
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.read = self.written;
    }

    fn position(&self, counter: usize) -> usize {
        counter & (self.capacity() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn full_drops_the_oldest_or_refuses() {
        let mut ring = Ring::try_with_capacity(3).unwrap();
        assert_eq!(ring.push_slice(&[1, 2, 3, 4, 5]), 4);
        assert_eq!(ring.push(9), Err(9));
        assert_eq!(ring.push_over(9), Some(1));
        assert_eq!(ring.unpush(), Some(9));
        let mut all = [0; 8];
        assert_eq!(ring.pop_slice(&mut all), 3);
        assert_eq!(all[..3], [2, 3, 4]);
        assert!(Ring::<u8>::try_with_capacity(usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn behaves_like_a_deque(capacity in 1usize..40, ops in prop::collection::vec((0u8..7, 0usize..50), 0..300)) {
            let mut ring = Ring::try_with_capacity(capacity).unwrap();
            // Near the end of the counters' range, so that they wrap.
            ring.read = usize::MAX - 20;
            ring.written = ring.read;
            let mut model = VecDeque::new();
            let mut next = 0usize;
            for (op, n) in ops {
                let fresh: Vec<usize> = (next..next + n).collect();
                next += n;
                let fits = n.min(ring.room());
                match op {
                    0 | 1 => {
                        prop_assert_eq!(ring.push_slice(&fresh), fits);
                        model.extend(&fresh[..fits]);
                    }
                    2 => {
                        let free = ring.free_slice();
                        let count = free.len().min(n);
                        free[..count].copy_from_slice(&fresh[..count]);
                        ring.commit(count);
                        model.extend(&fresh[..count]);
                    }
                    3 | 4 => {
                        let mut out = vec![0; n];
                        let count = ring.pop_slice(&mut out);
                        prop_assert_eq!(count, n.min(model.len()));
                        prop_assert!(out[..count].iter().copied().eq(model.drain(..count)));
                    }
                    5 => prop_assert_eq!(ring.unpush(), model.pop_back()),
                    _ => prop_assert_eq!(ring.peek(n), model.get(n).copied()),
                }
                prop_assert_eq!(ring.len(), model.len());
                let (a, b) = ring.as_slices();
                prop_assert!(a.iter().chain(b).eq(model.iter()));
            }
        }
    }
}
