//! Telling watchers what happens to files (Linux's fsnotify).
//!
//! **Problem.** A program wants to know of reads, writes, renames of a file or of anything in a directory. Nobody
//! else may pay for it: reading and writing are hot.
//!
//! **Interface.** A [`Watcher`] attaches a [`Mark`] to an inode ([`attach`]) with the events it wants. Whoever changes
//! something calls [`file`], [`dentry`], [`inode`] or [`name`]; [`moved`] is a rename.
//!
//! **Idea.** An inode keeps the union of what its marks want. A dentry keeps whether its directory is watched, and of
//! which *generation* that knowledge is: a new watch on a directory starts a new generation, which makes the
//! knowledge of all dentries old at once, and each learns anew when it is next used. So a look costs three loads and
//! one branch. Telling each child instead, as Linux does, would need a list of children.

use crate::dentry::Dentry;
use crate::file::File;
use crate::inode::{Inode, InodeRef};
use crate::superblock::SuperBlock;
use abi::Errno;
use abi::errno::Result;
use abi::inotify::*;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use sync::levels::{Leaf, Watches};
use sync::{Once, SpinLock};

/// Who is told: an inotify instance.
pub trait Watcher: Send + Sync {
    /// Something happened that `mark` asked for, or IN_IGNORED: it is told nothing more. With the lock of the inode's
    /// marks held: takes locks of level `Leaf` at most.
    fn event(&self, mark: &Mark, event: &Event);

    /// [`Watcher::after`] is to be called.
    fn acts_after(&self) -> bool {
        false
    }

    /// Called after events, with no lock of the marks held: may take the locks of processes and signals.
    fn after(&self) {}

    /// The mark was taken off its inode, without the watcher's doing.
    fn forget(&self, mark: &Arc<Mark>);

    /// The file system is no longer mounted: the marks on its inodes are to go, told with IN_UNMOUNT.
    fn unmounted(&self, sb: &Arc<SuperBlock>);
}

/// An event of a directory, beside those of inotify (and with a bit that none of its marks has): an entry was renamed and
/// stayed in it.
pub(crate) const RENAMED_WITHIN: u32 = 0x1000_0000;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// One of `IN_*`, with IN_ISDIR if it happened to a directory.
    pub mask: u32,
    /// The name in the watched directory; empty when it happened to the watched inode itself.
    pub name: &'a [u8],
    /// Joins the two halves of a rename; 0 otherwise.
    pub cookie: u32,
}

/// A watcher's interest in an inode, which it keeps alive.
pub struct Mark {
    watcher: Arc<dyn Watcher>,
    inode: InodeRef,
    /// Events, with IN_EXCL_UNLINK and IN_ONESHOT. Changes under the lock of the inode's marks.
    wanted: AtomicU32,
    /// The watcher's own name for it.
    pub id: i32,
}

impl Mark {
    pub fn new(watcher: Arc<dyn Watcher>, inode: InodeRef, wanted: u32, id: i32) -> Arc<Mark> {
        Arc::new(Mark { watcher, inode, wanted: AtomicU32::new(wanted), id })
    }

    pub fn inode(&self) -> &InodeRef {
        &self.inode
    }

    /// Events, with IN_EXCL_UNLINK and IN_ONESHOT.
    pub fn wanted(&self) -> u32 {
        self.wanted.load(Relaxed)
    }

    fn is_of(&self, watcher: &Arc<dyn Watcher>) -> bool {
        core::ptr::addr_eq(Arc::as_ptr(&self.watcher), Arc::as_ptr(watcher))
    }
}

/// An inode's part.
#[derive(Default)]
pub(crate) struct Watched {
    /// The union of what the marks want. Written under their lock.
    wanted: AtomicU32,
    marks: Once<Box<SpinLock<Vec<Arc<Mark>>, Watches>>>,
}

impl Watched {
    #[inline]
    fn wanted(&self) -> u32 {
        self.wanted.load(Relaxed)
    }

    fn publish(&self, marks: &[Arc<Mark>]) {
        self.wanted.store(marks.iter().fold(0, |all, mark| all | mark.wanted()), SeqCst);
    }
}

/// A dentry's part: twice the generation, plus one if the directory is watched.
pub(crate) struct DirWatched(AtomicU32);

/// Twice the present generation: what an up-to-date dentry in a directory that nobody watches has.
static GENERATION: AtomicU32 = AtomicU32::new(0);

