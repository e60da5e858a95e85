//! inotify(7): what is told of which change, and in which order. F_NOTIFY: the same by signals.

use crate::names::scratch;
use crate::{Check, Outcome, ensure, equal};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, fs, process, signal, syscall, time};

pub const CHECKS: &[Check] = &[
    ("files_in_a_directory", files_in_a_directory),
    ("reading_and_writing", reading_and_writing),
    ("attributes", attributes),
    ("renames", renames),
    ("exchanged", exchanged),
    ("replaced_by_rename", replaced_by_rename),
    ("the_end_of_a_file", the_end_of_a_file),
    ("the_end_of_an_open_file", the_end_of_an_open_file),
    ("the_end_of_a_directory", the_end_of_a_directory),
    ("hard_links", hard_links),
    ("moved_files_are_followed", moved_files_are_followed),
    ("repeats_are_told_once", repeats_are_told_once),
    ("masks", masks),
    ("one_shot", one_shot),
    ("unlinked_children", unlinked_children),
    ("removing", removing),
    ("unmounting", unmounting),
    ("overflow", overflow),
    ("buffers", buffers),
    ("waiting", waiting),
    ("limits", limits),
    ("in_proc", in_proc),
    ("bad_arguments", bad_arguments),
    ("signals", signals),
    ("signals_end", signals_end),
];

/// Any call. Each use passes addresses of its own live memory with their true lengths, or none.
fn call(number: u32, args: [usize; 4]) -> Result<usize> {
    // SAFETY: 1. by the sentence above.
    unsafe { syscall!(number, args[0], args[1], args[2], args[3]) }
}

fn instance() -> Result<Fd> {
    call(__NR_inotify_init1, [IN_NONBLOCK as usize, 0, 0, 0]).map(|fd| fd as Fd)
}

fn watch(fd: Fd, path: &CStr, mask: u32) -> Result<i32> {
    call(__NR_inotify_add_watch, [fd as usize, path.as_ptr() as usize, mask as usize, 0]).map(|wd| wd as i32)
}

fn unwatch(fd: Fd, wd: i32) -> Result<()> {
    call(__NR_inotify_rm_watch, [fd as usize, wd as usize, 0, 0]).map(drop)
}

const EVERYTHING: u32 = 0xfff;
const IN_NONBLOCK: u32 = O_NONBLOCK;

/// The names of the bits, in the order of the bits.
const NAMES: &[(u32, &str)] = &[
    (0x1, "access"),
    (0x2, "modify"),
    (0x4, "attrib"),
    (0x8, "close_write"),
    (0x10, "close"),
    (0x20, "open"),
    (0x40, "from"),
    (0x80, "to"),
    (0x100, "create"),
    (0x200, "delete"),
    (0x400, "delete_self"),
    (0x800, "move_self"),
    (0x2000, "unmount"),
    (0x4000, "overflow"),
    (0x8000, "ignored"),
    (0x4000_0000, "dir"),
];

struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: String,
}

impl Event {
    /// `WD:bit+bit NAME`.
    fn text(&self) -> String {
        let bits: Vec<&str> = NAMES.iter().filter(|(bit, _)| self.mask & bit != 0).map(|(_, n)| *n).collect();
        let space = if self.name.is_empty() { "" } else { " " };
        format!("{}:{}{space}{}", self.wd, bits.join("+"), self.name)
    }
}

/// All that is there, parsed.
fn events(fd: Fd) -> Result<Vec<Event>> {
    let mut all = Vec::new();
    let mut bytes = vec![0u8; 4096];
    loop {
        let len = match io::read(fd, &mut bytes) {
            Ok(len) => len,
            Err(Errno::EAGAIN) => return Ok(all),
            Err(error) => return Err(error),
        };
        let mut at = 0;
        while at < len {
            let word =
                |i: usize| u32::from_ne_bytes(bytes[at + i..at + i + 4].try_into().unwrap_or_default());
            let name_len = word(12) as usize;
            let name = &bytes[at + 16..at + 16 + name_len];
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).to_string();
            all.push(Event { wd: word(0) as i32, mask: word(4), cookie: word(8), name });
            at += 16 + name_len;
        }
    }
}

