//! The sleeping locks and wait queues on the host's threads.
#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use sync::Level;

pub struct RwSemaphore<T, L: Level> {
    value: RwLock<T>,
    _level: PhantomData<fn() -> L>,
}

pub struct SemReadGuard<'a, T, L: Level> {
    value: RwLockReadGuard<'a, T>,
    _level: PhantomData<fn() -> L>,
}

pub struct SemWriteGuard<'a, T, L: Level> {
    value: RwLockWriteGuard<'a, T>,
    _level: PhantomData<fn() -> L>,
}

impl<T, L: Level> RwSemaphore<T, L> {
    pub const fn new(value: T) -> Self {
        RwSemaphore { value: RwLock::new(value), _level: PhantomData }
    }

    pub fn read(&self) -> SemReadGuard<'_, T, L> {
        sync::assert_may_sleep();
        sync::acquired::<L>(false);
        SemReadGuard { value: self.value.read().unwrap_or_else(PoisonError::into_inner), _level: PhantomData }
    }

    pub fn write(&self) -> SemWriteGuard<'_, T, L> {
        self.write_at(false)
    }

    pub fn write_nested(&self) -> SemWriteGuard<'_, T, L> {
        self.write_at(true)
    }

    fn write_at(&self, nested: bool) -> SemWriteGuard<'_, T, L> {
        sync::assert_may_sleep();
        sync::acquired::<L>(nested);
        SemWriteGuard {
            value: self.value.write().unwrap_or_else(PoisonError::into_inner),
            _level: PhantomData,
        }
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, L: Level> Deref for SemReadGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, L: Level> Drop for SemReadGuard<'_, T, L> {
    fn drop(&mut self) {
        sync::released::<L>();
    }
}

impl<T, L: Level> Deref for SemWriteGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, L: Level> DerefMut for SemWriteGuard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T, L: Level> Drop for SemWriteGuard<'_, T, L> {
    fn drop(&mut self) {
        sync::released::<L>();
    }
}

pub struct WaitQueue;

impl WaitQueue {
    pub const fn new(_name: &'static &'static str) -> WaitQueue {
        WaitQueue
    }

    pub fn wait<R>(&self, mut attempt: impl FnMut() -> Option<R>) -> R {
        sync::assert_may_sleep();
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            std::thread::yield_now();
        }
    }

    pub fn wake_all(&self) {}
}

pub struct Current;

pub fn current() -> Current {
    Current
}

impl Current {
    pub fn fatal_pending(&self) -> bool {
        false
    }
}
