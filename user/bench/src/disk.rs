//! A file system on a disk: what is read and written through the cache and past it, names, and a tree of sources.
//!
//! Each item runs once, with amounts that are the same for every kernel, on the directory of `--disk DIR`, where the file
//! `sources.tar` lies. The items build on each other: they run in order, all of them.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::process::{self, Strings};
use rt::{Errno, Result, env, eprintln, fs, mm, println, syscall, time};

/// The file that is read and written, in bytes.
const FILE: u64 = 64 << 20;
/// A sequential piece and a random one.
const PIECE: usize = 64 << 10;
const PAGE: usize = 4096;
/// Random accesses of an item.
const RANDOM: u64 = 4096;
const FSYNCS: u64 = 200;
const NAMES: u64 = 10_000;

/// The directory that is measured.
struct Bench {
    dir: &'static str,
    buffer: &'static mut [u8],
    random: u64,
}

type Item = fn(&mut Bench) -> Result<u64>;

const ITEMS: &[(&str, Item)] = &[
    ("file_write", |b| b.sequential(true, 0)),
    ("file_read_warm", |b| b.sequential(false, 0)),
    ("file_read_cold", |b| forget().and_then(|()| b.sequential(false, 0))),
    ("random_read_cold", |b| forget().and_then(|()| b.scattered(false, 0))),
    ("random_write", |b| b.scattered(true, 0)),
    ("direct_write", |b| b.sequential(true, O_DIRECT)),
    ("direct_read", |b| b.sequential(false, O_DIRECT)),
    ("direct_random_read", |b| b.scattered(false, O_DIRECT)),
    ("direct_random_write", |b| b.scattered(true, O_DIRECT)),
    ("append_fsync", |b| b.append()),
    ("create_10000", |b| b.create()),
    ("delete_10000", |b| b.delete()),
    ("untar", |b| b.run(&["tar", "xf", "sources.tar", "-C", "tree"])),
    ("find_warm", |b| b.run(&["find", "tree", "-name", "x"])),
    ("du_warm", |b| b.run(&["du", "-s", "tree"])),
    ("find_cold", |b| forget().and_then(|()| b.run(&["find", "tree", "-name", "x"]))),
    ("du_cold", |b| forget().and_then(|()| b.run(&["du", "-s", "tree"]))),
    ("read_tree_cold", |b| forget().and_then(|()| b.run(&["grep", "-r", "no such words", "tree"]))),
    ("delete_tree", |b| b.run(&["rm", "-r", "tree"])),
];

/// Runs all items in `dir`; how many failed.
pub fn run(dir: &'static str) -> u32 {
    let Ok(at) = mm::map_anonymous(PIECE) else { return 1 };
    // SAFETY: 1. the mapping is `PIECE` bytes long, zeroed, and stays to the end of the program.
    let buffer = unsafe { core::slice::from_raw_parts_mut(at as *mut u8, PIECE) };
    buffer.fill(0x5a);
    let mut bench = Bench { dir, buffer, random: 1 };
    let made = fs::mkdir(&bench.path("names"), 0o755).and_then(|()| fs::mkdir(&bench.path("tree"), 0o755));
    if made.and_then(|()| fs::chdir(&bench.path(""))).is_err() {
        eprintln!("bench: cannot work in {dir}");
        return 1;
    }
    let mut failed = 0;
    for (name, item) in ITEMS {
        match item(&mut bench) {
            Ok(ns) => println!("{name} {ns}"),
            // A file system without O_DIRECT.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => println!("{name} unsupported"),
            Err(errno) => {
                eprintln!("bench: {name}: {errno:?}");
                failed += 1;
            }
        }
    }
    failed
}

/// Writes everything back and empties the caches.
fn forget() -> Result<()> {
    fs::sync();
    fs::write_file(c"/proc/sys/vm/drop_caches", b"3")
}

fn fsync(fd: Fd) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fsync, fd) }.map(drop)
}

impl Bench {
    fn path(&self, name: &str) -> CString {
        CString::new([self.dir, "/", name].concat()).unwrap_or_default()
    }

    fn open(&self, flags: u32) -> Result<Fd> {
        fs::open(&self.path("file"), O_RDWR | O_CREAT | flags, 0o600)
    }

    /// A page's number in the file (xorshift, so the same for every kernel).
    fn random_page(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % (FILE / PAGE as u64)
    }

    /// The whole file from start to end, with fsync after writing; per KiB.
    fn sequential(&mut self, write: bool, flags: u32) -> Result<u64> {
        let fd = self.open(flags)?;
        let start = time::now_ns();
        let mut at = 0;
        while at < FILE {
            at += match write {
                true => io::pwrite(fd, self.buffer, at)?,
                false => io::pread(fd, self.buffer, at)?,
            } as u64;
        }
        if write {
            fsync(fd)?;
        }
        let total_ns = time::now_ns() - start;
        io::close(fd)?;
        Ok(total_ns / (FILE >> 10))
    }

    /// Pages here and there, with fsync after writing; per page.
    fn scattered(&mut self, write: bool, flags: u32) -> Result<u64> {
        let fd = self.open(flags)?;
        let start = time::now_ns();
        for _ in 0..RANDOM {
            let at = self.random_page() * PAGE as u64;
            match write {
                true => io::pwrite(fd, &self.buffer[..PAGE], at)?,
                false => io::pread(fd, &mut self.buffer[..PAGE], at)?,
            };
        }
        if write {
            fsync(fd)?;
        }
        let total_ns = time::now_ns() - start;
        io::close(fd)?;
        Ok(total_ns / RANDOM)
    }

    /// A page more and fsync, as a log is written; per page.
    fn append(&mut self) -> Result<u64> {
        let fd = fs::open(&self.path("log"), O_WRONLY | O_CREAT | O_APPEND, 0o600)?;
        let start = time::now_ns();
        for _ in 0..FSYNCS {
            io::write_all(fd, &self.buffer[..PAGE])?;
            fsync(fd)?;
        }
        let total_ns = time::now_ns() - start;
        io::close(fd)?;
        Ok(total_ns / FSYNCS)
    }

    fn names(&self) -> Vec<CString> {
        (0..NAMES).map(|number| self.path(&alloc::format!("names/file-{number}"))).collect()
    }

    /// Empty files in one directory; per file.
    fn create(&mut self) -> Result<u64> {
        let names = self.names();
        let start = time::now_ns();
        for name in &names {
            io::close(fs::open(name, O_WRONLY | O_CREAT | O_EXCL, 0o600)?)?;
        }
        Ok((time::now_ns() - start) / NAMES)
    }

    fn delete(&mut self) -> Result<u64> {
        let names = self.names();
        let start = time::now_ns();
        for name in &names {
            fs::unlink(name)?;
        }
        Ok((time::now_ns() - start) / NAMES)
    }

    /// A program of BusyBox, in the directory, its output forgotten.
    fn run(&mut self, words: &[&str]) -> Result<u64> {
        let args: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap_or_default()).collect();
        let argv = Strings::new(args.iter().map(CString::as_c_str));
        let envp = Strings::new(env::vars());
        let program: &CStr = c"/bin/busybox";
        let start = time::now_ns();
        let status = process::in_child(|| {
            let quiet = fs::open(c"/dev/null", O_WRONLY, 0).and_then(|null| io::dup2(null, 1));
            if quiet.is_ok() {
                process::execve(program, &argv, &envp);
            }
            127
        })?;
        let total_ns = time::now_ns() - start;
        // grep says 1 when it found nothing.
        if matches!(status.exit_code(), Some(0 | 1)) { Ok(total_ns) } else { Err(Errno::ENOEXEC) }
    }
}
