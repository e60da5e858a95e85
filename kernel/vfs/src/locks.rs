//! Advisory locks: flock(2), fcntl(2) record locks and open-file-description locks.
//!
//! POSIX record locks belong to a process (here: its descriptor table, as on Linux) and go with the first
//! close of any descriptor of the file. OFD locks and flock locks belong to the open file.

use crate::file::File;
use crate::inode::{Inode, InodeRef};
use crate::leases::{self, Lease};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
pub use reclock::{Kind, Lock};
use reclock::{Ranges, WaitGraph};
use sync::SpinLock;
use sync::levels::{FileLocks, Leaf};
use task::{WaitMode, WaitQueue};

/// Who holds a lock. Two are the same when their ids are.
#[derive(Clone, Copy, Debug)]
pub struct LockOwner {
    id: u64,
    /// What F_GETLK tells: the process, or -1 for an open file.
    pub pid: i32,
}

impl PartialEq for LockOwner {
    fn eq(&self, other: &LockOwner) -> bool {
        self.id == other.id
    }
}

impl LockOwner {
    /// A process, by [`crate::FileTable::owner_id`].
    pub fn process(table_id: u64, pid: i32) -> LockOwner {
        LockOwner { id: table_id, pid }
    }

    /// An open file.
    pub fn open_file(file: &File) -> LockOwner {
        LockOwner { id: core::ptr::from_ref(file) as u64, pid: -1 }
    }

    /// Somebody of another machine, as a server of files names it.
    pub fn remote(pid: i32) -> LockOwner {
        LockOwner { id: u64::MAX, pid }
    }

    fn is_process(self) -> bool {
        self.pid >= 0
    }
}

#[derive(Default)]
struct State {
    records: Ranges<LockOwner>,
    /// flock(2): by open file.
    whole: Vec<(LockOwner, Kind)>,
}

/// The locks of one inode.
pub struct InodeLocks {
    state: SpinLock<State, FileLocks>,
    /// Never locked together with `state`.
    pub(crate) leases: SpinLock<Vec<Lease>, FileLocks>,
    pub(crate) changed: WaitQueue,
}

impl Default for InodeLocks {
    fn default() -> Self {
        InodeLocks {
            state: SpinLock::new(State::default()),
            leases: SpinLock::new(Vec::new()),
            changed: WaitQueue::new(&"locks_lock_inode_wait"),
        }
    }
}

/// Which process waits for which, over all files: for EDEADLK.
static WAITS: SpinLock<WaitGraph<u64>, Leaf> = SpinLock::new(WaitGraph::new());
/// Edges followed before a request is assumed to be safe.
const DEADLOCK_DEPTH: usize = 64;

/// Inodes that have, or had, locks: for /proc/locks. Those that are gone are left out when it would grow.
static LOCKED: SpinLock<Vec<Weak<Inode>>, Leaf> = SpinLock::new(Vec::new());

pub(crate) fn of(inode: &InodeRef) -> &InodeLocks {
    if inode.locks.get().is_none() && inode.locks.set(Box::default()).is_ok() {
        list(inode);
    }
    inode.locks.get_expect()
}

/// An inode that finds no memory for its place in the list works as well, unseen.
fn list(inode: &InodeRef) {
    let mut locked = LOCKED.lock();
    if locked.len() == locked.capacity() {
        locked.retain(|inode| inode.strong_count() > 0);
        let more = locked.len().max(16);
        if locked.try_reserve(more).is_err() {
            return;
        }
    }
    locked.push(Arc::downgrade(inode));
}

/// A lock as /proc/locks shows it.
struct Shown {
    /// `None`: nothing any more, for a lease that is to be given up.
    kind: Option<Kind>,
    style: &'static str,
    pid: i32,
    range: (u64, u64),
}

