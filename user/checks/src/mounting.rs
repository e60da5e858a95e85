//! Mounting by steps: fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).

use crate::{Check, Outcome, ensure, equal, skip};
use alloc::string::String;
use core::ffi::CStr;
use rt::nr::*;
use rt::{Errno, Result, fs, io, process, syscall};

pub const CHECKS: &[Check] = &[
    ("steps", steps),
    ("reconfigured", reconfigured),
    ("trees", trees),
    ("deep", deep),
    ("general_options", general_options),
    ("moved", moved),
    ("attributes_change", attributes_change),
    ("numbers", numbers),
    ("bad_steps", bad_steps),
    ("needs_a_right", needs_a_right),
];

const CWD: i32 = -100;
const SET_FLAG: usize = 0;
const SET_STRING: usize = 1;
const CREATE: usize = 6;
const RECONFIGURE: usize = 7;
const EMPTY_PATH: usize = 0x1000;
const RECURSIVE: usize = 0x8000;

/// Any call. Each use passes addresses of its own live memory, strings with their end, or none.
fn call(number: u32, args: [usize; 5]) -> Result<usize> {
    // SAFETY: 1. by the sentence above.
    unsafe { syscall!(number, args[0], args[1], args[2], args[3], args[4]) }
}

fn at(text: &CStr) -> usize {
    text.as_ptr() as usize
}

fn configure(fd: usize, command: usize, key: Option<&CStr>, value: Option<&CStr>) -> Result<()> {
    call(__NR_fsconfig, [fd, command, key.map_or(0, at), value.map_or(0, at), 0]).map(drop)
}

/// A tmpfs that is in no tree, with these attributes.
fn detached(attributes: usize) -> Result<usize> {
    let context = call(__NR_fsopen, [at(c"tmpfs"), 1, 0, 0, 0])?;
    configure(context, SET_STRING, Some(c"source"), Some(c"checks"))?;
    configure(context, SET_STRING, Some(c"size"), Some(c"1m"))?;
    configure(context, CREATE, None, None)?;
    let mount = call(__NR_fsmount, [context, 1, attributes, 0, 0]);
    io::close(context as _)?;
    mount
}

fn place(mount: usize, dir: &CStr) -> Result<()> {
    call(__NR_move_mount, [mount, at(c""), CWD as usize, at(dir), 4]).map(drop)
}

fn mounts() -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read_file(c"/proc/self/mounts")?).into_owned())
}

/// The line of /proc/mounts for a place, if it is there.
fn line(dir: &str) -> Result<Option<String>> {
    Ok(mounts()?.lines().find(|line| line.split(' ').nth(1) == Some(dir)).map(Into::into))
}

/// Works below a directory of its own; skips where nothing may be mounted.
fn scratch() -> Outcome {
    let dir = c"/tmp/checks-mounting";
    let _ = fs::mkdir(dir, 0o755);
    match fs::mount(c"checks", dir, c"tmpfs", 0, c"") {
        Err(Errno::EPERM) => return Err(skip("no right to mount")),
        result => result?,
    }
    // What propagates cannot be moved.
    let _ = call(__NR_mount, [0, at(dir), 0, 1 << 18, 0]);
    fs::mkdir(c"/tmp/checks-mounting/a", 0o755)?;
    fs::mkdir(c"/tmp/checks-mounting/b", 0o755)?;
    Ok(())
}

fn clean() {
    let _ = fs::umount(c"/tmp/checks-mounting", 2);
}

/// A check below the scratch directory.
fn below(check: fn() -> Outcome) -> Outcome {
    scratch()?;
    let result = check();
    clean();
    result
}

const A: &CStr = c"/tmp/checks-mounting/a";
const B: &CStr = c"/tmp/checks-mounting/b";

