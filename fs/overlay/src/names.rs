//! Making, linking, removing and renaming. All change the upper layer; what is below is hidden by whiteouts.

use crate::layers::{Real, is_whiteout};
use crate::node::{Found, Node, node};
use abi::fcntl::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
use abi::stat::{S_IFDIR, S_IFLNK};
use abi::{Errno, errno::Result};
use alloc::vec::Vec;
use vfs::namei::{self, New};
use vfs::{Cred, InodeRef, NewInode, Path, Rename, SetAttr, Start, acl};

impl Node {
    /// The directory itself in the upper layer, copied up if need be.
    fn upper_dir(&self) -> Result<(Real, Path)> {
        self.fs.copy_up(&self.this()?, true)?;
        let real = self.upper_real().ok_or(Errno::EIO)?;
        let path = self.fs.upper_path(&real.dentry);
        Ok((real, path))
    }

    /// Makes something new under a name that shows nothing.
    pub(crate) fn make(&self, dir: &InodeRef, name: &[u8], new: New, cred: &Cred) -> Result<InodeRef> {
        let (upper, path) = self.upper_dir()?;
        let is_dir = matches!(new, New::Directory { .. });
        let made = match self.fs.child(&upper, name)? {
            None => {
                let made = self.fs.make(&path, name, new, Some(cred))?;
                // Something below that shows nothing now, a whiteout of a lower layer's, would show in a directory.
                if is_dir && !self.find_lower(name, true)?.is_empty() {
                    self.fs.set_opaque(made.inode())?;
                }
                made
            }
            Some(real) if is_whiteout(real.inode()) => self.replace_whiteout(dir, &path, name, new, cred)?,
            Some(_) => return Err(Errno::ESTALE),
        };
        self.mirror(dir);
        Node::inode(&self.fs, Found { upper: Some(made.dentry), lowers: Vec::new() }, None)
    }

    /// Makes something in the work directory and puts it in the place of a whiteout.
    fn replace_whiteout(
        &self,
        dir: &InodeRef,
        path: &Path,
        name: &[u8],
        new: New,
        cred: &Cred,
    ) -> Result<Path> {
        let (work, temporary) = (self.fs.work()?, self.fs.fresh_name());
        let (kind, is_dir) = match new {
            New::Directory { mode } => (S_IFDIR | mode, true),
            New::Node { mode, .. } => (mode, false),
            New::Symlink { .. } => (S_IFLNK | 0o777, false),
        };
        let made = self.fs.make(work, &temporary, new, Some(cred))?;
        let placed = || -> Result<()> {
            let mut owned = NewInode::new(0, kind).owned_in(dir, cred);
            let inode = made.inode();
            let (own, default) = acl::inherit(dir, &mut owned.mode)?;
            let mode = (kind & abi::stat::S_IFMT != S_IFLNK).then_some(owned.mode & abi::stat::S_IALLUGO);
            let set = SetAttr { uid: Some(owned.uid), gid: Some(owned.gid), mode, ..SetAttr::default() };
            let contents = inode.contents.write();
            inode.ops.setattr(inode, &set)?;
            drop(contents);
            for (name, list) in [(acl::ACCESS, own), (acl::DEFAULT, default)] {
                if list.is_some() {
                    self.fs.set_xattr(inode, name, list.as_deref(), 0)?;
                }
            }
            if is_dir {
                self.fs.set_opaque(inode)?;
            }
            self.fs.rename((work, &temporary), (path, name), is_dir)
        };
        placed().inspect_err(|_| self.fs.discard(&temporary))?;
        if is_dir {
            // The whiteout has come to the work directory.
            self.fs.discard(&temporary);
        }
        Ok(made)
    }

    /// O_TMPFILE: something new that no name shows, until link(2) gives it one.
    pub(crate) fn make_unnamed(&self, mode: u32, cred: &Cred) -> Result<InodeRef> {
        let (_, path) = self.upper_dir()?;
        let made = self.fs.make_unnamed(&path, mode, cred)?;
        Node::inode(&self.fs, Found { upper: Some(made), lowers: Vec::new() }, None)
    }

    pub(crate) fn link_upper(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let target = node(inode)?;
        self.fs.copy_up(&target.this()?, true)?;
        let old = self.fs.upper_path(target.upper().ok_or(Errno::EIO)?);
        let (upper, path) = self.upper_dir()?;
        let link = |dir: &Path, name: &[u8]| {
            self.fs.as_mounter(|caller| namei::link(caller, &old, Start::At(dir), name))
        };
        match self.fs.child(&upper, name)? {
            None => link(&path, name)?,
            Some(real) if is_whiteout(real.inode()) => {
                let (work, temporary) = (self.fs.work()?, self.fs.fresh_name());
                link(work, &temporary)?;
                let placed = self.fs.rename((work, &temporary), (&path, name), false);
                placed.inspect_err(|_| self.fs.discard(&temporary))?;
            }
            Some(_) => return Err(Errno::ESTALE),
        }
        // It may have had none.
        inode.set_nlink(old.inode().nlink());
        target.mirror(inode);
        self.mirror(dir);
        Ok(())
    }

