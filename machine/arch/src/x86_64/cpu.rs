//! This CPU: who it is, its preemption word, its description.

use super::percpu::{self, PerCpu};
use super::{cpuid, desc, irq, mmu, reg, timer};
use core::arch::asm;
use core::fmt::{self, Write};
use core::mem::offset_of;

/// The number of the running CPU. With preemption on it may be another one right after.
#[inline]
pub fn id() -> usize {
    let cpu: u32;
    // SAFETY: 1. GS points to the per-CPU area in kernel mode.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) cpu, const offset_of!(PerCpu, cpu), options(nostack, preserves_flags, readonly));
    }
    cpu as usize
}

/// CPUs that firmware describes.
pub fn count() -> usize {
    percpu::count()
}

/// For loops that wait for another CPU: tells the processor, and lets interrupts in if they are not masked
/// but still off in hardware. The other CPU may need an answer to one first.
#[inline]
pub fn relax() {
    irq::catch_up();
    core::hint::spin_loop();
}

/// Descriptor tables, control registers and system-call entry of the running CPU. The boot code calls it on
/// each CPU before any other kernel code runs there.
pub fn init_local(cpu: usize) {
    if cpu == 0 {
        // SAFETY: 1. CPU 0 runs alone.
        unsafe { desc::fill_idt() };
    }
    // SAFETY: 1. the boot code prepared and loaded this CPU's area and detected features.
    unsafe { desc::load(percpu::this()) };
}

#[inline]
pub fn preempt_count() -> u32 {
    let count: u32;
    // SAFETY: 1. as in `id`. One instruction, so the answer is this CPU's, wherever the caller is moved.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) count, const offset_of!(PerCpu, preempt_count), options(nostack, preserves_flags, readonly));
    }
    count
}

#[inline]
pub fn preempt_count_add(value: u32) {
    // SAFETY: 1. as in `id`. Not `nomem`: it fences the compiler as the start of a critical section.
    unsafe {
        asm!("add dword ptr gs:[{}], {:e}", const offset_of!(PerCpu, preempt_count), in(reg) value, options(nostack));
    }
}

/// Returns the new value.
#[inline]
pub fn preempt_count_sub(value: u32) -> u32 {
    // SAFETY: 1. as in `id`. Between the two instructions an interrupt may come, but leaves the count
    // as it was; and after a switch to another CPU that CPU's count is the one that went on with us.
    unsafe {
        asm!("sub dword ptr gs:[{}], {:e}", const offset_of!(PerCpu, preempt_count), in(reg) value, options(nostack));
    }
    preempt_count()
}

#[inline]
pub fn need_resched() -> bool {
    let need: u32;
    // SAFETY: 1. as in `id`.
    unsafe {
        asm!("movzx {:e}, byte ptr gs:[{}]", out(reg) need, const offset_of!(PerCpu, need_resched), options(nostack, preserves_flags, readonly));
    }
    need != 0
}

/// For the running CPU.
#[inline]
pub fn set_need_resched(need: bool) {
    // SAFETY: 1. as in `id`.
    unsafe {
        asm!("mov byte ptr gs:[{}], {}", const offset_of!(PerCpu, need_resched), in(reg_byte) u8::from(need), options(nostack, preserves_flags));
    }
}

/// What [`set_current`] stored: the running task.
#[inline]
pub fn current() -> *const () {
    let task;
    // SAFETY: 1. as in `id`. One instruction: a task always reads itself.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) task, const offset_of!(PerCpu, current), options(nostack, preserves_flags, readonly));
    }
    task
}

/// Set by the switch code, interrupts off.
#[inline]
pub fn set_current(task: *const ()) {
    // SAFETY: 1. as in `id`.
    unsafe {
        asm!("mov gs:[{}], {}", const offset_of!(PerCpu, current), in(reg) task, options(nostack, preserves_flags));
    }
}

/// A number that is hard to guess: from the processor's generator if there is one, else from the TSC.
pub fn stack_canary_seed() -> u64 {
    let mut value = reg::rdtsc().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if cpuid::has(cpuid::RDRAND) {
        let random: u64;
        // SAFETY: 1. the processor has the instruction; a failure leaves zero.
        unsafe { asm!("rdrand {}", out(reg) random, options(nomem, nostack)) };
        value ^= random;
    }
    value
}

