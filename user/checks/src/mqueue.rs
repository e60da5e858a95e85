//! POSIX message queues, mq_overview(7).

use crate::{Check, Outcome, ensure, equal, skip};
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, Result, fs, io, process, syscall, time};

pub const CHECKS: &[Check] = &[
    ("names", names),
    ("priorities", priorities),
    ("waiting", waiting),
    ("sizes", sizes),
    ("attributes", attributes),
    ("told_by_signal", told_by_signal),
    ("polled", polled),
    ("inherited", inherited),
    ("bad_calls", bad_calls),
    ("mounted", mounted),
    ("settings", settings),
];

const RDWR: u32 = 2;
const CREAT: u32 = 0o100;
const EXCL: u32 = 0o200;
const NONBLOCK: u32 = 0o4000;

/// Flags, messages at most, bytes of one at most, messages now.
type Attributes = [i64; 8];

fn open_with(name: &CStr, flags: u32, attributes: Option<&Attributes>) -> Result<usize> {
    let attributes = attributes.map_or(core::ptr::null(), |attributes| attributes.as_ptr());
    // SAFETY: 1. the kernel reads a string and an mq_attr.
    unsafe { syscall!(__NR_mq_open, name.as_ptr(), flags, 0o600, attributes) }
}

fn unlink(name: &CStr) -> Result<()> {
    // SAFETY: 1. the kernel reads a string.
    unsafe { syscall!(__NR_mq_unlink, name.as_ptr()) }.map(drop)
}

/// A queue of 4 messages of 16 bytes, whose name is free again.
fn fresh(flags: u32) -> Result<usize> {
    let mut name = [0u8; 24];
    let text = alloc::format!("checks-{}-{}\0", process::getpid(), time::now_ns() % 1_000_000);
    name[..text.len()].copy_from_slice(text.as_bytes());
    let name = CStr::from_bytes_until_nul(&name).unwrap_or(c"checks");
    let queue = open_with(name, RDWR | CREAT | EXCL | flags, Some(&[0, 4, 16, 0, 0, 0, 0, 0]))?;
    unlink(name)?;
    Ok(queue)
}

fn send_until(queue: usize, bytes: &[u8], priority: u32, until: Option<&[i64; 2]>) -> Result<()> {
    let until = until.map_or(core::ptr::null(), |until| until.as_ptr());
    // SAFETY: 1. the kernel reads the bytes and a timespec.
    unsafe { syscall!(__NR_mq_timedsend, queue, bytes.as_ptr(), bytes.len(), priority, until) }.map(drop)
}

fn send(queue: usize, bytes: &[u8], priority: u32) -> Result<()> {
    send_until(queue, bytes, priority, None)
}

/// Length and priority.
fn receive_until(queue: usize, buf: &mut [u8], until: Option<&[i64; 2]>) -> Result<(usize, u32)> {
    let until = until.map_or(core::ptr::null(), |until| until.as_ptr());
    let mut priority = 0u32;
    // SAFETY: 1. the kernel writes the bytes and a number and reads a timespec.
    let len = unsafe {
        syscall!(__NR_mq_timedreceive, queue, buf.as_mut_ptr(), buf.len(), &raw mut priority, until)
    }?;
    Ok((len, priority))
}

fn receive(queue: usize, buf: &mut [u8]) -> Result<(usize, u32)> {
    receive_until(queue, buf, None)
}

fn attributes_of(queue: usize, new: Option<&Attributes>) -> Result<Attributes> {
    let mut old = [0; 8];
    let new = new.map_or(core::ptr::null(), |new| new.as_ptr());
    // SAFETY: 1. the kernel reads and writes an mq_attr.
    unsafe { syscall!(__NR_mq_getsetattr, queue, new, old.as_mut_ptr()) }?;
    Ok(old)
}

fn notify(queue: usize, event: *const u32) -> Result<()> {
    // SAFETY: 1. each caller passes a sigevent of 64 bytes, or null.
    unsafe { syscall!(__NR_mq_notify, queue, event) }.map(drop)
}

fn names() -> Outcome {
    let name = c"checks-names";
    let _ = unlink(name);
    equal!(open_with(name, RDWR, None), Err(Errno::ENOENT));
    let queue = open_with(name, RDWR | CREAT, None)?;
    equal!(open_with(name, RDWR | CREAT | EXCL, None), Err(Errno::EEXIST));
    let again = open_with(name, RDWR, None)?;
    send(again, b"over there", 1)?;
    // What a queue should hold is of no matter once it is there.
    open_with(name, RDWR | CREAT, Some(&[0; 8]))?;
    unlink(name)?;
    equal!(unlink(name), Err(Errno::ENOENT));
    let (len, _) = receive(queue, &mut [0; 8192])?;
    equal!(len, 10);
    for bad in [c"a/b", c".", c".."] {
        equal!(open_with(bad, RDWR | CREAT, None), Err(Errno::EACCES));
    }
    equal!(open_with(c"", RDWR | CREAT, None), Err(Errno::ENOENT));
    for bad in [[0, 0, 8, 0], [0, 8, 0, 0], [0, -1, 8, 0], [0, 1 << 40, 8, 0]] {
        let mut attributes = [0; 8];
        attributes[..4].copy_from_slice(&bad);
        equal!(open_with(name, RDWR | CREAT, Some(&attributes)), Err(Errno::EINVAL));
    }
    Ok(())
}

