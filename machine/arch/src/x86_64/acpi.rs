//! The few things the kernel wants from ACPI's tables: processors, I/O APICs, power registers, PCI's
//! configuration space, virtio devices of microvm.
//!
//! Read once before `ochre_main`, while the early map shows the first 4 GiB. A reader of its own because
//! what an AML interpreter would say is known: `_S5_` is a package of small numbers, and QEMU's
//! virtio-mmio devices are memory and interrupt descriptors in a row. Everything read is checked
//! against the table's length.

use crate::PhysAddr;

/// The end of the early map.
const MAPPED: u64 = 4 << 30;
const HEADER_BYTES: usize = 36;

/// Physical memory as bytes, if the early map shows it.
pub(super) fn memory(phys: u64, len: usize) -> Option<&'static [u8]> {
    let end = phys.checked_add(len as u64)?;
    if phys == 0 || end > MAPPED {
        return None;
    }
    // SAFETY: 1. the early map covers it; 2. firmware's tables are not written meanwhile.
    Some(unsafe { core::slice::from_raw_parts(PhysAddr(phys).to_virt().as_ptr::<u8>(), len) })
}

/// Little-endian integers at an offset, `None` beyond the end.
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn sum_is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

/// The root of the tables, checked.
#[derive(Clone, Copy)]
pub struct Tables {
    root: &'static [u8],
    entry_bytes: usize,
}

impl Tables {
    /// From the address that the loader gave, or by searching the BIOS area.
    pub fn find(rsdp: Option<PhysAddr>) -> Option<(Tables, PhysAddr)> {
        let given = rsdp.map(|p| p.0).into_iter();
        let searched = (0xe_0000..0x10_0000).step_by(16);
        given.chain(searched).find_map(|phys| Some((Tables::at(phys)?, PhysAddr(phys))))
    }

    fn at(rsdp: u64) -> Option<Tables> {
        let start = memory(rsdp, 20)?;
        if &start[..8] != b"RSD PTR " || !sum_is_zero(start) {
            return None;
        }
        let extended = memory(rsdp, 36).filter(|r| r[15] >= 2 && sum_is_zero(r));
        let xsdt = extended.and_then(|r| number(r, 24, 8)).filter(|phys| *phys != 0);
        let (root, entry_bytes) = match xsdt {
            Some(phys) => (table(phys)?, 8),
            None => (table(number(start, 16, 4)?)?, 4),
        };
        Some(Tables { root, entry_bytes })
    }

    /// The first table with this signature.
    pub fn get(&self, signature: &[u8; 4]) -> Option<&'static [u8]> {
        self.root[HEADER_BYTES..]
            .chunks_exact(self.entry_bytes)
            .filter_map(|entry| table(number(entry, 0, self.entry_bytes)?))
            .find(|table| &table[..4] == signature)
    }
}

fn table(phys: u64) -> Option<&'static [u8]> {
    let header = memory(phys, HEADER_BYTES)?;
    let len = number(header, 4, 4)? as usize;
    let whole = memory(phys, len)?;
    (len >= HEADER_BYTES && sum_is_zero(whole)).then_some(whole)
}

/// What the interrupt controllers' table lists.
#[derive(Debug)]
pub enum MadtEntry {
    Cpu {
        apic_id: u32,
    },
    IoApic {
        phys: u64,
        first_line: u32,
    },
    /// An ISA interrupt that arrives on another line or with another signal.
    Override {
        isa: u8,
        line: u32,
        level: bool,
        active_low: bool,
    },
    LocalApic {
        phys: u64,
    },
}

/// Goes through the MADT.
pub fn madt(table: &'static [u8], mut each: impl FnMut(MadtEntry)) {
    if let Some(phys) = number(table, 36, 4) {
        each(MadtEntry::LocalApic { phys });
    }
    let mut rest = table.get(44..).unwrap_or(&[]);
    while let [kind, len, ..] = *rest {
        let len = usize::from(len);
        if len < 2 || len > rest.len() {
            return;
        }
        let (entry, after) = rest.split_at(len);
        if let Some(found) = madt_entry(kind, entry) {
            each(found);
        }
        rest = after;
    }
}

fn madt_entry(kind: u8, e: &[u8]) -> Option<MadtEntry> {
    // Enabled, or can be brought online later.
    let usable = |flags: u64| flags & 1 != 0;
    match kind {
        0 if usable(number(e, 4, 4)?) => Some(MadtEntry::Cpu { apic_id: number(e, 3, 1)? as u32 }),
        9 if usable(number(e, 8, 4)?) => Some(MadtEntry::Cpu { apic_id: number(e, 4, 4)? as u32 }),
        1 => Some(MadtEntry::IoApic { phys: number(e, 4, 4)?, first_line: number(e, 8, 4)? as u32 }),
        2 => {
            let flags = number(e, 8, 2)?;
            Some(MadtEntry::Override {
                isa: number(e, 3, 1)? as u8,
                line: number(e, 4, 4)? as u32,
                level: flags >> 2 & 3 == 3,
                active_low: flags & 3 == 3,
            })
        }
        5 => Some(MadtEntry::LocalApic { phys: number(e, 4, 8)? }),
        _ => None,
    }
}

