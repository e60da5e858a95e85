//! The devices that `platform` finds without a bus to ask.

use crate::io::IoRegion;

/// A 16550 serial port.
#[derive(Clone, Copy, Debug)]
pub struct UartInfo {
    pub io: IoRegion,
    /// Distance of two registers is `1 << reg_shift` bytes.
    pub reg_shift: u32,
    /// Input clock of the divisor in Hz; 0 when firmware does not say.
    pub clock_hz: u32,
    /// Interrupt line for `irq::unmask`.
    pub line: u32,
}

/// A virtio device behind memory-mapped registers (virtio 1.x section 4.2). It may be an empty slot:
/// device id 0.
#[derive(Clone, Copy, Debug)]
pub struct VirtioMmio {
    pub io: IoRegion,
    pub line: u32,
}
