//! Metadata blocks in memory.
//!
//! A block that a transaction changed is held by the journal until it is at its home; only blocks that nobody
//! holds are dropped. So the cache never writes: it forgets.

use crate::env::{Bytes, Env, Lock};
use abi::errno::Result;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Parts of the cache with a lock each.
const SHARDS: usize = 16;
/// Blocks dropped under one hold of a part's lock.
const AT_ONCE: usize = 32;

/// Which checksum a block carries. It is computed once, when its transaction commits, and not at every change:
/// a directory block takes dozens of new names in one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seal {
    None,
    /// The seed of the inode that the block belongs to.
    Directory(u32),
    Index(u32),
    Extents(u32),
    /// The group that the bitmap describes.
    BlockBitmap(u32),
    InodeBitmap(u32),
    Attributes,
    Orphans(u32),
    Super,
}

impl Seal {
    fn pack(self) -> u64 {
        let (tag, argument) = match self {
            Seal::None => (0, 0),
            Seal::Directory(seed) => (1, seed),
            Seal::Index(seed) => (2, seed),
            Seal::Extents(seed) => (3, seed),
            Seal::BlockBitmap(group) => (4, group),
            Seal::InodeBitmap(group) => (5, group),
            Seal::Attributes => (6, 0),
            Seal::Orphans(seed) => (7, seed),
            Seal::Super => (8, 0),
        };
        tag << 32 | u64::from(argument)
    }

    fn unpack(word: u64) -> Seal {
        let argument = word as u32;
        match word >> 32 {
            1 => Seal::Directory(argument),
            2 => Seal::Index(argument),
            3 => Seal::Extents(argument),
            4 => Seal::BlockBitmap(argument),
            5 => Seal::InodeBitmap(argument),
            6 => Seal::Attributes,
            7 => Seal::Orphans(argument),
            8 => Seal::Super,
            _ => Seal::None,
        }
    }
}

/// A metadata block.
pub struct Block<E: Env> {
    pub nr: u64,
    bytes: E::Bytes,
    /// The last transaction that changed it; 0: none since it was read.
    tid: AtomicU32,
    seal: AtomicU64,
    verified: Verified,
    /// Used since the cache looked for room the last time.
    used: AtomicBool,
}

pub type BlockRef<E> = Arc<Block<E>>;

impl<E: Env> Block<E> {
    fn new(nr: u64, bytes: E::Bytes) -> BlockRef<E> {
        Arc::new(Block {
            nr,
            bytes,
            tid: AtomicU32::new(0),
            seal: AtomicU64::new(0),
            verified: Verified::default(),
            used: AtomicBool::new(true),
        })
    }

    pub fn with<R>(&self, action: impl FnOnce(&[u8]) -> R) -> R {
        self.bytes.with(action)
    }

    /// Changes it; the caller's handle has joined it to its transaction.
    pub fn change<R>(&self, action: impl FnOnce(&mut [u8]) -> R) -> R {
        self.bytes.with_mut(action)
    }

    pub(crate) fn tid(&self) -> u32 {
        self.tid.load(Ordering::Acquire)
    }

    pub(crate) fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Ordering::Release);
    }

    pub(crate) fn seal(&self) -> Seal {
        Seal::unpack(self.seal.load(Ordering::Relaxed))
    }

    pub(crate) fn set_seal(&self, seal: Seal) {
        self.seal.store(seal.pack(), Ordering::Relaxed);
    }

    /// The seal of a block that was just made, which needs no check.
    pub(crate) fn set_new_seal(&self, seal: Seal) {
        self.set_seal(seal);
        self.verified.set(seal);
    }

    /// Sets the seal and checks the block once for it; an error leaves it unverified.
    pub(crate) fn verify(&self, seal: Seal, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        self.set_seal(seal);
        self.verified.once(seal, || self.with(check))
    }
}

/// As what (a packed seal) a block's checksum and structure were found good since it was read. A damaged file system may use
/// one block twice, as different things.
struct Verified(AtomicU64);

impl Default for Verified {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Verified {
    fn is(&self, seal: Seal) -> bool {
        self.0.load(Ordering::Acquire) == seal.pack()
    }

    fn set(&self, seal: Seal) {
        self.0.store(seal.pack(), Ordering::Release);
    }

    /// Runs the check unless it was good before. What it compares with may have been read before it: in between, another
    /// thread may have found the block good, and have changed both. A failure then says nothing.
    fn once(&self, seal: Seal, check: impl FnOnce() -> Result<()>) -> Result<()> {
        if !self.is(seal) {
            match check() {
                Err(error) if !self.is(seal) => return Err(error),
                _ => self.set(seal),
            }
        }
        Ok(())
    }
}

struct Shard<E: Env> {
    blocks: BTreeMap<u64, BlockRef<E>>,
    /// Raised when a block goes: whoever read the medium meanwhile may have read something older.
    dropped: u64,
    /// Where the search for unused blocks goes on.
    hand: u64,
}

/// All cached blocks.
pub struct Cache<E: Env> {
    shards: Vec<E::Lock<Shard<E>>>,
    count: AtomicUsize,
    /// Above so many blocks, unused ones go.
    limit: usize,
}

impl<E: Env> Cache<E> {
    pub fn new(limit: usize) -> Cache<E> {
        let empty = || E::Lock::new(Shard { blocks: BTreeMap::new(), dropped: 0, hand: 0 });
        let shards = (0..SHARDS).map(|_| empty()).collect();
        Cache { shards, count: AtomicUsize::new(0), limit }
    }

    fn shard(&self, nr: u64) -> &E::Lock<Shard<E>> {
        &self.shards[Self::shard_number(nr)]
    }

