//! Open files.
//!
//! **Problem.** Descriptors of several processes share one position, one set of status flags, and one
//! object that does the work.
//!
//! **Interface.** [`File`] is Linux's `struct file`; [`FileOps`] is what a file system, device or kernel
//! object implements. [`File::read`] and its kin check modes, keep the position, and block: an object's
//! `read` only tries and says EAGAIN, together with a wait queue to wait at ([`FileOps::wait_queue`]).
//!
//! **Idea.** Blocking = try + wait. Objects know nothing of signals, O_NONBLOCK or partial writes.

use crate::dir::DirSink;
use crate::dnotify::{self, Listeners};
use crate::epoll::Watchers;
use crate::fs_context::Caller;
use crate::inode::{FileType, InodeRef};
use crate::iobuf::IoBuf;
use crate::locks;
use crate::mount::MountFlags;
use crate::notify;
use crate::path::Path;
use crate::poll::PollTable;
use abi::fcntl::*;
use abi::inotify::{IN_ACCESS, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY};
use abi::poll::PollEvents;
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use bitflags::bitflags;
use core::any::Any;
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicIsize, AtomicU32, AtomicU64, Ordering::Relaxed};
use sync::levels::{FilePosition, OpenFile};
use sync::{Once, PerCpu, SpinLock};
use task::{Mutex, WaitMode, WaitQueue};
use vm::{ErrSeen, MapSource, Mapping, Readahead};

bitflags! {
    /// How an object behaves as a file; asked once, when it is opened.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FileTraits: u32 {
        /// No position: lseek, pread and pwrite are ESPIPE, no position lock is taken.
        const STREAM = 1;
        /// A blocking write goes on until everything is written (pipes), or a signal.
        const WRITE_ALL = 2;
        /// Reading and writing change no position, but seeking is allowed and does nothing (/dev/null).
        const NO_POSITION = 4;
        /// Can tell readiness: epoll accepts it, poll asks it.
        const POLLABLE = 8;
        /// Reading or writing may wait: RWF_NOWAIT must be honoured by the object.
        const REGULAR = 16;
        /// Without a table `poll` reads atomics only: it takes no lock and does not sleep, so that it may be asked
        /// with a spin lock held.
        const POLL_LOCKLESS = 32;
        /// Knows what to do with O_DIRECT.
        const DIRECT = 64;
    }
}

