//! Generations, like Linux's multi-generational LRU: pages age by batches, and uses protect by proof.
//!
//! ```text
//!   generations   oldest | . | . | youngest
//!   new page  ──> second oldest          a page that comes back after eviction ──> youngest
//!   eviction      the oldest, from its back: a page of a *tier* that proved itself goes one
//!                 generation up instead; the tier is log2 of its uses
//! ```
//!
//! A hit only counts. Whether a tier has proved itself, a controller says: it compares how often evicted pages
//! of the tier came back with how often those of tier 0 did (a proportional controller, halved at each
//! new generation; Linux's PID controller with the same positions). A new generation begins when fewer than
//! three are left, so the hand never scans more than what is old.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use reclaim_api::{Ghosts, Key, Lists, OutOfMemory, Page, PolicyInfo, Reclaim};

/// The policy as the kernel and the simulator name it.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "mglru",
    title: "generations with tiers",
    source: "Linux, mm/vmscan.c, lru_gen (Yu Zhao, 2022)",
    make: || Box::new(Mglru::default()),
};

/// Generations at most, and at least (Linux's MAX_NR_GENS, MIN_NR_GENS).
const GENERATIONS: usize = 4;
const FEWEST: u64 = 2;
const TIERS: usize = 4;
const MOST_USES: u8 = 7;

#[derive(Debug, Default, Clone, Copy)]
struct Tier {
    evicted: u64,
    refaulted: u64,
}

/// Generation `n` is list `n % 4`.
#[derive(Debug, Default)]
pub struct Mglru {
    generations: Lists<GENERATIONS>,
    ghosts: Ghosts<1>,
    oldest: u64,
    youngest: u64,
    tiers: [Tier; TIERS],
    protected: u64,
}

fn tier_of(uses: u8) -> usize {
    (u32::from(uses) + 1).ilog2() as usize
}

impl Mglru {
    fn list(generation: u64) -> usize {
        (generation % GENERATIONS as u64) as usize
    }

    /// Whether pages of the tier come back more often than those without a use.
    fn has_proved(&self, tier: usize) -> bool {
        let (base, own) = (self.tiers[0], self.tiers[tier]);
        // Cross-multiplied rates, with a head start for tier 0 as long as little is known.
        tier > 0 && own.refaulted * (base.evicted + 64) > (base.refaulted + 1) * (own.evicted + 1)
    }

    /// Drops empty old generations and begins a new one when too few are left.
    fn age(&mut self) {
        while self.youngest - self.oldest >= FEWEST && self.generations.len(Mglru::list(self.oldest)) == 0 {
            self.oldest += 1;
        }
        if self.youngest - self.oldest < FEWEST {
            self.youngest += 1;
            for tier in &mut self.tiers {
                *tier = Tier { evicted: tier.evicted / 2, refaulted: tier.refaulted / 2 };
            }
        }
    }

    fn gone(&mut self, page: Page, tier: usize) -> Page {
        self.generations.remove(page);
        self.tiers[tier].evicted += 1;
        let stamp = self.oldest * TIERS as u64 + tier as u64;
        self.ghosts.push(0, self.generations.key(page), stamp);
        page
    }
}

impl Reclaim for Mglru {
    fn reserve(&mut self, pages: usize, capacity: usize) -> Result<(), OutOfMemory> {
        self.generations.reserve(pages)?;
        self.ghosts.reserve(capacity.max(1))
    }

    fn insert(&mut self, page: Page, key: Key) {
        let shadow = self.ghosts.find(key);
        self.ghosts.remove(key);
        self.age();
        let generation = match shadow {
            Some((_, stamp)) if self.oldest - stamp / TIERS as u64 <= FEWEST => {
                self.tiers[(stamp % TIERS as u64) as usize].refaulted += 1;
                self.youngest
            }
            _ => self.oldest + 1,
        };
        self.generations.insert_front(Mglru::list(generation), page, key);
    }

    fn hit(&mut self, page: Page) {
        let uses = self.generations.mark(page);
        if uses < MOST_USES {
            self.generations.set_mark(page, uses + 1);
        }
    }

    fn evict(&mut self, _incoming: Option<Key>) -> Option<Page> {
        if self.is_empty() {
            return None;
        }
        loop {
            self.age();
            let Some(page) = self.generations.back(Mglru::list(self.oldest)) else {
                // Only the youngest generations have pages: they age by one.
                self.oldest += 1;
                self.youngest = self.youngest.max(self.oldest + 1);
                continue;
            };
            let tier = tier_of(self.generations.mark(page));
            if !self.has_proved(tier) {
                return Some(self.gone(page, tier));
            }
            self.protected += 1;
            self.generations.set_mark(page, 0);
            self.generations.to_front(Mglru::list(self.oldest + 1), page);
        }
    }

    fn keep(&mut self, page: Page, key: Key) {
        self.ghosts.remove(key);
        self.age();
        self.generations.insert_front(Mglru::list(self.youngest), page, key);
    }

    fn remove(&mut self, page: Page) {
        self.generations.remove(page);
    }

    fn len(&self) -> usize {
        self.generations.total()
    }

    fn stats(&self, each: &mut dyn FnMut(&'static str, u64)) {
        const NAMES: [&str; GENERATIONS] = ["oldest", "second", "third", "youngest"];
        for (step, name) in NAMES.iter().enumerate() {
            each(name, self.generations.len(Mglru::list(self.oldest + step as u64)) as u64);
        }
        each("min_seq", self.oldest);
        each("max_seq", self.youngest);
        each("protected", self.protected);
    }
}

#[cfg(test)]
mod tests {
    reclaim_harness::laws!(super::INFO);
}
