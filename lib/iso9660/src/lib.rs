//! ISO 9660, the file system of CDs and installation images, read only; with Rock Ridge and Joliet.
//!
//! **Problem.** The standard knows names of upper-case letters and no owners. Two extensions put more in: Rock Ridge into
//! a part of each directory record that the standard leaves to systems, Joliet as a second tree of directories with
//! names in UTF-16 over the same files. None of it can be believed: lengths, places and continuations are the medium's.
//!
//! **Interface.** [`Volume::open`] over a [`Disk`] finds the tree to show; [`Volume::root`] is its first [`Entry`];
//! [`Reader`] gives the entries of a directory one after another.
//!
//! | part | knows |
//! |---|---|
//! | [`volume`] | volume descriptors: which tree |
//! | [`record`] | a directory record, and the reader that walks over them |
//! | [`rock`] | Rock Ridge: names, owners, links, dates, directories that were moved up |
//! | [`date`] | the three forms of dates |
//!
//! **Idea.** An entry is read once and then holds all there is to know of its file: the inode. Its number is the place
//! of its record, a directory's the place of its contents.
//!
//! Sources: ECMA-119; IEEE P1281 and P1282 (SUSP 1.12, RRIP 1.12); the Joliet specification of 1995.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod date;
pub mod record;
pub mod rock;
pub mod volume;

use abi::errno::Result;

pub use record::{Entry, Reader, Section};
pub use rock::Posix;
pub use volume::{Options, Volume};

/// The bytes of a medium.
pub trait Disk {
    /// Fills `out` from byte `at` on. EIO beyond the end.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()>;
}

/// Bytes of the largest block, which is a sector of a CD.
pub const SECTOR: usize = 2048;

pub(crate) fn u16_le(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// A number that stands there twice, in both byte orders; the first is little-endian.
pub(crate) fn u32_le(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
