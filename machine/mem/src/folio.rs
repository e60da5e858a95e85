//! Folios: owned, counted runs of pages, for user memory and the page cache.
//!
//! A folio is 2^order frames, naturally aligned, with one reference count, one count of page-table
//! entries that map any of its pages, and one set of flags. The handle is a frame number, four bytes
//! and never zero, so that a page cache's tree stores it twice as densely as a pointer.

use crate::frame::{Kind, Pfn, flag, frame, head_of, link_tails, phys_of, virt_of};
use crate::pages::Chain;
use crate::user::Pod;
use crate::{AllocFlags, OutOfMemory, bytes, pages, user};
use arch::{Fault, PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use core::fmt;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::Once;

/// An owned reference to a folio.
///
/// Several owners may read and write its bytes at once, and so may user programs that have it mapped:
/// byte copies give whatever mixture is there, never undefined values.
#[repr(transparent)]
pub struct Folio(NonZeroU32);

static ZERO: Once<Folio> = Once::new();
/// The frame of `ZERO`, for comparing.
static ZERO_PFN: AtomicU32 = AtomicU32::new(0);

impl Folio {
    /// Takes 2^`order` pages. May sleep to reclaim, as the flags and the context allow.
    #[inline]
    pub fn alloc(order: u8, flags: AllocFlags) -> Result<Folio, OutOfMemory> {
        let pfn = pages::alloc(order, flags)?;
        let record = frame(pfn);
        record.set_kind(Kind::Folio, order);
        record.refs.store(1, Ordering::Relaxed);
        record.maps.store(0, Ordering::Relaxed);
        record.private.store(0, Ordering::Relaxed);
        record.aux.store(0, Ordering::Relaxed);
        if order > 0 {
            link_tails(pfn, order);
        }
        // Frame 0 is never handed out.
        NonZeroU32::new(pfn).map(Folio).ok_or(OutOfMemory)
    }

    /// A reference of the folio that a page-table entry points into.
    ///
    /// The caller knows that a reference exists (an entry that is there under the table's lock).
    pub(crate) fn reference_at(pfn: Pfn) -> Option<Folio> {
        let head = head_of(pfn);
        frame(head).refs.fetch_add(1, Ordering::Relaxed);
        NonZeroU32::new(head).map(Folio)
    }

    /// Takes the reference and the map count of one more page-table entry for the page.
    #[inline]
    pub(crate) fn add_entry(pfn: Pfn) {
        let record = frame(head_of(pfn));
        record.refs.fetch_add(1, Ordering::Relaxed);
        record.maps.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops the reference and the map count of a page-table entry that is gone. When they were the last ones
    /// of a single page, its frame goes to `freed`; a larger folio is freed here.
    #[inline]
    pub(crate) fn end_entry(pfn: Pfn, freed: &mut Chain) {
        let head = head_of(pfn);
        let record = frame(head);
        record.maps.fetch_sub(1, Ordering::Release);
        if record.refs.fetch_sub(1, Ordering::Release) == 1 {
            core::sync::atomic::fence(Ordering::Acquire);
            match record.order() {
                0 => freed.push(head),
                order => pages::free(head, order),
            }
        }
    }

    /// Hands the reference over to a page-table entry.
    pub(crate) fn into_entry(self, page: usize) -> Pfn {
        let pfn = self.pfn() + page as Pfn;
        core::mem::forget(self);
        pfn
    }

    #[inline]
    fn pfn(&self) -> Pfn {
        self.0.get()
    }

    /// The frame of the folio's first page.
    #[inline]
    pub(crate) fn head(&self) -> Pfn {
        self.pfn()
    }

    #[inline]
    fn record(&self) -> &'static crate::frame::Frame {
        frame(self.pfn())
    }

    /// log2 of the number of pages.
    pub fn order(&self) -> u8 {
        self.record().order()
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        1 << self.order()
    }

    /// Number of bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        PAGE_SIZE << self.order()
    }

    /// Physical address of the first byte.
    pub fn phys(&self) -> PhysAddr {
        phys_of(self.pfn())
    }

    /// Current number of references, those of page-table entries included.
    pub fn refs(&self) -> u32 {
        self.record().refs.load(Ordering::Acquire)
    }

    /// Current number of page-table entries that map a page of it.
    pub fn map_count(&self) -> u32 {
        self.record().maps.load(Ordering::Acquire)
    }

    pub(crate) fn add_map(&self) {
        self.record().maps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether both are references of one folio.
    pub fn ptr_eq(&self, other: &Folio) -> bool {
        self.0 == other.0
    }

    /// Fills it with zeroes.
    pub fn zero(&self) {
        // SAFETY: 1. the folio's pages are mapped in the direct map while this reference lives; 2. others may
        // write them at the same time, which volatile word stores cope with.
        unsafe { bytes::zero_pages(virt_of(self.pfn()), self.pages()) };
    }

    /// Copies all bytes of `from`, which has the same order (else the smaller number of pages).
    pub fn copy_from(&self, from: &Folio) {
        self.copy_pages_from(0, from, 0, self.pages().min(from.pages()));
    }

    /// Copies `count` pages of `from`, beginning with its page `from_page`, to page `page` and after.
    /// Panics when either folio is shorter.
    pub fn copy_pages_from(&self, page: usize, from: &Folio, from_page: usize, count: usize) {
        assert!(page + count <= self.pages() && from_page + count <= from.pages());
        if self.ptr_eq(from) {
            return;
        }
        let at = |folio: &Folio, page: usize| virt_of(folio.pfn() + page as Pfn);
        // SAFETY: 1. both ranges lie in folios that these references keep; 2. the folios differ, so the
        // ranges do not overlap.
        unsafe { arch::memory::copy_pages(at(from, from_page), at(self, page), count) };
    }

    /// The address of `len` bytes at `offset`. Panics when they are not inside: a bug of the kernel.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len() && len <= self.len() - offset, "outside of the folio");
        virt_of(self.pfn()).wrapping_add(offset)
    }

    /// Copies bytes out. Panics beyond the end.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: 1. `at` checked the range, and the reference keeps it; 2. `to` is kernel memory of its own.
        unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// Copies bytes in. Panics beyond the end.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: 1. as for `read`.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// Fills bytes. Panics beyond the end.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        let to = self.at(offset, len);
        // SAFETY: 1. as for `read`.
        unsafe { to.write_bytes(byte, len) };
    }

    /// Reads a value. Panics beyond the end.
    pub fn read_val<T: Pod>(&self, offset: usize) -> T {
        let from = self.at(offset, size_of::<T>());
        // SAFETY: 1. `at` checked the range; 2. any bytes are a `T` (Pod).
        unsafe { from.cast::<T>().read_unaligned() }
    }

    /// Writes a value. Panics beyond the end.
    pub fn write_val<T: Pod>(&self, offset: usize, value: &T) {
        self.write(offset, value.as_bytes());
    }

    /// Copies bytes to the active user table's memory; may sleep. Panics beyond the end of the folio.
    pub fn copy_to_user(&self, offset: usize, user_addr: usize, len: usize) -> Result<(), Fault> {
        if self.copy_to_user_partial(offset, user_addr, len) == len { Ok(()) } else { Err(Fault) }
    }

    /// As [`Folio::copy_to_user`]; returns how many bytes were copied.
    pub fn copy_to_user_partial(&self, offset: usize, user_addr: usize, len: usize) -> usize {
        let from = self.at(offset, len);
        // SAFETY: 1. `at` checked the kernel side.
        unsafe { user::raw_write(user_addr, from, len) }
    }

    /// Copies bytes from the active user table's memory; may sleep. Panics beyond the end of the folio.
    pub fn copy_from_user(&self, offset: usize, user_addr: usize, len: usize) -> Result<(), Fault> {
        if self.copy_from_user_partial(offset, user_addr, len) == len { Ok(()) } else { Err(Fault) }
    }

    /// As [`Folio::copy_from_user`]; returns how many bytes were copied.
    pub fn copy_from_user_partial(&self, offset: usize, user_addr: usize, len: usize) -> usize {
        let to = self.at(offset, len);
        // SAFETY: 1. `at` checked the kernel side.
        unsafe { user::raw_read(user_addr, to, len) }
    }

    /// An atomic 32-bit word at an offset that is a multiple of four (a futex in shared memory).
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4));
        let at = self.at(offset, 4);
        // SAFETY: 1. in range, aligned and kept by `self`; 2. every access to shared user memory is atomic or
        // copes with tearing.
        unsafe { &*at.cast::<AtomicU32>() }
    }

    /// Whether it differs from what it was read from.
    pub fn dirty(&self) -> bool {
        self.record().has_flag(flag::DIRTY)
    }

    /// Marks it dirty; says whether it was.
    pub fn set_dirty(&self) -> bool {
        self.record().set_flag(flag::DIRTY, true)
    }

    /// Marks it clean; says whether it was dirty.
    pub fn clear_dirty(&self) -> bool {
        self.record().set_flag(flag::DIRTY, false)
    }

    /// Whether its contents are valid.
    pub fn uptodate(&self) -> bool {
        self.record().has_flag(flag::UPTODATE)
    }

    /// Says that its contents are valid; whoever sees `uptodate` sees them.
    pub fn set_uptodate(&self) {
        self.record().set_flag(flag::UPTODATE, true);
    }

    /// Whether it was used since the flag was cleared.
    pub fn referenced(&self) -> bool {
        self.record().has_flag(flag::REFERENCED)
    }

    /// Notes a use; says whether one was noted.
    pub fn set_referenced(&self) -> bool {
        self.record().set_flag(flag::REFERENCED, true)
    }

    /// Forgets uses; says whether one was noted.
    pub fn clear_referenced(&self) -> bool {
        self.record().set_flag(flag::REFERENCED, false)
    }

    /// Whether somebody is filling it from the backing store.
    pub fn locked(&self) -> bool {
        self.record().has_flag(flag::LOCKED)
    }

    /// Becomes the one who fills it; false if somebody is already.
    pub fn try_lock(&self) -> bool {
        !self.record().set_flag(flag::LOCKED, true)
    }

    /// Ends filling; says whether somebody waits and is to be woken. Any context.
    #[must_use]
    pub fn unlock(&self) -> bool {
        self.record().clear_flags(flag::LOCKED | flag::WAITERS) & flag::WAITERS != 0
    }

    /// Whether its bytes are on their way to the backing store.
    pub fn writeback(&self) -> bool {
        self.record().has_flag(flag::WRITEBACK)
    }

    /// Says that its bytes are on their way; whether they were already.
    pub fn begin_writeback(&self) -> bool {
        self.record().set_flag(flag::WRITEBACK, true)
    }

    /// Says that they have arrived, or not; whether somebody waits and is to be woken. Any context.
    #[must_use]
    pub fn end_writeback(&self) -> bool {
        self.record().clear_flags(flag::WRITEBACK | flag::WAITERS) & flag::WAITERS != 0
    }

    /// Announces a waiter, who looks at the state after this and before it sleeps.
    pub fn announce_waiter(&self) {
        self.record().set_flag(flag::WAITERS, true);
    }

    /// A number that waiters and wakers of this folio have in common.
    pub fn wait_key(&self) -> usize {
        self.pfn() as usize
    }

    /// Marks it as the page whose use starts the next read-ahead.
    pub fn set_readahead(&self) {
        self.record().set_flag(flag::READAHEAD, true);
    }

    /// Whether it is such a page.
    #[inline]
    pub fn readahead(&self) -> bool {
        self.record().has_flag(flag::READAHEAD)
    }

    /// Whether it was such a page; it is no longer.
    #[inline]
    pub fn take_readahead(&self) -> bool {
        self.record().has_flag(flag::READAHEAD) && self.record().set_flag(flag::READAHEAD, false)
    }

    /// Its place in the replacement policy, 0 at first.
    #[inline]
    pub fn place(&self) -> u32 {
        self.record().aux.load(Ordering::Acquire)
    }

    /// Sets its place in the replacement policy.
    pub fn set_place(&self, place: u32) {
        self.record().aux.store(place, Ordering::Release);
    }

    /// The owner's word, 0 at first.
    pub fn private(&self) -> u64 {
        self.record().private.load(Ordering::Acquire)
    }

    /// Sets the owner's word.
    pub fn set_private(&self, word: u64) {
        self.record().private.store(word, Ordering::Release);
    }
}

