//! Futexes with priority inheritance, and the calls for several futexes at once.

use crate::hogs::{self, Hog};
use crate::waiting::until_asleep;
use crate::{Check, Outcome, ensure, equal};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};
use rt::nr::*;
use rt::thread::{self, Thread, futex_wake};
use rt::{Errno, Result, fs, process, syscall, time};

pub const CHECKS: &[Check] = &[
    ("uncontended", uncontended),
    ("handed_over", handed_over),
    ("most_urgent_first", most_urgent_first),
    ("times_out", times_out),
    ("errors", errors),
    ("deadlock", deadlock),
    ("priority_is_lent", priority_is_lent),
    ("priority_along_a_chain", priority_along_a_chain),
    ("priority_follows_a_change", priority_follows_a_change),
    ("inversion_is_avoided", inversion_is_avoided),
    ("owner_dies", owner_dies),
    ("robust_owner_dies", robust_owner_dies),
    ("shared_owner_dies", shared_owner_dies),
    ("requeue_to_a_free_lock", requeue_to_a_free_lock),
    ("requeue_to_a_taken_lock", requeue_to_a_taken_lock),
    ("requeue_errors", requeue_errors),
    ("one_of_several", one_of_several),
    ("newer_calls", newer_calls),
];

const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRYLOCK_PI: u32 = 8;
const WAIT_REQUEUE_PI: u32 = 11;
const CMP_REQUEUE_PI: u32 = 12;
const LOCK_PI2: u32 = 13;
const PRIVATE: u32 = 128;
const WAITERS: u32 = 1 << 31;
const OWNER_DIED: u32 = 1 << 30;
const TID: u32 = OWNER_DIED - 1;

fn futex(word: &AtomicU32, op: u32, value: u32, time: usize, other: usize, value3: u32) -> Result<usize> {
    // SAFETY: 1. the kernel uses the words, and reads a time of the caller's.
    unsafe { syscall!(__NR_futex, word.as_ptr(), op, value, time, other, value3) }
}

fn lock(word: &AtomicU32) -> Result<()> {
    loop {
        match futex(word, LOCK_PI | PRIVATE, 0, 0, 0, 0) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

fn unlock(word: &AtomicU32) -> Result<()> {
    futex(word, UNLOCK_PI | PRIVATE, 0, 0, 0, 0).map(drop)
}

fn me() -> u32 {
    process::gettid() as u32
}

fn uncontended() -> Outcome {
    let word = AtomicU32::new(0);
    lock(&word)?;
    equal!(word.load(Ordering::SeqCst), me());
    equal!(futex(&word, TRYLOCK_PI | PRIVATE, 0, 0, 0, 0), Err(Errno::EDEADLK));
    unlock(&word)?;
    equal!(word.load(Ordering::SeqCst), 0);
    futex(&word, TRYLOCK_PI | PRIVATE, 0, 0, 0, 0)?;
    equal!(word.load(Ordering::SeqCst), me());
    Ok(())
}

/// The priority of a thread of this process as its `stat` tells it.
fn priority(tid: process::Pid) -> Result<i64> {
    let path = format!("/proc/self/task/{tid}/stat\0");
    let path = CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let text = String::from_utf8_lossy(&fs::read_file(path)?).to_string();
    let (_, rest) = text.rsplit_once(") ").ok_or(Errno::EINVAL)?;
    let fields: Vec<&str> = rest.split(' ').collect();
    fields[15].parse().map_err(|_| Errno::EINVAL)
}

/// SCHED_FIFO with this priority for the calling thread; 0: SCHED_OTHER.
fn set_priority(tid: process::Pid, priority: u32) -> Result<()> {
    let policy = u32::from(priority > 0);
    // SAFETY: 1. the kernel reads one word.
    unsafe { syscall!(__NR_sched_setscheduler, tid, policy, &raw const priority) }.map(drop)
}

/// A thread of this priority that takes the lock, does `inside`, and leaves it. Returns when it sleeps.
fn waiter(word: &Arc<AtomicU32>, priority: u32, inside: impl FnOnce() + Send + 'static) -> Result<Thread> {
    let word = word.clone();
    let thread = thread::spawn(move || {
        let _ = set_priority(0, priority);
        if lock(&word).is_ok() {
            inside();
            let _ = unlock(&word);
        }
    })?;
    until_asleep(thread.tid())?;
    Ok(thread)
}

fn handed_over() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    let seen = Arc::new(AtomicU32::new(0));
    lock(&word)?;
    let (inner, out) = (word.clone(), seen.clone());
    let thread = waiter(&word, 0, move || out.store(inner.load(Ordering::SeqCst), Ordering::SeqCst))?;
    let tid = thread.tid() as u32;
    equal!(word.load(Ordering::SeqCst), me() | WAITERS);
    unlock(&word)?;
    thread.join();
    equal!(seen.load(Ordering::SeqCst) & TID, tid);
    equal!(word.load(Ordering::SeqCst), 0);
    Ok(())
}

fn most_urgent_first() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    let order = Arc::new(thread::Mutex::new(Vec::new()));
    lock(&word)?;
    let mut threads = Vec::new();
    for priority in [0, 3, 9, 5] {
        let order = order.clone();
        threads.push(waiter(&word, priority, move || order.lock().push(priority))?);
    }
    unlock(&word)?;
    threads.into_iter().for_each(Thread::join);
    equal!(*order.lock(), [9, 5, 3, 0]);
    Ok(())
}

