//! `fuzz run [--seed N] [--calls N] [--workers N] [--threads N] [--root] [--print] [--stats]`: random system calls;
//! `fuzz exec [--seed N] [--calls N]`: broken programs (see `programs`);
//! `fuzz storm [--seed N] [--calls N] [--workers N] [--threads N]`: sensible things all at once (see `storm`).
//!
//! Problem: nothing that a program asks for may panic a kernel, hang it, or leave a process that cannot be killed.
//! Interface: exit status 0 when the calls were made and every worker could be ended, 1 when one could not. The last
//! line has the seed; the same seed makes the same calls (the order between workers is the scheduler's). The kernel
//! does its part by panicking where its checks fail.
//!
//! Idea: workers make calls from a table of what each argument is (`calls`), with values that are mostly sensible
//! (`kinds`). They break themselves all the time, so this supervisor starts them anew with the next seed, and kills
//! one that makes no progress. Workers are nobody, unless `--root` says otherwise: that is for a machine made for
//! the purpose.
#![no_std]
#![no_main]

extern crate alloc;

mod arena;
mod board;
mod calls;
mod kinds;
mod names;
mod programs;
mod rng;
mod storm;
mod worker;

use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use board::Board;
use core::ffi::CStr;
use core::sync::atomic::Ordering::Relaxed;
use rng::Rng;
use rt::nr::*;
use rt::process::{self, Pid};
use rt::{env, fs, io, println, signal, syscall, time};

const LOOK_NS: u64 = 10_000_000;
/// Without a call for so long a worker is replaced: something blocks it that the timer does not end.
const STALL_NS: u64 = 500_000_000;
/// A killed process that is still there after this is a hang of the kernel.
const DEATH_NS: u64 = 60_000_000_000;
const REPORT_CALLS: u64 = 100_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Calls,
    Programs,
    Storm,
}

struct Options {
    mode: Mode,
    seed: u64,
    calls: u64,
    workers: usize,
    threads: usize,
    root: bool,
    print: bool,
    stats: bool,
}

fn options() -> Option<Options> {
    let mut options = Options {
        mode: Mode::Calls,
        seed: 1,
        calls: 20_000,
        workers: 3,
        threads: 2,
        root: false,
        print: false,
        stats: false,
    };
    options.mode = match env::arg(1)? {
        "run" => Mode::Calls,
        "exec" => Mode::Programs,
        "storm" => Mode::Storm,
        _ => return None,
    };
    let mut at = 2;
    while let Some(word) = env::arg(at) {
        let number = || env::arg(at + 1)?.parse::<u64>().ok();
        match word {
            "--seed" => options.seed = number()?,
            "--calls" => options.calls = number()?,
            "--workers" => options.workers = number()?.clamp(1, 16) as usize,
            "--threads" => options.threads = number()?.clamp(1, 4) as usize,
            "--root" => options.root = true,
            "--print" => options.print = true,
            "--stats" => options.stats = true,
            _ => return None,
        }
        at += 1 + usize::from(matches!(word, "--seed" | "--calls" | "--workers" | "--threads"));
    }
    Some(options)
}

/// A place that a worker fills.
struct Seat {
    pid: Option<Pid>,
    seen: u64,
    since_ns: u64,
    killed: bool,
}

struct Run<'a> {
    options: &'a Options,
    board: &'static Board,
    seats: Vec<Seat>,
    dir: CString,
    seeds: Rng,
    starts: u64,
    kills: u64,
}

