//! Time: the TSC as clock, the local APIC's timer as clock event.
//!
//! **How fast does the TSC run?** The processor or hypervisor says (CPUID leaves 0x15, 0x40000010, 0x16), or
//! it is measured: against the local APIC's timer where that is known to count nanoseconds (KVM and QEMU's
//! emulation), against the ACPI timer, or against the PIT. Measuring starts when the kernel is entered and
//! ends in [`refine`], when the kernel's own start has used up most of the time that a good measurement
//! takes; until then a first, short one serves.

use super::{apic, cpuid, percpu, platform, reg};
use crate::paging::VdsoClock;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const NS_PER_S: u64 = 1_000_000_000;
const SHIFT: u32 = 32;
/// The first measurement, and the least time that the final one takes.
const SHORT_NS: u64 = 500_000;
const LONG_NS: u64 = 10_000_000;

/// Counter to ns. Changed by CPU 0 before the others start, and never again.
struct Clock(UnsafeCell<VdsoClock>);

// SAFETY: 1. written only while one CPU runs, with interrupts off.
unsafe impl Sync for Clock {}

static CLOCK: Clock = Clock(UnsafeCell::new(VdsoClock { base: 0, base_ns: 0, mult: 1 << 30, shift: SHIFT }));
static FREQUENCY_HZ: AtomicU64 = AtomicU64::new(0);
/// APIC timer counts in 2^32 ns.
static APIC_RATE: AtomicU64 = AtomicU64::new(1 << SHIFT);
static DEADLINE_MODE: AtomicBool = AtomicBool::new(false);
static START: Start = Start(UnsafeCell::new(None));

/// The beginning of the measurement.
struct Start(UnsafeCell<Option<(Reference, Sample)>>);

// SAFETY: 1. only CPU 0 uses it, before the others start.
unsafe impl Sync for Start {}

#[inline]
fn clock() -> &'static VdsoClock {
    // SAFETY: 1. see `Clock`.
    unsafe { &*CLOCK.0.get() }
}

#[inline]
fn scale(value: u64, mult: u64) -> u64 {
    (u128::from(value) * u128::from(mult) >> SHIFT) as u64
}

/// Monotonic time since boot. Any context.
#[inline]
pub fn now_ns() -> u64 {
    let clock = clock();
    clock.base_ns + scale(reg::rdtsc().wrapping_sub(clock.base), clock.mult)
}

/// How user space gets [`now_ns`] from the TSC. The product is 128 bits wide.
pub fn vdso_clock() -> VdsoClock {
    *clock()
}

/// The TSC's rate.
pub fn frequency_hz() -> u64 {
    FREQUENCY_HZ.load(Ordering::Relaxed)
}

/// Sets the rate without a jump in time.
fn set_frequency(hz: u64) {
    let base = reg::rdtsc();
    let base_ns = if frequency_hz() == 0 { 0 } else { now_ns() };
    let mult = ((u128::from(NS_PER_S) << SHIFT) / u128::from(hz.max(1))) as u64;
    FREQUENCY_HZ.store(hz, Ordering::Relaxed);
    // SAFETY: 1. one CPU runs, with interrupts off.
    unsafe { *CLOCK.0.get() = VdsoClock { base, base_ns, mult, shift: SHIFT } };
}

/// A clock of known rate to measure with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    /// Counts nanoseconds, downward.
    Apic,
    /// 3.579545 MHz, 24 bits, at this port.
    PmTimer(u16),
    /// 1.193182 MHz, 16 bits, downward.
    Pit,
}

/// The TSC, the reference and the APIC timer at one time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    tsc: u64,
    reference: u32,
    apic: u32,
}

impl Reference {
    fn read(self) -> u32 {
        // SAFETY: 1. the ports belong to the timers.
        unsafe {
            match self {
                Reference::Apic => u32::MAX - apic::timer_current(),
                Reference::PmTimer(port) => reg::inl(port) & 0xff_ffff,
                Reference::Pit => {
                    reg::outb(0x43, 0x80);
                    let low = reg::inb(0x42);
                    0xffff - (u32::from(reg::inb(0x42)) << 8 | u32::from(low))
                }
            }
        }
    }

