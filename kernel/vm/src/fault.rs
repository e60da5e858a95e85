//! Page faults: making true what the areas promise.
//!
//! ```text
//!   find the area (read lock) -> allowed? -> look at the entry (table lock)
//!     present:  write to a read-only page   private: reuse or copy     shared: dirty, make writable
//!               else                        set accessed and dirty (Svade), or spurious
//!     absent:   anonymous                   read: the zero page        write: a zeroed page
//!               file                        read: up to 16 cached pages around
//!                                           write: shared: the page    private: a copy of it
//! ```
//!
//! Pages are made with no spin lock held; they go in only if the entry is still as it was seen. Losing
//! that race is success: the access is tried again by the hardware.

use crate::area::{Area, Backing, FileBacking, Special, VmFlags};
use crate::limits::Limits;
use crate::mapping::{Mapping, Patience};
use crate::space::AddressSpace;
use crate::swap::SwapFault;
use crate::{PAGE, PAGE_SHIFT, page_down, stats, table};
use abi::Errno;
use arch::Access;
use arch::paging::PteFlags;
use core::ops::Range;
use mem::{AllocFlags, Entry, Folio, OutOfMemory, PageEntry, TableGuard, UserTable};
use vma::Vma;

/// How a fault was served; the caller counts it for the thread and the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Without waiting for a device.
    Minor,
    /// A page was read from a device.
    Major,
}

/// Why a fault could not be served, as the signal's si_code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, SEGV_MAPERR.
    MapErr,
    /// The area does not allow it: SIGSEGV, SEGV_ACCERR.
    AccErr,
    /// Beyond the end of the file, or it could not be read: SIGBUS, BUS_ADRERR.
    BusErr,
    /// No memory: the out-of-memory killer has had its turn already.
    Oom,
    /// The file's blocks are changing their places: to be tried again without the areas' lock in between
    /// ([`AddressSpace::wait_for_blocks`]). Does not leave this crate.
    Moving,
}

impl From<OutOfMemory> for FaultError {
    fn from(_: OutOfMemory) -> FaultError {
        FaultError::Oom
    }
}

impl FaultError {
    /// What a system call that needed the page returns.
    pub fn errno(self) -> Errno {
        match self {
            FaultError::Oom => Errno::ENOMEM,
            FaultError::MapErr | FaultError::AccErr | FaultError::BusErr | FaultError::Moving => {
                Errno::EFAULT
            }
        }
    }
}

type Result<T> = core::result::Result<T, FaultError>;

/// Pages around a read fault that are mapped too when they are cached (Linux's fault_around_bytes).
const FAULT_AROUND_PAGES: u64 = 16;

const TOUCHED: PteFlags = PteFlags::ACCESSED;
const WRITTEN: PteFlags = PteFlags::ACCESSED.union(PteFlags::DIRTY);

impl AddressSpace {
    /// Serves a fault at `addr`. Process context, interrupts on, no locks held; may sleep.
    ///
    /// `limits` is asked only when a stack has to grow.
    pub fn handle_fault(&self, addr: usize, access: Access, limits: &dyn Limits) -> Result<Fault> {
        loop {
            match self.try_fault(addr as u64, access, limits) {
                Err(FaultError::Moving) => self.wait_for_blocks(addr as u64),
                result => return result,
            }
        }
    }

    /// After [`FaultError::Moving`] at `addr`, with no lock held: waits.
    #[cold]
    pub(crate) fn wait_for_blocks(&self, addr: u64) {
        let mapping = {
            let areas = self.areas.read();
            areas.set.find(addr).and_then(|vma| vma.data.file_backing()).map(|file| file.mapping.clone())
        };
        if let Some(mapping) = mapping {
            mapping.wait_for_blocks();
        }
    }

