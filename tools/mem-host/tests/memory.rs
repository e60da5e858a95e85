//! machine/mem on a fake machine: 128 MiB in two zones with a hole, eight CPUs played by threads.
//!
//! The crate keeps its state in statics, so this is one test of many steps. Environment variables vary the
//! machine: `SLAB_DEBUG`, `LEVELS`, `ASID_BITS`; the second test runs the first with several of them.

use arch::block::Block;
use arch::bootinfo::{MAX_REGIONS, Sections};
use arch::paging::PteFlags;
use arch::{BootInfo, MemKind, MemRegion, PAGE_SIZE, PhysAddr, VirtAddr, cpu, irq, layout, mmu};
use mem::{AllocFlags, Entry, Folio, KernelHeap, KernelStack, KmemCache, MemStats, UserTable};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

const MIB: u64 = 1 << 20;
const USER_END: usize = 1 << 47;
const RW: PteFlags = PteFlags::READ.union(PteFlags::WRITE).union(PteFlags::ACCESSED).union(PteFlags::DIRTY);

static HEAP: KernelHeap = KernelHeap;
static REPORTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn machine() -> BootInfo {
    let region = |start, len, kind| Some(MemRegion { start: PhysAddr(start), len, kind });
    let mut regions = [None; MAX_REGIONS];
    regions[0] = region(0, 0x9_fc00, MemKind::Usable);
    regions[1] = region(MIB, 63 * MIB, MemKind::Usable);
    regions[2] = region(0xf_0000, 0x1_0000, MemKind::Reserved);
    regions[3] = region(4 << 30, 64 * MIB, MemKind::Usable);
    regions[4] = region(64 * MIB, MIB, MemKind::Acpi);
    regions[5] = region(20 * MIB + 0x123, 0x1000, MemKind::Reserved);
    let base = layout::KERNEL_BASE;
    BootInfo {
        cmdline: if var("SLAB_DEBUG") > 0 { "quiet slab_debug=FZP init=/x" } else { "quiet init=/x" },
        initrd: Some((PhysAddr(60 * MIB), 3 * MIB)),
        regions,
        kernel: (PhysAddr(4 * MIB), PhysAddr(6 * MIB)),
        device_tree: None,
        rsdp: None,
        sections: Sections {
            text: (base, base + 0x8_0000),
            rodata: (base + 0x8_0000, base + 0xc_0000),
            data: (base + 0xc_0000, base + 0x20_0000),
        },
    }
}

fn var(name: &str) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn boot() {
    layout::map_memory(5 << 30);
    layout::set_kernel_phys_base(4 * MIB);
    mmu::ROOT.store(128 * MIB, Relaxed); // an empty boot table, outside of RAM
    mmu::LEVELS.store(var("LEVELS").max(4), Relaxed);
    if std::env::var("ASID_BITS").is_ok() {
        mmu::ASID_BITS.store(var("ASID_BITS") as u32, Relaxed);
    }
    let off = irq::disable();
    mem::init(&machine());
    irq::restore(off);
    mem::set_report(|text| REPORTS.lock().unwrap().push(text.to_string()));
}

/// Runs `body(cpu)` on `count` CPUs at once.
fn on_cpus(count: usize, body: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for id in 0..count {
            let body = &body;
            scope.spawn(move || {
                cpu::become_cpu(id);
                mem::init_cpu();
                body(id);
            });
        }
    });
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

/// Pages that are accounted for; what is missing has leaked.
fn accounted(stats: &MemStats) -> usize {
    stats.free_pages
        + stats.slab_pages
        + stats.table_pages
        + stats.stack_bytes / PAGE_SIZE
        + stats.large_pages
}

#[test]
fn memory() {
    boot();
    on_cpus(8, |_| ()); // each CPU's cache page
    let start = mem::stats();
    // 128 MiB less the hole at 640 KiB, kernel, RAM disk, the first 64 KiB and 1 MiB of frame records.
    assert!((120 * 256..128 * 256).contains(&start.total_pages), "{start:?}");
    heap();
    vmalloc();
    stacks();
    typed_cache();
    exhaustion();
    folios();
    one_table();
    tables_against_a_model();
    on_cpus(8, |_| ());
    let end = mem::stats();
    assert!(accounted(&start).abs_diff(accounted(&end)) <= 1, "{start:?}\n{end:?}");
    mem::free_initrd(PhysAddr(60 * MIB), 3 * MIB);
    assert_eq!(mem::stats().total_pages, end.total_pages + 3 * 256);
    assert!(REPORTS.lock().unwrap().is_empty());
    if var("SLAB_DEBUG") > 0 {
        crimes();
    }
}

