//! A process: the threads that share a number, memory and signal handlers, and what belongs to them all.

use crate::exit::Remains;
use crate::jobs::{Group, Session};
use crate::ptrace::Tracing;
use crate::rlimit::{Charges, Limits};
use crate::signal::ProcessSignals;
use crate::thread::Thread;
use crate::timers::ProcessTimers;
use crate::usage::Totals;
use crate::{Pid, SigSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize};
use sync::levels::{Leaf, Process as ProcessLevel, Signals};
use sync::{Once, SpinLock};
use task::WaitQueue;
use vm::AddressSpace;

/// Where a process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessState {
    /// Has threads.
    Alive,
    /// Has ended; its parent has not asked yet.
    Zombie,
    /// Was waited for: the number is free.
    Reaped,
}

/// Place in the tree. Written with the table of [`crate::pid`] locked for writing; numbers, 0 is none.
#[derive(Default)]
pub(crate) struct Links {
    pub parent: AtomicU32,
    pub first_child: AtomicU32,
    pub next_sibling: AtomicU32,
    pub previous_sibling: AtomicU32,
    pub next_in_group: AtomicU32,
    pub previous_in_group: AtomicU32,
}

pub(crate) struct Membership {
    pub group: Arc<Group>,
    pub session: Arc<Session>,
}

/// See the file comment. Fields are grouped by what guards them.
pub struct Process {
    pid: Pid,
    pub(crate) links: Links,
    /// The thread that made it: whose child it is as long as that lives and the parent has not changed. Else
    /// the parent's oldest thread stands in ([`crate::wait::parent_thread`]).
    pub(crate) maker: Weak<Thread>,
    /// Nanoseconds between boot and the process's start.
    pub start_ns: u64,
    pub is_kernel: bool,

    /// Changes with the process table locked for writing.
    pub(crate) membership: SpinLock<Membership, ProcessLevel>,

    /// Threads, handlers, pending signals, stop and exit.
    pub(crate) signals: SpinLock<ProcessSignals, Signals>,
    /// The mask of the shared pending signals, for looking without the lock; written under it.
    pub(crate) shared_pending: AtomicU64,
    /// Living threads; written under the signal lock.
    pub(crate) thread_count: AtomicUsize,
    /// The exit of all threads has begun.
    pub(crate) exiting: AtomicBool,

    state: AtomicU32,
    /// What wait(2) reports, once a zombie.
    pub(crate) exit_status: AtomicI32,
    /// The signal the parent gets at the end; 0: none.
    pub(crate) exit_signal: AtomicU32,
    /// Where the parent's threads sleep in wait(2): woken when a child of THIS process changes state.
    pub(crate) child_wait: WaitQueue,
    /// Woken when the number of threads falls (exec waits for the others to end).
    pub(crate) thread_wait: WaitQueue,
    /// Woken at the end, for pidfd readiness.
    pub exit_wait: Arc<WaitQueue>,
    /// Woken when a signal is queued, once somebody uses signalfd.
    pub(crate) signalfd: Once<Arc<WaitQueue>>,
    /// Threads of other processes that this one traces.
    pub(crate) tracing: SpinLock<Tracing, Leaf>,

    mm: SpinLock<Option<Arc<AddressSpace>>, ProcessLevel>,
    pub(crate) limits: Limits,
    pub(crate) charges: SpinLock<Charges, Leaf>,
    /// It became another user's, who then was beyond RLIMIT_NPROC.
    pub(crate) changed_to_many: AtomicBool,
    pub(crate) totals: SpinLock<Totals, Leaf>,
    /// What its leader left behind, to be seen of a zombie.
    pub(crate) remains: SpinLock<Option<Remains>, Leaf>,
    pub(crate) timers: ProcessTimers,
    /// Semaphores that its end takes something back of (SEM_UNDO).
    pub(crate) semaphores: SpinLock<crate::sysv::sem::Touched, Leaf>,

