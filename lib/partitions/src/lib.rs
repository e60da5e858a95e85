//! Partition tables: GPT and MBR, from bytes that nobody vouches for.
//!
//! **Problem.** A disk's first blocks say where its partitions are. They may be damaged or made to harm.
//!
//! **Interface.** [`read`] takes a function that reads one logical block and returns the [`Partition`]s in
//! the order of their numbers, which are Linux's: GPT entries and primary MBR partitions by place, logical
//! ones from 5 on.
//!
//! **Idea.** A GPT counts when its header and its entries have the right checksums and fit the disk, the
//! backup at the end of the disk where the primary does not; it is looked for when the MBR has a protective
//! entry. Everything that is followed is bounded: entries by [`MAX_ENTRIES`], the chain of extended boot
//! records by [`MAX_PARTITIONS`] and by never going to a place twice. Partitions that leave the disk are left
//! out; they may overlap each other (hybrid tables do).
//!
//! Sources: UEFI Specification 2.10, chapter 5; Linux's block/partitions for the numbers.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod gpt;
mod mbr;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

/// The most partitions of a disk (Linux's DISK_MAX_PARTS).
pub const MAX_PARTITIONS: usize = 256;
/// The most entries of a GPT that are looked at.
pub const MAX_ENTRIES: u32 = 4096;

/// What a table says of a partition besides its place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Label {
    /// PARTUUID, lower case; for an MBR made of the disk's number and the partition's.
    pub uuid: String,
    /// PARTLABEL; GPT only.
    pub name: String,
}

/// One partition. Sectors have 512 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// From 1.
    pub number: u32,
    pub start: u64,
    pub sectors: u64,
    pub label: Label,
}

/// Why there are no partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A block could not be read.
    Io,
    OutOfMemory,
}

/// The disk as the parsers see it.
struct Disk<'a> {
    /// Reads logical block `lba` into a buffer of one block.
    read: &'a mut dyn FnMut(u64, &mut [u8]) -> bool,
    block: usize,
    /// Logical blocks.
    blocks: u64,
}

impl Disk<'_> {
    fn read(&mut self, lba: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if (self.read)(lba, buffer) { Ok(()) } else { Err(Error::Io) }
    }

    fn buffer(&self) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(self.block).map_err(|_| Error::OutOfMemory)?;
        buffer.resize(self.block, 0);
        Ok(buffer)
    }

    /// A partition of logical blocks `first..=last`, if it is one.
    fn partition(&self, number: u32, first: u64, blocks: u64, label: Label) -> Option<Partition> {
        let end = first.checked_add(blocks)?;
        if blocks == 0 || end > self.blocks {
            return None;
        }
        let factor = self.block as u64 / 512;
        Some(Partition { number, start: first.checked_mul(factor)?, sectors: blocks * factor, label })
    }
}

fn push(list: &mut Vec<Partition>, partition: Option<Partition>) -> Result<(), Error> {
    if let Some(partition) = partition
        && list.len() < MAX_PARTITIONS
    {
        list.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        list.push(partition);
    }
    Ok(())
}

/// Reads the table of a disk of `blocks` logical blocks of `block` bytes (a power of two, 512 to 4096).
/// `read(lba, buffer)` fills the buffer with one block. A disk without a table has no partitions.
pub fn read(
    block: usize,
    blocks: u64,
    read: &mut dyn FnMut(u64, &mut [u8]) -> bool,
) -> Result<Vec<Partition>, Error> {
    let mut disk = Disk { read, block, blocks };
    if blocks < 2 {
        return Ok(Vec::new());
    }
    let mut first = disk.buffer()?;
    disk.read(0, &mut first)?;
    let Some(table) = mbr::Table::parse(&first) else { return Ok(Vec::new()) };
    if table.is_protective()
        && let Some(partitions) = gpt::read(&mut disk)?
    {
        return Ok(partitions);
    }
    mbr::read(&mut disk, &table)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
