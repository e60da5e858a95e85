//! Waiting for several files at once: what poll(2), select(2) and epoll(7) share.
//!
//! A file's `poll` says what is ready now. Given a [`PollTable`] it also subscribes the table's callback
//! to the wait queues where a change would show. [`poll_files`] looks once without subscribing (most
//! calls find something, or may not wait) and only then a second time with.

use crate::file::File;
use abi::poll::PollEvents;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::Once;
use task::{Subscription, Task, WaitEnd, WaitMode, WaitQueue, WakeCallback, wait_any};

/// Collects subscriptions while files are polled; dropping it ends them.
pub struct PollTable {
    callback: Arc<dyn WakeCallback>,
    subscriptions: Vec<Subscription>,
}

impl PollTable {
    pub fn new(callback: Arc<dyn WakeCallback>) -> PollTable {
        PollTable { callback, subscriptions: Vec::new() }
    }

    /// Subscribes to a queue. Called from [`crate::FileOps::poll`].
    pub fn add(&mut self, queue: &Arc<WaitQueue>) {
        self.subscriptions.push(queue.subscribe(self.callback.clone()));
    }

    pub(crate) fn into_subscriptions(self) -> Vec<Subscription> {
        self.subscriptions
    }
}

/// Something that changes now and then, and the files that tell of it: poll(2) of such a file says PRI and ERR when
/// there was a change since it was opened or last asked.
pub struct Changes {
    count: AtomicU64,
    queue: Once<Arc<WaitQueue>>,
}

impl Changes {
    pub const fn new() -> Changes {
        Changes { count: AtomicU64::new(0), queue: Once::new() }
    }

    /// There was a change. Any context that may take a wait queue's lock.
    pub fn announce(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if let Some(queue) = self.queue.get() {
            queue.wake_all();
        }
    }

    /// Changes so far: what an opener remembers.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Where the next change is waited for.
    pub fn queue(&self) -> &Arc<WaitQueue> {
        if self.queue.get().is_none() {
            // Two may both make it; the first stays.
            let _ = self.queue.set(Arc::new(WaitQueue::new(&"poll_changes")));
        }
        self.queue.get_expect()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Changes::new()
    }
}

/// Wakes the task that polls.
struct PollWaker {
    task: Arc<Task>,
    triggered: AtomicBool,
}

impl WakeCallback for PollWaker {
    fn woken(&self, _events: u32) {
        self.triggered.store(true, Ordering::SeqCst);
        self.task.wake_from(|state| matches!(state, task::State::Interruptible));
    }
}

/// One file that is waited for.
pub struct PollEntry {
    /// `None`: the descriptor was negative, or is not open (then `ready` is NVAL already).
    pub file: Option<Arc<File>>,
    pub wanted: PollEvents,
    pub ready: PollEvents,
}

impl PollEntry {
    #[inline]
    fn look(&mut self, table: Option<&mut PollTable>) -> bool {
        if let Some(file) = &self.file {
            self.ready = file.poll(table) & (self.wanted | PollEvents::ALWAYS);
        }
        !self.ready.is_empty()
    }
}

/// Fills the entries' `ready` and returns how many are; waits until one is, `deadline_ns` (monotonic)
/// passes (0 entries ready), or a signal comes (EINTR, which poll(2) and select(2) never restart).
/// `may_wait: false` looks once.
pub fn poll_files(entries: &mut [PollEntry], may_wait: bool, deadline_ns: Option<u64>) -> Result<usize> {
    let ready = entries.iter_mut().filter_map(|entry| entry.look(None).then_some(())).count();
    if ready > 0 || !may_wait {
        return Ok(ready);
    }
    let waker = Arc::new(PollWaker { task: task::current().arc(), triggered: AtomicBool::new(false) });
    let mut table = PollTable::new(waker.clone());
    let mut ready = 0;
    for entry in entries.iter_mut() {
        // Once something is ready nobody will sleep, so later files need no subscription.
        ready += usize::from(entry.look((ready == 0).then_some(&mut table)));
    }
    while ready == 0 {
        let triggered = || waker.triggered.swap(false, Ordering::SeqCst).then_some(());
        let end = wait_any(&[], WaitMode::Interruptible, deadline_ns, triggered);
        ready = entries.iter_mut().filter_map(|entry| entry.look(None).then_some(())).count();
        match end {
            _ if ready > 0 => {}
            Ok(()) => {}
            Err(WaitEnd::Timeout) => break,
            Err(WaitEnd::Signal) => return Err(Errno::EINTR),
        }
    }
    Ok(ready)
}
