//! The line discipline of terminals: what lies between the keys and read(2), and between write(2) and
//! the screen.
//!
//! **Problem.** A person edits a line, interrupts a program and stops the output with keys; a program
//! sees whole lines, or raw bytes when it asks for them.
//!
//! **Interface.** [`LineDiscipline::receive`] takes one input byte; what must be echoed goes to the
//! output sink and what must be signalled is returned. [`LineDiscipline::read`] takes cooked input out.
//! [`LineDiscipline::write`] turns a program's bytes into the terminal's.
//!
//! **Idea.** A pure state machine: no clock, no lock, no terminal. Sources: termios(3), POSIX chapter 11,
//! and the behaviour of Linux's n_tty where both are silent.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod input;
mod output;

pub use input::{Event, LineDiscipline, ReadOutcome};

/// The most input that is kept unread, and the longest line (Linux's N_TTY_BUF_SIZE).
pub const INPUT_MAX: usize = 4096;

#[cfg(test)]
mod tests;
