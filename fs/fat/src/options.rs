//! Mount options, with Linux's names. What is always so here is accepted, what cannot be had is refused.

use abi::fs::MS_RDONLY;
use abi::{Errno, errno::Result};
use core::fmt;
use vfs::{Caller, mount_options};

/// What mount(2) asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub read_only: bool,
    /// Owner of everything; by default who mounts it.
    pub uid: u32,
    pub gid: u32,
    /// Permissions that files and directories do not have; by default the umask of who mounts it.
    pub fmask: u32,
    pub dmask: u32,
    /// What cannot be kept (owners, most modes) is ignored and no error.
    pub quiet: bool,
}

/// Reads flags and options. EINVAL for one that is not known, or whose effect we cannot give.
pub(crate) fn parse(flags: u64, data: &[u8], caller: &Caller) -> Result<Options> {
    let umask = caller.fs.umask();
    let (uid, gid) = (caller.cred.uid, caller.cred.gid);
    read(
        data,
        Options { read_only: flags & MS_RDONLY != 0, uid, gid, fmask: umask, dmask: umask, quiet: false },
    )
}

/// Whether a remount asks for a read-only file system. The other options are checked, and stay as they are.
pub(crate) fn read_only(flags: u64, data: &[u8]) -> Result<bool> {
    let read_only = flags & MS_RDONLY != 0;
    let unused = Options { read_only, uid: 0, gid: 0, fmask: 0, dmask: 0, quiet: false };
    read(data, unused).map(|options| options.read_only)
}

fn read(data: &[u8], mut options: Options) -> Result<Options> {
    for (key, value) in mount_options(data) {
        match (key, value) {
            (b"ro", None) => options.read_only = true,
            (b"rw", None) => options.read_only = false,
            (b"uid", Some(value)) => options.uid = number(value, 10)?,
            (b"gid", Some(value)) => options.gid = number(value, 10)?,
            (b"umask", Some(value)) => {
                options.fmask = mask(value)?;
                options.dmask = options.fmask;
            }
            (b"fmask", Some(value)) => options.fmask = mask(value)?,
            (b"dmask", Some(value)) => options.dmask = mask(value)?,
            (b"quiet", None) => options.quiet = true,
            // So in any case.
            (b"utf8", None | Some(b"1" | b"yes" | b"true")) => {}
            (b"iocharset", Some(b"utf8")) => {}
            (b"codepage", Some(b"437")) => {}
            (b"shortname", Some(b"mixed")) => {}
            (b"errors", Some(b"remount-ro")) => {}
            (b"tz", Some(b"UTC")) => {}
            (b"check", Some(b"n" | b"normal")) => {}
            // Advice.
            (b"flush" | b"usefree" | b"debug" | b"defaults", None) => {}
            (b"relatime" | b"noatime" | b"nodiratime" | b"lazytime", None) => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(options)
}

fn number(value: &[u8], radix: u32) -> Result<u32> {
    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
    u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
}

fn mask(value: &[u8]) -> Result<u32> {
    number(value, 8).map(|mask| mask & 0o777)
}

impl Options {
    /// For /proc/mounts.
    pub fn show(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.uid != 0 {
            write!(out, ",uid={}", self.uid)?;
        }
        if self.gid != 0 {
            write!(out, ",gid={}", self.gid)?;
        }
        write!(out, ",fmask={:04o},dmask={:04o},codepage=437,shortname=mixed,utf8", self.fmask, self.dmask)?;
        if self.quiet {
            out.write_str(",quiet")?;
        }
        out.write_str(",errors=remount-ro")
    }
}
