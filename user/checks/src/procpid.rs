//! What /proc/PID tells, held against what the program knows about itself.

use crate::waiting::until;
use crate::{Check, Failure, Outcome, ensure, equal, names};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, Result, env, fs, io, mm, process, syscall, thread, time};

pub const CHECKS: &[Check] = &[
    ("stat_fields", stat_fields),
    ("processor_time", processor_time),
    ("status_ids", status_ids),
    ("status_signals", status_signals),
    ("sizes_agree", sizes_agree),
    ("maps_follow_mmap", maps_follow_mmap),
    ("maps_of_a_file", maps_of_a_file),
    ("maps_in_pieces", maps_in_pieces),
    ("smaps_sums", smaps_sums),
    ("pagemap", pagemap),
    ("memory_file", memory_file),
    ("memory_of_a_child", memory_of_a_child),
    ("descriptor_links", descriptor_links),
    ("deleted_file", deleted_file),
    ("fdinfo", fdinfo),
    ("others_are_private", others_are_private),
    ("own_files_after_setuid", own_files_after_setuid),
    ("zombie", zombie),
    ("stopped", stopped),
    ("thread_directories", thread_directories),
    ("names_are_written", names_are_written),
    ("arguments_and_environment", arguments_and_environment),
    ("limits", limits),
    ("oom_score_adj", oom_score_adj),
    ("blocked_call", blocked_call),
    ("io_counts", io_counts),
    ("stable_inodes", stable_inodes),
    ("hidden_processes", hidden_processes),
    ("processes_only", processes_only),
];

/// A path for the system.
fn c(path: String) -> CString {
    CString::new(path).unwrap_or_default()
}

fn text(path: &CStr) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read_file(path)?).into_owned())
}

fn text_of(pid: i32, name: &str) -> Result<String> {
    text(&c(format!("/proc/{pid}/{name}")))
}

/// A file of the process itself.
fn own(name: &str) -> Result<String> {
    text(&c(format!("/proc/self/{name}")))
}

/// Field `number` of a stat line, counted from 1 as in the manual.
fn stat_field(line: &str, number: usize) -> Option<i64> {
    let tail = line.rsplit_once(')')?.1;
    let field = tail.split_ascii_whitespace().nth(number.checked_sub(3)?)?;
    field.parse::<i64>().ok().or_else(|| field.parse::<u64>().ok().map(|value| value as i64))
}

fn status_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A field in kB or a plain number.
fn status_number(text: &str, name: &str) -> Option<u64> {
    status_field(text, name)?.split(' ').next()?.parse().ok()
}

/// A child that sleeps until it is killed, and does `first` before.
fn sleeper(first: impl FnOnce()) -> Result<i32> {
    match process::fork()? {
        Some(pid) => Ok(pid),
        None => {
            first();
            loop {
                time::sleep_ns(1_000_000_000);
            }
        }
    }
}

fn end(pid: i32) -> Result<()> {
    process::kill(pid, SIGKILL)?;
    process::wait_exit(pid).map(drop)
}

/// Becomes user 1000, without any privilege left.
fn become_user() -> bool {
    // SAFETY: 1. no memory is named.
    unsafe {
        syscall!(__NR_setgroups, 0, 0).is_ok()
            && syscall!(__NR_setresgid, 1000, 1000, 1000).is_ok()
            && syscall!(__NR_setresuid, 1000, 1000, 1000).is_ok()
    }
}

