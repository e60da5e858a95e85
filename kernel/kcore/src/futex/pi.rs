//! Futexes with priority inheritance: FUTEX_LOCK_PI and its kin (futex(2), "Priority-inheritance futexes").
//!
//! **Problem.** The word of such a lock holds its owner's thread number, so that the kernel can lend the owner the
//! priority of those who wait. A program takes and leaves a lock that nobody wants without a system call: the
//! kernel knows a lock only while somebody waits for it.
//!
//! **Idea.** One [`pigraph::Graph`] behind one spin lock knows all these locks; contention on them is rare, and chains
//! of owners cross locks. The kernel changes a word only with that lock held and faults off, as it does with the
//! bucket's lock for other futexes. A lock is *passed on*: the owner who leaves makes the most urgent waiter the
//! owner, in the word and in the graph, before it wakes it. An owner who dies cannot write to memory that may not be
//! its own; so its heir, once awake, writes the word (it *settles* it), and the graph keeps the lock until then.

use super::{Key, Word, bring_in_writable, load_locked};
use crate::thread::Thread;
use crate::{Ctx, Result, pid};
use abi::Errno;
use abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use pigraph::{Graph, Priority};
use sched::SchedKind;
use sync::SpinLock;
use sync::levels::PiFutex;
use task::{WaitEnd, WaitMode};

/// A thread in the graph. It takes itself out before it ends, so this is never the last reference.
#[derive(Clone)]
pub(super) struct Who(pub Arc<Thread>);

impl Who {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

impl PartialEq for Who {
    fn eq(&self, other: &Who) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Who {}

impl PartialOrd for Who {
    fn partial_cmp(&self, other: &Who) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Who {
    fn cmp(&self, other: &Who) -> Ordering {
        self.address().cmp(&other.address())
    }
}

/// All locks that somebody waits for.
pub(super) struct Locks {
    graph: Graph<Key, Who>,
    /// Those whose owner died: the word does not name the new one yet.
    unsettled: BTreeSet<Key>,
}

pub(super) static LOCKS: SpinLock<Locks, PiFutex> =
    SpinLock::new(Locks { graph: Graph::new(), unsettled: BTreeSet::new() });

/// Threads on their way to waiting, waiting, or on their way back. Without any the graph is empty, and who ends or
/// changes its priority need not look.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

pub(super) struct Inside(());

impl Inside {
    pub fn enter() -> Inside {
        INSIDE.fetch_add(1, SeqCst);
        Inside(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, SeqCst);
    }
}

/// The scheduler follows.
fn boost(who: &Who, to: Priority) {
    if let Some(task) = who.0.task() {
        sched::set_boost(&task, to);
    }
}

/// A thread's own urgency: fair tasks have none.
fn base_of(thread: &Thread) -> Priority {
    let params = thread.task().map(|task| sched::params(&task)).unwrap_or_default();
    match params.kind {
        SchedKind::Fifo | SchedKind::RoundRobin => params.rt_priority,
        _ => 0,
    }
}

/// The thread that a word names, if there is one.
pub(super) fn owner_of(value: u32) -> Option<Arc<Thread>> {
    match value & FUTEX_TID_MASK {
        0 => None,
        tid => pid::find_thread(tid),
    }
}

/// What a look at the word came to.
pub(super) enum Step {
    /// The lock is the thread's.
    Owner,
    /// The graph knows the lock and its owner, and the word says that somebody waits.
    Contended,
    /// The word has changed: look again.
    Again,
    /// The word has to be brought in for writing.
    Fault,
}

/// Changes the word if it is still `value`.
pub(super) fn exchange(addr: usize, value: u32, new: u32) -> Step {
    match mem::user::cmpxchg_u32(addr, value, new) {
        Err(_) => Step::Fault,
        Ok(seen) if seen == value => Step::Contended,
        Ok(_) => Step::Again,
    }
}

impl Locks {
    /// Takes the lock for `thread` if nobody has it; otherwise makes sure that the graph knows it. `value` is what the
    /// word said when `owner` was looked for. ESRCH when it names nobody, EINVAL when it contradicts the graph, EPERM
    /// for a thread of the kernel, EAGAIN instead of contention with `only_try`.
    pub fn enter(
        &mut self,
        thread: &Thread,
        (key, addr): (Key, usize),
        (value, owner): (u32, Option<&Arc<Thread>>),
        waiters: bool,
        only_try: bool,
    ) -> Result<Step> {
        match load_locked(addr) {
            None => return Ok(Step::Fault),
            Some(now) if now != value => return Ok(Step::Again),
            Some(_) => {}
        }
        let named = value & FUTEX_TID_MASK;
        if let Some(known) = self.graph.owner(&key) {
            if !self.unsettled.contains(&key) && named != known.0.tid() {
                return Err(Errno::EINVAL);
            }
            return self.contend(key, addr, value, None, only_try);
        }
        if named == 0 {
            let more = if waiters { FUTEX_WAITERS } else { 0 };
            let step = exchange(addr, value, value & FUTEX_OWNER_DIED | more | thread.tid());
            return Ok(if matches!(step, Step::Contended) { Step::Owner } else { step });
        }
        // One that has ended cleaned up before: if the word still names it, it never will be free.
        let owner = owner.filter(|owner| !owner.futex.gone.load(SeqCst)).ok_or(Errno::ESRCH)?;
        if owner.process().is_kernel {
            return Err(Errno::EPERM);
        }
        self.contend(key, addr, value, Some(owner), only_try)
    }

