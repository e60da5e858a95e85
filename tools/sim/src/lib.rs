//! The kernel's policies without a kernel: scheduling under a virtual clock, page replacement on traces.
//!
//! **Problem.** How does a policy treat four hogs and a hundred sleepers on 64 CPUs? On a real machine
//! that takes the machine, minutes, and luck with noise.
//!
//! **Interface.** [`main`], the `sim` command (`sim sched --help` tells all). The parts are public for
//! tests and for other tools: [`workload::parse`] reads a description of tasks, [`engine::Machine`] runs it.
//!
//! **Idea.** A discrete-event simulation of machines of 1 to 4096 CPUs over the very crates that the
//! kernel uses: `sched-queue` with the policies, and `sched-balance`. Switches and wake-ups cost nothing
//! and the clock jumps from event to event, so what is measured is what the policy decides, and a seed
//! repeats a run exactly.
#![forbid(unsafe_code)]

pub mod cache;
pub mod engine;
pub mod io;
mod options;
mod report;
mod rng;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod workload;

use options::{Options, Request};

/// The policies that can be simulated.
pub const POLICIES: [sched_api::PolicyInfo; 2] = [sched_cfs::INFO, sched_eevdf::INFO];

const HELP: &str = "\
Policies of the kernel under a virtual clock.

Usage: sim sched [options]     how a scheduling policy treats a described workload
       sim sched --help        the options and the workload language, with examples
       sim cache [options]     hit ratios of page-replacement policies on a recorded trace
       sim cache --help        the options, with examples
       sim io [options]        what I/O schedulers make of programs on a modelled disk
       sim io --help           the same for these
";

/// Runs `sim` with its arguments (without the program's name); answers the exit status: 0, or 2 for a
/// wrong command line.
pub fn main(args: &[String]) -> i32 {
    match args.split_first() {
        Some((command, rest)) if command == "sched" => sched(rest),
        Some((command, rest)) if command == "cache" => cache::main(rest),
        Some((command, rest)) if command == "io" => match io::main(rest) {
            Ok(text) => {
                print!("{text}");
                0
            }
            Err(problem) => complain(&problem),
        },
        Some((flag, _)) if flag == "--help" || flag == "-h" => {
            print!("{HELP}");
            0
        }
        Some((other, _)) => complain(&format!("no command '{other}'; see sim --help")),
        None => {
            eprint!("{HELP}");
            2
        }
    }
}

fn sched(args: &[String]) -> i32 {
    match options::parse(args) {
        Ok(Request::Help) => {
            print!("{}", options::HELP);
            0
        }
        Ok(Request::Run(options)) => {
            print!("{}", run(&options));
            0
        }
        Err(problem) => complain(&problem),
    }
}

pub(crate) fn complain(problem: &str) -> i32 {
    eprintln!("sim: {problem}");
    2
}

/// One report per policy.
fn run(options: &Options) -> String {
    let mut out = String::new();
    for policy in &options.policies {
        let mut machine = engine::Machine::new(policy, options.cpus, options.seed, &options.knobs);
        machine.start(&options.groups);
        machine.run_until(options.warmup_ns, options.swap_every_ns);
        machine.reset_measurements();
        machine.run_until(options.warmup_ns + options.time_ns, options.swap_every_ns);
        report::write(&mut out, &machine, policy.name, options);
    }
    out
}
