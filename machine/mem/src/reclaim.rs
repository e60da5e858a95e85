//! The way up: asking the layer above to free memory.

use crate::OutOfMemory;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Frees about so many pages; returns how many it freed, 0 when there is no hope.
pub type Reclaimer = fn(pages_wanted: usize) -> usize;

static RECLAIMER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// The tasks that are inside the reclaimer, so that an allocation it makes itself does not call it again.
static INSIDE: [AtomicPtr<()>; 16] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 16];

/// Installs the function that frees memory when a `USER` or `KERNEL` allocation would fail: page-cache
/// reclaim, then the OOM killer.
///
/// It is called in task context with preemption and interrupts on and may sleep. The allocating task may
/// hold *sleeping* locks: the reclaimer takes those with `try_lock` only. Allocations it makes itself do
/// not call it again; they fail.
pub fn set_reclaimer(reclaimer: Reclaimer) {
    RECLAIMER.store(reclaimer as *mut (), Ordering::Release);
}

/// A zone was seen below its high mark since the hook was called last.
static PRESSED: AtomicBool = AtomicBool::new(false);
static PRESSURE_HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Installs what is called when a zone is below its high mark: waking the thread that reclaims in advance.
/// Called after allocations of `USER` memory, in task context without spin locks.
pub fn set_pressure_hook(hook: fn()) {
    PRESSURE_HOOK.store(hook as *mut (), Ordering::Release);
}

/// Called where a CPU's list is filled, under the zone's lock.
pub(crate) fn note_pressure() {
    PRESSED.store(true, Ordering::Relaxed);
}

#[inline]
pub(crate) fn is_pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}

/// Passes the news on, once, from where it may be.
#[cold]
pub(crate) fn tell() {
    let hook = PRESSURE_HOOK.load(Ordering::Acquire);
    if hook.is_null() || sync::preempt::in_atomic() || !PRESSED.swap(false, Ordering::Relaxed) {
        return;
    }
    // SAFETY: 1. only `set_pressure_hook` stores here, and it stores a `fn()`.
    let hook: fn() = unsafe { core::mem::transmute(hook) };
    hook();
}

static WAITER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Installs the function that makes room for an allocation that cannot fail, whatever the reclaimer said: it sleeps a
/// moment and returns; before that, if told so, it kills somebody. Task context, preemption and interrupts on.
pub fn set_waiter(waiter: fn(kill: bool)) {
    WAITER.store(waiter as *mut (), Ordering::Release);
}

/// Waits a moment for memory; false where nobody can wait.
pub(crate) fn wait() -> bool {
    let hook = WAITER.load(Ordering::Acquire);
    if hook.is_null() {
        return false;
    }
    // SAFETY: 1. only `set_waiter` stores here, and it stores such a function.
    let waiter: fn(bool) = unsafe { core::mem::transmute(hook) };
    if is_inside() {
        return false;
    }
    // With all slots taken there are enough others who kill.
    if guarded(|| waiter(true)).is_err() {
        waiter(false);
    }
    true
}

/// Calls the reclaimer; `Err` when nothing was freed.
pub(crate) fn run(pages_wanted: usize) -> Result<(), OutOfMemory> {
    let hook = RECLAIMER.load(Ordering::Acquire);
    if hook.is_null() {
        return Err(OutOfMemory);
    }
    // SAFETY: 1. only `set_reclaimer` stores here, and it stores a `Reclaimer`.
    let reclaimer: Reclaimer = unsafe { core::mem::transmute(hook) };
    if guarded(|| reclaimer(pages_wanted))? > 0 { Ok(()) } else { Err(OutOfMemory) }
}

fn is_inside() -> bool {
    let me = arch::cpu::current().cast_mut();
    me.is_null() || INSIDE.iter().any(|slot| slot.load(Ordering::Relaxed) == me)
}

/// Runs `body` unless the task is inside one already, or too many tasks are.
fn guarded<R>(body: impl FnOnce() -> R) -> Result<R, OutOfMemory> {
    if is_inside() {
        return Err(OutOfMemory);
    }
    let me = arch::cpu::current().cast_mut();
    let free = |slot: &&AtomicPtr<()>| {
        slot.compare_exchange(core::ptr::null_mut(), me, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    // More tasks at once in reclaim than slots: this one is refused rather than queued without a lock.
    let slot = INSIDE.iter().find(free).ok_or(OutOfMemory)?;
    let value = body();
    slot.store(core::ptr::null_mut(), Ordering::Relaxed);
    Ok(value)
}
