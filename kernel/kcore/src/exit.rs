//! The end of threads and processes: exit(2), exit_group(2), and what a fatal signal does.
//!
//! ```text
//!  end(thread): robust locks, clear_child_tid -> memory, files -> leaves the process
//!     last thread: end_process(): children to a reaper, orphaned groups, SIGHUP of a session,
//!                  zombie, SIGCHLD -> parent's wait(2) -> release()
//! ```

use crate::ctx::{Ctx, Local};
use crate::process::{Process, ProcessState};
use crate::ptrace::is_thread;
use crate::signal::{self, ProcessSignals, SigInfo};
use crate::thread::{COMM_LEN, Thread};
use crate::{Pid, futex, jobs, pid, ptrace, usage, wait};
use abi::signal::{CLD_EXITED, CLD_KILLED, CLD_STOPPED, SA_NOCLDWAIT, SI_USER, SIG_IGN, SIGCHLD};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use vfs::Cred;

/// What stays of a leader, for those who look at the zombie.
#[derive(Clone)]
pub(crate) struct Remains {
    pub comm: [u8; COMM_LEN],
    pub cred: Arc<Cred>,
}

/// exit(2): the calling thread ends when the system call returns.
pub fn exit_thread(ctx: &mut Ctx, code: i32) {
    ctx.request_exit((code & 0xff) << 8);
}

/// exit_group(2): all threads of the process end.
pub fn exit_group(ctx: &mut Ctx, code: i32) {
    let status = (code & 0xff) << 8;
    signal::begin_exit(ctx.process, &mut ctx.process.signals.lock(), status);
    ctx.request_exit(status);
}

/// Ends the thread that runs here. Its task returns from its body right after.
pub(crate) fn end(thread: Arc<Thread>, mut local: Local, status: i32) {
    let process = thread.process().clone();
    if process.is_init() && process.thread_count() == 1 {
        let status = process.signals.lock().exit.unwrap_or(status);
        panic!("Attempted to kill init! exitcode={status:#010x}");
    }
    futex::exit_robust_list(&thread, &local.mm);
    futex::pi::thread_ends(&thread);
    if local.clear_child_tid != 0 && Arc::strong_count(&local.mm) > 2 {
        futex::clear_and_wake(&local.mm, local.clear_child_tid);
    }
    local.mm.release_concurrency_id(&task::current());
    let Left { last, oldest } = leave_process(&thread, &process, status);
    let shown = if last { process.exit_status.load(SeqCst) } else { status };
    ptrace::note_exit(&thread, shown, last);
    ptrace::end_tracer(&thread);
    usage::note_peak(&process, local.mm.resident().1);
    drop(task::current().set_table(None));
    if last {
        process.timers.end();
        crate::sysv::sem::process_ends(&process);
        crate::sysv::shm::creator_ends(&process);
        process.set_mm(None);
    }
    if let Some(vfork) = local.vfork.take() {
        vfork.complete();
    }
    // Memory, files, directories: each goes with its last user. Closing and unmapping may sleep.
    thread.publish_files(None);
    thread.publish_fs(None);
    drop(local);
    let gone = pid::write().remove_thread(&thread);
    drop(gone);
    if !thread.is_leader() {
        process.uncharge_thread();
    }
    thread.forget_task();
    if last {
        end_process(&process, &thread);
    } else {
        orphan_children_of_thread(&process, &thread, oldest);
        process.thread_wait.wake_all();
    }
}

/// Ends a thread that was made and then not wanted, because a signal came: nobody knows it and it has never run. On its
/// own task, as [`end`], since files and memory may sleep when they go, and what drops a task must not.
pub(crate) fn abandon(thread: &Thread, local: Local) {
    drop(task::current().set_table(None));
    thread.publish_files(None);
    thread.publish_fs(None);
    if thread.is_leader() {
        thread.process().set_mm(None); // a process of its own, which it was to be the first thread of
    }
    drop(local);
    thread.forget_task();
}

/// What a thread was to its process.
struct Left {
    last: bool,
    /// The oldest that lived: children whose own thread had ended before were its.
    oldest: bool,
}

/// Takes the thread out of its process.
fn leave_process(thread: &Arc<Thread>, process: &Arc<Process>, status: i32) -> Left {
    let mut signals = process.signals.lock();
    let oldest = signals.threads.first().is_some_and(|first| Arc::ptr_eq(first, thread));
    thread.exiting.store(true, SeqCst);
    usage::thread_ends(thread);
    if thread.is_leader() {
        signals.leader_status = Some(status);
        *process.remains.lock() = Some(Remains { comm: thread.comm_bytes(), cred: thread.cred() });
    }
    signals.threads.retain(|t| !Arc::ptr_eq(t, thread));
    let stop_complete = signals.leave_stop(thread);
    let last = signals.threads.is_empty();
    process.thread_count.store(signals.threads.len(), SeqCst);
    if last {
        let status = signals.exit.or(signals.leader_status).unwrap_or(status);
        process.exit_status.store(status, SeqCst);
        process.exiting.store(true, SeqCst);
        signals.shared.remove(crate::SigSet::ALL);
    }
    drop(signals);
    // Signals sent to the process that this thread was chosen for: somebody else takes them.
    let waiting = process.shared_pending() & !thread.blocked();
    if !last && !waiting.is_empty() {
        process.retarget(thread, waiting);
    }
    if stop_complete {
        signal::notify_stopped(process, CLD_STOPPED);
    }
    Left { last, oldest }
}

