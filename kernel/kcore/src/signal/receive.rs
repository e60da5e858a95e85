//! Taking signals without a handler: sigtimedwait(2), signalfd(2), sigpending(2).

use super::{SigInfo, SigSet, deliver};
use crate::thread::Thread;
use crate::{Ctx, Result};
use abi::Errno;
use abi::signal::{SIGKILL, SIGSTOP};
use core::sync::atomic::Ordering::SeqCst;
use task::{WaitEnd, WaitMode};

/// Signals that are pending and blocked.
pub fn pending(thread: &Thread) -> SigSet {
    (thread.pending_set() | thread.process().shared_pending()) & thread.blocked()
}

/// Takes a pending signal of `set`, sleeping until `deadline_ns` (monotonic; `None`: for ever) for one to
/// come. EAGAIN when none came, EINTR when another signal did.
pub fn accept(ctx: &mut Ctx, set: SigSet, deadline_ns: Option<u64>) -> Result<SigInfo> {
    let set = set.without(SIGKILL).without(SIGSTOP);
    let thread = ctx.thread;
    loop {
        thread.waiting_for.store(set.bits(), SeqCst);
        let end = task::wait_any(&[], WaitMode::Interruptible, deadline_ns, || deliver::take(thread, set));
        thread.waiting_for.store(0, SeqCst);
        thread.recalculate();
        match end {
            Ok(info) => return Ok(info),
            Err(WaitEnd::Timeout) => return Err(Errno::EAGAIN),
            Err(WaitEnd::Signal) if ctx.signal_pending() => return Err(Errno::EINTR),
            // Another thread was faster.
            Err(WaitEnd::Signal) => {}
        }
    }
}
