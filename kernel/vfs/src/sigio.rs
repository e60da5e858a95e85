//! Signals about files: SIGIO, or what F_SETSIG names, to whom F_SETOWN names.
//!
//! Processes are a matter of the layer above, which says how by [`install`].

use crate::file::Owner;
use sync::Once;

/// Sends the signal of an open file's owner. `fd`: the descriptor that the event is about; `reason`: `POLL_*`. Process
/// context; takes the locks of processes and signals.
pub type Send = fn(owner: &Owner, fd: i32, reason: i32);

static SEND: Once<Send> = Once::new();

/// Says how signals are sent. Once, at boot.
pub fn install(send: Send) {
    let _ = SEND.set(send);
}

pub(crate) fn send(owner: &Owner, fd: i32, reason: i32) {
    if owner.pid != 0
        && let Some(send) = SEND.get()
    {
        send(owner, fd, reason);
    }
}
