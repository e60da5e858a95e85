//! ARC: two LRU lists, pages used once and pages used again, whose border moves by what is missed.
//!
//! ```text
//!             recency                        frequency
//!   B1 (keys gone from T1) | T1   <- p ->   T2 | B2 (keys gone from T2)
//! ```
//!
//! A miss of a key in B1 says that T1 was too small, one in B2 that T2 was: the target `p` for the length of
//! T1 moves by the ratio of the two, at least by 1. |T1| + |B1| is at most the capacity c, all four together 2c.
//!
//! `p` is real-valued in the paper, and rounding it to whole pages changes what is hit. A kernel has no
//! floating point: it is kept in units of 2^-32 of a page, which gives the published counts to the hit.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Ghosts, Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "arc",
    title: "adaptive replacement cache",
    source: "Megiddo, Modha, \"ARC: A Self-Tuning, Low Overhead Replacement Cache\", FAST 2003",
    make: || Box::new(Arc::default()),
};

const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 0;
const B2: usize = 1;

/// Fraction bits of `p`.
const SHIFT: u32 = 32;

/// Lists with the most recent page in front.
#[derive(Debug, Default)]
pub struct Arc {
    lists: Lists<2>,
    ghosts: Ghosts<2>,
    capacity: usize,
    p: u64,
    /// The key that `p` was moved for when room was made for it.
    adapted: Option<Key>,
}

/// `max(1, a / b)` in units of `p`.
fn step(a: usize, b: usize) -> u64 {
    let (a, b) = (a as u64, b.max(1) as u64);
    (((a << SHIFT) + b / 2) / b).max(1 << SHIFT)
}

impl Arc {
    /// Moves the border for a missed key that is remembered; says where.
    fn adapt(&mut self, key: Key) -> Option<usize> {
        let (list, _) = self.ghosts.find(key)?;
        if self.adapted.take() != Some(key) {
            let (b1, b2) = (self.ghosts.len(B1), self.ghosts.len(B2));
            let most = (self.capacity as u64) << SHIFT;
            self.p = match list {
                B1 => (self.p + step(b2, b1)).min(most),
                _ => self.p.saturating_sub(step(b1, b2)),
            };
        }
        Some(list)
    }

    /// The paper's REPLACE: a page from T1 if that is longer than its target, else from T2.
    fn replace(&mut self, in_b2: bool) -> Option<Page> {
        let t1 = self.lists.len(T1);
        let long = (t1 as u64) << SHIFT;
        let over = long > self.p || (in_b2 && long == self.p);
        let from = if t1 > 0 && (over || self.lists.len(T2) == 0) { T1 } else { T2 };
        let page = self.lists.pop_back(from)?;
        self.ghosts.push(from, self.lists.key(page), 0);
        Some(page)
    }

    /// Makes room among the keys and pages for one that nothing is known about.
    fn evict_for_unknown(&mut self) -> Option<Page> {
        let (t1, b1) = (self.lists.len(T1), self.ghosts.len(B1));
        if t1 + b1 >= self.capacity {
            if b1 == 0 && t1 > 0 {
                // T1 fills the cache alone: its oldest page goes without a trace.
                return self.lists.pop_back(T1);
            }
            self.ghosts.pop_oldest(B1);
        } else if self.lists.total() + self.ghosts.total() >= 2 * self.capacity {
            self.ghosts.pop_oldest(B2);
        }
        self.replace(false)
    }
}

impl Reclaim for Arc {
    fn reserve(&mut self, pages: usize, capacity: usize) -> Result<(), OutOfMemory> {
        self.lists.reserve(pages)?;
        // One more than the paper's bound: a key is remembered before the missed one is forgotten.
        self.ghosts.reserve(capacity + 1)?;
        self.capacity = capacity;
        self.p = self.p.min((capacity as u64) << SHIFT);
        Ok(())
    }

    fn insert(&mut self, page: Page, key: Key) {
        let list = match self.adapt(key) {
            Some(_) => T2,
            None => T1,
        };
        self.adapted = None;
        self.ghosts.remove(key);
        self.lists.insert_front(list, page, key);
    }

    fn hit(&mut self, page: Page) {
        self.lists.to_front(T2, page);
    }

    fn evict(&mut self, incoming: Option<Key>) -> Option<Page> {
        let Some(key) = incoming else { return self.evict_for_unknown() };
        match self.adapt(key) {
            Some(list) => {
                self.adapted = Some(key);
                self.replace(list == B2)
            }
            None => self.evict_for_unknown(),
        }
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.ghosts.remove(key);
        self.lists.insert_front(T2, page, key);
    }

    fn remove(&mut self, page: Page) {
        self.lists.remove(page);
    }

    fn len(&self) -> usize {
        self.lists.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("t1", self.lists.len(T1) as u64);
        each("b1", self.ghosts.len(B1) as u64);
        each("t2", self.lists.len(T2) as u64);
        each("b2", self.ghosts.len(B2) as u64);
        each("p", self.p >> SHIFT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    reclaim_harness::laws!(INFO);

    #[test]
    fn a_step_is_a_page_at_least() {
        assert_eq!((step(3, 5), step(3, 2), step(7, 0)), (1 << SHIFT, 3 << (SHIFT - 1), 7 << SHIFT));
    }

    #[test]
    fn published_counts() {
        reclaim_harness::published(
            INFO,
            &[
                ("OLTP", 1000, 914_145, 356_015),
                ("OLTP", 2000, 914_145, 421_200),
                ("OLTP", 5000, 914_145, 505_080),
                ("P3", 32_768, 3_912_296, 669_507),
            ],
        );
    }
}
