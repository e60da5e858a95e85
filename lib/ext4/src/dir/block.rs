//! One block of a directory: records one after the other, each long enough to reach the next.
//!
//! ```text
//! inode:4 record-length:2 name-length:1 type:1 name ... | next record ... | tail with the checksum:12
//! ```
//! A record with inode 0 is free room. The functions work on any bytes: what does not fit ends the walk.

use crate::crc::crc32c;
use crate::layout::{le16, le32, put16, put32};
use abi::stat::*;

/// A record without its name.
pub const HEADER: usize = 8;
/// The last record of a block with a checksum.
pub const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;
/// The longest name.
pub const NAME_MAX: usize = 255;

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where in the block the record is, and its length.
    pub at: usize,
    pub len: usize,
    pub ino: u32,
    pub kind: u8,
    pub name: &'a [u8],
}

/// The type byte of a mode, and back (only the type bits).
pub fn kind_of_mode(mode: u32) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFSOCK => 6,
        S_IFLNK => 7,
        _ => 0,
    }
}

pub fn mode_of_kind(kind: u8) -> u32 {
    [0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK]
        .get(usize::from(kind))
        .copied()
        .unwrap_or(0)
}

/// Room that a name takes.
#[inline]
pub fn needed(name_len: usize) -> usize {
    (HEADER + name_len).next_multiple_of(4)
}

/// A record's length; blocks of 64 KiB need a trick.
#[inline]
fn record_len(block: &[u8], at: usize) -> usize {
    let len = usize::from(le16(block, at + 4));
    match len {
        0 | 0xffff if block.len() == 1 << 16 => block.len(),
        len if block.len() == 1 << 16 => (len & 0xfffc) | (len & 3) << 16,
        len => len,
    }
}

fn put_record_len(block: &mut [u8], at: usize, len: usize) {
    let stored = if len == 1 << 16 { 0xffff } else { len as u16 };
    put16(block, at + 4, stored);
}

/// The record at a place, if it is one.
#[inline]
fn record(block: &[u8], at: usize) -> Option<Entry<'_>> {
    if at + HEADER > block.len() {
        return None;
    }
    let len = record_len(block, at);
    let name_len = usize::from(block[at + 6]);
    if len < HEADER || !len.is_multiple_of(4) || at + len > block.len() || len < needed(name_len) {
        return None;
    }
    let name = &block[at + HEADER..at + HEADER + name_len];
    Some(Entry { at, len, ino: le32(block, at), kind: block[at + 7], name })
}

/// All records, free ones and the tail too.
pub fn records(block: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let found = record(block, at)?;
        at += found.len;
        Some(found)
    })
}

/// The names.
pub fn entries(block: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    records(block).filter(|entry| entry.ino != 0)
}

/// Whether it is records from start to end, none with an inode above `inodes`.
pub fn is_good(block: &[u8], inodes: u32) -> bool {
    let mut end = 0;
    for entry in records(block) {
        let bad_name = entry.ino != 0
            && (entry.name.is_empty() || entry.name.contains(&b'/') || entry.name.contains(&0));
        if entry.ino > inodes || bad_name {
            return false;
        }
        end = entry.at + entry.len;
    }
    end == block.len()
}

/// Whether the first record fills the block and is free: a node of the index.
pub fn looks_like_index(block: &[u8]) -> bool {
    le32(block, 0) == 0 && record_len(block, 0) == block.len()
}

/// Bytes for records in a block.
pub fn usable(block_len: usize, has_csum: bool) -> usize {
    if has_csum { block_len - TAIL } else { block_len }
}

/// Makes an empty block.
pub fn init(block: &mut [u8], has_csum: bool) {
    block.fill(0);
    let end = usable(block.len(), has_csum);
    put_record_len(block, 0, end);
    if has_csum {
        put_record_len(block, end, TAIL);
        block[end + 7] = TAIL_TYPE;
    }
}

fn has_tail(block: &[u8]) -> bool {
    let at = block.len() - TAIL;
    le32(block, at) == 0
        && usize::from(le16(block, at + 4)) == TAIL
        && block[at + 6] == 0
        && block[at + 7] == TAIL_TYPE
}

/// Sets the checksum in the tail.
pub fn seal(seed: u32, block: &mut [u8]) {
    let at = block.len() - TAIL;
    if has_tail(block) {
        let crc = crc32c(seed, &block[..at]);
        put32(block, at + 8, crc);
    }
}

pub fn csum_good(seed: u32, block: &[u8]) -> bool {
    let at = block.len() - TAIL;
    has_tail(block) && crc32c(seed, &block[..at]) == le32(block, at + 8)
}

/// Finds a name. Most records are passed over for the length of their name alone.
pub fn find<'a>(block: &'a [u8], name: &[u8]) -> Option<Entry<'a>> {
    let mut at = 0;
    while let Some(header) = block.get(at..at + HEADER) {
        if usize::from(header[6]) == name.len()
            && block.get(at + HEADER..at + HEADER + name.len()) == Some(name)
            && le32(header, 0) != 0
        {
            return record(block, at);
        }
        let len = record_len(block, at);
        if len < HEADER {
            return None;
        }
        at += len;
    }
    None
}

