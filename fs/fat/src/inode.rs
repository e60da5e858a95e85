//! Inodes: names and attributes, from the file layer to lib/fat and back.

use crate::data::DataOps;
use crate::file::{DirFile, RegularFile};
use crate::instance::{FatInode, Instance};
use abi::stat::{S_IFDIR, S_IFMT, S_IFREG, S_IRWXUGO};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use fat_core::fs::MAX_BYTES;
use fat_core::{Rename as CoreRename, Stat, Times};
use mem::Folio;
use sync::Once;
use sync::levels::Fat;
use vfs::{
    Caller, Cred, FileType, Inode, InodeFlags, InodeOps, InodeRef, LastState, NewInode, OpsRef, Rename,
    SetAttr, SuperBlock,
};
use vm::{CacheKind, Mapping};

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

const WRITE_BITS: u32 = 0o222;
/// Bytes of zeroes that a file grows by between two looks at signals.
const ZERO_STEP: u64 = 1 << 20;

/// FAT's part of an inode.
pub(crate) struct FatNode {
    pub instance: Arc<Instance>,
    pub ino: u64,
    /// The pages of a regular file; made when they are first needed.
    mapping: Once<Arc<Mapping>>,
    /// The name in its directory: the file layer asks for it without sleeping.
    name: sync::SpinLock<Arc<[u8]>, Fat>,
    /// The times that the medium has, or will.
    saved: sync::SpinLock<Times, Fat>,
}

/// The inode's own part, if it is of this file system.
pub(crate) fn fat(inode: &InodeRef) -> Result<&FatNode> {
    inode.ops_as::<FatNode>().ok_or(Errno::EXDEV)
}

/// Times as entries keep them: two seconds for the last change, a day for the last reading.
fn kept(times: &Times) -> Times {
    let down = |at: i64, step_s: i64| at.div_euclid(step_s * 1_000_000_000) * step_s * 1_000_000_000;
    Times { read: down(times.read, 86_400), written: down(times.written, 2), made: times.made }
}

impl FatNode {
    /// The file layer's inode of a file in use.
    pub fn build(
        instance: &Arc<Instance>,
        sb: &Arc<SuperBlock>,
        ino: u64,
        stat: &Stat,
        name: Arc<[u8]>,
    ) -> FatInode {
        let options = &instance.options;
        let (mode, nlink) = match stat.is_dir {
            true => (S_IFDIR | S_IRWXUGO & !options.dmask, 2 + stat.subdirectories),
            false => {
                let write = if stat.read_only { WRITE_BITS } else { 0 };
                (S_IFREG | S_IRWXUGO & !options.fmask & !write, 1)
            }
        };
        let mut flags = InodeFlags::NO_ATIME;
        if stat.is_dir {
            // A name that is not there may come by another: a short one.
            flags |= InodeFlags::FOLDED | InodeFlags::NO_NEGATIVE;
        }
        let new = NewInode {
            uid: options.uid,
            gid: options.gid,
            nlink,
            size: stat.size,
            flags,
            ..NewInode::new(ino, mode)
        };
        let inode = new.build(
            sb,
            FatNode {
                instance: instance.clone(),
                ino,
                mapping: Once::new(),
                name: sync::SpinLock::new(name),
                saved: sync::SpinLock::new(stat.times),
            },
        );
        show_times(&inode, &stat.times);
        inode.set_btime(stat.times.made);
        inode.ops.show_blocks(&inode);
        inode
    }

    /// The page cache of a regular file.
    pub fn mapping<T: InodeOps + ?Sized>(&self, inode: &Inode<T>) -> Result<&Arc<Mapping>> {
        if self.mapping.get().is_none() {
            if !inode.is_regular() {
                return Err(Errno::EINVAL);
            }
            let (instance, weak) = (self.instance.clone(), self.instance.weak(self.ino));
            let ops = Arc::new(DataOps { instance, ino: self.ino, inode: weak });
            // Two may both make one; the first that is set stays.
            let _ = self.mapping.set(Mapping::new(CacheKind::Backed, inode.size(), ops));
        }
        Ok(self.mapping.get_expect())
    }

