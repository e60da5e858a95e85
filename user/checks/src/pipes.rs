//! Pipes, FIFOs and eventfds.

use alloc::ffi::CString;
use alloc::format;

use crate::names::scratch;
use crate::{Check, Outcome, ensure, equal};
use rt::io::Fd;
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, fs, io, process, syscall, thread, time};

pub const CHECKS: &[Check] = &[
    ("through", through),
    ("end_of_file", end_of_file),
    ("end_after_data", end_after_data),
    ("broken", broken),
    ("capacity", capacity),
    ("atomic_writes", atomic_writes),
    ("blocks_until_written", blocks_until_written),
    ("memory_into_a_pipe", memory_into_a_pipe),
    ("fifo", fifo),
    ("reopened", reopened),
    ("eventfd", eventfd),
    ("eventfd_semaphore", eventfd_semaphore),
];

fn through() -> Outcome {
    let (read, write) = io::pipe(0)?;
    equal!(io::write(write, b"hello")?, 5);
    let mut buffer = [0; 3];
    equal!(io::read(read, &mut buffer)?, 3);
    equal!(io::read(read, &mut buffer)?, 2);
    equal!(fs::fstat(read)?.st_mode & S_IFMT, S_IFIFO);
    equal!(io::write(read, b"x"), Err(Errno::EBADF));
    Ok(())
}

fn end_of_file() -> Outcome {
    let (read, write) = io::pipe(0)?;
    io::write(write, b"x")?;
    io::close(write)?;
    let mut buffer = [0; 3];
    equal!(io::read(read, &mut buffer)?, 1);
    equal!(io::read(read, &mut buffer)?, 0);
    Ok(())
}

/// A byte that was written before the last writer went is read before the end, however close the two are.
fn end_after_data() -> Outcome {
    bytes_before_the_end(100, || io::pipe(O_NONBLOCK))
}

/// Makes lots of (reading end, writing end); a thread writes a byte into each and closes it, while this one reads until
/// the end (EIO for a terminal's master).
pub fn bytes_before_the_end(lots: usize, make: fn() -> Result<(Fd, Fd), Errno>) -> Outcome {
    const LOT: usize = 64;
    for _ in 0..lots {
        let mut ends = [(0, 0); LOT];
        for pair in &mut ends {
            *pair = make()?;
        }
        let writer = thread::spawn(move || {
            for (_, write) in ends {
                let _ = io::write(write, b"x");
                let _ = io::close(write);
            }
        })?;
        for (read, _) in ends {
            let mut bytes = 0;
            loop {
                match io::read(read, &mut [0; 2]) {
                    Ok(0) | Err(Errno::EIO) => break,
                    Ok(count) => bytes += count,
                    Err(Errno::EAGAIN) => process::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            }
            equal!(bytes, 1);
            io::close(read)?;
        }
        writer.join();
    }
    Ok(())
}

/// A pipe that is opened by its descriptor's name waits for no other end, unlike a FIFO.
fn reopened() -> Outcome {
    let path = |fd| CString::new(format!("/proc/self/fd/{fd}")).map_err(|_| Errno::EINVAL);
    let (read, write) = io::pipe(0)?;
    io::write(write, b"x")?;
    io::close(write)?;
    let again = fs::open(&path(read)?, O_RDONLY, 0)?;
    let mut buffer = [0; 3];
    equal!(io::read(again, &mut buffer)?, 1);
    equal!(io::read(again, &mut buffer)?, 0);
    let writer = fs::open(&path(read)?, O_WRONLY | O_NONBLOCK, 0)?;
    io::write(writer, b"yz")?;
    equal!(io::read(read, &mut buffer)?, 2);
    [read, again].into_iter().try_for_each(io::close)?;
    fs::open(&path(writer)?, O_WRONLY, 0)?;
    Ok(())
}

fn broken() -> Outcome {
    let (read, write) = io::pipe(0)?;
    io::close(read)?;
    signal::set_action(SIGPIPE, Action::Ignore, 0, 0)?;
    equal!(io::write(write, b"x"), Err(Errno::EPIPE));
    let status = process::in_child(|| {
        let _ = signal::set_action(SIGPIPE, Action::Default, 0, 0);
        let _ = io::write(write, b"x");
        0
    })?;
    equal!(status.signal(), Some(SIGPIPE as i32));
    Ok(())
}

fn capacity() -> Outcome {
    let (_read, write) = io::pipe(O_NONBLOCK)?;
    equal!(io::fcntl(write, F_GETPIPE_SZ, 0)?, 65_536);
    let mut total = 0;
    while let Ok(n) = io::write(write, &[0; 4096]) {
        total += n;
    }
    equal!(total, 65_536);
    equal!(io::write(write, b"x"), Err(Errno::EAGAIN));
    let (_r2, w2) = io::pipe(O_NONBLOCK)?;
    equal!(io::write(w2, &alloc::vec![0; 100_000])?, 65_536);
    Ok(())
}

/// Writes of up to PIPE_BUF bytes are never mixed with others.
fn atomic_writes() -> Outcome {
    let (read, write) = io::pipe(0)?;
    for writer in 1..=3u8 {
        if process::fork()?.is_none() {
            for _ in 0..50 {
                let _ = io::write_all(write, &[writer; 1000]);
            }
            process::exit(0);
        }
    }
    io::close(write)?;
    let mut block = [0; 1000];
    let mut blocks = 0;
    loop {
        let len = io::read_full(read, &mut block)?;
        if len == 0 {
            break;
        }
        equal!(len, 1000);
        ensure!(block.iter().all(|&b| b == block[0]), "a block of two writers");
        blocks += 1;
    }
    equal!(blocks, 150);
    Ok(())
}

fn blocks_until_written() -> Outcome {
    let (read, write) = io::pipe(0)?;
    if process::fork()?.is_none() {
        time::sleep_ns(50_000_000);
        let _ = io::write(write, b"late");
        process::exit(0);
    }
    let mut buffer = [0; 10];
    equal!(io::read(read, &mut buffer)?, 4);
    Ok(())
}

const NONBLOCK: u32 = 2;

/// vmsplice(2) of pieces of memory.
fn vmsplice(fd: Fd, pieces: &[[usize; 2]], flags: u32) -> rt::Result<usize> {
    // SAFETY: 1. every caller names memory of its own, which it may change, or none.
    unsafe { syscall!(__NR_vmsplice, fd, pieces.as_ptr(), pieces.len(), flags) }
}

fn memory_into_a_pipe() -> Outcome {
    signal::set_action(SIGPIPE, Action::Ignore, 0, 0)?;
    let (read, write) = io::pipe(0)?;
    let piece = |bytes: &'static [u8]| [bytes.as_ptr() as usize, bytes.len()];
    equal!(vmsplice(write, &[piece(b"hello "), piece(b"world")], 0), Ok(11));
    let mut buffer = [0u8; 16];
    equal!(io::read(read, &mut buffer)?, 11);
    equal!(&buffer[..11], b"hello world");
    // The other way.
    io::write(write, b"and back")?;
    let at = buffer.as_mut_ptr() as usize;
    equal!(vmsplice(read, &[[at, 3], [at + 8, 8]], 0), Ok(8));
    equal!((&buffer[..3], &buffer[8..13]), (&b"and"[..], &b" back"[..]));
    equal!(vmsplice(read, &[[at, 3]], NONBLOCK), Err(Errno::EAGAIN));
    equal!(vmsplice(write, &[], 0), Ok(0));
    // What fits of more.
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_fcntl, write, F_SETPIPE_SZ, 4096) }?;
    let pages = rt::mm::map_anonymous(3 * 4096)?;
    equal!(vmsplice(write, &[[pages, 3 * 4096]], 0), Ok(4096));
    equal!(vmsplice(write, &[[pages, 4096]], NONBLOCK), Err(Errno::EAGAIN));
    equal!(vmsplice(write, &[piece(b"x")], 16), Err(Errno::EINVAL));
    let null = fs::open(c"/dev/null", O_RDWR, 0)?;
    equal!(vmsplice(null, &[piece(b"x")], 0), Err(Errno::EBADF));
    equal!(vmsplice(99, &[piece(b"x")], 0), Err(Errno::EBADF));
    equal!(io::read(read, &mut buffer)?, 16);
    io::close(read)?;
    equal!(vmsplice(write, &[piece(b"x")], 0), Err(Errno::EPIPE));
    Ok(())
}

