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
    let count = count as usize;
    let mut bytes: Vec<u8> = user::read_array(fds, count * PollFd::SIZE)?;
    let mut entries = Vec::new();
    entries.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for record in bytes.as_chunks::<{ PollFd::SIZE }>().0 {
        entries.push(entry(ctx, &PollFd::from_bytes(record)));
    }
    let ready = poll_files(&mut entries, limit.may_wait(), limit.deadline())?;
    for (record, entry) in bytes.as_chunks_mut::<{ PollFd::SIZE }>().0.iter_mut().zip(&entries) {
        record[6..].copy_from_slice(&(entry.ready.bits() as i16).to_ne_bytes());
    }
    usermem::write_bytes(fds, &bytes)?;
    Ok(ready)
}

fn entry(ctx: &Ctx, request: &PollFd) -> PollEntry {
    let wanted = PollEvents::from_bits_truncate(request.events as u16 as u32);
    if request.fd < 0 {
        return PollEntry { file: None, wanted, ready: PollEvents::empty() };
    }
    match ctx.files().get(request.fd) {
        Ok(file) => PollEntry { file: Some(file), wanted, ready: PollEvents::empty() },
        Err(_) => PollEntry { file: None, wanted, ready: PollEvents::NVAL },
    }
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

/// Reads a set of `words` words; null: empty, and nothing is written back.
fn read_set(addr: usize, words: usize) -> Result<Vec<u64>> {
    if addr == 0 {
        let mut empty = Vec::new();
        empty.try_reserve_exact(words).map_err(|_| Errno::ENOMEM)?;
        empty.resize(words, 0);
        return Ok(empty);
    }
    user::read_array(addr, words)
}

fn select_limit(ctx: &Ctx, count: i32, addresses: [usize; 3], limit: Limit) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    // Numbers that the table has no room for cannot be open: Linux ignores them too.
    let count = count.min(ctx.files().capacity());
    let words = count.div_ceil(WORD);
    let mut sets =
        [read_set(addresses[0], words)?, read_set(addresses[1], words)?, read_set(addresses[2], words)?];
    let (mut entries, mut numbers) = (Vec::new(), Vec::new());
    for fd in 0..count {
        let asked = |set: &Vec<u64>| set[fd / WORD] >> (fd % WORD) & 1 != 0;
        let mut wanted = PollEvents::empty();
        for (set, (events, _)) in sets.iter().zip(SETS) {
            wanted |= if asked(set) { events } else { PollEvents::empty() };
        }
        if wanted.is_empty() {
            continue;
        }
        let file = ctx.files().get(fd as i32)?;
        entries.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        numbers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        entries.push(PollEntry { file: Some(file), wanted, ready: PollEvents::empty() });
        numbers.push(fd);
    }
    poll_files(&mut entries, limit.may_wait(), limit.deadline())?;
    let total = answer(&mut sets, &entries, &numbers);
    for (set, addr) in sets.iter().zip(addresses).filter(|(_, addr)| *addr != 0) {
        user::write_array(addr, set).map_err(|_| Errno::EFAULT)?;
    }
    Ok(total)
}

/// Leaves in the sets what is ready; how many bits that is.
fn answer(sets: &mut [Vec<u64>; 3], entries: &[PollEntry], numbers: &[usize]) -> usize {
    let mut total = 0;
    for (set, (_, shows)) in sets.iter_mut().zip(SETS) {
        for (entry, &fd) in entries.iter().zip(numbers) {
            let bit = 1 << (fd % WORD);
            if set[fd / WORD] & bit == 0 {
                continue;
            }
            if entry.ready.intersects(shows) {
                total += 1;
            } else {
                set[fd / WORD] &= !bit;
            }
        }
    }
    total
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
