//! Virtual memory: address spaces, page faults, and the page cache that file mappings share.
//!
//! **Problem.** Each process sees memory of its own that comes into being when it is touched, that is
//! copied only when it is written, and parts of which are files.
//!
//! **Interface.**
//!
//! | item | meaning |
//! |---|---|
//! | [`AddressSpace`] | what threads of a process share (Linux's mm): the calls of mmap(2) and its family, [`AddressSpace::handle_fault`], [`AddressSpace::fork`], remote access, the text of `/proc/PID/maps` and its kin |
//! | [`Mapping`] | the cached pages of one file or memory object (Linux's address_space), with [`MappingOps`] as its way to the backing store |
//! | [`writeback`], [`BackingDevice`] | flusher threads, sync, how much may be dirty |
//! | [`reclaim`] | giving cached pages back, by a policy |
//! | [`swap`] | private pages on a device |
//! | [`VmFile`] | what an open file shows to `mmap`; the layer above implements it |
//! | [`Limits`] | resource limits and privileges of the caller; the layer above implements it |
//! | [`Layout`] | where stack, heap, libraries and position-independent programs go, randomised |
//! | [`stats`] | system-wide counters for `/proc/meminfo` and the overcommit policy |
//!
//! **Idea.** Three locks, in this order: the areas of a space (a reader-writer semaphore: faults read,
//! mmap writes), the page cache's tree, the page table. A fault looks at its area and its table entry,
//! makes the page with no spin lock held, and puts it in only if the entry is still what it was.
//! Whoever takes pages out of a mapping first removes them from the tree and raises its generation; a
//! fault that sees the generation change under the table's lock starts over. So neither side waits for
//! the other and no stale page stays mapped.
//!
//! The software bit of an entry ([`arch::paging::PteFlags::SOFT`]) says "a private page": it belongs to no
//! file, is counted as anonymous, and may be written in place when nobody else refers to it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
mod advise;
mod area;
mod brk;
mod cid;
mod errseq;
mod fault;
mod file;
mod fork;
mod graveyard;
mod layout;
mod limits;
mod lock;
mod map;
mod mapping;
mod pages;
mod protect;
mod readahead;
pub mod reclaim;
mod remap;
mod remote;
mod report;
mod show;
mod space;
pub mod stats;
pub mod swap;
mod table;
mod unmap;
pub mod writeback;

pub use area::{Area, AreaKind, Special, VmFlags};
pub use errseq::{ErrSeen, ErrSeq};
pub use fault::{Fault, FaultError};
pub use file::{MapSource, VmFile};
pub use layout::{Layout, LayoutInput};
pub use limits::{Limits, Unlimited};
pub use map::MapRequest;
pub use mapping::{
    CacheKind, CacheStat, FolioRead, FolioWrite, InFlight, Mapping, MappingOps, MemoryOps, ReadRun, SyncMode,
    WritePass, WriteRun, WriteWhy,
};
pub use readahead::Readahead;
pub use remap::RemapRequest;
pub use report::{write_meminfo, write_vmstat};
pub use space::{AddressSpace, Footprint, ProgramInfo, Usage};
pub use writeback::BackingDevice;

/// Bytes in a page, as the type that addresses have in this crate.
pub(crate) const PAGE: u64 = arch::PAGE_SIZE as u64;
pub(crate) const PAGE_SHIFT: u32 = arch::PAGE_SHIFT as u32;

/// The most areas of one address space (Linux's vm.max_map_count).
pub const MAX_MAP_COUNT: usize = 65_530;
/// Addresses below this are not given out, and asked for by the privileged only (vm.mmap_min_addr).
pub const MMAP_MIN_ADDR: u64 = 65_536;
/// Bytes kept free below a stack that grows down (Linux's stack_guard_gap, 256 pages).
pub const STACK_GUARD_GAP: u64 = 256 * PAGE;
/// No limit (RLIM_INFINITY).
pub const RLIM_INFINITY: u64 = u64::MAX;

pub(crate) fn page_down(addr: u64) -> u64 {
    addr & !(PAGE - 1)
}

/// The next page border at or above; `None` past the end of the number range.
pub(crate) fn page_up(addr: u64) -> Option<u64> {
    Some(addr.checked_add(PAGE - 1)? & !(PAGE - 1))
}

pub(crate) fn is_page_aligned(addr: u64) -> bool {
    addr & (PAGE - 1) == 0
}
