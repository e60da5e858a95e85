//! The loops.

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;
use rt::mm::{self, PAGE};
use rt::nr::*;
use rt::{Errno, Result, fs, io, process, signal, syscall, thread, time};

/// One thing to take all of.
pub struct Kind {
    pub name: &'static str,
    pub what: &'static str,
    /// Counts into its argument until an error.
    pub run: fn(&mut u64) -> Result<()>,
    /// Errors that are an answer.
    pub ends: &'static [Errno],
}

const MEMORY: &[Errno] = &[Errno::ENOMEM, Errno::EAGAIN];
const FILES: &[Errno] = &[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
const NAMES: &[Errno] = &[Errno::ENOSPC, Errno::ENOMEM];

macro_rules! kinds {
    ($($name:literal $run:ident $ends:expr, $what:literal;)*) => {
        pub const KINDS: &[Kind] = &[$(Kind { name: $name, what: $what, run: $run, ends: $ends }),*];
    };
}

kinds! {
    "anonymous" anonymous MEMORY, "touched anonymous memory";
    "shared" shared &[Errno::ENOMEM, Errno::ENOSPC], "touched shared anonymous memory";
    "memfd" memfd &[Errno::ENOMEM, Errno::ENOSPC], "memory files, written";
    "tmpfs" tmpfs NAMES, "one large file in /tmp";
    "locked" locked &[Errno::ENOMEM, Errno::EAGAIN, Errno::EPERM], "locked memory";
    "tables" tables MEMORY, "page tables, by touching a page in each 2 MiB";
    "areas" areas MEMORY, "mappings of one page";
    "cow" cow MEMORY, "copies of written memory, by fork";
    "fork" bomb MEMORY, "processes, each of which makes more";
    "threads" threads MEMORY, "threads";
    "zombies" zombies MEMORY, "children that are not waited for";
    "files" files FILES, "open files";
    "pipes" pipes FILES, "pipes, filled";
    "eventfds" eventfds FILES, "event objects";
    "epolls" epolls &[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOSPC], "epoll instances that watch each other's pipe";
    "ptys" ptys &[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOSPC, Errno::EIO, Errno::ENOENT], "pseudo terminals";
    "timers" timers &[Errno::EAGAIN, Errno::ENOMEM], "POSIX timers";
    "signals" signals &[Errno::EAGAIN, Errno::ENOMEM], "queued real-time signals";
    "inodes" inodes NAMES, "empty files in one directory";
    "deep" deep &[Errno::ENAMETOOLONG, Errno::ENOSPC, Errno::ENOMEM], "directories in directories";
    "links" links &[Errno::EMLINK, Errno::ENOSPC, Errno::ENOMEM], "names of one file";
    "symlinks" symlinks &[Errno::ELOOP], "symbolic links to each other";
    "mounts" mounts &[Errno::ENOMEM, Errno::ENOSPC, Errno::EPERM], "mounts on each other";
    "argv" argv &[Errno::E2BIG, Errno::ENOMEM], "arguments of a program";
    "locks" locks &[Errno::ENOLCK, Errno::ENOMEM], "record locks on one file";
}

const MIB: usize = 1 << 20;

fn touch(at: usize, len: usize) {
    for page in (at..at + len).step_by(PAGE) {
        // SAFETY: 1. every caller passes a mapping that it has just made.
        unsafe { (page as *mut u8).write_volatile(1) };
    }
}

fn map(len: usize, flags: u32, fd: i32) -> Result<usize> {
    // SAFETY: 1. without MAP_FIXED the kernel chooses unused addresses.
    unsafe { mm::map(0, len, PROT_READ | PROT_WRITE, flags, fd, 0) }
}

fn anonymous(count: &mut u64) -> Result<()> {
    loop {
        touch(mm::map_anonymous(MIB)?, MIB);
        *count += 1;
    }
}

fn shared(count: &mut u64) -> Result<()> {
    loop {
        touch(map(MIB, MAP_SHARED | MAP_ANONYMOUS, -1)?, MIB);
        *count += 1;
    }
}

fn memfd_create() -> Result<io::Fd> {
    // SAFETY: 1. the name is NUL-terminated.
    unsafe { syscall!(__NR_memfd_create, c"hog".as_ptr(), MFD_CLOEXEC) }.map(|fd| fd as io::Fd)
}

fn fill(fd: io::Fd, count: &mut u64) -> Result<()> {
    let block = [1; 64 << 10];
    loop {
        io::write_all(fd, &block)?;
        *count += 1;
    }
}

fn memfd(count: &mut u64) -> Result<()> {
    fill(memfd_create()?, count)
}

fn tmpfs(count: &mut u64) -> Result<()> {
    let fd = fs::open(c"hog.file", O_CREAT | O_WRONLY | O_TRUNC, 0o600)?;
    fs::unlink(c"hog.file")?;
    fill(fd, count)
}

fn locked(count: &mut u64) -> Result<()> {
    loop {
        let at = mm::map_anonymous(MIB)?;
        // SAFETY: 1. no memory is changed.
        unsafe { syscall!(__NR_mlock, at, MIB) }?;
        *count += 1;
    }
}

fn tables(count: &mut u64) -> Result<()> {
    const SPAN: usize = 1 << 30;
    loop {
        let at = map(SPAN, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)?;
        for area in (at..at + SPAN).step_by(2 * MIB) {
            touch(area, 1);
            *count += 1;
        }
    }
}

fn areas(count: &mut u64) -> Result<()> {
    let at = map(1 << 30, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)?;
    for page in (0..1 << 30).step_by(2 * PAGE) {
        // SAFETY: 1. the page is of a mapping that nothing uses.
        unsafe { mm::protect(at + page, PAGE, PROT_READ) }?;
        *count += 1;
    }
    Ok(())
}

/// A child for each step, which writes to what it got; each has the next child.
fn cow(count: &mut u64) -> Result<()> {
    const LEN: usize = 8 * MIB;
    let at = mm::map_anonymous(LEN)?;
    touch(at, LEN);
    for _ in 0..512 {
        if process::fork()?.is_none() {
            touch(at, LEN);
            time::sleep_ns(20_000_000_000);
            process::exit(0);
        }
        *count += 1;
    }
    Ok(())
}

fn bomb(count: &mut u64) -> Result<()> {
    const CHILD_LIFE_NS: u64 = 3_000_000_000;
    let end = time::now_ns() + CHILD_LIFE_NS;
    loop {
        match process::fork() {
            Ok(None) => explode(end),
            Ok(Some(_)) => *count += 1,
            Err(e) => {
                time::sleep_ns(CHILD_LIFE_NS);
                return Err(e);
            }
        }
    }
}

fn explode(end_ns: u64) -> ! {
    while time::now_ns() < end_ns {
        if process::fork().is_err() {
            time::sleep_ns(10_000_000);
        }
    }
    process::exit(0)
}

fn threads(count: &mut u64) -> Result<()> {
    loop {
        core::mem::forget(thread::spawn(|| time::sleep_ns(u64::MAX / 2))?);
        *count += 1;
    }
}

fn zombies(count: &mut u64) -> Result<()> {
    loop {
        if process::fork()?.is_none() {
            process::exit(0);
        }
        *count += 1;
    }
}

/// As many descriptors as there may be: the limit of a process is not what is tried out.
fn many_files() {
    let limit = [1u64 << 20, 1 << 20];
    // SAFETY: 1. the kernel reads two words.
    let _ = unsafe { syscall!(__NR_prlimit64, 0, RLIMIT_NOFILE, limit.as_ptr(), 0) };
}

fn files(count: &mut u64) -> Result<()> {
    many_files();
    loop {
        fs::open(c"/dev/null", O_RDONLY, 0)?;
        *count += 1;
    }
}

fn pipes(count: &mut u64) -> Result<()> {
    many_files();
    let block = [1; 4096];
    loop {
        let (_, write) = io::pipe(O_NONBLOCK)?;
        while io::write(write, &block).is_ok() {}
        *count += 1;
    }
}

fn eventfds(count: &mut u64) -> Result<()> {
    many_files();
    loop {
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_eventfd2, 0, 0) }?;
        *count += 1;
    }
}

