//! Private pages that go to a device and come back.

mod common;

use abi::Errno;
use abi::mm::{RemapFlags, madv};
use common::store::{AREA, Store};
use common::*;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};
use vm::swap;
use vm::{AddressSpace, Fault, FaultError, RemapRequest, Unlimited};

/// Slot 5 is bad.
fn with_area(slots: u32) -> (MutexGuard<'static, ()>, Arc<Store>) {
    common::store::with_area(slots, &[5])
}

fn off(spaces: &[&Arc<AddressSpace>]) {
    swap::swap_off(AREA, || spaces.iter().map(|space| (*space).clone()).collect()).expect("swapoff");
}

fn out(space: &AddressSpace, pages: usize) -> usize {
    swap::swap_out(space, pages, &mut 10_000)
}

#[test]
fn pages_go_and_come_back() {
    let (_turn, store) = with_area(100);
    let space = space();
    let at = map_anonymous(&space, 50, RW);
    for page in 0..50 {
        access(&space, at + page * PAGE, Some(page as u8 + 1)).expect("store");
    }
    let before = mem::live_folios();
    assert_eq!(out(&space, 30), 30);
    assert_eq!((before - mem::live_folios(), space.usage().rss_anon), (30, 20));
    assert_eq!(swap::totals(), (98, 30), "the header and the bad page do not count");
    for page in 0..50 {
        assert_eq!(access(&space, at + page * PAGE, None), Ok(page as u8 + 1));
        assert_eq!(access(&space, at + page * PAGE, Some(page as u8 + 2)), Ok(page as u8 + 1));
    }
    assert_eq!((swap::totals().1, store.pages.lock().expect("pages").len()), (0, 0));
    check_counters(&space, false);
    off(&[&space]);
}

#[test]
fn what_was_used_since_stays_longer() {
    let (_turn, _store) = with_area(100);
    let space = space();
    let at = map_anonymous(&space, 20, RW);
    (0..20).for_each(|page| assert_eq!(access(&space, at + page * PAGE, Some(1)), Ok(0)));
    assert_eq!(swap::swap_out(&space, 5, &mut 20), 0, "the first round forgets accesses");
    (0..10).for_each(|page| assert_eq!(access(&space, at + page * PAGE, None), Ok(1)));
    assert_eq!(swap::swap_out(&space, 10, &mut 20), 10);
    assert_eq!(space.usage().rss_anon, 10);
    for page in 0..10 {
        let (byte, faults) = access_counted(&space, at + page * PAGE, None).expect("read");
        assert!(byte == 1 && !faults.contains(&Fault::Major), "page {page} stayed");
    }
    off(&[&space]);
}

#[test]
fn fork_unmap_move_and_discard_keep_the_count() {
    let (_turn, _store) = with_area(200);
    let parent = space();
    let at = map_anonymous(&parent, 40, RW);
    (0..40).for_each(|page| assert_eq!(access(&parent, at + page * PAGE, Some(page as u8)), Ok(0)));
    assert_eq!(out(&parent, 40), 40);
    let child = parent.fork().expect("fork");
    assert_eq!(swap::totals().1, 40, "two entries, one slot");
    assert_eq!(access(&child, at + PAGE, Some(99)), Ok(1));
    assert_eq!(access(&parent, at + PAGE, None), Ok(1));
    assert_eq!(swap::totals().1, 39);
    parent.munmap(at + 2 * PAGE, 10 * PAGE).expect("munmap");
    assert_eq!(swap::totals().1, 39, "the child's entries name them");
    assert_eq!(access(&child, at + 5 * PAGE, None), Ok(5));
    assert_eq!(swap::totals().1, 38);
    parent.madvise(at + 20 * PAGE, 5 * PAGE, madv::DONTNEED).expect("madvise");
    assert_eq!(access(&parent, at + 20 * PAGE, None), Ok(0));
    let to = at - 100 * PAGE;
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    let request =
        RemapRequest { addr: at + 30 * PAGE, old_len: 10 * PAGE, new_len: 10 * PAGE, flags, new_addr: to };
    parent.mremap(&request, &Unlimited).expect("mremap");
    assert_eq!(access(&parent, to + 3 * PAGE, None), Ok(33));
    drop(child);
    check_counters(&parent, false);
    drop(parent);
    assert_eq!(swap::totals().1, 0, "every slot is free again");
    off(&[]);
}

#[test]
fn swapoff_brings_everything_back() {
    let (_turn, _store) = with_area(100);
    let (one, two) = (space(), space());
    let a = map_anonymous(&one, 20, RW);
    let b = map_anonymous(&two, 20, RW);
    for page in 0..20 {
        access(&one, a + page * PAGE, Some(1)).expect("store");
        access(&two, b + page * PAGE, Some(2)).expect("store");
    }
    assert_eq!((out(&one, 20), out(&two, 15)), (20, 15));
    off(&[&one, &two]);
    assert_eq!((one.usage().rss_anon, two.usage().rss_anon), (20, 20));
    assert_eq!(access(&two, b + 14 * PAGE, None), Ok(2));
    assert_eq!(swap::totals(), (0, 0));
    assert_eq!(swap::swap_off(AREA, Vec::new), Err(Errno::EINVAL));
}

#[test]
fn a_full_or_broken_area_loses_nothing() {
    let (_turn, store) = with_area(10);
    let space = space();
    let at = map_anonymous(&space, 20, RW);
    (0..20).for_each(|page| assert_eq!(access(&space, at + page * PAGE, Some(7)), Ok(0)));
    assert_eq!(out(&space, 20), 8, "ten slots, one the header, one bad");
    assert_eq!(out(&space, 20), 0);
    store.broken.store(true, SeqCst);
    let gone = (0..20).find(|page| access_counted(&space, at + page * PAGE, None).is_err());
    assert_eq!(access(&space, at + gone.expect("a swapped page") * PAGE, None), Err(FaultError::BusErr));
    store.broken.store(false, SeqCst);
    (0..20).for_each(|page| assert_eq!(access(&space, at + page * PAGE, None), Ok(7)));
    store.broken.store(true, SeqCst);
    assert_eq!(out(&space, 20), 0);
    assert_eq!((swap::totals().1, space.usage().rss_anon), (0, 20));
    store.broken.store(false, SeqCst);
    off(&[&space]);
}

#[test]
fn stores_race_with_going_out() {
    let (_turn, _store) = with_area(300);
    let space = space();
    let at = map_anonymous(&space, 64, RW);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2usize {
            let (space, stop) = (&space, &stop);
            scope.spawn(move || {
                let mut seen = [0u8; 64];
                let mut n = thread + 1;
                for _ in 0..6000 {
                    n = n.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    let page = (n >> 8) % 32 * 2 + thread;
                    let new = seen[page].wrapping_add(1);
                    assert_eq!(access(space, at + page * PAGE, Some(new)), Ok(seen[page]));
                    seen[page] = new;
                }
                stop.store(true, SeqCst);
            });
        }
        while !stop.load(SeqCst) {
            out(&space, 20);
            if let Ok(child) = space.fork() {
                let _ = access(&child, at, None);
            }
        }
    });
    check_counters(&space, false);
    off(&[&space]);
    drop(space);
    assert_eq!(swap::totals(), (0, 0));
}
