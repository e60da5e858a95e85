//! A mounted file system instance, and the types of file systems.

use crate::dentry::Dentry;
use crate::fs_context::Caller;
use crate::inode::InodeRef;
use abi::fs::{MS_DIRSYNC, MS_SYNCHRONOUS};
use abi::stat::{DevId, Statfs};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sync::SpinLock;
use sync::levels;

/// What FITRIM asks for, in bytes of the file system: where, and how long a run of free blocks is worth it.
#[derive(Debug, Clone, Copy)]
pub struct TrimRange {
    pub start: u64,
    pub len: u64,
    pub min_len: u64,
}

/// What a file system does as a whole.
pub trait SuperOps: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;

    /// Fills sizes and counts; type, name length, id and flags are set already. statfs(2).
    fn statfs(&self, _sb: &SuperBlock, _out: &mut Statfs) -> Result<()> {
        Ok(())
    }

    /// New options of mount(MS_REMOUNT); `flags` and `data` as for [`FsType::mount`]. Whether it is read-only
    /// then, `sb` is told afterwards.
    fn remount(&self, _sb: &SuperBlock, _flags: u64, _data: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Options for /proc/mounts, each with a comma in front.
    fn show_options(&self, _sb: &SuperBlock, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    /// Writes what is dirty. `wait`: until it is on the medium.
    fn sync(&self, _sb: &SuperBlock, _wait: bool) -> Result<()> {
        Ok(())
    }

    /// The inode of a number, if it is still of that generation and has a name. ESTALE.
    fn find_inode(&self, _sb: &SuperBlock, _number: u64, _generation: u32) -> Result<InodeRef> {
        Err(Errno::ESTALE)
    }

    /// The directory that a directory is in. ESTALE.
    fn parent_of(&self, _dir: &InodeRef) -> Result<InodeRef> {
        Err(Errno::ESTALE)
    }

    /// Discards free blocks of the device; how many bytes that were. ENOTTY where there is no such thing, EPERM without
    /// `privileged` (CAP_SYS_ADMIN), EOPNOTSUPP when the device cannot, EINVAL for a range outside. FITRIM.
    fn trim(&self, _sb: &SuperBlock, _range: TrimRange, _privileged: bool) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// How many file systems each of its calls goes through below it: Linux's `s_stack_depth`. Each takes of the kernel
    /// stack, so that who stands on others bounds it.
    fn stack_depth(&self) -> u32 {
        0
    }
}

/// A file system with no file system-wide state.
pub struct PlainSuper;

impl SuperOps for PlainSuper {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// One instance of a file system (Linux's super_block). Lives as long as a mount or an inode of it.
pub struct SuperBlock {
    /// The type's name as in /proc/filesystems.
    pub fs_name: &'static str,
    /// What was mounted: a device's path, or any word.
    pub source: String,
    /// `st_dev` of its files.
    pub dev: DevId,
    /// `f_type` of statfs(2).
    pub magic: u32,
    pub block_size: u32,
    pub name_max: u32,
    /// The last byte a file may have, plus one.
    pub max_bytes: u64,
    pub ops: Box<dyn SuperOps>,
    read_only: AtomicBool,
    /// Of [`MS_SYNCHRONOUS`] and [`MS_DIRSYNC`] those that were mounted with.
    synchronous: AtomicU64,
    /// Held by rename across directories (Linux's s_vfs_rename_mutex).
    pub(crate) rename: task::Mutex<(), levels::Rename>,
    next_ino: AtomicU64,
    /// Mounts that show it.
    pub(crate) mounts: AtomicU32,
}

/// What a new [`SuperBlock`] starts with.
pub struct NewSuper {
    pub fs_name: &'static str,
    pub source: String,
    pub magic: u32,
    pub read_only: bool,
    pub ops: Box<dyn SuperOps>,
}

impl NewSuper {
    /// Makes the superblock with an anonymous device number (major 0).
    pub fn build(self) -> Arc<SuperBlock> {
        self.build_on(next_anonymous_device(), arch::PAGE_SIZE as u32, i64::MAX as u64)
    }

    /// Makes the superblock of a file system on a block device, with its block size and the longest that a file
    /// may be.
    pub fn build_on(self, dev: DevId, block_size: u32, max_bytes: u64) -> Arc<SuperBlock> {
        Arc::new(SuperBlock {
            fs_name: self.fs_name,
            source: self.source,
            dev,
            magic: self.magic,
            block_size,
            name_max: abi::fs::NAME_MAX as u32,
            max_bytes,
            ops: self.ops,
            read_only: AtomicBool::new(self.read_only),
            synchronous: AtomicU64::new(0),
            rename: task::Mutex::new(()),
            next_ino: AtomicU64::new(1),
            mounts: AtomicU32::new(0),
        })
    }
}

/// Device numbers for file systems without a device: 0:1, 0:2 and on.
fn next_anonymous_device() -> DevId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    DevId::new(0, NEXT.fetch_add(1, Ordering::Relaxed) & 0xf_ffff)
}

impl SuperBlock {
    /// An inode number that this file system has not used.
    pub fn next_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    pub fn set_read_only(&self, on: bool) {
        self.read_only.store(on, Ordering::Relaxed);
    }

    /// Which of [`MS_SYNCHRONOUS`] (what is written) and [`MS_DIRSYNC`] (changes of names) are on the medium before a
    /// call returns.
    #[inline]
    pub fn synchronous(&self) -> u64 {
        self.synchronous.load(Ordering::Relaxed)
    }

    /// Takes these two of the flags of mount(2). The other mounts of the instance show them, too, as in Linux.
    pub(crate) fn set_synchronous(&self, flags: u64) {
        self.synchronous.store(flags & (MS_SYNCHRONOUS | MS_DIRSYNC), Ordering::Relaxed);
    }

    /// statfs(2) of this file system; `f_flags` is the mount's business.
    pub fn statfs(&self) -> Result<Statfs> {
        let mut out = Statfs {
            f_type: i64::from(self.magic),
            f_bsize: i64::from(self.block_size),
            f_frsize: i64::from(self.block_size),
            f_namelen: i64::from(self.name_max),
            f_fsid: [self.dev.encode() as i32, 0],
            ..Statfs::default()
        };
        self.ops.statfs(self, &mut out)?;
        Ok(out)
    }
}

/// A kind of file system: what mount(2)'s third argument names.
pub trait FsType: Send + Sync + 'static {
    /// As in /proc/filesystems.
    fn name(&self) -> &'static str;

    /// Shown with "nodev" in /proc/filesystems.
    fn needs_device(&self) -> bool {
        false
    }

    /// Makes or finds an instance and gives its root. `data` is mount(2)'s option string.
    fn mount(&self, source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>>;
}

static TYPES: SpinLock<Vec<&'static dyn FsType>, levels::SuperBlock> = SpinLock::new(Vec::new());

/// Makes a file system type known. A second registration of a name is EBUSY.
pub fn register_filesystem(fs: &'static dyn FsType) -> Result<()> {
    let mut types = TYPES.lock();
    if types.iter().any(|known| known.name() == fs.name()) {
        return Err(Errno::EBUSY);
    }
    types.push(fs);
    Ok(())
}

/// The type of that name. ENODEV when there is none.
pub fn find_filesystem(name: &[u8]) -> Result<&'static dyn FsType> {
    TYPES.lock().iter().copied().find(|fs| fs.name().as_bytes() == name).ok_or(Errno::ENODEV)
}

/// The text of /proc/filesystems.
pub fn show_filesystems(out: &mut dyn fmt::Write) -> fmt::Result {
    let types = TYPES.lock().clone();
    for fs in types {
        writeln!(out, "{}\t{}", if fs.needs_device() { "" } else { "nodev" }, fs.name())?;
    }
    Ok(())
}

/// Splits mount(2)'s data into `key` and `key=value` options, for file systems to match on.
pub fn mount_options(data: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    data.split(|b| *b == b',').filter(|word| !word.is_empty()).map(|word| {
        match word.iter().position(|b| *b == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        }
    })
}
