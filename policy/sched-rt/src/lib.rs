//! Real-time scheduling: SCHED_FIFO, SCHED_RR, and the server that keeps them from starving the rest.
//!
//! **Problem.** sched(7): 99 priorities; the most urgent runnable task runs, FIFO until it gives up the
//! CPU, RR for at most a slice while others of its priority wait. A real-time task that loops must not
//! make the machine unusable.
//!
//! **Interface.** [`Rt`] implements [`SchedPolicy`] for the two; [`FairServer`] says when the fair
//! class is due although real-time tasks want the CPU.
//!
//! **Idea.** One list per priority and a bitmap of the lists in use, so that every operation is O(1).
//! The lists are chained through the tasks' own records; the running task stays at the head of its list.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod server;
#[cfg(test)]
mod tests;

pub use server::FairServer;

use alloc::vec::Vec;
use sched_api::weight::NICE_0_WEIGHT;
use sched_api::{
    Carry, Dequeue, Dequeued, Enqueue, MAX_RT_PRIO, NoMemory, Params, Pick, SchedKind, SchedPolicy, Slot,
    Stat, TunableError,
};

/// The slice of SCHED_RR: 100 ms (sched_rr_get_interval(2) tells it to programs).
pub const RR_SLICE_NS: u64 = 100_000_000;
/// How many waiting tasks `movable` looks at.
const MOVABLE_SCAN: usize = 32;
const NIL: u32 = u32::MAX;
const KNOBS: [&str; 1] = ["rr_timeslice_ns"];

/// What this policy knows about one task.
#[derive(Clone, Copy, Debug)]
struct Task {
    next: u32,
    prev: u32,
    priority: u8,
    round_robin: bool,
    queued: bool,
    /// Rest of the slice, for RR.
    left_ns: u64,
}

const ABSENT: Task =
    Task { next: NIL, prev: NIL, priority: 0, round_robin: false, queued: false, left_ns: RR_SLICE_NS };

/// A list of tasks by slot.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

/// One real-time run queue.
#[derive(Debug)]
pub struct Rt {
    tasks: Vec<Task>,
    lists: [List; MAX_RT_PRIO as usize],
    /// Bit p: list p is not empty.
    used: u128,
    current: Option<u32>,
    charged_at_ns: u64,
    nr_running: u32,
    rr_slice_ns: u64,
}

impl Default for Rt {
    fn default() -> Self {
        Rt {
            tasks: Vec::new(),
            lists: [List { head: NIL, tail: NIL }; MAX_RT_PRIO as usize],
            used: 0,
            current: None,
            charged_at_ns: 0,
            nr_running: 0,
            rr_slice_ns: RR_SLICE_NS,
        }
    }
}

impl Rt {
    /// The priority of the most urgent task in the queue (1..=99), 0 when it is empty. Balancing sends
    /// a real-time task to a CPU with a lower one.
    pub fn highest_priority(&self) -> u8 {
        match self.used {
            0 => 0,
            used => used.ilog2() as u8,
        }
    }

    /// Whether a second task waits besides the one that runs or will run.
    pub fn is_overloaded(&self) -> bool {
        self.nr_running > 1
    }

    fn push(&mut self, slot: u32, at_head: bool) {
        let priority = self.tasks[slot as usize].priority;
        let List { head, tail } = self.lists[priority as usize];
        let (prev, next) = if at_head { (NIL, head) } else { (tail, NIL) };
        let task = &mut self.tasks[slot as usize];
        (task.prev, task.next) = (prev, next);
        self.join(priority, prev, slot);
        self.join(priority, slot, next);
        self.used |= 1 << priority;
    }

    fn unlink(&mut self, slot: u32) {
        let Task { prev, next, priority, .. } = self.tasks[slot as usize];
        self.join(priority, prev, next);
        if self.lists[priority as usize].head == NIL {
            self.used &= !(1 << priority);
        }
    }

    /// Makes `next` follow `prev`; NIL stands for the ends of the list.
    fn join(&mut self, priority: u8, prev: u32, next: u32) {
        match prev {
            NIL => self.lists[priority as usize].head = next,
            prev => self.tasks[prev as usize].next = next,
        }
        match next {
            NIL => self.lists[priority as usize].tail = prev,
            next => self.tasks[next as usize].prev = prev,
        }
    }

    fn to_tail(&mut self, slot: u32) {
        self.unlink(slot);
        self.push(slot, false);
    }

    fn charge(&mut self, now_ns: u64) {
        let Some(current) = self.current else { return };
        let ran_ns = now_ns.saturating_sub(self.charged_at_ns);
        self.charged_at_ns = now_ns;
        let task = &mut self.tasks[current as usize];
        if task.round_robin {
            task.left_ns = task.left_ns.saturating_sub(ran_ns);
        }
    }

    /// Whether the running task is RR and another of its priority waits.
    fn shares_its_priority(&self, task: &Task) -> bool {
        let list = self.lists[task.priority as usize];
        task.round_robin && list.head != list.tail
    }

    fn preempts_current(&self, priority: u8) -> bool {
        self.current.is_none_or(|current| priority > self.tasks[current as usize].priority)
    }
}

