//! Which page frames are free, and which free ones to hand out.
//!
//! The problem: give out naturally aligned runs of 2^order frames, take them back in any order, and
//! end up with large runs again. The idea is Knuth's buddy system: a block of order `n` at frame `f`
//! has exactly one *buddy*, the block at `f ^ (1 << n)`. Allocation splits a larger block in halves,
//! freeing merges with the buddy as long as that is free as a whole.
//!
//! ```text
//!   order 2   |       8       |          alloc(0) = 8      free lists after:
//!   order 1   |   8   |  10   |                            order 1: 10
//!   order 0   | 8 | 9 |                                    order 0: 9
//! ```
//!
//! Nothing here owns memory. The per-frame facts (is this the head of a free block, of which order,
//! who are its neighbours in the free list) live behind [`Frames`], in the kernel in the frame
//! metadata array, so that allocation itself never allocates. Frame numbers are `u32` indices whose
//! zero must be aligned to the largest block; 32 bits of 4 KiB frames are 16 TiB.
//!
//! [`Buddy`] is the mechanism for one contiguous range, [`Zone`] adds watermarks: how far down a
//! request of which importance may take the free count. Holes in the range are frames that were never
//! freed into it: they are never free, so nothing merges across them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod ranges;
mod zone;

pub use ranges::Ranges;
pub use zone::{Reserve, Watermarks, Zone, ZoneKind};

/// Order of the largest block: 2^10 frames, 4 MiB of 4 KiB frames, as in Linux.
pub const MAX_ORDER: u8 = 10;
/// Number of orders, 0 to [`MAX_ORDER`].
pub const ORDERS: usize = MAX_ORDER as usize + 1;
/// The frame index that means "no frame" in links.
pub const NONE: u32 = u32::MAX;

/// Frame metadata as the buddy allocator sees it.
///
/// `free_order` may be asked about any frame of the zone's range, also one that is in use; the links
/// are only touched on heads of free blocks. The caller's zone lock makes `&mut` true.
pub trait Frames {
    /// The order of the free block that starts at `frame`; `None` when no free block starts there.
    fn free_order(&self, frame: u32) -> Option<u8>;
    /// Records that a free block of `order` starts at `frame`, or with `None` that none does any more.
    fn set_free_order(&mut self, frame: u32, order: Option<u8>);
    /// The next block in the free list, or [`NONE`].
    fn next(&self, frame: u32) -> u32;
    /// The previous block in the free list, or [`NONE`].
    fn prev(&self, frame: u32) -> u32;
    /// Sets the next link.
    fn set_next(&mut self, frame: u32, next: u32);
    /// Sets the previous link.
    fn set_prev(&mut self, frame: u32, prev: u32);
}

/// The free lists of one contiguous range of frames.
#[derive(Debug, Clone)]
pub struct Buddy {
    start: u32,
    end: u32,
    heads: [u32; ORDERS],
    blocks: [u32; ORDERS],
    free: u32,
}

impl Buddy {
    /// An allocator for frames `start..end`, all of them in use until freed.
    pub const fn new(start: u32, end: u32) -> Buddy {
        Buddy { start, end, heads: [NONE; ORDERS], blocks: [0; ORDERS], free: 0 }
    }

    /// Number of free frames.
    pub fn free_frames(&self) -> u32 {
        self.free
    }

    /// Number of free blocks of each order: the columns of `/proc/buddyinfo`.
    pub fn blocks(&self) -> &[u32; ORDERS] {
        &self.blocks
    }

    /// The range of frames this allocator may hold.
    pub fn range(&self) -> core::ops::Range<u32> {
        self.start..self.end
    }

    /// Whether `frame` lies in the range.
    pub fn contains(&self, frame: u32) -> bool {
        frame >= self.start && frame < self.end
    }

