//! Earliest Eligible Virtual Deadline First, with the rules of Linux 6.12 (without groups).
//!
//! **Problem.** CFS gives shares; how soon a task runs it leaves to heuristics about sleepers. A task
//! that needs little but soon has no way to say so.
//!
//! **Interface.** [`Eevdf`] implements [`SchedPolicy`]; [`INFO`] is how the mechanism finds it. A task
//! asks for a slice with sched_setattr(2) (`Params::slice_ns`); a shorter slice means sooner, not more.
//!
//! **Idea** (Stoica and Abdel-Wahab, 1995). Everybody's virtual time should be equal; its average over
//! the queue, weighted, is `V`. A task's *lag* is what it is owed: V minus its own virtual time. Who is
//! owed something (lag >= 0) is *eligible*. A task asks for one slice after another, each with a
//! deadline, in virtual time; of the eligible tasks the one with the earliest deadline runs.
//!
//! ```text
//!   vruntime              deadline = vruntime + slice/weight
//!      |------ request ------|
//! ------------|----------------------------------> virtual time
//!             V: this one is eligible, since its vruntime is not beyond V
//! ```
//!
//! The tree is ordered by deadline, and every node knows the least vruntime below it, so the search for
//! the first eligible one goes down a single path. A sleeper takes its lag along. One with a debt is not
//! let go at once (or sleeping briefly would cancel debts): it stays in the tree, without running, until
//! V has passed it (*delayed dequeue*).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use rbtree::{Arena, Links, NIL, Tree};
use sched_api::weight::{aged_ns, run_for_ns, to_virtual_ns};
use sched_api::{
    Carry, Dequeue, Dequeued, Enqueue, NoMemory, Params, Pick, PolicyInfo, QueueConfig, SLICE_MAX_NS,
    SLICE_MIN_NS, SchedKind, SchedPolicy, Slot, Stat, TunableError, cpu_factor,
};

/// Entry for the list of policies.
pub const INFO: PolicyInfo = PolicyInfo {
    name: "eevdf",
    about: "Earliest Eligible Virtual Deadline First (Linux 6.12): short slices run sooner",
    make,
};

fn make(config: QueueConfig) -> Result<Box<dyn SchedPolicy>, NoMemory> {
    let mut eevdf = Eevdf::new(config);
    eevdf.reserve(config.slots)?;
    Ok(Box::new(eevdf))
}

/// Lag is cut off at two slices, or at this when that is more (a tick in Linux, here at HZ=250).
const LAG_FLOOR_NS: u64 = 4_000_000;
/// How many waiting tasks `movable` looks at (sysctl_sched_nr_migrate).
const MOVABLE_SCAN: usize = 32;
const KNOBS: [&str; 1] = ["base_slice_ns"];

/// What this policy knows about one task.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    links: Links,
    /// Both wrap; compare by the sign of the difference.
    vruntime: u64,
    deadline: u64,
    /// Least vruntime in the subtree of which this is the root.
    least_vruntime: u64,
    weight: u64,
    penalty_ns_per_ms: u32,
    kind: SchedKind,
    /// Requested slice, 0 for the queue's.
    own_slice_ns: u64,
    queued: bool,
    /// Asleep, waiting for its debt to be paid.
    delayed: bool,
}

impl Task {
    fn new(params: &Params) -> Task {
        Task {
            weight: params.weight(),
            penalty_ns_per_ms: params.penalty_ns_per_ms,
            kind: params.kind,
            own_slice_ns: own_slice(params),
            ..Task::default()
        }
    }
}

fn own_slice(params: &Params) -> u64 {
    match params.slice_ns {
        0 => 0,
        ns => ns.clamp(SLICE_MIN_NS, SLICE_MAX_NS),
    }
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

    fn least(&self, a: u64, subtree: u32) -> u64 {
        match subtree {
            NIL => a,
            node if ahead(self.at(node).least_vruntime, a) < 0 => self.at(node).least_vruntime,
            _ => a,
        }
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
        ahead(self.at(b).deadline, self.at(a).deadline) > 0
    }

    fn summarize(&mut self, node: u32) -> bool {
        let task = self.at(node);
        let least = self.least(self.least(task.vruntime, task.links.left()), task.links.right());
        let changed = least != task.least_vruntime;
        self.at_mut(node).least_vruntime = least;
        changed
    }
}

/// How far `a` is ahead of `b` in virtual time.
fn ahead(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b) as i64
}

