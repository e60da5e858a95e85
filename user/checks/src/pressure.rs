//! More than fits into memory: of files, mapped files, private and shared memory; and swap files.
//!
//! `CHECKS_PRESSURE` names a directory on a disk and `CHECKS_PRESSURE_MIB` says how much is more than enough; without
//! them these are skipped. The checks of memory want swap to be on.

use crate::{Check, Failure, Outcome, ensure, equal, skip};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use rt::mm::{self, PAGE};
use rt::nr::*;
use rt::{Errno, Result, env, fs, io, syscall};

pub const CHECKS: &[Check] = &[
    ("file", file),
    ("mapped_file", mapped_file),
    ("private", private),
    ("shared", shared),
    ("swap_file", swap_file),
];

const MIB: usize = 1 << 20;
const NAME: &core::ffi::CStr = c"pressure-file";

/// Goes to the directory; how many bytes are more than enough.
fn begin() -> core::result::Result<usize, Failure> {
    let dir = env::var("CHECKS_PRESSURE").ok_or_else(|| skip("CHECKS_PRESSURE names no directory"))?;
    let mib = env::var("CHECKS_PRESSURE_MIB").and_then(|mib| mib.parse::<usize>().ok());
    let mib = mib.ok_or_else(|| skip("CHECKS_PRESSURE_MIB is no number"))?;
    fs::chdir(&CString::new(dir).map_err(|_| Failure("a zero in the name".to_string()))?)?;
    // Moving so much through a disk takes an emulated machine longer than other checks may.
    let limit = [0u64, 0, 600, 0];
    // SAFETY: 1. setitimer reads one itimerval.
    unsafe { syscall!(__NR_setitimer, 0, limit.as_ptr(), 0) }?;
    Ok(mib * MIB)
}

/// The word that stands at `at` in everything that is written here: pages compress, and none is like another.
fn word(at: usize) -> u64 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn fill(bytes: &mut [u8], from: usize) {
    for (number, chunk) in bytes.chunks_exact_mut(64).enumerate() {
        chunk.fill((number % 251) as u8);
        chunk[..8].copy_from_slice(&word(from + number * 64).to_ne_bytes());
    }
}

/// Where bytes that [`fill`] made are wrong.
fn wrong(bytes: &[u8], from: usize) -> Option<usize> {
    let good = |(number, chunk): (usize, &[u8])| {
        chunk[..8] == word(from + number * 64).to_ne_bytes()
            && chunk[8..].iter().all(|byte| *byte == (number % 251) as u8)
    };
    bytes.chunks_exact(64).enumerate().position(|chunk| !good(chunk)).map(|number| from + number * 64)
}

/// Reads a file of `bytes` bytes in order, and again a piece here and there.
fn verify(fd: io::Fd, bytes: usize) -> Outcome {
    let mut buffer = vec![0; MIB];
    let in_order = (0..bytes / MIB).map(|number| number * MIB);
    let scattered = (0..16).map(|number| word(number) as usize % (bytes / MIB) * MIB);
    for at in in_order.chain(scattered) {
        equal!(io::pread(fd, &mut buffer, at as u64)?, MIB);
        ensure!(wrong(&buffer, at).is_none(), "wrong bytes at {:?}", wrong(&buffer, at));
    }
    Ok(())
}

fn file() -> Outcome {
    let bytes = begin()?;
    let fd = fs::open(NAME, O_CREAT | O_RDWR | O_TRUNC, 0o600)?;
    let mut buffer = vec![0; MIB];
    for at in (0..bytes).step_by(MIB) {
        fill(&mut buffer, at);
        io::write_all(fd, &buffer)?;
    }
    let result = verify(fd, bytes);
    fs::unlink(NAME)?;
    result
}

/// A slice over memory that was mapped here.
///
/// # Safety
/// The range is mapped, and nobody else uses it while the slice lives.
unsafe fn slice(at: usize, len: usize) -> &'static mut [u8] {
    // SAFETY: 1. the caller's.
    unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) }
}

fn fill_and_verify(at: usize, bytes: usize) -> Outcome {
    for from in (0..bytes).step_by(MIB) {
        // SAFETY: 1. callers pass a mapping of their own.
        fill(unsafe { slice(at + from, MIB) }, from);
    }
    for from in (0..bytes).step_by(MIB) {
        // SAFETY: 1. as above.
        let found = wrong(unsafe { slice(at + from, MIB) }, from);
        ensure!(found.is_none(), "wrong bytes at {found:?}");
    }
    Ok(())
}

fn mapped_file() -> Outcome {
    let bytes = begin()?;
    let fd = fs::open(NAME, O_CREAT | O_RDWR | O_TRUNC, 0o600)?;
    fs::ftruncate(fd, bytes as u64)?;
    // SAFETY: 1. a new place is asked for.
    let at = unsafe { mm::map(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) }?;
    fill_and_verify(at, bytes)?;
    // SAFETY: 1. the range is the mapping.
    unsafe { syscall!(__NR_msync, at, bytes, MS_SYNC) }?;
    // SAFETY: 1. nothing refers to the mapping any more.
    unsafe { mm::unmap(at, bytes) }?;
    let result = verify(fd, bytes);
    fs::unlink(NAME)?;
    result
}

