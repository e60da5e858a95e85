//! mlock(2), munlock(2), mlockall(2), munlockall(2).
//!
//! Locked pages are present and stay: reclaim passes over areas with [`VmFlags::LOCKED`].

use crate::area::{Area, VmFlags};
use crate::fault::{FaultError, Populate};
use crate::limits::Limits;
use crate::protect::Stop;
use crate::space::{AddressSpace, Areas};
use crate::{PAGE, PAGE_SHIFT, page_down, page_up};
use abi::Errno;
use abi::errno::Result;
use abi::mm::LockAllFlags;
use core::ops::Range;

const LOCK_BITS: VmFlags = VmFlags::LOCKED.union(VmFlags::LOCKONFAULT);

impl AddressSpace {
    /// mlock(2) and mlock2(2).
    pub fn mlock(&self, addr: usize, len: usize, on_fault: bool, limits: &dyn Limits) -> Result<()> {
        if limits.memlock() == 0 {
            return Err(Errno::EPERM);
        }
        let Some(range) = lock_range(addr, len)? else { return Ok(()) };
        let mut areas = self.areas.write();
        let wanted = ((range.end - range.start) >> PAGE_SHIFT) + areas.sizes.locked;
        // Locking what is locked counts once.
        let again = areas.locked_pages(&range);
        if wanted - again > limits.memlock() >> PAGE_SHIFT {
            return Err(Errno::ENOMEM);
        }
        let flags = if on_fault { LOCK_BITS } else { VmFlags::LOCKED };
        areas.set_locked(range.clone(), flags)?;
        drop(areas);
        if on_fault {
            return Ok(());
        }
        self.populate(range, Populate::Strict).map_err(|error| match error {
            // The two are swapped, as POSIX wants it.
            FaultError::Oom => Errno::EAGAIN,
            FaultError::MapErr | FaultError::AccErr | FaultError::BusErr | FaultError::Moving => {
                Errno::ENOMEM
            }
        })
    }

    /// munlock(2).
    pub fn munlock(&self, addr: usize, len: usize) -> Result<()> {
        let Some(range) = lock_range(addr, len)? else { return Ok(()) };
        self.areas.write().set_locked(range, VmFlags::empty())
    }

    /// mlockall(2).
    pub fn mlockall(&self, flags: LockAllFlags, limits: &dyn Limits) -> Result<()> {
        let unknown = flags.bits() & !LockAllFlags::all().bits() != 0;
        if unknown || flags.is_empty() || flags == LockAllFlags::ONFAULT {
            return Err(Errno::EINVAL);
        }
        if limits.memlock() == 0 {
            return Err(Errno::EPERM);
        }
        let mut areas = self.areas.write();
        if flags.contains(LockAllFlags::CURRENT) && areas.sizes.total > limits.memlock() >> PAGE_SHIFT {
            return Err(Errno::ENOMEM);
        }
        let bits = if flags.contains(LockAllFlags::ONFAULT) { LOCK_BITS } else { VmFlags::LOCKED };
        areas.default_flags = if flags.contains(LockAllFlags::FUTURE) { bits } else { VmFlags::empty() };
        if !flags.contains(LockAllFlags::CURRENT) {
            return Ok(());
        }
        areas.lock_everything(bits);
        let bounds = areas.set.bounds();
        drop(areas);
        if bits == VmFlags::LOCKED {
            let _ = self.populate(bounds, Populate::Lenient);
        }
        Ok(())
    }

    /// munlockall(2).
    pub fn munlockall(&self) {
        let mut areas = self.areas.write();
        areas.default_flags = VmFlags::empty();
        areas.lock_everything(VmFlags::empty());
    }
}

/// The whole pages of an mlock call; `None` when there are none.
fn lock_range(addr: usize, len: usize) -> Result<Option<Range<u64>>> {
    let start = page_down(addr as u64);
    let len =
        page_up((len as u64).checked_add(addr as u64 - start).ok_or(Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok((end > start).then_some(start..end))
}

impl Areas {
    /// Pages of `range` that are locked.
    fn locked_pages(&self, range: &Range<u64>) -> u64 {
        let locked = |vma: &&vma::Vma<Area>| vma.data.flags.contains(VmFlags::LOCKED);
        let part = |vma: &vma::Vma<Area>| vma.end.min(range.end) - vma.start.max(range.start);
        self.set.overlapping(range.clone()).filter(locked).map(part).sum::<u64>() >> PAGE_SHIFT
    }

    /// Replaces the lock bits of all areas in `range`; ENOMEM at the first hole, after what came before it.
    fn set_locked(&mut self, range: Range<u64>, bits: VmFlags) -> Result<()> {
        self.check_split(&range)?;
        let covered = self.covered_end(&range);
        let before = self.locked_pages(&(range.start..covered));
        let change = |_: Range<u64>, area: &mut Area| -> core::result::Result<(), Stop> {
            area.set_flags(area.flags.difference(LOCK_BITS) | bits);
            Ok(())
        };
        self.set.update(range.start..covered, change).map_err(|Stop(errno)| errno)?;
        let after = self.locked_pages(&(range.start..covered));
        self.sizes.locked = self.sizes.locked.saturating_sub(before) + after;
        if covered < range.end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Replaces the lock bits of every area.
    fn lock_everything(&mut self, bits: VmFlags) {
        let mut at = self.set.bounds().start;
        while let Some(range) = self.set.find_from(at).map(|vma| vma.range()) {
            at = range.end.max(at + PAGE);
            // Whole areas are not cut, so this takes no memory.
            let _ = self.set_locked(range, bits);
        }
    }
}
