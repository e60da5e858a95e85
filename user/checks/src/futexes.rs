//! futex(2).

use crate::waiting::until_asleep;
use crate::{Check, Outcome, equal};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use rt::nr::*;
use rt::thread::{self, futex_wait, futex_wake};
use rt::{Errno, process, syscall, time};

pub const CHECKS: &[Check] = &[
    ("value_differs", value_differs),
    ("times_out", times_out),
    ("wakes", wakes),
    ("shared_between_processes", shared_between_processes),
    ("requeue", requeue),
    ("bitset", bitset),
    ("wake_op", wake_op),
    ("bad_arguments", bad_arguments),
    ("mutex_contention", mutex_contention),
];

fn value_differs() -> Outcome {
    let word = AtomicU32::new(1);
    equal!(futex_wait(&word, 0, None), Err(Errno::EAGAIN));
    equal!(futex_wake(&word, 1)?, 0);
    Ok(())
}

fn times_out() -> Outcome {
    let word = AtomicU32::new(0);
    let start = time::now_ns();
    equal!(futex_wait(&word, 0, Some(20_000_000)), Err(Errno::ETIMEDOUT));
    crate::ensure!(time::now_ns() - start >= 20_000_000, "returned early");
    Ok(())
}

/// `count` threads that wait on the word until it is not 0, and a count of those that came back.
fn waiters(
    word: &Arc<AtomicU32>,
    count: u32,
) -> rt::Result<(alloc::vec::Vec<thread::Thread>, Arc<AtomicU32>)> {
    let back = Arc::new(AtomicU32::new(0));
    let mut threads = alloc::vec::Vec::new();
    for _ in 0..count {
        let (word, back) = (word.clone(), back.clone());
        threads.push(thread::spawn(move || {
            let _ = futex_wait(&word, 0, None);
            back.fetch_add(1, Ordering::SeqCst);
        })?);
    }
    for thread in &threads {
        until_asleep(thread.tid())?;
    }
    Ok((threads, back))
}

fn wakes() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    let (threads, back) = waiters(&word, 5)?;
    equal!(futex_wake(&word, 2)?, 2);
    while back.load(Ordering::SeqCst) < 2 {
        process::yield_now();
    }
    equal!(futex_wake(&word, 100)?, 3);
    threads.into_iter().for_each(thread::Thread::join);
    Ok(())
}

fn shared_between_processes() -> Outcome {
    // SAFETY: 1. a fresh shared mapping.
    let at = unsafe { rt::mm::map(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) }?;
    // SAFETY: 1. zeroed, aligned, and mapped to the program's end.
    let word = unsafe { &*(at as *const AtomicU32) };
    let call = |op: u32, value: u32| {
        // SAFETY: 1. the kernel reads the word.
        unsafe { syscall!(__NR_futex, at, op, value, 0, 0, 0) }
    };
    let Some(pid) = process::fork()? else {
        while word.load(Ordering::SeqCst) == 0 {
            let _ = call(0, 0);
        }
        process::exit(0)
    };
    time::sleep_ns(50_000_000);
    word.store(1, Ordering::SeqCst);
    call(1, 1)?;
    equal!(process::wait_exit(pid)?.exit_code(), Some(0));
    Ok(())
}

fn requeue() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    let other = AtomicU32::new(0);
    let (threads, back) = waiters(&word, 4)?;
    let call = |op: u32, wake: u32, move_: u32, check: u32| {
        // SAFETY: 1. the kernel uses both words' addresses.
        unsafe { syscall!(__NR_futex, word.as_ptr(), op | 128, wake, move_, other.as_ptr(), check) }
    };
    equal!(call(4, 1, 100, 7), Err(Errno::EAGAIN));
    equal!(call(4, 1, 100, 0)?, 4);
    while back.load(Ordering::SeqCst) < 1 {
        process::yield_now();
    }
    equal!(futex_wake(&word, 100)?, 0);
    equal!(futex_wake(&other, 100)?, 3);
    threads.into_iter().for_each(thread::Thread::join);
    Ok(())
}

fn bitset() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    let inner = word.clone();
    let wait = thread::spawn(move || {
        // SAFETY: 1. the kernel reads the word.
        let _ = unsafe { syscall!(__NR_futex, inner.as_ptr(), 9 | 128, 0, 0, 0, 0b10) };
    })?;
    until_asleep(wait.tid())?;
    // SAFETY: 1. the kernel uses the word's address.
    let wake = |bits: u32| unsafe { syscall!(__NR_futex, word.as_ptr(), 10 | 128, 1, 0, 0, bits) };
    equal!(wake(0b01)?, 0);
    equal!(wake(0b11)?, 1);
    wait.join();
    equal!(wake(0), Err(Errno::EINVAL));
    Ok(())
}

fn wake_op() -> Outcome {
    let (one, two) = (AtomicU32::new(0), AtomicU32::new(5));
    // two += 3; wakes on two if its old value was 5
    let operation = 1u32 << 28 | 3 << 12 | 5;
    // SAFETY: 1. the kernel changes the second word.
    unsafe { syscall!(__NR_futex, one.as_ptr(), 5 | 128, 1, 1, two.as_ptr(), operation) }?;
    equal!(two.load(Ordering::SeqCst), 8);
    Ok(())
}

fn bad_arguments() -> Outcome {
    let word = AtomicU32::new(0);
    let at = word.as_ptr() as usize;
    // SAFETY: 1. the kernel refuses all of these.
    let call = |at: usize, op: u32, time: usize| unsafe { syscall!(__NR_futex, at, op, 0, time, 0, 0) };
    equal!(call(at + 1, 0, 0), Err(Errno::EINVAL));
    equal!(call(at, 99, 0), Err(Errno::ENOSYS));
    equal!(call(8, 0, 0), Err(Errno::EFAULT));
    equal!(call(at, 0, 8), Err(Errno::EFAULT));
    let bad = [0u64, 2_000_000_000];
    equal!(call(at, 0, bad.as_ptr() as usize), Err(Errno::EINVAL));
    Ok(())
}

fn mutex_contention() -> Outcome {
    let total = Arc::new(thread::Mutex::new(0u64));
    let mut threads = alloc::vec::Vec::new();
    for _ in 0..6 {
        let total = total.clone();
        threads.push(thread::spawn(move || {
            for _ in 0..2000 {
                *total.lock() += 1;
            }
        })?);
    }
    threads.into_iter().for_each(thread::Thread::join);
    equal!(*total.lock(), 12_000);
    Ok(())
}
