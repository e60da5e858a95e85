//! Budget fair queueing: shares of the disk in sectors, by weight.
//!
//! **Problem.** A slice of time is worth much to who reads in order and little to who jumps, and how much
//! is served in it depends on the disk's mood: shares of time are no shares of the disk.
//!
//! **Idea.** A queue gets a *budget* of sectors, and the disk until the budget is used, the queue is empty
//! (after idling for it, as CFQ does) or a time-out has passed, which bounds what a slow queue takes. Whose
//! turn is next is decided in virtual time, which runs by sectors served (WF2Q+): a queue that was served
//! `s` sectors with weight `w` may finish `s / w` later than it started; of the queues that may have started
//! by now the one that finishes first is next. So shares are by weight whatever the sizes of requests are,
//! and no queue waits for more than one budget of each other.
//!
//! What Linux's BFQ has besides (low-latency heuristics, queue merging, groups) is not here.
//!
//! Source: Valente and Checconi, High throughput disk scheduling with fair bandwidth distribution, IEEE
//! Transactions on Computers 59(9), 2010; Linux's Documentation/block/bfq-iosched.rst.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use iosched_api::{
    Dir, Id, IoPrio, MS, Next, NoMemory, Nodes, Owners, Request, Scheduler, SchedulerInfo, Side, Sorted,
    Tunable,
};

/// The policy, for the table of those that can be chosen.
pub const INFO: SchedulerInfo = SchedulerInfo {
    name: "bfq",
    about: "shares of the disk in sectors, by weight",
    make: |depth| Ok(Box::new(Bfq::new(depth)?)),
};

const MOST: u64 = i32::MAX as u64;
const TUNABLES: &[Tunable] = &[
    Tunable { name: "slice_idle", min: 0, max: MOST },
    Tunable { name: "max_budget", min: 0, max: MOST },
    Tunable { name: "timeout_sync", min: 1, max: MOST },
    Tunable { name: "fifo_expire_sync", min: 1, max: MOST },
    Tunable { name: "fifo_expire_async", min: 1, max: MOST },
];
const DEFAULTS: [u64; 5] = [8, 0, 125, 125, 250];
const SLICE_IDLE: usize = 0;
const MAX_BUDGET: usize = 1;
const TIMEOUT: usize = 2;

/// `max_budget` 0: sectors that a queue may be served in one turn (Linux's default before it has measured).
const BUDGET: u64 = 16 * 1024;
/// Virtual time is counted finer than sectors.
const SCALE: u64 = 1 << 10;

#[derive(Clone, Copy, Default)]
struct Queue {
    sorted: Sorted,
    prio: IoPrio,
    sync: bool,
    started: u32,
    /// Virtual times of its turn.
    begin: u64,
    finish: u64,
    /// It has a place in virtual time: it has requests, or its turn is on.
    backlogged: bool,
}

impl Queue {
    /// Linux's weights: 10 for the lowest level of best effort, 80 for the highest; real time and idle stand apart.
    fn weight(&self) -> u64 {
        (8 - u64::from(self.prio.level.min(7))) * 10
    }
}

struct Turn {
    at: usize,
    served: u64,
    end_ns: u64,
}

/// The scheduler.
pub struct Bfq {
    nodes: Nodes,
    queues: Owners<Queue>,
    turn: Option<Turn>,
    now_virtual: u64,
    position: u64,
    waiting: usize,
    started: u32,
    knobs: [u64; 5],
}

/// The queue's name in the table: the owner, or the one of all asynchronous writes of a priority.
fn key(request: &Request) -> u64 {
    const SHARED: u64 = 1 << 63;
    if request.sync {
        request.owner & !SHARED
    } else {
        SHARED | (request.prio.rank() as u64) << 8 | u64::from(request.prio.level)
    }
}