impl Run<'_> {
    fn progress_of(&self, seat: usize) -> u64 {
        let first = seat * self.options.threads;
        self.board.lanes[first..first + self.options.threads].iter().map(|l| l.begun.load(Relaxed)).sum()
    }

    fn start(&mut self, seat: usize) -> rt::Result<()> {
        let seed = self.seeds.word();
        let path = format!("{}/{seat}", self.dir.to_str().unwrap_or("."));
        let path = CString::new(path).unwrap_or_default();
        let plan = worker::Plan {
            threads: self.options.threads,
            root: self.options.root,
            lane: seat * self.options.threads,
            print: self.options.print,
        };
        let pid = process::fork()?;
        let Some(pid) = pid else {
            let _ = fs::mkdir(&path, 0o777);
            let _ = fs::chmod(&path, 0o777);
            if fs::chdir(&path).is_err() {
                process::exit(100);
            }
            worker::run(self.board, plan, seed)
        };
        self.starts += 1;
        self.seats[seat] =
            Seat { pid: Some(pid), seen: self.progress_of(seat), since_ns: time::now_ns(), killed: false };
        Ok(())
    }

    /// Takes in everybody who has ended: workers, and what they left behind.
    fn reap(&mut self) {
        while let Ok(Some((pid, _))) = process::wait(-1, WNOHANG) {
            for seat in &mut self.seats {
                if seat.pid == Some(pid) {
                    seat.pid = None;
                }
            }
        }
    }

    /// Ends workers that do not get on. False: one cannot be ended.
    fn look(&mut self) -> bool {
        for at in 0..self.seats.len() {
            let now = time::now_ns();
            let progress = self.progress_of(at);
            let seat = &mut self.seats[at];
            let Some(pid) = seat.pid else { continue };
            if progress != seat.seen && !seat.killed {
                (seat.seen, seat.since_ns) = (progress, now);
            } else if seat.killed && now.saturating_sub(seat.since_ns) > DEATH_NS {
                self.report_hang(at, pid);
                return false;
            } else if !seat.killed && now.saturating_sub(seat.since_ns) > STALL_NS {
                (seat.killed, seat.since_ns) = (true, now);
                self.kills += 1;
                let _ = process::kill(pid, SIGKILL);
            }
        }
        true
    }

    fn report_hang(&self, seat: usize, pid: Pid) {
        println!("fuzz: process {pid} was killed and does not end; its threads' last calls:");
        let first = seat * self.options.threads;
        for lane in &self.board.lanes[first..first + self.options.threads] {
            let call = calls::get(lane.call.load(Relaxed) as usize);
            let args: Vec<u64> = lane.args.iter().map(|arg| arg.load(Relaxed)).collect();
            println!("  {} {args:x?}", calls::short(call));
        }
    }

    /// The whole run; whether everything that was started could be ended.
    fn go(&mut self) -> rt::Result<bool> {
        let mut reported = 0;
        loop {
            for seat in 0..self.seats.len() {
                if self.seats[seat].pid.is_none() {
                    self.start(seat)?;
                }
            }
            time::sleep_ns(LOOK_NS);
            self.reap();
            let total = self.board.total();
            if total / REPORT_CALLS > reported {
                reported = total / REPORT_CALLS;
                println!("fuzz: {total} calls, {} starts, {} kills", self.starts, self.kills);
            }
            if !self.look() {
                return Ok(false);
            }
            if total >= self.options.calls {
                return Ok(self.end());
            }
        }
    }

    fn end(&mut self) -> bool {
        let begun_ns = time::now_ns();
        loop {
            let left = own_children();
            let workers = self.seats.iter().filter_map(|seat| seat.pid);
            for pid in workers.chain(left.iter().flatten().copied()) {
                let _ = process::kill(-pid, SIGKILL);
                let _ = process::kill(pid, SIGKILL);
            }
            self.reap();
            if process::wait(-1, WNOHANG).is_err() {
                return true; // ECHILD: nobody is left
            }
            let waited_ns = time::now_ns().saturating_sub(begun_ns);
            if left.is_none() && waited_ns > STALL_NS {
                return self.seats.iter().all(|seat| seat.pid.is_none());
            }
            if waited_ns > DEATH_NS {
                println!("fuzz: processes do not end: {left:?}");
                return false;
            }
            time::sleep_ns(LOOK_NS);
        }
    }
}

