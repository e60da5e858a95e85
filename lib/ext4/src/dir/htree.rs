//! The index of a large directory: a tree of hashes over the blocks with names.
//!
//! As in the extent tree a change makes room first, one level at a time, and looks its way up anew after each
//! step, so that a failure leaves a whole tree.

use super::{Found, Role, block, find_in, index};
use crate::DAMAGED;
use crate::cache::BlockRef;
use crate::env::Env;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::journal::Handle;
use crate::layout::{Incompat, InodeFlags};
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;

/// A node on the way to a leaf, and the entry that was taken.
pub(crate) struct Frame<E: Env> {
    pub node: BlockRef<E>,
    pub pos: usize,
}

/// The way to a leaf.
pub(crate) struct Way<E: Env> {
    pub frames: Vec<Frame<E>>,
    pub leaf: u32,
    pub version: u8,
}

impl<E: Env> Fs<E> {
    /// Levels below the root that an index may have.
    fn max_levels(&self) -> u8 {
        if self.geo.incompat.contains(Incompat::LARGEDIR) { 2 } else { 1 }
    }

    /// The hash version of an indexed directory.
    pub(crate) fn index_version(&self, inode: &Inode) -> Result<u8> {
        let root = self.dir_block(inode, 0, Role::Root)?;
        let info = root.with(index::root_info).filter(|info| info.1 <= self.max_levels() && info.0 <= 2);
        info.map(|info| info.0).ok_or_else(|| {
            self.fail("directory index", inode.ino);
            DAMAGED
        })
    }

    /// The way to the leaf for a hash.
    pub(crate) fn index_way(&self, inode: &Inode, hash: u32) -> Result<Way<E>> {
        let version = self.index_version(inode)?;
        let root = self.dir_block(inode, 0, Role::Root)?;
        let levels = root.with(index::root_info).map_or(0, |info| info.1);
        let mut frames = Vec::with_capacity(usize::from(levels) + 1);
        let (mut pos, mut next) = step(&root, hash);
        frames.push(Frame { node: root, pos });
        for _ in 0..levels {
            let node = self.index_node(inode, next)?;
            (pos, next) = step(&node, hash);
            frames.push(Frame { node, pos });
        }
        Ok(Way { frames, leaf: next, version })
    }

    fn index_node(&self, inode: &Inode, lblk: u32) -> Result<BlockRef<E>> {
        if lblk == 0 || lblk >= self.dir_blocks(inode) {
            self.fail("directory index leads outside", inode.ino);
            return Err(DAMAGED);
        }
        self.dir_block(inode, lblk, Role::Inner)
    }

    pub(crate) fn index_leaf(&self, inode: &Inode, lblk: u32) -> Result<BlockRef<E>> {
        if lblk == 0 || lblk >= self.dir_blocks(inode) {
            self.fail("directory index leads outside", inode.ino);
            return Err(DAMAGED);
        }
        self.dir_block(inode, lblk, Role::Names)
    }

    /// Moves a way to the next leaf; the hash from which on that holds, its lowest bit set when names with the hash
    /// before go on there. `None`: it was the last.
    pub(crate) fn next_leaf(&self, inode: &Inode, way: &mut Way<E>) -> Result<Option<u32>> {
        let more = |frame: &Frame<E>| frame.node.with(|node| frame.pos + 1 < index::count(node));
        let Some(level) = way.frames.iter().rposition(more) else { return Ok(None) };
        way.frames[level].pos += 1;
        let at = &way.frames[level];
        let (hash, mut next) = at.node.with(|node| (index::hash(node, at.pos), index::block(node, at.pos)));
        for below in level + 1..way.frames.len() {
            let node = self.index_node(inode, next)?;
            next = node.with(|node| index::block(node, 0));
            way.frames[below] = Frame { node, pos: 0 };
        }
        way.leaf = next;
        Ok(Some(hash))
    }

    pub(crate) fn find_indexed(&self, inode: &Inode, name: &[u8]) -> Result<Option<Found>> {
        let version = self.index_version(inode)?;
        let (hash, _) = self.hasher(version).hash(name).ok_or(DAMAGED)?;
        let mut way = self.index_way(inode, hash)?;
        // A directory has no more leaves than blocks: an index that goes round in circles is damaged.
        for _ in 0..self.dir_blocks(inode) {
            let leaf = self.index_leaf(inode, way.leaf)?;
            if let Some(found) = find_in(&leaf, way.leaf, name) {
                return Ok(Some(found));
            }
            match self.next_leaf(inode, &mut way)? {
                Some(next) if next & 1 != 0 && next & !1 == hash => {}
                _ => return Ok(None),
            }
        }
        Err(DAMAGED)
    }

    pub(crate) fn add_indexed(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        name: &[u8],
        ino: u32,
        kind: u8,
    ) -> Result<()> {
        let version = self.index_version(inode)?;
        let (hash, _) = self.hasher(version).hash(name).ok_or(DAMAGED)?;
        // Each round either adds the name or makes room one level lower.
        for _ in 0..8 {
            let way = self.index_way(inode, hash)?;
            let leaf = self.index_leaf(inode, way.leaf)?;
            if self.add_in(handle, &leaf, name, ino, kind)? {
                return Ok(());
            }
            let room = |frame: &Frame<E>| frame.node.with(|node| index::count(node) < index::limit(node));
            match way.frames.iter().rposition(room) {
                Some(level) if level + 1 == way.frames.len() => {
                    self.split_leaf(handle, inode, &way, &leaf)?
                }
                Some(level) => self.split_node(handle, inode, &way, level + 1)?,
                None if way.frames.len() as u8 <= self.max_levels() => {
                    self.raise_index(handle, inode, &way)?
                }
                None => return Err(Errno::ENOSPC),
            }
        }
        self.fail("directory index without room", inode.ino);
        Err(DAMAGED)
    }

