//! The table of a disk's requests around an I/O scheduler: what the kernel and the simulator share.
//!
//! **Problem.** A scheduler is a stranger's algorithm. Whatever it answers, a request must be started
//! exactly once and none may be lost, also while one scheduler replaces another under load.
//!
//! **Interface.** [`Elevator`] owns the requests (of any type `T`) that wait or are under way, gives them
//! ids, asks the [`Scheduler`] and checks its answers. [`Elevator::merge`] joins new sectors to a waiting
//! request, [`Elevator::replace`] changes the policy.
//!
//! **Idea.** The state of each id is kept here and not believed from the policy. An answer that names no
//! waiting request is counted and treated as if the policy had nothing; requests that a broken policy does
//! not name are found by [`Elevator::next`] when nothing is under way: they are started in order of id.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use iosched_api::{Dir, Id, Next, NoMemory, Request, Scheduler, SchedulerInfo, Side, TunableError};

#[cfg(test)]
mod tests;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Waiting,
    Started,
}

struct Entry<T> {
    state: State,
    request: Request,
    started_ns: u64,
    /// There while the request waits; the caller has it while it is under way.
    payload: Option<T>,
}

/// What [`Elevator::next`] says.
#[derive(Debug)]
pub enum Order<T> {
    /// Start it; [`Elevator::completed`] takes the id back.
    Start(Id, T),
    /// Ask again at this time, or when something was added or completed.
    WaitUntil(u64),
    Nothing,
}

/// How the joining of new sectors to a waiting request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merged {
    /// There is no neighbour, or the caller refused.
    No,
    /// Joined at this side.
    At(Side),
}

/// The requests of one disk and the scheduler that orders them.
pub struct Elevator<T> {
    policy: Box<dyn Scheduler>,
    name: &'static str,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    waiting: usize,
    started: usize,
    faults: u64,
}

const NO_REQUEST: Request = Request {
    dir: Dir::Read,
    sync: false,
    start: 0,
    sectors: 0,
    owner: 0,
    prio: iosched_api::IoPrio { class: iosched_api::IoClass::BestEffort, level: 4 },
    mergeable: false,
};

impl<T> Elevator<T> {
    /// A queue of at most `depth` requests that wait or are under way.
    pub fn new(info: &SchedulerInfo, depth: u32) -> Result<Elevator<T>, NoMemory> {
        let mut entries = Vec::new();
        let mut free = Vec::new();
        entries.try_reserve_exact(depth as usize).map_err(|_| NoMemory)?;
        free.try_reserve_exact(depth as usize).map_err(|_| NoMemory)?;
        let entry = || Entry { state: State::Free, request: NO_REQUEST, started_ns: 0, payload: None };
        entries.resize_with(depth as usize, entry);
        free.extend((0..depth).rev());
        let policy = (info.make)(depth)?;
        Ok(Elevator { policy, name: info.name, entries, free, waiting: 0, started: 0, faults: 0 })
    }

    /// The policy's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn depth(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests under way.
    pub fn started(&self) -> usize {
        self.started
    }

    /// Wrong answers of the policy so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Adds a request; it comes back when the table is full.
    pub fn insert(&mut self, request: &Request, payload: T, now_ns: u64) -> Result<Id, T> {
        let Some(number) = self.free.pop() else { return Err(payload) };
        let id = Id(number);
        let entry = &mut self.entries[id.index()];
        *entry = Entry { state: State::Waiting, request: *request, started_ns: 0, payload: Some(payload) };
        self.waiting += 1;
        self.policy.insert(id, request, now_ns);
        Ok(id)
    }

    /// Joins `sectors` new sectors at `start` to a waiting request. `join` gets that request's payload and the
    /// side, does it, and answers false if it may not be done.
    pub fn merge(
        &mut self,
        dir: Dir,
        start: u64,
        sectors: u32,
        now_ns: u64,
        join: impl FnOnce(&mut T, Side) -> bool,
    ) -> Merged {
        let end = start.saturating_add(u64::from(sectors));
        let Some((id, side)) = self.policy.find_merge(dir, start, end) else { return Merged::No };
        let Some(entry) = self.entries.get_mut(id.index()) else { return Merged::No };
        let fits = match side {
            Side::Back => entry.request.end() == start,
            Side::Front => entry.request.start == end,
        };
        let sum = entry.request.sectors.checked_add(sectors);
        let (true, Some(sum), Some(payload)) =
            (fits && entry.state == State::Waiting && entry.request.dir == dir, sum, &mut entry.payload)
        else {
            self.faults += 1;
            return Merged::No;
        };
        if !join(payload, side) {
            return Merged::No;
        }
        entry.request.sectors = sum;
        if side == Side::Front {
            entry.request.start = start;
        }
        self.policy.grown(id, &entry.request, now_ns);
        Merged::At(side)
    }

