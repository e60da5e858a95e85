//! Wait queues: how a task sleeps until something becomes true.
//!
//! ```text
//!   waiter                                  waker
//!   wait(|| try())                          change the object
//!     node into the queue                   queue.wake_one()
//!     announce(Interruptible)                 first node: task.wake()
//!     try() once more; schedule(); repeat
//! ```
//!
//! The nodes of sleeping tasks live on their own stacks (no allocation); [`Subscription`]s, which poll
//! and epoll use, are heap nodes with a callback. The list is intrusive and doubly linked, so leaving is
//! O(1) however long the queue is.

use crate::scheduler::{might_sleep, sleep_until};
use crate::task::{Current, State, Task, current};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomPinned;
use core::ptr;
use lockword::{SleepEnd, Sleeper, Slept};
use sync::SpinLock;
use sync::levels;

/// What ends a sleep besides the condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitMode {
    /// Nothing.
    Uninterruptible,
    /// A fatal signal.
    Killable,
    /// Any signal that is not blocked.
    Interruptible,
    /// Nothing; a kernel thread waiting for work (state I, no load).
    Idle,
}

/// Why a wait ended without its condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitEnd {
    /// A signal: the caller returns ERESTARTSYS or EINTR.
    Signal,
    /// The deadline passed.
    Timeout,
}

impl WaitMode {
    fn state(self) -> State {
        match self {
            WaitMode::Uninterruptible => State::Uninterruptible,
            WaitMode::Killable => State::Killable,
            WaitMode::Interruptible => State::Interruptible,
            WaitMode::Idle => State::Idle,
        }
    }

    fn interrupted(self, task: &Task) -> bool {
        match self {
            WaitMode::Interruptible => task.signal_pending(),
            WaitMode::Killable => task.fatal_pending(),
            WaitMode::Uninterruptible | WaitMode::Idle => false,
        }
    }
}

/// Called when a queue is woken. Runs with interrupts off under the queue's lock: it may wake other
/// queues and take `irq` locks above `WaitQueue`, and must not sleep or allocate.
pub trait WakeCallback: Send + Sync {
    /// `events` are the poll(2) bits that became true, or 0 when the waker did not say.
    fn woken(&self, events: u32);
}

enum Target {
    Task { task: Arc<Task>, exclusive: bool },
    Callback(Arc<dyn WakeCallback>),
}

struct Node {
    previous: Cell<*const Node>,
    next: Cell<*const Node>,
    queued: Cell<bool>,
    target: Target,
    _pinned: PhantomPinned,
}

impl Node {
    fn new(target: Target) -> Node {
        Node {
            previous: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            queued: Cell::new(false),
            target,
            _pinned: PhantomPinned,
        }
    }
}

struct List {
    first: *const Node,
    last: *const Node,
}

// SAFETY: 1. the pointers are followed only under the queue's lock; 2. nodes leave before they die.
unsafe impl Send for List {}

impl List {
    /// # Safety
    /// 1. `node` is in no list; 2. it stays where it is until `remove`; 3. the queue's lock is held.
    unsafe fn push_back(&mut self, node: *const Node) {
        // SAFETY: by this function's own obligations; neighbours are queued, hence alive.
        unsafe {
            (*node).previous.set(self.last);
            (*node).next.set(ptr::null());
            (*node).queued.set(true);
            if self.last.is_null() {
                self.first = node;
            } else {
                (*self.last).next.set(node);
            }
        }
        self.last = node;
    }

    /// # Safety
    /// 1. `node` is in this list or in none; 2. the queue's lock is held.
    unsafe fn remove(&mut self, node: *const Node) {
        // SAFETY: by this function's own obligations; neighbours are queued, hence alive.
        unsafe {
            if !(*node).queued.replace(false) {
                return;
            }
            let (previous, next) = ((*node).previous.get(), (*node).next.get());
            if previous.is_null() {
                self.first = next;
            } else {
                (*previous).next.set(next);
            }
            if next.is_null() {
                self.last = previous;
            } else {
                (*next).previous.set(previous);
            }
        }
    }
}

/// A queue of tasks (and callbacks) that wait for one thing.
pub struct WaitQueue {
    list: SpinLock<UnsafeCell<List>, levels::WaitQueue>,
    name: &'static &'static str,
}

