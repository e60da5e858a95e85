//! What each call of the mmap family does, one case at a time.

mod common;

use abi::Errno;
use abi::mm::{LockAllFlags, MapFlags, Prot, RemapFlags, SyncFlags, madv};
use arch::Access;
use common::*;
use vm::{Fault, FaultError, RemapRequest, Unlimited};

const ANON: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

fn remap(addr: usize, old: usize, new: usize, flags: RemapFlags, to: usize) -> RemapRequest {
    RemapRequest { addr, old_len: old * PAGE, new_len: new * PAGE, flags, new_addr: to }
}

#[test]
fn first_touch_is_zero_and_counts_one_page() {
    let space = space();
    let at = map_anonymous(&space, 4, RW);
    assert_eq!(access_counted(&space, at, None), Ok((0, vec![Fault::Minor])));
    assert_eq!(space.usage().rss_anon, 0, "the zero page is nobody's");
    assert_eq!(access(&space, at, Some(7)), Ok(0));
    assert_eq!(access_counted(&space, at, None), Ok((7, vec![])));
    assert_eq!(access_counted(&space, at + PAGE, Some(1)), Ok((0, vec![Fault::Minor])));
    assert_eq!(space.usage().rss_anon, 2);
    check_counters(&space, false);
}

#[test]
fn rights_are_kept() {
    let space = space();
    let at = map_anonymous(&space, 3, Prot::READ);
    assert_eq!(access(&space, at, Some(1)), Err(FaultError::AccErr));
    assert_eq!(space.handle_fault(at, Access::Exec, &Unlimited), Err(FaultError::AccErr));
    assert_eq!(access(&space, at - PAGE, None), Err(FaultError::MapErr));
    space.mprotect(at, PAGE, RW, &Unlimited).expect("mprotect");
    assert_eq!(access(&space, at, Some(9)), Ok(0));
    space.mprotect(at, PAGE, Prot::empty(), &Unlimited).expect("mprotect");
    assert_eq!(access(&space, at, None), Err(FaultError::AccErr));
    space.mprotect(at, PAGE, Prot::READ, &Unlimited).expect("mprotect");
    assert_eq!(access(&space, at, None), Ok(9));
    assert_eq!(access(&space, at, Some(1)), Err(FaultError::AccErr));
}

#[test]
fn fork_copies_on_write_and_reuses_the_last_copy() {
    let parent = space();
    let at = map_anonymous(&parent, 2, RW);
    access(&parent, at, Some(5)).expect("write");
    let child = parent.fork().expect("fork");
    assert_eq!(access(&child, at, None), Ok(5));
    assert_eq!(access(&child, at, Some(6)), Ok(5));
    assert_eq!(access(&parent, at, None), Ok(5));
    let before = mem::live_folios();
    assert_eq!(access(&parent, at, Some(8)), Ok(5));
    let _ = before;
    assert_eq!(access(&child, at, None), Ok(6));
    check_counters(&parent, false);
    check_counters(&child, false);
    drop(child);
    assert_eq!(access(&parent, at, None), Ok(8));
}

#[test]
fn shared_memory_is_shared_with_a_child() {
    let parent = space();
    let flags = MapFlags::SHARED | MapFlags::ANONYMOUS;
    let at = parent.mmap(&request(0, 4 * PAGE, RW, flags), &Unlimited).expect("mmap");
    access(&parent, at, Some(1)).expect("write");
    let child = parent.fork().expect("fork");
    access(&child, at + PAGE, Some(2)).expect("write");
    access(&child, at, Some(3)).expect("write");
    assert_eq!(access(&parent, at, None), Ok(3));
    assert_eq!(access(&parent, at + PAGE, None), Ok(2));
    assert_eq!(access(&parent, at + 3 * PAGE, None), Ok(0));
    check_counters(&parent, true);
    check_counters(&child, true);
}

