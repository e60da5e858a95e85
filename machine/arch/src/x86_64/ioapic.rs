//! The I/O APICs: where the lines of devices become vectors.
//!
//! A line is a global system interrupt number; its vector is a constant away ([`super::traps`]). All
//! lines go to CPU 0.

use super::percpu;
use super::traps::{FIRST_LINE, LINES_MAX};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

const SELECT: usize = 0;
const WINDOW: usize = 0x10;
const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

const CHIPS_MAX: usize = 4;

/// One chip: registers (0: none), first line, number of lines.
struct Chip {
    base: AtomicUsize,
    first: AtomicU32,
    lines: AtomicU32,
}

static CHIPS: [Chip; CHIPS_MAX] =
    [const { Chip { base: AtomicUsize::new(0), first: AtomicU32::new(0), lines: AtomicU32::new(0) } };
        CHIPS_MAX];

/// Lines that are level-triggered, active low; one bit each.
static LEVEL_LINES: [AtomicU64; LINES_MAX / 64] = [const { AtomicU64::new(0) }; LINES_MAX / 64];
static LOW_LINES: [AtomicU64; LINES_MAX / 64] = [const { AtomicU64::new(0) }; LINES_MAX / 64];
/// The line of each ISA interrupt.
static ISA: [AtomicU32; 16] = [const { AtomicU32::new(u32::MAX) }; 16];

/// Selecting a register and reading it are two accesses: one CPU at a time, interrupts off.
static LOCK: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

fn locked<R>(f: impl FnOnce() -> R) -> R {
    let flags = super::irq::disable();
    while LOCK.swap(true, Ordering::Acquire) {
        super::cpu::relax();
    }
    let result = f();
    LOCK.store(false, Ordering::Release);
    super::irq::restore(flags);
    result
}

fn access(base: usize, register: u32) -> *mut u32 {
    // SAFETY: 1. `base` is a mapped I/O APIC; 2. the lock is held.
    unsafe { ((base + SELECT) as *mut u32).write_volatile(register) };
    (base + WINDOW) as *mut u32
}

fn read(base: usize, register: u32) -> u32 {
    // SAFETY: as in `access`.
    unsafe { access(base, register).read_volatile() }
}

fn write(base: usize, register: u32, value: u32) {
    // SAFETY: as in `access`.
    unsafe { access(base, register).write_volatile(value) }
}

/// Takes a chip into use, all lines masked. `base` is the virtual address of its registers.
pub fn add(base: usize, first: u32) {
    let Some(chip) = CHIPS.iter().find(|c| c.base.load(Ordering::Relaxed) == 0) else { return };
    locked(|| {
        let lines = (read(base, VERSION) >> 16 & 0xff) + 1;
        for pin in 0..lines {
            write(base, REDIRECTION + pin * 2, MASKED);
        }
        chip.first.store(first, Ordering::Relaxed);
        chip.lines.store(lines, Ordering::Relaxed);
        chip.base.store(base, Ordering::Relaxed);
    });
}

fn set_bit(bits: &[AtomicU64], line: u32, on: bool) {
    if let Some(word) = bits.get(line as usize / 64) {
        match on {
            true => word.fetch_or(1 << (line % 64), Ordering::Relaxed),
            false => word.fetch_and(!(1 << (line % 64)), Ordering::Relaxed),
        };
    }
}

fn bit(bits: &[AtomicU64], line: u32) -> bool {
    bits.get(line as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (line % 64) != 0)
}

/// How a line signals. Before it is unmasked.
pub fn configure(line: u32, level: bool, active_low: bool) {
    set_bit(&LEVEL_LINES, line, level);
    set_bit(&LOW_LINES, line, active_low);
}

/// An ISA interrupt comes in on another line than that of its number.
pub fn set_isa(irq: usize, line: u32) {
    if let Some(slot) = ISA.get(irq) {
        slot.store(line, Ordering::Relaxed);
    }
}

/// The line of an ISA interrupt.
pub fn isa_line(irq: u32) -> u32 {
    match ISA.get(irq as usize).map(|slot| slot.load(Ordering::Relaxed)) {
        Some(line) if line != u32::MAX => line,
        _ => irq,
    }
}

pub fn is_level(line: u32) -> bool {
    bit(&LEVEL_LINES, line)
}

pub fn set_masked(line: u32, masked: bool) {
    if line as usize >= LINES_MAX {
        return;
    }
    let of_chip = |chip: &&Chip| {
        let first = chip.first.load(Ordering::Relaxed);
        chip.base.load(Ordering::Relaxed) != 0
            && (first..first + chip.lines.load(Ordering::Relaxed)).contains(&line)
    };
    let Some(chip) = CHIPS.iter().find(of_chip) else { return };
    let base = chip.base.load(Ordering::Relaxed);
    let register = REDIRECTION + (line - chip.first.load(Ordering::Relaxed)) * 2;
    let flag = |on: bool, bit: u32| if on { bit } else { 0 };
    let low = (FIRST_LINE as u32 + line)
        | flag(is_level(line), LEVEL)
        | flag(bit(&LOW_LINES, line), ACTIVE_LOW)
        | flag(masked, MASKED);
    locked(|| {
        write(base, register + 1, percpu::apic_id(0) << 24);
        write(base, register, low);
    });
}

/// One more than the highest line.
pub fn lines() -> u32 {
    let end = |chip: &Chip| chip.first.load(Ordering::Relaxed) + chip.lines.load(Ordering::Relaxed);
    CHIPS.iter().map(end).max().unwrap_or(0).min(LINES_MAX as u32)
}
