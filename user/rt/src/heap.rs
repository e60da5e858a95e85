//! The global allocator: power-of-two size classes over chunks from `mmap`, large blocks mapped one by one.
//!
//! Idea: the programs allocate little and live shortly, so simplicity wins over density. A free
//! block's first word links its class's list. One futex-less spin lock guards all lists and yields
//! while waiting: holders do a few instructions, or one `mmap`.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::{mm, process};

const MIN_SHIFT: usize = 4;
const MAX_SHIFT: usize = 15;
const CLASSES: usize = MAX_SHIFT - MIN_SHIFT + 1;
const CHUNK_BYTES: usize = 256 << 10;

struct Lists {
    free: [*mut u8; CLASSES],
    bump: usize,
    end: usize,
}

struct Heap {
    locked: AtomicBool,
    lists: UnsafeCell<Lists>,
}

// SAFETY: 1. `lists` is only touched under `locked`.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap {
    locked: AtomicBool::new(false),
    lists: UnsafeCell::new(Lists { free: [null_mut(); CLASSES], bump: 0, end: 0 }),
};

/// The class of a layout, or `None` when it gets a mapping of its own.
fn class(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << MIN_SHIFT).next_power_of_two();
    let shift = size.trailing_zeros() as usize;
    (shift <= MAX_SHIFT).then(|| shift - MIN_SHIFT)
}

impl Lists {
    fn pop(&mut self, class: usize) -> *mut u8 {
        let head = self.free[class];
        if head.is_null() {
            return self.carve(1 << (class + MIN_SHIFT));
        }
        // SAFETY: 1. blocks on a list are free, aligned to their size (at least 16), and hold the link in their first word.
        self.free[class] = unsafe { head.cast::<*mut u8>().read() };
        head
    }

    fn push(&mut self, class: usize, block: *mut u8) {
        // SAFETY: 1. the block was just freed by its only owner, is aligned and at least 16 bytes long.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }

    fn carve(&mut self, size: usize) -> *mut u8 {
        let start = (self.bump + size - 1) & !(size - 1);
        if start + size <= self.end {
            self.bump = start + size;
            return start as *mut u8;
        }
        match mm::map_anonymous(CHUNK_BYTES) {
            Ok(chunk) => {
                self.bump = chunk;
                self.end = chunk + CHUNK_BYTES;
                self.carve(size) // fits: a chunk is page-aligned, and 8 times the largest class
            }
            Err(_) => null_mut(),
        }
    }
}

impl Heap {
    fn with<R>(&self, f: impl FnOnce(&mut Lists) -> R) -> R {
        while self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            process::yield_now();
        }
        // SAFETY: 1. `locked` was taken, so nobody else has the lists.
        let result = f(unsafe { &mut *self.lists.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

// SAFETY: 1. blocks of a class are aligned to their size, which covers size and alignment; 2. mapped
// blocks are page-aligned, and alignments beyond a page are refused; 3. a block is on at most one list.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            Some(class) => self.with(|lists| lists.pop(class)),
            None if layout.align() > mm::PAGE => null_mut(),
            None => mm::map_anonymous(layout.size()).map_or(null_mut(), |at| at as *mut u8),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            Some(class) => self.with(|lists| lists.push(class, block)),
            // SAFETY: 1. this block is a whole mapping made by `alloc`; 2. its owner gave it up.
            // An error would mean that the mapping is gone already; there is nobody to tell.
            None => drop(unsafe { mm::unmap(block as usize, layout.size()) }),
        }
    }
}
