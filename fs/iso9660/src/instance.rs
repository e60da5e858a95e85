//! One mounted file system: its device, its options, its inodes in use.

use crate::inode::IsoNode;
use abi::fs::MS_RDONLY;
use abi::stat::{ISOFS_SUPER_MAGIC, Statfs};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use block::{BlockDevice, Claim, bread};
use core::any::Any;
use core::fmt;
use iso9660_core::volume::Names;
use iso9660_core::{Disk, Entry, Options as CoreOptions, Volume};
use sync::SpinLock;
use sync::levels::Iso;
use vfs::{Dentry, Inode, InodeRef, NewSuper, SuperBlock, SuperOps, mount_options};

/// What mount(2) asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub read_only: bool,
    core: CoreOptions,
    /// Owner of everything, whatever Rock Ridge says.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Permissions of files and directories where there is no Rock Ridge.
    pub mode: u32,
    pub dmode: u32,
}

/// Reads options. EINVAL for one that is not known, or whose effect we cannot give.
pub(crate) fn parse(data: &[u8]) -> Result<Options> {
    let core = CoreOptions { rock_ridge: true, joliet: true };
    let mut options = Options { read_only: false, core, uid: None, gid: None, mode: 0o555, dmode: 0o555 };
    for (key, value) in mount_options(data) {
        match (key, value) {
            (b"ro", None) => options.read_only = true,
            (b"norock", None) => options.core.rock_ridge = false,
            (b"nojoliet", None) => options.core.joliet = false,
            (b"uid", Some(value)) => options.uid = Some(number(value, 10)?),
            (b"gid", Some(value)) => options.gid = Some(number(value, 10)?),
            (b"mode", Some(value)) => options.mode = number(value, 8)? & 0o777,
            (b"dmode", Some(value)) => options.dmode = number(value, 8)? & 0o777,
            // So in any case, or advice.
            (b"utf8" | b"defaults" | b"nocompress", None) => {}
            (b"iocharset", Some(b"utf8")) | (b"map", Some(b"n" | b"normal")) => {}
            (b"noatime" | b"nodiratime" | b"relatime", None) => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(options)
}

fn number(value: &[u8], radix: u32) -> Result<u32> {
    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
    u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
}

/// The device as lib/iso9660 sees it: by way of its page cache. EINTR after a fatal signal: a damaged directory may be
/// gigabytes of nothing.
pub(crate) struct KernelDisk<'a>(pub &'a Arc<BlockDevice>);

impl Disk for KernelDisk<'_> {
    fn read(&mut self, mut at: u64, out: &mut [u8]) -> Result<()> {
        let unit = self.0.logical_block();
        let mut rest = out;
        if task::current().fatal_pending() {
            return Err(Errno::EINTR);
        }
        while !rest.is_empty() {
            let buffer = bread(self.0, at / u64::from(unit), unit)?;
            let inside = (at % u64::from(unit)) as usize;
            let len = rest.len().min(unit as usize - inside);
            let (now, later) = core::mem::take(&mut rest).split_at_mut(len);
            buffer.read(inside, now);
            (rest, at) = (later, at.checked_add(len as u64).ok_or(Errno::EIO)?);
        }
        Ok(())
    }
}

/// An inode in use, and the number of the directory it was found in.
struct InUse {
    inode: Weak<Inode<IsoNode>>,
    parent: u64,
}

/// A mounted file system.
pub(crate) struct Instance {
    pub device: Arc<BlockDevice>,
    pub volume: Volume,
    pub options: Options,
    /// By number; entries of dead ones go when they are met.
    inodes: SpinLock<BTreeMap<u64, InUse>, Iso>,
    sb: sync::Once<Weak<SuperBlock>>,
    /// The device is this mount's alone; given back with the instance.
    _claim: Claim,
}

