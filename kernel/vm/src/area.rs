//! One area of an address space: what it permits and where its pages come from.

use crate::file::VmFile;
use crate::mapping::{Mapper, Mapping};
use crate::{PAGE_SHIFT, STACK_GUARD_GAP};
use abi::mm::Prot;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::paging::PteFlags;
use bitflags::bitflags;
use core::sync::atomic::{AtomicBool, Ordering};
use mem::Folio;

bitflags! {
    /// What an area permits and how it behaves; the values are those of Linux's `VM_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct VmFlags: u32 {
        const READ = 0x1;
        const WRITE = 0x2;
        const EXEC = 0x4;
        const SHARED = 0x8;
        /// mprotect may add READ ...
        const MAYREAD = 0x10;
        const MAYWRITE = 0x20;
        const MAYEXEC = 0x40;
        /// Mapped with MAP_SHARED, even if the file is not writable.
        const MAYSHARE = 0x80;
        const GROWSDOWN = 0x100;
        const LOCKED = 0x2000;
        const SEQ_READ = 0x8000;
        const RAND_READ = 0x1_0000;
        const DONTCOPY = 0x2_0000;
        const DONTEXPAND = 0x4_0000;
        const LOCKONFAULT = 0x8_0000;
        /// Its pages are charged against the commit limit.
        const ACCOUNT = 0x10_0000;
        const NORESERVE = 0x20_0000;
        const WIPEONFORK = 0x200_0000;
        const DONTDUMP = 0x400_0000;
        /// Neither its place nor its rights may change: mseal(2). Linux's bit is beyond 32.
        const SEALED = 0x8000_0000;
    }
}

impl VmFlags {
    /// All three protections.
    pub const ACCESS: VmFlags = VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::EXEC);
    /// What mprotect may set at most.
    pub const MAY_ALL: VmFlags = VmFlags::MAYREAD.union(VmFlags::MAYWRITE).union(VmFlags::MAYEXEC);

    pub fn from_prot(prot: Prot) -> VmFlags {
        VmFlags::from_bits_truncate(prot.bits()) & VmFlags::ACCESS
    }

    /// The protections that the MAY bits allow.
    pub fn permitted(self) -> VmFlags {
        VmFlags::from_bits_truncate(self.bits() >> 4) & VmFlags::ACCESS
    }

    /// Whether its pages could all be written privately: what the commit limit is about.
    pub fn is_accountable(self) -> bool {
        self & (VmFlags::NORESERVE | VmFlags::SHARED | VmFlags::WRITE) == VmFlags::WRITE
    }

    /// Counts against RLIMIT_DATA and as VmData.
    pub fn is_data(self) -> bool {
        self & (VmFlags::WRITE | VmFlags::SHARED | VmFlags::GROWSDOWN) == VmFlags::WRITE
    }

    /// Counts as VmExe and VmLib.
    pub fn is_exec(self) -> bool {
        self & (VmFlags::EXEC | VmFlags::WRITE | VmFlags::GROWSDOWN) == VmFlags::EXEC
    }

    /// The rights of a page-table entry of such an area. Writing implies reading, and so does executing,
    /// on both architectures' tables as Linux uses them.
    pub fn to_pte(self) -> PteFlags {
        let mut pte = PteFlags::USER;
        pte.set(PteFlags::READ, self.intersects(VmFlags::ACCESS));
        pte.set(PteFlags::WRITE, self.contains(VmFlags::WRITE));
        pte.set(PteFlags::EXEC, self.contains(VmFlags::EXEC));
        pte
    }
}

/// A file's pages, mapped. Registered with the mapping for as long as it lives, so that truncation
/// finds every address space. Split areas share it.
pub struct FileBacking {
    pub file: Arc<dyn VmFile>,
    pub mapping: Arc<Mapping>,
    slot: usize,
    /// The address of page 0 of the file, wrapping.
    origin: u64,
    writable: bool,
}

impl FileBacking {
    /// Registers a space as one that maps the file; `writable` for shared mappings that may be written.
    pub(crate) fn new(
        file: Arc<dyn VmFile>,
        mapping: Arc<Mapping>,
        mapper: Mapper,
        writable: bool,
    ) -> abi::errno::Result<Arc<FileBacking>> {
        if writable {
            mapping.begin_writable()?;
        }
        let origin = mapper.origin;
        match mapping.register(mapper) {
            Ok(slot) => {
                file.mapped();
                Ok(Arc::new(FileBacking { file, mapping, slot, origin, writable }))
            }
            Err(error) => {
                if writable {
                    mapping.end_writable();
                }
                Err(error.into())
            }
        }
    }

    /// The same file for another address space.
    pub(crate) fn for_space(
        &self,
        space: alloc::sync::Weak<crate::AddressSpace>,
    ) -> abi::errno::Result<Arc<FileBacking>> {
        let mapper = Mapper { space, origin: self.origin };
        FileBacking::new(self.file.clone(), self.mapping.clone(), mapper, self.writable)
    }

