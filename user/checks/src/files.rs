//! Reading, writing, positions, sizes, attributes.

use crate::names::scratch;
use crate::{Check, Outcome, ensure, equal};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use rt::nr::*;
use rt::{Errno, Result, fs, io, process, syscall, thread};

pub const CHECKS: &[Check] = &[
    ("read_back", read_back),
    ("holes", holes),
    ("append", append),
    ("truncate", truncate),
    ("positions", positions),
    ("shared_position", shared_position),
    ("vectors", vectors),
    ("descriptors", descriptors),
    ("descriptor_limit", descriptor_limit),
    ("unlinked_lives", unlinked_lives),
    ("times_and_modes", times_and_modes),
    ("statx", statx_agrees),
    ("sendfile", sendfile),
    ("fallocate", fallocate),
    ("fallocate_modes", fallocate_modes),
    ("zero_range", zero_range),
    ("collapse_and_insert", collapse_and_insert),
    ("moved_under_a_mapping", moved_under_a_mapping),
    ("punched_under_a_mapping", punched_under_a_mapping),
    ("devices", devices),
    ("umask", umask),
    ("text_busy", text_busy),
    ("tmpfs_limit", tmpfs_limit),
    ("read_only_mount", read_only_mount),
    ("bind_mount", bind_mount),
];

fn create(path: &core::ffi::CStr) -> Result<io::Fd> {
    fs::open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644)
}

fn read_back() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    let data: alloc::vec::Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
    io::write_all(fd, &data)?;
    let mut back = alloc::vec![0; data.len() + 10];
    equal!(io::pread(fd, &mut back, 0)?, data.len());
    ensure!(back[..data.len()] == data, "contents differ");
    equal!(io::pread(fd, &mut back[..100], 299_950)?, 50);
    equal!(io::pread(fd, &mut back[..100], 300_000)?, 0);
    io::pwrite(fd, b"xyz", 4095)?;
    equal!(io::pread(fd, &mut back[..5], 4094)?, 5);
    equal!(&back[1..4], b"xyz");
    equal!(fs::fstat(fd)?.st_size as u64, 300_000);
    Ok(())
}

fn holes() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    io::pwrite(fd, b"end", 1 << 20)?;
    equal!(fs::fstat(fd)?.st_size as u64, (1 << 20) + 3);
    let mut back = [1; 64];
    equal!(io::pread(fd, &mut back, 500_000)?, 64);
    equal!(back, [0; 64]);
    equal!(io::pwrite(fd, b"x", u64::MAX), Err(Errno::EINVAL));
    Ok(())
}

fn append() -> Outcome {
    scratch()?;
    io::write_all(create(c"f")?, b"one")?;
    let fd = fs::open(c"f", O_WRONLY | O_APPEND, 0)?;
    io::seek(fd, 0, 0)?;
    io::write_all(fd, b"two")?;
    equal!(fs::read_file(c"f")?, b"onetwo");
    Ok(())
}

fn truncate() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    io::write_all(fd, &[7; 10_000])?;
    fs::ftruncate(fd, 5000)?;
    fs::ftruncate(fd, 10_000)?;
    let mut back = [1; 10_000];
    equal!(io::pread(fd, &mut back, 0)?, 10_000);
    ensure!(
        back[..5000].iter().all(|&b| b == 7) && back[5000..].iter().all(|&b| b == 0),
        "the cut part is zero"
    );
    equal!(fs::ftruncate(fd, u64::MAX), Err(Errno::EINVAL));
    equal!(fs::ftruncate(fs::open(c"f", O_RDONLY, 0)?, 1), Err(Errno::EINVAL));
    io::close(fs::open(c"f", O_WRONLY | O_TRUNC, 0)?)?;
    equal!(fs::stat(c"f")?.st_size as u64, 0);
    Ok(())
}

fn positions() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    io::write_all(fd, b"0123456789")?;
    equal!(io::seek(fd, 0, 1)?, 10);
    equal!(io::seek(fd, -4, 2)?, 6);
    let mut two = [0; 2];
    io::read(fd, &mut two)?;
    equal!(&two, b"67");
    equal!(io::seek(fd, -9, 1), Err(Errno::EINVAL));
    equal!(io::seek(fd, 0, 99), Err(Errno::EINVAL));
    equal!(io::seek(fd, 100, 0)?, 100);
    equal!(io::read(fd, &mut two)?, 0);
    equal!(io::seek(fd, 0, SEEK_DATA)?, 0);
    equal!(io::seek(fd, 0, SEEK_HOLE)?, 10);
    equal!(io::seek(fd, 10, SEEK_DATA), Err(Errno::ENXIO));
    Ok(())
}

