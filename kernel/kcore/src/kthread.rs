//! Kernel threads with a number: they show in /proc under kthreadd (pid 2), as on Linux.
//!
//! The layers below make theirs without knowing of numbers: they are given some when they are made, those made
//! before there were numbers by [`start_kthreadd`].

use crate::clone::first_membership;
use crate::pid::{self, Reserved};
use crate::process::{NewProcess, Process, ProcessState};
use crate::rlimit::{Charges, Limits, UserCounts};
use crate::signal::{Handlers, ProcessSignals};
use crate::thread::{NewThread, Thread, comm_from};
use crate::{Pid, Result, SigSet};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering::SeqCst;
use sync::Once;
use task::kthreads::KernelThreads;
use task::{NewTask, State, Task, WaitMode, WaitQueue};
use vfs::Cred;

/// The number of kthreadd.
pub const KTHREADD: Pid = 2;

static IDLE: WaitQueue = WaitQueue::new(&"kthreadd");
static ROOT: Once<Arc<Cred>> = Once::new();

/// Starts kthreadd and gives it all kernel threads there are. Boot, right after the first process took number 1.
pub fn start_kthreadd() -> Result<()> {
    let task = NewTask::kernel("kthreadd", || {
        loop {
            let _ = IDLE.wait_until(WaitMode::Idle, None, || None::<()>);
        }
    })
    .create()?;
    let number = Reserved::take()?;
    register(&task, number.number(), 0)?;
    task.wake();
    let early = task::kthreads::listen(KernelThreads { made: adopt, ends: forget });
    let lives = |task: &&Arc<Task>| task.state() != State::Dead && task.payload().is_none();
    // The thread that brings the system up has the name of what it started, and ends soon.
    early.iter().filter(lives).filter(|task| !task.is_current()).for_each(adopt);
    Ok(())
}

/// Gives a kernel thread a number and a place under kthreadd. One that gets none (no numbers, no memory) works as
/// well, unseen.
fn adopt(task: &Arc<Task>) {
    if let Ok(number) = Reserved::take() {
        let _ = register(task, number.number(), KTHREADD);
    }
}

/// A task ends. If it is a kernel thread, its number is free; user threads have seen to that themselves.
fn forget(task: &Task) {
    let Some(thread) = Thread::of_task(task) else { return };
    let process = thread.process();
    if !process.is_kernel {
        return;
    }
    process.signals.lock().threads.clear();
    process.thread_count.store(0, SeqCst);
    process.set_state(ProcessState::Reaped);
    let gone = {
        let mut table = pid::write();
        (table.remove_thread(&thread), table.remove_process(process))
    };
    drop(gone);
    process.uncharge_thread();
    thread.forget_task();
}

/// The credentials of kernel threads.
pub(crate) fn root_cred() -> Arc<Cred> {
    if ROOT.get().is_none() {
        // Two may both make them; the first set stays.
        let _ = ROOT.set(Cred::root());
    }
    ROOT.get_expect().clone()
}

fn register(task: &Arc<Task>, number: Pid, parent: Pid) -> Result<()> {
    let process = Process::new(NewProcess {
        pid: number,
        maker: Weak::new(),
        is_kernel: true,
        membership: first_membership(),
        signals: ProcessSignals::new(Handlers::new()),
        exit_signal: 0,
        mm: None,
        limits: Limits::initial(0),
        charges: Charges::one(UserCounts::of(0)),
    });
    let thread = Thread::new(NewThread {
        tid: number,
        process: process.clone(),
        cred: root_cred(),
        files: None,
        fs: None,
        blocked: SigSet::ALL,
        comm: comm_from(task.name().as_bytes()),
    });
    thread.set_task(task);
    task.set_payload(thread.clone());
    // Never ends and takes no signals: it is in the table, and that is all.
    process.signals.lock().threads.push(thread.clone());
    process.thread_count.store(1, SeqCst);
    let mut table = pid::write();
    table.insert_thread(&thread);
    table.insert_process(&process, parent);
    Ok(())
}
