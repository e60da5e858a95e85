//! Delivering: what happens between a system call or trap and the way back to user mode.

use super::{Action, DEFAULT_IGNORED, DEFAULT_STOPS, SYNCHRONOUS, SigInfo, SigSet, stop};
use crate::process::Process;
use crate::thread::{Thread, work};
use crate::{Ctx, Result, jobs, park, ptrace, rseq, timers};
use abi::Errno;
use abi::process::NR_RESTART_SYSCALL;
use abi::signal::{
    MINSIGSTKSZ, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SI_TIMER, SIG_DFL, SIG_IGN, SIGKILL,
    SIGSEGV, SIGSTOP, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK,
};
use alloc::sync::Arc;
use arch::Fault;
use arch::sigframe::{AltStack, FrameRequest};
use core::sync::atomic::Ordering::SeqCst;

/// Whether the thread goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Continue,
    /// It ends with this status, as wait(2) encodes it.
    Exit(i32),
}

/// Everything that has to be done before the thread returns to user mode. `call` is the system call that
/// it comes from and its restart code, when that call is to be restarted.
pub(crate) fn deliver(ctx: &mut Ctx, mut call: Option<(usize, Errno)>) -> Outcome {
    loop {
        if ctx.thread.work() & work::EXIT != 0 {
            let status = exit_status(ctx);
            ptrace::exit_event(ctx, status);
            return Outcome::Exit(exit_status(ctx));
        }
        if ctx.thread.work() & work::PARK != 0 {
            park::stand(ctx.thread);
            continue;
        }
        if ctx.thread.work() & work::STOP != 0 {
            if !ctx.thread.is_ptraced() {
                stop::take_part(ctx.thread);
            } else if let Some(signal) = stop::take_part_traced(ctx.thread) {
                ptrace::group_stop(ctx, signal);
            }
            continue;
        }
        if ptrace::is_stopping(ctx.thread) {
            ptrace::interrupted(ctx);
            continue;
        }
        let Some(info) = next(ctx.thread) else { break };
        let Some(info) = show_tracer(ctx, info, &mut call) else { continue };
        let action = action_of(ctx.thread, info.signo as u32);
        match action.handler {
            SIG_IGN => {}
            SIG_DFL => default_action(ctx, &info),
            _ => {
                restart_under_handler(ctx, call.take(), &action);
                handle(ctx, &info, &action);
            }
        }
    }
    restart(ctx, call);
    if ctx.thread.take_work(work::RESTORE_MASK)
        && let Some(mask) = ctx.local.saved_mask.take()
    {
        ctx.thread.set_blocked(mask);
    }
    ctx.thread.recalculate();
    Outcome::Continue
}

fn exit_status(ctx: &Ctx) -> i32 {
    let shared = ctx.process.signals.lock().exit;
    shared.or(ctx.local.exit).unwrap_or(0)
}

/// Takes the next deliverable signal.
fn next(thread: &Thread) -> Option<SigInfo> {
    let wanted = !thread.blocked();
    // Most looks are the last one, after the signal: it needs no lock. Who sends meanwhile publishes before it
    // marks the thread's work, which is looked at once more.
    if ((thread.pending_set() | thread.process().shared_pending()) & wanted).is_empty() {
        return None;
    }
    take(thread, wanted)
}

/// The tracer, if there is one, sees a signal before it is delivered; it may change everything.
fn show_tracer(ctx: &mut Ctx, info: SigInfo, call: &mut Option<(usize, Errno)>) -> Option<SigInfo> {
    if !ctx.thread.is_ptraced() || info.signo as u32 == SIGKILL {
        return Some(info);
    }
    let info = ptrace::signal_stop(ctx, info);
    // A debugger that runs something else first says so by taking the call's number or result away.
    if !crate::user::is_restart_code(ctx.user.return_value()) || ctx.user.syscall_nr() == usize::MAX {
        *call = None;
    }
    info
}

