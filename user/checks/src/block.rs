//! A scratch disk: block special files, their ioctls, partitions, schedulers.
//!
//! `CHECKS_DISK` names the device, whose contents are lost; without it these are skipped. A loop device does
//! (with `losetup -P`, for partitions).

use crate::{Check, Failure, Outcome, ensure, equal, skip};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, env, fs, process, syscall};

pub const CHECKS: &[Check] = &[
    ("sizes", sizes),
    ("ends", ends),
    ("coherent", coherent),
    ("read_ahead", read_ahead),
    ("mapped_read_ahead", mapped_read_ahead),
    ("direct_alignment", direct_alignment),
    ("mapped", mapped),
    ("zeroes", zeroes),
    ("read_only", read_only),
    ("exclusive", exclusive),
    ("partitions", partitions),
    ("counters", counters),
    ("schedulers", schedulers),
    ("priorities", priorities),
];

const BLKROSET: u32 = 0x125d;
const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKRASET: u32 = 0x1262;
const BLKRAGET: u32 = 0x1263;
const BLKSSZGET: u32 = 0x1268;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKDISCARD: u32 = 0x1277;
const BLKZEROOUT: u32 = 0x127f;

fn path() -> core::result::Result<CString, Failure> {
    match env::var("CHECKS_DISK") {
        Some(path) => CString::new(path).map_err(|_| Failure("CHECKS_DISK has a zero".to_string())),
        None => Err(skip("CHECKS_DISK names no scratch disk")),
    }
}

/// The device's name in /sys.
fn name() -> core::result::Result<String, Failure> {
    let path = path()?;
    Ok(path.to_string_lossy().rsplit('/').next().unwrap_or_default().to_string())
}

fn open(flags: u32) -> core::result::Result<Fd, Failure> {
    Ok(fs::open(&path()?, flags | O_CLOEXEC, 0)?)
}

fn ioctl<T>(fd: Fd, command: u32, argument: &mut T) -> Result<usize> {
    // SAFETY: 1. the commands of this file read or write at most what their callers pass.
    unsafe { syscall!(__NR_ioctl, fd, command, core::ptr::from_mut(argument)) }
}

fn size(fd: Fd) -> Result<u64> {
    let mut bytes = 0u64;
    ioctl(fd, BLKGETSIZE64, &mut bytes)?;
    Ok(bytes)
}

/// How many of the first 256 pages are cached after one byte was read, with a read-ahead of so many sectors.
fn pages_read(fd: Fd, sectors: usize) -> core::result::Result<usize, Failure> {
    const PAGES: usize = 256;
    // SAFETY: 1. the argument is a number; 2. none.
    unsafe { syscall!(__NR_ioctl, fd, BLKRASET, sectors) }?;
    let mut now = 0usize;
    ioctl(fd, BLKRAGET, &mut now)?;
    equal!(now, sectors);
    // SAFETY: 1. none is named.
    unsafe { syscall!(__NR_fadvise64, fd, 0i64, 0i64, 4) }?;
    let reader = open(O_RDONLY)?;
    equal!(io::pread(reader, &mut [0], 0)?, 1);
    // SAFETY: 1. a new place is asked for; 2. mincore writes a byte for each page; 3. the mapping is ours.
    let (at, mut there) =
        (unsafe { rt::mm::map(0, PAGES * 4096, PROT_READ, MAP_SHARED, reader, 0) }?, vec![0u8; PAGES]);
    // SAFETY: 1. mincore writes a byte for each page.
    unsafe { syscall!(__NR_mincore, at, PAGES * 4096, there.as_mut_ptr()) }?;
    // SAFETY: 1. the mapping is this function's.
    unsafe { rt::mm::unmap(at, PAGES * 4096) }?;
    io::close(reader)?;
    Ok(there.iter().filter(|page| **page & 1 != 0).count())
}

