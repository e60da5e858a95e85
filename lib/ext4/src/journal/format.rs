//! The log on the medium: jbd2's records, big-endian.
//!
//! ```text
//! superblock | descriptor: tags | block | block ... | revoke | commit | descriptor ...
//! ```

use crate::crc::crc32c;
use abi::Errno;
use abi::errno::Result;
use bitflags::bitflags;
use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const MAGIC: u32 = 0xc03b_3998;
pub const DESCRIPTOR: u32 = 1;
pub const COMMIT: u32 = 2;
pub const SUPER_V1: u32 = 3;
pub const SUPER_V2: u32 = 4;
pub const REVOKE: u32 = 5;

/// Flags of a tag.
pub const TAG_ESCAPE: u32 = 1;
pub const TAG_SAME_UUID: u32 = 2;
pub const TAG_LAST: u32 = 8;

/// Length of a record's header, and of a revoke record's with its count.
pub const HEADER_LEN: usize = 12;
pub const REVOKE_HEADER_LEN: usize = 16;
/// Checksum at the end of descriptor and revoke records.
pub const TAIL_LEN: usize = 4;
/// Where a commit record has its checksum and its time.
pub const COMMIT_CSUM: usize = 16;
pub const COMMIT_TIME: usize = 48;

bitflags! {
    /// `JournalSuper::feature_incompat`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Features: u32 {
        const REVOKE = 1;
        const BIT64 = 2;
        const ASYNC_COMMIT = 4;
        const CSUM_V2 = 8;
        const CSUM_V3 = 16;
        const FAST_COMMIT = 32;
        const _ = !0;
    }
}

/// All that replay understands (fast commits only when there are none, see [`super::replay`]).
pub const KNOWN: Features = Features::REVOKE
    .union(Features::BIT64)
    .union(Features::ASYNC_COMMIT)
    .union(Features::CSUM_V2)
    .union(Features::CSUM_V3)
    .union(Features::FAST_COMMIT);

/// `JournalSuper::feature_compat`: the first kind of checksums, over whole transactions.
pub const COMPAT_CHECKSUM: u32 = 1;

/// The first block of the log.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone)]
#[repr(C)]
pub struct JournalSuper {
    pub magic: U32,
    pub blocktype: U32,
    pub unused_sequence: U32,
    pub blocksize: U32,
    pub maxlen: U32,
    pub first: U32,
    pub sequence: U32,
    /// Where the oldest transaction begins; 0: the log is empty.
    pub start: U32,
    pub errno: U32,
    pub feature_compat: U32,
    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    pub nr_users: U32,
    pub dynsuper: U32,
    pub max_transaction: U32,
    pub max_trans_data: U32,
    pub checksum_type: u8,
    pub padding2: [u8; 3],
    pub num_fc_blocks: U32,
    pub head: U32,
    pub padding: [U32; 40],
    pub checksum: U32,
    pub users: [u8; 768],
}

const _: () = assert!(size_of::<JournalSuper>() == 1024);
const _: () = assert!(core::mem::offset_of!(JournalSuper, checksum) == 0xfc);

impl JournalSuper {
    /// The checksum that it should have.
    pub fn checksum(&self) -> u32 {
        let mut copy = self.clone();
        copy.checksum = U32::new(0);
        crc32c(!0, copy.as_bytes())
    }

    pub fn features(&self) -> Features {
        Features::from_bits_retain(self.feature_incompat.get())
    }
}

/// A record's header: type and sequence, when the block begins with one.
pub fn header(block: &[u8]) -> Option<(u32, u32)> {
    (be32(block, 0) == MAGIC).then(|| (be32(block, 4), be32(block, 8)))
}

pub fn put_header(block: &mut [u8], kind: u32, sequence: u32) {
    put_be32(block, 0, MAGIC);
    put_be32(block, 4, kind);
    put_be32(block, 8, sequence);
}

pub fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

pub fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// How this log writes its records.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub features: Features,
    /// Seed of all checksums.
    pub seed: u32,
    pub block_size: usize,
}

/// One tag: where the block that follows belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub block: u64,
    pub flags: u32,
    pub checksum: u32,
}

