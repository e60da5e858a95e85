//! Switching between tasks in the kernel.

use super::debug::{self, DebugRegs};
use super::fpu::{self, FpuState};
use super::{cpuid, irq, percpu, reg};
use crate::VirtAddr;
use core::arch::{asm, global_asm};

/// What a task leaves behind when another one runs: the kernel stack (with the callee-saved registers on
/// it), TLS bases, FPU registers.
#[repr(C, align(64))]
pub struct TaskState {
    sp: usize,
    fs_base: usize,
    gs_base: usize,
    /// It runs in user mode: TLS and FPU are its own. Kernel threads leave the last thread's in place.
    user: bool,
    debug: DebugRegs,
    pub(super) fpu: FpuState,
}

global_asm!(
    // x86_switch(rdi: *mut usize (save sp here), rsi: usize (new sp))
    ".pushsection .text.switch, \"ax\"",
    ".balign 16",
    ".global x86_switch",
    "x86_switch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi], rsp",
    "mov rsp, rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // The first return of a new task: rbx entry, r12 argument.
    ".global x86_first_steps",
    "x86_first_steps:",
    "mov rdi, r12",
    "xor ebp, ebp",
    "push 0",
    "jmp rbx",
    ".popsection",
);

unsafe extern "C" {
    fn x86_switch(save_sp: *mut usize, new_sp: usize);
    fn x86_first_steps();
}

impl TaskState {
    /// A task that starts in `entry(arg)` on the stack that ends at `stack_top`. With a `stack_top` of 0 it
    /// stands for code that runs already.
    pub fn new(stack_top: VirtAddr, entry: extern "C" fn(usize) -> !, arg: usize) -> TaskState {
        let (debug, fpu) = (DebugRegs::NONE, FpuState::INITIAL);
        let mut state = TaskState { sp: 0, fs_base: 0, gs_base: 0, user: false, debug, fpu };
        if stack_top.0 != 0 {
            // r15 r14 r13 r12 rbx rbp, return address: what `x86_switch` pops.
            let frame = [0, 0, 0, arg, entry as *const () as usize, 0, x86_first_steps as *const () as usize];
            state.sp = (stack_top.0 & !15) - size_of_val(&frame);
            // SAFETY: 1. the caller hands over a stack that nobody uses; the frame lies at its end.
            unsafe { (state.sp as *mut [usize; 7]).write(frame) };
        }
        state
    }

    /// Copies the current task's TLS bases and FPU registers into this, a new task's, state.
    pub fn fork_user(&mut self) {
        let flags = irq::disable();
        self.user = true;
        self.fs_base = fs_base();
        self.gs_base = gs_base();
        fpu::fork_to(&mut self.fpu);
        irq::restore(flags);
    }

    /// Frame pointer and program counter where this task was switched out.
    pub fn saved_frame(&self) -> (usize, usize) {
        let word = |i: usize| super::uaccess::peek(self.sp + i * 8).unwrap_or(0);
        (word(5), word(6))
    }
}

/// Makes the current task a user task with initial FPU registers and TLS bases of 0 (exec).
pub fn reset_user() {
    let flags = irq::disable();
    if let Some(task) = current() {
        task.user = true;
        if !task.debug.is_empty() {
            debug::unload();
        }
        task.debug = DebugRegs::NONE;
        fpu::reset();
        write_fs_base(0);
        write_gs_base(0);
        (task.fs_base, task.gs_base) = (0, 0);
    }
    irq::restore(flags);
}

