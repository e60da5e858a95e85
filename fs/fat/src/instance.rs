//! One mounted file system: its device, its lock, its inodes in use.

use crate::disk::KernelDisk;
use crate::inode::FatNode;
use crate::options::{self, Options};
use crate::worker::Worker;
use abi::stat::{MSDOS_SUPER_MAGIC, Statfs};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{BlockDevice, Claim};
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use fat_core::{Fs, ROOT};
use sync::SpinLock;
use sync::levels::{Fat, FatVolume};
use task::{Mutex, MutexGuard};
use vfs::{Dentry, Inode, InodeRef, NewSuper, SuperBlock, SuperOps};

pub(crate) type FatInode = Arc<Inode<FatNode>>;

/// Buffers that may wait for being written; whoever makes more writes them.
const MAX_DIRTY: usize = 2048;

/// A mounted file system.
pub(crate) struct Instance {
    pub device: Arc<BlockDevice>,
    pub options: Options,
    /// log2 of the bytes of a cluster.
    pub cluster_bits: u32,
    serial: u32,
    fs: Mutex<Fs<KernelDisk>, FatVolume>,
    /// Inodes in use by number. They come and go with `fs` locked, but that dead ones go when they are met.
    inodes: SpinLock<BTreeMap<u64, Weak<Inode<FatNode>>>, Fat>,
    /// Files that went out of use, for who locks next: to forget one takes reading and writing.
    left: SpinLock<BTreeSet<u64>, Fat>,
    worker: Arc<Worker>,
    sb: sync::Once<Weak<SuperBlock>>,
    told_of_damage: AtomicBool,
    /// The device is this mount's alone; given back with the instance.
    _claim: Claim,
}

/// Mounts a device and gives the root. EBUSY while it is in use; EINVAL when it has no FAT, or sectors smaller than
/// the device's.
pub(crate) fn mount(source: &[u8], device: Arc<BlockDevice>, options: Options) -> Result<Arc<Dentry>> {
    if device.is_read_only() && !options.read_only {
        return Err(Errno::EACCES);
    }
    let claim = device.claim("vfat")?;
    // What programs wrote to the device itself (mkfs.fat) has to be there for what does not pass its cache.
    device.sync()?;
    let mut fs = Fs::mount(KernelDisk::new(device.clone()))?;
    if fs.geometry().sector < device.logical_block() {
        return Err(Errno::EINVAL);
    }
    if fs.was_dirty() {
        klog::pr_warn!(
            "FAT-fs ({}): Volume was not properly unmounted. Some data may be corrupt. Please run fsck.",
            device.name()
        );
    }
    fs.set_writable(!options.read_only)?;
    let worker = Worker::new();
    let instance = Arc::new(Instance {
        options,
        cluster_bits: fs.geometry().cluster_bits,
        serial: fs.geometry().serial,
        fs: Mutex::new(fs),
        inodes: SpinLock::new(BTreeMap::new()),
        left: SpinLock::new(BTreeSet::new()),
        worker: worker.clone(),
        sb: sync::Once::new(),
        told_of_damage: AtomicBool::new(false),
        device: device.clone(),
        _claim: claim,
    });
    let new = NewSuper {
        fs_name: "vfat",
        source: String::from_utf8_lossy(source).into_owned(),
        magic: MSDOS_SUPER_MAGIC,
        read_only: options.read_only,
        ops: Box::new(FatSuper(instance.clone())),
    };
    let sb = new.build_on(device.dev(), 1 << instance.cluster_bits, fat_core::fs::MAX_BYTES);
    let _ = instance.sb.set(Arc::downgrade(&sb));
    let root = instance.with(|fs| instance.inode(fs, ROOT))?;
    worker.start(&instance)?;
    Ok(Dentry::root(b"/", root))
}

impl Instance {
    /// The superblock, while the mount lives.
    fn super_block(&self) -> Result<Arc<SuperBlock>> {
        self.sb.get().and_then(Weak::upgrade).ok_or(Errno::EIO)
    }

    /// Runs one operation on the file system, after what files left that went out of use. May sleep.
    pub fn with<R>(&self, operation: impl FnOnce(&mut Fs<KernelDisk>) -> Result<R>) -> Result<R> {
        let mut fs = self.fs.lock();
        self.forget_left(&mut fs);
        let result = operation(&mut fs);
        self.look_after(fs);
        result
    }

    /// The end of an operation: what it changed will be written, and what it found wrong is said.
    fn look_after(&self, mut fs: MutexGuard<'_, Fs<KernelDisk>, FatVolume>) {
        if fs.is_damaged() && !self.told_of_damage.swap(true, Ordering::Relaxed) {
            klog::pr_err!("FAT-fs ({}): error, filesystem has been set read-only", self.device.name());
            if let Ok(sb) = self.super_block() {
                sb.set_read_only(true);
            }
        }
        match fs.disk().dirty() {
            0 => {}
            1..=MAX_DIRTY => self.worker.wake(),
            _ => self.tell_error(fs.disk().write_out()),
        }
    }

