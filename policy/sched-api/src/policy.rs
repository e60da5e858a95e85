//! The trait itself.

use crate::{Carry, Params, TunableError};

/// A task's place in one run queue: a small number that the mechanism gives out when the task enters
/// and takes back when it has left, so a policy keeps its per-task data in a `Vec` indexed by it.
///
/// It is not a process id: it says something to one queue only, and it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a task enters the queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Enqueue {
    /// It was just created.
    New,
    /// It wakes up after sleeping.
    Wake {
        /// What it took along when it went to sleep, from this queue or another.
        carry: Carry,
        /// The waker is about to sleep (a hint; pipes and futexes know).
        sync: bool,
    },
    /// It comes from another CPU, another policy or another class, and was runnable all the time.
    Move {
        /// What it took along.
        carry: Carry,
    },
}

/// Why a task leaves the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dequeue {
    /// It goes to sleep. The only reason that the policy may answer with [`Dequeued::Delayed`].
    Sleep,
    /// It goes to another CPU, policy or class, and stays runnable.
    Move,
    /// It ends, or must leave at once for another reason although it does not run on.
    Exit,
}

/// What became of a task that was to leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dequeued {
    /// It has left; its slot is free.
    Gone(Carry),
    /// It sleeps, but the policy keeps it in the competition until it has paid back what it had too
    /// much (EEVDF's delayed dequeue). The slot stays taken until the task wakes
    /// ([`SchedPolicy::wake_delayed`]), is dequeued for another reason, or [`Pick::Drop`] releases it.
    Delayed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pick {
    /// Run this one (it may be the one that ran until now).
    Run(Slot),
    /// This delayed sleeper has now left; take its slot back and ask again.
    Drop(Slot, Carry),
    /// Nothing to run.
    Nothing,
}

/// One line of /proc/PID/sched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Nanoseconds, shown as milliseconds with six decimals.
    Ns(i64),
    /// A plain number.
    Number(i64),
}

/// There was no memory to make room for more slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// A scheduling algorithm for the tasks of one class on one CPU.
///
/// # When what is called
///
/// All calls happen under the run queue's lock, so nothing is called twice at once. `now_ns` is the
/// queue's clock; it does not go back, but a policy survives it if it does.
///
/// ```text
/// task created or woken:   if sleeper.slot is still held      p.wake_delayed(now, slot)
///                          else                               p.enqueue(now, slot, params, why)
///                          -> true: interrupt the running task and call the scheduler
///
/// schedule():              if the running task blocks         p.dequeue(now, slot, Sleep)
///                          if a higher class has work         p.put_prev(now)
///                          else loop { match p.pick_next(now) {
///                              Run(slot)  => { check slot; switch to it; break }
///                              Drop(s, c) => { free slot s; keep c in the sleeper }
///                              Nothing    => { next class; break } } }
///                          program the timer for              p.next_event(now)
///
/// timer at next_event:     if p.tick(now)                     schedule()
/// sched_yield(2):          p.yield_current(now);              schedule()
/// setpriority(2) etc.:     if p.set_params(now, slot, new)    schedule()
/// balancing:               p.movable(now, can_run_there)   -> p.dequeue(now, slot, Move) here,
///                                                             q.enqueue(now, slot', Move{carry}) there
/// another policy q:        for each slot: c = p.dequeue(now, slot, Move);
///                                         q.enqueue(now, slot, Move{c});
///                          the running one:                   q.set_current(now, slot)
/// ```
///
/// The *running* task stays in the queue (it counts in [`nr_running`](Self::nr_running)); `pick_next`,
/// `set_current`, `put_prev` and `dequeue` decide who it is. Between `put_prev` and the next
/// `pick_next` there is none, because the CPU serves another class.
///
/// # Rules for the implementer
///
/// - No allocation except in [`reserve`](Self::reserve); O(log n) per call, [`movable`](Self::movable)
///   apart, which looks at a bounded number of tasks.
/// - A slot is below what `reserve` was last called with. Calls about slots that are not in the queue
///   do not happen; answer them with something harmless.
/// - Answers are checked. One that names a task that may not run, or `Nothing` while tasks are runnable,
///   gets the policy replaced, as does leaving a task unscheduled for 10 s.
pub trait SchedPolicy: Send {
    /// The name, as in [`crate::PolicyInfo`].
    fn name(&self) -> &'static str;

