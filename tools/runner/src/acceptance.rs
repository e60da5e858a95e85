//! `acceptance`: real programs, unmodified, with scripts of what they must print.
//!
//! Problem: a kernel that passes its own checks may still fail the programs that people run.
//!
//! Interface: [`run`]. A script is a file `tools/runner/acceptance/NAME.sh` for bash; `NAME.out` is what it must print, to the
//! byte, with status 0. A line `# Packages: NAME ...` says what it needs of Debian's.
//!
//! Idea: one image with the packages of all chosen scripts, fresh for every run of this command (what is written is
//! forgotten), and one boot of it. At the end the system calls that programs asked for in vain are named.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::cli::AcceptanceArgs;
use crate::guest::{Finished, Guest};
use crate::machine::{Machine, Root};
use crate::{image, places, symbols, testing};

/// For one script, under emulation on a loaded host.
const LIMIT: Duration = Duration::from_secs(3600);

/// A script and what it must print.
struct Script {
    name: String,
    text: String,
    expected: String,
    packages: Vec<String>,
}

/// Runs the chosen scripts on the chosen architectures; answers 0 when all printed what they must, else 1.
pub fn run(args: &AcceptanceArgs) -> Result<i32> {
    let scripts = scripts(&args.only)?;
    let mut failed = 0;
    for arch in args.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]) {
        failed += run_on(arch, args, &scripts)?;
    }
    Ok(i32::from(failed > 0))
}

fn scripts(only: &[String]) -> Result<Vec<Script>> {
    let dir = places::root().join("tools/runner/acceptance");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sh"));
    files.sort();
    let scripts = files.into_iter().map(script).collect::<Result<Vec<_>>>()?;
    if let Some(unknown) = only.iter().find(|name| !scripts.iter().any(|script| script.name == **name)) {
        let names: Vec<&str> = scripts.iter().map(|script| script.name.as_str()).collect();
        bail!("there is no script {unknown}; there are: {}", names.join(" "));
    }
    Ok(scripts.into_iter().filter(|script| only.is_empty() || only.contains(&script.name)).collect())
}

fn script(file: PathBuf) -> Result<Script> {
    let read =
        |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let text = read(&file)?;
    let packages = text.lines().filter_map(|line| line.strip_prefix("# Packages:"));
    Ok(Script {
        name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        packages: packages.flat_map(str::split_whitespace).map(str::to_owned).collect(),
        expected: read(&file.with_extension("out"))?,
        text,
    })
}

/// Answers the number of scripts that failed.
fn run_on(arch: Arch, args: &AcceptanceArgs, scripts: &[Script]) -> Result<usize> {
    let mut packages: Vec<String> = scripts.iter().flat_map(|script| script.packages.clone()).collect();
    packages.sort();
    packages.dedup();
    let machine = Machine {
        root: Root::Image(image::fresh(arch, &packages)?),
        snapshot: true,
        mem: "1G".into(),
        debug: args.debug,
        kernel: args.kernel.clone(),
        append: vec!["oops=panic".into()],
        ..Machine::new(arch)
    };
    let mut guest = Guest::start(&machine, &wire::Command::default())?;
    let mut failed = 0;
    for script in scripts {
        let begin = Instant::now();
        let result = guest.run(&testing::command(&["bash", "-c", &script.text]), Vec::new(), LIMIT);
        let finished = result.with_context(|| {
            let console = symbols::annotate(guest.kernel(), &guest.last_words(40));
            format!("{arch}: {}\n{console}", script.name)
        })?;
        let is_good = finished.code == 0 && finished.out == script.expected;
        let word = if is_good { "ok" } else { "FAIL" };
        println!("{word} {arch} {} ({:.1} s)", script.name, begin.elapsed().as_secs_f64());
        if !is_good {
            failed += 1;
            print!("{}", difference(script, &finished));
        }
    }
    let asked = guest.run(&testing::command(&["cat", "/proc/ochre/enosys"]), Vec::new(), LIMIT)?;
    if !asked.out.is_empty() {
        println!("{arch}: system calls that do not exist (times, number, name):\n{}", asked.out.trim_end());
    }
    guest.power_off();
    Ok(failed)
}

/// The first line that is not as it must be, the status, and what went to stderr.
fn difference(script: &Script, finished: &Finished) -> String {
    let mut lines = script.expected.lines();
    let mut got = finished.out.lines();
    let mut text = String::new();
    for number in 1.. {
        match (lines.next(), got.next()) {
            (None, None) => break,
            (wanted, is) if wanted == is => {}
            (wanted, is) => {
                let show = |line: Option<&str>| line.map_or("nothing".to_owned(), |line| format!("{line:?}"));
                text = format!("  line {number}: {} instead of {}\n", show(is), show(wanted));
                break;
            }
        }
    }
    text + &format!("  status {}\n{}\n", finished.code, finished.err.trim_end())
}
