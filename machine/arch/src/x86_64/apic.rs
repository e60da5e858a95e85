//! The local APIC, through memory (xAPIC) or registers (x2APIC).

use super::{cpuid, reg};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Register offsets in the memory layout; x2APIC numbers them 16 times denser.
const TASK_PRIORITY: u32 = 0x80;
const EOI: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_THERMAL: u32 = 0x330;
const LVT_PERFORMANCE: u32 = 0x340;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const LEVEL_ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
/// In the timer's LVT: interrupt when the time-stamp counter reaches a value.
const MODE_DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0xb;
const DIVIDE_BY_128: u32 = 0xa;

const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
/// What the architecture says when firmware does not.
pub const DEFAULT_PHYS: u64 = 0xfee0_0000;

/// Virtual address of the registers; 0 with x2APIC.
static BASE: AtomicUsize = AtomicUsize::new(0);

/// Where the registers are to be reached from now on (ignored with x2APIC).
pub fn set_base(addr: usize) {
    if !cpuid::has(cpuid::X2APIC) {
        BASE.store(addr, Ordering::Relaxed);
    }
}

#[inline]
fn read(register: u32) -> u32 {
    // SAFETY: 1. every x86-64 has a local APIC, mapped at BASE unless it is behind registers.
    unsafe {
        match BASE.load(Ordering::Relaxed) {
            0 => reg::rdmsr(reg::MSR_X2APIC + (register >> 4)) as u32,
            base => ((base + register as usize) as *const u32).read_volatile(),
        }
    }
}

#[inline]
fn write(register: u32, value: u32) {
    // SAFETY: 1. as in `read`; 2. callers write what the manual allows.
    unsafe {
        match BASE.load(Ordering::Relaxed) {
            0 => reg::wrmsr(reg::MSR_X2APIC + (register >> 4), value.into()),
            base => ((base + register as usize) as *mut u32).write_volatile(value),
        }
    }
}

/// Turns this CPU's APIC on: nothing but the vectors that the kernel uses gets through.
pub fn init_cpu() {
    // SAFETY: 1. every x86-64 has the register; 2. x2APIC mode is asked for only where it exists, and
    // entered from the enabled state.
    unsafe {
        let base = reg::rdmsr(reg::MSR_APIC_BASE) | BASE_ENABLE;
        reg::wrmsr(reg::MSR_APIC_BASE, base);
        if cpuid::has(cpuid::X2APIC) {
            reg::wrmsr(reg::MSR_APIC_BASE, base | BASE_X2APIC);
        }
    }
    write(TASK_PRIORITY, 0);
    for entry in [LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_ERROR] {
        write(entry, MASKED);
    }
    write(LVT_LINT1, DELIVER_NMI);
    write(SPURIOUS, 1 << 8 | super::traps::SPURIOUS as u32);
}

/// The interrupt in service is done. With BASE at hand this is one store.
#[inline]
pub fn end_of_interrupt() {
    write(EOI, 0);
}

fn command(apic_id: u32, low: u32) {
    if BASE.load(Ordering::Relaxed) == 0 {
        // SAFETY: 1. x2APIC is on; 2. the command is one of those below.
        return unsafe {
            reg::wrmsr(reg::MSR_X2APIC + (COMMAND >> 4), u64::from(apic_id) << 32 | u64::from(low))
        };
    }
    // The two halves must not be torn apart by an interrupt that sends one too.
    let flags = super::irq::disable();
    write(COMMAND_HIGH, apic_id << 24);
    write(COMMAND, low);
    // Emulated APICs deliver at once; asking them costs an exit.
    while !cpuid::has(cpuid::HYPERVISOR) && read(COMMAND) & PENDING != 0 {
        super::cpu::relax();
    }
    super::irq::restore(flags);
}

/// Interrupts another CPU.
pub fn send_ipi(apic_id: u32, vector: usize) {
    command(apic_id, vector as u32 & 0xff | LEVEL_ASSERT);
}

pub fn send_nmi(apic_id: u32) {
    command(apic_id, DELIVER_NMI | LEVEL_ASSERT);
}

pub fn send_init(apic_id: u32) {
    command(apic_id, DELIVER_INIT | LEVEL_ASSERT);
}

/// Starts a CPU that got INIT in real mode at page `page` of the lowest MiB.
pub fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, DELIVER_STARTUP | LEVEL_ASSERT | u32::from(page));
}

/// Lets the timer interrupt, when it counts down or (`deadline`) when the TSC gets to a value.
pub fn timer_init(deadline: bool) {
    let mode = if deadline { MODE_DEADLINE } else { 0 };
    write(LVT_TIMER, mode | super::traps::TIMER as u32);
    timer_divide(false);
}

/// Divides the timer's clock by 128 or 1.
pub fn timer_divide(by_128: bool) {
    write(DIVIDE, if by_128 { DIVIDE_BY_128 } else { DIVIDE_BY_1 });
}

/// Starts counting down; 0 stops.
#[inline]
pub fn timer_count(count: u32) {
    write(INITIAL_COUNT, count);
}

/// Counts without interrupting, to measure other clocks with.
pub fn timer_free_run() {
    write(LVT_TIMER, MASKED);
    timer_divide(false);
    timer_count(u32::MAX);
}

pub fn timer_current() -> u32 {
    read(CURRENT_COUNT)
}
