//! Virtio: devices that a hypervisor makes, behind memory-mapped registers or PCI.
//!
//! **Problem.** All virtio devices are found, negotiated with and driven alike; how their registers look
//! depends on the transport.
//!
//! **Interface.** [`init`] finds the devices. A driver takes those of its kind ([`take`]), negotiates
//! ([`Device::negotiate`]), makes [`Queue`]s ([`Device::make_queue`]), says which handler serves which queue
//! and starts ([`Device::start`]). Requests go through a queue: [`Queue::add`], [`Queue::publish`], and back
//! by [`Queue::pop`], called from the handler.
//!
//! ```text
//!   let mut device = ...;                       take(kind::BLOCK)
//!   let features = device.negotiate(WANTED)?;
//!   let queue = device.make_queue(0, 128, 1)?;
//!   device.start(&[handler], None, |_| 0)?;     interrupts may come from here on
//! ```
//!
//! **Idea.** The rings are plain memory shared with the device ([`mem::DmaMemory`]); what the driver must
//! believe (chains, free descriptors) is kept in its own memory, so a device that writes nonsense into the
//! rings is found out and not followed. Nothing polls.
//!
//! Source: Virtual I/O Device (VIRTIO) 1.2; the legacy interface of memory-mapped devices (4.2.4) too, as it is
//! what QEMU's riscv64 machine has by default.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod device;
mod mmio;
mod pci_transport;
mod queue;

pub use device::{Device, Interrupts, feature, init, kind, take};
pub use queue::{Buffer, Queue, Used};