// SAFETY: 1. the list is reached through the spin lock only.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// A queue; the name appears in /proc/PID/wchan: `WaitQueue::new(&"pipe_read")`.
    pub const fn new(name: &'static &'static str) -> WaitQueue {
        let list = List { first: ptr::null(), last: ptr::null() };
        WaitQueue { list: SpinLock::new(UnsafeCell::new(list)), name }
    }

    /// Whether nobody waits. A hint, for skipping a wake-up: the caller must have made its condition
    /// true with a sequentially consistent store or under a lock that the waiter's `try` takes.
    pub fn is_empty(&self) -> bool {
        // SAFETY: 1. the lock is held while the pointer is read.
        unsafe { (*self.list.lock_nested().get()).first.is_null() }
    }

    /// Wakes every waiter.
    pub fn wake_all(&self) {
        self.wake(usize::MAX, 0);
    }

    /// Wakes the callbacks, the non-exclusive waiters, and the first exclusive one.
    pub fn wake_one(&self) {
        self.wake(1, 0);
    }

    /// Wakes with the poll(2) events that became true; `exclusive` limits the exclusive waiters woken.
    /// Returns how many tasks were made runnable. Any context.
    pub fn wake(&self, exclusive: usize, events: u32) -> usize {
        let mut left = exclusive;
        let mut woken = 0;
        let guard = self.list.lock_nested();
        // SAFETY: 1. the lock is held; 2. queued nodes are alive (they leave under this lock).
        let mut node = unsafe { (*guard.get()).first };
        while !node.is_null() {
            // SAFETY: as above; `next` is read before the target may act.
            let (next, target) = unsafe { ((*node).next.get(), &(*node).target) };
            match target {
                Target::Callback(callback) => callback.woken(events),
                Target::Task { task, exclusive } => {
                    if !exclusive || left > 0 {
                        let did = task.wake();
                        woken += usize::from(did);
                        left -= usize::from(*exclusive && did);
                    }
                }
            }
            node = next;
        }
        woken
    }

    /// Sleeps until `attempt` yields a value, uninterruptibly.
    pub fn wait<R>(&self, mut attempt: impl FnMut() -> Option<R>) -> R {
        loop {
            if let Ok(value) = wait_any(&[self], WaitMode::Uninterruptible, None, &mut attempt) {
                return value;
            }
        }
    }

    /// Sleeps until `attempt` yields a value, a signal that `mode` lets through, or `deadline_ns`.
    pub fn wait_until<R>(
        &self,
        mode: WaitMode,
        deadline_ns: Option<u64>,
        attempt: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitEnd> {
        wait_any(&[self], mode, deadline_ns, attempt)
    }

    /// As [`WaitQueue::wait_until`], woken one at a time by [`WaitQueue::wake_one`].
    pub fn wait_exclusive<R>(
        &self,
        mode: WaitMode,
        deadline_ns: Option<u64>,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitEnd> {
        might_sleep();
        if let Some(value) = attempt() {
            return Ok(value);
        }
        let node = Node::new(Target::Task { task: current().arc(), exclusive: true });
        let entry = Entry::new(self, &node);
        let result = sleep_on(mode, deadline_ns, self.name, &mut attempt);
        drop(entry);
        // Woken and interrupted at once, or woken for the next thing while taking this one: hand the wake-up on, or it
        // is lost (lockword's tests show how).
        if result.as_ref().map_or(true, |slept| slept.spare_wake) {
            self.wake_one();
        }
        result.map(|slept| slept.value)
    }

    /// Registers a callback until the subscription drops.
    pub fn subscribe(self: &Arc<Self>, callback: Arc<dyn WakeCallback>) -> Subscription {
        let node = Box::new(Node::new(Target::Callback(callback)));
        // SAFETY: 1. the node is new; 2. it is boxed and leaves in `Subscription::drop`; 3. locked.
        unsafe { (*self.list.lock_nested().get()).push_back(&*node) };
        Subscription { queue: self.clone(), node }
    }
}

/// A node in a queue for as long as this guard lives.
struct Entry<'a> {
    queue: &'a WaitQueue,
    node: &'a Node,
}

impl<'a> Entry<'a> {
    fn new(queue: &'a WaitQueue, node: &'a Node) -> Entry<'a> {
        // SAFETY: 1. the node is new; 2. borrowed, hence unmoved, until `drop`; 3. locked.
        unsafe { (*queue.list.lock_nested().get()).push_back(node) };
        Entry { queue, node }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // SAFETY: 1. the node was put into this queue by `new`; 2. locked.
        unsafe { (*self.queue.list.lock_nested().get()).remove(self.node) };
    }
}

/// A callback's place in a queue; leaves when dropped. Do not drop it from the callback itself.
pub struct Subscription {
    queue: Arc<WaitQueue>,
    node: Box<Node>,
}