fn times_out() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    lock(&word)?;
    let inner = word.clone();
    let results = Arc::new(thread::Mutex::new(Vec::new()));
    let out = results.clone();
    thread::spawn(move || {
        // LOCK_PI takes a time of the real-time clock, LOCK_PI2 one of the monotonic clock unless told.
        for (clock, op) in [(0, LOCK_PI), (1, LOCK_PI2), (0, LOCK_PI2 | 256)] {
            let at = time::timespec(time::clock_ns(clock).unwrap_or(0) + 10_000_000);
            out.lock().push(futex(&inner, op | PRIVATE, 0, &raw const at as usize, 0, 0));
        }
    })?
    .join();
    equal!(*results.lock(), [Err(Errno::ETIMEDOUT); 3]);
    unlock(&word)?;
    equal!(word.load(Ordering::SeqCst), 0);
    Ok(())
}

fn errors() -> Outcome {
    let word = AtomicU32::new(0);
    equal!(unlock(&word), Err(Errno::EPERM));
    // Nobody has this number.
    word.store(TID, Ordering::SeqCst);
    equal!(lock(&word), Err(Errno::ESRCH));
    equal!(futex(&word, TRYLOCK_PI | PRIVATE, 0, 0, 0, 0), Err(Errno::ESRCH));
    word.store(me(), Ordering::SeqCst);
    equal!(lock(&word), Err(Errno::EDEADLK));
    equal!(futex(&word, LOCK_PI | 256, 0, 0, 0, 0), Err(Errno::ENOSYS));
    // SAFETY: 1. the kernel refuses the address.
    equal!(unsafe { syscall!(__NR_futex, 8, LOCK_PI, 0, 0, 0, 0) }, Err(Errno::EFAULT));
    // SAFETY: 1. as above.
    equal!(
        unsafe { syscall!(__NR_futex, word.as_ptr() as usize + 1, LOCK_PI, 0, 0, 0, 0) },
        Err(Errno::EINVAL)
    );
    // A kernel thread owns no lock of ours.
    word.store(2, Ordering::SeqCst);
    let refused = lock(&word);
    ensure!(matches!(refused, Err(Errno::EPERM | Errno::ESRCH)), "{refused:?}");
    Ok(())
}