fn fifo() -> Outcome {
    scratch()?;
    fs::mknod(c"p", S_IFIFO | 0o600, 0)?;
    equal!(fs::open(c"p", O_WRONLY | O_NONBLOCK, 0), Err(Errno::ENXIO));
    let early = fs::open(c"p", O_RDONLY | O_NONBLOCK, 0)?;
    equal!(io::read(early, &mut [0])?, 0);
    io::close(early)?;
    if process::fork()?.is_none() {
        let fd = fs::open(c"p", O_WRONLY, 0).unwrap_or(-1);
        let _ = io::write(fd, b"over the fifo");
        process::exit(0);
    }
    let fd = fs::open(c"p", O_RDONLY, 0)?;
    let mut buffer = [0; 20];
    equal!(io::read_full(fd, &mut buffer)?, 13);
    Ok(())
}

fn event(initial: u32, flags: u32) -> Result<io::Fd, Errno> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_eventfd2, initial, flags) }.map(|fd| fd as io::Fd)
}

fn eventfd() -> Outcome {
    let fd = event(3, O_NONBLOCK)?;
    let mut value = [0; 8];
    io::write(fd, &4u64.to_ne_bytes())?;
    equal!(io::read(fd, &mut value)?, 8);
    equal!(u64::from_ne_bytes(value), 7);
    equal!(io::read(fd, &mut value), Err(Errno::EAGAIN));
    equal!(io::read(fd, &mut [0; 4]), Err(Errno::EINVAL));
    equal!(io::write(fd, &u64::MAX.to_ne_bytes()), Err(Errno::EINVAL));
    io::write(fd, &(u64::MAX - 1).to_ne_bytes())?;
    equal!(io::write(fd, &1u64.to_ne_bytes()), Err(Errno::EAGAIN));
    Ok(())
}

fn eventfd_semaphore() -> Outcome {
    let fd = event(2, O_NONBLOCK | 1)?;
    let mut value = [0; 8];
    for _ in 0..2 {
        io::read(fd, &mut value)?;
        equal!(u64::from_ne_bytes(value), 1);
    }
    equal!(io::read(fd, &mut value), Err(Errno::EAGAIN));
    Ok(())
}
