//! Names and files, on /tmp.

use crate::timed;
use core::ffi::CStr;
use rt::nr::*;
use rt::{Result, fs, io};

/// A file of `len` zero bytes, made anew.
pub fn make_file(path: &CStr, len: u64) -> Result<io::Fd> {
    let fd = fs::open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)?;
    let block = [0; 4096];
    for _ in 0..len.div_ceil(4096) {
        io::write_all(fd, &block)?;
    }
    Ok(fd)
}

pub fn stat(n: u64) -> Result<u64> {
    io::close(make_file(c"/tmp/bench-stat", 0)?)?;
    let result = timed(n, || fs::stat(c"/tmp/bench-stat").map(drop));
    fs::unlink(c"/tmp/bench-stat")?;
    result
}

pub fn open_close(n: u64) -> Result<u64> {
    io::close(make_file(c"/tmp/bench-open", 0)?)?;
    let result = timed(n, || io::close(fs::open(c"/tmp/bench-open", O_RDONLY, 0)?));
    fs::unlink(c"/tmp/bench-open")?;
    result
}

/// stat(2) of a name eight folders deep.
pub fn path_8(n: u64) -> Result<u64> {
    const FOLDERS: [&CStr; 8] = [
        c"/tmp/b1",
        c"/tmp/b1/b2",
        c"/tmp/b1/b2/b3",
        c"/tmp/b1/b2/b3/b4",
        c"/tmp/b1/b2/b3/b4/b5",
        c"/tmp/b1/b2/b3/b4/b5/b6",
        c"/tmp/b1/b2/b3/b4/b5/b6/b7",
        c"/tmp/b1/b2/b3/b4/b5/b6/b7/b8",
    ];
    for folder in FOLDERS {
        match fs::mkdir(folder, 0o700) {
            Err(rt::Errno::EEXIST) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    let result = timed(n, || fs::stat(FOLDERS[7]).map(drop));
    for folder in FOLDERS.iter().rev() {
        fs::rmdir(folder)?;
    }
    result
}

/// Opening, listing and closing a directory of 100 names.
pub fn readdir(n: u64) -> Result<u64> {
    let mut names = [*b"/tmp/bench-dir/f00\0"; 100];
    for (number, name) in names.iter_mut().enumerate() {
        name[16] += (number / 10) as u8;
        name[17] += (number % 10) as u8;
    }
    let _ = fs::mkdir(c"/tmp/bench-dir", 0o700);
    let path = |name: &'static [u8; 19]| CStr::from_bytes_with_nul(name).unwrap_or(c"");
    let names: &'static [[u8; 19]; 100] = alloc::boxed::Box::leak(alloc::boxed::Box::new(names));
    for name in names {
        io::close(make_file(path(name), 0)?)?;
    }
    let mut buffer = [0; 8192];
    let result = timed(n, || {
        let fd = fs::open(c"/tmp/bench-dir", O_RDONLY | O_DIRECTORY, 0)?;
        while fs::getdents(fd, &mut buffer)? > 0 {}
        io::close(fd)
    });
    for name in names {
        fs::unlink(path(name))?;
    }
    fs::rmdir(c"/tmp/bench-dir")?;
    result
}

pub fn create_delete(n: u64) -> Result<u64> {
    timed(n, || {
        io::close(fs::open(c"/tmp/bench-new", O_RDWR | O_CREAT | O_EXCL, 0o600)?)?;
        fs::unlink(c"/tmp/bench-new")
    })
}

/// Reading a file of 1 MiB that is in memory, 64 KiB at a time; per KiB.
pub fn cache_read(n: u64) -> Result<u64> {
    const LEN: u64 = 1 << 20;
    let fd = make_file(c"/tmp/bench-read", LEN)?;
    let mut buffer = alloc::vec![0; 1 << 16];
    let mut offset = 0;
    let total_ns = timed(n.div_ceil(64), || {
        io::pread(fd, &mut buffer, offset)?;
        offset = (offset + buffer.len() as u64) % LEN;
        Ok(())
    })?;
    io::close(fd)?;
    fs::unlink(c"/tmp/bench-read")?;
    // `n` counts KiB: a run of fewer than 64 is scaled.
    Ok(total_ns * n / (n.div_ceil(64) * 64))
}
