//! Mount options, with Linux's names.

use abi::fs::MS_RDONLY;
use abi::{Errno, errno::Result};
use ext4_core::Options;
use vfs::mount_options;

/// What mount(2) asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MountOptions {
    pub core: Options,
    /// As given; for /proc/mounts. 0: the superblock's.
    pub errors: u16,
    /// Seconds between commits.
    pub commit_s: u32,
}

/// Reads flags and options. EINVAL for one that is not known, or whose effect we cannot give.
pub(crate) fn parse(flags: u64, data: &[u8]) -> Result<MountOptions> {
    let read_only = flags & MS_RDONLY != 0;
    let mut options =
        MountOptions { core: Options { read_only, ..Options::default() }, errors: 0, commit_s: 5 };
    for (key, value) in mount_options(data) {
        match (key, value) {
            (b"ro", None) => options.core.read_only = true,
            (b"rw", None) => options.core.read_only = false,
            (b"noload" | b"norecovery", None) => options.core.no_replay = true,
            (b"errors", Some(value)) => options.errors = errors(value)?,
            (b"data", Some(b"ordered")) => {}
            (b"barrier", None | Some(b"1")) => {}
            (b"discard", None) => options.core.discard = true,
            (b"nodiscard", None) => options.core.discard = false,
            (b"commit", Some(value)) => options.commit_s = seconds(value)?,
            // What is so in any case, or only advice.
            (b"acl" | b"user_xattr" | b"delalloc" | b"auto_da_alloc", None) => {}
            (b"block_validity" | b"noinit_itable" | b"grpid" | b"nogrpid" | b"lazytime", None) => {}
            (b"relatime" | b"noatime" | b"nodiratime" | b"strictatime" | b"defaults", None) => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    if options.core.no_replay && !options.core.read_only {
        return Err(Errno::EINVAL);
    }
    options.core.errors = (options.errors != 0).then_some(options.errors);
    Ok(options)
}

fn errors(value: &[u8]) -> Result<u16> {
    match value {
        b"continue" => Ok(1),
        b"remount-ro" => Ok(2),
        b"panic" => Ok(3),
        _ => Err(Errno::EINVAL),
    }
}

fn seconds(value: &[u8]) -> Result<u32> {
    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
    let seconds: u32 = text.parse().map_err(|_| Errno::EINVAL)?;
    match seconds {
        0 => Ok(5),
        1..=300 => Ok(seconds),
        _ => Err(Errno::EINVAL),
    }
}

/// The name of a behaviour on errors.
pub(crate) fn errors_name(errors: u16) -> &'static str {
    match errors {
        2 => "remount-ro",
        3 => "panic",
        _ => "continue",
    }
}