    /// A full leaf gives the upper half of its names, by hash, to a new one.
    fn split_leaf(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        way: &Way<E>,
        leaf: &BlockRef<E>,
    ) -> Result<()> {
        let hasher = self.hasher(way.version);
        let old = leaf.with(|bytes| bytes.to_vec());
        let mut names = Vec::new();
        for entry in block::entries(&old) {
            let (hash, _) = hasher.hash(entry.name).ok_or(DAMAGED)?;
            names.push((hash, entry));
        }
        names.sort_by_key(|name| name.0);
        let cut = middle(&names);
        if cut == 0 {
            self.fail("directory block", inode.ino);
            return Err(DAMAGED);
        }
        let (lblk, new) = self.append_dir_block(handle, inode, false)?;
        let top = &way.frames[way.frames.len() - 1];
        handle.join(leaf)?;
        handle.join(&top.node)?;
        let csum = self.geo.has_csum();
        let (low, high) = names.split_at(cut);
        let plain = |part: &[(u32, block::Entry)], bytes: &mut [u8]| {
            block::fill(bytes, csum, part.iter().map(|(_, entry)| (entry.ino, entry.name, entry.kind)));
        };
        new.change(|bytes| plain(high, bytes));
        leaf.change(|bytes| plain(low, bytes));
        let hash = high[0].0;
        let goes_on = u32::from(low[low.len() - 1].0 == hash);
        top.node.change(|node| index::insert(node, top.pos + 1, hash | goes_on, lblk));
        Ok(())
    }

    /// A full inner node gives its upper half to a new one.
    fn split_node(&self, handle: &Handle<E>, inode: &mut Inode, way: &Way<E>, level: usize) -> Result<()> {
        let (lblk, new) = self.append_dir_block(handle, inode, true)?;
        let (node, above) = (&way.frames[level].node, &way.frames[level - 1]);
        handle.join(node)?;
        handle.join(&above.node)?;
        let (hash, tail) = node.change(|bytes| {
            let cut = index::count(bytes) / 2;
            (index::hash(bytes, cut), index::take_tail(bytes, cut))
        });
        let csum = self.geo.has_csum();
        new.change(|bytes| index::init_node(bytes, csum, &tail));
        above.node.change(|bytes| index::insert(bytes, above.pos + 1, hash, lblk));
        Ok(())
    }

    /// The root's entries go to a new node below it.
    fn raise_index(&self, handle: &Handle<E>, inode: &mut Inode, way: &Way<E>) -> Result<()> {
        let (lblk, new) = self.append_dir_block(handle, inode, true)?;
        let root = &way.frames[0].node;
        handle.join(root)?;
        let levels = way.frames.len() as u8;
        let entries = root.change(|bytes| {
            let all = index::take_all(bytes, lblk);
            index::set_levels(bytes, levels);
            all
        });
        let csum = self.geo.has_csum();
        new.change(|bytes| index::init_node(bytes, csum, &entries));
        Ok(())
    }

    /// A directory of one full block gets an index: its names move to a second block.
    pub(crate) fn make_index(&self, handle: &Handle<E>, inode: &mut Inode) -> Result<()> {
        let version = if self.geo.hash_version <= 2 { self.geo.hash_version } else { 1 };
        let first = self.dir_block(inode, 0, Role::Names)?;
        let old = first.with(|bytes| bytes.to_vec());
        let dots = block::records(&old).take(2).map(|entry| (entry.name, entry.at)).collect::<Vec<_>>();
        if dots != [(&b"."[..], 0), (&b".."[..], 12)] {
            self.fail("directory without dots", inode.ino);
            return Err(DAMAGED);
        }
        let (lblk, new) = self.append_dir_block(handle, inode, false)?;
        handle.join(&first)?;
        let csum = self.geo.has_csum();
        let names = block::entries(&old).skip(2).map(|entry| (entry.ino, entry.name, entry.kind));
        new.change(|bytes| block::fill(bytes, csum, names));
        first.change(|bytes| index::init_root(bytes, csum, version, lblk));
        first.set_new_seal(crate::cache::Seal::Index(inode.seed));
        inode.set_flags(inode.flags() | InodeFlags::INDEX);
        Ok(())
    }
}

/// The entry for a hash, and the block it leads to.
fn step<E: Env>(node: &BlockRef<E>, hash: u32) -> (usize, u32) {
    node.with(|bytes| {
        let pos = index::search(bytes, hash);
        (pos, index::block(bytes, pos))
    })
}

/// Where sorted names are cut so that the upper part takes about half of the room.
fn middle(names: &[(u32, block::Entry)]) -> usize {
    let len = |entry: &block::Entry| block::needed(entry.name.len());
    let all: usize = names.iter().map(|(_, entry)| len(entry)).sum();
    let mut below = 0;
    for (at, (_, entry)) in names.iter().enumerate() {
        below += len(entry);
        if below * 2 >= all {
            return (at + 1).min(names.len().saturating_sub(1));
        }
    }
    0
}
