//! All schedulers, in the table that the kernel keeps them in.

use super::*;
use iosched_api::{IoClass, IoPrio, MS};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ALL: [SchedulerInfo; 6] = [
    iosched_deadline::INFO,
    iosched_linus::INFO,
    iosched_anticipatory::INFO,
    iosched_cfq::INFO,
    iosched_kyber::INFO,
    iosched_bfq::INFO,
];

const DEPTH: u32 = 32;

fn request(dir: Dir, start: u64, sectors: u32) -> Request {
    let (sync, prio) = (dir == Dir::Read, IoPrio::default());
    Request { dir, sync, start, sectors, owner: start % 5, prio, mergeable: true }
}

/// What a test step does.
#[derive(Clone, Debug)]
enum Step {
    Insert(Request),
    Merge { dir: Dir, start: u64 },
    Start,
    Complete,
    Replace(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let insert = (any::<bool>(), any::<bool>(), 0u64..1000, 1u32..9, 0u64..4, 0u16..4, 0u16..8);
    let insert = insert.prop_map(|(read, sync, start, sectors, owner, class, level)| {
        let dir = if read { Dir::Read } else { Dir::Write };
        let prio = IoPrio::from_raw(class << 13 | level);
        Step::Insert(Request { dir, sync: read || sync, start, sectors, owner, prio, mergeable: true })
    });
    let merge = (any::<bool>(), 0u64..1000)
        .prop_map(|(read, start)| Step::Merge { dir: if read { Dir::Read } else { Dir::Write }, start });
    let step = prop_oneof![
        6 => insert,
        1 => merge,
        5 => Just(Step::Start),
        4 => Just(Step::Complete),
        1 => (0..ALL.len()).prop_map(Step::Replace),
        2 => (0u64..200).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

/// The queue under test beside what it must come to.
struct Bench {
    elevator: Elevator<u64>,
    expected: BTreeMap<u64, Request>,
    under_way: Vec<(Id, u64)>,
    now_ns: u64,
    next: u64,
}

impl Bench {
    fn new(info: &SchedulerInfo) -> Bench {
        let elevator = Elevator::new(info, DEPTH).unwrap();
        Bench { elevator, expected: BTreeMap::new(), under_way: Vec::new(), now_ns: 1, next: 0 }
    }

    fn step(&mut self, step: Step) {
        self.now_ns += MS / 10;
        match step {
            Step::Insert(request) => {
                self.next += 1;
                if self.elevator.insert(&request, self.next, self.now_ns).is_ok() {
                    self.expected.insert(self.next, request);
                }
            }
            Step::Merge { dir, start } => {
                let expected = &mut self.expected;
                self.elevator.merge(dir, start, 4, self.now_ns, |payload, side| {
                    let known = expected.get_mut(payload).expect("a waiting request");
                    match side {
                        Side::Back => assert_eq!(known.end(), start),
                        Side::Front => assert_eq!(known.start, start + 4),
                    }
                    assert_eq!(known.dir, dir);
                    known.sectors += 4;
                    known.start = known.start.min(start);
                    true
                });
            }
            Step::Start => drop(self.start()),
            Step::Complete => {
                if let Some((id, payload)) = self.under_way.pop() {
                    self.elevator.completed(id, self.now_ns);
                    assert!(self.expected.remove(&payload).is_some(), "completed twice");
                }
            }
            Step::Replace(which) => {
                let new = (ALL[which].make)(DEPTH).unwrap();
                drop(self.elevator.replace(&ALL[which], new, self.now_ns));
            }
            Step::Wait(ms) => self.now_ns += ms * MS,
        }
    }

    /// Starts one if the scheduler wants, and steps over its idling when nothing else can happen.
    fn start(&mut self) -> Option<u64> {
        match self.elevator.next(self.now_ns) {
            Order::Start(id, payload) => {
                assert!(self.under_way.iter().all(|(_, other)| *other != payload), "started twice");
                self.under_way.push((id, payload));
                Some(payload)
            }
            Order::WaitUntil(at_ns) => {
                assert!(at_ns > self.now_ns);
                if self.under_way.is_empty() {
                    self.now_ns = at_ns;
                }
                None
            }
            Order::Nothing => None,
        }
    }

    fn finish(mut self) {
        for _ in 0..100_000 {
            if self.expected.is_empty() {
                break;
            }
            if self.start().is_none() {
                self.step(Step::Complete);
            }
        }
        assert_eq!(self.elevator.faults(), 0, "{} broke the rules", self.elevator.name());
        assert!(self.expected.is_empty(), "{} lost requests", self.elevator.name());
        assert_eq!((self.elevator.waiting(), self.elevator.started()), (0, 0));
        assert_eq!(self.elevator.free.len(), DEPTH as usize);
    }
}

proptest! {
    /// Every request that went in is started and completed once, whatever happens in between.
    #[test]
    fn none_is_lost(first in 0..ALL.len(), steps in steps()) {
        let mut bench = Bench::new(&ALL[first]);
        steps.into_iter().for_each(|step| bench.step(step));
        bench.finish();
    }
}

/// A request at the far end and a flood at the other: how long it waits. The disk does one request in 5 ms.
fn wait_of_the_far_one(info: &SchedulerInfo, far: Dir, flood: Dir) -> u64 {
    let mut bench = Bench::new(info);
    let mut place = 0;
    let far_request = request(far, 1_000_000, 8);
    for _ in 0..8 {
        place += 8;
        bench.step(Step::Insert(Request { owner: 1, ..request(flood, place, 8) }));
    }
    bench.step(Step::Insert(Request { owner: 2, ..far_request }));
    let (number, came_ns) = (bench.next, bench.now_ns);
    loop {
        if bench.start() == Some(number) {
            return (bench.now_ns - came_ns) / MS;
        }
        bench.step(Step::Wait(5));
        bench.step(Step::Complete);
        if bench.elevator.waiting() < 16 {
            place += 8;
            bench.step(Step::Insert(Request { owner: 1, ..request(flood, place, 8) }));
        }
        if bench.now_ns - came_ns > 20_000 * MS {
            return u64::MAX;
        }
    }
}

#[test]
fn nobody_waits_for_ever() {
    // Milliseconds: the expiry of the kind, and what a batch or slice of the others may add.
    let limits = [
        ("mq-deadline", 700, 5_600),
        ("linus", 1_000, 1_000),
        ("anticipatory", 800, 1_500),
        ("cfq", 600, 1_500),
        ("kyber", 400, 400),
        ("bfq", 600, 1_500),
    ];
    for (info, (name, read, write)) in ALL.iter().zip(limits) {
        assert_eq!(info.name, name);
        let waited = wait_of_the_far_one(info, Dir::Read, Dir::Write);
        assert!(waited <= read, "{name}: a read waited {waited} ms behind writes");
        let waited = wait_of_the_far_one(info, Dir::Write, Dir::Read);
        assert!(waited <= write, "{name}: a write waited {waited} ms behind reads");
    }
}

#[test]
fn classes_go_first() {
    for info in [iosched_deadline::INFO, iosched_cfq::INFO, iosched_bfq::INFO] {
        let mut bench = Bench::new(&info);
        let of = |class: IoClass, start: u64| {
            let prio = IoPrio { class, level: 4 };
            Step::Insert(Request { prio, owner: start, ..request(Dir::Read, start, 8) })
        };
        bench.step(of(IoClass::Idle, 8));
        bench.step(of(IoClass::BestEffort, 800));
        bench.step(of(IoClass::RealTime, 8000));
        let mut order = Vec::new();
        while order.len() < 3 {
            order.extend(bench.start());
            bench.step(Step::Complete);
        }
        assert_eq!(order, [3, 2, 1], "{}", info.name);
    }
}

#[test]
fn shares_follow_priorities() {
    // Two owners that always have requests; the higher level is served more, not all.
    for info in [iosched_cfq::INFO, iosched_bfq::INFO] {
        let mut bench = Bench::new(&info);
        let mut served = [0u64; 2];
        let mut owner_of = BTreeMap::new();
        let mut place = [0u64, 5_000_000];
        let mut waiting = [0; 2];
        for _ in 0..20_000 {
            for owner in 0..2 {
                while waiting[owner] < 4 {
                    place[owner] += 64;
                    let prio = IoPrio { class: IoClass::BestEffort, level: if owner == 0 { 0 } else { 7 } };
                    let new =
                        Request { prio, owner: owner as u64 + 1, ..request(Dir::Read, place[owner], 64) };
                    bench.step(Step::Insert(Request { mergeable: false, ..new }));
                    owner_of.insert(bench.next, owner);
                    waiting[owner] += 1;
                }
            }
            if let Some(number) = bench.start() {
                let owner = owner_of[&number];
                served[owner] += 1;
                waiting[owner] -= 1;
            }
            bench.step(Step::Wait(1));
            bench.step(Step::Complete);
        }
        let ratio = served[0] as f64 / served[1] as f64;
        assert!((1.5..12.0).contains(&ratio), "{}: {served:?}", info.name);
    }
}

#[test]
fn joins_neighbours() {
    let mut elevator: Elevator<Vec<u64>> = Elevator::new(&iosched_deadline::INFO, 8).unwrap();
    elevator.insert(&request(Dir::Write, 8, 8), vec![8], 0).unwrap();
    let mut join = |start, side: &mut Option<Side>| {
        elevator.merge(Dir::Write, start, 8, 0, |payload, at| {
            payload.push(start);
            *side = Some(at);
            true
        })
    };
    let mut side = None;
    assert_eq!(join(16, &mut side), Merged::At(Side::Back));
    assert_eq!(join(0, &mut side), Merged::At(Side::Front));
    assert_eq!(join(40, &mut side), Merged::No);
    let Order::Start(id, payload) = elevator.next(0) else { panic!() };
    assert_eq!(payload, [8, 16, 0]);
    let request = &elevator.entries[id.index()].request;
    assert_eq!((request.start, request.sectors), (0, 24));
}
