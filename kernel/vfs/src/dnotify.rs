//! Signals about the entries of a directory: fcntl(2) F_NOTIFY.
//!
//! **Idea.** Each open directory that asks has one watcher of [`crate::notify`] for each descriptor table that asks
//! through it, as Linux has: closing any of the table's descriptors of it ends the interest. Signals are sent when the
//! locks of the marks are free again.

use crate::cred::Cred;
use crate::file::{File, Owner};
use crate::notify::{self, Event, Mark, Watcher};
use crate::sigio;
use crate::superblock::SuperBlock;
use abi::fcntl::*;
use abi::inotify::*;
use abi::signal::POLL_MSG;
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicI32};
use sync::SpinLock;
use sync::levels::WatchTable;

/// /proc/sys/fs/dir-notify-enable.
pub static ENABLED: AtomicBool = AtomicBool::new(true);

/// What one descriptor table wants to hear about an open directory. What, its mark says; IN_ONESHOT: once.
struct Listener {
    table_id: u64,
    file: Weak<File>,
    fd: AtomicI32,
}

struct Entry {
    listener: Arc<Listener>,
    mark: Arc<Mark>,
}

/// The listeners of an open directory.
#[derive(Default)]
pub(crate) struct Listeners(SpinLock<Vec<Entry>, WatchTable>);

fn events(wanted: u32) -> u32 {
    let pairs = [
        (DN_ACCESS, IN_ACCESS),
        (DN_MODIFY, IN_MODIFY),
        (DN_CREATE, IN_CREATE | IN_MOVED_TO),
        (DN_DELETE, IN_DELETE | IN_MOVED_FROM),
        (DN_RENAME, notify::RENAMED_WITHIN),
        (DN_ATTRIB, IN_ATTRIB),
    ];
    pairs.iter().filter(|(bit, _)| wanted & bit != 0).fold(0, |all, (_, events)| all | events)
}

/// F_NOTIFY: adds `DN_*` to what the table's descriptor `fd` of a directory wants; nothing ends it. ENOTDIR; EINVAL where
/// the kernel is told not to offer it. `pid`: the process that is told, unless the file has an owner.
pub fn set(file: &Arc<File>, fd: i32, table_id: u64, pid: i32, cred: &Cred, wanted: u32) -> Result<()> {
    if !ENABLED.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    if wanted & !DN_MULTISHOT == 0 {
        descriptor_closed(file, table_id);
        return Ok(());
    }
    if !file.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let owner = file.owner();
    if owner.pid == 0 {
        let Cred { uid, euid, .. } = *cred;
        file.set_owner(Owner { kind: F_OWNER_PID, pid, uid, euid, signal: owner.signal });
    }
    let once = if wanted & DN_MULTISHOT != 0 { 0 } else { IN_ONESHOT };
    listen(file, fd, table_id, events(wanted) | once)
}

/// A table that listens already hears more, and again and again if it once wanted that.
fn listen(file: &Arc<File>, fd: i32, table_id: u64, wanted: u32) -> Result<()> {
    let inode = file.inode();
    let mut listeners = file.extra().listeners.0.lock();
    if let Some(entry) = listeners.iter().find(|entry| entry.listener.table_id == table_id) {
        let before = entry.mark.wanted();
        let once = before & wanted & IN_ONESHOT;
        let watcher: Arc<dyn Watcher> = entry.listener.clone();
        // An event that it wanted once has come, and its mark is about to go: then it begins anew.
        if before & !IN_ONESHOT != 0
            && notify::change(inode, &watcher, (before | wanted) & !IN_ONESHOT | once, false).is_some()
        {
            entry.listener.fd.store(fd, Relaxed);
            return Ok(());
        }
    }
    let listener = Arc::new(Listener { table_id, file: Arc::downgrade(file), fd: AtomicI32::new(fd) });
    let mark = Mark::new(listener.clone(), inode.clone(), wanted, 0);
    listeners.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    notify::attach(&mark)?;
    listeners.push(Entry { listener, mark });
    Ok(())
}

/// A descriptor of the table was closed.
pub(crate) fn descriptor_closed(file: &File, table_id: u64) {
    remove(file, |entry| entry.listener.table_id == table_id);
}

/// The last reference to the open file goes.
pub(crate) fn file_closed(file: &File) {
    remove(file, |_| true);
}

fn remove(file: &File, chosen: impl Fn(&Entry) -> bool) {
    let Some(listeners) = file.listeners() else { return };
    let next = || {
        let mut listeners = listeners.0.lock();
        let at = listeners.iter().position(&chosen)?;
        Some(listeners.swap_remove(at))
    };
    while let Some(entry) = next() {
        notify::detach(&entry.mark, None, true);
    }
}

impl Watcher for Listener {
    fn event(&self, _mark: &Mark, _event: &Event) {}

    fn acts_after(&self) -> bool {
        true
    }

    fn after(&self) {
        if let Some(file) = self.file.upgrade() {
            sigio::send(&file.owner(), self.fd.load(Relaxed), POLL_MSG);
        }
    }

    fn forget(&self, mark: &Arc<Mark>) {
        if let Some(file) = self.file.upgrade() {
            remove(&file, |entry| Arc::ptr_eq(&entry.mark, mark));
        }
    }

    /// An open directory outlives its mounts, unheard: nothing happens in it any more.
    fn unmounted(&self, _sb: &Arc<SuperBlock>) {}
}
