//! Files under /proc that programs read.

use crate::{Check, Outcome, ensure, equal};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use rt::nr::*;
use rt::{Errno, Result, fs, io, process};

pub const CHECKS: &[Check] = &[
    ("stat", stat),
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
];

fn text(path: &core::ffi::CStr) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read_file(path)?).into_owned())
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
    let thread = rt::thread::spawn(|| rt::time::sleep_ns(300_000_000))?;
    let fd = fs::open(c"/proc/self/task", O_RDONLY | O_DIRECTORY, 0)?;
    equal!(fs::list(fd)?.len(), 4);
    let path = CString::new(format!("/proc/self/task/{}/stat", thread.tid())).map_err(|_| Errno::EINVAL)?;
    ensure!(text(&path)?.starts_with(&format!("{} (", thread.tid())), "a thread's stat");
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