fn write(block: &mut [u8], at: usize, len: usize, ino: u32, name: &[u8], kind: u8) {
    put32(block, at, ino);
    put_record_len(block, at, len);
    block[at + 6] = name.len() as u8;
    block[at + 7] = kind;
    block[at + HEADER..at + HEADER + name.len()].copy_from_slice(name);
}

/// The record with room for a name of `name_len` bytes behind its own. `usable`: see [`usable`].
pub fn room(block: &[u8], usable: usize, name_len: usize) -> Option<usize> {
    let need = needed(name_len);
    let fits = |entry: &Entry| entry.at < usable && entry.len >= used(entry) + need;
    records(block).find(fits).map(|entry| entry.at)
}

/// Bytes of a record that its own name takes.
#[inline]
fn used(entry: &Entry) -> usize {
    if entry.ino == 0 { 0 } else { needed(entry.name.len()) }
}

/// Puts a name behind the one of the record at `at`, where [`room`] found some; false when there is none.
pub fn insert_at(block: &mut [u8], at: usize, ino: u32, name: &[u8], kind: u8) -> bool {
    let Some((len, used)) = record(block, at).map(|entry| (entry.len, used(&entry))) else { return false };
    if len < used + needed(name.len()) {
        return false;
    }
    if used > 0 {
        put_record_len(block, at, used);
    }
    write(block, at + used, len - used, ino, name, kind);
    true
}

/// Puts a name into free room; false when there is none. `usable`: see [`usable`].
pub fn insert(block: &mut [u8], usable: usize, ino: u32, name: &[u8], kind: u8) -> bool {
    room(block, usable, name.len()).is_some_and(|at| insert_at(block, at, ino, name, kind))
}

/// The record before the one at a place: where it is, and its length.
fn before(block: &[u8], at: usize) -> Option<(usize, usize)> {
    let (mut start, mut found) = (0, None);
    while start < at {
        let len = record(block, start)?.len;
        found = Some((start, len));
        start += len;
    }
    found
}

/// Removes the name at a place: its room goes to the record before it, or becomes a free record.
pub fn remove(block: &mut [u8], at: usize) {
    let before = before(block, at);
    let Some(len) = record(block, at).map(|entry| entry.len) else { return };
    block[at + HEADER..at + len].fill(0);
    put32(block, at, 0);
    block[at + 6] = 0;
    block[at + 7] = 0;
    if let Some((start, before_len)) = before {
        put_record_len(block, start, before_len + len);
        block[at..at + HEADER].fill(0);
    }
}

/// Points the name at a place to another inode.
pub fn set_inode(block: &mut [u8], at: usize, ino: u32, kind: u8) {
    put32(block, at, ino);
    block[at + 7] = kind;
}

/// Fills a block with names only, as tightly as they go; the last record reaches the end. All fit.
pub fn fill<'a>(block: &mut [u8], has_csum: bool, names: impl Iterator<Item = (u32, &'a [u8], u8)>) {
    init(block, has_csum);
    let end = usable(block.len(), has_csum);
    let (mut at, mut last) = (0, None);
    for (ino, name, kind) in names {
        let len = needed(name.len());
        if at + len > end {
            break;
        }
        write(block, at, len, ino, name, kind);
        last = Some(at);
        at += len;
    }
    if let Some(last) = last {
        put_record_len(block, last, end - last);
    }
}

/// The first block of a new directory.
pub fn init_first(block: &mut [u8], has_csum: bool, own: u32, parent: u32, kind: u8) {
    init(block, has_csum);
    let end = usable(block.len(), has_csum);
    write(block, 0, 12, own, b".", kind);
    write(block, 12, end - 12, parent, b"..", kind);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn like_a_map(ops in prop::collection::vec((0u8..40, any::<bool>()), 1..200), csum: bool) {
            let mut block = vec![0; 1024];
            init(&mut block, csum);
            let mut map = BTreeMap::new();
            for (key, add) in ops {
                let name = vec![b'a' + key; 1 + usize::from(key) * 5];
                match find(&block, &name).map(|entry| entry.at) {
                    Some(at) if !add => {
                        remove(&mut block, at);
                        map.remove(&name);
                    }
                    None if add => {
                        if insert(&mut block, usable(1024, csum), u32::from(key) + 1, &name, 1) {
                            map.insert(name, u32::from(key) + 1);
                        }
                    }
                    _ => {}
                }
                prop_assert!(is_good(&block, 100));
                let found: BTreeMap<Vec<u8>, u32> = entries(&block).map(|e| (e.name.to_vec(), e.ino)).collect();
                prop_assert_eq!(&found, &map);
                if csum {
                    seal(5, &mut block);
                    prop_assert!(csum_good(5, &block));
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(mut block in prop::collection::vec(any::<u8>(), 1024), at in 0usize..1020) {
            let _ = is_good(&block, 9);
            let _ = find(&block, b"x");
            insert(&mut block, 1012, 1, b"name", 1);
            remove(&mut block, at);
        }
    }
}