fn epolls(count: &mut u64) -> Result<()> {
    many_files();
    let (read, _) = io::pipe(0)?;
    let event = [1u64, 0];
    loop {
        // SAFETY: 1. no memory is named.
        let epoll = unsafe { syscall!(__NR_epoll_create1, 0) }?;
        // SAFETY: 1. the kernel reads one event, at most 16 bytes.
        unsafe { syscall!(__NR_epoll_ctl, epoll, EPOLL_CTL_ADD, read, event.as_ptr()) }?;
        *count += 1;
    }
}

fn ptys(count: &mut u64) -> Result<()> {
    many_files();
    loop {
        fs::open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0)?;
        *count += 1;
    }
}

fn timers(count: &mut u64) -> Result<()> {
    let mut id = 0i32;
    loop {
        // SAFETY: 1. without an event the kernel only writes the number.
        unsafe { syscall!(__NR_timer_create, CLOCK_MONOTONIC, 0, &raw mut id) }?;
        let at = [0u64, 0, 1000, 0];
        // SAFETY: 1. the kernel reads one itimerspec.
        unsafe { syscall!(__NR_timer_settime, id, 0, at.as_ptr(), 0) }?;
        *count += 1;
    }
}

fn signals(count: &mut u64) -> Result<()> {
    const SIGRTMIN: u32 = 34;
    signal::mask(SIG_SETMASK, u64::MAX)?;
    let mut info = [0u64; 16];
    info[1] = 0xffff_ffff; // si_code SI_QUEUE
    loop {
        // SAFETY: 1. the kernel reads one siginfo of 128 bytes.
        unsafe { syscall!(__NR_rt_sigqueueinfo, process::getpid(), SIGRTMIN, info.as_ptr()) }?;
        *count += 1;
    }
}

