//! Fast user-space locks: futex(2).
//!
//! **Problem.** "Sleep if this word is still N" must not miss a wake-up that comes between the look at the
//! word and the sleep.
//!
//! **Idea.** The word is read with the lock of its hash bucket held, in which the waiter then queues; a waker
//! takes the same lock after it changed the word. The word is read with faults off (a spin lock is
//! held); when it is not there, it is brought in without the lock and everything starts over. A waiter that
//! was woken never touches the bucket again: the waker has taken it out.

pub mod pi;
pub mod requeue_pi;
pub mod vector;

use crate::thread::Thread;
use crate::{Ctx, Result};
use abi::Errno;
use abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, ROBUST_LIST_LIMIT, RobustListHead};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicUsize};
use sync::levels::Futex;
use sync::{SpinGuard, SpinLock};
use task::{Task, WaitEnd, WaitMode};
use vm::AddressSpace;

/// What names a word of memory: the same for everybody who shares it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    /// The address space, or the memory object when it is shared between spaces.
    space: usize,
    /// The address in the space, or the offset in the object.
    offset: u64,
}

/// A thread's part of a wait; one per thread, because a thread waits for one word at a time (but [`vector`]).
pub(crate) struct FutexWaiter {
    woken: AtomicBool,
    /// The bucket it is in; requeueing changes it under the locks of both.
    bucket: AtomicUsize,
    /// It became the owner of a lock whose owner died ([`pi`]). Written under the lock of all such locks.
    inherited: AtomicBool,
    /// The thread has ended as an owner of locks: nobody may begin to wait for it.
    gone: AtomicBool,
}

impl FutexWaiter {
    pub fn new() -> Arc<FutexWaiter> {
        Arc::new(FutexWaiter {
            woken: AtomicBool::new(false),
            bucket: AtomicUsize::new(0),
            inherited: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        })
    }
}

struct Entry {
    key: Key,
    bitset: u32,
    /// The lock with priority inheritance that it wants to be moved to ([`requeue_pi`]).
    target: Option<Key>,
    waiter: Arc<FutexWaiter>,
    task: Arc<Task>,
}

type Bucket = VecDeque<Entry>;
type BucketGuard = SpinGuard<'static, Bucket, Futex>;

const BUCKETS: usize = 256;
static TABLE: [SpinLock<Bucket, Futex>; BUCKETS] = [const { SpinLock::new(VecDeque::new()) }; BUCKETS];

/// Where a futex is, as the program says it.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    pub addr: usize,
    /// FUTEX_PRIVATE_FLAG: nobody outside the process uses it.
    pub private: bool,
}

impl Word {
    /// EINVAL for an unaligned word, EFAULT for one that is not memory.
    fn key(self, mm: &Arc<AddressSpace>) -> Result<Key> {
        if !self.addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if self.addr >= arch::mmu::user_top() {
            return Err(Errno::EFAULT);
        }
        if !self.private
            && let Some((object, offset)) = mm.shared_identity(self.addr)?
        {
            return Ok(Key { space: object, offset });
        }
        Ok(Key { space: Arc::as_ptr(mm) as usize, offset: self.addr as u64 })
    }
}