    /// Blocks of 512 bytes, by the length: whole clusters.
    fn show_blocks<T: InodeOps + ?Sized>(&self, inode: &Inode<T>) {
        inode.set_blocks(inode.size().next_multiple_of(1 << self.instance.cluster_bits) >> 9);
    }

    /// Brings changed times to the entry.
    pub fn write_times<T: InodeOps + ?Sized>(&self, inode: &Inode<T>) -> Result<()> {
        let now = times_of(inode);
        if inode.nlink() == 0 || inode.sb.is_read_only() || *self.saved.lock() == now {
            return Ok(());
        }
        self.instance.with(|fs| fs.set_attributes(self.ino, now, None))?;
        self.took(inode, now);
        Ok(())
    }

    /// The entry has these times now, as far as it can.
    fn took<T: InodeOps + ?Sized>(&self, inode: &Inode<T>, times: Times) {
        *self.saved.lock() = kept(&times);
        show_times(inode, &kept(&times));
    }

    /// Data and times to the device's side.
    pub fn write_all(&self, inode: &FatInode) -> Result<()> {
        if let Some(mapping) = self.mapping.get() {
            mapping.sync(0, u64::MAX)?;
        }
        self.write_times(inode)
    }

    /// Clusters for a file of `end` bytes; for how many there is room. Some beyond the length may be left when a
    /// write stops: [`FatNode::settle`].
    pub fn reserve(&self, end: u64) -> Result<u64> {
        self.instance.with(|fs| fs.reserve(self.ino, end))
    }

    /// The entry gets the length that the file has now, and the file no clusters beyond. The contents lock is held.
    pub fn settle(&self, inode: &InodeRef) -> Result<()> {
        let now = inode.mtime();
        self.instance.with(|fs| fs.resize(self.ino, inode.size(), Some(now)))?;
        self.took(inode, times_of(&**inode));
        self.show_blocks(inode);
        Ok(())
    }

    /// Lets the file grow to `size` with zeroes. When that fails it is as long as before. ENOSPC, EFBIG, EINTR. The
    /// contents lock is held.
    pub fn grow(&self, inode: &InodeRef, size: u64) -> Result<()> {
        let old = inode.size();
        if size <= old {
            return Ok(());
        }
        if size > MAX_BYTES {
            return Err(Errno::EFBIG);
        }
        let mapping = self.mapping(inode)?;
        let grown = self.reserve(size).and_then(|room| if room < size { Err(Errno::ENOSPC) } else { Ok(()) });
        let filled = grown.and_then(|()| fill_zero(mapping, old, size));
        if filled.is_err() {
            mapping.truncate(old);
        }
        inode.set_size(mapping.size());
        self.settle(inode)?;
        filled
    }

    fn shrink(&self, inode: &InodeRef, size: u64) -> Result<()> {
        let mapping = self.mapping(inode)?;
        if !size.is_multiple_of(arch::PAGE_SIZE as u64) {
            // What is behind the end becomes zeroes on the medium, too: a longer file may have it again.
            mapping.fill(size / arch::PAGE_SIZE as u64)?;
        }
        mapping.truncate(size);
        inode.set_size(size);
        inode.touch_modified();
        self.settle(inode)
    }

    fn make(&self, dir: &InodeRef, name: &[u8], is_dir: bool) -> Result<InodeRef> {
        let now = kept_now();
        let inode = self.instance.with(|fs| {
            let ino = fs.create(self.ino, name, is_dir, now)?;
            self.instance.inode(fs, ino)
        })?;
        if is_dir {
            dir.raise_nlink();
        }
        self.entries_changed(dir, now)?;
        Ok(inode)
    }