/// Mounts a device and gives the root. EBUSY while it is in use, EINVAL when it has no ISO 9660.
pub(crate) fn mount(source: &[u8], device: Arc<BlockDevice>, options: Options) -> Result<Arc<Dentry>> {
    let claim = device.claim("iso9660")?;
    // Contents do not pass the device's cache.
    device.sync()?;
    let volume = Volume::open(&mut KernelDisk(&device), &options.core)?;
    let instance = Arc::new(Instance {
        device: device.clone(),
        options,
        inodes: SpinLock::new(BTreeMap::new()),
        sb: sync::Once::new(),
        _claim: claim,
        volume,
    });
    let new = NewSuper {
        fs_name: "iso9660",
        source: String::from_utf8_lossy(source).into_owned(),
        magic: ISOFS_SUPER_MAGIC,
        read_only: true,
        ops: Box::new(IsoSuper(instance.clone())),
    };
    let sb = new.build_on(device.dev(), 1 << instance.volume.block_bits, i64::MAX as u64);
    let _ = instance.sb.set(Arc::downgrade(&sb));
    let root = instance.volume.root().clone();
    let ino = root.ino;
    Ok(Dentry::root(b"/", instance.inode(root, ino)?))
}

impl Instance {
    /// Whether file names are searched without regard to case.
    pub fn folds_names(&self) -> bool {
        self.volume.names == Names::Joliet
    }

    /// The inode of an entry found in directory `parent`. ELOOP for a directory that is also somewhere else.
    pub fn inode(self: &Arc<Self>, entry: Entry, parent: u64) -> Result<InodeRef> {
        let (ino, is_dir) = (entry.ino, entry.is_dir);
        if let Some(known) = self.known(ino, is_dir, parent)? {
            return Ok(known);
        }
        let sb = self.sb.get().and_then(Weak::upgrade).ok_or(Errno::EIO)?;
        let new = IsoNode::build(self, &sb, entry)?;
        let mut inodes = self.inodes.lock();
        // Somebody else may have been here meanwhile.
        if let Some(other) = inodes.get(&ino).and_then(|known| known.inode.upgrade()) {
            drop(inodes);
            return Ok(other);
        }
        inodes.insert(ino, InUse { inode: Arc::downgrade(&new), parent });
        drop(inodes);
        Ok(new)
    }

    fn known(&self, ino: u64, is_dir: bool, parent: u64) -> Result<Option<InodeRef>> {
        let inodes = self.inodes.lock();
        let known = inodes.get(&ino).and_then(|known| Some((known.inode.upgrade()?, known.parent)));
        drop(inodes);
        match known {
            Some((inode, _)) if inode.is_dir() != is_dir => Err(Errno::EIO),
            Some((_, known)) if is_dir && known != parent => Err(Errno::ELOOP),
            Some((inode, _)) => Ok(Some(inode)),
            None => Ok(None),
        }
    }

    /// The inode in use, not held.

    /// An inode is going out of use. No sleep.
    pub fn leave(&self, ino: u64) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&ino).is_some_and(|known| known.inode.strong_count() == 0) {
            inodes.remove(&ino);
        }
    }
}

/// The file layer's view of it.
struct IsoSuper(Arc<Instance>);

impl SuperOps for IsoSuper {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn statfs(&self, _sb: &SuperBlock, out: &mut Statfs) -> Result<()> {
        out.f_blocks = self.0.volume.blocks.into();
        Ok(())
    }

    fn remount(&self, _sb: &SuperBlock, flags: u64, data: &[u8]) -> Result<()> {
        let options = parse(data)?;
        if flags & MS_RDONLY == 0 && !options.read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn show_options(&self, _sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        let options = &self.0.options;
        for (off, word) in [(!options.core.rock_ridge, ",norock"), (!options.core.joliet, ",nojoliet")] {
            if off {
                out.write_str(word)?;
            }
        }
        for (name, value) in [("uid", options.uid), ("gid", options.gid)] {
            if let Some(value) = value {
                write!(out, ",{name}={value}")?;
            }
        }
        out.write_str(",iocharset=utf8")
    }
}
