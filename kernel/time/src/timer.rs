//! Timers and the clock event of each CPU.
//!
//! ```text
//!   arm ──> queue of the arming CPU ──clock event──> interrupt(): Task   -> wake it here
//!                                                                 Call   -> list of ktimers/N, which calls back
//! ```

use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use mem::OutOfMemory;
use sync::levels;
use sync::{Once, PerCpu, SpinLock};
use task::{NewTask, Task, TimeoutHandle, TimeoutSource, WaitMode, WaitQueue};
use timer_wheel::{TimerId, TimerQueue};

/// What a [`Timer`] does when its time has come.
pub trait Expire: Send + Sync {
    /// Called in a kernel thread: may sleep, but others wait behind it.
    fn expired(&self, now_ns: u64);
}

pub(crate) enum Entry {
    Task(Arc<Task>),
    /// What to call, and the timer's name.
    Call(Weak<dyn Expire>, &'static str),
}

pub(crate) struct Cpu {
    pub queue: SpinLock<TimerQueue<Entry>, levels::Timer>,
    /// The scheduler's next event on this CPU; `u64::MAX`: none.
    pub sched_event_ns: AtomicU64,
    /// What the clock event is programmed to.
    pub programmed_ns: AtomicU64,
    /// How often the clock event came.
    pub events: AtomicU64,
    expired: SpinLock<Vec<Weak<dyn Expire>>, levels::Timer>,
    thread: WaitQueue,
}

pub(crate) static CPUS: Once<PerCpu<Cpu>> = Once::new();
static SCHED: Once<fn(u64)> = Once::new();

/// Makes the queues and becomes the source of timeouts. Boot, after the heap, before interrupts.
pub fn init() {
    let _ = CPUS.set(PerCpu::new(|_| Cpu {
        queue: SpinLock::new(TimerQueue::new()),
        sched_event_ns: AtomicU64::new(u64::MAX),
        programmed_ns: AtomicU64::new(u64::MAX),
        events: AtomicU64::new(0),
        expired: SpinLock::new(Vec::new()),
        thread: WaitQueue::new(&"ktimers"),
    }));
    task::install_timeouts(&Timeouts);
    crate::clock::init();
    if let Some(now_s) = arch::rtc::read_unix_s() {
        // A clock that shows nonsense is as good as none.
        let _ = crate::set_realtime_ns(now_s.saturating_mul(1_000_000_000));
    }
}

/// Installs the scheduler's handler: called from the clock interrupt with the time, when its event is due.
pub fn set_sched_handler(handler: fn(now_ns: u64)) {
    let _ = SCHED.set(handler);
}

/// Sets when the scheduler's handler is called on this CPU (monotonic; `None`: not). Interrupts off.
pub fn set_sched_event(deadline_ns: Option<u64>) {
    let cpu = CPUS.get_expect().this();
    let deadline_ns = deadline_ns.unwrap_or(u64::MAX);
    cpu.sched_event_ns.store(deadline_ns, Ordering::Relaxed);
    // Programming a device costs more than a stray interrupt: a later event is left to the next one.
    if deadline_ns < cpu.programmed_ns.load(Ordering::Relaxed) {
        cpu.program(deadline_ns);
    }
}

impl Cpu {
    fn program(&self, deadline_ns: u64) {
        self.programmed_ns.store(deadline_ns, Ordering::Relaxed);
        if deadline_ns == u64::MAX {
            arch::timer::disarm();
        } else {
            arch::timer::set_deadline_ns(deadline_ns);
        }
    }