    /// Takes a block of 2^`order` frames, aligned to its size; `None` when no block is that large.
    pub fn alloc<F: Frames>(&mut self, frames: &mut F, order: u8) -> Option<u32> {
        let found = self.smallest_fit(order)?;
        let block = self.heads[usize::from(found)];
        self.unlink(frames, block, found);
        // Give the upper halves back, from large to small, and keep the lowest piece.
        for half in (order..found).rev() {
            self.link(frames, block + (1 << half), half);
        }
        self.free -= 1 << order;
        Some(block)
    }

    /// Takes the frame itself out of whatever free block holds it; false when it is in use.
    ///
    /// For reserving particular frames (memory that turns out bad, memory to test with).
    pub fn take<F: Frames>(&mut self, frames: &mut F, frame: u32) -> bool {
        let Some((block, order)) = self.block_of(frames, frame) else { return false };
        self.unlink(frames, block, order);
        let mut block = block;
        for half in (0..order).rev() {
            let upper = block + (1 << half);
            let (keep, give) = if frame >= upper { (upper, block) } else { (block, upper) };
            self.link(frames, give, half);
            block = keep;
        }
        self.free -= 1;
        true
    }

    /// Gives back a block that `alloc` returned with the same `order`, merging it with free buddies.
    ///
    /// A caller that knows it has split a block may also free the pieces one by one.
    pub fn free<F: Frames>(&mut self, frames: &mut F, frame: u32, order: u8) {
        debug_assert!(frame & ((1 << order) - 1) == 0 && self.contains(frame));
        debug_assert!(self.block_of(frames, frame).is_none(), "double free of frame {frame}");
        self.free += 1 << order;
        let (mut block, mut order) = (frame, order);
        while order < MAX_ORDER {
            let buddy = block ^ (1 << order);
            if !self.contains(buddy) || frames.free_order(buddy) != Some(order) {
                break;
            }
            self.unlink(frames, buddy, order);
            block &= !(1 << order);
            order += 1;
        }
        self.link(frames, block, order);
    }

    /// Frees every frame of `start..end` in the largest blocks that are aligned: how a zone is filled at boot.
    pub fn free_range<F: Frames>(&mut self, frames: &mut F, start: u32, end: u32) {
        let mut at = start;
        while at < end {
            let aligned = (at.trailing_zeros() as u8).min(MAX_ORDER);
            let fits = (end - at).ilog2() as u8;
            let order = aligned.min(fits);
            self.free(frames, at, order);
            at += 1 << order;
        }
    }

    /// Whether a block of at least `order` is free.
    pub fn has_block(&self, order: u8) -> bool {
        self.smallest_fit(order).is_some()
    }

    fn smallest_fit(&self, order: u8) -> Option<u8> {
        (order..=MAX_ORDER).find(|&o| self.heads[usize::from(o)] != NONE)
    }

    /// The free block that covers `frame`.
    fn block_of<F: Frames>(&self, frames: &F, frame: u32) -> Option<(u32, u8)> {
        (0..=MAX_ORDER).find_map(|order| {
            let block = frame & !((1 << order) - 1);
            let covers = self.contains(block) && frames.free_order(block) == Some(order);
            covers.then_some((block, order))
        })
    }

    fn link<F: Frames>(&mut self, frames: &mut F, block: u32, order: u8) {
        let head = &mut self.heads[usize::from(order)];
        frames.set_free_order(block, Some(order));
        frames.set_prev(block, NONE);
        frames.set_next(block, *head);
        if *head != NONE {
            frames.set_prev(*head, block);
        }
        *head = block;
        self.blocks[usize::from(order)] += 1;
    }

    fn unlink<F: Frames>(&mut self, frames: &mut F, block: u32, order: u8) {
        let (prev, next) = (frames.prev(block), frames.next(block));
        match prev {
            NONE => self.heads[usize::from(order)] = next,
            _ => frames.set_next(prev, next),
        }
        if next != NONE {
            frames.set_prev(next, prev);
        }
        frames.set_free_order(block, None);
        self.blocks[usize::from(order)] -= 1;
    }
}

#[cfg(test)]
mod tests;
