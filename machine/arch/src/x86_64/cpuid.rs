//! What the processor can do, read once on CPU 0.
//!
//! All CPUs are taken to be alike, as every hypervisor makes them.

use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};
use core::sync::atomic::{AtomicU32, Ordering};

/// The features that the kernel asks about, as bits of [`has`].
pub const SMEP: u32 = 1 << 0;
pub const SMAP: u32 = 1 << 1;
pub const FSGSBASE: u32 = 1 << 2;
pub const PCID: u32 = 1 << 3;
pub const XSAVE: u32 = 1 << 4;
pub const XSAVEOPT: u32 = 1 << 5;
pub const X2APIC: u32 = 1 << 6;
pub const TSC_DEADLINE: u32 = 1 << 7;
pub const UMIP: u32 = 1 << 8;
pub const HYPERVISOR: u32 = 1 << 9;
pub const NX: u32 = 1 << 10;
pub const RDRAND: u32 = 1 << 11;
/// KVM or TCG, whose local APIC timer counts nanoseconds.
pub const GHZ_APIC: u32 = 1 << 12;
/// Registers of another task may stay in the FPU behind CR0.TS: no speculation leaks them
/// (CVE-2018-3665), because the processor is emulated or not Intel's.
pub const LAZY_FPU: u32 = 1 << 13;

/// SMAP catches a wild pointer that safe Rust does not make. Under QEMU's emulation `stac` and `clac` each leave
/// the translated code and change the TLB that is used, some 60 ns a piece: half of a read of one byte. So
/// release builds do without there (as riscv64's leave SUM set); debug builds, and real processors, have it.
const SPARE_EMULATOR: bool = !cfg!(debug_assertions);

static FEATURES: AtomicU32 = AtomicU32::new(0);

/// Whether the processor has all features of `bits`.
#[inline]
pub fn has(bits: u32) -> bool {
    FEATURES.load(Ordering::Relaxed) & bits == bits
}

/// A leaf, zero when the processor does not have it.
pub fn leaf(number: u32, sub: u32) -> CpuidResult {
    let highest = __cpuid(number & 0xffff_0000).eax;
    if number > highest || highest & 0xffff_0000 != number & 0xffff_0000 {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    __cpuid_count(number, sub)
}

/// Reads all that [`has`] answers. Once, early, on CPU 0.
pub fn detect() {
    let basic = leaf(1, 0);
    let extended = leaf(7, 0);
    let xsave = leaf(0xd, 1);
    let amd = leaf(0x8000_0001, 0);
    let hypervisor = basic.ecx & 1 << 31 != 0;
    let tcg = hypervisor && hypervisor_is(b"TCGTCGTCGTCG");
    let kvm = hypervisor && hypervisor_is(b"KVMKVMKVM\0\0\0");
    let bits = [
        (SMEP, extended.ebx & 1 << 7 != 0),
        (SMAP, extended.ebx & 1 << 20 != 0 && !(tcg && SPARE_EMULATOR)),
        (FSGSBASE, extended.ebx & 1 != 0),
        // Entries of another context can be flushed only with INVPCID: one is of no use without the other.
        (PCID, basic.ecx & 1 << 17 != 0 && extended.ebx & 1 << 10 != 0),
        (XSAVE, basic.ecx & 1 << 26 != 0),
        (XSAVEOPT, xsave.eax & 1 != 0),
        (X2APIC, basic.ecx & 1 << 21 != 0),
        (TSC_DEADLINE, basic.ecx & 1 << 24 != 0),
        (UMIP, extended.ecx & 1 << 2 != 0),
        (HYPERVISOR, hypervisor),
        (NX, amd.edx & 1 << 20 != 0),
        (RDRAND, basic.ecx & 1 << 30 != 0),
        (GHZ_APIC, tcg || kvm),
        (LAZY_FPU, tcg || vendor() != *b"GenuineIntel"),
    ];
    let all = bits.iter().filter(|(_, present)| *present).fold(0, |sum, (bit, _)| sum | bit);
    FEATURES.store(all, Ordering::Relaxed);
}

fn hypervisor_is(name: &[u8; 12]) -> bool {
    let signature = __cpuid(0x4000_0000);
    *name == text([signature.ebx, signature.ecx, signature.edx])
}

/// The twelve letters of leaf 0.
pub fn vendor() -> [u8; 12] {
    let leaf = __cpuid(0);
    text([leaf.ebx, leaf.edx, leaf.ecx])
}

fn text(words: [u32; 3]) -> [u8; 12] {
    core::array::from_fn(|i| words[i / 4].to_le_bytes()[i % 4])
}
