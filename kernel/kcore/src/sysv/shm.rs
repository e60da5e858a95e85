//! Shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).
//!
//! A segment is a memory object as behind a shared anonymous mapping, so that it is swapped, locked and forked like one.
//! Each shmat makes an [`Attachment`], the file that the area maps; the memory layer says when it is mapped at one place
//! more (fork) or less (munmap, exit), which is what `shm_nattch` counts. A segment that was removed goes when
//! the count comes to zero: it holds its pages as long as anybody refers to it, and leaves the table then.

use super::{Found, Perm, Registry, now_s};
use crate::process::Process;
use crate::thread::Thread;
use crate::{Ctx, Result};
use abi::Errno;
use abi::cap::CAP_IPC_LOCK;
use abi::ipc::*;
use abi::mm::{MapFlags, Prot};
use abi::resource::RLIMIT_MEMLOCK;
use alloc::sync::Arc;
use arch::PAGE_SIZE;
use core::any::Any;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use sync::SpinLock;
use sync::levels::{SysvObject, SysvTable};
use vm::{CacheKind, MapRequest, MapSource, Mapping, MemoryOps, VmFile, stats};

/// Segments that there may be by default, and the most that a table holds.
const MNI: usize = 4096;
const MAX_MNI: usize = 32_768;
/// Bytes of a segment and pages of all, by default: as good as none.
const NO_LIMIT: u64 = u64::MAX - (1 << 24);
/// Addresses are rounded to this by SHM_RND.
const SHMLBA: usize = PAGE_SIZE;

static MAX_BYTES: AtomicU64 = AtomicU64::new(NO_LIMIT);
static RMID_FORCED: AtomicBool = AtomicBool::new(false);
static MAX_PAGES: AtomicU64 = AtomicU64::new(NO_LIMIT);

struct State {
    perm: Perm,
    id: i32,
    atime: i64,
    dtime: i64,
    ctime: i64,
    creator: i32,
    /// The process that made it has not ended.
    creator_lives: bool,
    last: i32,
    attached: u64,
}

/// A segment.
pub struct Segment {
    size: u64,
    committed: u64,
    mapping: Arc<Mapping>,
    state: SpinLock<State, SysvObject>,
}

static SEGMENTS: SpinLock<Registry<Segment>, SysvTable> = SpinLock::new(Registry::new(MNI));

fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE as u64)
}

/// shmget(2).
pub fn get(ctx: &Ctx, key: i32, size: u64, flags: u32) -> Result<i32> {
    // Made before it is known whether it is needed: not under the table's lock.
    let fresh = fresh(ctx, key, size, flags);
    let mut segments = SEGMENTS.lock();
    match segments.find(key, flags)? {
        Found::Known(id, segment) => {
            drop(segments);
            if size > segment.size {
                return Err(Errno::EINVAL);
            }
            segment.state.lock().perm.check(ctx, flags)?;
            Ok(id)
        }
        Found::Absent => {
            let segment = fresh?;
            let total: u64 = segments.iter().map(|segment| pages_of(segment.size)).sum();
            if total.saturating_add(pages_of(size)) > MAX_PAGES.load(Relaxed) {
                return Err(Errno::ENOSPC);
            }
            let (id, uses) = segments.insert(key, segment.clone())?;
            ctx.process.made_segments.store(true, Relaxed);
            let mut state = segment.state.lock();
            (state.id, state.perm.0.seq) = (id, uses as u16);
            Ok(id)
        }
    }
}

fn fresh(ctx: &Ctx, key: i32, size: u64, flags: u32) -> Result<Arc<Segment>> {
    if size == 0 || size > MAX_BYTES.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    if size > i64::MAX as u64 {
        return Err(Errno::ENOSPC);
    }
    if flags & SHM_HUGETLB != 0 {
        // The pools of huge pages are empty.
        return Err(Errno::ENOMEM);
    }
    let reserved = flags & SHM_NORESERVE == 0 || stats::overcommit_mode() == 2;
    let committed = if reserved { pages_of(size) } else { 0 };
    stats::commit(committed)?;
    let state = State {
        perm: Perm::new(ctx, key, flags),
        id: 0,
        atime: 0,
        dtime: 0,
        ctime: now_s(),
        creator: ctx.process.pid() as i32,
        creator_lives: true,
        last: 0,
        attached: 0,
    };
    let bytes = pages_of(size) * PAGE_SIZE as u64;
    let mapping = Mapping::new(CacheKind::Memory, bytes, Arc::new(MemoryOps));
    Ok(Arc::new(Segment { size, committed, mapping, state: SpinLock::new(state) }))
}

