//! SIEVE: a queue in the order of arrival, and a hand that sieves it from old to new.
//!
//! A hit sets a mark. The hand takes the first page without one and clears marks on its way, but moves
//! nothing: pages that survive stay among the old ones, so that new pages meet the hand soon ("quick demotion"),
//! and the survivors are looked at once a round.
//!
//! ```text
//!   front (new)  D  C* B  A*  back        hand at A: clears A, takes B, stays at C
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "sieve",
    title: "one queue, a hand that moves nothing",
    source: "Zhang et al., \"SIEVE is Simpler than LRU\", NSDI 2024",
    make: || Box::new(Sieve::default()),
};

const VISITED: u8 = 1;

/// The queue and where the hand goes on; `None`: at the back.
#[derive(Debug, Default)]
pub struct Sieve {
    queue: Lists<1>,
    hand: Option<Page>,
}

impl Sieve {
    /// Takes a page out; the hand does not stay on it.
    fn take(&mut self, page: Page) {
        if self.hand == Some(page) {
            self.hand = self.queue.before(page);
        }
        self.queue.remove(page);
    }
}

impl Reclaim for Sieve {
    fn reserve(&mut self, pages: usize, _capacity: usize) -> Result<(), OutOfMemory> {
        self.queue.reserve(pages)
    }

    fn insert(&mut self, page: Page, key: Key) {
        self.take(page);
        self.queue.insert_front(0, page, key);
    }

    fn hit(&mut self, page: Page) {
        self.queue.set_mark(page, VISITED);
    }

    fn evict(&mut self, _incoming: Option<Key>) -> Option<Page> {
        let mut at = self.hand.or_else(|| self.queue.back(0))?;
        while self.queue.mark(at) == VISITED {
            self.queue.set_mark(at, 0);
            at = self.queue.before(at).or_else(|| self.queue.back(0))?;
        }
        self.hand = Some(at);
        self.take(at);
        Some(at)
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.insert(page, key);
    }

    fn remove(&mut self, page: Page) {
        self.take(page);
    }

    fn len(&self) -> usize {
        self.queue.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("queue", self.queue.len(0) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    reclaim_harness::laws!(INFO);

    #[test]
    fn the_hand_moves_nothing() {
        let mut sieve = Sieve::default();
        sieve.reserve(8, 8).unwrap();
        for page in 0..4 {
            sieve.insert(Page(page), 0);
        }
        sieve.hit(Page(0));
        sieve.hit(Page(2));
        assert_eq!(sieve.evict(None), Some(Page(1)));
        sieve.insert(Page(4), 0);
        assert_eq!(sieve.evict(None), Some(Page(3)), "2 was visited, 0 is behind the hand");
        assert_eq!(sieve.evict(None), Some(Page(4)));
        assert_eq!(sieve.evict(None), Some(Page(0)));
    }
}