    /// It has made System V shared memory.
    pub(crate) made_segments: AtomicBool,

    /// Address of the sigreturn trampoline in this process; 0: none.
    pub(crate) sigreturn: AtomicUsize,
    pub personality: AtomicU32,
    /// PR_SET_DUMPABLE: 0 no, 1 yes, 2 root only.
    pub dumpable: AtomicU32,
    pub(crate) child_subreaper: AtomicBool,
    /// A thread of it has asked for a signal at the end of its parent (`Thread::death_signal`). Stays set.
    pub(crate) asks_death: AtomicBool,
    /// A child has. Set with the table of [`crate::pid`] locked; stays set.
    pub(crate) tells_death: AtomicBool,
    /// Has run exec since fork: setpgid by the parent is refused.
    pub(crate) did_exec: AtomicBool,
    pub oom_score_adj: AtomicI32,
    /// `oom_score_adj` may not be set below this without privilege.
    pub oom_score_adj_min: AtomicI32,
    pub(crate) traced: AtomicBool,
}

/// What a new process starts with.
pub(crate) struct NewProcess {
    pub pid: Pid,
    pub maker: Weak<Thread>,
    pub is_kernel: bool,
    pub membership: Membership,
    pub signals: ProcessSignals,
    pub exit_signal: u32,
    pub mm: Option<Arc<AddressSpace>>,
    pub limits: Limits,
    pub charges: Charges,
}

impl Process {
    pub(crate) fn new(new: NewProcess) -> Arc<Process> {
        Arc::new_cyclic(|this| Process {
            pid: new.pid,
            links: Links::default(),
            maker: new.maker,
            start_ns: time::monotonic_ns(),
            is_kernel: new.is_kernel,
            membership: SpinLock::new(new.membership),
            signals: SpinLock::new(new.signals),
            shared_pending: AtomicU64::new(0),
            thread_count: AtomicUsize::new(0),
            exiting: AtomicBool::new(false),
            state: AtomicU32::new(ProcessState::Alive as u32),
            exit_status: AtomicI32::new(0),
            exit_signal: AtomicU32::new(new.exit_signal),
            child_wait: WaitQueue::new(&"do_wait"),
            thread_wait: WaitQueue::new(&"de_thread"),
            exit_wait: Arc::new(WaitQueue::new(&"pidfd_poll")),
            signalfd: Once::new(),
            tracing: SpinLock::new(Tracing::default()),
            mm: SpinLock::new(new.mm),
            limits: new.limits,
            charges: SpinLock::new(new.charges),
            changed_to_many: AtomicBool::new(false),
            totals: SpinLock::new(Totals::default()),
            remains: SpinLock::new(None),
            timers: ProcessTimers::new(this.clone()),
            semaphores: SpinLock::new(Default::default()),
            made_segments: AtomicBool::new(false),
            sigreturn: AtomicUsize::new(0),
            personality: AtomicU32::new(0),
            dumpable: AtomicU32::new(1),
            child_subreaper: AtomicBool::new(false),
            asks_death: AtomicBool::new(false),
            tells_death: AtomicBool::new(false),
            did_exec: AtomicBool::new(false),
            oom_score_adj: AtomicI32::new(0),
            oom_score_adj_min: AtomicI32::new(0),
            traced: AtomicBool::new(false),
        })
    }

    #[inline]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The parent's number; 0 for init and kthreadd.
    #[inline]
    pub fn parent_pid(&self) -> Pid {
        self.links.parent.load(Relaxed)
    }

    pub fn parent(&self) -> Option<Arc<Process>> {
        crate::pid::find_process(self.parent_pid())
    }

    pub fn group(&self) -> Arc<Group> {
        self.membership.lock().group.clone()
    }

    pub fn session(&self) -> Arc<Session> {
        self.membership.lock().session.clone()
    }

    pub fn pgid(&self) -> Pid {
        self.membership.lock().group.pgid()
    }

