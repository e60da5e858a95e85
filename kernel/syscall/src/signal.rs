//! Signals: sending, acting, blocking, waiting.

use crate::process::is_signal;
use crate::{Ctx, Errno, Result};
use abi::poll::{SFD_CLOEXEC, SFD_NONBLOCK};
use abi::process::Pid;
use abi::signal::*;
use abi::time::Timespec;
use arch::sigframe::AltStack;
use kcore::signal::{self, Action, SigSet};
use kcore::{pid, pidfd, signalfd, usermem};
use task::{WaitMode, wait_any};

/// The only size of a signal set.
fn check_size(size: usize) -> Result<()> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn from_caller(ctx: &Ctx, sig: i32, code: i32) -> SigInfo {
    SigInfo::user(sig as u32, code, ctx.process.pid(), ctx.cred().uid)
}

pub fn kill(ctx: &mut Ctx, pid: i32, sig: i32) -> Result<usize> {
    if !is_signal(sig) {
        return Err(Errno::EINVAL);
    }
    let info = from_caller(ctx, sig, SI_USER);
    match pid {
        1.. => {
            let target = pid::find_process_of(pid as Pid).ok_or(Errno::ESRCH)?;
            signal::send_process_checked(ctx, &target, info)?;
        }
        0 => signal::send_group_checked(ctx, &ctx.process.group(), info)?,
        -1 => kill_all(ctx, info)?,
        i32::MIN => return Err(Errno::ESRCH),
        _ => {
            let group = pid::find_group(pid.unsigned_abs()).ok_or(Errno::ESRCH)?;
            signal::send_group_checked(ctx, &group, info)?;
        }
    }
    Ok(0)
}

/// kill(-1): everybody but init and the caller's own process.
fn kill_all(ctx: &Ctx, info: SigInfo) -> Result<()> {
    let mut targets = alloc::vec::Vec::new();
    pid::for_each_process(|process| {
        if !process.is_init() && !process.is_kernel && process.pid() != ctx.process.pid() {
            targets.push(process.clone());
        }
    });
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let mut result = Err(Errno::EPERM);
    for process in targets {
        if signal::send_process_checked(ctx, &process, info).is_ok() {
            result = Ok(());
        }
    }
    result
}

/// tkill(2) and tgkill(2); `tgid` 0 is any.
fn send_thread(ctx: &Ctx, tgid: Pid, tid: i32, info: SigInfo) -> Result<usize> {
    let thread = pid::find_thread(tid as Pid).ok_or(Errno::ESRCH)?;
    if tgid != 0 && thread.process().pid() != tgid {
        return Err(Errno::ESRCH);
    }
    signal::send_thread_checked(ctx, &thread, info).map(|()| 0)
}

pub fn tkill(ctx: &mut Ctx, tid: i32, sig: i32) -> Result<usize> {
    if tid <= 0 || !is_signal(sig) {
        return Err(Errno::EINVAL);
    }
    send_thread(ctx, 0, tid, from_caller(ctx, sig, SI_TKILL))
}

pub fn tgkill(ctx: &mut Ctx, tgid: i32, tid: i32, sig: i32) -> Result<usize> {
    if tgid <= 0 || tid <= 0 || !is_signal(sig) {
        return Err(Errno::EINVAL);
    }
    send_thread(ctx, tgid as Pid, tid, from_caller(ctx, sig, SI_TKILL))
}

