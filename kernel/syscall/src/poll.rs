//! Readiness: poll(2), select(2), epoll(7).

use crate::fs::{descriptor_limit, install};
use crate::{Ctx, Errno, Result};
use abi::poll::*;
use abi::time::{Timespec, Timeval};
use alloc::vec::Vec;
use kcore::{SigSet, usermem};
use mem::user;
use vfs::epoll::{self, EpollFile};
use vfs::poll::{PollEntry, poll_files};
use vfs::{FileTable, Lookup};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// How long a call may wait: not at all, until a moment of the monotonic clock, or for ever.
#[derive(Clone, Copy)]
enum Limit {
    Now,
    At(u64),
    Never,
}

impl Limit {
    fn after(ns: u64) -> Limit {
        if ns == 0 { Limit::Now } else { Limit::At(arch::timer::now_ns().saturating_add(ns)) }
    }

    /// A timeout in milliseconds, negative for ever.
    fn from_ms(ms: i32) -> Limit {
        u64::try_from(ms).map_or(Limit::Never, |ms| Limit::after(ms * 1_000_000))
    }

    /// A `struct timespec` at an address; null is for ever.
    fn from_timespec(addr: usize) -> Result<Limit> {
        if addr == 0 {
            return Ok(Limit::Never);
        }
        let at: Timespec = usermem::read(addr)?;
        at.to_ns().map(Limit::after).ok_or(Errno::EINVAL)
    }

    fn may_wait(self) -> bool {
        !matches!(self, Limit::Now)
    }

    fn deadline(self) -> Option<u64> {
        match self {
            Limit::At(deadline_ns) => Some(deadline_ns),
            _ => None,
        }
    }

    /// What is left, for the calls that tell.
    fn left_ns(self) -> Option<u64> {
        match self {
            Limit::At(deadline_ns) => Some(deadline_ns.saturating_sub(arch::timer::now_ns())),
            Limit::Now => Some(0),
            Limit::Never => None,
        }
    }
}

/// The signal mask of ppoll(2) and its kin; null: none.
fn read_mask(addr: usize, size: usize) -> Result<Option<SigSet>> {
    if addr == 0 {
        return Ok(None);
    }
    if size != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    Ok(Some(SigSet::from_bits(usermem::read::<u64>(addr)?)))
}

// ---- poll ----

/// poll(2).
pub fn poll(ctx: &mut Ctx, fds: usize, count: u32, timeout: i32) -> Result<usize> {
    let limit = Limit::from_ms(timeout);
    poll_limit(ctx, fds, count, limit).map_err(|error| match error {
        // Goes on with the time that is left; EINTR when a handler ran.
        Errno::EINTR => ctx.restart_with(move |ctx| poll_limit(ctx, fds, count, limit)),
        other => other,
    })
}

/// ppoll(2). The time left is written back, as Linux does.
pub fn ppoll(
    ctx: &mut Ctx,
    fds: usize,
    count: u32,
    timeout: usize,
    mask: usize,
    sigsetsize: usize,
) -> Result<usize> {
    let limit = Limit::from_timespec(timeout)?;
    let mask = read_mask(mask, sigsetsize)?;
    let result = ctx.with_mask(mask, |ctx| poll_limit(ctx, fds, count, limit));
    write_time_left(timeout, limit, |ns| usermem::write(timeout, &Timespec::from_ns(ns)));
    result.map_err(interrupted)
}

/// Calls with a mask restart only when no handler ran.
fn interrupted(error: Errno) -> Errno {
    if error == Errno::EINTR { Errno::ERESTARTNOHAND } else { error }
}

/// A program may keep its timeout in read-only memory: then nothing is written (Linux's
/// poll_select_finish).
fn write_time_left(addr: usize, limit: Limit, write: impl FnOnce(u64) -> Result<()>) {
    if addr != 0
        && let Some(left) = limit.left_ns()
    {
        let _ = write(left);
    }
}

