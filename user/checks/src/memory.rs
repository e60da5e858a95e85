//! Mappings, protection, copy-on-write, faults.

use crate::names::scratch;
use crate::{Check, Outcome, ensure, equal};
use core::sync::atomic::{AtomicU32, Ordering};
use rt::mm::{self, PAGE};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, Result, fs, io, process, syscall};

pub const CHECKS: &[Check] = &[
    ("anonymous_is_zero", anonymous_is_zero),
    ("fixed", fixed),
    ("protection", protection),
    ("unmapped_faults", unmapped_faults),
    ("split_and_punch", split_and_punch),
    ("fork_copies", fork_copies),
    ("fork_shares", fork_shares),
    ("file_shared", file_shared),
    ("file_private", file_private),
    ("beyond_end_of_file", beyond_end_of_file),
    ("truncated_mapping", truncated_mapping),
    ("mremap", mremap),
    ("dontneed", dontneed),
    ("brk", brk),
    ("mincore", mincore),
    ("stack_grows", stack_grows),
    ("null_page", null_page),
    ("not_enough_memory", not_enough_memory),
    ("write_to_own_text", write_to_own_text),
    ("fault_counts", fault_counts),
    ("sealed", sealed),
];

fn put(at: usize, value: u8) {
    // SAFETY: 1. every caller names a byte of a mapping it made and that nothing else uses.
    unsafe { (at as *mut u8).write_volatile(value) }
}

fn get(at: usize) -> u8 {
    // SAFETY: 1. as for `put`.
    unsafe { (at as *const u8).read_volatile() }
}

fn map(addr: usize, len: usize, prot: u32, flags: u32, fd: i32, offset: usize) -> Result<usize> {
    // SAFETY: 1. fixed mappings of these checks replace only their own ones.
    unsafe { mm::map(addr, len, prot, flags, fd, offset) }
}

fn unmap(at: usize, len: usize) -> Result<()> {
    // SAFETY: 1. the range is the check's own.
    unsafe { mm::unmap(at, len) }
}

fn protect(at: usize, len: usize, prot: u32) -> Result<()> {
    // SAFETY: 1. the range is the check's own.
    unsafe { mm::protect(at, len, prot) }
}

const RW: u32 = PROT_READ | PROT_WRITE;
const ANON: u32 = MAP_PRIVATE | MAP_ANONYMOUS;

/// The signal that ends `body` when it runs in a child.
fn dies_of(body: impl FnOnce()) -> Result<Option<i32>> {
    Ok(process::in_child(|| {
        body();
        0
    })?
    .signal())
}

const SEGV: Option<i32> = Some(SIGSEGV as i32);
const BUS: Option<i32> = Some(SIGBUS as i32);

fn anonymous_is_zero() -> Outcome {
    let len = 300 * PAGE;
    let at = mm::map_anonymous(len)?;
    for page in (0..len).step_by(PAGE) {
        equal!(get(at + page + 17), 0);
        put(at + page, (page / PAGE) as u8);
    }
    for page in (0..len).step_by(PAGE) {
        equal!(get(at + page), (page / PAGE) as u8);
    }
    unmap(at, len)?;
    let again = mm::map_anonymous(len)?;
    equal!(get(again), 0);
    Ok(())
}

fn fixed() -> Outcome {
    let at = mm::map_anonymous(4 * PAGE)?;
    put(at + PAGE, 7);
    equal!(map(at + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0)?, at + PAGE);
    equal!(get(at + PAGE), 0);
    equal!(map(at, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), Err(Errno::EEXIST));
    equal!(map(at + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0), Err(Errno::EINVAL));
    unmap(at + PAGE, PAGE)?;
    equal!(map(at + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0)?, at + PAGE);
    // A hint that is free is taken.
    unmap(at, 4 * PAGE)?;
    equal!(map(at, PAGE, RW, ANON, -1, 0)?, at);
    equal!(map(0, PAGE, RW, ANON | MAP_FIXED, -1, 1), Err(Errno::EINVAL));
    Ok(())
}

fn protection() -> Outcome {
    let at = mm::map_anonymous(3 * PAGE)?;
    put(at + PAGE, 1);
    protect(at + PAGE, PAGE, PROT_READ)?;
    equal!(get(at + PAGE), 1);
    equal!(dies_of(|| put(at + PAGE, 2))?, SEGV);
    put(at, 1);
    put(at + 2 * PAGE, 1);
    protect(at + PAGE, PAGE, PROT_NONE)?;
    equal!(dies_of(|| _ = get(at + PAGE))?, SEGV);
    protect(at + PAGE, PAGE, RW)?;
    equal!(get(at + PAGE), 1);
    unmap(at + PAGE, PAGE)?;
    equal!(protect(at, 3 * PAGE, RW), Err(Errno::ENOMEM));
    equal!(protect(at + 1, PAGE, RW), Err(Errno::EINVAL));
    // System calls respect it too.
    protect(at, PAGE, PROT_READ)?;
    let zero = fs::open(c"/dev/zero", O_RDONLY, 0)?;
    // SAFETY: 1. the kernel must refuse to write there.
    equal!(unsafe { syscall!(__NR_read, zero, at, 10) }, Err(Errno::EFAULT));
    Ok(())
}