/// Runs a check in a child that is user 1000.
fn as_user(check: impl FnOnce() -> Outcome) -> Outcome {
    let status = process::in_child(|| {
        let dropped = become_user();
        match check() {
            Ok(()) if dropped => 0,
            Ok(()) => 2,
            Err(failure) => {
                rt::eprintln!("as user: {}", failure.0);
                1
            }
        }
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn stat_fields() -> Outcome {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_setpriority, 0, 0, 7) }?;
    let line = own("stat")?;
    let field = |number| stat_field(&line, number);
    equal!(field(4), Some(i64::from(process::getppid())));
    equal!(field(5), Some(i64::from(process::getpgid(0)?)));
    // SAFETY: 1. no memory is named.
    equal!(field(6), unsafe { syscall!(__NR_getsid, 0) }.ok().map(|sid| sid as i64));
    equal!(field(18), Some(27));
    equal!(field(19), Some(7));
    equal!(field(20), Some(1));
    let up = time::clock_ns(CLOCK_BOOTTIME)? / 10_000_000;
    let start = field(22).unwrap_or(-1) as u64;
    ensure!(start > 0 && start <= up && up - start < 60 * 100, "start {start} of {up}");
    equal!(field(25).map(|limit| limit as u64), Some(u64::MAX));
    let here = stat_fields as *const () as i64;
    ensure!(field(26) <= Some(here) && Some(here) < field(27), "code {:?} {:?}", field(26), field(27));
    let stack = &raw const line as i64;
    ensure!(field(28) > Some(stack), "stack {:?} of {stack:#x}", field(28));
    equal!(field(38), Some(i64::from(SIGCHLD)));
    equal!((field(40), field(41)), (Some(0), Some(0)));
    let args = fs::read_file(c"/proc/self/cmdline")?.len() as i64;
    equal!(field(49).zip(field(48)).map(|(end, start)| end - start), Some(args));
    Ok(())
}

fn processor_time() -> Outcome {
    let own_ticks = || Ok::<_, Errno>(own("stat").map(|l| (stat_field(&l, 14), stat_field(&l, 15)))?);
    let used = |(user, system): (Option<i64>, Option<i64>)| user.unwrap_or(0) + system.unwrap_or(0);
    let child = process::in_child(|| {
        while own_ticks().map_or(0, used) < 5 {
            core::hint::spin_loop();
        }
        0
    })?;
    equal!(child.exit_code(), Some(0));
    let line = own("stat")?;
    let children = used((stat_field(&line, 16), stat_field(&line, 17)));
    ensure!(children >= 5, "the child's {children} ticks");
    Ok(())
}

fn status_ids() -> Outcome {
    let status = process::in_child(|| {
        let groups = [5u32, 30];
        // SAFETY: 1. the kernel reads the two groups.
        let set = unsafe {
            syscall!(__NR_setgroups, 2, groups.as_ptr()).is_ok()
                && syscall!(__NR_setresgid, 11, 12, 13).is_ok()
                && syscall!(__NR_setresuid, 1, 2, 3).is_ok()
        };
        let text = own("status").unwrap_or_default();
        let right = status_field(&text, "Uid") == Some("1\t2\t3\t2")
            && status_field(&text, "Gid") == Some("11\t12\t13\t12")
            && text.contains("\nGroups:\t5 30 \n")
            && status_field(&text, "CapEff") == Some("0000000000000000");
        i32::from(!set) * 2 + i32::from(!right)
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

extern "C" fn nothing(_signal: i32) {}

fn status_signals() -> Outcome {
    signal::mask(SIG_BLOCK, signal::bit(SIGUSR1) | signal::bit(SIGUSR2))?;
    signal::set_action(SIGHUP, Action::Ignore, 0, 0)?;
    signal::set_action(SIGTERM, Action::Handle(nothing), 0, 0)?;
    process::kill(process::getpid(), SIGUSR1)?;
    process::tgkill(process::getpid(), process::gettid(), SIGUSR2)?;
    let text = own("status")?;
    let set = |name| status_field(&text, name).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let bit = signal::bit;
    equal!(set("SigBlk"), Some(bit(SIGUSR1) | bit(SIGUSR2)));
    equal!(set("ShdPnd"), Some(bit(SIGUSR1)));
    equal!(set("SigPnd"), Some(bit(SIGUSR2)));
    equal!(set("SigIgn").map(|set| set & bit(SIGHUP)), Some(bit(SIGHUP)));
    equal!(set("SigCgt").map(|set| set & (bit(SIGTERM) | bit(SIGUSR1))), Some(bit(SIGTERM)));
    let queued = status_field(&text, "SigQ").and_then(|v| v.split_once('/')?.0.parse::<u32>().ok());
    ensure!(queued >= Some(1), "SigQ {queued:?}");
    let line = own("stat")?;
    equal!(stat_field(&line, 32), Some((bit(SIGUSR1) | bit(SIGUSR2)) as i64));
    Ok(())
}

fn sizes_agree() -> Outcome {
    // The sizes of one moment: reading must not make a mapping.
    let before = own("status")?;
    let (statm, stat, after) = (own("statm")?, own("stat")?, own("status")?);
    let kb = |text: &str, name| status_number(text, name).unwrap_or(0);
    if kb(&before, "VmSize") != kb(&after, "VmSize") {
        return Err(Failure(String::from("the heap grew meanwhile")));
    }
    let pages: Vec<u64> = statm.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    equal!(pages.len(), 7);
    equal!(pages[0] * 4, kb(&after, "VmSize"));
    equal!(stat_field(&stat, 23), Some(kb(&after, "VmSize") as i64 * 1024));
    equal!((pages[4], pages[6]), (0, 0));
    equal!(kb(&after, "RssAnon") + kb(&after, "RssFile") + kb(&after, "RssShmem"), kb(&after, "VmRSS"));
    ensure!(
        kb(&after, "VmHWM") >= kb(&after, "VmRSS") && kb(&after, "VmPeak") >= kb(&after, "VmSize"),
        "peaks"
    );
    ensure!(
        kb(&after, "VmPTE") > 0 && kb(&after, "VmStk") > 0 && kb(&after, "VmExe") > 0,
        "parts in {after}"
    );
    Ok(())
}

/// The lines of maps as (start, end, rest).
fn areas(maps: &str) -> Vec<(usize, usize, &str)> {
    let hex = |text| usize::from_str_radix(text, 16).ok();
    maps.lines()
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            Some((hex(start)?, hex(end)?, rest))
        })
        .collect()
}

fn maps_follow_mmap() -> Outcome {
    let page = mm::PAGE;
    // Inaccessible pages around it keep the kernel from joining it to neighbours.
    // SAFETY: 1. the kernel chooses unused addresses.
    let around = unsafe { mm::map(0, 7 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) }?;
    let at = around + page;
    // SAFETY: 1. the range is this check's own.
    unsafe { mm::protect(at, 5 * page, PROT_READ | PROT_WRITE) }?;
    let rights = |maps: &str| -> Vec<(usize, usize, String)> {
        let inside = |area: &(usize, usize, &str)| area.0 >= at && area.1 <= at + 5 * page;
        let short = |(start, end, rest): (usize, usize, &str)| (start - at, end - at, String::from(rest));
        areas(maps).into_iter().filter(inside).map(short).collect()
    };
    let line = |start: usize, end: usize, flags: &str| {
        (start * page, end * page, format!("{flags} 00000000 00:00 0 "))
    };
    equal!(rights(&own("maps")?), [line(0, 5, "rw-p")]);
    // SAFETY: 1. the range is this check's own.
    unsafe { mm::protect(at + 2 * page, page, PROT_READ) }?;
    equal!(rights(&own("maps")?), [line(0, 2, "rw-p"), line(2, 3, "r--p"), line(3, 5, "rw-p")]);
    // SAFETY: 1. the range is this check's own.
    unsafe { mm::unmap(at + 3 * page, page) }?;
    equal!(rights(&own("maps")?), [line(0, 2, "rw-p"), line(2, 3, "r--p"), line(4, 5, "rw-p")]);
    Ok(())
}

/// A directory of the check's own.
fn scratch() -> Result<String> {
    let dir = names::scratch()?;
    Ok(dir.to_string_lossy().into_owned())
}

fn maps_of_a_file() -> Outcome {
    let dir = scratch()?;
    let fd = fs::open(c"mapped file", O_RDWR | O_CREAT, 0o644)?;
    fs::ftruncate(fd, 3 * mm::PAGE as u64)?;
    // SAFETY: 1. the kernel chooses unused addresses.
    let at = unsafe { mm::map(0, 2 * mm::PAGE, PROT_READ, MAP_SHARED, fd, mm::PAGE) }?;
    let maps = own("maps")?;
    let found = areas(&maps).into_iter().find(|area| area.0 == at).map(|area| (area.1, area.2));
    let (end, rest) = found.ok_or_else(|| Failure(format!("{at:x} is not in {maps}")))?;
    equal!(end, at + 2 * mm::PAGE);
    let stat = fs::fstat(fd)?;
    let (major, minor) = (stat.st_dev >> 8 & 0xfff, stat.st_dev & 0xff | stat.st_dev >> 12 & 0xfff00);
    let head = format!("r--s 00001000 {major:02x}:{minor:02x} {} ", stat.st_ino);
    ensure!(rest.starts_with(&head), "{rest:?} does not begin with {head:?}");
    let path = format!("{dir}/mapped file");
    ensure!(rest.ends_with(&path), "{rest:?} does not end with {path}");
    equal!(rest.len() - path.len() + format!("{at:08x}-{end:08x} ").len(), 73);
    fs::unlink(c"mapped file")?;
    let (maps, deleted) = (own("maps")?, format!("{path} (deleted)"));
    ensure!(maps.lines().any(|line| line.ends_with(&deleted)), "no {deleted} in {maps}");
    Ok(())
}

/// Hundreds of areas, read with a small buffer and from the middle: the same text.
fn maps_in_pieces() -> Outcome {
    let page = mm::PAGE;
    // SAFETY: 1. the kernel chooses unused addresses.
    let at = unsafe { mm::map(0, 600 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) }?;
    for even in (0..600).step_by(2) {
        // SAFETY: 1. the range is this check's own.
        unsafe { mm::protect(at + even * page, page, PROT_NONE) }?;
    }
    let fd = fs::open(c"/proc/self/maps", O_RDONLY, 0)?;
    let mut whole = Vec::with_capacity(256 << 10);
    let mut piece = [0; 97];
    loop {
        match io::read(fd, &mut piece)? {
            0 => break,
            count => whole.extend_from_slice(&piece[..count]),
        }
    }
    let text = String::from_utf8_lossy(&whole);
    let inside = |area: &&(usize, usize, &str)| area.0 >= at && area.1 <= at + 600 * page;
    ensure!(areas(&text).iter().filter(inside).count() >= 598, "{} areas", areas(&text).len());
    let middle = whole.len() / 2;
    let count = io::pread(fd, &mut piece, middle as u64)?;
    equal!(&piece[..count], &whole[middle..middle + count]);
    equal!(io::pread(fd, &mut piece, whole.len() as u64 + 10_000)?, 0);
    Ok(())
}

fn smaps_sums() -> Outcome {
    let page = mm::PAGE;
    // SAFETY: 1. the kernel chooses unused addresses.
    let around = unsafe { mm::map(0, 6 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) }?;
    let at = around + page;
    // SAFETY: 1. the range is this check's own; 2. two of its pages are written.
    unsafe {
        mm::protect(at, 4 * page, PROT_READ | PROT_WRITE)?;
        (at as *mut u8).write_volatile(1);
        ((at + 2 * page) as *mut u8).write_volatile(1);
    }
    let smaps = own("smaps")?;
    let header = format!("{at:08x}-");
    let own_part = &smaps[smaps.find(&header).ok_or(Errno::ENOENT)?..];
    let kb = |name| status_number(own_part, name);
    equal!((kb("Size"), kb("Rss"), kb("Pss")), (Some(16), Some(8), Some(8)));
    equal!((kb("Private_Dirty"), kb("Anonymous"), kb("Shared_Clean")), (Some(8), Some(8), Some(0)));
    ensure!(own_part.contains("\nVmFlags: rd wr mr mw me "), "VmFlags");
    let sum = |text: &str, name: &str| -> u64 {
        let value =
            |line: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok();
        text.lines().filter_map(value).sum()
    };
    let rollup = own("smaps_rollup")?;
    ensure!(rollup.lines().next().is_some_and(|line| line.ends_with(" [rollup]")), "{rollup}");
    let (all, rolled) = (sum(&smaps, "Anonymous:"), sum(&rollup, "Anonymous:"));
    // Making the text of smaps has touched the heap meanwhile.
    ensure!(rolled >= all && rolled < all + 4096, "{all} and {rolled} kB");
    Ok(())
}

fn pagemap() -> Outcome {
    let page = mm::PAGE;
    let at = mm::map_anonymous(4 * page)?;
    // SAFETY: 1. the page is this check's own.
    unsafe { ((at + page) as *mut u8).write_volatile(1) };
    let fd = fs::open(c"/proc/self/pagemap", O_RDONLY, 0)?;
    let mut bytes = [0; 32];
    equal!(io::pread(fd, &mut bytes, (at / page * 8) as u64)?, 32);
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or([0; 8]))).collect();
    let present = |word: u64| word >> 63 & 1;
    equal!(words.iter().map(|word| present(*word)).collect::<Vec<_>>(), [0, 1, 0, 0]);
    equal!(io::pread(fd, &mut bytes[..12], 0), Err(Errno::EINVAL));
    equal!(io::pread(fd, &mut bytes[..8], 4), Err(Errno::EINVAL));
    Ok(())
}

