//! The fair policy: choosing it, its knobs, and the watchdog that puts the default back.

use crate::balance::KNOBS;
use crate::rq;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use klog::{pr_err, pr_info};
use sched_api::{Params, PolicyInfo, SchedPolicy, TunableError};
use sync::{Once, levels};
use task::{Mutex, NewTask, WaitMode, WaitQueue};

static POLICIES: Once<&'static [PolicyInfo]> = Once::new();
/// Index of the one in use.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);
/// One instance of each policy, in the order of `POLICIES`, that never has a task: it holds the settings of
/// the policy's knobs and knows their ranges, whether the policy is in use or not. The lock is held while a
/// policy or a knob is changed.
static MODELS: Mutex<Vec<Box<dyn SchedPolicy>>, levels::Settings> = Mutex::new(Vec::new());

pub(crate) fn init(policies: &'static [PolicyInfo]) {
    let _ = POLICIES.set(policies);
}

/// The fair policies there are, the default first.
pub fn policies() -> &'static [PolicyInfo] {
    POLICIES.get_expect()
}

/// The one in use.
pub fn current_policy() -> &'static PolicyInfo {
    &policies()[CHOSEN.load(Ordering::Relaxed)]
}

/// Replaces the fair policy on every CPU, with all tasks. Process context.
///
/// # Errors
/// EINVAL when there is none of that name, ENOMEM when its instances do not fit.
pub fn set_policy(name: &str) -> Result<()> {
    let index = policies().iter().position(|info| info.name == name).ok_or(Errno::EINVAL)?;
    let models = MODELS.lock();
    install(index, &*models[index])?;
    pr_info!("sched: fair policy is {name}");
    Ok(())
}

/// Every queue has its instance before the first is replaced, so that lack of memory leaves all as it was.
fn install(index: usize, model: &dyn SchedPolicy) -> Result<()> {
    let info = &policies()[index];
    let queues = rq::QUEUES.get_expect();
    let mut instances = Vec::new();
    instances.try_reserve_exact(queues.iter().count()).map_err(|_| Errno::ENOMEM)?;
    for (_, queue) in queues.iter() {
        let slots = queue.lock().queue.capacity();
        instances.push(instance(info, slots, model)?);
    }
    for ((cpu, _), instance) in queues.iter().zip(instances) {
        swap(cpu, instance)?;
    }
    CHOSEN.store(index, Ordering::Relaxed);
    Ok(())
}

/// A new instance, with room and the knobs as the model's.
fn instance(info: &PolicyInfo, slots: usize, model: &dyn SchedPolicy) -> Result<Box<dyn SchedPolicy>> {
    let mut policy = rq::make_policy(info, slots).ok_or(Errno::ENOMEM)?;
    for name in model.tunables() {
        if let Some(value) = model.tunable(name) {
            policy.set_tunable(name, value).map_err(|_| Errno::EINVAL)?;
        }
    }
    Ok(policy)
}

fn swap(cpu: usize, mut new: Box<dyn SchedPolicy>) -> Result<()> {
    let mut rq = rq::of(cpu).lock();
    // Room may have been made for more tasks since the instance was.
    let room = rq.queue.capacity();
    if new.reserve(room).is_err() {
        drop(rq);
        return Err(Errno::ENOMEM);
    }
    let old = rq.queue.swap_fair(arch::timer::now_ns(), new, &mut |task, carry| rq::leave(&task, &carry));
    rq.fault = None; // it was the old one's
    let kick = if rq::online().contains(cpu) { rq.resched(cpu) } else { rq::Kick::NONE };
    rq.publish(cpu);
    drop(rq);
    kick.send();
    drop(old);
    Ok(())
}

/// The names of the knobs of all policies, in use or not, and of balancing. Process context.
pub fn tunables() -> Vec<&'static str> {
    let models = MODELS.lock();
    let mut names: Vec<_> = models.iter().flat_map(|model| model.tunables()).copied().collect();
    names.extend(rq::of(0).lock().queue.rt_policy().tunables());
    names.extend(KNOBS.map(|(name, _)| name));
    names
}

/// The value of a knob (`latency_ns` ...), also of a policy that is not in use; `None` when there is none of
/// that name. Process context.
pub fn tunable(name: &str) -> Option<u64> {
    if let Some((_, knob)) = KNOBS.iter().find(|(known, _)| *known == name) {
        return Some(knob.load(Ordering::Relaxed).into());
    }
    let of_fair = MODELS.lock().iter().find_map(|model| model.tunable(name));
    of_fair.or_else(|| rq::of(0).lock().queue.rt_policy().tunable(name))
}

