//! Starting the other CPUs, and interrupting them.
//!
//! A CPU starts in real mode at a page of the lowest MiB ([`TRAMPOLINE_PHYS`], kept out of usable memory).
//! The code there is a copy of `x86_ap_start`; its last bytes are the parameters. CPUs start one at a time.

use super::percpu::{self, PerCpu};
use super::{apic, cpu, cpuid, mmu, power, reg, timer, traps};
use crate::{CpuMask, Ipi, MAX_CPUS, PhysAddr, VirtAddr, hooks};
use alloc::alloc::{Layout, alloc_zeroed};
use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const TRAMPOLINE_PHYS: u64 = 0x1000;
/// Memory below is not for the allocator.
pub const TRAMPOLINE_END: u64 = 0x2000;
const PARAMETERS: u64 = TRAMPOLINE_PHYS + 0xf00;

global_asm!(
    ".pushsection .rodata.trampoline, \"a\"",
    ".balign 16",
    ".global x86_ap_start",
    "x86_ap_start:",
    ".code16",
    "cli",
    "cld",
    "xorw %ax, %ax",
    "movw %ax, %ds",
    "lgdtl (x86_ap_gdt_pointer - x86_ap_start + {PAGE})",
    "movl %cr0, %eax",
    "orl $1, %eax",
    "movl %eax, %cr0",
    "ljmpl $0x08, $(x86_ap_32 - x86_ap_start + {PAGE})",
    ".code32",
    "x86_ap_32:",
    "movw $0x18, %ax",
    "movw %ax, %ds",
    "movw %ax, %ss",
    "movl %cr4, %eax",
    "orl $0x20, %eax", // PAE
    "movl %eax, %cr4",
    "movl ({PARAMETERS}), %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl ({PARAMETERS} + 40), %eax", // EFER: LME, NXE
    "wrmsr",
    "movl %cr0, %eax",
    "orl $0x80010001, %eax", // PG, WP, PE
    "andl $0x9fffffff, %eax", // caches on
    "movl %eax, %cr0",
    "ljmp $0x10, $(x86_ap_64 - x86_ap_start + {PAGE})",
    ".code64",
    "x86_ap_64:",
    "movq ({PARAMETERS} + 8), %rcx",
    "movq ({PARAMETERS} + 16), %rsp",
    "movq ({PARAMETERS} + 24), %rdi",
    "movq ({PARAMETERS} + 32), %rax",
    "jmp *%rax",
    ".balign 8",
    "x86_ap_gdt: .quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "x86_ap_gdt_pointer: .word 31",
    ".long x86_ap_gdt - x86_ap_start + {PAGE}",
    ".global x86_ap_end",
    "x86_ap_end:",
    ".popsection",
    ".pushsection .text.entry, \"ax\"",
    ".global x86_ap_high",
    "x86_ap_high:",
    "movq %rcx, %cr3",
    "xorl %ebp, %ebp",
    "call {ap_main}",
    ".popsection",
    PAGE = const TRAMPOLINE_PHYS,
    PARAMETERS = const PARAMETERS,
    ap_main = sym ap_main,
    options(att_syntax),
);

unsafe extern "C" {
    static x86_ap_start: u8;
    static x86_ap_end: u8;
    fn x86_ap_high();
}

/// What the trampoline reads.
#[repr(C)]
struct Parameters {
    table: u64,
    kernel_table: u64,
    stack: u64,
    area: u64,
    entry: u64,
    efer: u64,
}

/// The page table for the way up: the trampoline identically, and the kernel.
#[repr(C, align(4096))]
struct Table([u64; 512]);

static mut ROOT: Table = Table([0; 512]);
static mut MIDDLE: Table = Table([0; 512]);
static mut LOWER: Table = Table([0; 512]);

static ONLINE: AtomicU64 = AtomicU64::new(0);
static STOPPING: AtomicBool = AtomicBool::new(false);

/// The CPUs that run kernel code.
#[inline]
pub(super) fn online() -> CpuMask {
    CpuMask(ONLINE.load(Ordering::Acquire))
}

pub(super) fn set_online(cpu: usize) {
    ONLINE.fetch_or(1 << cpu, Ordering::AcqRel);
}

pub(super) fn stopping() -> bool {
    STOPPING.load(Ordering::Acquire)
}