/// Mounts in mounts, deeper than calls could follow in a kernel's stack: copied, dropped, bound and taken away.
fn deep() -> Outcome {
    below(|| {
        const BIND_ALL: usize = 0x1000 | 0x4000;
        const LAZY: u32 = 2;
        fs::chdir(A)?;
        for _ in 0..300 {
            fs::mkdir(c"d", 0o755)?;
            fs::mount(c"deep", c"d", c"tmpfs", 0, c"size=64k")?;
            fs::chdir(c"d")?;
        }
        fs::chdir(c"/")?;
        let copy = call(__NR_open_tree, [CWD as usize, at(A), 1 | RECURSIVE, 0, 0])?;
        io::close(copy as _)?;
        call(__NR_mount, [at(A), at(B), 0, BIND_ALL, 0])?;
        ensure!(
            mounts()?.lines().filter(|line| line.starts_with("deep ")).count() == 600,
            "not all were bound"
        );
        fs::umount(B, LAZY)?;
        ensure!(
            mounts()?.lines().filter(|line| line.starts_with("deep ")).count() == 300,
            "not all are gone"
        );
        Ok(())
    })
}

/// MS_SYNCHRONOUS and MS_DIRSYNC are shown; a remount changes the first only.
fn general_options() -> Outcome {
    const SYNCHRONOUS: u32 = 16;
    const REMOUNT: u32 = 32;
    const DIRSYNC: u32 = 128;
    fn shown() -> Result<String> {
        let line = line("/tmp/checks-mounting/a")?.unwrap_or_default();
        Ok(line.split(' ').nth(3).unwrap_or_default().into())
    }
    below(|| {
        fs::mount(c"general", A, c"tmpfs", SYNCHRONOUS | DIRSYNC, c"size=64k")?;
        let both = shown()?;
        ensure!(both.starts_with("rw,sync,dirsync,relatime"), "{both}");
        fs::mount(c"general", A, c"tmpfs", REMOUNT, c"size=64k")?;
        let one = shown()?;
        ensure!(one.starts_with("rw,dirsync,relatime"), "{one}");
        Ok(fs::umount(A, 0)?)
    })
}

fn steps() -> Outcome {
    below(|| {
        let context = call(__NR_fsopen, [at(c"tmpfs"), 0, 0, 0, 0])?;
        equal!(call(__NR_fsmount, [context, 0, 0, 0, 0]), Err(Errno::EINVAL));
        configure(context, SET_STRING, Some(c"source"), Some(c"steps"))?;
        equal!(configure(context, SET_STRING, Some(c"source"), Some(c"two")), Err(Errno::EINVAL));
        configure(context, SET_STRING, Some(c"size"), Some(c"64k"))?;
        configure(context, CREATE, None, None)?;
        equal!(configure(context, CREATE, None, None), Err(Errno::EBUSY));
        equal!(configure(context, SET_STRING, Some(c"size"), Some(c"1m")), Err(Errno::EBUSY));
        // MOUNT_ATTR_NODEV and NOEXEC.
        let mount = call(__NR_fsmount, [context, 0, 12, 0, 0])?;
        equal!(call(__NR_fsmount, [context, 0, 0, 0, 0]), Err(Errno::EBUSY));
        // It can be used before it is anywhere.
        let file = call(__NR_openat, [mount, at(c"file"), (O_CREAT | O_RDWR) as usize, 0o600, 0])?;
        io::write_all(file as _, b"here")?;
        ensure!(line("/tmp/checks-mounting/a")?.is_none(), "it is mounted");
        place(mount, A)?;
        let shown = line("/tmp/checks-mounting/a")?.unwrap_or_default();
        ensure!(
            shown.starts_with("steps /tmp/checks-mounting/a tmpfs rw,nodev,noexec,relatime,size=64k"),
            "{shown}"
        );
        equal!(fs::read_file(c"/tmp/checks-mounting/a/file")?, b"here");
        Ok(())
    })
}

fn reconfigured() -> Outcome {
    below(|| {
        place(detached(0)?, A)?;
        let context = call(__NR_fspick, [CWD as usize, at(A), 1, 0, 0])?;
        configure(context, SET_FLAG, Some(c"ro"), None)?;
        configure(context, RECONFIGURE, None, None)?;
        equal!(fs::open(c"/tmp/checks-mounting/a/x", O_CREAT | O_RDWR, 0o600), Err(Errno::EROFS));
        configure(context, SET_FLAG, Some(c"rw"), None)?;
        configure(context, RECONFIGURE, None, None)?;
        io::close(fs::open(c"/tmp/checks-mounting/a/x", O_CREAT | O_RDWR, 0o600)?)?;
        equal!(call(__NR_fspick, [CWD as usize, at(B), 0, 0, 0]), Err(Errno::EINVAL));
        Ok(())
    })
}

