//! Semaphore sets: semget(2), semop(2), semctl(2).
//!
//! A call's operations are tried on a copy of the values under the set's lock: all of them happen or none. Who must
//! wait is woken by every change and tries again. What SEM_UNDO is to take back is kept with the set, by process:
//! SETVAL forgets it for everybody, and the end of a process finds it through the sets that it touched.

use super::{ALTER, Found, Perm, READ, Registry, now_s};
use crate::process::Process;
use crate::{Ctx, Pid, Result};
use abi::Errno;
use abi::ipc::*;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use sync::SpinLock;
use sync::levels::{SysvObject, SysvTable};
use task::{WaitEnd, WaitMode, WaitQueue};

#[derive(Clone, Copy, Default)]
struct Semaphore {
    value: u16,
    /// Who changed it last.
    pid: Pid,
    /// Threads that wait for it to grow, and for zero.
    growing: u32,
    zero: u32,
}

struct State {
    perm: Perm,
    semaphores: Vec<Semaphore>,
    /// What is to be added at the end of a process.
    undo: BTreeMap<Pid, Vec<i16>>,
    otime: i64,
    ctime: i64,
    removed: bool,
}

/// A set.
pub struct Set {
    count: usize,
    state: SpinLock<State, SysvObject>,
    queue: WaitQueue,
}

static SETS: SpinLock<Registry<Set>, SysvTable> = SpinLock::new(Registry::new(SEMMNI));

/// Sets that a process has something to take back in.
pub(crate) type Touched = Vec<Weak<Set>>;

/// What the operations of a call came to.
enum Tried {
    Done,
    /// This one waits: its place among the operations.
    Waits(usize),
}

fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    list.resize(count, value);
    Ok(list)
}

/// semget(2).
pub fn get(ctx: &Ctx, key: i32, count: i32, flags: u32) -> Result<i32> {
    let count = usize::try_from(count).ok().filter(|count| *count <= SEMMSL).ok_or(Errno::EINVAL)?;
    // Made before it is known whether it is needed: not under the table's lock.
    let fresh = if count > 0 { Some(fresh(ctx, key, count, flags)?) } else { None };
    let mut sets = SETS.lock();
    match sets.find(key, flags)? {
        Found::Known(id, set) => {
            drop(sets);
            if count > set.count {
                return Err(Errno::EINVAL);
            }
            set.state.lock().perm.check(ctx, flags)?;
            Ok(id)
        }
        Found::Absent => {
            let set = fresh.ok_or(Errno::EINVAL)?;
            let (id, uses) = sets.insert(key, set.clone())?;
            set.state.lock().perm.0.seq = uses as u16;
            Ok(id)
        }
    }
}

fn fresh(ctx: &Ctx, key: i32, count: usize, flags: u32) -> Result<Arc<Set>> {
    let state = State {
        perm: Perm::new(ctx, key, flags),
        semaphores: filled(Semaphore::default(), count)?,
        undo: BTreeMap::new(),
        otime: 0,
        ctime: now_s(),
        removed: false,
    };
    Ok(Arc::new(Set { count, state: SpinLock::new(state), queue: WaitQueue::new(&"semtimedop") }))
}

/// The set of an identifier.
pub fn find(id: i32) -> Result<Arc<Set>> {
    SETS.lock().get(id)
}

