//! Processes: making, running, ending, waiting, belonging.

use crate::{Ctx, Errno, Result};
use abi::cap::{CAP_SYS_ADMIN, CAP_SYS_CHROOT};
use abi::fcntl::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use abi::process::*;
use abi::resource::Rlimit;
use abi::rseq::RSEQ_FLAG_UNREGISTER;
use abi::signal::{SIGCHLD, SIGNAL_MAX, SigInfo};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kcore::exec::{Request, Strings};
use kcore::wait::{Report, Which};
use kcore::{
    Process, clone, exec, exit, jobs, pid, pidfd, prctl as prctls, rlimit, rseq, usage, usermem, wait,
};
use vfs::{Caller, File, Look, Start, nsfs};

pub fn fork(ctx: &mut Ctx) -> Result<usize> {
    clone::clone(ctx, &clone::fork_request()).map(|pid| pid as usize)
}

pub fn vfork(ctx: &mut Ctx) -> Result<usize> {
    clone::clone(ctx, &clone::vfork_request()).map(|pid| pid as usize)
}

/// clone(2). The last two arguments are swapped on x86-64.
pub fn clone(
    ctx: &mut Ctx,
    flags: u64,
    stack: usize,
    parent_tid: usize,
    arg4: usize,
    arg5: usize,
) -> Result<usize> {
    let (tls, child_tid) = if CLONE_TLS_IS_LAST { (arg5, arg4) } else { (arg4, arg5) };
    let flags = flags & 0xffff_ffff;
    let mut request = clone::request_from_flags(flags);
    (request.stack, request.tls) = (stack, tls);
    (request.parent_tid, request.child_tid, request.pidfd) = (parent_tid, child_tid, parent_tid);
    clone::clone(ctx, &request).map(|pid| pid as usize)
}

pub fn clone3(ctx: &mut Ctx, args: usize, size: usize) -> Result<usize> {
    if size > arch::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL);
    }
    let args: CloneArgs = usermem::read_extensible(args, size)?;
    let request = clone::request_from_args(&args)?;
    clone::clone(ctx, &request).map(|pid| pid as usize)
}

pub fn execve(ctx: &mut Ctx, path: usize, argv: usize, envp: usize) -> Result<usize> {
    let name = usermem::read_cstr(path, abi::fs::PATH_MAX)?;
    ctx.process.check_user()?;
    let file = vfs::open::open_exec(
        &Caller::thread(ctx.cred(), ctx.fs(), ctx.thread.tid()),
        Start::Cwd,
        &name,
        Look::FOLLOW,
    )?;
    run(ctx, file, name, false, argv, envp)
}