fn told(fd: Fd) -> Result<String> {
    Ok(events(fd)?.iter().map(Event::text).collect::<Vec<_>>().join(", "))
}

fn touch(path: &CStr) -> Result<()> {
    io::close(fs::open(path, O_CREAT | O_WRONLY, 0o644)?)
}

fn files_in_a_directory() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o700)?;
    let fd = instance()?;
    equal!(watch(fd, c"d", EVERYTHING)?, 1);
    touch(c"d/f")?;
    equal!(told(fd)?, "1:create f, 1:open f, 1:close_write f");
    fs::mkdir(c"d/e", 0o700)?;
    fs::symlink(c"f", c"d/l")?;
    fs::mknod(c"d/p", S_IFIFO | 0o600, 0)?;
    equal!(told(fd)?, "1:create+dir e, 1:create l, 1:create p");
    io::close(fs::open(c"d/e", O_RDONLY, 0)?)?;
    io::close(fs::open(c"d/l", O_RDONLY, 0)?)?;
    io::close(fs::open(c"d/f", O_PATH, 0)?)?;
    equal!(told(fd)?, "1:open+dir e, 1:close+dir e, 1:open f, 1:close f");
    let dir = fs::open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    fs::list(dir)?;
    io::close(dir)?;
    equal!(told(fd)?, "1:open+dir, 1:access+dir, 1:close+dir");
    fs::unlink(c"d/l")?;
    fs::unlink(c"d/f")?;
    fs::rmdir(c"d/e")?;
    equal!(told(fd)?, "1:delete l, 1:delete f, 1:delete+dir e");
    Ok(())
}

fn reading_and_writing() -> Outcome {
    scratch()?;
    touch(c"f")?;
    let fd = instance()?;
    watch(fd, c".", EVERYTHING)?;
    watch(fd, c"f", EVERYTHING)?;
    let file = fs::open(c"f", O_RDWR | O_TRUNC, 0)?;
    equal!(told(fd)?, "1:open f, 2:open, 1:modify f, 2:modify");
    io::write_all(file, b"text")?;
    io::pwrite(file, b"t", 8)?;
    io::write(file, b"")?;
    equal!(told(fd)?, "1:modify f, 2:modify, 1:modify f, 2:modify");
    io::pread(file, &mut [0; 4], 0)?;
    io::pread(file, &mut [0; 4], 99)?;
    equal!(told(fd)?, "1:access f, 2:access");
    fs::ftruncate(file, 1)?;
    io::close(file)?;
    equal!(told(fd)?, "1:modify f, 2:modify, 1:close_write f, 2:close_write");
    Ok(())
}

fn attributes() -> Outcome {
    scratch()?;
    touch(c"f")?;
    fs::mkdir(c"d", 0o700)?;
    let fd = instance()?;
    watch(fd, c".", EVERYTHING)?;
    watch(fd, c"d", EVERYTHING)?;
    fs::chmod(c"f", 0o600)?;
    fs::chmod(c"d", 0o755)?;
    equal!(told(fd)?, "1:attrib f, 1:attrib+dir d, 2:attrib+dir");
    let path = c"f".as_ptr() as usize;
    let times = [1i64, 0, 2, 0];
    let cwd = AT_FDCWD as isize as usize;
    call(__NR_utimensat, [cwd, path, times.as_ptr() as usize, 0])?;
    let omit = (1i64 << 30) - 2;
    let (no_change, no_access) = ([1, 0, 0, omit], [0, omit, 1, 0]);
    call(__NR_utimensat, [cwd, path, no_change.as_ptr() as usize, 0])?;
    call(__NR_utimensat, [cwd, path, no_access.as_ptr() as usize, 0])?;
    equal!(told(fd)?, "1:attrib f, 1:access f, 1:modify f");
    Ok(())
}

