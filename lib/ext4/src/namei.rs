//! Operations on names: make, link, remove, rename.
//!
//! The caller excludes other changes in the directories concerned (rename across directories: in both) and has
//! checked rights, types and the existence of names. Each operation is one handle: it happens as a whole. Room for
//! the new name is made before anything is taken away.

use crate::dir::{Found, NAME_CREDITS, Role, block};
use crate::env::{Env, Lock};
use crate::extent;
use crate::fs::Fs;
use crate::inode::{Inode, Node, NodeState, Times};
use crate::journal::Handle;
use crate::layout::{INODE_OLD_LEN, Incompat, InodeFlags, RoCompat, put16};
use crate::orphan::ORPHAN_CREDITS;
use crate::{DAMAGED, map::Place};
use abi::Errno;
use abi::errno::Result;
use abi::stat::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The most names of a file, and of a directory without an index.
pub const LINK_MAX: u32 = 65000;
/// Text of a symbolic link that fits into the inode, with a zero behind it.
const FAST_LINK: usize = 60;
/// A new inode: bitmap, descriptor, table, first block with its bitmap and descriptor, attributes.
const INODE_CREDITS: usize = 16;
/// How often an operation that finds no room waits for freed blocks to become free.
const RETRIES: usize = 2;

/// What a new file is.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Major and minor number of a device file.
    pub rdev: (u32, u32),
    /// The text of a symbolic link.
    pub target: &'a [u8],
}

/// A rename; see [`Fs::rename`].
pub struct Rename<'a, E: Env> {
    pub old_dir: &'a Node<E>,
    pub old_name: &'a [u8],
    pub node: &'a Arc<Node<E>>,
    pub new_dir: &'a Node<E>,
    pub new_name: &'a [u8],
    /// What has the new name now.
    pub target: Option<&'a Arc<Node<E>>>,
    /// Both change places.
    pub exchange: bool,
    /// What the old name becomes that of, unless they change places (RENAME_WHITEOUT).
    pub whiteout: Option<&'a NewFile<'a>>,
}

impl<E: Env> Fs<E> {
    /// Runs an operation again when it found no room but freed blocks only wait for their commit.
    fn with_room<R>(&self, mut operation: impl FnMut() -> Result<R>) -> Result<R> {
        for _ in 0..RETRIES {
            match operation() {
                Err(Errno::ENOSPC) if self.room_is_coming() => self.commit_all()?,
                result => return result,
            }
        }
        operation()
    }

    pub(crate) fn now(&self) -> i64 {
        self.env.now_ns()
    }

    /// Makes a file of any type under a name that is not there. ENOSPC, EMLINK, ENAMETOOLONG.
    pub fn create(&self, dir: &Node<E>, name: &[u8], new: &NewFile) -> Result<Arc<Node<E>>> {
        self.with_room(|| self.create_once(dir, name, new))
    }

    fn create_once(&self, dir: &Node<E>, name: &[u8], new: &NewFile) -> Result<Arc<Node<E>>> {
        let directory = new.mode & S_IFMT == S_IFDIR;
        if name.len() > block::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let handle = self.begin(NAME_CREDITS + INODE_CREDITS)?;
        if directory && !self.may_have_more_dirs(&dir.state.lock().inode) {
            return Err(Errno::EMLINK);
        }
        let node = self.new_node(&handle, dir, new)?;
        let mut state = dir.state.lock();
        let kind = self.kind_byte(new.mode);
        if let Err(error) = self.add_name(&handle, &mut state, name, node.ino, kind) {
            self.store(&handle, dir, &mut state)?;
            drop(state);
            self.unmake(&handle, &node)?;
            return Err(error);
        }
        if directory {
            self.raise_dir_links(&mut state.inode);
        }
        self.touch(&mut state.inode);
        self.store(&handle, dir, &mut state)?;
        Ok(node)
    }

    /// An inode without a name, among the orphans (O_TMPFILE).
    pub fn create_unnamed(&self, dir: &Node<E>, new: &NewFile) -> Result<Arc<Node<E>>> {
        self.with_room(|| {
            let handle = self.begin(INODE_CREDITS + ORPHAN_CREDITS)?;
            let node = self.new_node(&handle, dir, new)?;
            let mut state = node.state.lock();
            state.inode.set_nlink(0);
            self.add_orphan(&handle, &node)?;
            self.store(&handle, &node, &mut state)?;
            drop(state);
            Ok(node)
        })
    }

