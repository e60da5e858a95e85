//! Pending signals: a bit per signal and the queue of what is known about each.
//!
//! A standard signal is pending at most once; real-time signals queue. When there is no memory for an
//! entry, a standard signal still becomes pending, without its details, as in Linux.

use super::{SYNCHRONOUS, SigSet};
use crate::Result;
use crate::rlimit::UserCounts;
use abi::Errno;
use abi::signal::{SI_USER, SIGRTMIN, SigInfo};
use alloc::collections::VecDeque;
use alloc::sync::Arc;

struct Entry {
    info: SigInfo,
    /// Whose RLIMIT_SIGPENDING it counts against, when it does.
    _charged: Option<Charge>,
}

/// One pending signal of a user; gives the count back when dropped.
pub(crate) struct Charge(Arc<UserCounts>);

impl Charge {
    /// Counts one more; EAGAIN beyond `limit`.
    pub fn take(counts: &Arc<UserCounts>, limit: u64) -> Result<Charge> {
        counts.charge_signal(limit).then(|| Charge(counts.clone())).ok_or(Errno::EAGAIN)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.uncharge_signal();
    }
}

/// Signals that wait for a thread or for a process.
#[derive(Default)]
pub struct Pending {
    mask: SigSet,
    queue: VecDeque<Entry>,
}

impl Pending {
    pub(crate) fn new() -> Pending {
        Pending { mask: SigSet::EMPTY, queue: VecDeque::new() }
    }

    pub fn mask(&self) -> SigSet {
        self.mask
    }

    /// Adds a signal. EAGAIN when a real-time signal cannot be queued for lack of memory.
    pub(crate) fn add(&mut self, info: SigInfo, charged: Option<Charge>) -> Result<()> {
        let signal = info.signo as u32;
        if signal < SIGRTMIN && self.mask.contains(signal) {
            return Ok(());
        }
        let room = self.queue.try_reserve(1).is_ok();
        if room {
            self.queue.push_back(Entry { info, _charged: charged });
        } else if signal >= SIGRTMIN && info.code != SI_USER {
            return Err(Errno::EAGAIN);
        }
        self.mask = self.mask.with(signal);
        Ok(())
    }

    /// Takes the next signal of `wanted`: faults first, then the lowest number, oldest first.
    pub(crate) fn take(&mut self, wanted: SigSet) -> Option<SigInfo> {
        let ready = self.mask & wanted;
        let signal = (ready & SYNCHRONOUS).first().or(ready.first())?;
        let at = self.queue.iter().position(|e| e.info.signo as u32 == signal);
        let info = match at.and_then(|at| self.queue.remove(at)) {
            Some(entry) => entry.info,
            None => SigInfo::user(signal, SI_USER, 0, 0),
        };
        if !self.queue.iter().any(|e| e.info.signo as u32 == signal) {
            self.mask = self.mask.without(signal);
        }
        Some(info)
    }

    /// Forgets every signal of the set.
    pub(crate) fn remove(&mut self, set: SigSet) {
        if !(self.mask & set).is_empty() {
            self.mask = self.mask & !set;
            self.queue.retain(|e| !set.contains(e.info.signo as u32));
        }
    }
}
