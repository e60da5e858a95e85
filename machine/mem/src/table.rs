//! User page tables.
//!
//! **Problem.** Threads on several CPUs fault, map and unmap in one tree of entries that the hardware
//! reads at any time and, on some machines, writes (accessed and dirty bits). Each entry of a page owns a
//! reference of a folio; a frame may be used again only when no TLB can still translate to it.
//!
//! **Interface.** [`UserTable`] is the tree with its TLB state; [`UserTable::lock`] gives the
//! [`TableGuard`] through which entries are read and changed. A guard collects TLB flushes and removed
//! references and carries them out when it drops, after the lock was released: first the flush on every
//! CPU concerned, then the frames.
//!
//! **Idea.** CPUs note in `active` which table they run. A change is announced to those by interrupt;
//! CPUs that ran the table before may hold entries under its tag: they are marked in `stale` and flush
//! when they next activate it. Either the flusher sees a CPU in `active` or that CPU sees its `stale` bit.

use crate::flush::Batch;
use crate::folio::{Folio, is_zero_pfn, zero_page};
use crate::frame::{pfn_of, phys_of};
use crate::pages::Chain;
use crate::walk::{ENTRIES, Table, index, root_level, span};
use crate::{AllocFlags, OutOfMemory, asid, kernel_table};
use alloc::sync::Arc;
use arch::mmu::{self, Pte};
use arch::paging::PteFlags;
use arch::{CpuMask, MAX_CPUS, PAGE_SIZE, PhysAddr, VirtAddr, cpu};
use core::cell::Cell;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use sync::{SpinGuard, SpinLock, levels};

/// A user address space's translations.
pub struct UserTable {
    root: Table,
    lock: SpinLock<Kept, levels::PageTable>,
    /// CPUs that run this table now, kernel threads that borrow it included.
    active: AtomicU64,
    /// CPUs that must flush this table's tag before they run it.
    stale: AtomicU64,
    /// Generation and tag, see [`asid`].
    context: AtomicU64,
    /// Page-table frames, the root included.
    tables: AtomicUsize,
}

/// One leaf table that may stay although it is empty, so that mapping, touching and unmapping a small
/// area again and again does not make and free a table each time, with a flush of everything for that.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kept(Option<Table>);

impl Kept {
    /// Whether the empty table `table` stays.
    fn keeps(&mut self, table: Table) -> bool {
        let vacant = self.0.is_none_or(|kept| kept == table || kept.used() > 0);
        if vacant {
            self.0 = Some(table);
        }
        vacant
    }
}

/// The table each CPU runs, null for the kernel's.
static ACTIVE: [AtomicPtr<UserTable>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// A page that an entry maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageEntry {
    pub phys: PhysAddr,
    pub flags: PteFlags,
}

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    None,
    Page(PageEntry),
    /// A word that software left there (`map_soft`).
    Soft(u64),
}

impl From<Pte> for Entry {
    #[inline]
    fn from(pte: Pte) -> Entry {
        if pte.is_present() {
            return Entry::Page(PageEntry { phys: pte.addr(), flags: pte.flags() });
        }
        pte.as_software().map_or(Entry::None, Entry::Soft)
    }
}

fn is_empty(pte: Pte) -> bool {
    crate::walk::bits(pte) == crate::walk::bits(Pte::EMPTY)
}

impl UserTable {
    /// An empty table with the kernel's half.
    pub fn new() -> Result<Arc<UserTable>, OutOfMemory> {
        let root = Table::alloc(AllocFlags::KERNEL)?;
        kernel_table::share_with(root);
        Ok(Arc::new(UserTable {
            root,
            lock: SpinLock::new(Kept(None)),
            active: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            context: AtomicU64::new(0),
            tables: AtomicUsize::new(1),
        }))
    }

    /// Bytes of page-table frames (VmPTE).
    pub fn table_bytes(&self) -> usize {
        self.tables.load(Ordering::Relaxed) * PAGE_SIZE
    }

