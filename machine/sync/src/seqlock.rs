//! Small `Copy` data read without a lock: readers retry when a writer was inside.

use crate::levels::TimeKeeper;
use crate::spin::SpinLock;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use lockword::SeqWord;

/// A value that readers copy without writing to shared memory.
pub struct SeqLock<T: Copy> {
    sequence: SeqWord,
    writers: SpinLock<(), TimeKeeper>,
    value: UnsafeCell<T>,
}

// SAFETY: 1. writers exclude each other by the spin lock; 2. readers copy `T: Copy` and discard torn copies.
unsafe impl<T: Copy + Send> Sync for SeqLock<T> {}

impl<T: Copy> SeqLock<T> {
    pub const fn new(value: T) -> Self {
        SeqLock { sequence: SeqWord::new(), writers: SpinLock::new(()), value: UnsafeCell::new(value) }
    }

    /// A consistent copy. Any context, except inside this lock's own writer.
    #[inline]
    pub fn read(&self) -> T {
        loop {
            if let Some(ticket) = self.sequence.begin_read() {
                // SAFETY: 1. the pointer is valid for the lock's life; 2. a torn copy is discarded below
                // before anybody looks at it (T is Copy: no drop runs on it).
                let copy = unsafe { core::ptr::read_volatile(self.value.get().cast::<MaybeUninit<T>>()) };
                if self.sequence.end_read(ticket) {
                    // SAFETY: 1. no writer was inside between the two looks, so these are the bytes of a T.
                    return unsafe { copy.assume_init() };
                }
            }
            arch::cpu::relax();
        }
    }

    /// Changes the value. Interrupts are off meanwhile.
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        let _writer = self.writers.lock();
        self.sequence.begin_write();
        // SAFETY: 1. the writers' lock makes this the only writer; 2. readers never hold references.
        change(unsafe { &mut *self.value.get() });
        self.sequence.end_write();
    }
}
