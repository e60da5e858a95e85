//! Maps of ext2 and ext3: twelve block numbers in the inode, then blocks of numbers, one, two and three high.
//!
//! They know no unwritten blocks, and a file ends at 2^32 blocks of 512 bytes or the end of the third level.

use crate::DAMAGED;
use crate::balloc::Claim;
use crate::cache::{BlockRef, Seal};
use crate::env::Env;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::journal::Handle;
use crate::layout::{le32, put32};
use crate::map::{Place, REMOVE_CREDITS, Run};
use abi::Errno;
use abi::errno::Result;

const DIRECT: u64 = 12;

/// Which numbers lead to a block: the entry of the inode, then one per level.
struct Way {
    entries: [u32; 4],
    depth: usize,
    /// Entries from the last on that lie in the same block of numbers.
    left: u32,
}

/// log2 of the numbers in a block.
fn bits(block_bits: u32) -> u32 {
    block_bits - 2
}

/// The way to a block. EFBIG beyond the third level.
fn way(lblk: u32, block_bits: u32) -> Result<Way> {
    let bits = bits(block_bits);
    let per = 1u64 << bits;
    let mut at = u64::from(lblk);
    if at < DIRECT {
        return Ok(Way { entries: [at as u32, 0, 0, 0], depth: 0, left: (DIRECT - at) as u32 });
    }
    at -= DIRECT;
    for depth in 1..=3usize {
        let span = 1u64 << (bits * depth as u32);
        if at < span {
            let mut entries = [DIRECT as u32 + depth as u32 - 1, 0, 0, 0];
            for level in 1..=depth {
                entries[level] = (at >> (bits * (depth - level) as u32) & (per - 1)) as u32;
            }
            return Ok(Way { entries, depth, left: per as u32 - entries[depth] });
        }
        at -= span;
    }
    Err(Errno::EFBIG)
}

/// Blocks that a map can have.
pub(crate) fn max_blocks(block_bits: u32) -> u64 {
    let bits = bits(block_bits);
    (DIRECT + (1 << bits) + (1 << (2 * bits)) + (1u64 << (3 * bits))).min(u64::from(u32::MAX))
}

impl<E: Env> Fs<E> {
    fn pointer_block(&self, inode: &Inode, nr: u32) -> Result<BlockRef<E>> {
        if !self.valid_data(u64::from(nr), 1) {
            self.fail("indirect block", inode.ino);
            return Err(DAMAGED);
        }
        let block = self.read(u64::from(nr))?;
        block.set_seal(Seal::None);
        Ok(block)
    }

    /// As [`Fs::find_extent`].
    pub(crate) fn find_indirect(&self, inode: &Inode, lblk: u32, max: u32) -> Result<Run> {
        let way = way(lblk, self.geo.block_bits)?;
        let max = max.min(way.left);
        let mut number = le32(&inode.base().block, way.entries[0] as usize * 4);
        let mut holder: Option<BlockRef<E>> = None;
        for level in 1..=way.depth {
            if number == 0 {
                // Nothing of this block of numbers; what is left of a whole higher level is asked for again.
                return Ok(Run { place: Place::Hole, len: max });
            }
            let block = self.pointer_block(inode, number)?;
            number = block.with(|bytes| le32(bytes, way.entries[level] as usize * 4));
            holder = Some(block);
        }
        let first = way.entries[way.depth];
        let count = |bytes: &[u8]| {
            let get = |i: u32| le32(bytes, (first + i) as usize * 4);
            let same = |i: &u32| if number == 0 { get(*i) == 0 } else { get(*i) == number.wrapping_add(*i) };
            (1..max).take_while(same).count() as u32 + 1
        };
        let len = match &holder {
            Some(block) => block.with(count),
            None => count(&inode.base().block),
        };
        if number == 0 {
            return Ok(Run { place: Place::Hole, len });
        }
        if !self.valid_data(u64::from(number), u64::from(len)) {
            self.fail("block number", inode.ino);
            return Err(DAMAGED);
        }
        Ok(Run { place: Place::At(u64::from(number)), len })
    }