    fn try_fault(&self, addr: u64, access: Access, limits: &dyn Limits) -> Result<Fault> {
        let areas = self.areas.read();
        if let Some(vma) = areas.set.find(addr) {
            return self.fault_in(vma, addr, access);
        }
        drop(areas);
        self.grow_stack(addr, limits)?;
        let areas = self.areas.read();
        let vma = areas.set.find(addr).ok_or(FaultError::MapErr)?;
        self.fault_in(vma, addr, access)
    }

    /// Makes `addr` of this area accessible. The areas' lock is held for reading or writing.
    pub(crate) fn fault_in(&self, vma: &Vma<Area>, addr: u64, access: Access) -> Result<Fault> {
        if !allows(vma.data.flags, access) {
            return Err(FaultError::AccErr);
        }
        self.fault_allowed(vma, addr, access)
    }

    /// The fault, its right checked.
    fn fault_allowed(&self, vma: &Vma<Area>, addr: u64, access: Access) -> Result<Fault> {
        let va = page_down(addr);
        let table = self.table.lock();
        match table.get(va as usize) {
            Entry::None => {
                drop(table);
                self.fault_absent(vma, va, access)
            }
            Entry::Page(page) if access == Access::Write && !page.flags.contains(PteFlags::WRITE) => {
                self.fault_read_only(vma, va, page, table)
            }
            Entry::Page(page) => {
                touch(table, va, page, access);
                Ok(Fault::Minor)
            }
            Entry::Soft(word) => {
                drop(table);
                self.fault_swapped(vma, va, word, access)
            }
        }
    }

    #[cold]
    fn fault_swapped(&self, vma: &Vma<Area>, va: u64, word: u64, access: Access) -> Result<Fault> {
        self.swap_in(vma, va, word, access == Access::Write).map_err(|fault| match fault {
            SwapFault::Oom => FaultError::Oom,
            SwapFault::Io => FaultError::BusErr,
        })?;
        stats::count_major();
        Ok(Fault::Major)
    }

    /// For a debugger: a fault that the area does not allow. The entry gets the area's rights all the same.
    pub(crate) fn fault_unchecked(&self, vma: &Vma<Area>, addr: u64, access: Access) -> Result<()> {
        self.fault_allowed(vma, addr, access).map(|_| ())
    }

    /// For a debugger: a private page at `addr` of a read-only private area, read-only for the program.
    pub(crate) fn private_copy(&self, vma: &Vma<Area>, addr: u64) -> Result<()> {
        let va = page_down(addr);
        self.fault_allowed(vma, va, Access::Read)?;
        let table = self.table.lock();
        let Entry::Page(page) = table.get(va as usize) else { return Ok(()) };
        let folio = table.folio(va as usize);
        drop(table);
        match folio {
            Some(folio) if page.flags.contains(PteFlags::SOFT) && folio.refs() == 2 => Ok(()),
            Some(folio) => self.copy_on_write(vma, va, page, &folio).map(|_| ()),
            None => self.replace_zero_page(&vma.data, va, page).map(|_| ()),
        }
    }

    fn fault_absent(&self, vma: &Vma<Area>, va: u64, access: Access) -> Result<Fault> {
        if self.is_reaped() {
            return Err(FaultError::BusErr);
        }
        match &vma.data.backing {
            Backing::Anonymous => self.fault_anonymous(&vma.data, va, access).map(|()| Fault::Minor),
            Backing::File(file) => self.fault_file(vma, file, va, access),
            Backing::Special(special) => self.fault_special(vma, special, va).map(|()| Fault::Minor),
        }
    }

    /// First touch of private memory.
    fn fault_anonymous(&self, area: &Area, va: u64, access: Access) -> Result<()> {
        if access != Access::Write {
            let flags = area.pte.difference(PteFlags::WRITE).union(TOUCHED);
            with_tables(&self.table, va, |table| table.map_zero(va as usize, flags))?;
            return Ok(());
        }
        loop {
            let folio = Folio::alloc(0, AllocFlags::USER | AllocFlags::ZERO)?;
            if self.map_private(area, va, folio, || true)? {
                return Ok(());
            }
        }
    }

