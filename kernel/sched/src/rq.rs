//! The run queue of a CPU and its lock.

use crate::balance::Balanced;
use alloc::boxed::Box;
use alloc::sync::Arc;
use arch::{CpuMask, Ipi, cpu, timer};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use sched_api::{Carry, PolicyInfo, QueueConfig, QueueId, SchedPolicy, Slot};
use sched_queue::{CpuQueue, Fault};
use sync::{Once, PerCpu, SpinGuard, SpinLock, levels};
use task::Task;

/// A CPU that runs a task alone is interrupted this often, for a sample of what it does.
const SAMPLE_NS: u64 = 100_000_000;
/// After a task has joined without preempting, the queue is asked again this soon at the latest.
const LOOK_NS: u64 = 2_000_000;
/// A CPU where a real-time task waits behind another looks this often for a better place.
const RT_PUSH_NS: u64 = 4_000_000;

pub(crate) static QUEUES: Once<PerCpu<RunQueue>> = Once::new();
static QUEUE_IDS: AtomicU64 = AtomicU64::new(1);

/// CPUs that run tasks; among them those with nothing to run and those where a task waits. Written under
/// the CPU's run-queue lock, read by anybody.
static ONLINE: AtomicU64 = AtomicU64::new(0);
static IDLE: AtomicU64 = AtomicU64::new(0);
static OVERLOADED: AtomicU64 = AtomicU64::new(0);

/// The CPUs that run tasks.
pub fn online() -> CpuMask {
    CpuMask(ONLINE.load(Ordering::Acquire))
}

/// One CPU's run queue.
pub(crate) struct RunQueue {
    inner: SpinLock<Inner, levels::RunQueue>,
    shown: Shown,
    /// The tick found it time for a sample; the end of the interrupt knows user from kernel.
    pub sample_due: AtomicBool,
    pub stopper: Once<Arc<Task>>,
    /// For the stopper: a task is in this queue that may not run here.
    pub evict: AtomicBool,
}

/// What other CPUs look at without the lock: hints.
#[derive(Default)]
struct Shown {
    nr_running: AtomicU32,
    load: AtomicU64,
    rt_priority: AtomicU8,
}

/// What the lock guards.
pub(crate) struct Inner {
    pub queue: CpuQueue<Arc<Task>>,
    /// The idle task, once the CPU is up.
    pub idle: Option<Arc<Task>>,
    /// Until when the running task's time is charged, and sampled.
    pub charged_at_ns: u64,
    pub sampled_at_ns: u64,
    /// When the timer is set to call `tick`.
    pub event_ns: Option<u64>,
    /// A Reschedule interrupt is on its way.
    pub kicked: bool,
    pub balance_at_ns: u64,
    /// What the policy was found to do wrong, until the watchdog has seen to it.
    pub fault: Option<Fault>,
    pub counts: Counts,
}

/// For /proc/schedstat, /proc/stat and the load average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub yields: u64,
    pub schedules: u64,
    pub switches: u64,
    pub went_idle: u64,
    pub wakes: u64,
    pub wakes_local: u64,
    pub pulls: Balanced,
    pub pushes: Balanced,
    pub run_ns: u64,
    pub wait_ns: u64,
    pub timeslices: u64,
    /// Went to sleep uninterruptibly here, minus those that woke here: right only in the sum.
    pub uninterruptible: i64,
    pub user_ns: u64,
    pub nice_ns: u64,
    pub system_ns: u64,
}

/// Makes an instance of a policy with a name of its own.
pub(crate) fn make_policy(info: &PolicyInfo, slots: usize) -> Option<Box<dyn SchedPolicy>> {
    let id = QueueId(QUEUE_IDS.fetch_add(1, Ordering::Relaxed));
    (info.make)(QueueConfig { id, cpus: cpu::count() as u32, slots }).ok()
}

impl RunQueue {
    pub fn new(info: &PolicyInfo) -> RunQueue {
        let now_ns = timer::now_ns();
        let policy = make_policy(info, 0).expect("an empty policy needs no memory");
        let inner = Inner {
            queue: CpuQueue::new(now_ns, policy),
            idle: None,
            charged_at_ns: now_ns,
            sampled_at_ns: now_ns,
            event_ns: None,
            kicked: false,
            balance_at_ns: now_ns,
            fault: None,
            counts: Counts::default(),
        };
        RunQueue {
            inner: SpinLock::new(inner),
            shown: Shown::default(),
            sample_due: AtomicBool::new(false),
            stopper: Once::new(),
            evict: AtomicBool::new(false),
        }
    }

