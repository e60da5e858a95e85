//! From the loader's 32-bit entry to `ochre_main`.
//!
//! The PVH boot protocol (xen/include/public/arch-x86/hvm/start_info.h) enters in 32-bit mode, paging off,
//! `ebx` = physical address of the start information. The assembly clears bss, makes the early page
//! table, and goes to the upper half in long mode; [`start`] does the rest in Rust.
//!
//! ```text
//! early table:   0 .. 1 GiB             identical, until `start` takes it away
//!                DIRECT_MAP_BASE        physical 0 .. 4 GiB, 2 MiB pages
//!                KERNEL_BASE            physical 0 .. 1 GiB, 2 MiB pages
//! ```

use super::{console, cpu, cpuid, entry, percpu, platform, pvh, reg, smp, timer};
use crate::bootinfo::Sections;
use crate::{BootInfo, PAGE_SIZE, PhysAddr, layout};
use core::arch::global_asm;

/// The stack of CPU 0 from boot on: it becomes that CPU's idle stack.
const STACK_BYTES: usize = 32 << 10;

global_asm!(
    ".pushsection .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad x86_start",
    ".popsection",

    ".pushsection .boot, \"ax\"",
    ".code32",
    ".global x86_start",
    "x86_start:",
    "cli",
    "cld",
    "movl $(x86_boot_stack_top - {BASE}), %esp",
    "movl %ebx, %esi",
    "movl $(__bss_start - {BASE}), %edi",
    "movl $(__bss_end - {BASE}), %ecx",
    "subl %edi, %ecx",
    "shrl $2, %ecx",
    "xorl %eax, %eax",
    "rep stosl",
    // 4 GiB in pages of 2 MiB: present, writable, accessed, dirty, large.
    "movl $(x86_boot_pd - {BASE}), %edi",
    "movl $0xe3, %eax",
    "movl $2048, %ecx",
    "1: movl %eax, (%edi)",
    "addl $0x200000, %eax",
    "addl $8, %edi",
    "decl %ecx",
    "jnz 1b",
    "movl $(x86_boot_pd - {BASE} + 0x3), %eax",
    "movl $(x86_boot_pdpt_low - {BASE}), %ebx",
    "movl $(x86_boot_pdpt - {BASE}), %edi",
    "movl %eax, (%ebx)",
    "movl %eax, {KERNEL_SLOT} * 8(%edi)",
    "movl %eax, {DIRECT_SLOT} * 8(%edi)",
    "addl $0x1000, %eax",
    "movl %eax, {DIRECT_SLOT} * 8 + 8(%edi)",
    "addl $0x1000, %eax",
    "movl %eax, {DIRECT_SLOT} * 8 + 16(%edi)",
    "addl $0x1000, %eax",
    "movl %eax, {DIRECT_SLOT} * 8 + 24(%edi)",
    "movl $(x86_boot_pml4 - {BASE}), %edx",
    "leal 3(%ebx), %eax",
    "movl %eax, (%edx)",
    "leal 3(%edi), %eax",
    "movl %eax, 511 * 8(%edx)",
    "movl %edx, %cr3",
    "movl %cr4, %eax",
    "orl $0x20, %eax", // PAE
    "movl %eax, %cr4",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x100, %eax", // EFER.LME
    "wrmsr",
    "movl %cr0, %eax",
    "orl $0x80010001, %eax", // PG, WP, PE
    "movl %eax, %cr0",
    "lgdtl x86_boot_gdt_pointer",
    "ljmp $0x10, $2f",
    ".code64",
    "2: movw $0x18, %ax",
    "movw %ax, %ss",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movq $x86_boot_high, %rax",
    "jmp *%rax",
    ".balign 8",
    "x86_boot_gdt: .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "x86_boot_gdt_pointer: .word 31",
    ".long x86_boot_gdt",
    ".popsection",

    ".pushsection .text.entry, \"ax\"",
    "x86_boot_high:",
    "movq $x86_boot_stack_top, %rsp",
    "xorl %ebp, %ebp",
    "movl %esi, %edi",
    "call {start}",
    ".popsection",

    ".pushsection .bss.boot, \"aw\", @nobits",
    ".balign 4096",
    ".global x86_boot_pml4",
    "x86_boot_pml4: .skip 4096",
    "x86_boot_pdpt_low: .skip 4096",
    "x86_boot_pdpt: .skip 4096",
    "x86_boot_pd: .skip 4 * 4096",
    ".skip {STACK_BYTES}",
    "x86_boot_stack_top:",
    ".popsection",
    BASE = const layout::KERNEL_BASE,
    KERNEL_SLOT = const slot(layout::KERNEL_BASE),
    DIRECT_SLOT = const slot(layout::DIRECT_MAP_BASE),
    STACK_BYTES = const STACK_BYTES,
    start = sym start,
    options(att_syntax),
);

/// The entry of the page-directory-pointer table that maps `addr`.
const fn slot(addr: usize) -> usize {
    addr >> 30 & 511
}

unsafe extern "C" {
    static mut x86_boot_pml4: [u64; 512];
    static __image_start: u8;
    static __image_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
}

unsafe extern "Rust" {
    fn ochre_main(info: &'static BootInfo) -> !;
}

/// The address of a symbol of the linker script.
macro_rules! symbol {
    ($name:ident) => {
        (&raw const $name) as usize
    };
}

static mut INFO: BootInfo = BootInfo {
    cmdline: "",
    initrd: None,
    regions: [None; crate::bootinfo::MAX_REGIONS],
    kernel: (PhysAddr(0), PhysAddr(0)),
    device_tree: None,
    rsdp: None,
    sections: Sections { text: (0, 0), rodata: (0, 0), data: (0, 0) },
};

/// Entered once on CPU 0 with interrupts off; `start_info` is physical.
extern "C" fn start(start_info: usize) -> ! {
    // SAFETY: 1. CPU 0 runs alone, nobody has seen INFO; 2. the boot area is prepared for this CPU;
    // 3. nothing uses the identical mapping from here on.
    unsafe {
        percpu::prepare(percpu::boot_area(), 0);
        percpu::load(percpu::boot_area());
        console::init();
        cpuid::detect();
        if !cpuid::has(cpuid::SMAP) {
            entry::patch_smap();
        }
        cpu::init_local(0);
        let info = &mut *(&raw mut INFO);
        info.kernel = image();
        info.sections = sections();
        pvh::read(start_info as u64, info);
        platform::discover(info);
        (*percpu::boot_area()).apic_id = percpu::apic_id(0);
        x86_boot_pml4[0] = 0;
        reg::write_cr3(reg::read_cr3());
        platform::early_local_apic();
        timer::early_init();
        smp::set_online(0);
        ochre_main(info)
    }
}

/// The physical bounds of the image.
fn image() -> (PhysAddr, PhysAddr) {
    let end = symbol!(__image_end) - layout::KERNEL_BASE;
    (PhysAddr(symbol!(__image_start) as u64), PhysAddr(end.next_multiple_of(PAGE_SIZE) as u64))
}

fn sections() -> Sections {
    Sections {
        text: (symbol!(__text_start), symbol!(__text_end)),
        rodata: (symbol!(__rodata_start), symbol!(__rodata_end)),
        data: (symbol!(__data_start), symbol!(__data_end)),
    }
}
