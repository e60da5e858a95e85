//! The trait, how an instance is made, and its knobs.

use crate::{Dir, Id, Request, Side};
use alloc::boxed::Box;

/// What the disk is to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Start this request, which is waiting.
    Start(Id),
    /// Stay idle although requests wait; ask again at this time (nanoseconds), or when something happens.
    WaitUntil(u64),
    /// Nothing may be started now: nothing waits, or enough is under way.
    Nothing,
}

/// There was no memory for the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

/// Why a knob was not turned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunableError {
    /// There is none of that name (ENOENT).
    Unknown,
    /// The value is outside of its range (EINVAL).
    OutOfRange,
}

/// A knob as sysfs shows it in `queue/iosched/`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunable {
    /// The file's name, Linux's where Linux has the knob. Ending in `_us`: microseconds; the others that are
    /// times are milliseconds, as Linux shows them.
    pub name: &'static str,
    pub min: u64,
    pub max: u64,
}

/// An I/O scheduler for one disk. Ids are below the `depth` it was made for.
///
/// ```text
///   a bio comes:     find_merge ─ found ─> grown (the request has more sectors now), maybe joined
///                               └ none ──> insert
///   the disk is free: next ─> Start(id)            until Nothing or WaitUntil
///   the disk is done: completed(id)
///   another policy:   nothing is called any more; the new one gets insert for all that wait
/// ```
pub trait Scheduler: Send {
    /// A request waits from now on.
    fn insert(&mut self, id: Id, request: &Request, now_ns: u64);

    /// What to do next. A request that is named has left the scheduler's queues; it will be completed.
    fn next(&mut self, now_ns: u64) -> Next;

    /// A request that was started is done; `started_ns` is when it was handed to the disk.
    fn completed(&mut self, id: Id, request: &Request, started_ns: u64, now_ns: u64) {
        let _ = (id, request, started_ns, now_ns);
    }

    /// A waiting request that sectors `start..end` could be joined to, and at which side.
    fn find_merge(&self, dir: Dir, start: u64, end: u64) -> Option<(Id, Side)>;

    /// The waiting request covers other sectors now than when it was inserted: `request` says which.
    fn grown(&mut self, id: Id, request: &Request, now_ns: u64);

    /// Takes one waiting request out. `false` when it does not wait here.
    fn remove(&mut self, id: Id) -> bool;

    /// Requests that wait.
    fn waiting(&self) -> usize;

    /// The knobs.
    fn tunables(&self) -> &'static [Tunable] {
        &[]
    }

    /// The value of the knob with this place in [`Scheduler::tunables`].
    fn tunable(&self, place: usize) -> u64 {
        let _ = place;
        0
    }

    /// Sets the knob; the value is within its range.
    fn set_tunable(&mut self, place: usize, value: u64) {
        let _ = (place, value);
    }
}

/// A scheduler that can be chosen by name; each policy crate exports one as `INFO`.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerInfo {
    /// As written to `/sys/block/*/queue/scheduler`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Makes an instance for `depth` ids. Called outside of any lock.
    pub make: fn(depth: u32) -> Result<Box<dyn Scheduler>, NoMemory>,
}
