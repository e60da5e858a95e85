//! The Linus elevator of Linux 2.4: one queue, sorted as it grows.
//!
//! **Problem.** Requests come in the order programs make them; served in that order, the arm of a disk goes to
//! and fro.
//!
//! **Idea.** One queue, always served at its head. A new request is put where its sector belongs, between two
//! neighbours that go up around it, the way from the last sector back to the first counting as one too.
//! What keeps the far end from waiting for ever: while any request in the queue is older than `max_age`, new
//! ones go to the tail. That bounds the wait of the oldest but says nothing about reads and writes, so a
//! stream of writes is still served before a read that came later: the deadline scheduler's reason to be.
//!
//! Source: Love, Linux Kernel Development, chapter 14; Linux 2.4's drivers/block/elevator.c counted requests
//! that pass instead of time.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use iosched_api::{Dir, Id, MS, Next, NoMemory, Request, Scheduler, SchedulerInfo, Side, Tunable};

/// The policy, for the table of those that can be chosen.
pub const INFO: SchedulerInfo = SchedulerInfo {
    name: "linus",
    about: "one queue, sorted as it grows",
    make: |depth| Ok(Box::new(Linus::new(depth)?)),
};

const TUNABLES: &[Tunable] = &[Tunable { name: "max_age", min: 0, max: 1_000_000 }];

#[derive(Clone, Copy)]
struct Waiting {
    id: Id,
    dir: Dir,
    start: u64,
    end: u64,
    came_ns: u64,
    mergeable: bool,
}

/// The scheduler.
pub struct Linus {
    queue: VecDeque<Waiting>,
    max_age_ns: u64,
}

impl Linus {
    pub fn new(depth: u32) -> Result<Linus, NoMemory> {
        let mut queue = VecDeque::new();
        queue.try_reserve_exact(depth as usize).map_err(|_| NoMemory)?;
        Ok(Linus { queue, max_age_ns: 500 * MS })
    }

    fn position(&self, id: Id) -> Option<usize> {
        self.queue.iter().position(|waiting| waiting.id == id)
    }

    /// Where a request for `start` goes: behind the last place whose neighbours it lies between.
    fn place(&self, start: u64, now_ns: u64) -> usize {
        let too_old = |waiting: &Waiting| waiting.came_ns.saturating_add(self.max_age_ns) <= now_ns;
        if self.queue.iter().any(too_old) {
            return self.queue.len();
        }
        for at in (0..self.queue.len()).rev() {
            let here = self.queue[at].start;
            let next = self.queue.get(at + 1).or(self.queue.front()).map_or(here, |next| next.start);
            let between =
                if here <= next { here <= start && start < next } else { here <= start || start < next };
            if between {
                return at + 1;
            }
        }
        self.queue.len()
    }
}

impl Scheduler for Linus {
    fn insert(&mut self, id: Id, request: &Request, now_ns: u64) {
        let &Request { dir, start, mergeable, .. } = request;
        let place = self.place(start, now_ns);
        let waiting = Waiting { id, dir, start, end: request.end(), came_ns: now_ns, mergeable };
        self.queue.insert(place, waiting);
    }

    fn next(&mut self, _now_ns: u64) -> Next {
        self.queue.pop_front().map_or(Next::Nothing, |waiting| Next::Start(waiting.id))
    }

    fn find_merge(&self, dir: Dir, start: u64, end: u64) -> Option<(Id, Side)> {
        self.queue.iter().rev().filter(|waiting| waiting.dir == dir && waiting.mergeable).find_map(
            |waiting| match waiting {
                w if w.end == start => Some((w.id, Side::Back)),
                w if w.start == end => Some((w.id, Side::Front)),
                _ => None,
            },
        )
    }

    fn grown(&mut self, id: Id, request: &Request, _now_ns: u64) {
        // A neighbour's sectors: its place stays right.
        if let Some(at) = self.position(id) {
            (self.queue[at].start, self.queue[at].end) = (request.start, request.end());
        }
    }

    fn remove(&mut self, id: Id) -> bool {
        self.position(id).is_some_and(|at| self.queue.remove(at).is_some())
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn tunables(&self) -> &'static [Tunable] {
        TUNABLES
    }

    fn tunable(&self, _place: usize) -> u64 {
        self.max_age_ns / MS
    }

    fn set_tunable(&mut self, _place: usize, value: u64) {
        self.max_age_ns = value * MS;
    }
}
