//! From OpenSBI to `ochre_main`.
//!
//! The assembly (boot.S) makes a page table with pages of 1 GiB and 2 MiB, turns paging on, and calls
//! [`boot_main`] on the boot stack. That reads the device tree, goes to the paging mode asked for, and
//! fills in [`BootInfo`].

use super::cpu::{self, Local};
use super::fdt::{Node, Tree};
use super::{entry, mmu, platform, smp};
use crate::bootinfo::{BootInfo, MAX_REGIONS, MemKind, MemRegion, Sections};
use crate::hooks::hooks;
use crate::{PhysAddr, VirtAddr, layout};
use core::mem::offset_of;

/// The boot hart's page table and the tables below and above it.
#[repr(C, align(4096))]
struct Table([u64; 512]);

static mut ROOT: Table = Table([0; 512]);
static mut IMAGE: Table = Table([0; 512]);
static mut TOP: Table = Table([0; 512]);
static mut TOP0: Table = Table([0; 512]);
/// The roots of Sv48 and Sv57: their last entry leads to the next smaller one.
static mut ROOT48: Table = Table([0; 512]);
static mut ROOT57: Table = Table([0; 512]);

core::arch::global_asm!(
    include_str!("boot.S"),
    root = sym ROOT,
    image = sym IMAGE,
    top = sym TOP,
    top0 = sym TOP0,
    trap_page = sym entry::TRAP_PAGE,
    local = sym cpu::BOOT_LOCAL,
    boot_main = sym boot_main,
    secondary_main = sym secondary_main,
    starting = sym smp::STARTING,
    MAX_CPUS = const crate::MAX_CPUS,
    KERNEL_BASE = const layout::KERNEL_BASE,
    DIRECT_MAP_BASE = const layout::DIRECT_MAP_BASE,
    L_START_SATP = const offset_of!(Local, start_satp),
    L_START_SP = const offset_of!(Local, start_sp),
    L_SATP = const offset_of!(Local, satp),
);

unsafe extern "C" {
    fn secondary_start();
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __kernel_end: u8;
}

unsafe extern "Rust" {
    fn ochre_main(info: &'static BootInfo) -> !;
}

static mut BOOT_INFO: Option<BootInfo> = None;

/// On the boot hart, paging on, interrupts off.
unsafe extern "C" fn boot_main(hart: usize, device_tree: usize, image: usize) -> ! {
    layout::set_kernel_phys_base(image as u64);
    let device_tree = PhysAddr(device_tree as u64);
    platform::read_early(device_tree, hart);
    // SAFETY: 1. the boot code, once, before anybody else runs.
    cpu::prepare(unsafe { cpu::boot_local() }, 0);
    cpu::init_local(0);
    platform::probe_hart();
    let info = read_info(device_tree);
    let levels = mmu::wanted_levels(info.cmdline);
    // SAFETY: 1. `root_of` leads to the table that is active now.
    unsafe { mmu::choose_mode(levels, root_of(levels)) };
    // SAFETY: 1. only this hart runs; 2. the place is written once and only read afterwards.
    unsafe {
        let place = &raw mut BOOT_INFO;
        ochre_main((*place).insert(info))
    }
}

/// On a started hart, with its own stack and the kernel's page table.
unsafe extern "C" fn secondary_main() -> ! {
    let cpu = cpu::id();
    cpu::init_local(cpu);
    smp::set_online(cpu);
    match hooks() {
        Some(hooks) => (hooks.secondary_main)(cpu),
        None => super::power::halt(),
    }
}

/// Where started harts begin.
pub(super) fn secondary_entry() -> PhysAddr {
    VirtAddr(secondary_start as *const () as usize).to_phys()
}

/// A root with `levels` levels that maps what the Sv39 root does.
fn root_of(levels: usize) -> PhysAddr {
    let phys = |table: *const Table| VirtAddr(table as usize).to_phys();
    let last = |table: *const Table| mmu::Pte::table(phys(table)).0;
    // SAFETY: 1. only the boot hart runs, and the tables written are not active.
    unsafe {
        let (root48, root57) = (&raw mut ROOT48, &raw mut ROOT57);
        (*root48).0[511] = last(&raw const ROOT);
        (*root57).0[511] = last(root48);
    }
    match levels {
        3 => phys(&raw const ROOT),
        4 => phys(&raw const ROOT48),
        _ => phys(&raw const ROOT57),
    }
}

fn address(symbol: *const u8) -> usize {
    symbol as usize
}

fn sections() -> Sections {
    Sections {
        text: (address(&raw const __text_start), address(&raw const __text_end)),
        rodata: (address(&raw const __rodata_start), address(&raw const __rodata_end)),
        data: (address(&raw const __data_start), address(&raw const __data_end)),
    }
}

/// What the device tree says.
fn read_info(device_tree: PhysAddr) -> BootInfo {
    let start = VirtAddr(layout::KERNEL_BASE).to_phys();
    let end = VirtAddr(address(&raw const __kernel_end)).to_phys();
    let mut info = BootInfo {
        cmdline: "",
        initrd: None,
        regions: [None; MAX_REGIONS],
        kernel: (start, end),
        device_tree: Some(device_tree),
        rsdp: None,
        sections: sections(),
    };
    if let Some(tree) = platform::tree() {
        read_chosen(tree, &mut info);
        read_memory(tree, device_tree, &mut info);
    }
    info
}

fn read_chosen(tree: Tree<'static>, info: &mut BootInfo) {
    let Some(chosen) = tree.nodes().find(|node| node.name == "chosen") else { return };
    info.cmdline = chosen.text("bootargs").unwrap_or("");
    let initrd = (chosen.number("linux,initrd-start"), chosen.number("linux,initrd-end"));
    if let (Some(start), Some(end)) = initrd
        && start < end
    {
        info.initrd = Some((PhysAddr(start), end - start));
    }
}

fn read_memory(tree: Tree<'static>, device_tree: PhysAddr, info: &mut BootInfo) {
    let ram = |node: &Node| node.text("device_type") == Some("memory") && node.is_okay();
    let usable = tree.nodes().filter(ram).flat_map(|node| node.reg());
    let reserved = tree.nodes().filter(|node| node.parent == "reserved-memory").flat_map(|node| node.reg());
    let own = (device_tree.0, tree.total_bytes() as u64);
    let kept = reserved.chain(tree.reservations()).chain([own]);
    let kinds = kept.map(|r| (r, MemKind::Reserved)).chain(usable.map(|r| (r, MemKind::Usable)));
    // Reserved ones first: they are the last ones to drop when there are too many.
    for (slot, ((start, len), kind)) in info.regions.iter_mut().zip(kinds) {
        *slot = Some(MemRegion { start: PhysAddr(start), len, kind });
    }
}
