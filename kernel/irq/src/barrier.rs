//! A memory barrier on every CPU, for membarrier(2).
//!
//! Who asks takes a number and interrupts the others; each runs a full barrier and says up to which number it has. The
//! wait is a spin: it ends when the interrupts are taken, which nothing holds up for longer than a critical section.

use arch::{CpuMask, Ipi};
use core::sync::atomic::{AtomicU64, Ordering, fence};
use sync::{Once, PerCpu};

/// The last number that was given out; 64 bits never come round.
static ASKED: AtomicU64 = AtomicU64::new(0);
static DONE: Once<PerCpu<AtomicU64>> = Once::new();

/// Boot, after the heap.
pub(crate) fn init() {
    let _ = DONE.set(PerCpu::new(|_| AtomicU64::new(0)));
}

/// `Ipi::Call` arrived. Hard-interrupt context.
pub fn interrupt() {
    let Some(done) = DONE.get() else { return };
    let number = ASKED.load(Ordering::SeqCst);
    fence(Ordering::SeqCst);
    // Only this CPU writes it, and numbers ascend.
    done.this().store(number, Ordering::SeqCst);
}

/// Returns when each of `cpus` has run a full memory barrier after this call began; so has the caller. Interrupts on.
pub fn everywhere(cpus: CpuMask) {
    let Some(done) = DONE.get() else { return };
    fence(Ordering::SeqCst);
    let number = ASKED.fetch_add(1, Ordering::SeqCst) + 1;
    let others = {
        let _stay = sync::preempt_off();
        let others = CpuMask(cpus.0 & !CpuMask::one(arch::cpu::id()).0);
        if others.0 != 0 {
            arch::smp::send_ipi(others, Ipi::Call);
        }
        others
    };
    for cpu in others.iter() {
        while done.of(cpu).load(Ordering::SeqCst) < number {
            arch::cpu::relax();
        }
    }
    fence(Ordering::SeqCst);
}