fn memory_file() -> Outcome {
    let fd = fs::open(c"/proc/self/mem", O_RDWR, 0)?;
    let mut word = [7u8, 8, 9, 10];
    let mut read = [0; 4];
    equal!(io::pread(fd, &mut read, word.as_ptr() as u64)?, 4);
    equal!(read, word);
    equal!(io::pwrite(fd, b"abcd", word.as_mut_ptr() as u64)?, 4);
    equal!(core::hint::black_box(word), *b"abcd");
    let closed = mm::map_anonymous(2 * mm::PAGE)?;
    // SAFETY: 1. the pages are this check's own.
    unsafe { mm::protect(closed, mm::PAGE, PROT_READ) }?;
    // A debugger writes where the program may not.
    equal!(io::pwrite(fd, b"x", closed as u64)?, 1);
    // SAFETY: 1. the page is readable.
    equal!(unsafe { (closed as *const u8).read_volatile() }, b'x');
    // SAFETY: 1. the pages are this check's own.
    unsafe { mm::unmap(closed + mm::PAGE, mm::PAGE) }?;
    equal!(io::pread(fd, &mut read, (closed + mm::PAGE) as u64), Err(Errno::EIO));
    equal!(io::seek(fd, closed as i64, SEEK_SET)?, closed as u64);
    equal!(io::read(fd, &mut read[..1])?, 1);
    Ok(())
}

