//! The Rust halves of the traps: from user mode ([`user_trap`]) and from the kernel ([`kernel_trap`]).
//!
//! **Invariant.** Code that may switch tasks runs with `sstatus.SPP` clear and `SPIE` set, so that the
//! next return to user mode, whoever's it is, goes to user mode and with interrupts on. A trap from kernel
//! mode sets SPP; it is cleared here before any function of a layer above runs, and set again last.

use super::cpu::{load, store};
use super::entry::{FRAME_FP, FRAME_PC};
use super::user::UserContext;
use super::{console, context, csr, fpu, irq, plic, smp, timer, uaccess};
use crate::hooks::{Access, KernelFault, hooks};
use crate::trap::{Exception, Trap};

/// scause of an `ecall` in user mode.
pub const USER_ECALL: usize = 8;

const INSTRUCTION_MISALIGNED: usize = 0;
const INSTRUCTION_ACCESS: usize = 1;
const ILLEGAL_INSTRUCTION: usize = 2;
const BREAKPOINT: usize = 3;
const LOAD_MISALIGNED: usize = 4;
const LOAD_ACCESS: usize = 5;
const STORE_MISALIGNED: usize = 6;
const STORE_ACCESS: usize = 7;
const INSTRUCTION_PAGE: usize = 12;
const LOAD_PAGE: usize = 13;
const STORE_PAGE: usize = 15;

/// The saved registers of a kernel-mode trap: word `n` is register `n`, and pc and fp at the top.
type Frame = [usize; super::entry::FRAME_BYTES / 8];

/// Handles a trap from user mode that is not a system call. `None`: done, go on in user mode.
/// Entered with the mask dropped and SIE off.
#[cold]
pub fn user_trap(context: &mut UserContext, cause: usize, value: usize) -> Option<Trap> {
    if cause & csr::CAUSE_INTERRUPT != 0 {
        irq::disable();
        interrupt(cause & !csr::CAUSE_INTERRUPT, true);
        irq::drop_mask();
        return Some(Trap::Interrupt);
    }
    if cause == ILLEGAL_INSTRUCTION {
        match fpu::turn_on() {
            fpu::TurnOn::Done => return None,
            fpu::TurnOn::OutOfMemory => return Some(exception(SIGBUS, BUS_ADRERR, context.pc())),
            fpu::TurnOn::IsOn => {}
        }
    }
    Some(user_exception(context, cause, value))
}

const SIGILL: u32 = 4;
const SIGTRAP: u32 = 5;
const SIGBUS: u32 = 7;
const SIGSEGV: u32 = 11;
const ILL_ILLOPC: i32 = 1;
const TRAP_BRKPT: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRALN: i32 = 1;
const BUS_ADRERR: i32 = 2;

/// What an exception is to the layers above: signals and codes as in Linux's arch/riscv/kernel/traps.c.
fn user_exception(context: &UserContext, cause: usize, value: usize) -> Trap {
    if let Some(access) = page_fault(cause) {
        return Trap::PageFault { addr: value, access };
    }
    match cause {
        INSTRUCTION_MISALIGNED | LOAD_MISALIGNED | STORE_MISALIGNED => exception(SIGBUS, BUS_ADRALN, value),
        INSTRUCTION_ACCESS | LOAD_ACCESS | STORE_ACCESS => exception(SIGSEGV, SEGV_ACCERR, value),
        BREAKPOINT => exception(SIGTRAP, TRAP_BRKPT, context.pc()),
        _ => exception(SIGILL, ILL_ILLOPC, context.pc()),
    }
}

fn exception(signal: u32, code: i32, addr: usize) -> Trap {
    Trap::Exception(Exception { signal, code, addr })
}

fn page_fault(cause: usize) -> Option<Access> {
    match cause {
        INSTRUCTION_PAGE => Some(Access::Exec),
        LOAD_PAGE => Some(Access::Read),
        STORE_PAGE => Some(Access::Write),
        _ => None,
    }
}

/// One interrupt, masked. `irq_exit` may switch tasks when kernel code was interrupted.
fn interrupt(number: usize, user: bool) {
    let Some(hooks) = hooks() else { return };
    (hooks.irq_enter)();
    match number {
        csr::IRQ_TIMER => {
            timer::fired();
            (hooks.timer)();
        }
        csr::IRQ_EXTERNAL => plic::dispatch(hooks.irq),
        csr::IRQ_SOFT => smp::receive_ipi(hooks),
        _ => {}
    }
    (hooks.irq_exit)(user);
}

/// A trap from kernel mode. Returns what to set in sstatus before `sret`, with SIE off in hardware.
pub unsafe extern "C" fn kernel_trap(frame: *mut Frame, cause: usize, value: usize) -> usize {
    if cause & csr::CAUSE_INTERRUPT != 0 {
        return kernel_interrupt(cause & !csr::CAUSE_INTERRUPT);
    }
    // SAFETY: 1. `entry` passes the frame it has just written on the stack, used by nobody else.
    let frame = unsafe { &mut *frame };
    kernel_exception(frame, cause, value)
}

/// An interrupt came, so SIE was on. Masked: it stays pending, and SIE stays off until the mask drops.
fn kernel_interrupt(number: usize) -> usize {
    let masked = load!("lbu", irq_masked, u8) != 0;
    store!("sb", irq_hard_off, 1u8);
    if masked {
        // SAFETY: 1. `sret` copies SPIE to SIE: interrupts stay off, as `irq_hard_off` says.
        unsafe { csr::clear!("sstatus", csr::SSTATUS_SPIE) };
        return csr::SSTATUS_SPP;
    }
    store!("sb", irq_masked, 1u8);
    // SAFETY: 1. the invariant of this module; SPP is set again by the caller.
    unsafe { csr::clear!("sstatus", csr::SSTATUS_SPP) };
    interrupt(number, false);
    return_unmasked()
}

