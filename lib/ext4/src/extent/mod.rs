//! Extent trees: which blocks of a file are where, as runs.
//!
//! **Interface.** [`Fs::find_extent`], [`Fs::insert_extent`], [`Fs::mark_written`], [`Fs::remove_extents`]. All
//! change the inode in memory; the caller stores it with the same handle.
//!
//! **Idea.** Every change looks its leaf up by a path from the root and makes room before it changes anything, one
//! level at a time: a node that is full is split when its parent has room, and the root grows when all are
//! full. So a failure (no block left) always finds a tree that is whole.

pub mod node;
mod remove;
mod shift;

use crate::DAMAGED;
use crate::balloc::Claim;
use crate::cache::{BlockRef, Seal};
use crate::crc::crc32c;
use crate::env::Env;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::journal::Handle;
use crate::layout::{le32, put32};
use crate::map::{Place, Run};
use abi::errno::Result;
use alloc::vec::Vec;
pub use node::Extent;

/// The deepest tree that jbd2-era ext4 makes.
const MAX_DEPTH: u16 = 5;

/// The checksum behind a block's entries.
pub(crate) fn seal(seed: u32, bytes: &mut [u8]) {
    let at = node::HEADER + node::ENTRY * node::max(bytes);
    if at + 4 <= bytes.len() {
        let crc = crc32c(seed, &bytes[..at]);
        put32(bytes, at, crc);
    }
}

fn csum_good(seed: u32, bytes: &[u8]) -> bool {
    let at = node::HEADER + node::ENTRY * node::max(bytes);
    at + 4 <= bytes.len() && crc32c(seed, &bytes[..at]) == le32(bytes, at)
}

/// One level of a path: the node (`None`: the root) and the entry taken, if there is one at or before the block.
pub(crate) struct Step<E: Env> {
    block: Option<BlockRef<E>>,
    pos: Option<usize>,
}

impl<E: Env> Step<E> {
    fn with<R>(&self, inode: &Inode, action: impl FnOnce(&[u8]) -> R) -> R {
        match &self.block {
            Some(block) => block.with(action),
            None => action(&inode.base().block),
        }
    }

    /// Changes the node; a block joins the transaction first.
    fn change<R>(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        action: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R> {
        match &self.block {
            Some(block) => {
                handle.join(block)?;
                Ok(block.change(action))
            }
            None => Ok(action(&mut inode.base_mut().block)),
        }
    }

    fn room(&self, inode: &Inode) -> usize {
        self.with(inode, |node| node::max(node).saturating_sub(node::entries(node)))
    }
}

/// An empty root.
pub(crate) fn init_root(inode: &mut Inode) {
    let block = &mut inode.base_mut().block;
    block.fill(0);
    node::init(block, node::ROOT_MAX, 0);
}

impl<E: Env> Fs<E> {
    fn extent_block(&self, inode: &Inode, nr: u64, depth: u16) -> Result<BlockRef<E>> {
        let block = self.read(nr)?;
        let checked = block.verify(Seal::Extents(inode.seed), |bytes| {
            let sum = !self.geo.has_csum() || csum_good(inode.seed, bytes);
            let good = sum && node::is_good(bytes, depth, |first, len| self.valid_data(first, len));
            if good { Ok(()) } else { Err(DAMAGED) }
        });
        // Good once, but maybe for another place of a damaged tree.
        let fits = block.with(|bytes| node::magic(bytes) == node::MAGIC && node::depth(bytes) == depth);
        if checked.is_err() || !fits {
            self.fail("extent block", inode.ino);
            return Err(DAMAGED);
        }
        Ok(block)
    }

    /// The path to the leaf where `lblk` is or would be.
    fn extent_path(&self, inode: &Inode, lblk: u32) -> Result<Vec<Step<E>>> {
        let root = &inode.base().block;
        let depth = node::depth(root);
        let good = depth <= MAX_DEPTH && node::is_good(root, depth, |first, len| self.valid_data(first, len));
        if !good {
            self.fail("extent root", inode.ino);
            return Err(DAMAGED);
        }
        let mut path = Vec::with_capacity(usize::from(depth) + 1);
        path.push(Step { block: None, pos: node::search(root, lblk) });
        for level in (0..depth).rev() {
            let above = &path[path.len() - 1];
            // Before the first key the first subtree is where it would be.
            let child = above.with(inode, |bytes| node::child(bytes, above.pos.unwrap_or(0)));
            let block = self.extent_block(inode, child, level)?;
            let pos = block.with(|bytes| node::search(bytes, lblk));
            path.push(Step { block: Some(block), pos });
        }
        Ok(path)
    }

