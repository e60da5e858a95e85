//! Interrupts of this CPU on and off, and the lines of devices.
//!
//! **Idea.** Interrupts are masked by a byte in memory, not by the processor's flag: `sti` costs an emulator
//! as much as thirty moves, and every lock that interrupt handlers share would pay it. (PowerPC's Linux
//! does the same.) Two bytes of the per-CPU area hold the state, a third what came meanwhile:
//!
//! * `irq_masked`: the kernel wants no interrupts. When one comes all the same, its vector is noted in
//!   `irq_pending` and the flag is left off, so there is never more than one. It runs when the mask drops.
//! * `irq_hard_off`: the flag is off. Traps from user mode leave it so, and so does what is done soon:
//!   most system calls and page faults go back without ever turning it on. 1 says that it must be turned on
//!   when the mask drops; a larger number is how often the mask may drop before that ([`LAZY`] after a
//!   trap from user mode). Whoever waits for another CPU ([`super::cpu::relax`]), copies much memory or
//!   enables interrupts explicitly turns it on at once.
//!
//! Flush requests of other CPUs are answered even when masked. While the mask is dropped, nothing is
//! pending. All bytes change by single GS-relative instructions; a task that is moved to another CPU
//! between two of them finds the same values there.

use super::percpu::PerCpu;
use super::{ioapic, percpu, traps};
use crate::Msi;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

/// `irq_hard_off` after a trap from user mode: so many critical sections run before interrupts are turned
/// on. It bounds how long a kernel path keeps them away.
pub(super) const LAZY: u8 = 24;

/// Whether interrupts were masked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Flags(u8);

macro_rules! load {
    ($field:ident) => {{
        let value: u32;
        // SAFETY: 1. GS points to the per-CPU area in kernel mode.
        unsafe {
            asm!("movzx {:e}, byte ptr gs:[{}]", out(reg) value, const offset_of!(PerCpu, $field), options(nostack, preserves_flags));
        }
        value as u8
    }};
}

macro_rules! store {
    ($field:ident, $value:literal) => {
        // SAFETY: 1. as above; 2. not `nomem`: memory accesses do not move across.
        unsafe {
            asm!("mov byte ptr gs:[{}], {}", const offset_of!(PerCpu, $field), const $value, options(nostack, preserves_flags))
        }
    };
    ($field:ident, $value:expr) => {
        // SAFETY: 1. 2. as above.
        unsafe {
            asm!("mov byte ptr gs:[{}], {}", const offset_of!(PerCpu, $field), in(reg_byte) $value, options(nostack, preserves_flags))
        }
    };
}

/// Masks interrupts and says what they were.
#[inline]
pub fn disable() -> Flags {
    let before = load!(irq_masked);
    store!(irq_masked, 1);
    Flags(before)
}

/// Puts interrupts back to what they were.
#[inline]
pub fn restore(flags: Flags) {
    if flags.0 == 0 {
        store!(irq_masked, 0);
        let hard_off = load!(irq_hard_off);
        if hard_off != 0 {
            restore_slow(hard_off);
        }
    }
}

/// The flag is off, so nobody interferes.
fn restore_slow(hard_off: u8) {
    match hard_off {
        1 => hard_enable(),
        _ => store!(irq_hard_off, hard_off - 1),
    }
}

/// Lets interrupts in; those that wait come at once.
#[inline]
pub fn enable() {
    store!(irq_masked, 0);
    if load!(irq_hard_off) != 0 {
        hard_enable();
    }
}

#[inline]
pub fn is_enabled() -> bool {
    load!(irq_masked) == 0
}

/// Turns the flag on if the mask is dropped but the flag still off.
#[inline]
pub(super) fn catch_up() {
    if load!(irq_hard_off) != 0 && is_enabled() {
        hard_enable();
    }
}

/// Runs the interrupt that waits, if one does, and turns the flag on. Flag off, mask dropped.
#[cold]
#[inline(never)]
fn hard_enable() {
    loop {
        let vector = load!(irq_pending);
        if vector == 0 {
            break;
        }
        store!(irq_pending, 0);
        store!(irq_masked, 1);
        store!(irq_hard_off, 1);
        traps::interrupt(vector.into(), false);
        hard_disable();
        store!(irq_masked, 0);
    }
    store!(irq_hard_off, 0);
    hard_on();
}

#[inline]
fn hard_on() {
    // SAFETY: 1. the mask is dropped: the caller can be interrupted.
    unsafe { asm!("sti", options(nostack, preserves_flags)) };
}

