//! One function of a device, its configuration space and capabilities.

use crate::bar::{self, Bar, Window};
use crate::msix::Msix;
use arch::PhysAddr;
use arch::io::IoRegion;
use core::fmt;

const VENDOR: usize = 0x00;
const DEVICE: usize = 0x02;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const HEADER: usize = 0x0e;
const SECONDARY_BUS: usize = 0x19;
const SUBSYSTEM_VENDOR: usize = 0x2c;
const SUBSYSTEM: usize = 0x2e;
const CAPABILITIES: usize = 0x34;
const PIN: usize = 0x3d;

const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_NO_INTX: u16 = 1 << 10;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// The capability with the MSI-X table.
const CAP_MSIX: u8 = 0x11;

/// Where a function is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    pub bus: u8,
    pub device: u8,
    pub function: u8,
}

impl fmt::Display for Address {
    /// As Linux names it: `0000:00:1f.2`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "0000:{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// A function of a device, owned by its driver.
#[derive(Debug)]
pub struct Function {
    pub address: Address,
    pub vendor: u16,
    pub device: u16,
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    /// Class, subclass, interface in the low 24 bits.
    pub class: u32,
    pub revision: u8,
    config: IoRegion,
    bars: [Option<Bar>; 6],
}

impl Function {
    /// The function at an address, if there is one.
    pub(crate) fn probe(address: Address, config: IoRegion) -> Option<Function> {
        let vendor = config.read16(VENDOR);
        if vendor == 0xffff || vendor == 0 {
            return None;
        }
        let revision = config.read32(REVISION);
        Some(Function {
            address,
            vendor,
            device: config.read16(DEVICE),
            subsystem_vendor: config.read16(SUBSYSTEM_VENDOR),
            subsystem: config.read16(SUBSYSTEM),
            class: revision >> 8,
            revision: revision as u8,
            config,
            bars: [None; 6],
        })
    }

    pub(crate) fn is_multifunction(&self) -> bool {
        self.config.read8(HEADER) & 0x80 != 0
    }

    /// The bus behind a bridge, as firmware has numbered it.
    pub(crate) fn secondary_bus(&self) -> Option<u8> {
        (self.config.read8(HEADER) & 0x7f == 1).then(|| self.config.read8(SECONDARY_BUS))
    }

    /// Finds out the BARs; those without an address get one.
    pub(crate) fn assign(&mut self, window: &mut Window) {
        if self.config.read8(HEADER) & 0x7f == 0 {
            self.bars = bar::assign(&self.config, window);
        }
    }

    /// Its configuration space.
    pub fn config(&self) -> &IoRegion {
        &self.config
    }

    fn set_command(&self, bits: u16) {
        self.config.write16(COMMAND, self.config.read16(COMMAND) | bits);
    }

    /// Lets it answer at its addresses and access memory by itself.
    pub fn enable(&self) {
        self.set_command(COMMAND_MEMORY | COMMAND_MASTER);
    }

    /// The registers behind a BAR. `None` when there is none in memory. Process context.
    pub fn bar(&self, number: usize) -> Option<IoRegion> {
        let bar = (*self.bars.get(number)?)?;
        mem::device_registers(PhysAddr(bar.address), usize::try_from(bar.len).ok()?)
    }

    /// Its capabilities.
    pub fn capabilities(&self) -> Capabilities<'_> {
        let has_any = self.config.read16(STATUS) & STATUS_CAPABILITIES != 0;
        let next = if has_any { self.config.read8(CAPABILITIES) & !3 } else { 0 };
        Capabilities { config: &self.config, next, left: 48 }
    }

    /// Its MSI-X table with all vectors masked, turned on; INTx is off from then on. `None` when it has none.
    /// Process context.
    pub fn msix(&self) -> Option<Msix> {
        let (_, at) = self.capabilities().find(|(id, _)| *id == CAP_MSIX)?;
        let msix = Msix::enable(self, at)?;
        self.set_command(COMMAND_NO_INTX);
        Some(msix)
    }

    /// The line of its INTx pin, where the machine says how that is wired.
    pub fn line(&self) -> Option<u32> {
        let pin = self.config.read8(PIN);
        if pin == 0 || self.address.bus != 0 {
            return None;
        }
        arch::platform::pci_line(self.address.device, pin)
    }
}

/// Capabilities by id and offset.
pub struct Capabilities<'a> {
    config: &'a IoRegion,
    next: u8,
    /// A list that runs in a circle ends.
    left: u32,
}

impl Iterator for Capabilities<'_> {
    type Item = (u8, usize);

    fn next(&mut self) -> Option<(u8, usize)> {
        if self.next < 0x40 || self.left == 0 {
            return None;
        }
        let at = usize::from(self.next);
        self.left -= 1;
        self.next = self.config.read8(at + 1) & !3;
        Some((self.config.read8(at), at))
    }
}
