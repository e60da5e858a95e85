//! Moving bytes between files inside the kernel: sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2).
//!
//! All go through one kernel buffer, except tee, which shares pages. Passing page-cache folios into a pipe
//! without a copy was left out: under it the file can change while the pipe holds it.

use crate::file::{File, FileMode};
use crate::iobuf::IoBuf;
use crate::pipe;
use abi::fcntl::{O_APPEND, SPLICE_F_NONBLOCK};
use abi::fs::MAX_RW_COUNT;
use abi::poll::PollEvents;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes moved at a time.
const CHUNK: usize = 16 * 4096;

fn buffer(len: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len.min(CHUNK)).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(len.min(CHUNK), 0);
    Ok(buffer)
}

fn read_some(file: &File, pos: &mut Option<u64>, buf: &mut [u8], nowait: bool) -> Result<usize> {
    let mut io = IoBuf::kernel_out(buf);
    io.nowait = nowait;
    match pos {
        Some(at) => {
            let count = file.read_at(*at, &mut io)?;
            *at += count as u64;
            Ok(count)
        }
        None => file.read(&mut io),
    }
}

fn write_some(file: &File, pos: &mut Option<u64>, bytes: &[u8], limit: u64, nowait: bool) -> Result<usize> {
    let mut io = IoBuf::kernel_in(bytes);
    io.nowait = nowait;
    io.size_limit = limit;
    match pos {
        Some(at) => {
            let count = file.write_at(*at, &mut io)?;
            *at += count as u64;
            Ok(count)
        }
        None => file.write(&mut io),
    }
}

/// Gives back to the source what the target did not take.
fn unread(file: &File, pos: &mut Option<u64>, count: usize) {
    match pos {
        Some(at) => *at -= count as u64,
        None => {
            let back = i64::try_from(count).unwrap_or(0);
            // A source without a position loses the bytes; sendfile refuses such sources.
            let _ = file.seek(-back, abi::fcntl::SEEK_CUR);
        }
    }
}

/// sendfile(2): from a file (at `*pos`, which moves, or at its own position) to any file.
pub fn sendfile(
    out: &File,
    from: &File,
    pos: &mut Option<u64>,
    count: usize,
    size_limit: u64,
) -> Result<usize> {
    check_modes(from, out)?;
    if out.flags() & O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    if from.traits().contains(crate::FileTraits::STREAM) {
        return Err(if pos.is_some() { Errno::ESPIPE } else { Errno::EINVAL });
    }
    copy(out, &mut None, from, pos, count, size_limit)
}

fn check_modes(from: &File, out: &File) -> Result<()> {
    let allowed = from.mode().contains(FileMode::READ) && out.mode().contains(FileMode::WRITE);
    if allowed { Ok(()) } else { Err(Errno::EBADF) }
}

fn copy(
    out: &File,
    out_pos: &mut Option<u64>,
    from: &File,
    from_pos: &mut Option<u64>,
    count: usize,
    size_limit: u64,
) -> Result<usize> {
    let count = count.min(MAX_RW_COUNT);
    let mut buf = buffer(count)?;
    let mut done = 0;
    while done < count {
        let part = buf.len().min(count - done);
        let got = match read_some(from, from_pos, &mut buf[..part], false) {
            Ok(0) => break,
            Ok(got) => got,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        };
        match write_some(out, out_pos, &buf[..got], size_limit, false) {
            Ok(put) => {
                done += put;
                if put < got {
                    unread(from, from_pos, got - put);
                    break;
                }
            }
            Err(error) => {
                unread(from, from_pos, got);
                return if done > 0 { Ok(done) } else { Err(error) };
            }
        }
        if task::current().signal_pending() {
            break;
        }
    }
    Ok(done)
}

/// copy_file_range(2). Both regular files; arguments checked by the caller.
pub fn copy_file_range(
    from: &File,
    from_pos: &mut Option<u64>,
    out: &File,
    out_pos: &mut Option<u64>,
    len: usize,
    size_limit: u64,
) -> Result<usize> {
    check_modes(from, out)?;
    if out.flags() & O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    for file in [from, out] {
        if file.inode().is_dir() {
            return Err(Errno::EISDIR);
        }
        if !file.inode().is_regular() {
            return Err(Errno::EINVAL);
        }
    }
    if from.inode().same(out.inode()) {
        let start = from_pos.unwrap_or_else(|| from.position());
        let target = out_pos.unwrap_or_else(|| out.position());
        let end = start.saturating_add(len as u64);
        if start < target.saturating_add(len as u64) && target < end {
            return Err(Errno::EINVAL);
        }
    }
    copy(out, out_pos, from, from_pos, len, size_limit)
}

