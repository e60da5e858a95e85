//! The file systems that every program expects, and the end of those on disks.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use core::ffi::CStr;

use alloc::vec::Vec;

use rt::{Errno, eprintln, fs, nr};

struct Mount {
    kind: &'static CStr,
    at: &'static CStr,
    flags: u32,
    data: &'static CStr,
    /// Its absence is worth a message.
    expected: bool,
}

/// For users' files, which a root on a disk keeps itself.
const TMP: &CStr = c"/tmp";

const SAFE: u32 = nr::MS_NOSUID | nr::MS_NODEV | nr::MS_NOEXEC;

/// In order: `/dev` before what lies in it.
const MOUNTS: [Mount; 8] = [
    Mount { kind: c"proc", at: c"/proc", flags: SAFE, data: c"", expected: true },
    Mount { kind: c"sysfs", at: c"/sys", flags: SAFE, data: c"", expected: true },
    Mount { kind: c"devtmpfs", at: c"/dev", flags: nr::MS_NOSUID, data: c"mode=0755", expected: true },
    Mount {
        kind: c"devpts",
        at: c"/dev/pts",
        flags: nr::MS_NOSUID | nr::MS_NOEXEC,
        data: c"gid=5,mode=620,ptmxmode=666",
        expected: true,
    },
    Mount {
        kind: c"tmpfs",
        at: c"/dev/shm",
        flags: nr::MS_NOSUID | nr::MS_NODEV,
        data: c"mode=1777",
        expected: true,
    },
    Mount {
        kind: c"tmpfs",
        at: TMP,
        flags: nr::MS_NOSUID | nr::MS_NODEV,
        data: c"mode=1777",
        expected: true,
    },
    Mount {
        kind: c"tmpfs",
        at: c"/run",
        flags: nr::MS_NOSUID | nr::MS_NODEV,
        data: c"mode=0755",
        expected: true,
    },
    Mount { kind: c"debugfs", at: c"/sys/kernel/debug", flags: SAFE, data: c"", expected: false },
];

const DEV_LINKS: [(&CStr, &CStr); 4] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
];

/// Mounts them all; a failure is told on the console and left at that.
pub fn mount_all() {
    let on_disk = fs::stat(c"/").is_ok_and(|root| is_disk(root.st_dev));
    for Mount { kind, at, flags, data, expected } in MOUNTS {
        if on_disk && at == TMP {
            continue;
        }
        let _ = fs::mkdir(at, 0o755); // mostly there already
        match fs::mount(kind, at, kind, flags, data) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) if expected => eprintln!("init: cannot mount {kind:?} on {at:?}: {e}"),
            Err(_) => {}
        }
    }
    mount_shares();
    for (target, path) in DEV_LINKS {
        let _ = fs::symlink(target, path); // mostly convenience
    }
    if fs::mkdir(c"/run/lock", 0).is_ok() {
        let _ = fs::chmod(c"/run/lock", 0o1777); // /var/lock of Debian
    }
}

/// Whether a device number is a block device's: file systems in memory have the major number 0.
fn is_disk(dev: u64) -> bool {
    (dev >> 8) & 0xfff != 0 || dev >> 44 != 0
}

/// Writes everything back; then file systems on disks are unmounted, or, as far as they are in use, made read-only, so
/// that they are clean.
pub fn put_away() {
    fs::sync();
    let table = fs::read_file(c"/proc/self/mounts").unwrap_or_default();
    for line in table.split(|&b| b == b'\n').rev() {
        let mut words = line.split(|&b| b == b' ');
        let (Some(source), Some(place)) = (words.next(), words.next()) else { continue };
        let Ok(place) = CString::new(unescaped(place)) else { continue };
        if source.starts_with(b"/dev/") && (place.as_c_str() == c"/" || fs::umount(&place, 0).is_err()) {
            let remounted = fs::mount(c"", &place, c"", nr::MS_REMOUNT | nr::MS_RDONLY, c"");
            if let Err(e) = remounted {
                eprintln!("init: cannot make {place:?} read-only: {e}");
            }
        }
    }
}

/// `/proc/mounts` writes blanks as `\040` and the like.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| core::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(escaped) => {
                out.push(escaped);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Directories of the host's, by the mount tags that `--share` gives: at /mnt/share, /mnt/share1 and so on, as far as
/// there are any. Contents are cached as long as the host does not change them.
fn mount_shares() {
    const OPTIONS: &CStr = c"trans=virtio,version=9p2000.L,cache=mmap";
    for number in 0u32.. {
        let tag = if number == 0 { String::from("share") } else { format!("share{number}") };
        let (Ok(place), Ok(tag)) = (CString::new(format!("/mnt/{tag}")), CString::new(tag)) else { return };
        let made = fs::mkdir(&place, 0o755).is_ok();
        if let Err(e) = fs::mount(&tag, &place, c"9p", nr::MS_NOSUID | nr::MS_NODEV, OPTIONS) {
            // Without such a tag, or on a kernel without 9P, there is nothing to say.
            if !matches!(e, Errno::ENOENT | Errno::ENODEV) {
                eprintln!("init: cannot mount {tag:?} on {place:?}: {e}");
            }
            if made {
                let _ = fs::rmdir(&place); // an empty directory disturbs nobody
            }
            return;
        }
    }
}
