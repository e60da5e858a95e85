//! Interrupts and bottom halves.
//!
//! **Problem.** A device interrupt must be answered at once, with interrupts off; the work it brings
//! should be done soon, with interrupts on.
//!
//! **Interface.** [`request`] registers a handler for a line (Linux's request_irq). [`softirq`] are the
//! fixed vectors that run right after the interrupt, [`work`] queues closures for kernel threads that
//! may sleep. [`enter`] and [`exit`] bracket every interrupt. The per-CPU counts behind /proc/interrupts,
//! /proc/softirqs and /proc/stat are kept here.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod barrier;
pub mod softirq;
pub mod work;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use sync::levels::IrqTable;
use sync::{Once, PerCpu, RwSpinLock, preempt};

/// Answers a device's interrupt: hard-interrupt context, interrupts off, must not sleep. Returns whether
/// the device wanted something (lines may be shared).
pub type Handler = Arc<dyn Fn() -> bool + Send + Sync>;

struct Action {
    name: String,
    handler: Handler,
}

/// One line: the handlers that share it and how often it came, per CPU.
#[derive(Default)]
struct Line {
    actions: Vec<Action>,
}

/// Counts of one CPU. Written by that CPU alone.
struct Counts {
    lines: Vec<AtomicU64>,
    timer: AtomicU64,
    reschedule: AtomicU64,
    call: AtomicU64,
    spurious: AtomicU64,
}

static LINES: RwSpinLock<Vec<Line>, IrqTable> = RwSpinLock::new(Vec::new());
static COUNTS: Once<PerCpu<Counts>> = Once::new();

/// What [`count`] counts besides device lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Timer,
    Reschedule,
    Call,
}

/// Makes the tables. Boot, after the heap; before interrupts are turned on.
pub fn init() {
    barrier::init();
    let lines = arch::irq::lines() as usize;
    LINES.write().resize_with(lines, Line::default);
    let counts = PerCpu::new(|_| Counts {
        lines: (0..lines).map(|_| AtomicU64::new(0)).collect(),
        timer: AtomicU64::new(0),
        reschedule: AtomicU64::new(0),
        call: AtomicU64::new(0),
        spurious: AtomicU64::new(0),
    });
    let _ = COUNTS.set(counts);
    softirq::init();
}

/// Registers `handler` for `line` and unmasks it. `false` when the machine has no such line.
pub fn request(line: u32, name: &str, handler: Handler) -> bool {
    let mut lines = LINES.write();
    let Some(entry) = lines.get_mut(line as usize) else { return false };
    entry.actions.push(Action { name: name.into(), handler });
    arch::irq::unmask(line);
    true
}

/// Removes the handlers that were registered under `name`; masks the line when none is left.
pub fn free(line: u32, name: &str) {
    let mut lines = LINES.write();
    if let Some(entry) = lines.get_mut(line as usize) {
        entry.actions.retain(|action| action.name != name);
        if entry.actions.is_empty() {
            arch::irq::mask(line);
        }
    }
}

fn bump(counter: &AtomicU64) {
    // Only this CPU writes it: no locked instruction.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Runs the handlers of a line: the architecture's device-interrupt hook.
pub fn handle(line: u32) {
    let counts = COUNTS.get_expect().this();
    let lines = LINES.read();
    let Some(entry) = lines.get(line as usize) else { return bump(&counts.spurious) };
    bump(&counts.lines[line as usize]);
    let mut wanted = false;
    for action in &entry.actions {
        wanted |= (action.handler)();
    }
    if !wanted {
        bump(&counts.spurious);
    }
}

/// Counts an interrupt that is not a device line.
pub fn count(event: Event) {
    let Some(counts) = COUNTS.get() else { return };
    let counts = counts.this();
    bump(match event {
        Event::Timer => &counts.timer,
        Event::Reschedule => &counts.reschedule,
        Event::Call => &counts.call,
    });
}

/// First thing of every interrupt.
pub fn enter() {
    arch::cpu::preempt_count_add(preempt::HARDIRQ);
}

/// Last thing of every interrupt: runs the softirqs that it raised, unless it interrupted some.
pub fn exit() {
    arch::cpu::preempt_count_sub(preempt::HARDIRQ);
    if !preempt::in_interrupt() {
        softirq::run_pending();
    }
}

/// All interrupts since boot, for the `intr` line of /proc/stat: the sum, then one count a line.
pub fn totals() -> (u64, Vec<u64>) {
    let Some(counts) = COUNTS.get() else { return (0, Vec::new()) };
    let lines = LINES.read().len();
    let mut per_line = alloc::vec![0; lines];
    let mut sum = 0;
    for (_, cpu) in counts.iter() {
        for (total, one) in per_line.iter_mut().zip(&cpu.lines) {
            *total += one.load(Ordering::Relaxed);
        }
        sum += cpu.timer.load(Ordering::Relaxed)
            + cpu.reschedule.load(Ordering::Relaxed)
            + cpu.call.load(Ordering::Relaxed);
    }
    (sum + per_line.iter().sum::<u64>(), per_line)
}

/// Writes /proc/interrupts.
pub fn show(out: &mut dyn Write) -> fmt::Result {
    let Some(counts) = COUNTS.get() else { return Ok(()) };
    write!(out, "     ")?;
    for (cpu, _) in counts.iter() {
        write!(out, "      CPU{cpu:<3}")?;
    }
    writeln!(out)?;
    for (number, line) in LINES.read().iter().enumerate().filter(|(_, line)| !line.actions.is_empty()) {
        write!(out, "{number:>4}:")?;
        for (_, cpu) in counts.iter() {
            write!(out, " {:>10}", cpu.lines[number].load(Ordering::Relaxed))?;
        }
        write!(out, "  {:<12} {number:<6}", arch::irq::chip_name(number as u32))?;
        for (at, action) in line.actions.iter().enumerate() {
            write!(out, "{}{}", if at == 0 { "     " } else { ", " }, action.name)?;
        }
        writeln!(out)?;
    }
    let rest: [(&str, &str, fn(&Counts) -> &AtomicU64); 4] = [
        ("LOC", "Local timer interrupts", |c| &c.timer),
        ("RES", "Rescheduling interrupts", |c| &c.reschedule),
        ("CAL", "Function call interrupts", |c| &c.call),
        ("ERR", "Spurious interrupts", |c| &c.spurious),
    ];
    for (tag, text, counter) in rest {
        write!(out, "{tag:>4}:")?;
        for (_, cpu) in counts.iter() {
            write!(out, " {:>10}", counter(cpu).load(Ordering::Relaxed))?;
        }
        writeln!(out, "   {text}")?;
    }
    Ok(())
}
