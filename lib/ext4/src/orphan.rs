//! Orphans: files that lost their last name while they are open, and files being truncated.
//!
//! The medium knows them, so that the next mount finishes what a crash interrupted: a chain from the superblock
//! through the deletion times of the inodes, and on file systems with the feature a file of numbers, which Linux
//! prefers. This code adds to the chain only, and reads both; every ext4 does.

use crate::DAMAGED;
use crate::cache::{BlockRef, Seal};
use crate::crc::crc32c;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::inode::Node;
use crate::journal::Handle;
use crate::layout::{Compat, RoCompat, le32, put32};
use crate::map::Place;
use abi::errno::Result;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// What stands at the end of a block of the orphan file, with a checksum behind it.
const FILE_MAGIC: u32 = 0x0b10_ca04;
const FILE_TAIL: usize = 8;

/// Blocks that adding or removing an orphan may change: superblock, own inode, the inode before it.
pub(crate) const ORPHAN_CREDITS: usize = 3;

/// All orphans of a mounted file system.
pub(crate) struct Orphans<E: Env> {
    /// The chain by the keys of its nodes, its head last: a node leaves from the middle as quickly as from the end.
    chain: BTreeMap<u64, Arc<Node<E>>>,
    /// Entries of the orphan file that are being cleared up: block and place by inode.
    slots: BTreeMap<u32, (BlockRef<E>, usize)>,
}

impl<E: Env> Orphans<E> {
    pub fn new() -> Orphans<E> {
        Orphans { chain: BTreeMap::new(), slots: BTreeMap::new() }
    }

    /// Makes a node the head; the number of the one that was.
    fn push(&mut self, node: &Arc<Node<E>>) -> u32 {
        let (key, next) = self.chain.last_key_value().map_or((0, 0), |(key, head)| (key + 1, head.ino));
        node.orphan_key.store(key, Ordering::Relaxed);
        self.chain.insert(key, node.clone());
        next
    }
}

fn file_csum(seed: u32, nr: u64, bytes: &[u8]) -> u32 {
    crc32c(crc32c(seed, &nr.to_le_bytes()), &bytes[..bytes.len() - FILE_TAIL])
}

pub(crate) fn seal(seed: u32, nr: u64, bytes: &mut [u8]) {
    let crc = file_csum(seed, nr, bytes);
    let at = bytes.len() - 4;
    put32(bytes, at, crc);
}

impl<E: Env> Fs<E> {
    /// Puts a node at the head of the chain. The caller stores its inode afterwards with the same handle; its lock
    /// may be held.
    pub(crate) fn add_orphan(&self, handle: &Handle<E>, node: &Arc<Node<E>>) -> Result<()> {
        let mut orphans = self.orphans.lock();
        if node.is_orphan.load(Ordering::Acquire) {
            return Ok(());
        }
        handle.join(&self.super_block)?;
        let next = orphans.push(node);
        node.next_orphan.store(next, Ordering::Release);
        node.is_orphan.store(true, Ordering::Release);
        self.edit_super(|sb| sb.last_orphan.set(node.ino));
        Ok(())
    }

    /// Takes a node out; as for [`Fs::add_orphan`]. The deletion time is the caller's to set.
    pub(crate) fn del_orphan(&self, handle: &Handle<E>, node: &Node<E>) -> Result<()> {
        let mut orphans = self.orphans.lock();
        if let Some((block, at)) = orphans.slots.remove(&node.ino) {
            handle.join(&block)?;
            block.change(|bytes| put32(bytes, at, 0));
        }
        if !node.is_orphan.load(Ordering::Acquire) {
            return Ok(());
        }
        let key = node.orphan_key.load(Ordering::Relaxed);
        let next = orphans.chain.range(..key).next_back().map_or(0, |(_, next)| next.ino);
        match orphans.chain.range(key + 1..).next() {
            Some((_, before)) => self.store_next_orphan(handle, before, next)?,
            None => {
                handle.join(&self.super_block)?;
                self.edit_super(|sb| sb.last_orphan.set(next));
            }
        }
        orphans.chain.remove(&key);
        node.is_orphan.store(false, Ordering::Release);
        Ok(())
    }