/// What an open file does. All methods may sleep unless said otherwise; no lock is held but the file's
/// position. The defaults refuse.
#[allow(unused_variables)]
pub trait FileOps: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;

    fn traits(&self) -> FileTraits {
        FileTraits::empty()
    }

    /// Reads at `pos` and moves it. EAGAIN when there is nothing yet; 0 at the end.
    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at `pos` and moves it; fewer bytes than there are is allowed. EAGAIN when there is no room.
    fn write(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Memory that goes when the last descriptor does: for the OOM killer.
    fn held_bytes(&self, file: &File) -> u64 {
        0
    }

    /// Where to wait after EAGAIN for `events`. `None`: the object never blocks.
    fn wait_queue(&self, file: &File, events: PollEvents) -> Option<&WaitQueue> {
        None
    }

    /// What is ready now; with a table, also subscribes to changes. Does not sleep.
    fn poll(&self, file: &File, table: Option<&mut PollTable>) -> PollEvents {
        PollEvents::REGULAR
    }

    /// lseek(2); by default over a position bounded by `max_bytes`, SEEK_END by the inode's size.
    fn seek(&self, file: &File, pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
        crate::seek::generic_seek(file, pos, offset, whence)
    }

    /// ioctl(2). ENOTTY for a command that is not known.
    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<usize> {
        Err(Errno::ENOTTY)
    }

    /// Gives directory entries from `pos` on and moves it; see [`DirSink`].
    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Where pages come from when it is mapped.
    fn map_source(&self, file: &File) -> Result<MapSource> {
        Err(Errno::ENODEV)
    }

    /// Stores through shared mappings reach the file; see [`vm::VmFile::shares_stores`].
    fn shares_stores(&self) -> bool {
        true
    }

    /// The page cache, for sendfile and splice to take folios from.
    fn mapping(&self, file: &File) -> Option<Arc<Mapping>> {
        None
    }

    /// Writes `start..=end` to the medium. `data_only`: fdatasync. Errors of write-back are added by the caller
    /// ([`File::fsync_range`]); [`crate::cached::write_out`] is the part that writes pages.
    fn fsync(&self, file: &File, start: u64, end: u64, data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2), arguments checked.
    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        Err(if file.inode().file_type() == FileType::Fifo { Errno::ESPIPE } else { Errno::ENODEV })
    }

    /// A record lock was granted here, or given up (`None`): a server that others use as well is asked, too. `range`
    /// has both ends included; EAGAIN when somebody else holds it and `wait` is false.
    fn lock(
        &self,
        file: &File,
        pid: i32,
        range: (u64, u64),
        kind: Option<locks::Kind>,
        wait: bool,
    ) -> Result<()> {
        Ok(())
    }

    /// The lock on the server that is in the way of one for which nothing is in the way here.
    fn get_lock(
        &self,
        file: &File,
        wanted: &locks::Lock<locks::LockOwner>,
    ) -> Result<Option<locks::Lock<locks::LockOwner>>> {
        Ok(None)
    }

    /// The stretch of the file that begins at byte `at`, a multiple of the file system's block size, and is at most
    /// `len` long: where it lies on the device, for swap files. All has been written before. EINVAL where bytes have
    /// no fixed place.
    fn extent(&self, file: &File, at: u64, len: u64) -> Result<Extent> {
        Err(Errno::EINVAL)
    }

    /// A descriptor was closed (each one). Its error is close(2)'s.
    fn flush(&self, file: &File) -> Result<()> {
        Ok(())
    }

    /// The last reference went away.
    fn release(&self, file: &File) {}

    /// fcntl F_SETFL changed the status flags; an error refuses the change.
    fn flags_changed(&self, file: &File, flags: u32) -> Result<()> {
        Ok(())
    }

    /// Lines of its own for /proc/PID/fdinfo.
    fn show_fdinfo(&self, file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub len: u64,
    /// The byte of the file system's device where it begins; `None`: a hole.
    pub place: Option<u64>,
}

/// What does the work of a file: one for all files of a kind, or one of this file's own.
#[derive(Clone)]
pub enum OpsRef {
    Static(&'static dyn FileOps),
    Shared(Arc<dyn FileOps>),
}

impl OpsRef {
    pub fn shared(ops: impl FileOps) -> OpsRef {
        OpsRef::Shared(Arc::new(ops))
    }
}

impl Deref for OpsRef {
    type Target = dyn FileOps;
    #[inline]
    fn deref(&self) -> &(dyn FileOps + 'static) {
        match self {
            OpsRef::Static(ops) => *ops,
            OpsRef::Shared(ops) => &**ops,
        }
    }
}

bitflags! {
    /// What may be done with a file; fixed when it is opened (Linux's f_mode).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FileMode: u32 {
        const READ = 1;
        const WRITE = 2;
        /// Opened for execution: nobody may write the file meanwhile.
        const EXEC = 4;
        /// O_PATH: names a place, can do nothing.
        const PATH = 8;
        /// Counted as a writer of inode and mount.
        const WRITER = 16;
        /// Counted as a reader of the inode.
        const READER = 32;
    }
}

/// Who is told by SIGIO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `F_OWNER_*`.
    pub kind: i32,
    /// 0: nobody.
    pub pid: i32,
    pub uid: u32,
    pub euid: u32,
    /// F_SETSIG; 0: SIGIO.
    pub signal: i32,
}

/// What few files need.
#[derive(Default)]
pub(crate) struct Extra {
    pub owner: SpinLock<Owner, OpenFile>,
    pub watchers: Watchers,
    pub listeners: Listeners,
}

/// An open file description. Always in an `Arc`; dropping the last one closes it, which may sleep: never
/// drop one under a spin lock.
pub struct File {
    path: Path,
    ops: OpsRef,
    mode: FileMode,
    traits: FileTraits,
    /// O_* status flags (fcntl F_GETFL).
    flags: AtomicU32,
    /// Written with `position_lock` held; /proc looks at it without.
    position: AtomicU64,
    position_lock: Mutex<(), FilePosition>,
    readahead: Readahead,
    /// The write errors that this opener knows of.
    write_errors: ErrSeen,
    extra: Once<Box<Extra>>,
}