/// The events of a rename, and whether both halves have one cookie that no other event has.
fn cookies_join(events: &[Event], from: usize, to: usize) -> bool {
    let cookie = events[from].cookie;
    let alone = |(at, event): (usize, &Event)| (at == from || at == to) == (event.cookie == cookie);
    cookie != 0 && events.iter().enumerate().all(alone)
}

fn renames() -> Outcome {
    scratch()?;
    fs::mkdir(c"a", 0o700)?;
    fs::mkdir(c"b", 0o700)?;
    touch(c"a/f")?;
    let fd = instance()?;
    watch(fd, c"a", EVERYTHING)?;
    watch(fd, c"b", EVERYTHING)?;
    watch(fd, c"a/f", EVERYTHING)?;
    fs::rename(c"a/f", c"b/g", 0)?;
    let events = events(fd)?;
    equal!(events.iter().map(Event::text).collect::<Vec<_>>().join(", "), "1:from f, 2:to g, 3:move_self");
    ensure!(cookies_join(&events, 0, 1), "cookies of a rename");
    fs::rename(c"b", c"a/b", 0)?;
    equal!(told(fd)?, "1:to+dir b, 2:move_self");
    Ok(())
}

fn exchanged() -> Outcome {
    scratch()?;
    touch(c"f")?;
    fs::mkdir(c"d", 0o700)?;
    let fd = instance()?;
    watch(fd, c".", EVERYTHING)?;
    fs::rename(c"f", c"d", RENAME_EXCHANGE)?;
    let events = events(fd)?;
    let text = events.iter().map(Event::text).collect::<Vec<_>>().join(", ");
    equal!(text, "1:from f, 1:to d, 1:from+dir d, 1:to+dir f");
    ensure!(cookies_join(&events, 0, 1) && cookies_join(&events, 2, 3), "cookies of an exchange");
    Ok(())
}

fn replaced_by_rename() -> Outcome {
    scratch()?;
    touch(c"f")?;
    touch(c"g")?;
    let fd = instance()?;
    watch(fd, c".", EVERYTHING)?;
    watch(fd, c"g", EVERYTHING)?;
    fs::rename(c"f", c"g", 0)?;
    equal!(told(fd)?, "1:from f, 1:to g, 2:attrib, 2:delete_self, 2:ignored");
    Ok(())
}

fn the_end_of_a_file() -> Outcome {
    scratch()?;
    touch(c"f")?;
    let fd = instance()?;
    watch(fd, c".", EVERYTHING)?;
    watch(fd, c"f", EVERYTHING)?;
    fs::unlink(c"f")?;
    equal!(told(fd)?, "2:attrib, 2:delete_self, 2:ignored, 1:delete f");
    equal!(unwatch(fd, 2), Err(Errno::EINVAL));
    // What was not asked for is not told, but that the watch has gone.
    touch(c"f")?;
    told(fd)?;
    watch(fd, c"f", IN_OPEN)?;
    fs::unlink(c"f")?;
    equal!(told(fd)?, "3:ignored, 1:delete f");
    Ok(())
}

fn the_end_of_an_open_file() -> Outcome {
    scratch()?;
    let file = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let fd = instance()?;
    watch(fd, c"f", EVERYTHING)?;
    fs::unlink(c"f")?;
    equal!(told(fd)?, "1:attrib");
    io::write_all(file, b"more")?;
    equal!(told(fd)?, "1:modify");
    io::close(file)?;
    equal!(told(fd)?, "1:close_write, 1:delete_self, 1:ignored");
    Ok(())
}

fn the_end_of_a_directory() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o700)?;
    let fd = instance()?;
    watch(fd, c".", EVERYTHING)?;
    watch(fd, c"d", EVERYTHING)?;
    fs::rmdir(c"d")?;
    equal!(told(fd)?, "2:delete_self, 2:ignored, 1:delete+dir d");
    Ok(())
}