impl Key {
    fn bucket(self) -> usize {
        let mixed = (self.space as u64 ^ self.offset.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize % BUCKETS
    }
}

/// Reads the word with the bucket locked: `None` when it has to be brought in first.
fn load_locked(addr: usize) -> Option<u32> {
    mem::user::load_u32(addr).ok()
}

/// Brings the word in for reading; EFAULT when that is impossible.
fn bring_in(addr: usize) -> Result<()> {
    mem::user::load_u32(addr).map(drop).map_err(|_| Errno::EFAULT)
}

/// Brings the word in for writing.
fn bring_in_writable(addr: usize) -> Result<()> {
    let value = mem::user::load_u32(addr).map_err(|_| Errno::EFAULT)?;
    mem::user::cmpxchg_u32(addr, value, value).map(drop).map_err(|_| Errno::EFAULT)
}

/// FUTEX_WAIT and FUTEX_WAIT_BITSET: sleeps if the word is `value`. EAGAIN when it is not, ETIMEDOUT at
/// `deadline_ns` (monotonic).
pub fn wait(ctx: &mut Ctx, word: Word, value: u32, bitset: u32, deadline_ns: Option<u64>) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let waiter = &ctx.thread.futex;
    enqueue(ctx.mm(), waiter, word, value, bitset, None)?;
    let woken = || waiter.woken.load(SeqCst).then_some(());
    let end = task::wait_alone(&"futex_wait_queue", WaitMode::Interruptible, deadline_ns, woken);
    let Err(end) = end else { return Ok(0) };
    if !leave(waiter) {
        // Woken at the last moment.
        return Ok(0);
    }
    match end {
        WaitEnd::Timeout => Err(Errno::ETIMEDOUT),
        WaitEnd::Signal if deadline_ns.is_none() => Err(Errno::ERESTARTSYS),
        WaitEnd::Signal => Err(ctx.restart_with(move |ctx| wait(ctx, word, value, bitset, deadline_ns))),
    }
}

fn enqueue(
    mm: &Arc<AddressSpace>,
    waiter: &Arc<FutexWaiter>,
    word: Word,
    value: u32,
    bitset: u32,
    target: Option<Key>,
) -> Result<()> {
    let key = word.key(mm)?;
    loop {
        let mut bucket = TABLE[key.bucket()].lock();
        let Some(now) = load_locked(word.addr) else {
            drop(bucket);
            bring_in(word.addr)?;
            continue;
        };
        if now != value {
            return Err(Errno::EAGAIN);
        }
        bucket.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        waiter.woken.store(false, Relaxed);
        waiter.bucket.store(key.bucket(), Relaxed);
        let task = task::current().arc();
        bucket.push_back(Entry { key, bitset, target, waiter: waiter.clone(), task });
        return Ok(());
    }
}

/// Takes a waiter out of its bucket; false when a waker did.
fn leave(waiter: &Arc<FutexWaiter>) -> bool {
    loop {
        if waiter.woken.load(SeqCst) {
            return false;
        }
        let at = waiter.bucket.load(SeqCst);
        let mut bucket = TABLE[at].lock();
        if waiter.bucket.load(SeqCst) != at {
            continue;
        }
        let place = bucket.iter().position(|e| Arc::ptr_eq(&e.waiter, waiter));
        let entry = place.and_then(|place| bucket.remove(place));
        return entry.is_some();
    }
}

/// Wakes the first `count` waiters of a key whose bit set meets `bitset`. EINVAL at one that can only be moved.
fn wake_in(bucket: &mut Bucket, key: Key, count: usize, bitset: u32) -> Result<usize> {
    let mut woken = 0;
    let mut at = 0;
    while woken < count && at < bucket.len() {
        if bucket[at].key == key && bucket[at].target.is_some() {
            return Err(Errno::EINVAL);
        }
        if bucket[at].key == key && bucket[at].bitset & bitset != 0 {
            if let Some(entry) = bucket.remove(at) {
                entry.waiter.woken.store(true, SeqCst);
                entry.task.wake();
                woken += 1;
            }
        } else {
            at += 1;
        }
    }
    Ok(woken)
}

/// FUTEX_WAKE and FUTEX_WAKE_BITSET: how many were woken.
pub fn wake(mm: &Arc<AddressSpace>, word: Word, count: usize, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = word.key(mm)?;
    let mut bucket = TABLE[key.bucket()].lock();
    if bucket.is_empty() {
        return Ok(0);
    }
    wake_in(&mut bucket, key, count, bitset)
}

