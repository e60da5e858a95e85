//! The Completely Fair Scheduler, with the rules of Linux 5.18 (kernel/sched/fair.c, without groups).
//!
//! **Problem.** Give each task a share of the CPU by its weight, and let one that slept run soon, with
//! no time slices handed out in advance.
//!
//! **Interface.** [`Cfs`] implements [`SchedPolicy`]; [`INFO`] is how the mechanism finds it.
//!
//! **Idea.** Each task has a *virtual run time* that grows while it runs, more slowly the heavier it is.
//! Tasks wait in a tree ordered by it and the first one runs. The queue's `min_vruntime` creeps forward
//! with the first task; newcomers are placed relative to it, so that nobody can save up virtual time:
//!
//! ```text
//!        woken after a sleep              new task
//!        min - latency/2                  min + its slice
//! ------------|--------------|--------------|-----------------> virtual time
//!                       min_vruntime
//! ```
//!
//! The running task is not in the tree. It is preempted when its slice (its share of `latency`) is used
//! up, when it is a slice ahead of the first waiter, or when a task wakes that is behind it by more than
//! the wake-up granularity.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use rbtree::{Arena, Links, Tree};
use sched_api::weight::{aged_ns, run_for_ns, to_virtual_ns};
use sched_api::{
    Carry, Dequeue, Dequeued, Enqueue, NoMemory, Params, Pick, PolicyInfo, QueueConfig, QueueId, SchedKind,
    SchedPolicy, Slot, Stat, TunableError, cpu_factor,
};

/// Entry for the list of policies.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "cfs",
    about: "Completely Fair Scheduler (Linux 5.18): least virtual run time first",
    make,
};

fn make(config: QueueConfig) -> Result<Box<dyn SchedPolicy>, NoMemory> {
    let mut cfs = Cfs::new(config.id, config.cpus);
    cfs.reserve(config.slots)?;
    Ok(Box::new(cfs))
}

/// A sleep this long makes a task's old virtual time meaningless (Linux compares against 60 s).
const LONG_SLEEP_NS: u64 = 60_000_000_000;
/// How many waiting tasks `movable` looks at (sysctl_sched_nr_migrate).
const MOVABLE_SCAN: usize = 32;
/// The ranges of the knobs, in ns (`min_sched_granularity_ns` and so on in kernel/sysctl.c).
const GRANULARITY_RANGE: core::ops::RangeInclusive<u64> = 100_000..=1_000_000_000;
const WAKEUP_RANGE: core::ops::RangeInclusive<u64> = 0..=1_000_000_000;
const KNOBS: [&str; 3] = ["latency_ns", "min_granularity_ns", "wakeup_granularity_ns"];

/// What this policy knows about one task.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    links: Links,
    /// Wraps; compare by the sign of the difference.
    vruntime: u64,
    weight: u64,
    penalty_ns_per_ms: u32,
    kind: SchedKind,
    queued: bool,
    /// Real time run since it joined this queue, and the same when it was last picked.
    ran_ns: u64,
    ran_at_pick_ns: u64,
}

/// The tasks by slot; the tree's arena.
#[derive(Debug, Default)]
struct Tasks(Vec<Task>);

impl Tasks {
    fn at(&self, slot: u32) -> &Task {
        &self.0[slot as usize]
    }

    fn at_mut(&mut self, slot: u32) -> &mut Task {
        &mut self.0[slot as usize]
    }
}

impl Arena for Tasks {
    fn links(&self, node: u32) -> &Links {
        &self.at(node).links
    }

    fn links_mut(&mut self, node: u32) -> &mut Links {
        &mut self.at_mut(node).links
    }

    fn less(&self, a: u32, b: u32) -> bool {
        ahead(self.at(b).vruntime, self.at(a).vruntime) > 0
    }
}

/// How far `a` is ahead of `b` in virtual time.
fn ahead(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b) as i64
}

