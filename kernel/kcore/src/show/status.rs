//! /proc/PID/status: what a person wants to know, a line each (proc_pid_status(5)).

use super::escaped_comm;
use crate::subject::Subject;
use crate::{Result, rlimit, usage};
use abi::resource::RLIMIT_SIGPENDING;
use arch::CpuMask;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering::Relaxed;
use kernfs::{TextBuf, written};
use vm::AddressSpace;

/// All lines.
pub fn status(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    out.bytes(b"Name:\t")?;
    escaped_comm(out, &subject.comm())?;
    written(identity(out, subject))?;
    if let Some(mm) = subject.mm() {
        written(memory(out, &mm))?;
    }
    written(signals(out, subject))?;
    written(rights(out, subject))?;
    written(running(out, subject))
}

fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        'X' => "dead",
        'I' => "idle",
        _ => "zombie",
    }
}

fn identity(out: &mut TextBuf, subject: &Subject) -> fmt::Result {
    let process = &subject.process;
    let letter = subject.state_letter();
    if let Some(fs) = subject.thread.as_ref().and_then(|thread| thread.fs()) {
        write!(out, "\nUmask:\t{:04o}", fs.umask())?;
    }
    write!(out, "\nState:\t{letter} ({})", state_name(letter))?;
    let (pid, number) = (process.pid(), subject.number());
    write!(out, "\nTgid:\t{pid}\nNgid:\t0\nPid:\t{number}\nPPid:\t{}", process.parent_pid())?;
    let tracer = subject.thread.as_ref().and_then(|thread| thread.tracer());
    write!(out, "\nTracerPid:\t{}", tracer.map_or(0, |tracer| tracer.tid()))?;
    let cred = subject.cred();
    write!(out, "\nUid:\t{}\t{}\t{}\t{}", cred.uid, cred.euid, cred.suid, cred.fsuid)?;
    write!(out, "\nGid:\t{}\t{}\t{}\t{}", cred.gid, cred.egid, cred.sgid, cred.fsgid)?;
    let files = subject.thread.as_ref().and_then(|thread| thread.files());
    write!(out, "\nFDSize:\t{}\nGroups:\t", files.map_or(0, |files| files.capacity()))?;
    for (at, group) in cred.groups.iter().enumerate() {
        write!(out, "{}{group}", if at == 0 { "" } else { " " })?;
    }
    write!(
        out,
        " \nNStgid:\t{pid}\nNSpid:\t{number}\nNSpgid:\t{}\nNSsid:\t{}",
        process.pgid(),
        process.sid()
    )?;
    writeln!(out, "\nKthread:\t{}", u32::from(process.is_kernel))
}

fn memory(out: &mut TextBuf, mm: &AddressSpace) -> fmt::Result {
    const KIB_PER_PAGE: u64 = arch::PAGE_SIZE as u64 / 1024;
    let usage = mm.usage();
    let code = mm.program().code;
    let page = arch::PAGE_SIZE as u64;
    let text_kib = (code.1.next_multiple_of(page) - (code.0 & !(page - 1))) >> 10;
    let text_kib = text_kib.min(usage.exec * KIB_PER_PAGE);
    let lines = [
        ("VmPeak", usage.peak_total * KIB_PER_PAGE),
        ("VmSize", usage.total * KIB_PER_PAGE),
        ("VmLck", usage.locked * KIB_PER_PAGE),
        ("VmPin", 0),
        ("VmHWM", usage.peak_rss * KIB_PER_PAGE),
        ("VmRSS", usage.rss() * KIB_PER_PAGE),
        ("RssAnon", usage.rss_anon * KIB_PER_PAGE),
        ("RssFile", usage.rss_file * KIB_PER_PAGE),
        ("RssShmem", usage.rss_shmem * KIB_PER_PAGE),
        ("VmData", usage.data * KIB_PER_PAGE),
        ("VmStk", usage.stack * KIB_PER_PAGE),
        ("VmExe", text_kib),
        ("VmLib", usage.exec * KIB_PER_PAGE - text_kib),
        ("VmPTE", usage.table_bytes >> 10),
        ("VmSwap", usage.swap * KIB_PER_PAGE),
    ];
    for (name, kib) in lines {
        writeln!(out, "{name}:\t{kib:>8} kB")?;
    }
    writeln!(out, "CoreDumping:\t0\nTHP_enabled:\t0")
}

fn signals(out: &mut TextBuf, subject: &Subject) -> fmt::Result {
    let process = &subject.process;
    let (counts, limit) = (process.user_counts(), rlimit::soft(process, RLIMIT_SIGPENDING));
    writeln!(out, "Threads:\t{}", process.thread_count().max(1))?;
    writeln!(out, "SigQ:\t{}/{limit}", counts.signals())?;
    let thread = subject.thread.as_ref();
    let handlers = process.handlers();
    let sets = [
        ("SigPnd", thread.map_or(0, |t| t.pending_set().bits())),
        ("ShdPnd", process.shared_pending().bits()),
        ("SigBlk", thread.map_or(0, |t| t.blocked().bits())),
        ("SigIgn", handlers.explicitly_ignored().bits()),
        ("SigCgt", handlers.caught().bits()),
    ];
    hex_lines(out, &sets)
}

fn rights(out: &mut TextBuf, subject: &Subject) -> fmt::Result {
    let cred = subject.cred();
    let sets = [
        ("CapInh", cred.inheritable.0),
        ("CapPrm", cred.permitted.0),
        ("CapEff", cred.effective.0),
        ("CapBnd", cred.bounding.0),
        ("CapAmb", cred.ambient.0),
    ];
    hex_lines(out, &sets)?;
    writeln!(out, "NoNewPrivs:\t{}", u32::from(cred.no_new_privs))?;
    writeln!(out, "Speculation_Store_Bypass:\tunknown\nSpeculationIndirectBranch:\tunsupported")
}

fn hex_lines(out: &mut TextBuf, sets: &[(&str, u64)]) -> fmt::Result {
    sets.iter().try_for_each(|(name, bits)| writeln!(out, "{name}:\t{bits:016x}"))
}

fn running(out: &mut TextBuf, subject: &Subject) -> fmt::Result {
    let cpus = arch::cpu::count();
    let task = subject.thread.as_ref().and_then(|thread| thread.task());
    let allowed = task.map_or(CpuMask::first(cpus), |task| sched::affinity(&task));
    out.write_str("Cpus_allowed:\t")?;
    let allowed = allowed.0 & CpuMask::first(cpus).0;
    kernfs::bitmap::hex(out, allowed, cpus)?;
    out.write_str("\nCpus_allowed_list:\t")?;
    kernfs::bitmap::ranges(out, allowed)?;
    writeln!(out, "\nMems_allowed:\t1\nMems_allowed_list:\t0")?;
    let switches = match &subject.thread {
        Some(thread) => usage::of_thread(thread),
        None => usage::of_process(&subject.process),
    };
    writeln!(out, "voluntary_ctxt_switches:\t{}", switches.switches_voluntary)?;
    writeln!(out, "nonvoluntary_ctxt_switches:\t{}", switches.switches_involuntary)
}

impl Subject {
    /// Whether it may be looked into by default: PR_SET_DUMPABLE is 1.
    pub fn is_dumpable(&self) -> bool {
        self.process.dumpable.load(Relaxed) == 1
    }
}
