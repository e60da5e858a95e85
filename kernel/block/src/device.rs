//! Block devices: a disk or one of its partitions, by name and number.

use crate::bio::{Batch, Bio, BioFlags, Op};
use crate::buffer::Buffers;
use crate::cache;
use crate::disk::{Disk, Limits};
use crate::plug::Plug;
use crate::stats::{Group, Stats};
use crate::submit;
use abi::Errno;
use abi::errno::Result;
use abi::stat::DevId;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use mem::Folio;
use partitions::Label;
use sync::levels::{DeviceTable, Leaf};
use sync::{Once, SpinLock};
use vm::{ErrSeen, Mapping};

/// A disk or a partition.
pub struct BlockDevice {
    disk: Arc<Disk>,
    /// 0: the whole disk.
    number: u32,
    name: String,
    dev: DevId,
    start: u64,
    sectors: AtomicU64,
    read_only: AtomicBool,
    label: Label,
    stats: Stats,
    mapping: Once<Arc<Mapping>>,
    pub(crate) buffers: Buffers,
    /// What kernel users have been told of write errors.
    pub(crate) errors_seen: ErrSeen,
    /// What has the device for itself.
    holder: SpinLock<Option<&'static str>, Leaf>,
    /// Open files.
    pub(crate) openers: AtomicU32,
    /// log2 of what BLKBSZGET shows.
    pub(crate) soft_block_shift: AtomicU32,
}

impl BlockDevice {
    pub(crate) fn whole(disk: &Arc<Disk>) -> Arc<BlockDevice> {
        let info = disk.info();
        let (name, dev) = (info.name.clone(), info.dev);
        BlockDevice::new(disk, 0, name, dev, 0, info.sectors, Label::default())
    }

    pub(crate) fn partition(
        disk: &Arc<Disk>,
        number: u32,
        dev: DevId,
        start: u64,
        sectors: u64,
        label: Label,
    ) -> Arc<BlockDevice> {
        let digit = disk.name().ends_with(|last: char| last.is_ascii_digit());
        let name = format!("{}{}{number}", disk.name(), if digit { "p" } else { "" });
        BlockDevice::new(disk, number, name, dev, start, sectors, label)
    }