/// dup(2) and fork(2) share the position, open(2) does not.
fn shared_position() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    let twin = io::fcntl(fd, F_DUPFD, 0)? as io::Fd;
    io::write_all(fd, b"abc")?;
    equal!(io::seek(twin, 0, 1)?, 3);
    process::in_child(|| i32::from(io::write_all(twin, b"def").is_err()))?;
    equal!(io::seek(fd, 0, 1)?, 6);
    equal!(io::seek(fs::open(c"f", O_RDONLY, 0)?, 0, 1)?, 0);
    Ok(())
}

fn vectors() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    let parts: [(&[u8], usize); 3] = [(b"one", 3), (b"", 0), (b"three", 5)];
    let iov: alloc::vec::Vec<[usize; 2]> = parts.iter().map(|(b, n)| [b.as_ptr() as usize, *n]).collect();
    // SAFETY: 1. the vectors name readable memory of these lengths.
    equal!(unsafe { syscall!(__NR_writev, fd, iov.as_ptr(), 3) }?, 8);
    equal!(fs::read_file(c"f")?, b"onethree");
    let (mut a, mut b) = ([0u8; 4], [0u8; 10]);
    let iov = [[a.as_mut_ptr() as usize, 4], [b.as_mut_ptr() as usize, 10]];
    // SAFETY: 1. the vectors name writable memory of these lengths.
    equal!(unsafe { syscall!(__NR_preadv, fd, iov.as_ptr(), 2, 1, 0) }?, 7);
    equal!((&a, &b[..3]), (b"neth", b"ree".as_slice()));
    Ok(())
}

fn descriptors() -> Outcome {
    let fd = fs::open(c"/dev/null", O_RDONLY | O_CLOEXEC, 0)?;
    equal!(io::fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    io::fcntl(fd, F_SETFD, 0)?;
    equal!(io::fcntl(fd, F_GETFD, 0)?, 0);
    equal!(io::fcntl(fd, F_DUPFD, 100)? as io::Fd, 100);
    equal!(io::fcntl(fd, F_DUPFD_CLOEXEC, 100)? as io::Fd, 101);
    equal!(io::fcntl(101, F_GETFD, 0)?, FD_CLOEXEC as usize);
    equal!(io::dup2(fd, 200)?, 200);
    equal!(io::dup2(fd, fd)?, fd);
    equal!(io::dup3(fd, fd, 0), Err(Errno::EINVAL));
    // SAFETY: 1. descriptors 100 to 200 are this check's own.
    unsafe { syscall!(__NR_close_range, 100, 200, 0) }?;
    equal!(io::fcntl(200, F_GETFD, 0), Err(Errno::EBADF));
    io::close(fd)?;
    equal!(fs::open(c"/dev/null", O_RDONLY, 0)?, fd);
    Ok(())
}

fn descriptor_limit() -> Outcome {
    let limit = [64u64, 64];
    // SAFETY: 1. the kernel reads one rlimit64.
    unsafe { syscall!(__NR_prlimit64, 0, 7, limit.as_ptr(), 0) }?;
    let mut last = Ok(0);
    for _ in 0..100 {
        last = fs::open(c"/dev/null", O_RDONLY, 0);
        if last.is_err() {
            break;
        }
    }
    equal!(last, Err(Errno::EMFILE));
    equal!(io::fcntl(0, F_DUPFD, 64), Err(Errno::EINVAL));
    equal!(io::dup2(0, 64), Err(Errno::EBADF));
    Ok(())
}

fn unlinked_lives() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    io::write_all(fd, b"still here")?;
    fs::unlink(c"f")?;
    equal!(fs::fstat(fd)?.st_nlink as u64, 0);
    let mut back = [0; 10];
    io::pread(fd, &mut back, 0)?;
    equal!(&back, b"still here");
    Ok(())
}

