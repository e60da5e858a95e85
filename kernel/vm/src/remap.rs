//! mremap(2): growing, shrinking and moving areas.
//!
//! ```text
//!   shrink:   [=======####]          munmap of the tail
//!   in place: [=======]++++          the addresses above are free
//!   move:     [=======]      ->      [=======++++]   entries move, nothing is copied
//!   DONTUNMAP: the old area stays, empty
//!   old length 0: a second mapping of the same shared pages
//! ```

use crate::area::{Area, Backing, FileBacking, VmFlags};
use crate::fault::Populate;
use crate::limits::Limits;
use crate::map::insert_error;
use crate::space::{AddressSpace, Areas};
use crate::{MAX_MAP_COUNT, PAGE, PAGE_SHIFT, is_page_aligned, page_up, table};
use abi::Errno;
use abi::errno::Result;
use abi::mm::{MapFlags, RemapFlags};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::paging::PteFlags;
use core::ops::Range;
use mem::{OutOfMemory, UserTable};

/// The arguments of mremap.
#[derive(Debug, Clone, Copy)]
pub struct RemapRequest {
    pub addr: usize,
    pub old_len: usize,
    pub new_len: usize,
    pub flags: RemapFlags,
    pub new_addr: usize,
}

/// What mremap does after the locks are released.
#[derive(Default)]
struct Aftermath {
    files: Vec<Arc<FileBacking>>,
    populate: Option<Range<u64>>,
}

impl AddressSpace {
    /// mremap(2). Returns the new address.
    pub fn mremap(&self, request: &RemapRequest, limits: &dyn Limits) -> Result<usize> {
        let (addr, flags) = (request.addr as u64, request.flags);
        let fixed = flags.contains(RemapFlags::FIXED);
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        if flags.bits() & !RemapFlags::all().bits() != 0
            || ((fixed || keep) && !flags.contains(RemapFlags::MAYMOVE))
            || (keep && request.old_len != request.new_len)
            || !is_page_aligned(addr)
        {
            return Err(Errno::EINVAL);
        }
        let old_len = page_up(request.old_len as u64).ok_or(Errno::EINVAL)?;
        let new_len = page_up(request.new_len as u64).filter(|&len| len != 0).ok_or(Errno::EINVAL)?;
        let mut after = Aftermath::default();
        let mut areas = self.areas.write();
        areas.check_unsealed(&(addr..addr.saturating_add(old_len.max(PAGE))))?;
        let result = if fixed || keep {
            self.remap_to(&mut areas, request, old_len, new_len, limits, &mut after)
        } else {
            self.remap_near(&mut areas, request, old_len, new_len, limits, &mut after)
        };
        drop(areas);
        drop(after.files);
        if let (Ok(_), Some(range)) = (&result, after.populate) {
            let _ = self.populate(range, Populate::Lenient);
        }
        result.map(|addr| addr as usize)
    }

    /// Without a wish for the place: shrink, grow in place, or move.
    fn remap_near(
        &self,
        areas: &mut Areas,
        request: &RemapRequest,
        old_len: u64,
        new_len: u64,
        limits: &dyn Limits,
        after: &mut Aftermath,
    ) -> Result<u64> {
        let addr = request.addr as u64;
        areas.set.find(addr).ok_or(Errno::EFAULT)?;
        if old_len >= new_len {
            if old_len > new_len {
                let tail = areas.check_range(addr + new_len, old_len - new_len)?;
                after.files = self.unmap_range(areas, tail)?;
            }
            return Ok(addr);
        }
        areas.check_remap(addr, old_len, new_len, limits)?;
        let end = addr.checked_add(old_len).ok_or(Errno::EINVAL)?;
        if old_len > 0 && areas.set.find(addr).is_some_and(|vma| vma.end == end) {
            let grown = end..addr.checked_add(new_len).ok_or(Errno::EINVAL)?;
            if self.grow_in_place(areas, addr, &grown)? {
                let locked = areas.set.find(addr).is_some_and(|vma| vma.data.flags.contains(VmFlags::LOCKED));
                after.populate = locked.then_some(grown);
                return Ok(addr);
            }
        }
        if !request.flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        let to = areas.find_place(0, new_len, MapFlags::empty()).ok_or(Errno::ENOMEM)?;
        self.move_area(areas, addr..end, to..to + new_len, false, after)?;
        Ok(to)
    }

