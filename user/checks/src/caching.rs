//! The page cache as programs see it: advice, syncing, mappings and files as one, and the knobs.

use crate::names::scratch;
use crate::{Check, Failure, Outcome, ensure, equal, skip};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::ffi::CStr;
use rt::mm::{self, PAGE};
use rt::nr::*;
use rt::{Errno, Result, fs, io, syscall};

pub const CHECKS: &[Check] = &[
    ("fadvise", fadvise),
    ("sync_file_range", sync_file_range),
    ("readahead", readahead),
    ("cachestat", cachestat),
    ("one_copy", one_copy),
    ("tail_is_zero", tail_is_zero),
    ("knobs", knobs),
    ("min_free_kbytes", min_free_kbytes),
    ("swap_errors", swap_errors),
    ("zram_comes_and_goes", zram_comes_and_goes),
    ("loop_comes_and_goes", loop_comes_and_goes),
];

fn advise(fd: io::Fd, start: i64, len: i64, advice: i32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fadvise64, fd, start, len, advice) }.map(drop)
}

fn fadvise() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    io::write_all(fd, &vec![7; 3 * PAGE])?;
    for advice in 0..6 {
        equal!(advise(fd, 0, 0, advice), Ok(()));
        equal!(advise(fd, 100, 5000, advice), Ok(()));
    }
    equal!(advise(fd, 0, 0, 6), Err(Errno::EINVAL));
    equal!(advise(fd, 0, -1, 0), Err(Errno::EINVAL));
    equal!(advise(99, 0, 0, 0), Err(Errno::EBADF));
    let (reader, _writer) = io::pipe(0)?;
    equal!(advise(reader, 0, 0, 0), Err(Errno::ESPIPE));
    let mut byte = [0];
    equal!(io::pread(fd, &mut byte, 2 * PAGE as u64)?, 1);
    equal!(byte, [7]);
    Ok(())
}

fn range(fd: io::Fd, start: i64, len: i64, flags: u32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_sync_file_range, fd, start, len, flags) }.map(drop)
}

fn sync_file_range() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    io::write_all(fd, &[1; 100])?;
    for flags in 0..8 {
        equal!(range(fd, 0, 0, flags), Ok(()));
        equal!(range(fd, 50, 10, flags), Ok(()));
    }
    equal!(range(fd, 0, 0, 8), Err(Errno::EINVAL));
    equal!(range(fd, -1, 0, 2), Err(Errno::EINVAL));
    equal!(range(fd, 0, -1, 2), Err(Errno::EINVAL));
    equal!(range(fd, i64::MAX, 1, 2), Err(Errno::EINVAL));
    let (reader, _writer) = io::pipe(0)?;
    equal!(range(reader, 0, 0, 2), Err(Errno::ESPIPE));
    Ok(())
}

fn readahead() -> Outcome {
    let ahead = |fd: io::Fd, count: usize| -> Result<()> {
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_readahead, fd, 0i64, count) }.map(drop)
    };
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    io::write_all(fd, &[1; 100])?;
    equal!(ahead(fd, 4096), Ok(()));
    equal!(ahead(fs::open(c"f", O_WRONLY, 0)?, 4096), Err(Errno::EBADF));
    equal!(ahead(fs::open(c".", O_RDONLY, 0)?, 4096), Err(Errno::EINVAL));
    let (reader, _writer) = io::pipe(0)?;
    equal!(ahead(reader, 4096), Err(Errno::EINVAL));
    Ok(())
}

/// Maps the first page of a file, shared.
fn map(fd: io::Fd) -> Result<usize> {
    // SAFETY: 1. a new place is asked for.
    unsafe { mm::map(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) }
}

fn store(at: usize, value: u8) {
    // SAFETY: 1. callers name a byte of a mapping they made.
    unsafe { (at as *mut u8).write_volatile(value) }
}

/// cachestat(2): cached, dirty, under write-back, evicted, recently evicted.
pub fn stat_of(fd: io::Fd, range: [u64; 2], flags: u32) -> Result<[u64; 5]> {
    let mut stat = [0u64; 5];
    // SAFETY: 1. the kernel reads two words and writes five.
    unsafe { syscall!(__NR_cachestat, fd, range.as_ptr(), stat.as_mut_ptr(), flags) }?;
    Ok(stat)
}

