//! Unix-domain sockets.

use crate::names::fresh;
use crate::{Check, Outcome, ensure, equal};
use alloc::vec::Vec;
use rt::io::{self, Fd};
use rt::nr::*;
use rt::{Errno, Result, fs, process, signal, syscall, time};

pub const CHECKS: &[Check] = &[
    ("stream_pair", stream_pair),
    ("stream_blocks_and_continues", stream_blocks_and_continues),
    ("end_of_stream", end_of_stream),
    ("end_after_data", end_after_data),
    ("broken_pipe", broken_pipe),
    ("shutdown_halves", shutdown_halves),
    ("reset", reset),
    ("path_server", path_server),
    ("abstract_names", abstract_names),
    ("autobind", autobind),
    ("backlog", backlog),
    ("connect_errors", connect_errors),
    ("names", names),
    ("datagrams", datagrams),
    ("datagram_queue", datagram_queue),
    ("datagram_peers", datagram_peers),
    ("packets", packets),
    ("truncation", truncation),
    ("peek", peek),
    ("wait_all", wait_all),
    ("pass_descriptors", pass_descriptors),
    ("descriptors_end_a_read", descriptors_end_a_read),
    ("descriptors_that_do_not_fit", descriptors_that_do_not_fit),
    ("pass_credentials", pass_credentials),
    ("peer_credentials", peer_credentials),
    ("readiness", readiness),
    ("timeouts", timeouts),
    ("options", options),
    ("nonblocking", nonblocking),
    ("many_messages", many_messages),
    ("lost_descriptors", lost_descriptors),
    ("errors", errors),
];

const UNIX: u32 = 1;
const STREAM: u32 = 1;
const DGRAM: u32 = 2;
const SEQPACKET: u32 = 5;
const DONTWAIT: u32 = 0x40;
const NOSIGNAL: u32 = 0x4000;
const PEEK: u32 = 2;
const TRUNC: u32 = 0x20;
const WAITALL: u32 = 0x100;
const CTRUNC: u32 = 8;
const SOCKET: i32 = 1;
const PASSCRED: i32 = 16;
const IN: u32 = 1;
const OUT: u32 = 4;
const HUP: u32 = 16;
const RDHUP: u32 = 0x2000;

fn socket(kind: u32) -> Result<Fd> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_socket, UNIX, kind, 0) }.map(|fd| fd as Fd)
}

fn end_after_data() -> Outcome {
    crate::pipes::bytes_before_the_end(50, || pair(STREAM | SOCK_NONBLOCK))
}

fn pair(kind: u32) -> Result<(Fd, Fd)> {
    let mut fds: [Fd; 2] = [-1; 2];
    // SAFETY: 1. the kernel writes two ints.
    unsafe { syscall!(__NR_socketpair, UNIX, kind, 0, fds.as_mut_ptr()) }?;
    Ok((fds[0], fds[1]))
}

/// A sockaddr_un; the name of an abstract one begins with a zero.
fn address(name: &[u8]) -> Vec<u8> {
    let mut bytes = 1u16.to_ne_bytes().to_vec();
    bytes.extend_from_slice(name);
    bytes
}

fn bind(fd: Fd, name: &[u8]) -> Result<()> {
    let at = address(name);
    // SAFETY: 1. the kernel reads the address.
    unsafe { syscall!(__NR_bind, fd, at.as_ptr(), at.len()) }.map(drop)
}

fn connect(fd: Fd, name: &[u8]) -> Result<()> {
    let at = address(name);
    // SAFETY: 1. the kernel reads the address.
    unsafe { syscall!(__NR_connect, fd, at.as_ptr(), at.len()) }.map(drop)
}

fn listen(fd: Fd, backlog: i32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_listen, fd, backlog) }.map(drop)
}

fn accept(fd: Fd) -> Result<Fd> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_accept4, fd, 0, 0, 0) }.map(|fd| fd as Fd)
}

fn shutdown(fd: Fd, how: u32) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_shutdown, fd, how) }.map(drop)
}

fn send(fd: Fd, bytes: &[u8], flags: u32) -> Result<usize> {
    // SAFETY: 1. the kernel reads the bytes.
    unsafe { syscall!(__NR_sendto, fd, bytes.as_ptr(), bytes.len(), flags, 0, 0) }
}

fn send_to(fd: Fd, bytes: &[u8], flags: u32, name: &[u8]) -> Result<usize> {
    let at = address(name);
    // SAFETY: 1. the kernel reads the bytes and the address.
    unsafe { syscall!(__NR_sendto, fd, bytes.as_ptr(), bytes.len(), flags, at.as_ptr(), at.len()) }
}

