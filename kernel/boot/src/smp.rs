//! Starting the other CPUs.

use alloc::format;
use cmdline::CommandLine;
use core::sync::atomic::{AtomicUsize, Ordering};
use klog::{pr_err, pr_info};

/// CPUs that run tasks.
static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// Starts every CPU that firmware described, up to `maxcpus=`. A CPU that does not come is left out.
pub fn start_others(line: &CommandLine) {
    let wanted = line.number("maxcpus").map_or(usize::MAX, |n| n as usize).clamp(1, arch::cpu::count());
    let mut started = 1;
    for cpu in 1..wanted {
        let Ok(stack) = mem::KernelStack::alloc() else {
            pr_err!("smp: no memory for the stack of CPU {cpu}");
            break;
        };
        if arch::smp::start(cpu, stack.top()).is_err() {
            pr_err!("smp: CPU {cpu} did not start");
            continue;
        }
        // The stack is that CPU's idle stack from here on.
        core::mem::forget(stack);
        started += 1;
    }
    while ONLINE.load(Ordering::Acquire) < started {
        arch::cpu::relax();
    }
    pr_info!("smp: {} CPUs online", ONLINE.load(Ordering::Relaxed));
}

/// Where a started CPU arrives, interrupts off, on its own stack.
pub fn secondary_main(cpu: usize) -> ! {
    mem::init_cpu();
    let idle = task::adopt_boot_context(&format!("swapper/{cpu}"));
    sched::init_cpu(idle);
    arch::timer::init_local();
    ONLINE.fetch_add(1, Ordering::Release);
    arch::irq::enable();
    sched::idle_loop()
}
