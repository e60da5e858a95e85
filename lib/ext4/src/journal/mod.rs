//! Transactions: changes of many blocks that reach the medium together or not at all.
//!
//! **Problem.** A create changes a bitmap, a descriptor, an inode table and a directory. Power may go between any
//! two writes.
//!
//! **Interface.** [`Fs::begin`] opens a [`Handle`] in the running transaction; [`Handle::join`] announces a
//! block before it is changed; dropping the handle ends the operation. [`Fs::commit`] makes a transaction
//! durable. [`Handle::free_later`] keeps freed blocks out of reach until the commit.
//!
//! **Idea.** jbd2's: at most one transaction takes changes (running) and one goes to the log (committing).
//! A commit waits until the handles in it are closed, seals the checksums, and lets new handles start in the
//! next transaction while it writes; a block that these change before it is written is copied first. Later
//! ("checkpoint") blocks go home and the log's tail moves. Data written under an open handle is on the
//! device before that handle's transaction commits: that is what data=ordered means here, and why no list
//! of files to flush is kept.
//!
//! Without a journal (ext2) everything is the same, but a commit writes the blocks to their homes.
//!
//! Cost: a handle takes one short lock to start, one to end, and one for each block that is new in its
//! transaction; blocks that are in it already cost one comparison.

mod checkpoint;
mod commit;
pub(crate) mod format;
mod open;
pub(crate) use open::find;
mod replay;

use crate::cache::BlockRef;
use crate::env::{Env, Event, Lock};
use crate::fs::Fs;
use abi::Errno;
use abi::errno::Result;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::cell::Cell;

/// A number of a transaction. They wrap.
pub type Tid = u32;

/// Whether `a` is at or after `b`.
pub(crate) fn reached(a: Tid, b: Tid) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

/// Where the log's blocks are on the medium: runs of (first log block, home, length).
#[derive(Debug, Default)]
pub(crate) struct LogMap(pub Vec<(u32, u64, u32)>);

impl LogMap {
    fn find(&self, at: u32) -> Option<u64> {
        let index = self.0.partition_point(|run| run.0 <= at).checked_sub(1)?;
        let (first, home, len) = self.0[index];
        (at - first < len).then(|| home + u64::from(at - first))
    }
}

/// Blocks that a transaction gives back: usable once it is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freed {
    pub group: u32,
    pub first: u32,
    pub len: u32,
}

/// The running transaction.
struct Transaction<E: Env> {
    tid: Tid,
    blocks: BTreeMap<u64, BlockRef<E>>,
    /// Metadata blocks that were freed: their older copies in the log must not be replayed.
    revoked: BTreeSet<u64>,
    freed: Vec<Freed>,
    /// When the first handle started.
    since_ns: i64,
    used: bool,
}

impl<E: Env> Transaction<E> {
    fn new(tid: Tid) -> Transaction<E> {
        let (blocks, revoked) = (BTreeMap::new(), BTreeSet::new());
        Transaction { tid, blocks, revoked, freed: Vec::new(), since_ns: 0, used: false }
    }

    /// How many blocks of the log it will take, descriptors left out.
    fn weight(&self) -> usize {
        self.blocks.len() + self.revoked.len() / 64
    }
}

/// The transaction on its way to the log.
struct Committing<E: Env> {
    /// Blocks not copied for the log yet.
    pending: BTreeMap<u64, BlockRef<E>>,
    /// Copies of blocks that the running transaction changed meanwhile.
    frozen: BTreeMap<u64, Vec<u8>>,
}

struct State<E: Env> {
    running: Transaction<E>,
    committing: Option<Committing<E>>,
    /// Open handles of the running transaction, and blocks they may still join.
    open: u32,
    reserved: usize,
    /// A commit waits for the open handles: nobody may start.
    locked: bool,
    committed: Tid,
    aborted: bool,
}

/// A committed transaction whose blocks are not all at home.
struct Checkpoint<E: Env> {
    tid: Tid,
    /// Where in the log it begins.
    start: u32,
    blocks: BTreeMap<u64, BlockRef<E>>,
}

/// The log; only its lock's holder commits.
struct Log<E: Env> {
    /// `None`: no journal.
    disk: Option<Disk>,
    checkpoints: VecDeque<Checkpoint<E>>,
}

/// A journal on the medium.
struct Disk {
    map: LogMap,
    sb: format::JournalSuper,
    format: format::Format,
    first: u32,
    last: u32,
    /// Where the next record goes.
    head: u32,
}

/// The journal of a mounted file system.
pub struct Journal<E: Env> {
    state: E::Lock<State<E>>,
    event: E::Event,
    log: E::LogLock<Log<E>>,
    /// The most blocks of one transaction.
    max: usize,
    on_disk: bool,
}

/// One operation's part of the running transaction. Dropping it ends the operation.
pub struct Handle<'f, E: Env> {
    pub fs: &'f Fs<E>,
    tid: Tid,
    credits: Cell<usize>,
}

