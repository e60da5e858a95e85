//! Fast user-space locks: futex(2), set_robust_list(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const FUTEX_WAIT: i32 = 0;
pub const FUTEX_WAKE: i32 = 1;
pub const FUTEX_FD: i32 = 2;
pub const FUTEX_REQUEUE: i32 = 3;
pub const FUTEX_CMP_REQUEUE: i32 = 4;
pub const FUTEX_WAKE_OP: i32 = 5;
pub const FUTEX_LOCK_PI: i32 = 6;
pub const FUTEX_UNLOCK_PI: i32 = 7;
pub const FUTEX_TRYLOCK_PI: i32 = 8;
pub const FUTEX_WAIT_BITSET: i32 = 9;
pub const FUTEX_WAKE_BITSET: i32 = 10;
pub const FUTEX_WAIT_REQUEUE_PI: i32 = 11;
pub const FUTEX_CMP_REQUEUE_PI: i32 = 12;
pub const FUTEX_LOCK_PI2: i32 = 13;
pub const FUTEX_PRIVATE_FLAG: i32 = 128;
pub const FUTEX_CLOCK_REALTIME: i32 = 256;
pub const FUTEX_CMD_MASK: i32 = !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
pub const FUTEX_BITSET_MATCH_ANY: u32 = u32::MAX;

/// Flags of futex_waitv(2) and the calls after it: the size of the word, who shares it.
pub const FUTEX2_SIZE_MASK: u32 = 3;
pub const FUTEX2_SIZE_U32: u32 = 2;
pub const FUTEX2_PRIVATE: u32 = 128;
/// Words that futex_waitv(2) takes at most.
pub const FUTEX_WAITV_MAX: usize = 128;

/// `struct futex_waitv`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FutexWaitv {
    pub value: u64,
    pub address: u64,
    pub flags: u32,
    pub reserved: u32,
}

/// The futex word of a robust mutex.
pub const FUTEX_WAITERS: u32 = 0x8000_0000;
pub const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
pub const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Entries of a robust list that the kernel follows at most.
pub const ROBUST_LIST_LIMIT: usize = 2048;

/// `struct robust_list_head`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RobustListHead {
    /// The first entry; bit 0 marks a PI futex. The list ends at the head's own address.
    pub list: u64,
    /// From an entry to its futex word.
    pub futex_offset: i64,
    /// An entry being locked or unlocked right now.
    pub list_op_pending: u64,
}