fn hard_links() -> Outcome {
    scratch()?;
    touch(c"f")?;
    let fd = instance()?;
    watch(fd, c".", EVERYTHING)?;
    watch(fd, c"f", EVERYTHING)?;
    fs::link(c"f", c"g")?;
    equal!(told(fd)?, "2:attrib, 1:create g");
    fs::unlink(c"f")?;
    equal!(told(fd)?, "2:attrib, 1:delete f");
    io::close(fs::open(c"g", O_RDONLY, 0)?)?;
    equal!(told(fd)?, "1:open g, 2:open, 1:close g, 2:close");
    Ok(())
}

/// An open file that is renamed is told under its new name, in its new directory.
fn moved_files_are_followed() -> Outcome {
    scratch()?;
    fs::mkdir(c"a", 0o700)?;
    fs::mkdir(c"b", 0o700)?;
    let file = fs::open(c"a/f", O_CREAT | O_RDWR, 0o600)?;
    let fd = instance()?;
    watch(fd, c"b", EVERYTHING)?;
    io::write_all(file, b"x")?;
    fs::rename(c"a/f", c"b/g", 0)?;
    io::write_all(file, b"x")?;
    equal!(told(fd)?, "1:to g, 1:modify g");
    fs::rename(c"b/g", c"a/g", 0)?;
    io::write_all(file, b"x")?;
    equal!(told(fd)?, "1:from g");
    Ok(())
}

fn repeats_are_told_once() -> Outcome {
    scratch()?;
    let file = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let fd = instance()?;
    watch(fd, c"f", EVERYTHING)?;
    for _ in 0..5 {
        io::pwrite(file, b"x", 0)?;
    }
    io::pread(file, &mut [0], 0)?;
    io::pwrite(file, b"x", 0)?;
    equal!(told(fd)?, "1:modify, 1:access, 1:modify");
    Ok(())
}

fn masks() -> Outcome {
    scratch()?;
    let file = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    fs::symlink(c"f", c"l")?;
    let fd = instance()?;
    let wd = watch(fd, c"f", IN_MODIFY)?;
    equal!(watch(fd, c"l", IN_ACCESS | IN_MASK_ADD)?, wd);
    io::pwrite(file, b"x", 0)?;
    io::pread(file, &mut [0], 0)?;
    equal!(told(fd)?, "1:modify, 1:access");
    equal!(watch(fd, c"f", IN_ACCESS)?, wd);
    io::pwrite(file, b"x", 0)?;
    equal!(told(fd)?, "");
    equal!(watch(fd, c"f", IN_ACCESS | IN_MASK_CREATE), Err(Errno::EEXIST));
    equal!(watch(fd, c"f", IN_ACCESS | IN_MASK_CREATE | IN_MASK_ADD), Err(Errno::EINVAL));
    equal!(watch(fd, c"f", IN_ACCESS | IN_ONLYDIR), Err(Errno::ENOTDIR));
    equal!(watch(fd, c"l", IN_OPEN | IN_DONT_FOLLOW)?, wd + 1);
    // Another instance has watches of its own.
    let other = instance()?;
    equal!(watch(other, c"f", IN_MODIFY | IN_MASK_CREATE)?, 1);
    io::pwrite(file, b"x", 0)?;
    equal!((told(fd)?, told(other)?), (String::new(), String::from("1:modify")));
    Ok(())
}

fn one_shot() -> Outcome {
    scratch()?;
    let file = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let fd = instance()?;
    watch(fd, c"f", IN_MODIFY | IN_ONESHOT)?;
    io::pread(file, &mut [0], 0)?;
    io::pwrite(file, b"x", 0)?;
    io::pwrite(file, b"x", 0)?;
    equal!(told(fd)?, "1:modify, 1:ignored");
    equal!(unwatch(fd, 1), Err(Errno::EINVAL));
    equal!(watch(fd, c"f", IN_MODIFY)?, 2);
    Ok(())
}

