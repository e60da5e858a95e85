//! Signals: masks, handlers, waiting.

use core::mem;

use crate::nr::*;
use crate::{Result, arch, syscall};

/// A handler as the kernel calls it.
pub type Handler = extern "C" fn(i32);

/// What a signal does.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// The signal's default.
    Default,
    /// Nothing.
    Ignore,
    /// Call a function; it must be async-signal-safe.
    Handle(Handler),
}

/// The mask bit of `signal` (1 to 64).
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// `rt_sigaction(2)`; `flags` are `SA_*`, `mask` the signals blocked in the handler.
pub fn set_action(signal: u32, action: Action, flags: u32, mask: u64) -> Result<()> {
    let handler: usize = match action {
        Action::Default => 0,
        Action::Ignore => 1,
        Action::Handle(f) => f as usize,
    };
    // SAFETY: 1. zero is a valid value of every field (no handler, no flags, no restorer, empty mask).
    let mut raw: kernel_sigaction = unsafe { mem::zeroed() };
    // SAFETY: 1. the field is a nullable function pointer; SIG_DFL (0), SIG_IGN (1) and functions are its values.
    raw.sa_handler_kernel = unsafe { mem::transmute::<usize, __kernel_sighandler_t>(handler) };
    raw.sa_flags = flags as _;
    set_restorer(&mut raw);
    // SAFETY: 1. both are 64-bit sets.
    raw.sa_mask = unsafe { mem::transmute::<u64, kernel_sigset_t>(mask) };
    // SAFETY: 1. the kernel reads one `sigaction`; 2. a handler is a safe function, its signal safety the caller's.
    unsafe { syscall!(__NR_rt_sigaction, signal, &raw const raw, 0, 8) }.map(drop)
}

#[cfg(target_arch = "x86_64")]
fn set_restorer(raw: &mut kernel_sigaction) {
    raw.sa_flags |= SA_RESTORER as u64;
    // SAFETY: 1. both are nullable function pointers without arguments; the kernel jumps to it with the signal
    // frame on the stack, as it expects.
    raw.sa_restorer =
        unsafe { mem::transmute::<Option<unsafe extern "C" fn()>, __sigrestore_t>(arch::RESTORER) };
}

#[cfg(target_arch = "riscv64")]
fn set_restorer(_: &mut kernel_sigaction) {
    const { assert!(arch::RESTORER.is_none()) };
}

/// `rt_sigprocmask(2)`; `how` is `SIG_BLOCK`, `SIG_UNBLOCK` or `SIG_SETMASK`. Answers the old mask.
pub fn mask(how: u32, set: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: 1. the kernel reads and writes 8 bytes.
    unsafe { syscall!(__NR_rt_sigprocmask, how, &raw const set, &raw mut old, 8) }?;
    Ok(old)
}

/// `rt_sigpending(2)`.
pub fn pending() -> Result<u64> {
    let mut set = 0u64;
    // SAFETY: 1. the kernel writes 8 bytes.
    unsafe { syscall!(__NR_rt_sigpending, &raw mut set, 8) }?;
    Ok(set)
}

/// `rt_sigtimedwait(2)`: takes one of `set` (which should be blocked); answers its number.
pub fn wait(set: u64, timeout_ns: Option<u64>) -> Result<u32> {
    let limit = timeout_ns.map(crate::time::timespec);
    let limit_at = limit.as_ref().map_or(0, |t| &raw const *t as usize);
    // SAFETY: 1. the kernel reads the set and the time.
    unsafe { syscall!(__NR_rt_sigtimedwait, &raw const set, 0, limit_at, 8) }.map(|n| n as u32)
}

/// `rt_sigsuspend(2)`: waits with `mask` blocked until a handler has run.
pub fn suspend(mask: u64) {
    // SAFETY: 1. the kernel reads 8 bytes. It always ends with EINTR.
    let _ = unsafe { syscall!(__NR_rt_sigsuspend, &raw const mask, 8) };
}