fn memory_of_a_child() -> Outcome {
    let at = mm::map_anonymous(mm::PAGE)?;
    let (read, write) = io::pipe(0)?;
    let pid = sleeper(|| {
        // SAFETY: 1. the page is the child's copy.
        unsafe { (at as *mut u8).write_volatile(77) };
        let _ = io::write_all(write, b"x");
    })?;
    io::read_full(read, &mut [0])?;
    let fd = fs::open(&c(format!("/proc/{pid}/mem")), O_RDONLY, 0)?;
    let mut byte = [0];
    equal!(io::pread(fd, &mut byte, at as u64)?, 1);
    equal!(byte, [77]);
    end(pid)?;
    // The memory is gone, the file is still open.
    equal!(io::pread(fd, &mut byte, at as u64)?, 0);
    Ok(())
}

fn descriptor_links() -> Outcome {
    scratch()?;
    let reading = fs::open(c"/dev/null", O_RDONLY, 0)?;
    let writing = fs::open(c"file", O_WRONLY | O_CREAT, 0o644)?;
    let both = fs::open(c"file", O_RDWR, 0)?;
    let mode = |fd| Ok::<_, Errno>(fs::lstat(&c(format!("/proc/self/fd/{fd}")))?.st_mode & 0o7777);
    equal!((mode(reading)?, mode(writing)?, mode(both)?), (0o500, 0o300, 0o700));
    let dir = fs::open(c"/proc/self/fd", O_RDONLY | O_DIRECTORY, 0)?;
    let listed = |names: &[Vec<u8>], fd: i32| names.iter().any(|name| *name == format!("{fd}").into_bytes());
    let names = fs::list(dir)?;
    ensure!([reading, writing, both, dir].iter().all(|fd| listed(&names, *fd)), "{names:?}");
    io::close(both)?;
    equal!(fs::lstat(&c(format!("/proc/self/fd/{both}"))).err(), Some(Errno::ENOENT));
    io::seek(dir, 0, SEEK_SET)?;
    ensure!(!listed(&fs::list(dir)?, both), "a closed descriptor is listed");
    // The number again, with other rights and another file.
    let again = fs::open(c"/dev/zero", O_RDONLY, 0)?;
    equal!(again, both);
    equal!(mode(again)?, 0o500);
    equal!(fs::readlink(&c(format!("/proc/self/fd/{again}")), &mut [0; 64])?, b"/dev/zero");
    Ok(())
}

