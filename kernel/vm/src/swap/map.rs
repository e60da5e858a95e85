//! The slots of one swap area: how many page-table entries name each.

use alloc::vec::Vec;
use mem::OutOfMemory;

/// The count of a slot that is never given out: bad, or named too often to be counted.
const STUCK: u16 = u16::MAX;

/// A count for each slot, and where the search for a free one goes on: slots that are taken one after the
/// other lie next to each other on the device.
pub struct SwapMap {
    counts: Vec<u16>,
    cursor: usize,
    used: u32,
    bad: u32,
}

impl SwapMap {
    /// `slots` slots, of which 0 (the header's page) and the `bad` ones are not used.
    pub fn new(slots: u32, bad: &[u32]) -> Result<SwapMap, OutOfMemory> {
        let mut counts = Vec::new();
        counts.try_reserve_exact(slots as usize).map_err(|_| OutOfMemory)?;
        counts.resize(slots as usize, 0);
        let mut map = SwapMap { counts, cursor: 1, used: 0, bad: 0 };
        map.exclude(0);
        bad.iter().for_each(|slot| map.exclude(*slot));
        Ok(map)
    }

    fn exclude(&mut self, slot: u32) {
        if let Some(count) = self.counts.get_mut(slot as usize).filter(|count| **count == 0) {
            *count = STUCK;
            self.bad += 1;
        }
    }

    /// Slots that can be used.
    pub fn size(&self) -> u32 {
        self.counts.len() as u32 - self.bad
    }

    /// Slots in use.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Takes a free slot, counted once.
    pub fn take(&mut self) -> Option<u32> {
        if self.used >= self.size() {
            return None;
        }
        let free = |(_, count): &(usize, &u16)| **count == 0;
        let after = self.counts.iter().enumerate().skip(self.cursor).find(free);
        let (slot, _) = after.or_else(|| self.counts.iter().enumerate().find(free))?;
        self.counts[slot] = 1;
        self.cursor = slot + 1;
        self.used += 1;
        Some(slot as u32)
    }

    /// One more entry names the slot.
    pub fn share(&mut self, slot: u32) {
        if let Some(count) = self.counts.get_mut(slot as usize).filter(|count| **count > 0) {
            *count = count.saturating_add(1);
        }
    }

    /// How many entries name the slot.
    pub fn uses(&self, slot: u32) -> u16 {
        self.counts.get(slot as usize).copied().unwrap_or(0)
    }

    /// One entry less names the slot; whether it is free now.
    pub fn release(&mut self, slot: u32) -> bool {
        match self.counts.get_mut(slot as usize) {
            Some(count) if *count > 0 && *count < STUCK => {
                *count -= 1;
                self.used -= u32::from(*count == 0);
                *count == 0
            }
            _ => false,
        }
    }
}
