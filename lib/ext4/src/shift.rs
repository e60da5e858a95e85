//! Ranges that fallocate(2) moves or empties: zeroed in place, taken out of a file, put into it.
//!
//! Nothing here touches data: a zeroed range becomes unwritten blocks, and what lies behind a range that goes or comes
//! keeps its blocks and gets other numbers, one leaf of the extent tree at a time. A shift to the left begins at the
//! left, one to the right at the right, so that the tree is sorted after each leaf and a transaction may end there.
//! A crash in between leaves a part shifted, as on Linux.

use crate::env::{Env, Lock};
use crate::extent::node::MAX_LEN;
use crate::fs::Fs;
use crate::inode::{Inode, Node};
use crate::journal::Handle;
use crate::layout::InodeFlags;
use crate::map::{Place, REMOVE_CREDITS};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;

/// Credits to begin with: a few leaves with what is above them, and the inode.
const CREDITS: usize = 4 * REMOVE_CREDITS + 2;

impl<E: Env> Fs<E> {
    /// Whether ranges of the file can be moved and emptied: it has extents.
    pub fn has_extents(&self, node: &Node<E>) -> bool {
        node.state.lock().inode.flags().contains(InodeFlags::EXTENTS)
    }

    /// Lets the blocks of `from..to` bytes read as zeroes (FALLOC_FL_ZERO_RANGE): those that have a place keep it, the
    /// others get one; the parts of blocks at both ends are the caller's. Nothing of the whole blocks is cached, and
    /// the caller excludes writers and write-back there. Errors and the rest as [`Fs::allocate`].
    pub fn zero_range(
        &self,
        node: &Arc<Node<E>>,
        (from, to): (u64, u64),
        grow: bool,
        privileged: bool,
    ) -> Result<()> {
        self.allocate(node, from, to, grow, privileged)?;
        // No write-back of what was there makes the file that long any more.
        self.cover_size(node, to.min(node.size()))?;
        let block = self.geo.block_size as u64;
        let first = u32::try_from(from.div_ceil(block)).map_err(|_| Errno::EFBIG)?;
        let end = u32::try_from(to / block).map_err(|_| Errno::EFBIG)?;
        self.in_steps(node, u64::from(first), |handle, inode, at| {
            let at = at as u32;
            if at >= end {
                return Ok(None);
            }
            let run = self.find_extent(inode, at, (end - at).min(MAX_LEN - 1))?;
            if let Place::At(_) = run.place {
                self.convert_run(handle, inode, at, run.len, true)?;
            }
            Ok(Some(u64::from(at + run.len)))
        })
    }

    /// Takes `from..to` bytes, whole blocks within the file, out of it: what follows moves up and the file becomes shorter
    /// (FALLOC_FL_COLLAPSE_RANGE). From `from` on nothing is cached, and the caller excludes all that reads or writes
    /// there. EOPNOTSUPP without extents; EINVAL for other ranges.
    pub fn collapse_range(&self, node: &Arc<Node<E>>, from: u64, to: u64) -> Result<()> {
        let (first, end) = self.whole_blocks(node, from, to)?;
        if to >= node.size() {
            return Err(Errno::EINVAL);
        }
        self.cover_size(node, node.size())?;
        self.unreserve(&mut node.state.lock(), first, u32::MAX);
        self.remove_all(node, first, end)?;
        self.in_steps(node, u64::from(end), |handle, inode, at| {
            self.shift_left(handle, inode, at, end - first)
        })?;
        self.resize_to(node, node.size() - (to - from))
    }

    /// Puts a hole of `from..to` bytes, whole blocks that begin within the file, into it: what was there moves behind it
    /// (FALLOC_FL_INSERT_RANGE). The rest as [`Fs::collapse_range`]; EFBIG when the file would become too long.
    pub fn insert_range(&self, node: &Arc<Node<E>>, from: u64, to: u64) -> Result<()> {
        let (first, end) = self.whole_blocks(node, from, to)?;
        if from >= node.size() {
            return Err(Errno::EINVAL);
        }
        let size = node.size().checked_add(to - from).filter(|size| *size <= self.geo.max_bytes());
        let size = size.ok_or(Errno::EFBIG)?;
        let count = end - first;
        let last = self.last_extent_end(&node.state.lock().inode)?;
        // Blocks that lie behind the end count as well.
        if last > u64::from(u32::MAX - count) {
            return Err(Errno::EINVAL);
        }
        self.unreserve(&mut node.state.lock(), first, u32::MAX);
        // Longer first: nothing is behind the end of the file, wherever this stops.
        self.resize_to(node, size)?;
        self.in_steps(node, 0, |handle, inode, _| self.split_extent(handle, inode, first).map(|()| None))?;
        self.in_steps(node, 1 << 32, |handle, inode, below| {
            self.shift_right(handle, inode, (first, below), count)
        })
    }

    fn whole_blocks(&self, node: &Node<E>, from: u64, to: u64) -> Result<(u32, u32)> {
        if !self.has_extents(node) {
            return Err(Errno::EOPNOTSUPP);
        }
        let block = self.geo.block_size as u64;
        if !from.is_multiple_of(block) || !to.is_multiple_of(block) || from >= to {
            return Err(Errno::EINVAL);
        }
        let number = |at: u64| u32::try_from(at >> self.geo.block_bits).map_err(|_| Errno::EFBIG);
        Ok((number(from)?, number(to)?))
    }

    fn resize_to(&self, node: &Node<E>, size: u64) -> Result<()> {
        let handle = self.begin(1)?;
        let mut state = node.state.lock();
        node.set_size(size);
        state.inode.set_size(size);
        self.store(&handle, node, &mut state)
    }

    /// Repeats `step`, which says where to go on, until it says `None`, under as many handles as it takes.
    fn in_steps(
        &self,
        node: &Arc<Node<E>>,
        start: u64,
        step: impl Fn(&Handle<E>, &mut Inode, u64) -> Result<Option<u64>>,
    ) -> Result<()> {
        let mut at = start;
        loop {
            let handle = self.begin(CREDITS)?;
            let mut state = node.state.lock();
            let mut result = Ok(Some(at));
            while let Ok(Some(next)) = result {
                at = next;
                if !handle.extend(REMOVE_CREDITS) {
                    break;
                }
                result = step(&handle, &mut state.inode, at);
            }
            self.store(&handle, node, &mut state)?;
            if result?.is_none() {
                return Ok(());
            }
            drop(state);
            let tid = handle.tid();
            drop(handle);
            self.commit(tid)?;
        }
    }
}
