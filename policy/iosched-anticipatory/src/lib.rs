//! The anticipatory scheduler of Linux 2.6: deadlines, and a moment of waiting for the next read.
//!
//! **Problem.** A program that reads a file asks for the next block only when it has the last one. In the
//! moment between, a scheduler that never idles sends the arm away to somebody's writes, and pays two seeks
//! for every block ("deceptive idleness").
//!
//! **Idea.** The deadline scheduler with batches measured in time (reads 500 ms, writes 125 ms), and one more
//! rule: when a read is done, nothing else is under way, and what would come next is not from the same
//! owner and not nearer than that owner usually jumps, the disk stays idle for up to `antic_expire` (6.7 ms)
//! to see whether the owner's next read comes. It does so only for owners whose next read usually comes in
//! that time: each owner's think time is measured.
//!
//! Source: Iyer and Druschel, Anticipatory scheduling, SOSP 2001; Linux 2.6's block/as-iosched.c for the
//! parameters.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use iosched_api::{
    Dir, Id, MS, Next, NoMemory, Nodes, Owners, Request, Scheduler, SchedulerInfo, Side, Sorted, Tunable,
};

/// The policy, for the table of those that can be chosen.
pub const INFO: SchedulerInfo = SchedulerInfo {
    name: "anticipatory",
    about: "deadlines, and a moment of waiting for the next read",
    make: |depth| Ok(Box::new(Anticipatory::new(depth)?)),
};

const TUNABLES: &[Tunable] = &[
    Tunable { name: "read_expire", min: 0, max: i32::MAX as u64 },
    Tunable { name: "write_expire", min: 0, max: i32::MAX as u64 },
    Tunable { name: "read_batch_expire", min: 0, max: i32::MAX as u64 },
    Tunable { name: "write_batch_expire", min: 0, max: i32::MAX as u64 },
    Tunable { name: "antic_expire_us", min: 0, max: 1_000_000 },
];

/// Nobody is waited for whose think time is longer, however patient one is told to be.
const THINK_MAX_NS: u64 = 20 * MS;
/// Sectors within which a jump is none.
const NEAR: u64 = 1024;

/// The scheduler.
pub struct Anticipatory {
    nodes: Nodes,
    /// By direction.
    queues: [Sorted; 2],
    owners: Owners<()>,
    position: u64,
    dir: usize,
    batch_end_ns: u64,
    started: u32,
    /// Whose next read is waited for, and until when.
    waiting_for: Option<(u64, u64)>,
    /// The owner and time of the read that was done last.
    last_read: Option<(u64, u64)>,
    expire_ns: [u64; 2],
    batch_ns: [u64; 2],
    antic_ns: u64,
    /// By id: the owner.
    owner_of: alloc::vec::Vec<u64>,
}

impl Anticipatory {
    pub fn new(depth: u32) -> Result<Anticipatory, NoMemory> {
        let mut owner_of = alloc::vec::Vec::new();
        owner_of.try_reserve_exact(depth as usize).map_err(|_| NoMemory)?;
        owner_of.resize(depth as usize, 0);
        Ok(Anticipatory {
            nodes: Nodes::new(depth)?,
            queues: Default::default(),
            owners: Owners::new(depth)?,
            position: 0,
            dir: 0,
            batch_end_ns: 0,
            started: 0,
            waiting_for: None,
            last_read: None,
            expire_ns: [125 * MS, 250 * MS],
            batch_ns: [500 * MS, 125 * MS],
            antic_ns: 1_000 * MS / 150,
            owner_of,
        })
    }

    fn take(&mut self, id: Id) {
        let home = self.nodes.get(id).home as usize;
        self.queues[home].remove(&mut self.nodes, id);
        self.nodes.get_mut(id).home = u32::MAX;
    }

    fn expired(&self, dir: usize, now_ns: u64) -> Option<Id> {
        self.queues[dir].oldest().filter(|id| self.nodes.get(*id).expires_ns <= now_ns)
    }

    /// The request of a direction that comes next: the oldest if its time has come, else the next upward.
    fn candidate(&self, dir: usize, now_ns: u64) -> Option<Id> {
        let queue = &self.queues[dir];
        let onward = || queue.from(&self.nodes, self.position).or(queue.lowest());
        self.expired(dir, now_ns).or_else(onward)
    }

    /// Chooses the direction; a batch lasts until its time is over or its queue is empty.
    fn choose(&mut self, now_ns: u64) -> usize {
        let other = 1 - self.dir;
        let batch_over = now_ns >= self.batch_end_ns;
        if self.queues[self.dir].is_empty() || (batch_over && !self.queues[other].is_empty()) {
            self.dir = other;
            self.batch_end_ns = now_ns.saturating_add(self.batch_ns[self.dir]);
        } else if batch_over {
            self.batch_end_ns = now_ns.saturating_add(self.batch_ns[self.dir]);
        }
        self.dir
    }

