//! All ways into the kernel: traps, interrupts, system calls, and the way out to user mode.
//!
//! **Idea.** A thread's trips to user mode are calls of [`run_user`] that return. The stack for traps from
//! user mode (`tss.rsp0`) is the end of the register frame in the thread's `UserContext`, so the processor
//! itself stores `ss rsp rflags cs rip` where they belong, the stub adds the rest, takes up the kernel stack
//! that `run_user` left, and returns to its caller. No frame is copied, and the kernel stack is as it was.
//!
//! ```text
//! UserContext   0  kernel stack pointer          120 rdi    <- rsp in a stub, holding the vector
//!               8  r15 r14 r13 r12 rbp rbx       128 orig_rax / error code
//!              56  r11 r10 r9 r8                 136 rip cs rflags rsp ss
//!              88  rax rcx rdx rsi               176 <- tss.rsp0; `slow`
//! ```
//!
//! A trap in kernel mode builds the same frame on the kernel stack, plus a frame record so that stack
//! traces run through it. NMI, debug, double fault and machine check have stacks of their own and find
//! the per-CPU area at the top of those: GS may still be the user's when they strike.
//!
//! Between the `cli` in `run_user` and the trap back nothing runs here but these stubs, so the user
//! registers may lie below the stack pointer.

use super::percpu::PerCpu;
use super::user::UserContext;
use core::arch::{asm, global_asm};
use core::mem::offset_of;

/// [`run_user`] returned for a system call.
pub const SYSCALL: usize = 256;
/// User mode was not entered: `UserContext::slow` asks for work first.
pub const SLOW: usize = 257;
/// User mode was not entered: this CPU must reschedule, or an interrupt came while they were masked.
pub const KICKED: usize = 258;

/// `clac`, noted so that [`patch_smap`] can take it out on processors without SMAP.
macro_rules! clac {
    () => {
        "771: .byte 0x0f, 0x01, 0xca
         .pushsection .smap_sites, \"a\"
         .quad 771b
         .popsection"
    };
}

/// `stac`, likewise.
macro_rules! stac {
    () => {
        "771: .byte 0x0f, 0x01, 0xcb
         .pushsection .smap_sites, \"a\"
         .quad 771b
         .popsection"
    };
}
pub(super) use {clac, stac};

// The frame of a trap in kernel mode: all registers, with rdi where the vector was pushed.
macro_rules! save_all {
    () => {
        "sub rsp, 120
         mov [rsp + 88], rax
         mov rax, [rsp + 120]
         mov [rsp + 120], rdi
         mov [rsp + 112], rsi
         mov [rsp + 104], rdx
         mov [rsp + 96], rcx
         mov [rsp + 80], r8
         mov [rsp + 72], r9
         mov [rsp + 64], r10
         mov [rsp + 56], r11
         mov [rsp + 48], rbx
         mov [rsp + 40], rbp
         mov [rsp + 32], r12
         mov [rsp + 24], r13
         mov [rsp + 16], r14
         mov [rsp + 8], r15
         cld"
    };
}
macro_rules! restore_all_iret {
    () => {
        "mov r15, [rsp + 8]
         mov r14, [rsp + 16]
         mov r13, [rsp + 24]
         mov r12, [rsp + 32]
         mov rbp, [rsp + 40]
         mov rbx, [rsp + 48]
         mov r11, [rsp + 56]
         mov r10, [rsp + 64]
         mov r9, [rsp + 72]
         mov r8, [rsp + 80]
         mov rax, [rsp + 88]
         mov rcx, [rsp + 96]
         mov rdx, [rsp + 104]
         mov rsi, [rsp + 112]
         mov rdi, [rsp + 120]
         add rsp, 136
         iretq"
    };
}