fn poll_limit(ctx: &mut Ctx, fds: usize, count: u32, limit: Limit) -> Result<usize> {
    if u64::from(count) > descriptor_limit(ctx) {
        return Err(Errno::EINVAL);
    }
    let mut requests: Vec<RawPollFd> = user::read_array(fds, count as usize)?;
    if let Some(ready) = look_once(ctx, &mut requests)
        && (ready > 0 || !limit.may_wait())
    {
        user::write_array(fds, &requests).map_err(|_| Errno::EFAULT)?;
        return Ok(ready);
    }
    let mut entries = Vec::new();
    entries.try_reserve_exact(requests.len()).map_err(|_| Errno::ENOMEM)?;
    for batch in requests.chunks(LOOKUP_BATCH) {
        ctx.files().look_up(|table| {
            entries.extend(batch.iter().map(|request| entry(table, request)));
        });
    }
    let ready = poll_files(&mut entries, limit.may_wait(), limit.deadline())?;
    for (request, entry) in requests.iter_mut().zip(&entries) {
        request.revents = entry.ready.bits() as i16;
    }
    user::write_array(fds, &requests).map_err(|_| Errno::EFAULT)?;
    Ok(ready)
}

/// [`PollFd`] as it lies in the program's memory, read and written without taking it apart.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawPollFd {
    fd: i32,
    events: i16,
    revents: i16,
}
const _: () = assert!(size_of::<RawPollFd>() == PollFd::SIZE);

/// Descriptors looked up under one hold of the table's lock, which has preemption off.
///
/// With 100 descriptors that are not ready poll(2) took 145 instructions for each, 40 of them for a lock of its own.
const LOOKUP_BATCH: usize = 64;

impl RawPollFd {
    #[inline]
    fn wanted(&self) -> PollEvents {
        PollEvents::from_bits_truncate(u32::from(self.events as u16))
    }
}

/// Fills in what is ready now and says how many that is; `None` when a file cannot tell under the table's lock.
fn look_once(ctx: &Ctx, requests: &mut [RawPollFd]) -> Option<usize> {
    let mut ready = 0;
    for batch in requests.chunks_mut(LOOKUP_BATCH) {
        ready += ctx.files().look_up(|table| {
            let mut found = 0;
            for request in batch {
                let events = match request.fd {
                    0.. => table.ready_now(request.fd, request.wanted())?,
                    _ => PollEvents::empty(),
                };
                request.revents = events.bits() as i16;
                found += usize::from(!events.is_empty());
            }
            Some(found)
        })?;
    }
    Some(ready)
}

#[inline]
fn entry(table: Lookup<'_>, request: &RawPollFd) -> PollEntry {
    let wanted = request.wanted();
    let file = table.get(request.fd);
    let missing = file.is_none() && request.fd >= 0;
    PollEntry { file, wanted, ready: if missing { PollEvents::NVAL } else { PollEvents::empty() } }
}

// ---- select ----

/// What select(2)'s three sets ask for, and which events put a descriptor into the answer.
const SETS: [(PollEvents, PollEvents); 3] = [
    (PollEvents::READABLE.union(PollEvents::RDBAND), READ_SET),
    (PollEvents::WRITABLE.union(PollEvents::WRBAND), WRITE_SET),
    (PollEvents::PRI, PollEvents::PRI),
];
const READ_SET: PollEvents =
    PollEvents::READABLE.union(PollEvents::RDBAND).union(PollEvents::HUP).union(PollEvents::ERR);
const WRITE_SET: PollEvents = PollEvents::WRITABLE.union(PollEvents::WRBAND).union(PollEvents::ERR);

const WORD: usize = 64;

/// Sets of up to so many words lie on the stack: a table of 256 descriptors is what most programs have.
const INLINE_WORDS: usize = 4;

/// The three sets of a call, as words.
struct Sets {
    inline: [[u64; INLINE_WORDS]; 3],
    large: [Vec<u64>; 3],
    words: usize,
}

