//! Completely fair queueing: time slices of the disk for each process.
//!
//! **Problem.** Deadlines are fair to requests, not to programs: who has a hundred requests waiting gets a
//! hundred times what the one gets who asks for a block at a time.
//!
//! **Idea.** Each owner has a queue of its synchronous requests; asynchronous writes share one for each
//! priority. Queues get the disk in turn for a slice of time (100 ms; 40 ms asynchronous), longer or shorter
//! by I/O priority, shorter when many want a turn so that all have one within `target_latency`. During its
//! slice a queue that runs empty keeps the disk idle for up to `slice_idle` if its owner usually comes back
//! by then. Within a queue requests are served by sector, jumping back only when that is half as far, and
//! the oldest first when it is too old. Real-time queues come before all others, idle ones after.
//!
//! Source: Linux's block/cfq-iosched.c (4.20) for the parameters.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use iosched_api::{
    Dir, Id, IoClass, IoPrio, MS, Next, NoMemory, Nodes, Owner, Owners, Request, Scheduler, SchedulerInfo,
    Side, Sorted, Tunable,
};

/// The policy, for the table of those that can be chosen.
pub const INFO: SchedulerInfo = SchedulerInfo {
    name: "cfq",
    about: "time slices of the disk for each process",
    make: |depth| Ok(Box::new(Cfq::new(depth)?)),
};

const MOST: u64 = i32::MAX as u64;
const TUNABLES: &[Tunable] = &[
    Tunable { name: "quantum", min: 1, max: MOST },
    Tunable { name: "fifo_expire_sync", min: 1, max: MOST },
    Tunable { name: "fifo_expire_async", min: 1, max: MOST },
    Tunable { name: "back_seek_max", min: 0, max: MOST },
    Tunable { name: "back_seek_penalty", min: 1, max: MOST },
    Tunable { name: "slice_sync", min: 1, max: MOST },
    Tunable { name: "slice_async", min: 1, max: MOST },
    Tunable { name: "slice_async_rq", min: 1, max: MOST },
    Tunable { name: "slice_idle", min: 0, max: MOST },
    Tunable { name: "target_latency", min: 1, max: MOST },
];

/// The defaults, in the order of [`TUNABLES`]: milliseconds, KiB, numbers.
const DEFAULTS: [u64; 10] = [8, 125, 250, 16 * 1024, 2, 100, 40, 2, 8, 300];
const QUANTUM: usize = 0;
const BACK_MAX: usize = 3;
const BACK_PENALTY: usize = 4;
const ASYNC_RQ: usize = 7;
const SLICE_IDLE: usize = 8;
const TARGET: usize = 9;

/// No slice is shorter, however many want one.
const SLICE_MIN_NS: u64 = 10 * MS;

/// What is added to an owner's record: its queue.
#[derive(Clone, Copy, Default)]
struct Queue {
    sorted: Sorted,
    prio: IoPrio,
    sync: bool,
    started: u32,
    /// When it had its last turn: the lowest is next.
    turn: u64,
}

/// The scheduler.
pub struct Cfq {
    nodes: Nodes,
    queues: Owners<Queue>,
    active: Option<usize>,
    slice_end_ns: u64,
    turns: u64,
    position: u64,
    waiting: usize,
    /// Under way, by sync.
    started: [u32; 2],
    knobs: [u64; 10],
}

/// The queue's name in the table: the owner, or one of the shared ones.
fn key(request: &Request) -> u64 {
    const SHARED: u64 = 1 << 63;
    if request.sync {
        request.owner & !SHARED
    } else {
        SHARED | (request.prio.rank() as u64) << 8 | u64::from(request.prio.level)
    }
}

impl Cfq {
    pub fn new(depth: u32) -> Result<Cfq, NoMemory> {
        Ok(Cfq {
            nodes: Nodes::new(depth)?,
            queues: Owners::new(depth)?,
            active: None,
            slice_end_ns: 0,
            turns: 0,
            position: 0,
            waiting: 0,
            started: [0; 2],
            knobs: DEFAULTS,
        })
    }

    fn slice_idle_ns(&self) -> u64 {
        self.knobs[SLICE_IDLE] * MS
    }

    fn take(&mut self, id: Id) {
        let home = self.nodes.get(id).home as usize;
        self.queues.get_mut(home).own.sorted.remove(&mut self.nodes, id);
        self.nodes.get_mut(id).home = u32::MAX;
        self.waiting -= 1;
    }

    /// How long a queue's turn is.
    fn slice_ns(&self, queue: &Queue) -> u64 {
        let base = self.knobs[if queue.sync { 5 } else { 6 }] * MS;
        // A fifth more or less for each level from the middle one.
        let slice = base / 5 * (5 + 4 - u64::from(queue.prio.level.min(7))).max(1);
        let wanting = (0..self.queues.len()).filter(|at| !self.queues.get(*at).own.sorted.is_empty()).count();
        let fair = self.knobs[TARGET] * MS / (wanting as u64).max(1);
        slice.min(fair.max(SLICE_MIN_NS))
    }

    /// Whether another request of a queue may be started.
    fn may_start(&self, queue: &Queue) -> bool {
        let most = if queue.sync {
            self.knobs[QUANTUM]
        } else if self.started[1] > 0 {
            // Somebody's read or fsync is under way: it is not to wait behind these.
            0
        } else {
            self.knobs[ASYNC_RQ] * self.knobs[QUANTUM] / 2
        };
        u64::from(queue.started) < most
    }