fn deadlock() -> Outcome {
    let (a, b) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    lock(&a)?;
    let (inner_a, inner_b) = (a.clone(), b.clone());
    let other = thread::spawn(move || {
        let _ = lock(&inner_b).and_then(|()| lock(&inner_a)).and_then(|()| unlock(&inner_a));
        let _ = unlock(&inner_b);
    })?;
    until_asleep(other.tid())?;
    equal!(lock(&b), Err(Errno::EDEADLK));
    unlock(&a)?;
    lock(&b)?;
    other.join();
    Ok(())
}

/// A thread that owns `words` and then waits for `wanted`, if any, or for the gate to open.
fn owner(
    words: Vec<Arc<AtomicU32>>,
    wanted: Option<Arc<AtomicU32>>,
    gate: &Arc<AtomicU32>,
) -> Result<Thread> {
    let gate = gate.clone();
    let thread = thread::spawn(move || {
        if words.iter().any(|word| lock(word).is_err()) {
            return;
        }
        if let Some(wanted) = wanted {
            let _ = lock(&wanted).and_then(|()| unlock(&wanted));
        }
        while gate.load(Ordering::SeqCst) == 0 {
            let _ = thread::futex_wait(&gate, 0, None);
        }
        for word in words {
            let _ = unlock(&word);
        }
    })?;
    until_asleep(thread.tid())?;
    Ok(thread)
}

fn open(gate: &AtomicU32) -> Result<()> {
    gate.store(1, Ordering::SeqCst);
    futex_wake(gate, 100).map(drop)
}

/// The priority of /proc/PID/stat for a real-time priority.
fn shown(priority: i64) -> i64 {
    -1 - priority
}

fn priority_is_lent() -> Outcome {
    let (a, b, gate) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let holder = owner([a.clone(), b.clone()].into(), None, &gate)?;
    let tid = holder.tid();
    equal!(priority(tid)?, 20);
    let first = waiter(&a, 10, || ())?;
    equal!(priority(tid)?, shown(10));
    let second = waiter(&b, 30, || ())?;
    equal!(priority(tid)?, shown(30));
    // What it is by itself has not changed.
    // SAFETY: 1. no memory is named.
    equal!(unsafe { syscall!(__NR_sched_getscheduler, tid) }?, 0);
    open(&gate)?;
    [first, second, holder].into_iter().for_each(Thread::join);
    Ok(())
}

fn priority_along_a_chain() -> Outcome {
    let (a, b, gate) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let last = owner([b.clone()].into(), None, &gate)?;
    let middle = owner([a.clone()].into(), Some(b.clone()), &gate)?;
    equal!(priority(last.tid())?, 20);
    let urgent = waiter(&a, 42, || ())?;
    equal!((priority(middle.tid())?, priority(last.tid())?), (shown(42), shown(42)));
    open(&gate)?;
    [urgent, middle, last].into_iter().for_each(Thread::join);
    Ok(())
}

