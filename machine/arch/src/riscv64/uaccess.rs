//! Reading and writing user memory at full speed (uaccess.S), faults fixed up by the exception table.
//!
//! **Idea.** A range lies in user space when neither its start nor its end has the top bit set: kernel
//! addresses have it, and the hole between is not mapped. So the check needs no constant.
//!
//! `sstatus.SUM`, which lets the kernel touch user pages, stays set in release builds: toggling it is two
//! CSR accesses a copy (and a flush of the whole TLB in QEMU before 8.1), to catch a wild pointer that
//! safe Rust does not make. Debug builds toggle it, so that the tests still find one.

use super::{csr, irq};
use crate::Fault;

#[cfg(debug_assertions)]
mod sum {
    use super::csr;
    pub const ALWAYS: usize = 0;
    pub const TOGGLED: usize = csr::SSTATUS_SUM;
}
#[cfg(not(debug_assertions))]
mod sum {
    use super::csr;
    pub const ALWAYS: usize = csr::SSTATUS_SUM;
    pub const TOGGLED: usize = 0;
}

/// What of SUM is set at boot, and what around each access.
pub(super) const SUM_ALWAYS: usize = sum::ALWAYS;
pub(super) const SUM_TOGGLED: usize = sum::TOGGLED;

core::arch::global_asm!(include_str!("uaccess.S"));

#[repr(C)]
struct Loaded {
    value: usize,
    failed: usize,
}

unsafe extern "C" {
    fn copy_user(to: usize, from: usize, len: usize) -> usize;
    fn zero_user(to: usize, len: usize) -> usize;
    fn load_user_u8(addr: usize) -> Loaded;
    fn load_user_u32(addr: usize) -> Loaded;
    fn load_user_u64(addr: usize) -> Loaded;
    fn probe_kernel(addr: usize) -> Loaded;
    fn store_user_u32(addr: usize, value: u32) -> Loaded;
    fn store_user_u64(addr: usize, value: u64) -> Loaded;
    fn cmpxchg_user_u32(addr: usize, old: u32, new: u32) -> Loaded;

    static __ex_table_start: [Entry; 0];
    static __ex_table_end: [Entry; 0];
}

/// Instructions from `first` up to `end` that fault go on at `target`.
#[repr(C)]
struct Entry {
    first: usize,
    end: usize,
    target: usize,
    flags: usize,
}

/// Where to go on after a fault.
#[derive(Clone, Copy)]
pub(super) struct Fixup {
    pub target: usize,
    /// The access was a probe: any address may fault.
    pub any_address: bool,
}

/// The fix-up for an instruction, if it may fault. The table has a dozen ranges: searched in order.
pub(super) fn fixup(pc: usize) -> Option<Fixup> {
    // SAFETY: 1. the linker script puts the entries between the two symbols, nothing else.
    let table = unsafe {
        let start = &raw const __ex_table_start as *const Entry;
        let end = &raw const __ex_table_end as *const Entry;
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    };
    let entry = table.iter().find(|entry| (entry.first..entry.end).contains(&pc))?;
    Some(Fixup { target: entry.target, any_address: entry.flags & 1 != 0 })
}

/// Whether the range cannot reach into the kernel's half.
#[inline]
fn in_user_half(addr: usize, len: usize) -> bool {
    ((addr | len | addr.wrapping_add(len)) as isize) >= 0
}

/// User pages are accessible while one lives.
struct Access;

impl Access {
    #[inline]
    fn open() -> Access {
        if SUM_TOGGLED != 0 {
            // SAFETY: 1. only allows what the functions of this module do until the drop.
            unsafe { csr::set!("sstatus", SUM_TOGGLED) };
        }
        Access
    }
}

impl Drop for Access {
    #[inline]
    fn drop(&mut self) {
        if SUM_TOGGLED != 0 {
            // SAFETY: 1. forbids again.
            unsafe { csr::clear!("sstatus", SUM_TOGGLED) };
        }
    }
}

/// Longer copies first let in the interrupts that a system call's entry has left off.
const CATCH_UP_BYTES: usize = 1024;