fn unmapped_faults() -> Outcome {
    let at = mm::map_anonymous(PAGE)?;
    unmap(at, PAGE)?;
    equal!(dies_of(|| _ = get(at))?, SEGV);
    equal!(dies_of(|| put(at, 1))?, SEGV);
    equal!(dies_of(|| _ = get(0xffff_ffc0_0000_0000))?, SEGV);
    equal!(dies_of(|| _ = get(1 << 62))?, SEGV);
    unmap(at, PAGE)?;
    Ok(())
}

fn split_and_punch() -> Outcome {
    let at = mm::map_anonymous(10 * PAGE)?;
    for page in 0..10 {
        put(at + page * PAGE, page as u8);
    }
    unmap(at + 3 * PAGE, 2 * PAGE)?;
    equal!(get(at + 2 * PAGE), 2);
    equal!(get(at + 5 * PAGE), 5);
    equal!(dies_of(|| _ = get(at + 4 * PAGE))?, SEGV);
    unmap(at, 10 * PAGE)?;
    Ok(())
}

fn fork_copies() -> Outcome {
    let at = mm::map_anonymous(64 * PAGE)?;
    (0..64).for_each(|page| put(at + page * PAGE, 1));
    let status = process::in_child(|| {
        (0..64).for_each(|page| put(at + page * PAGE, 2));
        i32::from((0..64).any(|page| get(at + page * PAGE) != 2))
    })?;
    equal!(status.exit_code(), Some(0));
    ensure!((0..64).all(|page| get(at + page * PAGE) == 1), "the child's writes are not seen");
    (0..64).for_each(|page| put(at + page * PAGE, 3));
    ensure!((0..64).all(|page| get(at + page * PAGE) == 3), "own writes after fork");
    Ok(())
}

fn fork_shares() -> Outcome {
    let at = map(0, 8 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0)?;
    process::in_child(|| {
        put(at, 5);
        put(at + 7 * PAGE, 6);
        0
    })?;
    equal!((get(at), get(at + 7 * PAGE)), (5, 6));
    Ok(())
}

fn file_shared() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_RDWR | O_CREAT, 0o600)?;
    io::write_all(fd, &[1; 3 * PAGE])?;
    let at = map(0, 3 * PAGE, RW, MAP_SHARED, fd, 0)?;
    equal!(get(at + 2 * PAGE), 1);
    put(at + 100, 9);
    let mut byte = [0];
    io::pread(fd, &mut byte, 100)?;
    equal!(byte, [9]);
    io::pwrite(fd, &[8], 200)?;
    equal!(get(at + 200), 8);
    // SAFETY: 1. the range is the check's own.
    unsafe { syscall!(__NR_msync, at, 3 * PAGE, 4) }?;
    let read_only = fs::open(c"f", O_RDONLY, 0)?;
    equal!(map(0, PAGE, RW, MAP_SHARED, read_only, 0), Err(Errno::EACCES));
    let write_only = fs::open(c"f", O_WRONLY, 0)?;
    equal!(map(0, PAGE, PROT_READ, MAP_PRIVATE, write_only, 0), Err(Errno::EACCES));
    let ro = map(0, PAGE, PROT_READ, MAP_SHARED, read_only, 0)?;
    equal!(protect(ro, PAGE, RW), Err(Errno::EACCES));
    io::close(fd)?;
    fs::unlink(c"f")?;
    put(at, 3);
    equal!(get(at), 3);
    Ok(())
}

fn file_private() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_RDWR | O_CREAT, 0o600)?;
    io::write_all(fd, &[1; 2 * PAGE])?;
    let at = map(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0)?;
    equal!(get(at), 1);
    put(at, 2);
    let mut byte = [0];
    io::pread(fd, &mut byte, 0)?;
    equal!(byte, [1]);
    io::pwrite(fd, &[4], PAGE as u64)?;
    equal!(get(at + PAGE), 4);
    equal!(map(0, PAGE, RW, MAP_PRIVATE, fd, 1), Err(Errno::EINVAL));
    let second = map(0, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE)?;
    equal!(get(second), 4);
    Ok(())
}

