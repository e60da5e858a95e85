//! The machine as the device tree describes it.
//!
//! The tree stays in memory for ever and is walked again for each question: they are asked at boot.

use super::fdt::{Node, Tree, cpu_hart};
use super::io::IoRegion;
use super::{cpu, fpu, plic, rtc, smp, timer};
use crate::bootinfo::BootInfo;
use crate::devices::{PciHost, UartInfo, VirtioMmio};
use crate::{MAX_CPUS, PhysAddr};
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

static TREE: AtomicU64 = AtomicU64::new(0);

/// Extensions that all harts have, as bits.
pub const SSTC: u32 = 1 << 0;
const SVPBMT: u32 = 1 << 1;
const VECTOR: u32 = 1 << 2;

static EXTENSIONS: AtomicU32 = AtomicU32::new(0);
static VECTOR_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The device tree.
pub(super) fn tree() -> Option<Tree<'static>> {
    match TREE.load(Relaxed) {
        0 => None,
        // SAFETY: 1. `read_early` was given this address by the firmware, and the range is reserved.
        phys => unsafe { Tree::at(PhysAddr(phys).to_virt().as_ptr::<u8>()) },
    }
}

pub(super) fn has(extensions: u32) -> bool {
    EXTENSIONS.load(Relaxed) & extensions == extensions
}

#[inline]
pub(super) fn has_svpbmt() -> bool {
    has(SVPBMT)
}

pub(super) fn has_vector() -> bool {
    has(VECTOR)
}

pub(super) fn vector_register_bytes() -> usize {
    VECTOR_BYTES.load(Relaxed)
}

/// What must be known before `ochre_main`: harts, time base, extensions, entropy.
pub(super) fn read_early(device_tree: PhysAddr, boot_hart: usize) {
    TREE.store(device_tree.0, Relaxed);
    let Some(tree) = tree() else { return };
    let harts = || tree.nodes().filter_map(|node| cpu_hart(&node));
    let others = harts().filter(|&hart| hart != boot_hart);
    cpu::set_harts(core::iter::once(boot_hart).chain(others).take(MAX_CPUS));
    let cpus = tree.nodes().find(|node| node.name == "cpus");
    let own_node = tree.nodes().find(|node| cpu_hart(node) == Some(boot_hart));
    let frequency = [cpus, own_node].into_iter().flatten().find_map(|node| node.number("timebase-frequency"));
    timer::set_frequency(frequency.unwrap_or(10_000_000));
    let common = tree
        .nodes()
        .filter(|node| cpu_hart(node).is_some())
        .map(|node| extensions_of(&node))
        .reduce(|all, one| all & one);
    EXTENSIONS.store(common.unwrap_or(0), Relaxed);
    if let Some(seed) = tree.nodes().find(|n| n.name == "chosen").and_then(|n| n.property("rng-seed")) {
        for word in seed.chunks_exact(8) {
            let word = word.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
            cpu::add_entropy(word.rotate_left(word as u32 & 63));
        }
    }
}

/// Reads what needs the trap vector and CSRs of this hart set up.
pub(super) fn probe_hart() {
    if has_vector() {
        VECTOR_BYTES.store(fpu::read_vlenb(), Relaxed);
    }
}

fn extensions_of(node: &Node) -> u32 {
    let names = [("sstc", SSTC), ("svpbmt", SVPBMT), ("v", VECTOR)];
    names.iter().filter(|(name, _)| has_extension(node, name)).fold(0, |all, (_, bit)| all | bit)
}

/// Whether a cpu node names an extension: in the list of new trees, or in the `rv64imafdcv_sstc` of old.
fn has_extension(node: &Node, name: &str) -> bool {
    if node.property("riscv,isa-extensions").is_some() {
        return node.texts("riscv,isa-extensions").any(|extension| extension == name);
    }
    let isa = node.text("riscv,isa").unwrap_or("");
    let (single, multi) = isa.split_once('_').unwrap_or((isa, ""));
    match name.len() {
        1 => single.strip_prefix("rv64").is_some_and(|letters| letters.contains(name)),
        _ => multi.split('_').any(|extension| extension == name),
    }
}

/// The isa line of /proc/cpuinfo.
pub(super) fn write_isa(node: &Node, out: &mut dyn fmt::Write) -> fmt::Result {
    if let Some(isa) = node.text("riscv,isa") {
        return out.write_str(isa);
    }
    out.write_str(node.text("riscv,isa-base").unwrap_or("rv64i"))?;
    let letter = |name: &&str| name.len() == 1;
    node.texts("riscv,isa-extensions")
        .filter(|n| letter(n) && *n != "i")
        .try_for_each(|n| out.write_str(n))?;
    node.texts("riscv,isa-extensions").filter(|n| !letter(n)).try_for_each(|n| write!(out, "_{n}"))
}