    fn may_have_more_dirs(&self, dir: &Inode) -> bool {
        dir.nlink() < LINK_MAX || (self.geo.ro_compat.contains(RoCompat::DIR_NLINK) && self.is_indexed(dir))
    }

    /// One more directory inside. An indexed one with too many counts no more: 1 stands for "many".
    fn raise_dir_links(&self, dir: &mut Inode) {
        let count = dir.nlink();
        if count != 1 {
            dir.set_nlink(if count + 1 > LINK_MAX { 1 } else { count + 1 });
        }
    }

    fn lower_dir_links(&self, dir: &mut Inode) {
        let count = dir.nlink();
        if count > 2 {
            dir.set_nlink(count - 1);
        }
    }

    /// The contents changed now.
    fn touch(&self, inode: &mut Inode) {
        let now = self.now();
        let times = Times { mtime: now, ctime: now, ..inode.times() };
        inode.set_times(&times);
    }

    fn touch_change(&self, inode: &mut Inode) {
        let times = Times { ctime: self.now(), ..inode.times() };
        inode.set_times(&times);
    }

    /// A new inode, stored, with one link (a directory: two, and its first block).
    fn new_node(&self, handle: &Handle<E>, dir: &Node<E>, new: &NewFile) -> Result<Arc<Node<E>>> {
        let kind = new.mode & S_IFMT;
        let ino = self.alloc_inode(handle, dir.ino, kind == S_IFDIR)?;
        let generation = self.env.random();
        let mut inode = Inode::empty(ino, self.geo.inode_size, self.geo.inode_seed(ino, generation));
        if self.geo.inode_size > INODE_OLD_LEN {
            let extra =
                usize::from(self.geo.want_extra_isize.max(28)).min(self.geo.inode_size - INODE_OLD_LEN);
            put16(&mut inode.raw, INODE_OLD_LEN, extra as u16);
        }
        inode.base_mut().mode.set(new.mode as u16);
        inode.base_mut().generation.set(generation);
        inode.set_owner(new.uid, new.gid);
        inode.set_nlink(if kind == S_IFDIR { 2 } else { 1 });
        let now = self.now();
        inode.set_times(&Times { atime: now, mtime: now, ctime: now, btime: now });
        let inherited = InodeFlags::SYNC | InodeFlags::NODUMP | InodeFlags::NOATIME | InodeFlags::DIRSYNC;
        let parent = dir.state.lock().inode.clone();
        let mut flags = parent.flags() & inherited;
        if kind != S_IFDIR {
            flags.remove(InodeFlags::DIRSYNC);
        }
        let mapped = matches!(kind, S_IFREG | S_IFDIR) || (kind == S_IFLNK && new.target.len() >= FAST_LINK);
        if mapped && self.geo.incompat.contains(Incompat::EXTENTS) {
            flags |= InodeFlags::EXTENTS;
            extent::init_root(&mut inode);
        }
        inode.set_flags(flags);
        let filled = match kind {
            S_IFDIR => self.fill_dir(handle, &mut inode, dir.ino),
            S_IFLNK => self.fill_link(handle, &mut inode, new.target),
            _ => {
                inode.set_rdev_if_device(new.rdev);
                Ok(())
            }
        };
        let filled = filled.and_then(|()| match kind {
            S_IFLNK => Ok(false),
            _ => self.inherit_acl(handle, &parent, &mut inode),
        });
        let node = Node::new(inode);
        if let Err(error) = filled {
            self.unmake(handle, &node)?;
            return Err(error);
        }
        let mut state = node.state.lock();
        self.store(handle, &node, &mut state)?;
        drop(state);
        Ok(node)
    }

    /// Undoes [`Fs::new_node`].
    fn unmake(&self, handle: &Handle<E>, node: &Arc<Node<E>>) -> Result<()> {
        let mut state = node.state.lock();
        let blocks = u32::try_from(state.inode.size().div_ceil(self.geo.block_size as u64)).unwrap_or(0);
        if !state.inode.is_fast_symlink(self.geo.block_size) {
            self.remove_blocks(handle, &mut state.inode, 0, blocks)?;
        }
        self.drop_attributes(handle, &mut state.inode)?;
        let directory = state.inode.is_dir();
        state.inode.set_nlink(0);
        state.inode.set_size(0);
        state.inode.base_mut().dtime.set((self.now() / 1_000_000_000) as u32);
        self.store(handle, node, &mut state)?;
        self.free_inode(handle, node.ino, directory)
    }

