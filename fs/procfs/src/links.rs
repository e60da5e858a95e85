//! Symbolic links: self, thread-self; cwd, root and exe of a process.

use crate::texts::owner;
use abi::Errno;
use abi::errno::Result;
use alloc::format;
use kcore::access::{self, Ids};
use kcore::{Subject, SubjectId, pid};
use kernfs::{LinkTarget, Meta};
use vfs::{Caller, File, Link, Path};

/// `self` and `thread-self`: who asks.
pub struct SelfLink {
    pub thread: bool,
}

impl Meta for SelfLink {
    fn mode(&self) -> u32 {
        0o777
    }
}

impl LinkTarget for SelfLink {
    fn follow(&self, caller: &Caller) -> Result<Link> {
        let thread = pid::find_thread(caller.tid).ok_or(Errno::ENOENT)?;
        let (pid, tid) = (thread.process().pid(), thread.tid());
        let text = if self.thread { format!("{pid}/task/{tid}") } else { format!("{pid}") };
        Ok(Link::Text(text.as_bytes().into()))
    }

    fn is_magic(&self) -> bool {
        false
    }
}

/// Where a link of a process leads. ENOENT when there is nothing.
pub type Place = fn(&Subject) -> Result<Path>;

/// A link that jumps to a place of a process.
pub struct PlaceLink {
    pub id: SubjectId,
    pub place: Place,
}

impl Meta for PlaceLink {
    fn mode(&self) -> u32 {
        0o777
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(owner(&self.id))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }
}

impl LinkTarget for PlaceLink {
    fn follow(&self, caller: &Caller) -> Result<Link> {
        let subject = self.id.find().ok_or(Errno::ENOENT)?;
        may_follow(&subject, caller)?;
        (self.place)(&subject).map(Link::Jump)
    }
}

/// EACCES for those who may not look into the process.
pub fn may_follow(subject: &Subject, caller: &Caller) -> Result<()> {
    access::check(caller.cred, caller.tid, subject, Ids::FileSystem).map_err(|_| Errno::EACCES)
}

pub fn cwd(subject: &Subject) -> Result<Path> {
    Ok(subject.thread.as_ref().and_then(|thread| thread.fs()).ok_or(Errno::ENOENT)?.cwd())
}

pub fn root(subject: &Subject) -> Result<Path> {
    Ok(subject.thread.as_ref().and_then(|thread| thread.fs()).ok_or(Errno::ENOENT)?.root())
}

pub fn exe(subject: &Subject) -> Result<Path> {
    let program = subject.mm().and_then(|mm| mm.executable()).ok_or(Errno::ENOENT)?;
    let file = program.into_any().downcast::<File>().map_err(|_| Errno::ENOENT)?;
    Ok(file.path().clone())
}
