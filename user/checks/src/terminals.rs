//! Pseudo-terminals and job control.

use crate::waiting::until_asleep;
use crate::{Check, Outcome, ensure, equal};
use alloc::ffi::CString;
use alloc::format;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, Result, fs, process, syscall, time, tty};

pub const CHECKS: &[Check] = &[
    ("echo_and_lines", echo_and_lines),
    ("raw", raw),
    ("flush", flush),
    ("interrupt_key", interrupt_key),
    ("window_size", window_size),
    ("hang_up", hang_up),
    ("master_tells_foreground", master_tells_foreground),
    ("end_after_data", end_after_data),
    ("background_read", background_read),
    ("not_a_terminal", not_a_terminal),
    ("poll_terminal", poll_terminal),
    ("packets", packets),
];

/// A pseudo-terminal: master and slave.
fn pair() -> Result<(Fd, Fd)> {
    open_pair(0)
}

fn end_after_data() -> Outcome {
    crate::pipes::bytes_before_the_end(20, || open_pair(O_NONBLOCK))
}

/// The same; the master with `flags` too.
fn open_pair(flags: u32) -> Result<(Fd, Fd)> {
    let master = fs::open(c"/dev/ptmx", O_RDWR | O_NOCTTY | flags, 0)?;
    let number = tty::unlock_pty(master)?;
    let path = CString::new(format!("/dev/pts/{number}")).map_err(|_| Errno::EINVAL)?;
    Ok((master, fs::open(&path, O_RDWR | O_NOCTTY, 0)?))
}

