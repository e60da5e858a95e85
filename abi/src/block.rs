//! ioctls of block devices (include/uapi/linux/fs.h, hdreg.h) and of loop devices (loop.h).

use crate::abi_struct;

pub const BLKROSET: u32 = 0x125d;
pub const BLKROGET: u32 = 0x125e;
pub const BLKRRPART: u32 = 0x125f;
pub const BLKGETSIZE: u32 = 0x1260;
pub const BLKFLSBUF: u32 = 0x1261;
pub const BLKRASET: u32 = 0x1262;
pub const BLKRAGET: u32 = 0x1263;
pub const BLKSECTGET: u32 = 0x1267;
pub const BLKSSZGET: u32 = 0x1268;
pub const BLKBSZGET: u32 = 0x8008_1270;
pub const BLKBSZSET: u32 = 0x4008_1271;
pub const BLKGETSIZE64: u32 = 0x8008_1272;
pub const BLKDISCARD: u32 = 0x1277;
pub const BLKIOMIN: u32 = 0x1278;
pub const BLKIOOPT: u32 = 0x1279;
pub const BLKALIGNOFF: u32 = 0x127a;
pub const BLKPBSZGET: u32 = 0x127b;
pub const BLKDISCARDZEROES: u32 = 0x127c;
pub const BLKROTATIONAL: u32 = 0x127e;
pub const BLKZEROOUT: u32 = 0x127f;

pub const HDIO_GETGEO: u32 = 0x301;

abi_struct! {
    /// What HDIO_GETGEO fills. The fields that matter to programs are `start` and a geometry that is not zero.
    pub struct HdGeometry = 16 {
        pub heads: u8,
        pub sectors: u8,
        pub cylinders: u16,
        pub pad: u32,
        pub start: u64,
    }
}

pub const LOOP_SET_FD: u32 = 0x4c00;
pub const LOOP_CLR_FD: u32 = 0x4c01;
pub const LOOP_SET_STATUS: u32 = 0x4c02;
pub const LOOP_GET_STATUS: u32 = 0x4c03;
pub const LOOP_SET_STATUS64: u32 = 0x4c04;
pub const LOOP_GET_STATUS64: u32 = 0x4c05;
pub const LOOP_CHANGE_FD: u32 = 0x4c06;
pub const LOOP_SET_CAPACITY: u32 = 0x4c07;
pub const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
pub const LOOP_SET_BLOCK_SIZE: u32 = 0x4c09;
pub const LOOP_CONFIGURE: u32 = 0x4c0a;
pub const LOOP_CTL_ADD: u32 = 0x4c80;
pub const LOOP_CTL_REMOVE: u32 = 0x4c81;
pub const LOOP_CTL_GET_FREE: u32 = 0x4c82;

pub const LO_FLAGS_READ_ONLY: u32 = 1;
pub const LO_FLAGS_AUTOCLEAR: u32 = 4;
pub const LO_FLAGS_PARTSCAN: u32 = 8;
pub const LO_FLAGS_DIRECT_IO: u32 = 16;

abi_struct! {
    /// What LOOP_GET_STATUS64 fills.
    pub struct LoopInfo64 = 232 {
        pub lo_device: u64,
        pub lo_inode: u64,
        pub lo_rdevice: u64,
        pub lo_offset: u64,
        pub lo_sizelimit: u64,
        pub lo_number: u32,
        pub lo_encrypt_type: u32,
        pub lo_encrypt_key_size: u32,
        pub lo_flags: u32,
        pub lo_file_name: [[u8; 32]; 2],
        pub lo_crypt_name: [[u8; 32]; 2],
        pub lo_encrypt_key: [u8; 32],
        pub lo_init: [u64; 2],
    }
}

/// LOOP_CONFIGURE takes a descriptor and a block size (32 bits each), a [`LoopInfo64`], and 64 zero bytes.
pub const LOOP_CONFIG_SIZE: usize = 304;
pub const LOOP_CONFIG_INFO: usize = 8;