    /// Where `lblk` is, and for how many blocks (at most `max`) the same holds.
    pub(crate) fn find_extent(&self, inode: &Inode, lblk: u32, max: u32) -> Result<Run> {
        let path = self.extent_path(inode, lblk)?;
        let leaf = &path[path.len() - 1];
        let found = leaf.pos.map(|pos| leaf.with(inode, |bytes| node::extent(bytes, pos)));
        if let Some(extent) = found
            && lblk < extent.end()
        {
            let skip = lblk - extent.lblk;
            let at = extent.pblk + u64::from(skip);
            let place = if extent.unwritten { Place::Unwritten(at) } else { Place::At(at) };
            return Ok(Run { place, len: max.min(extent.len - skip) });
        }
        // A hole as far as the next key of any level.
        let next = path.iter().rev().find_map(|step| {
            let next = step.pos.map_or(0, |pos| pos + 1);
            step.with(inode, |bytes| (next < node::entries(bytes)).then(|| node::key(bytes, next)))
        });
        let next = next.filter(|next| *next > lblk);
        Ok(Run { place: Place::Hole, len: next.map_or(max, |next| max.min(next - lblk)) })
    }

    /// The end of the last run at or before `lblk`, as a goal for the allocator.
    pub(crate) fn extent_goal(&self, inode: &Inode, lblk: u32) -> Result<Option<u64>> {
        let path = self.extent_path(inode, lblk)?;
        let leaf = &path[path.len() - 1];
        let before = leaf.pos.map(|pos| leaf.with(inode, |bytes| node::extent(bytes, pos)));
        Ok(before.map(|extent| extent.pblk + u64::from(lblk - extent.lblk)))
    }

    /// Enters a run where there is a hole.
    pub(crate) fn insert_extent(&self, handle: &Handle<E>, inode: &mut Inode, new: Extent) -> Result<()> {
        let path = self.extent_path(inode, new.lblk)?;
        let leaf = &path[path.len() - 1];
        let (left, right) = leaf.with(inode, |bytes| {
            let next = leaf.pos.map_or(0, |pos| pos + 1);
            let right = (next < node::entries(bytes)).then(|| (next, node::extent(bytes, next)));
            (leaf.pos.map(|pos| (pos, node::extent(bytes, pos))), right)
        });
        let overlaps = left.is_some_and(|(_, left)| left.end() > new.lblk)
            || right.is_some_and(|(_, right)| new.end() > right.lblk);
        if overlaps {
            self.fail("extents overlap", inode.ino);
            return Err(DAMAGED);
        }
        if let Some((pos, left)) = left
            && let Some(mut joined) = left.joined(&new)
        {
            let both = right.and_then(|(next, right)| joined.joined(&right).map(|all| (next, all)));
            leaf.change(handle, inode, |bytes| {
                if let Some((next, all)) = both {
                    joined = all;
                    node::remove(bytes, next);
                }
                node::set_extent(bytes, pos, joined);
            })?;
            return if both.is_some() { self.collapse(handle, inode) } else { Ok(()) };
        }
        if let Some((next, right)) = right
            && let Some(joined) = new.joined(&right)
        {
            leaf.change(handle, inode, |bytes| node::set_extent(bytes, next, joined))?;
            return self.fix_keys(handle, inode, &path);
        }
        let path = self.extent_room(handle, inode, new.lblk, 1)?;
        let leaf = &path[path.len() - 1];
        let next = leaf.pos.map_or(0, |pos| pos + 1);
        leaf.change(handle, inode, |bytes| node::insert_extent(bytes, next, new))?;
        self.fix_keys(handle, inode, &path)
    }