    /// Arms an entry on this CPU, with interrupts off so that the CPU stays the same.
    fn add(&self, deadline_ns: u64, entry: Entry) -> Result<TimerId, OutOfMemory> {
        let mut queue = self.queue.lock();
        let id = queue.add(deadline_ns, entry).map_err(|_| OutOfMemory)?;
        if deadline_ns < self.programmed_ns.load(Ordering::Relaxed) {
            self.program(deadline_ns);
        }
        Ok(id)
    }
}

/// The clock event's hook: hard-interrupt context.
pub fn interrupt() {
    let cpu = CPUS.get_expect().this();
    cpu.programmed_ns.store(u64::MAX, Ordering::Relaxed);
    // Only this CPU writes it, with interrupts off.
    cpu.events.store(cpu.events.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    let now_ns = arch::timer::now_ns();
    let mut calls = false;
    loop {
        let due = cpu.queue.lock().pop_expired(now_ns);
        match due {
            Some(Entry::Task(task)) => {
                task.wake();
            }
            Some(Entry::Call(target, _)) => {
                cpu.expired.lock().push(target);
                calls = true;
            }
            None => break,
        }
    }
    if calls {
        cpu.thread.wake_all();
    }
    if cpu.sched_event_ns.load(Ordering::Relaxed) <= now_ns {
        cpu.sched_event_ns.store(u64::MAX, Ordering::Relaxed);
        if let Some(handler) = SCHED.get() {
            handler(now_ns);
        }
    }
    let next = cpu.queue.lock().next_expiry().unwrap_or(u64::MAX);
    let next = next.min(cpu.sched_event_ns.load(Ordering::Relaxed));
    // A handler may have programmed an earlier event already; with nothing left the event is stopped.
    if next == u64::MAX || next < cpu.programmed_ns.load(Ordering::Relaxed) {
        cpu.program(next);
    }
}

/// Starts `ktimers/N` on each CPU; `pin` binds a task to its CPU before it first runs.
pub fn start_threads(pin: impl Fn(&Arc<Task>, usize)) -> Result<(), OutOfMemory> {
    for (number, _) in CPUS.get_expect().iter() {
        let thread = NewTask::kernel(format!("ktimers/{number}"), move || run_expired(number)).create()?;
        pin(&thread, number);
        thread.wake();
    }
    Ok(())
}

fn run_expired(number: usize) {
    let cpu = CPUS.get_expect().of(number);
    loop {
        let due = || Some(core::mem::take(&mut *cpu.expired.lock())).filter(|list| !list.is_empty());
        let Ok(due) = cpu.thread.wait_until(WaitMode::Idle, None, due) else { continue };
        let now_ns = arch::timer::now_ns();
        for target in due.iter().filter_map(Weak::upgrade) {
            target.expired(now_ns);
        }
    }
}

/// A place in some CPU's queue.
type Place = (usize, TimerId);

/// Arms an entry on the CPU that runs now.
fn arm_here(deadline_ns: u64, entry: Entry) -> Result<Place, OutOfMemory> {
    let _off = sync::irq_off();
    let here = arch::cpu::id();
    let id = CPUS.get_expect().of(here).add(deadline_ns, entry)?;
    Ok((here, id))
}

fn disarm((cpu, id): Place) -> bool {
    CPUS.get_expect().of(cpu).queue.lock().cancel(id).is_some()
}

/// A one-shot timer that can be armed again and again. It does not keep its target alive; a dropped
/// target is not called.
pub struct Timer {
    place: SpinLock<Option<Place>, levels::TaskState>,
    target: Weak<dyn Expire>,
    name: &'static str,
}

impl Timer {
    /// A timer that is not armed. `name` is the function that Linux would call: /proc/timer_list shows it.
    pub fn new(name: &'static str, target: Weak<dyn Expire>) -> Timer {
        Timer { place: SpinLock::new(None), target, name }
    }

    /// Calls the target at `deadline_ns` (monotonic) or soon after, instead of whenever it was armed to
    /// before. Any context.
    pub fn arm(&self, deadline_ns: u64) -> Result<(), OutOfMemory> {
        self.cancel();
        let place = arm_here(deadline_ns, Entry::Call(self.target.clone(), self.name))?;
        // Two callers arming at once: the later place wins, the earlier timer is taken back.
        let other = self.place.lock().replace(place);
        other.map(disarm);
        Ok(())
    }

    /// Disarms; whether it was armed and had not expired. An expired call may still be on its way.
    pub fn cancel(&self) -> bool {
        let place = self.place.lock().take();
        place.is_some_and(disarm)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Timeouts of sleeping tasks.
struct Timeouts;

impl TimeoutSource for Timeouts {
    fn arm(&self, task: &Arc<Task>, deadline_ns: u64) -> Option<TimeoutHandle> {
        let (cpu, id) = arm_here(deadline_ns, Entry::Task(task.clone())).ok()?;
        Some(TimeoutHandle { cpu, id: id.to_bits() })
    }

    fn disarm(&self, handle: TimeoutHandle) {
        disarm((handle.cpu, TimerId::from_bits(handle.id)));
    }
}