    fn tell_error(&self, result: Result<()>) {
        if let Err(error) = result {
            klog::pr_err!("FAT-fs ({}): writing metadata: {}", self.device.name(), error.name());
        }
    }

    fn forget_left(&self, fs: &mut Fs<KernelDisk>) {
        loop {
            let first = self.left.lock().pop_first();
            let Some(ino) = first else { return };
            // It may have come into use again.
            if self.in_use(ino).is_none() {
                self.tell_error(fs.forget(ino));
            }
        }
    }

    /// The inode of a file in use; a new one if there is none.
    pub fn inode(self: &Arc<Self>, fs: &mut Fs<KernelDisk>, ino: u64) -> Result<InodeRef> {
        if let Some(inode) = self.in_use(ino) {
            return Ok(inode);
        }
        let made = fs.stat(ino).and_then(|stat| {
            let sb = self.super_block()?;
            let name = fs.name(ino).unwrap_or(b"").into();
            Ok(FatNode::build(self, &sb, ino, &stat, name))
        });
        match made {
            Ok(inode) => {
                self.inodes.lock().insert(ino, Arc::downgrade(&inode));
                Ok(inode)
            }
            Err(error) => {
                fs.forget(ino)?;
                Err(error)
            }
        }
    }

    fn in_use(&self, ino: u64) -> Option<FatInode> {
        self.inodes.lock().get(&ino).and_then(Weak::upgrade)
    }

    /// The inode in use, not held.
    pub fn weak(&self, ino: u64) -> Weak<Inode<FatNode>> {
        self.inodes.lock().get(&ino).cloned().unwrap_or_default()
    }

    /// An inode is going out of use. No sleep.
    pub fn leave(&self, ino: u64) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&ino).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&ino);
        }
        drop(inodes);
        self.left.lock().insert(ino);
    }

    /// Writes what operations changed. The worker's.
    pub fn write_metadata(&self) {
        let written = self.with(|fs| {
            fs.store_info()?;
            fs.disk().write_out()
        });
        self.tell_error(written);
    }

    /// Metadata to the medium.
    pub fn sync_metadata(&self) -> Result<()> {
        self.with(|fs| {
            fs.store_info()?;
            fs.disk().write_out()
        })?;
        self.device.flush()
    }

    /// Everything that is dirty goes to the medium.
    fn sync(&self) -> Result<()> {
        // By way of the flusher's list, so that it lets go of inodes that are clean afterwards: an unmount waits for that.
        if let Some(backing) = self.device.backing() {
            backing.sync(true);
        }
        let all: Vec<FatInode> = self.inodes.lock().values().filter_map(Weak::upgrade).collect();
        let data = all.iter().fold(Ok(()), |result, inode| result.and(inode.ops.write_all(inode)));
        drop(all);
        data.and(self.sync_metadata())
    }

    fn set_writable(&self, writable: bool) -> Result<()> {
        self.with(|fs| fs.set_writable(writable))?;
        self.sync_metadata()
    }

    /// The last mount is gone: the volume says that all is well.
    fn finish(&self) {
        self.worker.stop();
        self.tell_error(self.set_writable(false));
        // Programs that read the device see what is there now.
        let _ = self.device.drop_cached(0, u64::MAX);
    }
}

/// The file layer's view of it.
struct FatSuper(Arc<Instance>);

impl Drop for FatSuper {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl SuperOps for FatSuper {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn statfs(&self, _sb: &SuperBlock, out: &mut Statfs) -> Result<()> {
        let usage = self.0.with(|fs| fs.usage())?;
        out.f_blocks = usage.clusters as _;
        out.f_bfree = usage.free as _;
        out.f_bavail = usage.free as _;
        out.f_fsid = [self.0.serial as i32, 0];
        Ok(())
    }

    fn remount(&self, sb: &SuperBlock, flags: u64, data: &[u8]) -> Result<()> {
        let read_only = options::read_only(flags, data)?;
        match (sb.is_read_only(), read_only) {
            (false, true) => {
                self.0.sync()?;
                self.0.set_writable(false)
            }
            (true, false) if self.0.device.is_read_only() => Err(Errno::EROFS),
            (true, false) => self.0.set_writable(true),
            _ => Ok(()),
        }
    }

    fn show_options(&self, _sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        self.0.options.show(out)
    }

    fn sync(&self, _sb: &SuperBlock, _wait: bool) -> Result<()> {
        self.0.sync()
    }
}
