//! What a directory of /proc is about: a process (`/proc/PID`) or one of its threads (`/proc/PID/task/TID`).

use crate::exit::Remains;
use crate::process::{Process, ProcessState};
use crate::thread::{COMM_LEN, Thread};
use crate::{Pid, pid};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use vfs::Cred;
use vm::AddressSpace;

/// Names a process or thread without keeping it. Numbers come round again: the start makes it unique.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubjectId {
    pid: Pid,
    start_ns: u64,
    /// A thread of it, and its start; `None`: the process as a whole.
    thread: Option<(Pid, u64)>,
}

/// A process or thread that is looked at.
pub struct Subject {
    pub process: Arc<Process>,
    /// The thread, or the leader of the process; `None` when that has ended.
    pub thread: Option<Arc<Thread>>,
    /// The process as a whole, not one thread.
    pub whole: bool,
}

impl SubjectId {
    pub fn of_process(process: &Process) -> SubjectId {
        SubjectId { pid: process.pid(), start_ns: process.start_ns, thread: None }
    }

    pub fn of_thread(thread: &Thread) -> SubjectId {
        let thread_id = Some((thread.tid(), thread.start_ns));
        SubjectId { thread: thread_id, ..SubjectId::of_process(thread.process()) }
    }

    /// The number in the directory's name.
    pub fn number(&self) -> Pid {
        self.thread.map_or(self.pid, |(tid, _)| tid)
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process, a zombie too; `None` once it was waited for.
    pub fn process(&self) -> Option<Arc<Process>> {
        pid::find_process(self.pid)
            .filter(|process| process.start_ns == self.start_ns && process.state() != ProcessState::Reaped)
    }

    /// `None` when it is gone.
    pub fn find(&self) -> Option<Subject> {
        let process = self.process()?;
        let Some((tid, start_ns)) = self.thread else {
            let thread = process.leader();
            return Some(Subject { process, thread, whole: true });
        };
        let thread = pid::find_thread(tid);
        let is_it = |t: &Arc<Thread>| t.start_ns == start_ns && Arc::ptr_eq(t.process(), &process);
        if let Some(thread) = thread.filter(is_it) {
            return Some(Subject { process, thread: Some(thread), whole: false });
        }
        // A leader that ended before other threads, or that nobody waited for, is a zombie thread.
        let zombie = tid == self.pid && process.leader().is_none();
        zombie.then_some(Subject { process, thread: None, whole: false })
    }
}

impl Subject {
    pub fn id(&self) -> SubjectId {
        match &self.thread {
            Some(thread) if !self.whole => SubjectId::of_thread(thread),
            _ => SubjectId::of_process(&self.process),
        }
    }

    pub fn number(&self) -> Pid {
        match &self.thread {
            Some(thread) if !self.whole => thread.tid(),
            _ => self.process.pid(),
        }
    }

    fn remains(&self) -> Option<Remains> {
        self.process.remains.lock().clone()
    }

    /// Its name, zero-filled.
    pub fn comm(&self) -> [u8; COMM_LEN] {
        match &self.thread {
            Some(thread) => thread.comm_bytes(),
            None => self.remains().map_or([0; COMM_LEN], |remains| remains.comm),
        }
    }

    pub fn cred(&self) -> Arc<Cred> {
        match &self.thread {
            Some(thread) => thread.cred(),
            None => self.remains().map_or_else(crate::kthread::root_cred, |remains| remains.cred),
        }
    }

    /// The letter of its state: R, S, D, T, t, Z, X, I.
    pub fn state_letter(&self) -> char {
        self.thread.as_ref().map_or('Z', |thread| thread.state_letter())
    }

    /// Memory; `None` for kernel threads and the dead.
    pub fn mm(&self) -> Option<Arc<AddressSpace>> {
        self.thread.as_ref()?;
        self.process.mm()
    }

    /// Who owns its files in /proc: its effective ids, but root when others may not look into it.
    pub fn owner(&self) -> (u32, u32) {
        let open = self.mm().is_some() && self.process.dumpable.load(Relaxed) == 1;
        if open { self.effective_ids() } else { (0, 0) }
    }

    /// Who owns its directory.
    pub fn effective_ids(&self) -> (u32, u32) {
        let cred = self.cred();
        (cred.euid, cred.egid)
    }
}
