//! Sockets: socket(2), bind(2), listen(2), accept(2), connect(2), send(2), recv(2) and their kin.

use crate::fs::{caller, check_user_range, install, read_segments, write_error};
use crate::{Ctx, Errno, Result};
use abi::cap::{CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN};
use abi::fs::IOV_MAX;
use abi::resource::RLIMIT_NOFILE;
use abi::socket::*;
use abi::time::Timespec;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use kcore::{Thread, usermem};
use socket::{Control, Credentials, Incoming, Item, Outgoing, Party, Shutdown, Socket};
use vfs::{Caller, File, IoBuf, Segment};

/// The longest control buffer that is taken (net.core.optmem_max).
const CONTROL_MAX: usize = 131_072;

fn party<'a>(ctx: &'a Ctx) -> Party<'a> {
    Party { caller: caller(ctx), pid: ctx.process.pid() }
}

/// For write(2), which does not hand its caller down.
pub fn with_current_party(act: &mut dyn FnMut(&Party)) {
    let Some(thread) = Thread::current() else { return };
    let (cred, Some(fs)) = (thread.cred(), thread.fs()) else { return };
    act(&Party { caller: Caller::new(&cred, &fs), pid: thread.process().pid() });
}

/// A descriptor that is a socket, and whether it blocks.
struct Open {
    file: Arc<File>,
    socket: Arc<dyn Socket>,
}

impl Open {
    fn get(ctx: &Ctx, fd: i32) -> Result<Open> {
        let file = ctx.files().get(fd)?;
        let socket = socket::of_file(&file)?.clone();
        Ok(Open { file, socket })
    }

    fn nonblocking(&self) -> bool {
        self.file.is_nonblocking()
    }
}

// ---- making ----

/// Splits type and flags. EINVAL.
fn kind_of(kind: u32) -> Result<(u32, bool, bool)> {
    let flags = kind & !SOCK_TYPE_MASK;
    let kind = kind & SOCK_TYPE_MASK;
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 || kind >= SOCK_MAX {
        return Err(Errno::EINVAL);
    }
    Ok((kind, flags & SOCK_CLOEXEC != 0, flags & SOCK_NONBLOCK != 0))
}

/// socket(2).
pub fn socket(ctx: &mut Ctx, family: i32, kind: u32, protocol: i32) -> Result<usize> {
    let (kind, close_on_exec, nonblocking) = kind_of(kind)?;
    let who = party(ctx);
    let new = socket::find_family(family)?.create(kind, protocol, &who)?;
    install(ctx, socket::file(new, nonblocking, &who), close_on_exec)
}

/// socketpair(2).
pub fn socketpair(ctx: &mut Ctx, family: i32, kind: u32, protocol: i32, fds: usize) -> Result<usize> {
    let (kind, close_on_exec, nonblocking) = kind_of(kind)?;
    let who = party(ctx);
    let (a, b) = socket::find_family(family)?.pair(kind, protocol, &who)?;
    let limit = ctx.limit(RLIMIT_NOFILE);
    let files = [a, b].map(|end| socket::file(end, nonblocking, &who));
    let first = ctx.files().reserve(close_on_exec, limit)?;
    let second = ctx.files().reserve(close_on_exec, limit)?;
    usermem::write(fds, &[first.number(), second.number()])?;
    let [a, b] = files;
    first.fill(a);
    second.fill(b);
    Ok(0)
}

// ---- addresses ----

/// A program's address. EINVAL when it is longer than any.
fn read_address(address: usize, len: u32) -> Result<Vec<u8>> {
    let len = len as usize;
    if len > SOCKADDR_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; len];
    usermem::read_bytes(address, &mut bytes)?;
    Ok(bytes)
}

/// Gives an address: as much as fits, and its whole length.
fn write_address(bytes: &[u8], address: usize, len: usize) -> Result<()> {
    let room: i32 = usermem::read(len)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    usermem::write_bytes(address, &bytes[..bytes.len().min(room)])?;
    usermem::write(len, &(bytes.len() as u32))
}

/// bind(2).
pub fn bind(ctx: &mut Ctx, fd: i32, address: usize, len: u32) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    let address = read_address(address, len)?;
    open.socket.bind(&address, &party(ctx)).map(|()| 0)
}

/// listen(2).
pub fn listen(ctx: &mut Ctx, fd: i32, backlog: i32) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    // A negative number is a large one, as on Linux.
    open.socket.listen((backlog as u32).min(SOMAXCONN), &party(ctx)).map(|()| 0)
}