/// Goes back to code that had interrupts on. This may be another CPU than the one the trap came from.
fn return_unmasked() -> usize {
    if load!("lbu", irq_hard_off, u8) == 0 {
        irq::hard_disable();
    }
    store!("sb", irq_masked, 0u8);
    store!("sb", irq_hard_off, 0u8);
    csr::SSTATUS_SPP | csr::SSTATUS_SPIE
}

fn kernel_exception(frame: &mut Frame, cause: usize, value: usize) -> usize {
    let hard_off_before = load!("lbu", irq_hard_off, u8);
    store!("sb", irq_hard_off, irq::LAZY);
    let pc = frame[FRAME_PC];
    let Some(fixup) = uaccess::fixup(pc) else { kernel_fault(frame, cause, value) };
    // A kernel address in a user copy is a bug of the caller; one in a probing read is not.
    let is_user = value as isize >= 0;
    let may_sleep = is_user && load!("lw", preempt_count, u32) == 0 && load!("lbu", irq_masked, u8) == 0;
    if !is_user && !fixup.any_address {
        kernel_fault(frame, cause, value);
    }
    if may_sleep && let Some(access) = page_fault(cause) {
        let resolved = resolve_user_fault(value, access);
        if !resolved {
            frame[FRAME_PC] = fixup.target;
        }
        return return_unmasked();
    }
    frame[FRAME_PC] = fixup.target;
    store!("sb", irq_hard_off, hard_off_before);
    // SPIE still says what SIE was.
    csr::SSTATUS_SPP
}

/// Asks the layers above to make a user page present, with interrupts on as in a fault from user mode.
fn resolve_user_fault(addr: usize, access: Access) -> bool {
    let Some(hooks) = hooks() else { return false };
    // SAFETY: 1. the invariant of this module; 2. the fault hit code that had interrupts on.
    unsafe {
        csr::clear!("sstatus", csr::SSTATUS_SPP | uaccess::SUM_TOGGLED);
        csr::set!("sstatus", csr::SSTATUS_SPIE);
    }
    let resolved = (hooks.uaccess_fault)(addr, access);
    // SAFETY: 1. the interrupted code is a user copy, which runs with SUM set.
    unsafe { csr::set!("sstatus", uaccess::SUM_TOGGLED) };
    resolved
}

fn cause_text(cause: usize) -> &'static str {
    match cause {
        INSTRUCTION_MISALIGNED => "misaligned instruction fetch",
        INSTRUCTION_ACCESS => "instruction access fault",
        ILLEGAL_INSTRUCTION => "illegal instruction",
        BREAKPOINT => "breakpoint",
        LOAD_MISALIGNED => "misaligned load",
        LOAD_ACCESS => "load access fault",
        STORE_MISALIGNED => "misaligned store",
        STORE_ACCESS => "store access fault",
        INSTRUCTION_PAGE => "page fault (execute)",
        LOAD_PAGE => "page fault (read)",
        STORE_PAGE => "page fault (write)",
        _ => "unknown exception",
    }
}

fn kernel_fault(frame: &Frame, cause: usize, value: usize) -> ! {
    let mut what = cause_text(cause);
    if page_fault(cause).is_some() && value < 4096 {
        what = "null pointer dereference";
    }
    report(frame, what, cause, value)
}

/// A frame could not be written: the stack is full (or its pointer is wild). On the emergency stack.
pub unsafe extern "C" fn stack_fault(frame: *const Frame, cause: usize, value: usize) -> ! {
    // SAFETY: 1. `entry` passes the frame it has just written on the emergency stack.
    let frame = unsafe { &*frame };
    let sp = frame[2];
    let below = sp.wrapping_sub(value);
    // The store that faulted was within the frame below sp; the guard page is not larger than a page.
    let what = if below <= super::entry::FRAME_BYTES { "kernel stack overflow" } else { "fault in a trap" };
    report(frame, what, cause, value)
}

const NAMES: [&str; 32] = [
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
    "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];

fn report(frame: &Frame, what: &'static str, code: usize, addr: usize) -> ! {
    store!("sb", irq_masked, 1u8);
    store!("sb", irq_hard_off, 1u8);
    // SAFETY: 1. the invariant of this module: the task may be killed and another one switched to.
    unsafe {
        csr::clear!("sstatus", csr::SSTATUS_SPP | uaccess::SUM_TOGGLED);
        csr::set!("sstatus", csr::SSTATUS_SPIE);
    }
    let (pc, fp) = (frame[FRAME_PC], frame[FRAME_FP]);
    let mut regs = [("", 0); 32];
    for (n, reg) in regs.iter_mut().enumerate() {
        let value = match n {
            0 => pc,
            8 => fp,
            _ => frame[n],
        };
        *reg = (NAMES[n], value);
    }
    let fault = KernelFault { what, pc, sp: frame[2], fp, addr, code, regs };
    match hooks() {
        Some(hooks) => (hooks.kernel_fault)(&fault),
        None => too_early(&fault),
    }
}

fn too_early(fault: &KernelFault) -> ! {
    use core::fmt::Write;
    let _ = write!(console::Writer, "{} at {:#x}, address {:#x}\r\n", fault.what, fault.pc, fault.addr);
    super::power::halt()
}

/// The state of the current task, if it has been switched to at least once.
pub(super) fn task_state() -> Option<&'static mut context::TaskState> {
    let state = load!("ld", task_state, *mut context::TaskState);
    // SAFETY: 1. `switch` stored it and the task runs, so it is alive; 2. only the running task's own
    // code on this CPU uses it, one borrow at a time, with preemption unable to interleave another user.
    unsafe { state.as_mut() }
}