    /// MREMAP_FIXED and MREMAP_DONTUNMAP.
    fn remap_to(
        &self,
        areas: &mut Areas,
        request: &RemapRequest,
        mut old_len: u64,
        new_len: u64,
        limits: &dyn Limits,
        after: &mut Aftermath,
    ) -> Result<u64> {
        let (addr, to) = (request.addr as u64, request.new_addr as u64);
        let fixed = request.flags.contains(RemapFlags::FIXED);
        let keep = request.flags.contains(RemapFlags::DONTUNMAP);
        let top = areas.set.bounds().end;
        if fixed || to != 0 {
            if !is_page_aligned(to) || new_len > top || to > top - new_len {
                return Err(Errno::EINVAL);
            }
            // Old and new must not overlap.
            if addr.saturating_add(old_len) > to && to + new_len > addr {
                return Err(Errno::EINVAL);
            }
        }
        if areas.set.len() + 2 >= MAX_MAP_COUNT - 3 {
            return Err(Errno::ENOMEM);
        }
        if fixed {
            areas.check_fixed(to, new_len, limits)?;
        }
        areas.set.find(addr).ok_or(Errno::EFAULT)?;
        areas.check_remap(addr, old_len.min(new_len), new_len, limits)?;
        if fixed {
            after.files = self.unmap_range(areas, to..to + new_len)?;
        }
        if old_len > new_len {
            let tail = areas.check_range(addr + new_len, old_len - new_len)?;
            let mut files = self.unmap_range(areas, tail)?;
            after.files.append(&mut files);
            old_len = new_len;
        }
        let to =
            if fixed { to } else { areas.find_place(to, new_len, MapFlags::empty()).ok_or(Errno::ENOMEM)? };
        self.move_area(areas, addr..addr + old_len, to..to + new_len, keep, after)?;
        Ok(to)
    }

    /// Extends the area at `addr` by `grown` if nothing is there; says whether.
    fn grow_in_place(&self, areas: &mut Areas, addr: u64, grown: &Range<u64>) -> Result<bool> {
        let gap = |vma: &vma::Vma<Area>| vma.start.saturating_sub(vma::VmaData::guard_gap(&vma.data));
        let room = areas.set.find_from(grown.start).is_none_or(|vma| grown.end <= gap(vma));
        if !room || grown.end > areas.set.bounds().end {
            return Ok(false);
        }
        let Some(vma) = areas.set.find(addr) else { return Ok(false) };
        let (flags, pages) = (vma.data.flags, (grown.end - grown.start) >> PAGE_SHIFT);
        let committed = if flags.contains(VmFlags::ACCOUNT) { pages } else { 0 };
        areas.commit(committed)?;
        if let Err(error) = areas.set.grow_up(addr, grown.end) {
            areas.uncommit(committed);
            return Err(insert_error(error));
        }
        areas.sizes.add(flags, pages);
        self.note_size(areas);
        Ok(true)
    }

