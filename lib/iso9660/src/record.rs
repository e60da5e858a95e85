//! Directory records: 33 bytes, a name, and what extensions add. None crosses a block.

use crate::date::{self, TimeNs};
use crate::rock::{Fields, Posix};
use crate::volume::{Names, Volume};
use crate::{Disk, SECTOR, u32_le};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::vec::Vec;

const HEAD: usize = 33;

/// Flags of a record.
const HIDDEN: u8 = 1;
const DIRECTORY: u8 = 2;
const ASSOCIATED: u8 = 4;
const MORE: u8 = 0x80;

/// Sections of a file, at most (as Linux): what a directory may make its reader keep.
const MAX_SECTIONS: usize = 100;

/// Nanoseconds since the Epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    pub made: TimeNs,
    pub written: TimeNs,
    pub read: TimeNs,
    pub changed: TimeNs,
}

/// Consecutive bytes of a file on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    pub at: u64,
    pub len: u32,
}

/// A file.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Vec<u8>,
    /// The same for all records of a file: half a record's length is the unit.
    pub ino: u64,
    pub is_dir: bool,
    /// Where its bytes are. All sections but the last are whole blocks.
    pub sections: Vec<Section>,
    /// Its parts are spread in a way that is not supported.
    pub interleaved: bool,
    pub times: Times,
    /// With Rock Ridge.
    pub posix: Option<Posix>,
    /// The text of a symbolic link.
    pub link: Option<Vec<u8>>,
}

impl Entry {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.sections.iter().map(|section| u64::from(section.len)).sum()
    }

    /// Where byte `at` is on the disk, and how many from it on are consecutive; `None` behind the end.
    pub fn place(&self, mut at: u64) -> Option<(u64, u64)> {
        for section in &self.sections {
            let len = u64::from(section.len);
            if at < len {
                return Some((section.at + at, len - at));
            }
            at -= len;
        }
        None
    }
}

/// What a record says by itself.
struct Head<'a> {
    flags: u8,
    section: Section,
    interleaved: bool,
    written: TimeNs,
    name: &'a [u8],
    system_use: &'a [u8],
}

fn parse(record: &[u8], block_bits: u32) -> Result<Head<'_>> {
    let name_len = usize::from(*record.get(32).ok_or(Errno::EIO)?);
    let name = record.get(HEAD..HEAD + name_len).ok_or(Errno::EIO)?;
    // The name takes an even number of bytes with the one before it.
    let rest = HEAD + name_len + (name_len + 1) % 2;
    let block = u64::from(u32_le(record, 2)) + u64::from(record[1]);
    Ok(Head {
        flags: record[25],
        section: Section { at: block << block_bits, len: u32_le(record, 10) },
        interleaved: record[26] != 0 || record[27] != 0,
        written: date::short(&record[18..25]),
        name,
        system_use: record.get(rest..).unwrap_or(&[]),
    })
}

fn all_times(written: TimeNs) -> Times {
    Times { made: written, written, read: written, changed: written }
}

/// A directory's number: where its contents are.
fn dir_ino(section: &Section) -> u64 {
    section.at >> 5
}

/// The record of the root in a volume descriptor. EINVAL when it is none.
pub(crate) fn parse_root(record: &[u8], block_bits: u32) -> Result<Entry> {
    let head = parse(record, block_bits).map_err(|_| Errno::EINVAL)?;
    if head.flags & DIRECTORY == 0 || head.section.len == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Entry {
        name: Vec::new(),
        ino: dir_ino(&head.section),
        is_dir: true,
        sections: Vec::from([head.section]),
        interleaved: false,
        times: all_times(head.written),
        posix: None,
        link: None,
    })
}

/// A walk over the records of a directory.
pub struct Reader {
    section: Section,
    /// Where in the directory the next record is, in bytes.
    pub offset: u64,
    block: Box<[u8; SECTOR]>,
    loaded: Option<u64>,
    dots: bool,
}

/// A record in the reader's block.
struct Found {
    start: usize,
    len: usize,
    /// Its place on the disk.
    at: u64,
}

impl Reader {
    /// The entries of a directory, from byte `offset` on (where a reader was before, or 0).
    pub fn new(dir: &Entry, offset: u64) -> Reader {
        let section = dir.sections.first().copied().unwrap_or(Section { at: 0, len: 0 });
        Reader { section, offset, block: Box::new([0; SECTOR]), loaded: None, dots: false }
    }

    /// From the record of the directory itself on.
    pub(crate) fn with_dots(dir: &Entry) -> Reader {
        Reader { dots: true, ..Reader::new(dir, 0) }
    }

    /// The next record, whatever it is.
    fn record<D: Disk>(&mut self, volume: &Volume, disk: &mut D) -> Result<Option<Found>> {
        let size = 1 << volume.block_bits;
        loop {
            if self.offset >= u64::from(self.section.len) {
                return Ok(None);
            }
            let (number, start) = (self.offset / size, (self.offset % size) as usize);
            if self.loaded != Some(number) {
                self.loaded = None;
                disk.read(self.section.at + number * size, &mut self.block[..size as usize])?;
                self.loaded = Some(number);
            }
            let len = usize::from(self.block[start]);
            if len == 0 {
                // The rest of the block is empty.
                self.offset = (number + 1) * size;
                continue;
            }
            if len <= HEAD || start + len > size as usize {
                return Err(Errno::EIO);
            }
            let at = self.section.at + self.offset;
            self.offset += len as u64;
            return Ok(Some(Found { start, len, at }));
        }
    }