/// Touches a page in each window of `window` pages of a mapping, from the last window to the first, and then its
/// neighbour; whether the first page of the window that was touched last is cached.
fn touch_windows(fd: Fd, window: usize, windows: usize) -> core::result::Result<bool, Failure> {
    let bytes = window * windows * 4096;
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fadvise64, fd, 0i64, 0i64, 4) }?;
    // SAFETY: 1. a new place is asked for.
    let at = unsafe { rt::mm::map(0, bytes, PROT_READ, MAP_SHARED, fd, 0) }?;
    for number in (0..windows).rev() {
        let middle = at + (number * window + window / 2) * 4096;
        for page in [middle, middle + 4096] {
            // SAFETY: 1. within the mapping, which nobody else writes.
            unsafe { core::ptr::read_volatile(page as *const u8) };
        }
    }
    let mut there = 0u8;
    // SAFETY: 1. mincore writes a byte for each page.
    unsafe { syscall!(__NR_mincore, at, 4096usize, &raw mut there) }?;
    // SAFETY: 1. the mapping is this function's.
    unsafe { rt::mm::unmap(at, bytes) }?;
    Ok(there & 1 != 0)
}

/// What is touched here and there through a mapping is read with what is around it, however often that was a miss, as
/// long as the pages around are used, too.
fn mapped_read_ahead() -> Outcome {
    const PAGES: usize = 8;
    let fd = open(O_RDONLY)?;
    let mut before = 0usize;
    ioctl(fd, BLKRAGET, &mut before)?;
    // SAFETY: 1. the argument is a number.
    unsafe { syscall!(__NR_ioctl, fd, BLKRASET, PAGES * 8) }?;
    let reader = open(O_RDONLY)?;
    let cached = touch_windows(reader, PAGES, 300);
    io::close(reader)?;
    // SAFETY: 1. the argument is a number.
    unsafe { syscall!(__NR_ioctl, fd, BLKRASET, before) }?;
    ensure!(cached?, "the last window was not read");
    Ok(())
}

/// BLKRASET, which is queue/read_ahead_kb, says how much is read.
fn read_ahead() -> Outcome {
    let fd = open(O_RDONLY)?;
    let mut before = 0usize;
    ioctl(fd, BLKRAGET, &mut before)?;
    let (none, some, much) = (pages_read(fd, 0)?, pages_read(fd, 128)?, pages_read(fd, 1024)?);
    // SAFETY: 1. the argument is a number.
    unsafe { syscall!(__NR_ioctl, fd, BLKRASET, before) }?;
    ensure!(none == 1 && (2..=32).contains(&some) && much > some, "{none} {some} {much} pages");
    let shown = fs::read_file(
        &CString::new(format!("/sys/block/{}/queue/read_ahead_kb", name()?)).unwrap_or_default(),
    )?;
    equal!(shown, format!("{}\n", before / 2).into_bytes());
    Ok(())
}

/// Memory for O_DIRECT.
struct Aligned(Vec<u8>, usize);

impl Aligned {
    fn new(len: usize) -> Aligned {
        let bytes = vec![0; len + 4096];
        let skip = bytes.as_ptr().align_offset(4096);
        Aligned(bytes, skip)
    }

    fn of(&mut self, len: usize) -> &mut [u8] {
        &mut self.0[self.1..self.1 + len]
    }
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}

fn sizes() -> Outcome {
    let fd = open(O_RDONLY)?;
    let bytes = size(fd)?;
    let (mut sectors, mut block, mut read_only) = (0usize, 0u32, 1u32);
    ioctl(fd, BLKGETSIZE, &mut sectors)?;
    ioctl(fd, BLKSSZGET, &mut block)?;
    ioctl(fd, BLKROGET, &mut read_only)?;
    equal!((sectors as u64 * 512, read_only), (bytes, 0));
    ensure!(block.is_power_of_two() && (512..=4096).contains(&block), "a block of {block} bytes");
    equal!(io::seek(fd, 0, SEEK_END)?, bytes);
    let stat = fs::fstat(fd)?;
    equal!(stat.st_mode & S_IFMT, S_IFBLK);
    equal!(stat.st_size, 0);
    let name = name()?;
    let shown = read_text(&format!("/sys/class/block/{name}/size"))?;
    equal!(shown.trim().parse::<u64>().unwrap_or(0) * 512, bytes);
    Ok(())
}

