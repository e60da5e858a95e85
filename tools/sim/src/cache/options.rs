//! The command line of `sim cache`.

use super::POLICIES;
use reclaim_api::PolicyInfo;
use std::path::PathBuf;

pub const HELP: &str = "\
Hit ratios of page-replacement policies on a recorded trace. The policies are the kernel's own crates.

Usage: sim cache --trace FILE [options]

  --trace FILE     requests, one a line: first_block number_of_blocks ignored request_number;
                   plain or gzip. OLTP.lis and P3.lis are the ARC paper's
  --policy NAMES   two-list, arc, car, 2q, clock, s3fifo, sieve, mglru, lru, fifo, several separated
                   by commas, or all   [default: two-list]
  --size SIZES     pages, several separated by commas   [default: 1000; with all: 500 to 32000]
  --chart FILE     where to draw the curves, as SVG
                   [default: hit-ratio-TRACE.svg with --policy all, else none]
  --help           this text

Examples:
  sim cache --trace OLTP.lis.gz --policy arc --size 1000
  sim cache --trace P3.lis.gz --policy all --size 4096,8192,16384,32768
";

/// What was asked for.
#[derive(Debug)]
pub enum Request {
    Help,
    Run(Options),
}

/// A comparison to make.
#[derive(Debug)]
pub struct Options {
    pub trace: PathBuf,
    pub policies: Vec<PolicyInfo>,
    pub sizes: Vec<usize>,
    pub chart: Option<PathBuf>,
}

/// Reads the arguments after `sim cache`.
pub fn parse(args: &[String]) -> Result<Request, String> {
    let (mut trace, mut policies, mut sizes, mut chart) = (None, vec![POLICIES[0]], Vec::new(), None);
    let mut all = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(Request::Help);
        }
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (arg.as_str(), None),
        };
        if !["--trace", "--policy", "--size", "--chart"].contains(&name) {
            return Err(format!("no option '{name}'; see sim cache --help"));
        }
        let value = inline.or_else(|| args.next().cloned()).ok_or(format!("{name} needs a value"))?;
        match name {
            "--trace" => trace = Some(PathBuf::from(value)),
            "--policy" => {
                all = value == "all";
                policies = names(&value)?;
            }
            "--size" => sizes = value.split(',').map(size).collect::<Result<_, _>>()?,
            _ => chart = Some(PathBuf::from(value)),
        }
    }
    let trace: PathBuf = trace.ok_or("--trace is missing; see sim cache --help")?;
    if sizes.is_empty() {
        sizes = if all { vec![500, 1000, 2000, 4000, 8000, 16_000, 32_000] } else { vec![1000] };
    }
    sizes.sort_unstable();
    if all && chart.is_none() {
        let stem = trace.file_name().unwrap_or_default().to_string_lossy();
        chart = Some(PathBuf::from(format!("hit-ratio-{}.svg", stem.split('.').next().unwrap_or("trace"))));
    }
    Ok(Request::Run(Options { trace, policies, sizes, chart }))
}

fn names(value: &str) -> Result<Vec<PolicyInfo>, String> {
    if value == "all" {
        return Ok(POLICIES.to_vec());
    }
    value.split(',').map(policy).collect()
}

fn policy(name: &str) -> Result<PolicyInfo, String> {
    let found = POLICIES.into_iter().find(|info| info.name == name);
    found.ok_or(format!("no policy '{name}' ({})", POLICIES.map(|info| info.name).join(", ")))
}

fn size(value: &str) -> Result<usize, String> {
    let number = value.replace('_', "").parse().ok().filter(|size| (1..=1 << 28).contains(size));
    number.ok_or(format!("'{value}' is not a number of pages"))
}
