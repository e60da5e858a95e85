//! Filling whole pages.
//!
//! Written as volatile word stores: a plain loop becomes a call of `memset`, and that one, without vector
//! registers in the kernel, is no faster.

use arch::PAGE_SIZE;

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
