//! What a kernel costs its programs, item by item: the same static binary runs on Ochre and on Linux.
//!
//! `bench [--ms N] [--count N] [--list] [NAME...]` prints one line an item, `NAME NANOSECONDS` for one operation
//! (`pipe_bandwidth` and `cache_read` are per KiB). Each item doubles its repetitions until a run takes
//! a tenth of N milliseconds (default 20), repeats that for three times N, and reports the best run:
//! interference only makes a run longer. With QEMU's `-icount shift=0` a nanosecond is an instruction. With `--count` an item
//! runs once and just so often, for a profiler, or to compare what two kernels cost the emulator's host.
//! `bench --disk DIR [NAME...]` measures the file system of DIR instead; `bench --reclaim DIR MIB...` and `bench --io DIR` measure
//! what the chosen policies make of it.

#![no_std]
#![no_main]

extern crate alloc;

mod calls;
mod disk;
mod files;
mod memory;
mod policies;
mod tasks;

use alloc::vec::Vec;
use core::ops::Range;
use rt::{env, eprintln, println, time};

/// An item: makes what it needs, runs the operation `n` times, answers the time of those alone in ns.
pub type Item = fn(n: u64) -> rt::Result<u64>;

/// Times `operation`, repeated `n` times.
pub fn timed(n: u64, mut operation: impl FnMut() -> rt::Result<()>) -> rt::Result<u64> {
    let start = time::now_ns();
    for _ in 0..n {
        operation()?;
    }
    Ok(time::now_ns() - start)
}

const ITEMS: &[(&str, Item)] = &[
    ("null_syscall", calls::null),
    ("read_1", calls::read_1),
    ("write_1", calls::write_1),
    ("stat", files::stat),
    ("open_close", files::open_close),
    ("path_8", files::path_8),
    ("readdir", files::readdir),
    ("create_delete", files::create_delete),
    ("cache_read", files::cache_read),
    ("poll_100", calls::poll_100),
    ("select_100", calls::select_100),
    ("signal_install", calls::signal_install),
    ("signal_catch", calls::signal_catch),
    ("eventfd", calls::eventfd),
    ("pipe", tasks::pipe),
    ("pipe_bandwidth", tasks::pipe_bandwidth),
    ("futex_ping_pong", tasks::futex_ping_pong),
    ("switch_2", tasks::switch_2),
    ("switch_16", tasks::switch_16),
    ("thread", tasks::thread),
    ("fork_exit", tasks::fork_exit),
    ("fork_exec", tasks::fork_exec),
    ("sh_c", tasks::shell),
    ("mmap_munmap", memory::map_unmap),
    ("fault_anonymous", memory::fault_anonymous),
    ("fault_file", memory::fault_file),
    ("fault_cow", memory::fault_cow),
    ("fault_protection", memory::fault_protection),
    ("nanosleep_overshoot", calls::sleep_overshoot),
];

/// The best of many short runs, per operation; `floor_ns` is a third of what all of them take together.
///
/// A host that has other work takes the processor away for milliseconds at a time: of many short runs some fit in
/// between, of a few long ones none.
fn measure(item: Item, floor_ns: u64) -> rt::Result<u64> {
    const RUNS: Range<u64> = 3..64;
    let mut n = 1;
    let mut total_ns = item(n)?;
    while total_ns < floor_ns / 10 && n < 1 << 24 {
        n *= 2;
        total_ns = item(n)?;
    }
    let (mut best_ns, mut spent_ns, mut runs) = (total_ns, total_ns, 1);
    while runs < RUNS.start || (spent_ns < 3 * floor_ns && runs < RUNS.end) {
        let run_ns = item(n)?;
        best_ns = best_ns.min(run_ns);
        spent_ns += run_ns;
        runs += 1;
    }
    Ok(best_ns / n)
}

/// The child of `fork_exec` and the like: this program again, with one argument that ends it at once.
pub const CHILD: &str = "--exit";

fn main() -> i32 {
    let mut floor_ns = 20_000_000;
    let mut count = None;
    let mut chosen = 0;
    let mut failed = 0;
    let mut at = 1;
    while let Some(arg) = env::arg(at) {
        at += 1;
        match arg {
            CHILD => return 0,
            "--list" => {
                ITEMS.iter().for_each(|(name, _)| println!("{name}"));
                return 0;
            }
            "--disk" => {
                let names: Vec<&str> = (at + 1..).map_while(env::arg).collect();
                return i32::from(disk::run(env::arg(at).unwrap_or("/mnt"), &names) > 0);
            }
            "--reclaim" => {
                let sizes = (at + 1..).map_while(env::arg);
                return policies::reclaim(env::arg(at).unwrap_or("/mnt"), sizes);
            }
            "--io" => return policies::io(env::arg(at).unwrap_or("/mnt")),
            "--count" => {
                count = env::arg(at).and_then(|v| v.parse().ok());
                at += 1;
            }
            "--ms" => {
                floor_ns = env::arg(at).and_then(|v| v.parse().ok()).unwrap_or(20) * 1_000_000;
                at += 1;
            }
            name => match ITEMS.iter().find(|(known, _)| *known == name) {
                Some(&(name, item)) => {
                    chosen += 1;
                    failed += report(name, item, floor_ns, count);
                }
                None => {
                    eprintln!("bench: no item {name}; --list shows them");
                    return 2;
                }
            },
        }
    }
    if chosen == 0 {
        failed = ITEMS.iter().map(|&(name, item)| report(name, item, floor_ns, count)).sum();
    }
    i32::from(failed > 0)
}

/// Measures and prints one item; 1 when it failed.
fn report(name: &str, item: Item, floor_ns: u64, count: Option<u64>) -> u32 {
    let result = match count {
        Some(count) => item(count).map(|total_ns| total_ns / count.max(1)),
        None => measure(item, floor_ns),
    };
    match result {
        Ok(ns) => println!("{name} {ns}"),
        Err(errno) => {
            eprintln!("bench: {name}: {errno:?}");
            return 1;
        }
    }
    0
}

rt::entry!(main);