fn cachestat() -> Outcome {
    const SIZE: u64 = PAGE as u64;
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o644)?;
    io::write_all(fd, &vec![7; 3 * PAGE])?;
    let all = match stat_of(fd, [0, 0], 0) {
        Err(Errno::ENOSYS) => return Err(skip("no cachestat")),
        stat => stat?,
    };
    ensure!(all[0] == 3 && all[1] + all[2] <= 3, "{all:?}");
    equal!(stat_of(fd, [SIZE, 1], 0)?[0], 1);
    equal!(stat_of(fd, [SIZE - 1, 2], 0)?[0], 2);
    equal!(stat_of(fd, [5 * SIZE, 0], 0)?[0], 0);
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }?;
    equal!(stat_of(fd, [0, 0], 0)?, [3, 0, 0, 0, 0]);
    equal!(stat_of(fd, [0, 0], 1), Err(Errno::EINVAL));
    equal!(stat_of(99, [0, 0], 0), Err(Errno::EBADF));
    // SAFETY: 1. the kernel refuses the addresses.
    let wild = unsafe { syscall!(__NR_cachestat, fd, 8, 8, 0) };
    equal!(wild, Err(Errno::EFAULT));
    // Of a file that one may read only: Linux before 6.14 tells.
    fs::chmod(c".", 0o755)?;
    let status = rt::process::in_child(|| {
        // SAFETY: 1. no memory is named.
        let _ = unsafe { syscall!(__NR_setresuid, 1000, 1000, 1000) };
        match fs::open(c"f", O_RDONLY, 0).and_then(|fd| stat_of(fd, [0, 0], 0)) {
            Err(Errno::EPERM) => 0,
            _ => 1,
        }
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

/// read, write and a shared mapping see one copy, before and after the pages were synced and let go.
fn one_copy() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    io::write_all(fd, &[1; PAGE])?;
    let at = map(fd)?;
    for round in 0..3u8 {
        store(at + 5, 10 + round);
        io::pwrite(fd, &[20 + round], 6)?;
        // SAFETY: 1. the range is the mapping.
        unsafe { syscall!(__NR_msync, at, PAGE, MS_SYNC) }?;
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_fdatasync, fd) }?;
        advise(fd, 0, 0, 4)?;
        let mut bytes = [0; 2];
        io::pread(fd, &mut bytes, 5)?;
        equal!(bytes, [10 + round, 20 + round]);
        // SAFETY: 1. a byte of the mapping.
        equal!(unsafe { ((at + 6) as *const u8).read_volatile() }, 20 + round);
    }
    Ok(())
}

/// What is stored behind the end of a file through a mapping does not become part of it.
fn tail_is_zero() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    io::write_all(fd, &[1; 10])?;
    let at = map(fd)?;
    store(at + 50, 77);
    fs::ftruncate(fd, 5)?;
    fs::ftruncate(fd, 100)?;
    let mut bytes = [9; 100];
    equal!(io::pread(fd, &mut bytes, 0)?, 100);
    ensure!(bytes[..5] == [1; 5] && bytes[5..] == [0; 95], "{bytes:?}");
    Ok(())
}

/// The limits are numbers, and nonsense is refused.
fn knobs() -> Outcome {
    for path in [
        c"/proc/sys/vm/dirty_ratio",
        c"/proc/sys/vm/dirty_background_ratio",
        c"/proc/sys/vm/dirty_bytes",
        c"/proc/sys/vm/dirty_background_bytes",
        c"/proc/sys/vm/dirty_expire_centisecs",
        c"/proc/sys/vm/dirty_writeback_centisecs",
        c"/proc/sys/vm/swappiness",
        c"/proc/sys/vm/vfs_cache_pressure",
        c"/proc/sys/vm/min_free_kbytes",
    ] {
        let text = fs::read_file(path)?;
        let digits = text.strip_suffix(b"\n").unwrap_or_default();
        ensure!(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit), "{path:?}: {text:?}");
    }
    for (path, text) in [
        (c"/proc/sys/vm/dirty_ratio", &b"101"[..]),
        (c"/proc/sys/vm/dirty_background_ratio", b"-1"),
        (c"/proc/sys/vm/dirty_bytes", b"1"),
        (c"/proc/sys/vm/swappiness", b"201"),
        (c"/proc/sys/vm/swappiness", b"much"),
    ] {
        // Where the files cannot be opened for writing there is nothing to check.
        let Ok(fd) = fs::open(path, O_WRONLY, 0) else { continue };
        equal!(io::write(fd, text), Err(Errno::EINVAL));
    }
    Ok(())
}

/// The sum of a mark of all zones, in pages.
fn zone_marks(name: &str) -> core::result::Result<u64, Failure> {
    let text = fs::read_file(c"/proc/zoneinfo")?;
    let text = String::from_utf8_lossy(&text);
    let marks = text.lines().filter_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(' '));
    marks.map(|mark| mark.trim().parse::<u64>().map_err(|_| Failure(mark.to_string()))).sum()
}