    /// Exclusive access to the entries. Preemption is off until the guard drops, and when it drops other
    /// CPUs may be interrupted: no spin lock of a level from `PageTable` on may be held then.
    #[inline]
    pub fn lock(&self) -> TableGuard<'_> {
        let preempt = sync::preempt_off();
        TableGuard {
            table: self,
            lock: Some(self.lock.lock()),
            leaf: Cell::new(None),
            batch: Batch::new(),
            _preempt: preempt,
        }
    }

    /// Makes the page tables that a mapping at `va` needs. May sleep to reclaim; then `map` at `va` cannot
    /// fail until something is unmapped there.
    pub fn prepare(&self, va: usize) -> Result<(), OutOfMemory> {
        loop {
            let missing = {
                let _lock = self.lock.lock();
                self.missing_tables(va)
            };
            if missing == 0 {
                return Ok(());
            }
            let spare = Table::alloc(AllocFlags::KERNEL)?;
            let unused = {
                let _lock = self.lock.lock();
                self.install(va, spare)
            };
            if let Some(table) = unused {
                table.free(); // another thread was faster
            }
        }
    }

    /// How many levels of tables `va` lacks.
    fn missing_tables(&self, va: usize) -> usize {
        let present = |level: &usize| self.root.descend(va, root_level(), *level).is_some();
        (0..=root_level()).find(present).unwrap_or(root_level())
    }

    /// Hangs `spare` in as the highest missing table for `va`; gives it back when none is missing.
    fn install(&self, va: usize, spare: Table) -> Option<Table> {
        let level = self.missing_tables(va);
        match self.root.descend(va, root_level(), level) {
            Some(parent) if level > 0 => {
                parent.fill(index(va, level), spare.pte());
                self.tables.fetch_add(1, Ordering::Relaxed);
                None
            }
            _ => Some(spare),
        }
    }

    /// Runs this table on this CPU. Interrupts off; the caller keeps the table alive until another one, or
    /// none, is activated here.
    pub fn activate(&self) {
        debug_assert!(!arch::irq::is_enabled());
        let cpu = cpu::id();
        let old = ACTIVE[cpu].swap(core::ptr::from_ref(self).cast_mut(), Ordering::Relaxed);
        self.active.fetch_or(1 << cpu, Ordering::SeqCst);
        let tag = asid::activate(&self.context);
        // SAFETY: 1. the root holds the kernel's half (`new`), so the code that runs stays mapped; 2. the
        // caller keeps the table.
        unsafe { mmu::activate(phys_of(self.root.0), tag) };
        let mine = 1 << cpu;
        if self.stale.load(Ordering::SeqCst) & mine != 0 {
            self.stale.fetch_and(!mine, Ordering::SeqCst);
            mmu::flush_asid(tag);
        }
        leave(old, cpu);
    }

    /// Leaves whatever user table this CPU runs for the kernel's own. Interrupts off.
    pub fn deactivate() {
        let cpu = cpu::id();
        let old = ACTIVE[cpu].swap(core::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: 1. the kernel's table maps everything the kernel uses, for ever.
        unsafe { mmu::activate(kernel_table::root_phys(), 0) };
        leave(old, cpu);
    }

    /// Flushes the addresses from every TLB that may have translations of this table. Preemption is off.
    pub(crate) fn flush(&self, start: usize, end: usize) {
        core::sync::atomic::fence(Ordering::SeqCst);
        let mut active = self.active.load(Ordering::SeqCst);
        if asid::in_use() {
            self.stale.fetch_or(!active, Ordering::SeqCst);
            // Who has come since has seen its mark, or is seen here.
            active |= self.active.load(Ordering::SeqCst);
        }
        let active = CpuMask(active);
        let tag = asid::tag_of(&self.context);
        let here = cpu::id();
        if active.contains(here) {
            flush_local(start, end, tag);
        }
        let others = active.without(here);
        if !others.is_empty() {
            mmu::shootdown(others, tag, VirtAddr(start), end - start);
        }
    }

    /// Begins copying entries to `child` for fork. The caller keeps both address spaces from changing. This
    /// table is flushed once, when the copier drops, not for each range.
    pub fn copier<'a>(&'a self, child: &'a UserTable) -> ForkCopier<'a> {
        ForkCopier { parent: self, child, batch: Batch::new() }
    }

    /// Copies the entries of one range for fork, see [`ForkCopier::copy`]; returns how many pages that were,
    /// zero pages included.
    pub fn clone_cow(
        &self,
        child: &UserTable,
        range: Range<usize>,
        share: bool,
    ) -> Result<usize, OutOfMemory> {
        self.copier(child).copy(range, share).map(|copied| copied.soft + copied.plain + copied.zero)
    }

    /// The first address after `va` that may have a leaf table, `va` having none; what lies at `end` and behind is
    /// of no interest. (To look for it all the same cost a munmap of one megabyte up to 9,000 instructions.)
    fn next_table(&self, va: usize, end: usize) -> usize {
        let mut level = 1;
        let table = loop {
            match self.root.descend(va, root_level(), level) {
                Some(table) => break table,
                None => level += 1,
            }
        };
        // Most of an address space is empty: pass over the empty entries of this table in one go.
        let mut at = va & !(span(level) - 1);
        for i in index(va, level) + 1..=ENTRIES {
            at = at.saturating_add(span(level));
            if at >= end || i == ENTRIES || table.get(i).is_present() {
                break;
            }
        }
        at
    }

    /// The leaf table for `va`, made without sleeping.
    fn leaf_making(&self, va: usize) -> Result<Table, OutOfMemory> {
        let flags = AllocFlags::KERNEL | AllocFlags::ATOMIC;
        self.root.descend_making(va, root_level(), 0, flags, &self.tables)
    }

    /// Whether this is the shared zero page.
    pub fn is_zero_page(phys: PhysAddr) -> bool {
        phys == zero_page()
    }
}

