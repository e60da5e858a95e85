//! A thread: what is scheduled, seen from the Unix side. The payload of its `task::Task`.

use crate::Pid;
use crate::futex::FutexWaiter;
use crate::process::Process;
use crate::ptrace::Traced;
use crate::signal::{Pending, SigSet};
use crate::usage::Io;
use abi::signal::{SIGKILL, SIGSTOP};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use arch::{CpuMask, Ipi, cpu};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use sync::SpinLock;
use sync::levels::{Leaf, ThreadSignals};
use task::{State, Task, WaitQueue};
use vfs::{Cred, FileTable, FsContext};

/// Bits of [`Thread::work`]: why the thread must look around before it goes back to user mode.
pub mod work {
    /// A signal may be deliverable.
    pub const SIGNAL: u32 = 1;
    /// Take part in a stop of the process.
    pub const STOP: u32 = 2;
    /// End: the process exits, another thread runs exec, or this thread called exit.
    pub const EXIT: u32 = 4;
    /// Put the mask of before sigsuspend or ppoll back.
    pub const RESTORE_MASK: u32 = 8;
    /// The trace switch of the process changed.
    pub const TRACE: u32 = 16;
    /// A CPU-time limit or timer of the process is to be looked at.
    pub const CPU_TIMER: u32 = 32;
    /// Stand parked until the bit is cleared (see [`crate::park`]).
    pub const PARK: u32 = 64;
    /// The tracer wants a stop.
    pub const PTRACE: u32 = 128;
    /// Leave the restartable sequence, whether or not it was switched away.
    pub const RSEQ: u32 = 256;
    /// Why an interruptible sleep ends, besides signals.
    pub const INTERRUPTS: u32 = STOP | EXIT | PARK | PTRACE;
}

/// Bytes of a thread's name, the terminating zero included (TASK_COMM_LEN).
pub const COMM_LEN: usize = 16;

/// See the file comment. Fields are grouped by what guards them.
pub struct Thread {
    process: Arc<Process>,
    /// What is scheduled. Counted, because nobody else may hold a task that sleeps without a queue; the task
    /// holds the thread as its payload, so the end of the thread takes it out again.
    task: SpinLock<Option<Arc<Task>>, Leaf>,
    /// The thread's number. Changes once at most: exec gives the caller the number of the process.
    tid: AtomicU32,
    work: AtomicU32,

    // Written by the thread itself; senders of signals read it.
    blocked: AtomicU64,
    /// The mask of `pending`, for looking without the lock; written under it.
    pending_mask: AtomicU64,
    pub(crate) pending: SpinLock<Pending, ThreadSignals>,
    /// What sigtimedwait(2) waits for: such signals are neither ignored nor delivered.
    pub(crate) waiting_for: AtomicU64,
    /// It makes a process, which is not in its group yet.
    pub(crate) forking: AtomicBool,
    /// Signals to the group since then, for that process. Under the `Signals` lock.
    pub(crate) unborn_signals: AtomicU64,
    /// Sleeps for a stop of the process. Written under the process's signal lock.
    pub(crate) stopped: AtomicBool,
    /// Stands parked, on `parking`. Written by the thread itself.
    pub(crate) parked: AtomicBool,
    pub(crate) parking: WaitQueue,
    /// Past the point where it takes signals. Written under the process's signal lock.
    pub(crate) exiting: AtomicBool,
    /// Its tracer, if it has one. `ptraced` says so without the lock.
    pub(crate) trace: SpinLock<Option<Box<Traced>>, Leaf>,
    pub(crate) ptraced: AtomicBool,

    /// What others may look at; the thread itself uses its `Local`.
    shown: SpinLock<Shown, Leaf>,
    comm: SpinLock<[u8; COMM_LEN], Leaf>,
    /// The system call it is in or was in last; `usize::MAX` in a page fault.
    call: AtomicUsize,
    pub(crate) robust_list: AtomicUsize,
    pub(crate) timer_slack_ns: AtomicU64,
    /// The signal its process gets at the end of the thread whose child that is (PR_SET_PDEATHSIG); 0: none.
    pub(crate) death_signal: AtomicU32,
    /// Nanoseconds between boot and the thread's start.
    pub start_ns: u64,
    pub(crate) futex: Arc<FutexWaiter>,