fn beyond_end_of_file() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_RDWR | O_CREAT, 0o600)?;
    io::write_all(fd, &[1; 100])?;
    let at = map(0, 3 * PAGE, RW, MAP_SHARED, fd, 0)?;
    equal!((get(at + 99), get(at + 100), get(at + PAGE - 1)), (1, 0, 0));
    equal!(dies_of(|| _ = get(at + PAGE))?, BUS);
    fs::ftruncate(fd, 3 * PAGE as u64)?;
    equal!(get(at + PAGE), 0);
    Ok(())
}

fn truncated_mapping() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_RDWR | O_CREAT, 0o600)?;
    io::write_all(fd, &[1; 4 * PAGE])?;
    let at = map(0, 4 * PAGE, RW, MAP_SHARED, fd, 0)?;
    equal!(get(at + 3 * PAGE), 1);
    fs::ftruncate(fd, 10)?;
    equal!(dies_of(|| _ = get(at + 3 * PAGE))?, BUS);
    equal!((get(at + 9), get(at + 10)), (1, 0));
    Ok(())
}

fn mremap() -> Outcome {
    let call = |old: usize, old_len: usize, len: usize, flags: u32, new: usize| {
        // SAFETY: 1. the ranges are the check's own.
        unsafe { syscall!(__NR_mremap, old, old_len, len, flags, new) }
    };
    let at = mm::map_anonymous(4 * PAGE)?;
    put(at, 1);
    put(at + 3 * PAGE, 4);
    equal!(call(at, 4 * PAGE, 2 * PAGE, 0, 0)?, at);
    equal!(dies_of(|| _ = get(at + 3 * PAGE))?, SEGV);
    let big = call(at, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE, 0)?;
    equal!((get(big), get(big + 63 * PAGE)), (1, 0));
    let target = mm::map_anonymous(PAGE)?;
    equal!(call(big, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target)?, target);
    equal!(get(target), 1);
    equal!(dies_of(|| _ = get(big))?, SEGV);
    equal!(call(big, PAGE, PAGE, 0, 0), Err(Errno::EFAULT));
    equal!(call(target + 1, PAGE, PAGE, 0, 0), Err(Errno::EINVAL));
    equal!(call(target, PAGE, 0, 0, 0), Err(Errno::EINVAL));
    Ok(())
}

fn dontneed() -> Outcome {
    let at = mm::map_anonymous(2 * PAGE)?;
    put(at, 1);
    put(at + PAGE, 2);
    // SAFETY: 1. the page is the check's own.
    unsafe { mm::advise(at, PAGE, MADV_DONTNEED) }?;
    equal!((get(at), get(at + PAGE)), (0, 2));
    // SAFETY: as above.
    equal!(unsafe { mm::advise(at, PAGE, 9999) }, Err(Errno::EINVAL));
    Ok(())
}

fn brk() -> Outcome {
    // SAFETY: 1. this program's heap does not use brk below its present end.
    let call = |at: usize| unsafe { syscall!(__NR_brk, at) };
    let start = call(0)?;
    equal!(call(start + 10 * PAGE)?, start + 10 * PAGE);
    put(start + 9 * PAGE, 1);
    equal!(call(start)?, start);
    equal!(dies_of(|| _ = get((start + PAGE) & !(PAGE - 1)))?, SEGV);
    equal!(call(start + 10 * PAGE)?, start + 10 * PAGE);
    equal!(get(start + 9 * PAGE), 0);
    // Failure answers the present end.
    equal!(call(usize::MAX)?, start + 10 * PAGE);
    Ok(())
}

fn mincore() -> Outcome {
    let at = mm::map_anonymous(4 * PAGE)?;
    put(at + PAGE, 1);
    let mut pages = [9u8; 4];
    // SAFETY: 1. the kernel writes one byte a page.
    unsafe { syscall!(__NR_mincore, at, 4 * PAGE, pages.as_mut_ptr()) }?;
    equal!(pages.map(|p| p & 1), [0, 1, 0, 0]);
    unmap(at + 2 * PAGE, PAGE)?;
    // SAFETY: as above.
    equal!(unsafe { syscall!(__NR_mincore, at, 4 * PAGE, pages.as_mut_ptr()) }, Err(Errno::ENOMEM));
    Ok(())
}

fn deep(depth: usize) -> usize {
    let page = core::hint::black_box([depth as u8; 2048]);
    if depth == 0 { 0 } else { deep(depth - 1) + usize::from(page[depth % 2048] == depth as u8) }
}

fn stack_grows() -> Outcome {
    equal!(deep(1000), 1000);
    equal!(dies_of(|| _ = core::hint::black_box(deep(1_000_000)))?, SEGV);
    Ok(())
}

