//! PCI Express: which devices there are, their registers and interrupts.
//!
//! **Problem.** A bus is asked what is on it; firmware has given the devices addresses, or (riscv64's `virt`)
//! has not.
//!
//! **Interface.** [`init`] walks the bus once. [`take`] hands functions to a driver, each once. A
//! [`Function`] gives its configuration space, capabilities, the registers behind a BAR
//! ([`Function::bar`]) and interrupts ([`Function::msix`], [`Function::line`]).
//!
//! **Idea.** Configuration space is memory (ECAM): 4 KiB a function. A BAR without an address gets the next
//! one of the bridge's 32-bit window. Bridges are followed where firmware has numbered the bus behind them.
//! The crate `pci_types` was not taken: its access trait is unsafe to implement, and what is left of it here is
//! a dozen offsets. Source: PCI Local Bus Specification 3.0, PCI Express Base Specification.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bar;
mod function;
mod msix;
mod show;

pub use function::{Address, Capabilities, Function};
pub use msix::Msix;

use alloc::vec::Vec;
use arch::io::IoRegion;
use arch::{PciHost, PhysAddr};
use klog::pr_info;
use sync::SpinLock;
use sync::levels::DeviceTable;

/// Bytes of one function's configuration space.
const CONFIG: usize = 4096;

/// Functions that no driver has taken.
static FREE: SpinLock<Vec<Function>, DeviceTable> = SpinLock::new(Vec::new());

/// Finds the devices, if the machine has the bus. Boot, once; process context.
pub fn init() {
    let Some(host) = arch::platform::pci_host() else { return };
    let mut found = Vec::new();
    let mut window = bar::Window::new(&host);
    scan_bus(&host, host.buses.0, &mut window, &mut found, 0);
    if !found.is_empty() {
        pr_info!("pci: {} functions", found.len());
    }
    show::add(&found);
    *FREE.lock() = found;
}

/// Takes the functions that a driver wants.
pub fn take(wanted: impl Fn(&Function) -> bool) -> Vec<Function> {
    FREE.lock().extract_if(.., |function| wanted(function)).collect()
}

/// The configuration space of one function.
fn config(host: &PciHost, address: Address) -> Option<IoRegion> {
    let bus = u64::from(address.bus.checked_sub(host.buses.0)?);
    let offset = bus << 20 | u64::from(address.device) << 15 | u64::from(address.function) << 12;
    if offset + CONFIG as u64 > host.ecam_len {
        return None;
    }
    mem::device_registers(PhysAddr(host.ecam.0 + offset), CONFIG)
}

fn scan_bus(host: &PciHost, bus: u8, window: &mut bar::Window, found: &mut Vec<Function>, depth: usize) {
    /// Bridges behind bridges; firmware that numbers buses in a circle ends here.
    const DEEPEST: usize = 8;
    for device in 0..32 {
        for number in 0..8 {
            let address = Address { bus, device, function: number };
            let Some(config) = config(host, address) else { return };
            let Some(mut function) = Function::probe(address, config) else {
                if number == 0 {
                    break;
                }
                continue;
            };
            let several = function.is_multifunction();
            match function.secondary_bus() {
                Some(behind) if behind > bus && behind <= host.buses.1 && depth < DEEPEST => {
                    scan_bus(host, behind, window, found, depth + 1);
                }
                Some(_) => {}
                None => {
                    function.assign(window);
                    found.push(function);
                }
            }
            if !several {
                break;
            }
        }
    }
}
