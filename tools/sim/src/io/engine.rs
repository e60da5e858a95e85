//! Programs, the scheduler, and the disk, in one loop over events.

use crate::io::disk::{Disk, Kind};
use crate::io::workload::{Place, Program};
use crate::rng::Rng;
use crate::stats::Histogram;
use iosched_api::{Id, Request, SchedulerInfo};
use iosched_queue::{Elevator, Merged, Order};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Requests that the block layer has, and how many of them it keeps for those who wait: as the kernel.
const REQUESTS: u32 = 256;
const KEPT: usize = REQUESTS as usize / 4;
/// Sectors to which a request grows by joining.
const LARGEST: u32 = 2560;

/// One piece of a program's I/O.
struct Piece {
    program: usize,
    came_ns: u64,
    sectors: u32,
}

/// What a program got.
#[derive(Clone, Debug, Default)]
pub struct Result {
    pub done: u64,
    pub bytes: u64,
    pub latency: Histogram,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The program has thought and asks.
    Ask(usize),
    Done(u32),
    /// The scheduler's idling is over.
    Look,
}

struct State {
    next: u64,
    /// Pieces that no request was left for.
    blocked: u32,
}

/// A run of programs over one scheduler and one disk.
pub struct Run {
    elevator: Elevator<Vec<Piece>>,
    disk: Disk,
    kind: Kind,
    programs: Vec<Program>,
    states: Vec<State>,
    /// By id.
    under_way: Vec<Option<Vec<Piece>>>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    now_ns: u64,
    rng: Rng,
    results: Vec<Result>,
    measure_from_ns: u64,
}

impl Run {
    pub fn new(info: &SchedulerInfo, kind: Kind, programs: &[Program], seed: u64) -> Run {
        let elevator =
            Elevator::new(info, REQUESTS).unwrap_or_else(|_| panic!("no memory for {}", info.name));
        let mut run = Run {
            elevator,
            disk: Disk::new(kind, seed),
            kind,
            programs: programs.to_vec(),
            states: Vec::new(),
            under_way: (0..REQUESTS).map(|_| None).collect(),
            events: BinaryHeap::new(),
            now_ns: 0,
            rng: Rng::new(seed),
            results: vec![Result::default(); programs.len()],
            measure_from_ns: 0,
        };
        for (number, program) in programs.iter().enumerate() {
            // Programs work at different places of the disk.
            let next = kind.sectors() / programs.len() as u64 * number as u64;
            run.states.push(State { next, blocked: 0 });
            for _ in 0..program.depth {
                let phase_ns = run.rng.below(1_000_000);
                run.events.push(Reverse((phase_ns, Event::Ask(number))));
            }
        }
        run
    }

    /// A knob of the scheduler.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        self.elevator.set_tunable(name, value).is_ok()
    }

    /// Runs for a while and measures after a start-up.
    pub fn measure(mut self, warmup_ns: u64, time_ns: u64) -> Vec<Result> {
        self.measure_from_ns = warmup_ns;
        while let Some(Reverse((at_ns, event))) = self.events.pop() {
            if at_ns > warmup_ns + time_ns {
                break;
            }
            self.now_ns = at_ns;
            match event {
                Event::Ask(program) => self.ask(program),
                Event::Done(id) => self.done(id),
                Event::Look => {}
            }
            self.dispatch();
        }
        self.results
    }

    fn ask(&mut self, number: usize) {
        let program = &self.programs[number];
        let sectors = program.sectors;
        let start = match program.place {
            Place::Sequential => self.states[number].next,
            Place::Random => {
                let part = self.kind.sectors() / u64::from(sectors) - 1;
                self.rng.below(part) * u64::from(sectors)
            }
        };
        let end = start + u64::from(sectors);
        self.states[number].next = if end + u64::from(LARGEST) >= self.kind.sectors() { 0 } else { end };
        let request = Request {
            dir: program.dir,
            sync: program.sync,
            start,
            sectors,
            owner: number as u64 + 1,
            prio: program.prio,
            mergeable: true,
        };
        self.submit(request);
    }

    fn submit(&mut self, request: Request) {
        let number = (request.owner - 1) as usize;
        let piece = Piece { program: number, came_ns: self.now_ns, sectors: request.sectors };
        let mut piece = Some(piece);
        let (dir, start, sectors) = (request.dir, request.start, request.sectors);
        let joined = self.elevator.merge(dir, start, sectors, self.now_ns, |pieces, _| {
            let sum: u32 = pieces.iter().map(|piece| piece.sectors).sum();
            sum + sectors <= LARGEST && {
                pieces.extend(piece.take());
                true
            }
        });
        let kept = if request.sync { 0 } else { KEPT };
        let room = self.elevator.waiting() + self.elevator.started() + kept < REQUESTS as usize;
        if joined == Merged::No
            && let Some(piece) = piece
            && (!room || self.elevator.insert(&request, vec![piece], self.now_ns).is_err())
        {
            // No request is left: the program sleeps until one is.
            self.states[number].blocked += 1;
            self.states[number].next = start;
        }
    }

    fn dispatch(&mut self) {
        while self.elevator.started() < self.kind.depth() {
            match self.elevator.next(self.now_ns) {
                Order::Start(id, pieces) => self.start(id, pieces),
                Order::WaitUntil(at_ns) => {
                    self.events.push(Reverse((at_ns, Event::Look)));
                    return;
                }
                Order::Nothing => return,
            }
        }
    }

    fn start(&mut self, id: Id, pieces: Vec<Piece>) {
        let request = self.elevator.request(id);
        let done_ns = self.disk.serve(&request, self.now_ns);
        self.under_way[id.index()] = Some(pieces);
        self.events.push(Reverse((done_ns, Event::Done(id.0))));
    }

    fn done(&mut self, id: u32) {
        self.elevator.completed(Id(id), self.now_ns);
        let Some(pieces) = self.under_way[id as usize].take() else { return };
        for piece in pieces {
            if self.now_ns >= self.measure_from_ns {
                let result = &mut self.results[piece.program];
                result.done += 1;
                result.bytes += u64::from(piece.sectors) * 512;
                result.latency.add(self.now_ns - piece.came_ns);
            }
            let think_ns = self.programs[piece.program].think_ns;
            let think_ns = if think_ns == 0 { 1 } else { self.rng.exponential(think_ns) };
            self.events.push(Reverse((self.now_ns + think_ns, Event::Ask(piece.program))));
        }
        for number in 0..self.states.len() {
            let free = REQUESTS as usize - self.elevator.waiting() - self.elevator.started();
            let kept = if self.programs[number].sync { 0 } else { KEPT };
            if self.states[number].blocked > 0 && free > kept {
                self.states[number].blocked -= 1;
                self.events.push(Reverse((self.now_ns, Event::Ask(number))));
                break;
            }
        }
    }
}
