//! Work: closures run by a kernel thread, where they may sleep.
//!
//! One queue with one `kworker` thread that grows helpers is more than today's users need (reaping,
//! console hang-ups); a queue is made by whoever wants an ordering of its own.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use sync::SpinLock;
use sync::levels::DriverIrq;
use task::{NewTask, WaitMode, WaitQueue};

type Job = Box<dyn FnOnce() + Send>;

/// A first-in, first-out queue with a thread of its own.
pub struct WorkQueue {
    jobs: SpinLock<VecDeque<Job>, DriverIrq>,
    thread: WaitQueue,
}

impl WorkQueue {
    /// Makes the queue and starts its thread under `name`.
    pub fn start(name: impl Into<String>) -> Result<Arc<WorkQueue>, mem::OutOfMemory> {
        let queue = Arc::new(WorkQueue {
            jobs: SpinLock::new(VecDeque::new()),
            thread: WaitQueue::new(&"worker_thread"),
        });
        let worker = queue.clone();
        NewTask::kernel(name, move || worker.run()).spawn()?;
        Ok(queue)
    }

    /// Queues a job. Any context; the box is the caller's allocation.
    pub fn queue(&self, job: Job) {
        self.jobs.lock().push_back(job);
        self.thread.wake_one();
    }

    fn run(&self) {
        loop {
            let next = || self.jobs.lock().pop_front();
            if let Ok(job) = self.thread.wait_until(WaitMode::Idle, None, next) {
                job();
            }
        }
    }
}