/// A register in ACPI's generic address format.
#[derive(Clone, Copy, Debug)]
pub enum Register {
    Memory(u64),
    Port(u16),
}

#[derive(Debug, Default)]
pub struct Fadt {
    pub dsdt: u64,
    pub pm1a_control: Option<Register>,
    pub pm1b_control: Option<Register>,
    /// A 3.579545 MHz counter of 24 bits.
    pub pm_timer: Option<u16>,
    pub sleep_control: Option<Register>,
    pub hardware_reduced: bool,
}

impl Fadt {
    pub fn read(table: &'static [u8]) -> Fadt {
        let port = |at| number(table, at, 4).filter(|p| *p != 0).map(|p| Register::Port(p as u16));
        let hardware_reduced = number(table, 112, 4).is_some_and(|flags| flags & 1 << 20 != 0);
        let old = |at| if hardware_reduced { None } else { port(at) };
        let pm_timer = match old(76) {
            Some(Register::Port(port)) => Some(port),
            _ => None,
        };
        Fadt {
            dsdt: number(table, 140, 8).filter(|p| *p != 0).or(number(table, 40, 4)).unwrap_or(0),
            pm1a_control: old(64),
            pm1b_control: old(68),
            pm_timer,
            sleep_control: generic(table, 244).filter(|_| hardware_reduced),
            hardware_reduced,
        }
    }
}

fn generic(table: &[u8], at: usize) -> Option<Register> {
    let address = number(table, at + 4, 8).filter(|a| *a != 0)?;
    match number(table, at, 1)? {
        0 => Some(Register::Memory(address)),
        1 => Some(Register::Port(address as u16)),
        _ => None,
    }
}

/// The values for PM1a and PM1b that mean "off": the first two elements of the package `_S5_` in the DSDT.
/// 5 where it does not say, as in hardware-reduced QEMU machines... which do say it.
pub fn sleep_types(dsdt: u64) -> (u8, u8) {
    let find = || {
        let code = table(dsdt)?;
        let at = code.windows(4).position(|w| w == b"_S5_")?;
        // Name(_S5_, Package(n) {...}): PackageOp, length, count, elements.
        let mut rest = code.get(at + 4..)?;
        if *rest.first()? != 0x12 {
            return None;
        }
        let length_bytes = usize::from(rest.get(1)? >> 6);
        rest = rest.get(3 + length_bytes..)?;
        let (first, rest) = small_integer(rest)?;
        let second = small_integer(rest).map_or(0, |(value, _)| value);
        Some((first, second))
    };
    find().unwrap_or((5, 5))
}

/// ZeroOp, OneOp or a byte constant.
fn small_integer(code: &[u8]) -> Option<(u8, &[u8])> {
    match *code {
        [0, ref rest @ ..] => Some((0, rest)),
        [1, ref rest @ ..] => Some((1, rest)),
        [0x0a, value, ref rest @ ..] => Some((value, rest)),
        _ => None,
    }
}

/// The virtio-mmio devices of the DSDT: after each `_HID` LNRO0005 the first 32-bit memory descriptor and
/// the first extended interrupt descriptor. Calls `each(phys, bytes, line)`.
pub fn virtio_devices(dsdt: u64, mut each: impl FnMut(u64, u64, u32)) {
    let Some(mut code) = table(dsdt) else { return };
    const ID: &[u8] = b"LNRO0005";
    while let Some(at) = code.windows(ID.len()).position(|w| w == ID) {
        code = &code[at + ID.len()..];
        let end = code.windows(ID.len()).position(|w| w == ID).unwrap_or(code.len());
        let device = &code[..end];
        let find = |tag: [u8; 3]| device.windows(3).position(|w| w == tag).map(|at| &device[at..]);
        let memory = find([0x86, 9, 0]).and_then(|d| Some((number(d, 4, 4)?, number(d, 8, 4)?)));
        let line = find([0x89, 6, 0]).and_then(|d| number(d, 5, 4));
        if let (Some((phys, bytes)), Some(line)) = (memory, line) {
            each(phys, bytes, line as u32);
        }
    }
}

/// The first memory-mapped PCI configuration space: physical address, first and last bus.
pub fn mcfg(table: &'static [u8]) -> Option<(u64, u8, u8)> {
    Some((number(table, 44, 8)?, number(table, 54, 1)? as u8, number(table, 55, 1)? as u8))
}
