//! Directories: names to inodes.
//!
//! **Interface.** [`Fs::lookup`], [`Fs::read_dir`], and for the operations on names [`Fs::add_name`],
//! [`Fs::remove_name`], [`Fs::set_name`]. The caller excludes changes of a directory from everything else in it.
//!
//! **Idea.** A small directory is a block that is searched from its start. When it is full it gets an index
//! ([`htree`]): names are sorted into blocks by a hash, so that a lookup reads two or three blocks however many
//! names there are.

pub mod block;
pub mod hash;
mod htree;
pub mod index;
mod list;

use crate::balloc::Claim;
use crate::cache::{BlockRef, Seal};
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::inode::{Inode, Node, NodeState};
use crate::journal::Handle;
use crate::layout::{Compat, Incompat, InodeFlags};
use crate::map::Place;
use crate::{BAD_CSUM, DAMAGED};
use abi::Errno;
use abi::errno::Result;
use hash::Hasher;
pub use list::{END, FIRST, Listed};

/// Blocks that adding a name may change: the leaf, two nodes of the index, two new blocks, their bitmaps,
/// descriptors and extents, and the inode.
pub(crate) const NAME_CREDITS: usize = 32;
/// Blocks of a directory that are read at once where they lie together (Linux's NAMEI_RA_SIZE).
const AHEAD: u32 = 8;

/// A name that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub ino: u32,
    /// The type byte; 0 when the file system keeps none.
    pub kind: u8,
    /// The directory's block and the place there.
    pub(crate) lblk: u32,
    pub(crate) at: usize,
}

/// Which block of a directory is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Names,
    Root,
    Inner,
    /// Whatever it is: for who reads all blocks in order.
    Any,
}

impl<E: Env> Fs<E> {
    pub(crate) fn dir_blocks(&self, inode: &Inode) -> u32 {
        u32::try_from(inode.size() >> self.geo.block_bits).unwrap_or(u32::MAX)
    }

    /// Whether a directory has an index that we use.
    pub(crate) fn is_indexed(&self, inode: &Inode) -> bool {
        self.geo.compat.contains(Compat::DIR_INDEX) && inode.flags().contains(InodeFlags::INDEX)
    }

    /// A directory's block, checked.
    pub(crate) fn dir_block(&self, inode: &Inode, lblk: u32, role: Role) -> Result<BlockRef<E>> {
        let ahead = self.dir_blocks(inode).saturating_sub(lblk).clamp(1, AHEAD);
        let run = self.map_inode(inode, lblk, ahead)?;
        let Place::At(nr) = run.place else {
            self.fail("hole in a directory", inode.ino);
            return Err(DAMAGED);
        };
        let block = self.read_around(nr, nr..nr + u64::from(run.len))?;
        let csum = self.geo.has_csum();
        let role = match role {
            Role::Any if self.is_indexed(inode) && lblk == 0 => Role::Root,
            // Without checksums a block of names that is empty looks like an inner node; read as names, neither has any.
            Role::Any if csum && self.is_indexed(inode) && block.with(block::looks_like_index) => Role::Inner,
            Role::Any => Role::Names,
            role => role,
        };
        let checked = if role == Role::Names {
            block.verify(Seal::Directory(inode.seed), |bytes| {
                if csum && !block::csum_good(inode.seed, bytes) {
                    return Err(BAD_CSUM);
                }
                if block::is_good(bytes, self.geo.inodes) { Ok(()) } else { Err(DAMAGED) }
            })
        } else {
            block.verify(Seal::Index(inode.seed), |bytes| {
                if !index::is_good(bytes, role == Role::Root, csum) {
                    return Err(DAMAGED);
                }
                if csum && !index::csum_good(inode.seed, bytes) { Err(BAD_CSUM) } else { Ok(()) }
            })
        };
        if checked.is_err() {
            self.fail("directory block", inode.ino);
        }
        checked.map(|()| block)
    }

    /// How names of a directory with this root are hashed.
    pub(crate) fn hasher(&self, version: u8) -> Hasher {
        Hasher { version, unsigned: self.geo.hash_unsigned, seed: self.geo.hash_seed }
    }

    /// The type byte that a name gets.
    pub(crate) fn kind_byte(&self, mode: u32) -> u8 {
        if self.geo.incompat.contains(Incompat::FILETYPE) { block::kind_of_mode(mode) } else { 0 }
    }

    /// Finds a name. The directory does not change meanwhile.
    pub fn lookup(&self, dir: &Node<E>, name: &[u8]) -> Result<Option<Found>> {
        self.find_name(&dir.state.lock().inode, name)
    }

