//! Hardware queues: tags, the way of requests to the driver, and back.
//!
//! ```text
//!   plug / submit ─> software queue of this CPU ─┐
//!                └─> elevator ───────────────────┤ run(): under the hardware queue's lock,
//!   flush machine ─> list of the queue ──────────┘ while there is a tag
//!                                                     │ queue_rq
//!   EndBio <─ finish <─ complete() <─ interrupt <─ device
//! ```
//!
//! Whoever adds a request calls [`Disk::run`]; when there is no tag, or the device has no room, the next
//! completion on that queue does. So nobody polls and no request stays behind.

use crate::disk::{Disk, Pool, Queued};
use crate::request::{Request, Stage};
use crate::stats::Group;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use iosched_queue::Order;
use klog::{pr_err, pr_warn};
use sync::SpinLock;
use sync::levels::BlockDispatch;
use task::WaitMode;

pub(crate) struct Inner {
    /// Requests that go before all others, in order: flushes, and what the driver had no room for.
    first: VecDeque<Box<Request>>,
    /// By tag: what is under way.
    under_way: Vec<Option<Box<Request>>>,
    free: Vec<u16>,
    /// The CPU whose software queue is looked at next.
    next_cpu: usize,
}

/// One hardware queue.
pub(crate) struct HwQueue {
    inner: SpinLock<Inner, BlockDispatch>,
    /// CPUs whose software queue may hold requests for this queue.
    pub soft: AtomicU64,
}

impl HwQueue {
    pub(crate) fn new(depth: u16) -> Result<HwQueue> {
        let depth = usize::from(depth);
        let mut under_way = Vec::new();
        let mut free = Vec::new();
        let mut first = VecDeque::new();
        let room = under_way.try_reserve_exact(depth).and(free.try_reserve_exact(depth));
        // Flushes are few; what comes back from the driver is one.
        room.and(first.try_reserve(8)).map_err(|_| Errno::ENOMEM)?;
        under_way.resize_with(depth, || None);
        free.extend((0..depth as u16).rev());
        let inner = Inner { first, under_way, free, next_cpu: 0 };
        Ok(HwQueue { inner: SpinLock::new(inner), soft: AtomicU64::new(0) })
    }
}

impl Disk {
    /// The hardware queue of the CPU that runs now.
    pub(crate) fn hw_here(&self) -> usize {
        self.hw_of(arch::cpu::id())
    }

    pub(crate) fn hw_of(&self, cpu: usize) -> usize {
        cpu % self.hw.len()
    }

    /// Puts a request before all others of this CPU's hardware queue.
    pub(crate) fn push_first(&self, request: Box<Request>) {
        let number = self.hw_here();
        self.hw[number].inner.lock().first.push_back(request);
        self.run(number);
    }

    /// Gives waiting requests to the driver while there are tags and room. Any context.
    pub(crate) fn run(&self, number: usize) {
        let hw = &self.hw[number];
        let mut sent = false;
        let mut failed: Option<(Box<Request>, Errno)> = None;
        loop {
            let mut inner = hw.inner.lock();
            while failed.is_none()
                && let Some(tag) = inner.free.pop()
            {
                let Some(mut request) = self.next_request(number, &mut inner) else {
                    inner.free.push(tag);
                    break;
                };
                request.started_ns = arch::timer::now_ns();
                match self.offer(number, tag, &request) {
                    Queued::Yes => {
                        sent = true;
                        inner.under_way[usize::from(tag)] = Some(request);
                    }
                    Queued::Busy => {
                        inner.free.push(tag);
                        inner.first.push_front(request);
                        break;
                    }
                    Queued::Failed(error) => {
                        inner.free.push(tag);
                        failed = Some((request, error));
                    }
                }
            }
            if sent {
                self.driver.commit_rqs(number);
                self.start_watch();
                sent = false;
            }
            drop(inner);
            // Ended without the lock: its submitter is told, and the flush machine may add requests.
            match failed.take() {
                Some((request, error)) => self.finish(request, Err(error)),
                None => return,
            }
        }
    }