#[test]
fn dontfork_and_wipeonfork() {
    let parent = space();
    let at = map_anonymous(&parent, 4, RW);
    for page in 0..4 {
        access(&parent, at + page * PAGE, Some(1)).expect("write");
    }
    parent.madvise(at, PAGE, madv::DONTFORK).expect("madvise");
    parent.madvise(at + PAGE, PAGE, madv::WIPEONFORK).expect("madvise");
    let child = parent.fork().expect("fork");
    assert_eq!(access(&child, at, None), Err(FaultError::MapErr));
    assert_eq!(access(&child, at + PAGE, None), Ok(0));
    assert_eq!(access(&child, at + 2 * PAGE, None), Ok(1));
    assert_eq!(child.usage().total, 3);
    check_counters(&child, false);
}

#[test]
fn files_are_read_around_and_end() {
    let space = space();
    let file = TestFile::backed(40);
    let at = file.map(&space, 41, Prot::READ, MapFlags::PRIVATE);
    assert_eq!(access_counted(&space, at, None), Ok((1, vec![Fault::Major])));
    file.mapping.read_ahead(0, (10 * PAGE) as u64);
    assert_eq!(access_counted(&space, at + 5 * PAGE, None), Ok((6, vec![Fault::Minor])));
    assert_eq!(access_counted(&space, at + 9 * PAGE, None), Ok((10, vec![])), "mapped around");
    assert_eq!(access(&space, at + 13 * PAGE, None), Err(FaultError::BusErr), "cannot be read");
    assert_eq!(access(&space, at + 40 * PAGE, None), Err(FaultError::BusErr), "beyond the end");
    check_counters(&space, false);
}

#[test]
fn private_file_pages_are_copied() {
    let space = space();
    let file = TestFile::backed(4);
    let at = file.map(&space, 4, RW, MapFlags::PRIVATE);
    assert_eq!(access(&space, at, None), Ok(1));
    assert_eq!(access(&space, at, Some(77)), Ok(1));
    assert_eq!(access(&space, at + PAGE, Some(78)), Ok(2));
    let mut byte = [0];
    file.mapping.read_bytes(0, &mut byte).expect("read");
    assert_eq!(byte, [1]);
    let child = space.fork().expect("fork");
    assert_eq!(access(&child, at, None), Ok(77));
    assert_eq!(access(&child, at + PAGE, None), Ok(78));
    assert_eq!(access(&child, at + 2 * PAGE, None), Ok(3));
    check_counters(&space, false);
    check_counters(&child, false);
    assert_eq!(space.usage().rss_anon, 2);
}

#[test]
fn shared_file_writes_reach_the_file() {
    let space = space();
    let file = TestFile::backed(4);
    let at = file.map(&space, 4, RW, MapFlags::SHARED);
    assert_eq!(access(&space, at + 10, None), Ok(1));
    assert_eq!(access(&space, at + 10, Some(99)), Ok(1));
    let mut bytes = [0; 2];
    file.mapping.read_bytes(10, &mut bytes).expect("read");
    assert_eq!(bytes, [99, 1]);
    assert!(file.mapping.find(0).expect("cached").dirty());
    file.mapping.write_bytes(20, &[55]).expect("write");
    assert_eq!(access(&space, at + 20, None), Ok(55));
    check_counters(&space, false);
}

#[test]
fn truncation_unmaps_copies_too_and_zeroes_the_tail() {
    let space = space();
    let file = TestFile::backed(4);
    let at = file.map(&space, 4, RW, MapFlags::PRIVATE);
    for page in 0..4 {
        access(&space, at + page * PAGE, Some(50)).expect("write");
    }
    access(&space, at, None).expect("read");
    let shared = file.map(&space, 4, RW, MapFlags::SHARED);
    access(&space, shared + PAGE + 100, None).expect("read");
    file.mapping.truncate(PAGE as u64 + 50);
    assert_eq!(access(&space, at + 2 * PAGE, None), Err(FaultError::BusErr));
    assert_eq!(access(&space, at + PAGE, None), Ok(50), "a private copy keeps its bytes");
    assert_eq!(access(&space, shared + PAGE + 49, None), Ok(2));
    assert_eq!(access(&space, shared + PAGE + 50, None), Ok(0));
    check_counters(&space, false);
    assert_eq!(file.mapping.cached_pages(), 2);
}

