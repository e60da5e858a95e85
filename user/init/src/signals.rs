//! Signals as events of the main loop.
//!
//! Idea: they stay blocked but for the time that [`wait`] sleeps in `ppoll`, which swaps the mask atomically: none
//! is missed between looking and sleeping. The handler only notes the number.

use core::sync::atomic::{AtomicU64, Ordering};

use rt::{io, nr, process, signal};

static SEEN: AtomicU64 = AtomicU64::new(0);

const HANDLED: [u32; 5] = [nr::SIGCHLD, nr::SIGUSR1, nr::SIGUSR2, nr::SIGTERM, nr::SIGINT];

extern "C" fn note(signal: i32) {
    SEEN.fetch_or(signal::bit(signal as u32), Ordering::Relaxed);
}

/// Blocks the signals that process 1 acts on and installs their handler.
pub fn set_up() {
    let all = HANDLED.into_iter().fold(0, |set, s| set | signal::bit(s));
    let _ = signal::mask(nr::SIG_BLOCK, all);
    for s in HANDLED {
        let _ = signal::set_action(s, signal::Action::Handle(note), 0, !0);
    }
}

/// In a child: back to what a new program expects (`execve` resets the handlers).
pub fn restore_in_child() {
    let _ = signal::mask(nr::SIG_SETMASK, 0);
}

/// Sleeps until a descriptor is ready or a signal came.
pub fn wait(fds: &mut [io::PollFd]) -> rt::Result<usize> {
    io::poll(fds, None, Some(0))
}

/// The signals that came since the last call, as mask bits.
pub fn take() -> u64 {
    SEEN.swap(0, Ordering::Relaxed)
}

/// What a signal to process 1 asks for, in BusyBox's convention.
pub fn requested_reboot(seen: u64) -> Option<process::Reboot> {
    let has = |s| seen & signal::bit(s) != 0;
    if has(nr::SIGUSR2) {
        Some(process::Reboot::PowerOff)
    } else if has(nr::SIGUSR1) {
        Some(process::Reboot::Halt)
    } else if has(nr::SIGTERM) || has(nr::SIGINT) {
        Some(process::Reboot::Restart)
    } else {
        None
    }
}

/// Collects every child that has ended and calls `ended` with it.
pub fn reap(mut ended: impl FnMut(process::Pid, process::Status)) {
    while let Ok(Some((pid, status))) = process::wait(-1, nr::WNOHANG) {
        ended(pid, status);
    }
}
