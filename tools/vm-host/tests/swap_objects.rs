//! Pages of memory objects (tmpfs, shared anonymous memory) that go to a device and come back.

mod common;

use abi::Errno;
use abi::errno::Result;
use abi::mm::MapFlags;
use common::store::{AREA, Store};
use common::*;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};
use vm::swap::{self, swap_out_objects};
use vm::{CacheKind, Fault, Mapping, MappingOps};

const P: u64 = PAGE as u64;

/// How many pages an object is charged for.
#[derive(Default)]
struct Charged(AtomicI64);

impl MappingOps for Charged {
    fn charge(&self, pages: u64) -> Result<()> {
        self.0.fetch_add(pages as i64, SeqCst);
        Ok(())
    }

    fn uncharge(&self, pages: u64) {
        self.0.fetch_sub(pages as i64, SeqCst);
    }
}

fn with_area(slots: u32) -> (MutexGuard<'static, ()>, Arc<Store>) {
    common::store::with_area(slots, &[])
}

fn off() {
    swap::swap_off(AREA, Vec::new).expect("swapoff");
    assert_eq!(swap::totals(), (0, 0));
}

fn out(pages: usize) -> usize {
    swap_out_objects(pages, &mut 10_000)
}

fn object(size: u64) -> (Arc<Mapping>, Arc<Charged>) {
    let charged = Arc::new(Charged::default());
    (Mapping::new(CacheKind::Memory, size, charged.clone()), charged)
}

fn byte(mapping: &Mapping, at: u64) -> u8 {
    let mut bytes = [0];
    assert_eq!(mapping.read_bytes(at, &mut bytes), Ok(1));
    bytes[0]
}

#[test]
fn a_file_in_memory_goes_and_comes_back() {
    let (_turn, store) = with_area(100);
    let (mapping, charged) = object(0);
    (0..50u64).for_each(|page| {
        mapping.write_bytes(page * P, &[page as u8 + 1; PAGE]).expect("write");
    });
    let before = (mem::live_folios(), vm::stats::snapshot().shmem);
    // The first round forgets the writes.
    assert_eq!(out(30), 30);
    assert_eq!(before.0 - mem::live_folios(), 30, "the memory is free");
    assert_eq!(before.1 - vm::stats::snapshot().shmem, 30, "Shmem is what is in memory");
    assert_eq!((mapping.cached_pages(), mapping.held_pages(), charged.0.load(SeqCst)), (20, 50, 50));
    assert_eq!(swap::totals().1, 30);
    assert_eq!(mapping.seek(0, true), Some(0));
    assert_eq!(mapping.seek(0, false), Some(50 * P), "what is in swap is no hole");
    (0..50u64).for_each(|page| assert_eq!(byte(&mapping, page * P + 7), page as u8 + 1));
    assert_eq!((swap::totals().1, store.pages.lock().expect("pages").len()), (0, 0));
    assert_eq!((mapping.cached_pages(), charged.0.load(SeqCst)), (50, 50));
    off();
}

#[test]
fn writes_truncation_and_holes_meet_pages_in_swap() {
    let (_turn, store) = with_area(100);
    let (mapping, charged) = object(0);
    mapping.write_bytes(0, &vec![7; 40 * PAGE]).expect("write");
    assert_eq!(out(40), 40);
    mapping.write_bytes(3 * P + 10, &[9; 5]).expect("a part of a page");
    assert_eq!((byte(&mapping, 3 * P + 9), byte(&mapping, 3 * P + 14)), (7, 9));
    mapping.write_bytes(4 * P, &[8; PAGE]).expect("a whole page");
    assert_eq!((byte(&mapping, 4 * P), byte(&mapping, 5 * P)), (8, 7));
    assert_eq!(charged.0.load(SeqCst), 40);
    mapping.punch_hole(10 * P + 100, 14 * P);
    assert_eq!(
        (byte(&mapping, 10 * P + 99), byte(&mapping, 10 * P + 100), byte(&mapping, 12 * P)),
        (7, 0, 0)
    );
    assert_eq!((charged.0.load(SeqCst), mapping.held_pages()), (37, 37));
    mapping.truncate(20 * P + 5);
    mapping.truncate(40 * P);
    assert_eq!((byte(&mapping, 20 * P + 4), byte(&mapping, 20 * P + 5), byte(&mapping, 30 * P)), (7, 0, 0));
    assert_eq!(charged.0.load(SeqCst), 18);
    assert_eq!(out(5), 5);
    drop(mapping);
    assert_eq!(charged.0.load(SeqCst), 0);
    assert_eq!((swap::totals().1, store.pages.lock().expect("pages").len()), (0, 0));
    off();
}

