//! The command line of `sim sched`.

use crate::POLICIES;
use crate::workload::{self, Group, number, time_ns};
use sched_api::PolicyInfo;
use std::path::Path;

pub const HELP: &str = "\
How a scheduling policy treats a workload: shares of the CPU and wake-up latencies, in virtual time.
The policies, the run queues and the load balancing are the kernel's own crates. Switching costs nothing.

Usage: sim sched [options]

  --workload WORKLOAD   what runs: a description (below) or the name of a file with one; may be
                        repeated, and adds up   [default: hog nice=0; hog nice=5]
  --policy NAMES        cfs, eevdf, or several separated by commas, reported one after the other
                        [default: cfs]
  --cpus N              1 to 4096   [default: 1]
  --time TIME           how long to measure   [default: 10s]
  --warmup TIME         how long to run before that   [default: 1s]
  --seed N              of everything random: phases, random tasks   [default: 1]
  --set NAME=VALUE      a knob of the policy, as in /sys/kernel/debug/sched: latency_ns,
                        min_granularity_ns, wakeup_granularity_ns (cfs), base_slice_ns (eevdf)
  --swap-every TIME     replace the policy by the next one, under load, this often
  --help                this text

A workload is a list of groups of tasks, separated by ; or line breaks; # starts a comment.
Each group is a kind, then attributes, then xCOUNT:

  hog                              computes for ever
  periodic run=TIME sleep=TIME     runs and sleeps in turn, from a random phase
  random run=TIME sleep=TIME       the same, times exponentially distributed around these means
  pingpong run=TIME                a pair that wakes each other: run, wake the other, sleep
  fork-storm every=TIME run=TIME   makes a child every so often that runs for a while and exits
  rt prio=N [run=TIME sleep=TIME]  SCHED_FIFO hog or periodic task

  nice=-20..19   class=normal|batch|idle|fifo|rr   prio=1..99 (fifo, rr)   cpus=0-3,8
  slice=TIME (eevdf)   penalty=NS_PER_MS (lab penalize)   start=TIME
  Times: 500ns 20us 1.5ms 10s

Latency is the time from waking to running.

Examples:
  sim sched --workload 'hog nice=0; hog nice=5'
  sim sched --policy cfs,eevdf --workload 'hog x8; periodic run=1ms sleep=9ms slice=100us x2'
  sim sched --workload 'hog; hog penalty=1000000'
  sim sched --workload 'hog x2; rt prio=50'                    # the fair server: 5 %
  sim sched --cpus 4096 --workload 'hog x4000; random run=2ms sleep=5ms x2000' --time 200ms
  sim sched --cpus 4 --workload 'fork-storm every=500us run=2ms; hog nice=19 x4'
";

/// What was asked for.
#[derive(Debug)]
pub enum Request {
    Help,
    Run(Options),
}

/// A simulation to run.
#[derive(Debug)]
pub struct Options {
    pub policies: Vec<PolicyInfo>,
    pub cpus: usize,
    pub groups: Vec<Group>,
    pub time_ns: u64,
    pub warmup_ns: u64,
    pub seed: u64,
    pub knobs: Vec<(String, u64)>,
    pub swap_every_ns: Option<u64>,
}

/// Reads the arguments after `sim sched`.
pub fn parse(args: &[String]) -> Result<Request, String> {
    let mut options = Options {
        policies: vec![POLICIES[0]],
        cpus: 1,
        groups: Vec::new(),
        time_ns: 10_000_000_000,
        warmup_ns: 1_000_000_000,
        seed: 1,
        knobs: Vec::new(),
        swap_every_ns: None,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(Request::Help);
        }
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (arg.as_str(), None),
        };
        if !NAMES.contains(&name) {
            return Err(format!("no option '{name}'; see sim sched --help"));
        }
        let value = inline.or_else(|| args.next().cloned()).ok_or(format!("{name} needs a value"))?;
        set(&mut options, name, &value)?;
    }
    if options.groups.is_empty() {
        options.groups = workload::parse("hog nice=0; hog nice=5")?;
    }
    check(&options)?;
    Ok(Request::Run(options))
}

const NAMES: [&str; 8] =
    ["--workload", "--policy", "--cpus", "--time", "--warmup", "--seed", "--set", "--swap-every"];

fn set(options: &mut Options, name: &str, value: &str) -> Result<(), String> {
    match name {
        "--workload" => options.groups.extend(read_workload(value)?),
        "--policy" => options.policies = value.split(',').map(policy).collect::<Result<_, _>>()?,
        "--cpus" => options.cpus = number(value, 1, 4096)? as usize,
        "--time" => options.time_ns = time_ns(value)?,
        "--warmup" => options.warmup_ns = time_ns(value)?,
        "--seed" => options.seed = value.parse().map_err(|_| format!("'{value}' is not a seed"))?,
        "--swap-every" => options.swap_every_ns = Some(time_ns(value)?).filter(|ns| *ns > 0),
        _ => options.knobs.push(knob(value)?),
    }
    Ok(())
}

/// A description, or a file that holds one.
fn read_workload(value: &str) -> Result<Vec<Group>, String> {
    let path = Path::new(value);
    if !path.is_file() {
        return workload::parse(value);
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{value}: {error}"))?;
    workload::parse(&text)
}

fn policy(name: &str) -> Result<PolicyInfo, String> {
    let found = POLICIES.into_iter().find(|info| info.name == name);
    found.ok_or(format!("no policy '{name}' ({})", POLICIES.map(|info| info.name).join(", ")))
}

fn knob(value: &str) -> Result<(String, u64), String> {
    let (name, number) = value.split_once('=').ok_or(format!("'{value}' is not NAME=VALUE"))?;
    let parsed = number.replace('_', "").parse().map_err(|_| format!("'{number}' is not a number"))?;
    Ok((name.to_string(), parsed))
}

fn check(options: &Options) -> Result<(), String> {
    for (name, value) in &options.knobs {
        let mut known = false;
        for info in &POLICIES {
            let config = sched_api::QueueConfig { id: sched_api::QueueId(0), cpus: 1, slots: 0 };
            let Ok(mut policy) = (info.make)(config) else { continue };
            match policy.set_tunable(name, *value) {
                Ok(()) => known = true,
                Err(sched_api::TunableError::Unknown) => {}
                Err(sched_api::TunableError::OutOfRange) => {
                    return Err(format!("{name}={value} is out of range"));
                }
            }
        }
        if !known {
            return Err(format!("no policy has a knob '{name}'"));
        }
    }
    let cpus = options.cpus;
    let reachable = |words: &Vec<u64>| (0..cpus).any(|cpu| words[cpu / 64] >> (cpu % 64) & 1 == 1);
    match options.groups.iter().find(|group| group.cpus.as_ref().is_some_and(|words| !reachable(words))) {
        Some(group) => Err(format!("workload '{}': none of its CPUs exists", group.text)),
        None => Ok(()),
    }
}
