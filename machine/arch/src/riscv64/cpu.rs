//! What belongs to one CPU, found through `tp`.
//!
//! **Idea.** A word that the running task and interrupt handlers of this CPU share is read or written by
//! one `tp`-relative instruction, so that being preempted in between and moved to another CPU cannot
//! make it touch the wrong CPU's. The preemption count is changed by a load, an addition and a store:
//! while it is zero the task may move between them, but then it is zero on the other CPU too; while it
//! is not zero the task does not move, and interrupt handlers leave the count as they found it.

use super::{context::TaskState, entry, fdt, platform, sbi};
use crate::{MAX_CPUS, PhysAddr};
use alloc::boxed::Box;
use core::arch::asm;
use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// So that a [`Local`] is two pages.
pub const EMERGENCY_STACK_BYTES: usize = 8192 - 128;
const _: () = assert!(size_of::<Local>() == 8192);

/// The memory of one CPU. `entry` knows the offsets.
#[repr(C, align(64))]
pub struct Local {
    pub preempt_count: u32,
    pub need_resched: u32,
    /// `task::Task` of the layer above.
    pub current: *const (),
    pub id: usize,
    /// Interrupts are masked by software; see [`super::irq`].
    pub irq_masked: u8,
    /// `sstatus.SIE` is clear.
    pub irq_hard_off: u8,
    /// The floating-point or the vector unit may be on; see `fpu`.
    pub fpu_on: u8,
    /// This CPU's slot in the trap page.
    pub slot: usize,
    /// Not zero while a kernel-mode trap saves its registers: where it came from.
    pub trap_pc: usize,
    pub emergency_top: usize,
    /// The registers of the current task; null before the first switch.
    pub task_state: *mut TaskState,
    pub hart: usize,
    /// `Ipi` bits sent to this CPU.
    pub ipi: AtomicU32,
    /// For a starting CPU: page table, stack.
    pub start_satp: usize,
    pub start_sp: usize,
    /// satp as last written.
    pub satp: usize,
    emergency: Stack,
}

#[repr(C, align(16))]
struct Stack([u8; EMERGENCY_STACK_BYTES]);

impl Local {
    #[allow(clippy::declare_interior_mutable_const)] // a template, copied
    const EMPTY: Local = Local {
        preempt_count: 0,
        need_resched: 0,
        current: core::ptr::null(),
        id: 0,
        irq_masked: 1,
        irq_hard_off: 1,
        fpu_on: 0,
        slot: 0,
        trap_pc: 0,
        emergency_top: 0,
        task_state: core::ptr::null_mut(),
        hart: 0,
        ipi: AtomicU32::new(0),
        start_satp: 0,
        start_sp: 0,
        satp: 0,
        emergency: Stack([0; EMERGENCY_STACK_BYTES]),
    };
}

/// That of CPU 0; the others come from the heap.
pub(super) static mut BOOT_LOCAL: Local = Local::EMPTY;

static LOCALS: [AtomicPtr<Local>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
/// Hart ids by CPU number. Filled at boot by [`set_harts`].
static HARTS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(1);
static SEED: AtomicUsize = AtomicUsize::new(0);

/// Records the harts: CPU 0 is the one that boots.
pub(super) fn set_harts(harts: impl Iterator<Item = usize>) {
    let mut count = 0;
    for (slot, hart) in HARTS.iter().zip(harts) {
        slot.store(hart, Ordering::Relaxed);
        count += 1;
    }
    COUNT.store(count.max(1), Ordering::Relaxed);
}

/// The hart that is CPU `cpu`.
pub(super) fn hart_of(cpu: usize) -> usize {
    HARTS[cpu].load(Ordering::Relaxed)
}

/// The memory of another CPU, once it was made.
pub(super) fn local_of(cpu: usize) -> Option<&'static Local> {
    // SAFETY: 1. it is never freed; 2. what other CPUs touch in it are its atomics and fields that do
    // not change once it is published.
    unsafe { LOCALS.get(cpu)?.load(Ordering::Acquire).as_ref() }
}

/// Makes and publishes the memory of CPU `cpu`. `None`: no memory.
pub(super) fn make_local(cpu: usize) -> Option<&'static mut Local> {
    let layout = core::alloc::Layout::new::<Local>();
    // SAFETY: 1. the layout is not empty; 2. the block is filled before it becomes a Box.
    let local = unsafe {
        let block = alloc::alloc::alloc(layout).cast::<Local>();
        if block.is_null() {
            return None;
        }
        block.write(Local::EMPTY);
        Box::leak(Box::from_raw(block))
    };
    prepare(local, cpu);
    Some(local)
}

/// Fills in what never changes and lets others find it.
pub(super) fn prepare(local: &mut Local, cpu: usize) {
    local.id = cpu;
    local.hart = hart_of(cpu);
    local.slot = entry::slot_address(cpu);
    local.emergency_top = (&raw const local.emergency) as usize + EMERGENCY_STACK_BYTES;
    LOCALS[cpu].store(local, Ordering::Release);
}

/// The memory of CPU 0, before anybody else can reach it.
///
/// # Safety
/// 1. Called by the boot code, once.
pub(super) unsafe fn boot_local() -> &'static mut Local {
    // SAFETY: 1. the caller's obligation.
    unsafe { (&raw mut BOOT_LOCAL).as_mut_unchecked() }
}