/// One EEVDF run queue.
#[derive(Debug)]
pub struct Eevdf {
    config: QueueConfig,
    tasks: Tasks,
    /// The waiting tasks (and delayed sleepers) by deadline.
    waiting: Tree,
    current: Option<u32>,
    /// The running task may finish its request although another has an earlier deadline, which halves
    /// the number of switches (RUN_TO_PARITY). Ends with the request, or when a shorter slice wakes.
    protected: bool,
    /// When `current` was last charged.
    charged_at_ns: u64,
    /// A point near the least vruntime, never going back: the origin for `weighted_sum`.
    origin: u64,
    /// Sum over the tree of (vruntime - origin) * weight, wrapping, and of the weights.
    weighted_sum: i64,
    tree_weight: u64,
    /// Weight and number of the tasks that want the CPU.
    load: u64,
    nr_running: u32,
    base_slice_ns: u64,
}

impl Eevdf {
    /// An empty queue. The base slice is 0.7 ms times `1 + log2(min(cpus, 8))`.
    pub fn new(config: QueueConfig) -> Eevdf {
        Eevdf {
            config,
            tasks: Tasks::default(),
            waiting: Tree::new(),
            current: None,
            protected: false,
            charged_at_ns: 0,
            origin: 0,
            weighted_sum: 0,
            tree_weight: 0,
            load: 0,
            nr_running: 0,
            base_slice_ns: 700_000 * cpu_factor(config.cpus),
        }
    }

    fn slice_ns(&self, task: &Task) -> u64 {
        match task.own_slice_ns {
            0 => self.base_slice_ns,
            own => own,
        }
    }

    /// The slice in the task's virtual time: the length of a request.
    fn request(&self, task: &Task) -> u64 {
        to_virtual_ns(self.slice_ns(task), task.weight)
    }

    // The average, and who is eligible.

    /// V, the weighted average virtual time of the queue (`avg_vruntime`), rounded down so that there is
    /// always an eligible task.
    fn average(&self) -> u64 {
        let (mut sum, mut weight) = (self.weighted_sum, self.tree_weight);
        if let Some(current) = self.current {
            let task = self.tasks.at(current);
            sum = sum.wrapping_add(self.moment(task));
            weight += task.weight;
        }
        match weight {
            0 => self.origin,
            weight => self.origin.wrapping_add(sum.div_euclid(weight as i64) as u64),
        }
    }

    fn moment(&self, task: &Task) -> i64 {
        ahead(task.vruntime, self.origin).wrapping_mul(task.weight as i64)
    }

    /// What the task is owed, cut off at two slices either way (`update_entity_lag`).
    fn lag(&self, task: &Task) -> i64 {
        let limit = to_virtual_ns((2 * self.slice_ns(task)).max(LAG_FLOOR_NS), task.weight) as i64;
        ahead(self.average(), task.vruntime).clamp(-limit, limit)
    }

    fn is_eligible(&self, slot: u32) -> bool {
        ahead(self.tasks.at(slot).vruntime, self.average()) <= 0
    }

    /// Moves the origin up to the least vruntime, so that `weighted_sum` stays small.
    fn advance_origin(&mut self) {
        let current = self.current.map(|slot| self.tasks.at(slot).vruntime);
        let tree = self.waiting.root().map(|slot| self.tasks.at(slot).least_vruntime);
        let least = match (current, tree) {
            (Some(a), Some(b)) => Some(if ahead(a, b) < 0 { a } else { b }),
            (one, other) => one.or(other),
        };
        let by = least.map_or(0, |least| ahead(least, self.origin));
        if by > 0 {
            self.origin = self.origin.wrapping_add(by as u64);
            let moved = (self.tree_weight as i64).wrapping_mul(by);
            self.weighted_sum = self.weighted_sum.wrapping_sub(moved);
        }
    }

    // The tree.

    fn insert(&mut self, slot: u32) {
        let task = self.tasks.at(slot);
        let (moment, weight) = (self.moment(task), task.weight);
        self.weighted_sum = self.weighted_sum.wrapping_add(moment);
        self.tree_weight += weight;
        self.waiting.insert(&mut self.tasks, slot);
    }

    fn remove(&mut self, slot: u32) {
        let task = self.tasks.at(slot);
        let (moment, weight) = (self.moment(task), task.weight);
        self.waiting.remove(&mut self.tasks, slot);
        self.weighted_sum = self.weighted_sum.wrapping_sub(moment);
        self.tree_weight -= weight;
    }