/// What comes out of `fd` until nothing comes for a while.
fn drain(fd: Fd) -> Result<alloc::vec::Vec<u8>> {
    let mut all = alloc::vec::Vec::new();
    let mut buffer = [0; 256];
    while io::poll(&mut [io::poll_fd(fd, 1)], Some(200_000_000), None)? > 0 {
        match io::read(fd, &mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(all)
}

fn echo_and_lines() -> Outcome {
    let (master, slave) = pair()?;
    io::write(master, b"helo\x7flo\rnext")?;
    let mut line = [0; 64];
    equal!(io::read(slave, &mut line)?, 6);
    equal!(&line[..6], b"hello\n");
    equal!(drain(master)?, b"helo\x08 \x08lo\r\nnext");
    io::write(slave, b"out\n")?;
    equal!(drain(master)?, b"out\r\n");
    io::write(master, b"\x04\x04")?;
    equal!(io::read(slave, &mut line)?, 4);
    equal!(io::read(slave, &mut line)?, 0);
    Ok(())
}

fn raw() -> Outcome {
    let (master, slave) = pair()?;
    let mut attributes = tty::attributes(slave)?;
    tty::make_raw(&mut attributes);
    tty::set_attributes(slave, &attributes)?;
    io::write(master, b"\x03\r\x04")?;
    let mut bytes = [0; 3];
    equal!(io::read_full(slave, &mut bytes)?, 3);
    equal!(&bytes, b"\x03\r\x04");
    io::write(slave, b"a\nb")?;
    equal!(drain(master)?, b"a\nb");
    Ok(())
}

/// Whose bytes TCFLSH throws away: what is still to be read at the end that it is given.
fn flush() -> Outcome {
    const TCFLSH: usize = 0x540b;
    const TCIFLUSH: usize = 0;
    const TCOFLUSH: usize = 1;
    const TCIOFLUSH: usize = 2;
    let (master, slave) = open_pair(O_NONBLOCK)?;
    // SAFETY: 1. no memory is named.
    let flush = |fd: Fd, which: usize| unsafe { syscall!(__NR_ioctl, fd, TCFLSH, which) }.map(drop);
    let mut bytes = [0; 8];
    io::write(slave, b"abcdef")?;
    equal!(io::read(master, &mut bytes[..2])?, 2);
    flush(master, TCOFLUSH)?;
    flush(slave, TCIOFLUSH)?;
    equal!(io::read(master, &mut bytes[..2])?, 2);
    equal!(&bytes[..2], b"cd");
    flush(master, TCIFLUSH)?;
    equal!(io::read(master, &mut bytes), Err(Errno::EAGAIN));
    io::write(master, b"typed\n")?;
    drain(master)?;
    flush(master, TCIOFLUSH)?;
    equal!(io::poll(&mut [io::poll_fd(slave, 1)], Some(0), None)?, 1);
    flush(slave, TCIFLUSH)?;
    equal!(io::poll(&mut [io::poll_fd(slave, 1)], Some(0), None)?, 0);
    equal!(flush(master, 3), Err(Errno::EINVAL));
    equal!(flush(slave, 3), Err(Errno::EINVAL));
    Ok(())
}

/// A child with the slave as its controlling terminal, in the foreground.
fn on_terminal(master: Fd, slave: Fd, body: fn(Fd) -> i32) -> Result<process::Pid> {
    if let Some(pid) = process::fork()? {
        io::close(slave)?;
        return Ok(pid);
    }
    let _ = io::close(master);
    let ready = process::setsid().is_ok() && tty::set_controlling(slave).is_ok();
    process::exit(if ready { body(slave) } else { 120 })
}

fn interrupt_key() -> Outcome {
    let (master, slave) = pair()?;
    let pid = on_terminal(master, slave, |slave| {
        let _ = io::write(slave, b"ready");
        time::sleep_ns(50_000_000_000);
        1
    })?;
    equal!(io::read(master, &mut [0; 8])?, 5);
    io::write(master, b"\x03")?;
    equal!(process::wait_exit(pid)?.signal(), Some(SIGINT as i32));
    Ok(())
}

extern "C" fn resized(_: i32) {}

fn window_size() -> Outcome {
    let (master, slave) = pair()?;
    tty::set_window_size(master, 33, 111)?;
    let size = tty::window_size(slave)?;
    equal!((size.ws_row, size.ws_col), (33, 111));
    let pid = on_terminal(master, slave, |slave| {
        let _ = signal::set_action(SIGWINCH, Action::Handle(resized), 0, 0);
        let _ = io::write(slave, b"ready");
        i32::from(time::sleep_once_ns(50_000_000_000) != Err(Errno::EINTR))
    })?;
    equal!(io::read(master, &mut [0; 8])?, 5);
    until_asleep(pid)?;
    tty::set_window_size(master, 40, 80)?;
    equal!(process::wait_exit(pid)?.exit_code(), Some(0));
    Ok(())
}

fn hang_up() -> Outcome {
    let (master, slave) = pair()?;
    let pid = on_terminal(master, slave, |slave| {
        let _ = io::write(slave, b"ready");
        time::sleep_ns(50_000_000_000);
        1
    })?;
    equal!(io::read(master, &mut [0; 8])?, 5);
    io::close(master)?;
    equal!(process::wait_exit(pid)?.signal(), Some(SIGHUP as i32));
    let (master, slave) = pair()?;
    io::close(slave)?;
    equal!(io::read(master, &mut [0]), Err(Errno::EIO));
    Ok(())
}

/// TIOCGPGRP and TIOCGSID on the master are about the slave, and for everybody; on the slave for its own session.
fn master_tells_foreground() -> Outcome {
    let (master, slave) = pair()?;
    equal!(tty::foreground(master)?, 0);
    equal!(tty::session(master), Err(Errno::ENOTTY));
    let pid = on_terminal(master, slave, |slave| {
        let _ = io::write(slave, b"ready");
        time::sleep_ns(50_000_000_000);
        1
    })?;
    equal!(io::read(master, &mut [0; 8])?, 5);
    equal!((tty::foreground(master)?, tty::session(master)?), (pid, pid));
    let path = CString::new(format!("/dev/pts/{}", tty::unlock_pty(master)?)).map_err(|_| Errno::EINVAL)?;
    let again = fs::open(&path, O_RDWR | O_NOCTTY, 0)?;
    equal!(tty::foreground(again), Err(Errno::ENOTTY));
    equal!(tty::session(again), Err(Errno::ENOTTY));
    process::kill(pid, SIGKILL)?;
    process::wait_exit(pid)?;
    Ok(())
}

/// A background process that reads stops with SIGTTIN.
fn background_read() -> Outcome {
    let (master, slave) = pair()?;
    let pid = on_terminal(master, slave, |slave| {
        let status = process::fork().map(|child| match child {
            None => {
                let _ = process::setpgid(0, 0);
                let _ = signal::set_action(SIGTTIN, Action::Default, 0, 0);
                let _ = io::read(slave, &mut [0]);
                process::exit(0)
            }
            Some(pid) => {
                let stopped = process::wait(pid, 2).ok().flatten().and_then(|(_, s)| s.stop_signal());
                let _ = process::kill(pid, SIGKILL);
                stopped
            }
        });
        i32::from(status != Ok(Some(SIGTTIN as i32)))
    })?;
    equal!(process::wait_exit(pid)?.exit_code(), Some(0));
    Ok(())
}

fn not_a_terminal() -> Outcome {
    let fd = fs::open(c"/dev/null", O_RDONLY, 0)?;
    equal!(tty::attributes(fd).err(), Some(Errno::ENOTTY));
    let (read, _write) = io::pipe(0)?;
    equal!(tty::attributes(read).err(), Some(Errno::ENOTTY));
    // Without a controlling terminal.
    let status = process::in_child(|| {
        let _ = process::setsid();
        i32::from(fs::open(c"/dev/tty", O_RDWR, 0) != Err(Errno::ENXIO))
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn poll_terminal() -> Outcome {
    let (master, slave) = pair()?;
    let ready = |fd: Fd| io::poll(&mut [io::poll_fd(fd, 1)], Some(0), None);
    // Linux hands bytes from one side to the other in a task of its own.
    let wait = |fd: Fd| io::poll(&mut [io::poll_fd(fd, 1)], None, None);
    equal!((ready(slave)?, ready(master)?), (0, 0));
    io::write(master, b"x")?;
    equal!((wait(master)?, ready(slave)?), (1, 0));
    io::write(master, b"\r")?;
    equal!(wait(slave)?, 1);
    let mut count = 0u32;
    // SAFETY: 1. FIONREAD writes one int.
    unsafe { syscall!(__NR_ioctl, slave, 0x541b, &raw mut count) }?;
    ensure!(count == 2, "FIONREAD {count}");
    Ok(())
}

/// ioctl(2) with an int, which it may change.
fn with_int(fd: Fd, command: u32, value: i32) -> Result<i32> {
    let mut value = value;
    // SAFETY: 1. the kernel reads or writes one int.
    unsafe { syscall!(__NR_ioctl, fd, command, &raw mut value) }?;
    Ok(value)
}

/// What the next read of a master in packet mode gives; nothing when there is nothing.
fn packet(master: Fd) -> Result<alloc::vec::Vec<u8>> {
    let mut bytes = [0xff; 64];
    match io::read(master, &mut bytes) {
        Ok(count) => Ok(bytes[..count].to_vec()),
        Err(Errno::EAGAIN) => Ok(alloc::vec::Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// TIOCPKT: reads of the master say what they are about.
fn packets() -> Outcome {
    const PKT: u32 = 0x5420;
    const GET_PKT: u32 = 0x8004_5438;
    const FLUSH: u32 = 0x540b;
    const FLUSH_READ: u8 = 1;
    const FLUSH_WRITE: u8 = 2;
    const STOP: u8 = 4;
    const START: u8 = 8;
    const NO_STOP: u8 = 16;
    const DO_STOP: u8 = 32;
    let (master, slave) = open_pair(O_NONBLOCK)?;
    equal!(with_int(slave, PKT, 1), Err(Errno::ENOTTY));
    // SAFETY: 1. TCFLSH names no memory.
    let flush = |which: usize| unsafe { syscall!(__NR_ioctl, slave, FLUSH, which) };
    // What happened before is not told.
    flush(2)?;
    equal!(with_int(master, GET_PKT, 7)?, 0);
    with_int(master, PKT, 1)?;
    equal!(with_int(master, GET_PKT, 7)?, 1);
    equal!(packet(master)?, b"");
    io::write(slave, b"hello")?;
    equal!(io::poll(&mut [io::poll_fd(master, 2)], Some(0), None)?, 0);
    equal!(io::poll(&mut [io::poll_fd(master, 1)], Some(20_000_000_000), None)?, 1);
    equal!(packet(master)?, b"\0hello");
    equal!(packet(master)?, b"");
    // News are ready for poll as urgent, and come before data.
    flush(0)?;
    io::write(slave, b"data")?;
    let mut polled = [io::poll_fd(master, 1 | 2)];
    equal!(io::poll(&mut polled, Some(20_000_000_000), None)?, 1);
    equal!(polled[0].revents & 3, 3);
    equal!(packet(master)?, [FLUSH_READ]);
    equal!(io::poll(&mut [io::poll_fd(master, 1)], Some(20_000_000_000), None)?, 1);
    equal!(packet(master)?, b"\0data");
    flush(1)?;
    equal!(packet(master)?, [FLUSH_WRITE]);
    flush(2)?;
    equal!(packet(master)?, [FLUSH_READ | FLUSH_WRITE]);
    // Flow control, by the key and by whether the key does it.
    io::write(master, b"\x13")?;
    equal!(news(master)?, [STOP]);
    io::write(master, b"\x11")?;
    equal!(news(master)?, [START]);
    let usual = tty::attributes(slave)?;
    let mut attributes = usual;
    attributes.c_iflag &= !IXON;
    tty::set_attributes(slave, &attributes)?;
    equal!(packet(master)?, [NO_STOP]);
    tty::set_attributes(slave, &usual)?;
    equal!(packet(master)?, [DO_STOP]);
    // A key that sends a signal throws away what is on its way, but for its echo.
    io::write(master, b"typed\x03")?;
    let mut seen = alloc::vec::Vec::new();
    let mut told = 0;
    while !seen.ends_with(b"^C") {
        match news(master)?.split_first() {
            Some((0, data)) => seen.extend_from_slice(data),
            Some((status, _)) => told |= status,
            None => {}
        }
    }
    equal!(told, FLUSH_READ | FLUSH_WRITE);
    // Data of the old kind again.
    with_int(master, PKT, 0)?;
    io::write(slave, b"end")?;
    equal!(drain(master)?, b"end");
    Ok(())
}

/// The next packet, waited for.
fn news(master: Fd) -> Result<alloc::vec::Vec<u8>> {
    io::poll(&mut [io::poll_fd(master, 1)], Some(20_000_000_000), None)?;
    packet(master)
}
