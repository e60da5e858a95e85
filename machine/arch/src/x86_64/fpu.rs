//! The floating-point and vector registers of threads.
//!
//! **Idea.** The kernel is compiled without them, so they belong to threads alone. CR0.TS is set while
//! the registers are not the current thread's: a thread that does not touch them costs nothing, and one
//! that does traps once ([`first_use`]). What a thread used in its time slice is saved when it is switched
//! away ([`switch_out`]); a thread that used them in several slices in a row gets them loaded at the
//! switch ([`switch_in`]), because the trap would be dearer. When it comes back to the CPU where it was
//! and nobody used the registers since, nothing is loaded at all.
//!
//! On processors where speculation can read registers behind CR0.TS (Intel's, CVE-2018-3665) every user
//! thread gets its own, or clean ones, at the switch.
//!
//! The state is part of `TaskState`, so it never fails for want of memory; hence XCR0 is limited to x87,
//! SSE and AVX (832 bytes), and AVX-512, AMX and protection keys are not offered to programs.

use super::context::TaskState;
use super::percpu::{self, PerCpu};
use super::{cpuid, reg};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the x87 and SSE part (FXSAVE), with the XSAVE header, and with AVX.
pub const LEGACY_BYTES: usize = 512;
pub const HEADER_BYTES: usize = 64;
pub const AREA_BYTES: usize = 832;
/// x87, SSE, AVX.
const WANTED_FEATURES: u64 = 7;

/// Slices in a row with use of the FPU before it is loaded at the switch, and after how many such loads
/// the thread has to prove its need again.
const LOAD_AFTER: u8 = 4;
const PROVE_AFTER: u8 = 100;

const NO_CPU: u32 = u32::MAX;

/// XCR0, or 0 without XSAVE.
static FEATURES: AtomicU32 = AtomicU32::new(0);
/// Bytes that the enabled features need.
static BYTES: AtomicU32 = AtomicU32::new(LEGACY_BYTES as u32);

/// One thread's registers.
#[repr(C, align(64))]
pub struct FpuState {
    area: [u8; AREA_BYTES],
    /// `area` holds something; else the registers are in their initial state.
    valid: bool,
    /// Slices with use in a row.
    streak: u8,
    /// The CPU whose registers were last loaded for this thread and are not older than `area`.
    cpu: u32,
}

impl FpuState {
    pub const INITIAL: FpuState = FpuState { area: [0; AREA_BYTES], valid: false, streak: 0, cpu: NO_CPU };

    fn forget(&mut self) {
        self.valid = false;
        self.streak = 0;
        self.cpu = NO_CPU;
    }

    /// Takes over the registers of another thread (fork).
    pub fn copy_from(&mut self, other: &FpuState) {
        self.forget();
        if other.valid {
            self.area = other.area;
            self.valid = true;
        }
    }
}

/// Part of the per-CPU area. Zeroes are a valid value: nobody's registers, CR0.TS clear.
pub struct CpuFpu {
    /// Whose values the registers hold.
    owner: *const FpuState,
    /// The owner is the current thread and may change them: CR0.TS is clear, save at the switch.
    live: bool,
    /// CR0.TS as set.
    trapping: bool,
}

impl CpuFpu {
    fn set_trapping(&mut self, on: bool) {
        if self.trapping == on {
            return;
        }
        self.trapping = on;
        // SAFETY: 1. the kernel does not use the registers, so only user mode sees the difference.
        unsafe {
            if on {
                reg::write_cr0(reg::read_cr0() | reg::CR0_TS);
            } else {
                asm!("clts", options(nomem, nostack, preserves_flags));
            }
        }
    }
}

/// Turns the extended states on and CR0.TS too. Once per CPU.
///
/// # Safety
/// 1. CR4 is set up; features were detected.
pub unsafe fn init_cpu() {
    if cpuid::has(cpuid::XSAVE) {
        let leaf = cpuid::leaf(0xd, 0);
        let features = (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & WANTED_FEATURES | 1;
        // SAFETY: 1. the processor reports each of these features.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") features as u32, in("edx") 0, options(nomem, nostack))
        };
        let bytes = cpuid::leaf(0xd, 0).ebx as usize;
        FEATURES.store(features as u32, Ordering::Relaxed);
        BYTES.store(bytes.min(AREA_BYTES) as u32, Ordering::Relaxed);
    }
    // SAFETY: 1. this CPU's own area, interrupts off.
    unsafe { (*percpu::this()).fpu.set_trapping(true) };
}

