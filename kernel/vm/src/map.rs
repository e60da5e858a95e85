//! mmap(2): choosing addresses and making areas.

use crate::area::{Area, Backing, FileBacking, Special, VmFlags};
use crate::fault::Populate;
use crate::file::{MapSource, VmFile};
use crate::limits::Limits;
use crate::mapping::{CacheKind, Mapper, Mapping, MemoryOps};
use crate::space::{AddressSpace, Areas};
use crate::{
    MAX_MAP_COUNT, MMAP_MIN_ADDR, PAGE, PAGE_SHIFT, STACK_GUARD_GAP, is_page_aligned, page_down, page_up,
    stats,
};
use abi::Errno;
use abi::errno::Result;
use abi::mm::{MapFlags, MapKind, Prot};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use vma::{FreeSpace, InsertError};

/// The arguments of mmap.
pub struct MapRequest {
    pub addr: usize,
    pub len: usize,
    pub prot: Prot,
    pub flags: MapFlags,
    /// None exactly with MAP_ANONYMOUS.
    pub file: Option<Arc<dyn VmFile>>,
    /// Bytes into the file.
    pub offset: u64,
}

impl MapRequest {
    /// Anonymous private memory, anywhere.
    pub fn anonymous(len: usize, prot: Prot) -> MapRequest {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        MapRequest { addr: 0, len, prot, flags, file: None, offset: 0 }
    }
}

/// A request as checked: what will be mapped, though not yet where.
struct Plan {
    flags: VmFlags,
    page_offset: u64,
    source: Option<(Arc<dyn VmFile>, Arc<Mapping>)>,
}

