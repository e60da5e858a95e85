//! Partitions: reading the table of a disk and making devices of it.

use crate::device::{self, BlockDevice};
use crate::disk::Disk;
use crate::{file, show};
use abi::Errno;
use abi::errno::Result;
use abi::stat::DevId;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use idalloc::IdAllocator;
use klog::{pr_info, pr_warn};
use mem::{AllocFlags, Folio};
use partitions::Partition;
use sync::SpinLock;
use sync::levels::Leaf;
use vfs::device::{Kind, add_node, register, remove_node, unregister};

/// The major number of partitions for which a disk has no minor number (Linux's blkext).
const EXTENDED_MAJOR: u32 = 259;

static EXTENDED: SpinLock<IdAllocator, Leaf> = SpinLock::new(IdAllocator::new());

/// Permission bits of a block device's node: root and its group.
const NODE_MODE: u32 = 0o600;

pub(crate) fn init() -> Result<()> {
    register(Kind::Block, DevId::new(EXTENDED_MAJOR, 0), 1 << 20, "blkext", file::open)
}

/// Announces a disk: its node, its files in /sys, its partitions. Process context; reads the disk.
///
/// # Errors
/// EBUSY when its device number is taken, EEXIST when its name is.
pub fn add_disk(disk: &Arc<Disk>, driver: &'static str) -> Result<()> {
    if device::by_name(disk.name()).is_some() {
        return Err(Errno::EEXIST);
    }
    let info = disk.info();
    register(Kind::Block, info.dev, info.minors.max(1), driver, file::open)?;
    announce(disk.whole());
    show::add_disk(disk);
    if info.partitions && info.sectors > 0 {
        rescan(disk)?;
    }
    Ok(())
}

fn announce(device: &Arc<BlockDevice>) {
    device::register(device);
    add_node(device.name(), Kind::Block, device.dev(), NODE_MODE);
}

/// Takes a disk away that [`add_disk`] announced: its node, its files, its partitions. EBUSY while somebody has it
/// open. Who opened it before all of that was gone keeps a disk whose driver decides what becomes of requests. Process
/// context.
pub fn del_disk(disk: &Arc<Disk>) -> Result<()> {
    // A table that is being read makes it busy. Without partitions there is none, and no lock to be out of order for who
    // writes to a file of the driver's.
    let _one = match disk.info().partitions {
        true => Some(disk.scan.try_lock().ok_or(Errno::EBUSY)?),
        false => None,
    };
    if disk.users() > 0 {
        return Err(Errno::EBUSY);
    }
    let parts = disk.partitions();
    unregister(Kind::Block, disk.info().dev);
    disk.parts.lock().clear();
    parts.iter().for_each(|part| retire(disk, part));
    show::remove_disk(disk);
    remove_node(disk.name());
    device::unregister(disk.whole());
    Ok(())
}

/// Reads the partition table again. EBUSY while a partition is in use.
pub fn rescan(disk: &Arc<Disk>) -> Result<()> {
    let _one = disk.scan.lock();
    let old = disk.partitions();
    if old.iter().any(|part| part.users() > 0) {
        return Err(Errno::EBUSY);
    }
    let found = match read_table(disk) {
        Ok(found) => found,
        Err(partitions::Error::Io) => {
            pr_warn!("{}: unable to read partition table", disk.name());
            Vec::new()
        }
        Err(partitions::Error::OutOfMemory) => return Err(Errno::ENOMEM),
    };
    disk.parts.lock().clear();
    for part in &old {
        retire(disk, part);
    }
    let mut names = String::new();
    for partition in found {
        let Some(dev) = number(disk, partition.number) else { continue };
        let part = BlockDevice::partition(
            disk,
            partition.number,
            dev,
            partition.start,
            partition.sectors,
            partition.label,
        );
        names.push(' ');
        names.push_str(&part.name()[disk.name().len()..]);
        announce(&part);
        show::add_partition(disk, &part);
        disk.parts.lock().push(part);
    }
    if !names.is_empty() {
        pr_info!(" {}:{names}", disk.name());
    }
    Ok(())
}

fn retire(disk: &Disk, part: &Arc<BlockDevice>) {
    // A partition that nobody has open has nothing dirty: the last close wrote it.
    show::remove_partition(disk, part);
    remove_node(part.name());
    device::unregister(part);
    if part.dev().major == EXTENDED_MAJOR {
        EXTENDED.lock().free(part.dev().minor);
    }
}

/// The device number of a partition.
fn number(disk: &Disk, partition: u32) -> Option<DevId> {
    let info = disk.info();
    if partition < info.minors {
        return Some(DevId::new(info.dev.major, info.dev.minor + partition));
    }
    let minor = EXTENDED.lock().alloc_from(0, 1 << 20).ok()?;
    Some(DevId::new(EXTENDED_MAJOR, minor))
}

fn read_table(disk: &Arc<Disk>) -> core::result::Result<Vec<Partition>, partitions::Error> {
    let whole = disk.whole();
    let block = disk.limits().logical_block as usize;
    let folio = Folio::alloc(0, AllocFlags::KERNEL).map_err(|_| partitions::Error::OutOfMemory)?;
    partitions::read(block, whole.bytes() / block as u64, &mut |lba, buffer| {
        let sector = lba * (block as u64 >> crate::SECTOR_SHIFT);
        // Through the page cache: a table that was just written and not yet synced is the one that counts.
        let read = match whole.mapping_if_used().and_then(|mapping| mapping.find(sector >> 3)) {
            Some(cached) => {
                cached.read((sector as usize % 8) << crate::SECTOR_SHIFT, buffer);
                Ok(())
            }
            None => whole.read_sync(sector, &folio, 0, block).map(|()| folio.read(0, buffer)),
        };
        read.is_ok()
    })
}

/// The name of disk number `index` with this prefix: vda, ..., vdz, vdaa, ...
pub fn disk_name(prefix: &str, index: usize) -> String {
    let mut letters = String::new();
    let mut left = index;
    loop {
        letters.insert(0, (b'a' + (left % 26) as u8) as char);
        match (left / 26).checked_sub(1) {
            Some(next) => left = next,
            None => return format!("{prefix}{letters}"),
        }
    }
}
