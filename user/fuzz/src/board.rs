//! What the processes of a run share: how far each is, and what it is doing.

use crate::calls;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use rt::mm;
use rt::nr::*;

/// Threads of all workers together.
pub const MAX_LANES: usize = 64;

/// One thread of a worker.
pub struct Lane {
    /// Calls begun.
    pub begun: AtomicU64,
    /// The line of the table of the last one, and its arguments.
    pub call: AtomicU64,
    pub args: [AtomicU64; 6],
}

/// Far from everything else, so that a call with a length too long for its target does not hit the board.
const ADDRESS: usize = 0x10_0000_0000;

/// Shared by fork.
pub struct Board {
    pub lanes: [Lane; MAX_LANES],
    /// Calls by line of the table: all, and those without an error.
    pub made: [AtomicU64; calls::COUNT],
    pub succeeded: [AtomicU64; calls::COUNT],
    /// Calls made by children of workers.
    pub children: AtomicU64,
}

/// A zeroed board that forked processes share.
pub fn new() -> rt::Result<&'static Board> {
    let len = size_of::<Board>();
    let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    // SAFETY: 1. nothing is replaced.
    let at = unsafe { mm::map(ADDRESS, len, PROT_READ | PROT_WRITE, flags, -1, 0) }?;
    // SAFETY: 1. the mapping is as long as the board, page-aligned, zeroed, and never unmapped by name; 2. all
    // fields are atomic integers, for which zero is a value.
    Ok(unsafe { &*(at as *const Board) })
}

impl Board {
    /// Calls begun by everybody.
    pub fn total(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.begun.load(Relaxed)).sum::<u64>() + self.children.load(Relaxed)
    }
}