/// Starts a CPU on the stack that ends at `stack_top`; it calls `hooks().secondary_main(cpu)`. One caller
/// at a time. Fails when there is no memory for its area, or it does not answer within a second.
pub fn start(cpu: usize, stack_top: VirtAddr) -> Result<(), ()> {
    if cpu == 0 || cpu >= percpu::count().min(MAX_CPUS) || online().contains(cpu) {
        return Err(());
    }
    // SAFETY: 1. the layout has a size.
    let area = unsafe { alloc_zeroed(Layout::new::<PerCpu>()) }.cast::<PerCpu>();
    if area.is_null() {
        return Err(());
    }
    // SAFETY: 1. zeroes are a `PerCpu`; it is never freed, and nobody else knows it; 2. the page is kept
    // for the trampoline; 3. one caller at a time.
    unsafe {
        percpu::prepare(area, cpu);
        install(area, stack_top);
    }
    wake(percpu::apic_id(cpu), cpu)
}

/// # Safety
/// 1. The trampoline page is nobody else's; 2. no CPU is starting.
unsafe fn install(area: *mut PerCpu, stack_top: VirtAddr) {
    let kernel_root = mmu::active_root();
    let start = &raw const x86_ap_start;
    let len = (&raw const x86_ap_end) as usize - start as usize;
    let table = |t: *const Table| VirtAddr(t as usize).to_phys().0;
    let nxe = if cpuid::has(cpuid::NX) { reg::EFER_NXE } else { 0 };
    let parameters = Parameters {
        table: table(&raw const ROOT),
        kernel_table: kernel_root.0,
        stack: stack_top.0 as u64 & !15,
        area: area as u64,
        entry: x86_ap_high as *const () as u64,
        efer: nxe | 1 << 8,
    };
    // SAFETY: 1. the caller's obligations; 2. the root of the active table is in the direct map.
    unsafe {
        let root = &mut *(&raw mut ROOT);
        root.0[0] = table(&raw const MIDDLE) | 3;
        root.0[511] = kernel_root.to_virt().as_ptr::<u64>().add(511).read();
        (*(&raw mut MIDDLE)).0[0] = table(&raw const LOWER) | 3;
        (*(&raw mut LOWER)).0[0] = 0xe3; // 2 MiB at 0
        PhysAddr(TRAMPOLINE_PHYS).to_virt().as_ptr::<u8>().copy_from_nonoverlapping(start, len);
        PhysAddr(PARAMETERS).to_virt().as_ptr::<Parameters>().write(parameters);
    }
}

/// INIT, then STARTUP up to twice, as Intel's MP specification has it. Emulated processors need none of
/// the waiting.
fn wake(apic_id: u32, cpu: usize) -> Result<(), ()> {
    apic::send_init(apic_id);
    if !cpuid::has(cpuid::HYPERVISOR) {
        wait(10_000_000, || false);
    }
    for patience_ns in [20_000_000, 1_000_000_000] {
        apic::send_startup(apic_id, (TRAMPOLINE_PHYS >> 12) as u8);
        if wait(patience_ns, || online().contains(cpu)) {
            return Ok(());
        }
    }
    Err(())
}

/// Waits for `done`, not longer than `ns`.
fn wait(ns: u64, done: impl Fn() -> bool) -> bool {
    let end_ns = timer::now_ns() + ns;
    while !done() {
        if timer::now_ns() >= end_ns {
            return false;
        }
        cpu::relax();
    }
    true
}

/// A started CPU, on its own stack and the kernel's table.
extern "C" fn ap_main(area: *mut PerCpu) -> ! {
    // SAFETY: 1. `start` prepared the area for this CPU.
    let number = unsafe {
        percpu::load(area);
        (*area).cpu as usize
    };
    cpu::init_local(number);
    apic::init_cpu();
    set_online(number);
    match hooks() {
        Some(hooks) => (hooks.secondary_main)(number),
        None => power::halt(),
    }
}

/// Interrupts other CPUs (those of the mask that are online). `Ipi::Stop` comes even where interrupts are
/// off, and its receivers are gone for good.
pub fn send_ipi(cpus: CpuMask, ipi: Ipi) {
    let targets = CpuMask(cpus.0 & online().0);
    let vector = traps::ipi_vector(ipi);
    if vector.is_none() {
        STOPPING.store(true, Ordering::Release);
        ONLINE.fetch_and(!targets.0, Ordering::AcqRel);
    }
    for cpu in targets.iter() {
        let apic_id = percpu::apic_id(cpu);
        match vector {
            Some(vector) => apic::send_ipi(apic_id, vector),
            None => apic::send_nmi(apic_id),
        }
    }
}
