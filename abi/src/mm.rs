//! Memory: mmap(2), mprotect(2), mremap(2), madvise(2), msync(2), mlock(2).
//!
//! The numbers are those of asm-generic and the same on both architectures; x86-64 adds `MAP_32BIT`.

use bitflags::bitflags;

bitflags! {
    /// Protection of a mapping.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Prot: u32 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
        /// For atomic operations; no effect.
        const SEM = 8;
        /// mprotect: extend the change down to the start of a mapping that grows down.
        const GROWSDOWN = 0x0100_0000;
        /// mprotect: as above for mappings that grow up, which neither architecture has.
        const GROWSUP = 0x0200_0000;
    }
}

bitflags! {
    /// Flags of mmap; the low four bits are the type, see [`MapFlags::kind`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MapFlags: u32 {
        const SHARED = 1;
        const PRIVATE = 2;
        /// `SHARED` that refuses unknown flags.
        const SHARED_VALIDATE = 3;
        /// All bits of the type.
        const TYPE = 0xf;
        const FIXED = 0x10;
        const ANONYMOUS = 0x20;
        /// x86-64 only: below 2 GiB.
        const LOW_32BIT = 0x40;
        const GROWSDOWN = 0x100;
        const DENYWRITE = 0x800;
        const EXECUTABLE = 0x1000;
        const LOCKED = 0x2000;
        const NORESERVE = 0x4000;
        const POPULATE = 0x8000;
        const NONBLOCK = 0x1_0000;
        const STACK = 0x2_0000;
        const HUGETLB = 0x4_0000;
        const SYNC = 0x8_0000;
        const FIXED_NOREPLACE = 0x10_0000;
        const UNINITIALIZED = 0x400_0000;
        /// log2 of the huge page size, six bits.
        const HUGE_SIZE = 0x3f << 26;
    }
}

/// What the type bits of [`MapFlags`] say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    Shared,
    Private,
    SharedValidate,
}

impl MapFlags {
    /// The type, or `None` for a number that Linux does not use (EINVAL).
    pub const fn kind(self) -> Option<MapKind> {
        match self.bits() & MapFlags::TYPE.bits() {
            1 => Some(MapKind::Shared),
            2 => Some(MapKind::Private),
            3 => Some(MapKind::SharedValidate),
            _ => None,
        }
    }
}

bitflags! {
    /// Flags of mremap.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RemapFlags: u32 {
        const MAYMOVE = 1;
        const FIXED = 2;
        const DONTUNMAP = 4;
    }
}

bitflags! {
    /// Flags of msync.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SyncFlags: u32 {
        const ASYNC = 1;
        const INVALIDATE = 2;
        const SYNC = 4;
    }
}

bitflags! {
    /// Flags of mlockall.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct LockAllFlags: u32 {
        const CURRENT = 1;
        const FUTURE = 2;
        const ONFAULT = 4;
    }
}

/// The flag of mlock2: lock pages when they are touched.
pub const MLOCK_ONFAULT: u32 = 1;

/// Values of madvise.
pub mod madv {
    pub const NORMAL: i32 = 0;
    pub const RANDOM: i32 = 1;
    pub const SEQUENTIAL: i32 = 2;
    pub const WILLNEED: i32 = 3;
    pub const DONTNEED: i32 = 4;
    pub const FREE: i32 = 8;
    pub const REMOVE: i32 = 9;
    pub const DONTFORK: i32 = 10;
    pub const DOFORK: i32 = 11;
    pub const MERGEABLE: i32 = 12;
    pub const UNMERGEABLE: i32 = 13;
    pub const HUGEPAGE: i32 = 14;
    pub const NOHUGEPAGE: i32 = 15;
    pub const DONTDUMP: i32 = 16;
    pub const DODUMP: i32 = 17;
    pub const WIPEONFORK: i32 = 18;
    pub const KEEPONFORK: i32 = 19;
    pub const COLD: i32 = 20;
    pub const PAGEOUT: i32 = 21;
    pub const POPULATE_READ: i32 = 22;
    pub const POPULATE_WRITE: i32 = 23;
    pub const DONTNEED_LOCKED: i32 = 24;
    pub const COLLAPSE: i32 = 25;
    pub const HWPOISON: i32 = 100;
    pub const SOFT_OFFLINE: i32 = 101;
}
