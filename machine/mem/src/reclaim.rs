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

/// Calls the reclaimer; `Err` when nothing was freed.
pub(crate) fn run(pages_wanted: usize) -> Result<(), OutOfMemory> {
    let hook = RECLAIMER.load(Ordering::Acquire);
    if hook.is_null() {
        return Err(OutOfMemory);
    }
    let me = arch::cpu::current().cast_mut();
    if me.is_null() || INSIDE.iter().any(|slot| slot.load(Ordering::Relaxed) == me) {
        return Err(OutOfMemory);
    }
    let free = |slot: &&AtomicPtr<()>| {
        slot.compare_exchange(core::ptr::null_mut(), me, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    // More tasks at once in reclaim than slots: this one is refused rather than queued without a lock.
    let slot = INSIDE.iter().find(free).ok_or(OutOfMemory)?;
    // SAFETY: 1. only `set_reclaimer` stores here, and it stores a `Reclaimer`.
    let reclaimer: Reclaimer = unsafe { core::mem::transmute(hook) };
    let freed = reclaimer(pages_wanted);
    slot.store(core::ptr::null_mut(), Ordering::Relaxed);
    if freed > 0 { Ok(()) } else { Err(OutOfMemory) }
}
