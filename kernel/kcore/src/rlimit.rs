//! Resource limits (getrlimit(2)) and what a user's processes use up together.

use crate::process::Process;
use crate::{Ctx, Result};
use abi::Errno;
use abi::cap::CAP_SYS_RESOURCE;
use abi::resource::{
    RLIM_INFINITY, RLIM_NLIMITS, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE,
    RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RTPRIO, RLIMIT_SIGPENDING, RLIMIT_STACK, Rlimit,
};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use sync::SpinLock;
use sync::levels::Leaf;

/// The most descriptors a process may ask for (/proc/sys/fs/nr_open).
pub const NR_OPEN: u64 = 1 << 20;

/// The limits of one process. Read word by word without a lock; a change takes one, so that two changes
/// of one limit do not mix.
pub(crate) struct Limits {
    current: [AtomicU64; RLIM_NLIMITS],
    max: [AtomicU64; RLIM_NLIMITS],
    change: SpinLock<(), Leaf>,
}

impl Limits {
    /// What the first process starts with, as Linux does on a machine with `memory_bytes`.
    pub fn initial(memory_bytes: u64) -> Limits {
        let limits = Limits {
            current: [const { AtomicU64::new(RLIM_INFINITY) }; RLIM_NLIMITS],
            max: [const { AtomicU64::new(RLIM_INFINITY) }; RLIM_NLIMITS],
            change: SpinLock::new(()),
        };
        let threads = threads_that_fit(memory_bytes) / 2;
        limits.put(RLIMIT_STACK, Rlimit { current: 8 << 20, max: RLIM_INFINITY });
        limits.put(RLIMIT_CORE, Rlimit { current: 0, max: RLIM_INFINITY });
        limits.put(RLIMIT_NPROC, Rlimit::both(threads));
        limits.put(RLIMIT_NOFILE, Rlimit { current: 1024, max: 4096 });
        limits.put(RLIMIT_MEMLOCK, Rlimit::both(8 << 20));
        limits.put(RLIMIT_SIGPENDING, Rlimit::both(threads));
        limits.put(RLIMIT_MSGQUEUE, Rlimit::both(819_200));
        limits.put(RLIMIT_NICE, Rlimit::both(0));
        limits.put(RLIMIT_RTPRIO, Rlimit::both(0));
        limits
    }

    pub fn fork(&self) -> Limits {
        let copy = |from: &[AtomicU64; RLIM_NLIMITS]| {
            core::array::from_fn(|i| AtomicU64::new(from[i].load(Relaxed)))
        };
        Limits { current: copy(&self.current), max: copy(&self.max), change: SpinLock::new(()) }
    }

    fn put(&self, resource: usize, limit: Rlimit) {
        self.current[resource].store(limit.current, Relaxed);
        self.max[resource].store(limit.max, Relaxed);
    }

    fn get(&self, resource: usize) -> Rlimit {
        Rlimit { current: self.current[resource].load(Relaxed), max: self.max[resource].load(Relaxed) }
    }
}

/// The soft limit; `u64::MAX` is none.
#[inline]
pub fn soft(process: &Process, resource: usize) -> u64 {
    process.limits.current.get(resource).map_or(RLIM_INFINITY, |l| l.load(Relaxed))
}

/// Both limits. EINVAL for an unknown resource.
pub fn get(process: &Process, resource: usize) -> Result<Rlimit> {
    if resource >= RLIM_NLIMITS { Err(Errno::EINVAL) } else { Ok(process.limits.get(resource)) }
}