#[test]
fn mapped_pages_go_when_they_are_not_used() {
    let (_turn, _store) = with_area(200);
    let (one, two) = (space(), space());
    let file = TestFile::memory(64 * PAGE);
    let a = file.map(&one, 64, RW, MapFlags::SHARED);
    let b = file.map(&two, 64, RW, MapFlags::SHARED);
    for page in 0..64 {
        access(&one, a + page * PAGE, Some(page as u8 + 1)).expect("store");
        assert_eq!(access(&two, b + page * PAGE, None), Ok(page as u8 + 1));
    }
    assert_eq!(swap_out_objects(64, &mut 64), 0, "the first round forgets accesses");
    assert_eq!(out(64), 64);
    assert_eq!((one.usage().rss_shmem, two.usage().rss_shmem), (0, 0));
    let (byte, faults) = access_counted(&two, b + 5 * PAGE, Some(99)).expect("store");
    assert!(byte == 6 && faults.contains(&Fault::Major));
    assert_eq!(access(&one, a + 5 * PAGE, None), Ok(99), "one page for both");
    one.mlock(a + 10 * PAGE, 10 * PAGE, false, &vm::Unlimited).expect("mlock");
    while out(64) > 0 {}
    assert_eq!(swap::totals().1, 54, "locked pages stay");
    for page in 0..64 {
        let wanted = if page == 5 { 99 } else { page as u8 + 1 };
        assert_eq!(access(&one, a + page * PAGE, None), Ok(wanted));
    }
    check_counters(&one, true);
    off();
}

#[test]
fn swapoff_brings_objects_back_and_a_broken_area_loses_nothing() {
    let (_turn, store) = with_area(10);
    let (mapping, _) = object(0);
    mapping.write_bytes(0, &vec![5; 20 * PAGE]).expect("write");
    assert_eq!(out(20), 9, "ten slots, one the header's");
    store.broken.store(true, SeqCst);
    assert_eq!(swap::swap_off(AREA, Vec::new), Err(Errno::EIO));
    let mut bytes = vec![0; 20 * PAGE];
    assert!(mapping.read_bytes(0, &mut bytes) != Ok(20 * PAGE));
    store.broken.store(false, SeqCst);
    assert_eq!(swap::swap_off(AREA, Vec::new), Ok(()));
    assert_eq!(mapping.cached_pages(), 20);
    assert_eq!(mapping.read_bytes(0, &mut bytes), Ok(20 * PAGE));
    assert!(bytes.iter().all(|byte| *byte == 5));
}

#[test]
fn stores_and_truncation_race_with_going_out() {
    let (_turn, _store) = with_area(300);
    let space = space();
    let file = TestFile::memory(64 * PAGE);
    let at = file.map(&space, 64, RW, MapFlags::SHARED);
    let (cut, charged) = object(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2usize {
            let (space, stop, file) = (&space, &stop, &file);
            scope.spawn(move || {
                let mut seen = [0u8; 64];
                let mut n = thread + 1;
                for round in 0..6000 {
                    n = n.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    let page = (n >> 8) % 32 * 2 + thread;
                    let new = seen[page].wrapping_add(1);
                    if round % 5 == 0 {
                        file.mapping.write_bytes(page as u64 * P, &[new]).expect("write");
                    } else {
                        assert_eq!(access(space, at + page * PAGE, Some(new)), Ok(seen[page]));
                    }
                    seen[page] = new;
                }
                stop.store(true, SeqCst);
            });
        }
        let (cut, stopped) = (&cut, &stop);
        scope.spawn(move || {
            while !stopped.load(SeqCst) {
                cut.write_bytes(0, &[3; 8 * PAGE]).expect("write");
                cut.truncate(2 * P + 1);
                cut.truncate(8 * P);
                assert_eq!((byte(cut, 2 * P), byte(cut, 2 * P + 1), byte(cut, 5 * P)), (3, 0, 0));
            }
        });
        while !stop.load(SeqCst) {
            out(20);
        }
    });
    assert_eq!(cut.held_pages() as i64, charged.0.load(SeqCst));
    check_counters(&space, true);
    off();
}
