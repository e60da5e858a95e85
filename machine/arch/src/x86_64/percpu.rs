//! The area of memory that GS points to: one per CPU.
//!
//! **Idea.** What must be read or changed without being preempted half-way is done by one GS-relative
//! instruction. The layout is known to the assembly of `entry` by `offset_of!`.

use super::desc::{GDT_ENTRIES, Tss};
use super::fpu::CpuFpu;
use super::{context::TaskState, reg};
use crate::MAX_CPUS;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

pub const DOUBLE_FAULT_STACK_BYTES: usize = 8192;
pub const OTHER_STACK_BYTES: usize = 4096;

#[repr(C, align(64))]
pub struct PerCpu {
    /// The address of this structure.
    pub this: *mut PerCpu,
    pub preempt_count: u32,
    /// `need_resched` and `irq_pending` are together one word: reasons not to enter user mode.
    pub need_resched: u8,
    /// The vector of an interrupt that came while interrupts were masked; 0: none.
    pub irq_pending: u8,
    _zero: u16,
    /// See [`super::irq`].
    pub irq_masked: u8,
    pub irq_hard_off: u8,
    /// `task::Task` of the layer above.
    pub current: *const (),
    pub cpu: u32,
    pub apic_id: u32,
    /// The user stack pointer for the few instructions of a system call's entry.
    pub user_sp: usize,
    /// The registers of the current task; null before the first switch.
    pub task_state: *mut TaskState,
    /// CR3 as last loaded.
    pub cr3: u64,
    /// The clock event: absolute ns, `u64::MAX` when none is wanted.
    pub deadline_ns: u64,
    /// The APIC timer counts in steps of 128.
    pub timer_far: bool,
    pub fpu: CpuFpu,
    /// CPUs that ask this one for a TLB flush.
    pub flush_inbox: AtomicU64,
    /// This CPU's own request, read by those in `flush_pending`.
    pub flush: [AtomicU64; 3],
    pub flush_pending: AtomicU64,
    /// Puts `tss.rsp0`, which is at offset 4 there, on an 8-byte boundary.
    _pad: u32,
    pub tss: Tss,
    pub gdt: [u64; GDT_ENTRIES],
    pub double_fault_stack: Stack<DOUBLE_FAULT_STACK_BYTES>,
    pub nmi_stack: Stack<OTHER_STACK_BYTES>,
    pub debug_stack: Stack<OTHER_STACK_BYTES>,
}

/// A stack of the interrupt stack table. The word at its top is the address of the [`PerCpu`], because GS
/// may be the user's when it is entered.
#[repr(C, align(16))]
pub struct Stack<const N: usize>(pub [u8; N]);

/// The area of CPU 0. The others come from the heap.
/// Zeroes, so that it takes no space in the image file.
static mut BOOT_AREA: MaybeUninit<PerCpu> = MaybeUninit::zeroed();

static AREAS: [AtomicPtr<PerCpu>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// APIC ids by CPU number, and how many there are; filled by [`super::platform`] before `ochre_main`.
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
static COUNT: AtomicU32 = AtomicU32::new(1);

pub fn apic_id(cpu: usize) -> u32 {
    APIC_IDS[cpu].load(Ordering::Relaxed)
}

pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed) as usize
}

/// Records the CPUs that firmware describes: this one first.
pub fn set_cpus(ids: &[u32]) {
    for (slot, id) in APIC_IDS.iter().zip(ids) {
        slot.store(*id, Ordering::Relaxed);
    }
    COUNT.store(ids.len().clamp(1, MAX_CPUS) as u32, Ordering::Relaxed);
}

/// The area of another CPU, once it was prepared.
pub fn of(cpu: usize) -> Option<&'static PerCpu> {
    // SAFETY: 1. areas are never freed; 2. what other CPUs touch in one are its atomics.
    unsafe { AREAS.get(cpu)?.load(Ordering::Acquire).as_ref() }
}

/// This CPU's area. Interrupts are off, or the caller can live with being moved.
#[inline]
pub fn this() -> *mut PerCpu {
    let area: *mut PerCpu;
    // SAFETY: 1. GS points to the area in kernel mode, and the first word of it to itself.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) area, options(nostack, preserves_flags, readonly));
    }
    area
}

/// The area of CPU 0.
pub fn boot_area() -> *mut PerCpu {
    (&raw mut BOOT_AREA).cast()
}

/// Makes `area` that of CPU `cpu`, findable by others.
///
/// # Safety
/// 1. `area` is zeroed memory that lives for ever and nobody uses yet.
pub unsafe fn prepare(area: *mut PerCpu, cpu: usize) {
    // SAFETY: 1. the caller's obligation.
    unsafe {
        (*area).this = area;
        (*area).cpu = cpu as u32;
        (*area).apic_id = apic_id(cpu);
        (*area).deadline_ns = u64::MAX;
        (*area).irq_masked = 1;
        (*area).irq_hard_off = 1;
        for top in ist_tops(area) {
            (top as *mut usize).write(area as usize);
        }
    }
    AREAS[cpu].store(area, Ordering::Release);
}

/// Where the stacks of the interrupt stack table start: double fault, NMI, debug. The word there is the
/// address of the area.
pub fn ist_tops(area: *mut PerCpu) -> [usize; 3] {
    // SAFETY: 1. only addresses are computed.
    let starts = unsafe {
        [
            (&raw mut (*area).double_fault_stack) as usize + DOUBLE_FAULT_STACK_BYTES,
            (&raw mut (*area).nmi_stack) as usize + OTHER_STACK_BYTES,
            (&raw mut (*area).debug_stack) as usize + OTHER_STACK_BYTES,
        ]
    };
    starts.map(|end| end - 16)
}

/// Points GS of the running CPU to `area`.
///
/// # Safety
/// 1. `area` was [`prepare`]d for this CPU.
pub unsafe fn load(area: *mut PerCpu) {
    // SAFETY: 1. the caller's obligation; every x86-64 has the registers.
    unsafe {
        reg::wrmsr(reg::MSR_GS_BASE, area as u64);
        reg::wrmsr(reg::MSR_KERNEL_GS_BASE, 0);
    }
}
