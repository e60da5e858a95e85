//! The scheduler mechanism: who runs where, and the switch.
//!
//! **Problem.** Tasks wake on any CPU, in any context, while others run, block, change their priority
//! or move. Each must be in exactly one run queue when it wants to run and in none when it sleeps.
//!
//! **Interface.** [`init`] installs the scheduler; each CPU calls [`init_cpu`] and ends in
//! [`idle_loop`]. [`irq_exit`] is the end of every interrupt. Settings of tasks: [`set_params`],
//! [`set_affinity`]. The fair policy: [`set_policy`] and [`set_tunable`], any time, under load. What /proc
//! shows: [`show`].
//!
//! **Idea.** One [`CpuQueue`](sched_queue::CpuQueue) per CPU behind one spin lock. It and the policies
//! decide; this crate does what they decide. No code path holds two run-queue locks: a task that moves is
//! taken out of one queue, is in none for a moment, and is put into the other.
//!
//! ```text
//!   wake ──> choose a CPU ──> its queue: add ──> preempts? ──> need_resched here / interrupt there
//!   schedule ──> charge, sleep or stay ──> pick ──> (idle: pull) ──> program the timer ──> switch_to
//!   tick ──> slice over? ──> need_resched;  tasks waiting? ──> softirq: push to idler CPUs
//! ```
//!
//! A task that is alone on its CPU is not interrupted to be asked whether another should run. What is
//! left is one sample in 100 ms to tell user from system time.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
mod balance;
mod policy;
mod rq;
mod schedule;
mod settings;
pub mod show;
mod stopper;

pub use account::{
    CpuTimes, active_tasks, context_switches, cpu_times, load_average, run_ns, set_sample_hook, task_times,
};
pub use policy::{
    current_policy, fair_server, policies, set_fair_server, set_policy, set_tunable, tunable, tunables,
};
pub use rq::online;
pub use sched_api::{Params, PolicyInfo, SLICE_MAX_NS, SLICE_MIN_NS, SchedKind};
pub use schedule::{idle_loop, init_cpu, irq_exit};
pub use settings::{
    Settings, affinity, effective, own_slice_ns, params, pin, replace_settings, reset_on_fork, set_affinity,
    set_boost, set_params, settings, time_slice_ns,
};

use sync::PerCpu;

/// Makes the run queues and installs the scheduler; `policies` are the fair policies that can be chosen,
/// the first is the default. Boot, once, after the heap and the time, before the first task is made.
pub fn init(policies: &'static [PolicyInfo]) {
    let first = policies.first().expect("boot names at least one policy");
    policy::init(policies);
    let _ = rq::QUEUES.set(PerCpu::new(|_| rq::RunQueue::new(first)));
    task::install_scheduler(&schedule::Mechanism);
    sync::set_reschedule(schedule::preempt_now);
    time::set_sched_handler(schedule::tick);
    irq::softirq::open(irq::softirq::Vector::Sched, balance::push_softirq);
}

/// Starts the scheduler's own threads: `migration/N` for each online CPU, the one that replaces a faulty
/// policy, and the load average. Process context, after the other CPUs are up.
pub fn start_threads() -> Result<(), mem::OutOfMemory> {
    stopper::start()?;
    policy::start_watchdog()?;
    account::start_load_average()
}
