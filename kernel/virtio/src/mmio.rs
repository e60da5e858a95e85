//! Memory-mapped registers (VIRTIO 1.2, section 4.2), version 2 and the legacy version 1.

use crate::device::Notify;
use crate::queue::Layout;
use abi::Errno;
use abi::errno::Result;
use arch::VirtioMmio;
use arch::io::IoRegion;

const MAGIC: usize = 0x00;
const VERSION: usize = 0x04;
const DEVICE_ID: usize = 0x08;
const DEVICE_FEATURES: usize = 0x10;
const DEVICE_FEATURES_SEL: usize = 0x14;
const DRIVER_FEATURES: usize = 0x20;
const DRIVER_FEATURES_SEL: usize = 0x24;
/// Legacy: the unit of `QUEUE_PFN`.
const GUEST_PAGE_SIZE: usize = 0x28;
const QUEUE_SEL: usize = 0x30;
const QUEUE_NUM_MAX: usize = 0x34;
const QUEUE_NUM: usize = 0x38;
/// Legacy.
const QUEUE_ALIGN: usize = 0x3c;
/// Legacy.
const QUEUE_PFN: usize = 0x40;
const QUEUE_READY: usize = 0x44;
const QUEUE_NOTIFY: usize = 0x50;
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACK: usize = 0x64;
const STATUS: usize = 0x70;
const QUEUE_DESC: usize = 0x80;
const QUEUE_DRIVER: usize = 0x90;
const QUEUE_DEVICE: usize = 0xa0;
const CONFIG_GENERATION: usize = 0xfc;
const CONFIG: usize = 0x100;

const PAGE: u32 = 4096;

pub(crate) struct Mmio {
    io: IoRegion,
    config: IoRegion,
    line: u32,
    legacy: bool,
    kind: u32,
}

/// Reads why the device interrupts, and tells it that this is known.
#[derive(Clone, Copy)]
pub(crate) enum Acknowledge {
    Mmio(IoRegion),
    /// PCI's ISR register: reading clears it.
    Isr(IoRegion),
}

impl Acknowledge {
    pub(crate) fn take(self) -> u32 {
        match self {
            Acknowledge::Mmio(io) => {
                let why = io.read32(INTERRUPT_STATUS);
                if why != 0 {
                    io.write32(INTERRUPT_ACK, why);
                }
                why
            }
            Acknowledge::Isr(io) => io.read8(0).into(),
        }
    }
}

impl Mmio {
    /// The device in a slot, if there is one.
    pub(crate) fn probe(slot: VirtioMmio) -> Option<Mmio> {
        let VirtioMmio { io, line } = slot;
        let config = io.window(CONFIG, io.len().checked_sub(CONFIG)?)?;
        let version = io.read32(VERSION);
        let kind = io.read32(DEVICE_ID);
        let is_device = io.read32(MAGIC) == u32::from_le_bytes(*b"virt") && (1..=2).contains(&version);
        (is_device && kind != 0).then_some(Mmio { io, config, line, legacy: version == 1, kind })
    }

    pub(crate) fn kind(&self) -> u32 {
        self.kind
    }

    pub(crate) fn status(&self) -> u8 {
        self.io.read32(STATUS) as u8
    }

    pub(crate) fn set_status(&self, status: u8) {
        self.io.write32(STATUS, status.into());
    }

    pub(crate) fn reset(&self) {
        self.io.write32(STATUS, 0);
        if self.legacy {
            self.io.write32(GUEST_PAGE_SIZE, PAGE);
        }
    }

    pub(crate) fn features(&self) -> u64 {
        let half = |select: u32| {
            self.io.write32(DEVICE_FEATURES_SEL, select);
            u64::from(self.io.read32(DEVICE_FEATURES))
        };
        if self.legacy { half(0) } else { half(0) | half(1) << 32 }
    }

    pub(crate) fn set_features(&self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.io.write32(DRIVER_FEATURES_SEL, select);
            self.io.write32(DRIVER_FEATURES, half);
        }
    }

    pub(crate) fn config(&self) -> &IoRegion {
        &self.config
    }

    pub(crate) fn generation(&self) -> u32 {
        if self.legacy { 0 } else { self.io.read32(CONFIG_GENERATION) }
    }

    pub(crate) fn queue_max(&self, number: u16) -> u16 {
        self.io.write32(QUEUE_SEL, number.into());
        self.io.read32(QUEUE_NUM_MAX).min(1 << 15) as u16
    }

    pub(crate) fn set_queue(&self, number: u16, size: u16, ring: u64, layout: &Layout) -> Result<()> {
        let io = &self.io;
        io.write32(QUEUE_SEL, number.into());
        io.write32(QUEUE_NUM, size.into());
        if self.legacy {
            io.write32(QUEUE_ALIGN, PAGE);
            let page = u32::try_from(ring / u64::from(PAGE)).map_err(|_| Errno::EIO)?;
            io.write32(QUEUE_PFN, page);
            return Ok(());
        }
        let parts =
            [(QUEUE_DESC, 0), (QUEUE_DRIVER, layout.available as u64), (QUEUE_DEVICE, layout.used as u64)];
        for (register, offset) in parts {
            io.write32(register, (ring + offset) as u32);
            io.write32(register + 4, ((ring + offset) >> 32) as u32);
        }
        io.write32(QUEUE_READY, 1);
        Ok(())
    }

    pub(crate) fn notify(&self, _number: u16) -> Option<Notify> {
        Some(Notify { region: self.io, offset: QUEUE_NOTIFY, wide: true })
    }

    pub(crate) fn line(&self) -> Option<u32> {
        Some(self.line)
    }

    pub(crate) fn acknowledge(&self) -> Acknowledge {
        Acknowledge::Mmio(self.io)
    }
}
