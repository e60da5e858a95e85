//! Kernel threads with a number: they show in /proc under kthreadd (pid 2), as on Linux.
//!
//! Threads made before there were numbers are given one by [`adopt`]; new ones come from [`spawn`].

use crate::clone::first_membership;
use crate::pid::{self, Reserved};
use crate::process::{NewProcess, Process};
use crate::rlimit::{Limits, UserCounts};
use crate::signal::{Handlers, ProcessSignals};
use crate::thread::{NewThread, Thread, comm_from};
use crate::{Pid, Result, SigSet};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use sync::Once;
use task::{NewTask, Task, WaitMode, WaitQueue};
use vfs::Cred;

/// The number of kthreadd.
pub const KTHREADD: Pid = 2;

static IDLE: WaitQueue = WaitQueue::new(&"kthreadd");
static ROOT: Once<Arc<Cred>> = Once::new();

/// Starts kthreadd. Boot, right after the first process took number 1.
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
    Ok(())
}

/// Gives a kernel thread that has none a number and a place under kthreadd.
pub fn adopt(task: &Arc<Task>) -> Result<()> {
    let number = Reserved::take()?;
    register(task, number.number(), KTHREADD)
}

/// Makes a kernel thread with a number and starts it.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<Arc<Task>> {
    let task = NewTask::kernel(name, body).create()?;
    adopt(&task)?;
    task.wake();
    Ok(task)
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
        is_kernel: true,
        membership: first_membership(),
        signals: ProcessSignals::new(Handlers::new()),
        exit_signal: 0,
        mm: None,
        limits: Limits::initial(0),
        counts: UserCounts::of(0),
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
