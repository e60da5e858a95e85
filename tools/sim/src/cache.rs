//! `sim cache`: page-replacement policies on recorded traces.

pub mod chart;
mod options;

use options::{Options, Request};
use reclaim_api::PolicyInfo;
use reclaim_harness::{Cache, trace};
use std::collections::HashSet;
use std::fmt::Write as _;

/// The policies, in the order of the table.
pub const POLICIES: [PolicyInfo; 10] = [
    reclaim_two_list::INFO,
    reclaim_arc::INFO,
    reclaim_car::INFO,
    reclaim_2q::INFO,
    reclaim_clock::INFO,
    reclaim_s3fifo::INFO,
    reclaim_sieve::INFO,
    reclaim_mglru::INFO,
    reclaim_lru::INFO,
    reclaim_fifo::INFO,
];

/// One policy with one size on one trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub size: usize,
    pub requests: u64,
    pub hits: u64,
}

impl Outcome {
    /// Hits in percent of requests.
    pub fn percent(&self) -> f64 {
        100.0 * self.hits as f64 / self.requests.max(1) as f64
    }
}

/// Runs the command with the arguments after `sim cache`; answers the exit status.
pub fn main(args: &[String]) -> i32 {
    let outcome = match options::parse(args) {
        Ok(Request::Help) => {
            print!("{}", options::HELP);
            return 0;
        }
        Ok(Request::Run(options)) => run(&options),
        Err(problem) => return crate::complain(&problem),
    };
    match outcome {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(problem) => {
            eprintln!("sim: {problem}");
            1
        }
    }
}

fn run(options: &Options) -> Result<String, String> {
    let path = &options.trace;
    let trace = trace::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let blocks: Vec<u64> = trace.collect();
    if blocks.is_empty() {
        return Err(format!("{}: no request; a line is 'first_block blocks ignored number'", path.display()));
    }
    let unique = blocks.iter().collect::<HashSet<_>>().len();
    let mut curves = Vec::new();
    for policy in &options.policies {
        let outcomes: Vec<Outcome> =
            options.sizes.iter().map(|size| simulate(policy, *size, &blocks)).collect();
        curves.push((policy.name, outcomes));
    }
    let mut text = String::new();
    if let [(_, outcomes)] = &curves[..]
        && let [one] = outcomes[..]
    {
        let _ = writeln!(
            text,
            "requests={} unique={unique} hits={} ratio={:.2}%",
            one.requests,
            one.hits,
            one.percent()
        );
        return Ok(text);
    }
    let _ = writeln!(text, "requests={} unique={unique}", blocks.len());
    write_table(&mut text, options, &curves);
    if let Some(file) = &options.chart {
        let title = path.file_stem().unwrap_or_default().to_string_lossy();
        chart::draw(file, &title, "cache size, pages", &curves)?;
        let _ = writeln!(text, "chart: {}", file.display());
    }
    Ok(text)
}

/// Replays the blocks.
pub fn simulate(policy: &PolicyInfo, size: usize, blocks: &[u64]) -> Outcome {
    let mut cache = Cache::new(policy, size);
    for block in blocks {
        cache.access(*block);
    }
    Outcome { size, requests: cache.requests, hits: cache.hits }
}

/// Hit ratios in percent: a line for each policy, a column for each size.
fn write_table(text: &mut String, options: &Options, curves: &[(&str, Vec<Outcome>)]) {
    let _ = write!(text, "{:<10}", "size");
    options.sizes.iter().for_each(|size| {
        let _ = write!(text, "{size:>9}");
    });
    text.push('\n');
    for (name, outcomes) in curves {
        let _ = write!(text, "{name:<10}");
        outcomes.iter().for_each(|one| {
            let _ = write!(text, "{:>9.2}", one.percent());
        });
        text.push('\n');
    }
}
