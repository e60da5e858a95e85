//! Files with a device behind them: reads on their way, dirty pages, write-back, errors, truncation.

mod common;

use abi::Errno;
use abi::mm::{MapFlags, Prot};
use common::disk::Disk;
use common::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use vm::{BackingDevice, FaultError, Readahead, SyncMode};

const P: u64 = PAGE as u64;

fn byte_at(mapping: &vm::Mapping, pos: u64) -> u8 {
    let mut byte = [0xff];
    assert_eq!(mapping.read_bytes(pos, &mut byte), Ok(1));
    byte[0]
}

#[test]
fn a_reader_waits_for_a_read_on_its_way() {
    let disk = Disk::new();
    disk.put(3, 33);
    let mapping = disk.mapping(10 * P);
    disk.slow.store(true, SeqCst);
    mapping.read_ahead(2 * P, 4 * P);
    assert_eq!((disk.reads.load(SeqCst), disk.queued()), (1, 4), "one run, nobody waited");
    assert!(mapping.find(3).is_none() && !mapping.is_cached(3));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| byte_at(&mapping, 3 * P));
        std::thread::sleep(std::time::Duration::from_millis(5));
        disk.complete_all();
        assert_eq!(reader.join().expect("reader"), 33);
    });
    assert_eq!(disk.reads.load(SeqCst), 1, "not read twice");
    assert_eq!(byte_at(&mapping, 4 * P), 0, "a hole");
}

#[test]
fn a_stream_is_read_ahead_in_runs() {
    let disk = Disk::new();
    let mapping = disk.mapping(200 * P);
    let ahead = Readahead::new();
    for page in 0..200 {
        let got = mapping.read_file(&ahead, page * P, PAGE, |_, _, len| Ok(len));
        assert_eq!(got, Ok(PAGE));
    }
    assert!(disk.reads.load(SeqCst) < 14, "{} requests", disk.reads.load(SeqCst));
    assert_eq!(mapping.cached_pages(), 200);
}

#[test]
fn a_failed_read_is_an_error_and_is_tried_again() {
    let disk = Disk::new();
    disk.put(1, 11);
    disk.bad.lock().expect("bad").insert(1);
    let mapping = disk.mapping(4 * P);
    mapping.read_ahead(0, 4 * P);
    assert_eq!(mapping.read_bytes(P, &mut [0]), Err(Errno::EIO));
    let space = space();
    let file = TestFile::on_disk(mapping.clone());
    let at = file.map(&space, 4, Prot::READ, MapFlags::SHARED);
    assert_eq!(access(&space, at + PAGE, None), Err(FaultError::BusErr));
    assert_eq!(access(&space, at, None), Ok(0));
    disk.bad.lock().expect("bad").clear();
    assert_eq!(access(&space, at + PAGE, None), Ok(11));
}

#[test]
fn written_bytes_reach_the_disk_by_fsync() {
    let disk = Disk::new();
    disk.put(0, 1);
    let mapping = disk.mapping(2 * P);
    let before = vm::stats::dirty_pages();
    mapping.write_bytes(P + 5, &[7; 10]).expect("write");
    mapping.write_bytes(5 * P, &[9]).expect("write far");
    assert_eq!((mapping.size(), disk.byte(5)), (5 * P + 1, 0));
    assert!(mapping.is_dirty());
    mapping.sync(0, u64::MAX).expect("sync");
    assert!(!mapping.is_dirty());
    assert_eq!((disk.byte(5), disk.blocks.lock().expect("blocks")[&1][5]), (9, 7));
    assert_eq!(disk.blocks.lock().expect("blocks").contains_key(&3), false, "a hole stays one");
    let _ = before;
}

#[test]
fn an_error_is_told_once_to_each_opener() {
    let disk = Disk::new();
    let mapping = disk.mapping(0);
    let (a, b) = (mapping.errors().sample(), mapping.errors().sample());
    mapping.write_bytes(0, &[1; 3 * PAGE]).expect("write");
    disk.bad.lock().expect("bad").insert(1);
    mapping.sync(0, u64::MAX).expect("submitting works");
    let late = mapping.errors().sample();
    assert_eq!(mapping.errors().check(&a), Err(Errno::EIO));
    assert_eq!(mapping.errors().check(&a), Ok(()));
    let later = mapping.errors().sample();
    assert_eq!(mapping.errors().check(&b), Err(Errno::EIO));
    assert_eq!(mapping.errors().check(&late), Err(Errno::EIO), "nobody had seen it");
    assert_eq!(mapping.errors().check(&later), Ok(()), "somebody had");
    mapping.write_bytes(P, &[1]).expect("write");
    mapping.sync(0, u64::MAX).expect("submitting works");
    assert_eq!(mapping.errors().check(&a), Err(Errno::EIO), "a new error is news again");
    assert_eq!((disk.byte(0), disk.byte(2)), (1, 1), "the others arrived");
}

