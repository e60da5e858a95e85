//! Changing a file's length and its holes, and deleting files.
//!
//! What takes more than one transaction leaves the file among the orphans meanwhile, with its new length: a crash
//! in between is finished by the next mount.

use crate::balloc::Claim;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::inode::{Node, NodeState};
use crate::journal::Handle;
use crate::layout::InodeFlags;
use crate::map::{Place, REMOVE_CREDITS};
use crate::orphan::ORPHAN_CREDITS;
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;

/// Credits to begin a removal with: a few runs, inode, orphan.
const CREDITS: usize = 4 * REMOVE_CREDITS + ORPHAN_CREDITS + 2;
/// Blocks that one handle of fallocate takes, in runs.
const RUNS: usize = 4;

impl<E: Env> Fs<E> {
    /// Sets a file's length. When it shrinks, cached data beyond the new end is gone already, no write-back of it
    /// runs, and the rest of the last block was zeroed in the cache; the caller excludes writers.
    pub fn truncate(&self, node: &Arc<Node<E>>, size: u64) -> Result<()> {
        let first = self.block_after(size);
        let handle = self.begin(CREDITS)?;
        let mut state = node.state.lock();
        let shrinks = size < state.inode.size().max(node.size());
        node.set_size(size);
        self.unreserve(&mut state, first, u32::MAX);
        state.inode.set_size(size);
        // A longer file may have blocks behind its end from an earlier fallocate: they stay.
        let done = !shrinks || self.remove_blocks(&handle, &mut state.inode, first, u32::MAX)?;
        if !done {
            self.add_orphan(&handle, node)?;
        }
        self.store(&handle, node, &mut state)?;
        drop(state);
        drop(handle);
        if done { Ok(()) } else { self.finish_truncate(node) }
    }

    /// The first block behind a length.
    fn block_after(&self, size: u64) -> u32 {
        u32::try_from(size.div_ceil(self.geo.block_size as u64)).unwrap_or(u32::MAX)
    }

    /// Frees what lies behind the length, in as many transactions as it takes, and takes the file out of the orphans.
    pub(crate) fn finish_truncate(&self, node: &Arc<Node<E>>) -> Result<()> {
        let first = self.block_after(node.state.lock().inode.size());
        self.remove_all(node, first, u32::MAX)?;
        let handle = self.begin(ORPHAN_CREDITS + 1)?;
        let mut state = node.state.lock();
        self.del_orphan(&handle, node)?;
        state.inode.base_mut().dtime.set(0);
        self.store(&handle, node, &mut state)
    }

    /// Frees the blocks of a range, in as many transactions as it takes.
    pub(crate) fn remove_all(&self, node: &Arc<Node<E>>, from: u32, to: u32) -> Result<()> {
        loop {
            let handle = self.begin(CREDITS)?;
            let mut state = node.state.lock();
            let done = self.remove_blocks(&handle, &mut state.inode, from, to)?;
            self.store(&handle, node, &mut state)?;
            if done {
                return Ok(());
            }
            drop(state);
            let tid = handle.tid();
            drop(handle);
            self.commit(tid)?;
        }
    }

    /// Makes the whole blocks within `from..to` bytes a hole; the caller zeroed the parts at both ends, in the cache,
    /// and excludes writers and write-back there.
    pub fn punch_hole(&self, node: &Arc<Node<E>>, from: u64, to: u64) -> Result<()> {
        let first = self.block_after(from);
        let last = u32::try_from(to >> self.geo.block_bits).unwrap_or(u32::MAX);
        self.cover_size(node, to.min(node.size()))?;
        if first >= last {
            return Ok(());
        }
        self.unreserve(&mut node.state.lock(), first, last);
        self.remove_all(node, first, last)
    }

    /// Makes the length on the medium at least `size`: where data became a hole, or was in its place before the file
    /// grew over it, no write-back does that.
    pub fn cover_size(&self, node: &Node<E>, size: u64) -> Result<()> {
        if node.state.lock().inode.size() >= size {
            return Ok(());
        }
        let handle = self.begin(1)?;
        let mut state = node.state.lock();
        if state.inode.size() < size {
            state.inode.set_size(size);
        }
        self.store(&handle, node, &mut state)
    }

