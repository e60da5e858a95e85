//! Kernel stacks: mapped in slots of the vmalloc range, with nothing mapped below.
//!
//! ```text
//!   slot (64 KiB):  | unmapped: the guard ................ | stack, growing down <- top |
//! ```
//!
//! Freed stacks stay mapped on a list and are handed out again, so that fork and exit do not touch the
//! kernel's page table and every TLB each time. The list gives back when memory is short or it is long.

use crate::frame::{Kind, Pfn, frame};
use crate::{AllocFlags, OutOfMemory, kernel_table, pages};
use arch::layout::VMALLOC_BASE;
use arch::paging::PteFlags;
use arch::{PAGE_SIZE, VirtAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use idalloc::IdAllocator;
use sync::{SpinLock, levels};

/// Bytes of a kernel stack. Unoptimised code needs more.
pub const STACK_SIZE: usize = if cfg!(debug_assertions) { 32 << 10 } else { 16 << 10 };
const SLOT: usize = 64 << 10;
/// The part of the vmalloc range that is cut into slots.
pub(crate) const REGION: usize = 4 << 30;
const PAGES: usize = STACK_SIZE / PAGE_SIZE;
const NO_SLOT: u32 = u32::MAX;
/// Freed stacks kept mapped.
const KEEP: usize = 32;

struct Slots {
    /// Slots that are mapped. Its memory was reserved at boot: nothing is allocated under the lock.
    used: IdAllocator,
    limit: u32,
    /// The first free, still mapped stack; each has the next one's slot in its top word.
    free: u32,
    free_count: usize,
}

static SLOTS: SpinLock<Slots, levels::Vmalloc> =
    SpinLock::new(Slots { used: IdAllocator::new(), limit: 0, free: NO_SLOT, free_count: 0 });

/// Mapped stacks, in use or kept.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// A kernel stack of [`STACK_SIZE`] bytes.
#[derive(Debug)]
pub struct KernelStack {
    slot: u32,
}

/// Sizes the slots: no more than stacks that fit the memory. Once, at boot, when the heap works.
pub(crate) fn init(managed: usize) -> Result<(), OutOfMemory> {
    let limit = (managed / PAGES).min(REGION / SLOT) as u32;
    let mut used = IdAllocator::new();
    used.try_reserve(limit).map_err(|_| OutOfMemory)?;
    let mut slots = SLOTS.lock();
    slots.used = used;
    slots.limit = limit;
    Ok(())
}

/// Bytes in kernel stacks, for `/proc/meminfo`.
pub(crate) fn stack_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed) * STACK_SIZE
}

fn bottom(slot: u32) -> usize {
    VMALLOC_BASE + (slot as usize + 1) * SLOT - STACK_SIZE
}

/// The top word of a free stack, which holds the next free slot.
fn link(slot: u32) -> *mut u32 {
    (bottom(slot) + STACK_SIZE - 8) as *mut u32
}

impl Slots {
    fn push(&mut self, slot: u32) {
        // SAFETY: 1. the stack is mapped and nobody runs on it.
        unsafe { link(slot).write(self.free) };
        self.free = slot;
        self.free_count += 1;
    }

    fn pop(&mut self) -> Option<u32> {
        let slot = self.free;
        if slot == NO_SLOT {
            return None;
        }
        // SAFETY: 1. a stack on the list is mapped, and `push` wrote its link.
        self.free = unsafe { link(slot).read() };
        self.free_count -= 1;
        Some(slot)
    }
}

impl KernelStack {
    /// A stack. May sleep to reclaim memory; contents are undefined.
    pub fn alloc() -> Result<KernelStack, OutOfMemory> {
        let (kept, excess) = {
            let mut slots = SLOTS.lock();
            (slots.pop(), slots.free_count > KEEP)
        };
        if let Some(slot) = kept {
            if excess && !sync::preempt::in_atomic() {
                trim_to(KEEP / 2);
            }
            return Ok(KernelStack { slot });
        }
        let slot = {
            let mut slots = SLOTS.lock();
            let limit = slots.limit;
            slots.used.alloc_from(0, limit).map_err(|_| OutOfMemory)?
        };
        MAPPED.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = map(slot) {
            unmap(slot);
            return Err(error);
        }
        Ok(KernelStack { slot })
    }

    /// The address right above the stack: the first push goes below it. 16-byte aligned.
    pub fn top(&self) -> VirtAddr {
        VirtAddr(bottom(self.slot) + STACK_SIZE)
    }

    /// Whether the address lies in the stack.
    pub fn contains(&self, addr: VirtAddr) -> bool {
        (bottom(self.slot)..bottom(self.slot) + STACK_SIZE).contains(&addr.0)
    }

    /// The addresses of the stack.
    pub fn range(&self) -> core::ops::Range<usize> {
        bottom(self.slot)..bottom(self.slot) + STACK_SIZE
    }
}

impl Drop for KernelStack {
    /// Any context, but not on the stack itself.
    fn drop(&mut self) {
        SLOTS.lock().push(self.slot);
    }
}

/// Whether the address lies in the guard below a kernel stack: an access there is a stack overflow.
pub fn is_stack_guard(addr: usize) -> bool {
    let Some(offset) = addr.checked_sub(VMALLOC_BASE) else { return false };
    offset < REGION && offset % SLOT < SLOT - STACK_SIZE
}

fn map(slot: u32) -> Result<(), OutOfMemory> {
    for page in 0..PAGES {
        let pfn = pages::alloc(0, AllocFlags::KERNEL)?;
        frame(pfn).set_kind(Kind::Kernel, 0);
        let va = bottom(slot) + page * PAGE_SIZE;
        if let Err(error) = kernel_table::map_page(va, pfn, PteFlags::READ | PteFlags::WRITE) {
            pages::free(pfn, 0);
            return Err(error);
        }
    }
    // RISC-V lets a CPU cache that nothing was here, and a fault on a stack has no stack to be handled on.
    arch::mmu::flush_kernel_range_all_cpus(VirtAddr(bottom(slot)), STACK_SIZE);
    Ok(())
}

fn unmap(slot: u32) {
    let mut frames = [0; PAGES];
    let mut count = 0;
    kernel_table::unmap_pages(bottom(slot), STACK_SIZE, |pfn: Pfn| {
        frames[count] = pfn;
        count += 1;
    });
    arch::mmu::flush_kernel_range_all_cpus(VirtAddr(bottom(slot)), STACK_SIZE);
    frames[..count].iter().for_each(|&pfn| pages::free(pfn, 0));
    MAPPED.fetch_sub(1, Ordering::Relaxed);
    SLOTS.lock().used.free(slot);
}

/// Gives the memory of all kept stacks back. May not be called in atomic context.
pub(crate) fn trim() {
    trim_to(0);
}

fn trim_to(keep: usize) {
    loop {
        let excess = {
            let mut slots = SLOTS.lock();
            if slots.free_count > keep { slots.pop() } else { None }
        };
        let Some(slot) = excess else { return };
        unmap(slot);
    }
}
