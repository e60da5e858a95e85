//! The table of listed pages and the policy over it. Everything here is called under one spin lock.

use super::ROUND;
use crate::mapping::Mapping;
use alloc::boxed::Box;
use alloc::sync::Weak;
use alloc::vec::Vec;
use mem::Folio;
use reclaim_api::{Lists, OutOfMemory, Page, PolicyInfo, Reclaim as Policy};

/// A page and where it belongs. Holds a reference of its folio.
#[derive(Clone)]
pub(super) struct Victim {
    pub folio: Folio,
    pub mapping: Weak<Mapping>,
    pub index: u64,
    /// Read ahead and not used yet.
    pub ahead: bool,
}

impl Victim {
    /// The policy's name for the contents.
    fn key(&self) -> u64 {
        let file = self.mapping.as_ptr() as usize as u64;
        (file >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.index.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(32)
    }
}

/// Some pages, taken out of or copied from the table.
pub(super) type Round = [Option<Victim>; ROUND];

/// Slots are numbered from 0; a page's place, which stands in its folio, is one more.
pub(super) struct Lru {
    slots: Vec<Option<Victim>>,
    free: Vec<u32>,
    policy: Box<dyn Policy>,
    name: &'static str,
    /// What the policy was told last.
    capacity: usize,
    /// Victims that have to be written first, the first of them at the back. Not the policy's meanwhile.
    waiting: Lists<1>,
    inserted: u64,
    hits: u64,
    unlisted: u64,
    /// Slots at most: more pages than that there cannot be.
    most: usize,
}

impl Lru {
    /// An empty table for a machine with `pages` pages; a table for an eighth of them is reserved.
    pub fn new(info: &PolicyInfo, pages: usize) -> Result<Lru, OutOfMemory> {
        let mut lru = Lru {
            slots: Vec::new(),
            free: Vec::new(),
            policy: (info.make)(),
            name: info.name,
            capacity: 0,
            waiting: Lists::new(),
            inserted: 0,
            hits: 0,
            unlisted: 0,
            most: pages.max(64),
        };
        lru.grow((pages / 8).max(64))?;
        Ok(lru)
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Slots, and pages in them.
    pub fn sizes(&self) -> (usize, usize) {
        (self.slots.len(), self.listed())
    }

    fn listed(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Makes room for `slots` slots. Rare (each time twice as many) and never in an interrupt. The table's lock is held,
    /// interrupts on: memory that is not there at once is not waited for, and the page stays unlisted.
    fn grow(&mut self, slots: usize) -> Result<(), OutOfMemory> {
        let old = self.slots.len();
        let more = slots.saturating_sub(old);
        self.slots.try_reserve_exact(more).map_err(|_| OutOfMemory)?;
        self.free.try_reserve_exact(slots - self.free.len().min(slots)).map_err(|_| OutOfMemory)?;
        self.waiting.reserve(slots)?;
        self.capacity = self.capacity.max(self.listed()).max(64);
        self.policy.reserve(slots, self.capacity)?;
        self.slots.resize_with(slots.max(old), || None);
        self.free.extend((old..slots).rev().map(|slot| slot as u32));
        Ok(())
    }

    /// Lists a page; takes it out of its place in the batch, unless it is in use nowhere any more or there is
    /// no room for it.
    pub fn insert(&mut self, page: &mut Option<Victim>) {
        // One reference is the batch's: the page has left its tree already.
        let Some(mut victim) = page.take_if(|page| page.folio.refs() > 1 && page.folio.place() == 0) else {
            return;
        };
        if self.free.is_empty() && self.grow((self.slots.len() * 2).min(self.most)).is_err() {
            self.unlisted += 1;
            *page = Some(victim);
            return;
        }
        let Some(slot) = self.free.pop() else {
            self.unlisted += 1;
            *page = Some(victim);
            return;
        };
        // The insertion is the first use; later ones are told.
        victim.ahead &= !victim.folio.clear_referenced();
        victim.folio.set_place(slot + 1);
        self.policy.insert(Page(slot), victim.key());
        self.slots[slot as usize] = Some(victim);
        self.inserted += 1;
    }

    /// The page at a place was used. The place may be another page's by now: then that one gains a little.
    pub fn hit(&mut self, place: u32) {
        let Some(slot) = place.checked_sub(1) else { return };
        if let Some(Some(victim)) = self.slots.get_mut(slot as usize) {
            victim.folio.clear_referenced();
            if core::mem::take(&mut victim.ahead) {
                return;
            }
            self.hits += 1;
            self.policy.hit(Page(slot));
        }
    }

    /// The slot of a folio, if it is listed.
    fn slot_of(&self, folio: &Folio) -> Option<u32> {
        let slot = folio.place().checked_sub(1)?;
        let here = self.slots.get(slot as usize)?.as_ref()?;
        here.folio.ptr_eq(folio).then_some(slot)
    }

    /// Forgets a page; what its slot held is for the caller to drop.
    pub fn remove(&mut self, folio: &Folio) -> Option<Victim> {
        let slot = self.slot_of(folio)?;
        self.policy.remove(Page(slot));
        self.waiting.remove(Page(slot));
        folio.set_place(0);
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    /// The policy's next victims, which keep their slots until they are settled.
    pub fn victims(&mut self, count: usize) -> Round {
        self.adjust();
        let mut round = [const { None }; ROUND];
        for place in round.iter_mut().take(count) {
            let Some(Page(slot)) = self.policy.evict(None) else { break };
            *place = self.slots.get(slot as usize).and_then(Clone::clone);
        }
        round
    }

    /// Tells the policy how much it holds by now, when that has changed by more than a sixteenth.
    fn adjust(&mut self) {
        let now = self.listed().max(64);
        if now.abs_diff(self.capacity) > self.capacity / 16
            && self.policy.reserve(self.slots.len(), now).is_ok()
        {
            self.capacity = now;
        }
    }

    /// The victim stays.
    pub fn keep(&mut self, victim: &Victim) {
        if let Some(slot) = self.slot_of(&victim.folio) {
            self.waiting.remove(Page(slot));
            self.policy.keep(Page(slot), victim.key());
        }
    }

    /// The victim has to be written first.
    pub fn wait(&mut self, victim: &Victim) {
        if let Some(slot) = self.slot_of(&victim.folio) {
            self.waiting.insert_front(0, Page(slot), 0);
        }
    }

    /// How many victims wait.
    pub fn waiting(&self) -> usize {
        self.waiting.total()
    }

    /// The victims that have waited longest.
    pub fn waiting_victims(&mut self, count: usize) -> Round {
        let mut round = [const { None }; ROUND];
        for place in round.iter_mut().take(count) {
            let Some(Page(slot)) = self.waiting.pop_back(0) else { break };
            *place = self.slots.get(slot as usize).and_then(Clone::clone);
        }
        round
    }

    /// Copies of the pages in the next slots from a place on, and the place to go on with.
    pub fn from_place(&self, place: u32) -> (Round, Option<u32>) {
        let start = place as usize - 1;
        let mut round = [const { None }; ROUND];
        for (to, slot) in round.iter_mut().zip(self.slots.iter().skip(start)) {
            to.clone_from(slot);
        }
        let next = start + ROUND;
        (round, (next < self.slots.len()).then_some(next as u32 + 1))
    }

    /// Replaces the policy by one that has reserved for [`Lru::sizes`]; returns the old one.
    pub fn hand_over(&mut self, info: &PolicyInfo, mut new: Box<dyn Policy>) -> Box<dyn Policy> {
        self.capacity = self.listed().max(64);
        // The old policy's victims come first, so they are the new one's oldest.
        while let Some(page) = self.policy.evict(None) {
            if let Some(Some(victim)) = self.slots.get(page.0 as usize) {
                new.insert(page, victim.key());
            }
        }
        self.name = info.name;
        core::mem::replace(&mut self.policy, new)
    }

    pub fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("pages", self.listed() as u64);
        each("waiting", self.waiting() as u64);
        each("insertions", self.inserted);
        each("hits", self.hits);
        each("unlisted", self.unlisted);
        self.policy.stats(each);
    }
}
