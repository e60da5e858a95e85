//! A fake machine with the parts of `arch` that `sync` and `mem` use.
//!
//! A thread is a CPU once it has called [`cpu::become_cpu`]. Physical memory and the vmalloc range are
//! mappings of the test process at fixed addresses; page tables are real trees in that memory, which
//! nobody walks but the code under test.

#[path = "../../../../arch/src/addr.rs"]
pub mod addr;
#[path = "../../../../arch/src/bootinfo.rs"]
pub mod bootinfo;
pub mod layout;
#[path = "../../../../arch/src/paging.rs"]
pub mod paging;

pub mod block;
pub mod mmu;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr};
pub use bootinfo::{BootInfo, MemKind, MemRegion};

pub const MAX_CPUS: usize = 64;

/// A user address that could not be accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// A set of CPUs; bit `n` is CPU `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuMask(pub u64);

impl CpuMask {
    pub const fn contains(self, cpu: usize) -> bool {
        cpu < MAX_CPUS && self.0 & (1 << cpu) != 0
    }

    pub const fn without(self, cpu: usize) -> CpuMask {
        CpuMask(self.0 & !(1 << cpu))
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

pub mod cpu {
    use std::cell::Cell;

    thread_local! {
        static ID: Cell<usize> = const { Cell::new(0) };
        static PREEMPT: Cell<u32> = const { Cell::new(0) };
        static MARK: u8 = const { 0 };
    }

    /// Makes this thread play CPU `id`. One thread at a time plays a CPU.
    pub fn become_cpu(id: usize) {
        ID.set(id);
    }
    pub fn id() -> usize {
        ID.get()
    }
    pub fn count() -> usize {
        8
    }
    pub fn relax() {
        std::thread::yield_now();
    }
    pub fn preempt_count() -> u32 {
        PREEMPT.get()
    }
    pub fn preempt_count_add(by: u32) {
        PREEMPT.set(PREEMPT.get() + by);
    }
    pub fn preempt_count_sub(by: u32) -> u32 {
        PREEMPT.set(PREEMPT.get() - by);
        PREEMPT.get()
    }
    pub fn need_resched() -> bool {
        false
    }
    pub fn current() -> *const () {
        MARK.with(|mark| core::ptr::from_ref(mark).cast())
    }
}

pub mod irq {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(true) };
    }

    pub struct Flags(bool);

    pub fn disable() -> Flags {
        Flags(ON.replace(false))
    }
    pub fn restore(flags: Flags) {
        ON.set(flags.0);
    }
    pub fn is_enabled() -> bool {
        ON.get()
    }
}

/// No user memory: every access faults.
pub mod uaccess {
    use crate::Fault;

    /// # Safety
    /// 1. None: nothing is copied.
    pub unsafe fn copy_from_user(_to: *mut u8, _from: usize, len: usize) -> usize {
        len
    }
    /// # Safety
    /// 1. None: nothing is copied.
    pub unsafe fn copy_to_user(_to: usize, _from: *const u8, len: usize) -> usize {
        len
    }
    pub fn clear_user(_to: usize, len: usize) -> usize {
        len
    }
    pub fn load_u32(_addr: usize) -> Result<u32, Fault> {
        Err(Fault)
    }
    pub fn store_u32(_addr: usize, _value: u32) -> Result<(), Fault> {
        Err(Fault)
    }
    pub fn cmpxchg_u32(_addr: usize, _old: u32, _new: u32) -> Result<u32, Fault> {
        Err(Fault)
    }
}

/// Device registers, which the fake machine has none of.
pub mod io {
    use crate::VirtAddr;

    #[derive(Clone, Copy, Debug)]
    pub struct IoRegion;

    impl IoRegion {
        /// # Safety
        /// 1. None: there is nothing behind it.
        pub const unsafe fn mmio(_base: VirtAddr, _len: usize) -> IoRegion {
            IoRegion
        }
    }
}

pub mod memory {
    /// # Safety
    /// 1. Both are `pages` pages, and they do not overlap.
    pub unsafe fn copy_pages(from: *const u8, to: *mut u8, pages: usize) {
        // SAFETY: 1. the caller's obligation.
        unsafe { core::ptr::copy_nonoverlapping(from, to, pages * crate::PAGE_SIZE) }
    }
}