    fn offer(&self, number: usize, tag: u16, request: &Request) -> Queued {
        if self.gone.load(Ordering::Relaxed) {
            return Queued::Failed(Errno::EIO);
        }
        self.driver.queue_rq(number, tag, request)
    }

    fn next_request(&self, number: usize, inner: &mut Inner) -> Option<Box<Request>> {
        if let Some(request) = inner.first.pop_front() {
            return Some(request);
        }
        if let Some(request) = self.next_soft(number, inner) {
            return Some(request);
        }
        if !self.has_elevator.load(Ordering::Acquire) {
            return None;
        }
        let mut elevator = self.elevator.lock();
        match elevator.as_mut()?.next(arch::timer::now_ns()) {
            Order::Start(id, mut request) => {
                request.elevator = Some((id, self.elevator_number.load(Ordering::Relaxed)));
                Some(request)
            }
            Order::WaitUntil(at_ns) => {
                drop(elevator);
                // Without memory for a timer the next request or completion asks again; with none of either
                // under way there is nothing to idle for, and the elevator's own check starts one.
                let _ = self.wake.get_expect().arm(at_ns);
                None
            }
            Order::Nothing => None,
        }
    }

    /// The next request from the software queues, one CPU after the other.
    fn next_soft(&self, number: usize, inner: &mut Inner) -> Option<Box<Request>> {
        let cpus = &self.hw[number].soft;
        loop {
            let mask = cpus.load(Ordering::Acquire);
            if mask == 0 {
                return None;
            }
            let later = mask & u64::MAX.checked_shl(inner.next_cpu as u32).unwrap_or(0);
            let cpu = if later != 0 { later } else { mask }.trailing_zeros() as usize;
            inner.next_cpu = cpu + 1;
            let mut queue = self.soft.of(cpu).lock();
            let request = queue.pop_front();
            if queue.is_empty() {
                // Under the queue's lock, so an addition is either seen here or sets the bit afterwards.
                cpus.fetch_and(!(1 << cpu), Ordering::AcqRel);
            }
            if request.is_some() {
                return request;
            }
        }
    }

    /// A device is done with a request. Any context; the driver holds no lock.
    pub fn complete(&self, hw: usize, tag: u16, result: Result<()>) {
        self.complete_all(hw, core::iter::once((tag, result)));
    }

    /// Several at once, as an interrupt handler finds them. As [`Disk::complete`].
    pub fn complete_all(&self, number: usize, done: impl IntoIterator<Item = (u16, Result<()>)>) {
        let Some(hw) = self.hw.get(number) else { return };
        for (tag, result) in done {
            let mut inner = hw.inner.lock();
            let request = inner.under_way.get_mut(usize::from(tag)).and_then(Option::take);
            if request.is_some() {
                inner.free.push(tag);
            }
            drop(inner);
            match request {
                Some(request) => self.finish(request, result),
                None => pr_err!("{}: the device completed tag {tag}, which is not under way", self.name()),
            }
        }
        self.run(number);
    }

    /// The device has room again: see [`Queued::Busy`]. Any context.
    pub fn restart(&self, hw: usize) {
        if hw < self.hw.len() {
            self.run(hw);
        }
    }

    /// The end of a request, but for the flush machine's own steps.
    pub(crate) fn finish(&self, mut request: Box<Request>, result: Result<()>) {
        let now_ns = arch::timer::now_ns();
        if let Some((id, number)) = request.elevator.take() {
            let mut elevator = self.elevator.lock();
            if number == self.elevator_number.load(Ordering::Relaxed)
                && let Some(elevator) = elevator.as_mut()
            {
                elevator.completed(id, now_ns);
            }
        }
        if let Err(error) = result {
            self.report(&request, error);
        }
        match request.stage {
            Stage::Plain => self.end_bios(request, result, now_ns),
            _ => self.flush_step(request, result),
        }
    }

