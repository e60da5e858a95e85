//! Several threads at once on one space and one file: no stale page may stay mapped, no count may drift.

mod common;

use abi::mm::{MapFlags, Prot, madv};
use common::*;
use mem::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vm::{AddressSpace, Unlimited};

const PAGES: usize = 24;

/// A small generator; threads differ by their seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Every file page that is mapped is the one in the cache.
fn check_mapped(space: &AddressSpace, file: &TestFile, at: usize) {
    for page in 0..PAGES {
        let va = at + page * PAGE;
        let table = space.table().lock();
        if let Entry::Page(_) = table.get(va) {
            let mapped = table.folio(va).expect("no zero page in a file");
            drop(table);
            let cached = file.mapping.find(page as u64).unwrap_or_else(|| panic!("page {page} is stale"));
            assert!(mapped.ptr_eq(&cached), "page {page} is another one");
        }
    }
}

#[test]
fn truncation_against_faults_forks_and_discards() {
    let deadline = Instant::now() + Duration::from_millis(1500);
    let mut seed = 1;
    while Instant::now() < deadline {
        seed += 1;
        one_round(seed);
    }
}

fn one_round(seed: u64) {
    let space = space();
    let file = TestFile::memory(PAGES * PAGE);
    let shared = file.map(&space, PAGES, RW, MapFlags::SHARED);
    let private = map_anonymous(&space, PAGES, RW);
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (space, stop) = (space.clone(), stop.clone());
            let mut random = Random(seed * 31 + thread);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = random.below(PAGES) * PAGE;
                    let _ = access(&space, shared + at, (random.below(2) == 0).then_some(1));
                    let _ = access(&space, private + at, (random.below(2) == 0).then_some(1));
                }
            });
        }
        let mut random = Random(seed);
        for _ in 0..200 {
            match random.below(6) {
                0 => file.mapping.truncate((random.below(PAGES) * PAGE) as u64),
                1 => file.mapping.truncate((PAGES * PAGE) as u64),
                2 => file.mapping.punch_hole(4 * PAGE as u64, 9 * PAGE as u64),
                3 => drop(space.fork()),
                4 => space.madvise(private, PAGES * PAGE, madv::DONTNEED).expect("dontneed"),
                _ => {
                    let prot = if random.below(2) == 0 { RW } else { Prot::READ };
                    space.mprotect(private, 7 * PAGE, prot, &Unlimited).expect("mprotect");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    check_mapped(&space, &file, shared);
    let usage = space.usage();
    let mut counts = (0, 0);
    space.table().lock().for_each(0..arch::mmu::user_top(), |_, entry| {
        if let Entry::Page(page) = entry {
            if page.flags.contains(arch::paging::PteFlags::SOFT) {
                counts.0 += 1;
            } else if !mem::UserTable::is_zero_page(page.phys) {
                counts.1 += 1;
            }
        }
    });
    assert_eq!((usage.rss_anon, usage.rss_shmem), counts);
}
