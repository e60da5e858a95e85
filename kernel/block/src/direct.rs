//! O_DIRECT: between a program's memory and the device without the page cache.
//!
//! Offset and length are whole logical blocks (EINVAL). The data pass through pages of the kernel's own: a
//! page of a program can be unmapped or changed while a device works on it, and this layer knows no address
//! space to hold it in. What the cache has of the same place is written before it is read, and follows what
//! is written.

use crate::bio::{Batch, Bio, BioFlags, Op, SECTOR_SHIFT};
use crate::device::BlockDevice;
use crate::plug::Plug;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mem::{AllocFlags, Folio};
use vfs::IoBuf;

/// Bytes that are under way at once.
const WINDOW: usize = 1 << 20;
/// The largest folio that is asked for: 64 KiB.
const ORDER: u8 = 4;

fn check(device: &BlockDevice, pos: u64, len: usize) -> Result<()> {
    let block = u64::from(device.logical_block());
    if pos.is_multiple_of(block) && (len as u64).is_multiple_of(block) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Pages of the kernel's own for `len` bytes on their way: (folio, bytes of it that are used). ENOMEM.
pub fn bounce(len: usize) -> Result<Vec<(Folio, usize)>> {
    let mut list = Vec::new();
    let mut left = len;
    while left > 0 {
        let order = (left.div_ceil(arch::PAGE_SIZE).ilog2() as u8).min(ORDER);
        let folio = Folio::alloc(order, AllocFlags::USER).or_else(|_| Folio::alloc(0, AllocFlags::USER))?;
        let part = folio.len().min(left);
        list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        list.push((folio, part));
        left -= part;
    }
    Ok(list)
}

fn transfer(device: &Arc<BlockDevice>, op: Op, pos: u64, folios: &[(Folio, usize)]) -> Result<()> {
    let batch = Batch::new();
    let mut plug = Plug::new();
    let made: Result<Box<Bio>> = Bio::new(op, pos >> SECTOR_SHIFT).and_then(|mut bio| {
        bio.flags |= BioFlags::SYNC;
        bio.reserve(folios.len())?;
        folios.iter().try_for_each(|(folio, len)| bio.push(folio, 0, *len))?;
        Ok(bio)
    });
    batch.submit(&mut plug, device, made?);
    drop(plug);
    batch.wait()
}

/// Reads at `pos` and moves it.
pub(crate) fn read(device: &Arc<BlockDevice>, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    check(device, *pos, buf.remaining())?;
    let mut done = 0;
    while buf.remaining() > 0 {
        let room = usize::try_from(device.bytes().saturating_sub(*pos)).unwrap_or(usize::MAX);
        let len = buf.remaining().min(WINDOW).min(room);
        if len == 0 {
            break;
        }
        let part = read_window(device, *pos, len, buf);
        match part {
            Ok(moved) => {
                *pos += moved as u64;
                done += moved;
                if moved < len {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn read_window(device: &Arc<BlockDevice>, pos: u64, len: usize, buf: &mut IoBuf) -> Result<usize> {
    flush_cache(device, pos, len)?;
    let folios = bounce(len)?;
    transfer(device, Op::Read, pos, &folios)?;
    let mut moved = 0;
    for (folio, part) in &folios {
        let taken = match buf.put_folio(folio, 0, *part) {
            Ok(taken) => taken,
            Err(_) if moved > 0 => return Ok(moved),
            Err(error) => return Err(error),
        };
        moved += taken;
        if taken < *part {
            break;
        }
    }
    Ok(moved)
}

/// Writes `len` bytes, which fit the device, at `pos` and moves it.
pub(crate) fn write(device: &Arc<BlockDevice>, pos: &mut u64, buf: &mut IoBuf, len: usize) -> Result<usize> {
    check(device, *pos, len)?;
    let mut done = 0;
    while done < len {
        let part = (len - done).min(WINDOW);
        match write_window(device, *pos, part, buf) {
            Ok(moved) => {
                *pos += moved as u64;
                done += moved;
                if moved < part {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn write_window(device: &Arc<BlockDevice>, pos: u64, len: usize, buf: &mut IoBuf) -> Result<usize> {
    let folios = bounce(len)?;
    let mut moved = 0;
    for (folio, part) in &folios {
        let taken = match buf.take_folio(folio, 0, *part) {
            Ok(taken) => taken,
            Err(_) if moved > 0 => 0,
            Err(error) => return Err(error),
        };
        moved += taken;
        if taken < *part {
            break;
        }
    }
    // A fault in the middle: whole blocks before it are written.
    moved -= moved % device.logical_block() as usize;
    if moved == 0 {
        return Err(Errno::EFAULT);
    }
    let mut left = moved;
    let used: Vec<(Folio, usize)> = folios
        .into_iter()
        .map(|(folio, part)| {
            let part = part.min(left);
            left -= part;
            (folio, part)
        })
        .take_while(|(_, part)| *part > 0)
        .collect();
    // Dirty pages of the same place would later overwrite what is written now.
    flush_cache(device, pos, moved)?;
    transfer(device, Op::Write, pos, &used)?;
    update_cache(device, pos, &used);
    Ok(moved)
}

/// Writes what is dirty in the cache of the place.
fn flush_cache(device: &Arc<BlockDevice>, pos: u64, len: usize) -> Result<()> {
    device.mapping_if_used().map_or(Ok(()), |mapping| mapping.flush_range(pos, pos + len as u64))
}

/// Brings what the page cache has of the place up to date.
fn update_cache(device: &Arc<BlockDevice>, pos: u64, folios: &[(Folio, usize)]) {
    const PAGE: u64 = arch::PAGE_SIZE as u64;
    let Some(mapping) = device.mapping_if_used() else { return };
    let mut buffer = [0; 512];
    let mut at = pos;
    for (folio, len) in folios {
        for from in (0..*len).step_by(buffer.len()) {
            if let Some(cached) = mapping.find(at / PAGE) {
                folio.read(from, &mut buffer);
                cached.write((at % PAGE) as usize, &buffer);
            }
            at += buffer.len() as u64;
        }
    }
}
