//! Job control: whose terminal it is, and who may use it now.
//!
//! Sources: tty_ioctl(4), tcsetpgrp(3), credentials(7), POSIX 11.1.4 "Terminal Access Control".

use crate::tty::Tty;
use abi::Errno;
use abi::errno::Result;
use abi::signal::{SIGCONT, SIGHUP, SIGTTIN, SIGTTOU};
use abi::tty::{TOSTOP, Winsize};
use alloc::sync::Arc;
use core::ptr;
use kcore::signal::{SigInfo, send_group, send_process};
use kcore::{Group, Process, Session, Terminal, Thread};

/// What belongs to the session that the terminal controls.
#[derive(Default)]
pub(crate) struct Control {
    pub session: Option<Arc<Session>>,
    pub foreground: Option<Arc<Group>>,
    pub winsize: Winsize,
    /// TIOCEXCL: no further opens.
    pub exclusive: bool,
}

impl Terminal for Tty {
    fn device_number(&self) -> u64 {
        u64::from(self.dev.encode())
    }

    fn foreground(&self) -> Option<Arc<Group>> {
        self.control.lock().foreground.clone()
    }

    fn session_ended(&self, session: &Arc<Session>) {
        self.forget_session(session);
    }
}

fn is_terminal(terminal: &Arc<dyn Terminal>, tty: &Tty) -> bool {
    ptr::addr_eq(Arc::as_ptr(terminal), tty)
}

impl Tty {
    /// Whether it is the controlling terminal of `process`.
    pub(crate) fn controls(&self, process: &Process) -> bool {
        process.terminal().is_some_and(|terminal| is_terminal(&terminal, self))
    }

    /// Makes it the controlling terminal of the caller's session (opening without O_NOCTTY, TIOCSCTTY).
    /// EPERM when the caller leads no session or has a terminal, or another session has this one and
    /// `steal` is false.
    pub(crate) fn acquire(self: &Arc<Self>, process: &Process, steal: bool) -> Result<()> {
        let (session, group) = (process.session(), process.group());
        if !process.is_session_leader() {
            return Err(Errno::EPERM);
        }
        if let Some(terminal) = session.terminal() {
            return if is_terminal(&terminal, self) { Ok(()) } else { Err(Errno::EPERM) };
        }
        let owner = self.control.lock().session.clone();
        if let Some(owner) = owner.filter(|owner| !Arc::ptr_eq(owner, &session)) {
            if !steal {
                return Err(Errno::EPERM);
            }
            owner.take_terminal();
        }
        if !session.set_terminal(self.clone()) {
            return Err(Errno::EPERM);
        }
        let mut control = self.control.lock();
        control.session = Some(session);
        control.foreground = Some(group);
        Ok(())
    }

    /// The session's leader has ended or given the terminal up.
    fn forget_session(&self, session: &Arc<Session>) {
        let mut control = self.control.lock();
        if !control.session.as_ref().is_some_and(|own| Arc::ptr_eq(own, session)) {
            return;
        }
        control.session = None;
        let foreground = control.foreground.take();
        drop(control);
        session.take_terminal();
        if let Some(group) = foreground {
            send_group(&group, SigInfo::kernel(SIGHUP));
            send_group(&group, SigInfo::kernel(SIGCONT));
        }
    }

    /// The line is gone: the leader and the foreground group are told.
    pub(crate) fn disconnect_session(&self) {
        let session = self.control.lock().session.clone();
        let Some(session) = session else { return };
        if let Some(leader) = kcore::pid::find_process(session.sid()) {
            // A leader that has ended cannot be told; nothing is lost by that.
            let _ = send_process(&leader, SigInfo::kernel(SIGHUP));
            let _ = send_process(&leader, SigInfo::kernel(SIGCONT));
        }
        self.forget_session(&session);
    }

    /// TIOCNOTTY: the caller's session lets go of the terminal.
    pub(crate) fn release(&self, process: &Process) -> Result<()> {
        if !self.controls(process) {
            return Err(Errno::ENOTTY);
        }
        if process.is_session_leader() {
            self.forget_session(&process.session());
        }
        Ok(())
    }

    /// Reading needs the foreground: otherwise SIGTTIN, or EIO where that would do nothing.
    pub(crate) fn check_read(&self) -> Result<()> {
        let Some(thread) = Thread::current() else { return Ok(()) };
        let Some(group) = self.background_group(&thread) else { return Ok(()) };
        if thread.ignores_or_blocks(SIGTTIN) || kcore::is_orphaned(&group) {
            return Err(Errno::EIO);
        }
        send_group(&group, SigInfo::kernel(SIGTTIN));
        Err(Errno::ERESTARTSYS)
    }

    /// Writing needs the foreground only with TOSTOP.
    pub(crate) fn check_write(&self) -> Result<()> {
        if self.termios().c_lflag & TOSTOP == 0 { Ok(()) } else { self.check_change() }
    }

    /// Changing settings needs the foreground: otherwise SIGTTOU, unless that is ignored or blocked.
    pub(crate) fn check_change(&self) -> Result<()> {
        let Some(thread) = Thread::current() else { return Ok(()) };
        let Some(group) = self.background_group(&thread) else { return Ok(()) };
        if thread.ignores_or_blocks(SIGTTOU) {
            return Ok(());
        }
        if kcore::is_orphaned(&group) {
            return Err(Errno::EIO);
        }
        send_group(&group, SigInfo::kernel(SIGTTOU));
        Err(Errno::ERESTARTSYS)
    }

    /// The caller's group, when this is its terminal and another group is in the foreground.
    fn background_group(&self, thread: &Thread) -> Option<Arc<Group>> {
        let process = thread.process();
        if !self.controls(process) {
            return None;
        }
        let group = process.group();
        let foreground = self.control.lock().foreground.clone();
        let same = foreground.is_none_or(|foreground| Arc::ptr_eq(&foreground, &group));
        (!same).then_some(group)
    }

    /// tcsetpgrp(3).
    pub(crate) fn set_foreground(&self, process: &Process, pgid: i32) -> Result<()> {
        if !self.controls(process) {
            return Err(Errno::ENOTTY);
        }
        if pgid < 0 {
            return Err(Errno::EINVAL);
        }
        let group = kcore::pid::find_group(pgid as kcore::Pid).ok_or(Errno::ESRCH)?;
        if !Arc::ptr_eq(group.session(), &process.session()) {
            return Err(Errno::EPERM);
        }
        self.control.lock().foreground = Some(group);
        Ok(())
    }
}