fn priority_follows_a_change() -> Outcome {
    let (a, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let holder = owner([a.clone()].into(), None, &gate)?;
    let urgent = waiter(&a, 10, || ())?;
    set_priority(urgent.tid(), 20)?;
    equal!(priority(holder.tid())?, shown(20));
    set_priority(holder.tid(), 25)?;
    equal!(priority(holder.tid())?, shown(25));
    set_priority(holder.tid(), 0)?;
    equal!(priority(holder.tid())?, shown(20));
    set_priority(urgent.tid(), 0)?;
    equal!(priority(holder.tid())?, 20);
    open(&gate)?;
    [urgent, holder].into_iter().for_each(Thread::join);
    Ok(())
}

/// The three tasks of the text books on one CPU: low has the lock, high wants it, middle would compute for ever.
fn inversion_is_avoided() -> Outcome {
    let cpu = hogs::first_cpu()?;
    process::set_affinity(0, cpu)?;
    let word = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(AtomicU32::new(0));
    let (lent, start) = (word.clone(), gate.clone());
    let low = thread::spawn(move || {
        if lock(&lent).is_ok() {
            start.store(1, Ordering::SeqCst);
            // It has work to do, so it needs the CPU.
            while lent.load(Ordering::SeqCst) & WAITERS == 0 {
                core::hint::spin_loop();
            }
            let _ = unlock(&lent);
        }
    })?;
    while gate.load(Ordering::SeqCst) == 0 {
        process::yield_now();
    }
    set_priority(0, 20)?;
    let _middle = Hog::start(cpu, || set_priority(0, 10))?;
    lock(&word)?;
    unlock(&word)?;
    low.join();
    Ok(())
}

fn owner_dies() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(AtomicU32::new(0));
    let (inner, start) = (word.clone(), gate.clone());
    let dying = thread::spawn(move || {
        let _ = lock(&inner);
        while start.load(Ordering::SeqCst) == 0 {
            let _ = thread::futex_wait(&start, 0, None);
        }
    })?;
    until_asleep(dying.tid())?;
    let seen = Arc::new(AtomicU32::new(0));
    let (inner, out) = (word.clone(), seen.clone());
    let heir = waiter(&word, 0, move || out.store(inner.load(Ordering::SeqCst), Ordering::SeqCst))?;
    let tid = heir.tid() as u32;
    open(&gate)?;
    dying.join();
    heir.join();
    equal!(seen.load(Ordering::SeqCst), tid | WAITERS | OWNER_DIED);
    Ok(())
}

/// A robust list with one entry: the lock whose word is beside it.
#[repr(C)]
struct Robust {
    head: [u64; 3],
    next: u64,
    word: AtomicU32,
}

impl Robust {
    /// Registers the list for the calling thread, the word as one with priority inheritance.
    fn register(&mut self) -> Result<()> {
        let head = self.head.as_ptr() as u64;
        let entry = &raw const self.next as u64;
        self.next = head;
        self.head = [entry | 1, 8, 0];
        // SAFETY: 1. the list lives as long as the thread: it is in memory that is never freed.
        unsafe { syscall!(__NR_set_robust_list, head, 24) }.map(drop)
    }
}

fn robust_owner_dies() -> Outcome {
    let robust: &'static mut Robust = alloc::boxed::Box::leak(alloc::boxed::Box::new(Robust {
        head: [0; 3],
        next: 0,
        word: AtomicU32::new(0),
    }));
    let address = core::ptr::from_mut(robust) as usize;
    // SAFETY: 1. leaked, hence valid for ever; 2. the list's other fields are touched by the thread alone.
    let word = unsafe { &(*(address as *const Robust)).word };
    thread::spawn(move || {
        // SAFETY: 1. as above.
        let robust = unsafe { &mut *(address as *mut Robust) };
        let _ = robust.register();
        let _ = lock(&robust.word);
    })?
    .join();
    equal!(word.load(Ordering::SeqCst), OWNER_DIED);
    lock(word)?;
    equal!(word.load(Ordering::SeqCst), OWNER_DIED | me());
    Ok(())
}

/// The heir of a lock in shared memory is another process, which has the word at an address of its own.
fn shared_owner_dies() -> Outcome {
    // SAFETY: 1. a fresh shared mapping.
    let at = unsafe { rt::mm::map(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) }?;
    // SAFETY: 1. zeroed, aligned, and mapped to the program's end.
    let word = unsafe { &*(at as *const AtomicU32) };
    let call = |op| futex(word, op, 0, 0, 0, 0);
    let Some(child) = process::fork()? else {
        let locked = call(LOCK_PI).is_ok();
        // Until somebody waits.
        while word.load(Ordering::SeqCst) & WAITERS == 0 {
            time::sleep_ns(1_000_000);
        }
        process::exit(i32::from(!locked))
    };
    while word.load(Ordering::SeqCst) == 0 {
        time::sleep_ns(1_000_000);
    }
    call(LOCK_PI)?;
    equal!(word.load(Ordering::SeqCst), me() | WAITERS | OWNER_DIED);
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    call(UNLOCK_PI)?;
    equal!(word.load(Ordering::SeqCst), 0);
    Ok(())
}