fn deleted_file() -> Outcome {
    let dir = scratch()?;
    let fd = fs::open(c"gone", O_RDWR | O_CREAT, 0o644)?;
    io::write_all(fd, b"still here")?;
    fs::unlink(c"gone")?;
    let path = c(format!("/proc/self/fd/{fd}"));
    let mut target = [0; 128];
    let target = String::from_utf8_lossy(fs::readlink(&path, &mut target)?).into_owned();
    equal!(target, format!("{dir}/gone (deleted)"));
    equal!(fs::read_file(&path)?, b"still here");
    equal!(fs::stat(&path)?.st_ino, fs::fstat(fd)?.st_ino);
    Ok(())
}

fn fdinfo() -> Outcome {
    scratch()?;
    let fd = fs::open(c"file", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)?;
    io::write_all(fd, b"0123456789")?;
    io::seek(fd, 5, SEEK_SET)?;
    let text = own(&format!("fdinfo/{fd}"))?;
    equal!(status_field(&text, "pos"), Some("5"));
    let flags = status_field(&text, "flags").and_then(|octal| u32::from_str_radix(octal, 8).ok());
    // O_LARGEFILE is set for every program of 64 bits.
    const LARGEFILE: u32 = 0o100000;
    equal!(flags, Some(O_RDWR | O_APPEND | O_CLOEXEC | LARGEFILE));
    let mount = status_field(&text, "mnt_id").ok_or(Errno::ENOENT)?;
    let mounts = own("mountinfo")?;
    ensure!(mounts.lines().any(|line| line.split(' ').next() == Some(mount)), "mount {mount} in {mounts}");
    Ok(())
}

