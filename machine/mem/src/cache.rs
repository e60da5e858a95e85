//! Slab caches: objects of one size, cut from blocks of frames (see the `slab` crate for the geometry).
//!
//! ```text
//!   alloc -> this CPU's free objects -> (half a list) -> partial slabs -> a new slab -> pages
//! ```
//!
//! A CPU's free objects are chained through their first word. In a slab, free slots are chained by index
//! through their link word; the state of the slab is in the frame metadata. Caches with a debug mode have
//! no per-CPU objects: every allocation and free goes through the checks.

use crate::frame::{Kind, Pfn, frame, head_of, link_tails, pfn_of, virt_of};
use crate::local::{CpuLocal, Init};
use crate::{AllocFlags, OutOfMemory, pages};
use arch::{PAGE_SIZE, VirtAddr};
use buddy::NONE;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use slab::debug::{Finding, Problem};
use slab::{DebugFlags, Layout, Links, SlabState};
use sync::{Once, SpinLock, levels};

/// Caches that can have per-CPU objects: as many lists as fit a page.
const MAX_CACHES: usize = PAGE_SIZE / size_of::<LocalList>();
/// The id of a cache without per-CPU objects.
const NO_ID: u32 = u32::MAX;
const NOT_READY: u32 = u32::MAX - 1;

/// All caches in the order of their first use, for `/proc/slabinfo`.
static CACHES: [AtomicPtr<Cache>; MAX_CACHES] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CACHES];
static CACHE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Debug modes for caches made from now on, as bits.
static DEBUG: AtomicU32 = AtomicU32::new(0);

/// Free objects of one cache on one CPU.
struct LocalList {
    head: *mut u8,
    count: u32,
}

/// The page of lists of one CPU, indexed by cache id; null before boot has made it.
struct LocalLists(*mut LocalList);

// SAFETY: 1. the page belongs to the CPU whose slot holds the pointer.
unsafe impl Send for LocalLists {}

impl Init for LocalLists {
    const INIT: LocalLists = LocalLists(core::ptr::null_mut());
}

static LOCAL: CpuLocal<LocalLists> = CpuLocal::new();

/// Turns on debug modes (`slab_debug=`) for caches that have not been used yet.
pub(crate) fn set_debug(flags: DebugFlags) {
    let bits = u32::from(flags.checks) | u32::from(flags.red_zone) << 1 | u32::from(flags.poison) << 2;
    DEBUG.store(bits, Ordering::Relaxed);
}

fn debug_flags() -> DebugFlags {
    let bits = DEBUG.load(Ordering::Relaxed);
    DebugFlags { checks: bits & 1 != 0, red_zone: bits & 2 != 0, poison: bits & 4 != 0 }
}

/// Gives this CPU its lists. Once per CPU; before, allocations go through the slabs' lock.
pub(crate) fn init_cpu() {
    if LOCAL.with(|lists| !lists.0.is_null()) == Some(true) {
        return;
    }
    let Ok(pfn) = pages::alloc(0, AllocFlags::KERNEL | AllocFlags::ZERO) else { return };
    frame(pfn).set_kind(Kind::Kernel, 0);
    // All zeroes is a page of empty lists.
    LOCAL.with(|lists| lists.0 = virt_of(pfn).cast());
}

/// The slabs of a cache that have both used and free slots, and counts of everything.
struct Slabs {
    partial: Pfn,
    /// Slabs on the partial list with no slot used.
    empty: u32,
    slabs: usize,
    objects_used: usize,
    colour: u16,
}

/// A cache. Lives in a static.
pub(crate) struct Cache {
    name: &'static str,
    size: usize,
    align: usize,
    /// How many free objects a CPU keeps: about 8 KiB worth.
    keep: u32,
    id: AtomicU32,
    layout: Once<Layout>,
    slabs: SpinLock<Slabs, levels::Slab>,
}