/// The same on other machines: slab debugging, five levels, no address-space numbers, so few that they
/// are used up all the time.
#[test]
fn memory_on_other_machines() {
    let this = std::env::current_exe().unwrap();
    for (name, value) in [("SLAB_DEBUG", "1"), ("LEVELS", "5"), ("ASID_BITS", "0"), ("ASID_BITS", "5")] {
        let mut command = std::process::Command::new(&this);
        let status = command.env(name, value).args(["--exact", "memory"]).status().unwrap();
        assert!(status.success(), "{name}={value}");
    }
}

fn heap() {
    on_cpus(4, |id| {
        let mut random = Random(id as u64 + 1);
        let mut held: Vec<(Block<KernelHeap>, u8)> = Vec::new();
        for round in 0..20_000 {
            if held.len() < 400 && random.below(2) == 0 {
                let size = match random.below(20) {
                    0 => random.below(30_000),
                    1..4 => random.below(8192),
                    _ => random.below(300),
                };
                let fill = (round ^ id) as u8;
                held.push((Block::new(&HEAP, size + 1, 1 << random.below(7), fill).unwrap(), fill));
            } else if !held.is_empty() {
                let which = random.below(held.len());
                let (mut block, fill) = held.swap_remove(which);
                assert!(block.bytes().iter().all(|&byte| byte == fill));
                if random.below(4) == 0 {
                    let kept = block.bytes().len();
                    block.resize(random.below(9000) + 1);
                    let kept = kept.min(block.bytes().len());
                    assert!(block.bytes()[..kept].iter().all(|&byte| byte == fill));
                    block.bytes_mut().fill(fill);
                    held.push((block, fill));
                }
            }
        }
    });
}

fn vmalloc() {
    drop(Block::new(&HEAP, 9 << 20, 16, 7).expect("larger than any block of frames"));
    assert!(Block::new(&HEAP, 1 << 40, 16, 0).is_none());
    let mut region = mem::vmalloc(100_000).unwrap();
    assert!(region.len() >= 100_000 && region.bytes().iter().all(|&byte| byte == 0));
    region.bytes_mut()[5] = 1;
    region.protect(0, PAGE_SIZE, PteFlags::READ);
    let low = mem::ioremap(PhysAddr(0xfee0_0000), 4096).unwrap();
    assert_eq!(low, PhysAddr(0xfee0_0000).to_virt());
    let high = mem::ioremap(PhysAddr((9 << 30) + 0x10), 4096).unwrap();
    assert_eq!(high.0 % PAGE_SIZE, 0x10);
}

fn stacks() {
    on_cpus(4, |_| {
        let stacks: Vec<KernelStack> = (0..60).map(|_| KernelStack::alloc().unwrap()).collect();
        for stack in &stacks {
            assert!(stack.top().0.is_multiple_of(16) && stack.contains(VirtAddr(stack.top().0 - 1)));
            assert!(
                mem::is_stack_guard(stack.range().start - 1) && !mem::is_stack_guard(stack.range().start)
            );
        }
        let mut tops: Vec<usize> = stacks.iter().map(|stack| stack.top().0).collect();
        tops.sort();
        tops.dedup();
        assert_eq!(tops.len(), stacks.len());
    });
}

fn typed_cache() {
    static FIVES: KmemCache<[u64; 5]> = KmemCache::new("five");
    let five = FIVES.alloc([9; 5]).unwrap();
    assert_eq!(*five, [9; 5]);
    let mut line = None;
    mem::slabs(|slab| {
        if slab.name == "five" {
            line = Some(*slab);
        }
    });
    assert!(line.is_some_and(|line| line.active_objects >= 1 && line.object_bytes >= 40));
}

static HOARD: Mutex<Vec<Folio>> = Mutex::new(Vec::new());

/// User memory ends at the low mark, the kernel goes on; with something to reclaim it is reclaimed.
fn exhaustion() {
    while let Ok(folio) = Folio::alloc(0, AllocFlags::USER) {
        HOARD.lock().unwrap().push(folio);
    }
    let stats = mem::stats();
    assert!((stats.low_pages..stats.low_pages + 400).contains(&stats.free_pages), "{stats:?}");
    drop(KernelStack::alloc().unwrap());
    drop(Block::new(&HEAP, 100, 8, 0).unwrap());
    assert!(Folio::alloc(3, AllocFlags::USER).is_err());
    mem::set_reclaimer(|wanted| {
        let mut hoard = HOARD.lock().unwrap();
        let before = hoard.len();
        hoard.truncate(before.saturating_sub(wanted.max(64)));
        before - hoard.len()
    });
    let more: Vec<_> = (0..1000).map(|_| Folio::alloc(0, AllocFlags::USER).unwrap()).collect();
    drop(more);
    mem::set_reclaimer(|_| 0);
    HOARD.lock().unwrap().clear();
}