    /// Puts a new private page at `va`, writable, unless another thread was faster or it is not `valid`
    /// any more (asked under the table's lock). False when table pages were missing: they are there now,
    /// the folio is gone, and the caller makes it again. That is rare enough for handing the folio over.
    fn map_private(&self, area: &Area, va: u64, folio: Folio, valid: impl Fn() -> bool) -> Result<bool> {
        let flags = area.pte | WRITTEN | PteFlags::SOFT;
        area.note_private();
        let mut table = self.table.lock();
        if !valid() {
            return Ok(true);
        }
        let mapped = table.map_owned(va as usize, folio, 0, flags);
        drop(table);
        match mapped {
            Ok(new) => {
                self.rss.add_anon(i64::from(new.is_some()));
                Ok(true)
            }
            Err(OutOfMemory) => {
                self.table.prepare(va as usize)?;
                Ok(false)
            }
        }
    }

    fn fault_file(&self, vma: &Vma<Area>, file: &FileBacking, va: u64, access: Access) -> Result<Fault> {
        if access == Access::Write {
            if vma.data.is_shared() {
                return self.fault_file_shared_write(vma, file, va);
            }
            return self.fault_file_private_write(vma, file, va);
        }
        let (hit, mapped) = self.map_around(vma, &file.mapping, va)?;
        if let Some(ahead) = file.file.readahead() {
            ahead.found_mapped(mapped);
        }
        if hit {
            return Ok(Fault::Minor);
        }
        let flags = self.read_flags(&vma.data, &file.mapping);
        self.map_cached(vma, file, va, flags).map(|(_, class)| class)
    }

    /// The rights of a file page that was read: writable only where a first write need not be noticed.
    fn read_flags(&self, area: &Area, mapping: &Mapping) -> PteFlags {
        let unnoticed = area.is_shared() && mapping.is_memory();
        let rights = if unnoticed { area.pte } else { area.pte.difference(PteFlags::WRITE) };
        // A page that may be written without a fault counts as dirty from the start.
        rights | if rights.contains(PteFlags::WRITE) { WRITTEN } else { TOUCHED }
    }

    /// Maps the pages around `va` that are cached; says whether the one at `va` was among them, and how many there were.
    fn map_around(&self, vma: &Vma<Area>, mapping: &Mapping, va: u64) -> Result<(bool, usize)> {
        let window = around(vma, va);
        let first = page_index(vma, window.start);
        let count = (window.end - window.start) >> PAGE_SHIFT;
        let flags = self.read_flags(&vma.data, mapping);
        let kind = AddressSpace::resident_kind(&vma.data);
        let mut hit = false;
        let mut mapped = 0;
        let stored = flags.contains(PteFlags::DIRTY);
        self.table.prepare(va as usize)?;
        // The tree's lock is held across: what is in the tree here cannot be taken out and missed by the
        // unmapping that follows, so the generation need not be looked at.
        mapping.with_cached(first..first + count, |cached| {
            let pages = cached.map(|(index, folio)| {
                let at = window.start + ((index - first) << PAGE_SHIFT);
                hit |= at == va;
                // Stores will not be noticed: what is on its way to swap must not take this for unchanged.
                if stored && !folio.dirty() {
                    folio.set_dirty();
                }
                (at as usize, folio)
            });
            let done = self.table.lock().map_each(pages, flags);
            hit &= done.is_ok();
            mapped = done.unwrap_or(0);
        });
        self.rss.add(kind, mapped as i64);
        Ok((hit, mapped))
    }

