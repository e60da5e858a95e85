//! The settings of a task: class, nice, priority, slice, penalty, affinity.
//!
//! They are read by wake-ups without a lock of their own. That works because of an order of two steps:
//!
//! ```text
//!   enqueue (under the run-queue lock)        a change
//!     on_rq = true                              settings = new
//!     read settings, affinity                   if on_rq: lock that queue, apply
//! ```
//!
//! In the one total order of these accesses, either the enqueuer reads the new settings or the changer
//! sees `on_rq` and applies them itself; both at once does no harm. Two changes exclude each other by
//! `SchedSlot::lock`.

use crate::policy;
use crate::rq::{self, Kick};
use crate::schedule::enqueue;
use crate::stopper;
use abi::Errno;
use alloc::sync::Arc;
use arch::CpuMask;
use core::sync::atomic::Ordering;
use sched_api::{Dequeue, Enqueue, Params, SchedKind};
use sched_queue::{Removed, State};
use task::Task;

/// The child of this task starts with default settings (SCHED_RESET_ON_FORK).
const RESET_ON_FORK: u64 = 1 << 24;
/// A kernel thread of one CPU: nobody changes its affinity.
const PINNED: u64 = 1 << 25;

/// `flags` is a word whose flag bits are kept.
fn pack(params: &Params, flags: u64) -> [u64; 2] {
    let kind = match params.kind {
        SchedKind::Normal => 0,
        SchedKind::Batch => 1,
        SchedKind::Idle => 2,
        SchedKind::Fifo => 3,
        SchedKind::RoundRobin => 4,
        SchedKind::Stop => 5u64,
    };
    let nice = u64::from(params.nice as u8) << 8;
    let priority = u64::from(params.rt_priority) << 16;
    let flags = flags & (RESET_ON_FORK | PINNED);
    [kind | nice | priority | flags | u64::from(params.penalty_ns_per_ms) << 32, params.slice_ns]
}

fn unpack([word, slice_ns]: [u64; 2]) -> Params {
    let kind = match word & 0xff {
        1 => SchedKind::Batch,
        2 => SchedKind::Idle,
        3 => SchedKind::Fifo,
        4 => SchedKind::RoundRobin,
        5 => SchedKind::Stop,
        _ => SchedKind::Normal,
    };
    Params {
        kind,
        nice: (word >> 8) as u8 as i8,
        rt_priority: (word >> 16) as u8,
        slice_ns,
        penalty_ns_per_ms: (word >> 32) as u32,
    }
}

fn load(task: &Task) -> [u64; 2] {
    [0, 1].map(|index: usize| task.sched.settings[index].load(Ordering::SeqCst))
}

fn store(task: &Task, words: [u64; 2]) {
    for (place, word) in task.sched.settings.iter().zip(words) {
        place.store(word, Ordering::SeqCst);
    }
}

/// The task's scheduling parameters.
pub fn params(task: &Task) -> Params {
    unpack(load(task))
}

/// What the scheduler goes by: the task's parameters, or the higher real-time priority that it inherits.
pub fn effective(task: &Task) -> Params {
    let own = params(task);
    let boost = task.sched.boost.load(Ordering::SeqCst) as u8;
    if boost <= own.rt_priority || own.kind == SchedKind::Stop {
        return own;
    }
    let kind = if own.kind == SchedKind::RoundRobin { own.kind } else { SchedKind::Fifo };
    Params { kind, rt_priority: boost, ..own }
}

/// The task inherits a real-time priority, 0 for none; effective at once. Any context.
pub fn set_boost(task: &Arc<Task>, priority: u8) {
    let _one = task.sched.lock.lock();
    task.sched.boost.store(u32::from(priority), Ordering::SeqCst);
    apply(task, &effective(task));
}

/// Whether its children start with default settings.
pub fn reset_on_fork(task: &Task) -> bool {
    load(task)[0] & RESET_ON_FORK != 0
}

/// Changes the parameters of a task, running, queued or asleep; effective at once. The caller has
/// checked ranges and permissions. Any context.
pub fn set_params(task: &Arc<Task>, new: &Params) {
    let _one = task.sched.lock.lock();
    store(task, pack(new, load(task)[0]));
    apply(task, &effective(task));
}

/// What sched_setattr(2) changes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub params: Params,
    /// Its children start with default settings (SCHED_RESET_ON_FORK).
    pub reset_on_fork: bool,
}

/// The task's settings.
pub fn settings(task: &Task) -> Settings {
    let words = load(task);
    Settings { params: unpack(words), reset_on_fork: words[0] & RESET_ON_FORK != 0 }
}

/// As [`set_params`], if the settings are still `old`; otherwise false, and nothing has changed. So a caller
/// that computes new settings from old ones, and asks for permission by them, loses no change by another.
pub fn replace_settings(task: &Arc<Task>, old: &Settings, new: &Settings) -> bool {
    let _one = task.sched.lock.lock();
    if settings(task) != *old {
        return false;
    }
    let reset = if new.reset_on_fork { RESET_ON_FORK } else { 0 };
    store(task, pack(&new.params, load(task)[0] & PINNED | reset));
    apply(task, &effective(task));
    true
}

