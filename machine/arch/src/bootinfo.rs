//! What the boot loader and firmware said, in one architecture-neutral structure.

use crate::PhysAddr;

/// What a range of physical memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemKind {
    /// RAM that the kernel may use.
    Usable,
    /// RAM that firmware or the boot loader keeps.
    Reserved,
    /// RAM with ACPI tables: to be read, then usable. Treated as reserved.
    Acpi,
}

/// A range of physical memory, not necessarily page-aligned; regions may touch, `Reserved` ones win.
#[derive(Clone, Copy, Debug)]
pub struct MemRegion {
    pub start: PhysAddr,
    pub len: u64,
    pub kind: MemKind,
}

/// The most memory regions taken from firmware; more are dropped with a message. Firmware, not a
/// program, fills this.
pub const MAX_REGIONS: usize = 64;

/// The machine as the boot code found it. Lives for ever; made by CPU 0 before `ochre_main`.
#[derive(Debug)]
pub struct BootInfo {
    /// The kernel command line, without a trailing NUL; invalid UTF-8 is replaced by nothing.
    pub cmdline: &'static str,
    /// The initial RAM disk, if the loader gave one (physical start, bytes). Not part of `Usable` memory
    /// until the kernel has unpacked it.
    pub initrd: Option<(PhysAddr, u64)>,
    pub regions: [Option<MemRegion>; MAX_REGIONS],
    /// The kernel image in memory, page-aligned: start and end (exclusive), symbol table included.
    pub kernel: (PhysAddr, PhysAddr),
    /// Flattened device tree (riscv64), physical.
    pub device_tree: Option<PhysAddr>,
    /// ACPI RSDP (x86-64), physical.
    pub rsdp: Option<PhysAddr>,
    /// The sections of the kernel image by their virtual addresses, for W^X.
    pub sections: Sections,
}

/// Page-aligned virtual bounds (start, end) of the image's parts.
#[derive(Clone, Copy, Debug)]
pub struct Sections {
    pub text: (usize, usize),
    pub rodata: (usize, usize),
    pub data: (usize, usize),
}

impl BootInfo {
    pub fn regions(&self) -> impl Iterator<Item = MemRegion> + '_ {
        self.regions.iter().flatten().copied()
    }
}
