//! fork: a copy of an address space that shares every page until somebody writes.

use crate::account::Resident;
use crate::area::{Area, Backing, VmFlags};
use crate::space::{AddressSpace, Areas};
use crate::{PAGE_SHIFT, graveyard, table};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::AtomicBool;
use mem::ForkCopier;
use vma::OutOfMemory;

/// Carries an errno through [`vma::VmaSet::try_clone_with`].
struct CopyError(Errno);

impl From<OutOfMemory> for CopyError {
    fn from(_: OutOfMemory) -> CopyError {
        CopyError(Errno::ENOMEM)
    }
}

impl AddressSpace {
    /// A copy for a child. Private pages become read-only in both; pages of files are left for the child
    /// to fault in, from the cache. ENOMEM.
    pub fn fork(&self) -> Result<Arc<AddressSpace>> {
        graveyard::bury();
        let mut areas = self.areas.write();
        let child = AddressSpace::with_program_of(areas.layout, self.program())?;
        {
            let mut copy = child.areas.write_nested();
            copy.heap_start = areas.heap_start;
            copy.heap_end = areas.heap_end;
            self.copy_areas(&areas, &mut copy, &child)?;
            self.copy_tables(&mut areas, &child)?;
            child.note_size(&copy);
        }
        drop(areas);
        child.set_dumpable(self.is_dumpable());
        child.add_barriers(self.barriers());
        Ok(child)
    }

    fn copy_areas(&self, areas: &Areas, copy: &mut Areas, child: &AddressSpace) -> Result<()> {
        let promised = areas.sizes.committed.saturating_sub(areas.left_behind());
        copy.commit(promised)?;
        let sizes = &mut copy.sizes;
        let cloned = areas.set.try_clone_with(|vma| -> core::result::Result<_, CopyError> {
            if vma.data.flags.contains(VmFlags::DONTCOPY) {
                return Ok(None);
            }
            let area = vma.data.for_child(child).map_err(CopyError)?;
            sizes.add(area.flags, vma.len() >> PAGE_SHIFT);
            Ok(Some(area))
        });
        copy.set = cloned.map_err(|CopyError(errno)| errno)?;
        Ok(())
    }

    fn copy_tables(&self, areas: &mut Areas, child: &AddressSpace) -> Result<()> {
        // One flush for all areas, when the copier drops.
        let mut copier = self.table.copier(&child.table);
        for vma in areas.set.iter() {
            if vma.data.needs_table_copy() {
                copy_range(&mut copier, &vma.data, vma.range(), child)?;
            }
        }
        Ok(())
    }
}

fn copy_range(
    copier: &mut ForkCopier<'_>,
    area: &Area,
    range: Range<u64>,
    child: &AddressSpace,
) -> Result<()> {
    let kind = AddressSpace::resident_kind(area);
    let counts = table::clone_cow(copier, &child.table, range, area.is_shared())?;
    child.rss.copied(kind, counts);
    debug_assert!(kind != Resident::None || counts.file == 0);
    Ok(())
}

impl Areas {
    /// Promised pages of areas that a child does not get.
    fn left_behind(&self) -> u64 {
        let stays = |vma: &&vma::Vma<Area>| vma.data.flags.contains(VmFlags::DONTCOPY | VmFlags::ACCOUNT);
        self.set.iter().filter(stays).map(|vma| vma.len() >> PAGE_SHIFT).sum()
    }
}

impl Area {
    /// What a child's area is: not locked, its file registered for the child.
    fn for_child(&self, child: &AddressSpace) -> Result<Area> {
        let backing = match &self.backing {
            Backing::File(file) => Backing::File(file.for_space(child.this.clone())?),
            other => other.clone(),
        };
        let flags = self.flags.difference(VmFlags::LOCKED | VmFlags::LOCKONFAULT);
        Ok(Area {
            flags,
            page_offset: self.page_offset,
            backing,
            pte: self.pte,
            has_private: AtomicBool::new(self.has_private() && !flags.contains(VmFlags::WIPEONFORK)),
        })
    }

    /// Whether the child needs the entries: only private pages cannot be had again by a fault.
    fn needs_table_copy(&self) -> bool {
        self.has_private() && !self.flags.intersects(VmFlags::DONTCOPY | VmFlags::WIPEONFORK)
    }
}
