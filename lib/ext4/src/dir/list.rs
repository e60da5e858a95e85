//! Reading a directory in an order that changes do not disturb.
//!
//! Who reads a directory in parts must see each name that stays exactly once, though blocks are split meanwhile.
//! So indexed directories, and those that may become indexed, are read in the order of hashes, and a position is a
//! hash; other directories never move names, and a position is a place.

use super::{Role, block};
use crate::DAMAGED;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::inode::{Inode, Node};
use crate::layout::Compat;
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;

/// Positions below are those of "." and "..", which are the caller's.
pub const FIRST: u64 = 2;
/// Behind the last name.
pub const END: u64 = i64::MAX as u64;

/// What a name tells a reader.
#[derive(Debug)]
pub struct Listed<'a> {
    pub name: &'a [u8],
    pub ino: u32,
    /// The type byte, 0: not known.
    pub kind: u8,
    /// The position behind it.
    pub next: u64,
}

/// A name on its way: hash position, inode, type, name.
type Pending = (u64, u32, u8, Vec<u8>);

impl<E: Env> Fs<E> {
    /// Gives the names from position `pos` (at least [`FIRST`]) on to `sink` until that says false; the position
    /// where it stopped. "." and ".." are left out.
    pub fn read_dir(&self, dir: &Node<E>, pos: u64, sink: &mut dyn FnMut(&Listed) -> bool) -> Result<u64> {
        let inode = dir.state.lock().inode.clone();
        let pos = pos.max(FIRST);
        if pos >= END {
            return Ok(END);
        }
        let hashed = self.geo.compat.contains(Compat::DIR_INDEX)
            && (self.is_indexed(&inode) || self.dir_blocks(&inode) == 1);
        if hashed { self.list_hashed(&inode, pos, sink) } else { self.list_plain(&inode, pos, sink) }
    }

    fn list_plain(&self, inode: &Inode, pos: u64, sink: &mut dyn FnMut(&Listed) -> bool) -> Result<u64> {
        let from = pos - FIRST;
        let size = self.geo.block_size as u64;
        let first = u32::try_from(from / size).unwrap_or(u32::MAX);
        for lblk in first..self.dir_blocks(inode) {
            self.go_on()?;
            let block = self.dir_block(inode, lblk, Role::Any)?;
            let bytes = block.with(|bytes| bytes.to_vec());
            let base = u64::from(lblk) * size;
            for entry in block::entries(&bytes) {
                let at = base + entry.at as u64;
                if at < from || entry.name == b"." || entry.name == b".." {
                    continue;
                }
                let next = at + entry.len as u64 + FIRST;
                if !sink(&Listed { name: entry.name, ino: entry.ino, kind: entry.kind, next }) {
                    return Ok(at + FIRST);
                }
            }
        }
        Ok(END)
    }

    fn list_hashed(&self, inode: &Inode, pos: u64, sink: &mut dyn FnMut(&Listed) -> bool) -> Result<u64> {
        let key = pos - FIRST;
        if !self.is_indexed(inode) {
            let mut names = Vec::new();
            self.collect(inode, 0, self.geo.hash_version.min(2), key, &mut names)?;
            return Ok(give(names, sink).unwrap_or(END));
        }
        let mut way = self.index_way(inode, ((key >> 32) as u32) << 1)?;
        let mut more = true;
        // No more leaves than blocks: see `find_indexed`.
        for _ in 0..=self.dir_blocks(inode) {
            self.go_on()?;
            if !more {
                return Ok(END);
            }
            // Leaves whose names share a hash are read together, so that their order is one.
            let mut names = Vec::new();
            loop {
                self.collect(inode, way.leaf, way.version, key, &mut names)?;
                match self.next_leaf(inode, &mut way)? {
                    None => more = false,
                    Some(hash) if hash & 1 != 0 && names.len() <= 1 << 20 => continue,
                    Some(_) => {}
                }
                break;
            }
            if let Some(stopped) = give(names, sink) {
                return Ok(stopped);
            }
        }
        Err(DAMAGED)
    }

    /// ERESTARTSYS when the caller is to end: asked where a large directory or device would take long.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.env.interrupted() { Err(Errno::ERESTARTSYS) } else { Ok(()) }
    }

    /// Appends the names of a block from a position on.
    fn collect(
        &self,
        inode: &Inode,
        lblk: u32,
        version: u8,
        from: u64,
        names: &mut Vec<Pending>,
    ) -> Result<()> {
        let hasher = self.hasher(version);
        let block = match self.is_indexed(inode) {
            true => self.index_leaf(inode, lblk)?,
            false => self.dir_block(inode, lblk, Role::Names)?,
        };
        block.with(|bytes| {
            for entry in block::entries(bytes).filter(|entry| entry.name != b"." && entry.name != b"..") {
                let (hash, minor) = hasher.hash(entry.name).ok_or(DAMAGED)?;
                let key = u64::from(hash >> 1) << 32 | u64::from(minor);
                if key >= from {
                    names.push((key, entry.ino, entry.kind, entry.name.to_vec()));
                }
            }
            Ok(())
        })
    }
}

/// Gives names in order; where the sink stopped.
fn give(mut names: Vec<Pending>, sink: &mut dyn FnMut(&Listed) -> bool) -> Option<u64> {
    names.sort_unstable();
    for (key, ino, kind, name) in &names {
        let next = key + 1 + FIRST;
        if !sink(&Listed { name, ino: *ino, kind: *kind, next }) {
            return Some(key + FIRST);
        }
    }
    None
}
