//! The thread of a mounted file system: commits what has become old, deletes what lost its last name, and makes errors
//! durable.

use crate::instance::Instance;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use sync::levels::Ext4Worker;
use task::{Mutex, NewTask, WaitMode, WaitQueue};

/// How long deleted files may wait for others. Who asks for free space does not wait for that.
const GATHER_NS: u64 = 10_000_000;

/// What the thread and its file system share.
pub(crate) struct Worker {
    queue: WaitQueue,
    asked: AtomicBool,
    stopped: AtomicBool,
    failed: AtomicBool,
    /// Held while the thread works.
    busy: Mutex<(), Ext4Worker>,
}

impl Worker {
    pub fn new() -> Arc<Worker> {
        Arc::new(Worker {
            queue: WaitQueue::new(&"kjournald2"),
            asked: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            busy: Mutex::new(()),
        })
    }

    /// Starts the thread `jbd2/NAME-8`.
    pub fn start(self: &Arc<Self>, instance: &Arc<Instance>) -> Result<()> {
        let (worker, weak) = (self.clone(), Arc::downgrade(instance));
        let name = format!("jbd2/{}-8", instance.device().name());
        NewTask::kernel(name, Box::new(move || worker.run(weak))).spawn()?;
        Ok(())
    }

    /// There is something to do. Any context without spin locks above wait queues.
    pub fn wake(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.queue.wake_all();
        }
    }

    /// The file system has failed: its superblock should say so.
    pub fn note_failure(&self) {
        self.failed.store(true, Ordering::Release);
        self.asked.store(true, Ordering::Release);
        self.queue.wake_all();
    }

    /// Ends the thread; it does not work any more when this returns.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.asked.store(true, Ordering::Release);
        self.queue.wake_all();
        drop(self.busy.lock());
    }

    fn run(&self, instance: Weak<Instance>) {
        while let Some(commit_ns) = self.round(&instance) {
            let deadline = time::monotonic_ns().saturating_add(commit_ns);
            let ready = || self.asked.load(Ordering::Acquire).then_some(());
            if self.queue.wait_until(WaitMode::Idle, Some(deadline), ready).is_ok() {
                self.gather();
            }
        }
    }

    /// Lets more come, but for what is urgent: who deletes many files one after the other wakes the thread once.
    fn gather(&self) {
        let urgent = || self.stopped.load(Ordering::Acquire) || self.failed.load(Ordering::Acquire);
        let deadline = time::monotonic_ns().saturating_add(GATHER_NS);
        let _ = self.queue.wait_until(WaitMode::Idle, Some(deadline), || urgent().then_some(()));
    }

    /// Works once; how long to sleep then, `None`: for ever.
    fn round(&self, instance: &Weak<Instance>) -> Option<u64> {
        let _busy = self.busy.lock();
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        let instance = instance.upgrade()?;
        // What is asked for from here on is for the next round.
        self.asked.store(false, Ordering::Release);
        let age_ns = u64::from(instance.options.commit_s) * 1_000_000_000;
        if self.failed.swap(false, Ordering::AcqRel) {
            instance.fs.store_failure();
        }
        if instance.fs.is_read_only() {
            return Some(age_ns);
        }
        instance.settle_all();
        let age = instance.fs.transaction_age_ns().unwrap_or(0);
        if age >= age_ns as i64 {
            let _ = instance.fs.commit_all();
        }
        Some(age_ns - (age.max(0) as u64).min(age_ns - 1_000_000))
    }
}
