//! Allocating and freeing inodes.
//!
//! A file's inode goes to its directory's group, so that what is used together lies together; a directory goes to
//! a group with more free inodes and blocks than the average, so that there is room around it (Orlov's idea), but
//! near its parent when that serves as well.

use crate::DAMAGED;
use crate::bits;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::journal::Handle;
use crate::layout::ROOT_INO;
use abi::Errno;
use abi::errno::Result;
use core::sync::atomic::Ordering;

impl<E: Env> Fs<E> {
    pub(crate) fn group_of_inode(&self, ino: u32) -> u32 {
        (ino.max(1) - 1) / self.geo.inodes_per_group
    }

    /// Takes an inode's number for a new file in directory `parent`. ENOSPC.
    pub(crate) fn alloc_inode(&self, handle: &Handle<E>, parent: u32, directory: bool) -> Result<u32> {
        let home = self.group_of_inode(parent);
        let start = if directory { self.directory_group(parent, home) } else { home };
        for step in 0..self.geo.groups {
            let group = (start + step) % self.geo.groups;
            let state = self.groups[group as usize].state.lock();
            let worth = state.free_inodes() > 0 && (directory || state.usable_blocks() > 0 || step > 0);
            drop(state);
            if worth && let Some(ino) = self.take_inode(handle, group, directory)? {
                return Ok(ino);
            }
        }
        match self.take_inode(handle, home, directory)? {
            Some(ino) => Ok(ino),
            None => Err(Errno::ENOSPC),
        }
    }

    /// Where a directory begins to look.
    fn directory_group(&self, parent: u32, home: u32) -> u32 {
        let groups = self.geo.groups;
        let inodes = (self.free_inodes.load(Ordering::Relaxed).max(0) as u64 / u64::from(groups)) as u32;
        let blocks = (self.free_blocks.load(Ordering::Relaxed).max(0) as u64 / u64::from(groups)) as u32;
        let spread = parent == ROOT_INO;
        let start = if spread { self.next_dir_group.fetch_add(1, Ordering::Relaxed) % groups } else { home };
        let good = |group: &u32| {
            let state = self.groups[*group as usize].state.lock();
            // Around a parent half of the average does.
            let (inodes, blocks) = if spread { (inodes, blocks) } else { (inodes / 2, blocks / 2) };
            state.free_inodes() > 0 && state.free_inodes() >= inodes && state.usable_blocks() >= blocks
        };
        (0..groups).map(|step| (start + step) % groups).find(good).unwrap_or(home)
    }

    fn take_inode(&self, handle: &Handle<E>, group: u32, directory: bool) -> Result<Option<u32>> {
        let bitmap = self.inode_bitmap(handle, group)?;
        handle.join(&bitmap)?;
        handle.join(self.descriptor(group))?;
        let per = self.geo.inodes_per_group;
        let from = if group == 0 { self.geo.first_ino - 1 } else { 0 };
        let mut state = self.groups[group as usize].state.lock();
        let found = bitmap.change(|bytes| {
            let bit = bits::next_zero(bytes, from, per);
            (bit < per).then(|| {
                let around = self.table_neighbours(bit);
                let alone = bits::next_set(bytes, around.start, around.end) == around.end;
                bits::fill(bytes, bit, 1, true);
                (bit, alone)
            })
        });
        let Some((bit, alone)) = found else { return Ok(None) };
        let free = state.free_inodes().saturating_sub(1);
        state.set_free_inodes(free);
        if directory {
            let dirs = state.used_dirs() + 1;
            state.set_used_dirs(dirs);
        }
        // Inodes behind the last used one are not looked at by anybody.
        let unused = state.itable_unused().min(per - 1 - bit);
        state.set_itable_unused(unused);
        drop(state);
        self.free_inodes.fetch_sub(1, Ordering::AcqRel);
        let ino = group * per + bit + 1;
        if alone {
            self.begin_table_block(ino)?;
        }
        Ok(Some(ino))
    }

    /// Gives an inode's number back.
    pub(crate) fn free_inode(&self, handle: &Handle<E>, ino: u32, directory: bool) -> Result<()> {
        if ino < self.geo.first_ino || ino > self.geo.inodes {
            self.fail("freeing a reserved inode", ino);
            return Err(DAMAGED);
        }
        let (group, bit) = (self.group_of_inode(ino), (ino - 1) % self.geo.inodes_per_group);
        let bitmap = self.inode_bitmap(handle, group)?;
        handle.join(&bitmap)?;
        handle.join(self.descriptor(group))?;
        let mut state = self.groups[group as usize].state.lock();
        let was_used = bitmap.change(|bytes| {
            let used = bits::is_set(bytes, bit);
            bits::fill(bytes, bit, 1, false);
            used
        });
        if !was_used {
            drop(state);
            self.fail("freeing an inode that is free", ino);
            return Err(DAMAGED);
        }
        let free = state.free_inodes() + 1;
        state.set_free_inodes(free);
        if directory {
            let dirs = state.used_dirs().saturating_sub(1);
            state.set_used_dirs(dirs);
        }
        drop(state);
        self.free_inodes.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}