impl Bfq {
    pub fn new(depth: u32) -> Result<Bfq, NoMemory> {
        Ok(Bfq {
            nodes: Nodes::new(depth)?,
            queues: Owners::new(depth)?,
            turn: None,
            now_virtual: 0,
            position: 0,
            waiting: 0,
            started: 0,
            knobs: DEFAULTS,
        })
    }

    fn budget(&self) -> u64 {
        if self.knobs[MAX_BUDGET] == 0 { BUDGET } else { self.knobs[MAX_BUDGET] }
    }

    fn idle_ns(&self) -> u64 {
        self.knobs[SLICE_IDLE] * MS
    }

    fn take(&mut self, id: Id) {
        let home = self.nodes.get(id).home as usize;
        self.queues.get_mut(home).own.sorted.remove(&mut self.nodes, id);
        self.nodes.get_mut(id).home = u32::MAX;
        self.waiting -= 1;
    }

    /// Gives a queue its place in virtual time: it begins no earlier than it finished last, nor than now.
    fn place(&mut self, at: usize) {
        let (budget, now) = (self.budget(), self.now_virtual);
        let queue = &mut self.queues.get_mut(at).own;
        queue.begin = queue.finish.max(now);
        queue.finish = queue.begin + budget * SCALE / queue.weight();
        queue.backlogged = true;
    }

    /// Ends the turn: the queue is charged what it was served. One that was slow is charged a whole budget.
    fn end_turn(&mut self, timed_out: bool) {
        let Some(turn) = self.turn.take() else { return };
        let charged = if timed_out { self.budget() } else { turn.served };
        let queue = &mut self.queues.get_mut(turn.at).own;
        queue.finish = queue.begin + charged * SCALE / queue.weight();
        queue.backlogged = false;
        let (weight, empty) = (queue.weight(), queue.sorted.is_empty());
        self.now_virtual += charged * SCALE / weight.max(self.total_weight());
        if !empty {
            self.place(turn.at);
        }
    }

    fn total_weight(&self) -> u64 {
        let queues = (0..self.queues.len()).map(|at| &self.queues.get(at).own);
        queues.filter(|queue| queue.backlogged).map(Queue::weight).sum()
    }

    /// The queue whose turn is next: the highest class; in it the first to finish of those that may have begun.
    fn next_queue(&mut self) -> Option<usize> {
        let waiting = |at: &usize| !self.queues.get(*at).own.sorted.is_empty();
        let class =
            (0..self.queues.len()).filter(waiting).map(|at| self.queues.get(at).own.prio.rank()).min()?;
        let of_class = |at: &usize| waiting(at) && self.queues.get(*at).own.prio.rank() == class;
        let first = (0..self.queues.len()).filter(of_class).map(|at| self.queues.get(at).own.begin).min()?;
        // With nobody who may have begun, virtual time jumps to the first that may.
        let now = self.now_virtual.max(first);
        let eligible = |at: &usize| of_class(at) && self.queues.get(*at).own.begin <= now;
        let next = (0..self.queues.len()).filter(eligible).min_by_key(|at| self.queues.get(*at).own.finish);
        self.now_virtual = now;
        next
    }

    fn choose(&self, queue: &Queue, now_ns: u64) -> Option<Id> {
        let oldest = queue.sorted.oldest()?;
        if self.nodes.get(oldest).expires_ns <= now_ns {
            return Some(oldest);
        }
        queue.sorted.from(&self.nodes, self.position).or(queue.sorted.lowest())
    }