/// One line of `/proc/slabinfo`.
#[derive(Debug, Clone, Copy)]
pub struct SlabInfo {
    pub name: &'static str,
    /// Objects handed out; those in per-CPU lists count as handed out.
    pub active_objects: usize,
    pub total_objects: usize,
    /// Bytes from one object to the next.
    pub object_bytes: usize,
    pub objects_per_slab: usize,
    pub pages_per_slab: usize,
    pub slabs: usize,
}

impl Cache {
    pub(crate) const fn new(name: &'static str, size: usize, align: usize) -> Cache {
        let slabs = Slabs { partial: NONE, empty: 0, slabs: 0, objects_used: 0, colour: 0 };
        let id = AtomicU32::new(NOT_READY);
        let keep = match 8192 / size {
            0 | 1 => 2,
            many if many > 64 => 64,
            some => some as u32,
        };
        Cache { name, size, align, keep, id, layout: Once::new(), slabs: SpinLock::new(slabs) }
    }

    /// An object, uninitialised. Any context.
    #[inline]
    pub(crate) fn alloc(&'static self, flags: AllocFlags) -> Result<NonNull<u8>, OutOfMemory> {
        let id = self.id.load(Ordering::Relaxed) as usize;
        if id < MAX_CACHES
            && let Some(object) = LOCAL.with(|lists| lists.pop(id)).flatten()
        {
            return Ok(object);
        }
        self.alloc_slowly(flags)
    }

    /// Gives an object back. Any context.
    ///
    /// # Safety
    /// 1. `object` came from `alloc` of this cache and nobody uses it any more.
    #[inline]
    pub(crate) unsafe fn free(&'static self, object: NonNull<u8>) {
        let id = self.id.load(Ordering::Relaxed) as usize;
        if id < MAX_CACHES {
            // SAFETY: 1. the object is free and at least a word long, by the caller and the size classes.
            let kept = LOCAL.with(|lists| unsafe { lists.push(id, object) });
            match kept.flatten() {
                Some(count) if count > self.keep => return self.flush(count / 2),
                Some(_) => return,
                None => {}
            }
        }
        self.give(object);
    }

    #[cold]
    #[inline(never)]
    fn alloc_slowly(&'static self, flags: AllocFlags) -> Result<NonNull<u8>, OutOfMemory> {
        let layout = self.prepare();
        let id = self.id.load(Ordering::Relaxed) as usize;
        let first = self.take(layout, flags)?;
        if id >= MAX_CACHES {
            return Ok(first);
        }
        // A batch more, as long as it costs no new slab.
        for _ in 1..self.keep / 2 {
            let Some(object) = self.take_existing(layout, &mut self.slabs.lock()) else { break };
            // SAFETY: 1. the object was just taken, so it is free for the list.
            if LOCAL.with(|lists| unsafe { lists.push(id, object) }).flatten().is_none() {
                self.give(object);
                break;
            }
        }
        Ok(first)
    }