    fn fill_dir(&self, handle: &Handle<E>, inode: &mut Inode, parent: u32) -> Result<()> {
        let own = inode.ino;
        let (_, first) = self.append_dir_block(handle, inode, false)?;
        let (csum, kind) = (self.geo.has_csum(), self.kind_byte(S_IFDIR));
        first.change(|bytes| block::init_first(bytes, csum, own, parent, kind));
        Ok(())
    }

    fn fill_link(&self, handle: &Handle<E>, inode: &mut Inode, target: &[u8]) -> Result<()> {
        if target.len() < FAST_LINK {
            inode.base_mut().block[..target.len()].copy_from_slice(target);
            inode.set_size(target.len() as u64);
            return Ok(());
        }
        if target.len() >= self.geo.block_size {
            return Err(Errno::ENAMETOOLONG);
        }
        let (nr, _) = self.fill_hole(handle, inode, 0, 1, crate::balloc::Claim::Plain, false)?;
        let text = self.cache.blank(&self.env, nr)?;
        handle.join(&text)?;
        text.change(|bytes| bytes[..target.len()].copy_from_slice(target));
        inode.set_size(target.len() as u64);
        Ok(())
    }

    /// The text of a symbolic link.
    pub fn read_link(&self, node: &Node<E>) -> Result<Vec<u8>> {
        let state = node.state.lock();
        let inode = &state.inode;
        let len = usize::try_from(inode.size()).unwrap_or(usize::MAX);
        if inode.is_fast_symlink(self.geo.block_size) {
            return Ok(inode.base().block[..len.min(FAST_LINK)].to_vec());
        }
        if len >= self.geo.block_size {
            self.fail("symbolic link", inode.ino);
            return Err(DAMAGED);
        }
        let Place::At(nr) = self.map_inode(inode, 0, 1)?.place else { return Err(DAMAGED) };
        Ok(self.read(nr)?.with(|bytes| bytes[..len].to_vec()))
    }

    /// A second name for a file. EMLINK.
    pub fn link(&self, dir: &Node<E>, name: &[u8], node: &Arc<Node<E>>) -> Result<()> {
        self.with_room(|| {
            let handle = self.begin(NAME_CREDITS + ORPHAN_CREDITS + 1)?;
            let (mode, links) = {
                let state = node.state.lock();
                (state.inode.mode(), state.inode.nlink())
            };
            if links >= LINK_MAX {
                return Err(Errno::EMLINK);
            }
            self.add_entry(&handle, dir, name, node.ino, mode)?;
            let mut state = node.state.lock();
            if links == 0 {
                self.del_orphan(&handle, node)?;
                state.inode.base_mut().dtime.set(0);
            }
            state.inode.set_nlink(links + 1);
            self.touch_change(&mut state.inode);
            self.store(&handle, node, &mut state)
        })
    }

    fn add_entry(&self, handle: &Handle<E>, dir: &Node<E>, name: &[u8], ino: u32, mode: u32) -> Result<()> {
        if name.len() > block::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut state = dir.state.lock();
        let added = self.add_name(handle, &mut state, name, ino, self.kind_byte(mode));
        if added.is_ok() {
            self.touch(&mut state.inode);
        }
        self.store(handle, dir, &mut state)?;
        added
    }

    /// The entry of a name that must lead to `ino`.
    fn entry_of(&self, dir: &NodeState, name: &[u8], ino: u32) -> Result<Found> {
        self.find_name(&dir.inode, name)?.filter(|found| found.ino == ino).ok_or(Errno::ENOENT)
    }

    /// Removes the name of a file; one without names joins the orphans, to be given to [`Fs::evict`] when nobody
    /// uses it any more.
    pub fn unlink(&self, dir: &Node<E>, name: &[u8], node: &Arc<Node<E>>) -> Result<()> {
        let handle = self.begin(ORPHAN_CREDITS + 8)?;
        let mut state = dir.state.lock();
        let found = self.entry_of(&state, name, node.ino)?;
        self.remove_name(&handle, &state.inode, &found)?;
        self.touch(&mut state.inode);
        self.store(&handle, dir, &mut state)?;
        drop(state);
        self.drop_link(&handle, node)
    }

