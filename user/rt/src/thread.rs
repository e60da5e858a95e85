//! Threads (`clone(2)`) and what they wait on (`futex(2)`).
//!
//! Idea: a thread's stack is one mapping with a guard page below. The kernel writes 0 to `tid` and wakes it as
//! a futex when the thread is gone (`CLONE_CHILD_CLEARTID`), which is what `join` waits for. There is no
//! thread-local storage: the bare targets offer none on stable Rust.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use alloc::boxed::Box;

use crate::nr::*;
use crate::{Errno, Result, arch, decode, mm, process, syscall};

const STACK_BYTES: usize = 64 << 10;

const FLAGS: u32 = CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID;

/// `FUTEX_WAIT`, private: sleeps while `*word == expected`, at most `timeout_ns`.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) -> Result<()> {
    futex_wait_op(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, timeout_ns)
}

fn futex_wait_op(word: &AtomicU32, op: u32, expected: u32, timeout_ns: Option<u64>) -> Result<()> {
    let limit = timeout_ns.map(crate::time::timespec);
    let limit_at = limit.as_ref().map_or(0, |t| &raw const *t as usize);
    // SAFETY: 1. the kernel reads the word and the time.
    unsafe { syscall!(__NR_futex, word.as_ptr(), op, expected, limit_at, 0, 0) }.map(drop)
}

/// `FUTEX_WAKE`, private: wakes up to `count` sleepers; answers how many.
pub fn futex_wake(word: &AtomicU32, count: u32) -> Result<usize> {
    // SAFETY: 1. the kernel uses only the word's address.
    unsafe { syscall!(__NR_futex, word.as_ptr(), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, 0, 0, 0) }
}

struct Shared<F> {
    tid: AtomicU32,
    body: UnsafeCell<Option<F>>,
}

/// A running thread. Dropping it joins.
pub struct Thread {
    tid: *const AtomicU32,
    stack: usize,
    free: fn(*const AtomicU32),
}

// SAFETY: 1. it only holds addresses of memory that the handle owns.
unsafe impl Send for Thread {}

extern "C" fn run<F: FnOnce() + Send + 'static>(shared: *mut u8) -> ! {
    // SAFETY: 1. `spawn` passed a `Shared<F>` that lives until `join`; 2. only this thread touches `body`.
    let body = unsafe { (*(*shared.cast::<Shared<F>>()).body.get()).take() };
    if let Some(body) = body {
        body();
    }
    process::exit_thread()
}

fn free<F>(tid: *const AtomicU32) {
    // SAFETY: 1. `tid` is the first field of a `Box<Shared<F>>` (repr(Rust) order is not relied on: see `spawn`).
    drop(unsafe {
        Box::from_raw(tid.byte_sub(core::mem::offset_of!(Shared<F>, tid)).cast_mut().cast::<Shared<F>>())
    });
}

/// Starts a thread that runs `body` on a stack of 64 KiB.
pub fn spawn<F: FnOnce() + Send + 'static>(body: F) -> Result<Thread> {
    let stack = mm::map_anonymous(STACK_BYTES)?;
    // SAFETY: 1. the fresh mapping's lowest page is used by nobody: it becomes the guard.
    unsafe { mm::protect(stack, mm::PAGE, PROT_NONE) }?;
    // The id is not zero before the kernel writes it, so that an early `join` waits.
    let shared =
        Box::into_raw(Box::new(Shared { tid: AtomicU32::new(u32::MAX), body: UnsafeCell::new(Some(body)) }));
    // SAFETY: 1. `shared` is alive until `join` frees it.
    let tid = unsafe { &raw const (*shared).tid };
    let tid_word = tid.cast_mut().cast::<u32>();
    // SAFETY: 1. the stack is fresh and unmapped only after the thread's end; 2. both ids point to `shared.tid`;
    // 3. `run::<F>` expects a `Shared<F>`, and `F: Send`.
    let result = unsafe {
        arch::clone_thread(FLAGS as usize, stack + STACK_BYTES, tid_word, tid_word, run::<F>, shared.cast())
    };
    let thread = Thread { tid, stack, free: free::<F> };
    if let Err(e) = decode(result) {
        // SAFETY: 1. no thread was made; the drop of `thread` finds it ended and frees everything.
        unsafe { (*tid).store(0, Ordering::Relaxed) };
        drop(thread);
        return Err(e);
    }
    Ok(thread)
}

impl Thread {
    fn tid_word(&self) -> &AtomicU32 {
        // SAFETY: 1. the shared block lives until this handle's drop.
        unsafe { &*self.tid }
    }

    /// The kernel's id of the thread (0 once it has ended).
    pub fn tid(&self) -> process::Pid {
        self.tid_word().load(Ordering::Acquire) as process::Pid
    }

    /// Waits for the thread's end.
    pub fn join(self) {}
}

impl Drop for Thread {
    fn drop(&mut self) {
        loop {
            match self.tid_word().load(Ordering::Acquire) {
                0 => break,
                // The kernel's wake-up at a thread's end is a shared one: no FUTEX_PRIVATE_FLAG.
                tid => match futex_wait_op(self.tid_word(), FUTEX_WAIT, tid, None) {
                    Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(_) => process::yield_now(),
                },
            }
        }
        (self.free)(self.tid);
        // SAFETY: 1. the thread has ended, so its stack is unused. An error leaks the mapping.
        let _ = unsafe { mm::unmap(self.stack, STACK_BYTES) };
    }
}

/// A lock that sleeps: 0 free, 1 held, 2 held with sleepers (Drepper, "Futexes Are Tricky", mutex 3).
pub struct Mutex<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: 1. the value is only reached through the guard, which one thread has at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}

/// Access to a [`Mutex`]'s value; dropping it unlocks.
pub struct Guard<'a, T>(&'a Mutex<T>);

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, sleeping until it is free.
    pub fn lock(&self) -> Guard<'_, T> {
        if self.state.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while self.state.swap(2, Ordering::Acquire) != 0 {
                let _ = futex_wait(&self.state, 2, None); // EAGAIN, EINTR: look again
            }
        }
        Guard(self)
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: 1. the guard holds the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. the guard holds the lock, and is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.0.state.swap(0, Ordering::Release) == 2 {
            let _ = futex_wake(&self.0.state, 1); // nobody there is fine
        }
    }
}
