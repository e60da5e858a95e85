//! Scheduling: sched(7), sched_setattr(2), setpriority(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const SCHED_NORMAL: u32 = 0;
pub const SCHED_FIFO: u32 = 1;
pub const SCHED_RR: u32 = 2;
pub const SCHED_BATCH: u32 = 3;
pub const SCHED_IDLE: u32 = 5;
pub const SCHED_DEADLINE: u32 = 6;
/// Flag in the policy of sched_setscheduler(2).
pub const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;

pub const SCHED_FLAG_RESET_ON_FORK: u64 = 1;
pub const SCHED_FLAG_RECLAIM: u64 = 2;
pub const SCHED_FLAG_DL_OVERRUN: u64 = 4;
pub const SCHED_FLAG_KEEP_POLICY: u64 = 8;
pub const SCHED_FLAG_KEEP_PARAMS: u64 = 16;
/// Both clamps, minimum and maximum.
pub const SCHED_FLAG_UTIL_CLAMP: u64 = 0x60;

pub const PRIO_PROCESS: i32 = 0;
pub const PRIO_PGRP: i32 = 1;
pub const PRIO_USER: i32 = 2;

/// `struct sched_attr`, the version with utilisation clamps.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}
pub const SCHED_ATTR_SIZE_VER0: usize = 48;
const _: () = assert!(size_of::<SchedAttr>() == 56);
