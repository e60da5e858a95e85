//! Where tasks run: the decisions of load balancing, without the moving.
//!
//! **Problem.** With one run queue per CPU somebody must decide on which one a task wakes or is born,
//! when a CPU looks for work elsewhere, and how much it takes. These decisions are made from numbers
//! that may be stale the next moment, hence can be pure: wrong by a little is normal.
//!
//! **Interface.** [`Cpus`] is what a decision may look at; the kernel answers from per-CPU atomics, the
//! simulator from its state. [`place_woken`] and [`place_new`] choose a CPU for a fair task,
//! [`place_rt`] for a real-time one; [`idle_pull`] says whom a CPU without work takes a task from,
//! [`push`] whom one with too much gives to. Affinities are bit masks, 64 CPUs a word; CPUs that are off line are in no mask.
//!
//! **Idea.** Idle CPUs and CPUs with tasks waiting are bits, so finding one among 4096 costs 64 words at
//! most, and the neighbours (the CPUs of the same word, as if they shared a cache) come first.
//!
//! Waking on another CPU is not free: an interrupt, and a CPU that comes out of its sleep (a host
//! system call under emulation). So a waker that is about to sleep keeps its wakee with it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

/// A task that ran more recently than this has a warm cache and is not moved to a CPU that is busy too
/// (sysctl_sched_migration_cost), in ns.
pub const MIGRATION_COST_NS: u64 = 500_000;

/// A waker that sleeps sooner than this after a wake-up does so before another CPU would have started the
/// wakee, or soon after.
pub const SHORT_TAIL_NS: u64 = 100_000;

/// A queue is worth relieving when its load exceeds another's by this much (imbalance_pct 117).
const IMBALANCE_PERCENT: u64 = 117;

/// Weight of one ordinary task.
const TASK_LOAD: u64 = 1024;

/// What decisions look at. Answers may be out of date.
pub trait Cpus {
    /// CPUs are `0..count()`.
    fn count(&self) -> usize;
    /// Of the CPUs `64*word..64*word+64`, those with nothing to run.
    fn idle(&self, word: usize) -> u64;
    /// Of the same, those where a task that could move waits.
    fn overloaded(&self, word: usize) -> u64;
    /// Tasks that want the CPU, the running one included.
    fn nr_running(&self, cpu: usize) -> u32;
    /// The sum of the weights of its fair tasks.
    fn load(&self, cpu: usize) -> u64;
    /// The priority of its most urgent real-time task, 0 for none.
    fn rt_priority(&self, cpu: usize) -> u8;
}

/// The circumstances of a wake-up.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    /// Where the task ran last.
    pub prev: usize,
    /// Where the waker runs.
    pub waker: usize,
    /// The waker says that it is about to sleep.
    pub sync: bool,
    /// How long the waker usually goes on between waking somebody and sleeping, in ns (see
    /// [`next_tail_ns`]); `u64::MAX` when an interrupt wakes.
    pub waker_tail_ns: u64,
}

/// How much to move, and from or to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The other CPU.
    pub cpu: usize,
    /// Weight to move at most; one task may always be moved.
    pub load: u64,
}

/// The CPU for a fair task that wakes. `None` when `allowed` is empty.
///
/// 1. With a waker that is alone on its CPU and will sleep soon: there, it is about to be free.
/// 2. The waker's CPU, if that is idle: an interrupt woke the task there. This CPU is awake and about to look for
///    work; where the task ran last may have a warmer cache, but sleeps, and is woken by another interrupt. (Linux
///    goes to where it ran last. That costs each read of a disk two CPUs' wake-ups, where all interrupts of a
///    device come to one CPU.)
/// 3. Where it ran last, if that is idle, or another idle one near it.
/// 4. None is idle: where it ran last, unless the waker's queue is clearly shorter.
pub fn place_woken(cpus: &impl Cpus, allowed: &[u64], wake: Wake) -> Option<usize> {
    let Wake { prev, waker, .. } = wake;
    let may = |cpu: usize| contains(allowed, cpu);
    let waker_leaves = wake.sync || wake.waker_tail_ns < SHORT_TAIL_NS;
    if waker_leaves && may(waker) && cpus.nr_running(waker) <= 1 && cpus.rt_priority(waker) == 0 {
        return Some(waker);
    }
    for candidate in [waker, prev] {
        if may(candidate) && is_idle(cpus, candidate) {
            return Some(candidate);
        }
    }
    if let Some(idle) = find_idle(cpus, allowed, prev) {
        return Some(idle);
    }
    match (may(prev), may(waker)) {
        (true, true) if cpus.nr_running(waker) + 1 < cpus.nr_running(prev) => Some(waker),
        (true, _) => Some(prev),
        (false, true) => Some(waker),
        (false, false) => least_loaded(cpus, allowed, prev),
    }
}

