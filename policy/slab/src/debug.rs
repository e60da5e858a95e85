//! Poison and red zones: bytes whose change proves that somebody wrote where nothing was allocated.
//!
//! The values and the report are Linux's (`include/linux/poison.h`, `mm/slub.c`), so that what people
//! know about reading a slab report holds here.
//!
//! ```text
//!   free:    bb bb .. | 6b 6b 6b .. 6b a5 | bb .. | 5a ..
//!   in use:  cc cc .. | the user's bytes  | cc .. | 5a ..
//!            left zone  object              right   padding
//! ```

use crate::{DebugFlags, Layout};
use core::fmt;

/// Byte of a free object.
pub const POISON_FREE: u8 = 0x6b;
/// Byte of memory that no object may use: padding, and slots never initialised.
pub const POISON_INUSE: u8 = 0x5a;
/// Last byte of a free object.
pub const POISON_END: u8 = 0xa5;
/// Red zone of a free object.
pub const RED_INACTIVE: u8 = 0xbb;
/// Red zone of an object in use.
pub const RED_ACTIVE: u8 = 0xcc;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A free object was written to.
    PoisonOverwritten,
    /// Bytes right before an object were written to.
    LeftRedzone,
    /// Bytes right behind an object were written to.
    RightRedzone,
    /// Bytes that belong to no object were written to.
    PaddingOverwritten,
    /// An object was freed that is free.
    AlreadyFree,
    /// A pointer was freed that is no object of this cache.
    InvalidPointer,
}

impl Problem {
    /// Linux's words.
    pub fn text(self) -> &'static str {
        match self {
            Problem::PoisonOverwritten => "Poison overwritten",
            Problem::LeftRedzone => "Left Redzone overwritten",
            Problem::RightRedzone => "Right Redzone overwritten",
            Problem::PaddingOverwritten => "Object padding overwritten",
            Problem::AlreadyFree => "Object already free",
            Problem::InvalidPointer => "Invalid object pointer",
        }
    }
}

/// A finding in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    pub problem: Problem,
    /// First and last wrong byte, from the start of the slot.
    pub first: usize,
    pub last: usize,
    /// The first wrong byte, and what it should be.
    pub found: u8,
    pub expected: u8,
}

impl Finding {
    /// A finding that is not about bytes.
    pub fn of_pointer(problem: Problem) -> Finding {
        Finding { problem, first: 0, last: 0, found: 0, expected: 0 }
    }

    /// The report for a cache named `cache`, for a slot at address `slot_addr`.
    pub fn report<'a>(&'a self, cache: &'a str, slot_addr: usize) -> impl fmt::Display + 'a {
        Report { finding: self, cache, slot_addr }
    }
}

struct Report<'a> {
    finding: &'a Finding,
    cache: &'a str,
    slot_addr: usize,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let finding = self.finding;
        write!(f, "BUG {}: {}", self.cache, finding.problem.text())?;
        if finding.found == finding.expected {
            return write!(f, " 0x{:016x}", self.slot_addr);
        }
        write!(
            f,
            "\n0x{:016x}-0x{:016x} @offset={}. First byte 0x{:x} instead of 0x{:x}",
            self.slot_addr + finding.first,
            self.slot_addr + finding.last,
            finding.first,
            finding.found,
            finding.expected
        )
    }
}

/// Prepares the bytes of a new slot (`layout.stride` of them) as those of a free object.
pub fn init_slot(layout: &Layout, slot: &mut [u8]) {
    let end = used_end(layout);
    slot[end..].fill(POISON_INUSE);
    mark_free(layout, slot);
}

/// Checks a free slot and turns it into one in use. The object keeps its poison: who reads before
/// writing sees 0x6b.
pub fn on_alloc(layout: &Layout, slot: &mut [u8]) -> Result<(), Finding> {
    let checked = check_free(layout, slot);
    if layout.debug.red_zone {
        zones(layout, slot, RED_ACTIVE);
    }
    checked
}

/// Checks a slot in use and turns it into a free one.
pub fn on_free(layout: &Layout, slot: &mut [u8]) -> Result<(), Finding> {
    let checked = check_zones(layout, slot, RED_ACTIVE);
    mark_free(layout, slot);
    checked
}

/// Checks a slot that should be free, without changing it.
pub fn check_free(layout: &Layout, slot: &[u8]) -> Result<(), Finding> {
    check_zones(layout, slot, RED_INACTIVE)?;
    if !layout.debug.poison {
        return Ok(());
    }
    let object = layout.object_offset;
    let last = object + layout.object_size - 1;
    check(slot, object..last, POISON_FREE, Problem::PoisonOverwritten)?;
    check(slot, last..last + 1, POISON_END, Problem::PoisonOverwritten)
}

fn mark_free(layout: &Layout, slot: &mut [u8]) {
    let DebugFlags { red_zone, poison, .. } = layout.debug;
    if red_zone {
        zones(layout, slot, RED_INACTIVE);
    }
    if poison {
        let object = &mut slot[layout.object_offset..][..layout.object_size];
        object.fill(POISON_FREE);
        if let Some(last) = object.last_mut() {
            *last = POISON_END;
        }
    }
}

/// End of what the slot uses besides padding: object, zones, link.
fn used_end(layout: &Layout) -> usize {
    let object_end = layout.object_offset + layout.object_size;
    object_end.max(layout.link_offset + crate::LINK_SIZE)
}

fn right_zone(layout: &Layout) -> core::ops::Range<usize> {
    layout.object_offset + layout.object_size..layout.link_offset
}

fn zones(layout: &Layout, slot: &mut [u8], byte: u8) {
    slot[..layout.object_offset].fill(byte);
    slot[right_zone(layout)].fill(byte);
}

fn check_zones(layout: &Layout, slot: &[u8], byte: u8) -> Result<(), Finding> {
    if layout.debug.red_zone {
        check(slot, 0..layout.object_offset, byte, Problem::LeftRedzone)?;
        check(slot, right_zone(layout), byte, Problem::RightRedzone)?;
    }
    check(slot, used_end(layout)..layout.stride, POISON_INUSE, Problem::PaddingOverwritten)
}

fn check(slot: &[u8], range: core::ops::Range<usize>, expected: u8, problem: Problem) -> Result<(), Finding> {
    let bytes = &slot[range.clone()];
    let Some(first) = bytes.iter().position(|&byte| byte != expected) else { return Ok(()) };
    let last = bytes.iter().rposition(|&byte| byte != expected).unwrap_or(first);
    Err(Finding {
        problem,
        first: range.start + first,
        last: range.start + last,
        found: bytes[first],
        expected,
    })
}
