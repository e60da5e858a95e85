//! The assembly of all traps (entry.S), and what it shares with Rust.
//!
//! **Problem.** The way from `ecall` to the kernel and back is the hottest path there is, and CSR accesses
//! are its dearest instructions. The usual entry swaps a register with `sscratch`, zeroes it to know
//! kernel traps from user traps, and sets it again on the way out: three accesses, besides reading
//! `sstatus`.
//!
//! **Idea.** Each hart has a trap vector of its own, a stub that knows its slot of 32 bytes in the *trap
//! page*. That page is mapped at the very top of the address space, where it is reached as a negative
//! offset from `x0`: no register has to be freed to save one. `scause` alone says "system call from user
//! mode", so that path needs no other CSR but `sepc`; every other trap also looks at `sstatus.SPP`.
//! A system call comes and goes with three CSR accesses.

use super::cpu::{self, Local};
use super::user::UserContext;
use super::{context, csr, irq, trap};
use crate::MAX_CPUS;
use core::cell::UnsafeCell;
use core::mem::offset_of;

/// Bytes of the frame of a kernel-mode trap; register `n` is word `n`.
pub const FRAME_BYTES: usize = 288;
/// Words of the frame that hold no register of that number.
pub const FRAME_FP: usize = FRAME_BYTES / 8 - 2;
pub const FRAME_PC: usize = FRAME_BYTES / 8 - 1;

const SLOT_BYTES: usize = 32;
const STUB_BYTES: usize = 64;
const _: () = assert!(MAX_CPUS == 64 && MAX_CPUS * SLOT_BYTES <= 2048);

core::arch::global_asm!(
    include_str!("entry.S"),
    U_PC = const 0,
    U_TP = const 4 * 8,
    U_T0 = const 5 * 8,
    U_T1 = const 6 * 8,
    U_ORIG_A0 = const offset_of!(UserContext, orig_a0),
    U_KERNEL_RA = const offset_of!(UserContext, kernel) ,
    U_KERNEL_SP = const offset_of!(UserContext, kernel) + 8,
    U_KERNEL_S0 = const offset_of!(UserContext, kernel) + 16,
    U_KERNEL_S1 = const offset_of!(UserContext, kernel) + 24,
    L_HARD_OFF = const offset_of!(Local, irq_hard_off),
    L_MASKED = const offset_of!(Local, irq_masked),
    L_SLOT = const offset_of!(Local, slot),
    L_TRAP_PC = const offset_of!(Local, trap_pc),
    L_EMERGENCY = const offset_of!(Local, emergency_top),
    F_BYTES = const FRAME_BYTES,
    F_PC = const FRAME_PC * 8,
    F_FP = const FRAME_FP * 8,
    SPP = const csr::SSTATUS_SPP,
    SIE = const csr::SSTATUS_SIE,
    LAZY = const irq::LAZY,
    kernel_trap = sym trap::kernel_trap,
    stack_fault = sym trap::stack_fault,
);

// The switch of kernel stacks. The store-conditional ends a reservation that the previous task may hold,
// so that it cannot succeed in the next one; it stores what the next line stores anyway.
core::arch::global_asm!(
    ".section .text.trap, \"ax\"",
    ".globl switch_stacks",
    ".balign 4",
    "switch_stacks:",
    "sc.d x0, ra, (a0)",
    "sd ra, 0(a0)",
    "sd sp, 8(a0)",
    "sd s0, 16(a0)",
    "sd s1, 24(a0)",
    "sd s2, 32(a0)",
    "sd s3, 40(a0)",
    "sd s4, 48(a0)",
    "sd s5, 56(a0)",
    "sd s6, 64(a0)",
    "sd s7, 72(a0)",
    "sd s8, 80(a0)",
    "sd s9, 88(a0)",
    "sd s10, 96(a0)",
    "sd s11, 104(a0)",
    "ld ra, 0(a1)",
    "ld sp, 8(a1)",
    "ld s0, 16(a1)",
    "ld s1, 24(a1)",
    "ld s2, 32(a1)",
    "ld s3, 40(a1)",
    "ld s4, 48(a1)",
    "ld s5, 56(a1)",
    "ld s6, 64(a1)",
    "ld s7, 72(a1)",
    "ld s8, 80(a1)",
    "ld s9, 88(a1)",
    "ld s10, 96(a1)",
    "ld s11, 104(a1)",
    "ret",
    // Where a new task starts: s1 its function, s2 the argument. No return address: backtraces end here.
    ".globl task_start",
    "task_start:",
    "mv a0, s2",
    "li ra, 0",
    "jr s1",
);

unsafe extern "C" {
    fn trap_stubs();
    pub(super) fn enter_user();
    pub(super) fn switch_stacks(prev: *mut context::Registers, next: *const context::Registers);
    pub(super) fn task_start();
}

#[repr(C)]
struct Slot {
    t0: usize,
    t1: usize,
    context: usize,
    local: usize,
}

/// The page at the top of the address space: slots from its end downwards.
#[repr(C, align(4096))]
pub struct TrapPage(UnsafeCell<[u8; 4096]>);

// SAFETY: 1. each slot is used by its own CPU only.
unsafe impl Sync for TrapPage {}

pub(super) static TRAP_PAGE: TrapPage = TrapPage(UnsafeCell::new([0; 4096]));

/// The address of a CPU's slot, in the last 2 KiB.
pub fn slot_address(cpu: usize) -> usize {
    0usize.wrapping_sub(SLOT_BYTES * (cpu + 1))
}

/// The trap vector of a CPU.
pub fn stub_address(cpu: usize) -> usize {
    trap_stubs as *const () as usize + STUB_BYTES * cpu
}

/// Fills in the running CPU's slot.
pub fn publish_slot(cpu: usize) {
    let local = cpu::local_of(cpu).map_or(0, |local| core::ptr::from_ref(local) as usize);
    let slot = slot_address(cpu) as *mut Slot;
    // SAFETY: 1. the boot page table maps the trap page for writing; 2. the slot is this CPU's alone.
    unsafe { (*slot).local = local };
}