/// The buckets of two keys, locked in the order of the table; the second is `None` when it is the same.
fn lock_two(first: Key, second: Key) -> (BucketGuard, Option<BucketGuard>) {
    let (a, b) = (first.bucket(), second.bucket());
    if a == b {
        (TABLE[a].lock(), None)
    } else if a < b {
        let low = TABLE[a].lock();
        (low, Some(TABLE[b].lock_nested()))
    } else {
        let low = TABLE[b].lock();
        let high = TABLE[a].lock_nested();
        (high, Some(low))
    }
}

/// FUTEX_REQUEUE and FUTEX_CMP_REQUEUE: wakes `wake` waiters of `from`, moves `move_` others to `to`. EAGAIN
/// when `expected` is given and the word of `from` differs. Returns how many were woken and moved.
pub fn requeue(
    mm: &Arc<AddressSpace>,
    from: Word,
    to: Word,
    wake: usize,
    move_: usize,
    expected: Option<u32>,
) -> Result<usize> {
    let (from_key, to_key) = (from.key(mm)?, to.key(mm)?);
    loop {
        let (mut source, mut target) = lock_two(from_key, to_key);
        if let Some(expected) = expected {
            match load_locked(from.addr) {
                None => {
                    drop((source, target));
                    bring_in(from.addr)?;
                    continue;
                }
                Some(now) if now != expected => return Err(Errno::EAGAIN),
                Some(_) => {}
            }
        }
        let woken = wake_in(&mut source, from_key, wake, u32::MAX)?;
        let moved = move_waiters(&mut source, target.as_deref_mut(), from_key, to_key, move_)?;
        return Ok(woken + moved);
    }
}

/// `target` is `None` when both keys are in one bucket.
fn move_waiters(
    source: &mut Bucket,
    mut target: Option<&mut Bucket>,
    from: Key,
    to: Key,
    count: usize,
) -> Result<usize> {
    if from == to {
        return Ok(source.iter().filter(|e| e.key == from).count().min(count));
    }
    let (mut moved, mut at) = (0, 0);
    while moved < count && at < source.len() {
        if source[at].key != from {
            at += 1;
            continue;
        }
        if source[at].target.is_some() {
            return Err(Errno::EINVAL);
        }
        match &mut target {
            None => {
                source[at].key = to;
                at += 1;
            }
            Some(target) => {
                target.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                let Some(mut entry) = source.remove(at) else { break };
                entry.key = to;
                entry.waiter.bucket.store(to.bucket(), SeqCst);
                target.push_back(entry);
            }
        }
        moved += 1;
    }
    Ok(moved)
}

/// The encoded operation of FUTEX_WAKE_OP.
#[derive(Clone, Copy, Debug)]
struct WakeOp {
    operation: u32,
    compare: u32,
    operand: i32,
    compared: i32,
}

impl WakeOp {
    fn decode(code: u32) -> Result<WakeOp> {
        let signed = |bits: u32| (bits << 20) as i32 >> 20;
        let shift = code >> 31 != 0;
        let operand = signed(code >> 12 & 0xfff);
        let op = WakeOp {
            operation: code >> 28 & 7,
            compare: code >> 24 & 15,
            operand: if shift { 1i32.wrapping_shl(operand as u32 & 31) } else { operand },
            compared: signed(code & 0xfff),
        };
        if op.operation > 4 || op.compare > 5 { Err(Errno::ENOSYS) } else { Ok(op) }
    }

    fn apply(self, old: u32) -> u32 {
        let operand = self.operand as u32;
        match self.operation {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            _ => old ^ operand,
        }
    }

    fn holds(self, old: u32) -> bool {
        let old = old as i32;
        match self.compare {
            0 => old == self.compared,
            1 => old != self.compared,
            2 => old < self.compared,
            3 => old <= self.compared,
            4 => old > self.compared,
            _ => old >= self.compared,
        }
    }
}

