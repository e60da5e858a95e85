//! A mounted image with what the kernel puts around lib/ext4: one node per inode, and a cache of written blocks.

use crate::device::{Device, HostEnv};
use abi::Errno;
use abi::errno::Result;
use ext4_core::namei::{NewFile, Rename};
use ext4_core::{Fs, Node, Options, Place};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

pub type NodeRef = Arc<Node<HostEnv>>;

/// Written blocks of a file that are not on the device.
type Pages = BTreeMap<u32, Vec<u8>>;

pub struct Mount {
    pub fs: Box<Fs<HostEnv>>,
    nodes: Mutex<HashMap<u32, NodeRef>>,
    pages: Mutex<HashMap<u32, Pages>>,
}

impl Mount {
    pub fn new(device: &Device) -> Result<Mount> {
        Mount::with(device, Options::default())
    }

    pub fn with(device: &Device, options: Options) -> Result<Mount> {
        let fs = Fs::mount(HostEnv::new(device.clone()), options)?;
        Ok(Mount { fs, nodes: Mutex::default(), pages: Mutex::default() })
    }

    pub fn warnings(&self) -> Vec<String> {
        self.fs.env.warnings.lock().unwrap().clone()
    }

    fn block_size(&self) -> usize {
        self.fs.geo.block_size
    }

    pub fn node(&self, ino: u32) -> Result<NodeRef> {
        if let Some(node) = self.nodes.lock().unwrap().get(&ino) {
            return Ok(node.clone());
        }
        let node = self.fs.node(ino)?;
        Ok(self.nodes.lock().unwrap().entry(ino).or_insert(node).clone())
    }

    fn adopt(&self, node: NodeRef) -> NodeRef {
        self.nodes.lock().unwrap().insert(node.ino, node.clone());
        node
    }

    pub fn root(&self) -> Result<NodeRef> {
        self.node(2)
    }

    pub fn find(&self, dir: &NodeRef, name: &str) -> Result<NodeRef> {
        let found = self.fs.lookup(dir, name.as_bytes())?.ok_or(Errno::ENOENT)?;
        self.node(found.ino)
    }

