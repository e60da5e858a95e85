//! swapon(2), swapoff(2).
//!
//! Swap goes to a block device, or to a regular file past its file system: where the file's blocks are is asked once,
//! at swapon, and from then on nobody may move them (`Inode::is_swap_file`).

use crate::fs::caller;
use crate::path;
use abi::Errno;
use abi::cap::CAP_SYS_ADMIN;
use abi::fcntl::{O_LARGEFILE, O_RDWR};
use abi::fs::*;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{Batch, Bio, BlockDevice, Claim, Op, Plug};
use kcore::{Ctx, Result};
use mem::{AllocFlags, Folio};
use vfs::{File, FileType, Look, Path};
use vm::AddressSpace;
use vm::swap::{self, AreaId, NewArea, SwapDevice, SwapMap};

const PAGE: u64 = arch::PAGE_SIZE as u64;
/// 512-byte sectors of a page.
const SECTORS: u64 = PAGE / 512;

/// A block device that swap has claimed.
struct Partition {
    device: Arc<BlockDevice>,
    _claim: Claim,
}

impl Partition {
    /// Drops what the area holds, the header's page excepted.
    fn discard(&self) -> Result<()> {
        self.device.discard(SECTORS, (self.device.sectors() / SECTORS).saturating_sub(1) * SECTORS)
    }
}

impl SwapDevice for Partition {
    fn read(&self, slot: u32, folio: &Folio) -> Result<()> {
        self.device.read_sync(u64::from(slot) * SECTORS, folio, 0, arch::PAGE_SIZE)
    }

    fn write(&self, pages: &mut dyn Iterator<Item = (u32, &Folio)>) -> Result<()> {
        write_pages(&self.device, pages, |slot| Some(u64::from(slot) * SECTORS))
    }

    fn free(&self, slot: u32) {
        self.device.swap_slot_free(u64::from(slot) * SECTORS);
    }
}

/// Slots of a swap file that are consecutive on the device.
struct Stretch {
    slot: u32,
    count: u32,
    sector: u64,
}

/// A file that swap has locked: it stays open, and its file system mounted.
struct SwapFile {
    file: Arc<File>,
    device: Arc<BlockDevice>,
    /// By slot.
    stretches: Vec<Stretch>,
}

impl SwapFile {
    /// As [`Partition::discard`].
    fn discard(&self) -> Result<()> {
        self.stretches.iter().try_for_each(|stretch| {
            let skip = u32::from(stretch.slot == 0);
            let sectors = u64::from(stretch.count - skip) * SECTORS;
            self.device.discard(stretch.sector + u64::from(skip) * SECTORS, sectors)
        })
    }

    fn sector(&self, slot: u32) -> Option<u64> {
        let after = self.stretches.partition_point(|stretch| stretch.slot <= slot);
        let stretch = self.stretches.get(after.checked_sub(1)?)?;
        let offset = slot - stretch.slot;
        (offset < stretch.count).then(|| stretch.sector + u64::from(offset) * SECTORS)
    }
}

impl SwapDevice for SwapFile {
    fn read(&self, slot: u32, folio: &Folio) -> Result<()> {
        let sector = self.sector(slot).ok_or(Errno::EIO)?;
        self.device.read_sync(sector, folio, 0, arch::PAGE_SIZE)
    }

    fn write(&self, pages: &mut dyn Iterator<Item = (u32, &Folio)>) -> Result<()> {
        write_pages(&self.device, pages, |slot| self.sector(slot))
    }

    fn free(&self, slot: u32) {
        if let Some(sector) = self.sector(slot) {
            self.device.swap_slot_free(sector);
        }
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        self.file.inode().end_swap_file();
    }
}

/// Writes pages to where `sector` says and waits for all.
fn write_pages(
    device: &Arc<BlockDevice>,
    pages: &mut dyn Iterator<Item = (u32, &Folio)>,
    sector: impl Fn(u32) -> Option<u64>,
) -> Result<()> {
    let batch = Batch::new();
    let mut plug = Plug::new();
    let mut submitted = Ok(());
    for (slot, folio) in pages {
        let bio = sector(slot)
            .ok_or(Errno::EIO)
            .and_then(|sector| Bio::with(Op::Write, sector, folio, 0, arch::PAGE_SIZE));
        match bio {
            Ok(bio) => batch.submit(&mut plug, device, bio),
            Err(error) => submitted = Err(error),
        }
    }
    // The plug is gone, and the bios on their way, before the wait.
    drop(plug);
    batch.wait().and(submitted)
}

/// swapon(2). Of the ways to discard only the one at the start has an effect: pages that become free are written anew
/// soon.
pub fn swapon(ctx: &mut Ctx, special: usize, flags: u32) -> Result<usize> {
    if flags & !SWAP_FLAGS_VALID != 0 {
        return Err(Errno::EINVAL);
    }
    if !ctx.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let place = path::find_at(ctx, special, Look::FOLLOW)?;
    let id = id_of(&place)?;
    let path = String::from_utf8_lossy(&place.text(None).0).into_owned();
    let priority = (flags & SWAP_FLAG_PREFER != 0).then_some((flags & SWAP_FLAG_PRIO_MASK) as i16);
    let once = flags & SWAP_FLAG_DISCARD != 0
        && (flags & SWAP_FLAG_DISCARD_ONCE != 0 || flags & SWAP_FLAG_DISCARD_PAGES == 0);
    // A hint: a device that cannot do it is used all the same.
    let hint = |discard: &dyn Fn() -> Result<()>| {
        let _ = once.then(discard);
    };
    let (device, map, kind): (Arc<dyn SwapDevice>, _, _) = if place.inode().is_regular() {
        let file = vfs::open::open_at_place(&caller(ctx), place, O_RDWR | O_LARGEFILE)?;
        let (file, map) = lock_file(file)?;
        hint(&|| file.discard());
        (Arc::new(file), map, "file")
    } else {
        let (partition, map) = claim_device(&place)?;
        hint(&|| partition.discard());
        (Arc::new(partition), map, "partition")
    };
    swap::swap_on(NewArea { device, map, priority, path, id, kind }).map(|()| 0)
}