/// semtimedop(2), the operations being some and not too many. EAGAIN at `deadline_ns` (monotonic) and with
/// IPC_NOWAIT, EIDRM, EFBIG, ERANGE, EACCES, EINTR.
pub fn operate(ctx: &Ctx, set: &Arc<Set>, operations: &[SemBuf], deadline_ns: Option<u64>) -> Result<()> {
    if operations.iter().any(|one| usize::from(one.number) >= set.count) {
        return Err(Errno::EFBIG);
    }
    let alters = operations.iter().any(|one| one.operation != 0);
    set.state.lock().perm.check(ctx, if alters { ALTER } else { READ })?;
    let undoes = operations.iter().any(|one| one.operation != 0 && one.flags & SEM_UNDO != 0);
    // Room for what has to be taken back, before anything has happened.
    let mut room = if undoes { Some(filled(0i16, set.count)?) } else { None };
    if undoes {
        note_touched(ctx.process, set)?;
    }
    let mut values = filled(0u16, set.count)?;
    let mut counted: Option<usize> = None;
    let pid = ctx.process.pid();
    let mut attempt = || {
        let mut state = set.state.lock();
        if let Some(at) = counted.take() {
            state.count(&operations[at], -1);
        }
        let result = state.attempt(operations, pid, &mut values, &mut room);
        match result {
            Ok(Tried::Waits(at)) if u32::from(operations[at].flags) & IPC_NOWAIT != 0 => {
                Some(Err(Errno::EAGAIN))
            }
            Ok(Tried::Waits(at)) => {
                state.count(&operations[at], 1);
                counted = Some(at);
                None
            }
            Ok(Tried::Done) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    };
    let result = set.queue.wait_until(WaitMode::Interruptible, deadline_ns, &mut attempt);
    if result.is_err()
        && let Some(at) = counted
    {
        set.state.lock().count(&operations[at], -1);
    }
    match result {
        Ok(result) => {
            if alters && result.is_ok() {
                set.queue.wake_all();
            }
            result
        }
        Err(WaitEnd::Timeout) => Err(Errno::EAGAIN),
        Err(WaitEnd::Signal) => Err(Errno::EINTR),
    }
}

impl State {
    fn count(&mut self, operation: &SemBuf, by: i32) {
        let semaphore = &mut self.semaphores[usize::from(operation.number)];
        let count = if operation.operation == 0 { &mut semaphore.zero } else { &mut semaphore.growing };
        *count = count.saturating_add_signed(by);
    }

    /// Tries the operations on `values`, and keeps what came out if all can be done.
    fn attempt(
        &mut self,
        operations: &[SemBuf],
        pid: Pid,
        values: &mut [u16],
        room: &mut Option<Vec<i16>>,
    ) -> Result<Tried> {
        if self.removed {
            return Err(Errno::EIDRM);
        }
        for (value, semaphore) in values.iter_mut().zip(&self.semaphores) {
            *value = semaphore.value;
        }
        for (at, one) in operations.iter().enumerate() {
            let value = &mut values[usize::from(one.number)];
            let new = i32::from(*value) + i32::from(one.operation);
            if one.operation == 0 && *value != 0 || new < 0 {
                return Ok(Tried::Waits(at));
            }
            if new > SEMVMX {
                return Err(Errno::ERANGE);
            }
            *value = new as u16;
        }
        self.add_undo(operations, pid, room)?;
        for one in operations {
            self.semaphores[usize::from(one.number)].pid = pid;
        }
        for (value, semaphore) in values.iter().zip(&mut self.semaphores) {
            semaphore.value = *value;
        }
        self.otime = now_s();
        Ok(Tried::Done)
    }

    /// Books what the end of the process takes back. ERANGE when that becomes too much; nothing is booked then.
    fn add_undo(&mut self, operations: &[SemBuf], pid: Pid, room: &mut Option<Vec<i16>>) -> Result<()> {
        let Some(fresh) = room.take() else { return Ok(()) };
        let undo = self.undo.entry(pid).or_insert(fresh);
        let undone = operations.iter().filter(|one| one.flags & SEM_UNDO != 0);
        for (done, one) in undone.clone().enumerate() {
            let adjustment = &mut undo[usize::from(one.number)];
            match adjustment.checked_sub(one.operation) {
                Some(new) => *adjustment = new,
                None => {
                    for one in undone.clone().take(done) {
                        let adjustment = &mut undo[usize::from(one.number)];
                        *adjustment = adjustment.wrapping_add(one.operation);
                    }
                    return Err(Errno::ERANGE);
                }
            }
        }
        Ok(())
    }
}

fn note_touched(process: &Process, set: &Arc<Set>) -> Result<()> {
    let mut touched = process.semaphores.lock();
    touched.retain(|other| other.strong_count() > 0);
    if touched.iter().all(|other| !core::ptr::eq(other.as_ptr(), Arc::as_ptr(set))) {
        touched.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        touched.push(Arc::downgrade(set));
    }
    Ok(())
}

/// The process ends: what it did with SEM_UNDO is taken back, as far as values allow.
pub(crate) fn process_ends(process: &Process) {
    let touched = core::mem::take(&mut *process.semaphores.lock());
    for set in touched.iter().filter_map(Weak::upgrade) {
        let mut state = set.state.lock();
        let Some(undo) = state.undo.remove(&process.pid()) else { continue };
        for (semaphore, adjustment) in state.semaphores.iter_mut().zip(&undo) {
            if *adjustment != 0 {
                let value = i32::from(semaphore.value) + i32::from(*adjustment);
                semaphore.value = value.clamp(0, SEMVMX) as u16;
                semaphore.pid = process.pid();
            }
        }
        state.otime = now_s();
        drop(state);
        set.queue.wake_all();
    }
}

/// IPC_RMID.
pub fn remove(ctx: &Ctx, id: i32) -> Result<()> {
    let set = find(id)?;
    set.state.lock().perm.check_owner(ctx)?;
    let gone = SETS.lock().remove(id)?;
    let undo = {
        let mut state = gone.state.lock();
        state.removed = true;
        core::mem::take(&mut state.undo)
    };
    drop(undo);
    gone.queue.wake_all();
    Ok(())
}

/// SEM_STAT and SEM_STAT_ANY: the set in a place of the table.
pub fn at(place: i32) -> Result<(i32, Arc<Set>)> {
    SETS.lock().at(place)
}

/// IPC_INFO and, with `used`, SEM_INFO; also the highest place in use.
pub fn info(used: bool) -> (SemInfo, usize) {
    let sets = SETS.lock();
    let (usz, aem) = match used {
        true => (sets.iter().count(), sets.iter().map(|set| set.count).sum()),
        false => (20, SEMVMX as usize),
    };
    let mns = SEMMNS as i32;
    let info = SemInfo {
        map: mns,
        mni: SEMMNI as i32,
        mns,
        mnu: mns,
        msl: SEMMSL as i32,
        opm: SEMOPM as i32,
        ume: SEMOPM as i32,
        usz: usz as i32,
        vmx: SEMVMX,
        aem: aem as i32,
    };
    (info, sets.highest())
}

impl Set {
    /// How many semaphores it has.
    pub fn count(&self) -> usize {
        self.count
    }

    fn readable(&self, ctx: &Ctx) -> Result<sync::SpinGuard<'_, State, SysvObject>> {
        let state = self.state.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        state.perm.check(ctx, READ)?;
        Ok(state)
    }

    /// IPC_STAT; `any`: whoever asks.
    pub fn stat(&self, ctx: &Ctx, any: bool) -> Result<SemidDs> {
        let state = if any { self.state.lock() } else { self.readable(ctx)? };
        Ok(SemidDs {
            perm: state.perm.0,
            otime: state.otime,
            ctime: state.ctime,
            nsems: self.count as u64,
            ..SemidDs::default()
        })
    }

    /// IPC_SET.
    pub fn set(&self, ctx: &Ctx, new: &IpcPerm) -> Result<()> {
        let mut state = self.state.lock();
        state.perm.check_owner(ctx)?;
        state.perm.set(new);
        state.ctime = now_s();
        Ok(())
    }

    /// GETVAL, GETPID, GETNCNT, GETZCNT. EINVAL for a semaphore that it does not have.
    pub fn look(&self, ctx: &Ctx, number: i32, command: u32) -> Result<usize> {
        let state = self.readable(ctx)?;
        let number = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
        let semaphore = state.semaphores.get(number).ok_or(Errno::EINVAL)?;
        Ok(match command {
            GETVAL => semaphore.value.into(),
            GETPID => semaphore.pid as usize,
            GETNCNT => semaphore.growing as usize,
            _ => semaphore.zero as usize,
        })
    }

    /// GETALL.
    pub fn values(&self, ctx: &Ctx) -> Result<Vec<u16>> {
        let mut values = filled(0u16, self.count)?;
        let state = self.readable(ctx)?;
        for (value, semaphore) in values.iter_mut().zip(&state.semaphores) {
            *value = semaphore.value;
        }
        Ok(values)
    }

    /// SETVAL and SETALL: `values` go to the semaphores from `first` on, and nobody takes anything back of them.
    /// ERANGE, EINVAL.
    pub fn put(&self, ctx: &Ctx, first: i32, values: &[i32]) -> Result<()> {
        if values.iter().any(|value| !(0..=SEMVMX).contains(value)) {
            return Err(Errno::ERANGE);
        }
        let first = usize::try_from(first).map_err(|_| Errno::EINVAL)?;
        let mut state = self.state.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        if first + values.len() > self.count {
            return Err(Errno::EINVAL);
        }
        state.perm.check(ctx, ALTER)?;
        for (at, value) in (first..).zip(values) {
            (state.semaphores[at].value, state.semaphores[at].pid) = (*value as u16, ctx.process.pid());
            state.undo.values_mut().for_each(|undo| undo[at] = 0);
        }
        state.ctime = now_s();
        drop(state);
        self.queue.wake_all();
        Ok(())
    }
}

/// A line of /proc/sysvipc/sem: the first set at or after a place, and the place after it.
pub(super) fn line(from: usize, out: &mut dyn Write) -> Option<(usize, fmt::Result)> {
    let (place, id, set) = SETS.lock().next(from)?;
    let (perm, otime, ctime) = {
        let state = set.state.lock();
        (state.perm.0, state.otime, state.ctime)
    };
    let IpcPerm { key, uid, gid, cuid, cgid, mode, .. } = perm;
    let count = set.count;
    let result = writeln!(
        out,
        "{key:>10} {id:>10}  {mode:>4o} {count:>10} {uid:>5} {gid:>5} {cuid:>5} {cgid:>5} {otime:>10} {ctime:>10}"
    );
    Some((place + 1, result))
}
