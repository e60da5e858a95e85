//! Numbers of threads, processes, groups and sessions; the tree of processes.
//!
//! **Problem.** One number may name a thread, a process, a group and a session at once, and stays taken
//! while any of them lives. Who is whose parent, and who is in which group, changes by fork, exit,
//! setpgid and setsid of different processes at once.
//!
//! **Interface.** [`find_thread`], [`find_process`], [`find_group`], [`find_session`]; [`next_process`] and
//! [`children`] for walks; the rest is for this crate.
//!
//! **Idea.** A radix table of two levels, indexed by number; one reader-writer lock for the table and
//! for all links of the tree (Linux's tasklist_lock). A global lock on the path of fork and exit: it is
//! held for a few dozen instructions each, and every rule about the tree (a child has exactly one
//! parent; an orphaned group is orphaned for everybody at once) holds without an order among per-process
//! locks. Links are numbers, not pointers: no reference cycles.

use crate::jobs::{Group, Session};
use crate::process::{Links, Process};
use crate::thread::Thread;
use crate::{Pid, Result};
use abi::Errno;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicUsize};
use sync::levels::ProcessTable;
use sync::{ReadGuard, RwSpinLock, WriteGuard};

/// After a wrap, numbers below this are left to daemons started early, as in Linux (RESERVED_PIDS).
const RESERVED: Pid = 300;
/// Linux's limit for 64 bits (PID_MAX_LIMIT).
pub const PID_LIMIT: Pid = 4 << 20;
/// Entries of a chunk: as many as fill a page.
const CHUNK: usize = 72;

struct Entry {
    reserved: bool,
    thread: Option<Arc<Thread>>,
    process: Option<Arc<Process>>,
    group: Option<GroupSlot>,
    session: Option<SessionSlot>,
}

struct GroupSlot {
    group: Arc<Group>,
    /// The first member; others follow by `Links::next_in_group`.
    first: Pid,
}

struct SessionSlot {
    session: Arc<Session>,
    /// Processes in it.
    members: u32,
}

impl Entry {
    fn is_free(&self) -> bool {
        !self.reserved
            && self.thread.is_none()
            && self.process.is_none()
            && self.group.is_none()
            && self.session.is_none()
    }
}

type Chunk = Box<[Entry; CHUNK]>;

pub(crate) struct Table {
    chunks: Vec<Option<Chunk>>,
    last: Pid,
}

static TABLE: RwSpinLock<Table, ProcessTable> = RwSpinLock::new(Table { chunks: Vec::new(), last: 0 });
/// Numbers are below this: /proc/sys/kernel/pid_max.
static PID_MAX: AtomicU32 = AtomicU32::new(32_768);
static PROCESSES: AtomicUsize = AtomicUsize::new(0);
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// One more than the highest number given out.
pub fn pid_max() -> Pid {
    PID_MAX.load(Relaxed)
}

/// EINVAL outside 301 to [`PID_LIMIT`].
pub fn set_pid_max(max: Pid) -> Result<()> {
    if !(RESERVED + 1..=PID_LIMIT).contains(&max) {
        return Err(Errno::EINVAL);
    }
    PID_MAX.store(max, Relaxed);
    Ok(())
}

/// Processes that have a number, zombies included.
pub fn process_total() -> usize {
    PROCESSES.load(Relaxed)
}

/// Threads and processes made since boot ("processes" in /proc/stat).
pub fn fork_total() -> usize {
    FORKS.load(Relaxed)
}

/// The number given out last (/proc/loadavg).
pub fn last_pid() -> Pid {
    TABLE.read().last
}

pub fn find_thread(tid: Pid) -> Option<Arc<Thread>> {
    TABLE.read().entry(tid)?.thread.clone()
}

/// A living process or a zombie.
pub fn find_process(pid: Pid) -> Option<Arc<Process>> {
    TABLE.read().entry(pid)?.process.clone()
}

