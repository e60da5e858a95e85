//! Heap blocks with a safe interface, so that tests of the allocator need no unsafe code.

use std::alloc::{GlobalAlloc, Layout};

/// A block of memory from an allocator, freed when dropped.
pub struct Block<A: GlobalAlloc + 'static> {
    allocator: &'static A,
    memory: *mut u8,
    layout: Layout,
}

impl<A: GlobalAlloc> Block<A> {
    /// Allocates `size` bytes and fills them; `None` when the allocator refuses.
    pub fn new(allocator: &'static A, size: usize, align: usize, fill: u8) -> Option<Block<A>> {
        let layout = Layout::from_size_align(size.max(1), align).ok()?;
        // SAFETY: 1. the size is not zero.
        let memory = unsafe { allocator.alloc(layout) };
        assert!((memory as usize).is_multiple_of(align));
        let mut block = (!memory.is_null()).then_some(Block { allocator, memory, layout })?;
        block.bytes_mut().fill(fill);
        Some(block)
    }

    /// Changes the size, keeping what fits.
    pub fn resize(&mut self, size: usize) {
        // SAFETY: 1. the block came from this allocator with this layout; 2. the size is not zero.
        let memory = unsafe { self.allocator.realloc(self.memory, self.layout, size.max(1)) };
        assert!(!memory.is_null());
        self.memory = memory;
        self.layout =
            Layout::from_size_align(size.max(1), self.layout.align()).expect("smaller than a layout may be");
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: 1. the block is that long and was filled.
        unsafe { std::slice::from_raw_parts(self.memory, self.layout.size()) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: 1. the block is that long; any bytes are `u8`s.
        unsafe { std::slice::from_raw_parts_mut(self.memory, self.layout.size()) }
    }

    /// Commits the crimes that slab debugging is for. `at` may be one past the end, or freed memory.
    pub fn scribble(&mut self, at: usize, byte: u8) {
        assert!(at <= self.layout.size());
        // SAFETY: 1. the test knows that the slot has a red zone behind the object.
        unsafe { self.memory.add(at).write(byte) };
    }

    /// Frees the block and then writes to it.
    pub fn use_after_free(self, at: usize, byte: u8) {
        let memory = self.memory;
        assert!(at < self.layout.size());
        drop(self);
        // SAFETY: 1. slab memory stays mapped; the test wants to see this found.
        unsafe { memory.add(at).write(byte) };
    }

    /// Frees the block twice.
    pub fn double_free(self) {
        // SAFETY: 1. the first one is right; the second is what the allocator in debug mode must survive.
        unsafe { self.allocator.dealloc(self.memory, self.layout) };
    }
}

impl<A: GlobalAlloc> Drop for Block<A> {
    fn drop(&mut self) {
        // SAFETY: 1. the block came from this allocator with this layout.
        unsafe { self.allocator.dealloc(self.memory, self.layout) };
    }
}
