//! Files under /proc that programs read.

use crate::names::fresh;
use crate::{Check, Outcome, ensure, equal, skip};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use rt::nr::*;
use rt::{Errno, Result, fs, io, process};

pub const CHECKS: &[Check] = &[
    ("stat", stat),
    ("cpus", cpus),
    ("status", status),
    ("maps", maps),
    ("descriptors", descriptors),
    ("links", links),
    ("command_line", command_line),
    ("system_files", system_files),
    ("gone_process", gone_process),
    ("threads", threads),
    ("meminfo", meminfo),
    ("mounts", mounts),
    ("mount_names", mount_names),
    ("counts_go_up", counts_go_up),
    ("clocks", clocks),
    ("processors", processors),
    ("faults", faults),
    ("system_names", system_names),
    ("random_names", random_names),
    ("numbers", numbers),
    ("open_files", open_files),
    ("pipe_limit", pipe_limit),
    ("locks", locks),
    ("symbols", symbols),
    ("written_by_root_alone", written_by_root_alone),
    ("kernel_log", kernel_log),
    ("kernel_log_places", kernel_log_places),
    ("mount_changes", mount_changes),
    ("namespaces", namespaces),
    ("id_maps", id_maps),
    ("net", net),
    ("timer_list", timer_list),
    ("scheduled_tasks", scheduled_tasks),
];

fn text(path: &core::ffi::CStr) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read_file(path)?).into_owned())
}

/// The CPUs by name, in all places that tell them.
fn cpus() -> Outcome {
    let online = text(c"/sys/devices/system/cpu/online")?;
    let listed: Vec<u32> = online
        .trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect();
    let stat = text(c"/proc/stat")?;
    let running: Vec<u32> =
        stat.lines().filter_map(|line| line.strip_prefix("cpu")?.split(' ').next()?.parse().ok()).collect();
    equal!(listed, running);
    for cpu in listed {
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology/core_siblings_list");
        let siblings = text(&CString::new(topology).map_err(|_| Errno::EINVAL)?)?;
        ensure!(!siblings.trim().is_empty(), "cpu{cpu} is in no package");
    }
    ensure!(text(c"/sys/devices/system/cpu/possible")?.starts_with('0'), "CPU 0 is not possible");
    Ok(())
}