fn receive(fd: Fd, bytes: &mut [u8], flags: u32) -> Result<usize> {
    // SAFETY: 1. the kernel writes the bytes.
    unsafe { syscall!(__NR_recvfrom, fd, bytes.as_mut_ptr(), bytes.len(), flags, 0, 0) }
}

/// What getsockname or getpeername tells.
fn name_of(call: u32, fd: Fd) -> Result<Vec<u8>> {
    let mut bytes = [0u8; 128];
    let mut len = bytes.len() as u32;
    // SAFETY: 1. the kernel writes at most `len` bytes and the length.
    unsafe { syscall!(call, fd, bytes.as_mut_ptr(), &raw mut len) }?;
    Ok(bytes[..len as usize].to_vec())
}

fn set_option(fd: Fd, name: i32, value: &[u8]) -> Result<()> {
    // SAFETY: 1. the kernel reads the value.
    unsafe { syscall!(__NR_setsockopt, fd, SOCKET, name, value.as_ptr(), value.len()) }.map(drop)
}

fn option<const N: usize>(fd: Fd, name: i32) -> Result<[i32; N]> {
    let mut value = [0; N];
    let mut len = size_of_val(&value) as u32;
    // SAFETY: 1. the kernel writes at most `len` bytes and the length.
    unsafe { syscall!(__NR_getsockopt, fd, SOCKET, name, value.as_mut_ptr(), &raw mut len) }?;
    Ok(value)
}

fn events(fd: Fd, wanted: u32) -> Result<u32> {
    let mut fds = [io::poll_fd(fd, wanted)];
    io::poll(&mut fds, Some(0), None)?;
    Ok(fds[0].revents as u16 as u32)
}

/// An abstract name that no other run has.
fn unique(tag: &str) -> Vec<u8> {
    alloc::format!("\0checks-{tag}-{}", process::getpid()).into_bytes()
}

// ---- messages with control data ----

#[repr(C)]
struct Header {
    name: usize,
    name_len: usize,
    iov: *const [usize; 2],
    iov_len: usize,
    control: usize,
    control_len: usize,
    flags: usize,
}