    /// Makes room so that slots `0..slots` can be used without allocating. Never shrinks.
    fn reserve(&mut self, slots: usize) -> Result<(), NoMemory>;

    /// `slot` joins the queue. Answers whether it should run now rather than the running task.
    fn enqueue(&mut self, now_ns: u64, slot: Slot, params: &Params, why: Enqueue) -> bool;

    /// `slot`, running or not, leaves the queue.
    fn dequeue(&mut self, now_ns: u64, slot: Slot, why: Dequeue) -> Dequeued;

    /// A task wakes whose dequeue was answered with [`Dequeued::Delayed`]; it is runnable again where it
    /// was. Answers like [`enqueue`](Self::enqueue). Policies that never delay keep this default.
    fn wake_delayed(&mut self, now_ns: u64, slot: Slot) -> bool {
        let _ = (now_ns, slot);
        false
    }

    /// Puts the running task, if there is one, back among the others and chooses who runs from now on.
    fn pick_next(&mut self, now_ns: u64) -> Pick;

    /// The caller runs `slot`, which is queued, whatever the policy thinks. After a policy or class
    /// change of the task that is on the CPU at that moment.
    fn set_current(&mut self, now_ns: u64, slot: Slot);

    /// The running task stops running but stays runnable: a higher class takes the CPU.
    fn put_prev(&mut self, now_ns: u64);

    /// Charges the running task for the time up to now; answers whether another should run instead.
    fn tick(&mut self, now_ns: u64) -> bool;

    /// The time, after `now_ns`, at which `tick` would first answer true if nothing else happened, or
    /// `None` when the running task can go on for ever. A tickless kernel sets its timer by this; a
    /// tick that comes to nothing (by a nanosecond of rounding) does no harm.
    fn next_event(&self, now_ns: u64) -> Option<u64>;

    /// The running task gives way (sched_yield(2)); `pick_next` follows.
    fn yield_current(&mut self, now_ns: u64);

    /// New parameters, of the same class, for a task that is queued or running. Answers whether to
    /// schedule again.
    fn set_params(&mut self, now_ns: u64, slot: Slot, params: &Params) -> bool;

    /// Tasks that want the CPU, the running one included, delayed sleepers not.
    fn nr_running(&self) -> u32;

    /// Sum of their weights; for classes without weights, their number times 1024.
    fn load(&self) -> u64;

    /// A waiting task that another CPU should take, the one whose loss hurts least first, among those
    /// that `accept` lets go (it knows affinities and what is still warm in the cache). Looks at a
    /// bounded number of tasks. The running task is never offered.
    fn movable(&mut self, now_ns: u64, accept: &mut dyn FnMut(Slot) -> bool) -> Option<Slot>;

    /// Reports what the policy knows about `slot`, under the names that /proc/PID/sched uses
    /// (`se.vruntime`). Call `tick` or `pick_next` first for numbers up to now.
    fn stats(&self, slot: Slot, put: &mut dyn FnMut(&'static str, Stat));

    /// The names of this policy's knobs (`latency_ns` ...).
    fn tunables(&self) -> &'static [&'static str] {
        &[]
    }

    /// The value of a knob, `None` when there is no such knob.
    fn tunable(&self, name: &str) -> Option<u64> {
        let _ = name;
        None
    }

    /// Turns a knob of this instance; takes effect with the next decision.
    fn set_tunable(&mut self, name: &str, value: u64) -> Result<(), TunableError> {
        let _ = (name, value);
        Err(TunableError::Unknown)
    }
}
