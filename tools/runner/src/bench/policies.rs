//! `bench --policies`: what each replacement policy and each I/O scheduler makes of the same load, in the kernel.
//!
//! Problem: the simulator says what a policy would decide; here the whole kernel runs under it. Interface: [`run`] prints
//! two tables for each architecture and draws two charts. Idea: a boot in which the guest puts one policy after the other
//! in force and runs the program `bench` under it. Linux takes part with what it has. For the schedulers QEMU lets the
//! disk do no more than [`IOPS`] requests a second: on a disk that is never busy there is nothing to schedule.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sim::cache::Outcome;

use super::{LIMIT, disk, median};
use crate::arch::Arch;
use crate::cli::BenchArgs;
use crate::guest::Guest;
use crate::machine::Machine;
use crate::tree::Tree;
use crate::{places, progress, testing};

/// Memory of the guest for replacement, and the files' sizes in MiB: from what fits to what does not at all.
const MEMORY: &str = "64M";
const SIZES: [usize; 5] = [32, 48, 64, 96, 128];
/// Requests a second of the disk for scheduling.
const IOPS: u32 = 1500;
/// How long the program's load goes on, in seconds.
const SECONDS: f64 = 5.0;

const RECLAIM: &str = "/sys/kernel/mm/reclaim/policy";
const SCHEDULER: &str = "/sys/block/vda/queue/scheduler";

/// What was measured under one policy: the numbers of a kind of line, by round.
struct Measured {
    policy: String,
    lines: Vec<(String, Vec<f64>)>,
}

/// Measures and prints.
pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let image = disk::image()?;
    for arch in args.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]) {
        let mut kernels = vec![("Ochre", None)];
        if args.against.is_some() {
            kernels.push(("Linux", Some("linux")));
        }
        for (name, kernel) in kernels {
            let machine = |mem: &str| Machine { mem: mem.to_owned(), ..super::machine(args, arch, kernel) };
            let sizes: String = SIZES.iter().map(|size| format!(" {size}")).collect();
            progress::step("Measuring", format!("the replacement policies of {name} on {arch}"));
            let script = under_each(RECLAIM, &format!("bench --reclaim /mnt{sizes}"));
            let replaced = measure(args.rounds, machine(MEMORY), &image, "", &script)?;
            println!("{}", replacement(&format!("{name} on {arch}"), &replaced)?);
            progress::step("Measuring", format!("the I/O schedulers of {name} on {arch}"));
            let script = under_each(SCHEDULER, "bench --io /mnt");
            let throttle = format!(",throttling.iops-total={IOPS}");
            let scheduled = measure(args.rounds, machine(&args.mem), &image, &throttle, &script)?;
            println!("{}", scheduling(&format!("{name} on {arch}"), &scheduled)?);
        }
    }
    Ok(())
}

/// Runs a command under each policy that the file lists; once, where the kernel has no such choice.
fn under_each(file: &str, command: &str) -> String {
    format!(
        "if [ -f {file} ]; then for policy in $(tr -d '[]' < {file}); do \
         echo $policy > {file} && echo policy $policy && {command} || exit 1; done; \
         else echo policy built-in; {command}; fi"
    )
}

/// As many boots as rounds; all values of a line are kept.
fn measure(
    rounds: u32,
    mut machine: Machine,
    image: &Path,
    throttle: &str,
    script: &str,
) -> Result<Vec<Measured>> {
    let mut all: Vec<Measured> = Vec::new();
    for _ in 0..rounds {
        machine.qemu = Some(disk::attach(image, &machine, throttle)?);
        let mut files = Tree::default();
        if machine.kernel.is_some() {
            disk::add_modules(machine.arch, &mut files)?;
        }
        let script = disk::script(&format!("{{ {script}; }}"));
        let command = wire::Command { once: true, input: false, ..testing::command(&["sh", "-c", &script]) };
        let mut guest = Guest::start_with(&machine, &command, files)?;
        let finished = guest.collect(LIMIT)?;
        guest.wait_for_end();
        if finished.code != 0 {
            bail!("the program failed:\n{}{}", finished.out, finished.err);
        }
        take(&mut all, &finished.out);
    }
    Ok(all)
}

/// Sorts the lines of one boot in: `policy NAME`, then lines of numbers whose last word or two are values.
fn take(all: &mut Vec<Measured>, out: &str) {
    let mut current = None;
    for line in out.lines() {
        if let Some(policy) = line.strip_prefix("policy ") {
            let known = all.iter().position(|one| one.policy == policy);
            current = Some(known.unwrap_or_else(|| {
                all.push(Measured { policy: policy.to_owned(), lines: Vec::new() });
                all.len() - 1
            }));
            continue;
        }
        let Some(one) = current.map(|at| &mut all[at]) else { continue };
        for (key, value) in values(line) {
            match one.lines.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => one.lines.push((key, vec![value])),
            }
        }
    }
}