    /// Brings one page of the file into the cache and maps it.
    fn map_cached(
        &self,
        vma: &Vma<Area>,
        file: &FileBacking,
        va: u64,
        flags: PteFlags,
    ) -> Result<(Folio, Fault)> {
        let (mapping, index) = (&file.mapping, page_index(vma, va));
        fault_ahead(vma, file, index);
        let mut class = Fault::Minor;
        loop {
            let generation = mapping.generation();
            let (folio, read) = mapping.folio_for_fault(index)?;
            if read {
                class = Fault::Major;
                stats::count_major();
            }
            let done = with_tables(&self.table, va, |table| {
                if mapping.generation() != generation {
                    return Ok(None);
                }
                table.map(va as usize, &folio, 0, flags).map(|new| Some(new.is_some()))
            })?;
            let Some(new) = done else { continue };
            if new {
                self.rss.add(AddressSpace::resident_kind(&vma.data), 1);
            }
            if flags.contains(PteFlags::DIRTY) && mapping.is_memory() {
                folio.set_dirty();
            }
            return Ok((folio, class));
        }
    }

    fn fault_file_shared_write(&self, vma: &Vma<Area>, file: &FileBacking, va: u64) -> Result<Fault> {
        let (mapping, index) = (&file.mapping, page_index(vma, va));
        if mapping.is_memory() {
            let (folio, class) = self.map_cached(vma, file, va, vma.data.pte | WRITTEN)?;
            mapping.note_dirty(index, &folio);
            return Ok(class);
        }
        // Read-only first: the file system may have to sleep before the store, and the page may go meanwhile.
        let (_, class) =
            self.map_cached(vma, file, va, vma.data.pte.difference(PteFlags::WRITE) | TOUCHED)?;
        Ok(class)
    }

    /// The first store to a page of a shared mapping since it was clean. Losing the page meanwhile is
    /// success: the access faults again.
    fn make_shared_writable(
        &self,
        vma: &Vma<Area>,
        mapping: &Mapping,
        va: u64,
        seen: PageEntry,
        folio: &Folio,
    ) -> Result<Fault> {
        let index = page_index(vma, va);
        let _stay = mapping.blocks_stay(Patience::Try).ok_or(FaultError::Moving)?;
        mapping.prepare_mapped(index, folio).map_err(|error| match error {
            Errno::ENOMEM => FaultError::Oom,
            _ => FaultError::BusErr,
        })?;
        let mut table = self.table.lock();
        match table.get(va as usize) {
            Entry::Page(now) if now.phys == seen.phys => {
                table.set_flags(va as usize, now.flags | PteFlags::WRITE | WRITTEN);
            }
            _ => return Ok(Fault::Minor),
        }
        drop(table);
        // After the entry is writable: write-back clears the flag first and protects the entry then.
        mapping.note_dirty(index, folio);
        Ok(Fault::Minor)
    }

    /// A private copy of a file page that was not mapped.
    fn fault_file_private_write(&self, vma: &Vma<Area>, file: &FileBacking, va: u64) -> Result<Fault> {
        let mapping = &file.mapping;
        fault_ahead(vma, file, page_index(vma, va));
        let mut class = Fault::Minor;
        loop {
            let generation = mapping.generation();
            let (cached, read) = mapping.folio_for_fault(page_index(vma, va))?;
            if read {
                class = Fault::Major;
                stats::count_major();
            }
            let copy = Folio::alloc(0, AllocFlags::USER)?;
            copy.copy_from(&cached);
            // Truncated meanwhile: nothing is mapped, and the access faults again to learn the truth.
            if self.map_private(&vma.data, va, copy, || mapping.generation() == generation)? {
                return Ok(class);
            }
        }
    }

    fn fault_special(&self, vma: &Vma<Area>, special: &Special, va: u64) -> Result<()> {
        let index = usize::try_from(page_index(vma, va)).map_err(|_| FaultError::BusErr)?;
        let folio = special.folios.get(index).ok_or(FaultError::BusErr)?;
        let flags = vma.data.pte.difference(PteFlags::WRITE) | TOUCHED;
        with_tables(&self.table, va, |table| table.map(va as usize, folio, 0, flags))?;
        Ok(())
    }