    /// Nanoseconds between two readings; the counter went round at most once.
    fn ns_between(self, from: u32, to: u32) -> u64 {
        let (mask, hz) = match self {
            Reference::Apic => (u32::MAX, NS_PER_S),
            Reference::PmTimer(_) => (0xff_ffff, 3_579_545),
            Reference::Pit => (0xffff, 1_193_182),
        };
        u64::from(to.wrapping_sub(from) & mask) * NS_PER_S / hz
    }

    /// How long the counter takes to go round, less some.
    fn range_ns(self) -> u64 {
        match self {
            Reference::Apic | Reference::PmTimer(_) => 4_000_000_000,
            Reference::Pit => 50_000_000,
        }
    }

    /// The best of a few tries: the one that took least time. An emulator may be interrupted at any place.
    fn sample(self) -> Sample {
        let once = |_| {
            let before = reg::rdtsc();
            let reference = self.read();
            let after = reg::rdtsc();
            let sample =
                Sample { tsc: before + (after - before) / 2, reference, apic: apic::timer_current() };
            (after - before, sample)
        };
        let tries: [(u64, Sample); 5] = core::array::from_fn(once);
        tries.into_iter().min_by_key(|(took, _)| *took).map_or(tries[0].1, |(_, sample)| sample)
    }

    /// Waits until `ns` have passed since `from`.
    fn wait(self, from: &Sample, ns: u64) {
        while self.ns_between(from.reference, self.read()) < ns {
            super::cpu::relax();
        }
    }
}

/// Finds the TSC's rate, roughly if it must be measured. CPU 0, before `ochre_main`, tables read.
pub(super) fn early_init() {
    apic::init_cpu();
    apic::timer_free_run();
    let reference = choose();
    let start = reference.sample();
    // SAFETY: 1. only CPU 0 runs.
    unsafe { *START.0.get() = Some((reference, start)) };
    match said_hz() {
        Some(hz) => set_frequency(hz),
        None => {
            reference.wait(&start, SHORT_NS);
            measure(reference, &start);
        }
    }
}

fn choose() -> Reference {
    match platform::pm_timer_port() {
        _ if cpuid::has(cpuid::GHZ_APIC) => Reference::Apic,
        Some(port) => Reference::PmTimer(port),
        None => {
            start_pit();
            Reference::Pit
        }
    }
}

/// Channel 2 counts down from 65536 again and again, the speaker off.
fn start_pit() {
    // SAFETY: 1. the ports of the interval timer and of its gate, or of nothing.
    unsafe {
        reg::outb(0x61, reg::inb(0x61) & !2 | 1);
        reg::outb(0x43, 0xb4);
        reg::outb(0x42, 0xff);
        reg::outb(0x42, 0xff);
    }
}

/// The rate that processor or hypervisor state.
fn said_hz() -> Option<u64> {
    let ratio = cpuid::leaf(0x15, 0);
    if ratio.eax != 0 && ratio.ebx != 0 && ratio.ecx != 0 {
        return Some(u64::from(ratio.ecx) * u64::from(ratio.ebx) / u64::from(ratio.eax));
    }
    if cpuid::has(cpuid::HYPERVISOR) {
        let khz = cpuid::leaf(0x4000_0010, 0).eax;
        return (khz != 0).then_some(u64::from(khz) * 1000);
    }
    None
}

