//! Where the parts of a new program go: stack, libraries, heap, position-independent programs.
//!
//! ```text
//!   low                                                                          user top
//!   | program | heap ->        ...        position-independent | <- mmap | gap | <- stack |
//! ```
//!
//! Pure arithmetic over the limits and random words that the caller passes in; the rules are those of
//! Linux's fs/binfmt_elf.c and mm/util.c.

use crate::{PAGE, STACK_GUARD_GAP, page_down};
use core::ops::Range;

/// What the layout depends on.
#[derive(Debug, Clone, Copy)]
pub struct LayoutInput {
    /// End of user addresses, exclusive.
    pub user_top: u64,
    /// RLIMIT_STACK in bytes.
    pub stack_limit: u64,
    /// Random words; `None` with ADDR_NO_RANDOMIZE or randomize_va_space=0.
    pub random: Option<[u64; 4]>,
}

/// Where things go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// mmap searches downward from here.
    pub mmap_base: u64,
    /// The highest address of the stack, exclusive; page aligned.
    pub stack_top: u64,
    /// Load address of a position-independent program with an interpreter.
    pub pie_base: u64,
    /// Bytes between the end of the program's data and the heap, page aligned.
    pub brk_offset: u64,
}

const MIN_GAP: u64 = 128 << 20;
/// Random bits of mmap (vm.mmap_rnd_bits): 28 on x86-64, 24 on riscv64 Sv39; fewer than an eighth of the space.
const MMAP_RANDOM_BITS: u32 = 28;
/// Pages of the stack's random shift (16 GiB on 64 bits).
const STACK_RANDOM_PAGES: u64 = 0x3f_ffff;
const BRK_RANDOM_BYTES: u64 = 32 << 20;

impl Layout {
    /// Chooses the layout.
    pub fn choose(input: &LayoutInput) -> Layout {
        let top = page_down(input.user_top);
        let random = input.random.unwrap_or([0; 4]);
        // No part may shift by more than a sixteenth of a small address space (Sv39 has 256 GiB).
        let pages = top / PAGE;
        let stack_pages = STACK_RANDOM_PAGES.min(pages / 16);
        let mmap_pages = (1u64 << MMAP_RANDOM_BITS).min(pages / 16);
        let stack_shift = random[0] % (stack_pages + 1) * PAGE;
        let mmap_shift = random[1] % mmap_pages.max(1) * PAGE;
        let pie_shift = random[2] % mmap_pages.max(1) * PAGE;
        let brk_offset = page_down(random[3] % BRK_RANDOM_BYTES);
        let pad = if input.random.is_some() { stack_pages * PAGE } else { 0 };
        let gap = Self::gap(input.stack_limit, top, pad + STACK_GUARD_GAP);
        Layout {
            mmap_base: page_down(top.saturating_sub(gap).saturating_sub(mmap_shift)),
            stack_top: top.saturating_sub(stack_shift),
            pie_base: page_down(top / 3 * 2) + pie_shift,
            brk_offset: if input.random.is_some() { brk_offset } else { 0 },
        }
    }

    /// Room between the top and the highest mapping: the stack's limit within bounds, and padding.
    fn gap(stack_limit: u64, top: u64, pad: u64) -> u64 {
        let padded = stack_limit.checked_add(pad).unwrap_or(stack_limit);
        padded.clamp(MIN_GAP, top / 6 * 5)
    }

    /// The layout of a space before a program is loaded: everything below the top.
    pub fn plain(user_top: u64) -> Layout {
        Layout::choose(&LayoutInput { user_top, stack_limit: 8 << 20, random: None })
    }

    /// Addresses that areas may have.
    pub fn bounds(user_top: u64) -> Range<u64> {
        0..page_down(user_top)
    }
}
