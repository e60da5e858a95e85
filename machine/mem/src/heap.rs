//! The kernel heap: `Box`, `Vec`, `Arc` and everything else of `alloc`.
//!
//! Up to 8 KiB an allocation is an object of a kmalloc cache, above it is pages, and what no block of
//! pages can hold is mapped together in the vmalloc range. The size that Rust hands to `dealloc` says
//! which, so that freeing looks nothing up.

use crate::cache::Cache;
use crate::frame::{Kind, frame, pfn_of, virt_of};
use crate::{AllocFlags, OutOfMemory, VirtAddr, pages, reclaim, vmalloc};
use arch::PAGE_SIZE;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use slab::{KMALLOC_SIZES, class_align, kmalloc_name, size_class};

/// The general-purpose caches.
static KMALLOC: [Cache; KMALLOC_SIZES.len()] = {
    let mut caches = [const { Cache::new("", 8, 8) }; KMALLOC_SIZES.len()];
    let mut class = 0;
    while class < KMALLOC_SIZES.len() {
        let cache = Cache::new(kmalloc_name(class), KMALLOC_SIZES[class], class_align(class));
        core::mem::forget(core::mem::replace(&mut caches[class], cache));
        class += 1;
    }
    caches
};

/// Pages handed out for allocations above 8 KiB.
static LARGE_PAGES: AtomicUsize = AtomicUsize::new(0);

/// Pages in large allocations, for statistics.
pub(crate) fn large_pages() -> usize {
    LARGE_PAGES.load(Ordering::Relaxed)
}

/// The allocator behind `alloc`'s types.
pub struct KernelHeap;

#[cfg(target_os = "none")]
#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

// SAFETY: 1. `alloc` returns memory that nobody else has, of at least the size and alignment asked for
// (size_class and page blocks guarantee both); 2. `dealloc` takes the same path by the same layout.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match size_class(layout.size(), layout.align()) {
            Some(class) => match KMALLOC[class].alloc(AllocFlags::KERNEL) {
                Ok(object) => object.as_ptr(),
                Err(OutOfMemory) => last_resort(&KMALLOC[class]),
            },
            None => alloc_large(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(memory) = NonNull::new(memory) else { return };
        match size_class(layout.size(), layout.align()) {
            // SAFETY: 1. the same layout chose the same cache when the object was allocated.
            Some(class) => unsafe { KMALLOC[class].free(memory) },
            // SAFETY: 1. as above: it came from `alloc_large` with this layout.
            None => unsafe { free_large(memory, layout) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (old, align) = (layout.size(), layout.align());
        let same = match (size_class(old, align), size_class(new_size, align)) {
            (Some(old), Some(new)) => old == new,
            (None, None) => old.div_ceil(PAGE_SIZE) == new_size.div_ceil(PAGE_SIZE),
            _ => false,
        };
        if same {
            return memory;
        }
        // SAFETY: 1. the caller guarantees that `new_size` makes a valid layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, align) };
        // SAFETY: 1. a non-zero size, by the caller; 2. both blocks are at least as long as what is copied.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(memory, new, old.min(new_size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

/// Small kernel objects mostly have no way to fail: they may take the last page, and wait for one where that is
/// possible, as small allocations do on Linux.
#[cold]
fn last_resort(cache: &'static Cache) -> *mut u8 {
    loop {
        if let Ok(object) = cache.alloc(AllocFlags::DRAIN) {
            return object.as_ptr();
        }
        if sync::preempt::in_atomic() || !reclaim::wait() {
            return core::ptr::null_mut();
        }
    }
}

#[cold]
#[inline(never)]
fn alloc_large(layout: Layout) -> Option<NonNull<u8>> {
    let pages = layout.size().div_ceil(PAGE_SIZE);
    let align_order = layout.align().div_ceil(PAGE_SIZE).next_power_of_two().ilog2() as u8;
    let order = (pages.next_power_of_two().ilog2() as u8).max(align_order);
    // A large block may be missing while pages are plenty: do not press for one.
    let flags = if order > 3 { AllocFlags::KERNEL | AllocFlags::ATOMIC } else { AllocFlags::KERNEL };
    let Ok(pfn) = pages::alloc(order, flags) else {
        return if align_order > 0 { None } else { vmalloc::alloc_raw(pages) };
    };
    // What the size does not need goes back at once; `free_large` frees the rest piece by piece.
    pages::free_range(pfn + pages as u32, pfn + (1 << order));
    frame(pfn).set_kind(Kind::Kernel, 0);
    LARGE_PAGES.fetch_add(pages, Ordering::Relaxed);
    NonNull::new(virt_of(pfn))
}

/// # Safety
/// 1. `memory` came from `alloc_large` with this layout.
#[cold]
#[inline(never)]
unsafe fn free_large(memory: NonNull<u8>, layout: Layout) {
    let addr = VirtAddr(memory.as_ptr() as usize);
    if vmalloc::contains(addr) {
        return vmalloc::free_raw(addr);
    }
    let pages = layout.size().div_ceil(PAGE_SIZE);
    let pfn = pfn_of(addr.to_phys());
    LARGE_PAGES.fetch_sub(pages, Ordering::Relaxed);
    pages::free_range(pfn, pfn + pages as u32);
}
