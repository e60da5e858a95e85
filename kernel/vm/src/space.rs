//! The address space itself: its state, its birth and its end.

use crate::account::{Resident, Rss, Sizes};
use crate::area::{Area, Backing, VmFlags};
use crate::cid::ConcurrencyIds;
use crate::file::VmFile;
use crate::layout::Layout;
use crate::{PAGE_SHIFT, graveyard, stats, table};
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use mem::UserTable;
use sync::SpinLock;
use sync::levels::{self, Leaf};
use task::RwSemaphore;
use vma::VmaSet;

/// What is mapped; guarded by the space's semaphore (Linux's mmap_lock).
pub(crate) struct Areas {
    pub set: VmaSet<Area>,
    pub sizes: Sizes,
    /// Flags that new areas get: mlockall(MCL_FUTURE).
    pub default_flags: VmFlags,
    /// Start and current end of the heap.
    pub heap_start: u64,
    pub heap_end: u64,
    pub layout: Layout,
}

/// Where exec put the program; for /proc/PID/{stat,cmdline,environ,auxv,exe} and the heap limit.
#[derive(Clone, Default)]
pub struct ProgramInfo {
    pub code: (u64, u64),
    pub data: (u64, u64),
    /// The stack pointer at the program's first instruction.
    pub stack_start: u64,
    pub args: (u64, u64),
    pub env: (u64, u64),
    /// The auxiliary vector as the program sees it, in bytes.
    pub auxv: Vec<u8>,
    /// The executable.
    pub exe: Option<Arc<dyn VmFile>>,
}

/// Sizes in pages, for `/proc/PID/{stat,statm,status}` and getrusage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub total: u64,
    pub peak_total: u64,
    pub data: u64,
    pub stack: u64,
    pub exec: u64,
    pub locked: u64,
    pub rss_anon: u64,
    pub rss_file: u64,
    pub rss_shmem: u64,
    /// Private pages in swap.
    pub swap: u64,
    pub peak_rss: u64,
    /// Bytes of page tables (VmPTE).
    pub table_bytes: u64,
    pub areas: usize,
}

impl Usage {
    /// All resident pages.
    pub fn rss(&self) -> u64 {
        self.rss_anon + self.rss_file + self.rss_shmem
    }
}

/// The memory of a process, shared by its threads (Linux's `mm_struct`).
///
/// Dropping the last reference unmaps everything: process context, no locks.
pub struct AddressSpace {
    pub(crate) areas: RwSemaphore<Areas, levels::AddressSpace>,
    pub(crate) table: Arc<UserTable>,
    pub(crate) rss: Rss,
    /// Where the search for pages to swap out goes on.
    pub(crate) swap_hand: AtomicU64,
    peak_total: AtomicU64,
    program: SpinLock<Arc<ProgramInfo>, Leaf>,
    /// Weak reference to itself, for the registrations of mapped files.
    pub(crate) this: Weak<AddressSpace>,
    /// PR_SET_DUMPABLE.
    dumpable: AtomicBool,
    /// `MEMBARRIER_CMD_REGISTER_*` that were asked for; fork passes them on.
    barriers: AtomicU32,
    /// Its private pages were taken: see [`AddressSpace::reap`].
    reaped: AtomicBool,
    pub(crate) cids: ConcurrencyIds,
}

/// Pages by what they are, see [`AddressSpace::footprint`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    pub anon: u64,
    pub file: u64,
    pub shmem: u64,
    pub swap: u64,
    pub tables: u64,
}

impl Footprint {
    pub fn pages(&self) -> u64 {
        self.anon + self.file + self.shmem + self.swap + self.tables
    }
}

impl AddressSpace {
    /// An empty space with the plain layout.
    pub fn new() -> Result<Arc<AddressSpace>> {
        AddressSpace::with_layout(Layout::plain(arch::mmu::user_top() as u64))
    }

    /// An empty space; exec chooses the layout.
    pub fn with_layout(layout: Layout) -> Result<Arc<AddressSpace>> {
        graveyard::bury();
        AddressSpace::with_program_of(layout, Arc::new(ProgramInfo::default()))
    }

    /// An empty space for a program that is known: fork.
    pub(crate) fn with_program_of(layout: Layout, program: Arc<ProgramInfo>) -> Result<Arc<AddressSpace>> {
        let table = UserTable::new()?;
        let cids = ConcurrencyIds::new()?;
        let areas = Areas {
            set: VmaSet::new(Layout::bounds(arch::mmu::user_top() as u64)),
            sizes: Sizes::default(),
            default_flags: VmFlags::empty(),
            heap_start: 0,
            heap_end: 0,
            layout,
        };
        Ok(Arc::new_cyclic(|this| AddressSpace {
            areas: RwSemaphore::new(areas),
            table,
            rss: Rss::default(),
            swap_hand: AtomicU64::new(0),
            peak_total: AtomicU64::new(0),
            program: SpinLock::new(program),
            this: this.clone(),
            dumpable: AtomicBool::new(true),
            barriers: AtomicU32::new(0),
            reaped: AtomicBool::new(false),
            cids,
        }))
    }

    /// The page table, for the task that is to run in this space.
    pub fn table(&self) -> &Arc<UserTable> {
        &self.table
    }

    pub fn layout(&self) -> Layout {
        self.areas.read().layout
    }

    /// Where the heap begins (brk(2)).
    pub fn heap_start(&self) -> u64 {
        self.areas.read().heap_start
    }

    /// Where exec put the program.
    pub fn program(&self) -> Arc<ProgramInfo> {
        self.program.lock().clone()
    }

