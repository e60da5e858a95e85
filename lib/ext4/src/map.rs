//! Where a file's data is, and how data gets a place.
//!
//! **Problem.** Programs write to memory; blocks are chosen later, when the data goes to the device, so that they
//! can be chosen in long runs. Meanwhile the disk must not fill up behind the program's back, and a crash must
//! not show what the blocks held before.
//!
//! **Interface.** [`Fs::map`] for reading. For writing: [`Fs::reserve`] before bytes go into memory; later
//! [`Fs::write_back`], which gives blocks a place and calls the caller to write the data there.
//!
//! **Idea.** The data goes to the device while a handle is open, so the transaction that makes it part of the file
//! cannot commit before it is there (data=ordered).

use crate::DAMAGED;
use crate::balloc::Claim;
use crate::env::{Env, Lock};
use crate::extent::Extent;
use crate::fs::Fs;
use crate::inode::{Inode, Node, NodeState};
use crate::journal::Handle;
use crate::layout::InodeFlags;
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Where a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Hole,
    /// Allocated, but reads as zeroes.
    Unwritten(u64),
    At(u64),
}

/// So many blocks from the one asked for on are in one place, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub place: Place,
    pub len: u32,
}

/// Data to be written: `len` blocks of the file from `lblk` on go to `pblk`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    pub lblk: u32,
    pub pblk: u64,
    pub len: u32,
    before: Before,
}

/// What was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Hole,
    Unwritten,
    Data,
}

/// Blocks that freeing one run may change: bitmap, descriptor, and nodes of the tree.
pub(crate) const REMOVE_CREDITS: usize = 16;
/// Blocks that giving one run a place may change.
const PLACE_CREDITS: usize = 20;
/// Runs that get a place under one handle.
const PIECES: usize = 4;
/// How often an allocation that finds no room waits for freed blocks to become free.
const RETRIES: usize = 3;

impl<E: Env> Fs<E> {
    /// Where a block of an inode is, and for how many, at most `max` (not 0), that holds.
    pub(crate) fn map_inode(&self, inode: &Inode, lblk: u32, max: u32) -> Result<Run> {
        let run = match inode.flags().contains(InodeFlags::EXTENTS) {
            true => self.find_extent(inode, lblk, max),
            false => self.find_indirect(inode, lblk, max),
        }?;
        if let Place::At(at) | Place::Unwritten(at) = run.place
            && inode.ino >= self.geo.first_ino
            && !self.valid_data(at, u64::from(run.len))
        {
            self.fail("data in the file system's own blocks", inode.ino);
            return Err(DAMAGED);
        }
        Ok(run)
    }

    /// As [`Fs::map_inode`], of a node.
    pub fn map(&self, node: &Node<E>, lblk: u32, max: u32) -> Result<Run> {
        self.map_inode(&node.state.lock().inode, lblk, max)
    }

    /// As [`Fs::map`]; also whether the blocks are in memory waiting for a place (then as many as that holds for).
    pub fn map_delayed(&self, node: &Node<E>, lblk: u32, max: u32) -> Result<(Run, bool)> {
        let state = node.state.lock();
        let mut run = self.map_inode(&state.inode, lblk, max)?;
        let (len, waiting) = state.delayed.run(lblk, lblk.saturating_add(run.len));
        run.len = len.max(1);
        Ok((run, waiting))
    }

    /// The longest that a file may become, in bytes.
    pub fn max_bytes(&self, node: &Node<E>) -> u64 {
        match node.state.lock().inode.flags().contains(InodeFlags::EXTENTS) {
            true => self.geo.max_bytes(),
            false => self.max_indirect_bytes(),
        }
    }

    /// Promises room to `len` blocks that are about to be written in memory. ENOSPC. `privileged`: may use the
    /// superuser's reserve.
    pub fn reserve(&self, node: &Node<E>, lblk: u32, len: u32, privileged: bool) -> Result<()> {
        let end = lblk.checked_add(len).ok_or(Errno::EFBIG)?;
        let mut state = node.state.lock();
        let mut at = lblk;
        while at < end {
            let (count, promised) = state.delayed.run(at, end);
            if promised {
                at += count;
                continue;
            }
            let run = self.map_inode(&state.inode, at, count)?;
            if run.place == Place::Hole {
                self.promise(u64::from(run.len), privileged)?;
                node.promised.store(true, Ordering::Relaxed);
                if !state.delayed.add(at, at + run.len) {
                    self.unpromise(u64::from(run.len));
                    return Err(Errno::ENOMEM);
                }
            }
            at += run.len;
        }
        Ok(())
    }