/// What [`ForkCopier::copy`] has copied, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// With the `SOFT` flag.
    pub soft: usize,
    /// Without it.
    pub plain: usize,
    /// Of the shared zero page.
    pub zero: usize,
}

/// A fork under way, see [`UserTable::copier`].
pub struct ForkCopier<'a> {
    parent: &'a UserTable,
    child: &'a UserTable,
    batch: Batch,
}

impl ForkCopier<'_> {
    /// Copies the entries of `range`.
    ///
    /// With `share`, entries are copied as they are (shared mappings). Without, pages that may be written
    /// become read-only in both, so that the first write faults and copies. After an error the child holds a
    /// part, to be dropped.
    pub fn copy(&mut self, range: Range<usize>, share: bool) -> Result<Copied, OutOfMemory> {
        let mut copied = Copied::default();
        let mut va = range.start;
        // A table's worth at a time, so that the locks are not held for long.
        while va < range.end {
            let end = range.end.min((va | (span(1) - 1)).saturating_add(1));
            let _lock = self.parent.lock.lock();
            let Some(source) = self.parent.root.descend(va, root_level(), 0) else {
                va = self.parent.next_table(va, range.end);
                continue;
            };
            if source.used() > 0 {
                let _child_lock = self.child.lock.lock_nested();
                self.copy_leaf(source, va..end, share, &mut copied)?;
            }
            va = end;
        }
        Ok(copied)
    }

    /// Copies the entries of one leaf table; both locks are held.
    fn copy_leaf(
        &mut self,
        source: Table,
        range: Range<usize>,
        share: bool,
        copied: &mut Copied,
    ) -> Result<(), OutOfMemory> {
        let mut left = source.used();
        let mut target = None;
        for (i, va) in filled(source, range) {
            let mut pte = source.get(i);
            let target = match target {
                Some(table) => table,
                None => *target.insert(self.child.leaf_making(va)?),
            };
            if pte.is_present() {
                if !share && pte.flags().contains(PteFlags::WRITE) {
                    pte = change_flags(source, i, |flags| flags - PteFlags::WRITE);
                    self.batch.flush_page(va);
                }
                copied.add(pte);
            }
            target.fill(i, pte);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Copied {
    /// Counts the page of an entry and takes the reference for its copy.
    #[inline]
    fn add(&mut self, pte: Pte) {
        let pfn = pfn_of(pte.addr());
        if is_zero_pfn(pfn) {
            self.zero += 1;
            return;
        }
        Folio::add_entry(pfn);
        match pte.flags().contains(PteFlags::SOFT) {
            true => self.soft += 1,
            false => self.plain += 1,
        }
    }
}

impl Drop for ForkCopier<'_> {
    fn drop(&mut self) {
        let _preempt = sync::preempt_off();
        self.batch.finish(self.parent);
    }
}

/// Notes that `cpu` has left the table `old`.
fn leave(old: *mut UserTable, cpu: usize) {
    // SAFETY: 1. the caller of `activate` keeps a table alive until the CPU has left it, which is now; 2. null
    // becomes None.
    if let Some(old) = unsafe { old.as_ref() } {
        let still = ACTIVE[cpu].load(Ordering::Relaxed);
        if !core::ptr::eq(old, still) {
            old.active.fetch_and(!(1 << cpu), Ordering::SeqCst);
        }
    }
}

fn flush_local(start: usize, end: usize, tag: u16) {
    if end - start > mmu::FLUSH_PAGES_MAX * PAGE_SIZE {
        return mmu::flush_asid(tag);
    }
    for va in (start..end).step_by(PAGE_SIZE) {
        mmu::flush_page(VirtAddr(va), tag);
    }
}

/// Changes the flags of a present entry, keeping accessed and dirty bits that hardware sets meanwhile.
/// Returns the new entry.
fn change_flags(table: Table, i: usize, change: impl Fn(PteFlags) -> PteFlags) -> Pte {
    let entry = table.entry(i);
    let mut old = entry.load(Ordering::Relaxed);
    loop {
        let pte = crate::walk::from_bits(old);
        let new = pte.with_flags(change(pte.flags()), 0);
        let bits = crate::walk::bits(new);
        match entry.compare_exchange_weak(old, bits, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return new,
            Err(now) => old = now,
        }
    }
}

impl Drop for UserTable {
    /// Frees all mappings and tables. No CPU runs the table, and its tag is not used again before a flush,
    /// so there is nothing to flush.
    fn drop(&mut self) {
        debug_assert!(self.active.load(Ordering::Relaxed) == 0);
        free_tree(self.root, root_level(), &mut Chain::new());
        kernel_table::unshare(self.root);
        self.root.free();
    }
}

/// Frees everything below a table that no CPU runs, and leaves it empty. The root's shared entries are not
/// counted as used, and lie behind all others.
fn free_tree(table: Table, level: usize, freed: &mut Chain) {
    let mut left = table.used();
    for i in 0..ENTRIES {
        if left == 0 {
            break;
        }
        let pte = table.take_dead(i);
        if is_empty(pte) {
            continue;
        }
        left -= 1;
        if level > 0 {
            free_tree(Table::of(pte), level - 1, freed);
            Table::of(pte).free();
        } else if pte.is_present() {
            if !is_zero_pfn(pfn_of(pte.addr())) {
                Folio::end_entry(pfn_of(pte.addr()), freed);
            }
        }
    }
    table.set_unused();
}

/// The locked entries of a [`UserTable`].
#[repr(C)]
pub struct TableGuard<'a> {
    table: &'a UserTable,
    lock: Option<SpinGuard<'a, Kept, levels::PageTable>>,
    /// The leaf table used last and the first address it covers.
    leaf: Cell<Option<(usize, Table)>>,
    /// Dropped after `drop` below has flushed, so that "this CPU" stays the same.
    _preempt: sync::PreemptGuard,
    batch: Batch,
}

