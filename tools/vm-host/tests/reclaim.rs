//! Pages that go because memory is short: which may, which may not, and the policy exchanged under load.

mod common;

use abi::mm::{MapFlags, Prot};
use common::disk::Disk;
use common::*;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use vm::reclaim;

const P: u64 = PAGE as u64;
static POLICIES: [reclaim_api::PolicyInfo; 3] =
    [reclaim_two_list::INFO, reclaim_arc::INFO, reclaim_sieve::INFO];

/// The table is one for all: tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static START: Once = Once::new();
    static TURN: Mutex<()> = Mutex::new(());
    START.call_once(|| reclaim::init(&POLICIES, 4096).expect("init"));
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    reclaim::drop_all();
    turn
}

fn listed() -> u64 {
    let mut text = String::new();
    reclaim::show_stats(&mut text).expect("stats");
    let line = text.lines().find_map(|line| line.strip_prefix("pages ")).expect("pages");
    line.parse().expect("a number")
}

#[test]
fn clean_pages_go_and_come_back() {
    let _turn = alone();
    let disk = Disk::new();
    (0..100).for_each(|page| disk.put(page, page as u8 + 1));
    let mapping = disk.mapping(100 * P);
    let mut bytes = vec![0; 100 * PAGE];
    mapping.read_bytes(0, &mut bytes).expect("read");
    let before = mem::live_folios();
    let freed = reclaim::shrink(40, 1000) as u64;
    assert!((40..80).contains(&freed), "{freed}");
    assert_eq!(mapping.cached_pages(), 100 - freed);
    assert_eq!(before - mem::live_folios(), freed as i64, "the memory is free, not only the tree");
    let mut again = vec![0; 100 * PAGE];
    mapping.read_bytes(0, &mut again).expect("read");
    assert_eq!(bytes, again);
    let all = listed();
    drop(mapping);
    assert!(listed() + 64 < all, "a mapping that goes takes its pages along");
}

#[test]
fn dirty_pages_wait_until_they_are_written() {
    let _turn = alone();
    let disk = Disk::new();
    let mapping = disk.mapping(0);
    mapping.write_bytes(0, &vec![9; 64 * PAGE]).expect("write");
    assert_eq!(reclaim::shrink(10, 1000), 0);
    assert_eq!(mapping.cached_pages(), 64);
    mapping.sync(0, u64::MAX).expect("sync");
    assert!(reclaim::shrink(10, 1000) >= 10);
    let mut byte = [0];
    mapping.read_bytes(0, &mut byte).expect("read");
    assert_eq!(byte, [9]);
}

#[test]
fn mapped_pages_that_are_used_stay() {
    let _turn = alone();
    let disk = Disk::new();
    let mapping = disk.mapping(64 * P);
    let space = space();
    let file = TestFile::on_disk(mapping.clone());
    let at = file.map(&space, 64, Prot::READ, MapFlags::SHARED);
    for page in 0..64 {
        access(&space, at + page * PAGE, None).expect("access");
    }
    // Every page was accessed: the first round forgets that, the second unmaps and frees.
    let first = reclaim::shrink(64, 64);
    assert_eq!(first, 0);
    assert!(reclaim::shrink(30, 200) >= 30);
    assert!(space.usage().rss_file < 64);
    for page in 0..64 {
        access(&space, at + page * PAGE, None).expect("access");
    }
    check_counters(&space, false);
}

#[test]
fn policies_change_under_load_and_no_page_is_lost() {
    let _turn = alone();
    let disk = Disk::new();
    (0..200).for_each(|page| disk.put(page, page as u8 + 1));
    let mapping = disk.mapping(200 * P);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 1u64;
            while !stop.load(SeqCst) {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let page = (at >> 33) % 200;
                let mut byte = [0];
                mapping.read_bytes(page * P, &mut byte).expect("read");
                assert_eq!(byte[0], page as u8 + 1);
            }
        });
        for round in 0..60 {
            reclaim::switch(POLICIES[round % 3].name).expect("switch");
            reclaim::shrink(20, 100);
        }
        stop.store(true, SeqCst);
    });
    let mut text = String::new();
    reclaim::show_policies(&mut text).expect("policies");
    assert_eq!(text, "two-list arc [sieve]\n");
    assert_eq!(reclaim::switch("none"), Err(abi::Errno::EINVAL));
    reclaim::switch("two-list").expect("switch");
    reclaim::drop_all();
    assert_eq!((mapping.cached_pages(), listed()), (0, 0));
}

#[test]
fn a_stream_does_not_become_active() {
    let _turn = alone();
    let disk = Disk::new();
    let mapping = disk.mapping(300 * P);
    let ahead = vm::Readahead::new();
    let active = || {
        let mut text = String::new();
        reclaim::show_stats(&mut text).expect("stats");
        text.lines().find_map(|line| line.strip_prefix("active ")?.parse::<u64>().ok()).expect("active")
    };
    for round in 0..2 {
        for page in 0..300 {
            mapping.read_file(&ahead, page * P, PAGE, |_, _, len| Ok(len)).expect("read");
        }
        let some = active();
        assert!(if round == 0 { some < 40 } else { some > 150 }, "round {round}: {some}");
    }
}

#[test]
fn direct_io_takes_pages_that_have_just_come() {
    let _turn = alone();
    let disk = Disk::new();
    let mapping = disk.mapping(5 * P);
    mapping.read_bytes(0, &mut [0; 5 * PAGE]).expect("read");
    assert_eq!(mapping.invalidate_range(0, 5 * P), Ok(()));
    assert_eq!(mapping.cached_pages(), 0);
    mapping.read_bytes(0, &mut [0; 5 * PAGE]).expect("read");
    assert_eq!(mapping.drop_clean(0, u64::MAX), 5);
}

#[test]
fn what_is_held_is_not_taken() {
    let _turn = alone();
    let disk = Disk::new();
    let mapping = disk.mapping(40 * P);
    mapping.read_ahead(0, 40 * P);
    let held = mapping.find(7).expect("cached");
    reclaim::drop_all();
    assert_eq!(mapping.cached_pages(), 1);
    drop(held);
    assert_eq!(reclaim::drop_all(), 1);
}
