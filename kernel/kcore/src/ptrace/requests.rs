//! The tracer's side: looking at a tracee that has stopped, and letting it go on.

use super::{Mode, Stop, Traced, WORDS, attach, is_thread};
use crate::signal::{SigInfo, SigSet};
use crate::thread::Thread;
use crate::{Ctx, Result};
use abi::Errno;
use abi::signal::SIGNAL_MAX;
use alloc::sync::Arc;

/// How PTRACE_CONT and its kin let a tracee go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    Continue,
    /// Until the next system call begins or ends.
    Calls,
    /// One instruction. EIO where the processor cannot.
    Step,
    /// For good.
    Detach,
}

/// Looks at the tracing of a thread by the caller, stopped or not. ESRCH when it is not traced by it.
fn with_traced<R>(ctx: &Ctx, thread: &Thread, look: impl FnOnce(&mut Traced) -> Result<R>) -> Result<R> {
    let mut trace = thread.trace.lock();
    let traced = trace.as_mut().ok_or(Errno::ESRCH)?;
    if is_thread(&traced.tracer, ctx.thread) { look(traced) } else { Err(Errno::ESRCH) }
}

/// Looks at a tracee that has stopped. ESRCH when it has not.
pub fn with_stop<R>(ctx: &Ctx, thread: &Thread, look: impl FnOnce(&Stop) -> Result<R>) -> Result<R> {
    with_stop_mut(ctx, thread, |stop| look(stop))
}

/// As [`with_stop`], to change something.
pub fn with_stop_mut<R>(ctx: &Ctx, thread: &Thread, look: impl FnOnce(&mut Stop) -> Result<R>) -> Result<R> {
    with_traced(ctx, thread, |traced| {
        let listening = traced.listening;
        let stop = traced.stop.as_mut().filter(|stop| !stop.resumed && !listening).ok_or(Errno::ESRCH)?;
        look(stop)
    })
}

/// The general registers of a stopped tracee.
pub fn regs(ctx: &Ctx, thread: &Thread) -> Result<[u64; WORDS]> {
    with_stop(ctx, thread, |stop| Ok(stop.words))
}

/// PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP, PTRACE_DETACH, with a signal or 0. EIO for a signal that is none.
pub fn resume(ctx: &Ctx, thread: &Arc<Thread>, how: Resume, signal: usize) -> Result<()> {
    let signal = u32::try_from(signal).ok().filter(|&signal| signal <= SIGNAL_MAX).ok_or(Errno::EIO)?;
    if how == Resume::Step && !can_step(ctx) {
        return Err(Errno::EIO);
    }
    with_stop(ctx, thread, |_| Ok(()))?;
    if how == Resume::Detach {
        attach::unlink(thread, signal);
        forget(ctx, thread);
        return Ok(());
    }
    with_traced(ctx, thread, |traced| {
        traced.mode = match how {
            Resume::Calls => Mode::Calls,
            Resume::Step => Mode::Step,
            Resume::Continue | Resume::Detach => Mode::Run,
        };
        let stop = traced.stop.as_mut().ok_or(Errno::ESRCH)?;
        stop.signal = signal;
        stop.resumed = true;
        Ok(())
    })?;
    attach::wake(thread);
    Ok(())
}

/// Asked of a copy, so that the caller's own registers stay.
fn can_step(ctx: &Ctx) -> bool {
    ctx.user.clone().set_single_step(true)
}

fn forget(ctx: &Ctx, thread: &Arc<Thread>) {
    ctx.process.tracing.lock().tracees.retain(|tracee| !is_thread(&tracee.thread, thread));
}

/// PTRACE_LISTEN: a seized tracee in a group stop stays there and tells of SIGCONT. EIO elsewhere.
pub fn listen(ctx: &Ctx, thread: &Thread) -> Result<()> {
    let again = with_traced(ctx, thread, |traced| {
        let grouped = traced.stop.as_mut().filter(|stop| stop.kind == super::Kind::Group && !stop.resumed);
        let stop = grouped.filter(|_| traced.seized).ok_or(Errno::EIO)?;
        traced.listening = true;
        // What it would listen for happened while it was looked at.
        stop.resumed = traced.wants_stop;
        Ok(traced.wants_stop)
    })?;
    if again {
        attach::wake(thread);
    }
    Ok(())
}

/// PTRACE_SETOPTIONS. EINVAL.
pub fn set_options(ctx: &Ctx, thread: &Thread, options: usize) -> Result<()> {
    let options = attach::check_options(options)?;
    with_stop(ctx, thread, |_| Ok(()))?;
    with_traced(ctx, thread, |traced| {
        traced.options = options;
        Ok(())
    })
}

/// PTRACE_GETEVENTMSG.
pub fn event_message(ctx: &Ctx, thread: &Thread) -> Result<u64> {
    with_stop(ctx, thread, |_| Ok(()))?;
    with_traced(ctx, thread, |traced| Ok(traced.message))
}

/// PTRACE_GETSIGINFO; with a new one, PTRACE_SETSIGINFO.
pub fn signal_info(ctx: &Ctx, thread: &Thread, new: Option<SigInfo>) -> Result<SigInfo> {
    with_stop_mut(ctx, thread, |stop| {
        if stop.kind == super::Kind::Group {
            return Err(Errno::EINVAL);
        }
        let old = stop.info;
        if let Some(new) = new {
            stop.info = new;
        }
        Ok(old)
    })
}

/// PTRACE_GETSIGMASK; with a new one, PTRACE_SETSIGMASK.
pub fn signal_mask(ctx: &Ctx, thread: &Thread, new: Option<SigSet>) -> Result<SigSet> {
    with_stop(ctx, thread, |_| Ok(()))?;
    let old = thread.blocked();
    if let Some(new) = new {
        thread.set_blocked_of_stopped(new);
    }
    Ok(old)
}
