//! A device, whatever its transport: status, features, configuration, queues, interrupts.

use crate::mmio::Mmio;
use crate::pci_transport::Pci;
use crate::queue::{Layout, Queue};
use abi::Errno;
use abi::errno::Result;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::io::IoRegion;
use irq::Handler;
use klog::{pr_info, pr_warn};
use sync::SpinLock;
use sync::levels::DeviceTable;

/// Device numbers (VIRTIO 1.2, section 5).
pub mod kind {
    pub const NETWORK: u32 = 1;
    pub const BLOCK: u32 = 2;
    pub const CONSOLE: u32 = 3;
    pub const ENTROPY: u32 = 4;
    pub const TRANSPORT_9P: u32 = 9;
}

/// Features that all kinds share, as bits.
pub mod feature {
    pub const INDIRECT: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
}

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const FAILED: u8 = 128;

/// What a transport does. Registers only; process context but for [`Notify`].
pub(crate) enum Transport {
    Mmio(Mmio),
    Pci(Pci),
}

macro_rules! each {
    ($self:expr, $transport:ident => $call:expr) => {
        match &$self.transport {
            Transport::Mmio($transport) => $call,
            Transport::Pci($transport) => $call,
        }
    };
}

/// How a queue's notification is sent: the queue's number written to a register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notify {
    pub region: IoRegion,
    pub offset: usize,
    pub wide: bool,
}

impl Notify {
    #[inline]
    pub(crate) fn ring(&self, queue: u16) {
        if self.wide {
            self.region.write32(self.offset, queue.into());
        } else {
            self.region.write16(self.offset, queue);
        }
    }
}

/// How interrupts come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupts {
    /// Each queue has its own, on a CPU of its own choice.
    PerQueue,
    /// One line, or one message, for all.
    Shared,
}

/// A virtio device that a driver has taken.
pub struct Device {
    name: String,
    kind: u32,
    transport: Transport,
    features: u64,
}

/// Devices that no driver has taken.
static FREE: SpinLock<Vec<Device>, DeviceTable> = SpinLock::new(Vec::new());

/// Finds the devices. Boot, once, after `pci::init`; process context.
pub fn init() {
    let mut found: Vec<(u32, Transport)> = Vec::new();
    for slot in arch::platform::virtio_mmio() {
        if let Some(mmio) = Mmio::probe(slot) {
            found.push((mmio.kind(), Transport::Mmio(mmio)));
        }
    }
    for function in pci::take(Pci::matches) {
        let address = function.address;
        match Pci::probe(function) {
            Some(pci) => found.push((pci.kind(), Transport::Pci(pci))),
            None => pr_warn!("virtio: {address}: no modern interface"),
        }
    }
    let mut free = FREE.lock();
    for (number, (kind, transport)) in found.into_iter().enumerate() {
        free.push(Device { name: format!("virtio{number}"), kind, transport, features: 0 });
    }
}

/// Takes the devices of a kind.
pub fn take(kind: u32) -> Vec<Device> {
    FREE.lock().extract_if(.., |device| device.kind == kind).collect()
}