    /// The node goes out of use and nothing of it is dirty: what was promised to data that never came is free again.
    pub fn forget_promises(&self, node: &Node<E>) {
        self.unreserve(&mut node.state.lock(), 0, u32::MAX);
    }

    /// Blocks of `from..to` will not be written after all.
    pub(crate) fn unreserve(&self, state: &mut NodeState, from: u32, to: u32) {
        let count = state.delayed.remove(from, to);
        self.unpromise(u64::from(count));
    }

    /// Writes `len` blocks of data from `lblk` on: `io` is given the pieces, each with its place, writes them and
    /// returns when the device has taken them. The file's length on the medium grows as far as data is written and
    /// the file goes, which `size` is asked for at the end. The caller keeps others from writing back the same
    /// blocks and from truncating below them. Errors of `io` are passed on; nothing becomes part of the file then.
    pub fn write_back(
        &self,
        node: &Node<E>,
        lblk: u32,
        len: u32,
        size: &dyn Fn() -> u64,
        io: &mut dyn FnMut(&[Piece]) -> Result<()>,
    ) -> Result<()> {
        let end = lblk.checked_add(len).ok_or(Errno::EFBIG)?;
        let (mut at, mut tries) = (lblk, 0);
        while at < end {
            match self.write_some(node, (at, end), size, io) {
                Ok(next) => at = next,
                // Freed blocks may be waiting for their commit.
                Err(Errno::ENOSPC) if tries < RETRIES && self.room_is_coming() => {
                    tries += 1;
                    self.commit_all()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One handle's part of a write-back; where the next begins.
    fn write_some(
        &self,
        node: &Node<E>,
        (from, end): (u32, u32),
        size: &dyn Fn() -> u64,
        io: &mut dyn FnMut(&[Piece]) -> Result<()>,
    ) -> Result<u32> {
        if let Some((pieces, next)) = self.placed(node, from, end, size())? {
            io(&pieces)?;
            return Ok(next);
        }
        let handle = self.begin(PIECES * PLACE_CREDITS)?;
        let mut pieces = Vec::new();
        let mut state = node.state.lock();
        if state.deleted {
            return Ok(end);
        }
        let mut at = from;
        let mut failure = None;
        while at < end && pieces.len() < PIECES {
            match self.place(&handle, &mut state, at, end) {
                Ok(piece) => {
                    at += piece.len;
                    pieces.push(piece);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.store(&handle, node, &mut state)?;
        drop(state);
        if pieces.is_empty() {
            return Err(failure.unwrap_or(Errno::EIO));
        }
        let written = io(&pieces);
        let mut state = node.state.lock();
        if state.deleted {
            return Ok(end);
        }
        let finished = match written {
            Ok(()) => self.finish(&handle, &mut state, &pieces, size()),
            Err(error) => self.undo(&handle, &mut state, &pieces).and(Err(error)),
        };
        self.store(&handle, node, &mut state)?;
        finished.map(|()| at)
    }

    /// The places of the `len` blocks from `lblk` on, when all have one and the file, `size` bytes long, need not become
    /// longer on the medium: they may be written without [`Fs::write_back`], and nobody need wait for that before a
    /// commit.
    pub fn places(&self, node: &Node<E>, lblk: u32, len: u32, size: u64) -> Result<Option<Vec<Piece>>> {
        let end = lblk.checked_add(len).ok_or(Errno::EFBIG)?;
        let placed = self.placed(node, lblk, end, size)?;
        Ok(placed.filter(|(_, next)| *next == end).map(|(pieces, _)| pieces))
    }

    /// The pieces from `from` on when all have a place and the file need not become longer: no handle then.
    fn placed(&self, node: &Node<E>, from: u32, end: u32, size: u64) -> Result<Option<(Vec<Piece>, u32)>> {
        let state = node.state.lock();
        let written_end = u64::from(end) << self.geo.block_bits;
        if state.deleted || state.inode.size() < size.min(written_end) {
            return Ok(None);
        }
        let mut pieces = Vec::new();
        let mut at = from;
        while at < end && pieces.len() < 64 {
            let run = self.map_inode(&state.inode, at, end - at)?;
            let Place::At(pblk) = run.place else { break };
            pieces.push(Piece { lblk: at, pblk, len: run.len, before: Before::Data });
            at += run.len;
        }
        Ok((at > from).then_some((pieces, at)))
    }

    /// Gives the blocks from `at` on a place, as many as get one in one run.
    fn place(&self, handle: &Handle<E>, state: &mut NodeState, at: u32, end: u32) -> Result<Piece> {
        let (count, promised) = state.delayed.run(at, end);
        let run = self.map_inode(&state.inode, at, count)?;
        let (pblk, before) = match run.place {
            Place::At(pblk) => (pblk, Before::Data),
            Place::Unwritten(pblk) => (pblk, Before::Unwritten),
            Place::Hole => {
                let claim = if promised { Claim::Promised } else { Claim::Plain };
                let (pblk, len) = self.fill_hole(handle, &mut state.inode, at, run.len, claim, false)?;
                if promised {
                    state.delayed.remove(at, at + len);
                }
                return Ok(Piece { lblk: at, pblk, len, before: Before::Hole });
            }
        };
        if promised {
            self.unreserve(state, at, at + run.len);
        }
        Ok(Piece { lblk: at, pblk, len: run.len, before })
    }

    /// Allocates up to `len` blocks for a hole and enters them.
    pub(crate) fn fill_hole(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        lblk: u32,
        len: u32,
        claim: Claim,
        unwritten: bool,
    ) -> Result<(u64, u32)> {
        let extents = inode.flags().contains(InodeFlags::EXTENTS);
        let goal = self.goal(inode, lblk)?;
        let want = if extents { len.min(crate::extent::node::MAX_LEN - 1) } else { len.min(1 << 20) };
        let (pblk, len) = self.alloc_blocks(handle, goal, want, claim)?;
        let entered = if extents {
            self.insert_extent(handle, inode, Extent { lblk, len, pblk, unwritten })
        } else if pblk + u64::from(len) > 1 << 32 {
            Err(Errno::ENOSPC)
        } else {
            self.insert_indirect(handle, inode, lblk, pblk, len)
        };
        if let Err(error) = entered {
            self.free_run(handle, pblk, u64::from(len), false)?;
            if claim == Claim::Promised {
                // As promised before, and unconditionally: the blocks were there a moment ago.
                self.promised.fetch_add(i64::from(len), Ordering::AcqRel);
            }
            return Err(error);
        }
        inode.add_blocks(i64::from(len), &self.geo);
        Ok((pblk, len))
    }

    /// Near what the file has before the block, else in its inode's group.
    fn goal(&self, inode: &Inode, lblk: u32) -> Result<u64> {
        let before = match inode.flags().contains(InodeFlags::EXTENTS) {
            true => self.extent_goal(inode, lblk)?,
            false if lblk > 0 => match self.find_indirect(inode, lblk - 1, 1)?.place {
                Place::At(at) => Some(at + 1),
                _ => None,
            },
            false => None,
        };
        Ok(before.unwrap_or_else(|| self.group_first(self.group_of_inode(inode.ino))))
    }

    /// The data is on the device: unwritten blocks are written now, and the length may grow.
    fn finish(&self, handle: &Handle<E>, state: &mut NodeState, pieces: &[Piece], size: u64) -> Result<()> {
        for piece in pieces.iter().filter(|piece| piece.before == Before::Unwritten) {
            self.mark_written(handle, &mut state.inode, piece.lblk, piece.lblk + piece.len, piece.pblk)?;
        }
        let end = pieces.last().map_or(0, |piece| u64::from(piece.lblk + piece.len) << self.geo.block_bits);
        let grown = size.min(end);
        if grown > state.inode.size() {
            state.inode.set_size(grown);
        }
        Ok(())
    }

    /// The data did not get there: the blocks must not show what they held before.
    fn undo(&self, handle: &Handle<E>, state: &mut NodeState, pieces: &[Piece]) -> Result<()> {
        for piece in pieces.iter().filter(|piece| piece.before == Before::Hole) {
            self.remove_blocks(handle, &mut state.inode, piece.lblk, piece.lblk + piece.len)?;
        }
        Ok(())
    }

    /// Frees the blocks of `from..to`. False: the transaction is full, to be continued.
    pub(crate) fn remove_blocks(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        from: u32,
        to: u32,
    ) -> Result<bool> {
        if from >= to {
            return Ok(true);
        }
        match inode.flags().contains(InodeFlags::EXTENTS) {
            true => self.remove_extents(handle, inode, from, to),
            false => self.remove_indirect(handle, inode, from, to),
        }
    }

    pub(crate) fn max_indirect_bytes(&self) -> u64 {
        let by_map = crate::indirect::max_blocks(self.geo.block_bits) << self.geo.block_bits;
        // i_blocks counts 512-byte units in 32 bits, unless the file system has huge files.
        let huge = self.geo.ro_compat.contains(crate::layout::RoCompat::HUGE_FILE);
        by_map.min(if huge { u64::MAX } else { (u64::from(u32::MAX)) << 9 })
    }
}
