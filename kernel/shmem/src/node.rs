//! Inodes in memory, and an instance's superblock.

use crate::dir::Entries;
use crate::file::{DirFile, RegularFile};
use crate::space::Space;
use abi::fcntl::{
    F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT,
};
use abi::fcntl::{FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NOATIME_FL, FS_NODUMP_FL};
use abi::fs::{XATTR_CREATE, XATTR_REPLACE};
use abi::stat::*;
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::levels::{self, Leaf};
use sync::{Once, SpinLock};
use vfs::{
    Attr, Caller, Cred, Dentry, Inode, InodeFlags, InodeOps, InodeRef, Link, NewInode, NewSuper, OpsRef,
    Rename, SetAttr, SuperBlock, SuperOps, acl,
};
use vm::{CacheKind, Mapping};

/// Bytes that a directory's size counts for each entry (Linux's BOGO_DIRENT_SIZE).
const ENTRY_SIZE: u64 = 20;

type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

pub(crate) enum Kind {
    Regular(Arc<Mapping>),
    Directory(SpinLock<Entries, levels::Inode>),
    Symlink(Arc<[u8]>),
    /// Device, FIFO, socket.
    Special,
}

/// The file system's part of an inode.
pub struct Node {
    space: Arc<Space>,
    pub(crate) kind: Kind,
    /// `F_SEAL_*`; sealed against sealing unless memfd says otherwise.
    pub(crate) seals: AtomicU32,
    xattrs: Once<Box<SpinLock<Xattrs, Leaf>>>,
    /// Of a directory: the one that it is in.
    parent: SpinLock<Weak<Inode>, Leaf>,
}

/// What an instance starts with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// 0: no limit.
    pub max_pages: u64,
    pub max_inodes: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Parses and applies options of a remount: (key, value) in mount(2)'s data.
pub type RemountOptions = fn(&[u8]) -> Result<(Option<u64>, Option<u64>)>;

/// An instance's superblock.
pub struct Shmem {
    space: Arc<Space>,
    options: Options,
    remount: RemountOptions,
    /// What the size is by default: then it is not shown in /proc/mounts.
    default_pages: u64,
    default_inodes: u64,
}

impl Shmem {
    /// Makes an instance and gives its root.
    pub fn new_root(
        fs_name: &'static str,
        magic: u32,
        source: &[u8],
        read_only: bool,
        options: Options,
        defaults: (u64, u64),
        remount: RemountOptions,
    ) -> Result<Arc<Dentry>> {
        let space = Arc::new(Space::new(options.max_pages, options.max_inodes));
        let source = String::from_utf8_lossy(source).into_owned();
        let (default_pages, default_inodes) = defaults;
        let shmem = Shmem { space: space.clone(), options, remount, default_pages, default_inodes };
        let sb = NewSuper { fs_name, source, magic, read_only, ops: Box::new(shmem) }.build();
        let mut new = NewInode::new(sb.next_ino(), S_IFDIR | options.mode);
        (new.uid, new.gid) = (options.uid, options.gid);
        let root = build(&sb, &space, new, Kind::Directory(SpinLock::new(Entries::new())))?;
        Ok(Dentry::root(b"/", root))
    }

    /// The limits and use of the instance.
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }
}

impl SuperOps for Shmem {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn find_inode(&self, _sb: &SuperBlock, number: u64, generation: u32) -> Result<InodeRef> {
        let found = self.space.remembered(number).filter(|inode| generation == 0 && inode.nlink() > 0);
        found.ok_or(Errno::ESTALE)
    }

    fn parent_of(&self, dir: &InodeRef) -> Result<InodeRef> {
        node(dir)?.parent.lock().upgrade().ok_or(Errno::ESTALE)
    }