/// Open files, counted on the CPU that opens and on the one that closes: only the sum means something.
static OPEN: Once<PerCpu<AtomicIsize>> = Once::new();

pub(crate) fn init() {
    let _ = OPEN.set(PerCpu::new(|_| AtomicIsize::new(0)));
}

#[inline]
fn count_open(change: isize) {
    if let Some(counts) = OPEN.get() {
        counts.this().fetch_add(change, Relaxed);
    }
}

/// Files that are open (/proc/sys/fs/file-nr).
pub fn open_files() -> usize {
    let sum: isize = OPEN.get().map_or(0, |counts| counts.iter().map(|(_, n)| n.load(Relaxed)).sum());
    sum.max(0) as usize
}

/// Flags of open(2) that are forgotten once it is done.
const OPEN_ONLY: u32 = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;

impl File {
    /// A file for `ops`, opened with `flags` (access mode and status). Counts no writer: see
    /// [`crate::open`].
    pub fn new(path: Path, ops: OpsRef, flags: u32) -> Arc<File> {
        File::with_mode(path, ops, flags, FileMode::empty())
    }

    pub(crate) fn with_mode(path: Path, ops: OpsRef, flags: u32, more: FileMode) -> Arc<File> {
        let mode = match flags & O_ACCMODE {
            _ if flags & O_PATH != 0 => FileMode::PATH,
            O_RDONLY => FileMode::READ,
            O_WRONLY => FileMode::WRITE,
            O_RDWR => FileMode::READ | FileMode::WRITE,
            _ => FileMode::empty(),
        };
        let traits = ops.traits();
        count_open(1);
        let file = Arc::new(File {
            path,
            ops,
            mode: mode | more,
            traits,
            flags: AtomicU32::new(flags & !OPEN_ONLY),
            position: AtomicU64::new(0),
            position_lock: Mutex::new(()),
            readahead: Readahead::new(),
            write_errors: ErrSeen::new(),
            extra: Once::new(),
        });
        file.forget_old_errors();
        file
    }

    /// An error that others have been told of before this open is not this opener's. Errors are rare: as long
    /// as there was none anywhere, opening looks at one word.
    fn forget_old_errors(&self) {
        if vm::stats::any_write_error()
            && let Some(mapping) = self.ops.mapping(self)
        {
            mapping.errors().sample_into(&self.write_errors);
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the file was read so far, for reading ahead.
    #[inline]
    pub fn readahead(&self) -> &Readahead {
        &self.readahead
    }

    #[inline]
    pub fn inode(&self) -> &InodeRef {
        self.path.inode()
    }

    #[inline]
    pub fn ops(&self) -> &OpsRef {
        &self.ops
    }

    /// The object behind it, if it is of type `T`.
    pub fn ops_as<T: 'static>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    pub fn mode(&self) -> FileMode {
        self.mode
    }

    pub fn traits(&self) -> FileTraits {
        self.traits
    }

    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// fcntl(F_SETFL): takes the changeable bits from `flags`.
    pub fn set_flags(&self, flags: u32) -> Result<()> {
        if flags & O_DIRECT != 0 && self.inode().is_regular() && !self.traits.contains(FileTraits::DIRECT) {
            return Err(Errno::EINVAL);
        }
        if (self.flags() ^ flags) & O_APPEND != 0 && self.mode.contains(FileMode::WRITE) {
            crate::permission::check_not_append_only(self.inode())?;
        }
        self.ops.flags_changed(self, flags & SETFL_MASK)?;
        let change = |old: u32| Some(old & !SETFL_MASK | flags & SETFL_MASK);
        let _ = self.flags.fetch_update(Relaxed, Relaxed, change);
        Ok(())
    }

    #[inline]
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & O_NONBLOCK != 0
    }

    pub fn is_path_only(&self) -> bool {
        self.mode.contains(FileMode::PATH)
    }