    /// A write to a page that is mapped read-only in an area that may be written.
    fn fault_read_only(
        &self,
        vma: &Vma<Area>,
        va: u64,
        page: PageEntry,
        mut table: TableGuard<'_>,
    ) -> Result<Fault> {
        let Some(folio) = table.folio(va as usize) else {
            drop(table);
            return self.replace_zero_page(&vma.data, va, page);
        };
        if vma.data.is_shared() {
            return match &vma.data.backing {
                Backing::File(file) => {
                    drop(table);
                    self.make_shared_writable(vma, &file.mapping, va, page, &folio)
                }
                _ => {
                    table.set_flags(va as usize, page.flags | PteFlags::WRITE | WRITTEN);
                    Ok(Fault::Minor)
                }
            };
        }
        // Two references: the entry's and the one in our hand. Nobody else can see the page.
        if page.flags.contains(PteFlags::SOFT) && folio.refs() == 2 {
            table.set_flags(va as usize, page.flags | PteFlags::WRITE | WRITTEN);
            return Ok(Fault::Minor);
        }
        drop(table);
        self.copy_on_write(vma, va, page, &folio)
    }

    /// The first write after reads of untouched memory.
    fn replace_zero_page(&self, area: &Area, va: u64, seen: PageEntry) -> Result<Fault> {
        let new = Folio::alloc(0, AllocFlags::USER | AllocFlags::ZERO)?;
        if self.replace_private(area, va, seen, new) {
            self.rss.add_anon(1);
        }
        Ok(Fault::Minor)
    }

    fn copy_on_write(&self, vma: &Vma<Area>, va: u64, seen: PageEntry, old: &Folio) -> Result<Fault> {
        let page = ((seen.phys.0 - old.phys().0) >> PAGE_SHIFT) as usize;
        let new = Folio::alloc(0, AllocFlags::USER)?;
        new.copy_pages_from(0, old, page, 1);
        if self.replace_private(&vma.data, va, seen, new) && !seen.flags.contains(PteFlags::SOFT) {
            // A page of the file became a private one.
            self.rss.add(AddressSpace::resident_kind(&vma.data), -1);
            self.rss.add_anon(1);
        }
        Ok(Fault::Minor)
    }

    /// Puts `new` in the place of the page that was seen; false if that is not there any more.
    fn replace_private(&self, area: &Area, va: u64, seen: PageEntry, new: Folio) -> bool {
        area.note_private();
        let mut table = self.table.lock();
        match table.get(va as usize) {
            Entry::Page(now) if now.phys == seen.phys && !now.flags.contains(PteFlags::WRITE) => {
                table.replace_owned(va as usize, new, 0, area.pte | WRITTEN | PteFlags::SOFT)
            }
            _ => false,
        }
    }

    /// Touches every page of `range` as mlock and MAP_POPULATE do: written where private memory may be
    /// written, read elsewhere. Takes the areas' lock anew for each step, so that others get in between.
    pub(crate) fn populate(&self, range: Range<u64>, want: Populate) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            if task::current().fatal_pending() {
                return Err(FaultError::Oom);
            }
            let step = at..range.end.min(at.saturating_add(table::STEP));
            at = self.populate_step(step, range.end, want)?;
        }
        Ok(())
    }

    /// Populates one step; returns where to go on.
    fn populate_step(&self, step: Range<u64>, end: u64, want: Populate) -> Result<u64> {
        let areas = self.areas.read();
        let Some(vma) = areas.set.find_from(step.start).filter(|vma| vma.start < end) else {
            return if want == Populate::Lenient { Ok(end) } else { Err(FaultError::MapErr) };
        };
        if vma.start > step.start && want != Populate::Lenient {
            return Err(FaultError::MapErr);
        }
        let (start, end) = (vma.start.max(step.start), vma.end.min(step.end.max(vma.start)));
        let access = want.access(vma.data.flags);
        for va in (start..end).step_by(PAGE as usize) {
            match self.fault_in(vma, va, access) {
                Ok(_) => {}
                Err(FaultError::Oom) => return Err(FaultError::Oom),
                Err(FaultError::Moving) => {
                    drop(areas);
                    self.wait_for_blocks(va);
                    return Ok(va);
                }
                Err(_) if want == Populate::Lenient => return Ok(vma.end),
                Err(error) => return Err(error),
            }
        }
        Ok(end.max(start).max(step.start + PAGE))
    }
}