/// Loads a field of this CPU's [`Local`] by one instruction.
macro_rules! load {
    ($instruction:literal, $field:ident, $type:ty) => {{
        let value: $type;
        // SAFETY: 1. `tp` points to this CPU's Local, which lives for ever; 2. the width is the field's.
        unsafe {
            core::arch::asm!(concat!($instruction, " {0}, {1}(tp)"), out(reg) value,
                const core::mem::offset_of!($crate::imp::cpu::Local, $field),
                options(pure, readonly, nostack, preserves_flags))
        };
        value
    }};
}

/// Stores to a field of this CPU's [`Local`] by one instruction.
macro_rules! store {
    ($instruction:literal, $field:ident, $value:expr) => {
        // SAFETY: 1. `tp` points to this CPU's Local, which lives for ever; 2. the width is the field's;
        // 3. the field is this CPU's alone to write.
        unsafe {
            core::arch::asm!(concat!($instruction, " {0}, {1}(tp)"), in(reg) $value,
                const core::mem::offset_of!($crate::imp::cpu::Local, $field),
                options(nostack, preserves_flags))
        }
    };
}

pub(super) use {load, store};

/// The number of the CPU that runs now; a hint when preemption is on.
#[inline]
pub fn id() -> usize {
    load!("ld", id, usize)
}

/// CPUs that firmware describes.
#[inline]
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// In a loop that waits for another CPU. Lets interrupts in that the entry of a system call left off.
#[inline]
pub fn relax() {
    super::irq::catch_up();
    // SAFETY: 1. the Zihintpause encoding is a hint everywhere: a FENCE that orders nothing.
    unsafe { asm!(".4byte 0x0100000f", options(nostack, preserves_flags)) };
}

/// Prepares the running hart as CPU `cpu`: trap vector, interrupt enables, counters. The boot code does
/// it before any Rust above this layer runs.
pub fn init_local(cpu: usize) {
    use super::csr;
    entry::publish_slot(cpu);
    // SAFETY: 1. the stub of this CPU is the trap vector from here on, its slot is filled; 2. sstatus:
    // interrupts off, FPU and vector unit off; 3. user mode may read the time counter only.
    unsafe {
        csr::write!("stvec", entry::stub_address(cpu));
        csr::clear!("sstatus", csr::SSTATUS_SIE | csr::SSTATUS_FS | csr::SSTATUS_VS | csr::SSTATUS_SPP);
        csr::set!("sstatus", csr::SSTATUS_SPIE | super::uaccess::SUM_ALWAYS);
        csr::write!("scounteren", 2usize);
        csr::write!("sie", super::irq::SOURCES);
    }
}

#[inline]
pub fn preempt_count() -> u32 {
    load!("lw", preempt_count, u32)
}

#[inline]
pub fn preempt_count_add(n: u32) {
    // SAFETY: 1. as for `load!` and `store!`; being moved in between is harmless (see the module).
    unsafe {
        asm!("lw {t}, {o}(tp)", "addw {t}, {t}, {n}", "sw {t}, {o}(tp)", t = out(reg) _, n = in(reg) n,
            o = const offset_of!(Local, preempt_count), options(nostack, preserves_flags));
    }
}

/// Returns the new value.
#[inline]
pub fn preempt_count_sub(n: u32) -> u32 {
    let new: u32;
    // SAFETY: 1. as for `preempt_count_add`.
    unsafe {
        asm!("lw {t}, {o}(tp)", "subw {t}, {t}, {n}", "sw {t}, {o}(tp)", t = out(reg) new, n = in(reg) n,
            o = const offset_of!(Local, preempt_count), options(nostack, preserves_flags));
    }
    new
}

/// Whether a switch of tasks is due on this CPU.
#[inline]
pub fn need_resched() -> bool {
    load!("lw", need_resched, u32) != 0
}

#[inline]
pub fn set_need_resched(due: bool) {
    store!("sw", need_resched, u32::from(due));
}

/// What [`set_current`] set last on the CPU that runs the caller.
#[inline]
pub fn current() -> *const () {
    load!("ld", current, *const ())
}

#[inline]
pub fn set_current(task: *const ()) {
    store!("sd", current, task);
}

pub(super) fn add_entropy(seed: usize) {
    SEED.fetch_xor(seed, Ordering::Relaxed);
}

/// A hard-to-guess number, another one each time: firmware's seed stirred with the counters. Not for keys.
pub fn stack_canary_seed() -> u64 {
    let step = SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) as u64;
    let mut x = step ^ super::timer::counter().rotate_left(32);
    // The finaliser of splitmix64.
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// One stanza of /proc/cpuinfo, as Linux writes it.
pub fn describe(cpu: usize, out: &mut dyn fmt::Write) -> fmt::Result {
    let hart = hart_of(cpu);
    writeln!(out, "processor\t: {cpu}\nhart\t\t: {hart}")?;
    let node = platform::tree().and_then(|tree| tree.nodes().find(|n| fdt::cpu_hart(n) == Some(hart)));
    if let Some(node) = &node {
        write!(out, "isa\t\t: ")?;
        platform::write_isa(node, out)?;
        writeln!(out)?;
    }
    writeln!(out, "mmu\t\t: {}", super::mmu::mode_name())?;
    if let Some(name) = node.and_then(|n| n.text("compatible")).filter(|name| *name != "riscv") {
        writeln!(out, "uarch\t\t: {name}")?;
    }
    let [vendor, arch, imp] = sbi::machine_ids();
    writeln!(out, "mvendorid\t: {vendor:#x}\nmarchid\t\t: {arch:#x}\nmimpid\t\t: {imp:#x}\n")
}

/// The physical address of a `Local`, for a CPU that starts with paging off.
pub(super) fn phys_of(local: &Local) -> PhysAddr {
    crate::VirtAddr(core::ptr::from_ref(local) as usize).to_phys()
}
