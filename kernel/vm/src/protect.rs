//! mprotect(2).

use crate::area::{Area, VmFlags};
use crate::limits::Limits;
use crate::space::{AddressSpace, Areas};
use crate::{MAX_MAP_COUNT, PAGE_SHIFT, is_page_aligned, page_up, table};
use abi::Errno;
use abi::errno::Result;
use abi::mm::Prot;
use arch::paging::PteFlags;
use core::ops::Range;
use vma::OutOfMemory;

/// Carries an errno through [`vma::VmaSet::update`].
pub(crate) struct Stop(pub Errno);

impl From<OutOfMemory> for Stop {
    fn from(_: OutOfMemory) -> Stop {
        Stop(Errno::ENOMEM)
    }
}

impl AddressSpace {
    /// mprotect(2). Areas before the one that stops it (a hole, a right that cannot be had) are changed, as
    /// in Linux.
    pub fn mprotect(&self, addr: usize, len: usize, prot: Prot, limits: &dyn Limits) -> Result<()> {
        let mut start = addr as u64;
        if prot.contains(Prot::GROWSDOWN | Prot::GROWSUP) || !is_page_aligned(start) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = page_up(len as u64).and_then(|len| start.checked_add(len)).filter(|&end| end > start);
        let end = end.ok_or(Errno::ENOMEM)?;
        if prot.bits() & !Prot::all().bits() != 0 {
            return Err(Errno::EINVAL);
        }
        let mut areas = self.areas.write();
        let first = areas.set.find_from(start).ok_or(Errno::ENOMEM)?;
        if prot.contains(Prot::GROWSDOWN) {
            if first.start >= end {
                return Err(Errno::ENOMEM);
            }
            if !first.data.flags.contains(VmFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            start = first.start;
        } else if first.start > start {
            return Err(Errno::ENOMEM);
        } else if prot.contains(Prot::GROWSUP) {
            return Err(Errno::EINVAL);
        }
        self.protect_range(&mut areas, start..end, VmFlags::from_prot(prot), limits)
    }

    /// mseal(2): the areas of the range keep their place and rights for good. ENOMEM where nothing is mapped; then
    /// nothing has changed.
    pub fn mseal(&self, addr: usize, len: usize) -> Result<()> {
        let start = addr as u64;
        let len = page_up(len as u64).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).filter(|_| is_page_aligned(start)).ok_or(Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        let mut areas = self.areas.write();
        let range = start..end;
        if !areas.set.is_covered(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        areas.check_split(&range)?;
        let seal = |_: Range<u64>, area: &mut Area| -> core::result::Result<(), Stop> {
            area.set_flags(area.flags | VmFlags::SEALED);
            Ok(())
        };
        areas.set.update(range, seal).map_err(|Stop(errno)| errno)
    }

    fn protect_range(
        &self,
        areas: &mut Areas,
        range: Range<u64>,
        access: VmFlags,
        limits: &dyn Limits,
    ) -> Result<()> {
        areas.check_split(&range)?;
        let covered = areas.covered_end(&range);
        let mut at = range.start;
        let mut result = Ok(());
        while at < covered && result.is_ok() {
            // One area at a time: limits and promises are checked against what the last one changed.
            let Some(vma) = areas.set.find(at) else { break };
            let part = at..vma.end.min(covered);
            at = part.end;
            result = self.protect_part(areas, part, access, limits);
        }
        result?;
        if covered < range.end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Changes a part of one area.
    fn protect_part(
        &self,
        areas: &mut Areas,
        part: Range<u64>,
        access: VmFlags,
        limits: &dyn Limits,
    ) -> Result<()> {
        let Some(vma) = areas.set.find(part.start) else { return Ok(()) };
        let old = vma.data.flags;
        if old.contains(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        let mut new = old.difference(VmFlags::ACCESS) | access;
        if !old.permitted().contains(access) {
            return Err(Errno::EACCES);
        }
        if new == old {
            return Ok(());
        }
        let pages = (part.end - part.start) >> PAGE_SHIFT;
        if new.is_data()
            && !old.is_data()
            && areas.sizes.data.saturating_add(pages) > limits.data() >> PAGE_SHIFT
        {
            return Err(Errno::ENOMEM);
        }
        let mut committed = 0;
        if new.is_accountable() && !old.contains(VmFlags::ACCOUNT) {
            committed = pages;
            new |= VmFlags::ACCOUNT;
        }
        areas.commit(committed)?;
        let change = |_: Range<u64>, area: &mut Area| -> core::result::Result<(), Stop> {
            area.set_flags(new);
            Ok(())
        };
        if let Err(Stop(errno)) = areas.set.update(part.clone(), change) {
            areas.uncommit(committed);
            return Err(errno);
        }
        areas.sizes.remove(old, pages);
        areas.sizes.add(new, pages);
        self.protect_pages(part, new);
        Ok(())
    }

    /// Gives the entries of a range the rights of an area with `flags`. Write permission is only taken
    /// away here: the fault that a first write takes knows whether the page is shared.
    fn protect_pages(&self, range: Range<u64>, flags: VmFlags) {
        let rights = PteFlags::READ | PteFlags::WRITE | PteFlags::EXEC;
        let allowed = flags.to_pte() & rights;
        table::protect(&self.table, range, |old| {
            let keep_write = allowed & old & PteFlags::WRITE;
            old.difference(rights) | allowed.difference(PteFlags::WRITE) | keep_write
        });
    }
}

impl Areas {
    /// ENOMEM when cutting areas at both ends of a range could exceed the count of areas allowed.
    pub(crate) fn check_split(&self, range: &Range<u64>) -> Result<()> {
        if self.set.len() + 2 <= MAX_MAP_COUNT {
            return Ok(());
        }
        let cuts = |at: u64| usize::from(self.set.find(at).is_some_and(|vma| vma.start < at));
        let new = cuts(range.start) + cuts(range.end);
        if self.set.len() + new > MAX_MAP_COUNT { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// The end of what is mapped from the start of a range on without a hole, at most the range's end.
    pub(crate) fn covered_end(&self, range: &Range<u64>) -> u64 {
        let mut at = range.start;
        for vma in self.set.overlapping(range.clone()) {
            if vma.start > at {
                break;
            }
            at = vma.end;
        }
        at.min(range.end)
    }
}