#[test]
fn punching_leaves_private_copies() {
    let space = space();
    let file = TestFile::memory(4 * PAGE);
    file.mapping.write_bytes(0, &[9; 4 * PAGE]).expect("write");
    let private = file.map(&space, 4, RW, MapFlags::PRIVATE);
    let shared = file.map(&space, 4, RW, MapFlags::SHARED);
    access(&space, private + PAGE, Some(8)).expect("write");
    access(&space, shared + PAGE, None).expect("read");
    space.madvise(shared + PAGE, PAGE, madv::REMOVE).expect("remove");
    assert_eq!(access(&space, private + PAGE, None), Ok(8));
    assert_eq!(access(&space, shared + PAGE, None), Ok(0));
    assert_eq!(access(&space, shared, None), Ok(9));
    check_counters(&space, true);
    file.mapping.punch_hole(10, 20);
    assert_eq!(access(&space, shared + 9, None), Ok(9));
    assert_eq!(access(&space, shared + 10, None), Ok(0));
    assert_eq!(access(&space, shared + 20, None), Ok(9));
}

#[test]
fn brk_grows_shrinks_and_refuses() {
    let space = space();
    let start = 0x40_0000;
    space.set_heap_start(start);
    assert_eq!(space.brk(0, &Unlimited), start);
    assert_eq!(space.brk(start + 10_000, &Unlimited), start + 10_000);
    assert_eq!(access(&space, start + 9_999, Some(1)), Ok(0));
    assert_eq!(space.brk(start + 10, &Unlimited), start + 10);
    assert_eq!(access(&space, start + 9_999, None), Err(FaultError::MapErr));
    let small = Small { data: 8192, ..Small::default() };
    assert_eq!(space.brk(start + 10_000, &small), start + 10, "RLIMIT_DATA");
    let wall = request(start + 16 * PAGE, PAGE, RW, ANON | MapFlags::FIXED);
    space.mmap(&wall, &Unlimited).expect("mmap");
    assert_eq!(space.brk(start + 16 * PAGE, &Unlimited), start + 10, "a page of distance");
    assert_eq!(space.brk(start + 15 * PAGE, &Unlimited), start + 15 * PAGE);
    let mut text = String::new();
    all_areas(|from| space.write_map(from, &mut text));
    assert!(
        text.contains("00400000-0040f000 rw-p 00000000 00:00 0                                  [heap]\n"),
        "{text}"
    );
}

#[test]
fn the_stack_grows_to_its_limit_and_keeps_a_gap() {
    let space = space();
    let top = space.map_stack(128 * 1024, false).expect("stack");
    assert_eq!(access(&space, top - 8, Some(1)), Ok(0));
    assert_eq!(access(&space, top - 1024 * 1024, Some(1)), Ok(0));
    let small = Small { stack: 4 << 20, ..Small::default() };
    let low = top - (5 << 20);
    assert_eq!(space.handle_fault(low, Access::Write, &small), Err(FaultError::MapErr));
    assert_eq!(space.handle_fault(low, Access::Write, &Unlimited), Ok(Fault::Minor));
    let wall = request(top - (16 << 20), PAGE, RW, ANON | MapFlags::FIXED);
    space.mmap(&wall, &Unlimited).expect("mmap");
    let near = top - (16 << 20) + 100 * PAGE;
    assert_eq!(access(&space, near, Some(1)), Err(FaultError::MapErr), "guard gap");
    assert_eq!(access(&space, near + 200 * PAGE, Some(1)), Ok(0));
    assert!(space.usage().stack > 3000);
}

