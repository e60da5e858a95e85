//! Softirqs: the fixed bottom halves, run with interrupts on right after the interrupt that raised them.
//!
//! A CPU runs its own pending vectors in a loop of at most [`RESTARTS`] rounds or [`BUDGET_NS`]; what is
//! left then goes to its `ksoftirqd/N` thread, so that a flood of interrupts cannot keep tasks from the
//! CPU. Numbers and names as in Linux.

use alloc::format;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sync::{Once, PerCpu, preempt};
use task::{NewTask, WaitMode, WaitQueue};

/// The vectors, most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Vector {
    Hi = 0,
    Timer = 1,
    NetTx = 2,
    NetRx = 3,
    Block = 4,
    IrqPoll = 5,
    Tasklet = 6,
    Sched = 7,
    HrTimer = 8,
    Rcu = 9,
}

pub const NAMES: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

/// How often pending vectors are looked at again before the thread takes over.
pub const RESTARTS: u32 = 10;
/// How long softirqs may run in one go.
pub const BUDGET_NS: u64 = 2_000_000;

struct Cpu {
    pending: AtomicU32,
    counts: [AtomicU64; NAMES.len()],
    thread: WaitQueue,
    thread_runs: AtomicBool,
}

static ACTIONS: [Once<fn()>; NAMES.len()] = [const { Once::new() }; NAMES.len()];
static CPUS: Once<PerCpu<Cpu>> = Once::new();

pub(crate) fn init() {
    let _ = CPUS.set(PerCpu::new(|_| Cpu {
        pending: AtomicU32::new(0),
        counts: [const { AtomicU64::new(0) }; NAMES.len()],
        thread: WaitQueue::new(&"smpboot_thread_fn"),
        thread_runs: AtomicBool::new(false),
    }));
}

/// Installs what a vector does. Once per vector.
pub fn open(vector: Vector, action: fn()) {
    let _ = ACTIONS[vector as usize].set(action);
}

/// Marks a vector pending on this CPU. It runs at the end of the current interrupt, or at once in
/// `ksoftirqd` when raised from a task.
pub fn raise(vector: Vector) {
    let _off = sync::irq_off();
    let Some(cpus) = CPUS.get() else { return };
    let cpu = cpus.this();
    cpu.pending.fetch_or(1 << vector as u32, Ordering::Relaxed);
    if !preempt::in_interrupt() {
        cpu.thread.wake_all();
    }
}

/// As [`raise`], for callers that may hold any lock: waking the thread takes some. The vector runs at the end of an
/// interrupt that this CPU sends itself.
pub fn raise_by_interrupt(vector: Vector) {
    let _off = sync::irq_off();
    let Some(cpus) = CPUS.get() else { return };
    cpus.this().pending.fetch_or(1 << vector as u32, Ordering::Relaxed);
    arch::smp::send_ipi(arch::CpuMask::one(arch::cpu::id()), arch::Ipi::Reschedule);
}

/// Runs what is pending; interrupts off on entry and on return.
pub(crate) fn run_pending() {
    let Some(cpus) = CPUS.get() else { return };
    let cpu = cpus.this();
    if cpu.pending.load(Ordering::Relaxed) == 0 || cpu.thread_runs.load(Ordering::Relaxed) {
        return;
    }
    let end_ns = arch::timer::now_ns() + BUDGET_NS;
    for _ in 0..RESTARTS {
        if !run_round(cpu) {
            return;
        }
        if arch::timer::now_ns() >= end_ns {
            break;
        }
    }
    if cpu.pending.load(Ordering::Relaxed) != 0 {
        cpu.thread.wake_all();
    }
}

/// One look at every pending vector, interrupts on meanwhile; whether there was any.
fn run_round(cpu: &Cpu) -> bool {
    let pending = cpu.pending.swap(0, Ordering::Relaxed);
    if pending == 0 {
        return false;
    }
    arch::cpu::preempt_count_add(preempt::SOFTIRQ);
    arch::irq::enable();
    for (vector, action) in ACTIONS.iter().enumerate() {
        if pending & (1 << vector) != 0 {
            let count = &cpu.counts[vector];
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            if let Some(action) = action.get() {
                action();
            }
        }
    }
    let _ = arch::irq::disable();
    arch::cpu::preempt_count_sub(preempt::SOFTIRQ);
    true
}

/// Starts `ksoftirqd/cpu` on each CPU; `pin` binds a task to its CPU before it first runs.
pub fn start_threads(pin: impl Fn(&alloc::sync::Arc<task::Task>, usize)) -> Result<(), mem::OutOfMemory> {
    for (number, _) in CPUS.get_expect().iter() {
        let thread = NewTask::kernel(format!("ksoftirqd/{number}"), move || thread_main(number)).create()?;
        pin(&thread, number);
        thread.wake();
    }
    Ok(())
}

fn thread_main(number: usize) {
    let cpu = CPUS.get_expect().of(number);
    loop {
        let pending = || (cpu.pending.load(Ordering::Relaxed) != 0).then_some(());
        let _ = cpu.thread.wait_until(WaitMode::Idle, None, pending);
        let _off = sync::irq_off();
        cpu.thread_runs.store(true, Ordering::Relaxed);
        run_round(cpu);
        cpu.thread_runs.store(false, Ordering::Relaxed);
    }
}

/// Writes /proc/softirqs.
pub fn show(out: &mut dyn Write) -> fmt::Result {
    let Some(cpus) = CPUS.get() else { return Ok(()) };
    write!(out, "                    ")?;
    for (cpu, _) in cpus.iter() {
        write!(out, "CPU{cpu:<8}")?;
    }
    writeln!(out)?;
    for (vector, name) in NAMES.iter().enumerate() {
        write!(out, "{name:>12}:")?;
        for (_, cpu) in cpus.iter() {
            write!(out, " {:>10}", cpu.counts[vector].load(Ordering::Relaxed))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Softirqs run since boot, all vectors: the sum and one count a vector, for /proc/stat.
pub fn totals() -> (u64, [u64; NAMES.len()]) {
    let mut each = [0; NAMES.len()];
    if let Some(cpus) = CPUS.get() {
        for (_, cpu) in cpus.iter() {
            for (total, one) in each.iter_mut().zip(&cpu.counts) {
                *total += one.load(Ordering::Relaxed);
            }
        }
    }
    (each.iter().sum(), each)
}
