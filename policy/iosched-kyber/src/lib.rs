//! Kyber: tokens for kinds of requests, by the latency they reach.
//!
//! **Problem.** A fast device with a deep queue needs no sorting, but a flood of writes fills that queue, and
//! a read then waits behind all of it inside the device, where no scheduler reaches.
//!
//! **Idea.** Requests are of three kinds: reads, synchronous writes, and the rest. Each has a number of tokens
//! (256, 128, 64): so many may be under way. The device is given batches of one kind in turn (16, 8, 8), first
//! come, first served. Every 100 ms the latencies of reads and synchronous writes are compared with their
//! targets (2 ms, 10 ms) in a histogram of quarters of the target. A kind whose 90th percentile misses its
//! target makes the others give up tokens, a quarter of them or half; when all is well they come back.
//!
//! Source: Linux's block/kyber-iosched.c as of 4.12, where these kinds, depths and batches are from.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use iosched_api::{
    Dir, Id, List, MS, Next, NoMemory, Nodes, Request, Scheduler, SchedulerInfo, Side, Tunable,
};

/// The policy, for the table of those that can be chosen.
pub const INFO: SchedulerInfo = SchedulerInfo {
    name: "kyber",
    about: "tokens for kinds of requests, by the latency they reach",
    make: |depth| Ok(Box::new(Kyber::new(depth)?)),
};

const TUNABLES: &[Tunable] = &[
    Tunable { name: "read_lat_nsec", min: 1, max: u64::MAX },
    Tunable { name: "write_lat_nsec", min: 1, max: u64::MAX },
];

/// Reads, synchronous writes, everything else.
const KINDS: usize = 3;
const DEPTH: [u32; KINDS] = [256, 128, 64];
const BATCH: [u32; KINDS] = [16, 8, 8];
/// Quarters of the target; the last bucket has all that is later.
const BUCKETS: usize = 8;
const GOOD: usize = 4;
/// How often depths are looked at; how many latencies that takes, or how long they are gathered at most.
const PERIOD_NS: u64 = 100 * MS;
const SAMPLES: u32 = 500;
const GATHER_NS: u64 = 1_000 * MS;

#[derive(Default)]
struct Kind {
    list: List,
    under_way: u32,
    depth: u32,
    /// Latencies in the device, and when the first of them was noted.
    latencies: [u32; BUCKETS],
    since_ns: u64,
    /// What they said last.
    status: Status,
}

/// How a kind stands to its target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
enum Status {
    /// Within half of it.
    Great,
    #[default]
    Good,
    Bad,
    /// Nearly twice it.
    Awful,
}

impl Status {
    fn of_bucket(bucket: usize) -> Status {
        match bucket {
            0 | 1 => Status::Great,
            2 | 3 => Status::Good,
            4..=6 => Status::Bad,
            _ => Status::Awful,
        }
    }

    /// What a number of tokens becomes when the other kinds stand so.
    fn scale(self, depth: u32, most: u32) -> u32 {
        let quarter = (depth / 4).max(1);
        let scaled = match self {
            Status::Great => depth + quarter,
            Status::Good => depth + 1,
            Status::Bad => depth.saturating_sub(quarter),
            Status::Awful => depth / 2,
        };
        scaled.clamp(1, most)
    }
}

/// The scheduler.
pub struct Kyber {
    nodes: Nodes,
    kinds: [Kind; KINDS],
    /// The kind whose batch is served, and how much of it was.
    current: usize,
    served: u32,
    waiting: usize,
    period_end_ns: u64,
    targets_ns: [u64; 2],
}

fn kind_of(request: &Request) -> usize {
    match request.dir {
        Dir::Read => 0,
        Dir::Write if request.sync => 1,
        Dir::Write => 2,
    }
}

/// The bucket below which nine of ten samples lie.
fn percentile_90(buckets: &[u32; BUCKETS]) -> usize {
    let sum: u32 = buckets.iter().sum();
    let mut left = u64::from(sum) * 9 / 10;
    for (bucket, count) in buckets.iter().enumerate() {
        match left.checked_sub((*count).into()) {
            Some(rest) if rest > 0 => left = rest,
            _ => return bucket,
        }
    }
    BUCKETS - 1
}