global_asm!(
    // usize x86_run_user(rdi: *mut UserContext). Saves rbx and rbp; the caller gives r12 to r15 up.
    ".pushsection .text.entry, \"ax\"",
    ".balign 64",
    ".global x86_run_user",
    "x86_run_user:",
    "push rbp",
    "push rbx",
    "cli",
    "cmp dword ptr gs:[{ATTENTION}], 0",
    "jne 3f",
    "mov [rdi], rsp",
    "lea rax, [rdi + 176]",
    "mov gs:[{RSP0}], rax",
    "cmp dword ptr [rdi + 176], 0",
    "jne 2f",
    "mov word ptr gs:[{IRQ_STATE}], {USER_IRQ_STATE}",
    // What the last trap left is good enough for sysret: it loses rcx and r11.
    "mov r15, [rdi + 8]",
    "mov r14, [rdi + 16]",
    "mov r13, [rdi + 24]",
    "mov r12, [rdi + 32]",
    "mov rbp, [rdi + 40]",
    "mov rbx, [rdi + 48]",
    "mov r10, [rdi + 64]",
    "mov r9, [rdi + 72]",
    "mov r8, [rdi + 80]",
    "mov rax, [rdi + 88]",
    "mov rdx, [rdi + 104]",
    "mov rsi, [rdi + 112]",
    "mov rcx, [rdi + 136]",
    "mov r11, [rdi + 152]",
    "mov rsp, [rdi + 160]",
    "mov rdi, [rdi + 120]",
    "swapgs",
    "sysretq",
    // All registers by iret, or work for Rust first.
    "2:",
    "cmp dword ptr [rdi + 176], {IRET}",
    "mov eax, {SLOW}",
    "jne 4f",
    "mov dword ptr [rdi + 176], 0",
    "mov word ptr gs:[{IRQ_STATE}], {USER_IRQ_STATE}",
    "mov rsp, rdi",
    "swapgs",
    restore_all_iret!(),
    "3:",
    "mov eax, {KICKED}",
    "4:",
    "pop rbx",
    "pop rbp",
    "mov byte ptr gs:[{IRQ_STATE} + 1], 1",
    "ret",
    // System call: rcx = rip, r11 = rflags, interrupts off, user stack.
    ".balign 64",
    ".global x86_syscall",
    "x86_syscall:",
    "swapgs",
    "mov gs:[{USER_SP}], rsp",
    "mov rsp, gs:[{RSP0}]",
    "mov [rsp - 48], rax",
    "mov [rsp - 56], rdi",
    "mov [rsp - 64], rsi",
    "mov [rsp - 72], rdx",
    "mov [rsp - 96], r8",
    "mov [rsp - 104], r9",
    "mov [rsp - 112], r10",
    "mov [rsp - 128], rbx",
    "mov [rsp - 136], rbp",
    "mov [rsp - 144], r12",
    "mov [rsp - 152], r13",
    "mov [rsp - 160], r14",
    "mov [rsp - 168], r15",
    "mov [rsp - 40], rcx",
    "mov [rsp - 24], r11",
    "mov rax, gs:[{USER_SP}]",
    "mov [rsp - 16], rax",
    "mov rsp, [rsp - 176]",
    "pop rbx",
    "pop rbp",
    "mov eax, {SYSCALL}",
    "ret",
    // A trap or interrupt from user mode. At rsp, in the UserContext: vector, error code, rip, cs, ...
    ".balign 64",
    "x86_user_trap:",
    "swapgs",
    "mov [rsp - 32], rax",
    "mov eax, [rsp]",
    "mov [rsp], rdi",
    "mov [rsp - 8], rsi",
    "mov [rsp - 16], rdx",
    "mov [rsp - 24], rcx",
    "mov [rsp - 40], r8",
    "mov [rsp - 48], r9",
    "mov [rsp - 56], r10",
    "mov [rsp - 64], r11",
    "mov [rsp - 72], rbx",
    "mov [rsp - 80], rbp",
    "mov [rsp - 88], r12",
    "mov [rsp - 96], r13",
    "mov [rsp - 104], r14",
    "mov [rsp - 112], r15",
    "mov rsp, [rsp - 120]",
    "pop rbx",
    "pop rbp",
    clac!(),
    "cld",
    "ret",
    // An exception.
    ".balign 16",
    "x86_trap:",
    "test byte ptr [rsp + 24], 3",
    "jnz x86_user_trap",
    save_all!(),
    clac!(),
    "mov rdi, rsp",
    "mov esi, eax",
    "push [rsp + 136]",
    "push rbp",
    "mov rbp, rsp",
    "call {kernel_trap}",
    "add rsp, 16",
    restore_all_iret!(),
    // An interrupt: in kernel mode only what a call may change is saved.
    ".balign 16",
    "x86_irq:",
    "test byte ptr [rsp + 24], 3",
    "jnz x86_user_trap",
    "sub rsp, 72",
    "mov [rsp + 64], rax",
    "mov [rsp + 56], rcx",
    "mov [rsp + 48], rdx",
    "mov [rsp + 40], rsi",
    "mov [rsp + 32], r8",
    "mov [rsp + 24], r9",
    "mov [rsp + 16], r10",
    "mov [rsp + 8], r11",
    "mov rax, rdi",
    "mov edi, [rsp + 72]",
    "mov [rsp + 72], rax",
    "lea rsi, [rsp + 104]",
    clac!(),
    "cld",
    "push [rsp + 88]",
    "push rbp",
    "mov rbp, rsp",
    "call {kernel_irq}",
    "pop rbp",
    "mov r11, [rsp + 16]",
    "mov r10, [rsp + 24]",
    "mov r9, [rsp + 32]",
    "mov r8, [rsp + 40]",
    "mov rsi, [rsp + 48]",
    "mov rdx, [rsp + 56]",
    "mov rcx, [rsp + 64]",
    "mov rax, [rsp + 72]",
    "mov rdi, [rsp + 80]",
    "add rsp, 96",
    "iretq",
    // Own stacks: [rsp + 56] here is the address of the per-CPU area.
    ".balign 16",
    ".global x86_nmi",
    "x86_nmi:",
    "push 0",
    "push 2",
    "jmp x86_paranoid",
    ".global x86_double_fault",
    "x86_double_fault:",
    "push 8",
    "jmp x86_paranoid",
    ".global x86_machine_check",
    "x86_machine_check:",
    "push 0",
    "push 18",
    "x86_paranoid:",
    save_all!(),
    clac!(),
    "mov esi, eax",
    "mov ecx, {GS_BASE}",
    "rdmsr",
    "mov ebx, eax",
    "mov r12d, edx",
    "mov rax, [rsp + 176]",
    "mov rdx, rax",
    "shr rdx, 32",
    "wrmsr",
    "mov rdi, rsp",
    "push [rsp + 136]",
    "push rbp",
    "mov rbp, rsp",
    "call {paranoid_trap}",
    "add rsp, 16",
    "mov ecx, {GS_BASE}",
    "mov eax, ebx",
    "mov edx, r12d",
    "wrmsr",
    restore_all_iret!(),
    // Debug exceptions of programs go the way of all others, off the special stack.
    ".global x86_debug",
    "x86_debug:",
    "push 0",
    "push 1",
    "test byte ptr [rsp + 24], 3",
    "jz x86_paranoid",
    "swapgs",
    "mov gs:[{USER_SP}], rax",
    "mov rax, rsp",
    "mov rsp, gs:[{RSP0}]",
    "push [rax + 48]",
    "push [rax + 40]",
    "push [rax + 32]",
    "push [rax + 24]",
    "push [rax + 16]",
    "push 0",
    "push 1",
    "mov rax, gs:[{USER_SP}]",
    "swapgs",
    "jmp x86_user_trap",
    // The 256 stubs. `push imm32` is spelt out: its operand is an assembler variable.
    ".balign 16",
    ".global x86_stubs",
    "x86_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    ".if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30",
    ".else",
    "push 0",
    ".endif",
    ".byte 0x68",
    ".long vector",
    ".if vector < 32",
    "jmp x86_trap",
    ".else",
    "jmp x86_irq",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    ".popsection",
    ATTENTION = const offset_of!(PerCpu, need_resched),
    IRQ_STATE = const offset_of!(PerCpu, irq_masked),
    // Not masked, the flag off: what the next trap finds.
    USER_IRQ_STATE = const (super::irq::LAZY as u16) << 8,
    USER_SP = const offset_of!(PerCpu, user_sp),
    RSP0 = const offset_of!(PerCpu, tss) + 4,
    IRET = const UserContext::SLOW_IRET,
    SYSCALL = const SYSCALL,
    SLOW = const SLOW,
    KICKED = const KICKED,
    GS_BASE = const super::reg::MSR_GS_BASE,
    kernel_trap = sym super::traps::kernel_trap,
    kernel_irq = sym super::traps::kernel_irq,
    paranoid_trap = sym super::traps::paranoid_trap,
);

