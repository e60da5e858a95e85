//! The reader-writer lock that sleeps (Linux's rw_semaphore).
//!
//! A waiting writer keeps new readers out, so that page faults of many threads cannot starve an mmap.

use crate::mutex::{acquired, acquired_unordered, released};
use crate::wait::WaitQueue;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use lockword::SemWord;
use sync::Level;

/// Many readers or one writer, for process context; holders may sleep.
pub struct RwSemaphore<T: ?Sized, L: Level> {
    word: SemWord,
    waiters: WaitQueue,
    _level: PhantomData<fn() -> L>,
    value: UnsafeCell<T>,
}

// SAFETY: 1. readers get `&T` (T: Sync), 2. a writer excludes everybody (T: Send).
unsafe impl<T: ?Sized + Send + Sync, L: Level> Sync for RwSemaphore<T, L> {}
// SAFETY: 1. moving the lock moves the value, which is Send.
unsafe impl<T: ?Sized + Send, L: Level> Send for RwSemaphore<T, L> {}

pub struct SemReadGuard<'a, T: ?Sized, L: Level> {
    lock: &'a RwSemaphore<T, L>,
    _not_send: PhantomData<*mut ()>,
}

pub struct SemWriteGuard<'a, T: ?Sized, L: Level> {
    lock: &'a RwSemaphore<T, L>,
    _not_send: PhantomData<*mut ()>,
}

impl<T, L: Level> RwSemaphore<T, L> {
    pub const fn new(value: T) -> Self {
        RwSemaphore {
            word: SemWord::new(),
            waiters: WaitQueue::new(&"rwsem_down"),
            _level: PhantomData,
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized, L: Level> RwSemaphore<T, L> {
    /// Shares the value.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> SemReadGuard<'_, T, L> {
        crate::scheduler::might_sleep();
        acquired::<L>(false);
        if !self.word.try_read() {
            self.waiters.wait(|| self.word.try_read().then_some(()));
        }
        SemReadGuard { lock: self, _not_send: PhantomData }
    }

    /// Shares the value if nobody has it for himself or waits for that. In any order: it does not wait.
    #[track_caller]
    pub fn try_read(&self) -> Option<SemReadGuard<'_, T, L>> {
        if !self.word.try_read() {
            return None;
        }
        acquired_unordered::<L>();
        Some(SemReadGuard { lock: self, _not_send: PhantomData })
    }

    /// Takes the value for itself.
    #[track_caller]
    pub fn write(&self) -> SemWriteGuard<'_, T, L> {
        self.write_at(false)
    }

    /// Takes a second lock of a level already held (fork: parent, then child).
    #[track_caller]
    pub fn write_nested(&self) -> SemWriteGuard<'_, T, L> {
        self.write_at(true)
    }

    #[track_caller]
    fn write_at(&self, nested: bool) -> SemWriteGuard<'_, T, L> {
        crate::scheduler::might_sleep();
        acquired::<L>(nested);
        if !self.word.try_write() {
            self.word.begin_waiting();
            self.waiters.wait(|| self.word.try_write_waiting().then_some(()));
        }
        SemWriteGuard { lock: self, _not_send: PhantomData }
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized, L: Level> Deref for SemReadGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: 1. the guard counts as a reader, so no writer is inside.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> Drop for SemReadGuard<'_, T, L> {
    fn drop(&mut self) {
        released::<L>();
        if self.lock.word.unread() {
            self.lock.waiters.wake_all();
        }
    }
}

impl<T: ?Sized, L: Level> Deref for SemWriteGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: 1. the guard is the only one of the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> DerefMut for SemWriteGuard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. the guard is the only one of the lock; 2. `&mut self` makes the borrow unique.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> Drop for SemWriteGuard<'_, T, L> {
    fn drop(&mut self) {
        released::<L>();
        self.lock.word.unwrite();
        if !self.lock.waiters.is_empty() {
            self.lock.waiters.wake_all();
        }
    }
}