    /// Enters a run where there is a hole. The blocks of numbers on the way are made first.
    pub(crate) fn insert_indirect(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        lblk: u32,
        pblk: u64,
        len: u32,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let way = way(lblk + done, self.geo.block_bits)?;
            let count = way.left.min(len - done);
            let put = |bytes: &mut [u8]| {
                for i in 0..count {
                    let at = (way.entries[way.depth] + i) as usize * 4;
                    put32(bytes, at, (pblk + u64::from(done + i)) as u32);
                }
            };
            match self.make_way(handle, inode, &way, pblk)? {
                Some(block) => {
                    handle.join(&block)?;
                    block.change(put);
                }
                None => put(&mut inode.base_mut().block),
            }
            done += count;
        }
        Ok(())
    }

    /// The block of numbers at the end of a way, made if it is not there; `None`: the inode itself.
    fn make_way(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        way: &Way,
        goal: u64,
    ) -> Result<Option<BlockRef<E>>> {
        let mut holder: Option<BlockRef<E>> = None;
        for level in 0..way.depth {
            let at = way.entries[level] as usize * 4;
            let number = match &holder {
                Some(block) => block.with(|bytes| le32(bytes, at)),
                None => le32(&inode.base().block, at),
            };
            if number != 0 {
                holder = Some(self.pointer_block(inode, number)?);
                continue;
            }
            let (nr, _) = self.alloc_blocks(handle, goal, 1, Claim::Reserve)?;
            let block = self.cache.blank(&self.env, nr)?;
            handle.join(&block)?;
            match &holder {
                Some(above) => {
                    handle.join(above)?;
                    above.change(|bytes| put32(bytes, at, nr as u32));
                }
                None => put32(&mut inode.base_mut().block, at, nr as u32),
            }
            inode.add_blocks(1, &self.geo);
            holder = Some(block);
        }
        Ok(holder)
    }

    /// As [`Fs::remove_extents`], from the front.
    pub(crate) fn remove_indirect(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        from: u32,
        to: u32,
    ) -> Result<bool> {
        for entry in 0..DIRECT as u32 {
            if (from..to).contains(&entry) && !self.remove_direct(handle, inode, entry)? {
                return Ok(false);
            }
        }
        let bits = bits(self.geo.block_bits);
        let mut base = DIRECT;
        for depth in 1..=3u32 {
            let span = 1u64 << (bits * depth);
            let at = (DIRECT as usize + depth as usize - 1) * 4;
            let number = le32(&inode.base().block, at);
            if number != 0 && u64::from(to) > base && u64::from(from) < base + span {
                let range = (u64::from(from).saturating_sub(base), (u64::from(to) - base).min(span));
                match self.remove_level(handle, inode, number, depth, range)? {
                    None => return Ok(false),
                    Some(true) => put32(&mut inode.base_mut().block, at, 0),
                    Some(false) => {}
                }
            }
            base += span;
        }
        Ok(true)
    }

    fn remove_direct(&self, handle: &Handle<E>, inode: &mut Inode, entry: u32) -> Result<bool> {
        let number = le32(&inode.base().block, entry as usize * 4);
        if number == 0 {
            return Ok(true);
        }
        if !handle.extend(REMOVE_CREDITS) {
            return Ok(false);
        }
        self.free_run(handle, u64::from(number), 1, !inode.is_regular())?;
        inode.add_blocks(-1, &self.geo);
        put32(&mut inode.base_mut().block, entry as usize * 4, 0);
        Ok(true)
    }

    /// Frees what lies in `range` below a block of numbers that is `depth` high. `Some(true)`: the block became empty
    /// and was freed; `None`: the transaction is full.
    fn remove_level(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        nr: u32,
        depth: u32,
        range: (u64, u64),
    ) -> Result<Option<bool>> {
        let block = self.pointer_block(inode, nr)?;
        let bits = bits(self.geo.block_bits);
        let span = 1u64 << (bits * (depth - 1));
        let first = range.0 / span;
        let last = range.1.div_ceil(span).min(1 << bits);
        let mut entry = first as u32;
        while u64::from(entry) < last {
            let at = entry as usize * 4;
            let number = block.with(|bytes| le32(bytes, at));
            if number == 0 {
                entry += 1;
                continue;
            }
            if !handle.extend(REMOVE_CREDITS) {
                return Ok(None);
            }
            handle.join(&block)?;
            let mut count = 1;
            let gone = if depth == 1 {
                let follows =
                    |i: &u32| block.with(|b| le32(b, (entry + i) as usize * 4)) == number.wrapping_add(*i);
                count += (1..last as u32 - entry).take_while(follows).count() as u32;
                self.free_run(handle, u64::from(number), u64::from(count), !inode.is_regular())?;
                inode.add_blocks(-i64::from(count), &self.geo);
                true
            } else {
                let start = u64::from(entry) * span;
                let inner = (range.0.saturating_sub(start), (range.1 - start).min(span));
                match self.remove_level(handle, inode, number, depth - 1, inner)? {
                    None => return Ok(None),
                    Some(gone) => gone,
                }
            };
            if gone {
                block.change(|bytes| bytes[at..at + count as usize * 4].fill(0));
            }
            entry += count;
        }
        let empty = block.with(|bytes| bytes.iter().all(|byte| *byte == 0));
        if empty {
            self.free_run(handle, u64::from(nr), 1, true)?;
            inode.add_blocks(-1, &self.geo);
        }
        Ok(Some(empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ways_are_one_to_one(lblk in 0u32..20_000_000) {
            let bits = 8;
            let Ok(found) = way(lblk, 10) else { return Ok(()) };
            let mut back = 0u64;
            for level in 1..=found.depth {
                back = back << bits | u64::from(found.entries[level]);
            }
            let mut base = DIRECT;
            for depth in 1..found.depth {
                base += 1 << (bits * depth);
            }
            let number = if found.depth == 0 { u64::from(found.entries[0]) } else { base + back };
            prop_assert_eq!(number, u64::from(lblk));
        }
    }
}