    /// The geometry; registers the cache on the first call.
    #[cold]
    fn prepare(&'static self) -> &'static Layout {
        if let Some(layout) = self.layout.get() {
            return layout;
        }
        let fallback = || Layout::new(self.size, self.align, DebugFlags::NONE);
        if let Ok(layout) = Layout::new(self.size, self.align, debug_flags()).or_else(|_| fallback())
            && self.layout.set(layout).is_ok()
        {
            self.register(layout);
        }
        while self.layout.get().is_none() {
            arch::cpu::relax(); // another CPU is between claiming and publishing: a few instructions
        }
        self.layout.get_expect()
    }

    fn register(&'static self, layout: Layout) {
        let id = CACHE_COUNT.fetch_add(1, Ordering::Relaxed);
        if id < MAX_CACHES {
            CACHES[id].store(core::ptr::from_ref(self).cast_mut(), Ordering::Release);
        }
        let cached = id < MAX_CACHES && !layout.debug.any() && self.size >= size_of::<usize>();
        self.id.store(if cached { id as u32 } else { NO_ID }, Ordering::Release);
    }

    /// A slot of a partial slab, or of a new one.
    fn take(&'static self, layout: &Layout, flags: AllocFlags) -> Result<NonNull<u8>, OutOfMemory> {
        loop {
            if let Some(object) = self.take_existing(layout, &mut self.slabs.lock()) {
                return Ok(object);
            }
            let pfn = pages::alloc(layout.order, flags)?;
            self.add_slab(layout, pfn);
        }
    }

    fn add_slab(&'static self, layout: &Layout, pfn: Pfn) {
        let record = frame(pfn);
        record.set_kind(Kind::Slab, layout.order);
        link_tails(pfn, layout.order);
        record.private.store(core::ptr::from_ref(self) as u64, Ordering::Relaxed);
        store_state(pfn, SlabState::new(layout.objects));
        let mut slabs = self.slabs.lock();
        let colour = slabs.colour % layout.colours;
        slabs.colour = colour + 1;
        record.aux.store(u32::from(colour), Ordering::Relaxed);
        if layout.debug.any() {
            for slot in 0..layout.objects {
                // SAFETY: 1. the slab is not on any list yet: nobody else has a slot of it.
                slab::debug::init_slot(layout, unsafe { slot_bytes(layout, pfn, slot) });
            }
        }
        slabs.slabs += 1;
        slabs.empty += 1;
        slabs.link(pfn);
    }

    fn take_existing(&self, layout: &Layout, slabs: &mut Slabs) -> Option<NonNull<u8>> {
        let pfn = slabs.partial;
        if pfn == NONE {
            return None;
        }
        let mut state = load_state(pfn);
        let was_empty = state.is_empty();
        let slot = state.take(&SlotLinks { pfn, layout })?;
        store_state(pfn, state);
        slabs.empty -= u32::from(was_empty);
        slabs.objects_used += 1;
        if state.is_full() {
            slabs.unlink(pfn);
        }
        if layout.debug.any() {
            // SAFETY: 1. the slot was just taken and is not handed out yet.
            let checked = slab::debug::on_alloc(layout, unsafe { slot_bytes(layout, pfn, slot) });
            self.report(checked, pfn, slot, layout);
        }
        let colour = frame(pfn).aux.load(Ordering::Relaxed) as u16;
        NonNull::new(virt_of(pfn).wrapping_add(layout.object_at(slot, colour)))
    }

    /// Puts an object back into its slab; frees the slab when it is one empty slab too many.
    #[cold]
    #[inline(never)]
    fn give(&'static self, object: NonNull<u8>) {
        let Some(layout) = self.layout.get() else { return };
        let pfn = slab_of(object);
        let record = frame(pfn);
        if record.private.load(Ordering::Relaxed) != core::ptr::from_ref(self) as u64 {
            return self.report_pointer(Problem::InvalidPointer, object);
        }
        let colour = record.aux.load(Ordering::Relaxed) as u16;
        let Some(slot) = layout.index_of(object.as_ptr() as usize - virt_of(pfn) as usize, colour) else {
            return self.report_pointer(Problem::InvalidPointer, object);
        };
        let mut slabs = self.slabs.lock();
        let mut state = load_state(pfn);
        let mut links = SlotLinks { pfn, layout };
        if layout.debug.any() {
            if state.is_free(&links, slot) {
                return self.report_pointer(Problem::AlreadyFree, object);
            }
            // SAFETY: 1. the slot is in use and its user has given it up.
            let checked = slab::debug::on_free(layout, unsafe { slot_bytes(layout, pfn, slot) });
            self.report(checked, pfn, slot, layout);
        }
        let was_full = state.is_full();
        state.give(&mut links, slot);
        store_state(pfn, state);
        slabs.objects_used -= 1;
        if was_full {
            slabs.link(pfn);
        }
        if !state.is_empty() {
            return;
        }
        if slabs.empty == 0 {
            slabs.empty = 1;
            return;
        }
        slabs.unlink(pfn);
        slabs.slabs -= 1;
        drop(slabs);
        pages::free(pfn, layout.order);
    }

    /// Puts `count` of this CPU's objects back into their slabs.
    #[cold]
    #[inline(never)]
    fn flush(&'static self, count: u32) {
        let id = self.id.load(Ordering::Relaxed) as usize;
        if id >= MAX_CACHES {
            return;
        }
        for _ in 0..count {
            let Some(object) = LOCAL.with(|lists| lists.pop(id)).flatten() else { return };
            self.give(object);
        }
    }

    fn report(&self, checked: Result<(), Finding>, pfn: Pfn, slot: u16, layout: &Layout) {
        if let Err(finding) = checked {
            let colour = frame(pfn).aux.load(Ordering::Relaxed) as u16;
            let at = virt_of(pfn) as usize + layout.slot_at(slot, colour);
            self.report_finding(&finding, at);
        }
    }

    /// Debug builds of the kernel end here: so soon after the wrong write the culprit can be found.
    fn report_finding(&self, finding: &Finding, at: usize) {
        let text = finding.report(self.name, at);
        assert!(!cfg!(all(debug_assertions, target_os = "none")), "{text}");
        crate::report(format_args!("{text}"));
    }

    fn report_pointer(&self, problem: Problem, object: NonNull<u8>) {
        let finding = Finding::of_pointer(problem);
        self.report_finding(&finding, object.as_ptr() as usize);
    }

    fn info(&self) -> Option<SlabInfo> {
        let layout = self.layout.get()?;
        let slabs = self.slabs.lock();
        Some(SlabInfo {
            name: self.name,
            active_objects: slabs.objects_used,
            total_objects: slabs.slabs * usize::from(layout.objects),
            object_bytes: layout.stride,
            objects_per_slab: layout.objects.into(),
            pages_per_slab: 1 << layout.order,
            slabs: slabs.slabs,
        })
    }
}

/// Calls `each` for every cache in use.
pub fn slabs(mut each: impl FnMut(&SlabInfo)) {
    for cache in &CACHES {
        // SAFETY: 1. `register` stores only `&'static Cache`s; 2. null becomes None.
        if let Some(info) = unsafe { cache.load(Ordering::Acquire).as_ref() }.and_then(Cache::info) {
            each(&info);
        }
    }
}

/// Gives this CPU's free objects back to their slabs, and empty slabs to the page allocator.
pub(crate) fn flush_local() {
    for cache in &CACHES {
        // SAFETY: 1. `register` stores only `&'static Cache`s; 2. null becomes None.
        if let Some(cache) = unsafe { cache.load(Ordering::Acquire).as_ref() } {
            cache.flush(u32::MAX);
        }
    }
}

/// The slab's first frame for an object in it.
fn slab_of(object: NonNull<u8>) -> Pfn {
    head_of(pfn_of(VirtAddr(object.as_ptr() as usize).to_phys()))
}

/// The cache that an object belongs to.
///
/// # Safety
/// 1. `object` came from `Cache::alloc` of some cache.
pub(crate) unsafe fn cache_of(object: NonNull<u8>) -> &'static Cache {
    let record = frame(slab_of(object));
    debug_assert!(record.kind() == Kind::Slab);
    // SAFETY: 1. the frame is a slab's, by the caller, 2. and `add_slab` stored a `&'static Cache` in it.
    unsafe { &*(record.private.load(Ordering::Relaxed) as *const Cache) }
}