/// The process that a number means to kill(2) and its like: a living process, a zombie, or that of a thread.
pub fn find_process_of(number: Pid) -> Option<Arc<Process>> {
    let table = TABLE.read();
    let entry = table.entry(number)?;
    entry.process.clone().or_else(|| entry.thread.as_ref().map(|t| t.process().clone()))
}

pub fn find_group(pgid: Pid) -> Option<Arc<Group>> {
    Some(TABLE.read().entry(pgid)?.group.as_ref()?.group.clone())
}

pub fn find_session(sid: Pid) -> Option<Arc<Session>> {
    Some(TABLE.read().entry(sid)?.session.as_ref()?.session.clone())
}

/// The process with the lowest number that is at least `from`: a walk that survives changes.
pub fn next_process(from: Pid) -> Option<Arc<Process>> {
    TABLE.read().next(from, |e| e.process.clone())
}

/// Calls `look` for every process, zombies included, without holding the lock.
pub fn for_each_process(mut look: impl FnMut(&Arc<Process>)) {
    let mut from = 1;
    while let Some(process) = next_process(from) {
        look(&process);
        from = process.pid() + 1;
    }
}

/// The children, oldest last.
pub fn children(process: &Process) -> Vec<Arc<Process>> {
    read().children(process).collect()
}

/// The processes of a group.
pub fn group_members(group: &Arc<Group>) -> Vec<Arc<Process>> {
    read().members(group).collect()
}

/// PR_SET_PDEATHSIG; 0: none. With the table locked, so that no new parent misses that a child asks.
pub(crate) fn ask_death_signal(thread: &Thread, signal: u32) {
    let table = TABLE.read();
    thread.death_signal.store(signal, Relaxed);
    let process = thread.process();
    if signal != 0 && !process.asks_death.swap(true, Relaxed) {
        table.pass_on_asking(process);
    }
}

pub(crate) fn read() -> ReadGuard<'static, Table, ProcessTable> {
    TABLE.read()
}

pub(crate) fn write() -> WriteGuard<'static, Table, ProcessTable> {
    TABLE.write()
}

/// A number that nobody has yet; given back when dropped before it is used.
pub(crate) struct Reserved(Pid);

impl Reserved {
    pub fn take() -> Result<Reserved> {
        TABLE.write().reserve().map(Reserved)
    }

    pub fn number(&self) -> Pid {
        self.0
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut table = TABLE.write();
        if let Some(entry) = table.entry_mut(self.0) {
            entry.reserved = false;
        }
    }
}

impl Table {
    fn entry(&self, number: Pid) -> Option<&Entry> {
        let number = number as usize;
        Some(&self.chunks.get(number / CHUNK)?.as_ref()?[number % CHUNK])
    }

    fn entry_mut(&mut self, number: Pid) -> Option<&mut Entry> {
        let number = number as usize;
        Some(&mut self.chunks.get_mut(number / CHUNK)?.as_mut()?[number % CHUNK])
    }

    fn next<R>(&self, from: Pid, look: impl Fn(&Entry) -> Option<R>) -> Option<R> {
        let first = from as usize;
        for (at, chunk) in self.chunks.iter().enumerate().skip(first / CHUNK) {
            let Some(chunk) = chunk else { continue };
            let skip = first.saturating_sub(at * CHUNK);
            if let Some(found) = chunk.iter().skip(skip).find_map(&look) {
                return Some(found);
            }
        }
        None
    }

    /// The next free number after the last one, cyclically. EAGAIN when all are taken.
    fn reserve(&mut self) -> Result<Pid> {
        let max = pid_max();
        let start = self.last + 1;
        let low = if self.last >= RESERVED { RESERVED } else { 1 };
        let free = |n: &Pid| self.entry(*n).is_none_or(Entry::is_free);
        let number =
            (start..max).find(free).or_else(|| (low..start.min(max)).find(free)).ok_or(Errno::EAGAIN)?;
        self.grow(number)?;
        let entry = self.entry_mut(number).ok_or(Errno::ENOMEM)?;
        entry.reserved = true;
        self.last = number;
        Ok(number)
    }

