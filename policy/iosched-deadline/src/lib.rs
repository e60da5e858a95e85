//! mq-deadline: sorted batches with a deadline for every request.
//!
//! **Problem.** The elevator serves the nearest request, so a stream of writes at one place starves a reader
//! at another for as long as it lasts, and a program waits for its reads while nobody waits for most writes.
//!
//! **Idea.** Reads and writes are kept apart, each sorted by sector and in order of arrival with a time by
//! which it should have been started (reads 500 ms, writes 5 s). The disk is given batches of up to
//! `fifo_batch` requests in the order of sectors. Between batches the direction is chosen anew (reads,
//! unless writes have been passed over `writes_starved` times), and so is where the batch begins: at the
//! oldest request if its time has come, else where the last batch ended. Deadlines are soft: they are looked
//! at between batches only, because a seek for each of them would cost everybody more than it helps one.
//!
//! Each priority class has queues of its own; a lower class is served when the higher ones are empty, or
//! when its oldest request has waited for `prio_aging_expire` (10 s).
//!
//! Source: Linux's Documentation/block/deadline-iosched.rst; parameters of 6.12.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use iosched_api::{
    Dir, Id, MS, Next, NoMemory, Nodes, Request, Scheduler, SchedulerInfo, Side, Sorted, Tunable,
};

/// The policy, for the table of those that can be chosen.
pub const INFO: SchedulerInfo = SchedulerInfo {
    name: "mq-deadline",
    about: "sorted batches, a deadline for every request",
    make: |depth| Ok(Box::new(Deadline::new(depth)?)),
};

const CLASSES: usize = 3;

const TUNABLES: &[Tunable] = &[
    Tunable { name: "read_expire", min: 0, max: i32::MAX as u64 },
    Tunable { name: "write_expire", min: 0, max: i32::MAX as u64 },
    Tunable { name: "writes_starved", min: 0, max: i32::MAX as u64 },
    Tunable { name: "front_merges", min: 0, max: 1 },
    Tunable { name: "fifo_batch", min: 0, max: i32::MAX as u64 },
    Tunable { name: "prio_aging_expire", min: 0, max: i32::MAX as u64 },
];

/// One priority class.
#[derive(Default)]
struct Class {
    /// By direction.
    queues: [Sorted; 2],
    /// Where the last batch of a direction ended.
    position: [u64; 2],
    /// How often writes were passed over since they were last served.
    starved: u64,
}

/// The scheduler.
pub struct Deadline {
    nodes: Nodes,
    classes: [Class; CLASSES],
    /// The batch that is being served: class, direction, requests served, where it goes on.
    batch: Option<Batch>,
    waiting: usize,
    expire_ns: [u64; 2],
    writes_starved: u64,
    front_merges: bool,
    fifo_batch: u64,
    prio_aging_ns: u64,
}

#[derive(Clone, Copy)]
struct Batch {
    class: usize,
    dir: usize,
    served: u64,
}

impl Deadline {
    pub fn new(depth: u32) -> Result<Deadline, NoMemory> {
        Ok(Deadline {
            nodes: Nodes::new(depth)?,
            classes: Default::default(),
            batch: None,
            waiting: 0,
            expire_ns: [500 * MS, 5000 * MS],
            writes_starved: 2,
            front_merges: true,
            fifo_batch: 16,
            prio_aging_ns: 10_000 * MS,
        })
    }

    fn queue(&mut self, id: Id) -> (&mut Sorted, &mut Nodes) {
        let home = self.nodes.get(id).home as usize;
        (&mut self.classes[home / 2].queues[home % 2], &mut self.nodes)
    }

    fn take(&mut self, id: Id) {
        let (queue, nodes) = self.queue(id);
        queue.remove(nodes, id);
        nodes.get_mut(id).home = u32::MAX;
        self.waiting -= 1;
    }

    /// Whether the oldest request of a queue has reached its deadline.
    fn expired(&self, queue: &Sorted, now_ns: u64) -> bool {
        queue.oldest().is_some_and(|id| self.nodes.get(id).expires_ns <= now_ns)
    }

