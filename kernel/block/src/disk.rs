//! A disk: what a driver offers, its limits, its hardware queues.
//!
//! A driver makes a [`Disk`] of a [`DiskInfo`] and its [`Driver`], and announces it with [`crate::add_disk`].
//! From then on [`Driver::queue_rq`] is called with requests and their tags; the driver calls
//! [`Disk::complete`] for each tag when the device is done.

use crate::device::BlockDevice;
use crate::flush::Flushes;
use crate::hwqueue::HwQueue;
use crate::request::Request;
use abi::Errno;
use abi::errno::Result;
use abi::stat::DevId;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use iosched_queue::Elevator;
use sync::levels::{Admin, BlockPool, BlockQueue, DeviceTable, Driver as DriverLevel};
use sync::{Once, PerCpu, SpinLock};
use task::{Mutex, WaitQueue};
use time::{Expire, Timer};
use vm::BackingDevice;

/// What a device can do with discards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiscardLimits {
    /// Most sectors of one.
    pub max_sectors: u32,
    /// Bytes; smaller ones may do nothing.
    pub granularity: u32,
}

/// What a device's requests must look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The smallest unit the device can address, in bytes: a power of two, 512 to 4096.
    pub logical_block: u32,
    /// What it writes without reading first, in bytes.
    pub physical_block: u32,
    /// Preferred sizes in bytes; 0: none.
    pub io_min: u32,
    pub io_opt: u32,
    /// Most sectors of a request.
    pub max_sectors: u32,
    /// Most pieces of memory of a request, and bytes of one of them.
    pub max_segments: u32,
    pub max_segment_bytes: u32,
    pub discard: Option<DiscardLimits>,
    /// Most sectors that are zeroed at once; 0: it cannot.
    pub max_write_zeroes: u32,
    /// Writes may be complete before they are on the medium: flushes are needed.
    pub write_cache: bool,
    /// It can write one request through its cache.
    pub fua: bool,
    pub rotational: bool,
}

/// Linux's BLK_DEF_MAX_SECTORS_CAP: larger requests delay others more than they gain.
pub const DEFAULT_MAX_SECTORS: u32 = 2560;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            logical_block: 512,
            physical_block: 512,
            io_min: 512,
            io_opt: 0,
            max_sectors: DEFAULT_MAX_SECTORS,
            max_segments: 128,
            max_segment_bytes: 65_536,
            discard: None,
            max_write_zeroes: 0,
            write_cache: false,
            fua: false,
            rotational: false,
        }
    }
}

/// Whether a driver took a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// It will be completed.
    Yes,
    /// No room in the device. It is offered again after the next completion on this queue, or after
    /// [`Disk::restart`]: the driver vouches that one of them comes.
    Busy,
    /// It cannot be done: it ends with this error.
    Failed(Errno),
}

/// The driver of a disk.
pub trait Driver: Send + Sync {
    /// Starts a request on hardware queue `hw` under a tag that no other request under way on that queue
    /// has. Called with the queue's lock held, interrupts off, any context: spin locks of level
    /// `DriverIrq` only, and no call back into the block layer.
    fn queue_rq(&self, hw: usize, tag: u16, request: &Request) -> Queued;

    /// No more requests follow at once: tell the device. As [`Driver::queue_rq`].
    fn commit_rqs(&self, hw: usize) {
        let _ = hw;
    }

    /// A request has been under way for [`Disk::timeout_ns`]. The driver may recover its device; the request
    /// is waited for until it is completed. Process context.
    fn timed_out(&self, hw: usize, tag: u16) {
        let _ = (hw, tag);
    }

    /// More files for `/sys/block/NAME`, by path and whole text.
    fn attributes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The size in sectors as it is now, for devices that can grow. Process context.
    fn capacity(&self) -> Option<u64> {
        None
    }

    /// Nobody has the disk or a partition of it open or claimed any more. Process context.
    fn last_close(&self) {}

    /// Swap does not need the page at `sector` any more, for devices that keep it in memory (Linux's
    /// swap_slot_free_notify). Called with spin locks of level `Swap` and below held: others may be taken above it only.
    fn swap_slot_free(&self, sector: u64) {
        let _ = sector;
    }

    /// An ioctl that the block layer does not know.
    fn ioctl(&self, command: u32, argument: usize) -> Result<usize> {
        let _ = (command, argument);
        Err(Errno::ENOTTY)
    }
}