    /// Neighbours share a shard, so that the blocks of one directory seldom meet those of another.
    fn shard_number(nr: u64) -> usize {
        (nr >> 3) as usize % SHARDS
    }

    /// The block, read when it is not here.
    pub fn read(&self, env: &E, nr: u64) -> Result<BlockRef<E>> {
        loop {
            let shard = self.shard(nr).lock();
            if let Some(block) = shard.blocks.get(&nr) {
                block.used.store(true, Ordering::Relaxed);
                return Ok(block.clone());
            }
            let before = shard.dropped;
            drop(shard);
            let block = Block::new(nr, env.read_block(nr)?);
            let mut shard = self.shard(nr).lock();
            if let Some(other) = shard.blocks.get(&nr) {
                return Ok(other.clone());
            }
            if shard.dropped == before {
                self.insert(&mut shard, block.clone());
                return Ok(block);
            }
        }
    }

    /// As [`Cache::read`]; when the block is not here, the others of `around` that are not come with it.
    pub fn read_around(&self, env: &E, nr: u64, around: Range<u64>) -> Result<BlockRef<E>> {
        if let Some(block) = self.find(nr) {
            return Ok(block);
        }
        let before: [u64; SHARDS] = core::array::from_fn(|at| self.shards[at].lock().dropped);
        // What nobody asked for is no reason to fail.
        let Ok(all) = env.read_blocks(around.start, (around.end - around.start) as usize) else {
            return self.read(env, nr);
        };
        let mut wanted = None;
        for (at, bytes) in around.zip(all) {
            let mut shard = self.shard(at).lock();
            let known = shard.blocks.get(&at).cloned();
            let usable = shard.dropped == before[Self::shard_number(at)];
            if known.is_none() && usable {
                let block = Block::new(at, bytes);
                self.insert(&mut shard, block.clone());
                if at == nr {
                    wanted = Some(block);
                }
            } else if at == nr {
                wanted = known;
            }
        }
        wanted.map_or_else(|| self.read(env, nr), Ok)
    }

    fn find(&self, nr: u64) -> Option<BlockRef<E>> {
        let shard = self.shard(nr).lock();
        let block = shard.blocks.get(&nr)?;
        block.used.store(true, Ordering::Relaxed);
        Some(block.clone())
    }

    /// A block whose content on the medium does not matter, unless it is here: zeroes.
    pub(crate) fn blank_if_absent(&self, env: &E, nr: u64) -> Result<()> {
        if self.find(nr).is_none() {
            let block = Block::new(nr, env.blank_block(nr)?);
            let mut shard = self.shard(nr).lock();
            if !shard.blocks.contains_key(&nr) {
                self.insert(&mut shard, block);
            }
        }
        Ok(())
    }

    /// A block that was just allocated: zeroes.
    pub fn blank(&self, env: &E, nr: u64) -> Result<BlockRef<E>> {
        let block = Block::new(nr, env.blank_block(nr)?);
        let mut shard = self.shard(nr).lock();
        self.insert(&mut shard, block.clone());
        Ok(block)
    }

    fn insert(&self, shard: &mut Shard<E>, block: BlockRef<E>) {
        if self.count.load(Ordering::Relaxed) >= self.limit {
            self.evict(shard, 4);
        }
        if shard.blocks.insert(block.nr, block).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Drops up to `wanted` blocks, and [`AT_ONCE`], that nobody holds, the second time the hand passes them.
    fn evict(&self, shard: &mut Shard<E>, wanted: usize) -> usize {
        let wanted = wanted.min(AT_ONCE);
        // Where memory is short none can be had for the list.
        let (mut victims, mut count) = ([0; AT_ONCE], 0);
        let from = shard.hand;
        for (nr, block) in shard.blocks.range(from..).chain(shard.blocks.range(..from)).take(wanted * 8) {
            shard.hand = *nr + 1;
            let free = Arc::strong_count(block) == 1;
            if free && !block.used.swap(false, Ordering::Relaxed) {
                victims[count] = *nr;
                count += 1;
                if count == wanted {
                    break;
                }
            }
        }
        for nr in &victims[..count] {
            shard.blocks.remove(nr);
        }
        shard.dropped += count as u64;
        self.count.fetch_sub(count, Ordering::Relaxed);
        count
    }

    /// Forgets a block: it is no metadata any more.
    pub(crate) fn forget(&self, nr: u64) {
        let mut shard = self.shard(nr).lock();
        if shard.blocks.remove(&nr).is_some() {
            shard.dropped += 1;
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives memory back: tries to drop `wanted` blocks; how many it did. Short locks only, and allocates nothing.
    pub fn shrink(&self, wanted: usize) -> usize {
        let part = wanted.div_ceil(SHARDS);
        let mut dropped = 0;
        for shard in &self.shards {
            let mut left = part;
            while left > 0 {
                let here = self.evict(&mut shard.lock(), left);
                dropped += here;
                left -= here;
                if here < AT_ONCE {
                    break;
                }
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DAMAGED;

    #[test]
    fn a_block_that_another_thread_changed_meanwhile_is_not_damaged() {
        let (verified, seal) = (Verified::default(), Seal::BlockBitmap(3));
        assert_eq!(verified.once(seal, || Err(DAMAGED)), Err(DAMAGED));
        let changed = || {
            verified.once(seal, || Ok(()))?;
            Err(DAMAGED)
        };
        assert_eq!(verified.once(seal, changed), Ok(()));
        assert_eq!(verified.once(seal, || Err(DAMAGED)), Ok(()));
        assert_eq!(verified.once(Seal::BlockBitmap(4), || Err(DAMAGED)), Err(DAMAGED));
    }
}
