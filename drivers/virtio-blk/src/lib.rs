//! Virtio block devices: /dev/vda and so on.
//!
//! **Idea.** One hardware queue of the block layer is one virtqueue, with an interrupt of its own on its CPU
//! where the device has messages. A request's tag is its token in the queue and its place in a table of
//! headers; with indirect descriptors it takes one descriptor however many pieces it has. Completions are
//! taken out of the ring under the queue's lock and told to the block layer after it. Nothing polls.
//!
//! Source: VIRTIO 1.2, section 5.2.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod queue;

use abi::Errno;
use abi::errno::Result;
use abi::stat::DevId;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{Disk, DiskInfo, Driver, Op, Queued, Request};
use config::Config;
use klog::{pr_info, pr_warn};
use queue::{Answer, RequestQueue};
use sync::Once;
use virtio::{Device, kind};

/// Linux takes the highest free number of those for local use; with nothing else there that is this one.
const MAJOR: u32 = 254;
const MINORS: u32 = 16;
/// Requests that one queue takes at most.
const DEPTH: u16 = 128;

/// One device.
struct VirtioBlk {
    device: Device,
    config: Config,
    queues: Vec<RequestQueue>,
    disk: Once<Weak<Disk>>,
    serial: Once<String>,
}

/// Takes all virtio block devices into use. Boot, after `virtio::init` and `block::init`; process context.
pub fn init() {
    for (number, device) in virtio::take(kind::BLOCK).into_iter().enumerate() {
        let name = block::disk_name("vd", number);
        if let Err(error) = probe(&name, number as u32, device) {
            pr_warn!("{name}: {error}");
        }
    }
}

fn probe(name: &str, number: u32, mut device: Device) -> Result<()> {
    let config = Config::negotiate(&mut device)?;
    let count = config.queues.min(arch::cpu::count() as u16).min(device.max_queues()).max(1);
    let mut queues = Vec::new();
    for queue in 0..count {
        // Header and status besides the data.
        let chain = config.limits.max_segments as usize + 2;
        queues.push(RequestQueue::new(device.make_queue(queue, DEPTH, chain)?)?);
    }
    let depth = queues.iter().map(RequestQueue::depth).min().unwrap_or(1);
    let limits = config.limits;
    let driver = Arc::new(VirtioBlk { device, config, queues, disk: Once::new(), serial: Once::new() });
    start(&driver)?;
    if let Some(serial) = driver.read_serial() {
        let _ = driver.serial.set(serial);
    }
    let info = DiskInfo {
        name: name.into(),
        dev: DevId::new(MAJOR, number * MINORS),
        minors: MINORS,
        sectors: driver.config.sectors(&driver.device),
        read_only: driver.config.read_only,
        removable: false,
        partitions: true,
        limits,
        hw_queues: driver.queues.len(),
        depth,
    };
    let sectors = info.sectors;
    let disk = Disk::new(info, driver.clone())?;
    let _ = driver.disk.set(Arc::downgrade(&disk));
    pr_info!(
        "{name}: {sectors} 512-byte sectors ({} MiB), {} queues of {depth}",
        sectors >> 11,
        driver.queues.len()
    );
    block::add_disk(&disk, "virtblk")
}

fn start(driver: &Arc<VirtioBlk>) -> Result<()> {
    let handler = |number: usize| -> Arc<dyn Fn() -> bool + Send + Sync> {
        let driver = driver.clone();
        Arc::new(move || driver.interrupt(number))
    };
    let handlers: Vec<_> = (0..driver.queues.len()).map(handler).collect();
    let of = Arc::downgrade(driver);
    let changed = move || of.upgrade().is_some_and(|driver| driver.config_changed());
    // Queue n serves CPUs n, n + queues, ...; it interrupts the first of them.
    driver.device.start(&handlers, Some(Arc::new(changed)), |queue| queue)
}

impl VirtioBlk {
    fn disk(&self) -> Option<Arc<Disk>> {
        self.disk.get()?.upgrade()
    }

    /// Queue `number` may have something. Hard interrupt.
    fn interrupt(&self, number: usize) -> bool {
        /// Completions that are taken out of the ring under one lock.
        const AT_ONCE: usize = 32;
        let queue = &self.queues[number];
        let mut any = false;
        loop {
            let mut done = [(0, Ok(())); AT_ONCE];
            let count = queue.take_done(&mut done);
            if count == 0 {
                return any;
            }
            any = true;
            match self.disk() {
                Some(disk) => disk.complete_all(number, done[..count].iter().copied()),
                // Before there is a disk, the one request under way is `read_serial`'s.
                None => queue.wake_probe(done[0].1),
            }
        }
    }

    /// The device has another size, say. The block layer learns of it at the next look at its size.
    fn config_changed(&self) -> bool {
        if let Some(disk) = self.disk() {
            block::size_changed(&disk);
        }
        true
    }

    /// The serial number, as VIRTIO_BLK_T_GET_ID gives it: up to 20 bytes.
    fn read_serial(&self) -> Option<String> {
        let bytes = self.queues.first()?.ask_serial().ok()?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

impl Driver for VirtioBlk {
    fn queue_rq(&self, hw: usize, tag: u16, request: &Request) -> Queued {
        let supported = match request.op() {
            Op::Flush => self.config.limits.write_cache,
            _ => true,
        };
        if !supported {
            return Queued::Failed(Errno::EOPNOTSUPP);
        }
        match self.queues[hw].start(tag, request, &self.config) {
            Answer::Started => Queued::Yes,
            Answer::Full => Queued::Busy,
            Answer::Failed(error) => Queued::Failed(error),
        }
    }

    fn commit_rqs(&self, hw: usize) {
        self.queues[hw].publish();
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        // Linux shows this one without a newline.
        if let Some(serial) = self.serial.get() {
            files.push(("serial", serial.clone()));
        }
        let cache = if self.config.limits.write_cache { "write back\n" } else { "write through\n" };
        files.push(("cache_type", cache.into()));
        files
    }

    fn capacity(&self) -> Option<u64> {
        Some(self.config.sectors(&self.device))
    }
}