// ---- from a condition to a lock ----

struct Condition {
    word: AtomicU32,
    lock: AtomicU32,
    inside: AtomicU32,
    errors: AtomicU32,
}

/// A thread that waits for the condition, and for the lock that goes with it.
fn condition_waiter(condition: &Arc<Condition>) -> Result<Thread> {
    let condition = condition.clone();
    let thread = thread::spawn(move || {
        let Condition { word, lock, inside, errors } = &*condition;
        let waited = futex(word, WAIT_REQUEUE_PI | PRIVATE, 0, 0, lock.as_ptr() as usize, 0);
        if waited != Ok(0) || lock.load(Ordering::SeqCst) & TID != me() {
            errors.fetch_add(1, Ordering::SeqCst);
        }
        inside.fetch_add(1, Ordering::SeqCst);
        let _ = unlock(lock);
    })?;
    until_asleep(thread.tid())?;
    Ok(thread)
}

fn condition() -> Arc<Condition> {
    let zero = || AtomicU32::new(0);
    Arc::new(Condition { word: zero(), lock: zero(), inside: zero(), errors: zero() })
}

fn requeue(condition: &Condition, wake: u32, more: usize, expected: u32) -> Result<usize> {
    let target = condition.lock.as_ptr() as usize;
    futex(&condition.word, CMP_REQUEUE_PI | PRIVATE, wake, more, target, expected)
}

fn requeue_to_a_free_lock() -> Outcome {
    let condition = condition();
    let mut threads = Vec::new();
    for _ in 0..3 {
        threads.push(condition_waiter(&condition)?);
    }
    equal!(requeue(&condition, 1, 100, 0)?, 3);
    threads.into_iter().for_each(Thread::join);
    equal!((condition.inside.load(Ordering::SeqCst), condition.errors.load(Ordering::SeqCst)), (3, 0));
    Ok(())
}

fn requeue_to_a_taken_lock() -> Outcome {
    let condition = condition();
    let mut threads = Vec::new();
    for _ in 0..3 {
        threads.push(condition_waiter(&condition)?);
    }
    lock(&condition.lock)?;
    equal!(requeue(&condition, 1, 1, 0)?, 2);
    time::sleep_ns(20_000_000);
    equal!(condition.inside.load(Ordering::SeqCst), 0);
    equal!(requeue(&condition, 1, 1, 0)?, 1);
    unlock(&condition.lock)?;
    threads.into_iter().for_each(Thread::join);
    equal!((condition.inside.load(Ordering::SeqCst), condition.errors.load(Ordering::SeqCst)), (3, 0));
    Ok(())
}

fn requeue_errors() -> Outcome {
    let condition = condition();
    equal!(requeue(&condition, 1, 1, 5), Err(Errno::EAGAIN));
    equal!(requeue(&condition, 2, 1, 0), Err(Errno::EINVAL));
    equal!(requeue(&condition, 1, 1, 0)?, 0);
    let thread = condition_waiter(&condition)?;
    // Who waits for a lock cannot just be woken, nor moved elsewhere.
    equal!(futex_wake(&condition.word, 1), Err(Errno::EINVAL));
    let other = AtomicU32::new(0);
    let elsewhere = futex(&condition.word, CMP_REQUEUE_PI | PRIVATE, 1, 1, other.as_ptr() as usize, 0);
    equal!(elsewhere, Err(Errno::EINVAL));
    equal!(requeue(&condition, 1, 0, 0)?, 1);
    thread.join();
    equal!(condition.errors.load(Ordering::SeqCst), 0);
    let at = time::timespec(time::now_ns() + 10_000_000);
    let (lock, at) = (condition.lock.as_ptr() as usize, &raw const at as usize);
    equal!(futex(&condition.word, WAIT_REQUEUE_PI | PRIVATE, 0, at, lock, 0), Err(Errno::ETIMEDOUT));
    let same = condition.word.as_ptr() as usize;
    equal!(futex(&condition.word, WAIT_REQUEUE_PI | PRIVATE, 0, at, same, 0), Err(Errno::EINVAL));
    Ok(())
}

