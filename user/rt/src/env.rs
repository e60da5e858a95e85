//! What the kernel put on the initial stack: arguments, environment, auxiliary vector (`execve(2)`, `getauxval(3)`).

use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The initial stack pointer: argc, argv, NULL, envp, NULL, auxv.
static STACK: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn init(stack: usize) {
    STACK.store(stack, Ordering::Relaxed);
}

fn word(index: usize) -> usize {
    let stack = STACK.load(Ordering::Relaxed) as *const usize;
    // SAFETY: 1. `stack` is the initial stack, which the kernel keeps mapped; 2. callers stop at its NULLs.
    unsafe { stack.add(index).read() }
}

fn string(index: usize) -> Option<&'static CStr> {
    match word(index) {
        0 => None,
        // SAFETY: 1. the kernel put NUL-terminated strings on the initial stack, which lives as long as the process.
        address => Some(unsafe { CStr::from_ptr(address as *const _) }),
    }
}

fn env_start() -> usize {
    1 + word(0) + 1
}

/// The program's arguments, its own name first.
pub fn args() -> impl Iterator<Item = &'static CStr> {
    (0..word(0)).filter_map(|i| string(1 + i))
}

/// Argument `index` as text, if there is one and it is UTF-8.
pub fn arg(index: usize) -> Option<&'static str> {
    args().nth(index)?.to_str().ok()
}

/// The environment: `NAME=value` strings.
pub fn vars() -> impl Iterator<Item = &'static CStr> {
    (env_start()..).map_while(string)
}

/// The value of environment variable `name`.
pub fn var(name: &str) -> Option<&'static str> {
    vars().filter_map(|v| v.to_str().ok()).find_map(|v| v.strip_prefix(name)?.strip_prefix('='))
}

/// The environment as `execve` takes it.
pub fn envp() -> *const *const u8 {
    let stack = STACK.load(Ordering::Relaxed) as *const *const u8;
    // The result stays within the initial stack, past argv and its NULL.
    stack.wrapping_add(env_start())
}

/// All entries of the auxiliary vector up to `AT_NULL`, as (type, value).
pub fn auxv() -> impl Iterator<Item = (usize, usize)> {
    let start = env_start() + vars().count() + 1;
    (0..).map(move |i| (word(start + 2 * i), word(start + 2 * i + 1))).take_while(|&(kind, _)| kind != 0)
}

/// The value of auxiliary vector entry `kind` (`AT_*`).
pub fn auxval(kind: u32) -> Option<usize> {
    auxv().find(|&(k, _)| k == kind as usize).map(|(_, value)| value)
}