/// connect(2).
pub fn connect(ctx: &mut Ctx, fd: i32, address: usize, len: u32) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    let address = read_address(address, len)?;
    socket::connect(&*open.socket, open.nonblocking(), &address, &party(ctx)).map(|()| 0)
}

/// accept(2).
pub fn accept(ctx: &mut Ctx, fd: i32, address: usize, len: usize) -> Result<usize> {
    accept4(ctx, fd, address, len, 0)
}

/// accept4(2).
pub fn accept4(ctx: &mut Ctx, fd: i32, address: usize, len: usize, flags: u32) -> Result<usize> {
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let open = Open::get(ctx, fd)?;
    // The number first: a connection that was taken cannot be put back.
    let files = ctx.files_arc().clone();
    let reserved = files.reserve(flags & SOCK_CLOEXEC != 0, ctx.limit(RLIMIT_NOFILE))?;
    let new = socket::accept(&*open.socket, open.nonblocking())?;
    let file = socket::file(new.clone(), flags & SOCK_NONBLOCK != 0, &party(ctx));
    if address != 0 {
        let peer = new.peer_name().map_err(|_| Errno::ECONNABORTED)?;
        write_address(&peer, address, len)?;
    }
    Ok(reserved.fill(file) as usize)
}

/// getsockname(2).
pub fn getsockname(ctx: &mut Ctx, fd: i32, address: usize, len: usize) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    write_address(&open.socket.name()?, address, len).map(|()| 0)
}

/// getpeername(2).
pub fn getpeername(ctx: &mut Ctx, fd: i32, address: usize, len: usize) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    write_address(&open.socket.peer_name()?, address, len).map(|()| 0)
}

/// shutdown(2).
pub fn shutdown(ctx: &mut Ctx, fd: i32, how: i32) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    let how = match how {
        SHUT_RD => Shutdown { receiving: true, sending: false },
        SHUT_WR => Shutdown { receiving: false, sending: true },
        SHUT_RDWR => Shutdown { receiving: true, sending: true },
        _ => return Err(Errno::EINVAL),
    };
    open.socket.shutdown(how).map(|()| 0)
}

// ---- options ----

/// setsockopt(2).
pub fn setsockopt(ctx: &mut Ctx, fd: i32, level: i32, name: i32, value: usize, len: i32) -> Result<usize> {
    const LONGEST: usize = 256;
    let open = Open::get(ctx, fd)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    let mut bytes = alloc::vec![0; len.min(LONGEST)];
    usermem::read_bytes(value, &mut bytes)?;
    let who = party(ctx);
    if level == SOL_SOCKET {
        open.socket.options().set(name, &bytes, &who)?;
    }
    open.socket.set_option(level, name, &bytes, &who).map(|()| 0)
}

/// getsockopt(2).
pub fn getsockopt(ctx: &mut Ctx, fd: i32, level: i32, name: i32, value: usize, len: usize) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    let room: i32 = usermem::read(len)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let common = if level == SOL_SOCKET { open.socket.options().get(name) } else { None };
    let bytes = match common {
        Some(bytes) => bytes,
        None => open.socket.option(level, name)?,
    };
    let given = bytes.len().min(room);
    usermem::write_bytes(value, &bytes[..given])?;
    usermem::write(len, &(given as u32)).map(|()| 0)
}

// ---- control data ----

/// Resolves what a program wants to send along. EBADF, EPERM, EINVAL.
fn read_control(ctx: &Ctx, header: &MsgHdr) -> Result<Control> {
    let mut control = Control::default();
    let len = usize::try_from(header.control_len).map_err(|_| Errno::ENOBUFS)?;
    if len == 0 {
        return Ok(control);
    }
    if len > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
    bytes.resize(len, 0);
    usermem::read_bytes(header.control as usize, &mut bytes)?;
    for item in socket::parse_control(&bytes)? {
        match item {
            Item::Rights(fds) => {
                if control.files.len() + fds.len() > SCM_MAX_FD {
                    return Err(Errno::EINVAL);
                }
                for fd in fds {
                    control.files.push(ctx.files().get_any(fd)?);
                }
            }
            Item::Credentials(credentials) => {
                check_credentials(ctx, credentials)?;
                control.credentials = Some(credentials);
            }
        }
    }
    Ok(control)
}