    pub fn sid(&self) -> Pid {
        self.membership.lock().session.sid()
    }

    /// The controlling terminal, if the session has one.
    pub fn terminal(&self) -> Option<Arc<dyn crate::Terminal>> {
        self.session().terminal()
    }

    /// Whether this process leads its session.
    pub fn is_session_leader(&self) -> bool {
        self.sid() == self.pid
    }

    pub fn state(&self) -> ProcessState {
        match self.state.load(Acquire) {
            0 => ProcessState::Alive,
            1 => ProcessState::Zombie,
            _ => ProcessState::Reaped,
        }
    }

    pub(crate) fn set_state(&self, state: ProcessState) {
        self.state.store(state as u32, Release);
    }

    /// Makes a zombie reaped; false when somebody else was first.
    pub(crate) fn claim_reap(&self) -> bool {
        let (zombie, reaped) = (ProcessState::Zombie as u32, ProcessState::Reaped as u32);
        self.state.compare_exchange(zombie, reaped, SeqCst, SeqCst).is_ok()
    }

    /// The threads that live, in order of creation.
    pub fn threads(&self) -> Vec<Arc<Thread>> {
        self.signals.lock().threads.clone()
    }

    /// Some of the living threads whose numbers are at least `from`, the lowest first: for listing them in
    /// pieces, so that the lock is held shortly however many there are.
    pub fn threads_from(&self, from: Pid) -> ([Option<Arc<Thread>>; 8], usize) {
        let mut found = [const { None }; 8];
        let mut count = 0;
        let signals = self.signals.lock();
        let numbers = || signals.threads.iter().map(|thread| thread.tid());
        let mut next = from;
        while count < found.len()
            && let Some(tid) = numbers().filter(|tid| *tid >= next).min()
        {
            found[count] = signals.threads.iter().find(|thread| thread.tid() == tid).cloned();
            (count, next) = (count + 1, tid + 1);
        }
        (found, count)
    }

    pub fn thread_count(&self) -> usize {
        self.thread_count.load(Relaxed)
    }

    /// The thread that stands for the process: its leader, or the oldest when that has ended.
    pub fn main_thread(&self) -> Option<Arc<Thread>> {
        let signals = self.signals.lock();
        signals.threads.iter().find(|t| t.is_leader()).or(signals.threads.first()).cloned()
    }

    /// The thread whose number is the process's; `None` once that has ended.
    pub fn leader(&self) -> Option<Arc<Thread>> {
        self.signals.lock().threads.iter().find(|thread| thread.is_leader()).cloned()
    }

    /// Memory; `None` for kernel threads and after exit.
    pub fn mm(&self) -> Option<Arc<AddressSpace>> {
        self.mm.lock().clone()
    }

    /// Whether its memory is this.
    pub(crate) fn has_mm(&self, mm: &Arc<AddressSpace>) -> bool {
        self.mm.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, mm))
    }

    pub(crate) fn set_mm(&self, mm: Option<Arc<AddressSpace>>) {
        // The old one is dropped after the lock: taking a whole address space down sleeps.
        let old = core::mem::replace(&mut *self.mm.lock(), mm);
        drop(old);
    }

    /// Signals pending for the process as a whole.
    pub fn shared_pending(&self) -> SigSet {
        SigSet::from_bits(self.shared_pending.load(SeqCst))
    }

    /// Switches the strace-like trace of the process (`/proc/PID/` of procfs, and boot argument).
    pub fn set_traced(&self, on: bool) {
        self.traced.store(on, SeqCst);
        for thread in self.threads() {
            thread.interrupt(crate::work::TRACE, false);
        }
    }

    pub fn is_traced(&self) -> bool {
        self.traced.load(Relaxed)
    }

    /// Whether it is init, which the default actions of signals do not touch.
    pub fn is_init(&self) -> bool {
        self.pid == 1
    }
}