/// The processes whose parent is this one; `None` without /proc, and then those that left their worker's group stay.
fn own_children() -> Option<Vec<Pid>> {
    let me = process::getpid();
    fs::stat(c"/proc/self/stat").ok()?;
    let names = fs::open(c"/proc", O_RDONLY | O_DIRECTORY, 0).and_then(|dir| {
        let names = fs::list(dir);
        let _ = io::close(dir);
        names
    });
    let pids =
        names.unwrap_or_default().into_iter().filter_map(|name| str::from_utf8(&name).ok()?.parse().ok());
    Some(pids.filter(|&pid| parent_of(pid) == Some(me)).collect())
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let path = CString::new(format!("/proc/{pid}/stat")).ok()?;
    let stat = fs::read_file(&path).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Removes what a directory holds, and the directory.
fn remove_tree(path: &CStr) {
    let _ = fs::chmod(path, 0o777);
    let names = fs::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0).and_then(|dir| {
        let names = fs::list(dir);
        let _ = io::close(dir);
        names
    });
    for name in names.unwrap_or_default() {
        if name == b"." || name == b".." {
            continue;
        }
        let mut inner = Vec::from(path.to_bytes());
        inner.push(b'/');
        inner.extend_from_slice(&name);
        let inner = CString::new(inner).unwrap_or_default();
        let is_dir = fs::lstat(&inner).is_ok_and(|stat| stat.st_mode & S_IFMT == S_IFDIR);
        if is_dir {
            remove_tree(&inner);
        } else {
            let _ = fs::unlink(&inner);
        }
    }
    let _ = fs::rmdir(path);
}

fn statistics(board: &Board) {
    for index in 0..calls::COUNT {
        let [made, good] = [&board.made, &board.succeeded].map(|list| list[index].load(Relaxed));
        println!("{:>24} {made:>8} made {good:>8} without error", calls::short(calls::get(index)));
    }
}

fn fuzz(options: &Options) -> rt::Result<bool> {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    // SAFETY: 1. the option takes a number.
    unsafe { syscall!(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }?;
    // Workers that are root send signals far and wide, by owners of descriptors and the like; each has its own handlers.
    for signal in (1..=64).filter(|signal| *signal != SIGCHLD) {
        let _ = signal::set_action(signal, signal::Action::Ignore, 0, 0);
    }
    let dir = CString::new(format!("/tmp/fuzz.{}", process::getpid())).unwrap_or_default();
    let _ = fs::mkdir(c"/tmp", 0o1777);
    fs::mkdir(&dir, 0o777)?;
    fs::chmod(&dir, 0o777)?;
    let seat = || Seat { pid: None, seen: 0, since_ns: 0, killed: false };
    let mut run = Run {
        options,
        board: board::new()?,
        seats: (0..options.workers).map(|_| seat()).collect(),
        dir,
        seeds: Rng::new(options.seed),
        starts: 0,
        kills: 0,
    };
    let ended = run.go()?;
    remove_tree(&run.dir);
    if options.stats {
        statistics(run.board);
    }
    let good = run.board.succeeded.iter().filter(|count| count.load(Relaxed) > 0).count();
    println!(
        "fuzz: seed {}: {} calls, {} starts, {} kills, {good} of {} kinds of call succeeded",
        options.seed,
        run.board.total(),
        run.starts,
        run.kills,
        calls::COUNT
    );
    Ok(ended)
}

fn main() -> i32 {
    // A worker's child may have executed this program.
    if env::arg(1) == Some("noop") {
        return 0;
    }
    let Some(options) = options() else {
        println!(
            "usage: fuzz run [--seed N] [--calls N] [--workers N] [--threads N] [--root] [--print] [--stats]\n       \
             fuzz exec [--seed N] [--calls N]\n       \
             fuzz storm [--seed N] [--calls N] [--workers N] [--threads N]"
        );
        return 2;
    };
    let outcome = match options.mode {
        Mode::Calls => fuzz(&options),
        Mode::Programs => programs::fuzz(options.seed, options.calls),
        Mode::Storm => storm::run(options.seed, options.calls, options.workers, options.threads),
    };
    match outcome {
        Ok(ended) => i32::from(!ended),
        Err(e) => {
            println!("fuzz: {e:?}");
            1
        }
    }
}

rt::entry!(main);