fn trees() -> Outcome {
    below(|| {
        place(detached(0)?, A)?;
        let top = c"/tmp/checks-mounting";
        let plain = call(__NR_open_tree, [CWD as usize, at(A), 0, 0, 0])?;
        equal!(fs::stat(c"/tmp/checks-mounting/a")?.st_ino, 1);
        // A copy without what is mounted below, and one with it.
        let alone = call(__NR_open_tree, [CWD as usize, at(top), 1, 0, 0])?;
        let whole = call(__NR_open_tree, [CWD as usize, at(top), 1 | RECURSIVE, 0, 0])?;
        io::close(fs::open(c"/tmp/checks-mounting/a/inside", O_CREAT | O_RDWR, 0o600)?)?;
        let sees = |tree: usize| call(__NR_faccessat, [tree, at(c"a/inside"), 0, 0, 0]).is_ok();
        equal!((sees(alone), sees(whole)), (false, true));
        place(alone, B)?;
        ensure!(line("/tmp/checks-mounting/b")?.is_some(), "the copy is not there");
        for fd in [plain, alone, whole] {
            io::close(fd as _)?;
        }
        // Nothing is left of the copies.
        fs::umount(B, 2)?;
        fs::umount(A, 2)?;
        fs::rmdir(A)?;
        Ok(())
    })
}

fn moved() -> Outcome {
    below(|| {
        place(detached(0)?, A)?;
        fs::mkdir(c"/tmp/checks-mounting/a/deep", 0o755)?;
        let deep = c"/tmp/checks-mounting/a/deep";
        equal!(call(__NR_move_mount, [CWD as usize, at(A), CWD as usize, at(deep), 0]), Err(Errno::ELOOP));
        equal!(call(__NR_move_mount, [CWD as usize, at(deep), CWD as usize, at(B), 0]), Err(Errno::EINVAL));
        call(__NR_move_mount, [CWD as usize, at(A), CWD as usize, at(B), 0])?;
        ensure!(line("/tmp/checks-mounting/a")?.is_none(), "it is still there");
        ensure!(line("/tmp/checks-mounting/b")?.is_some(), "it is not there");
        Ok(())
    })
}

fn attributes_change() -> Outcome {
    below(|| {
        place(detached(0)?, A)?;
        let change = |dir: &CStr, flags: usize, new: [u64; 4]| {
            call(__NR_mount_setattr, [CWD as usize, at(dir), flags, new.as_ptr() as usize, 32])
        };
        change(A, 0, [1 | 2, 0, 0, 0])?;
        let shown = line("/tmp/checks-mounting/a")?.unwrap_or_default();
        ensure!(shown.contains(" ro,nosuid,relatime"), "{shown}");
        // One is cleared, and the times of access are set, in one call.
        change(A, 0, [0x10, 1 | 0x70, 0, 0])?;
        let shown = line("/tmp/checks-mounting/a")?.unwrap_or_default();
        ensure!(shown.contains(" rw,nosuid,noatime"), "{shown}");
        equal!(change(A, 0, [0x10, 0, 0, 0]), Err(Errno::EINVAL));
        equal!(change(A, 0, [0, 0x10, 0, 0]), Err(Errno::EINVAL));
        equal!(change(A, 0, [1 << 40, 0, 0, 0]), Err(Errno::EINVAL));
        equal!(change(B, 0, [1, 0, 0, 0]), Err(Errno::EINVAL));
        let writer = fs::open(c"/tmp/checks-mounting/a/x", O_CREAT | O_RDWR, 0o600)?;
        equal!(change(c"/tmp/checks-mounting", RECURSIVE, [1, 0, 0, 0]), Err(Errno::EBUSY));
        ensure!(line("/tmp/checks-mounting")?.unwrap_or_default().contains(" rw,"), "half of it changed");
        io::close(writer)?;
        change(c"/tmp/checks-mounting", RECURSIVE, [1, 0, 0, 0])?;
        ensure!(line("/tmp/checks-mounting/a")?.unwrap_or_default().contains(" ro,"), "not recursive");
        let long = [0u64, 0, 0, 0, 1];
        let asked = [CWD as usize, at(A), 0, long.as_ptr() as usize, 40];
        equal!(call(__NR_mount_setattr, asked), Err(Errno::E2BIG));
        equal!(
            call(__NR_mount_setattr, [CWD as usize, at(A), 0, long.as_ptr() as usize, 31]),
            Err(Errno::EINVAL)
        );
        Ok(())
    })
}

