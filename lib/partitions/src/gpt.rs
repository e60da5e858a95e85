//! The GUID partition table.

use crate::{Disk, Error, Label, MAX_ENTRIES, Partition, push, u16_at, u32_at, u64_at};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const SIGNATURE: &[u8] = b"EFI PART";
/// Bytes of a header that are checked at least.
const HEADER: usize = 92;
/// Bytes of an entry that mean something.
const ENTRY: usize = 128;

struct Header {
    first_usable: u64,
    last_usable: u64,
    entries_at: u64,
    entries: u32,
    entry_len: usize,
    entries_crc: u32,
}

impl Header {
    /// The header in block `lba`, if it is one.
    fn parse(block: &[u8], lba: u64, blocks: u64) -> Option<Header> {
        if block.get(..8)? != SIGNATURE {
            return None;
        }
        let len = u32_at(block, 12) as usize;
        let bytes = block.get(..len).filter(|_| len >= HEADER)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..16]);
        crc.update(&[0; 4]);
        crc.update(&bytes[20..]);
        if crc.finalize() != u32_at(block, 16) || u64_at(block, 24) != lba {
            return None;
        }
        let header = Header {
            first_usable: u64_at(block, 40),
            last_usable: u64_at(block, 48),
            entries_at: u64_at(block, 72),
            entries: u32_at(block, 80),
            entry_len: u32_at(block, 84) as usize,
            entries_crc: u32_at(block, 88),
        };
        let usable = header.first_usable <= header.last_usable && header.last_usable < blocks;
        let sane_entries = header.entries <= MAX_ENTRIES && header.entry_len == ENTRY;
        (usable && sane_entries).then_some(header)
    }
}

/// The partitions by the primary or else the backup table; `None` when neither is sound.
pub(crate) fn read(disk: &mut Disk) -> Result<Option<Vec<Partition>>, Error> {
    for lba in [1, disk.blocks - 1] {
        match read_at(disk, lba) {
            Ok(None) | Err(Error::Io) => {}
            other => return other,
        }
    }
    Ok(None)
}

fn read_at(disk: &mut Disk, lba: u64) -> Result<Option<Vec<Partition>>, Error> {
    let mut buffer = disk.buffer()?;
    disk.read(lba, &mut buffer)?;
    let Some(header) = Header::parse(&buffer, lba, disk.blocks) else { return Ok(None) };
    let mut crc = crc32fast::Hasher::new();
    let mut found = Vec::new();
    let mut left = header.entries as usize * header.entry_len;
    let mut number = 0;
    let mut at = header.entries_at;
    while left > 0 {
        if at >= disk.blocks {
            return Ok(None);
        }
        disk.read(at, &mut buffer)?;
        let bytes = &buffer[..left.min(disk.block)];
        crc.update(bytes);
        for entry in bytes.chunks_exact(ENTRY) {
            number += 1;
            push(&mut found, partition(disk, &header, number, entry))?;
        }
        left -= bytes.len();
        at += 1;
    }
    Ok((crc.finalize() == header.entries_crc).then_some(found))
}

fn partition(disk: &Disk, header: &Header, number: u32, entry: &[u8]) -> Option<Partition> {
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    let used = entry[..16].iter().any(|byte| *byte != 0);
    if !used || first < header.first_usable || last > header.last_usable || last < first {
        return None;
    }
    let label = Label { uuid: guid(&entry[16..32]), name: name(&entry[56..ENTRY]) };
    disk.partition(number, first, last - first + 1, label)
}

/// The mixed order in which a GUID is stored: three little-endian numbers, then bytes.
fn guid(bytes: &[u8]) -> String {
    let (a, b, c) = (u32_at(bytes, 0), u16_at(bytes, 4), u16_at(bytes, 6));
    let mut text = format!("{a:08x}-{b:04x}-{c:04x}-{:02x}{:02x}-", bytes[8], bytes[9]);
    bytes[10..16].iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text
}

/// UTF-16 up to a zero; what is no character is replaced.
fn name(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16_at(pair, 0)).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
