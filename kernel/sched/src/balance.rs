//! Moving tasks between CPUs. Where to is decided in `sched-balance`.

use crate::rq::{self, Guard, View};
use crate::schedule::{enqueue, may_run_on};
use alloc::sync::Arc;
use arch::{cpu, timer};
use core::sync::atomic::Ordering;
use sched_api::{Carry, Class, Dequeue, Enqueue};
use sched_balance::{Cpus, MIGRATION_COST_NS, Move};
use sched_queue::Removed;
use task::Task;

/// Tasks moved in one go at most (sysctl_sched_nr_migrate).
const BATCH: usize = 32;

/// Whether this CPU, which has nothing to run, should look for work elsewhere.
pub(crate) fn should_pull(rq: &Guard<'_>, cpu: usize) -> bool {
    rq::others_overloaded(cpu) && rq.queue.idle().worth_pulling(MIGRATION_COST_NS)
}

/// Fetches tasks for `me`, which is idle, from a CPU where some wait. No lock held.
pub(crate) fn pull(me: usize) {
    if let Some(Move { cpu: from, load }) = sched_balance::idle_pull(&View, me) {
        move_tasks(from, me, load, false);
    }
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
    if let Some(Move { cpu: to, load }) = sched_balance::push(&View, &[rq::online().0], me, only_idle) {
        let keep_warm = View.nr_running(to) > 0;
        move_tasks(me, to, load, keep_warm);
    }
}

/// Moves tasks of `load` in all, one at least if there is one that may.
fn move_tasks(from: usize, to: usize, load: u64, keep_warm: bool) {
    let mut left = load;
    for moved in 0..BATCH {
        let limit = if moved == 0 { u64::MAX } else { left };
        let Some((task, carry, weight)) = take(from, to, limit, keep_warm) else { break };
        enqueue(&task, Enqueue::Move { carry }, Some(to));
        left = left.saturating_sub(weight);
        if left == 0 {
            break;
        }
    }
}

/// Takes a waiting task that may run on `to` out of the queue of `from`. It is in none then.
fn take(from: usize, to: usize, limit: u64, keep_warm: bool) -> Option<(Arc<Task>, Carry, u64)> {
    let mut rq = rq::of(from).lock();
    let now_ns = timer::now_ns();
    let mut may_go = |task: &Arc<Task>| {
        let cold_since_ns =
            task.sched.left_cpu_at_ns.load(Ordering::Relaxed).saturating_add(MIGRATION_COST_NS);
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
