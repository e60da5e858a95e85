//! Copies to and from user memory.
//!
//! **Idea.** All instructions that may touch a user address lie in one section, `.text.uaccess`, each with
//! an entry in a table of (instruction, where to go when it faults for good). A fault there first makes
//! the page present (`hooks().uaccess_fault`) and runs the instruction again.
//!
//! The copies move 64 bytes a round in 8-byte registers. `rep movsb`, which real processors run fastest,
//! is a loop over single bytes in an emulator; a kernel that is measured there has to do without. (`movsq` without
//! `rep` takes half the instructions of loads and stores, but a tenth more of an emulator's time.)
//! A fault inside a round goes on byte by byte, so that the count of bytes not copied is exact.

use super::entry::{clac, stac};
use super::{irq, mmu};
use crate::Fault;
use core::arch::global_asm;

/// An entry of the exception table for the label before it.
macro_rules! fixup {
    ($at:literal, $to:literal) => {
        concat!(".pushsection .ex_table, \"a\"\n.quad ", $at, ", ", $to, "\n.popsection")
    };
}

global_asm!(
    ".pushsection .text.uaccess, \"ax\"",
    // usize x86_copy(rdi dst, rsi src, rdx len): bytes not copied.
    ".balign 64",
    ".global x86_copy",
    "x86_copy:",
    stac!(),
    "mov rcx, rdx",
    "shr rcx, 6",
    "jz 20f",
    "10: mov rax, [rsi]",
    "11: mov r8, [rsi + 8]",
    "12: mov r9, [rsi + 16]",
    "13: mov r10, [rsi + 24]",
    "14: mov [rdi], rax",
    "15: mov [rdi + 8], r8",
    "16: mov [rdi + 16], r9",
    "17: mov [rdi + 24], r10",
    "50: mov rax, [rsi + 32]",
    "51: mov r8, [rsi + 40]",
    "52: mov r9, [rsi + 48]",
    "53: mov r10, [rsi + 56]",
    "54: mov [rdi + 32], rax",
    "55: mov [rdi + 40], r8",
    "56: mov [rdi + 48], r9",
    "57: mov [rdi + 56], r10",
    "add rsi, 64",
    "add rdi, 64",
    "dec rcx",
    "jnz 10b",
    "and edx, 63",
    "jz 29f",
    // Fewer than 64 left: rdx.
    "20: mov ecx, edx",
    "shr ecx, 3",
    "jz 25f",
    "21: mov rax, [rsi]",
    "22: mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "dec ecx",
    "jnz 21b",
    "and edx, 7",
    "jz 29f",
    // Fewer than 8 left.
    "25: test edx, edx",
    "jz 29f",
    "26: mov al, [rsi]",
    "27: mov [rdi], al",
    "inc rsi",
    "inc rdi",
    "dec rdx",
    "jnz 26b",
    "29: xor eax, eax",
    clac!(),
    "ret",
    // A fault in a round of 64, of 8, of 1.
    "30: shl rcx, 6",
    "and edx, 63",
    "add rdx, rcx",
    "jmp 26b",
    "31: shl ecx, 3",
    "and edx, 7",
    "add edx, ecx",
    "jmp 26b",
    "32: mov rax, rdx",
    clac!(),
    "ret",
    fixup!("10b", "30b"),
    fixup!("11b", "30b"),
    fixup!("12b", "30b"),
    fixup!("13b", "30b"),
    fixup!("14b", "30b"),
    fixup!("15b", "30b"),
    fixup!("16b", "30b"),
    fixup!("17b", "30b"),
    fixup!("50b", "30b"),
    fixup!("51b", "30b"),
    fixup!("52b", "30b"),
    fixup!("53b", "30b"),
    fixup!("54b", "30b"),
    fixup!("55b", "30b"),
    fixup!("56b", "30b"),
    fixup!("57b", "30b"),
    fixup!("21b", "31b"),
    fixup!("22b", "31b"),
    fixup!("26b", "32b"),
    fixup!("27b", "32b"),
    // usize x86_clear(rdi dst, rsi len): bytes not cleared.
    ".balign 64",
    ".global x86_clear",
    "x86_clear:",
    stac!(),
    "xor eax, eax",
    "mov rcx, rsi",
    "shr rcx, 6",
    "jz 20f",
    "10: mov [rdi], rax",
    "11: mov [rdi + 8], rax",
    "12: mov [rdi + 16], rax",
    "13: mov [rdi + 24], rax",
    "14: mov [rdi + 32], rax",
    "15: mov [rdi + 40], rax",
    "16: mov [rdi + 48], rax",
    "17: mov [rdi + 56], rax",
    "add rdi, 64",
    "dec rcx",
    "jnz 10b",
    "20: and esi, 63",
    "jz 29f",
    "21: mov [rdi], al",
    "inc rdi",
    "dec rsi",
    "jnz 21b",
    "29: xor eax, eax",
    clac!(),
    "ret",
    "30: shl rcx, 6",
    "and esi, 63",
    "add rsi, rcx",
    "xor eax, eax",
    "jmp 21b",
    "31: mov rax, rsi",
    clac!(),
    "ret",
    fixup!("10b", "30b"),
    fixup!("11b", "30b"),
    fixup!("12b", "30b"),
    fixup!("13b", "30b"),
    fixup!("14b", "30b"),
    fixup!("15b", "30b"),
    fixup!("16b", "30b"),
    fixup!("17b", "30b"),
    fixup!("21b", "31b"),
    // Pair x86_load*(rdi addr), x86_store*(rdi addr, rsi value): rax value, rdx zero or the fault.
    ".global x86_load8",
    "x86_load8:",
    stac!(),
    "xor edx, edx",
    "10: movzx eax, byte ptr [rdi]",
    clac!(),
    "ret",
    fixup!("10b", "x86_access_failed"),
    ".global x86_load32",
    "x86_load32:",
    stac!(),
    "xor edx, edx",
    "10: mov eax, [rdi]",
    clac!(),
    "ret",
    fixup!("10b", "x86_access_failed"),
    ".global x86_load64",
    "x86_load64:",
    stac!(),
    "xor edx, edx",
    "10: mov rax, [rdi]",
    clac!(),
    "ret",
    fixup!("10b", "x86_access_failed"),
    ".global x86_store32",
    "x86_store32:",
    stac!(),
    "xor edx, edx",
    "10: mov [rdi], esi",
    clac!(),
    "ret",
    fixup!("10b", "x86_access_failed"),
    ".global x86_store64",
    "x86_store64:",
    stac!(),
    "xor edx, edx",
    "10: mov [rdi], rsi",
    clac!(),
    "ret",
    fixup!("10b", "x86_access_failed"),
    // x86_cmpxchg32(rdi addr, esi old, edx new)
    ".global x86_cmpxchg32",
    "x86_cmpxchg32:",
    stac!(),
    "mov eax, esi",
    "10: lock cmpxchg [rdi], edx",
    "mov edx, 0",
    clac!(),
    "ret",
    fixup!("10b", "x86_access_failed"),
    "x86_access_failed:",
    "mov edx, 1",
    clac!(),
    "ret",
    // Pair x86_peek(rdi addr): reads kernel memory that may not be there (stack traces).
    ".global x86_peek",
    "x86_peek:",
    "xor edx, edx",
    "10: mov rax, [rdi]",
    "ret",
    ".global x86_peek_end",
    "x86_peek_end:",
    fixup!("10b", "11f"),
    "11: mov edx, 1",
    "ret",
    ".popsection",
);