    fn new(
        disk: &Arc<Disk>,
        number: u32,
        name: String,
        dev: DevId,
        start: u64,
        sectors: u64,
        label: Label,
    ) -> Arc<BlockDevice> {
        Arc::new(BlockDevice {
            disk: disk.clone(),
            number,
            name,
            dev,
            start,
            sectors: AtomicU64::new(sectors),
            read_only: AtomicBool::new(disk.info().read_only),
            label,
            stats: Stats::new(),
            mapping: Once::new(),
            buffers: Buffers::new(),
            errors_seen: ErrSeen::default(),
            holder: SpinLock::new(None),
            openers: AtomicU32::new(0),
            soft_block_shift: AtomicU32::new(12),
        })
    }

    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// As below /dev: `vda`, `vda1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dev(&self) -> DevId {
        self.dev
    }

    /// The partition's number; 0 for the whole disk.
    pub fn partition_number(&self) -> u32 {
        self.number
    }

    /// Name and UUID from the partition table.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// Where it begins on the disk, in sectors.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Its size in sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.sectors() << crate::SECTOR_SHIFT
    }

    /// The device has another size from now on (a loop device, a grown disk). Pages beyond the end go.
    /// Process context.
    pub fn set_sectors(&self, sectors: u64) {
        self.sectors.store(sectors, Ordering::Release);
        if let Some(mapping) = self.mapping.get() {
            mapping.truncate(sectors << crate::SECTOR_SHIFT);
        }
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// BLKROSET; a device that cannot be written stays read-only.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only || self.disk.info().read_only, Ordering::Relaxed);
    }

    /// The smallest unit of I/O in bytes.
    pub fn logical_block(&self) -> u32 {
        self.disk.limits().logical_block
    }

    pub fn limits(&self) -> &Limits {
        self.disk.limits()
    }

    /// The counters of /proc/diskstats.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    // ---- I/O ----

    /// Submits a bio whose [`crate::EndBio`] is set; see [`Plug::submit`] for several in a row. May sleep while
    /// the disk's queue is full.
    pub fn submit(self: &Arc<Self>, bio: Box<Bio>) {
        submit::submit(self, bio, None);
    }

    /// Submits one bio and waits for it.
    pub fn submit_wait(self: &Arc<Self>, bio: Box<Bio>) -> Result<()> {
        let batch = Batch::new();
        // The plug is gone, and the bio on its way, before the wait.
        batch.submit(&mut Plug::new(), self, bio);
        batch.wait()
    }

    /// Reads `len` bytes (whole sectors) at `sector` into a folio.
    pub fn read_sync(self: &Arc<Self>, sector: u64, folio: &Folio, offset: usize, len: usize) -> Result<()> {
        self.submit_wait(Bio::with(Op::Read, sector, folio, offset, len)?)
    }

    /// Writes them; `flags` may ask for `FUA`, `PREFLUSH`.
    pub fn write_sync(
        self: &Arc<Self>,
        sector: u64,
        folio: &Folio,
        offset: usize,
        len: usize,
        flags: BioFlags,
    ) -> Result<()> {
        let mut bio = Bio::with(Op::Write, sector, folio, offset, len)?;
        bio.flags |= flags | BioFlags::SYNC;
        self.submit_wait(bio)
    }

    /// Everything that was written and completed gets to the medium.
    pub fn flush(self: &Arc<Self>) -> Result<()> {
        self.submit_wait(Bio::new(Op::Flush, 0)?)
    }

    /// Tells the device that sectors are no longer needed. EOPNOTSUPP.
    pub fn discard(self: &Arc<Self>, sector: u64, sectors: u64) -> Result<()> {
        self.without_data(Op::Discard, sector, sectors)
    }

    /// Makes sectors read as zeroes, by the device's own means. EOPNOTSUPP.
    pub fn write_zeroes(self: &Arc<Self>, sector: u64, sectors: u64) -> Result<()> {
        self.without_data(Op::WriteZeroes, sector, sectors)
    }

    fn without_data(self: &Arc<Self>, op: Op, mut sector: u64, mut sectors: u64) -> Result<()> {
        // A bio counts its sectors in 32 bits; its parts are as large as blocks allow.
        const PART: u64 = 1 << 30;
        let batch = Batch::new();
        let mut plug = Plug::new();
        while sectors > 0 {
            let part = sectors.min(PART);
            let bio = match Bio::without_data(op, sector, part as u32) {
                Ok(bio) => bio,
                Err(error) => {
                    drop(plug);
                    return batch.wait().and(Err(error));
                }
            };
            batch.submit(&mut plug, self, bio);
            (sector, sectors) = (sector.saturating_add(part), sectors - part);
        }
        drop(plug);
        batch.wait()
    }

    /// The device's own page cache.
    pub fn mapping(self: &Arc<Self>) -> &Arc<Mapping> {
        if self.mapping.get().is_none() {
            // Two may both make one; the first that is set stays.
            let _ = self.mapping.set(cache::new_mapping(self));
        }
        self.mapping.get_expect()
    }

    /// The page cache if anybody has used it.
    pub(crate) fn mapping_if_used(&self) -> Option<&Arc<Mapping>> {
        self.mapping.get()
    }

    /// Swap does not need the page at `sector` any more. Spin locks only.
    pub fn swap_slot_free(&self, sector: u64) {
        self.disk.driver.swap_slot_free(self.start + sector);
    }

    // ---- who uses it ----

    /// Takes the device for oneself: a mounted file system, swap. EBUSY when somebody has it.
    pub fn claim(self: &Arc<Self>, holder: &'static str) -> Result<Claim> {
        let mut current = self.holder.lock();
        if current.is_some() {
            return Err(Errno::EBUSY);
        }
        *current = Some(holder);
        drop(current);
        Ok(Claim { device: self.clone() })
    }

    /// How many open files there are of it, and one more for a claim. A disk's partitions are not counted with it: see
    /// [`Disk::users`].
    pub fn users(&self) -> u32 {
        self.openers.load(Ordering::Acquire) + u32::from(self.is_claimed())
    }

    /// An opener or the claim is gone. The last of them writes what is dirty, and the driver learns of the disk's last
    /// one. May sleep.
    pub(crate) fn let_go(&self) {
        if self.users() > 0 {
            return;
        }
        // Nobody is left to be told of an error; the next opener is.
        if let Some(mapping) = self.mapping.get() {
            let _ = mapping.sync(0, u64::MAX);
        }
        if self.disk().users() == 0 {
            self.disk().driver.last_close();
        }
    }

    /// Whether somebody has claimed it.
    pub fn is_claimed(&self) -> bool {
        self.holder.lock().is_some()
    }

    // ---- accounting: a partition's I/O is its disk's, too ----

    pub(crate) fn account_begin(&self, group: Group, now_ns: u64) {
        if group.is_tracked() {
            self.both(|stats| stats.begin(group, now_ns));
        }
    }

    pub(crate) fn account_merge(&self, group: Group) {
        self.both(|stats| stats.merged(group));
    }

    pub(crate) fn account_end(&self, group: Group, sectors: u32, began_ns: u64, now_ns: u64) {
        if group.is_tracked() {
            self.both(|stats| stats.end(group, sectors, began_ns, now_ns));
        }
    }

    fn both(&self, count: impl Fn(&Stats)) {
        count(&self.stats);
        if self.number != 0 {
            count(&self.disk.whole().stats);
        }
    }
}

