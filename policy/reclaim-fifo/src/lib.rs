//! FIFO: the page that came first goes, used or not. For comparison: hits cost nothing and count for nothing.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "fifo",
    title: "first in, first out",
    source: "folklore",
    make: || Box::new(Fifo::default()),
};

/// One list, newest first.
#[derive(Debug, Default)]
pub struct Fifo {
    list: Lists<1>,
}

impl Reclaim for Fifo {
    fn reserve(&mut self, pages: usize, _capacity: usize) -> Result<(), OutOfMemory> {
        self.list.reserve(pages)
    }

    fn insert(&mut self, page: Page, key: Key) {
        self.list.insert_front(0, page, key);
    }

    fn hit(&mut self, _page: Page) {}

    fn evict(&mut self, _incoming: Option<Key>) -> Option<Page> {
        self.list.pop_back(0)
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.insert(page, key);
    }

    fn remove(&mut self, page: Page) {
        self.list.remove(page);
    }

    fn len(&self) -> usize {
        self.list.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("list", self.list.len(0) as u64);
    }
}

#[cfg(test)]
mod tests {
    reclaim_harness::laws!(super::INFO);
}