/// Two registers as the C calling convention returns them.
#[repr(C)]
struct Pair {
    value: u64,
    failed: u64,
}

unsafe extern "C" {
    fn x86_copy(dst: *mut u8, src: *const u8, len: usize) -> usize;
    fn x86_clear(dst: usize, len: usize) -> usize;
    fn x86_load8(addr: usize) -> Pair;
    fn x86_load32(addr: usize) -> Pair;
    fn x86_load64(addr: usize) -> Pair;
    fn x86_store32(addr: usize, value: u32) -> Pair;
    fn x86_store64(addr: usize, value: u64) -> Pair;
    fn x86_cmpxchg32(addr: usize, old: u32, new: u32) -> Pair;
    fn x86_peek(addr: usize) -> Pair;
    fn x86_peek_end();
    static __uaccess_start: u8;
    static __uaccess_end: u8;
    static __ex_table_start: [usize; 2];
    static __ex_table_end: [usize; 2];
}

/// Where a fault at `pc` goes on, when `pc` is one of the instructions above. The table has some thirty
/// entries: a search in order is not worth improving.
pub(super) fn fixup(pc: usize) -> Option<usize> {
    if pc < (&raw const __uaccess_start) as usize || pc >= (&raw const __uaccess_end) as usize {
        return None;
    }
    let mut entry = &raw const __ex_table_start;
    while entry < &raw const __ex_table_end {
        // SAFETY: 1. the linker script collects whole entries between the two symbols.
        let [at, to] = unsafe { *entry };
        if at == pc {
            return Some(to);
        }
        entry = entry.wrapping_add(1);
    }
    None
}