    /// Takes the task out of the tree or off the CPU, whichever it is in.
    fn take_out(&mut self, slot: u32) {
        if self.current == Some(slot) {
            self.current = None;
        } else {
            self.remove(slot);
        }
    }

    // The running task.

    /// Charges the running task, and gives it a new deadline when its request is fulfilled
    /// (`update_curr`, `update_deadline`). Answers whether it was.
    fn charge(&mut self, now_ns: u64) -> bool {
        let Some(current) = self.current else { return false };
        let ran_ns = now_ns.saturating_sub(self.charged_at_ns);
        let task = self.tasks.at(current);
        let aged_ns = aged_ns(ran_ns, task.weight, task.penalty_ns_per_ms);
        if aged_ns == 0 {
            return false; // too little to show; it stays on the account
        }
        let vruntime = task.vruntime.wrapping_add(aged_ns);
        let fulfilled = ahead(vruntime, task.deadline) >= 0;
        let deadline = if fulfilled { vruntime.wrapping_add(self.request(task)) } else { task.deadline };
        self.protected &= !fulfilled;
        self.charged_at_ns = now_ns;
        let task = self.tasks.at_mut(current);
        (task.vruntime, task.deadline) = (vruntime, deadline);
        self.advance_origin();
        fulfilled
    }

    fn stop_current(&mut self, now_ns: u64) {
        self.charge(now_ns);
        if let Some(slot) = self.current.take() {
            self.insert(slot);
        }
    }

    fn start(&mut self, now_ns: u64, slot: u32) {
        if self.current != Some(slot) {
            self.remove(slot);
            self.current = Some(slot);
        }
        self.protected = true;
        self.charged_at_ns = now_ns;
    }

    // Choosing.

    /// The eligible task with the earliest deadline (`pick_eevdf`). May be a delayed sleeper.
    fn choose(&self) -> Option<u32> {
        let average = self.average();
        let eligible = |vruntime: u64| ahead(vruntime, average) <= 0;
        let current = self.current.filter(|slot| eligible(self.tasks.at(*slot).vruntime));
        if current.is_some() && self.protected {
            return current;
        }
        let best = self.first_eligible(eligible);
        match (current, best) {
            (Some(c), Some(b)) => Some(if self.tasks.less(c, b) { c } else { b }), // a tie changes tasks
            // Rounding makes everybody ineligible only if the sum wrapped; then anyone will do.
            (c, b) => c.or(b).or(self.waiting.first()).or(self.current),
        }
    }

    /// Down from the root: to the left while somebody there is eligible (all have earlier deadlines),
    /// else this node, else to the right.
    fn first_eligible(&self, eligible: impl Fn(u64) -> bool) -> Option<u32> {
        let first = self.waiting.first()?;
        if eligible(self.tasks.at(first).vruntime) {
            return Some(first);
        }
        let mut at = self.waiting.root()?;
        while at != NIL {
            let task = self.tasks.at(at);
            let left = task.links.left();
            if left != NIL && eligible(self.tasks.at(left).least_vruntime) {
                at = left;
            } else if eligible(task.vruntime) {
                return Some(at);
            } else {
                at = task.links.right();
            }
        }
        None
    }

    /// Whether a task that just became runnable should run at once (`check_preempt_wakeup_fair`).
    fn should_preempt(&mut self, slot: u32) -> bool {
        let Some(current) = self.current else { return true };
        let (running, woken) = (self.tasks.at(current), self.tasks.at(slot));
        if running.kind == SchedKind::Idle && woken.kind != SchedKind::Idle {
            return true;
        }
        if woken.kind != SchedKind::Normal {
            return false;
        }
        let shorter = self.slice_ns(woken) < self.slice_ns(running);
        if shorter && self.is_eligible(slot) && self.tasks.less(slot, current) {
            self.protected = false;
        }
        self.choose() == Some(slot)
    }

    // Entering.

    /// Sets virtual time and deadline of a task that is about to enter (`place_entity`).
    fn place(&self, task: &mut Task, lag: i64, deadline_in: Option<u64>) {
        task.vruntime = self.average().wrapping_sub(self.inflated(lag, task.weight) as u64);
        let request = deadline_in.unwrap_or_else(|| self.request(task));
        task.deadline = task.vruntime.wrapping_add(request);
    }

