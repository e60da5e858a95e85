//! The structures on the medium, byte for byte, and the feature flags.
//!
//! Source: the kernel's documentation of ext4's layout (Documentation/filesystems/ext4) and what e2fsprogs
//! writes. All numbers are little-endian; the journal's (in [`crate::journal`]) are big-endian.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the superblock is, in bytes.
pub const SUPER_OFFSET: usize = 1024;
pub const SUPER_LEN: usize = 1024;
pub const MAGIC: u16 = 0xef53;
pub const ROOT_INO: u32 = 2;

/// Bits of `SuperBlock::state`.
pub const STATE_CLEAN: u16 = 1;
pub const STATE_ERRORS: u16 = 2;

/// Bits of `SuperBlock::flags`: whether names are hashed as signed or unsigned bytes.
pub const FLAG_SIGNED_HASH: u32 = 1;
pub const FLAG_UNSIGNED_HASH: u32 = 2;

bitflags! {
    /// Features that a mount may ignore.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Compat: u32 {
        const HAS_JOURNAL = 0x4;
        const EXT_ATTR = 0x8;
        const RESIZE_INODE = 0x10;
        const DIR_INDEX = 0x20;
        const SPARSE_SUPER2 = 0x200;
        const FAST_COMMIT = 0x400;
        const ORPHAN_FILE = 0x1000;
        const _ = !0;
    }

    /// Features that a mount must know.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Incompat: u32 {
        const FILETYPE = 0x2;
        const RECOVER = 0x4;
        const JOURNAL_DEV = 0x8;
        const META_BG = 0x10;
        const EXTENTS = 0x40;
        const BIT64 = 0x80;
        const MMP = 0x100;
        const FLEX_BG = 0x200;
        const CSUM_SEED = 0x2000;
        const LARGEDIR = 0x4000;
        const _ = !0;
    }

    /// Features that a mount for writing must know.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RoCompat: u32 {
        const SPARSE_SUPER = 0x1;
        const LARGE_FILE = 0x2;
        const BTREE_DIR = 0x4;
        const HUGE_FILE = 0x8;
        const GDT_CSUM = 0x10;
        const DIR_NLINK = 0x20;
        const EXTRA_ISIZE = 0x40;
        const BIGALLOC = 0x200;
        const METADATA_CSUM = 0x400;
        const ORPHAN_PRESENT = 0x10000;
        const _ = !0;
    }

    /// `InodeRaw::flags`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct InodeFlags: u32 {
        const SYNC = 0x8;
        const IMMUTABLE = 0x10;
        const APPEND = 0x20;
        const NODUMP = 0x40;
        const NOATIME = 0x80;
        const INDEX = 0x1000;
        const DIRSYNC = 0x10000;
        const TOPDIR = 0x20000;
        const HUGE_FILE = 0x40000;
        const EXTENTS = 0x80000;
        const EA_INODE = 0x20_0000;
        const INLINE_DATA = 0x1000_0000;
        const _ = !0;
    }
}

/// What this code can read.
pub const KNOWN_INCOMPAT: Incompat = Incompat::FILETYPE
    .union(Incompat::RECOVER)
    .union(Incompat::META_BG)
    .union(Incompat::EXTENTS)
    .union(Incompat::BIT64)
    .union(Incompat::FLEX_BG)
    .union(Incompat::CSUM_SEED)
    .union(Incompat::LARGEDIR);

/// What this code can write.
pub const KNOWN_RO_COMPAT: RoCompat = RoCompat::SPARSE_SUPER
    .union(RoCompat::LARGE_FILE)
    .union(RoCompat::BTREE_DIR)
    .union(RoCompat::HUGE_FILE)
    .union(RoCompat::GDT_CSUM)
    .union(RoCompat::DIR_NLINK)
    .union(RoCompat::EXTRA_ISIZE)
    .union(RoCompat::METADATA_CSUM)
    .union(RoCompat::ORPHAN_PRESENT);

/// The superblock.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone)]
#[repr(C)]
pub struct SuperRaw {
    pub inodes_count: U32,
    pub blocks_count_lo: U32,
    pub r_blocks_count_lo: U32,
    pub free_blocks_lo: U32,
    pub free_inodes: U32,
    pub first_data_block: U32,
    pub log_block_size: U32,
    pub log_cluster_size: U32,
    pub blocks_per_group: U32,
    pub clusters_per_group: U32,
    pub inodes_per_group: U32,
    pub mtime: U32,
    pub wtime: U32,
    pub mnt_count: U16,
    pub max_mnt_count: U16,
    pub magic: U16,
    pub state: U16,
    pub errors: U16,
    pub minor_rev_level: U16,
    pub lastcheck: U32,
    pub checkinterval: U32,
    pub creator_os: U32,
    pub rev_level: U32,
    pub def_resuid: U16,
    pub def_resgid: U16,
    pub first_ino: U32,
    pub inode_size: U16,
    pub block_group_nr: U16,
    pub feature_compat: U32,
    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub last_mounted: [u8; 64],
    pub algorithm_usage_bitmap: U32,
    pub prealloc_blocks: u8,
    pub prealloc_dir_blocks: u8,
    pub reserved_gdt_blocks: U16,
    pub journal_uuid: [u8; 16],
    pub journal_inum: U32,
    pub journal_dev: U32,
    pub last_orphan: U32,
    pub hash_seed: [U32; 4],
    pub def_hash_version: u8,
    pub jnl_backup_type: u8,
    pub desc_size: U16,
    pub default_mount_opts: U32,
    pub first_meta_bg: U32,
    pub mkfs_time: U32,
    pub jnl_blocks: [U32; 17],
    pub blocks_count_hi: U32,
    pub r_blocks_count_hi: U32,
    pub free_blocks_hi: U32,
    pub min_extra_isize: U16,
    pub want_extra_isize: U16,
    pub flags: U32,
    pub raid_stride: U16,
    pub mmp_interval: U16,
    pub mmp_block: U64,
    pub raid_stripe_width: U32,
    pub log_groups_per_flex: u8,
    pub checksum_type: u8,
    pub encryption_level: u8,
    pub reserved_pad: u8,
    pub kbytes_written: U64,
    pub snapshot: [u8; 20],
    pub error_count: U32,
    pub first_error_time: U32,
    pub first_error_ino: U32,
    pub first_error_block: U64,
    pub first_error_func: [u8; 32],
    pub first_error_line: U32,
    pub last_error_time: U32,
    pub last_error_ino: U32,
    pub last_error_line: U32,
    pub last_error_block: U64,
    pub last_error_func: [u8; 32],
    pub mount_opts: [u8; 64],
    pub usr_quota_inum: U32,
    pub grp_quota_inum: U32,
    pub overhead_blocks: U32,
    pub backup_bgs: [U32; 2],
    pub encrypt_algos: [u8; 4],
    pub encrypt_pw_salt: [u8; 16],
    pub lpf_ino: U32,
    pub prj_quota_inum: U32,
    pub checksum_seed: U32,
    pub time_hi: [u8; 6],
    pub errcodes: [u8; 2],
    pub encoding: [u8; 4],
    pub orphan_file_inum: U32,
    pub reserved: [U32; 94],
    pub checksum: U32,
}

