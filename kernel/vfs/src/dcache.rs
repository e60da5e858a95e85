//! The dentry cache: (directory, name) to dentry, or to the knowledge that there is none.
//!
//! **Problem.** Path walks look up the same names again and again, on all CPUs at once.
//!
//! **Interface.** [`lookup`] answers from the cache. [`insert`] remembers what a file system answered,
//! [`remove`] and [`rename`] follow changes. [`shrink`] gives memory back, [`prune_children`] forgets what
//! was known about a directory that is going away.
//!
//! **Idea.** A hash table with a short spin lock in each bucket: a hit takes one bucket's lock, compares,
//! and counts one reference. A negative entry is 56 bytes in its bucket and no dentry. Recency is one bit
//! that a hit sets; the shrinker's hand goes round the buckets, clears the bit the first time and evicts
//! the second time. The exact LRU list that lost would cost every hit two writes and a shared lock.

use crate::dentry::Dentry;
use crate::inode::InodeFlags;
use abi::fs::NAME_MAX;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use mem::OutOfMemory;
use pathname::Name;
use sync::levels::DentryHash;
use sync::{Once, SpinLock};

struct Entry {
    key: u64,
    parent: Arc<Dentry>,
    name: Name,
    /// `None`: the name is known not to exist.
    target: Option<Arc<Dentry>>,
    /// Looked up since the hand passed last.
    used: bool,
}

type Bucket = SpinLock<Vec<Entry>, DentryHash>;

struct Cache {
    /// Keys the hash of names, so that nobody outside can aim at one bucket.
    seed: u64,
    shift: u32,
    buckets: Box<[Bucket]>,
    hand: AtomicUsize,
    entries: AtomicUsize,
    negative: AtomicUsize,
    negative_hits: AtomicU64,
}

static CACHE: Once<Cache> = Once::new();

/// What the cache knows about a name.
pub enum Found {
    Positive(Arc<Dentry>),
    Negative,
    Unknown,
}

/// Sizes the cache by memory. Once, at boot, before the first mount.
pub(crate) fn init(memory_bytes: u64, seed: u64) {
    let buckets = (memory_bytes / 65_536).clamp(256, 262_144).next_power_of_two() as usize;
    let cache = Cache {
        seed,
        shift: 64 - buckets.trailing_zeros(),
        buckets: (0..buckets).map(|_| SpinLock::new(Vec::new())).collect(),
        hand: AtomicUsize::new(0),
        entries: AtomicUsize::new(0),
        negative: AtomicUsize::new(0),
        negative_hits: AtomicU64::new(0),
    };
    let _ = CACHE.set(cache);
}

#[inline]
fn cache() -> &'static Cache {
    CACHE.get_expect()
}

/// The key of name hashes.
#[inline]
pub fn seed() -> u64 {
    cache().seed
}