fn folios() {
    let folio = Folio::alloc(2, AllocFlags::USER).unwrap();
    folio.zero();
    folio.write(4090, b"hello world");
    let mut text = [0; 11];
    folio.read(4090, &mut text);
    assert_eq!(&text, b"hello world");
    let copy = Folio::alloc(2, AllocFlags::USER).unwrap();
    copy.copy_from(&folio);
    assert_eq!(copy.read_val::<u64>(4090), folio.read_val::<u64>(4090));
    let same = copy.clone();
    assert_eq!((copy.refs(), same.ptr_eq(&copy), copy.ptr_eq(&folio)), (2, true, false));
    assert!(!copy.set_dirty() && same.dirty() && same.clear_dirty() && !copy.dirty());
    assert!(copy.try_lock() && !same.try_lock() && !same.begin_writeback());
    assert!(!copy.unlock() && !same.locked() && copy.writeback());
    same.announce_waiter();
    assert!(copy.end_writeback() && !same.writeback() && !same.end_writeback());
    assert_eq!(folio.copy_to_user(0, 0x1000, 8), Err(arch::Fault));
}

fn activate(table: &UserTable) {
    let off = irq::disable();
    table.activate();
    irq::restore(off);
}

fn deactivate() {
    let off = irq::disable();
    UserTable::deactivate();
    irq::restore(off);
}

fn user_folio() -> Folio {
    Folio::alloc(0, AllocFlags::USER).unwrap()
}

fn one_table() {
    let table = UserTable::new().unwrap();
    activate(&table);
    let va = 0x5555_0000_0000;
    table.prepare(va).unwrap();
    let folio = user_folio();
    {
        let mut entries = table.lock();
        assert_eq!(entries.get(va), Entry::None);
        assert_eq!(entries.map(va, &folio, 0, RW), Ok(Some(())));
        assert_eq!(entries.map(va, &folio, 0, RW), Ok(None));
        let Entry::Page(page) = entries.get(va) else { panic!() };
        assert_eq!((page.phys, page.flags), (folio.phys(), RW | PteFlags::USER));
        assert!(entries.folio(va).unwrap().ptr_eq(&folio));
        assert_eq!(entries.map_zero(va + 4096, RW - PteFlags::WRITE), Ok(Some(())));
        assert_eq!(entries.map_soft(va + 8192, 77), Ok(Some(())));
        assert_eq!(entries.get(va + 8192), Entry::Soft(77));
        assert!(entries.folio(va + 4096).is_none());
        assert!(!entries.replace(va + 12288, &folio, 0, RW));
        assert!(!entries.replace_soft(va + 8192, 5) && !entries.replace_soft(va + 12288, 5));
        assert_eq!(entries.map(va + 12288, &folio, 0, RW), Ok(Some(())));
        assert!(entries.replace_soft(va + 12288, 5));
        assert_eq!(entries.get(va + 12288), Entry::Soft(5));
        assert!(entries.replace(va + 12288, &folio, 0, RW), "a page in the place of a word");
        entries.unmap(va + 12288..va + 16384);
    }
    assert_eq!((folio.refs(), folio.map_count()), (2, 1));
    let copy = fork(&table, &folio, va);
    let mut entries = table.lock();
    entries.protect(va..va + 8192, |flags| flags - PteFlags::READ);
    assert!(entries.set_flags(va, RW) && !entries.set_flags(va + 8192, RW));
    drop(entries);
    assert_eq!(table.lock().move_range(va, va + (1 << 30), 3 * 4096), Ok(3));
    assert!(matches!(table.lock().get(va + (1 << 30)), Entry::Page(page) if page.phys == folio.phys()));
    assert_eq!(table.lock().unmap(0..USER_END), 2);
    assert_eq!((folio.refs(), folio.map_count(), folio.dirty()), (1, 0, false));
    assert!(
        table.table_bytes() <= mmu::levels() * PAGE_SIZE,
        "empty tables are freed, but for one and those above"
    );
    assert_eq!((copy.refs(), copy.map_count()), (1, 0));
    deactivate();
}