/// Finds the interrupt controller and the clock chip. After memory management is up.
pub fn init(_info: &BootInfo) {
    let Some(tree) = tree() else { return };
    plic::init(tree);
    rtc::init(tree);
    smp::init(tree);
}

/// Registers of a node, reached through the direct map, which covers the first gigabytes.
pub(super) fn registers(node: &Node) -> Option<(PhysAddr, IoRegion)> {
    let (phys, len) = node.reg().next()?;
    if phys.checked_add(len)? > crate::layout::DIRECT_MAP_SIZE as u64 {
        return None;
    }
    // SAFETY: 1. firmware says that these are registers; the boot table maps them in the direct map.
    let io = unsafe { IoRegion::mmio(PhysAddr(phys).to_virt(), len as usize) };
    Some((PhysAddr(phys), io))
}

/// The console's serial port: `stdout-path`, else the first one.
pub fn uart() -> Option<UartInfo> {
    let tree = tree()?;
    let path = tree.nodes().find(|n| n.name == "chosen").and_then(|n| n.text("stdout-path"));
    let name = path.and_then(|p| p.split(':').next()).and_then(|p| p.rsplit('/').next());
    let is_uart = |n: &Node| n.is_okay() && (n.is_compatible("ns16550a") || n.is_compatible("ns16550"));
    let node = tree.nodes().find(|n| is_uart(n) && Some(n.name) == name).or(tree.nodes().find(is_uart))?;
    let (_, io) = registers(&node)?;
    Some(UartInfo {
        io,
        reg_shift: node.cell("reg-shift").unwrap_or(0),
        clock_hz: node.cell("clock-frequency").unwrap_or(0),
        line: node.cell("interrupts").unwrap_or(0),
    })
}

/// The virtio-mmio slots, in the tree's order, in which Linux numbers them, too. (QEMU fills them from the highest
/// address down and writes the tree so: by address the disks would be in the reverse of the command line's order.)
pub fn virtio_mmio() -> impl Iterator<Item = VirtioMmio> {
    let nodes = tree().into_iter().flat_map(|tree| tree.nodes());
    nodes.filter(|node| node.is_compatible("virtio,mmio")).filter_map(|node| {
        let (_, io) = registers(&node)?;
        Some(VirtioMmio { io, line: node.cell("interrupts").unwrap_or(0) })
    })
}

/// The PCI host bridge, if it is configured through ECAM.
pub fn pci_host() -> Option<PciHost> {
    let node = tree()?.nodes().find(|n| n.is_okay() && n.is_compatible("pci-host-ecam-generic"))?;
    let (ecam, ecam_len) = node.reg().next()?;
    let mut buses = node.cells("bus-range").map(|bus| bus as u8);
    let buses = (buses.next().unwrap_or(0), buses.next().unwrap_or(255));
    let mut host = PciHost { ecam: PhysAddr(ecam), ecam_len, buses, mem32: (0, 0), mem64: (0, 0) };
    let cells: alloc::vec::Vec<u64> = node.cells("ranges").map(u64::from).collect();
    // Each: three cells of PCI address (the first has the space), two of CPU address, two of size.
    for range in cells.chunks_exact(7) {
        let window = (range[3] << 32 | range[4], range[5] << 32 | range[6]);
        match range[0] >> 24 & 3 {
            2 => host.mem32 = window,
            3 => host.mem64 = window,
            _ => {}
        }
    }
    Some(host)
}

/// The line of a pin (1 to 4) of a device on the root bus, by the bridge's `interrupt-map`: each entry has
/// three cells of PCI address, the pin, the controller, and the controller's one cell.
pub fn pci_line(device: u8, pin: u8) -> Option<u32> {
    let node = tree()?.nodes().find(|n| n.is_okay() && n.is_compatible("pci-host-ecam-generic"))?;
    let mask: alloc::vec::Vec<u32> = node.cells("interrupt-map-mask").collect();
    let (address_mask, pin_mask) = (*mask.first()?, *mask.get(3)?);
    let wanted = (u32::from(device) << 11 & address_mask, u32::from(pin) & pin_mask);
    let map: alloc::vec::Vec<u32> = node.cells("interrupt-map").collect();
    let entry = map.chunks_exact(6).find(|entry| (entry[0] & address_mask, entry[3] & pin_mask) == wanted)?;
    Some(entry[5])
}

/// The machine's model.
pub fn machine_name() -> &'static str {
    tree().and_then(|tree| tree.nodes().next()).and_then(|root| root.text("model")).unwrap_or("riscv64")
}
