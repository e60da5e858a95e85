//! The file systems that every program expects.

use core::ffi::CStr;

use rt::{Errno, eprintln, fs, nr};

struct Mount {
    kind: &'static CStr,
    at: &'static CStr,
    flags: u32,
    data: &'static CStr,
    /// Its absence is worth a message.
    expected: bool,
}

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
        at: c"/tmp",
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
    for Mount { kind, at, flags, data, expected } in MOUNTS {
        let _ = fs::mkdir(at, 0o755); // mostly there already
        match fs::mount(kind, at, kind, flags, data) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) if expected => eprintln!("init: cannot mount {kind:?} on {at:?}: {e}"),
            Err(_) => {}
        }
    }
    for (target, path) in DEV_LINKS {
        let _ = fs::symlink(target, path); // mostly convenience
    }
}