fn unlinked_children() -> Outcome {
    scratch()?;
    let fd = instance()?;
    let file = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    watch(fd, c".", EVERYTHING)?;
    // Whoever used the name before knows that the directory is watched.
    io::pwrite(file, b"x", 0)?;
    fs::unlink(c"f")?;
    io::pread(file, &mut [0], 0)?;
    equal!(told(fd)?, "1:modify f, 1:delete f, 1:access f");
    watch(fd, c".", EVERYTHING | IN_EXCL_UNLINK)?;
    io::pread(file, &mut [0], 0)?;
    io::close(file)?;
    equal!(told(fd)?, "");
    Ok(())
}

fn removing() -> Outcome {
    scratch()?;
    let file = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let fd = instance()?;
    let wd = watch(fd, c"f", EVERYTHING)?;
    io::pwrite(file, b"x", 0)?;
    unwatch(fd, wd)?;
    io::pwrite(file, b"x", 0)?;
    equal!(told(fd)?, "1:modify, 1:ignored");
    equal!(unwatch(fd, wd), Err(Errno::EINVAL));
    equal!(unwatch(fd, 77), Err(Errno::EINVAL));
    // Descriptors are not used again at once.
    equal!(watch(fd, c"f", EVERYTHING)?, wd + 1);
    // What an instance watched ends with it.
    io::close(fd)?;
    io::pwrite(file, b"x", 0)?;
    Ok(())
}

fn unmounting() -> Outcome {
    scratch()?;
    fs::mkdir(c"m", 0o700)?;
    fs::mount(c"none", c"m", c"tmpfs", 0, c"")?;
    touch(c"m/f")?;
    let fd = instance()?;
    watch(fd, c"m/f", IN_OPEN)?;
    // A watch keeps nothing mounted.
    fs::umount(c"m", 0)?;
    equal!(told(fd)?, "1:unmount, 1:ignored");
    Ok(())
}

fn overflow() -> Outcome {
    scratch()?;
    const PATH: &CStr = c"/proc/sys/fs/inotify/max_queued_events";
    let old = fs::read_file(PATH)?;
    fs::write_file(PATH, b"8\n")?;
    // The limit of an instance is the one at its birth.
    let fd = instance();
    let result = fd.map_err(Into::into).and_then(|fd| {
        let file = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
        watch(fd, c"f", EVERYTHING)?;
        for _ in 0..8 {
            io::pwrite(file, b"x", 0)?;
            io::pread(file, &mut [0], 0)?;
        }
        let all = events(fd)?;
        equal!(all.len(), 9);
        equal!(all[8].text(), "-1:overflow");
        io::pwrite(file, b"x", 0)?;
        equal!(told(fd)?, "1:modify");
        Ok(())
    });
    fs::write_file(PATH, &old)?;
    result
}

fn buffers() -> Outcome {
    scratch()?;
    let fd = instance()?;
    watch(fd, c".", IN_CREATE)?;
    touch(c"f")?;
    touch(c"a_name_of_16_chr")?;
    let mut waiting = 0i32;
    call(__NR_ioctl, [fd as usize, FIONREAD as usize, (&raw mut waiting) as usize, 0])?;
    // A name is filled up with zeros, one at least.
    equal!(waiting, (16 + 16) + (16 + 32));
    let mut small = [0u8; 31];
    equal!(io::read(fd, &mut small), Err(Errno::EINVAL));
    let mut room = [9u8; 79];
    equal!(io::read(fd, &mut room)?, 32);
    ensure!(room[16] == b'f' && room[17..32].iter().all(|b| *b == 0), "{room:?}");
    equal!(io::read(fd, &mut room)?, 48);
    equal!(io::read(fd, &mut room), Err(Errno::EAGAIN));
    Ok(())
}

const FIONREAD: u32 = 0x541b;