/// splice(2): one side at least is a pipe; the other's position is `*pos` or its own.
pub fn splice(
    from: &Arc<File>,
    from_pos: &mut Option<u64>,
    out: &Arc<File>,
    out_pos: &mut Option<u64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    check_modes(from, out)?;
    if len == 0 {
        return Ok(0);
    }
    let (from_pipe, out_pipe) = (pipe::of_file(from), pipe::of_file(out));
    if from_pipe.is_some() && from_pos.is_some() || out_pipe.is_some() && out_pos.is_some() {
        return Err(Errno::ESPIPE);
    }
    if out.flags() & O_APPEND != 0 && out_pipe.is_none() {
        return Err(Errno::EINVAL);
    }
    match (from_pipe, out_pipe) {
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) => return Err(Errno::EINVAL),
        (None, None) => return Err(Errno::EINVAL),
        _ => {}
    }
    let nowait = flags & SPLICE_F_NONBLOCK != 0;
    match from_pipe {
        Some(pipe) => from_pipe_to(pipe, from, out, out_pos, len, nowait),
        None => to_pipe(from, from_pos, out, len, nowait),
    }
}

/// One buffer from a pipe; what the target does not take goes back in front.
fn from_pipe_to(
    pipe: &pipe::Pipe,
    from: &File,
    out: &File,
    out_pos: &mut Option<u64>,
    len: usize,
    nowait: bool,
) -> Result<usize> {
    let mut buf = buffer(len)?;
    let got = loop {
        match pipe.take_bytes(&mut buf) {
            Err(Errno::EAGAIN) if !nowait && !from.is_nonblocking() => {
                from.wait_ready(PollEvents::READABLE)?
            }
            result => break result?,
        }
    };
    if got == 0 {
        return Ok(0);
    }
    let result = write_some(out, out_pos, &buf[..got], u64::MAX, nowait);
    let put = *result.as_ref().unwrap_or(&0);
    if put < got {
        pipe.put_back(&buf[put..got])?;
    }
    result
}

/// Reads no more than the pipe takes at once, so that nothing has to go back to a source that cannot.
fn to_pipe(from: &File, from_pos: &mut Option<u64>, out: &File, len: usize, nowait: bool) -> Result<usize> {
    loop {
        if out.poll(None).intersects(PollEvents::OUT | PollEvents::ERR) {
            break;
        }
        if nowait || out.is_nonblocking() {
            return Err(Errno::EAGAIN);
        }
        out.wait_ready(PollEvents::WRITABLE)?;
    }
    // One slot is free: a page fits whatever else is in the pipe.
    let mut buf = buffer(len.min(arch::PAGE_SIZE))?;
    let got = read_some(from, from_pos, &mut buf, nowait)?;
    if got == 0 {
        return Ok(0);
    }
    write_some(out, &mut None, &buf[..got], u64::MAX, nowait)
}

/// tee(2).
pub fn tee(from: &Arc<File>, out: &Arc<File>, len: usize, flags: u32) -> Result<usize> {
    check_modes(from, out)?;
    let (Some(from_pipe), Some(out_pipe)) = (pipe::of_file(from), pipe::of_file(out)) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(from_pipe, out_pipe) {
        return Err(Errno::EINVAL);
    }
    loop {
        match from_pipe.tee(out_pipe, len) {
            Err(Errno::EAGAIN) if flags & SPLICE_F_NONBLOCK == 0 => {
                if !from.poll(None).contains(PollEvents::IN) {
                    from.wait_ready(PollEvents::READABLE)?;
                } else {
                    out.wait_ready(PollEvents::WRITABLE)?;
                }
            }
            result => return result,
        }
    }
}

/// vmsplice(2): from user memory into a pipe that can be written, as much as fits once it takes something; or to user
/// memory from one that is read. EBADF for what is no pipe.
pub fn vmsplice(file: &File, buf: &mut IoBuf, flags: u32) -> Result<usize> {
    let pipe = pipe::of_file(file).ok_or(Errno::EBADF)?;
    let writes = file.mode().contains(FileMode::WRITE);
    if !writes && !file.mode().contains(FileMode::READ) {
        return Err(Errno::EBADF);
    }
    let nowait = flags & SPLICE_F_NONBLOCK != 0 || file.is_nonblocking();
    loop {
        let (result, wanted) = match writes {
            true => (pipe.put(buf), PollEvents::WRITABLE),
            false => (pipe.take(buf), PollEvents::READABLE),
        };
        match result {
            Err(Errno::EAGAIN) if !nowait => file.wait_ready(wanted)?,
            result => return result,
        }
    }
}
