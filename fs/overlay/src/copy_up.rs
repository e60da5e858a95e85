//! A lower file's way to the upper layer.
//!
//! Directories on the way come first, from the top. Each thing is made in the work directory with all that belongs to
//! it (contents, extended attributes, owner, mode, times), and then renamed to its place: a machine that stops in
//! between leaves something in the work directory and nothing else.

use crate::layers::{Overlay, Real};
use crate::node::OverInode;
use abi::fcntl::{O_LARGEFILE, O_NOATIME, O_RDONLY, O_WRONLY};
use abi::stat::{S_IALLUGO, S_IFREG};
use abi::{Errno, errno::Result};
use alloc::vec::Vec;
use pathname::Name;
use vfs::namei::New;
use vfs::open::open_at_place;
use vfs::{FileType, InodeRef, IoBuf, Link, Path, SetAttr};

/// Bytes that are copied at once.
const CHUNK: usize = 64 << 10;

impl Overlay {
    /// Sees to it that an inode is in the upper layer; with its contents unless `contents` is false. Below
    /// [`task::stacked`]. EROFS without an upper layer.
    pub fn copy_up(&self, inode: &OverInode, contents: bool) -> Result<()> {
        if inode.ops.upper().is_some() {
            return Ok(());
        }
        if !self.upper {
            return Err(Errno::EROFS);
        }
        let _turn = self.copying.lock();
        let _layers = task::stacked();
        while inode.ops.upper().is_none() {
            let mut next = inode.clone();
            while let Some((dir, _)) = next.ops.place()
                && dir.ops.upper().is_none()
            {
                next = dir;
            }
            self.copy_one(&next, contents)?;
        }
        Ok(())
    }

    /// Copies what lies in a directory that is in the upper layer.
    fn copy_one(&self, inode: &OverInode, contents: bool) -> Result<()> {
        let (dir, name): (OverInode, Name) = inode.ops.place().ok_or(Errno::EIO)?;
        if inode.nlink() == 0 {
            // Its name is gone, and with it the place for a copy.
            return Err(Errno::ESTALE);
        }
        let lower = inode.ops.real()?;
        let (work, temporary) = (self.work()?, self.fresh_name());
        let made = self.make_copy(&lower, work, &temporary)?;
        let finished = || -> Result<()> {
            if contents && made.inode().is_regular() {
                self.copy_contents(&lower, &made)?;
            }
            self.copy_xattrs(lower.inode(), made.inode())?;
            copy_attributes(lower.inode(), made.inode())?;
            let upper = dir.ops.upper().ok_or(Errno::EIO)?;
            self.rename((work, &temporary), (&self.upper_path(upper), &name), false)
        };
        finished().inspect_err(|_| self.discard(&temporary))?;
        inode.ops.set_upper(inode, made.dentry);
        Ok(())
    }

    /// Makes an empty thing of the same kind.
    fn make_copy(&self, lower: &Real, work: &Path, name: &[u8]) -> Result<Path> {
        let inode = lower.inode();
        match inode.file_type() {
            FileType::Directory => self.make(work, name, New::Directory { mode: 0o700 }, None),
            FileType::Symlink => match self.as_mounter(|caller| inode.ops.follow(inode, caller))? {
                Link::Text(target) => self.make(work, name, New::Symlink { target: &target }, None),
                Link::Jump(_) => Err(Errno::EIO),
            },
            FileType::Regular => {
                let new = New::Node { mode: S_IFREG | 0o600, dev: inode.rdev };
                self.make(work, name, new, None)
            }
            _ => self.make(work, name, New::Node { mode: inode.mode(), dev: inode.rdev }, None),
        }
    }

    fn copy_contents(&self, lower: &Real, made: &Path) -> Result<()> {
        let open = |path: Path, flags: u32| {
            self.as_mounter(|caller| open_at_place(caller, path, flags | O_LARGEFILE))
        };
        let from = open(self.path(lower), O_RDONLY | O_NOATIME)?;
        let to = open(made.clone(), O_WRONLY)?;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).map_err(|_| Errno::ENOMEM)?;
        chunk.resize(CHUNK, 0);
        let mut at = 0;
        loop {
            let len = from.read_kernel(at, &mut chunk)?;
            let mut bytes = IoBuf::kernel_in(&chunk[..len]);
            while bytes.remaining() > 0 {
                let done = bytes.done() as u64;
                if to.write_at(at + done, &mut bytes)? == 0 {
                    return Err(Errno::EIO);
                }
            }
            at += len as u64;
            if len < CHUNK {
                break;
            }
            if task::current().fatal_pending() {
                return Err(Errno::EINTR);
            }
        }
        // The rename must not get to the medium before the contents do.
        if self.volatile { Ok(()) } else { to.fsync(false) }
    }

    /// Extended attributes but for our own, access control lists among them; what the upper layer does not have goes
    /// without them, as on Linux.
    fn copy_xattrs(&self, from: &InodeRef, to: &InodeRef) -> Result<()> {
        let mut names = Vec::new();
        match from.ops.list_xattr(from, &mut names) {
            Err(Errno::EOPNOTSUPP) => return Ok(()),
            result => result?,
        }
        let names = names.split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty() && !name.starts_with(self.private_prefix)) {
            let value = match from.ops.get_xattr(from, name) {
                // Removed meanwhile, or only listed.
                Err(Errno::ENODATA | Errno::EOPNOTSUPP) => continue,
                result => result?,
            };
            match self.set_xattr(to, name, Some(&value), 0) {
                Err(Errno::EOPNOTSUPP) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

fn copy_attributes(from: &InodeRef, to: &InodeRef) -> Result<()> {
    let attr = vfs::attr::getattr(from)?;
    let set = SetAttr {
        mode: (!from.is_symlink()).then_some(attr.mode & S_IALLUGO),
        uid: Some(attr.uid),
        gid: Some(attr.gid),
        atime: Some(attr.atime),
        mtime: Some(attr.mtime),
        ..SetAttr::default()
    };
    let _contents = to.contents.write();
    to.ops.setattr(to, &set)
}
