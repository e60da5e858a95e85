//! open(2), openat2(2), and opening for execution.

use crate::acl;
use crate::attr;
use crate::device;
use crate::file::{File, FileMode, FileOps, FileTraits, OpsRef};
use crate::fs_context::Caller;
use crate::inode::{FileType, InodeRef};
use crate::leases;
use crate::mount::MountFlags;
use crate::namei::create_locked;
use crate::notify;
use crate::path::Path;
use crate::permission;
use crate::pipe;
use crate::walk::{Last, LastName, Look, Start, Walk, lookup_locked, resolve};
use abi::fcntl::*;
use abi::inotify::{IN_MODIFY, IN_OPEN};
use abi::stat::{R_OK, S_IALLUGO, S_IFREG, W_OK, X_OK};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::any::Any;

/// How to open, as openat2(2) takes it, checked by [`OpenHow::check`].
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    pub flags: u32,
    pub mode: u32,
    pub look: Look,
}

impl OpenHow {
    /// From open(2)'s arguments: unknown flags are ignored.
    pub fn lenient(flags: u32, mode: u32) -> Result<OpenHow> {
        let mut flags = flags & VALID_OPEN_FLAGS;
        if flags & O_PATH != 0 {
            flags &= O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
        }
        let creates = flags & (O_CREAT | __O_TMPFILE) != 0;
        OpenHow::build(flags, if creates { mode & S_IALLUGO } else { 0 }, 0)
    }

    /// From openat2(2)'s structure: whatever is unknown or does not fit together is EINVAL.
    pub fn strict(how: &abi::fcntl::OpenHow) -> Result<OpenHow> {
        let flags = u32::try_from(how.flags).map_err(|_| Errno::EINVAL)?;
        if flags & !VALID_OPEN_FLAGS != 0 || how.resolve & !VALID_RESOLVE_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        const BOTH: u64 = RESOLVE_BENEATH | RESOLVE_IN_ROOT;
        let creates = flags & (O_CREAT | __O_TMPFILE) != 0;
        let allowed_mode = if creates { u64::from(S_IALLUGO) } else { 0 };
        if how.resolve & BOTH == BOTH || how.mode & !allowed_mode != 0 {
            return Err(Errno::EINVAL);
        }
        const PATH_FLAGS: u32 = O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
        if flags & O_PATH != 0 && flags & !PATH_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        if how.resolve & RESOLVE_CACHED != 0 && flags & (O_TRUNC | O_CREAT | __O_TMPFILE) != 0 {
            return Err(Errno::EAGAIN);
        }
        OpenHow::build(flags, how.mode as u32, how.resolve)
    }

    fn build(flags: u32, mode: u32, resolve: u64) -> Result<OpenHow> {
        if flags & (O_CREAT | O_DIRECTORY) == O_CREAT | O_DIRECTORY {
            return Err(Errno::EINVAL);
        }
        if flags & __O_TMPFILE != 0 && (flags & O_TMPFILE != O_TMPFILE || flags & O_ACCMODE == O_RDONLY) {
            return Err(Errno::EINVAL);
        }
        let mut look = Look::empty();
        for (bit, flag) in [
            (RESOLVE_NO_XDEV, Look::NO_XDEV),
            (RESOLVE_NO_MAGICLINKS, Look::NO_MAGICLINKS),
            (RESOLVE_NO_SYMLINKS, Look::NO_SYMLINKS),
            (RESOLVE_BENEATH, Look::BENEATH),
            (RESOLVE_IN_ROOT, Look::IN_ROOT),
        ] {
            look.set(flag, resolve & bit != 0);
        }
        look.set(Look::FOLLOW, flags & O_NOFOLLOW == 0);
        look.set(Look::DIRECTORY, flags & O_DIRECTORY != 0);
        Ok(OpenHow { flags, mode, look })
    }
}

/// Opens what `path` names.
pub fn open(caller: &Caller, start: Start, path: &[u8], how: OpenHow) -> Result<Arc<File>> {
    if how.flags & __O_TMPFILE != 0 {
        return open_unnamed(caller, start, path, how);
    }
    if how.flags & O_CREAT != 0 {
        return open_or_create(caller, start, path, how);
    }
    let place = resolve(caller, start, path, how.look)?;
    open_place(caller, place, how.flags, false)
}

/// Opens a place that a walk has found (also /proc/PID/fd: the same file again).
pub fn open_at_place(caller: &Caller, place: Path, flags: u32) -> Result<Arc<File>> {
    open_place(caller, place, flags, false)
}

