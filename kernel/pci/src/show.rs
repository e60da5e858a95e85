//! `/sys/bus/pci/devices/*`: what lspci reads.

use crate::Function;
use alloc::format;
use alloc::vec::Vec;
use core::fmt::Write;
use kernfs::{SYS, TextBuf, text};

/// Bytes of configuration space that `config` shows: the header and capabilities of conventional PCI.
const SHOWN: usize = 256;

pub(crate) fn add(functions: &[Function]) {
    for function in functions {
        let dir = format!("bus/pci/devices/{}", function.address);
        let numbers = [
            ("vendor", function.vendor),
            ("device", function.device),
            ("subsystem_vendor", function.subsystem_vendor),
            ("subsystem_device", function.subsystem),
        ];
        for (name, number) in numbers {
            SYS.add(&format!("{dir}/{name}"), text(move |out| writeln!(out, "{number:#06x}")));
        }
        let (class, revision) = (function.class, function.revision);
        SYS.add(&format!("{dir}/class"), text(move |out| writeln!(out, "{class:#08x}")));
        SYS.add(&format!("{dir}/revision"), text(move |out| writeln!(out, "{revision:#04x}")));
        let config = *function.config();
        let bytes = move |out: &mut TextBuf| {
            let bytes: Vec<u8> = (0..SHOWN).map(|at| config.read8(at)).collect();
            out.bytes(&bytes).map_err(|_| core::fmt::Error)
        };
        SYS.add(&format!("{dir}/config"), text(bytes));
    }
}
