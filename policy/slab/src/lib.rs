//! How small kernel objects share pages: geometry, free lists, and the checks that catch their misuse.
//!
//! The problem: the kernel makes and drops objects of a few dozen bytes all the time, and a page
//! allocator hands out 4 KiB. A *cache* serves objects of one size from *slabs*, blocks of 2^order
//! frames cut into equal slots (Bonwick, "The Slab Allocator", 1994).
//!
//! The interface: [`Layout::new`] computes a cache's geometry; [`SlabState`] knows which slots of one
//! slab are free, by index, with the links kept wherever [`Links`] says (in the kernel: in the free
//! slots themselves); [`size_class`] maps a size to a kmalloc cache; [`debug`] writes and checks poison
//! and red zones with Linux's byte values. Nothing here owns or touches memory: the unsafe side hands
//! byte slices in.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod debug;
mod kmalloc;

pub use kmalloc::{KMALLOC_SIZES, MAX_KMALLOC, class_align, kmalloc_name, size_class};

/// The frame size that orders count in.
pub const PAGE_SIZE: usize = 4096;
/// Largest slab that the geometry chooses on its own, as Linux's `slub_max_order`.
pub const MAX_SLAB_ORDER: u8 = 3;
/// Slots that a slab should have at least before its order stops growing.
const WANTED_OBJECTS: usize = 8;
/// The index that means "no slot".
pub const NO_SLOT: u16 = u16::MAX;

/// Debug modes of a cache, with the letters of Linux's `slab_debug=` boot argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DebugFlags {
    /// `F`: consistency checks (double free, wrong pointer).
    pub checks: bool,
    /// `Z`: red zones around objects.
    pub red_zone: bool,
    /// `P`: poison in free objects.
    pub poison: bool,
}

impl DebugFlags {
    /// Nothing is checked.
    pub const NONE: DebugFlags = DebugFlags { checks: false, red_zone: false, poison: false };
    /// All modes: what `slab_debug` without letters means.
    pub const ALL: DebugFlags = DebugFlags { checks: true, red_zone: true, poison: true };

    /// Parses the letters after `slab_debug=`; `U` and `T` (owner tracking, tracing) are accepted and
    /// have no effect, `-` turns everything off, an unknown letter is an error.
    pub fn parse(letters: &str) -> Result<DebugFlags, char> {
        let mut flags = DebugFlags::NONE;
        for letter in letters.chars() {
            match letter.to_ascii_uppercase() {
                'F' => flags.checks = true,
                'Z' => flags.red_zone = true,
                'P' => flags.poison = true,
                'U' | 'T' => {}
                '-' => return Ok(DebugFlags::NONE),
                other => return Err(other),
            }
        }
        Ok(if letters.is_empty() { DebugFlags::ALL } else { flags })
    }

    /// Whether any mode is on.
    pub fn any(self) -> bool {
        self.checks || self.red_zone || self.poison
    }
}

/// The geometry of a cache. All sizes and offsets in bytes.
///
/// ```text
///   slot:  | left red zone | object | right red zone ... | link | padding |
///          0               object_offset                 link_offset      stride
/// ```
///
/// Without debugging a slot is the object alone, and the link of a free slot lies in its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// What the user of the cache asked for.
    pub object_size: usize,
    /// Alignment of every object, a power of two.
    pub align: usize,
    /// Distance of two objects.
    pub stride: usize,
    /// Where the object begins in its slot.
    pub object_offset: usize,
    /// Where a free slot keeps the index of the next free one, four-byte aligned.
    pub link_offset: usize,
    /// A slab is 2^order frames.
    pub order: u8,
    /// Slots in a slab.
    pub objects: u16,
    /// Different starting offsets that slabs may have, so that the first objects of two slabs do not
    /// fall on the same cache lines.
    pub colours: u16,
    /// Distance between two colours.
    pub colour_step: usize,
    pub debug: DebugFlags,
}

/// A cache cannot be made for such objects: size zero or too large for a slab, or a bad alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLayout;

impl Layout {
    /// The geometry for objects of `size` bytes at multiples of `align` (a power of two up to a page).
    pub fn new(size: usize, align: usize, debug: DebugFlags) -> Result<Layout, BadLayout> {
        if size == 0 || !align.is_power_of_two() || align > PAGE_SIZE {
            return Err(BadLayout);
        }
        let align = align.max(LINK_SIZE);
        let slot = Slot::new(size, align, debug);
        let order = slab_order(slot.stride)?;
        let bytes = PAGE_SIZE << order;
        let objects = (bytes / slot.stride).min(usize::from(NO_SLOT - 1));
        let waste = bytes - objects * slot.stride;
        let colour_step = align.max(CACHE_LINE);
        Ok(Layout {
            object_size: size,
            align,
            stride: slot.stride,
            object_offset: slot.object_offset,
            link_offset: slot.link_offset,
            order,
            objects: objects as u16,
            colours: (waste / colour_step + 1) as u16,
            colour_step,
            debug,
        })
    }

    /// Bytes in a slab.
    pub fn slab_bytes(&self) -> usize {
        PAGE_SIZE << self.order
    }

