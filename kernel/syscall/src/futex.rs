//! futex(2) and robust lists.

use crate::{Ctx, Errno, Result};
use abi::futex::*;
use abi::time::Timespec;
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
    // FUTEX_WAIT takes a duration, FUTEX_WAIT_BITSET a point in time.
    Ok(Some(match (command, op & FUTEX_CLOCK_REALTIME != 0) {
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
    let clocked = matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET);
    if op & FUTEX_CLOCK_REALTIME != 0 && !clocked {
        return Err(Errno::ENOSYS);
    }
    // A negative count is one, as in Linux, where it is compared after the first wake-up.
    let count = |n: u32| usize::try_from(n as i32).unwrap_or(1).max(usize::from((n as i32) < 0));
    // In operations without a timeout the fourth argument is a second count.
    let value2 = timeout as u32;
    match command {
        FUTEX_WAIT => futex::wait(ctx, word, value, FUTEX_BITSET_MATCH_ANY, deadline(op, command, timeout)?),
        FUTEX_WAIT_BITSET => futex::wait(ctx, word, value, value3, deadline(op, command, timeout)?),
        FUTEX_WAKE => futex::wake(ctx.mm(), word, count(value).max(1), FUTEX_BITSET_MATCH_ANY),
        FUTEX_WAKE_BITSET => futex::wake(ctx.mm(), word, count(value).max(1), value3),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE if (value as i32) < 0 || (value2 as i32) < 0 => Err(Errno::EINVAL),
        FUTEX_REQUEUE => futex::requeue(ctx.mm(), word, word2, count(value), count(value2), None),
        FUTEX_CMP_REQUEUE => futex::requeue(ctx.mm(), word, word2, count(value), count(value2), Some(value3)),
        FUTEX_WAKE_OP => futex::wake_op(ctx.mm(), word, word2, count(value), count(value2), value3),
        _ => Err(Errno::ENOSYS),
    }
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
