//! A user thread's registers, and running it.

use super::{entry, trap};
use crate::Trap;

const RA: usize = 1;
const SP: usize = 2;
const TP: usize = 4;
const A0: usize = 10;
const A7: usize = 17;

/// The registers of a user thread while it is not running. `entry` knows the layout.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct UserContext {
    /// pc, then x1 to x31: the order of Linux's `user_regs_struct`.
    regs: [usize; 32],
    /// a0 as the last system call found it.
    pub(super) orig_a0: usize,
    /// ra, sp, s0, s1 of the kernel while user code runs.
    pub(super) kernel: [usize; 4],
}

impl UserContext {
    /// A thread that starts at `pc` with everything else zero.
    pub fn new(pc: usize, sp: usize) -> UserContext {
        let mut regs = [0; 32];
        regs[0] = pc;
        regs[SP] = sp;
        UserContext { regs, orig_a0: 0, kernel: [0; 4] }
    }

    /// Runs the thread until it traps. Called with interrupts on or off: what waits is taken in user
    /// mode at once. Returns with interrupts on.
    #[inline(always)]
    pub fn run(&mut self) -> Trap {
        loop {
            let (cause, value): (usize, usize);
            // SAFETY: 1. `enter_user` saves and restores s0, s1, sp and tp itself, every other register is
            // declared clobbered; gp is not used by the kernel; 2. the context is borrowed for the call;
            // 3. user mode can touch only what the active page table gives it: the mode of return is
            // user, because no code runs with sstatus.SPP set but the trap code itself (see `trap`).
            unsafe {
                core::arch::asm!("call {enter}", enter = sym entry::enter_user,
                    inlateout("a0") &raw mut *self => cause, lateout("a1") value,
                    lateout("s2") _, lateout("s3") _, lateout("s4") _, lateout("s5") _, lateout("s6") _,
                    lateout("s7") _, lateout("s8") _, lateout("s9") _, lateout("s10") _, lateout("s11") _,
                    clobber_abi("C"));
            }
            if cause == trap::USER_ECALL {
                return Trap::Syscall;
            }
            if let Some(trap) = trap::user_trap(self, cause, value) {
                return trap;
            }
        }
    }

    #[inline]
    pub fn pc(&self) -> usize {
        self.regs[0]
    }

    #[inline]
    pub fn set_pc(&mut self, pc: usize) {
        self.regs[0] = pc;
    }

    #[inline]
    pub fn sp(&self) -> usize {
        self.regs[SP]
    }

    #[inline]
    pub fn set_sp(&mut self, sp: usize) {
        self.regs[SP] = sp;
    }

    #[inline]
    pub fn syscall_nr(&self) -> usize {
        self.regs[A7]
    }

    #[inline]
    pub fn syscall_args(&self) -> [usize; 6] {
        let mut args = [0; 6];
        args.copy_from_slice(&self.regs[A0..A0 + 6]);
        args
    }

    /// The result of the system call: a value or a negated errno.
    #[inline]
    pub fn set_return(&mut self, value: isize) {
        self.regs[A0] = value as usize;
    }

    #[inline]
    pub fn return_value(&self) -> isize {
        self.regs[A0] as isize
    }

    /// The thread pointer (clone's CLONE_SETTLS).
    pub fn set_tls(&mut self, tls: usize) {
        self.regs[TP] = tls;
    }

    pub fn tls(&self) -> usize {
        self.regs[TP]
    }

    /// Makes the thread execute the system call `nr` with its original first argument again.
    pub fn rewind_syscall(&mut self, nr: usize) {
        self.regs[0] = self.regs[0].wrapping_sub(4);
        self.regs[A0] = self.orig_a0;
        self.regs[A7] = nr;
    }

    /// Words of `struct user_regs_struct`.
    pub const PTRACE_WORDS: usize = 32;

    /// pc, x1 to x31: `struct user_regs_struct` (NT_PRSTATUS).
    pub fn ptrace_regs(&self) -> [u64; Self::PTRACE_WORDS] {
        self.regs.map(|reg| reg as u64)
    }

    /// Takes what a debugger has made of [`UserContext::ptrace_regs`].
    pub fn set_ptrace_regs(&mut self, regs: &[u64; Self::PTRACE_WORDS]) {
        self.regs = regs.map(|reg| reg as usize);
    }

    /// There is no such thing in user mode: debuggers use breakpoints. False.
    pub fn set_single_step(&mut self, _on: bool) -> bool {
        false
    }

    /// A debugger looks at a system call before it is made. Nothing to show: a0 still holds the argument.
    pub fn show_call_entry(&mut self) {}

    pub(super) fn regs(&self) -> &[usize; 32] {
        &self.regs
    }

    pub(super) fn regs_mut(&mut self) -> &mut [usize; 32] {
        &mut self.regs
    }

    /// The arguments of a signal handler, and where it returns to.
    pub(super) fn call_handler(&mut self, pc: usize, sp: usize, ra: usize, args: [usize; 3]) {
        self.regs[0] = pc;
        self.regs[SP] = sp;
        self.regs[RA] = ra;
        self.regs[A0..A0 + 3].copy_from_slice(&args);
    }
}

/// Program counter and stack pointer in [`UserContext::ptrace_regs`].
pub fn ptrace_pc_sp(words: &[u64; UserContext::PTRACE_WORDS]) -> (u64, u64) {
    (words[0], words[SP])
}

/// The result register in [`UserContext::ptrace_regs`].
pub fn ptrace_result(words: &[u64; UserContext::PTRACE_WORDS]) -> i64 {
    words[A0] as i64
}
