//! The short files: limits, io, statm, wchan, syscall, stack, comm, personality, and the OOM killer's.

use super::comm_text;
use crate::oom::{self, SCORE_ADJ_MAX, SCORE_ADJ_MIN};
use crate::subject::Subject;
use crate::{Result, rlimit, usage};
use abi::Errno;
use abi::cap::CAP_SYS_RESOURCE;
use abi::resource::{LIMIT_NAMES, RLIM_INFINITY};
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use kernfs::{TextBuf, written};
use task::{State, Task};
use vfs::Cred;

/// comm: the name.
pub fn comm(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    out.bytes(comm_text(&subject.comm()))?;
    out.bytes(b"\n")
}

/// A new name, by a thread `tid` of the same process. EINVAL from others.
pub fn set_comm(subject: &Subject, tid: crate::Pid, name: &[u8]) -> Result<()> {
    let thread = subject.thread.as_ref().ok_or(Errno::ESRCH)?;
    let asker = crate::pid::find_thread(tid).ok_or(Errno::EINVAL)?;
    if asker.process().pid() != subject.process.pid() {
        return Err(Errno::EINVAL);
    }
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    thread.set_comm(name);
    Ok(())
}

/// limits: soft and hard limit of each resource.
pub fn limits(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    writeln_limit_head(out)?;
    for (resource, (name, unit)) in LIMIT_NAMES.iter().enumerate() {
        let limit = rlimit::get(&subject.process, resource)?;
        written(write!(out, "{name:<25} "))?;
        for value in [limit.current, limit.max] {
            written(match value {
                RLIM_INFINITY => write!(out, "{:<20} ", "unlimited"),
                value => write!(out, "{value:<20} "),
            })?;
        }
        written(if unit.is_empty() { writeln!(out) } else { writeln!(out, "{unit:<10}") })?;
    }
    Ok(())
}

fn writeln_limit_head(out: &mut TextBuf) -> Result<()> {
    let (limit, soft, hard, units) = ("Limit", "Soft Limit", "Hard Limit", "Units");
    written(writeln!(out, "{limit:<25} {soft:<20} {hard:<20} {units:<10}"))
}

/// io: bytes and calls of read(2) and write(2) and their kin, and bytes that went to or came from devices.
pub fn io(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    let usage = match &subject.thread {
        Some(thread) if !subject.whole => usage::of_thread(thread),
        _ => usage::of_process(&subject.process),
    };
    let io = usage.io;
    written(writeln!(
        out,
        "rchar: {}\nwchar: {}\nsyscr: {}\nsyscw: {}\nread_bytes: {}\nwrite_bytes: {}\n\
         cancelled_write_bytes: 0",
        io.read_bytes,
        io.written_bytes,
        io.reads,
        io.writes,
        usage.read_blocks * 512,
        usage.written_blocks * 512
    ))
}

/// statm: sizes in pages.
pub fn statm(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    written(match subject.mm() {
        Some(mm) => mm.write_statm(out),
        None => writeln!(out, "0 0 0 0 0 0 0"),
    })
}

/// wchan: what it sleeps on; `0` when it runs or the asker is not `permitted` to know.
pub fn wchan(out: &mut TextBuf, subject: &Subject, permitted: bool) -> Result<()> {
    let name = subject.thread.as_ref().and_then(|t| t.task()).map_or("", |task| task.waiting_on());
    out.bytes(if permitted && !name.is_empty() { name.as_bytes() } else { b"0" })
}

/// syscall: the call that it sleeps in and its arguments, and where in the program.
pub fn syscall(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    let Some(thread) = &subject.thread else { return out.bytes(b"0 0x0 0x0\n") };
    let sleeps = |task: &Arc<Task>| task.is_current() || task.state() != State::Running;
    let Some(task) = thread.task().filter(sleeps) else { return out.bytes(b"running\n") };
    let Some(at) = task.user_place() else {
        return out.bytes(if subject.process.is_kernel { b"-1 0x0 0x0\n" } else { b"running\n" });
    };
    match thread.call() {
        None => written(write!(out, "-1"))?,
        Some(call) => {
            written(write!(out, "{call}"))?;
            at.args.iter().try_for_each(|arg| written(write!(out, " {arg:#x}")))?;
        }
    }
    written(writeln!(out, " {:#x} {:#x}", at.sp, at.pc))
}