#[test]
fn errors_are_those_of_linux() {
    let space = space();
    let small = Small::default();
    let top = arch::mmu::user_top();
    let fixed = ANON | MapFlags::FIXED;
    let cases = [
        (request(0, 0, RW, ANON), Errno::EINVAL),
        (request(0, usize::MAX, RW, ANON), Errno::ENOMEM),
        (request(0, top + PAGE, RW, ANON), Errno::ENOMEM),
        (request(1, PAGE, RW, fixed), Errno::EINVAL),
        (request(top, PAGE, RW, fixed), Errno::ENOMEM),
        (request(PAGE, PAGE, RW, fixed), Errno::EPERM),
        (request(0, PAGE, RW, MapFlags::ANONYMOUS), Errno::EINVAL),
        (request(0, PAGE, RW, ANON | MapFlags::SHARED), Errno::EINVAL),
        (request(0, PAGE, RW, ANON | MapFlags::HUGETLB), Errno::ENOMEM),
        (vm::MapRequest { offset: 1, ..request(0, PAGE, RW, ANON) }, Errno::EINVAL),
    ];
    for (i, (request, errno)) in cases.iter().enumerate() {
        assert_eq!(space.mmap(request, &small), Err(*errno), "case {i}");
    }
    let at = map_anonymous(&space, 4, RW);
    let noreplace = request(at, PAGE, RW, ANON | MapFlags::FIXED_NOREPLACE);
    assert_eq!(space.mmap(&noreplace, &small), Err(Errno::EEXIST));
    assert_eq!(space.munmap(at + 1, PAGE), Err(Errno::EINVAL));
    assert_eq!(space.munmap(at, 0), Err(Errno::EINVAL));
    assert_eq!(space.munmap(top, PAGE), Err(Errno::EINVAL));
    assert_eq!(space.munmap(0x10_0000, PAGE), Ok(()), "nothing there");
    assert_eq!(space.mprotect(at + 1, PAGE, RW, &small), Err(Errno::EINVAL));
    assert_eq!(space.mprotect(at, 0, RW, &small), Ok(()));
    assert_eq!(space.mprotect(at, 5 * PAGE, Prot::READ, &small), Err(Errno::ENOMEM), "a hole");
    assert_eq!(access(&space, at, Some(1)), Err(FaultError::AccErr), "changed up to it");
    assert_eq!(space.madvise(at, PAGE, 77), Err(Errno::EINVAL));
    assert_eq!(space.madvise(at + 1, PAGE, madv::NORMAL), Err(Errno::EINVAL));
    assert_eq!(space.madvise(at + 3 * PAGE, 2 * PAGE, madv::DONTNEED), Err(Errno::ENOMEM));
    assert_eq!(space.msync(at, PAGE, SyncFlags::ASYNC | SyncFlags::SYNC), Err(Errno::EINVAL));
    assert_eq!(space.msync(at, 5 * PAGE, SyncFlags::SYNC), Err(Errno::ENOMEM));
    assert_eq!(space.mlock(at, 5 * PAGE, false, &small), Err(Errno::ENOMEM));
    assert_eq!(space.mlockall(LockAllFlags::empty(), &small), Err(Errno::EINVAL));
    let poor = Small { memlock: 0, ..small };
    assert_eq!(space.mlock(at, PAGE, false, &poor), Err(Errno::EPERM));
    let limited = Small { address_space: 8 * PAGE as u64, ..small };
    assert_eq!(space.mmap(&request(0, 8 * PAGE, RW, ANON), &limited), Err(Errno::ENOMEM));
}

#[test]
fn mprotect_of_a_read_only_shared_file_is_refused() {
    let space = space();
    let mapping = TestFile::memory(PAGE).mapping.clone();
    let file = std::sync::Arc::new(TestFile { mapping, writable: false });
    let at = file.map(&space, 1, Prot::READ, MapFlags::SHARED);
    assert_eq!(space.mprotect(at, PAGE, RW, &Unlimited), Err(Errno::EACCES));
    let private = file.map(&space, 1, Prot::READ, MapFlags::PRIVATE);
    assert_eq!(space.mprotect(private, PAGE, RW, &Unlimited), Ok(()));
}

