//! POSIX message queues: mq_open(2) and its family.

use crate::fs::{caller, install};
use crate::{Ctx, Errno, Result};
use abi::fcntl::{O_ACCMODE, O_CREAT, O_NONBLOCK};
use abi::fs::PATH_MAX;
use abi::ipc::{MQ_PRIO_MAX, MqAttr};
use abi::signal::{SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGNAL_MAX, SigEvent};
use abi::time::Timespec;
use alloc::sync::Arc;
use kcore::usermem;
use mqueue::{Capacity, Message, Wanted};
use vfs::{File, FileMode};

pub fn mq_open(ctx: &mut Ctx, name: usize, flags: u32, mode: u32, attributes: usize) -> Result<usize> {
    let capacity = match attributes {
        0 => None,
        at => {
            let wanted: MqAttr = usermem::read(at)?;
            // What is negative is beyond every limit.
            Some(Capacity { messages: wanted.max_messages as u64, bytes: wanted.message_bytes as u64 })
        }
    };
    let name = usermem::read_cstr(name, PATH_MAX)?;
    let mode = if flags & O_CREAT != 0 { mode } else { 0 };
    let file = mqueue::open(&caller(ctx), &name, flags, mode, capacity)?;
    install(ctx, file, true)
}

pub fn mq_unlink(ctx: &mut Ctx, name: usize) -> Result<usize> {
    let name = usermem::read_cstr(name, PATH_MAX)?;
    mqueue::unlink(&caller(ctx), &name).map(|()| 0)
}

/// A queue that was opened for `right`. EBADF.
fn queue_file(ctx: &Ctx, fd: i32, right: FileMode) -> Result<Arc<File>> {
    let file = ctx.files().get(fd)?;
    mqueue::of_file(&file)?;
    if file.mode().contains(right) { Ok(file) } else { Err(Errno::EBADF) }
}

/// The time of the real-time clock at `timeout`, as monotonic time. EINVAL.
fn deadline(timeout: usize) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let at: Timespec = usermem::read(timeout)?;
    let left_ns = at.to_ns().ok_or(Errno::EINVAL)?.saturating_sub(time::realtime_ns());
    Ok(Some(time::monotonic_ns().saturating_add(left_ns)))
}

pub fn mq_timedsend(
    ctx: &mut Ctx,
    fd: i32,
    message: usize,
    len: usize,
    priority: u32,
    timeout: usize,
) -> Result<usize> {
    let deadline_ns = deadline(timeout)?;
    if priority >= MQ_PRIO_MAX {
        return Err(Errno::EINVAL);
    }
    let file = queue_file(ctx, fd, FileMode::WRITE)?;
    let queue = mqueue::of_file(&file)?;
    if len as u64 > queue.capacity().bytes {
        return Err(Errno::EMSGSIZE);
    }
    let bytes = mem::user::read_array(message, len)?;
    let wanted = Wanted { nonblocking: file.is_nonblocking(), deadline_ns };
    queue.send(ctx, Message { priority, bytes }, &wanted)?;
    file.inode().touch_modified();
    Ok(0)
}

pub fn mq_timedreceive(
    ctx: &mut Ctx,
    fd: i32,
    message: usize,
    len: usize,
    priority: usize,
    timeout: usize,
) -> Result<usize> {
    let deadline_ns = deadline(timeout)?;
    let file = queue_file(ctx, fd, FileMode::READ)?;
    let queue = mqueue::of_file(&file)?;
    if (len as u64) < queue.capacity().bytes {
        return Err(Errno::EMSGSIZE);
    }
    let got = queue.receive(&Wanted { nonblocking: file.is_nonblocking(), deadline_ns })?;
    usermem::write_opt(priority, &got.priority)?;
    usermem::write_bytes(message, &got.bytes)?;
    file.inode().touch_modified();
    Ok(got.bytes.len())
}

/// mq_notify(2). SIGEV_THREAD comes with a netlink socket that the C library made: there is none here.
pub fn mq_notify(ctx: &mut Ctx, fd: i32, event: usize) -> Result<usize> {
    let event = match event {
        0 => None,
        at => Some(usermem::read::<SigEvent>(at)?),
    };
    match &event {
        None => {}
        Some(event) if event.notify == SIGEV_NONE => {}
        Some(event) if event.notify == SIGEV_SIGNAL => {
            if !u32::try_from(event.signo).is_ok_and(|signo| signo <= SIGNAL_MAX) {
                return Err(Errno::EINVAL);
            }
        }
        Some(event) if event.notify == SIGEV_THREAD => {
            let file = ctx.files().get(event.signo)?;
            let is_socket = file.inode().mode() & abi::stat::S_IFMT == abi::stat::S_IFSOCK;
            return Err(if is_socket { Errno::EINVAL } else { Errno::ENOTSOCK });
        }
        Some(_) => return Err(Errno::EINVAL),
    }
    let file = ctx.files().get(fd)?;
    let queue = mqueue::of_file(&file)?;
    let pid = ctx.process.pid();
    match event {
        None => queue.clear_notify(pid),
        Some(event) => queue.set_notify(pid, event)?,
    }
    Ok(0)
}

pub fn mq_getsetattr(ctx: &mut Ctx, fd: i32, new: usize, old: usize) -> Result<usize> {
    let new = match new {
        0 => None,
        at => {
            let new: MqAttr = usermem::read(at)?;
            if new.flags & !i64::from(O_NONBLOCK) != 0 {
                return Err(Errno::EINVAL);
            }
            Some(new)
        }
    };
    let file = ctx.files().get(fd)?;
    let queue = mqueue::of_file(&file)?;
    let capacity = queue.capacity();
    let before = MqAttr {
        flags: i64::from(file.flags() & O_NONBLOCK),
        max_messages: capacity.messages as i64,
        message_bytes: capacity.bytes as i64,
        messages: queue.count() as i64,
        reserved: [0; 4],
    };
    if let Some(new) = new {
        let kept = file.flags() & !(O_NONBLOCK | O_ACCMODE);
        file.set_flags(kept | new.flags as u32 & O_NONBLOCK)?;
    }
    usermem::write_opt(old, &before).map(|()| 0)
}
