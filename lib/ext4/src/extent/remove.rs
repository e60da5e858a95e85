//! Taking blocks out of an extent tree: truncation, holes, deletion.

use super::{Step, init_root, node};
use crate::DAMAGED;
use crate::env::Env;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::journal::Handle;
use crate::map::REMOVE_CREDITS;
use abi::errno::Result;
use alloc::vec::Vec;

impl<E: Env> Fs<E> {
    /// Frees the blocks of `from..to`, the last run first. False: the transaction is full; the tree is whole, and
    /// the caller goes on in another.
    pub(crate) fn remove_extents(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        from: u32,
        to: u32,
    ) -> Result<bool> {
        loop {
            if !handle.extend(REMOVE_CREDITS) {
                return Ok(false);
            }
            let path = self.extent_path(inode, to - 1)?;
            let leaf = &path[path.len() - 1];
            let Some(pos) = leaf.pos else { return Ok(true) };
            let old = leaf.with(inode, |bytes| node::extent(bytes, pos));
            if old.end() <= from {
                return Ok(true);
            }
            self.cut(handle, inode, path, old, (old.lblk.max(from), old.end().min(to)))?;
        }
    }

    /// Frees the part `from..to` of the extent at the end of a path.
    fn cut(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        path: Vec<Step<E>>,
        old: node::Extent,
        (from, to): (u32, u32),
    ) -> Result<()> {
        let splits = from > old.lblk && to < old.end();
        let path = if splits { self.extent_room(handle, inode, old.lblk, 1)? } else { path };
        let leaf = &path[path.len() - 1];
        let Some(pos) = leaf.pos else { return Err(DAMAGED) };
        let start = old.pblk + u64::from(from - old.lblk);
        let metadata = !inode.is_regular();
        self.free_run(handle, start, u64::from(to - from), metadata)?;
        inode.add_blocks(-i64::from(to - from), &self.geo);
        let head = node::Extent { len: from - old.lblk, ..old };
        let skip = to - old.lblk;
        let tail = node::Extent { lblk: to, len: old.len - skip, pblk: old.pblk + u64::from(skip), ..old };
        match (head.len > 0, tail.len > 0) {
            (true, true) => leaf.change(handle, inode, |bytes| {
                node::set_extent(bytes, pos, head);
                node::insert_extent(bytes, pos + 1, tail);
            }),
            (true, false) => leaf.change(handle, inode, |bytes| node::set_extent(bytes, pos, head)),
            (false, true) => {
                leaf.change(handle, inode, |bytes| node::set_extent(bytes, pos, tail))?;
                self.fix_keys(handle, inode, &path)
            }
            (false, false) => self.remove_entry(handle, inode, &path),
        }
    }

    /// Removes the entry at the end of a path, and the nodes that become empty.
    fn remove_entry(&self, handle: &Handle<E>, inode: &mut Inode, path: &[Step<E>]) -> Result<()> {
        for level in (0..path.len()).rev() {
            let step = &path[level];
            let pos = step.pos.unwrap_or(0);
            let left = step.change(handle, inode, |bytes| {
                node::remove(bytes, pos);
                node::entries(bytes)
            })?;
            if left > 0 {
                self.fix_keys(handle, inode, &path[..=level])?;
                return self.collapse(handle, inode);
            }
            match &step.block {
                Some(block) => self.free_extent_block(handle, inode, block.nr)?,
                None => init_root(inode),
            }
        }
        Ok(())
    }

    fn free_extent_block(&self, handle: &Handle<E>, inode: &mut Inode, nr: u64) -> Result<()> {
        self.free_run(handle, nr, 1, true)?;
        inode.add_blocks(-1, &self.geo);
        Ok(())
    }

    /// When the entries of all the root's children fit the root, it takes them: e2fsck would ask for that.
    pub(super) fn collapse(&self, handle: &Handle<E>, inode: &mut Inode) -> Result<()> {
        let root = inode.base().block;
        let depth = node::depth(&root);
        if depth == 0 {
            return Ok(());
        }
        let mut all = Vec::new();
        for index in 0..node::entries(&root) {
            let child = self.extent_block(inode, node::child(&root, index), depth - 1)?;
            let room = usize::from(node::ROOT_MAX) * node::ENTRY - all.len();
            let fits = child.with(|bytes| {
                let entries = node::all(bytes);
                all.extend_from_slice(&entries[..entries.len().min(room)]);
                entries.len() <= room
            });
            if !fits {
                return Ok(());
            }
        }
        init_root(inode);
        let new = &mut inode.base_mut().block;
        node::set_depth(new, depth - 1);
        node::put_all(new, &all);
        for index in 0..node::entries(&root) {
            self.free_extent_block(handle, inode, node::child(&root, index))?;
        }
        self.collapse(handle, inode)
    }
}