impl Format {
    pub fn has_csum(&self) -> bool {
        self.features.intersects(Features::CSUM_V2 | Features::CSUM_V3)
    }

    /// Bytes of a tag without the UUID behind the first.
    pub fn tag_len(&self) -> usize {
        if self.features.contains(Features::CSUM_V3) {
            return 16;
        }
        let base = if self.features.contains(Features::BIT64) { 12 } else { 8 };
        base + if self.features.contains(Features::CSUM_V2) { 2 } else { 0 }
    }

    /// Bytes of an entry of a revoke record.
    pub fn revoke_len(&self) -> usize {
        if self.features.contains(Features::BIT64) { 8 } else { 4 }
    }

    /// Where the entries of a descriptor or revoke record end.
    pub fn entries_end(&self) -> usize {
        self.block_size - if self.has_csum() { TAIL_LEN } else { 0 }
    }

    /// How many blocks a descriptor describes.
    pub fn tags_per_block(&self) -> usize {
        (self.entries_end() - HEADER_LEN - 16) / self.tag_len()
    }

    pub fn revokes_per_block(&self) -> usize {
        (self.entries_end() - REVOKE_HEADER_LEN) / self.revoke_len()
    }

    pub fn put_tag(&self, block: &mut [u8], at: usize, tag: Tag) {
        put_be32(block, at, tag.block as u32);
        if self.features.contains(Features::CSUM_V3) {
            put_be32(block, at + 4, tag.flags);
            put_be32(block, at + 8, (tag.block >> 32) as u32);
            put_be32(block, at + 12, tag.checksum);
            return;
        }
        let half = |value: u32| (value as u16).to_be_bytes();
        block[at + 4..at + 6].copy_from_slice(&half(tag.checksum));
        block[at + 6..at + 8].copy_from_slice(&half(tag.flags));
        if self.features.contains(Features::BIT64) {
            put_be32(block, at + 8, (tag.block >> 32) as u32);
        }
    }

    pub fn get_tag(&self, block: &[u8], at: usize) -> Result<Tag> {
        let bytes = block.get(at..at + self.tag_len()).ok_or(Errno::EUCLEAN)?;
        let low = u64::from(be32(bytes, 0));
        if self.features.contains(Features::CSUM_V3) {
            let block = low | u64::from(be32(bytes, 8)) << 32;
            return Ok(Tag { block, flags: be32(bytes, 4), checksum: be32(bytes, 12) });
        }
        let half = |at: usize| u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let high = if self.features.contains(Features::BIT64) { u64::from(be32(bytes, 8)) } else { 0 };
        Ok(Tag { block: low | high << 32, flags: half(6), checksum: half(4) })
    }

    /// The checksum of a logged block, as its tag has it.
    pub fn data_csum(&self, sequence: u32, data: &[u8]) -> u32 {
        if !self.has_csum() {
            return 0;
        }
        let crc = crc32c(crc32c(self.seed, &sequence.to_be_bytes()), data);
        if self.features.contains(Features::CSUM_V3) { crc } else { crc & 0xffff }
    }

    /// Sets the checksum at the end of a descriptor or revoke record.
    pub fn seal_tail(&self, block: &mut [u8]) {
        if self.has_csum() {
            let at = self.block_size - TAIL_LEN;
            put_be32(block, at, 0);
            let crc = crc32c(self.seed, block);
            put_be32(block, at, crc);
        }
    }

    pub fn tail_good(&self, block: &[u8]) -> bool {
        let at = self.block_size - TAIL_LEN;
        !self.has_csum() || crc32c(crc32c(self.seed, &block[..at]), &[0; 4]) == be32(block, at)
    }

    pub fn seal_commit(&self, block: &mut [u8]) {
        if self.has_csum() {
            let crc = crc32c(self.seed, block);
            put_be32(block, COMMIT_CSUM, crc);
        }
    }

    pub fn commit_good(&self, block: &[u8]) -> bool {
        if !self.has_csum() {
            return true;
        }
        let crc = crc32c(crc32c(self.seed, &block[..COMMIT_CSUM]), &[0; 4]);
        crc32c(crc, &block[COMMIT_CSUM + 4..]) == be32(block, COMMIT_CSUM)
    }
}
