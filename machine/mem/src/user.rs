//! Copies between kernel memory and the active user address space.
//!
//! A user address is a claim: every function takes any number and answers with [`Fault`] (EFAULT) when the
//! memory is not there or not allowed. The copy runs at full speed; a fault inside goes to the virtual
//! memory code when preemption is on (and may sleep for I/O), else it ends the copy.

use abi::Errno;
use alloc::vec::Vec;
use arch::{Fault, uaccess};
use core::mem::MaybeUninit;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A type whose values are exactly its bytes: no padding, every bit pattern valid. Derive zerocopy's
/// three traits for it.
pub trait Pod: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Pod for T {}

/// Copies to user memory; returns how many bytes arrived.
///
/// # Safety
/// 1. `from` is readable for `len` bytes.
#[inline]
pub(crate) unsafe fn raw_write(addr: usize, from: *const u8, len: usize) -> usize {
    // SAFETY: 1. the kernel side is the caller's promise; 2. the user side is checked by the architecture.
    len - unsafe { uaccess::copy_to_user(addr, from, len) }
}

/// Copies from user memory; returns how many bytes arrived.
///
/// # Safety
/// 1. `to` is writable for `len` bytes.
#[inline]
pub(crate) unsafe fn raw_read(addr: usize, to: *mut u8, len: usize) -> usize {
    // SAFETY: as for `raw_write`.
    len - unsafe { uaccess::copy_from_user(to, addr, len) }
}

/// Copies `to.len()` bytes from user memory; returns how many there were before the first that faults.
#[inline]
pub fn read_partial(addr: usize, to: &mut [u8]) -> usize {
    // SAFETY: 1. the slice is writable.
    unsafe { raw_read(addr, to.as_mut_ptr(), to.len()) }
}

/// Copies `from` to user memory; returns how many bytes arrived before one faulted.
#[inline]
pub fn write_partial(addr: usize, from: &[u8]) -> usize {
    // SAFETY: 1. the slice is readable.
    unsafe { raw_write(addr, from.as_ptr(), from.len()) }
}

/// Copies all of `to` from user memory. After a fault `to` holds a part.
#[inline]
pub fn read(addr: usize, to: &mut [u8]) -> Result<(), Fault> {
    if read_partial(addr, to) == to.len() { Ok(()) } else { Err(Fault) }
}

/// Copies all of `from` to user memory. After a fault a part has arrived.
#[inline]
pub fn write(addr: usize, from: &[u8]) -> Result<(), Fault> {
    if write_partial(addr, from) == from.len() { Ok(()) } else { Err(Fault) }
}

/// Reads a value, at any alignment.
#[inline]
pub fn read_val<T: Pod>(addr: usize) -> Result<T, Fault> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: 1. the value's own memory.
    let copied = unsafe { raw_read(addr, value.as_mut_ptr().cast(), size_of::<T>()) };
    if copied < size_of::<T>() {
        return Err(Fault);
    }
    // SAFETY: 1. all bytes were written, 2. and any bytes are a `T` (Pod).
    Ok(unsafe { value.assume_init() })
}

/// Writes a value, at any alignment.
#[inline]
pub fn write_val<T: Pod>(addr: usize, value: &T) -> Result<(), Fault> {
    write(addr, value.as_bytes())
}

/// Reads `count` values that lie one after the other. Fails with EFAULT or ENOMEM.
pub fn read_array<T: Pod>(addr: usize, count: usize) -> Result<Vec<T>, Errno> {
    let mut values = Vec::<T>::new();
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    let bytes = count * size_of::<T>(); // no overflow: the reservation succeeded
    // SAFETY: 1. room for `count` values was reserved.
    let copied = unsafe { raw_read(addr, values.as_mut_ptr().cast(), bytes) };
    if copied < bytes {
        return Err(Errno::EFAULT);
    }
    // SAFETY: 1. all bytes of the first `count` values were written, 2. and any bytes are a `T` (Pod).
    unsafe { values.set_len(count) };
    Ok(values)
}

/// Writes values one after the other.
pub fn write_array<T: Pod>(addr: usize, values: &[T]) -> Result<(), Fault>
where
    [T]: IntoBytes,
{
    write(addr, values.as_bytes())
}

/// Fills user memory with zeroes; returns how many bytes before one faulted.
pub fn clear_partial(addr: usize, len: usize) -> usize {
    len - uaccess::clear_user(addr, len)
}

/// Fills user memory with zeroes.
pub fn clear(addr: usize, len: usize) -> Result<(), Fault> {
    if clear_partial(addr, len) == len { Ok(()) } else { Err(Fault) }
}

/// Reads a string that ends with a NUL, which is not stored, of at most `max` bytes with it. `to` is
/// cleared first. Fails with EFAULT, ENAMETOOLONG (no NUL within `max` bytes) or ENOMEM.
pub fn read_cstr(addr: usize, max: usize, to: &mut Vec<u8>) -> Result<(), Errno> {
    const CHUNK: usize = 128;
    to.clear();
    let mut chunk = [0; CHUNK];
    while to.len() < max {
        let at = addr.checked_add(to.len()).ok_or(Errno::EFAULT)?;
        // Never across a page border more than needed: the string may end right before an unmapped page.
        let to_border = arch::PAGE_SIZE - at % arch::PAGE_SIZE;
        let len = CHUNK.min(max - to.len()).min(to_border);
        if read_partial(at, &mut chunk[..len]) < len {
            return Err(Errno::EFAULT);
        }
        let end = chunk[..len].iter().position(|&byte| byte == 0);
        to.try_reserve(len).map_err(|_| Errno::ENOMEM)?;
        to.extend_from_slice(&chunk[..end.unwrap_or(len)]);
        if end.is_some() {
            return Ok(());
        }
    }
    Err(Errno::ENAMETOOLONG)
}

/// Reads an aligned 32-bit word at once.
#[inline]
pub fn load_u32(addr: usize) -> Result<u32, Fault> {
    uaccess::load_u32(addr)
}

/// Writes an aligned 32-bit word at once.
#[inline]
pub fn store_u32(addr: usize, value: u32) -> Result<(), Fault> {
    uaccess::store_u32(addr, value)
}

/// Compares and exchanges an aligned 32-bit word; returns the previous value.
#[inline]
pub fn cmpxchg_u32(addr: usize, old: u32, new: u32) -> Result<u32, Fault> {
    uaccess::cmpxchg_u32(addr, old, new)
}
