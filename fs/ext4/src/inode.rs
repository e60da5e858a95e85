//! Inodes: names and attributes, from the file layer to lib/ext4 and back.

use crate::data::{DataOps, PAGE};
use crate::file::{DirFile, RegularFile};
use crate::instance::{ExtInode, Instance, Left, NodeRef};
use abi::fcntl::{FIEMAP_EXTENT_DELALLOC, FIEMAP_EXTENT_UNKNOWN, FIEMAP_EXTENT_UNWRITTEN};
use abi::fcntl::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
use abi::stat::{DevId, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use ext4_core::layout::InodeFlags as CoreFlags;
use ext4_core::namei::{NewFile, Rename as CoreRename};
use ext4_core::{Change, Place, Stat};
use sync::Once;
use vfs::{
    Attr, Caller, Cred, FileExtent, FileType, Inode, InodeFlags, InodeOps, InodeRef, LastState, Link,
    NewInode, OpsRef, Rename, SetAttr, SuperBlock,
};
use vm::{CacheKind, Mapping};

/// The flags of chattr(1) that are shown (EXT4_FL_USER_VISIBLE), and those that can be changed here. Linux could also
/// change how a file is mapped, journalled or compared; here these stay as they are.
const FLAGS_SHOWN: u32 = 0x725b_dfff;
const FLAGS_SET: u32 = 0x2003_80ff;
const FLAGS_FIXED: u32 = 0x624b_c0ff & !FLAGS_SET;

/// ext4's part of an inode.
pub(crate) struct ExtNode {
    pub instance: Arc<Instance>,
    pub node: NodeRef,
    /// The pages of a regular file; made when they are first needed.
    mapping: Once<Arc<Mapping>>,
    /// The text of a symbolic link.
    text: Once<Arc<[u8]>>,
    /// The times that the medium has, to see what only memory has.
    times: sync::SpinLock<SavedTimes, sync::levels::Ext4>,
}

/// Access, modification and change time as stored.
type SavedTimes = (i64, i64, i64);

/// The inode of `ops`, if it is of this file system.
pub(crate) fn ext(inode: &InodeRef) -> Result<&ExtNode> {
    inode.ops_as::<ExtNode>().ok_or(Errno::EXDEV)
}

impl ExtNode {
    /// The file layer's inode of a node.
    pub fn build(instance: &Arc<Instance>, sb: &Arc<SuperBlock>, node: NodeRef) -> ExtInode {
        let stat = node.stat(&instance.fs);
        let new = NewInode {
            ino: u64::from(node.ino),
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            rdev: DevId::new(stat.rdev.0, stat.rdev.1),
            size: stat.size,
            flags: InodeFlags::GETATTR,
        };
        let times = stat.times;
        let inode = new.build(
            sb,
            ExtNode {
                instance: instance.clone(),
                node,
                mapping: Once::new(),
                text: Once::new(),
                times: sync::SpinLock::new((times.atime, times.mtime, times.ctime)),
            },
        );
        inode.set_atime(times.atime);
        inode.set_mtime(times.mtime);
        inode.set_ctime(times.ctime);
        inode.set_btime(times.btime);
        inode.set_blocks(stat.blocks);
        inode.set_attributes(stat.flags.bits());
        if inode.ops.instance.fs.has_xattrs(&inode.ops.node) {
            inode.set_may_have_acl();
        }
        inode
    }

    /// The page cache of a regular file.
    pub fn mapping(&self, inode: &InodeRef) -> Result<&Arc<Mapping>> {
        if self.mapping.get().is_none() {
            if !inode.is_regular() {
                return Err(Errno::EINVAL);
            }
            let this = self.instance.inode(self.node.ino)?;
            let ops = Arc::new(DataOps::new(&self.instance, &self.node, &this));
            // Two may both make one; the first that is set stays.
            let _ = self.mapping.set(Mapping::new(CacheKind::Backed, inode.size(), ops));
        }
        Ok(self.mapping.get_expect())
    }

    pub fn mapping_if_used(&self) -> Option<&Arc<Mapping>> {
        self.mapping.get()
    }

    /// Takes over what an operation changed in lib/ext4: links, and for directories length and times.
    fn mirror(&self, inode: &InodeRef) {
        let stat = self.node.stat(&self.instance.fs);
        inode.set_nlink(stat.nlink);
        inode.set_ctime(stat.times.ctime);
        let mut saved = self.times.lock();
        saved.2 = stat.times.ctime;
        if stat.mode & S_IFMT == S_IFDIR {
            inode.set_size(stat.size);
            inode.set_mtime(stat.times.mtime);
            saved.1 = stat.times.mtime;
        }
    }

    /// The times that only memory has.
    fn unsaved(&self, now: SavedTimes) -> Option<Change> {
        let saved = *self.times.lock();
        (now != saved).then(|| Change {
            atime: Some(now.0),
            mtime: Some(now.1),
            ctime: Some(now.2),
            ..Change::default()
        })
    }

    /// Brings times and length, as far as data is placed, to the medium's inode (in a transaction).
    pub fn write_inode<T: InodeOps + ?Sized>(&self, inode: &Inode<T>) -> Result<()> {
        let size = self.mapping.get().filter(|mapping| !mapping.is_dirty()).map(|mapping| mapping.size());
        if let Some(size) = size {
            self.instance.fs.cover_size(&self.node, size)?;
        }
        let Some(change) = self.unsaved((inode.atime(), inode.mtime(), inode.ctime())) else { return Ok(()) };
        self.instance.fs.set_attributes(&self.node, &change)?;
        self.saved(&change);
        Ok(())
    }

    fn saved(&self, change: &Change) {
        let mut saved = self.times.lock();
        saved.0 = change.atime.unwrap_or(saved.0);
        saved.1 = change.mtime.unwrap_or(saved.1);
        saved.2 = change.ctime.unwrap_or(saved.2);
    }

    /// Data and inode to the device.
    pub fn write_all(&self, inode: &ExtInode) -> Result<()> {
        if let Some(mapping) = self.mapping.get() {
            mapping.sync(0, u64::MAX)?;
        }
        if inode.nlink() == 0 { Ok(()) } else { self.write_inode(inode) }
    }

    /// Deleted files need not be written: nothing but open files keeps them.
    fn let_go(&self, inode: &InodeRef) {
        if inode.nlink() == 0
            && let Some(mapping) = self.mapping.get()
        {
            mapping.release_pin();
        }
    }

    fn make(
        &self,
        dir: &InodeRef,
        name: &[u8],
        mode: u32,
        rdev: DevId,
        target: &[u8],
        cred: &Cred,
    ) -> Result<InodeRef> {
        let owned = NewInode::new(0, mode).owned_in(dir, cred);
        let rdev = (rdev.major, rdev.minor);
        let new = NewFile { mode: owned.mode, uid: owned.uid, gid: owned.gid, rdev, target };
        let node = self.instance.fs.create(&self.node, name, &new)?;
        let inode = self.instance.enter(node);
        self.mirror(dir);
        Ok(inode)
    }

    /// Changes a regular file's length. The contents lock is held.
    fn resize(&self, inode: &InodeRef, size: u64) -> Result<()> {
        if size > self.instance.fs.max_bytes(&self.node) {
            return Err(Errno::EFBIG);
        }
        let mapping = self.mapping(inode)?;
        let old = inode.size();
        // The rest of the last block must be zero on the medium, too: it may be read again by a longer file.
        let cut = size < old && !size.is_multiple_of(PAGE);
        let _edge = cut.then(|| mapping.fill(size / PAGE)).transpose()?;
        let _still = mapping.invalidate_lock();
        mapping.truncate(size);
        inode.set_size(size);
        self.node.set_size(old.max(size));
        self.instance.fs.truncate(&self.node, size)
    }

    pub fn stat(&self) -> Stat {
        self.node.stat(&self.instance.fs)
    }
}

impl InodeOps for ExtNode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn released(&self, last: &LastState) {
        let left = match last.nlink {
            0 => {
                let data = self.mapping.get().map(|mapping| mapping.in_flight());
                Some(Left::Delete(self.node.clone(), data))
            }
            _ => {
                let change = self.unsaved((last.atime, last.mtime, last.ctime));
                let promised = self.node.was_promised().then(|| self.node.clone());
                (change.is_some() || promised.is_some()).then_some(Left::Keep { change, promised })
            }
        };
        self.instance.leave(&self.node, left);
    }

    fn handle_generation(&self, _inode: &InodeRef) -> Option<u32> {
        Some(self.node.generation)
    }

    fn lookup(&self, _dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        match self.instance.fs.lookup(&self.node, name)? {
            Some(found) => self.instance.inode(found.ino).map(Some),
            None => Ok(None),
        }
    }

    fn create(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        self.make(dir, name, mode, DevId::default(), b"", cred)
    }

    fn mkdir(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        self.make(dir, name, mode & !S_IFMT | S_IFDIR, DevId::default(), b"", cred)
    }

    fn mknod(&self, dir: &InodeRef, name: &[u8], mode: u32, dev: DevId, cred: &Cred) -> Result<InodeRef> {
        self.make(dir, name, mode, dev, b"", cred)
    }

    fn symlink(&self, dir: &InodeRef, name: &[u8], target: &[u8], cred: &Cred) -> Result<InodeRef> {
        self.make(dir, name, S_IFLNK | 0o777, DevId::default(), target, cred)
    }

    fn tmpfile(&self, dir: &InodeRef, mode: u32, cred: &Cred) -> Result<InodeRef> {
        let owned = NewInode::new(0, mode).owned_in(dir, cred);
        let new = NewFile { mode: owned.mode, uid: owned.uid, gid: owned.gid, rdev: (0, 0), target: b"" };
        Ok(self.instance.enter(self.instance.fs.create_unnamed(&self.node, &new)?))
    }

    fn link(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let other = ext(inode)?;
        self.instance.fs.link(&self.node, name, &other.node)?;
        self.mirror(dir);
        other.mirror(inode);
        Ok(())
    }

    fn unlink(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let other = ext(inode)?;
        self.instance.fs.unlink(&self.node, name, &other.node)?;
        self.mirror(dir);
        other.mirror(inode);
        other.let_go(inode);
        Ok(())
    }

    fn rmdir(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let other = ext(inode)?;
        self.instance.fs.rmdir(&self.node, name, &other.node)?;
        self.mirror(dir);
        other.mirror(inode);
        Ok(())
    }

    fn rename(&self, request: &Rename) -> Result<()> {
        if request.flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) != 0 {
            return Err(Errno::EINVAL);
        }
        let owned = NewInode::new(0, S_IFCHR).owned_in(request.old_dir, request.cred);
        let whiteout =
            NewFile { mode: owned.mode, uid: owned.uid, gid: owned.gid, rdev: (0, 0), target: b"" };
        let (new_dir, inode) = (ext(request.new_dir)?, ext(request.inode)?);
        let target = request.target.map(ext).transpose()?;
        let exchange = request.flags & RENAME_EXCHANGE != 0;
        self.instance.fs.rename(&CoreRename {
            old_dir: &self.node,
            old_name: request.old_name,
            node: &inode.node,
            new_dir: &new_dir.node,
            new_name: request.new_name,
            target: target.map(|target| &target.node),
            exchange,
            whiteout: (request.flags & RENAME_WHITEOUT != 0).then_some(&whiteout),
        })?;
        self.mirror(request.old_dir);
        new_dir.mirror(request.new_dir);
        inode.mirror(request.inode);
        if let (Some(target), Some(inode)) = (target, request.target) {
            target.mirror(inode);
            target.let_go(inode);
        }
        Ok(())
    }

    fn follow(&self, inode: &InodeRef, _caller: &Caller) -> Result<Link> {
        if !inode.is_symlink() {
            return Err(Errno::EINVAL);
        }
        if self.text.get().is_none() {
            let _ = self.text.set(self.instance.fs.read_link(&self.node)?.into());
        }
        Ok(Link::Text(self.text.get_expect().clone()))
    }

    fn getattr(&self, _inode: &InodeRef, attr: &mut Attr) -> Result<()> {
        // Blocks that wait for a place count, as on Linux.
        attr.blocks = self.node.blocks_512(&self.instance.fs);
        attr.direct_align = self.instance.device().logical_block();
        Ok(())
    }

    fn setattr(&self, inode: &InodeRef, set: &SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            self.resize(inode, size)?;
        }
        inode.apply(set);
        let change = Change {
            mode: set.mode,
            uid: set.uid,
            gid: set.gid,
            atime: Some(inode.atime()),
            mtime: Some(inode.mtime()),
            ctime: Some(inode.ctime()),
        };
        self.instance.fs.set_attributes(&self.node, &change)?;
        self.saved(&change);
        Ok(())
    }

    fn open(&self, inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        match inode.file_type() {
            FileType::Directory => Ok(OpsRef::Static(&DirFile)),
            FileType::Regular => Ok(OpsRef::shared(RegularFile::new(self.mapping(inode)?))),
            _ => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, _inode: &InodeRef, name: &[u8]) -> Result<Vec<u8>> {
        self.instance.fs.get_xattr(&self.node, name)
    }

    fn set_xattr(&self, inode: &InodeRef, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        self.instance.fs.set_xattr(&self.node, name, value, flags)?;
        inode.set_mode(self.stat().mode);
        self.mirror(inode);
        Ok(())
    }

    fn file_flags(&self, _inode: &InodeRef) -> Result<u32> {
        Ok(self.stat().flags.bits() & FLAGS_SHOWN)
    }

    fn set_file_flags(&self, inode: &InodeRef, flags: u32) -> Result<()> {
        let old = self.stat().flags.bits();
        // chattr(1) gives back what it was shown: what cannot be set is not an error unless it would change.
        if flags & !FLAGS_SHOWN != 0 || (flags ^ old) & FLAGS_SHOWN & FLAGS_FIXED != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let (flags, settable) = (CoreFlags::from_bits_retain(flags), CoreFlags::from_bits_retain(FLAGS_SET));
        self.instance.fs.change_flags(&self.node, flags, settable)?;
        self.mirror(inode);
        inode.set_attributes(self.stat().flags.bits());
        Ok(())
    }

    fn sync_metadata(&self, _inode: &InodeRef) -> Result<()> {
        let (fs, tid) = (&self.instance.fs, self.node.tid());
        if fs.is_committed(tid) { Ok(()) } else { fs.commit(tid) }
    }

    fn generation(&self, _inode: &InodeRef) -> Result<u32> {
        Ok(self.stat().generation)
    }

    fn extents(
        &self,
        inode: &InodeRef,
        start: u64,
        end: u64,
        each: &mut dyn FnMut(&FileExtent) -> bool,
    ) -> Result<()> {
        let fs = &self.instance.fs;
        let bits = fs.geo.block_bits;
        let last = u32::try_from(end.min(inode.size()).div_ceil(1 << bits)).map_err(|_| Errno::EFBIG)?;
        let mut at = u32::try_from(start >> bits).unwrap_or(u32::MAX);
        while at < last {
            let (run, waiting) = fs.map_delayed(&self.node, at, last - at)?;
            let (place, flags) = match run.place {
                Place::At(place) => (place, 0),
                Place::Unwritten(place) => (place, FIEMAP_EXTENT_UNWRITTEN),
                Place::Hole => (0, FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN),
            };
            let extent = FileExtent {
                logical: u64::from(at) << bits,
                physical: place << bits,
                len: u64::from(run.len) << bits,
                flags,
            };
            if (waiting || run.place != Place::Hole) && !each(&extent) {
                break;
            }
            at = at.saturating_add(run.len.max(1));
        }
        Ok(())
    }

    fn list_xattr(&self, _inode: &InodeRef, out: &mut Vec<u8>) -> Result<()> {
        self.instance.fs.list_xattr(&self.node, out)
    }
}
