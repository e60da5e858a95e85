//! The devices that `platform` finds without a bus to ask.

use crate::PhysAddr;
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

/// The configuration space of a PCI host bridge (ECAM) and the memory windows for its devices, each as
/// (address, bytes).
#[derive(Clone, Copy, Debug)]
pub struct PciHost {
    pub ecam: PhysAddr,
    pub ecam_len: u64,
    pub buses: (u8, u8),
    pub mem32: (u64, u64),
    pub mem64: (u64, u64),
}

/// A message-signalled interrupt: what a device writes where, and the line number under which it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Msi {
    pub line: u32,
    pub address: u64,
    pub data: u32,
}