/// The most frames of a stack that are shown, as Linux has it.
const STACK_DEPTH: usize = 64;

/// stack: where in the kernel it sleeps, innermost first; empty while it runs.
pub fn stack(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    let Some(task) = subject.thread.as_ref().and_then(|thread| thread.task()) else { return Ok(()) };
    let mut trace = [0; STACK_DEPTH];
    let count = task.stack_trace(&mut trace);
    let frames = trace[..count].iter().skip_while(|pc| is_switching(**pc));
    frames.into_iter().try_for_each(|pc| written(writeln!(out, "[<0>] {}", arch::symbols::Place(*pc))))
}

/// Whether the code there belongs to going to sleep, which every stack ends with and nobody wants to see.
fn is_switching(pc: usize) -> bool {
    let found = arch::symbols::table().and_then(|table| table.find(pc as u64));
    found.is_some_and(|found| {
        let name = found.name.as_str().trim_start_matches('<');
        ["arch::", "task::task::", "task::scheduler::", "task::wait::", "sched::"]
            .iter()
            .any(|p| name.starts_with(p))
    })
}

/// personality: PER_* and its flags.
pub fn personality(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    written(writeln!(out, "{:08x}", subject.process.personality.load(Relaxed)))
}

/// timerslack_ns: by how much its timeouts may be late.
pub fn timerslack_ns(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    let slack_ns = subject.thread.as_ref().map_or(0, |t| t.timer_slack_ns.load(Relaxed));
    written(writeln!(out, "{slack_ns}"))
}

/// oom_score: how soon it is killed when memory is short.
pub fn oom_score(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    written(writeln!(out, "{}", oom::score(&subject.process)))
}

pub fn oom_score_adj(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    written(writeln!(out, "{}", subject.process.oom_score_adj.load(Relaxed)))
}

/// oom_adj: the same on the scale of old, -17 to 15.
pub fn oom_adj(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    let adjust = subject.process.oom_score_adj.load(Relaxed);
    let old = if adjust == SCORE_ADJ_MAX { 15 } else { adjust * 17 / 1000 };
    written(writeln!(out, "{old}"))
}

/// Sets oom_score_adj. EINVAL outside -1000 to 1000; EACCES below what a privileged process allowed.
pub fn set_oom_score_adj(subject: &Subject, cred: &Cred, text: &[u8]) -> Result<()> {
    set_adjust(subject, cred, parse(text)?)
}

/// Sets oom_adj. EINVAL outside -17 to 15.
pub fn set_oom_adj(subject: &Subject, cred: &Cred, text: &[u8]) -> Result<()> {
    let old = parse(text)?;
    if !(-17..=15).contains(&old) {
        return Err(Errno::EINVAL);
    }
    set_adjust(subject, cred, if old == 15 { SCORE_ADJ_MAX } else { old * 1000 / 17 })
}

fn parse(text: &[u8]) -> Result<i32> {
    core::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).ok_or(Errno::EINVAL)
}

fn set_adjust(subject: &Subject, cred: &Cred, adjust: i32) -> Result<()> {
    if !(SCORE_ADJ_MIN..=SCORE_ADJ_MAX).contains(&adjust) {
        return Err(Errno::EINVAL);
    }
    let process = &subject.process;
    let privileged = cred.capable(CAP_SYS_RESOURCE);
    if adjust < process.oom_score_adj_min.load(Relaxed) && !privileged {
        return Err(Errno::EACCES);
    }
    process.oom_score_adj.store(adjust, Relaxed);
    if privileged {
        process.oom_score_adj_min.store(adjust, Relaxed);
    }
    Ok(())
}