const _: () = {
    assert!((offset_of!(PerCpu, tss) + 4).is_multiple_of(8));
    assert!(offset_of!(UserContext, regs) == 8 && offset_of!(UserContext, slow) == 176);
    assert!(offset_of!(PerCpu, this) == 0);
};

unsafe extern "C" {
    fn x86_syscall();
    fn x86_stubs();
    fn x86_nmi();
    fn x86_double_fault();
    fn x86_machine_check();
    fn x86_debug();
}

pub fn syscall_address() -> u64 {
    x86_syscall as *const () as u64
}

/// The code for an interrupt descriptor.
pub fn stub_address(vector: usize) -> u64 {
    let address = match vector {
        1 => x86_debug as *const () as usize,
        2 => x86_nmi as *const () as usize,
        8 => x86_double_fault as *const () as usize,
        18 => x86_machine_check as *const () as usize,
        _ => x86_stubs as *const () as usize + vector * 16,
    };
    address as u64
}

/// Enters user mode; returns the vector of the trap that ended it, or [`SYSCALL`]: interrupts are not masked,
/// but off in hardware ([`super::irq`]). Or [`SLOW`] or [`KICKED`]: interrupts are to be turned on.
///
/// Inline, and all callee-saved registers given up, so that the loop around it keeps its own values where
/// the compiler likes instead of twelve registers being saved on every trip.
///
/// # Safety
/// 1. `context` is not used by anybody else meanwhile; 2. the current user page table and TLS are its own.
#[inline(always)]
pub unsafe fn run_user(context: *mut UserContext) -> usize {
    let reason;
    // SAFETY: 1. 2. the caller's obligations; 3. the stubs come back here with the stack as it was.
    unsafe {
        asm!(
            "call x86_run_user",
            inout("rdi") context => _,
            out("rax") reason,
            out("rcx") _, out("rdx") _, out("rsi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    reason
}

/// Takes `stac` and `clac` out of the code of a processor without SMAP. Once, before the text is made
/// read-only.
pub fn patch_smap() {
    unsafe extern "C" {
        static __smap_sites_start: usize;
        static __smap_sites_end: usize;
    }
    let (start, end) = (&raw const __smap_sites_start, &raw const __smap_sites_end);
    let mut site = start;
    while site < end {
        // SAFETY: 1. the section holds addresses of three-byte instructions; 2. the early map is writable
        // and nobody executes them now.
        unsafe {
            (*site as *mut [u8; 3]).write([0x0f, 0x1f, 0x00]); // nop dword ptr [rax]
            site = site.add(1);
        }
    }
}
