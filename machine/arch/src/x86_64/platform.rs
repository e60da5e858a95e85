//! The machine: what firmware says is there, and the setting up of what all CPUs share.
//!
//! Firmware's tables are read in two steps: [`discover`] before `ochre_main`, while the early map shows
//! them, and [`init`] when there is an `ioremap` for the registers.

use super::acpi::{self, Fadt, MadtEntry, Tables};
use super::io::IoRegion;
use super::{apic, console, cpuid, ioapic, mptable, percpu, power, reg, timer};
use crate::{BootInfo, MAX_CPUS, PAGE_SIZE, PciHost, PhysAddr, UartInfo, VirtAddr, VirtioMmio, hooks};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const IO_APICS_MAX: usize = 4;
const VIRTIO_MAX: usize = 32;
/// Where PCs have their I/O APIC when nothing says so.
const DEFAULT_IO_APIC: u64 = 0xfec0_0000;

/// What [`discover`] leaves for [`init`]. Written and read by CPU 0 alone, before others start.
struct Found {
    local_apic: u64,
    io_apics: [Option<(u64, u32)>; IO_APICS_MAX],
    fadt: Fadt,
    sleep_types: (u8, u8),
    virtio: [Option<(u64, u64, u32)>; VIRTIO_MAX],
    ecam: Option<(u64, u8, u8)>,
    acpi: bool,
}

static mut FOUND: Found = Found {
    local_apic: apic::DEFAULT_PHYS,
    io_apics: [None; IO_APICS_MAX],
    fadt: Fadt {
        dsdt: 0,
        pm1a_control: None,
        pm1b_control: None,
        pm_timer: None,
        sleep_control: None,
        hardware_reduced: false,
    },
    sleep_types: (5, 5),
    virtio: [None; VIRTIO_MAX],
    ecam: None,
    acpi: false,
};

/// A virtio slot after [`init`]: virtual address (0: none), length, line.
struct VirtioSlot {
    base: AtomicUsize,
    len: AtomicU32,
    line: AtomicU32,
}

static VIRTIO: [VirtioSlot; VIRTIO_MAX] =
    [const { VirtioSlot { base: AtomicUsize::new(0), len: AtomicU32::new(0), line: AtomicU32::new(0) } };
        VIRTIO_MAX];
static REDUCED: AtomicBool = AtomicBool::new(false);
/// Address, first bus, number of buses (0: there is no PCI).
static ECAM: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

fn found() -> &'static mut Found {
    // SAFETY: 1. only CPU 0 calls this, before others start, one reference at a time.
    unsafe { &mut *(&raw mut FOUND) }
}

/// Reads firmware's tables: processors, interrupt controllers, power. Before `ochre_main`, GS set.
pub(super) fn discover(info: &mut BootInfo) {
    let found = found();
    let mut cpus = CpuList::new();
    match Tables::find(info.rsdp) {
        Some((tables, rsdp)) => {
            info.rsdp = Some(rsdp);
            if let Some(madt) = tables.get(b"APIC") {
                acpi::madt(madt, |entry| note_entry(found, &mut cpus, entry));
            }
            read_acpi(found, &tables);
        }
        None => {
            info.rsdp = None;
            mptable::read(|entry| note_entry(found, &mut cpus, entry));
            virtio_from_command_line(found, info.cmdline);
        }
    }
    percpu::set_cpus(cpus.ids());
}

fn read_acpi(found: &mut Found, tables: &Tables) {
    found.acpi = true;
    if let Some(table) = tables.get(b"FACP") {
        found.fadt = Fadt::read(table);
        found.sleep_types = acpi::sleep_types(found.fadt.dsdt);
        let mut slots = found.virtio.iter_mut();
        acpi::virtio_devices(found.fadt.dsdt, |phys, len, line| {
            if let Some(slot) = slots.next() {
                *slot = Some((phys, len, line));
            }
        });
    }
    found.ecam = tables.get(b"MCFG").and_then(acpi::mcfg);
}

