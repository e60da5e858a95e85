//! System V IPC, sysvipc(7): objects that have a key instead of a name, and live until somebody removes them.
//!
//! **Idea.** A kind of object has one [`Registry`]: a table by index, where an identifier is the index and how often
//! that place was used, so that an old identifier finds nothing. Who waits on an object waits on a wait queue of
//! its own and looks at it again under its lock; a removed object says EIDRM to everybody who still holds it.

mod files;
pub mod msg;
pub mod sem;
pub mod shm;

pub use files::init;

use crate::{Ctx, Result};
use abi::Errno;
use abi::cap::{CAP_IPC_OWNER, CAP_SYS_ADMIN};
use abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IpcPerm};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Identifiers are places of the table (15 bits) and how often they were used before.
const PLACE_BITS: u32 = 15;
const USES: u32 = 1 << 16;

/// Reading and altering, in the bits of the mode.
pub(crate) const READ: u32 = 0o444;
pub(crate) const ALTER: u32 = 0o222;

/// Who may use an object. Changes under the object's lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Perm(pub IpcPerm);

impl Perm {
    pub fn new(ctx: &Ctx, key: i32, flags: u32) -> Perm {
        let cred = ctx.cred();
        let (uid, gid) = (cred.euid, cred.egid);
        Perm(IpcPerm { key, uid, gid, cuid: uid, cgid: gid, mode: flags & 0o777, ..IpcPerm::default() })
    }

    /// EACCES unless the rights in `wanted` (as in a mode, in any class) are there.
    pub fn check(&self, ctx: &Ctx, wanted: u32) -> Result<()> {
        let (cred, perm) = (ctx.cred(), &self.0);
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if cred.euid == perm.cuid || cred.euid == perm.uid {
            perm.mode >> 6
        } else if cred.in_group(perm.cgid) || cred.in_group(perm.gid) {
            perm.mode >> 3
        } else {
            perm.mode
        };
        let refused = wanted & !granted & 7 != 0 && !cred.capable(CAP_IPC_OWNER);
        if refused { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// EPERM unless the caller made or owns it: IPC_SET, IPC_RMID.
    pub fn check_owner(&self, ctx: &Ctx) -> Result<()> {
        let euid = ctx.cred().euid;
        let owns = euid == self.0.cuid || euid == self.0.uid || ctx.capable(CAP_SYS_ADMIN);
        if owns { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// IPC_SET.
    pub fn set(&mut self, new: &IpcPerm) {
        (self.0.uid, self.0.gid) = (new.uid, new.gid);
        self.0.mode = self.0.mode & !0o777 | new.mode & 0o777;
    }
}

struct Place<T> {
    uses: u32,
    object: Option<(i32, Arc<T>)>,
}

/// All objects of a kind.
pub(crate) struct Registry<T> {
    places: Vec<Place<T>>,
    limit: usize,
}

/// What a look for a key found.
pub(crate) enum Found<T> {
    Known(i32, Arc<T>),
    /// None, and one is to be made.
    Absent,
}

impl<T> Registry<T> {
    pub const fn new(limit: usize) -> Registry<T> {
        Registry { places: Vec::new(), limit }
    }

    fn id(&self, place: usize) -> i32 {
        (self.places[place].uses << PLACE_BITS) as i32 | place as i32
    }

    /// The object of an identifier. EINVAL when there is none.
    pub fn get(&self, id: i32) -> Result<Arc<T>> {
        let place = usize::try_from(id).map_err(|_| Errno::EINVAL)? & ((1 << PLACE_BITS) - 1);
        let entry = self.places.get(place).ok_or(Errno::EINVAL)?;
        match &entry.object {
            Some((_, object)) if self.id(place) == id => Ok(object.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The object in a place of the table, and its identifier: the STAT commands of ipcs(1).
    pub fn at(&self, place: i32) -> Result<(i32, Arc<T>)> {
        let place = usize::try_from(place).map_err(|_| Errno::EINVAL)?;
        let object = self.places.get(place).and_then(|entry| entry.object.as_ref()).ok_or(Errno::EINVAL)?;
        Ok((self.id(place), object.1.clone()))
    }

    /// Looks for a key as the flags say. ENOENT, EEXIST.
    pub fn find(&self, key: i32, flags: u32) -> Result<Found<T>> {
        if key == IPC_PRIVATE {
            return Ok(Found::Absent);
        }
        let has = |entry: &Place<T>| entry.object.as_ref().is_some_and(|(other, _)| *other == key);
        match self.places.iter().position(has) {
            Some(_) if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 => Err(Errno::EEXIST),
            Some(place) => self.at(place as i32).map(|(id, object)| Found::Known(id, object)),
            None if flags & IPC_CREAT == 0 => Err(Errno::ENOENT),
            None => Ok(Found::Absent),
        }
    }

    /// Enters a new object; its identifier and how often the place was used. ENOSPC, ENOMEM.
    pub fn insert(&mut self, key: i32, object: Arc<T>) -> Result<(i32, u32)> {
        let free = self.places.iter().position(|entry| entry.object.is_none());
        let place = match free {
            Some(place) => place,
            None if self.places.len() >= self.limit => return Err(Errno::ENOSPC),
            None => {
                self.places.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.places.push(Place { uses: 0, object: None });
                self.places.len() - 1
            }
        };
        self.places[place].object = Some((key, object));
        Ok((self.id(place), self.places[place].uses))
    }

    /// Takes an object out; the caller drops it without the lock. EINVAL.
    pub fn remove(&mut self, id: i32) -> Result<Arc<T>> {
        let object = self.get(id)?;
        let entry = &mut self.places[id as usize & ((1 << PLACE_BITS) - 1)];
        entry.object = None;
        entry.uses = (entry.uses + 1) % USES;
        Ok(object)
    }

    /// Nobody finds the object by its key any more; its identifier stays.
    pub fn forget_key(&mut self, id: i32) {
        let place = id as usize & ((1 << PLACE_BITS) - 1);
        if let Some((key, _)) = self.places.get_mut(place).and_then(|entry| entry.object.as_mut()) {
            *key = IPC_PRIVATE;
        }
    }

    /// Changes how many objects there may be at most.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The first object at or after a place: that place, the identifier, the object.
    pub fn next(&self, from: usize) -> Option<(usize, i32, Arc<T>)> {
        let mut rest = self.places.iter().enumerate().skip(from);
        let (place, object) = rest.find_map(|(place, entry)| Some((place, entry.object.as_ref()?)))?;
        Some((place, self.id(place), object.1.clone()))
    }

    /// The highest place in use, as the INFO commands tell it.
    pub fn highest(&self) -> usize {
        self.places.iter().rposition(|entry| entry.object.is_some()).unwrap_or(0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.places.iter().filter_map(|entry| entry.object.as_ref()).map(|(_, object)| object)
    }
}

/// Seconds since the Epoch.
pub(crate) fn now_s() -> i64 {
    (time::realtime_ns() / 1_000_000_000) as i64
}