    fn statfs(&self, _sb: &SuperBlock, out: &mut Statfs) -> Result<()> {
        let ((max_pages, pages), (max_inodes, inodes)) = (self.space.pages(), self.space.inodes());
        if max_pages != 0 {
            out.f_blocks = max_pages;
            out.f_bfree = max_pages.saturating_sub(pages);
            out.f_bavail = out.f_bfree;
        }
        if max_inodes != 0 {
            out.f_files = max_inodes;
            out.f_ffree = max_inodes.saturating_sub(inodes);
        }
        Ok(())
    }

    fn remount(&self, _sb: &SuperBlock, _flags: u64, data: &[u8]) -> Result<()> {
        let (pages, inodes) = (self.remount)(data)?;
        self.space.set_limits(pages, inodes)
    }

    fn show_options(&self, _sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        let (max_pages, max_inodes) = (self.space.pages().0, self.space.inodes().0);
        if max_pages != self.default_pages {
            write!(out, ",size={}k", max_pages * (arch::PAGE_SIZE as u64 / 1024))?;
        }
        if max_inodes != self.default_inodes {
            write!(out, ",nr_inodes={max_inodes}")?;
        }
        if self.options.mode != 0o1777 {
            write!(out, ",mode={:o}", self.options.mode)?;
        }
        if self.options.uid != 0 {
            write!(out, ",uid={}", self.options.uid)?;
        }
        if self.options.gid != 0 {
            write!(out, ",gid={}", self.options.gid)?;
        }
        Ok(())
    }
}

/// Makes an inode; ENOSPC when the instance has no more.
pub(crate) fn build(
    sb: &Arc<SuperBlock>,
    space: &Arc<Space>,
    mut new: NewInode,
    kind: Kind,
) -> Result<InodeRef> {
    space.take_inode()?;
    match &kind {
        Kind::Regular(_) => new.flags |= InodeFlags::GETATTR,
        Kind::Directory(_) => new.size = 2 * ENTRY_SIZE,
        Kind::Symlink(target) => new.size = target.len() as u64,
        Kind::Special => {}
    }
    let seals = AtomicU32::new(F_SEAL_SEAL);
    Ok(new.build(
        sb,
        Node { space: space.clone(), kind, seals, xattrs: Once::new(), parent: SpinLock::new(no_inode()) },
    ))
}

/// A reference of no inode.
fn no_inode() -> Weak<Inode> {
    Weak::<Inode<Node>>::new()
}

/// An empty regular file's content.
pub(crate) fn new_content(space: &Arc<Space>) -> Kind {
    Kind::Regular(Mapping::new(CacheKind::Memory, 0, space.clone()))
}