/// Whether the instruction at `pc` is allowed to fault on a kernel address.
pub(super) fn may_touch_kernel(pc: usize) -> bool {
    (x86_peek as *const () as usize..x86_peek_end as *const () as usize).contains(&pc)
}

/// Reads a word of kernel memory that may not be mapped.
pub(super) fn peek(addr: usize) -> Option<usize> {
    // SAFETY: 1. a fault ends in the fixup; device memory is not reached through stack addresses.
    let pair = unsafe { x86_peek(addr) };
    (pair.failed == 0).then_some(pair.value as usize)
}

/// Copies of this size are not made with interrupts off in hardware when they are not masked.
const LONG_BYTES: usize = 32 << 10;

#[inline]
fn in_user(addr: usize, len: usize) -> bool {
    addr < mmu::USER_TOP && len <= mmu::USER_TOP - addr
}

/// Copies `len` bytes from user memory; returns how many were NOT copied.
///
/// # Safety
/// 1. `dst` is writable for `len` bytes.
#[inline]
pub unsafe fn copy_from_user(dst: *mut u8, src: usize, len: usize) -> usize {
    if !in_user(src, len) {
        return len;
    }
    if len >= LONG_BYTES {
        irq::catch_up();
    }
    // SAFETY: 1. the caller's obligation; 2. the source is user space, where faults are fixed up.
    unsafe { x86_copy(dst, src as *const u8, len) }
}

/// Copies `len` bytes to user memory; returns how many were NOT copied.
///
/// # Safety
/// 1. `src` is readable for `len` bytes.
#[inline]
pub unsafe fn copy_to_user(dst: usize, src: *const u8, len: usize) -> usize {
    if !in_user(dst, len) {
        return len;
    }
    if len >= LONG_BYTES {
        irq::catch_up();
    }
    // SAFETY: 1. the caller's obligation; 2. the target is user space, where faults are fixed up.
    unsafe { x86_copy(dst as *mut u8, src, len) }
}

/// Zeroes `len` bytes of user memory; returns how many were NOT zeroed.
#[inline]
pub fn clear_user(dst: usize, len: usize) -> usize {
    if !in_user(dst, len) {
        return len;
    }
    if len >= LONG_BYTES {
        irq::catch_up();
    }
    // SAFETY: 1. the target is user space, where faults are fixed up.
    unsafe { x86_clear(dst, len) }
}

#[inline]
fn checked(addr: usize, len: usize, access: impl FnOnce() -> Pair) -> Result<u64, Fault> {
    if !in_user(addr, len) {
        return Err(Fault);
    }
    let pair = access();
    if pair.failed == 0 { Ok(pair.value) } else { Err(Fault) }
}

#[inline]
pub fn load_u8(addr: usize) -> Result<u8, Fault> {
    // SAFETY: 1. `checked` makes sure that it is user space, where faults are fixed up.
    checked(addr, 1, || unsafe { x86_load8(addr) }).map(|v| v as u8)
}

#[inline]
pub fn load_u32(addr: usize) -> Result<u32, Fault> {
    // SAFETY: as in `load_u8`.
    checked(addr, 4, || unsafe { x86_load32(addr) }).map(|v| v as u32)
}

#[inline]
pub fn load_u64(addr: usize) -> Result<u64, Fault> {
    // SAFETY: as in `load_u8`.
    checked(addr, 8, || unsafe { x86_load64(addr) })
}

#[inline]
pub fn store_u32(addr: usize, value: u32) -> Result<(), Fault> {
    // SAFETY: as in `load_u8`.
    checked(addr, 4, || unsafe { x86_store32(addr, value) }).map(drop)
}

#[inline]
pub fn store_u64(addr: usize, value: u64) -> Result<(), Fault> {
    // SAFETY: as in `load_u8`.
    checked(addr, 8, || unsafe { x86_store64(addr, value) }).map(drop)
}

/// Compare and exchange; returns the value found. Atomic towards user threads.
#[inline]
pub fn cmpxchg_u32(addr: usize, old: u32, new: u32) -> Result<u32, Fault> {
    // SAFETY: as in `load_u8`.
    checked(addr, 4, || unsafe { x86_cmpxchg32(addr, old, new) }).map(|v| v as u32)
}
