//! prctl(2): small settings of a thread or process.

use crate::{Ctx, Result, creds, pid, usermem};
use abi::Errno;
use abi::cap::{CAP_LAST_CAP, SECBIT_KEEP_CAPS};
use abi::process::*;
use abi::signal::SIGNAL_MAX;
use core::sync::atomic::Ordering::Relaxed;

/// All of prctl(2) that this kernel knows; EINVAL for the rest.
pub fn prctl(ctx: &mut Ctx, option: i32, args: [usize; 4]) -> Result<usize> {
    let [arg, ..] = args;
    let (process, thread) = (ctx.process.clone(), ctx.thread.clone());
    match option {
        PR_SET_NAME => set_name(ctx, arg),
        PR_GET_NAME => usermem::write_bytes(arg, &thread.comm_bytes()).map(|()| 0),
        PR_SET_PDEATHSIG if arg <= SIGNAL_MAX as usize => {
            pid::ask_death_signal(&thread, arg as u32);
            Ok(0)
        }
        PR_GET_PDEATHSIG => usermem::write(arg, &thread.death_signal.load(Relaxed)).map(|()| 0),
        PR_GET_DUMPABLE => Ok(process.dumpable.load(Relaxed) as usize),
        PR_SET_DUMPABLE if arg <= 1 => {
            process.dumpable.store(arg as u32, Relaxed);
            Ok(0)
        }
        PR_GET_KEEPCAPS => Ok(usize::from(ctx.cred().securebits & SECBIT_KEEP_CAPS != 0)),
        PR_SET_KEEPCAPS if arg <= 1 => change(ctx, |old| creds::set_keepcaps(old, arg == 1)),
        PR_GET_SECUREBITS => Ok(ctx.cred().securebits as usize),
        PR_SET_SECUREBITS => change(ctx, |old| creds::set_securebits(old, arg as u32)),
        PR_CAPBSET_READ if arg <= CAP_LAST_CAP as usize => {
            Ok(usize::from(ctx.cred().bounding.has(arg as u32)))
        }
        PR_CAPBSET_DROP if arg <= CAP_LAST_CAP as usize => {
            change(ctx, |old| creds::drop_bounding(old, arg as u32))
        }
        PR_SET_TIMERSLACK => {
            let slack = if (arg as isize) <= 0 { DEFAULT_SLACK_NS } else { arg as u64 };
            thread.timer_slack_ns.store(slack, Relaxed);
            Ok(0)
        }
        PR_GET_TIMERSLACK => Ok(thread.timer_slack_ns.load(Relaxed) as usize),
        PR_GET_TIMING => Ok(0),
        PR_SET_TIMING if arg == 0 => Ok(0),
        PR_SET_CHILD_SUBREAPER => {
            process.child_subreaper.store(arg != 0, Relaxed);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            usermem::write(arg, &u32::from(process.child_subreaper.load(Relaxed))).map(|()| 0)
        }
        PR_SET_NO_NEW_PRIVS if args == [1, 0, 0, 0] => {
            change(ctx, |old| Ok(vfs::Cred { no_new_privs: true, ..old.clone() }))
        }
        PR_GET_NO_NEW_PRIVS if args == [0; 4] => Ok(usize::from(ctx.cred().no_new_privs)),
        PR_GET_SECCOMP => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// Linux's default timer slack.
const DEFAULT_SLACK_NS: u64 = 50_000;

fn set_name(ctx: &Ctx, addr: usize) -> Result<usize> {
    let mut name = [0; crate::thread::COMM_LEN];
    // The string may end, and memory with it, before 16 bytes.
    let mut len = 0;
    while len < name.len() - 1 {
        usermem::read_bytes(addr.checked_add(len).ok_or(Errno::EFAULT)?, &mut name[len..=len])?;
        if name[len] == 0 {
            break;
        }
        len += 1;
    }
    ctx.thread.set_comm(&name[..len]);
    Ok(0)
}

/// Changes the caller's credentials.
fn change(ctx: &mut Ctx, edit: impl FnOnce(&vfs::Cred) -> Result<vfs::Cred>) -> Result<usize> {
    let new = edit(ctx.cred())?;
    ctx.set_cred(alloc::sync::Arc::new(new));
    Ok(0)
}
