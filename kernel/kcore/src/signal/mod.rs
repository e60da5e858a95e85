//! Signals (signal(7)): sending, blocking, delivering, stopping.
//!
//! **Problem.** Anybody may send a signal at any time; its receiver sees it exactly once, soon, in user
//! mode only, on a thread that does not block it, with stops, continues and deaths in the right order.
//!
//! **Interface.** [`send_process`], [`send_thread`], [`send_group`] with a [`SigInfo`]; [`force`] for
//! faults; [`may_signal`] says who may. [`deliver`] is the receiving side, called by the user loop.
//!
//! **Idea.** One lock per process ([`ProcessSignals`]) orders everything that concerns all its threads.
//! What a thread polls on its way to user mode are two words that need no lock: its
//! [`work`](crate::thread::work) bits and the mask of pending signals.

mod action;
mod deliver;
mod queue;
mod receive;
mod send;
mod set;
mod stop;

pub use abi::signal::SigInfo;
pub use action::{Action, Handlers, set_action};
pub(crate) use deliver::take;
pub(crate) use deliver::{Outcome, deliver};
pub use deliver::{alt_stack, restore_frame, set_alt_stack};
pub use queue::Pending;
pub use receive::{accept, pending};
pub(crate) use send::{begin_exit, flush_locked};
pub use send::{
    force, may_signal, may_signal_as, send_forced, send_group, send_group_checked, send_process,
    send_process_checked, send_thread, send_thread_checked,
};
pub use set::SigSet;
pub(crate) use stop::{StopState, child_info, leave as leave_stop, notify_parent as notify_stopped};

use crate::thread::Thread;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Everything about signals that a process's threads share; under the `Signals` lock.
pub(crate) struct ProcessSignals {
    /// Living threads, oldest first.
    pub threads: Vec<Arc<Thread>>,
    pub shared: Pending,
    pub handlers: Arc<Handlers>,
    pub stop: StopState,
    /// The status with which all threads end, once that has begun.
    pub exit: Option<i32>,
    /// The thread that runs exec and waits for all others to end.
    pub exec_by: Option<Arc<Thread>>,
    /// The status of the leader that ended before other threads.
    pub leader_status: Option<i32>,
}

impl ProcessSignals {
    pub fn new(handlers: Arc<Handlers>) -> ProcessSignals {
        ProcessSignals {
            threads: Vec::new(),
            shared: Pending::new(),
            handlers,
            stop: StopState::default(),
            exit: None,
            exec_by: None,
            leader_status: None,
        }
    }
}

/// Signals whose default action is to do nothing.
pub(crate) const DEFAULT_IGNORED: SigSet =
    SigSet::of(&[abi::signal::SIGCHLD, abi::signal::SIGCONT, abi::signal::SIGURG, abi::signal::SIGWINCH]);

/// Signals whose default action is to stop the process.
pub(crate) const DEFAULT_STOPS: SigSet =
    SigSet::of(&[abi::signal::SIGSTOP, abi::signal::SIGTSTP, abi::signal::SIGTTIN, abi::signal::SIGTTOU]);

/// Signals whose default action also dumps core.
pub(crate) const DEFAULT_DUMPS: SigSet = SigSet::of(&[
    abi::signal::SIGQUIT,
    abi::signal::SIGILL,
    abi::signal::SIGTRAP,
    abi::signal::SIGABRT,
    abi::signal::SIGBUS,
    abi::signal::SIGFPE,
    abi::signal::SIGSEGV,
    abi::signal::SIGXCPU,
    abi::signal::SIGXFSZ,
    abi::signal::SIGSYS,
]);

/// Signals that an instruction of the thread itself raises: delivered first.
pub(crate) const SYNCHRONOUS: SigSet = SigSet::of(&[
    abi::signal::SIGSEGV,
    abi::signal::SIGBUS,
    abi::signal::SIGILL,
    abi::signal::SIGTRAP,
    abi::signal::SIGFPE,
    abi::signal::SIGSYS,
]);
