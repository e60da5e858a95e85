//! The thread of a mounted file system: what was changed gets to the device some seconds later.

use crate::instance::Instance;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use sync::levels::FatWorker;
use task::{Mutex, NewTask, WaitMode, WaitQueue};

/// How old a change gets: as the flusher's dirty_writeback_centisecs.
const AGE_NS: u64 = 5_000_000_000;

/// What the thread and its file system share.
pub(crate) struct Worker {
    queue: WaitQueue,
    asked: AtomicBool,
    stopped: AtomicBool,
    /// Held while the thread works.
    busy: Mutex<(), FatWorker>,
}

impl Worker {
    pub fn new() -> Arc<Worker> {
        Arc::new(Worker {
            queue: WaitQueue::new(&"fat_writeback"),
            asked: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            busy: Mutex::new(()),
        })
    }

    /// Starts the thread `fat/NAME`.
    pub fn start(self: &Arc<Self>, instance: &Arc<Instance>) -> Result<()> {
        let (worker, weak) = (self.clone(), Arc::downgrade(instance));
        let name = format!("fat/{}", instance.device.name());
        NewTask::kernel(name, Box::new(move || worker.run(weak))).spawn()?;
        Ok(())
    }

    /// There is something to write.
    pub fn wake(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.queue.wake_all();
        }
    }

    /// Ends the thread; it does not work any more when this returns.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.queue.wake_all();
        drop(self.busy.lock());
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn run(&self, instance: Weak<Instance>) {
        while !self.is_stopped() {
            let asked = || self.is_stopped() || self.asked.load(Ordering::Acquire);
            let _ = self.queue.wait_until(WaitMode::Idle, None, || asked().then_some(()));
            let deadline = time::monotonic_ns().saturating_add(AGE_NS);
            let stopped = || self.is_stopped().then_some(());
            let _ = self.queue.wait_until(WaitMode::Idle, Some(deadline), stopped);
            self.round(&instance);
        }
    }

    fn round(&self, instance: &Weak<Instance>) {
        let _busy = self.busy.lock();
        if self.is_stopped() {
            return;
        }
        self.asked.store(false, Ordering::Release);
        if let Some(instance) = instance.upgrade() {
            instance.write_metadata();
        }
    }
}