    /// The queue whose turn is next: by class, then by last turn. The idle class waits until nothing is under way.
    fn next_queue(&self) -> Option<usize> {
        let busy = self.started.iter().any(|count| *count > 0);
        (0..self.queues.len())
            .filter(|at| {
                let queue = &self.queues.get(*at).own;
                !queue.sorted.is_empty() && !(busy && queue.prio.class == IoClass::Idle)
            })
            .min_by_key(|at| {
                let queue = &self.queues.get(*at).own;
                (queue.prio.rank(), queue.turn)
            })
    }

    fn expire(&mut self) {
        if let Some(at) = self.active.take() {
            self.turns += 1;
            self.queues.get_mut(at).own.turn = self.turns;
        }
    }

    /// The request of a queue that comes next.
    fn choose(&self, queue: &Queue, now_ns: u64) -> Option<Id> {
        let sorted = &queue.sorted;
        let oldest = sorted.oldest()?;
        if self.nodes.get(oldest).expires_ns <= now_ns {
            return Some(oldest);
        }
        let (ahead, behind) =
            (sorted.from(&self.nodes, self.position), sorted.before(&self.nodes, self.position));
        let (Some(up), Some(down)) = (ahead, behind) else { return ahead.or(sorted.lowest()) };
        let up_by = self.nodes.get(up).start - self.position;
        let down_by = self.position - self.nodes.get(down).start;
        let allowed = down_by <= self.knobs[BACK_MAX] * 2;
        Some(if allowed && down_by.saturating_mul(self.knobs[BACK_PENALTY]) < up_by { down } else { up })
    }

    /// Whether the active queue, which is empty, keeps its turn, and until when at most.
    fn idle_until(&self, owner: &Owner<Queue>, now_ns: u64) -> Option<u64> {
        let until_ns = owner.done_ns.saturating_add(self.slice_idle_ns()).min(self.slice_end_ns);
        let wants = owner.own.sync && owner.own.started == 0 && owner.is_quick(self.slice_idle_ns());
        (wants && until_ns > now_ns).then_some(until_ns)
    }
}

impl Scheduler for Cfq {
    fn insert(&mut self, id: Id, request: &Request, now_ns: u64) {
        let at = self.queues.find_or_make(key(request), now_ns);
        let expire_ns = self.knobs[if request.sync { 1 } else { 2 }] * MS;
        self.nodes.set(id, request, now_ns.saturating_add(expire_ns), at as u32);
        self.queues.came(at, request.start, request.end(), now_ns);
        let queue = &mut self.queues.get_mut(at).own;
        (queue.prio, queue.sync) = (request.prio, request.sync);
        queue.sorted.add(&mut self.nodes, id);
        self.waiting += 1;
        // The real-time class does not wait for a turn to end.
        let preempts = |active: usize| self.queues.get(active).own.prio.rank() > request.prio.rank();
        if self.active.is_some_and(preempts) {
            self.expire();
        }
    }

    fn next(&mut self, now_ns: u64) -> Next {
        if self.waiting == 0 {
            return Next::Nothing;
        }
        if let Some(at) = self.active {
            let owner = self.queues.get(at);
            let empty = owner.own.sorted.is_empty();
            if now_ns >= self.slice_end_ns {
                self.expire();
            } else if empty {
                if let Some(until_ns) = self.idle_until(owner, now_ns) {
                    return Next::WaitUntil(until_ns);
                }
                if owner.own.sync && owner.own.started > 0 && owner.is_quick(self.slice_idle_ns()) {
                    // What it does next shows when that is done.
                    return Next::Nothing;
                }
                self.expire();
            }
        }
        let Some(at) = self.active.or_else(|| self.next_queue()) else { return Next::Nothing };
        if self.active.is_none() {
            self.slice_end_ns = now_ns.saturating_add(self.slice_ns(&self.queues.get(at).own));
            self.active = Some(at);
        }
        let queue = self.queues.get(at).own;
        if !self.may_start(&queue) {
            return Next::Nothing;
        }
        let Some(id) = self.choose(&queue, now_ns) else { return Next::Nothing };
        self.position = self.nodes.get(id).end;
        self.take(id);
        self.queues.get_mut(at).own.started += 1;
        self.started[usize::from(queue.sync)] += 1;
        Next::Start(id)
    }

    fn completed(&mut self, _id: Id, request: &Request, _started_ns: u64, now_ns: u64) {
        // A request that another scheduler started may be unknown here.
        let count = &mut self.started[usize::from(request.sync)];
        *count = count.saturating_sub(1);
        if let Some(at) = self.queues.find(key(request)) {
            self.queues.done(at, now_ns);
            let queue = &mut self.queues.get_mut(at).own;
            queue.started = queue.started.saturating_sub(1);
        }
    }

    fn find_merge(&self, dir: Dir, start: u64, end: u64) -> Option<(Id, Side)> {
        (0..self.queues.len()).find_map(|at| {
            let queue = &self.queues.get(at).own;
            queue.sorted.find_merge(&self.nodes, dir, start, end, true)
        })
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
