//! Physical and kernel memory: frames, folios, the kernel heap, vmalloc, page tables, user copies.
//!
//! **Problem.** Everything above this crate is safe Rust. Here raw memory becomes owned, counted handles.
//!
//! **Interface.** Each item's own documentation has the details.
//!
//! | item | meaning |
//! |---|---|
//! | [`init`], [`init_cpu`] | from the firmware's memory list to a working allocator and the final kernel page table (W^X image, direct map); per CPU |
//! | [`Folio`], [`AllocFlags`] | an owned, counted run of 2^order pages: bytes in and out, copies to and from user memory, flags. `USER` memory stops at the low watermark, `KERNEL` at the minimum |
//! | [`set_reclaimer`], [`set_pressure_hook`] | who is asked before an allocation fails (reclaim, then the OOM killer), and who is told before that |
//! | [`UserTable`], [`TableGuard`], [`ForkCopier`] | a user page table with its TLB state; reading and changing its entries under a lock; copying it for fork. All do the TLB work that their change needs, on every CPU concerned, before a frame is used again |
//! | [`user`] | copies between kernel memory and the active user address space |
//! | [`KernelStack`] | a kernel stack with nothing mapped below |
//! | [`vmalloc`], [`ioremap`] | memory contiguous in virtual addresses only; device registers |
//! | [`DmaMemory`], [`device_registers`] | memory that a device shares; a device's registers as a region |
//! | [`KmemCache`] | a named slab cache for one type |
//! | [`stats()`], [`zones`], [`slabs`] | what `/proc/meminfo`, `buddyinfo`, `zoneinfo` and `slabinfo` show |
//! | [`debug_slab`], [`set_report`] | slab debugging with Linux's byte values and report lines |
//! | [`boot_memory`], [`free_initrd`] | the initial RAM disk, and its end |
//!
//! The global allocator (`Box`, `Vec`, `Arc`) is the slab for up to 8 KiB, whole pages above. A failing
//! small allocation first calls the reclaimer when it may sleep and then takes what the reserve has, down to
//! the last page; larger ones stop at the minimum watermark and fail. Sizes that a program controls are
//! allocated with `try_reserve`.
//!
//! **Idea.** Policy crates hold the algorithms (`buddy`, `slab`, `vma`); here is what they cannot be told
//! without `unsafe`. The common ways stay on one CPU: free frames, free objects and spare page tables are
//! kept per CPU (data that an interrupt handler finds busy rather than locked), and a change
//! that leaves no stale translation flushes nothing. `tools/mem-host` runs all of it on a fake machine.

#![no_std]

extern crate alloc;

mod asid;
mod boot;
mod bytes;
mod cache;
mod dma;
mod flush;
mod folio;
mod frame;
mod heap;
mod kernel_table;
mod kmem;
mod local;
mod pages;
#[cfg(debug_assertions)]
pub mod provoke;
mod reclaim;
mod stack;
mod stats;
mod table;
pub mod user;
mod vmalloc;
mod walk;

pub use boot::{boot_memory, free_initrd, init, init_cpu};
pub use buddy::{ORDERS, Watermarks};
pub use cache::{SlabInfo, slabs};
pub use dma::{DmaMemory, device_registers};
pub use folio::{Folio, zero_folio, zero_page};
pub use heap::KernelHeap;
pub use kmem::{KmemCache, SlabBox};
pub use reclaim::{Reclaimer, set_pressure_hook, set_reclaimer, set_waiter};
pub use stack::{KernelStack, STACK_SIZE, is_stack_guard};
pub use stats::{
    MemStats, ZoneInfo, free_pages, min_free_kib, set_min_free_kib, short_pages, stats, total_bytes, zones,
};
pub use table::{Copied, Entry, ForkCopier, PageEntry, TableGuard, UserTable};
pub use user::Pod;
pub use vmalloc::{VmallocRegion, ioremap, vmalloc};

use arch::VirtAddr;
use core::fmt;
use core::sync::atomic::{AtomicPtr, Ordering};

/// There is no memory, and none could be reclaimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl From<OutOfMemory> for abi::Errno {
    fn from(_: OutOfMemory) -> abi::Errno {
        abi::Errno::ENOMEM
    }
}

bitflags::bitflags! {
    /// How an allocation may be served.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AllocFlags: u32 {
        /// Zeroed.
        const ZERO = 1;
        /// Never sleeps and never reclaims; alone, may go to half the minimum watermark.
        const ATOMIC = 2;
        /// Kernel memory (page tables, stacks): may go down to the minimum watermark.
        const KERNEL = 4;
        /// Memory for programs and the page cache: stops at the low watermark.
        const USER = 8;
        /// Preferably above 4 GiB, where nothing is scarce. The default order already does that.
        const HIGH = 16;
        /// Below 4 GiB, for devices with 32-bit addresses.
        const DMA32 = 32;
        /// Takes the last page: for kernel objects that cannot fail, and for boot.
        const DRAIN = 64;
    }
}

impl AllocFlags {
    #[inline]
    fn reserve(self) -> buddy::Reserve {
        if self.contains(AllocFlags::DRAIN) {
            buddy::Reserve::Drain
        } else if self.contains(AllocFlags::USER) {
            buddy::Reserve::Keep
        } else if self.contains(AllocFlags::KERNEL) || !self.contains(AllocFlags::ATOMIC) {
            buddy::Reserve::Dig
        } else {
            buddy::Reserve::Deep
        }
    }
}

/// Turns on slab debug modes by the letters of `slab_debug=` (F checks, Z red zones, P poison; none of them
/// means all) for caches that have not been used yet. [`init`] does this from the command line.
pub fn debug_slab(letters: &str) {
    match slab::DebugFlags::parse(letters) {
        Ok(flags) => cache::set_debug(flags),
        Err(letter) => report(format_args!("slab_debug: unknown letter {letter}")),
    }
}

static REPORT: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Installs the function that prints what this crate has to report (slab debugging): printk.
pub fn set_report(print: fn(fmt::Arguments)) {
    REPORT.store(print as *mut (), Ordering::Release);
}

#[cold]
fn report(text: fmt::Arguments) {
    let hook = REPORT.load(Ordering::Acquire);
    if !hook.is_null() {
        // SAFETY: 1. only `set_report` stores here, and it stores such a function.
        let print: fn(fmt::Arguments) = unsafe { core::mem::transmute(hook) };
        print(text);
    }
}
