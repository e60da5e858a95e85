//! Write-back: dirty mappings by device, the threads that write them, and how writers are slowed down.
//!
//! **Problem.** write(2) leaves bytes in memory. They must reach the device some time later without the
//! writer waiting, before they are old, before memory is full of them, and when somebody asks.
//!
//! **Interface.** A block device or network file system makes one [`BackingDevice`], which has a thread
//! `kworker/flush-NAME`; mappings name it through [`crate::MappingOps::device`]. [`sync_all`] is sync(2).
//! [`knobs`] are `/proc/sys/vm`'s. [`start`] is called once at boot.
//!
//! **Idea.** As in Linux. A mapping goes onto its device's list with its first dirty page; the list is in
//! the order of that moment. The flusher writes mappings that have been dirty for `dirty_expire_centisecs`,
//! looking every `dirty_writeback_centisecs`, and everything, oldest first, while more than
//! `dirty_background_ratio` percent of the memory that could be dirty is. A writer that brings the sum
//! above the middle between that and `dirty_ratio` sleeps as long as the device needs for what it wrote,
//! longer the nearer the limit is; at the limit it waits.
//!
//! ```text
//!   0 ------------ background ------- freerun ---------- limit
//!     nobody writes    flusher writes     writers pause       writers wait
//! ```
//!
//! The list is slots linked by number, one reserved for each mapping before its first page is dirty, so
//! that becoming dirty never fails and never allocates.

pub mod knobs;
mod list;
mod throttle;

pub use throttle::{Limits, balance_dirty_pages, limits};

use crate::mapping::{Mapping, SyncMode};
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use list::{Entry, List};
use sync::SpinLock;
use sync::levels::Leaf;
use task::{NewTask, WaitMode, WaitQueue};

/// Pages written of one mapping before the next one has its turn (Linux's MAX_WRITEBACK_PAGES).
const TURN: u64 = 1024;

/// What keeps the owner of dirty pages alive.
pub(crate) type Pin = Option<Arc<dyn Any + Send + Sync>>;

/// One device or server that dirty pages go to (Linux's backing_dev_info and its flusher).
pub struct BackingDevice {
    name: String,
    list: SpinLock<List, Leaf>,
    /// Write everything, whatever its age.
    asked: AtomicBool,
    /// Pages that reclaim wants written whatever the limits say.
    wanted: AtomicU64,
    stopped: AtomicBool,
    work: WaitQueue,
    /// Pages whose write-back this device's flusher started.
    pub(crate) written: AtomicU64,
    pub(crate) speed: throttle::Speed,
}

/// All devices, for sync(2) and for pressure.
static DEVICES: SpinLock<Vec<Weak<BackingDevice>>, Leaf> = SpinLock::new(Vec::new());
static COMMON: sync::Once<Arc<BackingDevice>> = sync::Once::new();

/// The device of mappings that name none. Its thread starts with [`start`].
pub(crate) fn common_device() -> Arc<BackingDevice> {
    if COMMON.get().is_none() {
        let _ = COMMON.set(Arc::new(BackingDevice::unstarted("noname")));
    }
    COMMON.get_expect().clone()
}

/// Starts the flusher of mappings without a device. Boot, once, when threads can run.
pub fn start() -> Result<()> {
    let device = common_device();
    device.clone().run_thread()?;
    publish(&device)
}

fn publish(device: &Arc<BackingDevice>) -> Result<()> {
    let mut devices = DEVICES.lock();
    devices.retain(|known| known.strong_count() > 0);
    devices.try_reserve(1).map_err(|_| abi::Errno::ENOMEM)?;
    devices.push(Arc::downgrade(device));
    Ok(())
}

impl BackingDevice {
    fn unstarted(name: &str) -> BackingDevice {
        BackingDevice {
            name: name.to_string(),
            list: SpinLock::new(List::new()),
            asked: AtomicBool::new(false),
            wanted: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            work: WaitQueue::new(&"wb_workfn"),
            written: AtomicU64::new(0),
            speed: throttle::Speed::new(),
        }
    }

    /// Makes a device and starts its flusher `kworker/flush-NAME`; Linux's names are "8:0" for a disk and
    /// "9p-1" for a server. ENOMEM. Process context.
    pub fn new(name: &str) -> Result<Arc<BackingDevice>> {
        let device = Arc::new(BackingDevice::unstarted(name));
        publish(&device)?;
        device.clone().run_thread()?;
        Ok(device)
    }

    fn run_thread(self: Arc<Self>) -> Result<()> {
        let name = format!("kworker/flush-{}", self.name);
        let device = self;
        NewTask::kernel(name, Box::new(move || device.flush_for_ever())).spawn().map(drop)?;
        Ok(())
    }

    /// The device is gone: its flusher writes what it can and ends.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.work.wake_all();
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    // ---- the list ----

    pub(crate) fn attach(&self) -> Result<u32> {
        self.list.lock().attach().map_err(|_| abi::Errno::ENOMEM)
    }

    pub(crate) fn detach(&self, slot: u32) {
        let gone = self.list.lock().detach(slot);
        drop(gone);
    }

    /// The mapping of a slot has become dirty.
    pub(crate) fn enlist(&self, slot: u32, mapping: Weak<Mapping>, pin: Pin) {
        self.enlist_since(slot, Entry { mapping, pin, since_ns: arch::timer::now_ns() });
    }

    fn enlist_since(&self, slot: u32, entry: Entry) {
        let mut list = self.list.lock();
        let first = list.is_empty();
        let old = list.push(slot, entry);
        drop(list);
        drop(old);
        if first {
            self.work.wake_all();
        }
    }