/// A task's usual time from waking somebody to sleeping, after the last time took `tail_ns`.
///
/// Follows what is common, not the mean: quickly down, slowly and never far up. A virtual CPU that its
/// host takes away for a moment would otherwise turn a pair of tasks that wait for each other into one
/// that seems to work in parallel, for good: woken on another CPU each time, their tails stay long.
pub fn next_tail_ns(usual_ns: u64, tail_ns: u64) -> u64 {
    match tail_ns.checked_sub(usual_ns) {
        None => usual_ns - (usual_ns - tail_ns) / 2,
        Some(longer_ns) => usual_ns + (longer_ns / 8).min(usual_ns / 4 + 1_000),
    }
}

/// What [`next_tail_ns`] starts from: a new task is believed to sleep soon after a wake-up.
pub const FIRST_TAIL_NS: u64 = SHORT_TAIL_NS / 2;

/// The CPU for a new fair task: its parent's when that runs nothing but the parent, else an idle one
/// near by, else the least loaded.
///
/// Linux goes to an idle CPU at once. Most parents, though, wait for their first child right away, and
/// then a local child starts sooner; the parent that goes on computing is relieved by [`push`] within a
/// slice, and one that makes more children spreads them from the second on.
pub fn place_new(cpus: &impl Cpus, allowed: &[u64], parent: usize) -> Option<usize> {
    if contains(allowed, parent) && cpus.nr_running(parent) <= 1 && cpus.rt_priority(parent) == 0 {
        return Some(parent);
    }
    find_idle(cpus, allowed, parent).or_else(|| least_loaded(cpus, allowed, parent))
}

/// The CPU for a real-time task of `priority` that becomes runnable: where it ran last if it would run
/// at once there, else an idle CPU, else the one that runs the least urgent task.
pub fn place_rt(cpus: &impl Cpus, allowed: &[u64], prev: usize, priority: u8) -> Option<usize> {
    if contains(allowed, prev) && cpus.rt_priority(prev) < priority {
        return Some(prev);
    }
    find_idle(cpus, allowed, prev).or_else(|| {
        let candidates = members(cpus, allowed, prev);
        candidates.min_by_key(|cpu| (cpus.rt_priority(*cpu), cpus.nr_running(*cpu), *cpu != prev))
    })
}

/// Whom `me`, which has just run out of work, takes a task from: the busiest neighbour where one waits,
/// or the busiest of the next group that has one.
pub fn idle_pull(cpus: &impl Cpus, me: usize) -> Option<Move> {
    let words = word_count(cpus);
    (0..words).find_map(|step| {
        let word = (me / 64 + step) % words;
        let waiting = Bits { word, bits: cpus.overloaded(word) };
        let cpu = waiting.filter(|cpu| *cpu != me).max_by_key(|cpu| cpus.nr_running(*cpu))?;
        Some(Move { cpu, load: (cpus.load(cpu) / 2).max(1) })
    })
}

