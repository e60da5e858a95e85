//! Time: what clock it is, and things to do later.
//!
//! **Problem.** One hardware counter and one one-shot clock event per CPU serve every clock, timeout and
//! the scheduler.
//!
//! **Interface.** [`monotonic_ns`], [`realtime_ns`], [`set_realtime_ns`], [`adjust`]. A [`Timer`] calls back at a time;
//! tasks sleep through `task::sleep_until`, for which [`init`] installs the source. The scheduler sets
//! its own next event with [`set_sched_event`].
//!
//! **Idea.** Each CPU has an ordered queue of precise timers; its clock event is programmed for the
//! earliest of that queue and the scheduler's event. Waking a task is done in the interrupt itself.
//! Callbacks run in the thread `ktimers/N` instead: they take locks that only process context may take
//! (a signal to send, a tty to hang up), and an interrupt stays short whatever they do. The alternative,
//! Linux's timer softirq, needs every such lock to switch bottom halves off.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod clock;
pub mod show;
mod timer;

pub use clock::{
    Adjusted, OutOfRange, RealTime, adjust, monotonic_ns, realtime, realtime_changed, realtime_ns,
    set_realtime_ns, tai_ns, wait_realtime_change, watch_realtime,
};
pub use timer::{Expire, Timer, init, interrupt, set_sched_event, set_sched_handler, start_threads};
