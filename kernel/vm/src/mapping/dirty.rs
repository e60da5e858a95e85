//! What is dirty: the folio's flag, the tag in the tree, the count, the device's list.

use super::{Mapping, WriteWhy};
use crate::pages::{Pages, Tag};
use crate::stats;
use abi::errno::Result;
use core::ops::Range;
use core::sync::atomic::Ordering;
use mem::Folio;

/// Dirty pages of a tree that is going away.
pub(super) fn count_dirty(pages: &Pages) -> u64 {
    let (mut count, mut at) = (0, 0);
    while let Some((index, _)) = pages.first_tagged(at..u64::MAX, Tag::Dirty) {
        count += 1;
        at = index + 1;
    }
    count
}

impl Mapping {
    /// Notes that a folio of this mapping was changed; says whether it was clean. The size covers the page
    /// already (see [`Mapping::grow`]).
    pub(super) fn mark_dirty(&self, index: u64, folio: &Folio) -> bool {
        if folio.set_dirty() {
            return false;
        }
        if self.is_memory() {
            return true;
        }
        let mut pages = self.pages.lock();
        if !pages.get(index).is_some_and(|here| here.ptr_eq(folio)) {
            // Truncated meanwhile: nobody will write it.
            drop(pages);
            folio.clear_dirty();
            return false;
        }
        pages.set_tag(index, Tag::Dirty, true);
        drop(pages);
        stats::add_dirty(1);
        self.enlist();
        true
    }

    /// Readies the mapping for [`Mapping::set_folio_dirty`]. ENOMEM. Process context.
    pub fn ready_for_dirty(&self) -> Result<()> {
        if self.device.get().is_some() { Ok(()) } else { self.attach() }
    }

    /// A folio of page `index` was changed by its owner's owner, within the file: metadata of a file system in
    /// the cache of its device. After [`Mapping::ready_for_dirty`]. Spin locks only.
    pub fn set_folio_dirty(&self, index: u64, folio: &Folio) {
        self.mark_dirty(index, folio);
    }

    /// Puts the mapping on its device's list of dirty ones, if it is not there.
    pub(crate) fn enlist(&self) {
        if !self.listed.load(Ordering::Acquire)
            && !self.listed.swap(true, Ordering::AcqRel)
            && let Some((device, slot)) = self.device.get()
        {
            device.enlist(*slot, self.this(), self.ops.pin());
        }
    }

    /// A folio was written through a shared mapping.
    pub(crate) fn note_dirty(&self, index: u64, folio: &Folio) {
        if self.mark_dirty(index, folio) {
            self.ops.written_by_mapping();
        }
    }

    /// Before pages become dirty: the device's list has room for this mapping, the file system for the
    /// pages.
    pub(super) fn prepare(&self, pages: Range<u64>, why: WriteWhy) -> Result<()> {
        if self.device.get().is_none() {
            self.attach()?;
        }
        self.ops.prepare_write(pages, why)
    }

    fn attach(&self) -> Result<()> {
        let device = self.ops.device().unwrap_or_else(crate::writeback::common_device);
        let slot = device.attach()?;
        // Two writers through mappings may both come here; the first slot stays.
        if let Err((device, slot)) = self.device.set((device, slot)) {
            device.detach(slot);
        }
        Ok(())
    }

    /// Before the first store of a program to a page of a shared mapping (page_mkwrite). The caller holds
    /// [`Mapping::blocks_stay`] until the page is mapped so and dirty.
    pub(crate) fn prepare_mapped(&self, index: u64, folio: &Folio) -> Result<()> {
        if self.is_memory() {
            return Ok(());
        }
        self.prepare(index..index + 1, WriteWhy::Mapped)?;
        if self.stable {
            super::wait_written(folio);
        }
        Ok(())
    }

    /// The inode is going away without being written (its last name is gone): nothing keeps it on the
    /// device's list any more.
    pub fn release_pin(&self) {
        if let Some((device, slot)) = self.device.get() {
            device.release_pin(*slot);
        }
    }
}
