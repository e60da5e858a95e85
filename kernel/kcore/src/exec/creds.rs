//! What exec does to credentials: set-user-id files, capabilities (capabilities(7)).

use crate::Ctx;
use abi::cap::{SECBIT_KEEP_CAPS, SECBIT_NOROOT};
use abi::stat::{S_ISGID, S_ISUID, S_IXGRP};
use alloc::sync::Arc;
use vfs::{CapSet, Cred, File, MountFlags};

/// Credentials of the new program.
pub(super) struct NewCred {
    pub cred: Arc<Cred>,
    /// AT_SECURE: the program got rights that its caller had not.
    pub secure: bool,
}

pub(super) fn prepare(ctx: &Ctx, file: &File) -> NewCred {
    let old = ctx.cred();
    let mut new = (**old).clone();
    take_file_ids(&mut new, file);
    new.suid = new.euid;
    new.fsuid = new.euid;
    new.sgid = new.egid;
    new.fsgid = new.egid;
    let ids_changed = new.euid != old.euid || new.egid != old.egid;
    if ids_changed {
        new.ambient = CapSet::EMPTY;
    }
    transform_capabilities(&mut new);
    new.securebits &= !SECBIT_KEEP_CAPS;
    let gained = new.uid != 0 && !new.permitted.is_subset_of(new.ambient);
    NewCred { cred: Arc::new(new), secure: ids_changed || gained }
}

/// Set-user-id and set-group-id, unless the mount or the process forbids it.
fn take_file_ids(new: &mut Cred, file: &File) {
    if file.path().mount.flags().contains(MountFlags::NOSUID) || new.no_new_privs {
        return;
    }
    let inode = file.inode();
    let mode = inode.mode();
    if mode & S_ISUID != 0 {
        new.euid = inode.uid();
    }
    // Set-group-id without group execution marks mandatory locking, not privilege.
    if mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
        new.egid = inode.gid();
    }
}

/// Files carry no capabilities here, so only root's rule and the ambient set matter.
fn transform_capabilities(new: &mut Cred) {
    let root = new.securebits & SECBIT_NOROOT == 0 && (new.euid == 0 || new.uid == 0);
    if root {
        new.permitted = new.bounding.or(new.inheritable);
        new.effective = if new.euid == 0 { new.permitted } else { CapSet::EMPTY };
    } else {
        new.permitted = new.ambient;
        new.effective = new.ambient;
    }
}