/// A block group's descriptor; the upper half exists when descriptors are 64 bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct GroupRaw {
    pub block_bitmap_lo: U32,
    pub inode_bitmap_lo: U32,
    pub inode_table_lo: U32,
    pub free_blocks_lo: U16,
    pub free_inodes_lo: U16,
    pub used_dirs_lo: U16,
    pub flags: U16,
    pub exclude_bitmap_lo: U32,
    pub block_bitmap_csum_lo: U16,
    pub inode_bitmap_csum_lo: U16,
    pub itable_unused_lo: U16,
    pub checksum: U16,
    pub block_bitmap_hi: U32,
    pub inode_bitmap_hi: U32,
    pub inode_table_hi: U32,
    pub free_blocks_hi: U16,
    pub free_inodes_hi: U16,
    pub used_dirs_hi: U16,
    pub itable_unused_hi: U16,
    pub exclude_bitmap_hi: U32,
    pub block_bitmap_csum_hi: U16,
    pub inode_bitmap_csum_hi: U16,
    pub reserved: U32,
}

/// Where the descriptor's checksum is.
pub const GROUP_CSUM_OFFSET: usize = 0x1e;

/// Bits of `GroupRaw::flags`: the bitmaps were never written; the table was zeroed.
pub const GROUP_INODE_UNINIT: u16 = 1;
pub const GROUP_BLOCK_UNINIT: u16 = 2;
pub const GROUP_INODE_ZEROED: u16 = 4;

/// An inode as far as it is fixed; the rest of its room holds extended attributes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone)]
#[repr(C)]
pub struct InodeRaw {
    pub mode: U16,
    pub uid_lo: U16,
    pub size_lo: U32,
    pub atime: U32,
    pub ctime: U32,
    pub mtime: U32,
    pub dtime: U32,
    pub gid_lo: U16,
    pub links_count: U16,
    pub blocks_lo: U32,
    pub flags: U32,
    pub version: U32,
    /// Map of blocks, text of a short symbolic link, or device number.
    pub block: [u8; 60],
    pub generation: U32,
    pub file_acl_lo: U32,
    pub size_hi: U32,
    pub obso_faddr: U32,
    pub blocks_hi: U16,
    pub file_acl_hi: U16,
    pub uid_hi: U16,
    pub gid_hi: U16,
    pub checksum_lo: U16,
    pub reserved: U16,
}

/// The second part, as long as `extra_isize` says.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone)]
#[repr(C)]
pub struct InodeExtra {
    pub extra_isize: U16,
    pub checksum_hi: U16,
    pub ctime_extra: U32,
    pub mtime_extra: U32,
    pub atime_extra: U32,
    pub crtime: U32,
    pub crtime_extra: U32,
    pub version_hi: U32,
    pub projid: U32,
}

/// Length of the part that every inode has.
pub const INODE_OLD_LEN: usize = 128;
/// Where the low half of an inode's checksum is, and the high half.
pub const INODE_CSUM_LO: usize = 0x7c;
pub const INODE_CSUM_HI: usize = 0x82;

const _: () = {
    assert!(size_of::<SuperRaw>() == SUPER_LEN);
    assert!(size_of::<GroupRaw>() == 64);
    assert!(size_of::<InodeRaw>() == INODE_OLD_LEN);
    assert!(size_of::<InodeExtra>() == 32);
    assert!(core::mem::offset_of!(SuperRaw, hash_seed) == 0xec);
    assert!(core::mem::offset_of!(SuperRaw, error_count) == 0x194);
    assert!(core::mem::offset_of!(SuperRaw, checksum_seed) == 0x270);
    assert!(core::mem::offset_of!(SuperRaw, orphan_file_inum) == 0x280);
};

/// Joins the halves of a number.
pub fn join(lo: U32, hi: u32) -> u64 {
    u64::from(lo.get()) | u64::from(hi) << 32
}

/// Reads a little-endian number inside a block; 0 beyond its end.
pub fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

pub fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Writes a little-endian number inside a block; nothing beyond its end.
pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}
