//! One mounted file system: its device, its inodes in use, and what is put off until nobody waits for it.

use crate::env::KernelEnv;
use crate::inode::ExtNode;
use crate::options::{self, MountOptions};
use crate::worker::Worker;
use abi::stat::{EXT4_SUPER_MAGIC, Statfs};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{BlockDevice, Claim};
use core::any::Any;
use core::fmt;
use ext4_core::layout::ROOT_INO;
use ext4_core::{Change, Fs, Node};
use sync::SpinLock;
use sync::levels::Ext4;
use vfs::{Dentry, Inode, InodeRef, NewSuper, SuperBlock, SuperOps, TrimRange};
use vm::InFlight;

pub(crate) type NodeRef = Arc<Node<KernelEnv>>;
pub(crate) type ExtInode = Arc<Inode<ExtNode>>;

/// Work that an inode left behind when it went out of use.
pub(crate) enum Left {
    /// The last name is gone: delete it, when what is on its way has arrived.
    Delete(NodeRef, Option<InFlight>),
    /// Times that only memory has, and a node that may hold promises of room for data that was never written.
    Keep { change: Option<Change>, promised: Option<NodeRef> },
}

/// A mounted file system.
pub(crate) struct Instance {
    pub fs: Box<Fs<KernelEnv>>,
    pub options: MountOptions,
    /// Inodes in use by number; entries of dead ones go when they are met.
    inodes: SpinLock<BTreeMap<u32, Weak<Inode<ExtNode>>>, Ext4>,
    left: SpinLock<BTreeMap<u32, Left>, Ext4>,
    pub worker: Arc<Worker>,
    sb: sync::Once<Weak<SuperBlock>>,
    /// Registered with reclaim as long as the file system is mounted.
    _metadata: Arc<Metadata>,
    /// The device is this mount's alone; given back with the instance.
    _claim: Claim,
}

/// The cache of metadata, as reclaim sees it.
struct Metadata {
    cache: Arc<ext4_core::Cache<KernelEnv>>,
    blocks_per_page: usize,
}

impl vm::reclaim::Shrinker for Metadata {
    fn shrink(&self, pages: usize) -> usize {
        self.cache.shrink(pages.saturating_mul(self.blocks_per_page)) / self.blocks_per_page
    }
}

/// Mounts a device and gives the root. EBUSY while it is in use; else as `Fs::mount`.
pub(crate) fn mount(
    fs_name: &'static str,
    source: &[u8],
    device: Arc<BlockDevice>,
    flags: u64,
    data: &[u8],
) -> Result<Arc<Dentry>> {
    let mut options = options::parse(flags, data)?;
    if device.is_read_only() && !options.core.read_only {
        return Err(Errno::EACCES);
    }
    let claim = device.claim(fs_name)?;
    // What programs wrote to the device itself (mke2fs) has to be there.
    device.sync()?;
    // A few thousand blocks of metadata, and no more than a thirty-second of the memory.
    options.core.cache_blocks = (mem::stats().total_pages / 32).clamp(256, 16384);
    let fs = Fs::mount(KernelEnv::new(device.clone()), options.core)?;
    let dev = device.dev();
    let blocks_per_page = (arch::PAGE_SIZE / fs.geo.block_size).max(1);
    let metadata = Arc::new(Metadata { cache: fs.cache().clone(), blocks_per_page });
    let shrinker: Weak<Metadata> = Arc::downgrade(&metadata);
    vm::reclaim::add_shrinker(shrinker)?;
    let worker = Worker::new();
    let instance = Arc::new(Instance {
        fs,
        options,
        inodes: SpinLock::new(BTreeMap::new()),
        left: SpinLock::new(BTreeMap::new()),
        worker: worker.clone(),
        sb: sync::Once::new(),
        _metadata: metadata,
        _claim: claim,
    });
    let new = NewSuper {
        fs_name,
        source: String::from_utf8_lossy(source).into_owned(),
        magic: EXT4_SUPER_MAGIC,
        read_only: options.core.read_only,
        ops: Box::new(ExtSuper(instance.clone())),
    };
    let sb = new.build_on(dev, instance.fs.geo.block_size as u32, instance.fs.geo.max_bytes());
    let _ = instance.sb.set(Arc::downgrade(&sb));
    listen_to_errors(&instance, &sb);
    let root = instance.inode(ROOT_INO)?;
    worker.start(&instance)?;
    Ok(Dentry::root(b"/", root))
}

