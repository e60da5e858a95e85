//! Changing credentials: the setuid family, capset, groups. Sources: credentials(7), capabilities(7),
//! setresuid(2), Linux's kernel/sys.c and security/commoncap.c.
//!
//! The rules are functions from the old credentials to the new ones; [`commit`] makes them the thread's.

use crate::access::{self, Ids};
use crate::subject::Subject;
use crate::{Ctx, Result};
use abi::Errno;
use abi::cap::{
    CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_LAST_CAP,
    CAP_LINUX_IMMUTABLE, CAP_MAC_OVERRIDE, CAP_MKNOD, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, SECBIT_KEEP_CAPS,
    SECBIT_NO_SETUID_FIXUP,
};
use abi::process::{
    SECBIT_KEEP_CAPS_LOCKED, SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, SECBIT_NO_SETUID_FIXUP_LOCKED,
    SECBIT_NOROOT_LOCKED,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use vfs::{CapSet, Cred};

/// "Leave as it is" in setreuid and setresuid.
pub const UNCHANGED: u32 = u32::MAX;

/// Makes `cred` the thread's. What depends on who a process is comes first, that nobody sees the new ids without it:
/// its user's counts, dumpability.
pub(crate) fn commit(ctx: &mut Ctx, cred: Arc<Cred>) {
    let old = core::mem::replace(&mut ctx.local.cred, cred.clone());
    let more = !cred.permitted.is_subset_of(old.permitted);
    if old.euid != cred.euid
        || old.egid != cred.egid
        || old.fsuid != cred.fsuid
        || old.fsgid != cred.fsgid
        || more
    {
        ctx.process.dumpable.store(0, Relaxed);
        ctx.thread.death_signal.store(0, Relaxed);
    }
    if old.uid != cred.uid {
        ctx.process.move_charges(cred.uid);
    }
    ctx.thread.publish_cred(cred);
}

fn has(cred: &Cred, capability: u32) -> Result<()> {
    if cred.capable(capability) { Ok(()) } else { Err(Errno::EPERM) }
}

fn valid(id: u32) -> Result<u32> {
    if id == UNCHANGED { Err(Errno::EINVAL) } else { Ok(id) }
}

// ---- user ids ----

pub fn setuid(old: &Cred, uid: u32) -> Result<Cred> {
    let uid = valid(uid)?;
    let mut new = old.clone();
    if old.capable(CAP_SETUID) {
        (new.uid, new.suid) = (uid, uid);
    } else if uid != old.uid && uid != old.suid {
        return Err(Errno::EPERM);
    }
    (new.euid, new.fsuid) = (uid, uid);
    fix_capabilities(old, &mut new);
    Ok(new)
}

pub fn setreuid(old: &Cred, ruid: u32, euid: u32) -> Result<Cred> {
    let mut new = old.clone();
    let privileged = old.capable(CAP_SETUID);
    if ruid != UNCHANGED {
        if !privileged && ruid != old.uid && ruid != old.euid {
            return Err(Errno::EPERM);
        }
        new.uid = ruid;
    }
    if euid != UNCHANGED {
        if !privileged && euid != old.uid && euid != old.euid && euid != old.suid {
            return Err(Errno::EPERM);
        }
        new.euid = euid;
    }
    if ruid != UNCHANGED || euid != UNCHANGED && euid != old.uid {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    fix_capabilities(old, &mut new);
    Ok(new)
}

pub fn setresuid(old: &Cred, ruid: u32, euid: u32, suid: u32) -> Result<Cred> {
    let known = |id: u32| id == UNCHANGED || id == old.uid || id == old.euid || id == old.suid;
    if !(known(ruid) && known(euid) && known(suid)) {
        has(old, CAP_SETUID)?;
    }
    let mut new = old.clone();
    take(&mut new.uid, ruid);
    take(&mut new.euid, euid);
    take(&mut new.suid, suid);
    new.fsuid = new.euid;
    fix_capabilities(old, &mut new);
    Ok(new)
}

fn take(slot: &mut u32, id: u32) {
    if id != UNCHANGED {
        *slot = id;
    }
}

/// setfsuid(2): `None` when nothing changes; the call has no errors.
pub fn setfsuid(old: &Cred, uid: u32) -> Option<Cred> {
    let known = uid == old.uid || uid == old.euid || uid == old.suid || uid == old.fsuid;
    if uid == UNCHANGED || uid == old.fsuid || !known && !old.capable(CAP_SETUID) {
        return None;
    }
    let mut new = Cred { fsuid: uid, ..old.clone() };
    if old.securebits & SECBIT_NO_SETUID_FIXUP == 0 {
        if old.fsuid == 0 && uid != 0 {
            new.effective = CapSet(new.effective.0 & !FS_CAPS.0);
        } else if old.fsuid != 0 && uid == 0 {
            new.effective = new.effective.or(new.permitted.and(FS_CAPS));
        }
    }
    Some(new)
}

/// Capabilities that follow the file-system user id.
const FS_CAPS: CapSet = CapSet::EMPTY
    .with(CAP_CHOWN)
    .with(CAP_MKNOD)
    .with(CAP_DAC_OVERRIDE)
    .with(CAP_DAC_READ_SEARCH)
    .with(CAP_FOWNER)
    .with(CAP_FSETID)
    .with(CAP_LINUX_IMMUTABLE)
    .with(CAP_MAC_OVERRIDE);

/// "Effect of user ID changes on capabilities", capabilities(7).
fn fix_capabilities(old: &Cred, new: &mut Cred) {
    if old.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
        return;
    }
    let was_root = old.uid == 0 || old.euid == 0 || old.suid == 0;
    let is_root = new.uid == 0 || new.euid == 0 || new.suid == 0;
    if was_root && !is_root {
        if old.securebits & SECBIT_KEEP_CAPS == 0 {
            new.permitted = CapSet::EMPTY;
            new.effective = CapSet::EMPTY;
        }
        new.ambient = CapSet::EMPTY;
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = CapSet::EMPTY;
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

// ---- group ids ----

pub fn setgid(old: &Cred, gid: u32) -> Result<Cred> {
    let gid = valid(gid)?;
    let mut new = old.clone();
    if old.capable(CAP_SETGID) {
        (new.gid, new.sgid) = (gid, gid);
    } else if gid != old.gid && gid != old.sgid {
        return Err(Errno::EPERM);
    }
    (new.egid, new.fsgid) = (gid, gid);
    Ok(new)
}

pub fn setregid(old: &Cred, rgid: u32, egid: u32) -> Result<Cred> {
    let mut new = old.clone();
    let privileged = old.capable(CAP_SETGID);
    if rgid != UNCHANGED {
        if !privileged && rgid != old.gid && rgid != old.egid {
            return Err(Errno::EPERM);
        }
        new.gid = rgid;
    }
    if egid != UNCHANGED {
        if !privileged && egid != old.gid && egid != old.egid && egid != old.sgid {
            return Err(Errno::EPERM);
        }
        new.egid = egid;
    }
    if rgid != UNCHANGED || egid != UNCHANGED && egid != old.gid {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    Ok(new)
}

pub fn setresgid(old: &Cred, rgid: u32, egid: u32, sgid: u32) -> Result<Cred> {
    let known = |id: u32| id == UNCHANGED || id == old.gid || id == old.egid || id == old.sgid;
    if !(known(rgid) && known(egid) && known(sgid)) {
        has(old, CAP_SETGID)?;
    }
    let mut new = old.clone();
    take(&mut new.gid, rgid);
    take(&mut new.egid, egid);
    take(&mut new.sgid, sgid);
    new.fsgid = new.egid;
    Ok(new)
}

pub fn setfsgid(old: &Cred, gid: u32) -> Option<Cred> {
    let known = gid == old.gid || gid == old.egid || gid == old.sgid || gid == old.fsgid;
    if gid == UNCHANGED || gid == old.fsgid || !known && !old.capable(CAP_SETGID) {
        return None;
    }
    Some(Cred { fsgid: gid, ..old.clone() })
}

/// setgroups(2): EPERM without CAP_SETGID.
pub fn setgroups(old: &Cred, mut groups: Vec<u32>) -> Result<Cred> {
    has(old, CAP_SETGID)?;
    groups.sort_unstable();
    Ok(Cred { groups: Arc::from(groups), ..old.clone() })
}

// ---- capabilities ----

/// capset(2): EPERM for what the rules of capabilities(7) do not allow.
pub fn capset(old: &Cred, effective: CapSet, permitted: CapSet, inheritable: CapSet) -> Result<Cred> {
    let setpcap = old.capable(CAP_SETPCAP);
    let inheritable_ok = setpcap || inheritable.is_subset_of(old.inheritable.or(old.permitted));
    let bounded = inheritable.is_subset_of(old.inheritable.or(old.bounding));
    if !inheritable_ok
        || !bounded
        || !permitted.is_subset_of(old.permitted)
        || !effective.is_subset_of(permitted)
    {
        return Err(Errno::EPERM);
    }
    let ambient = old.ambient.and(permitted.and(inheritable));
    Ok(Cred { effective, permitted, inheritable, ambient, ..old.clone() })
}

/// prctl(PR_CAPBSET_DROP).
pub fn drop_bounding(old: &Cred, capability: u32) -> Result<Cred> {
    has(old, CAP_SETPCAP)?;
    if capability > CAP_LAST_CAP {
        return Err(Errno::EINVAL);
    }
    Ok(Cred { bounding: old.bounding.without(capability), ..old.clone() })
}

/// prctl(PR_SET_SECUREBITS).
pub fn set_securebits(old: &Cred, bits: u32) -> Result<Cred> {
    const LOCKS: u32 = SECBIT_NOROOT_LOCKED
        | SECBIT_NO_SETUID_FIXUP_LOCKED
        | SECBIT_KEEP_CAPS_LOCKED
        | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    let changed = old.securebits ^ bits;
    let locked = (old.securebits & LOCKS) >> 1;
    let unlocked = old.securebits & LOCKS & !bits;
    if bits & !0xff != 0 || changed & locked != 0 || unlocked != 0 {
        return Err(Errno::EPERM);
    }
    has(old, CAP_SETPCAP)?;
    Ok(Cred { securebits: bits, ..old.clone() })
}

/// prctl(PR_SET_KEEPCAPS).
pub fn set_keepcaps(old: &Cred, keep: bool) -> Result<Cred> {
    if old.securebits & SECBIT_KEEP_CAPS_LOCKED != 0 {
        return Err(Errno::EPERM);
    }
    let bits = old.securebits & !SECBIT_KEEP_CAPS | if keep { SECBIT_KEEP_CAPS } else { 0 };
    Ok(Cred { securebits: bits, ..old.clone() })
}

/// Whether the caller may look into the memory and descriptors of `target` (ptrace(2), "Ptrace access mode checking", with
/// the real ids: PTRACE_MODE_REALCREDS). The credentials that count are those of this very thread.
pub fn may_trace(ctx: &Ctx, target: &Arc<crate::Thread>) -> bool {
    let subject = Subject { process: target.process().clone(), thread: Some(target.clone()), whole: false };
    access::check(ctx.cred(), ctx.thread.tid(), &subject, Ids::Real).is_ok()
}