/// What swapon and swapoff know a device or file by. EINVAL for what is neither.
fn id_of(place: &Path) -> Result<AreaId> {
    let inode = place.inode();
    match inode.file_type() {
        FileType::BlockDevice => Ok(AreaId(inode.rdev.encode(), 0)),
        FileType::Regular => Ok(AreaId(inode.sb.dev.encode(), inode.ino)),
        _ => Err(Errno::EINVAL),
    }
}

fn claim_device(place: &Path) -> Result<(Partition, SwapMap)> {
    let device = block::by_dev(place.inode().rdev).ok_or(Errno::ENXIO)?;
    let claim = device.claim("swap")?;
    if device.is_read_only() {
        return Err(Errno::EROFS);
    }
    let folio = Folio::alloc(0, AllocFlags::KERNEL)?;
    device.read_sync(0, &folio, 0, arch::PAGE_SIZE)?;
    let mut page = page_buffer()?;
    folio.read(0, &mut page);
    let pages = device.bytes() / PAGE;
    let map = read_map(&page, pages, pages)?;
    Ok((Partition { device, _claim: claim }, map))
}

/// Makes a file a swap file: its bytes are on the device, and nobody changes where they are any more.
fn lock_file(file: Arc<File>) -> Result<(SwapFile, SwapMap)> {
    let inode = file.inode().clone();
    let device = block::by_dev(inode.sb.dev).ok_or(Errno::EINVAL)?;
    {
        // A write that has begun ends before; none begins after.
        let _contents = inode.contents.write();
        inode.begin_swap_file()?;
    }
    // From here on dropping it makes it an ordinary file again.
    let mut locked = SwapFile { file, device, stretches: Vec::new() };
    locked.file.fsync(false)?;
    let mapping = locked.file.ops().mapping(&locked.file).ok_or(Errno::EINVAL)?;
    let mut page = page_buffer()?;
    if mapping.read_bytes(0, &mut page)? < page.len() {
        return Err(Errno::EINVAL);
    }
    let slots = find_blocks(&mut locked, mapping.size() / PAGE * PAGE)?;
    let map = read_map(&page, mapping.size() / PAGE, u64::from(slots))?;
    Ok((locked, map))
}

/// Asks where the first `bytes` bytes of the file are; how many whole, aligned pages of the device they make. EINVAL
/// for holes.
fn find_blocks(file: &mut SwapFile, bytes: u64) -> Result<u32> {
    let (mut at, mut slots) = (0, 0u32);
    // The stretch of the device that is not in the table yet.
    let mut open = 0..0u64;
    while at < bytes {
        let extent = file.file.ops().extent(&file.file, at, bytes - at)?;
        let place = extent.place.ok_or(Errno::EINVAL)?;
        if place != open.end {
            push(&mut file.stretches, &mut slots, &open)?;
            open = place..place;
        }
        open.end += extent.len;
        at += extent.len.max(1);
    }
    push(&mut file.stretches, &mut slots, &open)?;
    Ok(slots)
}

fn push(to: &mut Vec<Stretch>, slots: &mut u32, bytes: &core::ops::Range<u64>) -> Result<()> {
    let (first, end) = (bytes.start.div_ceil(PAGE), bytes.end / PAGE);
    let Some(count) = end.checked_sub(first).filter(|count| *count > 0) else { return Ok(()) };
    let count = u32::try_from(count).map_err(|_| Errno::EINVAL)?;
    to.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    to.push(Stretch { slot: *slots, count, sector: first * SECTORS });
    *slots = slots.checked_add(count).ok_or(Errno::EINVAL)?;
    Ok(())
}

fn page_buffer() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(arch::PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(arch::PAGE_SIZE, 0);
    Ok(bytes)
}

/// The slots that the header describes, of which there are `slots`: blocks of a file that do not begin where pages of
/// the device do make fewer. EINVAL when the area of `pages` pages is smaller than the header says, or holds nothing.
fn read_map(page: &[u8], pages: u64, slots: u64) -> Result<SwapMap> {
    let page = page.try_into().map_err(|_| Errno::EINVAL)?;
    let header = swapheader::parse(page).map_err(|_| Errno::EINVAL)?;
    if u64::from(header.last_page) >= pages || slots < 2 {
        return Err(Errno::EINVAL);
    }
    let count = u64::from(header.last_page + 1).min(slots) as u32;
    let mut bad = Vec::new();
    bad.try_reserve_exact(swapheader::MAX_BAD_PAGES).map_err(|_| Errno::ENOMEM)?;
    bad.extend(header.bad_pages());
    Ok(SwapMap::new(count, &bad)?)
}

/// swapoff(2). Sleeps until every page is back.
pub fn swapoff(ctx: &mut Ctx, special: usize) -> Result<usize> {
    if !ctx.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let place = path::find_at(ctx, special, Look::FOLLOW)?;
    swap::swap_off(id_of(&place)?, spaces).map(|()| 0)
}

/// The address spaces of all processes.
fn spaces() -> Vec<Arc<AddressSpace>> {
    let mut found = Vec::new();
    kcore::pid::for_each_process(|process| found.extend(process.mm()));
    found
}
