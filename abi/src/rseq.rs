//! Restartable sequences: rseq(2), `linux/rseq.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const RSEQ_FLAG_UNREGISTER: u32 = 1;
/// What `cpu_id` says in an area that no thread has registered.
pub const RSEQ_CPU_ID_UNINITIALIZED: u32 = u32::MAX;
/// Bytes of the first version of `struct rseq`, and its alignment.
pub const RSEQ_ORIGINAL_BYTES: u32 = 32;
/// Bytes of `struct rseq` that mean something: up to `mm_cid`.
pub const RSEQ_FEATURE_BYTES: u32 = 28;

/// Where the fields of `struct rseq` are.
pub mod at {
    pub const CPU_ID_START: usize = 0;
    pub const CPU_ID: usize = 4;
    /// Address of the [`super::CriticalSection`] that the thread is in; 0: none.
    pub const RSEQ_CS: usize = 8;
    pub const FLAGS: usize = 16;
    pub const NODE_ID: usize = 20;
    pub const MM_CID: usize = 24;
}

/// `struct rseq_cs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CriticalSection {
    pub version: u32,
    pub flags: u32,
    pub start_ip: u64,
    /// Bytes from `start_ip` to the end of its last instruction.
    pub post_commit_offset: u64,
    /// Where a disturbed thread goes on; the four bytes before are the signature.
    pub abort_ip: u64,
}

const _: () = assert!(size_of::<CriticalSection>() == 32);
