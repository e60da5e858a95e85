//! madvise(2), mincore(2), msync(2).

use crate::area::{Area, Backing, VmFlags};
use crate::fault::{FaultError, Populate, page_index};
use crate::file::VmFile;
use crate::protect::Stop;
use crate::space::AddressSpace;
use crate::{PAGE, PAGE_SHIFT, is_page_aligned, page_up, table};
use abi::Errno;
use abi::errno::Result;
use abi::mm::{SyncFlags, madv};
use alloc::sync::Arc;
use arch::paging::PteFlags;
use core::ops::Range;
use mem::Entry;

/// What an advice does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    /// Sets and clears flags of the areas.
    Flags {
        set: VmFlags,
        clear: VmFlags,
    },
    /// Gives pages back; locked areas refuse.
    Discard {
        locked_too: bool,
    },
    /// As discard, for private anonymous memory only.
    Free,
    /// Reads the file ahead.
    WillNeed,
    /// Forgets that the pages were used.
    Cold,
    /// Punches a hole into the mapped file.
    Remove,
    Populate(Populate),
}

/// The meaning of a number; EINVAL for what this kernel does not do, huge pages and merging included.
fn advice(number: i32) -> Result<Advice> {
    let flags = |set, clear| Ok(Advice::Flags { set, clear });
    match number {
        madv::NORMAL => flags(VmFlags::empty(), VmFlags::RAND_READ | VmFlags::SEQ_READ),
        madv::RANDOM => flags(VmFlags::RAND_READ, VmFlags::SEQ_READ),
        madv::SEQUENTIAL => flags(VmFlags::SEQ_READ, VmFlags::RAND_READ),
        madv::WILLNEED => Ok(Advice::WillNeed),
        madv::DONTNEED => Ok(Advice::Discard { locked_too: false }),
        madv::DONTNEED_LOCKED => Ok(Advice::Discard { locked_too: true }),
        madv::FREE => Ok(Advice::Free),
        madv::REMOVE => Ok(Advice::Remove),
        madv::DONTFORK => flags(VmFlags::DONTCOPY, VmFlags::empty()),
        madv::DOFORK => flags(VmFlags::empty(), VmFlags::DONTCOPY),
        madv::WIPEONFORK => flags(VmFlags::WIPEONFORK, VmFlags::empty()),
        madv::KEEPONFORK => flags(VmFlags::empty(), VmFlags::WIPEONFORK),
        madv::DONTDUMP => flags(VmFlags::DONTDUMP, VmFlags::empty()),
        madv::DODUMP => flags(VmFlags::empty(), VmFlags::DONTDUMP),
        madv::COLD | madv::PAGEOUT => Ok(Advice::Cold),
        madv::POPULATE_READ => Ok(Advice::Populate(Populate::Read)),
        madv::POPULATE_WRITE => Ok(Advice::Populate(Populate::Write)),
        _ => Err(Errno::EINVAL),
    }
}

impl AddressSpace {
    /// madvise(2). Holes are passed over and reported as ENOMEM at the end.
    pub fn madvise(&self, addr: usize, len: usize, number: i32) -> Result<()> {
        let advice = advice(number)?;
        let start = addr as u64;
        if !is_page_aligned(start) {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len as u64).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        match advice {
            Advice::Populate(how) => self.advise_populate(start..end, how),
            Advice::Flags { set, clear } => self.advise_flags(start..end, set, clear),
            Advice::Remove | Advice::WillNeed => self.advise_files(start..end, advice),
            Advice::Discard { .. } | Advice::Free | Advice::Cold => self.advise_pages(start..end, advice),
        }
    }

    fn advise_populate(&self, range: Range<u64>, how: Populate) -> Result<()> {
        if range.end > self.areas.read().set.bounds().end {
            return Err(Errno::ENOMEM);
        }
        self.populate(range, how).map_err(|error| match error {
            FaultError::MapErr | FaultError::Oom => Errno::ENOMEM,
            FaultError::AccErr => Errno::EINVAL,
            FaultError::BusErr | FaultError::Moving => Errno::EFAULT,
        })
    }