impl SchedPolicy for Rt {
    fn name(&self) -> &'static str {
        "rt"
    }

    fn reserve(&mut self, slots: usize) -> Result<(), NoMemory> {
        let missing = slots.saturating_sub(self.tasks.len());
        self.tasks.try_reserve_exact(missing).map_err(|_| NoMemory)?;
        self.tasks.extend((0..missing).map(|_| ABSENT));
        Ok(())
    }

    fn enqueue(&mut self, now_ns: u64, slot: Slot, params: &Params, why: Enqueue) -> bool {
        self.charge(now_ns);
        let left_ns = match why {
            Enqueue::Move { carry } if carry.rr_left_ns > 0 => carry.rr_left_ns.min(self.rr_slice_ns),
            _ => self.rr_slice_ns,
        };
        self.tasks[slot.index()] = Task {
            priority: params.rt_priority.clamp(1, MAX_RT_PRIO - 1),
            round_robin: params.kind == SchedKind::RoundRobin,
            queued: true,
            left_ns,
            ..ABSENT
        };
        self.push(slot.0, false);
        self.nr_running += 1;
        self.preempts_current(self.tasks[slot.index()].priority)
    }

    fn dequeue(&mut self, now_ns: u64, slot: Slot, _why: Dequeue) -> Dequeued {
        self.charge(now_ns);
        let task = self.tasks[slot.index()];
        if task.queued {
            self.unlink(slot.0);
            self.nr_running -= 1;
            self.tasks[slot.index()].queued = false;
        }
        self.current = self.current.filter(|current| *current != slot.0);
        Dequeued::Gone(Carry { rr_left_ns: task.left_ns, left_at_ns: now_ns, ..Carry::default() })
    }

    fn pick_next(&mut self, now_ns: u64) -> Pick {
        self.charge(now_ns);
        if self.used == 0 {
            return Pick::Nothing;
        }
        let head = self.lists[self.highest_priority() as usize].head;
        self.set_current(now_ns, Slot(head));
        Pick::Run(Slot(head))
    }

    fn set_current(&mut self, now_ns: u64, slot: Slot) {
        self.charge(now_ns);
        self.current = Some(slot.0);
        self.charged_at_ns = now_ns;
    }

    /// A preempted task keeps its place at the head (sched(7)).
    fn put_prev(&mut self, now_ns: u64) {
        self.charge(now_ns);
        self.current = None;
    }

    fn tick(&mut self, now_ns: u64) -> bool {
        self.charge(now_ns);
        let Some(current) = self.current else { return false };
        let task = self.tasks[current as usize];
        if !task.round_robin || task.left_ns > 0 {
            return false;
        }
        self.tasks[current as usize].left_ns = self.rr_slice_ns;
        let other_waits = self.shares_its_priority(&task);
        if other_waits {
            self.to_tail(current);
        }
        other_waits
    }

    fn next_event(&self, now_ns: u64) -> Option<u64> {
        let task = self.tasks[self.current? as usize];
        let at_ns = self.charged_at_ns.saturating_add(task.left_ns);
        self.shares_its_priority(&task).then(|| at_ns.max(now_ns.saturating_add(1)))
    }

    fn yield_current(&mut self, now_ns: u64) {
        self.charge(now_ns);
        if let Some(current) = self.current {
            self.to_tail(current);
        }
    }

    /// sched(7): raised to the end of the new list, lowered to its front, unchanged priority stays.
    fn set_params(&mut self, now_ns: u64, slot: Slot, params: &Params) -> bool {
        self.charge(now_ns);
        let old = self.tasks[slot.index()];
        if !old.queued {
            return false;
        }
        let priority = params.rt_priority.clamp(1, MAX_RT_PRIO - 1);
        if priority != old.priority {
            self.unlink(slot.0);
            self.tasks[slot.index()].priority = priority;
            self.push(slot.0, priority < old.priority);
        }
        self.tasks[slot.index()].round_robin = params.kind == SchedKind::RoundRobin;
        match self.current {
            Some(current) if current == slot.0 => self.highest_priority() > priority,
            _ => self.preempts_current(priority),
        }
    }

    fn nr_running(&self) -> u32 {
        self.nr_running
    }

    fn load(&self) -> u64 {
        u64::from(self.nr_running) * NICE_0_WEIGHT
    }

    /// The most urgent one that waits.
    fn movable(&mut self, _now_ns: u64, accept: &mut dyn FnMut(Slot) -> bool) -> Option<Slot> {
        let (mut left, mut looked) = (self.used, 0);
        while left != 0 {
            let priority = left.ilog2();
            left &= !(1 << priority);
            let mut at = self.lists[priority as usize].head;
            while at != NIL {
                if Some(at) != self.current && accept(Slot(at)) {
                    return Some(Slot(at));
                }
                at = self.tasks[at as usize].next;
                looked += 1;
                if looked == MOVABLE_SCAN {
                    return None;
                }
            }
        }
        None
    }

    fn stats(&self, slot: Slot, put: &mut dyn FnMut(&'static str, Stat)) {
        let Some(task) = self.tasks.get(slot.index()) else { return };
        put("rt.priority", Stat::Number(i64::from(task.priority)));
        put("rt.time_slice", Stat::Ns(task.left_ns as i64));
    }

    fn tunables(&self) -> &'static [&'static str] {
        &KNOBS
    }

    fn tunable(&self, name: &str) -> Option<u64> {
        (name == KNOBS[0]).then_some(self.rr_slice_ns)
    }

    fn set_tunable(&mut self, name: &str, value: u64) -> Result<(), TunableError> {
        match (name == KNOBS[0], value) {
            (false, _) => Err(TunableError::Unknown),
            (true, 100_000..=10_000_000_000) => {
                self.rr_slice_ns = value;
                Ok(())
            }
            (true, _) => Err(TunableError::OutOfRange),
        }
    }
}
