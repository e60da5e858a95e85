//! A device's dirty mappings in the order in which they became dirty.

use super::Pin;
use crate::mapping::Mapping;
use alloc::sync::Weak;
use alloc::vec::Vec;
use mem::OutOfMemory;

/// One dirty mapping.
pub(super) struct Entry {
    pub mapping: Weak<Mapping>,
    pub pin: Pin,
    pub since_ns: u64,
}

const NONE: u32 = u32::MAX;

struct Slot {
    entry: Option<Entry>,
    next: u32,
    previous: u32,
}

/// Slots of attached mappings; those that are dirty are linked, oldest first.
pub(super) struct List {
    slots: Vec<Slot>,
    free: Vec<u32>,
    head: u32,
    tail: u32,
}

impl List {
    pub const fn new() -> List {
        List { slots: Vec::new(), free: Vec::new(), head: NONE, tail: NONE }
    }

    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// A slot for one more mapping.
    pub fn attach(&mut self) -> Result<u32, OutOfMemory> {
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE).ok_or(OutOfMemory)?;
        self.slots.try_reserve(1).map_err(|_| OutOfMemory)?;
        // Room for giving every slot back.
        self.free.try_reserve(self.slots.len() + 1).map_err(|_| OutOfMemory)?;
        self.slots.push(Slot { entry: None, next: NONE, previous: NONE });
        Ok(slot)
    }

    /// A mapping is gone; what its slot held is for the caller to drop.
    pub fn detach(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.unlink(slot);
        self.free.push(slot);
        entry
    }

    /// Puts a slot at the end; its old entry comes back.
    pub fn push(&mut self, slot: u32, entry: Entry) -> Option<Entry> {
        let old = self.unlink(slot);
        let place = &mut self.slots[slot as usize];
        *place = Slot { entry: Some(entry), next: NONE, previous: self.tail };
        match self.tail {
            NONE => self.head = slot,
            tail => self.slots[tail as usize].next = slot,
        }
        self.tail = slot;
        old
    }

    /// Takes the first entry if it is from `before_ns` or earlier.
    pub fn pop_older(&mut self, before_ns: u64) -> Option<(u32, Entry)> {
        let slot = self.head;
        let first = self.slots.get(slot as usize)?.entry.as_ref()?;
        if first.since_ns > before_ns {
            return None;
        }
        self.unlink(slot).map(|entry| (slot, entry))
    }

    pub fn take_pin(&mut self, slot: u32) -> Pin {
        self.slots.get_mut(slot as usize)?.entry.as_mut()?.pin.take()
    }

    fn unlink(&mut self, slot: u32) -> Option<Entry> {
        let place = self.slots.get_mut(slot as usize)?;
        let entry = place.entry.take()?;
        let (previous, next) = (place.previous, place.next);
        match previous {
            NONE => self.head = next,
            previous => self.slots[previous as usize].next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => self.slots[next as usize].previous = previous,
        }
        Some(entry)
    }
}
