//! Block groups: descriptors, bitmaps, and where a file system keeps its own blocks.
//!
//! The descriptor in memory is the truth; its block gets a copy, with all checksums, when a transaction closes.

use crate::bits;
use crate::cache::{BlockRef, Seal};
use crate::crc::{crc16, crc32c};
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::journal::{Freed, Handle};
use crate::layout::*;
use crate::{BAD_CSUM, DAMAGED};
use abi::errno::Result;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use zerocopy::IntoBytes;

/// What changes of a group.
pub(crate) struct GroupState {
    pub raw: GroupRaw,
    /// Blocks freed by transactions that are not durable: (first, length), sorted.
    pub busy: Vec<(u32, u32)>,
    pub busy_blocks: u32,
}

pub(crate) struct Group<E: Env> {
    pub state: E::Lock<GroupState>,
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
}

impl GroupState {
    pub fn free_blocks(&self) -> u32 {
        u32::from(self.raw.free_blocks_lo.get()) | u32::from(self.raw.free_blocks_hi.get()) << 16
    }

    pub fn set_free_blocks(&mut self, count: u32) {
        self.raw.free_blocks_lo.set(count as u16);
        self.raw.free_blocks_hi.set((count >> 16) as u16);
    }

    pub fn free_inodes(&self) -> u32 {
        u32::from(self.raw.free_inodes_lo.get()) | u32::from(self.raw.free_inodes_hi.get()) << 16
    }

    pub fn set_free_inodes(&mut self, count: u32) {
        self.raw.free_inodes_lo.set(count as u16);
        self.raw.free_inodes_hi.set((count >> 16) as u16);
    }

    pub fn used_dirs(&self) -> u32 {
        u32::from(self.raw.used_dirs_lo.get()) | u32::from(self.raw.used_dirs_hi.get()) << 16
    }

    pub fn set_used_dirs(&mut self, count: u32) {
        self.raw.used_dirs_lo.set(count as u16);
        self.raw.used_dirs_hi.set((count >> 16) as u16);
    }

    pub fn itable_unused(&self) -> u32 {
        u32::from(self.raw.itable_unused_lo.get()) | u32::from(self.raw.itable_unused_hi.get()) << 16
    }

    pub fn set_itable_unused(&mut self, count: u32) {
        self.raw.itable_unused_lo.set(count as u16);
        self.raw.itable_unused_hi.set((count >> 16) as u16);
    }

    pub fn has_flag(&self, flag: u16) -> bool {
        self.raw.flags.get() & flag != 0
    }

    pub fn clear_flag(&mut self, flag: u16) {
        self.raw.flags.set(self.raw.flags.get() & !flag);
    }

    /// Blocks that may be allocated now.
    pub fn usable_blocks(&self) -> u32 {
        self.free_blocks().saturating_sub(self.busy_blocks)
    }
}

fn is_power(mut number: u32, base: u32) -> bool {
    while number > 1 && number.is_multiple_of(base) {
        number /= base;
    }
    number == 1
}

impl<E: Env> Fs<E> {
    /// Whether a group has a copy of superblock and descriptors.
    pub(crate) fn has_super(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.geo.compat.contains(Compat::SPARSE_SUPER2) {
            let at = SUPER_OFFSET % self.geo.block_size;
            return self.super_block.with(|b| (0..2).any(|i| le32(b, at + 0x24c + 4 * i) == group));
        }
        !self.geo.ro_compat.contains(RoCompat::SPARSE_SUPER)
            || group == 1
            || [3, 5, 7].iter().any(|base| is_power(group, *base))
    }

    pub(crate) fn group_first(&self, group: u32) -> u64 {
        self.geo.first_data_block + u64::from(group) * u64::from(self.geo.blocks_per_group)
    }

    pub(crate) fn group_len(&self, group: u32) -> u32 {
        let rest = self.geo.blocks - self.group_first(group);
        rest.min(u64::from(self.geo.blocks_per_group)) as u32
    }

    pub(crate) fn descs_per_block(&self) -> u32 {
        (self.geo.block_size / self.geo.desc_size) as u32
    }

    /// Where block `index` of the descriptor table is.
    fn desc_block(&self, index: u32) -> u64 {
        if !self.geo.incompat.contains(Incompat::META_BG) || index < self.geo.first_meta_bg {
            return self.geo.first_data_block + 1 + u64::from(index);
        }
        let group = index.saturating_mul(self.descs_per_block());
        self.group_first(group) + u64::from(self.has_super(group))
    }