    /// One name less; the last makes an orphan.
    fn drop_link(&self, handle: &Handle<E>, node: &Arc<Node<E>>) -> Result<()> {
        let mut state = node.state.lock();
        let links = if state.inode.is_dir() { 0 } else { state.inode.nlink().saturating_sub(1) };
        state.inode.set_nlink(links);
        self.touch_change(&mut state.inode);
        if links == 0 {
            self.add_orphan(handle, node)?;
        }
        self.store(handle, node, &mut state)
    }

    /// Removes an empty directory. ENOTEMPTY.
    pub fn rmdir(&self, dir: &Node<E>, name: &[u8], node: &Arc<Node<E>>) -> Result<()> {
        let handle = self.begin(ORPHAN_CREDITS + 8)?;
        if !self.is_empty_dir(&node.state.lock().inode)? {
            return Err(Errno::ENOTEMPTY);
        }
        let mut state = dir.state.lock();
        let found = self.entry_of(&state, name, node.ino)?;
        self.remove_name(&handle, &state.inode, &found)?;
        self.touch(&mut state.inode);
        self.lower_dir_links(&mut state.inode);
        self.store(&handle, dir, &mut state)?;
        drop(state);
        self.drop_link(&handle, node)
    }

    /// Moves a name, replacing what has the new one and perhaps leaving a whiteout, or exchanges two. ENOTEMPTY, EMLINK,
    /// ENOSPC.
    pub fn rename(&self, request: &Rename<E>) -> Result<()> {
        self.with_room(|| match request.target {
            Some(target) if request.exchange => self.exchange(request, target),
            _ => self.rename_once(request),
        })
    }

    fn rename_once(&self, request: &Rename<E>) -> Result<()> {
        let Rename { old_dir, new_dir, node, .. } = *request;
        let own = if request.whiteout.is_some() { INODE_CREDITS } else { 0 };
        let handle = self.begin(2 * NAME_CREDITS + ORPHAN_CREDITS + 8 + own)?;
        let mode = node.state.lock().inode.mode();
        let directory = mode & S_IFMT == S_IFDIR;
        self.check_rename(request, directory)?;
        let whiteout = request.whiteout.map(|new| self.new_node(&handle, old_dir, new)).transpose()?;
        let entered = match request.target {
            Some(target) => self.point(&handle, new_dir, request.new_name, target.ino, node.ino, mode),
            None => self.add_entry(&handle, new_dir, request.new_name, node.ino, mode),
        };
        if let Err(error) = entered {
            if let Some(whiteout) = &whiteout {
                self.unmake(&handle, whiteout)?;
            }
            return Err(error);
        }
        let moves = !core::ptr::eq(old_dir, new_dir);
        let replaces_dir = directory && request.target.is_some();
        self.leave_name(&handle, request, whiteout.as_deref(), directory && (moves || replaces_dir))?;
        if directory && moves {
            self.set_parent(&handle, node, new_dir.ino)?;
            if !replaces_dir {
                let mut state = new_dir.state.lock();
                self.raise_dir_links(&mut state.inode);
                self.store(&handle, new_dir, &mut state)?;
            }
        }
        self.note_change(&handle, node)?;
        match request.target {
            Some(target) => self.drop_link(&handle, target),
            None => Ok(()),
        }
    }

    /// What must be so before anything changes.
    fn check_rename(&self, request: &Rename<E>, directory: bool) -> Result<()> {
        let Rename { old_dir, new_dir, node, .. } = *request;
        if let Some(target) = request.target {
            let state = target.state.lock();
            if state.inode.is_dir() && !self.is_empty_dir(&state.inode)? {
                return Err(Errno::ENOTEMPTY);
            }
        }
        if directory
            && !core::ptr::eq(old_dir, new_dir)
            && request.target.is_none()
            && !self.may_have_more_dirs(&new_dir.state.lock().inode)
        {
            return Err(Errno::EMLINK);
        }
        self.entry_of(&old_dir.state.lock(), request.old_name, node.ino).map(drop)
    }