/// What a driver says of its disk.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    /// As below /dev: `vda`.
    pub name: String,
    /// The device number of the whole disk.
    pub dev: DevId,
    /// Minor numbers from there on that belong to partitions, the disk's own included. Partitions beyond get
    /// numbers of the major 259.
    pub minors: u32,
    /// In sectors of 512 bytes.
    pub sectors: u64,
    pub read_only: bool,
    pub removable: bool,
    /// May have a partition table.
    pub partitions: bool,
    pub limits: Limits,
    /// Hardware queues, and requests that each takes at once (at most 1024).
    pub hw_queues: usize,
    pub depth: u16,
}

/// Linux's default for `queue/nr_requests` with a scheduler: twice what the device takes, at most this.
const REQUESTS_MAX: u32 = 256;

/// Requests that nobody uses.
pub(crate) struct Pool {
    pub free: Vec<Box<Request>>,
    /// Of the requests there are, those that may not be used (nr_requests was lowered).
    pub withheld: u32,
}

/// A disk and its queues.
pub struct Disk {
    info: DiskInfo,
    pub(crate) driver: Arc<dyn Driver>,
    limits: Limits,
    pub(crate) hw: Vec<HwQueue>,
    /// Requests of each CPU that no scheduler orders.
    pub(crate) soft: PerCpu<SpinLock<VecDeque<Box<Request>>, BlockQueue>>,
    pub(crate) elevator: SpinLock<Option<Elevator<Box<Request>>>, BlockQueue>,
    /// Counts elevators, so that a completion does not report to a later one.
    pub(crate) elevator_number: AtomicU32,
    pub(crate) has_elevator: AtomicBool,
    /// One change of scheduler at a time.
    pub(crate) switch: Mutex<(), DriverLevel>,
    pub(crate) pool: SpinLock<Pool, BlockPool>,
    /// Who waits for a request: others, and those whose I/O somebody waits for.
    pub(crate) pool_wait: [WaitQueue; 2],
    pub(crate) requests: u32,
    pub(crate) flushes: SpinLock<Flushes, BlockQueue>,
    pub(crate) wake: Once<Timer>,
    pub(crate) watch: Once<(Timer, Arc<Watch>)>,
    pub(crate) watching: AtomicBool,
    timeout_ns: AtomicU64,
    pub(crate) read_ahead_kb: AtomicU32,
    pub(crate) max_sectors: AtomicU32,
    pub(crate) no_merges: AtomicU32,
    pub(crate) gone: AtomicBool,
    backing: Once<Arc<BackingDevice>>,
    pub(crate) whole: Once<Arc<BlockDevice>>,
    /// One reading of the partition table at a time.
    pub(crate) scan: Mutex<(), Admin>,
    pub(crate) parts: SpinLock<Vec<Arc<BlockDevice>>, DeviceTable>,
}

impl Disk {
    /// Makes the disk; nobody sees it yet.
    ///
    /// # Errors
    /// ENOMEM; EINVAL for limits that make no sense.
    pub fn new(info: DiskInfo, driver: Arc<dyn Driver>) -> Result<Arc<Disk>> {
        let limits = info.limits;
        let block = limits.logical_block;
        let sane = block.is_power_of_two()
            && (512..=4096).contains(&block)
            && limits.max_sectors >= block / 512
            && limits.max_segments > 0
            && limits.max_segment_bytes >= arch::PAGE_SIZE as u32
            && (1..=1024).contains(&info.depth)
            && info.hw_queues > 0;
        if !sane {
            return Err(Errno::EINVAL);
        }
        let requests = (2 * u32::from(info.depth)).clamp(4, REQUESTS_MAX);
        let mut free = Vec::new();
        free.try_reserve_exact(requests as usize).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..requests {
            let mut request = Box::new(Request::empty());
            request.bios.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
            free.push(request);
        }
        let mut hw = Vec::new();
        hw.try_reserve_exact(info.hw_queues).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..info.hw_queues {
            hw.push(HwQueue::new(info.depth)?);
        }
        let flushes = Flushes::new(requests as usize)?;
        let disk = Arc::new_cyclic(|own: &Weak<Disk>| {
            Disk {
                driver,
                limits,
                hw,
                soft: PerCpu::new(|_| SpinLock::new(VecDeque::new())),
                elevator: SpinLock::new(None),
                elevator_number: AtomicU32::new(0),
                has_elevator: AtomicBool::new(false),
                switch: Mutex::new(()),
                pool: SpinLock::new(Pool { free, withheld: 0 }),
                pool_wait: [const { WaitQueue::new(&"blk_mq_get_tag") }; 2],
                requests,
                flushes: SpinLock::new(flushes),
                wake: Once::new(),
                watch: Once::new(),
                watching: AtomicBool::new(false),
                timeout_ns: AtomicU64::new(30_000_000_000),
                read_ahead_kb: AtomicU32::new(128),
                max_sectors: AtomicU32::new(limits.max_sectors.min(DEFAULT_MAX_SECTORS)),
                no_merges: AtomicU32::new(0),
                gone: AtomicBool::new(false),
                backing: Once::new(),
                whole: Once::new(),
                scan: Mutex::new(()),
                parts: SpinLock::new(Vec::new()),
                info,
            }
            .with_timers(own)
        });
        let whole = BlockDevice::whole(&disk);
        let _ = disk.whole.set(whole);
        Ok(disk)
    }

