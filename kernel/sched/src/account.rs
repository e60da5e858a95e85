//! Time used and load.
//!
//! What a task ran is exact, taken at every switch. How much of it was in user mode is sampled, as in
//! Linux: with a clock reading at every system call, the cheapest of them would cost half as much again.

use crate::rq;
use alloc::sync::Arc;
use arch::timer;
use core::sync::atomic::Ordering;
use sync::{Once, SpinLock, levels};
use task::{Task, current};
use time::{Expire, Timer};

/// The times of one CPU since boot, in ns, as /proc/stat tells them.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTimes {
    pub user_ns: u64,
    pub nice_ns: u64,
    pub system_ns: u64,
    pub idle_ns: u64,
}

/// At the end of the tick's interrupt: the time since the last sample is booked where it was found.
pub(crate) fn sample(user: bool) {
    let this = rq::this();
    if !this.sample_due.load(Ordering::Relaxed) {
        return;
    }
    this.sample_due.store(false, Ordering::Relaxed);
    let now_ns = timer::now_ns();
    let task = current();
    let mut rq = this.lock();
    let since_ns = now_ns.saturating_sub(rq.sampled_at_ns);
    rq.sampled_at_ns = now_ns;
    if rq.is_idle_task(&task) {
        return;
    }
    let counts = &mut rq.counts;
    let (own, total) = match (user, crate::params(&task).nice > 0) {
        (true, true) => (&task.sched.sampled_user_ns, &mut counts.nice_ns),
        (true, false) => (&task.sched.sampled_user_ns, &mut counts.user_ns),
        (false, _) => (&task.sched.sampled_system_ns, &mut counts.system_ns),
    };
    rq::add(own, since_ns);
    *total += since_ns;
    drop(rq);
    if let Some(hook) = HOOK.get() {
        hook(user, since_ns);
    }
}

static HOOK: Once<fn(bool, u64)> = Once::new();

/// Installs what is told of every sample: whether the running task was in user mode, and the ns since the
/// last sample. Called in interrupt context. Once, at boot.
pub fn set_sample_hook(hook: fn(user: bool, ns: u64)) {
    let _ = HOOK.set(hook);
}

/// CPU time of a task up to now, in ns.
pub fn run_ns(task: &Task) -> u64 {
    if task.on_cpu()
        && let Some((_, mut rq)) = rq::lock_of(task)
    {
        let runs = rq.queue.current().is_some_and(|(_, current)| core::ptr::eq(Arc::as_ptr(current), task));
        if runs {
            rq.charge(timer::now_ns(), task);
        }
    }
    task.sched.run_ns.load(Ordering::Relaxed)
}

/// CPU time of a task in user mode and in the kernel, in ns. Their sum is [`run_ns`].
pub fn task_times(task: &Task) -> (u64, u64) {
    let total_ns = run_ns(task);
    if task.payload().is_none() {
        return (0, total_ns);
    }
    let user = task.sched.sampled_user_ns.load(Ordering::Relaxed);
    let system = task.sched.sampled_system_ns.load(Ordering::Relaxed);
    // Never found in the kernel, or too young for a sample: all user (cputime_adjust in Linux).
    let user_ns = scale(total_ns, user, user + system).unwrap_or(total_ns);
    (user_ns, total_ns - user_ns)
}

fn scale(total: u64, part: u64, whole: u64) -> Option<u64> {
    let scaled = u128::from(total) * u128::from(part) / u128::from(whole.max(1));
    (whole > 0).then_some(scaled as u64)
}

/// The times of a CPU; zeros when it is not online.
pub fn cpu_times(cpu: usize) -> CpuTimes {
    if !rq::online().contains(cpu) {
        return CpuTimes::default();
    }
    let rq = rq::of(cpu).lock();
    let idle_ns = rq.queue.idle().total_ns(timer::now_ns());
    let (busy_ns, counts) = (rq.counts.run_ns, rq.counts);
    drop(rq);
    let sampled = counts.user_ns + counts.nice_ns + counts.system_ns;
    let user_ns = scale(busy_ns, counts.user_ns, sampled).unwrap_or(0);
    let nice_ns = scale(busy_ns, counts.nice_ns, sampled).unwrap_or(0);
    CpuTimes { user_ns, nice_ns, system_ns: busy_ns - user_ns - nice_ns, idle_ns }
}

/// Context switches since boot, all CPUs (`ctxt` of /proc/stat).
pub fn context_switches() -> u64 {
    rq::each().map(|(_, queue)| queue.lock().counts.switches).sum()
}

/// Tasks that run or want to, and those in uninterruptible sleep.
pub fn active_tasks() -> (u64, u64) {
    let (mut runnable, mut asleep) = (0, 0);
    for (_, queue) in rq::each() {
        let rq = queue.lock();
        runnable += u64::from(rq.queue.nr_running());
        asleep += rq.counts.uninterruptible;
    }
    (runnable, asleep.max(0) as u64)
}

// The load average: Linux's fixed point, 11 bits, a sample every 5 s.

const ONE: u64 = 1 << 11;
/// 2048 / e^(5 s / 1, 5, 15 min).
const DECAY: [u64; 3] = [1884, 2014, 2037];
const PERIOD_NS: u64 = 5_000_000_000;

static LOAD: SpinLock<[u64; 3], levels::Leaf> = SpinLock::new([0; 3]);
static SAMPLER: Once<(Arc<Sampler>, Timer)> = Once::new();

struct Sampler;

impl Expire for Sampler {
    fn expired(&self, now_ns: u64) {
        let (runnable, asleep) = active_tasks();
        // This thread runs too, and is not what the load average is about.
        let active = (runnable.saturating_sub(1) + asleep) * ONE;
        for (load, decay) in LOAD.lock().iter_mut().zip(DECAY) {
            let up = if active >= *load { ONE - 1 } else { 0 };
            *load = (*load * decay + active * (ONE - decay) + up) / ONE;
        }
        arm(now_ns + PERIOD_NS);
    }
}

fn arm(deadline_ns: u64) {
    if let Some((_, timer)) = SAMPLER.get() {
        // Without memory for the timer the average stands still; nothing depends on it.
        let _ = timer.arm(deadline_ns);
    }
}

pub(crate) fn start_load_average() -> Result<(), mem::OutOfMemory> {
    let sampler = Arc::new(Sampler);
    let weak = Arc::downgrade(&sampler);
    let _ = SAMPLER.set((sampler, Timer::new("calc_load", weak)));
    arm(timer::now_ns() + PERIOD_NS);
    Ok(())
}

/// The load averages of 1, 5 and 15 minutes as fixed-point numbers with 11 binary places, as sysinfo(2)
/// starts from; [`crate::show::load_average`] is the text.
pub fn load_average() -> [u64; 3] {
    *LOAD.lock()
}