/// A program may only claim to be what it is, unless it is privileged (unix(7), SCM_CREDENTIALS).
fn check_credentials(ctx: &Ctx, claimed: Credentials) -> Result<()> {
    let cred = ctx.cred();
    let pid = claimed.pid == ctx.process.pid() || ctx.capable(CAP_SYS_ADMIN);
    let uid = [cred.uid, cred.euid, cred.suid].contains(&claimed.uid) || ctx.capable(CAP_SETUID);
    let gid = [cred.gid, cred.egid, cred.sgid].contains(&claimed.gid) || ctx.capable(CAP_SETGID);
    if pid && uid && gid { Ok(()) } else { Err(Errno::EPERM) }
}

/// Writes what came along into the program's control buffer; its length and `MSG_CTRUNC`. Descriptors that do not fit
/// are closed.
fn write_control(ctx: &Ctx, message: &mut Incoming, at: usize, room: usize) -> Result<(usize, u32)> {
    let mut out = Vec::new();
    let mut cut = false;
    if let Some(credentials) = message.credentials {
        cut |= socket::push_control(&mut out, room, SCM_CREDENTIALS, &credentials.to_bytes());
    }
    if !message.files.is_empty() {
        let fits = room.saturating_sub(out.len()).saturating_sub(CmsgHdr::SIZE) / 4;
        let mut numbers = Vec::new();
        let close_on_exec = message.flags & MSG_CMSG_CLOEXEC != 0;
        for file in message.files.drain(..) {
            let number = if numbers.len() < 4 * fits {
                ctx.files().insert(file, close_on_exec, ctx.limit(RLIMIT_NOFILE)).ok()
            } else {
                None
            };
            match number {
                Some(number) => numbers.extend_from_slice(&number.to_ne_bytes()),
                None => cut = true,
            }
        }
        if !numbers.is_empty() {
            cut |= socket::push_control(&mut out, room, SCM_RIGHTS, &numbers);
        }
    }
    usermem::write_bytes(at, &out)?;
    Ok((out.len(), if cut { MSG_CTRUNC } else { 0 }))
}

// ---- sending ----

fn send_message(
    ctx: &Ctx,
    open: &Open,
    mut data: IoBuf,
    address: Option<&[u8]>,
    control: Control,
    flags: u32,
) -> Result<usize> {
    let mut message = Outgoing { data: &mut data, address, target: None, control, flags };
    let result = socket::send(&*open.socket, open.nonblocking(), &mut message, &party(ctx));
    // Only a connection that broke raises SIGPIPE.
    let silent = flags & MSG_NOSIGNAL != 0 || open.socket.options().kind != SOCK_STREAM;
    result.map_err(|errno| if silent { errno } else { write_error(ctx, errno, u64::MAX) })
}

/// sendto(2); send(2) is this without an address.
pub fn sendto(
    ctx: &mut Ctx,
    fd: i32,
    buf: usize,
    len: usize,
    flags: u32,
    address: usize,
    address_len: u32,
) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    check_user_range(buf, len)?;
    let address = match address {
        0 => None,
        at => Some(read_address(at, address_len)?),
    };
    send_message(ctx, &open, IoBuf::user(buf, len), address.as_deref(), Control::default(), flags)
}

fn read_header(at: usize) -> Result<MsgHdr> {
    let mut bytes = [0; MsgHdr::SIZE];
    usermem::read_bytes(at, &mut bytes)?;
    Ok(MsgHdr::from_bytes(&bytes))
}

/// The memory of a message. EMSGSIZE for too many pieces.
fn segments_of(header: &MsgHdr) -> Result<Vec<Segment>> {
    if header.iov_len > IOV_MAX as u64 {
        return Err(Errno::EMSGSIZE);
    }
    read_segments(header.iov as usize, header.iov_len as usize)
}

fn send_one(ctx: &Ctx, open: &Open, at: usize, flags: u32) -> Result<usize> {
    let header = read_header(at)?;
    let segments = segments_of(&header)?;
    let address = match (header.name, header.name_len) {
        (0, _) | (_, 0) => None,
        (_, len) if len as i32 <= 0 => return Err(Errno::EINVAL),
        // Longer than any address is cut, as Linux does here.
        (at, len) => Some(read_address(at as usize, len.min(SOCKADDR_MAX as u32))?),
    };
    let control = read_control(ctx, &header)?;
    send_message(ctx, open, IoBuf::segments(&segments)?, address.as_deref(), control, flags)
}

