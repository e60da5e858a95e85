//! What the device says of itself (VIRTIO 1.2, section 5.2.4).

use abi::errno::Result;
use block::{DEFAULT_MAX_SECTORS, DiscardLimits, Limits};
use virtio::{Device, feature};

const SIZE_MAX: u64 = 1 << 1;
const SEG_MAX: u64 = 1 << 2;
const RO: u64 = 1 << 5;
const BLK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const TOPOLOGY: u64 = 1 << 10;
const CONFIG_WCE: u64 = 1 << 11;
const MQ: u64 = 1 << 12;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

const WANTED: u64 = SIZE_MAX
    | SEG_MAX
    | RO
    | BLK_SIZE
    | FLUSH
    | TOPOLOGY
    | CONFIG_WCE
    | MQ
    | DISCARD
    | WRITE_ZEROES
    | feature::INDIRECT
    | feature::EVENT_IDX;

// Offsets in the configuration.
const CAPACITY: usize = 0;
const SIZE_MAX_AT: usize = 8;
const SEG_MAX_AT: usize = 12;
const BLK_SIZE_AT: usize = 20;
const PHYSICAL_EXPONENT: usize = 24;
const MIN_IO: usize = 26;
const OPT_IO: usize = 28;
const WRITEBACK: usize = 32;
const NUM_QUEUES: usize = 34;
const MAX_DISCARD: usize = 36;
const DISCARD_ALIGN: usize = 44;
const MAX_WRITE_ZEROES: usize = 48;
const MAY_UNMAP: usize = 56;

/// Most pieces of a request: a table of descriptors is half a page then.
const SEGMENTS: u32 = 126;

pub(crate) struct Config {
    pub read_only: bool,
    pub queues: u16,
    pub limits: Limits,
    /// Zeroing may give the space back.
    pub may_unmap: bool,
}

impl Config {
    pub(crate) fn negotiate(device: &mut Device) -> Result<Config> {
        let features = device.negotiate(WANTED)?;
        let has = |bit: u64| features & bit != 0;
        let mut limits = Limits { max_sectors: DEFAULT_MAX_SECTORS, ..Limits::default() };
        // Without a word on it, one piece (5.2.5); ours is page-sized pieces at least.
        let pieces = if has(SEG_MAX) { device.config32(SEG_MAX_AT) } else { 1 };
        limits.max_segments = pieces.clamp(1, SEGMENTS);
        limits.max_segment_bytes = if has(SIZE_MAX) { device.config32(SIZE_MAX_AT) } else { u32::MAX };
        if has(BLK_SIZE) {
            limits.logical_block = device.config32(BLK_SIZE_AT);
        }
        (limits.physical_block, limits.io_min) = (limits.logical_block, limits.logical_block);
        if has(TOPOLOGY) {
            let block = limits.logical_block;
            let exponent = u32::from(device.config8(PHYSICAL_EXPONENT)).min(16);
            limits.physical_block = block.saturating_mul(1 << exponent);
            let io_min = block.saturating_mul(device.config16(MIN_IO).into());
            limits.io_min = io_min.max(limits.physical_block);
            limits.io_opt = block.saturating_mul(device.config32(OPT_IO));
        }
        // Without FLUSH the device writes through; with it, unless it says otherwise, it caches.
        limits.write_cache = has(FLUSH) && (!has(CONFIG_WCE) || device.config8(WRITEBACK) != 0);
        if has(DISCARD) {
            let sectors = device.config32(DISCARD_ALIGN);
            let granularity = sectors.saturating_mul(512).max(limits.logical_block);
            limits.discard = Some(DiscardLimits { max_sectors: device.config32(MAX_DISCARD), granularity });
        }
        if has(WRITE_ZEROES) {
            limits.max_write_zeroes = device.config32(MAX_WRITE_ZEROES);
        }
        let queues = if has(MQ) { device.config16(NUM_QUEUES) } else { 1 };
        let may_unmap = has(WRITE_ZEROES) && device.config8(MAY_UNMAP) != 0;
        // Linux assumes of an emulated disk that seeking costs; programs that ask mean that.
        limits.rotational = true;
        Ok(Config { read_only: has(RO), queues, limits, may_unmap })
    }

    /// The size in sectors of 512 bytes, whatever the block size is.
    pub(crate) fn sectors(&self, device: &Device) -> u64 {
        device.config64(CAPACITY)
    }
}
