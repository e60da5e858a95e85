//! Page-table entries in architecture-neutral words.
//!
//! Each architecture's `mmu::Pte` is a `#[repr(transparent)]` u64 with these inherent functions:
//!
//! * `const EMPTY: Pte`
//! * `leaf(PhysAddr, PteFlags, level: usize) -> Pte` maps `PAGE_SIZE << (9 * level)` bytes
//! * `table(PhysAddr) -> Pte` points to the next lower level
//! * `is_present(self) -> bool`, `is_leaf(self, level) -> bool`
//! * `addr(self) -> PhysAddr`, `flags(self) -> PteFlags`, `with_flags(self, PteFlags, level) -> Pte`
//! * `software(u64) -> Pte` a non-present entry that carries 58 bits (swap), `as_software(self) -> Option<u64>`
//!   (None for EMPTY and for present entries)
//!
//! Accessed and dirty are set by hardware where it does that (x86-64, Svadu); with Svade the fault
//! handler sets them: a fault on a present entry with enough permission asks for that.

use bitflags::bitflags;

bitflags! {
    /// What a leaf entry permits and remembers.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PteFlags: u32 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
        const USER = 8;
        const GLOBAL = 16;
        const ACCESSED = 32;
        const DIRTY = 64;
        /// Device memory: uncached, strongly ordered.
        const DEVICE = 128;
        /// Free for software (copy-on-write marker and the like).
        const SOFT = 256;
    }
}

/// Converts the free-running counter that user space may read to nanoseconds:
/// `ns = base_ns + ((counter - base) * mult >> shift)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct VdsoClock {
    pub base: u64,
    pub base_ns: u64,
    pub mult: u64,
    pub shift: u32,
}