/// Sets the rates of TSC and APIC timer by what passed since `start`.
fn measure(reference: Reference, start: &Sample) {
    let end = reference.sample();
    let ns = reference.ns_between(start.reference, end.reference);
    if ns == 0 {
        // The reference stands still: 1 GHz is as good as anything.
        return set_frequency(NS_PER_S);
    }
    let per_second = |counts: u64| (u128::from(counts) * u128::from(NS_PER_S) / u128::from(ns)) as u64;
    if said_hz().is_none() {
        set_frequency(per_second(end.tsc - start.tsc));
    }
    let apic_hz = per_second(u64::from(start.apic.wrapping_sub(end.apic)));
    if reference != Reference::Apic {
        APIC_RATE.store(((u128::from(apic_hz) << SHIFT) / u128::from(NS_PER_S)) as u64, Ordering::Relaxed);
    }
}

/// Ends the measurement that [`early_init`] began. CPU 0, interrupts off, before the others start.
pub(super) fn refine() {
    // SAFETY: 1. only CPU 0 runs.
    let Some((reference, start)) = (unsafe { (*START.0.get()).take() }) else { return };
    if now_ns() > reference.range_ns() {
        return;
    }
    if said_hz().is_none() || reference != Reference::Apic {
        reference.wait(&start, LONG_NS);
        measure(reference, &start);
    }
    DEADLINE_MODE.store(cpuid::has(cpuid::TSC_DEADLINE), Ordering::Relaxed);
}

/// Readies this CPU's clock event, not armed.
pub fn init_local() {
    apic::timer_count(0);
    apic::timer_init(DEADLINE_MODE.load(Ordering::Relaxed));
    disarm();
}

/// Asks for `hooks().timer` at `deadline_ns` (or at once, if that is past) on this CPU; replaces what was
/// asked for before. Interrupts off, or the caller stays on this CPU by other means.
pub fn set_deadline_ns(deadline_ns: u64) {
    // SAFETY: 1. this CPU's own area; the caller stays on it.
    unsafe { (*percpu::this()).deadline_ns = deadline_ns };
    arm(deadline_ns);
}

fn arm(deadline_ns: u64) {
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        return arm_tsc(deadline_ns);
    }
    let counts = scale(deadline_ns.saturating_sub(now_ns()), APIC_RATE.load(Ordering::Relaxed)).max(1);
    // Far away: a coarser clock; and what even that cannot reach is armed again on the way.
    let far = counts > u32::MAX.into();
    // SAFETY: 1. this CPU's own area; the caller stays on it.
    let was_far = unsafe { core::mem::replace(&mut (*percpu::this()).timer_far, far) };
    if far != was_far {
        apic::timer_divide(far);
    }
    let counts = if far { (counts >> 7) + 1 } else { counts };
    apic::timer_count(u32::try_from(counts).unwrap_or(u32::MAX));
}

fn arm_tsc(deadline_ns: u64) {
    let clock = clock();
    let after_ns = u128::from(deadline_ns.saturating_sub(clock.base_ns));
    let counts = ((after_ns << SHIFT) / u128::from(clock.mult)).min(1 << 62) as u64;
    // SAFETY: 1. the processor has the register.
    unsafe { reg::wrmsr(reg::MSR_TSC_DEADLINE, clock.base.wrapping_add(counts).max(1)) };
}

/// Takes back what [`set_deadline_ns`] asked for.
pub fn disarm() {
    // SAFETY: 1. this CPU's own area; 2. the processor has the register if the mode is on.
    unsafe {
        (*percpu::this()).deadline_ns = u64::MAX;
        match DEADLINE_MODE.load(Ordering::Relaxed) {
            true => reg::wrmsr(reg::MSR_TSC_DEADLINE, 0),
            false => apic::timer_count(0),
        }
    }
}

/// The timer interrupted: whether the deadline has come. If not, it is armed again.
pub(super) fn expired() -> bool {
    // SAFETY: 1. this CPU's own area, interrupts off.
    let cpu = unsafe { &mut *percpu::this() };
    if cpu.deadline_ns == u64::MAX {
        return false;
    }
    if now_ns() < cpu.deadline_ns {
        arm(cpu.deadline_ns);
        return false;
    }
    cpu.deadline_ns = u64::MAX;
    true
}
