//! One node of an extent tree: a header and sorted entries of twelve bytes, in an inode or in a block.

use crate::layout::{le16, le32, put16, put32};

pub const HEADER: usize = 12;
pub const ENTRY: usize = 12;
pub const MAGIC: u16 = 0xf30a;
/// Entries of the root, which is in the inode.
pub const ROOT_MAX: u16 = 4;
/// The longest run; of blocks that count as zeroes, one less.
pub const MAX_LEN: u32 = 1 << 15;

/// A run of a file's blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub lblk: u32,
    pub len: u32,
    pub pblk: u64,
    /// Allocated, but reads as zeroes.
    pub unwritten: bool,
}

impl Extent {
    /// One behind the last block.
    pub fn end(&self) -> u32 {
        self.lblk.saturating_add(self.len)
    }

    /// Both as one, when `next` goes on where this ends.
    pub fn joined(&self, next: &Extent) -> Option<Extent> {
        let limit = if self.unwritten { MAX_LEN - 1 } else { MAX_LEN };
        let follows = self.end() == next.lblk
            && self.pblk + u64::from(self.len) == next.pblk
            && self.unwritten == next.unwritten
            && self.len + next.len <= limit;
        follows.then(|| Extent { len: self.len + next.len, ..*self })
    }

    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        put32(&mut bytes, 0, self.lblk);
        let len = if self.unwritten { self.len + MAX_LEN } else { self.len };
        put16(&mut bytes, 4, len as u16);
        put16(&mut bytes, 6, (self.pblk >> 32) as u16);
        put32(&mut bytes, 8, self.pblk as u32);
        bytes
    }
}

/// An entry of an inner node: the subtree of the blocks from `lblk` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index {
    pub lblk: u32,
    pub child: u64,
}

impl Index {
    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        put32(&mut bytes, 0, self.lblk);
        put32(&mut bytes, 4, self.child as u32);
        put16(&mut bytes, 8, (self.child >> 32) as u16);
        bytes
    }
}

pub fn magic(node: &[u8]) -> u16 {
    le16(node, 0)
}

pub fn entries(node: &[u8]) -> usize {
    usize::from(le16(node, 2))
}

pub fn max(node: &[u8]) -> usize {
    usize::from(le16(node, 4))
}

pub fn depth(node: &[u8]) -> u16 {
    le16(node, 6)
}

/// Makes an empty node.
pub fn init(node: &mut [u8], max: u16, depth: u16) {
    node[..HEADER].fill(0);
    put16(node, 0, MAGIC);
    put16(node, 4, max);
    put16(node, 6, depth);
}

pub fn set_depth(node: &mut [u8], depth: u16) {
    put16(node, 6, depth);
}

fn at(index: usize) -> usize {
    HEADER + index * ENTRY
}

/// The first block that an entry of either kind is about.
pub fn key(node: &[u8], index: usize) -> u32 {
    le32(node, at(index))
}

pub fn set_key(node: &mut [u8], index: usize, lblk: u32) {
    put32(node, at(index), lblk);
}

pub fn extent(node: &[u8], index: usize) -> Extent {
    let place = at(index);
    let len = u32::from(le16(node, place + 4));
    let unwritten = len > MAX_LEN;
    Extent {
        lblk: le32(node, place),
        len: if unwritten { len - MAX_LEN } else { len },
        pblk: u64::from(le32(node, place + 8)) | u64::from(le16(node, place + 6)) << 32,
        unwritten,
    }
}

pub fn child(node: &[u8], index: usize) -> u64 {
    let place = at(index);
    u64::from(le32(node, place + 4)) | u64::from(le16(node, place + 8)) << 32
}

pub fn set_extent(node: &mut [u8], index: usize, extent: Extent) {
    node[at(index)..at(index + 1)].copy_from_slice(&extent.to_bytes());
}

fn insert(node: &mut [u8], index: usize, bytes: [u8; ENTRY]) {
    let count = entries(node);
    node.copy_within(at(index)..at(count), at(index + 1));
    node[at(index)..at(index + 1)].copy_from_slice(&bytes);
    put16(node, 2, count as u16 + 1);
}

/// Inserts before entry `index`; the node has room.
pub fn insert_extent(node: &mut [u8], index: usize, extent: Extent) {
    insert(node, index, extent.to_bytes());
}

pub fn insert_index(node: &mut [u8], index: usize, entry: Index) {
    insert(node, index, entry.to_bytes());
}

pub fn remove(node: &mut [u8], index: usize) {
    let count = entries(node);
    node.copy_within(at(index + 1)..at(count), at(index));
    node[at(count - 1)..at(count)].fill(0);
    put16(node, 2, count as u16 - 1);
}

/// The entries from `cut` on, which leave the node.
pub fn take_tail(node: &mut [u8], cut: usize) -> alloc::vec::Vec<u8> {
    let count = entries(node);
    let tail = node[at(cut)..at(count)].to_vec();
    node[at(cut)..at(count)].fill(0);
    put16(node, 2, cut as u16);
    tail
}

/// Puts whole entries into an empty node.
pub fn put_all(node: &mut [u8], bytes: &[u8]) {
    node[HEADER..HEADER + bytes.len()].copy_from_slice(bytes);
    put16(node, 2, (bytes.len() / ENTRY) as u16);
}

/// All entries.
pub fn all(node: &[u8]) -> &[u8] {
    &node[HEADER..at(entries(node))]
}

/// The last entry whose key is at most `lblk`.
pub fn search(node: &[u8], lblk: u32) -> Option<usize> {
    let (mut low, mut high) = (0, entries(node));
    while low < high {
        let middle = (low + high) / 2;
        if key(node, middle) <= lblk {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low.checked_sub(1)
}

/// Whether a node is what the tree needs at this depth: bounds, order, no overlap; `valid` judges blocks.
pub fn is_good(node: &[u8], expected: u16, valid: impl Fn(u64, u64) -> bool) -> bool {
    let room = (node.len() - HEADER) / ENTRY;
    let count = entries(node);
    if magic(node) != MAGIC
        || depth(node) != expected
        || max(node) > room
        || max(node) == 0
        || count > max(node)
    {
        return false;
    }
    let mut from = 0u64;
    for index in 0..count {
        let lblk = u64::from(key(node, index));
        if lblk < from {
            return false;
        }
        if expected > 0 {
            if !valid(child(node, index), 1) {
                return false;
            }
            from = lblk + 1;
        } else {
            let extent = extent(node, index);
            let end = lblk + u64::from(extent.len);
            if extent.len == 0 || end > 1 << 32 || !valid(extent.pblk, u64::from(extent.len)) {
                return false;
            }
            from = end;
        }
    }
    expected == 0 || count > 0
}
