//! A value that is set once, at boot, and read for ever after.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};

const EMPTY: u8 = 0;
const BUSY: u8 = 1;
const READY: u8 = 2;

/// Set once, then free to read from any context.
pub struct Once<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: 1. the value is written once, before READY is published; 2. afterwards it is only shared.
unsafe impl<T: Send + Sync> Sync for Once<T> {}
// SAFETY: 1. moving it moves the value.
unsafe impl<T: Send> Send for Once<T> {}

impl<T> Once<T> {
    pub const fn new() -> Self {
        Once { state: AtomicU8::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Sets the value; gives it back when one is there already.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.state.compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(value);
        }
        // SAFETY: 1. BUSY was claimed by this caller alone, 2. and no reader looks before READY.
        unsafe { (*self.value.get()).write(value) };
        self.state.store(READY, Ordering::Release);
        Ok(())
    }

    /// The value, if it was set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != READY {
            return None;
        }
        // SAFETY: 1. READY is stored after the value was written, 2. which never changes again.
        Some(unsafe { (*self.value.get()).assume_init_ref() })
    }

    /// The value; a boot-order bug panics.
    #[inline]
    #[track_caller]
    pub fn get_expect(&self) -> &T {
        self.get().expect("used before boot set it")
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once::new()
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == READY {
            // SAFETY: 1. READY says it was written, 2. and `&mut self` that nobody reads it.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}
