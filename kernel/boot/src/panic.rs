//! Panics and oopses: what the kernel says when it finds itself broken.
//!
//! The report is Linux's in form, so that people and tools recognise it: the reason, registers, a call
//! trace. The addresses of the trace are given names by the symbol table where one is linked in.
//!
//! What goes wrong while a system call is served costs the thread that made it (an *oops*): it ends as if by SIGSEGV,
//! and the machine goes on. What it held stays held, as on Linux. Everything else is a *panic*: interrupt handlers,
//! code that holds a spin lock (others would wait for it for ever), kernel threads, a full kernel stack; and an oops
//! too, with `oops=panic` or `kernel.panic_on_oops`. A panic stops every CPU and then halts, reboots (`panic=N`) or
//! powers off.

use abi::Errno;
use arch::{CpuMask, Ipi, KernelFault};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use kcore::Thread;
use kernfs::PROC;
use kernfs::TextBuf;
use klog::pr_err;

static PANICKED: AtomicBool = AtomicBool::new(false);
/// `panic=`: 0 halts, N reboots after N seconds, negative reboots at once.
static TIMEOUT_S: AtomicI64 = AtomicI64::new(0);
static PANIC_ON_OOPS: AtomicBool = AtomicBool::new(false);
static OOPSES: AtomicU32 = AtomicU32::new(0);

pub fn set_timeout_s(seconds: i64) {
    TIMEOUT_S.store(seconds, Ordering::Relaxed);
}

pub fn timeout_s() -> i64 {
    TIMEOUT_S.load(Ordering::Relaxed)
}

/// `oops=panic`.
pub fn set_panic_on_oops(on: bool) {
    PANIC_ON_OOPS.store(on, Ordering::Relaxed);
}

/// Registers `/proc/sys/kernel/panic_on_oops`.
pub fn register_files() {
    let show = |out: &mut TextBuf| writeln!(out, "{}", u8::from(PANIC_ON_OOPS.load(Ordering::Relaxed)));
    let store = |text: &str| {
        set_panic_on_oops(text.parse::<i32>().map_err(|_| Errno::EINVAL)? != 0);
        Ok(())
    };
    PROC.add("sys/kernel/panic_on_oops", kernfs::knob(0o644, show, store));
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _ = arch::irq::disable();
    let (fp, pc) = arch::backtrace::here();
    let fatal = !is_survivable(fp);
    begin(fatal);
    let head = if fatal { "Kernel panic - not syncing" } else { "kernel BUG" };
    match info.location() {
        Some(place) => pr_err!("{head}: {} ({}:{})", info.message(), place.file(), place.line()),
        None => pr_err!("{head}: {}", info.message()),
    }
    report_task();
    trace(fp, pc);
    finish(fatal)
}

/// A fault in kernel mode.
pub fn oops(fault: &KernelFault) -> ! {
    let (here, _) = arch::backtrace::here();
    let fatal = !is_survivable(here);
    begin(fatal);
    let head = if fatal { "Kernel panic - not syncing" } else { "BUG" };
    pr_err!("{head}: {} at {:#x}, address {:#x}, code {:#x}", fault.what, fault.pc, fault.addr, fault.code);
    report_task();
    registers(fault);
    trace(fault.fp, fault.pc);
    finish(fatal)
}

fn registers(fault: &KernelFault) {
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
}

/// Whether only the running thread has to go. `sp`: on the stack in use.
fn is_survivable(sp: usize) -> bool {
    let alone = || Thread::with_current(|thread| thread.process().is_init()) == Some(false);
    !PANIC_ON_OOPS.load(Ordering::Relaxed)
        && !PANICKED.load(Ordering::SeqCst)
        && task::can_be_abandoned(sp)
        && alone()
}

/// Of panics only the first CPU reports; a second one that panics meanwhile stops.
fn begin(fatal: bool) {
    let _ = arch::irq::disable();
    if !fatal {
        return;
    }
    if PANICKED.swap(true, Ordering::SeqCst) {
        arch::power::halt();
    }
    klog::enter_panic();
    let others = CpuMask::first(arch::cpu::count()).without(arch::cpu::id());
    arch::smp::send_ipi(others, Ipi::Stop);
}

/// Who runs here. No lock is taken.
fn report_task() {
    let cpu = arch::cpu::id();
    match Thread::with_current(|thread| (thread.process().pid(), thread.tid(), thread.call())) {
        Some((pid, tid, call)) => pr_err!("CPU: {cpu} PID: {pid} TID: {tid} system call: {call:?}"),
        None => pr_err!("CPU: {cpu} in a kernel thread"),
    }
}

fn trace(fp: usize, pc: usize) {
    pr_err!("CPU: {} Call Trace:", arch::cpu::id());
    let mut left = 32;
    arch::backtrace::walk(fp, pc, &mut |pc| {
        pr_err!(" [<{pc:016x}>] {}", arch::symbols::Place(pc));
        left -= 1;
        left > 0
    });
}

fn finish(fatal: bool) -> ! {
    if fatal {
        stop();
    }
    let count = OOPSES.fetch_add(1, Ordering::Relaxed) + 1;
    pr_err!("---[ end trace {count:016x} ]---");
    task::abandon(|locks| {
        Thread::with_current(|thread| {
            pr_err!("note: {}[{}] exited with {locks} locks held", thread.comm(), thread.tid());
        });
    })
}

fn stop() -> ! {
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
