//! Giving extents other block numbers, a leaf at a time: what lies behind a range that leaves a file or comes into it.

use super::{Step, node};
use crate::DAMAGED;
use crate::env::Env;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::journal::Handle;
use abi::errno::Result;
use alloc::vec::Vec;
use node::Extent;

impl<E: Env> Fs<E> {
    /// One behind the last block that has a place.
    pub(crate) fn last_extent_end(&self, inode: &Inode) -> Result<u64> {
        let path = self.extent_path(inode, u32::MAX)?;
        let leaf = &path[path.len() - 1];
        let last = leaf.pos.map(|pos| leaf.with(inode, |bytes| node::extent(bytes, pos)));
        Ok(last.map_or(0, |extent| u64::from(extent.end())))
    }

    /// Sees to it that an extent begins at `lblk`, if one covers it.
    pub(crate) fn split_extent(&self, handle: &Handle<E>, inode: &mut Inode, lblk: u32) -> Result<()> {
        let covers = |extent: Extent| extent.lblk < lblk && lblk < extent.end();
        let path = self.extent_path(inode, lblk)?;
        let leaf = &path[path.len() - 1];
        let found = leaf.pos.map(|pos| leaf.with(inode, |bytes| node::extent(bytes, pos)));
        if !found.is_some_and(covers) {
            return Ok(());
        }
        let path = self.extent_room(handle, inode, lblk, 1)?;
        let leaf = &path[path.len() - 1];
        let Some(pos) = leaf.pos else { return Err(DAMAGED) };
        leaf.change(handle, inode, |bytes| {
            let old = node::extent(bytes, pos);
            let skip = lblk - old.lblk;
            let tail = Extent { lblk, len: old.len - skip, pblk: old.pblk + u64::from(skip), ..old };
            node::set_extent(bytes, pos, Extent { len: skip, ..old });
            node::insert_extent(bytes, pos + 1, tail);
        })
    }

    /// Moves the extents from block `at` on, of the first leaf that has any, by `count` to the left, where there is a
    /// hole. Where the next leaf's begin; `None` when that was all.
    pub(crate) fn shift_left(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        at: u64,
        count: u32,
    ) -> Result<Option<u64>> {
        let Ok(from) = u32::try_from(at) else { return Ok(None) };
        let Some((path, pos)) = self.first_extent_from(inode, from)? else { return Ok(None) };
        let leaf = &path[path.len() - 1];
        let end = leaf.change(handle, inode, |bytes| {
            let entries = node::entries(bytes);
            let end = node::extent(bytes, entries - 1).end();
            for index in pos..entries {
                let key = node::key(bytes, index);
                node::set_key(bytes, index, key - count);
            }
            end
        })?;
        self.fix_keys(handle, inode, &path)?;
        Ok(Some(u64::from(end)))
    }

    /// The first extent that begins at or behind `from`: the path to its leaf, and its place there.
    fn first_extent_from(&self, inode: &Inode, from: u32) -> Result<Option<(Vec<Step<E>>, usize)>> {
        let mut at = from;
        loop {
            let path = self.extent_path(inode, at)?;
            let leaf = &path[path.len() - 1];
            let here = leaf.with(inode, |bytes| {
                let first = leaf.pos.unwrap_or(0);
                (first..node::entries(bytes)).find(|index| node::key(bytes, *index) >= from)
            });
            if let Some(pos) = here {
                return Ok(Some((path, pos)));
            }
            let next = path[..path.len() - 1].iter().rev().find_map(|step| {
                let next = step.pos.map_or(0, |pos| pos + 1);
                step.with(inode, |bytes| (next < node::entries(bytes)).then(|| node::key(bytes, next)))
            });
            match next.filter(|next| *next > at) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
    }

    /// Moves the extents of `first..below`, of the last leaf that has any, by `count` to the right, where there is room.
    /// What is left to be moved ends there; `None` when that was all.
    pub(crate) fn shift_right(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        (first, below): (u32, u64),
        count: u32,
    ) -> Result<Option<u64>> {
        if below <= u64::from(first) {
            return Ok(None);
        }
        let path = self.extent_path(inode, (below - 1) as u32)?;
        let leaf = &path[path.len() - 1];
        let Some(pos) = leaf.pos else {
            // The leaf begins behind its key above: what is left to be moved is in the leaves before.
            let above = path.iter().rev().find_map(|step| {
                step.pos.map(|pos| step.with(inode, |bytes| u64::from(node::key(bytes, pos))))
            });
            return Ok(above.filter(|above| *above < below));
        };
        let left = leaf.with(inode, |bytes| (0..=pos).find(|index| node::key(bytes, *index) >= first));
        let Some(left) = left else { return Ok(None) };
        let lowest = leaf.change(handle, inode, |bytes| {
            let lowest = node::key(bytes, left);
            for index in left..=pos {
                let key = node::key(bytes, index);
                node::set_key(bytes, index, key + count);
            }
            lowest
        })?;
        self.fix_keys(handle, inode, &path)?;
        Ok(Some(u64::from(lowest)))
    }
}
