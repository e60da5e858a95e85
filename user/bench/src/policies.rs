//! What a replacement policy and an I/O scheduler make of one program's accesses, to be run once under each.
//!
//! `bench --reclaim DIR MIB...` reads pages of a file, three of four with a preference for its beginning, one of four in
//! file order: the scan that a good policy does not fall for. For each size of the file it prints `MIB PERMILLE NS`: how
//! many reads the disk did not see, and what one took.
//!
//! `bench --io DIR` lets four programs use the disk at once for [`RUN_NS`]: two that read a page here and there and wait
//! for it, one that reads in order, one that writes in order and syncs. It prints `stream KIB`, `write KIB` and, for the
//! scattered reads together, `latency PERCENT NS` for many percents.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, eprintln, fs, mm, println, process, syscall, time};

const PAGE: usize = 4096;
const PIECE: usize = 64 << 10;
const MIB: u64 = 1 << 20;

/// Reads of a page for one line of `--reclaim`, after so many that only fill the cache.
const READS: u64 = 30_000;
const FILLING: u64 = 15_000;
/// How long `--io` goes on.
const RUN_NS: u64 = 5_000_000_000;
/// The files of `--io`.
const FILE: u64 = 64 * MIB;
const SYNC_EACH: u64 = 8 * MIB;

/// Numbers that are the same for every policy (xorshift).
struct Random(u64);

impl Random {
    /// Less than `bound`, which is below 2^31.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) * bound >> 31
    }

    /// As `below`, the small ones more often: the third power of an even share.
    fn skewed(&mut self, bound: u64) -> u64 {
        const ONE: u64 = 1 << 20;
        let share = self.below(ONE);
        let cube = share * share / ONE * share / ONE;
        cube * bound / ONE
    }
}

fn path(dir: &str, name: &str) -> CString {
    CString::new([dir, "/", name].concat()).unwrap_or_default()
}

fn buffer(len: usize) -> Result<&'static mut [u8]> {
    let at = mm::map_anonymous(len)?;
    // SAFETY: 1. the mapping is `len` bytes long, zeroed, and stays to the end of the program.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

fn fsync(fd: Fd) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }.map(drop)
}

/// Makes the file at least `len` bytes long.
fn fill(path: &CStr, len: u64) -> Result<()> {
    let fd = fs::open(path, O_RDWR | O_CREAT, 0o600)?;
    let piece = buffer(PIECE)?;
    piece.fill(0x5a);
    let mut at = fs::fstat(fd)?.st_size as u64;
    while at < len {
        at += io::pwrite(fd, piece, at)? as u64;
    }
    fsync(fd)?;
    io::close(fd)
}

/// Sectors that the disk below the file has read: field 6 of its line in /proc/diskstats.
fn sectors_read(fd: Fd) -> Result<u64> {
    let device = fs::fstat(fd)?.st_dev;
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    let stats = fs::read_file(c"/proc/diskstats")?;
    let stats = core::str::from_utf8(&stats).map_err(|_| Errno::EINVAL)?;
    let number = |word: Option<&str>| word?.parse::<u64>().ok();
    stats
        .lines()
        .find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let same = number(words.next())? == major && number(words.next())? == minor;
            number(words.nth(3)).filter(|_| same)
        })
        .ok_or(Errno::ENODEV)
}

/// `--reclaim DIR MIB...`; the exit status.
pub fn reclaim(dir: &str, sizes: impl Iterator<Item = &'static str>) -> i32 {
    let sizes: Vec<u64> = sizes.filter_map(|size| size.parse().ok()).filter(|size| *size > 0).collect();
    let file = path(dir, "reclaim");
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let result = fill(&file, largest * MIB).and_then(|()| {
        sizes.iter().try_for_each(|&size| {
            let (permille, ns) = hits(&file, size)?;
            println!("{size} {permille} {ns}");
            Ok(())
        })
    });
    match result {
        Ok(()) if !sizes.is_empty() => 0,
        Ok(()) => 2,
        Err(errno) => {
            eprintln!("bench: reclaim: {errno:?}");
            1
        }
    }
}