    /// Makes `to` the continuation of what `from` is and moves the pages. `from` lies within one area and
    /// `to` is free. With `keep` the old area stays without pages; an empty `from` duplicates.
    fn move_area(
        &self,
        areas: &mut Areas,
        from: Range<u64>,
        to: Range<u64>,
        keep: bool,
        after: &mut Aftermath,
    ) -> Result<()> {
        if areas.set.len() + 3 > MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        let vma = areas.set.find(from.start).ok_or(Errno::EFAULT)?;
        let mut area = vma.data.duplicate();
        if !matches!(area.backing, Backing::Anonymous) {
            area.page_offset += (from.start - vma.start) >> PAGE_SHIFT;
        }
        if let Backing::File(file) = &area.backing {
            let shared = area.is_shared() && !file.mapping.is_memory();
            if shared {
                // Write-back looks for entries at both places, one after the other, and could miss one that
                // moves in between: none of them is writable meanwhile.
                let clean = PteFlags::WRITE | PteFlags::DIRTY;
                table::protect(&self.table, from.clone(), |flags| flags.difference(clean));
            }
            area.backing = Backing::File(file.moved(self.this.clone(), to.start.wrapping_sub(from.start))?);
        }
        let (flags, kind) = (area.flags, AddressSpace::resident_kind(&area));
        let pages = (to.end - to.start) >> PAGE_SHIFT;
        let committed = if flags.contains(VmFlags::ACCOUNT) { pages } else { 0 };
        areas.commit(committed)?;
        if let Err(error) = areas.set.insert(to.clone(), area) {
            areas.uncommit(committed);
            return Err(insert_error(error));
        }
        areas.sizes.add(flags, pages);
        self.note_size(areas);
        if let Err(OutOfMemory) = move_pages(&self.table, from.clone(), to.start) {
            // What has moved goes back; the tables for it are still there.
            let moved = from.end - from.start;
            let _ = move_pages(&self.table, to.start..to.start + moved, from.start);
            let mut files = self.take_and_zap(areas, to)?;
            after.files.append(&mut files);
            return Err(Errno::ENOMEM);
        }
        if keep {
            // The old range is as new: untouched memory, or the file's pages to be faulted in again.
            self.rss.note_peak();
            let left = table::remove(&self.table, from);
            self.rss.removed(kind, left);
        } else if from.start < from.end {
            let mut files = self.take_and_zap(areas, from)?;
            after.files.append(&mut files);
        }
        after.populate = flags.contains(VmFlags::LOCKED).then_some(to);
        Ok(())
    }
}

/// Moves every entry of `from` to the same place relative to `to`. Nobody faults meanwhile: the areas'
/// lock is held for writing.
fn move_pages(table: &UserTable, from: Range<u64>, to: u64) -> core::result::Result<(), OutOfMemory> {
    let start = from.start;
    let mut result = Ok(());
    table::in_steps(from, |step| {
        let found = table::entries(table, &step);
        let mut at = step.start;
        // A long step is one over empty subtrees: what it found lies in few of its table pages.
        while found > 0 && at < step.end && result.is_ok() {
            let end = (at & !(table::STEP - 1)).saturating_add(table::STEP).min(step.end);
            if table::entries(table, &(at..end)) > 0 {
                result = move_step(table, at..end, to + (at - start));
            }
            at = end;
        }
        found
    });
    result
}

fn move_step(table: &UserTable, from: Range<u64>, to: u64) -> core::result::Result<(), OutOfMemory> {
    let len = from.end - from.start;
    // A step lies in one table page at the old place, and in at most two at the new one.
    table.prepare(to as usize)?;
    table.prepare((to + len - PAGE) as usize)?;
    table.lock().move_range(from.start as usize, to as usize, len as usize).map(|_| ())
}

impl Areas {
    /// What Linux's vma_to_resize checks: the old range, limits, and flags that forbid.
    fn check_remap(&self, addr: u64, old_len: u64, new_len: u64, limits: &dyn Limits) -> Result<()> {
        let vma = self.set.find(addr).ok_or(Errno::EFAULT)?;
        // Without an old length a second mapping of the same pages is wanted, which private ones cannot be.
        if old_len == 0 && !vma.data.flags.intersects(VmFlags::SHARED | VmFlags::MAYSHARE) {
            return Err(Errno::EINVAL);
        }
        if old_len > vma.end - addr {
            return Err(Errno::EFAULT);
        }
        if vma.data.flags.contains(VmFlags::DONTEXPAND) && new_len > old_len {
            return Err(Errno::EFAULT);
        }
        let offset = vma.data.page_offset.checked_add((addr - vma.start) >> PAGE_SHIFT);
        offset.and_then(|pages| pages.checked_add(new_len >> PAGE_SHIFT)).ok_or(Errno::EINVAL)?;
        if new_len <= old_len {
            return Ok(());
        }
        self.check_locked(vma.data.flags, new_len - old_len, limits)?;
        self.check_expand(vma.data.flags, (new_len - old_len) >> PAGE_SHIFT, 0, limits)
    }
}
