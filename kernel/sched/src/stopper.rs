//! `migration/N`: the thread that preempts everything on CPU N to move a task away that runs there and
//! no longer may. A running task cannot be moved; while the stopper runs, it does not run.

use crate::rq;
use crate::schedule::{enqueue, may_run_on};
use crate::settings::{pin, set_params};
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use sched_api::{Carry, Class, Dequeue, Enqueue, Params};
use sched_queue::{Removed, State as Place};
use task::{NewTask, State, Task, WaitQueue, current};

/// Starts the thread of each online CPU.
pub(crate) fn start() -> Result<(), mem::OutOfMemory> {
    for (cpu, queue) in rq::each() {
        let thread = NewTask::kernel(format!("migration/{cpu}"), move || run(cpu)).create()?;
        pin(&thread, cpu);
        set_params(&thread, &Params::stopper());
        let _ = queue.stopper.set(thread.clone());
        thread.wake();
    }
    Ok(())
}

/// Has the tasks that may not run on `cpu` moved away. Any context without a run-queue lock.
pub(crate) fn evict(cpu: usize) {
    let queue = rq::of(cpu);
    queue.evict.store(true, Ordering::SeqCst);
    if let Some(stopper) = queue.stopper.get() {
        stopper.wake();
    }
}

/// As [`evict`], and waits until `task` is gone from there. Process context.
pub(crate) fn evict_and_wait(task: &Task, cpu: usize) {
    evict(cpu);
    let is_there = || task.on_cpu() && task.sched.cpu.load(Ordering::SeqCst) as usize == cpu;
    let misplaced = || is_there() && !may_run_on(task, cpu);
    // The task itself is moved while it asks.
    if !task.is_current() {
        EVICTED.wait(|| (!misplaced()).then_some(()));
    }
}

/// Woken after each eviction.
static EVICTED: WaitQueue = WaitQueue::new(&"sched_setaffinity");

fn run(cpu: usize) {
    loop {
        current().announce(State::Idle);
        if rq::of(cpu).evict.swap(false, Ordering::SeqCst) {
            current().set_running();
            while let Some((task, carry, runnable)) = take_misplaced(cpu) {
                if runnable {
                    enqueue(&task, Enqueue::Move { carry }, None);
                }
            }
            EVICTED.wake_all();
        } else {
            task::schedule();
        }
    }
}

/// Takes a task that may not run here out of the queue; says whether it wants to run elsewhere.
fn take_misplaced(cpu: usize) -> Option<(Arc<Task>, Carry, bool)> {
    let mut rq = rq::of(cpu).lock();
    let misplaced = rq.queue.iter().find(|(_, task, params, place)| {
        *place != Place::Running && params.class() != Class::Stop && !may_run_on(task, cpu) && !task.on_cpu()
    });
    let (slot, runnable) = misplaced.map(|(slot, _, _, place)| (slot, place == Place::Waiting))?;
    let removed = rq.queue.remove(arch::timer::now_ns(), slot, Dequeue::Move);
    let Some(Removed::Gone(task, carry)) = removed else { return None };
    rq::leave(&task, &carry);
    rq.publish(cpu);
    Some((task, carry, runnable))
}
