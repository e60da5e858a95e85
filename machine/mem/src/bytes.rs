//! Filling and copying whole pages.
//!
//! Written as volatile word stores: a plain loop becomes a call of `memset`, and that one, without vector
//! registers in the kernel, is no faster and on x86-64 uses `rep stos`, which emulators run word by word.

use arch::PAGE_SIZE;

/// Words copied in a round: as many as there are registers for.
const WORDS: usize = 8;
/// Words cleared in a round.
const CLEARED: usize = 32;

/// Zeroes `pages` pages at `to`.
///
/// # Safety
/// 1. The memory is mapped writable, page-aligned, and belongs to the caller.
pub(crate) unsafe fn zero_pages(to: *mut u8, pages: usize) {
    let to = to.cast::<u64>();
    for block in (0..pages * PAGE_SIZE / 8).step_by(CLEARED) {
        for word in block..block + CLEARED {
            // SAFETY: 1. inside the caller's pages.
            unsafe { to.add(word).write_volatile(0) };
        }
    }
}

/// Copies `pages` pages.
///
/// # Safety
/// 1. Both are mapped and page-aligned, `to` belongs to the caller, and they do not overlap.
pub(crate) unsafe fn copy_pages(from: *const u8, to: *mut u8, pages: usize) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    for block in (0..pages * PAGE_SIZE / 8).step_by(WORDS) {
        // SAFETY: 1. inside the caller's pages.
        unsafe {
            let mut words = [0; WORDS];
            for (i, word) in words.iter_mut().enumerate() {
                *word = from.add(block + i).read_volatile();
            }
            for (i, word) in words.iter().enumerate() {
                to.add(block + i).write_volatile(*word);
            }
        }
    }
}