    /// Makes the chunk of `number` exist. Chunks stay: numbers come round again.
    fn grow(&mut self, number: Pid) -> Result<()> {
        let at = number as usize / CHUNK;
        if at >= self.chunks.len() {
            self.chunks.try_reserve(at + 1 - self.chunks.len()).map_err(|_| Errno::ENOMEM)?;
            self.chunks.resize_with(at + 1, || None);
        }
        if self.chunks[at].is_none() {
            self.chunks[at] = Some(Box::new([const { Entry::EMPTY }; CHUNK]));
        }
        Ok(())
    }

    // ---- threads ----

    pub fn insert_thread(&mut self, thread: &Arc<Thread>) {
        if let Some(entry) = self.entry_mut(thread.tid()) {
            entry.thread = Some(thread.clone());
        }
        FORKS.fetch_add(1, Relaxed);
    }

    /// The caller drops what this returns after unlocking. A leader's number may be another's already: that of the
    /// thread which runs exec.
    pub fn remove_thread(&mut self, thread: &Arc<Thread>) -> Option<Arc<Thread>> {
        self.entry_mut(thread.tid())?.thread.take_if(|known| Arc::ptr_eq(known, thread))
    }

    /// exec by a thread that is not the leader: it gets the number of the process.
    pub fn take_leader_number(&mut self, thread: &Arc<Thread>) {
        let pid = thread.process().pid();
        if let Some(old) = self.entry_mut(thread.tid()) {
            old.thread = None;
        }
        thread.set_tid(pid);
        if let Some(entry) = self.entry_mut(pid) {
            entry.thread = Some(thread.clone());
        }
    }

    // ---- processes ----

    fn process(&self, pid: Pid) -> Option<&Arc<Process>> {
        self.entry(pid)?.process.as_ref()
    }

    pub fn find(&self, pid: Pid) -> Option<Arc<Process>> {
        self.process(pid).cloned()
    }

    pub fn parent_of(&self, process: &Process) -> Option<Arc<Process>> {
        self.process(process.parent_pid()).cloned()
    }

    fn links(&self, pid: Pid) -> Option<&Links> {
        self.process(pid).map(|p| &p.links)
    }

    /// Makes a new process known: a child of `parent` (0: of nobody), in its group and session.
    pub fn insert_process(&mut self, process: &Arc<Process>, parent: Pid) {
        if let Some(entry) = self.entry_mut(process.pid()) {
            entry.process = Some(process.clone());
        }
        PROCESSES.fetch_add(1, Relaxed);
        self.adopt(process, parent);
        let (group, session) = (process.group(), process.session());
        self.count_session(&session, 1);
        self.enter_group(process, &group);
    }

    /// Takes a reaped process out; what it returns is to be dropped after unlocking.
    pub fn remove_process(&mut self, process: &Arc<Process>) -> Option<Arc<Process>> {
        self.leave_group(process);
        self.count_session(&process.session(), -1);
        self.disown(process);
        PROCESSES.fetch_sub(1, Relaxed);
        self.entry_mut(process.pid())?.process.take()
    }

    /// Makes `process` a child of `parent`.
    pub fn adopt(&mut self, process: &Arc<Process>, parent: Pid) {
        let links = &process.links;
        links.parent.store(parent, Relaxed);
        links.previous_sibling.store(0, Relaxed);
        links.next_sibling.store(0, Relaxed);
        self.pass_on_asking(process);
        let Some(parent) = self.links(parent) else { return };
        let next = parent.first_child.swap(process.pid(), Relaxed);
        links.next_sibling.store(next, Relaxed);
        if let Some(next) = self.links(next) {
            next.previous_sibling.store(process.pid(), Relaxed);
        }
    }

    /// Lets the parent know that the child asks for death signals.
    fn pass_on_asking(&self, child: &Process) {
        if child.asks_death.load(Relaxed)
            && let Some(parent) = self.process(child.parent_pid())
        {
            parent.tells_death.store(true, Relaxed);
        }
    }

