//! Reading directories: from a file system's entries to `linux_dirent64` records.

use crate::file::File;
use abi::fs::{DIRENT64_HEADER, d_type, dirent64_len};
use abi::stat::S_IFDIR;
use alloc::vec::Vec;

/// Takes directory entries until it is full. Its memory is the kernel's, so a file system may fill it
/// under a spin lock.
pub struct DirSink {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl DirSink {
    /// A sink for `limit` bytes of records.
    pub fn new(limit: usize) -> Result<DirSink, abi::Errno> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(limit).map_err(|_| abi::Errno::ENOMEM)?;
        Ok(DirSink { bytes, limit, full: false })
    }

    /// Adds an entry; false when there is no room, and the file system stops with the position at this
    /// entry. `next` is the position behind the entry; `mode` gives the type.
    pub fn add(&mut self, name: &[u8], ino: u64, mode: u32, next: u64) -> bool {
        let len = dirent64_len(name.len());
        if len > self.limit - self.bytes.len() {
            self.full = true;
            return false;
        }
        let end = self.bytes.len() + len;
        self.bytes.extend_from_slice(&ino.to_ne_bytes());
        self.bytes.extend_from_slice(&next.to_ne_bytes());
        self.bytes.extend_from_slice(&(len as u16).to_ne_bytes());
        self.bytes.push(d_type(mode));
        debug_assert_eq!(end - len + DIRENT64_HEADER, self.bytes.len());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(end, 0);
        true
    }

    /// The records so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records, for changing them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of records that still fit.
    pub fn room(&self) -> usize {
        self.limit - self.bytes.len()
    }

    /// Whether an entry did not fit.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Empties it for the next batch of at most `limit` bytes (no more than it was made for).
    pub fn clear(&mut self, limit: usize) {
        self.bytes.clear();
        self.limit = limit.min(self.bytes.capacity());
        self.full = false;
    }
}

/// Gives "." and ".." at positions 0 and 1; false when the sink is full. Entries of the file system's own
/// then begin at position 2.
pub fn emit_dots(file: &File, pos: &mut u64, sink: &mut DirSink) -> bool {
    if *pos == 0 {
        if !sink.add(b".", file.inode().ino, S_IFDIR, 1) {
            return false;
        }
        *pos = 1;
    }
    if *pos == 1 {
        let parent = file.path().dentry.parent();
        let ino = parent.map_or(file.inode().ino, |parent| parent.inode().ino);
        if !sink.add(b"..", ino, S_IFDIR, 2) {
            return false;
        }
        *pos = 2;
    }
    true
}
