//! The scheduler's files in /proc and /sys.

use crate::{policy, rq};
use arch::timer;
use core::fmt::{Result, Write};
use core::sync::atomic::Ordering;
use sched_api::{SchedKind, Stat};
use task::Task;

/// /sys/kernel/sched/policy: `[cfs] eevdf`.
pub fn policy(out: &mut dyn Write) -> Result {
    let chosen = policy::current_policy().name;
    for (index, info) in policy::policies().iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        match info.name == chosen {
            true => write!(out, "{space}[{}]", info.name)?,
            false => write!(out, "{space}{}", info.name)?,
        }
    }
    writeln!(out)
}

/// The first three fields of /proc/loadavg: `0.20 0.18 0.12`.
pub fn load_average(out: &mut dyn Write) -> Result {
    let [one, five, fifteen] = crate::load_average().map(|load| (load + 10) * 100 >> 11); // rounded, as Linux does
    let part = |load: u64| (load / 100, load % 100);
    let (one, five, fifteen) = (part(one), part(five), part(fifteen));
    write!(out, "{}.{:02} {}.{:02} {}.{:02}", one.0, one.1, five.0, five.1, fifteen.0, fifteen.1)
}

/// /proc/PID/sched. The caller knows the name, the pid and the number of threads.
pub fn task(out: &mut dyn Write, task: &Task, comm: &str, pid: u32, threads: usize) -> Result {
    writeln!(out, "{comm} ({pid}, #threads: {threads})")?;
    writeln!(out, "{:-<67}", "")?;
    let slot = &task.sched;
    let load = |counter: &core::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as i64;
    line(out, "se.exec_start", Stat::Ns(load(&slot.left_cpu_at_ns)))?;
    line(out, "se.sum_exec_runtime", Stat::Ns(crate::run_ns(task) as i64))?;
    let mut outcome = Ok(());
    if !of_policy(task, &mut |name, value| outcome = outcome.and_then(|()| line(out, name, value))) {
        let carry = rq::carry_of(task);
        line(out, "se.vruntime", Stat::Ns(carry.vruntime_ns as i64))?;
        line(out, "se.vlag", Stat::Ns(carry.lag_ns))?;
    }
    outcome?;
    let (voluntary, involuntary) = (load(&slot.switches_voluntary), load(&slot.switches_involuntary));
    line(out, "se.nr_migrations", Stat::Number(load(&slot.migrations)))?;
    line(out, "nr_switches", Stat::Number(voluntary + involuntary))?;
    line(out, "nr_voluntary_switches", Stat::Number(voluntary))?;
    line(out, "nr_involuntary_switches", Stat::Number(involuntary))?;
    let params = crate::params(task);
    line(out, "policy", Stat::Number(number_of(params.kind)))?;
    line(out, "prio", Stat::Number(priority(&params)))?;
    if params.penalty_ns_per_ms != 0 {
        line(out, "lab.penalty_ns_per_ms", Stat::Number(i64::from(params.penalty_ns_per_ms)))?;
    }
    Ok(())
}

/// What the policy that has the task on a queue tells about it; false when it is on none.
fn of_policy(task: &Task, put: &mut dyn FnMut(&'static str, Stat)) -> bool {
    let Some((_, mut rq)) = rq::lock_of(task) else { return false };
    rq.queue.stats(timer::now_ns(), rq::slot_of(task), put);
    true
}

fn line(out: &mut dyn Write, name: &str, value: Stat) -> Result {
    match value {
        Stat::Number(number) => writeln!(out, "{name:<45}:{number:>21}"),
        Stat::Ns(ns) => {
            let sign = if ns < 0 { "-" } else { "" };
            let (ms, rest) = (ns.unsigned_abs() / 1_000_000, ns.unsigned_abs() % 1_000_000);
            let pad = 14usize.saturating_sub(sign.len());
            writeln!(out, "{name:<45}:{sign:>0$}{ms:>pad$}.{rest:06}", sign.len())
        }
    }
}

/// SCHED_* of a kind, for user space.
fn number_of(kind: SchedKind) -> i64 {
    match kind {
        SchedKind::Normal => 0,
        SchedKind::Fifo | SchedKind::Stop => 1,
        SchedKind::RoundRobin => 2,
        SchedKind::Batch => 3,
        SchedKind::Idle => 5,
    }
}

/// Linux's internal priority: 120 + nice, or 99 - rt_priority; field 18 of /proc/PID/stat is 100 less.
pub fn priority(params: &sched_api::Params) -> i64 {
    match params.kind {
        SchedKind::Stop => -1,
        SchedKind::Fifo | SchedKind::RoundRobin => 99 - i64::from(params.rt_priority),
        _ => 120 + i64::from(params.nice),
    }
}

/// /proc/PID/schedstat: ns on a CPU, ns waiting for one, times it got one.
pub fn task_schedstat(out: &mut dyn Write, task: &Task) -> Result {
    let wait_ns = task.sched.wait_ns.load(Ordering::Relaxed);
    let timeslices = task.sched.timeslices.load(Ordering::Relaxed);
    writeln!(out, "{} {wait_ns} {timeslices}", crate::run_ns(task))
}

/// /proc/schedstat, version 15 without domains (one flat machine).
pub fn schedstat(out: &mut dyn Write) -> Result {
    writeln!(out, "version 15")?;
    writeln!(out, "timestamp {}", timer::now_ns() / 4_000_000)?;
    for (cpu, queue) in rq::each() {
        let counts = queue.lock().counts;
        writeln!(
            out,
            "cpu{cpu} {} 0 {} {} {} {} {} {} {}",
            counts.yields,
            counts.schedules,
            counts.went_idle,
            counts.wakes,
            counts.wakes_local,
            counts.run_ns,
            counts.wait_ns,
            counts.timeslices
        )?;
    }
    Ok(())
}
