//! File handles: name_to_handle_at(2), open_by_handle_at(2).
//!
//! **Problem.** A program (a file server, a backup) wants to come back to a file later, perhaps after a reboot, without its
//! name.
//!
//! **Idea.** A file system that finds inodes by number tells of each a generation, which the number's next user does not
//! share ([`InodeOps::handle_generation`]); both together are the handle. An inode that comes back has no name: a file gets a
//! directory entry of its own, beside those that the cache has of it. A directory may have but one, so its way up to the
//! root is gone, and from there down again by name.
//!
//! [`InodeOps::handle_generation`]: crate::InodeOps::handle_generation

use crate::dentry::Dentry;
use crate::dir::DirSink;
use crate::inode::InodeRef;
use crate::open::open_at_place;
use crate::path::Path;
use crate::walk::find_child;
use crate::{Caller, dcache};
use abi::fcntl::{FILEID_INO32_GEN, FILEID_INO64_GEN, O_DIRECTORY, O_NOATIME, O_RDONLY};
use abi::fs::DIRENT64_HEADER;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The words of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// `FILEID_*`.
    pub kind: i32,
    words: [u32; 3],
    len: usize,
}

/// Directories on the way from one to the root at most: more than any path can name.
const MOST_LEVELS: usize = 4096;

impl Handle {
    /// The handle of a file; `only_to_compare` (AT_HANDLE_FID): nobody will open it. EOPNOTSUPP where numbers lead to
    /// nothing.
    pub fn of(inode: &InodeRef, only_to_compare: bool) -> Result<Handle> {
        let generation = match inode.ops.handle_generation(inode) {
            Some(generation) => generation,
            None if only_to_compare => 0,
            None => return Err(Errno::EOPNOTSUPP),
        };
        let (low, high) = (inode.ino as u32, (inode.ino >> 32) as u32);
        Ok(match high {
            0 => Handle { kind: FILEID_INO32_GEN, words: [low, generation, 0], len: 8 },
            _ => Handle { kind: FILEID_INO64_GEN, words: [low, high, generation], len: 12 },
        })
    }

    /// What a program gives back. ESTALE for what is none.
    pub fn from_bytes(kind: i32, bytes: &[u8]) -> Result<Handle> {
        let len = match kind {
            FILEID_INO32_GEN => 8,
            FILEID_INO64_GEN => 12,
            _ => return Err(Errno::ESTALE),
        };
        let mut words = [0; 3];
        let given = bytes.get(..len).ok_or(Errno::ESTALE)?;
        for (word, bytes) in words.iter_mut().zip(given.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Ok(Handle { kind, words, len })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).take(self.len).collect()
    }

    fn number_and_generation(&self) -> (u64, u32) {
        let [a, b, c] = self.words;
        if self.kind == FILEID_INO32_GEN { (a.into(), b) } else { (u64::from(b) << 32 | u64::from(a), c) }
    }

    /// The file, in the file system of `mount`'s place. ESTALE when it is gone.
    pub fn find(&self, caller: &Caller, mount: &Path) -> Result<Path> {
        let sb = mount.mount.sb();
        let (number, generation) = self.number_and_generation();
        let inode = sb.ops.find_inode(sb, number, generation)?;
        let top = Path::new(mount.mount.clone(), top_of(&mount.mount.root));
        if inode.is_dir() {
            return connect(caller, top, inode);
        }
        Ok(Path::new(top.mount, Dentry::root(b"/", inode)))
    }
}

/// The root of the file system that an entry is in.
fn top_of(dentry: &Arc<Dentry>) -> Arc<Dentry> {
    let mut top = dentry.clone();
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top
}

/// The one entry of a directory, below `top`. ESTALE when it is moved or removed meanwhile.
fn connect(caller: &Caller, top: Path, inode: InodeRef) -> Result<Path> {
    let mut way = Vec::new();
    let mut at = inode;
    while !at.same(top.inode()) {
        if way.len() == MOST_LEVELS {
            return Err(Errno::ESTALE);
        }
        let parent = top.mount.sb().ops.parent_of(&at)?;
        way.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        way.push(core::mem::replace(&mut at, parent));
    }
    let mut place = top;
    for inode in way.iter().rev() {
        let name = name_of(caller, &place, inode.ino)?;
        let child = find_child(&place.dentry, &name, pathname::hash(dcache::seed(), &name))?;
        let child = child.filter(|child| child.inode().same(inode)).ok_or(Errno::ESTALE)?;
        place = Path::new(place.mount, child);
    }
    Ok(place)
}

/// The name of an inode in a directory.
fn name_of(caller: &Caller, dir: &Path, number: u64) -> Result<Vec<u8>> {
    const BATCH: usize = 8192;
    let file = open_at_place(caller, dir.clone(), O_RDONLY | O_DIRECTORY | O_NOATIME)?;
    loop {
        let mut sink = DirSink::new(BATCH)?;
        file.iterate(&mut sink)?;
        let mut rest = sink.bytes();
        if rest.is_empty() {
            return Err(Errno::ESTALE);
        }
        while rest.len() > DIRENT64_HEADER {
            let len =
                usize::from(u16::from_ne_bytes([rest[16], rest[17]])).clamp(DIRENT64_HEADER, rest.len());
            let (record, after) = rest.split_at(len);
            rest = after;
            let name = record[DIRENT64_HEADER..].split(|byte| *byte == 0).next().unwrap_or_default();
            let ino = u64::from_ne_bytes(record[..8].try_into().unwrap_or_default());
            if ino == number && name != b"." && name != b".." {
                return Ok(name.to_vec());
            }
        }
    }
}
