//! x86-64: `syscall` with the number in rax, arguments in rdi rsi rdx r10 r8 r9, the result in rax.

use core::arch::{asm, global_asm};

/// Makes system call `nr` and returns what the kernel left in the result register.
///
/// # Safety
/// 1. The call does to this process what its man page says; the caller answers for memory it names.
#[inline(always)]
pub unsafe fn syscall6(nr: usize, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: 1. the kernel preserves every register but rax, rcx, r11; 2. memory is the caller's obligation.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

unsafe extern "C" {
    fn rt_restorer();
}

/// x86-64 has no signal trampoline in its vDSO: the program brings `rt_sigreturn` itself.
pub const RESTORER: Option<unsafe extern "C" fn()> = Some(rt_restorer);

global_asm!(
    r#"
    .section .text._start, "ax", @progbits
    .globl _start
_start:
    xor     ebp, ebp
    mov     rdi, rsp
    and     rsp, -16
    call    rt_start
    ud2

    .text
    .globl rt_clone_thread
rt_clone_thread:
    sub     rsi, 16
    mov     [rsi], r8
    mov     [rsi + 8], r9
    mov     r10, rcx            # child_tid
    xor     r8d, r8d            # tls (unused)
    mov     eax, 56             # clone
    syscall
    test    rax, rax
    jnz     2f
    xor     ebp, ebp
    pop     rax
    pop     rdi
    call    rax
    ud2
2:  ret

    .globl rt_vfork_exec
rt_vfork_exec:
    mov     r8, rdi
    mov     r9, rsi
    mov     r10, rdx
    pop     rdx                 # the child would overwrite the return address
    mov     eax, 58             # vfork
    syscall
    test    rax, rax
    jnz     2f
    mov     rdi, r8
    mov     rsi, r9
    mov     rdx, r10
    mov     eax, 59             # execve
    syscall
    mov     edi, 127
    mov     eax, 231            # exit_group
    syscall
    ud2
2:  push    rdx
    ret

    .globl rt_rseq_spin, rt_rseq_start, rt_rseq_end, rt_rseq_abort
rt_rseq_spin:
    mov     [rdi], rsi
rt_rseq_start:
    pause
    jmp     rt_rseq_start
rt_rseq_end:
    .long   0x53053053
rt_rseq_abort:
    ret

    .globl rt_restorer
rt_restorer:
    mov     eax, 15             # rt_sigreturn
    syscall
"#
);
