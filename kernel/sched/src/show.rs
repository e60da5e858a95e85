//! The scheduler's files in /proc and /sys.

use crate::{policy, rq};
use alloc::format;
use alloc::vec::Vec;
use arch::timer;
use core::fmt::{Result, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use sched_api::{SchedKind, Stat};
use sched_balance::Cpus;
use task::Task;

/// /sys/kernel/sched/policy: `[cfs] eevdf`, by name.
pub fn policy(out: &mut dyn Write) -> Result {
    let chosen = policy::current_policy().name;
    let mut names: Vec<_> = policy::policies().iter().map(|info| info.name).collect();
    names.sort_unstable();
    for (index, name) in names.into_iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        match name == chosen {
            true => write!(out, "{space}[{name}]")?,
            false => write!(out, "{space}{name}")?,
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
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as i64;
    let facts = Facts::of(task);
    line(out, "se.exec_start", Stat::Ns(load(&slot.left_cpu_at_ns)))?;
    line(out, "se.vruntime", Stat::Ns(facts.vruntime_ns))?;
    line(out, "se.sum_exec_runtime", Stat::Ns(crate::run_ns(task) as i64))?;
    line(out, "se.nr_migrations", Stat::Number(load(&slot.migrations)))?;
    let (voluntary, involuntary) = (load(&slot.switches_voluntary), load(&slot.switches_involuntary));
    line(out, "nr_switches", Stat::Number(voluntary + involuntary))?;
    line(out, "nr_voluntary_switches", Stat::Number(voluntary))?;
    line(out, "nr_involuntary_switches", Stat::Number(involuntary))?;
    let params = crate::params(task);
    // Linux's scale on 64-bit machines: ten more bits.
    line(out, "se.load.weight", Stat::Number((params.weight() << 10) as i64))?;
    line(out, "policy", Stat::Number(number_of(params.kind)))?;
    line(out, "prio", Stat::Number(priority(&params)))?;
    for (name, value) in facts.others.into_iter().flatten() {
        line(out, name, value)?;
    }
    match params.penalty_ns_per_ms {
        0 => Ok(()),
        penalty => line(out, "lab.penalty_ns_per_ms", Stat::Number(i64::from(penalty))),
    }
}

/// What the policy that has the task on a queue tells about it, or what it took along when it left one.
struct Facts {
    vruntime_ns: i64,
    others: [Option<(&'static str, Stat)>; 8],
}

impl Facts {
    /// Collected under the run queue's lock, hence not printed there: that may allocate.
    fn of(task: &Task) -> Facts {
        let carry = rq::carry_of(task);
        let mut facts = Facts { vruntime_ns: carry.vruntime_ns as i64, others: [None; 8] };
        match rq::lock_of(task) {
            Some((_, mut rq)) => {
                rq.queue.stats(timer::now_ns(), rq::slot_of(task), &mut |name, stat| facts.put(name, stat));
            }
            None => facts.put("se.vlag", Stat::Ns(carry.lag_ns)),
        }
        facts
    }

    fn put(&mut self, name: &'static str, stat: Stat) {
        match (name, stat) {
            ("se.vruntime", Stat::Ns(ns)) => self.vruntime_ns = ns,
            ("se.load.weight", _) => {}
            other => {
                if let Some(free) = self.others.iter_mut().find(|place| place.is_none()) {
                    *free = Some(other);
                }
            }
        }
    }
}

fn line(out: &mut dyn Write, name: &str, value: Stat) -> Result {
    match value {
        Stat::Number(number) => writeln!(out, "{name:<45}:{number:>21}"),
        Stat::Ns(ns) => {
            let sign = if ns < 0 { "-" } else { "" };
            let (ms, rest) = (ns.unsigned_abs() / 1_000_000, ns.unsigned_abs() % 1_000_000);
            writeln!(out, "{name:<45}:{:>14}.{rest:06}", format!("{sign}{ms}"))
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

/// /proc/schedstat, version 15. Several CPUs are one domain: every CPU is as near as any other.
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
        if arch::cpu::count() > 1 {
            domain(out, &counts)?;
        }
    }
    Ok(())
}

/// The domain line of a CPU. CPUs balance when they have just run out of work, and busy ones push: the columns of the
/// other occasions (idle for long, busy; exec, fork) are zero.
fn domain(out: &mut dyn Write, counts: &rq::Counts) -> Result {
    const NEVER: &str = " 0 0 0 0 0 0 0 0";
    let cpus = arch::cpu::count();
    let (pulls, pushes) = (counts.pulls, counts.pushes);
    write!(out, "domain0 {:0width$x}{NEVER}{NEVER}", rq::online().0, width = cpus.div_ceil(4))?;
    write!(out, " {} {} {} 0 {} 0 0 0", pulls.tries, pulls.balanced, pulls.failed, pulls.moved)?;
    write!(out, " {} {} {} 0 0 0 0 0 0", pushes.tries, pushes.failed, pushes.moved)?;
    writeln!(out, " {} 0 0", counts.wakes - counts.wakes_local)
}

/// Writes the rows of the tasks of a CPU: [`task_row`] for each.
pub type Rows<'a> = dyn FnMut(&mut dyn Write, usize) -> Result + 'a;

/// /sys/kernel/debug/sched/debug: the clock, the knobs in use, and each CPU's queue with its tasks. Which tasks there
/// are is known to the layer above: `rows`.
pub fn debug(out: &mut dyn Write, rows: &mut Rows) -> Result {
    let ms = |ns: u64| (ns / 1_000_000, ns % 1_000_000);
    let now = ms(timer::now_ns());
    writeln!(out, "Sched Debug Version: v0.11")?;
    for name in ["ktime", "sched_clk", "cpu_clk"] {
        writeln!(out, "{name:<40}: {}.{:06}", now.0, now.1)?;
    }
    writeln!(out, "\nsysctl_sched")?;
    for name in policy::tunables() {
        if let Some(value) = policy::tunable(name) {
            writeln!(out, "  .{:<40}: {value}", format!("sysctl_sched_{name}"))?;
        }
    }
    for (cpu, queue) in rq::each() {
        let (counts, running) = {
            let rq = queue.lock();
            (rq.counts, rq.queue.nr_running())
        };
        writeln!(out, "\ncpu#{cpu}")?;
        for (field, value) in [
            ("nr_running", u64::from(running)),
            ("load", rq::View.load(cpu)),
            ("nr_switches", counts.switches),
            ("yld_count", counts.yields),
            ("sched_count", counts.schedules),
            ("sched_goidle", counts.went_idle),
            ("ttwu_count", counts.wakes),
            ("ttwu_local", counts.wakes_local),
        ] {
            writeln!(out, "  .{field:<30}: {value}")?;
        }
        writeln!(out, "\nrunnable tasks:")?;
        write!(
            out,
            " S            task   PID       vruntime   eligible    deadline             slice          "
        )?;
        writeln!(out, "sum-exec      switches  prio         wait-time        sum-sleep       sum-block")?;
        writeln!(out, "{:-<163}", "")?;
        rows(out, cpu)?;
    }
    Ok(())
}

/// The CPU that a task runs on or ran on last.
pub fn cpu_of(task: &Task) -> usize {
    task.sched.cpu.load(Ordering::Relaxed) as usize
}

/// A task in the table of [`debug`]. How long it slept and was blocked is not counted, and shown as zero, as by a
/// Linux without its schedstats.
pub fn task_row(out: &mut dyn Write, task: &Task, comm: &str, pid: u32) -> Result {
    let split = |ns: i64| {
        let sign = if ns < 0 { "-" } else { "" };
        (format!("{sign}{}", ns.unsigned_abs() / 1_000_000), ns.unsigned_abs() % 1_000_000)
    };
    let current = rq::lock_of(task).is_some_and(|(_, rq)| rq.queue.is_running(rq::slot_of(task)));
    let letter = task.state().letter();
    let mark = if current { '>' } else { ' ' };
    let facts = Facts::of(task);
    let ns_of = |wanted: &str| match facts.others.iter().flatten().find(|(name, _)| *name == wanted) {
        Some((_, Stat::Ns(ns))) => *ns,
        _ => 0,
    };
    let eligible = if ns_of("se.vlag") >= 0 { 'E' } else { 'N' };
    let params = crate::params(task);
    let own_slice = if params.slice_ns != 0 { 'S' } else { ' ' };
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (vruntime, deadline) = (split(facts.vruntime_ns), split(ns_of("se.deadline")));
    let (slice, run) = (split(ns_of("se.slice")), split(crate::run_ns(task) as i64));
    let wait = split(load(&task.sched.wait_ns) as i64);
    let switches = load(&task.sched.switches_voluntary) + load(&task.sched.switches_involuntary);
    write!(out, "{mark}{letter} {comm:>15} {pid:>5} {:>9}.{:06}   {eligible}   ", vruntime.0, vruntime.1)?;
    write!(out, "{:>9}.{:06} {own_slice} {:>9}.{:06} ", deadline.0, deadline.1, slice.0, slice.1)?;
    write!(out, "{:>9}.{:06} {switches:>9}   {:>5} ", run.0, run.1, priority(&params))?;
    writeln!(out, "{:>9}.{:06} {:>9}.{:06} {:>9}.{:06}", wait.0, wait.1, 0, 0, 0, 0)
}
