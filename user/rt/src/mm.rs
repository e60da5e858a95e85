//! Memory: `mmap(2)` and relatives. Addresses are plain `usize`: tests want to name bad ones.

use crate::nr::*;
use crate::{Result, syscall};

/// The smallest page of both architectures, in bytes. Ask `env::auxval(AT_PAGESZ)` for the real one.
pub const PAGE: usize = 4096;

/// `mmap(2)`.
///
/// # Safety
/// 1. With `MAP_FIXED`, nothing that Rust relies on lies in the range.
pub unsafe fn map(addr: usize, len: usize, prot: u32, flags: u32, fd: i32, offset: usize) -> Result<usize> {
    // SAFETY: 1. passed on to the caller.
    unsafe { syscall!(__NR_mmap, addr, len, prot, flags, fd, offset) }
}

/// A new private zeroed mapping, readable and writable; answers its address.
pub fn map_anonymous(len: usize) -> Result<usize> {
    // SAFETY: 1. without MAP_FIXED the kernel chooses unused addresses.
    unsafe { map(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) }
}

/// `munmap(2)`.
///
/// # Safety
/// 1. Nothing uses the range any more.
pub unsafe fn unmap(addr: usize, len: usize) -> Result<()> {
    // SAFETY: 1. passed on to the caller.
    unsafe { syscall!(__NR_munmap, addr, len) }.map(drop)
}

/// `mprotect(2)`.
///
/// # Safety
/// 1. Nothing that Rust relies on loses an access it needs.
pub unsafe fn protect(addr: usize, len: usize, prot: u32) -> Result<()> {
    // SAFETY: 1. passed on to the caller.
    unsafe { syscall!(__NR_mprotect, addr, len, prot) }.map(drop)
}

/// `madvise(2)`.
///
/// # Safety
/// 1. Advice that drops contents (`MADV_DONTNEED` ...) hits no memory that Rust relies on.
pub unsafe fn advise(addr: usize, len: usize, advice: u32) -> Result<()> {
    // SAFETY: 1. passed on to the caller.
    unsafe { syscall!(__NR_madvise, addr, len, advice) }.map(drop)
}
