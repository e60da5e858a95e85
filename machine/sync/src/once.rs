//! A value that is set once, at boot, and read for ever after.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use lockword::OnceWord;

/// Set once, then free to read from any context.
pub struct Once<T> {
    state: OnceWord,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: 1. the value is written once, before READY is published; 2. afterwards it is only shared.
unsafe impl<T: Send + Sync> Sync for Once<T> {}
// SAFETY: 1. moving it moves the value.
unsafe impl<T: Send> Send for Once<T> {}

impl<T> Once<T> {
    pub const fn new() -> Self {
        Once { state: OnceWord::new(), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Sets the value; gives it back when one is there already, which [`Once::get`] then has: of two who set at once the
    /// second waits for the first. Any context.
    pub fn set(&self, value: T) -> Result<(), T> {
        // The wait is for a few instructions because nothing comes between them on this CPU.
        let _off = crate::irq_off();
        if !self.state.claim(arch::cpu::relax) {
            return Err(value);
        }
        // SAFETY: 1. the word was claimed by this caller alone, 2. and no reader looks before it is published.
        unsafe { (*self.value.get()).write(value) };
        self.state.publish();
        Ok(())
    }

    /// The value, if it was set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.state.is_ready() {
            return None;
        }
        // SAFETY: 1. the word is published after the value was written, 2. which never changes again.
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
        if self.state.is_ready() {
            // SAFETY: 1. the word says it was written, 2. and `&mut self` that nobody reads it.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}