fn load_state(pfn: Pfn) -> SlabState {
    let record = frame(pfn);
    let (low, high) = (record.refs.load(Ordering::Relaxed), record.maps.load(Ordering::Relaxed));
    SlabState::from_bits(u64::from(low) | u64::from(high) << 32)
}

fn store_state(pfn: Pfn, state: SlabState) {
    let bits = state.to_bits();
    frame(pfn).refs.store(bits as u32, Ordering::Relaxed);
    frame(pfn).maps.store((bits >> 32) as u32, Ordering::Relaxed);
}

/// The bytes of a slot.
///
/// # Safety
/// 1. Nobody else uses the slot.
unsafe fn slot_bytes(layout: &Layout, pfn: Pfn, slot: u16) -> &'static mut [u8] {
    let colour = frame(pfn).aux.load(Ordering::Relaxed) as u16;
    let start = virt_of(pfn).wrapping_add(layout.slot_at(slot, colour));
    // SAFETY: 1. the slot lies inside the slab; 2. the caller has it alone.
    unsafe { core::slice::from_raw_parts_mut(start, layout.stride) }
}

/// The link words of one slab's free slots; used under the cache's lock.
struct SlotLinks<'a> {
    pfn: Pfn,
    layout: &'a Layout,
}

impl SlotLinks<'_> {
    fn word(&self, slot: u16) -> *mut u16 {
        let colour = frame(self.pfn).aux.load(Ordering::Relaxed) as u16;
        virt_of(self.pfn).wrapping_add(self.layout.slot_at(slot, colour) + self.layout.link_offset).cast()
    }
}