fn times_and_modes() -> Outcome {
    scratch()?;
    io::close(create(c"f")?)?;
    let times = [[1_000_000_001i64, 5], [2_000_000_002, 999_999_999]];
    // SAFETY: 1. the kernel reads the name and two timespecs.
    unsafe { syscall!(__NR_utimensat, AT_FDCWD, c"f".as_ptr(), times.as_ptr(), 0) }?;
    let stat = fs::stat(c"f")?;
    equal!(
        (stat.st_atime as i64, stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        (1_000_000_001, 2_000_000_002, 999_999_999)
    );
    fs::chmod(c"f", 0o4751)?;
    equal!(fs::stat(c"f")?.st_mode & 0o7777, 0o4751);
    // SAFETY: 1. the kernel reads the name.
    unsafe { syscall!(__NR_fchownat, AT_FDCWD, c"f".as_ptr(), 12, 34, 0) }?;
    let stat = fs::stat(c"f")?;
    equal!((stat.st_uid, stat.st_gid), (12, 34));
    equal!(stat.st_mode & 0o7777, 0o751);
    Ok(())
}

fn statx_agrees() -> Outcome {
    scratch()?;
    io::write_all(create(c"f")?, b"12345")?;
    let mut out = [0u64; 32];
    // SAFETY: 1. the kernel reads the name and writes one statx, 256 bytes.
    unsafe { syscall!(__NR_statx, AT_FDCWD, c"f".as_ptr(), 0, 0x7ff, out.as_mut_ptr()) }?;
    let stat = fs::stat(c"f")?;
    equal!(out[4], stat.st_ino as u64);
    equal!(out[5], 5);
    equal!((out[3] >> 32 & 0xffff) as u32, stat.st_mode);
    Ok(())
}

fn sendfile() -> Outcome {
    scratch()?;
    let from = create(c"a")?;
    io::write_all(from, &[9; 10_000])?;
    let to = create(c"b")?;
    let mut offset = 100i64;
    // SAFETY: 1. the kernel reads and writes the offset.
    equal!(unsafe { syscall!(__NR_sendfile, to, from, &raw mut offset, 20_000) }?, 9900);
    equal!(offset, 10_000);
    equal!(fs::stat(c"b")?.st_size as u64, 9900);
    equal!(io::seek(from, 0, 1)?, 10_000);
    Ok(())
}

fn fallocate() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    // SAFETY: 1. no memory is named.
    let call = |mode: u32, at: u64, len: u64| unsafe { syscall!(__NR_fallocate, fd, mode, at, len) };
    call(0, 0, 20_000)?;
    equal!(fs::fstat(fd)?.st_size as u64, 20_000);
    io::pwrite(fd, &[5; 20_000], 0)?;
    call(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 9000)?;
    let mut back = [1; 20_000];
    io::pread(fd, &mut back, 0)?;
    ensure!(
        back[999] == 5 && back[1000..10_000].iter().all(|&b| b == 0) && back[10_000] == 5,
        "the hole is zero"
    );
    equal!(call(0, 0, 0), Err(Errno::EINVAL));
    equal!(call(FALLOC_FL_PUNCH_HOLE, 0, 1), Err(Errno::EOPNOTSUPP));
    Ok(())
}

/// fallocate(2), as a function of mode, offset and length.
fn allocator(fd: i32) -> impl Fn(u32, u64, u64) -> Result<usize> {
    // SAFETY: 1. no memory is named.
    move |mode, at, len| unsafe { syscall!(__NR_fallocate, fd, mode, at, len) }
}

/// Modes that exclude each other, and files that have none.
fn fallocate_modes() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    io::write_all(fd, &[7; 8192])?;
    let call = allocator(fd);
    for mode in [
        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_INSERT_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_INSERT_RANGE | FALLOC_FL_COLLAPSE_RANGE,
        1 << 20,
    ] {
        // Linux before 6.12 says EINVAL of some.
        ensure!(matches!(call(mode, 0, 4096), Err(Errno::EOPNOTSUPP | Errno::EINVAL)), "mode {mode:#x}");
    }
    for mode in [FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE] {
        equal!(call(mode, 0, 0), Err(Errno::EINVAL));
        equal!(call(mode, u64::MAX, 1), Err(Errno::EINVAL));
        equal!(allocator(fs::open(c"f", O_RDONLY, 0)?)(mode, 0, 4096), Err(Errno::EBADF));
        let mut ends = [0i32; 2];
        // SAFETY: 1. the kernel writes two descriptors.
        unsafe { syscall!(__NR_pipe2, ends.as_mut_ptr(), 0) }?;
        equal!(allocator(ends[1])(mode, 0, 4096), Err(Errno::ESPIPE));
        equal!(allocator(fs::open(c"/dev/null", O_WRONLY, 0)?)(mode, 0, 4096), Err(Errno::ENODEV));
        ends.into_iter().try_for_each(io::close)?;
    }
    equal!(fs::read_file(c"f")?, [7; 8192]);
    Ok(())
}

