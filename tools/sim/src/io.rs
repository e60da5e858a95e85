//! `sim io`: I/O schedulers on a modelled disk.
//!
//! The schedulers and their table are the kernel's own crates; programs and disks are models, time is
//! virtual, and a seed repeats a run exactly. Without a workload three are run that show why each
//! scheduler was invented.

pub mod chart;
pub mod disk;
pub mod engine;
mod fifo;
#[cfg(test)]
mod tests;
pub mod workload;

use crate::workload::{number, time_ns};
use disk::Kind;
use engine::{Result as Got, Run};
use iosched_api::SchedulerInfo;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use workload::Program;

/// All of them; `none` is first come, first served, as a device sees it without a scheduler.
pub const SCHEDULERS: [SchedulerInfo; 7] = [
    fifo::INFO,
    iosched_linus::INFO,
    iosched_deadline::INFO,
    iosched_anticipatory::INFO,
    iosched_cfq::INFO,
    iosched_bfq::INFO,
    iosched_kyber::INFO,
];

const HELP: &str = "\
What I/O schedulers make of programs on a modelled disk: requests a second, bandwidth, latencies.

Usage: sim io [options]

  --disk NAMES          hdd, ssd, or both separated by a comma   [default: hdd,ssd]
  --policy NAMES        none, linus, mq-deadline, anticipatory, cfq, bfq, kyber, or all   [default: all]
  --workload WORKLOAD   what runs   [default: three that show what each policy is for]
  --time TIME           how long to measure   [default: 60s]
  --warmup TIME         how long to run before that   [default: 5s]
  --seed N              of everything random   [default: 1]
  --set NAME=VALUE      a knob of the policies that have it, as in /sys/block/*/queue/iosched
  --chart FILE          an SVG of how long the first program's requests took, a curve for each policy; with
                        one disk and a workload
  --help                this text

A workload is a list of programs separated by ; each is read or write, then attributes, then xCOUNT:

  random | seq     where the next piece is   [default: random]
  size=4k          bytes of a piece          depth=N    pieces at once   [default: 1]
  think=TIME       after each piece, on average   [default: none]
  sync             it waits for what it writes    prio=rt/0..7|be/0..7|idle

The rotating disk: 7200 rpm, 0.7 ms to settle, 15 ms across, 512 GiB, one request at a time. The solid-state
disk: 8 channels, 16 KiB read in 80 us or written in 250 us, 128 requests at once.

Examples:
  sim io --disk hdd --policy none,mq-deadline --workload 'read random; write seq size=1m depth=256'
  sim io --policy cfq,bfq --workload 'read seq size=64k prio=be/0; read seq size=64k prio=be/7'
";

/// What is run without `--workload`.
const SHOWN: [(&str, &str); 3] = [
    ("a streaming writer and a random reader", "read random size=4k; write seq size=1m depth=256"),
    (
        "a streaming writer and a reader that thinks 1 ms between blocks in order",
        "read seq size=64k think=1ms; write seq size=1m depth=256",
    ),
    (
        "a program with 32 random reads at once, and one that asks for one at a time",
        "read random size=4k; read random size=4k depth=32",
    ),
];

struct Options {
    disks: Vec<Kind>,
    policies: Vec<SchedulerInfo>,
    workload: Option<String>,
    time_ns: u64,
    warmup_ns: u64,
    seed: u64,
    knobs: Vec<(String, u64)>,
    chart: Option<PathBuf>,
}

/// Runs the command; its text, or what is wrong with the arguments.
pub fn main(args: &[String]) -> Result<String, String> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok(HELP.to_string());
    }
    let options = parse(args)?;
    let mut out = String::new();
    let shown: Vec<(&str, &str)> = match &options.workload {
        Some(text) => vec![("", text)],
        None => SHOWN.to_vec(),
    };
    for (title, text) in shown {
        let programs = workload::parse(text)?;
        for disk in &options.disks {
            let title = if title.is_empty() { text } else { title };
            let _ = writeln!(out, "{}: {title}", disk.name());
            let curves = table(&mut out, &options, *disk, &programs);
            if let Some(file) = &options.chart {
                draw(file, *disk, title, &curves)?;
            }
            let _ = writeln!(out);
        }
    }
    Ok(out)
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        disks: vec![Kind::Hdd, Kind::Ssd],
        policies: SCHEDULERS.to_vec(),
        workload: None,
        time_ns: 60_000_000_000,
        warmup_ns: 5_000_000_000,
        seed: 1,
        knobs: Vec::new(),
        chart: None,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name != "--set" => (name, Some(value.to_string())),
            _ => (arg.as_str(), None),
        };
        let value = inline.or_else(|| args.next().cloned()).ok_or(format!("{name} needs a value"))?;
        match name {
            "--disk" => {
                options.disks = list(&value, |name| match name {
                    "hdd" => Some(vec![Kind::Hdd]),
                    "ssd" => Some(vec![Kind::Ssd]),
                    _ => None,
                })?
            }
            "--policy" => {
                options.policies = list(&value, |name| match name {
                    "all" => Some(SCHEDULERS.to_vec()),
                    _ => SCHEDULERS.iter().find(|info| info.name == name).map(|info| vec![*info]),
                })?
            }
            "--workload" => options.workload = Some(value),
            "--time" => options.time_ns = time_ns(&value)?,
            "--warmup" => options.warmup_ns = time_ns(&value)?,
            "--seed" => options.seed = number(&value, 0, i64::MAX)? as u64,
            "--chart" => options.chart = Some(PathBuf::from(value)),
            "--set" => {
                let (knob, value) = value.split_once('=').ok_or("--set needs NAME=VALUE")?;
                options.knobs.push((knob.to_string(), number(value, 0, i64::MAX)? as u64));
            }
            _ => return Err(format!("no option '{name}'; see sim io --help")),
        }
    }
    if options.chart.is_some() && (options.disks.len() != 1 || options.workload.is_none()) {
        return Err("--chart needs one disk and a workload".to_string());
    }
    Ok(options)
}

fn list<T>(text: &str, find: impl Fn(&str) -> Option<Vec<T>>) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    for name in text.split(',') {
        all.extend(find(name).ok_or(format!("'{name}' is not known; see sim io --help"))?);
    }
    Ok(all)
}

fn draw(file: &Path, disk: Kind, title: &str, curves: &[chart::Curve<'_>]) -> Result<(), String> {
    let first = title.split(';').next().unwrap_or(title).trim();
    chart::draw(file, &format!("{}: '{first}' of '{title}'", disk.name()), curves)
}

/// What each program gets of each policy; the latencies of the first.
fn table(
    out: &mut String,
    options: &Options,
    disk: Kind,
    programs: &[Program],
) -> Vec<chart::Curve<'static>> {
    let mut curves = Vec::new();
    let _ = writeln!(
        out,
        "  {:<13} {:<34} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "policy", "program", "io/s", "MB/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
    );
    for info in &options.policies {
        let mut run = Run::new(info, disk, programs, options.seed);
        for (knob, value) in &options.knobs {
            run.set(knob, *value);
        }
        let results = run.measure(options.warmup_ns, options.time_ns);
        for (number, (program, got)) in programs.iter().zip(&results).enumerate() {
            let name = if number == 0 { info.name } else { "" };
            let _ = writeln!(out, "  {name:<13} {:<34} {}", program.text, row(got, options.time_ns));
        }
        if let Some(first) = results.first() {
            curves.push((info.name, curve(first)));
        }
    }
    curves
}

/// The distribution of latencies, by percent.
fn curve(got: &Got) -> Vec<(f64, f64)> {
    let at = |percent: u32| (got.latency.percentile_ns(f64::from(percent)) as f64 / 1e6, f64::from(percent));
    (1..100).map(at).chain([(got.latency.max_ns() as f64 / 1e6, 100.0)]).collect()
}

fn row(got: &Got, time_ns: u64) -> String {
    let seconds = time_ns as f64 / 1e9;
    let ms = |ns: u64| ns as f64 / 1e6;
    let at = |percent: f64| ms(got.latency.percentile_ns(percent));
    format!(
        "{:>8.1} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
        got.done as f64 / seconds,
        got.bytes as f64 / 1e6 / seconds,
        at(50.0),
        at(99.0),
        at(99.9),
        ms(got.latency.max_ns())
    )
}

/// Requests a second and the 99th percentile of the first program, for tests.
pub fn first_program(info: &SchedulerInfo, disk: Kind, text: &str) -> (f64, u64) {
    let programs = workload::parse(text).unwrap_or_default();
    let results = Run::new(info, disk, &programs, 1).measure(2_000_000_000, 10_000_000_000);
    results.first().map_or((0.0, 0), |got| (got.done as f64 / 10.0, got.latency.percentile_ns(99.0)))
}