fn waiting() -> Outcome {
    scratch()?;
    let fd = call(__NR_inotify_init1, [0; 4])? as Fd;
    watch(fd, c".", IN_CREATE)?;
    equal!(io::poll(&mut [io::poll_fd(fd, 1)], Some(0), None)?, 0);
    let Some(child) = process::fork()? else {
        time::sleep_ns(50_000_000);
        process::exit(i32::from(touch(c"f").is_err()))
    };
    let mut bytes = [0u8; 64];
    equal!(io::read(fd, &mut bytes)?, 32);
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    touch(c"g")?;
    equal!(io::poll(&mut [io::poll_fd(fd, 1)], None, None)?, 1);
    Ok(())
}

fn limits() -> Outcome {
    scratch()?;
    const PATH: &CStr = c"/proc/sys/fs/inotify/max_user_watches";
    let old = fs::read_file(PATH)?;
    ensure!(String::from_utf8_lossy(&old).trim().parse::<u32>().is_ok_and(|n| n >= 8192), "{old:?}");
    let mut instances = Vec::new();
    let refused = loop {
        match instance() {
            Ok(fd) => instances.push(fd),
            Err(error) => break error,
        }
        ensure!(instances.len() < 100_000, "no limit of instances");
    };
    equal!(refused, Errno::EMFILE);
    let fd = instances.pop().unwrap_or(-1);
    fs::write_file(PATH, b"0\n")?;
    let full = watch(fd, c".", IN_CREATE);
    fs::write_file(PATH, &old)?;
    equal!(full, Err(Errno::ENOSPC));
    watch(fd, c".", IN_CREATE)?;
    Ok(())
}

fn in_proc() -> Outcome {
    scratch()?;
    touch(c"f")?;
    let fd = instance()?;
    watch(fd, c"f", IN_MODIFY | IN_OPEN)?;
    let mut path = format!("/proc/self/fdinfo/{fd}").into_bytes();
    path.push(0);
    let path = CStr::from_bytes_with_nul(&path).map_err(|_| Errno::EINVAL)?;
    let text = String::from_utf8_lossy(&fs::read_file(path)?).to_string();
    let wanted = format!("inotify wd:1 ino:{:x} sdev:", fs::stat(c"f")?.st_ino);
    ensure!(text.contains(&wanted) && text.contains(" mask:22 ignored_mask:0 "), "{text}");
    let mut link = [0; 64];
    let path = format!("/proc/self/fd/{fd}\0");
    let path = CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
    equal!(fs::readlink(path, &mut link)?, b"anon_inode:inotify");
    Ok(())
}

fn bad_arguments() -> Outcome {
    scratch()?;
    equal!(call(__NR_inotify_init1, [1, 0, 0, 0]), Err(Errno::EINVAL));
    let fd = instance()?;
    equal!(watch(fd, c".", 0), Err(Errno::EINVAL));
    equal!(watch(fd, c"none", EVERYTHING), Err(Errno::ENOENT));
    equal!(watch(-1, c".", EVERYTHING), Err(Errno::EBADF));
    equal!(watch(0, c".", EVERYTHING), Err(Errno::EINVAL));
    equal!(call(__NR_inotify_add_watch, [fd as usize, 8, 1, 0]), Err(Errno::EFAULT));
    equal!(unwatch(-1, 1), Err(Errno::EBADF));
    equal!(unwatch(0, 1), Err(Errno::EINVAL));
    equal!(io::write(fd, b"x"), Err(Errno::EBADF));
    Ok(())
}

fn notify(fd: Fd, events: u32) -> Result<()> {
    call(__NR_fcntl, [fd as usize, F_NOTIFY as usize, events as usize, 0]).map(drop)
}

/// Whether the signal that was asked for is there; takes it.
fn signalled(number: u32) -> Result<bool> {
    let there = signal::pending()? & signal::bit(number) != 0;
    if there {
        signal::wait(signal::bit(number), None)?;
    }
    Ok(there)
}

/// A directory of which SIGUSR1 is to tell.
fn listening(events: u32) -> Result<Fd> {
    scratch()?;
    signal::mask(SIG_BLOCK, signal::bit(SIGUSR1) | signal::bit(SIGIO))?;
    let dir = fs::open(c".", O_RDONLY | O_DIRECTORY, 0)?;
    call(__NR_fcntl, [dir as usize, F_SETSIG as usize, SIGUSR1 as usize, 0])?;
    notify(dir, events)?;
    Ok(dir)
}

