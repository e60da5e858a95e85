//! What is remembered of those who do I/O: how long they think, how far they jump, what a scheduler adds.
//!
//! A fixed table with the least recently used record given away; records in use (`busy`) stay. With as many
//! records as there can be requests, and some more, one is always free.

use crate::NoMemory;
use alloc::vec::Vec;

/// Records kept for owners that have no request.
const SPARE: usize = 16;

/// One owner.
#[derive(Clone, Copy, Debug)]
pub struct Owner<T> {
    pub id: u64,
    pub used_ns: u64,
    /// Requests that wait or are under way.
    pub busy: u32,
    /// When its last request was done.
    pub done_ns: u64,
    /// Average time from there to its next one, and how often that was measured (up to 8).
    pub think_ns: u64,
    pub samples: u32,
    /// Where its last request ended, and the average distance from there to the next.
    pub position: u64,
    pub seek: u64,
    pub own: T,
}

/// The table.
#[derive(Debug)]
pub struct Owners<T> {
    all: Vec<Owner<T>>,
    most: usize,
}

impl<T: Copy + Default> Owners<T> {
    /// For at most `depth` requests at once.
    pub fn new(depth: u32) -> Result<Owners<T>, NoMemory> {
        let most = depth as usize + SPARE;
        let mut all = Vec::new();
        all.try_reserve_exact(most).map_err(|_| NoMemory)?;
        Ok(Owners { all, most })
    }

    /// The record's place of an owner, made if there is none.
    pub fn find_or_make(&mut self, id: u64, now_ns: u64) -> usize {
        if let Some(at) = self.find(id) {
            self.all[at].used_ns = now_ns;
            return at;
        }
        let new = Owner {
            id,
            used_ns: now_ns,
            busy: 0,
            done_ns: 0,
            think_ns: 0,
            samples: 0,
            position: 0,
            seek: 0,
            own: T::default(),
        };
        if self.all.len() < self.most {
            self.all.push(new);
            return self.all.len() - 1;
        }
        let idle = self.all.iter().enumerate().filter(|(_, owner)| owner.busy == 0);
        let at = idle.min_by_key(|(_, owner)| owner.used_ns).map_or(0, |(at, _)| at);
        self.all[at] = new;
        at
    }

    pub fn find(&self, id: u64) -> Option<usize> {
        self.all.iter().position(|owner| owner.id == id)
    }

    pub fn get(&self, at: usize) -> &Owner<T> {
        &self.all[at]
    }

    pub fn get_mut(&mut self, at: usize) -> &mut Owner<T> {
        &mut self.all[at]
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A request of an owner has come for `start..end`: learns from it.
    pub fn came(&mut self, at: usize, start: u64, end: u64, now_ns: u64) {
        let owner = &mut self.all[at];
        if owner.done_ns != 0 && owner.busy == 0 {
            let think_ns = now_ns.saturating_sub(owner.done_ns);
            owner.samples = (owner.samples + 1).min(8);
            let samples = u64::from(owner.samples);
            owner.think_ns = (owner.think_ns * (samples - 1) + think_ns) / samples;
        }
        if owner.position != 0 {
            owner.seek = (owner.seek * 7 + owner.position.abs_diff(start)) / 8;
        }
        owner.position = end;
        owner.busy += 1;
        owner.used_ns = now_ns;
    }

    /// A request of an owner is done.
    pub fn done(&mut self, at: usize, now_ns: u64) {
        let owner = &mut self.all[at];
        owner.busy = owner.busy.saturating_sub(1);
        owner.done_ns = now_ns;
    }
}

impl<T> Owner<T> {
    /// Whether it is worth waiting `patience_ns` for its next request: it usually comes by then.
    pub fn is_quick(&self, patience_ns: u64) -> bool {
        self.samples == 0 || self.think_ns <= patience_ns
    }
}