impl AddressSpace {
    /// mmap(2). Returns the address.
    pub fn mmap(&self, request: &MapRequest, limits: &dyn Limits) -> Result<usize> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(request.len as u64).filter(|&len| len != 0).ok_or(Errno::ENOMEM)?;
        if !is_page_aligned(request.offset) {
            return Err(Errno::EINVAL);
        }
        (request.offset >> PAGE_SHIFT).checked_add(len >> PAGE_SHIFT).ok_or(Errno::EOVERFLOW)?;
        if request.flags.contains(MapFlags::HUGETLB) {
            // The huge page pools are empty: files are never on hugetlbfs, and anonymous requests find no page.
            return Err(if request.file.is_some() { Errno::EINVAL } else { Errno::ENOMEM });
        }
        let mut plan = self.plan(request, len)?;
        let mut areas = self.areas.write();
        plan.flags |= areas.default_flags;
        let range = areas.choose(request, len, limits)?;
        if request.flags.contains(MapFlags::LOCKED) {
            if limits.memlock() == 0 {
                return Err(Errno::EPERM);
            }
            plan.flags |= VmFlags::LOCKED;
        }
        areas.check_locked(plan.flags, len, limits)?;
        let flags = plan.flags;
        let replaced = self.install(&mut areas, range.clone(), plan, limits)?;
        drop(areas);
        drop(replaced);
        let populate = request.flags & (MapFlags::POPULATE | MapFlags::NONBLOCK) == MapFlags::POPULATE;
        let locked = flags & (VmFlags::LOCKED | VmFlags::LOCKONFAULT) == VmFlags::LOCKED;
        if populate || locked {
            // The mapping stands whatever comes of this, as in Linux.
            let _ = self.populate(range.clone(), Populate::Lenient);
        }
        Ok(range.start as usize)
    }

    /// Checks protection, type and file against each other.
    fn plan(&self, request: &MapRequest, len: u64) -> Result<Plan> {
        let mut flags = VmFlags::from_prot(request.prot) | VmFlags::MAY_ALL;
        if request.flags.contains(MapFlags::GROWSDOWN) {
            flags |= VmFlags::GROWSDOWN;
        }
        if request.flags.contains(MapFlags::NORESERVE) && stats::overcommit_mode() != 2 {
            flags |= VmFlags::NORESERVE;
        }
        match &request.file {
            Some(file) => plan_file(file, request, flags),
            None => plan_anonymous(request, flags, len),
        }
    }

    /// Puts the planned area at `range`, in the place of what was there; returns the files that went.
    fn install(
        &self,
        areas: &mut Areas,
        range: Range<u64>,
        mut plan: Plan,
        limits: &dyn Limits,
    ) -> Result<Vec<Arc<FileBacking>>> {
        let pages = (range.end - range.start) >> PAGE_SHIFT;
        let free = areas.set.is_free(range.clone());
        let overlap = if free { 0 } else { areas.mapped_pages(&range) };
        areas.check_expand(plan.flags, pages, overlap, limits)?;
        if areas.set.len() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        let backing = match plan.source.take() {
            None => Backing::Anonymous,
            Some((file, mapping)) => {
                let writable = plan.flags.contains(VmFlags::SHARED | VmFlags::MAYWRITE);
                let origin = range.start.wrapping_sub(plan.page_offset << PAGE_SHIFT);
                let mapper = Mapper { space: self.this.clone(), origin };
                Backing::File(FileBacking::new(file, mapping, mapper, writable)?)
            }
        };
        let committed = if plan.flags.is_accountable() { pages } else { 0 };
        areas.commit(committed)?;
        if committed > 0 {
            plan.flags |= VmFlags::ACCOUNT;
        }
        let replaced = match free {
            true => Vec::new(),
            false => self.take_and_zap(areas, range.clone()).inspect_err(|_| areas.uncommit(committed))?,
        };
        let area = Area::new(plan.flags, plan.page_offset, backing);
        if areas.set.insert(range, area).is_err() {
            areas.uncommit(committed);
            return Err(Errno::ENOMEM);
        }
        areas.sizes.add(plan.flags, pages);
        self.note_size(areas);
        Ok(replaced)
    }

    /// Maps kernel-provided pages (the vDSO and its data), an area for each of `parts` with no gap between them, at the
    /// highest free place below `near` or anywhere; returns the address. After an error some parts may be mapped.
    pub fn map_special(&self, near: usize, parts: Vec<(Prot, Special)>) -> Result<usize> {
        let pages: usize = parts.iter().map(|(_, special)| special.folios.len()).sum();
        let len = (pages as u64).checked_mul(PAGE).filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
        let mut areas = self.areas.write();
        let base = areas.layout.mmap_base;
        let near = page_down(near as u64);
        let within = if near > MMAP_MIN_ADDR { MMAP_MIN_ADDR..near } else { MMAP_MIN_ADDR..base };
        let start = areas
            .set
            .find_free(&FreeSpace::top_down(len, within))
            .or_else(|| areas.set.find_free(&FreeSpace::top_down(len, MMAP_MIN_ADDR..base)))
            .ok_or(Errno::ENOMEM)?;
        let mut at = start;
        for (prot, special) in parts {
            let mut flags = VmFlags::from_prot(prot) | VmFlags::MAYREAD | VmFlags::DONTEXPAND;
            flags.set(VmFlags::MAYEXEC, prot.contains(Prot::EXEC));
            let pages = special.folios.len() as u64;
            let area = Area::new(flags, 0, Backing::Special(Arc::new(special)));
            areas.set.insert(at..at + (pages << PAGE_SHIFT), area).map_err(|_| Errno::ENOMEM)?;
            areas.sizes.add(flags, pages);
            at += pages << PAGE_SHIFT;
        }
        self.note_size(&areas);
        Ok(start as usize)
    }

    /// Makes the first stack of a program: `bytes` below the layout's top, growing down. Returns the top.
    pub fn map_stack(&self, bytes: usize, executable: bool) -> Result<usize> {
        let len = page_up(bytes as u64).filter(|&len| len > 0).ok_or(Errno::ENOMEM)?;
        let mut areas = self.areas.write();
        let top = areas.layout.stack_top;
        let start = top.checked_sub(len).ok_or(Errno::ENOMEM)?;
        let access = VmFlags::READ | VmFlags::WRITE;
        let mut flags = access | VmFlags::MAY_ALL | VmFlags::GROWSDOWN | VmFlags::ACCOUNT;
        flags.set(VmFlags::EXEC, executable);
        areas.commit(len >> PAGE_SHIFT)?;
        if areas.set.insert(start..top, Area::new(flags, 0, Backing::Anonymous)).is_err() {
            areas.uncommit(len >> PAGE_SHIFT);
            return Err(Errno::ENOMEM);
        }
        areas.sizes.add(flags, len >> PAGE_SHIFT);
        self.note_size(&areas);
        Ok(top as usize)
    }
}

