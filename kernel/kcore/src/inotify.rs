//! inotify(7): a queue of what happened to files, read like a file.
//!
//! **Idea.** An instance is a watcher of [`vfs::notify`]. Its table leads from watch descriptors to marks; a mark
//! knows its descriptor. Whoever takes a mark off its inode first (inotify_rm_watch(2), the file's end, an unmount,
//! the only event that IN_ONESHOT wanted) tells the queue IN_IGNORED under the lock of the inode's marks, so that
//! nothing of that descriptor comes later; then the descriptor goes.

use crate::rlimit::{UserCounts, charge};
use crate::{Ctx, Result, usermem};
use abi::Errno;
use abi::fcntl::{FIONREAD, O_NONBLOCK, O_RDONLY};
use abi::inotify::*;
use abi::poll::PollEvents;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use sync::SpinLock;
use sync::levels::{Leaf, WatchTable};
use task::WaitQueue;
use vfs::notify::{self, Event, Mark, Watcher};
use vfs::{File, FileOps, FileTraits, InodeRef, IoBuf, OpsRef, Path, PollTable, SuperBlock, anon};
use zerocopy::IntoBytes;

/// `/proc/sys/fs/inotify/max_queued_events`: of one instance.
pub static MAX_QUEUED_EVENTS: AtomicU64 = AtomicU64::new(16_384);
/// `/proc/sys/fs/inotify/max_user_instances`.
pub static MAX_USER_INSTANCES: AtomicU64 = AtomicU64::new(128);
/// `/proc/sys/fs/inotify/max_user_watches`: of all instances of a user.
pub static MAX_USER_WATCHES: AtomicU64 = AtomicU64::new(MIN_WATCHES);

const MIN_WATCHES: u64 = 8192;
const MAX_WATCHES: u64 = 1_048_576;

/// Lets a user's watches, with the inodes that they keep, have a hundredth of memory, as Linux does. Boot.
pub(crate) fn size_watches(memory_bytes: u64) {
    const WATCH_BYTES: u64 = 1280;
    let watches = memory_bytes / 100 / WATCH_BYTES;
    MAX_USER_WATCHES.store(watches.clamp(MIN_WATCHES, MAX_WATCHES), Relaxed);
}

/// An event that nobody has read.
struct Queued {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Queued {
    /// Bytes of the name with zeros up to a multiple of the event's size; none for no name.
    fn padded(&self) -> usize {
        match self.name.len() {
            0 => 0,
            len => (len + 1).next_multiple_of(size_of::<InotifyEvent>()),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<InotifyEvent>() + self.padded()
    }

    /// The same thing happened again: it is told once.
    fn repeats(&self, before: &Queued) -> bool {
        self.mask & IN_IGNORED == 0
            && (self.wd, self.mask) == (before.wd, before.mask)
            && self.name == before.name
    }
}

struct Table {
    marks: BTreeMap<i32, Arc<Mark>>,
    /// The descriptor given last: they are not used again until all others were.
    last: i32,
}

/// What is behind the descriptor.
pub struct Inotify {
    counts: Arc<UserCounts>,
    table: SpinLock<Table, WatchTable>,
    events: SpinLock<VecDeque<Queued>, Leaf>,
    /// [`MAX_QUEUED_EVENTS`] when it was made.
    max_events: u64,
    queue: Arc<WaitQueue>,
    this: Weak<Inotify>,
}

/// inotify_init1(2). EMFILE when the user has as many as it may, ENOMEM.
pub fn create(ctx: &Ctx, nonblocking: bool) -> Result<Arc<File>> {
    let counts = ctx.process.user_counts();
    if !charge(&counts.notifiers, MAX_USER_INSTANCES.load(Relaxed)) {
        return Err(Errno::EMFILE);
    }
    let instance = Arc::new_cyclic(|this| Inotify {
        counts,
        table: SpinLock::new(Table { marks: BTreeMap::new(), last: 0 }),
        events: SpinLock::new(VecDeque::new()),
        max_events: MAX_QUEUED_EVENTS.load(Relaxed),
        queue: Arc::new(WaitQueue::new(&"inotify_read")),
        this: this.clone(),
    });
    let watcher: Weak<dyn Watcher> = instance.this.clone();
    notify::register(watcher)?;
    let status = if nonblocking { O_NONBLOCK } else { 0 };
    Ok(anon::file("inotify", OpsRef::Shared(instance), O_RDONLY | status))
}

/// The instance of a descriptor; EINVAL for another kind of file.
pub fn of_file(file: &File) -> Result<&Inotify> {
    file.ops_as::<Inotify>().ok_or(Errno::EINVAL)
}

impl Inotify {
    /// inotify_add_watch(2) of a place that may be read: the watch descriptor. EEXIST, ENOSPC, ENOMEM.
    pub fn add(&self, place: &Path, mask: u32) -> Result<i32> {
        let inode = place.inode();
        let wanted = mask & (IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT);
        let watcher: Arc<dyn Watcher> = self.this.upgrade().ok_or(Errno::EBADF)?;
        let mut table = self.table.lock();
        if mask & IN_MASK_CREATE != 0 && notify::find(inode, &watcher).is_some() {
            return Err(Errno::EEXIST);
        }
        if let Some(wd) = notify::change(inode, &watcher, wanted, mask & IN_MASK_ADD != 0) {
            return Ok(wd);
        }
        if !charge(&self.counts.watches, MAX_USER_WATCHES.load(Relaxed)) {
            return Err(Errno::ENOSPC);
        }
        let wd = table.free();
        let mark = Mark::new(watcher, inode.clone(), wanted, wd);
        if let Err(error) = notify::attach(&mark) {
            self.counts.watches.fetch_sub(1, Relaxed);
            drop(table);
            drop(mark);
            return Err(error);
        }
        table.last = wd;
        table.marks.insert(wd, mark);
        Ok(wd)
    }