    /// Until when the disk is to stay idle for the owner of the last read.
    fn anticipate(&mut self, now_ns: u64) -> Option<u64> {
        if self.started > 0 {
            return None;
        }
        let (owner, done_ns) = self.last_read?;
        let until_ns = done_ns.saturating_add(self.antic_ns);
        let record = self.owners.get(self.owners.find(owner)?);
        if record.busy > 0 {
            // It has come.
            self.last_read = None;
            return None;
        }
        let hopeless = !record.is_quick(self.antic_ns.min(THINK_MAX_NS));
        // A write batch that is due is not held up, nor a read whose time has come.
        let writes_due = now_ns >= self.batch_end_ns && !self.queues[1].is_empty();
        let late = self.expired(0, now_ns).is_some() || writes_due;
        if now_ns >= until_ns || hopeless || late {
            self.last_read = None;
            self.waiting_for = None;
            return None;
        }
        let near = record.seek.max(NEAR);
        if let Some(id) = self.candidate(0, now_ns)
            && self.nodes.get(id).start.abs_diff(self.position) <= near
        {
            return None;
        }
        self.waiting_for = Some((owner, until_ns));
        Some(until_ns)
    }
}

impl Scheduler for Anticipatory {
    fn insert(&mut self, id: Id, request: &Request, now_ns: u64) {
        let dir = request.dir as usize;
        self.nodes.set(id, request, now_ns.saturating_add(self.expire_ns[dir]), dir as u32);
        self.queues[dir].add(&mut self.nodes, id);
        self.owner_of[id.index()] = request.owner;
        if request.dir == Dir::Read {
            let at = self.owners.find_or_make(request.owner, now_ns);
            self.owners.came(at, request.start, request.end(), now_ns);
        }
    }

    fn next(&mut self, now_ns: u64) -> Next {
        if self.queues.iter().all(Sorted::is_empty) {
            return Next::Nothing;
        }
        if let Some(until_ns) = self.anticipate(now_ns) {
            return Next::WaitUntil(until_ns);
        }
        // Its next read has come: it goes on where it was, whatever the batch says.
        let awaited = self.waiting_for.take().is_some() && !self.queues[0].is_empty();
        let dir = if awaited { 0 } else { self.choose(now_ns) };
        let Some(id) = self.candidate(dir, now_ns) else { return Next::Nothing };
        self.position = self.nodes.get(id).end;
        self.last_read = None;
        self.take(id);
        self.started += 1;
        Next::Start(id)
    }

    fn completed(&mut self, _id: Id, request: &Request, _started_ns: u64, now_ns: u64) {
        self.started = self.started.saturating_sub(1);
        if request.dir == Dir::Read
            && let Some(at) = self.owners.find(request.owner)
        {
            self.owners.done(at, now_ns);
            self.last_read = Some((request.owner, now_ns));
        }
    }

    fn find_merge(&self, dir: Dir, start: u64, end: u64) -> Option<(Id, Side)> {
        self.queues[dir as usize].find_merge(&self.nodes, dir, start, end, true)
    }

    fn grown(&mut self, id: Id, request: &Request, _now_ns: u64) {
        let home = self.nodes.get(id).home as usize;
        self.queues[home].moved(&mut self.nodes, id, request.start, request.end());
    }

    fn remove(&mut self, id: Id) -> bool {
        let waits = self.nodes.get(id).home != u32::MAX;
        if waits {
            if self.nodes.get(id).home == 0
                && let Some(at) = self.owners.find(self.owner_of[id.index()])
            {
                let owner = self.owners.get_mut(at);
                owner.busy = owner.busy.saturating_sub(1);
            }
            self.take(id);
        }
        waits
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(Sorted::len).sum()
    }

    fn tunables(&self) -> &'static [Tunable] {
        TUNABLES
    }

    fn tunable(&self, place: usize) -> u64 {
        match place {
            0 | 1 => self.expire_ns[place] / MS,
            2 | 3 => self.batch_ns[place - 2] / MS,
            _ => self.antic_ns / 1000,
        }
    }

    fn set_tunable(&mut self, place: usize, value: u64) {
        match place {
            0 | 1 => self.expire_ns[place] = value * MS,
            2 | 3 => self.batch_ns[place - 2] = value * MS,
            _ => self.antic_ns = value * 1000,
        }
    }
}
