//! What processes have used: times(2), getrusage(2), /proc/PID/stat.
//!
//! How long a thread ran is exact (the scheduler's clock). How that divides into user and system time is
//! sampled, as in Linux: the ratio of the samples is applied to the exact sum. The alternative, reading
//! the clock at every system call, would make each of them dearer.

use crate::process::Process;
use crate::thread::{Thread, work};
use abi::resource::Rusage;
use abi::time::Timeval;
use core::sync::atomic::Ordering::Relaxed;

/// Sums of one or many threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// Voluntary and involuntary context switches.
    pub switches_voluntary: u64,
    pub switches_involuntary: u64,
    pub read_blocks: u64,
    pub written_blocks: u64,
    pub io: Io,
    /// The largest resident set, in KiB.
    pub peak_rss_kib: u64,
}

/// Bytes and calls of read(2), write(2) and their kin, whatever was read or written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Io {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

impl Usage {
    pub fn run_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }

    fn add(&mut self, other: &Usage) {
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.switches_voluntary += other.switches_voluntary;
        self.switches_involuntary += other.switches_involuntary;
        self.read_blocks += other.read_blocks;
        self.written_blocks += other.written_blocks;
        self.io.read_bytes += other.io.read_bytes;
        self.io.written_bytes += other.io.written_bytes;
        self.io.reads += other.io.reads;
        self.io.writes += other.io.writes;
        self.peak_rss_kib = self.peak_rss_kib.max(other.peak_rss_kib);
    }

    pub fn to_rusage(&self) -> Rusage {
        Rusage {
            utime: Timeval::from_ns(self.user_ns),
            stime: Timeval::from_ns(self.system_ns),
            maxrss: self.peak_rss_kib as i64,
            minflt: self.minor_faults as i64,
            majflt: self.major_faults as i64,
            inblock: self.read_blocks as i64,
            oublock: self.written_blocks as i64,
            nvcsw: self.switches_voluntary as i64,
            nivcsw: self.switches_involuntary as i64,
            ..Rusage::default()
        }
    }
}

/// What a process remembers of threads and children that are gone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub dead_threads: Usage,
    pub children: Usage,
}

/// Called by the scheduler's sampling on each CPU, in interrupt context: the running thread looks at the CPU
/// timers of its process before it goes back to user mode.
pub fn account_tick() {
    Thread::with_current(|thread| {
        if thread.process().timers.watches_cpu() {
            thread.add_work(work::CPU_TIMER);
        }
    });
}

/// One thread's own.
pub fn of_thread(thread: &Thread) -> Usage {
    let (mut user_ns, mut system_ns, mut voluntary, mut involuntary) = (0, 0, 0, 0);
    if let Some(task) = thread.task() {
        (user_ns, system_ns) = sched::task_times(&task);
        if thread.process().is_kernel {
            (user_ns, system_ns) = (0, user_ns + system_ns);
        }
        voluntary = task.sched.switches_voluntary.load(Relaxed);
        involuntary = task.sched.switches_involuntary.load(Relaxed);
    }
    Usage {
        user_ns,
        system_ns,
        minor_faults: thread.minor_faults.load(Relaxed),
        major_faults: thread.major_faults.load(Relaxed),
        switches_voluntary: voluntary,
        switches_involuntary: involuntary,
        io: thread.io(),
        ..Usage::default()
    }
}

/// All threads of a process, gone ones included (RUSAGE_SELF).
pub fn of_process(process: &Process) -> Usage {
    let mut usage = process.totals.lock().dead_threads;
    for thread in process.threads() {
        usage.add(&of_thread(&thread));
    }
    if let Some(mm) = process.mm() {
        usage.peak_rss_kib = usage.peak_rss_kib.max(mm.resident().1 * (arch::PAGE_SIZE as u64 / 1024));
    }
    usage
}

/// Children that were waited for, and theirs (RUSAGE_CHILDREN).
pub fn of_children(process: &Process) -> Usage {
    process.totals.lock().children
}

/// A thread ends: the process remembers what it used.
pub(crate) fn thread_ends(thread: &Thread) {
    let usage = of_thread(thread);
    thread.process().totals.lock().dead_threads.add(&usage);
    vm::stats::add_minor_faults(usage.minor_faults);
}

/// Page faults since boot, and those among them that needed a device.
pub fn faults() -> (u64, u64) {
    let (mut minor, major) = vm::stats::faults();
    crate::pid::for_each_process(|process| {
        let mut next = 0;
        loop {
            let (threads, count) = process.threads_from(next);
            for thread in threads.iter().flatten() {
                minor += thread.minor_faults.load(Relaxed);
                next = thread.tid() + 1;
            }
            if count == 0 {
                break;
            }
        }
    });
    (minor + major, major)
}

/// The memory of a process goes: its peak stays known.
pub(crate) fn note_peak(process: &Process, peak_pages: u64) {
    let kib = peak_pages * (arch::PAGE_SIZE as u64 / 1024);
    let mut totals = process.totals.lock();
    totals.dead_threads.peak_rss_kib = totals.dead_threads.peak_rss_kib.max(kib);
}

/// A child was waited for: its usage, and its children's, become the parent's children's.
pub(crate) fn child_reaped(parent: &Process, child: &Process) {
    let mut usage = of_process(child);
    usage.add(&of_children(child));
    parent.totals.lock().children.add(&usage);
}
