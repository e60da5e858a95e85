//! Switching, waking, preempting.

use crate::rq::{self, Guard, View, add};
use crate::{account, balance, policy, settings, stopper};
use alloc::sync::Arc;
use arch::{cpu, irq, timer};
use core::sync::atomic::{AtomicUsize, Ordering};
use mem::OutOfMemory;
use sched_api::{Class, Dequeue, Enqueue};
use sched_balance::Wake;
use sched_queue::{Removed, State as Place};
use sync::preempt;
use task::{Current, Scheduler, State, Task, current, switch_to};

/// The task was never on a queue: it is to be placed as a new one.
const FRESH: u32 = 1;
/// It sleeps in a state that counts in the load average.
const COUNTS_AS_LOAD: u32 = 2;

/// Tasks that exist and the room that every queue has for them.
static TASKS: AtomicUsize = AtomicUsize::new(0);
static ROOM: AtomicUsize = AtomicUsize::new(0);

/// The scheduler, as the `task` crate sees it.
pub(crate) struct Mechanism;

impl Scheduler for Mechanism {
    fn attach(&self, task: &Arc<Task>) -> Result<(), OutOfMemory> {
        make_room(TASKS.fetch_add(1, Ordering::Relaxed) + 1)?;
        let creator = current();
        // User threads are made by user threads and inherit; kernel threads start from nothing.
        if task.payload().is_some() {
            settings::inherit(task, &creator);
        } else {
            settings::set_default(task);
        }
        task.sched.cpu.store(cpu::id() as u32, Ordering::Relaxed);
        task.sched.flags.store(FRESH, Ordering::Relaxed);
        task.sched.tail_ns.store(sched_balance::FIRST_TAIL_NS, Ordering::Relaxed);
        Ok(())
    }

    fn wake(&self, task: &Arc<Task>) {
        if wake_queued(task) {
            return;
        }
        let flags = task.sched.flags.load(Ordering::Relaxed);
        let why = match flags & FRESH {
            0 => Enqueue::Wake { carry: rq::carry_of(task), sync: false },
            _ => Enqueue::New,
        };
        enqueue(task, why, None);
    }

    fn schedule(&self) {
        let _off = sync::irq_off();
        switch(false);
        // A wake-up may have asked for another look while this was being decided.
        while cpu::need_resched() {
            switch(true);
        }
    }

    fn yield_now(&self) {
        let _off = sync::irq_off();
        {
            let mut rq = rq::this().lock();
            rq.counts.yields += 1;
            rq.queue.yield_current(timer::now_ns());
        }
        switch(true);
    }

