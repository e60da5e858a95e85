//! The hook that the scheduler plugs into, and the blocking calls built on it.

use crate::task::{Task, current};
use alloc::sync::Arc;
use sync::Once;

/// What `kernel/sched` implements. The order of calls in a task's life:
///
/// ```text
/// attach(task)                    once, when it is made; state is New
/// wake(task)                      New or a sleeping state was just turned into Running by the caller
/// schedule()                      the current task: state Running = preempted or yielded, else it sleeps
/// detach(task)                    once, from the switch after its last schedule() (state Dead)
/// ```
///
/// The rules that make wake-ups race-free on several CPUs:
/// 1. `schedule` decides between "preempted" and "sleeps" by reading the state under the run-queue lock.
/// 2. `wake` takes the lock of the run queue the task is on or was on last; when the task is still on
///    it (`on_rq`), it did not get to sleep and nothing is enqueued.
/// 3. A task whose `Task::on_cpu()` is true was descheduled but its registers are not saved yet: it may
///    be enqueued only on the CPU that it is on, and must not be pulled from there by balancing.
///    [`crate::switch_to`] panics on a task that is on a CPU.
/// 4. Preemption (from `irq_exit` or when the last preemption count drops) treats the current task as
///    preempted whatever its state says: it may be between announcing a sleep and looking at its
///    condition, and stays on the run queue.
pub trait Scheduler: Sync {
    /// Makes the task known. Not runnable yet. May fail when memory is short.
    fn attach(&self, task: &Arc<Task>) -> Result<(), mem::OutOfMemory>;

    /// Puts a task that was New or asleep on a run queue. Any context, interrupts on or off; the caller
    /// has turned the state to Running and is the only one that did.
    fn wake(&self, task: &Arc<Task>);

    /// Gives the CPU away. Preemption on or counted once by the caller, no spin lock held.
    fn schedule(&self);

    /// The current task gives way to others of its class (sched_yield(2)).
    fn yield_now(&self);

    /// Called on the CPU that switched away from a dead task for the last time; interrupts off.
    fn detach(&self, task: &Task);
}

/// Names one armed timeout to the source that armed it.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutHandle {
    pub cpu: usize,
    pub id: u64,
}

/// Wakes tasks at a time. Implemented by `kernel/time`.
pub trait TimeoutSource: Sync {
    /// Wakes `task` (as [`Task::wake`] does) at `deadline_ns` of the monotonic clock or soon after.
    /// `None` when memory is short.
    fn arm(&self, task: &Arc<Task>, deadline_ns: u64) -> Option<TimeoutHandle>;
    /// Forgets a timeout, if it has not fired. A wake-up on its way may still come: sleepers look again.
    fn disarm(&self, handle: TimeoutHandle);
}

static SCHEDULER: Once<&'static dyn Scheduler> = Once::new();
static TIMEOUTS: Once<&'static dyn TimeoutSource> = Once::new();

/// Installs the scheduler. Once, at boot.
pub fn install_scheduler(scheduler: &'static dyn Scheduler) {
    let _ = SCHEDULER.set(scheduler);
}

/// Installs the source of timeouts. Once, at boot.
pub fn install_timeouts(source: &'static dyn TimeoutSource) {
    let _ = TIMEOUTS.set(source);
}

/// The installed scheduler; using it before boot installed it is a kernel bug.
#[inline]
pub fn scheduler() -> &'static dyn Scheduler {
    *SCHEDULER.get_expect()
}

/// Gives the CPU away: the tail of every sleeping function. The caller has announced its state.
#[inline]
pub fn schedule() {
    scheduler().schedule();
}

/// Gives way to other runnable tasks. Process context.
pub fn yield_now() {
    might_sleep();
    scheduler().yield_now();
}

/// At the head of every function that may sleep: panics in debug builds in atomic context.
#[inline]
#[track_caller]
pub fn might_sleep() {
    sync::assert_may_sleep();
}

/// Sleeps with the announced state until woken or until `deadline_ns` (monotonic; `None`: for ever).
/// Returns whether the deadline has passed. The caller loops on its condition.
pub fn sleep_until(deadline_ns: Option<u64>) -> bool {
    let Some(deadline_ns) = deadline_ns else {
        schedule();
        return false;
    };
    if arch::timer::now_ns() >= deadline_ns {
        current().set_running();
        return true;
    }
    let timeouts = *TIMEOUTS.get_expect();
    match timeouts.arm(&current().arc(), deadline_ns) {
        Some(handle) => {
            schedule();
            timeouts.disarm(handle);
        }
        // No memory for a timer: give way and look again, instead of failing a sleep.
        None => {
            current().set_running();
            scheduler().yield_now();
        }
    }
    arch::timer::now_ns() >= deadline_ns
}

/// Sleeps for `duration_ns` whatever happens. Process context.
pub fn sleep_for_ns(duration_ns: u64) {
    let deadline_ns = arch::timer::now_ns().saturating_add(duration_ns);
    let _: Result<(), _> = crate::wait_any(&[], crate::WaitMode::Uninterruptible, Some(deadline_ns), || None);
}