    // Counted by the thread itself.
    pub minor_faults: AtomicU64,
    pub major_faults: AtomicU64,
    pub(crate) io: IoCounters,
}

/// Bytes and calls of reading and writing (/proc/PID/io). Counted by the thread itself.
#[derive(Default)]
pub(crate) struct IoCounters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

#[derive(Clone)]
struct Shown {
    cred: Arc<Cred>,
    files: Option<Arc<FileTable>>,
    fs: Option<Arc<FsContext>>,
}

/// What a new thread starts with.
pub(crate) struct NewThread {
    pub tid: Pid,
    pub process: Arc<Process>,
    pub cred: Arc<Cred>,
    pub files: Option<Arc<FileTable>>,
    pub fs: Option<Arc<FsContext>>,
    pub blocked: SigSet,
    pub comm: [u8; COMM_LEN],
}

impl Thread {
    pub(crate) fn new(new: NewThread) -> Arc<Thread> {
        Arc::new(Thread {
            process: new.process,
            task: SpinLock::new(None),
            tid: AtomicU32::new(new.tid),
            work: AtomicU32::new(0),
            blocked: AtomicU64::new(new.blocked.bits()),
            pending_mask: AtomicU64::new(0),
            pending: SpinLock::new(Pending::new()),
            waiting_for: AtomicU64::new(0),
            forking: AtomicBool::new(false),
            unborn_signals: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            parking: WaitQueue::new(&"lab_park"),
            exiting: AtomicBool::new(false),
            trace: SpinLock::new(None),
            ptraced: AtomicBool::new(false),
            shown: SpinLock::new(Shown { cred: new.cred, files: new.files, fs: new.fs }),
            comm: SpinLock::new(new.comm),
            call: AtomicUsize::new(usize::MAX),
            robust_list: AtomicUsize::new(0),
            timer_slack_ns: AtomicU64::new(50_000),
            death_signal: AtomicU32::new(0),
            start_ns: time::monotonic_ns(),
            futex: FutexWaiter::new(),
            minor_faults: AtomicU64::new(0),
            major_faults: AtomicU64::new(0),
            io: IoCounters::default(),
        })
    }

    /// The thread that runs here; `None` in kernel threads without a number and in early boot.
    pub fn current() -> Option<Arc<Thread>> {
        Thread::of_task(&task::current())
    }

    /// The thread whose task this is.
    pub fn of_task(task: &Task) -> Option<Arc<Thread>> {
        task.payload()?.clone().downcast().ok()
    }

    /// Runs `look` with the thread that runs here, without counting a reference.
    pub fn with_current<R>(look: impl FnOnce(&Thread) -> R) -> Option<R> {
        let task = task::current();
        task.payload()?.downcast_ref::<Thread>().map(look)
    }

    pub fn tid(&self) -> Pid {
        self.tid.load(Relaxed)
    }

    pub(crate) fn set_tid(&self, tid: Pid) {
        self.tid.store(tid, Relaxed);
    }