    /// Blocks at the start of a group that hold superblock and descriptors.
    fn base_blocks(&self, group: u32) -> u32 {
        let own = u32::from(self.has_super(group));
        let meta = self.geo.incompat.contains(Incompat::META_BG);
        let per = self.descs_per_block();
        if !meta || group / per < self.geo.first_meta_bg {
            if own == 0 {
                return 0;
            }
            let table = match meta {
                true => self.geo.first_meta_bg,
                false => self.geo.groups.div_ceil(per),
            };
            return own + table + self.geo.reserved_gdt;
        }
        // One block of descriptors in the first, second and last group of each meta group.
        let place = group % per;
        own + u32::from(place == 0 || place == 1 || place == per - 1)
    }

    pub(crate) fn load_groups(&mut self) -> Result<()> {
        let per = self.descs_per_block();
        for index in 0..self.geo.groups.div_ceil(per) {
            let block = self.read(self.desc_block(index))?;
            for group in index * per..(index * per + per).min(self.geo.groups) {
                let mut raw = GroupRaw { ..zerocopy::FromZeros::new_zeroed() };
                let at = (group % per) as usize * self.geo.desc_size;
                let len = self.geo.desc_size.min(64);
                let good = block.with(|bytes| {
                    raw.as_mut_bytes()[..len].copy_from_slice(&bytes[at..at + len]);
                    self.desc_csum(group, &bytes[at..at + self.geo.desc_size])
                        .is_none_or(|csum| csum == raw.checksum.get())
                });
                if !good {
                    self.env.warn(format_args!("descriptor of group {group}: bad checksum"));
                    return Err(BAD_CSUM);
                }
                self.add_group(group, raw)?;
            }
            self.descriptors.push(block);
        }
        Ok(())
    }

    fn add_group(&mut self, group: u32, raw: GroupRaw) -> Result<()> {
        let block_bitmap = join(raw.block_bitmap_lo, raw.block_bitmap_hi.get());
        let inode_bitmap = join(raw.inode_bitmap_lo, raw.inode_bitmap_hi.get());
        let inode_table = join(raw.inode_table_lo, raw.inode_table_hi.get());
        let state = GroupState { raw, busy: Vec::new(), busy_blocks: 0 };
        let geo = &self.geo;
        let good = geo.valid_blocks(block_bitmap, 1)
            && geo.valid_blocks(inode_bitmap, 1)
            && geo.valid_blocks(inode_table, self.table_blocks())
            && state.free_blocks() <= self.group_len(group)
            && state.free_inodes() <= geo.inodes_per_group
            && state.itable_unused() <= geo.inodes_per_group;
        if !good {
            self.env.warn(format_args!("descriptor of group {group}: out of range"));
            return Err(DAMAGED);
        }
        self.free_blocks.fetch_add(i64::from(state.free_blocks()), Ordering::Relaxed);
        self.free_inodes.fetch_add(i64::from(state.free_inodes()), Ordering::Relaxed);
        self.groups.push(Group { state: E::Lock::new(state), block_bitmap, inode_bitmap, inode_table });
        Ok(())
    }

    pub(crate) fn table_blocks(&self) -> u64 {
        (self.geo.inodes_per_group as u64 * self.geo.inode_size as u64).div_ceil(self.geo.block_size as u64)
    }

    /// Blocks that never hold data: superblocks, descriptors, bitmaps, inode tables.
    pub(crate) fn count_overhead(&self) -> u64 {
        let per_group = 2 + self.table_blocks();
        let base: u64 = (0..self.geo.groups).map(|group| u64::from(self.base_blocks(group))).sum();
        self.geo.first_data_block + base + per_group * u64::from(self.geo.groups)
    }

    /// The checksum of a descriptor, if the file system has them.
    fn desc_csum(&self, group: u32, desc: &[u8]) -> Option<u16> {
        let number = group.to_le_bytes();
        let (head, tail) = desc.split_at(GROUP_CSUM_OFFSET);
        if self.geo.has_csum() {
            let crc = crc32c(crc32c(self.geo.csum_seed, &number), head);
            return Some(crc32c(crc32c(crc, &[0, 0]), &tail[2..]) as u16);
        }
        if self.geo.ro_compat.contains(RoCompat::GDT_CSUM) {
            let crc = crc16(crc16(crc16(!0, &self.geo.uuid), &number), head);
            return Some(crc16(crc, &tail[2..]));
        }
        None
    }

    /// The block of the table that has a group's descriptor.
    pub(crate) fn descriptor(&self, group: u32) -> &BlockRef<E> {
        &self.descriptors[(group / self.descs_per_block()) as usize]
    }

