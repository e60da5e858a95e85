//! The point of no return: the process becomes the new program.

use super::creds::NewCred;
use super::load::Program;
use super::{Request, Strings};
use crate::clone::first_membership;
use crate::ctx::Local;
use crate::pid::{self, Reserved};
use crate::process::{NewProcess, Process};
use crate::rlimit::{Limits, UserCounts};
use crate::signal::{Handlers, ProcessSignals};
use crate::thread::{NewThread, Thread, comm_from, work};
use crate::{Ctx, Result, SigSet, user};
use abi::Errno;
use abi::process::PER_CLEAR_ON_SETID;
use abi::signal::SIGCHLD;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::user::UserContext;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use task::{NewTask, WaitMode};
use vfs::{Cred, FileTable, FsContext};
use vm::AddressSpace;

/// Replaces the program. After the other threads are gone nothing fails.
pub(super) fn replace(ctx: &mut Ctx, program: Program, cred: NewCred, called: &[u8]) -> Result<()> {
    let files = if Arc::strong_count(ctx.files_arc()) > 2 { Some(ctx.files().duplicate()?) } else { None };
    end_other_threads(ctx)?;
    crate::futex::exit_robust_list(ctx.thread, ctx.mm());
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
    }
    Ok(())
}

/// The new space becomes the thread's and the process's; the old one goes when nobody uses it.
fn switch_memory(ctx: &mut Ctx, mm: Arc<AddressSpace>) {
    crate::usage::note_peak(ctx.process, ctx.mm().resident().1);
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
        process.death_signal.store(0, Relaxed);
    }
    ctx.local.alt_stack = Default::default();
    ctx.local.clear_child_tid = 0;
    ctx.local.restart = None;
    ctx.thread.robust_list.store(0, Relaxed);
}

// ---- the first process ----

/// Makes process 1 and starts the first of `programs` that can be run. Called by the boot thread, which goes
/// on as a kernel thread; returns when the program has started. The error of the last program if none could.
pub fn start_init(programs: Vec<Vec<u8>>, argv: Strings, envp: Strings, fs: Arc<FsContext>, files: Arc<FileTable>) -> Result<()> {
    let number = Reserved::take()?;
    let cred = Cred::root();
    let mm = AddressSpace::new()?;
    let counts = UserCounts::of(0);
    counts.add_thread();
    let process = Process::new(NewProcess {
        pid: number.number(),
        is_kernel: false,
        membership: first_membership(number.number()),
        signals: ProcessSignals::new(Handlers::new()),
        exit_signal: 0,
        mm: Some(mm.clone()),
        limits: Limits::initial(mem::total_bytes() as u64),
        counts,
    });
    let thread = Thread::new(NewThread {
        tid: number.number(),
        process: process.clone(),
        cred: cred.clone(),
        files: Some(files.clone()),
        fs: Some(fs.clone()),
        blocked: SigSet::EMPTY,
        comm: comm_from(b"init"),
    });
    let table = mm.table().clone();
    let local = Local {
        mm,
        files,
        fs,
        cred,
        restart: None,
        saved_mask: None,
        alt_stack: Default::default(),
        clear_child_tid: 0,
        vfork: None,
        keep_result: false,
        exit: None,
    };
    let body = thread.clone();
    let task = NewTask {
        name: "init".into(),
        body: Box::new(move || {
            let registers = UserContext::new(0, 0);
            user::run(body, registers, local, move |ctx| run_first(ctx, &programs, &argv, &envp));
        }),
        payload: Some(thread.clone()),
        table: Some(table),
        fork_registers: false,
    }
    .create()?;
    thread.set_task(&task);
    process.signals.lock().threads.push(thread.clone());
    process.thread_count.store(1, SeqCst);
    {
        let mut table = pid::write();
        table.insert_thread(&thread);
        table.insert_process(&process, 0);
    }
    task.wake();
    Ok(())
}

fn run_first(ctx: &mut Ctx, programs: &[Vec<u8>], argv: &Strings, envp: &Strings) {
    for program in programs {
        match try_first(ctx, program, argv.clone(), envp.clone()) {
            Ok(()) => return,
            Err(Errno::ENOENT) => {}
            Err(errno) => klog::pr_err!("{} exists but could not be run: {errno}", alloc::string::String::from_utf8_lossy(program)),
        }
    }
    panic!("No working init found. Try passing init= option to kernel.");
}

fn try_first(ctx: &mut Ctx, program: &[u8], mut argv: Strings, envp: Strings) -> Result<()> {
    if argv.count() == 0 {
        argv.push(program);
    } else {
        argv.replace_first(&[program]);
    }
    let file = super::load::open_kernel_named(ctx, program)?;
    let request = Request { file, name: program.to_vec(), unreachable: false, argv, envp };
    super::exec(ctx, request)
}