/// XCR0, or 0 without XSAVE.
pub fn features() -> u64 {
    FEATURES.load(Ordering::Relaxed).into()
}

/// Bytes of the state that signal frames carry.
pub fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed) as usize
}

#[inline]
fn save(state: &mut FpuState) {
    let area = state.area.as_mut_ptr();
    // SAFETY: 1. the area is 64-byte aligned and as large as XCR0 needs; 2. CR0.TS is clear.
    unsafe {
        match (features(), cpuid::has(cpuid::XSAVEOPT)) {
            (0, _) => asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)),
            (all, true) => {
                asm!("xsaveopt64 [{}]", in(reg) area, in("eax") all as u32, in("edx") 0, options(nostack, preserves_flags))
            }
            (all, false) => {
                asm!("xsave64 [{}]", in(reg) area, in("eax") all as u32, in("edx") 0, options(nostack, preserves_flags))
            }
        }
    }
    state.valid = true;
}

/// Loads the thread's registers, or the initial ones.
fn restore(state: &mut FpuState) {
    if !state.valid {
        fill_initial(&mut state.area);
    }
    let area = state.area.as_ptr();
    // SAFETY: 1. the area was written by `save`, `fill_initial` or checked by `import`, so that no
    // reserved bit is set; 2. CR0.TS is clear.
    unsafe {
        match features() {
            0 => asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags, readonly)),
            all => {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") all as u32, in("edx") 0, options(nostack, preserves_flags, readonly))
            }
        }
    }
}

/// The state after reset, as the ABI wants it: all exceptions masked.
fn fill_initial(area: &mut [u8; AREA_BYTES]) {
    area.fill(0);
    area[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
}

/// Makes `state` the one in the registers of this CPU.
fn load(cpu: &mut CpuFpu, number: u32, state: &mut FpuState) {
    cpu.set_trapping(false);
    if !core::ptr::eq(cpu.owner, state) || state.cpu != number {
        restore(state);
        cpu.owner = state;
        state.cpu = number;
    }
    cpu.live = true;
}

/// The current thread leaves this CPU; interrupts off.
#[inline]
pub fn switch_out(cpu: &mut PerCpu, previous: &mut FpuState) {
    if cpu.fpu.live {
        save(previous);
        cpu.fpu.live = false;
    } else {
        previous.streak = 0;
    }
}

/// A user thread comes to this CPU; interrupts off. (Kernel threads need nothing: the registers stay as
/// they are.)
#[inline]
pub fn switch_in(cpu: &mut PerCpu, next: &mut FpuState) {
    if next.streak < LOAD_AFTER && cpuid::has(cpuid::LAZY_FPU) {
        return cpu.fpu.set_trapping(true);
    }
    load(&mut cpu.fpu, cpu.cpu, next);
    next.streak = if next.streak >= PROVE_AFTER { 0 } else { next.streak + 1 };
}

/// The current thread's state, null before the first switch. Interrupts off.
fn current() -> Option<&'static mut FpuState> {
    // SAFETY: 1. `switch` stores the running task's state, which lives while it runs; 2. interrupts are
    // off, so nobody else is inside it.
    unsafe { (*percpu::this()).task_state.as_mut().map(|task: &mut TaskState| &mut task.fpu) }
}

fn this_cpu() -> &'static mut PerCpu {
    // SAFETY: 1. this CPU's own area; 2. callers hold interrupts off and keep one reference at a time.
    unsafe { &mut *percpu::this() }
}

/// The trap of the first use in a time slice; interrupts off. Fails for a thread without state.
pub fn first_use() -> Result<(), ()> {
    let state = current().ok_or(())?;
    let cpu = this_cpu();
    load(&mut cpu.fpu, cpu.cpu, state);
    state.streak = state.streak.saturating_add(1);
    Ok(())
}

/// `f` on the current thread's state in memory, up to date. What it changes takes effect.
fn with_current<R>(f: impl FnOnce(&mut FpuState) -> R) -> Option<R> {
    let flags = super::irq::disable();
    let result = current().map(|state| {
        let cpu = this_cpu();
        if cpu.fpu.live {
            save(state);
        }
        let result = f(state);
        if cpu.fpu.live && state.cpu == NO_CPU {
            load(&mut cpu.fpu, cpu.cpu, state);
        }
        result
    });
    super::irq::restore(flags);
    result
}

