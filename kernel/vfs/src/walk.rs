//! The path walk (path_resolution(7); Linux's namei.c).
//!
//! ```text
//!   start ----> directory: may I search it? ---> component: "." ".." or a name
//!                  ^                                   |
//!                  |                         cache -- miss --> file system, directory locked
//!                  |                                   |
//!                  +---- directory <--- mounts on it --+---> symbolic link: its text goes in front
//! ```
//!
//! **Interface.** [`resolve`] finds a place. [`Walk`] is for what works on the last component: it stops
//! before it, with the directory in hand ([`Walk::to_parent`]), and can go on when that turns out to be a
//! link.
//!
//! **Idea.** The walk owns one counted reference at a time, to where it stands. A component costs one
//! pass over its bytes, one bucket of the dentry cache, one count up and one down; no allocation, no lock
//! that is not the bucket's.

use crate::dcache::{self, Found};
use crate::dentry::Dentry;
use crate::fs_context::Caller;
use crate::inode::{FileType, InodeFlags, InodeRef, Link};
use crate::mount::{MountFlags, follow_down};
use crate::path::Path;
use crate::permission;
use abi::fs::{MAXSYMLINKS, NAME_MAX};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use bitflags::bitflags;
use pathname::{Cursor, Name};

bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Look: u32 {
        /// Follow a symbolic link at the end.
        const FOLLOW = 1;
        /// The end must be a directory.
        const DIRECTORY = 2;
        /// An empty path means the start itself (AT_EMPTY_PATH).
        const EMPTY = 4;
        /// RESOLVE_* of openat2(2).
        const NO_XDEV = 8;
        const NO_MAGICLINKS = 16;
        const NO_SYMLINKS = 32;
        const BENEATH = 64;
        const IN_ROOT = 128;
        const CACHED = 256;
    }
}

impl Look {
    /// Either restriction to the start's tree.
    const SCOPED: Look = Look::BENEATH.union(Look::IN_ROOT);
}

/// Where a relative path starts.
pub enum Start<'a> {
    /// The current directory.
    Cwd,
    /// An open file's place (the `dirfd` of the *at calls).
    At(&'a Path),
}

/// The last component of a path.
#[derive(Debug)]
pub enum Last {
    /// A name, still to be looked up in the directory where the walk stands.
    Name(LastName),
    /// The path ended in `.`; the walk stands there.
    Dot,
    /// The path ended in `..`; the walk stands there.
    DotDot,
    /// The path was `/`; the walk stands there.
    Root,
}

/// A name at the end.
#[derive(Debug, Clone)]
pub struct LastName {
    pub name: Name,
    pub hash: u64,
    /// A slash follows: it must be a directory, and a link is followed.
    pub slash: bool,
}

/// A walk in progress.
pub struct Walk<'a> {
    caller: &'a Caller<'a>,
    at: Path,
    /// Fetched when it is needed: absolute paths and links, `..`.
    root: Option<Path>,
    cursor: Cursor<'a>,
    look: Look,
    links: u32,
    /// A link with a trailing slash was followed: the end must be a directory.
    must_be_dir: bool,
}

/// Finds the place that `path` names.
///
/// Errors as in path_resolution(7): ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG; EXDEV for RESOLVE_*.
pub fn resolve(caller: &Caller, start: Start, path: &[u8], look: Look) -> Result<Path> {
    let end = Walk::new(caller, start, path, look)?.finish()?;
    if look.contains(Look::DIRECTORY) && !end.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    Ok(end)
}