/// One CFS run queue.
#[derive(Debug)]
pub struct Cfs {
    id: QueueId,
    tasks: Tasks,
    /// The waiting tasks by virtual time.
    waiting: Tree,
    current: Option<u32>,
    /// When `current` was last charged.
    charged_at_ns: u64,
    min_vruntime: u64,
    /// Sum of the weights of all queued tasks, the running one included.
    load: u64,
    nr_running: u32,
    /// Buddies: who gave way by sched_yield, and who was preempted by a wake-up and has a warm cache.
    skip: Option<u32>,
    last: Option<u32>,
    latency_ns: u64,
    min_granularity_ns: u64,
    wakeup_granularity_ns: u64,
}

impl Cfs {
    /// An empty queue on a machine of `cpus` CPUs: latency 6 ms, granularities 0.75 ms and 1 ms, each
    /// times `1 + log2(min(cpus, 8))`.
    pub fn new(id: QueueId, cpus: u32) -> Cfs {
        let factor = cpu_factor(cpus);
        Cfs {
            id,
            tasks: Tasks::default(),
            waiting: Tree::new(),
            current: None,
            charged_at_ns: 0,
            min_vruntime: 0,
            load: 0,
            nr_running: 0,
            skip: None,
            last: None,
            latency_ns: 6_000_000 * factor,
            min_granularity_ns: 750_000 * factor,
            wakeup_granularity_ns: 1_000_000 * factor,
        }
    }

    /// Charges the running task (`update_curr`).
    fn charge(&mut self, now_ns: u64) {
        let Some(current) = self.current else { return };
        let ran_ns = now_ns.saturating_sub(self.charged_at_ns);
        let task = self.tasks.at_mut(current);
        let aged_ns = aged_ns(ran_ns, task.weight, task.penalty_ns_per_ms);
        if aged_ns == 0 {
            return; // too little to show; it stays on the account
        }
        self.charged_at_ns = now_ns;
        task.ran_ns = task.ran_ns.saturating_add(ran_ns);
        task.vruntime = task.vruntime.wrapping_add(aged_ns);
        self.advance_min();
    }

    /// `min_vruntime` follows the least virtual time in the queue and never goes back.
    fn advance_min(&mut self) {
        let current = self.current.map(|slot| self.tasks.at(slot).vruntime);
        let first = self.waiting.first().map(|slot| self.tasks.at(slot).vruntime);
        let least = match (current, first) {
            (Some(a), Some(b)) => Some(if ahead(a, b) < 0 { a } else { b }),
            (one, other) => one.or(other),
        };
        if let Some(least) = least
            && ahead(least, self.min_vruntime) > 0
        {
            self.min_vruntime = least;
        }
    }

    /// Number of tasks up to which everybody gets a turn within `latency_ns`.
    fn nr_latency(&self) -> u64 {
        self.latency_ns.div_ceil(self.min_granularity_ns)
    }

    /// The task's part of the period in which everybody runs once, in real ns (`sched_slice`). A task
    /// that is about to join counts itself in.
    fn slice_ns(&self, task: &Task) -> u64 {
        let joining = !task.queued;
        let nr = u64::from(self.nr_running) + u64::from(joining);
        let load = self.load + if joining { task.weight } else { 0 };
        let period = match nr > self.nr_latency() {
            true => nr.saturating_mul(self.min_granularity_ns),
            false => self.latency_ns,
        };
        let share = period.saturating_mul(task.weight) / load.max(1);
        share.max(self.min_granularity_ns)
    }

    /// The virtual time at which `task` enters (`place_entity`).
    fn place(&self, now_ns: u64, task: &Task, why: Enqueue) -> u64 {
        match why {
            // A child starts a slice late, or fork would be a way to get more CPU (START_DEBIT).
            Enqueue::New => self.min_vruntime.wrapping_add(to_virtual_ns(self.slice_ns(task), task.weight)),
            Enqueue::Move { carry } => self.min_vruntime.wrapping_sub(carry.lag_ns as u64),
            Enqueue::Wake { carry, .. } => self.place_woken(now_ns, task, &carry),
        }
    }