/// Changes both limits; returns the old ones. EPERM for raising a hard limit without CAP_SYS_RESOURCE.
pub fn set(ctx: &Ctx, process: &Process, resource: usize, new: Rlimit) -> Result<Rlimit> {
    if resource >= RLIM_NLIMITS || new.current > new.max {
        return Err(Errno::EINVAL);
    }
    if resource == RLIMIT_NOFILE && new.max > NR_OPEN {
        return Err(Errno::EPERM);
    }
    let _one = process.limits.change.lock();
    let old = process.limits.get(resource);
    if new.max > old.max && !ctx.capable(CAP_SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    // Linux: a limit of no CPU time at all would kill at once; it means one second.
    let zero = resource == RLIMIT_CPU && new.current == 0;
    process.limits.put(resource, if zero { Rlimit { current: 1, max: new.max.max(1) } } else { new });
    if resource == RLIMIT_CPU {
        process.timers.watch_cpu();
    }
    Ok(old)
}

/// Threads of all users, zombies included, and how many there may be: an eighth of memory for their kernel stacks, as Linux's fork_init
/// has it. Not even root gets beyond: what a thread needs besides its stack has to fit into the rest.
static THREADS: AtomicU64 = AtomicU64::new(0);
static THREADS_MAX: AtomicU64 = AtomicU64::new(u64::MAX);
const THREADS_MIN: u64 = 20;
const THREADS_LIMIT: u64 = 0x3fff_ffff;

fn threads_that_fit(memory_bytes: u64) -> u64 {
    (memory_bytes / (8 * mem::STACK_SIZE as u64)).clamp(THREADS_MIN, THREADS_LIMIT)
}

/// Sets the number of threads that there may be by the size of memory. Boot.
pub(crate) fn size_threads(memory_bytes: u64) {
    THREADS_MAX.store(threads_that_fit(memory_bytes), Relaxed);
}

/// `/proc/sys/kernel/threads-max`.
pub fn threads_max() -> u64 {
    THREADS_MAX.load(Relaxed)
}

/// Changes it; EINVAL beyond what Linux takes.
pub fn set_threads_max(max: u64) -> Result<()> {
    if !(THREADS_MIN..=THREADS_LIMIT).contains(&max) {
        return Err(Errno::EINVAL);
    }
    THREADS_MAX.store(max, Relaxed);
    Ok(())
}

/// Threads of the system, kernel threads and zombies included (/proc/loadavg, sysinfo(2)).
pub fn thread_total() -> u64 {
    THREADS.load(Relaxed)
}

/// Whether there are as many threads as there may be.
pub(crate) fn too_many_threads() -> bool {
    THREADS.load(Relaxed) > threads_max()
}

/// What all processes of a user (by real uid) use together.
pub struct UserCounts {
    pub uid: u32,
    /// Threads, against RLIMIT_NPROC: those that live, and each process that was not waited for.
    threads: AtomicU64,
    signals: AtomicU64,
    /// Bytes of POSIX message queues, against RLIMIT_MSGQUEUE.
    queue_bytes: AtomicU64,
    /// inotify(7): instances and watches.
    pub(crate) notifiers: AtomicU64,
    pub(crate) watches: AtomicU64,
}

static USERS: SpinLock<BTreeMap<u32, Weak<UserCounts>>, Leaf> = SpinLock::new(BTreeMap::new());

impl UserCounts {
    /// The counts of a user, the same object for all its processes.
    pub fn of(uid: u32) -> Arc<UserCounts> {
        let mut users = USERS.lock();
        if let Some(found) = users.get(&uid).and_then(Weak::upgrade) {
            return found;
        }
        // Entries of users who have gone go here, not when the last process does: the scheduler may hold its last
        // reference, in an interrupt that hit the holder of any lock.
        users.retain(|_, counts| counts.strong_count() > 0);
        let none = || AtomicU64::new(0);
        let counts = UserCounts {
            uid,
            threads: none(),
            signals: none(),
            queue_bytes: none(),
            notifiers: none(),
            watches: none(),
        };
        let counts = Arc::new(counts);
        users.insert(uid, Arc::downgrade(&counts));
        counts
    }

    pub fn threads(&self) -> u64 {
        self.threads.load(Relaxed)
    }

    /// Pending queued signals (SigQ in /proc/PID/status).
    pub fn signals(&self) -> u64 {
        self.signals.load(Relaxed)
    }

    fn add_threads(&self, count: u64) {
        THREADS.fetch_add(count, Relaxed);
        self.threads.fetch_add(count, Relaxed);
    }

    fn remove_threads(&self, count: u64) {
        self.threads.fetch_sub(count, Relaxed);
        THREADS.fetch_sub(count, Relaxed);
    }

    /// Counts the bytes of a message queue unless there would be more than `limit`; whether it did.
    pub fn charge_queue(&self, bytes: u64, limit: u64) -> bool {
        let add = |sum: u64| sum.checked_add(bytes).filter(|sum| *sum <= limit);
        self.queue_bytes.fetch_update(Relaxed, Relaxed, add).is_ok()
    }

    /// Takes [`UserCounts::charge_queue`] back.
    pub fn uncharge_queue(&self, bytes: u64) {
        self.queue_bytes.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn charge_signal(&self, limit: u64) -> bool {
        charge(&self.signals, limit)
    }

    pub(crate) fn uncharge_signal(&self) {
        self.signals.fetch_sub(1, Relaxed);
    }
}

/// Counts one more unless there are `limit` already; whether it did.
pub(crate) fn charge(count: &AtomicU64, limit: u64) -> bool {
    let over = count.fetch_add(1, Relaxed) >= limit;
    if over {
        count.fetch_sub(1, Relaxed);
    }
    !over
}

/// The threads that a process is charged for, and whom. The charge of the leader is given back when the process is
/// released, not when the leader ends: a zombie uses a number, and counts (Linux's `release_task`).
pub(crate) struct Charges {
    user: Arc<UserCounts>,
    threads: u64,
}

impl Charges {
    /// A charge for one thread, given back when dropped.
    pub fn one(user: Arc<UserCounts>) -> Charges {
        user.add_threads(1);
        Charges { user, threads: 1 }
    }

    pub fn user(&self) -> &UserCounts {
        &self.user
    }

    /// Takes over what `other` holds. The user may have changed since that was taken.
    fn absorb(&mut self, mut other: Charges) {
        let count = core::mem::take(&mut other.threads);
        self.user.add_threads(count);
        other.user.remove_threads(count);
        self.threads += count;
    }

    fn give_back(&mut self, count: u64) {
        let count = count.min(self.threads);
        self.threads -= count;
        self.user.remove_threads(count);
    }
}

impl Drop for Charges {
    fn drop(&mut self) {
        self.give_back(u64::MAX);
    }
}

impl Process {
    /// What the process's user uses.
    pub fn user_counts(&self) -> Arc<UserCounts> {
        self.charges.lock().user.clone()
    }

    /// A new thread of this process is there: its charge becomes the process's.
    pub(crate) fn charge_thread(&self, charge: Charges) {
        let charge = {
            let mut charges = self.charges.lock();
            let user = charge.user.clone();
            charges.absorb(charge);
            user
        };
        // The last reference to a user may go with this, and takes a lock of its own.
        drop(charge);
    }

    /// A thread has gone, or the process was released.
    pub(crate) fn uncharge_thread(&self) {
        self.charges.lock().give_back(1);
    }

    /// The threads of the process count against another user from now on.
    pub(crate) fn move_charges(&self, uid: u32) {
        let user = UserCounts::of(uid);
        // As Linux does: those that the user has without this process.
        self.changed_to_many.store(self.is_beyond_limit(&user), Relaxed);
        let old = {
            let mut charges = self.charges.lock();
            user.add_threads(charges.threads);
            charges.user.remove_threads(charges.threads);
            core::mem::replace(&mut charges.user, user)
        };
        drop(old);
    }

    fn is_beyond_limit(&self, user: &UserCounts) -> bool {
        user.uid != 0 && user.threads() > soft(self, RLIMIT_NPROC)
    }

    /// For exec: EAGAIN while the process is of a user beyond RLIMIT_NPROC since it became that user's. Becoming so does
    /// not fail, since programs that give up rights by it did not look (execve(2)).
    pub fn check_user(&self) -> Result<()> {
        if self.changed_to_many.load(Relaxed) && self.is_beyond_limit(&self.user_counts()) {
            return Err(Errno::EAGAIN);
        }
        self.changed_to_many.store(false, Relaxed);
        Ok(())
    }
}