impl Clone for Folio {
    #[inline]
    fn clone(&self) -> Folio {
        self.record().refs.fetch_add(1, Ordering::Relaxed);
        Folio(self.0)
    }
}

impl Drop for Folio {
    #[inline]
    fn drop(&mut self) {
        let record = self.record();
        if record.refs.fetch_sub(1, Ordering::Release) == 1 {
            core::sync::atomic::fence(Ordering::Acquire);
            pages::free(self.pfn(), record.order());
        }
    }
}

impl fmt::Debug for Folio {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Folio({:?}, order {}, refs {})", self.phys(), self.order(), self.refs())
    }
}

/// Makes the shared zero page. Once, at boot.
pub(crate) fn init_zero_page() -> Result<(), OutOfMemory> {
    let folio = Folio::alloc(0, AllocFlags::KERNEL | AllocFlags::ZERO)?;
    ZERO_PFN.store(folio.pfn(), Ordering::Relaxed);
    let _ = ZERO.set(folio);
    Ok(())
}

/// The physical address of the shared zero page.
pub fn zero_page() -> PhysAddr {
    PhysAddr(u64::from(ZERO_PFN.load(Ordering::Relaxed)) << PAGE_SHIFT)
}

/// The shared page of zeroes, which nobody may write.
pub fn zero_folio() -> &'static Folio {
    ZERO.get_expect()
}

#[inline]
pub(crate) fn is_zero_pfn(pfn: Pfn) -> bool {
    pfn == ZERO_PFN.load(Ordering::Relaxed)
}
