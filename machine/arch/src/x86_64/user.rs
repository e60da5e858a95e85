//! The registers of a thread while it is in the kernel, and the trip to user mode and back.

use super::debug;
use super::{context, cpuid, desc, entry, fpu, irq, mmu, reg, traps};
use crate::{Access, Exception, Trap};
use core::mem::offset_of;

/// The general registers in the order of Linux's `pt_regs`.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call's number; all ones when the last trap was none. The error code in between.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// A thread's user registers. The stubs of [`super::entry`] know the layout.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct UserContext {
    kernel_sp: u64,
    pub(super) regs: Regs,
    /// Zero: `sysret` will do. Else `SLOW_*`.
    pub(super) slow: u32,
    /// Of the last exception, for signal frames: vector, error code, address.
    pub(super) trap_number: u32,
    pub(super) error_code: u64,
    pub(super) fault_addr: u64,
    /// The thread pointer that [`UserContext::set_tls`] gave.
    tls: u64,
}

const SIGILL: u32 = 4;
const SIGTRAP: u32 = 5;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
const SIGKILL: u32 = 9;
const SIGSEGV: u32 = 11;
/// `si_code` of a signal that the kernel raises without a better reason.
const SI_KERNEL: i32 = 0x80;

/// The length of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

impl UserContext {
    /// All registers must be restored. Alone it is done by the stub; with another bit, [`Self::prepare`] runs first.
    pub(super) const SLOW_IRET: u32 = 1;
    /// The FS base is to be loaded.
    const SLOW_TLS: u32 = 2;
    /// The program counter is not an address of user space: entering would fault in the kernel.
    const SLOW_PC: u32 = 4;

    /// A thread that starts at `pc` with all other registers zero.
    pub fn new(pc: usize, sp: usize) -> UserContext {
        let regs = Regs {
            rip: pc as u64,
            rsp: sp as u64,
            cs: desc::USER_CS.into(),
            ss: desc::USER_DS.into(),
            rflags: reg::FLAG_IF | 2,
            orig_rax: u64::MAX,
            ..Regs::default()
        };
        let mut context = UserContext {
            kernel_sp: 0,
            regs,
            slow: Self::SLOW_IRET,
            trap_number: 0,
            error_code: 0,
            fault_addr: 0,
            tls: 0,
        };
        context.set_pc(pc);
        context
    }

    /// Runs the thread in user mode until something needs the kernel's decision.
    ///
    /// Called with interrupts on or off, returns with them on. What the caller checked with interrupts off
    /// (pending signals, say) still holds when user mode is entered. A CPU that must reschedule does not
    /// enter: the answer is `Trap::Interrupt`.
    #[inline]
    pub fn run(&mut self) -> Trap {
        loop {
            // SAFETY: 1. `&mut self` is exclusive; 2. the current thread's table is active.
            let reason = unsafe { entry::run_user(self) };
            if reason == entry::SYSCALL {
                return Trap::Syscall;
            }
            if let Some(trap) = self.trapped(reason) {
                return trap;
            }
        }
    }

    /// Everything but system calls. `None`: back to user mode.
    fn trapped(&mut self, reason: usize) -> Option<Trap> {
        match reason {
            entry::KICKED => {
                irq::enable();
                Some(Trap::Interrupt)
            }
            entry::SLOW => {
                irq::enable();
                self.prepare()
            }
            traps::PAGE_FAULT => Some(self.page_fault()),
            0..32 => self.exception(reason),
            _ => {
                self.left_by_trap();
                traps::user_interrupt(reason);
                Some(Trap::Interrupt)
            }
        }
    }

    /// rcx and r11 are alive, and no system call is to be restarted.
    fn left_by_trap(&mut self) {
        self.slow = Self::SLOW_IRET;
        self.error_code = self.regs.orig_rax;
        self.regs.orig_rax = u64::MAX;
        self.set_pc(self.regs.rip as usize);
    }