    /// The system use area of the next record, and its place.
    pub(crate) fn raw_use<D: Disk>(&mut self, volume: &Volume, disk: &mut D) -> Result<Option<(&[u8], u64)>> {
        let Some(found) = self.record(volume, disk)? else { return Ok(None) };
        let record = &self.block[found.start..found.start + found.len];
        Ok(Some((parse(record, volume.block_bits)?.system_use, found.at)))
    }

    /// The next file. EIO for records that make no sense.
    pub fn next<D: Disk>(&mut self, volume: &Volume, disk: &mut D) -> Result<Option<Entry>> {
        let mut sections = Vec::new();
        while let Some(found) = self.record(volume, disk)? {
            let record = &self.block[found.start..found.start + found.len];
            let head = parse(record, volume.block_bits)?;
            let is_dot = matches!(head.name, [0] | [1]);
            if (is_dot && !self.dots) || head.flags & ASSOCIATED != 0 {
                continue;
            }
            if sections.len() == MAX_SECTIONS {
                return Err(Errno::EIO);
            }
            sections.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            sections.push(head.section);
            if head.flags & MORE != 0 {
                // A file of more than 4 GiB: the next record goes on.
                if !head.section.len.is_multiple_of(1 << volume.block_bits) {
                    return Err(Errno::EIO);
                }
                continue;
            }
            let all = core::mem::take(&mut sections);
            if let Some(entry) = entry(volume, disk, &head, all, found.at)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

/// The file of a record; `None`: it is not shown.
fn entry<D: Disk>(
    volume: &Volume,
    disk: &mut D,
    head: &Head,
    mut sections: Vec<Section>,
    at: u64,
) -> Result<Option<Entry>> {
    let mut is_dir = head.flags & DIRECTORY != 0;
    let mut fields = Fields { times: all_times(head.written), ..Fields::default() };
    if let Names::RockRidge { skip } = volume.names {
        let area = head.system_use.get(usize::from(skip)..).unwrap_or(&[]);
        fields = Fields::read(disk, area, volume.block_bits, fields.times)?;
    }
    if fields.relocated || (head.flags & HIDDEN != 0 && fields.posix.is_none()) {
        return Ok(None);
    }
    if let Some(block) = fields.child {
        is_dir = true;
        sections.clear();
        sections.push(child_section(volume, disk, block)?);
    }
    let name = match volume.names {
        Names::Joliet => joliet_name(head.name)?,
        _ if !fields.name.is_empty() => core::mem::take(&mut fields.name),
        _ => plain_name(head.name)?,
    };
    // Names that would be something else to a path walk.
    let usable =
        !name.is_empty() && !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b"..";
    let dots = matches!(head.name, [0] | [1]);
    if !usable && !dots {
        return Ok(None);
    }
    let ino = match (is_dir, sections.first()) {
        (true, Some(section)) => dir_ino(section),
        _ => at >> 5,
    };
    let (times, posix, link) = (fields.times, fields.posix, fields.link);
    Ok(Some(Entry { name, ino, is_dir, sections, interleaved: head.interleaved, times, posix, link }))
}

/// Where a directory is that was moved: its own record says how long it is.
fn child_section<D: Disk>(volume: &Volume, disk: &mut D, block: u32) -> Result<Section> {
    let at = u64::from(block) << volume.block_bits;
    let mut record = [0; HEAD + 1];
    disk.read(at, &mut record)?;
    let head = parse(&record, volume.block_bits)?;
    if head.flags & DIRECTORY == 0 || head.section.at != at {
        return Err(Errno::EIO);
    }
    Ok(head.section)
}

/// `NAME.EXT;1` as `name.ext`.
fn plain_name(raw: &[u8]) -> Result<Vec<u8>> {
    let name = raw.split(|byte| *byte == b';').next().unwrap_or(raw);
    let name = name.strip_suffix(b".").unwrap_or(name);
    let mut shown = Vec::new();
    shown.try_reserve_exact(name.len()).map_err(|_| Errno::ENOMEM)?;
    shown.extend(name.iter().map(u8::to_ascii_lowercase));
    Ok(shown)
}

fn joliet_name(raw: &[u8]) -> Result<Vec<u8>> {
    let units = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut shown = Vec::new();
    shown.try_reserve(raw.len() / 2 * 3).map_err(|_| Errno::ENOMEM)?;
    for decoded in char::decode_utf16(units) {
        let mut buffer = [0; 4];
        let character = decoded.unwrap_or(char::REPLACEMENT_CHARACTER);
        shown.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }
    for end in [&b";1"[..], b"."] {
        if shown.ends_with(end) {
            shown.truncate(shown.len() - end.len());
        }
    }
    Ok(shown)
}