    /// Walks a path of names from the root.
    pub fn walk(&self, path: &str) -> Result<NodeRef> {
        let mut at = self.root()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.find(&at, name)?;
        }
        Ok(at)
    }

    /// Names of a directory with their inodes, read a few at a time.
    pub fn list(&self, dir: &NodeRef) -> Result<BTreeMap<String, u32>> {
        let mut all = BTreeMap::new();
        let mut pos = 2;
        loop {
            let mut left = 7;
            let mut last = pos;
            let next = self.fs.read_dir(dir, pos, &mut |entry| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                last = entry.next;
                let name = String::from_utf8_lossy(entry.name).into_owned();
                assert!(all.insert(name, entry.ino).is_none(), "a name was listed twice");
                true
            })?;
            if left > 0 {
                return Ok(all);
            }
            assert!(next >= last || next > pos, "reading a directory stands still");
            pos = next;
        }
    }

    pub fn create(&self, dir: &NodeRef, name: &str, mode: u32) -> Result<NodeRef> {
        let new = NewFile { mode, uid: 1000, gid: 100, rdev: (0, 0), target: b"" };
        Ok(self.adopt(self.fs.create(dir, name.as_bytes(), &new)?))
    }

    pub fn symlink(&self, dir: &NodeRef, name: &str, target: &str) -> Result<NodeRef> {
        let new = NewFile { mode: 0o120777, uid: 0, gid: 0, rdev: (0, 0), target: target.as_bytes() };
        Ok(self.adopt(self.fs.create(dir, name.as_bytes(), &new)?))
    }

    /// Deletes a node that has no names left.
    pub fn forget(&self, node: &NodeRef) -> Result<()> {
        if node.stat(&self.fs).nlink == 0 {
            self.pages.lock().unwrap().remove(&node.ino);
            self.nodes.lock().unwrap().remove(&node.ino);
            self.fs.evict(node)?;
        }
        Ok(())
    }

    pub fn unlink(&self, dir: &NodeRef, name: &str) -> Result<()> {
        let node = self.find(dir, name)?;
        self.fs.unlink(dir, name.as_bytes(), &node)?;
        self.forget(&node)
    }

    pub fn rmdir(&self, dir: &NodeRef, name: &str) -> Result<()> {
        let node = self.find(dir, name)?;
        self.fs.rmdir(dir, name.as_bytes(), &node)?;
        self.forget(&node)
    }

    pub fn rename(&self, old: (&NodeRef, &str), new: (&NodeRef, &str), exchange: bool) -> Result<()> {
        self.move_name(old, new, exchange, None)
    }

    /// A rename that leaves a character device 0:0 at the old name.
    pub fn rename_whiteout(&self, old: (&NodeRef, &str), new: (&NodeRef, &str)) -> Result<()> {
        let whiteout = NewFile { mode: 0o20000, uid: 0, gid: 0, rdev: (0, 0), target: b"" };
        self.move_name(old, new, false, Some(&whiteout))
    }

    fn move_name(
        &self,
        old: (&NodeRef, &str),
        new: (&NodeRef, &str),
        exchange: bool,
        whiteout: Option<&NewFile>,
    ) -> Result<()> {
        let node = self.find(old.0, old.1)?;
        let target = self.find(new.0, new.1).ok();
        self.fs.rename(&Rename {
            old_dir: old.0,
            old_name: old.1.as_bytes(),
            node: &node,
            new_dir: new.0,
            new_name: new.1.as_bytes(),
            target: target.as_ref(),
            exchange,
            whiteout,
        })?;
        target.map_or(Ok(()), |target| if exchange { Ok(()) } else { self.forget(&target) })
    }

    /// A block of a file: from the cache, from the device, or zeroes.
    fn block(&self, node: &NodeRef, lblk: u32) -> Result<Vec<u8>> {
        let size = self.block_size();
        if let Some(page) = self.pages.lock().unwrap().get(&node.ino).and_then(|pages| pages.get(&lblk)) {
            return Ok(page.clone());
        }
        let mut bytes = vec![0; size];
        if let Place::At(at) = self.fs.map(node, lblk, 1)?.place {
            self.fs.env.device.read(at * size as u64, &mut bytes)?;
        }
        Ok(bytes)
    }

    pub fn read(&self, node: &NodeRef, offset: u64, len: usize) -> Result<Vec<u8>> {
        let size = self.block_size() as u64;
        let end = (offset + len as u64).min(node.size());
        let mut out = Vec::new();
        let mut at = offset;
        while at < end {
            let block = self.block(node, (at / size) as u32)?;
            let from = (at % size) as usize;
            let to = ((end - at) as usize + from).min(size as usize);
            out.extend_from_slice(&block[from..to]);
            at += (to - from) as u64;
        }
        Ok(out)
    }

    pub fn read_all(&self, node: &NodeRef) -> Result<Vec<u8>> {
        self.read(node, 0, node.size() as usize)
    }

    /// Writes into the cache.
    pub fn write(&self, node: &NodeRef, offset: u64, bytes: &[u8]) -> Result<()> {
        let size = self.block_size() as u64;
        let end = offset + bytes.len() as u64;
        let (first, last) = ((offset / size) as u32, end.div_ceil(size) as u32);
        self.fs.reserve(node, first, last - first, true)?;
        for lblk in first..last {
            let mut block = self.block(node, lblk)?;
            let start = u64::from(lblk) * size;
            let (from, to) = (offset.max(start), end.min(start + size));
            block[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
            self.pages.lock().unwrap().entry(node.ino).or_default().insert(lblk, block);
        }
        node.grow(end);
        Ok(())
    }

    /// Brings a file's written blocks to the device.
    pub fn flush(&self, node: &NodeRef) -> Result<()> {
        let size = self.block_size();
        let Some(pages) = self.pages.lock().unwrap().remove(&node.ino) else { return Ok(()) };
        let all: Vec<(u32, Vec<u8>)> = pages.into_iter().collect();
        for run in all.chunk_by(|a, b| a.0 + 1 == b.0) {
            let first = run[0].0;
            self.fs.write_back(node, first, run.len() as u32, &|| node.size(), &mut |pieces| {
                for piece in pieces {
                    for block in 0..piece.len {
                        let page = &run[(piece.lblk + block - first) as usize].1;
                        self.fs.env.device.write((piece.pblk + u64::from(block)) * size as u64, page)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    pub fn flush_all(&self) -> Result<()> {
        let inodes: Vec<u32> = self.pages.lock().unwrap().keys().copied().collect();
        inodes.into_iter().try_for_each(|ino| self.flush(&self.node(ino)?))
    }

    pub fn fsync(&self, node: &NodeRef) -> Result<()> {
        self.flush(node)?;
        self.fs.commit_all()?;
        self.fs.env.device.flush()
    }

    pub fn sync(&self) -> Result<()> {
        self.flush_all()?;
        self.fs.commit_all()
    }

    /// Zeroes `from..to`, which lies in one block, as the kernel does in its cache before a block's end is cut off.
    fn zero_part(&self, node: &NodeRef, from: u64, to: u64) -> Result<()> {
        let size = self.block_size() as u64;
        let lblk = (from / size) as u32;
        let cached = self.pages.lock().unwrap().get(&node.ino).is_some_and(|pages| pages.contains_key(&lblk));
        if from == to || (!cached && !matches!(self.fs.map(node, lblk, 1)?.place, Place::At(_))) {
            return Ok(());
        }
        let mut block = self.block(node, lblk)?;
        block[(from % size) as usize..][..(to - from) as usize].fill(0);
        self.pages.lock().unwrap().entry(node.ino).or_default().insert(lblk, block);
        Ok(())
    }

    pub fn truncate(&self, node: &NodeRef, len: u64) -> Result<()> {
        let size = self.block_size() as u64;
        let first = len.div_ceil(size) as u32;
        if let Some(pages) = self.pages.lock().unwrap().get_mut(&node.ino) {
            pages.retain(|lblk, _| *lblk < first);
        }
        if len < node.size() {
            self.zero_part(node, len, len.next_multiple_of(size))?;
        }
        self.fs.truncate(node, len)
    }

    pub fn punch(&self, node: &NodeRef, from: u64, to: u64) -> Result<()> {
        let size = self.block_size() as u64;
        self.zero_cached(node, from, to)?;
        if from / size == to / size { Ok(()) } else { self.fs.punch_hole(node, from, to) }
    }

    /// What the cache has of a range: parts of blocks become zeroes, whole blocks go.
    fn zero_cached(&self, node: &NodeRef, from: u64, to: u64) -> Result<()> {
        let size = self.block_size() as u64;
        let (first, last) = (from.div_ceil(size), to / size);
        if from / size == to / size {
            return self.zero_part(node, from, to);
        }
        self.zero_part(node, from, first * size)?;
        self.zero_part(node, last * size, to)?;
        if let Some(pages) = self.pages.lock().unwrap().get_mut(&node.ino) {
            pages.retain(|lblk, _| u64::from(*lblk) < first || u64::from(*lblk) >= last);
        }
        Ok(())
    }

    pub fn zero_range(&self, node: &NodeRef, from: u64, to: u64, grow: bool) -> Result<()> {
        self.zero_cached(node, from, to)?;
        self.fs.zero_range(node, (from, to), grow, true)
    }

    pub fn collapse_range(&self, node: &NodeRef, from: u64, to: u64) -> Result<()> {
        self.flush(node)?;
        self.fs.collapse_range(node, from, to)
    }

    pub fn insert_range(&self, node: &NodeRef, from: u64, to: u64) -> Result<()> {
        self.flush(node)?;
        self.fs.insert_range(node, from, to)
    }

    pub fn unmount(self) -> Result<()> {
        self.flush_all()?;
        self.fs.unmount()
    }
}
