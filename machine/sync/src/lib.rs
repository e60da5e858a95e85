//! Locks that never sleep, per-CPU data and one-time initialisation.
//!
//! **Problem.** Kernel data is shared between CPUs, between tasks that preempt each other, and with
//! interrupt handlers on the same CPU.
//!
//! **Interface.** [`SpinLock<T, L>`](SpinLock) and [`RwSpinLock<T, L>`](RwSpinLock) are held with
//! preemption off. The level `L` (one list in [`levels`]) fixes the order in which locks may be taken
//! and whether interrupt handlers take it too: then interrupts go off with it, always, so that no call
//! site can forget. [`PerCpu`] is one value per CPU, [`Once`] a value set once, [`SeqLock`] small `Copy`
//! data that is read far more often than written. Locks that sleep (`Mutex`, `RwSemaphore`) and wait
//! queues need tasks and live in the `task` crate.
//!
//! **Idea.** Debug builds keep a stack of held levels per CPU and panic on an inversion at the first
//! run through a code path, not at the first unlucky interleaving. Release builds carry no trace of it.

#![no_std]

extern crate alloc;

pub mod levels;
mod lockdep;
mod once;
mod percpu;
mod rwspin;
mod seqlock;
mod spin;

pub use levels::Level;
pub use lockdep::{assert_may_sleep, held_count};
pub use once::Once;
pub use percpu::PerCpu;
pub use rwspin::{ReadGuard, RwSpinLock, WriteGuard};
pub use seqlock::SeqLock;
pub use spin::{SpinGuard, SpinLock};

use arch::cpu;

/// Preemption stays off on this CPU while one of these lives.
pub struct PreemptGuard {
    _not_send: core::marker::PhantomData<*mut ()>,
}

/// Turns preemption off until the guard drops. Any context.
pub fn preempt_off() -> PreemptGuard {
    cpu::preempt_count_add(1);
    PreemptGuard { _not_send: core::marker::PhantomData }
}

impl Drop for PreemptGuard {
    fn drop(&mut self) {
        preempt_enable();
    }
}

/// Drops one preemption count and, when it was the last and a switch is due, switches.
#[inline]
pub(crate) fn preempt_enable() {
    if cpu::preempt_count_sub(1) == 0 && cpu::need_resched() {
        preempt_check();
    }
}

static RESCHEDULE: core::sync::atomic::AtomicPtr<()> =
    core::sync::atomic::AtomicPtr::new(core::ptr::null_mut());

/// Installs the function that switches tasks when the last preemption count drops with a switch due.
/// Called once by the scheduler; it must do nothing when interrupts are off.
pub fn set_reschedule(hook: fn()) {
    RESCHEDULE.store(hook as *mut (), core::sync::atomic::Ordering::Release);
}

#[cold]
#[inline(never)]
fn preempt_check() {
    let hook = RESCHEDULE.load(core::sync::atomic::Ordering::Acquire);
    if !hook.is_null() && arch::irq::is_enabled() {
        // SAFETY: 1. the pointer was stored from a `fn()` by `set_reschedule`, the only writer.
        let hook: fn() = unsafe { core::mem::transmute(hook) };
        hook();
    }
}

/// Interrupts stay off on this CPU while one of these lives.
pub struct IrqGuard {
    flags: Option<arch::irq::Flags>,
    _not_send: core::marker::PhantomData<*mut ()>,
}

/// Turns interrupts off until the guard drops. Any context.
pub fn irq_off() -> IrqGuard {
    IrqGuard { flags: Some(arch::irq::disable()), _not_send: core::marker::PhantomData }
}

impl Drop for IrqGuard {
    fn drop(&mut self) {
        if let Some(flags) = self.flags.take() {
            arch::irq::restore(flags);
        }
    }
}

/// Bits of the preemption word, as Linux lays them out.
pub mod preempt {
    /// One level of preemption off.
    pub const PREEMPT: u32 = 1;
    /// One level of softirq processing (or of bottom halves off).
    pub const SOFTIRQ: u32 = 1 << 8;
    /// One level of hard interrupt.
    pub const HARDIRQ: u32 = 1 << 16;
    pub const SOFTIRQ_MASK: u32 = 0xff00;
    pub const HARDIRQ_MASK: u32 = 0xf_0000;

    /// Whether this CPU is in a hard or soft interrupt.
    pub fn in_interrupt() -> bool {
        arch::cpu::preempt_count() & (SOFTIRQ_MASK | HARDIRQ_MASK) != 0
    }

    /// Whether the current context must not sleep.
    pub fn in_atomic() -> bool {
        arch::cpu::preempt_count() != 0 || !arch::irq::is_enabled()
    }
}