    /// A sleeper keeps its virtual time, but no more than half a latency of credit
    /// (GENTLE_FAIR_SLEEPERS); a SCHED_IDLE task half a granularity.
    fn place_woken(&self, now_ns: u64, task: &Task, carry: &Carry) -> u64 {
        let credit = if task.kind == SchedKind::Idle { self.min_granularity_ns } else { self.latency_ns } / 2;
        let earliest = self.min_vruntime.wrapping_sub(credit);
        let slept_ns = now_ns.saturating_sub(carry.left_at_ns);
        if slept_ns > LONG_SLEEP_NS {
            return earliest;
        }
        let own = if carry.home == self.id && self.id != QueueId::default() {
            carry.vruntime_ns
        } else {
            // Another queue's clock cannot be read from here. It has moved on by at most the time slept,
            // as fast as one nice-0 task running alone; so much credit, cut off below as for anyone.
            self.min_vruntime.wrapping_sub(carry.lag_ns as u64).wrapping_sub(slept_ns)
        };
        if ahead(own, earliest) > 0 { own } else { earliest }
    }

    /// Whether `waiting` is so far behind `running` that it should run instead
    /// (`wakeup_preempt_entity`); the margin is the wake-up granularity in the waiter's virtual time.
    fn preempts(&self, running: u32, waiting: u32) -> bool {
        let waiter = self.tasks.at(waiting);
        let behind = ahead(self.tasks.at(running).vruntime, waiter.vruntime);
        let margin = to_virtual_ns(self.wakeup_granularity_ns, waiter.weight);
        behind > margin.min(i64::MAX as u64) as i64
    }

    /// Whether a task that just entered should run at once (`check_preempt_wakeup`).
    fn should_preempt(&mut self, slot: u32) -> bool {
        let Some(current) = self.current else { return true };
        let (running, woken) = (self.tasks.at(current).kind, self.tasks.at(slot).kind);
        if running == SchedKind::Idle && woken != SchedKind::Idle {
            return true;
        }
        if woken != SchedKind::Normal || !self.preempts(current, slot) {
            return false;
        }
        if u64::from(self.nr_running) >= self.nr_latency() && running != SchedKind::Idle {
            self.last = Some(current);
        }
        true
    }

    /// Puts the running task among the waiting.
    fn stop_current(&mut self, now_ns: u64) {
        self.charge(now_ns);
        if let Some(slot) = self.current.take() {
            self.waiting.insert(&mut self.tasks, slot);
        }
    }

    fn start(&mut self, now_ns: u64, slot: u32) {
        if self.current != Some(slot) {
            self.waiting.remove(&mut self.tasks, slot);
            self.current = Some(slot);
        }
        self.charged_at_ns = now_ns;
        let task = self.tasks.at_mut(slot);
        task.ran_at_pick_ns = task.ran_ns;
        self.forget_buddy(slot);
    }

    fn forget_buddy(&mut self, slot: u32) {
        for buddy in [&mut self.skip, &mut self.last] {
            if *buddy == Some(slot) {
                *buddy = None;
            }
        }
    }

    /// The first in virtual time, unless it gave way or the last one preempted is about as deserving
    /// (`pick_next_entity`). `None` only when the queue is empty.
    fn choose(&self) -> Option<u32> {
        let first = self.first_of(self.waiting.first());
        let left = first?;
        let mut choice = left;
        if self.skip == Some(left) {
            let second = match self.current == Some(left) {
                true => self.waiting.first(),
                false => self.first_of(self.waiting.next(&self.tasks, left)),
            };
            if let Some(second) = second
                && !self.preempts(second, left)
            {
                choice = second;
            }
        }
        match self.last {
            Some(last) if !self.preempts(last, left) => Some(last),
            _ => Some(choice),
        }
    }

