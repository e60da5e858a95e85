//! What Linux programs may rely on, checked from inside.
//!
//! `checks [--list] [GROUP[/NAME]...]` runs each check in a process of its own and prints one line:
//! `ok GROUP/NAME`, `FAIL GROUP/NAME: why`, or `skip GROUP/NAME: why` where what it needs was not given; the last line is `N passed, M failed`. Everything passes
//! on Linux first: a check states what Linux does. A check that dies or hangs is a failure and does not
//! stop the others. Their files are made below `CHECKS_TMP`, or else `/tmp`, and stay.

#![no_std]
#![no_main]

extern crate alloc;

mod attributes;
mod block;
mod caching;
mod direct;
mod errors;
mod events;
mod exec;
mod files;
mod futexes;
mod hogs;
mod inheritance;
mod lab;
mod locks;
mod memory;
mod mounting;
mod mqueue;
mod names;
mod namespaces;
mod overlay;
mod pipes;
mod polling;
mod pressure;
mod processes;
mod procfs;
mod procpid;
mod ptrace;
mod rseq;
mod scheduling;
mod signals;
mod sockets;
mod sysv;
mod terminals;
mod times;
mod trees;
mod waiting;
mod watches;

use alloc::format;
use alloc::string::String;
use rt::signal::{self, Action};
use rt::{Errno, env, nr, println, process, syscall};

/// Why a check failed.
pub struct Failure(pub String);

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure(format!("{errno:?}"))
    }
}

/// Text before the reason of a check that was not made.
const SKIP: &str = "skip: ";

/// The check cannot be made here: what it needs was not given.
pub fn skip(why: &str) -> Failure {
    Failure(format!("{SKIP}{why}"))
}

/// What a check answers.
pub type Outcome = Result<(), Failure>;

/// Fails the check with a text unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::Failure(alloc::format!($($text)*)));
        }
    };
}

/// Fails the check unless both are equal; shows both.
#[macro_export]
macro_rules! equal {
    ($got:expr, $wanted:expr) => {
        match (&$got, &$wanted) {
            (got, wanted) => {
                if *got != *wanted {
                    return Err($crate::Failure(alloc::format!(
                        "line {}: {:?}, not {:?}",
                        line!(),
                        got,
                        wanted
                    )));
                }
            }
        }
    };
}

type Check = (&'static str, fn() -> Outcome);

const GROUPS: &[(&str, &[Check])] = &[
    ("errors", errors::CHECKS),
    ("names", names::CHECKS),
    ("trees", trees::CHECKS),
    ("files", files::CHECKS),
    ("caching", caching::CHECKS),
    ("direct", direct::CHECKS),
    ("overlay", overlay::CHECKS),
    ("attributes", attributes::CHECKS),
    ("pipes", pipes::CHECKS),
    ("polling", polling::CHECKS),
    ("events", events::CHECKS),
    ("watches", watches::CHECKS),
    ("locks", locks::CHECKS),
    ("memory", memory::CHECKS),
    ("processes", processes::CHECKS),
    ("exec", exec::CHECKS),
    ("signals", signals::CHECKS),
    ("sockets", sockets::CHECKS),
    ("futexes", futexes::CHECKS),
    ("inheritance", inheritance::CHECKS),
    ("times", times::CHECKS),
    ("rseq", rseq::CHECKS),
    ("sysv", sysv::CHECKS),
    ("mqueue", mqueue::CHECKS),
    ("mounting", mounting::CHECKS),
    ("namespaces", namespaces::CHECKS),
    ("scheduling", scheduling::CHECKS),
    ("lab", lab::CHECKS),
    ("terminals", terminals::CHECKS),
    ("procfs", procfs::CHECKS),
    ("block", block::CHECKS),
    ("pressure", pressure::CHECKS),
    ("procpid", procpid::CHECKS),
    ("ptrace", ptrace::CHECKS),
];

/// Seconds after which a check counts as hung. Far more than any needs, also under emulation.
const LIMIT_S: u32 = 60;

/// Runs one check in a child; why it failed, if it did.
fn run(check: fn() -> Outcome) -> Result<(), String> {
    let (read, write) = rt::io::pipe(nr::O_CLOEXEC).map_err(|e| format!("pipe: {e:?}"))?;
    let child = process::fork().map_err(|e| format!("fork: {e:?}"))?;
    let Some(pid) = child else {
        let _ = rt::io::close(read);
        let _ = process::setpgid(0, 0);
        // SAFETY: 1. alarm as setitimer: the kernel reads one itimerval.
        let limit = [0u64, 0, u64::from(LIMIT_S), 0];
        let _ = unsafe { syscall!(nr::__NR_setitimer, 0, limit.as_ptr(), 0) };
        // Ignored signals are inherited: SIGINT by what a shell runs in the background, SIGHUP from nohup.
        for number in 1..=64 {
            let _ = signal::set_action(number, Action::Default, 0, 0); // two cannot be set, and are not ignored
        }
        let _ = signal::mask(nr::SIG_SETMASK, 0);
        let status = match check() {
            Ok(()) => 0,
            Err(Failure(text)) => {
                let _ = rt::io::write_all(write, text.as_bytes());
                1
            }
        };
        process::exit(status)
    };
    let _ = rt::io::close(write);
    let status = process::wait_exit(pid).map_err(|e| format!("wait: {e:?}"))?;
    // What the check left running goes with its group.
    let _ = process::kill(-(pid as i32) as _, nr::SIGKILL);
    let mut text = [0; 512];
    let len = rt::io::read_full(read, &mut text).unwrap_or(0);
    let _ = rt::io::close(read);
    match (status.exit_code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (_, Some(signal)) if signal == nr::SIGALRM as i32 => Err(format!("hung for {LIMIT_S} s")),
        (_, Some(signal)) => Err(format!("killed by signal {signal}")),
        _ => Err(String::from_utf8_lossy(&text[..len]).into_owned()),
    }
}

fn chosen(group: &str, name: &str) -> bool {
    let mut any = false;
    for at in 1.. {
        let Some(pattern) = env::arg(at) else { break };
        any = true;
        let whole_group = pattern == group;
        let one = pattern.split_once('/').is_some_and(|(g, n)| g == group && n == name);
        if whole_group || one {
            return true;
        }
    }
    !any
}

fn main() -> i32 {
    let list = env::arg(1) == Some("--list");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (group, checks) in GROUPS {
        for (name, check) in *checks {
            if list {
                println!("{group}/{name}");
            } else if chosen(group, name) {
                match run(*check) {
                    Ok(()) => {
                        passed += 1;
                        println!("ok {group}/{name}");
                    }
                    Err(why) if why.starts_with(SKIP) => {
                        skipped += 1;
                        println!("skip {group}/{name}: {}", &why[SKIP.len()..]);
                    }
                    Err(why) => {
                        failed += 1;
                        println!("FAIL {group}/{name}: {why}");
                    }
                }
            }
        }
    }
    if !list {
        println!("{passed} passed, {failed} failed");
    }
    i32::from(failed > 0 || (passed + skipped == 0 && !list))
}

rt::entry!(main);
