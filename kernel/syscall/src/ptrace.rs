//! ptrace(2) and process_vm_readv(2).

use crate::fs::read_segments;
use crate::{Ctx, Errno, Result};
use abi::cap::CAP_SYS_NICE;
use abi::fs::IOV_MAX;
use abi::mm::madv;
use abi::ptrace::*;
use abi::signal::{SIGINFO_BYTES, SIGKILL, SigInfo};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::debug::{DebugRegs, Refused};
use kcore::access::{self, Ids};
use kcore::ptrace::{Kind, Resume, Stop, WORDS};
use kcore::signal::SigSet;
use kcore::{Subject, Thread, creds, pid, pidfd, ptrace as tracing, signal, usermem};
use vfs::Segment;
use zerocopy::IntoBytes;

/// A word of the tracee's memory.
const WORD: usize = size_of::<usize>();

/// ptrace(2).
pub fn ptrace(ctx: &mut Ctx, request: usize, pid: i32, addr: usize, data: usize) -> Result<usize> {
    if request == PTRACE_TRACEME {
        return tracing::trace_me(ctx).map(|()| 0);
    }
    let thread = u32::try_from(pid).ok().and_then(pid::find_thread).ok_or(Errno::ESRCH)?;
    match request {
        PTRACE_ATTACH => tracing::attach(ctx, &thread)?,
        PTRACE_SEIZE => tracing::seize(ctx, &thread, addr, data)?,
        PTRACE_INTERRUPT => {
            own(ctx, &thread)?;
            tracing::interrupt(&thread)?;
        }
        PTRACE_KILL => {
            own(ctx, &thread)?;
            signal::send_process(thread.process(), SigInfo::kernel(SIGKILL))?;
        }
        PTRACE_CONT => tracing::resume(ctx, &thread, Resume::Continue, data)?,
        PTRACE_SYSCALL => tracing::resume(ctx, &thread, Resume::Calls, data)?,
        PTRACE_SINGLESTEP => tracing::resume(ctx, &thread, Resume::Step, data)?,
        PTRACE_DETACH => tracing::resume(ctx, &thread, Resume::Detach, data)?,
        PTRACE_LISTEN => tracing::listen(ctx, &thread)?,
        PTRACE_SETOPTIONS => tracing::set_options(ctx, &thread, data)?,
        _ => return look(ctx, &thread, request, addr, data),
    }
    Ok(0)
}