/// `MIB PERMILLE NS` is two values; `stream KIB`, `write KIB` and `latency PERCENT NS` are one.
fn values(line: &str) -> Vec<(String, f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.parse::<f64>().ok();
    match words[..] {
        [name @ ("stream" | "write"), kib] => {
            number(kib).map(|kib| (name.to_owned(), kib)).into_iter().collect()
        }
        ["latency", percent, ns] => {
            number(ns).map(|ns| (format!("latency {percent}"), ns)).into_iter().collect()
        }
        [size, permille, ns] => [("hits", permille), ("ns", ns)]
            .into_iter()
            .filter_map(|(what, word)| Some((format!("{what} {size}"), number(word)?)))
            .collect(),
        _ => Vec::new(),
    }
}

impl Measured {
    fn median(&self, key: &str) -> Result<f64> {
        let line = self.lines.iter().find(|(known, _)| known == key);
        line.map(|(_, values)| median(values)).with_context(|| format!("{}: no value of {key}", self.policy))
    }
}

/// The file of a chart.
fn chart(what: &str, title: &str) -> Result<PathBuf> {
    let dir = places::target().join("charts");
    std::fs::create_dir_all(&dir)?;
    Ok(dir.join(format!("{what}-{}.svg", title.to_lowercase().replace(' ', "-"))))
}

fn replacement(title: &str, all: &[Measured]) -> Result<String> {
    let mut lines =
        vec![format!("{title}, {MEMORY} of memory: reads that the disk did not see, % (and us for a read)")];
    let heads: String = SIZES.iter().map(|size| format!("{:>18}", format!("{size} MiB"))).collect();
    lines.push(format!("{:<16}{heads}", "replacement"));
    let mut curves = Vec::new();
    for one in all {
        let mut line = format!("{:<16}", one.policy);
        let mut outcomes = Vec::new();
        for size in SIZES {
            let (permille, ns) = (one.median(&format!("hits {size}"))?, one.median(&format!("ns {size}"))?);
            line += &format!("{:>18}", format!("{:.1} ({:.1})", permille / 10.0, ns / 1e3));
            outcomes.push(Outcome { size, requests: 1000, hits: permille as u64 });
        }
        lines.push(line);
        curves.push((one.policy.as_str(), outcomes));
    }
    let file = chart("replacement", title)?;
    sim::cache::chart::draw(&file, &format!("{title}, {MEMORY} of memory"), "size of the file, MiB", &curves)
        .map_err(anyhow::Error::msg)?;
    lines.push(format!("chart: {}\n", file.display()));
    Ok(lines.join("\n"))
}

fn scheduling(title: &str, all: &[Measured]) -> Result<String> {
    let mut lines = vec![format!(
        "{title}, a disk of {IOPS} requests a second: two scattered readers, a stream, a writer"
    )];
    let columns = ["MiB/s read", "MiB/s written", "p50 ms", "p90 ms", "p99 ms", "max ms"];
    let heads: String = columns.iter().map(|column| format!("{column:>15}")).collect();
    lines.push(format!("{:<16}{heads}", "scheduler"));
    let mut curves = Vec::new();
    for one in all {
        let rate = |key: &str| Ok::<f64, anyhow::Error>(one.median(key)? / 1024.0 / SECONDS);
        let ms = |percent: u32| Ok::<f64, anyhow::Error>(one.median(&format!("latency {percent}"))? / 1e6);
        let cells = [rate("stream")?, rate("write")?, ms(50)?, ms(90)?, ms(99)?, ms(100)?];
        let cells: String = cells.iter().map(|cell| format!("{cell:>15.2}")).collect();
        lines.push(format!("{:<16}{cells}", one.policy));
        let percents = (5..=95).step_by(5).chain([99, 100]);
        let points: Result<Vec<_>> = percents.map(|percent| Ok((ms(percent)?, f64::from(percent)))).collect();
        curves.push((one.policy.as_str(), points?));
    }
    let file = chart("schedulers", title)?;
    let caption = format!("{title}: scattered reads beside a stream and a writer, {IOPS} requests/s");
    sim::io::chart::draw(&file, &caption, &curves).map_err(anyhow::Error::msg)?;
    lines.push(format!("chart: {}\n", file.display()));
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_put_together() {
        let mut all = Vec::new();
        take(&mut all, "policy a\n32 900 5000\nstream 7\npolicy b\nlatency 50 100\n");
        take(&mut all, "policy a\n32 800 7000\n");
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].median("hits 32").ok(), Some(850.0));
        assert_eq!(all[0].median("ns 32").ok(), Some(6000.0));
        assert_eq!(all[0].median("stream").ok(), Some(7.0));
        assert_eq!(all[1].median("latency 50").ok(), Some(100.0));
        assert!(all[1].median("stream").is_err());
    }
}