/// The caller's siginfo; others may only be told what looks like sigqueue(3).
fn queued_info(ctx: &Ctx, target: Pid, sig: i32, info: usize) -> Result<SigInfo> {
    if !is_signal(sig) {
        return Err(Errno::EINVAL);
    }
    let mut info: SigInfo = usermem::read(info)?;
    info.signo = sig;
    // The kernel's own mark of its timers' signals.
    info.pad = 0;
    if (info.code >= 0 || info.code == SI_TKILL) && target != ctx.process.pid() {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

pub fn rt_sigqueueinfo(ctx: &mut Ctx, pid: i32, sig: i32, info: usize) -> Result<usize> {
    let info = queued_info(ctx, pid as Pid, sig, info)?;
    let target = pid::find_process_of(pid as Pid).ok_or(Errno::ESRCH)?;
    signal::send_process_checked(ctx, &target, info).map(|()| 0)
}

pub fn rt_tgsigqueueinfo(ctx: &mut Ctx, tgid: i32, tid: i32, sig: i32, info: usize) -> Result<usize> {
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = queued_info(ctx, tgid as Pid, sig, info)?;
    send_thread(ctx, tgid as Pid, tid, info)
}

pub fn rt_sigaction(ctx: &mut Ctx, sig: i32, act: usize, oact: usize, sigsetsize: usize) -> Result<usize> {
    check_size(sigsetsize)?;
    let new: Option<KernelSigaction> = if act == 0 { None } else { Some(usermem::read(act)?) };
    if sig < 1 || !is_signal(sig) {
        return Err(Errno::EINVAL);
    }
    let new = new.map(|raw| Action {
        handler: raw.handler as usize,
        flags: raw.flags as u32,
        restorer: raw.restorer() as usize,
        mask: SigSet::from_bits(raw.mask).without(SIGKILL).without(SIGSTOP),
    });
    let old = signal::set_action(ctx, sig as u32, new)?;
    let raw =
        KernelSigaction::new(old.handler as u64, u64::from(old.flags), old.restorer as u64, old.mask.bits());
    usermem::write_opt(oact, &raw)?;
    Ok(0)
}

pub fn rt_sigprocmask(ctx: &mut Ctx, how: i32, set: usize, oset: usize, sigsetsize: usize) -> Result<usize> {
    check_size(sigsetsize)?;
    let old = ctx.thread.blocked();
    if set != 0 {
        let set = SigSet::from_bits(usermem::read(set)?);
        let new = match how {
            SIG_BLOCK => old | set,
            SIG_UNBLOCK => old & !set,
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        ctx.block(new);
    }
    usermem::write_opt(oset, &old.bits())?;
    Ok(0)
}

pub fn rt_sigreturn(ctx: &mut Ctx) -> Result<usize> {
    signal::restore_frame(ctx)
}

pub fn rt_sigpending(ctx: &mut Ctx, set: usize, sigsetsize: usize) -> Result<usize> {
    if sigsetsize > 8 {
        return Err(Errno::EINVAL);
    }
    let bits = signal::pending(ctx.thread).bits().to_ne_bytes();
    usermem::write_bytes(set, &bits[..sigsetsize]).map(|()| 0)
}

pub fn rt_sigtimedwait(
    ctx: &mut Ctx,
    set: usize,
    info: usize,
    timeout: usize,
    sigsetsize: usize,
) -> Result<usize> {
    check_size(sigsetsize)?;
    let set = SigSet::from_bits(usermem::read(set)?);
    let deadline_ns = match timeout {
        0 => None,
        at => {
            let limit: Timespec = usermem::read(at)?;
            Some(time::monotonic_ns().saturating_add(limit.to_ns().ok_or(Errno::EINVAL)?))
        }
    };
    let taken = signal::accept(ctx, set, deadline_ns)?;
    if info != 0 {
        usermem::write_bytes(info, &taken.to_user())?;
    }
    Ok(taken.signo as usize)
}

pub fn rt_sigsuspend(ctx: &mut Ctx, mask: usize, sigsetsize: usize) -> Result<usize> {
    check_size(sigsetsize)?;
    let mask = SigSet::from_bits(usermem::read(mask)?);
    ctx.with_mask(Some(mask), pause)
}

pub fn sigaltstack(ctx: &mut Ctx, ss: usize, old_ss: usize) -> Result<usize> {
    let old = signal::alt_stack(ctx);
    if ss != 0 {
        let new: StackT = usermem::read(ss)?;
        let new = AltStack { sp: new.sp as usize, flags: new.flags, size: new.size as usize };
        signal::set_alt_stack(ctx, new)?;
    }
    let old = StackT { sp: old.sp as u64, flags: old.flags, pad: 0, size: old.size as u64 };
    usermem::write_opt(old_ss, &old)?;
    Ok(0)
}

pub fn pause(_ctx: &mut Ctx) -> Result<usize> {
    let never = || None::<usize>;
    wait_any(&[], WaitMode::Interruptible, None, never).map_err(|_| Errno::ERESTARTNOHAND)
}

pub fn restart_syscall(ctx: &mut Ctx) -> Result<usize> {
    match ctx.take_restart() {
        Some(rest) => rest(ctx),
        None => Err(Errno::EINTR),
    }
}

/// signalfd4(2): a new descriptor, or another set for one that exists.
pub fn signalfd4(ctx: &mut Ctx, fd: i32, mask: usize, sigsetsize: usize, flags: u32) -> Result<usize> {
    check_size(sigsetsize)?;
    let mask = SigSet::from_bits(usermem::read(mask)?);
    if flags & !(SFD_CLOEXEC | SFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if fd != -1 {
        let file = ctx.files().get(fd)?;
        signalfd::of_file(&file)?.set_mask(mask);
        return Ok(fd as usize);
    }
    let file = signalfd::create(mask, flags & SFD_NONBLOCK != 0);
    crate::fs::install(ctx, file, flags & SFD_CLOEXEC != 0)
}

/// signalfd(2) without flags.
pub fn signalfd(ctx: &mut Ctx, fd: i32, mask: usize, sigsetsize: usize) -> Result<usize> {
    signalfd4(ctx, fd, mask, sigsetsize, 0)
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(ctx: &mut Ctx, pidfd: i32, sig: i32, info: usize, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = ctx.files().get(pidfd)?;
    let process = pidfd::signalled_by(&file)?;
    let info = match info {
        0 if !is_signal(sig) => return Err(Errno::EINVAL),
        0 => from_caller(ctx, sig, SI_USER),
        at => {
            let given: SigInfo = usermem::read(at)?;
            if given.signo != sig {
                return Err(Errno::EINVAL);
            }
            queued_info(ctx, process.pid(), sig, at)?
        }
    };
    if process.state() == kcore::ProcessState::Reaped {
        return Err(Errno::ESRCH);
    }
    signal::send_process_checked(ctx, &process, info).map(|()| 0)
}