    /// inotify_rm_watch(2). EINVAL for a descriptor that is none.
    pub fn remove(&self, wd: i32) -> Result<()> {
        let mark = self.table.lock().marks.get(&wd).cloned().ok_or(Errno::EINVAL)?;
        if !notify::detach(&mark, None, false) {
            return Err(Errno::EINVAL);
        }
        self.drop_descriptor(&mark);
        Ok(())
    }

    fn drop_descriptor(&self, mark: &Arc<Mark>) {
        let gone = self.table.lock().marks.remove(&mark.id);
        if gone.is_some() {
            self.counts.watches.fetch_sub(1, Relaxed);
        }
        drop(gone);
    }

    /// Takes off every mark that `chosen` says, the last event of each being `last`.
    fn detach_all(&self, chosen: impl Fn(&Mark) -> bool, last: Option<u32>, silent: bool) {
        let next = || self.table.lock().marks.values().find(|mark| chosen(mark)).cloned();
        while let Some(mark) = next() {
            notify::detach(&mark, last, silent);
            self.drop_descriptor(&mark);
        }
    }

    /// Appends an event; without room or memory for it, the event that says so, once.
    fn push(&self, event: Queued, name: &[u8]) {
        let mut events = self.events.lock();
        let mut event = event;
        let full = events.len() as u64 >= self.max_events;
        let lost = full || event.name.try_reserve_exact(name.len()).is_err();
        if lost {
            if events.iter().any(|queued| queued.mask == IN_Q_OVERFLOW) {
                return;
            }
            event = Queued { wd: -1, mask: IN_Q_OVERFLOW, cookie: 0, name: Vec::new() };
        } else {
            event.name.extend_from_slice(name);
            if events.back().is_some_and(|before| event.repeats(before)) {
                return;
            }
        }
        if events.try_reserve(1).is_ok() {
            events.push_back(event);
        }
        drop(events);
        self.queue.wake(usize::MAX, PollEvents::READABLE.bits());
    }

    /// The next event if it fits into `room` bytes; EINVAL if not, EAGAIN if there is none.
    fn pop(&self, room: usize) -> Result<Queued> {
        let mut events = self.events.lock();
        let bytes = events.front().ok_or(Errno::EAGAIN)?.bytes();
        if bytes > room {
            return Err(Errno::EINVAL);
        }
        events.pop_front().ok_or(Errno::EAGAIN)
    }
}

impl Table {
    /// The next descriptor that is free, from 1 on.
    fn free(&self) -> i32 {
        let mut wd = self.last;
        loop {
            wd = wd.checked_add(1).unwrap_or(1);
            if !self.marks.contains_key(&wd) {
                return wd;
            }
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        self.counts.notifiers.fetch_sub(1, Relaxed);
    }
}

impl Watcher for Inotify {
    fn event(&self, mark: &Mark, event: &Event) {
        let mut mask = event.mask;
        if mask & (IN_DELETE_SELF | IN_MOVE_SELF) != 0 {
            // Programs that were written for it never saw the bit there.
            mask &= !IN_ISDIR;
        }
        self.push(Queued { wd: mark.id, mask, cookie: event.cookie, name: Vec::new() }, event.name);
    }

    fn forget(&self, mark: &Arc<Mark>) {
        self.drop_descriptor(mark);
    }

    fn unmounted(&self, sb: &Arc<SuperBlock>) {
        self.detach_all(|mark| Arc::ptr_eq(&mark.inode().sb, sb), Some(IN_UNMOUNT), false);
    }
}

impl FileOps for Inotify {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let start = buf.done();
        loop {
            let event = match self.pop(buf.remaining()) {
                Ok(event) => event,
                Err(_) if buf.done() > start => return Ok(buf.done() - start),
                Err(error) => return Err(error),
            };
            let len = event.padded() as u32;
            let head = InotifyEvent { wd: event.wd, mask: event.mask, cookie: event.cookie, len };
            buf.put(head.as_bytes())?;
            if len > 0 {
                buf.put(&event.name)?;
                buf.put_zeros(event.padded() - event.name.len())?;
            }
        }
    }

    fn wait_queue(&self, _file: &File, _events: PollEvents) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(&self.queue);
        }
        if self.events.lock().is_empty() { PollEvents::empty() } else { PollEvents::READABLE }
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.events.lock().iter().map(Queued::bytes).sum();
        usermem::write(argument, &(bytes as i32)).map(|()| 0)
    }

    fn release(&self, _file: &File) {
        self.detach_all(|_| true, None, true);
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut at = 0;
        // One at a time: the text is not made under a spin lock.
        let next = |at| self.table.lock().marks.range(at..).next().map(|(wd, mark)| (*wd, mark.clone()));
        while let Some((wd, mark)) = next(at) {
            show_mark(out, wd, mark.inode(), mark.wanted())?;
            at = wd.saturating_add(1);
        }
        Ok(())
    }
}

fn show_mark(out: &mut dyn fmt::Write, wd: i32, inode: &InodeRef, wanted: u32) -> fmt::Result {
    let dev = inode.sb.dev;
    let device = dev.major << 20 | dev.minor;
    writeln!(out, "inotify wd:{wd:x} ino:{:x} sdev:{device:x} mask:{wanted:x} ignored_mask:0 ", inode.ino)
}
