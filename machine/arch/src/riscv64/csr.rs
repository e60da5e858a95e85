//! Control and status registers, by name.
//!
//! Each access is dear: a pipeline flush on hardware, and under QEMU the end of a translated block with
//! a way through the emulator's main loop. Hot paths are written to need few.

/// sstatus: supervisor interrupts on; what they were before the trap; the mode before the trap.
pub const SSTATUS_SIE: usize = 1 << 1;
pub const SSTATUS_SPIE: usize = 1 << 5;
pub const SSTATUS_SPP: usize = 1 << 8;
/// Vector unit state: two bits, Off, Initial, Clean, Dirty.
pub const SSTATUS_VS: usize = 3 << 9;
pub const SSTATUS_VS_CLEAN: usize = 2 << 9;
/// Floating-point unit state.
pub const SSTATUS_FS: usize = 3 << 13;
pub const SSTATUS_FS_CLEAN: usize = 2 << 13;
/// The kernel may access user pages.
pub const SSTATUS_SUM: usize = 1 << 18;

/// Interrupt numbers, as bits of sie and sip and in scause.
pub const IRQ_SOFT: usize = 1;
pub const IRQ_TIMER: usize = 5;
pub const IRQ_EXTERNAL: usize = 9;
/// scause of an interrupt.
pub const CAUSE_INTERRUPT: usize = 1 << 63;

macro_rules! read {
    ($name:literal) => {{
        let value: usize;
        // SAFETY: 1. reading this register changes nothing; 2. every machine the kernel runs on has it.
        unsafe { core::arch::asm!(concat!("csrr {}, ", $name), out(reg) value, options(nostack)) };
        value
    }};
}

/// Use inside `unsafe`: the caller knows what the value does.
macro_rules! write {
    ($name:literal, $value:expr) => {
        core::arch::asm!(concat!("csrw ", $name, ", {}"), in(reg) $value, options(nostack))
    };
}

macro_rules! set {
    ($name:literal, $bits:expr) => {
        core::arch::asm!(concat!("csrs ", $name, ", {}"), in(reg) $bits, options(nostack))
    };
}

macro_rules! clear {
    ($name:literal, $bits:expr) => {
        core::arch::asm!(concat!("csrc ", $name, ", {}"), in(reg) $bits, options(nostack))
    };
}

pub(super) use {clear, read, set, write};
