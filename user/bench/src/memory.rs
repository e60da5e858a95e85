//! Mappings and faults.

use crate::files::make_file;
use crate::timed;
use core::sync::atomic::{AtomicUsize, Ordering};
use rt::mm::{self, PAGE};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Result, fs, io, process, time};

/// Mapping and unmapping 1 MiB that nobody touches.
pub fn map_unmap(n: u64) -> Result<u64> {
    timed(n, || {
        let at = mm::map_anonymous(1 << 20)?;
        // SAFETY: 1. the mapping was just made and nobody uses it.
        unsafe { mm::unmap(at, 1 << 20) }
    })
}

/// Pages a run touches at a time, so that memory stays small.
const BATCH: u64 = 1024;

/// Runs `n` operations in batches: `batch(count)` answers the time of its `count` operations.
fn batches(n: u64, mut batch: impl FnMut(u64) -> Result<u64>) -> Result<u64> {
    let mut left = n;
    let mut total_ns = 0;
    while left > 0 {
        let count = left.min(BATCH);
        total_ns += batch(count)?;
        left -= count;
    }
    Ok(total_ns)
}

/// Touches one byte of each of `count` pages; answers the time.
///
/// # Safety
/// 1. `count` pages from `at` on are mapped, writable if `write`.
unsafe fn touch(at: usize, count: u64, write: bool) -> u64 {
    let start = time::now_ns();
    for page in 0..count as usize {
        let byte = (at + page * PAGE) as *mut u8;
        // SAFETY: 1. by this function's own obligation.
        unsafe {
            if write {
                byte.write_volatile(1);
            } else {
                byte.read_volatile();
            }
        }
    }
    time::now_ns() - start
}

/// The first write to a fresh page.
pub fn fault_anonymous(n: u64) -> Result<u64> {
    batches(n, |count| {
        let len = count as usize * PAGE;
        let at = mm::map_anonymous(len)?;
        // SAFETY: 1. the mapping is `count` pages long and writable.
        unsafe {
            // Kernels that hand out huge pages would answer a different question.
            let _ = mm::advise(at, len, MADV_NOHUGEPAGE);
            let total_ns = touch(at, count, true);
            mm::unmap(at, len)?;
            Ok(total_ns)
        }
    })
}

/// The first read of a page of a file that is in memory; kernels map several at a time.
pub fn fault_file(n: u64) -> Result<u64> {
    let fd = make_file(c"/tmp/bench-map", BATCH * PAGE as u64)?;
    let result = batches(n, |count| {
        let len = count as usize * PAGE;
        // SAFETY: 1. the file is `BATCH` pages long; 2. the mapping is private to this closure.
        unsafe {
            let at = mm::map(0, len, PROT_READ, MAP_SHARED, fd, 0)?;
            let total_ns = touch(at, count, false);
            mm::unmap(at, len)?;
            Ok(total_ns)
        }
    });
    io::close(fd)?;
    fs::unlink(c"/tmp/bench-map")?;
    result
}

/// The first write after fork(2): the child writes, so each page is copied.
pub fn fault_cow(n: u64) -> Result<u64> {
    let len = BATCH as usize * PAGE;
    let at = mm::map_anonymous(len)?;
    let shared = shared_word()?;
    // SAFETY: 1. the mapping is `BATCH` pages long and writable.
    unsafe {
        let _ = mm::advise(at, len, MADV_NOHUGEPAGE);
        touch(at, BATCH, true);
    }
    let result = batches(n, |count| {
        process::in_child(|| {
            // SAFETY: as above; the child has the mapping too.
            shared.store(unsafe { touch(at, count, true) } as usize, Ordering::Release);
            0
        })?;
        Ok(shared.load(Ordering::Acquire) as u64)
    });
    // SAFETY: 1. nobody uses the mapping any more.
    unsafe { mm::unmap(at, len)? };
    result
}

/// A word that parent and child share; it stays mapped to the program's end.
fn shared_word() -> Result<&'static AtomicUsize> {
    // SAFETY: 1. a fresh shared mapping, zeroed, aligned, and never unmapped.
    unsafe {
        let at = mm::map(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)?;
        Ok(&*(at as *const AtomicUsize))
    }
}

static PROTECTED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn unprotect(_: i32) {
    let at = PROTECTED.load(Ordering::Relaxed);
    // SAFETY: 1. the page is this item's own; mprotect is async-signal-safe here (a bare system call).
    let _ = unsafe { mm::protect(at, PAGE, PROT_READ | PROT_WRITE) };
}

/// A write to a read-only page: SIGSEGV, a handler that makes it writable, and back.
pub fn fault_protection(n: u64) -> Result<u64> {
    let at = mm::map_anonymous(PAGE)?;
    PROTECTED.store(at, Ordering::Relaxed);
    signal::set_action(SIGSEGV, Action::Handle(unprotect), 0, 0)?;
    let result = timed(n, || {
        // SAFETY: 1. the page is mapped; the write that faults is made good by the handler.
        unsafe {
            mm::protect(at, PAGE, PROT_READ)?;
            (at as *mut u8).write_volatile(1);
        }
        Ok(())
    });
    signal::set_action(SIGSEGV, Action::Default, 0, 0)?;
    // SAFETY: 1. nobody uses the page any more.
    unsafe { mm::unmap(at, PAGE)? };
    result
}