    fn contend(
        &mut self,
        key: Key,
        addr: usize,
        value: u32,
        owner: Option<&Arc<Thread>>,
        only_try: bool,
    ) -> Result<Step> {
        if only_try {
            return Err(Errno::EAGAIN);
        }
        let step = match value & FUTEX_WAITERS {
            0 => exchange(addr, value, value | FUTEX_WAITERS),
            _ => Step::Contended,
        };
        if let (Step::Contended, Some(owner)) = (&step, owner) {
            self.own(key, owner);
        }
        Ok(step)
    }

    /// The graph learns of a lock whose word names `thread` and says that somebody waits.
    pub fn own(&mut self, key: Key, thread: &Arc<Thread>) {
        self.graph.keep(&key, &Who(thread.clone()), base_of(thread));
    }

    /// `thread` begins to wait for a lock that is contended. EDEADLK when the owner waits for it.
    pub fn wait(&mut self, key: Key, thread: &Arc<Thread>) -> Result<()> {
        let waited = self.graph.wait(&key, &Who(thread.clone()), base_of(thread), &mut boost);
        if waited.is_err() {
            self.drop_if_idle(key);
            return Err(Errno::EDEADLK);
        }
        Ok(())
    }

    /// Takes a waiter out; false when the lock is its own by now.
    pub fn give_up(&mut self, thread: &Arc<Thread>) -> bool {
        if thread.futex.woken.load(SeqCst) {
            return false;
        }
        if let Some(key) = self.graph.give_up(&Who(thread.clone()), &mut boost) {
            self.drop_if_idle(key);
        }
        true
    }

    fn drop_if_idle(&mut self, key: Key) {
        if !self.unsettled.contains(&key) {
            self.graph.drop_if_idle(&key);
        }
    }

