//! The master boot record, and logical partitions in a chain of extended boot records.

use crate::{Disk, Error, Label, MAX_PARTITIONS, Partition, push, u16_at, u32_at};
use alloc::format;
use alloc::vec::Vec;

const TABLE: usize = 446;
const ENTRY: usize = 16;
const DISK_NUMBER: usize = 440;
const PROTECTIVE: u8 = 0xee;

#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    start: u32,
    blocks: u32,
}

impl Entry {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn is_used(self) -> bool {
        self.kind != 0 && self.blocks != 0
    }
}

pub(crate) struct Table {
    entries: [Entry; 4],
    disk_number: u32,
}

impl Table {
    /// `None` when the block has no signature, or is the first block of a FAT, which has one too.
    pub(crate) fn parse(block: &[u8]) -> Option<Table> {
        if u16_at(block, 510) != 0xaa55 {
            return None;
        }
        let table = block.get(TABLE..TABLE + 4 * ENTRY)?;
        // The boot flag of an entry is 0 or 0x80; other bytes are a boot sector's code.
        if table.chunks_exact(ENTRY).any(|entry| entry[0] & 0x7f != 0) {
            return None;
        }
        let mut entries = [Entry { kind: 0, start: 0, blocks: 0 }; 4];
        for (entry, bytes) in entries.iter_mut().zip(table.chunks_exact(ENTRY)) {
            *entry = Entry { kind: bytes[4], start: u32_at(bytes, 8), blocks: u32_at(bytes, 12) };
        }
        Some(Table { entries, disk_number: u32_at(block, DISK_NUMBER) })
    }

    pub(crate) fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == PROTECTIVE)
    }

    fn label(&self, number: u32) -> Label {
        Label { uuid: format!("{:08x}-{number:02x}", self.disk_number), ..Label::default() }
    }
}

pub(crate) fn read(disk: &mut Disk, table: &Table) -> Result<Vec<Partition>, Error> {
    let mut found = Vec::new();
    for (number, entry) in (1..).zip(&table.entries) {
        // An extended partition shows its two first sectors only, so that nobody makes a file system over
        // the logical ones, but a boot loader fits.
        let blocks = if entry.is_extended() {
            u64::from(entry.blocks).min(if disk.block == 512 { 2 } else { 1 })
        } else {
            entry.blocks.into()
        };
        if entry.is_used() {
            push(&mut found, disk.partition(number, entry.start.into(), blocks, table.label(number)))?;
        }
    }
    for entry in table.entries.iter().filter(|entry| entry.is_extended() && entry.is_used()) {
        read_logical(disk, table, *entry, &mut found)?;
    }
    Ok(found)
}

/// Follows the chain: each record has a logical partition, relative to itself, and the next record, relative
/// to the extended partition. A chain may only go forward, so it ends.
fn read_logical(
    disk: &mut Disk,
    table: &Table,
    extended: Entry,
    found: &mut Vec<Partition>,
) -> Result<(), Error> {
    let base = u64::from(extended.start);
    let end = base + u64::from(extended.blocks);
    let mut at = base;
    let mut buffer = disk.buffer()?;
    let mut number = found.iter().map(|partition| partition.number).max().unwrap_or(0).max(4);
    while number < MAX_PARTITIONS as u32 && at < disk.blocks {
        disk.read(at, &mut buffer)?;
        let Some(record) = Table::parse(&buffer) else { break };
        for entry in record.entries.iter().filter(|entry| entry.is_used() && !entry.is_extended()) {
            let start = at + u64::from(entry.start);
            if start + u64::from(entry.blocks) <= end && number < MAX_PARTITIONS as u32 {
                number += 1;
                push(found, disk.partition(number, start, entry.blocks.into(), table.label(number)))?;
            }
        }
        let next = record.entries.iter().find(|entry| entry.is_extended() && entry.is_used());
        match next.map(|entry| base + u64::from(entry.start)) {
            Some(next) if next > at && next < end => at = next,
            _ => break,
        }
    }
    Ok(())
}
