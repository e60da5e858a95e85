//! What the mechanism tells a policy about a task.

/// The four classes, most urgent first. A task of a later class runs only when the earlier ones have
/// nothing to run (the fair server's 5 % excepted).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Tasks that stop a CPU (migration, stop_machine); never preempted.
    Stop,
    /// SCHED_FIFO and SCHED_RR.
    Rt,
    /// SCHED_OTHER, SCHED_BATCH and SCHED_IDLE.
    Fair,
    /// The idle task of the CPU.
    Idle,
}

/// The scheduling policies of sched(7). SCHED_DEADLINE is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SchedKind {
    /// SCHED_OTHER: time-shared.
    #[default]
    Normal,
    /// SCHED_BATCH: time-shared, never preempts on wake-up.
    Batch,
    /// SCHED_IDLE: time-shared with the least weight (3 against 1024).
    Idle,
    /// SCHED_FIFO: runs until it blocks, yields or something more urgent comes.
    Fifo,
    /// SCHED_RR: like FIFO, with a slice of 100 ms among equals.
    RoundRobin,
    /// Above SCHED_FIFO, for the kernel's own stopper tasks; no user call sets it.
    Stop,
}

/// The real-time priorities are `1..MAX_RT_PRIO`, larger is more urgent (sched(7)).
pub const MAX_RT_PRIO: u8 = 100;

/// The least slice a task can ask for with sched_setattr(2): 0.1 ms (Linux 6.12).
pub const SLICE_MIN_NS: u64 = 100_000;
/// The greatest: 100 ms.
pub const SLICE_MAX_NS: u64 = 100_000_000;

/// A task's scheduling parameters. Plain data that the mechanism has validated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Which policy of sched(7).
    pub kind: SchedKind,
    /// -20 (greedy) to 19 (kind); for the fair class only.
    pub nice: i8,
    /// `1..=99` for FIFO and RR, else 0.
    pub rt_priority: u8,
    /// Requested slice of a fair task, 0 for the policy's default. Clamped to
    /// [`SLICE_MIN_NS`]..[`SLICE_MAX_NS`] by the policies that know slices.
    pub slice_ns: u64,
    /// `lab penalize`: virtual nanoseconds added for every millisecond the task runs, 0 normally.
    /// 1,000,000 doubles the pace of a nice-0 task, so two hogs share 33.3 : 66.7.
    pub penalty_ns_per_ms: u32,
}

impl Params {
    /// Parameters of an ordinary task at `nice`.
    pub const fn nice(nice: i8) -> Params {
        Params { kind: SchedKind::Normal, nice, rt_priority: 0, slice_ns: 0, penalty_ns_per_ms: 0 }
    }

    /// Parameters of a SCHED_FIFO task at `priority` (1..=99).
    pub const fn fifo(priority: u8) -> Params {
        Params { kind: SchedKind::Fifo, rt_priority: priority, ..Params::nice(0) }
    }

    /// Parameters of a SCHED_RR task at `priority` (1..=99).
    pub const fn round_robin(priority: u8) -> Params {
        Params { kind: SchedKind::RoundRobin, rt_priority: priority, ..Params::nice(0) }
    }

    /// Parameters of a stopper task.
    pub const fn stopper() -> Params {
        Params { kind: SchedKind::Stop, ..Params::nice(0) }
    }

    /// The class that serves a task with these parameters.
    pub const fn class(&self) -> Class {
        match self.kind {
            SchedKind::Normal | SchedKind::Batch | SchedKind::Idle => Class::Fair,
            SchedKind::Fifo | SchedKind::RoundRobin => Class::Rt,
            SchedKind::Stop => Class::Stop,
        }
    }

    /// The weight of a fair task: 1024 at nice 0, about 1.25 times more per step down, 3 for SCHED_IDLE.
    pub const fn weight(&self) -> u64 {
        match self.kind {
            SchedKind::Idle => crate::weight::IDLE_WEIGHT,
            _ => crate::weight::of_nice(self.nice),
        }
    }
}

/// Names one policy instance, so that a [`Carry`] can tell whether it comes home. Never reused while
/// the system is up: a swap gives every queue a new one. 0 is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueId(pub u64);

/// What a task takes along when it leaves a queue, in terms every policy of its class understands.
///
/// `Carry::default()` is a task without a past: it is placed at the queue's present virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// The queue it left, and with it the one reader for whom `vruntime_ns` means something.
    pub home: QueueId,
    /// Absolute virtual time of the task in `home`, in virtual ns (wraps).
    pub vruntime_ns: u64,
    /// The queue's virtual time minus the task's when it left: positive when the queue owed it time.
    pub lag_ns: i64,
    /// Virtual ns from the task's virtual time to its deadline, 0 when it had none or slept.
    pub deadline_in_ns: u64,
    /// Rest of a SCHED_RR slice in ns, 0 for a full new one.
    pub rr_left_ns: u64,
    /// When it left, on the caller's clock.
    pub left_at_ns: u64,
}
