//! Hardware breakpoints: the debug registers of a thread, for its tracer (ptrace(2), gdb's `watch`).
//!
//! A thread without breakpoints has a control word of 0, and a switch costs it one comparison. The registers stay loaded
//! while the kernel works for the thread: an access of the kernel's own to a watched address traps, too, and is
//! ignored (`traps::kernel_trap`). Source: Intel SDM, volume 3B, 18.2.

use super::{context, irq};
use core::arch::asm;

/// Enables and settings of the four breakpoints that programs may choose: 2 bits each, then 4 bits each.
const CONTROL_MEANS: u64 = 0xffff_00ff;
/// Reads as one.
const CONTROL_FIXED: u64 = 1 << 10;
/// What DR6 shows where nothing happened.
const STATUS_FIXED: u64 = 0xffff_0ff0;
/// A breakpoint was met (one bit each); the thread was stepping.
const STATUS_MEANS: u64 = 0x400f;

/// The debug registers of a thread, as `struct user` numbers them.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugRegs {
    addr: [u64; 4],
    status: u64,
    control: u64,
}

/// The value cannot be set: EINVAL, or EIO for a register that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Value,
    Register,
}

impl DebugRegs {
    /// Registers that a tracer can name.
    pub const COUNT: usize = 8;

    pub const NONE: DebugRegs = DebugRegs { addr: [0; 4], status: 0, control: 0 };

    pub fn get(&self, number: usize) -> u64 {
        match number {
            0..4 => self.addr[number],
            6 => self.status ^ STATUS_FIXED,
            7 => self.control,
            _ => 0,
        }
    }

    /// Changes a register, checked as Linux does: addresses of user memory, aligned to what is watched; no breakpoints
    /// on ports.
    pub fn set(&mut self, number: usize, value: u64) -> Result<(), Refused> {
        let mut new = *self;
        match number {
            0..4 => new.addr[number] = value,
            6 => new.status = value ^ STATUS_FIXED,
            7 => new.control = value & CONTROL_MEANS,
            _ => return Err(Refused::Register),
        }
        if (0..4).all(|slot| new.is_good(slot)) {
            *self = new;
            Ok(())
        } else {
            Err(Refused::Value)
        }
    }

    fn is_good(&self, slot: usize) -> bool {
        let addr = self.addr[slot];
        if addr >= super::mmu::USER_TOP as u64 {
            return false;
        }
        if self.control >> (slot * 2) & 3 == 0 {
            return true;
        }
        let (kind, len) = (self.kind(slot), self.control >> (18 + slot * 4) & 3);
        let bytes = [1, 2, 8, 4][len as usize];
        match kind {
            // An instruction's first byte.
            0 => len == 0,
            2 => false,
            _ => addr.is_multiple_of(bytes),
        }
    }

    /// 0: execution, 1: writing, 3: reading and writing.
    fn kind(&self, slot: usize) -> u64 {
        self.control >> (16 + slot * 4) & 3
    }

    pub(super) fn is_empty(&self) -> bool {
        self.control & 0xff == 0
    }
}

/// Loads the registers of the thread that runs next. Interrupts off.
#[cold]
pub(super) fn load(regs: &DebugRegs) {
    let [a, b, c, d] = regs.addr;
    // SAFETY: 1. addresses are of user memory (`is_good`), so no instruction of the kernel's meets a breakpoint;
    // 2. data breakpoints met by the kernel are ignored (`traps::kernel_trap`).
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", in(reg) a, in(reg) b, in(reg) c, in(reg) d, options(nomem, nostack));
        asm!("mov dr7, {}", in(reg) regs.control | CONTROL_FIXED, options(nomem, nostack));
    }
}

/// No breakpoints. Interrupts off.
#[cold]
pub(super) fn unload() {
    // SAFETY: 1. disables breakpoints.
    unsafe { asm!("mov dr7, {}", in(reg) CONTROL_FIXED, options(nomem, nostack)) };
}

/// The registers of the current thread.
pub fn current() -> DebugRegs {
    let flags = irq::disable();
    let regs = context::debug().map_or(DebugRegs::NONE, |regs| *regs);
    irq::restore(flags);
    regs
}

/// Changes them.
pub fn set_current(regs: &DebugRegs) {
    let flags = irq::disable();
    if let Some(own) = context::debug() {
        let had = !own.is_empty();
        *own = *regs;
        match regs.is_empty() {
            false => load(regs),
            true if had => unload(),
            true => {}
        }
    }
    irq::restore(flags);
}

/// The current thread trapped with this DR6. Whether an instruction met its breakpoint before it ran: it must not meet
/// it again when it is resumed.
pub(super) fn trapped(status: u64) -> bool {
    let flags = irq::disable();
    let mut before = false;
    if let Some(own) = context::debug() {
        own.status = status & STATUS_MEANS;
        before = (0..4).any(|slot| status >> slot & 1 != 0 && own.kind(slot) == 0);
    }
    irq::restore(flags);
    before
}