/// sendmsg(2).
pub fn sendmsg(ctx: &mut Ctx, fd: i32, message: usize, flags: u32) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    send_one(ctx, &open, message, flags)
}

/// Bytes of `struct mmsghdr`: a message and its result.
const MMSGHDR: usize = 64;

/// sendmmsg(2).
pub fn sendmmsg(ctx: &mut Ctx, fd: i32, messages: usize, count: u32, flags: u32) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    let mut done = 0;
    while done < (count as usize).min(IOV_MAX) {
        let at = messages.wrapping_add(done * MMSGHDR);
        let sent = send_one(ctx, &open, at, flags)
            .and_then(|len| usermem::write(at.wrapping_add(MsgHdr::SIZE), &(len as u32)));
        match sent {
            Ok(()) => done += 1,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

// ---- receiving ----

/// recvfrom(2); recv(2) is this without an address.
pub fn recvfrom(
    ctx: &mut Ctx,
    fd: i32,
    buf: usize,
    len: usize,
    flags: u32,
    address: usize,
    address_len: usize,
) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    check_user_range(buf, len)?;
    let mut data = IoBuf::user(buf, len);
    let mut message = Incoming::new(&mut data, flags);
    let received = socket::receive(&*open.socket, open.nonblocking(), &mut message)?;
    if address != 0 {
        write_address(&message.address, address, address_len)?;
    }
    Ok(received)
}

fn receive_one(ctx: &Ctx, open: &Open, at: usize, flags: u32) -> Result<usize> {
    let mut header = read_header(at)?;
    let segments = segments_of(&header)?;
    let mut data = IoBuf::segments(&segments)?;
    let mut message = Incoming::new(&mut data, flags);
    let received = socket::receive(&*open.socket, open.nonblocking(), &mut message)?;
    if header.name != 0 {
        let room = usize::try_from(header.name_len as i32).map_err(|_| Errno::EINVAL)?;
        let address = &message.address;
        usermem::write_bytes(header.name as usize, &address[..address.len().min(room)])?;
        header.name_len = address.len() as u32;
    }
    let room = usize::try_from(header.control_len).unwrap_or(usize::MAX);
    let (control_len, cut) = write_control(ctx, &mut message, header.control as usize, room)?;
    header.control_len = control_len as u64;
    header.flags = message.result_flags | cut | flags & MSG_CMSG_CLOEXEC;
    // The pointers are the program's own: only what the call answers is written.
    usermem::write(at + 8, &header.name_len)?;
    usermem::write(at + 40, &header.control_len)?;
    usermem::write(at + 48, &header.flags)?;
    Ok(received)
}

/// recvmsg(2).
pub fn recvmsg(ctx: &mut Ctx, fd: i32, message: usize, flags: u32) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    receive_one(ctx, &open, message, flags)
}

/// recvmmsg(2). The time limit is looked at after each message, as on Linux (recvmmsg(2), BUGS).
pub fn recvmmsg(
    ctx: &mut Ctx,
    fd: i32,
    messages: usize,
    count: u32,
    flags: u32,
    timeout: usize,
) -> Result<usize> {
    let open = Open::get(ctx, fd)?;
    let deadline_ns = match timeout {
        0 => None,
        at => {
            let limit: Timespec = usermem::read(at)?;
            Some(time::monotonic_ns().saturating_add(limit.to_ns().ok_or(Errno::EINVAL)?))
        }
    };
    let mut flags_now = flags & !MSG_WAITFORONE;
    let mut done = 0;
    while done < (count as usize).min(IOV_MAX) {
        let at = messages.wrapping_add(done * MMSGHDR);
        let received = receive_one(ctx, &open, at, flags_now)
            .and_then(|len| usermem::write(at.wrapping_add(MsgHdr::SIZE), &(len as u32)));
        match received {
            Ok(()) => done += 1,
            Err(errno) if done == 0 => return Err(errno),
            Err(Errno::EAGAIN) => break,
            Err(errno) => {
                // Told by the next call.
                open.socket.options().error.store(errno.number(), Relaxed);
                break;
            }
        }
        if flags & MSG_WAITFORONE != 0 {
            flags_now |= MSG_DONTWAIT;
        }
        if deadline_ns.is_some_and(|deadline_ns| time::monotonic_ns() >= deadline_ns) {
            break;
        }
    }
    Ok(done)
}
