//! O_DIRECT beside the page cache, and the flags of preadv2(2) and pwritev2(2).
//!
//! Everything is in /tmp, so what is checked is the file system that is mounted there.

use crate::names::scratch;
use crate::{Check, Failure, Outcome, ensure, equal, skip};
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, fs, mm, syscall};

pub const CHECKS: &[Check] = &[
    ("write_then_cached_read", write_then_cached_read),
    ("cached_write_then_read", cached_write_then_read),
    ("mapped_pages_follow", mapped_pages_follow),
    ("growing_and_appending", growing_and_appending),
    ("holes_and_the_end", holes_and_the_end),
    ("parts_of_blocks", parts_of_blocks),
    ("large", large),
    ("nothing_comes_late", nothing_comes_late),
    ("misaligned", misaligned),
    ("bad_memory", bad_memory),
    ("alignment_is_told", alignment_is_told),
    ("not_for_everything", not_for_everything),
    ("synchronous_flags", synchronous_flags),
    ("append_flags", append_flags),
];

const PAGE: usize = 4096;

/// Memory of whole pages, filled with a byte.
struct Pages(usize, usize);

impl Pages {
    fn new(count: usize, byte: u8) -> Result<Pages> {
        let pages = Pages(mm::map_anonymous(count * PAGE)?, count * PAGE);
        pages.bytes().fill(byte);
        Ok(pages)
    }

    #[allow(clippy::mut_from_ref)]
    fn bytes(&self) -> &mut [u8] {
        // SAFETY: 1. a fresh mapping of this length that lives to the end of the process; 2. one thread uses it.
        unsafe { core::slice::from_raw_parts_mut(self.0 as *mut u8, self.1) }
    }
}

/// A new file opened twice: directly and through the cache. Skips where the file system has no direct I/O.
fn both(flags: u32) -> core::result::Result<(Fd, Fd), Failure> {
    scratch()?;
    let cached = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    match fs::open(c"f", O_RDWR | O_DIRECT | flags, 0) {
        Ok(direct) => Ok((direct, cached)),
        Err(Errno::EINVAL) => Err(skip("no direct I/O on /tmp")),
        Err(error) => Err(error.into()),
    }
}

fn cached(fd: Fd, len: usize, at: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    let got = io::pread(fd, &mut bytes, at)?;
    bytes.truncate(got);
    Ok(bytes)
}

fn all(bytes: &[u8], value: u8, len: usize) -> bool {
    bytes.len() == len && bytes.iter().all(|b| *b == value)
}

fn write_then_cached_read() -> Outcome {
    let (direct, plain) = both(0)?;
    io::write_all(plain, &[1; 4 * PAGE])?;
    // The cache has the pages; a direct write must not leave them there.
    let pages = Pages::new(2, 2)?;
    equal!(io::pwrite(direct, pages.bytes(), PAGE as u64)?, 2 * PAGE);
    ensure!(all(&cached(plain, PAGE, 0)?, 1, PAGE), "the page before");
    ensure!(all(&cached(plain, 2 * PAGE, PAGE as u64)?, 2, 2 * PAGE), "what was written directly");
    ensure!(all(&cached(plain, PAGE, 3 * PAGE as u64)?, 1, PAGE), "the page after");
    Ok(())
}

fn cached_write_then_read() -> Outcome {
    let (direct, plain) = both(0)?;
    io::write_all(plain, &[1; 2 * PAGE])?;
    let pages = Pages::new(2, 9)?;
    equal!(io::pread(direct, pages.bytes(), 0)?, 2 * PAGE);
    ensure!(all(pages.bytes(), 1, 2 * PAGE), "dirty pages were not seen");
    io::pwrite(plain, &[3], 5)?;
    equal!(io::pread(direct, pages.bytes(), 0)?, 2 * PAGE);
    equal!(pages.bytes()[..8], [1, 1, 1, 1, 1, 3, 1, 1]);
    Ok(())
}

