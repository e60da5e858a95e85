//! Beginning and ending.

use super::{Mode, Traced, Tracee, is_thread};
use crate::signal::{self, SigInfo};
use crate::thread::{Thread, work};
use crate::{Ctx, Result, creds, wait};
use abi::Errno;
use abi::ptrace::*;
use abi::signal::{SIGKILL, SIGSTOP};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;

/// Options that exist here.
const OPTIONS: u32 = PTRACE_O_TRACESYSGOOD
    | PTRACE_O_TRACEFORK
    | PTRACE_O_TRACEVFORK
    | PTRACE_O_TRACECLONE
    | PTRACE_O_TRACEEXEC
    | PTRACE_O_TRACEVFORKDONE
    | PTRACE_O_TRACEEXIT
    | PTRACE_O_EXITKILL;

/// EINVAL for options that do not exist.
pub(super) fn check_options(options: usize) -> Result<u32> {
    u32::try_from(options).ok().filter(|options| options & !OPTIONS == 0).ok_or(Errno::EINVAL)
}

/// Makes `tracer` the thread's tracer. EPERM when it has one, ESRCH when `tracer` ends.
fn link(tracer: &Arc<Thread>, thread: &Arc<Thread>, seized: bool, options: u32) -> Result<()> {
    let mut traced = Box::new(Traced {
        tracer: Arc::downgrade(tracer),
        seized,
        options,
        message: 0,
        mode: Mode::Run,
        listening: false,
        wants_stop: false,
        stop: None,
    });
    {
        let mut trace = thread.trace.lock();
        if thread.is_ptraced() {
            drop(trace);
            return Err(Errno::EPERM);
        }
        // Just detached, it may not have taken its registers back yet.
        traced.stop = trace.take().and_then(|old| old.stop);
        *trace = Some(traced);
        thread.ptraced.store(true, SeqCst);
    }
    // The thread is marked first: a tracer that ends frees whom it finds in the list.
    enlist(tracer, thread).inspect_err(|_| unlink(thread, 0))
}

/// Puts the thread into the list of its tracer's process. ESRCH when the tracer ends: the list was looked through,
/// or will be, after `exiting` was set.
fn enlist(tracer: &Arc<Thread>, thread: &Arc<Thread>) -> Result<()> {
    let mut tracing = tracer.process().tracing.lock();
    if tracer.exiting.load(SeqCst) {
        return Err(Errno::ESRCH);
    }
    tracing.tracees.retain(|tracee| tracee.thread.strong_count() > 0);
    tracing.tracees.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    tracing.tracees.push(Tracee { tracer: Arc::downgrade(tracer), thread: Arc::downgrade(thread) });
    Ok(())
}