impl<'a> Walk<'a> {
    /// A walk at its start.
    pub fn new(caller: &'a Caller<'a>, start: Start, path: &'a [u8], look: Look) -> Result<Walk<'a>> {
        if path.is_empty() && !look.contains(Look::EMPTY) {
            return Err(Errno::ENOENT);
        }
        let mut root = None;
        let absolute = path.first() == Some(&b'/');
        let at = match start {
            Start::At(path) if look.intersects(Look::SCOPED) || !absolute => path.clone(),
            Start::Cwd if look.intersects(Look::SCOPED) || !absolute => caller.fs.cwd(),
            _ => caller.fs.root(),
        };
        if look.intersects(Look::SCOPED) {
            if absolute && look.contains(Look::BENEATH) {
                return Err(Errno::EXDEV);
            }
            root = Some(at.clone());
        }
        let cursor = Cursor::new(path, dcache::seed());
        Ok(Walk { caller, at, root, cursor, look, links: 0, must_be_dir: false })
    }

    /// Where the walk stands: after [`Walk::to_parent`], the directory of the last component.
    pub fn at(&self) -> &Path {
        &self.at
    }

    pub fn into_at(self) -> Path {
        self.at
    }

    fn root(&mut self) -> &Path {
        let fs = self.caller.fs;
        self.root.get_or_insert_with(|| fs.root())
    }

    /// Walks to the end, links there included if [`Look::FOLLOW`] says so.
    pub fn finish(mut self) -> Result<Path> {
        loop {
            let Some(component) = self.cursor.next_component() else {
                self.check_end()?;
                return Ok(self.at);
            };
            let (last, slash) = (component.last, component.slash);
            match step(&self.at, self.caller, component.name, component.hash)? {
                Step::Stay => {}
                Step::Up => self.up()?,
                Step::To(dentry) => {
                    self.must_be_dir |= last && slash;
                    let follow = !last || self.must_be_dir || self.look.contains(Look::FOLLOW);
                    if follow && dentry.inode().is_symlink() {
                        self.follow(dentry.inode())?;
                    } else {
                        self.enter(dentry)?;
                    }
                }
            }
        }
    }

    /// Moves to a dentry found in the directory where the walk stands, and down into mounts on it.
    #[inline]
    fn enter(&mut self, dentry: Arc<Dentry>) -> Result<()> {
        let mountpoint = dentry.is_mountpoint();
        self.at.dentry = dentry;
        if mountpoint && follow_down(&mut self.at) && self.look.contains(Look::NO_XDEV) {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }

    fn check_end(&self) -> Result<()> {
        if self.must_be_dir && !self.at.inode().is_dir() {
            return Err(Errno::ENOTDIR);
        }
        Ok(())
    }

    /// Walks to the directory of the last component, and gives that.
    pub fn to_parent(&mut self) -> Result<Last> {
        let mut end = Last::Root;
        loop {
            let Some(component) = self.cursor.next_component() else { return Ok(end) };
            let is_name = !pathname::is_dot(component.name);
            if component.last && is_name {
                if component.name.len() > NAME_MAX {
                    return Err(Errno::ENAMETOOLONG);
                }
                let (name, hash) = (Name::new(component.name), component.hash);
                let slash = component.slash || self.must_be_dir;
                require_dir(&self.at)?;
                permission::may_search(self.at.inode(), self.caller)?;
                return Ok(Last::Name(LastName { name, hash, slash }));
            }
            match step(&self.at, self.caller, component.name, component.hash)? {
                Step::Stay => end = Last::Dot,
                Step::Up => {
                    self.up()?;
                    end = Last::DotDot;
                }
                Step::To(dentry) if dentry.inode().is_symlink() => {
                    self.follow(dentry.inode())?;
                    end = Last::Root;
                }
                Step::To(dentry) => self.enter(dentry)?,
            }
        }
    }

    /// Goes on through a link that [`Walk::to_parent`] stopped at. True: it was a magic link, and the walk stands at
    /// its target, which has no name to look up; false: the next call works on where the link's text leads.
    pub fn follow_last(&mut self, link: &InodeRef, slash: bool) -> Result<bool> {
        self.must_be_dir |= slash;
        self.follow(link)
    }

    /// The looked-up last component, mounts on it followed; `None`: there is no such file.
    pub fn lookup_last(&mut self, last: &LastName) -> Result<Option<Path>> {
        let Some(dentry) = find_child(&self.at.dentry, &last.name, last.hash)? else { return Ok(None) };
        let mut path = Path { mount: self.at.mount.clone(), dentry };
        if follow_down(&mut path) && self.look.contains(Look::NO_XDEV) {
            return Err(Errno::EXDEV);
        }
        Ok(Some(path))
    }

    fn up(&mut self) -> Result<()> {
        let root = self.root().clone();
        if root.same(&self.at) {
            // Above the root is the root; a walk that may not leave its start fails instead.
            return if self.look.contains(Look::BENEATH) { Err(Errno::EXDEV) } else { Ok(()) };
        }
        if let Some(mut up) = self.at.up() {
            follow_down(&mut up);
            if self.look.contains(Look::NO_XDEV) && !Arc::ptr_eq(&up.mount, &self.at.mount) {
                return Err(Errno::EXDEV);
            }
            self.at = up;
        }
        Ok(())
    }

    /// Follows a symbolic link that lies in the directory where the walk stands; whether it was a magic one.
    fn follow(&mut self, link: &InodeRef) -> Result<bool> {
        self.links += 1;
        let forbidden = self.at.mount.flags().contains(MountFlags::NOSYMFOLLOW);
        if self.links > MAXSYMLINKS || forbidden || self.look.contains(Look::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        match link.ops.follow(link, self.caller)? {
            Link::Text(text) => self.follow_text(text).map(|()| false),
            Link::Jump(path) => self.jump(path).map(|()| true),
        }
    }

    fn follow_text(&mut self, text: Arc<[u8]>) -> Result<()> {
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        if text[0] == b'/' {
            if self.look.contains(Look::BENEATH) {
                return Err(Errno::EXDEV);
            }
            let root = self.root().clone();
            if self.look.contains(Look::NO_XDEV) && !Arc::ptr_eq(&root.mount, &self.at.mount) {
                return Err(Errno::EXDEV);
            }
            self.at = root;
        }
        self.cursor.push(text);
        Ok(())
    }

    fn jump(&mut self, path: Path) -> Result<()> {
        if self.look.contains(Look::NO_MAGICLINKS) {
            return Err(Errno::ELOOP);
        }
        let leaves = self.look.contains(Look::NO_XDEV) && !Arc::ptr_eq(&path.mount, &self.at.mount);
        if leaves || self.look.intersects(Look::SCOPED) {
            return Err(Errno::EXDEV);
        }
        self.at = path;
        // What follows the link must be looked up in a directory.
        if !self.cursor.is_done() && !self.at.inode().is_dir() { Err(Errno::ENOTDIR) } else { Ok(()) }
    }
}

/// What a component led to.
enum Step {
    /// `.`
    Stay,
    /// `..`: the walk must look at its root.
    Up,
    To(Arc<Dentry>),
}

/// One component: from the directory `at`.
#[inline]
fn step(at: &Path, caller: &Caller, name: &[u8], hash: u64) -> Result<Step> {
    let dir = at.inode();
    if !dir.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    permission::may_search(dir, caller)?;
    if name[0] == b'.' && name.len() <= 2 {
        if name.len() == 1 {
            return Ok(Step::Stay);
        }
        if name[1] == b'.' {
            return Ok(Step::Up);
        }
    }
    find_child(&at.dentry, name, hash)?.map(Step::To).ok_or(Errno::ENOENT)
}

/// The dentry of a name in a directory: from the cache, else from the file system. `None`: no such name.
/// The caller checked that it may search the directory.
#[inline]
pub fn find_child(parent: &Arc<Dentry>, name: &[u8], hash: u64) -> Result<Option<Arc<Dentry>>> {
    match dcache::lookup(parent, name, hash) {
        Found::Positive(dentry) => {
            if dentry.inode().flags.contains(InodeFlags::REVALIDATE) {
                return revalidate(parent, name, hash, dentry);
            }
            Ok(Some(dentry))
        }
        Found::Negative => Ok(None),
        Found::Unknown => lookup_slow(parent, name, hash),
    }
}

#[cold]
fn revalidate(
    parent: &Arc<Dentry>,
    name: &[u8],
    hash: u64,
    dentry: Arc<Dentry>,
) -> Result<Option<Arc<Dentry>>> {
    if is_still(parent, name, hash, &dentry) {
        return Ok(Some(dentry));
    }
    drop(dentry);
    lookup_slow(parent, name, hash)
}

/// Whether a cached dentry is still what its file system has; one that is not leaves the cache.
fn is_still(parent: &Arc<Dentry>, name: &[u8], hash: u64, dentry: &Arc<Dentry>) -> bool {
    let inode = dentry.inode();
    if !inode.flags.contains(InodeFlags::REVALIDATE) || inode.ops.revalidate(inode, parent.inode(), name) {
        return true;
    }
    dcache::prune_children(dentry);
    drop(dcache::remove(parent, name, hash));
    dentry.set_unlinked();
    false
}

#[cold]
fn lookup_slow(parent: &Arc<Dentry>, name: &[u8], hash: u64) -> Result<Option<Arc<Dentry>>> {
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let dir = parent.inode();
    let _contents = dir.contents.read();
    lookup_locked(parent, name, hash)
}

/// As [`find_child`] with the directory's contents lock held, for reading or writing.
pub(crate) fn lookup_locked(parent: &Arc<Dentry>, name: &[u8], hash: u64) -> Result<Option<Arc<Dentry>>> {
    match dcache::lookup(parent, name, hash) {
        // What may have changed by itself is asked for again under the lock: it decides what is made or removed.
        Found::Positive(dentry) if is_still(parent, name, hash, &dentry) => return Ok(Some(dentry)),
        Found::Negative => return Ok(None),
        Found::Positive(_) | Found::Unknown => {}
    }
    let dir = parent.inode();
    let found = dir.ops.lookup(dir, name)?;
    if dir.flags.contains(InodeFlags::FOLDED)
        && let Some(inode) = &found
        && let Some(own) = inode.ops.own_name()
    {
        return remember_own(parent, &own, inode);
    }
    let target = match found {
        Some(inode) => Some(Dentry::child(parent, name, inode)),
        None if dir.flags.intersects(InodeFlags::NO_NEGATIVE | InodeFlags::NO_CACHE) => return Ok(None),
        None if dir.nlink() == 0 => return Ok(None),
        None => None,
    };
    if dir.flags.contains(InodeFlags::NO_CACHE) {
        return Ok(target);
    }
    Ok(dcache::insert(parent, name, hash, target)?)
}

/// The dentry of an inode under its own name, whatever it was found by: a file that two dentries lead to could be removed
/// by one and be there by the other, and a directory could be moved into itself.
fn remember_own(parent: &Arc<Dentry>, own: &[u8], inode: &InodeRef) -> Result<Option<Arc<Dentry>>> {
    let hash = pathname::hash(dcache::seed(), own);
    match dcache::lookup(parent, own, hash) {
        Found::Positive(dentry) => Ok(Some(dentry)),
        _ => Ok(dcache::insert(parent, own, hash, Some(Dentry::child(parent, own, inode.clone())))?),
    }
}

/// Whether the place can be looked into or opened as a directory: for `chdir` and friends.
pub fn require_dir(path: &Path) -> Result<()> {
    if path.inode().file_type() == FileType::Directory { Ok(()) } else { Err(Errno::ENOTDIR) }
}