    /// A bitmap's checksum goes to the descriptor, then the descriptor to its block.
    fn seal_bitmap(&self, group: u32, bitmap: &BlockRef<E>, inodes: bool) {
        let crc = bitmap.with(|bytes| self.bitmap_csum(bytes, inodes));
        if self.geo.has_csum() {
            let mut state = self.groups[group as usize].state.lock();
            let (lo, hi) = (crc as u16, (crc >> 16) as u16);
            let raw = &mut state.raw;
            match inodes {
                true => (raw.inode_bitmap_csum_lo.set(lo), raw.inode_bitmap_csum_hi.set(hi)),
                false => (raw.block_bitmap_csum_lo.set(lo), raw.block_bitmap_csum_hi.set(hi)),
            };
        }
    }

    pub(crate) fn seal_descriptor(&self, group: u32) {
        let size = self.geo.desc_size;
        let at = (group % self.descs_per_block()) as usize * size;
        let raw = self.groups[group as usize].state.lock().raw;
        self.descriptor(group).change(|bytes| {
            let len = size.min(64);
            bytes[at..at + len].copy_from_slice(&raw.as_bytes()[..len]);
            if let Some(csum) = self.desc_csum(group, &bytes[at..at + size]) {
                put16(bytes, at + GROUP_CSUM_OFFSET, csum);
            }
        });
    }

    fn bitmap_csum(&self, bitmap: &[u8], inodes: bool) -> u32 {
        let bits = if inodes { self.geo.inodes_per_group } else { self.geo.blocks_per_group };
        crc32c(self.geo.csum_seed, bitmap.get(..bits as usize / 8).unwrap_or(bitmap))
    }

    /// Whether a bitmap has the checksum that its descriptor says.
    fn bitmap_csum_good(&self, raw: &GroupRaw, bitmap: &[u8], inodes: bool) -> bool {
        if !self.geo.has_csum() {
            return true;
        }
        let crc = self.bitmap_csum(bitmap, inodes);
        let (lo, hi) = match inodes {
            true => (raw.inode_bitmap_csum_lo, raw.inode_bitmap_csum_hi),
            false => (raw.block_bitmap_csum_lo, raw.block_bitmap_csum_hi),
        };
        let mask = if self.geo.desc_size >= 64 { !0 } else { 0xffff };
        let stored = u32::from(lo.get()) | u32::from(hi.get()) << 16;
        stored & mask == crc & mask
    }

    /// A group's bitmap of blocks, made now if it never was; for changing it with the handle.
    pub(crate) fn block_bitmap(&self, handle: &Handle<E>, group: u32) -> Result<BlockRef<E>> {
        let nr = self.groups[group as usize].block_bitmap;
        if self.is_uninit(group, GROUP_BLOCK_UNINIT) {
            let _one = self.orphans.lock();
            if self.is_uninit(group, GROUP_BLOCK_UNINIT) {
                return self.make_block_bitmap(handle, group);
            }
        }
        let block = self.read(nr)?;
        let state = self.groups[group as usize].state.lock();
        let (raw, expected) = (state.raw, state.free_blocks());
        drop(state);
        let checked = block.verify(Seal::BlockBitmap(group), |bytes| {
            if !self.bitmap_csum_good(&raw, bytes, false) {
                return Err(BAD_CSUM);
            }
            let free = bits::count_zeroes(bytes, self.group_len(group));
            if free == expected { Ok(()) } else { Err(DAMAGED) }
        });
        checked.inspect_err(|_| self.fail("block bitmap", 0))?;
        Ok(block)
    }

    fn is_uninit(&self, group: u32, flag: u16) -> bool {
        self.geo.has_group_csum() && self.groups[group as usize].state.lock().has_flag(flag)
    }

    fn make_block_bitmap(&self, handle: &Handle<E>, group: u32) -> Result<BlockRef<E>> {
        let place = &self.groups[group as usize];
        let block = self.cache.blank(&self.env, place.block_bitmap)?;
        block.set_new_seal(Seal::BlockBitmap(group));
        handle.join(&block)?;
        handle.join(self.descriptor(group))?;
        let (first, len) = (self.group_first(group), self.group_len(group));
        let bits = (self.geo.block_size * 8) as u32;
        block.change(|bytes| {
            bits::fill(bytes, 0, self.base_blocks(group).min(len), true);
            let tables =
                [(place.block_bitmap, 1), (place.inode_bitmap, 1), (place.inode_table, self.table_blocks())];
            for (start, count) in tables {
                let from = start.max(first);
                let to = (start + count).min(first + u64::from(len));
                if from < to {
                    bits::fill(bytes, (from - first) as u32, (to - from) as u32, true);
                }
            }
            bits::fill(bytes, len, bits - len, true);
        });
        place.state.lock().clear_flag(GROUP_BLOCK_UNINIT);
        Ok(block)
    }