    pub(crate) fn skips_atime(&self) -> bool {
        self.flags() & O_NOATIME != 0
            || self.path.mount.flags().contains(MountFlags::NOATIME)
            || (self.path.mount.flags().contains(MountFlags::NODIRATIME) && self.inode().is_dir())
            || self.path.mount.is_read_only()
    }

    pub(crate) fn strict_atime(&self) -> bool {
        self.path.mount.flags().contains(MountFlags::STRICTATIME)
    }

    pub(crate) fn extra(&self) -> &Extra {
        if self.extra.get().is_none() {
            // Two threads may both make one; the first set wins.
            let _ = self.extra.set(Box::default());
        }
        self.extra.get_expect()
    }

    /// Who listens to an open directory, if anybody ever did.
    pub(crate) fn listeners(&self) -> Option<&Listeners> {
        self.extra.get().map(|extra| &extra.listeners)
    }

    pub fn owner(&self) -> Owner {
        self.extra.get().map_or(Owner::default(), |extra| *extra.owner.lock())
    }

    pub fn set_owner(&self, owner: Owner) {
        *self.extra().owner.lock() = owner;
    }

    // ---- reading and writing ----

    /// read(2) at the file's position.
    #[inline]
    pub fn read(&self, buf: &mut IoBuf) -> Result<usize> {
        if !self.mode.contains(FileMode::READ) {
            return Err(Errno::EBADF);
        }
        if self.traits.intersects(FileTraits::STREAM.union(FileTraits::NO_POSITION)) {
            return self.read_here(&mut 0, buf);
        }
        self.with_position(|position| self.read_here(position, buf))
    }

    /// pread(2).
    pub fn read_at(&self, mut pos: u64, buf: &mut IoBuf) -> Result<usize> {
        self.check_positioned(FileMode::READ, pos)?;
        self.read_here(&mut pos, buf)
    }

    fn read_here(&self, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if self.inode().is_dir() {
            return Err(Errno::EISDIR);
        }
        let nowait = buf.nowait;
        let result = self.retry(PollEvents::READABLE, nowait, || self.ops.read(self, pos, buf));
        self.did(IN_ACCESS, result)
    }

    /// write(2) at the file's position, or at its end with O_APPEND.
    #[inline]
    pub fn write(&self, buf: &mut IoBuf) -> Result<usize> {
        if !self.mode.contains(FileMode::WRITE) {
            return Err(Errno::EBADF);
        }
        buf.append |= self.flags() & O_APPEND != 0 && !buf.no_append;
        if self.traits.contains(FileTraits::WRITE_ALL) {
            return self.write_all(buf);
        }
        if self.traits.intersects(FileTraits::STREAM.union(FileTraits::NO_POSITION)) {
            return self.write_here(&mut 0, buf);
        }
        self.with_position(|position| self.write_here(position, buf))
    }

    /// pwrite(2). With O_APPEND it appends, as on Linux (pwrite(2), BUGS).
    pub fn write_at(&self, mut pos: u64, buf: &mut IoBuf) -> Result<usize> {
        self.check_positioned(FileMode::WRITE, pos)?;
        buf.append |= self.flags() & O_APPEND != 0 && !buf.no_append;
        self.write_here(&mut pos, buf)
    }

    fn write_here(&self, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let nowait = buf.nowait;
        let result = self.retry(PollEvents::WRITABLE, nowait, || self.ops.write(self, pos, buf));
        let result = self.did(IN_MODIFY, result);
        match result {
            Ok(done)
                if done > 0 && (self.flags() & O_DSYNC | buf.sync != 0 || self.inode().is_synchronous()) =>
            {
                self.write_through(*pos, done, buf.sync)
            }
            result => result,
        }
    }

    /// O_SYNC and O_DSYNC, RWF_SYNC and RWF_DSYNC, or the file itself ([`crate::inode::Inode::is_synchronous`]): the
    /// `done` bytes before `end` are on the medium when a write returns.
    #[cold]
    fn write_through(&self, end: u64, done: usize, asked: u32) -> Result<usize> {
        if self.traits.contains(FileTraits::REGULAR) {
            // O_SYNC has both bits, and what is left of it without O_DSYNC is the difference.
            let all = (self.flags() | asked) & (O_SYNC & !O_DSYNC) != 0;
            self.fsync_range(end.saturating_sub(done as u64), end.saturating_sub(1), !all)?;
        }
        Ok(done)
    }

