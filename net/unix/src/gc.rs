//! Descriptors on their way that keep each other alive.
//!
//! **Problem.** A socket can be sent through itself, or two through each other. When the programs have closed theirs,
//! each is kept by a message in the other's inbox, which nobody can read any more.
//!
//! **Idea.** Linux's: a socket on its way is suspect when all references to its file are on their way, too. Of the
//! suspects, those are in use that wait in the inbox of something that is in use; the rest is garbage, and emptying its
//! inboxes ends it. Done when a socket closes while sockets are on their way: then alone garbage can arise.

use crate::inbox::Message;
use crate::socket_state::Unix;
use abi::Errno;
use abi::errno::Result;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use sync::SpinLock;
use sync::levels::{DeviceTable, Socket as SocketLevel};
use task::Mutex;
use vfs::File;

/// A socket's file of which `count` references are in messages.
struct Entry {
    file: Weak<File>,
    count: usize,
}

static IN_FLIGHT: SpinLock<BTreeMap<usize, Entry>, DeviceTable> = SpinLock::new(BTreeMap::new());
static SOCKETS: AtomicUsize = AtomicUsize::new(0);

fn key(file: &Arc<File>) -> usize {
    Arc::as_ptr(file) as usize
}

/// The socket of this family behind a file.
fn unix_of(file: &File) -> Option<Arc<Unix>> {
    socket::of_file(file).ok()?.as_any().downcast_ref::<Unix>()?.itself.upgrade()
}

/// Files that travel with a message. Sockets among them are counted for as long as they do.
#[derive(Default)]
pub struct InFlight {
    files: Vec<Arc<File>>,
}

impl InFlight {
    /// Sends files off.
    pub fn new(files: Vec<Arc<File>>) -> InFlight {
        for file in files.iter().filter(|file| unix_of(file).is_some()) {
            let mut all = IN_FLIGHT.lock();
            all.entry(key(file)).or_insert_with(|| Entry { file: Arc::downgrade(file), count: 0 }).count += 1;
            SOCKETS.store(all.len(), SeqCst);
        }
        InFlight { files }
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<File>> {
        self.files.iter()
    }

    /// A second reference to each, for MSG_PEEK.
    pub fn duplicate(&self) -> InFlight {
        InFlight::new(self.files.clone())
    }

    /// They have arrived.
    pub fn land(mut self) -> Vec<Arc<File>> {
        let files = core::mem::take(&mut self.files);
        landed(&files);
        files
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        landed(&self.files);
    }
}

fn landed(files: &[Arc<File>]) {
    for file in files {
        let mut all = IN_FLIGHT.lock();
        if let Some(entry) = all.get_mut(&key(file)) {
            entry.count -= 1;
            if entry.count == 0 {
                all.remove(&key(file));
                SOCKETS.store(all.len(), SeqCst);
            }
        }
    }
}

/// ETOOMANYREFS when more sockets are on their way than one process may have open (`limit`). Linux counts for each
/// user; one count for all bounds the memory and the time of [`collect_if_needed`] as well.
pub fn check_limit(limit: u64) -> Result<()> {
    if SOCKETS.load(SeqCst) as u64 > limit { Err(Errno::ETOOMANYREFS) } else { Ok(()) }
}

/// Looks for garbage if there can be any.
pub fn collect_if_needed() {
    static ONE: Mutex<(), SocketLevel> = Mutex::new(());
    if SOCKETS.load(SeqCst) == 0 {
        return;
    }
    let Some(_one) = ONE.try_lock() else { return };
    // Without memory for the search, the garbage waits for the next socket that closes.
    let Some(garbage) = find() else { return };
    // Dropping these closes the sockets, which comes back here and finds the lock taken.
    drop(garbage);
}

/// What suspects are judged by.
struct Suspect {
    file: Arc<File>,
    socket: Arc<Unix>,
    count: usize,
    /// How many of its references wait in inboxes of suspects.
    among: usize,
    in_use: bool,
}

fn find() -> Option<Vec<VecDeque<Message>>> {
    let mut suspects = suspects()?;
    count_references(&mut suspects)?;
    spread_use(&mut suspects)?;
    let mut lost = Vec::new();
    for suspect in suspects.values().filter(|suspect| !suspect.in_use) {
        for socket in inboxes(&suspect.socket)? {
            lost.try_reserve(1).ok()?;
            lost.push(socket.inbox.empty());
        }
    }
    Some(lost)
}

/// Sockets of which every reference is on its way.
fn suspects() -> Option<BTreeMap<usize, Suspect>> {
    let mut entries: Vec<(usize, Option<Arc<File>>, usize)> = Vec::new();
    entries.try_reserve(SOCKETS.load(SeqCst)).ok()?;
    let room = entries.capacity();
    // What came since is left out, and what is left out is in use.
    let all = IN_FLIGHT.lock();
    entries.extend(all.iter().take(room).map(|(&key, entry)| (key, entry.file.upgrade(), entry.count)));
    drop(all);
    let mut suspects = BTreeMap::new();
    for (key, file, count) in entries {
        let Some(file) = file else { continue };
        // One reference more is ours.
        let Some(socket) = unix_of(&file).filter(|_| Arc::strong_count(&file) == count + 1) else { continue };
        suspects.insert(key, Suspect { file, socket, count, among: 0, in_use: false });
    }
    Some(suspects)
}

/// The sockets whose messages only `socket` can lead to: itself and those that wait to be accepted.
fn inboxes(socket: &Arc<Unix>) -> Option<Vec<Arc<Unix>>> {
    let mut all = Vec::new();
    let state = socket.state.lock();
    all.try_reserve(1 + state.backlog.len()).ok()?;
    all.push(socket.clone());
    all.extend(state.backlog.iter().cloned());
    drop(state);
    Some(all)
}

fn contents(socket: &Arc<Unix>) -> Option<Vec<usize>> {
    let mut keys = Vec::new();
    let mut fits = true;
    for inbox in inboxes(socket)? {
        inbox.inbox.each_file(|file| {
            fits = fits && keys.try_reserve(1).is_ok();
            if fits {
                keys.push(key(file));
            }
        });
    }
    fits.then_some(keys)
}

fn count_references(suspects: &mut BTreeMap<usize, Suspect>) -> Option<()> {
    let mut sockets = Vec::new();
    sockets.try_reserve(suspects.len()).ok()?;
    sockets.extend(suspects.values().map(|suspect| suspect.socket.clone()));
    for socket in &sockets {
        for content in contents(socket)? {
            if let Some(suspect) = suspects.get_mut(&content) {
                suspect.among += 1;
            }
        }
    }
    for suspect in suspects.values_mut() {
        // A message in the inbox of a socket that somebody holds, or one that is just being received.
        suspect.in_use =
            suspect.among < suspect.count || Arc::strong_count(&suspect.file) != suspect.count + 1;
    }
    Some(())
}

/// What waits in the inbox of something in use is in use.
fn spread_use(suspects: &mut BTreeMap<usize, Suspect>) -> Option<()> {
    let mut fresh = Vec::new();
    // Each comes in once at most.
    fresh.try_reserve(suspects.len()).ok()?;
    fresh.extend(suspects.values().filter(|s| s.in_use).map(|s| s.socket.clone()));
    while let Some(socket) = fresh.pop() {
        for content in contents(&socket)? {
            if let Some(suspect) = suspects.get_mut(&content)
                && !suspect.in_use
            {
                suspect.in_use = true;
                fresh.push(suspect.socket.clone());
            }
        }
    }
    Some(())
}
