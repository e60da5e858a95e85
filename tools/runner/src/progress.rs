//! Telling a person at a terminal what takes so long, in Cargo's manner; silent for scripts that want it so.

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether steps are shown. `exec` hides them when its stderr is not a terminal: stderr is then the program's alone.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether [`set_quiet`] said so.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// One line about a step that begins: a verb, and what it is done to.
pub fn step(verb: &str, what: impl std::fmt::Display) {
    if !is_quiet() {
        say(verb, what);
    }
}

/// As [`step`], but for what somebody must know: that the machine waits for them.
pub fn say(verb: &str, what: impl std::fmt::Display) {
    if stderr().is_terminal() {
        eprintln!("\x1b[1;32m{verb:>12}\x1b[0m {what}");
    } else {
        eprintln!("{verb:>12} {what}");
    }
}