fn mapped_pages_follow() -> Outcome {
    let (direct, plain) = both(0)?;
    io::write_all(plain, &[1; PAGE])?;
    // SAFETY: 1. a fresh shared mapping of a page that the file has.
    let at = unsafe { mm::map(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, plain, 0) }?;
    // SAFETY: 1. mapped above, to the end of the process.
    let seen = || unsafe { core::ptr::read_volatile(at as *const u8) };
    equal!(seen(), 1);
    io::pwrite(direct, Pages::new(1, 5)?.bytes(), 0)?;
    equal!(seen(), 5);
    // SAFETY: 1. as above.
    unsafe { core::ptr::write_volatile(at as *mut u8, 6) };
    let pages = Pages::new(1, 0)?;
    io::pread(direct, pages.bytes(), 0)?;
    equal!(pages.bytes()[..2], [6, 5]);
    Ok(())
}

fn growing_and_appending() -> Outcome {
    let (direct, plain) = both(O_APPEND)?;
    let pages = Pages::new(1, 7)?;
    io::write_all(direct, pages.bytes())?;
    io::write_all(direct, pages.bytes())?;
    equal!(fs::fstat(plain)?.st_size as usize, 2 * PAGE);
    ensure!(all(&cached(plain, 3 * PAGE, 0)?, 7, 2 * PAGE), "content");
    // A cached append after a direct one, and the other way round.
    io::pwrite(plain, &[8; 512], 2 * PAGE as u64)?;
    equal!(io::write(direct, &pages.bytes()[..1024])?, 1024);
    let tail = cached(plain, PAGE, 2 * PAGE as u64)?;
    ensure!(all(&tail[..512], 8, 512) && all(&tail[512..], 7, 1024), "the end: {} bytes", tail.len());
    Ok(())
}

fn holes_and_the_end() -> Outcome {
    let (direct, plain) = both(0)?;
    fs::ftruncate(plain, 10 * PAGE as u64 + 100)?;
    let pages = Pages::new(2, 4)?;
    io::pwrite(direct, &pages.bytes()[..PAGE], 4 * PAGE as u64)?;
    pages.bytes().fill(9);
    equal!(io::pread(direct, pages.bytes(), 4 * PAGE as u64)?, 2 * PAGE);
    ensure!(all(&pages.bytes()[..PAGE], 4, PAGE) && all(&pages.bytes()[PAGE..], 0, PAGE), "a hole");
    // The last bytes come, though they are no whole block.
    equal!(io::pread(direct, pages.bytes(), 10 * PAGE as u64)?, 100);
    equal!(io::pread(direct, pages.bytes(), 11 * PAGE as u64)?, 0);
    Ok(())
}

fn parts_of_blocks() -> Outcome {
    let (direct, plain) = both(0)?;
    io::write_all(plain, &[1; 2 * PAGE])?;
    let pages = Pages::new(1, 2)?;
    match io::pwrite(direct, &pages.bytes()[..512], 1024) {
        Ok(512) => {}
        Err(Errno::EINVAL) => return Err(skip("a disk with larger sectors")),
        other => return Err(Failure(alloc::format!("{other:?}"))),
    }
    let seen = cached(plain, 2 * PAGE, 0)?;
    ensure!(
        all(&seen[..1024], 1, 1024)
            && all(&seen[1024..1536], 2, 512)
            && all(&seen[1536..], 1, 2 * PAGE - 1536),
        "a sector in the middle"
    );
    let small = &mut pages.bytes()[512..1024];
    equal!(io::pread(direct, small, 1024)?, 512);
    ensure!(all(small, 2, 512), "the sector read back");
    Ok(())
}