#[test]
fn mremap_grows_shrinks_moves_and_duplicates() {
    let space = space();
    let at = map_anonymous(&space, 4, RW);
    for page in 0..4 {
        access(&space, at + page * PAGE, Some(page as u8 + 1)).expect("write");
    }
    assert_eq!(space.mremap(&remap(at, 4, 2, RemapFlags::empty(), 0), &Unlimited), Ok(at));
    assert_eq!(access(&space, at + 2 * PAGE, None), Err(FaultError::MapErr));
    assert_eq!(space.mremap(&remap(at, 2, 3, RemapFlags::empty(), 0), &Unlimited), Ok(at), "in place");
    assert_eq!(access(&space, at + 2 * PAGE, None), Ok(0));
    let wall = request(at + 3 * PAGE, PAGE, Prot::READ, ANON | MapFlags::FIXED);
    space.mmap(&wall, &Unlimited).expect("mmap");
    assert_eq!(space.mremap(&remap(at, 3, 9, RemapFlags::empty(), 0), &Unlimited), Err(Errno::ENOMEM));
    let to = space.mremap(&remap(at, 3, 9, RemapFlags::MAYMOVE, 0), &Unlimited).expect("move");
    assert_ne!(to, at);
    assert_eq!(access(&space, at, None), Err(FaultError::MapErr));
    assert_eq!(access(&space, to + PAGE, None), Ok(2));
    assert_eq!(access(&space, to + 8 * PAGE, Some(1)), Ok(0));
    check_counters(&space, false);
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    assert_eq!(space.mremap(&remap(to, 9, 9, flags, 0x100_0000), &Unlimited), Ok(0x100_0000));
    assert_eq!(access(&space, 0x100_0000 + PAGE, None), Ok(2));
    let flags = RemapFlags::MAYMOVE | RemapFlags::DONTUNMAP;
    let kept = space.mremap(&remap(0x100_0000, 9, 9, flags, 0), &Unlimited).expect("dontunmap");
    assert_eq!(access(&space, kept + PAGE, None), Ok(2));
    assert_eq!(access(&space, 0x100_0000 + PAGE, None), Ok(0));
    let file = TestFile::memory(2 * PAGE);
    let shared = file.map(&space, 2, RW, MapFlags::SHARED);
    access(&space, shared, Some(42)).expect("write");
    let second = space.mremap(&remap(shared, 0, 2, RemapFlags::MAYMOVE, 0), &Unlimited).expect("duplicate");
    assert_eq!(access(&space, second, None), Ok(42));
    assert_eq!(space.mremap(&remap(kept, 0, 2, RemapFlags::MAYMOVE, 0), &Unlimited), Err(Errno::EINVAL));
    assert_eq!(space.mremap(&remap(0x5000, 1, 2, RemapFlags::MAYMOVE, 0), &Unlimited), Err(Errno::EFAULT));
}

#[test]
fn advice_gives_pages_back_and_populates() {
    let space = space();
    let at = map_anonymous(&space, 4, RW);
    space.madvise(at, 4 * PAGE, madv::POPULATE_WRITE).expect("populate");
    assert_eq!(space.usage().rss_anon, 4);
    access(&space, at, Some(1)).expect("write");
    space.madvise(at, 2 * PAGE, madv::DONTNEED).expect("dontneed");
    assert_eq!(space.usage().rss_anon, 2);
    assert_eq!(access(&space, at, None), Ok(0));
    space.madvise(at, 4 * PAGE, madv::FREE).expect("free");
    assert_eq!(space.usage().rss_anon, 0);
    assert_eq!(space.usage().peak_rss, 4);
    space.mlock(at, PAGE, false, &Unlimited).expect("mlock");
    assert_eq!(space.usage().locked, 1);
    assert_eq!(space.usage().rss_anon, 1);
    assert_eq!(space.madvise(at, PAGE, madv::DONTNEED), Err(Errno::EINVAL));
    space.madvise(at, PAGE, madv::DONTNEED_LOCKED).expect("dontneed");
    space.munlockall();
    assert_eq!(space.usage().locked, 0);
    let mut seen = [9; 4];
    access(&space, at + 2 * PAGE, Some(1)).expect("write");
    space.mincore(at, &mut seen).expect("mincore");
    assert_eq!(seen, [0, 0, 1, 0]);
    let eager = request(0, 3 * PAGE, RW, ANON | MapFlags::POPULATE);
    let before = space.usage().rss_anon;
    space.mmap(&eager, &Unlimited).expect("mmap");
    assert_eq!(space.usage().rss_anon, before + 3);
}