impl Sets {
    /// Reads the first `count` bits at each address; null: empty, and nothing is written back.
    fn read(addresses: [usize; 3], count: usize) -> Result<Sets> {
        let words = count.div_ceil(WORD);
        let mut sets = Sets { inline: [[0; INLINE_WORDS]; 3], large: [const { Vec::new() }; 3], words };
        for (which, addr) in addresses.into_iter().enumerate().filter(|(_, addr)| *addr != 0) {
            let set = sets.make(which)?;
            user::read(addr, set.as_mut_bytes()).map_err(|_| Errno::EFAULT)?;
            if let Some(last) = set.last_mut() {
                *last &= u64::MAX >> (words * WORD - count);
            }
        }
        Ok(sets)
    }

    /// A set of zeroes.
    fn make(&mut self, which: usize) -> Result<&mut [u64]> {
        if self.words > INLINE_WORDS {
            let set = &mut self.large[which];
            set.try_reserve_exact(self.words).map_err(|_| Errno::ENOMEM)?;
            set.resize(self.words, 0);
        }
        Ok(self.get_mut(which))
    }

    /// The words of a set; none for a large one that was not given.
    fn get(&self, which: usize) -> &[u64] {
        if self.words > INLINE_WORDS { &self.large[which] } else { &self.inline[which][..self.words] }
    }

    fn get_mut(&mut self, which: usize) -> &mut [u64] {
        if self.words > INLINE_WORDS { &mut self.large[which] } else { &mut self.inline[which][..self.words] }
    }

    /// Word `at` of each set.
    #[inline]
    fn row(&self, at: usize) -> [u64; 3] {
        let word = |which: usize| self.get(which).get(at).copied().unwrap_or(0);
        [word(0), word(1), word(2)]
    }

    /// What is ready now. EBADF for a file that is not open; `None` when one cannot tell under the table's lock, or
    /// the sets are large.
    fn look_once(&self, files: &FileTable) -> Result<Option<Answer>> {
        let mut answer = Answer::default();
        if self.words > INLINE_WORDS {
            return Ok(None);
        }
        for at in 0..self.words {
            let row = self.row(at);
            let known = any(row) == 0 || files.look_up(|table| look_at_row(table, at, row, &mut answer))?;
            if !known {
                return Ok(None);
            }
        }
        Ok(Some(answer))
    }

    /// The files asked for, in the order of their numbers. EBADF for one that is not open.
    fn open(&self, files: &FileTable) -> Result<Vec<PollEntry>> {
        let total: u32 = (0..self.words).map(|at| any(self.row(at)).count_ones()).sum();
        let mut entries: Vec<PollEntry> = Vec::new();
        entries.try_reserve_exact(total as usize).map_err(|_| Errno::ENOMEM)?;
        for at in 0..self.words {
            let row = self.row(at);
            if any(row) != 0 {
                files.look_up(|table| open_row(table, at * WORD, row, &mut entries)).ok_or(Errno::EBADF)?;
            }
        }
        Ok(entries)
    }

    /// Leaves in the sets what is ready, of the files that `open` gave; how many bits that is.
    fn answer(&mut self, entries: &[PollEntry]) -> usize {
        let mut entries = entries.iter();
        let mut total = 0;
        for at in 0..self.words {
            let row = self.row(at);
            let mut left = any(row);
            let mut ready = [0; 3];
            while left != 0 {
                let bit = left & left.wrapping_neg();
                let events = entries.next().map_or(PollEvents::empty(), |entry| entry.ready);
                for (bits, (_, shows)) in ready.iter_mut().zip(SETS) {
                    *bits |= if events.intersects(shows) { bit } else { 0 };
                }
                left ^= bit;
            }
            for which in 0..3 {
                if let Some(word) = self.get_mut(which).get_mut(at) {
                    *word = ready[which] & row[which];
                    total += word.count_ones() as usize;
                }
            }
        }
        total
    }
}

#[inline]
fn any(row: [u64; 3]) -> u64 {
    row[0] | row[1] | row[2]
}

