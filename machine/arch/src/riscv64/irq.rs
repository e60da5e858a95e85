//! Interrupts of this CPU: masking, waiting for one, and the lines of the interrupt controller.
//!
//! **Idea.** Interrupts are masked by a byte in memory, not by `sstatus`: taking and dropping a lock that
//! interrupt handlers share would otherwise be two CSR accesses, which cost more than the lock (see
//! `csr`). PowerPC's Linux does the same. Two bytes of [`Local`](super::cpu::Local) hold the state:
//!
//! * `irq_masked`: the kernel wants no interrupts. When one comes all the same, the trap code clears
//!   `sstatus.SIE` and returns: it stays pending in hardware until the mask is dropped.
//! * `irq_hard_off`: `sstatus.SIE` is clear. Traps leave it so, and so does what is done soon: most
//!   system calls and page faults go back to user mode without ever turning SIE on. 1 says that it must
//!   be turned on when the mask drops (an interrupt waits, or may); a larger number is how often the
//!   mask may drop before that ([`LAZY`] at the entry from user mode). Whoever waits for another CPU
//!   ([`super::cpu::relax`]), copies much memory or enables interrupts explicitly turns it on at once.
//!
//! Both change by single `tp`-relative instructions. While the mask is dropped and SIE is on, the task
//! may move to another CPU between them; there the two bytes have the same values.

use super::cpu::{load, store};
use super::{csr, plic};

/// Whether interrupts were masked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u8);

/// Masks interrupts on this CPU.
#[inline]
pub fn disable() -> Flags {
    let before = load!("lbu", irq_masked, u8);
    store!("sb", irq_masked, 1u8);
    Flags(before)
}

/// `irq_hard_off` after a trap from user mode: so many critical sections run before SIE is turned on. It
/// bounds how long a kernel path keeps interrupts away without bothering short ones with two CSR accesses.
pub(super) const LAZY: u8 = 24;

/// Goes back to what [`disable`] found.
#[inline]
pub fn restore(flags: Flags) {
    if flags.0 == 0 {
        drop_mask();
    }
}

/// Drops the mask; SIE may stay off for a while.
#[inline]
pub(super) fn drop_mask() {
    store!("sb", irq_masked, 0u8);
    let hard_off = load!("lbu", irq_hard_off, u8);
    if hard_off != 0 {
        drop_mask_slow(hard_off);
    }
}

/// SIE is turned on when the mask drops next. Called with the mask set.
#[inline]
pub(super) fn end_laziness() {
    if load!("lbu", irq_hard_off, u8) != 0 {
        store!("sb", irq_hard_off, 1u8);
    }
}

/// SIE is off, so nobody interferes.
fn drop_mask_slow(hard_off: u8) {
    match hard_off {
        1 => hard_enable(),
        _ => store!("sb", irq_hard_off, hard_off - 1),
    }
}

/// Lets interrupts in; those that wait come at once.
#[inline]
pub fn enable() {
    store!("sb", irq_masked, 0u8);
    if load!("lbu", irq_hard_off, u8) != 0 {
        hard_enable();
    }
}

#[inline]
pub fn is_enabled() -> bool {
    load!("lbu", irq_masked, u8) == 0
}

/// Turns SIE on if the mask is dropped but SIE still off.
#[inline]
pub(super) fn catch_up() {
    if load!("lbu", irq_hard_off, u8) != 0 && is_enabled() {
        hard_enable();
    }
}

#[cold]
pub(super) fn hard_enable() {
    store!("sb", irq_hard_off, 0u8);
    // SAFETY: 1. the mask is dropped: the caller can be interrupted; 2. the trap vector is set.
    unsafe { core::arch::asm!("csrsi sstatus, 2", options(nostack)) };
}

/// Turns SIE off, whatever the mask says.
pub(super) fn hard_disable() {
    // SAFETY: 1. turning interrupts off harms nobody.
    unsafe { core::arch::asm!("csrci sstatus, 2", options(nostack)) };
    store!("sb", irq_hard_off, 1u8);
}

/// Called with interrupts off: sleeps until one is pending, lets it run, returns with interrupts off.
pub fn idle_wait() {
    // Off in hardware too, or an interrupt would trap twice: once to be put off, once to run.
    hard_disable();
    // SAFETY: 1. WFI returns when an interrupt is pending, also with SIE off.
    unsafe { core::arch::asm!("wfi", options(nostack)) };
    enable();
    disable();
}

/// Lets a device line interrupt CPU 0.
pub fn unmask(line: u32) {
    plic::set_enabled(line, true);
}

/// Keeps a device line quiet.
pub fn mask(line: u32) {
    plic::set_enabled(line, false);
}

/// One more than the highest line number.
pub fn lines() -> u32 {
    plic::lines()
}

/// The PLIC takes no messages; the controller that does (IMSIC) has no driver yet.
pub fn alloc_msi(_cpu: usize) -> Option<crate::Msi> {
    None
}

/// For /proc/interrupts.
pub fn chip_name(_line: u32) -> &'static str {
    "SiFive PLIC"
}

/// Bits of `sie` that a CPU has on besides the timer's.
pub(super) const SOURCES: usize = 1 << csr::IRQ_SOFT | 1 << csr::IRQ_EXTERNAL;