fn null_page() -> Outcome {
    equal!(dies_of(|| _ = get(8))?, SEGV);
    Ok(())
}

fn not_enough_memory() -> Outcome {
    equal!(map(0, 1 << 46, RW, ANON, -1, 0).err(), Some(Errno::ENOMEM));
    let limit = [64u64 << 20, 64 << 20];
    // SAFETY: 1. the kernel reads one rlimit64.
    unsafe { syscall!(__NR_prlimit64, 0, 9, limit.as_ptr(), 0) }?;
    equal!(map(0, 128 << 20, RW, ANON, -1, 0).err(), Some(Errno::ENOMEM));
    mm::map_anonymous(1 << 20)?;
    Ok(())
}

fn write_to_own_text() -> Outcome {
    let text = write_to_own_text as *const () as usize;
    equal!(dies_of(|| put(text, 0))?, SEGV);
    Ok(())
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn caught(signal: i32) {
    CAUGHT.store(signal as u32, Ordering::Relaxed);
}

fn fault_counts() -> Outcome {
    signal::set_action(SIGSEGV, Action::Handle(caught), 0, 0)?;
    let before = process::rusage(0)?.ru_minflt;
    let at = mm::map_anonymous(100 * PAGE)?;
    // SAFETY: 1. the range is the check's own.
    let _ = unsafe { mm::advise(at, 100 * PAGE, MADV_NOHUGEPAGE) };
    (0..100).for_each(|page| put(at + page * PAGE, 1));
    let after = process::rusage(0)?.ru_minflt;
    ensure!((100..200).contains(&(after - before)), "{} minor faults for 100 pages", after - before);
    equal!(CAUGHT.load(Ordering::Relaxed), 0);
    Ok(())
}

fn mseal(at: usize, len: usize, flags: usize) -> Result<()> {
    // SAFETY: 1. nothing changes in memory.
    unsafe { syscall!(__NR_mseal, at, len, flags) }.map(drop)
}

fn sealed() -> Outcome {
    let at = map(0, 4 * PAGE, RW, ANON, -1, 0)?;
    put(at + PAGE, 5);
    match mseal(at + PAGE, PAGE, 0) {
        Err(Errno::ENOSYS) => return Err(crate::skip("no mseal")),
        result => result?,
    }
    equal!(unmap(at + PAGE, PAGE), Err(Errno::EPERM));
    // Nothing of a range goes in which something is sealed.
    equal!(unmap(at, 4 * PAGE), Err(Errno::EPERM));
    put(at + 3 * PAGE, 6);
    equal!(protect(at + PAGE, PAGE, PROT_READ), Err(Errno::EPERM));
    equal!(map(at, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0), Err(Errno::EPERM));
    // SAFETY: 1. refused, or the check's own memory moves.
    let moved = |from: usize, to: usize| unsafe { syscall!(__NR_mremap, from, PAGE, PAGE, 3, to) };
    let spare = map(0, PAGE, RW, ANON, -1, 0)?;
    equal!(moved(at + PAGE, spare), Err(Errno::EPERM));
    equal!(moved(spare, at + PAGE), Err(Errno::EPERM));
    // What may be written may be emptied, too.
    put(at + PAGE, 7);
    // SAFETY: 1. the range is the check's own.
    let empty = |at: usize| unsafe { mm::advise(at, PAGE, MADV_DONTNEED) };
    equal!((empty(at + PAGE), get(at + PAGE)), (Ok(()), 0));
    protect(at + 2 * PAGE, PAGE, PROT_READ)?;
    mseal(at + 2 * PAGE, PAGE, 0)?;
    equal!(empty(at + 2 * PAGE), Err(Errno::EPERM));
    // Sealed twice; for good in a child, too.
    mseal(at + PAGE, 2 * PAGE, 0)?;
    let child = process::in_child(|| i32::from(unmap(at + PAGE, PAGE) != Err(Errno::EPERM)))?;
    equal!(child.exit_code(), Some(0));
    unmap(at + 3 * PAGE, PAGE)?;
    equal!(mseal(at, 4 * PAGE, 0), Err(Errno::ENOMEM));
    equal!(unmap(at, PAGE), Ok(()));
    equal!(mseal(at + PAGE, PAGE, 1), Err(Errno::EINVAL));
    equal!(mseal(at + PAGE + 1, PAGE, 0), Err(Errno::EINVAL));
    equal!(mseal(at + PAGE, usize::MAX, 0), Err(Errno::EINVAL));
    equal!(mseal(at + PAGE, 0, 0), Ok(()));
    Ok(())
}
