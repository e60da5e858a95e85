//! Ending: off, reset, halt.

use super::acpi::{self, Register};
use super::io::IoRegion;
use super::irq;
use super::reg::{inb, outb, outw};
use crate::VirtAddr;
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Where the ACPI sleep registers are, as `platform` found them; 0: nowhere.
static PM1A_CONTROL: AtomicU32 = AtomicU32::new(0);
static PM1B_CONTROL: AtomicU32 = AtomicU32::new(0);
static SLEEP_TYPES: AtomicU32 = AtomicU32::new(0);
/// The sleep control register of hardware-reduced ACPI: a port (below 64 Ki) or a virtual address.
static SLEEP_CONTROL: AtomicUsize = AtomicUsize::new(0);

/// Remembers how to turn the machine off. `map` gives the virtual address of a register in memory.
pub fn init(fadt: &acpi::Fadt, sleep_types: (u8, u8), map: impl Fn(u64) -> Option<usize>) {
    let port = |register: &Option<Register>| match register {
        Some(Register::Port(port)) => u32::from(*port),
        _ => 0,
    };
    PM1A_CONTROL.store(port(&fadt.pm1a_control), Ordering::Relaxed);
    PM1B_CONTROL.store(port(&fadt.pm1b_control), Ordering::Relaxed);
    SLEEP_TYPES.store(u32::from(sleep_types.0) | u32::from(sleep_types.1) << 8, Ordering::Relaxed);
    match fadt.sleep_control {
        Some(Register::Port(port)) => SLEEP_CONTROL.store(port.into(), Ordering::Relaxed),
        Some(Register::Memory(phys)) => SLEEP_CONTROL.store(map(phys).unwrap_or(0), Ordering::Relaxed),
        None => {}
    }
}

fn sleep_control() -> Option<IoRegion> {
    match SLEEP_CONTROL.load(Ordering::Relaxed) {
        0 => None,
        // SAFETY: 1. `init` set it to the register that ACPI names.
        port if port < 0x1_0000 => Some(unsafe { IoRegion::ports(port as u16, 1) }),
        // SAFETY: as above.
        address => Some(unsafe { IoRegion::mmio(VirtAddr(address), 1) }),
    }
}

/// Turns the machine off: ACPI S5, by whichever registers the machine has. Where there are none a reset
/// ends a microvm (and QEMU with -no-reboot).
pub fn off() -> ! {
    let _ = irq::disable();
    let types = SLEEP_TYPES.load(Ordering::Relaxed);
    if let Some(control) = sleep_control() {
        control.write8(0, (types as u8 & 7) << 2 | 1 << 5);
        pause();
    }
    for (register, sleep_type) in [(&PM1A_CONTROL, types & 0xff), (&PM1B_CONTROL, types >> 8 & 0xff)] {
        let port = register.load(Ordering::Relaxed);
        if port != 0 {
            // SAFETY: 1. the port that ACPI names; 2. what the write does is the intention.
            unsafe { outw(port as u16, (sleep_type as u16 & 7) << 10 | 1 << 13) };
        }
    }
    pause();
    reboot()
}

/// Resets the machine: reset control register, keyboard controller, triple fault.
pub fn reboot() -> ! {
    let _ = irq::disable();
    // SAFETY: 1. the ports of the PCI host bridge and of the keyboard controller, or of nothing.
    unsafe {
        outb(0xcf9, 0x02);
        outb(0xcf9, 0x06);
        pause();
        for _ in 0..1000 {
            if inb(0x64) & 2 == 0 {
                break;
            }
        }
        outb(0x64, 0xfe);
        pause();
    }
    triple_fault()
}

/// An exception with an empty descriptor table.
fn triple_fault() -> ! {
    let empty = [0u64; 2];
    // SAFETY: 1. ends the machine, which is what the caller wants.
    unsafe { asm!("lidt [{}]", "int3", "2: hlt", "jmp 2b", in(reg) &raw const empty, options(noreturn)) }
}

/// Gives a device time to act.
fn pause() {
    for _ in 0..100_000 {
        super::cpu::relax();
    }
}

/// This CPU does nothing for ever.
pub fn halt() -> ! {
    loop {
        // SAFETY: 1. interrupts are off: only an NMI wakes it, and it sleeps again.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