#[test]
fn a_full_disk_refuses_writes_and_stores() {
    let disk = Disk::new();
    disk.put(0, 4);
    let mapping = disk.mapping(2 * P);
    disk.full.store(true, SeqCst);
    assert_eq!(mapping.write_bytes(0, &[1]), Err(Errno::ENOSPC));
    let space = space();
    let file = TestFile::on_disk(mapping.clone());
    let at = file.map(&space, 2, RW, MapFlags::SHARED);
    assert_eq!(access(&space, at, None), Ok(4));
    assert_eq!(access(&space, at, Some(5)), Err(FaultError::BusErr));
    assert!(!mapping.is_dirty());
    disk.full.store(false, SeqCst);
    assert_eq!(access(&space, at, Some(5)), Ok(4));
    assert!(mapping.is_dirty());
}

#[test]
fn stores_after_write_back_are_noticed() {
    let disk = Disk::new();
    let mapping = disk.mapping(4 * P);
    let (one, two) = (space(), space());
    let file = TestFile::on_disk(mapping.clone());
    let a = file.map(&one, 4, RW, MapFlags::SHARED);
    let b = file.map(&two, 4, RW, MapFlags::SHARED);
    for round in 1..4u8 {
        access(&one, a + PAGE, Some(round)).expect("store");
        access(&two, b + 2 * PAGE, Some(round + 10)).expect("store");
        mapping.sync(0, u64::MAX).expect("sync");
        assert_eq!((disk.byte(1), disk.byte(2)), (round, round + 10), "round {round}");
        assert!(!mapping.is_dirty());
        // A moved mapping is found, too.
        let to = vm::RemapRequest {
            addr: b,
            old_len: 4 * PAGE,
            new_len: 4 * PAGE,
            flags: abi::mm::RemapFlags::MAYMOVE | abi::mm::RemapFlags::FIXED,
            new_addr: b - 64 * PAGE,
        };
        if round == 1 {
            access(&two, b + 3 * PAGE, Some(99)).expect("store");
            two.mremap(&to, &vm::Unlimited).expect("mremap");
            access(&two, b - 64 * PAGE + 3 * PAGE, Some(100)).expect("store");
            mapping.sync(0, u64::MAX).expect("sync");
            assert_eq!(disk.byte(3), 100);
            access(&two, b - 64 * PAGE + 3 * PAGE, Some(101)).expect("store");
            assert!(mapping.is_dirty(), "noticed at the new place");
            mapping.sync(0, u64::MAX).expect("sync");
            file.map(&two, 1, RW, MapFlags::SHARED);
            let back = vm::RemapRequest { addr: b - 64 * PAGE, new_addr: b, ..to };
            two.mremap(&back, &vm::Unlimited).expect("mremap");
        }
    }
}

#[test]
fn what_changes_on_its_way_is_written_again() {
    let disk = Disk::new();
    let mapping = disk.mapping(P);
    disk.slow.store(true, SeqCst);
    std::thread::scope(|scope| {
        let serve = disk.serve();
        mapping.write_bytes(0, &[1]).expect("write");
        assert_eq!(mapping.write_back(0, u64::MAX, SyncMode::None, u64::MAX), Ok(1));
        mapping.write_bytes(0, &[2]).expect("write");
        assert!(mapping.is_dirty());
        scope.spawn(|| mapping.sync(0, u64::MAX).expect("sync")).join().expect("sync");
        assert_eq!(disk.byte(0), 2);
        disk.stop();
        serve.join().expect("server");
    });
}

#[test]
fn truncation_waits_for_write_back_and_forgets_the_rest() {
    let disk = Disk::new();
    let mapping = disk.mapping(0);
    mapping.write_bytes(0, &[5; 6 * PAGE]).expect("write");
    disk.slow.store(true, SeqCst);
    mapping.write_back(0, 3 * P, SyncMode::None, u64::MAX).expect("write-back");
    assert_eq!(disk.queued(), 3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            mapping.truncate(P + 100);
            done.store(true, SeqCst);
        });
        std::thread::sleep(std::time::Duration::from_millis(10));
        assert!(!done.load(SeqCst), "two pages beyond the new end are on their way");
        disk.complete_all();
    });
    assert_eq!(mapping.cached_pages(), 2);
    disk.slow.store(false, SeqCst);
    mapping.sync(0, u64::MAX).expect("sync");
    let blocks = disk.blocks.lock().expect("blocks");
    assert!(!blocks.contains_key(&4) && blocks[&1][99] == 5);
    drop(blocks);
    mapping.truncate(2 * P);
    assert_eq!((byte_at(&mapping, P + 99), byte_at(&mapping, P + 100)), (5, 0), "the tail is zero");
}

