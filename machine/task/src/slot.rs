//! The scheduler's data of a task, kept here so that the scheduler reaches it without a look-up.
//!
//! Only `kernel/sched` gives these fields a meaning; what it exports says it in the terms of others.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use sync::SpinLock;
use sync::levels::TaskState;

/// Placement, settings and accounting of one task.
#[derive(Default)]
pub struct SchedSlot {
    /// Serialises changes of the settings. Wake-ups do not take it: see `settings` in `kernel/sched`.
    pub lock: SpinLock<(), TaskState>,
    /// The CPU whose run queue the task is on, or was on last.
    pub cpu: AtomicU32,
    /// Whether it is on a run queue (running counts). Changed under that run queue's lock.
    pub on_rq: AtomicBool,
    /// CPUs it may run on, as the bits of a `CpuMask`.
    pub affinity: AtomicU64,
    /// Its slot in the run queue, while it is on one.
    pub place: AtomicU32,
    /// Bits of `kernel/sched`.
    pub flags: AtomicU32,
    /// Class, nice, priority and so on, packed by `kernel/sched`.
    pub settings: [AtomicU64; 2],
    /// The real-time priority that it inherits from those who wait for what it has; 0: none.
    pub boost: AtomicU32,
    /// What its policy must know when it comes back to a queue; written before `on_rq` becomes false.
    pub carry: [AtomicU64; 6],
    /// Nanoseconds it ran in all (Linux's `sum_exec_runtime`).
    pub run_ns: AtomicU64,
    /// When it last woke another task, 0 for not since it slept; and how long it usually goes on then.
    pub woke_at_ns: AtomicU64,
    pub tail_ns: AtomicU64,
    /// When it last began to wait for the CPU, and how long it waited in all (Linux's `run_delay`).
    pub queued_at_ns: AtomicU64,
    pub wait_ns: AtomicU64,
    /// When it last left a CPU: until then its cache was warm.
    pub left_cpu_at_ns: AtomicU64,
    /// Time that samples found it in user mode, and in the kernel.
    pub sampled_user_ns: AtomicU64,
    pub sampled_system_ns: AtomicU64,
    /// Voluntary and involuntary context switches, how often it got the CPU, and moves between CPUs.
    pub switches_voluntary: AtomicU64,
    pub switches_involuntary: AtomicU64,
    pub timeslices: AtomicU64,
    pub migrations: AtomicU64,
}