impl Drop for Segment {
    fn drop(&mut self) {
        stats::uncommit(self.committed);
    }
}

/// The segment of an identifier.
pub fn find(id: i32) -> Result<Arc<Segment>> {
    SEGMENTS.lock().get(id)
}

/// SHM_STAT and SHM_STAT_ANY: the segment in a place of the table.
pub fn at(place: i32) -> Result<(i32, Arc<Segment>)> {
    SEGMENTS.lock().at(place)
}

/// shmat(2): the address.
pub fn attach(ctx: &mut Ctx, id: i32, address: usize, flags: u32) -> Result<usize> {
    let (mut address, misaligned) = (address, address % SHMLBA);
    if address == 0 && flags & SHM_REMAP != 0 || misaligned != 0 && flags & SHM_RND == 0 {
        return Err(Errno::EINVAL);
    }
    address -= misaligned;
    if address == 0 && flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::READ;
    let mut wanted = 0o444;
    if flags & SHM_RDONLY == 0 {
        prot |= Prot::WRITE;
        wanted |= 0o222;
    }
    if flags & SHM_EXEC != 0 {
        prot |= Prot::EXEC;
        wanted |= 0o111;
    }
    let segment = find(id)?;
    let key = {
        // Counted from here on: it cannot go while it is being mapped.
        let mut state = segment.state.lock();
        state.perm.check(ctx, wanted)?;
        state.attached += 1;
        state.perm.0.key
    };
    let held = Held(segment.clone());
    let mut how = MapFlags::SHARED;
    if address != 0 {
        how |= if flags & SHM_REMAP == 0 { MapFlags::FIXED_NOREPLACE } else { MapFlags::FIXED };
    }
    let len = usize::try_from(segment.size).map_err(|_| Errno::ENOMEM)?;
    let attachment = Attachment { segment, id, key, writable: prot.contains(Prot::WRITE) };
    let file: Arc<dyn VmFile> = Arc::new(attachment);
    let request = MapRequest { addr: address, len, prot, flags: how, file: Some(file), offset: 0 };
    let result = ctx.mm().mmap(&request, &*ctx);
    drop(held);
    // What is in the way is EINVAL here.
    result.map_err(|errno| if errno == Errno::EEXIST { Errno::EINVAL } else { errno })
}

