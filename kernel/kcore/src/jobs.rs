//! Job control: process groups, sessions, the controlling terminal.
//!
//! Sources: setpgid(2), setsid(2), credentials(7), POSIX "Orphaned Process Group".

use crate::process::Process;
use crate::signal::{self, SigInfo};
use crate::{Ctx, Pid, Result, pid};
use abi::Errno;
use abi::signal::{SIGCONT, SIGHUP};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use sync::SpinLock;
use sync::levels::Leaf;

/// A terminal as processes see it; `kernel/tty` implements it.
pub trait Terminal: Send + Sync {
    /// The device number as `/proc/PID/stat` shows it (`tty_nr`).
    fn device_number(&self) -> u64;

    /// The foreground process group.
    fn foreground(&self) -> Option<Arc<Group>>;

    /// The session's leader ended or gave the terminal up: the foreground group gets SIGHUP and SIGCONT,
    /// and the terminal forgets the session. Process context, no locks.
    fn session_ended(&self, session: &Arc<Session>);
}

/// A session (setsid(2)): process groups that share a controlling terminal.
pub struct Session {
    sid: Pid,
    terminal: SpinLock<Option<Arc<dyn Terminal>>, Leaf>,
}

impl Session {
    pub(crate) fn new(sid: Pid) -> Arc<Session> {
        Arc::new(Session { sid, terminal: SpinLock::new(None) })
    }

    pub fn sid(&self) -> Pid {
        self.sid
    }

    /// The controlling terminal.
    pub fn terminal(&self) -> Option<Arc<dyn Terminal>> {
        self.terminal.lock().clone()
    }

    /// Sets the controlling terminal if the session has none; false if it has.
    pub fn set_terminal(&self, terminal: Arc<dyn Terminal>) -> bool {
        let mut slot = self.terminal.lock();
        let free = slot.is_none();
        if free {
            *slot = Some(terminal);
        }
        free
    }

    /// Takes the controlling terminal away from the session.
    pub fn take_terminal(&self) -> Option<Arc<dyn Terminal>> {
        self.terminal.lock().take()
    }
}

/// A process group. Its identity is the object: the number may be used again.
pub struct Group {
    pgid: Pid,
    session: Arc<Session>,
}

impl Group {
    pub(crate) fn new(pgid: Pid, session: Arc<Session>) -> Arc<Group> {
        Arc::new(Group { pgid, session })
    }

    pub fn pgid(&self) -> Pid {
        self.pgid
    }

    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether it has members still.
    pub fn is_alive(self: &Arc<Self>) -> bool {
        pid::read().members(self).next().is_some()
    }
}

/// setsid(2): a new session and group led by the caller. EPERM for a group leader.
pub fn setsid(ctx: &Ctx) -> Result<Pid> {
    let process = ctx.process;
    let number = process.pid();
    let session = Session::new(number);
    let group = Group::new(number, session.clone());
    let mut table = pid::write();
    if table.group(number).is_some() {
        return Err(Errno::EPERM);
    }
    table.leave_group(process);
    table.enter_session(process, &session);
    table.enter_group(process, &group);
    Ok(number)
}

/// setpgid(2); 0 stands for the caller and for the target's own number.
pub fn setpgid(ctx: &Ctx, pid: i32, pgid: i32) -> Result<()> {
    let caller = ctx.process;
    let number = if pid == 0 { caller.pid() as i32 } else { pid };
    let wanted = if pgid == 0 { number } else { pgid };
    if wanted < 0 {
        return Err(Errno::EINVAL);
    }
    let target = if number < 0 { None } else { pid::find_process(number as Pid) }.ok_or(Errno::ESRCH)?;
    let mut table = pid::write();
    check_target(caller, &target)?;
    if target.is_session_leader() {
        return Err(Errno::EPERM);
    }
    let wanted = wanted as Pid;
    let group = if wanted == target.pid() && table.group(wanted).is_none() {
        Group::new(wanted, target.session())
    } else {
        let group = table.group(wanted).cloned().ok_or(Errno::EPERM)?;
        if !Arc::ptr_eq(group.session(), &caller.session()) {
            return Err(Errno::EPERM);
        }
        group
    };
    if !Arc::ptr_eq(&group, &target.group()) {
        table.leave_group(&target);
        table.enter_group(&target, &group);
    }
    Ok(())
}

/// Only oneself, or a child in the same session that has not run exec.
fn check_target(caller: &Arc<Process>, target: &Arc<Process>) -> Result<()> {
    if Arc::ptr_eq(caller, target) {
        return Ok(());
    }
    if target.parent_pid() != caller.pid() {
        return Err(Errno::ESRCH);
    }
    if !Arc::ptr_eq(&caller.session(), &target.session()) {
        return Err(Errno::EPERM);
    }
    if target.did_exec.load(Relaxed) {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// Whether no member has a parent in another group of the same session: nobody would continue it.
pub fn is_orphaned(group: &Arc<Group>) -> bool {
    is_orphaned_without(group, None)
}

/// As [`is_orphaned`], as if `ending` were gone already.
pub(crate) fn is_orphaned_without(group: &Arc<Group>, ending: Option<&Arc<Process>>) -> bool {
    let table = pid::read();
    let holds = |member: Arc<Process>| {
        let leaving = ending.is_some_and(|e| Arc::ptr_eq(e, &member));
        if leaving || member.thread_count() == 0 || member.parent_pid() <= 1 {
            return false;
        }
        let Some(parent) = table.parent_of(&member) else { return false };
        !Arc::ptr_eq(&parent.group(), group) && Arc::ptr_eq(&parent.session(), group.session())
    };
    !table.members(group).any(holds)
}

/// A group that has just become orphaned and has stopped members gets SIGHUP and SIGCONT.
pub(crate) fn hang_up_if_stopped(group: &Arc<Group>) {
    let stopped = |p: &Arc<Process>| p.signals.lock().stop.complete;
    if pid::group_members(group).iter().any(stopped) {
        signal::send_group(group, SigInfo::kernel(SIGHUP));
        signal::send_group(group, SigInfo::kernel(SIGCONT));
    }
}
