//! Base address registers: how large what they point to is, and where it goes.

use arch::PciHost;
use arch::io::IoRegion;

const FIRST: usize = 0x10;
const COMMAND: usize = 0x04;
const COMMAND_MEMORY: u16 = 1 << 1;
const IS_IO: u32 = 1;
const IS_64: u32 = 2 << 1;

/// A range of memory that a function answers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bar {
    pub address: u64,
    pub len: u64,
}

/// The addresses below 4 GiB that are left for BARs.
pub(crate) struct Window {
    next: u64,
    end: u64,
}

impl Window {
    pub(crate) fn new(host: &PciHost) -> Window {
        Window { next: host.mem32.0, end: host.mem32.0.saturating_add(host.mem32.1) }
    }

    /// The next `len` bytes, a power of two, aligned to it.
    fn take(&mut self, len: u64) -> Option<u64> {
        let start = self.next.checked_next_multiple_of(len)?;
        let end = start.checked_add(len).filter(|end| *end <= self.end)?;
        self.next = end;
        Some(start)
    }
}

/// Reads the BARs of a function with a plain header and gives addresses to those without.
pub(crate) fn assign(config: &IoRegion, window: &mut Window) -> [Option<Bar>; 6] {
    // While a BAR is probed it decodes nonsense: the function must not answer to it.
    let command = config.read16(COMMAND);
    config.write16(COMMAND, command & !COMMAND_MEMORY);
    let mut bars = [None; 6];
    let mut number = 0;
    while number < bars.len() {
        let (bar, registers) = assign_one(config, FIRST + 4 * number, number, window);
        bars[number] = bar;
        number += registers;
    }
    config.write16(COMMAND, command);
    bars
}

/// The BAR at a register, and how many registers it takes.
fn assign_one(config: &IoRegion, at: usize, number: usize, window: &mut Window) -> (Option<Bar>, usize) {
    let low = config.read32(at);
    if low & IS_IO != 0 {
        return (None, 1);
    }
    let wide = low & 0b110 == IS_64 && number < 5;
    let registers = if wide { 2 } else { 1 };
    let high = if wide { config.read32(at + 4) } else { 0 };
    config.write32(at, u32::MAX);
    let mut mask = u64::from(config.read32(at) & !0xf);
    if wide {
        config.write32(at + 4, u32::MAX);
        mask |= u64::from(config.read32(at + 4)) << 32;
    } else if mask != 0 {
        mask |= 0xffff_ffff_0000_0000;
    }
    let len = (!mask).wrapping_add(1);
    let mut address = u64::from(high) << 32 | u64::from(low & !0xf);
    if len.is_power_of_two() && address == 0 {
        address = window.take(len).unwrap_or(0);
    }
    config.write32(at, address as u32 | low & 0xf);
    if wide {
        config.write32(at + 4, (address >> 32) as u32);
    }
    let sound = len.is_power_of_two() && address != 0;
    (sound.then_some(Bar { address, len }), registers)
}
