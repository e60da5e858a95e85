//! What a process does about each signal: sigaction(2).

use super::{DEFAULT_IGNORED, SigSet};
use crate::{Ctx, Result};
use abi::Errno;
use abi::signal::{SIG_DFL, SIG_IGN, SIGNAL_MAX};
use abi::signal::{SIGKILL, SIGSTOP};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use sync::SpinLock;
use sync::levels::SignalHandlers;

/// `struct sigaction` inside the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// An address, SIG_DFL or SIG_IGN.
    pub handler: usize,
    pub flags: u32,
    pub restorer: usize,
    pub mask: SigSet,
}

/// The sigaction table; shared by processes made with CLONE_SIGHAND.
pub struct Handlers {
    actions: SpinLock<Box<[Action; SIGNAL_MAX as usize]>, SignalHandlers>,
    /// Signals that are thrown away when sent: SIG_IGN, or SIG_DFL where that does nothing. A copy of
    /// what `actions` says, so that senders look without the lock.
    ignored: AtomicU64,
    /// Signals with a handler.
    caught: AtomicU64,
}

impl Handlers {
    /// All default.
    pub(crate) fn new() -> Arc<Handlers> {
        Arc::new(Handlers {
            actions: SpinLock::new(Box::new([Action::default(); SIGNAL_MAX as usize])),
            ignored: AtomicU64::new(DEFAULT_IGNORED.bits()),
            caught: AtomicU64::new(0),
        })
    }

    /// A copy for a child (fork).
    pub(crate) fn fork(&self) -> Arc<Handlers> {
        let actions = self.actions.lock().clone();
        Arc::new(Handlers {
            actions: SpinLock::new(actions),
            ignored: AtomicU64::new(self.ignored.load(Relaxed)),
            caught: AtomicU64::new(self.caught.load(Relaxed)),
        })
    }

    /// What exec leaves: handlers become default, ignored stays ignored. `all` also resets those
    /// (CLONE_CLEAR_SIGHAND keeps SIG_IGN, so it passes false as well).
    pub(crate) fn reset_caught(&self) {
        let mut actions = self.actions.lock();
        let mut ignored = DEFAULT_IGNORED;
        for (signal, action) in (1..).zip(actions.iter_mut()) {
            let mut handler = SIG_DFL;
            if action.handler == SIG_IGN {
                handler = SIG_IGN;
                ignored = ignored.with(signal);
            }
            *action = Action { handler, ..Action::default() };
        }
        // Once, not for each signal: 1,200 instructions of every exec.
        self.ignored.store(ignored.bits(), Release);
        self.caught.store(0, Release);
    }

    pub fn get(&self, signal: u32) -> Action {
        self.actions.lock()[(signal - 1) as usize % SIGNAL_MAX as usize]
    }

    pub(crate) fn set(&self, signal: u32, action: Action) -> Action {
        let mut actions = self.actions.lock();
        self.publish(signal, action.handler);
        core::mem::replace(&mut actions[(signal - 1) as usize % SIGNAL_MAX as usize], action)
    }

    /// SA_RESETHAND.
    pub(crate) fn reset(&self, signal: u32) {
        self.set(signal, Action::default());
    }

    /// Called with `actions` locked.
    fn publish(&self, signal: u32, handler: usize) {
        let bit = SigSet::one(signal);
        let ignored = handler == SIG_IGN || handler == SIG_DFL && DEFAULT_IGNORED.contains(signal);
        put(&self.ignored, bit, ignored);
        put(&self.caught, bit, handler != SIG_IGN && handler != SIG_DFL);
    }

    /// Signals that do nothing when they arrive.
    pub fn ignored(&self) -> SigSet {
        SigSet::from_bits(self.ignored.load(Acquire))
    }

    /// Signals with a handler.
    pub fn caught(&self) -> SigSet {
        SigSet::from_bits(self.caught.load(Acquire))
    }

    /// Signals set to SIG_IGN, as `/proc/PID/status` shows them.
    pub fn explicitly_ignored(&self) -> SigSet {
        let actions = self.actions.lock();
        let mut set = SigSet::EMPTY;
        for (signal, action) in (1..).zip(actions.iter()) {
            if action.handler == SIG_IGN {
                set = set.with(signal);
            }
        }
        set
    }
}

/// Only `publish` stores, under the lock. Readers look without it and may be a moment behind: what they then do
/// with a signal is put right when it is delivered, or by the `flush` after it was set to be ignored.
fn put(word: &AtomicU64, bit: SigSet, on: bool) {
    let old = word.load(Relaxed);
    word.store(if on { old | bit.bits() } else { old & !bit.bits() }, Release);
}

/// sigaction(2): sets what is done about a signal, if `new` is given; the old action. EINVAL for changing
/// SIGKILL or SIGSTOP. A signal that is ignored from now on and pending is forgotten.
pub fn set_action(ctx: &Ctx, signal: u32, new: Option<Action>) -> Result<Action> {
    if new.is_some() && (signal == SIGKILL || signal == SIGSTOP) {
        return Err(Errno::EINVAL);
    }
    let mut signals = ctx.process.signals.lock();
    let Some(new) = new else { return Ok(signals.handlers.get(signal)) };
    let old = signals.handlers.set(signal, new);
    if signals.handlers.ignored().contains(signal) {
        super::flush_locked(ctx.process, &mut signals, SigSet::one(signal));
    }
    Ok(old)
}
