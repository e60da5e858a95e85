//! `lab`: experiments on running programs. [`USAGE`] lists them; README.md says what they do.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::process::Pid;
use rt::{Errno, env, eprintln, fs, lab, print, println, time};

const USAGE: &str = "\
lab: experiments with the scheduler

  lab penalize PID NS_PER_MS   every millisecond that a thread of PID runs counts as NS_PER_MS ns more
  lab unpenalize PID           takes that back
  lab penalty PID              shows it, a line for each thread
  lab park TID                 the thread stands still: off its run queue, state D, signals wait
  lab unpark TID               it runs on
  lab parked                   the threads that stand parked
  lab policy [NAME]            shows or switches the fair scheduling policy
  lab faults PID               page faults of PID so far: minor, major

Examples:
  lab penalize 42 1000000      42 gets half of what it would get beside an equal: 33.3 : 66.7
  lab park 42; ps -o pid,stat,args; lab unpark 42";

/// Why a command failed: status 1, or 2 with the usage.
enum Problem {
    Failed(String),
    Usage(String),
}

impl Problem {
    fn of(what: &str, errno: Errno) -> Problem {
        let hint = if errno == Errno::ENOSYS { " (this kernel is not Ochre)" } else { "" };
        Problem::Failed(format!("{what}: {errno}{hint}"))
    }
}

type Outcome = Result<(), Problem>;

fn main() -> i32 {
    let words: Vec<&str> = env::args().skip(1).map(|word| word.to_str().unwrap_or("?")).collect();
    let outcome = match words[..] {
        ["penalize", pid, ns] => number(ns).and_then(|ns| penalize(pid, ns)),
        ["unpenalize", pid] => penalize(pid, 0),
        ["penalty", pid] => show_penalties(pid),
        ["park", tid] => park(tid),
        ["unpark", tid] => thread(tid).and_then(|tid| lab::unpark(tid).map_err(|e| Problem::of("unpark", e))),
        ["parked"] => show_parked(),
        ["policy"] => show_policy(),
        ["policy", name] => fs::write_file(POLICY, name.as_bytes()).map_err(|e| Problem::of(name, e)),
        ["faults", pid] => show_faults(pid),
        ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => Err(Problem::Usage("what?".into())),
        [command, ..] => Err(Problem::Usage(format!("'{command}' is not a command with so many arguments"))),
    };
    match outcome {
        Ok(()) => 0,
        Err(Problem::Failed(text)) => {
            eprintln!("lab: {text}");
            1
        }
        Err(Problem::Usage(text)) => {
            eprintln!("lab: {text}\n\n{USAGE}");
            2
        }
    }
}

rt::entry!(main);

fn number(word: &str) -> Result<u64, Problem> {
    word.replace('_', "").parse().map_err(|_| Problem::Usage(format!("'{word}' is not a number")))
}

fn thread(word: &str) -> Result<Pid, Problem> {
    word.parse().map_err(|_| Problem::Usage(format!("'{word}' is not the number of a process or thread")))
}

/// A path as system calls take it.
fn with_path<R>(path: &str, use_it: impl FnOnce(&CStr) -> rt::Result<R>) -> rt::Result<R> {
    let bytes = format!("{path}\0");
    CStr::from_bytes_with_nul(bytes.as_bytes()).map_err(|_| Errno::EINVAL).and_then(use_it)
}

/// The threads of a process; itself alone where /proc does not tell.
fn threads_of(pid: Pid) -> Vec<Pid> {
    let list = |path: &CStr| {
        let dir = fs::open(path, rt::nr::O_RDONLY | rt::nr::O_DIRECTORY, 0)?;
        let names = fs::list(dir);
        rt::io::close(dir)?;
        names
    };
    let names = with_path(&format!("/proc/{pid}/task"), list).unwrap_or_default();
    let tids: Vec<Pid> =
        names.iter().filter_map(|name| core::str::from_utf8(name).ok()?.parse().ok()).collect();
    if tids.is_empty() { vec![pid] } else { tids }
}

fn penalize(pid: &str, ns_per_ms: u64) -> Outcome {
    for tid in threads_of(thread(pid)?) {
        lab::penalize(tid, ns_per_ms).map_err(|e| Problem::of(&format!("penalize {tid}"), e))?;
    }
    Ok(())
}

fn show_penalties(pid: &str) -> Outcome {
    for tid in threads_of(thread(pid)?) {
        let ns = lab::penalty(tid).map_err(|e| Problem::of(&format!("penalty {tid}"), e))?;
        println!("{tid} {ns}");
    }
    Ok(())
}

/// Parks and, since a thread in the midst of something parks a little later, looks whether it did.
fn park(tid: &str) -> Outcome {
    const PATIENCE_MS: u32 = 500;
    let tid = thread(tid)?;
    lab::park(tid).map_err(|e| Problem::of(&format!("park {tid}"), e))?;
    for _ in 0..PATIENCE_MS {
        if parked_threads()?.contains(&(tid as u32)) {
            return Ok(());
        }
        time::sleep_ns(1_000_000);
    }
    println!("{tid} will park when its present sleep or stop ends");
    Ok(())
}

fn parked_threads() -> Result<Vec<u32>, Problem> {
    let mut tids = vec![0; 64];
    loop {
        let count = lab::parked(&mut tids).map_err(|e| Problem::of("parked", e))?;
        if count <= tids.len() {
            tids.truncate(count);
            return Ok(tids);
        }
        tids.resize(count, 0);
    }
}

fn show_parked() -> Outcome {
    for tid in parked_threads()? {
        let comm = with_path(&format!("/proc/{tid}/comm"), fs::read_file).unwrap_or_default();
        println!("{tid} {}", String::from_utf8_lossy(&comm).trim_end());
    }
    Ok(())
}

const POLICY: &CStr = c"/sys/kernel/sched/policy";

fn show_policy() -> Outcome {
    let text = fs::read_file(POLICY).map_err(|e| Problem::of("/sys/kernel/sched/policy", e))?;
    print!("{}", String::from_utf8_lossy(&text));
    Ok(())
}

/// Fields 10 and 12 of /proc/PID/stat, counted behind the name, which may hold anything.
fn show_faults(pid: &str) -> Outcome {
    let path = format!("/proc/{}/stat", thread(pid)?);
    let text = with_path(&path, fs::read_file).map_err(|e| Problem::of(&path, e))?;
    let text = String::from_utf8_lossy(&text).to_string();
    let behind_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    match (fields.get(7), fields.get(9)) {
        (Some(minor), Some(major)) => println!("{minor} minor, {major} major"),
        _ => return Err(Problem::Failed(format!("{path} is not as expected"))),
    }
    Ok(())
}