/// Whom `me`, where tasks wait, gives some of them to: an idle CPU, or one in `online` that has clearly
/// less to do. Called every [`interval_ns`], and for idle takers (`only_idle`) at every tick.
///
/// The busy CPU pushes, where Linux lets the others pull: without a periodic tick on CPUs that are idle
/// or run one task, only the busy one is awake to notice.
pub fn push(cpus: &impl Cpus, online: &[u64], me: usize, only_idle: bool) -> Option<Move> {
    let mine = cpus.load(me);
    if let Some(cpu) = find_idle(cpus, online, me).filter(|cpu| *cpu != me) {
        return Some(Move { cpu, load: (mine / 2).max(1) });
    }
    if only_idle {
        return None;
    }
    let others = members(cpus, online, me).filter(|cpu| *cpu != me);
    let cpu = others.min_by_key(|cpu| cpus.load(*cpu))?;
    let theirs = cpus.load(cpu);
    let gap = mine.saturating_sub(theirs);
    let clearly_more = mine.saturating_mul(100) > theirs.saturating_mul(IMBALANCE_PERCENT);
    // Two against one cannot be improved by moving one over.
    let improvable = gap > TASK_LOAD || cpus.nr_running(me) > cpus.nr_running(cpu) + 1;
    (clearly_more && improvable).then_some(Move { cpu, load: (gap / 2).max(1) })
}

/// Time between two calls of [`push`] on one CPU, in ns: a millisecond per CPU of the machine, at least
/// 8, at most 64.
pub fn interval_ns(cpus: usize) -> u64 {
    (cpus as u64).clamp(8, 64) * 1_000_000
}

/// An idle CPU in `allowed` to take over waiting work from `from`, nearest first.
pub fn find_idle(cpus: &impl Cpus, allowed: &[u64], from: usize) -> Option<usize> {
    let words = word_count(cpus);
    (0..words).find_map(|step| {
        let word = (from / 64 + step) % words;
        let idle = cpus.idle(word) & allowed.get(word).copied().unwrap_or(0);
        let bit = first_from(idle, if step == 0 { from % 64 } else { 0 })?;
        Some(word * 64 + bit as usize).filter(|cpu| *cpu < cpus.count())
    })
}

/// The CPU in `allowed`, of those near `near`, with the least to do; `near` in doubt.
pub fn least_loaded(cpus: &impl Cpus, allowed: &[u64], near: usize) -> Option<usize> {
    let candidates = members(cpus, allowed, near);
    candidates.min_by_key(|cpu| (cpus.nr_running(*cpu), cpus.load(*cpu), *cpu != near))
}

fn is_idle(cpus: &impl Cpus, cpu: usize) -> bool {
    cpus.idle(cpu / 64) >> (cpu % 64) & 1 == 1
}

fn contains(mask: &[u64], cpu: usize) -> bool {
    mask.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1)
}

fn word_count(cpus: &impl Cpus) -> usize {
    cpus.count().div_ceil(64).max(1)
}

/// The lowest bit at or after `start`, cyclically: so that CPUs are used evenly, not from 0 up.
fn first_from(bits: u64, start: usize) -> Option<u32> {
    match bits {
        0 => None,
        bits => Some((bits.rotate_right(start as u32).trailing_zeros() + start as u32) % 64),
    }
}

/// The CPUs of `mask`; the words before and after that of `near` follow it. At most four words are
/// looked at: finding the very best of thousands of CPUs is not worth reading them all.
fn members(cpus: &impl Cpus, mask: &[u64], near: usize) -> impl Iterator<Item = usize> {
    const WORDS: usize = 4;
    let words = word_count(cpus);
    let count = cpus.count();
    let nonempty = (0..words).map(move |step| (near / 64 + step) % words).filter_map(move |word| {
        let bits = mask.get(word).copied().unwrap_or(0);
        (bits != 0).then_some(Bits { word, bits })
    });
    nonempty.take(WORDS).flatten().filter(move |cpu| *cpu < count)
}

/// The numbers of the bits set in one word of a mask.
#[derive(Clone, Copy, Debug)]
struct Bits {
    word: usize,
    bits: u64,
}

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bit = self.bits.trailing_zeros();
        self.bits &= self.bits.wrapping_sub(1);
        (bit < 64).then_some(self.word * 64 + bit as usize)
    }
}