    /// Lets go of what keeps a dirty mapping's owner alive.
    pub(crate) fn release_pin(&self, slot: u32) {
        let pin = self.list.lock().take_pin(slot);
        drop(pin);
    }

    /// Takes the mapping that has been dirty longest, if it became dirty at `before_ns` or earlier.
    fn take_oldest(&self, before_ns: u64) -> Option<(u32, Entry)> {
        self.list.lock().pop_older(before_ns)
    }

    // ---- writing ----

    /// Wakes the flusher to write until less than the background limit is dirty.
    pub fn wake(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.work.wake_all();
        }
    }

    /// Writes one mapping's turn; `None` when none is old enough, else how many pages were submitted.
    fn write_one(&self, before_ns: u64, mode: SyncMode) -> Option<u64> {
        let (slot, entry) = self.take_oldest(before_ns)?;
        let Some(mapping) = entry.mapping.upgrade() else { return Some(0) };
        mapping.listed.store(false, Ordering::Release);
        let budget = if mode == SyncMode::All { u64::MAX } else { TURN };
        let written = mapping.write_back(0, u64::MAX, mode, budget);
        let pages = written.unwrap_or_else(|error| {
            mapping.errors().set(error);
            0
        });
        self.written.fetch_add(pages, Ordering::Relaxed);
        self.keep_or_drop(slot, entry, mapping);
        Some(pages)
    }

    /// Puts a mapping that was taken from the list behind the others if it is still dirty or on its way.
    fn keep_or_drop(&self, slot: u32, entry: Entry, mapping: Arc<Mapping>) {
        if mapping.is_busy() && !mapping.listed.swap(true, Ordering::AcqRel) {
            self.enlist_since(slot, Entry { since_ns: arch::timer::now_ns(), ..entry });
        }
        // Else the pin may be the last reference to the inode: dropped here, where nothing is held.
    }

    /// Submits everything that is dirty now; with `wait` until it has arrived. sync(2), syncfs(2), umount.
    pub fn sync(&self, wait: bool) {
        let now = arch::timer::now_ns();
        let mode = if wait { SyncMode::All } else { SyncMode::None };
        while self.write_one(now, mode).is_some() {}
        let now = arch::timer::now_ns();
        while wait && self.wait_one(now) {}
    }

    /// Waits for one mapping's pages; false when none is left.
    fn wait_one(&self, before_ns: u64) -> bool {
        let Some((slot, entry)) = self.take_oldest(before_ns) else { return false };
        let Some(mapping) = entry.mapping.upgrade() else { return true };
        mapping.listed.store(false, Ordering::Release);
        mapping.wait_written(0, u64::MAX);
        self.keep_or_drop(slot, entry, mapping);
        true
    }

    /// The flusher's body.
    fn flush_for_ever(self: Arc<Self>) {
        loop {
            let stop = || self.stopped.load(Ordering::Acquire).then_some(());
            // Nothing dirty: no timer runs.
            let some_work = || stop().or_else(|| (!self.list.lock().is_empty()).then_some(()));
            if self.work.wait_until(WaitMode::Idle, None, some_work).is_err() {
                continue;
            }
            let deadline = knobs::writeback_interval_ns().map(|ns| arch::timer::now_ns().saturating_add(ns));
            let asked = || stop().or_else(|| self.asked.load(Ordering::Acquire).then_some(()));
            let _ = self.work.wait_until(WaitMode::Idle, deadline, asked);
            self.asked.store(false, Ordering::Release);
            if self.stopped.load(Ordering::Acquire) {
                self.sync(false);
                return;
            }
            self.flush_once();
        }
    }

    /// One round: what is too old, then whatever is above the background limit.
    fn flush_once(&self) {
        let now = arch::timer::now_ns();
        while self.write_one(now.saturating_sub(knobs::expire_ns()), SyncMode::None).is_some() {
            self.speed.update(self.written.load(Ordering::Relaxed));
        }
        let wanted = || self.wanted.load(Ordering::Relaxed) > 0;
        while (limits().over_background() || wanted()) && !self.stopped.load(Ordering::Acquire) {
            // Each mapping once; what became dirty meanwhile is for the next round.
            let (now, mut pages) = (arch::timer::now_ns(), 0);
            while (limits().over_background() || wanted())
                && let Some(written) = self.write_one(now, SyncMode::None)
            {
                pages += written;
                let less = |left: u64| Some(left.saturating_sub(written));
                let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                self.speed.update(self.written.load(Ordering::Relaxed));
                throttle::wait_for_room();
            }
            if pages == 0 {
                // Another device's pages, or pages that cannot be written now.
                self.wanted.store(0, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// The devices that exist.
fn devices() -> Vec<Arc<BackingDevice>> {
    let devices = DEVICES.lock();
    let mut found = Vec::new();
    if found.try_reserve(devices.len()).is_ok() {
        found.extend(devices.iter().filter_map(Weak::upgrade));
    }
    found
}

/// Reclaim met dirty pages: every flusher writes up to `pages` of them, the oldest first. Allocates nothing.
pub fn ask_all(pages: u64) {
    let mut at = 0;
    loop {
        // One at a time: a reference must not be dropped under the list's lock.
        let device = match DEVICES.lock().get(at) {
            Some(device) => device.upgrade(),
            None => return,
        };
        at += 1;
        if let Some(device) = device
            && !device.list.lock().is_empty()
        {
            device.wanted.fetch_max(pages, Ordering::Relaxed);
            device.wake();
        }
    }
}

/// sync(2): everything that is dirty now is submitted on all devices, then waited for.
pub fn sync_all() {
    let devices = devices();
    devices.iter().for_each(|device| device.sync(false));
    devices.iter().for_each(|device| device.sync(true));
}