/// How to populate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Populate {
    /// MAP_POPULATE, mlockall: what fits the area; holes and pages that cannot be had are passed over.
    Lenient,
    /// mlock: what fits the area, every page or an error.
    Strict,
    /// madvise(MADV_POPULATE_READ) and _WRITE: every page so, or an error.
    Read,
    Write,
}

impl Populate {
    fn access(self, flags: VmFlags) -> Access {
        let private_write = flags & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE;
        match self {
            Populate::Write => Access::Write,
            Populate::Lenient | Populate::Strict if private_write => Access::Write,
            Populate::Lenient | Populate::Strict | Populate::Read => Access::Read,
        }
    }
}

/// Whether an area with these flags may be accessed so. Any right lets one read: the tables know no
/// write-only and, on x86-64, no execute-only pages.
fn allows(flags: VmFlags, access: Access) -> bool {
    match access {
        Access::Read => flags.intersects(VmFlags::ACCESS),
        Access::Write => flags.contains(VmFlags::WRITE),
        Access::Exec => flags.contains(VmFlags::EXEC),
    }
}

/// The entry allows the access already: the processor leaves setting these bits to us, or the fault
/// was seen by two CPUs and served by the other.
fn touch(mut table: TableGuard<'_>, va: u64, page: PageEntry, access: Access) {
    let wanted = page.flags | if access == Access::Write { WRITTEN } else { TOUCHED };
    table.set_flags(va as usize, wanted);
}

/// A fault on a page that may be absent: starts to read it and those around it, as the file's read-ahead
/// state and the area's advice say.
fn fault_ahead(vma: &Vma<Area>, file: &FileBacking, index: u64) {
    let mapping = &file.mapping;
    if mapping.is_memory() || vma.data.flags.contains(VmFlags::RAND_READ) {
        return;
    }
    let Some(ahead) = file.file.readahead() else { return };
    match mapping.find_any(index) {
        Some(folio) => {
            ahead.found_mapped(1);
            if folio.take_readahead() {
                mapping.run_ahead(ahead, index, 1, Patience::Try);
            }
        }
        None => {
            let sequential = vma.data.flags.contains(VmFlags::SEQ_READ);
            if let Some(plan) = ahead.plan_fault(mapping, index, sequential) {
                mapping.start_reads(plan.start..plan.end(), plan.mark, Patience::Try);
            }
        }
    }
    ahead.used(index);
}

/// The page number in the file of `va`.
pub(crate) fn page_index(vma: &Vma<Area>, va: u64) -> u64 {
    vma.data.page_offset.wrapping_add((va - vma.start) >> PAGE_SHIFT)
}

/// The aligned window around `va`, cut to the area. It lies within one table page.
fn around(vma: &Vma<Area>, va: u64) -> Range<u64> {
    let bytes = FAULT_AROUND_PAGES * PAGE;
    let start = va & !(bytes - 1);
    start.max(vma.start)..(start + bytes).min(vma.end)
}

/// Runs `action` under the table's lock; when it lacks table pages, gets them without the lock and
/// repeats. The first try walks the table once, which is all that most faults need.
pub(crate) fn with_tables<R>(
    table: &UserTable,
    va: u64,
    mut action: impl FnMut(&mut TableGuard<'_>) -> core::result::Result<R, OutOfMemory>,
) -> core::result::Result<R, OutOfMemory> {
    if let Ok(done) = action(&mut table.lock()) {
        return Ok(done);
    }
    table.prepare(va as usize)?;
    action(&mut table.lock())
}
