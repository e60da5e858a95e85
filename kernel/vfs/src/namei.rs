//! Making, removing and renaming names: mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rename(2).
//!
//! All work the same way: walk to the directory, lock it, look the last component up under the lock,
//! check rights, let the file system change itself, then change the dentry cache. The directory's lock
//! orders it all; a walk that misses the cache waits for it.

use crate::acl;
use crate::dcache;
use crate::dentry::Dentry;
use crate::fs_context::Caller;
use crate::inode::{FileType, InodeFlags, InodeRef, Rename};
use crate::notify;
use crate::path::Path;
use crate::permission;
use crate::walk::{Last, LastName, Look, Start, Walk, lookup_locked};
use abi::cap::CAP_MKNOD;
use abi::fcntl::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
use abi::inotify::{IN_ATTRIB, IN_CREATE, IN_DELETE, IN_MOVE_SELF};
use abi::stat::*;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;

/// What [`make`] makes.
pub enum New<'a> {
    Directory {
        mode: u32,
    },
    /// A regular file, device, FIFO or socket; `mode` has the type.
    Node {
        mode: u32,
        dev: DevId,
    },
    Symlink {
        target: &'a [u8],
    },
}

/// The directory and the name at the end of a path that must be a name.
fn parent_of(caller: &Caller, start: Start, path: &[u8], look: Look) -> Result<(Path, Last)> {
    let mut walk = Walk::new(caller, start, path, look)?;
    let last = walk.to_parent()?;
    Ok((walk.into_at(), last))
}

/// Rights to change the directory's entries.
fn may_change(dir: &Path, caller: &Caller) -> Result<()> {
    dir.mount.check_writable()?;
    permission::check_inode(dir.inode(), W_OK | X_OK, caller)
}

