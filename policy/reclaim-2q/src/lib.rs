//! 2Q: new pages pass through a short queue; those that come back soon after have earned the long list.
//!
//! ```text
//!   miss ──> A1in (FIFO, 25 %) ──evicted──> A1out (keys only, 50 %)
//!                                              │ missed again
//!                                              └──> Am (LRU)
//! ```
//!
//! A hit in A1in changes nothing: several uses in a row are one.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Ghosts, Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "2q",
    title: "a queue for the new, a list for the proven",
    source: "Johnson, Shasha, \"2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm\", VLDB 1994",
    make: || Box::new(TwoQ::default()),
};

const IN: usize = 0;
const MAIN: usize = 1;

/// Kin is a quarter of the capacity, Kout half of it, as the paper advises.
#[derive(Debug, Default)]
pub struct TwoQ {
    lists: Lists<2>,
    out: Ghosts<1>,
    capacity: usize,
}

impl TwoQ {
    fn remember(&mut self, key: Key) {
        while self.out.len(0) >= (self.capacity / 2).max(1) {
            self.out.pop_oldest(0);
        }
        self.out.push(0, key, 0);
    }
}

impl Reclaim for TwoQ {
    fn reserve(&mut self, pages: usize, capacity: usize) -> Result<(), OutOfMemory> {
        self.lists.reserve(pages)?;
        self.out.reserve((capacity / 2).max(1))?;
        self.capacity = capacity;
        Ok(())
    }

    fn insert(&mut self, page: Page, key: Key) {
        let list = if self.out.remove(key).is_some() { MAIN } else { IN };
        self.lists.insert_front(list, page, key);
    }

    fn hit(&mut self, page: Page) {
        if self.lists.list_of(page) == Some(MAIN) {
            self.lists.to_front(MAIN, page);
        }
    }

    fn evict(&mut self, _incoming: Option<Key>) -> Option<Page> {
        if self.lists.len(IN) > self.capacity / 4 || self.lists.len(MAIN) == 0 {
            let page = self.lists.pop_back(IN)?;
            self.remember(self.lists.key(page));
            return Some(page);
        }
        self.lists.pop_back(MAIN)
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.out.remove(key);
        self.lists.insert_front(MAIN, page, key);
    }

    fn remove(&mut self, page: Page) {
        self.lists.remove(page);
    }

    fn len(&self) -> usize {
        self.lists.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("a1in", self.lists.len(IN) as u64);
        each("am", self.lists.len(MAIN) as u64);
        each("a1out", self.out.total() as u64);
    }
}

#[cfg(test)]
mod tests {
    reclaim_harness::laws!(super::INFO);
}