/// A directory of its own, on a tmpfs of its own where that is allowed: the file system goes with everything in it.
fn enter(name: &core::ffi::CStr) -> Result<()> {
    fs::mkdir(name, 0o700)?;
    let mounted = fs::mount(c"hog", name, c"tmpfs", 0, c"");
    fs::chdir(name)?;
    if mounted.is_ok() {
        // The mount lives as long as this process stands in it.
        let path = CString::new([b"/tmp/", name.to_bytes()].concat()).unwrap_or_default();
        fs::umount(&path, MNT_DETACH)?;
        let _ = fs::rmdir(&path);
    }
    Ok(())
}

fn inodes(count: &mut u64) -> Result<()> {
    enter(c"hog.inodes")?;
    loop {
        let name = CString::new(format!("{count}-{}", "x".repeat(200))).unwrap_or_default();
        io::close(fs::open(&name, O_CREAT | O_WRONLY, 0o600)?)?;
        *count += 1;
    }
}

fn deep(count: &mut u64) -> Result<()> {
    enter(c"hog.deep")?;
    loop {
        fs::mkdir(c"d", 0o700)?;
        fs::chdir(c"d")?;
        *count += 1;
    }
}

fn links(count: &mut u64) -> Result<()> {
    enter(c"hog.links")?;
    io::close(fs::open(c"file", O_CREAT | O_WRONLY, 0o600)?)?;
    loop {
        let name = CString::new(format!("{count}")).unwrap_or_default();
        fs::link(c"file", &name)?;
        *count += 1;
    }
}

fn symlinks(count: &mut u64) -> Result<()> {
    enter(c"hog.symlinks")?;
    io::close(fs::open(c"0", O_CREAT | O_WRONLY, 0o600)?)?;
    loop {
        let [from, to] = [*count, *count + 1].map(|n| CString::new(format!("{n}")).unwrap_or_default());
        fs::symlink(&from, &to)?;
        *count += 1;
        io::close(fs::open(&to, O_RDONLY, 0)?)?;
    }
}

fn mounts(count: &mut u64) -> Result<()> {
    let _ = fs::mkdir(c"hog.mounts", 0o700);
    let mut result = Ok(());
    while result.is_ok() && *count < 2_000 {
        result = fs::mount(c"hog", c"hog.mounts", c"tmpfs", 0, c"");
        *count += u64::from(result.is_ok());
    }
    for _ in 0..*count {
        fs::umount(c"hog.mounts", MNT_DETACH)?;
    }
    let _ = fs::rmdir(c"hog.mounts");
    result
}

fn argv(count: &mut u64) -> Result<()> {
    let word = CString::new("x".repeat(1000)).unwrap_or_default();
    loop {
        *count = (*count * 2).max(1);
        let words: Vec<&core::ffi::CStr> = (0..*count).map(|_| word.as_c_str()).collect();
        let argv = process::Strings::new(words);
        let failed =
            process::in_child(|| match process::execve(own_path(), &argv, &process::Strings::new([])) {
                Errno::E2BIG => 1,
                Errno::ENOMEM => 2,
                _ => 3,
            })?;
        match failed.exit_code() {
            Some(0) => {}
            Some(1) => return Err(Errno::E2BIG),
            Some(2) => return Err(Errno::ENOMEM),
            _ => return Err(Errno::EIO),
        }
    }
}

/// This program, which ends at once when its name is what [`argv`] gives it.
fn own_path() -> &'static core::ffi::CStr {
    const AT_EXECFN: u32 = 31;
    let at = rt::env::auxval(AT_EXECFN).unwrap_or(0);
    if at == 0 {
        return c"/bin/hog";
    }
    // SAFETY: 1. the kernel put the NUL-terminated path on the stack, for as long as the process lives.
    unsafe { core::ffi::CStr::from_ptr(at as *const _) }
}

fn locks(count: &mut u64) -> Result<()> {
    let fd = memfd_create()?;
    for n in 0..20_000u64 {
        let lock = Flock { kind: 1, whence: 0, start: n as i64 * 2, len: 1, pid: 0 };
        // SAFETY: 1. the kernel reads one flock.
        unsafe { syscall!(__NR_fcntl, fd, F_SETLK, &raw const lock) }?;
        *count += 1;
    }
    Ok(())
}

/// `struct flock` of both architectures.
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    start: i64,
    len: i64,
    pid: i32,
}