/// The right to a device that [`BlockDevice::claim`] gives; dropping it gives it back, which may sleep: a file system's
/// device may have no opener any more (a loop device that detaches itself).
pub struct Claim {
    device: Arc<BlockDevice>,
}

impl Claim {
    pub fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        *self.device.holder.lock() = None;
        self.device.let_go();
    }
}

/// All devices, in the order they were added.
static DEVICES: SpinLock<Vec<Arc<BlockDevice>>, DeviceTable> = SpinLock::new(Vec::new());

pub(crate) fn register(device: &Arc<BlockDevice>) {
    DEVICES.lock().push(device.clone());
}

pub(crate) fn unregister(device: &Arc<BlockDevice>) {
    DEVICES.lock().retain(|other| !Arc::ptr_eq(other, device));
}

/// All devices there are, disks before their partitions.
pub fn devices() -> Vec<Arc<BlockDevice>> {
    DEVICES.lock().clone()
}

fn find(wanted: impl Fn(&BlockDevice) -> bool) -> Option<Arc<BlockDevice>> {
    DEVICES.lock().iter().find(|device| wanted(device)).cloned()
}

/// The device with this number.
pub fn by_dev(dev: DevId) -> Option<Arc<BlockDevice>> {
    find(|device| device.dev == dev)
}

/// The device of this name (`vda1`).
pub fn by_name(name: &str) -> Option<Arc<BlockDevice>> {
    find(|device| device.name == name)
}

/// The device that the boot argument `root=` and its kin mean: `/dev/vda1`, `254:1`, `fe01` (hexadecimal),
/// `PARTUUID=`, `PARTLABEL=`. ENODEV.
pub fn open(spec: &str) -> Result<Arc<BlockDevice>> {
    let found = if let Some(name) = spec.strip_prefix("/dev/") {
        by_name(name)
    } else if let Some(uuid) = spec.strip_prefix("PARTUUID=") {
        find(|device| device.label.uuid.eq_ignore_ascii_case(uuid) && !uuid.is_empty())
    } else if let Some(name) = spec.strip_prefix("PARTLABEL=") {
        find(|device| device.label.name == name && !name.is_empty())
    } else {
        parse_number(spec).and_then(by_dev)
    };
    found.ok_or(Errno::ENODEV)
}

fn parse_number(spec: &str) -> Option<DevId> {
    if let Some((major, minor)) = spec.split_once(':') {
        return Some(DevId::new(major.parse().ok()?, minor.parse().ok()?));
    }
    u64::from_str_radix(spec, 16).ok().map(DevId::decode)
}
