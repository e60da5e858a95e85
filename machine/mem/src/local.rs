//! Data that one CPU has for itself, used by tasks and by interrupt handlers of that CPU.
//!
//! Turning interrupts off around every allocation would be the plain way, but writing the interrupt
//! flag is dear (a trap in some guests, the end of a translation block under emulation). Instead the
//! user marks the data busy: an interrupt handler that finds it busy goes the long way, which has a real
//! lock. Handlers nest like a stack, so the mark never changes under the interrupted user.

use arch::{MAX_CPUS, cpu};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};

#[repr(align(64))]
struct Slot<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

/// One `T` for each possible CPU.
pub(crate) struct CpuLocal<T> {
    slots: [Slot<T>; MAX_CPUS],
}

// SAFETY: 1. a slot's value is reached by its own CPU alone, preemption off; 2. `busy` keeps an interrupt
// handler from reaching it while the interrupted code does.
unsafe impl<T: Send> Sync for CpuLocal<T> {}

/// What a [`CpuLocal`] starts with.
pub(crate) trait Init {
    const INIT: Self;
}

impl<T: Init> CpuLocal<T> {
    pub(crate) const fn new() -> Self {
        let slots =
            [const { Slot { busy: AtomicBool::new(false), value: UnsafeCell::new(T::INIT) } }; MAX_CPUS];
        CpuLocal { slots }
    }
}

impl<T> CpuLocal<T> {
    /// Runs `f` on this CPU's value, preemption off; `None` when an interrupted user holds it.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let _off = sync::preempt_off();
        let slot = &self.slots[cpu::id()];
        if slot.busy.load(Ordering::Relaxed) {
            return None;
        }
        slot.busy.store(true, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: 1. preemption is off, so this is the slot of the CPU that runs until the end; 2. `busy` was
        // clear and is set, so no other code of this CPU is inside, and none gets in before it is cleared.
        let result = f(unsafe { &mut *slot.value.get() });
        compiler_fence(Ordering::SeqCst);
        slot.busy.store(false, Ordering::Relaxed);
        Some(result)
    }

    /// A number read from another CPU's value, for statistics.
    ///
    /// # Safety
    /// 1. `f` reads single words only and copes with a torn or stale value.
    pub(crate) unsafe fn peek<R>(&self, cpu: usize, f: impl FnOnce(*const T) -> R) -> R {
        f(self.slots[cpu].value.get())
    }
}
