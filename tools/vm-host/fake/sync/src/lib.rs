//! The spin lock on the host's mutex, with the kernel's own list of levels and its order checked.
#![forbid(unsafe_code)]

#[path = "../../../../../machine/sync/src/levels.rs"]
pub mod levels;

pub use levels::Level;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

thread_local! {
    static HELD: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
}

/// Records an acquisition; a wrong order is a failed test.
pub fn acquired<L: Level>(nested: bool) {
    HELD.with_borrow_mut(|held| {
        let top = held.iter().copied().max().unwrap_or(0);
        let good = L::RANK > top || (L::RANK == top && nested);
        assert!(good || std::thread::panicking(), "lock order: {} while holding {held:?}", L::NAME);
        held.push(L::RANK);
    });
}

pub fn released<L: Level>() {
    HELD.with_borrow_mut(|held| {
        if let Some(at) = held.iter().rposition(|&rank| rank == L::RANK) {
            held.remove(at);
        }
    });
}

/// Fails the test when a spin lock is held.
pub fn assert_may_sleep() {
    HELD.with_borrow(|held| assert!(held.iter().all(|&rank| rank < 100), "sleeping while holding {held:?}"));
}

pub struct SpinLock<T, L: Level> {
    value: Mutex<T>,
    _level: PhantomData<fn() -> L>,
}

pub struct SpinGuard<'a, T, L: Level> {
    value: Option<MutexGuard<'a, T>>,
    _level: PhantomData<fn() -> L>,
}

impl<T, L: Level> SpinLock<T, L> {
    pub const fn new(value: T) -> Self {
        SpinLock { value: Mutex::new(value), _level: PhantomData }
    }

    pub fn lock(&self) -> SpinGuard<'_, T, L> {
        self.lock_at(false)
    }

    pub fn lock_nested(&self) -> SpinGuard<'_, T, L> {
        self.lock_at(true)
    }

    fn lock_at(&self, nested: bool) -> SpinGuard<'_, T, L> {
        acquired::<L>(nested);
        SpinGuard {
            value: Some(self.value.lock().unwrap_or_else(PoisonError::into_inner)),
            _level: PhantomData,
        }
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, L: Level> Deref for SpinGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("held until dropped")
    }
}

impl<T, L: Level> DerefMut for SpinGuard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held until dropped")
    }
}

impl<T, L: Level> Drop for SpinGuard<'_, T, L> {
    fn drop(&mut self) {
        self.value = None;
        released::<L>();
    }
}

/// A value that is set once.
pub struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub const fn new() -> Once<T> {
        Once(OnceLock::new())
    }

    pub fn set(&self, value: T) -> Result<(), T> {
        self.0.set(value)
    }

    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    pub fn get_expect(&self) -> &T {
        self.0.get().expect("set before")
    }
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once::new()
    }
}

/// One value for each CPU: a machine of one.
pub struct PerCpu<T>(T);

impl<T> PerCpu<T> {
    pub fn new(mut make: impl FnMut(usize) -> T) -> PerCpu<T> {
        PerCpu(make(0))
    }

    pub fn this(&self) -> &T {
        &self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        std::iter::once((0, &self.0))
    }
}
