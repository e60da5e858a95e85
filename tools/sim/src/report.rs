//! The table at the end.

use crate::engine::{GroupTotals, Machine};
use crate::options::Options;
use std::fmt::Write;

/// Writes the report of one run.
pub fn write(out: &mut String, machine: &Machine, policy: &str, options: &Options) {
    let _ = try_write(out, machine, policy, options); // writing to a String does not fail
}

fn try_write(out: &mut String, machine: &Machine, policy: &str, options: &Options) -> std::fmt::Result {
    let cpus = if options.cpus == 1 { "1 CPU".to_string() } else { format!("{} CPUs", options.cpus) };
    let swaps = match machine.swaps() {
        0 => String::new(),
        n => format!(", {n} policy swaps"),
    };
    writeln!(
        out,
        "{policy} on {cpus}, {} of virtual time, seed {}{swaps}",
        time(options.time_ns),
        options.seed
    )?;
    let groups = machine.totals();
    let width = groups.iter().map(|group| group.name.len()).max().unwrap_or(0).max(5);
    writeln!(
        out,
        "\n{:width$}  {:>6}  {:>7} {:>16}  {:>9}  {:>8} {:>8} {:>8} {:>8}",
        "tasks", "number", "share", "% of a CPU each", "wake-ups", "p50", "p90", "p99", "max"
    )?;
    let used: u64 = groups.iter().map(|group| group.ran_ns).sum();
    for group in &groups {
        line(out, group, used, options.time_ns, width)?;
    }
    let totals = machine.machine_totals();
    let seconds = options.time_ns as f64 / 1e9;
    let capacity = options.time_ns as f64 * options.cpus as f64;
    writeln!(
        out,
        "\nbusy {:.1} %, {:.0} switches/s, {:.1} moves between CPUs/s, longest wait for the CPU {}\n",
        used as f64 * 100.0 / capacity.max(1.0),
        totals.switches as f64 / seconds,
        totals.moves as f64 / seconds,
        time(totals.longest_wait_ns),
    )
}

fn line(out: &mut String, group: &GroupTotals, used: u64, time_ns: u64, width: usize) -> std::fmt::Result {
    let percent = |ns: u64, of: u64| ns as f64 * 100.0 / of.max(1) as f64;
    let each = format!("{:.2} .. {:.2}", percent(group.least_ns, time_ns), percent(group.most_ns, time_ns));
    let name = &group.name;
    write!(out, "{name:width$}  {:>6}  {:>5.1} % {each:>16}", group.tasks, percent(group.ran_ns, used))?;
    let latency = &group.latency;
    if latency.count() == 0 {
        return writeln!(out, "  {:>9}", "-");
    }
    let p = |percent: f64| time(latency.percentile_ns(percent));
    let max = time(latency.max_ns());
    let (p50, p90, p99) = (p(50.0), p(90.0), p(99.0));
    writeln!(out, "  {:>9}  {p50:>8} {p90:>8} {p99:>8} {max:>8}", latency.count())
}

/// A time in the unit that suits it.
pub fn time(ns: u64) -> String {
    let (value, unit) = match ns {
        0 => return "0".to_string(),
        1..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { 1 };
    format!("{value:.digits$} {unit}")
}
