//! The table of what the architecture layer calls upward.

use arch::{Access, Hooks, KernelFault, PhysAddr, VirtAddr};

pub static HOOKS: Hooks = Hooks {
    irq: irq::handle,
    timer,
    ipi_reschedule,
    ipi_call: smp_call,
    irq_enter: irq::enter,
    irq_exit,
    uaccess_fault,
    kernel_fault,
    secondary_main: crate::smp::secondary_main,
    ioremap,
};

fn timer() {
    irq::count(irq::Event::Timer);
    time::interrupt();
}

fn ipi_reschedule() {
    irq::count(irq::Event::Reschedule);
    arch::cpu::set_need_resched(true);
}

fn smp_call() {
    irq::count(irq::Event::Call);
    irq::barrier::interrupt();
}

/// The end of every interrupt. A user thread's loop looks at `need_resched` itself; kernel code is
/// preempted by the scheduler's part.
fn irq_exit(user: bool) {
    irq::exit();
    sched::irq_exit(user);
}

fn uaccess_fault(addr: usize, access: Access) -> bool {
    kcore::user::uaccess_fault(addr, access)
}

fn kernel_fault(fault: &KernelFault) -> ! {
    crate::panic::oops(fault)
}

fn ioremap(phys: PhysAddr, len: usize) -> Option<VirtAddr> {
    mem::ioremap(phys, len)
}
