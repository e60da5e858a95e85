//! futex(2) and robust lists.

use crate::{Ctx, Errno, Result};
use abi::futex::*;
use abi::time::{CLOCK_MONOTONIC, CLOCK_REALTIME, Timespec};
use alloc::vec::Vec;
use kcore::futex::{self, Word};
use kcore::{pid, usermem};

/// The deadline that an operation's fourth argument names, on the monotonic clock.
fn deadline(op: i32, command: i32, timeout: usize) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let spec: Timespec = usermem::read(timeout)?;
    let ns = spec.to_ns().ok_or(Errno::EINVAL)?;
    let now = time::monotonic_ns();
    // FUTEX_WAIT takes a duration, the others a point in time, FUTEX_LOCK_PI always one of the real-time clock.
    let realtime = op & FUTEX_CLOCK_REALTIME != 0 || command == FUTEX_LOCK_PI;
    Ok(Some(match (command, realtime) {
        (FUTEX_WAIT, _) => now.saturating_add(ns),
        (_, false) => ns,
        (_, true) => now.saturating_add(ns.saturating_sub(time::realtime_ns())),
    }))
}

pub fn futex(
    ctx: &mut Ctx,
    address: usize,
    op: i32,
    value: u32,
    timeout: usize,
    address2: usize,
    value3: u32,
) -> Result<usize> {
    let private = op & FUTEX_PRIVATE_FLAG != 0;
    let (word, word2) = (Word { addr: address, private }, Word { addr: address2, private });
    let command = op & FUTEX_CMD_MASK;
    let clocked = matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2);
    if op & FUTEX_CLOCK_REALTIME != 0 && !clocked {
        return Err(Errno::ENOSYS);
    }
    // A negative count is one, as in Linux, where it is compared after the first wake-up.
    let count = |n: u32| usize::try_from(n as i32).unwrap_or(1).max(usize::from((n as i32) < 0));
    // In operations without a timeout the fourth argument is a second count.
    let value2 = timeout as u32;
    match command {
        FUTEX_CMP_REQUEUE_PI if (value as i32) < 0 || (value2 as i32) < 0 => Err(Errno::EINVAL),
        FUTEX_WAIT => futex::wait(ctx, word, value, FUTEX_BITSET_MATCH_ANY, deadline(op, command, timeout)?),
        FUTEX_WAIT_BITSET => futex::wait(ctx, word, value, value3, deadline(op, command, timeout)?),
        FUTEX_WAKE => futex::wake(ctx.mm(), word, count(value).max(1), FUTEX_BITSET_MATCH_ANY),
        FUTEX_WAKE_BITSET => futex::wake(ctx.mm(), word, count(value).max(1), value3),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE if (value as i32) < 0 || (value2 as i32) < 0 => Err(Errno::EINVAL),
        FUTEX_REQUEUE => futex::requeue(ctx.mm(), word, word2, count(value), count(value2), None),
        FUTEX_CMP_REQUEUE => futex::requeue(ctx.mm(), word, word2, count(value), count(value2), Some(value3)),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => futex::pi::lock(ctx, word, deadline(op, command, timeout)?, false),
        FUTEX_TRYLOCK_PI => futex::pi::lock(ctx, word, None, true),
        FUTEX_UNLOCK_PI => futex::pi::unlock(ctx, word),
        FUTEX_WAIT_REQUEUE_PI => {
            futex::requeue_pi::wait(ctx, word, value, deadline(op, command, timeout)?, word2)
        }
        FUTEX_CMP_REQUEUE_PI => {
            futex::requeue_pi::requeue(ctx, word, word2, count(value), count(value2), value3)
        }
        FUTEX_WAKE_OP => futex::wake_op(ctx.mm(), word, word2, count(value), count(value2), value3),
        _ => Err(Errno::ENOSYS),
    }
}

/// A word as the newer calls name it. EINVAL for flags and sizes that are not known.
fn word2(address: u64, flags: u32) -> Result<Word> {
    if flags & !FUTEX2_PRIVATE != FUTEX2_SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(Word { addr: address as usize, private: flags & FUTEX2_PRIVATE != 0 })
}

fn value32(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

/// An absolute time of `clock` as one of the monotonic clock.
fn deadline2(timeout: usize, clock: i32) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let realtime = match clock {
        CLOCK_REALTIME => true,
        CLOCK_MONOTONIC => false,
        _ => return Err(Errno::EINVAL),
    };
    let op = if realtime { FUTEX_CLOCK_REALTIME } else { 0 };
    deadline(op, FUTEX_WAIT_BITSET, timeout)
}

fn read_words(words: usize, count: usize) -> Result<Vec<(Word, u32)>> {
    let given: Vec<FutexWaitv> = mem::user::read_array(words, count)?;
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for one in given {
        if one.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        all.push((word2(one.address, one.flags)?, value32(one.value)?));
    }
    Ok(all)
}

pub fn futex_waitv(
    ctx: &mut Ctx,
    words: usize,
    count: u32,
    flags: u32,
    timeout: usize,
    clock: i32,
) -> Result<usize> {
    if flags != 0 || count == 0 || count as usize > FUTEX_WAITV_MAX {
        return Err(Errno::EINVAL);
    }
    let deadline_ns = deadline2(timeout, clock)?;
    let words = read_words(words, count as usize)?;
    futex::vector::wait(ctx, &words, deadline_ns)
}

pub fn futex_wake(ctx: &mut Ctx, address: u64, mask: u64, count: i32, flags: u32) -> Result<usize> {
    let (word, mask) = (word2(address, flags)?, value32(mask)?);
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    if count == 0 {
        return Ok(0);
    }
    futex::wake(ctx.mm(), word, usize::try_from(count).unwrap_or(1), mask)
}

pub fn futex_wait(
    ctx: &mut Ctx,
    address: u64,
    value: u64,
    mask: u64,
    flags: u32,
    timeout: usize,
    clock: i32,
) -> Result<usize> {
    let (word, value, mask) = (word2(address, flags)?, value32(value)?, value32(mask)?);
    futex::wait(ctx, word, value, mask, deadline2(timeout, clock)?)
}

pub fn futex_requeue(ctx: &mut Ctx, words: usize, flags: u32, wake: i32, more: i32) -> Result<usize> {
    if flags != 0 || words == 0 {
        return Err(Errno::EINVAL);
    }
    let words = read_words(words, 2)?;
    let (Ok(wake), Ok(more)) = (usize::try_from(wake), usize::try_from(more)) else {
        return Err(Errno::EINVAL);
    };
    let ((from, expected), (to, _)) = (words[0], words[1]);
    futex::requeue(ctx.mm(), from, to, wake, more, Some(expected))
}

pub fn set_robust_list(ctx: &mut Ctx, head: usize, len: usize) -> Result<usize> {
    if len != size_of::<RobustListHead>() {
        return Err(Errno::EINVAL);
    }
    ctx.thread.set_robust_list(head);
    Ok(0)
}

pub fn get_robust_list(ctx: &mut Ctx, pid: i32, head: usize, len: usize) -> Result<usize> {
    let thread = match pid {
        0 => ctx.thread.clone(),
        _ => pid::find_thread(pid as u32).ok_or(Errno::ESRCH)?,
    };
    if thread.cred().uid != ctx.cred().euid && !ctx.capable(abi::cap::CAP_SYS_PTRACE) {
        return Err(Errno::EPERM);
    }
    usermem::write(len, &(size_of::<RobustListHead>() as u64))?;
    usermem::write(head, &(thread.robust_list() as u64)).map(|()| 0)
}