fn private() -> Outcome {
    let bytes = begin()?;
    fill_and_verify(mm::map_anonymous(bytes)?, bytes)
}

/// A memory object; its pages are cached or in swap, and cachestat(2) tells which.
fn shared() -> Outcome {
    let bytes = begin()?;
    // SAFETY: 1. the name ends with a zero.
    let fd = unsafe { syscall!(__NR_memfd_create, c"shared".as_ptr(), 0) }? as io::Fd;
    fs::ftruncate(fd, bytes as u64)?;
    // SAFETY: 1. a new place is asked for.
    let at = unsafe { mm::map(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) }?;
    fill_and_verify(at, bytes)?;
    match crate::caching::stat_of(fd, [0, 0], 0) {
        Err(Errno::ENOSYS) => Ok(()),
        stat => {
            // Pages may move while they are counted.
            let [cached, _, _, evicted, recently] = stat?;
            let all = (bytes / PAGE) as u64;
            ensure!(
                evicted > 0
                    && recently <= evicted
                    && (all * 9 / 10..=all * 11 / 10).contains(&(cached + evicted)),
                "{cached} pages cached and {evicted} evicted of {all}"
            );
            Ok(())
        }
    }
}

/// As mkswap(8) writes it, for so many pages.
fn swap_header(pages: u32) -> alloc::vec::Vec<u8> {
    let mut page = vec![0; PAGE];
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&(pages - 1).to_ne_bytes());
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

fn swap_file() -> Outcome {
    const PAGES: u32 = 256;
    begin()?;
    let on = |path: &core::ffi::CStr, flags: u32| -> Result<()> {
        // SAFETY: 1. no memory but the path is named.
        unsafe { syscall!(__NR_swapon, path.as_ptr(), flags) }.map(drop)
    };
    // SAFETY: 1. as above.
    let off = |path: &core::ffi::CStr| unsafe { syscall!(__NR_swapoff, path.as_ptr()) }.map(drop);
    let hole = fs::open(c"swap-hole", O_CREAT | O_RDWR | O_TRUNC, 0o600)?;
    io::write_all(hole, &swap_header(PAGES))?;
    fs::ftruncate(hole, u64::from(PAGES) * PAGE as u64)?;
    equal!(on(c"swap-hole", 0), Err(Errno::EINVAL));
    fs::unlink(c"swap-hole")?;
    let fd = fs::open(c"swap", O_CREAT | O_RDWR | O_TRUNC, 0o600)?;
    io::write_all(fd, &swap_header(PAGES))?;
    equal!(on(c"swap", 0), Err(Errno::EINVAL));
    for _ in 1..PAGES {
        io::write_all(fd, &[7; PAGE])?;
    }
    const PREFER_5: u32 = 0x8005;
    on(c"swap", PREFER_5)?;
    let result = swap_file_is_locked(fd, on(c"swap", 0));
    off(c"swap")?;
    result?;
    equal!(off(c"swap"), Err(Errno::EINVAL));
    equal!(io::pwrite(fd, &[1], 0)?, 1);
    fs::unlink(c"swap")?;
    Ok(())
}

/// What nobody may do to a file while it is swapped to.
fn swap_file_is_locked(fd: io::Fd, again: Result<()>) -> Outcome {
    equal!(again, Err(Errno::EBUSY));
    equal!(io::pwrite(fd, &[1], 0), Err(Errno::ETXTBSY));
    equal!(fs::ftruncate(fd, 0), Err(Errno::ETXTBSY));
    // SAFETY: 1. no memory is named.
    let allocate = unsafe { syscall!(__NR_fallocate, fd, 0, 0i64, 1i64 << 24) }.map(drop);
    equal!(allocate, Err(Errno::ETXTBSY));
    // SAFETY: 1. a new place is asked for.
    let map = unsafe { mm::map(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) }.map(drop);
    equal!(map, Err(Errno::ETXTBSY));
    equal!(fs::unlink(c"swap"), Err(Errno::EPERM));
    equal!(fs::rename(c"swap", c"swap-other", 0), Err(Errno::EPERM));
    let swaps = fs::read_file(c"/proc/swaps")?;
    let text = core::str::from_utf8(&swaps).unwrap_or_default();
    let line = text.lines().find(|line| line.contains("/swap ")).unwrap_or_default();
    let fields: alloc::vec::Vec<&str> = line.split_whitespace().skip(1).collect();
    // Blocks smaller than pages may cost some pages.
    let size = fields.get(1).and_then(|size| size.parse::<u32>().ok()).unwrap_or_default();
    ensure!(
        matches!(fields[..], ["file", _, _, "5"]) && (900..=1020).contains(&size),
        "{}",
        format!("{text:?}")
    );
    Ok(())
}
