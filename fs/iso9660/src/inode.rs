//! Inodes: what one record said.

use crate::file::{DataOps, DirFile, RegularFile};
use crate::instance::{Instance, KernelDisk};
use abi::stat::{DevId, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use iso9660_core::{Entry, Reader};
use sync::Once;
use vfs::{
    Caller, FileType, Inode, InodeFlags, InodeOps, InodeRef, LastState, Link, NewInode, OpsRef, SetAttr,
    SuperBlock,
};
use vm::{CacheKind, Mapping};

/// ISO 9660's part of an inode.
pub(crate) struct IsoNode {
    pub instance: Arc<Instance>,
    pub entry: Arc<Entry>,
    /// The pages of a regular file; made when they are first needed.
    mapping: Once<Arc<Mapping>>,
}

/// The inode's own part, if it is of this file system.
pub(crate) fn iso(inode: &InodeRef) -> Result<&IsoNode> {
    inode.ops_as::<IsoNode>().ok_or(Errno::EXDEV)
}

/// Type and permissions; EIO when the record contradicts itself.
fn mode_of(instance: &Instance, entry: &Entry) -> Result<u32> {
    let options = &instance.options;
    match &entry.posix {
        Some(posix) if (posix.mode & S_IFMT == S_IFDIR) != entry.is_dir => Err(Errno::EIO),
        Some(posix) if posix.mode & S_IFMT == S_IFLNK && entry.link.is_none() => Err(Errno::EIO),
        Some(posix) => Ok(posix.mode & 0o17_7777),
        None if entry.is_dir => Ok(S_IFDIR | options.dmode),
        None => Ok(S_IFREG | options.mode),
    }
}

impl IsoNode {
    /// The file layer's inode of an entry.
    pub fn build(
        instance: &Arc<Instance>,
        sb: &Arc<SuperBlock>,
        entry: Entry,
    ) -> Result<Arc<Inode<IsoNode>>> {
        let mode = mode_of(instance, &entry)?;
        let (options, posix) = (&instance.options, entry.posix);
        let device = posix.map_or((0, 0), |posix| posix.device);
        let link = entry.link.as_ref().map(|text| text.len() as u64);
        let folded = entry.is_dir && instance.folds_names();
        let new = NewInode {
            uid: options.uid.or(posix.map(|posix| posix.uid)).unwrap_or(0),
            gid: options.gid.or(posix.map(|posix| posix.gid)).unwrap_or(0),
            nlink: posix.map_or(1, |posix| posix.links),
            rdev: DevId::new(device.0, device.1),
            size: link.unwrap_or(entry.size()),
            flags: InodeFlags::NO_ATIME | if folded { InodeFlags::FOLDED } else { InodeFlags::empty() },
            ..NewInode::new(entry.ino, mode)
        };
        let times = entry.times;
        let node = IsoNode { instance: instance.clone(), entry: Arc::new(entry), mapping: Once::new() };
        let inode = new.build(sb, node);
        inode.set_atime(times.read);
        inode.set_mtime(times.written);
        inode.set_ctime(times.changed);
        inode.set_btime(times.made);
        inode.set_blocks(inode.size().next_multiple_of(1 << instance.volume.block_bits) >> 9);
        Ok(inode)
    }

    /// The page cache of a regular file.
    fn mapping(&self, inode: &InodeRef) -> Result<&Arc<Mapping>> {
        if self.entry.interleaved {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.mapping.get().is_none() {
            let (instance, entry) = (self.instance.clone(), self.entry.clone());
            let ops = Arc::new(DataOps { instance, entry });
            // Two may both make one; the first that is set stays.
            let _ = self.mapping.set(Mapping::new(CacheKind::Backed, inode.size(), ops));
        }
        Ok(self.mapping.get_expect())
    }

    /// Finds a name; letters' case is no difference with Joliet.
    fn find(&self, name: &[u8]) -> Result<Option<Entry>> {
        let folds = self.instance.folds_names();
        let wanted = if folds { trim_dots(name) } else { name };
        let mut reader = Reader::new(&self.entry, 0);
        while let Some(entry) = reader.next(&self.instance.volume, &mut KernelDisk(&self.instance.device))? {
            let same = match folds {
                true => trim_dots(&entry.name).eq_ignore_ascii_case(wanted),
                false => entry.name == wanted,
            };
            if same {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

fn trim_dots(name: &[u8]) -> &[u8] {
    let len = name.iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1);
    &name[..len]
}

impl InodeOps for IsoNode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn released(&self, _last: &LastState) {
        self.instance.leave(self.entry.ino);
    }

    fn own_name(&self) -> Option<Vec<u8>> {
        Some(self.entry.name.clone())
    }

    fn lookup(&self, dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        match self.find(name)? {
            Some(entry) => self.instance.inode(entry, dir.ino).map(Some),
            None => Ok(None),
        }
    }

    fn follow(&self, _inode: &InodeRef, _caller: &Caller) -> Result<Link> {
        let text = self.entry.link.as_ref().ok_or(Errno::EINVAL)?;
        Ok(Link::Text(text.as_slice().into()))
    }

    fn setattr(&self, _inode: &InodeRef, _set: &SetAttr) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn open(&self, inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        match inode.file_type() {
            FileType::Directory => Ok(OpsRef::Static(&DirFile)),
            FileType::Regular => Ok(OpsRef::shared(RegularFile(self.mapping(inode)?.clone()))),
            _ => Err(Errno::ENXIO),
        }
    }
}