/// FUTEX_WAKE_OP: changes the word of `second`, wakes `count` of `first`, and `count2` of `second` if its
/// old value compares as asked.
pub fn wake_op(
    mm: &Arc<AddressSpace>,
    first: Word,
    second: Word,
    count: usize,
    count2: usize,
    code: u32,
) -> Result<usize> {
    let op = WakeOp::decode(code)?;
    let (first_key, second_key) = (first.key(mm)?, second.key(mm)?);
    loop {
        let (mut one, mut two) = lock_two(first_key, second_key);
        let Some(old) = exchange(second.addr, |old| op.apply(old)) else {
            drop((one, two));
            bring_in_writable(second.addr)?;
            continue;
        };
        let mut woken = wake_in(&mut one, first_key, count, u32::MAX)?;
        if op.holds(old) {
            let bucket = two.as_deref_mut().unwrap_or(&mut *one);
            woken += wake_in(bucket, second_key, count2, u32::MAX)?;
        }
        return Ok(woken);
    }
}

/// Changes a user word atomically and returns the old value; `None` on a fault.
fn exchange(addr: usize, change: impl Fn(u32) -> u32) -> Option<u32> {
    let mut old = mem::user::load_u32(addr).ok()?;
    loop {
        let seen = mem::user::cmpxchg_u32(addr, old, change(old)).ok()?;
        if seen == old {
            return Some(old);
        }
        old = seen;
    }
}

/// Zeroes the word and wakes one waiter: what happens to `clear_child_tid` when a thread ends.
pub(crate) fn clear_and_wake(mm: &Arc<AddressSpace>, addr: usize) {
    if mem::user::store_u32(addr, 0).is_ok() {
        let _ = wake(mm, Word { addr, private: false }, 1, u32::MAX);
    }
}

// ---- robust lists (set_robust_list(2)) ----

/// A thread ends: the robust locks it holds are marked, and somebody who waits for each is woken. The
/// list is the program's: it may be anything.
pub(crate) fn exit_robust_list(thread: &Thread, mm: &Arc<AddressSpace>) {
    let head_addr = thread.robust_list.swap(0, Relaxed);
    if head_addr == 0 {
        return;
    }
    let Ok(head) = crate::usermem::read::<RobustListHead>(head_addr) else { return };
    let pending = head.list_op_pending;
    let mut entry = head.list;
    for _ in 0..ROBUST_LIST_LIMIT {
        let at = entry & !1;
        if at as usize == head_addr {
            break;
        }
        // Read the link first: the next owner may take the entry away at once.
        let next = crate::usermem::read::<u64>(at as usize);
        if entry != pending && owner_died(thread, mm, entry, head.futex_offset).is_err() {
            return;
        }
        let Ok(next) = next else { return };
        entry = next;
    }
    if pending & !1 != 0 {
        let _ = owner_died(thread, mm, pending, head.futex_offset);
    }
}

/// Marks one lock. Who waits for one with priority inheritance (bit 0 of `entry`) inherits it a little later.
fn owner_died(thread: &Thread, mm: &Arc<AddressSpace>, entry: u64, offset: i64) -> Result<()> {
    let inherits = entry & 1 != 0;
    let addr = (entry & !1).wrapping_add_signed(offset) as usize;
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mut value = mem::user::load_u32(addr).map_err(|_| Errno::EFAULT)?;
    while value & FUTEX_TID_MASK == thread.tid() {
        let dead = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        let seen = mem::user::cmpxchg_u32(addr, value, dead).map_err(|_| Errno::EFAULT)?;
        if seen == value {
            if value & FUTEX_WAITERS != 0 && !inherits {
                clear_waiter(mm, addr);
            }
            break;
        }
        value = seen;
    }
    Ok(())
}

/// Wakes one waiter of a robust lock, private or shared: the list does not say which it is.
fn clear_waiter(mm: &Arc<AddressSpace>, addr: usize) {
    for private in [true, false] {
        if wake(mm, Word { addr, private }, 1, u32::MAX).is_ok_and(|n| n > 0) {
            return;
        }
    }
}