// SAFETY: 1. the node is touched under the queue's lock only; 2. its target is Send and Sync.
unsafe impl Send for Subscription {}
// SAFETY: as for Send.
unsafe impl Sync for Subscription {}

impl Drop for Subscription {
    fn drop(&mut self) {
        // SAFETY: 1. the node was put into this queue by `subscribe`; 2. locked.
        unsafe { (*self.queue.list.lock_nested().get()).remove(&*self.node) };
    }
}

/// Sleeps on several queues at once until `attempt` yields a value, a signal, or `deadline_ns`
/// (monotonic; `None`: no deadline). May be given no queue: a plain sleep. Process context.
pub fn wait_any<R>(
    queues: &[&WaitQueue],
    mode: WaitMode,
    deadline_ns: Option<u64>,
    mut attempt: impl FnMut() -> Option<R>,
) -> Result<R, WaitEnd> {
    might_sleep();
    if let Some(value) = attempt() {
        return Ok(value);
    }
    match queues {
        [] => sleep_loop(mode, deadline_ns, &"hrtimer_nanosleep", &mut attempt),
        [queue] => {
            let node = Node::new(Target::Task { task: current().arc(), exclusive: false });
            let _entry = Entry::new(queue, &node);
            sleep_loop(mode, deadline_ns, queue.name, &mut attempt)
        }
        [first, rest @ ..] => {
            let node = Node::new(Target::Task { task: current().arc(), exclusive: false });
            let _entry = Entry::new(first, &node);
            wait_any_inner(rest, mode, deadline_ns, first.name, &mut attempt)
        }
    }
}

/// As [`wait_any`] without a queue: whoever makes `attempt` succeed wakes the task itself. `name` is for
/// /proc/PID/wchan.
pub fn wait_alone<R>(
    name: &'static &'static str,
    mode: WaitMode,
    deadline_ns: Option<u64>,
    mut attempt: impl FnMut() -> Option<R>,
) -> Result<R, WaitEnd> {
    might_sleep();
    if let Some(value) = attempt() {
        return Ok(value);
    }
    sleep_loop(mode, deadline_ns, name, &mut attempt)
}

/// One stack frame a queue: the rare callers have two or three.
fn wait_any_inner<R>(
    queues: &[&WaitQueue],
    mode: WaitMode,
    deadline_ns: Option<u64>,
    name: &'static &'static str,
    attempt: &mut dyn FnMut() -> Option<R>,
) -> Result<R, WaitEnd> {
    let [first, rest @ ..] = queues else {
        return sleep_loop(mode, deadline_ns, name, attempt);
    };
    let node = Node::new(Target::Task { task: current().arc(), exclusive: false });
    let _entry = Entry::new(first, &node);
    wait_any_inner(rest, mode, deadline_ns, name, attempt)
}

/// The sleeping protocol ([`lockword::sleep()`]); the node is queued already.
fn sleep_loop<R>(
    mode: WaitMode,
    deadline_ns: Option<u64>,
    name: &'static &'static str,
    attempt: &mut dyn FnMut() -> Option<R>,
) -> Result<R, WaitEnd> {
    sleep_on(mode, deadline_ns, name, attempt).map(|slept| slept.value)
}

/// As [`sleep_loop`], with whether a wake-up is left over.
fn sleep_on<R>(
    mode: WaitMode,
    deadline_ns: Option<u64>,
    name: &'static &'static str,
    attempt: &mut dyn FnMut() -> Option<R>,
) -> Result<Slept<R>, WaitEnd> {
    let task = current();
    task.set_waiting_on(Some(name));
    let result = lockword::sleep(&Waiter { task, mode, deadline_ns }, attempt);
    task.set_waiting_on(None);
    result.map_err(|end| match end {
        SleepEnd::Signal => WaitEnd::Signal,
        SleepEnd::Timeout => WaitEnd::Timeout,
    })
}

/// The current task on its way to sleep.
struct Waiter {
    task: Current,
    mode: WaitMode,
    deadline_ns: Option<u64>,
}

impl Sleeper for Waiter {
    #[inline]
    fn announce(&self) {
        self.task.announce(self.mode.state());
    }

    #[inline]
    fn is_announced(&self) -> bool {
        self.task.state() != State::Running
    }

    #[inline]
    fn take_back(&self) -> bool {
        self.task.set_running()
    }

    #[inline]
    fn interrupted(&self) -> bool {
        self.mode.interrupted(&self.task)
    }

    #[inline]
    fn sleep(&self) -> bool {
        sleep_until(self.deadline_ns)
    }
}