    /// The earlier of a waiting task and the running one.
    fn first_of(&self, waiting: Option<u32>) -> Option<u32> {
        match (waiting, self.current) {
            (Some(w), Some(c)) if self.tasks.less(c, w) => Some(c),
            (None, current) => current,
            (waiting, _) => waiting,
        }
    }

    /// How much longer the running task may run, 0 when its time is over, `None` when it is alone
    /// (`check_preempt_tick`, solved for the time).
    fn may_run_ns(&self) -> Option<u64> {
        let task = self.tasks.at(self.current?);
        let first = self.tasks.at(self.waiting.first()?);
        let slice_ns = self.slice_ns(task);
        let ran_ns = task.ran_ns - task.ran_at_pick_ns;
        let until_slice_ends = slice_ns.saturating_sub(ran_ns);
        let until_granularity = self.min_granularity_ns.saturating_sub(ran_ns);
        // It may get ahead of the first waiter by its slice, taken as virtual time.
        let room = (slice_ns as i64).saturating_sub(ahead(task.vruntime, first.vruntime));
        let until_ahead = match u64::try_from(room) {
            // One more than the distance: it must be exceeded, not reached.
            Ok(room) => run_for_ns(room + 1, task.weight, task.penalty_ns_per_ms),
            Err(_) => 0,
        };
        Some(until_slice_ends.min(until_ahead.max(until_granularity)))
    }

    fn carry(&self, now_ns: u64, task: &Task) -> Carry {
        Carry {
            home: self.id,
            vruntime_ns: task.vruntime,
            lag_ns: ahead(self.min_vruntime, task.vruntime),
            left_at_ns: now_ns,
            ..Carry::default()
        }
    }

    fn knob(&mut self, name: &str) -> Option<&mut u64> {
        match name {
            "latency_ns" => Some(&mut self.latency_ns),
            "min_granularity_ns" => Some(&mut self.min_granularity_ns),
            "wakeup_granularity_ns" => Some(&mut self.wakeup_granularity_ns),
            _ => None,
        }
    }
}

impl SchedPolicy for Cfs {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn reserve(&mut self, slots: usize) -> Result<(), NoMemory> {
        let missing = slots.saturating_sub(self.tasks.0.len());
        self.tasks.0.try_reserve_exact(missing).map_err(|_| NoMemory)?;
        self.tasks.0.extend((0..missing).map(|_| Task::default()));
        Ok(())
    }

    fn enqueue(&mut self, now_ns: u64, slot: Slot, params: &Params, why: Enqueue) -> bool {
        self.charge(now_ns);
        self.advance_min();
        let mut task = Task {
            weight: params.weight(),
            penalty_ns_per_ms: params.penalty_ns_per_ms,
            kind: params.kind,
            ..Task::default()
        };
        task.vruntime = self.place(now_ns, &task, why);
        task.queued = true;
        self.load += task.weight;
        self.nr_running += 1;
        *self.tasks.at_mut(slot.0) = task;
        self.waiting.insert(&mut self.tasks, slot.0);
        self.should_preempt(slot.0)
    }

    fn dequeue(&mut self, now_ns: u64, slot: Slot, _why: Dequeue) -> Dequeued {
        self.charge(now_ns);
        self.forget_buddy(slot.0);
        let task = *self.tasks.at(slot.0);
        if !task.queued {
            return Dequeued::Gone(Carry::default());
        }
        if self.current == Some(slot.0) {
            self.current = None;
        } else {
            self.waiting.remove(&mut self.tasks, slot.0);
        }
        self.tasks.at_mut(slot.0).queued = false;
        self.load -= task.weight;
        self.nr_running -= 1;
        let carry = self.carry(now_ns, &task);
        self.advance_min();
        Dequeued::Gone(carry)
    }