impl Device {
    /// `virtio0` and so on, in the order they were found.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn status(&self) -> u8 {
        each!(self, t => t.status())
    }

    fn add_status(&self, bit: u8) {
        let status = self.status() | bit;
        each!(self, t => t.set_status(status));
    }

    /// Resets the device and agrees on features: those of `wanted` that it offers. EIO when it does not
    /// accept them.
    pub fn negotiate(&mut self, wanted: u64) -> Result<u64> {
        each!(self, t => t.reset());
        self.add_status(ACKNOWLEDGE);
        self.add_status(DRIVER);
        let offered = each!(self, t => t.features());
        let features = offered & (wanted | feature::VERSION_1);
        each!(self, t => t.set_features(features));
        if features & feature::VERSION_1 != 0 {
            self.add_status(FEATURES_OK);
            if self.status() & FEATURES_OK == 0 {
                self.fail();
                return Err(Errno::EIO);
            }
        }
        self.features = features;
        Ok(features)
    }

    /// The features agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Gives the device up.
    pub fn fail(&self) {
        self.add_status(FAILED);
    }

    // ---- the configuration of its kind, little-endian; all ones beyond its end ----

    /// Reads a byte of the configuration.
    pub fn config8(&self, offset: usize) -> u8 {
        self.config(offset, 1).map_or(u8::MAX, |config| config.read8(offset))
    }

    pub fn config16(&self, offset: usize) -> u16 {
        self.config(offset, 2).map_or(u16::MAX, |config| config.read16(offset))
    }

    pub fn config32(&self, offset: usize) -> u32 {
        self.config(offset, 4).map_or(u32::MAX, |config| config.read32(offset))
    }

    fn config(&self, offset: usize, len: usize) -> Option<IoRegion> {
        let config = each!(self, t => *t.config());
        config.window(offset, len).map(|_| config)
    }

    /// Two halves that belong together.
    pub fn config64(&self, offset: usize) -> u64 {
        loop {
            let before = each!(self, t => t.generation());
            let low = self.config32(offset);
            let high = self.config32(offset + 4);
            if each!(self, t => t.generation()) == before {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }

    // ---- queues ----

    /// The most queues for which there are interrupts.
    pub fn max_queues(&self) -> u16 {
        match &self.transport {
            // One message is for changes of the configuration.
            Transport::Pci(pci) if pci.vectors() > 1 => pci.vectors() - 1,
            _ => u16::MAX,
        }
    }

    /// How interrupts come when `queues` queues are used.
    pub fn interrupts(&self, queues: u16) -> Interrupts {
        match &self.transport {
            Transport::Pci(pci) if pci.vectors() > queues => Interrupts::PerQueue,
            _ => Interrupts::Shared,
        }
    }

    /// Makes queue number `number` with at most `max_size` descriptors (a power of two) and chains of up to
    /// `chain` buffers through one descriptor. ENOENT when the device has no such queue, ENOMEM.
    pub fn make_queue(&mut self, number: u16, max_size: u16, chain: usize) -> Result<Queue> {
        let largest = each!(self, t => t.queue_max(number));
        if largest == 0 {
            return Err(Errno::ENOENT);
        }
        let size = (1 << largest.ilog2()).min(max_size).max(1);
        let notify = each!(self, t => t.notify(number)).ok_or(Errno::EIO)?;
        let queue = Queue::new(number, size, chain, self.features, notify)?;
        let layout = Layout::new(size);
        each!(self, t => t.set_queue(number, size, queue.phys(), &layout))?;
        Ok(queue)
    }

    /// Connects interrupts and starts the device: `handlers[n]` is called when queue `n` has something (and at
    /// other times), `changed` when the configuration has. Queue `n` interrupts CPU `cpus(n)` where the device
    /// can choose. EIO when there is no way for its interrupts. Process context.
    pub fn start(
        &self,
        handlers: &[Handler],
        changed: Option<Handler>,
        cpus: impl Fn(usize) -> usize,
    ) -> Result<()> {
        let connected = match (&self.transport, self.interrupts(handlers.len() as u16)) {
            (Transport::Pci(pci), Interrupts::PerQueue) => {
                pci.connect_each(&self.name, handlers, changed.as_ref(), cpus)
            }
            (Transport::Pci(pci), Interrupts::Shared) if pci.vectors() > 0 => {
                pci.connect_together(&self.name, handlers, changed.as_ref(), cpus(0))
            }
            _ => self.connect_shared(handlers, changed),
        };
        if !connected {
            self.fail();
            pr_warn!("{}: no interrupt", self.name);
            return Err(Errno::EIO);
        }
        self.add_status(DRIVER_OK);
        pr_info!("{}: kind {}, features {:#x}", self.name, self.kind, self.features);
        Ok(())
    }

    /// One handler that looks why the device interrupts.
    fn connect_shared(&self, handlers: &[Handler], changed: Option<Handler>) -> bool {
        const QUEUE: u32 = 1;
        const CONFIG: u32 = 2;
        let Some(line) = each!(self, t => t.line()) else { return false };
        let acknowledge = each!(self, t => t.acknowledge());
        let handlers: Vec<Handler> = handlers.to_vec();
        let handler = move || {
            let why = acknowledge.take();
            if why & QUEUE != 0 {
                for handler in &handlers {
                    handler();
                }
            }
            if why & CONFIG != 0
                && let Some(changed) = &changed
            {
                changed();
            }
            why != 0
        };
        irq::request(line, &self.name, alloc::sync::Arc::new(handler))
    }
}
