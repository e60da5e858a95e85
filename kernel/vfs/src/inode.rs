//! Inodes: what a file is, without its names.
//!
//! The attributes that every file has are atomics in the inode itself, so that stat and the permission
//! checks of a path walk take no lock. They change under the inode's contents lock (Linux's i_rwsem).
//! What a file system adds is the last field, `ops`; `Arc<Inode<Ext>>` turns into [`InodeRef`] by itself,
//! so an inode is one allocation with its file system's part inside.

use crate::attr::{Attr, SetAttr};
use crate::cred::Cred;
use crate::file::{File, OpsRef};
use crate::fs_context::Caller;
use crate::locks::InodeLocks;
use crate::notify;
use crate::path::Path;
use crate::superblock::SuperBlock;
use abi::fcntl::{FS_DIRSYNC_FL, FS_NOATIME_FL, FS_SYNC_FL};
use abi::fs::MS_SYNCHRONOUS;
use abi::stat::{DevId, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use sync::{Once, levels};
use task::RwSemaphore;

/// Any file system's inode, shared.
pub type InodeRef = Arc<Inode>;

/// Nanoseconds since the Epoch, as inodes keep times: 1677 to 2262.
pub type TimeNs = i64;

/// The type of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
    /// eventfd, epoll and the like: no type bits.
    Anonymous,
}

impl FileType {
    #[inline]
    pub fn of_mode(mode: u32) -> FileType {
        match mode & S_IFMT {
            S_IFREG => FileType::Regular,
            S_IFDIR => FileType::Directory,
            S_IFLNK => FileType::Symlink,
            S_IFCHR => FileType::CharDevice,
            S_IFBLK => FileType::BlockDevice,
            S_IFIFO => FileType::Fifo,
            S_IFSOCK => FileType::Socket,
            _ => FileType::Anonymous,
        }
    }
}

bitflags! {
    /// Properties of an inode that the generic code looks at. Fixed when it is made.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct InodeFlags: u32 {
        /// Ask [`InodeOps::revalidate`] each time a walk passes (procfs).
        const REVALIDATE = 1;
        /// [`InodeOps::follow`] jumps to a place instead of giving text (/proc/PID/exe).
        const MAGIC_LINK = 2;
        /// Names that were not found are not remembered in this directory.
        const NO_NEGATIVE = 4;
        /// Reading does not change the access time.
        const NO_ATIME = 8;
        /// [`InodeOps::getattr`] has something to add.
        const GETATTR = 16;
        /// Nothing may be cached below this directory: entries come and go by themselves.
        const NO_CACHE = 32;
        /// A kernel object without a place in a tree (pipe, eventfd).
        const PSEUDO = 64;
        /// A directory where case of ASCII letters and dots at the end make no other name (FAT). A file has one dentry
        /// there, under [`InodeOps::own_name`].
        const FOLDED = 128;
    }
}

/// Where a symbolic link leads.
pub enum Link {
    /// To a path, still to be walked from the link's directory.
    Text(Arc<[u8]>),
    /// To a place, at once.
    Jump(Path),
}