/// The processors, the running one first.
struct CpuList {
    ids: [u32; MAX_CPUS],
    count: usize,
}

impl CpuList {
    fn new() -> CpuList {
        let mut list = CpuList { ids: [0; MAX_CPUS], count: 1 };
        list.ids[0] = cpuid::leaf(1, 0).ebx >> 24;
        list
    }

    fn add(&mut self, apic_id: u32) {
        if !self.ids().contains(&apic_id) && self.count < MAX_CPUS {
            self.ids[self.count] = apic_id;
            self.count += 1;
        }
    }

    fn ids(&self) -> &[u32] {
        &self.ids[..self.count]
    }
}

fn note_entry(found: &mut Found, cpus: &mut CpuList, entry: MadtEntry) {
    match entry {
        MadtEntry::Cpu { apic_id } => cpus.add(apic_id),
        MadtEntry::LocalApic { phys } => found.local_apic = phys,
        MadtEntry::IoApic { phys, first_line } => {
            if let Some(slot) = found.io_apics.iter_mut().find(|slot| slot.is_none()) {
                *slot = Some((phys, first_line));
            }
        }
        MadtEntry::Override { isa, line, level, active_low } => {
            ioapic::set_isa(isa.into(), line);
            ioapic::configure(line, level, active_low);
        }
    }
}

/// `virtio_mmio.device=512@0xfeb00000:5`, as QEMU and Firecracker add it where there is no ACPI.
fn virtio_from_command_line(found: &mut Found, line: &str) {
    let mut slots = found.virtio.iter_mut();
    for word in line.split_ascii_whitespace() {
        let Some(device) = word.strip_prefix("virtio_mmio.device=") else { continue };
        let parse = || {
            let (size, rest) = device.split_once('@')?;
            let mut parts = rest.split(':');
            let phys = parse_number(parts.next()?)?;
            let irq = parse_number(parts.next()?)?;
            Some((phys, parse_number(size)?, irq as u32))
        };
        if let (Some(device), Some(slot)) = (parse(), slots.next()) {
            *slot = Some(device);
        }
    }
}

/// Decimal or 0x, with K for kilobytes.
fn parse_number(text: &str) -> Option<u64> {
    let (text, factor) = match text.strip_suffix(['K', 'k']) {
        Some(text) => (text, 1024),
        None => (text, 1),
    };
    let value = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    value.ok()?.checked_mul(factor)
}

/// The early, identical view of the local APIC, to measure clocks with.
pub(super) fn early_local_apic() {
    apic::set_base(PhysAddr(found().local_apic).to_virt().0);
}

/// The ACPI timer's port.
pub(super) fn pm_timer_port() -> Option<u16> {
    found().fadt.pm_timer
}

/// Maps and sets up the interrupt controllers, and readies power-off and the clock event. CPU 0, once,
/// interrupts off, `hooks().ioremap` at work.
pub fn init(_info: &BootInfo) {
    let found = found();
    if let Some(base) = map(found.local_apic, PAGE_SIZE) {
        apic::set_base(base);
    }
    disable_pic();
    apic::init_cpu();
    if found.io_apics.iter().flatten().next().is_none() {
        found.io_apics[0] = Some((DEFAULT_IO_APIC, 0));
    }
    for (phys, first_line) in found.io_apics.iter().flatten() {
        if let Some(base) = map(*phys, PAGE_SIZE) {
            ioapic::add(base, *first_line);
        }
    }
    power::init(&found.fadt, found.sleep_types, |phys| map(phys, 8));
    for (slot, device) in VIRTIO.iter().zip(found.virtio.iter().flatten()) {
        init_virtio(slot, *device);
    }
    REDUCED.store(found.fadt.hardware_reduced || !found.acpi, Ordering::Relaxed);
    if let Some((phys, first, last)) = found.ecam {
        let values = [phys, first.into(), u64::from(last.saturating_sub(first)) + 1];
        for (slot, value) in ECAM.iter().zip(values) {
            slot.store(value, Ordering::Relaxed);
        }
    }
    timer::refine();
}

