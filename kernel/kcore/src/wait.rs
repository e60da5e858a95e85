//! Waiting for children: wait4(2), waitid(2).

use crate::exit;
use crate::process::{Process, ProcessState};
use crate::ptrace::is_thread;
use crate::thread::Thread;
use crate::usage::{self, Usage};
use crate::{Ctx, Pid, Result, pid};
use abi::Errno;
use abi::process::{__WALL, __WCLONE, __WNOTHREAD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED};
use abi::signal::{CLD_CONTINUED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, SIGCHLD, SIGCONT};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use task::WaitMode;

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Any,
    Process(Pid),
    Group(Pid),
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub pid: Pid,
    pub uid: u32,
    /// `CLD_*`.
    pub code: i32,
    /// Exit code or signal number, as `si_status`.
    pub status: i32,
    /// Status as wait4 encodes it.
    pub wait_status: i32,
    pub usage: Usage,
}

/// Waits until a child of `which` has something to report of what `options` ask for. `Ok(None)`: nothing
/// yet, with WNOHANG. ECHILD when there is no such child, ERESTARTSYS for a signal.
pub fn wait(ctx: &mut Ctx, which: Which, options: u32) -> Result<Option<Report>> {
    let (process, waiter) = (ctx.process.clone(), ctx.thread.clone());
    let attempt = || match look(&waiter, which, options) {
        Ok(None) if options & WNOHANG == 0 => None,
        other => Some(other),
    };
    let end = process.child_wait.wait_until(WaitMode::Interruptible, None, attempt);
    end.unwrap_or(Err(Errno::ERESTARTSYS))
}

/// One look at all children.
fn look(waiter: &Arc<Thread>, which: Which, options: u32) -> Result<Option<Report>> {
    let (report, traced) = crate::ptrace::report(waiter, which, options);
    if report.is_some() {
        return Ok(report);
    }
    loop {
        let mut eligible = traced;
        let Some(child) = find(waiter, which, options, &mut eligible) else {
            return if eligible { Ok(None) } else { Err(Errno::ECHILD) };
        };
        // Another thread may have been faster: then the child has nothing to say any more, and is not found again.
        if let Some(report) = examine(waiter.process(), &child, options) {
            return Ok(Some(report));
        }
    }
}

/// The first child with something to report. The number of children is the program's business, so no list of them is
/// made; the table's lock is held for one walk.
fn find(waiter: &Arc<Thread>, which: Which, options: u32, eligible: &mut bool) -> Option<Arc<Process>> {
    let parent = waiter.process();
    let mut has_news = |child: &Arc<Process>| {
        let own = options & __WNOTHREAD == 0 || is_child_of(child, waiter);
        let counts = own && is_eligible(child, which, options);
        *eligible |= counts;
        counts && has_report(child, options)
    };
    let table = pid::read();
    match which {
        Which::Process(number) => {
            let child = table.find(number).filter(|child| child.parent_pid() == parent.pid())?;
            has_news(&child).then_some(child)
        }
        _ => table.children(parent).find(has_news),
    }
}

/// Whether a child of its process is the thread's own (__WNOTHREAD).
fn is_child_of(child: &Process, thread: &Arc<Thread>) -> bool {
    is_thread(&child.maker, thread)
        || parent_among(child, &thread.process().signals.lock().threads)
            .is_some_and(|t| Arc::ptr_eq(t, thread))
}

/// The thread whose child a process is. `None` when the parent has ended.
pub(crate) fn parent_thread(process: &Process) -> Option<Arc<Thread>> {
    let parent = process.parent()?;
    let signals = parent.signals.lock();
    parent_among(process, &signals.threads).cloned()
}

/// Of the parent's living threads the one that made the child; the oldest, if that has ended or never was one of them.
/// Compares addresses only: nothing can be freed here, under locks.
fn parent_among<'a>(child: &Process, threads: &'a [Arc<Thread>]) -> Option<&'a Arc<Thread>> {
    threads.iter().find(|thread| is_thread(&child.maker, thread)).or(threads.first())
}

/// Whether none of its parent's living threads made the child.
pub(crate) fn maker_has_ended(child: &Process, parent: &Process) -> bool {
    !parent.signals.lock().threads.iter().any(|thread| is_thread(&child.maker, thread))
}

fn has_report(child: &Process, options: u32) -> bool {
    match child.state() {
        ProcessState::Zombie => options & WEXITED != 0,
        ProcessState::Alive if options & (WSTOPPED | WCONTINUED) != 0 => {
            let stop = &child.signals.lock().stop;
            options & WSTOPPED != 0 && stop.complete && stop.unreported_stop
                || options & WCONTINUED != 0 && stop.unreported_continue
        }
        _ => false,
    }
}

fn is_eligible(child: &Process, which: Which, options: u32) -> bool {
    if let Which::Group(pgid) = which
        && child.pgid() != pgid
    {
        return false;
    }
    if child.state() == ProcessState::Reaped {
        return false;
    }
    // "Clone" children are those whose exit signal is not SIGCHLD.
    let is_clone = child.exit_signal.load(Relaxed) != SIGCHLD;
    options & __WALL != 0 || is_clone == (options & __WCLONE != 0)
}

fn examine(parent: &Process, child: &Arc<Process>, options: u32) -> Option<Report> {
    match child.state() {
        ProcessState::Zombie if options & WEXITED != 0 => ended(parent, child, options),
        ProcessState::Alive => changed(child, options),
        _ => None,
    }
}

fn report(child: &Process, code: i32, status: i32, wait_status: i32) -> Report {
    let uid = child.user_counts().uid;
    Report { pid: child.pid(), uid, code, status, wait_status, usage: usage::of_process(child) }
}

fn ended(parent: &Process, child: &Arc<Process>, options: u32) -> Option<Report> {
    let keep = options & WNOWAIT != 0;
    if !keep && !child.claim_reap() {
        return None;
    }
    let status = child.exit_status.load(SeqCst);
    let found = match status & 0x7f {
        0 => report(child, CLD_EXITED, status >> 8 & 0xff, status),
        signal => report(child, CLD_KILLED, signal, status),
    };
    if !keep {
        usage::child_reaped(parent, child);
        exit::release(child);
    }
    Some(found)
}

/// Stopped or continued, and not reported yet.
fn changed(child: &Arc<Process>, options: u32) -> Option<Report> {
    let keep = options & WNOWAIT != 0;
    let mut signals = child.signals.lock();
    let stop = &mut signals.stop;
    let (code, status, wait_status) = if options & WSTOPPED != 0 && stop.complete && stop.unreported_stop {
        stop.unreported_stop = keep;
        (CLD_STOPPED, stop.signal as i32, (stop.signal as i32) << 8 | 0x7f)
    } else if options & WCONTINUED != 0 && stop.unreported_continue {
        stop.unreported_continue = keep;
        (CLD_CONTINUED, SIGCONT as i32, 0xffff)
    } else {
        return None;
    };
    drop(signals);
    Some(report(child, code, status, wait_status))
}
