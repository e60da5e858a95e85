//! stat(2), statx(2), statfs(2), inode(7): modes, structures, magic numbers.
//!
//! `struct stat` is the one structure here that differs: x86-64 has its own, riscv64 the generic one.

use crate::abi_struct;

pub const S_IFMT: u32 = 0o170000;
pub const S_IFSOCK: u32 = 0o140000;
pub const S_IFLNK: u32 = 0o120000;
pub const S_IFREG: u32 = 0o100000;
pub const S_IFBLK: u32 = 0o060000;
pub const S_IFDIR: u32 = 0o040000;
pub const S_IFCHR: u32 = 0o020000;
pub const S_IFIFO: u32 = 0o010000;
pub const S_ISUID: u32 = 0o4000;
pub const S_ISGID: u32 = 0o2000;
pub const S_ISVTX: u32 = 0o1000;
pub const S_IXGRP: u32 = 0o010;
/// Permission bits with set-id and sticky.
pub const S_IALLUGO: u32 = 0o7777;
pub const S_IRWXG: u32 = 0o070;
pub const S_IRWXUGO: u32 = 0o777;

#[cfg(target_arch = "x86_64")]
abi_struct! {
    /// What stat(2) fills, x86-64 (arch/x86/include/uapi/asm/stat.h).
    pub struct Stat = 144 {
        pub st_dev: u64,
        pub st_ino: u64,
        pub st_nlink: u64,
        pub st_mode: u32,
        pub st_uid: u32,
        pub st_gid: u32,
        pub pad0: u32,
        pub st_rdev: u64,
        pub st_size: i64,
        pub st_blksize: i64,
        pub st_blocks: i64,
        pub st_atime: i64,
        pub st_atime_nsec: u64,
        pub st_mtime: i64,
        pub st_mtime_nsec: u64,
        pub st_ctime: i64,
        pub st_ctime_nsec: u64,
        pub unused: [u64; 3],
    }
}

#[cfg(not(target_arch = "x86_64"))]
abi_struct! {
    /// What stat(2) fills (asm-generic/stat.h).
    pub struct Stat = 128 {
        pub st_dev: u64,
        pub st_ino: u64,
        pub st_mode: u32,
        pub st_nlink: u32,
        pub st_uid: u32,
        pub st_gid: u32,
        pub st_rdev: u64,
        pub pad1: u64,
        pub st_size: i64,
        pub st_blksize: i32,
        pub pad2: u32,
        pub st_blocks: i64,
        pub st_atime: i64,
        pub st_atime_nsec: u64,
        pub st_mtime: i64,
        pub st_mtime_nsec: u64,
        pub st_ctime: i64,
        pub st_ctime_nsec: u64,
        pub unused: [u32; 2],
    }
}

/// The types of `st_nlink` and `st_blksize` on this architecture.
#[cfg(target_arch = "x86_64")]
pub type StatNlink = u64;
#[cfg(target_arch = "x86_64")]
pub type StatBlksize = i64;
#[cfg(not(target_arch = "x86_64"))]
pub type StatNlink = u32;
#[cfg(not(target_arch = "x86_64"))]
pub type StatBlksize = i32;

abi_struct! {
    /// What statx(2) fills; a timestamp is seconds and nanoseconds with four bytes of padding.
    pub struct Statx = 256 {
        pub mask: u32,
        pub blksize: u32,
        pub attributes: u64,
        pub nlink: u32,
        pub uid: u32,
        pub gid: u32,
        pub mode: u16,
        pub pad: u16,
        pub ino: u64,
        pub size: u64,
        pub blocks: u64,
        pub attributes_mask: u64,
        pub atime_s: i64,
        pub atime_ns: u32,
        pub pad_a: u32,
        pub btime_s: i64,
        pub btime_ns: u32,
        pub pad_b: u32,
        pub ctime_s: i64,
        pub ctime_ns: u32,
        pub pad_c: u32,
        pub mtime_s: i64,
        pub mtime_ns: u32,
        pub pad_m: u32,
        pub rdev_major: u32,
        pub rdev_minor: u32,
        pub dev_major: u32,
        pub dev_minor: u32,
        pub mnt_id: u64,
        pub dio_mem_align: u32,
        pub dio_offset_align: u32,
        pub spare: [u64; 12],
    }
}