impl DirWatched {
    /// A new dentry knows only that nobody watched anything at the beginning.
    pub fn new() -> DirWatched {
        DirWatched(AtomicU32::new(0))
    }

    /// The dentry is in another directory now.
    pub fn moved(&self) {
        self.0.store(GENERATION.load(Relaxed).wrapping_sub(2), Relaxed);
    }
}

/// All watchers that ever attached a mark, for unmounting.
static WATCHERS: SpinLock<Vec<Weak<dyn Watcher>>, Leaf> = SpinLock::new(Vec::new());

/// Makes a new watcher known. ENOMEM.
pub fn register(watcher: Weak<dyn Watcher>) -> Result<()> {
    let mut watchers = WATCHERS.lock();
    watchers.retain(|known| known.strong_count() > 0);
    watchers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    watchers.push(watcher);
    Ok(())
}

/// The last mount of a file system goes.
pub(crate) fn unmounted(sb: &Arc<SuperBlock>) {
    let mut at = 0;
    loop {
        let watcher = match WATCHERS.lock().get(at) {
            None => return,
            Some(watcher) => watcher.upgrade(),
        };
        if let Some(watcher) = watcher {
            watcher.unmounted(sb);
        }
        at += 1;
    }
}

// ---- marks ----

/// Changes what the watcher's mark on `inode` wants; adds to it if `add`. The mark's id, `None` if it has none there.
pub fn change(inode: &InodeRef, watcher: &Arc<dyn Watcher>, wanted: u32, add: bool) -> Option<i32> {
    let marks = inode.watched.marks.get()?.lock();
    let mark = marks.iter().find(|mark| mark.is_of(watcher))?;
    let kept = if add { mark.wanted() } else { 0 };
    mark.wanted.store(kept | wanted, Relaxed);
    inode.watched.publish(&marks);
    Some(mark.id)
}

/// The id of the watcher's mark on `inode`.
pub fn find(inode: &InodeRef, watcher: &Arc<dyn Watcher>) -> Option<i32> {
    let marks = inode.watched.marks.get()?.lock();
    marks.iter().find(|mark| mark.is_of(watcher)).map(|mark| mark.id)
}

/// Puts a mark on its inode. ENOMEM.
pub fn attach(mark: &Arc<Mark>) -> Result<()> {
    let watched = &mark.inode.watched;
    if watched.marks.get().is_none() {
        // Of two that are made at once the first stays.
        let _ = watched.marks.set(Box::new(SpinLock::new(Vec::new())));
    }
    let mut marks = watched.marks.get_expect().lock();
    marks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    marks.push(mark.clone());
    watched.publish(&marks);
    drop(marks);
    if mark.inode.is_dir() {
        // After the wish is public: whoever learns of the generation sees it.
        GENERATION.fetch_add(2, SeqCst);
    }
    Ok(())
}

/// Takes a mark off its inode, and tells its watcher `last`, then IN_IGNORED, unless `silent`. False when it was
/// off already.
pub fn detach(mark: &Arc<Mark>, last: Option<u32>, silent: bool) -> bool {
    let Some(marks) = mark.inode.watched.marks.get() else { return false };
    let mut marks = marks.lock();
    let Some(at) = marks.iter().position(|other| Arc::ptr_eq(other, mark)) else { return false };
    let gone = marks.remove(at);
    mark.inode.watched.publish(&marks);
    if !silent {
        for mask in last.into_iter().chain([IN_IGNORED]) {
            mark.watcher.event(mark, &Event { mask, name: b"", cookie: 0 });
        }
    }
    drop(marks);
    drop(gone);
    true
}

// ---- events ----

/// Something happened to what a dentry names: one branch if nobody watches.
#[inline]
pub fn dentry(dentry: &Arc<Dentry>, mask: u32) {
    if is_watched(dentry) {
        happened(dentry, mask, false);
    }
}

/// Something was done through an open file: one branch if nobody watches.
#[inline]
pub fn file(file: &File, mask: u32) {
    let dentry = &file.path().dentry;
    if is_watched(dentry) {
        happened(dentry, mask, dentry.is_unlinked());
    }
}

#[inline]
fn is_watched(dentry: &Dentry) -> bool {
    let directory = dentry.dir_watched.0.load(Relaxed) ^ GENERATION.load(Relaxed);
    directory | dentry.inode().watched.wanted() != 0
}