/// O_CREAT: the last component is looked up again under the directory's lock before it is made.
fn open_or_create(caller: &Caller, start: Start, path: &[u8], how: OpenHow) -> Result<Arc<File>> {
    let exclusive = how.flags & O_EXCL != 0;
    let mut walk = Walk::new(caller, start, path, how.look)?;
    loop {
        let Last::Name(last) = walk.to_parent()? else {
            return Err(if exclusive { Errno::EEXIST } else { Errno::EISDIR });
        };
        if last.slash {
            return Err(Errno::EISDIR);
        }
        let place = match walk.lookup_last(&last)? {
            Some(place) => place,
            None => match create(caller, walk.at(), &last, how.mode)? {
                Created::New(place) => return open_place(caller, place, how.flags, true),
                // Somebody was faster.
                Created::Known => continue_after_race(&mut walk, &last)?,
            },
        };
        if exclusive {
            return Err(Errno::EEXIST);
        }
        if !place.inode().is_symlink() {
            return open_place(caller, place, how.flags, false);
        }
        if how.flags & O_NOFOLLOW != 0 {
            return Err(Errno::ELOOP);
        }
        if walk.follow_last(place.inode(), last.slash)? {
            return open_place(caller, walk.at().clone(), how.flags, false);
        }
    }
}

enum Created {
    New(Path),
    Known,
}

fn create(caller: &Caller, dir: &Path, last: &LastName, mode: u32) -> Result<Created> {
    let _contents = dir.inode().contents.write();
    if lookup_locked(&dir.dentry, &last.name, last.hash)?.is_some() {
        return Ok(Created::Known);
    }
    let dentry = create_locked(caller, dir, last, mode)?;
    Ok(Created::New(Path::new(dir.mount.clone(), dentry)))
}

fn continue_after_race(walk: &mut Walk, last: &LastName) -> Result<Path> {
    // Made and removed again at once: as if it had been removed after our open began.
    walk.lookup_last(last)?.ok_or(Errno::ENOENT)
}

/// O_TMPFILE: a file without a name in the file system of a directory.
fn open_unnamed(caller: &Caller, start: Start, path: &[u8], how: OpenHow) -> Result<Arc<File>> {
    let dir = resolve(caller, start, path, how.look | Look::DIRECTORY)?;
    let place = make_unnamed(caller, &dir, how.mode)?;
    open_place(caller, place, how.flags & !O_DIRECTORY, true)
}

/// Makes a file without a name in the file system of a directory (Linux's vfs_tmpfile). EOPNOTSUPP where that cannot be.
pub fn make_unnamed(caller: &Caller, dir: &Path, mode: u32) -> Result<Path> {
    dir.mount.check_writable()?;
    permission::check_inode(dir.inode(), W_OK | X_OK, caller)?;
    let mode = S_IFREG | mode & S_IALLUGO & !acl::umask(dir.inode(), caller);
    let inode = dir.inode().ops.tmpfile(dir.inode(), mode, caller.cred)?;
    let name = alloc::format!("#{}", inode.ino);
    let dentry = crate::Dentry::root(name.as_bytes(), inode);
    dentry.set_unlinked();
    Ok(Path::new(dir.mount.clone(), dentry))
}

/// Checks rights, counts the writer, asks the file system or driver, truncates.
fn open_place(caller: &Caller, place: Path, flags: u32, created: bool) -> Result<Arc<File>> {
    let inode = place.inode();
    let kind = inode.file_type();
    if flags & O_PATH != 0 {
        return Ok(File::new(place, OpsRef::Static(&PathOnly), flags));
    }
    if flags & O_DIRECTORY != 0 && kind != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    let writes = flags & O_ACCMODE != O_RDONLY;
    match kind {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Directory if writes || flags & (O_CREAT | O_TRUNC) != 0 => return Err(Errno::EISDIR),
        FileType::CharDevice | FileType::BlockDevice if place.mount.flags().contains(MountFlags::NODEV) => {
            return Err(Errno::EACCES);
        }
        FileType::Socket => return Err(Errno::ENXIO),
        _ => {}
    }
    if !created {
        permission::check_path(&place, access_mask(flags), caller)?;
    }
    // Append only: nothing that is there may change.
    if writes && flags & O_APPEND == 0 || flags & O_TRUNC != 0 {
        permission::check_not_append_only(inode)?;
    }
    if flags & O_NOATIME != 0 && !permission::is_owner(inode, caller.cred) {
        return Err(Errno::EPERM);
    }
    let counted = Counted::begin(&place, kind, flags)?;
    if kind == FileType::Regular {
        leases::break_lease(inode, flags)?;
    }
    let ops = open_ops(caller, inode, kind, flags)?;
    if flags & O_DIRECT != 0
        && matches!(kind, FileType::Regular | FileType::Directory)
        && !ops.traits().contains(FileTraits::DIRECT)
    {
        return Err(Errno::EINVAL);
    }
    let more = counted.keep();
    let file = File::with_mode(place, ops, flags, more);
    notify::file(&file, IN_OPEN);
    if flags & O_TRUNC != 0 && !created && kind == FileType::Regular {
        empty(&file, caller)?;
    }
    Ok(file)
}