fn read_text(path: &str) -> core::result::Result<String, Failure> {
    let path = CString::new(path).map_err(|_| Failure("a zero".to_string()))?;
    Ok(String::from_utf8_lossy(&fs::read_file(&path)?).into_owned())
}

fn ends() -> Outcome {
    let fd = open(O_RDWR)?;
    let bytes = size(fd)?;
    let mut buffer = [0; 16];
    equal!(io::pread(fd, &mut buffer, bytes)?, 0);
    equal!(io::pwrite(fd, &buffer, bytes), Err(Errno::ENOSPC));
    equal!(io::pwrite(fd, &buffer, bytes - 4)?, 4);
    equal!(io::pread(fd, &mut buffer, bytes - 4)?, 4);
    equal!(io::seek(fd, bytes as i64 + 1, SEEK_SET), Err(Errno::EINVAL));
    equal!(io::seek(fd, bytes as i64, SEEK_SET)?, bytes);
    Ok(())
}

fn coherent() -> Outcome {
    let (buffered, direct) = (open(O_RDWR)?, open(O_RDWR | O_DIRECT)?);
    let mut memory = Aligned::new(65_536);
    for round in 0..4u8 {
        let at = 65_536 + u64::from(round) * 4096;
        // Not aligned: a page is read, changed in part, and written.
        let written = pattern(round, 20_000);
        equal!(io::pwrite(buffered, &written, at + 700)?, 20_000);
        let seen = memory.of(28_672);
        equal!(io::pread(direct, seen, at)?, 28_672);
        ensure!(seen[700..20_700] == written, "a direct read misses a buffered write");
        let written = pattern(round ^ 0x80, 16_384);
        memory.of(16_384).copy_from_slice(&written);
        equal!(io::pwrite(direct, memory.of(16_384), at + 4096)?, 16_384);
        let mut seen = vec![0; 16_384];
        equal!(io::pread(buffered, &mut seen, at + 4096)?, 16_384);
        ensure!(seen == written, "a buffered read misses a direct write");
    }
    // SAFETY: 1. fsync takes a descriptor.
    unsafe { syscall!(__NR_fsync, buffered) }?;
    // SAFETY: as above.
    unsafe { syscall!(__NR_ioctl, buffered, BLKFLSBUF, 0) }?;
    let synced = open(O_RDWR | O_SYNC)?;
    equal!(io::pwrite(synced, &pattern(9, 5000), 300_000)?, 5000);
    let mut seen = vec![0; 5000];
    equal!(io::pread(buffered, &mut seen, 300_000)?, 5000);
    ensure!(seen == pattern(9, 5000), "a synchronous write");
    Ok(())
}

fn direct_alignment() -> Outcome {
    let fd = open(O_RDWR | O_DIRECT)?;
    let mut memory = Aligned::new(8192);
    equal!(io::pread(fd, memory.of(4096), 100), Err(Errno::EINVAL));
    equal!(io::pread(fd, memory.of(1000), 0), Err(Errno::EINVAL));
    equal!(io::pwrite(fd, memory.of(4096), 100), Err(Errno::EINVAL));
    equal!(io::pwrite(fd, memory.of(1000), 0), Err(Errno::EINVAL));
    equal!(io::pread(fd, memory.of(8192), size(fd)? - 4096)?, 4096);
    Ok(())
}