    /// A task that enters with lag moves the average towards itself, by its part of the total weight:
    /// V' = V - lag * w / (W + w). To have `lag` left after that it enters with lag * (W + w) / W.
    fn inflated(&self, lag: i64, weight: u64) -> i64 {
        let others = self.tree_weight + self.current.map_or(0, |slot| self.tasks.at(slot).weight);
        if others == 0 {
            return 0; // alone it is the average
        }
        // Lag is cut off at two slices, so the product is below 2^38 or so.
        lag.saturating_add(lag.saturating_mul(weight as i64) / others as i64)
    }

    fn entry_of(&self, task: &Task, why: Enqueue) -> (i64, Option<u64>) {
        let limit = to_virtual_ns((2 * self.slice_ns(task)).max(LAG_FLOOR_NS), task.weight) as i64;
        match why {
            // A child's first request is half as long, so that it gets going (PLACE_DEADLINE_INITIAL).
            Enqueue::New => (0, Some(self.request(task) / 2)),
            Enqueue::Wake { carry, .. } => (carry.lag_ns.clamp(-limit, limit), None),
            Enqueue::Move { carry } => {
                let rest = Some(carry.deadline_in_ns).filter(|ns| *ns > 0 && *ns <= self.request(task));
                (carry.lag_ns.clamp(-limit, limit), rest)
            }
        }
    }

    fn count(&mut self, weight: u64) {
        self.load += weight;
        self.nr_running += 1;
    }

    fn uncount(&mut self, weight: u64) {
        self.load -= weight;
        self.nr_running -= 1;
    }

    /// Completes the dequeue of a task that is already neither in the tree nor on the CPU.
    fn release(&mut self, now_ns: u64, slot: u32, lag: i64, why: Dequeue) -> Carry {
        let task = self.tasks.at_mut(slot);
        // Who stayed behind only to pay back does not come out with credit (DELAY_ZERO).
        let lag = if task.delayed { lag.min(0) } else { lag };
        task.queued = false;
        task.delayed = false;
        let deadline_in = ahead(task.deadline, task.vruntime);
        let carry = Carry {
            home: self.config.id,
            vruntime_ns: task.vruntime,
            lag_ns: lag,
            deadline_in_ns: if why == Dequeue::Sleep { 0 } else { deadline_in.max(0) as u64 },
            left_at_ns: now_ns,
            rr_left_ns: 0,
        };
        self.advance_origin();
        carry
    }

    /// Keeps the sleeper in the tree.
    fn delay(&mut self, slot: u32) {
        if self.current == Some(slot) {
            self.current = None;
            self.insert(slot);
        }
        self.tasks.at_mut(slot).delayed = true;
        self.uncount(self.tasks.at(slot).weight);
    }
}

