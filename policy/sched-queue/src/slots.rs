//! The table that says which tasks are in the queue.

use alloc::vec::Vec;
use sched_api::{Class, NoMemory, Params, Slot};

/// What a task in the queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Ready to run.
    Waiting,
    /// On the CPU.
    Running,
    /// Asleep, but kept by its policy ([`sched_api::Dequeued::Delayed`]).
    Delayed,
}

/// One task in the queue.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub task: T,
    pub params: Params,
    pub state: State,
    /// Reading of the fair clock (see `watchdog`) when it last began to wait.
    pub waiting_since: u64,
}

impl<T> Entry<T> {
    pub fn is_runnable(&self) -> bool {
        self.state != State::Delayed
    }
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Option<Entry<T>>>,
    free: Vec<Slot>,
}

impl<T> Slots<T> {
    pub fn new() -> Slots<T> {
        Slots { entries: Vec::new(), free: Vec::new() }
    }

    /// Makes room for `slots` tasks in all.
    pub fn reserve(&mut self, slots: usize) -> Result<(), NoMemory> {
        let old = self.entries.len();
        let missing = slots.saturating_sub(old);
        self.entries.try_reserve_exact(missing).map_err(|_| NoMemory)?;
        // Room in the free list for every slot, so that releasing one never allocates.
        self.free.try_reserve(slots.saturating_sub(self.free.len())).map_err(|_| NoMemory)?;
        self.entries.extend((0..missing).map(|_| None));
        // Lowest first out: tables indexed by slots stay warm at their beginning.
        self.free.extend((old..slots.max(old)).rev().map(|slot| Slot(slot as u32)));
        Ok(())
    }

    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Number of tasks in the table, delayed sleepers included.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn insert(&mut self, entry: Entry<T>) -> Option<Slot> {
        let slot = self.free.pop()?;
        self.entries[slot.index()] = Some(entry);
        Some(slot)
    }

    pub fn remove(&mut self, slot: Slot) -> Option<Entry<T>> {
        let entry = self.entries.get_mut(slot.index())?.take()?;
        self.free.push(slot);
        Some(entry)
    }

    pub fn get(&self, slot: Slot) -> Option<&Entry<T>> {
        self.entries.get(slot.index())?.as_ref()
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry<T>> {
        self.entries.get_mut(slot.index())?.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Entry<T>)> {
        self.iter_from(0)
    }

    /// The tasks in the slots from `first` on.
    fn iter_from(&self, first: usize) -> impl Iterator<Item = (Slot, &Entry<T>)> {
        let numbered = self.entries.iter().enumerate().skip(first);
        numbered.filter_map(|(slot, entry)| Some((Slot(slot as u32), entry.as_ref()?)))
    }

    pub fn fair(&self) -> impl Iterator<Item = (Slot, &Entry<T>)> {
        self.fair_from(0)
    }

    pub fn fair_from(&self, first: usize) -> impl Iterator<Item = (Slot, &Entry<T>)> {
        self.iter_from(first).filter(|(_, entry)| entry.params.class() == Class::Fair)
    }
}