    /// Removes a name: from the upper layer, and from view what is below.
    pub(crate) fn remove(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let is_dir = inode.is_dir();
        let victim = node(inode)?;
        if is_dir && !crate::listing::merged(victim)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        let hides = !self.find_lower(name, false)?.is_empty();
        let (upper, path) = self.upper_dir()?;
        let here = self.fs.child(&upper, name)?.filter(|real| !is_whiteout(real.inode()));
        match here {
            Some(_) if hides => self.replace_by_whiteout(&path, name, is_dir)?,
            Some(real) if is_dir => {
                self.fs.clear_whiteouts(&real)?;
                self.fs.rmdir(&path, name)?;
            }
            Some(_) => self.fs.unlink(&path, name)?,
            None => {
                let whiteout = self.fs.make_whiteout()?;
                let placed = self.fs.rename((self.fs.work()?, &whiteout), (&path, name), false);
                placed.inspect_err(|_| self.fs.discard(&whiteout))?;
            }
        }
        lost_name(inode, victim);
        self.mirror(dir);
        Ok(())
    }

    fn replace_by_whiteout(&self, path: &Path, name: &[u8], is_dir: bool) -> Result<()> {
        let (work, whiteout) = (self.fs.work()?, self.fs.make_whiteout()?);
        let placed = self.fs.rename((work, &whiteout), (path, name), is_dir);
        placed.inspect_err(|_| self.fs.discard(&whiteout))?;
        if is_dir {
            self.fs.discard(&whiteout);
        }
        Ok(())
    }

    pub(crate) fn rename_upper(&self, request: &Rename) -> Result<()> {
        // A whiteout's name is the overlay's own business.
        if request.flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0 {
            return Err(Errno::EINVAL);
        }
        if request.flags & RENAME_EXCHANGE != 0 {
            return self.exchange_upper(request);
        }
        let (moved, new_dir) = (node(request.inode)?, node(request.new_dir)?);
        let is_dir = request.inode.is_dir();
        if is_dir && moved.is_merged() {
            return Err(Errno::EXDEV);
        }
        let target = request.target.map(node).transpose()?;
        if is_dir
            && let Some(target) = target
            && !crate::listing::merged(target)?.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.fs.copy_up(&moved.this()?, true)?;
        let (_, old_path) = self.upper_dir()?;
        let (new_upper, new_path) = new_dir.upper_dir()?;
        let leaves = !self.find_lower(request.old_name, false)?.is_empty();
        let covers = !new_dir.find_lower(request.new_name, false)?.is_empty();
        if is_dir && covers {
            self.fs.set_opaque(moved.real()?.inode())?;
        }
        let there = self.fs.child(&new_upper, request.new_name)?;
        self.move_upper(request, (&old_path, &new_path), there, leaves)?;
        if let (Some(target), Some(inode)) = (target, request.target) {
            lost_name(inode, target);
        }
        moved.mirror(request.inode);
        self.mirror(request.old_dir);
        new_dir.mirror(request.new_dir);
        Ok(())
    }

    /// RENAME_EXCHANGE. Both names show something afterwards, so no whiteout is needed; a directory must not show what
    /// is below its new name.
    fn exchange_upper(&self, request: &Rename) -> Result<()> {
        let (old_dir, new_dir) = (self, node(request.new_dir)?);
        let other = request.target.ok_or(Errno::ENOENT)?;
        let both = [
            (request.inode, node(request.inode)?, new_dir, request.new_name),
            (other, node(other)?, old_dir, request.old_name),
        ];
        for (inode, moved, ..) in &both {
            if inode.is_dir() && moved.is_merged() {
                return Err(Errno::EXDEV);
            }
        }
        for (_, moved, ..) in &both {
            self.fs.copy_up(&moved.this()?, true)?;
        }
        let ((_, old_path), (_, new_path)) = (old_dir.upper_dir()?, new_dir.upper_dir()?);
        for (inode, moved, dir, name) in &both {
            if inode.is_dir() && !dir.find_lower(name, false)?.is_empty() {
                self.fs.set_opaque(moved.real()?.inode())?;
            }
        }
        self.fs.rename((&old_path, request.old_name), (&new_path, request.new_name), true)?;
        for (inode, moved, ..) in &both {
            moved.mirror(inode);
        }
        old_dir.mirror(request.old_dir);
        new_dir.mirror(request.new_dir);
        Ok(())
    }

    /// The rename in the upper layer. `there` is what the new name has; `leaves`: something below the old name would
    /// show.
    fn move_upper(
        &self,
        request: &Rename,
        (old_path, new_path): (&Path, &Path),
        there: Option<Real>,
        leaves: bool,
    ) -> Result<()> {
        let (old, new) = ((old_path, request.old_name), (new_path, request.new_name));
        if leaves && there.as_ref().is_some_and(|real| is_whiteout(real.inode())) {
            // The whiteout goes to where one is needed.
            return self.fs.rename(old, new, true);
        }
        match &there {
            // A directory does not replace a file: the whiteout goes the other way, and from there.
            Some(real) if request.inode.is_dir() && is_whiteout(real.inode()) => {
                self.fs.rename(old, new, true)?;
                return self.fs.unlink(old.0, old.1);
            }
            Some(real) if request.inode.is_dir() => self.fs.clear_whiteouts(real)?,
            _ => {}
        }
        self.fs.rename_with(old, new, if leaves { RENAME_WHITEOUT } else { 0 })
    }
}

/// A name of the inode is gone.
fn lost_name(inode: &InodeRef, node: &Node) {
    if inode.is_dir() {
        inode.set_nlink(0);
        return;
    }
    match node.upper() {
        Some(upper) => inode.set_nlink(upper.inode().nlink()),
        None => inode.drop_nlink(),
    }
    inode.touch_changed();
}
