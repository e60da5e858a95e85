//! The language in which a workload is described.
//!
//! ```text
//! workload = group { (";" | newline) group } ;  "#" starts a comment
//! group    = kind { attribute } [ "x" count ]
//! ```

use sched_api::{MAX_RT_PRIO, Params, SchedKind};

/// What the tasks of a group do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Computes for ever.
    Hog,
    /// Runs and sleeps in turn, always for the same times.
    Periodic { run_ns: u64, sleep_ns: u64 },
    /// The same with exponentially distributed times of these means.
    Random { run_ns: u64, sleep_ns: u64 },
    /// Two tasks that wake each other: run, wake the other, sleep.
    PingPong { run_ns: u64 },
    /// Makes a child that runs for `run_ns` and exits, every so often.
    ForkStorm { every_ns: u64, run_ns: u64 },
}

/// Some tasks that behave alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// As it was described, for the report.
    pub text: String,
    pub kind: Kind,
    pub params: Params,
    /// How many (pairs, for pingpong).
    pub count: usize,
    /// When they begin.
    pub start_ns: u64,
    /// CPUs they may use, in words of 64; `None` for all.
    pub cpus: Option<Vec<u64>>,
}

/// Reads a workload; the error names the group and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Group>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(""));
    let groups: Vec<_> =
        lines.flat_map(|line| line.split(';')).map(str::trim).filter(|g| !g.is_empty()).collect();
    if groups.is_empty() {
        return Err("the workload has no tasks".into());
    }
    groups
        .into_iter()
        .map(|text| group(text).map_err(|problem| format!("workload '{text}': {problem}")))
        .collect()
}

/// The attributes of one group while they are read.
#[derive(Default)]
struct Attributes {
    params: Params,
    count: Option<usize>,
    run_ns: Option<u64>,
    sleep_ns: Option<u64>,
    every_ns: Option<u64>,
    start_ns: u64,
    cpus: Option<Vec<u64>>,
}

fn group(text: &str) -> Result<Group, String> {
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or("");
    let mut attributes = Attributes::default();
    if kind == "rt" {
        attributes.params = Params::fifo(50);
    }
    for word in words {
        attribute(&mut attributes, word)?;
    }
    check_class(&attributes.params)?;
    let kind = kind_of(kind, &attributes)?;
    Ok(Group {
        text: text.split_whitespace().collect::<Vec<_>>().join(" "),
        kind,
        params: attributes.params,
        count: attributes.count.unwrap_or(1),
        start_ns: attributes.start_ns,
        cpus: attributes.cpus,
    })
}

fn kind_of(word: &str, attributes: &Attributes) -> Result<Kind, String> {
    let Attributes { run_ns, sleep_ns, every_ns, .. } = *attributes;
    let need =
        |value: Option<u64>, name: &str| value.filter(|ns| *ns > 0).ok_or(format!("needs {name}=TIME"));
    match word {
        "hog" => Ok(Kind::Hog),
        "rt" if run_ns.is_none() && sleep_ns.is_none() => Ok(Kind::Hog),
        "periodic" | "rt" => {
            Ok(Kind::Periodic { run_ns: need(run_ns, "run")?, sleep_ns: need(sleep_ns, "sleep")? })
        }
        "random" => Ok(Kind::Random { run_ns: need(run_ns, "run")?, sleep_ns: need(sleep_ns, "sleep")? }),
        "pingpong" => Ok(Kind::PingPong { run_ns: need(run_ns, "run")? }),
        "fork-storm" => Ok(Kind::ForkStorm {
            every_ns: every_ns.unwrap_or(1_000_000).max(1_000),
            run_ns: run_ns.unwrap_or(1_000_000).max(1),
        }),
        _ => Err(format!("no kind of task '{word}' (hog, periodic, random, pingpong, fork-storm, rt)")),
    }
}