#[test]
fn mlockall_future_locks_what_comes() {
    let space = space();
    let small = Small { memlock: 4 * PAGE as u64, ..Small::default() };
    space.mlockall(LockAllFlags::CURRENT | LockAllFlags::FUTURE, &small).expect("mlockall");
    let at = space.mmap(&request(0, 2 * PAGE, RW, ANON), &small).expect("mmap");
    assert_eq!(space.usage().locked, 2);
    assert_eq!(space.usage().rss_anon, 2);
    assert_eq!(space.mmap(&request(0, 3 * PAGE, RW, ANON), &small), Err(Errno::EAGAIN));
    space.munmap(at, 2 * PAGE).expect("munmap");
    assert_eq!(space.usage().locked, 0);
}

#[test]
fn remote_access_copies_and_forces() {
    let parent = space();
    let at = map_anonymous(&parent, 2, RW);
    assert_eq!(parent.write_remote(at + PAGE - 2, &[1, 2, 3, 4], false), 4);
    let mut bytes = [0; 4];
    assert_eq!(parent.read_remote(at + PAGE - 2, &mut bytes, false), 4);
    assert_eq!(bytes, [1, 2, 3, 4]);
    assert_eq!(parent.write_remote(at + 2 * PAGE - 2, &[1; 4], false), 2, "up to the end");
    let file = TestFile::memory(PAGE);
    file.mapping.write_bytes(0, &[7; 16]).expect("write");
    let text = file.map(&parent, 1, Prot::READ | Prot::EXEC, MapFlags::PRIVATE);
    assert_eq!(parent.write_remote(text, &[9], false), 0);
    assert_eq!(parent.write_remote(text, &[9], true), 1, "a breakpoint");
    assert_eq!(access(&parent, text, None), Ok(9));
    assert_eq!(access(&parent, text, Some(1)), Err(FaultError::AccErr));
    file.mapping.read_bytes(0, &mut bytes).expect("read");
    assert_eq!(bytes, [7; 4]);
    let child = parent.fork().expect("fork");
    assert_eq!(child.write_remote(text, &[10], true), 1);
    assert_eq!(access(&parent, text, None), Ok(9));
    assert_eq!(access(&child, text, None), Ok(10));
    assert_eq!(parent.clear_remote(at, 2 * PAGE), 2 * PAGE);
    assert_eq!(access(&parent, at + PAGE, None), Ok(0));
    parent.mprotect(at, PAGE, Prot::empty(), &Unlimited).expect("mprotect");
    assert_eq!(parent.read_remote(at, &mut bytes, false), 0);
    assert_eq!(parent.read_remote(at, &mut bytes, true), 4);
    check_counters(&parent, true);
}