fn control(kind: u32, data: &[i32]) -> Vec<u8> {
    let mut bytes = (16 + 4 * data.len()).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&1u32.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    for word in data {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn send_message(fd: Fd, bytes: &[u8], control: &[u8], flags: u32) -> Result<usize> {
    let iov = [bytes.as_ptr() as usize, bytes.len()];
    let header = Header {
        name: 0,
        name_len: 0,
        iov: &raw const iov,
        iov_len: 1,
        control: control.as_ptr() as usize,
        control_len: control.len(),
        flags: 0,
    };
    // SAFETY: 1. the kernel reads header, bytes and control.
    unsafe { syscall!(__NR_sendmsg, fd, &raw const header, flags) }
}

struct Received {
    len: usize,
    flags: u32,
    /// Kind and data of each control message.
    control: Vec<(u32, Vec<i32>)>,
}

fn word(bytes: &[u8]) -> i32 {
    i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn receive_message(fd: Fd, bytes: &mut [u8], room: usize, flags: u32) -> Result<Received> {
    let iov = [bytes.as_mut_ptr() as usize, bytes.len()];
    let mut buffer = [0u8; 256];
    let mut header = Header {
        name: 0,
        name_len: 0,
        iov: &raw const iov,
        iov_len: 1,
        control: buffer.as_mut_ptr() as usize,
        control_len: room,
        flags: 0,
    };
    // SAFETY: 1. the kernel writes header, bytes and control.
    let len = unsafe { syscall!(__NR_recvmsg, fd, &raw mut header, flags) }?;
    let mut control = Vec::new();
    let mut rest = &buffer[..header.control_len];
    while rest.len() >= 16 {
        let own = word(rest) as usize;
        let data = rest[16..own].chunks_exact(4).map(word).collect();
        control.push((word(&rest[12..]) as u32, data));
        rest = &rest[own.next_multiple_of(8).min(rest.len())..];
    }
    Ok(Received { len, flags: header.flags as u32, control })
}

// ---- streams ----

fn stream_pair() -> Outcome {
    let (a, b) = pair(STREAM)?;
    io::write(a, b"hello ")?;
    send(a, b"world", 0)?;
    let mut bytes = [0; 32];
    equal!(io::read(b, &mut bytes)?, 11);
    equal!(&bytes[..11], b"hello world");
    io::write(b, b"back")?;
    equal!(receive(a, &mut bytes[..2], 0)?, 2);
    equal!(io::read(a, &mut bytes)?, 2);
    equal!(&bytes[..2], b"ck");
    Ok(())
}

/// A child that writes `len` bytes of a pattern and ends.
fn writer(fd: Fd, other: Fd, len: usize) -> Result<()> {
    if process::fork()?.is_none() {
        let _ = io::close(other);
        let bytes: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
        let ok = io::write(fd, &bytes) == Ok(len);
        process::exit(i32::from(!ok));
    }
    Ok(())
}

fn stream_blocks_and_continues() -> Outcome {
    const LEN: usize = 3_000_000;
    let (a, b) = pair(STREAM)?;
    writer(a, b, LEN)?;
    io::close(a)?;
    time::sleep_ns(20_000_000);
    let mut at = 0;
    let mut bytes = [0; 5000];
    loop {
        let count = io::read(b, &mut bytes)?;
        if count == 0 {
            break;
        }
        for (n, byte) in (at..).zip(&bytes[..count]) {
            ensure!(*byte == (n / 7) as u8, "byte {n} is wrong");
        }
        at += count;
    }
    equal!(at, LEN);
    Ok(())
}

fn end_of_stream() -> Outcome {
    let (a, b) = pair(STREAM)?;
    io::write(a, b"last")?;
    io::close(a)?;
    let mut bytes = [0; 8];
    equal!(io::read(b, &mut bytes)?, 4);
    equal!(io::read(b, &mut bytes)?, 0);
    equal!(io::read(b, &mut bytes)?, 0);
    Ok(())
}

fn broken_pipe() -> Outcome {
    let (a, b) = pair(STREAM)?;
    io::close(b)?;
    equal!(send(a, b"x", NOSIGNAL), Err(Errno::EPIPE));
    signal::mask(SIG_BLOCK, 1 << (SIGPIPE - 1))?;
    equal!(io::write(a, b"x"), Err(Errno::EPIPE));
    equal!(signal::pending()?, 1 << (SIGPIPE - 1));
    Ok(())
}

fn shutdown_halves() -> Outcome {
    let (a, b) = pair(STREAM)?;
    io::write(a, b"before")?;
    shutdown(a, 1)?;
    equal!(send(a, b"x", NOSIGNAL), Err(Errno::EPIPE));
    let mut bytes = [0; 16];
    equal!(io::read(b, &mut bytes)?, 6);
    equal!(io::read(b, &mut bytes)?, 0);
    // The other direction still works.
    io::write(b, b"still")?;
    equal!(io::read(a, &mut bytes)?, 5);
    shutdown(a, 0)?;
    equal!(io::read(a, &mut bytes)?, 0);
    equal!(send(b, b"x", NOSIGNAL), Err(Errno::EPIPE));
    equal!(shutdown(a, 3), Err(Errno::EINVAL));
    Ok(())
}

fn reset() -> Outcome {
    let (a, b) = pair(STREAM)?;
    io::write(a, b"unread")?;
    io::close(b)?;
    let mut bytes = [0; 8];
    equal!(io::read(a, &mut bytes), Err(Errno::ECONNRESET));
    equal!(io::read(a, &mut bytes)?, 0);
    Ok(())
}

// ---- names ----

fn path_server() -> Outcome {
    let path = fresh("sock") + "\0";
    let cpath = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let server = socket(STREAM)?;
    let client = socket(STREAM)?;
    equal!(connect(client, path.as_bytes()), Err(Errno::ENOENT));
    bind(server, path.as_bytes())?;
    equal!(fs::stat(cpath)?.st_mode & S_IFMT, S_IFSOCK);
    equal!(connect(client, path.as_bytes()), Err(Errno::ECONNREFUSED));
    equal!(bind(socket(STREAM)?, path.as_bytes()), Err(Errno::EADDRINUSE));
    equal!(bind(server, path.as_bytes()), Err(Errno::EADDRINUSE));
    equal!(bind(server, &unique("second")), Err(Errno::EINVAL));
    equal!(accept(server), Err(Errno::EINVAL));
    listen(server, 5)?;
    connect(client, path.as_bytes())?;
    let peer = accept(server)?;
    io::write(client, b"hi")?;
    let mut bytes = [0; 4];
    equal!(io::read(peer, &mut bytes)?, 2);
    equal!(fs::open(cpath, O_RDWR, 0), Err(Errno::ENXIO));
    // The path stays after the socket, and leads nowhere.
    io::close(server)?;
    equal!(connect(socket(STREAM)?, path.as_bytes()), Err(Errno::ECONNREFUSED));
    fs::unlink(cpath)?;
    io::write(peer, b"still here")?;
    Ok(())
}

fn abstract_names() -> Outcome {
    let name = unique("abstract");
    let server = socket(STREAM)?;
    bind(server, &name)?;
    equal!(bind(socket(STREAM)?, &name), Err(Errno::EADDRINUSE));
    // A name is its bytes, zeros included.
    let mut longer = name.clone();
    longer.push(0);
    let other = socket(STREAM)?;
    bind(other, &longer)?;
    io::close(other)?;
    listen(server, 1)?;
    let client = socket(STREAM)?;
    equal!(connect(client, &longer), Err(Errno::ECONNREFUSED));
    connect(client, &name)?;
    let peer = accept(server)?;
    io::close(server)?;
    // Free again, although a connection of it lives.
    let again = socket(STREAM)?;
    bind(again, &name)?;
    equal!(name_of(__NR_getsockname, peer)?, address(&name));
    Ok(())
}

fn autobind() -> Outcome {
    let fd = socket(DGRAM)?;
    equal!(name_of(__NR_getsockname, fd)?, address(b""));
    bind(fd, b"")?;
    let name = name_of(__NR_getsockname, fd)?;
    equal!((name.len(), name[2]), (8, 0));
    ensure!(name[3..].iter().all(u8::is_ascii_hexdigit), "{name:?}");
    Ok(())
}

fn backlog() -> Outcome {
    let name = unique("backlog");
    let server = socket(STREAM)?;
    bind(server, &name)?;
    listen(server, 1)?;
    let calls: [Fd; 2] = [socket(STREAM)?, socket(STREAM)?];
    connect(calls[0], &name)?;
    connect(calls[1], &name)?;
    let late = socket(STREAM | SOCK_NONBLOCK)?;
    equal!(connect(late, &name), Err(Errno::EAGAIN));
    if process::fork()?.is_none() {
        time::sleep_ns(30_000_000);
        let fds = [accept(server), accept(server)];
        time::sleep_ns(100_000_000);
        process::exit(i32::from(fds.iter().any(Result::is_err)));
    }
    // This one waits for the child to make room.
    let patient = socket(STREAM)?;
    connect(patient, &name)?;
    let _third = accept(server)?;
    Ok(())
}

const SOCK_NONBLOCK: u32 = O_NONBLOCK;

fn connect_errors() -> Outcome {
    let fd = socket(STREAM)?;
    equal!(connect(fd, &unique("nobody")), Err(Errno::ECONNREFUSED));
    equal!(connect(fd, b"/dev/null\0"), Err(Errno::ECONNREFUSED));
    equal!(connect(fd, b""), Err(Errno::EINVAL));
    equal!(connect(fd, &[b'x'; 109]), Err(Errno::EINVAL));
    let name = unique("type");
    let datagram = socket(DGRAM)?;
    bind(datagram, &name)?;
    // Abstract names are a type's own, paths are not.
    equal!(connect(fd, &name), Err(Errno::ECONNREFUSED));
    bind(socket(STREAM)?, &name)?;
    let path = fresh("type") + "\0";
    let datagram = socket(DGRAM)?;
    bind(datagram, path.as_bytes())?;
    equal!(connect(fd, path.as_bytes()), Err(Errno::EPROTOTYPE));
    let cpath = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
    fs::unlink(cpath)?;
    let (a, _b) = pair(STREAM)?;
    let server = socket(STREAM)?;
    let name = unique("connected");
    bind(server, &name)?;
    listen(server, 1)?;
    equal!(connect(a, &name), Err(Errno::EISCONN));
    equal!(listen(socket(STREAM)?, 1), Err(Errno::EINVAL));
    equal!(listen(datagram, 1), Err(Errno::EOPNOTSUPP));
    equal!(io::read(socket(STREAM)?, &mut [0]), Err(Errno::EINVAL));
    equal!(send(socket(STREAM)?, b"x", NOSIGNAL), Err(Errno::ENOTCONN));
    Ok(())
}

fn names() -> Outcome {
    let name = unique("names");
    let server = socket(STREAM)?;
    bind(server, &name)?;
    listen(server, 1)?;
    let client = socket(STREAM)?;
    equal!(name_of(__NR_getpeername, client), Err(Errno::ENOTCONN));
    connect(client, &name)?;
    equal!(name_of(__NR_getpeername, client)?, address(&name));
    equal!(name_of(__NR_getsockname, client)?, address(b""));
    let mut bytes = [0u8; 3];
    let mut len = 3u32;
    // SAFETY: 1. the kernel writes three bytes and the length.
    unsafe { syscall!(__NR_getsockname, server, bytes.as_mut_ptr(), &raw mut len) }?;
    equal!(len as usize, address(&name).len());
    Ok(())
}

// ---- datagrams and packets ----

fn datagrams() -> Outcome {
    let (to, from) = (unique("to"), unique("from"));
    let (receiver, sender) = (socket(DGRAM)?, socket(DGRAM)?);
    bind(receiver, &to)?;
    equal!(send(sender, b"x", 0), Err(Errno::ENOTCONN));
    send_to(sender, b"one", 0, &to)?;
    bind(sender, &from)?;
    send_to(sender, b"", 0, &to)?;
    connect(sender, &to)?;
    send(sender, b"three", 0)?;
    let mut bytes = [0; 16];
    equal!(receive(receiver, &mut bytes, 0)?, 3);
    let mut who = [0u8; 128];
    let mut len = 128u32;
    // SAFETY: 1. the kernel writes the bytes, the address and its length.
    let got = unsafe {
        syscall!(__NR_recvfrom, receiver, bytes.as_mut_ptr(), 16, 0, who.as_mut_ptr(), &raw mut len)
    }?;
    equal!(got, 0);
    equal!(who[..len as usize], address(&from)[..]);
    equal!(receive(receiver, &mut bytes, 0)?, 5);
    equal!(receive(receiver, &mut bytes, DONTWAIT), Err(Errno::EAGAIN));
    // A receiver that is gone.
    io::close(receiver)?;
    equal!(send(sender, b"x", 0), Err(Errno::ECONNREFUSED));
    equal!(send(sender, b"x", 0), Err(Errno::ENOTCONN));
    Ok(())
}

fn datagram_queue() -> Outcome {
    let to = unique("queue");
    let (receiver, sender) = (socket(DGRAM)?, socket(DGRAM)?);
    bind(receiver, &to)?;
    let mut sent = 0;
    let refused = loop {
        match send_to(sender, b"x", DONTWAIT, &to) {
            Ok(_) => sent += 1,
            Err(errno) => break errno,
        }
        ensure!(sent < 100_000, "no limit");
    };
    equal!(refused, Errno::EAGAIN);
    ensure!(sent >= 10, "only {sent}");
    if process::fork()?.is_none() {
        time::sleep_ns(30_000_000);
        let _ = receive(receiver, &mut [0], 0);
        process::exit(0);
    }
    send_to(sender, b"x", 0, &to)?;
    connect(sender, &to)?;
    equal!(events(sender, OUT)?, 0);
    receive(receiver, &mut [0], 0)?;
    equal!(events(sender, OUT)?, OUT);
    Ok(())
}

fn datagram_peers() -> Outcome {
    let (one, two) = (unique("one"), unique("two"));
    let (a, b, stranger) = (socket(DGRAM)?, socket(DGRAM)?, socket(DGRAM)?);
    bind(a, &one)?;
    bind(b, &two)?;
    connect(a, &two)?;
    equal!(send_to(stranger, b"x", 0, &one), Err(Errno::EPERM));
    equal!(connect(stranger, &one), Err(Errno::EPERM));
    send_to(b, b"x", 0, &one)?;
    // AF_UNSPEC dissolves it.
    let nowhere = [0u8; 2];
    // SAFETY: 1. the kernel reads the address.
    unsafe { syscall!(__NR_connect, a, nowhere.as_ptr(), 2) }?;
    send_to(stranger, b"x", 0, &one)?;
    equal!(name_of(__NR_getpeername, a), Err(Errno::ENOTCONN));
    Ok(())
}

fn packets() -> Outcome {
    let (a, b) = pair(SEQPACKET)?;
    send(a, b"one", 0)?;
    send(a, b"second", 0)?;
    let mut bytes = [0; 16];
    equal!(receive(b, &mut bytes, 0)?, 3);
    equal!(receive(b, &mut bytes, 0)?, 6);
    io::close(a)?;
    equal!(receive(b, &mut bytes, 0)?, 0);
    equal!(send(b, b"x", NOSIGNAL), Err(Errno::EPIPE));
    equal!(receive(socket(SEQPACKET)?, &mut bytes, 0), Err(Errno::ENOTCONN));
    Ok(())
}

fn truncation() -> Outcome {
    for kind in [DGRAM, SEQPACKET] {
        let (a, b) = pair(kind)?;
        for _ in 0..3 {
            send(a, b"0123456789", 0)?;
        }
        let mut bytes = [0; 4];
        equal!(receive(b, &mut bytes, 0)?, 4);
        equal!(receive(b, &mut bytes, TRUNC)?, 10);
        let message = receive_message(b, &mut bytes, 0, 0)?;
        equal!((message.len, message.flags & TRUNC), (4, TRUNC));
        equal!(receive(b, &mut bytes, DONTWAIT), Err(Errno::EAGAIN));
    }
    Ok(())
}

fn peek() -> Outcome {
    for kind in [STREAM, DGRAM] {
        let (a, b) = pair(kind)?;
        send(a, b"abc", 0)?;
        let mut bytes = [0; 8];
        for flags in [PEEK, PEEK, 0] {
            equal!(receive(b, &mut bytes, flags)?, 3);
            equal!(&bytes[..3], b"abc");
        }
        equal!(receive(b, &mut bytes, DONTWAIT), Err(Errno::EAGAIN));
    }
    Ok(())
}

fn wait_all() -> Outcome {
    let (a, b) = pair(STREAM)?;
    if process::fork()?.is_none() {
        for part in [&b"12"[..], b"34", b"56"] {
            let _ = io::write(a, part);
            time::sleep_ns(10_000_000);
        }
        process::exit(0);
    }
    io::close(a)?;
    let mut bytes = [0; 5];
    equal!(receive(b, &mut bytes, WAITALL)?, 5);
    equal!(&bytes, b"12345");
    // The stream ends before the buffer is full.
    equal!(receive(b, &mut bytes, WAITALL)?, 1);
    Ok(())
}

// ---- control data ----

fn pass_descriptors() -> Outcome {
    for kind in [STREAM, DGRAM, SEQPACKET] {
        let (a, b) = pair(kind)?;
        let (read, write) = io::pipe(0)?;
        send_message(a, b"!", &control(1, &[read, write]), 0)?;
        io::close(read)?;
        io::close(write)?;
        let message = receive_message(b, &mut [0; 4], 64, 0x4000_0000)?;
        equal!((message.len, message.control.len()), (1, 1));
        let (kind, fds) = &message.control[0];
        equal!((*kind, fds.len()), (1, 2));
        io::write(fds[1], b"through")?;
        let mut bytes = [0; 8];
        equal!(io::read(fds[0], &mut bytes)?, 7);
        equal!(io::fcntl(fds[0], F_GETFD, 0)?, 1);
        equal!(send_message(a, b"!", &control(1, &[999]), 0), Err(Errno::EBADF));
        let too_many = [a; 254];
        equal!(send_message(a, b"!", &control(1, &too_many), 0), Err(Errno::EINVAL));
    }
    Ok(())
}

fn descriptors_end_a_read() -> Outcome {
    let (a, b) = pair(STREAM)?;
    send(a, b"one", 0)?;
    send_message(a, b"two", &control(1, &[a]), 0)?;
    send(a, b"three", 0)?;
    let mut bytes = [0; 32];
    // Up to and with the message that carries something, not beyond.
    let message = receive_message(b, &mut bytes, 64, 0)?;
    equal!((message.len, message.control.len()), (6, 1));
    let message = receive_message(b, &mut bytes, 64, 0)?;
    equal!((message.len, message.control.len()), (5, 0));
    // Read without room for control data: the descriptors are lost.
    send_message(a, b"x", &control(1, &[a]), 0)?;
    equal!(io::read(b, &mut bytes)?, 1);
    Ok(())
}

fn descriptors_that_do_not_fit() -> Outcome {
    let (a, b) = pair(STREAM)?;
    send_message(a, b"x", &control(1, &[a, a, a]), 0)?;
    let message = receive_message(b, &mut [0; 4], 20, 0)?;
    equal!(message.flags & CTRUNC, CTRUNC);
    equal!(message.control[0].1.len(), 1);
    send_message(a, b"x", &control(1, &[a]), 0)?;
    let message = receive_message(b, &mut [0; 4], 0, 0)?;
    equal!((message.flags & CTRUNC, message.control.len()), (CTRUNC, 0));
    Ok(())
}

fn pass_credentials() -> Outcome {
    let own = process::getpid() as i32;
    // SAFETY: 1. no memory is named.
    let ids = unsafe { [syscall!(__NR_geteuid)? as i32, syscall!(__NR_getegid)? as i32] };
    for kind in [STREAM, DGRAM] {
        let (a, b) = pair(kind)?;
        set_option(b, PASSCRED, &1u32.to_ne_bytes())?;
        send(a, b"x", 0)?;
        let message = receive_message(b, &mut [0; 4], 64, 0)?;
        equal!(message.control, [(2, alloc::vec![own, ids[0], ids[1]])]);
        send_message(a, b"x", &control(2, &[own, ids[0], ids[1]]), 0)?;
        let message = receive_message(b, &mut [0; 4], 64, 0)?;
        equal!(message.control.len(), 1);
    }
    // Two writers are told apart.
    let (a, b) = pair(STREAM)?;
    set_option(b, PASSCRED, &1u32.to_ne_bytes())?;
    send(a, b"mine", 0)?;
    equal!(process::in_child(|| send(a, b"its", 0).map_or(1, |_| 0))?.exit_code(), Some(0));
    let message = receive_message(b, &mut [0; 16], 64, 0)?;
    equal!((message.len, message.control[0].1[0] == own), (4, true));
    let message = receive_message(b, &mut [0; 16], 64, 0)?;
    equal!((message.len, message.control[0].1[0] == own), (3, false));
    Ok(())
}

fn peer_credentials() -> Outcome {
    let name = unique("peercred");
    let server = socket(STREAM)?;
    bind(server, &name)?;
    listen(server, 1)?;
    let own = process::getpid() as i32;
    let Some(child) = process::fork()? else {
        let client = socket(STREAM);
        let ok = client.is_ok_and(|fd| {
            connect(fd, &name).is_ok() && option::<3>(fd, 17).is_ok_and(|cred| cred[0] == own)
        });
        process::exit(i32::from(!ok));
    };
    let peer = accept(server)?;
    equal!(option::<3>(peer, 17)?[0], child as i32);
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    let (a, _b) = pair(STREAM)?;
    equal!(option::<3>(a, 17)?[0], own);
    equal!(option::<3>(socket(STREAM)?, 17)?, [0, -1, -1]);
    Ok(())
}

// ---- the rest ----

fn readiness() -> Outcome {
    let (a, b) = pair(STREAM)?;
    equal!(events(a, IN | OUT | RDHUP)?, OUT);
    send(b, b"x", 0)?;
    equal!(events(a, IN | OUT | RDHUP)?, IN | OUT);
    shutdown(b, 1)?;
    equal!(events(a, IN | OUT | RDHUP)?, IN | OUT | RDHUP);
    io::close(b)?;
    equal!(events(a, IN | OUT | RDHUP)? & (IN | OUT | HUP | RDHUP), IN | OUT | HUP | RDHUP);
    equal!(events(socket(STREAM)?, IN | OUT)?, OUT | HUP);
    let name = unique("ready");
    let server = socket(STREAM)?;
    bind(server, &name)?;
    listen(server, 1)?;
    equal!(events(server, IN | OUT)?, 0);
    connect(socket(STREAM)?, &name)?;
    equal!(events(server, IN | OUT)?, IN);
    // Full in one direction only.
    let (a, b) = pair(STREAM | SOCK_NONBLOCK)?;
    while send(a, &[0; 4096], 0).is_ok() {}
    equal!((events(a, IN | OUT)?, events(b, IN | OUT)?), (0, IN | OUT));
    Ok(())
}

fn timeouts() -> Outcome {
    let (a, b) = pair(STREAM)?;
    let limit: [u64; 2] = [0, 20_000];
    let bytes: Vec<u8> = limit.iter().flat_map(|word| word.to_ne_bytes()).collect();
    set_option(a, 20, &bytes)?;
    let start = time::now_ns();
    equal!(io::read(a, &mut [0]), Err(Errno::EAGAIN));
    equal!(receive(a, &mut [0], 0), Err(Errno::EAGAIN));
    ensure!(time::now_ns() - start >= 40_000_000, "too early");
    set_option(b, 21, &bytes)?;
    while send(b, &[0; 4096], 0).is_ok() {}
    equal!(send(b, &[0; 4096], 0), Err(Errno::EAGAIN));
    equal!(option::<4>(a, 20)?, [0, 0, 20_000, 0]);
    equal!(set_option(a, 20, &[0, 0]), Err(Errno::EINVAL));
    Ok(())
}

fn options() -> Outcome {
    let fd = socket(SEQPACKET)?;
    equal!(option::<1>(fd, 3)?, [5]);
    equal!(option::<1>(fd, 39)?, [1]);
    equal!(option::<1>(fd, 4)?, [0]);
    equal!(option::<1>(fd, 30)?, [0]);
    set_option(fd, 7, &10_000u32.to_ne_bytes())?;
    equal!(option::<1>(fd, 7)?, [20_000]);
    set_option(fd, 7, &1u32.to_ne_bytes())?;
    ensure!(option::<1>(fd, 7)?[0] > 1000, "a tiny buffer");
    set_option(fd, PASSCRED, &1u32.to_ne_bytes())?;
    equal!(option::<1>(fd, PASSCRED)?, [1]);
    equal!(set_option(fd, 3, &1u32.to_ne_bytes()), Err(Errno::ENOPROTOOPT));
    equal!(set_option(fd, 999, &1u32.to_ne_bytes()), Err(Errno::ENOPROTOOPT));
    equal!(option::<1>(fd, 999), Err(Errno::ENOPROTOOPT));
    let name = unique("options");
    bind(fd, &name)?;
    listen(fd, 1)?;
    equal!(option::<1>(fd, 30)?, [1]);
    Ok(())
}

fn nonblocking() -> Outcome {
    let (a, b) = pair(STREAM | SOCK_NONBLOCK)?;
    equal!(io::read(a, &mut [0]), Err(Errno::EAGAIN));
    let mut sent = 0;
    let refused = loop {
        match send(a, &[7; 10_000], 0) {
            Ok(count) => sent += count,
            Err(errno) => break errno,
        }
        ensure!(sent < 10_000_000, "no limit");
    };
    equal!(refused, Errno::EAGAIN);
    let mut got = 0;
    let mut bytes = [0; 3000];
    while let Ok(count) = receive(b, &mut bytes, 0) {
        got += count;
    }
    equal!(got, sent);
    let server = socket(STREAM | SOCK_NONBLOCK)?;
    bind(server, &unique("nonblocking"))?;
    listen(server, 1)?;
    equal!(accept(server), Err(Errno::EAGAIN));
    Ok(())
}

fn many_messages() -> Outcome {
    let (a, b) = pair(SEQPACKET)?;
    if process::fork()?.is_none() {
        let mut bytes = [0; 64];
        for n in 0..5000usize {
            let len = n % 60 + 1;
            if receive(b, &mut bytes, 0) != Ok(len) || bytes[0] != n as u8 {
                process::exit(1);
            }
        }
        let _ = send(b, b"done", 0);
        process::exit(0);
    }
    for n in 0..5000usize {
        send(a, &[n as u8; 64][..n % 60 + 1], 0)?;
    }
    let mut bytes = [0; 8];
    equal!(receive(a, &mut bytes, 0)?, 4);
    Ok(())
}

/// Sockets sent through themselves end when nobody can reach them: the pipe that went along shows it.
fn lost_descriptors() -> Outcome {
    let (read, write) = io::pipe(O_NONBLOCK)?;
    let (a, b) = pair(STREAM)?;
    send_message(a, b"x", &control(1, &[b, write]), 0)?;
    let (c, d) = pair(DGRAM)?;
    send_message(c, b"x", &control(1, &[a]), 0)?;
    send_message(a, b"x", &control(1, &[d, c]), 0)?;
    io::close(write)?;
    equal!(io::read(read, &mut [0]), Err(Errno::EAGAIN));
    for fd in [a, b, c, d] {
        io::close(fd)?;
    }
    // Linux collects in the background.
    let mut ended = false;
    for _ in 0..200 {
        let (one, two) = pair(STREAM)?;
        io::close(one)?;
        io::close(two)?;
        ended = io::read(read, &mut [0]) == Ok(0);
        if ended {
            break;
        }
        time::sleep_ns(10_000_000);
    }
    ensure!(ended, "the lost sockets live on");
    Ok(())
}

fn errors() -> Outcome {
    // SAFETY: 1. no memory is named.
    let make =
        |family: i32, kind: u32, protocol: i32| unsafe { syscall!(__NR_socket, family, kind, protocol) };
    equal!(make(99, STREAM, 0), Err(Errno::EAFNOSUPPORT));
    equal!(make(1, 99, 0), Err(Errno::EINVAL));
    equal!(make(1, 4, 0), Err(Errno::ESOCKTNOSUPPORT));
    equal!(make(1, STREAM, 99), Err(Errno::EPROTONOSUPPORT));
    let (pipe, _keep) = io::pipe(0)?;
    equal!(listen(pipe, 1), Err(Errno::ENOTSOCK));
    equal!(listen(999, 1), Err(Errno::EBADF));
    let (a, _b) = pair(STREAM)?;
    equal!(io::seek(a, 0, 0), Err(Errno::ESPIPE));
    equal!(send_to(a, b"x", 0, b"/x\0"), Err(Errno::EISCONN));
    // SAFETY: 1. the kernel refuses the address.
    equal!(unsafe { syscall!(__NR_sendto, a, 8, 4, 0, 0, 0) }, Err(Errno::EFAULT));
    // SAFETY: 1. the kernel refuses the address.
    equal!(unsafe { syscall!(__NR_bind, a, 8, 10) }, Err(Errno::EFAULT));
    Ok(())
}
