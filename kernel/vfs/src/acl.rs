//! POSIX access control lists of files, acl(5): where the file layer meets them.
//!
//! A list is an extended attribute that the file system keeps; it also keeps the mode's permission bits in step, at
//! chmod, at setxattr and for new files. Here is who may change a list, and what one says ([`permission`] asks).
//! Most files have none: an inode knows whether it may have one ([`Inode::may_have_acl`]), so that they cost nothing.
//!
//! [`permission`]: crate::permission
//! [`Inode::may_have_acl`]: crate::Inode::may_have_acl

use crate::attr::SetAttr;
use crate::cred::Cred;
use crate::fs_context::Caller;
use crate::inode::{FileType, InodeRef};
use crate::path::Path;
use crate::permission;
use abi::cap::CAP_FSETID;
use abi::stat::{S_IALLUGO, S_ISGID};
use abi::{Errno, errno::Result};
use alloc::vec::Vec;
use posixacl::AclEntry;
pub use posixacl::{ACCESS, DEFAULT};

/// Whether an attribute's name is that of a list.
pub fn is_name(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

/// A file's list; `None` when it has none.
fn load(inode: &InodeRef, name: &[u8]) -> Result<Option<Vec<AclEntry>>> {
    match inode.ops.get_xattr(inode, name) {
        Ok(bytes) => posixacl::from_user(&bytes).map(Some),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the list of a file says about somebody who does not own it; `None` without a list. One that cannot be read
/// refuses.
#[cold]
pub(crate) fn permits(inode: &InodeRef, mask: u32, cred: &Cred) -> Option<bool> {
    match load(inode, ACCESS) {
        Ok(None) => None,
        Ok(Some(list)) => {
            Some(posixacl::permits(&list, mask & 7, cred.fsuid, inode.gid(), |group| cred.in_group(group)))
        }
        Err(_) => Some(false),
    }
}

/// The umask for a new file in `dir`: none where a default list decides.
pub(crate) fn umask(dir: &InodeRef, caller: &Caller) -> u32 {
    let listed = dir.may_have_acl() && !matches!(load(dir, DEFAULT), Ok(None));
    if listed { 0 } else { caller.fs.umask() }
}

/// What the default list of `dir` gives to something new in it that the file system made elsewhere: the list of its own,
/// if there is more to it than to `mode`, which is changed; and for a directory the default list.
pub fn inherit(dir: &InodeRef, mode: &mut u32) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>)> {
    let kind = FileType::of_mode(*mode);
    let listed = dir.may_have_acl() && kind != FileType::Symlink;
    let Some(default) = (if listed { load(dir, DEFAULT)? } else { None }) else { return Ok((None, None)) };
    let mut own = default.clone();
    posixacl::inherit(&mut own, mode);
    let own = (!posixacl::to_mode(&own).1).then(|| posixacl::to_user(&own));
    Ok((own, (kind == FileType::Directory).then(|| posixacl::to_user(&default))))
}

/// Whether `caller` may set (`sets`) or remove the list `name` of a place: the owner may. EPERM; EACCES for a default
/// list of what is no directory; EOPNOTSUPP for a symbolic link.
pub fn check_change(caller: &Caller, place: &Path, name: &[u8], sets: bool) -> Result<()> {
    let inode = place.inode();
    if inode.is_symlink() {
        return Err(Errno::EOPNOTSUPP);
    }
    permission::check_changeable(inode)?;
    if !permission::is_owner(inode, caller.cred) {
        return Err(Errno::EPERM);
    }
    if name == DEFAULT && !inode.is_dir() && sets { Err(Errno::EACCES) } else { Ok(()) }
}

/// After a list was set, with the inode's lock held: who is not in the file's group cannot keep it set-group-id.
pub fn changed(caller: &Caller, inode: &InodeRef) -> Result<()> {
    inode.set_may_have_acl();
    let mode = inode.mode();
    if mode & S_ISGID == 0 || caller.cred.in_group(inode.gid()) || caller.capable(CAP_FSETID) {
        return Ok(());
    }
    let mode = Some(mode & S_IALLUGO & !S_ISGID);
    inode.ops.setattr(inode, &SetAttr { mode, ..SetAttr::default() })
}