pub fn execveat(
    ctx: &mut Ctx,
    dirfd: i32,
    path: usize,
    argv: usize,
    envp: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = usermem::read_cstr(path, abi::fs::PATH_MAX)?;
    ctx.process.check_user()?;
    let mut look = Look::FOLLOW;
    look.set(Look::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    look.set(Look::EMPTY, flags & AT_EMPTY_PATH != 0);
    let base = if dirfd == AT_FDCWD || path.first() == Some(&b'/') {
        None
    } else {
        Some(ctx.files().get_any(dirfd)?)
    };
    let start = base.as_ref().map_or(Start::Cwd, |file| Start::At(file.path()));
    let file =
        vfs::open::open_exec(&Caller::thread(ctx.cred(), ctx.fs(), ctx.thread.tid()), start, &path, look)?;
    let (name, unreachable) = match &base {
        None => (path, false),
        Some(_) => {
            let closes = ctx.files().is_close_on_exec(dirfd)?;
            let slash = if path.is_empty() { "" } else { "/" };
            let mut name = format!("/dev/fd/{dirfd}{slash}").into_bytes();
            name.extend_from_slice(&path);
            (name, closes)
        }
    };
    run(ctx, file, name, unreachable, argv, envp)
}

fn run(
    ctx: &mut Ctx,
    file: Arc<File>,
    name: Vec<u8>,
    unreachable: bool,
    argv: usize,
    envp: usize,
) -> Result<usize> {
    let (mut argv, envp) = Strings::read_both(ctx, argv, envp)?;
    if argv.count() == 0 {
        // Programs count on a first argument (CVE-2021-4034): Linux gives them an empty one.
        argv.push(b"");
    }
    exec::exec(ctx, Request { file, name, unreachable, argv, envp })?;
    Ok(ctx.user.return_value() as usize)
}

pub fn exit(ctx: &mut Ctx, status: i32) -> Result<usize> {
    exit::exit_thread(ctx, status);
    Ok(0)
}

pub fn exit_group(ctx: &mut Ctx, status: i32) -> Result<usize> {
    exit::exit_group(ctx, status);
    Ok(0)
}

pub fn wait4(ctx: &mut Ctx, pid: i32, status: usize, options: u32, rusage: usize) -> Result<usize> {
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(ctx.process.pgid()),
        1.. => Which::Process(pid as Pid),
        _ => Which::Group(pid.unsigned_abs()),
    };
    let Some(report) = wait::wait(ctx, which, options | WEXITED)? else { return Ok(0) };
    usermem::write_opt(status, &report.wait_status)?;
    usermem::write_opt(rusage, &report.usage.to_rusage())?;
    Ok(report.pid as usize)
}

pub fn waitid(
    ctx: &mut Ctx,
    idtype: i32,
    id: i32,
    info: usize,
    options: u32,
    rusage: usize,
) -> Result<usize> {
    let result = waitid_report(ctx, idtype, id, options);
    // Nothing to report, and errors as well, clear the structure.
    let found = result.as_ref().ok().and_then(Option::as_ref);
    if info != 0 {
        let child = |r: &Report| SigInfo::child(SIGCHLD, r.code, r.pid, r.uid, r.status, 0, 0);
        usermem::write_bytes(info, &found.map(child).unwrap_or_default().to_user())?;
    }
    if let Some(report) = found {
        usermem::write_opt(rusage, &report.usage.to_rusage())?;
    }
    result.map(|_| 0)
}

fn waitid_report(ctx: &mut Ctx, idtype: i32, id: i32, options: u32) -> Result<Option<Report>> {
    const KINDS: u32 = WEXITED | WSTOPPED | WCONTINUED;
    if options & !(KINDS | WNOHANG | WNOWAIT | __WNOTHREAD | __WCLONE | __WALL) != 0 || options & KINDS == 0 {
        return Err(Errno::EINVAL);
    }
    let which = match (idtype, id) {
        (P_ALL, _) => Which::Any,
        (P_PID, 1..) => Which::Process(id as Pid),
        (P_PGID, 0) => Which::Group(ctx.process.pgid()),
        (P_PGID, 1..) => Which::Group(id as Pid),
        (P_PIDFD, 0..) => {
            let file = ctx.files().get(id)?;
            let pid = pidfd::process_of(&file)?.pid();
            // A descriptor opened with PIDFD_NONBLOCK does not wait.
            if file.is_nonblocking() && options & WNOHANG == 0 {
                let found = wait::wait(ctx, Which::Process(pid), options | WNOHANG)?;
                return found.map(Some).ok_or(Errno::EAGAIN);
            }
            Which::Process(pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    wait::wait(ctx, which, options)
}

pub fn getpid(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.process.pid() as usize)
}

pub fn getppid(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.process.parent_pid() as usize)
}

pub fn gettid(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.thread.tid() as usize)
}

