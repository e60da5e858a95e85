//! The tracee's side: where it stops, and how it goes on.

use super::{Kind, Mode, Stop};
use crate::Ctx;
use crate::process::Process;
use crate::signal::{self, SigInfo};
use crate::thread::{Thread, work};
use abi::ptrace::*;
use abi::signal::{CLD_TRAPPED, SI_USER, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP};
use alloc::boxed::Box;
use alloc::sync::Arc;
use task::State;

/// What ends a stop besides the tracer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Any fatal signal.
    Exit,
    /// Only SIGKILL: the thread is ending already.
    Kill,
}

/// Stops for the tracer. The stop as the tracer left it; `None` when nobody traces any more.
fn stop(ctx: &mut Ctx, kind: Kind, code: i32, info: SigInfo, until: Until) -> Option<Box<Stop>> {
    if until == Until::Exit && ctx.thread.work() & work::EXIT != 0 {
        return None;
    }
    let call = matches!(kind, Kind::CallEntry | Kind::CallExit)
        .then(|| (ctx.user.syscall_nr(), ctx.user.syscall_args()));
    let stop = Box::new(Stop {
        kind,
        code,
        unreported: true,
        info,
        words: ctx.user.ptrace_regs(),
        float: arch::signal::float_regs(),
        extended: arch::signal::extended_regs(),
        debug: arch::debug::current(),
        words_changed: false,
        float_changed: false,
        extended_changed: false,
        debug_changed: false,
        call,
        signal: 0,
        resumed: false,
    });
    let tracer = {
        let mut trace = ctx.thread.trace.lock();
        let traced = trace.as_mut()?;
        let tracer = traced.tracer.upgrade()?;
        traced.listening = false;
        traced.stop = Some(stop);
        tracer
    };
    tell(tracer.process(), ctx.thread, code);
    sleep(ctx.thread, until);
    go_on(ctx)
}

/// SIGCHLD for the tracer, and its wait(2) looks.
fn tell(tracer: &Arc<Process>, thread: &Thread, code: i32) {
    let wants = {
        let action = tracer.signals.lock().handlers.get(SIGCHLD);
        action.handler != abi::signal::SIG_IGN && action.flags & abi::signal::SA_NOCLDSTOP == 0
    };
    if wants {
        let info = SigInfo { fields: child_fields(thread, code), ..SigInfo::kernel(SIGCHLD) };
        let _ = signal::send_process(tracer, SigInfo { code: CLD_TRAPPED, ..info });
    }
    tracer.child_wait.wake_all();
}

fn child_fields(thread: &Thread, code: i32) -> [u64; 4] {
    let uid = u64::from(thread.cred().uid);
    [u64::from(thread.tid()) | uid << 32, u64::from((code & 0x7f) as u32), 0, 0]
}

fn sleep(thread: &Thread, until: Until) {
    let task = task::current();
    loop {
        task.announce(State::Traced);
        let resumed = thread.trace.lock().as_ref().is_none_or(|t| t.stop.as_ref().is_none_or(|s| s.resumed));
        let ends = thread.work() & work::EXIT != 0 && (until == Until::Exit || is_killed(thread));
        if resumed || ends {
            break;
        }
        task::schedule();
    }
    task.set_running();
}

fn is_killed(thread: &Thread) -> bool {
    thread.process().signals.lock().exit == Some(SIGKILL as i32)
}

/// Takes back what the tracer has changed.
fn go_on(ctx: &mut Ctx) -> Option<Box<Stop>> {
    let (stop, mode) = {
        let mut trace = ctx.thread.trace.lock();
        let traced = trace.as_mut()?;
        let stop = traced.stop.take()?;
        let mode = traced.mode;
        if !ctx.thread.is_ptraced() {
            *trace = None;
        }
        (stop, mode)
    };
    if stop.words_changed {
        ctx.user.set_ptrace_regs(&stop.words);
    }
    if stop.float_changed {
        arch::signal::set_float_regs(&stop.float);
    }
    if stop.extended_changed {
        arch::signal::set_extended_regs(&stop.extended);
    }
    if stop.debug_changed {
        arch::debug::set_current(&stop.debug);
    }
    ctx.user.set_single_step(mode == Mode::Step);
    ctx.thread.add_work(work::TRACE);
    Some(stop)
}

/// Whether the thread must look whether a stop is wanted.
pub(crate) fn is_stopping(thread: &Thread) -> bool {
    thread.work() & work::PTRACE != 0
}

// ---- signals ----

/// A signal is about to be delivered: the tracer may take it, change it, or put another in its place. `None`: none is.
pub(crate) fn signal_stop(ctx: &mut Ctx, info: SigInfo) -> Option<SigInfo> {
    let Some(stop) = stop(ctx, Kind::Signal, info.signo, info, Until::Exit) else { return Some(info) };
    let signal = stop.signal;
    if signal == 0 {
        return None;
    }
    let info = if stop.info.signo as u32 == signal {
        stop.info
    } else {
        let tracer = ctx.thread.tracer();
        let (pid, uid) = tracer.map_or((0, 0), |t| (t.tid(), t.cred().uid));
        SigInfo::user(signal, SI_USER, pid, uid)
    };
    if ctx.thread.blocked().contains(signal) {
        // Another signal than the one that was deliverable: it waits like any other.
        let _ = signal::send_thread(ctx.thread, info);
        return None;
    }
    Some(info)
}