/// What is ready of the three sets.
type Answer = [[u64; INLINE_WORDS]; 3];

/// What is asked about the descriptor of `bit`.
#[inline(always)]
fn wanted(row: [u64; 3], bit: u64) -> PollEvents {
    let mut wanted = PollEvents::empty();
    for (word, (events, _)) in row.into_iter().zip(SETS) {
        wanted |= if word & bit != 0 { events } else { PollEvents::empty() };
    }
    wanted
}

/// Puts into `answer` what of word `at` of the sets is ready; false when a file cannot tell. EBADF.
#[inline]
fn look_at_row(table: Lookup<'_>, at: usize, row: [u64; 3], answer: &mut Answer) -> Result<bool> {
    let mut left = any(row);
    while left != 0 {
        let bit = left & left.wrapping_neg();
        let fd = at * WORD + left.trailing_zeros() as usize;
        let Some(ready) = table.ready_now(fd as i32, wanted(row, bit)) else { return Ok(false) };
        if !ready.is_empty() {
            if ready.contains(PollEvents::NVAL) {
                return Err(Errno::EBADF);
            }
            for which in 0..3 {
                answer[which][at] |= if ready.intersects(SETS[which].1) { row[which] & bit } else { 0 };
            }
        }
        left ^= bit;
    }
    Ok(true)
}

/// Adds the files of one word of the sets, whose first descriptor is `first`, to `entries`, which has room. `None`
/// when one is not open.
#[inline]
fn open_row(table: Lookup<'_>, first: usize, row: [u64; 3], entries: &mut Vec<PollEntry>) -> Option<()> {
    let mut left = any(row);
    while left != 0 {
        let bit = left & left.wrapping_neg();
        let file = table.get((first + left.trailing_zeros() as usize) as i32)?;
        entries.push(PollEntry { file: Some(file), wanted: wanted(row, bit), ready: PollEvents::empty() });
        left ^= bit;
    }
    Some(())
}

fn select_limit(ctx: &Ctx, count: i32, addresses: [usize; 3], limit: Limit) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    // Numbers that the table has no room for cannot be open: Linux ignores them too.
    let mut sets = Sets::read(addresses, count.min(ctx.files().capacity()))?;
    let answer = sets.look_once(ctx.files())?;
    let count = |answer: &Answer| answer.iter().flatten().map(|word| word.count_ones() as usize).sum();
    let total = match answer.map(|answer| (answer, count(&answer))) {
        Some((answer, total)) if total > 0 || !limit.may_wait() => {
            sets.inline = answer;
            total
        }
        _ => {
            let mut entries = sets.open(ctx.files())?;
            poll_files(&mut entries, limit.may_wait(), limit.deadline())?;
            sets.answer(&entries)
        }
    };
    for (which, addr) in addresses.into_iter().enumerate().filter(|(_, addr)| *addr != 0) {
        user::write_array(addr, sets.get(which)).map_err(|_| Errno::EFAULT)?;
    }
    Ok(total)
}

/// select(2). The time left is written back.
pub fn select(
    ctx: &mut Ctx,
    count: i32,
    read: usize,
    write: usize,
    except: usize,
    timeout: usize,
) -> Result<usize> {
    let limit = match timeout {
        0 => Limit::Never,
        addr => {
            let Timeval { sec, usec } = usermem::read(addr)?;
            if sec < 0 || usec < 0 {
                return Err(Errno::EINVAL);
            }
            let us = (sec as u64).saturating_mul(1_000_000).saturating_add(usec as u64);
            Limit::after(us.saturating_mul(1000))
        }
    };
    let result = select_limit(ctx, count, [read, write, except], limit);
    write_time_left(timeout, limit, |ns| usermem::write(timeout, &Timeval::from_ns(ns)));
    result.map_err(interrupted)
}