/// Turns the flag off, whatever the mask says. The caller stays on this CPU from here on.
#[inline]
pub(super) fn hard_disable() {
    // SAFETY: 1. turning interrupts off harms nobody.
    unsafe { asm!("cli", options(nostack, preserves_flags)) };
    if load!(irq_hard_off) == 0 {
        store!(irq_hard_off, 1);
    }
}

/// An interrupt hit kernel code, so the flag was on. Says whether it may run now; else it was noted, and
/// the code goes on with the flag off.
pub(super) fn begin_in_kernel(vector: usize) -> bool {
    store!(irq_hard_off, 1);
    if !is_enabled() {
        store!(irq_pending, vector as u8);
        return false;
    }
    store!(irq_masked, 1);
    true
}

/// Goes back to kernel code that had interrupts on; the return from the trap turns the flag on.
pub(super) fn end_in_kernel() {
    hard_disable();
    store!(irq_masked, 0);
    store!(irq_hard_off, 0);
}

/// An interrupt hit user mode.
pub(super) fn begin_in_user() {
    store!(irq_masked, 1);
    store!(irq_hard_off, 1);
}

/// Drops the mask after an interrupt that hit user mode: the thread goes back there soon, or schedules.
pub(super) fn end_in_user() {
    store!(irq_masked, 0);
    let hard_off = load!(irq_hard_off);
    if hard_off != 0 {
        match load!(irq_pending) {
            0 => store!(irq_hard_off, LAZY),
            _ => hard_enable(),
        }
    }
}

/// A user copy faulted with interrupts on: what makes the page present runs as a trap from user mode does,
/// with the flag off at first. Returns whether the flag is still off at the end, and with it the mask
/// dropped: the return from the trap leaves it so.
pub(super) fn lazily<R>(f: impl FnOnce() -> R) -> (R, bool) {
    if load!(irq_hard_off) == 0 {
        store!(irq_hard_off, LAZY);
    }
    let result = f();
    if load!(irq_hard_off) != 0 {
        return (result, true);
    }
    hard_disable();
    store!(irq_hard_off, 0);
    (result, false)
}

/// For reports of fatal faults: masked and off.
pub(super) fn off_for_good() {
    hard_disable();
    store!(irq_masked, 1);
}

/// Called with interrupts masked: sleeps until one is pending, lets it run, returns with them masked.
pub fn idle_wait() {
    hard_disable();
    if load!(irq_pending) != 0 {
        enable();
        let _ = disable();
        return;
    }
    // SAFETY: 1. `sti` takes effect after `hlt` has begun, so an interrupt that is pending wakes it; 2. the
    // two bytes say what the flag is at each point where an interrupt can come.
    unsafe {
        asm!(
            "mov word ptr gs:[{0}], 0",
            "sti",
            "hlt",
            "cli",
            "mov word ptr gs:[{0}], 0x0101",
            const offset_of!(PerCpu, irq_masked),
            options(nostack)
        );
    }
}

/// Lets a device's interrupts through. Lines are global system interrupt numbers (ACPI).
pub fn unmask(line: u32) {
    ioapic::set_masked(line, false);
}

pub fn mask(line: u32) {
    ioapic::set_masked(line, true);
}

/// Lines are numbered from 0 to this: those of the I/O APICs, then messages.
pub fn lines() -> u32 {
    traps::LINES_MAX as u32
}

/// The next line for messages; lines of the I/O APICs come first.
static NEXT_MSI: AtomicU32 = AtomicU32::new(0);

/// A line for a device that signals by messages, delivered to a CPU. `None` when all are taken or the CPU's
/// number does not fit the message's address (Intel SDM 3, 11.11.1).
pub fn alloc_msi(cpu: usize) -> Option<Msi> {
    let apic_id = Some(percpu::apic_id(cpu)).filter(|id| *id <= 0xff)?;
    let next = |last: u32| Some(last.max(ioapic::lines()) + 1).filter(|next| *next <= lines());
    let line = NEXT_MSI.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?.max(ioapic::lines());
    let data = traps::FIRST_LINE as u32 + line;
    Some(Msi { line, address: 0xfee0_0000 | u64::from(apic_id) << 12, data })
}

pub fn chip_name(line: u32) -> &'static str {
    if line >= ioapic::lines() {
        return "PCI-MSIX";
    }
    if ioapic::is_level(line) { "IO-APIC-fasteoi" } else { "IO-APIC-edge" }
}

const _: () = assert!(
    offset_of!(PerCpu, irq_hard_off) == offset_of!(PerCpu, irq_masked) + 1
        && offset_of!(PerCpu, irq_pending) == offset_of!(PerCpu, need_resched) + 1
        && offset_of!(PerCpu, need_resched).is_multiple_of(4)
);
