//! Two lists, as Linux has had them since 2.4: pages used once are inactive, pages used again are active.
//!
//! ```text
//!   miss ──> inactive ──used again──> active
//!               │   ^──────too long──────│
//!               └──> gone, with the time of its going (a shadow)
//!   miss of a key with a shadow: refault distance = evictions and activations since; active at once if
//!   that is not more than the active list is long
//! ```
//!
//! The refault distance says how much longer the inactive list would have had to be. If the active list could
//! have given that much up, its pages have to prove themselves against this one (`mm/workingset.c`).
//! The active list is kept no longer than the inactive one, which is Linux's ratio for caches below a gigabyte.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Ghosts, Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "two-list",
    title: "active and inactive list with refault distance",
    source: "Linux, mm/vmscan.c and mm/workingset.c (Johannes Weiner, 2014)",
    make: || Box::new(TwoList::default()),
};

const INACTIVE: usize = 0;
const ACTIVE: usize = 1;

/// Lists with the newest page in front.
#[derive(Debug, Default)]
pub struct TwoList {
    lists: Lists<2>,
    shadows: Ghosts<1>,
    /// Evictions and activations so far (Linux's nonresident_age).
    age: u64,
    refaults: u64,
    activations: u64,
}

impl TwoList {
    fn activate(&mut self, page: Page) {
        self.lists.to_front(ACTIVE, page);
        self.age += 1;
    }

    /// Moves the oldest active pages back while there are more of them than of the others. When room is
    /// needed, not before, so that a burst of activations does not undo itself.
    fn balance(&mut self) {
        while self.lists.len(ACTIVE) > self.lists.len(INACTIVE) {
            let Some(page) = self.lists.back(ACTIVE) else { return };
            self.lists.to_front(INACTIVE, page);
        }
    }
}

impl Reclaim for TwoList {
    fn reserve(&mut self, pages: usize, capacity: usize) -> Result<(), OutOfMemory> {
        self.lists.reserve(pages)?;
        // A distance beyond the active list's length says nothing, so older shadows are not needed.
        self.shadows.reserve(capacity.max(1))
    }

    fn insert(&mut self, page: Page, key: Key) {
        let shadow = self.shadows.find(key);
        self.shadows.remove(key);
        self.lists.insert_front(INACTIVE, page, key);
        let Some((_, evicted)) = shadow else { return };
        self.refaults += 1;
        if self.age - evicted <= self.lists.len(ACTIVE) as u64 {
            self.activations += 1;
            self.activate(page);
        }
    }

    fn hit(&mut self, page: Page) {
        match self.lists.list_of(page) {
            Some(INACTIVE) => self.activate(page),
            Some(_) => self.lists.set_mark(page, 1),
            None => {}
        }
    }

    fn evict(&mut self, _incoming: Option<Key>) -> Option<Page> {
        self.balance();
        let page = self.lists.pop_back(INACTIVE).or_else(|| self.lists.pop_back(ACTIVE))?;
        self.shadows.push(0, self.lists.key(page), self.age);
        self.age += 1;
        Some(page)
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.shadows.remove(key);
        self.lists.insert_front(ACTIVE, page, key);
    }

    fn remove(&mut self, page: Page) {
        self.lists.remove(page);
    }

    fn len(&self) -> usize {
        self.lists.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("active", self.lists.len(ACTIVE) as u64);
        each("inactive", self.lists.len(INACTIVE) as u64);
        each("workingset_nodes", self.shadows.total() as u64);
        each("workingset_refault_file", self.refaults);
        each("workingset_activate_file", self.activations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    reclaim_harness::laws!(INFO);

    #[test]
    fn a_page_that_comes_back_soon_is_active() {
        let mut policy = TwoList::default();
        policy.reserve(8, 4).unwrap();
        for page in 0..4 {
            policy.insert(Page(page), u64::from(page));
        }
        policy.hit(Page(2));
        policy.hit(Page(3));
        assert_eq!(policy.evict(None), Some(Page(0)));
        policy.insert(Page(0), 0);
        assert_eq!(policy.activations, 1, "distance 1, two active pages");
        policy.insert(Page(5), 100);
        assert_eq!(policy.refaults, 1);
    }
}
