//! What must happen however this process ends: the emulator killed, the terminal restored, files removed.
//!
//! Idea: destructors do not run at `process::exit`, nor on a signal. So these actions are registered here, and every
//! way out, including SIGINT, SIGTERM and SIGHUP, goes through [`exit`]. (SIGKILL cannot be caught: the emulator
//! then dies by its parent-death signal, see [`crate::qemu`].)

use std::sync::{Mutex, Once, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Action = Box<dyn FnOnce() + Send>;

static ACTIONS: Mutex<Vec<Action>> = Mutex::new(Vec::new());

/// Registers `action`; the last registered runs first.
pub fn at_exit(action: impl FnOnce() + Send + 'static) {
    static SIGNALS: Once = Once::new();
    SIGNALS.call_once(exit_on_signals);
    ACTIONS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(action));
}

fn exit_on_signals() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            exit(128 + signal);
        }
    });
}

/// Runs all actions and ends the process.
pub fn exit(code: i32) -> ! {
    // The lock is kept: a second caller waits here while the first one ends the process.
    let mut actions = ACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(action) = actions.pop() {
        action();
    }
    std::process::exit(code)
}