impl SchedPolicy for Eevdf {
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
        let mut task = Task::new(params);
        let (lag, deadline_in) = self.entry_of(&task, why);
        self.place(&mut task, lag, deadline_in);
        task.queued = true;
        *self.tasks.at_mut(slot.0) = task;
        self.insert(slot.0);
        self.count(task.weight);
        self.advance_origin();
        self.should_preempt(slot.0)
    }

    fn dequeue(&mut self, now_ns: u64, slot: Slot, why: Dequeue) -> Dequeued {
        self.charge(now_ns);
        let task = *self.tasks.at(slot.0);
        if !task.queued {
            return Dequeued::Gone(Carry::default());
        }
        if why == Dequeue::Sleep && !task.delayed && !self.is_eligible(slot.0) {
            self.delay(slot.0);
            return Dequeued::Delayed;
        }
        let lag = self.lag(&task);
        self.take_out(slot.0);
        if !task.delayed {
            self.uncount(task.weight);
        }
        Dequeued::Gone(self.release(now_ns, slot.0, lag, why))
    }

    fn wake_delayed(&mut self, now_ns: u64, slot: Slot) -> bool {
        self.charge(now_ns);
        let mut task = *self.tasks.at(slot.0);
        if !task.delayed {
            return false;
        }
        if self.lag(&task) > 0 {
            self.remove(slot.0);
            self.place(&mut task, 0, None);
            *self.tasks.at_mut(slot.0) = task;
            self.insert(slot.0);
        }
        self.tasks.at_mut(slot.0).delayed = false;
        self.count(task.weight);
        self.should_preempt(slot.0)
    }

    fn pick_next(&mut self, now_ns: u64) -> Pick {
        self.charge(now_ns);
        let Some(slot) = self.choose() else { return Pick::Nothing };
        let task = *self.tasks.at(slot);
        if task.delayed {
            let lag = self.lag(&task);
            self.remove(slot);
            return Pick::Drop(Slot(slot), self.release(now_ns, slot, lag, Dequeue::Sleep));
        }
        if self.current != Some(slot) {
            self.stop_current(now_ns);
        }
        self.start(now_ns, slot);
        Pick::Run(Slot(slot))
    }

    fn set_current(&mut self, now_ns: u64, slot: Slot) {
        let task = self.tasks.at(slot.0);
        if !task.queued || task.delayed {
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
        self.charge(now_ns) && self.nr_running > 1
    }

    fn next_event(&self, now_ns: u64) -> Option<u64> {
        let task = self.tasks.at(self.current?);
        if self.nr_running < 2 {
            return None;
        }
        let to_go = ahead(task.deadline, task.vruntime).max(1) as u64;
        let run_ns = run_for_ns(to_go, task.weight, task.penalty_ns_per_ms);
        // Rounding in the conversion may leave it a nanosecond short; the next event is then that close.
        Some(self.charged_at_ns.saturating_add(run_ns).max(now_ns.saturating_add(1)))
    }

    /// Pushes the deadline one request back (`yield_task_fair` of 6.12).
    fn yield_current(&mut self, now_ns: u64) {
        self.charge(now_ns);
        let Some(slot) = self.current else { return };
        let request = self.request(self.tasks.at(slot));
        let task = self.tasks.at_mut(slot);
        task.deadline = task.deadline.wrapping_add(request);
        self.protected = false;
    }

    /// A new weight keeps lag and remaining request in real terms: both scale with old/new
    /// (`reweight_eevdf`). A new slice counts from the next request.
    fn set_params(&mut self, now_ns: u64, slot: Slot, params: &Params) -> bool {
        self.charge(now_ns);
        let mut task = *self.tasks.at(slot.0);
        if !task.queued {
            return false;
        }
        let running = self.current == Some(slot.0);
        let average = self.average();
        self.take_out(slot.0);
        let scale = |by: i64| (by.saturating_mul(task.weight as i64) / params.weight() as i64) as u64;
        let (lag, to_go) = (ahead(average, task.vruntime), ahead(task.deadline, average));
        let (vruntime, deadline) = (average.wrapping_sub(scale(lag)), average.wrapping_add(scale(to_go)));
        if !task.delayed {
            self.load = self.load - task.weight + params.weight();
        }
        task = Task { vruntime, deadline, queued: true, delayed: task.delayed, ..Task::new(params) };
        *self.tasks.at_mut(slot.0) = task;
        if running {
            self.current = Some(slot.0);
        } else {
            self.insert(slot.0);
        }
        self.advance_origin();
        !task.delayed && (running || self.should_preempt(slot.0))
    }

    fn nr_running(&self) -> u32 {
        self.nr_running
    }

    fn load(&self) -> u64 {
        self.load
    }

    /// From the end of the tree: the latest deadline waits longest here.
    fn movable(&mut self, _now_ns: u64, accept: &mut dyn FnMut(Slot) -> bool) -> Option<Slot> {
        let mut at = self.waiting.last(&self.tasks);
        for _ in 0..MOVABLE_SCAN {
            let slot = at?;
            if !self.tasks.at(slot).delayed && accept(Slot(slot)) {
                return Some(Slot(slot));
            }
            at = self.waiting.prev(&self.tasks, slot);
        }
        None
    }

    fn stats(&self, slot: Slot, put: &mut dyn FnMut(&'static str, Stat)) {
        let Some(task) = self.tasks.0.get(slot.index()) else { return };
        put("se.vruntime", Stat::Ns(task.vruntime as i64));
        put("se.deadline", Stat::Ns(task.deadline as i64));
        put("se.vlag", Stat::Ns(if task.queued { self.lag(task) } else { 0 }));
        put("se.slice", Stat::Ns(self.slice_ns(task) as i64));
        put("se.load.weight", Stat::Number(task.weight as i64));
    }

    fn tunables(&self) -> &'static [&'static str] {
        &KNOBS
    }

    fn tunable(&self, name: &str) -> Option<u64> {
        (name == KNOBS[0]).then_some(self.base_slice_ns)
    }

    fn set_tunable(&mut self, name: &str, value: u64) -> Result<(), TunableError> {
        if name != KNOBS[0] {
            return Err(TunableError::Unknown);
        }
        if !(SLICE_MIN_NS..=SLICE_MAX_NS).contains(&value) {
            return Err(TunableError::OutOfRange);
        }
        self.base_slice_ns = value;
        Ok(())
    }
}