/// What a file system does with one of its inodes. `dir` and `inode` are the inode that `self` belongs
/// to. Directory operations are called with the directory's contents lock held for writing (`lookup`:
/// for reading), after permission checks; names are valid and at most `name_max` long.
#[allow(unused_variables)]
pub trait InodeOps: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;

    /// Nobody has the inode any more: it is about to go. `last`: what only memory may know of it. Called wherever a
    /// reference may be dropped, reclaim included: spin locks only.
    fn released(&self, last: &LastState) {}

    /// What tells the inode from others that have its number at another time: with both [`SuperOps::find_inode`] finds
    /// it again. `None`: nothing does.
    ///
    /// [`SuperOps::find_inode`]: crate::SuperOps::find_inode
    fn handle_generation(&self, inode: &InodeRef) -> Option<u32> {
        None
    }

    /// Finds a name; `None`: there is none.
    fn lookup(&self, dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        Err(Errno::ENOTDIR)
    }

    /// The name that the file has in its directory, which is [`InodeFlags::FOLDED`]: `lookup` may find it by others.
    fn own_name(&self) -> Option<Vec<u8>> {
        None
    }

    /// Makes a regular file; `mode` has the type bits, umask applied.
    fn create(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        Err(Errno::EACCES)
    }

    fn mkdir(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        Err(Errno::EPERM)
    }

    fn mknod(&self, dir: &InodeRef, name: &[u8], mode: u32, dev: DevId, cred: &Cred) -> Result<InodeRef> {
        Err(Errno::EPERM)
    }

    fn symlink(&self, dir: &InodeRef, name: &[u8], target: &[u8], cred: &Cred) -> Result<InodeRef> {
        Err(Errno::EPERM)
    }

    /// A second name for `inode`. Raises its link count.
    fn link(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes the name of `inode`, which is no directory. Lowers its link count.
    fn unlink(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory; ENOTEMPTY.
    fn rmdir(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves a name; see [`Rename`].
    fn rename(&self, request: &Rename) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// An inode without a name (O_TMPFILE).
    fn tmpfile(&self, dir: &InodeRef, mode: u32, cred: &Cred) -> Result<InodeRef> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Where this symbolic link leads.
    fn follow(&self, inode: &InodeRef, caller: &Caller) -> Result<Link> {
        Err(Errno::EINVAL)
    }

    /// The text that readlink(2) gives; by default that of [`InodeOps::follow`].
    fn readlink(&self, inode: &InodeRef, caller: &Caller) -> Result<Vec<u8>> {
        match self.follow(inode, caller)? {
            Link::Text(text) => Ok(text.to_vec()),
            Link::Jump(path) => Ok(path.to_bytes(&caller.fs.root())),
        }
    }

    /// Adds to or corrects what the inode's own fields say (with [`InodeFlags::GETATTR`]).
    fn getattr(&self, inode: &InodeRef, attr: &mut Attr) -> Result<()> {
        Ok(())
    }

    /// Changes attributes; rights are checked. By default the inode's fields change
    /// ([`Inode::apply`]) and a change of size is refused.
    fn setattr(&self, inode: &InodeRef, set: &SetAttr) -> Result<()> {
        if set.size.is_some() {
            return Err(Errno::EINVAL);
        }
        inode.apply(set);
        Ok(())
    }

    /// Replaces the generic permission check (procfs). `mask` has the bits of access(2).
    fn permission(&self, inode: &InodeRef, mask: u32, caller: &Caller) -> Option<Result<()>> {
        None
    }

    /// What reads and writes an open file. Devices and FIFOs never come here.
    fn open(&self, inode: &InodeRef, flags: u32, caller: &Caller) -> Result<OpsRef> {
        Err(Errno::ENXIO)
    }

    /// Whether what a walk found in the cache as `name` in `dir` is still there (with [`InodeFlags::REVALIDATE`]).
    /// `dir`'s contents lock may be held.
    fn revalidate(&self, inode: &InodeRef, dir: &InodeRef, name: &[u8]) -> bool {
        true
    }

    /// Extended attributes, xattr(7). `value: None` removes.
    fn get_xattr(&self, inode: &InodeRef, name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    fn set_xattr(&self, inode: &InodeRef, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The flags of chattr(1) (FS_IOC_GETFLAGS).
    fn file_flags(&self, inode: &InodeRef) -> Result<u32> {
        Err(Errno::ENOTTY)
    }

    /// Changes them, rights checked, and [`Inode::set_attributes`]. EOPNOTSUPP for flags that cannot be set.
    fn set_file_flags(&self, inode: &InodeRef, flags: u32) -> Result<()> {
        Err(Errno::ENOTTY)
    }

    /// What was changed of it without its contents, names in a directory included, is on the medium when this returns.
    /// May be called with its contents lock held. Memory is as good a medium as there is.
    fn sync_metadata(&self, inode: &InodeRef) -> Result<()> {
        Ok(())
    }

    /// The number that tells a file from one that had its inode before (FS_IOC_GETVERSION).
    fn generation(&self, inode: &InodeRef) -> Result<u32> {
        Err(Errno::ENOTTY)
    }

    /// Tells where the data of `start..end` is, in order, until `each` says false (FS_IOC_FIEMAP).
    fn extents(
        &self,
        inode: &InodeRef,
        start: u64,
        end: u64,
        each: &mut dyn FnMut(&FileExtent) -> bool,
    ) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Appends the names, each with a terminating zero.
    fn list_xattr(&self, inode: &InodeRef, out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// A stretch of a file's data on its device, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct FileExtent {
    pub logical: u64,
    pub physical: u64,
    pub len: u64,
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
}

/// Links and times of an inode that goes, for a file system that keeps them elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct LastState {
    pub nlink: u32,
    pub atime: TimeNs,
    pub mtime: TimeNs,
    pub ctime: TimeNs,
}

/// One renameat2(2), all checks done, both directories locked.
pub struct Rename<'a> {
    pub old_dir: &'a InodeRef,
    pub old_name: &'a [u8],
    pub inode: &'a InodeRef,
    pub new_dir: &'a InodeRef,
    pub new_name: &'a [u8],
    /// What is replaced, or exchanged with RENAME_EXCHANGE.
    pub target: Option<&'a InodeRef>,
    /// `RENAME_*`; EINVAL for those the file system does not know. RENAME_WHITEOUT: in the same step the old name
    /// becomes that of a new character device 0:0 without permissions.
    pub flags: u32,
    /// Who asks: the owner of a whiteout.
    pub cred: &'a Cred,
}

/// What a new inode starts with.
pub struct NewInode {
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    /// The device that a device file stands for.
    pub rdev: DevId,
    pub size: u64,
    pub flags: InodeFlags,
}

impl NewInode {
    /// A file of root's with one link.
    pub fn new(ino: u64, mode: u32) -> NewInode {
        let nlink = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        let (rdev, flags) = (DevId::default(), InodeFlags::empty());
        NewInode { ino, mode, uid: 0, gid: 0, nlink, rdev, size: 0, flags }
    }

    /// Owned by whoever makes it in `dir`: its group is the directory's when that is set-group-id.
    pub fn owned_in(mut self, dir: &Inode, cred: &Cred) -> NewInode {
        self.uid = cred.fsuid;
        self.gid = cred.fsgid;
        if dir.mode() & abi::stat::S_ISGID != 0 {
            self.gid = dir.gid();
            if self.mode & S_IFMT == S_IFDIR {
                self.mode |= abi::stat::S_ISGID;
            }
        }
        self
    }

    /// Makes the inode, all times now.
    pub fn build<T: InodeOps>(self, sb: &Arc<SuperBlock>, ops: T) -> Arc<Inode<T>> {
        let now = now_ns();
        INODES.fetch_add(1, Relaxed);
        Arc::new(Inode {
            ino: self.ino,
            sb: sb.clone(),
            rdev: self.rdev,
            flags: self.flags,
            mode: AtomicU32::new(self.mode),
            uid: AtomicU32::new(self.uid),
            gid: AtomicU32::new(self.gid),
            nlink: AtomicU32::new(self.nlink),
            size: AtomicU64::new(self.size),
            blocks: AtomicU64::new(0),
            atime: AtomicI64::new(now),
            mtime: AtomicI64::new(now),
            ctime: AtomicI64::new(now),
            btime: AtomicI64::new(now),
            attributes: AtomicU32::new(0),
            acl: AtomicBool::new(false),
            writers: AtomicU32::new(0),
            readers: AtomicU32::new(0),
            swap_file: AtomicBool::new(false),
            contents: RwSemaphore::new(()),
            locks: Once::new(),
            watched: Default::default(),
            fifo: Once::new(),
            ops,
        })
    }
}

static INODES: AtomicUsize = AtomicUsize::new(0);

/// Inodes in memory, in use and cached.
pub fn inode_total() -> usize {
    INODES.load(Relaxed)
}

/// The clock that stamps inodes.
#[inline]
pub fn now_ns() -> TimeNs {
    time::realtime_ns() as TimeNs
}

/// A file of any kind. See the module for what is locked how.
pub struct Inode<T: InodeOps + ?Sized = dyn InodeOps> {
    pub ino: u64,
    pub sb: Arc<SuperBlock>,
    pub rdev: DevId,
    pub flags: InodeFlags,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    nlink: AtomicU32,
    size: AtomicU64,
    /// 512-byte units.
    blocks: AtomicU64,
    atime: AtomicI64,
    mtime: AtomicI64,
    ctime: AtomicI64,
    btime: AtomicI64,
    /// `FS_*_FL` that hold whatever the mode says; see [`Inode::attributes`].
    attributes: AtomicU32,
    /// It may have an access control list.
    acl: AtomicBool,
    /// Open for writing this often, or `DENY_WRITE` set: being executed this often.
    writers: AtomicU32,
    /// Open for reading only this often.
    readers: AtomicU32,
    /// The kernel swaps to its blocks: nobody may change what they are (Linux's S_SWAPFILE).
    swap_file: AtomicBool,
    /// A directory's entries, a file's contents (Linux's i_rwsem).
    pub contents: RwSemaphore<(), levels::InodeContents>,
    /// Advisory locks; made by the first.
    pub(crate) locks: Once<Box<InodeLocks>>,
    /// Who wants to know what happens to it.
    pub(crate) watched: notify::Watched,
    /// The pipe behind a FIFO; made by the first open.
    pub(crate) fifo: Once<Arc<crate::pipe::Pipe>>,
    pub ops: T,
}

/// Set in `writers` when the rest counts executions.
const DENY_WRITE: u32 = 1 << 31;

impl<T: InodeOps + ?Sized> Inode<T> {
    #[inline]
    pub fn mode(&self) -> u32 {
        self.mode.load(Relaxed)
    }

    pub fn set_mode(&self, mode: u32) {
        self.mode.store(mode, Relaxed);
    }

    #[inline]
    pub fn file_type(&self) -> FileType {
        FileType::of_mode(self.mode())
    }

    #[inline]
    pub fn is_dir(&self) -> bool {
        self.mode() & S_IFMT == S_IFDIR
    }

    #[inline]
    pub fn is_symlink(&self) -> bool {
        self.mode() & S_IFMT == S_IFLNK
    }

    pub fn is_regular(&self) -> bool {
        self.mode() & S_IFMT == S_IFREG
    }

    #[inline]
    pub fn uid(&self) -> u32 {
        self.uid.load(Relaxed)
    }

    #[inline]
    pub fn gid(&self) -> u32 {
        self.gid.load(Relaxed)
    }

    pub fn set_owner(&self, uid: u32, gid: u32) {
        self.uid.store(uid, Relaxed);
        self.gid.store(gid, Relaxed);
    }

    pub fn nlink(&self) -> u32 {
        self.nlink.load(Relaxed)
    }

    pub fn set_nlink(&self, count: u32) {
        self.nlink.store(count, Relaxed);
    }

    /// One name more; under the contents lock of the directory that gets it.
    pub fn raise_nlink(&self) {
        self.nlink.fetch_add(1, Relaxed);
    }

    /// One name less.
    pub fn drop_nlink(&self) {
        let _ = self.nlink.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
    }

    /// Bytes. Regular files with a page cache keep it equal to the mapping's.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    pub fn set_size(&self, size: u64) {
        self.size.store(size, Relaxed);
    }

    pub fn blocks(&self) -> u64 {
        self.blocks.load(Relaxed)
    }

    pub fn set_blocks(&self, blocks: u64) {
        self.blocks.store(blocks, Relaxed);
    }

    pub fn atime(&self) -> TimeNs {
        self.atime.load(Relaxed)
    }

    pub fn mtime(&self) -> TimeNs {
        self.mtime.load(Relaxed)
    }

    pub fn ctime(&self) -> TimeNs {
        self.ctime.load(Relaxed)
    }

    pub fn btime(&self) -> TimeNs {
        self.btime.load(Relaxed)
    }

    pub fn set_atime(&self, at: TimeNs) {
        self.atime.store(at, Relaxed);
    }

    pub fn set_mtime(&self, at: TimeNs) {
        self.mtime.store(at, Relaxed);
    }

    pub fn set_ctime(&self, at: TimeNs) {
        self.ctime.store(at, Relaxed);
    }

    pub fn set_btime(&self, at: TimeNs) {
        self.btime.store(at, Relaxed);
    }

    /// The flags of chattr(1) that the generic code looks at: immutable, append only, no access times, synchronous.
    #[inline]
    pub fn attributes(&self) -> u32 {
        self.attributes.load(Relaxed)
    }

    /// The file system's word on them, when the inode is made and when they change.
    pub fn set_attributes(&self, flags: u32) {
        self.attributes.store(flags, Relaxed);
    }

    /// Whether what is written to it is on the medium before a call returns, by mount(8)'s `sync` or chattr(1)'s `S`
    /// (Linux's IS_SYNC).
    #[inline]
    pub fn is_synchronous(&self) -> bool {
        self.attributes() & FS_SYNC_FL != 0 || self.sb.synchronous() & MS_SYNCHRONOUS != 0
    }

    /// Whether changes of the names in this directory are (Linux's IS_DIRSYNC).
    #[inline]
    pub fn has_synchronous_names(&self) -> bool {
        self.attributes() & (FS_SYNC_FL | FS_DIRSYNC_FL) != 0 || self.sb.synchronous() != 0
    }

    /// Whether it may have an access control list; if not, it has none.
    #[inline]
    pub fn may_have_acl(&self) -> bool {
        self.acl.load(Relaxed)
    }

    /// It has attributes, or gets a list.
    pub fn set_may_have_acl(&self) {
        self.acl.store(true, Relaxed);
    }

    /// The contents changed now: mtime and ctime.
    pub fn touch_modified(&self) {
        let now = now_ns();
        self.set_mtime(now);
        self.set_ctime(now);
    }

    /// The attributes changed now: ctime.
    pub fn touch_changed(&self) {
        self.set_ctime(now_ns());
    }

    /// Sets the fields that `set` names, ctime included; not the size.
    pub fn apply(&self, set: &SetAttr) {
        if let Some(mode) = set.mode {
            self.set_mode(self.mode() & S_IFMT | mode & abi::stat::S_IALLUGO);
        }
        self.set_owner(set.uid.unwrap_or(self.uid()), set.gid.unwrap_or(self.gid()));
        if let Some(at) = set.atime {
            self.set_atime(at);
        }
        if let Some(at) = set.mtime {
            self.set_mtime(at);
        }
        self.set_ctime(set.ctime.unwrap_or_else(now_ns));
    }

    /// Opening for writing; ETXTBSY while it is executed. Pairs with [`Inode::end_write`].
    pub fn begin_write(&self) -> Result<()> {
        let raise = |count: u32| (count & DENY_WRITE == 0).then_some(count + 1);
        self.writers.fetch_update(Relaxed, Relaxed, raise).map(drop).map_err(|_| Errno::ETXTBSY)
    }

    pub fn end_write(&self) {
        self.writers.fetch_sub(1, Relaxed);
    }

    /// Opening for reading only: leases for writing need to know. Pairs with [`Inode::end_read`].
    pub(crate) fn begin_read(&self) {
        self.readers.fetch_add(1, Relaxed);
    }

    pub(crate) fn end_read(&self) {
        self.readers.fetch_sub(1, Relaxed);
    }

    /// How often it is open for writing, and for reading only.
    pub(crate) fn opened(&self) -> (u32, u32) {
        let writers = self.writers.load(Relaxed);
        (if writers & DENY_WRITE != 0 { 0 } else { writers }, self.readers.load(Relaxed))
    }

    /// Whether it is being executed.
    pub(crate) fn is_executed(&self) -> bool {
        self.writers.load(Relaxed) & DENY_WRITE != 0
    }

    /// Whether the kernel swaps to it: writing, resizing and removing are refused.
    #[inline]
    pub fn is_swap_file(&self) -> bool {
        self.swap_file.load(Relaxed)
    }

    /// Becomes a swap file; EBUSY if it is one. The contents lock is held. Pairs with [`Inode::end_swap_file`].
    pub fn begin_swap_file(&self) -> Result<()> {
        if self.swap_file.swap(true, Relaxed) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    pub fn end_swap_file(&self) {
        self.swap_file.store(false, Relaxed);
    }

    /// Executing; ETXTBSY while it is open for writing. Pairs with [`Inode::allow_write`].
    pub fn deny_write(&self) -> Result<()> {
        let raise = |count: u32| (count == 0 || count & DENY_WRITE != 0).then_some((count | DENY_WRITE) + 1);
        self.writers.fetch_update(Relaxed, Relaxed, raise).map(drop).map_err(|_| Errno::ETXTBSY)
    }

    pub fn allow_write(&self) {
        let lower = |count: u32| Some(if count == DENY_WRITE | 1 { 0 } else { count - 1 });
        let _ = self.writers.fetch_update(Relaxed, Relaxed, lower);
    }
}

impl<T: InodeOps + ?Sized> Drop for Inode<T> {
    fn drop(&mut self) {
        let (atime, mtime, ctime) = (self.atime(), self.mtime(), self.ctime());
        let last = LastState { nlink: self.nlink(), atime, mtime, ctime };
        self.ops.released(&last);
        INODES.fetch_sub(1, Relaxed);
    }
}

impl Inode {
    /// The file system's own part, if it is of type `T`.
    pub fn ops_as<T: 'static>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    /// The access time after a read, with relatime's rule: at most once a day unless the file changed since.
    #[inline]
    pub fn accessed(&self, file: &File) {
        const DAY_NS: i64 = 86_400_000_000_000;
        let never = self.flags.contains(InodeFlags::NO_ATIME) || self.attributes() & FS_NOATIME_FL != 0;
        if never || file.skips_atime() {
            return;
        }
        let atime = self.atime();
        if atime <= self.mtime() || atime <= self.ctime() || file.strict_atime() {
            self.set_atime(now_ns());
        } else {
            let now = now_ns();
            if now - atime >= DAY_NS {
                self.set_atime(now);
            }
        }
    }

    /// Whether two inodes are the same file.
    #[inline]
    pub fn same(&self, other: &Inode) -> bool {
        core::ptr::addr_eq(self, other)
    }
}
