//! The fair policy: choosing it, its knobs, and the watchdog that puts the default back.

use crate::rq;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use klog::{pr_err, pr_info};
use sched_api::{Params, PolicyInfo, SchedPolicy, TunableError};
use sync::{Once, levels};
use task::{Mutex, NewTask, WaitMode, WaitQueue};

static POLICIES: Once<&'static [PolicyInfo]> = Once::new();
/// Index of the one in use.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);
/// Held while a policy or a knob is changed: the knobs that were turned, to be turned again in a new
/// instance.
static TURNED: Mutex<BTreeMap<&'static str, u64>, levels::Admin> = Mutex::new(BTreeMap::new());

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
    let turned = TURNED.lock();
    install(index, &turned)?;
    pr_info!("sched: fair policy is {name}");
    Ok(())
}

fn install(index: usize, turned: &BTreeMap<&'static str, u64>) -> Result<()> {
    let queues: Vec<_> = rq::QUEUES.get_expect().iter().collect();
    let info = &policies()[index];
    let mut instances = Vec::with_capacity(queues.len());
    for (_, queue) in &queues {
        let slots = queue.lock().queue.capacity();
        instances.push(instance(info, slots, turned)?);
    }
    for ((cpu, _), instance) in queues.iter().zip(instances) {
        swap(*cpu, instance)?;
    }
    CHOSEN.store(index, Ordering::Relaxed);
    Ok(())
}

/// A new instance, with room and the knobs as they were turned.
fn instance(
    info: &PolicyInfo,
    slots: usize,
    turned: &BTreeMap<&'static str, u64>,
) -> Result<Box<dyn SchedPolicy>> {
    let mut policy = rq::make_policy(info, slots).ok_or(Errno::ENOMEM)?;
    for (name, value) in turned {
        // Knobs that this policy does not have wait for one that does.
        let _ = policy.set_tunable(name, *value);
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
    let kick = if rq::online().contains(cpu) { rq.resched(cpu) } else { rq::Kick::NONE };
    rq.publish(cpu);
    drop(rq);
    kick.send();
    drop(old);
    Ok(())
}

/// The names of all knobs of the policies in use.
pub fn tunables() -> Vec<&'static str> {
    let mut rq = rq::of(0).lock();
    let fair = rq.queue.fair_policy().map_or(&[][..], |fair| fair.tunables());
    let rt = rq.queue.rt_policy().tunables();
    fair.iter().chain(rt).copied().collect()
}

/// The value of a knob (`latency_ns` ...); `None` when the policies in use have none of that name.
pub fn tunable(name: &str) -> Option<u64> {
    let mut rq = rq::of(0).lock();
    let fair = rq.queue.fair_policy().and_then(|fair| fair.tunable(name));
    fair.or_else(|| rq.queue.rt_policy().tunable(name))
}

/// Turns a knob on every CPU. Process context.
///
/// # Errors
/// ENOENT when there is none of that name, EINVAL when the value is out of its range.
pub fn set_tunable(name: &str, value: u64) -> Result<()> {
    let mut turned = TURNED.lock();
    let known = tunables().into_iter().find(|known| *known == name).ok_or(Errno::ENOENT)?;
    for (_, queue) in rq::QUEUES.get_expect().iter() {
        let mut rq = queue.lock();
        let fair = rq.queue.fair_policy().map(|fair| fair.set_tunable(name, value));
        let outcome = match fair {
            None | Some(Err(TunableError::Unknown)) => rq.queue.rt_policy().set_tunable(name, value),
            Some(outcome) => outcome,
        };
        outcome.map_err(|_| Errno::EINVAL)?;
    }
    turned.insert(known, value);
    Ok(())
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

/// Starts the thread that replaces a faulty policy. It is a real-time thread: the fair class is what is
/// out of order.
pub(crate) fn start_watchdog() -> core::result::Result<(), mem::OutOfMemory> {
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
    let turned = TURNED.lock();
    let (faulty, default) = (current_policy().name, policies()[0].name);
    for (cpu, queue) in rq::each() {
        let fault = queue.lock().fault.take();
        if let Some(fault) = fault {
            pr_err!("sched: policy {faulty} on CPU {cpu} {fault}; {default} takes over");
        }
    }
    if install(0, &turned).is_err() {
        // The queues serve their tasks in turn meanwhile.
        pr_err!("sched: no memory for {default}; trying again");
        let deadline_ns = arch::timer::now_ns() + 1_000_000_000;
        let _ = task::wait_any(&[], WaitMode::Uninterruptible, Some(deadline_ns), || None::<()>);
        report_fault();
    }
}
