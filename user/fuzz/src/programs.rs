//! `fuzz exec [--seed N] [--calls N]`: programs that are not what they say.
//!
//! Problem: the kernel reads executables that anybody may have written: a header that lies about sizes, offsets,
//! addresses and interpreters, a `#!` line that leads to itself. execve(2) must answer with an errno, or run what it
//! was given, which then lives or dies by a signal. Interface: prints how often each end came; exit status 1 when
//! execve gave an errno that its man page and ELF loading do not have, or a process could not be ended.
//!
//! Idea: this program's own image with some fields of its headers replaced by edge values, cut short, or with an
//! interpreter; and scripts of nonsense. Children run them as nobody, with little memory and time.

use crate::rng::Rng;
use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::mm::PAGE;
use rt::nr::*;
use rt::process::{self, Pid, Status};
use rt::{Errno, Result, fs, io, println, syscall, time};

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Refused(Errno),
    Exited,
    Killed(i32),
    /// Went on until it was killed.
    Stopped,
    Immortal,
}

/// What execve(2) may say of a bad program, the errors of mapping its segments included.
const ERRORS: &[Errno] = &[
    Errno::ENOEXEC,
    Errno::ENOENT,
    Errno::EACCES,
    Errno::EPERM,
    Errno::ENOMEM,
    Errno::EINVAL,
    Errno::E2BIG,
    Errno::ELOOP,
    Errno::ENOTDIR,
    Errno::EISDIR,
    Errno::ENAMETOOLONG,
    Errno::ELIBBAD,
    Errno::EFAULT,
    Errno::EIO,
    Errno::EOVERFLOW,
    Errno::EEXIST,
    Errno::EAGAIN,
    Errno::ENODEV,
];

/// A program that runs longer is ended.
const PATIENCE_NS: u64 = 300_000_000;
/// A killed process that is still there after this is a hang of the kernel.
const DEATH_NS: u64 = 60_000_000_000;
/// The exit status of a child whose execve came back; the errno is in the pipe.
const REFUSED: i32 = 77;
const EHDR: usize = 64;
const PHDR: usize = 56;
const PHOFF: usize = 0x20;
const PHNUM: usize = 0x38;
const PT_INTERP: u32 = 3;

/// Fields of the file header after the identification: offset and width.
const EHDR_FIELDS: [(usize, usize); 13] = [
    (0x10, 2),
    (0x12, 2),
    (0x14, 4),
    (0x18, 8),
    (PHOFF, 8),
    (0x28, 8),
    (0x30, 4),
    (0x34, 2),
    (0x36, 2),
    (PHNUM, 2),
    (0x3a, 2),
    (0x3c, 2),
    (0x3e, 2),
];
/// Fields of a program header.
const PHDR_FIELDS: [(usize, usize); 8] =
    [(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8)];

const INTERPRETERS: [&[u8]; 9] = [
    b"/bin/sh\0",
    b"/proc/self/exe\0",
    b"mutant\0",
    b"script\0",
    b"\0",
    b"/\0",
    b"/nonexistent\0",
    b"no end",
    b"/dev/zero\0",
];

const SCRIPTS: [&[u8]; 12] = [
    b"#!",
    b"#!\n",
    b"#! \t \n",
    b"#!script\n",
    b"#!./script script\n",
    b"#!mutant\n",
    b"#!/bin/sh",
    b"#!/bin/sh -c exit\n",
    b"#!/nonexistent\n",
    b"#!/\n",
    b"#!\0/bin/sh\n",
    b"",
];

/// Says so in words of 16, 32 or 64 bits: values near what is there, near powers of two, near the page size.
fn edge(rng: &mut Rng, was: u64) -> u64 {
    let page = PAGE as u64;
    match rng.below(10) {
        0 => 0,
        1 => u64::MAX - rng.word() % 3,
        2 => 1 << rng.below(64),
        3 => (1u64 << rng.below(64)).wrapping_sub(1),
        4 => was.wrapping_add(1),
        5 => was.wrapping_sub(1),
        6 => was ^ 1 << rng.below(64),
        7 => was.wrapping_add(page * (rng.word() % 9)).wrapping_sub(4 * page),
        8 => (i64::MAX as u64).wrapping_add(rng.word() % 3),
        _ => rng.word(),
    }
}

