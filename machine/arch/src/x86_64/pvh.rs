//! The start information of the PVH boot protocol.
//!
//! The structures lie somewhere in low memory that is not marked as in use, so all of it is copied before
//! anything is allocated.

use super::acpi::{memory, number};
use super::smp;
use crate::{BootInfo, MemKind, MemRegion, PhysAddr};

const MAGIC: u64 = 0x336e_c578;
const COMMAND_LINE_MAX: usize = 4096;

static mut COMMAND_LINE: [u8; COMMAND_LINE_MAX] = [0; COMMAND_LINE_MAX];

/// Fills in memory, command line, initial RAM disk and RSDP.
///
/// # Safety
/// 1. CPU 0 runs alone, before anything is allocated; called once.
pub unsafe fn read(phys: u64, info: &mut BootInfo) {
    reserve(info, 0, smp::TRAMPOLINE_END);
    reserve(info, 0xa_0000, 0x10_0000);
    let Some(start) = memory(phys, 56).filter(|s| number(s, 0, 4) == Some(MAGIC)) else { return };
    let field = |at, len| number(start, at, len).unwrap_or(0);
    info.rsdp = Some(field(32, 8)).filter(|p| *p != 0).map(PhysAddr);
    // SAFETY: 1. the caller's obligation.
    info.cmdline = unsafe { command_line(field(24, 8)) };
    if field(12, 4) > 0 {
        info.initrd = module(field(16, 8));
    }
    let has_map = field(4, 4) >= 1;
    if has_map {
        memory_map(info, field(40, 8), field(48, 4) as usize);
    }
}

/// # Safety
/// 1. Called once, by CPU 0 alone.
unsafe fn command_line(phys: u64) -> &'static str {
    let Some(text) = memory(phys, COMMAND_LINE_MAX) else { return "" };
    let len = text.iter().position(|b| *b == 0).unwrap_or(0);
    // SAFETY: 1. the caller's obligation.
    let copy = unsafe { &mut *(&raw mut COMMAND_LINE) };
    let mut kept = 0;
    // Bytes that are not ASCII are left out rather than judged as UTF-8.
    for byte in text[..len].iter().filter(|b| b.is_ascii()) {
        copy[kept] = *byte;
        kept += 1;
    }
    core::str::from_utf8(&copy[..kept]).unwrap_or("")
}

/// The first module is the initial RAM disk.
fn module(list: u64) -> Option<(PhysAddr, u64)> {
    let entry = memory(list, 32)?;
    let (phys, len) = (number(entry, 0, 8)?, number(entry, 8, 8)?);
    (len > 0).then_some((PhysAddr(phys), len))
}

fn memory_map(info: &mut BootInfo, table: u64, entries: usize) {
    let Some(bytes) = memory(table, entries.saturating_mul(24)) else { return };
    for entry in bytes.chunks_exact(24) {
        let field = |at, len| number(entry, at, len).unwrap_or(0);
        let kind = match field(16, 4) {
            1 => MemKind::Usable,
            3 => MemKind::Acpi,
            _ => MemKind::Reserved,
        };
        add(info, MemRegion { start: PhysAddr(field(0, 8)), len: field(8, 8), kind });
    }
}

fn reserve(info: &mut BootInfo, start: u64, end: u64) {
    add(info, MemRegion { start: PhysAddr(start), len: end - start, kind: MemKind::Reserved });
}

fn add(info: &mut BootInfo, region: MemRegion) {
    if let Some(slot) = info.regions.iter_mut().find(|slot| slot.is_none()) {
        *slot = Some(region);
    }
}