/// After an error the file layer refuses writes, too.
fn listen_to_errors(instance: &Arc<Instance>, sb: &Arc<SuperBlock>) {
    let sb = Arc::downgrade(sb);
    let worker = instance.worker.clone();
    let _ = instance.fs.env.on_error.set(Box::new(move |_| {
        if let Some(sb) = sb.upgrade() {
            sb.set_read_only(true);
        }
        worker.note_failure();
    }));
}

impl Instance {
    /// The superblock, while the mount lives.
    pub fn super_block(&self) -> Result<Arc<SuperBlock>> {
        self.sb.get().and_then(Weak::upgrade).ok_or(Errno::EIO)
    }

    /// The inode of a number: the one in use, or a new one.
    pub fn inode(self: &Arc<Self>, ino: u32) -> Result<InodeRef> {
        loop {
            if let Some(inode) = self.in_use(ino) {
                return Ok(inode);
            }
            if let Some(left) = self.take_left(ino) {
                // It was in use a moment ago: what it left comes first.
                self.settle(ino, left);
                continue;
            }
            let node = self.fs.node(ino)?;
            return Ok(self.enter(node));
        }
    }

    /// The inode that a file handle names. ESTALE.
    fn inode_of_handle(self: &Arc<Self>, number: u64, generation: u32) -> Result<InodeRef> {
        let ino = u32::try_from(number).map_err(|_| Errno::ESTALE)?;
        if self.in_use(ino).is_none() {
            self.fs.check_handle(ino, generation)?;
        }
        let inode = self.inode(ino)?;
        let same = crate::inode::ext(&inode)?.node.generation == generation;
        if same && inode.nlink() > 0 { Ok(inode) } else { Err(Errno::ESTALE) }
    }

    fn in_use(&self, ino: u32) -> Option<ExtInode> {
        self.inodes.lock().get(&ino).and_then(Weak::upgrade)
    }

    /// The inode in use, not held.
    pub fn weak(&self, ino: u32) -> Weak<Inode<ExtNode>> {
        self.inodes.lock().get(&ino).cloned().unwrap_or_default()
    }

    /// The inode of a node that was just read or made; the one that somebody else entered meanwhile goes first.
    pub fn enter(self: &Arc<Self>, node: NodeRef) -> InodeRef {
        let Ok(sb) = self.super_block() else { unreachable!("operations run on mounted file systems") };
        let ino = node.ino;
        let new = ExtNode::build(self, &sb, node);
        let mut inodes = self.inodes.lock();
        if let Some(other) = inodes.get(&ino).and_then(Weak::upgrade) {
            drop(inodes);
            return other;
        }
        inodes.insert(ino, Arc::downgrade(&new));
        drop(inodes);
        new
    }

    /// An inode is going out of use. No sleep.
    pub fn leave(&self, node: &NodeRef, left: Option<Left>) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&node.ino).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&node.ino);
        }
        drop(inodes);
        if let Some(left) = left
            && !self.fs.is_read_only()
        {
            self.left.lock().insert(node.ino, left);
            self.worker.wake();
        }
    }

    fn take_left(&self, ino: u32) -> Option<Left> {
        self.left.lock().remove(&ino)
    }

    /// Does what inodes left behind.
    pub fn settle_all(self: &Arc<Self>) {
        loop {
            // Of the files deleted one after the other the last is the head of the orphans: it leaves them without a change
            // of its neighbour's inode.
            let last = self.left.lock().pop_last();
            let Some((ino, left)) = last else { return };
            self.settle(ino, left);
        }
    }

    fn settle(self: &Arc<Self>, ino: u32, left: Left) {
        match left {
            Left::Delete(node, data) => {
                self.fs.doom(&node);
                if let Some(data) = data {
                    data.wait();
                }
                if let Err(error) = self.fs.evict(&node) {
                    klog::pr_warn!(
                        "EXT4-fs ({}): deleting inode {ino}: {}",
                        self.device().name(),
                        error.name()
                    );
                }
            }
            Left::Keep { change, promised } => {
                if let Some(node) = promised {
                    self.fs.forget_promises(&node);
                }
                if let Some(change) = change
                    && let Ok(node) = self.fs.node(ino)
                {
                    let _ = self.fs.set_attributes(&node, &change);
                }
            }
        }
    }

    pub fn device(&self) -> &Arc<BlockDevice> {
        &self.fs.env.device
    }

    /// Inodes in use.
    fn all_in_use(&self) -> Vec<ExtInode> {
        self.inodes.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Everything that is dirty goes to the medium.
    pub fn sync(self: &Arc<Self>) -> Result<()> {
        if self.fs.is_read_only() {
            return if self.fs.is_failed() { Err(Errno::EROFS) } else { Ok(()) };
        }
        self.settle_all();
        // By way of the flusher's list, so that it lets go of inodes that are clean afterwards: an unmount waits for that.
        if let Some(backing) = self.device().backing() {
            backing.sync(true);
        }
        let mut result = Ok(());
        for inode in self.all_in_use() {
            result = result.and(inode.ops.write_all(&inode));
        }
        let committed = self.fs.commit_all().and_then(|()| self.device().flush());
        result.and(committed)
    }

    /// The last mount is gone: everything goes home and the medium is clean.
    fn finish(self: &Arc<Self>) {
        self.worker.stop();
        self.settle_all();
        if self.fs.is_failed() {
            self.fs.store_failure();
        } else if let Err(error) = self.fs.unmount() {
            klog::pr_err!("EXT4-fs ({}): unmount: {}", self.device().name(), error.name());
        }
        // Programs that read the device see what is there now.
        let _ = self.device().drop_cached(0, u64::MAX);
    }
}