    fn detach(&self, _task: &Task) {
        TASKS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every queue can hold every task, so that entering one never allocates. Grows by doubling.
fn make_room(tasks: usize) -> Result<(), OutOfMemory> {
    while ROOM.load(Ordering::Acquire) < tasks {
        let room = tasks.next_power_of_two().max(64);
        if let Err(error) = rq::reserve(room) {
            TASKS.fetch_sub(1, Ordering::Relaxed);
            return Err(error);
        }
        ROOM.fetch_max(room, Ordering::Release);
    }
    Ok(())
}

/// This CPU runs tasks from now on; `idle` is its idle task, which is running. Before its interrupts.
pub fn init_cpu(idle: Arc<Task>) {
    let cpu = cpu::id();
    idle.sched.cpu.store(cpu as u32, Ordering::Relaxed);
    rq::this().lock().idle = Some(idle);
    rq::set_online(cpu);
}

/// What a CPU does with nothing to do: sleeps until an interrupt makes a task runnable. Interrupts on.
pub fn idle_loop() -> ! {
    loop {
        let _ = irq::disable();
        if cpu::need_resched() {
            switch(true);
        } else {
            irq::idle_wait();
        }
        irq::enable();
    }
}

// Waking.

/// The wake-up of a task that is still on a queue: one that did not get to sleep, or a delayed sleeper.
/// False when it is on none.
fn wake_queued(task: &Arc<Task>) -> bool {
    let Some((cpu, mut rq)) = rq::lock_of(task) else { return false };
    let slot = rq::slot_of(task);
    if !matches!(rq.queue.get(slot), Some((_, _, Place::Delayed))) {
        return true;
    }
    let now_ns = timer::now_ns();
    note_wake(&mut rq, cpu, task, now_ns);
    let preempts = rq.queue.wake_delayed(now_ns, slot);
    let kick = if preempts { rq.resched(cpu) } else { rq.reprogram(cpu, now_ns) };
    rq.publish(cpu);
    drop(rq);
    kick.send();
    true
}

/// Puts a task that is on no queue on one: `to`, if it may run there, or where balancing says.
///
/// The caller is the only one that does this: it turned the task's state to Running, or took it out of
/// another queue.
pub(crate) fn enqueue(task: &Arc<Task>, why: Enqueue, to: Option<usize>) {
    let mut wanted = to;
    let from = task.sched.cpu.load(Ordering::Relaxed) as usize;
    let (cpu, mut rq, allowed) = loop {
        let cpu = wanted.take().unwrap_or_else(|| place(task, why));
        let rq = rq::of(cpu).lock();
        // The order of these two and of what follows is explained in `settings`.
        task.sched.cpu.store(cpu as u32, Ordering::Relaxed);
        task.sched.on_rq.store(true, Ordering::SeqCst);
        let allowed = may_run_on(task, cpu);
        // A task whose registers are still being saved can be nowhere else.
        if allowed || task.on_cpu() {
            break (cpu, rq, allowed);
        }
        task.sched.on_rq.store(false, Ordering::SeqCst);
    };
    let now_ns = timer::now_ns();
    let params = settings::effective(task);
    if cpu != from && why != Enqueue::New {
        add(&task.sched.migrations, 1);
    }
    if matches!(why, Enqueue::Move { .. }) {
        task.sched.queued_at_ns.store(now_ns, Ordering::Relaxed);
    } else {
        note_wake(&mut rq, cpu, task, now_ns);
    }
    let added = rq.queue.add(now_ns, task.clone(), &params, why).expect("attach made room for every task");
    task.sched.place.store(added.slot.0, Ordering::Relaxed);
    let kick = if added.preempts { rq.resched(cpu) } else { rq.reprogram(cpu, now_ns) };
    rq.publish(cpu);
    drop(rq);
    kick.send();
    if !allowed {
        stopper::evict(cpu);
    }
}

/// Books a wake-up.
fn note_wake(rq: &mut Guard<'_>, cpu: usize, task: &Task, now_ns: u64) {
    let slot = &task.sched;
    rq.counts.wakes += 1;
    rq.counts.wakes_local += u64::from(cpu == cpu::id());
    let flags = slot.flags.load(Ordering::Relaxed);
    if flags != 0 {
        rq.counts.uninterruptible -= i64::from(flags & COUNTS_AS_LOAD != 0);
        slot.flags.store(0, Ordering::Relaxed);
    }
    slot.queued_at_ns.store(now_ns, Ordering::Relaxed);
    if !preempt::in_interrupt() {
        current().sched.woke_at_ns.store(now_ns, Ordering::Relaxed);
    }
}

/// Whether the affinity of `task` lets it run on `cpu`. One whose CPUs all went off line may run anywhere.
pub(crate) fn may_run_on(task: &Task, cpu: usize) -> bool {
    let mask = task.sched.affinity.load(Ordering::SeqCst);
    mask >> cpu & 1 == 1 || mask & rq::online().0 == 0
}

/// The CPU for a task that becomes runnable.
fn place(task: &Task, why: Enqueue) -> usize {
    let prev = task.sched.cpu.load(Ordering::Relaxed) as usize;
    if task.on_cpu() {
        return prev;
    }
    let online = rq::online().0;
    let mask = task.sched.affinity.load(Ordering::Relaxed) & online;
    let allowed = [if mask == 0 { online } else { mask }];
    let here = cpu::id();
    let params = settings::effective(task);
    let choice = match (params.class(), why) {
        (Class::Rt, _) => sched_balance::place_rt(&View, &allowed, prev, params.rt_priority),
        (Class::Stop, _) => Some(prev),
        (_, Enqueue::New) => sched_balance::place_new(&View, &allowed, here),
        (_, Enqueue::Wake { sync, .. }) => {
            let wake = Wake { prev, waker: here, sync, waker_tail_ns: tail_of_waker() };
            sched_balance::place_woken(&View, &allowed, wake)
        }
        (_, Enqueue::Move { .. }) => sched_balance::find_idle(&View, &allowed, prev)
            .or_else(|| sched_balance::least_loaded(&View, &allowed, prev)),
    };
    choice.unwrap_or(here)
}

/// How soon whoever wakes here is going to sleep.
fn tail_of_waker() -> u64 {
    match preempt::in_interrupt() {
        true => u64::MAX,
        false => current().sched.tail_ns.load(Ordering::Relaxed),
    }
}

// Switching.

/// The scheduler proper. Interrupts off, no lock held. With `preempted` the current task stays runnable
/// whatever its state says.
fn switch(preempted: bool) {
    let this = rq::this();
    let cpu = cpu::id();
    cpu::set_need_resched(false);
    let running = current();
    let mut rq = this.lock();
    let now_ns = timer::now_ns();
    rq.kicked = false;
    rq.counts.schedules += 1;
    rq.charge(now_ns, &running);
    let sleeps = !preempted && running.state() != State::Running && !rq.is_idle_task(&running);
    if sleeps {
        put_to_sleep(&mut rq, &running, now_ns);
    }
    let mut next = pick(&mut rq, now_ns);
    if next.is_none() && balance::should_pull(&rq, cpu) {
        rq.publish(cpu);
        drop(rq);
        balance::pull(cpu);
        rq = this.lock();
        next = pick(&mut rq, now_ns);
    }
    let next = next.or_else(|| rq.idle.clone()).expect("a CPU that schedules has an idle task");
    note_switch(&mut rq, &running, &next, sleeps, now_ns);
    rq.program(now_ns);
    rq.publish(cpu);
    let faulty = rq.note_fault();
    drop(rq);
    if faulty {
        policy::report_fault();
    }
    switch_to(next);
}

fn pick(rq: &mut Guard<'_>, now_ns: u64) -> Option<Arc<Task>> {
    // A delayed sleeper that leaves is referenced by whoever will wake it: this Arc is not the last.
    let picked = rq.queue.pick(now_ns, &mut |task, carry| rq::leave(&task, &carry));
    picked.map(|(_, task)| task)
}

/// Takes the current task, which announced a sleep (or is dead), off its queue.
fn put_to_sleep(rq: &mut Guard<'_>, running: &Current, now_ns: u64) {
    let slot = &running.sched;
    let state = running.state();
    if matches!(state, State::Uninterruptible | State::Killable) {
        rq.counts.uninterruptible += 1;
        slot.flags.fetch_or(COUNTS_AS_LOAD, Ordering::Relaxed);
    }
    let woke_at_ns = slot.woke_at_ns.load(Ordering::Relaxed);
    if woke_at_ns != 0 {
        let usual_ns = slot.tail_ns.load(Ordering::Relaxed);
        let usual_ns = sched_balance::next_tail_ns(usual_ns, now_ns.saturating_sub(woke_at_ns));
        slot.tail_ns.store(usual_ns, Ordering::Relaxed);
        slot.woke_at_ns.store(0, Ordering::Relaxed);
    }
    let why = if state == State::Dead { Dequeue::Exit } else { Dequeue::Sleep };
    match rq.queue.remove(now_ns, rq::slot_of(running), why) {
        Some(Removed::Gone(task, carry)) => rq::leave(&task, &carry),
        Some(Removed::Delayed) => {}
        None => debug_assert!(false, "the running task is not in its queue"),
    }
}

/// Books a switch from one task to another.
fn note_switch(rq: &mut Guard<'_>, from: &Task, to: &Task, sleeps: bool, now_ns: u64) {
    if core::ptr::eq(from, to) {
        return;
    }
    rq.counts.switches += 1;
    rq.sampled_at_ns = now_ns;
    if !rq.is_idle_task(from) {
        from.sched.left_cpu_at_ns.store(now_ns, Ordering::Relaxed);
        add(if sleeps { &from.sched.switches_voluntary } else { &from.sched.switches_involuntary }, 1);
        if !sleeps {
            from.sched.queued_at_ns.store(now_ns, Ordering::Relaxed);
        }
    }
    if rq.is_idle_task(to) {
        rq.counts.went_idle += 1;
        return;
    }
    let waited_ns = now_ns.saturating_sub(to.sched.queued_at_ns.load(Ordering::Relaxed));
    add(&to.sched.wait_ns, waited_ns);
    add(&to.sched.timeslices, 1);
    rq.counts.wait_ns += waited_ns;
    rq.counts.timeslices += 1;
}

// Preempting.

/// The current task is preempted if that is due: for the last preemption count dropped.
pub(crate) fn preempt_now() {
    let _off = sync::irq_off();
    while cpu::need_resched() && cpu::preempt_count() == 0 {
        switch(true);
    }
}

/// The end of every interrupt, after softirqs; interrupts off. `user` says what was interrupted: a user
/// thread looks at `need_resched` itself before it goes back, kernel code is preempted here.
pub fn irq_exit(user: bool) {
    account::sample(user);
    while !user && cpu::need_resched() && cpu::preempt_count() == 0 {
        switch(true);
    }
}

/// The timer fired for the scheduler: hard interrupt.
pub(crate) fn tick(now_ns: u64) {
    let this = rq::this();
    this.sample_due.store(true, Ordering::Relaxed);
    let mut rq = this.lock();
    rq.event_ns = None;
    rq.charge(now_ns, &current());
    if rq.queue.tick(now_ns) {
        cpu::set_need_resched(true);
    } else {
        rq.program(now_ns);
    }
    let unbalanced = balance::should_push(&rq, now_ns);
    let faulty = rq.note_fault();
    drop(rq);
    if unbalanced {
        ::irq::softirq::raise(::irq::softirq::Vector::Sched);
    }
    if faulty {
        policy::report_fault();
    }
}