    fn page_fault(&mut self) -> Trap {
        let addr = reg::read_cr2() as usize;
        self.left_by_trap();
        self.trap_number = traps::PAGE_FAULT as u32;
        self.fault_addr = addr as u64;
        Trap::PageFault { addr, access: traps::fault_access(self.error_code) }
    }

    #[cold]
    fn exception(&mut self, vector: usize) -> Option<Trap> {
        self.left_by_trap();
        if vector == traps::NO_FPU {
            return fpu::first_use().err().map(|_| exception(SIGKILL, SI_KERNEL, 0));
        }
        self.trap_number = vector as u32;
        let debug_status = if vector == traps::DEBUG { traps::take_debug_status() } else { 0 };
        if vector == traps::DEBUG && debug::trapped(debug_status) {
            self.regs.rflags |= reg::FLAG_RF;
        }
        let float_code = if vector == 16 || vector == 19 { fpu::exception_code(vector) } else { 0 };
        let pc = self.regs.rip as usize;
        Some(match vector {
            0 => exception(SIGFPE, 1, pc),
            1 => exception(SIGTRAP, traps::debug_code(debug_status), pc),
            3 => exception(SIGTRAP, SI_KERNEL, 0),
            6 => exception(SIGILL, 2, pc),
            11 | 12 => exception(SIGBUS, SI_KERNEL, 0),
            16 | 19 => exception(SIGFPE, float_code, pc),
            17 => exception(SIGBUS, 1, 0),
            _ => exception(SIGSEGV, SI_KERNEL, 0),
        })
    }

    /// Does what `slow` asks for.
    #[cold]
    fn prepare(&mut self) -> Option<Trap> {
        if self.slow & Self::SLOW_TLS != 0 {
            self.slow &= !Self::SLOW_TLS;
            context::set_fs_base(self.tls as usize);
        }
        if self.slow & Self::SLOW_PC != 0 {
            return Some(Trap::PageFault { addr: self.regs.rip as usize, access: Access::Exec });
        }
        None
    }

    #[inline]
    pub fn pc(&self) -> usize {
        self.regs.rip as usize
    }

    /// Where the thread goes on. The rest of the registers stays as it is.
    #[inline]
    pub fn set_pc(&mut self, pc: usize) {
        self.regs.rip = pc as u64;
        if pc >= mmu::USER_TOP {
            self.slow |= Self::SLOW_PC | Self::SLOW_IRET;
        } else {
            self.slow &= !Self::SLOW_PC;
        }
    }

    #[inline]
    pub fn sp(&self) -> usize {
        self.regs.rsp as usize
    }

    #[inline]
    pub fn set_sp(&mut self, sp: usize) {
        self.regs.rsp = sp as u64;
    }

    #[inline]
    pub fn syscall_nr(&self) -> usize {
        self.regs.orig_rax as usize
    }

