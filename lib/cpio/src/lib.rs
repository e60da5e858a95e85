//! Reader of "newc" cpio archives, the format of an initramfs.
//!
//! **Problem.** The archive comes from outside. A cut or damaged one must end with a message that says
//! where and what, never with a panic or a wild read.
//!
//! **Interface.** [`Archive`] is an iterator of [`Entry`]s that borrow from the archive. After the trailer
//! of one archive another may follow, padded with zeros, as Linux allows.
//! Format: Linux's Documentation/driver-api/early-userspace/buffer-format.rst.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::fmt;

const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// Longest name, as Linux's PATH_MAX.
const NAME_MAX: usize = 4096;

/// One file of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The path, without the terminating zero.
    pub name: &'a [u8],
    pub data: &'a [u8],
    pub ino: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime_s: u32,
    pub dev: (u32, u32),
    pub rdev: (u32, u32),
}

/// What is wrong with the archive, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt {
    /// Byte offset of the header.
    pub offset: usize,
    pub what: &'static str,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

/// The entries of an archive in order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> Archive<'a> {
    pub fn new(bytes: &'a [u8]) -> Archive<'a> {
        Archive { bytes, at: 0, failed: false }
    }

    /// Where the next header is looked for.
    pub fn offset(&self) -> usize {
        self.at
    }

    fn skip_zeros(&mut self) {
        while self.bytes.get(self.at) == Some(&0) {
            self.at += 1;
        }
    }

    fn read_entry(&mut self) -> Result<Option<Entry<'a>>, &'static str> {
        loop {
            self.skip_zeros();
            if self.at >= self.bytes.len() {
                return Ok(None);
            }
            let entry = self.entry_here()?;
            if entry.name != TRAILER {
                return Ok(Some(entry));
            }
        }
    }

    fn entry_here(&mut self) -> Result<Entry<'a>, &'static str> {
        let header = self.bytes.get(self.at..self.at + HEADER).ok_or("cut off in a header")?;
        if !matches!(&header[..6], b"070701" | b"070702") {
            return Err("no \"newc\" magic number");
        }
        let mut fields = [0; 13];
        for (value, digits) in fields.iter_mut().zip(header[6..].chunks_exact(8)) {
            *value = hex(digits).ok_or("a header field is not hexadecimal")?;
        }
        let [ino, mode, uid, gid, nlink, mtime_s, size, dev_major, dev_minor, major, minor, name_size, _] =
            fields;
        let name_size = name_size as usize;
        if name_size == 0 || name_size > NAME_MAX {
            return Err("a name's length is 0 or above 4096");
        }
        let name_at = self.at + HEADER;
        let data_at = (name_at + name_size).next_multiple_of(4);
        let name = self.bytes.get(name_at..name_at + name_size).ok_or("cut off in a name")?;
        let name = name.strip_suffix(&[0]).ok_or("a name does not end with a zero byte")?;
        let data_end = data_at.checked_add(size as usize).ok_or("a size is too large")?;
        let data =
            if size == 0 { &[][..] } else { self.bytes.get(data_at..data_end).ok_or("cut off in a file")? };
        self.at = data_end.checked_next_multiple_of(4).ok_or("a size is too large")?;
        let (dev, rdev) = ((dev_major, dev_minor), (major, minor));
        Ok(Entry { name, data, ino, mode, uid, gid, nlink, mtime_s, dev, rdev })
    }
}

impl<'a> Iterator for Archive<'a> {
    type Item = Result<Entry<'a>, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.read_entry() {
            Ok(entry) => entry.map(Ok),
            Err(what) => {
                self.failed = true;
                Some(Err(Corrupt { offset: self.at, what }))
            }
        }
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
        let mut out = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            1,
            2,
            3,
            1,
            4,
            data.len(),
            0,
            0,
            5,
            6,
            name.len() + 1,
            0
        )
        .into_bytes();
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn sample() -> Vec<u8> {
        let mut out = member("dir", 0o040755, b"");
        out.extend(member("dir/file", 0o100644, b"hello"));
        out.extend(member("TRAILER!!!", 0, b""));
        out.resize(out.len().next_multiple_of(512), 0);
        out.extend(member("second", 0o120777, b"dir"));
        out
    }

    #[test]
    fn entries_of_two_archives() {
        let bytes = sample();
        let entries: Vec<_> = Archive::new(&bytes).map(Result::unwrap).collect();
        let names: Vec<_> = entries.iter().map(|e| e.name).collect();
        assert_eq!(names, [&b"dir"[..], b"dir/file", b"second"]);
        assert_eq!(entries[1].data, b"hello");
        assert_eq!(
            (entries[1].mode, entries[1].uid, entries[1].gid, entries[1].rdev),
            (0o100644, 2, 3, (5, 6))
        );
    }

    #[test]
    fn errors_say_what_and_where() {
        let bytes = sample();
        let second = member("dir", 0o040755, b"").len();
        let check = |bytes: &[u8], offset, what: &str| {
            let error = Archive::new(bytes).find_map(Result::err).unwrap();
            assert_eq!((error.offset, error.what), (offset, what));
        };
        check(&bytes[..second + 50], second, "cut off in a header");
        check(&bytes[..second + HEADER + 4], second, "cut off in a name");
        check(&bytes[..second + HEADER + 12], second, "cut off in a file");
        check(b"\x1f\x8bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0, "no \"newc\" magic number");
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..600, byte: u8, cut in 0usize..900) {
            let mut bytes = sample();
            if let Some(b) = bytes.get_mut(at) {
                *b = byte;
            }
            bytes.truncate(cut);
            prop_assert!(Archive::new(&bytes).count() < 20);
        }
    }
}
