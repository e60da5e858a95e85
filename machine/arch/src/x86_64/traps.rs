//! Traps that hit kernel code, and interrupts wherever they hit.

use super::user::Regs;
use super::{apic, irq, mmu, percpu, power, reg, smp, timer, uaccess};
use crate::{Access, Ipi, KernelFault, hooks, layout};

pub const DEBUG: usize = 1;
const NMI: usize = 2;
pub const NO_FPU: usize = 7;
const DOUBLE_FAULT: usize = 8;
pub const PAGE_FAULT: usize = 14;

/// Vectors: exceptions, then one per interrupt line, then the processor's own.
pub const FIRST_LINE: usize = 0x20;
pub const LINES_MAX: usize = 0xc0;
pub const TIMER: usize = 0xf0;
pub const RESCHEDULE: usize = 0xf1;
pub const CALL: usize = 0xf2;
pub const FLUSH: usize = 0xf3;
pub const SPURIOUS: usize = 0xff;

/// The frame of a trap in kernel mode, as `entry` builds it.
#[repr(C)]
pub struct Frame {
    _pad: u64,
    regs: Regs,
}

/// What the page-fault error code says.
pub fn fault_access(error_code: u64) -> Access {
    match error_code {
        e if e & 1 << 4 != 0 => Access::Exec,
        e if e & 1 << 1 != 0 => Access::Write,
        _ => Access::Read,
    }
}

/// Reads and clears DR6.
pub fn take_debug_status() -> u64 {
    let status: u64;
    // SAFETY: 1. the register only tells what happened.
    unsafe {
        core::arch::asm!("mov {}, dr6", "mov dr6, {}", out(reg) status, in(reg) 0xffff_0ff0u64, options(nomem, nostack));
    }
    status
}

/// `si_code` of a debug exception: single step, hardware breakpoint, `int1`.
pub fn debug_code(status: u64) -> i32 {
    match status {
        s if s & 1 << 14 != 0 => 2,
        s if s & 0xf != 0 => 4,
        _ => 1,
    }
}

/// What is done at once, masked or not, without telling anybody: another CPU waits for it.
fn silent_interrupt(vector: usize) -> bool {
    match vector {
        FLUSH => {
            mmu::answer_shootdowns();
            apic::end_of_interrupt();
            true
        }
        _ => vector == SPURIOUS,
    }
}

/// An interrupt that hit user mode.
pub fn user_interrupt(vector: usize) {
    if !silent_interrupt(vector) {
        irq::begin_in_user();
        interrupt(vector, true);
        irq::end_in_user();
    }
}

/// An interrupt, from user or kernel mode; masked, off in hardware.
pub fn interrupt(vector: usize, user: bool) {
    let Some(hooks) = hooks() else { return apic::end_of_interrupt() };
    (hooks.irq_enter)();
    match vector {
        TIMER => {
            apic::end_of_interrupt();
            if timer::expired() {
                (hooks.timer)();
            }
        }
        RESCHEDULE => {
            apic::end_of_interrupt();
            (hooks.ipi_reschedule)();
        }
        CALL => {
            apic::end_of_interrupt();
            (hooks.ipi_call)();
        }
        // A level-triggered line would come again if it were acknowledged before its device was served.
        line if (FIRST_LINE..FIRST_LINE + LINES_MAX).contains(&line) => {
            (hooks.irq)((line - FIRST_LINE) as u32);
            apic::end_of_interrupt();
        }
        _ => apic::end_of_interrupt(),
    }
    (hooks.irq_exit)(user);
}

/// An interrupt in kernel mode. `flags` is what the return restores.
pub extern "C" fn kernel_irq(vector: usize, flags: &mut u64) {
    let vector = vector & 0xff;
    if silent_interrupt(vector) {
        return;
    }
    if irq::begin_in_kernel(vector) {
        interrupt(vector, false);
        irq::end_in_kernel();
    } else {
        *flags &= !reg::FLAG_IF;
    }
}

/// An exception in kernel mode; interrupts off.
pub extern "C" fn kernel_trap(frame: &mut Frame, vector: usize) {
    if vector == PAGE_FAULT {
        let addr = reg::read_cr2() as usize;
        if user_copy_fault(&mut frame.regs, addr) {
            return;
        }
        fatal(frame, page_fault_name(&frame.regs, addr), vector, addr);
    }
    if vector == DEBUG {
        // The kernel touched what a tracer watches for a program: the breakpoint is the program's.
        take_debug_status();
        return;
    }
    // A user copy with a non-canonical address is a general protection fault.
    if let Some(fixup) = uaccess::fixup(frame.regs.rip as usize) {
        frame.regs.rip = fixup as u64;
        return;
    }
    fatal(frame, exception_name(vector), vector, 0);
}