impl InodeLocks {
    /// The lock with a number: first the records, then those of whole files, then the leases.
    fn nth(&self, index: usize) -> Option<Shown> {
        let state = self.state.lock();
        if let Some(lock) = state.records.get(index) {
            let style = if lock.owner.is_process() { "POSIX  ADVISORY " } else { "OFDLCK ADVISORY " };
            return Some(Shown {
                kind: Some(lock.kind),
                style,
                pid: lock.owner.pid,
                range: (lock.start, lock.end),
            });
        }
        let index = index - state.records.iter().count();
        if let Some((owner, kind)) = state.whole.get(index) {
            let style = "FLOCK  ADVISORY ";
            return Some(Shown { kind: Some(*kind), style, pid: owner.pid, range: (0, u64::MAX) });
        }
        let index = index - state.whole.len();
        drop(state);
        let leases = self.leases.lock();
        let lease = leases.get(index)?;
        let style = if lease.is_breaking() { "LEASE  BREAKING " } else { "LEASE  ACTIVE   " };
        Some(Shown { kind: lease.target(), style, pid: lease.pid, range: (0, u64::MAX) })
    }
}

/// The text of /proc/locks.
pub fn show(out: &mut dyn fmt::Write) -> fmt::Result {
    let mut number = 0;
    for at in 0.. {
        let inode = match LOCKED.lock().get(at) {
            Some(inode) => inode.upgrade(),
            None => return Ok(()),
        };
        let Some(inode) = inode else { continue };
        let Some(locks) = inode.locks.get() else { continue };
        let mut index = 0;
        while let Some(lock) = locks.nth(index) {
            (index, number) = (index + 1, number + 1);
            let kind = match lock.kind {
                Some(Kind::Read) => "READ",
                Some(Kind::Write) => "WRITE",
                None => "UNLCK",
            };
            let dev = inode.sb.dev;
            write!(out, "{number}: {} {kind} {} ", lock.style, lock.pid)?;
            write!(out, "{:02x}:{:02x}:{} {} ", dev.major, dev.minor, inode.ino, lock.range.0)?;
            // The last byte that a file can have stands for its end, wherever that is.
            if lock.range.1 >= i64::MAX as u64 {
                writeln!(out, "EOF")?
            } else {
                writeln!(out, "{}", lock.range.1)?
            }
        }
    }
    Ok(())
}

/// F_GETLK: the first lock in the way of this one, here or on the server that has the file.
pub fn test(
    file: &File,
    owner: LockOwner,
    start: u64,
    end: u64,
    kind: Kind,
) -> Result<Option<Lock<LockOwner>>> {
    let wanted = Lock { start, end, kind, owner };
    let here = || file.inode().locks.get()?.state.lock().records.conflict(&wanted).copied();
    match here() {
        Some(held) => Ok(Some(held)),
        None => file.ops().get_lock(file, &wanted),
    }
}

/// F_SETLK, F_SETLKW: sets `start..=end` to `kind`, or unlocks it with `None`. A server that has the file is asked when
/// the lock is free here; what it refuses is given up here.
pub fn set(
    file: &File,
    owner: LockOwner,
    start: u64,
    end: u64,
    kind: Option<Kind>,
    wait: bool,
) -> Result<()> {
    set_here(file, owner, start, end, kind, wait)?;
    let asked = file.ops().lock(file, owner.pid, (start, end), kind, wait);
    if asked.is_err() && kind.is_some() {
        // Unlocking needs no more memory than is reserved; if it did, the lock would stay until the close.
        let _ = try_set(of(file.inode()), owner, start, end, None);
    }
    asked
}

fn set_here(
    file: &File,
    owner: LockOwner,
    start: u64,
    end: u64,
    kind: Option<Kind>,
    wait: bool,
) -> Result<()> {
    let locks = of(file.inode());
    let attempt = || try_set(locks, owner, start, end, kind);
    match attempt() {
        Err(Errno::EAGAIN) if wait => {}
        result => return result,
    }
    let result = locks.changed.wait_until(WaitMode::Interruptible, None, || match attempt() {
        Err(Errno::EAGAIN) => note_wait(locks, Lock { start, end, kind: kind?, owner }).err().map(Err),
        result => Some(result),
    });
    if owner.is_process() {
        WAITS.lock().remove(owner.id);
    }
    result.unwrap_or(Err(Errno::ERESTARTSYS))
}