// ---- several at once, and the newer calls ----

const SIZE_U32: u32 = 2;

/// `struct futex_waitv`.
#[repr(C)]
struct Waitv {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

fn waitv(word: &AtomicU32, value: u64) -> Waitv {
    Waitv { value, address: word.as_ptr() as u64, flags: SIZE_U32 | PRIVATE, reserved: 0 }
}

fn wait_any(list: &[Waitv], timeout: usize) -> Result<usize> {
    // SAFETY: 1. the kernel reads the list, the words and a time of the caller's.
    unsafe { syscall!(449, list.as_ptr(), list.len(), 0, timeout, 1) }
}

fn one_of_several() -> Outcome {
    let words: Arc<[AtomicU32; 3]> = Arc::new([const { AtomicU32::new(0) }; 3]);
    let list = |values: [u64; 3]| [0, 1, 2].map(|i: usize| waitv(&words[i], values[i]));
    equal!(wait_any(&list([0, 1, 0]), 0), Err(Errno::EAGAIN));
    equal!(wait_any(&[], 0), Err(Errno::EINVAL));
    let mut bad = list([0, 0, 0]);
    bad[2].flags = PRIVATE;
    equal!(wait_any(&bad, 0), Err(Errno::EINVAL));
    let soon = time::timespec(time::now_ns() + 10_000_000);
    equal!(wait_any(&list([0, 0, 0]), &raw const soon as usize), Err(Errno::ETIMEDOUT));
    let inner = words.clone();
    let waker = thread::spawn(move || {
        while futex_wake(&inner[1], 1) == Ok(0) {
            time::sleep_ns(1_000_000);
        }
    })?;
    equal!(wait_any(&list([0, 0, 0]), 0)?, 1);
    waker.join();
    // Nothing of the wait is left behind.
    equal!((futex_wake(&words[0], 1)?, futex_wake(&words[1], 1)?), (0, 0));
    Ok(())
}

fn newer_calls() -> Outcome {
    let word = Arc::new(AtomicU32::new(0));
    let other = Arc::new(AtomicU32::new(0));
    let flags = SIZE_U32 | PRIVATE;
    let wait = move |word: &AtomicU32, value: u64, timeout: usize| {
        // SAFETY: 1. the kernel reads the word and a time of the caller's.
        unsafe { syscall!(455, word.as_ptr(), value, 1, flags, timeout, 1) }
    };
    // SAFETY: 1. the kernel uses the word's address only.
    let wake =
        |word: &AtomicU32, mask: u64, count: u32| unsafe { syscall!(454, word.as_ptr(), mask, count, flags) };
    match wait(&word, 5, 0) {
        // They came with Linux 6.7.
        Err(Errno::ENOSYS) => return Err(crate::skip("no futex_wait")),
        result => equal!(result, Err(Errno::EAGAIN)),
    }
    let soon = time::timespec(time::now_ns() + 10_000_000);
    equal!(wait(&word, 0, &raw const soon as usize), Err(Errno::ETIMEDOUT));
    equal!(wait(&word, 1 << 32, 0), Err(Errno::EINVAL));
    let inner = word.clone();
    let sleeper = thread::spawn(move || {
        let _ = wait(&inner, 0, 0);
    })?;
    until_asleep(sleeper.tid())?;
    equal!(wake(&word, 2, 1)?, 0);
    equal!(wake(&word, 1, 0)?, 0);
    let pair = [waitv(&word, 0), waitv(&other, 0)];
    // SAFETY: 1. the kernel reads two entries.
    equal!(unsafe { syscall!(456, pair.as_ptr(), 0, 0, 1) }?, 1);
    equal!(wake(&word, 1, 1)?, 0);
    equal!(wake(&other, 1, 1)?, 1);
    sleeper.join();
    Ok(())
}
