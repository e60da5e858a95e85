//! Panics and oopses: what the kernel says when it finds itself broken.
//!
//! The report is Linux's in form, so that people and tools recognise it: the reason, registers, a call
//! trace. A panic stops every CPU and then halts, reboots (`panic=N`) or powers off. The addresses of the
//! trace are given names by the symbol table where one is linked in.

use arch::{CpuMask, Ipi, KernelFault};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use klog::pr_err;

static PANICKED: AtomicBool = AtomicBool::new(false);
/// `panic=`: 0 halts, N reboots after N seconds, negative reboots at once.
static TIMEOUT_S: AtomicI64 = AtomicI64::new(0);

pub fn set_timeout_s(seconds: i64) {
    TIMEOUT_S.store(seconds, Ordering::Relaxed);
}

pub fn timeout_s() -> i64 {
    TIMEOUT_S.load(Ordering::Relaxed)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    begin();
    match info.location() {
        Some(place) => {
            pr_err!("Kernel panic - not syncing: {} ({}:{})", info.message(), place.file(), place.line())
        }
        None => pr_err!("Kernel panic - not syncing: {}", info.message()),
    }
    let (fp, pc) = arch::backtrace::here();
    trace(fp, pc);
    finish()
}

/// A fault in kernel mode.
pub fn oops(fault: &KernelFault) -> ! {
    begin();
    pr_err!(
        "Kernel panic - not syncing: {} at {:#x}, address {:#x}, code {:#x}",
        fault.what,
        fault.pc,
        fault.addr,
        fault.code
    );
    for row in fault.regs.chunks(4) {
        let cell = |i: usize| row.get(i).copied().unwrap_or(("", 0));
        let [a, b, c, d] = [cell(0), cell(1), cell(2), cell(3)];
        pr_err!(
            " {:>5} {:016x} {:>5} {:016x} {:>5} {:016x} {:>5} {:016x}",
            a.0,
            a.1,
            b.0,
            b.1,
            c.0,
            c.1,
            d.0,
            d.1
        );
    }
    trace(fault.fp, fault.pc);
    finish()
}

/// Only the first CPU reports; a second one that panics meanwhile stops.
fn begin() {
    let _ = arch::irq::disable();
    if PANICKED.swap(true, Ordering::SeqCst) {
        arch::power::halt();
    }
    klog::enter_panic();
    let others = CpuMask::first(arch::cpu::count()).without(arch::cpu::id());
    arch::smp::send_ipi(others, Ipi::Stop);
}

fn trace(fp: usize, pc: usize) {
    pr_err!("CPU: {} Call Trace:", arch::cpu::id());
    let mut left = 32;
    arch::backtrace::walk(fp, pc, &mut |pc| {
        pr_err!(" [<{pc:016x}>]");
        left -= 1;
        left > 0
    });
}

fn finish() -> ! {
    pr_err!("---[ end Kernel panic ]---");
    match TIMEOUT_S.load(Ordering::Relaxed) {
        0 => arch::power::halt(),
        seconds => {
            let end_ns = arch::timer::now_ns() + u64::try_from(seconds).unwrap_or(0) * 1_000_000_000;
            while arch::timer::now_ns() < end_ns {
                arch::cpu::relax();
            }
            arch::power::reboot()
        }
    }
}