    /// Tells watchers of what a call did, unless it did nothing.
    #[inline]
    fn did(&self, event: u32, result: Result<usize>) -> Result<usize> {
        if !matches!(result, Err(_) | Ok(0)) {
            notify::file(self, event);
        }
        result
    }

    /// Writes until the buffer is empty; an error after a part was written gives the part.
    fn write_all(&self, buf: &mut IoBuf) -> Result<usize> {
        loop {
            match self.write_here(&mut 0, buf) {
                Ok(_) if buf.remaining() > 0 && !self.is_nonblocking() && !buf.nowait => {}
                Ok(_) => return Ok(buf.done()),
                Err(_) if buf.done() > 0 => return Ok(buf.done()),
                Err(error) => return Err(error),
            }
        }
    }

    fn check_positioned(&self, mode: FileMode, pos: u64) -> Result<()> {
        if !self.mode.contains(mode) {
            return Err(Errno::EBADF);
        }
        if self.traits.contains(FileTraits::STREAM) {
            return Err(Errno::ESPIPE);
        }
        if pos > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Tries, and waits after EAGAIN unless the file or the call is non-blocking.
    #[inline]
    fn retry(
        &self,
        events: PollEvents,
        nowait: bool,
        mut attempt: impl FnMut() -> Result<usize>,
    ) -> Result<usize> {
        loop {
            match attempt() {
                Err(Errno::EAGAIN) if !nowait && !self.is_nonblocking() => self.wait_ready(events)?,
                result => return result,
            }
        }
    }

    /// Sleeps until one of `events` (or an error or hang-up) is there. ERESTARTSYS after a signal.
    #[cold]
    pub fn wait_ready(&self, events: PollEvents) -> Result<()> {
        let queue = self.ops.wait_queue(self, events).ok_or(Errno::EAGAIN)?;
        let wanted = events | PollEvents::ALWAYS | PollEvents::RDHUP;
        let ready = || self.ops.poll(self, None).intersects(wanted).then_some(());
        queue.wait_until(WaitMode::Interruptible, None, ready).map_err(|_| Errno::ERESTARTSYS)
    }

    /// lseek(2).
    pub fn seek(&self, offset: i64, whence: u32) -> Result<u64> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        if self.traits.contains(FileTraits::STREAM) {
            return Err(Errno::ESPIPE);
        }
        if self.traits.contains(FileTraits::NO_POSITION) {
            return Ok(0);
        }
        self.with_position(|position| self.ops.seek(self, position, offset, whence))
    }

    /// The position as it is at the moment.
    pub fn position(&self) -> u64 {
        self.position.load(Relaxed)
    }

    /// Runs `action` with the position locked.
    #[inline]
    pub fn with_position<R>(&self, action: impl FnOnce(&mut u64) -> R) -> R {
        let _locked = self.position_lock.lock();
        let mut position = self.position.load(Relaxed);
        let result = action(&mut position);
        self.position.store(position, Relaxed);
        result
    }

    /// getdents64(2): fills the sink from the position on.
    pub fn iterate(&self, sink: &mut DirSink) -> Result<()> {
        let inode = self.inode();
        if !inode.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        self.with_position(|position| {
            let _contents = inode.contents.read();
            if inode.nlink() == 0 {
                return Err(Errno::ENOENT);
            }
            let result = self.ops.iterate(self, position, sink);
            inode.accessed(self);
            notify::file(self, IN_ACCESS);
            result
        })
    }

    /// What is ready, as poll(2) tells it.
    #[inline]
    pub fn poll(&self, table: Option<&mut PollTable>) -> PollEvents {
        if !self.traits.contains(FileTraits::POLLABLE) {
            return PollEvents::REGULAR;
        }
        self.ops.poll(self, table)
    }