    /// Names came or went: the directory's time, and its length.
    fn entries_changed(&self, dir: &InodeRef, now: i64) -> Result<()> {
        let times = Times { written: now, ..times_of(&**dir) };
        self.took(dir, times);
        let stat = self.instance.with(|fs| fs.stat(self.ino))?;
        dir.set_size(stat.size);
        self.show_blocks(dir);
        Ok(())
    }

    fn remove(&self, dir: &InodeRef, inode: &InodeRef) -> Result<()> {
        let now = kept_now();
        let other = fat(inode)?;
        self.instance.with(|fs| fs.unlink(self.ino, other.ino, now))?;
        other.lost_name(inode);
        if inode.is_dir() {
            dir.drop_nlink();
        }
        self.entries_changed(dir, now)
    }

    /// Its last name is gone; what is dirty need not be written: nothing but open files keeps it.
    fn lost_name(&self, inode: &InodeRef) {
        inode.set_nlink(0);
        if let Some(mapping) = self.mapping.get() {
            mapping.release_pin();
        }
    }

    fn take_name(&self, name: &[u8]) {
        let name: Arc<[u8]> = name.into();
        let old = core::mem::replace(&mut *self.name.lock(), name);
        drop(old);
    }

    /// The mode that an inode gets when `mode` is asked for; `None`: it stays as it is. Of the bits to read and execute
    /// all that the mask allows are there; of those to write all or none, which an entry can keep for files only.
    fn possible_mode(&self, inode: &InodeRef, mode: u32) -> Option<u32> {
        let options = &self.instance.options;
        let allowed = S_IRWXUGO & !if inode.is_dir() { options.dmask } else { options.fmask };
        let wanted = mode & allowed;
        let (write, rest) = (wanted & WRITE_BITS, wanted & !WRITE_BITS);
        let none = write == 0 && !inode.is_dir();
        (rest == inode.mode() & 0o555 && (none || write == allowed & WRITE_BITS)).then_some(wanted)
    }

    /// EPERM for owners and modes that FAT has no place for.
    fn check_set(&self, set: &SetAttr) -> Result<()> {
        let options = &self.instance.options;
        let owner =
            set.uid.is_none_or(|uid| uid == options.uid) && set.gid.is_none_or(|gid| gid == options.gid);
        let mode = set.mode.is_none_or(|mode| mode & !(S_IFMT | S_IRWXUGO) == 0);
        if owner && mode { Ok(()) } else { Err(Errno::EPERM) }
    }
}

fn kept_now() -> i64 {
    let now = vfs::now_ns();
    kept(&Times { read: now, written: now, made: now }).written
}

fn times_of<T: InodeOps + ?Sized>(inode: &Inode<T>) -> Times {
    Times { read: inode.atime(), written: inode.mtime(), made: inode.btime() }
}

fn show_times<T: InodeOps + ?Sized>(inode: &Inode<T>, times: &Times) {
    inode.set_atime(times.read);
    inode.set_mtime(times.written);
    // Entries have none of its own.
    inode.set_ctime(times.written);
}

/// Writes zeroes from `start` to `end` into the page cache, which grows the file.
fn fill_zero(mapping: &Mapping, start: u64, end: u64) -> Result<()> {
    let mut at = start;
    while at < end {
        if task::current().fatal_pending() {
            return Err(Errno::EINTR);
        }
        let len = (end - at).min(ZERO_STEP) as usize;
        let zero = |folio: &Folio, offset: usize, len: usize| {
            folio.fill(offset, len, 0);
            Ok(len)
        };
        let done = mapping.write(at, len, zero)?;
        if done == 0 {
            return Err(Errno::EIO);
        }
        at += done as u64;
    }
    Ok(())
}