    /// Where object `index` begins in a slab of this colour (taken modulo the number of colours).
    pub fn object_at(&self, index: u16, colour: u16) -> usize {
        self.slot_at(index, colour) + self.object_offset
    }

    /// Where slot `index` begins.
    pub fn slot_at(&self, index: u16, colour: u16) -> usize {
        let colour = usize::from(colour % self.colours) * self.colour_step;
        colour + usize::from(index) * self.stride
    }

    /// Which object begins `offset` bytes into a slab of this colour; `None` when none does.
    pub fn index_of(&self, offset: usize, colour: u16) -> Option<u16> {
        let from_first = offset.checked_sub(self.object_at(0, colour))?;
        let index = from_first / self.stride;
        let exact = from_first % self.stride == 0 && index < usize::from(self.objects);
        exact.then_some(index as u16)
    }
}

const LINK_SIZE: usize = 4;
const CACHE_LINE: usize = 64;
const WORD: usize = 8;

struct Slot {
    object_offset: usize,
    link_offset: usize,
    stride: usize,
}

impl Slot {
    fn new(size: usize, align: usize, debug: DebugFlags) -> Slot {
        // The left zone keeps the object aligned; the right one is at least a word.
        let object_offset = if debug.red_zone { align.max(WORD) } else { 0 };
        let mut end = object_offset + size.next_multiple_of(LINK_SIZE);
        if debug.red_zone {
            end = (object_offset + size + WORD).next_multiple_of(WORD);
        }
        // A poisoned object's bytes are checked while it is free: the link must lie outside.
        let link_offset = if debug.poison || debug.red_zone { end } else { object_offset };
        end = end.max(link_offset + LINK_SIZE);
        Slot { object_offset, link_offset, stride: end.next_multiple_of(align) }
    }
}

/// The smallest order that wastes at most an eighth of the slab and holds a good number of objects.
fn slab_order(stride: usize) -> Result<u8, BadLayout> {
    let fits = |order: u8| (PAGE_SIZE << order) / stride;
    let waste = |order: u8| (PAGE_SIZE << order) - fits(order) * stride;
    let good = |&order: &u8| fits(order) >= WANTED_OBJECTS && waste(order) <= (PAGE_SIZE << order) / 8;
    let any = |&order: &u8| fits(order) >= 1;
    let orders = 0..=MAX_SLAB_ORDER;
    orders.clone().find(good).or_else(|| orders.rev().find(any)).ok_or(BadLayout)
}

/// Where the links between the free slots of one slab are kept.
pub trait Links {
    /// The link stored in free slot `slot`.
    fn get(&self, slot: u16) -> u16;
    /// Stores the link of free slot `slot`.
    fn set(&mut self, slot: u16, next: u16);
}

/// Which slots of one slab are free.
///
/// Slots that were never used are not on the list: they are numbered from `fresh` up. So a new slab
/// costs nothing to set up, and its pages are touched when they are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlabState {
    free: u16,
    fresh: u16,
    in_use: u16,
    objects: u16,
}

impl SlabState {
    /// A slab of `objects` slots, all free.
    pub const fn new(objects: u16) -> SlabState {
        SlabState { free: NO_SLOT, fresh: 0, in_use: 0, objects }
    }

    /// Takes a free slot.
    pub fn take<L: Links>(&mut self, links: &L) -> Option<u16> {
        let slot = match self.free {
            NO_SLOT if self.fresh < self.objects => {
                self.fresh += 1;
                self.fresh - 1
            }
            NO_SLOT => return None,
            slot => {
                self.free = links.get(slot);
                slot
            }
        };
        self.in_use += 1;
        Some(slot)
    }

    /// Gives a slot back. The caller vouches that it was taken from this slab and not given back since.
    pub fn give<L: Links>(&mut self, links: &mut L, slot: u16) {
        debug_assert!(slot < self.fresh && self.in_use > 0);
        links.set(slot, self.free);
        self.free = slot;
        self.in_use -= 1;
    }

    /// Whether `slot` is free: walks the list, for the consistency checks of the debug mode.
    pub fn is_free<L: Links>(&self, links: &L, slot: u16) -> bool {
        let mut at = self.free;
        for _ in 0..self.objects {
            if at == NO_SLOT || at == slot {
                break;
            }
            at = links.get(at);
        }
        at == slot || slot >= self.fresh
    }

    /// The state as one word, to be kept in frame metadata.
    pub const fn to_bits(self) -> u64 {
        self.free as u64
            | (self.fresh as u64) << 16
            | (self.in_use as u64) << 32
            | (self.objects as u64) << 48
    }

    /// The state that [`SlabState::to_bits`] packed.
    pub const fn from_bits(bits: u64) -> SlabState {
        SlabState {
            free: bits as u16,
            fresh: (bits >> 16) as u16,
            in_use: (bits >> 32) as u16,
            objects: (bits >> 48) as u16,
        }
    }

    /// Slots taken.
    pub fn in_use(&self) -> u16 {
        self.in_use
    }

    /// All slots.
    pub fn objects(&self) -> u16 {
        self.objects
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.in_use == self.objects
    }

    /// Whether every slot is free.
    pub fn is_empty(&self) -> bool {
        self.in_use == 0
    }
}

#[cfg(test)]
mod tests;
