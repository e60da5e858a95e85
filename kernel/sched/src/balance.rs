//! Moving tasks between CPUs. Where to is decided in `sched-balance`.

use crate::rq::{self, Guard, View};
use crate::schedule::{enqueue, may_run_on};
use alloc::sync::Arc;
use arch::{cpu, timer};
use core::sync::atomic::{AtomicU32, Ordering};
use sched_api::{Carry, Class, Dequeue, Enqueue};
use sched_balance::{Cpus, MIGRATION_COST_NS, Move};
use sched_queue::Removed;
use task::Task;

/// The knobs of balancing, by their names in /sys/kernel/debug/sched: 32 bits, as in Linux.
pub(crate) const KNOBS: [(&str, &AtomicU32); 2] =
    [("migration_cost_ns", &MIGRATION_COST), ("nr_migrate", &BATCH)];
/// How long a task that left a CPU counts as warm there, in ns.
static MIGRATION_COST: AtomicU32 = AtomicU32::new(MIGRATION_COST_NS as u32);
/// Tasks moved in one go at most.
static BATCH: AtomicU32 = AtomicU32::new(32);

fn migration_cost_ns() -> u64 {
    u64::from(MIGRATION_COST.load(Ordering::Relaxed))
}

/// What balancing did from or to one CPU, for /proc/schedstat.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Balanced {
    /// Times it was tried, times there was nobody to take from or give to, times no task could go, tasks moved.
    pub tries: u64,
    pub balanced: u64,
    pub failed: u64,
    pub moved: u64,
}

impl Balanced {
    /// A try ended: `None` when there was nobody to move tasks from or to, else how many moved.
    fn count(&mut self, moved: Option<u64>) {
        self.tries += 1;
        self.balanced += u64::from(moved.is_none());
        self.failed += u64::from(moved == Some(0));
        self.moved += moved.unwrap_or(0);
    }
}

/// Whether this CPU, which has nothing to run, should look for work elsewhere.
pub(crate) fn should_pull(rq: &Guard<'_>, cpu: usize) -> bool {
    rq::others_overloaded(cpu) && rq.queue.idle().worth_pulling(migration_cost_ns())
}

/// Fetches tasks for `me`, which is idle, from a CPU where some wait. No lock held.
pub(crate) fn pull(me: usize) {
    let found = sched_balance::idle_pull(&View, me);
    let moved = found.map(|Move { cpu: from, load }| move_tasks(from, me, load, false));
    rq::of(me).lock().counts.pulls.count(moved);
}

/// Whether tasks wait here that others might take, and it is time to see.
pub(crate) fn should_push(rq: &Guard<'_>, now_ns: u64) -> bool {
    rq.queue.nr_running() > 1 && (View.idle(0) != 0 || now_ns >= rq.balance_at_ns)
}

/// Gives waiting tasks of this CPU away. Softirq.
pub(crate) fn push_softirq() {
    let me = cpu::id();
    push_rt(me);
    push_fair(me);
}

/// A real-time task that waits goes where it would run at once, if there is such a CPU.
fn push_rt(me: usize) {
    let waiting = {
        let mut rq = rq::of(me).lock();
        let slot = match rq.queue.nr_rt() {
            0 | 1 => None,
            _ => rq.queue.movable(timer::now_ns(), Class::Rt, &mut |task| !task.on_cpu()),
        };
        slot.and_then(|slot| rq.queue.get(slot)).map(|(task, params, _)| (task.clone(), params.rt_priority))
    };
    let Some((task, priority)) = waiting else { return };
    let allowed = [crate::affinity(&task).0 & rq::online().0];
    if let Some(to) = sched_balance::place_rt(&View, &allowed, me, priority)
        && to != me
        && View.rt_priority(to) < priority
    {
        move_tasks(me, to, 0, false);
    }
}

fn push_fair(me: usize) {
    let now_ns = timer::now_ns();
    let only_idle = {
        let mut rq = rq::of(me).lock();
        let early = now_ns < rq.balance_at_ns;
        if !early {
            rq.balance_at_ns = now_ns + sched_balance::interval_ns(cpu::count());
        }
        early
    };
    let found = sched_balance::push(&View, &[rq::online().0], me, only_idle);
    let moved = found.map(|Move { cpu: to, load }| move_tasks(me, to, load, View.nr_running(to) > 0));
    rq::of(me).lock().counts.pushes.count(moved);
}

/// Moves tasks of `load` in all, one at least if there is one that may; how many it moved.
fn move_tasks(from: usize, to: usize, load: u64, keep_warm: bool) -> u64 {
    let (mut left, mut moved) = (load, 0);
    while moved < u64::from(BATCH.load(Ordering::Relaxed)) {
        let limit = if moved == 0 { u64::MAX } else { left };
        let Some((task, carry, weight)) = take(from, to, limit, keep_warm) else { break };
        enqueue(&task, Enqueue::Move { carry }, Some(to));
        moved += 1;
        left = left.saturating_sub(weight);
        if left == 0 {
            break;
        }
    }
    moved
}

/// Takes a waiting task that may run on `to` out of the queue of `from`. It is in none then.
fn take(from: usize, to: usize, limit: u64, keep_warm: bool) -> Option<(Arc<Task>, Carry, u64)> {
    let mut rq = rq::of(from).lock();
    let now_ns = timer::now_ns();
    let mut may_go = |task: &Arc<Task>| {
        let cold_since_ns =
            task.sched.left_cpu_at_ns.load(Ordering::Relaxed).saturating_add(migration_cost_ns());
        let light_enough = crate::params(task).weight() <= limit;
        // One whose registers are still being saved stays: see the rules at `task::Scheduler`.
        may_run_on(task, to) && !task.on_cpu() && light_enough && !(keep_warm && now_ns < cold_since_ns)
    };
    let slot = [Class::Rt, Class::Fair]
        .into_iter()
        .find_map(|class| rq.queue.movable(now_ns, class, &mut may_go))?;
    let weight = rq.queue.get(slot).map_or(0, |(_, params, _)| params.weight());
    let Some(Removed::Gone(task, carry)) = rq.queue.remove(now_ns, slot, Dequeue::Move) else { return None };
    rq::leave(&task, &carry);
    rq.publish(from);
    Some((task, carry, weight))
}