fn priorities() -> Outcome {
    let queue = fresh(NONBLOCK)?;
    for (text, priority) in [("low", 1), ("high", 9), ("low too", 1), ("highest", 32_767)] {
        send(queue, text.as_bytes(), priority)?;
    }
    equal!(send(queue, b"", 0), Err(Errno::EAGAIN));
    let mut buf = [0; 16];
    for (text, priority) in [("highest", 32_767), ("high", 9), ("low", 1), ("low too", 1)] {
        let (len, got) = receive(queue, &mut buf)?;
        equal!((core::str::from_utf8(&buf[..len]).unwrap_or(""), got), (text, priority));
    }
    equal!(receive(queue, &mut buf), Err(Errno::EAGAIN));
    Ok(())
}

fn waiting() -> Outcome {
    let queue = fresh(0)?;
    let mut buf = [0; 16];
    let past = [1, 0];
    equal!(receive_until(queue, &mut buf, Some(&past)), Err(Errno::ETIMEDOUT));
    equal!(receive_until(queue, &mut buf, Some(&[0, 1_000_000_000])), Err(Errno::EINVAL));
    let child = process::fork()?;
    if child.is_none() {
        let mut buf = [0; 16];
        let sum = (0..12).try_fold(0, |sum, _| Ok::<_, Errno>(sum + receive(queue, &mut buf)?.1));
        process::exit(i32::from(sum != Ok(66)));
    }
    // More than it holds: the sender waits for the receiver.
    for priority in 0..12 {
        send(queue, b"x", priority)?;
    }
    equal!(process::wait_exit(child.unwrap_or(0))?.exit_code(), Some(0));
    for _ in 0..4 {
        send(queue, b"x", 0)?;
    }
    equal!(send_until(queue, b"x", 0, Some(&past)), Err(Errno::ETIMEDOUT));
    Ok(())
}

fn sizes() -> Outcome {
    let queue = fresh(0)?;
    equal!(send(queue, &[0; 17], 0), Err(Errno::EMSGSIZE));
    equal!(send(queue, b"", 32_768), Err(Errno::EINVAL));
    send(queue, &[7; 16], 0)?;
    equal!(receive(queue, &mut [0; 15]), Err(Errno::EMSGSIZE));
    equal!(receive(queue, &mut [0; 100])?.0, 16);
    send(queue, b"", 0)?;
    equal!(receive(queue, &mut [0; 16])?.0, 0);
    Ok(())
}

fn attributes() -> Outcome {
    let queue = fresh(0)?;
    send(queue, b"one", 0)?;
    equal!(attributes_of(queue, None)?, [0, 4, 16, 1, 0, 0, 0, 0]);
    // Only the flag changes.
    let nonblocking = i64::from(NONBLOCK);
    attributes_of(queue, Some(&[nonblocking, 9, 9, 9, 0, 0, 0, 0]))?;
    equal!(attributes_of(queue, Some(&[0; 8]))?, [nonblocking, 4, 16, 1, 0, 0, 0, 0]);
    equal!(attributes_of(queue, None)?[0], 0);
    equal!(attributes_of(queue, Some(&[1, 0, 0, 0, 0, 0, 0, 0])), Err(Errno::EINVAL));
    Ok(())
}

static TOLD: AtomicU32 = AtomicU32::new(0);

extern "C" fn told(_: i32) {
    TOLD.fetch_add(1, Ordering::Relaxed);
}

fn told_by_signal() -> Outcome {
    let queue = fresh(NONBLOCK)?;
    signal::set_action(SIGUSR1, Action::Handle(told), 0, 0)?;
    let mut event = [0u32; 16];
    event[2] = SIGUSR1;
    notify(queue, event.as_ptr())?;
    equal!(notify(queue, event.as_ptr()), Err(Errno::EBUSY));
    send(queue, b"first", 0)?;
    equal!(TOLD.load(Ordering::Relaxed), 1);
    // Once only, and only of what comes into the empty queue.
    notify(queue, event.as_ptr())?;
    send(queue, b"second", 0)?;
    equal!(TOLD.load(Ordering::Relaxed), 1);
    let mut buf = [0; 16];
    receive(queue, &mut buf)?;
    receive(queue, &mut buf)?;
    send(queue, b"third", 0)?;
    equal!(TOLD.load(Ordering::Relaxed), 2);
    receive(queue, &mut buf)?;
    notify(queue, event.as_ptr())?;
    notify(queue, core::ptr::null())?;
    send(queue, b"fourth", 0)?;
    equal!(TOLD.load(Ordering::Relaxed), 2);
    event[2] = 65;
    equal!(notify(queue, event.as_ptr()), Err(Errno::EINVAL));
    (event[2], event[3]) = (SIGUSR1, 9);
    equal!(notify(queue, event.as_ptr()), Err(Errno::EINVAL));
    Ok(())
}

