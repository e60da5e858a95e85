//! The knobs of `/proc/sys/vm` that are write-back's, with Linux's defaults and meanings.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Percent of the dirtyable memory at which the flushers begin; 0 when bytes are set.
pub static BACKGROUND_RATIO: AtomicU32 = AtomicU32::new(10);
/// The same in bytes; 0 when the ratio is set.
pub static BACKGROUND_BYTES: AtomicU64 = AtomicU64::new(0);
/// Percent at which writers wait.
pub static RATIO: AtomicU32 = AtomicU32::new(20);
pub static BYTES: AtomicU64 = AtomicU64::new(0);
/// Age in 1/100 s at which dirty data is written.
pub static EXPIRE_CENTISECS: AtomicU32 = AtomicU32::new(3000);
/// How often the flushers look, in 1/100 s; 0: never by themselves.
pub static WRITEBACK_CENTISECS: AtomicU32 = AtomicU32::new(500);

const CENTISECOND_NS: u64 = 10_000_000;

pub(super) fn expire_ns() -> u64 {
    u64::from(EXPIRE_CENTISECS.load(Relaxed)) * CENTISECOND_NS
}

pub(super) fn writeback_interval_ns() -> Option<u64> {
    match WRITEBACK_CENTISECS.load(Relaxed) {
        0 => None,
        centisecs => Some(u64::from(centisecs) * CENTISECOND_NS),
    }
}

/// Setting one of a pair makes the other 0, as in Linux.
pub fn set_ratio(percent: u32) {
    RATIO.store(percent, Relaxed);
    BYTES.store(0, Relaxed);
}

pub fn set_bytes(bytes: u64) {
    BYTES.store(bytes, Relaxed);
    RATIO.store(0, Relaxed);
}

pub fn set_background_ratio(percent: u32) {
    BACKGROUND_RATIO.store(percent, Relaxed);
    BACKGROUND_BYTES.store(0, Relaxed);
}

pub fn set_background_bytes(bytes: u64) {
    BACKGROUND_BYTES.store(bytes, Relaxed);
    BACKGROUND_RATIO.store(0, Relaxed);
}