/// The file's bytes are as expected, cached and by the mapping that was there before.
fn same(fd: i32, expected: &[u8]) -> Outcome {
    equal!(fs::fstat(fd)?.st_size as usize, expected.len());
    let back = fs::read_file(c"f")?;
    let wrong = back.iter().zip(expected).position(|(a, b)| a != b);
    ensure!(wrong.is_none() && back.len() == expected.len(), "first wrong byte: {wrong:?}");
    Ok(())
}

fn zero_range() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    let mut model = vec![5u8; 100_000];
    io::write_all(fd, &model)?;
    let call = allocator(fd);
    match call(FALLOC_FL_ZERO_RANGE, 1000, 20_000) {
        // Files in memory, and such as are mapped by blocks.
        Err(Errno::EOPNOTSUPP) => return same(fd, &model),
        other => equal!(other, Ok(0)),
    }
    model[1000..21_000].fill(0);
    same(fd, &model)?;
    // On the disk by now, and zeroed there.
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }?;
    call(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 50_000, 100_000)?;
    model[50_000..].fill(0);
    same(fd, &model)?;
    io::pwrite(fd, &[9; 5000], 60_000)?;
    model[60_000..65_000].fill(9);
    call(FALLOC_FL_ZERO_RANGE, 90_000, 40_000)?;
    model.resize(130_000, 0);
    same(fd, &model)?;
    call(FALLOC_FL_ZERO_RANGE, 60_100, 50)?;
    model[60_100..60_150].fill(0);
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }?;
    same(fd, &model)
}

fn collapse_and_insert() -> Outcome {
    scratch()?;
    let fd = create(c"f")?;
    let mut model: Vec<u8> = (0..100_000u32).map(|at| (at / 977) as u8).collect();
    io::write_all(fd, &model)?;
    let call = allocator(fd);
    match call(FALLOC_FL_COLLAPSE_RANGE, 4096, 8192) {
        Err(Errno::EOPNOTSUPP) => {
            equal!(call(FALLOC_FL_INSERT_RANGE, 4096, 8192), Err(Errno::EOPNOTSUPP));
            return same(fd, &model);
        }
        other => equal!(other, Ok(0)),
    }
    model.drain(4096..12_288);
    same(fd, &model)?;
    call(FALLOC_FL_INSERT_RANGE, 8192, 16_384)?;
    model.splice(8192..8192, vec![0; 16_384]);
    same(fd, &model)?;
    equal!(call(FALLOC_FL_COLLAPSE_RANGE, 100, 4096), Err(Errno::EINVAL));
    equal!(call(FALLOC_FL_INSERT_RANGE, 4096, 100), Err(Errno::EINVAL));
    equal!(call(FALLOC_FL_COLLAPSE_RANGE, 65_536, 65_536), Err(Errno::EINVAL));
    equal!(call(FALLOC_FL_INSERT_RANGE, 131_072, 4096), Err(Errno::EINVAL));
    equal!(call(FALLOC_FL_INSERT_RANGE, 0, (1 << 63) - 4096).is_err(), true);
    io::pwrite(fd, &[3; 10_000], 10_000)?;
    model[10_000..20_000].fill(3);
    // What the cache has not written yet moves, too.
    call(FALLOC_FL_COLLAPSE_RANGE, 0, 4096)?;
    model.drain(..4096);
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }?;
    same(fd, &model)
}

const PAGE: usize = 4096;

/// A word of a file that is mapped shared, as long as the process lives.
#[derive(Clone, Copy)]
struct Mapped(usize);

impl Mapped {
    fn new(fd: i32, pages: usize) -> Result<Mapped> {
        // SAFETY: 1. the kernel chooses the place, so nothing is replaced.
        unsafe { syscall!(__NR_mmap, 0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) }.map(Mapped)
    }

    /// The first word of a page.
    fn word(self, page: usize) -> &'static AtomicU64 {
        // SAFETY: 1. the page is mapped for good, and within the file.
        unsafe { &*((self.0 + page * PAGE) as *const AtomicU64) }
    }
}

