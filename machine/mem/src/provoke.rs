//! Memory errors on request, for the driver `lkdtm`: to see that slab debugging and the oops notice them.
//!
//! Debug builds only: with slab debugging a wrong write lands in poison or a red zone, and is found before anybody
//! else uses the memory.

use alloc::boxed::Box;
use core::hint::black_box;
use core::ptr;

/// An object that fills one of a cache, of a size that is seldom used: the next allocation gets the same memory.
type Object = [u64; WORDS];

const WORDS: usize = 128;

fn object() -> Box<Object> {
    black_box(Box::new([0; WORDS]))
}

/// Writes to a freed object, and takes it again.
pub fn write_after_free() {
    let freed = Box::into_raw(object());
    // SAFETY: 1. the pointer is from `into_raw`; 2. not met on purpose: the write comes after the end of the object's
    // life. Its memory is still mapped.
    unsafe {
        drop(Box::from_raw(freed));
        ptr::write_volatile(freed.cast::<u64>().add(8), 0x1234_5678);
    }
    drop(object());
}

/// Writes one word past an object.
pub fn write_past_end() {
    let object = Box::into_raw(object());
    // SAFETY: 1. not met on purpose: the word belongs to the allocator; 2. the pointer is from `into_raw`.
    unsafe {
        ptr::write_volatile(object.cast::<u64>().add(WORDS), 0x1234_5678);
        drop(Box::from_raw(object));
    }
}

/// Frees an object twice.
pub fn free_twice() {
    let object = Box::into_raw(object());
    // SAFETY: 1. the pointer is from `into_raw`; 2. not met on purpose: the second time it is nobody's.
    unsafe {
        drop(Box::from_raw(object));
        drop(Box::from_raw(object));
    }
}

/// Writes to address 0.
pub fn null_write() {
    // SAFETY: 1. not met on purpose: nothing is mapped there, and the processor says so.
    unsafe { ptr::write_volatile(black_box(ptr::null_mut::<u64>()), 1) };
}