    /// The class to serve: one whose oldest request has waited too long, else the highest that has any.
    fn choose_class(&self, now_ns: u64) -> Option<usize> {
        let waits_too_long = |class: &Class| {
            class.queues.iter().zip(self.expire_ns).any(|(queue, expire_ns)| {
                queue.oldest().is_some_and(|id| {
                    let came_ns = self.nodes.get(id).expires_ns.saturating_sub(expire_ns);
                    came_ns.saturating_add(self.prio_aging_ns) <= now_ns
                })
            })
        };
        let has_any = |class: &Class| class.queues.iter().any(|queue| !queue.is_empty());
        let highest = self.classes.iter().position(has_any)?;
        let aged = self.classes.iter().skip(highest + 1).position(waits_too_long);
        Some(aged.map_or(highest, |at| highest + 1 + at))
    }

    /// The next request of the batch under way, if it goes on.
    fn continue_batch(&mut self) -> Option<Id> {
        let batch = self.batch.filter(|batch| batch.served < self.fifo_batch)?;
        let class = &self.classes[batch.class];
        class.queues[batch.dir].from(&self.nodes, class.position[batch.dir])
    }

    /// Chooses direction and place of a new batch.
    fn begin_batch(&mut self, now_ns: u64) -> Option<Id> {
        let number = self.choose_class(now_ns)?;
        let class = &mut self.classes[number];
        let (reads, writes) = (!class.queues[0].is_empty(), !class.queues[1].is_empty());
        let dir = match (reads, writes) {
            (true, true) if class.starved >= self.writes_starved => 1,
            (true, true) => {
                class.starved += 1;
                0
            }
            (true, false) => 0,
            _ => 1,
        };
        if dir == 1 {
            class.starved = 0;
        }
        self.batch = Some(Batch { class: number, dir, served: 0 });
        let class = &self.classes[number];
        let queue = &class.queues[dir];
        let onward = queue.from(&self.nodes, class.position[dir]);
        if self.expired(queue, now_ns) { queue.oldest() } else { onward.or(queue.lowest()) }
    }
}

impl Scheduler for Deadline {
    fn insert(&mut self, id: Id, request: &Request, now_ns: u64) {
        let dir = request.dir as usize;
        let home = request.prio.rank() * 2 + dir;
        self.nodes.set(id, request, now_ns.saturating_add(self.expire_ns[dir]), home as u32);
        let (queue, nodes) = self.queue(id);
        queue.add(nodes, id);
        self.waiting += 1;
    }

    fn next(&mut self, now_ns: u64) -> Next {
        let Some(id) = self.continue_batch().or_else(|| self.begin_batch(now_ns)) else {
            return Next::Nothing;
        };
        let (home, end) = (self.nodes.get(id).home as usize, self.nodes.get(id).end);
        self.classes[home / 2].position[home % 2] = end;
        if let Some(batch) = &mut self.batch {
            batch.served += 1;
        }
        self.take(id);
        Next::Start(id)
    }

    fn find_merge(&self, dir: Dir, start: u64, end: u64) -> Option<(Id, Side)> {
        let queues = self.classes.iter().map(|class| &class.queues[dir as usize]);
        queues.filter_map(|queue| queue.find_merge(&self.nodes, dir, start, end, self.front_merges)).next()
    }

    fn grown(&mut self, id: Id, request: &Request, _now_ns: u64) {
        let (queue, nodes) = self.queue(id);
        queue.moved(nodes, id, request.start, request.end());
    }

    fn remove(&mut self, id: Id) -> bool {
        let waits = self.nodes.get(id).home != u32::MAX;
        if waits {
            self.take(id);
        }
        waits
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn tunables(&self) -> &'static [Tunable] {
        TUNABLES
    }

    fn tunable(&self, place: usize) -> u64 {
        match place {
            0 => self.expire_ns[0] / MS,
            1 => self.expire_ns[1] / MS,
            2 => self.writes_starved,
            3 => self.front_merges.into(),
            4 => self.fifo_batch,
            _ => self.prio_aging_ns / MS,
        }
    }

    fn set_tunable(&mut self, place: usize, value: u64) {
        match place {
            0 => self.expire_ns[0] = value * MS,
            1 => self.expire_ns[1] = value * MS,
            2 => self.writes_starved = value,
            3 => self.front_merges = value != 0,
            4 => self.fifo_batch = value,
            _ => self.prio_aging_ns = value * MS,
        }
    }
}