/// Reads from the first `size` MiB of the file; how many of 1000 reads the disk did not see, and ns for one.
fn hits(file: &CStr, size: u64) -> Result<(u64, u64)> {
    fs::sync();
    fs::write_file(c"/proc/sys/vm/drop_caches", b"3")?;
    let fd = fs::open(file, O_RDONLY, 0)?;
    const RANDOM: usize = 1;
    // SAFETY: 1. no memory is named. Without read-ahead a miss is one page.
    unsafe { syscall!(__NR_fadvise64, fd, 0, 0, RANDOM) }?;
    let page = buffer(PAGE)?;
    let (mut random, mut scan) = (Random(1), 0);
    let pages = size * MIB / PAGE as u64;
    let (mut before, mut start_ns) = (0, 0);
    for read in 0..FILLING + READS {
        if read == FILLING {
            (before, start_ns) = (sectors_read(fd)?, time::now_ns());
        }
        let number = if read % 4 == 3 {
            scan = (scan + 1) % pages;
            scan
        } else {
            random.skewed(pages)
        };
        io::pread(fd, page, number * PAGE as u64)?;
    }
    let took_ns = time::now_ns() - start_ns;
    let missed = (sectors_read(fd)? - before) * 512 / PAGE as u64;
    io::close(fd)?;
    Ok((1000 - (missed * 1000 / READS).min(1000), took_ns / READS))
}

/// `--io DIR`; the exit status.
pub fn io(dir: &str) -> i32 {
    match contend(dir) {
        Ok(()) => 0,
        Err(errno) => {
            eprintln!("bench: io: {errno:?}");
            1
        }
    }
}

fn contend(dir: &str) -> Result<()> {
    let (read, written) = (path(dir, "read"), path(dir, "written"));
    fill(&read, FILE)?;
    fs::sync();
    fs::write_file(c"/proc/sys/vm/drop_caches", b"3")?;
    let end_ns = time::now_ns() + RUN_NS;
    let latencies = io::pipe(O_CLOEXEC)?;
    let programs: [&dyn Fn() -> Result<()>; 4] = [
        &|| write(&written, end_ns),
        &|| stream(&read, end_ns),
        &|| scatter(&read, end_ns, 1, latencies.1),
        &|| scatter(&read, end_ns, 2, latencies.1),
    ];
    let mut children = Vec::new();
    for program in programs {
        match process::fork()? {
            Some(pid) => children.push(pid),
            None => process::exit(i32::from(program().is_err())),
        }
    }
    io::close(latencies.1)?;
    let mut taken = collect(latencies.0)?;
    for child in children {
        if process::wait_exit(child)?.exit_code() != Some(0) {
            return Err(Errno::EIO);
        }
    }
    taken.sort_unstable();
    let last = taken.len().checked_sub(1).ok_or(Errno::ENODATA)?;
    for percent in (5..=95).step_by(5).chain([99, 100]) {
        println!("latency {percent} {}", taken[last * percent / 100]);
    }
    Ok(())
}

/// What the scattered readers write: a number of eight bytes for each read.
fn collect(fd: Fd) -> Result<Vec<u64>> {
    let mut taken = Vec::new();
    let mut record = [0; 8];
    // Written whole, hence read whole: eight bytes are less than PIPE_BUF.
    while io::read(fd, &mut record)? == record.len() {
        taken.push(u64::from_le_bytes(record));
    }
    Ok(taken)
}

/// A page here and there.
fn scatter(file: &CStr, end_ns: u64, seed: u64, report: Fd) -> Result<()> {
    let fd = fs::open(file, O_RDONLY | O_DIRECT, 0)?;
    let (page, mut random) = (buffer(PAGE)?, Random(seed));
    let mut now_ns = time::now_ns();
    while now_ns < end_ns {
        io::pread(fd, page, random.below(FILE / PAGE as u64) * PAGE as u64)?;
        let after_ns = time::now_ns();
        io::write_all(report, &(after_ns - now_ns).to_le_bytes())?;
        now_ns = time::now_ns();
    }
    Ok(())
}

/// From start to end, again and again.
fn stream(file: &CStr, end_ns: u64) -> Result<()> {
    let fd = fs::open(file, O_RDONLY | O_DIRECT, 0)?;
    let piece = buffer(PIECE)?;
    let mut total = 0;
    while time::now_ns() < end_ns {
        total += io::pread(fd, piece, total % FILE)? as u64;
    }
    println!("stream {}", total >> 10);
    Ok(())
}

/// As much as the cache takes, with a sync now and then.
fn write(file: &CStr, end_ns: u64) -> Result<()> {
    let fd = fs::open(file, O_WRONLY | O_CREAT, 0o600)?;
    let piece = buffer(PIECE)?;
    piece.fill(0x5a);
    let mut total = 0;
    while time::now_ns() < end_ns {
        total += io::pwrite(fd, piece, total % FILE)? as u64;
        if total.is_multiple_of(SYNC_EACH) {
            fsync(fd)?;
        }
    }
    println!("write {}", total >> 10);
    Ok(())
}