/// The `flags` of /proc/cpuinfo: CPUID leaf, sub-leaf, register (a b c d), names by bit; "" is unnamed.
const FLAG_WORDS: [(u32, u32, char, &str); 9] = [
    (
        1,
        0,
        'd',
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe",
    ),
    (
        0x8000_0001,
        0,
        'd',
        "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    ),
    (
        1,
        0,
        'c',
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor",
    ),
    (
        0x8000_0001,
        0,
        'c',
        "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx - -",
    ),
    (
        7,
        0,
        'b',
        "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - - rdt_a - - rdseed adx smap - - clflushopt clwb intel_pt - - - sha_ni - -",
    ),
    (
        7,
        0,
        'c',
        "- - umip - - waitpkg - - gfni vaes vpclmulqdq - - - - - - - - - - - rdpid - - - - - - - - -",
    ),
    (
        7,
        0,
        'd',
        "- - - - fsrm - - - - - md_clear - - - serialize - - - - - - - - - - - spec_ctrl - - - - ssbd",
    ),
    (0xd, 1, 'a', "xsaveopt xsavec xgetbv1 xsaves - - - - - - - - - - - - - - - - - - - - - - - - - - - -"),
    (0x8000_0007, 0, 'd', "- - - - - - - - constant_tsc - - - - - - - - - - - - - - - - - - - - - - -"),
];

/// What the kernel keeps from programs although the processor has it.
const HIDDEN: [&str; 4] = ["vmx", "svm", "sgx", "monitor"];

/// One stanza of /proc/cpuinfo.
pub fn describe(cpu: usize, out: &mut dyn Write) -> fmt::Result {
    let version = cpuid::leaf(1, 0);
    let (family, model, stepping) = family_model_stepping(version.eax);
    let mhz = timer::frequency_hz() / 1000;
    let sizes = cpuid::leaf(0x8000_0008, 0).eax;
    let clflush = (version.ebx >> 8 & 0xff) * 8;
    let apic_id = percpu::apic_id(cpu);
    writeln!(out, "processor\t: {cpu}")?;
    writeln!(out, "vendor_id\t: {}", printable(&cpuid::vendor()))?;
    writeln!(out, "cpu family\t: {family}")?;
    writeln!(out, "model\t\t: {model}")?;
    write!(out, "model name\t: ")?;
    write_brand(out)?;
    writeln!(out, "\nstepping\t: {stepping}")?;
    writeln!(out, "cpu MHz\t\t: {}.{:03}", mhz / 1000, mhz % 1000)?;
    writeln!(out, "physical id\t: {cpu}\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1")?;
    writeln!(out, "apicid\t\t: {apic_id}\ninitial apicid\t: {apic_id}")?;
    writeln!(
        out,
        "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes",
        cpuid::leaf(0, 0).eax
    )?;
    write!(out, "flags\t\t:")?;
    write_flags(out)?;
    writeln!(out, "\nbugs\t\t:")?;
    let bogomips = timer::frequency_hz() / 5000;
    writeln!(out, "bogomips\t: {}.{:02}", bogomips / 100, bogomips % 100)?;
    writeln!(out, "clflush size\t: {clflush}\ncache_alignment\t: {clflush}")?;
    writeln!(
        out,
        "address sizes\t: {} bits physical, {} bits virtual",
        sizes & 0xff,
        mmu::levels() * 9 + 12
    )?;
    writeln!(out, "power management:\n")
}

fn family_model_stepping(version: u32) -> (u32, u32, u32) {
    let mut family = version >> 8 & 0xf;
    let mut model = version >> 4 & 0xf;
    if family == 6 || family == 15 {
        model |= version >> 12 & 0xf0;
    }
    if family == 15 {
        family += version >> 20 & 0xff;
    }
    (family, model, version & 0xf)
}

fn printable(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("unknown").trim_matches(['\0', ' '])
}

fn write_brand(out: &mut dyn Write) -> fmt::Result {
    let mut text = [0; 48];
    for (i, chunk) in text.chunks_exact_mut(16).enumerate() {
        let leaf = cpuid::leaf(0x8000_0002 + i as u32, 0);
        for (bytes, word) in chunk.chunks_exact_mut(4).zip([leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    let name = text.split(|b| *b == 0).next().map_or("", printable);
    out.write_str(if name.is_empty() { "unknown" } else { name })
}

fn write_flags(out: &mut dyn Write) -> fmt::Result {
    for (leaf, sub, register, names) in FLAG_WORDS {
        let leaf = cpuid::leaf(leaf, sub);
        let bits = match register {
            'a' => leaf.eax,
            'b' => leaf.ebx,
            'c' => leaf.ecx,
            _ => leaf.edx,
        };
        for (bit, name) in names.split(' ').enumerate() {
            if name != "-" && bits >> bit & 1 != 0 && !HIDDEN.contains(&name) {
                write!(out, " {name}")?;
            }
        }
    }
    Ok(())
}
