//! Who may do what to a file: path_resolution(7), "Permissions", and the rules of unlink and chmod.

use crate::acl;
use crate::cred::Cred;
use crate::file::{File, FileMode};
use crate::fs_context::Caller;
use crate::inode::{Inode, InodeRef};
use crate::path::Path;
use abi::cap::{CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER};
use abi::fcntl::{FS_APPEND_FL, FS_IMMUTABLE_FL};
use abi::stat::{R_OK, S_IRWXG, S_IRWXUGO, S_ISVTX, W_OK, X_OK};
use abi::{Errno, errno::Result};

/// Whether the caller may search the directory. The common case first: everybody may.
#[inline]
pub fn may_search(inode: &InodeRef, caller: &Caller) -> Result<()> {
    if inode.mode() & 0o111 == 0o111 && !custom(inode) && !inode.may_have_acl() {
        Ok(())
    } else {
        check_inode(inode, X_OK, caller)
    }
}

/// File systems of generated files may decide themselves; they say so by flag.
#[inline]
fn custom(inode: &Inode) -> bool {
    inode.flags.contains(crate::inode::InodeFlags::REVALIDATE)
}

/// Whether `cred` has all of the rights in `mask` (R_OK, W_OK, X_OK). EACCES. Mounts are not looked at.
pub fn check(inode: &InodeRef, mask: u32, cred: &Cred) -> Result<()> {
    let mode = inode.mode();
    let shift = if cred.fsuid == inode.uid() {
        6
    } else if inode.may_have_acl()
        && mode & S_IRWXG != 0
        && let Some(permitted) = acl::permits(inode, mask, cred)
    {
        return if permitted { Ok(()) } else { check_privileged(inode, mask, cred) };
    } else if (mode >> 3 ^ mode) & mask & 7 != 0 && cred.in_group(inode.gid()) {
        // The group is looked up only when its rights differ from everybody's.
        3
    } else {
        0
    };
    if mode >> shift & mask == mask { Ok(()) } else { check_privileged(inode, mask, cred) }
}

#[cold]
fn check_privileged(inode: &Inode, mask: u32, cred: &Cred) -> Result<()> {
    let search_only = mask & W_OK == 0;
    if inode.is_dir() {
        if search_only && cred.capable(CAP_DAC_READ_SEARCH) || cred.capable(CAP_DAC_OVERRIDE) {
            return Ok(());
        }
        return Err(Errno::EACCES);
    }
    if mask == R_OK && cred.capable(CAP_DAC_READ_SEARCH) {
        return Ok(());
    }
    let executable = mask & X_OK == 0 || inode.mode() & S_IRWXUGO & 0o111 != 0;
    if executable && cred.capable(CAP_DAC_OVERRIDE) { Ok(()) } else { Err(Errno::EACCES) }
}

/// The full check of a place: the file system's own rule if it has one, read-only mounts for writing.
pub fn check_path(path: &Path, mask: u32, caller: &Caller) -> Result<()> {
    let inode = path.inode();
    if mask & W_OK != 0 && path.mount.is_read_only() {
        use crate::inode::FileType::*;
        if matches!(inode.file_type(), Regular | Directory | Symlink) {
            return Err(Errno::EROFS);
        }
    }
    check_inode(inode, mask, caller)
}

/// [`check`] with the file system's own rule. EPERM for writing what is immutable.
pub fn check_inode(inode: &InodeRef, mask: u32, caller: &Caller) -> Result<()> {
    if mask & W_OK != 0 && inode.attributes() & FS_IMMUTABLE_FL != 0 {
        return Err(Errno::EPERM);
    }
    if custom(inode)
        && let Some(answer) = inode.ops.permission(inode, mask, caller)
    {
        return answer;
    }
    check(inode, mask, caller.cred)
}

/// EPERM for attributes and names of what is immutable or append only.
#[inline]
pub fn check_changeable(inode: &Inode) -> Result<()> {
    if inode.attributes() & (FS_IMMUTABLE_FL | FS_APPEND_FL) != 0 { Err(Errno::EPERM) } else { Ok(()) }
}

/// EPERM for anything but adding to what is append only.
#[inline]
pub fn check_not_append_only(inode: &Inode) -> Result<()> {
    if inode.attributes() & FS_APPEND_FL != 0 { Err(Errno::EPERM) } else { Ok(()) }
}

/// Owner, or CAP_FOWNER.
pub fn is_owner(inode: &Inode, cred: &Cred) -> bool {
    cred.fsuid == inode.uid() || cred.capable(CAP_FOWNER)
}

/// Whether the sticky bit of `dir` keeps `cred` from removing `inode`.
pub fn sticky_forbids(dir: &Inode, inode: &Inode, cred: &Cred) -> bool {
    dir.mode() & S_ISVTX != 0
        && cred.fsuid != inode.uid()
        && cred.fsuid != dir.uid()
        && !cred.capable(CAP_FOWNER)
}

/// Whether the caller may know what of an open file is in memory: who could write it, since others could learn from that
/// what programs do.
pub fn may_see_residency(file: &File, caller: &Caller) -> bool {
    let inode = file.inode();
    file.mode().contains(FileMode::WRITE)
        || is_owner(inode, caller.cred)
        || check_inode(inode, W_OK, caller).is_ok()
}
