//! One device: its requests on their way to the thread, its beginning and its end.

use crate::store::{PAGE, Store};
use crate::{files, worker};
use abi::stat::DevId;
use abi::{Errno, errno::Result};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{DiscardLimits, Disk, DiskInfo, Limits, Op, Queued, Request, Segment};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use sync::levels::{Driver as DriverLevel, DriverIrq, Leaf};
use sync::{Once, SpinLock};
use task::{Mutex, NewTask, WaitQueue};

/// From the range that Linux gives out dynamically.
const MAJOR: u32 = 252;
/// Requests under way, pages of one, and pieces of memory of one.
const DEPTH: u16 = 16;
const MAX_PAGES: u32 = 32;
const MAX_SEGMENTS: usize = 64;
const SECTORS: u64 = (PAGE >> block::SECTOR_SHIFT) as u64;

/// A request as the thread finds it.
pub(crate) struct Job {
    pub op: Op,
    /// Of pages.
    pub first: u64,
    pub count: u64,
    /// They keep their folios. With room for [`MAX_SEGMENTS`] once the device was set up.
    pub segments: Vec<Segment>,
}

/// Requests by tag, and the tags that the thread has not taken.
pub(crate) struct Jobs {
    pub by_tag: Vec<Job>,
    pub waiting: VecDeque<u16>,
}

/// One device.
pub(crate) struct Zram {
    disk: Once<Weak<Disk>>,
    pub jobs: SpinLock<Jobs, DriverIrq>,
    pub work: WaitQueue,
    pub store: SpinLock<Store, Leaf>,
    /// Held while the device is set up or reset.
    setup: Mutex<(), DriverLevel>,
    /// The thread runs, and there is room for jobs.
    started: AtomicBool,
    /// It was taken away: no request is served, and the thread ends.
    gone: AtomicBool,
}

/// Makes device number `number` and announces it, without a size.
pub(crate) fn make(number: u32) -> Result<Arc<Zram>> {
    let device = Arc::new(Zram {
        disk: Once::new(),
        jobs: SpinLock::new(Jobs { by_tag: Vec::new(), waiting: VecDeque::new() }),
        work: WaitQueue::new(&"zram"),
        store: SpinLock::new(Store::new()),
        setup: Mutex::new(()),
        started: AtomicBool::new(false),
        gone: AtomicBool::new(false),
    });
    let limits = Limits {
        logical_block: PAGE as u32,
        physical_block: PAGE as u32,
        io_min: PAGE as u32,
        io_opt: PAGE as u32,
        max_sectors: MAX_PAGES * SECTORS as u32,
        max_segments: MAX_SEGMENTS as u32,
        discard: Some(DiscardLimits { max_sectors: u32::MAX >> 9 & !7, granularity: PAGE as u32 }),
        max_write_zeroes: u32::MAX >> 9 & !7,
        ..Limits::default()
    };
    let info = DiskInfo {
        name: format!("zram{number}"),
        dev: DevId::new(MAJOR, number),
        minors: 1,
        sectors: 0,
        read_only: false,
        removable: false,
        partitions: false,
        limits,
        hw_queues: 1,
        depth: DEPTH,
    };
    let disk = Disk::new(info, device.clone())?;
    let _ = device.disk.set(Arc::downgrade(&disk));
    block::add_disk(&disk, "zram")?;
    files::register(&device, number);
    Ok(device)
}

impl Zram {
    pub(crate) fn disk(&self) -> Option<Arc<Disk>> {
        self.disk.get()?.upgrade()
    }

