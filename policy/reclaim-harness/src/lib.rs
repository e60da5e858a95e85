//! A cache around a page-replacement policy, for tests and simulation, and the laws that every policy keeps.
//!
//! [`Cache`] holds keys instead of pages and counts. [`laws!`] makes the tests that each policy crate has in
//! common: random accesses, removals and refusals against a model, with the policy's answers checked.
//! [`published`] compares with counts from the literature where the traces are at hand.
#![forbid(unsafe_code)]

mod laws;
pub mod trace;

pub use laws::check;
use reclaim_api::{Key, Page, PolicyInfo, Reclaim};
use std::collections::HashMap;

/// A cache of a fixed number of keys.
pub struct Cache {
    policy: Box<dyn Reclaim>,
    held: HashMap<Key, Page, Mixed>,
    keys: Vec<Key>,
    free: Vec<Page>,
    pub requests: u64,
    pub hits: u64,
}

/// A cheap hash for block numbers.
#[derive(Default, Clone, Copy)]
pub struct Mixed;

impl std::hash::BuildHasher for Mixed {
    type Hasher = Mixer;
    fn build_hasher(&self) -> Mixer {
        Mixer(0)
    }
}

/// The hasher of [`Mixed`].
pub struct Mixer(u64);

impl std::hash::Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl Cache {
    /// A cache of `size` keys, at least one.
    pub fn new(info: &PolicyInfo, size: usize) -> Cache {
        let size = size.max(1);
        let mut policy = (info.make)();
        policy.reserve(size, size).expect("memory for the policy");
        let free = (0..size as u32).rev().map(Page).collect();
        Cache {
            policy,
            held: HashMap::with_capacity_and_hasher(size, Mixed),
            keys: vec![0; size],
            free,
            requests: 0,
            hits: 0,
        }
    }

    /// One request; says whether it was a hit.
    pub fn access(&mut self, key: Key) -> bool {
        self.requests += 1;
        if let Some(page) = self.held.get(&key) {
            self.hits += 1;
            self.policy.hit(*page);
            return true;
        }
        let page = match self.free.pop() {
            Some(page) => page,
            None => self.make_room(key),
        };
        self.keys[page.0 as usize] = key;
        self.held.insert(key, page);
        self.policy.insert(page, key);
        false
    }

    fn make_room(&mut self, key: Key) -> Page {
        let page = self.policy.evict(Some(key)).expect("a full cache has a victim");
        let gone = self.held.remove(&self.keys[page.0 as usize]);
        assert_eq!(gone, Some(page), "the victim is held");
        page
    }

    /// The policy's own numbers.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut stats = Vec::new();
        self.policy.stats(&mut |name, value| stats.push((name, value)));
        stats
    }
}

/// Compares with published counts: trace, size, requests, hits. Says so and does nothing where a trace is not at hand.
pub fn published(info: PolicyInfo, counts: &[(&str, usize, u64, u64)]) {
    for (name, size, requests, hits) in counts {
        let Some(path) = trace::find(name) else {
            println!("skipped: no trace {name}");
            continue;
        };
        let blocks = trace::read(&path).expect("a readable trace");
        let mut cache = Cache::new(&info, *size);
        blocks.for_each(|block| {
            cache.access(block);
        });
        assert_eq!((cache.requests, cache.hits), (*requests, *hits), "{name} with {size} pages");
    }
}