    /// As [`File::poll`] without a table, where that takes no lock; `None` where it may.
    #[inline]
    pub fn poll_lockless(&self) -> Option<PollEvents> {
        if self.traits.contains(FileTraits::POLL_LOCKLESS) {
            return Some(self.ops.poll(self, None));
        }
        (!self.traits.contains(FileTraits::POLLABLE)).then_some(PollEvents::REGULAR)
    }

    /// fsync(2) and fdatasync(2).
    pub fn fsync(&self, data_only: bool) -> Result<()> {
        self.fsync_range(0, u64::MAX, data_only)
    }

    /// As [`File::fsync`] for the bytes `start..=end`. An error of write-back that happened since this file was
    /// opened, or since it was told of one, is this call's, whatever wrote the pages.
    pub fn fsync_range(&self, start: u64, end: u64, data_only: bool) -> Result<()> {
        let done = self.ops.fsync(self, start, end, data_only);
        done.and(self.check_write_errors())
    }

    /// The write-back error that this opener has not been told of yet; the next call says `Ok`.
    pub fn check_write_errors(&self) -> Result<()> {
        if !vm::stats::any_write_error() {
            return Ok(());
        }
        self.ops.mapping(self).map_or(Ok(()), |mapping| mapping.errors().check(&self.write_errors))
    }

    /// Opens a file's content for reading by the kernel: up to `buffer.len()` bytes at `pos`.
    pub fn read_kernel(&self, pos: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let count =
                self.read_here(&mut (pos + done as u64), &mut IoBuf::kernel_out(&mut buffer[done..]))?;
            if count == 0 {
                break;
            }
            done += count;
        }
        Ok(done)
    }

    /// The path for /proc links, seen from the caller's root.
    pub fn display_path(&self, caller: &Caller) -> alloc::vec::Vec<u8> {
        self.path.to_bytes(&caller.fs.root())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        count_open(-1);
        if self.mode.contains(FileMode::PATH) {
            return;
        }
        let writes = self.mode.contains(FileMode::WRITE);
        notify::file(self, if writes { IN_CLOSE_WRITE } else { IN_CLOSE_NOWRITE });
        if let Some(extra) = self.extra.get() {
            extra.watchers.file_closed(self);
            dnotify::file_closed(self);
        }
        crate::locks::file_closed(self);
        self.ops.release(self);
        if self.mode.contains(FileMode::WRITER) {
            self.inode().end_write();
            self.path.mount.end_write();
        }
        if self.mode.contains(FileMode::READER) {
            self.inode().end_read();
        }
        if self.mode.contains(FileMode::EXEC) {
            self.inode().allow_write();
        }
    }
}

/// What vm sees of a file.
impl vm::VmFile for File {
    fn map_source(&self) -> Result<MapSource> {
        self.ops.map_source(self)
    }

    fn readable(&self) -> bool {
        self.mode.contains(FileMode::READ)
    }

    fn writable(&self) -> bool {
        self.mode.contains(FileMode::WRITE)
    }

    fn shares_stores(&self) -> bool {
        self.ops.shares_stores()
    }

    fn is_swap_file(&self) -> bool {
        self.inode().is_swap_file()
    }

    fn no_exec(&self) -> bool {
        self.path.mount.flags().contains(MountFlags::NOEXEC)
    }

    fn device(&self) -> (u32, u32) {
        let dev = self.inode().sb.dev;
        (dev.major, dev.minor)
    }

    fn inode_number(&self) -> u64 {
        self.inode().ino
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.path.is_pseudo() {
            return crate::text::write_escaped(out, &self.path.dentry.name(), b"\n");
        }
        crate::text::write_escaped(out, &self.path.text(None).0, b"\n")?;
        if self.path.dentry.is_unlinked() { out.write_str(" (deleted)") } else { Ok(()) }
    }

    fn sync_range(&self, start: u64, end: u64) -> Result<()> {
        self.fsync_range(start, end.saturating_sub(1), false)
    }

    fn readahead(&self) -> Option<&Readahead> {
        Some(&self.readahead)
    }

    fn punch_hole(&self, start: u64, len: u64) -> Result<()> {
        self.ops.fallocate(self, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, len)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
