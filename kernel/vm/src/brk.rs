//! The two areas that grow: the heap (brk(2)) and the stack.

use crate::area::{Area, Backing, VmFlags};
use crate::fault::{FaultError, Populate};
use crate::limits::Limits;
use crate::map::insert_error;
use crate::space::{AddressSpace, Areas};
use crate::{MAX_MAP_COUNT, MMAP_MIN_ADDR, PAGE, PAGE_SHIFT, STACK_GUARD_GAP, page_down, page_up};
use abi::Errno;
use abi::errno::Result;
use core::ops::Range;
use vma::VmaData;

impl AddressSpace {
    /// Where the heap starts; called by exec.
    pub fn set_heap_start(&self, start: usize) {
        let mut areas = self.areas.write();
        areas.heap_start = start as u64;
        areas.heap_end = start as u64;
    }

    /// The heap's start and current end.
    pub fn heap(&self) -> (usize, usize) {
        let areas = self.areas.read();
        (areas.heap_start as usize, areas.heap_end as usize)
    }

    /// brk(2) as the kernel has it: the new end of the heap, or the unchanged one when it cannot be.
    pub fn brk(&self, wanted: usize, limits: &dyn Limits) -> usize {
        let wanted = wanted as u64;
        let data = self.with_program(|program| program.data);
        let mut areas = self.areas.write();
        let old = areas.heap_end;
        let grown = match self.move_heap_end(&mut areas, wanted, data, limits) {
            Ok(grown) => grown,
            Err(_) => return old as usize,
        };
        let locked = areas.default_flags.contains(VmFlags::LOCKED);
        drop(areas);
        if locked && let Some(range) = grown {
            let _ = self.populate(range, Populate::Lenient);
        }
        wanted as usize
    }

    /// Moves the end; returns the addresses that came.
    fn move_heap_end(
        &self,
        areas: &mut Areas,
        wanted: u64,
        data: (u64, u64),
        limits: &dyn Limits,
    ) -> Result<Option<Range<u64>>> {
        if wanted < areas.heap_start || wanted > areas.set.bounds().end {
            return Err(Errno::ENOMEM);
        }
        let bytes = (wanted - areas.heap_start).saturating_add(data.1.saturating_sub(data.0));
        if bytes > limits.data() {
            return Err(Errno::ENOMEM);
        }
        let (old, new) = (page_up(areas.heap_end), page_up(wanted));
        let (old, new) = (old.ok_or(Errno::ENOMEM)?, new.ok_or(Errno::ENOMEM)?);
        let mut grown = None;
        if new < old {
            // Anonymous areas hold no files; a file mapped over the heap's end by hand is closed late.
            let files = self.unmap_range(areas, new..old)?;
            debug_assert!(files.is_empty());
        } else if new > old {
            areas.extend_heap(old..new, limits)?;
            self.note_size(areas);
            grown = Some(old..new);
        }
        areas.heap_end = wanted;
        Ok(grown)
    }

    /// Grows the stack above `addr` down to it; [`FaultError::MapErr`] when there is none or it may not.
    pub(crate) fn grow_stack(&self, addr: u64, limits: &dyn Limits) -> core::result::Result<(), FaultError> {
        let above = |areas: &Areas| areas.set.find_from(addr).map(|vma| (vma.start, vma.end, vma.data.flags));
        {
            let areas = self.areas.read();
            let grows = above(&areas).is_some_and(|(.., flags)| flags.contains(VmFlags::GROWSDOWN));
            if !grows || addr < MMAP_MIN_ADDR {
                return Err(FaultError::MapErr);
            }
        }
        let mut areas = self.areas.write();
        let Some((start, end, flags)) = above(&areas) else { return Err(FaultError::MapErr) };
        if addr >= start {
            return Ok(());
        }
        areas.extend_stack(page_down(addr), start, end, flags, limits).map_err(|_| FaultError::MapErr)?;
        self.note_size(&areas);
        Ok(())
    }
}

impl Areas {
    /// Adds `range` to the heap, as one area with what is there.
    fn extend_heap(&mut self, range: Range<u64>, limits: &dyn Limits) -> Result<()> {
        // A page of distance to what is above, and a stack's guard gap.
        if let Some(next) = self.set.find_from(range.start) {
            let gap = next.start.saturating_sub(next.data.guard_gap());
            if range.end.checked_add(PAGE).is_none_or(|end| end > gap) {
                return Err(Errno::ENOMEM);
            }
        }
        let pages = (range.end - range.start) >> PAGE_SHIFT;
        let access = VmFlags::READ | VmFlags::WRITE | VmFlags::MAY_ALL;
        let flags = access | VmFlags::ACCOUNT | self.default_flags;
        self.check_locked(flags, range.end - range.start, limits)?;
        self.check_expand(flags, pages, 0, limits)?;
        if self.set.len() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        self.commit(pages)?;
        let area = Area::new(flags, 0, Backing::Anonymous);
        if let Err(error) = self.set.insert(range, area) {
            self.uncommit(pages);
            return Err(insert_error(error));
        }
        self.sizes.add(flags, pages);
        Ok(())
    }

    /// Extends the area `start..end` down to `addr`, within RLIMIT_STACK and away from what is below.
    fn extend_stack(
        &mut self,
        addr: u64,
        start: u64,
        end: u64,
        flags: VmFlags,
        limits: &dyn Limits,
    ) -> Result<()> {
        if !flags.contains(VmFlags::GROWSDOWN) || end - addr > limits.stack() {
            return Err(Errno::ENOMEM);
        }
        // Something that can be accessed closer than the gap below: a stack that ran into it would
        // overwrite it unnoticed. Another stack, or a guard area without rights, may be close.
        if let Some(below) = self.set.find_before(start) {
            let harmless = below.data.flags.contains(VmFlags::GROWSDOWN)
                || !below.data.flags.intersects(VmFlags::ACCESS);
            if below.end > addr || (!harmless && addr - below.end < STACK_GUARD_GAP) {
                return Err(Errno::ENOMEM);
            }
        }
        let pages = (start - addr) >> PAGE_SHIFT;
        self.check_expand(flags, pages, 0, limits)?;
        self.check_locked(flags, start - addr, limits)?;
        let committed = if flags.contains(VmFlags::ACCOUNT) { pages } else { 0 };
        self.commit(committed)?;
        if let Err(error) = self.set.grow_down(start, addr, |_, _| {}) {
            self.uncommit(committed);
            return Err(insert_error(error));
        }
        self.sizes.add(flags, pages);
        Ok(())
    }
}
