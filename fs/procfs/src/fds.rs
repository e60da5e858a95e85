//! The directories fd and fdinfo: what a process has open.

use crate::links::may_follow;
use crate::root::{NumberName, number_of};
use crate::texts::owner;
use abi::Errno;
use abi::errno::Result;
use abi::fcntl::O_CLOEXEC;
use alloc::sync::Arc;
use core::fmt::Write;
use kcore::access::{self, Ids};
use kcore::{SubjectId, pid};
use kernfs::{Asker, Dir, Each, Kind, LinkTarget, Meta, Node, Text, TextBuf, written};
use vfs::{Caller, File, FileMode, FileTable, Link};

/// `fd` (links) or, with `info`, `fdinfo` (texts).
pub struct FdDir {
    pub id: SubjectId,
    pub info: bool,
}

fn table(id: &SubjectId) -> Result<Arc<FileTable>> {
    id.find().and_then(|subject| subject.thread?.files()).ok_or(Errno::ENOENT)
}

impl Meta for FdDir {
    fn mode(&self) -> u32 {
        if self.info { 0o555 } else { 0o500 }
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(owner(&self.id))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }

    /// A process may look at its own descriptors even when its files in /proc are root's.
    fn permission(&self, _mask: u32, caller: &Caller) -> Option<Result<()>> {
        let own = pid::find_thread(caller.tid).is_some_and(|t| t.process().pid() == self.id.pid());
        if own {
            return Some(Ok(()));
        }
        if !self.info {
            return None;
        }
        let subject = self.id.find()?;
        access::check(caller.cred, caller.tid, &subject, Ids::FileSystem).err().map(|_| Err(Errno::EACCES))
    }
}

impl Dir for FdDir {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        let Some(fd) = number_of(name).and_then(|number| i32::try_from(number).ok()) else { return Ok(None) };
        let Ok(file) = table(&self.id)?.get_any(fd) else { return Ok(None) };
        let entry = Descriptor { id: self.id, fd, mode: link_mode(&file) };
        Ok(Some(if self.info { Node::Text(Arc::new(Info(entry))) } else { Node::Link(Arc::new(entry)) }))
    }

    fn directories(&self) -> u32 {
        0
    }

    fn list(&self, from: u64, _asker: &Asker, each: &mut Each) -> Result<()> {
        let table = table(&self.id)?;
        let kind = if self.info { Kind::File } else { Kind::Link };
        let mut next = from as usize;
        while let Some(fd) = table.next(next) {
            if !each(fd as u64, NumberName::of(fd as u64).as_bytes(), kind) {
                break;
            }
            next = fd + 1;
        }
        Ok(())
    }
}

/// The bits of a link: for its owner what the file was opened for.
fn link_mode(file: &File) -> u32 {
    let mode = file.mode();
    let mut bits = 0;
    if mode.contains(FileMode::READ) || mode.contains(FileMode::PATH) {
        bits |= 0o500;
    }
    if mode.contains(FileMode::WRITE) || mode.contains(FileMode::PATH) {
        bits |= 0o300;
    }
    bits
}

/// An open descriptor, by number.
struct Descriptor {
    id: SubjectId,
    fd: i32,
    mode: u32,
}

impl Descriptor {
    fn file(&self) -> Result<Arc<File>> {
        table(&self.id)?.get_any(self.fd).map_err(|_| Errno::ENOENT)
    }
}

impl Meta for Descriptor {
    fn mode(&self) -> u32 {
        self.mode
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(owner(&self.id))
    }

    /// As long as the number has a file with the same rights: the link leads where it leads then.
    fn is_alive(&self) -> bool {
        self.file().is_ok_and(|file| link_mode(&file) == self.mode)
    }
}

impl LinkTarget for Descriptor {
    fn follow(&self, caller: &Caller) -> Result<Link> {
        may_follow(&self.id.find().ok_or(Errno::ENOENT)?, caller)?;
        Ok(Link::Jump(self.file()?.path().clone()))
    }
}

/// A file of fdinfo.
struct Info(Descriptor);

impl Meta for Info {
    fn mode(&self) -> u32 {
        0o444
    }

    fn owner(&self) -> Option<(u32, u32)> {
        self.0.owner()
    }

    fn is_alive(&self) -> bool {
        self.0.file().is_ok()
    }
}

impl Text for Info {
    fn open(&self, asker: &Asker) -> Result<()> {
        let subject = self.0.id.find().ok_or(Errno::ENOENT)?;
        access::check(&asker.cred, asker.tid, &subject, Ids::FileSystem).map_err(|_| Errno::EACCES)
    }

    fn show(&self, out: &mut TextBuf, _asker: &Asker) -> Result<()> {
        let table = table(&self.0.id)?;
        let file = table.get_any(self.0.fd).map_err(|_| Errno::ENOENT)?;
        let on_exec = table.is_close_on_exec(self.0.fd).unwrap_or(false);
        let flags = file.flags() | if on_exec { O_CLOEXEC } else { 0 };
        written(write!(
            out,
            "pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t{}\nino:\t{}\n",
            file.position(),
            file.path().mount.id,
            file.inode().ino
        ))?;
        written(file.ops().show_fdinfo(&file, out))
    }
}
