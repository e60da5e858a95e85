//! RISC-V: `ecall` with the number in a7, arguments in a0..a5, the result in a0.

use core::arch::{asm, global_asm};

/// Makes system call `nr` and returns what the kernel left in the result register.
///
/// # Safety
/// 1. The call does to this process what its man page says; the caller answers for memory it names.
#[inline(always)]
pub unsafe fn syscall6(nr: usize, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: 1. the kernel preserves every register but a0; 2. memory is the caller's obligation.
    unsafe {
        asm!(
            "ecall",
            in("a7") nr,
            inlateout("a0") args[0] => result,
            in("a1") args[1],
            in("a2") args[2],
            in("a3") args[3],
            in("a4") args[4],
            in("a5") args[5],
            options(nostack),
        );
    }
    result
}

/// The signal frame's return path is in the kernel's vDSO: no restorer.
pub const RESTORER: Option<unsafe extern "C" fn()> = None;

global_asm!(
    r#"
    .section .text._start, "ax", @progbits
    .globl _start
_start:
    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    mv      fp, zero
    mv      ra, zero
    mv      a0, sp
    andi    sp, sp, -16
    call    rt_start
    unimp

    .text
    .globl rt_clone_thread
rt_clone_thread:
    addi    a1, a1, -16
    sd      a4, 0(a1)
    sd      a5, 8(a1)
    mv      a4, a3              # a4 = child_tid, a3 = tls (unused)
    mv      a3, zero
    li      a7, 220             # clone
    ecall
    bnez    a0, 1f
    ld      t0, 0(sp)
    ld      a0, 8(sp)
    addi    sp, sp, 16
    mv      fp, zero
    mv      ra, zero
    jalr    t0
    unimp
1:  ret

    .globl rt_rseq_spin, rt_rseq_start, rt_rseq_end, rt_rseq_abort
rt_rseq_spin:
    sd      a1, 0(a0)
rt_rseq_start:
    j       rt_rseq_start
rt_rseq_end:
    .word   0x53053053
rt_rseq_abort:
    ret

    .globl rt_vfork_exec
rt_vfork_exec:
    mv      t0, a0
    mv      t1, a1
    mv      t2, a2
    li      a0, 0x4111          # CLONE_VM | CLONE_VFORK | SIGCHLD
    mv      a1, zero
    mv      a2, zero
    mv      a3, zero
    mv      a4, zero
    li      a7, 220             # clone
    ecall
    bnez    a0, 1f
    mv      a0, t0
    mv      a1, t1
    mv      a2, t2
    li      a7, 221             # execve
    ecall
    li      a0, 127
    li      a7, 94              # exit_group
    ecall
    unimp
1:  ret
"#
);