/// The number of a place's mount that no other ever has.
fn number_of(path: &CStr) -> Result<u64> {
    const UNIQUE: u32 = 0x4000;
    let mut statx = [0u64; 32];
    call(__NR_statx, [CWD as usize, at(path), 0, UNIQUE as usize, statx.as_mut_ptr() as usize])?;
    // Older kernels do not tell.
    if statx[0] as u32 & UNIQUE == 0 { Err(Errno::ENOSYS) } else { Ok(statx[18]) }
}

const SB_BASIC: u64 = 1;
const MNT_BASIC: u64 = 2;
const MNT_ROOT: u64 = 8;
const MNT_POINT: u64 = 16;
const FS_TYPE: u64 = 32;

/// statmount(2) into a buffer of so many bytes.
fn statmount(id: u64, asked: u64, len: usize) -> Result<[u64; 128]> {
    let mut stat = [0u64; 128];
    let request = [24, id, asked];
    call(__NR_statmount, [request.as_ptr() as usize, stat.as_mut_ptr() as usize, len, 0, 0])?;
    Ok(stat)
}

/// A string of the answer.
fn string(stat: &[u64; 128], at: u64) -> String {
    let bytes = stat[64..].iter().flat_map(|word| word.to_ne_bytes()).skip(at as u32 as usize);
    bytes.take_while(|byte| *byte != 0).map(char::from).collect()
}

fn listmount(id: u64, after: u64) -> Result<alloc::vec::Vec<u64>> {
    let (request, mut ids) = ([24, id, after], [0u64; 1024]);
    let count =
        call(__NR_listmount, [request.as_ptr() as usize, ids.as_mut_ptr() as usize, ids.len(), 0, 0])?;
    Ok(ids[..count].to_vec())
}

fn numbers() -> Outcome {
    scratch()?;
    let top = match number_of(c"/tmp/checks-mounting") {
        Err(Errno::ENOSYS) => return Err(skip("mounts have no lasting numbers")),
        number => number?,
    };
    for dir in [c"/tmp/checks-mounting/a", c"/tmp/checks-mounting/b"] {
        // Without set-user-id.
        let mount = detached(2)?;
        place(mount, dir)?;
        io::close(mount as _)?;
    }
    let (a, b) = (number_of(c"/tmp/checks-mounting/a")?, number_of(c"/tmp/checks-mounting/b")?);
    let all = SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE;
    let stat = statmount(a, all, 1024)?;
    equal!((stat[1] & all, stat[3], stat[5], stat[6]), (all, 0x0102_1994, a, top));
    equal!(stat[8] & 2, 2);
    equal!(string(&stat, stat[4] >> 32), "tmpfs");
    equal!(string(&stat, stat[13]), "/");
    equal!(string(&stat, stat[13] >> 32), "/tmp/checks-mounting/a");
    equal!(statmount(a, MNT_BASIC, 512)?[5], a);
    equal!(statmount(a, MNT_POINT, 520).err(), Some(Errno::EOVERFLOW));
    equal!(statmount(1 << 60, MNT_BASIC, 512).err(), Some(Errno::ENOENT));
    // In the order of their numbers.
    equal!(listmount(top, 0)?, [a.min(b), a.max(b)]);
    equal!(listmount(top, a.min(b))?, [a.max(b)]);
    equal!(listmount(a, 0)?, []);
    let seen = listmount(u64::MAX, 0)?;
    ensure!(seen.is_sorted() && [top, a, b].iter().all(|id| seen.contains(id)), "{seen:?}");
    fs::umount(c"/tmp/checks-mounting/a", 0)?;
    equal!(statmount(a, MNT_BASIC, 512).err(), Some(Errno::ENOENT));
    let bad = [24u64 | 1 << 32, b, 0];
    let stat = |request: &[u64; 3], flags| call(__NR_statmount, [request.as_ptr() as usize, 8, 0, flags, 0]);
    equal!(stat(&bad, 0), Err(Errno::EINVAL));
    equal!(stat(&[23, b, 0], 0), Err(Errno::EINVAL));
    equal!(stat(&[24, b, 0], 1), Err(Errno::EINVAL));
    equal!(stat(&[1 << 20, b, 0], 0), Err(Errno::E2BIG));
    Ok(())
}

