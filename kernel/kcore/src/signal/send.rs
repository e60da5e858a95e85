//! Sending.
//!
//! ```text
//!  send_* -> prepare (stop and continue undo each other; ignored?) -> queue -> choose a thread -> interrupt it
//!                                                                          \-> fatal for all: begin_exit
//! ```

use super::queue::Charge;
use super::{DEFAULT_DUMPS, DEFAULT_STOPS, Handlers, Pending, ProcessSignals, SigSet};
use crate::jobs::Group;
use crate::process::Process;
use crate::thread::{Thread, work};
use crate::{Ctx, Result, pid, rlimit};
use abi::Errno;
use abi::resource::RLIMIT_SIGPENDING;
use abi::signal::{SI_KERNEL, SI_USER, SIGCONT, SIGKILL, SIGNAL_MAX, SIGRTMIN, SigInfo};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use vfs::Cred;

/// Sends to a process: any of its threads that does not block the signal gets it. Process context.
pub fn send_process(process: &Arc<Process>, info: SigInfo) -> Result<()> {
    send(process, None, info, false)
}

/// Sends to one thread.
pub fn send_thread(thread: &Arc<Thread>, info: SigInfo) -> Result<()> {
    send(thread.process(), Some(thread), info, false)
}

/// As [`send_process`], and not even init is spared (the OOM killer).
pub fn send_forced(process: &Arc<Process>, info: SigInfo) -> Result<()> {
    send(process, None, info, true)
}

/// Sends to every process of a group; nobody's permission is asked (terminals, orphaned groups).
///
/// With the table locked (Linux's kill_pgrp), as no child may be born between the look at who is in the group and its
/// parent's signal: it would miss what the parent gets a moment later.
pub fn send_group(group: &Arc<Group>, info: SigInfo) {
    for process in pid::read().members(group) {
        let _ = send_process(&process, info);
        reach_unborn(&process, info.signo as u32);
    }
}

/// A signal to a group is also for the processes that members are making just now. A member that blocks it goes on with
/// that (the C library blocks all in fork), and its own pending signals are not inherited. Linux: signal->multiprocess.
fn reach_unborn(process: &Process, signal: u32) {
    if signal == 0 {
        return; // a question only
    }
    let signals = process.signals.lock();
    for thread in signals.threads.iter().filter(|thread| thread.forking.load(SeqCst)) {
        let cancelled = match signal {
            SIGCONT => DEFAULT_STOPS,
            _ if DEFAULT_STOPS.contains(signal) => SigSet::one(SIGCONT),
            _ => SigSet::EMPTY,
        };
        let gathered = SigSet::from_bits(thread.unborn_signals.load(SeqCst)) & !cancelled;
        thread.unborn_signals.store(gathered.with(signal).bits(), SeqCst);
    }
}

/// kill(2) for one process: checks permission; signal 0 only asks.
pub fn send_process_checked(ctx: &Ctx, process: &Arc<Process>, info: SigInfo) -> Result<()> {
    let signal = info.signo as u32;
    if !may_signal(ctx, process, signal) {
        return Err(Errno::EPERM);
    }
    if signal == 0 { Ok(()) } else { send_process(process, info) }
}

/// tkill(2): as [`send_process_checked`], to one thread.
pub fn send_thread_checked(ctx: &Ctx, thread: &Arc<Thread>, info: SigInfo) -> Result<()> {
    let signal = info.signo as u32;
    if !may_signal(ctx, thread.process(), signal) {
        return Err(Errno::EPERM);
    }
    if signal == 0 { Ok(()) } else { send_thread(thread, info) }
}

/// kill(2) for a group: succeeds when one process could be signalled. ESRCH for an empty group. With the table locked, as
/// [`send_group`].
pub fn send_group_checked(ctx: &Ctx, group: &Arc<Group>, info: SigInfo) -> Result<()> {
    let mut result = Err(Errno::ESRCH);
    for process in pid::read().members(group) {
        match send_process_checked(ctx, &process, info) {
            Ok(()) => {
                result = Ok(());
                reach_unborn(&process, info.signo as u32);
            }
            Err(errno) if result != Ok(()) => result = Err(errno),
            Err(_) => {}
        }
    }
    result
}

