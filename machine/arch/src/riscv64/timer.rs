//! The time counter and the clock event of each CPU.

use super::{csr, platform, sbi};
use crate::paging::VdsoClock;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Ticks to ns: `ticks * MULT >> SHIFT`. A frequency that divides 10^9 needs no shift and is exact.
static MULT: AtomicU64 = AtomicU64::new(100);
static SHIFT: AtomicU32 = AtomicU32::new(0);
static FREQUENCY_HZ: AtomicU64 = AtomicU64::new(10_000_000);
/// The counter at boot.
static BASE: AtomicU64 = AtomicU64::new(0);

const NS_PER_S: u64 = 1_000_000_000;
const TIMER_BIT: usize = 1 << csr::IRQ_TIMER;

/// The free-running counter.
#[inline]
pub(super) fn counter() -> u64 {
    csr::read!("time") as u64
}

pub(super) fn set_frequency(hz: u64) {
    let hz = hz.max(1);
    let (mult, shift) =
        if NS_PER_S.is_multiple_of(hz) { (NS_PER_S / hz, 0) } else { ((NS_PER_S << 24) / hz, 24) };
    MULT.store(mult, Relaxed);
    SHIFT.store(shift, Relaxed);
    FREQUENCY_HZ.store(hz, Relaxed);
    BASE.store(counter(), Relaxed);
}

pub fn frequency_hz() -> u64 {
    FREQUENCY_HZ.load(Relaxed)
}

/// ns since boot. Any context.
#[inline]
pub fn now_ns() -> u64 {
    let ticks = counter() - BASE.load(Relaxed);
    let shift = SHIFT.load(Relaxed);
    if shift == 0 {
        return ticks * MULT.load(Relaxed);
    }
    ((u128::from(ticks) * u128::from(MULT.load(Relaxed))) >> shift) as u64
}

/// The counter value at which `ns` since boot have passed, rounded up.
fn ticks_at(ns: u64) -> u64 {
    let mult = MULT.load(Relaxed);
    let ticks = match SHIFT.load(Relaxed) {
        0 => ns.div_ceil(mult),
        shift => (u128::from(ns) << shift).div_ceil(u128::from(mult)) as u64,
    };
    BASE.load(Relaxed).saturating_add(ticks)
}

/// This CPU gets one timer interrupt at `deadline_ns` or soon after; at once if that is past. Replaces the
/// deadline before.
pub fn set_deadline_ns(deadline_ns: u64) {
    let ticks = ticks_at(deadline_ns);
    if platform::has(platform::SSTC) {
        // SAFETY: 1. the hart has Sstc; the timer interrupt is handled.
        unsafe { csr::write!("0x14d", ticks) };
    } else {
        sbi::set_timer(ticks);
        // SAFETY: 1. the timer interrupt is handled.
        unsafe { csr::set!("sie", TIMER_BIT) };
    }
}

/// No timer interrupt until the next deadline is set.
pub fn disarm() {
    if platform::has(platform::SSTC) {
        // SAFETY: 1. the hart has Sstc; the time that never comes.
        unsafe { csr::write!("0x14d", u64::MAX) };
    } else {
        // The pending bit stays until the next `set_timer`: the source is turned off instead of one more
        // call into the firmware.
        // SAFETY: 1. masks an interrupt.
        unsafe { csr::clear!("sie", TIMER_BIT) };
    }
}

/// Prepares this CPU's clock event; it stays disarmed.
pub fn init_local() {
    disarm();
    if platform::has(platform::SSTC) {
        // SAFETY: 1. the timer interrupt is handled; it is disarmed.
        unsafe { csr::set!("sie", TIMER_BIT) };
    }
}

/// The timer interrupt came: it would stay pending until a new deadline.
pub(super) fn fired() {
    disarm();
}

/// How user space turns the counter (`rdtime`) into ns since boot.
pub fn vdso_clock() -> VdsoClock {
    VdsoClock { base: BASE.load(Relaxed), base_ns: 0, mult: MULT.load(Relaxed), shift: SHIFT.load(Relaxed) }
}