    /// `disksize`: the device begins. EBUSY when it has, EINVAL for nothing, ENOMEM.
    pub(crate) fn set_size(self: &Arc<Self>, bytes: u64) -> Result<()> {
        let pages = bytes.div_ceil(PAGE as u64);
        if pages == 0 || pages > u64::from(u32::MAX) {
            return Err(Errno::EINVAL);
        }
        let _one = self.setup.lock();
        let disk = self.disk().ok_or(Errno::ENXIO)?;
        if self.store.lock().pages() != 0 {
            return Err(Errno::EBUSY);
        }
        let mut store = Store::with_pages(pages)?;
        self.start(&disk)?;
        store.set_limit(self.store.lock().memory().1);
        *self.store.lock() = store;
        disk.whole().set_sectors(pages * SECTORS);
        Ok(())
    }

    /// The first time: room for jobs, and the thread.
    fn start(self: &Arc<Self>, disk: &Disk) -> Result<()> {
        if self.started.load(Relaxed) {
            return Ok(());
        }
        let (mut by_tag, mut waiting) = (Vec::new(), VecDeque::new());
        by_tag.try_reserve_exact(DEPTH.into()).map_err(|_| Errno::ENOMEM)?;
        waiting.try_reserve_exact(DEPTH.into()).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..DEPTH {
            let mut segments = Vec::new();
            segments.try_reserve_exact(MAX_SEGMENTS).map_err(|_| Errno::ENOMEM)?;
            by_tag.push(Job { op: Op::Read, first: 0, count: 0, segments });
        }
        let buffers = worker::Buffers::new()?;
        *self.jobs.lock() = Jobs { by_tag, waiting };
        let of = Arc::downgrade(self);
        NewTask::kernel(alloc::string::String::from(disk.name()), move || worker::run(&of, buffers))
            .spawn()?;
        self.started.store(true, Relaxed);
        Ok(())
    }

    /// `hot_remove`: the device is no more. EBUSY while somebody uses it.
    pub(crate) fn remove(&self) -> Result<()> {
        let disk = self.disk().ok_or(Errno::ENODEV)?;
        self.reset()?;
        block::del_disk(&disk)?;
        let jobs = self.jobs.lock();
        self.gone.store(true, Relaxed);
        drop(jobs);
        self.work.wake_all();
        Ok(())
    }

    /// Whether the thread has nothing more to do. Under the jobs' lock.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// `reset`: everything is forgotten. EBUSY while somebody uses it.
    pub(crate) fn reset(&self) -> Result<()> {
        let _one = self.setup.lock();
        let disk = self.disk().ok_or(Errno::ENXIO)?;
        let whole = disk.whole();
        if disk.users() > 0 {
            return Err(Errno::EBUSY);
        }
        let synced = whole.sync();
        whole.set_sectors(0);
        let gone = core::mem::replace(&mut *self.store.lock(), Store::new());
        vm::stats::add_zspages(-(gone.memory().0 as i64));
        drop(gone);
        synced
    }
}

impl block::Driver for Zram {
    fn queue_rq(&self, _hw: usize, tag: u16, request: &Request) -> Queued {
        let mut jobs = self.jobs.lock();
        if self.is_gone() {
            return Queued::Failed(Errno::EIO);
        }
        let Some(job) = jobs.by_tag.get_mut(usize::from(tag)) else { return Queued::Failed(Errno::EIO) };
        let bytes = request.start() << block::SECTOR_SHIFT;
        job.op = request.op();
        job.first = bytes / PAGE as u64;
        job.count = u64::from(request.sectors()) / SECTORS;
        job.segments.clear();
        for segment in request.segments() {
            if job.segments.len() == job.segments.capacity() {
                job.segments.clear();
                return Queued::Failed(Errno::EIO);
            }
            job.segments.push(segment.clone());
        }
        jobs.waiting.push_back(tag);
        Queued::Yes
    }

    fn commit_rqs(&self, _hw: usize) {
        self.work.wake_one();
    }

    fn swap_slot_free(&self, sector: u64) {
        let mut store = self.store.lock();
        let before = store.memory().0;
        store.slot_free(sector / SECTORS);
        vm::stats::add_zspages(store.memory().0 as i64 - before as i64);
    }
}