pub fn rseq(ctx: &mut Ctx, area: usize, len: u32, flags: u32, signature: u32) -> Result<usize> {
    match flags {
        0 => rseq::register(ctx, area, len, signature)?,
        RSEQ_FLAG_UNREGISTER => rseq::unregister(ctx, area, len, signature)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

pub fn set_tid_address(ctx: &mut Ctx, address: usize) -> Result<usize> {
    ctx.set_clear_child_tid(address);
    Ok(ctx.thread.tid() as usize)
}

/// The process that a number of these calls names; 0 is the caller.
fn process_of(ctx: &Ctx, number: i32) -> Result<Arc<Process>> {
    match number {
        0 => Ok(ctx.process.clone()),
        1.. => pid::find_process_of(number as Pid).ok_or(Errno::ESRCH),
        _ => Err(Errno::ESRCH),
    }
}

pub fn setpgid(ctx: &mut Ctx, pid: i32, pgid: i32) -> Result<usize> {
    jobs::setpgid(ctx, pid, pgid).map(|()| 0)
}

pub fn getpgid(ctx: &mut Ctx, pid: i32) -> Result<usize> {
    Ok(process_of(ctx, pid)?.pgid() as usize)
}

pub fn getpgrp(ctx: &mut Ctx) -> Result<usize> {
    Ok(ctx.process.pgid() as usize)
}

pub fn setsid(ctx: &mut Ctx) -> Result<usize> {
    jobs::setsid(ctx).map(|sid| sid as usize)
}

pub fn getsid(ctx: &mut Ctx, pid: i32) -> Result<usize> {
    Ok(process_of(ctx, pid)?.sid() as usize)
}

pub fn prctl(
    ctx: &mut Ctx,
    option: i32,
    arg2: usize,
    arg3: usize,
    arg4: usize,
    arg5: usize,
) -> Result<usize> {
    prctls::prctl(ctx, option, [arg2, arg3, arg4, arg5])
}

/// arch_prctl(2) of x86-64: the segment bases.
pub fn arch_prctl(ctx: &mut Ctx, code: i32, address: usize) -> Result<usize> {
    const ARCH_SET_FS: i32 = 0x1002;
    const ARCH_GET_FS: i32 = 0x1003;
    match code {
        ARCH_SET_FS if address >= arch::mmu::user_top() => Err(Errno::EPERM),
        ARCH_SET_FS => {
            ctx.user.set_tls(address);
            Ok(0)
        }
        ARCH_GET_FS => usermem::write(address, &(ctx.user.tls() as u64)).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn personality(ctx: &mut Ctx, persona: u32) -> Result<usize> {
    use core::sync::atomic::Ordering::Relaxed;
    let old = ctx.process.personality.load(Relaxed);
    if persona != u32::MAX {
        ctx.process.personality.store(persona, Relaxed);
    }
    Ok(old as usize)
}

pub fn unshare(ctx: &mut Ctx, flags: u64) -> Result<usize> {
    clone::unshare(ctx, flags).map(|()| 0)
}

/// setns(2). There is one namespace of each kind, and everybody is in it: what is left is who may ask, and that joining
/// the mounts begins at their root. EINVAL, EPERM, EUSERS, ESRCH as for a namespace of its own.
pub fn setns(ctx: &mut Ctx, fd: i32, flags: u64) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    let kinds = if let Some(kind) = nsfs::kind_of(&file) {
        if flags != 0 && flags != kind.flag {
            return Err(Errno::EINVAL);
        }
        kind.flag
    } else {
        let process = pidfd::process_of(&file).map_err(|_| Errno::EINVAL)?;
        if flags == 0 || flags & !CLONE_NAMESPACES != 0 {
            return Err(Errno::EINVAL);
        }
        let thread = process.main_thread().ok_or(Errno::ESRCH)?;
        if !kcore::creds::may_trace(ctx, &thread) {
            return Err(Errno::EPERM);
        }
        flags
    };
    // One's own user namespace cannot be joined again.
    if kinds & CLONE_NEWUSER != 0 {
        return Err(Errno::EINVAL);
    }
    let joins_mounts = kinds & CLONE_NEWNS != 0;
    if !ctx.capable(CAP_SYS_ADMIN) || joins_mounts && !ctx.capable(CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    if kinds & CLONE_NEWTIME != 0 && ctx.is_multithreaded() {
        return Err(Errno::EUSERS);
    }
    if joins_mounts {
        // The thread has its directories twice; a third reference is another thread that shares them.
        if Arc::strong_count(ctx.fs_arc()) > 2 {
            return Err(Errno::EINVAL);
        }
        let root = vfs::mount::root().ok_or(Errno::EINVAL)?;
        ctx.fs().set_root(root.clone());
        ctx.fs().set_cwd(root);
    }
    Ok(0)
}

pub fn prlimit64(ctx: &mut Ctx, pid: i32, resource: usize, new: usize, old: usize) -> Result<usize> {
    let target = process_of(ctx, pid)?;
    if !Arc::ptr_eq(&target, ctx.process) {
        check_limits_right(ctx, &target)?;
    }
    let before = rlimit::get(&target, resource)?;
    if new != 0 {
        let new: Rlimit = usermem::read(new)?;
        rlimit::set(ctx, &target, resource, new)?;
    }
    usermem::write_opt(old, &before)?;
    Ok(0)
}

/// Another process's limits: with the same ids throughout, or CAP_SYS_RESOURCE (prlimit(2)).
fn check_limits_right(ctx: &Ctx, target: &Process) -> Result<()> {
    let own = ctx.cred();
    let same = target.main_thread().is_some_and(|thread| {
        let other = thread.cred();
        [other.uid, other.euid, other.suid] == [own.uid; 3]
            && [other.gid, other.egid, other.sgid] == [own.gid; 3]
    });
    if same || ctx.capable(abi::cap::CAP_SYS_RESOURCE) { Ok(()) } else { Err(Errno::EPERM) }
}

pub fn getrlimit(ctx: &mut Ctx, resource: usize, limit: usize) -> Result<usize> {
    let value = rlimit::get(ctx.process, resource)?;
    usermem::write(limit, &value).map(|()| 0)
}

pub fn setrlimit(ctx: &mut Ctx, resource: usize, limit: usize) -> Result<usize> {
    let new: Rlimit = usermem::read(limit)?;
    rlimit::set(ctx, ctx.process, resource, new).map(|_| 0)
}

pub fn getrusage(ctx: &mut Ctx, who: i32, usage: usize) -> Result<usize> {
    let used = match who {
        0 => usage::of_process(ctx.process),
        -1 => usage::of_children(ctx.process),
        1 => usage::of_thread(ctx.thread),
        _ => return Err(Errno::EINVAL),
    };
    usermem::write(usage, &used.to_rusage()).map(|()| 0)
}

/// Whether a number is a signal, or 0.
pub(crate) fn is_signal(signal: i32) -> bool {
    u32::try_from(signal).is_ok_and(|signal| signal <= SIGNAL_MAX)
}

/// pidfd_open(2).
pub fn pidfd_open(ctx: &mut Ctx, pid: i32, flags: u32) -> Result<usize> {
    if flags & !PIDFD_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let thread = pid::find_thread(pid as Pid);
    let process = match pid::find_process(pid as Pid) {
        Some(process) => process,
        // A thread's number names no process.
        None if thread.is_some() => return Err(Errno::EINVAL),
        None => return Err(Errno::ESRCH),
    };
    crate::fs::install(ctx, pidfd::create(process, flags & PIDFD_NONBLOCK != 0), true)
}

/// pidfd_getfd(2): takes a copy of another process's descriptor.
pub fn pidfd_getfd(ctx: &mut Ctx, pidfd: i32, fd: i32, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = ctx.files().get(pidfd)?;
    let process = pidfd::process_of(&file)?;
    let thread = process.main_thread().ok_or(Errno::ESRCH)?;
    if !kcore::creds::may_trace(ctx, &thread) {
        return Err(Errno::EPERM);
    }
    let taken = thread.files().ok_or(Errno::ESRCH)?.get_any(fd)?;
    crate::fs::install(ctx, taken, true)
}
