//! The memory that calls are pointed at.
//!
//! ```text
//!   | no access | 8 pages, readable and writable | read-only | no access |      arena: structures and buffers
//!   | 256 pages: what mmap, munmap, mprotect, madvise ... are let loose on |     playground
//! ```
//!
//! A structure may end exactly at the last writable byte, or straddle into the page behind it. Everything else
//! (null, the kernel's half, addresses that wrap) needs no memory of ours.

use crate::rng::Rng;
use rt::mm::{self, PAGE};
use rt::nr::*;

const WRITABLE_PAGES: usize = 8;
pub const PLAYGROUND_PAGES: usize = 256;

/// Where the two regions lie.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    writable: usize,
    playground: usize,
}

/// Addresses that name no memory of a program: null, its page, the hole between the halves, kernel memory,
/// the last bytes.
const WILD: [usize; 14] = [
    0,
    1,
    8,
    4095,
    4096,
    1 << 38,
    (1 << 47) - 4096,
    1 << 47,
    1 << 62,
    1 << 63,
    0xffff_ffc0_0000_0000,
    0xffff_ffff_8000_0000,
    usize::MAX - 4095,
    usize::MAX - 7,
];

impl Arena {
    /// Maps both regions.
    pub fn new() -> rt::Result<Arena> {
        let base = mm::map_anonymous((WRITABLE_PAGES + 3) * PAGE)?;
        let writable = base + PAGE;
        let end = writable + WRITABLE_PAGES * PAGE;
        // SAFETY: 1. the mapping is fresh and used by nobody.
        unsafe {
            mm::protect(base, PAGE, PROT_NONE)?;
            mm::protect(end, PAGE, PROT_READ)?;
            mm::protect(end + PAGE, PAGE, PROT_NONE)?;
        }
        Ok(Arena { writable, playground: mm::map_anonymous(PLAYGROUND_PAGES * PAGE)? })
    }

    fn writable_len(&self) -> usize {
        WRITABLE_PAGES * PAGE
    }

    /// A place for `len` bytes that are readable and writable; aligned as C would, mostly.
    pub fn place(&self, rng: &mut Rng, len: usize) -> usize {
        let len = len.min(self.writable_len());
        let room = self.writable_len() - len;
        let at = match rng.below(4) {
            0 => room,
            _ => rng.below(room + 1) & !7,
        };
        self.writable + at
    }

    /// An address where `len` bytes are not all accessible.
    pub fn bad(&self, rng: &mut Rng, len: usize) -> usize {
        let end = self.writable + self.writable_len();
        match rng.below(4) {
            0 => self.writable - rng.below(PAGE),
            1 => end + PAGE - rng.below(len + 1),
            2 => end - rng.below(len + 1),
            _ => rng.pick(&WILD),
        }
    }

    /// A page address of the playground, seldom not aligned.
    pub fn page(&self, rng: &mut Rng) -> usize {
        let at = self.playground + rng.below(PLAYGROUND_PAGES) * PAGE;
        if rng.one_in(16) { at + rng.below(PAGE) } else { at }
    }

    /// Writes `width` bytes of `value` at `at`, which [`Arena::place`] gave.
    pub fn store(&self, at: usize, width: usize, value: usize) {
        let inside = at >= self.writable && at + width <= self.writable + self.writable_len();
        if !inside {
            return;
        }
        for (i, byte) in value.to_le_bytes().iter().take(width).enumerate() {
            // SAFETY: 1. the range is inside the writable pages, which hold nothing but test data. Should a
            // call have taken the page away, the process dies of it and is replaced.
            unsafe { core::ptr::write_volatile((at + i) as *mut u8, *byte) };
        }
    }
}