fn try_set(locks: &InodeLocks, owner: LockOwner, start: u64, end: u64, kind: Option<Kind>) -> Result<()> {
    let mut state = locks.state.lock();
    if let Some(kind) = kind
        && state.records.conflict(&Lock { start, end, kind, owner }).is_some()
    {
        return Err(Errno::EAGAIN);
    }
    state.records.set(owner, start, end, kind).map_err(|_| Errno::ENOLCK)?;
    drop(state);
    // A downgrade or an unlock may let somebody in.
    locks.changed.wake_all();
    Ok(())
}

/// Notes whom the owner waits for now; EDEADLK when that one waits for the owner.
fn note_wait(locks: &InodeLocks, wanted: Lock<LockOwner>) -> Result<()> {
    let holder = locks.state.lock().records.conflict(&wanted).map(|lock| lock.owner);
    let Some(holder) = holder.filter(|holder| holder.is_process() && wanted.owner.is_process()) else {
        return Ok(());
    };
    let mut waits = WAITS.lock();
    waits.remove(wanted.owner.id);
    if waits.would_deadlock(wanted.owner.id, holder.id, DEADLOCK_DEPTH) {
        return Err(Errno::EDEADLK);
    }
    if waits.add(wanted.owner.id, holder.id) { Ok(()) } else { Err(Errno::ENOLCK) }
}

/// flock(2). `None` unlocks. EAGAIN when it would have to wait and may not.
/// `pid` is who asks, for /proc/locks.
pub fn flock(file: &File, pid: i32, kind: Option<Kind>, wait: bool) -> Result<()> {
    let owner = LockOwner { pid, ..LockOwner::open_file(file) };
    let locks = of(file.inode());
    let attempt = || try_flock(locks, owner, kind);
    match attempt() {
        Err(Errno::EAGAIN) if wait => {}
        result => return result,
    }
    let tried = locks.changed.wait_until(WaitMode::Interruptible, None, || match attempt() {
        Err(Errno::EAGAIN) => None,
        result => Some(result),
    });
    tried.unwrap_or(Err(Errno::ERESTARTSYS))
}

/// A conversion drops the old lock first, so another may get in between (flock(2)).
fn try_flock(locks: &InodeLocks, owner: LockOwner, kind: Option<Kind>) -> Result<()> {
    let mut state = locks.state.lock();
    let before = state.whole.len();
    if kind.is_some() && state.whole.contains(&(owner, kind.unwrap_or(Kind::Read))) {
        return Ok(());
    }
    state.whole.retain(|held| held.0 != owner);
    let dropped = state.whole.len() != before;
    let result = match kind {
        None => Ok(()),
        Some(kind) if state.whole.iter().any(|held| kind == Kind::Write || held.1 == Kind::Write) => {
            Err(Errno::EAGAIN)
        }
        Some(kind) => match state.whole.try_reserve(1) {
            Ok(()) => {
                state.whole.push((owner, kind));
                Ok(())
            }
            Err(_) => Err(Errno::ENOLCK),
        },
    };
    drop(state);
    if dropped {
        locks.changed.wake_all();
    }
    result
}

/// A descriptor of a process was closed: its record locks on the file go.
pub(crate) fn descriptor_closed(table_id: u64, file: &Arc<File>) {
    let Some(locks) = file.inode().locks.get() else { return };
    let owner = LockOwner { id: table_id, pid: 0 };
    if locks.state.lock().records.remove_owner(owner) {
        locks.changed.wake_all();
        // The descriptor is closed whatever a server says.
        let _ = file.ops().lock(file, owner.pid, (0, u64::MAX), None, false);
    }
}

/// The last reference to an open file goes: so do its locks.
pub(crate) fn file_closed(file: &File) {
    let Some(locks) = file.inode().locks.get() else { return };
    leases::file_closed(file);
    let owner = LockOwner::open_file(file);
    let mut state = locks.state.lock();
    let before = state.whole.len();
    state.whole.retain(|held| held.0 != owner);
    let changed = state.records.remove_owner(owner) || state.whole.len() != before;
    drop(state);
    if changed {
        locks.changed.wake_all();
    }
}
