//! One node of a directory's index: sorted pairs of a hash and a block.
//!
//! The root is the directory's first block, behind "." and ".."; other nodes look like one free record, so that
//! who does not know the index reads them as empty.
//!
//! ```text
//! root: "." ".." | 0:4 version:1 8:1 levels:1 flags:1 | limit:2 count:2 block:4 | hash:4 block:4 | ... | tail:8
//! node: free record:8                                 | limit:2 count:2 block:4 | hash:4 block:4 | ... | tail:8
//! ```

use crate::crc::crc32c;
use crate::layout::{le16, le32, put16, put32};

const ROOT_INFO: usize = 24;
const ROOT_ENTRIES: usize = 32;
const NODE_ENTRIES: usize = 8;
const TAIL: usize = 8;

/// Whether a node is the root: its first record is ".".
fn is_root(node: &[u8]) -> bool {
    le16(node, 4) == 12 && node[6] == 1 && node[8] == b'.'
}

fn start(node: &[u8]) -> usize {
    if is_root(node) { ROOT_ENTRIES } else { NODE_ENTRIES }
}

/// What the root says: (hash version, levels of nodes below it).
pub fn root_info(node: &[u8]) -> Option<(u8, u8)> {
    let good = is_root(node)
        && le32(node, ROOT_INFO) == 0
        && node[ROOT_INFO + 5] == 8
        && node[ROOT_INFO + 7] & 1 == 0;
    good.then(|| (node[ROOT_INFO + 4], node[ROOT_INFO + 6]))
}

pub fn set_levels(node: &mut [u8], levels: u8) {
    node[ROOT_INFO + 6] = levels;
}

/// Room for entries in a node that begins at `from`.
fn capacity(len: usize, from: usize, has_csum: bool) -> usize {
    (len - from - if has_csum { TAIL } else { 0 }) / 8
}

pub fn count(node: &[u8]) -> usize {
    usize::from(le16(node, start(node) + 2))
}

pub fn limit(node: &[u8]) -> usize {
    usize::from(le16(node, start(node)))
}

fn set_count(node: &mut [u8], count: usize) {
    let at = start(node) + 2;
    put16(node, at, count as u16);
}

/// The hash from which on entry `index` holds; the first holds from 0 on. Its lowest bit says that names with the
/// same hash are in the block before, too.
pub fn hash(node: &[u8], index: usize) -> u32 {
    if index == 0 { 0 } else { le32(node, start(node) + index * 8) }
}

/// The directory's block that entry `index` leads to.
pub fn block(node: &[u8], index: usize) -> u32 {
    le32(node, start(node) + index * 8 + 4) & 0x0fff_ffff
}

/// The last entry whose hash is at most `wanted`.
pub fn search(node: &[u8], wanted: u32) -> usize {
    let (mut low, mut high) = (1, count(node));
    while low < high {
        let middle = (low + high) / 2;
        if hash(node, middle) <= wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - 1
}

/// Inserts an entry before `index`, which is not 0; there is room.
pub fn insert(node: &mut [u8], index: usize, hash: u32, block: u32) {
    let (from, count) = (start(node) + index * 8, count(node));
    let end = start(node) + count * 8;
    node.copy_within(from..end, from + 8);
    put32(node, from, hash);
    put32(node, from + 4, block);
    set_count(node, count + 1);
}

/// Makes the first block of a directory the root: "." and ".." stay, and one entry leads to `block`.
pub fn init_root(node: &mut [u8], has_csum: bool, version: u8, block: u32) {
    let len = node.len();
    node[ROOT_INFO..].fill(0);
    put16(node, 12 + 4, if len == 1 << 16 { 0xfff4 } else { (len - 12) as u16 });
    node[ROOT_INFO + 4] = version;
    node[ROOT_INFO + 5] = 8;
    put16(node, ROOT_ENTRIES, capacity(len, ROOT_ENTRIES, has_csum) as u16);
    put16(node, ROOT_ENTRIES + 2, 1);
    put32(node, ROOT_ENTRIES + 4, block);
}

/// Makes an inner node of whole entries (the first one's hash does not count).
pub fn init_node(node: &mut [u8], has_csum: bool, entries: &[u8]) {
    let len = node.len();
    node.fill(0);
    put16(node, 4, if len == 1 << 16 { 0xffff } else { len as u16 });
    node[NODE_ENTRIES..NODE_ENTRIES + entries.len()].copy_from_slice(entries);
    put16(node, NODE_ENTRIES, capacity(len, NODE_ENTRIES, has_csum) as u16);
    put16(node, NODE_ENTRIES + 2, (entries.len() / 8) as u16);
}

/// The entries from `cut` on, which leave the node.
pub fn take_tail(node: &mut [u8], cut: usize) -> alloc::vec::Vec<u8> {
    let (from, to) = (start(node) + cut * 8, start(node) + count(node) * 8);
    let tail = node[from..to].to_vec();
    node[from..to].fill(0);
    set_count(node, cut);
    tail
}

/// The root hands all its entries down and leads to `block` alone.
pub fn take_all(node: &mut [u8], block: u32) -> alloc::vec::Vec<u8> {
    // Limit and count share the first entry with its block.
    let limit = limit(node) as u16;
    let all = take_tail(node, 0);
    put16(node, ROOT_ENTRIES, limit);
    put16(node, ROOT_ENTRIES + 2, 1);
    put32(node, ROOT_ENTRIES + 4, block);
    all
}

/// Whether counts and order fit the block.
pub fn is_good(node: &[u8], root: bool, has_csum: bool) -> bool {
    if root != is_root(node) || (root && root_info(node).is_none()) {
        return false;
    }
    let (count, limit) = (count(node), limit(node));
    count >= 1
        && count <= limit
        && limit == capacity(node.len(), start(node), has_csum)
        && (2..count).all(|index| hash(node, index - 1) <= hash(node, index))
}

fn checksum(seed: u32, node: &[u8]) -> Option<(usize, u32)> {
    let at = start(node) + limit(node) * 8;
    let used = start(node) + count(node) * 8;
    if at + TAIL > node.len() || used > at {
        return None;
    }
    let crc = crc32c(crc32c(seed, &node[..used]), &node[at..at + 4]);
    Some((at + 4, crc32c(crc, &[0; 4])))
}

/// Sets the checksum behind the entries.
pub fn seal(seed: u32, node: &mut [u8]) {
    if let Some((at, crc)) = checksum(seed, node) {
        put32(node, at, crc);
    }
}

pub fn csum_good(seed: u32, node: &[u8]) -> bool {
    checksum(seed, node).is_some_and(|(at, crc)| le32(node, at) == crc)
}