/// pselect(2). The last argument points to the mask's address and size.
pub fn pselect6(
    ctx: &mut Ctx,
    count: i32,
    read: usize,
    write: usize,
    except: usize,
    timeout: usize,
    mask: usize,
) -> Result<usize> {
    let limit = Limit::from_timespec(timeout)?;
    let mask = match mask {
        0 => None,
        addr => {
            let [mask, size]: [usize; 2] = usermem::read(addr)?;
            read_mask(mask, size)?
        }
    };
    let result = ctx.with_mask(mask, |ctx| select_limit(ctx, count, [read, write, except], limit));
    write_time_left(timeout, limit, |ns| usermem::write(timeout, &Timespec::from_ns(ns)));
    result.map_err(interrupted)
}

// ---- epoll ----

/// epoll_create(2): the size says nothing any more, but must be positive.
pub fn epoll_create(ctx: &mut Ctx, size: i32) -> Result<usize> {
    if size <= 0 { Err(Errno::EINVAL) } else { epoll_create1(ctx, 0) }
}

/// epoll_create1(2).
pub fn epoll_create1(ctx: &mut Ctx, flags: u32) -> Result<usize> {
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    install(ctx, epoll::epoll(), flags & EPOLL_CLOEXEC != 0)
}

/// epoll_ctl(2).
pub fn epoll_ctl(ctx: &mut Ctx, epfd: i32, op: u32, fd: i32, event: usize) -> Result<usize> {
    let mut bytes = [0; EpollEvent::SIZE];
    if op != EPOLL_CTL_DEL {
        usermem::read_bytes(event, &mut bytes)?;
    }
    let watcher = ctx.files().get(epfd)?;
    let file = ctx.files().get(fd)?;
    let epoll = watcher.ops_as::<EpollFile>();
    if !file.traits().contains(vfs::FileTraits::POLLABLE) {
        return Err(Errno::EPERM);
    }
    let epoll = epoll.ok_or(Errno::EINVAL)?.epoll();
    epoll.control(&watcher, op, fd, &file, EpollEvent::from_bytes(&bytes)).map(|()| 0)
}

fn epoll_limit(ctx: &Ctx, epfd: i32, events: usize, max: i32, limit: Limit) -> Result<usize> {
    const MAX_EVENTS: usize = i32::MAX as usize / EpollEvent::SIZE;
    let max = usize::try_from(max).ok().filter(|max| (1..=MAX_EVENTS).contains(max)).ok_or(Errno::EINVAL)?;
    let watcher = ctx.files().get(epfd)?;
    let epoll = watcher.ops_as::<EpollFile>().ok_or(Errno::EINVAL)?.epoll();
    let ready = epoll.wait(max, limit.may_wait(), limit.deadline())?;
    for (index, event) in ready.iter().enumerate() {
        let addr = events.checked_add(index * EpollEvent::SIZE).ok_or(Errno::EFAULT)?;
        usermem::write_bytes(addr, &event.to_bytes())?;
    }
    Ok(ready.len())
}

/// epoll_wait(2).
pub fn epoll_wait(ctx: &mut Ctx, epfd: i32, events: usize, max: i32, timeout: i32) -> Result<usize> {
    epoll_limit(ctx, epfd, events, max, Limit::from_ms(timeout))
}

/// epoll_pwait(2).
pub fn epoll_pwait(
    ctx: &mut Ctx,
    epfd: i32,
    events: usize,
    max: i32,
    timeout: i32,
    mask: usize,
    sigsetsize: usize,
) -> Result<usize> {
    let mask = read_mask(mask, sigsetsize)?;
    ctx.with_mask(mask, |ctx| epoll_limit(ctx, epfd, events, max, Limit::from_ms(timeout)))
}

/// epoll_pwait2(2).
pub fn epoll_pwait2(
    ctx: &mut Ctx,
    epfd: i32,
    events: usize,
    max: i32,
    timeout: usize,
    mask: usize,
    sigsetsize: usize,
) -> Result<usize> {
    let limit = Limit::from_timespec(timeout)?;
    let mask = read_mask(mask, sigsetsize)?;
    ctx.with_mask(mask, |ctx| epoll_limit(ctx, epfd, events, max, limit))
}