fn bad_steps() -> Outcome {
    below(|| {
        equal!(call(__NR_fsopen, [at(c"no-such-fs"), 0, 0, 0, 0]), Err(Errno::ENODEV));
        equal!(call(__NR_fsopen, [at(c"tmpfs"), 2, 0, 0, 0]), Err(Errno::EINVAL));
        let context = call(__NR_fsopen, [at(c"tmpfs"), 0, 0, 0, 0])?;
        equal!(configure(context, SET_FLAG, None, None), Err(Errno::EINVAL));
        equal!(configure(context, SET_STRING, Some(c"size"), None), Err(Errno::EINVAL));
        equal!(configure(context, CREATE, Some(c"size"), None), Err(Errno::EINVAL));
        equal!(configure(context, 99, None, None), Err(Errno::EOPNOTSUPP));
        equal!(configure(context, RECONFIGURE, None, None), Err(Errno::EBUSY));
        let (read, _write) = io::pipe(0)?;
        equal!(configure(read as usize, CREATE, None, None), Err(Errno::EINVAL));
        equal!(configure(999, CREATE, None, None), Err(Errno::EBADF));
        equal!(call(__NR_fsmount, [read as usize, 0, 0, 0, 0]), Err(Errno::EINVAL));
        equal!(call(__NR_fsmount, [context, 0, 1 << 30, 0, 0]), Err(Errno::EINVAL));
        equal!(call(__NR_open_tree, [CWD as usize, at(A), RECURSIVE, 0, 0]), Err(Errno::EINVAL));
        equal!(call(__NR_open_tree, [CWD as usize, at(A), 0x4_0000, 0, 0]), Err(Errno::EINVAL));
        equal!(call(__NR_move_mount, [CWD as usize, at(A), CWD as usize, at(B), 0x8000]), Err(Errno::EINVAL));
        Ok(())
    })
}

fn needs_a_right() -> Outcome {
    let child = process::fork()?;
    if child.is_none() {
        // SAFETY: 1. setresuid takes numbers.
        let _ = unsafe { syscall!(__NR_setresuid, 1000, 1000, 1000) };
        let new = [1u64, 0, 0, 0];
        let refused = call(__NR_fsopen, [at(c"tmpfs"), 0, 0, 0, 0]) == Err(Errno::EPERM)
            && call(__NR_fspick, [CWD as usize, at(c"/"), 0, 0, 0]) == Err(Errno::EPERM)
            && call(__NR_open_tree, [CWD as usize, at(c"/"), 1, 0, 0]) == Err(Errno::EPERM)
            && call(__NR_mount_setattr, [CWD as usize, at(c"/"), 0, new.as_ptr() as usize, 32])
                == Err(Errno::EPERM);
        let plain = call(__NR_open_tree, [CWD as usize, at(c"/"), EMPTY_PATH, 0, 0]).is_ok();
        process::exit(i32::from(!refused || !plain));
    }
    equal!(process::wait_exit(child.unwrap_or(0))?.exit_code(), Some(0));
    Ok(())
}
