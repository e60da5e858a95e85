//! /proc/PID/stat: one line of numbers (proc_pid_stat(5)).

use super::{comm_text, ticks};
use crate::subject::Subject;
use crate::usage::{self, Usage};
use crate::{Result, rlimit};
use abi::resource::RLIMIT_RSS;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use kernfs::{TextBuf, written};
use sched_api::{Params, SchedKind};

// Bits of field 9, Linux's PF_*.
const PF_EXITING: u32 = 0x4;
const PF_FORKNOEXEC: u32 = 0x40;
const PF_KTHREAD: u32 = 0x20_0000;
const PF_RANDOMIZE: u32 = 0x40_0000;

/// The line. Addresses only when the asker is `permitted` to look into the process.
pub fn stat(out: &mut TextBuf, subject: &Subject, permitted: bool) -> Result<()> {
    write!(out, "{} (", subject.number()).map_err(|_| abi::Errno::ENOMEM)?;
    out.bytes(comm_text(&subject.comm()))?;
    written(rest(out, subject, permitted))
}

fn rest(out: &mut TextBuf, subject: &Subject, permitted: bool) -> core::fmt::Result {
    let process = &subject.process;
    let (tty, foreground) = terminal(subject);
    write!(
        out,
        ") {} {} {} {} {tty} {foreground} {}",
        subject.state_letter(),
        process.parent_pid(),
        process.pgid(),
        process.sid(),
        flags(subject)
    )?;
    let own = own_usage(subject);
    let children = if subject.whole { usage::of_children(process) } else { Usage::default() };
    write!(
        out,
        " {} {} {} {} {} {} {} {}",
        own.minor_faults,
        children.minor_faults,
        own.major_faults,
        children.major_faults,
        ticks(own.user_ns),
        ticks(own.system_ns),
        ticks(children.user_ns),
        ticks(children.system_ns)
    )?;
    let params = params(subject);
    let task = subject.thread.as_ref().and_then(|thread| thread.task());
    // A lent priority shows, but only here.
    let effective = task.map_or(params, |task| sched::effective(&task));
    write!(
        out,
        " {} {} {} 0 {}",
        sched::show::priority(&effective) - 100,
        params.nice,
        process.thread_count().max(1),
        ticks(start_ns(subject))
    )?;
    memory(out, subject, permitted)?;
    signals(out, subject)?;
    let sleeps = permitted && !matches!(subject.state_letter(), 'R' | 'Z' | 'X');
    let exit_signal = if subject.whole { process.exit_signal.load(Relaxed) as i32 } else { -1 };
    let cpu = subject.thread.as_ref().and_then(|t| t.task()).map_or(0, |t| t.sched.cpu.load(Relaxed));
    write!(
        out,
        " {} 0 0 {exit_signal} {cpu} {} {} 0 0 0",
        u32::from(sleeps),
        params.rt_priority,
        policy_number(params.kind)
    )?;
    places(out, subject, permitted)?;
    writeln!(out, " {}", if permitted { process.exit_status.load(Relaxed) } else { 0 })
}

/// The controlling terminal's number and foreground group: 0 and -1 without one.
fn terminal(subject: &Subject) -> (u64, i64) {
    match subject.process.terminal() {
        Some(terminal) => {
            let foreground = terminal.foreground().map_or(-1, |group| i64::from(group.pgid()));
            (terminal.device_number(), foreground)
        }
        None => (0, -1),
    }
}

fn flags(subject: &Subject) -> u32 {
    let process = &subject.process;
    let mut flags = if process.is_kernel { PF_KTHREAD | PF_FORKNOEXEC } else { PF_RANDOMIZE };
    if !process.is_kernel && !process.did_exec.load(Relaxed) {
        flags |= PF_FORKNOEXEC;
    }
    if subject.thread.as_ref().is_none_or(|t| t.exiting.load(Relaxed)) {
        flags |= PF_EXITING;
    }
    flags
}

fn own_usage(subject: &Subject) -> Usage {
    match &subject.thread {
        _ if subject.whole => usage::of_process(&subject.process),
        Some(thread) => usage::of_thread(thread),
        None => Usage::default(),
    }
}

fn params(subject: &Subject) -> Params {
    let task = subject.thread.as_ref().and_then(|thread| thread.task());
    task.map_or_else(Params::default, |task| sched::params(&task))
}

fn start_ns(subject: &Subject) -> u64 {
    match &subject.thread {
        Some(thread) if !subject.whole => thread.start_ns,
        _ => subject.process.start_ns,
    }
}

/// Fields 23 to 30: sizes, limits, where the program's code and stack begin.
fn memory(out: &mut TextBuf, subject: &Subject, permitted: bool) -> core::fmt::Result {
    let limit = rlimit::soft(&subject.process, RLIMIT_RSS);
    let Some(mm) = subject.mm() else { return write!(out, " 0 0 {limit} 0 0 0 0 0") };
    let usage = mm.usage();
    write!(out, " {} {} {limit}", usage.total * arch::PAGE_SIZE as u64, usage.rss())?;
    if permitted {
        let program = mm.program();
        write!(out, " {} {} {} 0 0", program.code.0, program.code.1, program.stack_start)
    } else {
        write!(out, " 1 1 0 0 0")
    }
}

/// Fields 31 to 34: signal sets in decimal, of the first 32 signals, as old programs read them.
fn signals(out: &mut TextBuf, subject: &Subject) -> core::fmt::Result {
    let Some(thread) = &subject.thread else { return out.write_str(" 0 0 0 0") };
    let handlers = subject.process.handlers();
    let old = |bits: u64| bits & 0x7fff_ffff;
    write!(
        out,
        " {} {} {} {}",
        old(thread.pending_set().bits()),
        old(thread.blocked().bits()),
        old(handlers.explicitly_ignored().bits()),
        old(handlers.caught().bits())
    )
}

/// Fields 45 to 51: data, heap, arguments and environment.
fn places(out: &mut TextBuf, subject: &Subject, permitted: bool) -> core::fmt::Result {
    let Some(mm) = subject.mm().filter(|_| permitted) else { return out.write_str(" 0 0 0 0 0 0 0") };
    let program = mm.program();
    write!(out, " {} {} {}", program.data.0, program.data.1, mm.heap_start())?;
    write!(out, " {} {} {} {}", program.args.0, program.args.1, program.env.0, program.env.1)
}

/// SCHED_* as sched_setscheduler(2) numbers them.
fn policy_number(kind: SchedKind) -> u32 {
    match kind {
        SchedKind::Normal => 0,
        SchedKind::Fifo | SchedKind::Stop => 1,
        SchedKind::RoundRobin => 2,
        SchedKind::Batch => 3,
        SchedKind::Idle => 5,
    }
}
