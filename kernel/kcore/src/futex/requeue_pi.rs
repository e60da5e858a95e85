//! From a condition to a lock with priority inheritance: FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI.
//!
//! Who waits for the condition says beforehand which lock it will want. The signaller moves it: the first waiter
//! gets the lock if it is free, the others, and the first if it is not, wait for it in the graph ([`super::pi`]).

use super::pi::{Inside, LOCKS, Locks, Step, owner_of, settle, wake};
use super::{Bucket, Key, TABLE, Word, bring_in, bring_in_writable, enqueue, leave, load_locked};
use crate::thread::Thread;
use crate::{Ctx, Result};
use abi::Errno;
use abi::futex::FUTEX_BITSET_MATCH_ANY;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use task::{WaitEnd, WaitMode};
use vm::AddressSpace;

/// FUTEX_WAIT_REQUEUE_PI: sleeps if `word` is `value`, until the lock `target` is the caller's. EAGAIN when the word
/// differs, or after a signal that came once the caller waited for the lock.
pub fn wait(ctx: &mut Ctx, word: Word, value: u32, deadline_ns: Option<u64>, target: Word) -> Result<usize> {
    if word.addr == target.addr {
        return Err(Errno::EINVAL);
    }
    let _inside = Inside::enter();
    let key = target.key(ctx.mm())?;
    let waiter = &ctx.thread.futex;
    enqueue(ctx.mm(), waiter, word, value, FUTEX_BITSET_MATCH_ANY, Some(key))?;
    let woken = || waiter.woken.load(SeqCst).then_some(());
    let end = task::wait_alone(&"futex_wait_requeue_pi", WaitMode::Interruptible, deadline_ns, woken);
    let Err(end) = end else { return settle(ctx.thread, key, target) };
    let early = leave(waiter);
    if !early && !LOCKS.lock().give_up(ctx.thread) {
        return settle(ctx.thread, key, target);
    }
    Err(match (end, early) {
        (WaitEnd::Timeout, _) => Errno::ETIMEDOUT,
        (WaitEnd::Signal, true) => Errno::ERESTARTNOINTR,
        (WaitEnd::Signal, false) => Errno::EAGAIN,
    })
}

/// FUTEX_CMP_REQUEUE_PI: moves one waiter of `from`, and up to `more` others, to the lock `to`. EAGAIN when the word of
/// `from` is not `expected`. Returns how many were moved, those that got the lock among them.
pub fn requeue(ctx: &Ctx, from: Word, to: Word, wake: usize, more: usize, expected: u32) -> Result<usize> {
    let mm: &Arc<AddressSpace> = ctx.mm();
    let (from_key, to_key) = (from.key(mm)?, to.key(mm)?);
    if from_key == to_key || wake != 1 {
        return Err(Errno::EINVAL);
    }
    let _inside = Inside::enter();
    loop {
        let value = mem::user::load_u32(to.addr).map_err(|_| Errno::EFAULT)?;
        let owner = owner_of(value);
        let mut bucket = TABLE[from_key.bucket()].lock();
        match load_locked(from.addr) {
            None => {
                drop(bucket);
                bring_in(from.addr)?;
                continue;
            }
            Some(now) if now != expected => return Err(Errno::EAGAIN),
            Some(_) => {}
        }
        let fits = |entry: &super::Entry| entry.key != from_key || entry.target == Some(to_key);
        if !bucket.iter().all(fits) {
            return Err(Errno::EINVAL);
        }
        let mut locks = LOCKS.lock();
        let word = (value, owner.as_ref());
        match move_first(&mut bucket, &mut locks, from_key, (to_key, to.addr), word, more)? {
            None => return Ok(0),
            Some(Step::Owner) => {
                return move_others(&mut bucket, &mut locks, from_key, to_key, more).map(|n| n + 1);
            }
            Some(Step::Contended) => {
                return move_others(&mut bucket, &mut locks, from_key, to_key, more + 1);
            }
            Some(Step::Again) => {}
            Some(Step::Fault) => {
                drop((locks, bucket));
                bring_in_writable(to.addr)?;
            }
        }
        if task::current().fatal_pending() {
            return Err(Errno::ERESTARTNOINTR);
        }
    }
}

/// The place of the first waiter of a key, and its thread.
fn first(bucket: &Bucket, key: Key) -> Option<(usize, Arc<Thread>)> {
    let at = bucket.iter().position(|entry| entry.key == key)?;
    Some((at, Thread::of_task(&bucket[at].task)?))
}

/// Gives the first waiter the lock if that is free, and wakes it; otherwise makes the lock ready to be waited for.
/// `None`: nobody waits.
fn move_first(
    bucket: &mut Bucket,
    locks: &mut Locks,
    from: Key,
    lock: (Key, usize),
    word: (u32, Option<&Arc<Thread>>),
    more: usize,
) -> Result<Option<Step>> {
    let Some((at, thread)) = first(bucket, from) else { return Ok(None) };
    let others = more > 0 && bucket.iter().filter(|entry| entry.key == from).count() > 1;
    let step = locks.enter(&thread, lock, word, others, false)?;
    if matches!(step, Step::Owner) {
        if others {
            locks.own(lock.0, &thread);
        }
        bucket.remove(at);
        wake(&thread);
    }
    Ok(Some(step))
}

/// Lets up to `count` waiters wait for the lock, which the graph knows.
fn move_others(bucket: &mut Bucket, locks: &mut Locks, from: Key, to: Key, count: usize) -> Result<usize> {
    let mut moved = 0;
    while moved < count {
        let Some((at, thread)) = first(bucket, from) else { break };
        if let Err(error) = locks.wait(to, &thread) {
            return if moved > 0 { Ok(moved) } else { Err(error) };
        }
        bucket.remove(at);
        moved += 1;
    }
    Ok(moved)
}
