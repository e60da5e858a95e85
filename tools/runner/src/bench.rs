//! `bench`: what the kernel costs its programs, beside Linux in the same machine.
//!
//! Idea: the program `bench` in the initramfs does the measuring, the same binary on both kernels. Rounds alternate, a
//! new boot each, so that what else the host does meets both; the table has medians. Linux runs with its expensive
//! safety options switched off: the harder opponent. With `--icount` the guest's clock counts instructions, which is
//! exact but chaotic, so every round gets another seed. With `--disk` the program measures files on a disk ([`disk`]), with
//! `--policies` what each of the kernel's policies makes of it ([`policies`]).

mod disk;
mod policies;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSegment};

use crate::arch::Arch;
use crate::cli::BenchArgs;
use crate::guest::Guest;
use crate::machine::{Accel, Machine};
use crate::tree::Tree;
use crate::{cargo, places, progress, setup, testing};

const LIMIT: Duration = Duration::from_secs(1800);

/// Linux without what it does for safety's sake only.
const LINUX_TUNED: &str = "mitigations=off init_on_alloc=0 apparmor=0 audit=0 selinux=0 \
                           randomize_kstack_offset=off hardened_usercopy=off";

/// Boot time is measured on the host, so under `--icount` too it is time.
const BOOT: &str = "boot (ms)";
const MEMORY: &str = "memory used (KiB)";
const IMAGE: &str = "kernel image (KiB)";

/// Where modules lie in the initramfs of a kernel that needs them.
const MODULES: &str = "lib/bench-modules";

/// The values of each item, one a round, by name.
type Values = BTreeMap<String, Vec<f64>>;

/// Measures on one or all architectures and prints a table for each.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.policies {
        return policies::run(args);
    }
    for arch in args.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]) {
        let image = if args.disk { Some(disk::image_with_programs(arch)?) } else { None };
        let mut systems = vec![("Ochre", machine(args, arch, None), Values::new())];
        if args.against.is_some() {
            systems.push(("Linux", machine(args, arch, Some("linux")), Values::new()));
        }
        let mut order = Vec::new();
        for round in 1..=args.rounds {
            for (name, machine, values) in &mut systems {
                progress::step("Measuring", format!("{name} on {arch}, round {round} of {}", args.rounds));
                measure(args, machine, round, image.as_deref(), values, &mut order)
                    .with_context(|| format!("{name} on {arch}"))?;
            }
        }
        let columns: Vec<_> = systems.iter().map(|(name, _, values)| (*name, values)).collect();
        println!("{}\n", table(args, arch, &order, &columns));
        if args.build_time {
            println!("clean kernel build: {:.1} s\n", clean_build(arch)?.as_secs_f64());
        }
    }
    Ok(())
}

fn machine(args: &BenchArgs, arch: Arch, kernel: Option<&str>) -> Machine {
    let mut append = vec!["quiet".to_owned()];
    if kernel.is_some() {
        append.push(LINUX_TUNED.to_owned());
        if args.icount && arch == Arch::X86_64 {
            append.push("tsc_early_khz=1000000".to_owned()); // it cannot calibrate against a clock that counts
        }
    }
    Machine {
        smp: if args.icount { 1 } else { args.smp },
        mem: args.mem.clone(),
        accel: Accel::Tcg,
        append,
        kernel: kernel.map(Into::into),
        ..Machine::new(arch)
    }
}

/// One boot and one pass over all items.
fn measure(
    args: &BenchArgs,
    machine: &mut Machine,
    round: u32,
    disk: Option<&Path>,
    values: &mut Values,
    order: &mut Vec<String>,
) -> Result<()> {
    machine.qemu = args.icount.then(|| format!("-icount shift=0,sleep=off -seed {round}"));
    let mut files = Tree::default();
    let mut what = format!("bench {}", args.only.join(" "));
    if let Some(image) = disk {
        machine.qemu = Some(disk::attach(image, machine, "")?);
        what = disk::script(&format!("bench --disk /mnt {}", args.only.join(" ")));
        if machine.kernel.is_some() {
            disk::add_modules(machine.arch, &mut files)?;
        }
    }
    // Linux goes on starting for a while after its first program; waiting costs nothing when instructions are counted.
    let pause_s = if args.icount { 3 } else { 1 };
    let script = format!(
        "sleep {pause_s}; sed -n 's/^MemAvailable: *\\([0-9]*\\).*/{MEMORY_MARK} \\1/p' /proc/meminfo; {what}"
    );
    // The program comes with the initramfs and nothing is sent later: input would arrive at random moments.
    let command = wire::Command { once: true, input: false, ..testing::command(&["sh", "-c", &script]) };
    let mut guest = Guest::start_with(machine, &command, files)?;
    let finished = guest.collect(LIMIT)?;
    let boot = guest.boot_time().unwrap_or_default();
    let image = image_bytes(guest.kernel())?;
    guest.wait_for_end();
    if finished.code != 0 {
        eprint!("{}", finished.err);
    }
    let mut add = |name: &str, value: f64| {
        if !values.contains_key(name) && !order.iter().any(|known| known == name) {
            order.push(name.to_owned());
        }
        values.entry(name.to_owned()).or_default().push(value);
    };
    let items: Vec<(&str, f64)> = finished.out.lines().filter_map(parse_line).collect();
    if items.iter().all(|(name, _)| *name == MEMORY_MARK) {
        bail!("the program measured nothing:\n{}{}", finished.out, finished.err);
    }
    for (name, value) in items {
        match name {
            MEMORY_MARK => add(MEMORY, memory_kib(&machine.mem)? - value),
            name => add(name, value),
        }
    }
    add(BOOT, boot.as_secs_f64() * 1e3);
    add(IMAGE, image as f64 / 1024.0);
    Ok(())
}