/// A segment that is being attached counts as attached.
struct Held(Arc<Segment>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// shmdt(2).
pub fn detach(ctx: &Ctx, address: usize) -> Result<()> {
    if address % PAGE_SIZE != 0 {
        return Err(Errno::EINVAL);
    }
    ctx.mm().unmap_file(address, |file| {
        let attachment = file.clone().into_any().downcast::<Attachment>().ok()?;
        Some(attachment.segment.mapping.size())
    })
}

/// What an area maps.
struct Attachment {
    segment: Arc<Segment>,
    id: i32,
    key: i32,
    writable: bool,
}

/// The process that runs now: whoever maps or unmaps.
fn current_pid() -> i32 {
    Thread::with_current(|thread| thread.process().pid() as i32).unwrap_or(0)
}

impl VmFile for Attachment {
    fn map_source(&self) -> Result<MapSource> {
        Ok(MapSource::Cache(self.segment.mapping.clone()))
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn device(&self) -> (u32, u32) {
        (0, 1)
    }

    fn inode_number(&self) -> u64 {
        self.id as u64
    }

    fn write_path(&self, out: &mut dyn Write) -> fmt::Result {
        write!(out, "/SYSV{:08x} (deleted)", self.key)
    }

    fn mapped(&self) {
        let mut state = self.segment.state.lock();
        state.attached += 1;
        (state.atime, state.last) = (now_s(), current_pid());
    }

    fn unmapped(&self) {
        {
            let mut state = self.segment.state.lock();
            (state.dtime, state.last) = (now_s(), current_pid());
        }
        self.segment.let_go();
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Segment {
    /// One attachment less; the last one of a removed segment takes it out of the table.
    fn let_go(&self) {
        let gone = {
            let mut segments = SEGMENTS.lock();
            let mut state = self.state.lock();
            state.attached -= 1;
            let unwanted = state.perm.0.mode & SHM_DEST != 0 || rmid_forced() != 0;
            let last = state.attached == 0 && unwanted;
            // A failure would mean that it is out of the table already.
            last.then(|| segments.remove(state.id))
        };
        drop(gone);
    }

    /// IPC_STAT; `any`: whoever asks.
    pub fn stat(&self, ctx: &Ctx, any: bool) -> Result<ShmidDs> {
        let state = self.state.lock();
        if !any {
            state.perm.check(ctx, super::READ)?;
        }
        Ok(self.status(&state))
    }

    fn status(&self, state: &State) -> ShmidDs {
        ShmidDs {
            perm: state.perm.0,
            size: self.size,
            atime: state.atime,
            dtime: state.dtime,
            ctime: state.ctime,
            creator: state.creator,
            last: state.last,
            attached: state.attached,
            ..ShmidDs::default()
        }
    }

    /// IPC_SET.
    pub fn set(&self, ctx: &Ctx, new: &IpcPerm) -> Result<()> {
        let mut state = self.state.lock();
        state.perm.check_owner(ctx)?;
        state.perm.set(new);
        state.ctime = now_s();
        Ok(())
    }

    /// SHM_LOCK and SHM_UNLOCK: its pages stay in memory. EPERM, and ENOMEM beyond RLIMIT_MEMLOCK.
    pub fn lock(&self, ctx: &Ctx, on: bool) -> Result<()> {
        let limit = ctx.limit(RLIMIT_MEMLOCK);
        let mut state = self.state.lock();
        if !ctx.capable(CAP_IPC_LOCK) {
            let euid = ctx.cred().euid;
            let owns = euid == state.perm.0.cuid || euid == state.perm.0.uid;
            if !owns || on && limit == 0 {
                return Err(Errno::EPERM);
            }
            if on && self.mapping.size() > limit {
                return Err(Errno::ENOMEM);
            }
        }
        let mode = &mut state.perm.0.mode;
        *mode = if on { *mode | SHM_LOCKED } else { *mode & !SHM_LOCKED };
        self.mapping.set_pinned(on);
        Ok(())
    }
}

/// IPC_RMID: the key is free at once, the segment goes with its last attachment.
pub fn remove(ctx: &Ctx, id: i32) -> Result<()> {
    let gone = {
        let mut segments = SEGMENTS.lock();
        let segment = segments.get(id)?;
        let mut state = segment.state.lock();
        state.perm.check_owner(ctx)?;
        if state.attached > 0 {
            state.perm.0.mode |= SHM_DEST;
            state.perm.0.key = IPC_PRIVATE;
            segments.forget_key(id);
            None
        } else {
            drop(state);
            Some(segments.remove(id)?)
        }
    };
    drop(gone);
    Ok(())
}

/// A process ends that has made segments: nobody else keeps those that are not attached, if that is how the machine is
/// set (shm_rmid_forced).
pub(crate) fn creator_ends(process: &Process) {
    if !process.made_segments.load(Relaxed) {
        return;
    }
    let pid = process.pid() as i32;
    for_each(|state| {
        if state.creator == pid {
            state.creator_lives = false;
        }
    });
    if rmid_forced() != 0 {
        remove_orphans();
    }
}

/// Removes the segments that nobody has attached and whose creator has ended.
fn remove_orphans() {
    let mut place = 0;
    loop {
        let gone = {
            let mut segments = SEGMENTS.lock();
            let Some((at, id, segment)) = segments.next(place) else { return };
            place = at + 1;
            let orphan = {
                let state = segment.state.lock();
                state.attached == 0 && !state.creator_lives
            };
            orphan.then(|| (segments.remove(id), segment))
        };
        drop(gone);
    }
}

fn for_each(mut look: impl FnMut(&mut State)) {
    let mut place = 0;
    loop {
        let Some((at, _, segment)) = SEGMENTS.lock().next(place) else { return };
        place = at + 1;
        look(&mut segment.state.lock());
    }
}

/// IPC_INFO; also the highest place in use.
pub fn limits() -> (ShmLimits, usize) {
    let segments = SEGMENTS.lock();
    let mni = segments.limit() as u64;
    let limits =
        ShmLimits { max: max_bytes(), min: 1, mni, seg: mni, all: max_pages(), ..ShmLimits::default() };
    (limits, segments.highest())
}

/// SHM_INFO; also the highest place in use.
pub fn info() -> (ShmInfo, usize) {
    let mut info = ShmInfo::default();
    let mut place = 0;
    // One at a time: each takes the lock of its pages.
    loop {
        let Some((at, _, segment)) = SEGMENTS.lock().next(place) else { break };
        place = at + 1;
        let resident = segment.mapping.cached_pages();
        info.used_ids += 1;
        info.total += pages_of(segment.size);
        info.resident += resident;
        info.swapped += segment.mapping.held_pages().saturating_sub(resident);
    }
    (info, SEGMENTS.lock().highest())
}

/// A line of /proc/sysvipc/shm: the first segment at or after a place, and the place after it.
pub(super) fn line(from: usize, out: &mut dyn Write) -> Option<(usize, fmt::Result)> {
    let (place, id, segment) = SEGMENTS.lock().next(from)?;
    let status = segment.status(&segment.state.lock());
    let page = PAGE_SIZE as u64;
    let resident = segment.mapping.cached_pages();
    let swapped = segment.mapping.held_pages().saturating_sub(resident);
    let IpcPerm { key, uid, gid, cuid, cgid, mode, .. } = status.perm;
    let ShmidDs { size, creator, last, attached, atime, dtime, ctime, .. } = status;
    let (rss, swap) = (resident * page, swapped * page);
    let result = writeln!(
        out,
        "{key:>10} {id:>10}  {mode:>4o} {size:>21} {creator:>5} {last:>5}  {attached:>5} {uid:>5} {gid:>5} \
         {cuid:>5} {cgid:>5} {atime:>10} {dtime:>10} {ctime:>10} {rss:>21} {swap:>21}"
    );
    Some((place + 1, result))
}

/// /proc/sys/kernel/shmmax, in bytes.
pub(super) fn max_bytes() -> u64 {
    MAX_BYTES.load(Relaxed)
}

pub(super) fn set_max_bytes(max: u64) -> Result<()> {
    MAX_BYTES.store(max, Relaxed);
    Ok(())
}

/// /proc/sys/kernel/shm_rmid_forced: whether a segment goes as soon as nobody has it attached, or its creator ends.
pub(super) fn rmid_forced() -> u64 {
    u64::from(RMID_FORCED.load(Relaxed))
}

pub(super) fn set_rmid_forced(on: u64) -> Result<()> {
    if on > 1 {
        return Err(Errno::EINVAL);
    }
    RMID_FORCED.store(on == 1, Relaxed);
    if on == 1 {
        remove_orphans();
    }
    Ok(())
}

/// /proc/sys/kernel/shmall, in pages.
pub(super) fn max_pages() -> u64 {
    MAX_PAGES.load(Relaxed)
}

pub(super) fn set_max_pages(max: u64) -> Result<()> {
    MAX_PAGES.store(max, Relaxed);
    Ok(())
}

/// /proc/sys/kernel/shmmni.
pub(super) fn max_segments() -> u64 {
    SEGMENTS.lock().limit() as u64
}

pub(super) fn set_max_segments(max: u64) -> Result<()> {
    let max = usize::try_from(max).ok().filter(|max| *max <= MAX_MNI).ok_or(Errno::EINVAL)?;
    SEGMENTS.lock().set_limit(max);
    Ok(())
}
