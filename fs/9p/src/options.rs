//! Mount options, with Linux's names.

use abi::{Errno, errno::Result};
use alloc::vec::Vec;
use core::fmt;
use vfs::mount_options;

/// What may be believed without asking the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Cache {
    None,
    /// Contents, for reading.
    ReadAhead,
    /// Contents, for writing too.
    Mmap,
    /// Names and attributes as well.
    Loose,
}

/// Who may use the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Everybody, by the rights that the files have.
    Client,
    /// As before, but new files belong to whoever mounted.
    Any,
    /// One user.
    Only(u32),
}

pub(crate) struct Options {
    pub msize: u32,
    pub cache: Cache,
    pub access: Access,
    pub uname: Vec<u8>,
    pub aname: Vec<u8>,
    pub xattrs: bool,
}

/// Linux's least and greatest for virtio, and its default.
pub(crate) const MIN_MSIZE: u32 = 4096;
const MAX_MSIZE: u32 = 512_000;
const DEFAULT_MSIZE: u32 = 128 << 10;

/// Reads mount(2)'s options. Those that are not known are passed over, as on Linux, where they may be some
/// transport's; those whose effect we cannot give are EINVAL.
pub(crate) fn parse(data: &[u8]) -> Result<Options> {
    let mut options = Options {
        msize: DEFAULT_MSIZE,
        cache: Cache::None,
        access: Access::Client,
        uname: b"nobody".to_vec(),
        aname: Vec::new(),
        xattrs: true,
    };
    for (key, value) in mount_options(data) {
        match (key, value) {
            (b"trans", Some(b"virtio")) | (b"version", Some(b"9p2000.L")) => {}
            (b"trans" | b"version" | b"posixacl" | b"fscache", _) => return Err(Errno::EINVAL),
            (b"msize", Some(value)) => options.msize = msize(value)?,
            (b"cache", Some(value)) => options.cache = cache(value)?,
            (b"loose", None) => options.cache = Cache::Loose,
            (b"mmap", None) => options.cache = Cache::Mmap,
            (b"access", Some(value)) => options.access = access(value)?,
            (b"uname", Some(value)) => options.uname = value.to_vec(),
            (b"aname", Some(value)) => options.aname = value.to_vec(),
            (b"noxattr", None) => options.xattrs = false,
            _ => {}
        }
    }
    Ok(options)
}

fn number(value: &[u8]) -> Result<u32> {
    core::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Errno::EINVAL)
}

fn msize(value: &[u8]) -> Result<u32> {
    let msize = number(value)?;
    if msize < MIN_MSIZE { Err(Errno::EINVAL) } else { Ok(msize.min(MAX_MSIZE)) }
}

fn cache(value: &[u8]) -> Result<Cache> {
    match value {
        b"none" => Ok(Cache::None),
        b"readahead" => Ok(Cache::ReadAhead),
        b"mmap" => Ok(Cache::Mmap),
        b"loose" => Ok(Cache::Loose),
        _ => Err(Errno::EINVAL),
    }
}

fn access(value: &[u8]) -> Result<Access> {
    match value {
        b"client" => Ok(Access::Client),
        b"any" => Ok(Access::Any),
        _ => number(value).map(Access::Only),
    }
}

impl Options {
    /// As /proc/mounts shows them.
    pub fn show(&self, msize: u32, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.cache {
            Cache::None => {}
            Cache::ReadAhead => out.write_str(",cache=readahead")?,
            Cache::Mmap => out.write_str(",cache=mmap")?,
            Cache::Loose => out.write_str(",cache=loose")?,
        }
        match self.access {
            Access::Client => out.write_str(",access=client")?,
            Access::Any => out.write_str(",access=any")?,
            Access::Only(uid) => write!(out, ",access={uid}")?,
        }
        if !self.xattrs {
            out.write_str(",noxattr")?;
        }
        write!(out, ",msize={msize},trans=virtio")
    }
}
