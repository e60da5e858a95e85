//! The point of no return: the process becomes the new program.

use super::creds::NewCred;
use super::load::Program;
use crate::signal::Handlers;
use crate::thread::work;
use crate::{Ctx, Result, pid};
use abi::Errno;
use abi::process::PER_CLEAR_ON_SETID;
use abi::signal::SIGCHLD;
use alloc::sync::Arc;
use arch::user::UserContext;
use core::sync::atomic::Ordering::Relaxed;
use task::WaitMode;
use vm::AddressSpace;

/// Replaces the program. After the other threads are gone nothing fails.
pub(super) fn replace(ctx: &mut Ctx, program: Program, cred: NewCred, called: &[u8]) -> Result<()> {
    let files = if Arc::strong_count(ctx.files_arc()) > 2 { Some(ctx.files().duplicate()?) } else { None };
    let old_tid = ctx.thread.tid();
    end_other_threads(ctx)?;
    crate::futex::exit_robust_list(ctx.thread, ctx.mm());
    crate::futex::pi::thread_execs(ctx.thread);
    if let Some(files) = files {
        ctx.set_files(files);
    }
    switch_memory(ctx, program.mm.clone());
    reset_process(ctx, &cred);
    let old_cred = ctx.cred().clone();
    ctx.set_cred(cred.cred.clone());
    ctx.process.dumpable.store(u32::from(!cred.secure && old_cred.euid == cred.cred.euid), Relaxed);
    ctx.process.sigreturn.store(program.sigreturn, Relaxed);
    ctx.thread.set_comm(base_name(called));
    ctx.files().close_on_exec();
    *ctx.user = UserContext::new(program.entry, program.sp);
    arch::context::reset_user();
    drop(program.file);
    if let Some(vfork) = ctx.local.vfork.take() {
        vfork.complete();
    }
    crate::ptrace::exec_done(ctx, old_tid);
    Ok(())
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

/// Ends every other thread of the process and waits for that. EAGAIN when the process is ending.
fn end_other_threads(ctx: &mut Ctx) -> Result<()> {
    let process = ctx.process;
    let me = ctx.thread;
    {
        let mut signals = process.signals.lock();
        if signals.exit.is_some() || signals.exec_by.is_some() {
            return Err(Errno::EAGAIN);
        }
        if signals.threads.len() > 1 {
            signals.exec_by = Some(me.clone());
            for thread in signals.threads.iter().filter(|t| !Arc::ptr_eq(t, me)) {
                thread.interrupt(work::EXIT, true);
            }
        }
    }
    let alone = || (process.thread_count() == 1).then_some(());
    let waited = process.thread_wait.wait_until(WaitMode::Killable, None, alone);
    let mut signals = process.signals.lock();
    signals.exec_by = None;
    signals.leader_status = None;
    if waited.is_err() {
        return Err(Errno::EAGAIN);
    }
    drop(signals);
    if !me.is_leader() {
        pid::write().take_leader_number(me);
        // It stands for the leader now, whose charge the process still holds.
        process.uncharge_thread();
    }
    Ok(())
}

/// The new space becomes the thread's and the process's; the old one goes when nobody uses it.
fn switch_memory(ctx: &mut Ctx, mm: Arc<AddressSpace>) {
    crate::usage::note_peak(ctx.process, ctx.mm().resident().1);
    ctx.mm().release_concurrency_id(&task::current());
    let table = task::current().set_table(Some(mm.table().clone()));
    let old = core::mem::replace(&mut ctx.local.mm, mm.clone());
    ctx.process.set_mm(Some(mm));
    drop(table);
    drop(old);
}

/// Everything that execve(2) lists as not preserved.
fn reset_process(ctx: &mut Ctx, cred: &NewCred) {
    let process = ctx.process;
    let shared = {
        let signals = process.signals.lock();
        Arc::strong_count(&signals.handlers) > 1
    };
    if shared {
        let own = Handlers::fork(&process.signals.lock().handlers.clone());
        process.signals.lock().handlers = own;
    }
    process.signals.lock().handlers.clone().reset_caught();
    process.timers.exec();
    process.did_exec.store(true, Relaxed);
    process.exit_signal.store(SIGCHLD, Relaxed);
    if cred.secure {
        process.personality.fetch_and(!PER_CLEAR_ON_SETID, Relaxed);
        ctx.thread.death_signal.store(0, Relaxed);
    }
    ctx.local.alt_stack = Default::default();
    ctx.local.clear_child_tid = 0;
    ctx.local.restart = None;
    ctx.local.rseq = Default::default();
    ctx.thread.robust_list.store(0, Relaxed);
}