fn others_are_private() -> Outcome {
    let pid = sleeper(|| ())?;
    until(pid, 'S')?;
    let result = as_user(|| {
        for name in ["environ", "auxv", "mem", "maps", "smaps", "pagemap", "io", "syscall", "stack", "fd"] {
            let path = c(format!("/proc/{pid}/{name}"));
            let error = fs::open(&path, O_RDONLY, 0).and_then(|fd| io::read(fd, &mut [0; 64])).err();
            ensure!(error == Some(Errno::EACCES), "{name}: {error:?}");
        }
        for name in ["exe", "cwd", "root", "fd/0"] {
            let path = c(format!("/proc/{pid}/{name}"));
            let error = fs::readlink(&path, &mut [0; 64]).err();
            ensure!(error == Some(Errno::EACCES), "{name}: {error:?}");
        }
        let line = text_of(pid, "stat")?;
        let addresses: Vec<_> =
            [26, 27, 28, 45, 48].iter().map(|number| stat_field(&line, *number)).collect();
        equal!(addresses, [Some(1), Some(1), Some(0), Some(0), Some(0)]);
        equal!(text_of(pid, "wchan")?, "0");
        text_of(pid, "status")?;
        text_of(pid, "cmdline")?;
        equal!(fs::write_file(&c(format!("/proc/{pid}/oom_score_adj")), b"1"), Err(Errno::EACCES));
        Ok(())
    });
    end(pid)?;
    result
}

/// After a change of ids the files are root's; the own descriptors stay reachable.
fn own_files_after_setuid() -> Outcome {
    as_user(|| {
        equal!(fs::stat(c"/proc/self/environ")?.st_uid, 0);
        equal!(fs::open(c"/proc/self/environ", O_RDONLY, 0), Err(Errno::EACCES));
        let dir = fs::open(c"/proc/self/fd", O_RDONLY | O_DIRECTORY, 0)?;
        fs::readlink(&c(format!("/proc/self/fd/{dir}")), &mut [0; 64])?;
        equal!(fs::stat(c"/proc/self")?.st_uid, 1000);
        Ok(())
    })
}

fn zombie() -> Outcome {
    let Some(pid) = process::fork()? else { process::exit(3) };
    until(pid, 'Z')?;
    let line = text_of(pid, "stat")?;
    ensure!(line.starts_with(&format!("{pid} (checks) Z {} ", process::getpid())), "{line}");
    equal!((stat_field(&line, 23), stat_field(&line, 24)), (Some(0), Some(0)));
    equal!(stat_field(&line, 52), Some(3 << 8));
    let status = text_of(pid, "status")?;
    equal!(status_field(&status, "State"), Some("Z (zombie)"));
    equal!(status_field(&status, "VmSize"), None);
    equal!(text_of(pid, "cmdline")?, "");
    equal!(text_of(pid, "statm")?, "0 0 0 0 0 0 0\n");
    equal!(fs::readlink(&c(format!("/proc/{pid}/exe")), &mut [0; 64]).err(), Some(Errno::ENOENT));
    process::wait_exit(pid)?;
    equal!(fs::stat(&c(format!("/proc/{pid}"))).err(), Some(Errno::ENOENT));
    Ok(())
}

fn stopped() -> Outcome {
    let pid = sleeper(|| ())?;
    process::kill(pid, SIGSTOP)?;
    until(pid, 'T')?;
    equal!(status_field(&text_of(pid, "status")?, "State"), Some("T (stopped)"));
    process::kill(pid, SIGCONT)?;
    until(pid, 'S')?;
    equal!(status_field(&text_of(pid, "status")?, "State"), Some("S (sleeping)"));
    Ok(end(pid)?)
}