fn large() -> Outcome {
    let (direct, plain) = both(0)?;
    const COUNT: usize = 700;
    let pages = Pages::new(COUNT, 0)?;
    for (at, byte) in pages.bytes().iter_mut().enumerate() {
        *byte = (at / PAGE) as u8 ^ at as u8;
    }
    equal!(io::pwrite(direct, pages.bytes(), PAGE as u64)?, COUNT * PAGE);
    ensure!(cached(plain, COUNT * PAGE, PAGE as u64)? == pages.bytes(), "content through the cache");
    let back = Pages::new(COUNT, 1)?;
    equal!(io::pread(direct, back.bytes(), PAGE as u64)?, COUNT * PAGE);
    ensure!(back.bytes() == pages.bytes(), "content read directly");
    Ok(())
}

/// Data of a file that is deleted while it is on its way to the disk does not get into the next file's blocks; scattered
/// pages that were written anew are there after fsync.
fn nothing_comes_late() -> Outcome {
    const COUNT: usize = 64;
    const WRITE: u32 = 2; // SYNC_FILE_RANGE_WRITE
    let (new, back) = (Pages::new(COUNT, 0x55)?, Pages::new(COUNT, 0)?);
    for round in 0..6u8 {
        let (direct, file) = both(0)?;
        let old = fs::open(c"old", O_CREAT | O_TRUNC | O_RDWR, 0o600)?;
        io::write_all(old, &vec![0xaa; COUNT * PAGE])?;
        fsync(old)?;
        // In place, every second page: many pieces.
        for page in (0..COUNT).step_by(2) {
            io::pwrite(old, &[round; PAGE], (page * PAGE) as u64)?;
        }
        if round % 2 == 0 {
            fsync(old)?;
            let reader = fs::open(c"old", O_RDONLY | O_DIRECT, 0)?;
            equal!(io::pread(reader, back.bytes(), 0)?, COUNT * PAGE);
            let wanted = |page| if page % 2 == 0 { round } else { 0xaa };
            let right = |(page, bytes): (usize, &[u8])| bytes.iter().all(|byte| *byte == wanted(page));
            ensure!(back.bytes().chunks(PAGE).enumerate().all(right), "not as written in round {round}");
            io::close(reader)?;
        }
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_sync_file_range, old, 0u64, 0u64, WRITE) }?;
        fs::unlink(c"old")?;
        io::close(old)?;
        // The file system lets go of the blocks with its next commit.
        io::pwrite(file, b"x", 0)?;
        fsync(file)?;
        io::pwrite(file, new.bytes(), 0)?;
        fsync(file)?;
        equal!(io::pread(direct, back.bytes(), 0)?, COUNT * PAGE);
        ensure!(back.bytes() == new.bytes(), "old bytes in round {round}");
        io::close(file)?;
        io::close(direct)?;
    }
    Ok(())
}

fn fsync(fd: Fd) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }.map(drop)
}

fn misaligned() -> Outcome {
    let (direct, plain) = both(0)?;
    io::write_all(plain, &[1; 2 * PAGE])?;
    let pages = Pages::new(2, 2)?;
    let refused = [
        io::pwrite(direct, &pages.bytes()[..PAGE], 100),
        io::pwrite(direct, &pages.bytes()[..100], 0),
        io::pread(direct, &mut pages.bytes()[..PAGE], 100),
        io::pread(direct, &mut pages.bytes()[..100], 0),
    ];
    // A file system in memory has no blocks to keep to.
    if refused.iter().all(|result| result.is_ok()) {
        return Ok(());
    }
    equal!(refused, [Err(Errno::EINVAL); 4]);
    ensure!(all(&cached(plain, 2 * PAGE, 0)?, 1, 2 * PAGE), "nothing was written");
    Ok(())
}

fn bad_memory() -> Outcome {
    let (direct, plain) = both(0)?;
    io::write_all(plain, &[1; 2 * PAGE])?;
    let pages = Pages::new(2, 2)?;
    // SAFETY: 1. the second page is used only by the calls below, which fault there.
    unsafe { mm::protect(pages.0 + PAGE, PAGE, PROT_NONE) }?;
    let call = |number: u32, at: usize, len: usize| {
        // SAFETY: 1. the kernel faults, or uses the first page only.
        unsafe { syscall!(number, direct, at, len, 0) }
    };
    equal!(call(__NR_pwrite64, pages.0 + PAGE, PAGE), Err(Errno::EFAULT));
    equal!(call(__NR_pread64, pages.0 + PAGE, PAGE), Err(Errno::EFAULT));
    ensure!(all(&cached(plain, PAGE, 0)?, 1, PAGE), "nothing was written");
    Ok(())
}

