//! Credentials: credentials(7), capabilities(7).

use crate::{Ctx, Errno, Result};
use abi::process::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kcore::{creds, pid, usermem};
use vfs::{CapSet, Cred};

/// The most supplementary groups (NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

pub fn getuid(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.cred().uid as usize)
}

pub fn getgid(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.cred().gid as usize)
}

pub fn geteuid(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.cred().euid as usize)
}

pub fn getegid(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.cred().egid as usize)
}

/// Puts changed credentials in place.
fn commit(ctx: &mut Ctx, new: Result<Cred>) -> Result<usize> {
    ctx.set_cred(Arc::new(new?));
    Ok(0)
}

pub fn setuid(ctx: &mut Ctx, uid: u32) -> Result<usize> {
    let new = creds::setuid(ctx.cred(), uid);
    commit(ctx, new)
}

pub fn setgid(ctx: &mut Ctx, gid: u32) -> Result<usize> {
    let new = creds::setgid(ctx.cred(), gid);
    commit(ctx, new)
}

pub fn setreuid(ctx: &mut Ctx, ruid: u32, euid: u32) -> Result<usize> {
    let new = creds::setreuid(ctx.cred(), ruid, euid);
    commit(ctx, new)
}

pub fn setregid(ctx: &mut Ctx, rgid: u32, egid: u32) -> Result<usize> {
    let new = creds::setregid(ctx.cred(), rgid, egid);
    commit(ctx, new)
}

pub fn setresuid(ctx: &mut Ctx, ruid: u32, euid: u32, suid: u32) -> Result<usize> {
    let new = creds::setresuid(ctx.cred(), ruid, euid, suid);
    commit(ctx, new)
}

pub fn setresgid(ctx: &mut Ctx, rgid: u32, egid: u32, sgid: u32) -> Result<usize> {
    let new = creds::setresgid(ctx.cred(), rgid, egid, sgid);
    commit(ctx, new)
}

/// Writes three ids.
fn put_three(ids: [u32; 3], to: [usize; 3]) -> Result<usize> {
    for (id, at) in ids.iter().zip(to) {
        usermem::write(at, id)?;
    }
    Ok(0)
}

pub fn getresuid(ctx: &mut Ctx, ruid: usize, euid: usize, suid: usize) -> Result<usize> {
    let cred = ctx.cred();
    put_three([cred.uid, cred.euid, cred.suid], [ruid, euid, suid])
}

pub fn getresgid(ctx: &mut Ctx, rgid: usize, egid: usize, sgid: usize) -> Result<usize> {
    let cred = ctx.cred();
    put_three([cred.gid, cred.egid, cred.sgid], [rgid, egid, sgid])
}

/// setfsuid(2) answers the old id whether or not it changed anything.
pub fn setfsuid(ctx: &mut Ctx, uid: u32) -> Result<usize> {
    let old = ctx.cred().fsuid;
    if let Some(new) = creds::setfsuid(ctx.cred(), uid) {
        ctx.set_cred(Arc::new(new));
    }
    Ok(old as usize)
}

pub fn setfsgid(ctx: &mut Ctx, gid: u32) -> Result<usize> {
    let old = ctx.cred().fsgid;
    if let Some(new) = creds::setfsgid(ctx.cred(), gid) {
        ctx.set_cred(Arc::new(new));
    }
    Ok(old as usize)
}

pub fn getgroups(ctx: &mut Ctx, size: i32, list: usize) -> Result<usize> {
    let groups = ctx.cred().groups.clone();
    let room = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if room > 0 {
        if room < groups.len() {
            return Err(Errno::EINVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        usermem::write_bytes(list, &bytes)?;
    }
    Ok(groups.len())
}

pub fn setgroups(ctx: &mut Ctx, size: usize, list: usize) -> Result<usize> {
    if !ctx.capable(abi::cap::CAP_SETGID) {
        return Err(Errno::EPERM);
    }
    if size > GROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let groups = mem::user::read_array::<u32>(list, size)?;
    let new = creds::setgroups(ctx.cred(), groups);
    commit(ctx, new)
}

/// How many `CapData` a version of the header has. An unknown version is answered with the newest.
fn words_of(header: &CapHeader, at: usize) -> Result<usize> {
    match header.version {
        LINUX_CAPABILITY_VERSION_1 => Ok(1),
        LINUX_CAPABILITY_VERSION_2 | LINUX_CAPABILITY_VERSION_3 => Ok(2),
        _ => {
            usermem::write(at, &LINUX_CAPABILITY_VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

pub fn capget(ctx: &mut Ctx, header: usize, data: usize) -> Result<usize> {
    let head: CapHeader = usermem::read(header)?;
    let words = match words_of(&head, header) {
        // Asking with no place for data is asking for the version.
        Err(_) if data == 0 => return Ok(0),
        words => words?,
    };
    let cred = match head.pid {
        0 => ctx.cred().clone(),
        1.. => pid::find_thread(head.pid as Pid).ok_or(Errno::ESRCH)?.cred(),
        _ => return Err(Errno::EINVAL),
    };
    for word in 0..words {
        let part = |set: CapSet| (set.0 >> (32 * word)) as u32;
        let entry = CapData {
            effective: part(cred.effective),
            permitted: part(cred.permitted),
            inheritable: part(cred.inheritable),
        };
        usermem::write(data + word * size_of::<CapData>(), &entry)?;
    }
    Ok(0)
}

pub fn capset(ctx: &mut Ctx, header: usize, data: usize) -> Result<usize> {
    let head: CapHeader = usermem::read(header)?;
    let words = words_of(&head, header)?;
    if head.pid != 0 && head.pid as u32 != ctx.thread.tid() {
        return Err(Errno::EPERM);
    }
    let (mut effective, mut permitted, mut inheritable) = (0u64, 0u64, 0u64);
    for word in 0..words {
        let at = data.checked_add(word * size_of::<CapData>()).ok_or(Errno::EFAULT)?;
        let entry: CapData = usermem::read(at)?;
        effective |= u64::from(entry.effective) << (32 * word);
        permitted |= u64::from(entry.permitted) << (32 * word);
        inheritable |= u64::from(entry.inheritable) << (32 * word);
    }
    let valid = |bits: u64| CapSet(bits).and(CapSet::FULL);
    let new = creds::capset(ctx.cred(), valid(effective), valid(permitted), valid(inheritable));
    commit(ctx, new)
}