    pub fn lock(&self) -> Guard<'_> {
        self.inner.lock()
    }
}

pub(crate) type Guard<'a> = SpinGuard<'a, Inner, levels::RunQueue>;

pub(crate) fn of(cpu: usize) -> &'static RunQueue {
    QUEUES.get_expect().of(cpu)
}

/// The run queue of this CPU. Interrupts or preemption off.
pub(crate) fn this() -> &'static RunQueue {
    QUEUES.get_expect().this()
}

/// The CPUs that are up, with their queues.
pub(crate) fn each() -> impl Iterator<Item = (usize, &'static RunQueue)> {
    online().iter().map(|cpu| (cpu, of(cpu)))
}

/// Locks the run queue that `task` is on; `None` when it is on none.
pub(crate) fn lock_of(task: &Task) -> Option<(usize, Guard<'static>)> {
    loop {
        if !task.sched.on_rq.load(Ordering::SeqCst) {
            return None;
        }
        let cpu = task.sched.cpu.load(Ordering::Relaxed) as usize;
        let guard = of(cpu).lock();
        // It may have moved, or gone to sleep, before the lock was ours.
        if task.sched.on_rq.load(Ordering::SeqCst) && task.sched.cpu.load(Ordering::Relaxed) as usize == cpu {
            return Some((cpu, guard));
        }
    }
}

/// What is left to do after the lock is dropped.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct Kick(Option<usize>);

impl Kick {
    pub const NONE: Kick = Kick(None);

    /// Interrupts the other CPU, if that was asked for. Without any run-queue lock: it takes a while.
    pub fn send(self) {
        if let Some(cpu) = self.0 {
            arch::smp::send_ipi(CpuMask::one(cpu), Ipi::Reschedule);
        }
    }
}

impl Inner {
    /// Makes `cpu`, whose queue this is, call the scheduler soon.
    pub fn resched(&mut self, cpu: usize) -> Kick {
        if cpu == cpu::id() {
            cpu::set_need_resched(true);
            return Kick::NONE;
        }
        // One interrupt is enough until it has scheduled.
        let first = !core::mem::replace(&mut self.kicked, true);
        Kick(first.then_some(cpu))
    }

    /// Whether `task` is this CPU's idle task.
    pub fn is_idle_task(&self, task: &Task) -> bool {
        self.idle.as_ref().is_some_and(|idle| core::ptr::eq(Arc::as_ptr(idle), task))
    }

    /// Charges the task that runs on this CPU for its time up to now.
    pub fn charge(&mut self, now_ns: u64, running: &Task) {
        let ran_ns = now_ns.saturating_sub(self.charged_at_ns);
        self.charged_at_ns = now_ns;
        if !self.is_idle_task(running) {
            add(&running.sched.run_ns, ran_ns);
            self.counts.run_ns += ran_ns;
        }
    }

    /// Sets this CPU's timer to when the queue wants its next tick. On this CPU, interrupts off.
    pub fn program(&mut self, now_ns: u64) {
        let event_ns = self.next_event_ns(now_ns);
        if event_ns != self.event_ns {
            self.event_ns = event_ns;
            time::set_sched_event(event_ns);
        }
    }

    fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        self.queue.current()?;
        let own_ns = now_ns + if self.queue.nr_rt() > 1 { RT_PUSH_NS } else { SAMPLE_NS };
        Some(self.queue.next_event(now_ns).map_or(own_ns, |event_ns| event_ns.min(own_ns)))
    }

    /// After a task joined without preempting: the running one is perhaps no longer alone.
    ///
    /// When exactly its turn ends is not computed here: most wakers sleep long before, and then all was
    /// for nothing. The tick after [`LOOK_NS`] computes it.
    pub fn reprogram(&mut self, cpu: usize, now_ns: u64) -> Kick {
        let look_ns = now_ns + LOOK_NS;
        if self.event_ns.is_some_and(|event_ns| event_ns <= look_ns) {
            return Kick::NONE;
        }
        if cpu == cpu::id() {
            self.event_ns = Some(look_ns);
            time::set_sched_event(self.event_ns);
            return Kick::NONE;
        }
        self.resched(cpu)
    }

    /// Shows the others what changed in the queue.
    pub fn publish(&self, cpu: usize) {
        let shown = &of(cpu).shown;
        let nr_running = self.queue.nr_running();
        let before = shown.nr_running.load(Ordering::Relaxed);
        if before != nr_running {
            shown.nr_running.store(nr_running, Ordering::Relaxed);
            mark(&IDLE, cpu, before == 0, nr_running == 0);
            mark(&OVERLOADED, cpu, before > 1, nr_running > 1);
        }
        shown.load.store(self.queue.fair_load(), Ordering::Relaxed);
        shown.rt_priority.store(self.queue.rt_priority(), Ordering::Relaxed);
    }

    /// Notes what the policy did wrong; whether there is something new to tell the watchdog.
    pub fn note_fault(&mut self) -> bool {
        let fault = self.queue.take_fault();
        self.fault = self.fault.or(fault);
        fault.is_some()
    }
}

