//! The signal of a file's owner (fcntl(2), "Managing signals").

use crate::process::Process;
use crate::thread::Thread;
use crate::{Result, pid, signal};
use abi::fcntl::{F_OWNER_PGRP, F_OWNER_TID};
use abi::signal::*;
use alloc::sync::Arc;
use vfs::Owner;

/// Tells the owner of an open file what happened to descriptor `fd`: `reason` is one of `POLL_*`. Processes that whoever
/// set the owner may not signal are left out.
pub fn send(owner: &Owner, fd: i32, reason: i32) {
    let Ok(number) = u32::try_from(owner.pid) else { return };
    match owner.kind {
        F_OWNER_TID => {
            if let Some(thread) = pid::find_thread(number) {
                tell(owner, fd, reason, thread.process(), Some(&thread));
            }
        }
        F_OWNER_PGRP => {
            let group = pid::find_group(number);
            for process in group.iter().flat_map(pid::group_members) {
                tell(owner, fd, reason, &process, None);
            }
        }
        _ => {
            if let Some(process) = pid::find_process(number) {
                tell(owner, fd, reason, &process, None);
            }
        }
    }
}

fn tell(owner: &Owner, fd: i32, reason: i32, process: &Arc<Process>, thread: Option<&Arc<Thread>>) {
    if !may_tell(owner, process) {
        return;
    }
    let send = |info: SigInfo| -> Result<()> {
        match thread {
            Some(thread) => signal::send_thread(thread, info),
            None => signal::send_process(process, info),
        }
    };
    // Without room in the queue a plain SIGIO says that something was missed.
    if owner.signal == 0 || send(about(owner.signal, fd, reason)).is_err() {
        let _ = send(SigInfo::kernel(SIGIO));
    }
}

fn about(signo: i32, fd: i32, reason: i32) -> SigInfo {
    // A code that means something else for this signal would mislead.
    const HAVE_CODES: [u32; 7] = [SIGILL, SIGFPE, SIGSEGV, SIGBUS, SIGTRAP, SIGCHLD, SIGSYS];
    let code = if HAVE_CODES.contains(&(signo as u32)) { SI_SIGIO } else { reason };
    SigInfo { signo, code, fields: [band(reason), fd as u32 as u64, 0, 0], ..SigInfo::default() }
}

/// `si_band`: what poll(2) would say.
fn band(reason: i32) -> u64 {
    use abi::poll::PollEvents;
    let events = match reason {
        POLL_MSG => PollEvents::IN | PollEvents::RDNORM | PollEvents::MSG,
        _ => PollEvents::IN | PollEvents::RDNORM,
    };
    u64::from(events.bits())
}

/// Who set the owner might have sent the signal (kill(2)).
fn may_tell(owner: &Owner, process: &Process) -> bool {
    let Some(thread) = process.main_thread() else { return false };
    let cred = thread.cred();
    let ids = [owner.euid, owner.uid];
    owner.euid == 0 || ids.contains(&cred.suid) || ids.contains(&cred.uid)
}