    /// Finishes what the last mount left: deletes files without a name, truncates others to their length.
    pub(crate) fn clear_orphans(&self) -> Result<()> {
        let mut nodes = self.read_chain();
        self.read_orphan_file(&mut nodes)?;
        let count = nodes.len();
        for node in nodes {
            let nlink = node.state.lock().inode.nlink();
            let done = if nlink == 0 { self.evict(&node) } else { self.finish_truncate(&node) };
            if let Err(error) = done {
                self.env.warn(format_args!("orphan inode {}: {}", node.ino, error.name()));
                self.fail("orphan", node.ino);
                return Ok(());
            }
        }
        if count > 0 {
            self.env.warn(format_args!("{count} orphan inodes cleared up"));
        }
        if self.geo.ro_compat.contains(RoCompat::ORPHAN_PRESENT) {
            let handle = self.begin(1)?;
            handle.join(&self.super_block)?;
            let present = RoCompat::ORPHAN_PRESENT.bits();
            self.edit_super(|sb| sb.feature_ro_compat.set(sb.feature_ro_compat.get() & !present));
        }
        Ok(())
    }

    /// The chain as the medium has it, head first; what does not make sense ends it.
    fn read_chain(&self) -> Vec<Arc<Node<E>>> {
        let at = crate::layout::SUPER_OFFSET % self.geo.block_size;
        let mut next = self.super_block.with(|bytes| le32(bytes, at + 0xe8));
        let mut nodes: Vec<Arc<Node<E>>> = Vec::new();
        let mut seen: BTreeMap<u32, ()> = BTreeMap::new();
        while next != 0 {
            let node = self.node(next).ok().filter(|_| seen.insert(next, ()).is_none());
            let Some(node) = node else {
                self.env.warn(format_args!("the chain of orphans is broken at inode {next}"));
                break;
            };
            let after = node.state.lock().inode.base().dtime.get();
            node.next_orphan.store(after, Ordering::Release);
            node.is_orphan.store(true, Ordering::Release);
            nodes.push(node);
            next = after;
        }
        let mut orphans = self.orphans.lock();
        for node in nodes.iter().rev() {
            orphans.push(node);
        }
        nodes
    }

    fn read_orphan_file(&self, nodes: &mut Vec<Arc<Node<E>>>) -> Result<()> {
        let wanted = self.geo.compat.contains(Compat::ORPHAN_FILE)
            && self.geo.ro_compat.contains(RoCompat::ORPHAN_PRESENT);
        if !wanted {
            return Ok(());
        }
        let file = self.read_inode(self.geo.orphan_ino)?;
        let blocks = u32::try_from(file.size() >> self.geo.block_bits).unwrap_or(0);
        for lblk in 0..blocks {
            let Place::At(nr) = self.map_inode(&file, lblk, 1)?.place else { return Err(DAMAGED) };
            let block = self.read(nr)?;
            block.verify(Seal::Orphans(file.seed), |bytes| {
                let tail = bytes.len() - FILE_TAIL;
                let sum = !self.geo.has_csum() || le32(bytes, tail + 4) == file_csum(file.seed, nr, bytes);
                if sum && le32(bytes, tail) == FILE_MAGIC { Ok(()) } else { Err(DAMAGED) }
            })?;
            let bytes = block.with(|bytes| bytes.to_vec());
            for at in (0..bytes.len() - FILE_TAIL).step_by(4) {
                let ino = le32(&bytes, at);
                if ino == 0 {
                    continue;
                }
                let node = self.node(ino)?;
                let mut orphans = self.orphans.lock();
                if orphans.slots.insert(ino, (block.clone(), at)).is_none() {
                    nodes.push(node);
                }
            }
        }
        Ok(())
    }
}
