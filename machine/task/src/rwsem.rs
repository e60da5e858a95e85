//! The reader-writer lock that sleeps (Linux's rw_semaphore).
//!
//! A waiting writer keeps new readers out, so that page faults of many threads cannot starve an mmap.

use crate::mutex::{acquired, released};
use crate::wait::WaitQueue;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use sync::Level;

const WRITER: u32 = 1 << 31;
/// Writers that wait, counted in bits 20..31.
const WAITING_WRITER: u32 = 1 << 20;
const WAITING_WRITERS: u32 = WRITER - WAITING_WRITER;
const READERS: u32 = WAITING_WRITER - 1;

/// Many readers or one writer, for process context; holders may sleep.
pub struct RwSemaphore<T: ?Sized, L: Level> {
    state: AtomicU32,
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
            state: AtomicU32::new(0),
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
        if self.try_read_once().is_none() {
            self.waiters.wait(|| self.try_read_once());
        }
        SemReadGuard { lock: self, _not_send: PhantomData }
    }

    fn try_read_once(&self) -> Option<()> {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITER | WAITING_WRITERS) == 0 {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(()),
                Err(now) => state = now,
            }
        }
        None
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
        if self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.state.fetch_add(WAITING_WRITER, Ordering::Relaxed);
            self.waiters.wait(|| self.try_write_waiting());
        }
        SemWriteGuard { lock: self, _not_send: PhantomData }
    }

    /// One try of a writer that is counted as waiting; success takes it out of the count.
    fn try_write_waiting(&self) -> Option<()> {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITER | READERS) == 0 {
            let new = (state - WAITING_WRITER) | WRITER;
            match self.state.compare_exchange_weak(state, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(()),
                Err(now) => state = now,
            }
        }
        None
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
        let before = self.lock.state.fetch_sub(1, Ordering::SeqCst);
        if before & READERS == 1 && before & WAITING_WRITERS != 0 {
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
        self.lock.state.fetch_and(!WRITER, Ordering::SeqCst);
        if !self.lock.waiters.is_empty() {
            self.lock.waiters.wake_all();
        }
    }
}
