//! Single instructions on special registers and I/O ports.

use core::arch::asm;

pub const MSR_APIC_BASE: u32 = 0x1b;
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
pub const MSR_X2APIC: u32 = 0x800;
pub const MSR_EFER: u32 = 0xc000_0080;
pub const MSR_STAR: u32 = 0xc000_0081;
pub const MSR_LSTAR: u32 = 0xc000_0082;
pub const MSR_CSTAR: u32 = 0xc000_0083;
pub const MSR_FMASK: u32 = 0xc000_0084;
pub const MSR_FS_BASE: u32 = 0xc000_0100;
pub const MSR_GS_BASE: u32 = 0xc000_0101;
/// The other GS base, exchanged by `swapgs`: the user's while the kernel runs.
pub const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

pub const EFER_SCE: u64 = 1;
pub const EFER_NXE: u64 = 1 << 11;

pub const CR0_MP: u64 = 1 << 1;
pub const CR0_EM: u64 = 1 << 2;
pub const CR0_TS: u64 = 1 << 3;
pub const CR0_NE: u64 = 1 << 5;
pub const CR0_WP: u64 = 1 << 16;
pub const CR0_AM: u64 = 1 << 18;

pub const CR4_PAE: u64 = 1 << 5;
pub const CR4_MCE: u64 = 1 << 6;
pub const CR4_PGE: u64 = 1 << 7;
pub const CR4_OSFXSR: u64 = 1 << 9;
pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
pub const CR4_UMIP: u64 = 1 << 11;
pub const CR4_FSGSBASE: u64 = 1 << 16;
pub const CR4_PCIDE: u64 = 1 << 17;
pub const CR4_OSXSAVE: u64 = 1 << 18;
pub const CR4_SMEP: u64 = 1 << 20;
pub const CR4_SMAP: u64 = 1 << 21;

pub const FLAG_TF: u64 = 1 << 8;
pub const FLAG_IF: u64 = 1 << 9;
pub const FLAG_DF: u64 = 1 << 10;
pub const FLAG_RF: u64 = 1 << 16;
/// What a program may set: CF PF AF ZF SF TF DF OF NT RF AC ID.
pub const FLAGS_USER: u64 = 0x0025_4dd5;

/// Reads a model-specific register.
///
/// # Safety
/// 1. The processor has the register.
#[inline]
pub unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: 1. the caller's obligation; reading changes nothing.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// 1. The processor has the register; 2. the value keeps the kernel running.
#[inline]
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: 1. 2. the caller's obligations.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        #[inline]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: 1. reading a control register in ring 0 changes nothing.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        /// # Safety
        /// 1. The value keeps the kernel running.
        #[inline]
        #[allow(dead_code)] // one macro for all four
        pub unsafe fn $write(value: u64) {
            // SAFETY: 1. the caller's obligation.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr2, write_cr2, "cr2");
control_register!(read_cr3, write_cr3, "cr3");
control_register!(read_cr4, write_cr4, "cr4");

macro_rules! port {
    ($read:ident, $write:ident, $type:ty, $register:tt) => {
        /// # Safety
        /// 1. Reading the port has no effect on memory that Rust code uses.
        #[inline]
        pub unsafe fn $read(port: u16) -> $type {
            let value;
            // SAFETY: 1. the caller's obligation.
            unsafe {
                asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value, options(nostack, preserves_flags))
            };
            value
        }

        /// # Safety
        /// 1. Writing the port has no effect on memory that Rust code uses.
        #[inline]
        pub unsafe fn $write(port: u16, value: $type) {
            // SAFETY: 1. the caller's obligation.
            unsafe {
                asm!(concat!("out dx, ", $register), in("dx") port, in($register) value, options(nostack, preserves_flags))
            };
        }
    };
}

port!(inb, outb, u8, "al");
port!(inw, outw, u16, "ax");
port!(inl, outl, u32, "eax");

/// The time-stamp counter. Not ordered with the instructions around it.
#[inline]
pub fn rdtsc() -> u64 {
    // SAFETY: 1. CR4.TSD does not matter in ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}