/// Forks `table`, which maps `folio` at `va`, and breaks the sharing in the child.
fn fork(table: &UserTable, folio: &Folio, va: usize) -> Folio {
    let child = UserTable::new().unwrap();
    assert_eq!(table.clone_cow(&child, 0..USER_END, false), Ok(2));
    assert_eq!((folio.refs(), folio.map_count()), (3, 2));
    for table in [table, &child] {
        let entries = table.lock();
        let Entry::Page(page) = entries.get(va) else { panic!() };
        assert!(!page.flags.contains(PteFlags::WRITE) && page.flags.contains(PteFlags::DIRTY));
        assert_eq!(entries.get(va + 8192), Entry::Soft(77));
        let mut count = 0;
        entries.for_each(0..USER_END, |_, _| count += 1);
        assert_eq!(count, 3);
    }
    let copy = user_folio();
    assert!(child.lock().replace(va, &copy, 0, RW));
    assert_eq!((folio.refs(), folio.map_count(), copy.map_count()), (2, 1, 1));
    copy
}

const WINDOW: usize = 1536;

/// Four CPUs map, unmap and protect in one table, each in a window that shares page tables with the
/// next, and compare with a map of their own; then they fork it.
fn tables_against_a_model() {
    let table = &UserTable::new().unwrap();
    on_cpus(4, |id| {
        activate(table);
        let base = 0x10_0000_0000 + id * WINDOW * PAGE_SIZE;
        let mut model = BTreeMap::new();
        let mut random = Random(77 + id as u64);
        for _ in 0..15_000 {
            change(table, &mut model, &mut random, base);
        }
        let mut seen = Vec::new();
        table.lock().for_each(base..base + WINDOW * PAGE_SIZE, |va, entry| {
            if let Entry::Page(page) = entry {
                seen.push((va, page.phys));
            }
        });
        assert!(seen.into_iter().eq(model));
        deactivate();
    });
    on_cpus(4, |id| {
        for _ in 0..20 {
            let child = UserTable::new().unwrap();
            assert!(table.clone_cow(&child, 0..USER_END, id % 2 == 0).unwrap() > 0);
            activate(&child);
            if id == 3 {
                child.lock().unmap(0x10_0000_0000..0x10_0100_0000);
            }
            deactivate();
        }
    });
    table.lock().unmap(0..USER_END);
    assert!(table.table_bytes() <= mmu::levels() * PAGE_SIZE);
}

fn change(table: &UserTable, model: &mut BTreeMap<usize, PhysAddr>, random: &mut Random, base: usize) {
    let end = base + WINDOW * PAGE_SIZE;
    let va = base + random.below(WINDOW) * PAGE_SIZE;
    match random.below(10) {
        0..6 => {
            let folio = user_folio();
            table.prepare(va).unwrap();
            // Another CPU may have freed the table again in between: then once more.
            while table.lock().map(va, &folio, 0, RW).map(|done| {
                assert_eq!(done.is_some(), !model.contains_key(&va));
                done.map(|()| model.insert(va, folio.phys()));
            }) == Err(mem::OutOfMemory)
            {
                table.prepare(va).unwrap();
            }
        }
        6 => {
            let end = end.min(va + random.below(600) * PAGE_SIZE);
            let mut expected: Vec<_> = model.range(va..end).map(|(&va, &phys)| (va, phys)).collect();
            expected.reverse();
            table.lock().unmap_with(va..end, |va, page| {
                assert_eq!(expected.pop(), Some((va, page.phys)));
                model.remove(&va);
            });
            assert!(expected.is_empty());
        }
        7 => {
            let folio = user_folio();
            if table.lock().replace(va, &folio, 0, RW) {
                assert!(model.insert(va, folio.phys()).is_some());
            }
        }
        8 => {
            let end = end.min(va + random.below(40) * PAGE_SIZE);
            table.lock().protect(va..end, |flags| flags ^ PteFlags::SOFT);
        }
        _ => {
            let phys = match table.lock().get(va) {
                Entry::Page(page) => Some(page.phys),
                _ => None,
            };
            assert_eq!(phys.as_ref(), model.get(&va));
        }
    }
}

/// What slab debugging finds, in Linux's words.
fn crimes() {
    let block = |fill| Block::new(&HEAP, 64, 8, fill).unwrap();
    let mut first = block(1);
    first.scribble(64, 1);
    drop(first);
    block(2).use_after_free(3, 9);
    block(3).double_free();
    let reports = REPORTS.lock().unwrap();
    let heads: Vec<&str> = reports.iter().filter_map(|report| report.lines().next()).collect();
    assert_eq!(heads[0], "BUG kmalloc-64: Right Redzone overwritten");
    assert_eq!(heads[1], "BUG kmalloc-64: Poison overwritten");
    assert!(heads[2].starts_with("BUG kmalloc-64: Object already free"), "{heads:?}");
}
