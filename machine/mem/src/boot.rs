//! From the firmware's list of memory to a working allocator.
//!
//! ```text
//!   regions -> free ranges -> frame metadata -> zones -> the kernel's page table -> slabs, stacks
//! ```

use crate::frame::{Frame, set_array};
use crate::pages::{ZONES, set_batch};
use crate::{OutOfMemory, asid, cache, folio, kernel_table, stack};
use arch::layout::DIRECT_MAP_SIZE;
use arch::{BootInfo, MemKind, PAGE_SIZE, PhysAddr};
use buddy::{Ranges, Watermarks, Zone, ZoneKind};
use core::sync::atomic::{AtomicBool, Ordering};
use sync::Once;

type Memory = Ranges<128>;

const PAGE: u64 = PAGE_SIZE as u64;
/// Where DMA32 ends.
const LOW_END: u64 = 4 << 30;
/// Nothing below is used: the BIOS data area, the page where other CPUs start, the null frame.
const FIRST_USED: u64 = 64 << 10;

/// All RAM, for telling devices from it.
static RAM: Once<Memory> = Once::new();

/// Whether any byte of the range is RAM.
pub(crate) fn is_ram(start: u64, end: u64) -> bool {
    RAM.get().is_some_and(|ram| ram.iter().any(|(from, to)| start < to && from < end))
}

static READY: AtomicBool = AtomicBool::new(false);

/// Makes memory work: afterwards the heap, folios, stacks and page tables may be used, and the final kernel
/// page table is active on this CPU. Once, on CPU 0, on the boot table, before any allocation. A machine
/// too small for that panics.
pub fn init(info: &BootInfo) {
    if READY.swap(true, Ordering::Relaxed) {
        return;
    }
    set_up(info).expect("not enough memory to start");
}

/// Activates the final kernel table and the per-CPU caches on the CPU that calls it; on CPU 0 after `init`.
pub fn init_cpu() {
    kernel_table::activate();
    cache::init_cpu();
}

fn set_up(info: &BootInfo) -> Result<(), OutOfMemory> {
    if let Some(letters) = argument(info.cmdline, "slab_debug") {
        crate::debug_slab(letters);
    } else if cfg!(all(debug_assertions, target_os = "none")) {
        crate::debug_slab("FZP");
    }
    let usable = usable_memory(info);
    let mut free = usable.clone();
    take_out_used(&mut free, info);
    let zones = [part(&usable, 0, LOW_END), part(&usable, LOW_END, DIRECT_MAP_SIZE as u64)];
    make_metadata(&zones, &mut free)?;
    fill_zones(&zones, &free);
    asid::init();
    let ram = ram(info);
    kernel_table::init(info, &ram)?;
    let _ = RAM.set(ram);
    init_cpu();
    folio::init_zero_page()?;
    stack::init(crate::stats().total_pages)
}

fn down(addr: u64) -> u64 {
    addr & !(PAGE - 1)
}

fn up(addr: u64) -> u64 {
    addr.saturating_add(PAGE - 1) & !(PAGE - 1)
}

/// Whole pages of RAM that are the kernel's, the image and the initial RAM disk among them.
fn usable_memory(info: &BootInfo) -> Memory {
    let mut usable = Memory::new();
    for region in info.regions().filter(|region| region.kind == MemKind::Usable) {
        usable.add(up(region.start.0), down(region.start.0.saturating_add(region.len)));
    }
    for region in info.regions().filter(|region| region.kind != MemKind::Usable) {
        usable.remove(down(region.start.0), up(region.start.0.saturating_add(region.len)));
    }
    usable.remove(0, FIRST_USED);
    usable.remove(DIRECT_MAP_SIZE as u64, u64::MAX);
    if let Some(limit) = argument(info.cmdline, "mem").and_then(parse_size) {
        limit_to(&mut usable, limit);
    }
    usable
}

/// All that is RAM, rounded out: what the direct map shows as memory.
fn ram(info: &BootInfo) -> Memory {
    let mut ram = Memory::new();
    for region in info.regions().filter(|region| region.kind != MemKind::Reserved) {
        ram.add(down(region.start.0), up(region.start.0.saturating_add(region.len)));
    }
    ram.remove(DIRECT_MAP_SIZE as u64, u64::MAX);
    ram
}

/// `mem=`: keeps the lowest `limit` bytes.
fn limit_to(usable: &mut Memory, limit: u64) {
    let mut left = limit;
    for (start, end) in usable.clone().iter() {
        let keep = left.min(end - start);
        usable.remove(down(start + keep), end);
        left -= keep;
    }
}

fn take_out_used(free: &mut Memory, info: &BootInfo) {
    free.remove(down(info.kernel.0.0), up(info.kernel.1.0));
    if let Some((start, len)) = info.initrd {
        free.remove(down(start.0), up(start.0 + len));
    }
    if let Some(tree) = info.device_tree {
        // SAFETY: 1. the boot table maps RAM, and the tree lies in RAM; 2. its second word is its size,
        // big-endian (devicetree specification 5.2).
        let size = u32::from_be(unsafe { tree.to_virt().as_ptr::<u32>().add(1).read_unaligned() });
        free.remove(down(tree.0), up(tree.0 + u64::from(size)));
    }
}

