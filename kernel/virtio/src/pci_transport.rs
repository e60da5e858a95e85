//! Virtio over PCI (VIRTIO 1.2, section 4.1): the modern interface, described by vendor capabilities.

use crate::device::Notify;
use crate::mmio::Acknowledge;
use crate::queue::Layout;
use abi::errno::Result;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::io::IoRegion;
use irq::Handler;
use pci::{Function, Msix};

const VENDOR: u16 = 0x1af4;
/// Device ids of modern devices are this and the kind; those below, of transitional ones.
const MODERN: u16 = 0x1040;
const TRANSITIONAL: u16 = 0x1000;

const CAP_VENDOR: u8 = 0x09;
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

// The common configuration.
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIG_VECTOR: usize = 16;
const STATUS: usize = 20;
const GENERATION: usize = 21;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY_OFF: usize = 30;
const QUEUE_DESC: usize = 32;
const QUEUE_DRIVER: usize = 40;
const QUEUE_DEVICE: usize = 48;
const COMMON_LEN: usize = 56;

const NO_VECTOR: u16 = 0xffff;
/// How often a device that resets is asked whether it is done.
const RESET_TRIES: usize = 100_000;

pub(crate) struct Pci {
    function: Function,
    common: IoRegion,
    notify: IoRegion,
    notify_multiplier: usize,
    isr: IoRegion,
    config: IoRegion,
    msix: Option<Msix>,
    kind: u32,
}

impl Pci {
    /// Whether a function is a virtio device.
    pub(crate) fn matches(function: &Function) -> bool {
        function.vendor == VENDOR && (TRANSITIONAL..MODERN + 64).contains(&function.device)
    }

    pub(crate) fn probe(function: Function) -> Option<Pci> {
        function.enable();
        let kind = match function.device.checked_sub(MODERN) {
            Some(kind) => kind.into(),
            None => function.subsystem.into(),
        };
        let find = |wanted: u8| {
            let caps = function.capabilities().filter(|(id, _)| *id == CAP_VENDOR);
            caps.map(|(_, at)| at).find(|at| function.config().read8(at + 3) == wanted)
        };
        let region = |wanted: u8| {
            let at = find(wanted)?;
            let config = function.config();
            let (offset, len) = (config.read32(at + 8) as usize, config.read32(at + 12) as usize);
            function.bar(config.read8(at + 4).into())?.window(offset, len)
        };
        let common = region(COMMON).filter(|region| region.len() >= COMMON_LEN)?;
        let notify_multiplier = function.config().read32(find(NOTIFY)? + 16) as usize;
        let (notify, isr) = (region(NOTIFY)?, region(ISR).filter(|region| !region.is_empty())?);
        // A kind without configuration has no such capability.
        let config = region(DEVICE).or_else(|| isr.window(0, 0))?;
        // Machines whose interrupt controller takes no messages keep to the line.
        let msix = if function.line().is_none() { function.msix() } else { None };
        Some(Pci { function, common, notify, notify_multiplier, isr, config, msix, kind })
    }

    pub(crate) fn kind(&self) -> u32 {
        self.kind
    }

    pub(crate) fn vectors(&self) -> u16 {
        self.msix.as_ref().map_or(0, Msix::vectors)
    }

    pub(crate) fn status(&self) -> u8 {
        self.common.read8(STATUS)
    }

    pub(crate) fn set_status(&self, status: u8) {
        self.common.write8(STATUS, status);
    }

    /// The device says when it is done (4.1.4.3.1); emulated ones are at once.
    pub(crate) fn reset(&self) {
        self.common.write8(STATUS, 0);
        for _ in 0..RESET_TRIES {
            if self.status() == 0 {
                return;
            }
            arch::cpu::relax();
        }
    }

