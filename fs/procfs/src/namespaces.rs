//! The directory ns: a link for each namespace of a process (proc_pid_ns(5)).

use crate::links::may_follow;
use crate::texts::owner;
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use kcore::SubjectId;
use kernfs::{Asker, Dir, Each, Kind, LinkTarget, Meta, Node};
use vfs::{Caller, Link, nsfs};

/// Names, in Linux's order, and the kind that each shows: a process that makes children in other namespaces than its
/// own would show them by the names with `_for_children`.
const NAMES: [(&str, &str); 10] = [
    ("net", "net"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("pid", "pid"),
    ("pid_for_children", "pid"),
    ("user", "user"),
    ("mnt", "mnt"),
    ("cgroup", "cgroup"),
    ("time", "time"),
    ("time_for_children", "time"),
];

/// `/proc/PID/ns`.
pub struct Namespaces {
    pub id: SubjectId,
}

impl Meta for Namespaces {
    fn mode(&self) -> u32 {
        0o511
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(owner(&self.id))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }
}

impl Dir for Namespaces {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        let kind = NAMES.iter().find(|(shown, _)| shown.as_bytes() == name).map(|(_, kind)| *kind);
        let kind = kind.and_then(|kind| nsfs::KINDS.iter().find(|known| known.name == kind));
        Ok(kind.map(|kind| Node::Link(Arc::new(NamespaceLink { id: self.id, kind }))))
    }

    fn directories(&self) -> u32 {
        0
    }

    fn list(&self, from: u64, _asker: &Asker, each: &mut Each) -> Result<()> {
        for (number, (name, _)) in (0..).zip(NAMES).skip(from as usize) {
            if !each(number, name.as_bytes(), Kind::Link) {
                break;
            }
        }
        Ok(())
    }
}

struct NamespaceLink {
    id: SubjectId,
    kind: &'static nsfs::Kind,
}

impl Meta for NamespaceLink {
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

impl LinkTarget for NamespaceLink {
    fn follow(&self, caller: &Caller) -> Result<Link> {
        may_follow(&self.id.find().ok_or(Errno::ENOENT)?, caller)?;
        Ok(Link::Jump(nsfs::path(self.kind)))
    }
}