impl Kyber {
    pub fn new(depth: u32) -> Result<Kyber, NoMemory> {
        let mut kinds: [Kind; KINDS] = Default::default();
        kinds.iter_mut().zip(DEPTH).for_each(|(kind, depth)| kind.depth = depth);
        Ok(Kyber {
            nodes: Nodes::new(depth)?,
            kinds,
            current: 0,
            served: 0,
            waiting: 0,
            period_end_ns: 0,
            targets_ns: [2 * MS, 10 * MS],
        })
    }

    fn take(&mut self, id: Id) {
        let home = self.nodes.get(id).home as usize;
        self.kinds[home].list.remove(&mut self.nodes, id);
        self.nodes.get_mut(id).home = u32::MAX;
        self.waiting -= 1;
    }

    /// The oldest request of a kind that has a token left.
    fn ready(&self, kind: usize) -> Option<Id> {
        let kind = &self.kinds[kind];
        kind.list.first().filter(|_| kind.under_way < kind.depth)
    }

    /// Scales the depths by what the latencies show.
    fn adapt(&mut self, now_ns: u64) {
        for kind in &mut self.kinds[..2] {
            let samples: u32 = kind.latencies.iter().sum();
            let enough = samples >= SAMPLES || now_ns.saturating_sub(kind.since_ns) >= GATHER_NS;
            if samples == 0 {
                kind.status = Status::Great;
            } else if enough {
                kind.status = Status::of_bucket(percentile_90(&kind.latencies));
                kind.latencies = [0; BUCKETS];
            }
        }
        let [reads, writes] = [self.kinds[0].status, self.kinds[1].status];
        for (number, others) in [(0, writes), (1, reads), (2, reads.max(writes))] {
            self.kinds[number].depth = others.scale(self.kinds[number].depth, DEPTH[number]);
        }
    }
}

impl Scheduler for Kyber {
    fn insert(&mut self, id: Id, request: &Request, now_ns: u64) {
        let kind = kind_of(request);
        self.nodes.set(id, request, now_ns, kind as u32);
        self.kinds[kind].list.push(&mut self.nodes, id);
        self.waiting += 1;
    }

    fn next(&mut self, _now_ns: u64) -> Next {
        if self.served >= BATCH[self.current] || self.ready(self.current).is_none() {
            let others = (1..=KINDS).map(|step| (self.current + step) % KINDS);
            let Some(kind) = others.into_iter().find(|kind| self.ready(*kind).is_some()) else {
                return Next::Nothing;
            };
            (self.current, self.served) = (kind, 0);
        }
        let Some(id) = self.ready(self.current) else { return Next::Nothing };
        let kind = self.current;
        self.take(id);
        self.kinds[kind].under_way += 1;
        self.served += 1;
        Next::Start(id)
    }

    fn completed(&mut self, _id: Id, request: &Request, started_ns: u64, now_ns: u64) {
        let number = kind_of(request);
        let target_ns = self.targets_ns[number.min(1)];
        let kind = &mut self.kinds[number];
        // A request that another scheduler started is none of those counted.
        kind.under_way = kind.under_way.saturating_sub(1);
        if number < 2 {
            if kind.latencies == [0; BUCKETS] {
                kind.since_ns = now_ns;
            }
            let quarter = (target_ns / GOOD as u64).max(1);
            let bucket = now_ns.saturating_sub(started_ns) / quarter;
            kind.latencies[bucket.min(BUCKETS as u64 - 1) as usize] += 1;
        }
        if now_ns >= self.period_end_ns {
            self.adapt(now_ns);
            self.period_end_ns = now_ns.saturating_add(PERIOD_NS);
        }
    }

    fn find_merge(&self, dir: Dir, start: u64, _end: u64) -> Option<(Id, Side)> {
        // The last of each list only: without sorting, others are rarely neighbours.
        let kinds = if dir == Dir::Read { 0..1 } else { 1..KINDS };
        kinds.into_iter().find_map(|kind| {
            let id = self.kinds[kind].list.last()?;
            let node = self.nodes.get(id);
            (node.mergeable && node.end == start).then_some((id, Side::Back))
        })
    }

    fn grown(&mut self, id: Id, request: &Request, _now_ns: u64) {
        let node = self.nodes.get_mut(id);
        (node.start, node.end) = (request.start, request.end());
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
        self.targets_ns[place.min(1)]
    }

    fn set_tunable(&mut self, place: usize, value: u64) {
        self.targets_ns[place.min(1)] = value;
    }
}