/// First and last address of the memory between two borders.
fn part(usable: &Memory, low: u64, high: u64) -> (u64, u64) {
    let cut = |(start, end): (u64, u64)| (start.clamp(low, high), end.clamp(low, high));
    let inside = || usable.iter().map(cut).filter(|(start, end)| start < end);
    let first = inside().next().map_or(low, |(start, _)| start);
    (first, inside().last().map_or(first, |(_, end)| end))
}

/// Finds room for the frame records and clears them. Between the zones (the hole below 4 GiB) records
/// would describe nothing: their memory stays free.
fn make_metadata(zones: &[(u64, u64); 2], free: &mut Memory) -> Result<(), OutOfMemory> {
    let [low, high] = *zones;
    let first = if low.0 < low.1 { low.0 } else { high.0 };
    let end = if high.0 < high.1 { high.1 } else { low.1 };
    let record = |phys: u64| (phys - first) / PAGE * size_of::<Frame>() as u64;
    let bytes = up(record(end));
    let start = free.take_top(bytes, PAGE, LOW_END).ok_or(OutOfMemory)?;
    let mut clear = (0, bytes);
    if low.0 < low.1 && high.0 < high.1 {
        let hole = (up(record(low.1)), down(record(high.0)));
        free.add(start + hole.0, start + hole.1);
        clear = (hole.0, hole.1.max(hole.0));
    }
    let array = PhysAddr(start).to_virt();
    for (from, to) in [(0, clear.0), (clear.1, bytes)] {
        // SAFETY: 1. the range was just taken out of the free memory; 2. the boot table maps it, as it lies
        // below 4 GiB.
        unsafe { crate::bytes::zero_pages(array.add(from as usize).as_ptr(), ((to - from) / PAGE) as usize) };
    }
    // SAFETY: 1. the array has a zeroed record for every frame of both zones, and is never given back.
    unsafe { set_array(array.as_ptr(), (first / PAGE) as u32) };
    Ok(())
}

fn fill_zones(zones: &[(u64, u64); 2], free: &Memory) {
    let frames = |bytes: u64| (bytes / PAGE) as u32;
    for ((slot, kind), &(start, end)) in ZONES.iter().zip([ZoneKind::Dma32, ZoneKind::Normal]).zip(zones) {
        let mut zone = Zone::new(kind, frames(start), frames(end));
        for (from, to) in free.iter() {
            let (from, to) = (from.clamp(start, end), to.clamp(start, end));
            zone.add(&mut crate::frame::Metadata, frames(from), frames(to));
        }
        *slot.lock() = zone;
    }
    set_watermarks();
}

fn set_watermarks() {
    let total: u32 = ZONES.iter().map(|zone| zone.lock().managed()).sum();
    for zone in &ZONES {
        let mut zone = zone.lock();
        let marks = Watermarks::for_zone(zone.managed(), total);
        zone.set_watermarks(marks);
    }
    set_batch(total);
}

/// Gives the pages of the initial RAM disk (`BootInfo::initrd`) to the allocator, once it is unpacked.
/// The caller keeps no reference into it.
pub fn free_initrd(start: PhysAddr, len: u64) {
    let (mut from, mut to) = (up(start.0), down(start.0 + len));
    to = to.max(from);
    for zone in &ZONES {
        let mut zone = zone.lock();
        let range = zone.buddy().range();
        let (first, end) = (u64::from(range.start) * PAGE, u64::from(range.end) * PAGE);
        let (low, high) = (from.clamp(first, end), to.clamp(first, end));
        if low < high {
            zone.add(&mut crate::frame::Metadata, (low / PAGE) as u32, (high / PAGE) as u32);
            from = high.max(from);
        }
    }
    set_watermarks();
}

/// The value of `name=value` in the command line; "" for a bare `name`.
fn argument<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    cmdline.split_ascii_whitespace().find_map(|word| match word.strip_prefix(name)? {
        "" => Some(""),
        rest => rest.strip_prefix('='),
    })
}

/// Parses Linux's memory sizes: a number with K, M or G.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|&size| size >= 16 << 20)
}

/// The bytes of memory that the boot loader filled and that is not the allocator's yet: the initial RAM
/// disk. Nobody may use the slice after [`free_initrd`] was called for it.
pub fn boot_memory(start: PhysAddr, len: u64) -> &'static [u8] {
    // SAFETY: 1. `init` kept the range out of the allocator and the direct map covers all RAM; 2. nobody
    // writes it until `free_initrd`, after which the caller does not look again.
    unsafe { core::slice::from_raw_parts(start.to_virt().as_ptr(), len as usize) }
}