/// Copies from user memory; returns the bytes not copied (then the first ones were).
///
/// # Safety
/// 1. `dst` is valid for writes of `len` bytes.
#[inline]
pub unsafe fn copy_from_user(dst: *mut u8, src: usize, len: usize) -> usize {
    if !in_user_half(src, len) {
        return len;
    }
    if len >= CATCH_UP_BYTES {
        irq::catch_up();
    }
    let _access = Access::open();
    // SAFETY: 1. the caller's obligation for `dst`; 2. `src` is no kernel address: it reads user memory
    // or faults, which the exception table covers.
    unsafe { copy_user(dst as usize, src, len) }
}

/// Copies to user memory; returns the bytes not copied (then the first ones were).
///
/// # Safety
/// 1. `src` is valid for reads of `len` bytes.
#[inline]
pub unsafe fn copy_to_user(dst: usize, src: *const u8, len: usize) -> usize {
    if !in_user_half(dst, len) {
        return len;
    }
    if len >= CATCH_UP_BYTES {
        irq::catch_up();
    }
    let _access = Access::open();
    // SAFETY: 1. the caller's obligation for `src`; 2. `dst` is no kernel address: it writes user memory,
    // which Rust code has no references to, or faults, which the exception table covers.
    unsafe { copy_user(dst, src as usize, len) }
}

/// Zeroes user memory; returns the bytes not cleared.
pub fn clear_user(dst: usize, len: usize) -> usize {
    if !in_user_half(dst, len) {
        return len;
    }
    if len >= CATCH_UP_BYTES {
        irq::catch_up();
    }
    let _access = Access::open();
    // SAFETY: 1. `dst` is no kernel address; faults are covered.
    unsafe { zero_user(dst, len) }
}

macro_rules! single {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $result:ty, $function:ident, $width:literal) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(addr: usize $(, $arg: $type)*) -> Result<$result, Fault> {
            if !in_user_half(addr, $width) {
                return Err(Fault);
            }
            let _access = Access::open();
            // SAFETY: 1. `addr` is no kernel address; a fault is covered by the exception table.
            let done = unsafe { $function(addr $(, $arg)*) };
            if done.failed == 0 { Ok(done.value as $result) } else { Err(Fault) }
        }
    };
}

single! {
    /// One byte.
    load_u8() -> u8, load_user_u8, 1
}
single! {
    /// An aligned word: read at once.
    load_u32() -> u32, load_user_u32, 4
}
single! {
    /// An aligned word: read at once.
    load_u64() -> u64, load_user_u64, 8
}
single! {
    /// Compares and exchanges an aligned word; returns what was there. Orders everything.
    cmpxchg_u32(old: u32, new: u32) -> u32, cmpxchg_user_u32, 4
}

/// Writes an aligned word at once.
#[inline]
pub fn store_u32(addr: usize, value: u32) -> Result<(), Fault> {
    store(addr, 4, |addr| {
        // SAFETY: 1. `store` has checked that `addr` is no kernel address; a fault is covered.
        unsafe { store_user_u32(addr, value) }
    })
}

/// Writes an aligned word at once.
#[inline]
pub fn store_u64(addr: usize, value: u64) -> Result<(), Fault> {
    store(addr, 8, |addr| {
        // SAFETY: 1. `store` has checked that `addr` is no kernel address; a fault is covered.
        unsafe { store_user_u64(addr, value) }
    })
}

#[inline]
fn store(addr: usize, width: usize, write: impl FnOnce(usize) -> Loaded) -> Result<(), Fault> {
    if !in_user_half(addr, width) {
        return Err(Fault);
    }
    let _access = Access::open();
    if write(addr).failed == 0 { Ok(()) } else { Err(Fault) }
}

/// A word of kernel memory, if the address can be read: for backtraces.
pub(super) fn probe(addr: usize) -> Option<usize> {
    if addr & 7 != 0 || addr < crate::layout::DIRECT_MAP_BASE {
        return None;
    }
    // SAFETY: 1. only reads; RAM has no side effects, and the caller asks for stack addresses only.
    let done = unsafe { probe_kernel(addr) };
    (done.failed == 0).then_some(done.value)
}