/// Sets or clears a CPU's bit, if that changes.
fn mark(mask: &AtomicU64, cpu: usize, before: bool, now: bool) {
    match (before, now) {
        (false, true) => _ = mask.fetch_or(1 << cpu, Ordering::Relaxed),
        (true, false) => _ = mask.fetch_and(!(1 << cpu), Ordering::Relaxed),
        _ => {}
    }
}

/// The CPU joins those that run tasks, idle.
pub(crate) fn set_online(cpu: usize) {
    IDLE.fetch_or(1 << cpu, Ordering::Relaxed);
    ONLINE.fetch_or(1 << cpu, Ordering::Release);
}

/// What balancing decisions look at.
pub(crate) struct View;

impl sched_balance::Cpus for View {
    fn count(&self) -> usize {
        cpu::count()
    }

    fn idle(&self, word: usize) -> u64 {
        if word == 0 { IDLE.load(Ordering::Relaxed) & ONLINE.load(Ordering::Relaxed) } else { 0 }
    }

    fn overloaded(&self, word: usize) -> u64 {
        if word == 0 { OVERLOADED.load(Ordering::Relaxed) & ONLINE.load(Ordering::Relaxed) } else { 0 }
    }

    fn nr_running(&self, cpu: usize) -> u32 {
        of(cpu).shown.nr_running.load(Ordering::Relaxed)
    }

    fn load(&self, cpu: usize) -> u64 {
        of(cpu).shown.load.load(Ordering::Relaxed)
    }

    fn rt_priority(&self, cpu: usize) -> u8 {
        of(cpu).shown.rt_priority.load(Ordering::Relaxed)
    }
}

/// Whether a task waits on any CPU but `me`.
pub(crate) fn others_overloaded(me: usize) -> bool {
    OVERLOADED.load(Ordering::Relaxed) & !(1 << me) != 0
}

/// Adds to a counter that one CPU at a time writes (under a run-queue lock): no locked instruction.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// The task is on no queue from here on: what its policy gave it along, then the flag that says so.
pub(crate) fn leave(task: &Task, carry: &Carry) {
    let words = [
        carry.home.0,
        carry.vruntime_ns,
        carry.lag_ns as u64,
        carry.deadline_in_ns,
        carry.rr_left_ns,
        carry.left_at_ns,
    ];
    for (place, word) in task.sched.carry.iter().zip(words) {
        place.store(word, Ordering::Relaxed);
    }
    task.sched.on_rq.store(false, Ordering::SeqCst);
}

/// What [`leave`] kept.
pub(crate) fn carry_of(task: &Task) -> Carry {
    let [home, vruntime_ns, lag, deadline_in_ns, rr_left_ns, left_at_ns] =
        [0, 1, 2, 3, 4, 5].map(|index: usize| task.sched.carry[index].load(Ordering::Relaxed));
    Carry { home: QueueId(home), vruntime_ns, lag_ns: lag as i64, deadline_in_ns, rr_left_ns, left_at_ns }
}

pub(crate) fn slot_of(task: &Task) -> Slot {
    Slot(task.sched.place.load(Ordering::Relaxed))
}

/// Grows every queue so that it could hold `tasks` tasks. They all might come to one CPU.
///
/// Allocates under the run-queue lock, which rules out that the allocator wakes anybody; rare, since room
/// doubles. Making the storage outside would need each policy to hand its tables over in two steps.
pub(crate) fn reserve(tasks: usize) -> Result<(), mem::OutOfMemory> {
    for (_, rq) in QUEUES.get_expect().iter() {
        let mut inner = rq.lock();
        if inner.queue.capacity() < tasks {
            inner.queue.reserve(tasks).map_err(|_| mem::OutOfMemory)?;
        }
    }
    Ok(())
}