/// ESRCH unless the caller traces the thread, stopped or not.
fn own(ctx: &Ctx, thread: &Thread) -> Result<()> {
    if thread.is_traced_by(ctx.thread) { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Requests about a tracee at rest.
fn look(ctx: &Ctx, thread: &Arc<Thread>, request: usize, addr: usize, data: usize) -> Result<usize> {
    tracing::with_stop(ctx, thread, |_| Ok(()))?;
    match request {
        PTRACE_PEEKTEXT | PTRACE_PEEKDATA => {
            let mut bytes = [0; WORD];
            transfer(thread, addr, &mut Bytes::Out(&mut bytes))?;
            usermem::write_bytes(data, &bytes)?;
        }
        PTRACE_POKETEXT | PTRACE_POKEDATA => {
            transfer(thread, addr, &mut Bytes::In(&data.to_ne_bytes()))?;
        }
        PTRACE_PEEKUSR => usermem::write(data, &peek_user(ctx, thread, addr)?)?,
        PTRACE_POKEUSR => poke_user(ctx, thread, addr, data as u64)?,
        PTRACE_GETREGS if HAS_GETREGS => usermem::write_bytes(data, tracing::regs(ctx, thread)?.as_bytes())?,
        PTRACE_SETREGS if HAS_GETREGS => {
            let mut words = tracing::regs(ctx, thread)?;
            usermem::read_bytes(data, words.as_mut_bytes())?;
            set_words(ctx, thread, words)?;
        }
        PTRACE_GETFPREGS if HAS_GETREGS => {
            let bytes = tracing::with_stop(ctx, thread, |stop| Ok(stop.float.clone()))?;
            usermem::write_bytes(data, &bytes)?;
        }
        PTRACE_SETFPREGS if HAS_GETREGS => {
            let mut bytes = tracing::with_stop(ctx, thread, |stop| Ok(stop.float.clone()))?;
            usermem::read_bytes(data, &mut bytes)?;
            set_bytes(ctx, thread, NT_PRFPREG, &bytes)?;
        }
        PTRACE_GETREGSET => get_set(ctx, thread, addr, data)?,
        PTRACE_SETREGSET => set_set(ctx, thread, addr, data)?,
        PTRACE_GETEVENTMSG => usermem::write(data, &tracing::event_message(ctx, thread)?)?,
        PTRACE_GETSIGINFO => {
            let info = tracing::signal_info(ctx, thread, None)?;
            usermem::write_bytes(data, &info.to_user())?;
        }
        PTRACE_SETSIGINFO => {
            let mut bytes = [0; SIGINFO_BYTES];
            usermem::read_bytes(data, &mut bytes)?;
            let new: SigInfo = usermem::read(data)?;
            tracing::signal_info(ctx, thread, Some(SigInfo { pad: 0, ..new }))?;
        }
        PTRACE_GETSIGMASK if addr == 8 => {
            usermem::write(data, &tracing::signal_mask(ctx, thread, None)?.bits())?;
        }
        PTRACE_SETSIGMASK if addr == 8 => {
            tracing::signal_mask(ctx, thread, Some(SigSet::from_bits(usermem::read(data)?)))?;
        }
        PTRACE_GETSIGMASK | PTRACE_SETSIGMASK => return Err(Errno::EINVAL),
        PTRACE_GET_SYSCALL_INFO => return call_info(ctx, thread, addr, data),
        _ => return Err(Errno::EIO),
    }
    Ok(0)
}

// ---- memory ----

enum Bytes<'a> {
    Out(&'a mut [u8]),
    In(&'a [u8]),
}

/// Reads or writes a tracee's memory, whatever the program itself may. EIO where there is none.
fn transfer(thread: &Thread, addr: usize, bytes: &mut Bytes) -> Result<()> {
    let mm = thread.process().mm().ok_or(Errno::EIO)?;
    let (done, wanted) = match bytes {
        Bytes::Out(out) => (mm.read_remote(addr, out, true), out.len()),
        Bytes::In(bytes) => (mm.write_remote(addr, bytes, true), bytes.len()),
    };
    if done == wanted { Ok(()) } else { Err(Errno::EIO) }
}

// ---- registers ----

fn set_words(ctx: &Ctx, thread: &Thread, words: [u64; WORDS]) -> Result<()> {
    tracing::with_stop_mut(ctx, thread, |stop| {
        (stop.words, stop.words_changed) = (words, true);
        Ok(())
    })
}

/// The word of `struct user` at an offset: EIO beyond the registers, as no other part of it exists.
fn user_word(addr: usize) -> Result<usize> {
    if !addr.is_multiple_of(WORD) || !HAS_GETREGS {
        return Err(Errno::EIO);
    }
    let at = addr / WORD;
    if at < USER_WORDS { Ok(at) } else { Err(Errno::EIO) }
}

/// Words of x86-64's `struct user`; behind the registers they read as zero.
const USER_WORDS: usize = 116;

/// The first word of `u_debugreg` in x86-64's `struct user`.
const DEBUG_WORD: usize = 848 / WORD;

/// The debug register that a word of `struct user` is.
fn debug_register(word: usize) -> Option<usize> {
    word.checked_sub(DEBUG_WORD).filter(|&number| number < DebugRegs::COUNT)
}

fn peek_user(ctx: &Ctx, thread: &Thread, addr: usize) -> Result<u64> {
    let at = user_word(addr)?;
    if let Some(number) = debug_register(at) {
        return tracing::with_stop(ctx, thread, |stop| Ok(stop.debug.get(number)));
    }
    Ok(tracing::regs(ctx, thread)?.get(at).copied().unwrap_or(0))
}

fn poke_user(ctx: &Ctx, thread: &Thread, addr: usize, value: u64) -> Result<()> {
    let at = user_word(addr)?;
    if let Some(number) = debug_register(at) {
        return tracing::with_stop_mut(ctx, thread, |stop| {
            stop.debug_changed = true;
            stop.debug.set(number, value).map_err(|refused| match refused {
                Refused::Value => Errno::EINVAL,
                Refused::Register => Errno::EIO,
            })
        });
    }
    let mut words = tracing::regs(ctx, thread)?;
    *words.get_mut(at).ok_or(Errno::EIO)? = value;
    set_words(ctx, thread, words)
}

fn bytes_of(stop: &Stop, kind: usize) -> Result<Vec<u8>> {
    match kind {
        NT_PRSTATUS => Ok(stop.words.as_bytes().to_vec()),
        NT_PRFPREG => Ok(stop.float.clone()),
        NT_X86_XSTATE if !stop.extended.is_empty() => Ok(stop.extended.clone()),
        _ => Err(Errno::EINVAL),
    }
}

/// Where a register set goes, as the program says.
fn segment(at: usize) -> Result<Segment> {
    let [addr, len]: [usize; 2] = usermem::read(at)?;
    Ok(Segment { addr, len })
}

/// Where a register set goes. EINVAL for a part of a register, by which gdb finds out how long those of riscv64 are.
fn whole_words(at: usize) -> Result<Segment> {
    let segment = segment(at)?;
    if segment.len.is_multiple_of(WORD) { Ok(segment) } else { Err(Errno::EINVAL) }
}

fn get_set(ctx: &Ctx, thread: &Thread, kind: usize, at: usize) -> Result<()> {
    let to = whole_words(at)?;
    let bytes = tracing::with_stop(ctx, thread, |stop| bytes_of(stop, kind))?;
    let len = to.len.min(bytes.len());
    usermem::write_bytes(to.addr, &bytes[..len])?;
    usermem::write(at + WORD, &len)
}

fn set_set(ctx: &Ctx, thread: &Thread, kind: usize, at: usize) -> Result<()> {
    let from = whole_words(at)?;
    let mut bytes = tracing::with_stop(ctx, thread, |stop| bytes_of(stop, kind))?;
    let len = from.len.min(bytes.len());
    usermem::read_bytes(from.addr, &mut bytes[..len])?;
    set_bytes(ctx, thread, kind, &bytes)?;
    usermem::write(at + WORD, &len)
}

fn set_bytes(ctx: &Ctx, thread: &Thread, kind: usize, bytes: &[u8]) -> Result<()> {
    tracing::with_stop_mut(ctx, thread, |stop| {
        match kind {
            NT_PRSTATUS => {
                stop.words.as_mut_bytes().copy_from_slice(bytes);
                stop.words_changed = true;
            }
            NT_PRFPREG => (stop.float, stop.float_changed) = (bytes.to_vec(), true),
            _ => (stop.extended, stop.extended_changed) = (bytes.to_vec(), true),
        }
        Ok(())
    })
}

/// PTRACE_GET_SYSCALL_INFO: what of the structure means something, in bytes.
fn call_info(ctx: &Ctx, thread: &Thread, room: usize, at: usize) -> Result<usize> {
    let (info, len) = tracing::with_stop(ctx, thread, |stop| Ok(describe(stop)))?;
    let bytes = info.to_bytes();
    usermem::write_bytes(at, &bytes[..room.min(len)])?;
    Ok(len)
}

fn describe(stop: &Stop) -> (SyscallInfo, usize) {
    const HEAD: usize = 24;
    let (pc, sp) = arch::user::ptrace_pc_sp(&stop.words);
    let mut info = SyscallInfo { arch: AUDIT_ARCH, pc, sp, ..SyscallInfo::default() };
    match (stop.kind, stop.call) {
        (Kind::CallEntry, Some((nr, args))) => {
            info.op = PTRACE_SYSCALL_INFO_ENTRY;
            info.nr = nr as u64;
            [info.arg0, info.arg1, info.arg2, info.arg3, info.arg4, info.arg5] = args.map(|arg| arg as u64);
            (info, HEAD + 56)
        }
        (Kind::CallExit, _) => {
            let value = arch::user::ptrace_result(&stop.words);
            info.op = PTRACE_SYSCALL_INFO_EXIT;
            info.nr = value as u64;
            info.arg0 = u64::from((-4095..0).contains(&value));
            (info, HEAD + 9)
        }
        _ => (info, HEAD),
    }
}

// ---- memory of others ----

/// process_vm_readv(2).
pub fn process_vm_readv(
    ctx: &mut Ctx,
    pid: i32,
    local: usize,
    local_count: usize,
    remote: usize,
    remote_count: usize,
    flags: usize,
) -> Result<usize> {
    copy_memory(ctx, pid, (local, local_count), (remote, remote_count), flags, false)
}

/// process_vm_writev(2).
pub fn process_vm_writev(
    ctx: &mut Ctx,
    pid: i32,
    local: usize,
    local_count: usize,
    remote: usize,
    remote_count: usize,
    flags: usize,
) -> Result<usize> {
    copy_memory(ctx, pid, (local, local_count), (remote, remote_count), flags, true)
}

/// process_madvise(2): the bytes that were advised on. EINVAL for an advice that one may not give for others.
pub fn process_madvise(
    ctx: &mut Ctx,
    pidfd: i32,
    segments: usize,
    count: usize,
    advice: i32,
    flags: u32,
) -> Result<usize> {
    if flags != 0 || count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let segments = read_segments(segments, count)?;
    let file = ctx.files().get(pidfd)?;
    let process = pidfd::process_of(&file)?;
    if !matches!(advice, madv::COLD | madv::PAGEOUT | madv::WILLNEED) {
        return Err(Errno::EINVAL);
    }
    let thread = process.main_thread().ok_or(Errno::ESRCH)?;
    let mm = process.mm().ok_or(Errno::ESRCH)?;
    let subject = Subject { process: process.clone(), thread: Some(thread), whole: true };
    access::check(ctx.cred(), ctx.thread.tid(), &subject, Ids::FileSystem)?;
    if !ctx.capable(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let mut done = 0;
    for segment in segments {
        match mm.madvise(segment.addr, segment.len, advice) {
            Ok(()) => done += segment.len,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// process_mrelease(2): gives back the memory of a process that was killed, in the name of who needs it, and not when
/// that process gets round to it.
pub fn process_mrelease(ctx: &mut Ctx, pidfd: i32, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = ctx.files().get_any(pidfd)?;
    let process = pidfd::process_of(&file)?;
    kcore::oom::release_memory(process).map(|()| 0)
}

fn copy_memory(
    ctx: &Ctx,
    pid: i32,
    local: (usize, usize),
    remote: (usize, usize),
    flags: usize,
    write: bool,
) -> Result<usize> {
    if flags != 0 || local.1 > IOV_MAX || remote.1 > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let (local, remote) = (read_segments(local.0, local.1)?, read_segments(remote.0, remote.1)?);
    let thread = u32::try_from(pid).ok().and_then(pid::find_thread).ok_or(Errno::ESRCH)?;
    if !creds::may_trace(ctx, &thread) {
        return Err(Errno::EPERM);
    }
    let mm = thread.process().mm().ok_or(Errno::ESRCH)?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(arch::PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(arch::PAGE_SIZE, 0);
    let mut done = 0;
    let (mut own, mut theirs) = (Cursor::new(&local), Cursor::new(&remote));
    while let (Some(near), Some(far)) = (own.front(), theirs.front()) {
        let part = &mut buffer[..near.len.min(far.len).min(arch::PAGE_SIZE)];
        let copied = if write {
            usermem::read_bytes(near.addr, part).map(|()| mm.write_remote(far.addr, part, false))
        } else {
            let count = mm.read_remote(far.addr, part, false);
            usermem::write_bytes(near.addr, &part[..count]).map(|()| count)
        };
        let copied = copied.unwrap_or(0);
        done += copied;
        if copied < part.len() {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
        own.advance(copied);
        theirs.advance(copied);
    }
    Ok(done)
}

/// A place in a list of segments.
struct Cursor<'a> {
    list: &'a [Segment],
    skip: usize,
}

impl<'a> Cursor<'a> {
    fn new(list: &'a [Segment]) -> Cursor<'a> {
        Cursor { list, skip: 0 }
    }

    /// What is left of the first segment that has something left.
    fn front(&mut self) -> Option<Segment> {
        while self.list.first().is_some_and(|segment| segment.len <= self.skip) {
            self.list = &self.list[1..];
            self.skip = 0;
        }
        let first = self.list.first()?;
        Some(Segment { addr: first.addr.wrapping_add(self.skip), len: first.len - self.skip })
    }

    fn advance(&mut self, by: usize) {
        self.skip += by;
    }
}
