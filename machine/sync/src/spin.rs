//! The spin lock: [`SpinWord`] around a value, with preemption and interrupts.

use crate::{Level, lockdep};
use arch::{cpu, irq};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use lockword::SpinWord;

/// Mutual exclusion with preemption off; with interrupts off too when `L::IRQ`.
pub struct SpinLock<T: ?Sized, L: Level> {
    word: SpinWord,
    _level: PhantomData<fn() -> L>,
    value: UnsafeCell<T>,
}

// SAFETY: 1. the value is reached only through a guard, 2. which one CPU at a time can hold.
unsafe impl<T: ?Sized + Send, L: Level> Sync for SpinLock<T, L> {}
// SAFETY: 1. moving the lock moves the value, which is Send.
unsafe impl<T: ?Sized + Send, L: Level> Send for SpinLock<T, L> {}

/// Access to the value; unlocks when dropped. Not `Send`: released on the CPU that took it.
pub struct SpinGuard<'a, T: ?Sized, L: Level> {
    lock: &'a SpinLock<T, L>,
    flags: Option<irq::Flags>,
    _not_send: PhantomData<*mut ()>,
}

impl<T, L: Level> SpinLock<T, L> {
    pub const fn new(value: T) -> Self {
        SpinLock { word: SpinWord::new(), _level: PhantomData, value: UnsafeCell::new(value) }
    }

    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized, L: Level> SpinLock<T, L> {
    /// Takes the lock. Any context for `irq` levels; not from interrupt handlers for the others.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T, L> {
        self.lock_at(false)
    }

    /// Takes a second lock of a level already held; the caller orders the two.
    #[inline]
    pub fn lock_nested(&self) -> SpinGuard<'_, T, L> {
        self.lock_at(true)
    }

    #[inline]
    fn lock_at(&self, nested: bool) -> SpinGuard<'_, T, L> {
        let flags = enter::<L>();
        lockdep::acquired::<L>(nested);
        self.word.lock(cpu::relax);
        SpinGuard { lock: self, flags, _not_send: PhantomData }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T, L>> {
        let flags = enter::<L>();
        if !self.word.try_lock() {
            leave(flags);
            return None;
        }
        lockdep::acquired::<L>(true);
        Some(SpinGuard { lock: self, flags, _not_send: PhantomData })
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether somebody holds it; for reports only.
    pub fn is_locked(&self) -> bool {
        self.word.is_locked()
    }

    /// Breaks the lock: for the panic path, when the holder will never run again.
    ///
    /// # Safety
    /// 1. Every other CPU is stopped; 2. the value may be half changed, and the caller only prints.
    pub unsafe fn force_unlock(&self) {
        self.word.unlock();
    }
}

#[inline]
pub(crate) fn enter<L: Level>() -> Option<irq::Flags> {
    let flags = if L::IRQ { Some(irq::disable()) } else { None };
    cpu::preempt_count_add(1);
    flags
}

#[inline]
pub(crate) fn leave(flags: Option<irq::Flags>) {
    match flags {
        Some(flags) => {
            // Interrupts on first, then the check for a due switch: it does nothing with them off.
            let last = cpu::preempt_count_sub(1) == 0;
            irq::restore(flags);
            if last && cpu::need_resched() && cpu::preempt_count() == 0 {
                crate::preempt_check();
            }
        }
        None => crate::preempt_enable(),
    }
}

impl<T: ?Sized, L: Level> Deref for SpinGuard<'_, T, L> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: 1. the guard exists, so this context holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> DerefMut for SpinGuard<'_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. the guard exists, so this context holds the lock; 2. `&mut self` makes it unique.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> Drop for SpinGuard<'_, T, L> {
    #[inline]
    fn drop(&mut self) {
        lockdep::released::<L>();
        self.lock.word.unlock();
        leave(self.flags.take());
    }
}

impl<T: Default, L: Level> Default for SpinLock<T, L> {
    fn default() -> Self {
        SpinLock::new(T::default())
    }
}