/// Something happened to an inode, whatever its name.
pub(crate) fn inode(inode: &InodeRef, mask: u32) {
    if inode.watched.wanted() != 0 {
        let mask = mask | dir_bit(inode);
        deliver(inode, &Event { mask, name: b"", cookie: 0 }, false);
    }
}

/// Something happened to the entry `name`, of `subject`, in a directory.
pub(crate) fn name(dir: &InodeRef, mask: u32, name: &[u8], subject: &InodeRef) {
    named(dir, mask | dir_bit(subject), name, 0);
}

fn named(dir: &InodeRef, mask: u32, name: &[u8], cookie: u32) {
    if dir.watched.wanted() != 0 {
        deliver(dir, &Event { mask, name, cookie }, false);
    }
}

/// `subject` has moved from one name to another.
pub(crate) fn moved(from: (&InodeRef, &[u8]), to: (&InodeRef, &[u8]), subject: &InodeRef) {
    static COOKIE: AtomicU32 = AtomicU32::new(0);
    if from.0.watched.wanted() | to.0.watched.wanted() != 0 {
        let cookie = COOKIE.fetch_add(1, Relaxed).wrapping_add(1);
        if from.0.same(to.0) {
            named(from.0, RENAMED_WITHIN | dir_bit(subject), from.1, 0);
        }
        named(from.0, IN_MOVED_FROM | dir_bit(subject), from.1, cookie);
        named(to.0, IN_MOVED_TO | dir_bit(subject), to.1, cookie);
    }
}

/// The last reference to a name goes. If it was the inode's last name, so do the marks.
pub(crate) fn dentry_dropped(inode: &InodeRef) {
    if inode.watched.marks.get().is_none() || inode.nlink() != 0 {
        return;
    }
    let first = || Some(inode.watched.marks.get()?.lock().first()?.clone());
    while let Some(mark) = first() {
        let wanted = mark.wanted() & IN_DELETE_SELF;
        if detach(&mark, (wanted != 0).then_some(IN_DELETE_SELF), false) {
            mark.watcher.forget(&mark);
        }
    }
}

fn dir_bit(inode: &Inode) -> u32 {
    if inode.is_dir() { IN_ISDIR } else { 0 }
}

#[cold]
fn happened(dentry: &Arc<Dentry>, mask: u32, unlinked: bool) {
    let generation = GENERATION.load(SeqCst);
    let inode = dentry.inode();
    let mask = mask | dir_bit(inode);
    if dentry.dir_watched.0.load(Relaxed) != generation {
        let (parent, name) = dentry.parent_and_name();
        let watched = parent.as_ref().is_some_and(|dir| dir.inode().watched.wanted.load(SeqCst) != 0);
        dentry.dir_watched.0.store(generation | u32::from(watched), Relaxed);
        if let Some(dir) = parent.filter(|_| watched) {
            deliver(dir.inode(), &Event { mask, name: &name, cookie: 0 }, unlinked);
        }
    }
    if inode.watched.wanted() != 0 {
        deliver(inode, &Event { mask, name: b"", cookie: 0 }, unlinked);
    }
}

/// Tells every mark that wants it; marks that wanted one event only go.
fn deliver(inode: &Inode, event: &Event, unlinked: bool) {
    let Some(marks) = inode.watched.marks.get() else { return };
    let (mut spent, mut after): (Vec<Arc<Mark>>, Vec<Arc<Mark>>) = (Vec::new(), Vec::new());
    let list = marks.lock();
    for mark in list.iter() {
        let wanted = mark.wanted();
        if wanted & event.mask & (IN_ALL_EVENTS | RENAMED_WITHIN) == 0
            || unlinked && wanted & IN_EXCL_UNLINK != 0
        {
            continue;
        }
        mark.watcher.event(mark, event);
        if mark.watcher.acts_after() && after.try_reserve(1).is_ok() {
            after.push(mark.clone());
        }
        if wanted & IN_ONESHOT != 0 && spent.try_reserve(1).is_ok() {
            mark.wanted.store(IN_ONESHOT, Relaxed);
            spent.push(mark.clone());
        }
    }
    drop(list);
    for mark in after {
        mark.watcher.after();
    }
    for mark in spent {
        if detach(&mark, None, false) {
            mark.watcher.forget(&mark);
        }
    }
}
