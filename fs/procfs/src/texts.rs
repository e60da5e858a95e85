//! A file of a process whose text a function makes.

use abi::Errno;
use abi::errno::Result;
use kcore::access::{self, Ids};
use kcore::{Subject, SubjectId};
use kernfs::{Asker, Meta, Text, TextBuf};
use vfs::poll::Changes;

pub type Show = fn(&mut TextBuf, &Subject, &Asker) -> Result<()>;
pub type Store = fn(&Subject, &[u8], &Asker) -> Result<()>;

/// What is known about such a file besides whose it is.
#[derive(Clone, Copy)]
pub struct Spec {
    pub mode: u32,
    /// Only for those who may look into the process; EACCES at open for others.
    pub private: bool,
    pub show: Show,
    pub store: Option<Store>,
    /// What poll(2) tells of.
    pub changes: Option<&'static Changes>,
}

/// The file of one process or thread.
pub struct ProcessText {
    pub id: SubjectId,
    pub spec: Spec,
}

impl Meta for ProcessText {
    fn mode(&self) -> u32 {
        self.spec.mode
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(owner(&self.id))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }
}

/// Who owns a file of a process: root's once it is gone.
pub fn owner(id: &SubjectId) -> (u32, u32) {
    id.find().map_or((0, 0), |subject| subject.owner())
}

impl Text for ProcessText {
    fn open(&self, asker: &Asker) -> Result<()> {
        if self.spec.private {
            let subject = self.id.find().ok_or(Errno::ESRCH)?;
            access::check(&asker.cred, asker.tid, &subject, Ids::FileSystem).map_err(|_| Errno::EACCES)?;
        }
        Ok(())
    }

    fn show(&self, out: &mut TextBuf, asker: &Asker) -> Result<()> {
        (self.spec.show)(out, &self.id.find().ok_or(Errno::ESRCH)?, asker)
    }

    fn changes(&self) -> Option<&'static Changes> {
        self.spec.changes
    }

    fn store(&self, bytes: &[u8], asker: &Asker) -> Result<()> {
        let store = self.spec.store.ok_or(Errno::EINVAL)?;
        store(&self.id.find().ok_or(Errno::ESRCH)?, bytes, asker)
    }
}

/// Whether the asker may see addresses of the process.
pub fn permitted(subject: &Subject, asker: &Asker) -> bool {
    access::check(&asker.cred, asker.tid, subject, Ids::FileSystem).is_ok()
}
