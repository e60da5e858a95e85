//! The boot sector: the one place that says where everything is.
//!
//! Which of the three formats it is follows from the number of clusters alone, or from where the length of the table
//! stands; the text "FAT16" in the sector means nothing.

use abi::{Errno, errno::Result};

/// How wide an entry of the table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

impl Kind {
    /// Bits of an entry.
    pub fn bits(self) -> u32 {
        match self {
            Kind::Fat12 => 12,
            Kind::Fat16 => 16,
            Kind::Fat32 => 32,
        }
    }

    /// The entry of a chain's last cluster as it is written; values from 7 below it on mean the end, too.
    pub fn end(self) -> u32 {
        match self {
            Kind::Fat12 => 0xfff,
            Kind::Fat16 => 0xffff,
            Kind::Fat32 => 0x0fff_ffff,
        }
    }
}

/// Where the root directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Root {
    /// Before the clusters, of a fixed length in bytes (FAT12, FAT16).
    Fixed { at: u64, len: u32 },
    /// A chain as any other (FAT32).
    Cluster(u32),
}

/// Places and sizes, checked against each other. All places are bytes of the disk.
#[derive(Clone, Debug)]
pub struct Geometry {
    pub kind: Kind,
    /// Bytes of a sector: 512 to 4096.
    pub sector: u32,
    /// log2 of the bytes of a cluster.
    pub cluster_bits: u32,
    /// Clusters there are; their numbers begin at 2.
    pub clusters: u32,
    pub root: Root,
    /// The serial number of the volume.
    pub serial: u32,
    pub(crate) table_at: u64,
    /// Bytes of one copy of the table.
    pub(crate) table_len: u64,
    /// Copies of the table.
    pub(crate) tables: u8,
    pub(crate) data_at: u64,
    /// The sector with the number of free clusters (FAT32).
    pub(crate) info_at: Option<u64>,
    /// The byte whose lowest bit says that the volume was not unmounted.
    pub(crate) state_at: u64,
}

/// Clusters that each format can number.
const MAX_FAT12: u64 = 0xff4;
const MAX_FAT16: u64 = 0xfff4;
const MAX_FAT32: u64 = 0x0fff_fff6;

fn u16_at(sector: &[u8; 512], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([sector[at], sector[at + 1]]))
}

fn u32_at(sector: &[u8; 512], at: usize) -> u32 {
    u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]])
}

/// The first of two that is not zero.
fn either(first: u32, second: u32) -> Result<u64> {
    let value = if first != 0 { first } else { second };
    if value == 0 { Err(Errno::EINVAL) } else { Ok(value.into()) }
}

impl Geometry {
    /// Reads a boot sector. EINVAL for one that is none.
    pub fn parse(boot: &[u8; 512]) -> Result<Geometry> {
        let (sector, per_cluster) = (u16_at(boot, 11), u32::from(boot[13]));
        let (reserved, tables, media) = (u64::from(u16_at(boot, 14)), boot[16], boot[21]);
        let sound = sector.is_power_of_two()
            && (512..=4096).contains(&sector)
            && per_cluster.is_power_of_two()
            && reserved != 0
            && tables != 0
            && (media == 0xf0 || media >= 0xf8);
        if !sound {
            return Err(Errno::EINVAL);
        }
        let wide = u16_at(boot, 22) == 0;
        let bytes = u64::from(sector);
        let table_len = either(u16_at(boot, 22), u32_at(boot, 36))? * bytes;
        let root_len = u16_at(boot, 17) * 32;
        if !root_len.is_multiple_of(sector) {
            return Err(Errno::EINVAL);
        }
        let table_at = reserved * bytes;
        let root_at = table_at + u64::from(tables) * table_len;
        let data_at = root_at + u64::from(root_len);
        let total = either(u16_at(boot, 19), u32_at(boot, 32))? * bytes;
        let cluster_bits = (sector * per_cluster).ilog2();
        let there = total.checked_sub(data_at).ok_or(Errno::EINVAL)? >> cluster_bits;
        let (kind, most) = match wide {
            true => (Kind::Fat32, MAX_FAT32),
            false if there > MAX_FAT12 => (Kind::Fat16, MAX_FAT16),
            false => (Kind::Fat12, MAX_FAT12),
        };
        // The table may be too short for all of them.
        let clusters = there.min((table_len * 8 / u64::from(kind.bits())).saturating_sub(2));
        if clusters == 0 || clusters > most {
            return Err(Errno::EINVAL);
        }
        let info = if wide { u64::from(u16_at(boot, 48)) } else { 0 };
        let geometry = Geometry {
            kind,
            sector,
            cluster_bits,
            clusters: clusters as u32,
            root: if wide {
                Root::Cluster(u32_at(boot, 44))
            } else {
                Root::Fixed { at: root_at, len: root_len }
            },
            serial: u32_at(boot, if wide { 67 } else { 39 }),
            table_at,
            table_len,
            tables,
            data_at,
            info_at: (info != 0 && info < reserved).then_some(info * bytes),
            state_at: if wide { 65 } else { 37 },
        };
        match geometry.root {
            Root::Cluster(first) if !geometry.is_cluster(first) => Err(Errno::EINVAL),
            _ => Ok(geometry),
        }
    }

    /// Whether a cluster of this number exists.
    pub fn is_cluster(&self, number: u32) -> bool {
        number >= 2 && number - 2 < self.clusters
    }

    /// Where a cluster is.
    pub fn place(&self, cluster: u32) -> u64 {
        self.data_at + (u64::from(cluster.saturating_sub(2)) << self.cluster_bits)
    }

    /// Bytes of a cluster.
    pub fn cluster_bytes(&self) -> u32 {
        1 << self.cluster_bits
    }

    /// Clusters that `bytes` of a file take.
    pub fn clusters_for(&self, bytes: u64) -> u32 {
        bytes.div_ceil(u64::from(self.cluster_bytes())) as u32
    }
}