    #[inline]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The leader's number is that of the process.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.process.pid()
    }

    pub(crate) fn set_task(&self, task: &Arc<Task>) {
        *self.task.lock() = Some(task.clone());
    }

    /// The thread has ended: breaks the cycle of references with its task.
    pub(crate) fn forget_task(&self) {
        let task = self.task.lock().take();
        drop(task);
    }

    /// What is scheduled; `None` once it has ended (a zombie) and before it was made.
    pub fn task(&self) -> Option<Arc<Task>> {
        self.task.lock().clone()
    }

    /// The state as /proc shows it; a thread without a task is a zombie.
    pub fn state_letter(&self) -> char {
        self.task().map_or('Z', |t| t.state().letter())
    }

    /// Whether it sleeps and has left its CPU: nothing is charged to it any more until it is woken.
    pub(crate) fn is_off_cpu(&self) -> bool {
        self.task().is_some_and(|task| task.state() != State::Running && !task.on_cpu())
    }

    // ---- work ----

    /// The bits of [`work`]. The user loop reads it on every way out.
    #[inline]
    pub fn work(&self) -> u32 {
        self.work.load(Relaxed)
    }

    pub(crate) fn add_work(&self, bits: u32) {
        self.work.fetch_or(bits, SeqCst);
    }

    pub(crate) fn take_work(&self, bits: u32) -> bool {
        self.work() & bits != 0 && self.work.fetch_and(!bits, SeqCst) & bits != 0
    }

    /// Makes the thread look at `bits` soon: ends its sleep (every sleep a fatal signal ends, when
    /// `fatal`), or interrupts the CPU it runs on.
    pub(crate) fn interrupt(&self, bits: u32, fatal: bool) {
        self.work.fetch_or(bits, SeqCst);
        let Some(task) = self.task() else { return };
        task.set_signal_pending(true);
        if fatal {
            task.set_fatal_pending(true);
        }
        let ends = |state| match state {
            State::Interruptible => true,
            State::Killable | State::Stopped | State::Traced => fatal,
            _ => false,
        };
        if !task.wake_from(ends) {
            kick(&task);
        }
    }

    // ---- signals ----

    /// Signals that the thread waits for in sigtimedwait(2).
    pub(crate) fn waits_for(&self, signal: u32) -> bool {
        SigSet::from_bits(self.waiting_for.load(SeqCst)).contains(signal)
    }

    /// Whether a signal would do nothing to this thread now: blocked, or set to SIG_IGN.
    pub fn ignores_or_blocks(&self, signal: u32) -> bool {
        let handlers = self.process.signals.lock().handlers.clone();
        self.blocked().contains(signal) || handlers.explicitly_ignored().contains(signal)
    }

    pub fn blocked(&self) -> SigSet {
        SigSet::from_bits(self.blocked.load(SeqCst))
    }

    /// Signals pending for this thread alone.
    pub fn pending_set(&self) -> SigSet {
        SigSet::from_bits(self.pending_mask.load(SeqCst))
    }

    pub(crate) fn publish_pending(&self, mask: SigSet) {
        self.pending_mask.store(mask.bits(), SeqCst);
    }

    /// Replaces the mask of the current thread and returns the old one. No lock: a sender adds its signal
    /// before it reads the mask, this writes the mask before it looks for signals.
    pub(crate) fn set_blocked(&self, mask: SigSet) -> SigSet {
        let mask = mask.without(SIGKILL).without(SIGSTOP);
        let old = SigSet::from_bits(self.blocked.swap(mask.bits(), SeqCst));
        let newly = mask & !old & self.process.shared_pending();
        if !newly.is_empty() {
            self.process.retarget(self, newly);
        }
        self.recalculate();
        old
    }

    /// Replaces the mask of a thread that sleeps in a stop for its tracer.
    pub(crate) fn set_blocked_of_stopped(&self, mask: SigSet) {
        self.blocked.store(mask.without(SIGKILL).without(SIGSTOP).bits(), SeqCst);
        // It looks for deliverable signals on its way out.
        self.add_work(work::SIGNAL);
    }

    /// Brings "a signal is pending" up to date. Called by the thread itself.
    pub(crate) fn recalculate(&self) {
        let task = task::current();
        if self.work() & work::SIGNAL != 0 || task.signal_pending() {
            self.work.fetch_and(!work::SIGNAL, SeqCst);
            task.set_signal_pending(false);
        }
        let pending = self.pending_set() | self.process.shared_pending();
        if !(pending & !self.blocked()).is_empty() {
            self.work.fetch_or(work::SIGNAL, SeqCst);
            task.set_signal_pending(true);
        } else if self.work() & work::INTERRUPTS != 0 {
            task.set_signal_pending(true);
        }
    }

    // ---- for others' eyes ----

    /// Credentials as others judge them.
    pub fn cred(&self) -> Arc<Cred> {
        self.shown.lock().cred.clone()
    }

    /// Open files; `None` after exit and for kernel threads.
    pub fn files(&self) -> Option<Arc<FileTable>> {
        self.shown.lock().files.clone()
    }

    /// Root and working directory.
    pub fn fs(&self) -> Option<Arc<FsContext>> {
        self.shown.lock().fs.clone()
    }

    pub(crate) fn publish_cred(&self, cred: Arc<Cred>) {
        let old = core::mem::replace(&mut self.shown.lock().cred, cred);
        drop(old);
    }

    pub(crate) fn publish_files(&self, files: Option<Arc<FileTable>>) {
        let old = core::mem::replace(&mut self.shown.lock().files, files);
        drop(old);
    }

    pub(crate) fn publish_fs(&self, fs: Option<Arc<FsContext>>) {
        let old = core::mem::replace(&mut self.shown.lock().fs, fs);
        drop(old);
    }

    pub(crate) fn comm_bytes(&self) -> [u8; COMM_LEN] {
        *self.comm.lock()
    }

    /// The name (prctl PR_SET_NAME), at most 15 bytes.
    pub fn comm(&self) -> String {
        let comm = self.comm_bytes();
        let len = comm.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
        String::from_utf8_lossy(&comm[..len]).into_owned()
    }

    /// Sets the name; bytes after the 15th are cut.
    pub fn set_comm(&self, name: &[u8]) {
        *self.comm.lock() = comm_from(name);
        if let Some(task) = self.task() {
            task.set_name(self.comm());
        }
    }

    /// set_robust_list(2): the head of the list of robust locks.
    pub fn set_robust_list(&self, head: usize) {
        self.robust_list.store(head, Relaxed);
    }

    pub fn robust_list(&self) -> usize {
        self.robust_list.load(Relaxed)
    }

    /// Number of the system call it is in or was in last; `None` before its first and in a page fault.
    pub fn call(&self) -> Option<usize> {
        Some(self.call.load(Relaxed)).filter(|&n| n != usize::MAX)
    }

    #[inline]
    pub(crate) fn set_call(&self, number: usize) {
        self.call.store(number, Relaxed);
    }

    /// A call of the read(2) family ended. By the thread itself.
    #[inline]
    pub fn count_read(&self, result: &crate::Result<usize>) {
        bump(&self.io.reads, 1);
        bump(&self.io.read_bytes, *result.as_ref().unwrap_or(&0) as u64);
    }

    /// A call of the write(2) family ended. By the thread itself.
    #[inline]
    pub fn count_write(&self, result: &crate::Result<usize>) {
        bump(&self.io.writes, 1);
        bump(&self.io.written_bytes, *result.as_ref().unwrap_or(&0) as u64);
    }

    /// What it has read and written.
    pub(crate) fn io(&self) -> Io {
        Io {
            read_bytes: self.io.read_bytes.load(Relaxed),
            written_bytes: self.io.written_bytes.load(Relaxed),
            reads: self.io.reads.load(Relaxed),
            writes: self.io.writes.load(Relaxed),
        }
    }

    /// Nanoseconds it ran in all.
    pub fn run_ns(&self) -> u64 {
        self.task().map_or(0, |t| sched::run_ns(&t))
    }
}

/// Only the thread itself counts: no read-modify-write is needed.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// The name in the form that is stored: cut and zero-filled.
pub(crate) fn comm_from(name: &[u8]) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    let len = name.iter().position(|&b| b == 0).unwrap_or(name.len()).min(COMM_LEN - 1);
    comm[..len].copy_from_slice(&name[..len]);
    comm
}

/// Interrupts the CPU that runs the task, so that it looks at its work. Nothing to do when it does not
/// run: it looks before it next enters user mode.
fn kick(task: &Task) {
    let _off = sync::preempt_off();
    let on = task.sched.cpu.load(Ordering::Relaxed) as usize;
    if task.on_cpu() && on != cpu::id() {
        arch::smp::send_ipi(CpuMask::one(on), Ipi::Reschedule);
    }
}