impl Drop for TableGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock = None;
        self.batch.finish(self.table);
    }
}

impl TableGuard<'_> {
    #[inline]
    fn leaf(&self, va: usize) -> Option<Table> {
        let base = va & !(span(1) - 1);
        if let Some((at, table)) = self.leaf.get()
            && at == base
        {
            return Some(table);
        }
        let table = self.table.root.descend(va, root_level(), 0)?;
        self.leaf.set(Some((base, table)));
        Some(table)
    }

    #[inline]
    fn leaf_making(&self, va: usize) -> Result<Table, OutOfMemory> {
        match self.leaf(va) {
            Some(table) => Ok(table),
            None => self.make_leaf(va),
        }
    }

    /// Apart, so that the common way through a fault saves few registers.
    #[cold]
    #[inline(never)]
    fn make_leaf(&self, va: usize) -> Result<Table, OutOfMemory> {
        let table = self.table.leaf_making(va)?;
        self.leaf.set(Some((va & !(span(1) - 1), table)));
        Ok(table)
    }

    /// What is at `va`.
    #[inline]
    pub fn get(&self, va: usize) -> Entry {
        self.leaf(va).map_or(Entry::None, |table| table.get(index(va, 0)).into())
    }

    /// A reference of the folio mapped at `va`, and which of its pages it is; `None` for nothing and for
    /// the zero page.
    pub fn folio(&self, va: usize) -> Option<Folio> {
        let Entry::Page(page) = self.get(va) else { return None };
        let pfn = pfn_of(page.phys);
        if is_zero_pfn(pfn) { None } else { Folio::reference_at(pfn) }
    }

    /// Maps page `page` of `folio` at `va`, where nothing may be (else `Ok(None)`, and nothing changes).
    /// The entry takes a reference and a map count of its own.
    ///
    /// Fails when a page table is missing and cannot be made without sleeping: release the guard, call
    /// [`UserTable::prepare`] and try again.
    pub fn map(
        &mut self,
        va: usize,
        folio: &Folio,
        page: usize,
        flags: PteFlags,
    ) -> Result<Option<()>, OutOfMemory> {
        self.map_owned(va, folio.clone(), page, flags)
    }

    /// As [`TableGuard::map`], handing the entry the caller's reference: two atomic operations fewer.
    #[inline]
    pub fn map_owned(
        &mut self,
        va: usize,
        folio: Folio,
        page: usize,
        flags: PteFlags,
    ) -> Result<Option<()>, OutOfMemory> {
        debug_assert!(page < folio.pages());
        let table = self.leaf_making(va)?;
        if !is_empty(table.get(index(va, 0))) {
            return Ok(None);
        }
        folio.add_map();
        let pfn = folio.into_entry(page);
        table.fill(index(va, 0), Pte::leaf(phys_of(pfn), flags | PteFlags::USER, 0));
        Ok(Some(()))
    }

    /// Maps single pages, all with the same flags and all under one leaf table, where nothing is yet; each is
    /// an address and a folio of one page. Returns how many were mapped; otherwise as [`TableGuard::map`].
    ///
    /// What is the same for all is done once: 40 instructions a page instead of 80 of single calls.
    pub fn map_each<'f>(
        &mut self,
        pages: impl Iterator<Item = (usize, &'f Folio)>,
        flags: PteFlags,
    ) -> Result<usize, OutOfMemory> {
        let model = Pte::leaf(PhysAddr(0), flags | PteFlags::USER, 0);
        let mut mapped = 0;
        let mut leaf = None;
        for (va, folio) in pages {
            let table = match leaf {
                Some(table) => table,
                None => *leaf.insert(self.leaf_making(va)?),
            };
            debug_assert!(self.leaf(va) == Some(table) && folio.order() == 0);
            let entry = index(va, 0);
            if is_empty(table.get(entry)) {
                Folio::add_entry(folio.head());
                table.put(entry, model.with_addr(folio.phys()));
                mapped += 1;
            }
        }
        if let Some(table) = leaf {
            table.count_filled(mapped);
        }
        Ok(mapped as usize)
    }

    /// Maps the shared zero page at `va`, never writable; otherwise as [`TableGuard::map`].
    pub fn map_zero(&mut self, va: usize, flags: PteFlags) -> Result<Option<()>, OutOfMemory> {
        let table = self.leaf_making(va)?;
        if !is_empty(table.get(index(va, 0))) {
            return Ok(None);
        }
        let flags = (flags - PteFlags::WRITE) | PteFlags::USER;
        table.fill(index(va, 0), Pte::leaf(zero_page(), flags, 0));
        Ok(Some(()))
    }

    /// Leaves a word of 58 bits at `va`, where no page may be (else `Ok(None)`).
    pub fn map_soft(&mut self, va: usize, word: u64) -> Result<Option<()>, OutOfMemory> {
        let table = self.leaf_making(va)?;
        let old = table.get(index(va, 0));
        if old.is_present() {
            return Ok(None);
        }
        match is_empty(old) {
            true => table.fill(index(va, 0), Pte::software(word)),
            false => table.put(index(va, 0), Pte::software(word)),
        }
        Ok(Some(()))
    }

    /// Maps page `page` of `folio` at `va` in place of what is there (copy-on-write); false, and nothing
    /// changes, if nothing is. The old page's reference is dropped after the flush.
    pub fn replace(&mut self, va: usize, folio: &Folio, page: usize, flags: PteFlags) -> bool {
        self.replace_owned(va, folio.clone(), page, flags)
    }

    /// Leaves a word of 58 bits at `va` in place of the page there, whose reference is dropped after the flush;
    /// false, and nothing changes, if no page is.
    pub fn replace_soft(&mut self, va: usize, word: u64) -> bool {
        let Some(table) = self.leaf(va).filter(|table| table.get(index(va, 0)).is_present()) else {
            return false;
        };
        self.take(table, index(va, 0), va);
        table.fill(index(va, 0), Pte::software(word));
        true
    }

    /// As [`TableGuard::replace`], handing over the caller's reference.
    pub fn replace_owned(&mut self, va: usize, folio: Folio, page: usize, flags: PteFlags) -> bool {
        debug_assert!(page < folio.pages());
        let Some(table) = self.leaf(va).filter(|table| !is_empty(table.get(index(va, 0)))) else {
            return false;
        };
        self.take(table, index(va, 0), va);
        folio.add_map();
        let pfn = folio.into_entry(page);
        table.fill(index(va, 0), Pte::leaf(phys_of(pfn), flags | PteFlags::USER, 0));
        true
    }

    fn take(&mut self, table: Table, i: usize, va: usize) -> Pte {
        let old = table.take(i);
        if old.is_present() {
            // An entry that was never used is in no TLB.
            if old.is_accessed() {
                self.batch.flush_page(va);
            }
            self.batch.release_page(self.table, pfn_of(old.addr()));
        }
        old
    }

    /// Sets the flags of the page at `va`; false if there is none. Taking away costs a flush on every CPU that
    /// runs the table; setting what is set already, one here (the answer to a spurious fault).
    pub fn set_flags(&mut self, va: usize, flags: PteFlags) -> bool {
        let Some(table) = self.leaf(va) else { return false };
        let i = index(va, 0);
        let old = table.get(i);
        if !old.is_present() {
            return false;
        }
        self.change(table, i, va, &|_| flags | PteFlags::USER);
        true
    }

    fn change(&mut self, table: Table, i: usize, va: usize, change: &impl Fn(PteFlags) -> PteFlags) {
        let old = table.get(i).flags();
        let wanted = change(old);
        if old == wanted {
            // A fault on an entry that permits the access: this CPU's TLB is behind.
            return mmu::flush_page(VirtAddr(va), asid::tag_of(&self.table.context));
        }
        change_flags(table, i, |flags| change(flags) | PteFlags::USER);
        // Granting more needs no flush: a CPU that remembers less faults, finds the entry good and comes
        // here again, to flush above. A flush each time costs more than that fault now and then.
        if !wanted.contains(old) {
            self.batch.flush_page(va);
        }
    }

    /// Gives every page in `range` the flags that `change` makes of its flags.
    pub fn protect(&mut self, range: Range<usize>, mut change: impl FnMut(PteFlags) -> PteFlags) {
        let mut va = range.start;
        while va < range.end {
            let Some(leaf) = self.leaf(va) else {
                va = self.table.next_table(va, range.end);
                continue;
            };
            let end = range.end.min((va | (span(1) - 1)).saturating_add(1));
            if leaf.used() > 0 {
                self.protect_leaf(leaf, va..end, &mut change);
            }
            va = end;
        }
    }

    fn protect_leaf(
        &mut self,
        leaf: Table,
        range: Range<usize>,
        change: &mut impl FnMut(PteFlags) -> PteFlags,
    ) {
        for (i, va) in filled(leaf, range) {
            let old = leaf.get(i);
            if !old.is_present() {
                continue;
            }
            let (before, wanted) = (old.flags(), change(old.flags()) | PteFlags::USER);
            if before != wanted {
                // Hardware may set accessed and dirty meanwhile: they stay unless `change` cleared them.
                let (set, cleared) = (wanted - before, before - wanted);
                change_flags(leaf, i, |now| (now - cleared) | set);
                self.batch.flush_page(va);
            }
        }
    }

    /// Removes everything in `range`; returns how many pages that were. Their references are dropped after
    /// the flush; tables that become empty are freed.
    pub fn unmap(&mut self, range: Range<usize>) -> usize {
        let mut pages = 0;
        self.unmap_with(range, |_, _| pages += 1);
        pages
    }

    /// As [`TableGuard::unmap`], calling `removed` for each page, to keep count of its kinds.
    pub fn unmap_with(&mut self, range: Range<usize>, mut removed: impl FnMut(usize, PageEntry)) {
        let mut va = range.start;
        while va < range.end {
            let Some(leaf) = self.leaf(va) else {
                va = self.table.next_table(va, range.end);
                continue;
            };
            let end = range.end.min((va | (span(1) - 1)).saturating_add(1));
            if leaf.used() > 0 {
                self.unmap_leaf(leaf, va..end, &mut removed);
            }
            if leaf.used() == 0 {
                self.drop_leaf(va, leaf);
            }
            va = end;
        }
    }

    fn unmap_leaf(&mut self, leaf: Table, range: Range<usize>, removed: &mut impl FnMut(usize, PageEntry)) {
        for (i, va) in filled(leaf, range) {
            if let Entry::Page(page) = Entry::from(self.take(leaf, i, va)) {
                removed(va, page);
            }
            if leaf.used() == 0 {
                return;
            }
        }
    }

    /// Takes the empty leaf table of `va` out, unless it may stay, and with it the tables above that become
    /// empty. The root stays.
    #[cold]
    #[inline(never)]
    fn drop_leaf(&mut self, va: usize, leaf: Table) {
        if self.lock.as_mut().is_none_or(|kept| kept.keeps(leaf)) {
            return;
        }
        self.leaf.set(None);
        let mut below = leaf;
        for level in 1..=root_level() {
            let Some(table) = self.table.root.descend(va, root_level(), level) else { return };
            table.take(index(va, level));
            self.table.tables.fetch_sub(1, Ordering::Relaxed);
            self.batch.release_table(self.table, below);
            if table.used() > 0 {
                return;
            }
            below = table;
        }
    }

    /// Calls `each` for what is in `range`, from low to high, skipping what is empty.
    pub fn for_each(&self, range: Range<usize>, mut each: impl FnMut(usize, Entry)) {
        visit(self.table.root, root_level(), range, &mut |leaf, i, va| each(va, leaf.get(i).into()));
    }

    /// Moves the entries of `len` bytes from `from` to `to` (mremap), which is empty there; returns how many
    /// pages. References move with them. Needs page tables: may fail part of the way, with the rest unmoved.
    pub fn move_range(&mut self, from: usize, to: usize, len: usize) -> Result<usize, OutOfMemory> {
        let mut moved = 0;
        for offset in (0..len).step_by(PAGE_SIZE) {
            let Some(source) = self.leaf(from + offset) else { continue };
            let i = index(from + offset, 0);
            if is_empty(source.get(i)) {
                continue;
            }
            let target = self.table.leaf_making(to + offset)?;
            let pte = source.take(i);
            self.batch.flush_page(from + offset);
            target.fill(index(to + offset, 0), pte);
            moved += 1;
        }
        Ok(moved)
    }
}

/// The entries of a leaf table that are not empty, and their addresses; `range` lies within the table and is not empty.
#[inline]
fn filled(leaf: Table, range: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    let base = range.start & !(span(1) - 1);
    let end = index(range.end - 1, 0) + 1;
    let mut next = index(range.start, 0);
    core::iter::from_fn(move || {
        let i = leaf.next_filled(next, end);
        next = i + 1;
        (i < end).then(|| (i, base + i * PAGE_SIZE))
    })
}

/// Calls `each(table, index, va)` for the leaf entries of `range` that are not empty.
fn visit(table: Table, level: usize, range: Range<usize>, each: &mut impl FnMut(Table, usize, usize)) {
    let mut va = range.start;
    while va < range.end {
        let end = range.end.min((va | (span(level) - 1)).saturating_add(1));
        let i = index(va, level);
        let pte = table.get(i);
        if level == 0 {
            if !is_empty(pte) {
                each(table, i, va);
            }
        } else if pte.is_present() && Table::of(pte).used() > 0 {
            visit(Table::of(pte), level - 1, va..end, each);
        }
        va = end;
    }
}