    /// After the first entry of a node changed: the keys above.
    fn fix_keys(&self, handle: &Handle<E>, inode: &mut Inode, path: &[Step<E>]) -> Result<()> {
        for level in (1..path.len()).rev() {
            let first = path[level].with(inode, |bytes| node::key(bytes, 0));
            let above = &path[level - 1];
            let pos = above.pos.unwrap_or(0);
            if above.with(inode, |bytes| node::key(bytes, pos)) != first {
                above.change(handle, inode, |bytes| node::set_key(bytes, pos, first))?;
            }
            if pos > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Makes room for `need` entries in the leaf of `lblk`; the path to it.
    fn extent_room(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        lblk: u32,
        need: usize,
    ) -> Result<Vec<Step<E>>> {
        // Each round makes a level or a node; a tree is at most six high, so this ends.
        for _ in 0..4 * MAX_DEPTH {
            let path = self.extent_path(inode, lblk)?;
            let leaf = path.len() - 1;
            if path[leaf].room(inode) >= need {
                return Ok(path);
            }
            match (0..leaf).rev().find(|level| path[*level].room(inode) > 0) {
                Some(level) => self.split(handle, inode, &path, level + 1)?,
                None => self.grow_tree(handle, inode, &path)?,
            }
        }
        self.fail("extent tree without end", inode.ino);
        Err(DAMAGED)
    }

    fn new_extent_block(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        goal: u64,
        depth: u16,
    ) -> Result<BlockRef<E>> {
        let (nr, _) = self.alloc_blocks(handle, goal, 1, Claim::Reserve)?;
        let block = self.cache.blank(&self.env, nr)?;
        block.set_new_seal(Seal::Extents(inode.seed));
        handle.join(&block)?;
        let max = (self.geo.block_size - node::HEADER) / node::ENTRY;
        block.change(|bytes| node::init(bytes, max as u16, depth));
        inode.add_blocks(1, &self.geo);
        Ok(block)
    }

    fn tree_goal(&self, inode: &Inode) -> u64 {
        let root = &inode.base().block;
        match node::entries(root) {
            0 => self.group_first(self.group_of_inode(inode.ino)),
            _ if node::depth(root) > 0 => node::child(root, 0),
            _ => node::extent(root, 0).pblk,
        }
    }

    /// The node of `level` gives its upper half to a new one behind it. Files mostly grow at their end: there only
    /// the last entry moves, so that nodes stay full.
    fn split(&self, handle: &Handle<E>, inode: &mut Inode, path: &[Step<E>], level: usize) -> Result<()> {
        let (step, above) = (&path[level], &path[level - 1]);
        let (count, depth) = step.with(inode, |bytes| (node::entries(bytes), node::depth(bytes)));
        if count < 2 {
            self.fail("extent node too small", inode.ino);
            return Err(DAMAGED);
        }
        let at_end = step.pos == Some(count - 1)
            && above.pos == above.with(inode, |b| node::entries(b).checked_sub(1));
        let cut = if at_end { count - 1 } else { count / 2 };
        let goal = step.block.as_ref().map_or(0, |block| block.nr);
        let new = self.new_extent_block(handle, inode, goal, depth)?;
        let tail = step.change(handle, inode, |bytes| node::take_tail(bytes, cut))?;
        let first = new.change(|bytes| {
            node::put_all(bytes, &tail);
            node::key(bytes, 0)
        });
        let next = above.pos.map_or(0, |pos| pos + 1);
        let entry = node::Index { lblk: first, child: new.nr };
        above.change(handle, inode, |bytes| node::insert_index(bytes, next, entry))
    }

    /// The root moves to a block of its own; the new root refers to it.
    fn grow_tree(&self, handle: &Handle<E>, inode: &mut Inode, path: &[Step<E>]) -> Result<()> {
        let depth = path.len() as u16 - 1;
        if depth >= MAX_DEPTH {
            self.fail("extent tree too deep", inode.ino);
            return Err(DAMAGED);
        }
        let goal = self.tree_goal(inode);
        let block = self.new_extent_block(handle, inode, goal, depth)?;
        let root = inode.base().block;
        let first = node::key(&root, 0);
        block.change(|bytes| node::put_all(bytes, node::all(&root)));
        init_root(inode);
        let root = &mut inode.base_mut().block;
        node::set_depth(root, depth + 1);
        node::insert_index(root, 0, node::Index { lblk: first, child: block.nr });
        Ok(())
    }

    /// What of `from..to` is allocated but unwritten becomes written, as far as it still is where `at` says.
    pub(crate) fn mark_written(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        from: u32,
        to: u32,
        at: u64,
    ) -> Result<()> {
        let mut lblk = from;
        while lblk < to {
            let run = self.find_extent(inode, lblk, to - lblk)?;
            let expected = at + u64::from(lblk - from);
            if run.place == Place::Unwritten(expected) {
                self.convert_run(handle, inode, lblk, run.len, false)?;
            }
            lblk += run.len;
        }
        Ok(())
    }

    /// Makes a part of one run unwritten, or written, which it is not yet. Of blocks that become unwritten at most
    /// `MAX_LEN - 1`.
    pub(crate) fn convert_run(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        lblk: u32,
        len: u32,
        unwritten: bool,
    ) -> Result<()> {
        let path = self.extent_room(handle, inode, lblk, 2)?;
        let leaf = &path[path.len() - 1];
        let Some(pos) = leaf.pos else { return Err(DAMAGED) };
        leaf.change(handle, inode, |bytes| {
            let old = node::extent(bytes, pos);
            let skip = lblk - old.lblk;
            let middle = Extent { lblk, len, pblk: old.pblk + u64::from(skip), unwritten };
            let rest = old.len - skip - len;
            node::set_extent(bytes, pos, middle);
            if rest > 0 {
                let pblk = middle.pblk + u64::from(len);
                node::insert_extent(bytes, pos + 1, Extent { lblk: lblk + len, len: rest, pblk, ..old });
            }
            let mut here = pos;
            if skip > 0 {
                node::insert_extent(bytes, pos, Extent { len: skip, ..old });
                here += 1;
            }
            join_at(bytes, here);
            if here > 0 {
                join_at(bytes, here - 1);
            }
        })?;
        self.collapse(handle, inode)
    }
}

/// Makes one of entry `index` and the next, when they are.
fn join_at(bytes: &mut [u8], index: usize) {
    if index + 1 < node::entries(bytes)
        && let Some(joined) = node::extent(bytes, index).joined(&node::extent(bytes, index + 1))
    {
        node::remove(bytes, index + 1);
        node::set_extent(bytes, index, joined);
    }
}