impl<E: Env> Fs<E> {
    /// Starts an operation that changes at most `credits` blocks. Sleeps while a commit waits for running
    /// operations, so its caller holds no handle and no lock of this crate. EROFS after an error.
    pub fn begin(&self, credits: usize) -> Result<Handle<'_, E>> {
        let journal = &self.journal;
        let credits = credits.min(journal.max);
        loop {
            let mut state = journal.state.lock();
            if state.aborted || self.is_read_only() {
                return Err(Errno::EROFS);
            }
            if state.locked {
                drop(state);
                journal.event.wait(&mut || !journal.state.lock().locked);
                continue;
            }
            if state.running.weight() + state.reserved + credits <= journal.max {
                state.open += 1;
                state.reserved += credits;
                if !state.running.used {
                    state.running.used = true;
                    state.running.since_ns = self.env.now_ns();
                }
                return Ok(Handle { fs: self, tid: state.running.tid, credits: Cell::new(credits) });
            }
            let full = state.running.tid;
            drop(state);
            self.commit(full)?;
        }
    }

    /// The number of the running transaction.
    pub fn running_tid(&self) -> Tid {
        self.journal.state.lock().running.tid
    }

    /// Whether a transaction is durable.
    pub fn is_committed(&self, tid: Tid) -> bool {
        reached(self.journal.state.lock().committed, tid)
    }

    /// How long the running transaction has been taking changes; `None` when it has none.
    pub fn transaction_age_ns(&self) -> Option<i64> {
        let state = self.journal.state.lock();
        state.running.used.then(|| self.env.now_ns().saturating_sub(state.running.since_ns))
    }

    /// Whether a commit will make freed blocks usable.
    pub(crate) fn room_is_coming(&self) -> bool {
        let state = self.journal.state.lock();
        !state.running.freed.is_empty() || state.committing.is_some()
    }

    /// After an error that leaves memory and medium in doubt: nothing is committed any more.
    pub(crate) fn abort_journal(&self) -> bool {
        let was = core::mem::replace(&mut self.journal.state.lock().aborted, true);
        self.journal.event.wake();
        !was
    }

    pub fn is_aborted(&self) -> bool {
        self.journal.state.lock().aborted
    }
}

impl<E: Env> Handle<'_, E> {
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Takes a block into the transaction; before it is changed.
    pub fn join(&self, block: &BlockRef<E>) -> Result<()> {
        if block.tid() == self.tid {
            return Ok(());
        }
        let journal = &self.fs.journal;
        loop {
            let mut state = journal.state.lock();
            if state.aborted {
                return Err(Errno::EROFS);
            }
            if !self.freeze(&mut state, block) {
                drop(state);
                let pending = |state: &State<E>| {
                    state.committing.as_ref().is_some_and(|c| c.pending.contains_key(&block.nr))
                };
                journal.event.wait(&mut || !pending(&journal.state.lock()));
                continue;
            }
            if state.running.blocks.insert(block.nr, block.clone()).is_none() {
                // Beyond its credits a handle still goes on: a transaction has room to spare.
                if let Some(left) = self.credits.get().checked_sub(1) {
                    self.credits.set(left);
                    state.reserved -= 1;
                }
            }
            block.set_tid(self.tid);
            return Ok(());
        }
    }

    /// Copies a block that is about to be committed and changed; false when there is no memory for that.
    fn freeze(&self, state: &mut State<E>, block: &BlockRef<E>) -> bool {
        let Some(committing) = &mut state.committing else { return true };
        if !committing.pending.contains_key(&block.nr) {
            return true;
        }
        let mut copy = Vec::new();
        if copy.try_reserve_exact(self.fs.geo.block_size).is_err() {
            return false;
        }
        block.with(|bytes| copy.extend_from_slice(bytes));
        committing.pending.remove(&block.nr);
        committing.frozen.insert(block.nr, copy);
        true
    }

    /// A metadata block is freed: it leaves the transaction, and the log's copies of it are void.
    pub(crate) fn revoke(&self, nr: u64) {
        let mut state = self.fs.journal.state.lock();
        if let Some(block) = state.running.blocks.remove(&nr) {
            block.set_tid(0);
            self.credits.set(self.credits.get() + 1);
            state.reserved += 1;
        }
        state.running.revoked.insert(nr);
    }

    /// Blocks of a group were freed; they stay out of the allocator's reach until the commit.
    pub(crate) fn free_later(&self, freed: Freed) {
        self.fs.journal.state.lock().running.freed.push(freed);
    }

    /// Makes sure that `credits` more blocks may be joined; false when the transaction is full and the
    /// operation must go on in another, from a state that is whole.
    pub(crate) fn extend(&self, credits: usize) -> bool {
        let journal = &self.fs.journal;
        let mut state = journal.state.lock();
        let more = credits.saturating_sub(self.credits.get());
        if state.locked || state.running.weight() + state.reserved + more > journal.max {
            return false;
        }
        state.reserved += more;
        self.credits.set(self.credits.get() + more);
        true
    }
}

impl<E: Env> Drop for Handle<'_, E> {
    fn drop(&mut self) {
        let journal = &self.fs.journal;
        let mut state = journal.state.lock();
        state.open -= 1;
        state.reserved -= self.credits.get();
        let last = state.open == 0 && state.locked;
        drop(state);
        if last {
            journal.event.wake();
        }
    }
}
