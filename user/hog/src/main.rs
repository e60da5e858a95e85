//! `hog KIND...|all`: takes all there is of one thing, until the kernel says no.
//!
//! Problem: a program that wants everything (memory, processes, descriptors, mounts ...) must end with an errno or be
//! killed by the OOM killer; the machine goes on, and gets everything back. Interface: one line a kind, `KIND: N, then
//! ERRNO` or `KIND: killed by signal S`; the last line compares free memory. Exit status 0 when each kind ended in one
//! of these ways. For a machine made for the purpose: as root nothing but the kernel stops it.
//!
//! Idea: each kind is a loop in a child that is a process group of its own, so that everything it made dies with it.
#![no_std]
#![no_main]

extern crate alloc;

mod kinds;

use alloc::vec::Vec;
use kinds::{KINDS, Kind};
use rt::nr::*;
use rt::process::{self, Status};
use rt::{Errno, Result, env, eprintln, io, println, signal, syscall, time};

/// What a child reports: how many it got, and the error that ended it.
#[derive(Clone, Copy, Default)]
struct Report {
    count: u64,
    errno: u16,
}

/// Bytes that are free, and those in caches that can be had.
fn free_kib() -> u64 {
    let mut info = [0u64; 14];
    // SAFETY: 1. the kernel writes one sysinfo: 112 bytes.
    let _ = unsafe { syscall!(__NR_sysinfo, info.as_mut_ptr()) };
    let unit = u64::from((info[13] & 0xffff_ffff) as u32).max(1);
    info[5] * unit / 1024
}

/// Runs one kind in a child; how it ended.
fn run(kind: &Kind) -> Result<(Report, Status)> {
    let (read, write) = io::pipe(O_CLOEXEC)?;
    let Some(pid) = process::fork()? else {
        let _ = process::setpgid(0, 0);
        let _ = io::close(read);
        let mut report = Report::default();
        let error = (kind.run)(&mut report.count).err();
        let words = [report.count, u64::from(error.map_or(0, Errno::raw))];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let _ = io::write_all(write, &bytes);
        process::exit(0)
    };
    let _ = process::setpgid(pid, pid);
    io::close(write)?;
    let mut bytes = [0; 16];
    let filled = io::read_full(read, &mut bytes)?;
    io::close(read)?;
    let status = process::wait_exit(pid)?;
    end_group(pid);
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
    let report =
        if filled == 16 { Report { count: word(0), errno: word(8) as u16 } } else { Report::default() };
    Ok((report, status))
}

/// Kills what a kind left, until nothing of its group is there.
fn end_group(group: process::Pid) {
    while process::kill(-group, SIGKILL).is_ok() {
        while let Ok(Some(_)) = process::wait(-1, WNOHANG) {}
        time::sleep_ns(1_000_000);
    }
}

/// Prints how a kind ended, and says whether it may end so.
fn show(kind: &Kind) -> bool {
    match run(kind) {
        Ok((Report { count, errno: 0 }, status)) if status.exit_code() == Some(0) => {
            println!("{}: {count}, all it asked for", kind.name);
            true
        }
        Ok((Report { count, errno }, status)) if status.exit_code() == Some(0) => {
            let errno = Errno::from_raw(errno);
            println!("{}: {count}, then {errno}", kind.name);
            kind.ends.contains(&errno)
        }
        Ok((_, status)) => {
            println!("{}: killed by signal {}", kind.name, status.signal().unwrap_or(0));
            status.signal() == Some(SIGKILL as i32)
        }
        Err(e) => {
            println!("{}: cannot begin: {e}", kind.name);
            false
        }
    }
}

fn main() -> i32 {
    if env::arg(0).is_some_and(|name| name.starts_with("xxxx")) {
        return 0;
    }
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    // SAFETY: 1. the option takes a number.
    let _ = unsafe { syscall!(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let _ = signal::set_action(SIGPIPE, signal::Action::Ignore, 0, 0);
    let _ = rt::fs::mkdir(c"/tmp", 0o1777);
    if let Err(e) = rt::fs::chdir(c"/tmp") {
        eprintln!("hog: /tmp: {e}");
        return 1;
    }
    let chosen = |kind: &&Kind| {
        env::args().skip(1).any(|word| word.to_bytes() == b"all" || word.to_bytes() == kind.name.as_bytes())
    };
    let kinds: Vec<&Kind> = KINDS.iter().filter(chosen).collect();
    if kinds.is_empty() {
        println!("usage: hog all | KIND...");
        KINDS.iter().for_each(|kind| println!("  {:12} {}", kind.name, kind.what));
        return 2;
    }
    let before = free_kib();
    let mut good = true;
    for kind in kinds {
        good &= show(kind);
    }
    // Stacks of threads that ended are given back by the next that begins.
    let _ = process::in_child(|| 0);
    println!("free memory: {before} KiB before, {} KiB after", free_kib());
    i32::from(!good)
}

rt::entry!(main);
