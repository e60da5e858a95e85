//! The other CPUs: starting them, and interrupting them.

use super::fdt::Tree;
use super::{boot, cpu, mmu, platform, sbi};
use crate::hooks::{Hooks, Ipi};
use crate::{CpuMask, MAX_CPUS, VirtAddr};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// CPUs that run.
static ONLINE: AtomicU64 = AtomicU64::new(1);
/// Registers that raise supervisor software interrupts (ACLINT SSWI), one word per hart; 0: ask the SBI.
static SSWI: AtomicUsize = AtomicUsize::new(0);

/// A CPU asked to start, for boot.S: where its `Local` is, 0 for none, and its hart.
#[repr(C)]
pub(super) struct Starting {
    local: AtomicUsize,
    hart: AtomicUsize,
}

pub(super) static STARTING: [Starting; MAX_CPUS] =
    [const { Starting { local: AtomicUsize::new(0), hart: AtomicUsize::new(0) } }; MAX_CPUS];

pub(super) fn init(tree: Tree<'static>) {
    if let Some(node) = tree.nodes().find(|n| n.is_compatible("riscv,aclint-sswi"))
        && let Some((phys, _)) = platform::registers(&node)
    {
        SSWI.store(phys.to_virt().0, Ordering::Release);
    }
}

pub(super) fn online() -> CpuMask {
    CpuMask(ONLINE.load(Ordering::Relaxed))
}

pub(super) fn set_online(cpu: usize) {
    ONLINE.fetch_or(1 << cpu, Ordering::Relaxed);
}

/// Starts a CPU on the stack that ends at `stack_top`; it calls `hooks().secondary_main(cpu)` with interrupts
/// off. Called once per CPU, with the kernel's page table active.
#[allow(clippy::result_unit_err)] // the one reason is that the firmware refuses
pub fn start(cpu: usize, stack_top: VirtAddr) -> Result<(), ()> {
    if cpu == 0 || cpu >= cpu::count() {
        return Err(());
    }
    let local = cpu::make_local(cpu).ok_or(())?;
    local.start_sp = stack_top.0 & !15;
    local.start_satp = mmu::satp_for_start();
    let address = boot::secondary_entry().0 as usize;
    let local_phys = cpu::phys_of(local).0 as usize;
    STARTING[cpu].hart.store(local.hart, Ordering::Relaxed);
    STARTING[cpu].local.store(local_phys, Ordering::Release);
    sbi::hart_start(local.hart, address, local_phys).map_err(|_| ())
}

/// Interrupts CPUs, this one too if it is in the set. Those that do not run are left out.
pub fn send_ipi(cpus: CpuMask, ipi: Ipi) {
    let cpus = CpuMask(cpus.0 & online().0);
    for cpu in cpus.iter() {
        if let Some(local) = cpu::local_of(cpu) {
            local.ipi.fetch_or(ipi as u32, Ordering::Release);
        }
    }
    let sswi = SSWI.load(Ordering::Relaxed);
    if sswi == 0 {
        return for_hart_masks(cpus, sbi::send_ipi);
    }
    for cpu in cpus.iter() {
        // SAFETY: 1. the register of an existing hart, mapped in the direct map; 2. what the word in
        // `ipi` says is visible before the interrupt: the fence.
        unsafe {
            core::arch::asm!("fence w, o", options(nostack, preserves_flags));
            ((sswi + 4 * cpu::hart_of(cpu)) as *mut u32).write_volatile(1);
        }
    }
}

/// Handles what other CPUs asked of this one. Interrupts masked.
pub(super) fn receive_ipi(hooks: &Hooks) {
    // SAFETY: 1. clears this hart's pending software interrupt, before its reasons are read.
    unsafe { super::csr::clear!("sip", 1usize << super::csr::IRQ_SOFT) };
    let Some(local) = cpu::local_of(cpu::id()) else { return };
    let reasons = local.ipi.swap(0, Ordering::AcqRel);
    if reasons & Ipi::Stop as u32 != 0 {
        super::power::halt();
    }
    if reasons & Ipi::Reschedule as u32 != 0 {
        (hooks.ipi_reschedule)();
    }
    if reasons & Ipi::Call as u32 != 0 {
        (hooks.ipi_call)();
    }
}

/// Calls `f(mask, base)` for the harts of `cpus`, 64 neighbours at a time, as SBI calls take them.
pub(super) fn for_hart_masks(cpus: CpuMask, mut f: impl FnMut(usize, usize)) {
    let mut left = cpus.0 & online().0;
    while left != 0 {
        let base = CpuMask(left).iter().map(cpu::hart_of).min().unwrap_or(0);
        let mut mask = 0;
        for cpu in CpuMask(left).iter().take(MAX_CPUS) {
            let distance = cpu::hart_of(cpu) - base;
            if distance < usize::BITS as usize {
                mask |= 1 << distance;
                left &= !(1 << cpu);
            }
        }
        f(mask, base);
    }
}
