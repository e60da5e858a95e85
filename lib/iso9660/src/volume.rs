//! Volume descriptors, from sector 16 on: the standard's tree, and perhaps Joliet's.

use crate::record::{self, Entry, Reader};
use crate::{Disk, SECTOR, u16_le, u32_le};
use abi::{Errno, errno::Result};

/// Which extensions may be used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub rock_ridge: bool,
    pub joliet: bool,
}

/// How names are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// Upper case and a version, as the standard has them; shown in lower case without it.
    Plain,
    /// UTF-16, the higher byte first.
    Joliet,
    /// In the system use area, of which each record skips so many bytes.
    RockRidge { skip: u8 },
}

/// The tree that is shown.
#[derive(Clone, Debug)]
pub struct Volume {
    pub names: Names,
    /// log2 of the bytes of a block: 9 to 11.
    pub block_bits: u32,
    /// Blocks of the volume.
    pub blocks: u32,
    root: Entry,
}

/// The first sector with a descriptor, and how many are looked at.
const FIRST: u64 = 16;
const MOST: u64 = 100;

const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const END: u8 = 255;

/// A root directory's record in a descriptor.
const ROOT_AT: usize = 156;
const ROOT_LEN: usize = 34;

/// The escape sequences that mean UTF-16.
const JOLIET: [&[u8]; 3] = [b"%/@", b"%/C", b"%/E"];

struct Descriptor {
    block_bits: u32,
    blocks: u32,
    root: [u8; ROOT_LEN],
}

fn descriptor(sector: &[u8; SECTOR]) -> Result<Descriptor> {
    let block = u16_le(sector, 128);
    if !matches!(block, 512 | 1024 | 2048) {
        return Err(Errno::EINVAL);
    }
    let mut root = [0; ROOT_LEN];
    root.copy_from_slice(&sector[ROOT_AT..ROOT_AT + ROOT_LEN]);
    Ok(Descriptor { block_bits: block.ilog2(), blocks: u32_le(sector, 80), root })
}

impl Volume {
    /// Looks for the tree: Rock Ridge's if there is one, else Joliet's, else the standard's. EINVAL when this is no
    /// ISO 9660.
    pub fn open<D: Disk>(disk: &mut D, options: &Options) -> Result<Volume> {
        let (mut primary, mut joliet) = (None, None);
        let mut sector = [0; SECTOR];
        for number in FIRST..FIRST + MOST {
            if disk.read(number * SECTOR as u64, &mut sector).is_err() || &sector[1..6] != b"CD001" {
                break;
            }
            match sector[0] {
                PRIMARY if primary.is_none() => primary = Some(descriptor(&sector)?),
                SUPPLEMENTARY if JOLIET.contains(&&sector[88..91]) => joliet = descriptor(&sector).ok(),
                END => break,
                _ => {}
            }
        }
        let primary = primary.ok_or(Errno::EINVAL)?;
        let mut volume = Volume::of(&primary, Names::Plain)?;
        if options.rock_ridge
            && let Some(skip) = volume.find_rock_ridge(disk)?
        {
            volume.names = Names::RockRidge { skip };
            volume.root = volume.root_itself(disk)?;
            return Ok(volume);
        }
        match joliet.filter(|_| options.joliet) {
            Some(joliet) => Volume::of(&joliet, Names::Joliet),
            None => Ok(volume),
        }
    }

    fn of(descriptor: &Descriptor, names: Names) -> Result<Volume> {
        let root = record::parse_root(&descriptor.root, descriptor.block_bits)?;
        Ok(Volume { names, block_bits: descriptor.block_bits, blocks: descriptor.blocks, root })
    }

    /// The mark of Rock Ridge in the root's record of itself: how many bytes to skip.
    fn find_rock_ridge<D: Disk>(&self, disk: &mut D) -> Result<Option<u8>> {
        let mut reader = Reader::new(&self.root, 0);
        let Some((area, _)) = reader.raw_use(self, disk)? else { return Ok(None) };
        Ok(match area.get(..7) {
            Some([b'S', b'P', 7, 1, 0xbe, 0xef, skip]) => Some(*skip),
            _ => None,
        })
    }

    /// The root with what its record of itself says.
    fn root_itself<D: Disk>(&self, disk: &mut D) -> Result<Entry> {
        let mut root = self.root.clone();
        if let Some(own) = Reader::with_dots(&self.root).next(self, disk)? {
            (root.posix, root.times) = (own.posix, own.times);
        }
        Ok(root)
    }

    /// The root directory.
    pub fn root(&self) -> &Entry {
        &self.root
    }
}