impl Links for SlotLinks<'_> {
    fn get(&self, slot: u16) -> u16 {
        // SAFETY: 1. the word lies inside a slot of this slab (slots are below `objects`), 2. which is free,
        // so only the holder of the cache's lock touches it.
        let next = unsafe { self.word(slot).read() };
        // A use after free may have overwritten the link: rather lose the rest of the list.
        if next == slab::NO_SLOT || next < self.layout.objects { next } else { slab::NO_SLOT }
    }
    fn set(&mut self, slot: u16, next: u16) {
        // SAFETY: as for `get`.
        unsafe { self.word(slot).write(next) };
    }
}

impl Slabs {
    fn link(&mut self, pfn: Pfn) {
        let record = frame(pfn);
        record.prev.store(NONE, Ordering::Relaxed);
        record.next.store(self.partial, Ordering::Relaxed);
        if self.partial != NONE {
            frame(self.partial).prev.store(pfn, Ordering::Relaxed);
        }
        self.partial = pfn;
    }

    fn unlink(&mut self, pfn: Pfn) {
        let record = frame(pfn);
        let (prev, next) = (record.prev.load(Ordering::Relaxed), record.next.load(Ordering::Relaxed));
        match prev {
            NONE => self.partial = next,
            _ => frame(prev).next.store(next, Ordering::Relaxed),
        }
        if next != NONE {
            frame(next).prev.store(prev, Ordering::Relaxed);
        }
    }
}

impl LocalLists {
    #[inline]
    fn pop(&mut self, id: usize) -> Option<NonNull<u8>> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: 1. `id` is below MAX_CACHES (checked by the callers), the length of the page of lists;
        // 2. objects on a list are free, and their first word is the link that `push` wrote.
        unsafe {
            let list = &mut *self.0.add(id);
            let object = NonNull::new(list.head)?;
            list.head = object.cast::<*mut u8>().read();
            list.count -= 1;
            Some(object)
        }
    }

    /// Returns how many objects the list has now; `None` if this CPU has no lists yet.
    ///
    /// # Safety
    /// 1. The object is free and at least a word long and aligned.
    #[inline]
    unsafe fn push(&mut self, id: usize, object: NonNull<u8>) -> Option<u32> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: 1. as in `pop`; 2. the object is the caller's to overwrite.
        unsafe {
            let list = &mut *self.0.add(id);
            object.cast::<*mut u8>().write(list.head);
            list.head = object.as_ptr();
            list.count += 1;
            Some(list.count)
        }
    }
}