    pub(crate) fn features(&self) -> u64 {
        let half = |select: u32| {
            self.common.write32(DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read32(DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    pub(crate) fn set_features(&self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.common.write32(DRIVER_FEATURE_SELECT, select);
            self.common.write32(DRIVER_FEATURE, half);
        }
    }

    pub(crate) fn config(&self) -> &IoRegion {
        &self.config
    }

    pub(crate) fn generation(&self) -> u32 {
        self.common.read8(GENERATION).into()
    }

    pub(crate) fn queue_max(&self, number: u16) -> u16 {
        self.common.write16(QUEUE_SELECT, number);
        self.common.read16(QUEUE_SIZE).min(1 << 15)
    }

    pub(crate) fn set_queue(&self, number: u16, size: u16, ring: u64, layout: &Layout) -> Result<()> {
        let io = &self.common;
        io.write16(QUEUE_SELECT, number);
        io.write16(QUEUE_SIZE, size);
        io.write16(QUEUE_VECTOR, NO_VECTOR);
        let parts =
            [(QUEUE_DESC, 0), (QUEUE_DRIVER, layout.available as u64), (QUEUE_DEVICE, layout.used as u64)];
        for (register, offset) in parts {
            io.write32(register, (ring + offset) as u32);
            io.write32(register + 4, ((ring + offset) >> 32) as u32);
        }
        io.write16(QUEUE_ENABLE, 1);
        Ok(())
    }

    /// `None` when the device puts the register outside of its region.
    pub(crate) fn notify(&self, number: u16) -> Option<Notify> {
        self.common.write16(QUEUE_SELECT, number);
        let place = usize::from(self.common.read16(QUEUE_NOTIFY_OFF));
        let offset = place.checked_mul(self.notify_multiplier)?;
        let region = self.notify.window(offset, 2)?;
        Some(Notify { region, offset: 0, wide: false })
    }

    /// A vector for each queue and one for changes of the configuration.
    pub(crate) fn connect_each(
        &self,
        name: &str,
        handlers: &[Handler],
        changed: Option<&Handler>,
        cpus: impl Fn(usize) -> usize,
    ) -> bool {
        let Some(msix) = &self.msix else { return false };
        for (number, handler) in handlers.iter().enumerate() {
            let vector = number as u16 + 1;
            let name = format!("{name}-req.{number}");
            if !msix.request(vector, cpus(number), &name, handler.clone()) {
                return false;
            }
            self.common.write16(QUEUE_SELECT, number as u16);
            self.common.write16(QUEUE_VECTOR, vector);
            if self.common.read16(QUEUE_VECTOR) != vector {
                return false;
            }
        }
        if let Some(handler) = changed {
            if !msix.request(0, 0, &format!("{name}-config"), handler.clone()) {
                return false;
            }
            self.common.write16(CONFIG_VECTOR, 0);
        }
        true
    }

    /// For devices with fewer messages than queues: one for all queues and, if there is a second, one for changes of
    /// the configuration. A message says nothing of why it came, so all handlers of it are called.
    pub(crate) fn connect_together(
        &self,
        name: &str,
        handlers: &[Handler],
        changed: Option<&Handler>,
        cpu: usize,
    ) -> bool {
        let Some(msix) = &self.msix else { return false };
        let vector = u16::from(msix.vectors() > 1);
        let mut all: Vec<Handler> = handlers.to_vec();
        if let Some(changed) = changed {
            match vector {
                0 => all.push(changed.clone()),
                _ if !msix.request(0, cpu, &format!("{name}-config"), changed.clone()) => return false,
                _ => {}
            }
        }
        let handler: Handler = Arc::new(move || all.iter().fold(false, |mine, handler| handler() | mine));
        if !msix.request(vector, cpu, &format!("{name}-virtqueues"), handler) {
            return false;
        }
        let queues = (0..handlers.len()).all(|number| {
            self.common.write16(QUEUE_SELECT, number as u16);
            self.common.write16(QUEUE_VECTOR, vector);
            self.common.read16(QUEUE_VECTOR) == vector
        });
        if changed.is_some() {
            self.common.write16(CONFIG_VECTOR, 0);
        }
        queues
    }

    pub(crate) fn line(&self) -> Option<u32> {
        self.function.line()
    }

    pub(crate) fn acknowledge(&self) -> Acknowledge {
        Acknowledge::Isr(self.isr)
    }
}
