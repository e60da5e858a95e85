//! Scheduling: sched(7).

use crate::{Ctx, Errno, Result};
use abi::cap::{CAP_SYS_ADMIN, CAP_SYS_NICE};
use abi::resource::{RLIMIT_NICE, RLIMIT_RTPRIO};
use abi::sched::*;
use abi::time::Timespec;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::CpuMask;
use kcore::{Process, Thread, futex, pid, rlimit, usermem};
use sched::{Params, SchedKind, Settings};
use task::Task;

pub fn sched_yield(_ctx: &mut Ctx) -> Result<usize> {
    task::yield_now();
    Ok(0)
}

/// The thread that `pid` names; 0 is the caller.
pub(crate) fn thread_of(ctx: &Ctx, pid: i32) -> Result<Arc<Thread>> {
    match pid {
        0 => Ok(ctx.thread.clone()),
        1.. => pid::find_thread(pid as u32).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

pub(crate) fn task_of(thread: &Thread) -> Result<Arc<Task>> {
    thread.task().ok_or(Errno::ESRCH)
}

/// Whether the caller may change another's scheduling: the same user, or CAP_SYS_NICE.
pub(crate) fn check_owner(ctx: &Ctx, thread: &Thread) -> Result<()> {
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

/// Gives a thread the settings that `wanted` makes of its old ones, if the caller may.
fn change(ctx: &Ctx, thread: &Arc<Thread>, wanted: impl Fn(&Settings) -> Result<Settings>) -> Result<usize> {
    let task = task_of(thread)?;
    loop {
        let old = sched::settings(&task);
        let new = wanted(&old)?;
        check_sane(&old.params, &new.params)?;
        check_owner(ctx, thread)?;
        if !ctx.capable(CAP_SYS_NICE) {
            check_limits(thread.process(), &old, &new)?;
        }
        // Somebody else may have changed them since; then it is another question.
        if sched::replace_settings(&task, &old, &new) {
            futex::pi::priority_changed(thread);
            return Ok(0);
        }
    }
}

/// EINVAL for a priority that does not fit the policy, and for the threads that stop CPUs.
fn check_sane(old: &Params, new: &Params) -> Result<()> {
    let fits = is_real_time(new.kind) == (new.rt_priority > 0) && new.rt_priority <= 99;
    if fits && old.kind != SchedKind::Stop { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What the unprivileged may not do, beyond their resource limits (`user_check_sched_setscheduler` in Linux).
fn check_limits(process: &Process, old: &Settings, new: &Settings) -> Result<()> {
    let resets = old.reset_on_fork && !new.reset_on_fork;
    let (old, new) = (&old.params, &new.params);
    let refused = if is_real_time(new.kind) {
        let limit = rlimit::soft(process, RLIMIT_RTPRIO);
        let raises = new.rt_priority > old.rt_priority && u64::from(new.rt_priority) > limit;
        new.kind != old.kind && limit == 0 || raises
    } else {
        check_nice(process, old.nice, new.nice).is_err()
    };
    // Leaving SCHED_IDLE counts as a step from nice 20.
    let leaves_idle = old.kind == SchedKind::Idle && new.kind != SchedKind::Idle;
    let refused = refused || leaves_idle && !may_be_nice(process, old.nice);
    if refused || resets { Err(Errno::EPERM) } else { Ok(()) }
}

/// Whether RLIMIT_NICE lets the process have a nice value by its own choice.
fn may_be_nice(process: &Process, nice: i8) -> bool {
    (20 - i64::from(nice)) as u64 <= rlimit::soft(process, RLIMIT_NICE)
}

fn check_nice(process: &Process, old: i8, new: i8) -> Result<()> {
    if new >= old || may_be_nice(process, new) { Ok(()) } else { Err(Errno::EACCES) }
}

/// The priority in `struct sched_param`. EINVAL, EFAULT.
fn read_param(pid: i32, param: usize) -> Result<u32> {
    if param == 0 || pid < 0 {
        return Err(Errno::EINVAL);
    }
    usermem::read(param)
}

pub fn sched_setscheduler(ctx: &mut Ctx, pid: i32, policy: i32, param: usize) -> Result<usize> {
    let policy = u32::try_from(policy).map_err(|_| Errno::EINVAL)?;
    let priority = read_param(pid, param)?;
    let thread = thread_of(ctx, pid)?;
    let kind = kind_of(policy & !SCHED_RESET_ON_FORK)?;
    let rt_priority = u8::try_from(priority).map_err(|_| Errno::EINVAL)?;
    let reset_on_fork = policy & SCHED_RESET_ON_FORK != 0;
    change(ctx, &thread, |old| {
        Ok(Settings { params: Params { kind, rt_priority, ..old.params }, reset_on_fork })
    })
}

pub fn sched_setparam(ctx: &mut Ctx, pid: i32, param: usize) -> Result<usize> {
    let priority = read_param(pid, param)?;
    let thread = thread_of(ctx, pid)?;
    let rt_priority = u8::try_from(priority).map_err(|_| Errno::EINVAL)?;
    change(ctx, &thread, |old| Ok(Settings { params: Params { rt_priority, ..old.params }, ..*old }))
}

pub fn sched_getscheduler(ctx: &mut Ctx, pid: i32) -> Result<usize> {
    let task = task_of(&*thread_of(ctx, pid)?)?;
    let reset = if sched::reset_on_fork(&task) { SCHED_RESET_ON_FORK } else { 0 };
    Ok((policy_number(sched::params(&task).kind) | reset) as usize)
}

pub fn sched_getparam(ctx: &mut Ctx, pid: i32, param: usize) -> Result<usize> {
    if param == 0 || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let task = task_of(&*thread_of(ctx, pid)?)?;
    usermem::write(param, &u32::from(sched::params(&task).rt_priority)).map(|()| 0)
}

pub fn sched_get_priority_max(_ctx: &mut Ctx, policy: u32) -> Result<usize> {
    Ok(if is_real_time(kind_of(policy)?) { 99 } else { 0 })
}

pub fn sched_get_priority_min(_ctx: &mut Ctx, policy: u32) -> Result<usize> {
    Ok(usize::from(is_real_time(kind_of(policy)?)))
}

pub fn sched_rr_get_interval(ctx: &mut Ctx, pid: i32, interval: usize) -> Result<usize> {
    let task = task_of(&*thread_of(ctx, pid)?)?;
    let slice_ns = sched::time_slice_ns(&task);
    usermem::write(interval, &Timespec::from_ns(slice_ns)).map(|()| 0)
}

/// As [`thread_of`]; the two calls about affinity find nobody by a negative number where others refuse it.
fn affine_thread(ctx: &Ctx, pid: i32) -> Result<Arc<Thread>> {
    if pid < 0 { Err(Errno::ESRCH) } else { thread_of(ctx, pid) }
}

pub fn sched_setaffinity(ctx: &mut Ctx, pid: i32, len: usize, mask: usize) -> Result<usize> {
    let mut bytes = [0; 8];
    let used = len.min(bytes.len());
    usermem::read_bytes(mask, &mut bytes[..used])?;
    let thread = affine_thread(ctx, pid)?;
    check_owner(ctx, &thread)?;
    sched::set_affinity(&task_of(&thread)?, CpuMask(u64::from_ne_bytes(bytes)))?;
    Ok(0)
}

pub fn sched_getaffinity(ctx: &mut Ctx, pid: i32, len: usize, mask: usize) -> Result<usize> {
    if !len.is_multiple_of(8) || len == 0 {
        return Err(Errno::EINVAL);
    }
    let task = task_of(&*affine_thread(ctx, pid)?)?;
    let bits = sched::affinity(&task).0 & sched::online().0;
    usermem::write(mask, &bits)?;
    Ok(8)
}

pub fn sched_setattr(ctx: &mut Ctx, pid: i32, at: usize, flags: u32) -> Result<usize> {
    if at == 0 || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let attr = read_attr(at)?;
    // Utilisation clamps and what else is not here (a Linux without CONFIG_UCLAMP_TASK answers the same).
    if attr.flags & SCHED_FLAG_UTIL_CLAMP != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let thread = thread_of(ctx, pid)?;
    if attr.flags & SCHED_FLAG_KEEP_POLICY == 0 && attr.policy > i32::MAX as u32
        || attr.flags & !KNOWN_FLAGS != 0
    {
        return Err(Errno::EINVAL);
    }
    let reset_on_fork = attr.flags & SCHED_FLAG_RESET_ON_FORK != 0;
    change(ctx, &thread, |old| Ok(Settings { params: params_of(&attr, &old.params)?, reset_on_fork }))
}

/// Those for deadline tasks are no use to others and do no harm to them, as in Linux.
const KNOWN_FLAGS: u64 = SCHED_FLAG_RESET_ON_FORK
    | SCHED_FLAG_RECLAIM
    | SCHED_FLAG_DL_OVERRUN
    | SCHED_FLAG_KEEP_POLICY
    | SCHED_FLAG_KEEP_PARAMS;

/// `struct sched_attr` of any known or later size. E2BIG, with the right size written back, EFAULT.
fn read_attr(at: usize) -> Result<SchedAttr> {
    let size: u32 = usermem::read(at)?;
    let size = if size == 0 { SCHED_ATTR_SIZE_VER0 } else { size as usize };
    let attr = match (SCHED_ATTR_SIZE_VER0..=arch::PAGE_SIZE).contains(&size) {
        true => usermem::read_extensible(at, size),
        false => Err(Errno::E2BIG),
    };
    if attr.is_err_and(|errno| errno == Errno::E2BIG) {
        let _ = usermem::write(at, &(size_of::<SchedAttr>() as u32));
    }
    attr
}

fn params_of(attr: &SchedAttr, old: &Params) -> Result<Params> {
    let kind = if attr.flags & SCHED_FLAG_KEEP_POLICY != 0 { old.kind } else { kind_of(attr.policy)? };
    if attr.flags & SCHED_FLAG_KEEP_PARAMS != 0 {
        return Ok(Params { kind, ..*old });
    }
    let rt_priority = u8::try_from(attr.priority).map_err(|_| Errno::EINVAL)?;
    let fair = match is_real_time(kind) {
        true => *old,
        false => Params { nice: attr.nice.clamp(-20, 19) as i8, slice_ns: slice_of(attr.runtime), ..*old },
    };
    Ok(Params { kind, rt_priority, ..fair })
}

/// 0 is the policy's default.
fn slice_of(runtime: u64) -> u64 {
    if runtime == 0 { 0 } else { runtime.clamp(sched::SLICE_MIN_NS, sched::SLICE_MAX_NS) }
}

pub fn sched_getattr(ctx: &mut Ctx, pid: i32, attr: usize, size: u32, flags: u32) -> Result<usize> {
    let size = size as usize;
    if attr == 0 || pid < 0 || flags != 0 || !(SCHED_ATTR_SIZE_VER0..=arch::PAGE_SIZE).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let task = task_of(&*thread_of(ctx, pid)?)?;
    let Settings { params, reset_on_fork } = sched::settings(&task);
    let filled = size.min(size_of::<SchedAttr>());
    let mut out = SchedAttr {
        size: filled as u32,
        policy: policy_number(params.kind),
        flags: if reset_on_fork { SCHED_FLAG_RESET_ON_FORK } else { 0 },
        priority: u32::from(params.rt_priority),
        ..SchedAttr::default()
    };
    if !is_real_time(params.kind) {
        out.nice = i32::from(params.nice);
        out.runtime = sched::own_slice_ns(&task).unwrap_or(params.slice_ns);
    }
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
        match set_nice(ctx, &thread, nice) {
            Ok(()) if result == Err(Errno::ESRCH) => result = Ok(0),
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => result = Err(errno),
        }
    }
    result
}

/// EPERM for somebody else's thread, EACCES beyond the limit, ESRCH when it has ended.
fn set_nice(ctx: &Ctx, thread: &Thread, nice: i8) -> Result<()> {
    let task = task_of(thread)?;
    check_owner(ctx, thread)?;
    loop {
        let old = sched::settings(&task);
        if !ctx.capable(CAP_SYS_NICE) {
            check_nice(thread.process(), old.params.nice, nice)?;
        }
        let new = Settings { params: Params { nice, ..old.params }, ..old };
        if sched::replace_settings(&task, &old, &new) {
            return Ok(());
        }
    }
}

/// The class of an I/O priority, its level in the three lowest bits.
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// ioprio_get(2): the most urgent of those that are meant.
pub fn ioprio_get(ctx: &mut Ctx, which: i32, who: i32) -> Result<usize> {
    let threads = io_prioritised(ctx, which, who)?;
    let priorities = threads.iter().filter_map(|thread| thread.task()).map(|task| task.io_priority());
    priorities.min().map(usize::from).ok_or(Errno::ESRCH)
}

/// ioprio_set(2). EPERM for the real-time class without the right to it.
pub fn ioprio_set(ctx: &mut Ctx, which: i32, who: i32, priority: u32) -> Result<usize> {
    const NONE: u32 = 0;
    const REAL_TIME: u32 = 1;
    const IDLE: u32 = 3;
    let priority = u16::try_from(priority).map_err(|_| Errno::EINVAL)?;
    match u32::from(priority) >> IOPRIO_CLASS_SHIFT {
        NONE if priority & 7 != 0 => return Err(Errno::EINVAL),
        REAL_TIME if !ctx.capable(CAP_SYS_ADMIN) && !ctx.capable(CAP_SYS_NICE) => return Err(Errno::EPERM),
        NONE..=IDLE => {}
        _ => return Err(Errno::EINVAL),
    }
    for thread in io_prioritised(ctx, which, who)? {
        check_owner(ctx, &thread)?;
        task_of(&thread)?.set_io_priority(priority);
    }
    Ok(0)
}

/// Whom ioprio_set(2) means: as setpriority(2), numbered from 1.
fn io_prioritised(ctx: &Ctx, which: i32, who: i32) -> Result<Vec<Arc<Thread>>> {
    match which {
        1 => prioritised(ctx, PRIO_PROCESS, who),
        2 => prioritised(ctx, PRIO_PGRP, who),
        3 => prioritised(ctx, PRIO_USER, who),
        _ => Err(Errno::EINVAL),
    }
}

pub fn getcpu(_ctx: &mut Ctx, cpu: usize, node: usize) -> Result<usize> {
    usermem::write_opt(cpu, &(arch::cpu::id() as u32))?;
    usermem::write_opt(node, &0u32).map(|()| 0)
}

/// Commands of membarrier(2): `linux/membarrier.h`.
mod barrier {
    pub const QUERY: u32 = 0;
    pub const GLOBAL: u32 = 1;
    pub const GLOBAL_EXPEDITED: u32 = 1 << 1;
    pub const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
    pub const PRIVATE_EXPEDITED: u32 = 1 << 3;
    pub const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
    /// CPUs forget instructions that they have fetched, too.
    pub const PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 5;
    pub const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 6;
    /// Threads leave restartable sequences, too.
    pub const PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 7;
    pub const REGISTER_PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 8;
    pub const GET_REGISTRATIONS: u32 = 1 << 9;
    pub const ALL: u32 = (GET_REGISTRATIONS << 1) - 1;
    /// The flag of PRIVATE_EXPEDITED_RSEQ: only one CPU is meant.
    pub const FLAG_CPU: u32 = 1;

    /// The registration without which a command is refused.
    pub fn needs(command: u32) -> u32 {
        match command {
            PRIVATE_EXPEDITED | PRIVATE_EXPEDITED_SYNC_CORE | PRIVATE_EXPEDITED_RSEQ => command << 1,
            _ => 0,
        }
    }
}

/// membarrier(2). All CPUs are interrupted, whatever runs there: to know who runs on a CPU would take its lock.
pub fn membarrier(ctx: &mut Ctx, command: u32, flags: u32, cpu: i32) -> Result<usize> {
    let for_cpu = command == barrier::PRIVATE_EXPEDITED_RSEQ && flags == barrier::FLAG_CPU;
    if flags != 0 && !for_cpu {
        return Err(Errno::EINVAL);
    }
    let needed = barrier::needs(command);
    if ctx.mm().barriers() & needed != needed {
        return Err(Errno::EPERM);
    }
    let everywhere = || irq::barrier::everywhere(sched::online());
    match command {
        barrier::QUERY => return Ok(barrier::ALL as usize),
        barrier::GET_REGISTRATIONS => return Ok(ctx.mm().barriers() as usize),
        barrier::GLOBAL | barrier::GLOBAL_EXPEDITED => everywhere(),
        barrier::REGISTER_GLOBAL_EXPEDITED
        | barrier::REGISTER_PRIVATE_EXPEDITED
        | barrier::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
        | barrier::REGISTER_PRIVATE_EXPEDITED_RSEQ => {
            ctx.mm().add_barriers(command);
            everywhere();
        }
        barrier::PRIVATE_EXPEDITED => everywhere(),
        barrier::PRIVATE_EXPEDITED_SYNC_CORE => {
            everywhere();
            arch::mmu::sync_instructions();
        }
        barrier::PRIVATE_EXPEDITED_RSEQ => {
            // Linux does nothing for a CPU that there is not.
            let known = || sched::online().iter().any(|online| usize::try_from(cpu) == Ok(online));
            if !for_cpu || cpu < 0 || known() {
                kcore::rseq::leave_sections(ctx);
                everywhere();
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
