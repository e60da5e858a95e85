//! The entries of a directory in memory.

use abi::stat::S_IFMT;
use alloc::collections::BTreeMap;
use pathname::Name;
use vfs::{DirSink, InodeRef};

/// Where an instance's own entries begin: 0 and 1 are "." and "..".
const FIRST: u64 = 2;

/// Names with their inodes. Positions grow and are never used again, so that a reader that stopped at one
/// goes on right behind it.
pub(crate) struct Entries {
    by_name: BTreeMap<Name, u64>,
    by_position: BTreeMap<u64, (Name, InodeRef)>,
    next: u64,
}

impl Entries {
    pub const fn new() -> Entries {
        Entries { by_name: BTreeMap::new(), by_position: BTreeMap::new(), next: FIRST }
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn get(&self, name: &[u8]) -> Option<&InodeRef> {
        let position = self.by_name.get(name)?;
        self.by_position.get(position).map(|entry| &entry.1)
    }

    /// Adds a name that is not there.
    pub fn insert(&mut self, name: &[u8], inode: InodeRef) {
        let name = Name::new(name);
        self.by_name.insert(name.clone(), self.next);
        self.by_position.insert(self.next, (name, inode));
        self.next += 1;
    }

    /// Removes a name; its inode.
    pub fn remove(&mut self, name: &[u8]) -> Option<InodeRef> {
        let position = self.by_name.remove(name)?;
        self.by_position.remove(&position).map(|entry| entry.1)
    }

    /// Puts another inode under a name; the old one.
    pub fn replace(&mut self, name: &[u8], inode: InodeRef) -> Option<InodeRef> {
        let position = self.by_name.get(name)?;
        let entry = self.by_position.get_mut(position)?;
        Some(core::mem::replace(&mut entry.1, inode))
    }

    /// Gives entries from `pos` on and moves it behind the last that fitted.
    pub fn list(&self, pos: &mut u64, sink: &mut DirSink) {
        for (&position, (name, inode)) in self.by_position.range(*pos..) {
            if !sink.add(name, inode.ino, inode.mode() & S_IFMT, position + 1) {
                return;
            }
            *pos = position + 1;
        }
    }

    /// Takes all inodes out, for dropping a tree without recursion.
    pub fn take_all(&mut self) -> impl Iterator<Item = InodeRef> + use<> {
        self.by_name.clear();
        core::mem::take(&mut self.by_position).into_values().map(|entry| entry.1)
    }
}
