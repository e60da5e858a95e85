//! swapon(2), swapoff(2).

use crate::path;
use abi::Errno;
use abi::cap::CAP_SYS_ADMIN;
use abi::fs::{SWAP_FLAG_PREFER, SWAP_FLAG_PRIO_MASK, SWAP_FLAGS_VALID};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{Batch, Bio, BlockDevice, Claim, Op, Plug};
use kcore::{Ctx, Result};
use mem::{AllocFlags, Folio};
use vfs::{FileType, Look};
use vm::AddressSpace;
use vm::swap::{self, NewArea, SwapDevice, SwapMap};

/// 512-byte sectors of a page.
const SECTORS: u64 = (arch::PAGE_SIZE / 512) as u64;

/// A block device that swap has claimed.
struct Partition {
    device: Arc<BlockDevice>,
    _claim: Claim,
}

impl SwapDevice for Partition {
    fn read(&self, slot: u32, folio: &Folio) -> Result<()> {
        self.device.read_sync(u64::from(slot) * SECTORS, folio, 0, arch::PAGE_SIZE)
    }

    fn write(&self, pages: &mut dyn Iterator<Item = (u32, &Folio)>) -> Result<()> {
        let batch = Batch::new();
        let mut plug = Plug::new();
        let mut submitted = Ok(());
        for (slot, folio) in pages {
            match Bio::with(Op::Write, u64::from(slot) * SECTORS, folio, 0, arch::PAGE_SIZE) {
                Ok(bio) => batch.submit(&mut plug, &self.device, bio),
                Err(error) => submitted = Err(error),
            }
        }
        // The plug is gone, and the bios on their way, before the wait.
        drop(plug);
        batch.wait().and(submitted)
    }
}

/// swapon(2). Block devices only: a file would have to say where its blocks are, which no file system here
/// does; as on Linux, such a file is EINVAL.
pub fn swapon(ctx: &mut Ctx, special: usize, flags: u32) -> Result<usize> {
    if flags & !SWAP_FLAGS_VALID != 0 {
        return Err(Errno::EINVAL);
    }
    if !ctx.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let (device, path) = device_of(ctx, special)?;
    if swap::areas().iter().any(|area| area.path == path) {
        return Err(Errno::EBUSY);
    }
    let claim = device.claim("swap")?;
    if device.is_read_only() {
        return Err(Errno::EROFS);
    }
    let map = read_map(&device)?;
    let priority = (flags & SWAP_FLAG_PREFER != 0).then_some((flags & SWAP_FLAG_PRIO_MASK) as i16);
    let device = Arc::new(Partition { device, _claim: claim });
    swap::swap_on(NewArea { device, map, priority, path, kind: "partition" }).map(|()| 0)
}

/// The slots that the header describes.
fn read_map(device: &Arc<BlockDevice>) -> Result<SwapMap> {
    let folio = Folio::alloc(0, AllocFlags::KERNEL)?;
    device.read_sync(0, &folio, 0, arch::PAGE_SIZE)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(arch::PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(arch::PAGE_SIZE, 0);
    folio.read(0, &mut bytes);
    let page = bytes.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
    let header = swapheader::parse(page).map_err(|_| Errno::EINVAL)?;
    if u64::from(header.last_page) >= device.bytes() / arch::PAGE_SIZE as u64 {
        return Err(Errno::EINVAL);
    }
    let mut bad = Vec::new();
    bad.try_reserve_exact(swapheader::MAX_BAD_PAGES).map_err(|_| Errno::ENOMEM)?;
    bad.extend(header.bad_pages());
    Ok(SwapMap::new(header.last_page + 1, &bad)?)
}

/// The block device behind a path, and the path as /proc/swaps shows it.
fn device_of(ctx: &Ctx, special: usize) -> Result<(Arc<BlockDevice>, String)> {
    let place = path::find_at(ctx, special, Look::FOLLOW)?;
    let inode = place.inode();
    if inode.file_type() != FileType::BlockDevice {
        return Err(Errno::EINVAL);
    }
    let device = block::by_dev(inode.rdev).ok_or(Errno::ENXIO)?;
    let path = String::from_utf8_lossy(&place.text(None).0).into_owned();
    Ok((device, path))
}

/// swapoff(2). Sleeps until every page is back.
pub fn swapoff(ctx: &mut Ctx, special: usize) -> Result<usize> {
    if !ctx.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let (_, path) = device_of(ctx, special)?;
    swap::swap_off(&path, spaces).map(|()| 0)
}

/// The address spaces of all processes.
fn spaces() -> Vec<Arc<AddressSpace>> {
    let mut found = Vec::new();
    kcore::pid::for_each_process(|process| found.extend(process.mm()));
    found
}
