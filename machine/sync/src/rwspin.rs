//! A reader-writer spin lock for data that is read far more often than written.
//!
//! Readers share one counter, hence one cache line: it pays off only when the reading is long. A waiting
//! writer stops new readers, so that a stream of readers cannot starve it.

use crate::spin::{enter, leave};
use crate::{Level, lockdep};
use arch::{cpu, irq};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use lockword::RwWord;

/// Many readers or one writer, preemption off; interrupts off too when `L::IRQ`.
pub struct RwSpinLock<T: ?Sized, L: Level> {
    word: RwWord,
    _level: PhantomData<fn() -> L>,
    value: UnsafeCell<T>,
}

// SAFETY: 1. readers get `&T` (T: Sync), 2. a writer excludes everybody (T: Send).
unsafe impl<T: ?Sized + Send + Sync, L: Level> Sync for RwSpinLock<T, L> {}
// SAFETY: 1. moving the lock moves the value, which is Send.
unsafe impl<T: ?Sized + Send, L: Level> Send for RwSpinLock<T, L> {}

pub struct ReadGuard<'a, T: ?Sized, L: Level> {
    lock: &'a RwSpinLock<T, L>,
    flags: Option<irq::Flags>,
    _not_send: PhantomData<*mut ()>,
}

pub struct WriteGuard<'a, T: ?Sized, L: Level> {
    lock: &'a RwSpinLock<T, L>,
    flags: Option<irq::Flags>,
    _not_send: PhantomData<*mut ()>,
}

impl<T, L: Level> RwSpinLock<T, L> {
    pub const fn new(value: T) -> Self {
        RwSpinLock { word: RwWord::new(), _level: PhantomData, value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized, L: Level> RwSpinLock<T, L> {
    /// Shares the value.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T, L> {
        let flags = enter::<L>();
        lockdep::acquired::<L>(false);
        self.word.read(cpu::relax);
        ReadGuard { lock: self, flags, _not_send: PhantomData }
    }

    /// Takes the value for itself.
    pub fn write(&self) -> WriteGuard<'_, T, L> {
        let flags = enter::<L>();
        lockdep::acquired::<L>(false);
        self.word.write(cpu::relax);
        WriteGuard { lock: self, flags, _not_send: PhantomData }
    }
}

impl<T: ?Sized, L: Level> Deref for ReadGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: 1. the guard counts as a reader, so no writer is inside.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> Drop for ReadGuard<'_, T, L> {
    fn drop(&mut self) {
        lockdep::released::<L>();
        self.lock.word.unread();
        leave(self.flags.take());
    }
}

impl<T: ?Sized, L: Level> Deref for WriteGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: 1. the guard is the only one of the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> DerefMut for WriteGuard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. the guard is the only one of the lock; 2. `&mut self` makes the borrow unique.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> Drop for WriteGuard<'_, T, L> {
    fn drop(&mut self) {
        lockdep::released::<L>();
        self.lock.word.unwrite();
        leave(self.flags.take());
    }
}
