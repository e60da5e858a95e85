//! Stopping and continuing a process (job control).
//!
//! ```text
//!  stop signal taken by one thread -> begin(): every thread is asked (work STOP)
//!  each thread -> take_part(): counts itself, sleeps in state Stopped; the last one reports to the parent
//!  SIGCONT sent -> resume(): all are woken; the first to run reports to the parent
//! ```

use super::{ProcessSignals, SigInfo};
use crate::Result;
use crate::process::Process;
use crate::thread::{Thread, work};
use abi::signal::{CLD_CONTINUED, CLD_STOPPED, SA_NOCLDSTOP, SIG_IGN, SIGCHLD, SIGCONT};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use task::State;

/// Under the `Signals` lock of the process.
#[derive(Default)]
pub(crate) struct StopState {
    /// The signal that stops, or stopped, the process; 0: none.
    pub signal: u32,
    /// Threads that have been asked and do not sleep yet.
    pub waiting: usize,
    /// All of them sleep.
    pub complete: bool,
    /// What wait(2) has not been told: WUNTRACED.
    pub unreported_stop: bool,
    /// What wait(2) has not been told: WCONTINUED.
    pub unreported_continue: bool,
    /// The parent is to get SIGCHLD with this code, by the first thread that runs again.
    pub notify: Option<i32>,
    /// A stop signal was taken and no SIGCONT came since.
    pub dequeued: bool,
}

/// A thread took a stop signal whose action is the default: asks all threads to stop.
pub(crate) fn begin(process: &Process, signal: u32) {
    let mut signals = process.signals.lock();
    if signals.exit.is_some() || !signals.stop.dequeued || signals.stop.complete {
        return;
    }
    signals.stop.signal = signal;
    signals.stop.waiting = 0;
    for at in 0..signals.threads.len() {
        let thread = signals.threads[at].clone();
        if !thread.stopped.load(SeqCst) && !thread.exiting.load(SeqCst) {
            signals.stop.waiting += 1;
            thread.interrupt(work::STOP, false);
        }
    }
}

/// The current thread stops with its process, until SIGCONT or death.
pub(crate) fn take_part(thread: &Arc<Thread>) {
    let process = thread.process();
    let mut signals = process.signals.lock();
    thread.take_work(work::STOP);
    if signals.stop.signal == 0 || signals.exit.is_some() {
        return;
    }
    thread.stopped.store(true, SeqCst);
    let last = count_down(&mut signals);
    drop(signals);
    if last {
        notify_parent(process, CLD_STOPPED);
    }
    sleep(thread);
    let code = process.signals.lock().stop.notify.take();
    if let Some(code) = code {
        notify_parent(process, code);
    }
}

/// A traced thread's part in a stop of its process: it is counted, but sleeps for its tracer. The signal that stops.
pub(crate) fn take_part_traced(thread: &Arc<Thread>) -> Option<u32> {
    let process = thread.process();
    let mut signals = process.signals.lock();
    thread.take_work(work::STOP);
    if signals.stop.signal == 0 || signals.exit.is_some() {
        return None;
    }
    let (signal, last) = (signals.stop.signal, count_down(&mut signals));
    let by_parent = thread.tracer().is_some_and(|tracer| tracer.process().pid() == process.parent_pid());
    if by_parent {
        // It hears of the tracee's stop, and not once more of the child's.
        signals.stop.unreported_stop = false;
    }
    drop(signals);
    if last && !by_parent {
        notify_parent(process, CLD_STOPPED);
    }
    Some(signal)
}

/// One thread fewer to wait for; true when the stop is complete.
fn count_down(signals: &mut ProcessSignals) -> bool {
    signals.stop.waiting = signals.stop.waiting.saturating_sub(1);
    if signals.stop.waiting > 0 || signals.stop.complete {
        return false;
    }
    signals.stop.complete = true;
    signals.stop.unreported_stop = true;
    signals.stop.unreported_continue = false;
    true
}

fn sleep(thread: &Thread) {
    let task = task::current();
    loop {
        task.announce(State::Stopped);
        if !thread.stopped.load(SeqCst) || thread.work() & work::EXIT != 0 {
            break;
        }
        task::schedule();
    }
    task.set_running();
}

/// SIGCONT arrived; the caller holds the lock.
pub(crate) fn resume(_process: &Process, signals: &mut ProcessSignals) {
    signals.stop.dequeued = false;
    if signals.stop.signal == 0 {
        return;
    }
    let code = if signals.stop.complete { CLD_CONTINUED } else { CLD_STOPPED };
    signals.stop = StopState { notify: Some(code), unreported_continue: true, ..StopState::default() };
    for thread in &signals.threads {
        thread.take_work(work::STOP);
        thread.stopped.store(false, SeqCst);
        crate::ptrace::continued(thread);
        if let Some(task) = thread.task() {
            task.wake_from(|state| state == State::Stopped);
        }
    }
}

/// A thread ends while its process is being stopped: true when that completes the stop.
pub(crate) fn leave(thread: &Thread, signals: &mut ProcessSignals) -> bool {
    let asked = signals.stop.signal != 0 && !thread.stopped.load(SeqCst);
    thread.stopped.store(false, SeqCst);
    asked && !signals.threads.is_empty() && count_down(signals)
}

impl ProcessSignals {
    /// A new thread of a process that is being stopped, or is stopped, stops as well.
    pub fn join_stop(&mut self, thread: &Thread) {
        if self.stop.signal != 0 {
            self.stop.waiting += 1;
            thread.add_work(work::STOP);
        }
    }
}

/// SIGCHLD for a stop or a continuation, unless the parent does not want it; wakes its wait(2).
pub(crate) fn notify_parent(process: &Arc<Process>, code: i32) {
    let Some(parent) = process.parent() else { return };
    let action = parent.signals.lock().handlers.get(SIGCHLD);
    if action.handler != SIG_IGN && action.flags & SA_NOCLDSTOP == 0 {
        let status = if code == CLD_CONTINUED { SIGCONT } else { process.signals.lock().stop.signal };
        let _: Result<()> = super::send_process(&parent, child_info(process, code, status as i32));
    }
    parent.child_wait.wake_all();
}

/// The siginfo of SIGCHLD about `process`.
pub(crate) fn child_info(process: &Process, code: i32, status: i32) -> SigInfo {
    let usage = crate::usage::of_process(process);
    let ticks = |ns: u64| ns / (1_000_000_000 / abi::time::USER_HZ);
    let uid = process.main_thread().map_or(0, |t| t.cred().uid);
    SigInfo::child(SIGCHLD, code, process.pid(), uid, status, ticks(usage.user_ns), ticks(usage.system_ns))
}