fn change(image: &mut [u8], at: usize, width: usize, rng: &mut Rng) {
    let Some(field) = image.get_mut(at..at + width) else { return };
    let mut word = [0; 8];
    word[..width].copy_from_slice(field);
    let value = edge(rng, u64::from_le_bytes(word));
    field.copy_from_slice(&value.to_le_bytes()[..width]);
}

fn word(image: &[u8], at: usize, width: usize) -> usize {
    let mut word = [0; 8];
    word[..width].copy_from_slice(&image[at..at + width]);
    u64::from_le_bytes(word) as usize
}

/// A program header says that an interpreter's path is at the end of the file, where one is put.
fn add_interpreter(image: &mut Vec<u8>, phdr: usize, rng: &mut Rng) {
    let path = rng.pick(&INTERPRETERS);
    let (at, len) = (image.len() as u64, path.len() as u64);
    image.extend_from_slice(path);
    let Some(header) = image.get_mut(phdr..phdr + PHDR) else { return };
    header[..4].copy_from_slice(&PT_INTERP.to_le_bytes());
    header[8..16].copy_from_slice(&at.to_le_bytes());
    header[32..40].copy_from_slice(&len.to_le_bytes());
    header[40..48].copy_from_slice(&len.to_le_bytes());
}

/// Changes a few things of a good image.
fn mutate(good: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut image = good.to_vec();
    let (start, count) = (word(good, PHOFF, 8), word(good, PHNUM, 2).max(1));
    for _ in 0..1 + rng.below(3) {
        let phdr = start + PHDR * rng.below(count);
        match rng.below(16) {
            0 => {
                let at = rng.below(EHDR);
                image[at] ^= 1 << rng.below(8);
            }
            1..=4 => {
                let (at, width) = rng.pick(&EHDR_FIELDS);
                change(&mut image, at, width, rng);
            }
            5..=11 => {
                let (at, width) = rng.pick(&PHDR_FIELDS);
                change(&mut image, phdr + at, width, rng);
            }
            12 => add_interpreter(&mut image, phdr, rng),
            13 => image.copy_within(phdr..phdr + PHDR, start + PHDR * rng.below(count)),
            14 => image.truncate(rng.below(image.len()).max(EHDR + PHDR * count)),
            _ => {
                let at = rng.below(image.len());
                change(&mut image, at, 8, rng);
            }
        }
    }
    if rng.one_in(32) {
        image.truncate(rng.below(EHDR + PHDR * count));
    }
    image
}

fn script(rng: &mut Rng) -> Vec<u8> {
    let mut text = rng.pick(&SCRIPTS).to_vec();
    match rng.below(6) {
        0 => text.resize(rng.pick(&[126, 127, 128, 254, 255, 256, 257, 4096, 5000]), b'x'),
        1 => text.extend((0..rng.below(64)).map(|_| rng.word() as u8)),
        2 => text.extend_from_slice(b"echo ran\n"),
        _ => {}
    }
    text
}

fn set_limit(resource: u32, value: u64) {
    let limit = [value, value];
    // SAFETY: 1. the kernel reads two words.
    let _ = unsafe { syscall!(__NR_prlimit64, 0, resource, limit.as_ptr(), 0) };
}

/// What the child does: nobody with little of everything, which runs the program.
fn run_program(path: &CStr, report: io::Fd) -> ! {
    const NOBODY: u32 = 65534;
    let _ = process::setpgid(0, 0);
    for (resource, value) in [
        (RLIMIT_AS, 256 << 20),
        (RLIMIT_CPU, 1),
        (RLIMIT_CORE, 0),
        (RLIMIT_NPROC, 4),
        (RLIMIT_FSIZE, 1 << 20),
    ] {
        set_limit(resource, value);
    }
    // SAFETY: 1. no memory is named.
    let _ = unsafe { syscall!(__NR_setresgid, NOBODY, NOBODY, NOBODY) };
    // SAFETY: 1. no memory is named.
    let _ = unsafe { syscall!(__NR_setresuid, NOBODY, NOBODY, NOBODY) };
    if let Ok(null) = fs::open(c"/dev/null", O_RDWR, 0) {
        for fd in 0..3 {
            let _ = io::dup2(null, fd);
        }
    }
    let argv = process::Strings::new([c"fuzz", c"noop"]);
    let errno = process::execve(path, &argv, &process::Strings::new([]));
    let _ = io::write_all(report, &errno.raw().to_ne_bytes());
    process::exit(REFUSED)
}

