//! Named caches for objects of one type, for what should have a line of its own in `/proc/slabinfo`.

use crate::cache::{Cache, cache_of};
use crate::{AllocFlags, OutOfMemory};
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A cache of `T`s, to be put in a static: `static INODES: KmemCache<Inode> = KmemCache::new("inode_cache");`
pub struct KmemCache<T> {
    cache: Cache,
    _type: PhantomData<fn() -> T>,
}

impl<T> KmemCache<T> {
    /// A cache that shows as `name` once it has been used.
    pub const fn new(name: &'static str) -> KmemCache<T> {
        let size = if size_of::<T>() < size_of::<usize>() { size_of::<usize>() } else { size_of::<T>() };
        let align = if align_of::<T>() < size_of::<usize>() { size_of::<usize>() } else { align_of::<T>() };
        assert!(size <= 16 << 10 && align <= arch::PAGE_SIZE, "too large for a slab");
        KmemCache { cache: Cache::new(name, size, align), _type: PhantomData }
    }

    /// Stores `value` in an object of the cache. May sleep to reclaim where the context allows it.
    pub fn alloc(&'static self, value: T) -> Result<SlabBox<T>, OutOfMemory> {
        let object = self.cache.alloc(AllocFlags::KERNEL)?.cast::<T>();
        // SAFETY: 1. the object is ours, large enough and aligned (`new`).
        unsafe { object.write(value) };
        Ok(SlabBox { object })
    }
}

/// An owned object of a [`KmemCache`].
pub struct SlabBox<T> {
    object: NonNull<T>,
}

// SAFETY: 1. the box owns its value, as `Box` does.
unsafe impl<T: Send> Send for SlabBox<T> {}
// SAFETY: 1. sharing the box shares the value.
unsafe impl<T: Sync> Sync for SlabBox<T> {}

impl<T> Deref for SlabBox<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: 1. the value was written in `alloc` and lives until drop.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for SlabBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. as for `deref`; 2. `&mut self` is the only access.
        unsafe { self.object.as_mut() }
    }
}

impl<T> Drop for SlabBox<T> {
    fn drop(&mut self) {
        // SAFETY: 1. the value is dropped once, here; 2. then its object goes back to the cache it came from.
        unsafe {
            self.object.drop_in_place();
            cache_of(self.object.cast()).free(self.object.cast());
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for SlabBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        (**self).fmt(f)
    }
}
