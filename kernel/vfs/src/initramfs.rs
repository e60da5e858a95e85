//! Unpacks an initramfs into the root file system.
//!
//! The archive is a newc cpio (see the crate `cpio`), plain or compressed with gzip, or several after one
//! another. What cannot be made is
//! reported by name and the rest goes on, as Linux does; a damaged archive ends the unpacking with what is
//! wrong and where.

use crate::attr::{self, NewTime, join_time};
use crate::cred::Cred;
use crate::fs_context::{Caller, FsContext};
use crate::iobuf::IoBuf;
use crate::namei::{self, New};
use crate::open::{self, OpenHow};
use crate::path::Path;
use crate::walk::{Look, Start, resolve};
use abi::fcntl::{O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY};
use abi::stat::*;
use abi::{Errno, errno::Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use cpio::{Archive, Corrupt, Entry};
use mem::VmallocRegion;

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: usize,
    pub bytes: u64,
    /// Entries that could not be made.
    pub failed: usize,
}

/// Why an archive was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    Corrupt(Corrupt),
    Gzip { offset: usize, error: gzip::Error },
    NoMemory { bytes: usize },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failed::Corrupt(corrupt) => corrupt.fmt(f),
            Failed::Gzip { offset, error } => write!(f, "{} at byte {offset}", error.text()),
            Failed::NoMemory { bytes } => write!(f, "no memory to unpack {bytes} bytes"),
        }
    }
}

/// What the root file system holds before anything is unpacked, so that the first process has a console even when the
/// archive, made by somebody who is not root, has no device files: /dev, /dev/console (5:1), /root. As Linux's
/// usr/default_cpio_list.
pub const DEFAULT: &str = concat!(
    "07070100000001000041ED0000000000000000000000020000000000000000",
    "000000000000000000000000000000000000000400000000dev\0\0\0",
    "07070100000002000021800000000000000000000000010000000000000000",
    "000000000000000000000005000000010000000C00000000dev/console\0\0\0",
    "07070100000003000041C00000000000000000000000020000000000000000",
    "000000000000000000000000000000000000000500000000root\0\0",
    "07070100000000000000000000000000000000000000010000000000000000",
    "000000000000000000000000000000000000000B00000000TRAILER!!!\0\0\0\0",
);

/// Unpacks `bytes` below `root` as root; `complain(name, error)` is told of entries that fail. Plain and
/// gzip-compressed archives may follow one another.
pub fn unpack(
    root: &Path,
    bytes: &[u8],
    mut complain: impl FnMut(&[u8], Errno),
) -> core::result::Result<Summary, Failed> {
    let cred = Cred::root();
    let fs = FsContext::new(root.clone());
    fs.set_umask(0);
    let mut unpacker = Unpacker {
        caller: Caller::new(&cred, &fs),
        links: BTreeMap::new(),
        dirs: Vec::new(),
        summary: Summary::default(),
    };
    let mut at = 0;
    while let Some(zeros) = bytes[at..].iter().position(|byte| *byte != 0) {
        at += zeros;
        let rest = &bytes[at..];
        if gzip::is_gzip(rest) {
            let (content, consumed) = inflate(rest).map_err(|failed| failed.behind(at))?;
            unpacker.archive(&content.bytes()[..consumed.len], &mut complain)?;
            at += consumed.consumed;
        } else {
            at += unpacker.archive(rest, &mut complain).map_err(|failed| failed.behind(at))?;
        }
    }
    unpacker.finish();
    Ok(unpacker.summary)
}

impl Failed {
    /// The same, `by` bytes further on.
    fn behind(self, by: usize) -> Failed {
        match self {
            Failed::Corrupt(Corrupt { offset, what }) => {
                Failed::Corrupt(Corrupt { offset: offset + by, what })
            }
            Failed::Gzip { offset, error } => Failed::Gzip { offset: offset + by, error },
            other => other,
        }
    }
}

/// Unpacks one gzip member into memory of its own. The size it claims is tried first.
fn inflate(bytes: &[u8]) -> core::result::Result<(VmallocRegion, gzip::Unpacked), Failed> {
    // DEFLATE shrinks to a thousandth at best: a claim above that is a lie, or another member's.
    let hint = gzip::size_hint(bytes);
    let plausible = hint >= bytes.len() / 2 && hint / 1100 <= bytes.len();
    let mut size = if plausible { hint } else { bytes.len().saturating_mul(4) }.max(arch::PAGE_SIZE);
    loop {
        let mut region = mem::vmalloc(size).map_err(|_| Failed::NoMemory { bytes: size })?;
        match gzip::unpack(bytes, region.bytes_mut()) {
            Ok(unpacked) => return Ok((region, unpacked)),
            Err(gzip::Error::TooSmall) => size = size.saturating_mul(2),
            Err(error) => return Err(Failed::Gzip { offset: 0, error }),
        }
    }
}

/// Device and inode number of a member: members of one file share it.
type MemberId = ((u32, u32), u32);

