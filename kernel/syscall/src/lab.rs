//! The lab's calls, which are not in Linux: `user/lab/README.md` is their man page.
//!
//! They change how a thread is scheduled, so they ask for the same right as sched_setscheduler(2): the caller is
//! the thread's user, or has CAP_SYS_NICE (EPERM). ESRCH: no such thread. EINVAL: a negative number, a kernel
//! thread.

use crate::sched::{check_owner, task_of, thread_of};
use crate::{Ctx, Errno, Result};
use alloc::sync::Arc;
use kcore::{Thread, park, usermem};
use sched::{Params, Settings};

/// A second of virtual time for each millisecond: a pace of 1001 is slow enough.
const PENALTY_MAX_NS: u64 = 1_000_000_000;

/// A user thread that the caller may schedule.
fn subject(ctx: &Ctx, tid: i32) -> Result<Arc<Thread>> {
    let thread = thread_of(ctx, tid)?;
    if thread.process().is_kernel {
        return Err(Errno::EINVAL);
    }
    check_owner(ctx, &thread)?;
    Ok(thread)
}

/// The thread's virtual time advances by `ns_per_ms` more for each millisecond it runs; 0 ends that. EINVAL for
/// more than a second.
pub fn penalize(ctx: &mut Ctx, tid: i32, ns_per_ms: u64) -> Result<usize> {
    if ns_per_ms > PENALTY_MAX_NS {
        return Err(Errno::EINVAL);
    }
    let task = task_of(&*subject(ctx, tid)?)?;
    loop {
        let old = sched::settings(&task);
        let params = Params { penalty_ns_per_ms: ns_per_ms as u32, ..old.params };
        if sched::replace_settings(&task, &old, &Settings { params, ..old }) {
            return Ok(0);
        }
    }
}

/// Answers the penalty of the thread in ns per ms; anybody may ask.
pub fn penalty(ctx: &mut Ctx, tid: i32) -> Result<usize> {
    let task = task_of(&*thread_of(ctx, tid)?)?;
    Ok(sched::params(&task).penalty_ns_per_ms as usize)
}

/// Has the thread park on its way to user mode; parking a parked one is no error.
pub fn park(ctx: &mut Ctx, tid: i32) -> Result<usize> {
    park::park(&subject(ctx, tid)?).map(|()| 0)
}

/// Lets a parked thread run on. EINVAL when it was not asked to park.
pub fn unpark(ctx: &mut Ctx, tid: i32) -> Result<usize> {
    park::unpark(&subject(ctx, tid)?).map(|()| 0)
}

/// Writes the numbers of the parked threads to `tids[0..count]`, and answers how many there are, which may be
/// more. EFAULT.
pub fn parked(_ctx: &mut Ctx, tids: usize, count: usize) -> Result<usize> {
    let mut outcome = Ok(());
    let mut at = 0;
    let total = park::parked(|tid, _, _| {
        if at < count && outcome.is_ok() {
            outcome = usermem::write(tids.wrapping_add(at * size_of::<u32>()), &tid);
            at += 1;
        }
    });
    outcome.map(|()| total)
}
