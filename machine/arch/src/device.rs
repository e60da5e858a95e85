//! Devices that firmware names: what `platform` hands to the drivers.

use crate::PhysAddr;
use crate::io::IoRegion;

/// A 16550-compatible serial port.
#[derive(Clone, Copy, Debug)]
pub struct UartInfo {
    pub io: IoRegion,
    /// Register `n` is at offset `n << reg_shift`, one byte wide.
    pub reg_shift: u32,
    /// Interrupt line for `irq::unmask`.
    pub line: u32,
    /// Input clock, for the divisor of the baud rate; 0 when unknown (then leave the rate alone).
    pub clock_hz: u32,
    /// Where the registers are, for messages: physical address, or I/O port.
    pub base: u64,
}

/// A virtio-mmio slot. It may be empty: device id 0.
#[derive(Clone, Copy, Debug)]
pub struct VirtioMmio {
    pub io: IoRegion,
    pub phys: PhysAddr,
    pub len: usize,
    pub line: u32,
}

/// The configuration space of a PCI host bridge (ECAM) and the windows for its devices.
#[derive(Clone, Copy, Debug)]
pub struct PciHost {
    pub ecam: PhysAddr,
    pub ecam_len: u64,
    pub first_bus: u8,
    pub last_bus: u8,
    /// 32-bit memory window: address, bytes.
    pub mem32: (u64, u64),
    /// 64-bit memory window: address, bytes.
    pub mem64: (u64, u64),
}
