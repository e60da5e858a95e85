//! CLOCK: first in, first out, but a page that was used gets a second chance.
//!
//! The hand goes round; a used page loses its mark and is passed over once. Pages are kept in a queue instead
//! of a ring: what the hand passes goes to the front, which is the same order.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "clock",
    title: "second chance",
    source: "Corbato, \"A Paging Experiment with the Multics System\", MIT, 1968",
    make: || Box::new(Clock::default()),
};

const USED: u8 = 1;

/// A queue whose back is where the hand points.
#[derive(Debug, Default)]
pub struct Clock {
    queue: Lists<1>,
}

impl Reclaim for Clock {
    fn reserve(&mut self, pages: usize, _capacity: usize) -> Result<(), OutOfMemory> {
        self.queue.reserve(pages)
    }

    fn insert(&mut self, page: Page, key: Key) {
        self.queue.insert_front(0, page, key);
    }

    fn hit(&mut self, page: Page) {
        self.queue.set_mark(page, USED);
    }

    fn evict(&mut self, _incoming: Option<Key>) -> Option<Page> {
        loop {
            let page = self.queue.back(0)?;
            if self.queue.mark(page) == 0 {
                return self.queue.pop_back(0);
            }
            self.queue.set_mark(page, 0);
            self.queue.to_front(0, page);
        }
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.insert(page, key);
    }

    fn remove(&mut self, page: Page) {
        self.queue.remove(page);
    }

    fn len(&self) -> usize {
        self.queue.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("ring", self.queue.len(0) as u64);
    }
}

#[cfg(test)]
mod tests {
    reclaim_harness::laws!(super::INFO);
}