/// `thread`, the last one, has gone: the process becomes a zombie, or is gone at once if nobody cares.
fn end_process(process: &Arc<Process>, thread: &Thread) {
    if process.is_session_leader() {
        let session = process.session();
        if let Some(terminal) = session.take_terminal() {
            terminal.session_ended(&session);
        }
    }
    orphan_children(process, thread);
    let group = process.group();
    let parent = process.parent();
    if parent.as_ref().is_some_and(|p| !Arc::ptr_eq(&p.group(), &group))
        && jobs::is_orphaned_without(&group, Some(process))
    {
        jobs::hang_up_if_stopped(&group);
    }
    // From living to gone in one step, if so: who ignores its children finds no zombie to wait for.
    let parent = process.parent();
    let unwanted = parent.is_none_or(|parent| wish(&parent, process).unwanted);
    process.set_state(if unwanted { ProcessState::Reaped } else { ProcessState::Zombie });
    process.exit_wait.wake_all();
    announce_end(process, unwanted);
}

/// What a parent's action for SIGCHLD says about a child that ends.
struct Wish {
    /// No zombie.
    unwanted: bool,
    /// No signal.
    silent: bool,
}

fn wish(parent: &Process, child: &Process) -> Wish {
    let signal = child.exit_signal.load(Relaxed);
    let action = parent.signals.lock().handlers.get(SIGCHLD);
    let ignored = signal == SIGCHLD && action.handler == SIG_IGN;
    Wish {
        unwanted: ignored || signal == SIGCHLD && action.flags & SA_NOCLDWAIT != 0,
        silent: ignored || signal == 0,
    }
}

/// Tells the parent. A parent that does not want to know reaps by that; `reaped`: that has happened.
fn announce_end(process: &Arc<Process>, reaped: bool) {
    let Some(parent) = process.parent() else {
        release(process);
        return;
    };
    let wish = wish(&parent, process);
    if !wish.silent {
        let signal = process.exit_signal.load(Relaxed);
        let info = SigInfo { signo: signal as i32, ..end_info(process) };
        let _ = signal::send_process(&parent, info);
    }
    if reaped || wish.unwanted && process.claim_reap() {
        release(process);
    }
    parent.child_wait.wake_all();
}

/// The siginfo of SIGCHLD for a process that has ended.
pub(crate) fn end_info(process: &Process) -> SigInfo {
    let status = process.exit_status.load(SeqCst);
    match status & 0x7f {
        0 => signal::child_info(process, CLD_EXITED, status >> 8 & 0xff),
        killed => signal::child_info(process, CLD_KILLED, killed),
    }
}

/// Children of one thread of several that ends stay the process's; but for PR_SET_PDEATHSIG their parent has ended.
fn orphan_children_of_thread(process: &Process, thread: &Arc<Thread>, oldest: bool) {
    if !process.tells_death.load(Relaxed) {
        return;
    }
    let was_its = |child: &Arc<Process>| {
        child.asks_death.load(Relaxed)
            && (is_thread(&child.maker, thread) || oldest && wait::maker_has_ended(child, process))
    };
    let children: Vec<_> = pid::read().children(process).filter(was_its).collect();
    for child in &children {
        send_death_signals(child, thread);
    }
}

/// Sends what the threads of a child asked for at the end of its parent `thread`, who must have the right to.
fn send_death_signals(child: &Arc<Process>, thread: &Thread) {
    if !child.asks_death.load(Relaxed) {
        return;
    }
    let cred = thread.cred();
    for asking in child.threads() {
        let signal = asking.death_signal.load(Relaxed);
        if signal != 0 && signal::may_signal_as(&cred, thread.process(), child, signal) {
            let info = SigInfo::user(signal, SI_USER, thread.process().pid(), cred.uid);
            let _ = signal::send_process(child, info);
        }
    }
}

/// Children of a process that ends: they get a new parent, their death signal, and perhaps SIGHUP.
fn orphan_children(process: &Arc<Process>, thread: &Thread) {
    let (children, reaper) = {
        let mut table = pid::write();
        let reaper = find_reaper(&table, process);
        let children: Vec<_> = table.children(process).collect();
        for child in &children {
            table.disown(child);
            table.adopt(child, reaper.as_ref().map_or(0, |r| r.pid()));
        }
        (children, reaper)
    };
    for child in &children {
        send_death_signals(child, thread);
        // A new parent knows only SIGCHLD.
        child.exit_signal.store(SIGCHLD, Relaxed);
        if child.state() == ProcessState::Zombie {
            announce_end(child, false);
        }
        let group = child.group();
        if !Arc::ptr_eq(&group, &process.group()) && jobs::is_orphaned(&group) {
            jobs::hang_up_if_stopped(&group);
        }
    }
    if let Some(reaper) = reaper {
        reaper.child_wait.wake_all();
    }
}

/// The nearest living ancestor that asked for orphans (PR_SET_CHILD_SUBREAPER), else init.
fn find_reaper(table: &pid::Table, process: &Arc<Process>) -> Option<Arc<Process>> {
    let mut at = table.parent_of(process);
    while let Some(ancestor) = at {
        if ancestor.child_subreaper.load(Relaxed) && ancestor.thread_count() > 0 {
            return Some(ancestor);
        }
        at = table.parent_of(&ancestor);
    }
    const INIT: Pid = 1;
    table.find(INIT)
}

/// A process that was waited for, or that nobody waits for, leaves the table: its number is free.
pub(crate) fn release(process: &Arc<Process>) {
    process.set_state(ProcessState::Reaped);
    let gone = pid::write().remove_process(process);
    drop(gone);
    process.uncharge_thread();
}

impl ProcessSignals {
    /// A thread ends while its process is being stopped: true when that completes the stop.
    pub fn leave_stop(&mut self, thread: &Thread) -> bool {
        signal::leave_stop(thread, self)
    }
}
