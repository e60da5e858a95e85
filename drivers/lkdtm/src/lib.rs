//! Breaks the kernel on request: `echo TYPE > /sys/kernel/debug/provoke-crash/DIRECT`. Debug builds only.
//!
//! **Problem.** Checks that never fire in a sound kernel may have stopped firing at all: the oops that costs one
//! program, the report of a full kernel stack, the lock order, sleeping in atomic context, poison and red zones.
//!
//! **Interface.** Linux's (drivers/misc/lkdtm): reading the file lists the types. Those without a counterpart there are
//! SLEEP_IN_ATOMIC, LOCK_ORDER and PREEMPT_LEAK. Writing needs root, as the file's mode says.
//!
//! **Idea.** One function a type. What needs `unsafe` to go wrong is in `mem::provoke`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(debug_assertions)]
mod faults;

#[cfg(debug_assertions)]
pub use faults::init;