fn thread_directories() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let other = thread::spawn(move || {
        let _ = io::read(read, &mut [0]);
    })?;
    equal!(fs::stat(c"/proc/self/task")?.st_nlink as u64, 4);
    equal!(status_field(&own("status")?, "Threads"), Some("2"));
    let tid = other.tid();
    // A thread has a directory by its number too, which is not listed.
    equal!(status_field(&text_of(tid, "status")?, "Tgid"), Some(format!("{}", process::getpid()).as_str()));
    equal!(status_field(&text_of(tid, "status")?, "Pid"), Some(format!("{tid}").as_str()));
    let dir = fs::open(c"/proc", O_RDONLY | O_DIRECTORY, 0)?;
    let names = fs::list(dir)?;
    let listed = |number: i32| names.iter().any(|name| *name == format!("{number}").into_bytes());
    equal!((listed(tid), listed(process::getpid())), (false, true));
    let path = c(format!("/proc/self/task/{tid}/comm"));
    fs::write_file(&path, b"another")?;
    equal!(fs::read_file(&path)?, b"another\n");
    equal!(own("comm")?, "checks\n");
    equal!(fs::stat(&c(format!("/proc/self/task/{}", process::getppid()))).err(), Some(Errno::ENOENT));
    io::write_all(write, b"x")?;
    other.join();
    equal!(fs::stat(&path).err(), Some(Errno::ENOENT));
    Ok(())
}

fn names_are_written() -> Outcome {
    fs::write_file(c"/proc/self/comm", b"a name\\ of more than fifteen")?;
    equal!(own("comm")?, "a name\\ of more\n");
    equal!(status_field(&own("status")?, "Name"), Some("a name\\\\ of more"));
    ensure!(own("stat")?.contains(" (a name\\ of more) R "), "{}", own("stat")?);
    let pid = sleeper(|| ())?;
    equal!(fs::write_file(&c(format!("/proc/{pid}/comm")), b"x"), Err(Errno::EINVAL));
    Ok(end(pid)?)
}

fn arguments_and_environment() -> Outcome {
    let mut wanted = Vec::new();
    for at in 0.. {
        let Some(arg) = env::arg(at) else { break };
        wanted.extend_from_slice(arg.as_bytes());
        wanted.push(0);
    }
    equal!(fs::read_file(c"/proc/self/cmdline")?, wanted);
    let environment = fs::read_file(c"/proc/self/environ")?;
    ensure!(environment.is_empty() || environment.ends_with(b"\0"), "environ");
    let auxv = fs::read_file(c"/proc/self/auxv")?;
    let word = |at: usize| auxv.get(at..at + 8).map(|b| u64::from_ne_bytes(b.try_into().unwrap_or([0; 8])));
    let value =
        |key: u64| (0..auxv.len()).step_by(16).find(|at| word(*at) == Some(key)).and_then(|at| word(at + 8));
    const AT_PAGESZ: u64 = 6;
    equal!(value(AT_PAGESZ), Some(mm::PAGE as u64));
    equal!(word(auxv.len() - 16), Some(0));
    Ok(())
}

fn limits() -> Outcome {
    let limit = [77u64, 99];
    const RLIMIT_NOFILE: usize = 7;
    // SAFETY: 1. the kernel reads the two words.
    unsafe { syscall!(__NR_prlimit64, 0, RLIMIT_NOFILE, limit.as_ptr(), 0) }?;
    let text = own("limits")?;
    let head = "Limit                     Soft Limit           Hard Limit           Units     ";
    equal!(text.lines().next(), Some(head));
    let line = "Max open files            77                   99                   files     ";
    ensure!(text.lines().any(|found| found == line), "{text}");
    equal!(text.lines().count(), 17);
    Ok(())
}

fn oom_score_adj() -> Outcome {
    fs::write_file(c"/proc/self/oom_score_adj", b"500\n")?;
    equal!(own("oom_score_adj")?, "500\n");
    equal!(own("oom_adj")?, "8\n");
    equal!(fs::write_file(c"/proc/self/oom_score_adj", b"1001"), Err(Errno::EINVAL));
    equal!(fs::write_file(c"/proc/self/oom_score_adj", b"x"), Err(Errno::EINVAL));
    ensure!(own("oom_score")?.trim().parse::<u32>().is_ok_and(|score| score >= 600), "{}", own("oom_score")?);
    Ok(())
}