    fn with_timers(self, own: &Weak<Disk>) -> Disk {
        let _ = self.wake.set(Timer::new("blk_delay_work", own.clone()));
        let watch = Arc::new(Watch { disk: own.clone() });
        let target: Arc<dyn Expire> = watch.clone();
        let _ = self.watch.set((Timer::new("blk_mq_timeout_work", Arc::downgrade(&target)), watch));
        self
    }

    pub fn info(&self) -> &DiskInfo {
        &self.info
    }

    pub fn name(&self) -> &str {
        &self.info.name
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits with what was set in sysfs.
    pub(crate) fn limits_now(&self) -> Limits {
        Limits { max_sectors: self.max_sectors.load(Relaxed), ..self.limits }
    }

    /// Pages that reads through the page cache read ahead at most (`queue/read_ahead_kb`). More than 16 MiB are not
    /// looked for at once, whatever was set.
    pub fn read_ahead_pages(&self) -> u32 {
        const MOST: u32 = 4096;
        (self.read_ahead_kb.load(Relaxed) / (arch::PAGE_SIZE / 1024) as u32).min(MOST)
    }

    /// The device that is the whole disk.
    pub fn whole(&self) -> &Arc<BlockDevice> {
        self.whole.get_expect()
    }

    /// Its partitions.
    pub fn partitions(&self) -> Vec<Arc<BlockDevice>> {
        self.parts.lock().clone()
    }

    /// How many open files and claims there are of it and of its partitions, which may not go away under any of them.
    pub fn users(&self) -> u32 {
        let parts: u32 = self.parts.lock().iter().map(|part| part.users()).sum();
        self.whole().users() + parts
    }

    /// The flusher of its dirty pages, made when it is first asked for; `None` without memory for it.
    pub(crate) fn backing(&self) -> Option<Arc<BackingDevice>> {
        let _one = self.switch.lock();
        if self.backing.get().is_none() {
            let dev = self.info.dev;
            let made = BackingDevice::new(&format!("{}:{}", dev.major, dev.minor)).ok()?;
            let _ = self.backing.set(made);
        }
        self.backing.get().cloned()
    }

    /// Asks the driver for the size and takes it over.
    pub(crate) fn look_at_size(&self) {
        let whole = self.whole();
        if let Some(sectors) = self.driver.capacity().filter(|sectors| *sectors != whole.sectors()) {
            klog::pr_info!("{}: detected capacity change from {} to {sectors}", self.name(), whole.sectors());
            whole.set_sectors(sectors);
        }
    }

    /// How long a request may be under way before the driver is told, in nanoseconds.
    pub fn timeout_ns(&self) -> u64 {
        self.timeout_ns.load(Relaxed)
    }

    pub(crate) fn set_timeout_ns(&self, timeout_ns: u64) {
        self.timeout_ns.store(timeout_ns, Relaxed);
    }

    /// The device is gone: requests that come from now on fail with EIO. Requests under way are the
    /// driver's to complete.
    pub fn set_gone(&self) {
        self.gone.store(true, Relaxed);
        for number in 0..self.hw.len() {
            self.run(number);
        }
    }
}

impl Expire for Disk {
    /// A scheduler's idling is over.
    fn expired(&self, _now_ns: u64) {
        for number in 0..self.hw.len() {
            self.run(number);
        }
    }
}

/// The timer that looks for requests that are under way for too long.
pub(crate) struct Watch {
    disk: Weak<Disk>,
}

impl Expire for Watch {
    fn expired(&self, now_ns: u64) {
        if let Some(disk) = self.disk.upgrade() {
            disk.look_for_timeouts(now_ns);
        }
    }
}