#[inline]
fn key_of(parent: &Arc<Dentry>, hash: u64) -> u64 {
    (hash ^ (Arc::as_ptr(parent) as usize as u64 >> 4)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn is_folded(parent: &Dentry) -> bool {
    parent.inode().flags.contains(InodeFlags::FOLDED)
}

/// Gives what the cache knows a name by in a directory whose names are folded: lower case, no dots at the end.
#[cold]
fn with_folded<R>(name: &[u8], then: impl FnOnce(&[u8], u64) -> R) -> R {
    let mut buffer = [0; NAME_MAX];
    let len = name.iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1);
    let folded = match buffer.get_mut(..len) {
        Some(folded) => {
            folded.copy_from_slice(&name[..len]);
            folded.make_ascii_lowercase();
            &*folded
        }
        // No file is called so.
        None => name,
    };
    then(folded, pathname::hash(seed(), folded))
}

/// The key of a name in a directory.
fn key_in(parent: &Arc<Dentry>, name: &[u8]) -> u64 {
    match is_folded(parent) {
        true => with_folded(name, |_, hash| key_of(parent, hash)),
        false => key_of(parent, pathname::hash(seed(), name)),
    }
}

impl Cache {
    #[inline]
    fn bucket(&self, key: u64) -> &Bucket {
        &self.buckets[(key >> self.shift) as usize]
    }

    fn count(&self, entry: &Entry) {
        self.entries.fetch_add(1, Relaxed);
        self.negative.fetch_add(usize::from(entry.target.is_none()), Relaxed);
        entry.parent.cached_children.fetch_add(1, Relaxed);
    }

    fn uncount(&self, entry: &Entry) {
        self.entries.fetch_sub(1, Relaxed);
        self.negative.fetch_sub(usize::from(entry.target.is_none()), Relaxed);
        entry.parent.cached_children.fetch_sub(1, Relaxed);
    }
}

impl Entry {
    #[inline]
    fn is(&self, key: u64, parent: &Arc<Dentry>, name: &[u8]) -> bool {
        self.key == key && Arc::ptr_eq(&self.parent, parent) && self.name.is(name)
    }
}

/// What is known about `name` in `parent`. `hash` is [`pathname::hash`] of the name with [`seed`].
#[inline]
pub fn lookup(parent: &Arc<Dentry>, name: &[u8], hash: u64) -> Found {
    match is_folded(parent) {
        true => with_folded(name, |name, hash| lookup_exact(parent, name, hash)),
        false => lookup_exact(parent, name, hash),
    }
}

#[inline]
fn lookup_exact(parent: &Arc<Dentry>, name: &[u8], hash: u64) -> Found {
    let cache = cache();
    let key = key_of(parent, hash);
    let mut bucket = cache.bucket(key).lock();
    for entry in bucket.iter_mut() {
        if entry.is(key, parent, name) {
            entry.used = true;
            return match &entry.target {
                Some(dentry) => Found::Positive(dentry.clone()),
                None => {
                    cache.negative_hits.fetch_add(1, Relaxed);
                    Found::Negative
                }
            };
        }
    }
    Found::Unknown
}

/// Remembers `target` under the name. When somebody else has remembered a dentry meanwhile, that one is
/// returned and `target` dropped: a name has one dentry. The directory's contents lock is held.
pub(crate) fn insert(
    parent: &Arc<Dentry>,
    name: &[u8],
    hash: u64,
    target: Option<Arc<Dentry>>,
) -> Result<Option<Arc<Dentry>>, OutOfMemory> {
    match is_folded(parent) {
        true => with_folded(name, |name, hash| insert_exact(parent, name, hash, target)),
        false => insert_exact(parent, name, hash, target),
    }
}

fn insert_exact(
    parent: &Arc<Dentry>,
    name: &[u8],
    hash: u64,
    target: Option<Arc<Dentry>>,
) -> Result<Option<Arc<Dentry>>, OutOfMemory> {
    let cache = cache();
    let key = key_of(parent, hash);
    let entry =
        Entry { key, parent: parent.clone(), name: Name::new(name), target: target.clone(), used: true };
    let mut bucket = cache.bucket(key).lock();
    if let Some(known) = bucket.iter_mut().find(|known| known.is(key, parent, name)) {
        if known.target.is_none() && target.is_some() {
            cache.negative.fetch_sub(1, Relaxed);
            known.target = target.clone();
        }
        let result = known.target.clone();
        drop(bucket);
        drop(entry);
        return Ok(result);
    }
    if bucket.try_reserve(1).is_err() {
        drop(bucket);
        drop(entry);
        return Err(OutOfMemory);
    }
    cache.count(&entry);
    bucket.push(entry);
    drop(bucket);
    if cache.negative.load(Relaxed) > cache.buckets.len() * 4 {
        // More names that do not exist than the cache was sized for: the hand makes room.
        shrink(2);
    }
    Ok(target)
}

/// Forgets the name. The directory's contents lock is held for writing.
pub(crate) fn remove(parent: &Arc<Dentry>, name: &[u8], hash: u64) -> Option<Arc<Dentry>> {
    match is_folded(parent) {
        true => with_folded(name, |name, hash| remove_exact(parent, name, hash)),
        false => remove_exact(parent, name, hash),
    }
}

/// Forgets a dentry by the name that it has itself.
pub(crate) fn remove_dentry(dentry: &Arc<Dentry>) {
    if let (Some(parent), name) = dentry.parent_and_name() {
        drop(remove(&parent, &name, pathname::hash(seed(), &name)));
    }
}

fn remove_exact(parent: &Arc<Dentry>, name: &[u8], hash: u64) -> Option<Arc<Dentry>> {
    let cache = cache();
    let key = key_of(parent, hash);
    let mut bucket = cache.bucket(key).lock();
    let at = bucket.iter().position(|entry| entry.is(key, parent, name))?;
    let entry = bucket.swap_remove(at);
    drop(bucket);
    cache.uncount(&entry);
    entry.target
}

/// Moves a dentry to another name, over what is cached there. Both directories' contents locks are held
/// for writing, so that a walk that finds neither name waits for them.
pub(crate) fn rename(
    dentry: &Arc<Dentry>,
    new_parent: &Arc<Dentry>,
    new_name: &[u8],
) -> Result<(), OutOfMemory> {
    remove_dentry(dentry);
    let hash = pathname::hash(seed(), new_name);
    remove(new_parent, new_name, hash);
    dentry.move_to(new_parent, new_name);
    insert(new_parent, new_name, hash, Some(dentry.clone())).map(drop)
}

/// Exchanges the places of two dentries; locks as for [`rename`].
pub(crate) fn exchange(a: &Arc<Dentry>, b: &Arc<Dentry>) -> Result<(), OutOfMemory> {
    let ((a_parent, a_name), (b_parent, b_name)) = (a.parent_and_name(), b.parent_and_name());
    let (Some(a_parent), Some(b_parent)) = (a_parent, b_parent) else { return Ok(()) };
    remove(&a_parent, &a_name, pathname::hash(seed(), &a_name));
    remove(&b_parent, &b_name, pathname::hash(seed(), &b_name));
    a.move_to(&b_parent, &b_name);
    b.move_to(&a_parent, &a_name);
    insert(&b_parent, &b_name, pathname::hash(seed(), &b_name), Some(a.clone()))?;
    insert(&a_parent, &a_name, pathname::hash(seed(), &a_name), Some(b.clone())).map(drop)
}

/// Evicts up to `wanted` entries that nobody uses; returns how many. Process context or reclaim; takes
/// one bucket's lock at a time and allocates nothing.
pub fn shrink(wanted: usize) -> usize {
    let Some(cache) = CACHE.get() else { return 0 };
    let mut evicted = 0;
    // Twice round: the first pass may only clear bits.
    for _ in 0..cache.buckets.len() * 2 {
        if evicted >= wanted {
            break;
        }
        let at = cache.hand.fetch_add(1, Relaxed) % cache.buckets.len();
        while let Some(entry) = take_victim(&cache.buckets[at]) {
            cache.uncount(&entry);
            evicted += 1;
        }
    }
    evicted
}

/// One entry of the bucket that is unused since the last pass; ages the others.
fn take_victim(bucket: &Bucket) -> Option<Entry> {
    let mut bucket = bucket.lock();
    let at = bucket.iter_mut().position(|entry| {
        let idle = entry.target.as_ref().is_none_or(|dentry| Arc::strong_count(dentry) == 1);
        idle && !core::mem::replace(&mut entry.used, false)
    })?;
    Some(bucket.swap_remove(at))
}

/// Forgets all entries below `parent` that nobody uses: before rmdir and umount. Looks at the whole
/// table, unless nothing is cached below; a list of children in each directory would cost every insertion.
pub(crate) fn prune_children(parent: &Arc<Dentry>) {
    if parent.cached_children.load(Relaxed) == 0 {
        return;
    }
    prune(|entry| Arc::ptr_eq(&entry.parent, parent));
}

/// Forgets all unused entries of a file system; children keep their parents, so it goes on until a pass
/// finds nothing.
pub(crate) fn prune_super(sb: &Arc<crate::SuperBlock>) {
    while prune(|entry| Arc::ptr_eq(&entry.parent.inode().sb, sb)) {}
}

fn prune(matches: impl Fn(&Entry) -> bool) -> bool {
    let cache = cache();
    let idle = |entry: &Entry| entry.target.as_ref().is_none_or(|dentry| Arc::strong_count(dentry) == 1);
    let mut found = false;
    for bucket in &cache.buckets {
        while let Some(entry) = take(bucket, |entry| matches(entry) && idle(entry)) {
            forget(cache, entry, &matches);
            found = true;
        }
    }
    found
}

/// Takes the first entry of a bucket that is wanted.
fn take(bucket: &Bucket, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
    let mut bucket = bucket.lock();
    let at = bucket.iter().position(wanted)?;
    Some(bucket.swap_remove(at))
}

/// Lets go of an entry that left the table, and of its ancestors' that only it kept. Each pass over the table finds
/// leaves only: a tree of 30,000 directories in each other would take nearly as many passes.
fn forget(cache: &Cache, mut entry: Entry, matches: impl Fn(&Entry) -> bool) {
    loop {
        cache.uncount(&entry);
        let parent = entry.parent.clone();
        drop(entry);
        let (Some(grandparent), name) = parent.parent_and_name() else { return };
        let bucket = cache.bucket(key_in(&grandparent, &name));
        drop(grandparent);
        let is_parents =
            |entry: &Entry| entry.target.as_ref().is_some_and(|dentry| Arc::ptr_eq(dentry, &parent));
        // The table's reference, and the one here.
        let kept = |entry: &Entry| is_parents(entry) && Arc::strong_count(&parent) == 2 && matches(entry);
        match take(bucket, kept) {
            Some(next) => entry = next,
            None => return,
        }
    }
}

/// The line of /proc/sys/fs/dentry-state: all, unused, age limit, wanted, negative, dummy; then hits on
/// negative entries since boot.
#[derive(Debug, Clone, Copy, Default)]
pub struct DentryState {
    pub all: usize,
    pub negative: usize,
    pub negative_hits: u64,
}

/// Counts for /proc.
pub fn state() -> DentryState {
    let Some(cache) = CACHE.get() else { return DentryState::default() };
    DentryState {
        all: cache.entries.load(Relaxed),
        negative: cache.negative.load(Relaxed),
        negative_hits: cache.negative_hits.load(Relaxed),
    }
}