fn attribute(into: &mut Attributes, word: &str) -> Result<(), String> {
    if let Some(count) = word.strip_prefix('x') {
        into.count = Some(number(count, 1, 1_000_000)? as usize);
        return Ok(());
    }
    let (name, value) = word.split_once('=').ok_or(format!("'{word}' is neither name=value nor xCOUNT"))?;
    match name {
        "nice" => into.params.nice = number(value, -20, 19)? as i8,
        "class" => into.params.kind = class(value)?,
        "prio" => into.params.rt_priority = number(value, 1, i64::from(MAX_RT_PRIO) - 1)? as u8,
        "slice" => into.params.slice_ns = time_ns(value)?,
        "penalty" => into.params.penalty_ns_per_ms = number(value, 0, i64::from(u32::MAX))? as u32,
        "run" => into.run_ns = Some(time_ns(value)?),
        "sleep" => into.sleep_ns = Some(time_ns(value)?),
        "every" => into.every_ns = Some(time_ns(value)?),
        "start" => into.start_ns = time_ns(value)?,
        "cpus" => into.cpus = Some(cpu_list(value)?),
        _ => return Err(format!("no attribute '{name}'")),
    }
    Ok(())
}

fn class(value: &str) -> Result<SchedKind, String> {
    match value {
        "normal" | "other" => Ok(SchedKind::Normal),
        "batch" => Ok(SchedKind::Batch),
        "idle" => Ok(SchedKind::Idle),
        "fifo" => Ok(SchedKind::Fifo),
        "rr" => Ok(SchedKind::RoundRobin),
        _ => Err(format!("no class '{value}' (normal, batch, idle, fifo, rr)")),
    }
}

fn check_class(params: &Params) -> Result<(), String> {
    let real_time = matches!(params.kind, SchedKind::Fifo | SchedKind::RoundRobin);
    match (real_time, params.rt_priority) {
        (true, 0) => Err("class=fifo and class=rr need prio=1..99".into()),
        (false, 1..) => Err("prio= is for class=fifo and class=rr".into()),
        _ => Ok(()),
    }
}

/// A whole number in a range.
pub(crate) fn number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let value = text.replace('_', "").parse().ok().filter(|value| (least..=most).contains(value));
    value.ok_or(format!("'{text}' is not a number from {least} to {most}"))
}

/// A time such as `500ns`, `20us`, `1.5ms`, `10s`.
pub(crate) fn time_ns(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(format!("'{text}' is not a time (500ns, 20us, 1.5ms, 10s)")),
    };
    let value: f64 = digits.parse().map_err(|_| format!("'{text}' is not a time"))?;
    let ns = value * unit;
    if (0.0..1e15).contains(&ns) { Ok(ns as u64) } else { Err(format!("'{text}' is out of range")) }
}

/// A list such as `0-3,8`, as words of 64 bits.
fn cpu_list(text: &str) -> Result<Vec<u64>, String> {
    let mut words = vec![0u64; 64];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first, 0, 4095)? as usize, number(last, 0, 4095)? as usize);
        if first > last {
            return Err(format!("'{part}' is not a range of CPUs"));
        }
        (first..=last).for_each(|cpu| words[cpu / 64] |= 1 << (cpu % 64));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let parsed =
            parse("hog nice=5 x4; periodic run=1ms sleep=9ms # a comment\nrt prio=10 class=rr").unwrap();
        assert_eq!(parsed.len(), 3);
        assert_eq!((parsed[0].kind, parsed[0].params, parsed[0].count), (Kind::Hog, Params::nice(5), 4));
        assert_eq!(parsed[1].kind, Kind::Periodic { run_ns: 1_000_000, sleep_ns: 9_000_000 });
        assert_eq!((parsed[2].kind, parsed[2].params), (Kind::Hog, Params::round_robin(10)));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("", "no tasks"),
            ("  # nothing\n;", "no tasks"),
            ("hug", "no kind of task 'hug'"),
            ("hog nice=20", "'20' is not a number from -20 to 19"),
            ("hog colour=red", "no attribute 'colour'"),
            ("hog 4", "neither name=value nor xCOUNT"),
            ("hog x0", "'0' is not a number from 1"),
            ("periodic run=1ms", "needs sleep=TIME"),
            ("periodic run=1 sleep=2", "'1' is not a time"),
            ("hog class=fifo", "need prio"),
            ("hog prio=3", "prio= is for"),
            ("hog cpus=3-1", "not a range"),
            ("periodic run=-1ms sleep=1ms", "out of range"),
        ];
        for (text, expected) in table {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn times_and_cpus() {
        for (text, ns) in [("1ns", 1), ("2us", 2_000), ("1.5ms", 1_500_000), ("3s", 3_000_000_000)] {
            assert_eq!(time_ns(text), Ok(ns));
        }
        assert_eq!(cpu_list("0-2,65").unwrap()[..2], [0b111, 0b10]);
    }
}
