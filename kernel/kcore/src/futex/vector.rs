//! Waiting for one of several futexes: futex_waitv(2).

use super::{FutexWaiter, Word, enqueue, leave};
use crate::{Ctx, Result};
use abi::Errno;
use abi::futex::FUTEX_BITSET_MATCH_ANY;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use task::{WaitEnd, WaitMode};

/// Sleeps if every word has its value, until one is woken: its index (of several, the last). EAGAIN when a word
/// differs, ETIMEDOUT at `deadline_ns` (monotonic), ENOMEM.
pub fn wait(ctx: &mut Ctx, words: &[(Word, u32)], deadline_ns: Option<u64>) -> Result<usize> {
    let mut waiters: Vec<Arc<FutexWaiter>> = Vec::new();
    waiters.try_reserve_exact(words.len()).map_err(|_| Errno::ENOMEM)?;
    for (word, value) in words {
        let waiter = FutexWaiter::new();
        if let Err(error) = enqueue(ctx.mm(), &waiter, *word, *value, FUTEX_BITSET_MATCH_ANY, None) {
            // Somebody may have woken one of the others meanwhile: that must not be lost.
            return leave_all(&waiters).ok_or(error);
        }
        waiters.push(waiter);
    }
    let woken = || waiters.iter().any(|waiter| waiter.woken.load(SeqCst)).then_some(());
    let end = task::wait_alone(&"futex_wait_multiple", WaitMode::Interruptible, deadline_ns, woken);
    let index = leave_all(&waiters);
    match (end, index) {
        (_, Some(index)) => Ok(index),
        (Err(WaitEnd::Timeout), None) => Err(Errno::ETIMEDOUT),
        _ => Err(Errno::ERESTARTSYS),
    }
}

/// Takes all out of their buckets; the last that somebody else took out.
fn leave_all(waiters: &[Arc<FutexWaiter>]) -> Option<usize> {
    let mut woken = None;
    for (index, waiter) in waiters.iter().enumerate() {
        if !leave(waiter) {
            woken = Some(index);
        }
    }
    woken
}
