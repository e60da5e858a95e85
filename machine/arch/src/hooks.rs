//! The few functions the architecture layer calls in the layers above, installed once at boot.
//!
//! A table of plain function pointers rather than a trait object: one indirect call, no allocation, and
//! it exists before the heap does. Before [`install_hooks`] a kernel fault prints and halts.

use crate::{PhysAddr, VirtAddr};
use core::sync::atomic::{AtomicPtr, Ordering};

/// How memory was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Exec,
}

/// A user address that could not be accessed. Becomes EFAULT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// Why one CPU interrupts another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Ipi {
    /// Look at who should run (`hooks().ipi_reschedule`).
    Reschedule = 1,
    /// Run the queued cross-CPU function calls (`hooks().ipi_call`).
    Call = 2,
    /// Stop for ever: the machine is going down or panicking.
    Stop = 4,
}

/// A fault or bug in kernel mode that nothing fixed up.
#[derive(Debug)]
pub struct KernelFault {
    /// In words: "page fault (write)", "illegal instruction", "kernel stack overflow", ...
    pub what: &'static str,
    pub pc: usize,
    pub sp: usize,
    pub fp: usize,
    /// The faulting address, where there is one.
    pub addr: usize,
    /// Architecture cause code (scause, or vector and error code).
    pub code: usize,
    /// All general registers with their names, for the report.
    pub regs: [(&'static str, usize); 32],
}

/// See each field for who calls it and how.
pub struct Hooks {
    /// A device interrupt `line`, hard-interrupt context, interrupts off.
    pub irq: fn(line: u32),
    /// This CPU's clock event fired; hard-interrupt context, interrupts off.
    pub timer: fn(),
    /// `Ipi::Reschedule` arrived: sets `need_resched`; hard-interrupt context, interrupts off.
    pub ipi_reschedule: fn(),
    /// `Ipi::Call` arrived; hard-interrupt context, interrupts off.
    pub ipi_call: fn(),
    /// First and last thing of every interrupt. `irq_exit` runs with interrupts off after the hard-interrupt count
    /// was dropped; `user` says what was interrupted. It may run softirqs, and when kernel code was
    /// interrupted, switch tasks.
    pub irq_enter: fn(),
    pub irq_exit: fn(user: bool),
    /// A user copy faulted at a user address with preemption on: make the page present (may sleep,
    /// interrupts on) and say whether to retry.
    pub uaccess_fault: fn(addr: usize, access: Access) -> bool,
    /// An oops. Interrupts off. Kills the task or panics.
    pub kernel_fault: fn(&KernelFault) -> !,
    /// A started CPU arrives here on its boot stack, interrupts off.
    pub secondary_main: fn(cpu: usize) -> !,
    /// Maps device registers that the direct map does not cover.
    pub ioremap: fn(PhysAddr, usize) -> Option<VirtAddr>,
}

static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(core::ptr::null_mut());

/// Installs the table. Called once, by CPU 0, before interrupts are turned on.
pub fn install_hooks(hooks: &'static Hooks) {
    HOOKS.store(core::ptr::from_ref(hooks).cast_mut(), Ordering::Release);
}

/// The installed table, or `None` very early.
pub fn hooks() -> Option<&'static Hooks> {
    let table = HOOKS.load(Ordering::Acquire);
    // SAFETY: 1. non-null values come only from `install_hooks`, which takes a `&'static`;
    // 2. the table is never changed afterwards.
    unsafe { table.as_ref() }
}
