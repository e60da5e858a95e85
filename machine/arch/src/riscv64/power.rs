//! The end of the machine.

use super::{irq, sbi};

/// Powers the machine off.
pub fn off() -> ! {
    sbi::system_reset(0);
    halt()
}

/// Restarts the machine.
pub fn reboot() -> ! {
    sbi::system_reset(1);
    halt()
}

/// Stops this CPU for ever.
pub fn halt() -> ! {
    irq::disable();
    irq::hard_disable();
    loop {
        // SAFETY: 1. waits; with interrupts off nothing runs afterwards but this loop.
        unsafe { core::arch::asm!("wfi", options(nostack)) };
    }
}