impl InodeOps for FatNode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn released(&self, _last: &LastState) {
        self.instance.leave(self.ino);
    }

    fn sync_metadata(&self, inode: &InodeRef) -> Result<()> {
        self.write_times(&**inode)?;
        self.instance.sync_metadata()
    }

    fn own_name(&self) -> Option<Vec<u8>> {
        Some(self.name.lock().to_vec())
    }

    fn lookup(&self, _dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        self.instance.with(|fs| match fs.lookup(self.ino, name)? {
            Some(ino) => self.instance.inode(fs, ino).map(Some),
            None => Ok(None),
        })
    }

    fn create(&self, dir: &InodeRef, name: &[u8], _mode: u32, _cred: &Cred) -> Result<InodeRef> {
        self.make(dir, name, false)
    }

    fn mkdir(&self, dir: &InodeRef, name: &[u8], _mode: u32, _cred: &Cred) -> Result<InodeRef> {
        self.make(dir, name, true)
    }

    fn unlink(&self, dir: &InodeRef, _name: &[u8], inode: &InodeRef) -> Result<()> {
        self.remove(dir, inode)
    }

    fn rmdir(&self, dir: &InodeRef, _name: &[u8], inode: &InodeRef) -> Result<()> {
        self.remove(dir, inode)
    }

    fn rename(&self, request: &Rename) -> Result<()> {
        if request.flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0 {
            return Err(Errno::EINVAL);
        }
        let now = kept_now();
        let (new_dir, node) = (fat(request.new_dir)?, fat(request.inode)?);
        let target = request.target.map(fat).transpose()?;
        if request.flags & RENAME_EXCHANGE != 0 {
            let other = target.ok_or(Errno::ENOENT)?;
            self.instance.with(|fs| fs.exchange((self.ino, node.ino), (new_dir.ino, other.ino), now))?;
            let names = (node.name.lock().clone(), other.name.lock().clone());
            (node.take_name(&names.1), other.take_name(&names.0));
            if let Some(other) = request.target {
                move_link(other, request.new_dir, request.old_dir);
            }
        } else {
            self.instance.with(|fs| {
                fs.rename(&CoreRename {
                    old_dir: self.ino,
                    ino: node.ino,
                    new_dir: new_dir.ino,
                    name: request.new_name,
                    target: target.map(|target| target.ino),
                    now,
                })
            })?;
            node.take_name(fat_core::name::trim_dots(request.new_name));
            if let (Some(target), Some(inode)) = (target, request.target) {
                target.lost_name(inode);
                if inode.is_dir() {
                    request.new_dir.drop_nlink();
                }
            }
        }
        move_link(request.inode, request.old_dir, request.new_dir);
        self.entries_changed(request.old_dir, now)?;
        new_dir.entries_changed(request.new_dir, now)
    }

    fn setattr(&self, inode: &InodeRef, set: &SetAttr) -> Result<()> {
        if let Err(error) = self.check_set(set) {
            return if self.instance.options.quiet { Ok(()) } else { Err(error) };
        }
        if let Some(size) = set.size {
            if size > inode.size() { self.grow(inode, size) } else { self.shrink(inode, size) }?;
        }
        // Not an error, as on Linux.
        let mode = set.mode.and_then(|mode| self.possible_mode(inode, mode));
        let read_only = mode.filter(|_| !inode.is_dir()).map(|mode| mode & WRITE_BITS == 0);
        inode.apply(&SetAttr { mode, size: None, ..*set });
        let times = times_of(&**inode);
        self.instance.with(|fs| fs.set_attributes(self.ino, times, read_only))?;
        self.took(inode, times);
        Ok(())
    }

    fn open(&self, inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        match inode.file_type() {
            FileType::Directory => Ok(OpsRef::Static(&DirFile)),
            FileType::Regular => Ok(OpsRef::shared(RegularFile::new(self.mapping(inode)?))),
            _ => Err(Errno::ENXIO),
        }
    }
}

/// A directory's link to its parent went to another.
fn move_link(inode: &InodeRef, from: &InodeRef, to: &InodeRef) {
    if inode.is_dir() {
        from.drop_nlink();
        to.raise_nlink();
    }
}
