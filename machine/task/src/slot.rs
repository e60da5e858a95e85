//! The scheduler's data of a task, kept here so that the scheduler reaches it without a look-up.
//!
//! Only `kernel/sched` gives these fields a meaning.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use sync::SpinLock;
use sync::levels::TaskState;

/// Placement and accounting of one task.
#[derive(Default)]
pub struct SchedSlot {
    /// Serialises wake-ups and parameter changes of this task (Linux's `pi_lock`).
    pub lock: SpinLock<(), TaskState>,
    /// The CPU whose run queue the task is on, or was on last.
    pub cpu: AtomicU32,
    /// Whether it is on a run queue (running counts). Changed under that run queue's lock.
    pub on_rq: AtomicBool,
    /// CPUs it may run on, as the bits of a `CpuMask`.
    pub affinity: AtomicU64,
    /// Nanoseconds it ran in all (Linux's `sum_exec_runtime`).
    pub run_ns: AtomicU64,
    /// Voluntary and involuntary context switches.
    pub switches_voluntary: AtomicU64,
    pub switches_involuntary: AtomicU64,
}
