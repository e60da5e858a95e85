//! Interrupts of this CPU on and off, and the lines of devices.

use super::{ioapic, reg};
use core::arch::asm;

/// Whether interrupts were on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Flags(u64);

/// Turns interrupts off and says what they were.
#[inline]
pub fn disable() -> Flags {
    let flags;
    // SAFETY: 1. turning interrupts off is always allowed. No `nomem`: the compiler must not move memory
    // accesses across.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags, options(preserves_flags)) };
    Flags(flags)
}

/// Puts interrupts back to what they were.
#[inline]
pub fn restore(flags: Flags) {
    if flags.0 & reg::FLAG_IF != 0 {
        enable();
    }
}

#[inline]
pub fn enable() {
    // SAFETY: 1. the kernel is ready for interrupts once boot has turned them on for the first time.
    unsafe { asm!("sti", options(nostack, preserves_flags)) };
}

#[inline]
pub fn is_enabled() -> bool {
    let flags: u64;
    // SAFETY: 1. reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem, preserves_flags)) };
    flags & reg::FLAG_IF != 0
}

/// Called with interrupts off: sleeps until one is pending, lets it run, returns with them off.
#[inline]
pub fn idle_wait() {
    // SAFETY: 1. `sti` takes effect after `hlt` has begun, so an interrupt that is pending wakes it.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Lets a device's interrupts through. Lines are global system interrupt numbers (ACPI).
pub fn unmask(line: u32) {
    ioapic::set_masked(line, false);
}

pub fn mask(line: u32) {
    ioapic::set_masked(line, true);
}

/// Lines are numbered from 0 to this.
pub fn lines() -> u32 {
    ioapic::lines()
}

pub fn chip_name(line: u32) -> &'static str {
    if ioapic::is_level(line) { "IO-APIC-fasteoi" } else { "IO-APIC-edge" }
}