    pub(crate) fn find_name(&self, inode: &Inode, name: &[u8]) -> Result<Option<Found>> {
        if !inode.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if name.len() > block::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        // "." and ".." are in the root, where the index does not lead.
        if self.is_indexed(inode) && name != b".." && name != b"." {
            return self.find_indexed(inode, name);
        }
        for lblk in 0..self.dir_blocks(inode) {
            let block = self.dir_block(inode, lblk, Role::Any)?;
            if let Some(found) = find_in(&block, lblk, name) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Adds a name that is not there. ENOSPC. Changes the directory's inode; the caller stores it.
    pub(crate) fn add_name(
        &self,
        handle: &Handle<E>,
        state: &mut NodeState,
        name: &[u8],
        ino: u32,
        kind: u8,
    ) -> Result<()> {
        if self.is_indexed(&state.inode) {
            return self.add_indexed(handle, &mut state.inode, name, ino, kind);
        }
        let blocks = self.dir_blocks(&state.inode);
        // From the end: in a directory that only grows the room is there.
        for lblk in (0..blocks).rev() {
            let block = self.dir_block(&state.inode, lblk, Role::Names)?;
            if self.add_in(handle, &block, name, ino, kind)? {
                return Ok(());
            }
        }
        if blocks == 1 && self.geo.compat.contains(Compat::DIR_INDEX) {
            self.make_index(handle, &mut state.inode)?;
            return self.add_indexed(handle, &mut state.inode, name, ino, kind);
        }
        let (_, block) = self.append_dir_block(handle, &mut state.inode, false)?;
        let csum = self.geo.has_csum();
        block.change(|bytes| {
            block::init(bytes, csum);
            block::insert(bytes, block::usable(bytes.len(), csum), ino, name, kind);
        });
        Ok(())
    }

    /// Puts a name into one block, if it has room.
    fn add_in(
        &self,
        handle: &Handle<E>,
        block: &BlockRef<E>,
        name: &[u8],
        ino: u32,
        kind: u8,
    ) -> Result<bool> {
        let usable = block::usable(self.geo.block_size, self.geo.has_csum());
        // Nobody changes the directory in between.
        let Some(at) = block.with(|bytes| block::room(bytes, usable, name.len())) else { return Ok(false) };
        handle.join(block)?;
        Ok(block.change(|bytes| block::insert_at(bytes, at, ino, name, kind)))
    }

    /// A new block at the end of a directory, for names or for the index.
    pub(crate) fn append_dir_block(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        inner: bool,
    ) -> Result<(u32, BlockRef<E>)> {
        let lblk = self.dir_blocks(inode);
        let (nr, _) = self.fill_hole(handle, inode, lblk, 1, Claim::Plain, false)?;
        let block = self.cache.blank(&self.env, nr)?;
        block.set_new_seal(if inner { Seal::Index(inode.seed) } else { Seal::Directory(inode.seed) });
        handle.join(&block)?;
        inode.set_size(inode.size() + self.geo.block_size as u64);
        Ok((lblk, block))
    }

    /// Removes a name where [`Fs::lookup`] found it.
    pub(crate) fn remove_name(&self, handle: &Handle<E>, inode: &Inode, found: &Found) -> Result<()> {
        let block = self.dir_block(inode, found.lblk, Role::Any)?;
        handle.join(&block)?;
        block.change(|bytes| block::remove(bytes, found.at));
        Ok(())
    }

    /// Points a name to another inode, where [`Fs::lookup`] found it.
    pub(crate) fn set_name(
        &self,
        handle: &Handle<E>,
        inode: &Inode,
        found: &Found,
        ino: u32,
        kind: u8,
    ) -> Result<()> {
        let block = self.dir_block(inode, found.lblk, Role::Any)?;
        handle.join(&block)?;
        block.change(|bytes| block::set_inode(bytes, found.at, ino, kind));
        Ok(())
    }

    /// Whether a directory has no names but "." and "..".
    pub(crate) fn is_empty_dir(&self, inode: &Inode) -> Result<bool> {
        for lblk in 0..self.dir_blocks(inode) {
            let block = self.dir_block(inode, lblk, Role::Any)?;
            let names = block.with(|bytes| block::entries(bytes).any(|e| e.name != b"." && e.name != b".."));
            if names {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Finds a name in one block.
fn find_in<E: Env>(block: &BlockRef<E>, lblk: u32, name: &[u8]) -> Option<Found> {
    block.with(|bytes| {
        block::find(bytes, name).map(|entry| Found { ino: entry.ino, kind: entry.kind, lblk, at: entry.at })
    })
}