fn stat() -> Outcome {
    let line = text(c"/proc/self/stat")?;
    let (head, tail) = line.rsplit_once(')').ok_or(Errno::EINVAL)?;
    equal!(head, format!("{} (checks", process::getpid()));
    let fields: alloc::vec::Vec<&str> = tail.split_ascii_whitespace().collect();
    equal!(fields.len(), 50);
    equal!(fields[0], "R");
    equal!(fields[1], format!("{}", process::getppid()));
    equal!(fields[17], "1");
    Ok(())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn status() -> Outcome {
    let text = text(c"/proc/self/status")?;
    equal!(field(&text, "Name"), Some("checks"));
    equal!(field(&text, "Pid"), Some(format!("{}", process::getpid()).as_str()));
    equal!(field(&text, "Threads"), Some("1"));
    equal!(field(&text, "State"), Some("R (running)"));
    for name in [
        "Tgid",
        "PPid",
        "Uid",
        "Gid",
        "FDSize",
        "Groups",
        "VmSize",
        "VmRSS",
        "SigBlk",
        "CapEff",
        "Cpus_allowed",
    ] {
        ensure!(field(&text, name).is_some(), "no {name}");
    }
    Ok(())
}

fn maps() -> Outcome {
    let text = text(c"/proc/self/maps")?;
    let here = maps as *const () as usize;
    let stack = &raw const text as usize;
    let find = |at: usize| {
        text.lines().find(|line| {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            let parse = |hex| usize::from_str_radix(hex, 16).unwrap_or(0);
            range.is_some_and(|(start, end)| (parse(start)..parse(end)).contains(&at))
        })
    };
    ensure!(find(here).is_some_and(|line| line.contains(" r-xp ")), "own text in {text}");
    ensure!(
        find(stack).is_some_and(|line| line.contains(" rw-p ") && line.ends_with("[stack]")),
        "stack in {text}"
    );
    // Debuggers find the vDSO as the area that begins at AT_SYSINFO_EHDR.
    let vdso = rt::env::auxval(33).unwrap_or(0);
    let starts =
        |line: &&str| line.starts_with(&format!("{vdso:x}-")) || line.starts_with(&format!("{vdso:08x}-"));
    ensure!(
        find(vdso).filter(starts).is_some_and(|line| line.contains(" r-xp ") && line.ends_with("[vdso]")),
        "vDSO at {vdso:x} in {text}"
    );
    Ok(())
}

fn descriptors() -> Outcome {
    let fd = fs::open(c"/dev/zero", O_RDONLY, 0)?;
    let path = CString::new(format!("/proc/self/fd/{fd}")).map_err(|_| Errno::EINVAL)?;
    let mut target = [0; 64];
    equal!(fs::readlink(&path, &mut target)?, b"/dev/zero");
    let again = fs::open(&path, O_RDONLY, 0)?;
    equal!(io::read(again, &mut [1; 4])?, 4);
    let (read, write) = io::pipe(0)?;
    let path = CString::new(format!("/proc/self/fd/{read}")).map_err(|_| Errno::EINVAL)?;
    ensure!(fs::readlink(&path, &mut target)?.starts_with(b"pipe:["), "a pipe's link");
    // As a shell's `> /dev/stdout`: where the link leads there is no name to make.
    let path = CString::new(format!("/proc/self/fd/{write}")).map_err(|_| Errno::EINVAL)?;
    let again = fs::open(&path, O_WRONLY | O_CREAT | O_TRUNC, 0o666)?;
    equal!(io::write(again, b"x")?, 1);
    equal!(io::read(read, &mut [0; 4])?, 1);
    let info = CString::new(format!("/proc/self/fdinfo/{fd}")).map_err(|_| Errno::EINVAL)?;
    ensure!(text(&info)?.starts_with("pos:\t0\n"), "fdinfo");
    Ok(())
}

fn links() -> Outcome {
    fs::chdir(c"/tmp")?;
    let mut target = [0; 256];
    equal!(fs::readlink(c"/proc/self/cwd", &mut target)?, b"/tmp");
    equal!(fs::readlink(c"/proc/self/root", &mut target)?, b"/");
    equal!(fs::readlink(c"/proc/self", &mut target)?, format!("{}", process::getpid()).as_bytes());
    equal!(fs::stat(c"/proc/self/exe")?.st_ino, fs::stat(c"/proc/thread-self/exe")?.st_ino);
    Ok(())
}

fn command_line() -> Outcome {
    let line = fs::read_file(c"/proc/self/cmdline")?;
    ensure!(line.ends_with(b"\0") && line.windows(6).any(|w| w == b"checks"), "cmdline {line:?}");
    fs::read_file(c"/proc/self/environ")?;
    ensure!(fs::read_file(c"/proc/self/auxv")?.len().is_multiple_of(16), "auxv");
    Ok(())
}

fn system_files() -> Outcome {
    let uptime = text(c"/proc/uptime")?;
    equal!(uptime.split_ascii_whitespace().filter(|w| w.contains('.')).count(), 2);
    equal!(text(c"/proc/loadavg")?.split_ascii_whitespace().count(), 5);
    ensure!(text(c"/proc/stat")?.starts_with("cpu  "), "stat");
    ensure!(text(c"/proc/cpuinfo")?.contains("processor\t: 0"), "cpuinfo");
    ensure!(text(c"/proc/filesystems")?.contains("nodev\ttmpfs\n"), "filesystems");
    ensure!(!text(c"/proc/version")?.is_empty(), "version");
    ensure!(text(c"/proc/vmstat")?.contains("pgfault "), "vmstat");
    fs::read_file(c"/proc/interrupts")?;
    equal!(fs::open(c"/proc/nothing", O_RDONLY, 0), Err(Errno::ENOENT));
    equal!(fs::mkdir(c"/proc/new", 0o700), Err(Errno::ENOENT));
    Ok(())
}

/// A blank in the name of a mount point is written in octal.
fn mount_names() -> Outcome {
    let dir = fresh("mount of");
    let path = CString::new(dir.as_str()).map_err(|_| Errno::EINVAL)?;
    fs::mkdir(&path, 0o755)?;
    if fs::mount(c"a device", &path, c"tmpfs", MS_NOSUID, c"") == Err(Errno::EPERM) {
        return Ok(());
    }
    let (mounts, info, stats) =
        (text(c"/proc/self/mounts")?, text(c"/proc/self/mountinfo")?, text(c"/proc/self/mountstats")?);
    fs::umount(&path, 0)?;
    let shown = dir.replace(' ', "\\040");
    let line = format!("a\\040device {shown} tmpfs rw,nosuid,relatime");
    ensure!(mounts.lines().any(|l| l.starts_with(&line)), "no {line} in {mounts}");
    let device = fs::stat(&path)?;
    ensure!(device.st_ino != 0, "the mount point is there");
    let line = info.lines().find(|l| l.contains(&shown)).ok_or(Errno::ENOENT)?;
    let words: alloc::vec::Vec<&str> = line.split(' ').collect();
    equal!((words[3], words[4], words[5]), ("/", shown.as_str(), "rw,nosuid,relatime"));
    ensure!(line.contains(" - tmpfs a\\040device rw"), "{line}");
    ensure!(info.lines().any(|l| l.split(' ').next() == Some(words[1])), "the parent of {line}");
    ensure!(
        stats.contains(&format!("device a\\040device mounted on {shown} with fstype tmpfs\n")),
        "{stats}"
    );
    ensure!(!text(c"/proc/self/mounts")?.contains(&shown), "still there");
    Ok(())
}

/// The number behind a word at the start of a line.
fn count(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn counts_go_up() -> Outcome {
    let before = text(c"/proc/stat")?;
    for _ in 0..5 {
        process::in_child(|| 0)?;
    }
    let after = text(c"/proc/stat")?;
    let grew = |name| count(&after, name).zip(count(&before, name)).map_or(0, |(a, b)| a - b);
    ensure!(
        grew("processes") >= 5 && grew("ctxt") >= 5,
        "{} forks, {} switches",
        grew("processes"),
        grew("ctxt")
    );
    ensure!(count(&after, "procs_running") >= Some(1) && count(&after, "procs_blocked").is_some(), "{after}");
    let sum_of_parts = |name: &str| {
        let line = after.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        let words: alloc::vec::Vec<u64> =
            line.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect();
        words.split_first().map(|(sum, parts)| (*sum, parts.iter().sum::<u64>(), parts.len()))
    };
    let (sum, parts, vectors) = sum_of_parts("softirq").ok_or(Errno::ENOENT)?;
    equal!((parts, vectors), (sum, 10));
    let (sum, parts, _) = sum_of_parts("intr").ok_or(Errno::ENOENT)?;
    ensure!(sum >= parts, "intr {sum} of {parts}");
    let load = text(c"/proc/loadavg")?;
    let last = load.trim_end().rsplit(' ').next().and_then(|pid| pid.parse::<i32>().ok());
    ensure!(last >= Some(process::getpid()), "{load}");
    let threads = load.split(' ').nth(3).and_then(|part| part.split_once('/')?.1.parse::<u32>().ok());
    ensure!(threads >= Some(2), "{load}");
    Ok(())
}

fn clocks() -> Outcome {
    let up = |text: &str| text.split('.').next().and_then(|s| s.parse::<u64>().ok());
    let before = rt::time::clock_ns(CLOCK_BOOTTIME)? / 1_000_000_000;
    let shown = up(&text(c"/proc/uptime")?);
    let after = rt::time::clock_ns(CLOCK_BOOTTIME)? / 1_000_000_000;
    ensure!(Some(before) <= shown && shown <= Some(after), "{before} {shown:?} {after}");
    let boot = rt::time::clock_ns(CLOCK_REALTIME)? / 1_000_000_000 - after;
    let shown = count(&text(c"/proc/stat")?, "btime").ok_or(Errno::ENOENT)?;
    ensure!(shown.abs_diff(boot) <= 2, "btime {shown}, not {boot}");
    Ok(())
}

/// As many processors in every file; their times add up.
fn processors() -> Outcome {
    let stat = text(c"/proc/stat")?;
    let ticks =
        |line: &str| line.split_ascii_whitespace().skip(1).filter_map(|w| w.parse::<u64>().ok()).sum();
    let each: alloc::vec::Vec<u64> =
        stat.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).map(ticks).collect();
    let all: u64 = stat.lines().next().map_or(0, ticks);
    let sum: u64 = each.iter().sum();
    ensure!(all.abs_diff(sum) <= 10 * each.len() as u64, "{all} ticks, not {sum}");
    let infos = text(c"/proc/cpuinfo")?.lines().filter(|line| line.starts_with("processor")).count();
    equal!(infos, each.len());
    let interrupts = text(c"/proc/interrupts")?;
    let columns = interrupts.lines().next().map_or(0, |head| head.split_ascii_whitespace().count());
    equal!(columns, each.len());
    ensure!(
        interrupts.lines().any(|line| line.trim_start().starts_with("LOC:") || line.contains("timer")),
        "timers"
    );
    let softirqs = text(c"/proc/softirqs")?;
    ensure!(softirqs.lines().nth(1).is_some_and(|line| line.starts_with("          HI:")), "{softirqs}");
    // Not every Linux is built with it.
    if let Ok(schedstat) = text(c"/proc/schedstat") {
        ensure!(schedstat.starts_with("version ") && schedstat.contains("\ncpu0 "), "{schedstat}");
    }
    Ok(())
}

fn faults() -> Outcome {
    let before = count(&text(c"/proc/vmstat")?, "pgfault").ok_or(Errno::ENOENT)?;
    let at = rt::mm::map_anonymous(200 * rt::mm::PAGE)?;
    // SAFETY: 1. small pages only. 2. the pages are this check's own.
    unsafe {
        let _ = rt::mm::advise(at, 200 * rt::mm::PAGE, MADV_NOHUGEPAGE);
        (0..200).for_each(|page| ((at + page * rt::mm::PAGE) as *mut u8).write_volatile(1));
    }
    let after = count(&text(c"/proc/vmstat")?, "pgfault").ok_or(Errno::ENOENT)?;
    ensure!(after >= before + 200, "{} faults", after - before);
    let buddy = text(c"/proc/buddyinfo")?;
    ensure!(buddy.lines().all(|line| line.starts_with("Node 0, zone ")), "{buddy}");
    equal!(buddy.lines().next().map(|line| line.split_ascii_whitespace().count()), Some(4 + 11));
    Ok(())
}

fn system_names() -> Outcome {
    let sys = |name: &str| {
        let path = CString::new(format!("/proc/sys/kernel/{name}")).map_err(|_| Errno::EINVAL)?;
        text(&path)
    };
    let mut names = [[0u8; 65]; 6];
    // SAFETY: 1. the kernel writes six names of 65 bytes.
    unsafe { rt::syscall!(__NR_uname, names.as_mut_ptr()) }?;
    let uname = |at: usize| {
        let len = names[at].iter().position(|byte| *byte == 0).unwrap_or(0);
        String::from_utf8_lossy(&names[at][..len]).into_owned() + "\n"
    };
    equal!([sys("ostype")?, sys("hostname")?, sys("osrelease")?, sys("version")?], [0, 1, 2, 3].map(uname));
    let version = text(c"/proc/version")?;
    ensure!(version.starts_with(&format!("Linux version {} (", uname(2).trim_end())), "{version}");
    ensure!(version.ends_with(&uname(3)), "{version}");
    let old = sys("hostname")?;
    fs::write_file(c"/proc/sys/kernel/hostname", b"another.name\n")?;
    let new = sys("hostname")?;
    fs::write_file(c"/proc/sys/kernel/hostname", old.as_bytes())?;
    equal!(new, "another.name\n");
    equal!(sys("hostname")?, old);
    Ok(())
}

fn random_names() -> Outcome {
    let uuid = || text(c"/proc/sys/kernel/random/uuid");
    let (one, two) = (uuid()?, uuid()?);
    ensure!(one != two, "twice {one}");
    let dashes: alloc::vec::Vec<usize> = one.match_indices('-').map(|(at, _)| at).collect();
    equal!((one.len(), dashes), (37, alloc::vec![8, 13, 18, 23]));
    equal!(&one[14..15], "4");
    ensure!("89ab".contains(&one[19..20]), "{one}");
    equal!(text(c"/proc/sys/kernel/random/boot_id")?, text(c"/proc/sys/kernel/random/boot_id")?);
    equal!(text(c"/proc/sys/kernel/random/entropy_avail")?, "256\n");
    Ok(())
}

fn numbers() -> Outcome {
    let value = |path| text(path).map(|text| text.trim().parse::<u64>().ok());
    ensure!(value(c"/proc/sys/kernel/pid_max")? > Some(300), "pid_max");
    ensure!(value(c"/proc/sys/kernel/threads-max")? > Some(10), "threads-max");
    ensure!(value(c"/proc/sys/fs/nr_open")? >= Some(1024), "nr_open");
    ensure!(value(c"/proc/sys/vm/max_map_count")? > Some(1000), "max_map_count");
    equal!(value(c"/proc/sys/kernel/cap_last_cap")?, Some(40));
    ensure!(value(c"/proc/sys/kernel/randomize_va_space")? <= Some(2), "randomize_va_space");
    equal!(fs::write_file(c"/proc/sys/kernel/pid_max", b"0"), Err(Errno::EINVAL));
    equal!(fs::write_file(c"/proc/sys/kernel/pid_max", b"word"), Err(Errno::EINVAL));
    equal!(fs::write_file(c"/proc/sys/vm/overcommit_memory", b"3"), Err(Errno::EINVAL));
    equal!(text(c"/proc/sys/fs/dentry-state")?.split_ascii_whitespace().count(), 6);
    Ok(())
}

fn open_files() -> Outcome {
    let allocated = || {
        let text = text(c"/proc/sys/fs/file-nr")?;
        Ok::<_, Errno>(text.split('\t').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0))
    };
    let before = allocated()?;
    let fds: alloc::vec::Vec<_> = (0..500).filter_map(|_| fs::open(c"/dev/null", O_RDONLY, 0).ok()).collect();
    let after = allocated()?;
    // Linux sums its counters of the processors only now and then.
    ensure!(fds.len() == 500 && after + 200 >= before + 500, "{before} and {after}");
    Ok(())
}

