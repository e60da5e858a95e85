//! LRU: the page that was not used for the longest time goes. For comparison: one list that every hit writes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "lru",
    title: "least recently used",
    source: "Mattson et al., IBM Systems Journal 9(2), 1970",
    make: || Box::new(Lru::default()),
};

/// One list, most recent first.
#[derive(Debug, Default)]
pub struct Lru {
    list: Lists<1>,
}

impl Reclaim for Lru {
    fn reserve(&mut self, pages: usize, _capacity: usize) -> Result<(), OutOfMemory> {
        self.list.reserve(pages)
    }

    fn insert(&mut self, page: Page, key: Key) {
        self.list.insert_front(0, page, key);
    }

    fn hit(&mut self, page: Page) {
        self.list.to_front(0, page);
    }

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

    #[test]
    fn published_counts() {
        reclaim_harness::published(
            super::INFO,
            &[
                ("OLTP", 1000, 914_145, 300_122),
                ("OLTP", 2000, 914_145, 388_235),
                ("OLTP", 5000, 914_145, 490_443),
                ("P3", 32_768, 3_912_296, 139_485),
            ],
        );
    }
}