/// A thread that works until the guard goes.
struct Busy(&'static AtomicBool, Option<thread::Thread>);

impl Busy {
    fn new(stop: &'static AtomicBool, work: impl Fn() + Send + 'static) -> Result<Busy> {
        stop.store(false, Ordering::SeqCst);
        let body = move || {
            while !stop.load(Ordering::SeqCst) {
                work();
            }
        };
        thread::spawn(body).map(|thread| Busy(stop, Some(thread)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        drop(self.1.take());
    }
}

/// What is stored through a mapping while the file's blocks move stays, in the old place or the new one.
fn moved_under_a_mapping() -> Outcome {
    const PAGES: usize = 24;
    static STOP: AtomicBool = AtomicBool::new(false);
    static STORES: AtomicU64 = AtomicU64::new(0);
    scratch()?;
    let fd = create(c"f")?;
    for page in 0..PAGES {
        let mut bytes = [0; PAGE];
        bytes[8..16].copy_from_slice(&(page as u64).to_le_bytes());
        io::write_all(fd, &bytes)?;
    }
    let call = allocator(fd);
    let (at, len) = (4 * PAGE as u64, 2 * PAGE as u64);
    if call(FALLOC_FL_COLLAPSE_RANGE, at, len) == Err(Errno::EOPNOTSUPP) {
        return Ok(());
    }
    call(FALLOC_FL_INSERT_RANGE, at, len)?;
    let mapped = Mapped::new(fd, PAGES)?;
    let busy = Busy::new(&STOP, move || {
        for page in [10, 15, 20] {
            mapped.word(page).fetch_add(1, Ordering::SeqCst);
            STORES.fetch_add(1, Ordering::SeqCst);
        }
    })?;
    for _ in 0..20 {
        call(FALLOC_FL_COLLAPSE_RANGE, at, len)?;
        call(FALLOC_FL_INSERT_RANGE, at, len)?;
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_fdatasync, fd) }?;
    }
    drop(busy);
    // From the disk, not from the cache.
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }?;
    // SAFETY: 1. no memory is named.
    unsafe {
        syscall!(__NR_fadvise64, fd, 0, 0, 4 /* POSIX_FADV_DONTNEED */)
    }?;
    let mut sum = 0;
    for page in (0..PAGES).filter(|page| !(4..6).contains(page)) {
        let mut words = [0; 16];
        io::pread(fd, &mut words, (page * PAGE) as u64)?;
        let (count, name) = words.split_at(8);
        equal!(u64::from_le_bytes(name.try_into().unwrap_or_default()), page as u64);
        sum += u64::from_le_bytes(count.try_into().unwrap_or_default());
    }
    equal!(sum, STORES.load(Ordering::SeqCst));
    Ok(())
}

/// A page that a fault brings in while a hole is made is not the one of before, for ever after.
fn punched_under_a_mapping() -> Outcome {
    const PAGES: usize = 16;
    static STOP: AtomicBool = AtomicBool::new(false);
    scratch()?;
    let fd = create(c"f")?;
    let bytes = vec![7; PAGES * PAGE];
    io::write_all(fd, &bytes)?;
    let mapped = Mapped::new(fd, PAGES)?;
    let _busy = Busy::new(&STOP, move || {
        let sum: u64 = (0..PAGES).map(|page| mapped.word(page).load(Ordering::Relaxed) & 1).sum();
        core::hint::black_box(sum);
    })?;
    let punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    for round in 0..30 {
        io::pwrite(fd, &bytes, 0)?;
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_fdatasync, fd) }?;
        match allocator(fd)(punch, 0, bytes.len() as u64) {
            Err(Errno::EOPNOTSUPP) => return Ok(()),
            other => other?,
        };
        for page in 0..PAGES {
            equal!((round, page, mapped.word(page).load(Ordering::SeqCst)), (round, page, 0));
        }
    }
    Ok(())
}

fn devices() -> Outcome {
    let mut buffer = [1; 100];
    let zero = fs::open(c"/dev/zero", O_RDWR, 0)?;
    equal!(io::read(zero, &mut buffer)?, 100);
    equal!(buffer, [0; 100]);
    equal!(io::write(zero, &buffer)?, 100);
    let null = fs::open(c"/dev/null", O_RDWR, 0)?;
    equal!(io::read(null, &mut buffer)?, 0);
    let full = fs::open(c"/dev/full", O_RDWR, 0)?;
    equal!(io::write(full, &buffer), Err(Errno::ENOSPC));
    equal!(io::read(full, &mut buffer)?, 100);
    let random = fs::open(c"/dev/urandom", O_RDONLY, 0)?;
    let mut other = [0; 100];
    io::read(random, &mut buffer)?;
    io::read(random, &mut other)?;
    ensure!(buffer != other && buffer != [0; 100], "random bytes differ");
    let stat = fs::stat(c"/dev/null")?;
    equal!((stat.st_mode & S_IFMT, stat.st_rdev as u64), (S_IFCHR, 0x103));
    Ok(())
}