    /// What the turn under way says: go on with it, or wait. `None`: it is over.
    fn continue_turn(&mut self, now_ns: u64) -> Option<Next> {
        let turn = self.turn.as_ref()?;
        let owner = self.queues.get(turn.at);
        let queue = &owner.own;
        if turn.served >= self.budget() {
            self.end_turn(false);
            return None;
        }
        if now_ns >= turn.end_ns {
            self.end_turn(true);
            return None;
        }
        if !queue.sorted.is_empty() {
            return Some(Next::Nothing);
        }
        let idles = queue.sync && owner.is_quick(self.idle_ns());
        if idles && queue.started > 0 {
            return Some(Next::WaitUntil(turn.end_ns));
        }
        let until_ns = owner.done_ns.saturating_add(self.idle_ns()).min(turn.end_ns);
        if idles && until_ns > now_ns {
            return Some(Next::WaitUntil(until_ns));
        }
        self.end_turn(false);
        None
    }
}

impl Scheduler for Bfq {
    fn insert(&mut self, id: Id, request: &Request, now_ns: u64) {
        let at = self.queues.find_or_make(key(request), now_ns);
        let expire_ns = self.knobs[if request.sync { 3 } else { 4 }] * MS;
        self.nodes.set(id, request, now_ns.saturating_add(expire_ns), at as u32);
        self.queues.came(at, request.start, request.end(), now_ns);
        let queue = &mut self.queues.get_mut(at).own;
        (queue.prio, queue.sync) = (request.prio, request.sync);
        let placed = queue.backlogged;
        queue.sorted.add(&mut self.nodes, id);
        self.waiting += 1;
        if !placed {
            self.place(at);
        }
    }

    fn next(&mut self, now_ns: u64) -> Next {
        if self.waiting == 0 {
            return Next::Nothing;
        }
        if let Some(wait @ Next::WaitUntil(_)) = self.continue_turn(now_ns) {
            return wait;
        }
        if self.turn.is_none() {
            let Some(at) = self.next_queue() else { return Next::Nothing };
            self.turn = Some(Turn { at, served: 0, end_ns: now_ns + self.knobs[TIMEOUT] * MS });
        }
        let Some(turn) = &self.turn else { return Next::Nothing };
        let at = turn.at;
        let queue = self.queues.get(at).own;
        let Some(id) = self.choose(&queue, now_ns) else { return Next::Nothing };
        let node = self.nodes.get(id);
        let sectors = node.end - node.start;
        self.position = node.end;
        if let Some(turn) = &mut self.turn {
            turn.served += sectors;
        }
        self.take(id);
        self.queues.get_mut(at).own.started += 1;
        self.started += 1;
        Next::Start(id)
    }

    fn completed(&mut self, _id: Id, request: &Request, _started_ns: u64, now_ns: u64) {
        // A request that another scheduler started may be unknown here.
        self.started = self.started.saturating_sub(1);
        if let Some(at) = self.queues.find(key(request)) {
            self.queues.done(at, now_ns);
            let queue = &mut self.queues.get_mut(at).own;
            queue.started = queue.started.saturating_sub(1);
        }
    }

    fn find_merge(&self, dir: Dir, start: u64, end: u64) -> Option<(Id, Side)> {
        let queues = (0..self.queues.len()).map(|at| &self.queues.get(at).own.sorted);
        queues.filter_map(|sorted| sorted.find_merge(&self.nodes, dir, start, end, true)).next()
    }

    fn grown(&mut self, id: Id, request: &Request, _now_ns: u64) {
        let home = self.nodes.get(id).home as usize;
        self.queues.get_mut(home).own.sorted.moved(&mut self.nodes, id, request.start, request.end());
    }

    fn remove(&mut self, id: Id) -> bool {
        let home = self.nodes.get(id).home;
        if home == u32::MAX {
            return false;
        }
        let owner = self.queues.get_mut(home as usize);
        owner.busy = owner.busy.saturating_sub(1);
        self.take(id);
        true
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn tunables(&self) -> &'static [Tunable] {
        TUNABLES
    }

    fn tunable(&self, place: usize) -> u64 {
        self.knobs.get(place).copied().unwrap_or(0)
    }

    fn set_tunable(&mut self, place: usize, value: u64) {
        if let Some(knob) = self.knobs.get_mut(place) {
            *knob = value;
        }
    }
}
