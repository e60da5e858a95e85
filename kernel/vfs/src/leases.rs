//! Leases: fcntl(2) F_SETLEASE and F_GETLEASE.
//!
//! **Problem.** A program that keeps something of a file's contents (a file server, for its clients) wants to hear of it
//! before another opens the file in a way that conflicts. That open is to wait until the program has put things in
//! order, but not for ever.
//!
//! **Interface.** [`set`] and [`get`]; [`break_lease`] for who opens or truncates.
//!
//! **Idea.** A read lease conflicts with opening for writing, a write lease with any open. Setting a lease looks who has
//! the file open, opening looks for leases: each first makes itself known, then looks for the other, with a fence in
//! between, so that of two at the same time at least one sees the other. A lease that is being broken says until when
//! its holder has time; whoever comes by after that takes it away, first of all those who wait for it.

use crate::cred::Cred;
use crate::file::{File, FileMode, Owner};
use crate::inode::InodeRef;
use crate::locks::{self, InodeLocks, Kind};
use crate::sigio;
use abi::cap::CAP_LEASE;
use abi::fcntl::{F_OWNER_PID, O_ACCMODE, O_NONBLOCK, O_RDONLY};
use abi::signal::POLL_MSG;
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32, fence};
use task::{WaitEnd, WaitMode};

/// /proc/sys/fs/lease-break-time: seconds that a holder has. 0: as long as it takes.
pub static BREAK_SECONDS: AtomicU32 = AtomicU32::new(45);
/// /proc/sys/fs/leases-enable: new leases may be taken.
pub static ENABLED: AtomicBool = AtomicBool::new(true);

const FOR_EVER: u64 = u64::MAX;

/// A lease that an open file has.
pub(crate) struct Lease {
    /// The open file's address: what it is known by while it is closed.
    id: usize,
    file: Weak<File>,
    /// The descriptor that it was taken by, as the signal tells it.
    fd: i32,
    pub pid: i32,
    kind: Kind,
    /// It must be given up, or become one for reading, by then (monotonic nanoseconds).
    unlock_by: Option<u64>,
    downgrade_by: Option<u64>,
}

impl Lease {
    pub fn is_breaking(&self) -> bool {
        self.unlock_by.is_some() || self.downgrade_by.is_some()
    }

    /// What it is to become, which is what it is while nobody breaks it.
    pub fn target(&self) -> Option<Kind> {
        match (self.unlock_by, self.downgrade_by) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(Kind::Read),
            (None, None) => Some(self.kind),
        }
    }

    fn conflicts(&self, wanted: Kind) -> bool {
        wanted == Kind::Write || self.kind == Kind::Write
    }

    /// Begins to break it; false when that has begun before.
    fn begin_break(&mut self, wanted: Kind, by: u64) -> bool {
        let begun = if wanted == Kind::Write { self.unlock_by.is_some() } else { self.is_breaking() };
        match wanted {
            _ if begun => {}
            Kind::Write => self.unlock_by = Some(by),
            Kind::Read => self.downgrade_by = Some(by),
        }
        !begun
    }
}

fn id_of(file: &File) -> usize {
    core::ptr::from_ref(file).addr()
}

/// F_SETLEASE: takes, changes, or with `None` gives up the file's lease. EACCES for who neither owns the file nor has
/// CAP_LEASE; EINVAL for what is no regular file; EAGAIN when others have it open in a way that conflicts, and when
/// there is none to give up. `pid`: the process that is told, unless the file has an owner.
pub fn set(file: &Arc<File>, fd: i32, pid: i32, cred: &Cred, kind: Option<Kind>) -> Result<()> {
    let inode = file.inode();
    if inode.uid() != cred.fsuid && !cred.capable(CAP_LEASE) {
        return Err(Errno::EACCES);
    }
    if !inode.is_regular() {
        return Err(Errno::EINVAL);
    }
    match kind {
        Some(kind) => add(file, fd, pid, cred, kind),
        None => remove(file),
    }
}

fn add(file: &Arc<File>, fd: i32, pid: i32, cred: &Cred, kind: Kind) -> Result<()> {
    let locks = locks::of(file.inode());
    expire(locks);
    if open_conflicts(file, kind) {
        return Err(Errno::EAGAIN);
    }
    let new = Lease {
        id: id_of(file),
        file: Arc::downgrade(file),
        fd,
        pid,
        kind,
        unlock_by: None,
        downgrade_by: None,
    };
    if enter(locks, new)? {
        // The lease is to be seen before the counts are looked at.
        fence(SeqCst);
        if open_conflicts(file, kind) {
            file_closed(file);
            return Err(Errno::EAGAIN);
        }
    }
    locks.changed.wake_all();
    let owner = file.owner();
    if owner.pid == 0 {
        let Cred { uid, euid, .. } = *cred;
        file.set_owner(Owner { kind: F_OWNER_PID, pid, uid, euid, signal: owner.signal });
    }
    Ok(())
}