/// Initial registers for the current thread (exec).
pub fn reset() {
    let flags = super::irq::disable();
    if let Some(state) = current() {
        let cpu = this_cpu();
        state.forget();
        cpu.fpu.live = false;
        cpu.fpu.set_trapping(true);
    }
    super::irq::restore(flags);
}

/// Copies the current thread's registers to `target` (fork).
pub fn fork_to(target: &mut FpuState) {
    with_current(|state| target.copy_from(state));
}

/// Whether the current thread has not used the FPU: its registers are the initial ones.
pub fn is_initial() -> bool {
    let flags = super::irq::disable();
    let initial = current().is_some_and(|state| !state.valid && !this_cpu().fpu.live);
    super::irq::restore(flags);
    initial
}

/// Writes the current thread's registers to `out` in the layout of XSAVE (or FXSAVE) for a signal frame;
/// returns how many bytes mean something. A thread that never used the FPU has a short frame.
pub fn export(out: &mut [u8; AREA_BYTES]) -> usize {
    with_current(|state| {
        if !state.valid {
            fill_initial(out);
            return if features() == 0 { LEGACY_BYTES } else { LEGACY_BYTES + HEADER_BYTES };
        }
        *out = state.area;
        fill_unsaved(out);
        bytes()
    })
    .unwrap_or(0)
}

/// XSAVEOPT leaves parts in their initial state unwritten and says so in the header: writes them.
fn fill_unsaved(area: &mut [u8; AREA_BYTES]) {
    if features() == 0 {
        return;
    }
    let present = header_features(area);
    if present & 1 == 0 {
        area[0..24].fill(0);
        area[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        area[32..160].fill(0);
    }
    if present & 2 == 0 {
        area[160..416].fill(0);
    }
    if present & 4 == 0 {
        area[LEGACY_BYTES + HEADER_BYTES..].fill(0);
    }
}

fn header_features(area: &[u8; AREA_BYTES]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&area[LEGACY_BYTES..LEGACY_BYTES + 8]);
    u64::from_le_bytes(word)
}

/// Takes the current thread's registers from a signal frame: `area` holds the legacy part, and with
/// `extended` header and AVX part too. Every bit that could fault in the kernel is cleared.
pub fn import(area: &[u8; AREA_BYTES], extended: bool) {
    with_current(|state| {
        state.area = *area;
        let mut mxcsr = [0; 4];
        mxcsr.copy_from_slice(&area[24..28]);
        let mxcsr = u32::from_le_bytes(mxcsr) & 0xffff;
        state.area[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        let present = if extended { header_features(area) & features() } else { features() & 3 };
        state.area[LEGACY_BYTES..LEGACY_BYTES + HEADER_BYTES].fill(0);
        state.area[LEGACY_BYTES..LEGACY_BYTES + 8].copy_from_slice(&present.to_le_bytes());
        state.valid = true;
        state.cpu = NO_CPU;
    });
}

/// Initial registers, from a signal frame without any.
pub fn import_initial() {
    with_current(|state| {
        state.valid = false;
        state.cpu = NO_CPU;
    });
}

/// `si_code` of a floating-point exception of the current thread; interrupts off.
pub fn exception_code(vector: usize) -> i32 {
    let Some(state) = current() else { return 0 };
    let cpu = this_cpu();
    if cpu.fpu.live {
        save(state);
    }
    let word = |at: usize| u16::from_le_bytes([state.area[at], state.area[at + 1]]);
    let raised = if vector == 16 {
        word(2) & !word(0)
    } else {
        let mxcsr = word(24);
        mxcsr & !(mxcsr >> 7)
    };
    // invalid, divide by zero, overflow, underflow (or denormal), inexact: FPE_FLTINV, DIV, OVF, UND, RES
    match raised & 0x3f {
        e if e & 1 != 0 => 7,
        e if e & 4 != 0 => 3,
        e if e & 8 != 0 => 4,
        e if e & (2 | 16) != 0 => 5,
        e if e & 32 != 0 => 6,
        _ => 0,
    }
}