fn mapped() -> Outcome {
    let (fd, direct) = (open(O_RDWR)?, open(O_RDONLY | O_DIRECT)?);
    equal!(io::pwrite(fd, &pattern(1, 8192), 409_600)?, 8192);
    let protection = PROT_READ | PROT_WRITE;
    // SAFETY: 1. a new mapping at an address of the kernel's choice.
    let at = unsafe { syscall!(__NR_mmap, 0, 8192, protection, MAP_SHARED, fd, 409_600) }?;
    // SAFETY: 1. the mapping has 8192 bytes and nobody else refers to it.
    let bytes = unsafe { core::slice::from_raw_parts_mut(at as *mut u8, 8192) };
    ensure!(bytes == pattern(1, 8192), "the mapping misses a write");
    bytes[5000] ^= 0xff;
    // SAFETY: 1. the range is mapped.
    unsafe { syscall!(__NR_msync, at, 8192, MS_SYNC) }?;
    let mut memory = Aligned::new(8192);
    equal!(io::pread(direct, memory.of(8192), 409_600)?, 8192);
    let mut wanted = pattern(1, 8192);
    wanted[5000] ^= 0xff;
    ensure!(memory.of(8192) == wanted, "the device misses a store");
    Ok(())
}

fn zeroes() -> Outcome {
    let fd = open(O_RDWR)?;
    equal!(io::pwrite(fd, &pattern(3, 65_536), 1 << 20)?, 65_536);
    equal!(ioctl(fd, BLKZEROOUT, &mut [(1u64 << 20) + 4096, 8192])?, 0);
    let mut seen = vec![0; 65_536];
    equal!(io::pread(fd, &mut seen, 1 << 20)?, 65_536);
    let mut wanted = pattern(3, 65_536);
    wanted[4096..12_288].fill(0);
    ensure!(seen == wanted, "what was zeroed");
    equal!(ioctl(fd, BLKZEROOUT, &mut [100u64, 512]), Err(Errno::EINVAL));
    // fallocate(2) says the same.
    let allocate = |mode: u32, at: u64, len: u64| {
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_fallocate, fd, mode, at, len) }
    };
    equal!(allocate(FALLOC_FL_ZERO_RANGE, (1 << 20) + 16_384, 4096), Ok(0));
    wanted[16_384..20_480].fill(0);
    equal!(io::pread(fd, &mut seen, 1 << 20)?, 65_536);
    ensure!(seen == wanted, "what fallocate zeroed");
    equal!(allocate(FALLOC_FL_ZERO_RANGE, size(fd)?, 4096), Err(Errno::EINVAL));
    equal!(allocate(FALLOC_FL_ZERO_RANGE, 100, 4096), Err(Errno::EINVAL));
    equal!(allocate(0, 0, 4096), Err(Errno::EOPNOTSUPP));
    let discarded = ioctl(fd, BLKDISCARD, &mut [1u64 << 20, 65_536]);
    ensure!(matches!(discarded, Ok(0) | Err(Errno::EOPNOTSUPP)), "discard: {discarded:?}");
    equal!(ioctl(fd, BLKDISCARD, &mut [1u64 << 20, u64::MAX]).is_err(), true);
    Ok(())
}

fn read_only() -> Outcome {
    let fd = open(O_RDWR)?;
    ioctl(fd, BLKROSET, &mut 1u32)?;
    let refused = io::pwrite(fd, b"x", 0);
    let mut shown = 0u32;
    ioctl(fd, BLKROGET, &mut shown)?;
    ioctl(fd, BLKROSET, &mut 0u32)?;
    equal!((refused, shown), (Err(Errno::EPERM), 1));
    equal!(io::pwrite(fd, b"x", 0)?, 1);
    Ok(())
}

fn exclusive() -> Outcome {
    let first = open(O_RDONLY | O_EXCL)?;
    equal!(fs::open(&path()?, O_RDONLY | O_EXCL, 0), Err(Errno::EBUSY));
    let plain = open(O_RDONLY)?;
    io::close(first)?;
    io::close(plain)?;
    open(O_RDONLY | O_EXCL)?;
    Ok(())
}

