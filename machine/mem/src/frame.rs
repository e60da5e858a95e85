//! Frame metadata: one 32-byte record for each physical page frame (Linux's `struct page`).
//!
//! The records lie in one array indexed by frame number, in the direct map, made at boot. What a record's
//! words mean depends on the frame's kind; the words are atomics because the buddy allocator looks at
//! neighbours that others own.
//!
//! | kind | refs, maps | next, prev | aux | private |
//! |---|---|---|---|---|
//! | `FREE` (first of a free block) | | buddy list | | |
//! | `FOLIO` (first) | references, mappings | next: free | place in the replacement policy | the owner's word |
//! | `TAIL` (not first) | | prev: the first | | |
//! | `SLAB` (first) | slab state | partial list | colour | the cache |
//! | `TABLE` | maps: entries in use | | | |

use arch::{PAGE_SHIFT, PhysAddr};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A frame number: physical address / 4096. 32 bits are 16 TiB.
pub(crate) type Pfn = u32;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Not the allocator's: firmware, kernel image, the metadata itself, holes; and the inside of free blocks.
    None = 0,
    Free = 1,
    Folio = 2,
    Tail = 3,
    Slab = 4,
    Table = 5,
    /// Kernel memory without an object of its own: stacks, vmalloc, large allocations.
    Kernel = 6,
}

/// Flag bits of the state word, above kind and order.
pub(crate) mod flag {
    pub const DIRTY: u32 = 1 << 16;
    pub const UPTODATE: u32 = 1 << 17;
    pub const REFERENCED: u32 = 1 << 18;
    pub const LOCKED: u32 = 1 << 19;
    pub const WRITEBACK: u32 = 1 << 20;
    pub const WAITERS: u32 = 1 << 21;
    pub const READAHEAD: u32 = 1 << 22;
}

#[repr(C, align(32))]
pub(crate) struct Frame {
    pub refs: AtomicU32,
    pub maps: AtomicU32,
    /// Kind in bits 0..8, order in 8..16, flags above.
    state: AtomicU32,
    pub next: AtomicU32,
    pub prev: AtomicU32,
    pub aux: AtomicU32,
    pub private: AtomicU64,
}

const _: () = assert!(size_of::<Frame>() == 32);

/// Address of the record of frame 0, were there one: the array's start less its first frame's offset.
static BASE: AtomicUsize = AtomicUsize::new(0);

/// Says where the array is, `array` being the record of frame `first`.
///
/// # Safety
/// 1. `array` points to zeroed memory for all frames of all zones, for ever.
pub(crate) unsafe fn set_array(array: *mut Frame, first: Pfn) {
    BASE.store((array as usize).wrapping_sub(first as usize * size_of::<Frame>()), Ordering::Release);
}

/// The record of a frame of RAM.
#[inline]
pub(crate) fn frame(pfn: Pfn) -> &'static Frame {
    let at = BASE.load(Ordering::Relaxed).wrapping_add(pfn as usize * size_of::<Frame>());
    // SAFETY: 1. frame numbers in this crate come from zones, whose frames all have a record (`set_array`);
    // 2. records live for ever and consist of atomics.
    unsafe { &*(at as *const Frame) }
}

pub(crate) fn pfn_of(phys: PhysAddr) -> Pfn {
    phys.pfn() as Pfn
}

pub(crate) fn phys_of(pfn: Pfn) -> PhysAddr {
    PhysAddr(u64::from(pfn) << PAGE_SHIFT)
}

/// Where the direct map shows the frame.
pub(crate) fn virt_of(pfn: Pfn) -> *mut u8 {
    phys_of(pfn).to_virt().as_ptr()
}

impl Frame {
    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        match self.state.load(Ordering::Relaxed) as u8 {
            1 => Kind::Free,
            2 => Kind::Folio,
            3 => Kind::Tail,
            4 => Kind::Slab,
            5 => Kind::Table,
            6 => Kind::Kernel,
            _ => Kind::None,
        }
    }

    #[inline]
    pub(crate) fn order(&self) -> u8 {
        (self.state.load(Ordering::Relaxed) >> 8) as u8
    }

    /// Sets kind and order and clears the flags.
    #[inline]
    pub(crate) fn set_kind(&self, kind: Kind, order: u8) {
        self.state.store(kind as u32 | u32::from(order) << 8, Ordering::Relaxed);
    }

    pub(crate) fn has_flag(&self, flag: u32) -> bool {
        self.state.load(Ordering::Acquire) & flag != 0
    }

    /// Sets or clears a flag; says whether it was set before. Does not write when nothing changes.
    pub(crate) fn set_flag(&self, flag: u32, on: bool) -> bool {
        let before = self.state.load(Ordering::Acquire) & flag != 0;
        if before == on {
            return before;
        }
        let old = match on {
            true => self.state.fetch_or(flag, Ordering::AcqRel),
            false => self.state.fetch_and(!flag, Ordering::AcqRel),
        };
        old & flag != 0
    }

    /// Clears flags; returns the state before. Always a full exchange: who waits must be seen.
    pub(crate) fn clear_flags(&self, flags: u32) -> u32 {
        self.state.fetch_and(!flags, Ordering::AcqRel)
    }
}

/// Makes frames `pfn + 1 .. pfn + 2^order` point back to the first.
pub(crate) fn link_tails(pfn: Pfn, order: u8) {
    for tail in pfn + 1..pfn + (1 << order) {
        let tail = frame(tail);
        tail.prev.store(pfn, Ordering::Relaxed);
        tail.set_kind(Kind::Tail, 0);
    }
}

/// The first frame of the block that `pfn` lies in.
#[inline]
pub(crate) fn head_of(pfn: Pfn) -> Pfn {
    let record = frame(pfn);
    match record.kind() {
        Kind::Tail => record.prev.load(Ordering::Relaxed),
        _ => pfn,
    }
}

/// The metadata as the buddy allocator wants it.
pub(crate) struct Metadata;

impl buddy::Frames for Metadata {
    #[inline]
    fn free_order(&self, pfn: u32) -> Option<u8> {
        let record = frame(pfn);
        (record.kind() == Kind::Free).then(|| record.order())
    }
    #[inline]
    fn set_free_order(&mut self, pfn: u32, order: Option<u8>) {
        match order {
            Some(order) => frame(pfn).set_kind(Kind::Free, order),
            None => frame(pfn).set_kind(Kind::None, 0),
        }
    }
    #[inline]
    fn next(&self, pfn: u32) -> u32 {
        frame(pfn).next.load(Ordering::Relaxed)
    }
    #[inline]
    fn prev(&self, pfn: u32) -> u32 {
        frame(pfn).prev.load(Ordering::Relaxed)
    }
    #[inline]
    fn set_next(&mut self, pfn: u32, next: u32) {
        frame(pfn).next.store(next, Ordering::Relaxed);
    }
    #[inline]
    fn set_prev(&mut self, pfn: u32, prev: u32) {
        frame(pfn).prev.store(prev, Ordering::Relaxed);
    }
}
