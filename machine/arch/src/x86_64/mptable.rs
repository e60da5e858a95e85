//! Intel's multiprocessor table, which describes processors and I/O APICs of machines without ACPI
//! (microvm with `acpi=off`, Firecracker).

use super::acpi::{MadtEntry, memory, number};

/// Finds the table and goes through it, in the words of ACPI's. Says whether there is one.
pub fn read(mut each: impl FnMut(MadtEntry)) -> bool {
    let Some(table) = find() else { return false };
    if let Some(phys) = number(table, 36, 4) {
        each(MadtEntry::LocalApic { phys });
    }
    let mut rest = table.get(44..).unwrap_or(&[]);
    while let Some(kind) = rest.first() {
        let len = if *kind == 0 { 20 } else { 8 };
        let Some((entry, after)) = rest.split_at_checked(len) else { return true };
        match *kind {
            0 if entry[3] & 1 != 0 => each(MadtEntry::Cpu { apic_id: entry[1].into() }),
            2 if entry[3] & 1 != 0 => {
                each(MadtEntry::IoApic { phys: number(entry, 4, 4).unwrap_or(0), first_line: 0 });
            }
            _ => {}
        }
        rest = after;
    }
    true
}

/// The floating pointer structure is in the first KiB of the extended BIOS area, the last KiB of base
/// memory, or the BIOS.
fn find() -> Option<&'static [u8]> {
    let extended = memory(0x40e, 2).and_then(|b| number(b, 0, 2)).map_or(0, |segment| segment << 4);
    let areas = [(extended, 1024), (0x9_fc00, 1024), (0xf_0000, 0x1_0000)];
    areas.iter().find_map(|&(start, len)| {
        let area = memory(start, len)?;
        let pointer = area.chunks_exact(16).find(|c| c.starts_with(b"_MP_"))?;
        let phys = number(pointer, 4, 4)?;
        let len = number(memory(phys, 44)?, 4, 2)? as usize;
        memory(phys, len.max(44)).filter(|table| table.starts_with(b"PCMP"))
    })
}
