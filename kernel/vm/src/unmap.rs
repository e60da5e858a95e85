//! munmap(2).

use crate::area::{Area, FileBacking, VmFlags};
use crate::file::VmFile;
use crate::space::{AddressSpace, Areas};
use crate::{MAX_MAP_COUNT, PAGE_SHIFT, is_page_aligned, page_up};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

impl AddressSpace {
    /// munmap(2): everything in the range goes; unmapped parts are no error.
    pub fn munmap(&self, addr: usize, len: usize) -> Result<()> {
        let mut areas = self.areas.write();
        let range = areas.check_range(addr as u64, len as u64)?;
        let files = self.unmap_range(&mut areas, range)?;
        drop(areas);
        drop(files);
        Ok(())
    }

    /// Unmaps every area of the file that is mapped at `addr`, if `wanted` says that this is one to unmap, in the
    /// `len` bytes from there that the whole file takes: shmdt(2). EINVAL when there is none.
    pub fn unmap_file(&self, addr: usize, wanted: impl Fn(&Arc<dyn VmFile>) -> Option<u64>) -> Result<()> {
        let addr = addr as u64;
        let mut gone = Vec::new();
        let mut areas = self.areas.write();
        // The first page may have been unmapped already: the first area that lies where it would for this address.
        let belongs =
            |vma: &vma::Vma<Area>| vma.start.wrapping_sub(addr) == vma.data.page_offset << PAGE_SHIFT;
        let mut from = addr;
        let (file, len) = loop {
            let vma = areas.set.find_from(from).ok_or(Errno::EINVAL)?;
            let file = vma.data.file().filter(|_| vma.start >= addr && belongs(vma));
            if let Some((file, len)) = file.and_then(|file| Some((file.clone(), wanted(file)?))) {
                break (file, len);
            }
            from = vma.end;
        };
        let mut next = addr;
        let end = addr.saturating_add(len);
        while let Some(vma) = areas.set.find_from(next).filter(|vma| vma.end <= end) {
            let range = vma.range();
            let same = vma.data.file().is_some_and(|other| Arc::ptr_eq(other, &file)) && belongs(vma);
            next = range.end;
            if same {
                gone.push(self.unmap_range(&mut areas, range)?);
            }
        }
        drop(areas);
        drop(gone);
        Ok(())
    }

    /// Unmaps a checked range. The files are to be dropped without the areas' lock.
    pub(crate) fn unmap_range(&self, areas: &mut Areas, range: Range<u64>) -> Result<Vec<Arc<FileBacking>>> {
        // Cutting a hole into one area makes one more.
        let inside =
            areas.set.find(range.start).is_some_and(|vma| vma.start < range.start && vma.end > range.end);
        if inside && areas.set.len() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        self.take_and_zap(areas, range)
    }

    /// Takes areas and pages of a range away. The set is cut first: that can fail for lack of memory, and
    /// then nothing has changed.
    pub(crate) fn take_and_zap(&self, areas: &mut Areas, range: Range<u64>) -> Result<Vec<Arc<FileBacking>>> {
        if areas.set.is_free(range.clone()) {
            return Ok(Vec::new());
        }
        areas.check_unsealed(&range)?;
        let in_files = areas.set.overlapping(range.clone()).filter(|vma| vma.data.file().is_some()).count();
        let mut files = Vec::new();
        files.try_reserve_exact(in_files).map_err(|_| Errno::ENOMEM)?;
        let Areas { set, sizes, .. } = areas;
        let mut uncommitted = 0;
        let carved = set.carve(range, |vma| {
            self.zap(&vma.data, vma.range());
            let pages = vma.len() >> PAGE_SHIFT;
            sizes.remove(vma.data.flags, pages);
            if vma.data.flags.contains(VmFlags::ACCOUNT) {
                uncommitted += pages;
            }
            files.extend(vma.data.into_file());
        });
        areas.uncommit(uncommitted);
        carved.map(|()| files).map_err(|_| Errno::ENOMEM)
    }
}

impl Areas {
    /// EPERM when an area of the range was sealed.
    pub(crate) fn check_unsealed(&self, range: &Range<u64>) -> Result<()> {
        let sealed = self.set.overlapping(range.clone()).any(|vma| vma.data.flags.contains(VmFlags::SEALED));
        if sealed { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// The page range of munmap and mremap's old part: EINVAL for what user space cannot have.
    pub(crate) fn check_range(&self, addr: u64, len: u64) -> Result<Range<u64>> {
        let top = self.set.bounds().end;
        let len = page_up(len).filter(|&len| len != 0).ok_or(Errno::EINVAL)?;
        if !is_page_aligned(addr) || addr > top || len > top - addr {
            return Err(Errno::EINVAL);
        }
        Ok(addr..addr + len)
    }
}