fn polled() -> Outcome {
    let queue = fresh(0)?;
    let mut wanted = [queue as u32, 5];
    // SAFETY: 1. the kernel reads and writes one pollfd and reads a timespec.
    let mut poll = || unsafe {
        syscall!(__NR_ppoll, wanted.as_mut_ptr(), 1, [0i64; 2].as_ptr(), 0).map(|_| wanted[1] >> 16)
    };
    equal!(poll()?, 4);
    send(queue, b"x", 0)?;
    equal!(poll()?, 5);
    for _ in 0..3 {
        send(queue, b"x", 0)?;
    }
    equal!(poll()?, 1);
    Ok(())
}

fn inherited() -> Outcome {
    let queue = fresh(0)?;
    let child = process::fork()?;
    if child.is_none() {
        process::exit(i32::from(send(queue, b"from the child", 3).is_err()));
    }
    let mut buf = [0; 16];
    let (len, priority) = receive(queue, &mut buf)?;
    equal!((&buf[..len], priority), (&b"from the child"[..], 3));
    process::wait_exit(child.unwrap_or(0))?;
    // SAFETY: 1. fcntl(F_GETFD) takes numbers.
    equal!(unsafe { syscall!(__NR_fcntl, queue, 1, 0) }?, 1);
    Ok(())
}

fn bad_calls() -> Outcome {
    let (read, _write) = io::pipe(0)?;
    let pipe = read as usize;
    equal!(send(pipe, b"", 0), Err(Errno::EBADF));
    equal!(receive(pipe, &mut [0; 16]), Err(Errno::EBADF));
    equal!(attributes_of(pipe, None), Err(Errno::EBADF));
    equal!(notify(pipe, core::ptr::null()), Err(Errno::EBADF));
    equal!(send(999, b"", 0), Err(Errno::EBADF));
    let name = c"checks-one-way";
    let queue = open_with(name, 1 | CREAT, None)?;
    unlink(name)?;
    equal!(receive(queue, &mut [0; 8192]), Err(Errno::EBADF));
    // SAFETY: 1. nothing is mapped there.
    equal!(unsafe { syscall!(__NR_mq_open, 8, RDWR, 0, 0) }, Err(Errno::EFAULT));
    equal!(unsafe { syscall!(__NR_mq_timedsend, queue, 8, 4, 0, 0) }, Err(Errno::EFAULT));
    Ok(())
}

fn mounted() -> Outcome {
    let dir = c"/tmp/checks-mqueue";
    let _ = fs::mkdir(dir, 0o755);
    match fs::mount(c"mqueue", dir, c"mqueue", 0, c"") {
        Err(Errno::EPERM) => return Err(skip("no right to mount")),
        result => result?,
    }
    let name = c"checks-mounted";
    let look = || {
        let queue = open_with(name, RDWR | CREAT, Some(&[0, 4, 16, 0, 0, 0, 0, 0]))?;
        send(queue, b"seven b", 0)?;
        let text = fs::read_file(c"/tmp/checks-mqueue/checks-mounted")?;
        equal!(text, b"QSIZE:7          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n");
        equal!(fs::stat(c"/tmp/checks-mqueue/checks-mounted")?.st_size, 80);
        let names = fs::list(fs::open(dir, O_RDONLY | O_DIRECTORY, 0)?)?;
        ensure!(names.iter().any(|entry| entry == b"checks-mounted"), "not listed");
        // A file made there is a queue, with what is usual.
        io::close(fs::open(c"/tmp/checks-mqueue/checks-made", O_RDWR | O_CREAT, 0o600)?)?;
        let made = open_with(c"checks-made", RDWR, None)?;
        ensure!(attributes_of(made, None)?[1] >= 1, "it holds nothing");
        fs::unlink(c"/tmp/checks-mqueue/checks-made")?;
        equal!(open_with(c"checks-made", RDWR, None), Err(Errno::ENOENT));
        Ok(())
    };
    let result = look();
    let _ = unlink(name);
    fs::umount(dir, 2)?;
    result
}

fn settings() -> Outcome {
    for (path, usual) in [
        (c"/proc/sys/fs/mqueue/queues_max", "256\n"),
        (c"/proc/sys/fs/mqueue/msg_max", "10\n"),
        (c"/proc/sys/fs/mqueue/msgsize_max", "8192\n"),
        (c"/proc/sys/fs/mqueue/msg_default", "10\n"),
        (c"/proc/sys/fs/mqueue/msgsize_default", "8192\n"),
    ] {
        let text = fs::read_file(path)?;
        equal!(core::str::from_utf8(&text).unwrap_or(""), usual);
    }
    Ok(())
}