    /// A group's bitmap of inodes, made now if it never was.
    pub(crate) fn inode_bitmap(&self, handle: &Handle<E>, group: u32) -> Result<BlockRef<E>> {
        let place = &self.groups[group as usize];
        if self.is_uninit(group, GROUP_INODE_UNINIT) {
            let _one = self.orphans.lock();
            if self.is_uninit(group, GROUP_INODE_UNINIT) {
                let block = self.cache.blank(&self.env, place.inode_bitmap)?;
                block.set_new_seal(Seal::InodeBitmap(group));
                handle.join(&block)?;
                handle.join(self.descriptor(group))?;
                let (used, all) = (self.geo.inodes_per_group, (self.geo.block_size * 8) as u32);
                block.change(|bytes| bits::fill(bytes, used, all - used, true));
                place.state.lock().clear_flag(GROUP_INODE_UNINIT);
                return Ok(block);
            }
        }
        let block = self.read(place.inode_bitmap)?;
        let raw = place.state.lock().raw;
        let checked = block.verify(Seal::InodeBitmap(group), |bytes| {
            if self.bitmap_csum_good(&raw, bytes, true) { Ok(()) } else { Err(BAD_CSUM) }
        });
        checked.inspect_err(|_| self.fail("inode bitmap", 0))?;
        Ok(block)
    }

    /// Whether blocks may belong to a file: inside, and none of the file system's own.
    pub(crate) fn valid_data(&self, first: u64, len: u64) -> bool {
        if !self.geo.valid_blocks(first, len) {
            return false;
        }
        let at = self.system.partition_point(|zone| zone.0 <= first);
        let before = at.checked_sub(1).is_none_or(|i| self.system[i].0 + self.system[i].1 <= first);
        before && self.system.get(at).is_none_or(|zone| zone.0 >= first + len)
    }

    /// The file system's own blocks as sorted runs, for [`Fs::valid_data`].
    pub(crate) fn system_zones(&self) -> Vec<(u64, u64)> {
        let mut zones = Vec::new();
        for (number, group) in self.groups.iter().enumerate() {
            zones.push((self.group_first(number as u32), u64::from(self.base_blocks(number as u32))));
            zones.extend([
                (group.block_bitmap, 1),
                (group.inode_bitmap, 1),
                (group.inode_table, self.table_blocks()),
            ]);
        }
        zones.retain(|zone| zone.1 > 0);
        zones.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for zone in zones {
            match merged.last_mut() {
                Some(last) if last.0 + last.1 >= zone.0 => last.1 = last.1.max(zone.0 + zone.1 - last.0),
                _ => merged.push(zone),
            }
        }
        merged
    }

    /// A transaction is durable: what it freed may be used.
    pub(crate) fn release_freed(&self, freed: &[Freed]) {
        for run in freed {
            let mut state = self.groups[run.group as usize].state.lock();
            if let Ok(at) = state.busy.binary_search(&(run.first, run.len)) {
                state.busy.remove(at);
                state.busy_blocks -= run.len;
            }
        }
    }

    /// Computes the checksums of blocks that a transaction changed.
    pub(crate) fn seal_blocks(&self, blocks: &[BlockRef<E>]) {
        let mut groups: Vec<u32> = Vec::new();
        for block in blocks {
            match block.seal() {
                Seal::BlockBitmap(group) | Seal::InodeBitmap(group) => {
                    let inodes = matches!(block.seal(), Seal::InodeBitmap(_));
                    self.seal_bitmap(group, block, inodes);
                    groups.push(group);
                }
                Seal::Super => self.seal_super(),
                seal if self.geo.has_csum() => block.change(|bytes| self.seal_bytes(seal, block.nr, bytes)),
                _ => {}
            }
        }
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            self.seal_descriptor(group);
        }
    }

    fn seal_bytes(&self, seal: Seal, nr: u64, bytes: &mut [u8]) {
        match seal {
            Seal::Directory(seed) => crate::dir::block::seal(seed, bytes),
            Seal::Index(seed) => crate::dir::index::seal(seed, bytes),
            Seal::Extents(seed) => crate::extent::seal(seed, bytes),
            Seal::Attributes => crate::xattr::seal(self.geo.csum_seed, nr, bytes),
            Seal::Orphans(seed) => crate::orphan::seal(seed, nr, bytes),
            _ => {}
        }
    }
}