fn plan_file(file: &Arc<dyn VmFile>, request: &MapRequest, mut flags: VmFlags) -> Result<Plan> {
    let kind = request.flags.kind().ok_or(Errno::EINVAL)?;
    let unknown = request.flags.bits() & !MapFlags::all().bits() != 0;
    if kind == MapKind::SharedValidate && (unknown || request.flags.contains(MapFlags::SYNC)) {
        return Err(Errno::EOPNOTSUPP);
    }
    if kind != MapKind::Private {
        let writes = request.prot.contains(Prot::WRITE);
        if writes && (!file.writable() || file.append_only()) {
            return Err(Errno::EACCES);
        }
        if file.writable() && !file.shares_stores() {
            return Err(Errno::EINVAL);
        }
        if writes && file.is_swap_file() {
            return Err(Errno::ETXTBSY);
        }
        flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
        if !file.writable() {
            flags -= VmFlags::MAYWRITE | VmFlags::SHARED;
        }
    }
    if !file.readable() {
        return Err(Errno::EACCES);
    }
    if file.no_exec() {
        if flags.contains(VmFlags::EXEC) {
            return Err(Errno::EPERM);
        }
        flags -= VmFlags::MAYEXEC;
    }
    let source = file.map_source()?;
    if flags.contains(VmFlags::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    match source {
        MapSource::Cache(mapping) => {
            let source = Some((file.clone(), mapping));
            Ok(Plan { flags, page_offset: request.offset >> PAGE_SHIFT, source })
        }
        MapSource::Anonymous if kind == MapKind::Private => Ok(Plan { flags, page_offset: 0, source: None }),
        MapSource::Anonymous => plan_shared_memory(flags, request.len as u64),
    }
}

fn plan_anonymous(request: &MapRequest, mut flags: VmFlags, len: u64) -> Result<Plan> {
    match request.flags.kind() {
        Some(MapKind::Private) => Ok(Plan { flags, page_offset: 0, source: None }),
        Some(MapKind::Shared) if !flags.contains(VmFlags::GROWSDOWN) => {
            flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
            plan_shared_memory(flags, len)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Shared anonymous memory is an unnamed memory object that lives as long as it is mapped.
fn plan_shared_memory(flags: VmFlags, len: u64) -> Result<Plan> {
    let size = page_up(len).ok_or(Errno::ENOMEM)?;
    let pages = if flags.contains(VmFlags::NORESERVE) { 0 } else { size >> PAGE_SHIFT };
    stats::commit(pages)?;
    let file = Arc::new(SharedMemory {
        mapping: Mapping::new(CacheKind::Memory, size, Arc::new(MemoryOps)),
        inode: NEXT_OBJECT.fetch_add(1, Ordering::Relaxed),
        committed: pages,
    });
    let mapping = file.mapping.clone();
    Ok(Plan { flags, page_offset: 0, source: Some((file, mapping)) })
}

static NEXT_OBJECT: AtomicU64 = AtomicU64::new(1);

/// The file behind a shared anonymous mapping; /proc/PID/maps shows it as Linux's internal tmpfs does.
struct SharedMemory {
    mapping: Arc<Mapping>,
    inode: u64,
    committed: u64,
}

impl VmFile for SharedMemory {
    fn map_source(&self) -> Result<MapSource> {
        Ok(MapSource::Cache(self.mapping.clone()))
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        true
    }

    fn device(&self) -> (u32, u32) {
        (0, 1)
    }

    fn inode_number(&self) -> u64 {
        self.inode
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/dev/zero (deleted)")
    }

    fn punch_hole(&self, start: u64, len: u64) -> Result<()> {
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        self.mapping.punch_hole(start, end);
        Ok(())
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn core::any::Any + Send + Sync> {
        self
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        stats::uncommit(self.committed);
    }
}

impl Areas {
    /// Where a request goes.
    fn choose(&mut self, request: &MapRequest, len: u64, limits: &dyn Limits) -> Result<Range<u64>> {
        let top = self.set.bounds().end;
        if len > top {
            return Err(Errno::ENOMEM);
        }
        let addr = request.addr as u64;
        if request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            let range = self.check_fixed(addr, len, limits)?;
            if request.flags.contains(MapFlags::FIXED_NOREPLACE) && !self.set.is_free(range.clone()) {
                return Err(Errno::EEXIST);
            }
            return Ok(range);
        }
        let start = self.find_place(addr, len, request.flags).ok_or(Errno::ENOMEM)?;
        Ok(start..start + len)
    }

    /// The range of a MAP_FIXED request, of mmap or mremap.
    pub(crate) fn check_fixed(&self, addr: u64, len: u64, limits: &dyn Limits) -> Result<Range<u64>> {
        let top = self.set.bounds().end;
        if addr > top.checked_sub(len).ok_or(Errno::ENOMEM)? {
            return Err(Errno::ENOMEM);
        }
        if !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr < MMAP_MIN_ADDR && !limits.may_map_low() {
            return Err(Errno::EPERM);
        }
        Ok(addr..addr + len)
    }

    /// A free place: at the hint, else the highest below the base, else the lowest above everything.
    pub(crate) fn find_place(&mut self, hint: u64, len: u64, flags: MapFlags) -> Option<u64> {
        let bounds = self.set.bounds();
        if let Some(start) = self.place_at_hint(hint, len) {
            return Some(start);
        }
        let guard = if flags.contains(MapFlags::GROWSDOWN) { STACK_GUARD_GAP } else { 0 };
        if flags.contains(MapFlags::LOW_32BIT) {
            let want = FreeSpace { guard, ..FreeSpace::bottom_up(len, 0x4000_0000..0x8000_0000) };
            return self.set.find_free(&want);
        }
        let base = self.layout.mmap_base;
        let down = FreeSpace { guard, ..FreeSpace::top_down(len, MMAP_MIN_ADDR..base) };
        self.set.find_free(&down).or_else(|| {
            let up = FreeSpace { guard, ..FreeSpace::bottom_up(len, page_down(bounds.end / 3)..bounds.end) };
            self.set.find_free(&up)
        })
    }

    fn place_at_hint(&self, hint: u64, len: u64) -> Option<u64> {
        if hint == 0 {
            return None;
        }
        let start = page_up(hint)?.max(MMAP_MIN_ADDR);
        let end = start.checked_add(len).filter(|&end| end <= self.set.bounds().end)?;
        // The guard gap of a stack above counts as taken.
        let above = self.set.find_from(start);
        let gap = |vma: &vma::Vma<Area>| vma.start.saturating_sub(vma::VmaData::guard_gap(&vma.data));
        above.is_none_or(|vma| end <= gap(vma)).then_some(start)
    }

    /// Pages of `range` that are mapped.
    pub(crate) fn mapped_pages(&self, range: &Range<u64>) -> u64 {
        let part = |vma: &vma::Vma<Area>| vma.end.min(range.end) - vma.start.max(range.start);
        self.set.overlapping(range.clone()).map(part).sum::<u64>() >> PAGE_SHIFT
    }

    /// RLIMIT_AS and RLIMIT_DATA for `pages` more, `replaced` of which are mapped now.
    pub(crate) fn check_expand(
        &self,
        flags: VmFlags,
        pages: u64,
        replaced: u64,
        limits: &dyn Limits,
    ) -> Result<()> {
        let total = self.sizes.total.saturating_sub(replaced).saturating_add(pages);
        if total > limits.address_space() >> PAGE_SHIFT {
            return Err(Errno::ENOMEM);
        }
        if flags.is_data() && self.sizes.data.saturating_add(pages) > limits.data() >> PAGE_SHIFT {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// RLIMIT_MEMLOCK for `len` more bytes in an area with `flags`; EAGAIN.
    pub(crate) fn check_locked(&self, flags: VmFlags, len: u64, limits: &dyn Limits) -> Result<()> {
        if !flags.contains(VmFlags::LOCKED) {
            return Ok(());
        }
        let locked = self.sizes.locked.saturating_add(len >> PAGE_SHIFT);
        if locked > limits.memlock() >> PAGE_SHIFT { Err(Errno::EAGAIN) } else { Ok(()) }
    }
}

/// An insertion that failed for lack of memory, or because of a range that was checked before.
pub(crate) fn insert_error(error: InsertError) -> Errno {
    match error {
        InsertError::Occupied | InsertError::OutOfMemory => Errno::ENOMEM,
    }
}
