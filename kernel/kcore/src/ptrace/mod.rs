//! ptrace(2): one process watches and steers another's threads.
//!
//! ```text
//!   tracee (on its way to user mode, or in a system call)     tracer
//!   signal, call, exec, fork ...: stop()
//!     what happened and its registers into Stop  -- SIGCHLD -> wait4(2) reports it
//!     sleeps, state t                                        PTRACE_GETREGS, PTRACE_POKEDATA ...
//!     takes the registers back, goes on          <- wake --  PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP
//! ```
//!
//! **Idea.** A tracee stops only at points where its registers are its own to give: it copies them into a [`Stop`],
//! which the tracer reads and changes, and takes them back when it goes on. Nobody ever touches the registers of a
//! thread that runs.
//!
//! The tracer is one thread: the one that attached or, for PTRACE_TRACEME, the one that forked. Only that one may make
//! requests, and with its end the tracing ends; wait(2) tells any thread of its process.
//! Source: ptrace(2).

mod attach;
mod requests;
mod stops;
mod wait;

pub use attach::{attach, interrupt, seize, trace_me};
pub(crate) use attach::{auto_attach, end_tracer};
pub use requests::{
    Resume, event_message, listen, regs, resume, set_options, signal_info, signal_mask, with_stop,
    with_stop_mut,
};
pub use stops::{call_enter, call_exit};
pub(crate) use stops::{
    continued, event, exec_done, exit_event, forked, group_stop, interrupted, is_stopping, signal_stop,
};
pub(crate) use wait::{note_exit, report};

use crate::signal::SigInfo;
use crate::thread::Thread;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::debug::DebugRegs;
use core::sync::atomic::Ordering::SeqCst;

/// Words of the general registers.
pub const WORDS: usize = arch::user::UserContext::PTRACE_WORDS;

/// Why a tracee stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A signal is about to be delivered.
    Signal,
    /// Its process stops by a job-control signal, or a seized tracee was interrupted.
    Group,
    CallEntry,
    CallExit,
    Event,
}

/// A tracee at rest, for its tracer to look at and change.
pub struct Stop {
    pub kind: Kind,
    /// What wait(2) shows, without the 0x7f: a signal, bits about it, an event in the third byte.
    pub code: i32,
    /// wait(2) has not told it.
    pub(crate) unreported: bool,
    pub info: SigInfo,
    pub words: [u64; WORDS],
    pub float: Vec<u8>,
    pub extended: Vec<u8>,
    pub debug: DebugRegs,
    /// Which of them the tracer has changed.
    pub words_changed: bool,
    pub float_changed: bool,
    pub extended_changed: bool,
    pub debug_changed: bool,
    /// Number and arguments of the system call, at its entry and exit.
    pub call: Option<(usize, [usize; 6])>,
    /// The signal to go on with; 0: none.
    pub(crate) signal: u32,
    /// It may go on.
    pub(crate) resumed: bool,
}

/// How a tracee runs until its next stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Run,
    Calls,
    Step,
}

/// What a traced thread knows of its tracer; under the thread's `trace` lock.
pub struct Traced {
    pub(crate) tracer: Weak<Thread>,
    pub(crate) seized: bool,
    /// `PTRACE_O_*`.
    pub options: u32,
    /// PTRACE_GETEVENTMSG.
    pub message: u64,
    pub(crate) mode: Mode,
    /// PTRACE_LISTEN: stays stopped, but tells of a SIGCONT.
    pub(crate) listening: bool,
    /// A stop is wanted (PTRACE_INTERRUPT, or the first of a seized child).
    pub(crate) wants_stop: bool,
    pub stop: Option<Box<Stop>>,
}

/// What a process knows of those its threads trace.
#[derive(Default)]
pub struct Tracing {
    pub(crate) tracees: Vec<Tracee>,
    /// Ends of tracees that are not its children: told by wait(2).
    pub(crate) ends: VecDeque<End>,
}

/// Who traces whom.
pub(crate) struct Tracee {
    pub tracer: Weak<Thread>,
    pub thread: Weak<Thread>,
}

/// The end of a tracee.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub tracer: Weak<Thread>,
    pub tid: crate::Pid,
    pub pgid: crate::Pid,
    pub uid: u32,
    /// As wait4 encodes it.
    pub status: i32,
    pub usage: crate::usage::Usage,
}

impl Thread {
    /// Whether somebody traces the thread. No lock.
    #[inline]
    pub fn is_ptraced(&self) -> bool {
        self.ptraced.load(SeqCst)
    }

    /// The thread that traces it.
    pub fn tracer(&self) -> Option<Arc<Thread>> {
        if !self.is_ptraced() {
            return None;
        }
        self.trace.lock().as_ref()?.tracer.upgrade()
    }

    /// Whether that very thread traces it.
    pub fn is_traced_by(&self, tracer: &Arc<Thread>) -> bool {
        self.is_ptraced()
            && self.trace.lock().as_ref().is_some_and(|traced| is_thread(&traced.tracer, tracer))
    }

    /// Whether its system calls are to be shown to its tracer.
    pub(crate) fn shows_calls(&self) -> bool {
        self.is_ptraced() && self.trace.lock().as_ref().is_some_and(|traced| traced.mode == Mode::Calls)
    }
}

/// Whether `weak` is about `thread`.
pub(crate) fn is_thread(weak: &Weak<Thread>, thread: &Arc<Thread>) -> bool {
    core::ptr::eq(weak.as_ptr(), Arc::as_ptr(thread))
}