/// What to do about a signal that is taken.
fn action_of(thread: &Arc<Thread>, signal: u32) -> Action {
    let signals = thread.process().signals.lock();
    let handlers = &signals.handlers;
    let action = handlers.get(signal);
    if action.flags & SA_RESETHAND != 0 && action.handler != SIG_IGN && action.handler != SIG_DFL {
        handlers.set(signal, Action { handler: SIG_DFL, ..action });
    }
    action
}

/// Takes a pending signal of `wanted`: the thread's own before the process's, faults before all.
pub(crate) fn take(thread: &Thread, wanted: SigSet) -> Option<SigInfo> {
    let process = thread.process();
    let mut signals = process.signals.lock();
    let own = {
        let mut pending = thread.pending.lock();
        let info = pending.take(wanted);
        thread.publish_pending(pending.mask());
        info
    };
    let info = own.or_else(|| signals.shared.take(wanted))?;
    process.shared_pending.store(signals.shared.mask().bits(), SeqCst);
    if DEFAULT_STOPS.contains(info.signo as u32) {
        signals.stop.dequeued = true;
    }
    drop(signals);
    if info.code == SI_TIMER {
        timers::signal_taken(process, info).or_else(|| take(thread, wanted))
    } else {
        Some(info)
    }
}

fn default_action(ctx: &mut Ctx, info: &SigInfo) {
    let signal = info.signo as u32;
    if DEFAULT_IGNORED.contains(signal) {
        return;
    }
    if DEFAULT_STOPS.contains(signal) {
        if signal == SIGSTOP || !jobs::is_orphaned(&ctx.process.group()) {
            stop::begin(ctx.process, signal);
        }
        return;
    }
    // Init is spared, except from its own faults.
    if ctx.process.is_init() && !(SYNCHRONOUS.contains(signal) && info.code > 0) {
        return;
    }
    if SYNCHRONOUS.contains(signal) && info.code > 0 {
        report_fault(ctx, info);
    }
    // No core file is written, so the status never says that one was.
    let mut signals = ctx.process.signals.lock();
    super::begin_exit(ctx.process, &mut signals, signal as i32);
}

/// Linux's line about a program that dies of its own fault.
fn report_fault(ctx: &Ctx, info: &SigInfo) {
    klog::pr_info!(
        "{}[{}]: {} at {:#x} ip {:#x} sp {:#x} code {}",
        ctx.thread.comm(),
        ctx.thread.tid(),
        abi::signal::signal_name(info.signo as u32),
        info.si_addr(),
        ctx.user.pc(),
        ctx.user.sp(),
        info.code
    );
}

// ---- restarting the interrupted system call ----

/// No handler runs: the call is made again.
fn restart(ctx: &mut Ctx, call: Option<(usize, Errno)>) {
    let Some((number, code)) = call else { return };
    let number = if code == Errno::ERESTART_RESTARTBLOCK { NR_RESTART_SYSCALL } else { number };
    ctx.user.rewind_syscall(number);
}

/// A handler runs first: SA_RESTART decides, except for the calls that never or always start again.
fn restart_under_handler(ctx: &mut Ctx, call: Option<(usize, Errno)>, action: &Action) {
    let Some((number, code)) = call else { return };
    let again = code == Errno::ERESTARTNOINTR || code == Errno::ERESTARTSYS && action.flags & SA_RESTART != 0;
    if again {
        ctx.user.rewind_syscall(number);
    } else {
        ctx.user.set_return(Errno::EINTR.as_return());
    }
    ctx.local.restart = None;
}

// ---- the frame ----