/// A fault in the user-access functions: makes the page present and retries, or ends the copy.
fn user_copy_fault(regs: &mut Regs, addr: usize) -> bool {
    let pc = regs.rip as usize;
    let Some(fixup) = uaccess::fixup(pc) else { return false };
    let in_user = addr < mmu::USER_TOP;
    if !in_user && !uaccess::may_touch_kernel(pc) {
        return false;
    }
    let may_sleep = super::cpu::preempt_count() == 0 && irq::is_enabled();
    let retry = in_user && may_sleep && {
        let access = fault_access(regs.orig_rax);
        let (present, off) = irq::lazily(|| hooks().is_some_and(|h| (h.uaccess_fault)(addr, access)));
        regs.rflags = regs.rflags & !reg::FLAG_IF | if off { 0 } else { reg::FLAG_IF };
        present
    };
    if !retry {
        regs.rip = fixup as u64;
    }
    true
}

/// NMI, debug, double fault, machine check: on a stack of their own, GS put right.
pub extern "C" fn paranoid_trap(frame: &Frame, vector: usize) {
    match vector {
        NMI => {
            if smp::stopping() {
                power::halt();
            }
        }
        DEBUG => {
            take_debug_status();
        }
        DOUBLE_FAULT => {
            let addr = reg::read_cr2() as usize;
            let what = if near(addr, frame.regs.rsp) { "kernel stack overflow" } else { "double fault" };
            fatal(frame, what, vector, addr);
        }
        _ => fatal(frame, "machine check", vector, 0),
    }
}

/// Whether a faulting address is one that pushing on this stack, or making a large frame, touches.
fn near(addr: usize, sp: u64) -> bool {
    let sp = sp as usize;
    (layout::VMALLOC_BASE..layout::VMALLOC_BASE + layout::VMALLOC_SIZE).contains(&addr)
        && addr >= sp.saturating_sub(64 << 10)
        && addr < sp.saturating_add(4096)
}

fn page_fault_name(regs: &Regs, addr: usize) -> &'static str {
    if near(addr, regs.rsp) && addr < regs.rsp as usize {
        return "kernel stack overflow";
    }
    match fault_access(regs.orig_rax) {
        _ if regs.orig_rax & 1 << 3 != 0 => "page fault (reserved bit in page table)",
        Access::Exec => "page fault (instruction fetch)",
        Access::Write => "page fault (write)",
        Access::Read => "page fault (read)",
    }
}

fn exception_name(vector: usize) -> &'static str {
    match vector {
        0 => "divide error",
        3 => "breakpoint",
        5 => "bound range exceeded",
        6 => "illegal instruction",
        NO_FPU => "FPU used in the kernel",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack segment fault",
        13 => "general protection fault",
        16 | 19 => "floating-point exception",
        17 => "alignment check",
        21 => "control protection fault",
        _ => "unexpected exception",
    }
}

/// Reports and does not come back.
fn fatal(frame: &Frame, what: &'static str, vector: usize, addr: usize) -> ! {
    irq::off_for_good();
    let r = &frame.regs;
    let fault = KernelFault {
        what,
        pc: r.rip as usize,
        sp: r.rsp as usize,
        fp: r.rbp as usize,
        addr,
        code: vector << 32 | r.orig_rax as usize & 0xffff_ffff,
        regs: named(r),
    };
    match hooks() {
        Some(hooks) => (hooks.kernel_fault)(&fault),
        None => early_fatal(&fault),
    }
}

fn named(r: &Regs) -> [(&'static str, usize); 32] {
    let mut regs = [("", 0); 32];
    let values = [
        ("rip", r.rip),
        ("rsp", r.rsp),
        ("flags", r.rflags),
        ("rax", r.rax),
        ("rbx", r.rbx),
        ("rcx", r.rcx),
        ("rdx", r.rdx),
        ("rsi", r.rsi),
        ("rdi", r.rdi),
        ("rbp", r.rbp),
        ("r8", r.r8),
        ("r9", r.r9),
        ("r10", r.r10),
        ("r11", r.r11),
        ("r12", r.r12),
        ("r13", r.r13),
        ("r14", r.r14),
        ("r15", r.r15),
        ("cs", r.cs),
        ("ss", r.ss),
        ("cr0", reg::read_cr0()),
        ("cr2", reg::read_cr2()),
        ("cr3", reg::read_cr3()),
        ("cr4", reg::read_cr4()),
        // SAFETY: 1. GS is the kernel's in kernel code that runs Rust.
        ("gs", unsafe { (*percpu::this()).this } as u64),
    ];
    for (slot, (name, value)) in regs.iter_mut().zip(values) {
        *slot = (name, value as usize);
    }
    regs
}

/// A fault before there is anybody to tell.
fn early_fatal(fault: &KernelFault) -> ! {
    use core::fmt::Write;
    let _ = writeln!(
        super::console::Early,
        "\r\nfault at boot: {} pc {:#x} addr {:#x} code {:#x}\r",
        fault.what,
        fault.pc,
        fault.addr,
        fault.code
    );
    power::halt()
}

/// The vector of an inter-processor interrupt; `Stop` is an NMI.
pub fn ipi_vector(ipi: Ipi) -> Option<usize> {
    match ipi {
        Ipi::Reschedule => Some(RESCHEDULE),
        Ipi::Call => Some(CALL),
        Ipi::Stop => None,
    }
}