/// What is to stay free is what the zones' marks say.
fn min_free_kbytes() -> Outcome {
    let path = c"/proc/sys/vm/min_free_kbytes";
    let Ok(fd) = fs::open(path, O_RDWR, 0) else { return Err(skip("it cannot be set here")) };
    let mut old = [0; 16];
    let len = io::pread(fd, &mut old, 0)?;
    let text = core::str::from_utf8(&old[..len]).map_err(|_| Failure("no text".to_string()))?;
    let kib: u64 = text.trim().parse().map_err(|_| Failure(text.to_string()))?;
    let before = (zone_marks("min")?, zone_marks("low")?, zone_marks("high")?);
    let more = format!("{}", kib + 512);
    io::pwrite(fd, more.as_bytes(), 0)?;
    let after = (zone_marks("min"), zone_marks("low"), zone_marks("high"));
    io::pwrite(fd, text.trim().as_bytes(), 0)?;
    let grown = after.0? - before.0;
    // Zones round down.
    ensure!((120..=130).contains(&grown), "{grown} pages more for 512 KiB");
    ensure!(after.1? > before.1 && after.2? > before.2, "the other marks stay");
    equal!(zone_marks("min")?, before.0);
    equal!(io::pwrite(fd, b"-1", 0), Err(Errno::EINVAL));
    equal!(io::pwrite(fd, b"some", 0), Err(Errno::EINVAL));
    Ok(())
}

fn swap_errors() -> Outcome {
    scratch()?;
    io::close(fs::open(c"f", O_CREAT | O_RDWR, 0o600)?)?;
    // SAFETY: 1. no memory but the path is named.
    let on = |flags: u32| unsafe { syscall!(__NR_swapon, c"f".as_ptr(), flags) }.map(drop);
    // SAFETY: 1. as above.
    let off = unsafe { syscall!(__NR_swapoff, c"f".as_ptr()) }.map(drop);
    equal!(on(1 << 31), Err(Errno::EINVAL));
    ensure!(matches!(on(0), Err(Errno::EINVAL | Errno::EPERM)), "{:?}", on(0));
    ensure!(matches!(off, Err(Errno::EINVAL | Errno::EPERM)), "{off:?}");
    Ok(())
}

fn zram_comes_and_goes() -> Outcome {
    let control = c"/sys/class/zram-control/hot_add";
    let read = match fs::read_file(control) {
        Ok(read) => read,
        Err(Errno::ENOENT | Errno::EACCES) => return Err(skip("no zram, or not root")),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&read).trim().to_string();
    let number: u32 = text.parse().map_err(|_| Failure(text.clone()))?;
    let path = |text: String| CString::new(text).map_err(|_| Failure("a zero".to_string()));
    let store = |name: &CStr, text: &str| -> Result<()> {
        let fd = fs::open(name, O_WRONLY, 0)?;
        let written = io::write_all(fd, text.as_bytes());
        io::close(fd)?;
        written
    };
    let size = path(format!("/sys/block/zram{number}/disksize"))?;
    store(&size, "1M")?;
    let device = fs::open(&path(format!("/dev/zram{number}"))?, O_RDWR, 0)?;
    io::write_all(device, &vec![7; 3 * PAGE])?;
    let remove = || store(c"/sys/class/zram-control/hot_remove", &text);
    equal!(remove(), Err(Errno::EBUSY));
    let mut back = vec![0; PAGE];
    io::pread(device, &mut back, PAGE as u64)?;
    ensure!(back == vec![7; PAGE], "a device in use stays as it is");
    io::close(device)?;
    remove()?;
    equal!(fs::stat(&size).map(drop), Err(Errno::ENOENT));
    equal!(fs::open(&path(format!("/dev/zram{number}"))?, O_RDWR, 0).map(drop), Err(Errno::ENOENT));
    equal!(remove(), Err(Errno::ENODEV));
    // The number is free again.
    let again = fs::read_file(control)?;
    equal!(again, read);
    remove()?;
    Ok(())
}

fn loop_comes_and_goes() -> Outcome {
    const LOOP_CTL_ADD: u32 = 0x4c80;
    const LOOP_CTL_REMOVE: u32 = 0x4c81;
    const NUMBER: usize = 60;
    let Ok(control) = fs::open(c"/dev/loop-control", O_RDWR, 0) else {
        return Err(skip("no loop devices, or not root"));
    };
    // SAFETY: 1. the argument is a number.
    let ask = |command: u32| unsafe { syscall!(__NR_ioctl, control, command, NUMBER) };
    equal!(ask(LOOP_CTL_REMOVE), Err(Errno::ENODEV));
    equal!(ask(LOOP_CTL_ADD), Ok(NUMBER));
    equal!(ask(LOOP_CTL_ADD), Err(Errno::EEXIST));
    if let Ok(device) = fs::open(c"/dev/loop60", O_RDONLY, 0) {
        equal!(ask(LOOP_CTL_REMOVE), Err(Errno::EBUSY));
        io::close(device)?;
    }
    equal!(ask(LOOP_CTL_REMOVE), Ok(0));
    equal!(fs::stat(c"/sys/block/loop60").map(drop), Err(Errno::ENOENT));
    equal!(ask(LOOP_CTL_REMOVE), Err(Errno::ENODEV));
    Ok(())
}