fn init_virtio(slot: &VirtioSlot, (phys, len, line): (u64, u64, u32)) {
    let Some(base) = map(phys, len as usize) else { return };
    ioapic::configure(line, true, false);
    slot.len.store(len as u32, Ordering::Relaxed);
    slot.line.store(line, Ordering::Relaxed);
    slot.base.store(base, Ordering::Relaxed);
}

/// Device registers as virtual memory.
fn map(phys: u64, len: usize) -> Option<usize> {
    let offset = phys as usize % PAGE_SIZE;
    let page =
        (hooks()?.ioremap)(PhysAddr(phys - offset as u64), (offset + len).next_multiple_of(PAGE_SIZE))?;
    Some(page.0 + offset)
}

/// The 8259 pair: moved off the exceptions' vectors (a spurious interrupt cannot be masked), all masked.
fn disable_pic() {
    // SAFETY: 1. the ports of the interrupt controllers, or of nothing.
    unsafe {
        for (port, vector, cascade) in [(0x20, 0xe0, 4), (0xa0, 0xe8, 2)] {
            reg::outb(port, 0x11);
            reg::outb(port + 1, vector);
            reg::outb(port + 1, cascade);
            reg::outb(port + 1, 1);
            reg::outb(port + 1, 0xff);
        }
    }
}

/// The first serial port.
pub fn uart() -> Option<UartInfo> {
    console::present().then(|| UartInfo {
        // SAFETY: 1. the serial port's registers.
        io: unsafe { IoRegion::ports(console::COM1, 8) },
        reg_shift: 0,
        clock_hz: 1_843_200,
        line: ioapic::isa_line(console::COM1_LINE),
    })
}

/// The virtio-mmio slots; empty ones are among them.
pub fn virtio_mmio() -> impl Iterator<Item = VirtioMmio> {
    VIRTIO.iter().filter(|slot| slot.base.load(Ordering::Relaxed) != 0).map(|slot| {
        let base = VirtAddr(slot.base.load(Ordering::Relaxed));
        VirtioMmio {
            // SAFETY: 1. `init` mapped the registers there.
            io: unsafe { IoRegion::mmio(base, slot.len.load(Ordering::Relaxed) as usize) },
            line: slot.line.load(Ordering::Relaxed),
        }
    })
}

/// PCI's configuration space (MCFG), and the part of the hole below 4 GiB that is left for devices: from the
/// end of the configuration space to the I/O APIC where that is in the lower part of the hole (q35), else
/// below it (microvm). Firmware has put the devices there; a window above 4 GiB is not described.
pub fn pci_host() -> Option<PciHost> {
    const HOLE: u64 = 0xc000_0000;
    let [ecam, first, count] = [0, 1, 2].map(|i: usize| ECAM[i].load(Ordering::Relaxed));
    if count == 0 {
        return None;
    }
    let ecam_len = count << 20;
    let end = ecam + (first << 20) + ecam_len;
    let (start, stop) = if end <= HOLE { (HOLE, DEFAULT_IO_APIC) } else { (HOLE, ecam.max(HOLE)) };
    Some(PciHost {
        ecam: PhysAddr(ecam),
        ecam_len,
        buses: (first as u8, (first + count - 1) as u8),
        mem32: (start, stop - start),
        mem64: (0, 0),
    })
}

/// INTx pins are wired as an ACPI method says, which nobody interprets here: PCI devices use messages.
pub fn pci_line(_device: u8, _pin: u8) -> Option<u32> {
    None
}

pub fn machine_name() -> &'static str {
    match (ECAM[2].load(Ordering::Relaxed) != 0, REDUCED.load(Ordering::Relaxed)) {
        (true, false) => "PC (q35)",
        (_, true) => "microvm",
        (false, false) => "PC",
    }
}
