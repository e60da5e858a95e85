//! Segment descriptors, task state segment, interrupt descriptors, and the control registers that are
//! set once per CPU.
//!
//! Selectors are Linux's, because debuggers and tracers compare `cs` with 0x33.

use super::percpu::{self, PerCpu};
use super::{cpuid, entry, fpu, reg};
use core::arch::asm;

pub const KERNEL_CS: u16 = 0x10;
pub const KERNEL_DS: u16 = 0x18;
pub const USER_DS: u16 = 0x2b;
pub const USER_CS: u16 = 0x33;
const TSS_SELECTOR: u16 = 0x40;
/// null, -, kernel code, kernel data, (user code 32, not present), user data, user code, -, TSS (2 words)
pub const GDT_ENTRIES: usize = 10;

/// Numbers in the interrupt stack table.
pub const IST_DOUBLE_FAULT: u8 = 1;
pub const IST_NMI: u8 = 2;
pub const IST_DEBUG: u8 = 3;

/// The 64-bit task state segment: where traps find their stacks.
#[repr(C, packed(4))]
pub struct Tss {
    _reserved0: u32,
    /// The stack of traps from user mode. It points to the end of the register frame in the running
    /// `UserContext`, so that the processor itself saves into it.
    pub rsp0: u64,
    _rsp12: [u64; 2],
    _reserved1: u64,
    pub ist: [u64; 7],
    _reserved2: u64,
    _reserved3: u16,
    io_map_base: u16,
}

impl Tss {
    pub const EMPTY: Tss = Tss {
        _reserved0: 0,
        rsp0: 0,
        _rsp12: [0; 2],
        _reserved1: 0,
        ist: [0; 7],
        _reserved2: 0,
        _reserved3: 0,
        io_map_base: size_of::<Tss>() as u16, // beyond the limit: no port is open to user mode
    };
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Gate([u64; 2]);

#[repr(C, align(16))]
struct Idt([Gate; 256]);

static mut IDT: Idt = Idt([Gate([0; 2]); 256]);

/// Loads everything that a CPU needs before it may take a trap. Once per CPU, interrupts off, GS set.
///
/// # Safety
/// 1. `area` is this CPU's prepared area; 2. [`cpuid::detect`] and, on CPU 0 first, [`fill_idt`] ran.
pub unsafe fn load(area: *mut PerCpu) {
    // SAFETY: 1. the area belongs to this CPU and nobody else touches its tables; 2. the descriptors
    // are flat and the selectors those of the table just built.
    unsafe {
        build_gdt(area);
        let gdt = TablePointer { limit: (GDT_ENTRIES * 8 - 1) as u16, base: (&raw const (*area).gdt) as u64 };
        let idt = TablePointer { limit: (size_of::<Idt>() - 1) as u16, base: (&raw const IDT) as u64 };
        asm!(
            "lgdt [{gdt}]",
            "push {cs}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "mov ss, {ds:e}",
            "xor {tmp:e}, {tmp:e}",
            "mov ds, {tmp:e}",
            "mov es, {tmp:e}",
            "ltr {tr:x}",
            "lidt [{idt}]",
            gdt = in(reg) &raw const gdt,
            idt = in(reg) &raw const idt,
            cs = const KERNEL_CS,
            ds = in(reg) KERNEL_DS as u64,
            tr = in(reg) TSS_SELECTOR,
            tmp = out(reg) _,
        );
        load_registers();
    }
}

/// # Safety
/// 1. `area` is this CPU's own.
unsafe fn build_gdt(area: *mut PerCpu) {
    let [double_fault, nmi, debug] = percpu::ist_tops(area);
    // SAFETY: 1. the caller's obligation.
    unsafe {
        (*area).tss = Tss::EMPTY;
        let mut ist = [0u64; 7];
        ist[usize::from(IST_DOUBLE_FAULT) - 1] = double_fault as u64;
        ist[usize::from(IST_NMI) - 1] = nmi as u64;
        ist[usize::from(IST_DEBUG) - 1] = debug as u64;
        (*area).tss.ist = ist;
        let tss = (&raw const (*area).tss) as u64;
        let limit = size_of::<Tss>() as u64 - 1;
        let mut gdt = [0; GDT_ENTRIES];
        gdt[usize::from(KERNEL_CS) / 8] = 0x00af_9b00_0000_ffff;
        gdt[usize::from(KERNEL_DS) / 8] = 0x00cf_9300_0000_ffff;
        gdt[usize::from(USER_DS) / 8] = 0x00cf_f300_0000_ffff;
        gdt[usize::from(USER_CS) / 8] = 0x00af_fb00_0000_ffff;
        gdt[usize::from(TSS_SELECTOR) / 8] =
            limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
        gdt[usize::from(TSS_SELECTOR) / 8 + 1] = tss >> 32;
        (*area).gdt = gdt;
    }
}

/// Control registers, system-call entry.
///
/// # Safety
/// 1. GDT and IDT are loaded; 2. features were detected.
unsafe fn load_registers() {
    use reg::*;
    let optional = [
        (cpuid::SMEP, CR4_SMEP),
        (cpuid::SMAP, CR4_SMAP),
        (cpuid::FSGSBASE, CR4_FSGSBASE),
        (cpuid::XSAVE, CR4_OSXSAVE),
        (cpuid::UMIP, CR4_UMIP),
    ];
    let base = CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    let cr4 = optional.iter().filter(|(f, _)| cpuid::has(*f)).fold(base, |sum, (_, bit)| sum | bit);
    let nxe = if cpuid::has(cpuid::NX) { EFER_NXE } else { 0 };
    // SAFETY: 1. each bit is set only when the processor has the feature; 2. the kernel's own mappings
    // are supervisor pages and its user accesses are bracketed by stac and clac.
    unsafe {
        write_cr0((read_cr0() | CR0_MP | CR0_NE | CR0_WP | CR0_AM) & !(CR0_EM | CR0_TS));
        write_cr4(cr4);
        // PCID may be turned on only while CR3 names context 0, which the boot root does.
        if cpuid::has(cpuid::PCID) {
            write_cr4(cr4 | CR4_PCIDE);
        }
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | nxe);
        wrmsr(MSR_STAR, u64::from(USER_CS - 16) << 48 | u64::from(KERNEL_CS) << 32);
        wrmsr(MSR_LSTAR, entry::syscall_address());
        wrmsr(MSR_CSTAR, 0);
        wrmsr(MSR_FMASK, FLAGS_USER | FLAG_IF | 3 << 12);
        fpu::init_cpu();
    }
}

/// Fills the interrupt descriptor table, shared by all CPUs. Once, on CPU 0.
///
/// # Safety
/// 1. No CPU uses the table yet.
pub unsafe fn fill_idt() {
    for vector in 0..256 {
        let ist = match vector {
            1 => IST_DEBUG,
            2 => IST_NMI,
            8 | 18 => IST_DOUBLE_FAULT,
            _ => 0,
        };
        // int3 is an instruction for programs; everything else they may not raise by `int`.
        let privilege: u64 = if vector == 3 { 3 } else { 0 };
        let handler = entry::stub_address(vector);
        let low = handler & 0xffff
            | u64::from(KERNEL_CS) << 16
            | u64::from(ist) << 32
            | (0x8e | privilege << 5) << 40
            | (handler >> 16 & 0xffff) << 48;
        // SAFETY: 1. the caller's obligation; the index is below 256.
        unsafe { (*(&raw mut IDT)).0[vector] = Gate([low, handler >> 32]) };
    }
}