fn blocked_call() -> Outcome {
    let (read, _write) = io::pipe(0)?;
    let mut byte = [0u8];
    let at = byte.as_mut_ptr() as usize;
    let Some(pid) = process::fork()? else {
        let _ = io::read(read, &mut byte);
        process::exit(0)
    };
    until(pid, 'S')?;
    let text = text_of(pid, "syscall")?;
    ensure!(text.starts_with(&format!("{} {read:#x} {at:#x} 0x1 ", __NR_read as u32)), "{text}");
    equal!(text.split(' ').count(), 9);
    ensure!(own("syscall")?.starts_with(&format!("{} ", __NR_read as u32)), "{}", own("syscall")?);
    ensure!(!["", "0"].contains(&text_of(pid, "wchan")?.as_str()), "wchan");
    let stack = text_of(pid, "stack")?;
    ensure!(stack.lines().count() > 1 && stack.lines().all(|line| line.starts_with("[<0>] ")), "{stack}");
    Ok(end(pid)?)
}

fn io_counts() -> Outcome {
    let count = |name| own("io").map(|text| status_number(&text, name).unwrap_or(0));
    let (zero, null) = (fs::open(c"/dev/zero", O_RDONLY, 0)?, fs::open(c"/dev/null", O_WRONLY, 0)?);
    let (read, calls, written) = (count("rchar")?, count("syscr")?, count("wchar")?);
    io::read(zero, &mut [0; 1000])?;
    io::write(null, &[0; 500])?;
    ensure!(count("rchar")? >= read + 1000 && count("syscr")? > calls, "reading is counted");
    equal!(count("wchar")?, written + 500);
    Ok(())
}

fn stable_inodes() -> Outcome {
    for path in [c"/proc/self/status", c"/proc/self/task", c"/proc/stat", c"/proc/sys/kernel"] {
        equal!(fs::stat(path)?.st_ino, fs::stat(path)?.st_ino);
    }
    ensure!(
        fs::stat(c"/proc/self/status")?.st_ino != fs::stat(c"/proc/self/stat")?.st_ino,
        "two files, one number"
    );
    equal!(fs::stat(c"/proc")?.st_ino, 1);
    equal!(fs::stat(c"/proc/self/status")?.st_size, 0);
    Ok(())
}

fn hidden_processes() -> Outcome {
    scratch()?;
    fs::chmod(c".", 0o755)?;
    fs::mkdir(c"proc", 0o755)?;
    if fs::mount(c"proc", c"proc", c"proc", 0, c"hidepid=2") == Err(Errno::EPERM) {
        return Ok(());
    }
    let shown = text(c"/proc/self/mounts")?;
    let result = as_user(|| {
        equal!(fs::open(c"proc/1/status", O_RDONLY, 0), Err(Errno::ENOENT));
        text(&c(format!("proc/{}/status", process::getpid())))?;
        let names = fs::list(fs::open(c"proc", O_RDONLY | O_DIRECTORY, 0)?)?;
        ensure!(!names.iter().any(|name| name == b"1"), "process 1 is listed");
        ensure!(names.contains(&format!("{}", process::getpid()).into_bytes()), "oneself is not listed");
        Ok(())
    });
    fs::umount(c"proc", 0)?;
    result?;
    ensure!(shown.lines().any(|line| line.contains("/proc proc rw,relatime,hidepid=invisible ")), "{shown}");
    Ok(())
}

fn processes_only() -> Outcome {
    scratch()?;
    fs::mkdir(c"proc", 0o755)?;
    match fs::mount(c"proc", c"proc", c"proc", 0, c"subset=pid") {
        Err(Errno::EPERM) => return Ok(()),
        mounted => mounted?,
    }
    let shown = text(c"/proc/self/mounts")?;
    let look = || {
        equal!(fs::open(c"proc/uptime", O_RDONLY, 0), Err(Errno::ENOENT));
        ensure!(text(c"proc/self/status")?.starts_with("Name:"), "oneself is not there");
        let names = fs::list(fs::open(c"proc", O_RDONLY | O_DIRECTORY, 0)?)?;
        ensure!(names.iter().any(|name| name == b"self"), "self is not listed");
        ensure!(!names.iter().any(|name| name == b"meminfo"), "meminfo is listed");
        Ok(())
    };
    let result = look();
    // Lazily: the listing is still open.
    fs::umount(c"proc", 2)?;
    result?;
    ensure!(shown.lines().any(|line| line.contains("/proc proc rw,relatime,subset=pid ")), "{shown}");
    equal!(fs::mount(c"proc", c"proc", c"proc", 0, c"subset=all"), Err(Errno::EINVAL));
    Ok(())
}
