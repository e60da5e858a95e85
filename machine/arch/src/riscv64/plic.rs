//! The platform-level interrupt controller. Source: RISC-V PLIC specification 1.0.
//!
//! Device lines go to CPU 0. Each CPU has a *context* (a set of enable bits, a threshold, a claim
//! register); which one, the device tree says.

use super::fdt::{Tree, cpu_hart};
use super::io::IoRegion;
use super::{cpu, csr, irq, platform};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

const PRIORITY: usize = 0;
const ENABLE: usize = 0x2000;
const ENABLE_STRIDE: usize = 0x80;
const CONTEXT: usize = 0x20_0000;
const CONTEXT_STRIDE: usize = 0x1000;
const THRESHOLD: usize = 0;
const CLAIM: usize = 4;

/// The registers: address and length, 0 when there is no controller; written once, at boot.
static BASE: AtomicUsize = AtomicUsize::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);
static LINES: AtomicU32 = AtomicU32::new(1);
/// The context of CPU 0 in supervisor mode.
static TARGET: AtomicUsize = AtomicUsize::new(0);
/// Guards the enable registers: a word serves 32 lines.
static LOCK: AtomicBool = AtomicBool::new(false);

fn registers() -> Option<IoRegion> {
    let base = BASE.load(Ordering::Acquire);
    // SAFETY: 1. `init` stored the address and length of mapped registers.
    (base != 0).then(|| unsafe { IoRegion::mmio(crate::VirtAddr(base), LEN.load(Ordering::Relaxed)) })
}

/// Finds the controller; all lines start masked.
pub fn init(tree: Tree<'static>) {
    let is_plic =
        |n: &super::fdt::Node| n.is_compatible("riscv,plic0") || n.is_compatible("sifive,plic-1.0.0");
    let Some(node) = tree.nodes().find(is_plic) else { return };
    let Some((phys, io)) = platform::registers(&node) else { return };
    let lines = node.cell("riscv,ndev").unwrap_or(0) + 1;
    TARGET.store(context_of(tree, &node, cpu::hart_of(0)).unwrap_or(1), Ordering::Relaxed);
    LINES.store(lines, Ordering::Relaxed);
    LEN.store(io.len(), Ordering::Relaxed);
    BASE.store(phys.to_virt().0, Ordering::Release);
    let target = TARGET.load(Ordering::Relaxed);
    for word in 0..(lines as usize).div_ceil(32) {
        io.write32(ENABLE + ENABLE_STRIDE * target + 4 * word, 0);
    }
    for line in 1..lines as usize {
        io.write32(PRIORITY + 4 * line, 1);
    }
    io.write32(CONTEXT + CONTEXT_STRIDE * target + THRESHOLD, 0);
}

/// The context that is wired to the external interrupt of a hart in supervisor mode: the position of
/// its interrupt controller in `interrupts-extended`.
fn context_of(tree: Tree, plic: &super::fdt::Node, hart: usize) -> Option<usize> {
    let mut wanted = None;
    let mut in_hart = false;
    for node in tree.nodes() {
        if node.parent == "cpus" {
            in_hart = cpu_hart(&node) == Some(hart);
        } else if in_hart && node.base_name() == "interrupt-controller" {
            wanted = node.cell("phandle");
            break;
        }
    }
    let wanted = wanted?;
    let mut cells = plic.cells("interrupts-extended");
    let mut context = 0;
    while let (Some(controller), Some(line)) = (cells.next(), cells.next()) {
        if controller == wanted && line as usize == csr::IRQ_EXTERNAL {
            return Some(context);
        }
        context += 1;
    }
    None
}

pub fn lines() -> u32 {
    LINES.load(Ordering::Relaxed)
}

/// Sets or clears a line's enable bit for CPU 0.
pub fn set_enabled(line: u32, on: bool) {
    let Some(io) = registers().filter(|_| line > 0 && line < lines()) else { return };
    let offset = ENABLE + ENABLE_STRIDE * TARGET.load(Ordering::Relaxed) + 4 * (line as usize / 32);
    let flags = irq::disable();
    while LOCK.swap(true, Ordering::Acquire) {
        cpu::relax();
    }
    let word = io.read32(offset);
    let bit = 1 << (line % 32);
    io.write32(offset, if on { word | bit } else { word & !bit });
    LOCK.store(false, Ordering::Release);
    irq::restore(flags);
}

/// Handles all lines that wait. On CPU 0, interrupts masked.
///
/// Whether another line waits, the CPU's own register tells: asking the controller is one more access to a device, which
/// a hypervisor or an emulator has to be entered for.
pub fn dispatch(handle: fn(u32)) {
    let Some(io) = registers() else { return };
    let claim = CONTEXT + CONTEXT_STRIDE * TARGET.load(Ordering::Relaxed) + CLAIM;
    loop {
        let line = io.read32(claim);
        if line == 0 {
            return;
        }
        handle(line);
        io.write32(claim, line);
        if csr::read!("sip") & 1 << csr::IRQ_EXTERNAL == 0 {
            return;
        }
    }
}