/// Tells the queue that the task is on, if any.
fn apply(task: &Arc<Task>, new: &Params) {
    let Some((cpu, mut rq)) = rq::lock_of(task) else { return };
    let slot = rq::slot_of(task);
    let now_ns = arch::timer::now_ns();
    let Some((_, old, state)) = rq.queue.get(slot) else { return };
    let kick = if state == State::Delayed && old.class() != new.class() {
        // It sleeps, and its old class holds it back: it leaves now and wakes in the new one.
        if let Some(Removed::Gone(_, carry)) = rq.queue.remove(now_ns, slot, Dequeue::Exit) {
            rq::leave(task, &carry);
        }
        Kick::NONE
    } else if rq.queue.set_params(now_ns, slot, new) {
        rq.resched(cpu)
    } else {
        rq.reprogram(cpu, now_ns)
    };
    rq.publish(cpu);
    drop(rq);
    kick.send();
}

/// The slice of a task, as sched_rr_get_interval(2) tells it, in ns: 0 for FIFO.
pub fn time_slice_ns(task: &Task) -> u64 {
    let own = params(task);
    let knob = |name| policy::tunable_in_use(name).unwrap_or(0);
    match own.kind {
        SchedKind::Fifo | SchedKind::Stop => 0,
        SchedKind::RoundRobin => knob("rr_timeslice_ns"),
        _ => own_slice_ns(task).unwrap_or_else(|| knob("latency_ns")),
    }
}

/// The slice of a fair task under a policy that knows slices, as sched_getattr(2) tells it, in ns.
pub fn own_slice_ns(task: &Task) -> Option<u64> {
    let base_ns = policy::tunable_in_use("base_slice_ns")?;
    match params(task).slice_ns {
        0 => Some(base_ns),
        own => Some(own.clamp(sched_api::SLICE_MIN_NS, sched_api::SLICE_MAX_NS)),
    }
}

/// The CPUs the task may run on, off-line ones included.
pub fn affinity(task: &Task) -> CpuMask {
    CpuMask(task.sched.affinity.load(Ordering::SeqCst))
}

/// Restricts the task to `mask`; one that runs elsewhere has left that CPU when this returns. Process
/// context.
///
/// # Errors
/// EINVAL when no online CPU is in the mask (sched_setaffinity(2)), and for a thread that is pinned.
pub fn set_affinity(task: &Arc<Task>, mask: CpuMask) -> abi::errno::Result<()> {
    if mask.0 & rq::online().0 == 0 || load(task)[0] & PINNED != 0 {
        return Err(Errno::EINVAL);
    }
    let one = task.sched.lock.lock();
    task.sched.affinity.store(mask.0, Ordering::SeqCst);
    let Some((cpu, mut rq)) = rq::lock_of(task) else { return Ok(()) };
    if mask.contains(cpu) {
        return Ok(());
    }
    if task.on_cpu() {
        drop((rq, one));
        stopper::evict_and_wait(task, cpu);
        return Ok(());
    }
    let slot = rq::slot_of(task);
    let was_waiting = matches!(rq.queue.get(slot), Some((_, _, State::Waiting)));
    let removed = rq.queue.remove(arch::timer::now_ns(), slot, Dequeue::Move);
    if let Some(Removed::Gone(_, carry)) = removed {
        rq::leave(task, &carry);
        rq.publish(cpu);
        drop((rq, one));
        if was_waiting {
            enqueue(task, Enqueue::Move { carry }, None);
        }
    }
    Ok(())
}

/// Binds a thread that has not run yet to one CPU for good (`ksoftirqd/N` and its like).
pub fn pin(task: &Task, cpu: usize) {
    store(task, pack(&params(task), PINNED));
    task.sched.affinity.store(CpuMask::one(cpu).0, Ordering::SeqCst);
    task.sched.cpu.store(cpu as u32, Ordering::Relaxed);
}

/// Gives a new task the settings of its creator, the penalty and what SCHED_RESET_ON_FORK resets apart.
pub(crate) fn inherit(child: &Task, parent: &Task) {
    let mut new = Params { penalty_ns_per_ms: 0, ..params(parent) };
    if reset_on_fork(parent) {
        new = match new.kind {
            SchedKind::Fifo | SchedKind::RoundRobin => Params::nice(0),
            kind => Params { kind, ..Params::nice(new.nice.max(0)) },
        };
    }
    if new.kind == SchedKind::Stop {
        new = Params::nice(0);
    }
    store(child, pack(&new, 0));
    child.sched.affinity.store(parent.sched.affinity.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// The settings of a kernel thread.
pub(crate) fn set_default(task: &Task) {
    store(task, pack(&Params::nice(0), 0));
    task.sched.affinity.store(u64::MAX, Ordering::Relaxed);
}