    /// The owner of a lock is gone, or cannot reach the word: the most urgent waiter inherits it.
    fn bequeath(&mut self, key: Key) {
        self.unsettled.remove(&key);
        if let Some(heir) = self.graph.pass_on(&key, &mut boost) {
            self.unsettled.insert(key);
            heir.0.futex.inherited.store(true, SeqCst);
            wake(&heir.0);
        }
    }
}

/// The thread owns what it waited for.
pub(super) fn wake(thread: &Thread) {
    thread.futex.woken.store(true, SeqCst);
    if let Some(task) = thread.task() {
        task.wake();
    }
}

/// FUTEX_LOCK_PI, FUTEX_LOCK_PI2, and with `only_try` FUTEX_TRYLOCK_PI. EDEADLK, ESRCH, EINVAL, EPERM as futex(2) has
/// them; EAGAIN when only trying, ETIMEDOUT at `deadline_ns` (monotonic).
pub fn lock(ctx: &mut Ctx, word: Word, deadline_ns: Option<u64>, only_try: bool) -> Result<usize> {
    let key = word.key(ctx.mm())?;
    let _inside = Inside::enter();
    loop {
        let value = mem::user::load_u32(word.addr).map_err(|_| Errno::EFAULT)?;
        if value & FUTEX_TID_MASK == ctx.thread.tid() {
            return Err(Errno::EDEADLK);
        }
        let owner = owner_of(value);
        let mut locks = LOCKS.lock();
        let place = (key, word.addr);
        match locks.enter(ctx.thread, place, (value, owner.as_ref()), false, only_try)? {
            Step::Owner => return Ok(0),
            Step::Contended => {
                ctx.thread.futex.woken.store(false, SeqCst);
                locks.wait(key, ctx.thread)?;
                drop(locks);
                return sleep(ctx, key, word, deadline_ns);
            }
            Step::Again => {}
            Step::Fault => {
                drop(locks);
                bring_in_writable(word.addr)?;
            }
        }
        if task::current().fatal_pending() {
            return Err(Errno::ERESTARTNOINTR);
        }
    }
}

fn sleep(ctx: &mut Ctx, key: Key, word: Word, deadline_ns: Option<u64>) -> Result<usize> {
    let waiter = &ctx.thread.futex;
    let woken = || waiter.woken.load(SeqCst).then_some(());
    let end = task::wait_alone(&"futex_lock_pi", WaitMode::Interruptible, deadline_ns, woken);
    if let Err(end) = end
        && LOCKS.lock().give_up(ctx.thread)
    {
        return Err(match end {
            WaitEnd::Timeout => Errno::ETIMEDOUT,
            WaitEnd::Signal => Errno::ERESTARTNOINTR,
        });
    }
    settle(ctx.thread, key, word)
}

/// The thread has become the owner. If it inherited the lock, it writes that into the word.
pub(super) fn settle(thread: &Arc<Thread>, key: Key, word: Word) -> Result<usize> {
    if !thread.futex.inherited.swap(false, SeqCst) {
        return Ok(0);
    }
    loop {
        let mut locks = LOCKS.lock();
        let step = match load_locked(word.addr) {
            None => Step::Fault,
            Some(value) => exchange(word.addr, value, FUTEX_WAITERS | FUTEX_OWNER_DIED | thread.tid()),
        };
        match step {
            Step::Fault => {
                drop(locks);
                if let Err(error) = bring_in_writable(word.addr) {
                    LOCKS.lock().bequeath(key);
                    return Err(error);
                }
            }
            Step::Again => {}
            Step::Owner | Step::Contended => {
                locks.unsettled.remove(&key);
                locks.drop_if_idle(key);
                return Ok(0);
            }
        }
    }
}

/// FUTEX_UNLOCK_PI. EPERM when the word names somebody else, EINVAL when the graph does.
pub fn unlock(ctx: &Ctx, word: Word) -> Result<usize> {
    let key = word.key(ctx.mm())?;
    let me = Who(ctx.thread.clone());
    loop {
        let mut locks = LOCKS.lock();
        let step = match load_locked(word.addr) {
            None => Step::Fault,
            Some(value) if value & FUTEX_TID_MASK != me.0.tid() => return Err(Errno::EPERM),
            Some(value) => {
                if locks.graph.owner(&key).is_some_and(|owner| *owner != me) {
                    return Err(Errno::EINVAL);
                }
                let next = locks.graph.first_waiter(&key).map_or(0, |next| FUTEX_WAITERS | next.0.tid());
                exchange(word.addr, value, next)
            }
        };
        match step {
            Step::Owner | Step::Contended => {
                if let Some(next) = locks.graph.pass_on(&key, &mut boost) {
                    locks.drop_if_idle(key);
                    wake(&next.0);
                }
                return Ok(0);
            }
            Step::Again => {}
            Step::Fault => {
                drop(locks);
                bring_in_writable(word.addr)?;
            }
        }
    }
}

/// The thread ends, or becomes another program: what it owns goes to those who wait. After the robust list.
pub(crate) fn thread_ends(thread: &Arc<Thread>) {
    thread.futex.gone.store(true, SeqCst);
    if INSIDE.load(SeqCst) == 0 {
        return;
    }
    let me = Who(thread.clone());
    let mut locks = LOCKS.lock();
    // It waits only if an oops ended it.
    if let Some(key) = locks.graph.give_up(&me, &mut boost) {
        locks.drop_if_idle(key);
    }
    while let Some(key) = locks.graph.any_owned(&me).copied() {
        locks.bequeath(key);
    }
}

/// The thread goes on after all, with another program.
pub(crate) fn thread_execs(thread: &Arc<Thread>) {
    thread_ends(thread);
    thread.futex.gone.store(false, Relaxed);
}

/// The thread's own priority has changed: those who own what it waits for follow.
pub fn priority_changed(thread: &Arc<Thread>) {
    if INSIDE.load(SeqCst) != 0 {
        LOCKS.lock().graph.set_base(&Who(thread.clone()), base_of(thread), &mut boost);
    }
}