    /// Gives the bios back and the request to the pool.
    pub(crate) fn end_bios(&self, mut request: Box<Request>, result: Result<()>, now_ns: u64) {
        if let Some(device) = request.device.take() {
            device.account_end(Group::of(request.op), request.sectors, request.began_ns, now_ns);
        }
        for bio in request.bios.drain(..) {
            bio.complete(result);
        }
        self.put_request(request);
    }

    fn report(&self, request: &Request, error: Errno) {
        // Not supported is an answer, and a failed read-ahead nobody's loss.
        if error != Errno::EOPNOTSUPP && !request.flags.contains(crate::BioFlags::RAHEAD) {
            pr_err!(
                "{} error, dev {}, sector {} op {:?} flags {:#x} sectors {}",
                if error == Errno::EIO { "I/O" } else { error.name() },
                self.name(),
                request.start,
                request.op,
                request.flags.bits(),
                request.sectors
            );
        }
    }

    // ---- the pool ----

    /// A free request; sleeps until there is one. A quarter of them is kept for I/O that somebody waits for
    /// (`sync`), so that a flood of writes leaves a reader something to ask with.
    pub(crate) fn get_request(&self, sync: bool) -> Box<Request> {
        loop {
            let free = || self.try_get_request(sync);
            let queue = &self.pool_wait[usize::from(sync)];
            if let Ok(request) = queue.wait_exclusive(WaitMode::Uninterruptible, None, free) {
                return request;
            }
        }
    }

    /// Requests that must stay free.
    fn kept(&self, pool: &Pool, sync: bool) -> usize {
        pool.withheld as usize + if sync { 0 } else { (self.requests - pool.withheld) as usize / 4 }
    }

    pub(crate) fn try_get_request(&self, sync: bool) -> Option<Box<Request>> {
        let mut pool = self.pool.lock();
        if pool.free.len() <= self.kept(&pool, sync) { None } else { pool.free.pop() }
    }

    pub(crate) fn put_request(&self, mut request: Box<Request>) {
        request.clear();
        let mut pool = self.pool.lock();
        pool.free.push(request);
        let for_all = pool.free.len() > self.kept(&pool, false);
        drop(pool);
        self.pool_wait[1].wake_one();
        if for_all {
            self.pool_wait[0].wake_one();
        }
    }

    // ---- requests that take too long ----

    fn start_watch(&self) {
        if !self.watching.load(Ordering::Relaxed) && !self.watching.swap(true, Ordering::Relaxed) {
            let at_ns = arch::timer::now_ns().saturating_add(self.timeout_ns());
            let _ = self.watch.get_expect().0.arm(at_ns);
        }
    }

    /// Tells the driver of requests that have been under way for too long; comes again while any is.
    pub(crate) fn look_for_timeouts(&self, now_ns: u64) {
        let timeout_ns = self.timeout_ns();
        let mut any = false;
        for (number, hw) in self.hw.iter().enumerate() {
            let mut tag = 0;
            loop {
                let mut inner = hw.inner.lock();
                let Some(slot) = inner.under_way.get_mut(tag) else { break };
                let late = slot.as_mut().filter(|request| {
                    any = true;
                    !request.warned && request.started_ns.saturating_add(timeout_ns) <= now_ns
                });
                let late = late.map(|request| {
                    request.warned = true;
                    (request.start, request.op)
                });
                drop(inner);
                if let Some((start, op)) = late {
                    let seconds = timeout_ns / 1_000_000_000;
                    pr_warn!("{}: {op:?} at sector {start} is under way for {seconds} s", self.name());
                    self.driver.timed_out(number, tag as u16);
                }
                tag += 1;
            }
        }
        self.watching.store(any, Ordering::Relaxed);
        if any {
            let _ = self.watch.get_expect().0.arm(now_ns.saturating_add(timeout_ns));
        }
    }
}