    fn pick_next(&mut self, now_ns: u64) -> Pick {
        self.charge(now_ns);
        let Some(slot) = self.choose() else { return Pick::Nothing };
        if self.current != Some(slot) {
            self.stop_current(now_ns);
        }
        self.start(now_ns, slot);
        Pick::Run(Slot(slot))
    }

    fn set_current(&mut self, now_ns: u64, slot: Slot) {
        if !self.tasks.at(slot.0).queued {
            return;
        }
        if self.current != Some(slot.0) {
            self.stop_current(now_ns);
        }
        self.start(now_ns, slot.0);
    }

    fn put_prev(&mut self, now_ns: u64) {
        self.stop_current(now_ns);
    }

    fn tick(&mut self, now_ns: u64) -> bool {
        self.charge(now_ns);
        let over = self.may_run_ns() == Some(0);
        if over {
            // It ran long enough: it must not be chosen again as somebody's buddy.
            self.last = self.last.filter(|last| Some(*last) != self.current);
            self.skip = self.skip.filter(|skip| Some(*skip) != self.current);
        }
        over
    }

    fn next_event(&self, now_ns: u64) -> Option<u64> {
        let at_ns = self.charged_at_ns.saturating_add(self.may_run_ns()?);
        Some(at_ns.max(now_ns.saturating_add(1)))
    }

    fn yield_current(&mut self, now_ns: u64) {
        self.charge(now_ns);
        self.last = None;
        self.skip = self.current;
    }

    fn set_params(&mut self, now_ns: u64, slot: Slot, params: &Params) -> bool {
        self.charge(now_ns);
        let task = self.tasks.at_mut(slot.0);
        if !task.queued {
            return false;
        }
        let lighter = params.weight() < task.weight;
        self.load = self.load - task.weight + params.weight();
        task.weight = params.weight();
        task.penalty_ns_per_ms = params.penalty_ns_per_ms;
        task.kind = params.kind;
        // The virtual time stays, and with it the place in the tree (prio_changed_fair).
        if self.current == Some(slot.0) { lighter } else { self.should_preempt(slot.0) }
    }

    fn nr_running(&self) -> u32 {
        self.nr_running
    }

    fn load(&self) -> u64 {
        self.load
    }

    /// From the end of the tree: who would have waited longest here gains most.
    fn movable(&mut self, _now_ns: u64, accept: &mut dyn FnMut(Slot) -> bool) -> Option<Slot> {
        let mut at = self.waiting.last(&self.tasks);
        for _ in 0..MOVABLE_SCAN {
            let slot = at?;
            if accept(Slot(slot)) {
                return Some(Slot(slot));
            }
            at = self.waiting.prev(&self.tasks, slot);
        }
        None
    }

    fn stats(&self, slot: Slot, put: &mut dyn FnMut(&'static str, Stat)) {
        let Some(task) = self.tasks.0.get(slot.index()) else { return };
        put("se.vruntime", Stat::Ns(task.vruntime as i64));
        put("se.load.weight", Stat::Number(task.weight as i64));
        put("se.slice", Stat::Ns(self.slice_ns(task) as i64));
    }

    fn tunables(&self) -> &'static [&'static str] {
        &KNOBS
    }

    fn tunable(&self, name: &str) -> Option<u64> {
        match name {
            "latency_ns" => Some(self.latency_ns),
            "min_granularity_ns" => Some(self.min_granularity_ns),
            "wakeup_granularity_ns" => Some(self.wakeup_granularity_ns),
            _ => None,
        }
    }

    fn set_tunable(&mut self, name: &str, value: u64) -> Result<(), TunableError> {
        let range = if name == "wakeup_granularity_ns" { WAKEUP_RANGE } else { GRANULARITY_RANGE };
        let knob = self.knob(name).ok_or(TunableError::Unknown)?;
        if !range.contains(&value) {
            return Err(TunableError::OutOfRange);
        }
        *knob = value;
        Ok(())
    }
}