impl Node {
    fn entries(&self) -> Result<&SpinLock<Entries, levels::Inode>> {
        match &self.kind {
            Kind::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Makes an inode and puts it under the name.
    fn make(&self, dir: &InodeRef, name: &[u8], new: NewInode, kind: Kind) -> Result<InodeRef> {
        let inode = self.born(dir, new, kind)?;
        self.add(dir, name, &inode)?;
        Ok(inode)
    }

    /// A new inode, with the access control lists that the default list of its directory gives it.
    fn born(&self, dir: &InodeRef, mut new: NewInode, kind: Kind) -> Result<InodeRef> {
        let default = if matches!(kind, Kind::Symlink(_)) { None } else { self.list(acl::DEFAULT)? };
        let Some(default) = default else { return build(&dir.sb, &self.space, new, kind) };
        let mut entries = default.clone();
        posixacl::inherit(&mut entries, &mut new.mode);
        let inode = build(&dir.sb, &self.space, new, kind)?;
        let own = node(&inode)?;
        if inode.is_dir() {
            own.store(acl::DEFAULT, &posixacl::to_user(&default));
        }
        if !posixacl::to_mode(&entries).1 {
            own.store(acl::ACCESS, &posixacl::to_user(&entries));
        }
        inode.set_may_have_acl();
        Ok(inode)
    }

    /// An access control list, if the inode has it.
    fn list(&self, name: &[u8]) -> Result<Option<Vec<posixacl::AclEntry>>> {
        let Some(xattrs) = self.xattrs.get() else { return Ok(None) };
        let bytes = xattrs.lock().get(name).map(|bytes| bytes.to_vec());
        bytes.map(|bytes| posixacl::from_user(&bytes)).transpose()
    }

    fn attributes(&self) -> &SpinLock<Xattrs, Leaf> {
        if self.xattrs.get().is_none() {
            let _ = self.xattrs.set(Box::default());
        }
        self.xattrs.get_expect()
    }

    fn store(&self, name: &[u8], value: &[u8]) {
        let (name, value) = (Box::from(name), Box::from(value));
        let old = self.attributes().lock().insert(name, value);
        drop(old);
    }

    /// What an access control list means for the mode; whether there is more to it than the mode says.
    fn apply_list(&self, inode: &InodeRef, name: &[u8], bytes: &[u8]) -> Result<bool> {
        let entries = posixacl::from_user(bytes)?;
        if name != acl::ACCESS || entries.is_empty() {
            return Ok(!entries.is_empty());
        }
        let (bits, all) = posixacl::to_mode(&entries);
        inode.set_mode(inode.mode() & !S_IRWXUGO | bits);
        Ok(!all)
    }

    fn add(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        self.entries()?.lock().insert(name, inode.clone());
        dir.set_size(dir.size() + ENTRY_SIZE);
        dir.touch_modified();
        Ok(())
    }

    fn take_out(&self, dir: &InodeRef, name: &[u8]) -> Result<()> {
        let removed = self.entries()?.lock().remove(name);
        drop(removed);
        dir.set_size(dir.size().saturating_sub(ENTRY_SIZE));
        dir.touch_modified();
        Ok(())
    }

    fn new_inode(&self, dir: &InodeRef, mode: u32, cred: &Cred) -> NewInode {
        NewInode::new(dir.sb.next_ino(), mode).owned_in(dir, cred)
    }

    /// A directory is in another now.
    fn moved_to(&self, dir: &InodeRef) {
        let old = core::mem::replace(&mut *self.parent.lock(), Arc::downgrade(dir));
        drop(old);
    }

    fn is_empty_dir(&self) -> bool {
        self.entries().is_ok_and(|entries| entries.lock().is_empty())
    }

    /// A size change against the seals: EPERM.
    fn check_resize(&self, old: u64, new: u64) -> Result<()> {
        let seals = self.seals.load(Ordering::Relaxed);
        let sealed = new < old && seals & F_SEAL_SHRINK != 0 || new > old && seals & F_SEAL_GROW != 0;
        if sealed { Err(Errno::EPERM) } else { Ok(()) }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// The page cache of a regular file.
    pub(crate) fn mapping(&self) -> Result<&Arc<Mapping>> {
        match &self.kind {
            Kind::Regular(mapping) => Ok(mapping),
            _ => Err(Errno::EINVAL),
        }
    }
}

fn node(inode: &Inode) -> Result<&Node> {
    inode.ops_as::<Node>().ok_or(Errno::EXDEV)
}

impl InodeOps for Node {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// Numbers are not used again. From here on the inode is found by its own.
    fn handle_generation(&self, inode: &InodeRef) -> Option<u32> {
        self.space.remember(inode);
        Some(0)
    }

    fn lookup(&self, _dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        Ok(self.entries()?.lock().get(name).cloned())
    }

    fn create(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        self.make(dir, name, self.new_inode(dir, mode, cred), new_content(&self.space))
    }

    fn mkdir(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        let entries = Kind::Directory(SpinLock::new(Entries::new()));
        let inode = self.make(dir, name, self.new_inode(dir, mode, cred), entries)?;
        dir.raise_nlink();
        node(&inode)?.moved_to(dir);
        Ok(inode)
    }

    fn mknod(&self, dir: &InodeRef, name: &[u8], mode: u32, dev: DevId, cred: &Cred) -> Result<InodeRef> {
        let mut new = self.new_inode(dir, mode, cred);
        new.rdev = dev;
        self.make(dir, name, new, Kind::Special)
    }

    fn symlink(&self, dir: &InodeRef, name: &[u8], target: &[u8], cred: &Cred) -> Result<InodeRef> {
        let new = self.new_inode(dir, S_IFLNK | 0o777, cred);
        self.make(dir, name, new, Kind::Symlink(Arc::from(target)))
    }

    fn link(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        // A name more costs a directory entry more: Linux's tmpfs counts it as an inode.
        self.space.take_inode()?;
        if let Err(e) = self.add(dir, name, inode) {
            self.space.give_inode();
            return Err(e);
        }
        inode.raise_nlink();
        inode.touch_changed();
        Ok(())
    }

    fn unlink(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        self.take_out(dir, name)?;
        if inode.nlink() > 1 {
            self.space.give_inode();
        }
        inode.drop_nlink();
        inode.touch_changed();
        Ok(())
    }

    fn rmdir(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        if !node(inode)?.is_empty_dir() {
            return Err(Errno::ENOTEMPTY);
        }
        self.take_out(dir, name)?;
        inode.set_nlink(0);
        inode.touch_changed();
        dir.drop_nlink();
        Ok(())
    }

    fn rename(&self, request: &Rename) -> Result<()> {
        if request.flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) != 0 {
            return Err(Errno::EINVAL);
        }
        let to = node(request.new_dir)?;
        if request.flags & RENAME_EXCHANGE != 0 {
            return self.exchange(to, request);
        }
        let is_dir = request.inode.is_dir();
        // Made first: when there is no room for it, nothing has happened.
        let whiteout =
            (request.flags & RENAME_WHITEOUT != 0).then(|| self.new_whiteout(request)).transpose()?;
        if let Some(target) = request.target {
            if target.is_dir() {
                to.rmdir(request.new_dir, request.new_name, target)?;
            } else {
                to.unlink(request.new_dir, request.new_name, target)?;
            }
        }
        match whiteout {
            Some(whiteout) => {
                let old = self.entries()?.lock().replace(request.old_name, whiteout);
                drop(old);
                request.old_dir.touch_modified();
            }
            None => self.take_out(request.old_dir, request.old_name)?,
        }
        to.add(request.new_dir, request.new_name, request.inode)?;
        if is_dir {
            request.old_dir.drop_nlink();
            request.new_dir.raise_nlink();
            node(request.inode)?.moved_to(request.new_dir);
        }
        request.inode.touch_changed();
        Ok(())
    }

    fn tmpfile(&self, dir: &InodeRef, mode: u32, cred: &Cred) -> Result<InodeRef> {
        let mut new = self.new_inode(dir, mode, cred);
        new.nlink = 0;
        self.born(dir, new, new_content(&self.space))
    }

    fn follow(&self, _inode: &InodeRef, _caller: &Caller) -> Result<Link> {
        match &self.kind {
            Kind::Symlink(target) => Ok(Link::Text(target.clone())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn getattr(&self, _inode: &InodeRef, attr: &mut Attr) -> Result<()> {
        if let Kind::Regular(mapping) = &self.kind {
            attr.size = mapping.size();
            attr.blocks = mapping.held_pages() * (arch::PAGE_SIZE as u64 / 512);
        }
        Ok(())
    }

    fn setattr(&self, inode: &InodeRef, set: &SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            let mapping = self.mapping()?;
            self.check_resize(mapping.size(), size)?;
            mapping.truncate(size);
            inode.set_size(size);
        }
        if let (Some(mode), Some(mut entries)) = (set.mode, self.list(acl::ACCESS)?) {
            posixacl::chmod(&mut entries, mode);
            self.store(acl::ACCESS, &posixacl::to_user(&entries));
        }
        inode.apply(set);
        Ok(())
    }

    fn open(&self, _inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        match &self.kind {
            Kind::Regular(_) => Ok(OpsRef::Static(&RegularFile)),
            Kind::Directory(_) => Ok(OpsRef::Static(&DirFile)),
            Kind::Symlink(_) | Kind::Special => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, _inode: &InodeRef, name: &[u8]) -> Result<Vec<u8>> {
        let xattrs = self.xattrs.get().ok_or(Errno::ENODATA)?;
        xattrs.lock().get(name).map(|value| value.to_vec()).ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, inode: &InodeRef, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        let mut value = value;
        if acl::is_name(name) {
            // A list that says no more than the mode is none.
            value = match value {
                Some(bytes) => self.apply_list(inode, name, bytes)?.then_some(bytes),
                None => None,
            };
            if value.is_none() && self.list(name)?.is_none() {
                return Ok(());
            }
        }
        let fresh = value.map(|value| (Box::from(name), Box::from(value)));
        let mut xattrs = self.attributes().lock();
        let known = xattrs.contains_key(name);
        if known && flags & XATTR_CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        if !known && (flags & XATTR_REPLACE != 0 || fresh.is_none()) {
            return Err(Errno::ENODATA);
        }
        let old = match fresh {
            Some((name, value)) => xattrs.insert(name, value),
            None => xattrs.remove(name),
        };
        drop(xattrs);
        drop(old);
        inode.touch_changed();
        Ok(())
    }

    fn file_flags(&self, inode: &InodeRef) -> Result<u32> {
        Ok(inode.attributes())
    }

    fn set_file_flags(&self, inode: &InodeRef, flags: u32) -> Result<()> {
        if flags & !(FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        inode.set_attributes(flags);
        inode.touch_changed();
        Ok(())
    }

    fn list_xattr(&self, _inode: &InodeRef, out: &mut Vec<u8>) -> Result<()> {
        if let Some(xattrs) = self.xattrs.get() {
            for name in xattrs.lock().keys() {
                out.try_reserve(name.len() + 1).map_err(|_| Errno::ENOMEM)?;
                out.extend_from_slice(name);
                out.push(0);
            }
        }
        Ok(())
    }
}

impl Node {
    /// What RENAME_WHITEOUT leaves behind.
    fn new_whiteout(&self, request: &Rename) -> Result<InodeRef> {
        let new = self.new_inode(request.old_dir, S_IFCHR, request.cred);
        self.born(request.old_dir, new, Kind::Special)
    }

    fn exchange(&self, to: &Node, request: &Rename) -> Result<()> {
        let target = request.target.ok_or(Errno::ENOENT)?;
        let old = self.entries()?.lock().replace(request.old_name, target.clone());
        let new = to.entries()?.lock().replace(request.new_name, request.inode.clone());
        drop((old, new));
        if !request.old_dir.same(request.new_dir) && request.inode.is_dir() != target.is_dir() {
            let (loses, gains) = if request.inode.is_dir() {
                (request.old_dir, request.new_dir)
            } else {
                (request.new_dir, request.old_dir)
            };
            loses.drop_nlink();
            gains.raise_nlink();
        }
        for (inode, dir) in [(request.inode, request.new_dir), (target, request.old_dir)] {
            if inode.is_dir() {
                node(inode)?.moved_to(dir);
            }
        }
        for inode in [request.old_dir, request.new_dir] {
            inode.touch_modified();
        }
        for inode in [request.inode, target] {
            inode.touch_changed();
        }
        Ok(())
    }
}

/// An instance goes as a whole tree of directories that hold each other: a loop takes it apart, because a
/// recursion would be as deep as the tree.
impl Drop for Node {
    fn drop(&mut self) {
        self.space.give_inode();
        let Kind::Directory(entries) = &mut self.kind else { return };
        if entries.get_mut().is_empty() {
            return;
        }
        let mut left: Vec<InodeRef> = entries.get_mut().take_all().collect();
        while let Some(inode) = left.pop() {
            if Arc::strong_count(&inode) == 1
                && let Some(Kind::Directory(entries)) = inode.ops_as::<Node>().map(|node| &node.kind)
            {
                left.extend(entries.lock().take_all());
            }
        }
    }
}