#[test]
fn what_was_stored_behind_the_end_is_not_in_the_file() {
    let disk = Disk::new();
    let mapping = disk.mapping(10);
    let space = space();
    let file = TestFile::on_disk(mapping.clone());
    let at = file.map(&space, 1, RW, MapFlags::SHARED);
    access(&space, at + 50, Some(77)).expect("store");
    mapping.sync(0, u64::MAX).expect("sync");
    mapping.write_bytes(100, &[1]).expect("write");
    assert_eq!(byte_at(&mapping, 50), 0);
    // And from the disk: bytes behind the end are whatever the device has.
    let other = disk.mapping(10);
    assert_eq!(other.find(0).is_none(), true);
    let mut bytes = [1; 10];
    other.read_bytes(0, &mut bytes).expect("read");
    other.write_bytes(200, &[1]).expect("write");
    assert_eq!(byte_at(&other, 50), 0);
}

#[test]
fn direct_io_finds_no_stale_page() {
    let disk = Disk::new();
    let mapping = disk.mapping(4 * P);
    let space = space();
    let file = TestFile::on_disk(mapping.clone());
    let at = file.map(&space, 4, RW, MapFlags::SHARED);
    access(&space, at + PAGE, Some(1)).expect("store");
    mapping.flush_range(0, 4 * P).expect("flush");
    assert_eq!(disk.byte(1), 1);
    disk.put(1, 2);
    mapping.invalidate_range(0, 4 * P).expect("invalidate");
    assert_eq!(access(&space, at + PAGE, None), Ok(2));
    let held = mapping.find(1).expect("cached");
    assert_eq!(mapping.invalidate_range(0, 4 * P), Err(Errno::EBUSY));
    drop(held);
    assert_eq!(access(&space, at + PAGE, None), Ok(2));
    mapping.drop_clean(0, u64::MAX);
    assert_eq!(mapping.cached_pages(), 1, "all but the mapped one went");
    check_counters(&space, false);
}

#[test]
fn the_flusher_writes_when_asked_and_keeps_the_owner_until_then() {
    let device = BackingDevice::new("test").expect("device");
    let disk = Disk::new();
    *disk.device.lock().expect("device") = Some(device.clone());
    let mappings: Vec<_> = (0..5).map(|_| disk.mapping(0)).collect();
    for mapping in &mappings {
        mapping.write_bytes(0, &[3; 2 * PAGE]).expect("write");
    }
    device.sync(true);
    assert!(mappings.iter().all(|mapping| !mapping.is_dirty()));
    assert_eq!(disk.byte(1), 3);
    drop(mappings);
    device.sync(true);
    device.stop();
}

#[test]
fn readers_writers_truncation_and_flushers_at_once() {
    let disk = Disk::new();
    let server = disk.serve();
    let mapping = disk.mapping(32 * P);
    let file = TestFile::on_disk(mapping.clone());
    let inode = std::sync::Mutex::new(());
    let stop = Arc::new(AtomicBool::new(false));
    let space = space();
    let at = file.map(&space, 32, RW, MapFlags::SHARED);
    std::thread::scope(|scope| {
        let stop = &stop;
        let (mapping, space, inode) = (&mapping, &space, &inode);
        scope.spawn(move || {
            for round in 0..400u64 {
                let _lock = inode.lock().expect("inode");
                match round % 9 {
                    0 => mapping.truncate((round % 31) * P + 7),
                    1 => mapping.truncate(32 * P),
                    _ => drop(mapping.write_bytes((round * 7 % 32) * P + 3, &[round as u8; 5000])),
                }
            }
            stop.store(true, SeqCst);
        });
        scope.spawn(move || {
            let mut n = 0usize;
            while !stop.load(SeqCst) {
                n = n.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                let _ = access(space, at + (n >> 8) % 32 * PAGE, (n & 64 == 0).then_some(n as u8));
            }
        });
        scope.spawn(move || {
            while !stop.load(SeqCst) {
                mapping.sync(0, u64::MAX).expect("sync");
                mapping.drop_clean(0, u64::MAX);
            }
        });
    });
    mapping.sync(0, u64::MAX).expect("sync");
    assert!(!mapping.is_dirty());
    let size = mapping.size();
    for page in 0..size / P {
        let cached = byte_at(&mapping, page * P);
        assert_eq!(cached, disk.byte(page), "page {page}");
    }
    disk.stop();
    server.join().expect("server");
    check_counters(&space, false);
}