    /// What to start next.
    pub fn next(&mut self, now_ns: u64) -> Order<T> {
        if self.waiting == 0 {
            return Order::Nothing;
        }
        let id = match self.policy.next(now_ns) {
            Next::Start(id) => id,
            Next::WaitUntil(at_ns) if at_ns > now_ns => return Order::WaitUntil(at_ns),
            // Enough is under way; or the policy has forgotten what waits.
            Next::WaitUntil(_) | Next::Nothing if self.started > 0 => return Order::Nothing,
            Next::WaitUntil(_) | Next::Nothing => {
                self.faults += 1;
                match self.entries.iter().position(|entry| entry.state == State::Waiting) {
                    Some(at) => Id(at as u32),
                    None => return Order::Nothing,
                }
            }
        };
        self.start(id, now_ns)
    }

    fn start(&mut self, id: Id, now_ns: u64) -> Order<T> {
        let entry = self.entries.get_mut(id.index());
        let Some(entry) = entry.filter(|entry| entry.state == State::Waiting) else {
            self.faults += 1;
            return Order::Nothing;
        };
        let Some(payload) = entry.payload.take() else { return Order::Nothing };
        entry.state = State::Started;
        entry.started_ns = now_ns;
        self.waiting -= 1;
        self.started += 1;
        Order::Start(id, payload)
    }

    /// What a request that waits or is under way looks like now, with what was joined to it.
    pub fn request(&self, id: Id) -> Request {
        self.entries.get(id.index()).map_or(NO_REQUEST, |entry| entry.request)
    }

    /// A request that was started is done, and its id free.
    pub fn completed(&mut self, id: Id, now_ns: u64) {
        let Some(entry) = self.entries.get_mut(id.index()) else { return };
        if entry.state != State::Started {
            return;
        }
        entry.state = State::Free;
        let (request, started_ns) = (entry.request, entry.started_ns);
        self.started -= 1;
        self.free.push(id.0);
        self.policy.completed(id, &request, started_ns, now_ns);
    }

    /// Puts another policy in its place. What waits moves over; what is under way stays under way, and its
    /// completion is reported to the new policy, which must take that for a request it does not know. The old
    /// policy comes back, to be dropped without a lock.
    #[must_use]
    pub fn replace(
        &mut self,
        info: &SchedulerInfo,
        mut policy: Box<dyn Scheduler>,
        now_ns: u64,
    ) -> Box<dyn Scheduler> {
        // The table says what waits, whatever the old policy knew.
        for (number, entry) in self.entries.iter().enumerate() {
            if entry.state == State::Waiting {
                policy.insert(Id(number as u32), &entry.request, now_ns);
            }
        }
        self.name = info.name;
        core::mem::replace(&mut self.policy, policy)
    }

    /// Takes a waiting request out, whichever: for a queue that goes away.
    pub fn take_any(&mut self) -> Option<T> {
        let at = self.entries.iter().position(|entry| entry.state == State::Waiting)?;
        self.policy.remove(Id(at as u32));
        let payload = self.entries[at].payload.take();
        self.entries[at].state = State::Free;
        self.free.push(at as u32);
        self.waiting -= 1;
        payload
    }

    /// The names of the policy's knobs.
    pub fn tunables(&self) -> impl Iterator<Item = &'static str> {
        self.policy.tunables().iter().map(|tunable| tunable.name)
    }

    /// A knob's value.
    pub fn tunable(&self, name: &str) -> Option<u64> {
        let place = self.policy.tunables().iter().position(|tunable| tunable.name == name)?;
        Some(self.policy.tunable(place))
    }

    /// Turns a knob.
    pub fn set_tunable(&mut self, name: &str, value: u64) -> Result<(), TunableError> {
        let tunables = self.policy.tunables();
        let place = tunables.iter().position(|t| t.name == name).ok_or(TunableError::Unknown)?;
        if !(tunables[place].min..=tunables[place].max).contains(&value) {
            return Err(TunableError::OutOfRange);
        }
        self.policy.set_tunable(place, value);
        Ok(())
    }
}