    /// Looks at where exec put the program, under a spin lock.
    pub(crate) fn with_program<R>(&self, look: impl FnOnce(&ProgramInfo) -> R) -> R {
        look(&self.program.lock())
    }

    /// Called by exec, once, when the program is loaded.
    pub fn set_program(&self, program: ProgramInfo) {
        let program = Arc::new(program);
        let old = core::mem::replace(&mut *self.program.lock(), program);
        drop(old);
    }

    /// The executable, for /proc/PID/exe.
    pub fn executable(&self) -> Option<Arc<dyn VmFile>> {
        self.program.lock().exe.clone()
    }

    /// Whether others may look at it (prctl(PR_GET_DUMPABLE)).
    pub fn is_dumpable(&self) -> bool {
        self.dumpable.load(Relaxed)
    }

    pub fn set_dumpable(&self, dumpable: bool) {
        self.dumpable.store(dumpable, Relaxed);
    }

    /// Takes the private pages of a space whose users are all to end (Linux's oom reaper). Who touches one of them on the
    /// way gets SIGBUS, or EFAULT in a system call, and not a page of zeroes.
    pub fn reap(&self) {
        self.reaped.store(true, Relaxed);
        let areas = self.areas.read();
        for vma in areas.set.iter() {
            let private = !vma.data.is_shared() && !vma.data.flags.contains(VmFlags::LOCKED);
            if private && !matches!(vma.data.backing, Backing::Special(_)) {
                self.zap(&vma.data, vma.range());
            }
        }
    }

    /// Whether private pages were taken: [`AddressSpace::reap`].
    #[inline]
    pub(crate) fn is_reaped(&self) -> bool {
        self.reaped.load(Relaxed)
    }

    /// What membarrier(2) was asked to expect.
    pub fn barriers(&self) -> u32 {
        self.barriers.load(Relaxed)
    }

    /// Remembers a registration for membarrier(2).
    pub fn add_barriers(&self, commands: u32) {
        self.barriers.fetch_or(commands, Relaxed);
    }

    /// What a word in shared memory is called in every space: the object's identity and the byte in it, for
    /// futexes. `None` for private memory; EFAULT where nothing is mapped. May sleep.
    pub fn shared_identity(&self, addr: usize) -> Result<Option<(usize, u64)>> {
        let areas = self.areas.read();
        let vma = areas.set.find(addr as u64).ok_or(abi::Errno::EFAULT)?;
        if !vma.data.flags.contains(VmFlags::MAYSHARE) {
            return Ok(None);
        }
        let Some(file) = vma.data.file_backing() else { return Ok(None) };
        let offset = (vma.data.page_offset << PAGE_SHIFT).wrapping_add(addr as u64 - vma.start);
        Ok(Some((Arc::as_ptr(&file.mapping) as usize, offset)))
    }

    /// Sizes for reports. Takes the areas' lock for reading.
    pub fn usage(&self) -> Usage {
        let areas = self.areas.read();
        let sizes = areas.sizes;
        Usage {
            total: sizes.total,
            peak_total: self.peak_total.load(Relaxed).max(sizes.total),
            data: sizes.data,
            stack: sizes.stack,
            exec: sizes.exec,
            locked: sizes.locked,
            rss_anon: self.rss.anon(),
            rss_file: self.rss.file(),
            rss_shmem: self.rss.shmem(),
            swap: self.rss.swap(),
            peak_rss: self.rss.peak(),
            table_bytes: self.table.table_bytes() as u64,
            areas: areas.set.len(),
        }
    }

    /// Resident pages now and at most, without a lock: for getrusage.
    pub fn resident(&self) -> (u64, u64) {
        (self.rss.total(), self.rss.peak())
    }

    /// What would come free if the space went, without a lock: for the OOM killer.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            anon: self.rss.anon(),
            file: self.rss.file(),
            shmem: self.rss.shmem(),
            swap: self.rss.swap(),
            tables: self.table.table_bytes() as u64 / crate::PAGE,
        }
    }

    /// After an area came: the peak of the size (VmPeak).
    pub(crate) fn note_size(&self, areas: &Areas) {
        self.peak_total.fetch_max(areas.sizes.total, Relaxed);
    }

    /// How the pages of an area's file are counted.
    pub(crate) fn resident_kind(area: &Area) -> Resident {
        match &area.backing {
            Backing::File(file) if file.mapping.is_memory() => Resident::Shmem,
            Backing::File(_) => Resident::File,
            Backing::Anonymous | Backing::Special(_) => Resident::None,
        }
    }

    /// Removes the pages of one area's part from the page table and the counts.
    pub(crate) fn zap(&self, area: &Area, range: core::ops::Range<u64>) {
        self.rss.note_peak();
        let counts = table::remove(&self.table, range);
        self.rss.removed(AddressSpace::resident_kind(area), counts);
    }
}

impl Areas {
    /// Promises pages of this space; they are taken back when areas go, or with the space.
    pub(crate) fn commit(&mut self, pages: u64) -> Result<()> {
        stats::commit(pages)?;
        self.sizes.committed += pages;
        Ok(())
    }

    pub(crate) fn uncommit(&mut self, pages: u64) {
        let pages = pages.min(self.sizes.committed);
        self.sizes.committed -= pages;
        stats::uncommit(pages);
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let areas = self.areas.get_mut();
        // The table itself may live on as the borrowed table of an idle CPU: its pages must not. Area by
        // area, because the space between them is a million times larger than they are.
        for vma in areas.set.iter() {
            table::clear(&self.table, vma.range());
        }
        let committed = areas.sizes.committed;
        areas.uncommit(committed);
        areas.set.clear(drop);
    }
}