/// Switches from `prev`, the running task, to `next`; returns when something switches back.
///
/// # Safety
/// 1. Interrupts are off; 2. `prev` is the state of the running task and `next` that of one that is
///    switched out or new; 3. both live on, and nobody else touches them.
pub unsafe fn switch(prev: *mut TaskState, next: *mut TaskState) {
    // SAFETY: 1. 2. 3. the caller's obligations.
    unsafe {
        let cpu = &mut *percpu::this();
        if (*prev).user {
            if !(*prev).debug.is_empty() {
                debug::unload();
            }
            save_user(&mut *prev);
            fpu::switch_out(cpu, &mut (*prev).fpu);
        }
        cpu.task_state = next;
        if (*next).user {
            load_user(&*next);
            if !(*next).debug.is_empty() {
                debug::load(&(*next).debug);
            }
            fpu::switch_in(cpu, &mut (*next).fpu);
        }
        x86_switch(&raw mut (*prev).sp, (*next).sp);
    }
}

/// Without FSGSBASE instructions only the kernel changes the bases, and `TaskState` has them already.
#[inline]
fn save_user(task: &mut TaskState) {
    if cpuid::has(cpuid::FSGSBASE) {
        task.fs_base = fs_base();
        task.gs_base = gs_base();
    }
}

#[inline]
fn load_user(task: &TaskState) {
    if fs_base() != task.fs_base {
        write_fs_base(task.fs_base);
    }
    if gs_base() != task.gs_base {
        write_gs_base(task.gs_base);
    }
}

/// The state of the current task, none before the first switch; interrupts off.
fn current() -> Option<&'static mut TaskState> {
    // SAFETY: 1. `switch` stores the running task's state, which lives while it runs; 2. interrupts are
    // off, so nobody else is inside it.
    unsafe { (*percpu::this()).task_state.as_mut() }
}

/// The debug registers of the current thread; interrupts off.
pub(super) fn debug() -> Option<&'static mut DebugRegs> {
    current().map(|task| &mut task.debug)
}

/// The FS base of the current thread: its thread pointer.
#[inline]
pub fn fs_base() -> usize {
    // SAFETY: 1. the instruction is used only where the processor has it and CR4 allows it.
    unsafe {
        if cpuid::has(cpuid::FSGSBASE) {
            let base;
            asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags));
            base
        } else {
            reg::rdmsr(reg::MSR_FS_BASE) as usize
        }
    }
}

/// The user GS base of the current thread. By MSR also where there is `rdgsbase`: that would need two
/// `swapgs` with interrupts off in hardware around it.
#[inline]
pub fn gs_base() -> usize {
    // SAFETY: 1. every x86-64 has the register.
    unsafe { reg::rdmsr(reg::MSR_KERNEL_GS_BASE) as usize }
}

fn write_fs_base(base: usize) {
    // SAFETY: 1. as in `fs_base`; 2. the kernel does not use FS.
    unsafe {
        if cpuid::has(cpuid::FSGSBASE) {
            asm!("wrfsbase {}", in(reg) base, options(nomem, nostack, preserves_flags));
        } else {
            reg::wrmsr(reg::MSR_FS_BASE, base as u64);
        }
    }
}

fn write_gs_base(base: usize) {
    // SAFETY: 1. in kernel mode this is the user's base; callers pass addresses below USER_TOP.
    unsafe { reg::wrmsr(reg::MSR_KERNEL_GS_BASE, base as u64) };
}

/// Sets the FS base of the current thread (arch_prctl(ARCH_SET_FS), clone with TLS). `base` is below
/// `USER_TOP`; others are ignored.
pub fn set_fs_base(base: usize) {
    set_base(base, write_fs_base, |task| &mut task.fs_base);
}

/// Sets the GS base of the current thread (arch_prctl(ARCH_SET_GS)). As [`set_fs_base`].
pub fn set_gs_base(base: usize) {
    set_base(base, write_gs_base, |task| &mut task.gs_base);
}

fn set_base(base: usize, write: fn(usize), field: fn(&mut TaskState) -> &mut usize) {
    if base >= super::mmu::USER_TOP {
        return;
    }
    let flags = irq::disable();
    write(base);
    if let Some(task) = current() {
        *field(task) = base;
    }
    irq::restore(flags);
}