    /// Takes the old name of a rename away, or makes it the whiteout's. Looked up only now: adding the new name may
    /// have moved the old one.
    fn leave_name(
        &self,
        handle: &Handle<E>,
        request: &Rename<E>,
        whiteout: Option<&Node<E>>,
        lose_dir: bool,
    ) -> Result<()> {
        let mut state = request.old_dir.state.lock();
        let found = self.entry_of(&state, request.old_name, request.node.ino)?;
        match whiteout {
            Some(whiteout) => {
                self.set_name(handle, &state.inode, &found, whiteout.ino, self.kind_byte(S_IFCHR))?
            }
            None => self.remove_name(handle, &state.inode, &found)?,
        }
        self.touch(&mut state.inode);
        if lose_dir {
            self.lower_dir_links(&mut state.inode);
        }
        self.store(handle, request.old_dir, &mut state)
    }

    fn note_change(&self, handle: &Handle<E>, node: &Node<E>) -> Result<()> {
        let mut state = node.state.lock();
        self.touch_change(&mut state.inode);
        self.store(handle, node, &mut state)
    }

    /// Points a name from one inode to another.
    fn point(
        &self,
        handle: &Handle<E>,
        dir: &Node<E>,
        name: &[u8],
        from: u32,
        to: u32,
        mode: u32,
    ) -> Result<()> {
        let mut state = dir.state.lock();
        let found = self.entry_of(&state, name, from)?;
        self.set_name(handle, &state.inode, &found, to, self.kind_byte(mode))?;
        self.touch(&mut state.inode);
        self.store(handle, dir, &mut state)
    }

    fn exchange(&self, request: &Rename<E>, target: &Arc<Node<E>>) -> Result<()> {
        let Rename { old_dir, new_dir, node, .. } = *request;
        let handle = self.begin(24)?;
        // One lock at a time: the first is released before the second is taken.
        let mode = node.state.lock().inode.mode();
        let modes = (mode, target.state.lock().inode.mode());
        let dirs = (modes.0 & S_IFMT == S_IFDIR, modes.1 & S_IFMT == S_IFDIR);
        // Both are looked for before either changes; entries of one length do not move.
        self.entry_of(&old_dir.state.lock(), request.old_name, node.ino)?;
        self.entry_of(&new_dir.state.lock(), request.new_name, target.ino)?;
        self.point(&handle, new_dir, request.new_name, target.ino, node.ino, modes.0)?;
        self.point(&handle, old_dir, request.old_name, node.ino, target.ino, modes.1)?;
        if !core::ptr::eq(old_dir, new_dir) {
            for (is_dir, who, parent) in [(dirs.0, node, new_dir), (dirs.1, target, old_dir)] {
                if is_dir {
                    self.set_parent(&handle, who, parent.ino)?;
                }
            }
            if dirs.0 != dirs.1 {
                let (gains, loses) = if dirs.0 { (new_dir, old_dir) } else { (old_dir, new_dir) };
                let mut state = gains.state.lock();
                self.raise_dir_links(&mut state.inode);
                self.store(&handle, gains, &mut state)?;
                drop(state);
                let mut state = loses.state.lock();
                self.lower_dir_links(&mut state.inode);
                self.store(&handle, loses, &mut state)?;
            }
        }
        self.note_change(&handle, node)?;
        self.note_change(&handle, target)
    }

    /// Sets a directory's "..".
    fn set_parent(&self, handle: &Handle<E>, dir: &Node<E>, parent: u32) -> Result<()> {
        let state = dir.state.lock();
        let first = self.dir_block(&state.inode, 0, Role::Any)?;
        let found = first.with(|bytes| block::find(bytes, b"..").map(|entry| (entry.at, entry.kind)));
        let Some((at, kind)) = found else {
            self.fail("directory without ..", dir.ino);
            return Err(DAMAGED);
        };
        handle.join(&first)?;
        first.change(|bytes| block::set_inode(bytes, at, parent, kind));
        Ok(())
    }

    /// The inode of a directory's "..".
    pub fn parent_of(&self, dir: &Node<E>) -> Result<u32> {
        let state = dir.state.lock();
        self.find_name(&state.inode, b"..")?.map(|found| found.ino).ok_or(DAMAGED)
    }
}

impl Inode {
    fn set_rdev_if_device(&mut self, rdev: (u32, u32)) {
        if matches!(self.mode() & S_IFMT, S_IFCHR | S_IFBLK) {
            self.set_rdev(rdev.0, rdev.1);
        }
    }
}