/// The process stops, and this traced thread with it.
pub(crate) fn group_stop(ctx: &mut Ctx, signal: u32) {
    let seized = ctx.thread.trace.lock().as_ref().is_some_and(|traced| traced.seized);
    let code = if seized { signal as i32 | (PTRACE_EVENT_STOP as i32) << 8 } else { signal as i32 };
    let info = SigInfo { code, ..SigInfo::kernel(signal) };
    stop(ctx, Kind::Group, code, info, Until::Exit);
}

/// PTRACE_INTERRUPT, or a change that the tracer wants to see.
pub(crate) fn interrupted(ctx: &mut Ctx) {
    ctx.thread.take_work(work::PTRACE);
    let wanted = {
        let mut trace = ctx.thread.trace.lock();
        trace.as_mut().map(|traced| (core::mem::take(&mut traced.wants_stop), traced.seized))
    };
    let Some((true, seized)) = wanted else { return };
    let group = ctx.process.signals.lock().stop.signal;
    if !seized {
        // Attached to while its process was stopped.
        return group_stop(ctx, if group == 0 { SIGSTOP } else { group });
    }
    group_stop(ctx, if group == 0 { SIGTRAP } else { group });
}

/// SIGCONT came: a seized tracee tells of it, at once if it listens, else when it goes on or begins to listen.
pub(crate) fn continued(thread: &Thread) {
    if !thread.is_ptraced() {
        return;
    }
    let mut trace = thread.trace.lock();
    let Some(traced) = trace.as_mut().filter(|traced| traced.seized) else { return };
    traced.wants_stop = true;
    let listening = traced.listening;
    if let Some(stop) = traced.stop.as_mut().filter(|_| listening) {
        stop.resumed = true;
    }
    drop(trace);
    thread.interrupt(work::PTRACE, false);
    super::attach::wake(thread);
}

// ---- system calls ----

fn call_code(ctx: &Ctx) -> Option<i32> {
    let trace = ctx.thread.trace.lock();
    let traced = trace.as_ref().filter(|traced| traced.mode == Mode::Calls)?;
    let good = traced.options & PTRACE_O_TRACESYSGOOD != 0;
    Some(SIGTRAP as i32 | if good { 0x80 } else { 0 })
}

fn call_stop(ctx: &mut Ctx, kind: Kind) {
    if !ctx.thread.is_ptraced() {
        return;
    }
    let Some(code) = call_code(ctx) else { return };
    let info = SigInfo { code, ..SigInfo::kernel(SIGTRAP) };
    if let Some(stop) = stop(ctx, kind, code, info, Until::Exit)
        && stop.signal != 0
    {
        let info = SigInfo::user(stop.signal, SI_USER, ctx.process.pid(), ctx.cred().uid);
        let _ = signal::send_thread(ctx.thread, info);
    }
}

/// Before a system call is made. The tracer may have changed number and arguments.
pub fn call_enter(ctx: &mut Ctx) {
    if ctx.thread.shows_calls() {
        ctx.user.show_call_entry();
        call_stop(ctx, Kind::CallEntry);
    }
}

/// After it, with the result in its register.
pub fn call_exit(ctx: &mut Ctx) {
    call_stop(ctx, Kind::CallExit);
}

// ---- events ----

/// Stops for an event if the tracer asked for it; whether it did.
pub(crate) fn event(ctx: &mut Ctx, event: u32, message: u64) -> bool {
    event_until(ctx, event, message, Until::Exit)
}

fn event_until(ctx: &mut Ctx, event: u32, message: u64, until: Until) -> bool {
    if !ctx.thread.is_ptraced() {
        return false;
    }
    {
        let mut trace = ctx.thread.trace.lock();
        let Some(traced) = trace.as_mut().filter(|traced| traced.options & 1 << event != 0) else {
            return false;
        };
        traced.message = message;
    }
    let code = SIGTRAP as i32 | (event as i32) << 8;
    let info = SigInfo { code, ..SigInfo::kernel(SIGTRAP) };
    stop(ctx, Kind::Event, code, info, until);
    true
}

/// The event that making a child with these flags is; whether the tracer wants it, so that the child is traced, too.
pub(crate) fn forked(thread: &Thread, vfork: bool, fork: bool) -> Option<u32> {
    if !thread.is_ptraced() {
        return None;
    }
    let event = match (vfork, fork) {
        (true, _) => PTRACE_EVENT_VFORK,
        (_, true) => PTRACE_EVENT_FORK,
        _ => PTRACE_EVENT_CLONE,
    };
    let options = thread.trace.lock().as_ref()?.options;
    (options & 1 << event != 0).then_some(event)
}

/// The thread runs another program: the tracer is told by an event or, of old, by a SIGTRAP.
pub(crate) fn exec_done(ctx: &mut Ctx, old_tid: crate::Pid) {
    if !ctx.thread.is_ptraced() || event(ctx, PTRACE_EVENT_EXEC, old_tid.into()) {
        return;
    }
    let seized = ctx.thread.trace.lock().as_ref().is_none_or(|traced| traced.seized);
    if !seized {
        let info = SigInfo::user(SIGTRAP, SI_USER, ctx.process.pid(), ctx.cred().uid);
        let _ = signal::send_thread(ctx.thread, info);
    }
}

/// The thread is about to end with `status`.
pub(crate) fn exit_event(ctx: &mut Ctx, status: i32) {
    if ctx.thread.is_ptraced() && !is_killed(ctx.thread) {
        event_until(ctx, PTRACE_EVENT_EXIT, status as u64, Until::Kill);
    }
}
