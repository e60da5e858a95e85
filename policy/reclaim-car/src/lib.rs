//! CAR: ARC with clocks, so that a hit sets a bit and moves nothing.
//!
//! ```text
//!   B1 (keys) | T1 clock: used once lately     T2 clock: used again | B2 (keys)
//! ```
//!
//! The hand over T1 passes used pages on to T2; the hand over T2 gives them another round. The border `p`
//! moves as in ARC (in units of 2^-32 of a page), after the room was made.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Ghosts, Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "car",
    title: "clock with adaptive replacement",
    source: "Bansal, Modha, \"CAR: Clock with Adaptive Replacement\", FAST 2004",
    make: || Box::new(Car::default()),
};

const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 0;
const B2: usize = 1;
const USED: u8 = 1;
/// Fraction bits of `p`.
const SHIFT: u32 = 32;

/// Queues whose back is where the hand points.
#[derive(Debug, Default)]
pub struct Car {
    clocks: Lists<2>,
    ghosts: Ghosts<2>,
    capacity: usize,
    p: u64,
}

/// `max(1, a / b)` in units of `p`.
fn step(a: usize, b: usize) -> u64 {
    let (a, b) = (a as u64, b.max(1) as u64);
    (((a << SHIFT) + b / 2) / b).max(1 << SHIFT)
}

impl Car {
    fn adapt(&mut self, list: usize) {
        let (b1, b2) = (self.ghosts.len(B1), self.ghosts.len(B2));
        self.p = match list {
            B1 => (self.p + step(b2, b1)).min((self.capacity as u64) << SHIFT),
            _ => self.p.saturating_sub(step(b1, b2)),
        };
    }

    /// The paper's replace(): the first unused page of T1 if that is longer than its target, else of T2.
    fn replace(&mut self) -> Option<Page> {
        loop {
            let from = match (self.clocks.len(T1), self.clocks.len(T2)) {
                (0, 0) => return None,
                (t1, t2) if t1 > 0 && ((t1 as u64) << SHIFT >= self.p.max(1 << SHIFT) || t2 == 0) => T1,
                _ => T2,
            };
            let page = self.clocks.back(from)?;
            if self.clocks.mark(page) == 0 {
                self.clocks.remove(page);
                self.ghosts.push(from, self.clocks.key(page), 0);
                return Some(page);
            }
            self.clocks.set_mark(page, 0);
            self.clocks.to_front(T2, page);
        }
    }

    /// Keeps the number of remembered keys within the paper's bounds, for a key that is not among them.
    fn trim_history(&mut self) {
        if self.clocks.len(T1) + self.ghosts.len(B1) >= self.capacity && self.ghosts.len(B1) > 0 {
            self.ghosts.pop_oldest(B1);
        } else if self.clocks.total() + self.ghosts.total() >= 2 * self.capacity {
            self.ghosts.pop_oldest(B2);
        }
    }
}

impl Reclaim for Car {
    fn reserve(&mut self, pages: usize, capacity: usize) -> Result<(), OutOfMemory> {
        self.clocks.reserve(pages)?;
        self.ghosts.reserve(capacity + 1)?;
        self.capacity = capacity;
        self.p = self.p.min((capacity as u64) << SHIFT);
        Ok(())
    }

    fn insert(&mut self, page: Page, key: Key) {
        match self.ghosts.find(key) {
            Some((list, _)) => {
                self.adapt(list);
                self.ghosts.remove(key);
                self.clocks.insert_front(T2, page, key);
            }
            None => self.clocks.insert_front(T1, page, key),
        }
    }

    fn hit(&mut self, page: Page) {
        self.clocks.set_mark(page, USED);
    }

    fn evict(&mut self, incoming: Option<Key>) -> Option<Page> {
        let page = self.replace()?;
        if incoming.is_none_or(|key| self.ghosts.find(key).is_none()) {
            self.trim_history();
        }
        Some(page)
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.ghosts.remove(key);
        self.clocks.insert_front(T2, page, key);
    }

    fn remove(&mut self, page: Page) {
        self.clocks.remove(page);
    }

    fn len(&self) -> usize {
        self.clocks.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("t1", self.clocks.len(T1) as u64);
        each("b1", self.ghosts.len(B1) as u64);
        each("t2", self.clocks.len(T2) as u64);
        each("b2", self.ghosts.len(B2) as u64);
        each("p", self.p >> SHIFT);
    }
}

#[cfg(test)]
mod tests {
    reclaim_harness::laws!(super::INFO);
}
