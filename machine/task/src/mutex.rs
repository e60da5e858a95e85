//! The lock that sleeps.
//!
//! Uncontended: one compare-and-swap each way, no queue touched. The word says whether anybody waits,
//! so that an unlock without waiters wakes nobody. Not fair: an unlocked mutex goes to whoever comes
//! first, which keeps a CPU from idling until a woken task gets to run.

use crate::wait::{WaitMode, WaitQueue};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use lockword::MutexWord;
use sync::Level;

/// Mutual exclusion for process context; the holder may sleep.
pub struct Mutex<T: ?Sized, L: Level> {
    word: MutexWord,
    waiters: WaitQueue,
    _level: PhantomData<fn() -> L>,
    value: UnsafeCell<T>,
}

// SAFETY: 1. the value is reached only through the one guard.
unsafe impl<T: ?Sized + Send, L: Level> Sync for Mutex<T, L> {}
// SAFETY: 1. moving the lock moves the value, which is Send.
unsafe impl<T: ?Sized + Send, L: Level> Send for Mutex<T, L> {}

pub struct MutexGuard<'a, T: ?Sized, L: Level> {
    lock: &'a Mutex<T, L>,
    _not_send: PhantomData<*mut ()>,
}

impl<T, L: Level> Mutex<T, L> {
    pub const fn new(value: T) -> Self {
        Mutex {
            word: MutexWord::new(),
            waiters: WaitQueue::new(&"mutex_lock"),
            _level: PhantomData,
            value: UnsafeCell::new(value),
        }
    }

    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized, L: Level> Mutex<T, L> {
    /// Takes the lock, sleeping while another task holds it.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T, L> {
        self.lock_at(false)
    }

    /// Takes a second lock of a level already held; the caller orders the two.
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self) -> MutexGuard<'_, T, L> {
        self.lock_at(true)
    }

    #[inline]
    #[track_caller]
    fn lock_at(&self, nested: bool) -> MutexGuard<'_, T, L> {
        crate::scheduler::might_sleep();
        acquired::<L>(nested);
        if !self.word.try_lock() {
            self.lock_slow();
        }
        MutexGuard { lock: self, _not_send: PhantomData }
    }

    #[cold]
    fn lock_slow(&self) {
        let attempt = || self.word.try_lock_waiting().then_some(());
        let _ = self.waiters.wait_exclusive(WaitMode::Uninterruptible, None, attempt);
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T, L>> {
        if !self.word.try_lock() {
            return None;
        }
        acquired::<L>(true);
        Some(MutexGuard { lock: self, _not_send: PhantomData })
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized, L: Level> Deref for MutexGuard<'_, T, L> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: 1. the guard exists, so this task holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> DerefMut for MutexGuard<'_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. the guard exists, so this task holds the lock; 2. `&mut self` makes it unique.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, L: Level> Drop for MutexGuard<'_, T, L> {
    #[inline]
    fn drop(&mut self) {
        released::<L>();
        if self.lock.word.unlock() {
            self.lock.waiters.wake_one();
        }
    }
}

/// Debug builds: checks the order of the sleeping locks of the current task.
#[inline]
#[track_caller]
pub(crate) fn acquired<L: Level>(nested: bool) {
    #[cfg(debug_assertions)]
    {
        let task = crate::current();
        let mut held = task.held_sleeping.lock();
        let highest = held.iter().copied().max().unwrap_or(0);
        let bad = L::RANK < highest || (L::RANK == highest && !nested);
        held.push(L::RANK);
        drop(held);
        assert!(
            !bad,
            "lock order: taking sleeping lock {} ({}) while holding rank {highest}",
            L::NAME,
            L::RANK
        );
    }
    let _ = nested;
}

/// Debug builds: a lock that was free, so that nobody waited for it, is held whatever else is.
#[inline]
pub(crate) fn acquired_unordered<L: Level>() {
    #[cfg(debug_assertions)]
    crate::current().held_sleeping.lock().push(L::RANK);
}

#[inline]
pub(crate) fn released<L: Level>() {
    #[cfg(debug_assertions)]
    {
        let task = crate::current();
        let mut held = task.held_sleeping.lock();
        if let Some(at) = held.iter().rposition(|&rank| rank == L::RANK) {
            held.remove(at);
        }
    }
}

/// A file system on top of others calls into them with its own locks held, which are of the same levels; the order is
/// from the top down then, not that of the levels. While this guard lives, sleeping locks are ordered among those that
/// were taken under it. Locks are given back before it goes.
pub struct Stacked {
    #[cfg(debug_assertions)]
    above: alloc::vec::Vec<u16>,
    _not_send: PhantomData<*mut ()>,
}

/// The current task goes one file system down.
pub fn stacked() -> Stacked {
    Stacked {
        #[cfg(debug_assertions)]
        above: core::mem::take(&mut *crate::current().held_sleeping.lock()),
        _not_send: PhantomData,
    }
}

impl Drop for Stacked {
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        {
            let above = core::mem::take(&mut self.above);
            let below = core::mem::replace(&mut *crate::current().held_sleeping.lock(), above);
            debug_assert!(below.is_empty(), "locks of the file system below are still held: {below:?}");
        }
    }
}

/// Debug builds: what a system call or a fault leaves behind when it is done. Preemption on, no lock held.
#[inline]
pub fn assert_nothing_held() {
    #[cfg(debug_assertions)]
    {
        let count = arch::cpu::preempt_count();
        assert!(count == 0, "preemption is off ({count:#x}) on the way to user mode");
        let held = crate::current().held_sleeping.lock().len();
        assert!(held == 0, "{held} sleeping locks are held on the way to user mode");
    }
}
