//! Copying whole pages.

use crate::PAGE_SIZE;

/// Words copied in a round: as many as there are registers for.
const WORDS: usize = 8;

/// Copies `pages` pages. Volatile words: a plain loop becomes a call of `memcpy`, which the compiler's library
/// writes one word at a time.
///
/// # Safety
/// 1. Both are mapped and page-aligned, `to` belongs to the caller, and they do not overlap.
#[inline]
pub unsafe fn copy_pages(from: *const u8, to: *mut u8, pages: usize) {
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