/// Whether the caller may send `signal` (kill(2), "Permissions").
pub fn may_signal(ctx: &Ctx, target: &Arc<Process>, signal: u32) -> bool {
    may_signal_as(ctx.cred(), ctx.process, target, signal)
}

/// As [`may_signal`], for a thread of `process` with these credentials.
pub fn may_signal_as(cred: &Cred, process: &Arc<Process>, target: &Arc<Process>, signal: u32) -> bool {
    if Arc::ptr_eq(process, target) {
        return true;
    }
    let allowed = target.main_thread().is_none_or(|thread| ids_match(cred, &thread.cred()));
    allowed || signal == SIGCONT && process.sid() == target.sid() || cred.capable(abi::cap::CAP_KILL)
}

fn ids_match(cred: &Cred, target: &Cred) -> bool {
    cred.euid == target.suid || cred.euid == target.uid || cred.uid == target.suid || cred.uid == target.uid
}

/// A fault of the running thread itself: not to be blocked or ignored. If it is, the action becomes the
/// default, which kills (not even init is spared).
pub fn force(thread: &Arc<Thread>, info: SigInfo) {
    let signal = info.signo as u32;
    let handlers = thread.process().signals.lock().handlers.clone();
    let blocked = thread.blocked();
    let ignored = handlers.get(signal).handler == abi::signal::SIG_IGN;
    if blocked.contains(signal) || ignored {
        handlers.reset(signal);
    }
    if blocked.contains(signal) {
        thread.set_blocked(blocked.without(signal));
    }
    let _ = send(thread.process(), Some(thread), info, true);
}

fn send(process: &Arc<Process>, only: Option<&Arc<Thread>>, info: SigInfo, forced: bool) -> Result<()> {
    let signal = info.signo as u32;
    debug_assert!((1..=SIGNAL_MAX).contains(&signal));
    let charge = charge_for(process, &info)?;
    let mut signals = process.signals.lock();
    if signals.threads.is_empty() || !prepare(process, &mut signals, only, signal, forced) {
        return Ok(());
    }
    match only {
        Some(thread) => {
            let mut pending = thread.pending.lock();
            pending.add(info, charge)?;
            thread.publish_pending(pending.mask());
        }
        None => {
            signals.shared.add(info, charge)?;
            process.shared_pending.store(signals.shared.mask().bits(), SeqCst);
        }
    }
    process.wake_signalfd();
    complete(process, &mut signals, only, signal, forced);
    Ok(())
}

/// Real-time signals and those a program queues count against RLIMIT_SIGPENDING.
fn charge_for(process: &Arc<Process>, info: &SigInfo) -> Result<Option<Charge>> {
    let signal = info.signo as u32;
    if signal < SIGRTMIN && info.code >= 0 {
        return Ok(None);
    }
    let counts = process.user_counts();
    match Charge::take(&counts, rlimit::soft(process, RLIMIT_SIGPENDING)) {
        Ok(charge) => Ok(Some(charge)),
        // Only a real-time signal that carries data may be refused; others become pending without it.
        Err(errno) if signal >= SIGRTMIN && info.code != SI_USER && info.code != SI_KERNEL => Err(errno),
        Err(_) => Ok(None),
    }
}

/// Stop signals and SIGCONT cancel each other. Says whether the signal is to be queued at all.
fn prepare(
    process: &Arc<Process>,
    signals: &mut ProcessSignals,
    only: Option<&Arc<Thread>>,
    signal: u32,
    forced: bool,
) -> bool {
    if signals.exit.is_some() {
        return signal == SIGKILL;
    }
    if DEFAULT_STOPS.contains(signal) {
        flush_locked(process, signals, SigSet::one(SIGCONT));
    } else if signal == SIGCONT {
        flush_locked(process, signals, DEFAULT_STOPS);
        super::stop::resume(process, signals);
    }
    !is_ignored(process, signals, only, signal, forced)
}