    /// Gives the blocks of `from..to` bytes a place without data; they read as zeroes. `grow`: the file becomes that
    /// long. EOPNOTSUPP for files without extents; ENOSPC: a part may have got room. `privileged`: may use the reserve.
    pub fn allocate(
        &self,
        node: &Arc<Node<E>>,
        from: u64,
        to: u64,
        grow: bool,
        privileged: bool,
    ) -> Result<()> {
        let mut at = u32::try_from(from >> self.geo.block_bits).map_err(|_| Errno::EFBIG)?;
        let end = u32::try_from(to.div_ceil(self.geo.block_size as u64)).map_err(|_| Errno::EFBIG)?;
        if !node.state.lock().inode.flags().contains(InodeFlags::EXTENTS) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut tries = 0;
        loop {
            match self.allocate_some(node, at, end, privileged) {
                Ok(next) => at = next,
                Err(Errno::ENOSPC) if tries < 2 && self.room_is_coming() => {
                    tries += 1;
                    self.commit_all()?;
                }
                Err(error) => return Err(error),
            }
            if at >= end {
                break;
            }
        }
        if grow && to > node.size() {
            let handle = self.begin(2)?;
            let mut state = node.state.lock();
            node.grow(to);
            state.inode.set_size(to);
            self.store(&handle, node, &mut state)?;
        }
        Ok(())
    }

    fn allocate_some(&self, node: &Arc<Node<E>>, from: u32, end: u32, privileged: bool) -> Result<u32> {
        let handle = self.begin(CREDITS)?;
        let mut state = node.state.lock();
        let mut at = from;
        let mut failure = None;
        for _ in 0..RUNS {
            if at >= end {
                break;
            }
            match self.allocate_run(&handle, &mut state, at, end, privileged) {
                Ok(len) => at += len,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.store(&handle, node, &mut state)?;
        match failure {
            Some(error) if at == from => Err(error),
            _ => Ok(at),
        }
    }

    fn allocate_run(
        &self,
        handle: &Handle<E>,
        state: &mut NodeState,
        at: u32,
        end: u32,
        privileged: bool,
    ) -> Result<u32> {
        let (count, promised) = state.delayed.run(at, end);
        let run = self.map_inode(&state.inode, at, count)?;
        if run.place != Place::Hole {
            return Ok(run.len);
        }
        let claim = match (promised, privileged) {
            (true, _) => Claim::Promised,
            (false, true) => Claim::Privileged,
            (false, false) => Claim::Plain,
        };
        let (_, len) = self.fill_hole(handle, &mut state.inode, at, run.len, claim, true)?;
        if promised {
            state.delayed.remove(at, at + len);
        }
        Ok(len)
    }

    /// A file is about to be deleted: no data of it gets a place from here on, nor learns which it has. Who has data on
    /// its way then waits for that, before [`Fs::evict`] gives the blocks to others.
    pub fn doom(&self, node: &Node<E>) {
        node.state.lock().deleted = true;
    }

    /// Deletes a file that has no name any more and that nobody uses: its blocks, its attributes, its inode. It is
    /// among the orphans until all is done.
    pub fn evict(&self, node: &Arc<Node<E>>) -> Result<()> {
        let mut state = node.state.lock();
        state.deleted = true;
        self.unreserve(&mut state, 0, u32::MAX);
        let has_blocks = !state.inode.is_fast_symlink(self.geo.block_size)
            && (state.inode.is_regular() || state.inode.is_dir() || state.inode.is_symlink());
        drop(state);
        loop {
            let handle = self.begin(CREDITS + 8)?;
            let mut state = node.state.lock();
            let done = !has_blocks || self.remove_blocks(&handle, &mut state.inode, 0, u32::MAX)?;
            if done && handle.extend(ORPHAN_CREDITS + 8) {
                return self.end_inode(&handle, node, &mut state);
            }
            self.store(&handle, node, &mut state)?;
            drop(state);
            let tid = handle.tid();
            drop(handle);
            self.commit(tid)?;
        }
    }

    fn end_inode(&self, handle: &Handle<E>, node: &Arc<Node<E>>, state: &mut NodeState) -> Result<()> {
        self.drop_attributes(handle, &mut state.inode)?;
        self.del_orphan(handle, node)?;
        let directory = state.inode.is_dir();
        let now = self.env.now_ns().div_euclid(1_000_000_000).clamp(1, i64::from(u32::MAX)) as u32;
        state.inode.set_nlink(0);
        state.inode.set_size(0);
        state.inode.base_mut().dtime.set(now);
        self.store(handle, node, state)?;
        self.free_inode(handle, node.ino, directory)
    }
}