/// Rights to remove or replace `victim` in `dir`.
fn may_remove(dir: &Path, victim: &InodeRef, caller: &Caller) -> Result<()> {
    permission::check_inode(dir.inode(), W_OK | X_OK, caller)?;
    permission::check_not_append_only(dir.inode())?;
    permission::check_changeable(victim)?;
    if permission::sticky_forbids(dir.inode(), victim, caller.cred) || victim.is_swap_file() {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Remembers a new inode under its name, and tells who watches the directory.
fn instantiate(dir: &Arc<Dentry>, last: &LastName, inode: InodeRef) -> Result<Arc<Dentry>> {
    let dentry = Dentry::child(dir, &last.name, inode);
    notify::name(dir.inode(), IN_CREATE, &last.name, dentry.inode());
    if dir.inode().flags.contains(InodeFlags::NO_CACHE) {
        return Ok(dentry);
    }
    let known = dcache::insert(dir, &last.name, last.hash, Some(dentry.clone()))?;
    sync_names(dir.inode())?;
    Ok(known.unwrap_or(dentry))
}

/// The end of a change of names: where the directory asks for that, it is on the medium now. An error says that it
/// may not be; the change stands.
fn sync_names(dir: &InodeRef) -> Result<()> {
    if dir.has_synchronous_names() { dir.ops.sync_metadata(dir) } else { Ok(()) }
}

/// Makes a regular file in a locked directory, where the name is free: open(2) with O_CREAT.
pub(crate) fn create_locked(caller: &Caller, dir: &Path, last: &LastName, mode: u32) -> Result<Arc<Dentry>> {
    let inode = dir.inode();
    if inode.nlink() == 0 {
        return Err(Errno::ENOENT);
    }
    may_change(dir, caller)?;
    let mode = S_IFREG | mode & S_IALLUGO & !acl::umask(inode, caller);
    let new = inode.ops.create(inode, &last.name, mode, caller.cred)?;
    instantiate(&dir.dentry, last, new)
}

/// mkdir(2), mknod(2), symlink(2).
pub fn make(caller: &Caller, start: Start, path: &[u8], new: New) -> Result<()> {
    make_path(caller, start, path, new).map(drop)
}

/// As [`make`]; gives the new place (bind(2) of Unix sockets).
pub fn make_path(caller: &Caller, start: Start, path: &[u8], new: New) -> Result<Path> {
    let (dir, last) = parent_of(caller, start, path, Look::empty())?;
    let Last::Name(last) = last else { return Err(Errno::EEXIST) };
    make_at(caller, &dir, &last, new)
}

/// A character device 0:0 is no device: overlayfs's mark of a name that was removed. Everybody may make one.
fn is_whiteout(mode: u32, dev: DevId) -> bool {
    FileType::of_mode(mode) == FileType::CharDevice && dev == DevId::default()
}

/// As [`make_path`], in a directory that is known.
fn make_at(caller: &Caller, dir: &Path, last: &LastName, new: New) -> Result<Path> {
    let inode = dir.inode();
    let _contents = inode.contents.write();
    if lookup_locked(&dir.dentry, &last.name, last.hash)?.is_some() {
        return Err(Errno::EEXIST);
    }
    if last.slash && !matches!(new, New::Directory { .. }) {
        return Err(Errno::ENOENT);
    }
    if inode.nlink() == 0 {
        return Err(Errno::ENOENT);
    }
    may_change(dir, caller)?;
    let name = &*last.name;
    let (cred, umask) = (caller.cred, acl::umask(inode, caller));
    let made = match new {
        New::Directory { mode } => {
            let mode = S_IFDIR | mode & (S_IRWXUGO | S_ISVTX) & !umask;
            inode.ops.mkdir(inode, name, mode, cred)?
        }
        New::Symlink { target } => inode.ops.symlink(inode, name, target, cred)?,
        New::Node { mode, dev } => {
            let mode = mode & (S_IFMT | S_IALLUGO & !umask);
            match FileType::of_mode(mode) {
                FileType::Regular => inode.ops.create(inode, name, mode, cred)?,
                FileType::CharDevice | FileType::BlockDevice
                    if !is_whiteout(mode, dev) && !caller.capable(CAP_MKNOD) =>
                {
                    return Err(Errno::EPERM);
                }
                FileType::CharDevice | FileType::BlockDevice => {
                    inode.ops.mknod(inode, name, mode, dev, cred)?
                }
                FileType::Fifo | FileType::Socket => {
                    inode.ops.mknod(inode, name, mode, DevId::default(), cred)?
                }
                FileType::Directory => return Err(Errno::EPERM),
                FileType::Symlink | FileType::Anonymous => return Err(Errno::EINVAL),
            }
        }
    };
    let dentry = instantiate(&dir.dentry, last, made)?;
    Ok(Path::new(dir.mount.clone(), dentry))
}

/// link(2): a second name for `old`.
pub fn link(caller: &Caller, old: &Path, start: Start, path: &[u8]) -> Result<()> {
    let (dir, last) = parent_of(caller, start, path, Look::empty())?;
    let Last::Name(last) = last else { return Err(Errno::EEXIST) };
    if !Arc::ptr_eq(&dir.mount, &old.mount) {
        return Err(Errno::EXDEV);
    }
    let inode = dir.inode();
    let _contents = inode.contents.write();
    if lookup_locked(&dir.dentry, &last.name, last.hash)?.is_some() {
        return Err(Errno::EEXIST);
    }
    if last.slash || inode.nlink() == 0 {
        return Err(Errno::ENOENT);
    }
    may_change(&dir, caller)?;
    let target = old.inode();
    if target.is_dir() {
        return Err(Errno::EPERM);
    }
    permission::check_changeable(target)?;
    if !Arc::ptr_eq(&target.sb, &inode.sb) {
        return Err(Errno::EXDEV);
    }
    // A file whose last name is gone can be linked again only when it was made without one (O_TMPFILE).
    if target.nlink() == 0 && old.dentry.parent().is_some() {
        return Err(Errno::ENOENT);
    }
    inode.ops.link(inode, &last.name, target)?;
    notify::inode(target, IN_ATTRIB);
    instantiate(&dir.dentry, &last, target.clone()).map(drop)
}

/// unlink(2).
pub fn unlink(caller: &Caller, start: Start, path: &[u8]) -> Result<()> {
    let (dir, last) = parent_of(caller, start, path, Look::empty())?;
    let Last::Name(last) = last else { return Err(Errno::EISDIR) };
    let contents = dir.inode().contents.write();
    let victim = lookup_locked(&dir.dentry, &last.name, last.hash)?.ok_or(Errno::ENOENT)?;
    let inode = victim.inode();
    if last.slash {
        return Err(if inode.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    dir.mount.check_writable()?;
    may_remove(&dir, inode, caller)?;
    if inode.is_dir() {
        return Err(Errno::EISDIR);
    }
    if victim.is_mountpoint() {
        return Err(Errno::EBUSY);
    }
    dir.inode().ops.unlink(dir.inode(), &last.name, inode)?;
    notify::inode(inode, IN_ATTRIB);
    let inode = forget(&dir.dentry, &last, victim);
    drop(contents);
    // The last reference to the file drops here, with no lock held: its pages are freed now.
    drop(inode);
    sync_names(dir.inode())
}

/// The name is gone: from the cache, and for those who watch, first the file if nobody has it open, then the directory.
fn forget(dir: &Arc<Dentry>, last: &LastName, victim: Arc<Dentry>) -> InodeRef {
    match dir.inode().flags.contains(InodeFlags::FOLDED) {
        // It may have been found by another name.
        true => dcache::remove_dentry(&victim),
        false => drop(dcache::remove(dir, &last.name, last.hash)),
    }
    victim.set_unlinked();
    let inode = victim.inode().clone();
    drop(victim);
    notify::name(dir.inode(), IN_DELETE, &last.name, &inode);
    inode
}

/// rmdir(2).
pub fn rmdir(caller: &Caller, start: Start, path: &[u8]) -> Result<()> {
    let (dir, last) = parent_of(caller, start, path, Look::empty())?;
    let last = match last {
        Last::Name(last) => last,
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    };
    let contents = dir.inode().contents.write();
    let victim = lookup_locked(&dir.dentry, &last.name, last.hash)?.ok_or(Errno::ENOENT)?;
    let inode = victim.inode();
    dir.mount.check_writable()?;
    may_remove(&dir, inode, caller)?;
    if !inode.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if victim.is_mountpoint() {
        return Err(Errno::EBUSY);
    }
    {
        let _child = inode.contents.write_nested();
        dir.inode().ops.rmdir(dir.inode(), &last.name, inode)?;
    }
    dcache::prune_children(&victim);
    let inode = forget(&dir.dentry, &last, victim);
    drop(contents);
    drop(inode);
    sync_names(dir.inode())
}

/// renameat2(2).
pub fn rename(
    caller: &Caller,
    (old_start, old_path): (Start, &[u8]),
    (new_start, new_path): (Start, &[u8]),
    flags: u32,
) -> Result<()> {
    if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) != 0
        || flags & RENAME_EXCHANGE != 0 && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT) != 0
    {
        return Err(Errno::EINVAL);
    }
    let (old_dir, old_last) = parent_of(caller, old_start, old_path, Look::empty())?;
    let (new_dir, new_last) = parent_of(caller, new_start, new_path, Look::empty())?;
    if !Arc::ptr_eq(&old_dir.mount, &new_dir.mount) {
        return Err(Errno::EXDEV);
    }
    let Last::Name(old_last) = old_last else { return Err(Errno::EBUSY) };
    let Last::Name(new_last) = new_last else {
        return Err(if flags & RENAME_NOREPLACE != 0 { Errno::EEXIST } else { Errno::EBUSY });
    };
    old_dir.mount.check_writable()?;
    let sb = old_dir.mount.sb().clone();
    // Across directories one rename at a time, so that no two can make a cycle.
    let across = !Arc::ptr_eq(&old_dir.dentry, &new_dir.dentry);
    let _across = across.then(|| sb.rename.lock());
    let old_first = !across || !old_dir.dentry.is_within(&new_dir.dentry);
    let (first, second) = if old_first { (&old_dir, &new_dir) } else { (&new_dir, &old_dir) };
    let _first = first.inode().contents.write();
    let _second = across.then(|| second.inode().contents.write_nested());
    rename_locked(caller, (&old_dir, &old_last), (&new_dir, &new_last), flags)
}

fn rename_locked(
    caller: &Caller,
    (old_dir, old_last): (&Path, &LastName),
    (new_dir, new_last): (&Path, &LastName),
    flags: u32,
) -> Result<()> {
    let old = lookup_locked(&old_dir.dentry, &old_last.name, old_last.hash)?.ok_or(Errno::ENOENT)?;
    let mut target = lookup_locked(&new_dir.dentry, &new_last.name, new_last.hash)?;
    let exchange = flags & RENAME_EXCHANGE != 0;
    if flags & RENAME_NOREPLACE != 0 && target.is_some() {
        return Err(Errno::EEXIST);
    }
    if exchange && target.is_none() {
        return Err(Errno::ENOENT);
    }
    if !old.inode().is_dir() && (old_last.slash || !exchange && new_last.slash) {
        return Err(Errno::ENOTDIR);
    }
    // A directory may not move below itself, nor a file over a directory that contains it.
    if new_dir.dentry.is_within(&old) {
        return Err(Errno::EINVAL);
    }
    if target.as_ref().is_some_and(|target| old_dir.dentry.is_within(target)) {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    let respelled = target.as_ref().is_some_and(|target| Arc::ptr_eq(target, &old))
        && new_dir.inode().flags.contains(InodeFlags::FOLDED)
        && !exchange
        && *old.name() != *new_last.name;
    if respelled {
        // The same name by case: it becomes what was asked for.
        target = None;
    }
    if target.as_ref().is_some_and(|target| target.inode().same(old.inode())) {
        // Two names of one file: nothing happens (rename(2)).
        return Ok(());
    }
    check_rename(caller, (old_dir, &old), (new_dir, target.as_ref()), exchange)?;
    let request = Rename {
        old_dir: old_dir.inode(),
        old_name: &old_last.name,
        inode: old.inode(),
        new_dir: new_dir.inode(),
        new_name: &new_last.name,
        target: target.as_ref().map(|target| target.inode()),
        flags,
        cred: caller.cred,
    };
    {
        // A directory that is replaced must stay empty until it is gone.
        let replaced = target.as_ref().filter(|target| !exchange && target.inode().is_dir());
        let _replaced = replaced.map(|target| target.inode().contents.write_nested());
        old_dir.inode().ops.rename(&request)?;
    }
    match &target {
        Some(target) if exchange => dcache::exchange(&old, target)?,
        target => {
            if let Some(target) = target {
                dcache::prune_children(target);
                if new_dir.inode().flags.contains(InodeFlags::FOLDED) {
                    dcache::remove_dentry(target);
                }
                target.set_unlinked();
            }
            dcache::rename(&old, &new_dir.dentry, &new_last.name)?;
        }
    }
    let (from, to) = ((old_dir.inode(), &*old_last.name), (new_dir.inode(), &*new_last.name));
    tell_moved(from, to, old.inode(), target.as_ref().filter(|_| !exchange).map(|target| target.inode()));
    if let Some(target) = target.filter(|_| exchange) {
        tell_moved(to, from, target.inode(), None);
    }
    sync_names(new_dir.inode())?;
    sync_names(old_dir.inode())
}

/// Tells those who watch of a rename, in which `replaced` lost a name.
fn tell_moved(
    from: (&InodeRef, &[u8]),
    to: (&InodeRef, &[u8]),
    subject: &InodeRef,
    replaced: Option<&InodeRef>,
) {
    notify::moved(from, to, subject);
    if let Some(replaced) = replaced {
        notify::inode(replaced, IN_ATTRIB);
    }
    notify::inode(subject, IN_MOVE_SELF);
}

fn check_rename(
    caller: &Caller,
    (old_dir, old): (&Path, &Arc<Dentry>),
    (new_dir, target): (&Path, Option<&Arc<Dentry>>),
    exchange: bool,
) -> Result<()> {
    may_remove(old_dir, old.inode(), caller)?;
    match target {
        Some(target) => may_remove(new_dir, target.inode(), caller)?,
        None if new_dir.inode().nlink() == 0 => return Err(Errno::ENOENT),
        None => permission::check_inode(new_dir.inode(), W_OK | X_OK, caller)?,
    }
    let is_dir = old.inode().is_dir();
    if let Some(target) = target
        && !exchange
    {
        match (is_dir, target.inode().is_dir()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
    }
    // The ".." of a moved directory changes: writing it needs rights to it.
    let moves = !Arc::ptr_eq(&old_dir.dentry, &new_dir.dentry);
    if moves && is_dir {
        permission::check_inode(old.inode(), W_OK, caller)?;
    }
    if moves
        && exchange
        && let Some(target) = target.filter(|target| target.inode().is_dir())
    {
        permission::check_inode(target.inode(), W_OK, caller)?;
    }
    if old.is_mountpoint() || target.is_some_and(|target| target.is_mountpoint()) {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

/// readlink(2) of a place that is a link.
pub fn readlink(caller: &Caller, path: &Path) -> Result<alloc::vec::Vec<u8>> {
    let inode = path.inode();
    if !inode.is_symlink() {
        return Err(Errno::EINVAL);
    }
    inode.ops.readlink(inode, caller)
}

/// chdir(2) and fchdir(2): a directory that may be searched.
pub fn change_dir(caller: &Caller, path: Path) -> Result<()> {
    if !path.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    permission::check_inode(path.inode(), X_OK, caller)?;
    caller.fs.set_cwd(path);
    Ok(())
}

/// chroot(2).
pub fn change_root(caller: &Caller, path: Path) -> Result<()> {
    if !path.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    permission::check_inode(path.inode(), X_OK, caller)?;
    if !caller.capable(abi::cap::CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    caller.fs.set_root(path);
    Ok(())
}