/// PTRACE_TRACEME: the thread of the parent that made the caller's process traces the caller. EPERM when somebody
/// does. A parent that ends is no tracer, and that is no error.
pub fn trace_me(ctx: &mut Ctx) -> Result<()> {
    if ctx.thread.is_ptraced() {
        return Err(Errno::EPERM);
    }
    let Some(tracer) = wait::parent_thread(ctx.process) else { return Ok(()) };
    match link(&tracer, ctx.thread, false, 0) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

fn check_target(ctx: &Ctx, thread: &Arc<Thread>) -> Result<()> {
    let process = thread.process();
    if Arc::ptr_eq(process, ctx.process) || process.is_kernel || !creds::may_trace(ctx, thread) {
        return Err(Errno::EPERM);
    }
    if thread.exiting.load(SeqCst) { Err(Errno::ESRCH) } else { Ok(()) }
}

/// PTRACE_ATTACH: traces a thread and stops it.
pub fn attach(ctx: &mut Ctx, thread: &Arc<Thread>) -> Result<()> {
    check_target(ctx, thread)?;
    link(ctx.thread, thread, false, 0)?;
    signal::send_thread(thread, SigInfo::kernel(SIGSTOP))?;
    wake_from_group_stop(thread);
    Ok(())
}

/// PTRACE_SEIZE: traces a thread and lets it run.
pub fn seize(ctx: &mut Ctx, thread: &Arc<Thread>, address: usize, options: usize) -> Result<()> {
    if address != 0 {
        return Err(Errno::EIO);
    }
    let options = check_options(options).map_err(|_| Errno::EIO)?;
    check_target(ctx, thread)?;
    link(ctx.thread, thread, true, options)?;
    wake_from_group_stop(thread);
    Ok(())
}

/// A thread that sleeps in a stop of its process stops again, as a tracee.
fn wake_from_group_stop(thread: &Arc<Thread>) {
    if thread.stopped.load(SeqCst) {
        if let Some(traced) = thread.trace.lock().as_mut() {
            traced.wants_stop = true;
        }
        thread.interrupt(work::PTRACE, false);
        thread.stopped.store(false, SeqCst);
        if let Some(task) = thread.task() {
            task.wake_from(|state| state == task::State::Stopped);
        }
    }
}

/// PTRACE_INTERRUPT: stops a seized thread soon. EIO for one that was attached.
pub fn interrupt(thread: &Arc<Thread>) -> Result<()> {
    let mut trace = thread.trace.lock();
    let traced = trace.as_mut().ok_or(Errno::ESRCH)?;
    if !traced.seized {
        return Err(Errno::EIO);
    }
    traced.wants_stop = true;
    if traced.listening
        && let Some(stop) = &mut traced.stop
    {
        stop.resumed = true;
    }
    drop(trace);
    thread.interrupt(work::PTRACE, false);
    wake(thread);
    Ok(())
}

/// Wakes a tracee out of its stop, to look at its state.
pub(super) fn wake(thread: &Thread) {
    if let Some(task) = thread.task() {
        task.wake_from(|state| state == task::State::Traced);
    }
}

/// A child of a tracee whose tracer follows forks: traced from the beginning, and stopped before it runs.
pub(crate) fn auto_attach(parent: &Thread, child: &Arc<Thread>) {
    let Some((tracer, seized, options)) = parent
        .trace
        .lock()
        .as_ref()
        .and_then(|traced| Some((traced.tracer.upgrade()?, traced.seized, traced.options)))
    else {
        return;
    };
    if link(&tracer, child, seized, options).is_err() {
        return;
    }
    if seized {
        if let Some(traced) = child.trace.lock().as_mut() {
            traced.wants_stop = true;
        }
        child.add_work(work::PTRACE);
    } else {
        let _ = signal::send_thread(child, SigInfo::kernel(SIGSTOP));
    }
}

/// Ends the tracing of a thread, which goes on with `signal`.
pub(super) fn unlink(thread: &Arc<Thread>, signal: u32) {
    {
        let mut trace = thread.trace.lock();
        thread.ptraced.store(false, SeqCst);
        if let Some(traced) = trace.as_mut() {
            traced.mode = Mode::Run;
            if let Some(stop) = &mut traced.stop {
                // The thread takes its registers out of the stop and ends the rest itself.
                stop.signal = signal;
                stop.resumed = true;
                traced.tracer = alloc::sync::Weak::new();
            } else {
                *trace = None;
            }
        }
    }
    thread.add_work(work::TRACE);
    wake(thread);
}

/// A thread ends: those it traced are free, or die with it, and what it was to be told is forgotten.
pub(crate) fn end_tracer(tracer: &Arc<Thread>) {
    let process = tracer.process();
    loop {
        let tracee = {
            let mut tracing = process.tracing.lock();
            tracing.ends.retain(|end| !is_thread(&end.tracer, tracer));
            let at = tracing.tracees.iter().position(|tracee| is_thread(&tracee.tracer, tracer));
            let Some(at) = at else { return };
            tracing.tracees.remove(at)
        };
        if let Some(thread) = tracee.thread.upgrade() {
            free(&thread, tracer);
        }
    }
}

/// Ends the tracing of a thread whose tracer ends.
fn free(thread: &Arc<Thread>, tracer: &Arc<Thread>) {
    let kills = {
        let trace = thread.trace.lock();
        let Some(traced) = trace.as_ref().filter(|traced| is_thread(&traced.tracer, tracer)) else { return };
        traced.options & PTRACE_O_EXITKILL != 0
    };
    unlink(thread, 0);
    if kills {
        let _ = signal::send_process(thread.process(), SigInfo::kernel(SIGKILL));
    }
}