fn umask() -> Outcome {
    scratch()?;
    // SAFETY: 1. no memory is named.
    let old = unsafe { syscall!(__NR_umask, 0o027) }?;
    io::close(fs::open(c"f", O_CREAT | O_WRONLY, 0o666)?)?;
    fs::mkdir(c"d", 0o777)?;
    equal!(fs::stat(c"f")?.st_mode & 0o777, 0o640);
    equal!(fs::stat(c"d")?.st_mode & 0o777, 0o750);
    // SAFETY: 1. no memory is named.
    equal!(unsafe { syscall!(__NR_umask, old) }?, 0o027);
    Ok(())
}

fn text_busy() -> Outcome {
    scratch()?;
    let copy = create(c"prog")?;
    io::write_all(copy, &fs::read_file(c"/proc/self/exe")?)?;
    io::close(copy)?;
    fs::chmod(c"prog", 0o755)?;
    let busy = fs::open(c"prog", O_WRONLY, 0)?;
    let argv = process::Strings::new([c"prog", c"--list"]);
    let envp = process::Strings::new([]);
    equal!(process::execve(c"prog", &argv, &envp), Errno::ETXTBSY);
    io::close(busy)?;
    let null = fs::open(c"/dev/null", O_WRONLY, 0)?;
    let status = process::in_child(|| {
        let _ = io::dup2(null, 1);
        process::execve(c"prog", &argv, &envp);
        127
    })?;
    equal!(status.exit_code(), Some(0));
    // A program that runs: this one.
    for flags in [O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_TRUNC] {
        equal!(fs::open(c"/proc/self/exe", flags, 0), Err(Errno::ETXTBSY));
    }
    // SAFETY: 1. the kernel reads a terminated name.
    let shorter = unsafe { syscall!(__NR_truncate, c"/proc/self/exe".as_ptr(), 0) };
    equal!(shorter, Err(Errno::ETXTBSY));
    Ok(())
}

fn tmpfs_limit() -> Outcome {
    scratch()?;
    fs::mkdir(c"m", 0o700)?;
    fs::mount(c"small", c"m", c"tmpfs", 0, c"size=64k")?;
    let fd = create(c"m/f")?;
    let mut written = 0;
    let end = loop {
        match io::write(fd, &[1; 4096]) {
            Ok(n) => written += n,
            Err(errno) => break errno,
        }
    };
    equal!((end, written), (Errno::ENOSPC, 65_536));
    fs::unlink(c"m/f")?;
    equal!(fs::umount(c"m", 0), Err(Errno::EBUSY));
    io::close(fd)?;
    io::write_all(create(c"m/g")?, &[1; 60_000])?;
    fs::umount(c"m", 2)?;
    equal!(fs::umount(c"m", 0), Err(Errno::EINVAL));
    Ok(())
}

fn read_only_mount() -> Outcome {
    scratch()?;
    fs::mkdir(c"m", 0o700)?;
    fs::mount(c"ro", c"m", c"tmpfs", 0, c"")?;
    io::close(create(c"m/f")?)?;
    fs::mount(c"ro", c"m", c"tmpfs", MS_REMOUNT | MS_RDONLY, c"")?;
    equal!(create(c"m/g"), Err(Errno::EROFS));
    equal!(fs::unlink(c"m/f"), Err(Errno::EROFS));
    equal!(fs::open(c"m/f", O_RDWR, 0), Err(Errno::EROFS));
    fs::open(c"m/f", O_RDONLY, 0)?;
    fs::umount(c"m", 2)?;
    Ok(())
}

fn bind_mount() -> Outcome {
    scratch()?;
    fs::mkdir(c"from", 0o700)?;
    fs::mkdir(c"to", 0o700)?;
    io::close(create(c"from/f")?)?;
    fs::mount(c"from", c"to", c"", MS_BIND, c"")?;
    equal!(fs::stat(c"to/f")?.st_ino, fs::stat(c"from/f")?.st_ino);
    equal!(fs::rename(c"to/f", c"from/g", 0), Err(Errno::EXDEV));
    equal!(fs::rmdir(c"to"), Err(Errno::EBUSY));
    fs::umount(c"to", 0)?;
    equal!(fs::stat(c"to/f").err(), Some(Errno::ENOENT));
    Ok(())
}
