//! Scheduling: sched(7).

use crate::{Ctx, Errno, Result};
use abi::cap::CAP_SYS_NICE;
use abi::resource::{RLIMIT_NICE, RLIMIT_RTPRIO};
use abi::sched::*;
use abi::time::Timespec;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::CpuMask;
use kcore::{Process, Thread, pid, rlimit, usermem};
use sched::{Params, SchedKind};
use task::Task;

pub fn sched_yield(_ctx: &mut Ctx) -> Result<usize> {
    task::yield_now();
    Ok(0)
}

/// The thread that `pid` names; 0 is the caller.
fn thread_of(ctx: &Ctx, pid: i32) -> Result<Arc<Thread>> {
    match pid {
        0 => Ok(ctx.thread.clone()),
        1.. => pid::find_thread(pid as u32).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

fn task_of(thread: &Thread) -> Result<Arc<Task>> {
    thread.task().ok_or(Errno::ESRCH)
}

/// Whether the caller may change another's scheduling: the same user, or CAP_SYS_NICE.
fn check_owner(ctx: &Ctx, thread: &Thread) -> Result<()> {
    let (own, other) = (ctx.cred(), thread.cred());
    let same = own.euid == other.euid || own.euid == other.uid;
    if same || ctx.capable(CAP_SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

fn policy_number(kind: SchedKind) -> u32 {
    match kind {
        SchedKind::Normal => SCHED_NORMAL,
        SchedKind::Batch => SCHED_BATCH,
        SchedKind::Idle => SCHED_IDLE,
        SchedKind::Fifo | SchedKind::Stop => SCHED_FIFO,
        SchedKind::RoundRobin => SCHED_RR,
    }
}

fn kind_of(policy: u32) -> Result<SchedKind> {
    match policy {
        SCHED_NORMAL => Ok(SchedKind::Normal),
        SCHED_BATCH => Ok(SchedKind::Batch),
        SCHED_IDLE => Ok(SchedKind::Idle),
        SCHED_FIFO => Ok(SchedKind::Fifo),
        SCHED_RR => Ok(SchedKind::RoundRobin),
        _ => Err(Errno::EINVAL),
    }
}

fn is_real_time(kind: SchedKind) -> bool {
    matches!(kind, SchedKind::Fifo | SchedKind::RoundRobin)
}

/// Checks and sets new parameters.
fn change(ctx: &Ctx, thread: &Thread, new: Params) -> Result<usize> {
    let priority = u32::from(new.rt_priority);
    if is_real_time(new.kind) != (priority > 0) || priority > 99 {
        return Err(Errno::EINVAL);
    }
    check_owner(ctx, thread)?;
    let task = task_of(thread)?;
    let old = sched::params(&task);
    if !ctx.capable(CAP_SYS_NICE) {
        check_limits(thread.process(), &old, &new)?;
    }
    sched::set_params(&task, &new);
    Ok(0)
}

/// What RLIMIT_NICE and RLIMIT_RTPRIO allow the unprivileged.
fn check_limits(process: &Process, old: &Params, new: &Params) -> Result<()> {
    if is_real_time(new.kind) && u64::from(new.rt_priority) > rlimit::soft(process, RLIMIT_RTPRIO) {
        return Err(Errno::EPERM);
    }
    check_nice(process, old.nice, new.nice).map_err(|_| Errno::EPERM)
}

fn check_nice(process: &Process, old: i8, new: i8) -> Result<()> {
    let limit = rlimit::soft(process, RLIMIT_NICE);
    if new >= old || (20 - i64::from(new)) as u64 <= limit { Ok(()) } else { Err(Errno::EACCES) }
}

pub fn sched_setscheduler(ctx: &mut Ctx, pid: i32, policy: u32, param: usize) -> Result<usize> {
    let priority: u32 = usermem::read(param)?;
    let thread = thread_of(ctx, pid)?;
    let kind = kind_of(policy & !SCHED_RESET_ON_FORK)?;
    let task = task_of(&thread)?;
    let rt_priority = u8::try_from(priority).map_err(|_| Errno::EINVAL)?;
    change(ctx, &thread, Params { kind, rt_priority, ..sched::params(&task) })?;
    sched::set_reset_on_fork(&task, policy & SCHED_RESET_ON_FORK != 0);
    Ok(0)
}

pub fn sched_setparam(ctx: &mut Ctx, pid: i32, param: usize) -> Result<usize> {
    let priority: u32 = usermem::read(param)?;
    let thread = thread_of(ctx, pid)?;
    let rt_priority = u8::try_from(priority).map_err(|_| Errno::EINVAL)?;
    let old = sched::params(&*task_of(&thread)?);
    change(ctx, &thread, Params { rt_priority, ..old })
}

pub fn sched_getscheduler(ctx: &mut Ctx, pid: i32) -> Result<usize> {
    let task = task_of(&*thread_of(ctx, pid)?)?;
    let reset = if sched::reset_on_fork(&task) { SCHED_RESET_ON_FORK } else { 0 };
    Ok((policy_number(sched::params(&task).kind) | reset) as usize)
}

pub fn sched_getparam(ctx: &mut Ctx, pid: i32, param: usize) -> Result<usize> {
    let task = task_of(&*thread_of(ctx, pid)?)?;
    usermem::write(param, &u32::from(sched::params(&task).rt_priority)).map(|()| 0)
}

pub fn sched_get_priority_max(_ctx: &mut Ctx, policy: u32) -> Result<usize> {
    let kind = if policy == SCHED_DEADLINE { SchedKind::Normal } else { kind_of(policy)? };
    Ok(if is_real_time(kind) { 99 } else { 0 })
}

pub fn sched_get_priority_min(_ctx: &mut Ctx, policy: u32) -> Result<usize> {
    let kind = if policy == SCHED_DEADLINE { SchedKind::Normal } else { kind_of(policy)? };
    Ok(usize::from(is_real_time(kind)))
}

pub fn sched_rr_get_interval(ctx: &mut Ctx, pid: i32, interval: usize) -> Result<usize> {
    let task = task_of(&*thread_of(ctx, pid)?)?;
    let slice_ns = sched::time_slice_ns(&task);
    usermem::write(interval, &Timespec::from_ns(slice_ns)).map(|()| 0)
}

pub fn sched_setaffinity(ctx: &mut Ctx, pid: i32, len: usize, mask: usize) -> Result<usize> {
    let thread = thread_of(ctx, pid)?;
    let mut bytes = [0; 8];
    let used = len.min(bytes.len());
    usermem::read_bytes(mask, &mut bytes[..used])?;
    check_owner(ctx, &thread)?;
    sched::set_affinity(&task_of(&thread)?, CpuMask(u64::from_ne_bytes(bytes)))?;
    Ok(0)
}

pub fn sched_getaffinity(ctx: &mut Ctx, pid: i32, len: usize, mask: usize) -> Result<usize> {
    if !len.is_multiple_of(8) || len == 0 {
        return Err(Errno::EINVAL);
    }
    let task = task_of(&*thread_of(ctx, pid)?)?;
    let bits = sched::affinity(&task).0 & CpuMask::first(arch::cpu::count()).0;
    usermem::write(mask, &bits)?;
    Ok(8)
}

pub fn sched_setattr(ctx: &mut Ctx, pid: i32, attr: usize, flags: u32) -> Result<usize> {
    if attr == 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size: u32 = usermem::read(attr)?;
    let size = if size == 0 { SCHED_ATTR_SIZE_VER0 } else { size as usize };
    if !(SCHED_ATTR_SIZE_VER0..=arch::PAGE_SIZE).contains(&size) {
        return Err(Errno::E2BIG);
    }
    let attr: SchedAttr = usermem::read_extensible(attr, size)?;
    const KNOWN: u64 = SCHED_FLAG_RESET_ON_FORK | SCHED_FLAG_KEEP_POLICY | SCHED_FLAG_KEEP_PARAMS;
    if attr.flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let thread = thread_of(ctx, pid)?;
    let task = task_of(&thread)?;
    let old = sched::params(&task);
    let kind = if attr.flags & SCHED_FLAG_KEEP_POLICY != 0 { old.kind } else { kind_of(attr.policy)? };
    let new = if attr.flags & SCHED_FLAG_KEEP_PARAMS != 0 {
        Params { kind, ..old }
    } else {
        let rt_priority = u8::try_from(attr.priority).map_err(|_| Errno::EINVAL)?;
        let nice = if is_real_time(kind) { old.nice } else { attr.nice.clamp(-20, 19) as i8 };
        Params { kind, rt_priority, nice, slice_ns: attr.runtime, ..old }
    };
    change(ctx, &thread, new)?;
    sched::set_reset_on_fork(&task, attr.flags & SCHED_FLAG_RESET_ON_FORK != 0);
    Ok(0)
}

pub fn sched_getattr(ctx: &mut Ctx, pid: i32, attr: usize, size: u32, flags: u32) -> Result<usize> {
    let size = size as usize;
    if flags != 0 || !(SCHED_ATTR_SIZE_VER0..=arch::PAGE_SIZE).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let task = task_of(&*thread_of(ctx, pid)?)?;
    let params = sched::params(&task);
    let filled = size.min(size_of::<SchedAttr>());
    let out = SchedAttr {
        size: filled as u32,
        policy: policy_number(params.kind),
        flags: if sched::reset_on_fork(&task) { SCHED_FLAG_RESET_ON_FORK } else { 0 },
        nice: i32::from(params.nice),
        priority: u32::from(params.rt_priority),
        runtime: params.slice_ns,
        ..SchedAttr::default()
    };
    use zerocopy::IntoBytes;
    usermem::write_bytes(attr, &out.as_bytes()[..filled]).map(|()| 0)
}

/// The threads that setpriority(2) and getpriority(2) mean. EINVAL, ESRCH.
fn prioritised(ctx: &Ctx, which: i32, who: i32) -> Result<Vec<Arc<Thread>>> {
    let mut threads = Vec::new();
    match which {
        PRIO_PROCESS if who >= 0 => threads.push(thread_of(ctx, who)?),
        PRIO_PGRP => {
            let group = if who == 0 { Some(ctx.process.group()) } else { pid::find_group(who as u32) };
            for process in group.iter().flat_map(pid::group_members) {
                threads.extend(process.threads());
            }
        }
        PRIO_USER => {
            let uid = if who == 0 { ctx.cred().uid } else { who as u32 };
            pid::for_each_process(|process| {
                threads.extend(process.threads().into_iter().filter(|thread| thread.cred().uid == uid));
            });
        }
        PRIO_PROCESS => return Err(Errno::ESRCH),
        _ => return Err(Errno::EINVAL),
    }
    if threads.is_empty() { Err(Errno::ESRCH) } else { Ok(threads) }
}

/// Answers 20 - nice, so that no answer looks like an error.
pub fn getpriority(ctx: &mut Ctx, which: i32, who: i32) -> Result<usize> {
    let threads = prioritised(ctx, which, who)?;
    let nices = threads.iter().filter_map(|t| t.task()).map(|task| sched::params(&task).nice);
    let lowest = nices.min().ok_or(Errno::ESRCH)?;
    Ok((20 - i32::from(lowest)) as usize)
}

pub fn setpriority(ctx: &mut Ctx, which: i32, who: i32, nice: i32) -> Result<usize> {
    let nice = nice.clamp(-20, 19) as i8;
    let mut result = Err(Errno::ESRCH);
    for thread in prioritised(ctx, which, who)? {
        let Some(task) = thread.task() else { continue };
        let old = sched::params(&task);
        let allowed = check_owner(ctx, &thread).and_then(|()| {
            if ctx.capable(CAP_SYS_NICE) { Ok(()) } else { check_nice(thread.process(), old.nice, nice) }
        });
        match allowed {
            Ok(()) => {
                sched::set_params(&task, &Params { nice, ..old });
                if result == Err(Errno::ESRCH) {
                    result = Ok(0);
                }
            }
            Err(errno) => result = Err(errno),
        }
    }
    result
}

pub fn getcpu(_ctx: &mut Ctx, cpu: usize, node: usize) -> Result<usize> {
    usermem::write_opt(cpu, &(arch::cpu::id() as u32))?;
    usermem::write_opt(node, &0u32).map(|()| 0)
}