/// A blocked signal is never ignored: its action may change before it is unblocked.
fn is_ignored(
    process: &Process,
    signals: &ProcessSignals,
    only: Option<&Arc<Thread>>,
    signal: u32,
    forced: bool,
) -> bool {
    let thread = only.or(signals.threads.first());
    let shown = |t: &Arc<Thread>| t.is_ptraced() && signal != SIGKILL;
    if thread.is_some_and(|t| t.blocked().contains(signal) || t.waits_for(signal) || shown(t)) {
        return false;
    }
    let spared = process.is_init() && !forced && !signals.handlers.caught().contains(signal);
    spared || signals.handlers.ignored().contains(signal)
}

/// Chooses who takes the signal, or starts the end of the whole process when it is fatal.
fn complete(
    process: &Arc<Process>,
    signals: &mut ProcessSignals,
    only: Option<&Arc<Thread>>,
    signal: u32,
    forced: bool,
) {
    let wants = |t: &Arc<Thread>| {
        let blocked = t.blocked().contains(signal) && !t.waits_for(signal);
        !t.exiting.load(SeqCst) && (signal == SIGKILL || !blocked)
    };
    let chosen = match only {
        Some(thread) => Some(thread).filter(|t| wants(t)),
        None => choose(&signals.threads, wants),
    };
    let Some(chosen) = chosen.cloned() else { return };
    let default = !signals.handlers.caught().contains(signal) && !chosen.waits_for(signal);
    let fatal = default && !DEFAULT_STOPS.contains(signal) && !super::DEFAULT_IGNORED.contains(signal);
    // A core dump looks at the thread that took the signal, so that one goes the slow way.
    // A tracer sees it first.
    let fatal = fatal && !chosen.is_ptraced();
    if signal == SIGKILL || fatal && !DEFAULT_DUMPS.contains(signal) && (forced || !process.is_init()) {
        begin_exit(process, signals, signal as i32);
        return;
    }
    chosen.interrupt(work::SIGNAL, signal == SIGKILL);
}

/// Prefers the main thread, then one that has no signal waiting yet.
fn choose(threads: &[Arc<Thread>], wants: impl Fn(&Arc<Thread>) -> bool) -> Option<&Arc<Thread>> {
    let first = threads.first()?;
    if wants(first) {
        return Some(first);
    }
    let free = threads.iter().find(|t| wants(t) && t.work() & work::SIGNAL == 0);
    free.or_else(|| threads.iter().find(|t| wants(t)))
}

/// Ends every thread of the process with `status` (as wait(2) encodes it), unless that has begun.
pub(crate) fn begin_exit(process: &Process, signals: &mut ProcessSignals, status: i32) {
    if signals.exit.is_some() {
        return;
    }
    signals.exit = Some(status);
    signals.stop = super::StopState::default();
    process.exiting.store(true, SeqCst);
    for thread in &signals.threads {
        thread.stopped.store(false, SeqCst);
        thread.interrupt(work::EXIT, true);
    }
}

/// Forgets pending signals of the set, of the process and of all its threads.
pub(crate) fn flush_locked(process: &Process, signals: &mut ProcessSignals, set: SigSet) {
    signals.shared.remove(set);
    process.shared_pending.store(signals.shared.mask().bits(), SeqCst);
    for thread in &signals.threads {
        if !(thread.pending_set() & set).is_empty() {
            let mut pending: sync::SpinGuard<'_, Pending, _> = thread.pending.lock();
            pending.remove(set);
            thread.publish_pending(pending.mask());
        }
    }
}

impl Process {
    /// What the process does about each signal, for /proc.
    pub fn handlers(&self) -> Arc<Handlers> {
        self.signals.lock().handlers.clone()
    }

    /// `from` has just blocked signals of `set` that wait for the whole process: wakes other threads
    /// that take them.
    pub(crate) fn retarget(&self, from: &Thread, set: SigSet) {
        let signals = self.signals.lock();
        let mut left = signals.shared.mask() & set;
        for thread in &signals.threads {
            if core::ptr::eq(Arc::as_ptr(thread), from) || thread.exiting.load(SeqCst) {
                continue;
            }
            let takes = left & !thread.blocked();
            if !takes.is_empty() {
                left = left & !takes;
                thread.interrupt(work::SIGNAL, false);
            }
        }
    }
}
