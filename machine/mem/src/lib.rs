//! Physical and kernel memory: frames, folios, the kernel heap, vmalloc, page tables, user copies.
//!
//! **Problem.** Everything above this crate is safe Rust. Here raw memory becomes owned, counted handles.
//!
//! **Interface** (the contract the rest of the kernel builds on):
//!
//! | item | meaning |
//! |---|---|
//! | `OutOfMemory` | zero-sized error; `impl From<OutOfMemory> for abi::Errno` (ENOMEM) |
//! | `init(&BootInfo)` | frame metadata, zones, kernel heap, the final kernel page table (W^X image, direct map in the largest pages); CPU 0, once. `init_cpu()` on each CPU |
//! | `Folio` | owned reference to a power-of-two, naturally aligned run of pages. `Clone` takes a reference, `Drop` gives it back, the last one frees. `Folio::alloc(order, AllocFlags) -> Result<Folio, OutOfMemory>`; `order()`, `pages()`, `phys()`, `refs() -> u32`, `zero()`, `copy_from(&Folio)`, `read(offset, &mut [u8])`, `write(offset, &[u8])` (byte copies through the direct map; user space may race with them, which is allowed), `copy_to_user(offset, user_addr, len) -> Result<(), Fault>`, `copy_from_user(offset, user_addr, len)`, flags: `dirty/set_dirty/clear_dirty`, `uptodate/set_uptodate`, `referenced/set_referenced/clear_referenced`, `map_count() -> u32`, `lock()/try_lock()/unlock` are NOT here (page-cache locks live above), `private() / set_private(u64)` a word for the owner, `ptr_eq(&Folio)` |
//! | `AllocFlags` | `ZERO`, `ATOMIC` (may use the reserve, never sleeps), `KERNEL` (page tables, stacks; may go down to the min watermark), `USER` (stops at the low watermark), `HIGH`/`DMA32` zone wishes |
//! | `set_reclaimer(fn(pages_wanted: usize) -> usize)` | called (may sleep, no locks held, preemption on) when a `USER`/`KERNEL` allocation would fail; returns pages freed; allocation is retried while it is > 0. kcore puts the OOM killer here |
//! | `UserTable` | a user page table with its ASID and the set of CPUs that use it, in an `Arc`. `UserTable::new() -> Result<Arc<UserTable>, OutOfMemory>`; dropped: all mappings and tables are freed |
//! | `UserTable::lock(&self) -> TableGuard` | spin lock over the entries (preemption off while held: no sleeping inside). On the guard: `get(va) -> Entry` (`Entry::{None, Page(PageEntry{phys, flags: PteFlags}), Soft(u64)}`), `folio(va) -> Option<Folio>` (takes a reference), `map(va, &Folio, page_in_folio, PteFlags) -> Result<Option<()>, OutOfMemory>` (takes a reference and a map count; `Ok(None)` if something is mapped there already; needs page-table pages: to avoid sleeping inside, `prepare(va)` before taking the lock preallocates them), `map_zero(va, PteFlags)` (shared zero page), `replace(va, &Folio, page_in_folio, PteFlags)` (copy-on-write: new page in, old reference dropped after the flush), `set_flags(va, PteFlags)`, `protect(range, FnMut(PteFlags) -> PteFlags)`, `unmap(range) -> usize` pages removed (frees folios after the TLB flush; batches), `for_each(range, FnMut(va, Entry))` skipping empty subtrees, `map_soft(va, u64)`. All of them do the TLB work that the change needs (local and shoot-down, batched until the guard drops) |
//! | `UserTable::clone_cow(&self, child: &UserTable, range, share: bool) -> Result<(), OutOfMemory>` | fork: copies the entries of a range; `share == false` makes writable pages read-only in both |
//! | `UserTable::activate(&self)` | on this CPU, from the switch code, interrupts off; `deactivate` to the kernel-only table; lazy: kernel threads keep the last one |
//! | `UserTable::is_zero_page(phys) -> bool`, `zero_folio() -> &'static Folio`-like | the shared zero page |
//! | `user` | `read(addr, &mut [u8]) -> Result<(), Fault>`, `write(addr, &[u8])`, `read_val<T: Pod>(addr)`, `write_val`, `clear(addr, len)`, `read_cstr(addr, max, &mut Vec<u8>) -> Result<(), Errno>` (EFAULT, ENAMETOOLONG), `load_u32/store_u32/cmpxchg_u32`, `*_partial` variants that return how much was copied. All act on the active user table, may sleep when preemption is on |
//! | `KernelStack::alloc() -> Result<KernelStack, OutOfMemory>` | 16 KiB with a guard page below, in vmalloc; `top() -> VirtAddr`, `contains(addr)`; freed stacks are cached per CPU |
//! | `vmalloc(bytes) -> Result<VmallocRegion, OutOfMemory>`, `ioremap(phys, len) -> Option<VirtAddr>` | |
//! | `stats() -> MemStats`, `zones(FnMut(&ZoneInfo))`, `slabs(FnMut(&SlabInfo))` | for /proc/meminfo, buddyinfo, zoneinfo, slabinfo |
//! | `KmemCache<T>` | named typed cache (for /proc/slabinfo): `KmemCache::new("dentry")`, `alloc(T) -> Result<SlabBox<T>, OutOfMemory>` |
//! | `debug_slab(flags)` | slab_debug=FZPU: poison, red zones with Linux's byte values |
//! | `free_initrd(range)` | gives boot memory back |
//!
//! The global allocator (`alloc::boxed::Box` and so on) is the slab for up to 8 KiB, the buddy above. A
//! failing infallible allocation first calls the reclaimer when it may sleep, and may use the reserve that
//! user pages cannot touch; sizes that a program controls use `try_reserve`.

#![no_std]

extern crate alloc;

mod asid;
mod boot;
mod bytes;
mod cache;
mod flush;
mod folio;
mod frame;
mod heap;
mod kernel_table;
mod kmem;
mod local;
mod pages;
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
pub use folio::{Folio, zero_folio, zero_page};
pub use heap::KernelHeap;
pub use kmem::{KmemCache, SlabBox};
pub use reclaim::{Reclaimer, set_reclaimer};
pub use stack::{KernelStack, STACK_SIZE, is_stack_guard};
pub use stats::{MemStats, ZoneInfo, free_pages, stats, total_bytes, zones};
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