/// Makes the program run its handler; it dies of SIGSEGV when its stack cannot take the frame.
fn handle(ctx: &mut Ctx, info: &SigInfo, action: &Action) {
    let signal = info.signo as u32;
    let blocked = ctx.thread.blocked();
    ctx.thread.take_work(work::RESTORE_MASK);
    let saved = ctx.local.saved_mask.take().unwrap_or(blocked);
    if rseq::before_handler(ctx).is_err() {
        return frame_failed(ctx, signal);
    }
    let alt = ctx.local.alt_stack;
    let request = FrameRequest {
        signal,
        info: &info.to_user(),
        handler: action.handler,
        restorer: if action.restorer != 0 { action.restorer } else { ctx.process.sigreturn() },
        blocked: saved.bits(),
        alt_stack: alt,
        stack_top: (action.flags & SA_ONSTACK != 0).then(|| alt_top(&alt, ctx.user.sp())).flatten(),
    };
    let mut write = |addr: usize, bytes: &[u8]| mem::user::write(addr, bytes).map_err(|_| Fault);
    if arch::signal::setup_frame(ctx.user, &request, &mut write).is_err() {
        frame_failed(ctx, signal);
        return;
    }
    if alt.flags & SS_AUTODISARM != 0 {
        ctx.local.alt_stack = AltStack { flags: SS_DISABLE, ..AltStack::default() };
    }
    let mut mask = blocked | action.mask;
    if action.flags & SA_NODEFER == 0 {
        mask = mask.with(signal);
    }
    ctx.thread.set_blocked(mask);
}

fn frame_failed(ctx: &mut Ctx, signal: u32) {
    if signal == SIGSEGV {
        ctx.process.signals.lock().handlers.clone().reset(SIGSEGV);
    }
    super::force(ctx.thread, SigInfo::kernel(SIGSEGV));
}

fn is_on(alt: &AltStack, sp: usize) -> bool {
    alt.size != 0 && sp > alt.sp && sp - alt.sp <= alt.size
}

/// Where a frame on the alternate stack starts; `None` when there is none or the thread is on it.
fn alt_top(alt: &AltStack, sp: usize) -> Option<usize> {
    let usable = alt.size != 0 && alt.flags & SS_DISABLE == 0;
    let inside = alt.flags & SS_AUTODISARM == 0 && is_on(alt, sp);
    (usable && !inside).then(|| alt.sp.checked_add(alt.size)).flatten()
}

/// rt_sigreturn(2): puts back what the frame kept. A bad frame kills.
pub fn restore_frame(ctx: &mut Ctx) -> Result<usize> {
    let mut read = |addr: usize, bytes: &mut [u8]| mem::user::read(addr, bytes).map_err(|_| Fault);
    let Ok(restored) = arch::signal::restore_frame(ctx.user, &mut read) else {
        super::force(ctx.thread, SigInfo::kernel(SIGSEGV));
        return Ok(0);
    };
    ctx.local.restart = None;
    ctx.thread.set_blocked(SigSet::from_bits(restored.blocked));
    // As in Linux, a frame with an impossible stack does not fail the return.
    let _ = set_alt_stack(ctx, restored.alt_stack);
    let value = ctx.user.return_value();
    ctx.local.keep_result = crate::user::is_restart_code(value);
    Ok(value as usize)
}

/// sigaltstack(2), the old stack with its present state.
pub fn alt_stack(ctx: &Ctx) -> AltStack {
    let alt = ctx.local.alt_stack;
    let state = if alt.size == 0 {
        SS_DISABLE
    } else if alt.flags & SS_AUTODISARM == 0 && is_on(&alt, ctx.user.sp()) {
        SS_ONSTACK
    } else {
        0
    };
    AltStack { flags: state | alt.flags & SS_AUTODISARM, ..alt }
}

/// sigaltstack(2), the new stack. EPERM on it, EINVAL for flags, ENOMEM when too small.
pub fn set_alt_stack(ctx: &mut Ctx, new: AltStack) -> Result<()> {
    let old = ctx.local.alt_stack;
    if old.flags & SS_AUTODISARM == 0 && is_on(&old, ctx.user.sp()) {
        return Err(Errno::EPERM);
    }
    let mode = new.flags & !SS_AUTODISARM;
    if mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0 {
        return Err(Errno::EINVAL);
    }
    if mode == SS_DISABLE {
        ctx.local.alt_stack = AltStack { flags: new.flags, ..AltStack::default() };
        return Ok(());
    }
    if new.size < MINSIGSTKSZ {
        return Err(Errno::ENOMEM);
    }
    ctx.local.alt_stack = new;
    Ok(())
}

impl Process {
    /// The address of the vDSO's sigreturn code, for architectures whose handlers bring none.
    pub(crate) fn sigreturn(&self) -> usize {
        self.sigreturn.load(SeqCst)
    }
}