/// The value of a knob of the policies in use. Any context.
pub(crate) fn tunable_in_use(name: &str) -> Option<u64> {
    let mut rq = rq::of(0).lock();
    let fair = rq.queue.fair_policy().and_then(|fair| fair.tunable(name));
    fair.or_else(|| rq.queue.rt_policy().tunable(name))
}

/// Turns a knob on every CPU; one of a policy that is not in use takes effect when that is chosen. Process
/// context.
///
/// # Errors
/// ENOENT when there is none of that name, EINVAL when the value is out of its range.
pub fn set_tunable(name: &str, value: u64) -> Result<()> {
    if let Some((_, knob)) = KNOBS.iter().find(|(known, _)| *known == name) {
        knob.store(value.try_into().map_err(|_| Errno::EINVAL)?, Ordering::Relaxed);
        return Ok(());
    }
    let mut models = MODELS.lock();
    let mut known = turn(models.iter_mut().map(|model| model.set_tunable(name, value)))?;
    for (_, queue) in rq::QUEUES.get_expect().iter() {
        let mut rq = queue.lock();
        let of_fair = rq.queue.fair_policy().map(|fair| fair.set_tunable(name, value));
        known |= turn(of_fair.into_iter())?;
        known |= turn([rq.queue.rt_policy().set_tunable(name, value)].into_iter())?;
    }
    if known { Ok(()) } else { Err(Errno::ENOENT) }
}

/// Whether one of the outcomes was a knob turned.
fn turn(mut outcomes: impl Iterator<Item = core::result::Result<(), TunableError>>) -> Result<bool> {
    outcomes.try_fold(false, |known, outcome| match outcome {
        Ok(()) => Ok(true),
        Err(TunableError::Unknown) => Ok(known),
        Err(TunableError::OutOfRange) => Err(Errno::EINVAL),
    })
}

/// Budget and period of the fair server of `cpu`, in ns; `None` when there is no such CPU.
pub fn fair_server(cpu: usize) -> Option<(u64, u64)> {
    if !rq::online().contains(cpu) {
        return None;
    }
    let mut rq = rq::of(cpu).lock();
    let server = rq.queue.fair_server();
    Some((server.runtime_ns(), server.period_ns()))
}

/// Sets them.
///
/// # Errors
/// EINVAL when the budget exceeds the period, the period is out of range, or there is no such CPU.
pub fn set_fair_server(cpu: usize, runtime_ns: u64, period_ns: u64) -> Result<()> {
    if !rq::online().contains(cpu) {
        return Err(Errno::EINVAL);
    }
    let done = rq::of(cpu).lock().queue.fair_server().configure(runtime_ns, period_ns);
    if done { Ok(()) } else { Err(Errno::EINVAL) }
}

// The watchdog.

static FAULTY: AtomicBool = AtomicBool::new(false);
static WATCHDOG: WaitQueue = WaitQueue::new(&"sched_watchdog");

/// A queue noted a fault. Any context without a run-queue lock.
pub(crate) fn report_fault() {
    FAULTY.store(true, Ordering::SeqCst);
    WATCHDOG.wake_all();
}

/// Makes the models and starts the thread that replaces a faulty policy. It is a real-time thread: the fair class is what is
/// out of order.
pub(crate) fn start_watchdog() -> core::result::Result<(), mem::OutOfMemory> {
    let models: Option<_> = policies().iter().map(|info| rq::make_policy(info, 0)).collect();
    *MODELS.lock() = models.ok_or(mem::OutOfMemory)?;
    let thread = NewTask::kernel("sched_watchdog", watch).create()?;
    crate::set_params(&thread, &Params::fifo(99));
    thread.wake();
    Ok(())
}

fn watch() {
    loop {
        let faulty = || FAULTY.swap(false, Ordering::SeqCst).then_some(());
        if WATCHDOG.wait_until(WaitMode::Idle, None, faulty).is_ok() {
            put_default_back();
        }
    }
}

fn put_default_back() {
    let models = MODELS.lock();
    let (faulty, default) = (current_policy().name, policies()[0].name);
    let mut any = false;
    for (cpu, queue) in rq::each() {
        let fault = queue.lock().fault.take();
        if let Some(fault) = fault {
            any = true;
            pr_err!("sched: policy {faulty} on CPU {cpu} {fault}; {default} takes over");
        }
    }
    // Somebody may have chosen another policy meanwhile.
    if !any {
        return;
    }
    if install(0, &*models[0]).is_err() {
        drop(models);
        // The queues serve their tasks in turn meanwhile.
        pr_err!("sched: no memory for {default}; trying again");
        let deadline_ns = arch::timer::now_ns() + 1_000_000_000;
        let _ = task::wait_any(&[], WaitMode::Uninterruptible, Some(deadline_ns), || None::<()>);
        report_fault();
    }
}
