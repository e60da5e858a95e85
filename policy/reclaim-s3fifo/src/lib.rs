//! S3-FIFO: three queues and no list that a hit would have to touch.
//!
//! ```text
//!   miss ──> S (10 %) ──used twice──> M (90 %) <──┐ used: one round more, with one use less
//!              │                       │──────────┘
//!              └──else──> gone, key to G           └──not used──> gone
//!   miss of a key in G ──> M
//! ```
//!
//! Most pages are used once and leave through the small queue before they cost the main queue anything.
//! A page counts at most three uses.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Ghosts, Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "s3fifo",
    title: "a small, a main and a ghost queue",
    source: "Yang et al., \"FIFO Queues are All You Need for Cache Eviction\", SOSP 2023",
    make: || Box::new(S3Fifo::default()),
};

const SMALL: usize = 0;
const MAIN: usize = 1;
const MOST_USES: u8 = 3;

/// Queues with the newest page in front; a page's mark counts its uses.
#[derive(Debug, Default)]
pub struct S3Fifo {
    queues: Lists<2>,
    ghosts: Ghosts<1>,
    capacity: usize,
}

impl S3Fifo {
    fn ghost_limit(&self) -> usize {
        (self.capacity - self.capacity / 10).max(1)
    }

    /// A victim of the small queue; pages used more than once move on to the main queue.
    fn evict_small(&mut self) -> Option<Page> {
        loop {
            let page = self.queues.back(SMALL)?;
            if self.queues.mark(page) <= 1 {
                self.queues.remove(page);
                while self.ghosts.len(0) >= self.ghost_limit() {
                    self.ghosts.pop_oldest(0);
                }
                self.ghosts.push(0, self.queues.key(page), 0);
                return Some(page);
            }
            self.queues.set_mark(page, 0);
            self.queues.to_front(MAIN, page);
        }
    }

    fn evict_main(&mut self) -> Option<Page> {
        loop {
            let page = self.queues.back(MAIN)?;
            match self.queues.mark(page) {
                0 => return self.queues.pop_back(MAIN),
                uses => {
                    self.queues.set_mark(page, uses - 1);
                    self.queues.to_front(MAIN, page);
                }
            }
        }
    }
}

impl Reclaim for S3Fifo {
    fn reserve(&mut self, pages: usize, capacity: usize) -> Result<(), OutOfMemory> {
        self.queues.reserve(pages)?;
        self.ghosts.reserve((capacity - capacity / 10).max(1))?;
        self.capacity = capacity;
        Ok(())
    }

    fn insert(&mut self, page: Page, key: Key) {
        let queue = if self.ghosts.remove(key).is_some() { MAIN } else { SMALL };
        self.queues.insert_front(queue, page, key);
    }

    fn hit(&mut self, page: Page) {
        let uses = self.queues.mark(page);
        if uses < MOST_USES {
            self.queues.set_mark(page, uses + 1);
        }
    }

    fn evict(&mut self, _incoming: Option<Key>) -> Option<Page> {
        let small_first = self.queues.len(SMALL) >= (self.capacity / 10).max(1) || self.queues.len(MAIN) == 0;
        if small_first && let Some(page) = self.evict_small() {
            return Some(page);
        }
        self.evict_main().or_else(|| self.evict_small())
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.ghosts.remove(key);
        self.queues.insert_front(MAIN, page, key);
    }

    fn remove(&mut self, page: Page) {
        self.queues.remove(page);
    }

    fn len(&self) -> usize {
        self.queues.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("small", self.queues.len(SMALL) as u64);
        each("main", self.queues.len(MAIN) as u64);
        each("ghost", self.ghosts.total() as u64);
    }
}

#[cfg(test)]
mod tests {
    reclaim_harness::laws!(super::INFO);
}