fn signals() -> Outcome {
    // Once, if not said otherwise.
    let dir = listening(DN_CREATE)?;
    fs::write_file(c"a", b"a")?;
    let mut info = [0u64; 16];
    let set = signal::bit(SIGUSR1);
    call(__NR_rt_sigtimedwait, [&raw const set as usize, info.as_mut_ptr() as usize, 0, 8])?;
    equal!((info[1] as i32, info[2], info[3] as i32), (3, 0x441, dir));
    fs::write_file(c"b", b"b")?;
    ensure!(!signalled(SIGUSR1)?, "told twice");
    // More and more, and always.
    notify(dir, DN_DELETE)?;
    notify(dir, DN_CREATE | DN_MULTISHOT)?;
    for _ in 0..2 {
        fs::unlink(c"b")?;
        ensure!(signalled(SIGUSR1)?, "not told of a deletion");
        fs::write_file(c"b", b"b")?;
        ensure!(signalled(SIGUSR1)?, "not told of a creation");
    }
    fs::read_file(c"a")?;
    fs::chmod(c"a", 0o600)?;
    ensure!(!signalled(SIGUSR1)?, "told of what it did not want");
    notify(dir, DN_ACCESS | DN_MODIFY | DN_ATTRIB | DN_MULTISHOT)?;
    fs::read_file(c"a")?;
    ensure!(signalled(SIGUSR1)?, "not told of a read");
    fs::chmod(c"a", 0o644)?;
    ensure!(signalled(SIGUSR1)?, "not told of a change of mode");
    let file = fs::open(c"a", O_WRONLY, 0)?;
    io::write(file, b"more")?;
    ensure!(signalled(SIGUSR1)?, "not told of a write");
    equal!(notify(file, DN_MODIFY), Err(Errno::ENOTDIR));
    Ok(())
}

fn signals_end() -> Outcome {
    // A rename counts as one if the name stays in the directory.
    let dir = listening(DN_RENAME | DN_MULTISHOT)?;
    fs::mkdir(c"sub", 0o700)?;
    fs::write_file(c"a", b"a")?;
    fs::rename(c"a", c"b", 0)?;
    ensure!(signalled(SIGUSR1)?, "not told of a rename");
    fs::rename(c"b", c"sub/b", 0)?;
    fs::rename(c"sub/b", c"b", 0)?;
    ensure!(!signalled(SIGUSR1)?, "told of moves");
    // Asking for nothing ends it, as does closing any descriptor of the open directory.
    notify(dir, 0)?;
    fs::rename(c"b", c"c", 0)?;
    ensure!(!signalled(SIGUSR1)?, "told after the end");
    notify(dir, DN_RENAME | DN_MULTISHOT)?;
    fs::rename(c"c", c"b", 0)?;
    ensure!(signalled(SIGUSR1)?, "not told after a new beginning");
    io::close(call(__NR_dup, [dir as usize, 0, 0, 0])? as Fd)?;
    fs::rename(c"b", c"c", 0)?;
    ensure!(!signalled(SIGUSR1)?, "told after a close");
    // A child's descriptors are others'.
    notify(dir, DN_RENAME | DN_MULTISHOT)?;
    let status = process::in_child(|| i32::from(io::close(dir).is_err()))?;
    equal!(status.exit_code(), Some(0));
    fs::rename(c"c", c"b", 0)?;
    ensure!(signalled(SIGUSR1)?, "not told after a child's close");
    // The directory goes while it is listened to.
    fs::mkdir(c"sub/gone", 0o700)?;
    let gone = fs::open(c"sub/gone", O_RDONLY | O_DIRECTORY, 0)?;
    notify(gone, DN_CREATE | DN_DELETE | DN_MULTISHOT)?;
    fs::rmdir(c"sub/gone")?;
    io::close(gone)?;
    Ok(())
}