    /// Takes `process` out of its parent's children.
    pub fn disown(&mut self, process: &Arc<Process>) {
        let links = &process.links;
        let previous = links.previous_sibling.swap(0, Relaxed);
        let next = links.next_sibling.swap(0, Relaxed);
        match self.links(previous) {
            Some(previous) => previous.next_sibling.store(next, Relaxed),
            None => {
                if let Some(parent) = self.links(links.parent.load(Relaxed)) {
                    parent.first_child.store(next, Relaxed);
                }
            }
        }
        if let Some(next) = self.links(next) {
            next.previous_sibling.store(previous, Relaxed);
        }
    }

    /// The children of a process, youngest first.
    pub fn children<'a>(&'a self, process: &Process) -> impl Iterator<Item = Arc<Process>> + 'a {
        let mut next = process.links.first_child.load(Relaxed);
        core::iter::from_fn(move || {
            let child = self.process(next)?.clone();
            next = child.links.next_sibling.load(Relaxed);
            Some(child)
        })
    }

    // ---- groups and sessions ----

    pub fn members<'a>(&'a self, group: &Arc<Group>) -> impl Iterator<Item = Arc<Process>> + 'a {
        let slot = self.entry(group.pgid()).and_then(|e| e.group.as_ref());
        let mut next = slot.filter(|s| Arc::ptr_eq(&s.group, group)).map_or(0, |s| s.first);
        core::iter::from_fn(move || {
            let member = self.process(next)?.clone();
            next = member.links.next_in_group.load(Relaxed);
            Some(member)
        })
    }

    pub fn group(&self, pgid: Pid) -> Option<&Arc<Group>> {
        Some(&self.entry(pgid)?.group.as_ref()?.group)
    }

    /// Puts a process that is in no group's list into `group`'s; makes the group known.
    pub fn enter_group(&mut self, process: &Arc<Process>, group: &Arc<Group>) {
        process.membership.lock().group = group.clone();
        let Some(entry) = self.entry_mut(group.pgid()) else { return };
        let slot = entry.group.get_or_insert_with(|| GroupSlot { group: group.clone(), first: 0 });
        let next = core::mem::replace(&mut slot.first, process.pid());
        process.links.previous_in_group.store(0, Relaxed);
        process.links.next_in_group.store(next, Relaxed);
        if let Some(next) = self.links(next) {
            next.previous_in_group.store(process.pid(), Relaxed);
        }
    }

    /// Takes a process out of its group's list; the last one ends the group.
    pub fn leave_group(&mut self, process: &Arc<Process>) {
        let pgid = process.pgid();
        let previous = process.links.previous_in_group.swap(0, Relaxed);
        let next = process.links.next_in_group.swap(0, Relaxed);
        if let Some(next) = self.links(next) {
            next.previous_in_group.store(previous, Relaxed);
        }
        if let Some(previous) = self.links(previous) {
            previous.next_in_group.store(next, Relaxed);
            return;
        }
        let Some(entry) = self.entry_mut(pgid) else { return };
        if next == 0 {
            entry.group = None;
        } else if let Some(slot) = &mut entry.group {
            slot.first = next;
        }
    }

    /// Moves a process to a session (setsid).
    pub fn enter_session(&mut self, process: &Arc<Process>, session: &Arc<Session>) {
        let old = core::mem::replace(&mut process.membership.lock().session, session.clone());
        self.count_session(session, 1);
        self.count_session(&old, -1);
    }

    fn count_session(&mut self, session: &Arc<Session>, change: i32) {
        let Some(entry) = self.entry_mut(session.sid()) else { return };
        let new = || SessionSlot { session: session.clone(), members: 0 };
        let slot = entry.session.get_or_insert_with(new);
        slot.members = slot.members.saturating_add_signed(change);
        if slot.members == 0 {
            entry.session = None;
        }
    }
}

impl Entry {
    const EMPTY: Entry = Entry { reserved: false, thread: None, process: None, group: None, session: None };
}