#[test]
fn the_text_of_maps_and_statm() {
    let space = space();
    let file = TestFile::memory(3 * PAGE);
    let request = vm::MapRequest {
        file: Some(file),
        offset: PAGE as u64,
        ..request(0x1000_0000, 2 * PAGE, Prot::READ | Prot::EXEC, MapFlags::PRIVATE | MapFlags::FIXED)
    };
    space.mmap(&request, &Unlimited).expect("mmap");
    access(&space, 0x1000_0000, None).expect("read");
    let mut text = String::new();
    all_areas(|from| space.write_map(from, &mut text));
    let expected = "10000000-10002000 r-xp 00001000 08:01 4711                               /tmp/a\\012b\n";
    assert_eq!(text, expected);
    assert_eq!(text.find('/'), Some(73));
    let mut text = String::new();
    all_areas(|from| space.write_smap(from, &mut text));
    assert!(text.contains("Size:                  8 kB\n"), "{text}");
    assert!(text.contains("\nRss:                   4 kB\n"), "{text}");
    assert!(text.contains("VmFlags: rd ex mr mw me \n"), "{text}");
    let mut text = String::new();
    space.write_statm(&mut text).expect("statm");
    assert_eq!(text, "2 1 1 0 0 0 0\n");
    let mut words = [0; 2];
    space.pagemap(0x1000_0000 / PAGE as u64, &mut words, false);
    assert_eq!(words, [1 << 63 | 1 << 61, 0]);
}

#[test]
fn no_memory_is_an_error_and_nothing_leaks() {
    let space = space();
    let at = map_anonymous(&space, 600, RW);
    access(&space, at, Some(1)).expect("write");
    mem::set_budget(0);
    assert_eq!(access(&space, at + PAGE, Some(1)), Err(FaultError::Oom));
    assert_eq!(space.fork().err(), Some(Errno::ENOMEM));
    mem::set_budget(1);
    assert_eq!(space.fork().err(), Some(Errno::ENOMEM));
    let file = TestFile::memory(0);
    assert_eq!(file.mapping.write_bytes(0, &[1; 8192]), Err(Errno::ENOMEM));
    mem::set_budget(1);
    assert_eq!(file.mapping.write_bytes(0, &[1; 8192]), Ok(4096));
    mem::set_budget(i64::MAX);
    assert_eq!(access(&space, at + PAGE, Some(1)), Ok(0));
    check_counters(&space, false);
}

#[test]
fn holes_read_as_zero_without_memory() {
    let file = TestFile::memory(64 * PAGE);
    let mut bytes = [1; 100];
    assert_eq!(file.mapping.read_bytes(1000, &mut bytes), Ok(100));
    assert_eq!(bytes, [0; 100]);
    assert_eq!(file.mapping.cached_pages(), 0);
    file.mapping.write_bytes(5 * PAGE as u64 + 3, b"abc").expect("write");
    assert_eq!(file.mapping.seek(0, true), Some(5 * PAGE as u64));
    assert_eq!(file.mapping.seek(0, false), Some(0));
    assert_eq!(file.mapping.seek(5 * PAGE as u64, false), Some(6 * PAGE as u64));
    assert_eq!(file.mapping.read_bytes(64 * PAGE as u64 - 1, &mut bytes), Ok(1));
    assert_eq!(file.mapping.read_bytes(u64::MAX, &mut bytes), Ok(0));
}

#[test]
fn running_threads_have_ids_of_their_own_and_sleeping_ones_are_robbed() {
    let space = space();
    let tasks: Vec<_> = (0..6).map(|_| std::sync::Arc::<task::Task>::default()).collect();
    tasks[..4].iter().for_each(|task| task.set_on_cpu(true));
    let ids: Vec<_> = tasks[..4].iter().map(|task| space.concurrency_id(task)).collect();
    assert_eq!(ids, [0, 1, 2, 3]);
    assert_eq!(space.concurrency_id(&tasks[2]), 2, "it stays its own");
    tasks[2].set_on_cpu(false);
    tasks[4].set_on_cpu(true);
    assert_eq!(space.concurrency_id(&tasks[4]), 2, "of the one that sleeps");
    space.release_concurrency_id(&tasks[0]);
    tasks[0].set_on_cpu(false);
    tasks[5].set_on_cpu(true);
    assert_eq!(space.concurrency_id(&tasks[5]), 0, "given back");
}
