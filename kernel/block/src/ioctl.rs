//! The ioctls of block devices.

use crate::file::BlockFile;
use crate::{SECTOR_SHIFT, scan};
use abi::block::*;
use abi::cap::CAP_SYS_ADMIN;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mem::user;

pub(crate) fn ioctl(file: &BlockFile, command: u32, argument: usize) -> Result<usize> {
    let device = file.device();
    let limits = device.limits();
    match command {
        BLKGETSIZE64 => put(argument, device.bytes()),
        BLKGETSIZE => put(argument, device.sectors()),
        BLKSSZGET => put(argument, limits.logical_block),
        BLKPBSZGET => put(argument, limits.physical_block),
        BLKIOMIN => put(argument, limits.io_min),
        BLKIOOPT => put(argument, limits.io_opt),
        BLKALIGNOFF => put(argument, 0u32),
        BLKDISCARDZEROES => put(argument, 0u32),
        BLKROTATIONAL => put(argument, u16::from(limits.rotational)),
        BLKSECTGET => put(argument, device.disk().limits_now().max_sectors.min(u16::MAX.into()) as u16),
        BLKBSZGET => put(argument, 1u32 << device.soft_block_shift.load(Ordering::Relaxed)),
        BLKBSZSET => set_block_size(file, argument),
        BLKROGET => put(argument, u32::from(device.is_read_only())),
        BLKROSET => {
            let read_only: u32 = get(argument)?;
            privileged(file)?;
            device.set_read_only(read_only != 0);
            Ok(0)
        }
        BLKRAGET => put(argument, u64::from(device.disk().read_ahead_kb.load(Ordering::Relaxed)) * 2),
        BLKRASET => {
            privileged(file)?;
            let sectors = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            device.disk().read_ahead_kb.store(sectors / 2, Ordering::Relaxed);
            Ok(0)
        }
        BLKFLSBUF => {
            privileged(file)?;
            device.sync().map(|()| 0)
        }
        BLKRRPART => {
            privileged(file)?;
            if device.partition_number() != 0 || !device.disk().info().partitions {
                return Err(Errno::EINVAL);
            }
            scan::rescan(device.disk()).map(|()| 0)
        }
        BLKDISCARD => range(file, argument, |device, sector, sectors| device.discard(sector, sectors)),
        BLKZEROOUT => range(file, argument, crate::zero::zero_out),
        HDIO_GETGEO => geometry(file, argument),
        _ => device.disk().driver.ioctl(command, argument),
    }
}

fn put<T: mem::Pod>(argument: usize, value: T) -> Result<usize> {
    user::write_val(argument, &value).map_err(|_| Errno::EFAULT)?;
    Ok(0)
}

fn get<T: mem::Pod>(argument: usize) -> Result<T> {
    user::read_val(argument).map_err(|_| Errno::EFAULT)
}

fn privileged(file: &BlockFile) -> Result<()> {
    if file.cred().capable(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EACCES) }
}

fn set_block_size(file: &BlockFile, argument: usize) -> Result<usize> {
    privileged(file)?;
    let size: u32 = get(argument)?;
    let allowed = file.device().logical_block()..=arch::PAGE_SIZE as u32;
    if !size.is_power_of_two() || !allowed.contains(&size) {
        return Err(Errno::EINVAL);
    }
    file.device().soft_block_shift.store(size.ilog2(), Ordering::Relaxed);
    Ok(0)
}

/// An operation on the bytes `start, len` that the argument points to.
fn range(
    file: &BlockFile,
    argument: usize,
    action: impl FnOnce(&Arc<crate::BlockDevice>, u64, u64) -> Result<()>,
) -> Result<usize> {
    if !file.writes() {
        return Err(Errno::EBADF);
    }
    let [start, len]: [u64; 2] = get(argument)?;
    let device = file.device();
    let block = u64::from(device.logical_block());
    let end = start.checked_add(len).filter(|end| *end <= device.bytes()).ok_or(Errno::EINVAL)?;
    if !start.is_multiple_of(block) || !end.is_multiple_of(block) {
        return Err(Errno::EINVAL);
    }
    if device.is_read_only() {
        return Err(Errno::EPERM);
    }
    device.drop_cached(start, end)?;
    action(device, start >> SECTOR_SHIFT, len >> SECTOR_SHIFT)?;
    Ok(0)
}

/// What old partitioners ask; the numbers Linux makes up for disks that have none.
fn geometry(file: &BlockFile, argument: usize) -> Result<usize> {
    let device = file.device();
    let sectors = device.disk().whole().sectors();
    let geometry = HdGeometry {
        heads: 255,
        sectors: 63,
        cylinders: (sectors / (255 * 63)).min(u16::MAX.into()) as u16,
        start: device.start(),
        ..HdGeometry::default()
    };
    user::write(argument, &geometry.to_bytes()).map_err(|_| Errno::EFAULT)?;
    Ok(0)
}