/// Writes an MBR with these partitions (start, sectors) and has it read.
fn repartition(fd: Fd, partitions: &[(u32, u32)]) -> Result<usize> {
    let mut block = vec![0u8; 512];
    block[510..].copy_from_slice(&[0x55, 0xaa]);
    for (place, (start, sectors)) in partitions.iter().enumerate() {
        let at = 446 + 16 * place;
        block[at + 4] = 0x83;
        block[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        block[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }
    io::pwrite(fd, &block, 0)?;
    // SAFETY: 1. the command takes no argument.
    unsafe { syscall!(__NR_ioctl, fd, BLKRRPART, 0) }
}

fn partitions() -> Outcome {
    let fd = open(O_RDWR)?;
    if repartition(fd, &[(2048, 4096), (8192, 100)]) == Err(Errno::EINVAL) {
        return Err(skip("the device has no partitions (losetup -P)"));
    }
    let name = name()?;
    let digit = name.ends_with(|last: char| last.is_ascii_digit());
    let part = |number: u32| format!("{name}{}{number}", if digit { "p" } else { "" });
    let text = |number: u32, file: &str| read_text(&format!("/sys/class/block/{}/{file}", part(number)));
    if text(1, "start").is_err() {
        return Err(skip("the kernel was built without this kind of partition table"));
    }
    equal!(text(1, "start")?, "2048\n");
    equal!(text(1, "size")?, "4096\n");
    equal!(text(2, "size")?, "100\n");
    equal!(text(2, "partition")?, "2\n");
    ensure!(read_text("/proc/partitions")?.contains(&format!(" {}\n", part(2))), "not in /proc/partitions");
    // What is written to the disk is what the partition has, and the other way round.
    equal!(io::pwrite(fd, &pattern(5, 4096), (2048 + 8) * 512)?, 4096);
    // SAFETY: 1. fsync takes a descriptor.
    unsafe { syscall!(__NR_fsync, fd) }?;
    let device =
        CString::new(format!("/dev/.checks-{}", part(1))).map_err(|_| Failure("a zero".to_string()))?;
    let dev = text(1, "dev")?;
    let numbers = dev.trim().split_once(':').map(|(major, minor)| (major.parse(), minor.parse()));
    let Some((Ok(major), Ok(minor))) = numbers else { return Err(Failure(format!("dev: {dev}"))) };
    let (major, minor): (u32, u32) = (major, minor);
    let _ = fs::unlink(&device);
    fs::mknod(&device, S_IFBLK | 0o600, minor & 0xff | major << 8 | (minor & !0xff) << 12)?;
    let opened = fs::open(&device, O_RDWR | O_CLOEXEC, 0);
    fs::unlink(&device)?;
    let inside = opened?;
    equal!(size(inside)?, 4096 * 512);
    let mut seen = vec![0; 4096];
    equal!(io::pread(inside, &mut seen, 8 * 512)?, 4096);
    ensure!(seen == pattern(5, 4096), "the partition's bytes");
    equal!(io::pwrite(inside, &seen, 4096 * 512), Err(Errno::ENOSPC));
    equal!(repartition(fd, &[]), Err(Errno::EBUSY));
    io::close(inside)?;
    repartition(fd, &[])?;
    ensure!(text(1, "size").is_err(), "the partition is still there");
    Ok(())
}

/// The fields of the device's `stat`.
fn stat() -> core::result::Result<Vec<u64>, Failure> {
    let text = read_text(&format!("/sys/class/block/{}/stat", name()?))?;
    Ok(text.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect())
}

fn counters() -> Outcome {
    let direct = open(O_RDWR | O_DIRECT)?;
    let mut memory = Aligned::new(65_536);
    let before = stat()?;
    equal!(before.len(), 17);
    equal!(io::pread(direct, memory.of(65_536), 0)?, 65_536);
    equal!(io::pwrite(direct, memory.of(65_536), 0)?, 65_536);
    // SAFETY: 1. fsync takes a descriptor.
    unsafe { syscall!(__NR_fsync, direct) }?;
    let after = stat()?;
    ensure!(after[0] > before[0] && after[2] >= before[2] + 128, "reads: {before:?} {after:?}");
    ensure!(after[4] > before[4] && after[6] >= before[6] + 128, "writes: {before:?} {after:?}");
    equal!(after[8], 0);
    Ok(())
}

/// Rounds of the schedulers while I/O goes on, and pages each of the programs has.
const ROUNDS: usize = 3;
const PROGRAMS: u64 = 3;
const PAGES: u64 = 64;

/// Writes and reads back its pages until it is told to stop.
fn hammer(number: u64, stop: Fd) -> Outcome {
    let direct = open(O_RDWR | O_DIRECT)?;
    let buffered = open(O_RDWR)?;
    let mut memory = Aligned::new(4096);
    let base = (2 << 20) + number * PAGES * 4096;
    let mut round = 0u64;
    let mut byte = [0];
    while io::read(stop, &mut byte).is_err() {
        round += 1;
        let fd = if round.is_multiple_of(3) { buffered } else { direct };
        for page in 0..PAGES {
            // Not in order, so that there is something to sort.
            let page = page * 29 % PAGES;
            memory.of(4096).copy_from_slice(&pattern((round + page + number) as u8, 4096));
            equal!(io::pwrite(fd, memory.of(4096), base + page * 4096)?, 4096);
        }
        for page in 0..PAGES {
            equal!(io::pread(direct, memory.of(4096), base + page * 4096)?, 4096);
            let wanted = pattern((round + page + number) as u8, 4096);
            ensure!(memory.of(4096) == wanted, "page {page} of program {number} in round {round}");
        }
    }
    Ok(())
}

fn schedulers() -> Outcome {
    let file = format!("/sys/class/block/{}/queue/scheduler", name()?);
    let text = read_text(&file)?;
    let knob = CString::new(file).map_err(|_| Failure("a zero".to_string()))?;
    let names: Vec<String> = text.split_whitespace().map(|name| name.replace(['[', ']'], "")).collect();
    let first = text.split_whitespace().find(|name| name.starts_with('[')).unwrap_or("none");
    let first = first.replace(['[', ']'], "");
    let mut children = Vec::new();
    let mut stops = Vec::new();
    for number in 0..PROGRAMS {
        let (read, write) = io::pipe(O_NONBLOCK)?;
        match process::fork()? {
            None => process::exit(match hammer(number, read) {
                Ok(()) => 0,
                Err(Failure(why)) => {
                    rt::println!("{why}");
                    1
                }
            }),
            Some(pid) => children.push(pid),
        }
        stops.push(write);
    }
    let mut outcome = Ok(());
    for _ in 0..ROUNDS {
        for name in &names {
            rt::time::sleep_ns(20_000_000);
            outcome = outcome.and(fs::write_file(&knob, name.as_bytes()));
        }
    }
    for stop in stops {
        io::write(stop, b"x")?;
    }
    for child in children {
        equal!(process::wait_exit(child)?.exit_code(), Some(0));
    }
    outcome?;
    fs::write_file(&knob, first.as_bytes())?;
    equal!(fs::write_file(&knob, b"nosuch"), Err(Errno::EINVAL));
    Ok(())
}

fn priorities() -> Outcome {
    const PROCESS: u32 = 1;
    // SAFETY: 1. the calls take numbers only.
    let get = |which: u32, who: u32| unsafe { syscall!(__NR_ioprio_get, which, who) };
    // SAFETY: as above.
    let set = |priority: u32| unsafe { syscall!(__NR_ioprio_set, PROCESS, 0, priority) };
    equal!(get(PROCESS, 0)?, 0);
    for (priority, outcome) in [
        (2 << 13 | 6, Ok(0)),
        (3 << 13, Ok(0)),
        (4, Err(Errno::EINVAL)),
        (5 << 13, Err(Errno::EINVAL)),
        (0, Ok(0)),
        (2 << 13 | 7, Ok(0)),
    ] {
        let before = get(PROCESS, 0)?;
        equal!(set(priority), outcome);
        equal!(get(PROCESS, 0)?, if outcome.is_ok() { priority as usize } else { before });
    }
    equal!(get(9, 0), Err(Errno::EINVAL));
    equal!(get(PROCESS, 999_999), Err(Errno::ESRCH));
    let child = process::fork()?;
    if child.is_none() {
        process::exit(i32::from(get(PROCESS, 0) != Ok(2 << 13 | 7)));
    }
    equal!(child.map(process::wait_exit).transpose()?.and_then(|status| status.exit_code()), Some(0));
    Ok(())
}