struct Unpacker<'a> {
    caller: Caller<'a>,
    /// The first name of files with several.
    links: BTreeMap<MemberId, Vec<u8>>,
    /// Directories' times are set last: filling them changes them.
    dirs: Vec<(Vec<u8>, u32)>,
    summary: Summary,
}

impl Unpacker<'_> {
    /// Unpacks plain archives up to the first gzip member; how many bytes that was.
    fn archive(
        &mut self,
        bytes: &[u8],
        complain: &mut impl FnMut(&[u8], Errno),
    ) -> core::result::Result<usize, Failed> {
        let mut archive = Archive::new(bytes);
        loop {
            let at = archive.offset();
            let zeros = bytes[at..].iter().take_while(|byte| **byte == 0).count();
            if at > 0 && gzip::is_gzip(&bytes[at + zeros..]) {
                return Ok(at);
            }
            let Some(entry) = archive.next() else { return Ok(bytes.len()) };
            let entry = entry.map_err(Failed::Corrupt)?;
            match self.add(&entry) {
                Ok(()) => {
                    self.summary.files += 1;
                    self.summary.bytes += entry.data.len() as u64;
                }
                Err(error) => {
                    self.summary.failed += 1;
                    complain(entry.name, error);
                }
            }
        }
    }

    fn add(&mut self, entry: &Entry) -> Result<()> {
        let name = entry.name.strip_prefix(b"/").unwrap_or(entry.name);
        if name.is_empty() || name == b"." {
            return self.own(b"/", entry);
        }
        match entry.mode & S_IFMT {
            S_IFDIR => self.directory(name, entry),
            S_IFREG => self.regular(name, entry),
            S_IFLNK => {
                self.clear(name)?;
                namei::make(&self.caller, Start::Cwd, name, New::Symlink { target: entry.data })?;
                self.own(name, entry)
            }
            S_IFCHR | S_IFBLK | S_IFIFO | S_IFSOCK => {
                if self.linked(name, entry)? {
                    return Ok(());
                }
                self.clear(name)?;
                let dev = DevId::new(entry.rdev.0, entry.rdev.1);
                namei::make(&self.caller, Start::Cwd, name, New::Node { mode: entry.mode, dev })?;
                self.own(name, entry)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn directory(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        match namei::make(&self.caller, Start::Cwd, name, New::Directory { mode: entry.mode & S_IALLUGO }) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
        self.dirs.push((name.to_vec(), entry.mtime_s));
        self.own(name, entry)
    }

    fn regular(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        if !self.linked(name, entry)? {
            self.clear(name)?;
        }
        if entry.nlink > 1
            && entry.data.is_empty()
            && resolve(&self.caller, Start::Cwd, name, Look::empty()).is_ok()
        {
            // A further name; the data comes with the last one.
            return Ok(());
        }
        let how = OpenHow::lenient(O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, entry.mode & S_IALLUGO)?;
        let file = open::open(&self.caller, Start::Cwd, name, how)?;
        let mut data = IoBuf::kernel_in(entry.data);
        while data.remaining() > 0 {
            if file.write(&mut data)? == 0 {
                return Err(Errno::EIO);
            }
        }
        drop(file);
        self.own(name, entry)
    }

    /// Makes another name for a member seen before; remembers a new one. True when there was one.
    fn linked(&mut self, name: &[u8], entry: &Entry) -> Result<bool> {
        if entry.nlink < 2 {
            return Ok(false);
        }
        let id = (entry.dev, entry.ino);
        let Some(first) = self.links.get(&id) else {
            self.links.insert(id, name.to_vec());
            return Ok(false);
        };
        let old = resolve(&self.caller, Start::Cwd, first, Look::empty())?;
        self.clear(name)?;
        namei::link(&self.caller, &old, Start::Cwd, name)?;
        Ok(true)
    }

    /// Removes what an earlier archive left under the name.
    fn clear(&self, name: &[u8]) -> Result<()> {
        let result = match namei::unlink(&self.caller, Start::Cwd, name) {
            Err(Errno::EISDIR) => namei::rmdir(&self.caller, Start::Cwd, name),
            result => result,
        };
        match result {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Owner, mode and time as the archive says.
    fn own(&self, name: &[u8], entry: &Entry) -> Result<()> {
        let place = resolve(&self.caller, Start::Cwd, name, Look::empty())?;
        attr::chown(&self.caller, &place, Some(entry.uid), Some(entry.gid))?;
        if !place.inode().is_symlink() {
            attr::chmod(&self.caller, &place, entry.mode)?;
        }
        self.set_time(&place, entry.mtime_s)
    }

    fn set_time(&self, place: &Path, mtime_s: u32) -> Result<()> {
        let time = NewTime::At(join_time(i64::from(mtime_s), 0));
        attr::set_times(&self.caller, place, time, time)
    }

    fn finish(&self) {
        for (name, mtime_s) in &self.dirs {
            if let Ok(place) = resolve(&self.caller, Start::Cwd, name, Look::empty()) {
                // A time that cannot be set is not worth a message.
                let _ = self.set_time(&place, *mtime_s);
            }
        }
    }
}