    /// The same file for another place in the same space: `shift` bytes higher, wrapping.
    pub(crate) fn moved(
        &self,
        space: alloc::sync::Weak<crate::AddressSpace>,
        shift: u64,
    ) -> abi::errno::Result<Arc<FileBacking>> {
        let mapper = Mapper { space, origin: self.origin.wrapping_add(shift) };
        FileBacking::new(self.file.clone(), self.mapping.clone(), mapper, self.writable)
    }
}

impl Drop for FileBacking {
    fn drop(&mut self) {
        self.mapping.unregister(self.slot);
        if self.writable {
            self.mapping.end_writable();
        }
        self.file.unmapped();
    }
}

/// Pages that the kernel provides: the vDSO, and what it reads.
pub struct Special {
    /// In /proc/PID/maps.
    pub name: &'static str,
    /// Of one page each.
    pub folios: Vec<Folio>,
}

#[derive(Clone)]
pub(crate) enum Backing {
    /// Zeroed memory, private.
    Anonymous,
    File(Arc<FileBacking>),
    Special(Arc<Special>),
}

/// What kind of memory an area is, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AreaKind {
    Anonymous,
    File,
    Special,
}

/// The payload of an area in the set: everything but its addresses.
pub struct Area {
    pub(crate) flags: VmFlags,
    /// Page number in the file of the area's first page; 0 for anonymous memory.
    pub(crate) page_offset: u64,
    pub(crate) backing: Backing,
    /// `flags.to_pte()`, kept for the fault path.
    pub(crate) pte: PteFlags,
    /// Some private page was made here, or moved here. False lets fork skip the page tables of a private
    /// file mapping: the child can fault them in again (Linux's `anon_vma`).
    pub(crate) has_private: AtomicBool,
}

impl Area {
    pub(crate) fn new(flags: VmFlags, page_offset: u64, backing: Backing) -> Area {
        let has_private = AtomicBool::new(false);
        Area { flags, page_offset, backing, pte: flags.to_pte(), has_private }
    }

    pub fn flags(&self) -> VmFlags {
        self.flags
    }

    pub fn kind(&self) -> AreaKind {
        match self.backing {
            Backing::Anonymous => AreaKind::Anonymous,
            Backing::File(_) => AreaKind::File,
            Backing::Special(_) => AreaKind::Special,
        }
    }

    /// The mapped file, if it is one.
    pub fn file(&self) -> Option<&Arc<dyn VmFile>> {
        self.file_backing().map(|backing| &backing.file)
    }

    pub(crate) fn file_backing(&self) -> Option<&Arc<FileBacking>> {
        match &self.backing {
            Backing::File(backing) => Some(backing),
            _ => None,
        }
    }

    pub(crate) fn into_file(self) -> Option<Arc<FileBacking>> {
        match self.backing {
            Backing::File(backing) => Some(backing),
            _ => None,
        }
    }

    pub(crate) fn set_flags(&mut self, flags: VmFlags) {
        self.flags = flags;
        self.pte = flags.to_pte();
    }

    pub(crate) fn note_private(&self) {
        // A plain load first: the flag is set once and read by every fault of every thread.
        if !self.has_private.load(Ordering::Relaxed) {
            self.has_private.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn has_private(&self) -> bool {
        self.has_private.load(Ordering::Relaxed)
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.flags.contains(VmFlags::SHARED)
    }

    /// A copy that starts at the same page; references are cloned.
    pub(crate) fn duplicate(&self) -> Area {
        Area {
            flags: self.flags,
            page_offset: self.page_offset,
            backing: self.backing.clone(),
            pte: self.pte,
            has_private: AtomicBool::new(self.has_private()),
        }
    }

    fn same_backing(&self, len: u64, next: &Area) -> bool {
        match (&self.backing, &next.backing) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (Backing::File(a), Backing::File(b)) => {
                let adjacent = self.page_offset.wrapping_add(len >> PAGE_SHIFT) == next.page_offset;
                adjacent && a.writable == b.writable && Arc::ptr_eq(&a.file, &b.file)
            }
            _ => false,
        }
    }
}

impl Area {
    /// Sealed memory that its program cannot write: madvise(2) may not take its content either.
    pub(crate) fn keeps_content(&self) -> bool {
        let anonymous = matches!(self.backing, Backing::Anonymous);
        anonymous && self.flags & (VmFlags::SEALED | VmFlags::WRITE) == VmFlags::SEALED
    }
}

impl vma::VmaData for Area {
    fn split(&mut self, offset: u64) -> Area {
        let mut upper = self.duplicate();
        if !matches!(self.backing, Backing::Anonymous) {
            upper.page_offset = self.page_offset.wrapping_add(offset >> PAGE_SHIFT);
        }
        upper
    }

    /// The lower area's payload survives a merge, so it takes over the one bit that the two may differ in.
    fn can_merge(&self, len: u64, next: &Area) -> bool {
        let alike = self.flags == next.flags && self.same_backing(len, next);
        if alike && next.has_private() {
            self.note_private();
        }
        alike
    }

    fn guard_gap(&self) -> u64 {
        if self.flags.contains(VmFlags::GROWSDOWN) { STACK_GUARD_GAP } else { 0 }
    }
}
