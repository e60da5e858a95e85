//! A file system on a disk: what is read and written through the cache and past it, names, and a tree of sources.
//!
//! Each item runs once, those that only read what is in memory a few times, of which the best counts. The amounts are the same
//! for every kernel; the place is the directory of `--disk DIR`, where the file `sources.tar` lies. The items build on each
//! other: they run in order, and whoever names some of them names those whose files they use. Where the directory is the root
//! of a system with sqlite3 and gcc, these run there.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
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
/// Rows that sqlite3 inserts in one transaction, and in one each.
const ROWS: u64 = 10_000;
const COMMITS: u64 = 100;
/// Functions of the C program.
const FUNCTIONS: u64 = 20;

/// The directory that is measured.
struct Bench {
    dir: &'static str,
    buffer: &'static mut [u8],
    random: u64,
}

type Item = fn(&mut Bench) -> Result<u64>;

const ITEMS: &[(&str, Item)] = &[
    ("file_write", |b| b.sequential(true, 0)),
    ("file_read_warm", |b| b.best(|b| b.sequential(false, 0))),
    ("random_read_warm", |b| b.best(|b| b.scattered(false, 0))),
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
    ("find_warm", |b| b.best(|b| b.run(&["find", "tree", "-name", "x"]))),
    ("du_warm", |b| b.best(|b| b.run(&["du", "-s", "tree"]))),
    ("find_cold", |b| forget().and_then(|()| b.run(&["find", "tree", "-name", "x"]))),
    ("du_cold", |b| forget().and_then(|()| b.run(&["du", "-s", "tree"]))),
    ("tar_cold", |b| forget().and_then(|()| b.run(&["tar", "cf", "-", "tree"]))),
    ("delete_tree", |b| b.run(&["rm", "-r", "tree"])),
    ("sqlite_transaction", |b| b.sqlite(true, ROWS)),
    ("sqlite_commits", |b| b.sqlite(false, COMMITS)),
    ("gcc", |b| b.gcc()),
];

/// Runs the items of those names in `dir`, without names all; how many failed.
pub fn run(dir: &'static str, names: &[&str]) -> u32 {
    if let Some(unknown) = names.iter().find(|name| ITEMS.iter().all(|(item, _)| item != *name)) {
        eprintln!("bench: no item {unknown} of --disk");
        return 1;
    }
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
    for (name, item) in ITEMS.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        match item(&mut bench) {
            Ok(ns) => println!("{name} {ns}"),
            // A file system without O_DIRECT, a directory without the program.
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

    /// The least of a few runs: what the host does meanwhile only makes them longer.
    fn best(&mut self, item: Item) -> Result<u64> {
        (0..5).try_fold(u64::MAX, |best, _| Ok(best.min(item(self)?)))
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
        (0..NAMES).map(|number| self.path(&format!("names/file-{number}"))).collect()
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
        let (total_ns, status) = timed_child(c"/bin/busybox", words, || {
            fs::open(c"/dev/null", O_WRONLY, 0).and_then(|null| io::dup2(null, 1)).map(drop)
        })?;
        if status == Some(0) { Ok(total_ns) } else { Err(Errno::ENOEXEC) }
    }

    /// A program of the system whose root the directory is, with the file `input` to read.
    fn run_inside(&mut self, program: &CStr, words: &[&str], input: &CStr) -> Result<u64> {
        let (total_ns, status) = timed_child(program, words, || {
            fs::chroot(c".")?;
            io::dup2(fs::open(input, O_RDONLY, 0)?, 0).map(drop)
        })?;
        if status == Some(0) { Ok(total_ns) } else { Err(Errno::ENOEXEC) }
    }

    /// Whether the directory has a program, whose name begins with a slash.
    fn has(&self, program: &str) -> bool {
        fs::stat(&self.path(&program[1..])).is_ok()
    }

    /// A file of the directory with lines.
    fn write_lines(&self, name: &str, lines: impl Iterator<Item = String>) -> Result<()> {
        let fd = fs::open(&self.path(name), O_WRONLY | O_CREAT | O_TRUNC, 0o600)?;
        let text = lines.fold(String::new(), |text, line| text + &line + "\n");
        io::write_all(fd, text.as_bytes())?;
        io::close(fd)
    }

    /// Rows into a new data base, all in one transaction or each in one; per row.
    fn sqlite(&mut self, together: bool, rows: u64) -> Result<u64> {
        if !self.has("/usr/bin/sqlite3") {
            return Err(Errno::EOPNOTSUPP);
        }
        let (begin, end) = if together { ("begin;", "commit;") } else { ("", "") };
        let insert = |n| format!("insert into t values({n}, 'the name of row {n}');");
        let table = ["create table t(id integer primary key, name text);", begin].map(String::from);
        let lines = table.into_iter().chain((0..rows).map(insert)).chain([end.into()]);
        self.write_lines("rows.sql", lines)?;
        let file = format!("rows-{rows}.db");
        let total_ns = self.run_inside(c"/usr/bin/sqlite3", &["sqlite3", &file], c"rows.sql")?;
        Ok(total_ns / rows)
    }

    /// A C program of some hundred lines to an object file, its compiler not in memory.
    fn gcc(&mut self) -> Result<u64> {
        if !self.has("/usr/bin/gcc") {
            return Err(Errno::EOPNOTSUPP);
        }
        let function = |n| {
            format!(
                "int f{n}(char *to, int size, int x) {{\n\
                 for (int i = 0; i < x; i++) if (snprintf(to, size, \"%d:%d\", i, x * {n}) > {n}) return i;\n\
                 return strlen(to) + (int)strtol(to, 0, 10); }}"
            )
        };
        let heads = ["stdio", "stdlib", "string"].map(|head| format!("#include <{head}.h>"));
        self.write_lines("program.c", heads.into_iter().chain((0..FUNCTIONS).map(function)))?;
        forget()?;
        let words = ["gcc", "-O1", "-c", "program.c", "-o", "program.o"];
        self.run_inside(c"/usr/bin/gcc", &words, c"program.c")
    }
}

/// The time that a program takes, from fork to its end, and its exit code. `prepare` runs in the child.
fn timed_child(
    program: &CStr,
    words: &[&str],
    prepare: impl FnOnce() -> Result<()>,
) -> Result<(u64, Option<i32>)> {
    let args: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap_or_default()).collect();
    let argv = Strings::new(args.iter().map(CString::as_c_str));
    let envp = Strings::new(env::vars());
    let start = time::now_ns();
    let status = process::in_child(|| {
        if prepare().is_ok() {
            process::execve(program, &argv, &envp);
        }
        127
    })?;
    Ok((time::now_ns() - start, status.exit_code()))
}
