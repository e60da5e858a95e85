//! What wait(2) tells a tracer.

use super::{End, is_thread};
use crate::thread::Thread;
use crate::usage;
use crate::wait::{Report, Which};
use abi::process::{__WNOTHREAD, WEXITED, WNOWAIT};
use abi::signal::{CLD_EXITED, CLD_KILLED, CLD_TRAPPED};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

fn is_meant(which: Which, tid: crate::Pid, pgid: crate::Pid) -> bool {
    match which {
        Which::Any => true,
        Which::Process(number) => number == tid,
        Which::Group(group) => group == pgid,
    }
}

/// A stop or an end of a tracee of `which` that was not told yet: of those that the waiter traces with __WNOTHREAD, else
/// of all its process's. Besides: whether there is any such tracee.
pub(crate) fn report(waiter: &Arc<Thread>, which: Which, options: u32) -> (Option<Report>, bool) {
    let counts = |tracer: &Weak<Thread>| options & __WNOTHREAD == 0 || is_thread(tracer, waiter);
    let mut any = false;
    let tracees: Vec<Arc<Thread>> = {
        let mut tracing = waiter.process().tracing.lock();
        if tracing.tracees.is_empty() && tracing.ends.is_empty() {
            return (None, false);
        }
        let at =
            tracing.ends.iter().position(|end| counts(&end.tracer) && is_meant(which, end.tid, end.pgid));
        if let Some(at) = at {
            if options & WEXITED != 0 {
                let keep = options & WNOWAIT != 0;
                let end = if keep { tracing.ends.get(at).cloned() } else { tracing.ends.remove(at) };
                return (end.map(end_report), true);
            }
            any = true;
        }
        let own = tracing.tracees.iter().filter(|tracee| counts(&tracee.tracer));
        own.filter_map(|tracee| tracee.thread.upgrade()).collect()
    };
    for thread in tracees {
        let process = thread.process();
        if !thread.is_ptraced() || !is_meant(which, thread.tid(), process.pgid()) {
            continue;
        }
        any = true;
        if let Some(report) = stop_report(&thread, options) {
            return (Some(report), true);
        }
    }
    (None, any)
}

fn stop_report(thread: &Arc<Thread>, options: u32) -> Option<Report> {
    let code = {
        let mut trace = thread.trace.lock();
        let stop = trace.as_mut()?.stop.as_mut().filter(|stop| stop.unreported && !stop.resumed)?;
        stop.unreported = options & WNOWAIT != 0;
        stop.code
    };
    Some(Report {
        pid: thread.tid(),
        uid: thread.cred().uid,
        code: CLD_TRAPPED,
        status: code,
        wait_status: code << 8 | 0x7f,
        usage: usage::of_process(thread.process()),
    })
}

fn end_report(end: End) -> Report {
    let (code, status) = match end.status & 0x7f {
        0 => (CLD_EXITED, end.status >> 8 & 0xff),
        signal => (CLD_KILLED, signal),
    };
    Report { pid: end.tid, uid: end.uid, code, status, wait_status: end.status, usage: end.usage }
}

/// A traced thread has ended. The tracer hears of a process that is its child as any parent does; of all others here.
pub(crate) fn note_exit(thread: &Arc<Thread>, status: i32, last: bool) {
    let Some(tracer) = thread.tracer() else { return };
    let process = thread.process();
    let child = process.parent_pid() == tracer.process().pid() && (last || thread.is_leader());
    let leader_waits = thread.is_leader() && !last;
    let end = End {
        tracer: Arc::downgrade(&tracer),
        tid: thread.tid(),
        pgid: process.pgid(),
        uid: thread.cred().uid,
        status,
        usage: usage::of_process(process),
    };
    let mut tracing = tracer.process().tracing.lock();
    tracing.tracees.retain(|tracee| !is_thread(&tracee.thread, thread));
    // One that ends has looked through the list, or will.
    let ends = tracer.exiting.load(SeqCst);
    if !ends && !child && !leader_waits && tracing.ends.try_reserve(1).is_ok() {
        // On Linux each keeps its number until it is told, so there are no more of them than numbers.
        if tracing.ends.len() >= crate::pid::pid_max() as usize {
            tracing.ends.pop_front();
        }
        tracing.ends.push_back(end);
    }
    drop(tracing);
    tracer.process().child_wait.wake_all();
}
