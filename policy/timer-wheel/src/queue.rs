//! The ordered queue: a four-ary heap with handles.
//!
//! A heap beats a tree here: its arrays stay where they are, arming allocates nothing once they have
//! grown, and the first timer is a plain read. Four children a node make it half as deep as a binary
//! heap for the same cache lines. Equal expiries come out in the order they went in, by a sequence number.

use crate::{OutOfMemory, TimerId};
use alloc::vec::Vec;

const ARITY: usize = 4;
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    expires: u64,
    sequence: u64,
    slot: u32,
}

impl Entry {
    fn before(&self, other: &Entry) -> bool {
        (self.expires, self.sequence) < (other.expires, other.sequence)
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// Index in the heap while armed, next free slot otherwise.
    position: u32,
    value: Option<T>,
}

/// Timers that carry a `T` each, ordered by expiry.
#[derive(Debug)]
pub struct TimerQueue<T> {
    heap: Vec<Entry>,
    slots: Vec<Slot<T>>,
    free: u32,
    sequence: u64,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> TimerQueue<T> {
        TimerQueue::new()
    }
}

impl<T> TimerQueue<T> {
    /// An empty queue.
    pub const fn new() -> TimerQueue<T> {
        TimerQueue { heap: Vec::new(), slots: Vec::new(), free: NONE, sequence: 0 }
    }

    /// Arms a timer. O(log n).
    pub fn add(&mut self, expires: u64, value: T) -> Result<TimerId, OutOfMemory> {
        self.heap.try_reserve(1).map_err(|_| OutOfMemory)?;
        let slot = self.new_slot()?;
        let entry = Entry { expires, sequence: self.sequence, slot };
        self.sequence += 1;
        self.heap.push(entry);
        self.slots[slot as usize].value = Some(value);
        self.sift_up(self.heap.len() - 1);
        Ok(TimerId { slot, generation: self.slots[slot as usize].generation })
    }

    /// Disarms a timer and returns its value; `None` if it has fired or was cancelled. O(log n).
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let slot = self.slots.get(id.slot as usize)?;
        if slot.generation != id.generation || slot.value.is_none() {
            return None;
        }
        self.remove_at(slot.position as usize)
    }

    /// The expiry of the first timer. O(1).
    pub fn next_expiry(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.expires)
    }

    /// When an armed timer expires; `None` if it has fired or was cancelled.
    pub fn expiry(&self, id: TimerId) -> Option<u64> {
        let slot = self.slots.get(id.slot as usize)?;
        let armed = slot.generation == id.generation && slot.value.is_some();
        armed.then(|| self.heap[slot.position as usize].expires)
    }

    /// Takes the first timer out if it expires at or before `now`. O(log n).
    pub fn pop_expired(&mut self, now: u64) -> Option<T> {
        let due = self.next_expiry()? <= now;
        due.then(|| self.remove_at(0)).flatten()
    }

    /// The armed timers, in no order: when each expires, its name, what it carries.
    pub fn iter(&self) -> impl Iterator<Item = (u64, TimerId, &T)> {
        self.heap.iter().filter_map(|entry| {
            let slot = self.slots.get(entry.slot as usize)?;
            let id = TimerId { slot: entry.slot, generation: slot.generation };
            Some((entry.expires, id, slot.value.as_ref()?))
        })
    }

    /// Number of armed timers.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn remove_at(&mut self, at: usize) -> Option<T> {
        let entry = self.heap.swap_remove(at);
        if at < self.heap.len() {
            self.sift_down(at);
            self.sift_up(at);
        }
        let slot = &mut self.slots[entry.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.position = self.free;
        self.free = entry.slot;
        slot.value.take()
    }

    fn sift_up(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if !entry.before(&self.heap[parent]) {
                break;
            }
            self.place(at, self.heap[parent]);
            at = parent;
        }
        self.place(at, entry);
    }

    fn sift_down(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while let Some(child) = self.first_child(at) {
            if !self.heap[child].before(&entry) {
                break;
            }
            self.place(at, self.heap[child]);
            at = child;
        }
        self.place(at, entry);
    }

    /// The child of `at` that expires first.
    fn first_child(&self, at: usize) -> Option<usize> {
        let first = ARITY * at + 1;
        let children = first..(first + ARITY).min(self.heap.len());
        children.reduce(|a, b| if self.heap[b].before(&self.heap[a]) { b } else { a })
    }

    fn place(&mut self, at: usize, entry: Entry) {
        self.heap[at] = entry;
        self.slots[entry.slot as usize].position = at as u32;
    }

    fn new_slot(&mut self) -> Result<u32, OutOfMemory> {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.slots[slot as usize].position;
            return Ok(slot);
        }
        let slot = u32::try_from(self.slots.len()).map_err(|_| OutOfMemory)?;
        self.slots.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.slots.push(Slot { generation: 0, position: NONE, value: None });
        Ok(slot)
    }
}