/// Waits for a child, and ends it when it takes too long.
fn wait(pid: Pid) -> Result<(Status, bool)> {
    let begun_ns = time::now_ns();
    let mut killed = false;
    let mut pause_ns = 200_000;
    loop {
        if let Some((_, status)) = process::wait(pid, WNOHANG)? {
            return Ok((status, killed));
        }
        let waited_ns = time::now_ns() - begun_ns;
        if waited_ns > PATIENCE_NS && !killed {
            killed = true;
            let _ = process::kill(-pid, SIGKILL);
            let _ = process::kill(pid, SIGKILL);
        }
        if waited_ns > DEATH_NS {
            return Err(Errno::ETIMEDOUT);
        }
        time::sleep_ns(pause_ns);
        pause_ns = (pause_ns * 2).min(20_000_000);
    }
}

fn attempt(path: &CStr) -> Result<End> {
    let (read, write) = io::pipe(O_CLOEXEC)?;
    let Some(pid) = process::fork()? else { run_program(path, write) };
    io::close(write)?;
    let ended = wait(pid);
    let mut errno = [0; 2];
    // A grandchild may hold the pipe's other end only if it never ran the program: there is none.
    let told = matches!(ended, Ok((status, _)) if status.exit_code() == Some(REFUSED))
        && io::read_full(read, &mut errno)? == errno.len();
    io::close(read)?;
    let _ = process::kill(-pid, SIGKILL);
    Ok(match ended {
        Err(_) => End::Immortal,
        Ok((_, true)) => End::Stopped,
        Ok(_) if told => End::Refused(Errno::from_raw(u16::from_ne_bytes(errno))),
        Ok((status, _)) => status.signal().map_or(End::Exited, End::Killed),
    })
}

/// Counts of each end.
#[derive(Default)]
struct Tally {
    refused: Vec<(Errno, u64)>,
    killed: Vec<(i32, u64)>,
    exited: u64,
    stopped: u64,
    bad: u64,
}

fn bump<T: PartialEq>(list: &mut Vec<(T, u64)>, what: T) {
    match list.iter_mut().find(|(known, _)| *known == what) {
        Some((_, count)) => *count += 1,
        None => list.push((what, 1)),
    }
}

impl Tally {
    fn count(&mut self, end: End, number: u64) {
        match end {
            End::Refused(errno) => {
                if !ERRORS.contains(&errno) {
                    println!("fuzz: program {number}: execve answered {errno}");
                    self.bad += 1;
                }
                bump(&mut self.refused, errno);
            }
            End::Killed(signal) => bump(&mut self.killed, signal),
            End::Exited => self.exited += 1,
            End::Stopped => self.stopped += 1,
            End::Immortal => {
                println!("fuzz: program {number} was killed and does not end");
                self.bad += 1;
            }
        }
    }

    fn show(&self, seed: u64, total: u64) {
        println!("fuzz: seed {seed}: {total} programs, {} ran, {} did not end", self.exited, self.stopped);
        self.refused.iter().for_each(|(errno, count)| println!("fuzz:   {errno}: {count}"));
        self.killed.iter().for_each(|(signal, count)| println!("fuzz:   signal {signal}: {count}"));
    }
}

/// The whole run; whether all was as it may be.
pub fn fuzz(seed: u64, total: u64) -> Result<bool> {
    let dir = CString::new(format!("/tmp/fuzz.{}", process::getpid())).unwrap_or_default();
    let good = fs::read_file(c"/proc/self/exe")?;
    let _ = fs::mkdir(c"/tmp", 0o1777);
    fs::mkdir(&dir, 0o777)?;
    fs::chmod(&dir, 0o777)?;
    fs::chdir(&dir)?;
    let mut rng = Rng::new(seed);
    let mut tally = Tally::default();
    for number in 0..total {
        let (name, content) =
            if rng.one_in(6) { (c"script", script(&mut rng)) } else { (c"mutant", mutate(&good, &mut rng)) };
        fs::write_file(name, &content)?;
        fs::chmod(name, 0o755)?;
        tally.count(attempt(name)?, number);
        if number % 1000 == 999 {
            println!("fuzz: {} programs", number + 1);
        }
    }
    fs::chdir(c"/")?;
    crate::remove_tree(&dir);
    tally.show(seed, total);
    Ok(tally.bad == 0)
}
