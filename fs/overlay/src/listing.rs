//! Directories, merged: the names of all parts, each once, without those that are hidden.
//!
//! A listing is made when a directory is read from its start, and kept with the open file; positions count its names.
//! What is added or removed meanwhile shows or not, as readdir(3) allows.

use crate::layers::{Overlay, Real, is_whiteout};
use crate::node::{Node, node};
use abi::errno::Result;
use abi::fcntl::{O_DIRECTORY, O_RDONLY};
use abi::fs::DIRENT64_HEADER;
use abi::{Errno, stat::S_IFCHR};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use sync::{SpinLock, levels};
use vfs::open::open_at_place;
use vfs::{DirSink, File, FileOps, Path, emit_dots};

/// A name of a directory.
pub(crate) struct Entry {
    pub name: Vec<u8>,
    ino: u64,
    /// The type, as a mode has it.
    kind: u32,
}

/// Records of one getdents64(2) among ourselves.
const BATCH: usize = 16 << 10;

/// The names in one directory of a layer, without `.` and `..`.
pub(crate) fn read(fs: &Overlay, dir: &Real) -> Result<Vec<Entry>> {
    read_at(fs, &fs.path(dir))
}

/// As [`read`], of any directory.
pub(crate) fn read_at(fs: &Overlay, path: &Path) -> Result<Vec<Entry>> {
    let file = fs.as_mounter(|caller| open_at_place(caller, path.clone(), O_RDONLY | O_DIRECTORY))?;
    let (mut entries, mut sink) = (Vec::new(), DirSink::new(BATCH)?);
    loop {
        sink.clear(BATCH);
        file.iterate(&mut sink)?;
        if sink.bytes().is_empty() {
            return Ok(entries);
        }
        take_records(sink.bytes(), &mut entries)?;
    }
}

/// Takes `linux_dirent64` records apart.
fn take_records(mut bytes: &[u8], entries: &mut Vec<Entry>) -> Result<()> {
    while let Some(head) = bytes.get(..DIRENT64_HEADER) {
        let ino = u64::from_ne_bytes(head[..8].try_into().map_err(|_| Errno::EIO)?);
        let len = usize::from(u16::from_ne_bytes(head[16..18].try_into().map_err(|_| Errno::EIO)?));
        let record = bytes.get(..len).filter(|_| len >= DIRENT64_HEADER).ok_or(Errno::EIO)?;
        let text = &record[DIRENT64_HEADER..];
        let name = &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())];
        bytes = &bytes[len..];
        if name == b"." || name == b".." {
            continue;
        }
        let mut own = Vec::new();
        own.try_reserve_exact(name.len()).and(entries.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        own.extend_from_slice(name);
        entries.push(Entry { name: own, ino, kind: u32::from(head[18]) << 12 });
    }
    Ok(())
}

/// The names that a directory of the overlay shows. Below [`task::stacked`].
pub(crate) fn merged(node: &Node) -> Result<Vec<Entry>> {
    let fs = &node.fs;
    let (mut shown, mut seen) = (Vec::new(), BTreeSet::new());
    let parts: Vec<Real> = node.upper_real().into_iter().chain(node.lowers.iter().cloned()).collect();
    for (number, part) in parts.iter().enumerate() {
        for mut entry in read(fs, part)? {
            if seen.contains(&entry.name) {
                continue;
            }
            // Only character devices can be whiteouts.
            let hidden = entry.kind == S_IFCHR
                && fs.child(part, &entry.name)?.is_none_or(|real| is_whiteout(real.inode()));
            if number + 1 < parts.len() {
                seen.insert(entry.name.clone());
            }
            if !hidden {
                entry.ino = fs.number(part.layer, entry.ino);
                shown.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                shown.push(entry);
            }
        }
    }
    Ok(shown)
}

/// An open directory.
#[derive(Default)]
pub(crate) struct DirFile {
    listing: SpinLock<Option<Arc<Vec<Entry>>>, levels::Inode>,
}

impl DirFile {
    fn listing(&self, file: &File, anew: bool) -> Result<Arc<Vec<Entry>>> {
        let known = self.listing.lock().clone();
        if let Some(known) = known.filter(|_| !anew) {
            return Ok(known);
        }
        let _layers = task::stacked();
        let new = Arc::new(merged(node(file.inode())?)?);
        let old = self.listing.lock().replace(new.clone());
        drop(old);
        Ok(new)
    }
}

impl FileOps for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        /// Positions of `.` and `..`.
        const DOTS: u64 = 2;
        let listing = self.listing(file, *pos == 0)?;
        if !emit_dots(file, pos, sink) {
            return Ok(());
        }
        let skip = usize::try_from(*pos - DOTS).unwrap_or(usize::MAX);
        for entry in listing.iter().skip(skip) {
            if !sink.add(&entry.name, entry.ino, entry.kind, *pos + 1) {
                break;
            }
            *pos += 1;
        }
        Ok(())
    }

    fn fsync(&self, file: &File, start: u64, end: u64, data_only: bool) -> Result<()> {
        let _layers = task::stacked();
        let node = node(file.inode())?;
        let Some(upper) = node.upper().filter(|_| !node.fs.volatile) else { return Ok(()) };
        let path = node.fs.upper_path(upper);
        let real = node.fs.as_mounter(|caller| open_at_place(caller, path, O_RDONLY | O_DIRECTORY))?;
        real.ops().fsync(&real, start, end, data_only)
    }
}