/// How the script announces the free memory.
const MEMORY_MARK: &str = "available_kib";

fn parse_line(line: &str) -> Option<(&str, f64)> {
    let (name, value) = line.split_once(' ')?;
    Some((name, value.trim().parse().ok()?))
}

/// QEMU's way to write a memory size, in KiB.
fn memory_kib(text: &str) -> Result<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "M" | "m" => 1024.0,
        "G" | "g" => 1024.0 * 1024.0,
        "K" | "k" => 1.0,
        _ => bail!("{text} is no size of memory"),
    };
    Ok(number.parse::<f64>()? * factor)
}

/// What a loader puts into memory: an ELF file's segments, any other file whole.
fn image_bytes(kernel: &Path) -> Result<u64> {
    let content = std::fs::read(kernel)?;
    Ok(match object::File::parse(&*content) {
        Ok(elf) => elf.segments().map(|segment| segment.file_range().1).sum(),
        Err(_) => content.len() as u64,
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Medians by item; with two systems also how many times faster (smaller) the first is, and the mean of that.
fn table(args: &BenchArgs, arch: Arch, order: &[String], systems: &[(&str, &Values)]) -> String {
    let unit = if args.icount { "instructions" } else { "ns" };
    let mut lines = vec![format!("{arch}: {unit} per operation, median of {} rounds", args.rounds)];
    let heads: String = systems.iter().map(|(name, _)| format!("{name:>14}")).collect();
    lines.push(format!("{:<24}{heads}{}", "item", if systems.len() > 1 { "     ratio" } else { "" }));
    let mut logs = Vec::new();
    for item in order {
        let medians: Vec<_> = systems.iter().map(|(_, v)| v.get(item).map(|v| median(v))).collect();
        let cells: String =
            medians.iter().map(|m| m.map_or(format!("{:>14}", "-"), |m| format!("{m:>14.0}"))).collect();
        let mut line = format!("{item:<24}{cells}");
        if let [Some(ours), Some(theirs)] = medians[..] {
            let ratio = theirs / ours.max(0.5);
            line += &format!("{ratio:>9.2}x");
            if ![BOOT, MEMORY, IMAGE].contains(&item.as_str()) {
                logs.push(ratio.ln());
            }
        }
        lines.push(line);
    }
    if !logs.is_empty() {
        let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        lines.push(format!("geometric mean of {} ratios: {mean:.2}x", logs.len()));
    }
    lines.join("\n")
}

/// Builds the kernel in an empty directory.
fn clean_build(arch: Arch) -> Result<Duration> {
    let toolchain = setup::toolchain(arch)?;
    let dir = places::run_dir()?;
    progress::step("Building", format!("the kernel for {arch} from nothing"));
    let begin = Instant::now();
    cargo::kernel_in(&dir, arch, toolchain, false)?;
    Ok(begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn medians_and_ratios_are_right() {
        #[derive(Parser)]
        struct Wrapper {
            #[command(flatten)]
            args: BenchArgs,
        }
        let args = Wrapper::parse_from(["bench", "--rounds", "3"]).args;
        let values =
            |a: &[f64], b: &[f64]| Values::from([("a".to_owned(), a.to_vec()), ("b".to_owned(), b.to_vec())]);
        let (ours, theirs) = (values(&[1.0, 9.0, 2.0], &[10.0]), values(&[4.0], &[20.0, 60.0]));
        let order = ["a".to_owned(), "b".to_owned()];
        let table = table(&args, Arch::Riscv64, &order, &[("Ochre", &ours), ("Linux", &theirs)]);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[2], ["a", "2", "4", "2.00x"]);
        assert_eq!(rows[3], ["b", "10", "40", "4.00x"]);
        assert!(table.ends_with("2 ratios: 2.83x"));
    }

    #[test]
    fn sizes_are_read_as_qemu_reads_them() {
        assert_eq!(memory_kib("256M").ok(), Some(262144.0));
        assert_eq!(memory_kib("1G").ok(), Some(1048576.0));
        assert!(memory_kib("1X").is_err());
    }
}