/// The file layer's view of it.
struct ExtSuper(Arc<Instance>);

impl Drop for ExtSuper {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl SuperOps for ExtSuper {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn find_inode(&self, _sb: &SuperBlock, number: u64, generation: u32) -> Result<InodeRef> {
        self.0.inode_of_handle(number, generation)
    }

    fn parent_of(&self, dir: &InodeRef) -> Result<InodeRef> {
        dir.ops.lookup(dir, b"..")?.ok_or(Errno::ESTALE)
    }

    fn statfs(&self, _sb: &SuperBlock, out: &mut Statfs) -> Result<()> {
        // Deleted files whose room is not given back yet would surprise whoever just deleted them.
        if !self.0.fs.is_read_only() {
            self.0.settle_all();
        }
        let usage = self.0.fs.usage();
        out.f_blocks = usage.blocks as _;
        out.f_bfree = usage.free_blocks as _;
        out.f_bavail = usage.available_blocks as _;
        out.f_files = usage.inodes as _;
        out.f_ffree = usage.free_inodes as _;
        let half = |at: usize| {
            let bytes = &self.0.fs.geo.uuid;
            let word =
                |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            word(at) ^ word(at + 8)
        };
        out.f_fsid = [half(0) as i32, half(4) as i32];
        Ok(())
    }

    fn remount(&self, sb: &SuperBlock, flags: u64, data: &[u8]) -> Result<()> {
        let new = options::parse(flags, data)?;
        let instance = &self.0;
        instance.fs.set_discards(new.core.discard);
        match (sb.is_read_only(), new.core.read_only) {
            (false, true) => {
                instance.sync()?;
                instance.fs.remount_read_only()
            }
            (true, false) if instance.device().is_read_only() => Err(Errno::EROFS),
            (true, false) => instance.fs.remount_writable(),
            _ => Ok(()),
        }
    }

    fn show_options(&self, _sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.0.options.errors != 0 {
            write!(out, ",errors={}", options::errors_name(self.0.options.errors))?;
        }
        if self.0.options.commit_s != 5 {
            write!(out, ",commit={}", self.0.options.commit_s)?;
        }
        if self.0.fs.discards() {
            out.write_str(",discard")?;
        }
        Ok(())
    }

    fn sync(&self, _sb: &SuperBlock, _wait: bool) -> Result<()> {
        self.0.sync()
    }

    fn trim(&self, _sb: &SuperBlock, range: TrimRange, privileged: bool) -> Result<u64> {
        let (fs, device) = (&self.0.fs, self.0.device());
        if !privileged {
            return Err(Errno::EPERM);
        }
        let discard = device.limits().discard.ok_or(Errno::EOPNOTSUPP)?;
        let bits = fs.geo.block_bits;
        let (start, count) = (range.start >> bits, range.len >> bits);
        let least = range.min_len >> bits;
        if start >= fs.geo.blocks || count == 0 || least > u64::from(fs.geo.blocks_per_group) {
            return Err(Errno::EINVAL);
        }
        let least = (least as u32).max(discard.granularity >> bits);
        Ok(fs.trim(start, start.saturating_add(count), least)? << bits)
    }
}
