//! A first scheduler: one queue, first come, first served.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use arch::cpu;
use core::sync::atomic::Ordering;
use sync::levels::RunQueue;
use sync::{PerCpu, Once, SpinLock};
use task::{Scheduler, State, Task};

struct Rr {
    queues: PerCpu<SpinLock<VecDeque<Arc<Task>>, RunQueue>>,
    idle: PerCpu<SpinLock<Option<Arc<Task>>, RunQueue>>,
}

static RR: Once<Rr> = Once::new();

pub fn init() {
    let rr = Rr {
        queues: PerCpu::new(|_| SpinLock::new(VecDeque::with_capacity(256))),
        idle: PerCpu::new(|_| SpinLock::new(None)),
    };
    let _ = RR.set(rr);
    task::install_scheduler(RR.get_expect());
    sync::set_reschedule(|| {
        let _off = sync::irq_off();
        preempt();
    });
}

/// Preempts the current task; interrupts off.
pub fn preempt() {
    if let Some(rr) = RR.get() {
        rr.switch(true);
    }
}

impl Rr {
    fn switch(&self, preempted: bool) {
        let cpu = cpu::id();
        cpu::set_need_resched(false);
        let current = task::current().arc();
        let idle = {
            let mut slot = self.idle.of(cpu).lock();
            if slot.is_none() && current.name().starts_with("swapper") {
                *slot = Some(current.clone());
            }
            slot.clone()
        };
        let next = {
            let mut queue = self.queues.of(cpu).lock();
            let is_idle = idle.as_ref().is_some_and(|idle| Arc::ptr_eq(idle, &current));
            if (preempted || current.state() == State::Running) && !is_idle {
                queue.push_back(current.clone());
            } else {
                current.sched.on_rq.store(false, Ordering::Relaxed);
            }
            queue.pop_front().or(idle)
        };
        if let Some(next) = next {
            task::switch_to(next);
        }
    }
}

impl Scheduler for Rr {
    fn attach(&self, _task: &Arc<Task>) -> Result<(), mem::OutOfMemory> {
        Ok(())
    }

    fn wake(&self, task: &Arc<Task>) {
        let cpu = task.sched.cpu.load(Ordering::Relaxed) as usize;
        let mut queue = self.queues.of(cpu).lock();
        if !task.sched.on_rq.swap(true, Ordering::Relaxed) {
            queue.push_back(task.clone());
        }
        drop(queue);
        if cpu == cpu::id() {
            cpu::set_need_resched(true);
        } else {
            arch::smp::send_ipi(arch::CpuMask::one(cpu), arch::Ipi::Reschedule);
        }
    }

    fn schedule(&self) {
        let _off = sync::irq_off();
        self.switch(false);
    }

    fn yield_now(&self) {
        self.schedule();
    }

    fn detach(&self, _task: &Task) {}
}