/// The counts of an open that is under way: who writes, who reads only. Dropping it takes them back.
struct Counted<'a> {
    place: &'a Path,
    as_what: FileMode,
}

impl<'a> Counted<'a> {
    fn begin(place: &'a Path, kind: FileType, flags: u32) -> Result<Counted<'a>> {
        let mut as_what = FileMode::empty();
        match flags & O_ACCMODE {
            O_RDONLY if kind == FileType::Regular => {
                place.inode().begin_read();
                as_what = FileMode::READER;
            }
            O_RDONLY => {}
            _ if matches!(kind, FileType::Regular | FileType::Directory) => {
                place.mount.begin_write()?;
                if let Err(error) = place.inode().begin_write() {
                    place.mount.end_write();
                    return Err(error);
                }
                as_what = FileMode::WRITER;
            }
            _ => {}
        }
        Ok(Counted { place, as_what })
    }

    /// The file takes them over: its mode says so.
    fn keep(mut self) -> FileMode {
        core::mem::replace(&mut self.as_what, FileMode::empty())
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.as_what.contains(FileMode::READER) {
            self.place.inode().end_read();
        }
        if self.as_what.contains(FileMode::WRITER) {
            self.place.inode().end_write();
            self.place.mount.end_write();
        }
    }
}

/// What O_TRUNC does, also to a file that is opened for reading only: ETXTBSY for a running program.
fn empty(file: &File, caller: &Caller) -> Result<()> {
    file.inode().begin_write()?;
    let result = attr::resize(file.inode(), 0, u64::MAX, Some(caller.cred));
    file.inode().end_write();
    result?;
    notify::dentry(&file.path().dentry, IN_MODIFY);
    Ok(())
}

fn access_mask(flags: u32) -> u32 {
    let mask = match flags & O_ACCMODE {
        O_RDONLY => R_OK,
        O_WRONLY => W_OK,
        // 3: neither reading nor writing, but needs the rights to both (Linux's "ioctl only").
        _ => R_OK | W_OK,
    };
    if flags & O_TRUNC != 0 { mask | W_OK } else { mask }
}

fn open_ops(caller: &Caller, inode: &InodeRef, kind: FileType, flags: u32) -> Result<OpsRef> {
    match kind {
        FileType::CharDevice => device::open(device::Kind::Char, inode, flags, caller),
        FileType::BlockDevice => device::open(device::Kind::Block, inode, flags, caller),
        FileType::Fifo => pipe::open_fifo(inode, flags),
        _ => inode.ops.open(inode, flags, caller),
    }
}

/// Opens a program: a regular file that may be executed. While the file lives nobody can write it
/// (ETXTBSY). EACCES for everything that is no executable file.
pub fn open_exec(caller: &Caller, start: Start, path: &[u8], look: Look) -> Result<Arc<File>> {
    let place = resolve(caller, start, path, look)?;
    let inode = place.inode();
    if inode.is_symlink() {
        return Err(Errno::ELOOP);
    }
    if !inode.is_regular() || place.mount.flags().contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES);
    }
    permission::check_inode(inode, X_OK, caller)?;
    inode.deny_write()?;
    let open = || -> Result<(OpsRef, FileMode)> {
        let counted = Counted::begin(&place, FileType::Regular, O_RDONLY)?;
        leases::break_lease(inode, O_RDONLY)?;
        let ops = inode.ops.open(inode, O_RDONLY, caller)?;
        Ok((ops, counted.keep()))
    };
    let (ops, more) = open().inspect_err(|_| inode.allow_write())?;
    let file = File::with_mode(place, ops, O_RDONLY | O_LARGEFILE, FileMode::EXEC | more);
    notify::file(&file, IN_OPEN);
    Ok(file)
}

/// A file of the kernel's own for an object that is in no tree (pipe, eventfd, epoll); see [`crate::anon`].
pub fn pseudo_file(name: &[u8], inode: InodeRef, ops: OpsRef, flags: u32) -> Arc<File> {
    let dentry = crate::Dentry::root(name, inode);
    File::new(Path::new(crate::anon::mount().clone(), dentry), ops, flags)
}

/// The operations of an O_PATH descriptor.
pub(crate) fn path_only() -> OpsRef {
    OpsRef::Static(&PathOnly)
}

/// What an O_PATH descriptor can do: nothing.
struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