pub const STATX_BASIC_STATS: u32 = 0x7ff;
pub const STATX_BTIME: u32 = 0x800;
pub const STATX_MNT_ID: u32 = 0x1000;
pub const STATX_DIOALIGN: u32 = 0x2000;
pub const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
pub const STATX_RESERVED: u32 = 0x8000_0000;
pub const STATX_ATTR_IMMUTABLE: u64 = 0x10;
pub const STATX_ATTR_APPEND: u64 = 0x20;
pub const STATX_ATTR_NODUMP: u64 = 0x40;
pub const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

abi_struct! {
    /// What statfs(2) fills.
    pub struct Statfs = 120 {
        pub f_type: i64,
        pub f_bsize: i64,
        pub f_blocks: u64,
        pub f_bfree: u64,
        pub f_bavail: u64,
        pub f_files: u64,
        pub f_ffree: u64,
        pub f_fsid: [i32; 2],
        pub f_namelen: i64,
        pub f_frsize: i64,
        pub f_flags: i64,
        pub f_spare: [i64; 4],
    }
}

/// `f_type` values (linux/magic.h).
/// ext2, ext3 and ext4 alike.
pub const EXT4_SUPER_MAGIC: u32 = 0xef53;
pub const MSDOS_SUPER_MAGIC: u32 = 0x4d44;
pub const ISOFS_SUPER_MAGIC: u32 = 0x9660;
pub const OVERLAYFS_SUPER_MAGIC: u32 = 0x794c_7630;
pub const V9FS_MAGIC: u32 = 0x0102_1997;
pub const TMPFS_MAGIC: u32 = 0x0102_1994;
pub const RAMFS_MAGIC: u32 = 0x8584_58f6;
pub const PIPEFS_MAGIC: u32 = 0x5049_5045;
pub const ANON_INODE_FS_MAGIC: u32 = 0x0904_1934;
pub const SOCKFS_MAGIC: u32 = 0x534f_434b;

/// access(2) modes.
pub const F_OK: u32 = 0;
pub const X_OK: u32 = 1;
pub const W_OK: u32 = 2;
pub const R_OK: u32 = 4;

/// utimensat(2): special nanosecond values.
pub const UTIME_NOW: i64 = (1 << 30) - 1;
pub const UTIME_OMIT: i64 = (1 << 30) - 2;

/// A device number as programs see it in `st_rdev` (glibc's makedev, Linux's new_encode_dev).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct DevId {
    pub major: u32,
    pub minor: u32,
}

impl DevId {
    pub const fn new(major: u32, minor: u32) -> DevId {
        DevId { major, minor }
    }

    /// As `st_dev`, `st_rdev` and mknod(2) encode it: minor bits 0-7, major 8-19, minor bits 8-19 above.
    pub const fn encode(self) -> u64 {
        ((self.minor & 0xff) | ((self.major & 0xfff) << 8) | ((self.minor & !0xff) << 12)) as u64
    }

    pub const fn decode(raw: u64) -> DevId {
        let raw = raw as u32;
        DevId { major: (raw >> 8) & 0xfff, minor: (raw & 0xff) | ((raw >> 12) & 0xf_ff00) }
    }
}

#[cfg(test)]
mod tests {
    use super::DevId;

    #[test]
    fn device_numbers_round_trip() {
        for (major, minor, raw) in
            [(1, 3, 0x103), (5, 0, 0x500), (136, 300, 0x10882c), (259, 1_000_000 & 0xfffff, 0xf4210340)]
        {
            let dev = DevId::new(major, minor);
            assert_eq!(DevId::decode(dev.encode()), dev);
            assert_eq!(dev.encode() as u32, raw, "{dev:?}");
        }
    }
}