/// Changes the file's own lease, or enters a new one: true.
fn enter(locks: &InodeLocks, new: Lease) -> Result<bool> {
    let mut leases = locks.leases.lock();
    let others = || leases.iter().filter(|lease| lease.id != new.id);
    if others().any(|lease| new.kind == Kind::Write || lease.unlock_by.is_some()) {
        return Err(Errno::EAGAIN);
    }
    if let Some(own) = leases.iter_mut().find(|lease| lease.id == new.id) {
        own.kind = new.kind;
        if new.kind == Kind::Read {
            own.downgrade_by = None;
        }
        return Ok(false);
    }
    if !ENABLED.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    leases.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    leases.push(new);
    Ok(true)
}

/// Whether somebody else has the file open in a way that a lease conflicts with.
fn open_conflicts(file: &File, kind: Kind) -> bool {
    let inode = file.inode();
    let (writes, reads) = inode.opened();
    match kind {
        Kind::Read => writes > 0,
        Kind::Write => {
            let own = file.mode();
            let writer = own.contains(FileMode::WRITER);
            (writes, reads) != (u32::from(writer), u32::from(own.contains(FileMode::READER)))
                || inode.is_executed()
        }
    }
}

fn remove(file: &File) -> Result<()> {
    if !file_closed(file) {
        return Err(Errno::EAGAIN);
    }
    file.set_owner(Owner::default());
    Ok(())
}

/// F_GETLEASE: what the file's lease is or, while it is broken, has to become; `None` for none.
pub fn get(file: &File) -> Option<Kind> {
    let locks = file.inode().locks.get()?;
    expire(locks);
    let leases = locks.leases.lock();
    leases.iter().find(|lease| lease.id == id_of(file))?.target()
}

/// The open file goes, or gives up its lease; whether it had one.
pub(crate) fn file_closed(file: &File) -> bool {
    let Some(locks) = file.inode().locks.get() else { return false };
    let mut leases = locks.leases.lock();
    let at = leases.iter().position(|lease| lease.id == id_of(file));
    let gone = at.map(|at| leases.swap_remove(at));
    drop(leases);
    if gone.is_some() {
        locks.changed.wake_all();
    }
    gone.is_some()
}

/// Somebody opens an inode with `flags`, and is counted already, or truncates it (O_WRONLY): leases in the way are
/// broken. Waits for their holders, or is EWOULDBLOCK with O_NONBLOCK. ERESTARTSYS after a signal.
pub(crate) fn break_lease(inode: &InodeRef, flags: u32) -> Result<()> {
    // The counts are to be seen before leases are looked for.
    fence(SeqCst);
    let Some(locks) = inode.locks.get() else { return Ok(()) };
    let wanted = if flags & O_ACCMODE == O_RDONLY { Kind::Read } else { Kind::Write };
    loop {
        expire(locks);
        tell_holders(locks, wanted);
        let Some(by) = holders_have_until(locks, wanted) else { return Ok(()) };
        if flags & O_NONBLOCK != 0 {
            return Err(Errno::EWOULDBLOCK);
        }
        let free = || holders_have_until(locks, wanted).is_none().then_some(());
        let deadline = (by != FOR_EVER).then_some(by);
        match locks.changed.wait_until(WaitMode::Interruptible, deadline, free) {
            Ok(()) => return Ok(()),
            Err(WaitEnd::Signal) => return Err(Errno::ERESTARTSYS),
            Err(WaitEnd::Timeout) => {}
        }
    }
}

/// Begins to break what conflicts, and signals its holders, one at a time: signals are sent without the lock.
fn tell_holders(locks: &InodeLocks, wanted: Kind) {
    let by = match BREAK_SECONDS.load(Relaxed) {
        0 => FOR_EVER,
        seconds => time::monotonic_ns() + u64::from(seconds) * 1_000_000_000,
    };
    let next = || {
        let mut leases = locks.leases.lock();
        let mut in_the_way = leases.iter_mut().filter(|lease| lease.conflicts(wanted));
        in_the_way.find_map(|lease| lease.begin_break(wanted, by).then(|| (lease.file.clone(), lease.fd)))
    };
    while let Some((file, fd)) = next() {
        if let Some(file) = file.upgrade() {
            sigio::send(&file.owner(), fd, POLL_MSG);
        }
    }
}

/// The first time at which a lease in the way ends by itself; `None`: none is in the way.
fn holders_have_until(locks: &InodeLocks, wanted: Kind) -> Option<u64> {
    let leases = locks.leases.lock();
    let times = leases.iter().filter(|lease| lease.conflicts(wanted));
    times.map(|lease| lease.unlock_by.or(lease.downgrade_by).unwrap_or(0)).min()
}

/// Takes from holders what they have not given up in time.
fn expire(locks: &InodeLocks) {
    let now = time::monotonic_ns();
    let late = |by: Option<u64>| by.is_some_and(|by| by <= now);
    let next = || {
        let mut leases = locks.leases.lock();
        for lease in leases.iter_mut().filter(|lease| late(lease.downgrade_by)) {
            (lease.kind, lease.downgrade_by) = (Kind::Read, None);
        }
        let at = leases.iter().position(|lease| late(lease.unlock_by))?;
        Some(leases.swap_remove(at).file)
    };
    while let Some(file) = next() {
        if let Some(file) = file.upgrade() {
            file.set_owner(Owner::default());
        }
        locks.changed.wake_all();
    }
}