    fn advise_flags(&self, range: Range<u64>, set: VmFlags, clear: VmFlags) -> Result<()> {
        let mut areas = self.areas.write();
        areas.check_split(&range)?;
        let covered = areas.set.is_covered(range.clone());
        let change = |_: Range<u64>, area: &mut Area| {
            let anonymous = matches!(area.backing, Backing::Anonymous);
            if set.contains(VmFlags::WIPEONFORK) && !anonymous {
                return Err(Stop(Errno::EINVAL));
            }
            if set.intersects(VmFlags::WIPEONFORK | VmFlags::DONTCOPY) && area.keeps_content() {
                return Err(Stop(Errno::EPERM));
            }
            area.set_flags(area.flags.difference(clear) | set);
            Ok(())
        };
        areas.set.update(range, change).map_err(|Stop(errno)| errno)?;
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Advice about pages that are mapped: needs no change of the areas.
    fn advise_pages(&self, range: Range<u64>, advice: Advice) -> Result<()> {
        let areas = self.areas.read();
        for vma in areas.set.overlapping(range.clone()) {
            let part = vma.start.max(range.start)..vma.end.min(range.end);
            let locked = vma.data.flags.contains(VmFlags::LOCKED);
            match advice {
                Advice::Discard { .. } | Advice::Free if vma.data.keeps_content() => {
                    return Err(Errno::EPERM);
                }
                Advice::Discard { locked_too } if locked && !locked_too => return Err(Errno::EINVAL),
                Advice::Free if !matches!(vma.data.backing, Backing::Anonymous) => return Err(Errno::EINVAL),
                Advice::Cold if locked => return Err(Errno::EINVAL),
                Advice::Cold => {
                    table::protect(&self.table, part, |flags| flags.difference(PteFlags::ACCESSED));
                }
                // MADV_FREE may take the pages at any time until they are written: it takes them now.
                _ if matches!(vma.data.backing, Backing::Special(_)) => return Err(Errno::EINVAL),
                _ => self.zap(&vma.data, part),
            }
        }
        if areas.set.is_covered(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Advice that goes to the mapped files, one after the other without the areas' lock.
    fn advise_files(&self, range: Range<u64>, advice: Advice) -> Result<()> {
        let mut at = range.start;
        let mut hole = false;
        while at < range.end {
            let areas = self.areas.read();
            let Some(vma) = areas.set.find_from(at).filter(|vma| vma.start < range.end) else {
                return Err(Errno::ENOMEM);
            };
            hole |= vma.start > at;
            let part = vma.start.max(at)..vma.end.min(range.end);
            let offset = page_index(vma, part.start) << PAGE_SHIFT;
            let (flags, file) = (vma.data.flags, vma.data.file_backing().cloned());
            drop(areas);
            at = part.end;
            let bytes = part.end - part.start;
            match (advice, file) {
                (Advice::Remove, _) if flags.contains(VmFlags::LOCKED) => return Err(Errno::EINVAL),
                (Advice::Remove, Some(file)) if flags.contains(VmFlags::SHARED | VmFlags::WRITE) => {
                    file.file.punch_hole(offset, bytes)?;
                }
                (Advice::Remove, Some(_)) => return Err(Errno::EACCES),
                (Advice::Remove, None) => return Err(Errno::EINVAL),
                (_, Some(file)) if !file.mapping.is_memory() => file.mapping.read_ahead(offset, bytes),
                _ => {}
            }
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// mincore(2) for the `out.len()` pages from `addr` on: 1 for a page in memory. ENOMEM at a hole, after
    /// the bytes before it were set. The caller copies out and calls again for long ranges.
    pub fn mincore(&self, addr: usize, out: &mut [u8]) -> Result<()> {
        let start = addr as u64;
        if !is_page_aligned(start) {
            return Err(Errno::EINVAL);
        }
        let len = (out.len() as u64).checked_mul(PAGE).ok_or(Errno::ENOMEM)?;
        let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
        let areas = self.areas.read();
        if end > areas.set.bounds().end {
            return Err(Errno::ENOMEM);
        }
        out.fill(0);
        for vma in areas.set.overlapping(start..end) {
            let part = vma.start.max(start)..vma.end.min(end);
            if let Some(file) = vma.data.file_backing() {
                let visible = file.file.may_see_residency();
                for va in part.clone().step_by(PAGE as usize) {
                    let cached = !visible || file.mapping.is_cached(page_index(vma, va));
                    out[((va - start) >> PAGE_SHIFT) as usize] = u8::from(cached);
                }
            }
            self.table.lock().for_each(table::native(&part), |va, entry| {
                if matches!(entry, Entry::Page(_)) {
                    out[((va as u64 - start) >> PAGE_SHIFT) as usize] = 1;
                }
            });
        }
        if areas.set.is_covered(start..end) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// msync(2).
    pub fn msync(&self, addr: usize, len: usize, flags: SyncFlags) -> Result<()> {
        let start = addr as u64;
        let unknown = flags.bits() & !SyncFlags::all().bits() != 0;
        if unknown || !is_page_aligned(start) || flags.contains(SyncFlags::ASYNC | SyncFlags::SYNC) {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len as u64).ok_or(Errno::ENOMEM)?;
        let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
        let mut at = start;
        let mut hole = false;
        while at < end {
            let areas = self.areas.read();
            let Some(vma) = areas.set.find_from(at).filter(|vma| vma.start < end) else {
                return Err(Errno::ENOMEM);
            };
            hole |= vma.start > at;
            let part = vma.start.max(at)..vma.end.min(end);
            if flags.contains(SyncFlags::INVALIDATE) && vma.data.flags.contains(VmFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            let offset = page_index(vma, part.start) << PAGE_SHIFT;
            let shared = vma.data.is_shared();
            let file: Option<Arc<dyn VmFile>> = vma.data.file().filter(|_| shared).cloned();
            drop(areas);
            if let Some(file) = file.filter(|_| flags.contains(SyncFlags::SYNC)) {
                file.sync_range(offset, offset + (part.end - part.start))?;
            }
            at = part.end;
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}