    #[inline]
    pub fn syscall_args(&self) -> [usize; 6] {
        let r = &self.regs;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9].map(|v| v as usize)
    }

    #[inline]
    pub fn set_return(&mut self, value: isize) {
        self.regs.rax = value as u64;
    }

    #[inline]
    pub fn return_value(&self) -> isize {
        self.regs.rax as isize
    }

    /// Gives the thread its thread pointer; takes effect when it enters user mode.
    pub fn set_tls(&mut self, tls: usize) {
        self.tls = tls as u64;
        self.slow |= Self::SLOW_TLS | Self::SLOW_IRET;
    }

    /// The thread pointer of this, the current thread's, context: what [`UserContext::set_tls`] gave or the
    /// program set itself.
    pub fn tls(&self) -> usize {
        if self.slow & Self::SLOW_TLS != 0 { self.tls as usize } else { context::fs_base() }
    }

    /// Makes the thread execute the system call `nr` (again) with the arguments it had.
    pub fn rewind_syscall(&mut self, nr: usize) {
        self.regs.rax = nr as u64;
        self.regs.rip -= SYSCALL_BYTES;
    }

    /// Words of `struct user_regs_struct`.
    pub const PTRACE_WORDS: usize = 27;
    const FS_BASE: usize = 21;
    const GS_BASE: usize = 22;

    /// `struct user_regs_struct` of this, the current thread's, context.
    pub fn ptrace_regs(&self) -> [u64; Self::PTRACE_WORDS] {
        let mut out = [0; Self::PTRACE_WORDS];
        out[..Self::FS_BASE].copy_from_slice(self.words());
        out[Self::FS_BASE] = self.tls() as u64;
        out[Self::GS_BASE] = context::gs_base() as u64;
        out
    }

    /// Takes what a debugger has made of [`UserContext::ptrace_regs`]; what is privileged is put right.
    pub fn set_ptrace_regs(&mut self, regs: &[u64; Self::PTRACE_WORDS]) {
        let (fs_base, gs_base) = (self.tls() as u64, context::gs_base() as u64);
        self.words_mut().copy_from_slice(&regs[..Self::FS_BASE]);
        self.sanitise();
        let in_user = |base: u64| base < mmu::USER_TOP as u64;
        if regs[Self::FS_BASE] != fs_base && in_user(regs[Self::FS_BASE]) {
            self.set_tls(regs[Self::FS_BASE] as usize);
        } else {
            self.set_tls(fs_base as usize);
        }
        if regs[Self::GS_BASE] != gs_base && in_user(regs[Self::GS_BASE]) {
            context::set_gs_base(regs[Self::GS_BASE] as usize);
        }
    }

    /// Makes the processor trap after each instruction, or not. True where it can.
    pub fn set_single_step(&mut self, on: bool) -> bool {
        if on {
            self.regs.rflags |= reg::FLAG_TF;
            self.slow |= Self::SLOW_IRET;
        } else {
            self.regs.rflags &= !reg::FLAG_TF;
        }
        true
    }

    /// A debugger looks at a system call before it is made: the result register says so, as on Linux.
    pub fn show_call_entry(&mut self) {
        const ENOSYS: isize = 38;
        self.set_return(-ENOSYS);
    }

    fn words_mut(&mut self) -> &mut [u64; size_of::<Regs>() / 8] {
        // SAFETY: 1. `Regs` is 21 words without padding, and any words are `Regs`.
        unsafe { &mut *(&raw mut self.regs).cast() }
    }

    fn words(&self) -> &[u64; size_of::<Regs>() / 8] {
        // SAFETY: 1. `Regs` is 21 words without padding.
        unsafe { &*(&raw const self.regs).cast() }
    }

    /// After registers came from a program (signal return): what is privileged is put right, and the
    /// slower way out taken unless `sysret` gives the same result.
    pub(super) fn sanitise(&mut self) {
        let r = &mut self.regs;
        r.rflags = r.rflags & reg::FLAGS_USER | reg::FLAG_IF | 2;
        r.cs = desc::USER_CS.into();
        r.ss = desc::USER_DS.into();
        let same = r.rcx == r.rip && r.r11 == r.rflags && r.rflags & (reg::FLAG_TF | reg::FLAG_RF) == 0;
        self.slow = if same { 0 } else { Self::SLOW_IRET };
        self.set_pc(self.regs.rip as usize);
    }
}

const _: () = assert!(offset_of!(UserContext, regs) + size_of::<Regs>() == offset_of!(UserContext, slow));

fn exception(signal: u32, code: i32, addr: usize) -> Trap {
    Trap::Exception(Exception { signal, code, addr })
}

/// AT_HWCAP (CPUID leaf 1, edx) and AT_HWCAP2 (programs may use the FSGSBASE instructions).
pub fn hwcap() -> (u64, u64) {
    (cpuid::leaf(1, 0).edx.into(), if cpuid::has(cpuid::FSGSBASE) { 2 } else { 0 })
}

/// Program counter and stack pointer in [`UserContext::ptrace_regs`].
pub fn ptrace_pc_sp(words: &[u64; UserContext::PTRACE_WORDS]) -> (u64, u64) {
    (words[16], words[19])
}

/// The result register in [`UserContext::ptrace_regs`].
pub fn ptrace_result(words: &[u64; UserContext::PTRACE_WORDS]) -> i64 {
    words[10] as i64
}
