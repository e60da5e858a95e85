//! What the caller of a memory system call may use.

use crate::RLIM_INFINITY;

/// Resource limits (getrlimit(2)) and privileges. Bytes; [`RLIM_INFINITY`] is no limit.
///
/// Asked for at most once a call each, without locks of this crate below the areas' lock being held.
pub trait Limits {
    /// RLIMIT_AS.
    fn address_space(&self) -> u64;
    /// RLIMIT_DATA.
    fn data(&self) -> u64;
    /// RLIMIT_STACK.
    fn stack(&self) -> u64;
    /// RLIMIT_MEMLOCK; [`RLIM_INFINITY`] for CAP_IPC_LOCK.
    fn memlock(&self) -> u64;
    /// CAP_SYS_RAWIO: may map below [`crate::MMAP_MIN_ADDR`].
    fn may_map_low(&self) -> bool;
}

/// The kernel itself: no limits.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

impl Limits for Unlimited {
    fn address_space(&self) -> u64 {
        RLIM_INFINITY
    }

    fn data(&self) -> u64 {
        RLIM_INFINITY
    }

    fn stack(&self) -> u64 {
        RLIM_INFINITY
    }

    fn memlock(&self) -> u64 {
        RLIM_INFINITY
    }

    fn may_map_low(&self) -> bool {
        true
    }
}