/// The limit for the unprivileged, as it is set.
fn pipe_limit() -> Outcome {
    let limit: usize = text(c"/proc/sys/fs/pipe-max-size")?.trim().parse().map_err(|_| Errno::EINVAL)?;
    let status = process::in_child(|| {
        // SAFETY: 1. no memory is named.
        let dropped = unsafe { rt::syscall!(__NR_setresuid, 1000, 1000, 1000) }.is_ok();
        let Ok((read, _write)) = io::pipe(0) else { return 1 };
        const F_SETPIPE_SZ: u32 = 1031;
        let small = io::fcntl(read, F_SETPIPE_SZ, limit) == Ok(limit);
        let large = io::fcntl(read, F_SETPIPE_SZ, limit + 1) == Err(Errno::EPERM);
        i32::from(!(dropped && small && large)) * 2
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn locks() -> Outcome {
    let path = CString::new(fresh("locked")).map_err(|_| Errno::EINVAL)?;
    let fd = fs::open(&path, O_RDWR | O_CREAT, 0o600)?;
    let inode = fs::fstat(fd)?.st_ino;
    const LOCK_EX: usize = 2;
    // SAFETY: 1. no memory is named.
    unsafe { rt::syscall!(__NR_flock, fd, LOCK_EX) }?;
    let shown = text(c"/proc/locks")?;
    let line = shown.lines().find(|line| line.contains(&format!(":{inode} "))).unwrap_or_default();
    let words: alloc::vec::Vec<&str> = line.split_ascii_whitespace().collect();
    equal!(
        words.get(1..5),
        Some(&["FLOCK", "ADVISORY", "WRITE", format!("{}", process::getpid()).as_str()][..])
    );
    equal!(words.get(6..), Some(&["0", "EOF"][..]));
    io::close(fd)?;
    ensure!(!text(c"/proc/locks")?.contains(&format!(":{inode} ")), "the lock is gone");
    Ok(fs::unlink(&path)?)
}

fn symbols() -> Outcome {
    let symbols = text(c"/proc/kallsyms")?;
    ensure!(symbols.lines().count() > 500, "{} symbols", symbols.lines().count());
    let well_formed = |line: &str| {
        let mut words = line.splitn(3, ' ');
        words.next().is_some_and(|address| address.len() == 16)
            && words.next().is_some_and(|kind| kind.len() == 1)
    };
    ensure!(symbols.lines().take(500).all(well_formed), "{:?}", symbols.lines().next());
    Ok(())
}

fn written_by_root_alone() -> Outcome {
    let status = process::in_child(|| {
        // SAFETY: 1. no memory is named.
        let dropped = unsafe { rt::syscall!(__NR_setresuid, 1000, 1000, 1000) }.is_ok();
        let refused = |path| fs::open(path, O_WRONLY, 0) == Err(Errno::EACCES);
        let right = refused(c"/proc/sys/kernel/hostname") && refused(c"/proc/sys/kernel/pid_max");
        let slabs = fs::open(c"/proc/slabinfo", O_RDONLY, 0) == Err(Errno::EACCES);
        i32::from(!(dropped && right && slabs))
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

/// What was opened of a process that ended answers ESRCH, and its directory is gone.
fn gone_process() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let Some(pid) = process::fork()? else {
        let _ = io::close(write);
        let _ = io::read(read, &mut [0]);
        process::exit(0)
    };
    let path = CString::new(format!("/proc/{pid}/status")).map_err(|_| Errno::EINVAL)?;
    let fd = fs::open(&path, O_RDONLY, 0)?;
    io::close(write)?;
    process::wait_exit(pid)?;
    equal!(io::read(fd, &mut [0; 100]), Err(Errno::ESRCH));
    equal!(fs::stat(&path).err(), Some(Errno::ENOENT));
    Ok(())
}

fn threads() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let thread = rt::thread::spawn(move || {
        let _ = io::read(read, &mut [0]);
    })?;
    let fd = fs::open(c"/proc/self/task", O_RDONLY | O_DIRECTORY, 0)?;
    equal!(fs::list(fd)?.len(), 4);
    let path = CString::new(format!("/proc/self/task/{}/stat", thread.tid())).map_err(|_| Errno::EINVAL)?;
    ensure!(text(&path)?.starts_with(&format!("{} (", thread.tid())), "a thread's stat");
    io::write(write, b"x")?;
    thread.join();
    Ok(())
}

fn meminfo() -> Outcome {
    let text = text(c"/proc/meminfo")?;
    let kb = |name| {
        field(&text, name).and_then(|v| v.strip_suffix(" kB")).and_then(|v| v.trim().parse::<u64>().ok())
    };
    let (total, free, available) = (kb("MemTotal"), kb("MemFree"), kb("MemAvailable"));
    ensure!(total > free && free > Some(0) && available > Some(0), "{total:?} {free:?} {available:?}");
    for name in ["Buffers", "Cached", "SwapTotal", "Active", "Slab", "PageTables", "Shmem", "AnonPages"] {
        ensure!(kb(name).is_some(), "no {name}");
    }
    Ok(())
}

fn mounts() -> Outcome {
    let text = text(c"/proc/self/mounts")?;
    ensure!(text.lines().any(|l| l.split(' ').nth(1) == Some("/")), "root in {text}");
    ensure!(text.lines().any(|l| l.starts_with("proc /proc proc rw")), "proc in {text}");
    fs::read_file(c"/proc/self/mountinfo")?;
    Ok(())
}

/// /dev/kmsg without waiting; a machine may keep it from us.
fn open_log() -> core::result::Result<io::Fd, crate::Failure> {
    fs::open(c"/dev/kmsg", O_RDWR | O_NONBLOCK | O_CLOEXEC, 0).map_err(|_| crate::skip("no /dev/kmsg"))
}

/// The next record with `mark` in it.
fn record(log: io::Fd, mark: &str) -> Result<String> {
    let mut buffer = [0; 8192];
    loop {
        match io::read(log, &mut buffer) {
            Ok(len) => {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if text.contains(mark) {
                    return Ok(text);
                }
            }
            Err(Errno::EPIPE) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What a program writes to the log comes back as a record, with its level and the users' facility.
fn kernel_log() -> Outcome {
    let log = open_log()?;
    io::seek(log, 0, SEEK_END)?;
    let mark = format!("checks {}:", process::getpid());
    for (prefix, number) in [("<5>", "13"), ("<13>", "13"), ("<30>", "30"), ("", "12")] {
        let line = format!("{prefix}{mark} a\\b\x01\n");
        equal!(io::write(log, line.as_bytes())?, line.len());
        equal!(io::poll(&mut [io::poll_fd(log, POLLIN)], Some(5_000_000_000), None)?, 1);
        let text = record(log, &mark)?;
        let (head, shown) = text.split_once(';').ok_or(Errno::EINVAL)?;
        equal!(shown, format!("{mark} a\\x5cb\\x01\n"));
        equal!(head.split(',').next(), Some(number));
        equal!(head.split(',').count(), 4);
    }
    equal!(record(log, &mark), Err(Errno::EAGAIN));
    let line = format!("{mark} to be read in pieces\n");
    io::write(log, line.as_bytes())?;
    equal!(io::read(log, &mut [0; 8]), Err(Errno::EINVAL));
    equal!(io::write(log, &[b'x'; 1025]), Err(Errno::EINVAL));
    io::close(log)?;
    Ok(())
}

fn kernel_log_places() -> Outcome {
    let log = open_log()?;
    let first = |log| -> Result<u64> {
        let text = record(log, ";")?;
        text.split(',').nth(1).and_then(|number| number.parse().ok()).ok_or(Errno::EINVAL)
    };
    equal!(io::seek(log, 0, SEEK_SET)?, 0);
    let oldest = first(log)?;
    ensure!(first(log)? > oldest, "records do not ascend");
    io::seek(log, 0, SEEK_SET)?;
    equal!(first(log)?, oldest);
    equal!(io::seek(log, 1, SEEK_SET), Err(Errno::ESPIPE));
    equal!(io::seek(log, 0, SEEK_CUR), Err(Errno::EINVAL));
    io::close(log)?;
    Ok(())
}

/// poll(2) of the mounts' files tells of a change, once.
fn mount_changes() -> Outcome {
    let dir = CString::new(fresh("mount")).unwrap_or_default();
    fs::mkdir(&dir, 0o700)?;
    let files = [c"/proc/self/mounts", c"/proc/self/mountinfo"];
    let fds = files.map(|path| fs::open(path, O_RDONLY | O_CLOEXEC, 0).unwrap_or(-1));
    let changed = || {
        let mut polled = fds.map(|fd| io::poll_fd(fd, POLLPRI));
        io::poll(&mut polled, Some(0), None).map(|_| polled.map(|fd| fd.revents as u32))
    };
    const CHANGED: u32 = POLLPRI | POLLERR;
    equal!(changed()?, [0, 0]);
    if fs::mount(c"checks", &dir, c"tmpfs", 0, c"").is_err() {
        fs::rmdir(&dir)?;
        return Err(crate::skip("may not mount"));
    }
    let after_mount = changed();
    let after_that = changed();
    let unmounted = fs::umount(&dir, 0);
    fs::rmdir(&dir)?;
    unmounted?;
    equal!(after_mount?, [CHANGED; 2]);
    equal!(after_that?, [0, 0]);
    equal!(changed()?, [CHANGED; 2]);
    Ok(())
}

/// Links of namespaces name an inode; parent and child share all.
fn namespaces() -> Outcome {
    let number = |pid: process::Pid, kind: &str| -> Result<u64> {
        let path = CString::new(format!("/proc/{pid}/ns/{kind}")).unwrap_or_default();
        let mut buffer = [0; 64];
        let text = String::from_utf8_lossy(fs::readlink(&path, &mut buffer)?).into_owned();
        let inner = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix(":[")?.strip_suffix(']'));
        let number = inner.and_then(|number| number.parse().ok()).ok_or(Errno::EINVAL)?;
        match fs::stat(&path)?.st_ino {
            inode if inode == number => Ok(number),
            _ => Err(Errno::EBADF),
        }
    };
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        equal!(number(process::getpid(), kind)?, number(process::getppid(), kind)?);
    }
    let fd = fs::open(c"/proc/self/ns/uts", O_RDONLY | O_CLOEXEC, 0)?;
    const NS_GET_NSTYPE: usize = 0xb703;
    // SAFETY: 1. the command takes no argument.
    equal!(unsafe { rt::syscall!(__NR_ioctl, fd, NS_GET_NSTYPE, 0) }?, CLONE_NEWUTS as usize);
    Ok(())
}

fn id_maps() -> Outcome {
    for path in [c"/proc/self/uid_map", c"/proc/self/gid_map"] {
        let map = text(path)?;
        let line = map.lines().next().unwrap_or("");
        equal!(line.len(), 32);
        equal!(line.split_whitespace().filter(|word| word.parse::<u32>().is_ok()).count(), 3);
        equal!(fs::write_file(path, b"0 0 1"), Err(Errno::EPERM));
    }
    equal!(text(c"/proc/self/setgroups")?, "allow\n");
    ensure!(text(c"/proc/self/cgroup")?.lines().all(|line| line.split(':').count() >= 3), "cgroup");
    Ok(())
}

fn net() -> Outcome {
    equal!(fs::readlink(c"/proc/net", &mut [0; 64])?, b"self/net");
    ensure!(text(c"/proc/net/unix")?.starts_with("Num       RefCount Protocol Flags"), "net/unix");
    equal!(text(c"/proc/self/net/unix")?.lines().next(), text(c"/proc/thread-self/net/unix")?.lines().next());
    Ok(())
}

/// Root alone may read it, and containers hide it.
fn timer_list() -> Outcome {
    let mut event = [0u32; 16];
    event[2] = SIGUSR1;
    let (mut id, far) = (0u32, [0u64, 0, 1_000_000, 0]);
    // SAFETY: 1. the kernel reads a sigevent and an itimerspec and writes an id.
    unsafe {
        rt::syscall!(__NR_timer_create, 1, event.as_ptr(), &raw mut id)?;
        rt::syscall!(__NR_timer_settime, id, 0, far.as_ptr(), 0)?;
    }
    let Ok(list) = text(c"/proc/timer_list") else { return Err(skip("not readable here")) };
    if list.is_empty() {
        return Err(skip("hidden here"));
    }
    ensure!(list.starts_with("Timer List Version: v0."), "{}", list.lines().next().unwrap_or(""));
    for part in
        ["\ncpu: 0\n", "\nactive timers:\n", ", posix_timer_fn, S:01\n", "\nTick Device: mode:     1\n"]
    {
        ensure!(list.contains(part), "no {part:?}");
    }
    let now = list.lines().find_map(|line| line.strip_prefix("now at ")?.strip_suffix(" nsecs"));
    ensure!(now.is_some_and(|now| now.parse::<u64>().is_ok()), "now is {now:?}");
    Ok(())
}

fn scheduled_tasks() -> Outcome {
    let Ok(list) = text(c"/sys/kernel/debug/sched/debug") else { return Err(skip("no debugfs here")) };
    ensure!(list.contains("\nrunnable tasks:\n"), "no table");
    let running = format!("{:>5}", process::getpid());
    let own = list.lines().find(|line| line.starts_with(">R") && line.contains(&running));
    ensure!(own.is_some_and(|line| line.contains(" checks ")), "{own:?}");
    Ok(())
}