fn alignment_is_told() -> Outcome {
    let (_direct, _) = both(0)?;
    let told = |mask: u32| -> Result<(u32, u32, u32)> {
        let mut out = [0u32; 64];
        let cwd = AT_FDCWD as isize as usize;
        // SAFETY: 1. the kernel writes one `statx`, 256 bytes.
        unsafe { syscall!(__NR_statx, cwd, c"f".as_ptr(), 0, mask, out.as_mut_ptr()) }?;
        Ok((out[0] & 0x2000, out[38], out[39]))
    };
    equal!(told(0x7ff)?.0, 0);
    let (mask, memory, offset) = told(0x27ff)?;
    if mask == 0 || offset == 0 {
        return Err(skip("the file system does not tell"));
    }
    ensure!(memory.is_power_of_two() && offset.is_power_of_two() && offset >= 512, "{memory} {offset}");
    Ok(())
}

fn not_for_everything() -> Outcome {
    equal!(fs::open(c"/proc/self/stat", O_RDONLY | O_DIRECT, 0), Err(Errno::EINVAL));
    let fd = fs::open(c"/proc/self/stat", O_RDONLY, 0)?;
    equal!(io::fcntl(fd, F_SETFL, O_DIRECT as usize), Err(Errno::EINVAL));
    Ok(())
}

// ---- preadv2 and pwritev2 ----

const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_APPEND: u32 = 16;
const RWF_NOAPPEND: u32 = 32;

/// Writes through pwritev2(2); `at` -1 is the file's own position.
fn write2(fd: Fd, bytes: &[u8], at: i64, flags: u32) -> Result<usize> {
    let vector = [bytes.as_ptr() as usize, bytes.len()];
    // SAFETY: 1. the kernel reads one vector and its bytes.
    unsafe { syscall!(__NR_pwritev2, fd, vector.as_ptr(), 1, at, 0, flags) }
}

fn synchronous_flags() -> Outcome {
    scratch()?;
    for flags in [O_SYNC, O_DSYNC, 0] {
        let fd = fs::open(c"f", O_CREAT | O_RDWR | flags, 0o600)?;
        io::write_all(fd, b"some text")?;
        equal!(write2(fd, b"more", 0, RWF_DSYNC)?, 4);
        equal!(write2(fd, b"more", -1, RWF_SYNC)?, 4);
        equal!(cached(fd, 20, 0)?, b"more textmore");
        io::close(fd)?;
    }
    let (read, write) = io::pipe(0)?;
    equal!(write2(write, b"x", -1, RWF_DSYNC)?, 1);
    io::close(read)?;
    Ok(())
}

fn append_flags() -> Outcome {
    scratch()?;
    let path: &CStr = c"f";
    let fd = fs::open(path, O_CREAT | O_RDWR, 0o600)?;
    io::write_all(fd, b"0123")?;
    equal!(write2(fd, b"ab", 0, RWF_APPEND)?, 2);
    equal!(cached(fd, 20, 0)?, b"0123ab");
    // The position is where it was.
    equal!(io::seek(fd, 0, SEEK_CUR)?, 4);
    let appending = fs::open(path, O_RDWR | O_APPEND, 0)?;
    equal!(write2(fd, b"x", 0, 0x4000_0000), Err(Errno::EOPNOTSUPP));
    match write2(appending, b"X", 0, RWF_NOAPPEND) {
        // It came with Linux 6.9.
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        result => equal!(result?, 1),
    }
    equal!(cached(fd, 20, 0)?, b"X123ab");
    Ok(())
}
